"""One van and one skrouterd: who they are to each other, whoever connects, and what is said when a role is wrong.

The short scenes of this folder, which every run of the tests asks for: see `network.py` for how to give a skrouterd.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.skrouterd.network import Connection, Network, Plan, Skrouterd

pytestmark = pytest.mark.interop

KINDS = {"S": "skrouterd", "V": "van"}


@pytest.fixture
def networks(skrouterd: Skrouterd, tmp_path: Path) -> Iterator[list[Network]]:
    started: list[Network] = []
    yield started
    for network in started:
        network.stop()


def start(networks: list[Network], skrouterd: Skrouterd, folder: Path, connection: Connection) -> Network:
    network = Network(skrouterd, "pair", Plan(KINDS, [connection], ("S", "V")), folder)
    networks.append(network)
    network.start_alone()
    return network


@pytest.mark.parametrize(("connecting", "listening"), [("V", "S"), ("S", "V")], ids=["van", "skrouterd"])
def test_they_are_neighbours_whoever_connects(
    connecting: str, listening: str, networks: list[Network], skrouterd: Skrouterd, tmp_path: Path
) -> None:
    network = start(networks, skrouterd, tmp_path, Connection(connecting, listening, cost=3))
    network.wait_until_connected()
    for at, other in (("S", "V"), ("V", "S")):
        (_, rows) = network.ask([at], "router.node", [{"id": other, "cost": 3}])[at]
        assert {row["id"] for row in rows} == {"S", "V"}
    role: dict[str, object] = {"container": "S", "role": "inter-router", "dir": "out" if connecting == "V" else "in"}
    network.ask(["V"], "connection", [role])


def test_a_listener_of_skrouterd_for_applications_is_told_apart(
    networks: list[Network], skrouterd: Skrouterd, tmp_path: Path
) -> None:
    network = start(networks, skrouterd, tmp_path, Connection("V", "S", listener="normal"))
    line = json.loads(network.routers["V"].wait_for_log("no neighbour"))
    assert "refuses links of routers" in line["reason"]
    assert "qd:forbidden" in line["reason"]


def test_a_skrouterd_at_our_listener_for_applications_is_told_apart(
    networks: list[Network], skrouterd: Skrouterd, tmp_path: Path
) -> None:
    network = start(networks, skrouterd, tmp_path, Connection("S", "V", listener="normal"))
    line = json.loads(network.routers["V"].wait_for_log("no neighbour"))
    assert "it has to connect to a listener of role inter-router" in line["reason"]
    network.reach(["V"])
