"""UDP sockets joined to addresses: real datagrams over the loopback."""

from __future__ import annotations

import io
import itertools
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import structlog
import trio

from van.adaptors.udp.connecting import UdpConnectingService
from van.adaptors.udp.listening import UdpListeningService
from van.routing.router import Router
from van.transport.errors import TransportError
from van.transport.service_url import ServiceUrl
from van.transport.udp import DatagramDialer, DatagramPort, bind_udp

PATIENCE = 20.0


def nobody_logs(level: str, event: str, **fields: object) -> None:
    """No log."""


class Scene:
    """A router with a UDP service at both ends."""

    def __init__(self, nursery: trio.Nursery, *, guarded: bool = False) -> None:
        tokens = itertools.count(1)
        self.nursery = nursery
        self.router = Router("scene", tokens=lambda: f"{next(tokens):015d}", now=trio.current_time())
        self.listener = UdpListeningService(self.router, "in", "svc", nobody_logs)
        url = ServiceUrl("udp", "127.0.0.1", 0)
        self.stream = io.StringIO()
        self.logger = structlog.wrap_logger(structlog.PrintLogger(self.stream), wrapper_class=structlog.BoundLogger)
        self.port = DatagramPort(self.listener, url, self.router.wake_touched, self.logger, guarded=guarded)

    async def start(self) -> None:
        await self.port.bind()
        self.nursery.start_soon(self.port.run)
        await until(lambda: "service listening" in self.stream.getvalue())

    async def server(self, port: int, host: str = "127.0.0.1") -> tuple[UdpConnectingService, DatagramDialer]:
        """A connector to a server."""
        service = UdpConnectingService(self.router, "out", "svc", nobody_logs)
        url = ServiceUrl("udp", host, port)
        dialer = DatagramDialer(service, url, self.router.wake_touched, self.logger, guarded=False)
        self.nursery.start_soon(dialer.run)
        await until(lambda: service.on_wake != service.work)
        return service, dialer


@asynccontextmanager
async def scene(*, guarded: bool = False) -> AsyncIterator[Scene]:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            made = Scene(nursery, guarded=guarded)
            await made.start()
            yield made
            nursery.cancel_scope.cancel()


