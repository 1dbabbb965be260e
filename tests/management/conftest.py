"""Fixtures of the scenes with a real site."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client.sites import RunningSite, running_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[RunningSite]:
    """A router with one open listener, and multicast `news`."""
    async with running_site(tmp_path) as running:
        yield running
