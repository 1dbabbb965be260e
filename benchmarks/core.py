"""The router core without sockets: octets in, octets out, dispositions back; CPU µs per message.

`python benchmarks/core.py [--runs 5] [--scale 1] [--json]`. What clients do is not measured.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial

from measure import Figures, medians, table
from wire import Batches, Counter, Peer, message

from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.amqp.sasl import SaslServer, anonymous
from van.router.process import settle_memory
from van.routing.adaptor import BATCH_READ_SIZE, LARGE_READ_SIZE
from van.routing.address import AddressConfig, Distribution
from van.routing.router import Router

# What the driver asks for at once.
WRITE_SIZE = 262144


Trace = list[tuple[int, bytes]]
"""What a router has been given, in order: the number of the connection, and octets."""


class End:
    """The router's end of a connection."""

    def __init__(self, router: Router) -> None:
        self.adaptor = AmqpAdaptor(router, ConnectionSettings(idle_timeout=0.0), sasl=SaslServer([anonymous()]))
        self.adaptor.on_wake = self.flush
        self.chunks: list[bytes | memoryview] = []

    def flush(self) -> None:
        """What the driver does when a connection has something to write, all but the system call."""
        data_to_send = self.adaptor.data_to_send
        while chunks := data_to_send(WRITE_SIZE):
            if len(chunks) > 1 and len(chunks[1]) < 2048:
                self.chunks.append(b"".join(chunks))
            else:
                self.chunks.extend(chunks)


class Station(End):
    """A client, its adaptor in the router, and the octets on the way between them."""

    def __init__(self, router: Router, name: str, number: int = 0) -> None:
        super().__init__(router)
        self.peer = Peer(name)
        self.number = number
        self.counter: Counter

    def output(self) -> bytes:
        """What the router has written to this client."""
        data = b"".join(self.chunks)
        self.chunks.clear()
        return data


def make_router(receivers: int) -> Router:
    """A router where `work` has so many receivers, and each of several gets a copy."""
    distribution = Distribution.MULTICAST if receivers > 1 else Distribution.BALANCED
    return Router("benchmark", tokens=lambda: "token", addresses=[AddressConfig("work", distribution)])


def shake_hands(router: Router, stations: Sequence[Station], trace: Trace | None = None) -> None:
    """Carry octets until nobody has any more."""
    busy = True
    while busy:
        busy = False
        for station in stations:
            if data := station.peer.take():
                if trace is not None:
                    trace.append((station.number, data))
                station.adaptor.receive_data(data, 0.0)
                router.wake_touched()
                busy = True
            if answer := station.output():
                station.peer.connection.receive_data(answer, 0.0)
                busy = True


def clock_cost() -> float:
    """What looking at the CPU clock adds to what is measured, in seconds: as much as a frame."""
    clock = time.process_time
    return min(-clock() + clock() for _ in range(1000))


def carry(count: int, size: int, *, settled: bool = False, receivers: int = 1, trace: Trace | None = None) -> Figures:
    """Send `count` messages with a body of `size` octets through the core; µs for each, and for each copy.

    What the router is given is added to `trace`.
    """
    router = make_router(receivers)
    receiving = [Station(router, f"receiver {number}", number) for number in range(receivers)]
    sender = Station(router, "sender", receivers)
    stations = [*receiving, sender]
    for station in receiving:
        station.peer.receiver("work")
    link = sender.peer.sender("work")
    shake_hands(router, stations, trace)
    for station in stations:
        station.counter = Counter(station.peer.links[0], size)
    batches = Batches(link, message(size, to="work"), settled=settled)
    spent = 0.0
    clock = time.process_time
    glance = clock_cost()

    def hand_over(station: Station, data: bytes) -> None:
        nonlocal spent
        if trace is not None:
            trace.append((station.number, data))
        receive: Callable[[bytes, float], None] = station.adaptor.receive_data
        begin = clock()
        receive(data, 0.0)
        router.wake_touched()
        spent += clock() - begin - glance

    sent = frames = turns = 0
    # As much as one read takes of a busy socket.
    limit = (LARGE_READ_SIZE if batches.later else BATCH_READ_SIZE) // size
    while sent < count or any(station.counter.transfers < count for station in receiving):
        turns += 1
        assert turns < 100 * count + 1000, f"the core stands still at message {sent}"
        credit, window = sender.counter.room(sent, frames)
        number = min(credit, window // batches.frames, limit, count - sent)
        if number > 0:
            data = batches.make(sent, number)
            if batches.later:
                data = b"".join(batches.make(sent + index, 1) + b"".join(batches.later) for index in range(number))
            sent += number
            frames += number * batches.frames
            hand_over(sender, data)
        for station in receiving:
            station.counter.feed(station.output())
            if answer := station.counter.renew() if settled else station.counter.accept():
                hand_over(station, answer)
        sender.counter.feed(sender.output())
    if not settled:
        assert sender.counter.settled == count, "a message without an outcome"
    figures: Figures = {"µs per message": spent / count * 1e6}
    if receivers > 1:
        figures["µs per copy"] = spent / count / receivers * 1e6
    return figures


CASES: dict[str, tuple[int, Callable[[int], Figures]]] = {
    "100 B unsettled": (60_000, partial(carry, size=100)),
    "100 B pre-settled": (60_000, partial(carry, size=100, settled=True)),
    "64 KiB unsettled, 16 KiB frames": (3_000, partial(carry, size=65536)),
    "100 B multicast 1→10": (10_000, partial(carry, size=100, receivers=10)),
}


def run(runs: int = 5, scale: float = 1.0) -> dict[str, Figures]:
    """Run every case in turns; returns the medians."""
    settle_memory()
    results: dict[str, list[Figures]] = {name: [] for name in CASES}
    for _ in range(runs):
        for name, (count, case) in CASES.items():
            results[name].append(case(max(1, int(count * scale))))
    return {name: medians(rows) for name, rows in results.items()}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="medians of so many")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of messages")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    arguments = parser.parse_args()
    rows = run(arguments.runs, arguments.scale)
    print(json.dumps(rows) if arguments.json else table("core without sockets", rows))


if __name__ == "__main__":
    main()
