"""A router and its clients without sockets: byte wires, virtual time, and clients whose every step the scene decides.

    network = Network()
    sender = network.client().sender("orders")
    receiver = network.client().receiver("orders", credit=10)
    sent = sender.send(b"one")
    network.run()
    assert receiver.bodies == [b"one"] and sent.state == ACCEPTED

Wires hand octets over whole, or with `piece` in pieces of at most that many octets, their sizes drawn from `seed`.
A wire holds `capacity` octets towards a client: a client that does not read fills it, as a socket's buffer would be.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Collection

from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliveryOrigin, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED, Received
from van.amqp.events import ConnectionClosed, Event, LinkDetached, SessionEnded
from van.amqp.link import RCV_FIRST, RCV_SECOND, SND_MIXED
from van.amqp.performatives import Attach, Error
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session, WindowPolicy
from van.amqp.terminus import Coordinator, Source, Target
from van.routing.address import AddressConfig, Distribution
from van.routing.budget import DEFAULT_MEMORY_LIMIT, ByteBudget
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import OutgoingLink
from van.routing.router import Router

WIRE_CAPACITY = 65536
# What the router takes from clients, where a scene says nothing else.
FRAME_SIZE = 16384


class Sent(DeliveryOrigin):
    """A delivery as its sender sees it: the states that it heard of, and whether it is settled."""

    __slots__ = ("delivery", "link", "settled", "states")

    def __init__(self, link: SenderLink, delivery: Delivery) -> None:
        self.link = link
        self.delivery = delivery
        self.states: list[object] = []
        self.settled = False

    @property
    def state(self) -> object:
        """The last state that was named, None before that."""
        return self.states[-1] if self.states else None

    @property
    def unsettled(self) -> bool:
        return not self.settled

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        if state is not None:
            self.states.append(state)
        self.settled = self.settled or settled

    def left(self, delivery: Delivery) -> None:
        self.settled = True

    def settle(self, state: object = None) -> None:
        """Settle as the sender: unilaterally, or as the second where the receiver wants to know (2.6.12)."""
        self.link.update(self.delivery, state, True)
        self.settled = True

    def more(self, body: bytes) -> None:
        """The next part of a delivery that was begun."""
        delivery = self.delivery
        assert delivery.chunks is not None
        delivery.chunks.append(body)
        delivery.holder.held += len(body)
        self.link.ready()

    def end(self, body: bytes = b"") -> None:
        """The last part of a delivery that was begun."""
        self.delivery.more = False
        self.more(body)

    def abort(self) -> None:
        """Give up a delivery that was begun."""
        self.link.abort_current()


class Sender(DeliverySource):
    """A client's sender link."""

    __slots__ = ("client", "credit_seen", "drained", "holder", "link", "second")

    def __init__(self, client: Client, link: SenderLink, second: bool) -> None:
        super().__init__()
        self.client = client
        self.link = link
        self.holder = Holder()
        self.second = second
        link.source = self

    @property
    def credit(self) -> int:
        return self.link.link_credit

    @property
    def error(self) -> Error | None:
        """Why the router detached the link."""
        return self.client.errors.get(self.link)

    def send(self, body: bytes, *, settled: bool = False, message_format: int = 0) -> Sent:
        """Send a whole delivery as soon as there is credit."""
        delivery = Delivery(None, 0, b"", body, settled, self.holder)
        delivery.message_format = message_format
        return self._send(delivery)

    def begin(self, body: bytes, *, settled: bool = False) -> Sent:
        """Begin a delivery of several frames."""
        delivery = Delivery(None, 0, b"", b"", settled, self.holder)
        delivery.chunks = deque((body,))
        delivery.more = True
        return self._send(delivery)

    def _send(self, delivery: Delivery) -> Sent:
        sent = Sent(self.link, delivery)
        delivery.origin = sent
        self.undelivered.append(delivery)
        self.link.ready()
        return sent

    def detach(self, closed: bool = True) -> None:
        self.link.detach(None, closed)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        sent = delivery.origin
        assert isinstance(sent, Sent)
        sent.outcome(delivery, state, settled)
        if self.second and not settled and state is not None and type(state) is not Received:
            sent.settle()

    def left(self, delivery: Delivery) -> None:
        assert delivery.origin is not None
        delivery.origin.left(delivery)


