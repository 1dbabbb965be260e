"""Applications of a simulated network: a connection to one router, senders and receivers, and a record of everything.

They have no tasks: messages are queued, sent when there is credit, and looked at afterwards. When its router dies an
application connects again as soon as there is one, with the same senders and receivers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliveryOrigin, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED, Accepted, Modified, Received, Rejected, Released
from van.amqp.events import ConnectionClosed, Event, LinkAttached, LinkDetached, SessionEnded
from van.amqp.message import Data, Message, Properties
from van.amqp.performatives import Attach, Error
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session
from van.amqp.terminus import Source, Target
from van.routing.adaptor import Adaptor

CREDIT: Final = 100
# What became of a message that was handed to a router that died before it answered.
IN_DOUBT: Final = "in doubt"
# What became of a pre-settled one.
SENT: Final = "sent"
OUTCOMES: Final = {Accepted: "accepted", Rejected: "rejected", Released: "released", Modified: "modified"}


class Sending(DeliveryOrigin):
    """One message that was sent, or waits for credit.

    `result` is accepted, rejected, released, modified, sent (of a pre-settled one), "in doubt" (its router died), or
    None until it has one.
    """

    __slots__ = ("delivery", "outcome_", "payload", "presettled", "sender")

    def __init__(self, sender: Sender, payload: bytes, presettled: bool) -> None:
        self.sender = sender
        self.payload = payload
        self.presettled = presettled
        self.outcome_: str | None = None
        self.delivery: Delivery | None = None

    @property
    def result(self) -> str | None:
        """What became of it."""
        return self.outcome_

    @property
    def waits(self) -> bool:
        """Whether it has not been sent yet, for want of credit or of a connection."""
        return self.delivery is not None and self.delivery in self.sender.undelivered

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        if state is not None and type(state) is not Received:
            self.outcome_ = OUTCOMES.get(type(state), repr(state))
        elif settled and self.outcome_ is None:
            self.outcome_ = OUTCOMES[Accepted]
        if settled:
            self.sender.open.pop(delivery, None)

    def left(self, delivery: Delivery) -> None:
        self.outcome_ = SENT
        self.sender.open.pop(delivery, None)


class Sender(DeliverySource):
    """A sender of an application; `address` None sends to the address that each message names."""

    __slots__ = ("address", "application", "error", "holder", "link", "open", "sendings")

    def __init__(self, application: Application, address: str | None) -> None:
        super().__init__()
        self.application = application
        self.address = address
        self.link: SenderLink | None = None
        self.error: Error | None = None
        self.holder = Holder()
        self.sendings: list[Sending] = []
        # What was handed to the link and has no outcome yet.
        self.open: dict[Delivery, Sending] = {}

    @property
    def credit(self) -> int:
        """How many messages may be sent now."""
        return self.link.link_credit if self.link is not None else 0

    def send(self, body: bytes, *, presettled: bool = False, to: str | None = None, **properties: object) -> Sending:
        """Send a message as soon as there is credit. `properties` are the message's (3.2.4)."""
        made = Properties(to=to, **properties) if to is not None or properties else None  # type: ignore[arg-type]
        sending = Sending(self, Message(properties=made, body=Data(body)).encode(), presettled)
        self.sendings.append(sending)
        self.queue(sending)
        if self.link is not None:
            self.link.ready()
            self.application.flush()
        return sending

    def queue(self, sending: Sending) -> None:
        """Put a message behind those that wait."""
        delivery = Delivery(None, 0, b"", sending.payload, sending.presettled, self.holder)
        delivery.origin = sending
        sending.delivery = delivery
        self.undelivered.append(delivery)
        self.open[delivery] = sending

    def unsettled(self) -> list[Sending]:
        """What has no outcome yet, what waits for credit included."""
        return list(self.open.values())

    def attach(self, session: Session, name: str) -> None:
        link = self.link = session.sender(name)
        link.source = self
        link.attach(
            Attach(
                name=name,
                handle=0,
                role=False,
                source=Source(),
                target=Target(address=self.address),
                initial_delivery_count=0,
            )
        )

    def lost(self) -> None:
        """The connection is gone: what waited waits for the next one, everything else is in doubt."""
        self.link = None
        self.undelivered.clear()
        waiting = deque[Sending]()
        for delivery, sending in self.open.items():
            if delivery.sender is None:
                waiting.append(sending)
            else:
                sending.outcome_ = SENT if sending.presettled else IN_DOUBT
        self.open.clear()
        for sending in waiting:
            self.queue(sending)

    # -- the link's owner ----------------------------------------------------------------------------------------

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        sending = self.open.get(delivery)
        if sending is not None:
            sending.outcome(delivery, state, settled)
            if not settled and sending.outcome_ is not None and self.link is not None:
                self.link.update(delivery, None, True)
                self.open.pop(delivery, None)

    def left(self, delivery: Delivery) -> None:
        sending = self.open.get(delivery)
        if sending is not None:
            sending.left(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        """Messages are whole."""

    def abort(self, delivery: Delivery) -> None:
        """Messages are whole."""

    def others_wait(self) -> bool:
        return False


class Receiver(DeliverySink):
    """A receiver of an application. It accepts every message at once, and gives its credit back.

    `messages` are those that came whole, in their order; `on_message` is called with each. `address` is the one that
    the router made where `dynamic` asked for that. What is put into `outcomes` is what the next messages are answered
    with, one each.
    """

    __slots__ = ("address", "application", "credit", "dynamic", "error", "link", "messages", "on_message", "outcomes")

    def __init__(self, application: Application, address: str | None, credit: int) -> None:
        self.application = application
        self.address = address
        self.dynamic = address is None
        self.credit = credit
        self.link: ReceiverLink | None = None
        self.error: Error | None = None
        self.messages: list[Message] = []
        self.on_message: Callable[[Message], None] | None = None
        self.outcomes: deque[object] = deque()

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of the messages."""
        return [message.body.value for message in self.messages if isinstance(message.body, Data)]

    def attach(self, session: Session, name: str) -> None:
        link = self.link = session.receiver(name)
        link.sink = self
        link.attach(
            Attach(
                name=name,
                handle=0,
                role=True,
                source=Source(address=None if self.dynamic else self.address, dynamic=self.dynamic),
                target=Target(),
            )
        )
        link.grant(self.credit)

    def lost(self) -> None:
        self.link = None

    # -- the link's owner ----------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        if not delivery.more:
            self._finish(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if not delivery.more:
            self._finish(delivery)

    def abort(self, delivery: Delivery) -> None:
        delivery.holder.held -= len(delivery.data())
        if delivery.chunks is not None:
            delivery.chunks.clear()
        assert self.link is not None
        self.link.grant(1)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """What was delivered is answered already."""

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        """Nothing is passed on."""

    def left(self, delivery: Delivery) -> None:
        """Nothing is passed on."""

    def _finish(self, delivery: Delivery) -> None:
        link = self.link
        assert link is not None
        payload = delivery.data()
        delivery.holder.held -= len(payload)
        if delivery.chunks is not None:
            delivery.chunks.clear()
        message = Message.decode(payload)
        self.messages.append(message)
        if not delivery.settled:
            link.settle(delivery, self.outcomes.popleft() if self.outcomes else ACCEPTED)
        link.grant(1)
        if self.on_message is not None:
            self.on_message(message)


class ClientAdaptor(Adaptor):
    """One connection of an application."""

    def __init__(self, application: Application, connection: Connection) -> None:
        super().__init__()
        self.application = application
        self.connection = connection

    def receive_data(self, data: bytes, now: float) -> None:
        self._handle(self.connection.receive_data(data, now))
        self.closed = self.connection.closed

    def receive_eof(self, now: float) -> None:
        self._handle(self.connection.receive_eof(now))
        self.closed = True

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        return self.connection.data_to_send(limit)

    def next_deadline(self) -> float:
        return self.connection.next_deadline()

    def handle_deadline(self, now: float) -> None:
        self._handle(self.connection.handle_deadline(now))
        self.closed = self.connection.closed

    def close(self, condition: str, description: str) -> None:
        self.connection.close()

    def connection_lost(self, now: float) -> None:
        self.closed = True

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, LinkAttached):
                self.application.attached(event.link)
            elif isinstance(event, LinkDetached):
                self.application.detached(event)
                event.link.detach(None, event.closed)
            elif isinstance(event, SessionEnded):
                event.session.end()
            elif isinstance(event, ConnectionClosed):
                self.connection.close()


class Application:
    """One application: attached to `router` whenever that runs. Made by `RouterNetwork.application`."""

    def __init__(self, name: str, router: str) -> None:
        self.name = name
        self.router = router
        self.senders: list[Sender] = []
        self.receivers: list[Receiver] = []
        self.adaptor: ClientAdaptor | None = None
        self.session: Session | None = None
        self.connections = 0
        # Set by the network while it is connected: sends what there is.
        self.on_queued: Callable[[], None] | None = None

    @property
    def connected(self) -> bool:
        """Whether it has a connection at this moment."""
        return self.adaptor is not None

    def sender(self, address: str | None) -> Sender:
        """Attach a sender to an address; None: every message names its own."""
        sender = Sender(self, address)
        self.senders.append(sender)
        if self.session is not None:
            sender.attach(self.session, f"{self.name}-out-{len(self.senders)}")
            self.flush()
        return sender

    def receiver(self, address: str | None, *, credit: int = CREDIT) -> Receiver:
        """Attach a receiver to an address; None: to one that the router makes up, `Receiver.address` afterwards."""
        receiver = Receiver(self, address, credit)
        self.receivers.append(receiver)
        if self.session is not None:
            receiver.attach(self.session, f"{self.name}-in-{len(self.receivers)}")
            self.flush()
        return receiver

    def detach(self, end: Sender | Receiver) -> None:
        """Detach a sender or receiver for good."""
        if isinstance(end, Sender):
            self.senders.remove(end)
        else:
            self.receivers.remove(end)
        if end.link is not None:
            end.link.detach(None, True)
            self.flush()

    def flush(self) -> None:
        """Have it sent what was queued."""
        if self.on_queued is not None:
            self.on_queued()

    # -- called by the network and the adaptor -------------------------------------------------------------------

    def connect(self, now: float) -> ClientAdaptor:
        """Make the adaptor of a new connection, with everything attached."""
        self.connections += 1
        connection = Connection(f"{self.name}-{self.connections}", accepting=False, idle_timeout=0.0, now=now)
        connection.open()
        self.session = connection.session()
        self.session.begin()
        self.adaptor = ClientAdaptor(self, connection)
        for number, sender in enumerate(self.senders):
            sender.attach(self.session, f"{self.name}-out-{number}-{self.connections}")
            if sender.undelivered and sender.link is not None:
                sender.link.ready()
        for number, receiver in enumerate(self.receivers):
            receiver.attach(self.session, f"{self.name}-in-{number}-{self.connections}")
        return self.adaptor

    def lost(self) -> None:
        """The connection is gone."""
        self.adaptor = None
        self.session = None
        self.on_queued = None
        for sender in self.senders:
            sender.lost()
        for receiver in self.receivers:
            receiver.lost()

    def attached(self, link: object) -> None:
        """The router has answered an attach."""
        for receiver in self.receivers:
            if receiver.link is link and receiver.dynamic and receiver.link is not None:
                remote = receiver.link.remote
                if remote is not None and isinstance(remote.source, Source):
                    receiver.address = remote.source.address

    def detached(self, event: LinkDetached) -> None:
        """The router has detached a link."""
        for sender in self.senders:
            if sender.link is event.link:
                sender.error = event.error
        for receiver in self.receivers:
            if receiver.link is event.link:
                receiver.error = event.error
