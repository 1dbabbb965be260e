"""What connections of HTTP/2 have in common, to clients and to servers: between a driver and the streams' exchanges.

What the core has to say of an exchange comes in the middle of somebody else's batch. It is noted, the adaptor is
touched, and when it is asked for octets each sink that was noted looks at its exchange.
"""

from __future__ import annotations

from collections import deque

from van.adaptors.http.exchange import Channel, Exchange
from van.adaptors.http.http2_connection import NO_ERROR, Http2Connection, Http2Owner, Http2Stream, StreamSink
from van.adaptors.http.http2_fields import Fields
from van.adaptors.http.http2_limits import MAX_STREAMS, MAX_STREAMS_TO_SERVER, PROGRESS
from van.adaptors.service import Complaints, PeerInfo, Service
from van.routing.adaptor import LARGE_READ_SIZE, Adaptor
from van.routing.router import Router


class ExchangeSink(StreamSink):
    """A stream and the exchange that it belongs to. `over`: neither wants anything of the other any more."""

    def __init__(self, adaptor: Http2Adaptor) -> None:
        self.adaptor = adaptor
        self.stream: Http2Stream | None = None
        self.over = False
        self.noted = False
        # What the peer has sent and the exchange had no room for yet, in octets at most a window; then its end.
        self.arrived: deque[bytes] = deque()
        self.arrived_all = False
        self.arrived_trailers: Fields = []
        # What was read of the exchange and the peer's window had no room for.
        self.unsent: bytes = b""

    def told(self, exchange: Exchange) -> None:
        """What the exchange calls when there is something new."""
        if not self.noted and not self.over:
            self.noted = True
            self.adaptor.note(self)

    def look(self) -> None:
        """See what the exchange has to say."""
        raise NotImplementedError

    def expire(self, now: float) -> None:
        """See whether a deadline has come."""

    def next_deadline(self) -> float:
        """When `expire` wants to be called."""
        raise NotImplementedError

    def exchange_room(self) -> int:
        """How many octets the exchange takes now."""
        raise NotImplementedError

    def exchange_body(self, data: bytes | memoryview) -> None:
        """Give the exchange some of the body."""
        raise NotImplementedError

    def exchange_end(self, trailers: Fields) -> None:
        """Give the exchange the end of the body."""
        raise NotImplementedError

    def on_data(self, data: bytes) -> None:
        self.arrived.append(data)
        self.pump()

    def on_end(self, trailers: Fields) -> None:
        self.arrived_all = True
        self.arrived_trailers = trailers
        self.pump()

    def pump(self) -> None:
        """Give the exchange what has arrived, as far as it has room; the peer may send as much again."""
        if self.over:
            return
        arrived = self.arrived
        stream = self.stream
        passed = 0
        while arrived:
            room = self.exchange_room()
            if room <= 0:
                break
            data: bytes | memoryview = arrived.popleft()
            if len(data) > room:
                arrived.appendleft(bytes(data[room:]))
                data = data[:room]
            passed += len(data)
            self.exchange_body(data)
        if passed and stream is not None:
            stream.passed(passed)
        if self.arrived_all and not arrived:
            self.arrived_all = False
            self.exchange_end(self.arrived_trailers)

    def finish(self) -> None:
        """Neither side wants anything more."""
        self.over = True
        self.arrived.clear()
        self.unsent = b""
        if self.stream is not None:
            self.stream.passed(self.stream.held)
        self.adaptor.sinks.pop(self, None)


class AdaptorOwner(Http2Owner):
    """Tells the adaptor what its connection says."""

    def __init__(self, adaptor: Http2Adaptor) -> None:
        self.adaptor = adaptor

    def on_request(self, stream: Http2Stream, fields: Fields, ended: bool) -> StreamSink:
        return self.adaptor.on_request(stream, fields, ended)

    def on_streams(self) -> None:
        self.adaptor.on_streams()

    def on_sendable(self) -> None:
        self.adaptor.touch()


