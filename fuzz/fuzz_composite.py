"""Any octets are a composite or raise DecodeError; a composite is written so that it is read again as an equal one.

The same for the bodies of AMQP and SASL frames, which are composites of a few kinds.
"""

from __future__ import annotations

from harness import main

from van.amqp.codec import encode_value
from van.amqp.composite import Composite, decode_composite
from van.amqp.errors import AmqpError
from van.amqp.performatives import decode_performative
from van.amqp.sasl_frames import decode_sasl_frame
from van.amqp.types import Described

DECODER = {
    "van.amqp.composite": r"^_?(decode|as_composite|from_list|composite_class|wrong_type)",
    "van.amqp.performatives": "^decode",
    "van.amqp.sasl_frames": "^decode",
}

PLANTED = (
    # More fields than there are in the table.
    (
        "van.amqp.composite",
        "    if len(values) > len(fields):",
        "    if len(values) > len(fields) + 1:",
    ),
    # Fields of the wrong type.
    (
        "van.amqp.composite",
        "    if type(value) not in field_type.classes:\n        raise _wrong_type(cls, field, value)\n",
        "",
    ),
    # A described value that is no list.
    (
        "van.amqp.composite",
        "    if type(described.value) is not list:",
        "    if type(described.value) is None:",
    ),
)


def one_input(data: bytes) -> None:
    try:
        decoded, end = decode_composite(data, 0, len(data))
    except AmqpError:
        decoded = None
        end = 0
    for decoder in (decode_performative, decode_sasl_frame):
        try:
            body, body_end = decoder(data, 0, len(data))
        except AmqpError:
            continue
        assert body == decoded or (isinstance(decoded, Composite) and body.encode() == decoded.encode())
        assert body_end == end
    if isinstance(decoded, Composite):
        encoded = decoded.encode()
        assert len(decoded.FIELDS) == len(type(decoded).FIELDS)
        for field in decoded.FIELDS:
            value = getattr(decoded, field.attribute)
            assert value is not None or not field.mandatory
        again, _ = decode_composite(encoded, 0, len(encoded))
        assert isinstance(again, Composite)
        # Not a number is unequal to itself; its octets are not.
        assert again == decoded or again.encode() == encoded
        # One composite has one shortest encoding: what was cut off was said again by nobody.
        described = bytearray()
        encode_value(decoded, described)
        assert described == encoded
        _count_fields(data, end, decoded)
    elif decoded is not None:
        assert isinstance(decoded, Described)
    repr(decoded)


def _count_fields(data: bytes, end: int, decoded: Composite) -> None:
    """The list may not have more items than the table has fields."""
    from van.amqp.codec import decode_value

    described, _ = decode_value(data, 0, end)
    assert isinstance(described, Described)
    assert isinstance(described.value, list)
    assert len(described.value) <= len(decoded.FIELDS)


main(__name__)
