"""Hypothesis strategies for values, composites and messages, derived from the field tables.

`values()` makes whatever the type system can say, `composite(cls)` instances of a registered composite, `messages()`
whole messages. `identical` compares as AMQP does: 1 and True, or a string and a symbol of the same letters, differ.
"""

from __future__ import annotations

import struct
import uuid
from functools import cache
from typing import Any

from hypothesis import strategies as st

from van.amqp import delivery_state, message, performatives, sasl_frames, terminus
from van.amqp.codec import encode_value
from van.amqp.composite import COMPOSITE, FIELDS, Composite, Field, registered_composites
from van.amqp.types import (
    Array,
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

# The modules whose composites are registered.
TABLES = (delivery_state, message, performatives, sasl_frames, terminus)


def octets(value: object) -> bytes:
    """Return the encoding of a value."""
    out = bytearray()
    encode_value(value, out)
    return bytes(out)


def identical(left: object, right: object) -> bool:
    """Tell whether two values are the same to AMQP: type for type, and maps in the same order."""
    return type(left) is type(right) and octets(left) == octets(right)


def _integers(cls: type[Any], bits: int, signed: bool) -> st.SearchStrategy[Any]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    # Both sides of every change of encoding, and the ends.
    edges = [n for n in (low, -129, -128, -1, 0, 1, 127, 128, 255, 256, high) if low <= n <= high]
    return (st.sampled_from(edges) | st.integers(low, high)).map(cls)


texts = st.text(max_size=12) | st.sampled_from(["", "a" * 255, "a" * 256, "\U0001f600" * 64, "\0"])
ascii_texts = st.text(st.characters(max_codepoint=127), max_size=12) | st.sampled_from(["", "s" * 255, "s" * 256])
symbols = ascii_texts.map(Symbol)
binaries = st.binary(max_size=12) | st.sampled_from([b"", b"b" * 255, b"b" * 256])
floats = st.floats(width=32, allow_nan=False).map(Float)

# One strategy for each primitive type that is not a compound, by the specification's name.
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "ubyte": _integers(UByte, 8, False),
    "ushort": _integers(UShort, 16, False),
    "uint": _integers(UInt, 32, False),
    "ulong": _integers(ULong, 64, False),
    "byte": _integers(Byte, 8, True),
    "short": _integers(Short, 16, True),
    "int": _integers(Int, 32, True),
    "long": _integers(int, 64, True),
    "float": floats,
    "double": st.floats(allow_nan=False),
    "decimal32": st.binary(min_size=4, max_size=4).map(Decimal32),
    "decimal64": st.binary(min_size=8, max_size=8).map(Decimal64),
    "decimal128": st.binary(min_size=16, max_size=16).map(Decimal128),
    "char": st.characters(exclude_categories=["Cs"]).map(Char),
    "timestamp": _integers(Timestamp, 64, True),
    "uuid": st.binary(min_size=16, max_size=16).map(lambda raw: uuid.UUID(bytes=raw)),
    "binary": binaries,
    "string": texts,
    "symbol": symbols,
}
primitives = st.one_of(*PRIMITIVES.values())

# The elements of arrays by constructor octet: everything that this encoding can hold.
_WIDE = {
    0x40: "null",
    0x50: "ubyte",
    0x51: "byte",
    0x56: "boolean",
    0x60: "ushort",
    0x61: "short",
    0x70: "uint",
    0x71: "int",
    0x72: "float",
    0x73: "char",
    0x74: "decimal32",
    0x80: "ulong",
    0x81: "long",
    0x82: "double",
    0x83: "timestamp",
    0x84: "decimal64",
    0x94: "decimal128",
    0x98: "uuid",
    0xB0: "binary",
    0xB1: "string",
    0xB3: "symbol",
}


def array_elements(inner: st.SearchStrategy[Any]) -> dict[int, st.SearchStrategy[Any]]:
    """Return a strategy for the elements of an array for every constructor; `inner` makes what compounds hold."""
    elements = {code: PRIMITIVES[name] for code, name in _WIDE.items()}
    elements |= {
        0x41: st.just(True),
        0x42: st.just(False),
        0x43: st.just(UInt(0)),
        0x44: st.just(ULong(0)),
        0x45: st.builds(list),
        0x52: st.integers(0, 255).map(UInt),
        0x53: st.integers(0, 255).map(ULong),
        0x54: st.integers(-128, 127).map(Int),
        0x55: st.integers(-128, 127),
        0xA0: st.binary(max_size=255),
        0xA1: st.text(max_size=63),
        0xA3: st.text(st.characters(max_codepoint=127), max_size=255).map(Symbol),
        0xC0: st.lists(inner, max_size=3),
        0xC1: maps(inner),
        0xD0: st.lists(inner, max_size=3),
        0xD1: maps(inner),
        0xE0: st.deferred(lambda: arrays(inner)),
        0xF0: st.deferred(lambda: arrays(inner)),
    }
    return elements


