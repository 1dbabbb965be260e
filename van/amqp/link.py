"""Link endpoints (2.6): attach and detach, credit, and the frames of a delivery.

A `ReceiverLink` hands deliveries to its `DeliverySink`, a `SenderLink` pulls them from its `DeliverySource`. Both are
plain state: what a peer's frame does to them is called by `session.py`, and whatever they have to say is written when
the connection is asked for bytes.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from van.amqp.delivery import Delivery, DeliverySink, DeliverySource
from van.amqp.delivery_state import Rejected
from van.amqp.errors import AmqpError, AmqpLinkError, ErrorCondition
from van.amqp.hot import ABORTED, MORE, SETTLED, encode_transfer, transfer_prefix
from van.amqp.performatives import ROLE_RECEIVER, ROLE_SENDER, Attach, Detach, Error
from van.amqp.serial import MASK, serial_add, serial_distance

if TYPE_CHECKING:
    from van.amqp.session import Session

# snd-settle-mode (2.8.2) and rcv-settle-mode (2.8.3)
SND_UNSETTLED: Final = 0
SND_SETTLED: Final = 1
SND_MIXED: Final = 2
RCV_FIRST: Final = 0
RCV_SECOND: Final = 1

# A Transfer's header and performative never take more than this with tags of ours; what is left of the peer's
# max-frame-size is payload.
TRANSFER_OVERHEAD: Final = 40
# Frames are not made larger than this although a peer may allow it: a frame is the unit in which links take turns.
MAX_WRITTEN_FRAME: Final = 131072
# How many octets one link may write before the next ready link of its connection has its turn.
LINK_QUANTUM: Final = 32768

# Texts for a peer's operator are cut here, in octets: an error has to fit into the smallest frame of all (512).
MAX_DESCRIPTION: Final = 256

# Stands for no max-message-size: as much as fits into a machine word when this is compiled.
NO_LIMIT: Final = 0x3FFFFFFFFFFFFFFF


def wire_error(error: AmqpError | None) -> Error | None:
    """The `error` field for a peer, of a size that always fits."""
    if error is None:
        return None
    description = error.description.encode(errors="replace")[:MAX_DESCRIPTION].decode(errors="ignore")
    return Error(condition=error.condition, description=description or None)


class Link:
    """What both roles have in common.

    `local_attached` and `remote_attached` tell which Attach has been written and received; `detach_sent` and
    `detach_received` the same of Detach. `remote` is the peer's Attach. `failure` is the peer's error for which the
    link is detached from here, `flow_pending` says that a Flow waits to be written. `drained` counts credit that was
    given up, which moves delivery-count on as deliveries do.
    """

    __slots__ = (
        "delivery_count",
        "detach_received",
        "detach_sent",
        "drain",
        "drained",
        "failure",
        "flow_pending",
        "handle",
        "link_credit",
        "local",
        "local_attached",
        "max_message_size",
        "name",
        "rcv_settle_mode",
        "remote",
        "remote_attached",
        "session",
        "snd_settle_mode",
    )

    role = ROLE_SENDER

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.name = name
        self.handle = -1
        self.local: Attach | None = None
        self.remote: Attach | None = None
        self.local_attached = False
        self.remote_attached = False
        self.detach_sent = False
        self.detach_received = False
        self.delivery_count = 0
        self.link_credit = 0
        self.drain = False
        self.drained = 0
        self.failure: AmqpError | None = None
        self.flow_pending = False
        self.snd_settle_mode = SND_MIXED
        self.rcv_settle_mode = RCV_FIRST
        self.max_message_size = NO_LIMIT

    @property
    def active(self) -> bool:
        """Both sides have attached and neither has detached."""
        return self.local_attached and self.remote_attached and not self.detach_sent and not self.detach_received

    def deliveries(self) -> int:
        """How many deliveries were begun on this link."""
        attach = self.local if self.role == ROLE_SENDER else self.remote
        initial = (attach.initial_delivery_count or 0) if attach is not None else 0
        return (self.delivery_count - initial - self.drained) & MASK

    def attach(self, attach: Attach) -> None:
        """Write our Attach: the first, or the answer to the peer's. Name, handle and role are filled in here.

        Raises `AmqpSessionError` when there is no free handle. A link whose peer has already made an error is detached
        again at once.
        """
        session = self.session
        self.handle = session.allocate_handle(self)
        attach.name = self.name
        attach.handle = self.handle
        attach.role = self.role
        if self.role == ROLE_SENDER and attach.initial_delivery_count is None:
            attach.initial_delivery_count = 0
        self.local = attach
        self.local_attached = True
        # 2.8.2, 2.8.3: each side decides its own mode; what it says of the other's is a wish.
        if self.role == ROLE_SENDER:
            self.snd_settle_mode = attach.snd_settle_mode
        else:
            self.rcv_settle_mode = attach.rcv_settle_mode
        self._on_local_attach(attach)
        session.write_control(attach.encode())
        if self.failure is not None:
            self.detach(self.failure)

    def detach(self, error: AmqpError | None = None, closed: bool = True) -> None:
        """Write a Detach (2.6.6), with `error` for the peer. Does nothing on a link that is already detached."""
        if self.detach_sent or not self.local_attached:
            return
        self.detach_sent = True
        self.session.write_control(Detach(handle=self.handle, closed=closed, error=wire_error(error)).encode())
        self.session.detach_written(self)

    def announce(self) -> None:
        """Have a Flow with this link's state written."""
        if not self.flow_pending:
            self.flow_pending = True
            session = self.session
            session.flows.append(self)
            session.mark()

    def let_go(self) -> None:
        """Nothing will come or go by this link any more: forget its owner, who knows it. Else only a collection of
        garbage would free the two.
        """
        raise NotImplementedError

    def _on_local_attach(self, attach: Attach) -> None:
        raise NotImplementedError

    def hurry(self) -> None:
        """Room is short: a delivery that waits for its end is passed on as far as it has come."""

    def on_attach(self, attach: Attach) -> None:
        """Take the peer's Attach."""
        raise NotImplementedError

    def on_flow(self, delivery_count: int, link_credit: int, available: int, drain: bool, echo: bool) -> None:
        """Take a link's part of the peer's Flow (2.6.7); -1 for a field that was left out."""
        raise NotImplementedError


