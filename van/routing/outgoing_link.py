"""Links that deliveries go out by: who receives, what waits, and what became of deliveries.

An `OutgoingLink` is the source of an `amqp.SenderLink`. It counts no credit: it puts deliveries where the link pulls
them.
"""

from __future__ import annotations

from typing import ClassVar, Final

from van.amqp.delivery import Delivery, DeliveryOrigin, DeliverySource
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Received, Rejected, Released
from van.amqp.errors import DecodeError
from van.amqp.link import RCV_SECOND, SND_SETTLED
from van.amqp.message import read_priority
from van.amqp.sender_link import SenderLink
from van.routing.address import Address
from van.routing.forwarder import LAST_CHOICE, Collector, drop_payload

DEFAULT_PRIORITY: Final = 4
# What a header says beyond this counts as this.
HIGHEST_PRIORITY: Final = 9
FAILED: Final = Modified(delivery_failed=True)


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

    def enqueue_run(self, deliveries: list[Delivery]) -> None:
        """Take deliveries of one frame each that came together: `enqueue` for each of them."""
        link = self.link
        if not link.queued:
            link.ready()
        undelivered = self.undelivered
        for delivery in deliveries:
            self.outstanding += 1
            payload = delivery.payload
            if self.urgent or (
                len(payload) > 5
                and payload[2] == 0x70
                and payload[0] == 0
                and (payload[5] > 1 or payload[3] == 0xD0)
            ):
                self._enqueue_rare(delivery)
            else:
                undelivered.append(delivery)

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

    def range_accepted(self, deliveries: list[Delivery]) -> None:
        self.outstanding -= len(deliveries)
        tell_accepted(deliveries)

    def _stated(self, delivery: Delivery, state: object) -> None:
        """The receiver named a state and has not settled."""
        if state is None:
            return
        if type(state) is Modified:
            state = as_failed(state)
        if type(state) is not Received and self.link.rcv_settle_mode == RCV_SECOND and not (
            delivery.origin is not None and delivery.origin.settles_second()
        ):
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

    def release_waiting(self) -> None:
        """What was not sent yet is released."""
        undelivered = list(self.undelivered)
        self.undelivered.clear()
        for delivery in undelivered:
            self.give_up(delivery, RELEASED)

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


def as_failed(state: object) -> object:
    """A modified outcome says delivery-failed when it leaves a router, as the peers do it."""
    if isinstance(state, Modified) and not state.delivery_failed:
        return Modified(
            delivery_failed=True,
            undeliverable_here=state.undeliverable_here,
            message_annotations=state.message_annotations,
        )
    return state


def tell_accepted(deliveries: list[Delivery]) -> None:
    """Tell those that deliveries came from, each of what follows one another together.

    Raises what one of them has raised when all have been told: the others have no part in it.
    """
    fault: Exception | None = None
    begin = 0
    end = len(deliveries)
    while begin < end:
        origin = deliveries[begin].origin
        at = begin + 1
        while at < end and deliveries[at].origin is origin:
            at += 1
        if origin is not None:
            try:
                if at == begin + 1:
                    origin.outcome(deliveries[begin], ACCEPTED, True)
                else:
                    origin.accepted(deliveries[begin:at] if at - begin < end else deliveries)
            except Exception as error:  # noqa: BLE001 - raised below
                fault = error
        begin = at
    if fault is not None:
        raise fault
