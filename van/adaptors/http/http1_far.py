"""Servers that speak HTTP/1.1: a bounded number of connections, each with one request at a time, used again and again.

Octets are h11's business. What is here: which connection a request gets, when another try is safe, and what becomes of
requests while the server cannot be reached.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

import h11

from van.adaptors.amqp import Log
from van.adaptors.http.exchange import Exchange, Octets
from van.adaptors.http.far_side import HttpConnectingService, ServerExchange
from van.adaptors.http.http1 import (
    MAX_HEADER,
    PORTION,
    BodyWriter,
    cycle_over,
    head_of,
    is_authority,
    length_of,
    octets_of,
    too_large,
    upgrade_of,
)
from van.adaptors.http.http1_usual import usual_response
from van.adaptors.http.mapping import Fields, ResponseHead, end_to_end
from van.adaptors.http.near_side import IDEMPOTENT
from van.adaptors.service import Complaints, PeerInfo
from van.amqp.errors import ErrorCondition
from van.amqp.native import mypyc_attr
from van.routing.adaptor import Adaptor
from van.routing.router import Router

# Connections to one server, and so requests at a time: more of them wait at the address, where another server may
# take them. nginx and Apache serve some hundreds of clients at once as they come.
MAX_CONNECTIONS: Final = 100
# A connection without a request is closed after this long, in seconds: before most servers do it (Apache and Node after
# 5 seconds, gunicorn after 2), so that few requests meet a connection that is just being closed.
IDLE_TIMEOUT: Final = 4.0
# A request that must not be sent twice gets a connection that was in use so many seconds ago at most, or a new one.
FRESH: Final = 1.0
# While the server cannot be reached, the address is left to others; after so many seconds it is tried again...
RETRY_FIRST: Final = 0.25
# ...and after twice as long each time, up to this.
RETRY_LAST: Final = 5.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Http1ConnectingService(HttpConnectingService):
    """A server of HTTP/1.1 behind an address.

    host_header: the authority that the server is asked for, in place of what the client asked for. max_connections: to
    the server at once. idle_timeout: after which an unused one is closed, in seconds;
    0: never.
    """

    def __init__(
        self,
        router: Router,
        name: str,
        address: str,
        log: Log,
        *,
        host_header: str = "",
        max_connections: int = MAX_CONNECTIONS,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        super().__init__(router, name, address, log, host_header=host_header, capacity=max_connections)
        self.max_connections = max_connections
        self.idle_timeout = idle_timeout or inf
        self.complaints = Complaints(self)
        # Connections without a request, the one that was used last at the end.
        self.idle: list[Http1ServerConnection] = []
        # Requests that wait for a connection that is being made, and how many are.
        self._waiting: deque[ServerExchange] = deque()
        self._dialing = 0
        self._delay = RETRY_FIRST
        self._retrying = False

    def free(self) -> bool:
        if self.stopped:
            return False
        return bool(self.idle) or self.connections + self._dialing < self.max_connections

    def serve(self, exchange: ServerExchange) -> None:
        idle = self.idle
        if idle and (
            exchange.request.method in IDEMPOTENT or self.router.now - idle[-1].idle_since <= FRESH
        ):
            idle.pop().begin(exchange)
            return
        if idle and self.connections + self._dialing >= self.max_connections:
            # The place is needed.
            idle.pop(0).discard()
        self.serve_anew(exchange)

    def serve_anew(self, exchange: ServerExchange) -> None:
        """Give a request to a new connection."""
        self._waiting.append(exchange)
        self._dialing += 1
        self.dial(self._connected, self._failed)

    def _connected(self, info: PeerInfo) -> Adaptor:
        self._dialing -= 1
        self._delay = RETRY_FIRST
        self.offer()
        connection = Http1ServerConnection(self, info)
        if not self._next(connection):
            self.free_again(connection)
        return connection

    def _failed(self, reason: str) -> None:
        """The server cannot be reached: what waits for it is for others."""
        self._dialing -= 1
        self.complaints.complain("http server not reached", reason, ("", 0))
        while len(self._waiting) > self._dialing:
            self._waiting.popleft().fail(reason, seen=False)
        if self.idle or self._dialing or self.stopped:
            return
        # One that refuses at once would draw all requests to itself. Its connections may well be in use still: those of
        # a server that ends in order, or upgraded ones whose clients have not heard that it died.
        self.leave()
        if not self._retrying:
            self._retrying = True
            self.later(self._delay, self._try_again)
            self._delay = min(2 * self._delay, RETRY_LAST)

    def _try_again(self) -> None:
        """Find out whether the server can be reached now."""
        self._retrying = False
        if not self.stopped and self.receiver is None and not self._dialing:
            self._dialing += 1
            self.dial(self._connected, self._failed)

    def _next(self, connection: Http1ServerConnection) -> bool:
        """Give a connection the request that has waited longest; returns whether there was one."""
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.over:
                connection.begin(exchange)
                return True
        return False

    def free_again(self, connection: Http1ServerConnection) -> None:
        """A connection can take a request."""
        if self.stopped:
            connection.discard()
        elif not self._next(connection):
            self.idle.append(connection)
            # It takes no further connection, perhaps, but requests.
            self.offer()
            self.go_on()

    def gone(self, connection: Http1ServerConnection) -> None:
        """A connection is no more."""
        self.connections -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        self.go_on()


class Http1ServerConnection(Adaptor):
    """One connection to the server."""

    def __init__(self, service: Http1ConnectingService, info: PeerInfo) -> None:
        super().__init__()
        self.service = service
        self.router = service.router
        self.info = info
        self.channel = service.channel(self, info)
        self.exchange: ServerExchange | None = None
        self.idle_since = self.router.now
        self.opened = True
        service.connections += 1
        service.connections_opened += 1
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER)
        self._out: list[Octets] = []
        # How many requests it had before this one; octets that came since this one began.
        self._served = 0
        self._heard = False
        self._in_head = False
        self._body_writer = BodyWriter(0, False)
        self._upgrade = False
        # h11 reads the response, and knows what was asked.
        self._told_h11 = False
        # The request was written to its end; the response has begun; it has ended.
        self._asked = False
        self._answering = False
        self._answered = False
        self._raw = False
        # It ends as soon as it has no request.
        self._leaving = False
        self._deadline = self.router.now + service.idle_timeout

    # -- for the service -----------------------------------------------------------------------------------------

    def begin(self, exchange: ServerExchange) -> None:
        """Put a request to the server."""
        self.exchange = exchange
        self._heard = self._in_head = self._asked = self._answering = self._answered = False
        self._deadline = inf
        exchange.bind(self.channel, self._told)
        self._send_head(exchange)
        self.router.touch(self)

    def discard(self) -> None:
        """Close the connection, which nobody uses."""
        self.closed = True
        if self in self.service.idle:
            self.service.idle.remove(self)
        self.router.touch(self)

    # -- what the transport calls --------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        self.router.now = now
        self.service.octets_in += len(data)
        exchange = self.exchange
        if exchange is None:
            # It answers what nobody asked.
            self._end("the server spoke without being asked")
        elif self._raw:
            self._heard = True
            exchange.body(data)
            self.reading = exchange.room() > 0
        else:
            if not self._heard:
                self._heard = True
                if self._take_usual(exchange, data):
                    return
            self._read(exchange, data)

    def _take_usual(self, exchange: ServerExchange, data: bytes) -> bool:
        """Take a response that is all here and a usual one; returns whether it is."""
        if self._upgrade:
            return False
        usual = usual_response(data, exchange.request.method == b"HEAD")
        if usual is None:
            return False
        status, fields, body = usual
        self._answered = True
        exchange.answer(ResponseHead(status, fields), False, body)
        self._done()
        return True

    def _read(self, exchange: ServerExchange, data: bytes) -> None:
        """Have h11 read."""
        http = self._http
        if not self._told_h11:
            # What matters of the request to who reads the response.
            self._told_h11 = True
            http.send(_UPGRADE if self._upgrade else _asking(exchange.request.method))
            http.send(_ASKED)
        http.receive_data(data)
        self._advance(exchange)

    def receive_eof(self, now: float) -> None:
        self.router.now = now
        exchange = self.exchange
        if exchange is None:
            self.discard()
        elif self._raw:
            self._answered = True
            exchange.end()
            if self._asked:
                self._done()
        elif not self._heard and self._may_try_again(exchange):
            # The connection was closed just when the request was sent.
            self.exchange = None
            self.closed = True
            self.service.serve_anew(exchange)
        else:
            self._read(exchange, b"")

    def data_to_send(self, limit: int) -> list[Octets]:
        self.channel.work()
        out = self._out
        self._out = []
        size = sum(map(len, out))
        exchange = self.exchange
        if exchange is not None:
            if exchange.cancelled:
                self._end("")
            elif not self._asked:
                self._ask(exchange, limit - size, out)
            self.reading = self._may_read()
        size = sum(map(len, out))
        self.service.octets_out += size
        return out

    def look(self) -> None:
        self.channel.work()
        exchange = self.exchange
        if exchange is not None:
            if exchange.cancelled:
                self._end("")
            else:
                self.reading = self._may_read()

    def next_deadline(self) -> float:
        return self._deadline

    def handle_deadline(self, now: float) -> None:
        self.router.now = now
        if self.exchange is None and self._deadline <= now:
            self.discard()

    def close(self, condition: str, description: str) -> None:
        """End when the response is there that is under way, if there is one."""
        self.reason = description
        self._leaving = True
        if self.exchange is None or self._raw:
            self._end(description)

    def connection_lost(self, now: float) -> None:
        self.router.now = now
        self.closed = True
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            if not self._heard and self._may_try_again(exchange):
                self.service.serve_anew(exchange)
            else:
                exchange.fail(self.reason or "the connection to the server was lost", seen=True)
        self.channel.close()
        self.service.gone(self)

    # -- requests ------------------------------------------------------------------------------------------------

    def _told(self, exchange: Exchange) -> None:
        """There is something new of an exchange."""
        self.router.touch(self)

    def _may_try_again(self, exchange: ServerExchange) -> bool:
        """Whether a request of which nothing was answered may be put to the server once more, on a new connection.

        One that had served before was perhaps closed just when the request was sent (RFC 9112, 9.3.1).
        """
        return self._served > 0 and not exchange.over and exchange.request.method in IDEMPOTENT and exchange.rewind()

    def _send_head(self, exchange: ServerExchange) -> None:
        request = exchange.request
        authority = request.authority
        if not is_authority(authority):
            authority = self.info.peer[0].encode("latin-1", "replace") or b"localhost"
        fields: Fields = [(b"host", authority), *request.fields]
        size = exchange.size()
        self._upgrade = bool(request.upgrade)
        try:
            length = length_of(request.fields)
            if 0 <= size != length >= 0:
                raise ValueError("the body is not as long as its content-length")
        except ValueError as error:
            self.exchange = None
            exchange.refuse(ErrorCondition.DECODE_ERROR, str(error))
            self._rest()
            return
        chunked = False
        if self._upgrade:
            fields = [field for field in fields if field[0] != b"content-length"]
            fields += [(b"connection", b"upgrade"), (b"upgrade", request.upgrade)]
        elif length < 0:
            # Trailers, which are known where all of it is here, need chunks.
            length = -1 if exchange.trailers else size
            if length < 0:
                chunked = True
                fields.append((b"transfer-encoding", b"chunked"))
            elif size or request.method not in _BODILESS:
                fields.append((b"content-length", b"%d" % size))
        if request.trailers and not self._upgrade:
            fields += [(b"te", b"trailers"), (b"connection", b"te")]
        self._body_writer = BodyWriter(length, chunked)
        self._out.append(head_of(b"%b %b HTTP/1.1\r\n" % (request.method, request.target), fields))
        self._told_h11 = False

    def _ask(self, exchange: ServerExchange, limit: int, out: list[Octets]) -> None:
        """Pass on what there is of the request's body."""
        if self._upgrade and not self._raw:
            return
        size = 0
        while size < limit and exchange.waiting():
            for data in exchange.read(min(limit - size, PORTION)):
                size += len(data)
                if self._raw:
                    out.append(data)
                elif not self._write(data, out):
                    return
        if exchange.cancelled:
            self._end("")
        elif exchange.ended:
            self._asked = True
            if self._raw:
                self.write_ended = True
            elif not self._write(None, out):
                return
            if self._answered:
                self._done()

    def _write(self, data: Octets | None, out: list[Octets]) -> bool:
        """Write a portion of the request's body, with None its end; returns whether that can be."""
        exchange = self.exchange
        assert exchange is not None
        try:
            if data is None:
                self._body_writer.end(exchange.trailers, out)
            else:
                self._body_writer.write(data, out)
        except ValueError as error:
            # It is not the server's fault.
            self.exchange = None
            exchange.refuse(ErrorCondition.DECODE_ERROR, str(error))
            self._end(str(error))
            return False
        return True

    # -- responses -----------------------------------------------------------------------------------------------

    def _advance(self, exchange: ServerExchange) -> None:
        """Take what h11 has read, as far as the end of the response."""
        http = self._http
        while self.exchange is exchange and not self.closed:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                self._end(f"the server did not answer as HTTP/1.1 does: {error}" if self._heard else _DEAD)
                return
            if event is h11.NEED_DATA or event is h11.PAUSED:
                self._in_head = not self._answering and bool(http.trailing_data[0])
                break
            if isinstance(event, h11.Data):
                exchange.body(octets_of(event))
            elif isinstance(event, h11.Response):
                self._answering = True
                if self._in_head and too_large(event.headers):
                    self._end(f"the server's header has more than {MAX_HEADER} octets")
                    return
                version = bytes(event.http_version).decode()
                fields = end_to_end(list(event.headers))
                if self._upgrade:
                    # It stays with HTTP: what the client has sent since is not for this server.
                    self._asked = True
                exchange.answer(ResponseHead(event.status_code, fields, version=version), more=True)
            elif isinstance(event, h11.EndOfMessage):
                self._answered = True
                exchange.end(end_to_end(list(event.headers)))
                self._done()
                return
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101 and self._upgrade:
                    self._change(exchange, list(event.headers))
                    return
            elif isinstance(event, h11.ConnectionClosed):
                self._end(_DEAD)
                return
        self.reading = self._may_read()

    def _change(self, exchange: ServerExchange, raw: Fields) -> None:
        """The server speaks another protocol from now on (RFC 9110, 7.8)."""
        self._raw = True
        upgrade = upgrade_of(raw) or exchange.request.upgrade
        exchange.answer(ResponseHead(101, end_to_end(raw), upgrade=upgrade), more=True)
        data = self._http.trailing_data[0]
        if data:
            exchange.body(data)
        self.reading = self._may_read()
        self.router.touch(self)

    def _may_read(self) -> bool:
        exchange = self.exchange
        return exchange is None or self._answered or exchange.room() > 0

    def _done(self) -> None:
        """The response was taken to its end."""
        http = self._http
        self.exchange = None
        if self._raw or not self._asked or self._leaving:
            self.discard()
            return
        if self._told_h11:
            if not cycle_over(http) or http.trailing_data[0]:
                self.discard()
                return
            http.start_next_cycle()
        self._served += 1
        self._rest()

    def _rest(self) -> None:
        """The connection can take the next request."""
        self.reading = True
        self.idle_since = self.router.now
        self._deadline = self.idle_since + self.service.idle_timeout
        self.service.free_again(self)

    def _end(self, reason: str) -> None:
        """End the connection in the middle of a request, or because nobody needs it."""
        self.discard()
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            self.reason = reason
            exchange.fail(reason, seen=True)
            if reason:
                self.service.complaints.complain("http server failed", reason, self.info.peer)


_DEAD: Final = "the server closed the connection without a response"
# RFC 9110, 8.6: methods for which no length is said when there is no body.
_BODILESS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE"))
_ASKED: Final = h11.EndOfMessage()
_UPGRADE: Final = h11.Request(
    method=b"GET", target=b"/", headers=[(b"host", b"h"), (b"connection", b"upgrade"), (b"upgrade", b"any")]
)
_ASKING: Final = {
    method: h11.Request(method=method, target=b"/", headers=[(b"host", b"h")])
    for method in (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
}


def _asking(method: bytes) -> h11.Request:
    """A request of that method: how a response ends depends on it."""
    return _ASKING.get(method) or h11.Request(method=method, target=b"/", headers=[(b"host", b"h")])
