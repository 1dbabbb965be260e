"""The rows of the table: what is done to a router in each, and which figures come of it.

CPU is user and system time of the router's processes, all of them, for each message that arrived (each copy of it, for
multicast). A row knows neither which router it is given nor who makes the load.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Protocol

from generators import Generator, Load
from measure import PATIENCE_SECONDS, Figures
from routers import MULTICAST, TCP_LOAD, Layout, UnsupportedError

RATE = "messages/s"
VOLUME = "MB/s"
CPU = "CPU µs"
CPU_PER_MB = "CPU ms per MB"
ARRIVED = "arrived %"
MEDIAN = "p50 µs"
TAIL = "p99 µs"
CONNECTIONS = "connections/s"
IDLE = "idle MB"
EACH = "KB each"
KEPT = "KB kept"
START = "start s"
LINKS = "links/s"
BUSIEST = "busiest %"
# From this size on octets count, not messages.
LARGE = 8000
# A router that was idle for so long has done what attaching the receivers left to do, in seconds.
QUIET = 0.1
# Memory is looked at so long after the last connection has gone, in seconds.
SETTLING = 3.0


class Running(Protocol):
    """What a row needs of the routers: a `routers.Network`."""

    @property
    def port(self) -> int:
        """Where senders connect."""

    @property
    def far_port(self) -> int:
        """Where receivers connect."""

    @property
    def transport(self) -> str:
        """How clients connect."""

    @property
    def bare(self) -> bool:
        """Whether it knows no AMQP."""

    @property
    def start_seconds(self) -> float:
        """How long it took until clients could connect."""

    def connections(self) -> list[int]:
        """How many connections of clients each process has."""

    def cpu_seconds(self) -> float | None:
        """User and system time until now."""

    def resident_kib(self) -> int | None:
        """Resident memory now."""


Measure = Callable[[Running, Generator, int], Figures]


@dataclass(frozen=True)
class Row:
    """One kind of work. `count`: messages (or connections) of a run at scale 1."""

    name: str
    title: str
    count: int
    measure: Measure
    layout: Layout = field(default=Layout())
    # Whether `load.py` alone can make this load.
    own: bool = False


def stream(
    *,
    size: int = 100,
    settled: bool = False,
    senders: int = 1,
    receivers: int = 1,
    multicast: bool = False,
    rate: float = 0.0,
    apart: bool = False,
    places: tuple[str, str] = ("", ""),
    split: bool = False,
) -> Measure:
    """Messages from senders to receivers, as fast as they go or at a rate.

    apart: each pair has an address of its own. places: addresses of the first links of receivers and of senders. split:
    tell how evenly the connections are divided among processes.
    """

    def measure(network: Running, generator: Generator, count: int) -> Figures:
        address = MULTICAST if multicast else "work"
        total = count * receivers if multicast else count
        with ExitStack() as clients:
            load = Load(
                port=network.far_port,
                address=address,
                count=total,
                size=size,
                connections=receivers,
                settled=settled,
                rate=rate,
                latency=rate > 0,
                apart=apart,
                first=places[0],
                transport=network.transport,
                bare=network.bare,
            )
            receiver = clients.enter_context(generator.receive(load))
            receiver.wait_ready()
            time.sleep(QUIET)
            before = network.cpu_seconds()
            load = replace(load, port=network.port, count=count, connections=senders, first=places[1])
            sender = clients.enter_context(generator.send(load))
            connections: list[int] = []
            if split:
                sender.wait_ready()
                connections = network.connections()
            result = receiver.result()
            after = network.cpu_seconds()
            sender.result()
        received = result["received"]
        cpu = (after - before) * 1e6 / received if before is not None and after is not None else None
        if rate:
            return {MEDIAN: result["p50"], TAIL: result["p99"], CPU: cpu}
        speed = received / max(result["seconds"], 1e-6)
        if size >= LARGE:
            return {VOLUME: speed * size / 1e6, CPU_PER_MB: cpu / size * 1e3 if cpu is not None else None}
        figures: Figures = {RATE: speed, CPU: cpu}
        if settled:
            figures[ARRIVED] = received / total * 100
        if split and any(connections):
            figures[BUSIEST] = max(connections) / sum(connections) * 100
        return figures

    return measure


def converse(network: Running, generator: Generator, count: int) -> Figures:
    """One requester and one echo, one message under way; CPU for a request with its answer."""
    before = network.cpu_seconds()
    with generator.converse(
        network.port, network.far_port, count, transport=network.transport, bare=network.bare
    ) as requester:
        result = requester.result()
        after = network.cpu_seconds()
    cpu = (after - before) * 1e6 / count if before is not None and after is not None else None
    return {MEDIAN: result["p50"], TAIL: result["p99"], CPU: cpu}


def idle(links: int = 1) -> Measure:
    """Connections with SASL, a session and links: how fast, at which cost, what each link keeps, and what stays.

    Every link has an address of its own.
    """

    def measure(network: Running, generator: Generator, count: int) -> Figures:
        if network.bare:
            raise UnsupportedError("it has no links")
        connections = max(1, count // links)
        count = connections * links
        empty, before = network.resident_kib(), network.cpu_seconds()
        with generator.idle(network.port, connections, links=links, transport=network.transport) as speed:
            after = network.cpu_seconds()
            time.sleep(QUIET)
            full = network.resident_kib()
        end = time.monotonic() + PATIENCE_SECONDS
        while any(network.connections()) and time.monotonic() < end:
            time.sleep(QUIET)
        time.sleep(SETTLING)
        kept = network.resident_kib()
        return {
            CONNECTIONS if links == 1 else LINKS: speed * links,
            CPU: (after - before) * 1e6 / count if before is not None and after is not None else None,
            START: network.start_seconds,
            IDLE: empty * 1024 / 1e6 if empty is not None else None,
            EACH: (full - empty) * 1024 / 1e3 / count if full is not None and empty is not None else None,
            KEPT: (kept - empty) * 1024 / 1e3 / count if kept is not None and empty is not None else None,
        }

    return measure


def service(verb: str) -> Measure:
    """What clients of a TCP service do, as `tcp_load.py` has it; CPU is of all routers."""

    def measure(network: Running, generator: Generator, count: int) -> Figures:
        before = network.cpu_seconds()
        words = [sys.executable, str(TCP_LOAD), verb, str(network.port), str(count)]
        result = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=PATIENCE_SECONDS).stdout)
        after = network.cpu_seconds()
        spent = (after - before) * 1e6 if before is not None and after is not None else None
        if verb == "ping":
            return {MEDIAN: result["p50"], TAIL: result["p99"], CPU: spent / count if spent is not None else None}
        if verb == "connect":
            made = max(1, result["connections"])
            return {CONNECTIONS: made / result["seconds"], CPU: spent / made if spent is not None else None}
        megabytes = result["octets"] / 1e6
        return {
            VOLUME: megabytes / result["seconds"],
            CPU_PER_MB: spent / 1e3 / megabytes if spent is not None else None,
        }

    return measure


IN_LINE = Layout(routers=2)
SERVICE_IN_LINE = Layout(routers=2, service=True)
TLS, WS, WSS = Layout(transport="tls"), Layout(transport="ws"), Layout(transport="wss")
# A site's workers share its listeners; where connections go is decided by the address of their first link.
WORKERS = Layout(workers=2)
FOUR_PAIRS = stream(senders=4, receivers=4, apart=True, split=True)
TWO_PLACES = stream(senders=4, receivers=4, apart=True, split=True, places=("place/receivers", "place/senders"))

ROWS: tuple[Row, ...] = (
    Row("unsettled", "100 B unsettled 1→1", 500_000, stream()),
    Row("presettled", "100 B pre-settled 1→1", 500_000, stream(settled=True)),
    Row("four", "100 B unsettled, 4 senders → 4 receivers", 500_000, stream(senders=4, receivers=4)),
    Row("four-presettled", "100 B pre-settled, 4 → 4", 500_000, stream(senders=4, receivers=4, settled=True)),
    Row("64k", "64 KiB", 10_000, stream(size=65536)),
    Row("1m", "1 MiB", 600, stream(size=1 << 20)),
    Row("16m", "16 MiB", 30, stream(size=1 << 24), own=True),
    Row("multicast", "100 B multicast 1→10, per delivery", 15_000, stream(receivers=10, multicast=True)),
    Row("multicast-1000", "100 B multicast 1→1000, per delivery", 150, stream(receivers=1000, multicast=True)),
    Row("request", "request and response", 4_000, converse),
    Row("rate-1000", "one way at 1000/s", 3_000, stream(rate=1000.0)),
    Row("rate-50000", "one way at 50 000/s", 100_000, stream(rate=50_000.0)),
    Row("pairs", "100 B unsettled, 100 pairs", 150_000, stream(senders=100, receivers=100, apart=True), own=True),
    Row("line", "two routers in line, 100 B unsettled", 300_000, stream(), IN_LINE),
    Row("line-presettled", "two routers in line, 100 B pre-settled", 300_000, stream(settled=True), IN_LINE),
    Row("line-64k", "two routers in line, 64 KiB", 6_000, stream(size=65536), IN_LINE),
    Row("line-request", "two routers in line, request and response", 2_000, converse, IN_LINE),
    Row("tls", "100 B unsettled over TLS", 300_000, stream(), TLS),
    Row("ws", "100 B unsettled over WebSocket", 300_000, stream(), WS),
    Row("wss", "100 B unsettled over WebSocket and TLS", 300_000, stream(), WSS),
    Row("tls-64k", "64 KiB over TLS", 6_000, stream(size=65536), TLS),
    Row("ws-64k", "64 KiB over WebSocket", 6_000, stream(size=65536), WS),
    Row("wss-64k", "64 KiB over WebSocket and TLS", 6_000, stream(size=65536), WSS),
    Row("tls-request", "request and response over TLS", 2_000, converse, TLS),
    Row("workers-1", "four pairs, one process", 500_000, FOUR_PAIRS, own=True),
    Row("workers-2", "four pairs, `workers = 2`, a pair's ends in one", 500_000, FOUR_PAIRS, WORKERS, own=True),
    Row("workers-2-apart", "four pairs, `workers = 2`, ends in both", 300_000, TWO_PLACES, WORKERS, own=True),
    Row("tcp-up", "TCP over two routers, one stream up", 2_000_000_000, service("up"), SERVICE_IN_LINE, own=True),
    Row("tcp-down", "the same, down", 2_000_000_000, service("down"), SERVICE_IN_LINE, own=True),
    Row("tcp-ping", "the same, 64 B there and back", 5_000, service("ping"), SERVICE_IN_LINE, own=True),
    Row("tcp-connect", "the same, new connections", 4_000, service("connect"), SERVICE_IN_LINE, own=True),
    Row("idle", "idle connections with a link each", 1_000, idle()),
    Row("idle-tls", "idle connections over TLS", 300, idle(), TLS),
    Row("addresses", "addresses, 1000 receivers on a connection", 20_000, idle(1000)),
)
BY_NAME = {row.name: row for row in ROWS}


def run(row: Row, network: Running, generator: Generator, scale: float) -> Figures:
    """One run of a row against a router that is ready."""
    return row.measure(network, generator, max(10, int(row.count * scale)))
