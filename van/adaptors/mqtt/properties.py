"""Data representation (MQTT 5, 1.5) and the table of properties (2.2.2).

A property is declared once: its type, the packets in which it is allowed, and what values it may have. Properties are
a dict by identifier; those that may come several times are lists.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, TypeAlias

from van.adaptors.mqtt.reason import (
    IMPLEMENTATION_SPECIFIC_ERROR,
    TOPIC_ALIAS_INVALID,
    MqttError,
    malformed,
    protocol_error,
)

# Packet types (2.1.2).
CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15
# The will in a CONNECT has properties of its own: no packet, but a place in the table.
WILL: Final = 16

Properties: TypeAlias = dict[int, object]

# A property takes two octets of a packet at least and some 200 here: so many may come in one packet.
MAX_PROPERTIES: Final = 1000
# The largest that a variable byte integer can say (1.5.5).
MAX_VARIABLE: Final = 268_435_455
# The largest length of a string or of binary data (1.5.4, 1.5.6).
MAX_LENGTH: Final = 65_535

_unpack_u16: Final = struct.Struct(">H").unpack_from
_unpack_u32: Final = struct.Struct(">I").unpack_from

Decoder = Callable[[bytes, int, int], tuple[object, int]]
Encoder = Callable[[object, bytearray], None]


def cut_short() -> MqttError:
    """The error for a packet that ends in the middle of a field."""
    return malformed("the packet ends in the middle of a field")


def wrong(name: str, value: object) -> ValueError:
    """The error for a value of ours that cannot be written."""
    return ValueError(f"{value!r} is no {name}")


def decode_byte(buf: bytes, pos: int, end: int) -> tuple[object, int]:
    """One octet at `pos`, and where it ends. Raises MqttError."""
    if pos >= end:
        raise cut_short()
    return buf[pos], pos + 1


def decode_two(buf: bytes, pos: int, end: int) -> tuple[int, int]:
    """A Two Byte Integer (1.5.2). Raises MqttError."""
    if pos + 2 > end:
        raise cut_short()
    value: int = _unpack_u16(buf, pos)[0]
    return value, pos + 2


def decode_four(buf: bytes, pos: int, end: int) -> tuple[int, int]:
    """A Four Byte Integer (1.5.3). Raises MqttError."""
    if pos + 4 > end:
        raise cut_short()
    value: int = _unpack_u32(buf, pos)[0]
    return value, pos + 4


def decode_variable(buf: bytes, pos: int, end: int) -> tuple[int, int]:
    """A Variable Byte Integer (1.5.5): four octets at most, and no more than needed. Raises MqttError."""
    value = 0
    for shift in (0, 7, 14, 21):
        if pos >= end:
            raise cut_short()
        octet = buf[pos]
        pos += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            if octet == 0 and shift:
                raise malformed("a variable byte integer that is longer than needed")
            return value, pos
    raise malformed("a variable byte integer of more than four octets")


def decode_text(buf: bytes, pos: int, end: int) -> tuple[str, int]:
    """A UTF-8 Encoded String (1.5.4): without surrogates and without U+0000. Raises MqttError."""
    if pos + 2 > end:
        raise cut_short()
    start = pos + 2
    length: int = _unpack_u16(buf, pos)[0]
    pos = start + length
    if pos > end:
        raise cut_short()
    raw = buf[start:pos]
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise malformed("a string that is not UTF-8") from None
    if "\0" in text:
        raise malformed("a string with U+0000")
    return text, pos


def decode_binary(buf: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """Binary Data (1.5.6). Raises MqttError."""
    if pos + 2 > end:
        raise cut_short()
    start = pos + 2
    length: int = _unpack_u16(buf, pos)[0]
    pos = start + length
    if pos > end:
        raise cut_short()
    return buf[start:pos], pos


def decode_pair(buf: bytes, pos: int, end: int) -> tuple[object, int]:
    """A UTF-8 String Pair (1.5.7). Raises MqttError."""
    name, pos = decode_text(buf, pos, end)
    value, pos = decode_text(buf, pos, end)
    return (name, value), pos


def encode_byte(value: object, out: bytearray) -> None:
    """Append one octet. Raises ValueError."""
    if not isinstance(value, int) or not 0 <= value <= 0xFF:
        raise wrong("byte", value)
    out.append(value)


def encode_two(value: object, out: bytearray) -> None:
    """Append a Two Byte Integer. Raises ValueError."""
    if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
        raise wrong("two byte integer", value)
    out += value.to_bytes(2, "big")


def encode_four(value: object, out: bytearray) -> None:
    """Append a Four Byte Integer. Raises ValueError."""
    if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
        raise wrong("four byte integer", value)
    out += value.to_bytes(4, "big")


def encode_variable(value: object, out: bytearray) -> None:
    """Append a Variable Byte Integer, as short as possible. Raises ValueError."""
    if not isinstance(value, int) or not 0 <= value <= MAX_VARIABLE:
        raise wrong("variable byte integer", value)
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def encode_text(value: object, out: bytearray) -> None:
    """Append a UTF-8 Encoded String. Raises ValueError."""
    if not isinstance(value, str) or "\0" in value:
        raise wrong("UTF-8 string", value)
    encode_binary(value.encode(), out)


def encode_binary(value: object, out: bytearray) -> None:
    """Append Binary Data. Raises ValueError."""
    if not isinstance(value, bytes) or len(value) > MAX_LENGTH:
        raise wrong("binary data", value)
    out += len(value).to_bytes(2, "big")
    out += value


def encode_pair(value: object, out: bytearray) -> None:
    """Append a UTF-8 String Pair. Raises ValueError."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise wrong("string pair", value)
    encode_text(value[0], out)
    encode_text(value[1], out)


