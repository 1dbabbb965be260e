"""Servers of HTTP/2: requests of many clients share a few connections, each of them a stream.

A connection is used as soon as the server has said its settings, so that nothing was asked of what does not speak
HTTP/2. Requests that a server has refused, or not seen before it went, go back and may be tried elsewhere.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from van.adaptors.http.exchange import Channel, Octets
from van.adaptors.http.far_side import ServerExchange
from van.adaptors.http.http2_adaptor import ExchangeSink, Http2Adaptor, pseudo, regular
from van.adaptors.http.http2_connection import CANCEL, code_name
from van.adaptors.http.http2_fields import Fields
from van.adaptors.http.mapping import ResponseHead, end_to_end
from van.adaptors.service import PeerInfo

if TYPE_CHECKING:
    from van.adaptors.http.http2_service import Http2ConnectingService


class FarConnection(Http2Adaptor):
    """One connection to the server."""

    def __init__(self, service: Http2ConnectingService, info: PeerInfo, *, idle_timeout: float) -> None:
        super().__init__(service, service.complaints, info, client=True, idle_timeout=idle_timeout)
        self.connecting = service
        self.channel: Channel = service.channel(self, info)

    def serve(self, exchange: ServerExchange) -> None:
        """Put a request to the server; `connection.may_open` has to hold."""
        FarStream(self, exchange).begin()

    def on_streams(self) -> None:
        self.connecting.line_changed()

    def _complain(self) -> None:
        if self.opened:
            super()._complain()
        else:
            # The service will say that there is no connection.
            self.cut = True
            self.reason = self.reason or self.connection.failed

    def _lingers(self) -> bool:
        return bool(self.channel.sent) or any(sink.arrived or sink.arrived_all for sink in self.sinks)

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        chunks = super().data_to_send(limit)
        if self._eof and not self._lingers():
            self.closed = True
        return chunks

    def connection_lost(self, now: float) -> None:
        if not self.lost:
            self.reason = self.reason or "the connection was lost"
            # Answers that the server has ended may not have been read as far.
            for body in list(self.channel.sent.values()):
                if isinstance(body.exchange, ServerExchange):
                    body.exchange.fail(self.reason, seen=True)
        super().connection_lost(now)
        self.connecting.line_lost(self)


class FarStream(ExchangeSink):
    """One request, and the server's answer."""

    def __init__(self, connection: FarConnection, exchange: ServerExchange) -> None:
        super().__init__(connection)
        self.far = connection
        self.exchange = exchange
        self._answered = False
        self._received_all = False
        connection.sinks[self] = None
        exchange.bind(connection.channel, self.told)

    def begin(self) -> None:
        """Send the request, or what there is of it."""
        exchange = self.exchange
        request = exchange.request
        if exchange.size() == 0:
            # All of it is here.
            exchange.read(1)
        if exchange.cancelled:
            self.finish()
            return
        fields: Fields = [
            (b":method", request.method),
            (b":scheme", b"https" if self.far.info.encrypted else b"http"),
            (b":authority", request.authority or b"localhost"),
            (b":path", request.target),
            *request.fields,
        ]
        if request.trailers:
            fields.append((b"te", b"trailers"))
        ended = exchange.ended and not exchange.trailers
        self.stream = self.far.connection.open(fields, ended, self)
        if not ended:
            self.stream.want()

    def look(self) -> None:
        exchange = self.exchange
        stream = self.stream
        if exchange.cancelled:
            if stream is not None:
                stream.reset(CANCEL)
            self.finish()
            return
        self.pump()
        if stream is not None and (self.unsent or exchange.waiting()):
            stream.want()

    # -- the request ---------------------------------------------------------------------------------------------

    def produce(self, room: int) -> bool:
        exchange = self.exchange
        stream = self.stream
        if stream is None or self.over:
            return False
        if not self.unsent and exchange.waiting():
            self.unsent = b"".join(exchange.read(max(room, 1)))
        if exchange.cancelled:
            stream.reset(CANCEL)
            self.finish()
            return False
        if self.unsent and room > 0:
            data = self.unsent[:room]
            self.unsent = self.unsent[room:]
            last = exchange.ended and not self.unsent and not exchange.trailers
            stream.send_data(data, last)
            if last:
                return False
        if exchange.ended and not self.unsent:
            stream.send_trailers(exchange.trailers)
            return False
        return bool(self.unsent) or exchange.waiting()

    # -- the answer ----------------------------------------------------------------------------------------------

    def on_head(self, fields: Fields, ended: bool) -> None:
        status = int(pseudo(fields)[b":status"])
        self._answered = True
        self.exchange.answer(ResponseHead(status, end_to_end(regular(fields)), version="2"), more=not ended)
        if ended:
            self._received_all = True

    def on_end(self, trailers: Fields) -> None:
        if not self._received_all:
            self._received_all = True
            super().on_end(trailers)
        else:
            self._over()

    def exchange_room(self) -> int:
        return self.exchange.room()

    def exchange_body(self, data: Octets) -> None:
        self.exchange.body(data)

    def exchange_end(self, trailers: Fields) -> None:
        self.exchange.end(trailers)
        self._over()

    def _over(self) -> None:
        """The answer is all there: the rest of the request helps nobody."""
        stream = self.stream
        if stream is not None:
            stream.reset(CANCEL)
        self.finish()

    def on_reset(self, code: int, unprocessed: bool) -> None:
        if self.over:
            return
        if self._received_all:
            # RFC 9113, 8.1: the server wants no more of the request, and has answered.
            if not self.arrived and not self.arrived_all:
                self.finish()
            return
        if self.far.connection.failed:
            reason = f"the connection to the server was lost: {self.far.reason or self.far.connection.failed}"
        else:
            reason = f"the server has reset the request: {code_name(code)}"
        self.exchange.fail(reason, seen=not unprocessed)
        self.finish()

    def next_deadline(self) -> float:
        return inf
