"""One side of a TLS connection ends, and the other goes on: through the driver, against OpenSSL by itself."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from math import inf

import pytest
import trio
import trio.testing

from tests.transport.authority import Authority
from van.routing.adaptor import Adaptor
from van.transport.driver import run_adaptor
from van.transport.tls import accept_tls


class Parts(Adaptor):
    """Keeps what it hears, and says what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = b""
        self.heard_end = False
        self.lost = False
        self.said: list[bytes | memoryview] = []

    def receive_data(self, data: bytes, now: float) -> None:
        self.heard += data

    def receive_eof(self, now: float) -> None:
        self.heard_end = True
        if self.write_ended or self.reason:
            self.closed = True

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        said, self.said = self.said, []
        return said

    def next_deadline(self) -> float:
        return inf

    def connection_lost(self, now: float) -> None:
        self.lost = True

    def say(self, data: bytes) -> None:
        self.said.append(data)
        self.on_wake()

    def end(self) -> None:
        self.write_ended = True
        if self.heard_end:
            self.closed = True
        self.on_wake()


class Client:
    """A client of OpenSSL's over a plain socket."""

    def __init__(self, stream: trio.SocketStream, authority: Authority, version: ssl.TLSVersion) -> None:
        context = ssl.create_default_context()
        context.maximum_version = version
        authority.ca.configure_trust(context)
        self.stream = stream
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.ended = False

    async def flush(self) -> None:
        if self.outgoing.pending:
            await self.stream.send_all(self.outgoing.read())

    async def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                self.incoming.write(await self.stream.receive_some())
            else:
                await self.flush()
                return

    async def say(self, data: bytes) -> None:
        self.tls.write(data)
        await self.flush()

    async def end(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.flush()

    async def hear(self, size: int = 1 << 20) -> bytes:
        """So many octets, or all up to the end."""
        heard = b""
        with trio.fail_after(30):
            while len(heard) < size:
                try:
                    data = self.tls.read(65536)
                except ssl.SSLWantReadError:
                    octets = await self.stream.receive_some()
                    assert octets, "an end without a close_notify"
                    self.incoming.write(octets)
                    continue
                except ssl.SSLZeroReturnError:
                    return heard
                if not data:
                    return heard
                heard += data
        return heard


@asynccontextmanager
async def opened(authority: Authority, version: ssl.TLSVersion) -> AsyncIterator[tuple[Client, Parts]]:
    adaptor = Parts()
    ours, theirs = socket.socketpair()
    context = authority.credentials().server_context()

    async def serve() -> None:
        stream = await accept_tls(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), context)
        await run_adaptor(stream, adaptor, lambda: None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        client = Client(stream, authority, version)
        await client.shake_hands()
        await client.say(b"hello")
        await until(lambda: adaptor.heard == b"hello")
        yield client, adaptor
        await stream.aclose()
        await until(lambda: adaptor.lost)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not condition():
            await trio.testing.wait_all_tasks_blocked()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    found: ssl.TLSVersion = request.param
    return found


async def test_the_peer_ends_and_still_hears(authority: Authority, version: ssl.TLSVersion) -> None:
    async with opened(authority, version) as (client, adaptor):
        await client.end()
        await until(lambda: adaptor.heard_end)
        assert not adaptor.lost
        adaptor.say(b"x" * 100_000)
        adaptor.say(b"y")
        assert await client.hear(100_001) == b"x" * 100_000 + b"y"
        adaptor.end()
        assert await client.hear() == b""


async def test_the_peer_ends_the_carrier_as_well_and_still_hears(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    async with opened(authority, version) as (client, adaptor):
        await client.end()
        await client.stream.send_eof()
        await until(lambda: adaptor.heard_end)
        adaptor.say(b"x" * 100_000)
        adaptor.end()
        assert await client.hear() == b"x" * 100_000
        assert adaptor.reason == ""


async def test_we_end_and_still_hear(authority: Authority, version: ssl.TLSVersion) -> None:
    async with opened(authority, version) as (client, adaptor):
        adaptor.say(b"last words")
        adaptor.end()
        assert await client.hear() == b"last words"
        for data in (b"a" * 50_000, b"b"):
            await client.say(data)
        await until(lambda: (adaptor.heard, adaptor.heard_end) == (b"hello" + b"a" * 50_000 + b"b", False))
        await client.end()
        await until(lambda: adaptor.lost)
        assert adaptor.heard_end
        assert adaptor.reason == ""


async def test_octets_that_cross_our_end_are_heard(authority: Authority, version: ssl.TLSVersion) -> None:
    async with opened(authority, version) as (client, adaptor):
        await client.say(b"a" * 20_000)
        adaptor.end()
        await client.say(b"b")
        await until(lambda: adaptor.heard == b"hello" + b"a" * 20_000 + b"b")
        assert await client.hear() == b""


async def test_a_peer_that_goes_without_a_word_has_not_ended(authority: Authority, version: ssl.TLSVersion) -> None:
    async with opened(authority, version) as (client, adaptor):
        await client.stream.send_eof()
        await until(lambda: adaptor.lost)
        assert adaptor.reason == "the peer closed the connection"


async def test_a_reset_is_not_taken_for_an_end(authority: Authority, version: ssl.TLSVersion) -> None:
    async with opened(authority, version) as (client, adaptor):
        adaptor.resets = adaptor.closed = True
        adaptor.on_wake()
        await until(lambda: adaptor.lost)
        with pytest.raises((AssertionError, trio.BrokenResourceError)):
            await client.hear()
