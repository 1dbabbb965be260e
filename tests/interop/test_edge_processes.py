"""Two interior routers and an edge at each, every one a process, with Proton's clients: E at A and B, F at B."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.harness import HERE, SYSTEM_PYTHON, Program, Router
from tests.ports import free_port

pytestmark = [pytest.mark.interop, pytest.mark.slow]

MEGABYTE = 1_000_000
COMMON = """
[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[address]]
prefix = "multicast"
distribution = "multicast"
"""
INTERIOR = """
[router]
id = "{name}"
mode = "interior"

[[listener]]
name = "edges"
url = "amqp://127.0.0.1:{edge}"
role = "edge"

[[listener]]
name = "routers"
url = "amqp://127.0.0.1:{routers}"
role = "inter-router"
"""
EDGE = """
[router]
id = "{name}"
mode = "edge"
"""
CONNECTOR = """
[[connector]]
name = "to-{name}"
url = "amqp://127.0.0.1:{port}"
role = "{role}"
"""


class Sites:
    """The four processes and their clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.routers: dict[str, Router] = {}
        self.programs: list[Program] = []
        edge = {name: free_port() for name in "AB"}
        inter = {name: free_port() for name in "AB"}
        to_a = CONNECTOR.format(name="A", port=inter["A"], role="inter-router")
        up = {name: CONNECTOR.format(name=name, port=edge[name], role="edge") for name in "AB"}
        self.start("A", INTERIOR.format(name="A", edge=edge["A"], routers=inter["A"]))
        self.start("E", EDGE.format(name="E") + up["A"] + up["B"])
        self.routers["E"].wait_for_log(event="uplink in use", uplink="A")
        self.start("B", INTERIOR.format(name="B", edge=edge["B"], routers=inter["B"]) + to_a)
        self.start("F", EDGE.format(name="F") + up["B"])
        self.routers["F"].wait_for_log(event="uplink in use", uplink="B")
        self.routers["E"].wait_for_log(event="connection opened", container_id="B")

    def start(self, name: str, text: str) -> None:
        path = self.folder / f"{name}.toml"
        path.write_text(text + COMMON)
        self.routers[name] = Router(path)

    def url(self, name: str) -> str:
        return self.routers[name].url()

    def program(self, name: str, **options: object) -> Program:
        program = Program([SYSTEM_PYTHON, str(HERE / "proton" / f"{name}.py"), json.dumps(options)])
        self.programs.append(program)
        return program

    def end(self) -> None:
        for program in self.programs:
            program.kill()
        for router in self.routers.values():
            router.stop()


@pytest.fixture(scope="module")
def sites(proton_found: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    running = Sites(tmp_path_factory.mktemp("edges"))
    try:
        yield running
    finally:
        running.end()


def address(prefix: str = "scene") -> str:
    return f"{prefix}.{time.monotonic_ns()}"


WAYS = [("E", "F"), ("F", "E"), ("E", "B"), ("A", "E"), ("A", "F")]


@pytest.mark.parametrize("way", WAYS, ids="".join)
@pytest.mark.parametrize("sizes", [[60_000, 60_000], [5 * MEGABYTE]], ids=["60 kB", "5 MB"])
def test_messages_come_whole(sites: Sites, way: tuple[str, str], sizes: list[int]) -> None:
    here, there = way
    across = sites.program("across", address=address(), sizes=sizes, url=sites.url(here), other=sites.url(there))
    assert across.output() == [f"{size} the same" for size in sizes]


@pytest.mark.parametrize("way", WAYS, ids="".join)
def test_requests_are_answered_to_a_dynamic_address(sites: Sites, way: tuple[str, str]) -> None:
    here, there = way
    service = address()
    server = sites.program("serve", address=service, count=10, url=sites.url(there))
    assert server.line() == "ready"
    reply_to, *answers = sites.program("ask", address=service, count=10, url=sites.url(here)).output()
    space = f"_edge/{here}" if here in "EF" else f"_topo/0/{here}"
    assert reply_to.startswith(f"reply to amqp:/{space}/temp.")
    assert answers == [f"REQUEST {number}" for number in range(1, 11)]
    assert server.output() == []


def spread(sites: Sites, here: str, prefix: str) -> dict[str, object]:
    receivers = {name: sites.url(name) for name in sites.routers}
    program = sites.program(
        "spread", receivers=receivers, address=address(prefix), count=50, hold=0.05, probe=True, url=sites.url(here)
    )
    result: dict[str, object] = json.loads(program.output()[-1])
    return result


@pytest.mark.parametrize("here", "EABF")
def test_multicast_reaches_everybody_once(sites: Sites, here: str) -> None:
    everybody = dict.fromkeys(sites.routers, 50)
    assert spread(sites, here, "multicast") == {"came": everybody, "twice": 0, "outcomes": {"accepted": 50}}


@pytest.mark.parametrize("here", "EA")
def test_balanced_reaches_somebody_once(sites: Sites, here: str) -> None:
    result = spread(sites, here, "balanced")
    came = result.pop("came")
    assert isinstance(came, dict)
    assert sum(came.values()) == 50
    assert result == {"twice": 0, "outcomes": {"accepted": 50}}


def test_the_edge_goes_on_by_its_other_uplink(sites: Sites) -> None:
    """The last scene: an interior router is killed, then an edge is ended in order."""
    sites.routers.pop("A").kill()
    sites.routers["E"].wait_for_log(event="uplink in use", uplink="B")
    for here, there in (("E", "F"), ("F", "E")):
        across = sites.program("across", address=address(), sizes=[1000], url=sites.url(here), other=sites.url(there))
        assert across.output() == ["1000 the same"]
    sites.routers.pop("E").end(signal.SIGTERM)
