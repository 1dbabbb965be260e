"""Two real sites with a service of TCP between them, and the programs at their ends.

    async with tcp_sites(tmp_path, server.port) as sites:
        client = await sites.dial()
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from tests.ports import free_port
from tests.router.running import Running, running, until
from tests.router.site_file import SiteFile

ADDRESS = "orders-db"
NEAR = """
[router]
id = "near"
mode = "interior"

[[listener]]
name = "routers"
url = "amqp://127.0.0.1:{port}"
role = "inter-router"

[[service]]
name = "in"
listen = "{scheme}://127.0.0.1:0"
address = "orders-db"
{more}
"""
FAR = """
[router]
id = "far"
mode = "interior"

[[connector]]
name = "near"
url = "amqp://127.0.0.1:{port}"
role = "inter-router"
"""
BEHIND = """
[[service]]
name = "out{number}"
connect = "{scheme}://localhost:{port}"
address = "orders-db"
{more}
"""

Handler = Callable[[trio.SocketStream], Awaitable[None]]


class Server:
    """A server on a port of its own. `streams` are its connections."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self.listener = listener
        self.port: int = listener.socket.getsockname()[1]
        self.streams: list[trio.SocketStream] = []
        self.accepted = 0

    async def next(self) -> trio.SocketStream:
        """The next connection that was not taken yet."""
        await until(lambda: len(self.streams) > self.accepted)
        self.accepted += 1
        return self.streams[self.accepted - 1]

    def die(self) -> None:
        """As a process that is killed: its connections are reset, its port is closed."""
        self.listener.socket.close()
        for stream in self.streams:
            reset(stream)


def reset(stream: trio.SocketStream) -> None:
    with suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@asynccontextmanager
async def serving(handler: Handler | None = None, buffers: int = 0) -> AsyncIterator[Server]:
    """A server; each connection is the handler's, or the scene's. buffers: sizes of its sockets' buffers."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    if buffers:
        limit_buffers(listener.socket, buffers)
    server = Server(listener)

    async def accept(nursery: trio.Nursery) -> None:
        with suppress(trio.ClosedResourceError, OSError):
            while True:
                stream = await listener.accept()
                server.streams.append(stream)
                if handler is not None:
                    nursery.start_soon(guarded, handler, stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, nursery)
        yield server
        nursery.cancel_scope.cancel()
    listener.socket.close()
    for stream in server.streams:
        stream.socket.close()


async def guarded(handler: Handler, stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await handler(stream)


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


def limit_buffers(sock: trio.socket.SocketType, size: int) -> None:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, size)


class Sites:
    """Both sites; `port` is where the clients connect."""

    def __init__(self, near: Running, far: Running) -> None:
        self.near = near
        self.far = far

    @property
    def port(self) -> int:
        return self.near.site.services.running["in"].endpoint.port

    @property
    def open(self) -> bool:
        return self.near.site.services.running["in"].endpoint.status == "up"

    def lines(self, event: str) -> list[dict[str, object]]:
        """Of both logs: some go to that of the site which was configured last."""
        return [*self.near.lines(event), *self.far.lines(event)]

    def held(self) -> int:
        return sum(each.site.router.budget.held() for each in (self.near, self.far))

    async def dial(self, buffers: int = 0) -> trio.SocketStream:
        sock = trio.socket.socket()
        if buffers:
            limit_buffers(sock, buffers)
        try:
            await sock.connect(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        return trio.SocketStream(sock)


@asynccontextmanager
async def tcp_sites(
    folder: Path,
    *ports: int,
    listen: str = "",
    connect: str = "",
    listen_scheme: str = "tcp",
    connect_scheme: str = "tcp",
    wait: bool = True,
) -> AsyncIterator[Sites]:
    """Sites that lead from a port to servers on these ports. listen, connect: more keys of the two services."""
    places = [SiteFile(folder / name) for name in ("near", "far")]
    for place in places:
        place.folder.mkdir()
    meeting = free_port()
    near = NEAR.format(port=meeting, scheme=listen_scheme, more=listen)
    far = FAR.format(port=meeting) + "".join(
        BEHIND.format(number=number, scheme=connect_scheme, port=port, more=connect)
        for number, port in enumerate(ports)
    )
    async with running(places[0], near) as one, running(places[1], far) as other:
        sites = Sites(one, other)
        if wait:
            await until(lambda: sites.open)
        yield sites
