"""The message format (part 3.2): sections found without decoding, and whole messages for those who need one.

A router forwards payloads as they are. It asks `read_to` and `read_priority` for the one field that they are named
after, and `locate_sections` for where sections begin. Agents and clients use `Message`.

Sections come in the order of their descriptors. A section that the specification does not know (routers put one in
front of the header) is located and skipped, but `Message.decode` refuses it: who knows it cuts it off first.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, ClassVar, Final, TypeAlias, cast

from van.amqp.codec import (
    DECODERS,
    MAX_COUNT,
    EncodeError,
    close_list,
    close_map,
    cut_short,
    encode_at,
    encode_binary,
    encode_list,
    make_symbol,
    skip_value,
)
from van.amqp.composite import (
    ADDRESS,
    BINARY,
    BOOLEAN,
    LENIENT_SYMBOL,
    MESSAGE_ID,
    STRING,
    TIMESTAMP,
    UBYTE,
    UINT,
    Composite,
    Field,
    decode_field,
    encode_fields,
    from_list,
    register,
)
from van.amqp.errors import DecodeError
from van.amqp.native import mypyc_attr
from van.amqp.types import Int, Symbol, UByte, ULong

# Descriptors of the sections (3.2).
HEADER: Final = 0x70
DELIVERY_ANNOTATIONS: Final = 0x71
MESSAGE_ANNOTATIONS: Final = 0x72
PROPERTIES: Final = 0x73
APPLICATION_PROPERTIES: Final = 0x74
DATA: Final = 0x75
AMQP_SEQUENCE: Final = 0x76
AMQP_VALUE: Final = 0x77
FOOTER: Final = 0x78
# What stands for the descriptor of a section that has no number of 64 bits.
UNKNOWN_SECTION: Final = 0

DEFAULT_PRIORITY: Final = 4  # 3.2.1

_BY_NAME: Final = {
    "amqp:header:list": HEADER,
    "amqp:delivery-annotations:map": DELIVERY_ANNOTATIONS,
    "amqp:message-annotations:map": MESSAGE_ANNOTATIONS,
    "amqp:properties:list": PROPERTIES,
    "amqp:application-properties:map": APPLICATION_PROPERTIES,
    "amqp:data:binary": DATA,
    "amqp:amqp-sequence:list": AMQP_SEQUENCE,
    "amqp:amqp-value:*": AMQP_VALUE,
    "amqp:footer:map": FOOTER,
}

MessageId: TypeAlias = str | ULong | int | bytes | uuid.UUID

_unpack_u32: Final = struct.Struct(">I").unpack_from
_unpack_i32: Final = struct.Struct(">i").unpack_from
_unpack_2u32: Final = struct.Struct(">II").unpack_from


class IncompleteMessageError(DecodeError):
    """The octets end before the part of the message that was asked for: more frames may bring it."""


class Header(Composite):
    """Standard delivery details about the transfer of a message through the network (3.2.1). `ttl` in milliseconds.

    What is absent is None; the specification reads that as not durable, priority 4, not first, delivery-count 0.
    """

    __slots__ = ("delivery_count", "durable", "first_acquirer", "priority", "ttl")

    DESCRIPTOR: ClassVar[int] = 0x70
    NAME: ClassVar[str] = "amqp:header:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("section",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("durable", BOOLEAN),
        Field("priority", UBYTE),
        Field("ttl", UINT),
        Field("first-acquirer", BOOLEAN),
        Field("delivery-count", UINT),
    )

    def __init__(
        self,
        *,
        durable: bool | None = None,
        priority: int | None = None,
        ttl: int | None = None,
        first_acquirer: bool | None = None,
        delivery_count: int | None = None,
    ) -> None:
        self.durable = durable
        self.priority = priority
        self.ttl = ttl
        self.first_acquirer = first_acquirer
        self.delivery_count = delivery_count


class Properties(Composite):
    """Immutable properties of the message (3.2.4). Times in milliseconds since the Unix epoch."""

    __slots__ = (
        "absolute_expiry_time",
        "content_encoding",
        "content_type",
        "correlation_id",
        "creation_time",
        "group_id",
        "group_sequence",
        "message_id",
        "reply_to",
        "reply_to_group_id",
        "subject",
        "to",
        "user_id",
    )

    DESCRIPTOR: ClassVar[int] = 0x73
    NAME: ClassVar[str] = "amqp:properties:list"
    PROVIDES: ClassVar[tuple[str, ...]] = ("section",)
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("message-id", MESSAGE_ID),
        Field("user-id", BINARY),
        Field("to", ADDRESS),
        Field("subject", STRING),
        Field("reply-to", ADDRESS),
        Field("correlation-id", MESSAGE_ID),
        Field("content-type", LENIENT_SYMBOL),
        Field("content-encoding", LENIENT_SYMBOL),
        Field("absolute-expiry-time", TIMESTAMP),
        Field("creation-time", TIMESTAMP),
        Field("group-id", STRING),
        Field("group-sequence", UINT),
        Field("reply-to-group-id", STRING),
    )

    def __init__(
        self,
        *,
        message_id: MessageId | None = None,
        user_id: bytes | None = None,
        to: str | None = None,
        subject: str | None = None,
        reply_to: str | None = None,
        correlation_id: MessageId | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        absolute_expiry_time: int | None = None,
        creation_time: int | None = None,
        group_id: str | None = None,
        group_sequence: int | None = None,
        reply_to_group_id: str | None = None,
    ) -> None:
        self.message_id = message_id
        self.user_id = user_id
        self.to = to
        self.subject = subject
        self.reply_to = reply_to
        self.correlation_id = correlation_id
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.absolute_expiry_time = absolute_expiry_time
        self.creation_time = creation_time
        self.group_id = group_id
        self.group_sequence = group_sequence
        self.reply_to_group_id = reply_to_group_id


register(Header, Properties)


class Data:
    """A body section of octets (3.2.6)."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Data) and self.value == other.value

    def __hash__(self) -> int:
        """Raise TypeError: it can be changed."""
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"Data({self.value!r})"


