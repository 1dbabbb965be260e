"""The sending end of a link (2.6): it pulls deliveries from its `DeliverySource`, and writes their frames."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from van.amqp.delivery import Delivery, DeliverySource
from van.amqp.delivery_state import Rejected
from van.amqp.errors import ErrorCondition
from van.amqp.hot import encode_transfer, transfer_prefix
from van.amqp.link import Link
from van.amqp.native import mypyc_attr
from van.amqp.performatives import ROLE_SENDER, Attach, Error
from van.amqp.serial import MASK, serial_add, serial_distance

if TYPE_CHECKING:
    from van.amqp.session import Session

# A Transfer's header and performative never take more than this with tags of ours; what is left of the peer's
# max-frame-size is payload.
TRANSFER_OVERHEAD: Final = 40
# Frames are not made larger than this although a peer may allow it: a frame is the unit in which links take turns.
MAX_WRITTEN_FRAME: Final = 131072
# How many octets one link may write before the next ready link of its connection has its turn.
LINK_QUANTUM: Final = 32768


@mypyc_attr(allow_interpreted_subclasses=True)
class NoSource(DeliverySource):
    """Owner of a sender link that nobody has taken yet."""

    __slots__ = ()


_NO_SOURCE: Final = NoSource()
_fast_headers: dict[int, struct.Struct] = {}


def _fast_header(prefix: int) -> struct.Struct:
    """Packs the header of a whole delivery in one frame, on links whose prefix has this length: there are few."""
    known = _fast_headers.get(prefix)
    if known is None:
        # size, prefix, delivery-id, constructor and length of the tag, the tag, message-format and settled
        known = _fast_headers[prefix] = struct.Struct(f">I{prefix}sI2sI2s")
    return known


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
