"""Real processes, killed at random: both ends' logs agree on every message."""

from __future__ import annotations

from tests.chaos.processes import MEMORY_LIMIT, Run


def test_every_message_is_accounted_for() -> None:
    run = Run(seed=5, messages=30_000, patience=60)
    run.run()
    print(run.report())
    assert run.counts["accepted"] > 15_000
    assert run.memory < 60 + int(MEMORY_LIMIT.split()[0])