class AmqpSequence:
    """A body section of structured items (3.2.7)."""

    __slots__ = ("value",)

    def __init__(self, value: list[object]) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AmqpSequence) and self.value == other.value

    def __hash__(self) -> int:
        """Raise TypeError: it can be changed."""
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"AmqpSequence({self.value!r})"


class AmqpValue:
    """A body of one value of any type (3.2.8)."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AmqpValue) and self.value == other.value

    def __hash__(self) -> int:
        """Raise TypeError: it can be changed."""
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"AmqpValue({self.value!r})"


# A body of several sections is a list of at least two.
Body: TypeAlias = Data | AmqpSequence | AmqpValue | list[Data] | list[AmqpSequence]


# ------------------------------------------------------------------------------------------------------------ finding


def _descriptor(payload: bytes, pos: int, end: int) -> tuple[int, int]:
    """Read `00 descriptor` at `pos`; return the section's code and where its value begins."""
    if pos + 3 < end and payload[pos] == 0x00 and payload[pos + 1] == 0x53:
        return payload[pos + 2], pos + 3
    if payload[pos] != 0x00:
        raise DecodeError(f"no section of a message at octet {pos}")
    stop = skip_value(payload, pos + 1, end)
    if stop >= end:
        raise IncompleteMessageError(f"message cut short in the section at octet {pos}")
    descriptor, stop = DECODERS[payload[pos + 1]](payload, pos + 2, end, 1, [0])
    if type(descriptor) is ULong:
        return int(descriptor), stop
    if type(descriptor) is Symbol:
        return _BY_NAME.get(descriptor, UNKNOWN_SECTION), stop
    return UNKNOWN_SECTION, stop


def _section_end(payload: bytes, pos: int, end: int) -> int:
    """Return where the section whose value begins at `pos` ends, perhaps behind `end`."""
    code = payload[pos]
    if code in (0xC0, 0xC1, 0xA0) and pos + 1 < end:
        return pos + 2 + payload[pos + 1]
    if code in (0xD0, 0xD1, 0xB0) and pos + 4 < end:
        size: int = _unpack_u32(payload, pos + 1)[0]
        return pos + 5 + size
    return skip_value(payload, pos, end)


