"""Whoever is not open in time is cut, wherever it stalls; the log says who, and what was waited for."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from tests.transport.authority import Authority
from tests.transport.scenes import Stage, exchange, serving, until, until_end
from van.transport.dial import open_stream
from van.transport.tcp import local_text
from van.transport.tls import TlsCredentials

TLS_HELLO_BEGUN = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
HTTP_BEGUN = b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: "


async def until_at(stage: Stage, what: str) -> None:
    """Wait until the listener has come to this stage with its only connection (time stands still meanwhile)."""
    await until(lambda: what in [connection.stage for connection in stage.listener._connections])


@pytest.mark.parametrize(
    ("scheme", "octets", "stalled_at"),
    [
        ("amqp", b"", "the first octet"),
        ("amqps", b"", "the first octet"),
        ("amqps", TLS_HELLO_BEGUN, "the TLS handshake"),
        ("wss", TLS_HELLO_BEGUN, "the TLS handshake"),
        ("ws", HTTP_BEGUN, "the WebSocket handshake"),
        ("amqp", b"AMQ", "the protocol's open"),
    ],
)
async def test_a_stalled_handshake_is_cut(
    scheme: str, octets: bytes, stalled_at: str, authority: Authority, mock_clock: trio.testing.MockClock
) -> None:
    credentials = authority.credentials() if scheme in ("amqps", "wss") else None
    async with serving(scheme, credentials=credentials) as stage, await stage.dial() as stream:
        await stream.send_all(octets)
        await until_at(stage, stalled_at)
        mock_clock.jump(9.9)
        await trio.testing.wait_all_tasks_blocked()
        assert stage.listener.connections == 1
        mock_clock.jump(0.1)
        await until_end(stream)
        line = await stage.line("connection cut")
        assert line["peer"] == local_text(stream)
        assert line["reason"] == f"not open within 10 s; still waiting for {stalled_at}"
        assert line["level"] == "warning"
        assert all(adaptor.lost == 1 for adaptor in stage.endpoints.made)


async def test_an_octet_now_and_then_does_not_help(authority: Authority, mock_clock: trio.testing.MockClock) -> None:
    async with serving("ws", initial_handshake_timeout_seconds=5) as stage, await stage.dial() as stream:
        await stream.send_all(HTTP_BEGUN)
        for _ in range(5):
            await stream.send_all(b"x")
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(1)
        await until_end(stream)
        assert (await stage.line("connection cut"))["reason"].startswith("not open within 5 s")


async def test_whoever_opened_in_time_stays(authority: Authority, mock_clock: trio.testing.MockClock) -> None:
    credentials = authority.credentials()
    async with serving("wss", credentials=credentials) as stage:
        client = TlsCredentials(authority.trust_only())
        async with open_stream(stage.url, credentials=client) as (stream, _):
            await exchange(stream, b"!open", b"opened")
            mock_clock.jump(1000)
            await trio.testing.wait_all_tasks_blocked()
            await exchange(stream, b"still here", b"still here")
        assert stage.logbook.lines == []


async def test_each_has_the_same_time_whenever_it_came(mock_clock: trio.testing.MockClock) -> None:
    async with serving() as stage:
        first = await stage.dial()
        await until(lambda: stage.listener.connections == 1)
        mock_clock.jump(6)
        second = await stage.dial()
        gone = await stage.dial()
        await until(lambda: stage.listener.connections == 3)
        await gone.aclose()
        mock_clock.jump(4)
        await until_end(first)
        assert stage.listener.connections <= 2
        mock_clock.jump(5.9)
        await trio.testing.wait_all_tasks_blocked()
        assert (await stage.line("connection cut"))["peer"] == local_text(first)
        mock_clock.jump(0.1)
        await until_end(second)
        for stream in (first, second):
            await stream.aclose()


async def test_no_time_limit(mock_clock: trio.testing.MockClock) -> None:
    async with serving(initial_handshake_timeout_seconds=0) as stage, await stage.dial() as stream:
        await stream.send_all(b"x")
        await until_at(stage, "the protocol's open")
        mock_clock.jump(1e6)
        await exchange(stream, b"y", b"xy")


async def test_a_crowd_that_stalls_leaves_nothing_behind(mock_clock: trio.testing.MockClock) -> None:
    async with serving() as stage:
        crowd: list[trio.SocketStream] = []

        async def join() -> None:
            crowd.append(await stage.dial())

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(partial(join))
        await until(lambda: stage.listener.connections == 100)
        mock_clock.jump(11)
        for stream in crowd:
            await until_end(stream)
            await stream.aclose()
        assert stage.listener.connections == 0
        assert stage.listener.limit.in_use == 0
        assert stage.listener.refused == 100
