"""Clients of HTTP/2: each stream of a connection is an exchange of its own, which goes to a server of its own.

A stream takes no more from its client than its exchange does, and an answer is read no faster than the client takes it.
Calls of gRPC are told in their own words when they fail.
"""

from __future__ import annotations

from math import inf
from typing import Final

from van.adaptors.http.exchange import Channel, Octets
from van.adaptors.http.http2_adaptor import ExchangeSink, Http2Adaptor, pseudo, regular
from van.adaptors.http.http2_connection import INTERNAL_ERROR, NO_ERROR, Http2Stream, StreamSink
from van.adaptors.http.http2_fields import Fields, content_length, field
from van.adaptors.http.http2_grpc import failure_head, failure_trailers, is_call, timeout_of
from van.adaptors.http.http2_limits import IDLE_TIMEOUT
from van.adaptors.http.mapping import RequestHead, end_to_end, takes_trailers
from van.adaptors.http.near_side import ClientExchange, HttpListeningService
from van.adaptors.service import Complaints, PeerInfo

_CONTINUE: Final[Fields] = [(b":status", b"100")]


class NearConnection(Http2Adaptor):
    """One connection of a client.

    upgrade, request: of a client that asked by HTTP/1.1: its field HTTP2-Settings, and its request as fields of HTTP/2.
    Raises `ValueError` when the field is none.
    """

    def __init__(
        self,
        service: HttpListeningService,
        complaints: Complaints,
        info: PeerInfo,
        *,
        idle_timeout: float = IDLE_TIMEOUT,
        upgrade: bytes | None = None,
        request: Fields | None = None,
    ) -> None:
        super().__init__(service, complaints, info, client=False, idle_timeout=idle_timeout, upgrade=upgrade)
        self.listening = service
        self.channel: Channel = service.channel(self, info)
        if request is not None:
            self.connection.upgraded(request)

    def on_request(self, stream: Http2Stream, fields: Fields, ended: bool) -> StreamSink:
        if field(fields, b":method") == b"CONNECT":
            return NoTunnel(stream)
        return NearStream(self, stream, fields, ended)


class NoTunnel(StreamSink):
    """What a client gets that asks for a tunnel (RFC 9110, 9.3.6)."""

    def __init__(self, stream: Http2Stream) -> None:
        self.stream = stream
        stream.want()

    def on_data(self, data: bytes) -> None:
        self.stream.passed(len(data))

    def produce(self, room: int) -> bool:
        self.stream.send_head([(b":status", b"501")], True)
        self.stream.reset(NO_ERROR)
        return False


class NearStream(ExchangeSink):
    """One request of a client, and its answer."""

    def __init__(self, connection: NearConnection, stream: Http2Stream, fields: Fields, ended: bool) -> None:
        super().__init__(connection)
        self.stream = stream
        self.http2_stream = stream
        self.exchange: ClientExchange = connection.listening.exchange(connection.channel, self.told)
        self.is_call = is_call(field(fields, b"content-type"))
        self.call_deadline = inf
        self._is_head = False
        self._proceed = False
        connection.sinks[self] = None
        named = pseudo(fields)
        self._is_head = named[b":method"] == b"HEAD"
        if self.is_call:
            seconds = timeout_of(field(fields, b"grpc-timeout"))
            if seconds is not None:
                self.call_deadline = connection.connection.now + seconds
        limit = connection.listening.max_body_size
        if limit and (content_length(fields) or 0) > limit:
            self.exchange.fail(413, f"bodies of more than {limit} octets are not taken")
            return
        head = RequestHead(
            named[b":method"],
            named[b":path"],
            # Who waits for leave to send gets it here.
            [each for each in end_to_end(regular(fields)) if each[0] != b"expect"],
            authority=named.get(b":authority") or field(fields, b"host"),
            scheme=b"https" if connection.info.encrypted else b"http",
            version="2",
            trailers=takes_trailers(fields),
        )
        self.exchange.start(head, more=not ended)
        if not ended and field(fields, b"expect").lower() == b"100-continue" and self.exchange.can_proceed():
            self._proceed = True
            stream.want()

    # -- the request ---------------------------------------------------------------------------------------------

    def exchange_room(self) -> int:
        return self.exchange.room()

    def exchange_body(self, data: Octets) -> None:
        self.exchange.body(data)

    def exchange_end(self, trailers: Fields) -> None:
        self.exchange.end(trailers)

    def on_reset(self, code: int, unprocessed: bool) -> None:
        self.exchange.cancel()
        self.finish()

    # -- the answer ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        exchange = self.exchange
        self.pump()
        if exchange.failure is not None or (exchange.response is not None and self._has_more()):
            self.http2_stream.want()

    def _has_more(self) -> bool:
        return not self.http2_stream.head_sent or bool(self.unsent) or self.exchange.waiting()

    def produce(self, room: int) -> bool:
        stream = self.http2_stream
        exchange = self.exchange
        if self._broken():
            return False
        response = exchange.response
        if response is None:
            if self._proceed:
                self._proceed = False
                stream.send_informational(_CONTINUE)
            return False
        if not stream.head_sent:
            ended = exchange.ended and not exchange.trailers
            stream.send_head([(b":status", b"%d" % response.status), *response.fields], ended)
            if ended:
                self._done()
                return False
        if not self.unsent and exchange.waiting():
            # Where there is no room, the end may be there nevertheless.
            self.unsent = b"".join(exchange.read(max(room, 1)))
        if self.unsent and room > 0:
            data = self.unsent[:room]
            self.unsent = self.unsent[room:]
            last = exchange.ended and not self.unsent and not exchange.trailers
            stream.send_data(data, last)
            if last:
                self._done()
                return False
        if self._broken():
            return False
        if exchange.ended and not self.unsent:
            stream.send_trailers(exchange.trailers)
            self._done()
            return False
        return bool(self.unsent) or exchange.waiting()

    def _broken(self) -> bool:
        """Whether the exchange has failed, which the client is told then."""
        failure = self.exchange.failure
        if failure is None:
            return False
        self._fail(failure.status, failure.reason)
        return True

    def _fail(self, status: int, reason: str) -> None:
        """There is no answer, or it broke off."""
        stream = self.http2_stream
        self.adaptor.complaints.complain("http request failed", reason, self.adaptor.info.peer)
        if self.is_call:
            if stream.head_sent:
                stream.send_trailers(failure_trailers(status, reason))
            else:
                stream.send_head(failure_head(status, reason), True)
        elif stream.head_sent:
            stream.reset(INTERNAL_ERROR)
        else:
            text = reason.encode() + b"\n"
            fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
            stream.send_head([(b":status", b"%d" % status), *fields], self._is_head)
            # Its window may be shut; this is not worth waiting for it.
            if stream.connection.window(stream) >= len(text):
                stream.send_data(text, True)
            else:
                stream.reset(NO_ERROR)
        self._done()

    def _done(self) -> None:
        """The answer is over, and with it the exchange."""
        stream = self.http2_stream
        self.exchange.cancel()
        if not stream.closed and not stream.received_all:
            # RFC 9113, 8.1: the rest of the request is not wanted.
            stream.reset(NO_ERROR)
        self.finish()

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        # What a call waits for is its own business, for its head may come with the first message of a long stream.
        exchange = self.exchange
        return min(exchange.retry_at, self.call_deadline if self.is_call else exchange.deadline)

    def expire(self, now: float) -> None:
        if self.exchange.retry_at <= now:
            self.exchange.try_again()
        elif self.is_call:
            self.call_deadline = inf
            self.exchange.fail(504, "the deadline of the call has passed")
        else:
            self.exchange.expire()
