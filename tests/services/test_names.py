"""Addresses are names: dig and a real resolver library ask, and programs connect to what they hear."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import pytest
import trio

from tests.router.site_file import SiteFile
from tests.services.networks import ask, dns_port, question, sites, until
from van.adaptors.dns.rate import BURST, ResponseRate
from van.router.site import Site

NAMES = '\n[[dns]]\nlisten = "udp://127.0.0.1:0"\nzone = "van"\n'


@pytest.fixture
def site_file(tmp_path: Path) -> SiteFile:
    return SiteFile(tmp_path)


def connect(address: str, port: int, scheme: str = "tcp") -> str:
    return f'\n[[service]]\nconnect = "{scheme}://127.0.0.1:{port}"\naddress = "{address}"\n'


async def server(nursery: trio.Nursery, greeting: bytes) -> int:
    """A TCP server that says something. Its port."""

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(greeting)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, greet, [listener])
    return int(listener.socket.getsockname()[1])


async def hear(host: str, port: int) -> bytes:
    stream = await trio.open_tcp_stream(host, port)
    async with stream:
        return bytes(await stream.receive_some(100))


INTERIOR, EDGE = "interior", "edge"


@pytest.mark.parametrize("modes", [(INTERIOR, INTERIOR), (EDGE, INTERIOR), (INTERIOR, EDGE), (EDGE, EDGE)])
async def test_a_name_leads_to_a_server_two_sites_away_without_a_port_in_any_configuration(
    site_file: SiteFile, modes: tuple[str, str]
) -> None:
    async with sites(site_file) as running, trio.open_nursery() as nursery:
        port = await server(nursery, b"orders here")
        middle = await running.start("B")
        first = await running.start("A", NAMES, mode=modes[0])
        running.last(middle)
        await running.start("C", connect("orders-db", port), mode=modes[1])
        await running.joined()
        await until(lambda: bool(first.names.find("orders-db")))
        (host,) = await ask(first, "orders-db.van")
        assert host.startswith("127.64.")
        assert await ask(first, "orders-db.van", "SRV", tcp=True) == [f"0 0 {port} orders-db.van."]
        assert await ask(first, "_x._tcp.orders-db.van", "SRV") == [f"0 0 {port} orders-db.van."]
        assert await ask(first, "orders-db.van", "TXT") == ['"address=orders-db" "scheme=tcp"']
        assert await ask(first, "_x._udp.orders-db.van", "SRV") == []
        assert await hear(host, port) == b"orders here"
        assert [name for name in first.services.running if name.startswith("dns/")] == ["dns/van/tcp/orders-db"]
        nursery.cancel_scope.cancel()


async def test_a_site_without_a_network(site_file: SiteFile) -> None:
    async with sites(site_file) as running, trio.open_nursery() as nursery:
        port = await server(nursery, b"alone")
        site = await running.start("A", NAMES + connect("one", port), mode="standalone")
        (host,) = await ask(site, "one.van")
        assert await hear(host, port) == b"alone"
        nursery.cancel_scope.cancel()


async def test_a_port_of_this_site_is_what_its_name_leads_to(site_file: SiteFile) -> None:
    async with sites(site_file) as running, trio.open_nursery() as nursery:
        port = await server(nursery, b"news here")
        here = '\n[[service]]\nlisten = "tcp://127.0.0.1:0"\naddress = "news.eu"\n'
        site = await running.start("A", NAMES + here + connect("news.eu", port))
        assert await ask(site, "news.eu.van") == ["127.0.0.1"]
        (answer,) = await ask(site, "news.eu.van", "SRV")
        assert await hear("127.0.0.1", int(answer.split()[2])) == b"news here"
        assert not [name for name in site.services.running if name.startswith("dns/")]
        assert (await question(site, "eu.van")).rcode() == dns.rcode.NOERROR
        assert (await question(site, "nothing.van")).rcode() == dns.rcode.NXDOMAIN
        assert (await question(site, "example.com")).rcode() == dns.rcode.REFUSED
        nursery.cancel_scope.cancel()


async def test_a_port_of_this_site_of_another_scheme_is_what_its_name_leads_to(site_file: SiteFile) -> None:
    """Whoever set up HTTP/2 there, or TLS, wants no plain port beside it."""
    async with sites(site_file) as running:
        here = '\n[[service]]\nlisten = "http2://127.0.0.1:0"\naddress = "news"\n'
        site = await running.start("A", NAMES + here + connect("news", 9) + connect("news", 9, "udp"))
        running_here = site.services.running
        (port,) = [each.endpoint.port for each in running_here.values() if each.entry.url.scheme == "http2"]
        heard = await ask(site, "news.van", "SRV")
        assert port in {int(answer.split()[2]) for answer in heard}
        assert len(heard) == 2
        # It takes no datagrams.
        assert [name.split("/")[2] for name in running_here if name.startswith("dns/")] == ["udp"]


async def test_services_that_come_and_go_are_names_at_once(site_file: SiteFile) -> None:
    async with sites(site_file) as running:
        first = await running.start("A", NAMES)
        second = await running.start("B", connect("one", 9))
        await running.joined()
        await until(lambda: bool(first.names.find("one")))
        directory = first.names.directory
        assert directory is not None
        config = site_file.load(f'[router]\nid = "B"\n[[listener]]\nurl = "amqp://127.0.0.1:0"\n{connect("two", 9)}')
        changes = await second.services.prepare(config.services, {})
        second.services.commit(changes)
        second.wake()
        await until(lambda: list(directory.addresses()) == ["two"])
        assert await ask(first, "two.van", "TXT") == ['"address=two" "scheme=tcp"']
        assert (await question(first, "one.van")).rcode() == dns.rcode.NXDOMAIN


async def test_ports_on_demand_are_bounded_and_closed_when_they_are_idle(site_file: SiteFile) -> None:
    services = "".join(connect(f"s{number}", 7000 + number) for number in range(4))
    async with sites(site_file) as running:
        site = await running.start("A", NAMES + "max_ports = 2\nttl_seconds = 0\nidle_timeout_seconds = 1\n" + services)
        zone = site.names.zones[0]
        for number in range(4):
            assert await ask(site, f"s{number}.van") != []
        # Those that were asked for first had to go.
        assert [address for address, _ in zone.opened] == ["s2", "s3"]
        opened = zone.opened["s3", "tcp"]
        zone.close_idle_ports(opened.asked_at + 0.5)
        assert len(zone.opened) == 2
        zone.close_idle_ports(opened.asked_at + 2)
        assert not zone.opened
        assert not [name for name in site.services.running if name.startswith("dns/")]
        # The same name has the same host again.
        assert await ask(site, "s3.van") == [opened.running.entry.url.host]


async def test_a_port_number_that_cannot_be_had_is_replaced(site_file: SiteFile) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        text = NAMES + 'pool = "127.0.0.1"\n' + connect("s", port)
        async with sites(site_file) as running:
            site = await running.start("A", text)
            assert await ask(site, "s.van") == ["127.0.0.1"]
            (answer,) = await ask(site, "s.van", "SRV")
            assert int(answer.split()[2]) not in (0, port)


async def test_a_port_that_cannot_be_had_at_all_is_said(site_file: SiteFile) -> None:
    async with sites(site_file) as running:
        site = await running.start("A", NAMES + 'pool = "198.51.100.0/30"\n')
        zone = site.names.zones[0]
        zone.host = "198.51.100.1"
        site.services.commit(await site.services.prepare(site_file.load(PLAIN + connect("s", 9)).services, {}))
        assert (await question(site, "s.van")).rcode() == dns.rcode.SERVFAIL
        assert running.lines("no port for a name")


async def test_without_ports_on_demand_there_is_the_name_alone(site_file: SiteFile) -> None:
    async with sites(site_file) as running:
        site = await running.start("A", NAMES + "on_demand = false\n" + connect("s", 9))
        answer = await question(site, "s.van")
        assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])
        assert await ask(site, "s.van", "TXT") == ['"address=s" "scheme=tcp"']


async def test_a_real_resolver_library(site_file: SiteFile) -> None:
    async with sites(site_file) as running, trio.open_nursery() as nursery:
        port = await server(nursery, b"hello")
        site = await running.start("A", NAMES + connect("orders/eu", port))
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = dns_port(site)
        (found,) = await resolver.resolve("_orders._tcp.orders--seu.van", "SRV")
        (host,) = await resolver.resolve(found.target, "A")
        assert await hear(host.to_text(), found.port) == b"hello"
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve("nothing.van", "A")
        with pytest.raises(dns.resolver.NoAnswer):
            await resolver.resolve("orders--seu.van", "AAAA")
        nursery.cancel_scope.cancel()


@pytest.mark.interop
async def test_dig(site_file: SiteFile) -> None:
    dig = shutil.which("dig")
    if dig is None:
        if os.environ.get("VAN_REQUIRE_INTEROP") == "1":
            pytest.fail("dig is missing: install bind9-dnsutils")
        pytest.skip("dig is not installed (Debian: bind9-dnsutils)")
    async with sites(site_file) as running:
        site = await running.start("A", NAMES + connect("orders-db", 5432) + connect("syslog", 514, "udp"))

        async def run(*words: str) -> str:
            command = [dig, "-p", str(dns_port(site)), "@127.0.0.1", "+tries=1", *words]
            done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
            return done.stdout.decode()

        host = (await run("+short", "orders-db.van")).strip()
        assert host.startswith("127.64.")
        assert (await run("+short", "+tcp", "orders-db.van", "A")).strip() == host
        assert (await run("+short", "orders-db.van", "SRV")).strip() == "0 0 5432 orders-db.van."
        assert (await run("+short", "_syslog._udp.syslog.van", "SRV")).strip().endswith(" syslog.van.")
        assert "status: NXDOMAIN" in await run("nothing.van")
        assert "status: REFUSED" in await run("example.com")
        assert "status: REFUSED" in await run("orders-db.van", "ANY")
        assert "status: REFUSED" in await run("van", "AXFR") or "Transfer failed" in await run("van", "AXFR")
        said = await run("+edns=0", "+bufsize=4096", "orders-db.van")
        assert "status: NOERROR" in said
        assert "flags: qr aa" in said
        assert "EDNS: version: 0" in said
        assert "udp: 1232" in said


# --- bad input


PLAIN = '[router]\nid = "A"\n[[listener]]\nurl = "amqp://127.0.0.1:0"\n'


async def test_garbage_and_silence_over_tcp_and_udp(site_file: SiteFile) -> None:
    async with sites(site_file) as running:
        site = await running.start("A", NAMES + connect("s", 9))
        port = dns_port(site)
        for octets in (b"\x00", b"\x00\x00", b"\xff\xff" + b"x" * 70000, b"\x00\x03abc", b"GET / HTTP/1.1\r\n\r\n"):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                try:
                    await stream.send_all(octets)
                    await stream.send_eof()
                    while await stream.receive_some(1000):
                        pass
                except trio.BrokenResourceError:
                    pass
        with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
            await sock.connect(("127.0.0.1", port))
            for octets in (b"", b"x" * 11, b"x" * 12, b"\x00" * 65000):
                await sock.send(octets)
        # One line for all of them.
        assert [line["reason"] for line in running.lines("question refused")] == ["not a question"]
        assert await ask(site, "s.van", "TXT")
        assert site.names.zones[0].server.failed == 0


class FromElsewhere:
    """Takes questions of this machine for those of another: only they are limited."""

    def __init__(self) -> None:
        self.rate = ResponseRate()

    def judge(self, host: str, now: float) -> int:
        return self.rate.judge("192.0.2.1", now)


async def test_too_many_questions_of_one_network_are_limited(
    site_file: SiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sites(site_file) as running:
        site = await running.start("A", NAMES + connect("s", 9))
        monkeypatch.setattr(site.names.zones[0].server, "rate", FromElsewhere())
        for _ in range(int(BURST)):
            assert not (await question(site, "s.van", "TXT")).flags & dns.flags.TC
        query = dns.message.make_query("s.van", "TXT").to_wire()
        with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
            await sock.connect(("127.0.0.1", dns_port(site)))
            while True:
                # Who is limited has one answered in two, by "come by TCP".
                await sock.send(query)
                with trio.move_on_after(0.1):
                    if dns.message.from_wire(await sock.recv(1000)).flags & dns.flags.TC:
                        break
        assert (await question(site, "s.van", "TXT", tcp=True)).answer
        assert len(running.lines("questions limited")) == 1


async def test_many_that_wait_are_told_to_come_later_and_news_end_the_wait(
    site_file: SiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("van.transport.dns.MAX_PENDING", 2)
    monkeypatch.setattr("van.router.dns.WAIT_SECONDS", 600.0)
    async with sites(site_file) as running:
        first = await running.start("A", NAMES)
        second = await running.start("B", connect("there", 9))
        await running.joined()
        await until(lambda: bool(first.names.find("there")))
        codes: list[int] = []

        async def miss(number: int) -> None:
            codes.append((await question(first, f"{number}.van", "TXT")).rcode())

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(miss, number)
            await until(lambda: len(codes) == 4)
            assert set(codes) == {dns.rcode.SERVFAIL}
            news = "".join(connect(f"{number}", 10 + number) for number in range(6))
            second.services.commit(await second.services.prepare(site_file.load(PLAIN + news).services, {}))
            second.wake()
        assert codes[4:] == [dns.rcode.NOERROR] * 2


async def test_two_zones_and_a_port_that_another_has(site_file: SiteFile) -> None:
    two = NAMES + NAMES.replace('"van"', '"test"')
    async with sites(site_file) as running:
        site = await running.start("A", two + connect("s", 9))
        ports = [zone.server.port for zone in site.names.zones]
        assert len(set(ports)) == 2
        other = f'{PLAIN}[[dns]]\nlisten = "udp://127.0.0.1:{ports[0]}"\n'
        assert await Site(site_file.load(other)).run() == 1
