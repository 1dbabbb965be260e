"""Data links between routers: deliveries come with annotations, and leave with annotations.

`RouterIncomingLink` takes the annotations off, and gives credit back at once: what bounds the number of deliveries is
the credit of the link where they came into the network. A `Hop` is one address's way over one neighbour: it puts
annotations on and picks the link by priority. Large deliveries take links of their own.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar, Final

from van.amqp.delivery import Delivery, DeliveryOrigin, Holder
from van.amqp.delivery_state import ACCEPTED, RELEASED, Rejected, Released
from van.amqp.errors import DecodeError, ErrorCondition
from van.amqp.link import RCV_SECOND
from van.amqp.message import read_priority
from van.amqp.performatives import Error
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.routing.address import Address, Distribution
from van.routing.dialect.annotations import (
    PREFIX,
    STREAMING,
    Annotations,
    section_end,
)
from van.routing.forwarder import LAST_CHOICE, Collector, drop_payload, forward_run, no_destination
from van.routing.incoming_link import STREAM_THRESHOLD, IncomingLink
from van.routing.outgoing_link import DEFAULT_PRIORITY, FAILED, HIGHEST_PRIORITY, OutgoingLink, tell_accepted

if TYPE_CHECKING:
    from van.routing.neighbor import Neighbor
    from van.routing.router import Router

# Pre-settled deliveries of a peer that does not wait for credit end to end: so many may wait here for one receiver,
# then the oldest are dropped, as the C routers do.
MAX_PRESETTLED: Final = 250
# The C routers consider a neighbour eligible for *balanced* while fewer deliveries than this are outstanding there.
HOP_CAPACITY: Final = 250

_unpack_uint: Final = struct.Struct(">I").unpack_from


class RouterIncomingLink(IncomingLink):
    """A link that a neighbour sends deliveries by, for any address."""

    between_routers: ClassVar[bool] = True

    __slots__ = ("neighbor", "settled_waiting")

    def __init__(self, router: Router, link: ReceiverLink, address: Address, capacity: int, neighbor: Neighbor | None):
        super().__init__(router, link, address, capacity, True)
        self.neighbor = neighbor
        self.settled_waiting = 0

    # -- from the link -------------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        delivery.origin = self
        self._give_credit(1)
        if delivery.chunks is not None or delivery.aborted:
            self._deliver_long(delivery)
            return
        payload = delivery.payload
        router = self.router
        if payload[:11] == b"\x00\x80SKPR--RA\xd0" and len(payload) > 15:
            end: int = 15 + _unpack_uint(payload, 11)[0]
            annotations = router.annotations.get(payload[:end])
            if annotations is not None and annotations.key is not None and not delivery.settled:
                delivery.annotations = annotations
                delivery.payload = payload[end:]
                delivery.holder.held -= end
                address = router.addresses.get(annotations.key)
                if address is not None and len(annotations.trace) <= router.max_hops:
                    if annotations.flags:
                        router.forward_to(address, delivery)
                    else:
                        address.forward(address, delivery)
                    return
        address = self.address
        address.forward(address, delivery)
        if self.settled_waiting > MAX_PRESETTLED:
            self._drop_oldest(delivery)

    def deliver_run(self, deliveries: list[Delivery]) -> None:
        if deliveries[0].settled:
            for delivery in deliveries:
                self.deliver(delivery)
            return
        # Those that follow one another often came by one link, and have the same octets in front.
        router = self.router
        section = b""
        annotations: Annotations | None = None
        alike: list[Delivery] = []
        for delivery in deliveries:
            payload = delivery.payload
            if annotations is None or not payload.startswith(section):
                self._forward_alike(alike)
                alike = []
                annotations = None
                if payload[:11] == b"\x00\x80SKPR--RA\xd0" and len(payload) > 15:
                    section = payload[: 15 + _unpack_uint(payload, 11)[0]]
                    annotations = router.annotations.get(section)
                if annotations is None or annotations.flags or annotations.key not in router.addresses:
                    annotations = None
                    self.deliver(delivery)
                    continue
            delivery.annotations = annotations
            delivery.payload = payload[len(section) :]
            delivery.holder.held -= len(section)
            alike.append(delivery)
        self._forward_alike(alike)

    def _forward_alike(self, deliveries: list[Delivery]) -> None:
        """Forward deliveries of which the same is known."""
        if not deliveries:
            return
        self._give_credit(len(deliveries))
        annotations: Annotations = deliveries[0].annotations
        assert annotations.key is not None
        address = self.router.addresses.get(annotations.key)
        if address is not None and len(annotations.trace) <= self.router.max_hops:
            forward_run(address, deliveries)
        else:
            for delivery in deliveries:
                self.router.forward_routed(delivery)

    def _give_credit(self, count: int) -> None:
        """Deliveries have come: their credit goes back."""
        owed = self.owed + count
        self.owed = owed
        if owed >= self.grant_at and not self.blocked:
            self.owed = 0
            self.link.grant(owed)

    def _deliver_long(self, delivery: Delivery) -> None:
        """Take the beginning of a delivery of several frames."""
        if delivery.aborted:
            return
        self.grown_at = self.router.now
        if self.link.current_size > STREAM_THRESHOLD or self._flagged(delivery):
            self.stream(delivery)

    def _flagged(self, delivery: Delivery) -> bool:
        """Whether its sender's router says that it is a stream: it is not waited for then."""
        chunks = delivery.chunks
        if not chunks:
            return False
        first = bytes(chunks[0])
        # Flags that matter are small: 00 80 .. d0 size count 52 flags.
        return first.startswith(PREFIX) and first[19:20] == b"\x52" and len(first) > 20 and bool(first[20] & STREAMING)

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        link = self.link
        if not settled or state is not ACCEPTED or delivery.more or link.rcv_settle_mode == RCV_SECOND:
            if not self.outcome_settles(delivery, state, settled):
                return
        link.session.settle(delivery, state)

    def accepted(self, deliveries: list[Delivery]) -> None:
        if not self.accepts(deliveries):
            DeliveryOrigin.accepted(self, deliveries)

    def left(self, delivery: Delivery) -> None:
        if self.settled_waiting:
            self.settled_waiting -= 1

    def replenish(self, credit: int) -> None:
        """Deliveries had their credit back when they came."""

    def flow_received(self, link: ReceiverLink, returned: int) -> None:
        if returned:
            self.owed += returned
            if self.owed >= self.grant_at and not self.blocked:
                link.grant(self.owed)
                self.owed = 0

    def starve(self) -> None:
        """Other addresses need the credit."""

    # -- on the way to an address --------------------------------------------------------------------------------

    def take_annotations(self, delivery: Delivery) -> Annotations | None:
        """Take the annotations off a delivery; None when it was refused for them."""
        chunks = delivery.chunks
        payload = delivery.payload if chunks is None else bytes(chunks[0]) if chunks else b""
        try:
            end = section_end(payload)
            annotations = self.annotations_of(payload[:end])
        except DecodeError as error:
            self.refuse(delivery, ErrorCondition.INVALID_FIELD, error.description)
            return None
        delivery.annotations = annotations
        if end:
            delivery.holder.held -= end
            if chunks is None:
                delivery.payload = payload[end:]
            else:
                chunks[0] = payload[end:]
        return annotations

    def annotations_of(self, section: bytes) -> Annotations:
        """What a section says. Raises DecodeError."""
        return self.router.annotations_of(section)

    def refuse(self, delivery: Delivery, condition: str, description: str) -> None:
        """Reject a delivery that cannot be routed; nobody hears of one that was settled."""
        drop_payload(delivery)
        if not delivery.settled:
            self.outcome(delivery, Rejected(error=Error(condition=condition, description=description)), True)

    def _drop_oldest(self, delivery: Delivery) -> None:
        """Too many pre-settled deliveries of this link wait: those for the receivers that lag lose their oldest."""
        annotations = delivery.annotations
        key = annotations.key if annotations is not None else None
        address = self.router.addresses.get(key) if key is not None else None
        if address is None:
            return
        links = list(address.outgoing)
        remote = address.remote
        if remote is not None:
            for hop in remote.hops.values():
                links.extend(link for link in hop.neighbor.data if link is not None)
        for link in links:
            waiting = link.undelivered
            while len(waiting) > MAX_PRESETTLED and waiting[0].settled and waiting[0].origin is self:
                self.router.dropped_presettled += 1
                link.give_up(waiting.popleft(), RELEASED)