class NoSink(DeliverySink):
    """Owner of a receiver link that nobody has taken yet: it has no credit, so nothing can arrive."""

    __slots__ = ()


class NoSource(DeliverySource):
    """Owner of a sender link that nobody has taken yet."""

    __slots__ = ()


_fast_headers: dict[int, struct.Struct] = {}


def _fast_header(prefix: int) -> struct.Struct:
    """Packs the header of a whole delivery in one frame, on links whose prefix has this length: there are few."""
    known = _fast_headers.get(prefix)
    if known is None:
        # size, prefix, delivery-id, constructor and length of the tag, the tag, message-format and settled
        known = _fast_headers[prefix] = struct.Struct(f">I{prefix}sI2sI2s")
    return known


_NO_SINK: Final = NoSink()
_NO_SOURCE: Final = NoSource()


class ReceiverLink(Link):
    """The receiving end: it grants credit, and hands deliveries to `sink`.

    `current` is a delivery whose end has not arrived. `available` is what the sender last said it has waiting.
    """

    __slots__ = ("available", "current", "current_size", "sink")

    role = ROLE_RECEIVER

    def __init__(self, session: Session, name: str) -> None:
        super().__init__(session, name)
        self.sink: DeliverySink = _NO_SINK
        self.current: Delivery | None = None
        self.current_size = 0
        self.available = 0

    def let_go(self) -> None:
        self.sink = _NO_SINK
        self.current = None

    def _on_local_attach(self, attach: Attach) -> None:
        if attach.max_message_size:
            self.max_message_size = attach.max_message_size

    def on_attach(self, attach: Attach) -> None:
        self.remote = attach
        self.remote_attached = True
        self.delivery_count = attach.initial_delivery_count or 0
        self.snd_settle_mode = attach.snd_settle_mode

    def grant(self, credit: int) -> None:
        """Let the sender send `credit` deliveries more (2.6.7)."""
        if self.session.dormant:
            self.session.activate()
        self.link_credit += credit
        self.drain = False
        self.announce()

    def request_drain(self) -> None:
        """Ask the sender to use its credit up or to give it back (2.6.7); ends when `link_credit` is 0."""
        self.drain = True
        self.announce()

    def settle(self, delivery: Delivery, state: object) -> None:
        """Settle a delivery with its outcome (None for none); coalesced with its neighbours when it is written."""
        self.session.settle(delivery, state)

    def update(self, delivery: Delivery, state: object) -> None:
        """Name a delivery's state and wait for the sender to settle it (2.6.12)."""
        self.session.update(delivery, state)

    def on_flow(self, delivery_count: int, link_credit: int, available: int, drain: bool, echo: bool) -> None:
        returned = 0
        if delivery_count >= 0 and self.remote_attached:
            # 2.6.7: the sender moves delivery-count on when it drains or gives credit up.
            advanced = serial_distance(self.delivery_count, delivery_count)
            if advanced > 0:
                self.delivery_count = delivery_count
                returned = min(advanced, self.link_credit)
                self.link_credit -= returned
                self.drained += advanced
        if available >= 0:
            self.available = available
        if drain and self.link_credit == 0:
            self.drain = False
        if echo:
            self.announce()
        self.sink.flow_received(self, returned)

    def first_frame(self, delivery: Delivery, more: bool, aborted: bool, resumed: bool) -> None:
        """Take the first frame of a delivery that is not whole (called by the session, which counted its credit).

        We keep no deliveries of links that were detached, and one that is not known here has to be ignored when it is
        resumed (2.7.5): all of its frames, as if it were aborted.
        """
        if resumed and more and not aborted:
            self.current = delivery
        if aborted or resumed:
            self.session.forget_incoming(delivery)
            delivery.aborted = True
            delivery.settled = True
            delivery.holder.held -= len(delivery.payload)
            delivery.payload = b""
            self.sink.deliver(delivery)
            return
        delivery.more = more
        delivery.chunks = deque((delivery.payload,)) if delivery.payload else deque()
        self.current_size = len(delivery.payload)
        delivery.payload = b""
        self.current = delivery
        self.sink.deliver(delivery)

    def later_frame(
        self, delivery_id: int, tag: bytes | None, message_format: int, flags: int, payload: bytes
    ) -> None:
        """Take a frame of the delivery in progress; `flags` are those of `hot.decode_transfer`.

        Raises `AmqpLinkError` when it speaks of another delivery.
        """
        delivery = self.current
        assert delivery is not None
        if (
            (delivery_id >= 0 and delivery_id != delivery.delivery_id)
            or (tag is not None and tag != delivery.delivery_tag)
            or (message_format >= 0 and message_format != delivery.message_format)
        ):
            raise AmqpLinkError(
                ErrorCondition.INVALID_FIELD, f"delivery {delivery.delivery_id} has not ended on link {self.name!r}"
            )
        more = flags & MORE != 0
        if delivery.aborted:
            if flags & ABORTED or not more:
                self.current = None
            return
        if flags & ~MORE:
            if flags & SETTLED and not delivery.settled:
                delivery.settled = True
                self.session.forget_incoming(delivery)
            if flags & ABORTED:
                self.current = None
                delivery.aborted = True
                delivery.more = False
                self.session.forget_incoming(delivery)
                self.sink.abort(delivery)
                return
        self.current_size += len(payload)
        if self.current_size > self.max_message_size:
            raise self.too_large()
        if not more:
            delivery.more = False
            self.current = None
        chunks = delivery.chunks
        if payload and chunks is not None:
            chunks.append(payload)
            delivery.holder.held += len(payload)
        self.sink.extend(delivery, payload)

    def hurry(self) -> None:
        if self.current is not None:
            self.sink.hurry(self.current)

    def too_large(self) -> AmqpLinkError:
        """The error for a delivery beyond max-message-size (2.7.3)."""
        return AmqpLinkError(
            ErrorCondition.MESSAGE_SIZE_EXCEEDED,
            f"link {self.name!r} takes messages of at most {self.max_message_size} octets",
        )


