"""Connections between an edge router and an interior one (role edge), at both ends.

The edge connects and opens all links but those for streams, in two sessions: one for what the routers have to tell each
other, one for deliveries. The interior router answers. This module opens and accepts links and gives each its owner in
the core (`van.routing.edge`, `van.routing.edge_router`).
"""

from __future__ import annotations

from typing import Final

from van import __version__
from van.adaptors.amqp import AmqpAdaptor
from van.adaptors.streams import StreamSessions, link_name
from van.amqp.errors import AmqpLinkError, AmqpSessionError, ErrorCondition
from van.amqp.events import ConnectionOpened, LinkDetached, SessionEnded
from van.amqp.link import Link
from van.amqp.performatives import Attach, Open
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session
from van.amqp.terminus import Source, Target, TerminusExpiryPolicy
from van.amqp.types import Int
from van.routing.dialect.recognition import (
    ANNOTATIONS_VERSION,
    ANONYMOUS_RELAY,
    EDGE_DOWNLINK,
    NATIVE_ANNOTATIONS,
    STREAMING_LINKS,
    PeerOpen,
)
from van.routing.edge import (
    ADDRESS_TRACKING,
    MESH_CREDIT,
    MESH_DISCOVERY,
    EdgeIncomingLink,
    EdgeOutgoingLink,
    EdgePeer,
    EdgeService,
    EdgeStreamLink,
    EdgeStreamOpener,
    MeshReceiver,
    ServiceReceiver,
    ServiceSender,
    TrackingSender,
    attach_downlink,
    attach_incoming,
    attach_outgoing,
    edge_lost,
    edge_opened,
)
from van.routing.edge_router import EdgeRouter, Uplink, UplinkOpener
from van.routing.router import DEFAULT_LINK_CAPACITY, LinkOwner

EDGE: Final = "edge"


class EdgeAdaptor(AmqpAdaptor):
    """What both ends of an edge connection have in common.

    Constructed as an `AmqpAdaptor`. `peer` is what the peer's Open says, `edge` the core's name for it while it counts.
    `services` are the links by which the routers tell each other something; `links` has those for deliveries.
    """

    role = EDGE

    def _prepare(self) -> None:
        self.peer: PeerOpen | None = None
        self.edge: EdgePeer | None = None
        self.services: dict[Link, EdgeService] = {}
        self.streams = EdgeStreams(self)
        self._refusal_condition = ""

    # -- open ----------------------------------------------------------------------------------------------------

    def _capabilities(self) -> list[str]:
        return [ANONYMOUS_RELAY, STREAMING_LINKS]

    def _open_properties(self) -> dict[str, object]:
        properties = super()._open_properties()
        properties[ANNOTATIONS_VERSION] = Int(NATIVE_ANNOTATIONS)
        return properties

    def _described(self, open_: Open) -> dict[str, object]:
        peer = self.peer = PeerOpen(open_)
        return {"role": self.role, "product": peer.name}

    def _open(self, event: ConnectionOpened) -> None:
        super()._open(event)
        peer = self.peer
        assert peer is not None
        self.refusal = self._refusal(peer)
        if self.refusal:
            self._refusal_condition = ErrorCondition.NOT_ALLOWED
            self.log("warning", "no edge", router=self.router.id, peer_router=peer.router_id, reason=self.refusal)
            if not self.connection.accepting:
                self.close(self._refusal_condition, self.refusal)
        elif not self.connection.close_sent:
            self._counts(peer)

    def _refusal(self, peer: PeerOpen) -> str:
        """Why the peer is none to have an edge connection with; empty: it is one."""
        return peer.refusal(self.router.id, __version__)

    def _counts(self, peer: PeerOpen) -> None:
        """The peer is one to have an edge connection with."""
        raise NotImplementedError

    def new_name(self) -> str:
        """A name for a link."""
        return link_name(self.router.tokens())

    def known_edge(self) -> EdgePeer:
        """The core's name for the peer. Raises `AmqpLinkError` when it has none."""
        edge = self.edge
        if edge is None:
            raise AmqpLinkError(
                self._refusal_condition or ErrorCondition.NOT_ALLOWED, self.refusal or "the connection is not in use"
            )
        return edge

    def answer_service(self, link: Link) -> None:
        """Answer the attach of a link that carries no deliveries."""
        remote = link.remote
        assert remote is not None
        link.attach(
            Attach(
                name=link.name,
                handle=0,
                role=link.role,
                snd_settle_mode=remote.snd_settle_mode,
                rcv_settle_mode=remote.rcv_settle_mode,
                source=remote.source,
                target=remote.target,
            )
        )

    # -- ends ----------------------------------------------------------------------------------------------------

    def forget(self, link: Link) -> None:
        """Detach a link of ours that is not needed any more; its owner is told."""
        self._forget(link)
        link.detach()

    def _forget(self, link: Link) -> None:
        service = self.services.pop(link, None)
        if service is not None:
            service.lost()
        else:
            super()._forget(link)
            self.streams.sessions.link_over(link)

    def _release_session(self, session: Session) -> None:
        for link in [link for link in self.services if link.session is session]:
            self._forget(link)
        super()._release_session(session)
        self.streams.sessions.session_over(session)

    def _release_links(self) -> None:
        # The core finds other ways first: deliveries that were not sent take them.
        self._lose_edge()
        super()._release_links()
        for link in list(self.services):
            self._forget(link)

    def give_back(self) -> None:
        self._lose_edge()
        super().give_back()

    def _lose_edge(self) -> None:
        """Nothing new goes by this connection."""
        raise NotImplementedError


