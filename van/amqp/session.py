"""Sessions (2.5): windows, delivery-ids, unsettled deliveries, and the disposition ranges that wait to be written.

`on_run`, `on_transfer` and `on_disposition` are the per-message path; they call the owners of links directly.
Everything about channels is in `connection.py`, everything about one link in `link.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from van.amqp.codec import encode_value
from van.amqp.delivery import Delivery, Holder
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.errors import (
    AmqpError,
    AmqpLinkError,
    AmqpSessionError,
    ErrorCondition,
    FramingError,
)
from van.amqp.framing import MIN_MAX_FRAME_SIZE
from van.amqp.hot import (
    ABORTED,
    DESCRIPTOR_SIZE,
    LEARNS_LAYOUTS,
    MORE,
    RARE,
    RESUMED,
    SETTLED,
    STATE_ACCEPTED,
    STATE_RARE,
    STATE_RELEASED,
    TransferLayout,
    decode_disposition,
    decode_flow,
    decode_transfer,
    encode_accepted,
    encode_disposition,
    encode_flow,
    layout_of,
)
from van.amqp.link import Link, wire_error
from van.amqp.native import mypyc_attr
from van.amqp.performatives import (
    ROLE_RECEIVER,
    ROLE_SENDER,
    Attach,
    Begin,
    Detach,
    Disposition,
    End,
    Error,
    Flow,
    Transfer,
    decode_performative,
)
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.serial import MASK, serial_distance

if TYPE_CHECKING:
    from van.amqp.connection import Connection

# What we tell peers about our own sending: nothing holds it back but their window.
OUTGOING_WINDOW: Final = 0x7FFFFFFF
# The largest window of a session, in frames: of 16 KiB each, 8 MiB.
MAX_SESSION_FRAMES: Final = 512
# handle-max that we announce unless told otherwise.
DEFAULT_HANDLE_MAX: Final = 999
# A Disposition takes at most so many octets beside its state.
DISPOSITION_OVERHEAD: Final = 40
# A sender whose Transfers differ from one to the next is looked at so seldom: making a layout costs 3 us.
LEARN_EVERY: Final = 64
# Tags are at most 32 octets (2.8.7).
MAX_TAG_LENGTH: Final = 32


@mypyc_attr(allow_interpreted_subclasses=True)
class WindowPolicy:
    """Decides how many frames a session may receive. This one knows no memory limit; a router's byte budget does."""

    __slots__ = ("max_frames",)

    def __init__(self, max_frames: int = MAX_SESSION_FRAMES) -> None:
        self.max_frames = max_frames

    def begin(self, session: Session) -> int:
        """The first incoming-window of a session, in frames; 0 refuses it."""
        return self.max_frames

    def activate(self, session: Session) -> int:
        """The window from now on, in frames; called before the first credit is given where `begin` made it dormant."""
        return self.max_frames

    def renew(self, session: Session) -> int:
        """The window from now on, in frames; called when half of the last one is used up."""
        return self.max_frames

    def end(self, session: Session) -> None:
        """The session is gone and will hold nothing more."""


