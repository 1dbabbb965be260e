"""Where the microseconds of one message go: read, frame, session, route, settle, encode, write, and the loop around.

`python benchmarks/stages.py [ROW …] [--runs 3] [--scale 1] [--compiled PYTHON] [--json]`. How it is found out, so that
looking changes little:

- *read, encode, write*, and what `receive_data` takes of both kinds of connections: this process plays the router for
  real clients, with van's adaptors and core on a plain selector loop, and looks at its CPU clock around each call. One
  look is for a whole batch; what a look costs is taken off.
- *frame, session, route*: what `receive_data` took of the senders' octets is divided by replaying batches of the same
  size. Frames of a session that has ended here are discarded by the frame loop (2.5.4): that is *frame*. Deliveries
  handed to a sink that does nothing: *session* is what this takes more. The rest is *route*.
- *settle* is everything that outcomes and credit take: the receivers' octets in, the senders' octets out.
- *loop* is what the real process takes for each message of the same load, less all of the above: trio and the driver.

All of it works on the compiled modules as well, for nothing is patched.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import core
import rows
from generators import ExternalGenerator, Generator
from measure import Figures, cpu_seconds, environment, medians, resident_kib, show
from routers import MULTICAST, Layout, Van
from rows import CPU, CPU_PER_MB, Row
from wire import Batches, Counter, message

from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.amqp.delivery import Delivery, DeliverySink, Holder
from van.amqp.delivery_state import ACCEPTED
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import SaslServer, anonymous
from van.router.process import settle_memory
from van.routing.address import AddressConfig, Distribution
from van.routing.incoming_link import IncomingLink
from van.routing.router import Router
from van.transport.driver import BATCH_SIZE, write_chunks

STAGES = ("read", "frame", "session", "route", "settle", "encode", "write")
LOOP = "loop"
WHOLE = "router process"
PER_READ = "messages per read"
PER_WRITE = "messages per write"
# What is replayed to divide `receive_data`: so many frames, in batches as they came.
REPLAYED = 20_000
# Of so many replays the least is taken: others use the machine.
REPLAYS = 5
# More credit than is ever used.
PLENTY = 1 << 30
_clock = time.thread_time_ns


@dataclass
class Spent:
    """What the calls for some connections have taken, in nanoseconds, and how many there were."""

    read: int = 0
    receive: int = 0
    encode: int = 0
    write: int = 0
    reads: int = 0
    writes: int = 0


class Station:
    """A connection of the loop below."""

    def __init__(self, connected: socket.socket, loop: Loop) -> None:
        self.connected = connected
        self.descriptor = connected.fileno()
        self.loop = loop
        self.adaptor = AmqpAdaptor(loop.router, ConnectionSettings(), sasl=SaslServer([anonymous()]))
        self.adaptor.on_wake = self.flush
        self.left: list[bytes | memoryview] = []
        # Shared by all senders, or by all receivers, once the links are there; what comes before does not count.
        self.spent = Spent()

    def read(self) -> bool:
        """One turn of the driver's reader; False at the end."""
        look, spent = self.loop.look, self.spent
        a = _clock()
        try:
            data = os.read(self.descriptor, self.adaptor.read_size)
        except ConnectionResetError:
            data = b""
        b = _clock()
        if not data:
            return False
        self.adaptor.receive_data(data, 0.0)
        c = _clock()
        spent.read += b - a - look
        spent.receive += c - b - look
        spent.reads += 1
        if self.adaptor.links and spent is not self.loop.receivers and spent is not self.loop.senders:
            sends = any(isinstance(owner, IncomingLink) for owner in self.adaptor.links.values())
            self.spent = self.loop.senders if sends else self.loop.receivers
        return True

    def flush(self) -> None:
        """What the driver's flush does."""
        look, spent = self.loop.look, self.spent
        while not self.left:
            a = _clock()
            chunks = self.adaptor.data_to_send(BATCH_SIZE)
            spent.encode += _clock() - a - look
            if not chunks:
                return
            self.write(chunks)

    def write(self, chunks: list[bytes | memoryview]) -> None:
        """Write without waiting; what the socket does not take is left."""
        total = sum(map(len, chunks))
        a = _clock()
        self.left = write_chunks(self.descriptor, chunks, total)
        self.spent.write += _clock() - a - self.loop.look
        self.spent.writes += 1
        if not self.left:
            return
        self.loop.selector.modify(self.connected, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def write_on(self) -> None:
        """The socket takes more."""
        chunks, self.left = self.left, []
        self.loop.selector.modify(self.connected, selectors.EVENT_READ, self)
        self.write(chunks)
        self.flush()


class Loop:
    """A router on a plain selector loop in this process; prints its port, and at the end what was spent."""

    def __init__(self) -> None:
        self.look = min(-_clock() + _clock() for _ in range(2000))
        numbers = iter(range(PLENTY))
        self.router = Router(
            "benchmark",
            tokens=lambda: f"token{next(numbers)}",
            addresses=[AddressConfig(MULTICAST, Distribution.MULTICAST)],
        )
        self.selector = selectors.DefaultSelector()
        self.senders = Spent()
        self.receivers = Spent()

    def run(self) -> None:
        """Serve until all clients that came have gone."""
        settle_memory()
        with socket.create_server(("127.0.0.1", 0), backlog=200) as server, self.selector as selector:
            print(json.dumps({"port": server.getsockname()[1]}), flush=True)
            selector.register(server, selectors.EVENT_READ)
            while len(selector.get_map()) > 1 or self.senders.reads == 0:
                for key, mask in selector.select():
                    station: Station | None = key.data
                    if station is None:
                        self._accept(server)
                        continue
                    if mask & selectors.EVENT_WRITE:
                        station.write_on()
                    over = not station.read() if mask & selectors.EVENT_READ else False
                    self.router.wake_touched()
                    if over or (station.adaptor.closed and not station.left):
                        station.adaptor.connection_lost(0.0)
                        selector.unregister(station.connected)
                        station.connected.close()
                        self.router.wake_touched()
        print(json.dumps({"senders": asdict(self.senders), "receivers": asdict(self.receivers)}), flush=True)

    def _accept(self, server: socket.socket) -> None:
        connected, _ = server.accept()
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        station = Station(connected, self)
        self.selector.register(connected, selectors.EVENT_READ, station)
        station.flush()


class LoopProcess:
    """A `Loop` in a process of its own: what a row needs of a router."""

    def __init__(self, python: str) -> None:
        surroundings = environment(installed=python != sys.executable)
        words = [python, __file__, "--serve"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=surroundings)
        assert self.process.stdout is not None
        self.output = self.process.stdout
        self.port: int = json.loads(self.output.readline())["port"]
        self.far_port = self.port
        self.transport = "tcp"
        self.bare = False
        self.start_seconds = 0.0

    def cpu_seconds(self) -> float | None:
        """User and system time until now."""
        return cpu_seconds(self.process.pid)

    def connections(self) -> list[int]:
        """One process has all, and nobody asks."""
        return []

    def resident_kib(self) -> int | None:
        """Resident memory now."""
        return resident_kib(self.process.pid)

    def result(self) -> tuple[Spent, Spent]:
        """What was spent on the connections of senders and on those of receivers, when all have gone."""
        figures = json.loads(self.output.readline())
        self.process.communicate()
        return Spent(**figures["senders"]), Spent(**figures["receivers"])


class NullSink(DeliverySink):
    """Takes deliveries and does nothing with them."""

    def __init__(self) -> None:
        self.taken: list[Delivery] = []

    def deliver(self, delivery: Delivery) -> None:
        self.taken.append(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        """No more is done with the rest."""

    def let_go(self, link: ReceiverLink) -> None:
        """Settle what has come, and give its memory back."""
        for delivery in self.taken:
            if not delivery.settled:
                link.settle(delivery, ACCEPTED)
            delivery.holder.held -= len(delivery.data())
            delivery.chunks = None
        self.taken.clear()


def call_cost() -> float:
    """What a delivery to a sink that does nothing takes, in nanoseconds."""
    sink = NullSink()
    delivery = Delivery(None, 0, b"", b"", True, Holder())
    costs = []
    for _ in range(5):
        a = _clock()
        for _ in range(1000):
            sink.deliver(delivery)
        b = _clock()
        for _ in range(1000):
            pass
        costs.append((b - a - (_clock() - b)) / 1000)
    return min(costs)


def replay(stage: str, size: int, batch: int, total: int, *, settled: bool, receivers: int) -> float:
    """What `receive_data` takes of a message in batches like this, up to and including a stage; in µs."""
    router = core.make_router(receivers)
    sender = core.Station(router, "sender")
    receiving = [core.Station(router, f"receiver {number}") for number in range(receivers)]
    for station in receiving:
        station.peer.receiver("work")
    outgoing = sender.peer.sender("work")
    core.shake_hands(router, [*receiving, sender])
    for station in [*receiving, sender]:
        station.counter = Counter(station.peer.links[0], size)
    batches = Batches(outgoing, message(size, to="work"), settled=settled)
    [link] = sender.adaptor.links
    assert isinstance(link, ReceiverLink)
    sink = NullSink()
    if stage == "frame":
        link.session.end()
    elif stage == "session":
        link.sink = sink
        link.grant(PLENTY)
    call = call_cost()
    receive = sender.adaptor.receive_data
    later = b"".join(batches.later)
    spent = sent = frames = 0
    look = min(-_clock() + _clock() for _ in range(1000))
    while frames < total:
        number = batch
        if stage != "frame":
            number = min(number, link.link_credit, link.session.incoming_window // batches.frames)
        if later:
            data = b"".join(batches.make(sent + index, 1) + later for index in range(number))
        else:
            data = batches.make(sent, number)
        a = _clock()
        receive(data, 0.0)
        spent += _clock() - a - look
        if stage == "session":
            spent -= int(number * call)
        sent += number
        frames += number * batches.frames
        sink.let_go(link)
        router.wake_touched()
        for station in receiving:
            station.counter.feed(station.output())
            if answer := station.counter.renew() if settled else station.counter.accept():
                station.adaptor.receive_data(answer, 0.0)
        router.wake_touched()
        sender.output()
    return spent / sent * 1e-3


def measure(row: Row, python: str, van: Van, generator: Generator, scale: float) -> Figures:
    """One run: the stages in µs for a message that arrived."""
    count = max(10, int(row.count * scale))
    kind = KINDS[row.name]
    network = LoopProcess(python)
    row.measure(network, generator, count)
    senders, receivers = network.result()
    arrived = count * kind.receivers
    batch = max(1, round(count / max(1, senders.reads)))
    total = int(REPLAYED * min(1.0, scale))
    replayed = (kind.size, batch, int(kind.settled), kind.receivers, total)
    words = [python, __file__, "--replay", *map(str, replayed)]
    surroundings = environment(installed=python != sys.executable)
    output = subprocess.run(words, env=surroundings, check=True, stdout=subprocess.PIPE, text=True).stdout
    up_to: dict[str, float] = json.loads(output)
    share = senders.receive / 1e3 / arrived / up_to["route"]
    # Calling a sink of Python from compiled code may cost more than routing does: then it is all told as `session`.
    routing = up_to["route"] - up_to["session"]
    until_routed = up_to["session"] if routing > 0 else up_to["route"]
    with van.start(Layout()) as real:
        whole = row.measure(real, generator, count)
    everything = whole.get(CPU)
    if everything is None and (per_mb := whole.get(CPU_PER_MB)) is not None:
        everything = per_mb * kind.size / 1e3
    figures: Figures = {
        "read": (senders.read + receivers.read) / 1e3 / arrived,
        "frame": up_to["frame"] * share,
        "session": max(0.0, until_routed - up_to["frame"]) * share,
        "route": routing * share if routing > 0 else None,
        "settle": (receivers.receive + senders.encode) / 1e3 / arrived,
        "encode": receivers.encode / 1e3 / arrived,
        "write": (senders.write + receivers.write) / 1e3 / arrived,
    }
    known = sum(value for value in figures.values() if value is not None)
    figures[LOOP] = everything - known if everything is not None else None
    figures[WHOLE] = everything
    figures[PER_READ] = count / max(1, senders.reads)
    figures[PER_WRITE] = arrived / max(1, receivers.writes)
    return figures


@dataclass(frozen=True)
class Kind:
    """What a replay needs to know of a row."""

    size: int = 100
    settled: bool = False
    receivers: int = 1


KINDS = {
    "unsettled": Kind(),
    "presettled": Kind(settled=True),
    "64k": Kind(size=65536),
    "1m": Kind(size=1 << 20),
    "multicast": Kind(receivers=10),
    "rate-1000": Kind(),
}


def stages_table(title: str, figures: Figures) -> str:
    """A line for each stage, with its share of the whole."""
    whole = figures[WHOLE] or sum(figures[stage] or 0.0 for stage in STAGES)
    lines = [f"| {title} | µs | share |", "|---|--:|--:|"]
    for stage in (*STAGES, LOOP):
        value = figures[stage]
        share = f"{value / whole:.0%}" if value is not None and whole else "–"
        lines.append(f"| {stage} | {show(value)} | {share} |")
    lines.append(f"| **{WHOLE}** | {show(figures[WHOLE])} | |")
    lines.append(f"| {PER_READ} · {PER_WRITE} | {show(figures[PER_READ])} · {show(figures[PER_WRITE])} | |")
    return "\n".join(lines)


def main() -> None:
    """Print the stages of some rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(KINDS)}; default: unsettled")
    parser.add_argument("--runs", type=int, default=3, help="medians of so many")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of messages")
    parser.add_argument("--compiled", metavar="PYTHON", default="", help="the compiled van of this interpreter")
    parser.add_argument("--generator", default=os.environ.get("VAN_GENERATOR"), metavar="PATH", help="$VAN_GENERATOR")
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--replay", nargs=5, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        Loop().run()
        return
    if arguments.replay:
        size, batch, settled, receivers, total = arguments.replay
        settle_memory()
        stages = ("frame", "session", "route")
        least = {
            stage: min(
                replay(stage, size, batch, total, settled=bool(settled), receivers=receivers) for _ in range(REPLAYS)
            )
            for stage in stages
        }
        print(json.dumps(least))
        return
    generator = ExternalGenerator(arguments.generator) if arguments.generator else Generator()
    python = arguments.compiled or sys.executable
    van = Van("van compiled", python, tree=None) if arguments.compiled else Van()
    results: dict[str, Figures] = {}
    for name in arguments.rows or ["unsettled"]:
        if name not in KINDS:
            parser.error(f"no stages of row {name}")
        row = rows.BY_NAME[name]
        runs = [measure(row, python, van, generator, arguments.scale) for _ in range(arguments.runs)]
        results[name] = medians(runs)
        if not arguments.json:
            print(stages_table(row.title, results[name]) + "\n", flush=True)
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
