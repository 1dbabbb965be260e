"""A whole router process and separate client processes: messages/s and router CPU per message.

`python benchmarks/router.py [--runs 5] [--scale 1] [--only TEXT] [--json]`. CPU is user and system time of the router's
process alone. Compare figures of one run on one machine only, and CPU rather than messages/s: clients share the cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from measure import PATIENCE_SECONDS, Figures, RouterProcess, cpu_seconds, environment, medians, table

LOAD = Path(__file__).resolve().parent / "load.py"


class Client:
    """A process of `load.py`."""

    def __init__(self, port: int, role: str, **options: object) -> None:
        words = [sys.executable, str(LOAD), role, "--port", str(port)]
        for name, value in options.items():
            if value is True:
                words.append(f"--{name}")
            elif value is not False:
                words += [f"--{name}", str(value)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())

    def wait_ready(self) -> None:
        """Return when its links are attached."""
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"a client has failed: {self.process.args!r}")

    def result(self) -> dict[str, float]:
        """What it printed at its end."""
        output, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        if self.process.returncode:
            raise RuntimeError(f"a client has failed: {self.process.args!r}")
        figures: dict[str, float] = json.loads(output.splitlines()[-1])
        return figures

    def stop(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def stream(
    router: RouterProcess,
    count: int,
    *,
    size: int = 100,
    settled: bool = False,
    pairs: int = 1,
    copies: int = 1,
    rate: float = 0.0,
) -> Figures:
    """Senders to receivers, `count` messages for each pair; with `copies`, one sender to a multicast address."""
    # One prefix is multicast in the site file of the benchmarks.
    prefix = "multicast" if copies > 1 else "work"
    common = {"count": count, "size": size, "settled": settled}
    clients: list[Client] = []
    try:
        for number in range(pairs):
            address = f"{prefix}/{number}"
            receiver = Client(router.port, "receive", address=address, connections=copies, latency=rate > 0, **common)
            clients.append(receiver)
        for client in clients:
            client.wait_ready()
        before = cpu_seconds(router.pid)
        clients += [
            Client(router.port, "send", address=f"{prefix}/{number}", rate=rate, **common) for number in range(pairs)
        ]
        results = [client.result() for client in clients]
        after = cpu_seconds(router.pid)
    finally:
        for client in clients:
            client.stop()
    messages = count * pairs
    cpu = (after - before) * 1e6 / messages if before is not None and after is not None else None
    if rate:
        return {"p50 µs": results[0]["p50"], "p99 µs": results[0]["p99"], "CPU µs": cpu}
    seconds = max(result["seconds"] for result in results[:pairs])
    figures: Figures = {"messages/s": messages / seconds, "CPU µs": cpu}
    if copies > 1:
        figures["CPU µs per copy"] = cpu / copies if cpu is not None else None
    if size > 8000:
        figures["MB/s"] = messages * size / seconds / 1e6
        figures["CPU ms per MB"] = cpu / size * 1e3 if cpu is not None else None
    return figures


def converse(router: RouterProcess, count: int) -> Figures:
    """One requester, one echo, one message under way."""
    before = cpu_seconds(router.pid)
    clients = [Client(router.port, role, address="service", count=count) for role in ("echo", "request")]
    try:
        result = clients[1].result()
        clients[0].result()
    finally:
        for client in clients:
            client.stop()
    after = cpu_seconds(router.pid)
    cpu = (after - before) * 1e6 / count if before is not None and after is not None else None
    return {"p50 µs": result["p50"], "p99 µs": result["p99"], "CPU µs": cpu}


CASES: dict[str, tuple[int, Callable[[RouterProcess, int], Figures]]] = {
    "100 B unsettled": (100_000, stream),
    "100 B pre-settled": (100_000, partial(stream, settled=True)),
    "100 B unsettled, 4→4": (25_000, partial(stream, pairs=4)),
    "64 KiB unsettled": (5_000, partial(stream, size=65536)),
    "1 MiB unsettled": (300, partial(stream, size=1 << 20)),
    "100 B multicast 1→10": (10_000, partial(stream, copies=10)),
    "one way at 1000/s": (3_000, partial(stream, rate=1000.0)),
    "request and response": (3_000, converse),
}


def run(runs: int = 5, scale: float = 1.0, only: str = "") -> dict[str, Figures]:
    """Run every case in turns against one router; returns the medians."""
    results: dict[str, list[Figures]] = {name: [] for name in CASES if only in name}
    with RouterProcess() as router:
        for _ in range(runs):
            for name, rows in results.items():
                count, case = CASES[name]
                rows.append(case(router, max(10, int(count * scale))))
    return {name: medians(rows) for name, rows in results.items()}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="medians of so many")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of messages")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows whose name has this in it")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    arguments = parser.parse_args()
    rows = run(arguments.runs, arguments.scale, arguments.only)
    print(json.dumps(rows) if arguments.json else table("one router", rows))


if __name__ == "__main__":
    main()
