"""Small proxies that really relay: HTTP CONNECT, SOCKS5 and SOCKS4."""

from __future__ import annotations

import base64
import ipaddress
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

Handler = Callable[["Relay", trio.SocketStream], Awaitable[None]]


class Relay:
    """One proxy on a port of its own. `asked` lists the targets that clients named."""

    def __init__(self, handler: Handler, *, user: str = "", password: str = "") -> None:
        self._handler = handler
        self.user = user
        self.password = password
        self.port = 0
        self.asked: list[str] = []
        self.split_answer = False

    async def connect_and_relay(self, client: trio.SocketStream, host: str, port: int, answer: bytes) -> None:
        self.asked.append(f"{host}:{port}")
        async with await trio.open_tcp_stream(host, port) as server:
            if self.split_answer:
                for octet in answer:
                    await client.send_all(bytes([octet]))
                    await trio.testing.wait_all_tasks_blocked()
            else:
                await client.send_all(answer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump, client, server, nursery)
                nursery.start_soon(pump, server, client, nursery)

    async def serve(self, client: trio.SocketStream) -> None:
        async with client:
            try:
                await self._handler(self, client)
            except* trio.BrokenResourceError:
                pass


async def pump(source: trio.SocketStream, sink: trio.SocketStream, nursery: trio.Nursery) -> None:
    async for data in source:
        await sink.send_all(data)
    nursery.cancel_scope.cancel()


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Relay]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    relay.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, relay.serve, listeners)
        yield relay
        nursery.cancel_scope.cancel()


async def exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await stream.receive_some(count - len(data))
        assert piece
        data += piece
    return data


async def http_connect(relay: Relay, client: trio.SocketStream) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await exactly(client, 1)
    lines = head.decode().split("\r\n")
    method, target, _ = lines[0].split()
    assert method == "CONNECT"
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    if relay.user:
        wanted = "Basic " + base64.b64encode(f"{relay.user}:{relay.password}".encode()).decode()
        if headers.get("Proxy-Authorization") != wanted:
            await client.send_all(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
            )
            return
    host, _, port = target.rpartition(":")
    answer = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 scene\r\n\r\n"
    await relay.connect_and_relay(client, host.strip("[]"), int(port), answer)


async def socks5(relay: Relay, client: trio.SocketStream) -> None:
    version, count = await exactly(client, 2)
    assert version == 5
    methods = await exactly(client, count)
    wanted = 2 if relay.user else 0
    if wanted not in methods:
        await client.send_all(b"\x05\xff")
        return
    await client.send_all(bytes([5, wanted]))
    if wanted:
        _, length = await exactly(client, 2)
        user = await exactly(client, length)
        password = await exactly(client, (await exactly(client, 1))[0])
        good = (user.decode(), password.decode()) == (relay.user, relay.password)
        await client.send_all(b"\x01\x00" if good else b"\x01\x01")
        if not good:
            return
    _, command, _, kind = await exactly(client, 4)
    assert command == 1
    if kind == 3:
        host = (await exactly(client, (await exactly(client, 1))[0])).decode()
    else:
        host = str(ipaddress.ip_address(await exactly(client, 4 if kind == 1 else 16)))
    (port,) = struct.unpack(">H", await exactly(client, 2))
    await relay.connect_and_relay(client, host, port, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")


async def socks4(relay: Relay, client: trio.SocketStream) -> None:
    version, command, port, address = struct.unpack(">BBH4s", await exactly(client, 8))
    assert (version, command) == (4, 1)
    await until_nul(client)
    host = str(ipaddress.ip_address(address))
    if address[:3] == b"\0\0\0" and address[3]:
        host = (await until_nul(client)).decode()
    await relay.connect_and_relay(client, host, port, b"\x00\x5a\x00\x00\x00\x00\x00\x00")


async def until_nul(stream: trio.SocketStream) -> bytes:
    data = b""
    while not data.endswith(b"\0"):
        data += await exactly(stream, 1)
    return data[:-1]


def answering(octets: bytes) -> Handler:
    """A handler that says this to whatever it is asked, and hangs up."""

    async def handle(relay: Relay, client: trio.SocketStream) -> None:
        await client.receive_some()
        await client.send_all(octets)

    return handle
