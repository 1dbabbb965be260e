"""A request that is under way when its site ends, or its service changes, gets its response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import pytest
import trio

from tests.router.running import PLAIN, Running, running, until
from tests.router.site_file import SiteFile
from tests.router.test_site_reload import again

REQUEST = b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n"


class Slow:
    """A server that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = trio.Event()
        self.port = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(4096))
        self.asked += 1
        await self.answers.wait()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere")


@asynccontextmanager
async def slow_server() -> AsyncIterator[Slow]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Slow()
    server.port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        yield server
        nursery.cancel_scope.cancel()


def web(server: Slow, more: str = "") -> str:
    return (
        f'{PLAIN}\n[[service]]\nname = "server"\nconnect = "http://127.0.0.1:{server.port}"\naddress = "web"\n'
        f'[[service]]\nname = "port"\nlisten = "http://127.0.0.1:0"\naddress = "web"\n{more}'
    )


async def ask(scene: Running, server: Slow) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", scene.site.services.running["port"].endpoint.port)
    await stream.send_all(REQUEST)
    await until(lambda: server.asked == 1)
    return stream


@pytest.fixture
def site(tmp_path: object) -> SiteFile:
    return SiteFile(tmp_path)  # type: ignore[arg-type]  # pytest's own


async def test_a_site_that_ends_waits_for_responses(site: SiteFile) -> None:
    async with slow_server() as server, running(site, web(server)) as scene, await ask(scene, server) as client:
        scene.site.drain("the scene wants it")
        await scene.line("draining")
        server.answers.set()
        assert (await client.receive_some(4096)).startswith(b"HTTP/1.1 200 OK\r\n")
        await scene.over.wait()
        assert scene.code == 0


async def test_a_service_that_changes_lets_requests_be_answered(site: SiteFile) -> None:
    async with slow_server() as server, running(site, web(server)) as scene, await ask(scene, server) as client:
        line = await again(scene, site, web(server, "forwarded = false\n"))
        assert line["taken_over"] == ['service "port".forwarded']
        server.answers.set()
        assert (await client.receive_some(4096)).startswith(b"HTTP/1.1 200 OK\r\n")