def locate_section(payload: bytes, pos: int) -> tuple[int, int, int]:
    """Find the section at `pos` without decoding it or looking behind it.

    Return (descriptor, where its value begins, where it ends); the descriptor is `HEADER` to `FOOTER`, another number,
    or `UNKNOWN_SECTION`. Raises DecodeError, IncompleteMessageError where the octets end before the section does.
    """
    end = len(payload)
    if pos >= end:
        raise IncompleteMessageError(f"message cut short before the section at octet {pos}")
    code, value = _descriptor(payload, pos, end)
    stop = _section_end(payload, value, end)
    if stop > end:
        raise IncompleteMessageError(f"message cut short in the section at octet {pos}")
    return code, value, stop


def locate_sections(payload: bytes) -> list[tuple[int, int, int, int]]:
    """Find the sections of a whole message without decoding them.

    Return (descriptor, where the section begins, where its value begins, where it ends) for each, as `locate_section`
    does. The order is not checked. Raises DecodeError.
    """
    sections = []
    pos = 0
    end = len(payload)
    while pos < end:
        code, value = _descriptor(payload, pos, end)
        stop = _section_end(payload, value, end)
        if stop > end:
            raise IncompleteMessageError(f"message cut short in the section at octet {pos}")
        sections.append((code, pos, value, stop))
        pos = stop
    return sections


def read_to(payload: bytes, whole: bool = True) -> str | None:
    """Return the `to` of the properties, None where there is none, looking at nothing else.

    `payload` is a whole message or its beginning; where it is the beginning (`whole` false) and the properties have not
    come yet, IncompleteMessageError is raised, as it is where they are cut. Raises DecodeError.
    """
    pos = 0
    end = len(payload)
    while pos < end:
        if pos + 3 < end and payload[pos] == 0x00 and payload[pos + 1] == 0x53:
            code = payload[pos + 2]
            value = pos + 3
        else:
            code, value = _descriptor(payload, pos, end)
        if code == PROPERTIES:
            return _read_to(payload, value, end)
        if PROPERTIES < code <= FOOTER:
            return None
        pos = _section_end(payload, value, end)
    if pos > end or not whole:
        raise IncompleteMessageError("message cut short before its properties")
    return None


def _list_start(payload: bytes, pos: int, end: int) -> tuple[int, int, int]:
    """Read the head of the list at `pos`, which may be cut; return (items, where they begin, where the list ends)."""
    code = payload[pos]
    if code == 0x45:
        return 0, pos + 1, pos + 1
    if code == 0xC0:
        if pos + 2 >= end:
            raise IncompleteMessageError("message cut short in a list")
        return payload[pos + 2], pos + 3, pos + 2 + payload[pos + 1]
    if code == 0xD0:
        if pos + 9 > end:
            raise IncompleteMessageError("message cut short in a list")
        size: int
        count: int
        size, count = _unpack_2u32(payload, pos + 1)
        return count, pos + 9, pos + 5 + size
    raise DecodeError(f"section at octet {pos} is no list")


def _read_item(payload: bytes, pos: int, stop: int, end: int) -> tuple[object, int]:
    """Decode a list item at `pos`; the list ends at `stop`, the octets that have come at `end`."""
    limit = min(stop, end)
    if skip_value(payload, pos, limit) > limit:
        raise IncompleteMessageError("message cut short in a list") if stop > end else cut_short(limit)
    return DECODERS[payload[pos]](payload, pos + 1, limit, 2, [0])


def _read_to(payload: bytes, pos: int, end: int) -> str | None:
    """Return the third item of the properties at `pos`."""
    count, pos, stop = _list_start(payload, pos, end)
    if count < 3:
        return None
    limit = min(stop, end)
    for _ in range(2):
        # Null, and short text or binary, without a call: nearly every message-id and user-id.
        if pos + 1 < limit and payload[pos] in (0x40, 0xA1, 0xA0):
            pos += 1 if payload[pos] == 0x40 else 2 + payload[pos + 1]
        else:
            pos = skip_value(payload, pos, limit)
        if pos >= limit:
            raise IncompleteMessageError("message cut short in its properties") if stop > end else cut_short(limit)
    if payload[pos] == 0xA1 and pos + 1 < limit:
        start = pos + 2
        pos = start + payload[pos + 1]
        if pos <= limit:
            try:
                return payload[start:pos].decode()
            except UnicodeDecodeError:
                raise DecodeError(f"{Properties.NAME}: to is not UTF-8") from None
        pos = start - 2
    to, _ = _read_item(payload, pos, stop, end)
    if to is None or type(to) is str:
        return to
    raise DecodeError(f"{Properties.NAME}: to is no address, but {type(to).__name__}")


