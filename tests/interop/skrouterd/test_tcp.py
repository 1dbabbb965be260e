"""Connections of TCP with a skrouterd at one end and van at the other, over interior and edge routers, both ways."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from tests.interop.skrouterd.network import Figures, Network, Plan, Skrouterd, TcpService
from tests.ports import free_ports

pytestmark = pytest.mark.interop

MIB = 1024 * 1024
SIZE = 32 * MIB
PATIENCE = 30.0

# Who listens, who connects, and the network: routers and who connects to whom.
PLANS: dict[str, tuple[str, str, dict[str, str], list[tuple[str, str]]]] = {
    "skrouterd listens": ("S", "V", {"S": "skrouterd", "V": "van"}, [("V", "S")]),
    "van listens": ("V", "S", {"S": "skrouterd", "V": "van"}, [("S", "V")]),
    "an edge of skrouterd listens": ("S", "V", {"S": "skrouterd edge", "V": "van"}, [("S", "V")]),
    "a van edge listens": ("V", "S", {"S": "skrouterd", "V": "van edge"}, [("V", "S")]),
    "an edge of skrouterd connects": ("V", "S", {"S": "skrouterd edge", "V": "van"}, [("S", "V")]),
    "a van edge connects": ("S", "V", {"S": "skrouterd", "V": "van edge"}, [("V", "S")]),
    "van between": ("A", "B", {"A": "skrouterd", "V": "van", "B": "skrouterd"}, [("A", "V"), ("B", "V")]),
    "skrouterd between": ("A", "B", {"A": "van", "S": "skrouterd", "B": "van"}, [("A", "S"), ("B", "S")]),
}


class Line:
    """A running network with a port that leads to servers of the scene."""

    def __init__(self, network: Network, ports: list[int]) -> None:
        self.network = network
        self.port, self.refused_port, self.server_port, self.iperf_port, self.iperf_server_port = ports

    def dial(self, port: int = 0) -> socket.socket:
        """A connection, as soon as the port is open: it is while the address can be reached."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port or self.port), PATIENCE)
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.fixture(scope="module", params=PLANS)
def line(
    request: pytest.FixtureRequest, skrouterd: Skrouterd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Line]:
    listens, connects, routers, connections = PLANS[request.param]
    port, refused_port, server_port, iperf_port, iperf_server_port, nobody = free_ports(6)
    services = [
        TcpService(where, address, number, listens=where == listens)
        for where, address, number in (
            (listens, "svc.echo", port),
            (connects, "svc.echo", server_port),
            (listens, "svc.refused", refused_port),
            (connects, "svc.refused", nobody),
            (listens, "svc.iperf", iperf_port),
            (connects, "svc.iperf", iperf_server_port),
        )
    ]
    plan = Plan(routers, connections, (listens, connects), services)
    network = Network(skrouterd, request.param, plan, tmp_path_factory.mktemp("network"))
    try:
        network.start()
        yield Line(network, [port, refused_port, server_port, iperf_port, iperf_server_port])
    finally:
        network.stop()


