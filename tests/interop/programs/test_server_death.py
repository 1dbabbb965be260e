"""Servers, and routers with servers behind them, that are killed in the middle of something.

The client gets its protocol's own error, nothing of it waits for a time-out, and what it asks next the survivor
answers. No scene looks at a clock: all that a client waits for here has PATIENCE, which is less than any time-out that
would end it otherwise: a minute for a response of HTTP, for ever for TCP, gRPC and WebSocket.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from tests.interop.harness import PATIENCE, PROJECT, Program
from tests.interop.programs.mqtt_client import MqttClient
from tests.interop.programs.servers import find, wait_until_listening
from tests.interop.programs.sites import Sites, ports, service, three_sites
from tests.ports import free_port
from tests.services import grpc_ends

pytestmark = pytest.mark.interop

NO_MATCHING_SUBSCRIBERS = 0x10
# Which of two servers has what is begun first is the routers' choice: what is begun is kept, and begun again.
ATTEMPTS = 20
MORTAL = "tests.interop.programs.mortal"


class Servers:
    """Pairs of servers that may die, by names, and what they say of themselves."""

    def __init__(self, *names: str) -> None:
        self._places = {name: (free_port(), free_port()) for name in names}
        self._running: dict[str, Program] = {}
        self.reports = socket.socket(type=socket.SOCK_DGRAM)
        self.reports.bind(("127.0.0.1", 0))
        self.reports.settimeout(PATIENCE)

    def port(self, name: str, scheme: str) -> int:
        return self._places[name][scheme == "http2"]

    def services(self, *names: str) -> str:
        """What is in the site file where these are. Each kind of conversation has an address of its own."""
        text = ""
        for kind in KINDS:
            for name in names:
                url = f"{kind.server}://127.0.0.1:{self.port(name, kind.server)}"
                text += service("connect", url, kind.__name__, name=f"{kind.__name__}-{name}")
        return text

    def start(self) -> None:
        """Start those that do not run."""
        reports = str(self.reports.getsockname()[1])
        new = {name: places for name, places in self._places.items() if name not in self._running}
        for name, places in new.items():
            command = [sys.executable, "-m", MORTAL, name, *map(str, places), reports]
            self._running[name] = Program(command, folder=PROJECT)
        for name in new:
            assert self._running[name].line() == "serves"

    def kill(self, name: str) -> None:
        self._running.pop(name).kill()

    def waiting(self) -> str:
        """Who says that he has something to answer, and does not."""
        return self.reports.recv(100).decode()

    def close(self) -> None:
        for name in list(self._running):
            self.kill(name)
        self.reports.close()


class Conversation(ABC):
    """One client with something under way. `port`: where the service is in the west.

    client, server: the schemes at either end.
    """

    client = "http"
    server = "http"

    def __init__(self, port: int, servers: Servers) -> None:
        self.port = port
        self.servers = servers
        self.stack = contextlib.ExitStack()

    @abstractmethod
    def begin(self) -> str:
        """Have something under way at a server; returns which."""

    @abstractmethod
    def check_lost(self) -> None:
        """Wait for the protocol's own word that the server is gone."""

    @abstractmethod
    def ask(self) -> str:
        """Begin anew; returns who answers."""

    def dial(self) -> socket.socket:
        return self.stack.enter_context(socket.create_connection(("127.0.0.1", self.port), PATIENCE))


class Tcp(Conversation):
    client = server = "tcp"

    def begin(self) -> str:
        self.stream = self.dial()
        self.stream.sendall(b"hello\n")
        name = line_of(self.stream)
        assert line_of(self.stream) == "hello"
        return name

    def check_lost(self) -> None:
        """It ends, and who writes on is reset."""
        with contextlib.suppress(ConnectionResetError):
            assert self.stream.recv(1) == b""
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            pour(self.stream)

    def ask(self) -> str:
        return self.begin()


