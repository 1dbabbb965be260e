"""Ten senders and ten receivers, killed at random: every message has an outcome or is in doubt, and the logs agree."""

from __future__ import annotations

import pytest

from tests.routing.chaos import Chaos


@pytest.mark.parametrize("seed", range(1, 4))
def test_every_message_is_accounted_for(seed: int) -> None:
    chaos = Chaos(seed, 20_000).run()
    assert sum(chaos.cuts.values()) > 10
    assert chaos.outcomes["Accepted"] > 10_000


def test_the_same_seed_tells_the_same_story() -> None:
    assert Chaos(42, 3000).run().report() == Chaos(42, 3000).run().report()


@pytest.mark.slow
def test_a_million() -> None:
    chaos = Chaos(7, 1_000_000).run()
    print(chaos.report())
    assert chaos.outcomes["Accepted"] > 500_000
