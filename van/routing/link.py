"""The core's view of links: who sends to an address, who receives from it, credit, and what became of deliveries.

An `IncomingLink` is the sink of an `amqp.ReceiverLink`, an `OutgoingLink` the source of an `amqp.SenderLink`. Neither
counts credit: they say how much more may come, and put deliveries where the link pulls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from van.amqp.delivery import Delivery, DeliveryOrigin, DeliverySink, DeliverySource
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Received, Rejected, Released
from van.amqp.errors import DecodeError, ErrorCondition
from van.amqp.link import RCV_SECOND, SND_SETTLED
from van.amqp.message import read_priority
from van.amqp.performatives import Error
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.routing.address import Address
from van.routing.dialect.annotations import Annotations
from van.routing.forwarder import LAST_CHOICE, Collector, drop_payload

if TYPE_CHECKING:
    from van.routing.router import Router

# More than this arrived without its end, and a delivery is handed on as it comes (as the peers do, their Q2 limit).
STREAM_THRESHOLD: Final = 262144
DEFAULT_PRIORITY: Final = 4
# A sender that uses more than half of its credit, and has all of it back within this many seconds, is held back by
# credit alone: it gets more, so that it, the router and the receivers need not wait for one another.
SWIFT_SECONDS: Final = 0.05
# One that has its credit back after this long goes back to what it began with: what waits here for a slow receiver
# helps nobody.
SLOW_SECONDS: Final = 2.0
# A sender of streams has credit for so many octets of them: 250 messages of a mebibyte would only wait here, and memory
# that is used for the first time costs more than what is still in the processor's cache (1150 us a mebibyte for 1250).
STREAM_CREDIT: Final = 16 * 1024 * 1024
# ...and for so many messages at least: one under way, others on their way here, and outcomes on their way back.
LEAST_STREAM_CREDIT: Final = 8
# What a header says beyond this counts as this.
HIGHEST_PRIORITY: Final = 9


class IncomingLink(DeliverySink):
    """A link that deliveries come in by.

    `address` is where they go (for an anonymous terminus a pseudo-address that looks at each). `capacity` is the credit
    of an idle link: credit out + deliveries not settled + `owed`; it grows from `base` up to `limit` while all goes
    swiftly (without growth they are equal), and is less while most of what comes is streams: `streamed` counts those
    since credit last went back. `blocked` means that credit is withheld because
    nobody receives. `presettled` counts deliveries that came settled, `rejected`, `released` and `modified` outcomes:
    what is accepted is the rest, and costs nothing. `between_routers`: whether the peer is a router.
    """

    between_routers: ClassVar[bool] = False
    # Between two processes of this router: counted at neither end.
    joint: ClassVar[bool] = False

    __slots__ = (
        "address",
        "annotations",
        "anonymous",
        "base",
        "blocked",
        "capacity",
        "gone",
        "grant_at",
        "grown_at",
        "least",
        "limit",
        "link",
        "modified",
        "owed",
        "presettled",
        "rejected",
        "released",
        "router",
        "streamed",
        "turn_began",
        "turned",
    )

    def __init__(self, router: Router, link: ReceiverLink, address: Address, capacity: int, anonymous: bool) -> None:
        self.router = router
        self.link = link
        self.address = address
        self.anonymous = anonymous
        # What other routers are told of its deliveries, made when the first goes to one.
        self.annotations: Annotations | None = None
        self.capacity = self.base = self.limit = capacity
        # How much credit went back since when, and how little the sender had left: a turn is over when all went back.
        self.turned = 0
        self.least = capacity
        self.turn_began = router.now
        # Credit goes back in portions, so that Flows are few; a quarter keeps three quarters out all the time.
        self.grant_at = max(1, capacity // 4)
        self.owed = capacity
        self.presettled = 0
        self.rejected = 0
        self.released = 0
        self.modified = 0
        self.blocked = True
        self.grown_at = 0.0
        self.streamed = 0
        self.gone = False

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
            # It goes nowhere: the rest is not wanted. Its credit went back with its outcome, else it does at its end.
            if not delivery.more:
                self.router.streams.pop(self, None)
                if delivery.origin is self:
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
        self.streamed += 1
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
        if delivery.origin is self:
            self.replenish(1)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        if not settled:
            return  # A sender's state without settlement asks for nothing.
        delivery.settled = True
        target = delivery.target
        if delivery.origin is not self:
            done = True  # It had its outcome, and waited for its sender to settle second.
        elif isinstance(target, Collector):
            done = target.sender_settled(state, _pass_on_settlement)
        else:
            done = _pass_on_settlement(delivery, state)
        if done:
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
        if state is not ACCEPTED:
            self.count(state)
        if delivery.more:
            self._end_early(delivery)
        elif link.rcv_settle_mode == RCV_SECOND and self.settles_second():
            # The sender settles second (2.6.12): it is told, and `updated` follows.
            delivery.origin = None
            link.update(delivery, state)
            return
        link.session.settle(delivery, state)
        owed = self.owed + 1
        self.owed = owed
        if owed >= self.grant_at and not self.blocked:
            self.give_back()

    def settles_second(self) -> bool:
        """Whether the sender will settle after it has heard the outcome (rcv-settle-mode second, 2.8.3)."""
        return self.link.rcv_settle_mode == RCV_SECOND and not self.gone

    def count(self, state: object) -> None:
        """Note an outcome that is not accepted."""
        kind = type(state)
        if kind is Rejected:
            self.rejected += 1
        elif kind is Released:
            self.released += 1
        elif kind is Modified:
            self.modified += 1

    def left(self, delivery: Delivery) -> None:
        self.presettled += 1
        owed = self.owed + 1
        self.owed = owed
        if owed >= self.grant_at and not self.blocked:
            self.give_back()

    # -- credit --------------------------------------------------------------------------------------------------

    def replenish(self, credit: int) -> None:
        """Deliveries that took credit are done with: it goes back to the sender in portions."""
        self.owed += credit
        if self.owed >= self.grant_at and not self.blocked:
            self.give_back()

    def give_back(self) -> None:
        """A portion of credit goes back to the sender: more than it had if it is swift, less if it is slow."""
        owed = self.owed
        self.owed = 0
        capacity = self.capacity
        if self.streamed or capacity < self.base:
            owed += self._weigh(owed)
        elif self.limit > self.base:
            if self.link.link_credit < self.least:
                self.least = self.link.link_credit
            self.turned += owed
            if self.turned >= capacity:
                owed += self._turn_over()
        if owed:
            self.link.grant(owed)

    def _weigh(self, owed: int) -> int:
        """Streams have come, or had: returns how much more than is owed the sender may have, or less.

        What is out already stays: so it takes a few portions until a sender of streams has no more credit than it uses.
        """
        capacity = self.capacity
        if 2 * self.streamed >= owed:
            enough = max(LEAST_STREAM_CREDIT, STREAM_CREDIT // max(1, self.link.current_size))
            change = -min(owed, max(0, capacity - enough))
        else:
            change = max(0, self.base - capacity)
        self.streamed = 0
        self.capacity = self.least = capacity + change
        self.turned = 0
        self.turn_began = self.router.now
        self.grant_at = max(1, self.capacity // 4)
        return change

    def _turn_over(self) -> int:
        """All credit has gone back since the last turn: returns how much more the sender may have, or less."""
        now = self.router.now
        seconds = now - self.turn_began
        self.turn_began = now
        self.turned = 0
        capacity = self.capacity
        change = 0
        least = self.least
        self.least = capacity
        if seconds <= SWIFT_SECONDS and least * 2 <= capacity:
            change = min(capacity, self.limit - capacity)
        elif seconds >= SLOW_SECONDS:
            change = -min(self.grant_at, capacity - self.base)
        self.capacity = capacity + change
        self.grant_at = max(1, self.capacity // 4)
        return change

    def unblock(self) -> None:
        """Somebody receives: the sender may begin."""
        if self.blocked and not self.router.ending:
            self.blocked = False
            if self.owed:
                self.link.grant(self.owed)
                self.owed = 0

    def starve(self) -> None:
        """Nobody receives any more: ask for the credit that is out, and keep it until somebody does."""
        if not self.blocked and not self.anonymous:
            self.blocked = True
            self.link.request_drain()

    def hold_back(self) -> None:
        """The router is about to end: ask for the credit that is out, and give no more."""
        if not self.blocked:
            self.blocked = True
            if self.link.link_credit > 0:
                self.link.request_drain()

    # -- ends ----------------------------------------------------------------------------------------------------

    def lost(self) -> None:
        """The link, its session or its connection is gone: what came whole goes on, a half delivery is aborted."""
        self.router.streams.pop(self, None)
        self.gone = True
        link = self.link
        delivery = link.current
        if delivery is not None:
            link.current = None
            link.session.forget_incoming(delivery)
            self._abort_target(delivery)
            drop_payload(delivery)
            if delivery.origin is self:
                self.owed += 1
        if link.rcv_settle_mode == RCV_SECOND:
            unsettled = link.session.unsettled_in
            for mine in [delivery for delivery in unsettled.values() if delivery.receiver is link]:
                if mine.origin is not self:
                    del unsettled[mine.delivery_id]
                self.settle_alone(mine)
        self.blocked = True
        self.owed += link.link_credit
        link.link_credit = 0
        if self.owed < self.capacity:
            self.router.budget.orphaned(self)
        self.address.remove_incoming(self)

    def settle_alone(self, delivery: Delivery) -> None:
        """Nobody will settle second any more: receivers that wait for it get their settlement from here."""
        if self.link.rcv_settle_mode != RCV_SECOND:
            return
        if delivery.origin is not self:
            self.owed += 1
            return
        target = delivery.target
        for waiting in list(target.copies) if isinstance(target, Collector) else [delivery]:
            _settle_stated(waiting)

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
            self.rejected += 1
            self.link.session.settle(delivery, Rejected(error=error))

    def _end_early(self, delivery: Delivery) -> None:
        """A delivery has its outcome before its end: nothing of it is needed any more."""
        self.router.streams.pop(self, None)
        drop_payload(delivery)
        delivery.target = None
        delivery.origin = None

    def _abort_target(self, delivery: Delivery) -> None:
        target = delivery.target
        delivery.target = None
        if target is not None:
            target.abort(delivery)


class OutgoingLink(DeliverySource):
    """A link that deliveries go out by.

    `outstanding` counts those that wait or are not settled. `capacity` bounds how many *balanced* likes to have there.
    `streaming` counts deliveries without end, which occupy the link; their `target` is this. `urgent` says that
    deliveries have to be looked at one by one, `presettles` that all leave settled, `mixed` that what waits may not all
    have the default priority. `rejected`, `released` and `modified` count outcomes.
    """

    between_routers: ClassVar[bool] = False
    joint: ClassVar[bool] = False

    __slots__ = (
        "address",
        "capacity",
        "link",
        "mixed",
        "modified",
        "outstanding",
        "presettles",
        "rejected",
        "released",
        "streaming",
        "urgent",
    )

    def __init__(self, link: SenderLink, address: Address, capacity: int) -> None:
        super().__init__()
        self.link = link
        self.address = address
        self.capacity = capacity
        self.outstanding = 0
        self.rejected = 0
        self.released = 0
        self.modified = 0
        self.streaming = 0
        self.presettles = link.snd_settle_mode == SND_SETTLED
        self.mixed = False
        self.urgent = self.presettles

    def load(self) -> int:
        """What *balanced* compares: deliveries outstanding; a link that is full or busy with a stream comes last."""
        value = self.outstanding
        if self.streaming or value >= self.capacity:
            return value + LAST_CHOICE
        return value

    def echoes(self, delivery: Delivery) -> bool:
        """Whether the delivery would go back there where it came from: an edge router gets none of its own."""
        return False

    def enqueue(self, delivery: Delivery) -> None:
        """Take a delivery; the link pulls it when it has credit."""
        self.outstanding += 1
        payload = delivery.payload
        if (
            delivery.chunks is not None
            or self.urgent
            or (
                len(payload) > 5
                and payload[2] == 0x70
                and payload[0] == 0
                and (payload[5] > 1 or payload[3] == 0xD0)
            )
        ):
            self._enqueue_rare(delivery)
        else:
            self.undelivered.append(delivery)
        link = self.link
        if not link.queued:
            link.ready()

    def _enqueue_rare(self, delivery: Delivery) -> None:
        """Deliveries of several frames, with a header that may hold a priority, or for links that take settled ones."""
        if self.presettles and not delivery.settled:
            # Its receiver takes settled deliveries only (2.8.2): a settled copy goes out, and counts as accepted.
            self.outstanding -= 1
            Collector(delivery, None).hand_out([self])
            return
        if delivery.more:
            delivery.target = self
            self.streaming += 1
        undelivered = self.undelivered
        priority = self._priority(delivery)
        if undelivered and (priority != DEFAULT_PRIORITY or self.mixed):
            # Behind those of the same priority or above. Backlogs are short (capacity), and this is seldom.
            self.urgent = self.mixed = True
            index = len(undelivered)
            while index > 0 and self._priority(undelivered[index - 1]) < priority:
                index -= 1
            undelivered.insert(index, delivery)
        else:
            self.mixed = priority != DEFAULT_PRIORITY
            self.urgent = self.mixed or self.presettles
            undelivered.append(delivery)

    def _priority(self, delivery: Delivery) -> int:
        if self.address.priority is not None:
            return self.address.priority
        chunks = delivery.chunks
        payload = delivery.payload if chunks is None else bytes(chunks[0]) if chunks else b""
        # A header of one field (durable), as most clients write it, holds no priority.
        if len(payload) > 5 and payload[2] == 0x70 and (payload[5] > 1 or payload[3] == 0xD0):
            try:
                return min(read_priority(payload), HIGHEST_PRIORITY)
            except DecodeError:
                return DEFAULT_PRIORITY
        return DEFAULT_PRIORITY

    # -- a stream goes on ----------------------------------------------------------------------------------------

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if not delivery.more:
            self.streaming -= 1
            delivery.target = None
        self.link.ready()

    def abort(self, delivery: Delivery) -> None:
        self.streaming -= 1
        self.dropped(delivery)
        if self.link.current is delivery:
            self.link.abort_current()
        else:
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
            if delivery.chunks is not None:
                self._settled_early(delivery)
            if origin is not None:
                origin.outcome(delivery, state, True)
        else:
            self._stated(delivery, state)

    def _stated(self, delivery: Delivery, state: object) -> None:
        """The receiver named a state and has not settled."""
        if state is None:
            return
        if type(state) is Modified:
            state = as_failed(state)
        if type(state) is not Received and self.link.rcv_settle_mode == RCV_SECOND and not _settles_second(delivery):
            # The receiver waits for its sender, and that one does not settle second: it is done here.
            self.link.update(delivery, state, True)
            self.updated(delivery, state, True)
            return
        if delivery.origin is not None:
            delivery.origin.outcome(delivery, state, False)
        if type(state) is not Received:
            delivery.state = state

    def _settled_state(self, delivery: Delivery, state: object) -> object:
        """What a settlement means: the state it names, the one named before, or accepted (as the peers take it)."""
        if state is None or type(state) is Received:
            state = delivery.state if delivery.state is not None else ACCEPTED
        kind = type(state)
        if kind is Modified:
            self.modified += 1
            return as_failed(state)
        if kind is Rejected:
            self.rejected += 1
        elif kind is Released:
            self.released += 1
        return state

    def _settled_early(self, delivery: Delivery) -> None:
        """Settled, perhaps before its last frame was written: the rest need not go out."""
        if delivery.target is self:
            self.streaming -= 1
            delivery.target = None
        if self.link.current is delivery:
            self.link.abort_current()
        drop_payload(delivery)

    def left(self, delivery: Delivery) -> None:
        self.outstanding -= 1
        origin = delivery.origin
        if origin is not None:
            origin.left(delivery)

    def lost(self) -> None:
        """The link, its session or its connection is gone: what was not sent is released, the rest modified."""
        self.address.remove_outgoing(self)
        link = self.link
        undelivered = list(self.undelivered)
        self.undelivered.clear()
        current = link.current
        unsettled = link.session.unsettled_out
        for delivery in [delivery for delivery in unsettled.values() if delivery.sender is link]:
            del unsettled[delivery.out_id]
            self.give_up(delivery, delivery.state if delivery.state is not None else FAILED)
        if current is not None and current.chunks is not None:
            if current.settled and not current.aborted:
                self.give_up(current, FAILED)
            else:
                drop_payload(current)
        for delivery in undelivered:
            self.give_up(delivery, RELEASED)

    def dropped(self, delivery: Delivery) -> None:
        """A delivery is not outstanding any more."""
        self.outstanding -= 1

    def give_up(self, delivery: Delivery, state: object) -> None:
        """A delivery will not be settled by its receiver."""
        self.dropped(delivery)
        if delivery.target is self:
            self.streaming -= 1
            delivery.target = None
        drop_payload(delivery)
        origin: DeliveryOrigin | None = delivery.origin
        if origin is None:
            return
        if isinstance(origin, Collector):
            origin.lost(delivery, state)
        elif not delivery.settled:
            origin.outcome(delivery, state, True)
        elif not delivery.more:
            origin.left(delivery)


def _pass_on_settlement(delivery: Delivery, state: object) -> bool:
    """The sender settled: a receiver that has the delivery is told, and its own word is no longer awaited.

    Returns False when the delivery has not been sent whole: it goes out settled, and `left` follows.
    """
    sender = delivery.sender
    if sender is None or sender.current is delivery:
        return False
    if sender.session.unsettled_out.get(delivery.out_id) is not delivery:
        return False
    source = sender.source
    if isinstance(source, OutgoingLink):
        source.dropped(delivery)
    sender.update(delivery, state, True)
    return True


def _settle_stated(delivery: Delivery) -> None:
    """Settle a delivery whose receiver has named its outcome and waits."""
    sender = delivery.sender
    if sender is None or delivery.state is None:
        return
    if sender.session.unsettled_out.get(delivery.out_id) is delivery:
        sender.update(delivery, delivery.state, True)
        sender.source.updated(delivery, delivery.state, True)


def _settles_second(delivery: Delivery) -> bool:
    """Whether the sender of a delivery, or of the one that this is a copy of, settles second."""
    origin = delivery.origin
    while isinstance(origin, Collector):
        origin = origin.delivery.origin
    return isinstance(origin, IncomingLink) and origin.settles_second()


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
