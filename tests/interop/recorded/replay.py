"""One of our routers, and the octets that a real router once wrote to another: here they are written to ours.

Our router has the id of the one that was written to, our connection its side. Frames are handed over one at a time; a
second passes with each HELLO, as it did then. A replay answers nothing: what we write is collected and looked at.

Responsible for: reading recordings, handing them over, and decoding what we write. What has to come of it is in the
tests.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.routing.network import WIRE_CAPACITY, Client
from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.adaptors.edge import EdgeConnectorAdaptor, EdgeListenerAdaptor
from van.adaptors.inter_router import InterRouterAdaptor
from van.amqp.codec import decode_value
from van.amqp.performatives import Attach, Begin, Disposition, End, Open, Performative, Transfer, decode_performative
from van.amqp.sasl import AnonymousClient, SaslClient, SaslServer, anonymous
from van.amqp.types import Described
from van.routing.edge_router import EdgeRouter
from van.routing.router import Router

STREAMS = Path(__file__).parent / "streams"

HELLO = b"\xa1\x05HELLO"
ANNOTATIONS = b"\x00\x80SKPR--RA"
SASL_FRAME = 1
LINK_NAME = "qdlink."


class Frame:
    """A frame of a recording, or a protocol header: its place in the stream, its octets, and what they say.

    `payload` is what follows the performative.
    """

    def __init__(self, number: int, octets: bytes) -> None:
        self.number = number
        self.octets = octets
        self.channel = -1
        self.performative: Performative | None = None
        self.payload = b""
        if not octets.startswith(b"AMQP") and octets[5] != SASL_FRAME and len(octets) > 8:
            self.channel = struct.unpack_from(">H", octets, 6)[0]
            self.performative, end = decode_performative(octets, octets[4] * 4, len(octets))
            self.payload = octets[end:]

    @property
    def is_hello(self) -> bool:
        return HELLO in self.payload


def frames(name: str) -> list[Frame]:
    """The frames of a recorded stream; the last one may be cut, and is left out then."""
    return list(split((STREAMS / f"{name}.bin").read_bytes()))


def split(octets: bytes, first: int = 0) -> Iterator[Frame]:
    """The headers and frames in some octets of a stream, numbered from `first` on."""
    pos = 0
    for number in itertools.count(first):
        if len(octets) - pos < 8:
            return
        size = 8 if octets.startswith(b"AMQP", pos) else struct.unpack_from(">I", octets, pos)[0]
        if len(octets) - pos < size:
            return
        yield Frame(number, octets[pos : pos + size])
        pos += size


class Message:
    """A delivery as it went over the wire: its annotations section, and the message behind it."""

    def __init__(self, channel: int, first: int, transfer: Transfer) -> None:
        self.channel = channel
        self.first = first
        self.settled = bool(transfer.settled)
        self.octets = b""
        self.complete = False

    @property
    def annotations(self) -> list[object]:
        """flags, to-override, ingress, trace, and perhaps a mesh; empty where there is no such section."""
        if not self.octets.startswith(ANNOTATIONS):
            return []
        value, _ = decode_value(self.octets, 0, len(self.octets))
        assert isinstance(value, Described)
        assert isinstance(value.value, list)
        return value.value

    @property
    def body(self) -> bytes:
        """The message as its sender encoded it."""
        if not self.octets.startswith(ANNOTATIONS):
            return self.octets
        _, end = decode_value(self.octets, 0, len(self.octets))
        return self.octets[end:]


def messages(written: Iterable[Frame]) -> list[Message]:
    """The deliveries in some frames, in the order in which they began; also those that did not end."""
    begun: list[Message] = []
    current: dict[tuple[int, int], Message] = {}
    for frame in written:
        transfer = frame.performative
        if isinstance(transfer, Transfer):
            link = (frame.channel, transfer.handle)
            if link not in current:
                current[link] = Message(frame.channel, frame.number, transfer)
                begun.append(current[link])
            current[link].octets += frame.payload
            current[link].settled |= bool(transfer.settled)
            if not transfer.more:
                current.pop(link).complete = True
    return begun


def data_messages(written: Iterable[Frame]) -> list[Message]:
    """The deliveries that are none of the routers' own messages: those are on channel 0."""
    return [message for message in messages(written) if message.channel]


