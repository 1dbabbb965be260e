"""Octets over WebSocket: the stream's own rules, subprotocols, and bad peers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trio_websocket
from wsproto import ConnectionType
from wsproto.events import AcceptConnection

from van.transport.errors import TransportError
from van.transport.websocket import (
    MAX_MESSAGE_OUT,
    WebSocketLayer,
    WebSocketStream,
    accept_websocket,
    choose_subprotocol,
    connect_websocket,
)

REQUEST = (
    b"GET /any/path HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)


async def over(left: trio.abc.Stream, right: trio.abc.Stream) -> tuple[WebSocketStream, WebSocketStream]:
    """Client and server over two ends."""
    found: list[WebSocketStream] = []

    async def serve() -> None:
        found.append(await accept_websocket(right))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client = await connect_websocket(left, "h", "/van")
    return client, found[0]


async def pair() -> tuple[WebSocketStream, WebSocketStream]:
    return await over(*trio.testing.memory_stream_pair())


async def accepted() -> tuple[trio.testing.MemorySendStream, WebSocketStream]:
    """Whatever a client writes without any library, and the server that has shaken hands with it."""
    left, right = trio.testing.memory_stream_pair()
    await left.send_all(REQUEST % b"Sec-WebSocket-Protocol: amqp\r\n")
    server = await accept_websocket(right)
    return left.send_stream, server


@asynccontextmanager
async def raw_client(**options: object) -> AsyncIterator[tuple[trio_websocket.WebSocketConnection, WebSocketStream]]:
    """A trio-websocket client without our code, and our server's stream."""
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        found: list[WebSocketStream] = []

        async def serve() -> None:
            found.append(await accept_websocket(right))

        nursery.start_soon(serve)
        connection = await trio_websocket.wrap_client_stream(
            nursery,
            left,  # type: ignore[arg-type]  # the annotation is narrower than the code
            "h",
            "/",
            subprotocols=["amqp"],
            **options,  # type: ignore[arg-type]
        )
        await trio.testing.wait_all_tasks_blocked()
        yield connection, found[0]
        nursery.cancel_scope.cancel()


async def test_it_is_a_two_way_stream_by_trios_own_checks(autojump_clock: trio.testing.MockClock) -> None:
    async def clogged() -> tuple[WebSocketStream, WebSocketStream]:
        return await over(*trio.testing.lockstep_stream_pair())

    await trio.testing.check_two_way_stream(pair, clogged)


async def test_both_ends_and_both_directions_over_real_sockets() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    left = await trio.open_tcp_stream("127.0.0.1", port)
    right = await listeners[0].accept()
    await listeners[0].aclose()
    client, server = await over(left, right)
    data = bytes(range(256)) * 4096

    async def receive(stream: WebSocketStream) -> None:
        got = b""
        while len(got) < len(data):
            got += await stream.receive_some(50_000)
        assert got == data

    async with trio.open_nursery() as nursery:
        for one in (client, server):
            nursery.start_soon(one.send_all, data)
            nursery.start_soon(receive, one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        assert await server.receive_some() == b""
        await server.aclose()


async def test_one_binary_message_per_send_and_at_most_64_kib() -> None:
    async with raw_client(max_message_size=MAX_MESSAGE_OUT) as (client, server):

        async def send() -> None:
            await server.send_all(b"AMQP")
            await server.send_all(b"x" * (2 * MAX_MESSAGE_OUT + 1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            messages = [await client.get_message() for _ in range(4)]
        assert messages[0] == b"AMQP"
        assert [len(message) for message in messages[1:]] == [MAX_MESSAGE_OUT, MAX_MESSAGE_OUT, 1]


async def test_message_boundaries_mean_nothing() -> None:
    async with raw_client() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_message, b"abcdef")
            assert await server.receive_some(4) == b"abcd"
            assert await server.receive_some(4) == b"ef"
        for message in (b"", b"", b"g"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send_message, message)
        assert await server.receive_some() == b"g"


async def test_a_text_message_is_answered_with_1003() -> None:
    async with raw_client() as (client, server):
        await client.send_message("hello")
        with pytest.raises(trio.BrokenResourceError, match="text message"):
            await server.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        assert client.closed is not None
        assert client.closed.code == 1003


async def test_a_message_may_be_of_any_length_since_nothing_waits_for_its_end() -> None:
    left, server = await accepted()
    await left.send_all(b"\x02\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
    for octets in (b"a tebibyte, ", b"said the frame"):
        await left.send_all(octets)
        assert await server.receive_some() == octets


async def test_pings_are_answered_between_messages() -> None:
    async with raw_client() as (client, server), trio.open_nursery() as nursery:

        async def ask() -> None:
            with trio.fail_after(1):
                await client.ping(b"are you there")
            await client.send_message(b"data")

        nursery.start_soon(ask)
        assert await server.receive_some() == b"data"


async def test_only_the_last_ping_is_answered_to_a_peer_that_does_not_read() -> None:
    layer = WebSocketLayer(ConnectionType.SERVER)
    layer.connection.receive_data(REQUEST % b"Sec-WebSocket-Protocol: amqp\r\n")
    assert list(layer.connection.events())
    layer.connection.send(AcceptConnection(subprotocol="amqp"))
    for number in range(1000):
        assert layer.receive(b"\x89\x84\0\0\0\0%04d" % number) == b""
    assert layer.speaks()
    assert layer.take() == [b"\x8a\x040999"]


async def test_an_orderly_close_is_an_end_and_a_lost_connection_is_broken() -> None:
    client, server = await pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        assert await server.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"x")

    left, right = trio.testing.memory_stream_pair()
    client, server = await over(left, right)
    await left.aclose()
    with pytest.raises(trio.BrokenResourceError, match="lost without a WebSocket close"):
        await server.receive_some()


async def test_a_close_with_an_error_code_says_which() -> None:
    async with raw_client() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose, 1011, "out of order")
        with pytest.raises(trio.BrokenResourceError, match="1011 INTERNAL_ERROR: out of order"):
            await server.receive_some()


async def test_closing_does_not_wait_for_a_peer_that_does_not_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    _left, server = await accepted()
    started = trio.current_time()
    await server.aclose()
    assert trio.current_time() - started == 5.0


async def test_a_reader_that_stops_stops_the_peer() -> None:
    client, server = await over(*trio.testing.lockstep_stream_pair())
    async with trio.open_nursery() as nursery:
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await client.send_all(b"x" * MAX_MESSAGE_OUT)
                sent += 1

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert sent == 0
        with pytest.raises(trio.BusyResourceError):
            await client.send_all(b"while another task is sending")
        await server.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        assert sent == 1
        nursery.cancel_scope.cancel()


async def test_a_message_in_countless_fragments_is_kept_in_none() -> None:
    left, server = await accepted()
    first, more, last = b"\x02\x80\0\0\0\0", b"\x00\x81\0\0\0\0x", b"\x80\x81\0\0\0\0!"
    await left.send_all(first)
    for _ in range(10):
        await left.send_all(more * 1000)
        assert await server.receive_some() == b"x" * 1000
    await left.send_all(last)
    assert await server.receive_some() == b"!"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["amqp"], "amqp"),
        (["binary", "AMQPWSB10", "amqp"], "amqp"),
        (["binary", "AMQPWSB10"], "AMQPWSB10"),
        (["chat", "binary"], "binary"),
        (["chat"], None),
        ([], None),
    ],
)
def test_the_choice_of_a_subprotocol(offered: list[str], chosen: str | None) -> None:
    assert choose_subprotocol(offered) == chosen


