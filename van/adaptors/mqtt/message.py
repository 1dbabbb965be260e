"""What an MQTT message is in AMQP, and the other way round.

| MQTT | AMQP |
|---|---|
| topic | `to` of the properties (the address it is sent to) and `subject` |
| payload | one data section; of UTF-8 text (payload format indicator 1) an amqp-value of a string |
| QoS 1, 2 | unsettled, `durable` |
| message expiry interval | `ttl` |
| content type, response topic, correlation data | content-type, reply-to (an address), correlation-id |
| user properties | application-properties |
| retain, QoS 2, user properties of one name | message annotations of ours, `x-opt-mqtt-…` |
"""

from __future__ import annotations

import uuid
from typing import Final

from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt.reason import PAYLOAD_FORMAT_INVALID, MqttError
from van.adaptors.mqtt.topics import Addresses, check_topic
from van.amqp.delivery_state import Rejected
from van.amqp.errors import DecodeError, ErrorCondition
from van.amqp.message import AmqpValue, Body, Data, Header, Message, Properties
from van.amqp.performatives import Error
from van.amqp.types import Symbol

RETAIN: Final = Symbol("x-opt-mqtt-retain")
QOS: Final = Symbol("x-opt-mqtt-qos")
# The topic of a message that was sent to its address by AMQP, for those who receive by another.
TOPIC: Final = Symbol("x-opt-mqtt-topic")
# Where a name comes twice, in a map as AMQP has it something would be lost: all names and values in turn.
USER_PROPERTIES: Final = Symbol("x-opt-mqtt-user-properties")
# Where a content type is no symbol.
CONTENT_TYPE: Final = Symbol("x-opt-mqtt-content-type")

# The longest ttl that a header can say, in milliseconds.
MAX_TTL: Final = 0xFFFFFFFF


