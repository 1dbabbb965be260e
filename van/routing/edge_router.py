"""The core of an edge router: it hangs on an interior router by one connection, the active uplink.

Over the uplink it has an anonymous link for whatever is addressed to elsewhere, the downlink for what is addressed to
itself, and for each address with receivers here a link to receive by, for each with senders here a link to send by. The
latter counts as one more receiver of its address while the interior router says that there is one (address tracking).
Other uplinks stand by.
"""

from __future__ import annotations

from typing import ClassVar, Final

from van.amqp.delivery import Delivery
from van.amqp.errors import AmqpLinkError, DecodeError, ErrorCondition
from van.amqp.link import Link
from van.amqp.message import AmqpValue, Message
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.routing.address import MAX_ADDRESS_LENGTH, Address, Distribution, address_key
from van.routing.dialect.annotations import Annotations, encode_annotations
from van.routing.dialect.recognition import EDGE_DOWNLINK
from van.routing.edge import (
    ADDRESS_TRACKING,
    MESH_DISCOVERY,
    MESH_ID,
    MESH_ID_LENGTH,
    EdgeIncomingLink,
    EdgeOutgoingLink,
    EdgePeer,
    EdgeService,
    EdgeStreamOpener,
    ServiceReceiver,
    ServiceSender,
)
from van.routing.edge_forwarder import forwarder_of
from van.routing.forwarder import Collector, no_destination
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import OutgoingLink
from van.routing.router import DEFAULT_LINK_CAPACITY, LinkOwner, Router

# Tracking messages are small and many after a start; the peers give this credit.
TRACKING_CREDIT: Final = 32
# An interior router that knows a receiver says so within a round trip after the links are there. Until then, this many
# seconds after an uplink was replaced, senders go on by its anonymous link.
TRUST_SECONDS: Final = 2.0
# How long a link stays whose last delivery was given up in the middle: until that is written, at a look each time.
ABORT_SECONDS: Final = 0.05
# Deliveries from elsewhere may have passed any number of routers; those know how many are too many.
NO_MAX_HOPS: Final = 1 << 30


class UplinkOpener(EdgeStreamOpener):
    """What a connection to an interior router can do for the core; its adaptor implements it."""

    __slots__ = ()

    def open_receiver(self, address: str, capability: str = "", *, service: bool = False) -> ReceiverLink | None:
        """Attach a receiver whose source has this address; None when the connection cannot have another link.

        Links of the routers themselves (`service`) have a session of their own.
        """
        raise NotImplementedError

    def open_sender(self, address: str, *, service: bool = False) -> SenderLink | None:
        """Attach a sender whose target has this address; empty: none."""
        raise NotImplementedError

    def owned(self, link: Link, owner: LinkOwner | EdgeService) -> None:
        """Say who is to be told of a link's end."""
        raise NotImplementedError

    def close_link(self, link: Link) -> None:
        """Detach a link that is not needed any more; its owner is told."""
        raise NotImplementedError


class Uplink(EdgePeer):
    """A connection to an interior router; `sender` is the anonymous link while it is the active one."""

    __slots__ = ("edge", "opener", "sender")

    def __init__(
        self, edge: EdgeRouter, number: int, router_id: str, *, van: bool, opener: UplinkOpener, streams: bool
    ) -> None:
        super().__init__(edge, number, router_id, van=van, streams=opener if streams else None)
        self.edge = edge
        self.opener = opener
        self.uplink = True
        self.sender: EdgeOutgoingLink | None = None

    def link_ended(self, link: EdgeOutgoingLink) -> None:
        self.edge.proxy_ended(link)


class Proxies:
    """What an address with receivers or senders here has on the active uplink.

    `receiver` is there for receivers, `sender` for senders; `bound` is the link that counts as a receiver of the
    address, if the interior router knows one: `sender`, or for a moment the anonymous link of a new uplink. `refused`
    says that the peer has detached a link: it is not asked again as long as the same senders and receivers are here.
    """

    __slots__ = ("bound", "receiver", "refused", "sender")

    def __init__(self) -> None:
        self.receiver: EdgeIncomingLink | None = None
        self.sender: EdgeOutgoingLink | None = None
        self.bound: EdgeOutgoingLink | None = None
        self.refused = False