async def refused(stream: trio.abc.Stream) -> str:
    """What our server says about a handshake that fails."""
    with pytest.raises(TransportError) as caught:
        await accept_websocket(stream)
    assert caught.value.step == TransportError.WEBSOCKET
    return str(caught.value)


async def test_no_known_subprotocol_is_answered_with_400_and_the_list() -> None:
    left, right = trio.testing.memory_stream_pair()
    await left.send_all(REQUEST % b"Sec-WebSocket-Protocol: chat\r\n")
    text = await refused(right)
    assert text.endswith("needs one of the subprotocols amqp, AMQPWSB10, binary; the client offered chat")
    answer = bytes(await left.receive_some(4096))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"AMQP over WebSocket needs one of the subprotocols amqp, AMQPWSB10, binary\n")


@pytest.mark.parametrize(
    "octets",
    [
        b"AMQP\x00\x01\x00\x00",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        REQUEST.replace(b"13", b"8") % b"",
        REQUEST.replace(b"Host: h", b"Host: \xff\xfe") % b"",
        REQUEST.replace(b"Host: h", b"Host: " + b"a" * 70) % b"",
        REQUEST.replace(b"/any/path", b"/\xff") % b"",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
        b"\x00" * 100,
        b"",
    ],
)
async def test_whatever_is_not_a_handshake_is_refused_in_one_line(octets: bytes) -> None:
    left, right = trio.testing.memory_stream_pair()
    await left.send_all(octets)
    await left.send_eof()
    text = await refused(right)
    assert text.startswith("WebSocket handshake failed: ")
    assert len(text) < 1000
    assert "\n" not in text


async def test_every_first_octets_are_refused_or_wait(autojump_clock: trio.testing.MockClock) -> None:
    """Cut a good handshake anywhere: an end of the stream there is told, and nothing hangs."""
    request = REQUEST % b"Sec-WebSocket-Protocol: amqp\r\n"
    for cut in range(0, len(request), 7):
        left, right = trio.testing.memory_stream_pair()
        await left.send_all(request[:cut])
        await left.send_eof()
        with trio.fail_after(1):
            await refused(right)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\ngo away", "HTTP 403: go away"),
        (b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nhere", "HTTP 404: here"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP 200"),
        (b"AMQP\x00\x01\x00\x00", r"AMQP\x00\x01"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "101 Switching Protocols"),
        (b"", "the peer closed the connection"),
        (b"\xff" * 300_000, "failed"),
    ],
)
async def test_a_server_that_refuses_or_is_none_is_told(answer: bytes, what: str) -> None:
    left, right = trio.testing.memory_stream_pair()

    async def serve() -> None:
        await right.receive_some()
        await right.send_all(answer)
        await right.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(TransportError) as caught:
            await connect_websocket(left, "h", "/")
        assert caught.value.step == TransportError.WEBSOCKET
        assert what in str(caught.value)


async def test_a_server_that_chooses_no_subprotocol() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            request = await trio_websocket.wrap_server_stream(nursery, right)
            await request.accept()

        nursery.start_soon(serve)
        with pytest.raises(TransportError, match="the server chose none of the subprotocols"):
            await connect_websocket(left, "h", "/")


async def test_a_server_that_does_not_answer(autojump_clock: trio.testing.MockClock) -> None:
    left, _right = trio.testing.memory_stream_pair()
    with pytest.raises(TransportError, match="not answered in time") as caught:
        await connect_websocket(left, "h", "/", deadline=trio.current_time() + 3)
    assert caught.value.step == TransportError.TIMEOUT
    assert trio.current_time() == 3


async def test_garbage_after_the_handshake_breaks_the_stream_only() -> None:
    for octets in (b"\xff" * 100, b"\x83\x80\0\0\0\0", b"\x88\x81\0\0\0\0x", b"\x02\x00", b"\x80\x80\0\0\0\0"):
        left, server = await accepted()
        await left.send_all(octets)
        await left.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_some()
