"""Run fuzz targets one after another, each in a process of its own: `python fuzz/run.py SECONDS [TARGET ...]`.

`--planted` proves the targets instead: each fault that a target names is put into a copy of the package, and has to be
found within the time. Exit status 1 when something was found, or a planted fault was not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import load, plant, run_target, target_names


def prove(name: str, seconds: float) -> bool:
    """Tell whether a target finds each of its planted faults in time."""
    target = load(name)
    found = True
    for number, (module, text, replacement) in enumerate(target.PLANTED, 1):
        with tempfile.TemporaryDirectory() as folder:
            plant(module, text, replacement, Path(folder))
            begin = time.monotonic()
            status = run_target(name, seconds, [], package=Path(folder), report=False)
            took = time.monotonic() - begin
        if status == 0:
            found = False
            print(f"{name}: fault {number} in {module} NOT found in {took:.0f} s", flush=True)
        else:
            print(f"{name}: fault {number} in {module} found after {took:.1f} s", flush=True)
    if not target.PLANTED:
        print(f"{name}: names no fault to be proved with", flush=True)
    return found and bool(target.PLANTED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", metavar="[SECONDS] [TARGET ...]", help="all targets when none is named")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (60)")
    parser.add_argument("--planted", action="store_true", help="prove that planted faults are found")
    options = parser.parse_args()
    seconds = options.seconds
    names = options.words
    if names and names[0].replace(".", "", 1).isdigit():
        seconds = float(names[0])
        names = names[1:]
    known = target_names()
    names = names or known
    for name in names:
        if name not in known:
            parser.error(f"no target {name}; there are {', '.join(known)}")
    failed = []
    for name in names:
        print(f"== {name}: {(load(name).__doc__ or '').splitlines()[0]}", flush=True)
        if options.planted:
            if not prove(name, seconds):
                failed.append(name)
        elif run_target(name, seconds, []) != 0:
            failed.append(name)
    print(f"{len(names)} targets, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