class Got:
    """A delivery as its receiver sees it."""

    __slots__ = ("aborted", "complete", "delivery", "frames", "link", "settled", "settled_by_sender")

    def __init__(self, link: ReceiverLink, delivery: Delivery) -> None:
        self.link = link
        self.delivery = delivery
        self.frames: list[bytes] = [delivery.data()]
        self.complete = not delivery.more
        self.aborted = delivery.aborted
        # Settled when it came; `settled_by_sender` is what its sender said later.
        self.settled = delivery.settled
        self.settled_by_sender = False

    @property
    def incomplete(self) -> bool:
        return not self.complete

    @property
    def body(self) -> bytes:
        return b"".join(self.frames)

    def settle(self, state: object = ACCEPTED) -> None:
        self.link.settle(self.delivery, state)

    def update(self, state: object = ACCEPTED) -> None:
        """Name the state without settling."""
        self.link.update(self.delivery, state)


class Receiver(DeliverySink):
    """A client's receiver link. With `auto` whole deliveries are accepted, and the credit of all is given back."""

    __slots__ = ("auto", "by_delivery", "client", "deliveries", "link", "second")

    def __init__(self, client: Client, link: ReceiverLink, auto: bool, second: bool) -> None:
        self.client = client
        self.link = link
        self.auto = auto
        self.second = second
        self.deliveries: list[Got] = []
        self.by_delivery: dict[Delivery, Got] = {}
        link.sink = self

    @property
    def bodies(self) -> list[bytes]:
        """What came whole."""
        return [got.body for got in self.deliveries if got.complete and not got.aborted]

    @property
    def error(self) -> Error | None:
        return self.client.errors.get(self.link)

    def credit(self, amount: int) -> None:
        self.link.grant(amount)

    def drain(self) -> None:
        self.link.request_drain()

    def detach(self, closed: bool = True) -> None:
        self.link.detach(None, closed)

    def deliver(self, delivery: Delivery) -> None:
        got = Got(self.link, delivery)
        self.deliveries.append(got)
        self.by_delivery[delivery] = got
        delivery.holder.held -= len(delivery.data())
        if delivery.chunks is not None:
            delivery.chunks.clear()
        if got.aborted and self.auto:
            self.credit(1)
        elif got.complete and not got.aborted:
            self._finished(got)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        got = self.by_delivery[delivery]
        got.frames.append(payload)
        if delivery.chunks is not None:
            delivery.chunks.clear()
            delivery.holder.held -= len(payload)
        if not delivery.more:
            got.complete = True
            got.settled = got.settled or delivery.settled
            self._finished(got)

    def abort(self, delivery: Delivery) -> None:
        self.by_delivery.pop(delivery).aborted = True
        if self.auto:
            # It took credit like any other.
            self.credit(1)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        got = self.by_delivery.get(delivery)
        if got is not None and settled:
            got.settled_by_sender = True

    def _finished(self, got: Got) -> None:
        if not self.auto:
            return
        if self.second:
            got.update(ACCEPTED)
        elif not got.settled:
            got.settle(ACCEPTED)
        self.link.grant(1)


