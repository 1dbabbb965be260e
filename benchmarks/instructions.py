"""How many instructions one message takes: for changes that are smaller than the noise of any clock.

`python benchmarks/instructions.py [ROW …] [--messages 3000] [--tree PATH …] [--compiled PYTHON] [--json]`; needs
valgrind. What a router is given when N and when 2 N messages pass is recorded first; then a process that does nothing
but hand these octets to the core runs under valgrind, once for each, and the difference of the counts is what N
messages take, without start, handshake, and clients. No sockets are in it. Hashes are fixed; two runs of the same code
differ by less than a thousandth.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import core
from measure import Figures, environment, table

from van.router.process import settle_memory

DIFFERENCE = "to the first %"


@dataclass(frozen=True)
class Work:
    """A kind of message. One of them counts as `weight` of the messages asked for, so that none takes for ever."""

    size: int = 100
    settled: bool = False
    receivers: int = 1
    weight: int = 1


ROWS = {
    "unsettled": Work(),
    "presettled": Work(settled=True),
    "64k": Work(size=65536, weight=4),
    "multicast": Work(receivers=10, weight=5),
}


def record(work: Work, count: int, file: Path) -> None:
    """Write what the router is given when so many messages pass."""
    trace: core.Trace = []
    core.carry(count, work.size, settled=work.settled, receivers=work.receivers, trace=trace)
    file.write_bytes(pickle.dumps(trace))


class Discarding(core.End):
    """An end whose octets go nowhere."""

    def flush(self) -> None:
        super().flush()
        self.chunks.clear()


def replay(work: Work, file: Path) -> None:
    """Hand the octets to a router, and do nothing else."""
    trace: core.Trace = pickle.loads(file.read_bytes())
    router = core.make_router(work.receivers)
    receive = [Discarding(router).adaptor.receive_data for _ in range(work.receivers + 1)]
    settle_memory()
    for number, data in trace:
        receive[number](data, 0.0)
        router.wake_touched()


def count_instructions(python: str, surroundings: dict[str, str], row: str, file: Path) -> int:
    """Those of a process that replays."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise SystemExit("valgrind is not installed here: instructions cannot be counted")
    words = [valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    words += [python, __file__, "--replay", row, str(file)]
    result = subprocess.run(words, env=surroundings, capture_output=True, text=True, check=False)
    found = re.search(r"I\s+refs:\s+([\d,]+)", result.stderr)
    if result.returncode or not found:
        raise RuntimeError(f"valgrind has failed:\n{result.stderr}")
    return int(found[1].replace(",", ""))


def measure(row: str, python: str, surroundings: dict[str, str], messages: int) -> float:
    """Instructions for a message."""
    counts = []
    with tempfile.TemporaryDirectory(prefix="van-benchmark-") as folder:
        for times in (1, 2):
            file = Path(folder) / f"trace{times}"
            words = [python, __file__, "--record", row, str(messages * times), str(file)]
            subprocess.run(words, env=surroundings, check=True)
            counts.append(count_instructions(python, surroundings, row, file))
    return (counts[1] - counts[0]) / messages


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(ROWS)}")
    parser.add_argument("--messages", type=int, default=3000, help="N; of large ones and of multicast a part")
    parser.add_argument("--tree", action="append", default=[], metavar="PATH", help="count in another tree as well")
    parser.add_argument("--compiled", default=os.environ.get("VAN_COMPILED_PYTHON"), metavar="PYTHON")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    parser.add_argument("--record", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--replay", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record:
        row, count, file = arguments.record
        record(ROWS[row], int(count), Path(file))
        return
    if arguments.replay:
        row, file = arguments.replay
        replay(ROWS[row], Path(file))
        return
    if unknown := [row for row in arguments.rows if row not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}")
    # The module files are the same in all, and read from caches: hashing and writing them would be counted otherwise.
    fixed = {"PYTHONHASHSEED": "0"}
    subjects = [("van", sys.executable, environment() | fixed)]
    for tree in arguments.tree:
        surroundings = environment(installed=True) | fixed | {"PYTHONPATH": str(Path(tree).resolve())}
        subjects.append((f"van in {Path(tree).name}", sys.executable, surroundings))
    if arguments.compiled:
        subjects.append(("van compiled", arguments.compiled, environment(installed=True) | fixed))
    results: dict[str, Figures] = {}
    for row in arguments.rows or ROWS:
        messages = max(1, arguments.messages // ROWS[row].weight)
        counts = {name: measure(row, python, surroundings, messages) for name, python, surroundings in subjects}
        results[row] = dict(counts)
        for name, count in list(counts.items())[1:]:
            results[row][f"{name}, {DIFFERENCE}"] = (count / counts["van"] - 1) * 100
    print(json.dumps(results) if arguments.json else table("instructions per message", results))


if __name__ == "__main__":
    main()
