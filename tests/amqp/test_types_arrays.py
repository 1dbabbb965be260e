"""Arrays (1.6.24): of every constructor, of arrays, of described values, of compounds, of elements without octets."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.amqp.strategies import arrays, identical, octets, primitives, wide_count
from van.amqp.codec import MAX_ZERO_WIDTH_ELEMENTS, EncodeError, decode_value
from van.amqp.errors import DecodeError
from van.amqp.types import Array, Decimal32, Described, Int, MapPairs, Symbol, UInt, ULong


def decode(raw: str) -> object:
    encoded = bytes.fromhex(raw)
    value, end = decode_value(encoded, 0, len(encoded))
    assert end == len(encoded)
    return value


def test_numbers_share_one_constructor_which_is_kept() -> None:
    array = decode("e0 0a 02 71 00000001 ffffffff")
    assert array == [Int(1), Int(-1)]
    assert isinstance(array, Array)
    assert array.code == 0x71
    assert octets(array) == bytes.fromhex("e0 0a 02 71 00000001 ffffffff")


def test_a_wide_array_is_written_narrow_where_it_fits() -> None:
    assert octets(decode("f0 00000006 00000001 54 ff")) == bytes.fromhex("e0 03 01 54 ff")


def test_a_big_array_is_written_wide() -> None:
    array = Array(0x71, [Int(n) for n in range(100)])
    assert octets(array)[:10] == bytes.fromhex("f0 00000195 00000064 71")
    assert octets(Array(0x41, [True] * 256)) == bytes.fromhex("f0 00000005 00000100 41")


def test_an_empty_array_keeps_its_constructor() -> None:
    array = decode("e0 02 00 b1")
    assert array == []
    assert octets(array) == bytes.fromhex("e0 02 00 b1")


def test_the_descriptor_of_the_elements_is_kept() -> None:
    raw = "e0 08 02 00 a3 01 78 54 01 02"
    array = decode(raw)
    assert isinstance(array, Array)
    assert array.descriptors == (Symbol("x"),)
    assert array == [Int(1), Int(2)]
    assert octets(array) == bytes.fromhex(raw)
    assert repr(array) == "Array(0x54, [Int(1), Int(2)], (Symbol('x'),))"


def test_descriptors_may_stand_before_descriptors() -> None:
    raw = "e0 08 01 00 53 01 00 53 02 41"
    array = decode(raw)
    assert isinstance(array, Array)
    assert array.descriptors == (ULong(1), ULong(2))
    assert octets(array) == bytes.fromhex(raw)


def test_arrays_of_arrays_keep_each_constructor() -> None:
    raw = "e0 0c 02 e0 03 01 54 01 05 02 a1 01 61 00"
    array = decode(raw)
    assert isinstance(array, Array)
    assert repr(array) == "Array(0xe0, [Array(0x54, [Int(1)]), Array(0xa1, ['a', ''])])"
    assert octets(array) == bytes.fromhex(raw)


def test_arrays_of_lists_and_of_maps() -> None:
    lists = decode("e0 08 02 c0 02 01 41 02 01 40")
    assert lists == [[True], [None]]
    assert octets(lists) == bytes.fromhex("e0 08 02 c0 02 01 41 02 01 40")
    maps = decode("e0 06 01 c1 03 02 41 42")
    assert maps == [{True: False}]
    assert octets(maps) == bytes.fromhex("e0 06 01 c1 03 02 41 42")


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (Array(0x52, [UInt(300)]), 0x70),
        (Array(0x43, [UInt(1)]), 0x70),
        (Array(0x44, [ULong(1)]), 0x80),
        (Array(0x53, [ULong(256)]), 0x80),
        (Array(0x54, [Int(128)]), 0x71),
        (Array(0x55, [-129]), 0x81),
        (Array(0x41, [True, False]), 0x56),
        (Array(0x42, [True, False]), 0x56),
        (Array(0xA0, [b"b" * 256]), 0xB0),
        (Array(0xA1, ["a" * 256]), 0xB1),
        (Array(0xA3, [Symbol("s" * 256), Symbol("t")]), 0xB3),
        (Array(0x45, [[], [1]]), 0xC0),
        (Array(0xC0, [[b"b" * 256]]), 0xD0),
        (Array(0xC0, [[None] * 256]), 0xD0),
        (Array(0xC1, [{"a": b"b" * 256}]), 0xD1),
        (Array(0xE0, [Array(0x54, [Int(0)] * 256)]), 0xF0),
    ],
    ids=repr,
)
def test_elements_that_outgrow_their_constructor_get_the_wide_one(array: Array, code: int) -> None:
    encoded = octets(array)
    decoded, _ = decode_value(encoded, 0, len(encoded))
    assert isinstance(decoded, Array)
    assert decoded.code == code
    assert decoded == array


def test_plain_python_values_do_as_elements() -> None:
    assert octets(Array(0x70, [1])) == octets(Array(0x70, [UInt(1)]))
    assert octets(Array(0xA3, ["a"])) == octets(Array(0xA3, [Symbol("a")]))
    assert octets(Array(0xC0, [(1,)])) == octets(Array(0xC0, [[1]]))
    assert octets(Array(0xA0, [bytearray(b"a")])) == octets(Array(0xA0, [b"a"]))


@pytest.mark.parametrize(
    "array",
    [
        Array(0x00, [1]),
        Array(0x46, [1]),
        Array(0x40, [1]),
        Array(0x41, [1]),
        Array(0x43, [False]),
        Array(0x70, ["a"]),
        Array(0x70, [True]),
        Array(0x70, [1 << 32]),
        Array(0x72, [1e300]),
        Array(0x82, [1]),
        Array(0x56, [1]),
        Array(0x73, ["ab"]),
        Array(0x73, [1]),
        Array(0x74, [Decimal32(b"123")]),
        Array(0x74, [1]),
        Array(0x98, [b"0123456789abcdef"]),
        Array(0xA0, ["a"]),
        Array(0xA1, [b"a"]),
        Array(0xA3, ["ä"]),
        Array(0x45, [0]),
        Array(0x45, [1]),
        Array(0x45, [MapPairs([(1, 2)])]),
        Array(0xC0, [{}]),
        Array(0xC0, [Array(0x40)]),
        Array(0xC1, [[]]),
        Array(0xE0, [[1]]),
    ],
    ids=repr,
)
def test_elements_of_another_type_are_an_encode_error(array: Array) -> None:
    with pytest.raises(EncodeError):
        octets(array)


@given(arrays(primitives))
def test_any_array_survives_a_way_out_and_in(array: Array) -> None:
    encoded = octets(array)
    decoded, end = decode_value(encoded, 0, len(encoded))
    assert end == len(encoded)
    assert isinstance(decoded, Array)
    assert decoded.descriptors == array.descriptors
    assert identical(decoded, array)


@given(arrays(primitives))
def test_any_array_cut_at_any_octet_is_a_decode_error(array: Array) -> None:
    encoded = octets(array)
    for size in range(min(len(encoded), 64)):
        with pytest.raises(DecodeError):
            decode_value(encoded, 0, size)


@pytest.mark.parametrize(
    "raw",
    [
        "e0 01 00",  # no constructor
        "e0 02 00 46",  # an unknown one
        "e0 02 01 ff",
        "e0 03 01 00 41",  # a descriptor and nothing described
        "e0 02 01 00",  # not even a descriptor
        "e0 03 02 54 01",  # an element too few
        "e0 04 01 54 01 02",  # one too many
        "e0 05 01 71 000000",  # cut inside its size
        "f0 00000006 ffffffff 54 01",  # a count that cannot be
        "e0 04 01 c0 05 00",  # a list that leaves the array
    ],
)
def test_arrays_whose_size_count_and_elements_disagree_are_decode_errors(raw: str) -> None:
    encoded = bytes.fromhex(raw)
    with pytest.raises(DecodeError):
        decode_value(encoded, 0, len(encoded))


@pytest.mark.parametrize("code", [0x40, 0x41, 0x42, 0x43, 0x44, 0x45])
def test_elements_without_octets_are_made_up_to_a_limit(code: int) -> None:
    allowed = bytes.fromhex("f0 00000005") + MAX_ZERO_WIDTH_ELEMENTS.to_bytes(4, "big") + bytes((code,))
    array, _ = decode_value(allowed, 0, len(allowed))
    assert isinstance(array, Array)
    assert len(array) == MAX_ZERO_WIDTH_ELEMENTS
    refused = bytes.fromhex("f0 00000005 ffffffff") + bytes((code,))
    with pytest.raises(DecodeError, match="without octets"):
        decode_value(refused, 0, len(refused))


def test_elements_without_octets_are_counted_across_everything_decoded_at_once() -> None:
    quarter = bytes.fromhex("f0 00000005") + (MAX_ZERO_WIDTH_ELEMENTS // 4).to_bytes(4, "big") + b"\x41"
    four = wide_count(0xD0, [quarter] * 4)
    decode_value(four, 0, len(four))
    five = wide_count(0xD0, [quarter] * 5)
    with pytest.raises(DecodeError, match="without octets"):
        decode_value(five, 0, len(five))
    # Each call counts for itself.
    decode_value(four, 0, len(four))


def test_lists_without_octets_are_lists_of_their_own() -> None:
    array = decode("e0 02 02 45")
    assert isinstance(array, Array)
    assert array[0] == []
    assert array[0] is not array[1]


def test_an_array_of_described_lists_is_not_a_list_of_described() -> None:
    array = decode("e0 05 02 00 53 24 45")
    assert isinstance(array, Array)
    assert not any(isinstance(item, Described) for item in array)
