"""Where the microseconds of one message go: read, frame, session, route, settle, encode, write, and the loop around.

`python benchmarks/stages.py [ROW …] [--runs 3] [--scale 1] [--compiled PYTHON] [--json]`. How it is found out, so that
looking changes little:

- *read, encode, write*, and what `receive_data` takes of both kinds of connections: a process plays the router for
  real clients, with van's adaptors and core on a plain selector loop, and looks at its CPU clock around each call
  (`stage_loop.py`). One look is for a whole batch; what a look costs is taken off.
- *frame, session, route*: what `receive_data` took of the senders' octets is divided by replaying batches of the same
  size (`stage_replay.py`). Frames of a session that has ended here are discarded by the frame loop (2.5.4): that is
  *frame*, of frames one by one: where Transfers come in runs a part of it is told as *session*. Deliveries handed to a
  sink that does nothing: *session* is what this takes more. The rest is *route*.
- *settle* is everything that outcomes and credit take: the receivers' octets in, the senders' octets out.
- *loop* is what the real process takes for each message of the same load, less all of the above: trio and the driver.

All of it works on the compiled modules as well, for nothing is patched. Three rows have a floor beside them, which is
what the same octets cost where nobody looks at them:

- *tls*: `relay.py` on `trio.SSLStream`; *decrypt* and *encrypt* are OpenSSL with the layer around it.
- *apart*: both processes of `workers = 2`, with the senders in one and the receivers in the other, beside one process
  with all of them; the floor is `bare.py` in one process and in two.
- *latency*: one turn of a router that has nothing else to do, which carries a message with the outcome of the one
  before: two of them are a request and its answer. Here *settle* is what an outcome adds to what comes in, and *encode*
  has outcomes and messages. The floor is `bare.py`, on the same driver and poller. All run on one core, so that no
  stage has to wake another; the median of requests is also told with the router on one and the clients on another.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import rows
from generators import ExternalGenerator, Generator
from measure import Figures, cpu_seconds, environment, family, medians, show
from routers import CRouter, Layout, Network, Relay, Van, connections_of
from rows import CPU, CPU_PER_MB, MEDIAN, RATE, Row
from stage_loop import RECEIVERS, SENDERS, UPLINK, LoopNetwork, Spent
from stage_replay import FAR, NEAR, ONE, REPLAYED, TALK, Scene, up_to

STAGES = ("read", "decrypt", "frame", "session", "route", "settle", "encode", "encrypt", "write", "loop")
LOOP = "loop"
WHOLE = "router process"
PER_READ = "messages per read"
PER_WRITE = "messages per write"
FLOOR = "bare relay"
# What a turn takes depends on where the scheduler places client and router, so that is said: the router's core, and the
# clients'. A client on another core has to be woken there, which costs more than all that a router does.
CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
ONE_CORE, TWO_CORES = (0, 0), (0, 1)
MEDIAN_ONE, MEDIAN_TWO = "p50 µs on one core", "p50 µs on two"
# So many pairs have the rows of workers.
PAIRS = 4
BARE = Path(__file__).resolve().parent / "bare.py"

Columns = dict[str, Figures]
"""What is measured of one row, by whose it is."""


@dataclass(frozen=True)
class Kind:
    """What a replay needs to know of a row."""

    size: int = 100
    settled: bool = False
    receivers: int = 1


@dataclass(frozen=True)
class Setting:
    """What is measured, and how much of it."""

    python: str
    van: Van
    generator: Generator
    scale: float
    skrouterd: str

    def count(self, row: Row) -> int:
        """How many messages."""
        return max(10, int(row.count * self.scale))

    def up_to(self, place: str, batch: float, kind: Kind) -> dict[str, float]:
        """What a replay says of batches of a size."""
        total = int(REPLAYED * min(1.0, self.scale))
        scene = Scene(place, kind.size, max(1, round(batch)), kind.settled, kind.receivers, total)
        return up_to(self.python, scene)


def divided(receive: float, parts: dict[str, float], last: str = "route") -> Figures:
    """What `receive_data` took, in µs, as parts of what a replay says, whose whole is `last`."""
    share = receive / parts[last]
    # Calling a sink of Python from compiled code may cost more than routing does: then it is all told as `session`.
    routing = parts["route"] - parts["session"]
    until_routed = parts["session"] if routing > 0 else parts["route"]
    return {
        "frame": parts["frame"] * share,
        "session": max(0.0, until_routed - parts["frame"]) * share,
        "route": routing * share if routing > 0 else None,
    }


def completed(figures: Figures, everything: float | None) -> Figures:
    """With what the whole process took, and the loop as what is left of it."""
    known = sum(value for value in figures.values() if value is not None)
    figures[LOOP] = everything - known if everything is not None else None
    figures[WHOLE] = everything
    return figures


def carried(
    setting: Setting, incoming: Spent, outgoing: Spent, count: int, arrived: int, parts: dict[str, float]
) -> Figures:
    """Stages of messages that came by some connections and left by others, in µs for each that arrived."""
    scale = 1e-3 / arrived
    divisions = divided(incoming.receive * scale, parts)
    figures: Figures = {"read": (incoming.read + outgoing.read) * scale}
    if incoming.decrypt:
        figures["decrypt"] = (incoming.decrypt + outgoing.decrypt) * scale
    figures |= divisions
    figures["settle"] = (outgoing.receive + incoming.encode) * scale
    figures["encode"] = outgoing.encode * scale
    if incoming.decrypt:
        figures["encrypt"] = (incoming.encrypt + outgoing.encrypt) * scale
    figures["write"] = (incoming.write + outgoing.write) * scale
    return figures


def of_one(row: Row, setting: Setting) -> Columns:
    """One router process."""
    count = setting.count(row)
    kind = KINDS[row.name]
    network = LoopNetwork(setting.python, transport=row.layout.transport)
    row.measure(network, setting.generator, count)
    [spent] = network.results()
    senders, receivers = spent[SENDERS], spent[RECEIVERS]
    arrived = count * kind.receivers
    per_read = count / max(1, senders.reads)
    parts = setting.up_to(ONE, per_read, kind)
    figures = carried(setting, senders, receivers, count, arrived, parts)
    with setting.van.start(row.layout) as real:
        whole = row.measure(real, setting.generator, count)
    everything = whole.get(CPU)
    if everything is None and (per_mb := whole.get(CPU_PER_MB)) is not None:
        everything = per_mb * kind.size / 1e3
    completed(figures, everything)
    figures[PER_READ] = per_read
    figures[PER_WRITE] = arrived / max(1, receivers.writes)
    if RATE in whole:
        figures[RATE] = whole[RATE]
    return {"van": figures}


def of_tls(row: Row, setting: Setting) -> Columns:
    """A router process, and a relay on `trio.SSLStream`."""
    columns = of_one(row, setting)
    count = setting.count(row)
    network = LoopNetwork(sys.executable, bare=True, transport="tls")
    row.measure(network, setting.generator, count)
    [spent] = network.results()
    both = spent[SENDERS], spent[RECEIVERS]
    scale = 1e-3 / count
    figures: Figures = {
        "read": sum(one.read for one in both) * scale,
        "decrypt": sum(one.decrypt for one in both) * scale,
        "encrypt": sum(one.encrypt for one in both) * scale,
        "write": sum(one.write for one in both) * scale,
    }
    with Relay("bare stream").start(row.layout) as relay:
        whole = row.measure(relay, setting.generator, count)
    completed(figures, whole.get(CPU))
    figures[PER_READ] = count / max(1, both[0].reads)
    figures[PER_WRITE] = count / max(1, both[1].writes)
    figures[RATE] = whole.get(RATE)
    return columns | {"bare stream": figures}


class ByProcess:
    """Running routers whose processes' CPU time is kept apart; made for one row, whose first look it remembers."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.port = network.port
        self.far_port = network.far_port
        self.transport = network.transport
        self.bare = network.bare
        self.start_seconds = network.start_seconds
        self._seconds: list[list[float]] = []
        self._receivers: list[int] = []

    def _pids(self) -> list[int]:
        return [pid for process in self._network.processes for pid in family(process.pid)]

    def connections(self) -> list[int]:
        """How many connections of clients each process has."""
        return self._network.connections()

    def cpu_seconds(self) -> float | None:
        """User and system time until now. Receivers are there when this is first asked for, and senders are not."""
        seconds = [cpu_seconds(pid) for pid in self._pids()]
        if not self._seconds:
            self._receivers = [connections_of(pid, self.far_port) for pid in self._pids()]
        known = [value for value in seconds if value is not None]
        self._seconds.append(known)
        return sum(known) if known else None

    def resident_kib(self) -> int | None:
        """Resident memory now."""
        return self._network.resident_kib()

    def spent(self, count: int) -> tuple[float | None, float | None]:
        """µs for each message in the process that has the senders and in the one that has the receivers."""
        if len(self._seconds[0]) < 2 or not any(self._receivers):
            return None, None
        each = [(after - before) * 1e6 / count for before, after in zip(*self._seconds[:2], strict=True)]
        far = max(range(len(each)), key=self._receivers.__getitem__)
        return sum(each) - each[far], each[far]


