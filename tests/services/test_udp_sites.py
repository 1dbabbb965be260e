"""Datagrams of real programs over three sites: syslog, and an echo that keeps state of its clients, as QUIC does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from tests.router.site_file import SiteFile
from tests.services.networks import Sites, sites, until
from van.router.management import service_facts
from van.router.site import Site

CLIENTS = 40
TURNS = 5


@pytest.fixture
def site_file(tmp_path: Path) -> SiteFile:
    return SiteFile(tmp_path)


class Echo:
    """A server that knows its clients by their address, and answers each with what it is to it.

    A datagram is `CLIENT COUNT`: one that does not follow upon what this server has of the client is told so.
    """

    def __init__(self, name: str, sock: trio.socket.SocketType) -> None:
        self.name = name
        self.sock = sock
        self.port: int = sock.getsockname()[1]
        self.clients: dict[tuple[str, int], tuple[str, int]] = {}
        self.received = 0

    async def run(self) -> None:
        with suppress(trio.ClosedResourceError):
            await self._answer()

    async def _answer(self) -> None:
        while True:
            data, peer = await self.sock.recvfrom(65536)
            self.received += 1
            client, count = data.decode().split()
            known, before = self.clients.get(peer, (client, 0))
            self.clients[peer] = (client, int(count))
            right = known == client and int(count) in (before, before + 1)
            await self.sock.sendto(f"{self.name} {client} {count} {'ok' if right else 'wrong'}".encode(), peer)


@asynccontextmanager
async def echo(nursery: trio.Nursery, name: str) -> AsyncIterator[Echo]:
    with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        made = Echo(name, sock)
        nursery.start_soon(made.run)
        yield made


def behind(port: int, address: str = "echo") -> str:
    return f'\n[[service]]\nconnect = "udp://127.0.0.1:{port}"\naddress = "{address}"\n'


def before(address: str = "echo") -> str:
    return f'\n[[service]]\nname = "in"\nlisten = "udp://127.0.0.1:0"\naddress = "{address}"\n'


def port_of(site: Site) -> int:
    return site.services.running["in"].endpoint.port


async def network(running: Sites, first: str, second: str, third: str, modes: tuple[str, str]) -> list[Site]:
    """Three sites, those at the ends interior or edges."""
    middle = await running.start("middle", second)
    near = await running.start("near", first, mode=modes[0])
    running.last(middle)
    far = await running.start("far", third, mode=modes[1])
    await running.joined()
    return [near, middle, far]


async def reachable(site: Site, name: str = "in") -> None:
    """Until clients' datagrams would find somebody."""
    service = site.services.running[name].service
    await until(lambda: service.reachable)  # type: ignore[attr-defined]


async def ask(client: trio.socket.SocketType, name: str, count: int) -> str:
    """Send until there is an answer to this: datagrams may be lost."""
    while True:
        await client.send(f"{name} {count}".encode())
        with trio.move_on_after(1.0):
            while True:
                server, who, number, verdict = (await client.recv(1000)).decode().split()
                if int(number) == count:
                    assert (who, verdict) == (name, "ok")
                    return server


@asynccontextmanager
async def client_of(port: int) -> AsyncIterator[trio.socket.SocketType]:
    with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
        await sock.connect(("127.0.0.1", port))
        yield sock


MODES = [("interior", "interior"), ("edge", "interior"), ("interior", "edge"), ("edge", "edge")]


