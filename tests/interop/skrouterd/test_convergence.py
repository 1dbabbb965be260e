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
@pytest.mark.parametrize("name", ["B", "D"])
def test_traffic_goes_round_the_other_way(
    how: signal.Signals, name: str, skrouterd: Skrouterd, tmp_path: Path, build: list[Network], figures: Figures
) -> None:
    """From A to C in the ring, while the router between them on either side is killed, or stopped, and comes back."""
    network = network_of("ring", skrouterd, tmp_path, build)
    network.start()
    flow = network.client("flow", address=f"flow.{name}", rate=RATE, seconds=20, **network.between(*network.ends))
    assert flow.line() == "flowing"
    time.sleep(1)
    router = network.routers[name]
    if how is signal.SIGKILL:
        router.kill()
        time.sleep(8)
        router.start()
    else:
        router.signal(how)
        time.sleep(8)
        router.signal(signal.SIGCONT)
    flowed = result(flow)
    figures.add(f"ring: {name} {'killed' if how is signal.SIGKILL else 'stopped'} after 1 s for 8 s: {flowed}")
    gaps = flowed["gaps"]
    assert isinstance(gaps, list)
    assert gaps[0][0] < SLOWEST
    assert flowed["without outcome"] == 0
    assert flowed["twice without being told to send again"] == 0
