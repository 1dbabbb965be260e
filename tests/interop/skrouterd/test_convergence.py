"""How fast networks of van and skrouterd find themselves, and how long nothing comes while one router is gone.

The figures are printed at the end; the scenes fail only on what is never right. Needs VAN_SKROUTERD, as its neighbours.
"""

from __future__ import annotations

import json
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.harness import Program
from tests.interop.skrouterd.conftest import planned
from tests.interop.skrouterd.network import Figures, Network, Skrouterd

pytestmark = [pytest.mark.interop, pytest.mark.slow]

RATE = 500
TRIALS = 3
AWAY = 7
"""Seconds that a router is away: more than the age of a HELLO, less than the time-out of an idle connection."""
SLOWEST = 20.0
"""Seconds without a message that would mean that nothing heals: a ring of skrouterds alone needs up to six."""


@pytest.fixture
def build(skrouterd: Skrouterd, tmp_path: Path) -> Iterator[list[Network]]:
    built: list[Network] = []
    yield built
    for network in built:
        network.stop()


def network_of(name: str, skrouterd: Skrouterd, folder: Path, built: list[Network]) -> Network:
    network = Network(skrouterd, name, planned(name), folder)
    built.append(network)
    return network


@pytest.mark.parametrize("name", ["line sk-van-sk", "line van-sk-van"])
def test_a_blocked_producer_at_one_end_reaches_a_new_router_at_the_other(
    name: str, skrouterd: Skrouterd, tmp_path: Path, build: list[Network], figures: Figures
) -> None:
    """From the moment in which the last router listens until the first message to a consumer there is accepted."""
    network = network_of(name, skrouterd, tmp_path, build)
    first, last = network.ends
    for router in network.routers.values():
        if router.name != last:
            router.start()
    others = [other for other in network.routers if other != last]
    network.reach(others)
    took = []
    for trial in range(TRIALS):
        client = network.client("first", address=f"first.{trial}", **network.between(first, last))
        assert client.line() == "waiting"
        network.routers[last].start()
        network.routers[last].wait_until_listening()
        listening = time.time()
        _, accepted, _ = client.line().split()
        took.append(float(accepted) - listening)
        network.routers[last].kill()
        # Until the others have forgotten its addresses: what it had before is not to help it.
        time.sleep(5)
    words = ", ".join(f"{seconds:.2f}" for seconds in took)
    figures.add(f"{name}: first message accepted after {words} s (median {statistics.median(took):.2f})")


def result(program: Program) -> dict[str, object]:
    deadline = time.monotonic() + 60
    while program.running and time.monotonic() < deadline:
        time.sleep(0.02)
    loaded: dict[str, object] = json.loads(program.output()[-1])
    return loaded


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["cut", "silent"])
@pytest.mark.parametrize("name", ["B", "D", "A", "C"])
def test_traffic_goes_round_the_other_way(
    how: signal.Signals, name: str, skrouterd: Skrouterd, tmp_path: Path, build: list[Network], figures: Figures
) -> None:
    """From one side of the ring to the other, while a router between them is killed, or stopped, and comes back.

    Sender and receiver are at routers of the other kind: a van is taken away from between skrouterds, and the reverse.
    """
    network = network_of("ring", skrouterd, tmp_path, build)
    network.start()
    ends = ("A", "C") if name in {"B", "D"} else ("B", "D")
    flow = network.client("flow", address=f"flow.{name}", rate=RATE, seconds=AWAY + 6, **network.between(*ends))
    assert flow.line() == "flowing"
    time.sleep(1)
    router = network.routers[name]
    if how is signal.SIGKILL:
        router.kill()
        time.sleep(AWAY)
        router.start()
    else:
        router.signal(how)
        time.sleep(AWAY)
        router.signal(signal.SIGCONT)
    flowed = result(flow)
    kind = network.plan.routers[name]
    figures.add(f"ring: {kind} {name} {'killed' if how is signal.SIGKILL else 'stopped'} for {AWAY} s: {flowed}")
    gaps = flowed["gaps"]
    assert isinstance(gaps, list)
    assert gaps[0][0] < SLOWEST
    assert flowed["without outcome"] == 0
    assert flowed["twice without being told to send again"] == 0
