"""Maps (1.6.23): a dict where a dict can hold them, pairs where keys cannot be hashed or are equal only in Python."""

from __future__ import annotations

import time
import uuid
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.amqp.strategies import identical, maps, octets, values, wide_count
from van.amqp.codec import MAX_GUESSABLE_KEYS, decode_value
from van.amqp.errors import DecodeError
from van.amqp.types import Array, Char, Decimal32, Described, Float, MapPairs, Symbol, UInt, ULong


def decode(encoded: bytes) -> object:
    value, end = decode_value(encoded, 0, len(encoded))
    assert end == len(encoded)
    return value


def encoded_map(*keys: object) -> bytes:
    return wide_count(0xD1, [part for key in keys for part in (octets(key), b"\x40")])


@pytest.mark.parametrize(
    "keys",
    [
        ("x", Symbol("x")),
        ("x", Char("x")),
        (1, UInt(1)),
        (1, True, ULong(1)),
        (0.0, -0.0),
        (1, 1.0),
        (0.5, Float(0.5)),
        (b"abcd", Decimal32(b"abcd")),
        ([], {}),
        (Array(0x40), [], MapPairs()),
        (Described(1, []), Described(2, [])),
        (nan,),
        (nan, "x"),
    ],
    ids=repr,
)
def test_keys_that_a_dict_cannot_tell_apart_or_hold_are_kept_as_pairs(keys: tuple[object, ...]) -> None:
    pairs = decode(encoded_map(*keys))
    assert type(pairs) is MapPairs
    assert len(pairs) == len(keys)
    assert identical(decode(octets(pairs)), pairs)


@pytest.mark.parametrize(
    "keys",
    [("x", "y"), (1, 2), (None, True, False), (uuid.UUID(int=1), b""), (0.5, 1.5), (Described(1, 2), Symbol("a"))],
    ids=repr,
)
def test_other_keys_make_a_dict(keys: tuple[object, ...]) -> None:
    assert decode(encoded_map(*keys)) == dict.fromkeys(keys)


@pytest.mark.parametrize(
    "key",
    ["x", Symbol("x"), 1, True, None, 0.0, nan, b"", [], [1, {}], {}, Array(0x41, [True]), Described(1, [])],
    ids=repr,
)
def test_a_key_that_comes_twice_is_a_decode_error(key: object) -> None:
    with pytest.raises(DecodeError, match="comes twice"):
        decode(encoded_map(key, "between", key))


def test_a_key_that_comes_twice_in_two_encodings_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="comes twice"):
        decode(bytes.fromhex("c1 09 04 43 40 70 00000000 40"))


def test_the_order_of_the_entries_is_kept() -> None:
    assert list(decode(encoded_map("b", "a", "c"))) == ["b", "a", "c"]  # type: ignore[call-overload]


@given(maps(values()))
def test_any_map_survives_a_way_out_and_in(mapping: object) -> None:
    assert identical(decode(octets(mapping)), mapping)


@given(st.data())
def test_maps_within_keys_of_maps_survive_too(data: st.DataObject) -> None:
    mapping = data.draw(maps(maps(maps(st.booleans() | st.integers(0, 1)))))
    assert identical(decode(octets(mapping)), mapping)


def test_many_keys_of_which_a_peer_can_guess_the_hash_are_kept_as_pairs() -> None:
    allowed = decode(encoded_map(*range(MAX_GUESSABLE_KEYS)))
    assert type(allowed) is dict
    more = decode(encoded_map(*range(MAX_GUESSABLE_KEYS + 1)))
    assert type(more) is MapPairs
    assert type(decode(encoded_map(*[f"{n}" for n in range(MAX_GUESSABLE_KEYS + 1)]))) is dict


def test_uuids_that_collide_cost_no_more_than_others() -> None:
    def seconds(keys: list[object]) -> float:
        encoded = encoded_map(*keys)
        begin = time.perf_counter()
        decode(encoded)
        return time.perf_counter() - begin

    # All of one hash; as a dict these are 32 million comparisons, 10 seconds.
    colliding: list[object] = [uuid.UUID(int=n * ((1 << 61) - 1)) for n in range(8000)]
    assert len({hash(key) for key in colliding[:100]}) == 1
    assert seconds(colliding) < 2
