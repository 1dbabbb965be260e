"""Clients of either version of HTTP on one port without TLS: which one it is, their first octets say.

A client of HTTP/2 that knows begins with its preface (RFC 9113, 3.3). One that does not asks by HTTP/1.1 with its first
request (`Upgrade: h2c`, RFC 7540, 3.2: deprecated, and in use); it is granted where that request has no body. Anything
else is HTTP/1.1.
"""

from __future__ import annotations

from math import inf
from typing import Final

import h11

from van.adaptors.http.http1_near import Http1ClientConnection, Http1ListeningService
from van.adaptors.http.http2_connection import PREFACE
from van.adaptors.http.http2_fields import CONNECTION_FIELDS, Fields
from van.adaptors.http.http2_near import NearConnection
from van.adaptors.service import PeerInfo
from van.routing.adaptor import Adaptor

# A first request whose head is larger is not looked into.
MAX_FIRST_HEAD: Final = 16384
_SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


class EitherVersion(Adaptor):
    """A connection of a client; `inner` is what speaks with it, None until that is known."""

    def __init__(self, service: Http1ListeningService, info: PeerInfo, idle_timeout: float) -> None:
        super().__init__()
        self.service = service
        self.router = service.router
        self.info = info
        self.opened = True
        self.inner: Adaptor | None = None
        self._idle_timeout = idle_timeout
        self._buffer = b""
        self._first: list[bytes | memoryview] = []
        self._deadline = service.router.now + service.header_timeout

    # -- before it is known ---------------------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        """See whether it is known now, and hand over what there is."""
        data = self._buffer
        if PREFACE.startswith(data[: len(PREFACE)]):
            if len(data) >= len(PREFACE):
                self._hand_over(self._http2(), data, now)
            return
        end = data.find(b"\r\n\r\n")
        if end < 0 and len(data) < MAX_FIRST_HEAD:
            return
        # Behind TLS that is not how one asks (RFC 7540, 3.3).
        asked = upgrade_request(data[: end + 4]) if end >= 0 and not self.info.encrypted else None
        if asked is not None:
            settings, fields = asked
            try:
                inner = self._http2(settings, fields)
            except ValueError:
                # RFC 7540, 3.2.1: what cannot be read was not asked for.
                pass
            else:
                self._first.append(_SWITCHING)
                self._hand_over(inner, data[end + 4 :], now)
                return
        self._hand_over(Http1ClientConnection(self.service, self.info), data, now)

    def _http2(self, settings: bytes | None = None, request: Fields | None = None) -> NearConnection:
        return NearConnection(
            self.service,
            self.service.complaints,
            self.info,
            idle_timeout=self._idle_timeout,
            upgrade=settings,
            request=request,
        )

    def _hand_over(self, inner: Adaptor, data: bytes, now: float) -> None:
        self._buffer = b""
        self.inner = inner
        inner.on_wake = self._wake
        if data:
            inner.receive_data(data, now)
        self._follow(inner)
        self.router.touch(self)

    def _wake(self) -> None:
        self.on_wake()

    def _follow(self, inner: Adaptor) -> None:
        """Be to the driver what the other is."""
        self.closed = inner.closed
        self.reading = inner.reading
        self.read_size = inner.read_size
        self.write_ended = inner.write_ended
        self.resets = inner.resets
        self.reason = inner.reason
        self.cut = inner.cut

    # -- from the driver -----------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        inner = self.inner
        if inner is not None:
            inner.receive_data(data, now)
            self._follow(inner)
        elif not self.closed:
            self.router.now = now
            self._buffer += data
            self._decide(now)

    def receive_eof(self, now: float) -> None:
        inner = self.inner
        if inner is None and self._buffer:
            # It is for HTTP/1.1 to say what is wrong with half a request.
            inner = Http1ClientConnection(self.service, self.info)
            self._hand_over(inner, self._buffer, now)
        if inner is None:
            self.closed = True
        else:
            inner.receive_eof(now)
            self._follow(inner)

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        inner = self.inner
        if inner is None:
            return []
        chunks = inner.data_to_send(limit)
        self._follow(inner)
        if self._first:
            chunks = self._first + chunks
            self._first = []
        return chunks

    def look(self) -> None:
        inner = self.inner
        if inner is not None:
            inner.look()
            self._follow(inner)

    def next_deadline(self) -> float:
        return self._deadline if self.inner is None else self.inner.next_deadline()

    def gives_up_at(self) -> float:
        return inf if self.inner is None else self.inner.gives_up_at()

    def handle_deadline(self, now: float) -> None:
        inner = self.inner
        if inner is None:
            self.closed = True
            self.reason = "no request came in time"
        else:
            inner.handle_deadline(now)
            self._follow(inner)

    def close(self, condition: str, description: str) -> None:
        inner = self.inner
        if inner is None:
            self.closed = True
            self.reason = description
        else:
            inner.close(condition, description)
            self._follow(inner)

    def connection_lost(self, now: float) -> None:
        inner = self.inner
        self.closed = True
        if inner is not None:
            inner.reason = inner.reason or self.reason
            inner.connection_lost(now)
            self._follow(inner)


def upgrade_request(head: bytes) -> tuple[bytes, Fields] | None:
    """The field HTTP2-Settings and the fields, as HTTP/2 has them, of a request that asks for HTTP/2 and has no body.

    None for any other. head: as HTTP/1.1 has it, whole.
    """
    if b"h2c" not in head.lower():
        return None
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_FIRST_HEAD)
    parser.receive_data(head)
    try:
        request = parser.next_event()
        if not isinstance(request, h11.Request) or not isinstance(parser.next_event(), h11.EndOfMessage):
            return None
    except h11.RemoteProtocolError:
        return None
    headers: Fields = [(bytes(name), bytes(value)) for name, value in request.headers]
    settings = [value for name, value in headers if name == b"http2-settings"]
    options = _elements(headers, b"connection")
    hosts = [value for name, value in headers if name == b"host"]
    asked = b"h2c" in _elements(headers, b"upgrade") and b"upgrade" in options and b"http2-settings" in options
    if not asked or len(settings) != 1 or len(hosts) != 1 or request.http_version != b"1.1":
        return None
    target = [(b":authority", hosts[0]), (b":path", request.target)]
    fields = [(b":method", request.method), (b":scheme", b"http"), *target]
    named = options | CONNECTION_FIELDS | {b"host"}
    return settings[0], [*fields, *(each for each in headers if each[0] not in named and each[0] != b"te")]


def _elements(fields: Fields, name: bytes) -> set[bytes]:
    """What a list field has (RFC 9110, 5.6.1), in lower case."""
    return {element.strip().lower() for other, value in fields if other == name for element in value.split(b",")}
