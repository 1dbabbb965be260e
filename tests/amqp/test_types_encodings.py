"""Every encoding of every primitive type, octet by octet (1.6), and which of them we write."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given

from tests.amqp.strategies import identical, octets, primitives, values
from van.amqp.codec import EncodeError, decode_value, encode_value, skip_value
from van.amqp.errors import DecodeError, ErrorCondition
from van.amqp.types import (
    Byte,
    Char,
    Decimal32,
    Decimal64,
    Decimal128,
    Described,
    Float,
    Int,
    MapPairs,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)

# (octets, value, whether this is the encoding that we choose)
ENCODINGS: list[tuple[str, object, bool]] = [
    ("40", None, True),
    ("41", True, True),
    ("42", False, True),
    ("56 01", True, False),
    ("56 00", False, False),
    ("50 00", UByte(0), True),
    ("50 ff", UByte(255), True),
    ("60 0000", UShort(0), True),
    ("60 ffff", UShort(65535), True),
    ("43", UInt(0), True),
    ("52 00", UInt(0), False),
    ("52 ff", UInt(255), True),
    ("70 00000000", UInt(0), False),
    ("70 00000100", UInt(256), True),
    ("70 ffffffff", UInt(4294967295), True),
    ("44", ULong(0), True),
    ("53 00", ULong(0), False),
    ("53 ff", ULong(255), True),
    ("80 0000000000000001", ULong(1), False),
    ("80 0000000000000100", ULong(256), True),
    ("80 ffffffffffffffff", ULong(18446744073709551615), True),
    ("51 80", Byte(-128), True),
    ("51 7f", Byte(127), True),
    ("61 8000", Short(-32768), True),
    ("61 7fff", Short(32767), True),
    ("54 80", Int(-128), True),
    ("54 7f", Int(127), True),
    ("71 ffffffff", Int(-1), False),
    ("71 00000080", Int(128), True),
    ("71 ffffff7f", Int(-129), True),
    ("71 80000000", Int(-2147483648), True),
    ("55 ff", -1, True),
    ("55 7f", 127, True),
    ("81 0000000000000001", 1, False),
    ("81 0000000000000080", 128, True),
    ("81 ffffffffffffff7f", -129, True),
    ("81 8000000000000000", -9223372036854775808, True),
    ("72 3e000000", Float(0.125), True),
    ("72 80000000", Float(-0.0), True),
    ("72 7f800000", Float("inf"), True),
    ("82 3fc0000000000000", 0.125, True),
    ("82 fff0000000000000", float("-inf"), True),
    ("74 01020304", Decimal32(b"\1\2\3\4"), True),
    ("84 0102030405060708", Decimal64(b"\1\2\3\4\5\6\7\x08"), True),
    ("94 000102030405060708090a0b0c0d0e0f", Decimal128(bytes(range(16))), True),
    ("73 00000041", Char("A"), True),
    ("73 0010ffff", Char("\U0010ffff"), True),
    ("83 00000000000003e8", Timestamp(1000), True),
    ("83 ffffffffffffffff", Timestamp(-1), True),
    ("98 000102030405060708090a0b0c0d0e0f", uuid.UUID(bytes=bytes(range(16))), True),
    ("a0 00", b"", True),
    ("a0 02 00ff", b"\0\xff", True),
    ("b0 00000002 00ff", b"\0\xff", False),
    ("b0 00000100 " + "62" * 256, b"b" * 256, True),
    ("a1 00", "", True),
    ("a1 03 e282ac", "€", True),
    ("b1 00000003 e282ac", "€", False),
    ("b1 00000100 " + "61" * 256, "a" * 256, True),
    ("a3 00", Symbol(""), True),
    ("a3 01 78", Symbol("x"), True),
    ("b3 00000001 78", Symbol("x"), False),
    ("b3 00000100 " + "73" * 256, Symbol("s" * 256), True),
    ("45", [], True),
    ("c0 01 00", [], False),
    ("d0 00000004 00000000", [], False),
    ("c0 03 02 40 41", [None, True], True),
    ("d0 00000006 00000002 40 41", [None, True], False),
    ("c0 04 01 c0 01 00", [[]], False),
    ("c1 01 00", {}, True),
    ("d1 00000004 00000000", {}, False),
    ("c1 04 02 a1 00 40", {"": None}, True),
    ("d1 00000007 00000002 a1 00 40", {"": None}, False),
    ("00 53 24 45", Described(ULong(0x24), []), True),
    ("00 80 0000000000000024 45", Described(ULong(0x24), []), False),
    ("00 a3 01 78 00 41 42", Described(Symbol("x"), Described(True, False)), True),
    ("00 00 41 42 40", Described(Described(True, False), None), True),
]
CUT_SHORT = [raw for raw, _, _ in ENCODINGS if len(bytes.fromhex(raw)) > 1]

BAD = {
    "unknown constructor": "46",
    "unknown constructor of a fixed width": "57 00",
    "constructors above the arrays": "ff 00",
    "boolean beyond one": "56 02",
    "char beyond Unicode": "73 00110000",
    "char that is half a pair": "73 0000d800",
    "string that is no UTF-8": "a1 01 ff",
    "long string that is no UTF-8": "b1 00000001 ff",
    "string with half a pair": "a1 03 eda080",
    "symbol that is no ASCII": "a3 02 c3a4",
    "long symbol that is no ASCII": "b3 00000002 c3a4",
    "list of size 0": "c0 00 00",
    "list of size below its count": "d0 00000003 00000000",
    "list longer than its items": "c0 02 00 40",
    "list shorter than its items": "c0 02 02 40 40",
    "string in a list that leaves it": "c0 03 01 a1 02 6161",
    "string in a list without a size": "c0 02 01 a1 40",
    "list with an item too few": "c0 04 02 a1 01 61",
    "list whose count does not fit": "d0 00000005 ffffffff 40",
    "map with a key alone": "c1 02 01 40",
    "described without a value": "00 41",
    "described without anything": "00",
}


@pytest.mark.parametrize(("raw", "value", "chosen"), ENCODINGS, ids=[raw[:20] for raw, _, _ in ENCODINGS])
def test_an_encoding_is_decoded_and_the_shortest_is_written(raw: str, value: object, chosen: bool) -> None:
    encoded = bytes.fromhex(raw)
    decoded, end = decode_value(b"\xee" + encoded + b"\xee", 1, 1 + len(encoded))
    assert end == 1 + len(encoded)
    assert identical(decoded, value)
    assert skip_value(b"\xee" + encoded + b"\xee", 1, len(encoded) + 2) == 1 + len(encoded)
    if chosen:
        assert octets(value) == encoded
    else:
        assert len(octets(value)) < len(encoded)


@pytest.mark.parametrize("raw", CUT_SHORT, ids=[raw[:20] for raw in CUT_SHORT])
def test_an_encoding_cut_at_any_octet_is_a_decode_error(raw: str) -> None:
    encoded = bytes.fromhex(raw)
    for size in range(len(encoded)):
        # What lies behind the end must not be read.
        for buf in (encoded[:size], encoded):
            with pytest.raises(DecodeError) as caught:
                decode_value(buf, 0, size)
            assert caught.value.condition == ErrorCondition.DECODE_ERROR
            assert skip_value(buf, 0, size) > size


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_octets_that_mean_nothing_are_a_decode_error(raw: str) -> None:
    with pytest.raises(DecodeError):
        decode_value(bytes.fromhex(raw), 0, len(bytes.fromhex(raw)))


@pytest.mark.parametrize("code", range(1, 256))
def test_skipping_agrees_with_decoding_about_unknown_constructors(code: int) -> None:
    buf = bytes((code,)) + bytes(32)
    try:
        decode_value(buf, 0, len(buf))
    except DecodeError as error:
        unknown = "unknown constructor" in str(error) and "octet 0" in str(error)
    else:
        unknown = False
    if unknown:
        with pytest.raises(DecodeError, match="unknown constructor"):
            skip_value(buf, 0, len(buf))
    else:
        assert skip_value(buf, 0, len(buf)) <= len(buf)


@given(values())
def test_any_value_survives_a_way_out_and_in(value: object) -> None:
    encoded = octets(value)
    decoded, end = decode_value(encoded, 0, len(encoded))
    assert end == len(encoded) == skip_value(encoded, 0, len(encoded))
    assert identical(decoded, value)


@given(primitives)
def test_a_number_or_text_compares_equal_to_the_python_value_that_it_stands_for(value: object) -> None:
    decoded, _ = decode_value(octets(value), 0, len(octets(value)))
    assert decoded == value
    assert repr(decoded) == repr(value)


def test_sized_numbers_show_their_type_to_developers_and_their_number_in_text() -> None:
    assert repr(UInt(5)) == "UInt(5)"
    assert f"{UInt(5)} {Float(0.5)} {UByte(7):03d}" == "5 0.5 007"
    assert repr(Float(0.5)) == "Float(0.5)"
    assert repr(Decimal32(b"abcd")) == "Decimal32(b'abcd')"
    assert repr(Decimal64(b"")) == "Decimal64(b'')"
    assert repr(Decimal128(b"")) == "Decimal128(b'')"


@pytest.mark.parametrize(
    "value",
    [
        UByte(256),
        UByte(-1),
        Byte(128),
        UShort(65536),
        Short(-32769),
        UInt(-1),
        UInt(1 << 32),
        ULong(-1),
        ULong(1 << 64),
        Int(1 << 31),
        1 << 63,
        Timestamp(1 << 63),
        Float(1e300),
        Decimal32(b"123"),
        Decimal64(b"123"),
        Decimal128(b"123"),
        Char(""),
        Char("ab"),
        Char("\ud800"),
        "\ud800",
        Symbol("ä"),
        pytest.param(object(), id="an object"),
        {1, 2},
        1j,
    ],
    ids=repr,
)
def test_what_has_no_encoding_is_an_encode_error(value: object) -> None:
    with pytest.raises(EncodeError):
        encode_value(value, bytearray())
    with pytest.raises(EncodeError):
        encode_value([value], bytearray())
    with pytest.raises(EncodeError):
        encode_value({"key": value}, bytearray())


class Colour(str):
    """Somebody's own string."""

    __slots__ = ()


