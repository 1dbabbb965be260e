"""Services that are added while routers run: by skmanage at a van, by van at a skrouterd, and one beside the other."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.harness import PROJECT
from tests.interop.skrouterd.network import PATIENCE, Connection, Network, Plan, Skrouterd
from tests.ports import free_ports

pytestmark = pytest.mark.interop


@pytest.fixture
def pair(skrouterd: Skrouterd, tmp_path: Path) -> Iterator[Network]:
    running = Network(
        skrouterd, "pair", Plan({"S": "skrouterd", "V": "van"}, [Connection("S", "V")], ("S", "V")), tmp_path
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture
def server() -> Iterator[int]:
    """A server that answers in capitals; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                while True:
                    client, _ = listening.accept()
                    with client:
                        while data := client.recv(1000):
                            client.sendall(data.upper())
            except OSError:
                return  # the scene is over

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def van(pair: Network, at: str, *arguments: str) -> str:
    return run(sys.executable, "-m", "van.cli", *arguments, "--url", pair.routers[at].url)


def skmanage(pair: Network, at: str, *arguments: str) -> Any:
    skmanage = pair.skrouterd.skstat.with_name("skmanage")
    return json.loads(run(str(skmanage), "-b", pair.routers[at].url, *arguments) or "null")


def in_capitals(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(b"hello")
        return client.recv(100)


def test_van_exposes_here_and_binds_at_a_skrouterd(pair: Network, server: int) -> None:
    (port,) = free_ports(1)
    van(pair, "V", "expose", "shout", f"tcp://127.0.0.1:{server}")
    van(pair, "S", "bind", "shout", f"tcp://127.0.0.1:{port}")
    pair.ask(["S"], "tcpListener", [{"address": "shout", "operStatus": "up"}])
    assert in_capitals(port) == b"HELLO"
    for at in ("S", "V"):
        rows = pair.status(at, "services")
        assert [(row["router"], row["end"], row["address"]) for row in rows] == [
            ("S", "listen", "shout"), ("V", "connect", "shout")
        ]  # fmt: skip
    van(pair, "S", "bind", "shout", "--remove")
    assert skmanage(pair, "S", "QUERY", "--type=tcpListener") == []


def test_skmanage_makes_both_ends_and_takes_them_away(pair: Network, server: int) -> None:
    (port,) = free_ports(1)
    made = skmanage(
        pair, "V", "CREATE", "--type=tcpListener", "name=in", "address=shout", "host=127.0.0.1", f"port={port}"
    )
    assert (made["operStatus"], made["port"]) == ("down", str(port))
    skmanage(pair, "S", "CREATE", "--type=tcpConnector", "address=shout", "host=127.0.0.1", f"port={server}")
    pair.ask(["V"], "tcpListener", [{"address": "shout", "operStatus": "up"}])
    assert in_capitals(port) == b"HELLO"
    (row,) = skmanage(pair, "V", "QUERY", "--type=tcpListener")
    assert (row["connectionsOpened"], row["bytesIn"], row["bytesOut"]) == (1, 5, 5)
    assert skmanage(pair, "V", "DELETE", "--type=tcpListener", "--name=in") is None
    assert skmanage(pair, "V", "QUERY", "--type=tcpListener") == []
