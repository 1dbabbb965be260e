"""A connection of HTTP/2 takes any octets, of a client or of a server, at any pace; no other client notices.

The whole of it: the choice of a version, the connection, fields, exchanges and the router behind, with a well-behaved
client beside. What is answered are whole frames, no stream holds more than its window, what is let through is a request
or a response for whoever reads the message, and when all have gone nothing is left.

An input is two octets of options and then either a stream, or items of (type, flags, stream, length, body) that are put
into frames. It is handed over in pieces as large as the second octet says.
"""

from __future__ import annotations

import itertools

from harness import main
from hyperframe.frame import Frame, SettingsFrame

from van.adaptors.amqp import no_log
from van.adaptors.http.exchange import IncomingBody
from van.adaptors.http.far_side import HttpConnectingService, ServerExchange
from van.adaptors.http.http2_connection import PREFACE, Http2Connection
from van.adaptors.http.http2_far import FarConnection
from van.adaptors.http.http2_limits import MAX_PENDING, STREAM_WINDOW
from van.adaptors.http.http2_near import NearConnection
from van.adaptors.http.http2_service import Http2ConnectingService, Http2ListeningService
from van.adaptors.http.mapping import VERSION, ResponseHead
from van.adaptors.service import DialFailed, MakeAdaptor, PeerInfo
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import Rejected
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointSenderLink
from van.routing.router import Router

DECODER = {
    "van.adaptors.http.http2_connection": (
        r"^Http2Connection\.(receive|_frame|_feed|_happened|_request|_accepted|_refuse|_wrong|_fields|_data|"
        r"_received_all|_goaway|_settings_changed|_unblock|_length)"
    ),
    "van.adaptors.http.http2_fields": r"^(_common_fault|request_fault|response_fault|trailers_fault|content_length)",
    "van.adaptors.http.http2_either": r"^(upgrade_request|EitherVersion\._decide)",
    "van.adaptors.http.http2_near": r"^NearStream\.__init__",
}

PLANTED = (
    # A stream that both sides have ended is reset.
    ("van.adaptors.http.http2_connection", "        with suppress(StreamClosedError):\n", "        if True:\n"),
    # A value may go on in another line.
    (
        "van.adaptors.http.http2_fields",
        "        if _VALUE.fullmatch(value) is None:\n",
        "        if _VALUE.match(value) is None:\n",
    ),
    # Octets that nobody has announced are none too many.
    (
        "van.adaptors.http.http2_fields",
        "            if _DIGITS.fullmatch(value) is None:\n                return -1\n",
        "",
    ),
)

# The peer is a server, whom two requests were put; else it is a client.
SERVER = 1
# It has begun as it should.
BEGUN = 2
# Items are put into frames.
FRAMES = 4
# It takes nothing.
DEAF = 8

BEGINNING = SettingsFrame(0).serialize()
# HEADERS with :method GET, :scheme http, :path /, and :authority: of the static table, but for the last.
ASKS = b"\x82\x86\x84\x41\x01w"
CALLS = b"\x83\x86\x84\x41\x01w\x5f\x10application/grpc"
WITNESS = PREFACE + BEGINNING + bytes((0, 0, len(ASKS), 1, 5, 0, 0, 0, 1)) + ASKS
ASKER = WITNESS + bytes((0, 0, len(CALLS), 1, 4, 0, 0, 0, 3)) + CALLS
ECHO = b"still here"


class Echo(HttpConnectingService):
    """A server that answers everything at once."""

    def free(self) -> bool:
        return True

    def serve(self, exchange: ServerExchange) -> None:
        exchange.answer(ResponseHead(200, []), more=True)
        exchange.body(ECHO)
        exchange.end()

    def settle(self, link: EndpointSenderLink, delivery: Delivery, body: IncomingBody, state: object) -> None:
        named = (body.head.application_properties if body.head is not None else None) or {}
        # What HTTP/1.1 lets through has a target of its own.
        assert named.get(VERSION) != "2" or not isinstance(state, Rejected), state
        super().settle(link, delivery, body, state)


