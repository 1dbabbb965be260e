"""Clients that mean harm, at a real router with ports of every kind: each is told so in its protocol's own words.

Clients of every kind that mean well are served before, meanwhile and after, on the connections that they have and on
new ones, and the router's memory stays within bounds.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import hpack
import pytest

from tests.interop.harness import PATIENCE, PROJECT, Program
from tests.interop.programs.mqtt_client import MqttClient
from tests.interop.programs.servers import wait_until_listening
from tests.interop.programs.sites import Sites, ports, service, three_sites
from tests.ports import free_port
from tests.services import grpc_ends

pytestmark = pytest.mark.interop

MIB = 1024 * 1024
# What the router may grow by in all of it together: pools that are filled once, and the largest that one peer may send.
MOST_GROWTH = 16 * MIB
STREAMS = ("tcp", "http", "http2", "mqtt")
SCANS = 100
SILENT = 30
REFUSED = "http request refused"
BROKEN_OFF = "http connection broken off"


class Scene:
    """The sites, where their ports are, and clients that mean well."""

    def __init__(self, sites: Sites, folder: Path) -> None:
        self.sites = sites
        self.ports = sites.ports
        self.site_file = folder / "west.toml"
        self._stack = contextlib.ExitStack()
        self._tcp = self.dial("tcp")
        self._http = self.dial("http")
        self._udp = self._stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        self._udp.connect(("127.0.0.1", self.ports["udp"]))
        self._calls = self._stack.enter_context(grpc_ends.client(self.ports["http2"]))
        self._publisher = self._stack.enter_context(contextlib.closing(MqttClient(self.ports["mqtt"])))
        self._subscriber = MqttClient(self.ports["mqtt-east"], "good/#")
        self._stack.callback(self._subscriber.close)
        sites.wait_for_address(sites.west, "mqtt/good/#")
        self._tcp.sendall(b"x")
        assert self._tcp.recv(5) == b"good\n"
        assert self._tcp.recv(1) == b"x"
        self.check_good()
        self.resident_at_first = self.resident()

    def close(self) -> None:
        self._stack.close()

    def dial(self, name: str) -> socket.socket:
        return self._stack.enter_context(dial(self.ports[name]))

    def check_good(self) -> None:
        """Everybody who means well is served."""
        self._tcp.sendall(b"ping\n")
        assert self._tcp.recv(100) == b"ping\n"
        with dial(self.ports["tcp"]) as another:
            another.sendall(b"x")
            assert another.recv(5) == b"good\n"
        for stream in (self._http, dial(self.ports["http"])):
            stream.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer_of(stream).endswith(b"good\n")
        stream.close()
        assert self._calls.unary(b"x", timeout=PATIENCE) == b"good:x"
        self._publisher.publish("good/a", "x")
        assert self._publisher.answers.get(timeout=PATIENCE) == 0
        assert self._subscriber.heard.get(timeout=PATIENCE) == "x"
        self.check_datagrams()
        self.ask("tcp.van", "A", dns.rcode.NOERROR)
        self.sites.check_alive()

    def check_datagrams(self) -> None:
        self._udp.settimeout(0.2)
        for _ in range(100):
            self._udp.send(b"who?")
            with contextlib.suppress(TimeoutError):
                assert self._udp.recv(100) == b"good"
                return
        pytest.fail("no answer to any datagram")

    def ask(self, name: str, kind: str, code: dns.rcode.Rcode) -> None:
        question = dns.message.make_query(name, kind)
        answer, _ = dns.query.udp_with_fallback(question, "127.0.0.1", PATIENCE, self.ports["dns"])
        assert answer.rcode() == code, answer

    def lines(self, event: str) -> int:
        return sum(line.get("event") == event for line in self.sites.west.log())

    def warnings(self) -> int:
        return sum(line.get("level") == "warning" for line in self.sites.west.log())

    def resident(self) -> int:
        status = Path(f"/proc/{self.sites.west.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def answer_of(stream: socket.socket) -> bytes:
    """A small response with a body."""
    data = b""
    while not data.endswith(b"\n") or b"\r\n\r\n" not in data or data.endswith(b"\r\n"):
        more = stream.recv(65536)
        assert more, data
        data += more
    return data


def until_end(stream: socket.socket) -> bytes:
    """What is said until the connection ends; who has not read all that was sent may end it by a reset."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := stream.recv(65536):
            data += more
    return data


