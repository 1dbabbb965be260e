"""Connections between an edge router and an interior one, as the core sees them at both ends.

An edge has links per address, and anonymous ones for the rest. All of them carry annotations; nothing goes back over
the connection it came by, nor to another edge of the same mesh. The interior side tells an edge for each address that
it sends to whether somebody elsewhere receives (address tracking); which edge has what is announced in the network as
any address is. What an edge router does on its own side is in `edge_router.py`.
"""

from __future__ import annotations

import struct
from typing import ClassVar, Final, TypeAlias

from van.amqp.delivery import Delivery, DeliverySink, DeliverySource
from van.amqp.delivery_state import ACCEPTED, RELEASED, Rejected
from van.amqp.errors import DecodeError, ErrorCondition
from van.amqp.message import Message
from van.amqp.performatives import Error
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.routing.address import Address, Distribution
from van.routing.dialect.annotations import Annotations, decode_annotations, encode_annotations, section_end
from van.routing.edge_forwarder import forwarder_of
from van.routing.forwarder import Collector, drop_payload
from van.routing.incoming_link import STREAM_THRESHOLD
from van.routing.neighbor import spare_streams, stream_of
from van.routing.outgoing_link import OutgoingLink
from van.routing.router import DEFAULT_LINK_CAPACITY, MAX_ANNOTATIONS, MAX_REMEMBERED_SECTION, Router
from van.routing.router_link import (
    MAX_PRESETTLED,
    LinkOfMany,
    Retrier,
    RouterIncomingLink,
    SettledInside,
    UnsettledOutside,
    is_copy,
    take_another_way,
)

# Addresses of the two nodes that interior routers have for edges.
MESH_DISCOVERY: Final = "_$qd.mesh_discovery"
ADDRESS_TRACKING: Final = "_$qd.edge_addr_tracking"
MESH_ID: Final = "meshid"
MESH_ID_LENGTH: Final = 15
# An edge says once which mesh it is in; the peers give this credit.
MESH_CREDIT: Final = 3
# What one side tells the other beside deliveries is small: address and boolean, or an id.
MAX_SERVICE_MESSAGE: Final = 16384

_unpack_uint: Final = struct.Struct(">I").unpack_from
# Header with durable false, as the deployed routers write it.
_HEADER: Final = b"\x00\x53\x70\xd0\x00\x00\x00\x05\x00\x00\x00\x01\x42"


class EdgeAnnotations(Annotations):
    """Annotations of deliveries that came over one edge connection, `peer`."""

    __slots__ = ("peer",)

    def __init__(
        self, peer: EdgePeer, flags: int, to_override: str | None, ingress: str | None, trace: tuple[str, ...],
        mesh: str | None,
    ) -> None:  # fmt: skip
        super().__init__(flags, to_override, ingress, trace, mesh)
        self.peer = peer


class EdgeStreamOpener:
    """What an edge connection can do for the core; its adaptor implements it."""

    __slots__ = ()

    def open_stream(self) -> EdgeStreamLink | None:
        """Open an anonymous link for one streaming delivery at a time; None when the connection cannot have another."""
        raise NotImplementedError

    def close_stream(self, link: EdgeStreamLink) -> None:
        """Detach a streaming link that is not needed any more."""
        raise NotImplementedError


