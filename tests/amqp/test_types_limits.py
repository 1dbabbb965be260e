"""What a peer can ask for with few octets: depth, counts and sizes are bounded before anything is made."""

from __future__ import annotations

import sys
import threading
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.amqp.strategies import octets, values, wide_count
from van.amqp import codec
from van.amqp.codec import MAX_COMPOUND_SIZE, MAX_COUNT, MAX_DEPTH, EncodeError, decode_value, encode_value, skip_value
from van.amqp.errors import DecodeError
from van.amqp.types import Array, Described, MapPairs


def nest(kind: str, levels: int) -> bytes:
    """Encode null within that many levels."""
    encoded = b"\x40"
    for _ in range(levels):
        if kind == "list":
            encoded = wide_count(0xD0, [encoded])
        elif kind == "map":
            encoded = wide_count(0xD1, [encoded, b"\x40"])
        elif kind == "map value":
            encoded = wide_count(0xD1, [b"\x40", encoded])
        elif kind == "described":
            encoded = b"\x00\x41" + encoded
        elif kind == "descriptor":
            encoded = b"\x00" + encoded + b"\x40"
        elif kind == "array":
            # The constructor of the elements and their octets stand apart.
            encoded = wide_count(0xF0, [encoded])
    return encoded


KINDS = ["list", "map", "map value", "described", "descriptor", "array"]


@pytest.mark.parametrize("kind", KINDS)
def test_values_nest_to_a_limit(kind: str) -> None:
    allowed = nest(kind, MAX_DEPTH)
    value, _ = decode_value(allowed, 0, len(allowed))
    encode_value(value, bytearray())
    for levels in (MAX_DEPTH + 1, 5000):
        with pytest.raises(DecodeError, match="nested deeper"):
            decode_value(nest(kind, levels), 0, len(nest(kind, levels)))


def test_descriptors_within_an_array_count_as_levels() -> None:
    def described(levels: int) -> bytes:
        return wide_count(0xF0, [b"\x00\x41" * levels + b"\x40"])

    decode_value(described(MAX_DEPTH - 1), 0, len(described(MAX_DEPTH - 1)))
    for levels in (MAX_DEPTH, 5000):
        with pytest.raises(DecodeError, match="nested deeper"):
            decode_value(described(levels), 0, len(described(levels)))


def test_skipping_makes_nothing_and_needs_no_limit() -> None:
    for kind in ("descriptor", "described"):
        deep = nest(kind, 5000)
        assert skip_value(deep, 0, len(deep)) == len(deep)
    assert skip_value(b"\x00" * 5000, 0, 5000) > 5000
    # Found by fuzzing: levels beside one another were counted as if they were inside one another.
    beside = b"\x00\x41" * (MAX_DEPTH // 2) + b"\x00\x00\x41\x42" + b"\x00\x41" * (MAX_DEPTH // 2 - 1) + b"\x40"
    assert decode_value(beside, 0, len(beside))[1] == skip_value(beside, 0, len(beside))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: [inner],
        lambda inner: {"key": inner},
        lambda inner: MapPairs([(inner, None)]),
        lambda inner: Described(1, inner),
        lambda inner: Described(inner, 1),
        lambda inner: Array(0xD0, [[inner]]),
        lambda inner: Array(0x41, [True], (inner,)),
    ],
)
def test_python_values_nested_too_deep_are_an_encode_error(wrap: object) -> None:
    assert callable(wrap)
    value: object = None
    for _ in range(500):
        value = wrap(value)
    with pytest.raises(EncodeError, match="nested deeper"):
        encode_value(value, bytearray())


def test_a_list_that_holds_itself_is_an_encode_error() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(EncodeError, match="nested deeper"):
        encode_value(endless, bytearray())


@pytest.mark.parametrize("kind", KINDS)
def test_the_deepest_value_takes_a_fraction_of_the_stack(kind: str) -> None:
    """`MAX_DEPTH` promises at most three frames a level."""
    encoded = nest(kind, MAX_DEPTH)
    failed: list[BaseException] = []

    def decode_on_a_small_stack() -> None:
        try:
            value, _ = decode_value(encoded, 0, len(encoded))
            encode_value(value, bytearray())
        except RecursionError as error:
            failed.append(error)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(3 * MAX_DEPTH + 40)
    try:
        thread = threading.Thread(target=decode_on_a_small_stack)
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(limit)
    assert not failed


def test_sizes_of_compounds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = wide_count(0xD0, [b"\x40"] * 100)
    for code in (0xD0, 0xD1, 0xF0):
        too_big = bytes((code,)) + (MAX_COMPOUND_SIZE + 1).to_bytes(4, "big") + bytes(MAX_COMPOUND_SIZE + 1)
        with pytest.raises(DecodeError, match="over the limit"):
            decode_value(too_big, 0, len(too_big))
    assert decode_value(encoded, 0, len(encoded))[0] == [None] * 100


def test_counts_are_bounded() -> None:
    for code, item in ((0xD0, b"\x40"), (0xF0, b"\x40")):
        prefix = b"\x50" if code == 0xF0 else b""
        contents = prefix + item * (MAX_COUNT + 1)
        encoded = (
            bytes((code,)) + (len(contents) + 4).to_bytes(4, "big") + (MAX_COUNT + 1).to_bytes(4, "big") + contents
        )
        with pytest.raises(DecodeError, match="count"):
            decode_value(encoded, 0, len(encoded))


@pytest.mark.parametrize(
    "item",
    ["40", "45", "44", "a100", "a000", "a300", "c10100", "e0020043", "e002ff45", "f000000005ffffffff41", "0041 45"],
)
def test_memory_is_in_proportion_to_the_octets(item: str) -> None:
    piece = bytes.fromhex(item)
    encoded = wide_count(0xD0, [piece] * (65536 // len(piece)))
    tracemalloc.start()
    try:
        decode_value(encoded, 0, len(encoded))
    except DecodeError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # Elements without octets may cost the same again, once per call.
    assert peak < 80 * (len(encoded) + codec.MAX_ZERO_WIDTH_ELEMENTS)


@given(st.binary(max_size=200))
@example(b"\xc0\x00\x00")
def test_any_octets_are_a_value_or_a_decode_error(garbage: bytes) -> None:
    try:
        value, end = decode_value(garbage, 0, len(garbage))
    except DecodeError:
        return
    assert end <= len(garbage)
    encoded = octets(value)
    again, _ = decode_value(encoded, 0, len(encoded))
    assert octets(again) == encoded


@given(values(), st.data())
def test_octets_of_a_value_with_some_changed_are_a_value_or_a_decode_error(value: object, data: st.DataObject) -> None:
    encoded = bytearray(octets(value))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded, end = decode_value(bytes(encoded), 0, len(encoded))
    except DecodeError:
        return
    # Only what it takes for one value is read, and skipping agrees about where it ends.
    assert end == skip_value(bytes(encoded), 0, len(encoded))
    octets(decoded)


def test_remembered_symbols_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_symbols", {})
    monkeypatch.setattr(codec, "MAX_REMEMBERED_SYMBOLS", 2)
    for text in (b"one", b"two", b"three", b"s" * (codec.MAX_REMEMBERED_SYMBOL_SIZE + 1)):
        assert codec.make_symbol(text) == text.decode()
    assert len(codec._symbols) == 2
