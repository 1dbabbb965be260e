"""Two ends of HTTP/2 connections and the wire between them: ours, and h2's own as the foreign one.

    ends = Ends()
    stream = ends.get("/a", sink := Told())
    ends.run()
    assert ends.served.streams[0].fields ...
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event

from van.adaptors.http.http2_connection import Http2Connection, Http2Owner, Http2Stream, StreamSink
from van.adaptors.http.http2_fields import Fields

EventT = TypeVar("EventT", bound=Event)

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"here"), (b":path", b"/")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
OK: Fields = [(b":status", b"200")]


class Told(StreamSink):
    """A sink that keeps what it is told, and sends what it is given; octets are passed on at once, or by hand."""

    def __init__(self, passing: bool = True) -> None:
        self.stream: Http2Stream | None = None
        self.passing = passing
        self.request: Fields = []
        self.informational: list[Fields] = []
        self.head: Fields = []
        self.head_ended = False
        self.body = b""
        self.trailers: Fields | None = None
        self.resets: list[tuple[int, bool]] = []
        self._head: Fields = []
        self._data: deque[bytes] = deque()
        self._end: Fields | None = None
        self.rooms: list[int] = []

    # -- told

    def on_informational(self, fields: Fields) -> None:
        self.informational.append(fields)

    def on_head(self, fields: Fields, ended: bool) -> None:
        assert not self.head
        self.head = fields
        self.head_ended = ended

    def on_data(self, data: bytes) -> None:
        assert self.trailers is None
        self.body += data
        if self.passing and self.stream is not None:
            self.stream.passed(len(data))

    def on_end(self, trailers: Fields) -> None:
        assert self.trailers is None
        self.trailers = trailers

    def on_reset(self, code: int, unprocessed: bool) -> None:
        assert not self.resets
        self.resets.append((code, unprocessed))

    # -- sending

    def send(self, head: Fields | None = None, data: bytes = b"", end: Fields | None = None) -> None:
        """Have this sent: a head, then data, and the end with its trailers."""
        if head:
            self._head = head
        if data:
            self._data.append(data)
        if end is not None:
            self._end = end
        assert self.stream is not None
        self.stream.want()

    @property
    def unsent(self) -> int:
        return sum(map(len, self._data))

    def produce(self, room: int) -> bool:
        stream = self.stream
        assert stream is not None
        self.rooms.append(room)
        if self._head:
            stream.send_head(self._head, False)
            self._head = []
        while self._data and room:
            data = self._data.popleft()
            stream.send_data(data[:room], False)
            if len(data) > room:
                self._data.appendleft(data[room:])
            room = max(0, room - len(data))
        if not self._data and self._end is not None:
            stream.send_trailers(self._end)
            self._end = None
        return bool(self._data)


class Holder(Http2Owner):
    """Whoever has a connection: keeps the requests that came, and counts what it is told."""

    def __init__(self, passing: bool = True) -> None:
        self.requests: list[Told] = []
        self.passing = passing
        self.sendable = 0
        self.changes = 0

    def on_request(self, stream: Http2Stream, fields: Fields, ended: bool) -> StreamSink:
        told = Told(self.passing)
        told.stream = stream
        told.request = fields
        told.head_ended = ended
        self.requests.append(told)
        return told

    def on_streams(self) -> None:
        self.changes += 1

    def on_sendable(self) -> None:
        self.sendable += 1


def octets(connection: Http2Connection, limit: int = 1 << 20) -> bytes:
    """All that a connection has to send."""
    data = b""
    while chunks := connection.take(limit):
        data += b"".join(chunks)
    return data


class Ends:
    """A client and a server of ours; the wire hands octets over whole, or in pieces."""

    def __init__(self, piece: int = 0, passing: bool = True) -> None:
        self.piece = piece
        self.now = 100.0
        self.calling = Holder(passing)
        self.serving = Holder(passing)
        self.client = Http2Connection(self.calling, client=True, now=self.now)
        self.server = Http2Connection(self.serving, client=False, now=self.now)
        self.run()

    def run(self) -> None:
        """Until nothing moves any more."""
        while self._move(self.client, self.server) | self._move(self.server, self.client):
            pass

    def _move(self, source: Http2Connection, target: Http2Connection) -> bool:
        data = octets(source)
        for offset in range(0, len(data), self.piece or len(data) or 1):
            target.receive(data[offset : offset + (self.piece or len(data))], self.now)
        return bool(data)

    def ask(self, fields: Fields = GET, ended: bool = True, passing: bool = True) -> Told:
        """Open a stream; returns our end of it."""
        told = Told(passing)
        told.stream = self.client.open(fields, ended, told)
        return told


class Foreign:
    """h2 as client or server, and one of our connections as the other side."""

    def __init__(self, client: bool, **options: float) -> None:
        self.now = 100.0
        self.holder = Holder()
        self.ours = Http2Connection(self.holder, client=not client, now=self.now, **options)  # type: ignore[arg-type]
        self.theirs = H2Connection(H2Configuration(client_side=client, header_encoding=None))
        self.theirs.initiate_connection()
        self.events: list[Event] = []
        self.run()

    def run(self) -> None:
        while True:
            mine = octets(self.ours)
            foreign = self.theirs.data_to_send()
            if not mine and not foreign:
                return
            if foreign:
                self.ours.receive(foreign, self.now)
            if mine:
                self.events += self.theirs.receive_data(mine)

    def raw(self, octets_: bytes) -> None:
        """Send what h2 would not."""
        self.ours.receive(octets_, self.now)

    def seen(self, kind: type[EventT]) -> list[EventT]:
        return [event for event in self.events if isinstance(event, kind)]