class BareNetwork(Network):
    """`bare.py` in one process, or in two that are joined by a socket for each of so many pairs."""

    def __init__(self, joints: int = 0) -> None:
        super().__init__()
        self.bare = True
        joined = [socket.socketpair() for _ in range(joints)]
        sides = list(zip(*joined, strict=True)) if joined else [()]
        ports = []
        for side in sides:
            descriptors = [end.fileno() for end in side]
            process = subprocess.Popen(
                [sys.executable, str(BARE), *map(str, descriptors)],
                stdout=subprocess.PIPE,
                env=environment(),
                pass_fds=descriptors,
            )
            self.processes.append(process)
            assert process.stdout is not None
            with process.stdout as output:
                ports.append(json.loads(output.readline()))
        for end in (end for side in sides for end in side):
            end.close()
        self.port = ports[0]["port"]
        self.far_port = ports[-1]["far_port"]


def of_apart(row: Row, setting: Setting) -> Columns:
    """Four pairs in one process, and in two with the ends apart; the relay in as many."""
    one = rows.BY_NAME["workers-1"]
    columns = {"one process": of_one(one, setting)["van"]}
    count = setting.count(row)
    network = LoopNetwork(setting.python, workers=2)
    row.measure(network, setting.generator, count)
    far, near = network.results()
    with setting.van.start(row.layout) as running:
        real = ByProcess(running)
        whole = row.measure(real, setting.generator, count)
    ends = (
        ("senders' process", NEAR, near[SENDERS], near[UPLINK]),
        ("receivers' process", FAR, far[UPLINK], far[RECEIVERS]),
    )
    for (name, place, incoming, outgoing), everything in zip(ends, real.spent(count), strict=True):
        per_read = count / max(1, incoming.reads)
        figures = carried(setting, incoming, outgoing, count, count, setting.up_to(place, per_read, Kind()))
        columns[name] = completed(figures, everything)
        figures[PER_READ] = per_read
        figures[PER_WRITE] = count / max(1, outgoing.writes)
    columns["both"] = {name: added(columns, name) for name in columns["one process"] if name in (*STAGES, WHOLE)}
    columns["both"][RATE] = whole.get(RATE)
    for name, joints in (("one process", 0), ("both", PAIRS)):
        with BareNetwork(joints) as relay:
            columns[name][FLOOR] = row.measure(relay, setting.generator, count).get(CPU)
    return columns


