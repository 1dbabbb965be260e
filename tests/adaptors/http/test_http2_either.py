"""Clients of either version of HTTP at one port: by their first octets, by asking in HTTP/1.1, and by ALPN."""

from __future__ import annotations

import h11
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived

from tests.adaptors.http.http2_ends import GET as AGAIN
from tests.adaptors.http.http2_ends import OK
from tests.adaptors.http.http2_scene import Scene
from van.adaptors.http.http1_near import Http1ClientConnection
from van.adaptors.http.http2_connection import PREFACE
from van.adaptors.http.http2_either import MAX_FIRST_HEAD, EitherVersion, upgrade_request
from van.adaptors.http.http2_near import NearConnection
from van.adaptors.service import PeerInfo

GET = b"GET /x HTTP/1.1\r\nHost: here\r\n"
ASKING = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


class Client:
    """Octets in and out of a connection that a service has accepted."""

    def __init__(self, scene: Scene, *, alpn: str = "", encrypted: bool = False) -> None:
        self.scene = scene
        self.adaptor = scene.service.accept(PeerInfo(("192.0.2.9", 1), alpn=alpn, encrypted=encrypted or bool(alpn)))
        self.heard = b""
        self.adaptor.on_wake = self.flush

    def flush(self) -> None:
        while chunks := self.adaptor.data_to_send(65536):
            self.heard += b"".join(chunks)

    def say(self, octets: bytes, piece: int = 0) -> bytes:
        """Send octets; returns what is heard then."""
        for offset in range(0, len(octets), piece or len(octets)):
            self.adaptor.receive_data(octets[offset : offset + (piece or len(octets))], self.scene.now)
            self.scene.nodes[0].router.wake_touched()
        self.scene.run()
        heard = self.heard
        self.heard = b""
        return heard

    def lose(self) -> None:
        self.adaptor.connection_lost(self.scene.now)


@pytest.fixture(params=[0, 1], ids=["whole", "octets"])
def piece(request: pytest.FixtureRequest) -> int:
    size: int = request.param
    return size


def serve(scene: Scene, body: bytes) -> None:
    scene.server.requests[-1].answer(OK, body)
    scene.run()


def test_http_1_1_at_a_port_of_http_2(piece: int) -> None:
    scene = Scene()
    client = Client(scene)
    assert client.say(GET + b"Accept: a\r\n\r\n", piece) == b""
    request = scene.server.requests[0]
    assert (request.field(b":path"), request.field(b":authority")) == (b"/x", b"here")
    serve(scene, b"hello")
    heard = client.heard
    assert heard.startswith(b"HTTP/1.1 200")
    assert b"hello" in heard
    client.heard = b""
    assert client.say(GET + b"\r\n") == b""
    serve(scene, b"again")
    assert b"again" in client.heard
    client.lose()
    scene.close()


def test_http_2_by_its_preface(piece: int) -> None:
    scene = Scene()
    client = Client(scene)
    theirs = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    theirs.initiate_connection()
    events = theirs.receive_data(client.say(theirs.data_to_send(), piece))
    assert events
    assert isinstance(client.adaptor, EitherVersion)
    assert isinstance(client.adaptor.inner, NearConnection)
    client.lose()
    scene.close()


def upgrading(method: bytes = b"GET") -> tuple[H2Connection, bytes]:
    theirs = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    settings = theirs.initiate_upgrade_connection()
    assert settings is not None
    head = method + b" /x?y HTTP/1.1\r\nHost: here\r\nAccept: a\r\n" + ASKING
    return theirs, head + b"HTTP2-Settings: " + settings.rstrip(b"=") + b"\r\n\r\n"


def test_http_2_by_asking_in_http_1_1(piece: int) -> None:
    scene = Scene(2)
    client = Client(scene)
    theirs, head = upgrading()
    heard = client.say(head, piece)
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "x"), ("Upgrade", "h2c")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(heard)
    switched = parser.next_event()
    assert isinstance(switched, h11.InformationalResponse)
    assert switched.status_code == 101
    assert (b"upgrade", b"h2c") in list(switched.headers)
    theirs.receive_data(parser.trailing_data[0])
    theirs.receive_data(client.say(theirs.data_to_send(), piece))
    (request,) = scene.server.requests
    assert (request.field(b":path"), request.field(b"accept"), request.ended) == (b"/x?y", b"a", True)
    assert not request.field(b"http2-settings")
    serve(scene, b"hello")
    events: list[Event] = theirs.receive_data(client.heard)
    assert [event.stream_id for event in events if isinstance(event, ResponseReceived)] == [1]
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"hello"]
    client.heard = b""
    theirs.send_headers(3, AGAIN, end_stream=True)
    client.say(theirs.data_to_send())
    serve(scene, b"more")
    events = theirs.receive_data(client.heard)
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"more"]
    client.lose()
    scene.close()