class FieldType:
    """A type of the specification (1.5): its name, and how it is read and written."""

    __slots__ = ("decode", "encode", "name")

    def __init__(self, name: str, decode: Decoder, encode: Encoder) -> None:
        self.name = name
        self.decode = decode
        self.encode = encode


BYTE: Final = FieldType("Byte", decode_byte, encode_byte)
TWO_BYTE_INTEGER: Final = FieldType("Two Byte Integer", decode_two, encode_two)
FOUR_BYTE_INTEGER: Final = FieldType("Four Byte Integer", decode_four, encode_four)
VARIABLE_BYTE_INTEGER: Final = FieldType("Variable Byte Integer", decode_variable, encode_variable)
UTF8_STRING: Final = FieldType("UTF-8 Encoded String", decode_text, encode_text)
BINARY_DATA: Final = FieldType("Binary Data", decode_binary, encode_binary)
UTF8_STRING_PAIR: Final = FieldType("UTF-8 String Pair", decode_pair, encode_pair)


class Property:
    """A row of the table: `packets` in which it is allowed, `several` of those in which it may be repeated.

    `flag`: its only values are 0 and 1. `positive`: it may not be 0. `error` is the reason code for a wrong value.
    """

    __slots__ = ("error", "flag", "identifier", "multiple", "name", "packets", "positive", "several", "type")

    def __init__(
        self,
        identifier: int,
        name: str,
        field_type: FieldType,
        packets: tuple[int, ...],
        *,
        several: tuple[int, ...] = (),
        flag: bool = False,
        positive: bool = False,
        error: int = 0x82,
    ) -> None:
        self.identifier = identifier
        self.name = name
        self.type = field_type
        self.packets = frozenset(packets)
        self.several = frozenset(several)
        self.multiple = len(several) > 0
        self.flag = flag
        self.positive = positive
        self.error = error

    def check(self, value: object) -> None:
        """Raise MqttError for a value that the specification does not allow."""
        if (self.flag and value not in (0, 1)) or (self.positive and value == 0):
            raise MqttError(self.error, f"{self.name} of {value!r}")