class EdgePeer:
    """The router at the other end of one edge connection.

    `number` is the connection's, `router_id` the peer's container-id. `mesh` names the mesh of edge routers that the
    peer is in, None while it has not said. `van` says that it is a router of our kind. `uplink` is set at the edge's
    end; `worker` where the peer is a process of this very router. `links` are those that carry deliveries.
    """

    __slots__ = (
        "alive",
        "annotations",
        "links",
        "mesh",
        "number",
        "router",
        "router_id",
        "stream_links",
        "streams",
        "tracking",
        "uplink",
        "van",
        "worker",
    )

    def __init__(
        self, router: Router, number: int, router_id: str, *, van: bool, streams: EdgeStreamOpener | None
    ) -> None:
        self.worker = False
        self.router = router
        self.number = number
        self.router_id = router_id
        self.van = van
        # None: the peer takes no streaming links.
        self.streams = streams
        self.uplink = False
        self.mesh: str | None = None
        self.alive = True
        self.annotations: dict[bytes, Annotations] = {}
        self.links: dict[EdgeIncomingLink | EdgeOutgoingLink, None] = {}
        self.stream_links: list[EdgeStreamLink] = []
        self.tracking: TrackingSender | None = None

    @property
    def group(self) -> str:
        """What counts as one place: a mesh of edge routers, or this connection alone."""
        return self.mesh if self.mesh is not None else f"#{self.number}"

    # -- links -----------------------------------------------------------------------------------------------------

    def incoming(self, link: ReceiverLink, address: Address, capacity: int, text: str) -> EdgeIncomingLink:
        """A link by which the peer sends to an address; for all addresses where `text`, which names it, is empty."""
        return EdgeIncomingLink(self.router, link, address, capacity, self, not text)

    def outgoing(self, link: SenderLink, address: Address, capacity: int, anonymous: bool) -> EdgeOutgoingLink:
        """A link by which the peer receives."""
        return EdgeOutgoingLink(link, address, capacity, self, anonymous)

    # -- annotations -----------------------------------------------------------------------------------------------

    def annotations_of(self, section: bytes) -> Annotations:
        """What a section of annotations from this peer says. Raises DecodeError.

        Deliveries of an edge come into the network here.
        """
        known = self.annotations.get(section)
        if known is None:
            read = decode_annotations(section) if section else Annotations()
            ingress, trace = (read.ingress, read.trace) if self.uplink else (None, ())
            mesh = read.mesh if read.mesh is not None else self.mesh
            known = self.router.prepared(EdgeAnnotations(self, read.flags, read.to_override, ingress, trace, mesh))
            if len(section) > MAX_REMEMBERED_SECTION:
                return known
            if len(self.annotations) >= MAX_ANNOTATIONS:
                self.annotations.clear()
            self.annotations[section] = known
        return known

    # -- mesh and tracking, at the interior's end --------------------------------------------------------------------

    def set_mesh(self, mesh: str) -> None:
        """The edge has said which mesh it is in."""
        if mesh == self.mesh:
            return
        self.mesh = mesh
        self.annotations.clear()
        for address in {link.address: None for link in self.links}:
            if address.edges is not None:
                self.router.advertise(address)

    def track(self, key: str, reachable: bool) -> None:
        """Tell the edge whether somebody elsewhere receives from an address."""
        if self.tracking is not None:
            self.tracking.tell(key, reachable)

    def link_ended(self, link: EdgeOutgoingLink) -> None:
        """Nothing is outstanding any more on a link that waited for that."""

    # -- streams -----------------------------------------------------------------------------------------------------

    def stream_link(self) -> EdgeStreamLink | None:
        """A link for a streaming delivery, None where the peer takes none."""
        if self.streams is None or not self.alive:
            return None
        return stream_of(self.stream_links, self.streams.open_stream)

    def close_idle_streams(self) -> None:
        """Close streaming links that were needed once and are not now."""
        if self.streams is None:
            return
        for link in spare_streams(self.stream_links):
            self.streams.close_stream(link)