class TcpUnread(Tcp):
    """The server does not read what is there for it: so the system resets the connection in its name."""

    def begin(self) -> str:
        self.stream = self.dial()
        self.stream.sendall(b"stop\n")
        name = line_of(self.stream)
        assert self.servers.waiting() == name
        self.stream.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            pour(self.stream)
        self.stream.settimeout(PATIENCE)
        return name

    def check_lost(self) -> None:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            pour(self.stream)

    def ask(self) -> str:
        return Tcp.begin(self)


class Http(Conversation):
    def connection(self) -> http.client.HTTPConnection:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self.stack.callback(client.close)
        return client

    def ask(self) -> str:
        """A request that may not be sent twice."""
        client = self.connection()
        client.request("POST", "/who", body=b"x")
        answer = client.getresponse()
        assert answer.status == 200
        return answer.read().decode().strip()


class Upload(Http):
    """Most of the request is still to come."""

    def begin(self) -> str:
        self.stream = self.dial()
        self.stream.sendall(b"PUT /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000))
        return self.servers.waiting()

    def check_lost(self) -> None:
        answer = http.client.HTTPResponse(self.stream)
        answer.begin()
        assert answer.status == 502
        assert answer.read()


class Unanswered(Http):
    """The request is there, and no answer; who sends it twice does it twice."""

    method = "POST"

    def begin(self) -> str:
        self.asking = self.connection()
        self.asking.request(self.method, "/wait", body=b"abc")
        return self.servers.waiting()

    def check_lost(self) -> None:
        answer = self.asking.getresponse()
        assert answer.status == 502
        assert answer.read()


class Repeatable(Unanswered):
    """To ask twice for the same does no harm, so the client does not even learn that a server died."""

    method = "GET"

    def begin(self) -> str:
        self.asking = self.connection()
        self.asking.request("GET", "/wait")
        self.name = self.servers.waiting()
        return self.name

    def check_lost(self) -> None:
        assert self.servers.waiting() != self.name


class Response(Http):
    path = "/length"

    def begin(self) -> str:
        self.asking = self.connection()
        self.asking.request("GET", self.path)
        self.answer = self.asking.getresponse()
        assert self.answer.status == 200
        name = self.answer.readline().decode().strip()
        assert self.servers.waiting() == name
        return name

    def check_lost(self) -> None:
        """What is there is not taken for the whole."""
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            self.answer.read()


class Chunked(Response):
    path = "/chunked"


class Http2(Http):
    """curl speaks HTTP/2 with the router; the server is one of HTTP/1.1."""

    client = "http2"
    path = "/chunked"
    ends_with = 92  # a stream of HTTP/2 that was not closed cleanly

    def begin(self) -> str:
        url = f"http://127.0.0.1:{self.port}{self.path}"
        self.asking = Program([find("curl", "curl"), "-sS", "-N", "--http2-prior-knowledge", url])
        self.stack.callback(self.asking.kill)
        name = self.asking.line()
        assert self.servers.waiting() == name
        return name

    def check_lost(self) -> None:
        self.asking.output(self.ends_with)


class WebSocket(Conversation):
    def begin(self) -> str:
        self.stream = self.dial()
        self.socket = WSConnection(ConnectionType.CLIENT)
        self.stream.sendall(self.socket.send(Request(host="x", target="/talk")))
        return self.said()

    def said(self) -> str:
        while True:
            for event in self.socket.events():
                if isinstance(event, TextMessage):
                    return event.data
                assert isinstance(event, AcceptConnection)
            self.socket.receive_data(self.stream.recv(65536) or None)

    def check_lost(self) -> None:
        """The connection ends, without the word that would have ended it in order."""
        with contextlib.suppress(ConnectionResetError):
            assert self.stream.recv(1) == b""

    def ask(self) -> str:
        name = self.begin()
        self.stream.sendall(self.socket.send(TextMessage("more")))
        assert self.said() == "more"
        return name


class Grpc(Conversation):
    client = server = "http2"

    def stub(self) -> grpc_ends.Stub:
        return self.stack.enter_context(grpc_ends.client(self.port))

    def begin(self) -> str:
        self.calls = self.stub()
        self.call: Any = self.calls.wait.future(b"", timeout=10 * PATIENCE)
        return self.servers.waiting()

    def check_lost(self) -> None:
        error = self.call.exception(timeout=PATIENCE)
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error

    def ask(self) -> str:
        """On the same connection."""
        answer: bytes = self.calls.unary(b"", timeout=PATIENCE)
        return answer.decode().partition(":")[0]


class Chat(Grpc):
    """Both sides talk, and may go on to."""

    def begin(self) -> str:
        self.calls = self.stub()
        # What the client says next is never said.
        self.silence = self.stack.enter_context(contextlib.closing(Silence(b"hello")))
        self.call = self.calls.chat(self.silence, timeout=10 * PATIENCE)
        self.stack.callback(self.call.cancel)
        answer: bytes = next(self.call)
        return answer.decode().partition(":")[0]

    def check_lost(self) -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(grpc.RpcError) as caught:
            pool.submit(next, self.call).result(PATIENCE)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE, caught.value


class Silence:
    """Says one thing, and nothing else until it is closed."""

    def __init__(self, first: bytes) -> None:
        self._first = [first]
        self._over = threading.Event()

    def __iter__(self) -> Silence:
        return self

    def __next__(self) -> bytes:
        if self._first:
            return self._first.pop()
        self._over.wait()
        raise StopIteration

    def close(self) -> None:
        self._over.set()


class Udp(Conversation):
    client = server = "udp"

    def begin(self) -> str:
        self.socket = self.stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        self.socket.connect(("127.0.0.1", self.port))
        self.name = self.ask()
        return self.name

    def check_lost(self) -> None:
        """There are no errors: datagrams are lost until the flow is made anew."""
        end = time.monotonic() + PATIENCE
        while self.ask() == self.name:
            assert time.monotonic() < end

    def ask(self) -> str:
        """In the same flow: who is sent datagrams until one is answered."""
        self.socket.settimeout(0.1)
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                self.socket.send(b"who?")
                return self.socket.recv(100).decode()
            assert time.monotonic() < end


KINDS: tuple[type[Conversation], ...] = (
    Tcp,
    TcpUnread,
    Upload,
    Unanswered,
    Repeatable,
    Response,
    Chunked,
    Http2,
    WebSocket,
    Grpc,
    Chat,
    Udp,
)

# Those that two sites share as they have time. Flows of UDP go to the nearest site, as tests/services shows.
KINDS_OF_SITES = (Tcp, Upload, Unanswered, Repeatable, Response, WebSocket, Grpc, Chat)


def pour(stream: socket.socket) -> NoReturn:
    """Write until that raises an error."""
    while True:
        stream.sendall(bytes(65536))


def line_of(stream: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\n"):
        more = stream.recv(1)
        assert more, data
        data += more
    return data.decode().strip()


@contextlib.contextmanager
def sites_with(folder: Path, servers: Servers, east: str, hub: str = "") -> Iterator[Sites]:
    here = ports(*[kind.__name__ for kind in KINDS], "mqtt-west", "mqtt-east", "mqtt-hub")
    west = ""
    for kind in KINDS:
        west += service("listen", f"{kind.client}://127.0.0.1:{here[kind.__name__]}", kind.__name__)

    def mqtt(name: str) -> str:
        return f'[[service]]\nlisten = "mqtt://127.0.0.1:{here[f"mqtt-{name}"]}"\n'

    with three_sites(folder, west + mqtt("west"), east + mqtt("east"), hub + mqtt("hub")) as running:
        running.ports = here
        running.wait_for_address(running.west, *[kind.__name__ for kind in KINDS], routers=2 if hub else 1)
        for kind in KINDS:
            if kind.client == "tcp":
                wait_until_listening(here[kind.__name__])
        yield running


@contextlib.contextmanager
def begun(kind: type[Conversation], sites: Sites, servers: Servers) -> Iterator[tuple[Conversation, str]]:
    """A conversation with a server, and with which."""
    conversation = kind(sites.ports[kind.__name__], servers)
    with conversation.stack:
        yield conversation, conversation.begin()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    servers = Servers("one", "two")
    with contextlib.closing(servers):
        yield servers


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[Sites]:
    servers.start()
    with sites_with(tmp_path_factory.mktemp("death"), servers, servers.services("one", "two")) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_server_dies(sites: Sites, servers: Servers, kind: type[Conversation]) -> None:
    servers.start()
    with begun(kind, sites, servers) as (conversation, name):
        servers.kill(name)
        conversation.check_lost()
        assert {conversation.ask() for _ in range(5)} == {"one", "two"} - {name}


def begin_with(wanted: str, kind: type[Conversation], sites: Sites, servers: Servers) -> Iterator[Conversation]:
    """Begin conversations until one is with this server."""
    for _ in range(ATTEMPTS):
        conversation = kind(sites.ports[kind.__name__], servers)
        yield conversation
        if conversation.begin() == wanted:
            return
    pytest.fail(f"{ATTEMPTS} attempts, and none of {kind.__name__} came to {wanted}")


def test_a_router_dies(tmp_path: Path) -> None:
    """And all conversations with servers behind it; those with servers behind another go on."""
    servers = Servers("far", "near")
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(servers))
        servers.start()
        sites = stack.enter_context(sites_with(tmp_path, servers, servers.services("far"), servers.services("near")))
        conversations: list[Conversation] = []
        near: list[Conversation] = []
        for kind in KINDS_OF_SITES:
            for each in begin_with("far", kind, sites, servers):
                stack.callback(each.stack.close)
                near.append(each)
            conversations.append(near.pop())
        sites.kill_east()
        # Only a request that may be repeated is heard of again.
        for conversation in sorted(conversations, key=lambda conversation: not isinstance(conversation, Repeatable)):
            conversation.check_lost()
            assert {conversation.ask() for _ in range(3)} == {"near"}
        for each in near:
            if type(each) is Tcp:
                each.stream.sendall(b"more\n")
                assert line_of(each.stream) == "more"
        sites.start_east()


def test_the_router_of_a_subscriber_dies(sites: Sites) -> None:
    here = sites.ports
    with contextlib.ExitStack() as stack:

        def client(port: str, topic: str = "", *, acknowledges: bool = True) -> MqttClient:
            made = MqttClient(here[f"mqtt-{port}"], topic, acknowledges=acknowledges)
            return stack.enter_context(contextlib.closing(made))

        publisher = client("west")
        stays = client("hub", "both")
        goes = client("east", "both", acknowledges=False)
        alone = client("east", "one", acknowledges=False)
        sites.wait_for_address(sites.west, "mqtt/both", "mqtt/one")
        publisher.publish("both", "first")
        assert stays.heard.get(timeout=PATIENCE) == goes.heard.get(timeout=PATIENCE) == "first"
        publisher.publish("one", "lost")
        assert alone.heard.get(timeout=PATIENCE) == "lost"
        assert publisher.answers.empty()
        sites.kill_east()
        assert goes.lost.wait(PATIENCE)
        assert alone.lost.wait(PATIENCE)
        # One has the first for sure. The second was sent again, since it may be, and nobody was there any more.
        answers = {publisher.answers.get(timeout=PATIENCE) for _ in range(2)}
        assert answers == {0, NO_MATCHING_SUBSCRIBERS}
        publisher.publish("both", "second")
        assert stays.heard.get(timeout=PATIENCE) == "second"
        assert publisher.answers.get(timeout=PATIENCE) == 0
        sites.start_east()
        again = client("east", "both")
        end = time.monotonic() + PATIENCE
        while again.heard.empty():
            publisher.publish("both", "third")
            assert publisher.answers.get(timeout=PATIENCE) == 0
            assert time.monotonic() < end
