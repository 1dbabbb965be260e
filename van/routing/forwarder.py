"""Who gets a delivery: one function for each distribution, bound to an address as `Address.forward`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from typing import TYPE_CHECKING, Final

from van.amqp.delivery import Delivery, DeliveryTarget, Holder
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Modified, Received, Rejected
from van.routing.address import ANYCAST, Address, Distribution

if TYPE_CHECKING:
    from van.routing.dialect.annotations import Annotations
    from van.routing.outgoing_link import OutgoingLink
    from van.routing.remote import RemoteDestinations
    from van.routing.router_link import Hop

# Added to what *balanced* compares for a receiver that is full, or in the middle of a stream: it comes last.
LAST_CHOICE: Final = 0x40000000


def forward_balanced(address: Address, delivery: Delivery) -> None:
    """Hand the delivery to the receiver with the fewest deliveries outstanding; those with none take turns."""
    remote = address.remote
    if remote is not None:
        _balanced_everywhere(address, remote, delivery)
        return
    links = address.outgoing
    count = len(links)
    if count == 1:
        links[0].enqueue(delivery)
        return
    if count == 0:
        no_destination(address, delivery)
        return
    # `load()` of each, written out: this is done for every message.
    start = address.cursor % count
    address.cursor = start + 1
    best = links[start]
    best_value = best.outstanding
    if best_value:
        if best.streaming or best_value >= best.capacity:
            best_value += LAST_CHOICE
        for link in links:
            value = link.outstanding
            if value < best_value:
                if link.streaming or value >= link.capacity:
                    value += LAST_CHOICE
                    if value >= best_value:
                        continue
                best = link
                best_value = value
                if value == 0:
                    # Whoever follows has the next turn: one that is always busy does not give its turns to one other.
                    address.cursor = links.index(link) + 1
                    break
    best.enqueue(delivery)


def forward_run(address: Address, deliveries: list[Delivery]) -> None:
    """Forward deliveries of one frame each that one link has brought together, as one after another would go."""
    links = address.outgoing
    forward = address.forward
    remote = address.remote
    # What is known of where they came from is the same for all.
    if address.distribution in ANYCAST and len(links) <= 1:
        # *Closest* asks for no other routers while somebody receives here.
        stays = remote is None or (len(links) == 1 and address.distribution is Distribution.CLOSEST)
        hops = remote.choices(_origin(deliveries[0])) if remote is not None and not stays else ()
        if len(links) == 1 and not hops and not links[0].echoes(deliveries[0]):
            links[0].enqueue_run(deliveries)
            return
        if not links and len(hops) == 1:
            hops[0].enqueue_run(deliveries)
            return
    if forward is forward_balanced and remote is None and len(links) > 1:
        _balance_run(address, links, deliveries)
        return
    for delivery in deliveries:
        forward(address, delivery)


def _balance_run(address: Address, links: list[OutgoingLink], deliveries: list[Delivery]) -> None:
    """What `forward_balanced` would do with one after another, but for whose turn it is among equals.

    It costs the same however many receivers there are.
    """
    count = len(links)
    start = address.cursor % count
    # Who has the fewest is first, and among several who has waited longest for a turn.
    order = [(links[(start + turn) % count].load(), turn, (start + turn) % count) for turn in range(count)]
    heapify(order)
    shares: list[list[Delivery]] = [[] for _ in links]
    turn = count
    at = start
    for delivery in deliveries:
        load, _, at = order[0]
        shares[at].append(delivery)
        load += 1
        if load == links[at].capacity:
            load += LAST_CHOICE
        heapreplace(order, (load, turn, at))
        turn += 1
    address.cursor = at + 1
    for link, share in zip(links, shares, strict=True):
        if share:
            link.enqueue_run(share)


def forward_closest(address: Address, delivery: Delivery) -> None:
    """Hand the delivery to the receivers of this router in turn; one that is busy with a stream is passed over."""
    links = address.outgoing
    count = len(links)
    if count == 0:
        _closest_elsewhere(address, delivery)
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
    if address.remote is not None:
        multicast_everywhere(address, links, delivery)
    elif links:
        Collector(delivery, address.copied).hand_out(links)
    else:
        no_destination(address, delivery)


def _origin(delivery: Delivery) -> str:
    """The router where a delivery came into the network, empty for this one."""
    annotations: Annotations | None = delivery.annotations
    return annotations.origin if annotations is not None else ""


def _balanced_everywhere(address: Address, remote: RemoteDestinations, delivery: Delivery) -> None:
    """*Balanced* over receivers here and at other routers, where the cost of the way counts as so many deliveries."""
    hops = remote.choices(_origin(delivery))
    links = address.outgoing
    count = len(links)
    if count == 0:
        if len(hops) == 1:
            hops[0].enqueue(delivery)
        elif hops:
            min(hops, key=_hop_load).enqueue(delivery)
        else:
            no_destination(address, delivery)
        return
    start = address.cursor % count
    best: OutgoingLink | Hop = links[start]
    best_value = best.load()
    for offset in range(1, count):
        if best_value == 0:
            break
        link = links[(start + offset) % count]
        value = link.load()
        if value < best_value:
            best = link
            best_value = value
    if best_value:
        for hop in hops:
            value = hop.load()
            if value < best_value:
                best = hop
                best_value = value
    address.cursor = start + 1
    best.enqueue(delivery)


def _hop_load(hop: Hop) -> int:
    return hop.load()


def _closest_elsewhere(address: Address, delivery: Delivery) -> None:
    """*Closest* without a receiver here: the routers that cost least take turns."""
    remote = address.remote
    hops = remote.choices(_origin(delivery)) if remote is not None else None
    if not hops:
        no_destination(address, delivery)
        return
    cost = hops[0].cost
    count = 1
    while count < len(hops) and hops[count].cost == cost:
        count += 1
    start = address.cursor % count
    address.cursor = start + 1
    hops[start].enqueue(delivery)


def multicast_everywhere(address: Address, links: list[OutgoingLink], delivery: Delivery) -> None:
    """A copy to these receivers here, and one over each neighbour on whose side there are others."""
    annotations: Annotations | None = delivery.annotations
    targets: list[OutgoingLink | Hop] = [*links]
    remote = address.remote
    if remote is not None:
        if annotations is None:
            targets += remote.choices("")
        elif not annotations.origin or remote.router.knows(annotations.origin):
            passed = annotations.hops
            targets += [hop for hop in remote.choices(annotations.origin) if hop.neighbor.router_id not in passed]
    if len(targets) > 1:
        if annotations is None and remote is not None:
            delivery.annotations = remote.router.origin_annotations(delivery)
        Collector(delivery, address.copied).hand_out(targets)
    elif targets:
        targets[0].enqueue(delivery)
    else:
        no_destination(address, delivery)


def forward_unavailable(address: Address, delivery: Delivery) -> None:
    """Nobody may use this address."""
    no_destination(address, delivery)


FORWARDERS: Final[dict[Distribution, Callable[[Address, Delivery], None]]] = {
    Distribution.CLOSEST: forward_closest,
    Distribution.BALANCED: forward_balanced,
    Distribution.MULTICAST: forward_multicast,
    Distribution.UNAVAILABLE: forward_unavailable,
}


def no_destination(address: Address, delivery: Delivery) -> None:
    """Nobody can have it: an unsettled delivery is released, a pre-settled one dropped, and its senders held back."""
    drop_payload(delivery)
    origin = delivery.origin
    if origin is None:
        return
    if not delivery.settled:
        origin.outcome(delivery, RELEASED, True)
    elif not delivery.more:
        origin.left(delivery)
    remote = address.remote
    # A delivery that may not go back where it came from finds nobody although senders here would.
    if not address.starved and not address.outgoing and (remote is None or not remote.choices("")):
        address.starved = True
        if remote is not None:
            remote.router.starved[address] = None
        for incoming in address.incoming:
            incoming.starve()


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
    """Stands between a delivery and its copies: their origin, and the delivery's target.

    It counts the copies that have no outcome (`terminal`) and that are not settled (`unsettled`), keeps the strongest
    outcome, and holds the octets that the copies share: they count once, until the slowest copy has left. `copied` is
    where a budget finds collectors that count octets. Without it there is a single settled copy, for a receiver that
    takes no other, and it has the octets of its delivery.
    """

    __slots__ = ("copied", "copies", "counted", "delivery", "outcome_state", "terminal", "unsettled", "waiting")

    def __init__(self, delivery: Delivery, copied: dict[Collector, None] | None) -> None:
        self.delivery = delivery
        self.copied = copied
        self.copies: list[Delivery] = []
        self.counted = 0
        self.waiting = delivery.holder
        self.outcome_state: object = None
        self.terminal = 0
        self.unsettled = 0

    def hand_out(self, links: Sequence[OutgoingLink | Hop]) -> None:
        """Give every link a copy."""
        delivery = self.delivery
        delivery.target = self
        payload = delivery.payload
        chunks = delivery.chunks
        count = len(links)
        self.terminal = self.unsettled = count
        holder = delivery.holder
        copied = self.copied
        size = 0
        if copied is not None:
            size = self.counted = len(payload) if chunks is None else sum(len(chunk) for chunk in chunks)
            holder = self.waiting = Holder()
            holder.held = size * count
            copied[self] = None
        copies = self.copies
        annotations = delivery.annotations
        settled = delivery.settled or copied is None
        for link in links:
            copy = Delivery(None, 0, b"", payload, settled, holder)
            copy.origin = self
            copy.message_format = delivery.message_format
            if annotations is not None:
                copy.annotations = annotations
            if chunks is not None:
                copy.chunks = deque(chunks)
                copy.more = delivery.more
                if copied is not None:
                    # Each is at a place of its own in the stream.
                    copy.holder = Holder()
                    copy.holder.held = size
            copies.append(copy)
            link.enqueue(copy)
        delivery.payload = b""
        if chunks is not None:
            delivery.chunks = deque()

    # -- from the copies -----------------------------------------------------------------------------------------

    def settles_second(self) -> bool:
        origin = self.delivery.origin
        return origin is not None and origin.settles_second()

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        if type(state) is Received:
            return
        first = delivery.state is None and state is not None
        if first:
            delivery.state = state
            self.terminal -= 1
            if self.outcome_state is None or strength(state) > strength(self.outcome_state):
                self.outcome_state = state
        if settled:
            self.unsettled -= 1
            if self.unsettled == 0:
                self._end()
                return
        if first and self.terminal == 0:
            self._tell(False)

    def left(self, delivery: Delivery) -> None:
        original = self.delivery
        if not original.settled:
            # The receiver wanted it settled: sent is accepted.
            self.outcome(delivery, ACCEPTED, True)
            return
        self.unsettled -= 1
        if self.unsettled == 0:
            self._end()

    def lost(self, delivery: Delivery, state: object) -> None:
        """The receiver of a copy is gone."""
        if self.delivery.settled:
            self.left(delivery)
        else:
            self.outcome(delivery, state, True)

    def _end(self) -> None:
        """All copies are settled."""
        original = self.delivery
        self._finish()
        if not original.settled:
            self._tell(True)
        elif original.more:
            # All receivers have gone in the middle of it: the rest is not kept, and its end gives the credit back.
            drop_payload(original)
        elif original.origin is not None:
            original.origin.left(original)

    def _tell(self, settled: bool) -> None:
        origin = self.delivery.origin
        if origin is not None:
            origin.outcome(self.delivery, self.outcome_state, settled)

    def _finish(self) -> None:
        """Let go of everything, so that no cycle is left behind."""
        self._count(0)
        self.copies.clear()
        if self.copied is not None:
            self.copied.pop(self, None)
        if self.delivery.target is self:
            self.delivery.target = None

    # -- octets --------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Count what the slowest copy has still before it."""
        if self.delivery.chunks is None:
            if self.waiting.held == 0:
                self._count(0)
        else:
            self._count(max((copy.holder.held for copy in self.copies), default=0))

    def _count(self, octets: int) -> None:
        self.delivery.holder.held += octets - self.counted
        self.counted = octets

    # -- from the delivery ---------------------------------------------------------------------------------------

    def sender_settled(self, state: object, pass_on: Callable[[Delivery, object], bool]) -> bool:
        """The sender has settled: its word goes to receivers that have their copy, others get theirs settled.

        Returns whether that was the end of it.
        """
        for copy in self.copies:
            copy.settled = True
            if pass_on(copy, state):
                self.unsettled -= 1
        if self.unsettled:
            return False
        self._finish()
        return True

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if delivery.chunks:
            delivery.chunks.clear()
        size = len(payload)
        if self.copied is None:
            delivery.holder.held -= size
        else:
            self.counted += size
        for copy in self.copies:
            if copy.chunks is None:
                continue
            copy.more = delivery.more
            if size:
                copy.chunks.append(payload)
                copy.holder.held += size
            target = copy.target
            if target is not None:
                target.extend(copy, payload)

    def abort(self, delivery: Delivery) -> None:
        for copy in self.copies:
            target = copy.target
            copy.target = None
            if target is not None:
                target.abort(copy)
        self._finish()

    def others_wait(self) -> bool:
        return any(
            copy.target is not None and not copy.chunks and copy.target.others_wait() for copy in self.copies
        )