class SenderLink(Link):
    """The sending end: it pulls deliveries from `source` as credit, window and socket allow.

    `queued` says that the connection has it among the links to be asked for frames. `priority` orders links of one
    connection, 0 to 9. `presettled` counts deliveries that left settled.
    """

    __slots__ = (
        "_current",
        "_current_size",
        "_fast",
        "_fast_limit",
        "_first",
        "_max_payload",
        "_middle",
        "_middle_settled",
        "_middle_size",
        "_prefix",
        "presettled",
        "priority",
        "queued",
        "source",
    )

    role = ROLE_SENDER

    def __init__(self, session: Session, name: str) -> None:
        super().__init__(session, name)
        self.source: DeliverySource = _NO_SOURCE
        self.queued = False
        self.priority = 4
        self.presettled = 0
        self._current: Delivery | None = None
        self._first = False
        self._prefix = b""
        self._fast = _fast_header(0)
        self._max_payload = 0
        # The largest payload that is written as one frame, by the short way.
        self._fast_limit = 0
        # What was in front of the last frame from the middle of a delivery, and what of that was particular to it.
        self._middle = b""
        self._middle_size = -1
        self._middle_settled = False
        self._current_size = 0

    def let_go(self) -> None:
        self.source = _NO_SOURCE
        self._current = None

    def _on_local_attach(self, attach: Attach) -> None:
        self.delivery_count = attach.initial_delivery_count or 0
        session = self.session
        self._prefix = transfer_prefix(session.local_channel, self.handle)
        self._fast = _fast_header(len(self._prefix))
        self._limit_frames()
        if self.drain or self.source.undelivered:
            self.ready()  # the peer asked before this Attach, or the source was filled

    def on_attach(self, attach: Attach) -> None:
        self.remote = attach
        self.remote_attached = True
        if attach.max_message_size:
            self.max_message_size = attach.max_message_size
        # Where our Attach went out before the peer's Open, its max-frame-size is known only now.
        self._limit_frames()
        self.rcv_settle_mode = attach.rcv_settle_mode

    def _limit_frames(self) -> None:
        self._max_payload = min(self.session.connection.remote_max_frame_size, MAX_WRITTEN_FRAME) - TRANSFER_OVERHEAD
        self._fast_limit = min(self._max_payload, self.max_message_size)

    @property
    def current(self) -> Delivery | None:
        """The delivery of which some frames, but not the last, have been written."""
        return self._current

    def ready(self) -> None:
        """Have the connection ask this link for frames: the source has put something into `undelivered`."""
        if not self.queued:
            self.queued = True
            self.session.connection.link_ready(self)

    def on_flow(self, delivery_count: int, link_credit: int, available: int, drain: bool, echo: bool) -> None:
        if link_credit >= 0:
            # 2.6.7: link-credit(snd) := delivery-count(rcv) + link-credit(rcv) - delivery-count(snd)
            if delivery_count < 0:
                attach = self.local
                delivery_count = (attach.initial_delivery_count or 0) if attach is not None else 0
            # A delivery-count that we have not reached would make it more than can be said.
            self.link_credit = min(MASK, max(0, link_credit - serial_distance(delivery_count, self.delivery_count)))
        self.drain = drain
        if echo and self.local_attached:
            self.announce()
        self.source.credit_changed(self)
        if drain or self._current is not None or self.source.undelivered:
            self.ready()

    def update(self, delivery: Delivery, state: object, settled: bool) -> None:
        """Say something of a delivery that we sent (2.7.6, role sender); with `settled`, forget it."""
        self.session.update_outgoing(delivery, state, settled)

    def abort_current(self) -> None:
        """Give up the delivery in the middle of which this link is (2.6.14): it counts as settled from now on.

        A stand-in writes the last frame, for the delivery itself may still be arriving.
        """
        delivery = self._current
        if delivery is None:
            return
        unsettled = self.session.unsettled_out
        if unsettled.get(delivery.out_id) is delivery:
            del unsettled[delivery.out_id]
        _drop_chunks(delivery)
        last = Delivery(None, 0, b"", b"", delivery.settled, delivery.holder)
        last.out_id = delivery.out_id
        last.message_format = delivery.message_format
        last.aborted = True
        last.chunks = deque()
        self._current = last
        self._current_size = 0
        self.ready()

    def write(self, out: list[bytes | memoryview], limit: int) -> int:
        """Append frames to `out`, about `limit` octets of them. Returns how many octets were written.

        Stops when there is nothing to send, no credit, or no room in the session's window.
        """
        session = self.session
        source = self.source
        undelivered = source.undelivered
        written = 0
        if self.detach_sent or self.detach_received or not self.local_attached or session.end_sent:
            return 0
        if self._current is not None:
            written = self._write_current(out, limit)
            if self.current is not None:
                return written
        credit = self.link_credit
        window = session.remote_incoming_window
        prefix = self._prefix
        pack = self._fast.pack
        max_payload = self._fast_limit
        base = len(prefix) + 16
        unsettled = session.unsettled_out
        delivery_id = session.next_delivery_id
        sent = 0
        settled = 0
        while credit > 0 and window > 0 and undelivered and written < limit:
            delivery = undelivered.popleft()
            payload = delivery.payload
            size = len(payload)
            if delivery.chunks is not None or size > max_payload or delivery.message_format or delivery.aborted:
                session.next_delivery_id = delivery_id
                self._settle_counts(session, credit, window, sent)
                self.presettled += settled
                sent = settled = 0
                if size > self.max_message_size:
                    delivery.holder.held -= size
                    delivery.payload = b""
                    self._reject(delivery)
                elif not delivery.aborted:
                    self._begin(delivery)
                    written += self._write_current(out, limit - written)
                    delivery_id = session.next_delivery_id
                    if self.current is not None:
                        return written
                credit = self.link_credit
                window = session.remote_incoming_window
                continue
            credit -= 1
            window -= 1
            sent += 1
            delivery.sender = self
            delivery.out_id = delivery_id
            if delivery.settled:
                settled += 1
                out.append(pack(base + size, prefix, delivery_id, b"\xa0\x04", delivery_id, b"\x43\x41"))
                out.append(payload)
                delivery.holder.held -= size
                source.left(delivery)
            else:
                unsettled[delivery_id] = delivery
                out.append(pack(base + size, prefix, delivery_id, b"\xa0\x04", delivery_id, b"\x43\x42"))
                out.append(payload)
                delivery.holder.held -= size
                delivery.payload = b""
            delivery_id = (delivery_id + 1) & MASK
            written += base + size
        session.next_delivery_id = delivery_id
        self._settle_counts(session, credit, window, sent)
        self.presettled += settled
        if self.drain and credit > 0 and not undelivered:
            # 2.6.7: nothing more to send, so the credit that is left is given up.
            self.delivery_count = serial_add(self.delivery_count, credit)
            self.drained += credit
            self.link_credit = 0
            self.announce()
        return written

    def blocked_by_window(self) -> bool:
        """Whether something is ready and only the session's window keeps it back."""
        return self.session.remote_incoming_window <= 0 and self.local_attached and (
            self._current is not None or (self.link_credit > 0 and len(self.source.undelivered) > 0)
        )

    def can_write(self) -> bool:
        """Whether `write` would make progress now."""
        session = self.session
        if session.remote_incoming_window <= 0 or session.end_sent:
            return False
        if self.detach_sent or self.detach_received or not self.local_attached:
            return False
        current = self._current
        if current is not None:
            return bool(current.chunks) or not current.more
        return self.link_credit > 0 and (len(self.source.undelivered) > 0 or self.drain)

    def _settle_counts(self, session: Session, credit: int, window: int, sent: int) -> None:
        self.link_credit = credit
        session.remote_incoming_window = window
        if sent:
            self.delivery_count = (self.delivery_count + sent) & MASK
            session.next_outgoing_id = (session.next_outgoing_id + sent) & MASK

    def _begin(self, delivery: Delivery) -> None:
        session = self.session
        self.link_credit -= 1
        self.delivery_count = (self.delivery_count + 1) & MASK
        delivery.sender = self
        delivery.out_id = session.next_delivery_id
        session.next_delivery_id = (session.next_delivery_id + 1) & MASK
        if delivery.chunks is None:
            delivery.chunks = deque((delivery.payload,))
            delivery.payload = b""
        if not delivery.settled:
            session.unsettled_out[delivery.out_id] = delivery
        self._current = delivery
        self._current_size = 0
        self._first = True

    def _reject(self, delivery: Delivery) -> None:
        """Speak for a receiver that takes no message of this size (2.7.3): its sender learns why."""
        description = f"link {self.name!r} takes messages of at most {self.max_message_size} octets"
        error = Error(condition=ErrorCondition.MESSAGE_SIZE_EXCEEDED, description=description)
        self.source.updated(delivery, Rejected(error=error), True)

    def _write_current(self, out: list[bytes | memoryview], limit: int) -> int:
        """Write frames of the delivery in progress: full ones, and what is left once its end is here."""
        delivery = self._current
        assert delivery is not None
        chunks = delivery.chunks
        if chunks is None:  # the link is being detached, and whoever routed the delivery has dropped what was left
            chunks = deque()
        session = self.session
        written = 0
        while session.remote_incoming_window > 0 and written < limit:
            if not self._first and chunks and 2 * len(chunks[0]) > self._max_payload and not delivery.aborted:
                size = self._write_middle(out, chunks, limit - written)
                written += size
                if size:
                    continue
            size = self._write_frame(out, chunks)
            if size < 0:
                break
            written += size
            if self._current is not delivery:
                break
        return written

    def _write_middle(self, out: list[bytes | memoryview], chunks: deque[bytes | memoryview], limit: int) -> int:
        """Write frames from the middle of a delivery, as long as chunks fill one more or less. Returns the octets.

        A large chunk is cut into full frames; one that takes more than half of a frame is sent as it came. Most frames
        are as large as the one before, and have the same header.
        """
        delivery = self._current
        assert delivery is not None
        session = self.session
        max_payload = self._max_payload
        least = max_payload // 2
        more = delivery.more
        settled = delivery.settled
        window = session.remote_incoming_window
        room = self.max_message_size - self._current_size
        written = 0
        frames = 0
        while chunks and frames < window and written < limit:
            chunk = chunks[0]
            size = len(chunk)
            if size > max_payload:
                if written + max_payload > room:
                    break
                chunk = memoryview(chunk)
                chunks[0] = chunk[max_payload:]
                chunk = chunk[:max_payload]
                size = max_payload
            elif size > least and (more or len(chunks) > 1) and written + size <= room:
                chunks.popleft()
            else:
                break
            if size != self._middle_size or settled != self._middle_settled:
                self._middle_size = size
                self._middle_settled = settled
                self._middle = encode_transfer(
                    session.local_channel, self.handle, -1, None, -1, settled, True, False, size
                )
            out.append(self._middle)
            out.append(chunk)
            frames += 1
            written += size
        self._current_size += written
        delivery.holder.held -= written
        session.remote_incoming_window = window - frames
        session.next_outgoing_id = (session.next_outgoing_id + frames) & MASK
        return written

    def _write_frame(self, out: list[bytes | memoryview], chunks: deque[bytes | memoryview]) -> int:
        """Write one frame of the delivery in progress. Returns the octets written, -1 where there was none to write."""
        delivery = self._current
        assert delivery is not None
        session = self.session
        max_payload = self._max_payload
        pieces: list[bytes | memoryview] = []
        size = 0
        while chunks and size < max_payload:
            chunk = chunks.popleft()
            room = max_payload - size
            if len(chunk) > room:
                view = memoryview(chunk)
                chunks.appendleft(view[room:])
                chunk = view[:room]
            pieces.append(chunk)
            size += len(chunk)
        last = not delivery.more and not chunks
        if size == 0 and not last:
            return -1
        self._current_size += size
        if self._current_size > self.max_message_size and not delivery.aborted:
            delivery.holder.held -= size
            self.abort_current()
            self._reject(delivery)
            return -1
        first = self._first
        self._first = False
        if first and last and not delivery.message_format and not delivery.aborted:
            delivery_id = delivery.out_id
            tail = b"\x43\x41" if delivery.settled else b"\x43\x42"
            prefix = self._prefix
            frame_size = len(prefix) + 16 + size
            out.append(self._fast.pack(frame_size, prefix, delivery_id, b"\xa0\x04", delivery_id, tail))
        else:
            out.append(
                encode_transfer(
                    session.local_channel,
                    self.handle,
                    delivery.out_id if first else -1,
                    delivery.out_id.to_bytes(4, "big") if first else None,
                    delivery.message_format if first else -1,
                    delivery.settled,
                    not last,
                    delivery.aborted,
                    size,
                )
            )
        out.extend(pieces)
        delivery.holder.held -= size
        session.remote_incoming_window -= 1
        session.next_outgoing_id = (session.next_outgoing_id + 1) & MASK
        if last:
            self._current = None
            if delivery.settled and not delivery.aborted:
                # `settled` may have come with a later frame than the first.
                session.unsettled_out.pop(delivery.out_id, None)
                self.presettled += 1
                self.source.left(delivery)
        return size + TRANSFER_OVERHEAD


def _drop_chunks(delivery: Delivery) -> None:
    if delivery.chunks:
        delivery.holder.held -= sum(len(chunk) for chunk in delivery.chunks)
        delivery.chunks.clear()
