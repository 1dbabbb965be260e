"""One HTTP/2 connection without I/O, of a client or of a server (RFC 9113).

Octets go in with the time, and what they mean comes out as calls: of the connection's `Http2Owner`, and of the
`StreamSink` of each stream. What is sent is pulled: a stream that has something says `want`, and when the socket takes
octets its sink is asked to `produce` within the peer's windows, stream by stream in turn. Windows are given back as
octets are passed on, and not before. Priorities are ignored.

The states, windows and frames are h2's (`http2_codec`). In front of it stands a look at every frame's header: floods
are counted before they cost anything, and GOAWAY, after which h2 would say nothing more, is dealt with here. What
requests and answers mean is left to the sinks.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from contextlib import suppress
from math import inf
from typing import Final

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error, StreamClosedError
from hpack import NeverIndexedHeaderTuple
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import GoAwayFrame

from van.adaptors.http.http2_codec import Codec
from van.adaptors.http.http2_fields import (
    SENSITIVE,
    Fields,
    content_length,
    field,
    request_fault,
    response_fault,
    trailers_fault,
)
from van.adaptors.http.http2_limits import (
    EMPTY_FRAMES,
    ENCODER_TABLE,
    GRACE,
    IDLE_FRAMES,
    IDLE_TIMEOUT,
    KEEPALIVE,
    MAX_CONTINUATIONS,
    MAX_FRAME_SIZE,
    MAX_HEADER_BLOCK,
    MAX_PENDING,
    MAX_SETTINGS,
    MAX_STREAMS,
    OPEN_TIMEOUT,
    PING_TIMEOUT,
    PINGS,
    RESETS,
    SEND_FRAME_SIZE,
    SETTINGS,
    STREAM_WINDOW,
    UPDATES_PER_DATA,
    Allowance,
)
from van.amqp.native import mypyc_attr

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 begins with (3.4)."""

# 6: types of frames, and flags.
_DATA: Final = 0
_HEADERS: Final = 1
_PRIORITY: Final = 2
_RST_STREAM: Final = 3
_SETTINGS: Final = 4
_PUSH_PROMISE: Final = 5
_PING: Final = 6
_GOAWAY: Final = 7
_WINDOW_UPDATE: Final = 8
_CONTINUATION: Final = 9
_END_STREAM: Final = 1
_ACK: Final = 1
_END_HEADERS: Final = 4
_PADDED: Final = 8

_FRAME_HEADER: Final = 9
# 6.8: a first GOAWAY names the largest stream there can be, so that nothing is lost that is on its way.
_EVERY_STREAM: Final = 2**31 - 1
_DRAIN_PING: Final = b"van drai"
_ALIVE_PING: Final = b"van here"
# 6.9.1
_DEFAULT_WINDOW: Final = 65535

NO_ERROR: Final = int(ErrorCodes.NO_ERROR)
PROTOCOL_ERROR: Final = int(ErrorCodes.PROTOCOL_ERROR)
INTERNAL_ERROR: Final = int(ErrorCodes.INTERNAL_ERROR)
FRAME_SIZE_ERROR: Final = int(ErrorCodes.FRAME_SIZE_ERROR)
REFUSED_STREAM: Final = int(ErrorCodes.REFUSED_STREAM)
CANCEL: Final = int(ErrorCodes.CANCEL)
ENHANCE_YOUR_CALM: Final = int(ErrorCodes.ENHANCE_YOUR_CALM)


def code_name(code: int) -> str:
    """The name of an error code (7), or its number in words."""
    try:
        return ErrorCodes(code).name
    except ValueError:
        return f"error {code:#x}"


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamSink:
    """What there is at our end of a stream: it is told what arrives, and asked for what is to be sent."""

    def on_informational(self, fields: Fields) -> None:
        """An answer with a status of 1xx; another follows."""

    def on_head(self, fields: Fields, ended: bool) -> None:
        """An answer begins; `ended`: and is all there, which `on_end` will say."""

    def on_data(self, data: bytes) -> None:
        """More of the body, which is given back with `Http2Stream.passed`."""

    def on_end(self, trailers: Fields) -> None:
        """The peer has sent all, and with it these trailers."""

    def on_reset(self, code: int, unprocessed: bool) -> None:
        """The stream has ended before its time, with an error code (7).

        unprocessed: the peer says that it has done nothing with it, so that it may be tried again.
        """

    def produce(self, room: int) -> bool:
        """Send what there is, of data at most `room` octets, which may be none. Returns whether there is more."""
        return False