class Session(Holder):
    """One session endpoint.

    `local_channel` is ours, `remote_channel` the peer's (-1 until known). `held` counts payload octets that came in
    here and are still in memory. `slack` counts frames that the peer may have sent before it heard of a smaller window.
    `dormant`: no credit was ever given here, so no Transfer may come, and the window is no promise yet.
    """

    __slots__ = (
        "_accepted",
        "_first",
        "_first_outgoing_id",
        "_flow_due",
        "_last",
        "_layout",
        "_learns_in",
        "_ranges",
        "_state",
        "_updates",
        "_used_handles",
        "connection",
        "dormant",
        "end_received",
        "end_sent",
        "flows",
        "handle_max",
        "incoming_window",
        "links",
        "local_begun",
        "local_channel",
        "marked",
        "max_window",
        "next_delivery_id",
        "next_incoming_id",
        "next_outgoing_id",
        "remote",
        "remote_begun",
        "remote_channel",
        "remote_handle_max",
        "remote_handles",
        "remote_incoming_window",
        "renew_at",
        "slack",
        "starved",
        "unsettled_in",
        "unsettled_out",
        "window",
    )

    def __init__(self, connection: Connection, handle_max: int = DEFAULT_HANDLE_MAX) -> None:
        super().__init__()
        self.connection = connection
        self.local_channel = -1
        self.remote_channel = -1
        self.local_begun = False
        self.remote_begun = False
        self.end_sent = False
        self.end_received = False
        self.remote: Begin | None = None
        self.handle_max = handle_max
        self.remote_handle_max = MASK
        self.next_outgoing_id = 0
        self.next_delivery_id = 0
        self.next_incoming_id = 0
        self.incoming_window = 0
        self.window = 0
        self.max_window = 0
        self.dormant = False
        self.renew_at = 0
        self.slack = 0
        self.remote_incoming_window = 0
        self.unsettled_in: dict[int, Delivery] = {}
        self.unsettled_out: dict[int, Delivery] = {}
        self.links: dict[int, Link] = {}
        self.remote_handles: dict[int, Link] = {}
        self.flows: list[Link] = []
        self.starved: list[SenderLink] = []
        self.marked = False
        self._used_handles = 0
        # Our first transfer-id, and whether the peer waits for a Flow of the session.
        self._first_outgoing_id = 0
        self._flow_due = False
        # States named without settling, by role and delivery-id: only the last of each is worth writing.
        self._updates: dict[tuple[bool, int], object] = {}
        # What is settled and waits to be written: accepted by us as the receiver, and all else.
        self._accepted: list[tuple[int, int]] = []
        self._ranges: list[tuple[int, int, bool, bool, object]] = []
        self._first = -1
        self._last = -1
        self._state: object = None
        # How the link that sent last writes its Transfers, and after how many of another kind that is learned anew.
        self._layout: TransferLayout | None = None
        self._learns_in = 0

    # -- verbs ---------------------------------------------------------------------------------------------------

    def begin(self, most: int = MASK) -> None:
        """Write our Begin: the first, or the answer to the peer's (2.5.1). Does nothing where that has been done.

        most: the first window is at most so many frames.

        Raises `AmqpSessionError` when there is no room for a session's window; the session then begins and ends.
        """
        if self.local_begun:
            return
        connection = self.connection
        connection.allocate_channel(self)
        self._first_outgoing_id = self.next_outgoing_id
        window = min(connection.window_policy.begin(self), most)
        self.incoming_window = self.window = window
        self.renew_at = window // 2
        self.local_begun = True
        begin = Begin(
            remote_channel=self.remote_channel if self.remote_begun else None,
            next_outgoing_id=self.next_outgoing_id,
            incoming_window=window,
            outgoing_window=OUTGOING_WINDOW,
            handle_max=self.handle_max,
        )
        self.write_control(begin.encode())
        if self._flow_due:
            self.mark()
        if window <= 0:
            error = AmqpSessionError(ErrorCondition.RESOURCE_LIMIT_EXCEEDED, "no memory left for a session's window")
            self.end(error)
            raise error

    def sender(self, name: str) -> SenderLink:
        """A new sender link, to be attached with `attach`."""
        return SenderLink(self, name)

    def receiver(self, name: str) -> ReceiverLink:
        """A new receiver link, to be attached with `attach`."""
        return ReceiverLink(self, name)

    def end(self, error: AmqpError | None = None) -> None:
        """Write an End (2.5.3), with `error` for the peer."""
        if self.end_sent or not self.local_begun:
            return
        self.write_control(End(error=wire_error(error)).encode())
        self.end_sent = True
        if self.end_received:
            self.connection.session_over(self)

    def let_go(self) -> None:
        """The connection is over, and all that was unsettled is dealt with: see `Link.let_go`."""
        for links in (self.links, self.remote_handles):
            for link in links.values():
                link.let_go()
            links.clear()
        self.flows.clear()
        self.starved = []
        self.unsettled_in.clear()
        self.unsettled_out.clear()

    # -- called by links -----------------------------------------------------------------------------------------

    def allocate_handle(self, link: Link) -> int:
        """The lowest free handle. Raises `AmqpSessionError` beyond the peer's handle-max."""
        links = self.links
        handle = self._used_handles
        if handle in links or handle > self.remote_handle_max:
            handle = 0
            while handle in links:
                handle += 1
        if handle > self.remote_handle_max:
            raise AmqpSessionError(
                ErrorCondition.RESOURCE_LIMIT_EXCEEDED, f"the peer allows {self.remote_handle_max + 1} links"
            )
        self._used_handles = handle + 1
        links[handle] = link
        self.connection.register_link(link)
        return handle

    def detach_written(self, link: Link) -> None:
        """Our Detach is out: once the peer's is here too, the handles are free."""
        if link.detach_received:
            self._free(link)

    def write_control(self, body: bytes) -> None:
        """Queue a performative behind everything that was said before it; nothing is said on an ended session."""
        if self.end_sent:
            return
        if self.marked:
            self._flush_range()
            self.connection.flush_session(self)
        self.connection.write_frame(self.local_channel, body)

    def mark(self) -> None:
        """Have the connection ask this session for dispositions and flows."""
        if not self.marked:
            self.marked = True
            self.connection.session_marked(self)

    def activate(self) -> None:
        """Credit is about to be given for the first time: the Flow that gives it tells what the window is by now."""
        self.dormant = False
        window = self.connection.window_policy.activate(self)
        self.incoming_window = self.window = window
        self.renew_at = window // 2

    # -- settlement ----------------------------------------------------------------------------------------------

    def settle(self, delivery: Delivery, state: object) -> None:
        """Settle an incoming delivery with `state` (None for none)."""
        delivery_id = delivery.delivery_id
        unsettled = self.unsettled_in
        # Faster than `pop` when it is compiled, and no slower when it is not; so below.
        if delivery_id not in unsettled:
            return
        del unsettled[delivery_id]
        if state is self._state and self._first >= 0 and delivery_id == (self._last + 1) & MASK:
            self._last = delivery_id
            return
        if self._first >= 0:
            self._flush_range()
        self._first = self._last = delivery_id
        self._state = state
        if not self.marked:
            self.mark()

    def accept(self, deliveries: list[Delivery]) -> None:
        """Settle incoming deliveries as accepted."""
        unsettled = self.unsettled_in
        if self._state is not ACCEPTED:
            self._flush_range()
            self._state = ACCEPTED
        first = self._first
        last = self._last
        for delivery in deliveries:
            delivery_id = delivery.delivery_id
            if delivery_id in unsettled:
                del unsettled[delivery_id]
                if first >= 0 and delivery_id == (last + 1) & MASK:
                    last = delivery_id
                else:
                    if first >= 0:
                        self._accepted.append((first, last))
                    first = last = delivery_id
        self._first = first
        self._last = last
        if first >= 0 and not self.marked:
            self.mark()

    def update(self, delivery: Delivery, state: object) -> None:
        """Name the state of an incoming delivery without settling it."""
        if delivery.delivery_id in self.unsettled_in:
            self._updates[ROLE_RECEIVER, delivery.delivery_id] = state
            self.mark()

    def update_outgoing(self, delivery: Delivery, state: object, settled: bool) -> None:
        """Speak as the sender of an outgoing delivery; with `settled`, forget it."""
        if self.unsettled_out.get(delivery.out_id) is not delivery:
            return
        if settled:
            del self.unsettled_out[delivery.out_id]
            self._ranges.append((delivery.out_id, delivery.out_id, ROLE_SENDER, True, state))
        else:
            self._updates[ROLE_SENDER, delivery.out_id] = state
        self.mark()

    def forget_incoming(self, delivery: Delivery) -> None:
        """The sender settled in a later frame, or aborted: nothing is owed for it any more."""
        if self.unsettled_in.get(delivery.delivery_id) is delivery:
            del self.unsettled_in[delivery.delivery_id]

    def _flush_range(self) -> None:
        if self._first >= 0:
            if self._state is ACCEPTED:
                self._accepted.append((self._first, self._last))
            else:
                self._ranges.append((self._first, self._last, ROLE_RECEIVER, True, self._state))
            self._first = -1

    # -- output --------------------------------------------------------------------------------------------------

    def write_pending(self, out: list[bytes | memoryview]) -> None:
        """Append the dispositions and flows that wait, and renew the window where it has run low."""
        self.marked = False
        if self.end_sent or not self.local_begun or self.connection.close_sent:
            self._updates.clear()
            self._accepted.clear()
            self._ranges.clear()
            self.flows.clear()
            self._first = -1
            return
        channel = self.local_channel
        if self._updates:
            for (role, delivery_id), state in self._updates.items():
                out.append(self._disposition(role, delivery_id, delivery_id, False, state))
            self._updates.clear()
        self._flush_range()
        accepted = self._accepted
        if accepted:
            if len(accepted) > 1:
                accepted = _joined(accepted)
            for first, last in accepted:
                out.append(encode_accepted(channel, first, last))
            self._accepted.clear()
        if self._ranges:
            for first, last, role, settled, state in self._ranges:
                out.append(self._disposition(role, first, last, settled, state))
            self._ranges.clear()
        renewed = self._flow_due
        self._flow_due = False
        if self.incoming_window <= self.renew_at and self._renew():
            renewed = True
        for link in self.flows:
            link.flow_pending = False
            if link.detach_sent or not link.local_attached:
                continue
            available = -1
            if isinstance(link, ReceiverLink):
                # Before the peer's Attach its delivery-count is unknown (2.7.4).
                delivery_count = link.delivery_count if link.remote_attached else -1
            else:
                assert isinstance(link, SenderLink)
                delivery_count = link.delivery_count
                available = len(link.source.undelivered)
            out.append(
                encode_flow(
                    channel,
                    self.next_incoming_id if self.remote_begun else -1,
                    self.incoming_window,
                    self.next_outgoing_id,
                    OUTGOING_WINDOW,
                    link.handle,
                    delivery_count,
                    link.link_credit,
                    available,
                    link.drain,
                )
            )
            renewed = False
        self.flows.clear()
        if renewed:
            out.append(self._session_flow())

    def _disposition(self, role: bool, first: int, last: int, settled: bool, state: object) -> bytes:
        octets = _encode_state(state, self.connection.remote_max_frame_size - DISPOSITION_OVERHEAD)
        return encode_disposition(self.local_channel, role, first, last, settled, octets)

    def _session_flow(self) -> bytes:
        return encode_flow(
            self.local_channel,
            self.next_incoming_id if self.remote_begun else -1,
            self.incoming_window,
            self.next_outgoing_id,
            OUTGOING_WINDOW,
        )

    def _renew(self) -> bool:
        window = self.connection.window_policy.renew(self)
        if window <= self.incoming_window:
            return False
        self.incoming_window = self.window = window
        self.renew_at = window // 2
        return True

    def shrink_window(self, window: int) -> None:
        """Take back what the peer does not use of its window, all but `window` frames; `slack` remembers the rest."""
        if window >= self.incoming_window or self.end_sent:
            return
        self.slack += self.incoming_window - window
        self.incoming_window = self.window = self.max_window = window
        self.renew_at = window // 2
        self.connection.write_raw(self._session_flow())

    def _use_slack(self) -> bool:
        """Whether a frame beyond the window was sent under an earlier, larger one."""
        if self.slack <= 0:
            return False
        self.slack -= 1
        self.incoming_window = 0
        return True

    def offer_window(self) -> None:
        """Room has come back: try to renew a window that could not be renewed when it ran low."""
        if self.local_begun and not self.end_sent and self.incoming_window <= self.renew_at:
            self.mark()

    # -- input: the per-message path -------------------------------------------------------------------------------

    def on_transfer(self, buf: bytes, pos: int, end: int, rest: list[bytes | memoryview] | None = None) -> None:
        """Take a Transfer frame (2.7.5) whose body is `buf[pos:end]`, or goes on in `rest` behind what `buf` has of it.

        Raises `AmqpSessionError` or `AmqpConnectionError`; a link's error detaches the link.
        """
        start = pos + DESCRIPTOR_SIZE
        handle, delivery_id, tag, message_format, flags, payload_pos = decode_transfer(buf, start, end)
        if rest is not None and (flags & RARE or payload_pos > len(buf)):
            buf = b"".join((buf, *rest))
            rest = None
            handle, delivery_id, tag, message_format, flags, payload_pos = decode_transfer(buf, start, end)
        if LEARNS_LAYOUTS and flags <= SETTLED:
            self._learn(buf[start:payload_pos], handle, tag, message_format, flags)
        if flags & RARE:
            handle, delivery_id, tag, message_format, flags, payload_pos = self._decode_rare_transfer(buf, pos, end)
        self.next_incoming_id = (self.next_incoming_id + 1) & MASK
        window = self.incoming_window - 1
        self.incoming_window = window
        if window <= self.renew_at:
            if window < 0 and not self._use_slack():
                raise AmqpSessionError(
                    ErrorCondition.WINDOW_VIOLATION, f"transfer beyond the window of {self.window} frames"
                )
            if not self.marked:
                self.mark()
        link = self.remote_handles.get(handle)
        if link is None:
            raise AmqpSessionError(
                ErrorCondition.UNATTACHED_HANDLE, f"transfer on handle {handle}, which is not attached"
            )
        if type(link) is not ReceiverLink:
            raise AmqpSessionError(ErrorCondition.NOT_ALLOWED, f"transfer on handle {handle}, whose link sends to you")
        if link.detach_sent:
            return  # 2.6.6: what was under way when we detached
        size = end - payload_pos
        payload = buf[payload_pos:end] if rest is None else b"".join((buf[payload_pos:], *rest))
        if link.current is None:
            credit = link.link_credit - 1
            if credit < 0:
                error = AmqpLinkError(ErrorCondition.TRANSFER_LIMIT_EXCEEDED, f"link {link.name!r} has no credit")
                self.connection.fail_link(link, error)
                return
            if tag is None or delivery_id < 0 or len(tag) > MAX_TAG_LENGTH or delivery_id in self.unsettled_in:
                self._refuse_first_frame(link, delivery_id, tag)
                return
            link.link_credit = credit
            link.delivery_count = (link.delivery_count + 1) & MASK
            if size > link.max_message_size:
                self.connection.fail_link(link, link.too_large())
                return
            delivery = Delivery(link, delivery_id, tag, payload, flags & SETTLED != 0, self)
            self.held += size
            if message_format > 0:
                delivery.message_format = message_format
            if not flags & SETTLED:
                self.unsettled_in[delivery_id] = delivery
            if flags > SETTLED:
                link.first_frame(delivery, flags & MORE != 0, flags & ABORTED != 0, flags & RESUMED != 0)
            else:
                link.sink.deliver(delivery)
        else:
            try:
                link.later_frame(delivery_id, tag, message_format, flags, payload)
            except AmqpLinkError as error:
                self.connection.fail_link(link, error)

    def on_run(self, buf: bytes, pos: int, end: int) -> int:
        """Take the Transfers that follow one another from `buf[pos]` on, as far as they are whole, written as the last
        one was, and as `on_transfer` would take them without a word. Returns where the first other frame begins.

        This is the path of nearly all messages, interpreted. `pos` is where a frame begins.
        """
        layout = self._layout
        link = self.remote_handles.get(layout.handle) if layout is not None else None
        if layout is None or type(link) is not ReceiverLink or link.detach_sent or link.current is not None:
            return pos
        room = min(link.link_credit, self.incoming_window)
        head = layout.size
        last = end - head
        largest = min(self.connection.max_frame_size, head + link.max_message_size)
        unpack = layout.unpack
        before = layout.before
        between = layout.between
        behind = layout.behind
        settled = layout.settled
        message_format = layout.message_format
        sink = link.sink
        unsettled = self.unsettled_in
        first = pos
        run: list[Delivery] = []
        while pos <= last and len(run) < room:
            size, found, delivery_id, middle, tag, tail = unpack(buf, pos)
            stop = pos + size
            if found != before or middle != between or tail != behind or stop > end:
                break
            if size < head or size > largest or delivery_id in unsettled:
                break
            delivery = Delivery(link, delivery_id, tag, buf[pos + head : stop], settled, self)
            delivery.origin = sink
            if message_format > 0:
                delivery.message_format = message_format
            if not settled:
                unsettled[delivery_id] = delivery
            run.append(delivery)
            pos = stop
        count = len(run)
        if count:
            self.held += pos - first - count * head
            self.next_incoming_id = (self.next_incoming_id + count) & MASK
            self.incoming_window -= count
            if 2 * self.incoming_window <= self.renew_at and not self.marked:
                # Later than for a single Transfer: outcomes and credit that follow soon take the new window along.
                self.mark()
            link.link_credit -= count
            link.delivery_count = (link.delivery_count + count) & MASK
            if count == 1:
                sink.deliver(run[0])
            else:
                sink.deliver_run(run)
        return pos

    def _learn(self, fields: bytes, handle: int, tag: bytes | None, message_format: int, flags: int) -> None:
        """A Transfer was not written as the last one: see `TransferLayout`. `fields` is its list."""
        link = self.remote_handles.get(handle)
        if type(link) is not ReceiverLink or tag is None or len(tag) > MAX_TAG_LENGTH:
            return
        if link.layout is not self._layout:
            # Another link's turn.
            self._layout = link.layout
        elif self._learns_in > 0:
            self._learns_in -= 1
        else:
            layout = layout_of(self.remote_channel, fields, handle, tag, message_format, flags)
            self._learns_in = LEARN_EVERY
            if layout is not None:
                link.layout = self._layout = layout

    def on_disposition(self, buf: bytes, pos: int, end: int) -> None:
        """Take a Disposition frame (2.7.6)."""
        role, first, last, settled, code = decode_disposition(buf, pos + 3, end)
        state: object
        if code == STATE_ACCEPTED:
            state = ACCEPTED
        elif code == STATE_RARE:
            disposition, _ = decode_performative(buf, pos, end)
            assert isinstance(disposition, Disposition)
            role = disposition.role
            first = disposition.first
            last = disposition.last if disposition.last is not None else first
            settled = bool(disposition.settled)
            state = disposition.state
        else:
            state = RELEASED if code == STATE_RELEASED else None
        if role:
            unsettled = self.unsettled_out
            if first == last:
                delivery = unsettled.get(first)
                if delivery is not None:
                    if settled:
                        del unsettled[first]
                    sender = delivery.sender
                    assert sender is not None
                    sender.source.updated(delivery, state, settled)
            elif settled and state is ACCEPTED:
                self._range_accepted(first, last)
            else:
                for delivery_id in _range_of(unsettled, first, last):
                    delivery = unsettled.get(delivery_id)
                    if delivery is not None:
                        if settled:
                            del unsettled[delivery_id]
                        sender = delivery.sender
                        assert sender is not None
                        sender.source.updated(delivery, state, settled)
            return
        unsettled = self.unsettled_in
        for delivery_id in _range_of(unsettled, first, last):
            delivery = unsettled.get(delivery_id)
            if delivery is not None:
                if settled:
                    del unsettled[delivery_id]
                receiver = delivery.receiver
                assert receiver is not None
                receiver.sink.updated(delivery, state, settled)

    def _range_accepted(self, first: int, last: int) -> None:
        """Nearly all Dispositions: deliveries of one frame that follow one another on a link are settled together."""
        unsettled = self.unsettled_out
        sender: SenderLink | None = None
        run: list[Delivery] = []
        for delivery_id in _range_of(unsettled, first, last):
            if delivery_id in unsettled:
                delivery = unsettled[delivery_id]
                if delivery.sender is not sender or delivery.chunks is not None:
                    if sender is not None and run:
                        # Before this one is touched: whoever is told may settle it, or end its link.
                        told = run
                        run = []
                        sender.source.range_accepted(told)
                        if delivery_id not in unsettled:
                            continue
                    sender = delivery.sender
                    if delivery.chunks is not None:
                        del unsettled[delivery_id]
                        assert sender is not None
                        sender.source.updated(delivery, ACCEPTED, True)
                        continue
                del unsettled[delivery_id]
                run.append(delivery)
        if sender is not None and run:
            sender.source.range_accepted(run)

    # -- input: the rest -----------------------------------------------------------------------------------------

    def on_begin(self, begin: Begin) -> None:
        """Take the peer's Begin, first or in answer."""
        self.remote = begin
        self.remote_begun = True
        self.next_incoming_id = begin.next_outgoing_id
        self.remote_incoming_window = begin.incoming_window
        self.remote_handle_max = begin.handle_max

    def on_flow(self, buf: bytes, pos: int, end: int) -> None:
        """Take a Flow frame (2.7.4)."""
        fields = decode_flow(buf, pos + 3, end)
        if fields is None:
            flow, _ = decode_performative(buf, pos, end)
            assert isinstance(flow, Flow)
            fields = _flow_fields(flow)
        next_incoming_id, incoming_window, _, _, handle, delivery_count, link_credit, available, drain, echo = fields
        if next_incoming_id < 0:
            # The peer had not seen our Begin: it counts from our initial id (2.5.6).
            next_incoming_id = self._first_outgoing_id
        # 2.5.6: what was under way when the peer wrote this is used up already.
        window = incoming_window - serial_distance(next_incoming_id, self.next_outgoing_id)
        self.remote_incoming_window = window if window > 0 else 0
        if window > 0 and self.starved:
            starved = self.starved
            self.starved = []
            for sender in starved:
                self.connection.link_ready(sender)
        if handle < 0:
            if echo:
                self._flow_due = True
                self.mark()
            return
        link = self.remote_handles.get(handle)
        if link is None:
            raise AmqpSessionError(ErrorCondition.UNATTACHED_HANDLE, f"flow on handle {handle}, which is not attached")
        if not link.detach_sent:
            link.on_flow(delivery_count, link_credit, available, drain == 1, echo == 1)

    def on_attach(self, attach: Attach) -> Link | None:
        """Take an Attach; returns the link when the peer opened it, None when it answers ours (2.6.3)."""
        handle = attach.handle
        if handle > self.handle_max:
            raise FramingError(f"handle {handle} is beyond handle-max {self.handle_max}")
        if handle in self.remote_handles:
            raise AmqpSessionError(ErrorCondition.HANDLE_IN_USE, f"handle {handle} is attached to another link")
        role = not attach.role
        existing = self.connection.find_link(attach.name, role)
        if existing is not None and existing.session is self and not existing.remote_attached:
            self.remote_handles[handle] = existing
            existing.on_attach(attach)
            return None
        if existing is not None:
            # 2.6.1: a link endpoint that attaches again takes the link over.
            self.connection.steal(existing)
        link: Link = ReceiverLink(self, attach.name) if role == ROLE_RECEIVER else SenderLink(self, attach.name)
        self.remote_handles[handle] = link
        link.snd_settle_mode = attach.snd_settle_mode
        link.rcv_settle_mode = attach.rcv_settle_mode
        link.on_attach(attach)
        return link

    def on_detach(self, detach: Detach) -> Link | None:
        """Take a Detach; returns the link if that is news to its owner."""
        link = self.remote_handles.get(detach.handle)
        if link is None:
            raise AmqpSessionError(
                ErrorCondition.UNATTACHED_HANDLE, f"detach of handle {detach.handle}, which is not attached"
            )
        link.detach_received = True
        del self.remote_handles[detach.handle]
        news = not link.detach_sent
        if link.detach_sent:
            self._free(link)
        return link if news else None

    # -- inside --------------------------------------------------------------------------------------------------

    def _free(self, link: Link) -> None:
        del self.links[link.handle]
        self._used_handles = min(self._used_handles, link.handle)
        if link in self.starved:
            # Its peer gave it up and no window: nothing else would let go of it.
            self.starved = [waiting for waiting in self.starved if waiting is not link]
        self.connection.unregister_link(link)
        if link.role == ROLE_SENDER:
            awaited = any(delivery.sender is link for delivery in self.unsettled_out.values())
        else:
            awaited = any(delivery.receiver is link for delivery in self.unsettled_in.values())
        if not awaited:
            link.let_go()

    def _refuse_first_frame(self, link: ReceiverLink, delivery_id: int, tag: bytes | None) -> None:
        if delivery_id in self.unsettled_in:
            raise AmqpSessionError(ErrorCondition.INVALID_FIELD, f"delivery-id {delivery_id} is still unsettled")
        what = "delivery-id" if delivery_id < 0 else "delivery-tag"
        if tag is not None and len(tag) > MAX_TAG_LENGTH:
            what = f"delivery-tag of at most {MAX_TAG_LENGTH} octets"
        error = AmqpLinkError(ErrorCondition.INVALID_FIELD, f"the first transfer of a delivery needs a {what}")
        self.connection.fail_link(link, error)

    def _decode_rare_transfer(self, buf: bytes, pos: int, end: int) -> tuple[int, int, bytes | None, int, int, int]:
        transfer, payload_pos = decode_performative(buf, pos, end)
        assert isinstance(transfer, Transfer)
        flags = (
            (SETTLED if transfer.settled else 0)
            | (MORE if transfer.more else 0)
            | (ABORTED if transfer.aborted else 0)
            | (RESUMED if transfer.resume else 0)
        )
        return (
            transfer.handle,
            transfer.delivery_id if transfer.delivery_id is not None else -1,
            transfer.delivery_tag,
            transfer.message_format if transfer.message_format is not None else -1,
            flags,
            payload_pos,
        )