def added(columns: Columns, name: str) -> float | None:
    """A stage in both processes together."""
    values = [columns[place].get(name) for place in ("senders' process", "receivers' process")]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def of_latency(row: Row, setting: Setting) -> Columns:
    """One turn of an idle router, of the relay, and, where it is there, of a router in C."""
    # The relay knows no other generator.
    generator = Generator()
    count = setting.count(row)
    scale = 1e-3 / (2 * count)
    columns: Columns = {}
    for name, bare in (("van", False), (FLOOR, True)):
        with placed(ONE_CORE):
            network = LoopNetwork(sys.executable if bare else setting.python, bare=bare)
            row.measure(network, generator, count)
        [spent] = network.results()
        both = spent[SENDERS], spent[RECEIVERS]
        figures: Figures = {"read": sum(one.read for one in both) * scale}
        if not bare:
            received = sum(one.receive for one in both) * scale
            parts = setting.up_to(TALK, 1, Kind())
            figures |= divided(received, parts, "settle")
            figures["settle"] = received * (1 - parts["route"] / parts["settle"])
            figures["encode"] = sum(one.encode for one in both) * scale
        figures["write"] = sum(one.write for one in both) * scale
        columns[name] = figures
    routers: dict[str, Callable[[], Network]] = {"van": partial(setting.van.start, Layout()), FLOOR: BareNetwork}
    if setting.skrouterd:
        routers["skrouterd"] = partial(CRouter("skrouterd", setting.skrouterd).start, Layout())
    for name, start in routers.items():
        figures = columns.setdefault(name, {})
        for median, cores in ((MEDIAN_ONE, ONE_CORE), (MEDIAN_TWO, TWO_CORES)):
            with placed(cores), start() as running, placed(cores[1:]):
                measured = row.measure(running, generator, count)
            if cores is ONE_CORE:
                cpu = measured.get(CPU)
                completed(figures, cpu / 2 if cpu is not None else None)
            figures[median] = measured.get(MEDIAN)
    return columns