class EdgeRouter(Router):
    """The core of an edge router; constructed as a `Router`, which is its interface to adaptors.

    `mesh` names the mesh of edge routers that it is: itself alone. `active` is the uplink in use, `uplinks` holds all
    of them, in the order in which they opened.
    """

    default_mode: ClassVar[str] = "edge"

    def _prepare(self) -> None:
        self.mesh = self.tokens()[:MESH_ID_LENGTH]
        self.max_hops = NO_MAX_HOPS
        self.uplinks: list[Uplink] = []
        self.active: Uplink | None = None
        self.proxies: dict[Address, Proxies] = {}
        # Addresses taken for reachable, and until when.
        self._trusted: dict[Address, float] = {}
        # Addresses that may have a link which is not needed any more, and when to look.
        self._ended: dict[Address, float] = {}
        # Everything that is elsewhere by its name; no address of its own, and in no table.
        self.elsewhere = Address(
            "L_edge", Distribution.BALANCED, forwarder_of(Distribution.BALANCED, edges=True), None, self.budget.copied
        )

    # -- uplinks -------------------------------------------------------------------------------------------------

    def uplink_opened(self, number: int, router_id: str, *, van: bool, opener: UplinkOpener, streams: bool) -> Uplink:
        """A connection to an interior router is open: it is used if no other is.

        streams: whether the peer takes streaming links.
        """
        uplink = self.new_uplink(number, router_id, van=van, opener=opener, streams=streams)
        self.uplinks.append(uplink)
        self.edge_peers[number] = uplink
        if self.active is None and not self.ending:
            self._activate(uplink)
        return uplink

    def new_uplink(self, number: int, router_id: str, *, van: bool, opener: UplinkOpener, streams: bool) -> Uplink:
        """The core's side of a connection to an interior router."""
        return Uplink(self, number, router_id, van=van, opener=opener, streams=streams)

    def uplink_lost(self, uplink: Uplink) -> None:
        """A connection is over, or of no use: another takes its place. Called before its links are detached."""
        if not uplink.alive:
            return
        uplink.alive = False
        self.uplinks.remove(uplink)
        self.edge_peers.pop(uplink.number, None)
        if uplink is not self.active:
            return
        self.active = None
        found = []
        for address, proxies in self.proxies.items():
            if proxies.bound is not None:
                found.append(address)
                self._unbind(address, proxies)
        self.proxies.clear()
        if uplink.sender is not None:
            self.elsewhere.remove_outgoing(uplink.sender)
        following = self.uplinks[0] if self.uplinks and not self.ending else None
        self._tell_lost(uplink, following)
        if following is not None:
            self._activate(following)
            for address in found:
                self._trust(following, address)

    def _tell_lost(self, uplink: Uplink, following: Uplink | None) -> None:
        self.log(
            "info" if self.ending else "warning",
            "uplink lost",
            uplink=uplink.router_id,
            following=following.router_id if following is not None else None,
        )

    def _activate(self, uplink: Uplink) -> None:
        """Open the links that an active uplink has, in the order in which the deployed edges do."""
        self.active = uplink
        self.log("info", "uplink in use", uplink=uplink.router_id, standing_by=len(self.uplinks) - 1)
        opener = uplink.opener
        mesh = opener.open_sender(MESH_DISCOVERY, service=True)
        if mesh is not None:
            announcement = ServiceSender(uplink, mesh)
            opener.owned(mesh, announcement)
            announcement.send(encode_annotations(0, None, None, (), self.mesh) + mesh_message(self.mesh))
        self._send_elsewhere(uplink)
        downlink = opener.open_receiver(self.id, EDGE_DOWNLINK)
        if downlink is not None:
            self._receive(uplink, downlink, self.routed, "")
        self._track(uplink)

    def _send_elsewhere(self, uplink: Uplink) -> None:
        """Open the anonymous link."""
        anonymous = uplink.opener.open_sender("")
        if anonymous is not None:
            sender = uplink.outgoing(anonymous, self.elsewhere, DEFAULT_LINK_CAPACITY, True)
            anonymous.source = uplink.sender = sender
            uplink.opener.owned(anonymous, sender)
            self.elsewhere.add_outgoing(sender)

    def _track(self, uplink: Uplink) -> None:
        """Open address tracking, and the links of all addresses."""
        tracking = uplink.opener.open_receiver(ADDRESS_TRACKING, service=True)
        if tracking is not None:
            uplink.opener.owned(tracking, TrackingReceiver(self, uplink, tracking))
        for address in list(self.addresses.values()):
            self._sync(address)

    def _receive(self, uplink: Uplink, link: ReceiverLink, address: Address, text: str) -> EdgeIncomingLink:
        incoming = uplink.incoming(link, address, DEFAULT_LINK_CAPACITY, text)
        link.sink = incoming
        uplink.opener.owned(link, incoming)
        return incoming

    # -- links per address ---------------------------------------------------------------------------------------

    def _text_of(self, key: str) -> str:
        """The address of a link to the interior router for what has this key; empty for what has none."""
        return key[1:] if key[:1] == "M" and not key.startswith("M$") else ""

    def _sync(self, address: Address) -> None:
        """Open and close links of the active uplink as the receivers and senders of an address here want it."""
        uplink = self.active
        key = address.key
        text = self._text_of(key)
        if uplink is None or not text:
            return
        proxies = self.proxies.get(address)
        consumers = len(address.outgoing)
        producers = len(address.incoming)
        if proxies is None:
            if not consumers and not producers:
                return
            proxies = self.proxies[address] = Proxies()
        elif proxies.bound is not None:
            consumers -= 1
        opener = uplink.opener
        if not consumers and proxies.receiver is not None:
            receiver = proxies.receiver
            proxies.receiver = None
            opener.close_link(receiver.link)
        elif consumers and proxies.receiver is None and not proxies.refused:
            incoming = opener.open_receiver(text)
            if incoming is not None:
                proxies.receiver = self._receive(uplink, incoming, address, text)
        if not producers and proxies.sender is not None:
            sender = proxies.sender
            if sender.outstanding:
                # Its senders are gone, what they sent is under way.
                sender.waits_for_end = True
            elif sender.link.current is not None:
                # The end of a stream that was given up is to be written before the link's.
                self._ended[address] = self.now + ABORT_SECONDS
            else:
                self._unbind(address, proxies)
                proxies.sender = None
                opener.close_link(sender.link)
        elif producers and proxies.sender is not None:
            proxies.sender.waits_for_end = False
        elif producers and not proxies.refused:
            outgoing = opener.open_sender(text)
            if outgoing is not None:
                sender = uplink.outgoing(outgoing, address, DEFAULT_LINK_CAPACITY, False)
                outgoing.source = proxies.sender = sender
                if address.priority is not None:
                    outgoing.priority = address.priority
                opener.owned(outgoing, sender)
        if not producers and proxies.sender is None and proxies.bound is not None:
            self._unbind(address, proxies)
        if not consumers and not producers and proxies.sender is None:
            self.proxies.pop(address, None)
            self.release(address)

    def proxy_ended(self, link: EdgeOutgoingLink) -> None:
        """Nothing is outstanding any more for senders that are gone: the link can go, behind what is being written."""
        self._ended[link.address] = self.now

    def tracked(self, key: str, reachable: bool) -> None:
        """The interior router says whether somebody elsewhere receives from an address."""
        address = self.addresses.get(key)
        proxies = self.proxies.get(address) if address is not None else None
        if address is None or proxies is None:
            return
        if reachable:
            if proxies.sender is not None and proxies.bound is not proxies.sender:
                self._bind(address, proxies, proxies.sender)
        else:
            self._unbind(address, proxies)
            self.release(address)

    def _bind(self, address: Address, proxies: Proxies, link: EdgeOutgoingLink) -> None:
        """A link to the interior router counts as a receiver of the address."""
        before = proxies.bound
        proxies.bound = link
        address.forward = forwarder_of(address.distribution, edges=True)
        address.add_outgoing(link)
        if before is not None:
            address.remove_outgoing(before)

    def _unbind(self, address: Address, proxies: Proxies) -> None:
        if proxies.bound is not None:
            address.remove_outgoing(proxies.bound)
            proxies.bound = None
            address.forward = forwarder_of(address.distribution, edges=False)

    def _trust(self, uplink: Uplink, address: Address) -> None:
        """There was a receiver elsewhere, and the new uplink has not said yet that it knows it: take it for granted."""
        proxies = self.proxies.get(address)
        if uplink.sender is not None and proxies is not None and proxies.sender is not None and proxies.bound is None:
            self._trusted[address] = self.now + TRUST_SECONDS
            self._bind(address, proxies, uplink.sender)

    # -- Router --------------------------------------------------------------------------------------------------

    def temporary_address(self, mobile: bool) -> str:
        return super().temporary_address(True) if mobile else f"amqp:/_edge/{self.id}/temp.{self.tokens()}"

    def attach_incoming(
        self,
        link: ReceiverLink,
        text: str,
        capacity: int = DEFAULT_LINK_CAPACITY,
        limit: int = 0,
        *,
        broker: bool = False,
    ) -> IncomingLink:
        incoming = super().attach_incoming(link, text, capacity, limit, broker=broker)
        if not incoming.anonymous:
            self._wanted(incoming.address)
        return incoming

    def advertise(self, address: Address) -> None:
        self._wanted(address)

    def withdrawn(self, link: OutgoingLink) -> None:
        # Outcomes go back by the link that the deliveries came by: it stays until there are none to come.
        if not link.outstanding:
            self.advertise(link.address)

    def _wanted(self, address: Address) -> None:
        """Receivers or senders of an address came or went here."""
        proxies = self.proxies.get(address)
        if proxies is not None:
            proxies.refused = False
        self._sync(address)

    def detached(self, link: LinkOwner) -> None:
        if isinstance(link, (EdgeIncomingLink, EdgeOutgoingLink)):
            proxies = self.proxies.get(link.address)
            if proxies is not None and link in (proxies.receiver, proxies.sender):
                # The peer has detached it.
                proxies.refused = True
                if link is proxies.receiver:
                    proxies.receiver = None
                else:
                    if proxies.bound is link:
                        self._unbind(link.address, proxies)
                    proxies.sender = None
            link.lost()
            self.release(link.address)
            return
        super().detached(link)
        if isinstance(link, IncomingLink) and not link.anonymous:
            self._wanted(link.address)

    def received(self, text: str) -> Address:
        address = super().received(text)
        if address is self.elsewhere:
            raise AmqpLinkError(ErrorCondition.NOT_FOUND, f"what is sent to {text} goes to another router")
        return address

    def usable(self, text: str) -> Address:
        key = address_key(text, self.id)
        if len(key) > 1 and key[0] in "TRHA" and len(text) <= MAX_ADDRESS_LENGTH:
            return self.elsewhere
        return super().usable(text)

    def _section(self, annotations: Annotations, flags: int) -> bytes:
        # An edge is no router that others know: where it sends to is where deliveries come into the network.
        return encode_annotations(flags, annotations.to_override, None, (), self.mesh)

    def _forward_anonymous(self, pseudo: Address, delivery: Delivery) -> None:
        """Send a delivery to the address that its properties name: to receivers here, else to the interior router."""
        if delivery.origin is None:
            return
        to = self._to_of(delivery)
        if to is None:
            return
        key = address_key(to, self.id)
        address = self.addresses.get(key)
        uplink = self.active
        delivery.annotations = self.annotations_to(to)
        if address is None or not address.outgoing:
            if (key[0] == "L" or key.startswith("M$")) and not self._text_of(key):
                no_destination(pseudo, delivery)
            else:
                self.elsewhere.forward(self.elsewhere, delivery)
            return
        if address.distribution is Distribution.MULTICAST and uplink is not None and uplink.sender is not None:
            proxies = self.proxies.get(address)
            if proxies is None or proxies.bound is None:
                # Nobody here sends to the address by a link of its own, so whether there are receivers elsewhere is
                # not known.
                Collector(delivery, address.copied).hand_out([*address.outgoing, uplink.sender])
                return
        address.forward(address, delivery)

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        return min((super().next_deadline(), *self._trusted.values(), *self._ended.values()))

    def handle_deadline(self, now: float) -> None:
        super().handle_deadline(now)
        for address in [address for address, when in self._ended.items() if now >= when]:
            del self._ended[address]
            self._sync(address)
        for address in [address for address, until in self._trusted.items() if now >= until]:
            del self._trusted[address]
            proxies = self.proxies.get(address)
            if proxies is not None and proxies.bound is not proxies.sender:
                self._unbind(address, proxies)


