"""Links that deliveries come in by: who sends, where to, credit, and what became of deliveries.

An `IncomingLink` is the sink of an `amqp.ReceiverLink`. It counts no credit: it says how much more may come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from van.amqp.delivery import Delivery, DeliverySink
from van.amqp.delivery_state import ACCEPTED, Modified, Rejected, Released
from van.amqp.errors import ErrorCondition
from van.amqp.link import RCV_SECOND
from van.amqp.performatives import Error
from van.amqp.receiver_link import ReceiverLink
from van.routing.address import Address
from van.routing.dialect.annotations import Annotations
from van.routing.forwarder import Collector, drop_payload, forward_run
from van.routing.outgoing_link import OutgoingLink

if TYPE_CHECKING:
    from van.routing.router import Router

# More than this arrived without its end, and a delivery is handed on as it comes (as the peers do, their Q2 limit).
STREAM_THRESHOLD: Final = 262144
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

    def deliver_run(self, deliveries: list[Delivery]) -> None:
        forward_run(self.address, deliveries)

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
        if not settled or state is not ACCEPTED or delivery.more or link.rcv_settle_mode == RCV_SECOND:
            if not self.outcome_settles(delivery, state, settled):
                return
        link.session.settle(delivery, state)
        owed = self.owed + 1
        self.owed = owed
        if owed >= self.grant_at and not self.blocked:
            self.give_back()

    def accepted(self, deliveries: list[Delivery]) -> None:
        if not self.accepts(deliveries):
            super().accepted(deliveries)
            return
        owed = self.owed + len(deliveries)
        self.owed = owed
        if owed >= self.grant_at and not self.blocked:
            self.give_back()

    def accepts(self, deliveries: list[Delivery]) -> bool:
        """Settle deliveries that a receiver has accepted, unless their sender settles second."""
        link = self.link
        if link.rcv_settle_mode == RCV_SECOND:
            return False
        link.session.accept(deliveries)
        return True

    def outcome_settles(self, delivery: Delivery, state: object, settled: bool) -> bool:
        """Whether an outcome that is not the usual one settles the delivery here; its sender is told if it does not."""
        link = self.link
        if not settled:
            link.update(delivery, state)
            return False
        if state is not ACCEPTED:
            self.count(state)
        if delivery.more:
            self._end_early(delivery)
        elif link.rcv_settle_mode == RCV_SECOND and self.settles_second():
            # The sender settles second (2.6.12): it is told, and `updated` follows.
            delivery.origin = None
            link.update(delivery, state)
            return False
        return True

    def settles_second(self) -> bool:
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
            if self.owed or self.link.drain:
                # Who was asked for its credit, and has not given it back, may use it.
                self.link.grant(self.owed)
                self.owed = 0

    def unreachable(self) -> None:
        """The last receiver has gone."""
        self.link.unreachable()

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
