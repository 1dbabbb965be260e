"""Who gets a delivery: one function for each distribution, bound to an address as `Address.forward`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from van.amqp.delivery import Delivery, DeliveryTarget
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Modified, Rejected
from van.routing.address import Address, Distribution

if TYPE_CHECKING:
    from van.routing.link import OutgoingLink


def forward_balanced(address: Address, delivery: Delivery) -> None:
    """Hand the delivery to the receiver with the fewest deliveries outstanding; those with none take turns."""
    links = address.outgoing
    count = len(links)
    if count == 1:
        links[0].enqueue(delivery)
        return
    if count == 0:
        no_destination(delivery)
        return
    start = address.cursor % count
    best = links[start]
    best_value = best.load()
    if best_value:
        for offset in range(1, count):
            link = links[(start + offset) % count]
            value = link.load()
            if value < best_value:
                best = link
                best_value = value
                if value == 0:
                    start += offset
                    break
    address.cursor = start + 1
    best.enqueue(delivery)


def forward_closest(address: Address, delivery: Delivery) -> None:
    """Hand the delivery to the receivers of this router in turn; one that is busy with a stream is passed over."""
    links = address.outgoing
    count = len(links)
    if count == 0:
        no_destination(delivery)
        return
    start = address.cursor
    for offset in range(count):
        link = links[(start + offset) % count]
        if not link.streaming:
            address.cursor = (start + offset + 1) % count
            link.enqueue(delivery)
            return
    address.cursor = (start + 1) % count
    links[start % count].enqueue(delivery)


def forward_multicast(address: Address, delivery: Delivery) -> None:
    """Hand a copy to every receiver; the sender hears the strongest outcome when all are terminal."""
    links = address.outgoing
    if not links:
        no_destination(delivery)
        return
    collector = Collector(delivery, len(links))
    payload = delivery.payload
    chunks = delivery.chunks
    settled = delivery.settled
    holder = delivery.holder
    size = len(payload) if chunks is None else sum(len(chunk) for chunk in chunks)
    holder.held += size * (len(links) - 1)
    copies = collector.copies
    for link in links:
        copy = Delivery(None, 0, b"", payload, settled, holder)
        copy.origin = collector
        copy.message_format = delivery.message_format
        if chunks is not None:
            copy.chunks = deque(chunks)
            copy.more = delivery.more
        copies.append(copy)
        link.enqueue(copy)
    delivery.payload = b""
    delivery.target = collector
    if chunks is not None:
        delivery.chunks = deque()


def forward_unavailable(address: Address, delivery: Delivery) -> None:
    """Nobody may use this address."""
    no_destination(delivery)


FORWARDERS: Final[dict[Distribution, Callable[[Address, Delivery], None]]] = {
    Distribution.CLOSEST: forward_closest,
    Distribution.BALANCED: forward_balanced,
    Distribution.MULTICAST: forward_multicast,
    Distribution.UNAVAILABLE: forward_unavailable,
}


def no_destination(delivery: Delivery) -> None:
    """Nobody can have it: an unsettled delivery is released, a pre-settled one is dropped."""
    drop_payload(delivery)
    origin = delivery.origin
    if origin is None:
        return
    if delivery.settled:
        if not delivery.more:
            origin.left(delivery)
    else:
        origin.outcome(delivery, RELEASED, True)


def drop_payload(delivery: Delivery) -> None:
    """Forget the octets of a delivery that will go nowhere; later frames of it are not kept either."""
    if delivery.chunks is not None:
        delivery.holder.held -= sum(len(chunk) for chunk in delivery.chunks)
        delivery.chunks = None
    elif delivery.payload:
        delivery.holder.held -= len(delivery.payload)
    delivery.payload = b""


# Strength of outcomes when a multicast delivery collects them: the strongest is what its sender hears.
_STRENGTH: Final[dict[type, int]] = {Rejected: 4, Accepted: 3, Modified: 2}


def strength(state: object) -> int:
    """Rejected beats accepted, accepted beats modified, modified beats released."""
    return _STRENGTH.get(type(state), 1)


class Collector(DeliveryTarget):
    """The origin of the copies of one multicast delivery: counts them down and keeps the strongest outcome."""

    __slots__ = ("copies", "delivery", "outcome_state", "terminal", "unsettled")

    def __init__(self, delivery: Delivery, count: int) -> None:
        self.delivery = delivery
        self.terminal = count
        self.unsettled = count
        self.outcome_state: object = None
        self.copies: list[Delivery] = []

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        first = delivery.state is None
        if first and state is not None:
            delivery.state = state
            self.terminal -= 1
            if self.outcome_state is None or strength(state) > strength(self.outcome_state):
                self.outcome_state = state
        if not settled:
            if self.terminal == 0 and first:
                self._tell(False)
            return
        if first and state is None:
            self.terminal -= 1
        self.unsettled -= 1
        if self.unsettled == 0:
            self._tell(True)

    def left(self, delivery: Delivery) -> None:
        self.unsettled -= 1
        if self.unsettled == 0:
            origin = self.delivery.origin
            if origin is not None:
                origin.left(self.delivery)

    def _tell(self, settled: bool) -> None:
        origin = self.delivery.origin
        if origin is not None:
            state = self.outcome_state if self.outcome_state is not None else ACCEPTED
            origin.outcome(self.delivery, state, settled)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        chunks = delivery.chunks
        if chunks is not None:
            # The receiver link counted and kept it once; now it belongs to the copies.
            delivery.holder.held -= sum(len(chunk) for chunk in chunks)
            chunks.clear()
        for copy in self.copies:
            if copy.chunks is None:
                continue
            copy.more = delivery.more
            if payload:
                copy.chunks.append(payload)
                copy.holder.held += len(payload)
            target = copy.target
            if target is not None:
                target.extend(copy, payload)

    def abort(self, delivery: Delivery) -> None:
        for copy in self.copies:
            if copy.target is not None:
                copy.target.abort(copy)

    def others_wait(self) -> bool:
        return any(copy.target is not None and copy.target.others_wait() for copy in self.copies)
