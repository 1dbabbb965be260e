"""The management node of a real site, asked by van's own client: what the process knows beside the core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.client.sites import RunningSite, running_site, until
from van.client import AmqpValue, Connection, Message, body_of, connect
from van.management.schema import PREFIX
from van.router.management import process_memory

SITE = """
[router]
id = "scene"
mode = "interior"
metadata = "for scenes"
users_file = "users.toml"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[listener]]
name = "users"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["SCRAM-SHA-256"]

[[connector]]
name = "nowhere"
url = "amqp://127.0.0.1:1"
cost = 3
role = "inter-router"
"""


@pytest.fixture
async def described(tmp_path: Path) -> AsyncIterator[RunningSite]:
    """A site with something of everything."""
    (tmp_path / "users.toml").write_text('[users]\nalice = "pencil"\n')
    async with running_site(tmp_path, SITE) as running:
        yield running


async def query(connection: Connection, entity_type: str, address: str = "$management") -> list[dict[str, Any]]:
    request = Message(
        application_properties={"operation": "QUERY", "entityType": PREFIX + entity_type}, body=AmqpValue({})
    )
    reply = await connection.request(address, request)
    assert reply.application_properties is not None
    assert reply.application_properties["statusCode"] == 200
    body: Any = body_of(reply)
    return [dict(zip(body["attributeNames"], row, strict=True)) for row in body["results"]]


async def one(connection: Connection, entity_type: str) -> dict[str, Any]:
    (row,) = await query(connection, entity_type)
    return row


async def test_a_router_tells_its_configuration_and_its_process(described: RunningSite) -> None:
    site = described
    async with connect(site.url()) as connection:
        router = await one(connection, "router")
        assert (router["id"], router["mode"], router["metadata"]) == ("scene", "interior", "for scenes")
        assert router["hostName"]
        metrics = await one(connection, "routerMetrics")
        assert metrics["connectionCount"] == 1
        assert (metrics["memoryUsage"], metrics["residentMemoryUsage"]) == (None, None) or (
            metrics["memoryUsage"] > metrics["residentMemoryUsage"] > 1_000_000
        )
        assert metrics["uptimeSeconds"] < 20


async def test_listeners_tell_their_real_ports(described: RunningSite) -> None:
    site = described
    async with connect(site.url()) as connection:
        listeners = await query(connection, "listener")
        assert [row["name"] for row in listeners] == ["open", "users"]
        ports = [listener.port for listener in site.site.listeners]
        assert [int(row["port"]) for row in listeners] == ports
        assert listeners[0]["identity"] == f"listener/127.0.0.1:{ports[0]}:open"
        assert [row["authenticatePeer"] for row in listeners] == [False, True]
        assert listeners[1]["saslMechanisms"] == "SCRAM-SHA-256"


async def test_connectors_tell_how_they_fare(described: RunningSite) -> None:
    site = described
    async with connect(site.url()) as connection:
        await until(lambda: site.site.connectors[0].status == "FAILED")
        connector = await one(connection, "connector")
        assert (connector["host"], connector["port"], connector["cost"]) == ("127.0.0.1", "1", 3)
        assert connector["connectionStatus"] == "FAILED"
        assert "refused" in connector["connectionMsg"]
        assert connector["saslPassword"] is None


async def test_connections_tell_who_is_there(site: RunningSite) -> None:
    async with connect(site.url(), container_id="me", properties={"fruit": "plum"}) as connection:
        row = await one(connection, "connection")
        assert (row["container"], row["role"], row["dir"], row["sasl"]) == ("me", "normal", "in", "ANONYMOUS")
        assert row["properties"]["fruit"] == "plum"
        assert row["localSocket"].endswith(f":{site.site.listeners[0].port}")
        assert row["host"].startswith("127.0.0.1:")
        assert (row["opened"], row["operStatus"], row["isEncrypted"]) == (True, "up", False)


async def test_addresses_and_links_tell_what_goes_on(site: RunningSite) -> None:
    async with (
        connect(site.url()) as connection,
        connection.receiver("news/today", credit=5) as receiver,
        connection.sender("news/today") as sender,
    ):
        sender.send_nowait("one")
        (await receiver.receive()).accept()
        addresses = {row["key"]: row for row in await query(connection, "router.address")}
        news = addresses["Mnews/today"]
        assert (news["distribution"], news["subscriberCount"]) == ("multicast", 1)
        assert (news["deliveriesIngress"], news["deliveriesEgress"]) == (1, 1)
        links = [row for row in await query(connection, "router.link") if row["owningAddr"] == "Mnews/today"]
        assert {row["linkDir"]: row["deliveryCount"] for row in links} == {"in": 1, "out": 1}


async def test_an_answer_of_many_rows_stops_nobody(site: RunningSite) -> None:
    """Others are served between the slices of an answer."""
    count = 1500
    async with connect(site.url()) as connection, connect(site.url()) as other:
        router = site.site.router
        for number in range(count):
            router.address(f"made/{number}")
        pings = 0
        done = False

        async def ping() -> None:
            nonlocal pings
            async with other.receiver("ping") as receiver, other.sender("ping") as sender:
                while not done:
                    sender.send_nowait("ping")
                    (await receiver.receive()).accept()
                    pings += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping)
            await until(lambda: pings > 0)
            before = pings
            rows = await query(connection, "router.address")
            assert len(rows) >= count
            assert pings > before + 3
            done = True


@pytest.mark.parametrize("statm", ["", "nonsense", "1"])
def test_a_system_that_does_not_tell_of_memory_is_no_harm(tmp_path: Path, statm: str) -> None:
    path = tmp_path / "statm"
    assert process_memory(path) == (None, None)
    path.write_text(statm)
    assert process_memory(path) == (None, None)


async def test_a_program_of_this_machine_may_make_an_auto_link(described: RunningSite) -> None:
    """By any listener, whoever it is."""
    kind = PREFIX + "router.config.autoLink"
    async with connect(described.url("open")) as connection:
        for operation, status in (("CREATE", 201), ("DELETE", 204)):
            request = Message(
                application_properties={"operation": operation, "type": kind, "name": "mine"},
                body=AmqpValue({"direction": "in", "address": "orders", "containerId": "broker"}),
            )
            reply = await connection.request("$management", request)
            assert reply.application_properties is not None
            assert reply.application_properties["statusCode"] == status
            rows = await query(connection, "router.config.autoLink")
            assert [row["operStatus"] for row in rows] == ["inactive"] * (status == 201)
