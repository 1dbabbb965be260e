"""A router with ten thousand addresses joins a network, leaves it and returns: how long, and does anybody stall?

`python benchmarks/many_addresses.py [--addresses 10000] [--rate 1000] [--runs 1] [--json]`. Two router processes, A and
B; a client process holds a receiver for each address at A. Beside it, on both, messages go from a sender to a receiver
all the time; each carries the time. A's connector to B leads through a gate in this process, which opens and is cut.
A phase's `pause` is the longest time for which the receiver heard nothing, or a message was under way.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import trio
from measure import Figures, RouterProcess, cpu_seconds, environment, medians, resident_kib, table
from wire import Batches, Counter, Peer, body_start, dial, message

from van.amqp.message import Message
from van.client import Requester, connect

# What one connection may attach, by default.
LINKS = 1000
# How often B is asked how many addresses it knows, in seconds: the resolution of the times.
ASK_INTERVAL = 0.02
# Before and after everything that is measured, in seconds.
QUIET = 1.5
# Nobody waits longer than this for anything, in seconds.
PATIENCE = 120.0
SIZE = 100
# A router without the many has fewer addresses than this.
FEW = 100
SITE_A = """
[router]
id = "A"
mode = "interior"

[[listener]]
url = "amqp://127.0.0.1:0"

[[connector]]
url = "amqp://127.0.0.1:{port}"
role = "inter-router"
"""
SITE_B = """
[router]
id = "B"
mode = "interior"

[[listener]]
name = "clients"
url = "amqp://127.0.0.1:0"

[[listener]]
name = "routers"
url = "amqp://127.0.0.1:{port}"
role = "inter-router"
"""
_STAMP = struct.Struct(">Q")


# ------------------------------------------------------------------------------------------------- client processes


def hold(arguments: argparse.Namespace) -> None:
    """Attach a receiver to each of many addresses, and keep the connections until stdin ends, then drop them."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    for first in range(0, arguments.addresses, LINKS):
        peer = Peer(f"fleet {first}")
        for number in range(first, min(first + LINKS, arguments.addresses)):
            peer.receiver(f"fleet/{number:06}", credit=10)
        connected = dial(peer, arguments.port)
        selector.register(connected, selectors.EVENT_READ, (peer, connected))
        keep(selector, 0.0)
    print("ready", flush=True)
    while keep(selector, 1.0):
        pass
    for key in list(selector.get_map().values()):
        if key.data is not None:
            key.data[1].close()
    # Giving back the memory would compete with what is measured.
    time.sleep(PATIENCE)


def keep(selector: selectors.BaseSelector, seconds: float) -> bool:
    """Wait for something to read, and see to heartbeats. Returns False when stdin has ended."""
    ready = selector.select(seconds)
    now = time.monotonic()
    for key, _ in ready:
        if key.data is None:
            return False
        peer, connected = key.data
        peer.connection.receive_data(connected.recv(65536), now)
    for key in selector.get_map().values():
        if key.data is not None:
            peer, connected = key.data
            peer.connection.handle_deadline(now)
            if data := peer.take():
                connected.sendall(data)
    return True


def traffic(arguments: argparse.Namespace) -> None:
    """Send and receive messages at a rate until stdin ends; print when each came and how long it was under way."""
    receiver, sender = Peer("receiver"), Peer("sender")
    incoming, outgoing = receiver.receiver("work"), sender.sender("work")
    at_receiver, at_sender = dial(receiver, arguments.port), dial(sender, arguments.port)
    received, sent = Counter(incoming, SIZE), Counter(outgoing, SIZE)
    batches = Batches(outgoing, message(SIZE))
    stamp = body_start(SIZE) - len(message(SIZE))
    came: list[float] = []
    took: list[float] = []

    def note(data: bytes, pos: int, stop: int) -> None:
        now = time.perf_counter_ns()
        came.append(now * 1e-9)
        took.append((now - _STAMP.unpack_from(data, stop + stamp)[0]) * 1e-9)

    def go_on() -> bool:
        for key, _ in selector.select(max(0.0, due - time.perf_counter())):
            if key.fileobj is sys.stdin:
                return False
            key.data()
        return True

    def read_receiver() -> None:
        received.feed(at_receiver.recv(65536), note)
        if answer := received.accept():
            at_receiver.sendall(answer)

    def read_sender() -> None:
        sent.feed(at_sender.recv(65536))

    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    selector.register(at_receiver, selectors.EVENT_READ, read_receiver)
    selector.register(at_sender, selectors.EVENT_READ, read_sender)
    print("ready", flush=True)
    number = 0
    due = time.perf_counter()
    while go_on():
        if time.perf_counter() >= due and min(sent.room(number, number)) > 0:
            frame = bytearray(batches.make(number, 1))
            _STAMP.pack_into(frame, len(frame) - SIZE, time.perf_counter_ns())
            at_sender.sendall(frame)
            number += 1
            due += 1 / arguments.rate
    print(json.dumps([came, took]), flush=True)


