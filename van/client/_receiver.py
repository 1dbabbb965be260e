"""Receiving: whole deliveries in a queue that credit bounds, and their settlement."""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from van.amqp.delivery import Delivery as EngineDelivery
from van.amqp.delivery import DeliverySink
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.errors import DecodeError
from van.amqp.link import RCV_FIRST, SND_MIXED, SND_SETTLED
from van.amqp.message import AmqpSequence, AmqpValue, Data, Message
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.terminus import DeleteOnClose, Source, Target
from van.client._adaptor import ClientAdaptor, wire_error
from van.client._errors import ClientError, MalformedMessageError
from van.client._link import LinkEnd

DEFAULT_CREDIT: Final = 100
"""Deliveries that may wait here until the application takes them; enough to keep a link of 1 ms busy at 100 000 a
second. It is the bound of the queue: peers that send beyond it are detached."""

TURNS: Final = 64
"""So many deliveries from a filled queue are taken before other tasks have their turn: a checkpoint for each would
cost as much as the delivery."""


class Delivery:
    """A message that has arrived, until it is settled.

    `payload` is the encoded message. `settled` tells that nothing is owed for it: it was sent so, or has been settled
    here. Settling waits for nothing; it is written with what else there is to write.
    """

    __slots__ = ("_delivery", "_message", "_receiver", "_verdict", "payload", "settled")

    def __init__(self, receiver: Receiver, delivery: EngineDelivery, payload: bytes) -> None:
        self._receiver = receiver
        self._delivery = delivery
        self._message: Message | None = None
        self._verdict = ""
        self.payload = payload
        self.settled = delivery.settled

    @property
    def message(self) -> Message:
        """The message, decoded when it is asked for. Raises `MalformedMessageError`."""
        if self._message is None:
            try:
                self._message = Message.decode(self.payload)
            except DecodeError as error:
                raise MalformedMessageError(error.condition, error.description) from None
        return self._message

    @property
    def body(self) -> object:
        """The body as a Python value: octets, a list (amqp-sequence), or any value; None where there is none."""
        return body_of(self.message)

    @property
    def delivery_tag(self) -> bytes:
        """The tag that its sender gave it (2.6.12)."""
        return self._delivery.delivery_tag

    def accept(self) -> None:
        """It was processed. Does nothing on a delivery that was sent settled.

        This and the other outcomes raise what ended link or connection, since the sender will not hear of it, and
        RuntimeError on a delivery that has been settled here before.
        """
        self._settle(ACCEPTED, "accepted")

    def reject(self, condition: str = "", description: str = "") -> None:
        """It is invalid and cannot be processed (3.4.3); the sender is told condition and description."""
        self._settle(Rejected(error=wire_error(condition, description)), "rejected")

    def release(self) -> None:
        """It was not processed and somebody else may have it (3.4.4)."""
        self._settle(RELEASED, "released")

    def modify(
        self,
        *,
        delivery_failed: bool = False,
        undeliverable_here: bool = False,
        message_annotations: dict[str, object] | None = None,
    ) -> None:
        """It was not processed, and something about it is to change (3.4.5)."""
        state = Modified(
            delivery_failed=delivery_failed or None,
            undeliverable_here=undeliverable_here or None,
            message_annotations=message_annotations,
        )
        self._settle(state, "modified")

    def _settle(self, state: object, verdict: str) -> None:
        if self._verdict:
            raise RuntimeError(f"this delivery has been settled already: {self._verdict}")
        if self.settled:
            return
        self._receiver.settle(self._delivery, state)
        self._verdict = verdict
        self.settled = True

    def __repr__(self) -> str:
        state = self._verdict or ("settled" if self.settled else "unsettled")
        return f"<Delivery of {len(self.payload)} octets, {state}>"


def body_of(message: Message) -> object:
    """The body of a message as a Python value; several data sections are joined, several sequences chained."""
    body = message.body
    if isinstance(body, list):
        if isinstance(body[0], Data):
            return b"".join(section.value for section in body)
        return [item for section in body for item in section.value]
    if isinstance(body, (Data, AmqpSequence, AmqpValue)):
        return body.value
    return None


class _Sink(DeliverySink):
    """Owner of the engine's receiver link."""

    __slots__ = ("receiver",)

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def deliver(self, delivery: EngineDelivery) -> None:
        if delivery.aborted:
            self.receiver.replenish(1)
        elif not delivery.more:
            self.receiver.arrived(delivery)

    def extend(self, delivery: EngineDelivery, payload: bytes) -> None:
        if not delivery.more:
            self.receiver.arrived(delivery)

    def abort(self, delivery: EngineDelivery) -> None:
        self.receiver.replenish(1)

    def updated(self, delivery: EngineDelivery, state: object, settled: bool) -> None:
        """The sender settled by itself: it does not want to hear from us, and the engine has forgotten the delivery."""

    def flow_received(self, link: ReceiverLink, returned: int) -> None:
        self.receiver.credit_returned(returned)


