"""Octets over WebSocket: the stream's own rules, subprotocols, bad peers, and exceptions that come out unwrapped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
import trio_websocket

from van.transport.errors import TransportError
from van.transport.websocket import (
    MAX_FRAGMENTS,
    MAX_MESSAGE_IN,
    MAX_MESSAGE_OUT,
    WebSocketStream,
    accept_websocket,
    choose_subprotocol,
    connect_websocket,
)

Opener = Callable[[], AbstractAsyncContextManager[WebSocketStream]]

REQUEST = (
    b"GET /any/path HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)


class Held:
    """Streams whose tasks live in a nursery of the scene, for code that wants plain streams."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def hold(self, opener: Opener) -> WebSocketStream:
        stream: WebSocketStream = await self._nursery.start(self._keep, opener)
        return stream

    async def _keep(self, opener: Opener, *, task_status: trio.TaskStatus[WebSocketStream]) -> None:
        async with opener() as stream:
            task_status.started(stream)
            await trio.sleep_forever()

    async def pair(self) -> tuple[WebSocketStream, WebSocketStream]:
        left, right = trio.testing.memory_stream_pair()
        return await self.over(left, right)

    async def over(self, left: trio.abc.Stream, right: trio.abc.Stream) -> tuple[WebSocketStream, WebSocketStream]:
        found: dict[str, WebSocketStream] = {}

        async def serve() -> None:
            found["server"] = await self.hold(partial(accept_websocket, right))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            found["client"] = await self.hold(partial(connect_websocket, left, "h", "/van"))
        return found["client"], found["server"]


@asynccontextmanager
async def held() -> AsyncIterator[Held]:
    async with trio.open_nursery() as nursery:
        yield Held(nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def raw_client(**options: object) -> AsyncIterator[tuple[trio_websocket.WebSocketConnection, WebSocketStream]]:
    """A trio-websocket client without our code, and our server's stream."""
    left, right = trio.testing.memory_stream_pair()
    async with held() as keeper, trio.open_nursery() as nursery:
        found: list[WebSocketStream] = []

        async def serve() -> None:
            found.append(await keeper.hold(partial(accept_websocket, right)))

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


async def test_it_is_a_two_way_stream_by_trios_own_checks() -> None:
    # The checks with a clogged stream are left out: messages are taken by a task of the library until two wait, and a
    # stream that was clogged by cutting a message cannot carry another one. See the scene of the reader that stops.
    async with held() as keeper:
        await trio.testing.check_two_way_stream(keeper.pair, None)


async def test_both_ends_and_both_directions_over_real_sockets() -> None:
    async with held() as keeper:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        left = await trio.open_tcp_stream("127.0.0.1", port)
        client, server = await keeper.over(left, await listeners[0].accept())
        await listeners[0].aclose()
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
        await client.aclose()
        assert await server.receive_some() == b""


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


async def test_a_message_that_is_too_long_is_answered_with_1009() -> None:
    async with raw_client() as (client, server):
        await client.send_message(b"x" * (MAX_MESSAGE_IN + 1))
        with pytest.raises(trio.BrokenResourceError, match="1009"):
            await server.receive_some()
        assert client.closed is not None
        assert client.closed.code == 1009


async def test_pings_are_answered_between_messages() -> None:
    async with raw_client() as (client, server):
        with trio.fail_after(1):
            await client.ping(b"are you there")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_message, b"data")
            assert await server.receive_some() == b"data"


async def test_an_orderly_close_is_an_end_and_a_lost_connection_is_broken() -> None:
    async with held() as keeper:
        client, server = await keeper.pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            assert await server.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(b"x")

        left, right = trio.testing.memory_stream_pair()
        client, server = await keeper.over(left, right)
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
    left, right = trio.testing.memory_stream_pair()
    async with held() as keeper, trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, REQUEST % b"Sec-WebSocket-Protocol: amqp\r\n")
        server = await keeper.hold(partial(accept_websocket, right))
        started = trio.current_time()
        await server.aclose()
        assert trio.current_time() - started == 5.0