def read_priority(payload: bytes) -> int:
    """Return the priority in the header, 4 where it says nothing (3.2.1). Values above 9 are returned as they are.

    `payload` is a whole message or its beginning. Raises DecodeError, IncompleteMessageError where the header is cut.
    """
    pos = 0
    end = len(payload)
    while pos < end:
        code, value = _descriptor(payload, pos, end)
        if code == HEADER:
            return _read_priority(payload, value, end)
        if HEADER < code <= FOOTER:
            break
        pos = _section_end(payload, value, end)
    if pos > end:
        raise IncompleteMessageError("message cut short before its header")
    return DEFAULT_PRIORITY


def _read_priority(payload: bytes, pos: int, end: int) -> int:
    """Return the second item of the header at `pos`."""
    count, pos, stop = _list_start(payload, pos, end)
    if count < 2:
        return DEFAULT_PRIORITY
    _, pos = _read_item(payload, pos, stop, end)
    priority, _ = _read_item(payload, pos, stop, end)
    if priority is None:
        return DEFAULT_PRIORITY
    if type(priority) is not UByte:
        raise DecodeError(f"{Header.NAME}: priority is no ubyte, but {type(priority).__name__}")
    return int(priority)


# ------------------------------------------------------------------------------------------------------------ messages

_FIELDS: Final = Properties.FIELDS
_property_values: Final = attrgetter(*[field.attribute for field in _FIELDS])

# The two octets in front of a string of up to 255 octets, by its size.
_STR8: Final = tuple([bytes((0xA1, size)) for size in range(256)])
_VBIN8: Final = tuple([bytes((0x00, 0x53, DATA, 0xA0, size)) for size in range(256)])

# For each property: the constructor octet that stands for short text in it, -1 where it is no text.
_TEXT_CODES: Final = tuple(
    [0xA3 if Symbol in field.type.classes else 0xA1 if str in field.type.classes else -1 for field in _FIELDS]
)
_NULLS: Final = tuple([b"\x40" * nulls for nulls in range(len(_FIELDS) + 1)])
_ABSENT: Final = tuple([[None] * missing for missing in range(len(_FIELDS) + 1)])


