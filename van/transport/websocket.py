"""AMQP over WebSocket (OASIS amqp-wsb): a stream of octets in binary messages, for both roles.

trio-websocket speaks the protocol over a stream that we give it; this module chooses the subprotocol, bounds times and
memory, and makes a `trio.abc.Stream` of it. Message boundaries mean nothing: one message may hold many frames of AMQP
or a part of one.

trio-websocket needs a task that reads. It lives in a nursery inside `accept_websocket` and `connect_websocket`, which
therefore are context managers; what that task raises about a bad peer comes out of them as one TransportError, and what
the body raises comes out as it was, never wrapped in a group.

What the stream cannot do: half close. WebSocket closes both directions at once, so there is no `send_eof`, and a
message that was under way towards an end that closed is lost. As with TLS, a `send_all` that is cancelled half-way
leaves a piece of a message on the wire: then the stream can only be closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

import h11
import trio
import trio_websocket
import wsproto.utilities

from van.transport.errors import TransportError

SUBPROTOCOLS = ("amqp", "AMQPWSB10", "binary")
"""In the order of our preference: the standard's name, its draft's (Azure), and what generic tunnels offer."""

MAX_MESSAGE_OUT = 64 * 1024
"""One flush of a connection becomes one message; longer ones are split, so that a peer's limit on messages holds."""

MAX_MESSAGE_IN = 4 * 1024 * 1024
"""A message is delivered when it is complete, so this is what one connection can hold back. Beyond: close 1009."""

MESSAGE_QUEUE_SIZE = 1
"""Complete messages waiting for the reader; then nothing more is read from the socket, and TCP stops the peer."""

RECEIVE_BUFFER_SIZE = 256 * 1024
"""trio-websocket's own 4 KiB cost two thirds of the throughput."""

MAX_FRAGMENTS = 1024
"""Pieces of one unfinished message that may lie about; beyond, they are joined. A fragment of no octets takes the peer
six octets on the wire and the library a list entry and an object, without any limit of its own."""

CLOSE_TIMEOUT = 5.0
"""Seconds for the closing handshake: a peer that does not answer is dropped."""

MAX_EXPLANATION = 200
"""Octets of an answer that is not a WebSocket's, as an error text shows them."""

# What the library's reading task raises when the *peer* is at fault. Anything else is a bug, and must stay visible.
_PEERS_FAULT = (
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    wsproto.utilities.ProtocolError,
    h11.ProtocolError,
    UnicodeError,
)

T = TypeVar("T")


def choose_subprotocol(offered: Iterable[str]) -> str | None:
    """`amqp` if offered, else `AMQPWSB10`, else `binary`, else None."""
    names = set(offered)
    return next((name for name in SUBPROTOCOLS if name in names), None)


