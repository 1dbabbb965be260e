"""Two sites with the same private subnet, behind NAT and a proxy that lets only CONNECT to port 443 pass, and a third
that both dial out to over wss: whoever is anywhere reaches everybody.

    east 10.0.0.2 ─ east-nat ─┐                  ┌─ proxy 203.0.113.20:3128 (tinyproxy, with a password)
                              ├─ 203.0.113.0/24 ─┤
    west 10.0.0.2 ─ west-nat ─┘                  └─ hub 203.0.113.30:443

Everything is in network namespaces of its own; the machine's network is not touched. Needs root, Linux, `ip`, `nft` and
`tinyproxy`, and says so where one is missing; with VAN_REQUIRE_NAMESPACES=1 that is a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import trustme

from tests.chaos.participant import NEWS, ORDERS, REQUESTS

PROJECT = Path(__file__).parents[2]
SITES = ("east", "west", "hub")
PLACES = ("net", "east", "east-nat", "west", "west-nat", "proxy", "hub")
PROXY = "203.0.113.20"
HUB = "203.0.113.30"
# Seconds for any one step, far more than it needs.
PATIENCE = 20.0

INTERIOR = """
[router]
id = "{name}"
mode = "interior"
[[listener]]
url = "amqp://127.0.0.1:5672"
[[address]]
pattern = "news"
distribution = "multicast"
[[ssl_profile]]
name = "network"
ca_cert_file = "ca.pem"
cert_file = "{name}.pem"
private_key_file = "{name}.key"
[log]
format = "json"
"""

LISTENS = f"""
[[listener]]
url = "wss://{HUB}/van"
role = "inter-router"
ssl_profile = "network"
sasl_mechanisms = ["EXTERNAL"]
"""

CONNECTS = f"""
[[connector]]
url = "wss://{HUB}/van"
role = "inter-router"
ssl_profile = "network"
proxy = "http://site:sesame@{PROXY}:3128"
"""

# Each site's web server has the same private address as the other's; by the names of addresses everybody has both.
SERVED = """
[[service]]
connect = "tcp://10.0.0.2:8000"
address = "{name}-web"
"""

NAMED = """
[[dns]]
listen = "udp://127.0.0.1:5353"
zone = "van"
"""

# The only way out of a site is to the proxy; it comes from the NAT's own address.
NAT_RULES = f"""
table ip nat {{
    chain post {{
        type nat hook postrouting priority 100;
        oifname "out" masquerade
    }}
}}
table ip way {{
    chain through {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        ip daddr {PROXY} tcp dport 3128 accept
    }}
}}
"""

# tinyproxy itself would fetch pages as well: there is no way out of it but to port 443.
PROXY_RULES = """
table ip way {
    chain out {
        type filter hook output priority 0; policy drop;
        ct state established,related accept
        tcp dport 443 accept
    }
}
"""

TINYPROXY = f"""
Port 3128
Listen {PROXY}
Timeout 600
MaxClients 20
BasicAuth site sesame
ConnectPort 443
LogLevel Info
"""


def missing(what: str) -> NoReturn:
    if os.environ.get("VAN_REQUIRE_NAMESPACES") == "1":
        pytest.fail(f"VAN_REQUIRE_NAMESPACES=1, but {what}", pytrace=False)
    pytest.skip(f"sites in network namespaces: {what}")


def run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


class Network:
    """The namespaces and what runs in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = f"van{os.getpid()}-"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    # -- places --------------------------------------------------------------------------------------------------

    def inside(self, place: str, *command: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.prefix + place, *command)

    def build(self) -> None:
        for place in PLACES:
            run("ip", "netns", "add", self.prefix + place)
            run(*self.inside(place, "ip", "link", "set", "lo", "up"))
        run(*self.inside("net", "ip", "link", "add", "bridge", "type", "bridge"))
        run(*self.inside("net", "ip", "link", "set", "bridge", "up"))
        for number, (place, address) in enumerate(
            (("east-nat", "203.0.113.11"), ("west-nat", "203.0.113.12"), ("proxy", PROXY), ("hub", HUB))
        ):
            self._cable("net", f"port{number}", place, "out")
            run(*self.inside("net", "ip", "link", "set", f"port{number}", "master", "bridge"))
            run(*self.inside(place, "ip", "address", "add", f"{address}/24", "dev", "out"))
        run(*self.inside("proxy", "nft", "-f", "-"), text=PROXY_RULES)
        for site in ("east", "west"):
            self._cable(f"{site}-nat", "in", site, "out")
            run(*self.inside(f"{site}-nat", "ip", "address", "add", "10.0.0.1/24", "dev", "in"))
            run(*self.inside(site, "ip", "address", "add", "10.0.0.2/24", "dev", "out"))
            run(*self.inside(site, "ip", "route", "add", "default", "via", "10.0.0.1"))
            run(*self.inside(f"{site}-nat", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"))
            run(*self.inside(f"{site}-nat", "nft", "-f", "-"), text=NAT_RULES)

    def _cable(self, one: str, one_end: str, other: str, other_end: str) -> None:
        ends = (one_end, "netns", self.prefix + one, "type", "veth", "peer", "name", other_end)
        run("ip", "link", "add", *ends, "netns", self.prefix + other)
        run(*self.inside(one, "ip", "link", "set", one_end, "up"))
        run(*self.inside(other, "ip", "link", "set", other_end, "up"))

    def tear_down(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        for place in PLACES:
            subprocess.run(["ip", "netns", "delete", self.prefix + place], capture_output=True, check=False)

    # -- programs ------------------------------------------------------------------------------------------------

    def start(self, name: str, place: str, *command: str) -> subprocess.Popen[bytes]:
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(self.inside(place, *command), cwd=PROJECT, stdout=log, stderr=log)
        self.processes[name] = process
        return process

    def end(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def router(self, site: str) -> None:
        text = INTERIOR.format(name=site) + NAMED + (LISTENS if site == "hub" else CONNECTS + SERVED.format(name=site))
        path = self.folder / f"{site}.toml"
        path.write_text(text)
        self.start(site, site, sys.executable, "-m", "van.router", str(path))
        self.wait_for_line(site, '"event": "ready"')

    def web_server(self, site: str) -> None:
        """Something to be reached at the site's private address: it says in which site it is."""
        pages = self.folder / f"{site}-pages"
        pages.mkdir()
        (pages / "where").write_text(site)
        options = ("--bind", "10.0.0.2", "--directory", str(pages), "8000")
        self.start(f"{site}-web", site, sys.executable, "-m", "http.server", *options)

    def proxy(self) -> None:
        path = self.folder / "tinyproxy.conf"
        path.write_text(TINYPROXY)
        self.log("proxy").unlink(missing_ok=True)
        self.start("proxy", "proxy", "tinyproxy", "-d", "-c", str(path))
        self.wait_for_line("proxy", "Accepting connections")

    def wait_for_line(self, name: str, what: str, times: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.log(name).read_text().count(what) < times:
            assert self.processes[name].poll() is None, self.log(name).read_text()
            assert time.monotonic() < deadline, f"no {what} from {name}: {self.log(name).read_text()[-2000:]}"
            time.sleep(0.05)

    def exchange(self) -> dict[str, dict[str, object]]:
        """A participant at every site; what each of them has seen."""
        participants = {
            site: subprocess.Popen(
                self.inside(
                    site, sys.executable, "-m", "tests.chaos.participant", "amqp://127.0.0.1:5672", site,
                    *(other for other in SITES if other != site),
                ),
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for site in SITES
        }  # fmt: skip
        seen: dict[str, dict[str, object]] = {}
        for site, participant in participants.items():
            try:
                out, errors = participant.communicate(timeout=90)
            finally:
                participant.kill()
            assert participant.returncode == 0, f"{site}: {out}{errors}"
            seen[site] = json.loads(out)
        return seen


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        missing("root is needed")
    for program in ("ip", "nft", "tinyproxy"):
        if shutil.which(program) is None:
            missing(f"there is no {program}")
    probe = ["unshare", "--net", "nft", "add", "table", "ip", "van"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        missing("no network namespaces with rules of their own may be made here")
    folder = tmp_path_factory.mktemp("namespaces")
    authority = trustme.CA()
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    for site in SITES:
        issued = authority.issue_cert(HUB if site == "hub" else f"{site}.example.com")
        (folder / f"{site}.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (folder / f"{site}.key").write_bytes(issued.private_key_pem.bytes())
    network = Network(folder)
    try:
        network.build()
        network.proxy()
        # East and west first: they find the hub when it comes.
        for site in SITES:
            network.router(site)
        for site in ("east", "west"):
            network.web_server(site)
        yield network
    finally:
        network.tear_down()


def test_the_proxy_lets_nothing_but_connect_to_443_pass_and_nothing_passes_beside_it(network: Network) -> None:
    def answer(place: str, host: str, port: int, request: str) -> str:
        script = (
            "import socket, sys\n"
            f"with socket.create_connection(({host!r}, {port}), timeout=2) as stream:\n"
            f"    stream.settimeout(2); stream.sendall({request.encode()!r}); print(stream.recv(100).decode())\n"
        )
        done = subprocess.run(
            network.inside(place, sys.executable, "-c", script), capture_output=True, text=True, timeout=20, check=False
        )
        # The status line, or the name of the exception.
        return done.stdout.partition("\r\n")[0] or done.stderr.splitlines()[-1].partition(":")[0]

    authorization = "Proxy-Authorization: Basic c2l0ZTpzZXNhbWU=\r\n"
    assert " 200 " in answer("east", PROXY, 3128, f"CONNECT {HUB}:443 HTTP/1.1\r\n{authorization}\r\n")
    assert " 403 " in answer("east", PROXY, 3128, f"CONNECT {HUB}:5671 HTTP/1.1\r\n{authorization}\r\n")
    assert " 407 " in answer("east", PROXY, 3128, f"CONNECT {HUB}:443 HTTP/1.1\r\n\r\n")
    assert answer("east", HUB, 443, "GET / HTTP/1.1\r\n\r\n") == "TimeoutError"
    assert " 200 " not in answer("east", PROXY, 3128, f"GET http://{HUB}/ HTTP/1.1\r\n{authorization}\r\n")


def check_that_all_reached_all(seen: dict[str, dict[str, object]]) -> None:
    for site in SITES:
        others = [other for other in SITES if other != site]
        orders = {f"{other} {number}" for other in others for number in range(ORDERS)}
        orders |= {f"{other} large of 2000000" for other in others}
        assert seen[site]["orders"] == dict.fromkeys(orders, 1), "each order came once"
        news = {f"{other} {number}" for other in SITES for number in range(NEWS)}
        assert seen[site]["news"] == dict.fromkeys(news, 1), "each news came once"
        assert seen[site]["outcomes"] == {"ACCEPTED": 2 * (ORDERS + 1) + NEWS}
        assert seen[site]["answers"] == [f"{site} {number}".upper() for _ in others for number in range(REQUESTS)]
        assert seen[site]["reply_to"] == sorted(f"amqp:/_topo/0/{other}" for other in others)


def test_everybody_reaches_everybody(network: Network) -> None:
    check_that_all_reached_all(network.exchange())


@pytest.mark.parametrize("site", SITES)
def test_two_sites_with_the_same_private_addresses_are_reached_by_name(network: Network, site: str) -> None:
    script = (
        "import dns.exception, dns.resolver, time, urllib.request\n"
        "resolver = dns.resolver.Resolver(configure=False)\n"
        "resolver.nameservers, resolver.port = ['127.0.0.1'], 5353\n"
        f"end = time.monotonic() + {PATIENCE}\n"
        "for name in ('east-web.van', 'west-web.van'):\n"
        "    while True:\n"
        "        try:\n"
        "            (host,) = resolver.resolve(name, 'A')\n"
        "            answer = urllib.request.urlopen(f'http://{host}:8000/where', timeout=5).read().decode()\n"
        "            break\n"
        "        except (OSError, dns.exception.DNSException):\n"
        "            assert time.monotonic() < end\n"
        "            time.sleep(0.1)\n"
        "    print(answer)\n"
    )
    assert run(*network.inside(site, sys.executable, "-c", script)).split() == ["east", "west"]


def test_also_after_the_proxy_was_gone_for_a_while(network: Network) -> None:
    network.end("proxy")
    for site in ("east", "west"):
        network.wait_for_line(site, "connection lost")
    time.sleep(1.0)
    network.proxy()
    check_that_all_reached_all(network.exchange())


def test_no_router_has_a_fault_to_tell_of(network: Network) -> None:
    for site in SITES:
        log = network.log(site).read_text()
        with contextlib.suppress(AssertionError):
            print(log[-2000:])
        assert "Traceback" not in log
        assert '"critical"' not in log
