"""Values that another implementation wrote: Proton's interoperability data, deliberately not the shortest encodings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.amqp.strategies import identical, octets
from van.amqp.codec import decode_value
from van.amqp.message import AmqpValue, Header, Message, Properties
from van.amqp.types import Array, Described, Float, Int, Short, Symbol, UByte, UInt, ULong, UShort

DATA = Path(__file__).parent / "data" / "values"

EXPECTED: dict[str, list[object]] = {
    "null": [None],
    "primitives": [
        True,
        False,
        UByte(42),
        UShort(42),
        Short(-42),
        UInt(12345),
        Int(-12345),
        ULong(12345),
        -12345,
        Float(0.125),
        0.125,
    ],
    "strings": [b"abc\0defg", "abcdefg", Symbol("abcdefg"), b"", "", Symbol("")],
    "described": [Described(Symbol("foo-descriptor"), "foo-value"), Described(Int(12), Int(13))],
    "described_array": [Array(0x71, [Int(n) for n in range(10)], (Symbol("int-array"),))],
    "arrays": [Array(0x71, [Int(n) for n in range(100)]), Array(0xB1, ["a", "b", "c"]), Array(0x71)],
    "lists": [[Int(32), "foo", True], []],
    "maps": [
        {"three": Int(3), "two": Int(2), "one": Int(1)},
        {Int(1): "one", Int(2): "two", Int(3): "three"},
        {},
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_values_of_proton_are_read_as_they_are_meant(name: str) -> None:
    raw = (DATA / f"{name}.amqp").read_bytes()
    pos = 0
    for expected in EXPECTED[name]:
        value, pos = decode_value(raw, pos, len(raw))
        assert identical(value, expected)
        again, _ = decode_value(octets(value), 0, len(octets(value)))
        assert identical(again, value)
    assert pos == len(raw)


def test_a_message_of_proton_is_read_as_it_is_meant() -> None:
    message = Message.decode((DATA / "message.amqp").read_bytes())
    assert message.header == Header(durable=False, priority=4, first_acquirer=False, delivery_count=0)
    assert message.properties == Properties(absolute_expiry_time=0, creation_time=0, group_sequence=0)
    assert message.body == AmqpValue(b"\xa1\x05hello")
    assert Message.decode(message.encode()) == message
