"""Connections to brokers (role route-container): the router attaches a link for each auto-link that is wanted there.

What is attached, refused and tried again is said here; which auto-links there are is the core's business
(`van.routing.auto_link`). The peer may attach links of its own as any application does.
"""

from __future__ import annotations

from math import inf
from typing import Final

from van.adaptors.amqp import ROUTE_CONTAINER, AmqpAdaptor
from van.adaptors.streams import link_name
from van.amqp.errors import AmqpError, AmqpLinkError, AmqpSessionError
from van.amqp.events import ConnectionOpened, LinkDetached, SessionEnded
from van.amqp.link import Link
from van.amqp.performatives import Attach, Error
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session
from van.amqp.terminus import Source, Target
from van.routing.auto_link import AutoLinkEnd, RouteContainer
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import OutgoingLink
from van.routing.router import LinkOwner

# Each auto-link has a session of its own, up to so many; those beyond share these. Some brokers (RabbitMQ 3) end the
# whole session where another one would refuse a link: then the other auto-links are not disturbed.
MAX_SESSIONS: Final = 256
# How long the deliveries of an auto-link that is taken away may take to be settled, and how often it is looked whether
# they are, in seconds. Receivers that need longer get theirs again.
SETTLE_SECONDS: Final = 5.0
SETTLE_INTERVAL: Final = 0.1


class RouteContainerAdaptor(AmqpAdaptor):
    """A connection to a broker. Constructed as an `AmqpAdaptor`; `broker` is what the core knows of it."""

    role = ROUTE_CONTAINER

    def _prepare(self) -> None:
        self.broker = BrokerLinks(self)
        self._why = ""

    def _open(self, event: ConnectionOpened) -> None:
        super()._open(event)
        if not self.connection.close_sent:
            self.broker.opened(event.open.container_id)

    def next_deadline(self) -> float:
        return min(super().next_deadline(), self.broker.next_retry)

    def handle_deadline(self, now: float) -> None:
        super().handle_deadline(now)
        if now >= self.broker.next_retry:
            self.broker.retry(now)

    def forget(self, link: Link) -> None:
        """Detach a link of ours that is not wanted any more; its owner is told."""
        self._forget(link)
        link.detach()

    # -- what the broker says of our links -------------------------------------------------------------------------

    def _answered(self, link: Link) -> None:
        # A refusal is followed by its reason.
        if not link.refused:
            self.broker.answered(link)

    def _detach(self, event: LinkDetached) -> None:
        super()._detach(event)
        error = event.error if event.error is not None else event.link.failure
        self.broker.over(event.link, _text(error) or "detached by the broker")

    def _end_session(self, event: SessionEnded) -> None:
        self._why = ": ".join(filter(None, (event.condition, event.description)))
        super()._end_session(event)
        self._why = ""

    def _release_session(self, session: Session) -> None:
        super()._release_session(session)
        self.broker.session_over(session, self._why or "its session ended")

    def _release_links(self) -> None:
        # First of all: what is detached with the connection is not attached again.
        self.broker.lost()
        super()._release_links()

    def give_back(self) -> None:
        self.broker.lost()
        super().give_back()

    def _forget(self, link: Link) -> None:
        came, went = self.deliveries_in, self.deliveries_out
        super()._forget(link)
        past = self.router.past
        past.from_brokers += self.deliveries_in - came
        past.to_brokers += self.deliveries_out - went


