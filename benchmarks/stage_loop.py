"""The router, a worker or a bare relay on a plain selector loop that looks at its CPU clock around each call.

`python benchmarks/stage_loop.py '{…}'` (a `Part` as JSON) prints two ports, for senders and for receivers, serves until
all clients that came have gone, and prints what was spent, by who was at the other end. A `LoopNetwork` is one or two
such processes, as the rows of the benchmarks want them.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bare import Pairs, listen
from measure import cpu_seconds, environment, resident_kib
from routers import MULTICAST, certificate

from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings, no_log
from van.adaptors.worker import WorkerConnectorAdaptor, WorkerListenerAdaptor
from van.amqp.sasl import SaslServer, anonymous
from van.router.process import settle_memory
from van.router.workers import uplink_settings
from van.routing.address import AddressConfig, Distribution
from van.routing.router import Router
from van.routing.worker_router import WorkerRouter
from van.transport.driver import BATCH_SIZE, write_chunks
from van.transport.layer_adaptor import LayerAdaptor
from van.transport.tcp import bound_send_buffer
from van.transport.tls import TlsLayer

if TYPE_CHECKING:
    from van.routing.adaptor import Adaptor

# Who may be at the other end of a connection.
SENDERS, RECEIVERS, UPLINK = "senders", "receivers", "uplink"
# No end of names for links.
PLENTY = 1 << 30
clock = time.thread_time_ns


def look_cost() -> int:
    """What looking at the clock adds to what is measured, in nanoseconds."""
    return min(-clock() + clock() for _ in range(2000))


def gone() -> None:
    """Who has left writes nothing."""


@dataclass
class Spent:
    """What the calls for some connections have taken, in nanoseconds, and how many there were."""

    read: int = 0
    decrypt: int = 0
    receive: int = 0
    encode: int = 0
    encrypt: int = 0
    write: int = 0
    reads: int = 0
    writes: int = 0


@dataclass(frozen=True)
class Part:
    """What a loop plays: `bare` for no router; worker `index` of a router of two whose uplink is a descriptor."""

    bare: bool = False
    cert_file: str = ""
    key_file: str = ""
    index: int = 0
    uplink: int = -1


class WatchedTls(TlsLayer):
    """TLS as connections of van have it, with a look at the clock around it."""

    __slots__ = ("decrypt", "encrypt", "look")

    def __init__(self, context: ssl.SSLContext, look: int) -> None:
        super().__init__(context)
        self.look = look
        self.decrypt = self.encrypt = 0

    def receive(self, data: bytes) -> bytes:
        a = clock()
        octets = super().receive(data)
        self.decrypt += clock() - a - self.look
        return octets

    def send(self, chunks: Sequence[bytes | bytearray | memoryview]) -> None:
        a = clock()
        super().send(chunks)
        self.encrypt += clock() - a - self.look

    def take(self) -> list[bytes | memoryview]:
        a = clock()
        chunks = super().take()
        self.encrypt += clock() - a - self.look
        return chunks


class Layered(LayerAdaptor):
    """An adaptor behind TLS where trio's clock does not run: nobody waits long for the end of the layer."""

    def _note_close(self) -> None:
        self._close_by = 0.0


