"""HTTP/1.1 from socket to socket over two sites: readers that stop, servers that die, and what is held meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h11
import pytest
import trio

from tests.router.running import until, until_end
from tests.services.tcp_sites import Server, Sites, reset, serving, tcp_sites
from van.adaptors.service import ListeningService

KIB = 1024
MIB = 1024 * KIB
# The routers together hold at most so much for a reader that has stopped.
MOST_HELD = 4 * MIB
BUFFERS = 256 * KIB
GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"


async def head(stream: trio.SocketStream) -> bytes:
    """Read as far as the end of a header; returns what was read."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(65536)
        assert more
        data += more
    return data


async def answer(stream: trio.SocketStream) -> None:
    """A server that says of every request how large its body was."""
    http = h11.Connection(h11.SERVER)
    size = 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(MIB))
        elif isinstance(event, h11.Data):
            size += len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            body = b"%d" % size
            size = 0
            for say in (
                h11.Response(status_code=200, headers=[("content-length", str(len(body)))]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                await stream.send_all(http.send(say) or b"")
            http.start_next_cycle()
        elif isinstance(event, h11.ConnectionClosed):
            return


async def pour(stream: trio.SocketStream, piece: bytes) -> int:
    """Write until nobody takes any more for a while; returns how many octets were taken."""
    taken = 0
    with trio.move_on_after(1) as patience:
        while True:
            sent = await stream.socket.send(piece)
            taken += sent
            patience.deadline = trio.current_time() + 1
            # Always in whole pieces, as chunks are.
            while sent < len(piece):
                sent += (more := await stream.socket.send(piece[sent:]))
                taken += more
                patience.deadline = trio.current_time() + 1
    return taken


async def pour_on(stream: trio.SocketStream, piece: bytes) -> None:
    while True:
        await stream.send_all(piece)


@asynccontextmanager
async def http_sites(folder: Path, *ports: int) -> AsyncIterator[Sites]:
    """Sites with a port of HTTP, which is open before anybody can be reached."""
    async with tcp_sites(folder, *ports, listen_scheme="http", connect_scheme="http") as sites:
        service = sites.near.site.services.running["in"].service
        assert isinstance(service, ListeningService)
        await until(lambda: service.reachable)
        yield sites


async def test_an_upload_stops_when_the_server_does_not_read(tmp_path: Path) -> None:
    async with (
        serving(buffers=BUFFERS) as server,
        http_sites(tmp_path, server.port) as sites,
    ):
        client = await sites.dial(BUFFERS)
        total = 64 * MIB
        await client.send_all(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % total)
        there = await server.next()
        begun = await head(there)
        sent = await pour(client, b"x" * 65536)
        assert 0 < sent < 8 * MIB
        assert sites.held() <= MOST_HELD
        await other_clients_are_served(sites, server)
        # It reads on, and all comes.
        read = len(begun.partition(b"\r\n\r\n")[2])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"x" * (total - sent))
            while read < total:
                read += len(await there.receive_some(MIB))
        await there.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert (await head(client)).endswith(b"ok")
        await until(lambda: sites.held() == 0)
        await client.aclose()


async def other_clients_are_served(sites: Sites, server: Server) -> None:
    client = await sites.dial()
    await client.send_all(GET)
    there = await server.next()
    await head(there)
    await there.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
    assert (await head(client)).endswith(b"other")
    await client.aclose()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_response_stops_when_the_client_does_not_read(tmp_path: Path, chunked: bool) -> None:
    async with (
        serving(buffers=BUFFERS) as server,
        http_sites(tmp_path, server.port) as sites,
    ):
        client = await sites.dial(BUFFERS)
        await client.send_all(GET)
        there = await server.next()
        await head(there)
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (1 << 40)
        await there.send_all(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        piece = b"x" * 65536
        sent = await pour(there, b"10000\r\n" + piece + b"\r\n" if chunked else piece)
        assert 0 < sent < 8 * MIB
        assert sites.held() <= MOST_HELD
        await other_clients_are_served(sites, server)
        # The client goes: the server's connection does, too.
        await client.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await pour_on(there, piece)
        await until(lambda: sites.held() == 0)


async def test_a_server_dies_and_the_next_request_goes_to_the_other(tmp_path: Path) -> None:
    async with (
        serving() as dying,
        serving(answer) as living,
        http_sites(tmp_path, dying.port, living.port) as sites,
    ):
        client = await sites.dial()
        post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
        # Until the one that will die has a request, and has begun to answer.
        while not dying.streams:
            await client.send_all(post)
            with trio.move_on_after(0.5):
                await head(client)
        there = await dying.next()
        await head(there)
        await there.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        assert (await head(client)).endswith(b"hello")
        dying.die()
        assert await until_end(client) == b""
        await client.aclose()
        for _ in range(10):
            client = await sites.dial()
            await client.send_all(post)
            assert (await head(client)).endswith(b"\r\n\r\n3")
            await client.aclose()


async def test_a_server_that_is_reset_before_it_answers(tmp_path: Path) -> None:
    async with (
        serving() as server,
        http_sites(tmp_path, server.port) as sites,
    ):
        client = await sites.dial()
        await client.send_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        there = await server.next()
        await head(there)
        reset(there)
        assert (await head(client)).startswith(b"HTTP/1.1 502 ")
        await client.aclose()