class EdgeIncomingLink(RouterIncomingLink):
    """A link that the peer sends deliveries by: for one address, or (`anonymous`) for those that annotations name.

    Its credit comes back when a delivery has come; that of pre-settled deliveries to one address when they have left,
    so that a slow receiver holds their senders back. `leaving` are those that have not. At the interior's end `told`
    is what address tracking said last.
    """

    __slots__ = ("leaving", "peer", "told")

    def __init__(
        self, router: Router, link: ReceiverLink, address: Address, capacity: int, peer: EdgePeer, anonymous: bool
    ) -> None:
        super().__init__(router, link, address, capacity, None)
        self.anonymous = anonymous
        self.peer = peer
        self.told = False
        self.leaving: dict[Delivery, None] = {}
        peer.links[self] = None

    def annotations_of(self, section: bytes) -> Annotations:
        return self.peer.annotations_of(section)

    # -- from the link -------------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        delivery.origin = self
        presettled = delivery.settled and not delivery.aborted
        if presettled:
            self.leaving[delivery] = None
        if self.anonymous or not presettled:
            self._give_back()
        if delivery.chunks is not None or delivery.aborted:
            self._deliver_long(delivery)
            return
        payload = delivery.payload
        if payload[:11] == b"\x00\x80SKPR--RA\xd0" and len(payload) > 15:
            end: int = 15 + _unpack_uint(payload, 11)[0]
            annotations = self.peer.annotations.get(payload[:end])
            if annotations is not None:
                delivery.annotations = annotations
                delivery.payload = payload[end:]
                delivery.holder.held -= end
        self.forward(delivery)

    def deliver_run(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.deliver(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if delivery.target is not None or delivery.chunks is None:
            nowhere = delivery.target is None
            super().extend(delivery, payload)
            if nowhere and not delivery.more:
                self._leave(delivery)
        elif not delivery.more:
            self.forward(delivery)
        elif self.link.current_size > STREAM_THRESHOLD:
            self.stream(delivery)

    def stream(self, delivery: Delivery) -> None:
        self.grown_at = self.router.now
        self.forward(delivery)
        if delivery.target is not None:
            self.router.streams[self] = delivery

    def abort(self, delivery: Delivery) -> None:
        super().abort(delivery)
        self._leave(delivery)

    def refuse(self, delivery: Delivery, condition: str, description: str) -> None:
        super().refuse(delivery, condition, description)
        if not delivery.more:
            self._leave(delivery)

    def forward(self, delivery: Delivery) -> None:
        """Send a delivery, or the beginning of a stream, on its way."""
        if delivery.annotations is None and self.take_annotations(delivery) is None:
            return
        router = self.router
        if not self.anonymous:
            router.forward_to(self.address, delivery)
            return
        router.forward_routed(delivery)
        if len(self.leaving) > MAX_PRESETTLED:
            self._drop_oldest(delivery)

    def left(self, delivery: Delivery) -> None:
        self.presettled += 1
        self._leave(delivery)

    def _leave(self, delivery: Delivery) -> None:
        """A delivery needs nothing more from here: credit that was withheld for it goes back."""
        if delivery in self.leaving:
            del self.leaving[delivery]
            if not self.anonymous:
                self._give_back()

    def _give_back(self) -> None:
        owed = self.owed + 1
        self.owed = owed
        if owed >= self.grant_at and not self.blocked:
            self.owed = 0
            self.link.grant(owed)

    def track(self) -> None:
        """The link is there: the edge hears whether there is a receiver elsewhere."""
        edges = self.address.edges
        if edges is not None and not self.anonymous:
            edges.changed()

    # -- ends ----------------------------------------------------------------------------------------------------

    def lost(self) -> None:
        super().lost()
        self.peer.links.pop(self, None)
        edges = self.address.edges
        if edges is not None and self in edges.tracked:
            edges.tracked.remove(self)


class EdgeOutgoingLink(OutgoingLink):
    """A link to the peer: for one address, or (`anonymous`) for whatever has no link of its own.

    `waits_for_end` is set by an edge router that keeps the link only until nothing is outstanding on it.
    """

    between_routers: ClassVar[bool] = True

    __slots__ = ("anonymous", "peer", "waits_for_end")

    def __init__(
        self, link: SenderLink, address: Address, capacity: int, peer: EdgePeer, anonymous: bool
    ) -> None:
        super().__init__(link, address, capacity)
        self.peer = peer
        self.anonymous = anonymous
        self.waits_for_end = False
        self.presettles = False
        self.urgent = False
        peer.links[self] = None

    def echoes(self, delivery: Delivery) -> bool:
        annotations: Annotations | None = delivery.annotations
        if annotations is None:
            return False
        peer = self.peer
        if isinstance(annotations, EdgeAnnotations) and (peer.uplink or annotations.peer is peer):
            return True
        return annotations.mesh is not None and annotations.mesh == peer.mesh

    def enqueue(self, delivery: Delivery) -> None:
        annotations: Annotations | None = delivery.annotations
        if annotations is None:
            annotations = delivery.annotations = self._annotations_of_origin(delivery)
        chunks = delivery.chunks
        if chunks is None:
            if delivery.settled and self.anonymous and self.peer.van:
                outside = UnsettledOutside(delivery)
                outside.annotations = self.peer.router.presettled(annotations)
                self.enqueue(outside.copy())
                return
            section = annotations.forwarded
            delivery.payload = section + delivery.payload
            delivery.holder.held += len(section)
            self.outstanding += 1
            self.undelivered.append(delivery)
            link = self.link
            if not link.queued:
                link.ready()
            return
        router = self.peer.router
        section = router.streaming_section(annotations) if delivery.more else annotations.forwarded
        chunks.appendleft(section)
        delivery.holder.held += len(section)
        self.outstanding += 1
        stream = self.peer.stream_link() if delivery.more else None
        if stream is not None:
            stream.take(delivery, self)
            return
        if delivery.more:
            delivery.target = self
            self.streaming += 1
        self.undelivered.append(delivery)
        self.link.ready()

    def enqueue_run(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.enqueue(delivery)

    def _annotations_of_origin(self, delivery: Delivery) -> Annotations:
        """What the peer is told of a delivery that came into the network here."""
        source = delivery
        while isinstance(source.origin, (Collector, Retrier, SettledInside)):
            source = source.origin.delivery
        annotations: Annotations | None = source.annotations
        return annotations if annotations is not None else self.peer.router.origin_annotations(source)

    # -- from the link -------------------------------------------------------------------------------------------

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        super().updated(delivery, state, settled)
        if settled and self.waits_for_end:
            self.ended()

    def range_accepted(self, deliveries: list[Delivery]) -> None:
        super().range_accepted(deliveries)
        if self.waits_for_end:
            self.ended()

    def left(self, delivery: Delivery) -> None:
        super().left(delivery)
        if self.waits_for_end:
            self.ended()

    def dropped(self, delivery: Delivery) -> None:
        super().dropped(delivery)
        if self.waits_for_end:
            self.ended()

    def ended(self) -> None:
        """One delivery less is outstanding, while the link is wanted only for those that are."""
        if self.outstanding == 0:
            self.peer.link_ended(self)

    def lost(self) -> None:
        """The link is gone: what was not sent takes another way where there is one, the rest is in doubt."""
        self.waits_for_end = False
        undelivered = list(self.undelivered)
        self.undelivered.clear()
        super().lost()
        self.peer.links.pop(self, None)
        edges = self.address.edges
        if edges is not None and self in edges.links:
            edges.links.remove(self)
            edges.changed()
        for delivery in undelivered:
            if delivery.more or is_copy(delivery):
                self.give_up(delivery, RELEASED)
            else:
                self.dropped(delivery)
                take_another_way(self.address, delivery)


class EdgeStreamLink(LinkOfMany):
    """An anonymous link to the peer, for one streaming delivery at a time."""

    __slots__ = ("peer",)

    def __init__(self, link: SenderLink, address: Address, capacity: int, peer: EdgePeer) -> None:
        super().__init__(link, address, capacity)
        self.peer = peer
        peer.stream_links.append(self)
        link.source = self
        peer.router.stream_opened()

    def take(self, delivery: Delivery, via: EdgeOutgoingLink) -> None:
        """Take a streaming delivery from the link that it would have gone by, and that goes on counting it."""
        delivery.via = via
        delivery.target = self
        self.outstanding += 1
        self.streaming += 1
        self.undelivered.append(delivery)
        self.link.ready()

    def dropped(self, delivery: Delivery) -> None:
        via: EdgeOutgoingLink | None = delivery.via
        super().dropped(delivery)
        if via is not None and via.waits_for_end:
            via.ended()

    def lost(self) -> None:
        if self in self.peer.stream_links:
            self.peer.stream_links.remove(self)
        super().lost()


class EdgeAddress:
    """What the edges connected to an interior router have to do with one address.

    `links` lead to edges that receive, `tracked` come from edges that send. `mesh` names the mesh that all receivers
    here sit in, None where there is none or there are others; `mesh_advertised` is what the network was told.
    """

    __slots__ = ("address", "links", "mesh", "mesh_advertised", "router", "tracked")

    def __init__(self, router: Router, address: Address) -> None:
        self.router = router
        self.address = address
        self.links: list[EdgeOutgoingLink] = []
        self.tracked: list[EdgeIncomingLink] = []
        self.mesh: str | None = None
        self.mesh_advertised: str | None = None

    def changed(self) -> None:
        """Receivers came or went, here or elsewhere, or an edge said which mesh it is in."""
        address = self.address
        links = self.links
        address.forward = forwarder_of(address.distribution, edges=bool(links))
        others = len(address.outgoing) > len(links)
        meshes = {link.peer.mesh for link in links}
        self.mesh = next(iter(meshes)) if len(meshes) == 1 and not others else None
        if not self.tracked:
            return
        here = {link.peer.group for link in links}
        anywhere = here | self._elsewhere()
        closest = address.distribution is Distribution.CLOSEST
        for incoming in self.tracked:
            peer = incoming.peer
            # Of one router, its receivers in any of its processes are closer than those of all others.
            groups = here if closest and peer.worker and peer.group in here else anywhere
            reachable = others or len(groups) > 1 or (len(groups) == 1 and incoming.peer.group not in groups)
            if reachable is not incoming.told:
                incoming.told = reachable
                incoming.peer.track(address.key, reachable)

    def _elsewhere(self) -> set[str]:
        """The meshes that have receivers at other routers; a router whose receivers sit in several counts as one."""
        remote = self.address.remote
        engine = self.router.engine
        groups: set[str] = set()
        if remote is not None and engine is not None:
            for router_id in remote.routers:
                node = engine.nodes.get(router_id)
                mobile = node.addresses.get(self.address.key) if node is not None else None
                mesh = mobile.mesh if mobile is not None else None
                groups.add(mesh if mesh is not None else f"0/{router_id}")
        return groups


# -- the interior's end ------------------------------------------------------------------------------------------------


def edge_address(router: Router, address: Address) -> EdgeAddress:
    """What edges have to do with an address, made for the first of them."""
    edges = address.edges
    if edges is None:
        edges = address.edges = EdgeAddress(router, address)
    return edges


def edge_opened(
    router: Router, number: int, router_id: str, *, van: bool, streams: EdgeStreamOpener | None
) -> EdgePeer:
    """A connection from an edge router is open."""
    peer = EdgePeer(router, number, router_id, van=van, streams=streams)
    router.edge_peers[number] = peer
    return peer


def edge_lost(peer: EdgePeer) -> None:
    """The connection is over: nothing new takes this way."""
    peer.alive = False
    peer.tracking = None
    peer.router.edge_peers.pop(peer.number, None)


def attach_incoming(
    peer: EdgePeer, link: ReceiverLink, text: str, capacity: int = DEFAULT_LINK_CAPACITY
) -> EdgeIncomingLink:
    """Take a link that the peer sends by; an empty `text` is the anonymous terminus.

    Raises `AmqpLinkError` when the address cannot be had.
    """
    router = peer.router
    address = router.usable(text) if text else router.routed
    incoming = peer.incoming(link, address, capacity, text)
    link.sink = incoming
    if text:
        address.add_incoming(incoming)
        if peer.worker or (address.key[0] == "M" and not address.key.startswith("M$")):
            edge_address(router, address).tracked.append(incoming)
    return incoming


def attach_outgoing(
    peer: EdgePeer, link: SenderLink, text: str, capacity: int = DEFAULT_LINK_CAPACITY
) -> EdgeOutgoingLink:
    """Take a link by which an edge receives from an address. Raises `AmqpLinkError` when the address cannot be had."""
    router = peer.router
    return _outgoing(peer, link, router.received(text), capacity, False)


def attach_downlink(
    peer: EdgePeer, link: SenderLink, edge_id: str, capacity: int = DEFAULT_LINK_CAPACITY
) -> EdgeOutgoingLink:
    """Take the link for everything that is addressed to the edge router itself, or to who is attached there."""
    return _outgoing(peer, link, peer.router.address(f"_edge/{edge_id}/"), capacity, True)


def _outgoing(
    peer: EdgePeer, link: SenderLink, address: Address, capacity: int, anonymous: bool
) -> EdgeOutgoingLink:
    outgoing = peer.outgoing(link, address, capacity, anonymous)
    link.source = outgoing
    if address.priority is not None:
        link.priority = address.priority
    edge_address(peer.router, address).links.append(outgoing)
    return outgoing


# -- what the routers tell one another ---------------------------------------------------------------------------------


class ServiceReceiver(DeliverySink):
    """A link that the peer tells something by, in small messages."""

    __slots__ = ("capacity", "link", "peer")

    def __init__(self, peer: EdgePeer, link: ReceiverLink, capacity: int) -> None:
        self.peer = peer
        self.link = link
        self.capacity = capacity
        link.sink = self

    def started(self) -> None:
        """Both sides have attached."""
        self.link.grant(self.capacity)

    def lost(self) -> None:
        """The link is gone."""

    def take(self, message: Message) -> None:
        """Take what the peer says. Raises DecodeError."""
        raise NotImplementedError

    def deliver(self, delivery: Delivery) -> None:
        if delivery.aborted:
            self.link.grant(1)
        elif delivery.chunks is None:
            if len(delivery.payload) > MAX_SERVICE_MESSAGE:
                drop_payload(delivery)
            self._take(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if delivery.chunks is not None and self.link.current_size > MAX_SERVICE_MESSAGE:
            drop_payload(delivery)
        if not delivery.more:
            self._take(delivery)

    def _take(self, delivery: Delivery) -> None:
        octets = delivery.data()
        drop_payload(delivery)
        self.link.grant(1)
        state: object = ACCEPTED
        try:
            self.take(Message.decode(octets[section_end(octets) :]))
        except DecodeError as error:
            state = Rejected(error=Error(condition=ErrorCondition.DECODE_ERROR, description=error.description))
        if not delivery.settled:
            self.link.session.settle(delivery, state)

    def abort(self, delivery: Delivery) -> None:
        drop_payload(delivery)
        self.link.grant(1)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """What it says has been taken already."""

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        """Nothing is passed on from here."""

    def left(self, delivery: Delivery) -> None:
        """Nothing is passed on from here."""


class ServiceSender(DeliverySource):
    """A link by which the peer is told something. What became of it does not matter."""

    __slots__ = ("link", "peer")

    def __init__(self, peer: EdgePeer, link: SenderLink) -> None:
        super().__init__()
        self.peer = peer
        self.link = link
        link.source = self

    def send(self, payload: bytes) -> Delivery:
        """Send a message as soon as there is credit."""
        delivery = Delivery(None, 0, b"", payload, False, self.peer.router.own_octets)
        delivery.holder.held += len(payload)
        self.undelivered.append(delivery)
        self.link.ready()
        return delivery

    def lost(self) -> None:
        """The link is gone."""
        unsettled = self.link.session.unsettled_out
        for delivery in [delivery for delivery in unsettled.values() if delivery.sender is self.link]:
            del unsettled[delivery.out_id]
        for delivery in self.undelivered:
            drop_payload(delivery)
        self.undelivered.clear()

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        if state is not None and not settled:
            self.link.update(delivery, state, True)

    def left(self, delivery: Delivery) -> None:
        """Written: that is all."""

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        """These messages are whole."""

    def abort(self, delivery: Delivery) -> None:
        """These messages are whole."""

    def others_wait(self) -> bool:
        return False


# The owner of a link that carries no deliveries of applications.
EdgeService: TypeAlias = ServiceReceiver | ServiceSender


class MeshReceiver(ServiceReceiver):
    """Mesh discovery, at the interior's end: the edge says which mesh it is in."""

    __slots__ = ()

    def take(self, message: Message) -> None:
        mesh = (message.application_properties or {}).get(MESH_ID)
        if not isinstance(mesh, str) or not mesh or len(mesh) > MESH_ID_LENGTH:
            raise DecodeError(f"mesh discovery without {MESH_ID}")
        self.peer.set_mesh(str(mesh))


class TrackingSender(ServiceSender):
    """Address tracking, at the interior's end. Of what has not been sent yet, only the last word on an address is."""

    __slots__ = ("_section", "_waiting")

    def __init__(self, peer: EdgePeer, link: SenderLink) -> None:
        super().__init__(peer, link)
        node = peer.router.node
        self._section = encode_annotations(0, None, node, (node,))
        self._waiting: dict[str, Delivery] = {}
        peer.tracking = self

    def started(self) -> None:
        """Both sides have attached: links that came before this one are told of now."""
        for link in self.peer.links:
            if isinstance(link, EdgeIncomingLink) and link.told:
                self.tell(link.address.key, True)

    def tell(self, key: str, reachable: bool) -> None:
        """Say whether somebody elsewhere receives from an address."""
        payload = self._section + tracking_message(key, reachable)
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.sender is None:
            waiting.holder.held += len(payload) - len(waiting.payload)
            waiting.payload = payload
            return
        self._waiting[key] = self.send(payload)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        super().updated(delivery, state, settled)
        if settled:
            for key in [key for key, waiting in self._waiting.items() if waiting is delivery]:
                del self._waiting[key]

    def lost(self) -> None:
        super().lost()
        self._waiting.clear()
        if self.peer.tracking is self:
            self.peer.tracking = None


def tracking_message(key: str, reachable: bool) -> bytes:
    """Header, and a list of the address's key and whether somebody elsewhere receives from it."""
    octets = key.encode()
    text = b"\xa1" + bytes((len(octets),)) if len(octets) < 256 else b"\xb1" + len(octets).to_bytes(4, "big")
    items = text + octets + (b"\x41" if reachable else b"\x42")
    return _HEADER + b"\x00\x53\x77\xd0" + struct.pack(">II", len(items) + 4, 2) + items
