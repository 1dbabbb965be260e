"""The performatives of AMQP frames (2.7), as tables, and the constants of their fields.

What a performative does is said in `connection.py`, `session.py` and `link.py`. Transfer, Flow and Disposition have
faster coders for ordinary traffic in `hot.py`, which agree with these tables.
"""

from __future__ import annotations

from typing import ClassVar, Final

from van.amqp.composite import (
    BINARY,
    BOOLEAN,
    COMPOSITE,
    FIELDS,
    MAP,
    RECEIVER_SETTLE_MODE,
    SENDER_SETTLE_MODE,
    STRING,
    SYMBOL,
    UINT,
    ULONG,
    USHORT,
    Composite,
    Field,
    decode_composite,
    register,
)
from van.amqp.delivery_state import DeliveryState, Error
from van.amqp.errors import DecodeError
from van.amqp.terminus import Coordinator, Source, Target
from van.amqp.types import Described

# `role` as on the wire (2.8.1).
ROLE_SENDER: Final = False
ROLE_RECEIVER: Final = True

# 2.8.2 and 2.8.3
SENDER_SETTLE_MODE_UNSETTLED: Final = 0
SENDER_SETTLE_MODE_SETTLED: Final = 1
SENDER_SETTLE_MODE_MIXED: Final = 2
RECEIVER_SETTLE_MODE_FIRST: Final = 0
RECEIVER_SETTLE_MODE_SECOND: Final = 1


class Open(Composite):
    """Negotiate a connection (2.7.1). `max_frame_size` in octets, `idle_time_out` in milliseconds."""

    __slots__ = (
        "channel_max",
        "container_id",
        "desired_capabilities",
        "hostname",
        "idle_time_out",
        "incoming_locales",
        "max_frame_size",
        "offered_capabilities",
        "outgoing_locales",
        "properties",
    )

    DESCRIPTOR: ClassVar[int] = 0x10
    NAME: ClassVar[str] = "amqp:open:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("container-id", STRING, mandatory=True),
        Field("hostname", STRING),
        Field("max-frame-size", UINT, default=4294967295),
        Field("channel-max", USHORT, default=65535),
        Field("idle-time-out", UINT),
        Field("outgoing-locales", SYMBOL, multiple=True),
        Field("incoming-locales", SYMBOL, multiple=True),
        Field("offered-capabilities", SYMBOL, multiple=True),
        Field("desired-capabilities", SYMBOL, multiple=True),
        Field("properties", FIELDS),
    )

    def __init__(
        self,
        *,
        container_id: str,
        hostname: str | None = None,
        max_frame_size: int = 4294967295,
        channel_max: int = 65535,
        idle_time_out: int | None = None,
        outgoing_locales: list[str] | None = None,
        incoming_locales: list[str] | None = None,
        offered_capabilities: list[str] | None = None,
        desired_capabilities: list[str] | None = None,
        properties: dict[str, object] | None = None,
    ) -> None:
        self.container_id = container_id
        self.hostname = hostname
        self.max_frame_size = max_frame_size
        self.channel_max = channel_max
        self.idle_time_out = idle_time_out
        self.outgoing_locales = outgoing_locales
        self.incoming_locales = incoming_locales
        self.offered_capabilities = offered_capabilities
        self.desired_capabilities = desired_capabilities
        self.properties = properties


class Begin(Composite):
    """Begin a session on a channel (2.7.2). Windows count transfer frames."""

    __slots__ = (
        "desired_capabilities",
        "handle_max",
        "incoming_window",
        "next_outgoing_id",
        "offered_capabilities",
        "outgoing_window",
        "properties",
        "remote_channel",
    )

    DESCRIPTOR: ClassVar[int] = 0x11
    NAME: ClassVar[str] = "amqp:begin:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("remote-channel", USHORT),
        Field("next-outgoing-id", UINT, mandatory=True),
        Field("incoming-window", UINT, mandatory=True),
        Field("outgoing-window", UINT, mandatory=True),
        Field("handle-max", UINT, default=4294967295),
        Field("offered-capabilities", SYMBOL, multiple=True),
        Field("desired-capabilities", SYMBOL, multiple=True),
        Field("properties", FIELDS),
    )

    def __init__(
        self,
        *,
        remote_channel: int | None = None,
        next_outgoing_id: int,
        incoming_window: int,
        outgoing_window: int,
        handle_max: int = 4294967295,
        offered_capabilities: list[str] | None = None,
        desired_capabilities: list[str] | None = None,
        properties: dict[str, object] | None = None,
    ) -> None:
        self.remote_channel = remote_channel
        self.next_outgoing_id = next_outgoing_id
        self.incoming_window = incoming_window
        self.outgoing_window = outgoing_window
        self.handle_max = handle_max
        self.offered_capabilities = offered_capabilities
        self.desired_capabilities = desired_capabilities
        self.properties = properties