class Http2Adaptor(Adaptor):
    """One connection of a service."""

    def __init__(
        self,
        service: Service,
        complaints: Complaints,
        info: PeerInfo,
        *,
        client: bool,
        idle_timeout: float,
        upgrade: bytes | None = None,
    ) -> None:
        super().__init__()
        self.service = service
        self.router: Router = service.router
        self.complaints = complaints
        self.info = info
        self.channel: Channel
        self.sinks: dict[ExchangeSink, None] = {}
        self.read_size = LARGE_READ_SIZE
        self._noted: list[ExchangeSink] = []
        self._touched = False
        self._eof = False
        self.lost = False
        self.connection = Http2Connection(
            AdaptorOwner(self),
            client=client,
            now=service.router.now,
            max_streams=MAX_STREAMS_TO_SERVER if client else MAX_STREAMS,
            idle_timeout=idle_timeout,
            upgrade=upgrade,
        )
        service.connections += 1
        service.connections_opened += 1

    # -- for sinks -----------------------------------------------------------------------------------------------

    def note(self, sink: ExchangeSink) -> None:
        """The sink wants to look at its exchange."""
        self._noted.append(sink)
        self.touch()

    def touch(self) -> None:
        """Have the driver ask for octets, once."""
        if not self._touched:
            self._touched = True
            self.router.touch(self)

    # -- from the connection -------------------------------------------------------------------------------------

    def on_request(self, stream: Http2Stream, fields: Fields, ended: bool) -> StreamSink:
        """A client asks."""
        raise NotImplementedError

    def on_streams(self) -> None:
        """There may be room for streams, or there will be none any more."""

    # -- from the driver -----------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        if self._eof:
            return
        connection = self.connection
        self.router.now = now
        self.service.octets_in += len(data)
        connection.receive(data, now)
        self.opened = connection.opened
        if connection.failed:
            self._complain()
        if connection.finished:
            self.touch()

    def receive_eof(self, now: float) -> None:
        self._eof = True
        self.router.now = now
        if not self.connection.finished:
            self.reason = self.reason or "the peer has ended the connection"
        self.connection.now = now
        self.connection.lost()
        self.closed = not self._lingers()

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        self.look()
        chunks: list[bytes | memoryview] = []
        size = 0
        if not self._eof:
            chunks += self.connection.take(limit)
            size = sum(map(len, chunks))
            self.service.octets_out += size
            if size >= PROGRESS:
                self.connection.progressed(self.router.now)
        if size < limit and self.connection.finished and not self._lingers():
            self.closed = True
        return chunks

    def look(self) -> None:
        self._touched = False
        self.channel.work()
        while self._noted:
            noted = self._noted
            self._noted = []
            for sink in noted:
                sink.noted = False
                if not sink.over:
                    sink.look()

    def _lingers(self) -> bool:
        """Whether what the peer has sent, and ended, is still on its way into the router."""
        return False

    def next_deadline(self) -> float:
        deadline = self.connection.next_deadline()
        for sink in self.sinks:
            deadline = min(deadline, sink.next_deadline())
        return deadline

    def gives_up_at(self) -> float:
        return self.connection.gives_up_at()

    def handle_deadline(self, now: float) -> None:
        for sink in list(self.sinks):
            if now >= sink.next_deadline():
                sink.expire(now)
        self.connection.handle_deadline(now)
        if self.connection.failed:
            self._complain()

    def close(self, condition: str, description: str) -> None:
        self.reason = self.reason or description
        self.connection.drain(self.router.now)
        self.touch()

    def connection_lost(self, now: float) -> None:
        if self.lost:
            return
        self.lost = True
        self._eof = True
        self.closed = True
        self.connection.now = now
        self.connection.lost()
        for sink in list(self.sinks):
            sink.on_reset(NO_ERROR, False)
            sink.finish()
        self.channel.close()
        self.service.connections -= 1

    def _complain(self) -> None:
        """The peer broke the protocol, or has gone beyond a limit, or does not answer."""
        if not self.cut and not self._eof:
            self.cut = True
            self.reason = self.connection.failed
            self.complaints.complain("http connection broken off", self.reason, self.info.peer)


def pseudo(fields: Fields) -> dict[bytes, bytes]:
    """The pseudo-header fields."""
    return {name: value for name, value in fields if name[:1] == b":"}


def regular(fields: Fields) -> Fields:
    """The fields that are no pseudo-header fields; cookies are one field again (RFC 9113, 8.2.3)."""
    result = [(name, value) for name, value in fields if name[:1] != b":"]
    cookies = [value for name, value in result if name == b"cookie"]
    if len(cookies) > 1:
        result = [each for each in result if each[0] != b"cookie"]
        result.append((b"cookie", b"; ".join(cookies)))
    return result
