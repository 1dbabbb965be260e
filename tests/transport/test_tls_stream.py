"""Octets over TLS: between two of ours, and between one of ours and trio's own, in both versions."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.transport.authority import Authority
from tests.transport.scenes import exchange, serving, until
from van.transport.dial import open_stream
from van.transport.tls import TlsCredentials, TlsLayer, TlsStream, accept_tls, connect_tls, explain

versions = pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
# Many records, and no multiple of one.
LONG = bytes(range(256)) * 1023


@asynccontextmanager
async def joined(
    authority: Authority, version: str, *, theirs: str = ""
) -> AsyncIterator[tuple[trio.abc.Stream, trio.abc.Stream]]:
    """Server and client over memory streams; `theirs` names the side that trio's own `SSLStream` takes."""
    server_context = authority.credentials(protocols=(version,)).server_context()
    client_context = TlsCredentials(authority.trust_only()).client_context()
    left, right = trio.testing.memory_stream_pair()
    found: dict[str, trio.abc.Stream] = {}

    async def foreign(stream: trio.abc.Stream, context: ssl.SSLContext, **options: Any) -> trio.abc.Stream:
        secured = trio.SSLStream(stream, context, **options)
        await secured.do_handshake()
        return secured

    async def serve() -> None:
        found["server"] = await (
            foreign(left, server_context, server_side=True) if theirs == "server" else accept_tls(left, server_context)
        )

    async def dial() -> None:
        found["client"] = await (
            foreign(right, client_context, server_hostname="localhost")
            if theirs == "client"
            else connect_tls(right, client_context, "localhost")
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(dial)
    yield found["server"], found["client"]


@versions
async def test_it_is_a_stream_as_trio_demands(authority: Authority, version: str) -> None:
    async def make() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        async with joined(authority, version) as pair:
            return pair

    async def make_clogged() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        server_context = authority.credentials(protocols=(version,)).server_context()
        client_context = TlsCredentials(authority.trust_only()).client_context()
        left, right = trio.testing.lockstep_stream_pair()
        pair: list[trio.abc.Stream] = []

        async def serve() -> None:
            pair.append(await accept_tls(left, server_context))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            client = await connect_tls(right, client_context, "localhost")
            # A server's tickets are in its way until somebody reads.
            async with trio.open_nursery() as reading:
                reading.start_soon(client.receive_some, 1)
                await trio.testing.wait_all_tasks_blocked()
                reading.cancel_scope.cancel()
        return pair[0], client

    await trio.testing.check_two_way_stream(make, make_clogged)


@versions
@pytest.mark.parametrize("theirs", ["server", "client"])
async def test_trios_own_understands_it(authority: Authority, version: str, theirs: str) -> None:
    async with joined(authority, version, theirs=theirs) as (server, client):
        for one, other in ((server, client), (client, server)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.send_all, LONG)
                heard = b""
                while len(heard) < len(LONG):
                    heard += await other.receive_some(100_000)
            assert heard == LONG
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose)
            assert await client.receive_some() == b""
        await client.aclose()


@versions
async def test_an_end_that_was_cut_off_is_no_end(authority: Authority, version: str) -> None:
    async with joined(authority, version) as (server, client):
        await client.send_all(b"last words")
        assert await server.receive_some() == b"last words"
        assert isinstance(client, TlsStream)
        await client.carrier.aclose()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await server.receive_some()
        assert explain(caught.value) == "the peer closed the connection"


@versions
async def test_garbage_in_the_middle_breaks_it_and_the_peer_learns_why(authority: Authority, version: str) -> None:
    async with joined(authority, version) as (server, client):
        assert isinstance(client, TlsStream)
        await client.send_all(b"x")
        await client.carrier.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await server.receive_some() == b"x"
        with pytest.raises(trio.BrokenResourceError) as caught:
            await server.receive_some()
        assert "decryption failed" in explain(caught.value)
        with pytest.raises(trio.BrokenResourceError) as told:
            await client.receive_some()
        assert "bad record mac" in explain(told.value)