class EdgeListenerAdaptor(EdgeAdaptor):
    """A connection from an edge router, at the interior router."""

    def _counts(self, peer: PeerOpen) -> None:
        streams = self.streams if peer.streaming_links else None
        self.edge = edge_opened(self.router, self.number, peer.router_id, van=peer.van, streams=streams)

    def _attach_incoming(self, link: ReceiverLink) -> None:
        target = link.remote.target if link.remote is not None else None
        if isinstance(target, Target) and target.address == MESH_DISCOVERY:
            mesh = MeshReceiver(self.known_edge(), link, MESH_CREDIT)
            self.services[link] = mesh
            self.answer_service(link)
            mesh.started()
        else:
            super()._attach_incoming(link)
            incoming = self.links[link]
            if isinstance(incoming, EdgeIncomingLink):
                incoming.track()

    def _attach_outgoing(self, link: SenderLink) -> None:
        source = link.remote.source if link.remote is not None else None
        if isinstance(source, Source) and source.address == ADDRESS_TRACKING:
            tracking = TrackingSender(self.known_edge(), link)
            self.services[link] = tracking
            self.answer_service(link)
            tracking.started()
        else:
            super()._attach_outgoing(link)

    def take_incoming(self, link: ReceiverLink, text: str) -> EdgeIncomingLink:
        return attach_incoming(self.known_edge(), link, text, self.settings.link_capacity)

    def take_outgoing(self, link: SenderLink, source: Source, text: str) -> EdgeOutgoingLink:
        edge = self.known_edge()
        if EDGE_DOWNLINK in (source.capabilities or ()):
            if text != edge.router_id:
                # It would share what is addressed to another.
                raise AmqpLinkError(ErrorCondition.NOT_ALLOWED, f"edge router {edge.router_id} is not {text}")
            return attach_downlink(edge, link, text, self.settings.link_capacity)
        return attach_outgoing(edge, link, text, self.settings.link_capacity)

    def _answered(self, link: Link) -> None:
        """The edge has answered the attach of a streaming link."""

    def _lose_edge(self) -> None:
        edge = self.edge
        if edge is not None:
            self.edge = None
            edge_lost(edge)


class EdgeConnectorAdaptor(EdgeAdaptor):
    """A connection to an interior router, at the edge router."""

    def _prepare(self) -> None:
        super()._prepare()
        assert isinstance(self.router, EdgeRouter)
        self.edge_router = self.router
        self.uplink: Uplink | None = None
        self.opener = UplinkLinks(self)

    def _counts(self, peer: PeerOpen) -> None:
        self.edge = self.uplink = self.edge_router.uplink_opened(
            self.number, peer.router_id, van=peer.van, opener=self.opener, streams=peer.streaming_links
        )

    def take_incoming(self, link: ReceiverLink, text: str) -> EdgeIncomingLink:
        if text:
            raise _opens_nothing()
        return attach_incoming(self.known_edge(), link, text, self.settings.link_capacity)

    def take_outgoing(self, link: SenderLink, source: Source, text: str) -> EdgeOutgoingLink:
        raise _opens_nothing()

    def _answered(self, link: Link) -> None:
        if link.refused:
            return
        owner = self.links.get(link)
        service = self.services.get(link)
        if isinstance(owner, EdgeIncomingLink):
            owner.unblock()
        elif isinstance(service, ServiceReceiver):
            service.started()

    def _detach(self, event: LinkDetached) -> None:
        link = event.link
        vital = link in self.opener.vital
        error = event.error if event.error is not None else link.failure
        reason = f"{error.condition} {error.description or ''}".rstrip() if error is not None else ""
        if vital:
            peer = self.peer
            assert peer is not None
            if link.refused and not self.refusal:
                self.refusal = (
                    f"router {peer.router_id} ({peer.name}) refuses links of edge routers, "
                    f"{reason or 'without saying why'}: is its listener of role {EDGE}?"
                )
                self.log("warning", "no uplink", router=self.router.id, peer_router=peer.router_id, reason=self.refusal)
            self._lose_edge()
        super()._detach(event)
        if vital:
            self._give_up(self.refusal or f"a link that an edge cannot do without was detached {reason}".rstrip())

    def _end_session(self, event: SessionEnded) -> None:
        vital = any(link.session is event.session for link in self.opener.vital)
        if vital:
            self._lose_edge()
        super()._end_session(event)
        if vital:
            self._give_up(f"the session of the uplink ended {event.condition} {event.description}".rstrip())

    def _give_up(self, description: str) -> None:
        if not self.connection.close_sent:
            self.close(ErrorCondition.CONNECTION_FORCED, description)
            self._orderly = False

    def _lose_edge(self) -> None:
        uplink = self.uplink
        if uplink is not None:
            self.edge = self.uplink = None
            self.edge_router.uplink_lost(uplink)


