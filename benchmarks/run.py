"""Every row of the table against van and, where their paths are given, the C routers, in turns: what `make bench` runs.

`python benchmarks/run.py [ROW …] [--runs 3] [--scale 1] [--skrouterd PATH] [--qdrouterd PATH] …`. Prints Markdown: the
medians, and what van's figures are as multiples of the others'. Machines are shared and noisy: ratios of one run count,
and CPU for each message rather than messages/s, for clients and routers share the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import rows as table
from generators import ExternalGenerator, Generator
from measure import Figures, medians
from report import Results, figures_table, pictures, ratios_table
from routers import Contestant, CRouter, Relay, UnsupportedError, Van

QUICK_SCALE = 0.2


def parse() -> argparse.Namespace:
    """The command line; what stands in the environment need not be said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(table.BY_NAME)}")
    parser.add_argument("--runs", type=int, default=3, help="medians of so many")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of messages")
    parser.add_argument("--quick", action="store_true", help="one run of a fifth: about a minute")
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    parser.add_argument(
        "--pictures",
        nargs="?",
        const="build/benchmarks",
        metavar="FOLDER",
        help="draw SVG pictures too; default build/benchmarks",
    )
    parser.add_argument("--no-van", action="store_true", help="leave this tree's van out")
    parser.add_argument(
        "--no-relay", dest="relay", action="store_false", help="leave out the yardstick of TLS and WebSocket"
    )
    parser.add_argument("--tree", action="append", default=[], metavar="PATH", help="van of another tree as well")
    environment = os.environ.get
    parser.add_argument(
        "--compiled",
        default=environment("VAN_COMPILED_PYTHON"),
        metavar="PYTHON",
        help="the interpreter of an environment where a compiled van is installed ($VAN_COMPILED_PYTHON)",
    )
    parser.add_argument("--skrouterd", default=environment("VAN_SKROUTERD"), metavar="PATH", help="$VAN_SKROUTERD")
    parser.add_argument("--qdrouterd", default=environment("VAN_QDROUTERD"), metavar="PATH", help="$VAN_QDROUTERD")
    parser.add_argument(
        "--generator",
        default=environment("VAN_GENERATOR"),
        metavar="PATH",
        help="make the load with this program, where it can, instead of benchmarks/load.py ($VAN_GENERATOR)",
    )
    arguments = parser.parse_args()
    if unknown := [row for row in arguments.rows if row not in table.BY_NAME]:
        parser.error(f"no such row: {', '.join(unknown)}")
    if arguments.quick:
        arguments.runs, arguments.scale = 1, arguments.scale * QUICK_SCALE
    return arguments


def contestants(arguments: argparse.Namespace) -> list[Contestant]:
    """Who takes part; van of this tree is the first."""
    found: list[Contestant] = [] if arguments.no_van else [Van()]
    found += [Van(f"van in {Path(tree).name}", tree=Path(tree).resolve()) for tree in arguments.tree]
    if arguments.compiled:
        found.append(Van("van compiled", arguments.compiled, tree=None))
    if arguments.skrouterd:
        found.append(CRouter("skrouterd", arguments.skrouterd))
    if arguments.qdrouterd:
        found.append(CRouter("qdrouterd", arguments.qdrouterd))
    if arguments.relay:
        found.append(Relay("bare stream"))
    return found


def compete(row: table.Row, routers: list[Contestant], generator: Generator, arguments: argparse.Namespace) -> Results:
    """One row against all, in turns; the medians. Who cannot or fails is told of on stderr and left out."""
    runs: dict[str, list[Figures]] = {}
    failed: set[str] = set()
    for _ in range(arguments.runs):
        for router in routers:
            if router.name in failed:
                continue
            try:
                with router.start(row.layout) as network:
                    figures = table.run(row, network, generator, arguments.scale)
            except UnsupportedError as reason:
                failed.add(router.name)
                if not isinstance(router, Relay):
                    print(f"{row.name}: {router.name} is left out: {reason}", file=sys.stderr)
            except (OSError, RuntimeError, ValueError, KeyError, subprocess.SubprocessError) as error:
                failed.add(router.name)
                runs.pop(router.name, None)
                print(f"{row.name}: {router.name} has failed: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
            else:
                runs.setdefault(router.name, []).append(figures)
    return {row.name: {name: medians(list_) for name, list_ in runs.items()}}


def surroundings(routers: list[Contestant], generators: set[str]) -> str:
    """What the figures depend on."""
    linux = sys.platform.startswith("linux")
    missing = "" if linux else "; CPU and memory leave child processes out: Linux alone tells"
    lines = [f"- {router.name}: {router.version()}" for router in routers]
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} CPUs{missing}"
    lines.append(f"- {machine}; load by {' and '.join(sorted(generators))}")
    return "\n".join(lines)


def measure(names: Sequence[str], routers: list[Contestant], arguments: argparse.Namespace) -> tuple[Results, set[str]]:
    """All rows, and who made the load. An interrupt ends it: what has been measured until then counts."""
    results: Results = {}
    own = Generator()
    external = ExternalGenerator(arguments.generator) if arguments.generator else own
    used: set[str] = set()
    try:
        for row in [table.BY_NAME[name] for name in names] or table.ROWS:
            generator = external if external.takes(row.layout.transport, own=row.own) else own
            results |= compete(row, routers, generator, arguments)
            used.add(generator.name)
            print(f"{row.name}: done", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return results, used


def main() -> None:
    """Print all figures."""
    arguments = parse()
    routers = contestants(arguments)
    results, used = measure(arguments.rows, routers, arguments)
    titles = {row.name: row.title for row in table.ROWS}
    names = [router.name for router in routers if any(router.name in row for row in results.values())]
    if arguments.pictures:
        folder = Path(arguments.pictures)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pictures(titles, results, names).items():
            (folder / f"performance-{name}.svg").write_text(text)
    if arguments.json:
        print(json.dumps(results))
        return
    print(figures_table(titles, results, names) + "\n")
    ours = [name for name in names if name.startswith("van")]
    others = [name for name in names if name not in ours]
    pairs = [(mine, other) for mine in ours for other in others] + [(mine, ours[0]) for mine in ours[1:]]
    if pairs:
        print(ratios_table(titles, results, pairs) + "\n")
    print(surroundings(routers, used))


if __name__ == "__main__":
    main()