async def open_socket(family: int = socket.AF_INET) -> trio.socket.SocketType:
    sock = trio.socket.socket(family, socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    return sock


@asynccontextmanager
async def server(nursery: trio.Nursery, answer: Callable[[bytes], bytes] = lambda data: data) -> AsyncIterator[int]:
    """A UDP server that answers each datagram. Its port."""
    sock = await open_socket()

    async def run() -> None:
        while True:
            data, peer = await sock.recvfrom(65536)
            await sock.sendto(answer(data), peer)

    with sock:
        nursery.start_soon(run)
        yield sock.getsockname()[1]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()


async def again(ask: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Ask until somebody answers in time."""
    while True:
        with trio.move_on_after(seconds) as waiting:
            await ask()
        if not waiting.cancelled_caught:
            return


async def test_datagrams_there_and_back() -> None:
    async with scene() as running, server(running.nursery) as port:
        connector, _ = await running.server(port)
        with await open_socket() as client:
            await client.connect(("127.0.0.1", running.port.port))
            for size in (0, 1, 255, 256, 1400, 65507):
                await client.send(b"x" * size)
                assert await client.recv(65536) == b"x" * size
        assert connector.flows == running.listener.flows == 1
        assert not connector.losses.counts
        assert not running.listener.losses.counts


async def test_many_clients_each_with_a_flow() -> None:
    async with scene() as running, server(running.nursery, lambda data: data.upper()) as port:
        connector, _ = await running.server(port)
        heard: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            with await open_socket() as client:
                await client.connect(("127.0.0.1", running.port.port))
                for turn in range(3):
                    await client.send(b"question %d/%d" % (number, turn))
                    heard[number] = heard.get(number, b"") + await client.recv(100)

        async with trio.open_nursery() as clients:
            for number in range(50):
                clients.start_soon(ask, number)
        assert heard == {n: b"".join(b"QUESTION %d/%d" % (n, turn) for turn in range(3)) for n in range(50)}
        assert connector.flows == 50


async def test_a_server_that_is_not_there_and_comes() -> None:
    async with scene() as running:
        with await open_socket() as reserved:
            port = reserved.getsockname()[1]
        connector, _ = await running.server(port)
        with await open_socket() as client:
            await client.connect(("127.0.0.1", running.port.port))
            await client.send(b"hello")
            await until(lambda: connector.held_off)
            assert connector.losses.counts["refused"] >= 1
            sock = trio.socket.socket(type=socket.SOCK_DGRAM)
            with sock:
                await sock.bind(("127.0.0.1", port))
                await until(lambda: not connector.held_off)

                async def ask() -> None:
                    await client.send(b"again")
                    assert await sock.recv(100) == b"again"

                await again(ask, 1.0)


async def test_a_name_with_several_addresses_is_tried_until_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as running, server(running.nursery) as port:

        async def both(*_: object, **__: object) -> list[object]:
            found = [(socket.AF_INET, ("127.0.0.2", port)), (socket.AF_INET, ("127.0.0.1", port))]
            return [(family, socket.SOCK_DGRAM, 17, "", address) for family, address in found]

        monkeypatch.setattr(trio.socket, "getaddrinfo", both)
        await running.server(port, "two.test")
        with await open_socket() as client:
            await client.connect(("127.0.0.1", running.port.port))

            async def ask() -> None:
                await client.send(b"hello")
                assert await client.recv(100) == b"hello"

            await again(ask, 0.5)


async def test_a_name_that_does_not_exist_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    async with scene() as running:
        with monkeypatch.context() as patched:
            patched.setattr(trio.socket, "getaddrinfo", nothing)
            connector, driver = await running.server(9, "nowhere.test")
        assert "nowhere.test" in driver.message
        with await open_socket() as client:
            await client.connect(("127.0.0.1", running.port.port))
            await client.send(b"hello")
            await until(lambda: connector.losses.counts.get("no socket") == 1)


async def test_a_port_that_is_taken() -> None:
    with await open_socket() as taken, pytest.raises(TransportError, match=r"cannot listen on 127\.0\.0\.1:"):
        await bind_udp("127.0.0.1", taken.getsockname()[1])


async def test_the_port_is_free_when_the_service_has_stopped() -> None:
    async with scene() as running:
        port = running.port.port
        assert running.port.addresses == [f"127.0.0.1:{port}"]
        running.port.stop()
        await until(lambda: not running.port.addresses)
        assert running.listener.stopped
        for sock in await bind_udp("127.0.0.1", port):
            sock.close()


async def test_a_fault_of_ours_ends_the_service_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with scene() as running:
            monkeypatch.setattr(running.port, "_send", lambda: 1 // 0)
            with await open_socket() as client:
                await client.sendto(b"x", ("127.0.0.1", running.port.port))
                running.listener.session.wake()
                running.router.wake_touched()
                await trio.sleep_forever()


async def test_a_fault_of_ours_is_logged_and_the_service_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(guarded=True) as running, server(running.nursery) as port:
        await running.server(port)
        with await open_socket() as client:
            await client.connect(("127.0.0.1", running.port.port))
            with monkeypatch.context() as patched:
                patched.setattr(running.port, "_send", lambda: len(running.listener.datagrams_to_send()) // 0)
                await client.send(b"lost")
                await until(lambda: running.port.failed > 0)
            assert "a fault of ours" in running.stream.getvalue()
            await client.send(b"again")
            while await client.recv(100) != b"again":
                pass


async def test_another_takes_the_port_over() -> None:
    async with scene() as running, server(running.nursery) as port:
        await running.server(port)
        with await open_socket() as client:
            await client.connect(("127.0.0.1", running.port.port))
            await client.send(b"1")
            assert await client.recv(100) == b"1"
            old = running.port
            running.listener = UdpListeningService(running.router, "heir", "svc", nobody_logs)
            heir = DatagramPort(running.listener, old.url, running.router.wake_touched, running.logger, guarded=False)
            heir.inherit(old)
            assert (heir.port, heir.status, old.status) == (old.port, "up", "down")
            running.nursery.start_soon(heir.run)
            await until(lambda: not old.addresses)
            await client.send(b"2")
            assert await client.recv(100) == b"2"


async def test_a_port_that_another_has_is_waited_for() -> None:
    async with scene() as running:
        with await open_socket() as taken:
            url = ServiceUrl("udp", "127.0.0.1", taken.getsockname()[1])
            service = UdpListeningService(running.router, "late", "svc", nobody_logs)
            late = DatagramPort(service, url, running.router.wake_touched, running.logger, guarded=False)
            running.nursery.start_soon(late.run)
            await until(lambda: "already in use" in late.message)
        await until(lambda: late.addresses != [])
        assert not late.message
        late.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system chooses the address of answers")
@pytest.mark.parametrize("host", ["127.0.0.5", "127.0.0.6", "::1"])
async def test_answers_of_a_wildcard_come_from_the_address_that_was_asked(host: str) -> None:
    async with scene() as running, server(running.nursery) as server_port:
        await running.server(server_port)
        service = UdpListeningService(running.router, "wild", "svc", nobody_logs)
        url = ServiceUrl("udp", "", 0)
        port = DatagramPort(service, url, running.router.wake_touched, running.logger, guarded=False)
        await port.bind()
        running.nursery.start_soon(port.run)
        with await open_socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
            # What comes from elsewhere is not heard.
            await client.connect((host, port.port))
            for text in (b"1", b"2"):
                await client.send(text)
                assert await client.recv(100) == text
        assert service.flows == 1


async def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with scene() as running:
        service = UdpListeningService(running.router, "six", "svc", nobody_logs)
        url = ServiceUrl("udp", "::1", 0)
        port = DatagramPort(service, url, running.router.wake_touched, running.logger, guarded=False)
        await port.bind()
        running.nursery.start_soon(port.run)
        assert port.addresses == [f"[::1]:{port.port}"]
        with await open_socket(socket.AF_INET6) as sink, await open_socket(socket.AF_INET6) as client:
            await running.server(sink.getsockname()[1], "::1")
            await client.connect(("::1", port.port))
            await client.send(b"hello")
            data, peer = await sink.recvfrom(100)
            assert data == b"hello"
            await sink.sendto(b"you too", peer)
            assert await client.recv(100) == b"you too"


async def test_where_there_is_no_poller_tasks_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("van.transport.udp.the_poller", lambda: None)
    async with scene() as running, server(running.nursery) as port:
        await running.server(port)
        with await open_socket() as client:
            await client.connect(("127.0.0.1", running.port.port))
            for text in (b"1", b"2"):
                await client.send(text)
                assert await client.recv(100) == text
        running.port.stop()
        await until(lambda: not running.port.addresses)


async def test_a_flood_is_read_in_batches_and_loses_only_what_it_must() -> None:
    async with scene() as running:
        received: list[bytes] = []
        with await open_socket() as sink:

            async def receive() -> None:
                while True:
                    received.append(await sink.recv(100))

            running.nursery.start_soon(receive)
            connector, _ = await running.server(sink.getsockname()[1])
            with await open_socket() as client:
                await client.connect(("127.0.0.1", running.port.port))
                for number in range(2000):
                    await client.send(b"%d" % number)
                    if number % 20 == 0:
                        await trio.lowlevel.checkpoint()

                async def finish() -> None:
                    await client.send(b"2000")
                    await until(lambda: received[-1:] == [b"2000"])

                await again(finish, 1.0)
        numbers = [int(data) for data in received]
        assert numbers == sorted(numbers)
        lost = sum(count for reason, count in running.listener.losses.counts.items() if reason != "socket full")
        assert running.listener.datagrams_in == connector.datagrams_out + lost
