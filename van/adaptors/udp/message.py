"""Datagrams as AMQP messages: one is the data section of one message, and its properties say which flow it belongs to.

`reply-to` is where answers go, `correlation-id` which flow of that place it is. Messages of one flow differ in their
body alone, so what comes before it is made once (`head`) and recognised by its octets (`split`). Two subjects are for
connectors and listeners among themselves: `TAKEN` names the address where one connector has a flow, `LOST` says that
it has it no more.
"""

from __future__ import annotations

from typing import Final

from van.amqp.errors import DecodeError
from van.amqp.message import AmqpValue, Data, Message, MessageId, Properties
from van.routing.address import MAX_ADDRESS_LENGTH

# What a UDP datagram over IPv4 can hold, in octets: 65535 less the headers of IP and UDP (RFC 768, RFC 791).
MAX_DATAGRAM: Final = 65507
# The connector that has taken a flow says so: its reply-to is where further datagrams of the flow go.
TAKEN: Final = "van:udp-flow-taken"
# The connector whose address is the reply-to does not have this flow.
LOST: Final = "van:udp-flow-lost"
# Texts of a peer that are kept for each flow are no longer than this, in characters.
MAX_FLOW_ID: Final = 256

_SHORT: Final = tuple(b"\x00\x53\x75\xa0" + bytes((size,)) for size in range(256))
_LONG: Final = b"\x00\x53\x75\xb0"
_PROPERTIES: Final = b"\x00\x53\x73\xc0"
_DATA: Final = b"\x00\x53\x75"


class Envelope:
    """What a message says beside its datagram, which is None where its body is none.

    `flow_id` is the text of `correlation_id`, which answers are to have as it is.
    """

    __slots__ = ("correlation_id", "datagram", "flow_id", "reply_to", "subject")

    def __init__(self, properties: Properties, datagram: bytes | None) -> None:
        self.subject = properties.subject or ""
        self.reply_to = properties.reply_to or ""
        # Who asks by message-id alone wants that back (3.2.4).
        self.correlation_id: MessageId | None = properties.correlation_id
        if self.correlation_id is None:
            self.correlation_id = properties.message_id
        self.flow_id = "" if self.correlation_id is None else str(self.correlation_id)
        self.datagram = datagram


def head(to: str, reply_to: str, correlation_id: MessageId | None) -> bytes:
    """What comes before the body in all messages of a flow."""
    properties = Properties(to=to, reply_to=reply_to or None, correlation_id=correlation_id)
    return Message(properties=properties).encode()


def body(datagram: bytes) -> bytes:
    """The data section that holds a datagram."""
    size = len(datagram)
    if size < 256:
        return _SHORT[size] + datagram
    return _LONG + size.to_bytes(4, "big") + datagram


def notice(subject: str, to: str, reply_to: str, correlation_id: MessageId | None) -> bytes:
    """A message without a datagram, about a flow."""
    properties = Properties(to=to, subject=subject, reply_to=reply_to, correlation_id=correlation_id)
    return Message(properties=properties, body=AmqpValue(None)).encode()


def split(payload: bytes) -> tuple[bytes, bytes] | None:
    """Head and datagram of a message that is written as `head` and `body` do it; None of any other."""
    if payload[:4] != _PROPERTIES or len(payload) < 6:
        return None
    end = 5 + payload[4]
    if payload[end : end + 3] != _DATA:
        return None
    code = payload[end + 3 : end + 4]
    if code == b"\xa0":
        start = end + 5
    elif code == b"\xb0":
        start = end + 8
    else:
        return None
    # What is cut within its size has no datagram, whatever the octets of it that are there.
    if len(payload) < start or len(payload) - start != int.from_bytes(payload[end + 4 : start], "big"):
        return None
    return payload[:end], payload[start:]


def read(payload: bytes) -> Envelope:
    """What any message says. Octets and text as its body are a datagram, several data sections are one.

    Raises DecodeError.
    """
    message = Message.decode(payload)
    properties = message.properties
    if properties is None:
        properties = Properties()
    found = message.body
    datagram: bytes | None = None
    if type(found) is Data:
        datagram = bytes(found.value)
    elif isinstance(found, list):
        if all(type(section) is Data for section in found):
            datagram = b"".join([bytes(section.value) for section in found if isinstance(section, Data)])
    elif type(found) is AmqpValue:
        value = found.value
        if isinstance(value, (bytes, bytearray, memoryview)):
            datagram = bytes(value)
        elif isinstance(value, str):
            datagram = value.encode()
    envelope = Envelope(properties, datagram)
    if len(envelope.flow_id) > MAX_FLOW_ID or len(envelope.reply_to) > MAX_ADDRESS_LENGTH:
        raise DecodeError("reply-to or correlation-id are longer than is kept for a flow")
    return envelope