def link_names(name: str) -> list[str]:
    """The names of the links that the connecting side attached, without their common beginning, in their order."""
    attached = (frame.performative for frame in frames(name))
    return [link.name.removeprefix(LINK_NAME) for link in attached if isinstance(link, Attach)]


def correlator(name: str) -> str:
    """What the connecting side said its connections have in common."""
    opened = next(frame.performative for frame in frames(name) if isinstance(frame.performative, Open))
    properties = opened.properties or {}
    return str(properties.get("qd.group-correlator", ""))


class Replayed:
    """Our router in the place of a real one, of mode edge or interior. To `Client` it is the network it connects to.

    `tokens` are given out one by one for link names and temporary addresses, and then numbers.
    """

    def __init__(self, router_id: str, *, tokens: Iterable[str] = (), edge: bool = False) -> None:
        self.now = 0.0
        self.numbers = 0
        self.piece = 0
        self.capacity = WIRE_CAPACITY
        self.random = random.Random(0)
        self.clients: list[Client] = []
        self.connections: list[Replay] = []
        self.logged: list[tuple[str, str, dict[str, object]]] = []
        more = itertools.chain(tokens, (f"{number:015d}" for number in itertools.count(1)))
        made = EdgeRouter if edge else Router
        self.router: Router = made(
            router_id, tokens=lambda: next(more), mode="interior", instance=1795378000, log=self.log, now=self.now
        )

    def log(self, level: str, event: str, **fields: object) -> None:
        self.logged.append((level, event, fields))

    def lines(self, event: str) -> list[dict[str, object]]:
        """What was logged as this event."""
        return [fields for _, name, fields in self.logged if name == event]

    def client(self) -> Client:
        """Connect an application."""
        client = Client(self, f"c{self.numbers}", ConnectionSettings(idle_timeout=0.0), {})  # type: ignore[arg-type]
        self.clients.append(client)
        self.run()
        return client

    def listener(self, recording: str) -> Replay:
        """A connection that our inter-router listener accepts, and the recording of who connects."""
        sasl = SaslServer([anonymous()])
        return self._replay(recording, accepting=True, sasl=sasl)

    def connector(self, recording: str, correlator: str = "", cost: int = 1) -> Replay:
        """A connection of our inter-router connector, and the recording of who listens."""
        sasl = SaslClient([AnonymousClient()])
        return self._replay(recording, accepting=False, sasl=sasl, correlator=correlator, cost=cost)

    def _replay(
        self,
        recording: str,
        *,
        accepting: bool,
        sasl: SaslServer | SaslClient,
        correlator: str = "",
        cost: int = 1,
    ) -> Replay:
        self.numbers += 1
        adaptor = InterRouterAdaptor(
            self.router,
            ConnectionSettings(max_session_frames=2048),
            number=self.numbers,
            accepting=accepting,
            sasl=sasl,
            correlator=correlator,
            cost=cost,
            hostname=None if accepting else "127.0.0.1",
            log=self.log,
            now=self.now,
        )
        return self._started(adaptor, recording)

    def edge_listener(self, recording: str) -> Replay:
        """A connection that our edge listener accepts, and the recording of who connects."""
        self.numbers += 1
        sasl = SaslServer([anonymous()])
        settings = ConnectionSettings()
        adaptor = EdgeListenerAdaptor(self.router, settings, number=self.numbers, sasl=sasl, log=self.log, now=self.now)
        return self._started(adaptor, recording)

    def uplink(self, recording: str) -> Replay:
        """A connection of our edge connector, and the recording of who listens."""
        self.numbers += 1
        adaptor = EdgeConnectorAdaptor(
            self.router,
            ConnectionSettings(),
            number=self.numbers,
            accepting=False,
            sasl=SaslClient([AnonymousClient()]),
            hostname="127.0.0.1",
            log=self.log,
            now=self.now,
        )
        return self._started(adaptor, recording)

    def _started(self, adaptor: AmqpAdaptor, recording: str) -> Replay:
        replay = Replay(self, adaptor, frames(recording))
        self.connections.append(replay)
        self.run()
        return replay

    def run(self) -> None:
        """Move what there is, until nothing moves."""
        moving = True
        while moving:
            moving = any(map(Client.step, list(self.clients)))
            self.router.wake_touched()
            moving = moving or any(client.has_work for client in self.clients)
        for replay in self.connections:
            replay.collect()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            adaptors: list[AmqpAdaptor] = [replay.adaptor for replay in self.connections]
            deadline = min([self.router.next_deadline(), *(adaptor.next_deadline() for adaptor in adaptors)])
            self.now = max(self.now, min(deadline, end))
            if deadline > end:
                break
            if self.router.next_deadline() <= self.now:
                self.router.handle_deadline(self.now)
            for adaptor in adaptors:
                if adaptor.next_deadline() <= self.now:
                    adaptor.handle_deadline(self.now)
            self.run()
        self.router.now = self.now
        self.run()


