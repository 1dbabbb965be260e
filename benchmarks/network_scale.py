"""What the control plane costs as the network grows: idle, with a change of topology, with 10 000 addresses.

`python benchmarks/network_scale.py [--sizes 10 100 1000] [--json] [--picture FILE]`. Networks of link state engines in
one process with a virtual clock (`van.testing`), about four connections at every router. CPU time is that of all
routers together and includes the simulator's own, some 2 µs for each message; "per router" is the whole divided by the
routers. A thousand routers take ten minutes and some GB.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from time import process_time
from typing import Self

from measure import Figures, table
from network_chart import picture

from van.routing.link_state.engine import LinkStateEngine
from van.routing.link_state.messages import ControlMessage
from van.testing import ControlNetwork, random_regular

SIZES = (10, 100, 1000)
SEED = 20
# Every router advertises itself once in this time when nothing happens.
ADVERTISEMENT_SECONDS = 30.0
# After a change all routers advertise themselves more often for 8 s, the last time up to 4 s later.
FLUX_SECONDS = 13.0
ADDRESSES = 10_000
PATIENCE = 120.0
# So many advertisements are watched where every copy of them is passed on.
WATCHED = 10


class Engine(LinkStateEngine):
    """An engine whose table of floods can be taken away: then every copy is passed on, as far as the C routers do."""

    table = True
    advertisements = 0
    silent = False

    def _advertise(self, now: float) -> None:
        if Engine.silent:
            self._advertise_at = now + 1.0
            return
        Engine.advertisements += 1
        super()._advertise(now)

    def _is_duplicate(self, message: ControlMessage, now: float) -> bool:
        if Engine.table:
            return super()._is_duplicate(message, now)
        return len(message.trace) > self.radius + 1


class Measured:
    """`with Measured(network) as spent:` CPU seconds, simulated seconds, messages and octets of the block."""

    def __init__(self, watched: ControlNetwork) -> None:
        self.network = watched
        self.messages = 0
        self.octets = 0
        self.cpu = 0.0
        self.simulated = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        gc.disable()
        self._before = (self.network.control_messages, self.network.control_octets, self.network.now)
        self._begin = process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu = process_time() - self._begin
        gc.enable()
        messages, octets, now = self._before
        self.messages = self.network.control_messages - messages
        self.octets = self.network.control_octets - octets
        self.simulated = self.network.now - now


def converge(watched: ControlNetwork) -> float:
    """Let it be known to everybody what is so; return the simulated seconds."""
    return watched.run_until(watched.converged, PATIENCE, 0.01 if len(watched.stations) <= 100 else 0.1)


def cold_start(watched: ControlNetwork) -> Figures:
    """All routers start at once."""
    with Measured(watched) as spent:
        seconds = converge(watched)
    return {"start: simulated s": seconds, "start: CPU s": spent.cpu, "start: messages": spent.messages}


def idle(watched: ControlNetwork) -> Figures:
    """Nothing happens, and has not for a while."""
    with Measured(watched) as spent:
        watched.run(ADVERTISEMENT_SECONDS)
    routers = len(watched.stations)
    return {
        "idle: messages/s": spent.messages / spent.simulated,
        "idle: messages/s per router": spent.messages / spent.simulated / routers,
        "idle: CPU ms per minute and router": 60_000 * spent.cpu / spent.simulated / routers,
    }


def idle_without_table(watched: ControlNetwork) -> Figures:
    """The same without the table, from the copies of some advertisements: all of them take too long to simulate."""
    hellos = 2 * len(watched.edges)
    Engine.table = False
    Engine.advertisements = 0
    with Measured(watched) as spent:
        while Engine.advertisements < WATCHED:
            watched.run(0.001)
        Engine.silent = True
        watched.run(0.5)
    Engine.table = True
    Engine.silent = False
    copies = max(0.0, spent.messages - hellos * spent.simulated) / Engine.advertisements
    routers = len(watched.stations)
    return {
        "no table: copies of an advertisement": copies,
        "no table: messages/s": hellos + copies * routers / ADVERTISEMENT_SECONDS,
    }


def change(watched: ControlNetwork) -> Figures:
    """A connection ends; what that costs beyond HELLO, until all know it and until everybody is calm again."""
    hellos = 2 * len(watched.edges)
    edge = watched.edges[len(watched.edges) // 2]
    with Measured(watched) as spent:
        watched.cut(edge)
        seconds = converge(watched)
        watched.run(0.2)
    with Measured(watched) as after:
        watched.run(FLUX_SECONDS)
    return {
        "change: simulated s": seconds,
        "change: messages": max(0.0, spent.messages - hellos * spent.simulated),
        "change: CPU ms per router": 1000 * spent.cpu / len(watched.stations),
        "change: messages in the 13 s after": max(0.0, after.messages - hellos * after.simulated),
    }


def addresses(watched: ControlNetwork) -> Figures:
    """One router advertises 10 000 addresses at once."""
    router = min(watched.hosts)
    with Measured(watched) as spent:
        for number in range(ADDRESSES):
            watched.advertise(router, f"Mapplication/queue/{number}")
        seconds = converge(watched)
    return {
        "addresses: simulated s": seconds,
        "addresses: CPU s": spent.cpu,
        "addresses: CPU ms per router": spent.cpu / len(watched.stations) * 1000,
        "addresses: MB sent": spent.octets / 1e6,
    }


def measure(routers: int) -> Figures:
    """All figures of one size."""
    watched = ControlNetwork(SEED, whole_paths=routers > 100, engine=Engine, drift=0.001)
    watched.build(random_regular(routers, 4, Random(SEED)))
    figures = cold_start(watched)
    watched.run(FLUX_SECONDS)
    figures |= idle(watched)
    figures |= idle_without_table(watched)
    watched.run(ADVERTISEMENT_SECONDS / 2)
    figures |= change(watched)
    figures |= addresses(watched)
    return figures


def curves(rows: dict[str, Figures]) -> str:
    """The picture."""

    def curve(name: str) -> list[tuple[float, float]]:
        return [(float(size), value) for size, row in rows.items() if (value := row.get(name)) is not None]

    return picture(
        [
            (
                "idle: control messages per second, all routers",
                "",
                {"no table": curve("no table: messages/s"), "with table": curve("idle: messages/s")},
            ),
            (
                "a connection ends: control messages",
                "",
                {"until known": curve("change: messages"), "afterwards": curve("change: messages in the 13 s after")},
            ),
            (
                "CPU time per router",
                "ms",
                {
                    "10 000 addresses": curve("addresses: CPU ms per router"),
                    "a connection ends": curve("change: CPU ms per router"),
                    "a minute, idle": curve("idle: CPU ms per minute and router"),
                },
            ),
            (
                "time until everybody knows",
                "s",
                {
                    "cold start": curve("start: simulated s"),
                    "a connection ends": curve("change: simulated s"),
                    "10 000 addresses": curve("addresses: simulated s"),
                },
            ),
        ]
    )


def run(sizes: Sequence[int] = SIZES) -> dict[str, Figures]:
    """The figures of each size."""
    return {str(size): measure(size) for size in sizes}


def transposed(rows: dict[str, Figures]) -> dict[str, Figures]:
    """A row for each figure: there are more of them than sizes."""
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {name: {f"{size} routers": row.get(name) for size, row in rows.items()} for name in names}


def main() -> None:
    """Print the figures, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="how many routers")
    parser.add_argument("--runs", type=int, default=1, help="ignored: everything but CPU time is the same in every run")
    parser.add_argument("--picture", type=Path, help="where to write the curves, as SVG")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    arguments = parser.parse_args()
    rows = run(arguments.sizes)
    if arguments.picture is not None:
        arguments.picture.write_text(curves(rows))
    print(json.dumps(rows) if arguments.json else table("network", transposed(rows)))


if __name__ == "__main__":
    main()
