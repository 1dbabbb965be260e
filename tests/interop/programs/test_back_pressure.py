"""A reader that stops, at one end of three sites: its writer at the other end stops, and the routers hold little.

With 256 KiB for the sockets of both programs. Measured from outside: what routers hold by management, their memory by
the system.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived
from h2.settings import SettingCodes

from tests.interop.harness import PATIENCE, Router
from tests.interop.programs.sites import Sites, ports, service, three_sites

pytestmark = pytest.mark.interop

MIB = 1024 * 1024
MOST_HELD = 4 * MIB
MOST_GROWTH = 8 * MIB
BUFFER = 256 * 1024
LITTLE = 4096
# A writer that could write nothing for so long has stopped.
STOPPED_SECONDS = 1.0
# What a scene writes at most, should nobody stop it.
PLENTY = 64 * MIB
# RFC 9113, 6.9.1.
MAX_WINDOW = 2**31 - 1


def small(end: socket.socket) -> socket.socket:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        end.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    end.settimeout(PATIENCE)
    return end


@contextlib.contextmanager
def server() -> Iterator[socket.socket]:
    with small(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def dial(port: int) -> socket.socket:
    stream = small(socket.socket())
    stream.connect(("127.0.0.1", port))
    return stream


def resident(router: Router) -> int:
    status = Path(f"/proc/{router.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, socket.socket]]:
    with server() as tcp, server() as http:
        yield {"tcp": tcp, "http": http}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, socket.socket]) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("programs")
    here = ports("tcp", "http", "http2", "mqtt-west", "mqtt-east")
    west = "".join(service("listen", f"{name}://127.0.0.1:{here[name]}", name) for name in servers)
    west += service("listen", f"http2://127.0.0.1:{here['http2']}", "http")
    west += f'[[service]]\nlisten = "mqtt://127.0.0.1:{here["mqtt-west"]}"\n'
    east = "".join(
        service("connect", f"{name}://127.0.0.1:{listener.getsockname()[1]}", name)
        for name, listener in servers.items()
    )
    east += f'[[service]]\nlisten = "mqtt://127.0.0.1:{here["mqtt-east"]}"\n'
    with three_sites(folder, west, east) as running:
        running.ports = here
        for name in servers:
            running.wait_for_address(running.west, name)
        yield running


class Watch:
    """What the routers took before, to be compared with what they take when a writer has stopped."""

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.routers = (sites.west, sites.hub, sites.east)
        self.before = [resident(router) for router in self.routers]

    def held(self) -> int:
        return sum(self.sites.held(router) for router in self.routers)

    def check(self) -> None:
        held = self.held()
        growth = [resident(router) - before for router, before in zip(self.routers, self.before, strict=True)]
        print(f"held {held / MIB:.2f} MiB, grown by {[f'{each / MIB:.1f}' for each in growth]} MiB")
        assert held <= MOST_HELD
        assert max(growth) <= MOST_GROWTH

    def check_little_held(self) -> None:
        """What was written has left; a request is held until its response is over."""
        end = time.monotonic() + PATIENCE
        while self.held() > LITTLE:
            assert time.monotonic() < end


def write_until_stopped(stream: socket.socket, portion: Callable[[int], bytes]) -> int:
    """Write until nothing is taken any more; returns how much was, of which the last octets came in time."""
    stream.settimeout(STOPPED_SECONDS)
    written = 0
    while written < PLENTY:
        data = portion(written)
        try:
            while data:
                count = stream.send(data)
                written += count
                data = data[count:]
        except TimeoutError:
            stream.settimeout(PATIENCE)
            return written
    raise AssertionError(f"{written} octets were written, and nobody stopped it")


def read_head(stream: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.recv(65536)
        assert more
        data += more
    return data


def zeros(written: int) -> bytes:
    return bytes(65536)


def drain(stream: socket.socket, octets: int) -> None:
    while octets > 0:
        count = len(stream.recv(1 << 20))
        assert count
        octets -= count


@pytest.mark.parametrize("downwards", [False, True], ids=["up", "down"])
def test_tcp(sites: Sites, servers: dict[str, socket.socket], downwards: bool) -> None:
    with dial(sites.ports["tcp"]) as client:
        far, _ = servers["tcp"].accept()
        with small(far):
            writer, reader = (far, client) if downwards else (client, far)
            # What a flow of this size takes once, and keeps for the next, is no growth.
            writer.sendall(bytes(MIB // 4))
            drain(reader, MIB // 4)
            watch = Watch(sites)
            written = write_until_stopped(writer, zeros)
            watch.check()
            drain(reader, written)
            watch.check_little_held()


def test_an_upload(sites: Sites, servers: dict[str, socket.socket]) -> None:
    with dial(sites.ports["http"]) as client:
        head = f"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {PLENTY}\r\n\r\n"
        client.sendall(head.encode())
        watch = Watch(sites)
        written = write_until_stopped(client, zeros)
        far, _ = servers["http"].accept()
        with small(far):
            watch.check()
            rest = read_head(far).partition(b"\r\n\r\n")[2]
            drain(far, written - len(rest))
            watch.check_little_held()


def test_a_download(sites: Sites, servers: dict[str, socket.socket]) -> None:
    with dial(sites.ports["http"]) as client:
        client.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        far, _ = servers["http"].accept()
        with small(far):
            read_head(far)
            far.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {PLENTY}\r\n\r\n".encode())
            watch = Watch(sites)
            written = write_until_stopped(far, zeros)
            watch.check()
            rest = read_head(client).partition(b"\r\n\r\n")[2]
            drain(client, written - len(rest))
            watch.check_little_held()


class Http2Client:
    """One request of HTTP/2 to a server of HTTP/1.1, by h2."""

    def __init__(self, port: int, method: str) -> None:
        self.stream = dial(port)
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.initiate_connection()
        # Nothing but its socket holds up who writes to it.
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: MAX_WINDOW})
        self.h2.increment_flow_control_window(MAX_WINDOW - 65535)
        fields = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", "/x")]
        self.h2.send_headers(1, fields, end_stream=method == "GET")
        self.flush()

    def flush(self) -> None:
        self.stream.sendall(self.h2.data_to_send())

    def read(self) -> int:
        """Read once; returns how many octets of a body that were."""
        events = self.h2.receive_data(self.stream.recv(1 << 20))
        self.flush()
        return sum(len(event.data) for event in events if isinstance(event, DataReceived))

    def write_until_stopped(self) -> int:
        """Write until the window stays shut."""
        self.stream.settimeout(STOPPED_SECONDS)
        written = 0
        while written < PLENTY:
            room = min(self.h2.local_flow_control_window(1), self.h2.max_outbound_frame_size)
            try:
                if room:
                    self.h2.send_data(1, bytes(room))
                    self.flush()
                    written += room
                else:
                    self.read()
            except TimeoutError:
                self.stream.settimeout(PATIENCE)
                return written
        raise AssertionError(f"{written} octets were written, and nobody stopped it")


@pytest.mark.parametrize("downwards", [False, True], ids=["up", "down"])
def test_http2(sites: Sites, servers: dict[str, socket.socket], downwards: bool) -> None:
    client = Http2Client(sites.ports["http2"], "GET" if downwards else "POST")
    with client.stream:
        far, _ = servers["http"].accept()
        with small(far):
            watch = Watch(sites)
            if downwards:
                read_head(far)
                far.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {PLENTY}\r\n\r\n".encode())
                written = write_until_stopped(far, zeros)
                watch.check()
                while written > 0:
                    written -= client.read()
            else:
                written = client.write_until_stopped()
                watch.check()
                # In chunks, which have some octets more.
                rest = read_head(far).partition(b"\r\n\r\n")[2]
                drain(far, written - len(rest))
            watch.check_little_held()


def test_a_subscriber(sites: Sites) -> None:
    with dial(sites.ports["mqtt-east"]) as subscriber, dial(sites.ports["mqtt-west"]) as publisher:
        for client in (subscriber, publisher):
            client.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
            assert client.recv(4) == b"\x20\x02\x00\x00"
        subscriber.sendall(b"\x82\x09\x00\x01\x00\x04slow\x01")
        assert subscriber.recv(5) == b"\x90\x03\x00\x01\x01"
        sites.wait_for_address(sites.west, "mqtt/slow")
        watch = Watch(sites)
        payload = bytes(16384)

        def message(written: int) -> bytes:
            """The next PUBLISH of QoS 1, by a client that has no limit of its own."""
            size = 2 + 4 + 2 + len(payload)
            number = written // (size + 4) % 65535 + 1
            length = bytes((size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14))
            return b"\x32" + length + b"\x00\x04slow" + number.to_bytes(2, "big") + payload

        write_until_stopped(publisher, message)
        watch.check()