class TrackingReceiver(ServiceReceiver):
    """Address tracking, at the edge's end."""

    __slots__ = ("_edge",)

    def __init__(self, edge: EdgeRouter, uplink: Uplink, link: ReceiverLink) -> None:
        super().__init__(uplink, link, TRACKING_CREDIT)
        self._edge = edge

    def take(self, message: Message) -> None:
        body = message.body
        value = body.value if isinstance(body, AmqpValue) else None
        if not isinstance(value, list) or len(value) != 2:
            raise DecodeError("address tracking: no list of two")
        key, reachable = value
        if not isinstance(key, str) or not isinstance(reachable, bool):
            raise DecodeError("address tracking: no key and boolean")
        if self._edge.active is self.peer:
            self._edge.tracked(str(key), reachable)


def mesh_message(mesh: str) -> bytes:
    """Application properties with the mesh's id, as the deployed edges write them."""
    items = encode_symbol(MESH_ID) + encode_text(mesh)
    return b"\x00\x53\x74\xd1" + (len(items) + 4).to_bytes(4, "big") + b"\x00\x00\x00\x02" + items


def encode_symbol(text: str) -> bytes:
    """A short symbol."""
    return b"\xa3" + bytes((len(text),)) + text.encode()


def encode_text(text: str) -> bytes:
    """A short string."""
    octets = text.encode()
    return b"\xa1" + bytes((len(octets),)) + octets
