"""Clients and servers of HTTP/2 at the ends of a line of routers, both of them h2's own, without sockets.

    scene = Scene(routers=2, servers=2)
    call = scene.client.ask(GET)
    scene.run()
    scene.servers[0].requests[0].answer(OK, b"hello")
    scene.run()
    assert call.body == b"hello"
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import StreamClosedError

from tests.adaptors.http.http2_ends import GET
from tests.adaptors.routers import RouterNode, Routers
from van.adaptors.http.http2_fields import Fields
from van.adaptors.http.http2_service import Http2ConnectingService, Http2ListeningService
from van.adaptors.service import DialFailed, MakeAdaptor, PeerInfo
from van.routing.adaptor import Adaptor


class Stream:
    """One stream, as a foreign end has it."""

    def __init__(self, end: End, number: int) -> None:
        self.end = end
        self.number = number
        self.head: Fields = []
        self.informational: list[Fields] = []
        self.body = b""
        self.trailers: Fields = []
        self.ended = False
        self.reset: ErrorCodes | int | None = None
        self._unsent = memoryview(b"")
        self._end_with: Fields | None = None

    def field(self, name: bytes) -> bytes:
        return dict(self.head).get(name, b"")

    @property
    def status(self) -> int:
        return int(self.field(b":status") or b"0")

    def send(self, data: bytes = b"", end: Fields | None = None) -> Stream:
        """Send of a body what the window takes, the rest when it takes more; with `end` its end."""
        if data:
            self._unsent = memoryview(bytes(self._unsent) + data)
        if end is not None:
            self._end_with = end
        self.push()
        return self

    def answer(self, head: Fields, body: bytes = b"", end: Fields | None = None) -> None:
        """Answer whole."""
        self.end.h2.send_headers(self.number, head, end_stream=not body and not end)
        if body or end:
            self.send(body, end or [])

    def push(self) -> None:
        h2 = self.end.h2
        if self.reset is not None:
            return
        try:
            while self._unsent:
                room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)
                if room <= 0:
                    return
                h2.send_data(self.number, bytes(self._unsent[:room]))
                self._unsent = self._unsent[room:]
            if self._end_with is not None:
                if self._end_with:
                    h2.send_headers(self.number, self._end_with, end_stream=True)
                else:
                    h2.end_stream(self.number)
                self._end_with = None
        except StreamClosedError:
            self.reset = ErrorCodes.STREAM_CLOSED

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    def cancel(self, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        self.end.h2.reset_stream(self.number, code)


class End:
    """A foreign end and the adaptor at the other side of its wire. `reading`: bodies are read as they come."""

    def __init__(self, scene: Scene, adaptor: Adaptor, client: bool, name: str = "") -> None:
        self.scene = scene
        self.adaptor = adaptor
        self.name = name
        self.h2 = H2Connection(H2Configuration(client_side=client, header_encoding=None))
        self.h2.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.events: list[Event] = []
        self.reading = True
        self.taking = True
        self.gone = False
        # Nothing moves any more, and nobody knows.
        self.frozen = False
        self.terminated: ConnectionTerminated | None = None
        self._unread: list[DataReceived] = []
        self._to_peer = b""
        adaptor.on_wake = self.flush
        scene.ends.append(self)
        scene.network.run()

    @property
    def requests(self) -> list[Stream]:
        return list(self.streams.values())

    def ask(self, fields: Fields = GET, ended: bool = True) -> Stream:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, fields, end_stream=ended)
        stream = self.streams[number] = Stream(self, number)
        return stream

    def flush(self) -> None:
        """The adaptor may have something to write."""
        if self.gone:
            return
        if not self.taking:
            self.adaptor.look()
            return
        while chunks := self.adaptor.data_to_send(65536):
            self._to_peer += b"".join(chunks)

    def step(self) -> bool:
        """Move what there is."""
        if self.gone or (self.frozen and not self.adaptor.closed):
            return False
        data = self._to_peer
        self._to_peer = b""
        if data and self.terminated is None:
            for event in self.h2.receive_data(data):
                self._happened(event)
            for stream in self.streams.values():
                stream.push()
        out = self.h2.data_to_send()
        piece = self.scene.piece or len(out) or 1
        for offset in range(0, len(out), piece):
            if not self.adaptor.closed:
                self.adaptor.receive_data(out[offset : offset + piece], self.scene.now)
                self.adaptor_router().wake_touched()
        if self.adaptor.closed:
            self.lose()
            return True
        return bool(data or out)

    def adaptor_router(self) -> Any:
        return self.adaptor.router  # type: ignore[attr-defined]

    def lose(self, eof: bool = False) -> None:
        """The connection is gone."""
        if not self.gone:
            if eof:
                self.adaptor.receive_eof(self.scene.now)
                self.adaptor_router().wake_touched()
                if not self.adaptor.closed:
                    return
            self.gone = True
            self.adaptor.connection_lost(self.scene.now)
            self.adaptor_router().wake_touched()

    def _happened(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, RequestReceived):
            self.streams[event.stream_id] = Stream(self, event.stream_id)
            self.streams[event.stream_id].head = [(name, value) for name, value in event.headers]
        elif isinstance(event, ResponseReceived):
            self.streams[event.stream_id].head = [(name, value) for name, value in event.headers]
        elif isinstance(event, InformationalResponseReceived):
            self.streams[event.stream_id].informational.append([(name, value) for name, value in event.headers])
        elif isinstance(event, TrailersReceived):
            self.streams[event.stream_id].trailers = [(name, value) for name, value in event.headers]
        elif isinstance(event, DataReceived):
            self.streams[event.stream_id].body += event.data
            if self.reading:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                self._unread.append(event)
        elif isinstance(event, StreamEnded):
            self.streams[event.stream_id].ended = True
        elif isinstance(event, StreamReset):
            self.streams[event.stream_id].reset = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self.terminated = event

    def read_on(self) -> None:
        """Read what was left, and from now on as it comes."""
        self.reading = True
        for event in self._unread:
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self._unread.clear()


class Server:
    """A server: connections to it are made when its service dials. `refusing`: none can be made."""

    def __init__(self, scene: Scene, node: RouterNode, address: str, **settings: Any) -> None:
        self.scene = scene
        self.service = Http2ConnectingService(
            node.router, f"server{len(scene.servers)}", address, node.log, **settings
        )
        self.service.dial = self.dial
        self.service.later = scene.later
        self.dials: list[tuple[MakeAdaptor, DialFailed]] = []
        self.tried: list[float] = []
        self.refusing = ""
        self.answering = True
        self.alpn = ""
        self.lines: list[End] = []

    def dial(self, connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...] = ()) -> None:
        self.dials.append((connected, failed))
        self.tried.append(self.scene.now)

    def step(self) -> bool:
        if not self.dials or not self.answering:
            return False
        connected, failed = self.dials.pop()
        if self.refusing:
            failed(self.refusing)
        else:
            adaptor = connected(PeerInfo(("127.0.0.1", 80), alpn=self.alpn))
            self.lines.append(End(self.scene, adaptor, False, self.service.name))
        self.service.router.wake_touched()
        return True

    @property
    def requests(self) -> list[Stream]:
        return [request for line in self.lines for request in line.requests]

    @property
    def open(self) -> list[Stream]:
        """Requests that were not answered yet."""
        return [request for request in self.requests if not request.status]

    def die(self, eof: bool = False) -> None:
        for line in self.lines:
            line.lose(eof)
        self.lines.clear()


class Scene:
    """A client at the first of a line of routers, servers at the last."""

    def __init__(
        self,
        routers: int = 1,
        *,
        servers: int = 1,
        piece: int = 0,
        star: bool = False,
        connecting: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """star: the first router is connected to all others, and each of these has one of the servers."""
        self.network = Routers()
        self.piece = piece
        self.ends: list[End] = []
        self.servers: list[Server] = []
        self.calls: list[tuple[float, Callable[[], None]]] = []
        self.nodes: list[RouterNode] = [self.network.router(name) for name in "ABC"[:routers]]
        for one, other in zip(self.nodes, self.nodes[1:], strict=False):
            self.network.connect(self.nodes[0] if star else one, other)
        self.network.advance(10)
        self.service = Http2ListeningService(self.nodes[0].router, "client", "web", self.nodes[0].log, **settings)
        for number in range(servers):
            node = self.nodes[number + 1 if star else -1]
            self.servers.append(Server(self, node, "web", **(connecting or {})))
        self.network.advance(2)
        self.client = self.connect()
        self.run()

    @property
    def now(self) -> float:
        return self.network.now

    @property
    def server(self) -> Server:
        return self.servers[0]

    def connect(self) -> End:
        """Another client."""
        return End(self, self.service.accept(PeerInfo(("192.0.2.7", 4000))), True)

    def run(self) -> None:
        """Until nothing moves any more."""
        moving = True
        while moving:
            self.network.run()
            moving = False
            for end in list(self.ends):
                moving |= end.step()
            for server in self.servers:
                moving |= server.step()

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        self.calls.append((self.now + seconds, function))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.run()
        until = self.now + seconds
        while True:
            adaptors = [end.adaptor for end in self.ends if not end.gone]
            times = [*(each.next_deadline() for each in adaptors), *(when for when, _ in self.calls)]
            deadline = min(times, default=inf)
            self.network.advance(max(0.0, min(deadline, until) - self.now))
            if deadline > until:
                break
            for adaptor in adaptors:
                if adaptor.next_deadline() <= self.now:
                    adaptor.handle_deadline(self.now)
            due = [function for when, function in self.calls if when <= self.now]
            self.calls = [each for each in self.calls if each[0] > self.now]
            for function in due:
                function()
            self.run()
        self.run()

    def held(self) -> int:
        return sum(node.router.budget.held() for node in self.nodes)

    def logged(self, event: str) -> list[dict[str, object]]:
        return [fields for node in self.nodes for fields in node.lines(event)]

    def close(self) -> None:
        """Nothing is left behind."""
        self.run()
        for end in self.ends:
            adaptor: Any = getattr(end.adaptor, "inner", None) or end.adaptor
            assert end.gone or not getattr(adaptor, "sinks", None)
            end.lose()
        self.run()
        assert not self.service.exchanges
        assert not self.service.sent
        assert not self.service.queue
        assert not self.service.connections
        for server in self.servers:
            assert not server.service.exchanges
            assert not server.service.sent
            assert not server.service.waiting
            assert not server.service.session.unsettled_out
            assert not server.service.connections
            server.service.stop()
        assert self.held() == 0
        self.service.stop()
        self.network.advance(2)
        for node in self.nodes:
            assert not [key for key in node.router.addresses if key.startswith("Mweb")]
            assert not node.router.streams


