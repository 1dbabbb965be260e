"""curl and nginx over three sites by HTTP/2, and by one version at one end and the other at the other."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.programs.servers import find, nginx
from tests.interop.programs.sites import Sites, service, three_sites

pytestmark = pytest.mark.interop

PATIENCE = 60
# Behind the first is a server of HTTP/2, behind the other one of HTTP/1.1.
ADDRESSES = ("two", "one")
# How curl may ask: knowing that it is HTTP/2, asking for it in HTTP/1.1, or not at all.
ASKING = {"--http2-prior-knowledge": "2", "--http2": "2", "--http1.1": "1.1"}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("http2")
    with nginx(folder / "two", "two", http2=True) as two, nginx(folder / "one", "one") as one:
        west = "".join(service("listen", "http2://127.0.0.1:0", address) for address in ADDRESSES)
        east = service("connect", f"http2://127.0.0.1:{two}", "two") + service(
            "connect", f"http://127.0.0.1:{one}", "one"
        )
        with three_sites(folder, west, east) as running:
            running.ports = {address: running.port_of(address) for address in ADDRESSES}
            for address, port in running.ports.items():
                curl("--retry", "20", "--retry-delay", "1", f"http://127.0.0.1:{port}/hello?{address}")
            yield running


def curl(*options: str) -> str:
    command = [find("curl", "curl"), "-sS", "--fail", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("asking", ASKING)
def test_either_version_at_either_end(sites: Sites, address: str, asking: str) -> None:
    url = f"http://127.0.0.1:{sites.ports[address]}/hello"
    assert curl(asking, "-w", "%{http_version} %{http_code}", url) == f"hello from {address}\n{ASKING[asking]} 200"
    assert curl(asking, "-w", "%{http_code}", "--no-fail", "-o", "/dev/null", url + "/none") == "404"


@pytest.mark.parametrize("address", ADDRESSES)
def test_files_there_and_back(sites: Sites, address: str, tmp_path: Path) -> None:
    content = random.Random(7).randbytes(24 * 1024 * 1024)
    sent = tmp_path / "sent"
    sent.write_bytes(content)
    url = f"http://127.0.0.1:{sites.ports[address]}/large"
    curl("--http2-prior-knowledge", "-T", str(sent), url)
    back = tmp_path / "back"
    curl("--http2-prior-knowledge", "-o", str(back), url)
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(content).digest()


@pytest.mark.parametrize("address", ADDRESSES)
def test_many_requests_at_a_time(sites: Sites, address: str) -> None:
    h2load = [find("h2load", "nghttp2-client"), "-n", "400", "-c", "4", "-m", "50"]
    url = f"http://127.0.0.1:{sites.ports[address]}/hello"
    said = subprocess.run([*h2load, url], capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert "400 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert "400 2xx" in said
