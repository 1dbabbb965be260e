"""Any octets, at any point: a handshake is refused in one line, an open stream ends or breaks; nothing else happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.transport.test_websocket import REQUEST
from van.transport.errors import TransportError
from van.transport.sniff import mistaken, spoken
from van.transport.websocket import accept_websocket, connect_websocket

GOOD_REQUEST = REQUEST % b"Sec-WebSocket-Protocol: amqp\r\n"

# Headers of frames that parse, with bodies that may not fit: most of what is random dies at the first octet.
frames = st.builds(
    lambda first, length, body: bytes([first, 0x80 | length]) + b"\0\0\0\0" + body,
    st.sampled_from([0x82, 0x02, 0x80, 0x00, 0x81, 0x01, 0x88, 0x89, 0x8A, 0xC2, 0x83]),
    st.integers(0, 127),
    st.binary(max_size=130),
)
octets = st.one_of(st.binary(max_size=300), st.lists(frames, max_size=8).map(b"".join))


def pour(server: bytes, body: Callable[[trio.abc.Stream], Awaitable[None]]) -> list[str]:
    """Run `body` over a stream on which these octets have arrived, and then the end. Returns what was refused."""
    refusals: list[str] = []

    async def scene() -> None:
        left, right = trio.testing.memory_stream_pair()
        await left.send_all(server)
        await left.send_eof()
        try:
            with trio.fail_after(1000):
                await body(right)
        except TransportError as error:
            refusals.append(f"{error.step}: {error}")

    trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0))
    assert all(text.startswith("websocket: WebSocket") and "\n" not in text for text in refusals)
    return refusals


async def read_all(stream: trio.abc.Stream) -> int:
    size = 0
    try:
        while data := await stream.receive_some():
            size += len(data)
    except trio.BrokenResourceError:
        pass
    return size


@given(octets)
@example(b"\x88\x82\0\0\0\0\x03\xe8" + b"\x82\x81\0\0\0\0x")  # a message behind the close
@example(b"\x89\x80\0\0\0\0" * 1000)  # a flood of pings
@example(b"\x82\xff\0\0\0\0\0\x50\0\0\0\0\0\0" + b"x" * 1000)  # a frame that announces 5 MiB
@settings(max_examples=300, deadline=None)
def test_after_the_handshake(garbage: bytes) -> None:
    async def body(stream: trio.abc.Stream) -> None:
        websocket = await accept_websocket(stream)
        assert await read_all(websocket) <= len(garbage)

    pour(GOOD_REQUEST + garbage, body)


@given(st.binary(max_size=200), st.integers(0, len(GOOD_REQUEST)), st.integers(0, len(GOOD_REQUEST)))
@settings(max_examples=300, deadline=None)
def test_in_the_handshake_of_a_client(garbage: bytes, start: int, end: int) -> None:
    async def body(stream: trio.abc.Stream) -> None:
        await read_all(await accept_websocket(stream))

    pour(GOOD_REQUEST[:start] + garbage + GOOD_REQUEST[end:], body)


ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@given(st.binary(max_size=200), st.integers(0, len(ANSWER)), st.integers(0, len(ANSWER)))
@settings(max_examples=300, deadline=None)
def test_in_the_answer_of_a_server(garbage: bytes, start: int, end: int) -> None:
    async def body(stream: trio.abc.Stream) -> None:
        await connect_websocket(stream, "h", "/")

    # Nobody can guess the accept token.
    assert len(pour(ANSWER[:start] + garbage + ANSWER[end:], body)) == 1


@given(st.binary(min_size=1, max_size=8), st.sampled_from(["tcp", "tls", "ws", "wss"]))
def test_first_octets(first: bytes, transport: str) -> None:
    text = mistaken(transport, first)
    assert not text or text.startswith("this port speaks ")
    if b"AMQP".startswith(first[:4]):
        assert spoken(first) == "AMQP without TLS"
        assert (text == "") == (transport == "tcp")
