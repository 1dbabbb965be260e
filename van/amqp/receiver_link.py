"""The receiving end of a link (2.6): it grants credit, and hands deliveries to its `DeliverySink`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from van.amqp.delivery import Delivery, DeliverySink
from van.amqp.errors import AmqpLinkError, ErrorCondition
from van.amqp.hot import ABORTED, MORE, SETTLED, TransferLayout
from van.amqp.link import Link
from van.amqp.performatives import ROLE_RECEIVER, Attach
from van.amqp.serial import serial_distance

if TYPE_CHECKING:
    from van.amqp.session import Session


class NoSink(DeliverySink):
    """Owner of a receiver link that nobody has taken yet: it has no credit, so nothing can arrive."""

    __slots__ = ()


_NO_SINK: Final = NoSink()


class ReceiverLink(Link):
    """The receiving end: it grants credit, and hands deliveries to `sink`.

    `current` is a delivery whose end has not arrived. `available` is what the sender last said it has waiting.
    """

    __slots__ = ("available", "current", "current_size", "layout", "sink")

    role = ROLE_RECEIVER

    def __init__(self, session: Session, name: str) -> None:
        super().__init__(session, name)
        self.sink: DeliverySink = _NO_SINK
        self.current: Delivery | None = None
        self.current_size = 0
        self.available = 0
        # How the peer writes its Transfers, as far as the session has seen.
        self.layout: TransferLayout | None = None

    def let_go(self) -> None:
        self.sink = _NO_SINK
        self.current = None

    def _on_local_attach(self, attach: Attach) -> None:
        if attach.max_message_size:
            self.max_message_size = attach.max_message_size

    def on_attach(self, attach: Attach) -> None:
        self.remote = attach
        self.remote_attached = True
        self.delivery_count = attach.initial_delivery_count or 0
        self.snd_settle_mode = attach.snd_settle_mode

    def grant(self, credit: int) -> None:
        """Let the sender send `credit` deliveries more (2.6.7)."""
        if self.session.dormant:
            self.session.activate()
        self.link_credit += credit
        self.drain = False
        self.announce()

    def request_drain(self) -> None:
        """Ask the sender to use its credit up or to give it back (2.6.7); ends when `link_credit` is 0."""
        self.drain = True
        self.announce()

    def settle(self, delivery: Delivery, state: object) -> None:
        """Settle a delivery with its outcome (None for none); coalesced with its neighbours when it is written."""
        self.session.settle(delivery, state)

    def update(self, delivery: Delivery, state: object) -> None:
        """Name a delivery's state and wait for the sender to settle it (2.6.12)."""
        self.session.update(delivery, state)

    def on_flow(self, delivery_count: int, link_credit: int, available: int, drain: bool, echo: bool) -> None:
        returned = 0
        if delivery_count >= 0 and self.remote_attached:
            # 2.6.7: the sender moves delivery-count on when it drains or gives credit up.
            advanced = serial_distance(self.delivery_count, delivery_count)
            if advanced > 0:
                self.delivery_count = delivery_count
                returned = min(advanced, self.link_credit)
                self.link_credit -= returned
                self.drained += advanced
        if available >= 0:
            self.available = available
        if drain and self.link_credit == 0:
            self.drain = False
        if echo:
            self.announce()
        self.sink.flow_received(self, returned)

    def first_frame(self, delivery: Delivery, more: bool, aborted: bool, resumed: bool) -> None:
        """Take the first frame of a delivery that is not whole (called by the session, which counted its credit).

        We keep no deliveries of links that were detached, and one that is not known here has to be ignored when it is
        resumed (2.7.5): all of its frames, as if it were aborted.
        """
        if resumed and more and not aborted:
            self.current = delivery
        if aborted or resumed:
            self.session.forget_incoming(delivery)
            delivery.aborted = True
            delivery.settled = True
            delivery.holder.held -= len(delivery.payload)
            delivery.payload = b""
            self.sink.deliver(delivery)
            return
        delivery.more = more
        delivery.chunks = deque((delivery.payload,)) if delivery.payload else deque()
        self.current_size = len(delivery.payload)
        delivery.payload = b""
        self.current = delivery
        self.sink.deliver(delivery)

    def discard(self, delivery: Delivery) -> None:
        """Take no note of a delivery that was under way when we detached (2.6.6)."""
        self.session.forget_incoming(delivery)
        delivery.holder.held -= len(delivery.payload)
        delivery.payload = b""

    def later_frame(
        self, delivery_id: int, tag: bytes | None, message_format: int, flags: int, payload: bytes
    ) -> None:
        """Take a frame of the delivery in progress; `flags` are those of `hot.decode_transfer`.

        Raises `AmqpLinkError` when it speaks of another delivery.
        """
        delivery = self.current
        assert delivery is not None
        if (
            (delivery_id >= 0 and delivery_id != delivery.delivery_id)
            or (tag is not None and tag != delivery.delivery_tag)
            or (message_format >= 0 and message_format != delivery.message_format)
        ):
            raise AmqpLinkError(
                ErrorCondition.INVALID_FIELD, f"delivery {delivery.delivery_id} has not ended on link {self.name!r}"
            )
        more = flags & MORE != 0
        if delivery.aborted:
            if flags & ABORTED or not more:
                self.current = None
            return
        if flags & ~MORE:
            if flags & SETTLED and not delivery.settled:
                delivery.settled = True
                self.session.forget_incoming(delivery)
            if flags & ABORTED:
                self.current = None
                delivery.aborted = True
                delivery.more = False
                self.session.forget_incoming(delivery)
                self.sink.abort(delivery)
                return
        self.current_size += len(payload)
        if self.current_size > self.max_message_size:
            raise self.too_large()
        if not more:
            delivery.more = False
            self.current = None
        chunks = delivery.chunks
        if payload and chunks is not None:
            chunks.append(payload)
            delivery.holder.held += len(payload)
        self.sink.extend(delivery, payload)

    def unreachable(self) -> None:
        """Nobody receives any more what is sent here: a peer hears of it when it sends."""

    def hurry(self) -> None:
        if self.current is not None:
            self.sink.hurry(self.current)

    def too_large(self) -> AmqpLinkError:
        """The error for a delivery beyond max-message-size (2.7.3)."""
        return AmqpLinkError(
            ErrorCondition.MESSAGE_SIZE_EXCEEDED,
            f"link {self.name!r} takes messages of at most {self.max_message_size} octets",
        )
