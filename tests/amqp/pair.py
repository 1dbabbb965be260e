"""Two engines and a wire between them, for scenes: no sockets, no clock but `now`.

`Endpoint` is a `Connection` with an owner that answers whatever the other side begins and remembers what happened.
`Pair` is the wire: it hands octets over whole or one by one, can be cut, and moves time on to the next deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, TypeVar

from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED
from van.amqp.errors import AmqpError
from van.amqp.events import (
    ConnectionClosed,
    ConnectionOpened,
    Event,
    LinkAttached,
    LinkDetached,
    SessionBegun,
    SessionEnded,
)
from van.amqp.link import Link
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session
from van.amqp.terminus import Source, Target

E = TypeVar("E", bound=Event)

# A scene whose two ends still have something to say after so many turns would never come to rest.
MAX_TURNS = 10_000


class Sink(DeliverySink):
    """Owner of a receiver link: remembers deliveries, and settles them with `outcome` (None: not at all)."""

    __slots__ = ("aborted", "hurried", "link", "outcome_given", "received", "replenish", "returned", "updates")

    def __init__(self, link: ReceiverLink, outcome: object = ACCEPTED, replenish: bool = False) -> None:
        self.link = link
        self.outcome_given = outcome
        self.replenish = replenish
        self.received: list[Delivery] = []
        self.aborted: list[Delivery] = []
        self.hurried: list[Delivery] = []
        self.returned = 0
        self.updates: list[tuple[Delivery, object, bool]] = []

    @property
    def bodies(self) -> list[bytes]:
        """The payloads of what has arrived whole."""
        return [delivery.data() for delivery in self.received if not delivery.more]

    def deliver(self, delivery: Delivery) -> None:
        if delivery.aborted:
            self.aborted.append(delivery)
            return
        self.received.append(delivery)
        if not delivery.more:
            self.whole(delivery)

    def whole(self, delivery: Delivery) -> None:
        """A delivery is here to its last octet."""
        if self.outcome_given is not None and not delivery.settled:
            self.link.settle(delivery, self.outcome_given)
        if self.replenish:
            self.link.grant(1)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if not delivery.more:
            self.whole(delivery)

    def abort(self, delivery: Delivery) -> None:
        self.received.remove(delivery)
        self.aborted.append(delivery)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        self.updates.append((delivery, state, settled))

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        raise AssertionError("a sink of a scene hands nothing on")

    def left(self, delivery: Delivery) -> None:
        raise AssertionError("a sink of a scene hands nothing on")

    def hurry(self, delivery: Delivery) -> None:
        self.hurried.append(delivery)

    def flow_received(self, link: ReceiverLink, returned: int) -> None:
        self.returned += returned


class Feed(DeliverySource):
    """Owner of a sender link: sends what a scene gives it and remembers what became of it."""

    __slots__ = ("gone", "link", "outcomes", "settle_second")

    def __init__(self, link: SenderLink, settle_second: bool = False) -> None:
        super().__init__()
        self.link = link
        self.settle_second = settle_second
        self.outcomes: list[tuple[bytes, object, bool]] = []
        self.gone: list[Delivery] = []

    def send(self, payload: bytes, *, settled: bool = False, tag: bytes = b"", more: bool = False) -> Delivery:
        """Queue a delivery; `tag` is for the scene to know it by. With `more` it is the first piece of a longer one."""
        delivery = Delivery(None, 0, tag or payload[:32], payload, settled, Holder())
        delivery.holder.held += len(payload)
        if more:
            delivery.more = True
            delivery.payload = b""
            delivery.chunks = deque((payload,))
        self.undelivered.append(delivery)
        self.link.ready()
        return delivery

    def more(self, delivery: Delivery, payload: bytes, *, last: bool = False) -> None:
        """Add a piece to a delivery begun with `more`."""
        assert delivery.chunks is not None
        delivery.chunks.append(payload)
        delivery.holder.held += len(payload)
        delivery.more = not last
        self.link.ready()

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        self.outcomes.append((delivery.delivery_tag, state, settled))
        if not settled and self.settle_second:
            self.link.update(delivery, state, True)

    def left(self, delivery: Delivery) -> None:
        self.gone.append(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        raise AssertionError("a feed of a scene is no target")

    def abort(self, delivery: Delivery) -> None:
        raise AssertionError("a feed of a scene is no target")

    def others_wait(self) -> bool:
        return bool(self.undelivered)

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        raise AssertionError("a feed of a scene is no origin")


class Endpoint:
    """A connection, and an owner that answers.

    credit: granted on every link that the other side attaches to send. answers: without it a scene answers by itself.
    """

    def __init__(
        self,
        name: str = "engine",
        *,
        accepting: bool = True,
        answers: bool = True,
        credit: int = 0,
        outcome: object = ACCEPTED,
        replenish: bool = False,
        settle_second: bool = False,
        **settings: Any,
    ) -> None:
        self.answers = answers
        self.credit = credit
        self.outcome = outcome
        self.replenish = replenish
        self.settle_second = settle_second
        self.events: list[Event] = []
        self.touches = 0
        self.sinks: dict[str, Sink] = {}
        self.feeds: dict[str, Feed] = {}
        self.connection = Connection(name, accepting=accepting, on_touched=self._touched, **settings)

    def _touched(self) -> None:
        self.touches += 1

    # -- what a scene does ---------------------------------------------------------------------------------------

    def begin(self, first_id: int = 0) -> Session:
        """Begin a session; transfer-ids and delivery-ids start at `first_id`."""
        session = self.connection.session()
        session.next_outgoing_id = session.next_delivery_id = first_id
        session.begin()
        return session

    def sender(self, session: Session, name: str = "link", **attach: Any) -> Feed:
        """Attach a link that sends."""
        link = session.sender(name)
        feed = self.feeds[name] = Feed(link, self.settle_second)
        link.source = feed
        link.attach(_attach(link, attach))
        return feed

    def receiver(self, session: Session, name: str = "link", credit: int = 0, **attach: Any) -> Sink:
        """Attach a link that receives, and grant credit."""
        link = session.receiver(name)
        sink = self.sinks[name] = Sink(link, self.outcome, self.replenish)
        link.sink = sink
        link.attach(_attach(link, attach))
        if credit:
            link.grant(credit)
        return sink

    def seen(self, kind: type[E]) -> list[E]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def closed_with(self) -> str:
        """The condition of the first ConnectionClosed; a scene in which none came is wrong."""
        return self.seen(ConnectionClosed)[0].condition

    # -- what the wire does --------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float = 0.0) -> None:
        """Take octets and answer what they began."""
        self._handle(self.connection.receive_data(data, now))

    def eof(self, now: float = 0.0) -> None:
        """The other side's stream ended."""
        self._handle(self.connection.receive_eof(now))

    def deadline(self, now: float) -> None:
        """The time that the connection asked for has come."""
        self._handle(self.connection.handle_deadline(now))

    def take(self, limit: int = 65536) -> bytes:
        """Everything that is to be written now."""
        written: list[bytes | memoryview] = []
        for _ in range(MAX_TURNS):
            chunks = self.connection.data_to_send(limit)
            if not chunks:
                return b"".join(written)
            written.extend(chunks)
        raise AssertionError("the engine never stops writing")

    # -- the owner -----------------------------------------------------------------------------------------------

    def _handle(self, events: list[Event]) -> None:
        while events:
            for event in events:
                self.events.append(event)
                if self.answers:
                    self._answer(event)
            events = self.connection.take_events()

    def _answer(self, event: Event) -> None:
        if isinstance(event, ConnectionOpened):
            self.connection.open()
        elif isinstance(event, ConnectionClosed):
            self.connection.close()
        elif isinstance(event, SessionBegun):
            if not event.answer:
                try:
                    event.session.begin()
                except AmqpError as error:
                    if not event.session.local_begun:
                        self.connection.close(error)
        elif isinstance(event, SessionEnded):
            event.session.end()
        elif isinstance(event, LinkAttached):
            if not event.answer:
                self.answer_attach(event.link)
        elif isinstance(event, LinkDetached):
            event.link.detach(None, event.closed)

    def answer_attach(self, link: Link) -> None:
        """Attach our end of a link that the other side began."""
        if not link.session.local_begun or link.detach_sent:
            return
        assert link.remote is not None
        if isinstance(link, ReceiverLink):
            link.sink = self.sinks[link.name] = Sink(link, self.outcome, self.replenish)
        elif isinstance(link, SenderLink):
            link.source = self.feeds[link.name] = Feed(link, self.settle_second)
        try:
            modes = {"snd_settle_mode": link.remote.snd_settle_mode, "rcv_settle_mode": link.remote.rcv_settle_mode}
            link.attach(_attach(link, modes))
        except AmqpError as error:
            link.session.end(error)
            return
        if isinstance(link, ReceiverLink) and self.credit:
            link.grant(self.credit)