class Server:
    """A server on a port; each connection is served by a thread of its own."""

    def __init__(self, port: int, serve: Callable[[socket.socket], None]) -> None:
        self.listening = socket.create_server(("127.0.0.1", port), backlog=512)
        self.connections: list[socket.socket] = []
        self._serve = serve
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                self.connections.append(connection)
                threading.Thread(target=self._guard, args=(connection,), daemon=True).start()

    def _guard(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._serve(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self._acceptor.join(PATIENCE)
        for connection in self.connections:
            connection.close()

    def die(self) -> None:
        """As a process that is killed in the middle of things."""
        for connection in self.connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Threads that wait for it would keep it open.
            connection.shutdown(socket.SHUT_RD)
        self.__exit__()


def echo(connection: socket.socket) -> None:
    while data := connection.recv(262144):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def send_all(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def until_end(connection: socket.socket) -> bytes:
    heard = bytearray()
    while data := connection.recv(262144):
        heard += data
    return bytes(heard)


def test_octets_arrive_as_they_were_sent_and_each_end_as_well(line: Line) -> None:
    data = random.Random(5).randbytes(SIZE)
    with Server(line.server_port, echo), line.dial() as client:
        sender = threading.Thread(target=send_all, args=(client, data))
        sender.start()
        heard = until_end(client)
        sender.join(PATIENCE)
        assert hashlib.sha256(heard).digest() == hashlib.sha256(data).digest()


def test_one_side_ends_and_the_other_goes_on(line: Line) -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heard.append(until_end(connection))
        connection.sendall(b"you said " + heard[0])
        connection.shutdown(socket.SHUT_WR)

    with Server(line.server_port, serve), line.dial() as client:
        client.sendall(b"all I have")
        client.shutdown(socket.SHUT_WR)
        assert until_end(client) == b"you said all I have"

    def serve_first(connection: socket.socket) -> None:
        connection.sendall(b"all I have")
        connection.shutdown(socket.SHUT_WR)
        heard.append(until_end(connection))

    with Server(line.server_port, serve_first), line.dial() as client:
        assert until_end(client) == b"all I have"
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
        wait_for(lambda: heard[1:] == [b"late"])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_over(client: socket.socket) -> bool:
    """Whether a connection ends, in whatever manner: skrouterd resets some and ends others."""
    with contextlib.suppress(ConnectionResetError):
        while client.recv(65536):
            pass
    return True


def is_turned_away(line: Line, port: int) -> bool:
    """Whether a client is reset, which it may be before it knows that it was connected."""
    try:
        with line.dial(port) as client:
            return is_over(client)
    except ConnectionResetError:
        return True


def test_a_server_that_refuses(line: Line) -> None:
    assert is_turned_away(line, line.refused_port)


def test_resets_are_passed_on(line: Line) -> None:
    lost: list[bool] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        lost.append(is_over(connection))

    with Server(line.server_port, serve), line.dial() as client:
        assert client.recv(5) == b"hello"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        wait_for(lambda: lost == [True])


def test_the_server_is_killed_and_comes_back(line: Line) -> None:
    with Server(line.server_port, echo) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(line.dial()) for _ in range(20)]
        for client in clients:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
        server.die()
        for client in clients:
            assert is_over(client)
        assert is_turned_away(line, line.port)
    with Server(line.server_port, echo), line.dial() as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"


def test_two_hundred_connections_at_once(line: Line) -> None:
    good: list[int] = []

    def one(number: int) -> None:
        data = b"%d " % number * 20_000
        with line.dial() as client:
            sender = threading.Thread(target=send_all, args=(client, data))
            sender.start()
            if until_end(client) == data:
                good.append(number)
            sender.join(PATIENCE)

    with Server(line.server_port, echo):
        threads = [threading.Thread(target=one, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(good) == list(range(200))


@pytest.mark.parametrize("way", ["up", "down"])
def test_iperf(line: Line, figures: Figures, way: str) -> None:
    iperf = shutil.which("iperf3")
    if iperf is None:
        pytest.skip("no iperf3 here")
    server = subprocess.Popen(
        [iperf, "-s", "-B", "127.0.0.1", "-p", str(line.iperf_server_port)], stdout=subprocess.DEVNULL
    )
    try:
        command = [iperf, "-c", "127.0.0.1", "-p", str(line.iperf_port), "-J", "-n", "256M"]
        deadline = time.monotonic() + PATIENCE
        while True:
            words = command + (["-R"] if way == "down" else [])
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=2 * PATIENCE)
            said = json.loads(done.stdout)
            if "error" not in said:
                break
            # It may not listen yet, or the address may not be known.
            assert time.monotonic() < deadline, said["error"]
            time.sleep(0.1)
        received = said["end"]["sum_received"]
        assert received["bytes"] >= 256 * MIB * 0.9
        figures.add(f"{line.network.name}, iperf3 {way}: {received['bits_per_second'] / 8e6:.0f} MB/s")
    finally:
        server.terminate()
        server.wait(PATIENCE)