class Level(int):
    """Somebody's own number."""


class Row(dict[str, object]):
    """Somebody's own mapping."""


def test_subclasses_of_others_count_as_their_base() -> None:
    assert octets(Colour("green")) == octets("green")
    assert octets(Level(7)) == octets(7)
    assert octets(Row(a=1)) == octets({"a": 1})


class Endless(bytes):
    """More octets than four can count, for a machine that has not so many."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1 << 32


def test_more_octets_than_a_size_can_say_are_an_encode_error() -> None:
    with pytest.raises(EncodeError, match="too many"):
        encode_value(Endless(), bytearray())


def test_tuples_are_lists_and_buffers_are_binary() -> None:
    assert octets((1, "a")) == octets([1, "a"])
    assert octets(bytearray(b"ab")) == octets(memoryview(b"ab")) == octets(b"ab")


def test_pairs_can_be_told_from_lists_by_people() -> None:
    assert repr(MapPairs([(1, 2)])) == "MapPairs([(1, 2)])"
    assert repr(Described(Symbol("a"), Char("b"))) == "Described(Symbol('a'), Char('b'))"


def test_described_values_compare_by_what_they_hold() -> None:
    assert Described(1, [2]) == Described(1, [2]) != Described(1, [3])
    assert Described(1, 2) != 2
    assert hash(Described(1, "a")) == hash(Described(1, "a"))