class _Carrier(trio.abc.Stream):
    """The stream below, watched: the library does not say when it ends before the handshake is done."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._waiting: trio.CancelScope | None = None
        self._ended = False
        self.first_octets = b""
        self.connection: trio_websocket.WebSocketConnection | None = None

    async def unless_it_ends(self, step: Awaitable[T]) -> T:
        """Await a step of the handshake; raises TransportError when the stream ends under it."""
        if self._ended:
            raise self._too_early()
        with trio.CancelScope() as self._waiting:
            return await step
        raise self._too_early()

    def _too_early(self) -> TransportError:
        return TransportError(TransportError.WEBSOCKET, f"WebSocket handshake failed: {self.explanation()}")

    def explanation(self) -> str:
        if not self.first_octets:
            return "the peer closed the connection"
        line = self.first_octets.split(b"\r\n", 1)[0][:MAX_EXPLANATION]
        return f"the peer began with {line!r}, then the connection was closed"

    def _end(self) -> None:
        self._ended = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.connection is not None:
            _bound_fragments(self.connection)
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()
            raise
        if not data:
            self._end()
        elif self.connection is None and len(self.first_octets) < MAX_EXPLANATION:
            self.first_octets += data[:MAX_EXPLANATION]
        return data

    async def aclose(self) -> None:
        self._end()
        await self._stream.aclose()


def _bound_fragments(connection: trio_websocket.WebSocketConnection) -> None:
    """Join the pieces of an unfinished message when they become many.

    The library bounds their octets and not their number, and has no public place to do this; a test fails when the
    attribute is gone.
    """
    parts = connection._message_parts
    if len(parts) > MAX_FRAGMENTS:
        if isinstance(parts[0], str):
            connection._message_parts = ["".join(part for part in parts if isinstance(part, str))]
        else:
            connection._message_parts = [b"".join(part for part in parts if not isinstance(part, str))]


class WebSocketStream(trio.abc.Stream):
    """Octets in the binary messages of an open WebSocket. Made by `accept_websocket` and `connect_websocket`."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, carrier: _Carrier) -> None:
        self._connection = connection
        self._carrier = carrier
        self._closed = False
        self._sending = False
        self._receiving = False
        self._message = b""
        self._position = 0
        carrier.connection = connection

    @property
    def subprotocol(self) -> str:
        """The one that was agreed upon."""
        return self._connection.subprotocol or ""

    @property
    def path(self) -> str:
        """The HTTP resource that the client asked for."""
        return self._connection.path or ""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send octets, as one message up to MAX_MESSAGE_OUT, else as several."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this WebSocket")
        self._sending = True
        try:
            if self._closed:
                raise trio.ClosedResourceError("this WebSocket was closed")
            if not data:
                await trio.lowlevel.checkpoint()
            elif len(data) <= MAX_MESSAGE_OUT:
                await self._connection.send_message(data if isinstance(data, bytes) else bytes(data))
            else:
                with memoryview(data) as view:
                    for start in range(0, len(view), MAX_MESSAGE_OUT):
                        await self._connection.send_message(bytes(view[start : start + MAX_MESSAGE_OUT]))
        except (trio_websocket.ConnectionClosed, wsproto.utilities.LocalProtocolError) as error:
            raise self._broken() from error
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream below can take octets."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this WebSocket")
        self._sending = True
        try:
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("this WebSocket was closed")
            await self._carrier.wait_send_all_might_not_block()
        except trio.ClosedResourceError:
            raise self._broken() from None
        finally:
            self._sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Octets of the current message, or the next one; empty after an orderly end.

        Raises BrokenResourceError when the connection broke, or the peer broke the rules (text: close 1003).
        """
        if max_bytes is not None:
            if not isinstance(max_bytes, int):
                raise TypeError("max_bytes must be an integer")
            if max_bytes < 1:
                raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this WebSocket")
        self._receiving = True
        try:
            if self._closed:
                raise trio.ClosedResourceError("this WebSocket was closed")
            if self._position < len(self._message):
                await trio.lowlevel.checkpoint()
            else:
                message = await self._next_message()
                if not message:
                    return b""
                if max_bytes is None or len(message) <= max_bytes:
                    return message
                self._message, self._position = message, 0
            end = len(self._message) if max_bytes is None else self._position + max_bytes
            piece = self._message[self._position : end]
            self._position = end
            if end >= len(self._message):
                self._message, self._position = b"", 0
            return piece
        finally:
            self._receiving = False

    async def _next_message(self) -> bytes:
        """The next message that holds anything; empty at the end."""
        while True:
            try:
                message = await self._connection.get_message()
            except trio_websocket.ConnectionClosed as error:
                await trio.lowlevel.checkpoint()
                if self._closed:
                    raise trio.ClosedResourceError("this WebSocket was closed") from None
                # 1000 normal, 1001 going away, 1005 closed without a code: nothing was lost.
                if error.reason is not None and error.reason.code in (1000, 1001, 1005):
                    return b""
                raise self._broken() from error
            if isinstance(message, str):
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await self._connection.aclose(1003, "AMQP travels in binary messages")
                raise trio.BrokenResourceError("the peer sent a text message; AMQP travels in binary messages")
            if message:
                return message

    def _broken(self) -> trio.ClosedResourceError | trio.BrokenResourceError:
        if self._closed:
            return trio.ClosedResourceError("this WebSocket was closed")
        reason = self._connection.closed
        if reason is None or reason.code == 1006:
            return trio.BrokenResourceError("the connection was lost without a WebSocket close")
        words = f": {reason.reason}" if reason.reason else ""
        return trio.BrokenResourceError(f"the WebSocket was closed with {reason.code} {reason.name}{words}")

    async def aclose(self) -> None:
        """Close with 1000 and wait for the peer's answer, at most CLOSE_TIMEOUT; then the stream below is closed."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            with trio.move_on_after(CLOSE_TIMEOUT):
                await self._connection.aclose()
        finally:
            await trio.aclose_forcefully(self._carrier)


