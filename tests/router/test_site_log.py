"""One line says who came and who was sent away, and why. No line has a secret in it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import trio

from tests.router.running import PLAIN, Running, running, until, until_end
from tests.router.site_file import SiteFile
from tests.transport.scenes import until_end as until_end_of
from van.amqp.framing import AMQP_HEADER, FRAME_TYPE_SASL, SASL_HEADER, encode_frame
from van.amqp.performatives import Attach, Begin, Open
from van.amqp.sasl_frames import SaslInit
from van.client import AuthenticationError, connect
from van.transport.tcp import local_text

SECRET = "sesame-street"

SITE = """
[router]
id = "scene"
users_file = "users.toml"
max_connections = 3

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"
initial_handshake_timeout_seconds = 0.2

[[listener]]
name = "users"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["PLAIN", "SCRAM-SHA-256"]
allow_insecure_plain = true

[[listener]]
name = "small"
url = "amqp://127.0.0.1:0"
max_connections = 1
"""


@pytest.fixture
def users(site: SiteFile) -> SiteFile:
    (site.folder / "users.toml").write_text(f'[users]\nalice = "{SECRET}"\n')
    return site


def about_connections(scene: Running) -> list[dict[str, Any]]:
    return [line for line in scene.log if line["subsystem"] == "transport"]


async def test_who_came_and_how_it_ended(users: SiteFile) -> None:
    async with running(users, SITE) as scene:
        url = scene.url("users", user=f"alice:{SECRET}@")
        async with (
            connect(url, container_id="the-client") as connection,
            connection.receiver("q") as receiver,
            connection.sender("q") as sender,
        ):
            tracker = sender.send_nowait("x")
            (await receiver.receive()).accept()
            await tracker.wait()
        closed = await scene.line("connection closed")
        opened = await scene.line("connection opened")
        assert (opened["container_id"], opened["user"], opened["transport"]) == ("the-client", "alice", "tcp")
        assert opened["peer"].startswith("127.0.0.1:")
        assert (opened["router"], opened["connection"], opened["level"]) == ("scene", 1, "info")
        assert (closed["peer"], closed["connection"]) == (opened["peer"], 1)
        assert (closed["by"], closed["reason"]) == ("peer", "closed")
        assert (closed["deliveries_in"], closed["deliveries_out"]) == (1, 1)
        assert closed["seconds"] >= 0
        assert len(about_connections(scene)) == 2


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"\x00\x01\x02garbage\xff" * 3, "00 01 02 67 61"),
        (b"GET / HTTP/1.1\r\nhost: here\r\n\r\n", "HTTP"),
        (b"AMQP\x00\x00\x09\x01", "0.9.1"),
        (b"AMQP\x02\x01\x00\x00", "header"),
        (AMQP_HEADER + b"\xff\xff\xff\xff\x02\x00\x00\x00", "4294967295"),
        (AMQP_HEADER + encode_frame(0, b"\x00\x53\x10\xff"), ""),
        (AMQP_HEADER + encode_frame(0, Begin(next_outgoing_id=0, incoming_window=1, outgoing_window=1).encode()), ""),
    ],
    ids=["garbage", "http", "amqp 0-9-1", "tls header", "huge frame", "undecodable open", "begin first"],
)
async def test_who_speaks_wrongly_before_open_is_one_line(site: SiteFile, octets: bytes, reason: str) -> None:
    async with running(site) as scene, scene.dial() as stream:
        await stream.send_all(octets)
        await until_end(stream)
        await until(lambda: not scene.site.adaptors and len(about_connections(scene)) > 0)
        (line,) = about_connections(scene)
        assert line["event"] in ("connection refused", "connection failed")
        assert (line["level"], line["peer"]) == ("warning", local_text(stream))
        assert reason in line["reason"]
        assert line["reason"] != "the stream ended before open"


async def test_who_speaks_wrongly_after_open_is_two_lines(site: SiteFile) -> None:
    """That it came, and that it was sent away."""
    open_ = encode_frame(0, Open(container_id="odd").encode())
    attach = encode_frame(5, Attach(name="x", handle=0, role=True).encode())
    async with running(site) as scene, scene.dial() as stream:
        await stream.send_all(AMQP_HEADER + open_ + attach)
        with trio.move_on_after(0.5):
            await until_end(stream)
        await stream.aclose()
        closed = await scene.line("connection closed")
        assert closed["level"] == "warning"
        assert (closed["by"], closed["peer"]) == ("us", (await scene.line("connection opened"))["peer"])
        assert "channel 5" in closed["reason"]
        assert len(about_connections(scene)) == 2


@pytest.mark.parametrize("octets", [b"", b"AM", AMQP_HEADER, SASL_HEADER])
async def test_a_slow_one_is_one_line(users: SiteFile, octets: bytes) -> None:
    async with running(users, SITE) as scene, scene.dial() as stream:
        if octets:
            await stream.send_all(octets)
        await until_end(stream)
        line = await scene.line("connection cut")
        assert (line["peer"], line["listener"], line["level"]) == (local_text(stream), "open", "warning")
        assert line["reason"].startswith("not open within 0.2 s")
        await until(lambda: scene.site.listeners[0].connections == 0)
        assert about_connections(scene) == [line]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("user", ["alice", "mallory"])
async def test_a_failed_authentication_names_the_user_and_no_password(
    users: SiteFile, mechanism: str, user: str
) -> None:
    async with running(users, SITE) as scene:
        with pytest.raises(AuthenticationError):
            async with connect(
                scene.url("users"),
                sasl_username=user,
                sasl_password=f"not-{SECRET}",
                sasl_mechanisms=[mechanism],
                allow_insecure_plain=True,
            ):
                pass
        line = await scene.line("connection failed")
        assert line["peer"].startswith("127.0.0.1:")
        assert f"'{user}'" in line["reason"]
        assert len(about_connections(scene)) == 1
        assert SECRET not in scene.text


async def test_a_mechanism_that_is_not_offered(users: SiteFile) -> None:
    response = f"\0alice\0{SECRET}".encode()
    async with running(users, SITE) as scene, scene.dial("users") as stream:
        init = SaslInit(mechanism="X-NONE", initial_response=response).encode()
        await stream.send_all(SASL_HEADER + encode_frame(0, init, FRAME_TYPE_SASL))
        await until_end(stream)
        line = await scene.line("connection failed")
        assert "X-NONE" in line["reason"]
        assert SECRET not in scene.text
        assert base64.b64encode(response).decode() not in scene.text


async def test_too_many(users: SiteFile) -> None:
    async with running(users, SITE) as scene, connect(scene.url("small")):
        async with scene.dial("small") as stream:
            assert await until_end_of(stream) == b""
            line = await scene.line("connection refused")
            assert line["reason"] == "max_connections of this listener (1) is reached"
            assert line["peer"] == local_text(stream)
        async with connect(scene.url("users"), sasl_username="alice", sasl_password=SECRET), connect(scene.url()):
            assert scene.site.limit.in_use == 3
            async with scene.dial("users") as stream:
                assert await until_end_of(stream) == b""
            assert scene.site.listeners[1].refused == 1
        # The limit of the router counts what is open now.
        await until(lambda: scene.site.limit.in_use == 1)
        async with connect(scene.url()):
            pass
        assert SECRET not in scene.text


async def test_a_port_that_is_looked_at_is_no_line(site: SiteFile) -> None:
    async with running(site) as scene:
        async with scene.dial():
            pass
        await until(lambda: scene.site.listeners[0].accepted == 1 and scene.site.listeners[0].connections == 0)
        assert about_connections(scene) == []


def test_the_plain_site_is_valid(site: SiteFile) -> None:
    assert site.load(PLAIN).warnings == ()
