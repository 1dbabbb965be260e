"""A broker beside a van, with programs at a skrouterd, which knows no waypoints; and auto-links of a skrouterd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.foreign_brokers import ProtonBroker, broker
from tests.interop.skrouterd.network import Connection, Network, Plan, Skrouterd
from tests.interop.test_brokers import SITE

pytestmark = pytest.mark.interop

KINDS = {"S": "skrouterd", "V": "van"}


@pytest.fixture
def pair(skrouterd: Skrouterd, tmp_path: Path) -> Iterator[Network]:
    running = Network(skrouterd, "pair", Plan(KINDS, [Connection("S", "V")], ("S", "V")), tmp_path)
    yield running
    running.stop()


def test_a_queue_has_two_names_at_a_router_without_waypoints(pair: Network, tmp_path: Path) -> None:
    with broker(ProtonBroker, tmp_path / "broker") as beside:
        with (tmp_path / "V.toml").open("a") as site_file:
            text = SITE.format(port=beside.port, keys="", queue="queue", workers=1)
            site_file.write(text[text.index("[[connector]]") :])
        pair.start()
        pair.routers["V"].wait_for_log('"direction": "in"')
        behind = "_waypoint/orders"
        for sends, receives, source in (("S", "S", behind), ("S", "V", "orders"), ("V", "S", behind)):
            receiver = pair.client("receive", address=source, count=1, **pair.at(receives))
            assert receiver.line() == "ready"
            sender = pair.client("send", address="orders", bodies=["a"], **pair.at(sends))
            assert sender.output() == ["a accepted settled"]
            assert receiver.output() == ["message a unsettled"]


def test_auto_links_of_a_skrouterd_lead_to_an_address_here(pair: Network, tmp_path: Path) -> None:
    path = tmp_path / "S.json"
    entities = json.loads(path.read_text())
    port = pair.routers["V"].ports["normal"]
    common = {"host": "127.0.0.1", "saslMechanisms": "ANONYMOUS", "role": "route-container"}
    entities.append(("connector", {"name": "as-broker", "port": port, **common}))
    for direction in ("out", "in"):
        link = {"address": f"sk.{direction}", "externalAddress": f"van.{direction}", "connection": "as-broker"}
        entities.append(("autoLink", {"direction": direction, **link}))
    path.write_text(json.dumps(entities))
    pair.start()
    pair.ask(["S"], "router.config.autoLink", [{"direction": way, "operStatus": "active"} for way in ("out", "in")])
    for sends, address, receives, source in (("S", "sk.out", "V", "van.out"), ("V", "van.in", "S", "sk.in")):
        receiver = pair.client("receive", address=source, count=1, **pair.at(receives))
        assert receiver.line() == "ready"
        sender = pair.client("send", address=address, bodies=["a"], **pair.at(sends))
        assert sender.output() == ["a accepted settled"]
        assert receiver.output() == ["message a unsettled"]