@pytest.mark.parametrize(
    "fields",
    [
        # Without what it takes.
        ASKING,
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        ASKING + b"HTTP2-Settings: AAMAAABk\r\nHTTP2-Settings: AAMAAABk\r\n",
        # Settings that are none.
        ASKING + b"HTTP2-Settings: !!!\r\n",
        ASKING + b"HTTP2-Settings: AAM\r\n",
        ASKING + b"HTTP2-Settings: " + b"AAMAAABk" * 100 + b"\r\n",
        ASKING + b"HTTP2-Settings: AAX_____\r\n",
        # With a body.
        ASKING + b"HTTP2-Settings: AAMAAABk\r\nContent-Length: 1\r\n",
        ASKING + b"HTTP2-Settings: AAMAAABk\r\nTransfer-Encoding: chunked\r\n",
        b"X-Said: h2c\r\n",
    ],
)
def test_what_does_not_ask_as_it_should_stays_http_1_1(fields: bytes) -> None:
    scene = Scene()
    client = Client(scene)
    heard = client.say(GET + fields + b"\r\n")
    assert b"101" not in heard[:20]
    assert isinstance(client.adaptor, EitherVersion)
    assert isinstance(client.adaptor.inner, Http1ClientConnection)
    client.lose()
    scene.close()


def test_behind_tls_nobody_asks_like_that() -> None:
    scene = Scene()
    client = Client(scene, encrypted=True)
    _, head = upgrading()
    assert b"101" not in client.say(head)[:20]
    assert isinstance(client.adaptor, EitherVersion)
    assert isinstance(client.adaptor.inner, Http1ClientConnection)
    client.lose()
    scene.close()


def test_which_requests_ask() -> None:
    asking = GET + ASKING + b"HTTP2-Settings: AAMAAABk\r\nTE: trailers\r\n\r\n"
    settings, fields = upgrade_request(asking) or (b"", [])
    assert settings == b"AAMAAABk"
    assert fields == [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"here"), (b":path", b"/x")]
    assert upgrade_request(asking.replace(b"HTTP/1.1", b"HTTP/1.0")) is None
    assert upgrade_request(asking.replace(b"Host", b"Toast")) is None
    assert upgrade_request(b"\x16\x03\x01h2c\r\n\r\n") is None


def test_alpn_says_it() -> None:
    scene = Scene()
    assert isinstance(Client(scene, alpn="h2").adaptor, NearConnection)
    assert isinstance(Client(scene, alpn="http/1.1").adaptor, Http1ClientConnection)


def test_a_head_that_is_too_long_to_look_into_is_http_1_1s() -> None:
    scene = Scene()
    client = Client(scene)
    client.say(GET + b"X: " + b"x" * MAX_FIRST_HEAD)
    assert isinstance(client.adaptor, EitherVersion)
    assert isinstance(client.adaptor.inner, Http1ClientConnection)
    client.lose()
    scene.close()


def test_a_client_that_says_nothing_is_closed_and_so_is_one_that_ends() -> None:
    scene = Scene()
    for octets in (b"", PREFACE[:5], b"GET"):
        client = Client(scene)
        if octets:
            client.say(octets)
        assert client.adaptor.next_deadline() == scene.now + scene.service.header_timeout
        client.adaptor.look()
        client.adaptor.handle_deadline(client.adaptor.next_deadline())
        assert client.adaptor.closed
        client.lose()
        client = Client(scene)
        client.adaptor.receive_data(octets, scene.now)
        client.adaptor.receive_eof(scene.now)
        client.flush()
        assert client.adaptor.closed
        client.lose()
        client = Client(scene)
        client.adaptor.close("amqp:connection:forced", "the router ends")
        assert client.adaptor.closed
        client.lose()
    scene.close()


def test_the_driver_sees_what_the_one_inside_wants() -> None:
    scene = Scene()
    client = Client(scene)
    client.say(GET + b"\r\n")
    adaptor = client.adaptor
    assert isinstance(adaptor, EitherVersion)
    assert adaptor.inner is not None
    assert adaptor.next_deadline() == adaptor.inner.next_deadline()
    assert adaptor.gives_up_at() == adaptor.inner.gives_up_at()
    adaptor.look()
    adaptor.handle_deadline(scene.now)
    adaptor.close("amqp:connection:forced", "the router ends")
    assert adaptor.reason == "the router ends"
    client.lose()
    scene.close()