class LinkOfMany(OutgoingLink):
    """A link to another router that takes deliveries of many addresses; `delivery.via` is what counts them by address.

    Nothing waits in the order of priorities, and the receiver's wish for settled deliveries means nothing here.
    """

    between_routers: ClassVar[bool] = True

    __slots__ = ()

    def __init__(self, link: SenderLink, address: Address, capacity: int) -> None:
        super().__init__(link, address, capacity)
        self.presettles = False
        self.urgent = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits for it or is being written."""
        return not self.streaming and not self.undelivered and self.link.current is None

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        if not settled:
            self._stated(delivery, state)
            return
        self.dropped(delivery)
        if state is not ACCEPTED:
            state = self._settled_state(delivery, state)
        if delivery.chunks is not None:
            self._settled_early(delivery)
        origin = delivery.origin
        if origin is not None:
            origin.outcome(delivery, state, True)

    def range_accepted(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.dropped(delivery)
        tell_accepted(deliveries)

    def left(self, delivery: Delivery) -> None:
        self.dropped(delivery)
        origin = delivery.origin
        if origin is not None:
            origin.left(delivery)

    def dropped(self, delivery: Delivery) -> None:
        self.outstanding -= 1
        via = delivery.via
        if via is not None:
            via.outstanding -= 1
            delivery.via = None


class RouterOutgoingLink(LinkOfMany):
    """A link to a neighbour: for the deliveries of one priority, or for one streaming delivery at a time."""

    __slots__ = ("neighbor",)

    def __init__(self, link: SenderLink, address: Address, capacity: int, neighbor: Neighbor) -> None:
        super().__init__(link, address, capacity)
        self.neighbor = neighbor

    def lost(self) -> None:
        """The link is gone: what was not sent takes another way, the rest is in doubt."""
        undelivered = list(self.undelivered)
        self.undelivered.clear()
        super().lost()
        self._reroute(undelivered)

    def fell_silent(self) -> None:
        """The neighbour does not answer any more, but its connection is there: the same becomes of its deliveries.

        It is told so, for the case that it comes back and has them.
        """
        undelivered = list(self.undelivered)
        self.undelivered.clear()
        link = self.link
        current = link.current
        if current is not None and not current.aborted:
            link.abort_current()
            self.give_up(current, FAILED)
        for delivery in [delivery for delivery in link.session.unsettled_out.values() if delivery.sender is link]:
            state = delivery.state if delivery.state is not None else FAILED
            link.update(delivery, state, True)
            self.give_up(delivery, state)
        self._reroute(undelivered)

    def _reroute(self, undelivered: list[Delivery]) -> None:
        for delivery in undelivered:
            via = delivery.via
            if via is None or delivery.more or is_copy(delivery):
                self.give_up(delivery, RELEASED)
            else:
                self.dropped(delivery)
                take_another_way(via.address, delivery)


class Hop:
    """The way of one address over one neighbour.

    `outstanding` counts the unsettled deliveries of the address there, which *balanced* compares with `cost` added.
    """

    __slots__ = ("address", "cost", "neighbor", "outstanding")

    def __init__(self, address: Address, neighbor: Neighbor, cost: int) -> None:
        self.address = address
        self.neighbor = neighbor
        self.cost = cost
        self.outstanding = 0

    def load(self) -> int:
        """What *balanced* compares."""
        outstanding = self.outstanding
        return outstanding + self.cost if outstanding < HOP_CAPACITY else outstanding + self.cost + LAST_CHOICE

    def enqueue(self, delivery: Delivery) -> None:
        """Send a delivery to the neighbour."""
        if delivery.chunks is None and not delivery.settled:
            self.enqueue_run([delivery])
            return
        annotations: Annotations | None = delivery.annotations
        if annotations is None:
            annotations = delivery.annotations = self.neighbor.router.origin_annotations(delivery)
        self._enqueue_rare(delivery, annotations)

    def enqueue_run(self, deliveries: list[Delivery]) -> None:
        """Send deliveries of one frame each that one link has brought: `enqueue` for each of them."""
        first = deliveries[0]
        if first.settled:
            for delivery in deliveries:
                self.enqueue(delivery)
            return
        neighbor = self.neighbor
        router = neighbor.router
        # What is known of where they came from is the same for all.
        annotations: Annotations | None = first.annotations
        if annotations is None:
            annotations = router.origin_annotations(first)
        section = annotations.forwarded
        if not neighbor.van and router.now < router.flux_ends and self.distributes_to_one():
            section = router.section_in_flux(annotations)
        size = len(section)
        of_address = self.address.priority
        for delivery in deliveries:
            payload = delivery.payload
            priority = DEFAULT_PRIORITY
            if of_address is not None:
                priority = of_address
            # As in `OutgoingLink.enqueue`: a header that may hold a priority is looked at.
            elif len(payload) > 5 and payload[2] == 0x70 and (payload[5] > 1 or payload[3] == 0xD0):
                priority = priority_of(payload)
            outgoing = neighbor.by_priority[priority]
            delivery.annotations = annotations
            delivery.payload = section + payload
            delivery.holder.held += size
            delivery.via = self
            self.outstanding += 1
            outgoing.outstanding += 1
            outgoing.undelivered.append(delivery)
            link = outgoing.link
            if not link.queued:
                link.ready()

    def distributes_to_one(self) -> bool:
        """Whether the address is anycast."""
        return self.address.distribution is not Distribution.MULTICAST

    def _enqueue_rare(self, delivery: Delivery, annotations: Annotations) -> None:
        """Send a delivery of several frames, or a pre-settled one."""
        chunks = delivery.chunks
        neighbor = self.neighbor
        if chunks is None and neighbor.van:
            outside = UnsettledOutside(delivery)
            outside.annotations = neighbor.router.presettled(annotations)
            self.enqueue(outside.copy())
            return
        streaming = delivery.more
        outgoing = neighbor.stream_link() if streaming else None
        if outgoing is None:
            outgoing = neighbor.by_priority[self._long_priority(delivery)]
        section = neighbor.router.streaming_section(annotations) if streaming else annotations.forwarded
        delivery.holder.held += len(section)
        if chunks is None:
            delivery.payload = section + delivery.payload
        else:
            chunks.appendleft(section)
        if not delivery.settled:
            delivery.via = self
            self.outstanding += 1
        outgoing.outstanding += 1
        if streaming:
            delivery.target = outgoing
            outgoing.streaming += 1
        outgoing.undelivered.append(delivery)
        outgoing.link.ready()

    def _long_priority(self, delivery: Delivery) -> int:
        if self.address.priority is not None:
            return self.address.priority
        chunks = delivery.chunks
        return priority_of(delivery.payload if chunks is None else bytes(chunks[0]) if chunks else b"")


def take_another_way(address: Address, delivery: Delivery) -> None:
    """A delivery with annotations in front was not sent, and its link is gone: forward it once more, as it came."""
    chunks = delivery.chunks
    if chunks is not None:
        size = len(chunks.popleft())
    else:
        size = section_end(delivery.payload)
        delivery.payload = delivery.payload[size:]
    delivery.holder.held -= size
    origin = delivery.origin
    if isinstance(origin, UnsettledOutside):
        delivery = origin.original()
    address.forward(address, delivery)


def is_copy(delivery: Delivery) -> bool:
    """Whether others have a copy of it too: forwarding it once more would give them another."""
    origin = delivery.origin
    if isinstance(origin, UnsettledOutside):
        origin = origin.delivery.origin
    return isinstance(origin, Collector)


def priority_of(payload: bytes) -> int:
    """The priority that a message's header asks for, the default where there is none or it cannot be read."""
    try:
        return min(read_priority(payload), HIGHEST_PRIORITY) if payload else DEFAULT_PRIORITY
    except DecodeError:
        return DEFAULT_PRIORITY