def maps(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return maps with keys of any type: dicts where a dict can hold them."""

    def make(pairs: list[tuple[object, object]]) -> object:
        distinct = list({octets(key): (key, value) for key, value in pairs}.values())
        try:
            mapping = dict(distinct)
        except TypeError:
            return MapPairs(distinct)
        return mapping if len(mapping) == len(distinct) else MapPairs(distinct)

    return st.lists(st.tuples(inner, inner), max_size=4).map(make)


_arrays: dict[st.SearchStrategy[Any], st.SearchStrategy[Any]] = {}


def arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return arrays of every constructor, some of them described."""
    if inner not in _arrays:
        descriptors = st.lists(symbols | PRIMITIVES["ulong"], max_size=2).map(tuple)
        # Strategies are made once: to make them again for each value takes longer than the value.
        _arrays[inner] = st.deferred(
            lambda: st.one_of(
                [
                    st.builds(Array, st.just(code), st.lists(elements, max_size=4), descriptors)
                    for code, elements in sorted(array_elements(inner).items())
                ]
            )
        )
    return _arrays[inner]


@cache
def values() -> st.SearchStrategy[Any]:
    """Return values of any type, nested."""
    return st.recursive(
        primitives,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            maps(inner),
            st.builds(Described, symbols | PRIMITIVES["ulong"] | inner, inner),
            arrays(inner),
        ),
        max_leaves=8,
    )


def _delivery_states() -> st.SearchStrategy[Any]:
    return providers("delivery-state")


_SIMPLE: dict[str, st.SearchStrategy[Any]] = {
    "address": texts,
    "message-id": texts | PRIMITIVES["ulong"] | PRIMITIVES["uuid"] | binaries,
    "txn-id": binaries,
    "map": st.dictionaries(binaries, st.none() | st.deferred(_delivery_states), max_size=3),
    "fields": st.dictionaries(symbols, values(), max_size=3),
    "*": values().filter(lambda value: value is not None),
}


def _unknown(described: Described) -> bool:
    """Tell whether no composite has this descriptor: others are decoded as what they are."""
    return not any(described.descriptor in (cls.DESCRIPTOR, cls.NAME) for cls in registered_composites())


@cache
def providers(archetype: str) -> st.SearchStrategy[Any]:
    """Return composites that provide an archetype, and described values that nobody knows where those are allowed."""
    known = st.one_of([composite(cls) for cls in registered_composites() if archetype in cls.PROVIDES])
    if archetype == "error":
        return known
    return known | st.builds(Described, symbols | PRIMITIVES["ulong"], values()).filter(_unknown)


def field_values(field: Field) -> st.SearchStrategy[Any]:
    """Return what a field may hold, from its row of the table."""
    one: st.SearchStrategy[Any]
    if field.type is COMPOSITE:
        one = providers(field.requires)
    elif field.type.choices:
        one = st.sampled_from(field.type.choices)
    elif field.type is FIELDS:
        one = _SIMPLE["fields"].map(_known_composites)
    elif field.type.name in _SIMPLE:
        one = _SIMPLE[field.type.name]
    else:
        one = PRIMITIVES[field.type.name]
        if field.type.integer:
            one = one.map(int)
    return st.lists(one, max_size=3) if field.multiple else one


def _known_composites(fields: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in fields.items() if not isinstance(value, Described) or _unknown(value)}


def composite(cls: type[Composite]) -> st.SearchStrategy[Any]:
    """Return instances of a composite, with optional fields there and not."""
    required = {field.attribute: field_values(field) for field in cls.FIELDS if field.mandatory}
    optional = {field.attribute: field_values(field) for field in cls.FIELDS if not field.mandatory}
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: cls(**given))


def composites() -> st.SearchStrategy[Any]:
    """Return instances of all composites."""
    return st.one_of([composite(cls) for cls in registered_composites()])


def bodies() -> st.SearchStrategy[Any]:
    """Return message bodies of every kind."""
    data = binaries.map(message.Data)
    sequence = st.lists(values(), max_size=3).map(message.AmqpSequence)
    return st.one_of(
        data,
        sequence,
        values().map(message.AmqpValue),
        st.lists(data, min_size=2, max_size=3),
        st.lists(sequence, min_size=2, max_size=3),
    )


@cache
def messages() -> st.SearchStrategy[message.Message]:
    """Return whole messages, with each section there and not."""
    annotations = st.dictionaries(symbols | PRIMITIVES["ulong"], values(), max_size=3)
    sections: dict[str, st.SearchStrategy[Any]] = {
        "header": composite(message.Header),
        "delivery_annotations": annotations,
        "message_annotations": annotations,
        "properties": composite(message.Properties),
        "application_properties": st.dictionaries(texts, values(), max_size=3),
        "body": bodies(),
        "footer": annotations,
    }
    return st.fixed_dictionaries({}, optional=sections).map(lambda given: message.Message(**given))


def wide_count(code: int, items: list[bytes]) -> bytes:
    """Return a list32, map32 or array32 from encoded items: an encoding that the encoder would not choose."""
    contents = b"".join(items)
    return bytes((code,)) + struct.pack(">II", len(contents) + 4, len(items)) + contents
