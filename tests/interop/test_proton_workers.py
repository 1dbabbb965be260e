"""Qpid Proton and a router of several processes: its connections move while they open, and it notices nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.harness import Certificates, Proton, Router

pytestmark = pytest.mark.interop

SITE = """
[router]
id = "several"
workers = 3

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"
"""


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Router]:
    site_file = tmp_path / "several.toml"
    site_file.write_text(SITE)
    running = Router(site_file)
    yield running
    running.stop()


@pytest.fixture
def programs(proton_found: None, several: Router, certificates: Certificates, tmp_path: Path) -> Iterator[Proton]:
    found = Proton(several, certificates, tmp_path)
    yield found
    found.end_all()


def homes(router: Router) -> list[int]:
    """The processes of all connections so far, in the order in which they opened."""
    return [line.get("worker", 0) for line in router.log() if line["event"] == "connection opened"]


def test_several_clients_meet_where_their_addresses_are(several: Router, programs: Proton) -> None:
    receivers = [
        programs.program("receive", address=f"queue/{number}", count=2, **programs.to("open")) for number in range(3)
    ]
    assert [receiver.line() for receiver in receivers] == ["ready"] * 3
    assert sorted(homes(several)) == [0, 1, 2]
    for number, receiver in enumerate(receivers):
        options = {"address": f"queue/{number}", "bodies": ["a", "b"]}
        assert programs.program("send", **options, **programs.to("open")).output() == [
            "a accepted settled",
            "b accepted settled",
        ]
        assert receiver.output() == ["message a unsettled", "message b unsettled"]
    assert sorted(homes(several)) == [0, 0, 1, 1, 2, 2]


def test_requests_and_replies(several: Router, programs: Proton) -> None:
    server = programs.program("serve", address="service", count=6, **programs.to("open"))
    for _ in range(2):
        asked = programs.program("ask", address="service", count=3, **programs.to("open")).output()
        assert len(asked) >= 3
    server.output()
    assert len(homes(several)) == 3


def test_management_from_any_process(several: Router, programs: Proton) -> None:
    for _ in range(4):
        request = {"properties": {"operation": "QUERY", "entityType": "router"}}
        program = programs.program("manage", address="$management", requests=[request], **programs.to("open"))
        status, _, body = json.loads(program.line())
        assert status == 200
        assert body["results"][0][0] == "several"
        program.output()
