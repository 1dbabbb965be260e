"""Clients that speak HTTP/1.1: their requests are read, one after the other, and the responses written in their order.

Octets are h11's business. What is here: which requests are taken and how the others are refused, how long anything may
take, and how much is read ahead of what the far side takes.
"""

from __future__ import annotations

from math import inf
from typing import Final

import h11

from van.adaptors.amqp import Log
from van.adaptors.http.exchange import Exchange, Octets
from van.adaptors.http.http1 import (
    HEADER_TIMEOUT,
    KEEP_ALIVE_TIMEOUT,
    LINGER,
    MAX_AHEAD,
    MAX_HEADER,
    PORTION,
    BodyWriter,
    head_of,
    is_authority,
    length_of,
    octets_of,
    split_target,
    status_line,
    too_large,
    upgrade_of,
)
from van.adaptors.http.http1_usual import UsualRequest, usual_request
from van.adaptors.http.mapping import Fields, RequestHead, ResponseHead, end_to_end, takes_trailers
from van.adaptors.http.near_side import DEFAULT_TIMEOUT, ClientExchange, HttpListeningService
from van.adaptors.service import Complaints, PeerInfo
from van.routing.adaptor import Adaptor
from van.routing.router import Router

# What a response without a body has (RFC 9110, 6.4.1), beside those to HEAD.
_BODILESS: Final = frozenset((204, 304))
_NO_BODY: Final = BodyWriter(0, False)


class Http1ListeningService(HttpListeningService):
    """A port for clients of HTTP/1.1.

    header_timeout: how long a client may take for the header of a request; idle_timeout: how long a connection may be
    without one, 0 for ever; both in seconds. The other settings are `HttpListeningService`'s.
    """

    def __init__(
        self,
        router: Router,
        name: str,
        address: str,
        log: Log,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        forwarded: bool = True,
        x_forwarded: bool = False,
        aggregate: str = "",
        max_body_size: int = 0,
        header_timeout: float = HEADER_TIMEOUT,
        idle_timeout: float = KEEP_ALIVE_TIMEOUT,
    ) -> None:
        super().__init__(
            router,
            name,
            address,
            log,
            timeout=timeout,
            forwarded=forwarded,
            x_forwarded=x_forwarded,
            aggregate=aggregate,
            max_body_size=max_body_size,
        )
        self.header_timeout = header_timeout
        self.idle_timeout = idle_timeout or inf
        self.complaints = Complaints(self)

    def accept(self, info: PeerInfo) -> Adaptor:
        return Http1ClientConnection(self, info)


