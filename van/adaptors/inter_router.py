"""Connections between routers (role inter-router): who opens which links, and what each of them is for.

The side that connected opens eleven sessions and twenty-two links: a pair for the routers' own messages, and a pair for
each priority; which is which, the other side tells by their order. Large deliveries take links that either side opens
when it has one. A connector of skupper-router may have data connections beside this, for nothing but such links.

This module recognises the peer at its Open, opens and accepts links, and hands them to the router core; what goes over
them is the core's business (`van.routing.neighbor`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from van import __version__
from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings, Log, no_log, nobody_counts
from van.adaptors.streams import StreamSessions, link_name
from van.amqp.errors import AmqpLinkError, AmqpSessionError, ErrorCondition
from van.amqp.events import ConnectionOpened, LinkDetached, SessionEnded
from van.amqp.link import Link
from van.amqp.performatives import Attach, Open
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import SaslClient, SaslServer
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session
from van.amqp.terminus import Source, Target, TerminusExpiryPolicy
from van.amqp.types import Int
from van.routing.dialect.recognition import (
    ANNOTATIONS_VERSION,
    ANONYMOUS_RELAY,
    CONTROL_LINK,
    COST,
    DATA_LINK,
    GROUP_CORRELATOR,
    NATIVE_ANNOTATIONS,
    STREAMING_LINKS,
    Dialect,
    PeerOpen,
)
from van.routing.neighbor import StreamOpener
from van.routing.router import Router

if TYPE_CHECKING:
    from van.routing.neighbor import Neighbor
    from van.routing.router_link import RouterOutgoingLink

INTER_ROUTER: Final = "inter-router"
INTER_ROUTER_DATA: Final = "inter-router-data"
PRIORITIES: Final = 10


class InterRouterAdaptor(AmqpAdaptor):
    """One connection to another router.

    Constructed as an `AmqpAdaptor`. cost: what this end asks for the connection; afterwards `cost` is the higher one of
    both ends. correlator: common to all connections of one connector, 15 characters; "" on the accepting side.
    `peer` is what the peer's Open says, `neighbor` the core's name for it while it is a neighbour by this connection.
    `role` is inter-router-data for a data connection of the peer.
    """

    role = INTER_ROUTER

    def __init__(
        self,
        router: Router,
        settings: ConnectionSettings,
        *,
        cost: int = 1,
        correlator: str = "",
        number: int = 0,
        accepting: bool = True,
        sasl: SaslServer | SaslClient | None = None,
        hostname: str | None = None,
        log: Log = no_log,
        on_lost: Callable[[], None] = nobody_counts,
        now: float = 0.0,
    ) -> None:
        self.cost = cost
        self.correlator = correlator
        self.peer: PeerOpen | None = None
        self.neighbor: Neighbor | None = None
        self.streams = StreamLinks(self)
        self._refusal_condition = ErrorCondition.NOT_ALLOWED
        # The two links for the routers' own messages.
        self._control: list[Link] = []
        # Links opened before the peer's Open, with their priority (-1: control): what they become depends on it.
        self._early: list[tuple[Link, int]] = []
        # Data links on which we send that the peer has attached: their order is their priority.
        self._data_links = 0
        super().__init__(
            router,
            settings,
            number=number,
            accepting=accepting,
            sasl=sasl,
            hostname=hostname,
            log=log,
            on_lost=on_lost,
            now=now,
        )
        if not accepting:
            try:
                self._open_links()
            except AmqpSessionError as error:
                self.close(error.condition, error.description)

    # -- open ----------------------------------------------------------------------------------------------------

    def _capabilities(self) -> list[str]:
        return [ANONYMOUS_RELAY, STREAMING_LINKS]

    def _open_properties(self) -> dict[str, object]:
        properties = super()._open_properties()
        # Peers look at these only where they are of type int.
        if self.cost > 1:
            properties[COST] = Int(self.cost)
        if self.correlator:
            properties[GROUP_CORRELATOR] = self.correlator
        properties[ANNOTATIONS_VERSION] = Int(NATIVE_ANNOTATIONS)
        return properties

    def _open_links(self) -> None:
        """Begin the sessions and attach the links that carry everything but streams, without waiting for the peer."""
        sessions = [self.connection.session() for _ in range(1 + PRIORITIES)]
        for session in sessions:
            session.begin()
        for priority, session in enumerate(sessions, -1):
            capability = DATA_LINK if priority >= 0 else CONTROL_LINK
            for link in (session.receiver(self.new_name()), session.sender(self.new_name())):
                link.attach(_own_attach(capability))
                self._early.append((link, priority))
        self._data_links = PRIORITIES

    def new_name(self) -> str:
        """A name for a link."""
        return link_name(self.router.tokens())

    def _described(self, open_: Open) -> dict[str, object]:
        peer = self._recognised(open_)
        return {"role": self.role, "product": peer.name, "cost": self.cost}

    def _recognised(self, open_: Open) -> PeerOpen:
        peer = PeerOpen(open_)
        self.peer = peer
        self.cost = max(self.cost, peer.cost)
        if peer.data and self.connection.accepting:
            self.role = INTER_ROUTER_DATA
        return peer

    def _open(self, event: ConnectionOpened) -> None:
        super()._open(event)
        peer = self.peer
        assert peer is not None
        self.refusal = peer.refusal(self.router.id, __version__)
        if self.refusal:
            self._refuse_peer(peer)
            return
        remark = peer.remark()
        if remark:
            self.log("warning", "neighbour of another version", peer_router=peer.router_id, reason=remark)
        if self.role == INTER_ROUTER_DATA or self.connection.close_sent:
            return
        neighbor = self.neighbor = self.router.neighbor_opened(
            self.number, peer.router_id, self.cost, van=peer.van, streams=self.streams
        )
        early = self._early
        self._early = []
        for link, priority in early:
            self._own(link, neighbor, priority)

    def _refuse_peer(self, peer: PeerOpen) -> None:
        """Say that this peer cannot be a neighbour.

        Who connected to it closes, with a condition for its operator, and tries again later: another router may answer
        then. Who was connected to refuses the peer's links and keeps the connection: so the reason is there to see, and
        a peer that would come back every two seconds does not.
        """
        if peer.dialect is Dialect.DISPATCH and peer.router_id != self.router.id:
            self._refusal_condition = ErrorCondition.NOT_IMPLEMENTED
        self.log("warning", "no neighbour", router=self.router.id, peer_router=peer.router_id, reason=self.refusal)
        if not self.connection.accepting:
            self.close(self._refusal_condition, self.refusal)

    # -- links ---------------------------------------------------------------------------------------------------

    def _own(self, link: Link, neighbor: Neighbor, priority: int) -> None:
        """Hand a link that we have attached to the core."""
        router = self.router
        if priority < 0:
            self._control.append(link)
        if isinstance(link, ReceiverLink):
            attach = router.attach_control_incoming if priority < 0 else router.attach_data_incoming
            self.links[link] = attach(neighbor, link, self.settings.link_capacity)
        else:
            assert isinstance(link, SenderLink)
            self.links[link] = (
                router.attach_control_outgoing(neighbor, link)
                if priority < 0
                else router.attach_data_outgoing(neighbor, link, priority)
            )

    def _answered(self, link: Link) -> None:
        owner = self.links.get(link)
        if owner is not None and not link.refused:
            self.router.started(owner)

    def _attach_incoming(self, link: ReceiverLink) -> None:
        remote = link.remote
        assert remote is not None
        capability = self._capability(remote.target)
        capacity = self.settings.link_capacity
        if capability == CONTROL_LINK:
            self.links[link] = self.router.attach_control_incoming(self._new_control(link), link, capacity)
            self._control.append(link)
        else:
            neighbor = self.neighbor if self.neighbor is not None else self._group_neighbor()
            self.links[link] = self.router.attach_data_incoming(neighbor, link, capacity)
        self._answer(link, capability)

    def _attach_outgoing(self, link: SenderLink) -> None:
        remote = link.remote
        assert remote is not None
        capability = self._capability(remote.source)
        if capability == CONTROL_LINK:
            self.links[link] = self.router.attach_control_outgoing(self._new_control(link), link)
            self._control.append(link)
        else:
            if self.neighbor is None:
                raise _wrong_role()
            # Fewer than ten are fine; those beyond are for streams.
            priority = self._data_links if self._data_links < PRIORITIES else None
            self._data_links += 1
            self.links[link] = self.router.attach_data_outgoing(self.neighbor, link, priority)
        self._answer(link, capability)

    def _capability(self, terminus: object) -> str:
        """What the peer means a link for, by the terminus on its receiving side; "" is a link of a data connection.

        Raises `AmqpLinkError` when it is none that belongs here.
        """
        if self.refusal:
            raise AmqpLinkError(self._refusal_condition, self.refusal)
        if isinstance(terminus, Source | Target):
            capabilities = terminus.capabilities or ()
            if DATA_LINK in capabilities:
                return DATA_LINK
            if self.role == INTER_ROUTER:
                if CONTROL_LINK in capabilities:
                    return CONTROL_LINK
            elif isinstance(terminus, Target) and not (terminus.address or terminus.dynamic or capabilities):
                return ""
        raise _wrong_role()

    def _new_control(self, link: Link) -> Neighbor:
        """The neighbour, for the first control link of this direction. Raises `AmqpLinkError` for any more."""
        neighbor = self.neighbor
        if neighbor is None or any(type(other) is type(link) for other in self._control):
            raise AmqpLinkError(
                ErrorCondition.NOT_ALLOWED, "a connection between routers has one control link in each direction"
            )
        return neighbor

    def _group_neighbor(self) -> Neighbor | None:
        """The neighbour whose data connection this is, if its control connection is there already."""
        peer = self.peer
        assert peer is not None
        for neighbor in self.router.neighbors.values():
            if neighbor.router_id == peer.router_id:
                return neighbor
        return None

    def _answer(self, link: Link, capability: str) -> None:
        remote = link.remote
        assert remote is not None
        capabilities = [capability] if capability else None
        link.attach(
            Attach(
                name=link.name,
                handle=0,
                role=link.role,
                snd_settle_mode=remote.snd_settle_mode,
                rcv_settle_mode=remote.rcv_settle_mode,
                source=Source(capabilities=capabilities),
                target=Target(capabilities=capabilities),
                max_message_size=(self.settings.max_message_size or None) if isinstance(link, ReceiverLink) else None,
            )
        )
        self.router.started(self.links[link])

    # -- ends ----------------------------------------------------------------------------------------------------

    def _detach(self, event: LinkDetached) -> None:
        link = event.link
        control = link in self._control
        error = event.error if event.error is not None else link.failure
        reason = f"{error.condition} {error.description or ''}".rstrip() if error is not None else ""
        if control:
            self._lose_neighbor()
            if link.refused:
                self._peer_refuses(reason)
        super()._detach(event)
        if not event.closed:
            # Links are not resumed between routers: what the peer keeps for this one nobody would ask for.
            self._give_up(ErrorCondition.NOT_IMPLEMENTED, f"link {link.name} was detached without being closed")
        elif control:
            self._control_lost(f"a control link was detached {reason}".rstrip(), error is None)

    def _peer_refuses(self, reason: str) -> None:
        """The peer takes no links of routers, which is not for time to change."""
        peer = self.peer
        assert peer is not None
        self.refusal = (
            f"router {peer.router_id} ({peer.name}) refuses links of routers, {reason or 'without saying why'}: is its "
            f"listener of role {INTER_ROUTER}?"
        )
        self.log("warning", "no neighbour", router=self.router.id, peer_router=peer.router_id, reason=self.refusal)
        self.close(ErrorCondition.CONNECTION_FORCED, self.refusal)

    def _control_lost(self, reason: str, in_order: bool) -> None:
        """The routers do not hear each other any more by this connection.

        Only who connected attaches control links, once: a new connection is the way to have them again. A peer that
        gives them up in order may want to end what is under way first.
        """
        if not (self.connection.accepting and in_order):
            self._give_up(ErrorCondition.CONNECTION_FORCED, reason)

    def _give_up(self, condition: str, description: str) -> None:
        if not self.connection.close_sent:
            self.close(condition, description)
            self._orderly = False

    def _end_session(self, event: SessionEnded) -> None:
        control = any(link.session is event.session for link in self._control)
        super()._end_session(event)
        if control:
            reason = f"{event.condition} {event.description}".rstrip()
            self._control_lost(f"the session of the control links ended {reason}".rstrip(), not event.condition)

    def _release_session(self, session: Session) -> None:
        if any(link.session is session for link in self._control):
            self._lose_neighbor()
        super()._release_session(session)
        self.streams.sessions.session_over(session)

    def _release_links(self) -> None:
        # The core finds other ways first: deliveries that were not sent take them.
        self._lose_neighbor()
        super()._release_links()

    def give_back(self) -> None:
        self._lose_neighbor()
        super().give_back()

    def _lose_neighbor(self) -> None:
        neighbor = self.neighbor
        self._control.clear()
        self._early.clear()
        if neighbor is not None:
            self.neighbor = None
            self.router.neighbor_lost(neighbor)

    def forget(self, link: Link) -> None:
        """Detach a link of ours whose owner needs it no more."""
        self._forget(link)
        link.detach()

    def _forget(self, link: Link) -> None:
        super()._forget(link)
        self.streams.sessions.link_over(link)


class StreamLinks(StreamOpener):
    """The streaming links that this side of a connection opens, for the core."""

    __slots__ = ("_adaptor", "sessions")

    def __init__(self, adaptor: InterRouterAdaptor) -> None:
        self._adaptor = adaptor
        self.sessions = StreamSessions(adaptor)

    def open_stream(self) -> RouterOutgoingLink | None:
        adaptor = self._adaptor
        neighbor = adaptor.neighbor
        link = self.sessions.attach(_own_attach(DATA_LINK)) if neighbor is not None else None
        if neighbor is None or link is None:
            return None
        outgoing = adaptor.router.attach_data_outgoing(neighbor, link, None)
        adaptor.links[link] = outgoing
        return outgoing

    def close_stream(self, link: RouterOutgoingLink) -> None:
        self._adaptor.forget(link.link)


def _own_attach(capability: str) -> Attach:
    """A link between routers as the side that opens it describes it; name, handle and role are the link's."""
    return Attach(
        name="",
        handle=0,
        role=False,
        source=Source(expiry_policy=TerminusExpiryPolicy.LINK_DETACH, capabilities=[capability]),
        target=Target(expiry_policy=TerminusExpiryPolicy.LINK_DETACH, capabilities=[capability]),
    )


def _wrong_role() -> AmqpLinkError:
    return AmqpLinkError(ErrorCondition.CONNECTION_ROLE, "Link attach forbidden on inter-router connection")