async def test_a_reader_that_stops_stops_the_peer() -> None:
    left, right = trio.testing.lockstep_stream_pair()
    async with held() as keeper, trio.open_nursery() as nursery:
        client, server = await keeper.over(left, right)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await client.send_all(b"x" * MAX_MESSAGE_OUT)
                sent += 1

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert sent == 2  # one in the queue, one in the hands of the library's task
        with pytest.raises(trio.BusyResourceError):
            await client.send_all(b"while another task is sending")
        await server.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        assert sent == 3
        nursery.cancel_scope.cancel()


async def test_a_message_in_countless_fragments_is_held_in_few_pieces() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with held() as keeper, trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, REQUEST % b"Sec-WebSocket-Protocol: amqp\r\n")
        server = await keeper.hold(partial(accept_websocket, right))
        first, more, last = b"\x02\x80\0\0\0\0", b"\x00\x81\0\0\0\0x", b"\x80\x81\0\0\0\0!"
        await left.send_all(first)
        for _ in range(10):
            await left.send_all(more * MAX_FRAGMENTS)
            await trio.testing.wait_all_tasks_blocked()
        parts = server._connection._message_parts
        assert len(parts) <= 2 * MAX_FRAGMENTS
        await left.send_all(last)
        assert await server.receive_some() == b"x" * 10 * MAX_FRAGMENTS + b"!"


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
        async with accept_websocket(stream):
            pytest.fail("accepted")
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
        (b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nhere", "HTTP/1.1 404 Not Found"),
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
            async with connect_websocket(left, "h", "/"):
                pytest.fail("connected")
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
            async with connect_websocket(left, "h", "/"):
                pytest.fail("connected")


async def test_a_server_that_does_not_answer(autojump_clock: trio.testing.MockClock) -> None:
    left, _right = trio.testing.memory_stream_pair()
    with pytest.raises(TransportError, match="not answered in time") as caught:
        async with connect_websocket(left, "h", "/", deadline=trio.current_time() + 3):
            pytest.fail("connected")
    assert caught.value.step == TransportError.TIMEOUT
    assert trio.current_time() == 3


class PlantedError(Exception):
    pass


async def test_what_the_block_raises_comes_out_as_it_was() -> None:
    for clean in (True, False):
        left, right = trio.testing.memory_stream_pair()
        async with held() as keeper, trio.open_nursery() as nursery:

            async def serve(stream: trio.abc.Stream = right) -> None:
                await keeper.hold(partial(accept_websocket, stream))

            nursery.start_soon(serve)
            with pytest.raises(PlantedError):  # noqa: PT012 - the block is what is looked at
                async with connect_websocket(left, "h", "/") as stream:
                    if not clean:
                        await stream.aclose()
                    raise PlantedError


async def test_cancelling_the_block_is_quick_and_leaves_no_trace(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    async with held() as keeper, trio.open_nursery() as nursery:

        async def serve() -> None:
            await keeper.hold(partial(accept_websocket, right))

        nursery.start_soon(serve)
        with trio.CancelScope() as scope:
            async with connect_websocket(left, "h", "/"):
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == 0
        with pytest.raises(trio.ClosedResourceError):
            await left.send_all(b"x")


async def test_garbage_after_the_handshake_breaks_the_stream_only() -> None:
    for octets in (b"\xff" * 100, b"\x83\x80\0\0\0\0", b"\x88\x81\0\0\0\0x", b"\x02\x00", b"\x80\x80\0\0\0\0"):
        left, right = trio.testing.memory_stream_pair()
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(left.send_all, REQUEST % b"Sec-WebSocket-Protocol: amqp\r\n")
            with pytest.raises((trio.BrokenResourceError, TransportError)):  # noqa: PT012 - see above
                async with accept_websocket(right) as stream:
                    await left.send_all(octets)
                    await left.send_eof()
                    await stream.receive_some()