class EdgeStreams(EdgeStreamOpener):
    """The streaming links that this side of a connection opens, for the core."""

    __slots__ = ("_adaptor", "sessions")

    def __init__(self, adaptor: EdgeAdaptor) -> None:
        self._adaptor = adaptor
        self.sessions = StreamSessions(adaptor)

    def open_stream(self) -> EdgeStreamLink | None:
        adaptor = self._adaptor
        edge = adaptor.edge
        link = self.sessions.attach(_own_attach("", "", "")) if edge is not None else None
        if edge is None or link is None:
            return None
        outgoing = EdgeStreamLink(link, adaptor.router.routed, DEFAULT_LINK_CAPACITY, edge)
        adaptor.links[link] = outgoing
        return outgoing

    def close_stream(self, link: EdgeStreamLink) -> None:
        self._adaptor.forget(link.link)


class UplinkLinks(UplinkOpener):
    """The links that an edge opens on its uplink. `vital` are those that it cannot do without."""

    __slots__ = ("_adaptor", "_sessions", "vital")

    def __init__(self, adaptor: EdgeConnectorAdaptor) -> None:
        self._adaptor = adaptor
        # By whether it is the one for services.
        self._sessions: dict[bool, Session] = {}
        self.vital: set[Link] = set()

    def open_receiver(self, address: str, capability: str = "", *, service: bool = False) -> ReceiverLink | None:
        session = self._session(service)
        if session is None:
            return None
        link = session.receiver(self._adaptor.new_name())
        if not self._attach(link, _own_attach(address, "", capability)):
            return None
        if service or capability:
            self.vital.add(link)
        return link

    def open_sender(self, address: str, *, service: bool = False) -> SenderLink | None:
        session = self._session(service)
        if session is None:
            return None
        link = session.sender(self._adaptor.new_name())
        if not self._attach(link, _own_attach("", address, "")):
            return None
        if not address:
            self.vital.add(link)
        return link

    def owned(self, link: Link, owner: LinkOwner | EdgeService) -> None:
        if isinstance(owner, (ServiceReceiver, ServiceSender)):
            self._adaptor.services[link] = owner
        else:
            self._adaptor.links[link] = owner

    def close_link(self, link: Link) -> None:
        self.vital.discard(link)
        self._adaptor.forget(link)

    def open_stream(self) -> EdgeStreamLink | None:
        return self._adaptor.streams.open_stream()

    def close_stream(self, link: EdgeStreamLink) -> None:
        self._adaptor.streams.close_stream(link)

    def _session(self, service: bool) -> Session | None:
        sessions = self._sessions
        connection = self._adaptor.connection
        if connection.close_sent or connection.closed:
            return None
        if not sessions:
            for of_services in (True, False):
                session = sessions[of_services] = connection.session()
                try:
                    session.begin()
                except AmqpSessionError as error:
                    self._adaptor.log("warning", "no session for an uplink", reason=str(error))
                    return None
        session = sessions[service]
        return None if session.end_sent else session

    def _attach(self, link: Link, attach: Attach) -> bool:
        try:
            link.attach(attach)
        except AmqpSessionError as error:
            self._adaptor.log("warning", "no link for an address", reason=str(error))
            return False
        return True


def _own_attach(source: str, target: str, capability: str) -> Attach:
    """A link as the side that opens it describes it; name, handle and role are the link's."""
    capabilities = [capability] if capability else None
    policy = TerminusExpiryPolicy.LINK_DETACH
    return Attach(
        name="",
        handle=0,
        role=False,
        source=Source(address=source or None, expiry_policy=policy, capabilities=capabilities),
        target=Target(address=target or None, expiry_policy=policy, capabilities=capabilities),
    )


def _opens_nothing() -> AmqpLinkError:
    return AmqpLinkError(ErrorCondition.NOT_ALLOWED, "an edge router opens the links of this connection")
