"""AMQP over WebSocket (OASIS amqp-wsb): octets in binary messages, for both roles.

wsproto speaks the protocol; this module chooses the subprotocol, bounds what is kept, and makes a layer of it (see
`layer`). Message boundaries mean nothing: one message may hold many frames of AMQP or a part of one, and what has come
of a message is handed up at once, however long it will be.

What a WebSocket cannot do: half close. It closes both directions at once, so there is no `send_eof`, and a message that
was under way towards an end that closed is lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError, RemoteProtocolError

from van.transport.errors import TransportError
from van.transport.layer import Layer, LayerStream, Octets

SUBPROTOCOLS = ("amqp", "AMQPWSB10", "binary")
"""In the order of our preference: the standard's name, its draft's (Azure), and what generic tunnels offer."""

MAX_MESSAGE_OUT = 64 * 1024
"""One flush of a connection becomes one message; longer ones are split, so that a peer's limit on messages holds."""

MAX_EXPLANATION = 200
"""Octets of an answer that is not a WebSocket's, as an error text shows them."""

# What wsproto raises in a handshake when the peer is at fault. Anything else is a bug, and must stay visible.
_PEERS_FAULT = (ProtocolError, h11.ProtocolError, UnicodeError)
# 1000 normal, 1001 going away, 1005 closed without a code: nothing was lost.
_ORDERLY = (CloseReason.NORMAL_CLOSURE, CloseReason.GOING_AWAY, CloseReason.NO_STATUS_RCVD)


def choose_subprotocol(offered: Iterable[str]) -> str | None:
    """`amqp` if offered, else `AMQPWSB10`, else `binary`, else None."""
    names = set(offered)
    return next((name for name in SUBPROTOCOLS if name in names), None)


class WebSocketLayer(Layer):
    """One connection's side of a WebSocket, by wsproto. `connection` is wsproto's, for the handshake."""

    __slots__ = ("_messages", "_pong", "connection")

    def __init__(self, kind: ConnectionType) -> None:
        super().__init__()
        self.connection = WSConnection(kind)
        self._messages: list[bytes | memoryview] = []
        # Only the last ping needs an answer (RFC 6455, 5.5.3): a peer that sends many and reads nothing costs nothing.
        self._pong = b""

    def say(self, event: Event) -> None:
        """Have wsproto's octets for an event written."""
        self._messages.append(self.connection.send(event))

    def receive(self, data: bytes) -> bytes:
        connection = self.connection
        if connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            connection.receive_data(data)
        pieces: list[bytes | bytearray] = []
        for event in connection.events():
            if isinstance(event, BytesMessage):
                pieces.append(event.data)
            elif isinstance(event, Ping):
                if connection.state is ConnectionState.OPEN:
                    self._pong = connection.send(event.response())
            elif isinstance(event, CloseConnection):
                self._closed_by_peer(event)
                break
            elif isinstance(event, TextMessage):
                words = "AMQP travels in binary messages"
                self._fail(f"the peer sent a text message; {words}", CloseReason.UNSUPPORTED_DATA, words)
                break
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def _closed_by_peer(self, event: CloseConnection) -> None:
        connection = self.connection
        state = connection.state
        words = f": {event.reason}" if event.reason else ""
        if state is ConnectionState.OPEN:
            # wsproto says so when it has found a fault.
            self._fail(f"the peer broke the rules of WebSocket{words}", event.code, event.reason or "")
            return
        if state is ConnectionState.REMOTE_CLOSING:
            self.say(event.response())
        self.closed = True
        if event.code in _ORDERLY:
            self.ended = True
        else:
            name = f" {event.code.name}" if isinstance(event.code, CloseReason) else ""
            self.fault = trio.BrokenResourceError(f"the WebSocket was closed with {int(event.code)}{name}{words}")

    def _fail(self, words: str, code: int, reason: str) -> None:
        self.fault = trio.BrokenResourceError(words)
        with suppress(ProtocolError):
            self.say(CloseConnection(code=code, reason=reason))
        # An answer to that would come behind what we no longer understand.
        self.closed = True

    def receive_eof(self) -> None:
        if not self.ended:
            self.fault = trio.BrokenResourceError("the connection was lost without a WebSocket close")
        self.closed = True

    def send(self, chunks: Sequence[Octets]) -> None:
        connection = self.connection
        if connection.state is not ConnectionState.OPEN or self.closed:
            return
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        for start in range(0, len(data), MAX_MESSAGE_OUT):
            piece = data if len(data) <= MAX_MESSAGE_OUT else data[start : start + MAX_MESSAGE_OUT]
            self._messages.append(connection.send(BytesMessage(data=bytes(piece))))

    def take(self) -> list[bytes | memoryview]:
        messages = self._messages
        if self._pong:
            messages.append(self._pong)
            self._pong = b""
        if messages:
            self._messages = []
        return messages

    def speaks(self) -> bool:
        return bool(self._messages or self._pong)

    def end(self) -> None:
        # RFC 6455, 5.5.1: whoever hears of it ends as well.
        self.close()

    def close(self) -> None:
        if self.connection.state is ConnectionState.OPEN and not self.closed:
            self.say(CloseConnection(code=CloseReason.NORMAL_CLOSURE))
        else:
            self.closed = True