@contextmanager
def placed(cores: Sequence[int]) -> Iterator[None]:
    """Have processes that are started meanwhile run on the first of these cores, if this system lets us."""
    if not CORES:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORES[cores[0] % len(CORES)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


KINDS = {
    "unsettled": Kind(),
    "presettled": Kind(settled=True),
    "64k": Kind(size=65536),
    "1m": Kind(size=1 << 20),
    "multicast": Kind(receivers=10),
    "rate-1000": Kind(),
    "workers-1": Kind(),
    "tls": Kind(),
}
# Rows with something beside them, by the row that says what is done.
FLOORS: dict[str, tuple[str, Callable[[Row, Setting], Columns]]] = {
    "tls": ("tls", of_tls),
    "apart": ("workers-2-apart", of_apart),
    "latency": ("request", of_latency),
}
def stages_table(title: str, columns: Columns) -> str:
    """A line for each stage, a column for each process; with shares of the whole where there is one."""
    first = next(iter(columns.values()))
    alone = len(columns) == 1
    heads = ["µs", "share"] if alone else [f"{name}, µs" for name in columns]
    both = not alone and "both" in columns
    if both:
        heads.append("both / one")
    lines = [f"| {title} | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    stages = [stage for stage in (*STAGES, WHOLE) if stage in first]
    others = list(dict.fromkeys(name for figures in columns.values() for name in figures if name not in stages))
    for name in (*stages, *others):
        values = [figures.get(name) for figures in columns.values()]
        cells = [show(figures[name]) if name in figures else "" for figures in columns.values()]
        if alone:
            whole = first[WHOLE]
            cells.append(f"{values[0] / whole:.0%}" if values[0] is not None and whole and name in STAGES else "")
        if both:
            one, two = values[0], values[-1]
            cells.append(f"{two / one:.2f}" if one and two is not None else "")
        lines.append(f"| {f'**{name}**' if name == WHOLE else name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def medians_of(runs: Sequence[Columns]) -> Columns:
    """The median of every figure over several runs."""
    return {name: medians([columns[name] for columns in runs]) for name in runs[0]}


def main() -> None:
    """Print the stages of some rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ", ".join(dict.fromkeys((*KINDS, *FLOORS)))
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {known}; default: unsettled")
    parser.add_argument("--runs", type=int, default=3, help="medians of so many")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of messages")
    parser.add_argument("--compiled", metavar="PYTHON", default="", help="the compiled van of this interpreter")
    parser.add_argument("--generator", default=os.environ.get("VAN_GENERATOR"), metavar="PATH", help="$VAN_GENERATOR")
    parser.add_argument(
        "--skrouterd", default=os.environ.get("VAN_SKROUTERD", ""), metavar="PATH", help="$VAN_SKROUTERD, for latency"
    )
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    arguments = parser.parse_args()
    python = arguments.compiled or sys.executable
    van = Van("van compiled", python, tree=None) if arguments.compiled else Van()
    results: dict[str, Columns] = {}
    for name in arguments.rows or ["unsettled"]:
        if name not in KINDS and name not in FLOORS:
            parser.error(f"no stages of row {name}")
        work, measure = FLOORS.get(name, (name, of_one))
        row = rows.BY_NAME[work]
        generator = Generator()
        if arguments.generator and ExternalGenerator(arguments.generator).takes(row.layout.transport, own=row.own):
            generator = ExternalGenerator(arguments.generator)
        setting = Setting(python, van, generator, arguments.scale, arguments.skrouterd)
        results[name] = medians_of([measure(row, setting) for _ in range(arguments.runs)])
        if not arguments.json:
            title = "one turn of an idle router" if name == "latency" else row.title
            print(stages_table(title, results[name]) + "\n", flush=True)
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