def _range_of(unsettled: dict[int, Delivery], first: int, last: int) -> Sequence[int]:
    """The ids from `first` to `last` that may be in `unsettled`, in order: never more than there are entries."""
    width = serial_distance(first, last)
    if width < 0:
        return []
    if width < len(unsettled):
        if first <= last:
            return range(first, last + 1)
        return [(first + offset) & MASK for offset in range(width + 1)]
    inside = [delivery_id for delivery_id in unsettled if 0 <= serial_distance(first, delivery_id) <= width]
    inside.sort(key=lambda delivery_id: serial_distance(first, delivery_id))
    return inside


def _flow_fields(flow: Flow) -> list[int]:
    values = (
        flow.next_incoming_id,
        flow.incoming_window,
        flow.next_outgoing_id,
        flow.outgoing_window,
        flow.handle,
        flow.delivery_count,
        flow.link_credit,
        flow.available,
    )
    return [-1 if value is None else value for value in values] + [int(bool(flow.drain)), int(bool(flow.echo))]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """As few ranges as say the same: what went to several receivers in turn is settled out of order."""
    ranges.sort()
    joined: list[tuple[int, int]] = []
    first, last = ranges[0]
    for index in range(1, len(ranges)):
        following = ranges[index]
        if following[0] == last + 1:
            last = following[1]
        else:
            joined.append((first, last))
            first, last = following
    joined.append((first, last))
    return joined


def _encode_state(state: object, limit: int) -> bytes:
    """The octets of a state; where they would not fit into a frame, those of one that says as much without texts."""
    if state is ACCEPTED:
        return b"\x00\x53\x24\x45"
    if state is None:
        return b""
    out = bytearray()
    encode_value(state, out)
    if len(out) <= limit:
        return bytes(out)
    if isinstance(state, Rejected) and state.error is not None and len(state.error.condition) < MIN_MAX_FRAME_SIZE // 2:
        return Rejected(error=Error(condition=state.error.condition)).encode()
    if isinstance(state, Rejected):
        return Rejected().encode()
    undeliverable = isinstance(state, Modified) and state.undeliverable_here
    return Modified(delivery_failed=True, undeliverable_here=undeliverable or None).encode()
