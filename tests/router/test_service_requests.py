"""Services that are created and deleted over management while a site runs: who may, what is checked, what is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.router.running import PLAIN, Running, running, until, until_end
from tests.router.simple_services import install
from tests.router.site_file import SiteFile
from tests.router.test_services import listening, port_of, said
from van.client import AmqpValue, Connection, Message, Properties, body_of, connect
from van.management.schema import PREFIX

LISTEN = {"listen": "tcp://127.0.0.1:0", "address": "news", "alwaysOpen": True}


@pytest.fixture(autouse=True)
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


class Asker:
    def __init__(self, connection: Connection, address: str = "$management") -> None:
        self.connection = connection
        self.address = address

    async def ask(self, operation: str, kind: str = "service", body: Any = None, **given: str) -> tuple[int, str, Any]:
        request = Message(
            application_properties={"operation": operation, "type": PREFIX + kind, **given}, body=AmqpValue(body)
        )
        reply = await self.connection.request(self.address, request)
        properties = reply.application_properties or {}
        return properties["statusCode"], properties["statusDescription"], body_of(reply)  # type: ignore[return-value]


@asynccontextmanager
async def asking(scene: Running) -> AsyncIterator[Asker]:
    async with connect(scene.url()) as connection:
        yield Asker(connection)


async def test_a_service_is_created_read_and_deleted(site: SiteFile) -> None:
    async with running(site) as scene, asking(scene) as asker:
        code, text, created = await asker.ask("CREATE", name="greets", body=LISTEN)
        assert (code, text) == (201, "Created")
        assert (created["name"], created["end"], created["scheme"], created["operStatus"], created["configured"]) == (
            "greets", "listen", "tcp", "up", False
        )  # fmt: skip
        assert await said(int(created["port"])) == b"hello from news\n"
        assert (await scene.line("service added"))["address"] == "news"
        told = created | {"connectionsOpened": 1, "connectionsClosed": 1}
        assert await asker.ask("READ", name="greets") == (200, "OK", told)
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(scene))
        async with stream:
            assert b"hello" in await stream.receive_some(100)
            assert await asker.ask("DELETE", identity="service/greets") == (204, "No Content", {})
            assert await until_end(stream) == b"the service was removed\n"
        assert scene.site.services.running == {}
        code, text, _ = await asker.ask("DELETE", name="greets")
        assert (code, text) == (404, "No entity with name=greets")
        assert (await asker.ask("DELETE"))[0] == 400


async def test_the_entities_of_the_deployed_routers(site: SiteFile) -> None:
    async with running(site) as scene, asking(scene) as asker:
        given: dict[str, Any] = {"address": "db", "host": "127.0.0.1", "port": "0"}
        given |= {"siteId": "x", "authenticatePeer": False}
        code, _, created = await asker.ask("CREATE", "tcpListener", given, name="in")
        assert (code, created["operStatus"], created["address"]) == (201, "down", "db")
        given = {"address": "db", "host": "::1", "port": 1, "processId": "y", "verifyHostname": True}
        code, _, created = await asker.ask("CREATE", "tcpConnector", given)
        assert (code, created["identity"]) == (201, "tcpConnector/::1:1:connect/[::1]:1")
        port = scene.site.services.running["in"].endpoint.port
        assert (await asker.ask("DELETE", "tcpConnector", identity=f"tcpListener/127.0.0.1:{port}:in"))[0] == 404
        assert (await asker.ask("DELETE", "tcpListener", identity=f"tcpListener/127.0.0.1:{port}:in"))[0] == 204
        assert (await asker.ask("DELETE", "tcpConnector", name="connect/[::1]:1"))[0] == 204
        assert scene.site.services.running == {}


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("service", {}, 'one of "listen" and "connect" is missing'),
        ("service", {"listen": "tcp://:1"}, "address: missing"),
        ("service", LISTEN | {"alwaysOpn": 1}, "always_opn: unknown key; allowed: "),
        ("service", LISTEN | {"listen": "tcp//:1"}, 'listen: the URL "tcp//:1" is not of the form'),
        ("service", LISTEN | {"sslProfile": "x"}, 'ssl_profile: no [[ssl_profile]] has the name "x"'),
        ("service", LISTEN | {"name": "taken"}, 'service "taken" is there already'),
        ("tcpListener", {"address": "x"}, "port: missing"),
        ("tcpListener", {"port": 0, "multiAddressStrategy": "x"}, 'multi_address_strategy: unknown value "x"'),
        ("listenerAddress", {"listener": "taken", "address": "x"}, "listener: no tcpListener with several addresses"),
        ("tcpConnector", {"address": "x", "port": "amqp"}, 'connect: the URL "tcp://127.0.0.1:amqp" has the port'),
    ],
)  # fmt: skip
async def test_what_cannot_be_created_is_told(site: SiteFile, kind: str, body: dict[str, Any], text: str) -> None:
    async with running(site, PLAIN + listening("taken")) as scene, asking(scene) as asker:
        code, description, answer = await asker.ask("CREATE", kind, body)
        assert (code, answer) == (400, {})
        assert description.startswith(text)
        assert list(scene.site.services.running) == ["taken"]


async def test_a_port_that_another_has_is_told(site: SiteFile) -> None:
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = taken.socket.getsockname()[1]
    async with running(site, PLAIN + listening()) as scene, asking(scene) as asker:
        code, text, _ = await asker.ask("CREATE", name="x", body=LISTEN | {"listen": f"tcp://127.0.0.1:{port}"})
        assert (code, text) == (400, f'service "x": cannot listen on 127.0.0.1:{port}: address already in use')
        # Also while it is closed.
        port = port_of(scene)
        code, text, _ = await asker.ask("CREATE", name="x", body=LISTEN | {"listen": f"tcp://127.0.0.1:{port}"})
        assert (code, text) == (400, f'service "x": 127.0.0.1:{port} is taken by "greets"')
    await taken.aclose()


async def test_a_service_of_the_site_file_can_be_deleted_until_the_file_is_read_again(site: SiteFile) -> None:
    async with running(site, PLAIN + listening(more="always_open = true")) as scene, asking(scene) as asker:
        assert (await asker.ask("DELETE", name="greets"))[0] == 204
        assert (await scene.line("service removed"))["note"] == "it is in the site file, and comes back with it"


async def test_links_and_connections_of_services_are_told(site: SiteFile) -> None:
    async with running(site, PLAIN + listening(more="always_open = true")) as scene, asking(scene) as asker:
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(scene))
        async with stream:
            assert b"hello" in await stream.receive_some(100)
            _, _, found = await asker.ask("QUERY", "", {"attributeNames": []}, entityType="connection")
            rows = [dict(zip(found["attributeNames"], row, strict=True)) for row in found["results"]]
            (row,) = [row for row in rows if row["protocol"] == "tcp"]
            assert (row["container"], row["dir"], row["opened"], row["operStatus"]) == ("greets", "in", True, "up")
            assert row["host"] == ":".join(map(str, stream.socket.getsockname()))
            _, _, metrics = await asker.ask("READ", "routerMetrics", identity="1")
            assert (metrics["connectionCounters"], metrics["connectionCount"]) == ({"amqp": 1, "tcp": 1}, 2)
            _, _, found = await asker.ask("QUERY", "", {"attributeNames": []}, entityType="router.link")
            links = [dict(zip(found["attributeNames"], row, strict=True)) for row in found["results"]]
            (link,) = [link for link in links if link["owningAddr"] == "Mnews"]
            assert (link["linkDir"], link["linkType"], link["operStatus"]) == ("in", "endpoint", "up")
            assert len({link["identity"] for link in links}) == len(links)


async def test_addresses_of_a_listener_come_and_go_one_by_one(site: SiteFile) -> None:
    async with running(site) as scene, asking(scene) as asker, asker.connection.receiver("a"):
        given: dict[str, Any] = {"host": "127.0.0.1", "port": "0", "multiAddressStrategy": "priority"}
        code, _, created = await asker.ask("CREATE", "tcpListener", given, name="in")
        assert (code, created.get("address"), created["multiAddressStrategy"]) == (201, None, "priority")
        assert created["operStatus"] == "down"
        code, _, created = await asker.ask(
            "CREATE", "listenerAddress", {"listener": "in", "address": "a", "value": 5}, name="first"
        )
        assert (code, created["identity"], created["connectionsOpened"]) == (201, "listenerAddress/first", 0)
        await scene.line("service listening")
        assert await said(port_of(scene, "in")) == b"hello from a\n"
        assert (await asker.ask("READ", "listenerAddress", name="first"))[2]["connectionsOpened"] == 1
        for wrong, text in (
            ({"listener": "in", "address": "_b"}, '"_b" begins with "_"'),
            ({"listener": "in", "address": "b", "value": -1}, "-1 is out of range"),
            ({"listener": "in", "address": "b", "name": "first"}, "name: first is taken"),
        ):
            code, description, _ = await asker.ask("CREATE", "listenerAddress", wrong)
            assert (code, description[: len(text)]) == (400, text)
        assert (await asker.ask("DELETE", "listenerAddress", name="second"))[0] == 404
        assert (await asker.ask("DELETE", "listenerAddress", identity="listenerAddress/first"))[0] == 204
        assert (await asker.ask("READ", "listenerAddress", name="first"))[0] == 404


# --- who may


SITE = """
[router]
id = "{}"
mode = "interior"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"
"""
HUB = SITE.format("hub") + '\n[[listener]]\nname = "routers"\nurl = "amqp://127.0.0.1:0"\nrole = "inter-router"\n'
LEAF = SITE.format("leaf") + '\n[[connector]]\nurl = "amqp://127.0.0.1:{}"\nrole = "inter-router"\n'


async def test_nothing_is_changed_by_way_of_another_router(site: SiteFile, tmp_path: Path) -> None:
    (tmp_path / "leaf").mkdir()
    leaf_file = SiteFile(tmp_path / "leaf")
    async with (
        running(site, HUB) as hub,
        running(leaf_file, LEAF.format(hub.port("routers"))) as leaf,
        connect(leaf.url()) as connection,
    ):
        for scene, other in ((hub, "leaf"), (leaf, "hub")):
            engine = scene.site.router.engine
            assert engine is not None
            nodes = engine.nodes
            await until(lambda nodes=nodes, other=other: other in nodes and nodes[other].reachable)  # type: ignore[misc]
        code, text, _ = await Asker(connection, "_topo/0/hub/$management").ask("CREATE", body=LISTEN)
        assert code == 403
        assert text.startswith("Forbidden: CREATE is for connections from the router's own machine")
        assert (await Asker(connection).ask("CREATE", body=LISTEN))[0] == 201


USERS = """
[router]
id = "scene"
users_file = "users.toml"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["ANONYMOUS", "SCRAM-SHA-256"]
"""


async def test_from_elsewhere_only_users_may(site: SiteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if clients of this machine were none.
    monkeypatch.setattr("van.router.management.SiteFacts.is_local", lambda *_: False)
    (site.folder / "users.toml").write_text('[users]\nalice = "pencil"\n')
    async with running(site, USERS) as scene:
        async with connect(scene.url()) as connection:
            code, text, _ = await Asker(connection).ask("CREATE", body=LISTEN)
            assert code == 403
            assert text.startswith("Forbidden: CREATE is for connections from the router's own machine, and for users")
            assert (await Asker(connection).ask("DELETE", name="x"))[0] == 403
            assert (await Asker(connection).ask("READ", name="x"))[0] == 404
        async with connect(scene.url(), sasl_username="alice", sasl_password="pencil") as connection:
            assert (await Asker(connection).ask("CREATE", body=LISTEN))[0] == 201


async def test_a_request_that_was_settled_before_it_came_is_nobodys(site: SiteFile) -> None:
    async with (
        running(site) as scene,
        connect(scene.url()) as connection,
        connection.receiver(None, dynamic=True) as replies,
        connection.sender("$management", settled=True) as sender,
    ):
        message = Message(
            properties=Properties(reply_to=replies.address),
            application_properties={"operation": "CREATE", "type": "service"},
            body=AmqpValue(LISTEN),
        )
        await sender.send(message)
        reply = (await replies.receive()).message
        assert (reply.application_properties or {})["statusCode"] == 403