class Client:
    """One connection of one client, with one session unless a scene begins more."""

    kind = AmqpAdaptor

    def __init__(self, network: Network, name: str, settings: ConnectionSettings, options: dict[str, object]) -> None:
        self.network = network
        self.name = name
        self.connection = Connection(name, accepting=False, now=network.now, **options)  # type: ignore[arg-type]
        network.numbers += 1
        self.adaptor = self.kind(network.router, settings, number=network.numbers, log=network.log, now=network.now)
        self.adaptor.on_wake = self._flush
        self.connection.open()
        self.session = self.new_session()
        self.events: list[Event] = []
        self.errors: dict[object, Error] = {}
        self.closed: ConnectionClosed | None = None
        self.cut_off = False
        self.reading = True
        self.writing = True
        self._to_client: deque[bytes] = deque()
        self._to_client_size = 0
        self._to_router: deque[bytes] = deque()
        self._numbers = itertools.count()

    # -- verbs ---------------------------------------------------------------------------------------------------

    def new_session(self) -> Session:
        session = self.connection.session()
        session.begin()
        return session

    def sender(
        self,
        address: str | None,
        *,
        second: bool = False,
        session: Session | None = None,
        name: str | None = None,
        run: bool = True,
        dynamic: bool = False,
        target: Target | Coordinator | None = None,
        snd_settle_mode: int = SND_MIXED,
    ) -> Sender:
        """Attach a sender link; `second` has the receiver's outcome before the sender's settlement (2.8.3)."""
        link = (session or self.session).sender(name or f"{self.name}-out-{next(self._numbers)}")
        sender = Sender(self, link, second)
        link.attach(
            Attach(
                name=link.name,
                handle=0,
                role=False,
                snd_settle_mode=snd_settle_mode,
                rcv_settle_mode=RCV_SECOND if second else RCV_FIRST,
                source=Source(),
                target=target if target is not None else Target(address=address, dynamic=dynamic),
                initial_delivery_count=0,
            )
        )
        if run:
            self.network.run()
        return sender

    def receiver(
        self,
        address: str | None,
        *,
        credit: int = 0,
        auto: bool = True,
        second: bool = False,
        session: Session | None = None,
        name: str | None = None,
        run: bool = True,
        dynamic: bool = False,
        snd_settle_mode: int = SND_MIXED,
        max_message_size: int | None = None,
    ) -> Receiver:
        """Attach a receiver link."""
        link = (session or self.session).receiver(name or f"{self.name}-in-{next(self._numbers)}")
        receiver = Receiver(self, link, auto, second)
        link.attach(
            Attach(
                name=link.name,
                handle=0,
                role=True,
                snd_settle_mode=snd_settle_mode,
                rcv_settle_mode=RCV_SECOND if second else RCV_FIRST,
                source=Source(address=address, dynamic=dynamic),
                target=Target(),
                max_message_size=max_message_size,
            )
        )
        if credit:
            link.grant(credit)
        if run:
            self.network.run()
        return receiver

    def close(self) -> None:
        """End the connection in order."""
        self.connection.close()
        self.network.run()

    def cut(self) -> None:
        """Cut the connection: what is in the wires is lost."""
        if not self.cut_off:
            self.cut_off = True
            self.adaptor.receive_eof(self.network.now)
            self.adaptor.on_wake = _nothing
            self.adaptor.connection_lost(self.network.now)
            self.network.clients.remove(self)
            self.network.router.wake_touched()

    def write_raw(self, data: bytes) -> None:
        """Hand octets to the router as they are, whatever the client's connection thinks of it."""
        self._pull()
        self._to_router.append(data)

    @property
    def unread(self) -> int:
        """Octets that the router has written and the client has not read."""
        return self._to_client_size

    @property
    def has_work(self) -> bool:
        """Whether `step` would move something."""
        to_router = self.writing and (self.connection.touched or (bool(self._to_router) and not self.adaptor.closed))
        return to_router or (self.reading and self._to_client_size > 0)

    def pull(self) -> bytes:
        """Take what the client would write next, instead of moving it."""
        self._pull()
        data = b"".join(self._to_router)
        self._to_router.clear()
        return data

    # -- wires ---------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """What the driver does when the adaptor may have become able to write."""
        adaptor = self.adaptor
        while self._to_client_size < self.network.capacity:
            chunks = adaptor.data_to_send(65536)
            if not chunks:
                return
            data = b"".join(chunks)
            self._to_client.append(data)
            self._to_client_size += len(data)

    def _pull(self) -> None:
        while chunks := self.connection.data_to_send(65536):
            self._to_router.append(b"".join(chunks))

    def step(self, pieces: int = 1_000_000) -> bool:
        """Move what there is, `pieces` at most in each direction; tells whether anything moved."""
        moved = False
        network = self.network
        if self.writing:
            self._pull()
            left = pieces
            while self._to_router and left and not self.cut_off and not self.adaptor.closed:
                left -= 1
                data = self._piece(self._to_router)
                moved = True
                self.adaptor.receive_data(data, network.now)
                network.router.wake_touched()
        left = pieces
        while self.reading and self._to_client and left:
            left -= 1
            data = self._piece(self._to_client)
            self._to_client_size -= len(data)
            moved = True
            self._handle(self.connection.receive_data(data, network.now))
            self._flush()
            network.router.wake_touched()
        return moved

    def _piece(self, wire: deque[bytes]) -> bytes:
        data = wire.popleft()
        limit = self.network.piece
        if limit and len(data) > 1:
            size = self.network.random.randint(1, limit)
            if size < len(data):
                wire.appendleft(data[size:])
                data = data[:size]
        return data

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, LinkDetached):
                if event.error is not None:
                    self.errors[event.link] = event.error
                event.link.detach(None, event.closed)
            elif isinstance(event, SessionEnded):
                if event.condition:
                    self.errors[event.session] = Error(condition=event.condition, description=event.description)
                event.session.end()
            elif isinstance(event, ConnectionClosed):
                self.closed = event
                self.connection.close()


