"""Any octets are a value or raise DecodeError; a value is written so that it is read the same.

Nothing behind the end counts. Skipping a value agrees with decoding it about where it ends.
"""

from __future__ import annotations

from harness import main

from van.amqp.codec import decode_value, encode_value, skip_value
from van.amqp.errors import AmqpError

DECODER = {"van.amqp.codec": r"^_?(decode|make|variable|compound[0-9]|text|skip|cut|too_deep)"}

PLANTED = (
    # Short text and binary may leave what holds them.
    (
        "van.amqp.codec",
        "    stop = start + buf[pos]\n    if stop > end:\n        raise cut_short(end)\n",
        "    stop = start + buf[pos]\n",
    ),
    # A uint may be cut.
    (
        "van.amqp.codec",
        "    if pos + 4 > end:\n        raise cut_short(end)\n    return UInt(",
        "    return UInt(",
    ),
    # The elements of arrays are not counted.
    (
        "van.amqp.codec",
        "        if made[0] > MAX_ZERO_WIDTH_ELEMENTS:",
        "        if made[0] > 1 << 40:",
    ),
)


def one_input(data: bytes) -> None:
    size = len(data)
    try:
        skipped = skip_value(data, 0, size)
    except AmqpError:
        skipped = 0
    try:
        value, end = decode_value(data, 0, size)
    except AmqpError:
        # What lies behind the end does not help.
        try:
            decode_value(data + b"\x40" * 16, 0, size)
        except AmqpError:
            return
        raise AssertionError("decoded with octets behind the end only") from None
    assert 0 < end <= size
    assert skipped == end
    out = bytearray()
    encode_value(value, out)
    encoded = bytes(out)
    assert len(encoded) <= end
    again, end = decode_value(encoded, 0, len(encoded))
    assert end == len(encoded)
    out = bytearray()
    encode_value(again, out)
    assert out == encoded
    repr(value)


main(__name__)
