"""Routers and their connections without sockets, for scenes about what goes over them.

    network = Routers()
    a, b = network.router("A"), network.router("B")
    line = network.connect(b, a)
    network.run()
    assert line.accepting.neighbor.router_id == "B"

Wires hand octets over whole, or with `piece` in pieces of at most that many octets.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.amqp.peer import Frame, condition, decode_frames, open_
from tests.routing.network import WIRE_CAPACITY, Client
from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.adaptors.inter_router import InterRouterAdaptor
from van.amqp.composite import Composite
from van.amqp.framing import AMQP_HEADER, FRAME_HEADER, encode_frame
from van.amqp.performatives import Attach, Detach
from van.amqp.terminus import Source, Target
from van.amqp.types import Int
from van.routing.neighbor import Neighbor
from van.routing.router import Router


class RouterNode:
    """One router with its log; to its clients it is their network."""

    def __init__(self, network: Routers, name: str) -> None:
        self.network = network
        self.logged: list[tuple[str, str, dict[str, object]]] = []
        tokens = itertools.count(1)
        self.router = Router(
            name,
            tokens=lambda: f"{name}{next(tokens):014d}",
            mode="interior",
            instance=1,
            log=self.log,
            now=network.now,
        )
        self.random = network.random
        self.piece = network.piece
        self.capacity = WIRE_CAPACITY
        self.numbers = 0
        self.clients: list[Client] = []

    @property
    def now(self) -> float:
        return self.network.now

    def log(self, level: str, event: str, **fields: object) -> None:
        self.logged.append((level, event, fields))

    def lines(self, event: str) -> list[dict[str, object]]:
        return [fields for _, name, fields in self.logged if name == event]

    def client(self, name: str = "", **options: object) -> Client:
        client = Client(self, name or f"c{self.numbers}", ConnectionSettings(idle_timeout=0.0), options)  # type: ignore[arg-type]
        self.clients.append(client)
        self.run()
        return client

    def accept(self, **options: Any) -> InterRouterAdaptor:
        """An adaptor of an inter-router listener."""
        return self._adaptor(accepting=True, **options)

    def call(self, **options: Any) -> InterRouterAdaptor:
        """An adaptor of an inter-router connector."""
        return self._adaptor(accepting=False, correlator=self.router.tokens(), hostname="localhost", **options)

    def _adaptor(self, settings: ConnectionSettings | None = None, **options: Any) -> InterRouterAdaptor:
        self.numbers += 1
        return InterRouterAdaptor(
            self.router,
            settings or ConnectionSettings(idle_timeout=0.0, max_session_frames=2048),
            number=self.numbers,
            log=self.log,
            now=self.now,
            **options,
        )

    def normal(self) -> AmqpAdaptor:
        """An adaptor of a listener for applications."""
        self.numbers += 1
        settings = ConnectionSettings(idle_timeout=0.0)
        return AmqpAdaptor(self.router, settings, number=self.numbers, log=self.log, now=self.now)

    def run(self) -> None:
        self.network.run()


class Line:
    """Two adaptors and the wire between them; `log` holds all octets that passed, by direction."""

    def __init__(self, network: Routers, calling: Any, accepting: Any) -> None:
        self.network = network
        self.calling = calling
        self.accepting = accepting
        self.cut_off = False
        self.to_accepting = b""
        self.to_calling = b""
        self._wires = {calling: bytearray(), accepting: bytearray()}

    def step(self) -> bool:
        """Move what there is; tells whether anything moved."""
        return self._move(self.calling, self.accepting) | self._move(self.accepting, self.calling)

    def _move(self, source: AmqpAdaptor, target: AmqpAdaptor) -> bool:
        if self.cut_off:
            return False
        wire = self._wires[source]
        while chunks := source.data_to_send(65536):
            wire += b"".join(chunks)
        moved = bool(wire)
        while wire and not target.closed:
            size = self.network.random.randint(1, self.network.piece) if self.network.piece else len(wire)
            data = bytes(wire[:size])
            del wire[:size]
            if target is self.accepting:
                self.to_accepting += data
            else:
                self.to_calling += data
            target.receive_data(data, self.network.now)
            target.router.wake_touched()
        wire.clear()
        if source.closed and not target.closed:
            target.receive_eof(self.network.now)
            return True
        return moved

    def cut(self) -> None:
        """The stream breaks for both."""
        self.cut_off = True
        for adaptor in (self.calling, self.accepting):
            adaptor.receive_eof(self.network.now)
            adaptor.connection_lost(self.network.now)
        self.network.lines.remove(self)
        self.network.run()


class Routers:
    """Routers, their connections and clients; `run` moves octets until none moves."""

    def __init__(self, *, piece: int = 0, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.piece = piece
        self.now = 0.0
        self.nodes: list[RouterNode] = []
        self.lines: list[Line] = []

    def router(self, name: str) -> RouterNode:
        node = RouterNode(self, name)
        self.nodes.append(node)
        return node

    def connect(self, calling: RouterNode, accepting: RouterNode, *, cost: int = 1, other_cost: int = 1) -> Line:
        """Have `calling`'s connector connect to `accepting`'s listener, each with its cost."""
        return self.wire(calling.call(cost=cost), accepting.accept(cost=other_cost))

    def wire(self, calling: Any, accepting: Any) -> Line:
        line = Line(self, calling, accepting)
        self.lines.append(line)
        self.run()
        return line

    def between(self, one: RouterNode, other: RouterNode) -> Line:
        """The connection of two routers."""
        ends = {one.router, other.router}
        (line,) = [line for line in self.lines if {line.calling.router, line.accepting.router} == ends]
        return line

    def run(self) -> None:
        moving = True
        while moving:
            moving = False
            for line in list(self.lines):
                moving |= line.step()
            for node in self.nodes:
                for client in list(node.clients):
                    moving |= client.step()
                node.router.wake_touched()
                moving |= any(client.has_work for client in node.clients)

    def advance(self, seconds: float) -> None:
        """Let time pass for routers and their connections."""
        self.run()
        end = self.now + seconds
        while True:
            adaptors = [adaptor for line in self.lines for adaptor in (line.calling, line.accepting)]
            routers = [node.router for node in self.nodes]
            deadline = min(each.next_deadline() for each in [*routers, *adaptors])
            self.now = max(self.now, min(deadline, end))
            if deadline > end:
                break
            for each in [*routers, *adaptors]:
                if each.next_deadline() <= self.now:
                    each.handle_deadline(self.now)
            self.run()
        self.run()


def split_frames(data: bytes) -> list[bytes]:
    """Cut octets of a stream into protocol headers and frames."""
    frames = []
    pos = 0
    while pos < len(data):
        size = 8 if data[pos : pos + 4] == b"AMQP" else FRAME_HEADER.unpack_from(data, pos)[0]
        frames.append(data[pos : pos + size])
        pos += size
    return frames


# --- recorded routers

DATA = Path(__file__).parent / "data"


def recorded(name: str) -> list[bytes]:
    """The frames of a recorded stream."""
    return split_frames((DATA / name).read_bytes())


def bodies(frames: list[bytes], kind: type) -> list[Frame]:
    return [frame for frame in decode_frames(b"".join(frames)) if isinstance(frame.body, kind)]


def is_transfer(frame: bytes) -> bool:
    return frame[8:11] == b"\x00\x53\x14"


def pieces(frames: list[bytes], octets: bool) -> Iterator[bytes]:
    """A stream as it may be read: octet by octet, or whole, but for deliveries.

    These wait for their credit, and the router of the recording had larger windows than we begin with.
    """
    if octets:
        for octet in b"".join(frames):
            yield bytes([octet])
        return
    first = next((index for index, frame in enumerate(frames) if is_transfer(frame)), len(frames))
    yield b"".join(frames[:first])
    for start in range(first, len(frames), 8):
        yield b"".join(frames[start : start + 8])


def feed(adaptor: AmqpAdaptor, frames: list[bytes], octets: bool) -> list[Frame]:
    """Hand a recorded stream over; return what the adaptor has to say."""
    said = b""
    for piece in pieces(frames, octets):
        adaptor.receive_data(piece, 0.0)
        while chunks := adaptor.data_to_send(65536):
            said += b"".join(chunks)
    return [frame for frame in decode_frames(said) if frame.channel >= 0 and frame.body is not None]


# --- a router that connects, frame by frame


class RouterPeer:
    """A router that connects, frame by frame."""

    def __init__(self, node: RouterNode, **properties: object) -> None:
        self.adaptor = node.accept()
        self.said: list[Frame] = []
        fields = {"product": "skupper-router", "qd.annotations-version": Int(2), **properties}
        self.send_octets(AMQP_HEADER)
        self.send(open_(container_id="B", properties=fields))

    def send_octets(self, data: bytes) -> list[Frame]:
        self.adaptor.receive_data(data, 0.0)
        out = b""
        while chunks := self.adaptor.data_to_send(65536):
            out += b"".join(chunks)
        said = decode_frames(out)
        self.said += said
        return said

    def send(self, *performatives: Composite, channel: int = 0) -> list[Frame]:
        return self.send_octets(b"".join(encode_frame(channel, each.encode()) for each in performatives))

    def pair(self, handle: int, capability: str | None = "qd.router-data", channel: int = 0) -> list[Frame]:
        """Attach a receiver and a sender."""
        return self.send(
            attach(f"in{channel}.{handle}", handle, True, capability, capability),
            attach(f"out{channel}.{handle}", handle + 1, False, capability, capability),
            channel=channel,
        )


def attach(name: str, handle: int, role: bool, source: str | None, target: str | None) -> Attach:
    return Attach(
        name=name,
        handle=handle,
        role=role,
        source=Source(capabilities=[source] if source else None),
        target=Target(capabilities=[target] if target else None),
        initial_delivery_count=None if role else 0,
    )


def detached(frames: list[Frame]) -> list[str]:
    return [condition(frame.body) for frame in frames if isinstance(frame.body, Detach)]


def neighbor_of(adaptor: InterRouterAdaptor) -> Neighbor:
    """The neighbour that a connection leads to: there has to be one."""
    assert adaptor.neighbor is not None
    return adaptor.neighbor