@mypyc_attr(allow_interpreted_subclasses=True)
class Message:
    """A whole message (3.2). Sections that are absent are None.

    Keys of the annotations and the footer are symbols (plain strings are written as symbols), keys of
    `application_properties` are strings. A missing body is allowed: some peers send none.
    """

    __slots__ = (
        "application_properties",
        "body",
        "delivery_annotations",
        "footer",
        "header",
        "message_annotations",
        "properties",
    )

    def __init__(
        self,
        *,
        header: Header | None = None,
        delivery_annotations: dict[Any, object] | None = None,
        message_annotations: dict[Any, object] | None = None,
        properties: Properties | None = None,
        application_properties: dict[str, object] | None = None,
        body: Body | None = None,
        footer: dict[Any, object] | None = None,
    ) -> None:
        self.header = header
        self.delivery_annotations = delivery_annotations
        self.message_annotations = message_annotations
        self.properties = properties
        self.application_properties = application_properties
        self.body = body
        self.footer = footer

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _SECTION_ATTRIBUTES)

    def __hash__(self) -> int:
        """Raise TypeError: it can be changed."""
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        values = [(name, getattr(self, name)) for name in _SECTION_ATTRIBUTES]
        return f"Message({', '.join(f'{name}={value!r}' for name, value in values if value is not None)})"

    def encode(self) -> bytes:
        """Return the octets of the message. Raises EncodeError."""
        out = bytearray()
        if self.header is not None:
            self.header.encode_to(out, 0)
        if self.delivery_annotations is not None:
            out += b"\x00\x53\x71"
            encode_fields(self.delivery_annotations, out, 1)
        if self.message_annotations is not None:
            out += b"\x00\x53\x72"
            encode_fields(self.message_annotations, out, 1)
        if self.properties is not None:
            _encode_properties(self.properties, out)
        if self.application_properties is not None:
            _encode_application_properties(self.application_properties, out)
        body = self.body
        if type(body) is Data:
            value = body.value
            size = len(value)
            if size <= 0xFF:
                out += _VBIN8[size]
                out += value
            else:
                out += b"\x00\x53\x75"
                encode_binary(value, out, 1)
        elif body is not None:
            _encode_body(body, out)
        if self.footer is not None:
            out += b"\x00\x53\x78"
            encode_fields(self.footer, out, 1)
        return bytes(out)

    @classmethod
    def decode(cls, payload: bytes) -> Message:
        """Decode a whole message with all its sections. Raises DecodeError."""
        message = cls()
        made = [0]
        pos = 0
        end = len(payload)
        last = 0
        while pos < end:
            if pos + 3 < end and payload[pos] == 0x00 and payload[pos + 1] == 0x53:
                code = payload[pos + 2]
                pos += 3
            else:
                code, pos = _descriptor(payload, pos, end)
            # Data and sequences may repeat; all else comes once, and in order.
            if code <= last and (code != last or code not in (DATA, AMQP_SEQUENCE)):
                raise DecodeError(f"section 0x{code:02x} after section 0x{last:02x}")
            last = code
            if code == PROPERTIES:
                message.properties, pos = _decode_properties(payload, pos, end, made)
            elif code == APPLICATION_PROPERTIES:
                message.application_properties, pos = _decode_application_properties(payload, pos, end, made)
            elif code == DATA and payload[pos] == 0xA0 and pos + 1 < end and message.body is None:
                start = pos + 2
                pos = start + payload[pos + 1]
                if pos > end:
                    raise cut_short(end)
                message.body = Data(payload[start:pos])
            else:
                pos = _decode_section(message, code, payload, pos, end, made)
        return message


_SECTION_ATTRIBUTES: Final = (
    "header",
    "delivery_annotations",
    "message_annotations",
    "properties",
    "application_properties",
    "body",
    "footer",
)


def _encode_properties(properties: Properties, out: bytearray) -> None:
    """Append the properties: the loop of `Composite.encode_to` with the cost of calls taken out."""
    # A list8, of which size and count are set at the end.
    out += b"\x00\x53\x73\xc0\x00\x00"
    start = len(out)
    nulls = 0
    count = 0
    for value in _property_values(properties):
        if value is None:
            nulls += 1
            continue
        if nulls:
            out += _NULLS[nulls]
            count += nulls
            nulls = 0
        if type(value) is str and _TEXT_CODES[count] == 0xA1:
            try:
                raw = value.encode()
            except UnicodeEncodeError:
                raise EncodeError(f"{Properties.NAME}: {_FIELDS[count].name}: {value!r} is not Unicode text") from None
            size = len(raw)
            if size <= 0xFF:
                out += _STR8[size]
            else:
                out.append(0xB1)
                out += size.to_bytes(4, "big")
            out += raw
        else:
            try:
                _FIELDS[count].type.encode(value, out, 2)
            except EncodeError as error:
                raise EncodeError(f"{Properties.NAME}: {_FIELDS[count].name}: {error}") from None
        count += 1
    size = len(out) - start
    if size <= 0xFE:
        out[start - 2] = size + 1
        out[start - 1] = count
        if not count:
            out[start - 3 :] = b"\x45"
    else:
        del out[start - 3 : start]
        close_list(out, start - 3, count)


