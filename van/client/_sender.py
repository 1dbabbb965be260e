"""Sending: messages wait for credit in a bounded queue, and every one has a tracker that learns its outcome."""

from __future__ import annotations

from typing import Final, TypeAlias

import trio

from van.amqp.delivery import Delivery as EngineDelivery
from van.amqp.delivery import DeliveryOrigin, DeliverySource, Holder
from van.amqp.errors import ErrorCondition
from van.amqp.link import SND_SETTLED, SND_UNSETTLED
from van.amqp.message import AmqpValue, Data, Message
from van.amqp.performatives import Attach
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Source, Target
from van.client._adaptor import ClientAdaptor
from van.client._errors import ClientError, MessageTooLargeError
from van.client._link import LinkEnd
from van.client._outcome import SETTLED, Outcome, from_state, in_doubt

DEFAULT_MAX_PENDING: Final = 1000
"""Messages of one sender that wait for credit or for their outcome: four times the credit that routers give. At the
bound `send` and `submit` wait, `send_nowait` raises `trio.WouldBlock`."""

MAX_QUEUED_OCTETS: Final = 8 << 20
"""The same bound in octets not yet written: it keeps any network busy. One message, however large, may always wait."""

Sendable: TypeAlias = Message | str | bytes
"""What `send` takes: a text becomes an amqp-value, octets become a data section."""


def as_message(content: Sendable) -> Message:
    """The message that `content` stands for."""
    if isinstance(content, Message):
        return content
    return Message(body=AmqpValue(content) if isinstance(content, str) else Data(content))


class Tracker(DeliveryOrigin):
    """Follows one message that is being sent."""

    __slots__ = ("_delivery", "_done", "_error", "_outcome", "_sender")

    def __init__(self, sender: Sender, delivery: EngineDelivery) -> None:
        self._sender = sender
        self._delivery = delivery
        self._done: trio.Event | None = None
        self._outcome: Outcome | None = None
        self._error: ClientError | None = None

    @property
    def outcome_now(self) -> Outcome | None:
        """What became of the message; None while that is not known, and where it was not sent."""
        return self._outcome

    async def wait(self) -> Outcome:
        """Wait until it is known what became of the message.

        Raises the error that ended link or connection where the message was not sent; if it was sent and its outcome
        is lost, that is an outcome too: in doubt. Being cancelled changes nothing: the message is still sent.
        """
        if self._outcome is None and self._error is None:
            if self._done is None:
                self._done = trio.Event()
            await self._done.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self._error is not None:
            raise self._error.again()
        assert self._outcome is not None
        return self._outcome

    # -- from the link -------------------------------------------------------------------------------------------

    def outcome(self, delivery: EngineDelivery, state: object, settled: bool) -> None:
        result = from_state(state, settled)
        if result is None:
            return
        if not settled and delivery.sender is not None:
            # 2.6.12: the receiver waits for us to settle, and we know all that we want to know.
            delivery.sender.update(delivery, state, True)
        self._sender.finished(self, result)

    def left(self, delivery: EngineDelivery) -> None:
        self._sender.finished(self, SETTLED)

    # -- from the sender -----------------------------------------------------------------------------------------

    def resolve(self, outcome: Outcome | None, error: ClientError | None = None) -> bool:
        """Wake who waits. Returns whether somebody does."""
        self._outcome = outcome
        self._error = error
        if self._done is None:
            return False
        self._done.set()
        return True

    @property
    def delivery(self) -> EngineDelivery:
        """The engine's side."""
        return self._delivery


class _Source(DeliverySource):
    """Owner of the engine's sender link."""

    __slots__ = ("sender",)

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self.sender = sender

    def credit_changed(self, link: SenderLink) -> None:
        self.sender.credit_changed()

    def updated(self, delivery: EngineDelivery, state: object, settled: bool) -> None:
        if settled and delivery.sender is not None and delivery.sender.current is delivery:
            # It has its outcome before its end: the rest need not go out.
            delivery.sender.abort_current()
        if delivery.origin is not None:
            delivery.origin.outcome(delivery, state, settled)

    def left(self, delivery: EngineDelivery) -> None:
        if delivery.origin is not None:
            delivery.origin.left(delivery)


