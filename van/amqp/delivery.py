"""A delivery, and the two kinds of owners that links hand deliveries to.

One `Delivery` serves both ends inside this process: the receiver link it came in by and the sender link it goes out
by. It is made at its first frame and forgotten at settlement.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from van.amqp.delivery_state import ACCEPTED
from van.amqp.native import mypyc_attr

if TYPE_CHECKING:
    from van.amqp.receiver_link import ReceiverLink
    from van.amqp.sender_link import SenderLink


class Holder:
    """Counts payload octets that are held in memory: `held` grows as frames arrive and falls as they leave."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


class Delivery:
    """One delivery, or one copy of it.

    `receiver`, `delivery_id` and `delivery_tag` belong to the link it came in by; `sender` and `out_id` to the link it
    goes out by (`sender` is None until its first frame is written). `payload` is the whole payload of a delivery of one
    frame; of any other, `chunks` holds what has arrived and has not been written yet, and `more` says whether the end
    is still missing. `settled` means pre-settled by its sender. `state` is the last delivery state that the receiving
    side named. `annotations` and `via` are the router's: what other routers wrote in front of the message, and the way
    over a neighbour that it took. `target` is set for deliveries of several frames: whom they were handed to, None
    before that. `origin` belongs to whoever routed or sent it and is told its outcome. `holder` counts its octets.
    """

    __slots__ = (
        "aborted",
        "annotations",
        "chunks",
        "delivery_id",
        "delivery_tag",
        "holder",
        "message_format",
        "more",
        "origin",
        "out_id",
        "payload",
        "receiver",
        "sender",
        "settled",
        "state",
        "target",
        "via",
    )

    out_id: int

    def __init__(
        self,
        receiver: ReceiverLink | None,
        delivery_id: int,
        delivery_tag: bytes,
        payload: bytes,
        settled: bool,
        holder: Holder,
    ) -> None:
        self.receiver = receiver
        self.delivery_id = delivery_id
        self.delivery_tag = delivery_tag
        self.payload = payload
        self.settled = settled
        self.holder = holder
        self.message_format = 0
        self.chunks: deque[bytes | memoryview] | None = None
        self.more = False
        self.aborted = False
        self.state: object = None
        self.sender: SenderLink | None = None
        self.origin: DeliveryOrigin | None = None
        self.target: DeliveryTarget | None = None
        self.annotations: Any = None
        self.via: Any = None

    def data(self) -> bytes:
        """The payload octets that are here: of a delivery of several frames, those not yet written."""
        return self.payload if self.chunks is None else b"".join(self.chunks)


@mypyc_attr(allow_interpreted_subclasses=True)
class DeliveryOrigin:
    """Where an outgoing delivery came from: told of states without settlement, and once what became of it."""

    __slots__ = ()

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        """The receiving side named a state, or settled (with `settled`), or both."""
        raise NotImplementedError

    def accepted(self, deliveries: list[Delivery]) -> None:
        """The receiving side has settled these, of one frame each, as accepted: `outcome` for each of them."""
        for delivery in deliveries:
            self.outcome(delivery, ACCEPTED, True)

    def left(self, delivery: Delivery) -> None:
        """A pre-settled delivery has been written to the last octet, or dropped: its place is free."""
        raise NotImplementedError

    def settles_second(self) -> bool:
        """Whether its sender settles once it has heard the outcome (rcv-settle-mode second, 2.8.3)."""
        return False


@mypyc_attr(allow_interpreted_subclasses=True)
class DeliverySink(DeliveryOrigin):
    """The owner of a `ReceiverLink`; deliveries that it passes on may come back to it as their origin."""

    __slots__ = ()

    def deliver(self, delivery: Delivery) -> None:
        """The first frame of a delivery is here (with `delivery.more` unset, all of it)."""
        raise NotImplementedError

    def deliver_run(self, deliveries: list[Delivery]) -> None:
        """Deliveries of one frame each have come together: `deliver` for each of them. `origin` of each is this."""
        for delivery in deliveries:
            link = delivery.receiver
            assert link is not None
            connection = link.session.connection
            if link.detach_sent or link.session.end_sent or connection.close_sent or connection.closed:
                # The one before was the reason.
                link.discard(delivery)
            else:
                self.deliver(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        """A later frame is here, and has been appended to `delivery.chunks`; `delivery.more` says if it is the last."""
        raise NotImplementedError

    def abort(self, delivery: Delivery) -> None:
        """The sender gave the delivery up in the middle (2.6.14); it counts as settled."""
        raise NotImplementedError

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """The sender spoke of an unsettled delivery (2.7.6): with `settled`, it has forgotten it."""
        raise NotImplementedError

    def hurry(self, delivery: Delivery) -> None:
        """Memory is short: do not wait for the end of this delivery if there is a choice."""

    def flow_received(self, link: ReceiverLink, returned: int) -> None:
        """The sender sent a Flow for this link, and gave `returned` credits back with it (an answer to drain)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class DeliveryTarget(DeliveryOrigin):
    """Where a delivery went: of one that had not arrived whole, it is told how it goes on.

    A target that hands copies on is their origin.
    """

    __slots__ = ()

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        """More of it is here; `delivery.more` says if that was the end."""
        raise NotImplementedError

    def abort(self, delivery: Delivery) -> None:
        """Its sender gave it up, or is gone."""
        raise NotImplementedError

    def others_wait(self) -> bool:
        """Whether something else cannot be sent until this delivery has ended."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class DeliverySource(DeliveryTarget):
    """The owner of a `SenderLink`: deliveries wait in `undelivered` until the link pulls them."""

    __slots__ = ("undelivered",)

    def __init__(self) -> None:
        self.undelivered: deque[Delivery] = deque()

    def credit_changed(self, link: SenderLink) -> None:
        """The receiver sent a Flow for this link: credit, drain or the session's window changed."""

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """The receiver named a state or settled."""
        raise NotImplementedError

    def range_accepted(self, deliveries: list[Delivery]) -> None:
        """The receiver has settled these, of one frame each, as accepted: `updated` for each of them."""
        for delivery in deliveries:
            self.updated(delivery, ACCEPTED, True)

    def left(self, delivery: Delivery) -> None:
        """A pre-settled delivery has been written to its last octet."""
        raise NotImplementedError