def _encode_application_properties(properties: dict[str, object], out: bytearray) -> None:
    """Append the application properties."""
    # A map8, of which size and count are set at the end.
    out += b"\x00\x53\x74\xc1\x00\x00"
    start = len(out)
    # What callers put there is looked at below, whatever the annotation promises.
    items: Iterable[tuple[object, object]] = properties.items()
    for key, value in items:
        if type(key) is str:
            try:
                raw = key.encode()
            except UnicodeEncodeError:
                raise EncodeError(f"application-properties: key {key!r} is not Unicode text") from None
            size = len(raw)
            if size <= 0xFF:
                out += _STR8[size]
                out += raw
            else:
                encode_at(key, out, 2)
        elif isinstance(key, str):
            encode_at(key, out, 2)
        else:
            raise EncodeError(f"application-properties: key {key!r} is no string")
        if type(value) is str:
            try:
                raw = value.encode()
            except UnicodeEncodeError:
                raise EncodeError(f"application-properties: {key}: {value!r} is not Unicode text") from None
            size = len(raw)
            if size <= 0xFF:
                out += _STR8[size]
                out += raw
                continue
        encode_at(value, out, 2)
    size = len(out) - start
    count = 2 * len(properties)
    if size <= 0xFE and count <= 0xFF:
        out[start - 2] = size + 1
        out[start - 1] = count
    else:
        del out[start - 3 : start]
        close_map(out, start - 3, len(properties))


def _encode_body(body: Body, out: bytearray) -> None:
    """Append the sections of the body."""
    if type(body) is AmqpValue:
        out += b"\x00\x53\x77"
        encode_at(body.value, out, 1)
        return
    sections = body if isinstance(body, list) else [body]
    kind = type(sections[0]) if sections else Data
    for section in sections:
        if type(section) is not kind:
            raise EncodeError(f"{type(section).__name__} among sections of {kind.__name__}")
        if type(section) is Data:
            out += b"\x00\x53\x75"
            encode_binary(section.value, out, 1)
        elif type(section) is AmqpSequence:
            out += b"\x00\x53\x76"
            encode_list(section.value, out, 1)
        else:
            raise EncodeError(f"{type(section).__name__} is no body")


def _decode_properties(payload: bytes, pos: int, end: int, made: list[int]) -> tuple[Properties, int]:
    """Decode the properties whose list is at `pos`: `composite.from_list` with the cost of calls taken out."""
    count, pos, stop = _list_start(payload, pos, end)
    if stop > end:
        raise cut_short(end)
    if count > len(_FIELDS):
        raise DecodeError(f"{Properties.NAME}: {count} fields, it has {len(_FIELDS)}")
    values: list[Any] = []
    append = values.append
    for expected in _TEXT_CODES[:count]:
        if pos >= stop:
            raise cut_short(stop)
        code = payload[pos]
        if code == 0x40:
            pos += 1
            append(None)
            continue
        if code != expected or pos + 1 >= stop:
            field = _FIELDS[len(values)]
            value, pos = DECODERS[code](payload, pos + 1, stop, 2, made)
            append(decode_field(Properties, field, value))
            continue
        start = pos + 2
        pos = start + payload[pos + 1]
        if pos > stop:
            raise cut_short(stop)
        raw = payload[start:pos]
        if code == 0xA3:
            append(make_symbol(raw))
            continue
        try:
            append(raw.decode())
        except UnicodeDecodeError:
            raise DecodeError(f"{Properties.NAME}: {_FIELDS[len(values)].name} is not UTF-8") from None
    if pos != stop:
        raise DecodeError(f"{Properties.NAME}: {stop - pos} octets too many")
    values += _ABSENT[len(_FIELDS) - count]
    # Thirteen keywords would cost three times as much.
    properties = Properties()
    (
        properties.message_id,
        properties.user_id,
        properties.to,
        properties.subject,
        properties.reply_to,
        properties.correlation_id,
        properties.content_type,
        properties.content_encoding,
        properties.absolute_expiry_time,
        properties.creation_time,
        properties.group_id,
        properties.group_sequence,
        properties.reply_to_group_id,
    ) = values
    return properties, stop


