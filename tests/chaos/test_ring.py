"""A small ring of real routers: complete soon, and traffic over it outlives routers that are killed or fall silent.

`python -m tests.chaos.ring` does the same with ten routers and tighter limits.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.ring import Limits, play

# A busy machine may need longer than the network: what these would still catch are seconds of waiting for a timer.
LIMITS = Limits(complete=10.0, gap=2.0, join=4.0)


async def test_a_ring_outlives_its_routers(tmp_path: Path) -> None:
    scenes = ["cut", "silent", "receiver"]
    run = await play(tmp_path, scenes, size=4, hello=0.25, age=1.0, rate=500, calm=0.5, victims=1, limits=LIMITS)
    assert run.findings == []


@pytest.mark.slow
async def test_a_ring_of_ten(tmp_path: Path) -> None:
    limits = Limits(complete=5.0, gap=1.0, join=2.0, idle_share=0.1)
    run = await play(tmp_path, ["idle", "cut", "silent", "orderly", "receiver"], limits=limits)
    assert run.findings == []