def say(stream: socket.socket, data: bytes) -> None:
    """Write all of it, or as much as the router takes before it has had enough."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        stream.sendall(data)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("hostile")
    here = ports("tcp", "http", "http2", "mqtt", "udp", "dns", "mqtt-east")
    server, calls = free_port(), free_port()
    command = [sys.executable, "-m", "tests.interop.programs.mortal", "good", str(server), str(calls), str(free_port())]
    good = Program(command, folder=PROJECT)
    west = "".join(service("listen", f"{name}://127.0.0.1:{here[name]}", name) for name in ("tcp", "http", "http2"))
    west += service("listen", f"udp://127.0.0.1:{here['udp']}", "udp", flow_timeout_seconds=2.0)
    west += f'[[service]]\nlisten = "mqtt://127.0.0.1:{here["mqtt"]}"\n'
    west += f'[[dns]]\nlisten = "udp://127.0.0.1:{here["dns"]}"\n'
    east = "".join(service("connect", f"{name}://127.0.0.1:{server}", name) for name in ("tcp", "http", "udp"))
    east += service("connect", f"http2://127.0.0.1:{calls}", "http2")
    east += f'[[service]]\nlisten = "mqtt://127.0.0.1:{here["mqtt-east"]}"\n'
    try:
        assert good.line() == "serves"
        with three_sites(folder, west, east) as sites:
            sites.ports = here
            sites.wait_for_address(sites.west, "tcp", "http", "http2", "udp")
            wait_until_listening(here["tcp"])
            with contextlib.closing(Scene(sites, folder)) as running:
                yield running
    finally:
        good.kill()


@pytest.fixture(autouse=True)
def others(scene: Scene) -> Iterator[None]:
    """Nobody else is harmed, afterwards at the latest, and memory is bounded."""
    yield
    scene.check_good()
    grown = scene.resident() - scene.resident_at_first
    print(f"grown by {grown / MIB:.1f} MiB")
    assert grown < MOST_GROWTH


HEAD = b"POST /who HTTP/1.1\r\nHost: x\r\n"
MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no target": b"GET\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a control in a value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "both lengths": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /a HTTP/1.1\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": HEAD + b"Content-Length: 4, 5\r\n\r\nabcde",
    "a length with a sign": HEAD + b"Content-Length: +4\r\n\r\nabcd",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a chunk that is no number": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "a chunk that is longer than it says": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("port", ["http", "http2"])
def test_malformed_requests(scene: Scene, port: str) -> None:
    """None of it is taken for a request, nor what would be another one behind it."""
    for what, octets in MALFORMED.items():
        with dial(scene.ports[port]) as stream:
            say(stream, octets)
            said = until_end(stream)
            assert said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501 ")), (what, said)
            assert said.count(b"HTTP/1.1 ") == 1, (what, said)
    assert scene.lines(REFUSED)


@pytest.mark.parametrize("port", ["http", "http2"])
def test_heads_that_are_too_large(scene: Scene, port: str) -> None:
    for octets in (HEAD + b"A: " + b"x" * MIB, HEAD + b"A: b\r\n" * 200_000, b"GET /" + b"x" * MIB):
        with dial(scene.ports[port]) as stream:
            say(stream, octets)
            said = until_end(stream)
            # The answer is lost where the rest of the head comes in after it.
            assert not said or said.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 414 ", b"HTTP/1.1 400 ")), said


def test_heads_that_never_end(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(dial(scene.ports[port])) for port in ("http", "http2") for _ in range(SILENT)]
        for octet in b"GET / HTTP/1.1\r\nA: ":
            for stream in streams:
                stream.sendall(bytes([octet]))
        scene.check_good()


def frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + data


def block() -> bytes:
    encoded: bytes = hpack.Encoder().encode(
        [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/van.Test/Wait")]
    )
    return encoded


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
FLOODS: dict[str, Callable[[], bytes]] = {
    "rapid reset": lambda: b"".join(
        frame(HEADERS, 4, stream, block()) + frame(RESET, 0, stream, b"\0\0\0\x08") for stream in range(1, 6001, 2)
    ),
    "continuation": lambda: frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, 0, 1, b"\x40\x01a\x01b" * 100) * 2000,
    "empty continuation": lambda: frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, 0, 1) * 20000,
    "settings": lambda: frame(SETTINGS, 0, 0) * 20000,
    "ping": lambda: frame(PING, 0, 0, bytes(8)) * 20000,
    "empty data": lambda: frame(HEADERS, 4, 1, block()) + frame(DATA, 0, 1) * 20000,
    "window by window": lambda: frame(WINDOW, 0, 0, b"\0\0\0\x01") * 50000,
    "a bomb": lambda: frame(HEADERS, 4, 1, b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 8000),
}
ENHANCE_YOUR_CALM = 11


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_of_frames(scene: Scene, flood: str) -> None:
    with dial(scene.ports["http2"]) as stream:
        say(stream, PREFACE + FLOODS[flood]())
        said = until_end(stream)
    # The last word may be lost with what was not read any more.
    while said:
        length, kind = int.from_bytes(said[:3], "big"), said[3]
        if kind == GOAWAY:
            assert int.from_bytes(said[13:17], "big") == ENHANCE_YOUR_CALM, said[9:]
        said = said[9 + length :]


def test_floods_are_logged(scene: Scene) -> None:
    """There is a line a second at most, which has those of others in it."""

    def logged() -> bool:
        with dial(scene.ports["http2"]) as stream:
            say(stream, PREFACE + FLOODS["settings"]())
            until_end(stream)
        return bool(scene.lines(BROKEN_OFF))

    grpc_ends.eventually(logged)


CONNECT = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"
GARBAGE = {
    "no connect": b"\x30\x05\x00\x01aXX",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "an endless length": CONNECT + b"\x30\xff\xff\xff\xff\xff",
    "a packet of 256 MiB": CONNECT + b"\x30\xff\xff\xff\x7f" + bytes(100_000),
    "a topic with a wildcard": CONNECT + b"\x30\x05\x00\x01#\x00x",
    "a topic that is no text": CONNECT + b"\x30\x05\x00\x01\xff\x00x",
    "connect twice": CONNECT * 2,
    "an unknown packet": CONNECT + b"\x00\x00",
    "an answer that nobody asked for": CONNECT + b"\x20\x03\x00\x00\x00",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_instead_of_mqtt(scene: Scene, what: str) -> None:
    octets = GARBAGE[what]
    before = scene.warnings()
    with dial(scene.ports["mqtt"]) as stream:
        say(stream, octets)
        said = until_end(stream)
    if octets.startswith(CONNECT):
        assert said.startswith(b"\x20")
        # Behind the answer to its Connect is a Disconnect with a reason.
        last = said[2 + said[1] :]
        assert last[0] == 0xE0
        assert last[2] >= 0x80
    else:
        assert not said
    grpc_ends.eventually(lambda: scene.warnings() > before)


def test_questions_that_are_none(scene: Scene) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", scene.ports["dns"]))
        question = dns.message.make_query("tcp.van", "A").to_wire()
        loop = question[:12] + b"\xc0\x0c" * 20
        for octets in (b"", b"x", bytes(12), bytes(600), question[:-3], loop, b"\xff" * 1400):
            client.send(octets)
        # An answer, no question.
        client.send(question[:2] + b"\x80" + question[3:])
        for kind in ("ANY", "AXFR", "IXFR"):
            large = dns.message.make_query("van", kind, use_edns=True, payload=65535).to_wire()
            client.settimeout(PATIENCE)
            client.send(large)
            while True:
                said = client.recv(65536)
                if said[:2] == large[:2]:
                    break
            assert len(said) <= max(3 * len(large), 256)
            assert dns.message.from_wire(said).rcode() in (dns.rcode.REFUSED, dns.rcode.FORMERR)
    assert scene.lines("question refused")
    scene.ask("example.org", "A", dns.rcode.REFUSED)
    scene.ask("nobody.van", "A", dns.rcode.NXDOMAIN)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(dial(scene.ports["dns"])) for _ in range(SILENT)]
        for stream in streams:
            stream.sendall(b"\xff\xff\xff")
        scene.check_good()


def test_port_scans(scene: Scene) -> None:
    places = [scene.ports[name] for name in (*STREAMS, "dns")] + [scene.sites.west.port("open")]
    with contextlib.ExitStack() as stack:
        for port in places:
            for _ in range(SILENT):
                stack.enter_context(dial(port))
            for number in range(SCANS):
                stream = dial(port)
                if number % 2:
                    # By a reset.
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.close()
        scene.check_good()


def test_octets_of_any_other_protocol_at_every_port(scene: Scene) -> None:
    """TCP passes them on: there they are the server's business."""
    for port in [scene.ports[name] for name in ("http", "http2", "mqtt", "dns")] + [scene.sites.west.port("open")]:
        for octets in (b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(200)):
            with dial(port) as stream:
                say(stream, octets)
                stream.shutdown(socket.SHUT_WR)
                until_end(stream)


