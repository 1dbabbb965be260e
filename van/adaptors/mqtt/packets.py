"""The control packets of MQTT 3.1.1 and 5 (3.1 to 3.15), as tables, and their coders.

Most packets are rows of fields and need no more than their table. Connect, Publish and Subscribe, whose flags say which
fields follow, have coders of their own. What a packet does is said in `connection.py`.
"""

from __future__ import annotations

from typing import ClassVar, Final

from van.adaptors.mqtt.properties import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MAX_LENGTH,
    MAX_VARIABLE,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    WILL,
    Properties,
    cut_short,
    decode_binary,
    decode_byte,
    decode_properties,
    decode_text,
    decode_two,
    encode_binary,
    encode_byte,
    encode_properties,
    encode_text,
    encode_two,
    encode_variable,
    wrong,
)
from van.adaptors.mqtt.reason import (
    IMPLEMENTATION_SPECIFIC_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    MqttError,
    malformed,
    protocol_error,
)

# Protocol levels (3.1.2.2).
MQTT_3_1_1: Final = 4
MQTT_5: Final = 5

# A filter takes four octets of a packet and an answer each: so many may come in one packet.
MAX_FILTERS: Final = 1000

# What a field of a table is.
FLAGS: Final = "acknowledge flags"
PACKET_IDENTIFIER: Final = "packet identifier"
REASON: Final = "reason code"
RETURN: Final = "return or reason code"
PROPERTIES: Final = "properties"
FILTERS: Final = "topic filters"
CODES: Final = "codes"


class Packet:
    """The base of all packets.

    `TYPE` and `FLAGS` are those of the fixed header (2.1). `FIELDS` names what follows in order: the attribute, and
    what it is; packets with coders of their own have `NAMES`, their attributes. Reason codes and properties are there
    at level 5 only; they may be cut off at the end where `SHORT` says so, and mean success and none then. `REASONS` are
    the codes that may be in the packet, `OLD_REASONS` those at level 4.
    """

    __slots__ = ()

    TYPE: ClassVar[int] = 0
    FLAGS: ClassVar[int] = 0
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = ()
    NAMES: ClassVar[tuple[str, ...]] = ()
    SHORT: ClassVar[bool] = False
    REASONS: ClassVar[frozenset[int]] = frozenset()
    OLD_REASONS: ClassVar[frozenset[int]] = frozenset()

    def encode(self, level: int) -> bytes:
        """The whole packet at a protocol level. Raises ValueError for values that cannot be written."""
        body = bytearray()
        self.encode_body(body, level)
        return with_header(self.TYPE << 4 | self.FLAGS, body)

    def encode_body(self, out: bytearray, level: int) -> None:
        """Append what follows the fixed header. Raises ValueError."""
        encode_fields(self, out, level)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.values() == other.values()

    def __hash__(self) -> int:
        """Raise TypeError: it can be changed."""
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.values().items())})"

    def values(self) -> dict[str, object]:
        """What it says, by the names of its attributes."""
        return {name: getattr(self, name) for name in self.NAMES or [field[0] for field in self.FIELDS]}


def with_header(first: int, body: bytes | bytearray) -> bytes:
    """Put the fixed header (2.1) before the rest of a packet. Raises ValueError for one that is too long."""
    out = bytearray((first,))
    if len(body) > MAX_VARIABLE:
        raise wrong("packet of 256 MiB at most", len(body))
    encode_variable(len(body), out)
    out += body
    return bytes(out)


