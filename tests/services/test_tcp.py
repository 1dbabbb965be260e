"""TCP from socket to socket over two sites: whole transfers, ends, resets, TLS, servers that die, readers that stop."""

from __future__ import annotations

import hashlib
import random
import ssl
from pathlib import Path

import pytest
import trio
import trustme

from tests.router.running import until, until_end
from tests.services.tcp_sites import Sites, echo, reset, serving, tcp_sites

KIB = 1024
MIB = 1024 * KIB


async def exchange(stream: trio.abc.Stream, data: bytes) -> bytes:
    """Send, end, and return the answer."""
    heard = b""

    async def hear() -> None:
        nonlocal heard
        heard = await until_end(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        await stream.send_all(data)
        assert isinstance(stream, trio.SocketStream)
        await stream.send_eof()
    return heard


async def is_reset(stream: trio.abc.ReceiveStream) -> bool:
    """Whether a connection ends by a reset, whatever came before."""
    try:
        while await stream.receive_some(65536):
            pass
    except trio.BrokenResourceError:
        return True
    return False


async def is_turned_away(sites: Sites) -> bool:
    """Whether a client is reset, which it may be before it knows that it was connected."""
    try:
        client = await sites.dial()
    except ConnectionResetError:
        return True
    async with client:
        return await is_reset(client)


async def test_large_amounts_both_ways_at_once_and_both_ends(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(8 * MIB)
    async with serving(echo) as server, tcp_sites(tmp_path, server.port) as sites:
        client = await sites.dial()
        heard = await exchange(client, data)
        assert hashlib.sha256(heard).digest() == hashlib.sha256(data).digest()
        await client.aclose()
        await until(lambda: not sites.near.site.services.connections and not sites.far.site.services.connections)
        assert sites.held() == 0


async def test_many_connections_at_once(tmp_path: Path) -> None:
    async with serving(echo) as server, tcp_sites(tmp_path, server.port) as sites:

        async def one(number: int) -> None:
            client = await sites.dial()
            async with client:
                data = b"%d " % number * 1000
                assert await exchange(client, data) == data

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)
        assert len(server.streams) == 100


async def test_one_side_ends_and_the_other_goes_on(tmp_path: Path) -> None:
    async with serving() as server, tcp_sites(tmp_path, server.port) as sites:
        client = await sites.dial()
        there = await server.next()
        await there.send_all(b"hello")
        await there.send_eof()
        assert await until_end(client) == b"hello"
        await client.send_all(b"late")
        assert await there.receive_some() == b"late"
        await client.send_eof()
        assert await there.receive_some() == b""
        await client.aclose()


async def test_resets_are_passed_on(tmp_path: Path) -> None:
    async with serving() as server, tcp_sites(tmp_path, server.port) as sites:
        client = await sites.dial()
        there = await server.next()
        await client.send_all(b"x")
        await there.receive_some()
        reset(client)
        assert await is_reset(there)
        client = await sites.dial()
        there = await server.next()
        await there.send_all(b"x")
        await client.receive_some()
        reset(there)
        assert await is_reset(client)
        await client.aclose()


async def test_a_server_that_refuses(tmp_path: Path) -> None:
    async with serving() as server, tcp_sites(tmp_path, server.port) as sites:
        server.die()
        assert await is_turned_away(sites)
        await until(lambda: bool(sites.lines("no connection to the server")))


async def test_a_port_that_is_always_open_says_why_it_leads_nowhere(tmp_path: Path) -> None:
    async with tcp_sites(tmp_path, listen="always_open = true") as sites:
        assert await is_turned_away(sites)
        await until(lambda: bool(sites.lines("connection came to nothing")))
        (line,) = sites.lines("connection came to nothing")
        assert (line["reason"], line["address"]) == ("nobody receives at the address", "orders-db")


async def test_a_server_dies_and_the_next_connection_goes_to_another(tmp_path: Path) -> None:
    async with (
        serving() as one,
        serving() as other,
        tcp_sites(tmp_path, one.port, other.port) as sites,
    ):
        clients = [await sites.dial() for _ in range(4)]
        await until(lambda: len(one.streams) == len(other.streams) == 2)
        for stream in (*one.streams, *other.streams):
            await stream.send_all(b"hello")
        for client in clients:
            assert await client.receive_some() == b"hello"
        lost: list[bool] = []

        async def watch(client: trio.SocketStream) -> None:
            lost.append(await is_reset(client))

        one.die()
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(watch, client)
            await until(lambda: len(lost) == 2)
            nursery.cancel_scope.cancel()
        assert lost == [True, True]
        clients += [await sites.dial() for _ in range(4)]
        await until(lambda: len(other.streams) == 6)
        for client in clients:
            await client.aclose()


@pytest.mark.parametrize("stops", ["server", "client"])
async def test_a_reader_that_stops_stops_the_writer(tmp_path: Path, stops: str) -> None:
    async with serving(buffers=256 * KIB) as server, tcp_sites(tmp_path, server.port) as sites:
        client = await sites.dial(256 * KIB)
        there = await server.next()
        writer, reader = (client, there) if stops == "server" else (there, client)
        written = 0
        stopped = False
        while not stopped:
            with trio.move_on_after(0.5) as patience:
                written += await writer.socket.send(b"x" * 65536)
            stopped = patience.cancelled_caught
            # Most of it is in the buffers of the system.
            assert written <= 32 * MIB
        assert 0 < sites.held() <= 4 * MIB
        heard = 0
        while heard < written:
            heard += len(await reader.receive_some(MIB))
        await writer.send_all(b"y")
        assert await reader.receive_some() == b"y"
        await until(lambda: sites.held() == 0)
        await client.aclose()


class Certificates:
    """Files of an authority and a server, and contexts for programs."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("localhost")
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        self.server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        self.profile = (
            f'ssl_profile = "site"\n[[ssl_profile]]\nname = "site"\nca_cert_file = "{folder / "ca.pem"}"\n'
            f'cert_file = "{folder / "server.pem"}"\nprivate_key_file = "{folder / "server.pem"}"\n'
        )

    def of_client(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def of_server(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.configure_cert(context)
        context.set_alpn_protocols(list(protocols))
        return context


async def test_tls_at_both_ends_and_what_was_agreed_upon_is_passed_on(tmp_path: Path) -> None:
    files = Certificates(tmp_path)
    agreed = []
    server_context = files.of_server("h2", "http/1.1")

    async def handler(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, server_context, server_side=True)
        await secured.do_handshake()
        agreed.append(secured.selected_alpn_protocol())
        async for data in secured:
            await secured.send_all(data)

    async with (
        serving(handler) as server,
        tcp_sites(
            tmp_path,
            server.port,
            listen_scheme="tls",
            connect_scheme="tls",
            listen='alpn = ["h2", "http/1.1"]\n' + files.profile,
            connect=files.profile,
        ) as sites,
    ):
        for protocols, chosen in ((("http/1.1",), "http/1.1"), (("http/1.1", "h2"), "h2"), ((), None)):
            client = trio.SSLStream(await sites.dial(), files.of_client(*protocols), server_hostname="localhost")
            await client.send_all(b"x" * MIB)
            heard = b""
            while len(heard) < MIB:
                heard += await client.receive_some()
            assert client.selected_alpn_protocol() == chosen
            assert agreed.pop() == chosen
            await client.aclose()


async def test_the_server_learns_who_its_client_is(tmp_path: Path) -> None:
    async with (
        serving() as server,
        tcp_sites(tmp_path, server.port, connect='proxy_protocol = "v1"') as sites,
    ):
        client = await sites.dial()
        there = await server.next()
        host, port = client.socket.getsockname()
        assert await there.receive_some() == f"PROXY TCP4 {host} 127.0.0.1 {port} {sites.port}\r\n".encode()
        await client.aclose()


async def test_a_connection_in_which_nothing_moves_is_given_up(tmp_path: Path) -> None:
    async with serving() as server, tcp_sites(tmp_path, server.port, connect="idle_timeout_seconds = 0.1") as sites:
        client = await sites.dial()
        there = await server.next()
        assert await is_reset(client)
        assert await is_reset(there)
        await client.aclose()