class Wire:
    """A peer's connection."""

    def __init__(self, router: Router, adaptor: Adaptor) -> None:
        self.router = router
        self.adaptor = adaptor
        self.heard = b""
        self.deaf = False
        adaptor.on_wake = self.flush

    @property
    def connection(self) -> Http2Connection | None:
        inner = getattr(self.adaptor, "inner", self.adaptor)
        return inner.connection if isinstance(inner, NearConnection | FarConnection) else None

    def flush(self) -> None:
        if self.deaf:
            self.adaptor.look()
            return
        while chunks := self.adaptor.data_to_send(65536):
            self.heard += b"".join(chunks)

    def feed(self, data: bytes) -> None:
        if not self.adaptor.closed:
            self.adaptor.receive_data(data, 1.0)
            self.router.wake_touched()

    def lose(self) -> None:
        self.adaptor.receive_eof(2.0)
        self.router.wake_touched()
        self.adaptor.connection_lost(2.0)
        self.router.wake_touched()

    def check(self) -> None:
        """What was sent are whole frames, and nothing is held or due beyond its bounds."""
        connection = self.connection
        if connection is None:
            return
        heard = self.heard
        if heard.startswith(b"HTTP/1.1 101"):
            heard = heard.partition(b"\r\n\r\n")[2]
        pos = len(PREFACE) if connection.client else 0
        while pos < len(heard):
            frame, length = Frame.parse_frame_header(memoryview(heard[pos : pos + 9]))
            frame.parse_body(memoryview(heard[pos + 9 : pos + 9 + length]))
            pos += 9 + length
        assert pos == len(heard) or not heard
        assert all(stream.held <= STREAM_WINDOW for stream in connection.streams.values())
        assert connection._pending <= MAX_PENDING + 1000


def frames(data: bytes) -> bytes:
    """Items as frames."""
    out = b""
    pos = 0
    while pos + 4 <= len(data):
        kind, flags, stream, length = data[pos : pos + 4]
        body = data[pos + 4 : pos + 4 + length]
        pos += 4 + length
        out += bytes((0, 0, len(body), kind, flags, 0, 0, 0, stream)) + body
    return out


def one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    options = data[0]
    tokens = itertools.count()
    router = Router("A", tokens=lambda: f"t{next(tokens)}")
    near = Http2ListeningService(router, "near", "w", no_log)
    dials: list[tuple[MakeAdaptor, DialFailed]] = []
    witness = Wire(router, near.accept(PeerInfo()))
    far: HttpConnectingService
    if options & SERVER:
        far = Http2ConnectingService(router, "far", "w", no_log)
        far.dial = lambda connected, failed, alpn=(): dials.append((connected, failed))
        witness.feed(ASKER)
        peer = Wire(router, dials.pop()[0](PeerInfo()))
    else:
        far = Echo(router, "far", "w", no_log)
        peer = Wire(router, near.accept(PeerInfo()))
    peer.flush()
    peer.deaf = options & DEAF != 0
    rest = data[2:]
    if options & FRAMES:
        rest = frames(rest)
    if options & BEGUN:
        peer.feed((b"" if options & SERVER else PREFACE) + BEGINNING)
    step = data[1] or len(rest) or 1
    for start in range(0, len(rest), step):
        peer.feed(rest[start : start + step])
    peer.check()
    if not options & SERVER:
        witness.feed(WITNESS)
        assert ECHO in witness.heard
        witness.check()
    peer.lose()
    while dials:
        dials.pop()[1]("nobody is there")
        router.wake_touched()
    witness.check()
    if options & SERVER:
        connection = witness.connection
        assert connection is not None
        assert not connection.streams or not connection.streams.keys() - {3}
    witness.lose()
    for exchange in list(far.exchanges):
        exchange.fail("the end", seen=True)
    near.stop()
    far.stop()
    router.wake_touched()
    assert not near.exchanges
    assert not far.exchanges
    assert not near.connections
    assert router.budget.held() == 0


main(__name__)