def _attach(link: Link, fields: dict[str, Any]) -> Attach:
    fields.setdefault("source", Source(address="a"))
    fields.setdefault("target", Target(address="b"))
    return Attach(name=link.name, handle=0, role=link.role, **fields)


class Pair:
    """Two endpoints and the wire.

    octets: hand over one octet at a time. Nothing is lost or reordered until `cut`.
    """

    def __init__(self, left: Endpoint, right: Endpoint, *, octets: bool = False) -> None:
        self.left = left
        self.right = right
        self.octets = octets
        self.now = 0.0
        self.whole = True
        self.written = {left.connection: 0, right.connection: 0}

    def move(self, sender: Endpoint, receiver: Endpoint, limit: int = 65536) -> int:
        """Hand over what one side has to write now; returns how many octets that was."""
        data = b"".join(sender.connection.data_to_send(limit))
        self.written[sender.connection] += len(data)
        if self.whole:
            step = 1 if self.octets else max(1, len(data))
            for start in range(0, len(data), step):
                receiver.receive(data[start : start + step], self.now)
        return len(data)

    def run(self, limit: int = 65536) -> None:
        """Hand everything over until both sides are quiet."""
        for _ in range(MAX_TURNS):
            if not self.move(self.left, self.right, limit) + self.move(self.right, self.left, limit):
                return
        raise AssertionError("the two ends never come to rest")

    def open(self) -> Pair:
        """Open both ends."""
        self.left.connection.open()
        self.right.connection.open()
        self.run()
        return self

    def cut(self) -> None:
        """The wire breaks: what was not handed over is lost, both ends see the end of the stream."""
        self.whole = False
        self.left.eof(self.now)
        self.right.eof(self.now)

    def advance(self, seconds: float, each: Callable[[], None] | None = None) -> None:
        """Let time pass, from deadline to deadline; `each` is called at every one."""
        end = self.now + seconds
        for _ in range(MAX_TURNS):
            deadline = min(self.left.connection.next_deadline(), self.right.connection.next_deadline(), inf)
            if deadline > end:
                self.now = end
                return
            self.now = max(self.now, deadline)
            for endpoint in (self.left, self.right):
                if endpoint.connection.next_deadline() <= self.now:
                    endpoint.deadline(self.now)
            self.run()
            if each is not None:
                each()
        raise AssertionError("deadlines never move on")


def opened(*, octets: bool = False, left: dict[str, Any] | None = None, right: dict[str, Any] | None = None) -> Pair:
    """A pair that is open: `left` connects, `right` accepts and answers."""
    pair = Pair(
        Endpoint("left", accepting=False, **(left or {})), Endpoint("right", **(right or {})), octets=octets
    )
    return pair.open()
