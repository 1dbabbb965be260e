"""PostgreSQL, Redis and nginx over three sites: programs that know nothing of van, by TCP."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.programs.servers import find, nginx, postgres, redis, wait_until_listening
from tests.interop.programs.sites import Sites, ports, service, three_sites

pytestmark = pytest.mark.interop

PATIENCE = 60
ADDRESSES = ("orders-db", "cache", "web")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("programs")
    with postgres(folder) as database, redis() as cache, nginx(folder / "nginx", "east") as web:
        here = ports(*ADDRESSES)
        west = "".join(service("listen", f"tcp://127.0.0.1:{port}", address) for address, port in here.items())
        there = dict(zip(ADDRESSES, (database, cache, web), strict=True))
        east = "".join(service("connect", f"tcp://127.0.0.1:{port}", address) for address, port in there.items())
        with three_sites(folder, west, east) as running:
            running.ports = here
            for port in here.values():
                wait_until_listening(port)
            yield running


def run(*command: str, patience: float = PATIENCE) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_pgbench(sites: Sites) -> None:
    program = find("pgbench", "postgresql")
    where = ["-h", "127.0.0.1", "-p", str(sites.ports["orders-db"]), "-U", "postgres", "postgres"]
    run(program, "-i", "-s", "1", "-q", *where)
    said = run(program, "-c", "8", "-t", "25", *where)
    assert "number of transactions actually processed: 200/200" in said
    assert "number of failed transactions: 0" in said
    # A connection for each transaction.
    said = run(program, "-C", "-c", "4", "-t", "10", "-S", *where)
    assert "number of transactions actually processed: 40/40" in said


def test_redis_benchmark(sites: Sites) -> None:
    where = ["-h", "127.0.0.1", "-p", str(sites.ports["cache"])]
    said = run(find("redis-benchmark", "redis-tools"), *where, "-n", "5000", "-c", "20", "-t", "set,get", "-q")
    assert said.count("requests per second") == 2
    said = run(find("redis-benchmark", "redis-tools"), *where, "-n", "5000", "-c", "5", "-P", "50", "-t", "incr", "-q")
    assert said.count("requests per second") == 1
    assert run(find("redis-cli", "redis-tools"), *where, "get", "counter:__rand_int__").strip() == "5000"


def test_wrk(sites: Sites) -> None:
    said = run(find("wrk", "wrk"), "-c", "16", "-d", "1s", "-t", "1", f"http://127.0.0.1:{sites.ports['web']}/hello")
    assert "requests in" in said
    assert "Socket errors" not in said
    assert "Non-2xx" not in said


def test_curl_there_and_back(sites: Sites, tmp_path: Path) -> None:
    curl = find("curl", "curl")
    content = random.Random(7).randbytes(32 * 1024 * 1024)
    sent = tmp_path / "sent"
    sent.write_bytes(content)
    url = f"http://127.0.0.1:{sites.ports['web']}/large"
    run(curl, "-sS", "--fail", "-T", str(sent), url)
    back = tmp_path / "back"
    run(curl, "-sS", "--fail", "-o", str(back), url)
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(content).digest()
