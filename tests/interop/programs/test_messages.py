"""MQTT clients and syslog over three sites: programs that know nothing of van."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.interop.harness import PATIENCE, Program
from tests.interop.programs.servers import find, wait_until_listening
from tests.interop.programs.sites import Sites, ports, service, three_sites

pytestmark = pytest.mark.interop

VERSIONS = ("mqttv311", "mqttv5")


@pytest.fixture(scope="module")
def log_server() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        yield server


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, log_server: socket.socket) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("programs")
    here = ports("mqtt-west", "mqtt-east", "syslog")
    west = f'[[service]]\nlisten = "mqtt://127.0.0.1:{here["mqtt-west"]}"\n'
    west += service("listen", f"udp://127.0.0.1:{here['syslog']}", "syslog")
    east = f'[[service]]\nlisten = "mqtt://127.0.0.1:{here["mqtt-east"]}"\n'
    east += service("connect", f"udp://127.0.0.1:{log_server.getsockname()[1]}", "syslog")
    with three_sites(folder, west, east) as running:
        running.ports = here
        for name in ("mqtt-west", "mqtt-east"):
            wait_until_listening(here[name])
        yield running


@contextlib.contextmanager
def subscriber(port: int, *options: str) -> Iterator[Program]:
    """A mosquitto_sub that has subscribed at its router."""
    found = find("mosquitto_sub", "mosquitto-clients")
    # Without the first two it writes what it has to say when it ends.
    program = Program(["stdbuf", "-oL", found, "-h", "127.0.0.1", "-p", str(port), "-d", *options])
    try:
        while "SUBACK" not in program.line():
            pass
        yield program
    finally:
        program.kill()


def publish(port: int, *options: str) -> None:
    program = find("mosquitto_pub", "mosquitto-clients")
    Program([program, "-h", "127.0.0.1", "-p", str(port), *options]).output()


def messages(program: Program, count: int) -> list[str]:
    """The next messages, between what mosquitto_sub says of its packets."""
    found: list[str] = []
    while len(found) < count:
        line = program.line()
        if not line.startswith(("Client ", "Subscribed ")):
            found.append(line)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto(sites: Sites, version: str, qos: str) -> None:
    topic, west, east = f"rooms/{version}/{qos}", sites.ports["mqtt-west"], sites.ports["mqtt-east"]
    options = ("-V", version, "-q", qos)
    with (
        subscriber(east, *options, "-t", f"rooms/{version}/+", "-F", "%t %p") as there,
        subscriber(west, *options, "-t", topic, "-F", "%p") as here,
    ):
        sites.wait_for_address(sites.west, f"mqtt/rooms/{version}/+")
        for text in ("one", "two", "three"):
            publish(west, *options, "-t", topic, "-m", text)
        assert messages(there, 3) == [f"{topic} one", f"{topic} two", f"{topic} three"]
        assert messages(here, 3) == ["one", "two", "three"]


def test_a_retained_message_and_a_will(sites: Sites) -> None:
    west, east = sites.ports["mqtt-west"], sites.ports["mqtt-east"]
    publish(west, "-q", "1", "-r", "-t", "state/door", "-m", "open")
    with subscriber(west, "-t", "state/#", "-F", "%t %p") as here:
        assert messages(here, 1) == ["state/door open"]
    with subscriber(east, "-q", "1", "-t", "wills/+", "-F", "%t %p") as there:
        sites.wait_for_address(sites.west, "mqtt/wills/+")
        will = ("--will-topic", "wills/west", "--will-payload", "gone", "--will-qos", "1")
        with subscriber(west, "-t", "nothing", *will):
            """It is killed, and says no more."""
        assert messages(there, 1) == ["wills/west gone"]


def test_syslog(sites: Sites, log_server: socket.socket) -> None:
    sites.wait_for_address(sites.west, "syslog")
    options = ("-n", "127.0.0.1", "-P", str(sites.ports["syslog"]), "-d", "--rfc3164", "-t", "scene")
    for number in range(5):
        Program([find("logger", "bsdutils"), *options, f"line {number}"]).output()
        data = log_server.recv(2048)
        assert data.startswith(b"<13>")
        assert data.endswith(f"scene: line {number}".encode())
