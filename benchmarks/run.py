"""Every benchmark, briefly: what `make bench` runs. Prints Markdown tables, ready for a commit message.

`python benchmarks/run.py [--runs 3] [--scale 0.3] [--json]`. Every file beside this one also runs alone.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable

import codec
import core
import idle
import router
from measure import Figures, table


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="medians of so many")
    parser.add_argument("--scale", type=float, default=0.3, help="times the usual number of messages")
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    arguments = parser.parse_args()
    runs, scale = arguments.runs, arguments.scale
    results: dict[str, dict[str, Figures]] = {}
    benchmarks: tuple[tuple[str, Callable[[], dict[str, Figures]]], ...] = (
        ("codec", lambda: codec.run(runs, 0.1 * scale)),
        ("core without sockets", lambda: core.run(runs, scale)),
        ("one router", lambda: router.run(runs, scale)),
        ("idle router", lambda: idle.run(1, max(10, int(1000 * scale)))),
    )
    for title, run in benchmarks:
        results[title] = run()
        if not arguments.json:
            print(table(title, results[title]) + "\n", flush=True)
    if arguments.json:
        print(json.dumps(results))
    else:
        print(f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}")


if __name__ == "__main__":
    main()