class WebSocketStream(LayerStream):
    """Octets in the binary messages of an open WebSocket. Made by `accept_websocket` and `connect_websocket`.

    `subprotocol` is the one that was agreed upon, `path` the HTTP resource that the client asked for.
    """

    def __init__(self, carrier: trio.abc.Stream, layer: WebSocketLayer, subprotocol: str, path: str) -> None:
        super().__init__(carrier, layer)
        self.subprotocol = subprotocol
        self.path = path


class _Handshake:
    """The steps until a WebSocket is open, and what to say when it does not come to that."""

    def __init__(self, carrier: trio.abc.Stream, layer: WebSocketLayer) -> None:
        self._carrier = carrier
        self._layer = layer
        self._first_octets = b""

    async def say(self, *events: Event) -> None:
        """Send what these make."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._carrier.send_all(b"".join([self._layer.connection.send(event) for event in events]))

    async def hear(self) -> Event | None:
        """What the peer says next; None at the end of the stream. Raises TransportError."""
        connection = self._layer.connection
        while True:
            for event in connection.events():
                return event
            try:
                data = bytes(await self._carrier.receive_some())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                return None
            if len(self._first_octets) < MAX_EXPLANATION:
                self._first_octets += data[:MAX_EXPLANATION]
            try:
                connection.receive_data(data)
            except _PEERS_FAULT as error:
                hint = error.event_hint if isinstance(error, RemoteProtocolError) else None
                if isinstance(hint, RejectConnection) and not connection.client:
                    await self.say(hint)
                raise self.failure(f"{self.began()}: {str(error)[:MAX_EXPLANATION]}") from error

    def ended(self) -> TransportError:
        """What to raise when the stream has ended."""
        began = self.began()
        return self.failure(f"{began}, then the connection was closed" if began else "the peer closed the connection")

    def began(self) -> str:
        """The first line of the peer, in words; empty when it has said nothing."""
        line = self._first_octets.split(b"\r\n", 1)[0][:MAX_EXPLANATION]
        return f"the peer began with {line!r}" if line else ""

    def failure(self, words: str) -> TransportError:
        """A handshake that failed, with the reason on one line."""
        return TransportError(TransportError.WEBSOCKET, "WebSocket handshake failed: " + " ".join(words.split()))


async def accept_websocket(carrier: trio.abc.Stream) -> WebSocketStream:
    """The server's part over a stream, at any path; the stream is closed when it fails.

    Raises TransportError (step `websocket`). A client that offers none of SUBPROTOCOLS gets 400 and the list.
    """
    async with _closed_on_failure(carrier):
        return await _accept(carrier)


async def connect_websocket(
    carrier: trio.abc.Stream, host_header: str, resource: str, *, deadline: float = float("inf")
) -> WebSocketStream:
    """The client's part over a stream, which is closed when it fails.

    `deadline` is the latest end of the handshake on trio's clock. Raises TransportError (step `websocket`, `timeout`).
    """
    async with _closed_on_failure(carrier):
        with trio.CancelScope(deadline=deadline):
            return await _connect(carrier, host_header, resource or "/")
        raise TransportError(TransportError.TIMEOUT, "the WebSocket handshake was not answered in time")


@asynccontextmanager
async def _closed_on_failure(carrier: trio.abc.Stream) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await trio.aclose_forcefully(carrier)
        raise


async def _accept(carrier: trio.abc.Stream) -> WebSocketStream:
    layer = WebSocketLayer(ConnectionType.SERVER)
    handshake = _Handshake(carrier, layer)
    while (request := await handshake.hear()) is not None:
        if not isinstance(request, Request):
            continue
        subprotocol = choose_subprotocol(request.subprotocols)
        if subprotocol is None:
            text = f"AMQP over WebSocket needs one of the subprotocols {', '.join(SUBPROTOCOLS)}"
            body = text.encode() + b"\n"
            headers = [
                (b"content-type", b"text/plain"),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ]
            await handshake.say(
                RejectConnection(status_code=400, headers=headers, has_body=True), RejectData(data=body)
            )
            raise handshake.failure(f"{text}; the client offered {', '.join(request.subprotocols) or 'none'}")
        await handshake.say(AcceptConnection(subprotocol=subprotocol))
        return WebSocketStream(carrier, layer, subprotocol, request.target)
    raise handshake.ended()


async def _connect(carrier: trio.abc.Stream, host_header: str, resource: str) -> WebSocketStream:
    layer = WebSocketLayer(ConnectionType.CLIENT)
    handshake = _Handshake(carrier, layer)
    await handshake.say(Request(host=host_header, target=resource, subprotocols=list(SUBPROTOCOLS)))
    refused: RejectConnection | None = None
    body = b""
    while (event := await handshake.hear()) is not None:
        if isinstance(event, AcceptConnection):
            if event.subprotocol not in SUBPROTOCOLS:
                raise handshake.failure(f"the server chose none of the subprotocols {', '.join(SUBPROTOCOLS)}")
            return WebSocketStream(carrier, layer, event.subprotocol, resource)
        if isinstance(event, RejectConnection):
            refused = event
            if not event.has_body:
                break
        elif isinstance(event, RejectData):
            body += event.data
            if event.body_finished or len(body) >= MAX_EXPLANATION:
                break
    if refused is None:
        raise handshake.ended()
    words = body[:MAX_EXPLANATION].decode("utf-8", "replace").strip()
    raise handshake.failure(f"the server answered HTTP {refused.status_code}{': ' + words if words else ''}")