class Replay:
    """One recorded connection on its way into our adaptor.

    Left out is what answers something that we do not do: a session that the peer begins in answer to one of ours, when
    we have begun none on that channel, with all that is in it. `skipped` counts these frames.
    """

    def __init__(self, replayed: Replayed, adaptor: AmqpAdaptor, recorded: list[Frame]) -> None:
        self.replayed = replayed
        self.adaptor = adaptor
        self.recorded = recorded
        self.next = 0
        self.skipped = 0
        self._not_ours: set[int] = set()
        self._rest = b""
        self.written: list[Frame] = []

    def collect(self) -> None:
        """Take what our side writes."""
        while chunks := self.adaptor.data_to_send(65536):
            self._rest += b"".join(chunks)
        for frame in split(self._rest, len(self.written)):
            self.written.append(frame)
            self._rest = self._rest[len(frame.octets) :]

    def until(self, number: int) -> None:
        """Hand over the frames up to and with this one."""
        while self.next <= number and not self.adaptor.closed:
            frame = self.recorded[self.next]
            self.next += 1
            if frame.is_hello:
                self.replayed.advance(1.0)
            if self._answers_nothing(frame):
                self.skipped += 1
                continue
            self.adaptor.receive_data(frame.octets, self.replayed.now)
            self.replayed.run()

    def to_end(self) -> None:
        """Hand over all that is left."""
        self.until(len(self.recorded) - 1)

    def _answers_nothing(self, frame: Frame) -> bool:
        performative = frame.performative
        if isinstance(performative, Begin) and performative.remote_channel is not None:
            begun = {own.channel for own in self.written if isinstance(own.performative, Begin)}
            if performative.remote_channel not in begun:
                self._not_ours.add(frame.channel)
        if frame.channel not in self._not_ours:
            return False
        if isinstance(performative, End):
            self._not_ours.discard(frame.channel)
        return True

    # -- what we write -------------------------------------------------------------------------------------------

    def performatives(self, kind: type[Performative]) -> list[tuple[int, Performative]]:
        """Ours of this kind, with their channels."""
        return [(frame.channel, frame.performative) for frame in self.written if isinstance(frame.performative, kind)]

    def dispositions(self) -> list[tuple[int, int, int | None, bool, object]]:
        """What we said of the peer's deliveries: channel, first, last, settled, state."""
        return [
            (channel, said.first, said.last, bool(said.settled), said.state)
            for channel, said in self.performatives(Disposition)
            if isinstance(said, Disposition) and said.role
        ]