class _RefusedError(Exception):
    """A request that is not passed on: the status, and the reason in words."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Http1ClientConnection(Adaptor):
    """One connection of a client."""

    def __init__(self, service: Http1ListeningService, info: PeerInfo) -> None:
        super().__init__()
        self.service = service
        self.router = service.router
        self.info = info
        self.channel = service.channel(self, info)
        self.exchange: ClientExchange | None = None
        self.opened = True
        service.connections += 1
        service.connections_opened += 1
        service.clients[self] = None
        # Reads one request; what is written is none of its business.
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER)
        self._out: list[Octets] = []
        # Of the request: whether its head is here only in part, and all of it; whether the client waits for 100,
        # wants another protocol, and the connection after this.
        self._in_head = False
        self._request_read = False
        self._version = "1.1"
        # It was read without h11, and so was what came behind it.
        self._usual = False
        self._ahead = b""
        self._expects = False
        self._upgrade = False
        self._keep_alive = True
        # Of the response: whether its head was written, whether a body may follow, and how it is written.
        self._answering = False
        self._has_body = True
        self._body_writer = _NO_BODY
        # The connection belongs to another protocol now (101).
        self._raw = False
        self._eof = False
        self._discards = False
        # It ends as soon as it has no request.
        self._leaving = False
        self._deadline = self.router.now + service.idle_timeout

    # -- what the transport calls --------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        self.router.now = now
        self.service.octets_in += len(data)
        if self._raw:
            exchange = self.exchange
            if exchange is not None:
                exchange.body(data)
                self.reading = exchange.room() > 0
        elif self._discards:
            pass
        elif self._usual:
            # The request that is being answered was read without h11.
            self._ahead += data
            self.reading = len(self._ahead) < MAX_AHEAD
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Read octets of requests."""
        if self.exchange is None and not self._in_head:
            usual = usual_request(data)
            if usual is not None and self._begin_usual(usual):
                if usual.end < len(data):
                    self._ahead = data[usual.end :]
                    self.reading = len(self._ahead) < MAX_AHEAD
                return
        self._http.receive_data(data)
        self._advance()

    def receive_eof(self, now: float) -> None:
        self.router.now = now
        self._eof = True
        exchange = self.exchange
        if self._raw:
            if exchange is not None:
                exchange.end()
                self.router.touch(self)
        elif self._discards or exchange is None:
            self.closed = True
        elif not self._usual:
            # A client that has said all may still read. In the middle of a request it has given it up.
            self._http.receive_data(b"")
            self._advance()

    def data_to_send(self, limit: int) -> list[Octets]:
        self.channel.work()
        out = self._out
        self._out = []
        size = sum(map(len, out))
        if self.service.stopped:
            self._leaving = True
            if self.exchange is None and not self._discards:
                self.closed = True
        while not self.closed and not self._discards and size < limit:
            exchange = self.exchange
            if exchange is None:
                break
            if exchange.failure is not None:
                self._failed(exchange, out)
                continue
            response = exchange.response
            if response is None:
                if self._expects and exchange.can_proceed():
                    self._proceed(out)
                break
            if not self._answering:
                self._send_head(exchange, response, out)
                continue
            if self._raw:
                size += self._pass_on(exchange, limit - size, out)
                break
            if not exchange.ended:
                if not exchange.waiting():
                    break
                for data in exchange.read(min(limit - size, PORTION)):
                    size += len(data)
                    if self._has_body:
                        self._write(data, out)
            if exchange.ended and not self.closed:
                self._finish(exchange, out)
        exchange = self.exchange
        if exchange is not None and not self._discards:
            self.reading = self._may_read(exchange)
        size = sum(map(len, out))
        self.service.octets_out += size
        return out

    def look(self) -> None:
        self.channel.work()
        exchange = self.exchange
        if exchange is not None and not self._discards:
            self.reading = self._may_read(exchange)

    def next_deadline(self) -> float:
        exchange = self.exchange
        return self._deadline if exchange is None else min(self._deadline, exchange.deadline, exchange.retry_at)

    def gives_up_at(self) -> float:
        return inf

    def handle_deadline(self, now: float) -> None:
        self.router.now = now
        exchange = self.exchange
        if exchange is not None and exchange.retry_at <= now:
            exchange.try_again()
        elif exchange is not None and exchange.deadline <= now:
            if not self._request_read and not self._raw:
                exchange.fail(408, "the rest of the request did not come in time")
            else:
                exchange.expire()
        elif self._deadline <= now:
            self._deadline = inf
            if self._in_head and not self._discards:
                self._refuse(408, "the request did not come in time")
            else:
                self.closed = True

    def close(self, condition: str, description: str) -> None:
        """End when the response is written that is under way, if there is one."""
        self.reason = description
        self._leaving = True
        if self.exchange is None or self._raw:
            self.closed = True

    def connection_lost(self, now: float) -> None:
        self.router.now = now
        self.closed = True
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.cancel()
        self.channel.close()
        self.service.connections -= 1
        self.service.clients.pop(self, None)

    # -- requests ------------------------------------------------------------------------------------------------

    def _told(self, exchange: Exchange) -> None:
        """There is something new of an exchange."""
        self.router.touch(self)

    def _advance(self) -> None:
        """Take what h11 has read, as far as the request that is being answered."""
        http = self._http
        while not self._discards and not self.closed and not self._request_read:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                self._malformed(error)
                return
            if event is h11.NEED_DATA or event is h11.PAUSED:
                break
            if isinstance(event, h11.Request):
                late = self._in_head
                self._in_head = False
                self._deadline = inf
                try:
                    if late and too_large(event.headers):
                        raise _RefusedError(431, f"headers of more than {MAX_HEADER} octets are not taken")
                    self._request(event)
                except _RefusedError as refused:
                    self._refuse(refused.status, refused.reason)
                    return
            elif isinstance(event, h11.Data):
                self._body(octets_of(event))
            elif isinstance(event, h11.EndOfMessage):
                exchange = self.exchange
                self._request_read = True
                if exchange is not None and not self._upgrade:
                    exchange.end(end_to_end(list(event.headers)))
            elif isinstance(event, h11.ConnectionClosed):
                if self.exchange is None:
                    self.closed = True
                break
        exchange = self.exchange
        if exchange is not None:
            self.reading = self._may_read(exchange)
        elif not self._in_head and http.trailing_data[0]:
            self._in_head = True
            self._deadline = self.router.now + self.service.header_timeout

    def _may_read(self, exchange: ClientExchange) -> bool:
        """Whether more may come from the client."""
        if self._raw or not self._request_read:
            return exchange.room() > 0
        return len(self._ahead if self._usual else self._http.trailing_data[0]) < MAX_AHEAD

    def _begin_usual(self, usual: UsualRequest) -> bool:
        """Begin with a request that was read without h11; False for one that would be refused, which h11 shall read."""
        service = self.service
        body = usual.body
        limit = service.max_body_size
        if usual.method == b"CONNECT" or not is_authority(usual.host) or 0 < limit < len(body):
            return False
        self._usual = self._request_read = self._keep_alive = True
        self._version = "1.1"
        self._has_body = usual.method != b"HEAD"
        self._upgrade = self._expects = self._answering = False
        self._deadline = inf
        scheme = b"https" if self.info.encrypted else b"http"
        head = RequestHead(usual.method, usual.target, usual.fields, authority=usual.host, scheme=scheme)
        exchange = self.exchange = service.exchange(self.channel, self._told)
        exchange.start(head, False, body)
        return True

    def _request(self, event: h11.Request) -> None:
        """A request has come as far as its head. Raises _RefusedError for one that is not passed on."""
        service = self.service
        raw: Fields = list(event.headers)
        version = bytes(event.http_version)
        if version not in (b"1.0", b"1.1"):
            raise _RefusedError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
        method = bytes(event.method)
        self._has_body = method != b"HEAD"
        if method == b"CONNECT":
            raise _RefusedError(501, "no tunnels are made here")
        length = -1
        chunked = False
        host = b""
        self._version = version.decode()
        self._keep_alive = version == b"1.1"
        expects = False
        for name, value in raw:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"host":
                host = value
            elif name == b"connection":
                if b"close" in value.lower():
                    self._keep_alive = False
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    raise _RefusedError(417, "the only expectation is 100-continue")
                expects = version == b"1.1"
        if chunked and (length >= 0 or version == b"1.0"):
            # RFC 9112, 6.1: perhaps an attempt to smuggle a request past somebody.
            raise _RefusedError(400, "transfer-encoding beside content-length, or in HTTP/1.0")
        if host and not is_authority(host):
            raise _RefusedError(400, "the host of the request is none")
        try:
            authority, target = split_target(bytes(event.target))
        except ValueError as error:
            raise _RefusedError(400, str(error)) from None
        if authority and not is_authority(authority):
            raise _RefusedError(400, "the authority of the request is none")
        if service.max_body_size and length > service.max_body_size:
            raise _RefusedError(413, f"bodies of more than {service.max_body_size} octets are not taken")
        more = chunked or length > 0
        upgrade = upgrade_of(raw) if version == b"1.1" and not more else b""
        head = RequestHead(
            method,
            target,
            [field for field in end_to_end(raw) if field[0] != b"expect"],
            authority=authority or host,
            scheme=b"https" if self.info.encrypted else b"http",
            version=self._version,
            upgrade=upgrade,
            trailers=takes_trailers(raw),
        )
        self._upgrade = bool(upgrade)
        self._answering = False
        self._expects = more and expects
        exchange = self.exchange = service.exchange(self.channel, self._told)
        exchange.start(head, more or self._upgrade)
        if self._expects:
            self.router.touch(self)

    def _body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        self._expects = False
        exchange.body(data)

    # -- responses -----------------------------------------------------------------------------------------------

    def _write(self, data: Octets, out: list[Octets]) -> None:
        """Write a portion of the response's body; what cannot be written breaks the connection off."""
        try:
            self._body_writer.write(data, out)
        except ValueError as error:
            self._break_off(str(error))

    def _proceed(self, out: list[Octets]) -> None:
        """The client waits until the body of its request is wanted (RFC 9110, 10.1.1)."""
        self._expects = False
        out.append(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _send_head(self, exchange: ClientExchange, response: ResponseHead, out: list[Octets]) -> None:
        fields = response.fields
        status = response.status
        if status == 101:
            self._change(exchange, response, out)
            return
        self._expects = False
        if self._upgrade:
            # It stays with HTTP.
            self._upgrade = False
            exchange.end()
        try:
            length = length_of(fields)
        except ValueError as error:
            exchange.fail(502, f"the response is none of HTTP/1.1: {error}")
            return
        self._answering = True
        more: Fields = []
        if status in _BODILESS:
            self._has_body = False
        if not self._has_body:
            self._body_writer = _NO_BODY
        else:
            if length < 0 and not exchange.trailers:
                length = exchange.size()
                if length >= 0:
                    more.append((b"content-length", b"%d" % length))
            chunked = length < 0 and self._version == "1.1"
            if chunked:
                more.append((b"transfer-encoding", b"chunked"))
            elif length < 0:
                self._keep_alive = False
            self._body_writer = BodyWriter(length, chunked)
        if self._leaving or (not self._request_read and not exchange.room()):
            # We go; or the rest of the request may never be wanted.
            self._keep_alive = False
        if not self._keep_alive:
            more.append((b"connection", b"close"))
        out.append(head_of(status_line(status), fields + more))

    def _change(self, exchange: ClientExchange, response: ResponseHead, out: list[Octets]) -> None:
        """The server changes to another protocol (RFC 9110, 15.2.2)."""
        if not self._upgrade:
            exchange.fail(502, "the server changed to another protocol, which the client did not ask for")
            return
        self._answering = True
        self._raw = True
        fields = [*response.fields, (b"connection", b"upgrade"), (b"upgrade", response.upgrade)]
        out.append(head_of(status_line(101), fields))
        ahead = self._http.trailing_data[0]
        if ahead:
            exchange.body(ahead)
        if self._eof:
            exchange.end()

    def _finish(self, exchange: ClientExchange, out: list[Octets]) -> None:
        """The response ends; the next request may be here already."""
        try:
            self._body_writer.end(exchange.trailers, out)
        except ValueError as error:
            self._break_off(str(error))
            return
        if self._keep_alive and self._request_read and not self._leaving:
            self._next_request()
            return
        exchange.cancel()
        self._end()

    def _next_request(self) -> None:
        self.exchange = None
        if self._usual:
            ahead = self._ahead
            self._ahead = b""
            self._usual = False
        else:
            ahead = self._http.trailing_data[0]
            self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER)
        self._request_read = False
        self._answering = False
        self.reading = True
        self._deadline = self.router.now + self.service.idle_timeout
        if ahead:
            self._take(ahead)
        if self._eof and self.exchange is None:
            self.closed = True

    def _pass_on(self, exchange: ClientExchange, limit: int, out: list[Octets]) -> int:
        """Write octets of the other protocol."""
        size = 0
        while size < limit and exchange.waiting():
            for data in exchange.read(limit - size):
                out.append(data)
                size += len(data)
        if exchange.ended:
            self.write_ended = True
            if self._eof:
                self.closed = True
        return size

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def _malformed(self, error: h11.RemoteProtocolError) -> None:
        """What the client has sent is no HTTP/1.1."""
        exchange = self.exchange
        if self._eof:
            # It went in the middle of its request.
            self._break_off(str(error))
        elif exchange is not None:
            exchange.fail(error.error_status_hint, str(error))
            self.service.complaints.complain("http request refused", str(error), self.info.peer)
        else:
            self._refuse(error.error_status_hint, str(error))

    def _failed(self, exchange: ClientExchange, out: list[Octets]) -> None:
        """There is no response, or no more of it."""
        failure = exchange.failure
        assert failure is not None
        if self._answering:
            # The client notices: what it has is not whole (RFC 9112, 8).
            self._break_off(failure.reason)
            return
        self._upgrade = False
        self.service.complaints.complain("http request failed", failure.reason, self.info.peer)
        self._answer(failure.status, failure.reason, out)

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request that is not passed on, and end the connection: who knows what else it would bring."""
        self.service.complaints.complain("http request refused", reason, self.info.peer)
        self._keep_alive = False
        self._answer(status, reason, self._out)
        self.router.touch(self)

    def _answer(self, status: int, reason: str, out: list[Octets]) -> None:
        """A response of ours, which says what went wrong."""
        body = f"{reason}\n".encode("utf-8", "replace")
        fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        keep_alive = self._keep_alive and self._request_read and not self._leaving
        if not keep_alive:
            fields.append((b"connection", b"close"))
        out.append(head_of(status_line(status), fields))
        if self._has_body:
            out.append(body)
        if keep_alive:
            self._next_request()
        else:
            self._end()

    def _break_off(self, reason: str) -> None:
        """End the connection at once, in the middle of whatever it is."""
        self.closed = True
        # Where the end of the connection would be the end of the response.
        self.resets = self._raw or not (self._body_writer.chunked or self._body_writer.left >= 0)
        self.reason = reason
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.cancel()
        self.service.complaints.complain("http connection broken off", reason, self.info.peer)
        self.router.touch(self)

    def _end(self) -> None:
        """End the connection when everything is written; what the client still sends is read for a while."""
        self.exchange = None
        if self._eof:
            self.closed = True
            return
        self.write_ended = True
        self._discards = True
        self.reading = True
        self._deadline = self.router.now + LINGER