class Receiver(LinkEnd):
    """Receives from one address; `async for delivery in receiver`.

    Made by `Connection.receiver`. `address` is that of a dynamic source as the peer chose it. Deliveries that nobody
    has taken when its block ends are released, and go to others.
    """

    def __init__(
        self, adaptor: ClientAdaptor, link: ReceiverLink, address: str | None, *, credit: int, settled: bool
    ) -> None:
        super().__init__(adaptor, link)
        if credit < 0:
            raise ValueError("credit cannot be negative")
        self.address = address
        self._receiver_link = link
        link.sink = _Sink(self)
        self._credit = credit
        self._automatic = credit > 0
        # Credit goes back in portions, so that Flows are few.
        self._grant_at = max(1, credit // 2)
        self._owed = 0
        self._settled = settled
        self._queue: deque[Delivery] = deque()
        self._waiting = trio.lowlevel.ParkingLot()
        self._draining = False
        self._drain_answered = trio.Event()
        self._turns = 0

    # -- for applications ----------------------------------------------------------------------------------------

    async def receive(self) -> Delivery:
        """The next delivery, waiting for it.

        Raises `LinkDetachedError`, `SessionEndedError`, `ConnectionClosedError` when there will be none, and
        `trio.EndOfChannel` after `drain` when all have been taken. Cancelled, it takes none.
        """
        self._turns += 1
        if self._queue and self._turns % TURNS:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        while not self._queue:
            self._check()
            if self._draining and self._drain_answered.is_set():
                raise trio.EndOfChannel
            await self._waiting.park()
        return self._take()

    def receive_nowait(self) -> Delivery:
        """The next delivery if it is here. Raises `trio.WouldBlock` if not, and otherwise as `receive` does."""
        if not self._queue:
            self._check()
            if self._draining and self._drain_answered.is_set():
                raise trio.EndOfChannel
            raise trio.WouldBlock
        return self._take()

    def __aiter__(self) -> Receiver:
        return self

    async def __anext__(self) -> Delivery:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def grant(self, credit: int) -> None:
        """Let the sender send `credit` more deliveries, for receivers without automatic credit, or after `drain`."""
        self._check()
        if credit < 1:
            raise ValueError("credit has to be at least 1")
        self._draining = False
        self._receiver_link.grant(credit)

    async def drain(self) -> None:
        """Ask the sender for what it has, as far as credit goes, and to give the rest of the credit back (2.6.7).

        Returns when it has. What came is then in the queue, iteration ends behind it, and automatic credit has ended.
        """
        self._check()
        self._automatic = False
        self._draining = True
        self._drain_answered = trio.Event()
        if self._receiver_link.link_credit > 0:
            self._receiver_link.request_drain()
            await self._drain_answered.wait()
            self._check()
        else:
            self._drain_answered.set()
            self._waiting.unpark_all()
            await trio.lowlevel.checkpoint()

    @property
    def credit(self) -> int:
        """How many deliveries the sender may still send."""
        return self._receiver_link.link_credit

    @property
    def queued(self) -> int:
        """How many deliveries are here and have not been taken."""
        return len(self._queue)

    # -- attaching -----------------------------------------------------------------------------------------------

    async def attach(
        self,
        dynamic: bool,
        filters: dict[str, object] | None,
        capabilities: list[str] | None,
        max_message_size: int | None,
    ) -> None:
        """Attach the link and grant the first credit (called by `Connection.receiver`)."""
        await self._attach(
            Attach(
                name=self.name,
                handle=0,
                role=True,
                snd_settle_mode=SND_SETTLED if self._settled else SND_MIXED,
                rcv_settle_mode=RCV_FIRST,
                source=Source(
                    address=None if dynamic else self.address,
                    dynamic=dynamic,
                    dynamic_node_properties={"lifetime-policy": DeleteOnClose()} if dynamic else None,
                    filter=filters,
                    capabilities=capabilities,
                ),
                target=Target(address=None if dynamic else self.address),
                max_message_size=max_message_size,
            )
        )
        remote = self._link.remote
        if dynamic and remote is not None and isinstance(remote.source, Source):
            self.address = remote.source.address
        if self._credit:
            self._receiver_link.grant(self._credit)

    def _has_terminus(self) -> bool:
        remote = self._link.remote
        return remote is not None and remote.source is not None

    # -- called by the sink and by deliveries --------------------------------------------------------------------

    def arrived(self, delivery: EngineDelivery) -> None:
        """A delivery is here to its last octet."""
        payload = delivery.data()
        delivery.payload = b""
        delivery.chunks = None
        delivery.holder.held -= len(payload)
        self._enqueue(Delivery(self, delivery, payload))
        if self._draining:
            self.credit_returned(0)

    def _enqueue(self, delivery: Delivery) -> None:
        self._queue.append(delivery)
        self._waiting.unpark()

    def replenish(self, credit: int) -> None:
        """So many deliveries have left the queue, or were aborted: the sender may send as many more."""
        if self._automatic:
            self._owed += credit
            if self._owed >= self._grant_at and self._error is None and not self._closed:
                self._receiver_link.grant(self._owed)
                self._owed = 0

    def credit_returned(self, returned: int) -> None:
        """The sender's Flow is here; perhaps the answer to a drain."""
        if self._draining:
            if self._receiver_link.link_credit == 0 and self._receiver_link.current is None:
                self._drain_answered.set()
                self._waiting.unpark_all()
        elif returned:
            self.replenish(returned)

    def settle(self, delivery: EngineDelivery, state: object) -> None:
        """Settle with an outcome. Raises what ended the link."""
        self._check()
        self._receiver_link.settle(delivery, state)

    # -- inside --------------------------------------------------------------------------------------------------

    def _take(self) -> Delivery:
        delivery = self._queue.popleft()
        self.replenish(1)
        return delivery

    def _close(self) -> None:
        if not self._closed and self._error is None:
            for delivery in self._queue:
                if not delivery.settled:
                    delivery.release()
            self._queue.clear()
        super()._close()

    def _on_gone(self, error: ClientError) -> None:
        # What is not settled goes to others; what was sent settled is ours.
        self._queue = deque(delivery for delivery in self._queue if delivery.settled)
        link = self._receiver_link
        unsettled = link.session.unsettled_in
        for delivery in [delivery for delivery in unsettled.values() if delivery.receiver is link]:
            del unsettled[delivery.delivery_id]
        self._drain_answered.set()
        self._waiting.unpark_all()