@pytest.mark.parametrize("modes", MODES)
async def test_many_clients_keep_their_server(site_file: SiteFile, modes: tuple[str, str]) -> None:
    async with (
        sites(site_file) as running,
        trio.open_nursery() as nursery,
        echo(nursery, "one") as one,
        echo(nursery, "two") as two,
    ):
        near, _, far = await network(running, before(), behind(one.port), behind(two.port), modes)
        await reachable(near)
        both = far.services.running[f"connect/127.0.0.1:{two.port}"].service
        servers: dict[str, set[str]] = {}

        async def run(name: str) -> None:
            async with client_of(port_of(near)) as sock:
                for count in range(1, TURNS + 1):
                    servers.setdefault(name, set()).add(await ask(sock, name, count))

        async with trio.open_nursery() as clients:
            for number in range(CLIENTS):
                clients.start_soon(run, f"c{number}")
        assert len(servers) == CLIENTS
        assert {len(found) for found in servers.values()} == {1}
        spread = Counter(next(iter(found)) for found in servers.values())
        assert spread["one"] + spread["two"] == CLIENTS
        assert both.connections == spread["two"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("modes", [MODES[0], MODES[3]])
async def test_a_server_dies_and_the_other_has_its_clients(site_file: SiteFile, modes: tuple[str, str]) -> None:
    async with (
        sites(site_file) as running,
        trio.open_nursery() as nursery,
        echo(nursery, "one") as one,
        echo(nursery, "two") as two,
    ):
        near, *_ = await network(running, before(), behind(one.port), behind(two.port), modes)
        await reachable(near)
        async with client_of(port_of(near)) as sock:
            first = await ask(sock, "anna", 1)
            dying = one if first == "one" else two
            dying.sock.close()
            other = "two" if first == "one" else "one"
            # The other does not know the client: to it, this is the first.
            dying.clients.clear()
            assert await ask(sock, "anna", 1) == other
            assert await ask(sock, "anna", 2) == other
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("modes", [MODES[0], MODES[2]])
async def test_the_site_of_a_server_dies_and_the_other_has_its_clients(
    site_file: SiteFile, modes: tuple[str, str]
) -> None:
    async with (
        sites(site_file) as running,
        trio.open_nursery() as nursery,
        echo(nursery, "far") as far_server,
        echo(nursery, "near") as near_server,
    ):
        near, middle, _ = await network(running, before(), "", behind(far_server.port), modes)
        await reachable(near)
        async with client_of(port_of(near)) as sock:
            assert await ask(sock, "anna", 1) == "far"
            running.stop("far")
            config = site_file.load(f'[[listener]]\nurl = "amqp://127.0.0.1:0"\n{behind(near_server.port)}')
            middle.services.commit(await middle.services.prepare(config.services, {}))
            middle.wake()
            assert await ask(sock, "anna", 1) == "near"
        nursery.cancel_scope.cancel()


@pytest.mark.interop
async def test_syslog(site_file: SiteFile) -> None:
    logger = shutil.which("logger")
    if logger is None:
        if os.environ.get("VAN_REQUIRE_INTEROP") == "1":
            pytest.fail("logger is missing: install bsdutils")
        pytest.skip("logger is not installed (Debian: bsdutils)")
    with trio.socket.socket(type=socket.SOCK_DGRAM) as collector:
        await collector.bind(("127.0.0.1", 0))
        async with sites(site_file) as running:
            near, *_ = await network(
                running, before("syslog"), "", behind(collector.getsockname()[1], "syslog"), ("interior", "interior")
            )
            await reachable(near)
            for number in range(5):
                text = f"line {number}"
                command = [logger, "--udp", "--server", "127.0.0.1", "--port", str(port_of(near)), "--tag", "van", text]
                with trio.move_on_after(20):
                    await trio.run_process(command, stderr=subprocess.STDOUT)
                    said = (await collector.recv(2000)).decode()
                assert "van" in said
                assert said.rstrip("\0\n").endswith(text)
            service = near.services.running["in"].service
            assert (service.datagrams_in, service.datagrams_out) == (5, 0)  # type: ignore[attr-defined]


async def test_multicast_reaches_the_servers_of_all_sites(site_file: SiteFile) -> None:
    spread = '\n[[address]]\nprefix = "echo"\ndistribution = "multicast"\n'
    async with (
        sites(site_file) as running,
        trio.open_nursery() as nursery,
        echo(nursery, "one") as one,
        echo(nursery, "two") as two,
    ):
        texts = (spread + before(), spread + behind(one.port), spread + behind(two.port))
        near, *_ = await network(running, *texts, MODES[0])
        await reachable(near)
        heard: set[str] = set()
        async with client_of(port_of(near)) as sock:
            while len(heard) < 2:
                await sock.send(b"anna 1")
                with trio.move_on_after(0.2):
                    while len(heard) < 2:
                        heard.add((await sock.recv(1000)).decode())
        assert heard == {"one anna 1 ok", "two anna 1 ok"}
        nursery.cancel_scope.cancel()


async def test_what_is_lost_is_told_by_management(site_file: SiteFile) -> None:
    async with sites(site_file) as running:
        site = await running.start("A", before() + "max_datagram_size = 10\n")
        service = site.services.running["in"]
        with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
            await sock.connect(("127.0.0.1", port_of(site)))
            await sock.send(b"x" * 11)
            await sock.send(b"nobody")
            await until(lambda: sum(service_facts(service).dropped.values()) == 2)
        assert service_facts(service).dropped == {"too large": 1, "nobody there": 1}
