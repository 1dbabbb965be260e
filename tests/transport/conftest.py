"""Fixtures of the transport's scenes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transport.authority import Authority
from tests.transport.logbook import Logbook


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def logbook() -> Logbook:
    return Logbook()