class Client:
    """A process of this file in another role."""

    def __init__(self, role: str, port: int, **options: object) -> None:
        words = [sys.executable, str(Path(__file__).resolve()), role, "--port", str(port)]
        for name, value in options.items():
            words += [f"--{name}", str(value)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def wait_ready(self) -> None:
        """Return when its links are attached."""
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"a client has failed: {self.process.args!r}")

    def hang_up(self) -> None:
        """Have it close its connections; it goes on living."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def end(self) -> str:
        """Have it end; return what it has printed."""
        output, _ = self.process.communicate("", timeout=PATIENCE)
        return output

    def stop(self) -> None:
        """Kill it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@contextmanager
def client(role: str, port: int, **options: object) -> Iterator[Client]:
    """A client process that does not outlive the block."""
    made = Client(role, port, **options)
    try:
        yield made
    finally:
        made.stop()


# ------------------------------------------------------------------------------------------------------ the network


class Gate:
    """What A connects to: who comes is kept waiting until it opens, and cut off when it is cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = trio.Event()
        # A connection that A has given up meanwhile may be among them.
        self._through: set[trio.CancelScope] = set()

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection of A."""
        async with stream:
            await self._open.wait()
            with trio.CancelScope() as scope:
                self._through.add(scope)
                async with await trio.open_tcp_stream("127.0.0.1", self._port) as onward, trio.open_nursery() as both:
                    both.start_soon(self._carry, stream, onward, both.cancel_scope)
                    both.start_soon(self._carry, onward, stream, both.cancel_scope)

    async def _carry(self, from_: trio.SocketStream, to: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in from_:
                await to.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    def open(self) -> None:
        """Let A through."""
        self._open.set()

    def cut(self) -> None:
        """Cut A off, and let nobody through any more."""
        self._open = trio.Event()
        for scope in self._through:
            scope.cancel()
        self._through.clear()


class Agent:
    """Asks a router's management node."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    async def ask(self, **operation: object) -> Message:
        """The answer to an operation."""
        return await self._requester.request(Message(application_properties=operation), timeout=PATIENCE)

    async def knows(self, count: int) -> bool:
        """Whether the router knows so many addresses at least. (Reading one row costs less than having all counted.)"""
        answer = await self.ask(operation="QUERY", entityType="router.address", offset=count - 1, count=1)
        return bool(_map(answer)["results"])

    async def all_addresses(self, page: int) -> int:
        """Fetch all rows of the table of addresses, `page` at a time; return how many there were."""
        rows = 0
        while True:
            answer = await self.ask(operation="QUERY", entityType="router.address", offset=rows, count=page)
            results = _map(answer)["results"]
            assert isinstance(results, list)
            rows += len(results)
            if not results:
                return rows

    async def until_knows(self, count: int, known: bool = True) -> float:
        """Wait until the router knows so many addresses at least, or no more does; return when that was."""
        with trio.fail_after(PATIENCE):
            while await self.knows(count) != known:  # noqa: ASYNC110 - another process is waited for
                await trio.sleep(ASK_INTERVAL)
        return time.perf_counter()


def _map(answer: Message) -> dict[str, object]:
    value = getattr(answer.body, "value", None)
    assert isinstance(value, dict), f"the management node answers {answer.application_properties!r}"
    return value


class Phases:
    """When each phase began and ended, what it cost, and how long it took until what it was about had happened."""

    def __init__(self, routers: dict[str, int]) -> None:
        self._routers = routers
        self.spans: dict[str, tuple[float, float]] = {}
        self.rows: dict[str, Figures] = {}

    @asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[Figures]:
        """Measure what the block does, and what follows it for a moment."""
        row: Figures = {"seconds": None}
        before = {router: cpu_seconds(pid) for router, pid in self._routers.items()}
        begin = time.perf_counter()
        yield row
        await trio.sleep(QUIET / 2)
        self.spans[name] = begin, time.perf_counter()
        for router, pid in self._routers.items():
            after, had = cpu_seconds(pid), before[router]
            row[f"CPU s {router}"] = after - had if after is not None and had is not None else None
        self.rows[name] = row

    def note_traffic(self, router: str, samples: str) -> None:
        """Take what a client of traffic has printed."""
        came, took = json.loads(samples)
        for name, (begin, end) in self.spans.items():
            longest, slow = 0.0, 0.0
            last = begin
            for at, seconds in zip(came, took, strict=True):
                if begin <= at <= end:
                    longest = max(longest, at - last)
                    slow = max(slow, seconds)
                    last = at
            self.rows[name][f"pause ms {router}"] = max(longest, end - last, slow) * 1e3


async def measure_once(count: int, rate: float) -> dict[str, Figures]:
    """One life of the two routers."""
    with ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        b = stack.enter_context(RouterProcess(SITE_B.format(port=port)))
        async with trio.open_nursery() as nursery:
            gate = Gate(port)
            listeners = await nursery.start(partial(trio.serve_tcp, gate.serve, 0, host="127.0.0.1"))
            a = stack.enter_context(RouterProcess(SITE_A.format(port=listeners[0].socket.getsockname()[1])))
            routers = {"A": a.pid, "B": b.pid}
            phases = Phases(routers)
            flows = {
                name: stack.enter_context(client("traffic", each.port, rate=rate))
                for name, each in (("A", a), ("B", b))
            }
            for flow in flows.values():
                await trio.to_thread.run_sync(flow.wait_ready)
            async with (
                connect(f"amqp://127.0.0.1:{a.port}") as to_a,
                connect(f"amqp://127.0.0.1:{b.port}") as to_b,
                to_a.requester("$management") as ask_a,
                to_b.requester("$management") as ask_b,
            ):
                memory = await _life(stack, phases, gate, Agent(ask_a), Agent(ask_b), a, b, count)
            for name, flow in flows.items():
                phases.note_traffic(name, await trio.to_thread.run_sync(flow.end))
            nursery.cancel_scope.cancel()
    phases.rows["memory"] = memory
    return phases.rows


async def _life(
    stack: ExitStack, phases: Phases, gate: Gate, at_a: Agent, at_b: Agent, a: RouterProcess, b: RouterProcess,
    count: int,
) -> Figures:  # fmt: skip

    def kib(router: RouterProcess) -> int:
        return resident_kib(router.pid) or 0

    async with phases.phase("nothing happens"):
        await trio.sleep(QUIET)
    before_a, before_b = kib(a), kib(b)
    async with phases.phase("receivers attach at A") as row:
        begin = time.perf_counter()
        fleet = stack.enter_context(client("hold", a.port, addresses=count))
        await trio.to_thread.run_sync(fleet.wait_ready)
        row["seconds"] = await at_a.until_knows(count) - begin
    with_links = kib(a)
    for name in ("A joins", "A returns"):
        async with phases.phase(name) as row:
            begin = time.perf_counter()
            gate.open()
            row["seconds"] = await at_b.until_knows(count) - begin
        if name == "A joins":
            memory: Figures = {
                "KiB per link and address, A": (with_links - before_a) / count,
                "KiB per address, B": (kib(b) - before_b) / count,
                "MiB A": kib(a) / 1024,
                "MiB B": kib(b) / 1024,
            }
            async with phases.phase("B's table is fetched") as row:
                begin = time.perf_counter()
                rows = await at_b.all_addresses(500)
                assert rows >= count
                row["seconds"] = time.perf_counter() - begin
            async with phases.phase("A is cut off") as row:
                begin = time.perf_counter()
                gate.cut()
                row["seconds"] = await at_b.until_knows(FEW, False) - begin
    async with phases.phase("A's receivers go") as row:
        begin = time.perf_counter()
        fleet.hang_up()
        row["seconds"] = await at_b.until_knows(FEW, False) - begin
    return memory


def run(runs: int, addresses: int, rate: float) -> dict[str, Figures]:
    """Medians of so many lives."""
    lives = [trio.run(measure_once, addresses, rate) for _ in range(runs)]
    return {name: medians([life[name] for life in lives]) for name in lives[0]}


def main() -> None:
    """Play one role, or print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="?", choices=("measure", "hold", "traffic"), default="measure")
    parser.add_argument("--port", type=int)
    parser.add_argument("--addresses", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=1000.0, help="messages a second, at each router")
    parser.add_argument("--runs", type=int, default=1, help="medians of so many")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    arguments = parser.parse_args()
    if arguments.role != "measure":
        {"hold": hold, "traffic": traffic}[arguments.role](arguments)
        return
    rows = run(arguments.runs, arguments.addresses, arguments.rate)
    if arguments.json:
        print(json.dumps(rows))
        return
    memory = rows.pop("memory")
    print(table(f"{arguments.addresses} addresses", rows), table("", {"memory": memory}), sep="\n\n")


if __name__ == "__main__":
    main()