class SettledInside(DeliveryOrigin):
    """Stands between a delivery that came unsettled, and was settled by its sender, and how it goes on: settled.

    The router before this one holds its sender's credit until it hears that the delivery has left the network.
    """

    __slots__ = ("delivery",)

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    def inner(self) -> Delivery:
        """The delivery as it goes on."""
        delivery = self.delivery
        inner = Delivery(None, 0, b"", delivery.payload, True, delivery.holder)
        inner.message_format = delivery.message_format
        inner.annotations = delivery.annotations
        inner.origin = self
        delivery.payload = b""
        return inner

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        if settled:
            self.left(delivery)

    def left(self, delivery: Delivery) -> None:
        origin = self.delivery.origin
        if origin is not None:
            origin.outcome(self.delivery, ACCEPTED, True)


class UnsettledOutside(DeliveryOrigin):
    """Stands between a pre-settled delivery and its copy that goes to a neighbour of our kind: unsettled, and flagged.

    So its sender's credit comes back when the delivery has left the network, and no router has to drop it.
    """

    __slots__ = ("annotations", "delivery", "inside")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.annotations: Annotations | None = None
        self.inside: Delivery | None = None

    def copy(self) -> Delivery:
        """The delivery as it goes on."""
        delivery = self.delivery
        copy = Delivery(None, 0, b"", delivery.payload, False, delivery.holder)
        copy.message_format = delivery.message_format
        copy.annotations = self.annotations
        copy.origin = self
        delivery.payload = b""
        self.inside = copy
        return copy

    def original(self) -> Delivery:
        """The delivery as it was, for another way."""
        delivery = self.delivery
        if self.inside is not None:
            delivery.payload = self.inside.payload
            self.inside = None
        return delivery

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        if settled:
            self.left(delivery)

    def left(self, delivery: Delivery) -> None:
        self.inside = None
        origin = self.delivery.origin
        if origin is not None:
            origin.left(self.delivery)


