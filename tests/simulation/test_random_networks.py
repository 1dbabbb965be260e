"""A few fixed seeds, and that a failure is told with the command that repeats it. `make simulation` draws new ones."""

from __future__ import annotations

import pytest

from tests.simulation.chaos import Chaos, Outcome
from tests.simulation.cold_start import cold_start
from tests.simulation.run import report


@pytest.mark.parametrize("seed", [9, 15, 27])
def test_networks_survive_chaos(seed: int) -> None:
    outcome = Chaos(seed, 20, seconds=15.0, faults=25).run()
    assert outcome.failures == [], outcome.command
    assert outcome.faults == 25


def test_routers_started_at_once_know_each_other_soon() -> None:
    started = cold_start(3, 60)
    assert started.failures == []
    assert started.simulated < 3.0
    assert "60 routers" in str(started)


def test_a_failing_seed_is_told_with_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert not report(Outcome(4711, 50, failures=["R1 has no way"]), " --loss 0.2")
    printed = capsys.readouterr().out
    assert "R1 has no way" in printed
    assert "python -m tests.simulation.run --routers 50 --seed 4711 --loss 0.2" in printed