class Sender(LinkEnd):
    """Sends to one address, or, without one, to where each message's properties say (`to`).

    Made by `Connection.sender`. Leaving its block in peace waits for the outcomes of all that was sent.
    """

    def __init__(
        self, adaptor: ClientAdaptor, link: SenderLink, address: str | None, *, settled: bool, max_pending: int
    ) -> None:
        super().__init__(adaptor, link)
        if max_pending < 1:
            raise ValueError("max_pending has to be at least 1")
        self.address = address
        self.settled = settled
        self._sender_link = link
        self._source = _Source(self)
        link.source = self._source
        self._max_pending = max_pending
        self._holder = Holder()
        self._trackers: dict[Tracker, None] = {}
        self._room = trio.lowlevel.ParkingLot()
        self._credit = trio.lowlevel.ParkingLot()
        self._all_done = trio.lowlevel.ParkingLot()
        self._unnoticed: ClientError | None = None

    # -- for applications ----------------------------------------------------------------------------------------

    async def send(self, message: Sendable) -> Outcome:
        """Send a message and wait for what becomes of it; for settled senders, until it is handed to the network.

        Outcomes other than accepted are returned, not raised (`Outcome.check` does that), also *in doubt*, when the
        connection ended before the outcome came. Raises `LinkDetachedError`, `SessionEndedError`,
        `ConnectionClosedError` where the message was not sent, `MessageTooLargeError`, `EncodeError`.
        Cancelled before it was sent it is not sent; cancelled later its outcome is lost.
        """
        tracker = await self.submit(message)
        try:
            return await tracker.wait()
        except trio.Cancelled:
            self._withdraw(tracker)
            raise

    async def submit(self, message: Sendable) -> Tracker:
        """Queue a message, waiting until there is room; the tracker learns its outcome. Raises as `send` does."""
        self._check()
        payload = self._encode(message)
        if self._has_room():
            await trio.lowlevel.checkpoint_if_cancelled()
        while not self._has_room():
            await self._room.park()
            self._check()
        return self._queue(payload)

    def send_nowait(self, message: Sendable) -> Tracker:
        """Queue a message. Raises `trio.WouldBlock` where there is no room, and otherwise as `send` does."""
        self._check()
        payload = self._encode(message)
        if not self._has_room():
            raise trio.WouldBlock
        return self._queue(payload)

    async def wait_for_credit(self) -> None:
        """Wait until the peer would take one more message at once. Raises what ends the link."""
        await trio.lowlevel.checkpoint()
        while True:
            self._check()
            if self.credit > 0:
                return
            await self._credit.park()

    async def wait_settled(self) -> None:
        """Wait until everything that was sent has an outcome.

        Raises what ended the link, if because of it messages were not sent and nobody has been told so far.
        """
        await trio.lowlevel.checkpoint()
        while self._trackers:
            await self._all_done.park()
        if self._unnoticed is not None:
            error, self._unnoticed = self._unnoticed, None
            raise error.again()

    @property
    def credit(self) -> int:
        """How many more messages would go out at once."""
        return max(0, self._sender_link.link_credit - len(self._source.undelivered))

    @property
    def pending(self) -> int:
        """How many messages wait for credit or for their outcome."""
        return len(self._trackers)

    # -- attaching -----------------------------------------------------------------------------------------------

    async def attach(self, capabilities: list[str] | None) -> None:
        """Attach the link (called by `Connection.sender`)."""
        await self._attach(
            Attach(
                name=self.name,
                handle=0,
                role=False,
                snd_settle_mode=SND_SETTLED if self.settled else SND_UNSETTLED,
                source=Source(address=self.address),
                target=Target(address=self.address, capabilities=capabilities),
            )
        )

    def _has_terminus(self) -> bool:
        remote = self._link.remote
        return remote is not None and remote.target is not None

    # -- inside --------------------------------------------------------------------------------------------------

    def _encode(self, message: Sendable) -> bytes:
        payload = as_message(message).encode()
        if len(payload) > self._link.max_message_size:
            raise MessageTooLargeError(
                ErrorCondition.MESSAGE_SIZE_EXCEEDED,
                f"a message of {len(payload)} octets, where the peer takes {self._link.max_message_size}",
            )
        return payload

    def _has_room(self) -> bool:
        return len(self._trackers) < self._max_pending and (
            self._holder.held < MAX_QUEUED_OCTETS or not self._source.undelivered
        )

    def _queue(self, payload: bytes) -> Tracker:
        delivery = EngineDelivery(None, -1, b"", payload, self.settled, self._holder)
        tracker = Tracker(self, delivery)
        delivery.origin = tracker
        self._holder.held += len(payload)
        self._trackers[tracker] = None
        self._source.undelivered.append(delivery)
        self._sender_link.ready()
        return tracker

    def finished(self, tracker: Tracker, outcome: Outcome) -> None:
        """The outcome of a message is known (called by its tracker)."""
        if tracker in self._trackers:
            del self._trackers[tracker]
            tracker.resolve(outcome)
            self._made_room()

    def credit_changed(self) -> None:
        """The peer's Flow is here."""
        if self._credit and self.credit > 0:
            self._credit.unpark_all()

    def _made_room(self) -> None:
        if self._room:
            self._room.unpark()
        if not self._trackers:
            self._all_done.unpark_all()

    def _withdraw(self, tracker: Tracker) -> None:
        """Whoever sent this does not wait any more: what has not gone out stays here."""
        if tracker not in self._trackers:
            return
        delivery = tracker.delivery
        if delivery.sender is None:
            self._source.undelivered.remove(delivery)
            self._holder.held -= len(delivery.payload)
        elif self._sender_link.current is delivery:
            self._sender_link.abort_current()
        del self._trackers[tracker]
        self._made_room()

    def _on_gone(self, error: ClientError) -> None:
        link = self._sender_link
        unsettled = link.session.unsettled_out
        trackers = list(self._trackers)
        self._trackers.clear()
        self._source.undelivered.clear()
        for tracker in trackers:
            delivery = tracker.delivery
            if delivery.sender is None or link.current is delivery:
                if not tracker.resolve(None, error):
                    self._unnoticed = error
            else:
                tracker.resolve(in_doubt(error))
        for delivery in [delivery for delivery in unsettled.values() if delivery.sender is link]:
            del unsettled[delivery.out_id]
        self._room.unpark_all()
        self._credit.unpark_all()
        self._all_done.unpark_all()