class Attach(Composite):
    """Attach a link to a session (2.7.3). `max_message_size` in octets; 0 and None are no limit."""

    __slots__ = (
        "desired_capabilities",
        "handle",
        "incomplete_unsettled",
        "initial_delivery_count",
        "max_message_size",
        "name",
        "offered_capabilities",
        "properties",
        "rcv_settle_mode",
        "role",
        "snd_settle_mode",
        "source",
        "target",
        "unsettled",
    )

    DESCRIPTOR: ClassVar[int] = 0x12
    NAME: ClassVar[str] = "amqp:attach:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("name", STRING, mandatory=True),
        Field("handle", UINT, mandatory=True),
        Field("role", BOOLEAN, mandatory=True),
        Field("snd-settle-mode", SENDER_SETTLE_MODE, default=2),
        Field("rcv-settle-mode", RECEIVER_SETTLE_MODE, default=0),
        Field("source", COMPOSITE, requires="source"),
        Field("target", COMPOSITE, requires="target"),
        Field("unsettled", MAP),
        Field("incomplete-unsettled", BOOLEAN, default=False),
        Field("initial-delivery-count", UINT),
        Field("max-message-size", ULONG),
        Field("offered-capabilities", SYMBOL, multiple=True),
        Field("desired-capabilities", SYMBOL, multiple=True),
        Field("properties", FIELDS),
    )

    def __init__(
        self,
        *,
        name: str,
        handle: int,
        role: bool,
        snd_settle_mode: int = 2,
        rcv_settle_mode: int = 0,
        source: Source | Described | None = None,
        target: Target | Coordinator | Described | None = None,
        unsettled: dict[object, object] | None = None,
        incomplete_unsettled: bool = False,
        initial_delivery_count: int | None = None,
        max_message_size: int | None = None,
        offered_capabilities: list[str] | None = None,
        desired_capabilities: list[str] | None = None,
        properties: dict[str, object] | None = None,
    ) -> None:
        self.name = name
        self.handle = handle
        self.role = role
        self.snd_settle_mode = snd_settle_mode
        self.rcv_settle_mode = rcv_settle_mode
        self.source = source
        self.target = target
        self.unsettled = unsettled
        self.incomplete_unsettled = incomplete_unsettled
        self.initial_delivery_count = initial_delivery_count
        self.max_message_size = max_message_size
        self.offered_capabilities = offered_capabilities
        self.desired_capabilities = desired_capabilities
        self.properties = properties


class Flow(Composite):
    """Update the state of a session and, with a handle, of a link (2.7.4)."""

    __slots__ = (
        "available",
        "delivery_count",
        "drain",
        "echo",
        "handle",
        "incoming_window",
        "link_credit",
        "next_incoming_id",
        "next_outgoing_id",
        "outgoing_window",
        "properties",
    )

    DESCRIPTOR: ClassVar[int] = 0x13
    NAME: ClassVar[str] = "amqp:flow:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("next-incoming-id", UINT),
        Field("incoming-window", UINT, mandatory=True),
        Field("next-outgoing-id", UINT, mandatory=True),
        Field("outgoing-window", UINT, mandatory=True),
        Field("handle", UINT),
        Field("delivery-count", UINT),
        Field("link-credit", UINT),
        Field("available", UINT),
        Field("drain", BOOLEAN, default=False),
        Field("echo", BOOLEAN, default=False),
        Field("properties", FIELDS),
    )

    def __init__(
        self,
        *,
        next_incoming_id: int | None = None,
        incoming_window: int,
        next_outgoing_id: int,
        outgoing_window: int,
        handle: int | None = None,
        delivery_count: int | None = None,
        link_credit: int | None = None,
        available: int | None = None,
        drain: bool = False,
        echo: bool = False,
        properties: dict[str, object] | None = None,
    ) -> None:
        self.next_incoming_id = next_incoming_id
        self.incoming_window = incoming_window
        self.next_outgoing_id = next_outgoing_id
        self.outgoing_window = outgoing_window
        self.handle = handle
        self.delivery_count = delivery_count
        self.link_credit = link_credit
        self.available = available
        self.drain = drain
        self.echo = echo
        self.properties = properties