class Station:
    """A connection of the loop below. `spent` is shared by all of its kind, from where its links are there."""

    def __init__(
        self, connected: socket.socket, loop: Loop, kind: str, adaptor: Adaptor, layer: WatchedTls | None
    ) -> None:
        self.connected = connected
        self.descriptor = connected.fileno()
        self.loop = loop
        self.kind = kind
        self.inner = adaptor
        self.layer = layer
        self.adaptor = Layered(adaptor, layer) if layer is not None else adaptor
        self.adaptor.on_wake = self.flush
        self.left: list[bytes | memoryview] = []
        self.bounded = False
        # What comes before the links are there does not count.
        self.spent = Spent()

    def read(self) -> bool:
        """One turn of the driver's reader; False at the end."""
        look, spent, layer = self.loop.look, self.spent, self.layer
        a = clock()
        try:
            data = os.read(self.descriptor, self.adaptor.read_size)
        except ConnectionResetError:
            data = b""
        b = clock()
        if not data:
            return False
        self.adaptor.receive_data(data, 0.0)
        c = clock()
        spent.read += b - a - look
        spent.receive += c - b - look
        spent.reads += 1
        if layer is not None:
            # It has looked at the clock twice itself.
            spent.decrypt += layer.decrypt
            spent.receive -= layer.decrypt + 2 * look
            layer.decrypt = 0
        if spent is not self.loop.spent[self.kind] and (not isinstance(self.inner, AmqpAdaptor) or self.inner.links):
            self.spent = self.loop.spent[self.kind]
        return True

    def flush(self) -> None:
        """What the driver's flush does."""
        look, spent, layer = self.loop.look, self.spent, self.layer
        while not self.left:
            a = clock()
            chunks = self.adaptor.data_to_send(BATCH_SIZE)
            spent.encode += clock() - a - look
            if layer is not None:
                spent.encrypt += layer.encrypt
                spent.encode -= layer.encrypt + 3 * look
                layer.encrypt = 0
            if not chunks:
                return
            self.write(chunks)

    def write(self, chunks: list[bytes | memoryview]) -> None:
        """Write without waiting; what the socket does not take is left."""
        total = sum(map(len, chunks))
        a = clock()
        self.left = write_chunks(self.descriptor, chunks, total)
        self.spent.write += clock() - a - self.loop.look
        self.spent.writes += 1
        if self.left:
            if not self.bounded:
                self.bounded = True
                bound_send_buffer(self.descriptor)
            self.loop.selector.modify(self.connected, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def write_on(self) -> None:
        """The socket takes more."""
        chunks, self.left = self.left, []
        self.loop.selector.modify(self.connected, selectors.EVENT_READ, self)
        self.write(chunks)
        self.flush()


class Loop:
    """A router, a worker or a bare relay in this process."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.look = look_cost()
        self.context: ssl.SSLContext | None = None
        if part.cert_file:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.load_cert_chain(part.cert_file, part.key_file)
        numbers = iter(range(PLENTY))
        self.router = (WorkerRouter if part.index else Router)(
            "benchmark",
            tokens=lambda: f"token{next(numbers)}",
            addresses=[AddressConfig(MULTICAST, Distribution.MULTICAST)],
        )
        self.pairs = Pairs()
        self.selector = selectors.DefaultSelector()
        self.spent = {SENDERS: Spent(), RECEIVERS: Spent(), UPLINK: Spent()}
        self.clients = self.came = 0

    def run(self) -> None:
        """Serve until all clients that came have gone."""
        settle_memory()
        with self.selector as selector:
            if self.part.uplink >= 0:
                self._add(socket.socket(fileno=self.part.uplink), UPLINK, self._uplink())
            for server, kind in zip(listen(), (SENDERS, RECEIVERS), strict=True):
                selector.register(server, selectors.EVENT_READ, (server, kind))
            while self.clients or not self.came:
                for key, mask in selector.select():
                    station = key.data
                    if isinstance(station, Station):
                        self._turn(station, mask)
                    else:
                        self._accept(*station)
        print(json.dumps({kind: asdict(spent) for kind, spent in self.spent.items()}), flush=True)

    def _turn(self, station: Station, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            station.write_on()
        over = not station.read() if mask & selectors.EVENT_READ else False
        self._wake_touched()
        if over or (station.adaptor.closed and not station.left):
            station.adaptor.on_wake = gone
            station.adaptor.connection_lost(0.0)
            self.selector.unregister(station.connected)
            station.connected.close()
            self.clients -= station.kind != UPLINK
            self._wake_touched()

    def _wake_touched(self) -> None:
        if self.part.bare:
            self.pairs.wake_touched()
        else:
            self.router.wake_touched()

    def _accept(self, server: socket.socket, kind: str) -> None:
        connected, _ = server.accept()
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        adaptor: Adaptor
        if self.part.bare:
            adaptor = self.pairs.claim(0 if kind == SENDERS else 1)
        else:
            adaptor = AmqpAdaptor(self.router, ConnectionSettings(), sasl=SaslServer([anonymous()]))
        layer: WatchedTls | None = None
        if self.context is not None:
            layer = WatchedTls(self.context, self.look)
            data = b""
            while not layer.shake_hands(data):
                connected.sendall(b"".join(layer.take()))
                data = connected.recv(BATCH_SIZE)
            connected.sendall(b"".join(layer.take()))
        self.clients += 1
        self.came += 1
        self._add(connected, kind, adaptor, layer)

    def _add(self, connected: socket.socket, kind: str, adaptor: Adaptor, layer: WatchedTls | None = None) -> None:
        connected.setblocking(False)
        station = Station(connected, self, kind, adaptor, layer)
        self.selector.register(connected, selectors.EVENT_READ, station)
        if layer is not None:
            # Octets may have come with the end of the handshake.
            station.adaptor.receive_data(b"", 0.0)
        station.flush()
        self._wake_touched()

    def _uplink(self) -> Adaptor:
        if isinstance(self.router, WorkerRouter):
            self.router.mode = "standalone"
            return WorkerConnectorAdaptor(
                self.router, uplink_settings(), number=0, accepting=False, hostname=self.router.id, log=no_log, now=0.0
            )
        return WorkerListenerAdaptor(self.router, uplink_settings(), number=-1, log=no_log, now=0.0)


class LoopNetwork:
    """A `Loop` in a process of its own, or two of them that are one router: what a row needs of a router."""

    def __init__(self, python: str, *, workers: int = 1, bare: bool = False, transport: str = "tcp") -> None:
        self.transport = transport
        self.bare = bare
        self.start_seconds = 0.0
        self.processes: list[subprocess.Popen[str]] = []
        with tempfile.TemporaryDirectory(prefix="van-benchmark-") as folder:
            files = certificate(Path(folder)) if transport == "tls" else ("", "")
            ends = socket.socketpair() if workers > 1 else (None,)
            # Worker 0 has the receivers.
            ports = [
                self._start(python, Part(bare, *files, index, end.fileno() if end is not None else -1))
                for index, end in enumerate(ends)
            ]
            for end in ends:
                if end is not None:
                    end.close()
        self.far_port = ports[0]["far_port"]
        self.port = ports[-1]["port"]

    def _start(self, python: str, part: Part) -> dict[str, int]:
        process = subprocess.Popen(
            [python, __file__, json.dumps(asdict(part))],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(installed=python != sys.executable),
            pass_fds=[part.uplink] if part.uplink >= 0 else [],
        )
        self.processes.append(process)
        assert process.stdout is not None
        ports: dict[str, int] = json.loads(process.stdout.readline())
        return ports

    def cpu_seconds(self) -> float | None:
        """User and system time until now."""
        known = [seconds for process in self.processes if (seconds := cpu_seconds(process.pid)) is not None]
        return sum(known) if known else None

    def connections(self) -> list[int]:
        """Nobody asks."""
        return []

    def resident_kib(self) -> int | None:
        """Resident memory now."""
        return resident_kib(self.processes[0].pid)

    def results(self) -> list[dict[str, Spent]]:
        """What each process has spent, by who was at the other end, when all clients have gone."""
        results: list[dict[str, Spent]] = []
        for process in self.processes:
            output, _ = process.communicate()
            results.append({kind: Spent(**figures) for kind, figures in json.loads(output).items()})
        return results


if __name__ == "__main__":
    Loop(Part(**json.loads(sys.argv[1]))).run()
