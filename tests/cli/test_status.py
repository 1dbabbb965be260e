"""`van status`: tables for people, JSON for programs, and what is said when nobody answers."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cli.vans import Van
from tests.client.sites import running_site
from van.cli import status_tables
from van.cli.errors import StoppedError
from van.cli.status_query import PAGE, ManagementClient, management_address
from van.client import AmqpValue, Message, Properties, Sender, connect


def rows_of(van: Van, view: str, *more: str) -> list[dict[str, Any]]:
    done = van("status", view, "-o", "json", *more)
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def table(text: str) -> tuple[list[str], list[str]]:
    """The headings of a table, and its lines; no line ends in spaces."""
    lines = text.splitlines()
    assert all(line == line.rstrip() for line in lines)
    return lines[0].split(), lines[1:]


def test_the_router_in_general(van: Van) -> None:
    done = van("status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line[:1] != " ")
    assert lines["router"] == "scene"
    assert "mode standalone, version " in done.stdout
    assert f" open (127.0.0.1:{van.router.port('open')}): normal\n" in done.stdout
    value = json.loads(van("status", "general", "-o", "json").stdout)
    assert value.keys() == {"router", "metrics", "listeners", "connectors"}
    assert value["router"]["id"] == value["metrics"]["id"] == "scene"
    assert [row["name"] for row in value["listeners"]] == ["open", "users", "tls"]


def test_connections(van: Van) -> None:
    headings, lines = table(van("status", "connections").stdout)
    assert headings == ["id", "peer", "container", "role", "dir", "security", "user", "status", "up"]
    assert any(" normal " in line and " anonymous " in line for line in lines)
    url = van.router.url(listener="tls", scheme="amqps")
    tls = rows_of(van, "connections", "--url", url, "--ca-cert-file", "ca.pem")
    assert any(row["sslProto"] == "TLSv1.3" for row in tls)


def test_links_and_addresses_of_a_receiver(van: Van, address: str) -> None:
    van.start("receive", address)
    assert van("send", address, "one").returncode == 0
    headings, lines = table(van("status", "addresses").stdout)
    assert headings[:4] == ["class", "address", "distribution", "priority"]
    (line,) = [line.split() for line in lines if f" {address} " in line]
    assert line[0] == "mobile"
    (row,) = [row for row in rows_of(van, "addresses") if row["key"] == f"M{address}"]
    assert (row["subscriberCount"], row["deliveriesEgress"]) == (1, 1)
    headings, lines = table(van("status", "links").stdout)
    assert headings[:4] == ["connection", "id", "type", "dir"]
    assert any(" out " in line and f" {address} " in line for line in lines)


def test_a_router_that_stands_alone_has_no_nodes(van: Van) -> None:
    done = van("status", "nodes")
    assert (done.returncode, done.stdout) == (0, "this router knows no others: only those of mode interior do\n")
    assert rows_of(van, "nodes") == []


def test_a_router_can_be_asked_by_its_name(van: Van) -> None:
    value = json.loads(van("status", "--router", "scene", "-o", "json").stdout)
    assert value["metrics"]["id"] == "scene"
    value = json.loads(van("status", "--edge-router", "scene", "-o", "json").stdout)
    assert value["metrics"]["id"] == "scene"


def test_a_router_that_is_not_in_the_network_exits_69(van: Van) -> None:
    done = van("status", "--router", "elsewhere")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("van: _topo/0/elsewhere/$management cannot be reached from there: amqp:not-found")


def test_a_router_that_cannot_be_reached_exits_69(van: Van) -> None:
    done = van("status", "--url", "amqp://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (69, "")
    assert "connection refused" in done.stderr


def test_a_router_that_does_not_answer_exits_75(van: Van) -> None:
    van.router.signal(signal.SIGSTOP)
    try:
        done = van("status", "--timeout", "0.4")
    finally:
        van.router.signal(signal.SIGCONT)
    assert done.returncode in (69, 75)
    assert "0.4 s" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--router", "a", "--edge-router", "b"), ("--interval", "0"), ("nonsense",), ("--timeout", "-1")]
)
def test_what_makes_no_sense_exits_2(van: Van, arguments: tuple[str, ...]) -> None:
    done = van("status", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("van: ")


def test_watching_goes_on_until_it_is_stopped(van: Van) -> None:
    program = van.start("status", "nodes", "--watch", "--interval", "0.05")
    assert [program.line() for _ in range(3)] == ["this router knows no others: only those of mode interior do"] * 3
    program.signal(signal.SIGINT)
    program.output(status=130)
    assert program.errors == []


# --- whatever stands behind an address that is asked


@asynccontextmanager
async def standing_in(url: str, address: str, *replies: dict[str, Any]) -> AsyncIterator[ManagementClient]:
    """A client whose requests are answered, in turn, with these application properties and bodies."""

    async def serve() -> None:
        for reply in replies:
            delivery = await receiver.receive()
            request = delivery.message.properties
            assert request is not None
            properties = Properties(to=request.reply_to, correlation_id=request.correlation_id)
            message = Message(
                properties=properties,
                application_properties={"statusCode": reply["status"], "statusDescription": "text"},
                body=AmqpValue(reply.get("body")),
            )
            delivery.accept()
            sender.send_nowait(message)

    sender: Sender
    async with connect(url) as connection, trio.open_nursery() as nursery:
        async with connection.receiver(address) as receiver, connection.sender(None) as sender:
            nursery.start_soon(serve)
            async with connection.requester(address) as requester:
                yield ManagementClient(requester, address, 5.0)
            nursery.cancel_scope.cancel()


def page(first: int, count: int) -> dict[str, Any]:
    return {"status": 200, "body": {"attributeNames": ["id"], "results": [[first + row] for row in range(count)]}}


async def test_pages_are_asked_for_until_one_is_short(van: Van, address: str) -> None:
    async with standing_in(van.router.url(), address, page(0, PAGE), page(PAGE, PAGE), page(2 * PAGE, 3)) as client:
        rows = await client.query("router.link")
        assert [row["id"] for row in rows] == list(range(2 * PAGE + 3))


async def test_who_ignores_offsets_is_not_asked_for_ever(van: Van, address: str) -> None:
    async with standing_in(van.router.url(), address, page(0, PAGE), page(0, PAGE)) as client:
        assert len(await client.query("router.node")) == PAGE


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ({"status": 403}, "answers 403: text"),
        ({"status": 400}, "answers 400: text"),
        ({"status": None}, "answers None: text"),
        ({"status": 200, "body": None}, "is no result of a QUERY"),
        ({"status": 200, "body": {"attributeNames": ["a"]}}, "is no result of a QUERY"),
        ({"status": 200, "body": {"attributeNames": ["a"], "results": [[1, 2]]}}, "is no result of a QUERY"),
    ],
)
async def test_an_answer_that_is_none_is_told(van: Van, address: str, reply: dict[str, Any], text: str) -> None:
    async with standing_in(van.router.url(), address, reply) as client:
        with pytest.raises(Exception, match=text):
            await client.query("router")


async def test_a_router_that_is_not_in_the_network_is_told_with_who_is(tmp_path: Path) -> None:
    text = '[router]\nid = "here"\nmode = "interior"\n[[listener]]\nname = "open"\nurl = "amqp://127.0.0.1:0"\n'
    async with running_site(tmp_path, text) as site, connect(site.url()) as connection:
        nowhere = management_address("nowhere", None)
        async with connection.requester(nowhere) as requester:
            with pytest.raises(StoppedError, match="'van status nodes' lists who is") as stopped:
                await ManagementClient(requester, nowhere, 0.2).query("router")
        assert stopped.value.code == 75
        async with connection.requester(management_address("here", None)) as requester:
            (row,) = await ManagementClient(requester, "here", 5.0).query("router.node")
        assert row["nextHop"] == "(self)"


# --- cells


def test_cells_for_people() -> None:
    assert status_tables.duration(93784) == "1d 02:03:04"
    assert status_tables.duration(None) == ""
    assert [status_tables.octets(size) for size in (None, 12, 2048, 3 << 20, 5 << 30)] == [
        "", "12 octets", "2.0 KiB", "3.0 MiB", "5.0 GiB",
    ]  # fmt: skip
    assert status_tables.shown(value=True) == "yes"
    assert status_tables.shown(["a", 1]) == "a, 1"
    assert status_tables.user({"isAuthenticated": True, "user": "alice", "sasl": "PLAIN"}) == "alice (PLAIN)"
    assert status_tables.user({"isAuthenticated": False}) == "unauthenticated"
    assert status_tables.security({"isEncrypted": True, "sslProto": "TLSv1.3"}) == "TLSv1.3"
    assert [status_tables.next_hop({"nextHop": hop}) for hop in ("(self)", None, "b")] == [
        "this router", "neighbour", "b",
    ]  # fmt: skip
    assert (status_tables.address_class("Hx"), status_tables.address_class(None)) == ("edge", "")


def test_a_connector_that_fails_says_why() -> None:
    connector = {"name": "hub", "host": "hub", "port": "443", "role": "inter-router"}
    failed = {**connector, "connectionStatus": "FAILED", "connectionMsg": "another dialect"}
    lines = status_tables.general({"metadata": "m"}, {"id": "a", "linkCount": 3, "linksBlocked": 2}, [], [failed])
    assert ("connector", "hub (hub:443): inter-router, FAILED: another dialect") in lines
    assert ("links", "3, 2 waiting for credit") in lines
    assert ("metadata", "m") in lines
