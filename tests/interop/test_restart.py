"""A router that is restarted or killed under its clients: they reconnect by themselves, and no message is missing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.harness import Certificates, Proton, Router
from tests.ports import free_port

pytestmark = pytest.mark.interop

SITE = """
[router]
id = "restarted"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:{port}"
# Proton does not answer a Close with amqp:connection:forced, nor read on:
# it finds out when it writes a heartbeat.
idle_timeout_seconds = 2
"""


class Restarted:
    """A router of its own for one scene, always on the same port."""

    def __init__(self, folder: Path) -> None:
        self.site_file = folder / "site.toml"
        self.site_file.write_text(SITE.format(port=free_port()))
        self.router = Router(self.site_file)

    def again(self, number: signal.Signals) -> None:
        """End it by this signal, and start it again."""
        self.router.end(number)
        self.router = Router(self.site_file)


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Restarted]:
    router = Restarted(tmp_path)
    yield router
    router.router.stop()


@pytest.fixture
def programs(
    restarted: Restarted, proton_found: None, certificates: Certificates, tmp_path: Path
) -> Iterator[Proton]:
    started = Proton(restarted.router, certificates, tmp_path)
    yield started
    started.end_all()


def test_clients_reconnect_and_miss_nothing(restarted: Restarted, programs: Proton) -> None:
    options = {"address": "steady", "reconnect": True, **programs.to("open")}
    receiver = programs.program("steady_receive", **options)
    sender = programs.program("steady_send", count=5000, **options)
    assert receiver.lines(2) == ["500", "1000"]
    restarted.again(signal.SIGTERM)
    assert receiver.lines(4) == ["1500", "2000", "2500", "3000"]
    restarted.again(signal.SIGKILL)
    assert sender.output() == ["accepted 5000"]
    assert receiver.lines(4) == ["3500", "4000", "4500", "5000"]
