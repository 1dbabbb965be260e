"""A connection (2.4): Open to Close, channels, idle time-outs, and the frame loop.

Bytes and the time go in, events and chunks of bytes come out. Which performative is legal when stands in the two tables
below, and nowhere else; what is legal within a session or a link is decided in `session.py` and `link.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Final

from van.amqp.errors import (
    AmqpConnectionError,
    AmqpError,
    AmqpLinkError,
    AmqpSessionError,
    ErrorCondition,
    FramingError,
)
from van.amqp.events import (
    ConnectionClosed,
    ConnectionOpened,
    Event,
    LinkAttached,
    LinkDetached,
    SessionBegun,
    SessionEnded,
)
from van.amqp.framing import (
    DEFAULT_MAX_FRAME_SIZE,
    EMPTY_FRAME,
    FRAME_HEADER,
    FRAME_TYPE_AMQP,
    HEADER_LENGTH,
    MIN_MAX_FRAME_SIZE,
    encode_frame,
    frame_error,
)
from van.amqp.handshake import Handshake
from van.amqp.link import Link, wire_error
from van.amqp.performatives import (
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    End,
    Error,
    Flow,
    Open,
    Transfer,
    decode_performative,
)
from van.amqp.sasl import SaslClient, SaslServer
from van.amqp.sender_link import LINK_QUANTUM, SenderLink
from van.amqp.session import DEFAULT_HANDLE_MAX, Session, WindowPolicy

# channel-max that we announce unless told otherwise: peers open few sessions, a flood of them is bounded.
DEFAULT_CHANNEL_MAX: Final = 255
# How long after our Close we wait for the peer's before the stream is cut, in seconds.
CLOSE_TIMEOUT: Final = 5.0
# The peer is told half of our idle time-out (2.4.5), so that one lost heartbeat does no harm.
IDLE_MARGIN: Final = 2
# A shorter idle time-out than this, in milliseconds, is refused (2.4.5 lets us): keeping it would be all work.
MIN_REMOTE_IDLE_TIMEOUT: Final = 100
# Octets of answers (Begin, Attach, Detach, End and so on) that wait for a peer which asks and does not read. A thousand
# links attached at once need a third of a mebibyte; beyond this the stream is cut, for no Close would get through.
MAX_PENDING_CONTROL: Final = 4 * 1024 * 1024
# We look this often within the peer's idle time-out whether something was written; two looks apart is still in time.
HEARTBEATS: Final = 3


class Receiving(enum.Enum):
    """What the peer has sent so far; it decides what it may send next."""

    HANDSHAKE = "protocol headers and SASL"
    OPEN = "open"
    OPENED = "frames"
    CLOSED = "nothing"


# Performative -> what the peer must have sent. A missing entry is the error.
LEGAL: Final[dict[int, frozenset[Receiving]]] = {
    Open.DESCRIPTOR: frozenset({Receiving.OPEN}),
    Begin.DESCRIPTOR: frozenset({Receiving.OPENED}),
    Attach.DESCRIPTOR: frozenset({Receiving.OPENED}),
    Flow.DESCRIPTOR: frozenset({Receiving.OPENED}),
    Transfer.DESCRIPTOR: frozenset({Receiving.OPENED}),
    Disposition.DESCRIPTOR: frozenset({Receiving.OPENED}),
    Detach.DESCRIPTOR: frozenset({Receiving.OPENED}),
    End.DESCRIPTOR: frozenset({Receiving.OPENED}),
    Close.DESCRIPTOR: frozenset({Receiving.OPENED}),
}

# From this size of a frame on reads are large: 64 of them are 512 KiB. It is not put together before it is looked at,
# where that is one copy more of what it carries...
LARGE_FRAME: Final = 8192
# ...provided that so much of it came at once: its performative is in there, but for contrived ones.
LEAST_HEAD: Final = 64

_TRANSFER_START: Final = b"\x00\x53\x14"
_TRANSFER: Final = Transfer.DESCRIPTOR
_DISPOSITION: Final = Disposition.DESCRIPTOR
_FLOW: Final = Flow.DESCRIPTOR
_OPENED: Final = Receiving.OPENED
_unpack_header: Final[Callable[[bytes, int], tuple[int, int, int, int]]] = FRAME_HEADER.unpack_from


def _ignore() -> None:
    """Stand in for `on_touched` where nobody needs to know."""


class Connection:
    """One AMQP connection endpoint, without I/O.

    container_id: ours. sasl: a `SaslServer` makes this the accepting side, a `SaslClient` the side that begins; with
    None `accepting` says which. sasl_required: an accepting side refuses a bare AMQP header. idle_timeout: seconds
    without a frame after which the peer is taken for dead; 0 for never. max_frame_size: octets. on_touched is called
    when there may be something to write and was not before.
    """

    # Without them each has a dictionary of 64 entries: 1.6 KB.
    __slots__ = (
        "_by_local_channel",
        "_by_remote_channel",
        "_close_deadline",
        "_control",
        "_control_size",
        "_events",
        "_flowing",
        "_free_channels",
        "_handshake",
        "_heartbeat_interval",
        "_last_received",
        "_links",
        "_marked",
        "_next_channel",
        "_next_heartbeat",
        "_now",
        "_partial",
        "_partial_needed",
        "_partial_size",
        "_ready",
        "_written",
        "accepting",
        "channel_max",
        "close_sent",
        "closed",
        "container_id",
        "desired_capabilities",
        "handle_max",
        "hostname",
        "idle_timeout",
        "max_frame_size",
        "octets_in",
        "offered_capabilities",
        "on_touched",
        "open_sent",
        "properties",
        "receiving",
        "remote_channel_max",
        "remote_max_frame_size",
        "remote_open",
        "sasl",
        "touched",
        "window_policy",
    )

    def __init__(
        self,
        container_id: str,
        *,
        accepting: bool = True,
        sasl: SaslServer | SaslClient | None = None,
        sasl_required: bool = False,
        hostname: str | None = None,
        max_frame_size: int = DEFAULT_MAX_FRAME_SIZE,
        channel_max: int = DEFAULT_CHANNEL_MAX,
        handle_max: int = DEFAULT_HANDLE_MAX,
        idle_timeout: float = 0.0,
        offered_capabilities: list[str] | None = None,
        desired_capabilities: list[str] | None = None,
        properties: dict[str, object] | None = None,
        window_policy: WindowPolicy | None = None,
        on_touched: Callable[[], None] = _ignore,
        now: float = 0.0,
    ) -> None:
        self.container_id = container_id
        self.hostname = hostname
        self.accepting = isinstance(sasl, SaslServer) if sasl is not None else accepting
        self.sasl = sasl
        self.max_frame_size = max_frame_size
        self.channel_max = channel_max
        self.handle_max = handle_max
        self.idle_timeout = idle_timeout
        self.offered_capabilities = offered_capabilities
        self.desired_capabilities = desired_capabilities
        self.properties = properties
        self.window_policy = window_policy if window_policy is not None else WindowPolicy()
        self.on_touched = on_touched
        self.touched = False
        self.receiving = Receiving.HANDSHAKE
        self.remote_open: Open | None = None
        self.remote_max_frame_size = MIN_MAX_FRAME_SIZE
        self.remote_channel_max = 0xFFFF
        self.open_sent = False
        self.close_sent = False
        self.closed = False
        self.octets_in = 0
        # Open received, no Close either way: frames are taken as they come.
        self._flowing = False
        self._partial: list[bytes | memoryview] = []
        self._partial_size = 0
        self._partial_needed = 0
        self._events: list[Event] = []
        self._handshake = Handshake(self.accepting, sasl, sasl_required)
        self._control: list[bytes | memoryview] = []
        self._control_size = 0
        self._by_remote_channel: dict[int, Session] = {}
        self._by_local_channel: dict[int, Session] = {}
        # Channels that were used and are free, and the first that never was.
        self._free_channels: list[int] = []
        self._next_channel = 0
        self._links: dict[tuple[str, bool], Link] = {}
        self._marked: list[Session] = []
        self._ready: list[SenderLink] = []
        self._last_received = now
        self._heartbeat_interval = inf
        self._next_heartbeat = inf
        self._written = False
        self._close_deadline = inf
        self._now = now

    # -- verbs ---------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> list[Session]:
        """Sessions that have a channel of ours, or of the peer's and no answer yet."""
        sessions = list(self._by_local_channel.values())
        sessions.extend(session for session in self._by_remote_channel.values() if not session.local_begun)
        return sessions

    def begun_sessions(self) -> list[Session]:
        """Sessions whose Begin we have written."""
        return list(self._by_local_channel.values())

    @property
    def identity(self) -> str:
        """The user that the peer proved to be (as server), empty before and without SASL."""
        return self.sasl.identity if self.sasl is not None and self.sasl.done else ""

    def open(self) -> None:
        """Write our Open (2.4.1)."""
        if self.open_sent:
            return
        self.open_sent = True
        # 2.4.5: half of what we tolerate.
        idle = int(self.idle_timeout * 1000) // IDLE_MARGIN if self.idle_timeout else None
        body = Open(
            container_id=self.container_id,
            hostname=self.hostname,
            max_frame_size=self.max_frame_size,
            channel_max=self.channel_max,
            idle_time_out=idle,
            offered_capabilities=self.offered_capabilities,
            desired_capabilities=self.desired_capabilities,
            properties=self.properties,
        ).encode()
        self.write_raw(encode_frame(0, body))

    def session(self) -> Session:
        """A new session, to be begun with `begin`."""
        return Session(self, self.handle_max)

    def close(self, error: AmqpError | None = None) -> None:
        """Write a Close (2.4.3), with `error` for the peer, behind our Open if that is not out yet."""
        if self.close_sent or self.closed:
            return
        if not self._handshake.header_sent:
            # Nothing can be said before the headers: the stream just ends.
            self._end()
            return
        self.open()
        for session in self._marked:
            session.write_pending(self._control)
        self._marked.clear()
        self.write_frame(0, Close(error=wire_error(error)).encode())
        self.close_sent = True
        self._flowing = False
        self._ready.clear()
        self._close_deadline = self._now + CLOSE_TIMEOUT
        if self.receiving is Receiving.CLOSED:
            self._end()

    # -- input ---------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take octets from the peer; returns what happened, in order. Owners of links are called meanwhile.

        Never raises for what a peer sends: errors are written to the peer and end what they concern.
        """
        self._now = now
        self._last_received = now
        self.octets_in += len(data)
        self._receive_frames(data, self._complete(data) if self._partial else 0)
        events = self._events
        if events:
            self._events = []
        return events

    def _complete(self, data: bytes) -> int:
        """Give the frame that began in earlier reads what it lacks, and take it. Returns where the next one begins."""
        pos = 0
        end = len(data)
        partial = self._partial
        while partial and pos < end:
            missing = self._partial_needed - self._partial_size
            if end - pos < missing:
                partial.append(data[pos:])
                self._partial_size += end - pos
                return end
            large = self._partial_needed >= LARGE_FRAME
            partial.append(memoryview(data)[pos : pos + missing] if large else data[pos : pos + missing])
            pos += missing
            pieces = partial[:]
            partial.clear()
            if not large or not self._receive_pieces(pieces):
                self._receive_frames(b"".join(pieces), 0)
        return pos

    def _receive_pieces(self, pieces: list[bytes | memoryview]) -> bool:
        """Take a Transfer in pieces, so that its payload is put together where it stays: one copy in place of three.

        Returns False for frames that have to be put together first.
        """
        head = pieces[0]
        if not self._flowing or len(head) < LEAST_HEAD or type(head) is not bytes:
            return False
        size, data_offset, frame_type, channel = _unpack_header(head, 0)
        body = data_offset << 2
        if frame_type != FRAME_TYPE_AMQP or body < HEADER_LENGTH or head[body : body + 3] != _TRANSFER_START:
            return False
        session = self._by_remote_channel.get(channel)
        if session is None or session.end_sent:
            return False
        del pieces[0]
        try:
            session.on_transfer(head, body, size, pieces)
        except AmqpSessionError as fault:
            self._fail_session(channel, fault)
        except AmqpError as error:
            self._fail(error)
        return True

    def _receive_frames(self, data: bytes, pos: int) -> None:
        """Take the frames of `data` from `pos` on, and keep what is not whole."""
        end = len(data)
        sessions = self._by_remote_channel
        max_frame_size = self.max_frame_size
        while end - pos >= HEADER_LENGTH:
            flowing = self._flowing
            if not flowing:
                if self.closed:
                    break
                if self.close_sent:
                    pos = self._discard(data, pos, end)
                    break
                size = self._receive_early(data, pos, end)
                if size == 0:
                    break
                pos += size
                continue
            size, data_offset, frame_type, channel = _unpack_header(data, pos)
            if size > max_frame_size or data_offset < 2 or data_offset << 2 > size or frame_type != FRAME_TYPE_AMQP:
                self._fail(frame_error(size, max_frame_size, data_offset, frame_type, self.receiving.value))
                continue
            stop = pos + size
            if stop > end:
                break
            body = pos + (data_offset << 2)
            pos = stop
            if body == stop:
                continue  # an empty frame (2.4.5)
            try:
                # Descriptors of performatives are small ulongs: 00 53 and the code, in all but contrived peers.
                code = data[body + 2] if stop - body > 3 and data[body] == 0 and data[body + 1] == 0x53 else 0
                if code == _TRANSFER or code == _DISPOSITION or code == _FLOW:
                    session = sessions.get(channel)
                    if session is None:
                        raise self._no_session(channel)
                    ended = session.end_sent
                    if ended:
                        continue  # 2.5.4: what was under way when we ended it
                    if code == _TRANSFER:
                        # They come in runs, each written as the one before.
                        start = body - HEADER_LENGTH
                        following = session.on_run(data, start, end) if data_offset == 2 else start
                        if following > start:
                            pos = following
                        else:
                            session.on_transfer(data, body, stop)
                    elif code == _DISPOSITION:
                        session.on_disposition(data, body, stop)
                    else:
                        session.on_flow(data, body, stop)
                else:
                    self._receive_performative(data, body, stop, channel)
            except AmqpSessionError as fault:
                self._fail_session(channel, fault)
            except AmqpError as error:
                self._fail(error)
        if pos < end and not self.closed:
            self._keep(data, pos, end)

    @property
    def frame_awaited(self) -> int:
        """Size in octets of the frame of which only the beginning is here; 0 between frames."""
        return self._partial_needed if self._partial else 0

    def take_events(self) -> list[Event]:
        """What happened while the events before were handled: an answer that could not be written ends a connection."""
        events = self._events
        if events:
            self._events = []
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The peer's stream has ended."""
        self._now = now
        if not self.closed:
            if self.receiving is not Receiving.CLOSED and not self.close_sent:
                self._events.append(ConnectionClosed(True, "", "the stream ended without a close"))
            self._end()
        return self.take_events()

    def _keep(self, data: bytes, pos: int, end: int) -> None:
        """Keep the beginning of a frame, and how much is needed until looking at it again is worth while."""
        self._partial.append(data[pos:end])
        self._partial_size = end - pos
        self._partial_needed = _unpack_header(data, pos)[0] if end - pos >= HEADER_LENGTH else HEADER_LENGTH

    def _discard(self, data: bytes, pos: int, end: int) -> int:
        """After our Close everything but the peer's Close is thrown away (2.4.6, DISCARDING)."""
        while end - pos >= HEADER_LENGTH:
            size, data_offset, _, _ = _unpack_header(data, pos)
            if size > self.max_frame_size or size < HEADER_LENGTH:
                self._end()
                return end
            if pos + size > end:
                break
            body = pos + (data_offset << 2)
            pos += size
            if _is_close(data, body, pos):
                self.receiving = Receiving.CLOSED
                self._end()
                return end
        return pos

    def _receive_early(self, data: bytes, pos: int, end: int) -> int:
        """Take what comes before frames may flow. Returns how many octets it took; 0 when it is not whole."""
        if self.receiving is Receiving.CLOSED:
            return end - pos
        try:
            if self.receiving is Receiving.HANDSHAKE:
                return self._receive_handshake(data, pos, end)
            size, data_offset, frame_type, _ = _unpack_header(data, pos)
            # 2.4.1: before Open nothing is negotiated, so our own limit holds.
            limit = max(self.max_frame_size, MIN_MAX_FRAME_SIZE)
            if size > limit or data_offset < 2 or data_offset << 2 > size or frame_type != FRAME_TYPE_AMQP:
                raise frame_error(size, limit, data_offset, frame_type, self.receiving.value)
            if pos + size > end:
                return 0
            body = pos + (data_offset << 2)
            if body == pos + size:
                return size
            performative, _ = decode_performative(data, body, pos + size)
            if type(performative) is not Open:
                name = type(performative).__name__.lower()
                raise AmqpConnectionError(ErrorCondition.ILLEGAL_STATE, f"{name} before open")
            self._receive_open(performative)
            return size
        except AmqpError as error:
            self._fail(error)
            return end - pos

    def _receive_handshake(self, data: bytes, pos: int, end: int) -> int:
        handshake = self._handshake
        size = handshake.receive(data, pos, end)
        self._touch()
        refusal = handshake.refusal
        if refusal is not None:
            self._events.append(ConnectionClosed(refusal.by_peer, refusal.condition, refusal.description))
            self._end()
        elif handshake.done:
            self.receiving = Receiving.OPEN
        return size

    def _receive_open(self, open_: Open) -> None:
        self.remote_open = open_
        self.receiving = Receiving.OPENED
        self._flowing = not self.close_sent
        size = open_.max_frame_size
        if size < MIN_MAX_FRAME_SIZE:
            raise AmqpConnectionError(
                ErrorCondition.INVALID_FIELD, f"max-frame-size {size} is below {MIN_MAX_FRAME_SIZE}"
            )
        self.remote_max_frame_size = size
        self.remote_channel_max = open_.channel_max
        if open_.idle_time_out:
            if open_.idle_time_out < MIN_REMOTE_IDLE_TIMEOUT:
                raise AmqpConnectionError(
                    ErrorCondition.RESOURCE_LIMIT_EXCEEDED,
                    f"an idle-time-out of {open_.idle_time_out} ms is too short, {MIN_REMOTE_IDLE_TIMEOUT} can be kept",
                )
            self._heartbeat_interval = open_.idle_time_out / 1000 / HEARTBEATS
            self._next_heartbeat = self._now + self._heartbeat_interval
        self._events.append(ConnectionOpened(open_))

    def _receive_performative(self, data: bytes, body: int, stop: int, channel: int) -> None:
        performative, _ = decode_performative(data, body, stop)
        kind = type(performative)
        if self.receiving not in LEGAL[performative.DESCRIPTOR]:
            raise AmqpConnectionError(
                ErrorCondition.ILLEGAL_STATE, f"{kind.__name__.lower()} where {self.receiving.value} may follow"
            )
        if kind is Close:
            assert isinstance(performative, Close)
            self.receiving = Receiving.CLOSED
            self._flowing = False
            self._events.append(ConnectionClosed(True, *_reason(performative.error)))
            return
        session = self._by_remote_channel.get(channel)
        if kind is Begin:
            assert isinstance(performative, Begin)
            self._receive_begin(performative, channel, session)
            return
        if session is None:
            raise self._no_session(channel)
        if kind is End:
            assert isinstance(performative, End)
            del self._by_remote_channel[channel]
            session.end_received = True
            if session.end_sent:
                self.session_over(session)
            else:
                self._events.append(SessionEnded(session, *_reason(performative.error)))
            return
        if session.end_sent:
            return
        if kind is Attach:
            assert isinstance(performative, Attach)
            link = session.on_attach(performative)
            if link is not None:
                self._events.append(LinkAttached(link, False))
                self.register_link(link)
            else:
                answered = session.remote_handles[performative.handle]
                self._events.append(LinkAttached(answered, True))
        elif kind is Detach:
            assert isinstance(performative, Detach)
            detached = session.on_detach(performative)
            if detached is not None:
                self._events.append(LinkDetached(detached, bool(performative.closed), performative.error))
        elif kind is Flow:
            session.on_flow(data, body, stop)
        elif kind is Disposition:
            session.on_disposition(data, body, stop)
        else:
            session.on_transfer(data, body, stop)

    def _receive_begin(self, begin: Begin, channel: int, session: Session | None) -> None:
        if session is not None:
            raise AmqpConnectionError(ErrorCondition.NOT_ALLOWED, f"begin on channel {channel}, which has a session")
        if channel > self.channel_max:
            raise FramingError(f"channel {channel} is beyond channel-max {self.channel_max}")
        if begin.remote_channel is not None:
            mine = self._by_local_channel.get(begin.remote_channel)
            if mine is None or mine.remote_begun:
                raise AmqpConnectionError(
                    ErrorCondition.INVALID_FIELD, f"begin answers channel {begin.remote_channel}, which waits for none"
                )
            mine.remote_channel = channel
            mine.on_begin(begin)
            self._by_remote_channel[channel] = mine
            self._events.append(SessionBegun(mine, True))
            return
        session = Session(self, self.handle_max)
        session.remote_channel = channel
        session.on_begin(begin)
        self._by_remote_channel[channel] = session
        self._events.append(SessionBegun(session, False))

    # -- output --------------------------------------------------------------------------------------------------

    def data_to_send(self, limit: int = 65536) -> list[bytes | memoryview]:
        """Return chunks to write in this order, `limit` octets of transfers or a little more; empty for none."""
        self.touched = False
        handshake = self._handshake
        out = handshake.out
        handshake.out = []
        if not handshake.header_sent:
            self._written = True
            return out
        if self._control:
            out.extend(self._control)
            self._control.clear()
            self._control_size = 0
        if self._marked:
            self._write_marked(out)
        if self._ready and self._flowing:
            self._write_transfers(out, limit)
            if self._marked:
                self._write_marked(out)  # credit given back behind the last transfer of a drained link
        if out:
            self._written = True
        return out

    def _write_marked(self, out: list[bytes | memoryview]) -> None:
        marked = self._marked
        self._marked = []
        for session in marked:
            session.write_pending(out)

    def _write_transfers(self, out: list[bytes | memoryview], limit: int) -> None:
        ready = self._ready
        written = 0
        while ready and written < limit:
            link = ready.pop(0)
            room = limit - written
            written += link.write(out, LINK_QUANTUM if room > LINK_QUANTUM and ready else room)
            if link.can_write():
                self._insert(link)
            elif link.blocked_by_window():
                link.session.starved.append(link)  # still `queued`: here rather than in `ready`
            else:
                link.queued = False
        if ready:
            self._touch()

    def write_frame(self, channel: int, body: bytes) -> None:
        """Queue a frame around a performative; one beyond the peer's max-frame-size ends the connection instead."""
        if len(body) + HEADER_LENGTH > self.remote_max_frame_size and self.remote_open is not None:
            self._fail(
                AmqpConnectionError(
                    ErrorCondition.FRAME_SIZE_TOO_SMALL,
                    f"an answer of {len(body)} octets has no room in frames of {self.remote_max_frame_size}",
                )
            )
            return
        self.write_raw(encode_frame(channel, body))

    def write_raw(self, frame: bytes) -> None:
        """Queue a whole frame."""
        if self.close_sent or self.closed:
            return
        self._control.append(frame)
        self._control_size += len(frame)
        if self._control_size > MAX_PENDING_CONTROL:
            description = f"the peer has left {self._control_size} octets of answers unread"
            self._events.append(ConnectionClosed(False, ErrorCondition.RESOURCE_LIMIT_EXCEEDED, description))
            self._control.clear()
            self._end()
            return
        self._touch()

    def flush_session(self, session: Session) -> None:
        """Write a session's dispositions and flows now, in front of what is to follow; they count as answers too."""
        control = self._control
        count = len(control)
        session.write_pending(control)
        self._control_size += sum(map(len, control[count:]))

    def link_ready(self, link: SenderLink) -> None:
        """A sender link has something to write."""
        self._insert(link)
        if not self.touched:
            self._touch()

    def session_marked(self, session: Session) -> None:
        """A session has dispositions or flows to write."""
        self._marked.append(session)
        if not self.touched:
            self._touch()

    def _insert(self, link: SenderLink) -> None:
        """Put a link behind those of its priority and above; links of one connection take turns within a priority."""
        ready = self._ready
        priority = link.priority
        index = len(ready)
        while index > 0 and ready[index - 1].priority < priority:
            index -= 1
        ready.insert(index, link)

    def _touch(self) -> None:
        if not self.touched:
            self.touched = True
            self.on_touched()

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called."""
        if self.closed:
            return inf
        # The least of what `gives_up_at` and the heartbeat say, without calls: drivers ask twice for each message that
        # finds its router idle.
        deadline = self._close_deadline
        if self.idle_timeout and self._flowing:
            silent = self._last_received + self.idle_timeout
            if silent < deadline:
                deadline = silent
        return self._next_heartbeat if self._next_heartbeat < deadline else deadline

    def gives_up_at(self) -> float:
        """When the peer is given up: for its silence, or for not answering our Close."""
        if self.idle_timeout and self._flowing:
            return min(self._close_deadline, self._last_received + self.idle_timeout)
        return self._close_deadline

    def handle_deadline(self, now: float) -> list[Event]:
        """Write a heartbeat if it is time, and give up a peer that is silent or does not answer our Close."""
        self._now = now
        if self.closed:
            return []
        if now >= self._close_deadline:
            self._end()
        elif self.idle_timeout and self._flowing and now >= self._last_received + self.idle_timeout:
            self._fail(
                AmqpConnectionError(
                    ErrorCondition.RESOURCE_LIMIT_EXCEEDED, f"nothing received for {self.idle_timeout:g} seconds"
                )
            )
        if now >= self._next_heartbeat:
            if not self._written and not self.close_sent and self.open_sent:
                self._control.append(EMPTY_FRAME)
                self._touch()
            self._written = False
            self._next_heartbeat = now + self._heartbeat_interval
        return self.take_events()

    def let_go(self) -> None:
        """The stream has ended, and owners of links have been told: what refers to each other here is taken apart.

        Else only a collection of garbage would free it, which stops everybody for as long as it takes to look at all
        that there is.
        """
        for session in self.sessions:
            session.let_go()
        self.on_touched = _ignore
        self._by_local_channel.clear()
        self._by_remote_channel.clear()
        self._links.clear()
        self._marked.clear()
        self._ready.clear()
        self._events.clear()

    # -- called by sessions and links ----------------------------------------------------------------------------

    def allocate_channel(self, session: Session) -> None:
        """Give the session the lowest free channel. Raises `AmqpSessionError` beyond the peer's channel-max."""
        if self._free_channels:
            channel = heappop(self._free_channels)
        else:
            channel = self._next_channel
            if channel > min(self.remote_channel_max, self.channel_max):
                raise AmqpSessionError(
                    ErrorCondition.RESOURCE_LIMIT_EXCEEDED, f"the connection takes {channel} sessions at most"
                )
            self._next_channel += 1
        session.local_channel = channel
        self._by_local_channel[channel] = session

    def session_over(self, session: Session) -> None:
        """Both sides have ended the session: its channels are free."""
        del self._by_local_channel[session.local_channel]
        heappush(self._free_channels, session.local_channel)
        for link in list(session.links.values()):
            self.unregister_link(link)
        self.window_policy.end(session)

    def find_link(self, name: str, role: bool) -> Link | None:
        """The link of that name in which we have `role`."""
        return self._links.get((name, role))

    def register_link(self, link: Link) -> None:
        """A link has its name on this connection from now on, unless another has taken that over."""
        if link.failure is None:
            self._links[link.name, link.role] = link

    def unregister_link(self, link: Link) -> None:
        """The link's name may be used again."""
        if self._links.get((link.name, link.role)) is link:
            del self._links[link.name, link.role]

    def steal(self, link: Link) -> None:
        """Another link takes this one's name: it is detached (2.6.1), unless it is on its way out anyway."""
        self.unregister_link(link)
        session = link.session
        if not (link.detach_sent or link.detach_received or session.end_sent or session.end_received):
            self.fail_link(link, AmqpLinkError(ErrorCondition.STOLEN, f"link {link.name!r} was attached again"))

    def fail_link(self, link: Link, error: AmqpLinkError) -> None:
        """Detach a link for the peer's error; its owner hears of it.

        One that its owner has not answered yet gets its Detach right behind that answer (2.6.3).
        """
        if link.failure is None:
            link.failure = error
            link.detach(error)
            self._events.append(LinkDetached(link, True, None))

    # -- errors --------------------------------------------------------------------------------------------------

    def _no_session(self, channel: int) -> AmqpConnectionError:
        return AmqpConnectionError(ErrorCondition.NOT_ALLOWED, f"a frame on channel {channel}, which has no session")

    def _fail_session(self, channel: int, error: AmqpSessionError) -> None:
        session = self._by_remote_channel[channel]
        if not session.local_begun:
            self.open()
            try:
                session.begin()
            except AmqpError as refused:
                self._events.append(SessionEnded(session, refused.condition, refused.description))
                return
        session.end(error)
        self._events.append(SessionEnded(session, error.condition, error.description))

    def _fail(self, error: AmqpError) -> None:
        self._events.append(ConnectionClosed(False, error.condition, error.description))
        self.close(error)
        if self.receiving is not _OPENED:
            self._end()

    def _end(self) -> None:
        self.closed = True
        self._flowing = False
        self._close_deadline = inf
        self._partial.clear()
        self._touch()


def _reason(error: Error | None) -> tuple[str, str]:
    """Condition and description of an error that a peer sent, empty for none."""
    return (str(error.condition), error.description or "") if error is not None else ("", "")


def _is_close(data: bytes, body: int, stop: int) -> bool:
    """Whether a frame's body is a Close, in any of its encodings; that it is none, or garbage, does not matter."""
    if data[body : body + 2] == b"\x00\x53":
        return data[body + 2 : body + 3] == b"\x18"
    try:
        return type(decode_performative(data, body, stop)[0]) is Close
    except AmqpError:
        return False