class Will:
    """What a client wants published when it is gone (3.1.2.5)."""

    __slots__ = ("payload", "properties", "qos", "retain", "topic")

    def __init__(
        self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False, properties: Properties | None = None
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties: Properties = properties if properties is not None else {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Will):
            return NotImplemented
        mine = (self.topic, self.payload, self.qos, self.retain, self.properties)
        return mine == (other.topic, other.payload, other.qos, other.retain, other.properties)

    def __hash__(self) -> int:
        """Raise TypeError: it can be changed."""
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"Will({self.topic!r}, {self.payload!r}, qos={self.qos}, retain={self.retain})"


class Connect(Packet):
    """A client asks for a connection (3.1). `keep_alive` in seconds; `clean_start` is 3.1.1's clean session."""

    __slots__ = ("clean_start", "client_id", "keep_alive", "level", "password", "properties", "user_name", "will")

    TYPE: ClassVar[int] = CONNECT
    NAMES: ClassVar[tuple[str, ...]] = (
        "level",
        "client_id",
        "clean_start",
        "keep_alive",
        "will",
        "user_name",
        "password",
        "properties",
    )

    def __init__(
        self,
        *,
        level: int = MQTT_5,
        client_id: str = "",
        clean_start: bool = True,
        keep_alive: int = 0,
        will: Will | None = None,
        user_name: str | None = None,
        password: bytes | None = None,
        properties: Properties | None = None,
    ) -> None:
        self.level = level
        self.client_id = client_id
        self.clean_start = clean_start
        self.keep_alive = keep_alive
        self.will = will
        self.user_name = user_name
        self.password = password
        self.properties: Properties = properties if properties is not None else {}

    def encode_body(self, out: bytearray, level: int) -> None:
        """Append what follows the fixed header; the packet has its own level."""
        will = self.will
        flags = 0x02 if self.clean_start else 0
        if will is not None:
            flags |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        if self.password is not None:
            flags |= 0x40
        if self.user_name is not None:
            flags |= 0x80
        encode_text("MQTT", out)
        encode_byte(self.level, out)
        out.append(flags)
        encode_two(self.keep_alive, out)
        if self.level == MQTT_5:
            encode_properties(self.properties, CONNECT, out)
        encode_text(self.client_id, out)
        if will is not None:
            if self.level == MQTT_5:
                encode_properties(will.properties, WILL, out)
            encode_text(will.topic, out)
            encode_binary(will.payload, out)
        if self.user_name is not None:
            encode_text(self.user_name, out)
        if self.password is not None:
            encode_binary(self.password, out)


class Connack(Packet):
    """The server's answer to Connect (3.2). `code` is a reason code, at level 4 a return code."""

    __slots__ = ("code", "properties", "session_present")

    TYPE: ClassVar[int] = CONNACK
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("session_present", FLAGS),
        ("code", RETURN),
        ("properties", PROPERTIES),
    )
    REASONS: ClassVar[frozenset[int]] = frozenset(
        (0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F)
    )
    OLD_REASONS: ClassVar[frozenset[int]] = frozenset(range(6))

    def __init__(self, code: int = 0, *, session_present: bool = False, properties: Properties | None = None) -> None:
        self.code = code
        self.session_present = session_present
        self.properties: Properties = properties if properties is not None else {}


