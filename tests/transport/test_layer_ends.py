"""How a connection over WebSocket ends through the driver: answered, not answered, and out of order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.transport.echo import EchoAdaptor
from tests.transport.scenes import exchange, serving, until, until_end
from tests.transport.test_websocket import REQUEST

CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
OUR_CLOSE = b"\x88\x02\x03\xe8"


def message(octets: bytes) -> bytes:
    """A binary message as a client sends it, masked with zeros."""
    return bytes((0x82, 0x80 | len(octets), 0, 0, 0, 0)) + octets


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[trio.SocketStream, EchoAdaptor]]:
    """A client that has opened, without any library, and the listener's adaptor."""
    async with serving("ws") as stage:
        stream = await stage.dial()
        await stream.send_all(REQUEST % b"Sec-WebSocket-Protocol: amqp\r\n")
        heard = b""
        while not heard.endswith(b"\r\n\r\n"):
            heard += await stream.receive_some()
        await exchange(stream, message(b"!open"), b"\x82\x06opened")
        yield stream, stage.endpoints.made[0]


async def test_our_end_waits_for_the_peers_answer() -> None:
    async with opened() as (stream, adaptor):
        await exchange(stream, message(b"!close"), OUR_CLOSE)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not adaptor.lost
        await stream.send_all(message(b"more") + CLOSE)
        assert await until_end(stream) == b""
        await until(lambda: adaptor.lost == 1)
        assert adaptor.reason == ""


async def test_a_peer_that_does_not_answer_is_waited_for_a_little(mock_clock: trio.testing.MockClock) -> None:
    async with opened() as (stream, adaptor):
        await exchange(stream, message(b"!close"), OUR_CLOSE)
        mock_clock.jump(4.9)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not adaptor.lost
        mock_clock.jump(0.2)
        await until(lambda: adaptor.lost == 1)


async def test_the_peers_end_is_answered() -> None:
    async with opened() as (stream, adaptor):
        await stream.send_all(message(b"last words") + CLOSE)
        assert await until_end(stream) == b"\x88\x02\x03\xe8"
        await until(lambda: adaptor.lost == 1)
        assert adaptor.reason == ""


@pytest.mark.parametrize(
    ("octets", "answer", "reason"),
    [
        (b"\x81\x84\0\0\0\0text", b"\x03\xeb", "the peer sent a text message; AMQP travels in binary messages"),
        (b"\x88\x82\0\0\0\0\x03\xf3", b"\x03\xf3", "the WebSocket was closed with 1011 INTERNAL_ERROR"),
        (b"\x82\x04open", b"\x03\xea", "the peer broke the rules of WebSocket"),
    ],
)
async def test_an_end_out_of_order_is_told_to_both_sides(octets: bytes, answer: bytes, reason: str) -> None:
    async with opened() as (stream, adaptor):
        await stream.send_all(octets)
        heard = await until_end(stream)
        assert heard[:1] == b"\x88"
        assert heard[2:4] == answer
        await until(lambda: adaptor.lost == 1)
        assert adaptor.reason.startswith(reason)


async def test_a_ping_is_answered_though_the_adaptor_says_nothing() -> None:
    async with opened() as (stream, _):
        await exchange(stream, b"\x89\x82\0\0\0\0hi", b"\x8a\x02hi")
