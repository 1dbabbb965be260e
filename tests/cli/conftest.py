"""One router process for all scenes of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.vans import SITE, Van
from tests.interop.harness import Certificates, Router


@pytest.fixture(scope="session")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    Certificates(folder)
    (folder / "users.toml").write_text('[users]\nalice = "pencil"\n')
    (folder / "site.toml").write_text(SITE)
    return folder


@pytest.fixture(scope="session")
def router_process(site_folder: Path) -> Iterator[Router]:
    running = Router(site_folder / "site.toml")
    yield running
    running.stop()


@pytest.fixture
def van(router_process: Router, site_folder: Path) -> Iterator[Van]:
    command = Van(router_process, site_folder)
    yield command
    command.end_all()
    router_process.check_alive()


@pytest.fixture
def address(request: pytest.FixtureRequest) -> str:
    """An address that no other scene uses."""
    return f"scene/{request.node.name}"