class BrokerLinks(RouteContainer):
    """The auto-links of one connection, and the sessions that they are in."""

    __slots__ = ("_adaptor", "_ends", "_failed", "_leaving", "_sessions", "next_retry")

    def __init__(self, adaptor: RouteContainerAdaptor) -> None:
        super().__init__(adaptor.number)
        self._adaptor = adaptor
        self._ends: dict[Link, AutoLinkEnd] = {}
        self._failed: dict[AutoLinkEnd, None] = {}
        # Links that are not wanted any more, and until when they may settle what they have under way.
        self._leaving: dict[Link, float] = {}
        # How many links each session has. One that has none is taken for the next.
        self._sessions: dict[Session, int] = {}
        # When the first of those that failed is tried again, or looked at before it goes; inf for never.
        self.next_retry = inf

    # -- the connection --------------------------------------------------------------------------------------------

    def opened(self, container_id: str) -> None:
        """The connection is open: the core says what to attach."""
        self.container_id = container_id
        self._adaptor.router.auto_links.opened(self)

    def lost(self) -> None:
        """The connection is over, or is about to be."""
        self._adaptor.router.auto_links.lost(self)
        self._ends.clear()
        self._failed.clear()
        self._leaving.clear()
        self.next_retry = inf

    def retry(self, now: float) -> None:
        """Attach again what has waited for long enough, and detach what has settled, or cannot in time."""
        for end in [end for end in self._failed if now >= end.retry_at]:
            del self._failed[end]
            self.attach(end)
        for link in [link for link, until in self._leaving.items() if now >= until or self._is_settled(link)]:
            self._let_go(link)
        self._look()

    def _look(self) -> None:
        self.next_retry = min((end.retry_at for end in self._failed), default=inf)
        if self._leaving:
            self.next_retry = min(self.next_retry, self._adaptor.router.now + SETTLE_INTERVAL)

    # -- what the core wants -----------------------------------------------------------------------------------------

    def attach(self, end: AutoLinkEnd) -> None:
        adaptor = self._adaptor
        auto_link = end.auto_link
        try:
            self._check(end)
            link = self._new_link(auto_link.incoming)
            link.attach(_own_attach(auto_link.incoming, auto_link.at_broker, adaptor.settings.max_message_size))
        except AmqpError as error:
            self._fail(end, _text(error))
            return
        self._ends[link] = end
        self._sessions[link.session] += 1
        end.attaching(link)
        adaptor.log("debug", "auto-link attaching", auto_link=auto_link.name, address=auto_link.at_broker)

    def detach(self, end: AutoLinkEnd) -> None:
        link = end.link
        if link is None:
            self._failed.pop(end, None)
            self._look()
            return
        self._leaving[link] = self._adaptor.router.now + SETTLE_SECONDS
        owner = self._adaptor.links.get(link)
        if isinstance(owner, (IncomingLink, OutgoingLink)):
            self._adaptor.router.withdraw(owner)
        if self._is_settled(link):
            self._let_go(link)
        self._look()

    def _is_settled(self, link: Link) -> bool:
        owner = self._adaptor.links.get(link)
        if isinstance(owner, OutgoingLink):
            return owner.outstanding == 0
        if isinstance(owner, IncomingLink):
            unsettled = link.session.unsettled_in.values()
            return link.link_credit == 0 and not any(delivery.receiver is link for delivery in unsettled)
        return True

    def _let_go(self, link: Link) -> None:
        self._leaving.pop(link, None)
        self._forget(link)
        self._adaptor.forget(link)

    def _check(self, end: AutoLinkEnd) -> None:
        """Whether the address can be had here, before the broker is asked. Raises `AmqpLinkError`."""
        auto_link = end.auto_link
        router = self._adaptor.router
        if auto_link.address:
            find = router.usable if auto_link.incoming else router.received
            router.release(find(auto_link.address))

    # -- what the broker says ----------------------------------------------------------------------------------------

    def answered(self, link: Link) -> None:
        """The broker has attached a link: deliveries may pass."""
        end = self._ends.get(link)
        if end is None:
            return
        adaptor = self._adaptor
        settings = adaptor.settings
        router = adaptor.router
        auto_link = end.auto_link
        owner: LinkOwner
        try:
            if isinstance(link, ReceiverLink):
                owner = router.attach_incoming(
                    link, auto_link.address, settings.link_capacity, settings.link_capacity_limit, broker=True
                )
            else:
                assert isinstance(link, SenderLink)
                owner = router.attach_outgoing(link, auto_link.address, settings.link_capacity, broker=True)
        except AmqpLinkError as error:
            # The address was there when the broker was asked.
            self._forget(link)
            link.detach(error)
            self._fail(end, _text(error))
            return
        adaptor.links[link] = owner
        end.active()
        adaptor.log(
            "info",
            "auto-link active",
            auto_link=auto_link.name,
            direction="in" if auto_link.incoming else "out",
            address=auto_link.address,
            at_broker=auto_link.at_broker,
        )
        router.started(owner)

    def over(self, link: Link, error: str) -> None:
        """A link is no more, and was not given up by us."""
        end = self._forget(link)
        if link in self._leaving:
            del self._leaving[link]
        elif end is not None:
            self._fail(end, error)

    def session_over(self, session: Session, error: str) -> None:
        """A session is no more."""
        self._sessions.pop(session, None)
        for link in [link for link in self._ends if link.session is session]:
            self.over(link, error)

    def _fail(self, end: AutoLinkEnd, error: str) -> None:
        adaptor = self._adaptor
        end.failed(error, adaptor.router.now)
        self._failed[end] = None
        self._look()
        adaptor.log(
            "warning",
            "auto-link failed",
            auto_link=end.auto_link.name,
            at_broker=end.auto_link.at_broker,
            reason=end.error,
            again_in=end.retry_at - adaptor.router.now,
        )

    # -- links -------------------------------------------------------------------------------------------------------

    def _forget(self, link: Link) -> AutoLinkEnd | None:
        end = self._ends.pop(link, None)
        if end is not None and link.session in self._sessions:
            self._sessions[link.session] -= 1
        return end

    def _new_link(self, incoming: bool) -> Link:
        """A link in a session with few others. Raises `AmqpSessionError`."""
        session = self._session()
        name = link_name(self._adaptor.router.tokens())
        return session.receiver(name) if incoming else session.sender(name)

    def _session(self) -> Session:
        sessions = self._sessions
        least = min(sessions, key=sessions.__getitem__, default=None)
        if least is not None and (sessions[least] == 0 or len(sessions) >= MAX_SESSIONS):
            return least
        session = self._adaptor.connection.session()
        try:
            session.begin()
        except AmqpSessionError:
            if least is None:
                raise
            return least  # the peer leaves no channel, or no memory is left
        sessions[session] = 0
        return session


def _own_attach(incoming: bool, address: str, max_message_size: int) -> Attach:
    """A link as we describe it: its terminus at the broker; name, handle and role are the link's."""
    return Attach(
        name="",
        handle=0,
        role=incoming,
        source=Source(address=address if incoming else None),
        target=Target(address=None if incoming else address),
        max_message_size=(max_message_size or None) if incoming else None,
    )


def _text(error: AmqpError | Error | None) -> str:
    return ": ".join(filter(None, (error.condition, error.description))) if error is not None else ""
