"""The core's view of links: who sends to an address, who receives from it, credit, and what became of deliveries.

An `IncomingLink` is the sink of an `amqp.ReceiverLink`, an `OutgoingLink` the source of an `amqp.SenderLink`. Neither
counts credit: they say how much more may come, and put deliveries where the link pulls them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from van.amqp.delivery import Delivery, DeliveryOrigin, DeliverySink, DeliverySource
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Received, Rejected
from van.amqp.errors import DecodeError, ErrorCondition
from van.amqp.link import RCV_SECOND, ReceiverLink, SenderLink
from van.amqp.message import read_priority
from van.amqp.performatives import Error
from van.routing.address import Address
from van.routing.forwarder import Collector, drop_payload

if TYPE_CHECKING:
    from van.routing.router import Router

# More than this arrived without its end, and a delivery is handed on as it comes (as the peers do, their Q2 limit).
STREAM_THRESHOLD: Final = 262144
DEFAULT_PRIORITY: Final = 4


class IncomingLink(DeliverySink):
    """A link that deliveries come in by.

    `address` is where they go (for an anonymous terminus a pseudo-address that looks at each). `capacity` is the credit of
    an idle link: credit out + deliveries not settled + `owed`. `blocked` means that credit is withheld because nobody
    receives.
    """

    __slots__ = (
        "address",
        "anonymous",
        "blocked",
        "capacity",
        "grant_at",
        "grown_at",
        "link",
        "owed",
        "router",
    )

    def __init__(self, router: Router, link: ReceiverLink, address: Address, capacity: int, anonymous: bool) -> None:
        self.router = router
        self.link = link
        self.address = address
        self.anonymous = anonymous
        self.capacity = capacity
        # Credit goes back in portions, so that Flows are few; a quarter keeps three quarters out all the time.
        self.grant_at = max(1, capacity // 4)
        self.owed = capacity
        self.blocked = True
        self.grown_at = 0.0

    # -- from the link -------------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        delivery.origin = self
        if delivery.chunks is None and not delivery.aborted:
            address = self.address
            address.forward(address, delivery)
        elif delivery.aborted:
            self.replenish(1)
        else:
            self.grown_at = self.router.now
            if self.link.current_size > STREAM_THRESHOLD:
                self.stream(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        target = delivery.target
        if target is not None:
            self.grown_at = self.router.now
            target.extend(delivery, payload)
            if not delivery.more:
                self.router.streams.pop(self, None)
            return
        if delivery.chunks is None:
            # It has its outcome already: what still comes is not wanted.
            if not delivery.more and delivery.settled and delivery.state is None:
                self.replenish(1)
            return
        if not delivery.more:
            address = self.address
            address.forward(address, delivery)
        elif self.link.current_size > STREAM_THRESHOLD:
            self.stream(delivery)

    def stream(self, delivery: Delivery) -> None:
        """Hand on a delivery whose end has not arrived."""
        self.grown_at = self.router.now
        address = self.address
        address.forward(address, delivery)
        if delivery.target is not None:
            self.router.streams[self] = delivery

    def hurry(self, delivery: Delivery) -> None:
        if delivery.target is None and delivery.chunks:
            self.stream(delivery)

    def abort(self, delivery: Delivery) -> None:
        self.router.streams.pop(self, None)
        self._abort_target(delivery)
        drop_payload(delivery)
        self.replenish(1)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        if not settled:
            return  # A sender's state without settlement asks for nothing.
        delivery.settled = True
        target = delivery.target
        if isinstance(target, Collector):
            for copy in target.copies:
                copy.settled = True
                if copy.sender is not None:
                    _pass_on_settlement(copy, state)
            self.replenish(1)
        elif delivery.sender is None:
            pass  # It waits for credit still, and goes out pre-settled: `left` follows.
        elif delivery.sender.current is not delivery:
            _pass_on_settlement(delivery, state)
            self.replenish(1)

    def flow_received(self, link: ReceiverLink, returned: int) -> None:
        if returned:
            self.replenish(returned)

    # -- from where deliveries went --------------------------------------------------------------------------------

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        link = self.link
        if not settled:
            link.update(delivery, state)
            return
        if delivery.more:
            self._end_early(delivery, state)
        if link.rcv_settle_mode == RCV_SECOND and not delivery.more:
            # The sender settles second (2.6.12): it is told, and `updated` follows.
            link.update(delivery, state)
            return
        link.session.settle(delivery, state)
        owed = self.owed + 1
        self.owed = owed
        if owed >= self.grant_at and not self.blocked:
            self.owed = 0
            link.grant(owed)
        if state is RELEASED and not self.address.outgoing:
            self.starve()

    def left(self, delivery: Delivery) -> None:
        owed = self.owed + 1
        self.owed = owed
        if owed >= self.grant_at and not self.blocked:
            self.owed = 0
            self.link.grant(owed)

    # -- credit --------------------------------------------------------------------------------------------------

    def replenish(self, credit: int) -> None:
        """Deliveries that took credit are done with: it goes back to the sender in portions."""
        self.owed += credit
        if self.owed >= self.grant_at and not self.blocked:
            self.link.grant(self.owed)
            self.owed = 0

    def unblock(self) -> None:
        """Somebody receives: the sender may begin."""
        if self.blocked:
            self.blocked = False
            if self.owed:
                self.link.grant(self.owed)
                self.owed = 0

    def starve(self) -> None:
        """Nobody receives any more: ask for the credit that is out, and keep it until somebody does."""
        if not self.blocked and not self.anonymous:
            self.blocked = True
            self.link.request_drain()

    # -- ends ----------------------------------------------------------------------------------------------------

    def lost(self) -> None:
        """The link, its session or its connection is gone: what came whole goes on, a half delivery is aborted."""
        self.router.streams.pop(self, None)
        delivery = self.link.current
        if delivery is not None:
            self.link.current = None
            self._abort_target(delivery)
            drop_payload(delivery)
        address = self.address
        if self in address.incoming:
            address.incoming.remove(self)

    def stalled(self, delivery: Delivery) -> None:
        """A stream has not grown for too long while others wait behind it: it is given up (rejected upstream)."""
        self.router.streams.pop(self, None)
        self._abort_target(delivery)
        drop_payload(delivery)
        error = Error(
            condition=ErrorCondition.RESOURCE_LIMIT_EXCEEDED,
            description=f"nothing more of this delivery came for {self.router.stream_stall_seconds:g} seconds",
        )
        if not delivery.settled:
            delivery.settled = True
            self.link.session.settle(delivery, Rejected(error=error))

    def _end_early(self, delivery: Delivery, state: object) -> None:
        """A delivery has its outcome before its end: nothing of it is needed any more."""
        self.router.streams.pop(self, None)
        drop_payload(delivery)
        delivery.target = None
        delivery.state = state

    def _abort_target(self, delivery: Delivery) -> None:
        target = delivery.target
        delivery.target = None
        if target is not None:
            target.abort(delivery)


class OutgoingLink(DeliverySource):
    """A link that deliveries go out by.

    `outstanding` counts those that wait or are not settled. `capacity` bounds how many *balanced* likes to have there.
    `streaming` says that a delivery without end occupies the link.
    """

    __slots__ = ("address", "capacity", "link", "outstanding", "streaming", "urgent")

    def __init__(self, link: SenderLink, address: Address, capacity: int) -> None:
        super().__init__()
        self.link = link
        self.address = address
        self.capacity = capacity
        self.outstanding = 0
        self.streaming = 0
        self.urgent = False

    def load(self) -> int:
        """What *balanced* compares: deliveries outstanding; a link that is full or in the middle of a stream comes last."""
        value = self.outstanding
        if self.streaming or value >= self.capacity:
            return value + 0x40000000
        return value

    def enqueue(self, delivery: Delivery) -> None:
        """Take a delivery; the link pulls it when it has credit."""
        self.outstanding += 1
        payload = delivery.payload
        if delivery.chunks is not None or (
            len(payload) > 5 and payload[2] == 0x70 and payload[5] > 1 and payload[0] == 0
        ) or self.urgent:
            self._enqueue_rare(delivery)
        else:
            self.undelivered.append(delivery)
        link = self.link
        if not link.queued:
            link.ready()

    def _enqueue_rare(self, delivery: Delivery) -> None:
        """Deliveries of several frames, and those whose header may hold a priority."""
        if delivery.chunks is not None:
            delivery.target = self
            if delivery.more:
                self.streaming += 1
        undelivered = self.undelivered
        priority = self._priority(delivery)
        if undelivered and (priority != DEFAULT_PRIORITY or self.urgent):
            # Behind those of the same priority or above. Backlogs are short (capacity), and this is seldom.
            self.urgent = True
            index = len(undelivered)
            while index > 0 and self._priority(undelivered[index - 1]) < priority:
                index -= 1
            undelivered.insert(index, delivery)
        else:
            self.urgent = priority != DEFAULT_PRIORITY
            undelivered.append(delivery)

    def _priority(self, delivery: Delivery) -> int:
        if self.address.priority is not None:
            return self.address.priority
        chunks = delivery.chunks
        payload = delivery.payload if chunks is None else bytes(chunks[0]) if chunks else b""
        if len(payload) > 5 and payload[2] == 0x70 and payload[5] > 1:
            try:
                return read_priority(payload)
            except DecodeError:
                return DEFAULT_PRIORITY
        return DEFAULT_PRIORITY

    # -- a stream goes on ----------------------------------------------------------------------------------------

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if not delivery.more:
            self.streaming -= 1
        self.link.ready()

    def abort(self, delivery: Delivery) -> None:
        if delivery.more:
            self.streaming -= 1
        self.outstanding -= 1
        delivery.target = None
        delivery.more = False
        if self.link.current is delivery:
            self.link.abort_current()
        else:
            delivery.aborted = True
            if delivery in self.undelivered:
                self.undelivered.remove(delivery)
        drop_payload(delivery)

    def others_wait(self) -> bool:
        return len(self.undelivered) > 0

    # -- from the link -------------------------------------------------------------------------------------------

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        origin = delivery.origin
        if settled:
            self.outstanding -= 1
            if state is not ACCEPTED:
                state = self._settled_state(delivery, state)
            if delivery.chunks is not None and delivery.target is self:
                self._settled_early(delivery)
        else:
            if type(state) is Modified:
                state = as_failed(state)
            if state is not None and type(state) is not Received:
                delivery.state = state
        if origin is not None:
            origin.outcome(delivery, state, settled)

    def _settled_state(self, delivery: Delivery, state: object) -> object:
        """What a settlement means: the state it names, the one named before, or else accepted (as the peers take it)."""
        if state is None or type(state) is Received:
            state = delivery.state if delivery.state is not None else ACCEPTED
        return as_failed(state) if type(state) is Modified else state

    def _settled_early(self, delivery: Delivery) -> None:
        """Settled, perhaps before its last frame was written: the rest need not go out."""
        if delivery.more:
            self.streaming -= 1
        delivery.target = None
        if self.link.current is delivery:
            drop_payload(delivery)
            delivery.chunks = deque()
            self.link.abort_current()

    def left(self, delivery: Delivery) -> None:
        self.outstanding -= 1
        origin = delivery.origin
        if origin is not None:
            origin.left(delivery)

    def lost(self) -> None:
        """The link, its session or its connection is gone: what was not sent is released, the rest modified."""
        self.address.remove_outgoing(self)
        undelivered = list(self.undelivered)
        self.undelivered.clear()
        sent = [
            delivery for delivery in self.link.session.unsettled_out.values() if delivery.sender is self.link
        ]
        current = self.link.current
        for delivery in sent:
            del self.link.session.unsettled_out[delivery.out_id]
            self._give_up(delivery, delivery.state if delivery.state is not None else FAILED)
        if current is not None and current.settled:
            self._give_up(current, RELEASED)
        for delivery in undelivered:
            self._give_up(delivery, RELEASED)

    def _give_up(self, delivery: Delivery, state: object) -> None:
        self.outstanding -= 1
        settled = delivery.settled
        if delivery.chunks is not None:
            if delivery.more and delivery.target is self:
                self.streaming -= 1
            delivery.target = None
        drop_payload(delivery)
        origin: DeliveryOrigin | None = delivery.origin
        if origin is None:
            return
        if settled:
            if not delivery.more:
                origin.left(delivery)
        else:
            origin.outcome(delivery, state, True)


def _pass_on_settlement(delivery: Delivery, state: object) -> None:
    """The sender settled a delivery that was sent on: its receiver is told, and its own word is no longer awaited."""
    sender = delivery.sender
    if sender is not None and sender.session.unsettled_out.get(delivery.out_id) is delivery:
        source = sender.source
        if isinstance(source, OutgoingLink):
            source.outstanding -= 1
        sender.update(delivery, state, True)


FAILED: Final = Modified(delivery_failed=True)


def as_failed(state: object) -> object:
    """A modified outcome says delivery-failed when it leaves a router, as the peers do it."""
    if isinstance(state, Modified) and not state.delivery_failed:
        return Modified(
            delivery_failed=True,
            undeliverable_here=state.undeliverable_here,
            message_annotations=state.message_annotations,
        )
    return state