def test_a_flood_of_datagrams(scene: Scene) -> None:
    """Many from one client, and some from many: each of them a flow."""
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(300)]
        for client in many:
            client.connect(("127.0.0.1", scene.ports["udp"]))
        for client in [many[0]] * 5000 + many * 5:
            client.send(bytes(1200))
        for name in ("udp", "dns"):
            for size in (0, 1, 65507):
                many[0].sendto(b"\xff" * size, ("127.0.0.1", scene.ports[name]))
        scene.check_good()


BAD_LINES = {
    "tcp": ('listen = "tcp://127.0.0.1:0"\naddress = "a"\nhost_header = "x"', "host_header"),
    "http": ('connect = "http://127.0.0.1"\naddress = "a"\ntimeout_seconds = "soon"', "timeout_seconds"),
    "http2": ('listen = "h2c://127.0.0.1:0"\naddress = "a"', "h2c"),
    "udp": ('connect = "udp://127.0.0.1:70000"\naddress = "a"', "70000"),
    "mqtt": ('connect = "mqtt://127.0.0.1:1883"', "mqtt"),
    "tls": ('listen = "tls://127.0.0.1:0"\naddress = "a"', "ssl_profile"),
    "no scheme": ('listen = "127.0.0.1:0"\naddress = "a"', "listen"),
    "both ends": ('listen = "tcp://127.0.0.1:0"\nconnect = "tcp://127.0.0.1:1"\naddress = "a"', "connect"),
    "an unknown key": ('listen = "tcp://127.0.0.1:0"\naddress = "a"\nnonsense = 1', "nonsense"),
}


def test_bad_lines_in_the_site_file(scene: Scene) -> None:
    """The line is named, and what runs stays as it is."""
    good = scene.site_file.read_text()
    event = "configuration not reloaded, the old one stays"
    lines = {name: f"[[service]]\n{text}\n" for name, (text, _) in BAD_LINES.items()}
    lines["dns"] = '[[dns]]\nlisten = "tcp://127.0.0.1:0"\n'
    for number, (name, text) in enumerate(lines.items()):
        scene.site_file.write_text(good + text)
        scene.sites.west.signal(signal.SIGHUP)
        grpc_ends.eventually(lambda: scene.lines(event) > number)  # noqa: B023
        errors = [line for line in scene.sites.west.log() if line.get("event") == event][number]["errors"]
        wanted = BAD_LINES[name][1] if name in BAD_LINES else "udp"
        assert any(wanted in str(error) for error in errors), (name, errors)
    scene.site_file.write_text(good)
