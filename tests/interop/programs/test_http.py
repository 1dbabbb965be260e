"""nginx and servers of Python over three sites by HTTP/1.1: request by request, there and back, as they come."""

from __future__ import annotations

import collections
import hashlib
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.harness import Program
from tests.interop.programs.servers import find, nginx
from tests.interop.programs.sites import Sites, ports, service, three_sites

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent
PATIENCE = 60
ADDRESSES = ("web", "live")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("programs")
    with nginx(folder / "one", "one") as one, nginx(folder / "two", "two") as two:
        live = Program([sys.executable, str(HERE / "live.py")])
        here = ports(*ADDRESSES)
        west = "".join(service("listen", f"http://127.0.0.1:{port}", address) for address, port in here.items())
        east = service("connect", f"http://127.0.0.1:{one}", "web", name="one")
        east += service("connect", f"http://127.0.0.1:{two}", "web", name="two")
        east += service("connect", f"http://127.0.0.1:{live.line()}", "live")
        try:
            with three_sites(folder, west, east) as running:
                running.ports = here
                # The ports are open at once: without a server they answer 503.
                for address in ADDRESSES:
                    running.wait_for_address(running.west, address)
                yield running
        finally:
            live.kill()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_requests_of_one_connection_go_to_both_servers(sites: Sites) -> None:
    url = f"http://127.0.0.1:{sites.ports['web']}/hello"
    said = run(find("curl", "curl"), "-sS", "--fail", "-v", *[url] * 20)
    count = collections.Counter(said.splitlines())
    assert set(count) == {"hello from one", "hello from two"}
    assert min(count.values()) >= 5


def test_wrk(sites: Sites) -> None:
    said = run(find("wrk", "wrk"), "-c", "16", "-d", "1s", "-t", "1", f"http://127.0.0.1:{sites.ports['web']}/hello")
    assert "requests in" in said
    assert "Socket errors" not in said
    assert "Non-2xx" not in said


def test_an_upload(sites: Sites, tmp_path: Path) -> None:
    curl = find("curl", "curl")
    content = random.Random(7).randbytes(32 * 1024 * 1024)
    sent = tmp_path / "sent"
    sent.write_bytes(content)
    url = f"http://127.0.0.1:{sites.ports['live']}/digest"
    for options in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:")):
        said = run(curl, "-sS", "--fail", *options, "-T", str(sent), url)
        assert said == hashlib.sha256(content).hexdigest()


def test_a_download(sites: Sites, tmp_path: Path) -> None:
    back = tmp_path / "back"
    run(find("curl", "curl"), "-sS", "--fail", "-o", str(back), f"http://127.0.0.1:{sites.ports['live']}/large")
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(random.Random(8).randbytes(1 << 25)).digest()


def test_server_sent_events_come_one_by_one(sites: Sites) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{sites.ports['live']}/events", timeout=PATIENCE) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        for number in range(3):
            assert answer.readline() == b"data: %d\n" % number
            assert answer.readline() == b"\n"
            # The server waits for this before it says the next.
            url = f"http://127.0.0.1:{sites.ports['live']}/seen"
            urllib.request.urlopen(url, timeout=PATIENCE).read()
        assert answer.read() == b""


def test_a_websocket_passes_through(sites: Sites) -> None:
    said = run(sys.executable, str(HERE / "websocket_client.py"), str(sites.ports["live"]))
    assert said.split() == ["one", "two", "x1000000", "closed"]
