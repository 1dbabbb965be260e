"""AMQP 1.0 connections joined to the router core.

Answers Open, Begin and Attach, resolves termini to addresses, and gives every link its owner. Once a link is attached,
deliveries pass from link to link without coming by here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from van import __version__
from van.amqp.connection import LARGE_FRAME, Connection
from van.amqp.errors import AmqpError, AmqpLinkError, AmqpSessionError, ErrorCondition
from van.amqp.events import (
    ConnectionClosed,
    ConnectionOpened,
    Event,
    LinkAttached,
    LinkDetached,
    SessionBegun,
    SessionEnded,
)
from van.amqp.framing import DEFAULT_MAX_FRAME_SIZE
from van.amqp.link import Link
from van.amqp.performatives import Attach, Open
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import SaslClient, SaslServer
from van.amqp.sender_link import SenderLink
from van.amqp.session import MAX_SESSION_FRAMES, Session
from van.amqp.terminus import Coordinator, Source, Target
from van.amqp.types import Int
from van.routing.adaptor import BATCH_READ_SIZE, LARGE_READ_SIZE, SMALL_READ_SIZE, Adaptor
from van.routing.dialect.recognition import (
    ANONYMOUS_RELAY,
    CONNECTION_ID,
    CONTROL_LINK,
    DATA_LINK,
    EDGE_DOWNLINK,
    OUR_PRODUCT,
    PRODUCT,
    VERSION,
)
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import OutgoingLink
from van.routing.router import DEFAULT_LINK_CAPACITY, Router

if TYPE_CHECKING:
    from van.routing.router import LinkOwner

NORMAL: Final = "normal"
ROUTE_CONTAINER: Final = "route-container"
# At the other end of these there is no router.
_NO_ROUTERS: Final = (NORMAL, ROUTE_CONTAINER)
# A peer may give a link up and attach it anew as often as it likes; this many at a time is what one connection gets.
DEFAULT_MAX_LINKS: Final = 1000
# A Transfer may be as large as the limits of the site say: for us 0 means without limit.
NO_MAX_MESSAGE_SIZE: Final = 0

Log = Callable[..., None]
"""Called with a level, an event and fields."""


def no_log(level: str, event: str, **fields: object) -> None:
    """A log that keeps nothing."""


def nobody_counts() -> None:
    """Stand in for `on_lost` where nobody keeps a list of connections."""


class ConnectionSettings:
    """What a listener or connector says about its connections.

    max_frame_size in octets (0: as memory allows), idle_timeout in seconds (0 for never), link_capacity in deliveries,
    which grows up to link_capacity_limit, max_message_size in octets (0 for no limit).
    """

    __slots__ = (
        "failover",
        "idle_timeout",
        "link_capacity",
        "link_capacity_limit",
        "max_frame_size",
        "max_links",
        "max_message_size",
        "max_session_frames",
        "max_sessions",
        "sasl_required",
    )

    def __init__(
        self,
        *,
        max_frame_size: int = 0,
        max_sessions: int = 32768,
        max_session_frames: int = MAX_SESSION_FRAMES,
        max_links: int = DEFAULT_MAX_LINKS,
        link_capacity: int = DEFAULT_LINK_CAPACITY,
        link_capacity_limit: int = 0,
        max_message_size: int = NO_MAX_MESSAGE_SIZE,
        idle_timeout: float = 16.0,
        sasl_required: bool = False,
        failover: list[object] | None = None,
    ) -> None:
        self.max_frame_size = max_frame_size
        self.max_sessions = max_sessions
        self.max_session_frames = max_session_frames
        self.max_links = max_links
        self.link_capacity = link_capacity
        self.link_capacity_limit = max(link_capacity, link_capacity_limit)
        self.max_message_size = max_message_size
        self.idle_timeout = idle_timeout
        self.sasl_required = sasl_required
        self.failover = failover


class AmqpAdaptor(Adaptor):
    """One AMQP connection of an application (role normal), and what connections of all roles have in common.

    accepting: whether the peer connected to us. hostname: for Open, on connections that we made. log is called with a
    level, an event and fields; `number` is this connection's, for logs. on_lost is called once, when it is over.
    `role` is the connection's, in the words of the configuration.
    """

    role = NORMAL

    def __init__(
        self,
        router: Router,
        settings: ConnectionSettings,
        *,
        number: int = 0,
        accepting: bool = True,
        sasl: SaslServer | SaslClient | None = None,
        hostname: str | None = None,
        log: Log = no_log,
        on_lost: Callable[[], None] = nobody_counts,
        now: float = 0.0,
    ) -> None:
        super().__init__()
        self.read_size = SMALL_READ_SIZE
        self.router = router
        self.settings = settings
        self.number = number
        self.log = log
        self.on_lost = on_lost
        self.links: dict[Link, LinkOwner] = {}
        self.deliveries_in = 0
        self.deliveries_out = 0
        self.opened_at = 0.0  # driver's clock, when the peer's Open came
        self._lost = False
        self._by_peer = True
        self._orderly = False
        self._prepare()
        frame_size = settings.max_frame_size
        if not frame_size:
            # Large messages from skrouterd 3.5.1 stopped in some runs with larger ones (decision 11).
            frame_size = router.budget.frame_size() if self.role in _NO_ROUTERS else DEFAULT_MAX_FRAME_SIZE
        self.connection = Connection(
            router.id,
            accepting=accepting,
            sasl=sasl,
            sasl_required=settings.sasl_required,
            hostname=hostname,
            max_frame_size=frame_size,
            channel_max=settings.max_sessions - 1,
            handle_max=settings.max_links - 1,
            idle_timeout=settings.idle_timeout,
            offered_capabilities=self._capabilities(),
            desired_capabilities=None if self.role in _NO_ROUTERS else self._capabilities(),
            properties=self._open_properties(),
            window_policy=router.budget.policy(settings.max_session_frames, frame_size),
            on_touched=self._touched,
            now=now,
        )
        if not accepting:
            self.connection.open()

    def _prepare(self) -> None:
        """Set up what a kind of connection has beside this, before there is anything to say."""

    def _capabilities(self) -> list[str]:
        """What our Open offers."""
        return [ANONYMOUS_RELAY]

    def _open_properties(self) -> dict[str, object]:
        """What our Open says of us."""
        properties: dict[str, object] = {
            PRODUCT: OUR_PRODUCT,
            VERSION: __version__,
            CONNECTION_ID: Int(self.number),
        }
        if self.settings.failover is not None:
            properties["failover-server-list"] = self.settings.failover
        return properties

    def _touched(self) -> None:
        self.router.touch(self)

    # -- Adaptor -------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        self.router.now = now
        connection = self.connection
        events = connection.receive_data(data, now)
        if events or not self.opened:
            self._handle(events)
            self.read_size = SMALL_READ_SIZE
        else:
            self.read_size = LARGE_READ_SIZE if connection.frame_awaited >= LARGE_FRAME else BATCH_READ_SIZE
        if self.connection.closed:
            self.closed = True

    def receive_eof(self, now: float) -> None:
        self.router.now = now
        self._handle(self.connection.receive_eof(now))
        self.closed = True

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        return self.connection.data_to_send(limit)

    def next_deadline(self) -> float:
        return self.connection.next_deadline()

    def gives_up_at(self) -> float:
        return self.connection.gives_up_at()

    def handle_deadline(self, now: float) -> None:
        self.router.now = now
        self._handle(self.connection.handle_deadline(now))
        self.closed = self.connection.closed

    def close(self, condition: str, description: str) -> None:
        if not self.reason:
            self.reason = f"{condition}: {description}"
            self._by_peer = False
            self._orderly = True
        self.connection.close(AmqpError(condition, description))
        # Nothing more goes out here: what others sent to this peer is theirs again.
        self._release_links()
        self.closed = self.connection.closed

    def connection_lost(self, now: float) -> None:
        if self._lost:
            return
        self._lost = True
        self.router.now = now
        self._release_links()
        for session in self.connection.begun_sessions():
            self.router.budget.remove(session)
        self.closed = True
        self.on_lost()
        if self.opened:
            self.log(
                "warning" if not self._by_peer and not self._orderly else "info",
                "connection closed",
                reason=self.reason or "the connection was lost",
                by="peer" if self._by_peer else "us",
                deliveries_in=self.deliveries_in,
                deliveries_out=self.deliveries_out,
                seconds=round(now - self.opened_at, 3),
            )
        elif not self.cut:
            self.log("warning", "connection failed", reason=self.reason or "the stream ended before open")
        self.connection.let_go()

    # -- the end of the router -----------------------------------------------------------------------------------

    def hold_back(self) -> None:
        """Ask senders for the credit that they have, and give no more."""
        for owner in self.links.values():
            if isinstance(owner, IncomingLink):
                owner.hold_back()

    def give_back(self) -> None:
        """Give up what waits for this peer or was not settled by it: senders learn what became of their deliveries."""
        for link, owner in list(self.links.items()):
            if isinstance(owner, OutgoingLink):
                self._forget(link)

    def credit_out(self) -> int:
        """Deliveries that the peer may still send."""
        return sum(link.link_credit for link, owner in self.links.items() if isinstance(owner, IncomingLink))

    def unsettled(self) -> int:
        """Deliveries that this peer has begun to send, and whose outcome it does not have."""
        halves = sum(
            isinstance(link, ReceiverLink) and link.current is not None and link.current.settled for link in self.links
        )
        return halves + sum(len(session.unsettled_in) for session in self.connection.sessions)

    def waiting(self) -> int:
        """Deliveries that wait to be sent to this peer."""
        return sum(
            len(owner.undelivered) + (owner.link.current is not None)
            for owner in self.links.values()
            if isinstance(owner, OutgoingLink)
        )

    # -- events --------------------------------------------------------------------------------------------------

    def _handle(self, events: list[Event]) -> None:
        while events:
            self._handle_batch(events)
            events = self.connection.take_events()

    def _handle_batch(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, LinkAttached):
                if event.answer:
                    self._answered(event.link)
                else:
                    self._attach(event.link)
            elif isinstance(event, LinkDetached):
                self._detach(event)
            elif isinstance(event, SessionBegun):
                if not event.answer:
                    self._begin(event.session)
            elif isinstance(event, SessionEnded):
                self._end_session(event)
            elif isinstance(event, ConnectionOpened):
                self._open(event)
            else:
                assert isinstance(event, ConnectionClosed)
                self._close(event)

    def _open(self, event: ConnectionOpened) -> None:
        self.opened = True
        self.opened_at = self.router.now
        self.connection.open()
        self.log(
            "info",
            "connection opened",
            container_id=event.open.container_id,
            user=self.connection.identity,
            **self._described(event.open),
        )

    def _described(self, open_: Open) -> dict[str, object]:
        """What the log says of a connection that has opened, beside who it is."""
        return {}

    def _close(self, event: ConnectionClosed) -> None:
        if not self.reason:
            self._by_peer = event.by_peer
            self.reason = ": ".join(filter(None, (event.condition, event.description))) or "closed"
        self._release_links()
        self.connection.close()

    def _begin(self, session: Session) -> None:
        try:
            session.begin()
        except AmqpError as error:
            self.log("warning", "session refused", reason=str(error))
            if not session.local_begun:
                # The peer's own channel-max leaves no channel to answer on.
                self.connection.close(error)

    def _end_session(self, event: SessionEnded) -> None:
        session = event.session
        if event.condition:
            self.log("warning", "session ended", reason=f"{event.condition}: {event.description}")
        self._release_session(session)
        session.end()

    # -- links ---------------------------------------------------------------------------------------------------

    def _attach(self, link: Link) -> None:
        if not link.session.local_begun or link.session.end_sent:
            return
        try:
            if len(self.links) >= self.settings.max_links:
                raise AmqpLinkError(
                    ErrorCondition.RESOURCE_LIMIT_EXCEEDED, f"a connection may have {self.settings.max_links} links"
                )
            if isinstance(link, ReceiverLink):
                self._attach_incoming(link)
            else:
                assert isinstance(link, SenderLink)
                self._attach_outgoing(link)
        except AmqpLinkError as refusal:
            self._refuse(link, refusal)
        except AmqpSessionError as error:
            # It has no handle, so its session does not know it.
            self._forget(link)
            self._fail_session(link.session, error)

    def _answered(self, link: Link) -> None:
        """The peer has answered an Attach of ours."""

    def _attach_incoming(self, link: ReceiverLink) -> None:
        """The peer sends: its target says where to."""
        remote = link.remote
        assert remote is not None
        if _between_routers(remote):
            raise self._wrong_listener("inter-router")
        # No target at all is taken for one without address, as some clients mean it.
        target = remote.target if remote.target is not None else Target()
        if isinstance(target, Coordinator):
            raise AmqpLinkError(
                ErrorCondition.PRECONDITION_FAILED, "this router coordinates no transactions; a broker does"
            )
        if not isinstance(target, Target):
            raise AmqpLinkError(ErrorCondition.NOT_IMPLEMENTED, "a target of an unknown kind")
        text = target.address or ""
        if target.dynamic:
            text = self.router.temporary_address(mobile=True)
        incoming = self.take_incoming(link, text)
        self.links[link] = incoming
        link.attach(
            Attach(
                name=link.name,
                handle=0,
                role=True,
                snd_settle_mode=remote.snd_settle_mode,
                rcv_settle_mode=remote.rcv_settle_mode,
                source=remote.source,
                target=Target(
                    address=text or None,
                    durable=target.durable,
                    expiry_policy=target.expiry_policy,
                    timeout=target.timeout,
                    dynamic=target.dynamic,
                    capabilities=target.capabilities,
                ),
                max_message_size=self.settings.max_message_size or None,
            )
        )
        self.router.started(incoming)

    def _attach_outgoing(self, link: SenderLink) -> None:
        """The peer receives: its source says from where."""
        remote = link.remote
        assert remote is not None
        if _between_routers(remote):
            raise self._wrong_listener("inter-router")
        source = remote.source
        if not isinstance(source, Source):
            raise AmqpLinkError(ErrorCondition.INVALID_FIELD, "a receiver's attach needs a source")
        text = source.address or ""
        if source.dynamic:
            text = self.router.temporary_address(mobile=False)
        if not text:
            raise AmqpLinkError(ErrorCondition.INVALID_FIELD, "a receiver's source needs an address")
        outgoing = self.take_outgoing(link, source, text)
        self.links[link] = outgoing
        # A filter that we do not apply is absent from our answer (3.5.3): the peer sees it.
        link.attach(
            Attach(
                name=link.name,
                handle=0,
                role=False,
                snd_settle_mode=remote.snd_settle_mode,
                rcv_settle_mode=remote.rcv_settle_mode,
                source=Source(
                    address=text,
                    durable=source.durable,
                    expiry_policy=source.expiry_policy,
                    timeout=source.timeout,
                    dynamic=source.dynamic,
                    capabilities=source.capabilities,
                ),
                target=remote.target,
                initial_delivery_count=0,
            )
        )
        self.router.started(outgoing)

    def take_incoming(self, link: ReceiverLink, text: str) -> IncomingLink:
        """Hand a link that the peer sends by to the core. Raises `AmqpLinkError`."""
        settings = self.settings
        return self.router.attach_incoming(link, text, settings.link_capacity, settings.link_capacity_limit)

    def take_outgoing(self, link: SenderLink, source: Source, text: str) -> OutgoingLink:
        """Hand a link that the peer receives by to the core. Raises `AmqpLinkError`."""
        if EDGE_DOWNLINK in (source.capabilities or ()):
            raise self._wrong_listener("edge")
        return self.router.attach_outgoing(link, text, self.settings.link_capacity)

    def _wrong_listener(self, role: str) -> AmqpLinkError:
        """A router wants links that this connection is not for; say so once, and return the refusal of a link.

        The connection stays open: a router that is cut off comes back every two seconds.
        """
        opened = self.connection.remote_open
        peer = opened.container_id if opened is not None else ""
        if not self.refusal:
            self.refusal = (
                f"router {peer} opens links of role {role} on a connection of role {self.role}: it has to connect to a "
                f"listener of role {role}"
            )
            self.log("warning", "no neighbour", router=self.router.id, peer_router=peer, reason=self.refusal)
        return AmqpLinkError(ErrorCondition.FORBIDDEN, "Connectivity to the node is forbidden")

    def _refuse(self, link: Link, error: AmqpLinkError) -> None:
        """Answer the attach without a terminus of ours, then detach: that is how a link is refused (2.6.3)."""
        remote = link.remote
        assert remote is not None
        receiving = isinstance(link, ReceiverLink)
        try:
            link.attach(
                Attach(
                    name=link.name,
                    handle=0,
                    role=receiving,
                    source=remote.source if receiving else None,
                    target=None if receiving else remote.target,
                    initial_delivery_count=None if receiving else 0,
                )
            )
        except AmqpSessionError as no_handle:
            self._fail_session(link.session, no_handle)
            return
        link.detach(error)
        if not self.refusal:
            self.log("info", "link refused", link=link.name, reason=str(error))

    def _detach(self, event: LinkDetached) -> None:
        link = event.link
        self._forget(link)
        if event.error is not None and not self.refusal:
            self.log("info", "link detached", link=link.name, reason=str(event.error.condition))
        link.detach(None, event.closed)

    def _forget(self, link: Link) -> None:
        owner = self.links.pop(link, None)
        if owner is None:
            return
        if isinstance(link, ReceiverLink):
            self.deliveries_in += link.deliveries()
        else:
            self.deliveries_out += link.deliveries()
        self.router.detached(owner)

    def _fail_session(self, session: Session, error: AmqpSessionError) -> None:
        """The peer has left us no handle to answer with: its session ends."""
        self.log("warning", "session ended", reason=str(error))
        self._release_session(session)
        session.end(error)

    def _release_session(self, session: Session) -> None:
        links = [link for link in session.links.values() if link in self.links]
        self.router.session_lost(session, [self.links[link] for link in links])
        for link in links:
            self._forget(link)

    def _release_links(self) -> None:
        for session in self.connection.sessions:
            self._release_session(session)
        # Of sessions that are over on the wire already.
        for link in list(self.links):
            self._forget(link)


def _between_routers(attach: Attach) -> bool:
    """Whether this link is one of those that only routers have among themselves."""
    for terminus in (attach.source, attach.target):
        capabilities = terminus.capabilities if isinstance(terminus, Source | Target) else None
        if capabilities and (CONTROL_LINK in capabilities or DATA_LINK in capabilities):
            return True
    return False