class Retrier(DeliveryOrigin):
    """Tries the destinations of an anycast delivery one after another, for a sender that wants released ones resent.

    The octets are kept until the delivery is settled, and count as held.
    """

    __slots__ = ("address", "delivery", "payload", "tried")

    def __init__(self, address: Address, delivery: Delivery) -> None:
        self.address = address
        self.delivery = delivery
        self.payload = delivery.payload
        self.tried: list[OutgoingLink | Hop] = []
        delivery.payload = b""

    def try_next(self) -> None:
        """Send it to the best destination that has not released it; when there is none, it is released."""
        address = self.address
        original = self.delivery
        candidates: list[OutgoingLink | Hop] = [link for link in address.outgoing if not link.echoes(original)]
        remote = address.remote
        if remote is not None:
            annotations: Annotations | None = original.annotations
            candidates += remote.choices(annotations.origin if annotations is not None else "")
        candidates = [candidate for candidate in candidates if candidate not in self.tried]
        if not candidates:
            if self.tried:
                self._end(RELEASED)
            else:
                original.payload = self.payload
                no_destination(address, original)
            return
        best = min(candidates, key=lambda candidate: candidate.load())
        self.tried.append(best)
        holder = Holder()
        holder.held = len(self.payload)
        attempt = Delivery(None, 0, b"", self.payload, False, holder)
        attempt.message_format = original.message_format
        attempt.annotations = original.annotations
        if attempt.annotations is None and remote is not None:
            attempt.annotations = remote.router.origin_annotations(original)
        attempt.origin = self
        best.enqueue(attempt)

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        if settled and type(state) is Released:
            self.try_next()
        elif settled:
            self._end(state)
        elif type(state) is not Released and self.delivery.origin is not None:
            self.delivery.origin.outcome(self.delivery, state, False)

    def left(self, delivery: Delivery) -> None:
        self._end(ACCEPTED)

    def _end(self, state: object) -> None:
        original = self.delivery
        original.holder.held -= len(self.payload)
        self.payload = b""
        if original.origin is not None:
            original.origin.outcome(original, state, True)
