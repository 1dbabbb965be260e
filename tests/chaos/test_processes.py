"""Real processes, killed at random: both ends' logs agree on every message."""

from __future__ import annotations

from tests.chaos.processes import MEMORY_LIMIT, Run


def test_every_message_is_accounted_for() -> None:
    run = Run(seed=5, messages=40_000, patience=60, pause=0.2, injuries=8)
    run.run()
    print(run.report())
    assert run.counts["accepted"] > 20_000
    assert run.memory < 60 + int(MEMORY_LIMIT.split()[0])
