"""Simulate networks: many seeds of chaos among link state engines, or among whole routers with traffic; a cold start.

    python -m tests.simulation.run --routers 50 --seeds 200
    python -m tests.simulation.run --routers 50 --seed 4711 --verbose
    python -m tests.simulation.run --routers 1000 --cold
    python -m tests.simulation.run --routers 12 --seeds 20 --traffic

Seeds are drawn anew for every run and printed, unless `--seed` names the first one. A seed that fails is printed with
what does not hold and with the command that repeats it; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import gc
import secrets
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.chaos import Chaos, Outcome
from tests.simulation.cold_start import cold_start
from tests.simulation.traffic import Traffic

# Seeds are short enough to be read out.
SEEDS = 10_000_000


def one_seed(
    seed: int, *, routers: int, loss: float, seconds: float, faults: int, verbose: bool = False, traffic: bool = False
) -> Outcome:
    """Run one seed of chaos."""
    gc.disable()
    chaos: Chaos | Traffic
    if traffic:
        chaos = Traffic(seed, routers, seconds=seconds, faults=faults)
    else:
        chaos = Chaos(seed, routers, loss=loss, seconds=seconds, faults=faults)
    try:
        return chaos.run()
    finally:
        if verbose:
            print("\n".join(chaos.happened))
        gc.enable()


def report(outcome: Outcome, options: str) -> bool:
    """Print what became of a seed; tells whether everything holds."""
    after = "never" if outcome.converged_after is None else f"{outcome.converged_after:.1f} s"
    verdict = "FAILED" if outcome.failures else "ok"
    print(
        f"seed {outcome.seed:8d}  {outcome.routers} routers  {outcome.faults} faults  converged after {after}"
        f"  {outcome.control_messages} messages  {outcome.real_seconds:.1f} s  {verdict}",
        flush=True,
    )
    for failure in outcome.failures:
        print(f"    {failure}")
    if outcome.failures:
        print(f"    repeat with: {outcome.command}{options}", flush=True)
    return not outcome.failures


def main() -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--routers", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--seed", type=int, help="the first one; drawn anew by default")
    parser.add_argument("--loss", type=float, default=0.07, help="share of control messages that get lost")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long there are faults, in simulated time")
    parser.add_argument("--faults", type=int, default=40, help="how many in that time")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    parser.add_argument("--cold", action="store_true", help="no faults: start all routers at once, and measure")
    parser.add_argument("--traffic", action="store_true", help="whole routers by bytes, with messages all the time")
    parser.add_argument("--verbose", action="store_true", help="print what happened when")
    arguments = parser.parse_args()
    first = secrets.randbelow(SEEDS) if arguments.seed is None else arguments.seed
    seeds = range(first, first + arguments.seeds)
    if arguments.cold:
        failed = False
        for seed in seeds:
            started = cold_start(seed, arguments.routers)
            print(started, flush=True)
            failed = failed or bool(started.failures)
        return int(failed)
    begin = time.perf_counter()
    run = partial(
        one_seed,
        routers=arguments.routers,
        loss=arguments.loss,
        seconds=arguments.seconds,
        faults=arguments.faults,
        verbose=arguments.verbose,
        traffic=arguments.traffic,
    )
    options = "".join(
        f" --{name} {getattr(arguments, name)}"
        for name in ("loss", "seconds", "faults")
        if getattr(arguments, name) != parser.get_default(name)
    )
    print(f"{len(seeds)} seeds of {arguments.routers} routers, from {first}{options}", flush=True)
    if arguments.jobs > 1 and len(seeds) > 1:
        with ProcessPoolExecutor(arguments.jobs) as pool:
            good = [report(outcome, options) for outcome in pool.map(run, seeds)]
    else:
        good = [report(run(seed), options) for seed in seeds]
    print(f"{sum(good)} of {len(good)} seeds hold, {time.perf_counter() - begin:.1f} s")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