PAYLOAD_FORMAT_INDICATOR: Final = 0x01
MESSAGE_EXPIRY_INTERVAL: Final = 0x02
CONTENT_TYPE: Final = 0x03
RESPONSE_TOPIC: Final = 0x08
CORRELATION_DATA: Final = 0x09
SUBSCRIPTION_IDENTIFIER: Final = 0x0B
SESSION_EXPIRY_INTERVAL: Final = 0x11
ASSIGNED_CLIENT_IDENTIFIER: Final = 0x12
SERVER_KEEP_ALIVE: Final = 0x13
AUTHENTICATION_METHOD: Final = 0x15
AUTHENTICATION_DATA: Final = 0x16
REQUEST_PROBLEM_INFORMATION: Final = 0x17
WILL_DELAY_INTERVAL: Final = 0x18
REQUEST_RESPONSE_INFORMATION: Final = 0x19
RESPONSE_INFORMATION: Final = 0x1A
SERVER_REFERENCE: Final = 0x1C
REASON_STRING: Final = 0x1F
RECEIVE_MAXIMUM: Final = 0x21
TOPIC_ALIAS_MAXIMUM: Final = 0x22
TOPIC_ALIAS: Final = 0x23
MAXIMUM_QOS: Final = 0x24
RETAIN_AVAILABLE: Final = 0x25
USER_PROPERTY: Final = 0x26
MAXIMUM_PACKET_SIZE: Final = 0x27
WILDCARD_SUBSCRIPTION_AVAILABLE: Final = 0x28
SUBSCRIPTION_IDENTIFIER_AVAILABLE: Final = 0x29
SHARED_SUBSCRIPTION_AVAILABLE: Final = 0x2A

_ACKNOWLEDGEMENTS: Final = (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK)
_ANYWHERE: Final = (*_ACKNOWLEDGEMENTS, CONNECT, CONNACK, PUBLISH, WILL, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH)

# 2.2.2.2, in its order.
TABLE: Final[tuple[Property, ...]] = (
    Property(PAYLOAD_FORMAT_INDICATOR, "Payload Format Indicator", BYTE, (PUBLISH, WILL), flag=True),
    Property(MESSAGE_EXPIRY_INTERVAL, "Message Expiry Interval", FOUR_BYTE_INTEGER, (PUBLISH, WILL)),
    Property(CONTENT_TYPE, "Content Type", UTF8_STRING, (PUBLISH, WILL)),
    Property(RESPONSE_TOPIC, "Response Topic", UTF8_STRING, (PUBLISH, WILL)),
    Property(CORRELATION_DATA, "Correlation Data", BINARY_DATA, (PUBLISH, WILL)),
    Property(
        SUBSCRIPTION_IDENTIFIER,
        "Subscription Identifier",
        VARIABLE_BYTE_INTEGER,
        (PUBLISH, SUBSCRIBE),
        several=(PUBLISH,),
        positive=True,
    ),
    Property(
        SESSION_EXPIRY_INTERVAL, "Session Expiry Interval", FOUR_BYTE_INTEGER, (CONNECT, CONNACK, DISCONNECT)
    ),
    Property(ASSIGNED_CLIENT_IDENTIFIER, "Assigned Client Identifier", UTF8_STRING, (CONNACK,)),
    Property(SERVER_KEEP_ALIVE, "Server Keep Alive", TWO_BYTE_INTEGER, (CONNACK,)),
    Property(AUTHENTICATION_METHOD, "Authentication Method", UTF8_STRING, (CONNECT, CONNACK, AUTH)),
    Property(AUTHENTICATION_DATA, "Authentication Data", BINARY_DATA, (CONNECT, CONNACK, AUTH)),
    Property(REQUEST_PROBLEM_INFORMATION, "Request Problem Information", BYTE, (CONNECT,), flag=True),
    Property(WILL_DELAY_INTERVAL, "Will Delay Interval", FOUR_BYTE_INTEGER, (WILL,)),
    Property(REQUEST_RESPONSE_INFORMATION, "Request Response Information", BYTE, (CONNECT,), flag=True),
    Property(RESPONSE_INFORMATION, "Response Information", UTF8_STRING, (CONNACK,)),
    Property(SERVER_REFERENCE, "Server Reference", UTF8_STRING, (CONNACK, DISCONNECT)),
    Property(REASON_STRING, "Reason String", UTF8_STRING, (*_ACKNOWLEDGEMENTS, CONNACK, DISCONNECT, AUTH)),
    Property(RECEIVE_MAXIMUM, "Receive Maximum", TWO_BYTE_INTEGER, (CONNECT, CONNACK), positive=True),
    Property(TOPIC_ALIAS_MAXIMUM, "Topic Alias Maximum", TWO_BYTE_INTEGER, (CONNECT, CONNACK)),
    Property(TOPIC_ALIAS, "Topic Alias", TWO_BYTE_INTEGER, (PUBLISH,), positive=True, error=TOPIC_ALIAS_INVALID),
    Property(MAXIMUM_QOS, "Maximum QoS", BYTE, (CONNACK,), flag=True),
    Property(RETAIN_AVAILABLE, "Retain Available", BYTE, (CONNACK,), flag=True),
    Property(USER_PROPERTY, "User Property", UTF8_STRING_PAIR, _ANYWHERE, several=_ANYWHERE),
    Property(MAXIMUM_PACKET_SIZE, "Maximum Packet Size", FOUR_BYTE_INTEGER, (CONNECT, CONNACK), positive=True),
    Property(WILDCARD_SUBSCRIPTION_AVAILABLE, "Wildcard Subscription Available", BYTE, (CONNACK,), flag=True),
    Property(SUBSCRIPTION_IDENTIFIER_AVAILABLE, "Subscription Identifier Available", BYTE, (CONNACK,), flag=True),
    Property(SHARED_SUBSCRIPTION_AVAILABLE, "Shared Subscription Available", BYTE, (CONNACK,), flag=True),
)