@versions
def test_octets_that_openssl_cannot_take_yet_are_kept(authority: Authority, version: str) -> None:
    """As in a renegotiation, of which Python can begin none: here it is the handshake that has to come first."""
    server = TlsLayer(authority.credentials(protocols=(version,)).server_context())
    client = TlsLayer(TlsCredentials(authority.trust_only()).client_context(), "localhost")
    client.send((b"early", b" "))
    assert client.held
    client.send((b"bird",))
    heard = b""
    for _ in range(4):
        heard += server.receive(b"".join(client.take()))
        assert client.receive(b"".join(server.take())) == b""
    assert heard == b"early bird"
    assert client.take() == []


def test_what_is_sent_on_a_broken_connection_goes_nowhere(authority: Authority) -> None:
    layer = TlsLayer(authority.credentials().server_context())
    layer.receive(b"no TLS at all")
    assert layer.fault is not None
    assert explain(layer.fault) == "the peer does not speak TLS on this port"
    layer.take()
    layer.send((LONG,))
    assert layer.closed
    assert layer.take() == []


async def test_octets_that_came_with_the_handshake_are_not_forgotten(authority: Authority) -> None:
    """A client may send with its last octets of the handshake; the listener then waits for nothing more."""
    credentials = authority.credentials()
    client = TlsLayer(TlsCredentials(authority.trust_only()).client_context(), "localhost")
    async with serving("amqps", credentials=credentials) as stage:
        stream = await stage.dial()
        client.send((b"!open",))
        heard = b""
        while b"opened" not in heard:
            if octets := client.take():
                await stream.send_all(b"".join(octets))
            heard += client.receive(bytes(await stream.receive_some()))
        await until(lambda: any(adaptor.opened for adaptor in stage.endpoints.made))


async def ask_for_the_end(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"!close")


@pytest.mark.parametrize("leave", [ask_for_the_end, lambda stream: stream.aclose()], ids=["ours", "theirs"])
async def test_a_connection_ends_with_a_close_notify(
    authority: Authority, leave: Callable[[trio.abc.Stream], Any]
) -> None:
    """Whoever ends it: trio's own stream raises an error for an end without."""
    context = TlsCredentials(authority.trust_only()).client_context()
    async with serving("amqps", credentials=authority.credentials()) as stage:
        async with trio.SSLStream(await stage.dial(), context, server_hostname="localhost") as stream:
            await exchange(stream, b"!open", b"opened")
            if leave is ask_for_the_end:
                await leave(stream)
                assert await stream.receive_some() == b""
        (adaptor,) = stage.endpoints.made
        await until(lambda: adaptor.lost == 1)
        assert adaptor.reason == ""


async def test_why_a_connection_broke_is_told_to_the_adaptor(authority: Authority) -> None:
    credentials = authority.credentials()
    async with serving("amqps", credentials=credentials) as stage:
        for number, (cut, reason) in enumerate(
            (
                (b"", "the peer closed the connection"),
                (b"garbage in the clear", "the peer does not speak TLS on this port"),
            )
        ):
            async with open_stream(stage.url, credentials=credentials) as (stream, _):
                await exchange(stream, b"!open", b"opened")
                assert isinstance(stream, TlsStream)
                if cut:
                    await stream.carrier.send_all(cut)
                else:
                    await stream.carrier.aclose()
                adaptor = stage.endpoints.made[number]
                await until(lambda adaptor=adaptor: adaptor.lost == 1)  # type: ignore[misc]
                assert adaptor.reason == reason


async def test_long_answers_pass_whole(authority: Authority) -> None:
    credentials = authority.credentials()
    async with (
        serving("amqps", credentials=credentials) as stage,
        open_stream(stage.url, credentials=credentials) as (stream, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(partial(exchange, stream, LONG * 20, LONG * 20))