@mypyc_attr(allow_interpreted_subclasses=True)
class Http2Owner:
    """Whoever has the connection."""

    def on_request(self, stream: Http2Stream, fields: Fields, ended: bool) -> StreamSink:
        """A client asks; returns who has the stream from now on. `ended`: there is no body, which `on_end` will say."""
        raise NotImplementedError

    def on_streams(self) -> None:
        """There may be room for more streams of ours, or it has turned out that there will be none: `may_open`."""

    def on_sendable(self) -> None:
        """There is something to send."""


class Http2Stream:
    """One stream. `closed`: both sides have ended, or it was reset; nothing can be sent, and nothing will come."""

    __slots__ = (
        "bodiless",
        "closed",
        "connection",
        "expected",
        "head_sent",
        "held",
        "number",
        "received",
        "received_all",
        "sent_all",
        "sink",
        "wanting",
    )

    def __init__(self, connection: Http2Connection, number: int, sink: StreamSink) -> None:
        self.connection = connection
        self.number = number
        self.sink = sink
        self.closed = False
        self.head_sent = False
        self.sent_all = False
        self.received_all = False
        # In the connection's queue of those that have something to send.
        self.wanting = False
        # Octets of data that were received, those not passed on yet, and how many were announced; None for any number.
        self.received = 0
        self.held = 0
        self.expected: int | None = None
        # The answer to HEAD has no body, whatever length it announces.
        self.bodiless = False

    def want(self) -> None:
        """There is something to send: the sink is asked to `produce` it."""
        if not self.wanting and not self.closed:
            self.wanting = True
            self.connection.wanting.append(self)
            self.connection.owner.on_sendable()

    def sendable(self) -> bool:
        """Whether anything more may be sent."""
        return not self.closed and not self.sent_all

    def passed(self, octets: int) -> None:
        """So many octets of data have been passed on: the peer may send as many more."""
        octets = min(octets, self.held)
        if octets > 0:
            self.held -= octets
            self.connection.give_back(self, octets)

    # These are called in the course of `produce`; nothing happens when the stream is closed meanwhile.

    def send_head(self, fields: Fields, ended: bool) -> None:
        """Send the head of a request or an answer."""
        if self.sendable():
            self.connection.send_fields(self, fields, ended)
            self.head_sent = True

    def send_informational(self, fields: Fields) -> None:
        """Send an answer of 1xx, which another one follows."""
        if self.sendable() and not self.head_sent:
            self.connection.send_fields(self, fields, False)

    def send_data(self, data: bytes | memoryview, ended: bool) -> None:
        """Send some of the body; no more than there is room."""
        if self.sendable() and (data or ended):
            self.connection.send_data(self, data, ended)

    def send_trailers(self, fields: Fields) -> None:
        """Send the end, and with it trailers."""
        if self.sendable():
            if fields:
                self.connection.send_fields(self, fields, True)
            else:
                self.connection.send_data(self, b"", True)

    def reset(self, code: int) -> None:
        """End the stream at once; the sink hears no more of it."""
        if not self.closed:
            self.connection.reset(self, code)