_BY_IDENTIFIER: Final[dict[int, Property]] = {row.identifier: row for row in TABLE}


def decode_properties(buf: bytes, pos: int, end: int, packet: int) -> tuple[Properties, int]:
    """The properties at `pos` of a packet of type `packet` (or `WILL`), and where they end. Raises MqttError."""
    length, pos = decode_variable(buf, pos, end)
    stop = pos + length
    if stop > end:
        raise cut_short()
    properties: Properties = {}
    count = 0
    while pos < stop:
        identifier, pos = decode_variable(buf, pos, stop)
        row = _BY_IDENTIFIER.get(identifier)
        if row is None or packet not in row.packets:
            raise malformed(f"property 0x{identifier:02x} in a packet of type {packet}")
        value, pos = row.type.decode(buf, pos, stop)
        row.check(value)
        count += 1
        if count > MAX_PROPERTIES:
            raise MqttError(IMPLEMENTATION_SPECIFIC_ERROR, f"more than {MAX_PROPERTIES} properties")
        known = properties.get(identifier)
        if row.multiple:
            if known is None:
                properties[identifier] = [value]
                continue
            assert isinstance(known, list)
            if packet in row.several:
                known.append(value)
                continue
        if known is not None:
            raise protocol_error(f"{row.name} comes twice")
        properties[identifier] = value
    return properties, pos


def encode_properties(properties: Properties, packet: int, out: bytearray) -> None:
    """Append the properties with their length. Raises ValueError for what the table does not allow."""
    if not properties:
        out.append(0)
        return
    body = bytearray()
    for identifier, value in properties.items():
        row = _BY_IDENTIFIER.get(identifier)
        if row is None or packet not in row.packets:
            raise ValueError(f"no property 0x{identifier:02x} in a packet of type {packet}")
        values = value if row.multiple and isinstance(value, list) else [value]
        if len(values) > 1 and packet not in row.several:
            raise ValueError(f"{row.name} more than once in a packet of type {packet}")
        for item in values:
            encode_variable(identifier, body)
            row.type.encode(item, body)
    encode_variable(len(body), out)
    out += body


def integer(properties: Properties, identifier: int, default: int) -> int:
    """The value of an integer property, `default` where it is absent."""
    value = properties.get(identifier)
    return value if isinstance(value, int) else default


def text(properties: Properties, identifier: int) -> str | None:
    """The value of a string property, None where it is absent."""
    value = properties.get(identifier)
    return value if isinstance(value, str) else None