class Network:
    """A router and its clients; `run` moves octets until none moves."""

    def __init__(
        self,
        *,
        addresses: dict[str, str] | None = None,
        priorities: dict[str, int] | None = None,
        waypoints: Collection[str] = (),
        default: str = "balanced",
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        stall: float = 30.0,
        piece: int = 0,
        seed: int = 0,
        capacity: int = WIRE_CAPACITY,
    ) -> None:
        self.random = random.Random(seed)
        self.piece = piece
        self.capacity = capacity
        self.now = 0.0
        self.numbers = 0
        self.clients: list[Client] = []
        self.logged: list[tuple[str, str, dict[str, object]]] = []
        tokens = itertools.count(1)
        self.router = Router(
            "R1",
            tokens=lambda: f"{next(tokens):015d}",
            addresses=[
                AddressConfig(
                    pattern, Distribution(name), (priorities or {}).get(pattern), waypoint=pattern in waypoints
                )
                for pattern, name in (addresses or {}).items()
            ],
            default_distribution=Distribution(default),
            budget=ByteBudget(memory_limit),
            stream_stall_seconds=stall,
        )

    def log(self, level: str, event: str, **fields: object) -> None:
        self.logged.append((level, event, fields))

    def client(self, name: str = "", *, settings: ConnectionSettings | None = None, **options: object) -> Client:
        """Connect a client: `settings` are those of the router's listener, `options` the client's `Connection`'s."""
        settings = settings or ConnectionSettings(idle_timeout=0.0, max_frame_size=FRAME_SIZE)
        client = Client(self, name or f"c{self.numbers}", settings, options)
        self.clients.append(client)
        self.run()
        return client

    def run(self) -> None:
        """Move octets until none moves."""
        moving = True
        while moving:
            moving = False
            for client in list(self.clients):
                if client.step():
                    moving = True
            self.router.wake_touched()
            moving = moving or any(client.has_work for client in self.clients)

    def drift(self, steps: int) -> None:
        """Move some pieces of some clients, as the seed has it: much is left in the wires."""
        draw = self.random
        for _ in range(steps):
            if self.clients:
                draw.choice(self.clients).step(draw.randint(1, 3))
        self.router.wake_touched()

    def advance(self, seconds: float) -> None:
        """Let time pass, and call who wants to be called."""
        end = self.now + seconds
        while True:
            deadline = min([self.router.next_deadline(), *(client.adaptor.next_deadline() for client in self.clients)])
            self.now = max(self.now, min(deadline, end))
            if deadline > end:
                break
            self.router.handle_deadline(self.now)
            for client in list(self.clients):
                if client.adaptor.next_deadline() <= self.now:
                    client.adaptor.handle_deadline(self.now)
            self.run()
        self.now = end
        self.router.now = end
        self.run()

    def held(self) -> int:
        return self.router.budget.held()

    def assert_quiet(self) -> None:
        """Nothing is held, nothing unsettled, nothing counted: as it has to be when all is done."""
        assert self.router.budget.held() == 0
        assert not self.router.streams
        for client in self.clients:
            for session in client.adaptor.connection.begun_sessions():
                assert not session.unsettled_in, (client.name, session.unsettled_in)
                assert not session.unsettled_out, (client.name, session.unsettled_out)
                assert session.held == 0
            for owner in client.adaptor.links.values():
                if isinstance(owner, IncomingLink):
                    held_back = owner.owed + owner.link.link_credit
                    assert held_back == owner.capacity, (client.name, owner.owed, owner.link.link_credit)
                elif isinstance(owner, OutgoingLink):
                    assert owner.outstanding == 0, (client.name, owner.outstanding)
                    assert owner.streaming == 0, (client.name, owner.streaming)
                    assert not owner.undelivered

    def assert_empty(self) -> None:
        """Everybody is gone, and nothing is left of them."""
        router = self.router
        router.budget.recount()
        assert not router.addresses, list(router.addresses)
        assert not router.streams
        assert not router.budget.sessions
        assert not router.budget.waiting
        assert not router.budget.orphans
        assert router.budget.spoken_for() == 0


class ManualWindow(WindowPolicy):
    """A client's session window that stays used up until the scene renews it."""

    __slots__ = ("frames",)

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.frames = frames

    def begin(self, session: Session) -> int:
        return self.frames

    def renew(self, session: Session) -> int:
        return session.incoming_window


def settle_in_pieces() -> list[dict[str, int]]:
    """Options of networks for scenes that have to hold however octets arrive."""
    return [{"piece": 0}, {"piece": 7, "seed": 1}, {"piece": 400, "seed": 2}]


def _nothing() -> None:
    """A wire that is cut."""
