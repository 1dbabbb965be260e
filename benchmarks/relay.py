"""What the bare streams move: a relay that knows no AMQP, the yardstick of the TLS and WebSocket rows.

`python benchmarks/relay.py TRANSPORT CERT_FILE KEY_FILE` prints its port. Connections are joined in pairs, in the order
in which they come; what one says the other hears. The streams are trio's and trio-websocket's, read and written as
their documentation does.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

READ_SIZE = 65536
# A WebSocket message that a client of the benchmarks sends is not larger than this, with its frame.
MAX_MESSAGE = 1 << 20

Read = Callable[[], Awaitable[Any]]
Write = Callable[[Any], Awaitable[None]]


class Pairs:
    """Joins connections two by two."""

    def __init__(self) -> None:
        self._first: tuple[Read, Write] | None = None
        self._over = trio.Event()

    async def join(self, read: Read, write: Write) -> None:
        """Returns when the pair is over."""
        if self._first is None:
            self._first = read, write
            self._over = over = trio.Event()
            await over.wait()
            return
        (other_read, other_write), self._first = self._first, None
        over = self._over
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, other_read, write, nursery.cancel_scope)
            nursery.start_soon(pump, read, other_write, nursery.cancel_scope)
        over.set()


async def pump(read: Read, write: Write, scope: trio.CancelScope) -> None:
    """Carry octets until they end."""
    try:
        while data := await read():
            await write(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed):
        pass
    scope.cancel()


async def main(transport: str, cert_file: str, key_file: str) -> None:
    """Serve for ever."""
    context: ssl.SSLContext | None = None
    if transport in {"tls", "wss"}:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert_file, key_file)
    pairs = Pairs()

    async def handle(stream: trio.abc.Stream) -> None:
        async with stream:
            if isinstance(stream, trio.SSLStream):
                await stream.do_handshake()
            await pairs.join(partial(stream.receive_some, READ_SIZE), stream.send_all)

    async def handle_websocket(request: WebSocketRequest) -> None:
        connection: WebSocketConnection = await request.accept(subprotocol="amqp")
        await pairs.join(connection.get_message, connection.send_message)

    async with trio.open_nursery() as nursery:
        if transport in {"ws", "wss"}:
            serve = partial(serve_websocket, handle_websocket, "127.0.0.1", 0, context, max_message_size=MAX_MESSAGE)
            server = await nursery.start(serve)
            port = server.port
        elif context is not None:
            serve_tls = partial(trio.serve_ssl_over_tcp, handle, 0, context, host="127.0.0.1")
            port = (await nursery.start(serve_tls))[0].transport_listener.socket.getsockname()[1]
        else:
            serve_tcp = partial(trio.serve_tcp, handle, 0, host="127.0.0.1")
            port = (await nursery.start(serve_tcp))[0].socket.getsockname()[1]
        print(port, flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