def _decode_application_properties(
    payload: bytes, pos: int, end: int, made: list[int]
) -> tuple[dict[str, object], int]:
    """Decode the application properties whose map is at `pos`."""
    code = payload[pos]
    if code == 0xC1 and pos + 3 <= end:
        count = payload[pos + 2]
        stop = pos + 2 + payload[pos + 1]
        pos += 3
    elif code == 0xD1 and pos + 9 <= end:
        size: int
        size, count = _unpack_2u32(payload, pos + 1)
        stop = pos + 5 + size
        pos += 9
    else:
        raise DecodeError(f"application-properties at octet {pos} are no map")
    if stop > end or count & 1 or count > stop - pos or count > MAX_COUNT:
        raise DecodeError(f"application-properties before octet {pos}: size or count does not fit")
    result: dict[str, object] = {}
    for _ in range(count >> 1):
        # Two octets of the key and one of the value at least.
        if pos + 3 > stop:
            raise cut_short(stop)
        key: object
        if payload[pos] == 0xA1:
            start = pos + 2
            pos = start + payload[pos + 1]
            if pos >= stop:
                raise cut_short(stop)
            try:
                key = payload[start:pos].decode()
            except UnicodeDecodeError:
                raise DecodeError(f"application-properties: key at octet {start} is not UTF-8") from None
        else:
            key, pos = DECODERS[payload[pos]](payload, pos + 1, stop, 2, made)
            if not isinstance(key, str):
                raise DecodeError(f"application-properties: key before octet {pos} is no string")
            if pos >= stop:
                raise cut_short(stop)
        code = payload[pos]
        if code == 0xA1 and pos + 1 < stop:
            start = pos + 2
            pos = start + payload[pos + 1]
            if pos > stop:
                raise cut_short(stop)
            try:
                result[key] = payload[start:pos].decode()
            except UnicodeDecodeError:
                raise DecodeError(f"application-properties: string at octet {start} is not UTF-8") from None
        elif code == 0x71 and pos + 5 <= stop:
            result[key] = Int(_unpack_i32(payload, pos + 1)[0])
            pos += 5
        else:
            result[key], pos = DECODERS[code](payload, pos + 1, stop, 2, made)
    if pos != stop:
        raise DecodeError(f"application-properties: {stop - pos} octets too many")
    if len(result) != count >> 1:
        raise DecodeError("application-properties: a key comes twice")
    return result, stop


def _decode_section(message: Message, code: int, payload: bytes, pos: int, end: int, made: list[int]) -> int:
    """Decode the value of any section but properties and application properties; return where it ends."""
    if code not in _SECTION_NAMES:
        raise DecodeError(f"section before octet {pos} is unknown")
    value, pos = DECODERS[payload[pos]](payload, pos + 1, end, 1, made)
    name, expected = _SECTION_NAMES[code]
    if expected is not None and type(value) is not expected:
        raise DecodeError(f"{name} is no {expected.__name__}, but {type(value).__name__}")
    if code == HEADER:
        message.header = from_list(Header, cast("list[object]", value))
    elif code == DELIVERY_ANNOTATIONS:
        message.delivery_annotations = cast("dict[Any, object]", value)
    elif code == MESSAGE_ANNOTATIONS:
        message.message_annotations = cast("dict[Any, object]", value)
    elif code == FOOTER:
        message.footer = cast("dict[Any, object]", value)
    elif code == DATA:
        message.body = cast("Body", _add_section(message.body, Data(cast("bytes", value))))
    elif code == AMQP_SEQUENCE:
        message.body = cast("Body", _add_section(message.body, AmqpSequence(cast("list[object]", value))))
    elif message.body is not None:
        raise DecodeError("amqp-value after another body")
    else:
        message.body = AmqpValue(value)
    return pos


_SECTION_NAMES: dict[int, tuple[str, type | None]] = {
    HEADER: ("header", list),
    DELIVERY_ANNOTATIONS: ("delivery-annotations", dict),
    MESSAGE_ANNOTATIONS: ("message-annotations", dict),
    DATA: ("data", bytes),
    AMQP_SEQUENCE: ("amqp-sequence", list),
    AMQP_VALUE: ("amqp-value", None),
    FOOTER: ("footer", dict),
}


def _add_section(body: object, section: object) -> object:
    """Return the body with one more section, which must be of the kind of the others."""
    if body is None:
        return section
    if type(body) is list:
        if type(body[0]) is type(section):
            body.append(section)
            return body
    elif type(body) is type(section):
        return [body, section]
    raise DecodeError(f"{type(section).__name__} after a body of another kind")