class Transfer(Composite):
    """Move a message, or a part of one (2.7.5). The payload follows the performative in the frame."""

    __slots__ = (
        "aborted",
        "batchable",
        "delivery_id",
        "delivery_tag",
        "handle",
        "message_format",
        "more",
        "rcv_settle_mode",
        "resume",
        "settled",
        "state",
    )

    DESCRIPTOR: ClassVar[int] = 0x14
    NAME: ClassVar[str] = "amqp:transfer:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("handle", UINT, mandatory=True),
        Field("delivery-id", UINT),
        Field("delivery-tag", BINARY),
        Field("message-format", UINT),
        Field("settled", BOOLEAN),
        Field("more", BOOLEAN, default=False),
        Field("rcv-settle-mode", RECEIVER_SETTLE_MODE),
        Field("state", COMPOSITE, requires="delivery-state"),
        Field("resume", BOOLEAN, default=False),
        Field("aborted", BOOLEAN, default=False),
        Field("batchable", BOOLEAN, default=False),
    )

    def __init__(
        self,
        *,
        handle: int,
        delivery_id: int | None = None,
        delivery_tag: bytes | None = None,
        message_format: int | None = None,
        settled: bool | None = None,
        more: bool = False,
        rcv_settle_mode: int | None = None,
        state: DeliveryState | None = None,
        resume: bool = False,
        aborted: bool = False,
        batchable: bool = False,
    ) -> None:
        self.handle = handle
        self.delivery_id = delivery_id
        self.delivery_tag = delivery_tag
        self.message_format = message_format
        self.settled = settled
        self.more = more
        self.rcv_settle_mode = rcv_settle_mode
        self.state = state
        self.resume = resume
        self.aborted = aborted
        self.batchable = batchable


class Disposition(Composite):
    """Tell the remote peer of changes in the state of deliveries from `first` to `last` (2.7.6)."""

    __slots__ = ("batchable", "first", "last", "role", "settled", "state")

    DESCRIPTOR: ClassVar[int] = 0x15
    NAME: ClassVar[str] = "amqp:disposition:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("role", BOOLEAN, mandatory=True),
        Field("first", UINT, mandatory=True),
        Field("last", UINT),
        Field("settled", BOOLEAN, default=False),
        Field("state", COMPOSITE, requires="delivery-state"),
        Field("batchable", BOOLEAN, default=False),
    )

    def __init__(
        self,
        *,
        role: bool,
        first: int,
        last: int | None = None,
        settled: bool = False,
        state: DeliveryState | None = None,
        batchable: bool = False,
    ) -> None:
        self.role = role
        self.first = first
        self.last = last
        self.settled = settled
        self.state = state
        self.batchable = batchable


class Detach(Composite):
    """Detach the link from its session (2.7.7), for good when `closed`."""

    __slots__ = ("closed", "error", "handle")

    DESCRIPTOR: ClassVar[int] = 0x16
    NAME: ClassVar[str] = "amqp:detach:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("handle", UINT, mandatory=True),
        Field("closed", BOOLEAN, default=False),
        Field("error", COMPOSITE, requires="error"),
    )

    def __init__(
        self,
        *,
        handle: int,
        closed: bool = False,
        error: Error | None = None,
    ) -> None:
        self.handle = handle
        self.closed = closed
        self.error = error


class End(Composite):
    """End the session (2.7.8)."""

    __slots__ = ("error",)

    DESCRIPTOR: ClassVar[int] = 0x17
    NAME: ClassVar[str] = "amqp:end:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (Field("error", COMPOSITE, requires="error"),)

    def __init__(
        self,
        *,
        error: Error | None = None,
    ) -> None:
        self.error = error


class Close(Composite):
    """Signal that the connection is closed (2.7.9)."""

    __slots__ = ("error",)

    DESCRIPTOR: ClassVar[int] = 0x18
    NAME: ClassVar[str] = "amqp:close:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("frame",)
    FIELDS: ClassVar[tuple[Field, ...]] = (Field("error", COMPOSITE, requires="error"),)

    def __init__(
        self,
        *,
        error: Error | None = None,
    ) -> None:
        self.error = error


register(Open, Begin, Attach, Flow, Transfer, Disposition, Detach, End, Close)

Performative = Open | Begin | Attach | Flow | Transfer | Disposition | Detach | End | Close

__all__ = [
    "RECEIVER_SETTLE_MODE_FIRST",
    "RECEIVER_SETTLE_MODE_SECOND",
    "ROLE_RECEIVER",
    "ROLE_SENDER",
    "SENDER_SETTLE_MODE_MIXED",
    "SENDER_SETTLE_MODE_SETTLED",
    "SENDER_SETTLE_MODE_UNSETTLED",
    "Attach",
    "Begin",
    "Close",
    "Detach",
    "Disposition",
    "End",
    "Error",
    "Flow",
    "Open",
    "Performative",
    "Transfer",
    "decode_performative",
]


def decode_performative(buf: bytes, pos: int, end: int) -> tuple[Performative, int]:
    """Decode the performative at `pos`, the body of a frame; return it and where its payload begins.

    Raises DecodeError, also for composites and descriptors that are no performative.
    """
    performative, pos = decode_composite(buf, pos, end)
    if not isinstance(performative, (Open, Begin, Attach, Flow, Transfer, Disposition, Detach, End, Close)):
        what = performative.descriptor if isinstance(performative, Described) else performative.NAME
        raise DecodeError(f"{what} is no performative")
    return performative, pos