class Publish(Packet):
    """An application message (3.3). `packet_id` is 0 at QoS 0, which has none."""

    __slots__ = ("dup", "packet_id", "payload", "properties", "qos", "retain", "topic")

    TYPE: ClassVar[int] = PUBLISH
    NAMES: ClassVar[tuple[str, ...]] = (
        "topic",
        "payload",
        "qos",
        "retain",
        "dup",
        "packet_id",
        "properties",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        dup: bool = False,
        packet_id: int = 0,
        properties: Properties | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.dup = dup
        self.packet_id = packet_id
        self.properties: Properties = properties if properties is not None else {}

    def encode(self, level: int) -> bytes:
        """The whole packet. Raises ValueError."""
        body = bytearray()
        encode_text(self.topic, body)
        if self.qos:
            if not 0 < self.packet_id <= 0xFFFF:
                raise wrong("packet identifier", self.packet_id)
            body += self.packet_id.to_bytes(2, "big")
        if level == MQTT_5:
            encode_properties(self.properties, PUBLISH, body)
        body += self.payload
        first = PUBLISH << 4 | (0x08 if self.dup else 0) | self.qos << 1 | (1 if self.retain else 0)
        return with_header(first, body)


class Acknowledgement(Packet):
    """What the four answers to a Publish have in common: the identifier of its packet, and a reason code."""

    __slots__ = ("packet_id", "properties", "reason")

    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("packet_id", PACKET_IDENTIFIER),
        ("reason", REASON),
        ("properties", PROPERTIES),
    )
    SHORT: ClassVar[bool] = True

    def __init__(self, packet_id: int, reason: int = 0, *, properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.reason = reason
        self.properties: Properties = properties if properties is not None else {}


_RECEIVED: Final = frozenset((0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99))
_RELEASED: Final = frozenset((0x00, 0x92))


class Puback(Acknowledgement):
    """The answer at QoS 1 (3.4)."""

    __slots__ = ()

    TYPE: ClassVar[int] = PUBACK
    REASONS: ClassVar[frozenset[int]] = _RECEIVED


class Pubrec(Acknowledgement):
    """The first answer at QoS 2 (3.5): the message is here."""

    __slots__ = ()

    TYPE: ClassVar[int] = PUBREC
    REASONS: ClassVar[frozenset[int]] = _RECEIVED


class Pubrel(Acknowledgement):
    """The sender's word at QoS 2 that it will not send the message again (3.6)."""

    __slots__ = ()

    TYPE: ClassVar[int] = PUBREL
    FLAGS: ClassVar[int] = 2
    REASONS: ClassVar[frozenset[int]] = _RELEASED


class Pubcomp(Acknowledgement):
    """The last answer at QoS 2 (3.7)."""

    __slots__ = ()

    TYPE: ClassVar[int] = PUBCOMP
    REASONS: ClassVar[frozenset[int]] = _RELEASED


class Subscription:
    """A filter and its options (3.8.3). At level 4 there is nothing but the QoS."""

    __slots__ = ("filter", "no_local", "qos", "retain_as_published", "retain_handling")

    def __init__(
        self,
        topic_filter: str,
        qos: int = 0,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> None:
        self.filter = topic_filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.retain_handling = retain_handling

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subscription) and self.values() == other.values()

    def __hash__(self) -> int:
        """Raise TypeError: it can be changed."""
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"Subscription({', '.join(map(repr, self.values()))})"

    def values(self) -> tuple[object, ...]:
        """The filter and its options."""
        return (self.filter, self.qos, self.no_local, self.retain_as_published, self.retain_handling)


class Subscribe(Packet):
    """Ask for the messages of some topics (3.8)."""

    __slots__ = ("packet_id", "properties", "subscriptions")

    TYPE: ClassVar[int] = SUBSCRIBE
    FLAGS: ClassVar[int] = 2
    NAMES: ClassVar[tuple[str, ...]] = ("packet_id", "subscriptions", "properties")

    def __init__(
        self, packet_id: int, subscriptions: list[Subscription], *, properties: Properties | None = None
    ) -> None:
        self.packet_id = packet_id
        self.subscriptions = subscriptions
        self.properties: Properties = properties if properties is not None else {}

    def encode_body(self, out: bytearray, level: int) -> None:
        """Append what follows the fixed header. Raises ValueError."""
        _encode_identifier(self.packet_id, out)
        if level == MQTT_5:
            encode_properties(self.properties, SUBSCRIBE, out)
        if not self.subscriptions:
            raise wrong("Subscribe: it has no filter", self.subscriptions)
        for subscription in self.subscriptions:
            encode_text(subscription.filter, out)
            options = subscription.qos
            if level == MQTT_5:
                options |= (0x04 if subscription.no_local else 0) | subscription.retain_handling << 4
                options |= 0x08 if subscription.retain_as_published else 0
            out.append(options)


class Suback(Packet):
    """The answer to Subscribe (3.9): a code for each filter."""

    __slots__ = ("codes", "packet_id", "properties")

    TYPE: ClassVar[int] = SUBACK
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("packet_id", PACKET_IDENTIFIER),
        ("properties", PROPERTIES),
        ("codes", CODES),
    )
    REASONS: ClassVar[frozenset[int]] = frozenset(
        (0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
    )
    OLD_REASONS: ClassVar[frozenset[int]] = frozenset((0x00, 0x01, 0x02, 0x80))

    def __init__(self, packet_id: int, codes: list[int], *, properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.codes = codes
        self.properties: Properties = properties if properties is not None else {}


class Unsubscribe(Packet):
    """Ask for the messages of some filters no more (3.10)."""

    __slots__ = ("filters", "packet_id", "properties")

    TYPE: ClassVar[int] = UNSUBSCRIBE
    FLAGS: ClassVar[int] = 2
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("packet_id", PACKET_IDENTIFIER),
        ("properties", PROPERTIES),
        ("filters", FILTERS),
    )

    def __init__(self, packet_id: int, filters: list[str], *, properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.filters = filters
        self.properties: Properties = properties if properties is not None else {}


class Unsuback(Packet):
    """The answer to Unsubscribe (3.11); at level 4 it has no codes."""

    __slots__ = ("codes", "packet_id", "properties")

    TYPE: ClassVar[int] = UNSUBACK
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("packet_id", PACKET_IDENTIFIER),
        ("properties", PROPERTIES),
        ("codes", CODES),
    )
    REASONS: ClassVar[frozenset[int]] = frozenset((0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91))

    def __init__(self, packet_id: int, codes: list[int], *, properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.codes = codes
        self.properties: Properties = properties if properties is not None else {}


class Pingreq(Packet):
    """A client says that it is there (3.12)."""

    __slots__ = ()

    TYPE: ClassVar[int] = PINGREQ


class Pingresp(Packet):
    """The answer to Pingreq (3.13)."""

    __slots__ = ()

    TYPE: ClassVar[int] = PINGRESP


class Disconnect(Packet):
    """The last packet of a connection (3.14); at level 4 only clients send it, and it says nothing."""

    __slots__ = ("properties", "reason")

    TYPE: ClassVar[int] = DISCONNECT
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (("reason", REASON), ("properties", PROPERTIES))
    SHORT: ClassVar[bool] = True
    REASONS: ClassVar[frozenset[int]] = frozenset((0x00, 0x04, *range(0x80, 0x84), 0x87, 0x89, *range(0x8B, 0xA3)))

    def __init__(self, reason: int = 0, *, properties: Properties | None = None) -> None:
        self.reason = reason
        self.properties: Properties = properties if properties is not None else {}


class Auth(Packet):
    """A step of an enhanced authentication (3.15); not at level 4."""

    __slots__ = ("properties", "reason")

    TYPE: ClassVar[int] = AUTH
    FIELDS: ClassVar[tuple[tuple[str, str], ...]] = (("reason", REASON), ("properties", PROPERTIES))
    SHORT: ClassVar[bool] = True
    REASONS: ClassVar[frozenset[int]] = frozenset((0x00, 0x18, 0x19))

    def __init__(self, reason: int = 0, *, properties: Properties | None = None) -> None:
        self.reason = reason
        self.properties: Properties = properties if properties is not None else {}


# ------------------------------------------------------------------------------------------------------------ writing


def _encode_identifier(packet_id: object, out: bytearray) -> None:
    if packet_id == 0:
        raise wrong("packet identifier", packet_id)
    encode_two(packet_id, out)


def _known(packet: Packet, code: object, level: int) -> None:
    """Raise ValueError for a code that the packet does not have."""
    if code not in (packet.REASONS if level == MQTT_5 else packet.OLD_REASONS):
        raise wrong(f"code of {type(packet).__name__}", code)


def encode_fields(packet: Packet, out: bytearray, level: int) -> None:
    """Append the fields of a packet's table. Raises ValueError."""
    new = level == MQTT_5
    if packet.TYPE == AUTH and not new:
        raise wrong("packet of MQTT 3.1.1", packet)
    values = packet.values()
    if new and packet.SHORT:
        reason = values["reason"]
        _known(packet, reason, level)
        if not values["properties"]:
            # 3.4.2.1 and the like: what says nothing is left out at the end.
            if "packet_id" in values:
                _encode_identifier(values["packet_id"], out)
            if reason:
                encode_byte(reason, out)
            return
    for name, kind in packet.FIELDS:
        value = values[name]
        if kind is PROPERTIES:
            if new:
                assert isinstance(value, dict)
                encode_properties(value, packet.TYPE, out)
        elif kind is REASON:
            if new:
                encode_byte(value, out)
        elif kind is RETURN:
            _known(packet, value, level)
            encode_byte(value, out)
        elif kind is FLAGS:
            out.append(1 if value else 0)
        elif kind is PACKET_IDENTIFIER:
            _encode_identifier(value, out)
        elif kind is FILTERS:
            assert isinstance(value, list)
            if not value:
                raise wrong("list of filters", value)
            for topic_filter in value:
                encode_text(topic_filter, out)
        elif new or packet.TYPE == SUBACK:
            assert isinstance(value, list)
            for code in value:
                _known(packet, code, level)
                encode_byte(code, out)


# ------------------------------------------------------------------------------------------------------------ reading


def _decode_identifier(buf: bytes, pos: int, end: int) -> tuple[int, int]:
    packet_id, pos = decode_two(buf, pos, end)
    if packet_id == 0:
        raise protocol_error("a packet identifier of 0")
    return packet_id, pos


def _decode_reason(kind: type[Packet], buf: bytes, pos: int, end: int) -> tuple[int, int]:
    """A reason code that this packet may have."""
    if pos >= end:
        raise cut_short()
    code = buf[pos]
    if code not in kind.REASONS:
        raise malformed(f"reason code 0x{code:02x} in {kind.__name__}")
    return code, pos + 1


def _decode_connect(buf: bytes, pos: int, end: int) -> Connect:
    name, pos = decode_binary(buf, pos, end)
    if pos >= end:
        raise cut_short()
    level = buf[pos]
    if name != b"MQTT" or level not in (MQTT_3_1_1, MQTT_5):
        # 3.1.2.1 and 3.1.2.2. Level 3 has the name MQIsdp.
        raise MqttError(UNSUPPORTED_PROTOCOL_VERSION, f"protocol {name[:16]!r}, level {level}")
    if pos + 1 >= end:
        raise cut_short()
    flags = buf[pos + 1]
    will_qos = flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not flags & 0x04 and flags & 0x38):
        raise malformed(f"connect flags 0x{flags:02x}")
    if level == MQTT_3_1_1 and flags & 0x40 and not flags & 0x80:
        raise malformed("a password without a user name")
    keep_alive, pos = decode_two(buf, pos + 2, end)
    connect = Connect(level=level, clean_start=flags & 0x02 != 0, keep_alive=keep_alive)
    if level == MQTT_5:
        connect.properties, pos = decode_properties(buf, pos, end, CONNECT)
    connect.client_id, pos = decode_text(buf, pos, end)
    if flags & 0x04:
        properties: Properties = {}
        if level == MQTT_5:
            properties, pos = decode_properties(buf, pos, end, WILL)
        topic, pos = decode_text(buf, pos, end)
        payload, pos = decode_binary(buf, pos, end)
        connect.will = Will(topic, payload, qos=will_qos, retain=flags & 0x20 != 0, properties=properties)
    if flags & 0x80:
        connect.user_name, pos = decode_text(buf, pos, end)
    if flags & 0x40:
        connect.password, pos = decode_binary(buf, pos, end)
    if pos != end:
        raise malformed("octets behind the last field of Connect")
    return connect


def _decode_publish(flags: int, buf: bytes, pos: int, end: int, level: int) -> Publish:
    qos = flags >> 1 & 3
    if qos == 3:
        raise malformed("a Publish of QoS 3")
    if qos == 0 and flags & 0x08:
        raise malformed("a duplicate of QoS 0")
    topic, pos = decode_text(buf, pos, end)
    packet_id = 0
    if qos:
        packet_id, pos = _decode_identifier(buf, pos, end)
    properties: Properties = {}
    if level == MQTT_5:
        properties, pos = decode_properties(buf, pos, end, PUBLISH)
    return Publish(
        topic,
        buf[pos:end],
        qos=qos,
        retain=flags & 1 != 0,
        dup=flags & 0x08 != 0,
        packet_id=packet_id,
        properties=properties,
    )


def _decode_subscribe(buf: bytes, pos: int, end: int, level: int) -> Subscribe:
    packet_id, pos = _decode_identifier(buf, pos, end)
    properties: Properties = {}
    if level == MQTT_5:
        properties, pos = decode_properties(buf, pos, end, SUBSCRIBE)
    if pos >= end:
        raise protocol_error("a Subscribe without a filter")
    subscriptions: list[Subscription] = []
    while pos < end:
        topic_filter, pos = decode_text(buf, pos, end)
        octet, pos = decode_byte(buf, pos, end)
        assert isinstance(octet, int)
        handling = octet >> 4 & 3
        if octet & 3 == 3 or octet & (0xC0 if level == MQTT_5 else 0xFC):
            raise malformed(f"subscription options 0x{octet:02x}")
        if handling == 3:
            raise protocol_error("a retain handling of 3")
        if len(subscriptions) >= MAX_FILTERS:
            raise MqttError(IMPLEMENTATION_SPECIFIC_ERROR, f"more than {MAX_FILTERS} filters in a packet")
        subscriptions.append(
            Subscription(
                topic_filter,
                octet & 3,
                no_local=octet & 0x04 != 0,
                retain_as_published=octet & 0x08 != 0,
                retain_handling=handling,
            )
        )
    return Subscribe(packet_id, subscriptions, properties=properties)


def _decode_filters(buf: bytes, pos: int, end: int) -> list[str]:
    if pos >= end:
        raise protocol_error("an Unsubscribe without a filter")
    filters: list[str] = []
    while pos < end:
        topic_filter, pos = decode_text(buf, pos, end)
        if len(filters) >= MAX_FILTERS:
            raise MqttError(IMPLEMENTATION_SPECIFIC_ERROR, f"more than {MAX_FILTERS} filters in a packet")
        filters.append(topic_filter)
    return filters


def _decode_codes(kind: type[Packet], buf: bytes, pos: int, end: int, level: int) -> list[int]:
    codes = list(buf[pos:end])
    allowed = kind.REASONS if level == MQTT_5 else kind.OLD_REASONS
    if not codes or len(codes) > MAX_FILTERS:
        raise protocol_error(f"{kind.__name__} with {len(codes)} codes")
    for code in codes:
        if code not in allowed:
            raise malformed(f"code 0x{code:02x} in {kind.__name__}")
    return codes


def _decode_tail(kind: type[Packet], buf: bytes, pos: int, end: int, level: int) -> tuple[int, Properties]:
    """The reason code and the properties at the end of a packet, either of which may be missing."""
    if level == MQTT_5 and pos < end:
        reason, pos = _decode_reason(kind, buf, pos, end)
        properties: Properties = {}
        if pos < end:
            properties, pos = decode_properties(buf, pos, end, kind.TYPE)
        _at_end(kind, pos, end)
        return reason, properties
    _at_end(kind, pos, end)
    return 0, {}


def _at_end(kind: type[Packet], pos: int, end: int) -> None:
    if pos != end:
        raise malformed(f"octets behind the last field of {kind.__name__}")


def _decode_connack(buf: bytes, pos: int, end: int, level: int) -> Connack:
    if pos + 2 > end:
        raise cut_short()
    flags = buf[pos]
    code = buf[pos + 1]
    if flags > 1 or (flags and code):
        raise malformed(f"connect acknowledge flags 0x{flags:02x} with code 0x{code:02x}")
    pos += 2
    properties: Properties = {}
    if level == MQTT_5:
        if code not in Connack.REASONS:
            raise malformed(f"reason code 0x{code:02x} in Connack")
        properties, pos = decode_properties(buf, pos, end, CONNACK)
    elif code not in Connack.OLD_REASONS:
        raise malformed(f"return code {code} in Connack")
    _at_end(Connack, pos, end)
    return Connack(code, session_present=flags == 1, properties=properties)


_BY_TYPE: Final[dict[int, type[Packet]]] = {
    kind.TYPE: kind
    for kind in (
        Connect, Connack, Publish, Puback, Pubrec, Pubrel, Pubcomp, Subscribe, Suback, Unsubscribe, Unsuback, Pingreq,
        Pingresp, Disconnect, Auth,
    )
}  # fmt: skip


def check_header(first: int, level: int) -> None:
    """Raise MqttError for the first octet of a packet that cannot be one (2.1)."""
    kind = _BY_TYPE.get(first >> 4)
    if kind is None or (kind is Auth and level != MQTT_5):
        raise malformed(f"a packet of type {first >> 4}")
    if kind is not Publish and first & 0x0F != kind.FLAGS:
        raise malformed(f"flags 0x{first & 0x0F:x} of {kind.__name__}")


def decode_packet(first: int, buf: bytes, pos: int, end: int, level: int) -> Packet:
    """The packet whose fixed header began with `first`, and whose rest is `buf[pos:end]`. Raises MqttError.

    A Connect has its own level; all others are read at `level`.
    """
    check_header(first, level)
    packet_type = first >> 4
    if packet_type == PUBLISH:
        return _decode_publish(first & 0x0F, buf, pos, end, level)
    if packet_type in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        packet_id, pos = _decode_identifier(buf, pos, end)
        acknowledgement = _BY_TYPE[packet_type]
        reason, properties = _decode_tail(acknowledgement, buf, pos, end, level)
        if packet_type == PUBACK:
            return Puback(packet_id, reason, properties=properties)
        if packet_type == PUBREC:
            return Pubrec(packet_id, reason, properties=properties)
        if packet_type == PUBREL:
            return Pubrel(packet_id, reason, properties=properties)
        return Pubcomp(packet_id, reason, properties=properties)
    if packet_type == CONNECT:
        return _decode_connect(buf, pos, end)
    if packet_type == SUBSCRIBE:
        return _decode_subscribe(buf, pos, end, level)
    if packet_type == CONNACK:
        return _decode_connack(buf, pos, end, level)
    if packet_type in (PINGREQ, PINGRESP):
        _at_end(_BY_TYPE[packet_type], pos, end)
        return Pingreq() if packet_type == PINGREQ else Pingresp()
    if packet_type == DISCONNECT:
        reason, properties = _decode_tail(Disconnect, buf, pos, end, level)
        return Disconnect(reason, properties=properties)
    if packet_type == AUTH:
        reason, properties = _decode_tail(Auth, buf, pos, end, level)
        return Auth(reason, properties=properties)
    packet_id, pos = _decode_identifier(buf, pos, end)
    properties = {}
    if level == MQTT_5:
        properties, pos = decode_properties(buf, pos, end, packet_type)
    if packet_type == UNSUBSCRIBE:
        return Unsubscribe(packet_id, _decode_filters(buf, pos, end), properties=properties)
    if packet_type == SUBACK:
        return Suback(packet_id, _decode_codes(Suback, buf, pos, end, level), properties=properties)
    if level == MQTT_5:
        return Unsuback(packet_id, _decode_codes(Unsuback, buf, pos, end, level), properties=properties)
    _at_end(Unsuback, pos, end)
    return Unsuback(packet_id, [])


__all__ = [
    "MAX_FILTERS",
    "MAX_LENGTH",
    "MQTT_3_1_1",
    "MQTT_5",
    "Auth",
    "Connack",
    "Connect",
    "Disconnect",
    "Packet",
    "Pingreq",
    "Pingresp",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Suback",
    "Subscribe",
    "Subscription",
    "Unsuback",
    "Unsubscribe",
    "Will",
    "check_header",
    "decode_packet",
]