@asynccontextmanager
async def accept_websocket(stream: trio.abc.Stream) -> AsyncIterator[WebSocketStream]:
    """The server's part over `stream`, at any path; the WebSocket is closed at the end of the block.

    Raises TransportError (step `websocket`). A client that offers none of SUBPROTOCOLS gets 400 and the list.
    """
    carrier = _Carrier(stream)
    async with _reading_task(carrier) as nursery:
        request = await carrier.unless_it_ends(
            trio_websocket.wrap_server_stream(
                nursery,
                carrier,
                message_queue_size=MESSAGE_QUEUE_SIZE,
                max_message_size=MAX_MESSAGE_IN,
                receive_buffer_size=RECEIVE_BUFFER_SIZE,
            )
        )
        offered = request.proposed_subprotocols
        subprotocol = choose_subprotocol(offered)
        if subprotocol is None:
            text = f"AMQP over WebSocket needs one of the subprotocols {', '.join(SUBPROTOCOLS)}"
            headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            await carrier.unless_it_ends(request.reject(400, extra_headers=headers, body=text.encode() + b"\n"))
            raise TransportError(
                TransportError.WEBSOCKET,
                f"WebSocket handshake failed: {text}; the client offered {', '.join(offered) or 'none'}",
            )
        connection = await carrier.unless_it_ends(request.accept(subprotocol=subprotocol))
        yield WebSocketStream(connection, carrier)


@asynccontextmanager
async def connect_websocket(
    stream: trio.abc.Stream, host_header: str, resource: str, *, deadline: float = float("inf")
) -> AsyncIterator[WebSocketStream]:
    """The client's part over `stream`; the WebSocket is closed at the end of the block.

    `deadline` is the latest end of the handshake on trio's clock. Raises TransportError (step `websocket`, `timeout`).
    """
    carrier = _Carrier(stream)
    async with _reading_task(carrier) as nursery:
        connection = None
        with trio.CancelScope(deadline=deadline):
            connection = await carrier.unless_it_ends(
                trio_websocket.wrap_client_stream(
                    nursery,
                    # The library's annotation names two classes; it needs no more than the interface.
                    carrier,  # type: ignore[arg-type]
                    host_header,
                    resource or "/",
                    subprotocols=SUBPROTOCOLS,
                    message_queue_size=MESSAGE_QUEUE_SIZE,
                    max_message_size=MAX_MESSAGE_IN,
                    receive_buffer_size=RECEIVE_BUFFER_SIZE,
                )
            )
        if connection is None:
            raise TransportError(TransportError.TIMEOUT, "the WebSocket handshake was not answered in time")
        if connection.subprotocol not in SUBPROTOCOLS:
            raise TransportError(
                TransportError.WEBSOCKET,
                f"WebSocket handshake failed: the server chose none of the subprotocols {', '.join(SUBPROTOCOLS)}",
            )
        yield WebSocketStream(connection, carrier)


@asynccontextmanager
async def _reading_task(carrier: _Carrier) -> AsyncIterator[trio.Nursery]:
    """A nursery for the library's reading task, which ends with the block.

    The nursery wraps in a group whatever leaves it. Out of here comes: what the block raised, as it was; or, where only
    the library's task failed and the peer is to blame, one TransportError; or the group, when there is more to it.
    """
    raised: BaseException | None = None
    result: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                raised = error
                raise
            finally:
                try:
                    # Graceful when all is well, at once when this is being cancelled.
                    stream = carrier.connection
                    if raised is None and stream is not None:
                        with trio.move_on_after(CLOSE_TIMEOUT):
                            await stream.aclose()
                finally:
                    await trio.aclose_forcefully(carrier)
                    nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        result = _unwrap(group, raised, carrier)
    if result is not None:
        raise result


def _unwrap(group: BaseExceptionGroup[BaseException], raised: BaseException | None, carrier: _Carrier) -> BaseException:
    others = group.split(lambda error: error is raised or isinstance(error, trio.Cancelled))[1]
    if others is None:
        return raised if raised is not None else group
    if others.split(_PEERS_FAULT)[1] is not None:
        return group
    if raised is not None and not isinstance(raised, trio.Cancelled):
        return raised
    first: BaseException = others
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, trio_websocket.ConnectionRejected):
        body = (first.body or b"")[:MAX_EXPLANATION].decode("utf-8", "replace").strip()
        words = f"the server answered HTTP {first.status_code}{': ' + body if body else ''}"
    else:
        words = f"{type(first).__name__}: {first}" if carrier.connection is not None else carrier.explanation()
    what = "WebSocket" if carrier.connection is not None else "WebSocket handshake"
    failure = TransportError(TransportError.WEBSOCKET, f"{what} failed: {words}")
    failure.__cause__ = first
    return failure