class Http2Connection:
    """One connection. `opened`: the peer has said its settings. `failed`: why it is over, in words; empty: it is not.

    `going_away`: the peer takes no more streams. `finished` says whether all is said, and the socket can be closed.
    """

    def __init__(
        self,
        owner: Http2Owner,
        *,
        client: bool,
        now: float,
        max_streams: int = MAX_STREAMS,
        keepalive: float = KEEPALIVE,
        idle_timeout: float = IDLE_TIMEOUT,
        upgrade: bytes | None = None,
    ) -> None:
        """client: whether we are the client. max_streams: of the peer, or of ours. keepalive, idle_timeout: in seconds.

        upgrade: the field HTTP2-Settings of the request by which a client of HTTP/1.1 asked for HTTP/2 (RFC 7540, 3.2);
        that request is then stream 1: see `upgraded`. Raises `ValueError` when the field is none.
        """
        self.owner = owner
        self.client = client
        self.now = now
        self.max_streams = max_streams
        self.keepalive = keepalive
        self.idle_timeout = idle_timeout
        self.opened = False
        self.failed = ""
        self.going_away = False
        # The last stream that is not refused, once we have said that we go.
        self.last_taken = _EVERY_STREAM
        self.draining = False
        self.streams: dict[int, Http2Stream] = {}
        self.wanting: deque[Http2Stream] = deque()
        self.heard = now
        self._began = now
        self.idle_since = now
        self._pinged = inf
        self._drain_by = inf
        self._blocked: list[Http2Stream] = []
        self._buffer = bytearray()
        self._preface_due = not client
        self._block = 0
        self._continuations = -1
        self._resets = Allowance(RESETS, now)
        self._settings = Allowance(SETTINGS, now)
        self._pings = Allowance(PINGS, now)
        self._empty = Allowance(EMPTY_FRAMES, now)
        self._idle = Allowance(IDLE_FRAMES, now)
        self._out: list[bytes] = []
        self._pending = 0
        # Nobody is told of what there is to send from here on.
        self._sending = True
        codec = self._codec = Codec(client=client, max_streams=max_streams, window=STREAM_WINDOW)
        if upgrade is None:
            codec.initiate_connection()
        else:
            self._upgrade(upgrade)
        codec.lenient()
        codec.increment_flow_control_window(max_streams * STREAM_WINDOW - _DEFAULT_WINDOW)
        self._collect()
        self._sending = False

    def _upgrade(self, settings: bytes) -> None:
        try:
            body = base64.b64decode(settings + b"=" * (-len(settings) % 4), altchars=b"-_", validate=True)
            if len(body) > 6 * MAX_SETTINGS:
                raise ValueError("there are too many settings")
            self._codec.initiate_upgrade_connection(base64.urlsafe_b64encode(body))
        except (H2Error, HyperframeError, binascii.Error) as error:
            raise ValueError(f"HTTP2-Settings cannot be read: {error}") from None

    def upgraded(self, fields: Fields) -> None:
        """Take the request that asked for HTTP/2, which has come whole, as stream 1."""
        stream = self._accepted(1, fields, True)
        if stream is not None:
            self._received_all(stream, [])

    # -- what arrives --------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take octets from the peer. Never raises for what a peer sends."""
        if self.failed:
            return
        self.now = self.heard = now
        self._pinged = inf
        work: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            work = self._buffer
        offset = 0
        if self.client and not self.opened and work[:5] == b"HTTP/":
            self.fail(PROTOCOL_ERROR, "the server does not speak HTTP/2")
            return
        if self._preface_due:
            begun = bytes(work[: len(PREFACE)])
            if not PREFACE.startswith(begun):
                self.fail(PROTOCOL_ERROR, "the peer did not begin as HTTP/2 does")
                return
            if len(begun) == len(PREFACE):
                self._preface_due = False
                self._feed(begun)
                offset = len(PREFACE)
        if not self._preface_due:
            size = len(work)
            while size - offset >= _FRAME_HEADER:
                length = work[offset] << 16 | work[offset + 1] << 8 | work[offset + 2]
                if length > MAX_FRAME_SIZE:
                    self.fail(FRAME_SIZE_ERROR, f"a frame of {length} octets is too large")
                    return
                end = offset + _FRAME_HEADER + length
                if end > size:
                    break
                self._frame(bytes(work[offset:end]))
                offset = end
                if self.over():
                    return
        if work is data:
            self._buffer += data[offset:]
        else:
            del self._buffer[:offset]
        self._collect()
        if self._pending > MAX_PENDING:
            self.fail(ENHANCE_YOUR_CALM, "the peer reads none of the answers it asks for")

    def _frame(self, frame: bytes) -> None:
        """Take one frame, whole."""
        kind = frame[3]
        flags = frame[4]
        length = len(frame) - _FRAME_HEADER
        now = self.now
        allowed = True
        if not self.opened and (kind != _SETTINGS or flags & _ACK):
            # 3.4
            self.fail(PROTOCOL_ERROR, "the peer did not begin with its settings")
            return
        if self._continuations >= 0 or kind == _CONTINUATION:
            # CVE-2024-27316: fields without an end.
            self._continuations += 1
            self._block += length
            if self._continuations > MAX_CONTINUATIONS or self._block > MAX_HEADER_BLOCK:
                self.fail(ENHANCE_YOUR_CALM, "the fields of a message come in too many frames, or are too large")
                return
            if not length:
                allowed = self._empty.spend(now)
            if flags & _END_HEADERS:
                self._continuations = -1
        elif kind == _DATA:
            padding = frame[_FRAME_HEADER] + 1 if flags & _PADDED and length else 0
            if length <= padding and not flags & _END_STREAM:
                allowed = self._empty.spend(now)
        elif kind == _HEADERS:
            self._block = length
            if length > MAX_HEADER_BLOCK:
                allowed = False
            if not flags & _END_HEADERS:
                self._continuations = 0
        elif kind == _RST_STREAM:
            allowed = self.client or self._resets.spend(now)
        elif kind == _SETTINGS:
            allowed = length <= 6 * MAX_SETTINGS and self._settings.spend(now)
        elif kind == _PING:
            allowed = self._pings.spend(now)
        elif kind == _GOAWAY:
            self._goaway(frame)
            return
        elif kind == _PUSH_PROMISE:
            self.fail(PROTOCOL_ERROR, "there was a PUSH_PROMISE, which we do not take")
            return
        elif kind == _PRIORITY or kind > _CONTINUATION:
            # 5.3.2: deprecated, and the other cannot be known: neither means anything to us.
            if not self._idle.spend(now):
                self.fail(ENHANCE_YOUR_CALM, "too many frames that do nothing")
            return
        elif kind == _WINDOW_UPDATE:
            allowed = self._idle.spend(now)
        if not allowed:
            self.fail(ENHANCE_YOUR_CALM, f"too many frames of type {kind}")
            return
        self._feed(frame)

    def _feed(self, octets: bytes) -> None:
        try:
            events = self._codec.receive_data(octets)
        except H2Error as error:
            # The peer has been told: see RFC 9113, 5.4.1.
            self._fail(str(error) or type(error).__name__)
            return
        for event in events:
            self._happened(event)
            if self.over():
                return

    def _happened(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._data(event)
        elif isinstance(event, RequestReceived):
            self._request(event)
        elif isinstance(event, ResponseReceived | InformationalResponseReceived | TrailersReceived):
            self._fields(event)
        elif isinstance(event, StreamEnded):
            stream = self.streams.get(event.stream_id)
            if stream is not None and not stream.received_all:
                self._received_all(stream, [])
        elif isinstance(event, StreamReset):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                code = int(event.error_code)
                self._drop(stream)
                if not event.remote_reset and not self.client and not self._resets.spend(self.now):
                    # The client made us do it: CVE-2025-8671.
                    self.fail(ENHANCE_YOUR_CALM, "too many streams that had to be reset")
                stream.sink.on_reset(code, code == REFUSED_STREAM)
        elif isinstance(event, WindowUpdated):
            if event.stream_id:
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    stream.want()
            else:
                self._unblock()
        elif isinstance(event, RemoteSettingsChanged):
            self._settings_changed()
        elif isinstance(event, PingAckReceived) and event.ping_data == _DRAIN_PING:
            self._drained()

    def _settings_changed(self) -> None:
        encoder = self._codec.encoder
        encoder.header_table_size = min(encoder.header_table_size, ENCODER_TABLE)
        self.opened = True
        self._unblock()
        self.owner.on_streams()

    def _unblock(self) -> None:
        blocked = self._blocked
        if blocked:
            self._blocked = []
            for stream in blocked:
                stream.want()

    def _request(self, event: RequestReceived) -> None:
        number = event.stream_id
        fields = self._codec.heads.fields
        if number > self.last_taken or len(self.streams) >= self.max_streams:
            self._refuse(number, REFUSED_STREAM)
            return
        self._accepted(number, fields, event.stream_ended is not None)

    def _accepted(self, number: int, fields: Fields, ended: bool) -> Http2Stream | None:
        """Hand a request to the owner, if it is one."""
        expected = content_length(fields)
        if request_fault(fields) or expected == -1 or (ended and expected):
            self._refuse(number, PROTOCOL_ERROR)
            return None
        stream = Http2Stream(self, number, _NOBODY)
        stream.expected = expected
        self.streams[number] = stream
        self.idle_since = inf
        stream.sink = self.owner.on_request(stream, fields, ended)
        return stream

    def _refuse(self, number: int, code: int) -> None:
        """Reset a stream that nobody has. A client that makes us do that again and again is one that resets."""
        self._reset(number, code)
        if not self.client and not self._resets.spend(self.now):
            self.fail(ENHANCE_YOUR_CALM, "too many streams that had to be reset")

    def _wrong(self, stream: Http2Stream) -> None:
        """The peer has sent something malformed: the stream is reset (8.1.1), and its sink told."""
        self._drop(stream)
        self._refuse(stream.number, PROTOCOL_ERROR)
        stream.sink.on_reset(PROTOCOL_ERROR, False)

    def _fields(self, event: ResponseReceived | InformationalResponseReceived | TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        fields = self._codec.heads.fields
        if isinstance(event, TrailersReceived):
            if trailers_fault(fields) or not self._length_is_right(stream):
                self._wrong(stream)
            else:
                self._received_all(stream, fields)
            return
        if response_fault(fields):
            self._wrong(stream)
        elif isinstance(event, InformationalResponseReceived):
            if self._idle.spend(self.now):
                stream.sink.on_informational(fields)
            else:
                self.fail(ENHANCE_YOUR_CALM, "too many answers of 1xx")
        else:
            status = field(fields, b":status")
            ended = event.stream_ended is not None
            if stream.bodiless or status in (b"204", b"304"):
                stream.expected = 0
            else:
                stream.expected = content_length(fields)
                if stream.expected == -1 or (ended and stream.expected):
                    self._wrong(stream)
                    return
            stream.sink.on_head(fields, ended)

    def _length_is_right(self, stream: Http2Stream) -> bool:
        return stream.expected is None or stream.received == stream.expected

    def _data(self, event: DataReceived) -> None:
        number = event.stream_id
        data = event.data
        size = len(data)
        padding = event.flow_controlled_length
        stream = self.streams.get(number)
        if stream is None:
            self._codec.acknowledge_received_data(padding, number)
            return
        padding -= size
        if padding:
            self._codec.acknowledge_received_data(padding, number)
        stream.received += size
        stream.held += size
        expected = stream.expected
        ended = event.stream_ended is not None
        if expected is not None and (stream.received > expected or (ended and stream.received < expected)):
            self._wrong(stream)
        elif size:
            stream.sink.on_data(data)

    def _received_all(self, stream: Http2Stream, trailers: Fields) -> None:
        stream.received_all = True
        if stream.sent_all:
            self._close(stream)
        stream.sink.on_end(trailers)

    def _goaway(self, frame: bytes) -> None:
        """The peer takes no streams beyond one that it names; those up to it go on (6.8)."""
        if len(frame) < _FRAME_HEADER + 8 or frame[5:9] != b"\0\0\0\0":
            self.fail(PROTOCOL_ERROR, "a GOAWAY that is none")
            return
        last = int.from_bytes(frame[9:13], "big") & _EVERY_STREAM
        self.going_away = True
        if self.client:
            for stream in list(self.streams.values()):
                if stream.number > last:
                    self._drop(stream)
                    self._reset(stream.number, CANCEL)
                    stream.sink.on_reset(REFUSED_STREAM, True)
        self.owner.on_streams()

    # -- what is sent --------------------------------------------------------------------------------------------

    def take(self, limit: int) -> list[bytes]:
        """Octets to be written, about `limit` at most; fewer are all there is."""
        self._collect()
        wanting = self.wanting
        self._sending = True
        size = self._pending
        while wanting and size < limit and not self.failed:
            stream = wanting.popleft()
            stream.wanting = False
            if not stream.sendable():
                continue
            room = self.window(stream)
            more = stream.sink.produce(room)
            written = self._collect()
            size += written
            if more and stream.sendable() and not stream.wanting:
                if self.window(stream) == 0:
                    self._blocked.append(stream)
                elif written:
                    stream.wanting = True
                    wanting.append(stream)
        self._sending = False
        out = self._out
        self._out = []
        self._pending = 0
        return out

    def window(self, stream: Http2Stream) -> int:
        """How many octets of data may be sent on a stream now, in one frame."""
        codec = self._codec
        window = codec.local_flow_control_window(stream.number)
        # A change of settings may have made it negative (6.9.2).
        return max(0, min(window, codec.max_outbound_frame_size, SEND_FRAME_SIZE))

    def _collect(self) -> int:
        data = self._codec.data_to_send()
        size = len(data)
        if size:
            self._out.append(data)
            self._pending += size
            if not self._sending:
                self.owner.on_sendable()
        return size

    def give_back(self, stream: Http2Stream, octets: int) -> None:
        """Let the peer send so many octets more. See `Http2Stream.passed`."""
        if not self.failed:
            self._codec.acknowledge_received_data(octets, stream.number)
            self._collect()

    def send_fields(self, stream: Http2Stream, fields: Fields, ended: bool) -> None:
        """See `Http2Stream.send_head`."""
        encoded = [NeverIndexedHeaderTuple(*each) if each[0] in SENSITIVE else each for each in fields]
        self._codec.send_headers(stream.number, encoded, end_stream=ended)
        if ended:
            self._sent_all(stream)

    def send_data(self, stream: Http2Stream, data: bytes | memoryview, ended: bool) -> None:
        """See `Http2Stream.send_data`."""
        self._codec.send_data(stream.number, data, end_stream=ended)
        self._idle.earn(UPDATES_PER_DATA)
        if ended:
            self._sent_all(stream)

    def _sent_all(self, stream: Http2Stream) -> None:
        stream.sent_all = True
        if stream.received_all:
            self._close(stream)

    def reset(self, stream: Http2Stream, code: int) -> None:
        """See `Http2Stream.reset`."""
        self._drop(stream)
        if not self.failed:
            self._reset(stream.number, code)
            self._collect()

    def _reset(self, number: int, code: int) -> None:
        # Where both sides had ended there is nothing to be reset any more.
        with suppress(StreamClosedError):
            self._codec.reset_stream(number, code)

    def _drop(self, stream: Http2Stream) -> None:
        """A stream is over before its time: what it had sent is not wanted any more."""
        self._close(stream)
        stream.passed(stream.held)

    def _close(self, stream: Http2Stream) -> None:
        """A stream is over; what it had sent may not have been passed on yet."""
        stream.closed = True
        if self.streams.pop(stream.number, None) is not None:
            if not self.streams:
                self.idle_since = self.now
            if self.client:
                self.owner.on_streams()

    # -- streams of ours -----------------------------------------------------------------------------------------

    def may_open(self) -> bool:
        """Whether a stream can be opened now: the server has said its settings, and takes one more."""
        if not self.opened or not self.usable():
            return False
        return len(self.streams) < min(self.max_streams, self._codec.remote_settings.max_concurrent_streams)

    def usable(self) -> bool:
        """Whether streams can be opened at all, now or later."""
        return not (self.failed or self.going_away or self.draining or self._exhausted())

    def _exhausted(self) -> bool:
        return self._codec.highest_outbound_stream_id >= _EVERY_STREAM - 2

    def open(self, fields: Fields, ended: bool, sink: StreamSink) -> Http2Stream:
        """Send a request; `may_open` has to hold. `ended`: it has no body."""
        number = self._codec.get_next_available_stream_id()
        stream = Http2Stream(self, number, sink)
        stream.bodiless = field(fields, b":method") == b"HEAD"
        self.streams[number] = stream
        self.idle_since = inf
        stream.send_head(fields, ended)
        self._collect()
        return stream

    # -- time and the end ----------------------------------------------------------------------------------------

    def over(self) -> bool:
        """Whether the connection has `failed`."""
        return bool(self.failed)

    @property
    def finished(self) -> bool:
        """Whether nothing will follow what `take` still returns."""
        if self.failed:
            return True
        over = self.going_away or (self.draining and self.last_taken != _EVERY_STREAM)
        return over and not self.streams

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called."""
        if self.failed:
            return inf
        if not self.opened:
            alive = self._began + OPEN_TIMEOUT
        elif self._is_idle():
            alive = self.idle_since + self.idle_timeout
        elif self._pinged < inf:
            alive = self._pinged + PING_TIMEOUT
        else:
            alive = self.heard + self.keepalive
        return min(alive, self._drain_by)

    def progressed(self, now: float) -> None:
        """The peer takes octets, and many: it need not be heard, and a PING waits behind them."""
        self.heard = now
        self._pinged = inf

    def gives_up_at(self) -> float:
        """When a peer that is not heard, and takes no octets, is given up; infinite while nothing is under way."""
        if self.failed or self._is_idle():
            return inf
        return self.heard + self.keepalive + PING_TIMEOUT

    def handle_deadline(self, now: float) -> None:
        """Do what time asks for."""
        self.now = now
        if self.failed:
            return
        if now >= self.gives_up_at():
            self.fail(NO_ERROR, "the peer does not answer")
            return
        if now >= self._drain_by:
            self._drained()
        if not self.opened:
            if now >= self._began + OPEN_TIMEOUT:
                self.fail(PROTOCOL_ERROR, "the peer has not begun to speak HTTP/2")
        elif self._is_idle():
            if now >= self.idle_since + self.idle_timeout:
                self.drain(now)
        elif self._pinged < inf:
            if now >= self._pinged + PING_TIMEOUT:
                self.fail(NO_ERROR, "the peer does not answer")
        elif now >= self.heard + self.keepalive:
            self._pinged = now
            self._codec.ping(_ALIVE_PING)
            self._collect()

    def _is_idle(self) -> bool:
        """Whether nothing is under way, half a frame or half a head included."""
        return not self.streams and not self._buffer and self._continuations < 0

    def drain(self, now: float) -> None:
        """Take no more streams, and end when those there are have ended.

        A client may have sent some already: a server hears of the end first, and refuses only what comes after it has
        answered, or after a while (6.8).
        """
        if self.draining or self.over():
            return
        self.now = now
        self.draining = True
        if self.client:
            self.last_taken = 0
            self._say_goaway(0)
        elif not self.opened:
            self._drained()
        else:
            self._say_goaway(_EVERY_STREAM)
            self._codec.ping(_DRAIN_PING)
            self._drain_by = now + GRACE
            self._collect()

    def _drained(self) -> None:
        if self.last_taken == _EVERY_STREAM and self.draining:
            self._drain_by = inf
            self.last_taken = self._codec.highest_inbound_stream_id
            self._say_goaway(self.last_taken)

    def _say_goaway(self, last: int) -> None:
        # h2 would say nothing more after it.
        self._collect()
        frame = GoAwayFrame(stream_id=0, last_stream_id=last, error_code=NO_ERROR)
        data = frame.serialize()
        self._out.append(data)
        self._pending += len(data)
        self.owner.on_sendable()

    def fail(self, code: int, reason: str) -> None:
        """End the connection for an error, which the peer is told; its streams are lost."""
        if not self.failed:
            self._codec.close_connection(code, reason.encode())
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        self.failed = reason
        self._collect()
        self.lost()

    def lost(self) -> None:
        """The connection is gone, and all its streams with it."""
        self.failed = self.failed or "the connection was lost"
        streams = list(self.streams.values())
        self.streams.clear()
        self.wanting.clear()
        self._blocked = []
        self._buffer.clear()
        for stream in streams:
            stream.closed = True
            stream.sink.on_reset(INTERNAL_ERROR, False)
        self.owner.on_streams()


_NOBODY: Final = StreamSink()