class MqttMessage:
    """A message as MQTT has it. `qos` 0 where the network did not say; `expiry` in seconds, None for never."""

    __slots__ = ("expiry", "payload", "properties", "qos", "retain", "topic")

    def __init__(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: p.Properties | None = None,
        expiry: float | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties: p.Properties = properties if properties is not None else {}
        self.expiry = expiry


def amqp_message(message: MqttMessage, addresses: Addresses, *, says_qos: bool = False) -> Message:
    """The AMQP message of an MQTT one; `to` is left open. says_qos: it says its QoS whatever that is.

    Raises MqttError for a payload that is not what it says.
    """
    properties = message.properties
    annotations: dict[object, object] = {}
    ttl = None
    expiry = properties.get(p.MESSAGE_EXPIRY_INTERVAL)
    if isinstance(expiry, int):
        ttl = min(expiry * 1000, MAX_TTL)
    header = None
    if message.qos or ttl is not None:
        header = Header(durable=True if message.qos else None, ttl=ttl)
    if message.retain:
        annotations[RETAIN] = True
    if message.qos == 2 or says_qos:
        annotations[QOS] = message.qos
    content_type = p.text(properties, p.CONTENT_TYPE)
    if content_type is not None and not content_type.isascii():
        annotations[CONTENT_TYPE] = content_type
        content_type = None
    response = p.text(properties, p.RESPONSE_TOPIC)
    correlation = properties.get(p.CORRELATION_DATA)
    application_properties: dict[str, object] | None = None
    pairs = properties.get(p.USER_PROPERTY)
    if isinstance(pairs, list):
        application_properties = {}
        for pair in pairs:
            assert isinstance(pair, tuple)
            application_properties[str(pair[0])] = pair[1]
        if len(application_properties) < len(pairs):
            annotations[USER_PROPERTIES] = [text for pair in pairs for text in pair]
    body: Body = Data(message.payload)
    if properties.get(p.PAYLOAD_FORMAT_INDICATOR) == 1:
        try:
            body = AmqpValue(message.payload.decode())
        except UnicodeDecodeError:
            raise MqttError(PAYLOAD_FORMAT_INVALID, "a payload that is not UTF-8 as it says") from None
    return Message(
        header=header,
        message_annotations=annotations or None,
        properties=Properties(
            subject=message.topic,
            reply_to=addresses.of(response) if response is not None else None,
            correlation_id=correlation if isinstance(correlation, bytes) else None,
            content_type=content_type,
        ),
        application_properties=application_properties,
        body=body,
    )


def mqtt_message(payload: bytes, addresses: Addresses, topic: str) -> MqttMessage:
    """The MQTT message of an AMQP one. topic: that of the address it came by, empty where it has to say its own.

    `qos` is 1, or 2 where the message says so: only its delivery tells of 0. Raises DecodeError for what is no message,
    MqttError for one that has no topic.
    """
    message = Message.decode(payload)
    properties: p.Properties = {}
    topic = topic or topic_of(message, addresses)
    theirs = message.properties
    if theirs is not None:
        content_type = theirs.content_type
        if content_type is not None and fits(content_type):
            properties[p.CONTENT_TYPE] = str(content_type)
        if theirs.reply_to:
            response = addresses.topic(theirs.reply_to)
            if _is_topic(response):
                properties[p.RESPONSE_TOPIC] = response
        correlation = _correlation(theirs.correlation_id)
        if correlation is not None:
            properties[p.CORRELATION_DATA] = correlation
    check_topic(topic)
    result = MqttMessage(topic, b"", qos=1, properties=properties)
    result.payload = _payload(message.body, properties)
    annotations = message.message_annotations or {}
    result.retain = annotations.get(RETAIN) is True
    qos = annotations.get(QOS)
    if isinstance(qos, int) and 0 <= qos <= 2:
        result.qos = int(qos)
    written = annotations.get(CONTENT_TYPE)
    if isinstance(written, str) and fits(written):
        properties[p.CONTENT_TYPE] = written
    pairs = _pairs(annotations.get(USER_PROPERTIES), message.application_properties or {})
    if pairs:
        properties[p.USER_PROPERTY] = pairs
    header = message.header
    if header is not None and header.ttl is not None:
        result.expiry = header.ttl / 1000
    return result


def topic_of(message: Message, addresses: Addresses) -> str:
    """The topic that a message says it has, empty where it says none; it may be no topic name."""
    annotated = (message.message_annotations or {}).get(TOPIC)
    if isinstance(annotated, str):
        return annotated
    properties = message.properties
    if properties is None:
        return ""
    if properties.subject:
        return properties.subject
    return addresses.topic(properties.to) if properties.to else ""


def fits(text: str) -> bool:
    """Whether a text can be a string of MQTT (1.5.4)."""
    return "\0" not in text and len(text.encode()) <= p.MAX_LENGTH


def _is_topic(topic: str) -> bool:
    try:
        check_topic(topic)
    except MqttError:
        return False
    return True


def _payload(body: object, properties: p.Properties) -> bytes:
    """The octets of a body. Raises DecodeError for one that has none."""
    if body is None:
        return b""
    if isinstance(body, Data):
        return body.value
    if isinstance(body, AmqpValue):
        value = body.value
        if isinstance(value, str):
            properties[p.PAYLOAD_FORMAT_INDICATOR] = 1
            return value.encode()
        if isinstance(value, bytes):
            return value
        if value is None:
            return b""
    elif isinstance(body, list) and isinstance(body[0], Data):
        return b"".join(part.value for part in body)
    raise DecodeError("a body that is neither octets nor text")


def _correlation(value: object) -> bytes | None:
    """A correlation-id as correlation data."""
    octets = None
    if isinstance(value, bytes):
        octets = value
    elif isinstance(value, uuid.UUID):
        octets = value.bytes
    elif isinstance(value, (str, int)):
        octets = str(value).encode()
    return octets if octets is not None and len(octets) <= p.MAX_LENGTH else None


def _pairs(listed: object, mapped: dict[str, object]) -> list[object]:
    """User properties: as they were listed, or else application properties that can be said as text."""
    pairs: list[object] = []
    if isinstance(listed, list) and len(listed) <= 2 * p.MAX_PROPERTIES and len(listed) % 2 == 0:
        texts = [text for text in listed if isinstance(text, str) and fits(text)]
        if len(texts) == len(listed):
            return list(zip(texts[::2], texts[1::2], strict=True))
    for name, value in mapped.items():
        text = value if isinstance(value, str) else ""
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, (int, float)):
            text = str(value)
        elif not isinstance(value, str):
            continue
        if fits(name) and fits(text) and len(pairs) < p.MAX_PROPERTIES:
            pairs.append((str(name), str(text)))
    return pairs


def rejection(condition: str, description: str) -> Rejected:
    """The outcome of a message that is not taken."""
    return Rejected(error=Error(condition=condition, description=description))


def not_a_message(description: str) -> Rejected:
    """The outcome of what MQTT has no words for."""
    return rejection(ErrorCondition.DECODE_ERROR, description)
