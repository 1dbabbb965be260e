"""Octets <-> values of the AMQP type system (part 1 of the specification).

`decode_value` and `encode_value` know every primitive type in every encoding, arrays and described types. They know
nothing of composites (`composite.py`), frames or messages.

Whatever a peer sends either becomes a value or raises `DecodeError`, in time and memory proportional to the octets:
every limit a peer can push against is a constant below. A value that cannot be written raises `EncodeError`.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable, Sequence
from math import isnan
from typing import Final, cast

from van.amqp.errors import DecodeError
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

# Levels of lists, maps, arrays and descriptors inside one another. The deepest thing that routers and clients exchange
# (a management reply in a described section) has about six; each level costs at most three Python frames of the
# thousand that the interpreter allows.
MAX_DEPTH: Final = 32

# Items of one list, or keys and values of one map. The largest list in use is a mobile address update of a big router
# (about 100 000 addresses). Every item takes at least one octet, so most frames and messages end long before.
MAX_COUNT: Final = 1 << 20

# Octets of one list, map or array. Small items become objects of up to 70 times their size, so this bounds what one
# message can cost. Strings and binaries are not limited here: they cost what they are long.
MAX_COMPOUND_SIZE: Final = 16 << 20

# Elements of arrays whose elements have no octets of their own (null, true, uint0, list0), in everything that is
# decoded by one call. Nine octets can announce four thousand million of them, so they are counted before any is made.
MAX_ZERO_WIDTH_ELEMENTS: Final = 1 << 16

# A peer can choose numbers and uuids that collide in a dict, which makes it quadratic; text and binary are hashed with
# a secret. Maps with other keys and more entries than this become `MapPairs`.
MAX_GUESSABLE_KEYS: Final = 128

# Symbols come from small domains and are made again and again, so they are remembered. What does not fit is simply
# made each time, so that a peer cannot fill memory through this table.
MAX_REMEMBERED_SYMBOLS = 4096
MAX_REMEMBERED_SYMBOL_SIZE: Final = 64


class EncodeError(ValueError):
    """A Python value that has no encoding: wrong type, out of range, not Unicode, or nested deeper than `MAX_DEPTH`."""


# A decoder gets the buffer, the position behind the constructor octet, the end of what it may read, the depth at which
# the value stands, and a list of one number: zero-width array elements made so far.
_Decoder = Callable[[bytes, int, int, int, list[int]], tuple[object, int]]
_Encoder = Callable[..., None]

_unpack_i16: Final = struct.Struct(">h").unpack_from
_unpack_i32: Final = struct.Struct(">i").unpack_from
_unpack_i64: Final = struct.Struct(">q").unpack_from
_unpack_u16: Final = struct.Struct(">H").unpack_from
_unpack_u32: Final = struct.Struct(">I").unpack_from
_unpack_u64: Final = struct.Struct(">Q").unpack_from
_unpack_f32: Final = struct.Struct(">f").unpack_from
_unpack_f64: Final = struct.Struct(">d").unpack_from
_unpack_2u32: Final = struct.Struct(">II").unpack_from
_pack_i16: Final = struct.Struct(">h").pack
_pack_i32: Final = struct.Struct(">i").pack
_pack_i64: Final = struct.Struct(">q").pack
_pack_u16: Final = struct.Struct(">H").pack
_pack_u32: Final = struct.Struct(">I").pack
_pack_u64: Final = struct.Struct(">Q").pack
_pack_f32: Final = struct.Struct(">f").pack
_pack_f64: Final = struct.Struct(">d").pack

# One shared object for each value that fits in an octet: faster to find than to make.
_UBYTES: Final = tuple([UByte(n) for n in range(256)])
_BYTES: Final = tuple([Byte(n - 256 if n > 127 else n) for n in range(256)])
SMALL_UINTS: Final = tuple([UInt(n) for n in range(256)])
SMALL_ULONGS: Final = tuple([ULong(n) for n in range(256)])
SMALL_INTS: Final = tuple([Int(n - 256 if n > 127 else n) for n in range(256)])
_SMALL_LONGS: Final = tuple([n - 256 if n > 127 else n for n in range(256)])

_symbols: dict[bytes, Symbol] = {}


# ---------------------------------------------------------------------------------------------------------- decoding


def decode_value(buf: bytes, pos: int, end: int) -> tuple[object, int]:
    """Decode the value at `pos`; return it and the position behind it.

    Nothing at or behind `end` is read; `end` is at most the length of `buf`. Raises DecodeError.
    Described types become `Described`, whatever their descriptor.
    """
    if pos >= end:
        raise cut_short(pos)
    return _DECODERS[buf[pos]](buf, pos + 1, end, 0, [0])


def cut_short(pos: int) -> DecodeError:
    """Return the error for octets that end where a value should go on."""
    return DecodeError(f"value cut short at octet {pos}")


def _too_deep(pos: int) -> DecodeError:
    return DecodeError(f"nested deeper than {MAX_DEPTH} levels at octet {pos}")


def _decode_unknown(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    raise DecodeError(f"unknown constructor 0x{buf[pos - 1]:02x} at octet {pos - 1}")


def _decode_null(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    return None, pos


def _decode_true(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    return True, pos


def _decode_false(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    return False, pos


def _decode_boolean(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos >= end:
        raise cut_short(pos)
    octet = buf[pos]
    if octet > 1:
        raise DecodeError(f"boolean is neither 0 nor 1 but {octet} at octet {pos}")
    return octet == 1, pos + 1


def _decode_ubyte(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos >= end:
        raise cut_short(pos)
    return _UBYTES[buf[pos]], pos + 1


def _decode_byte(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos >= end:
        raise cut_short(pos)
    return _BYTES[buf[pos]], pos + 1


def _decode_ushort(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 2 > end:
        raise cut_short(end)
    return UShort(_unpack_u16(buf, pos)[0]), pos + 2


def _decode_short(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 2 > end:
        raise cut_short(end)
    return Short(_unpack_i16(buf, pos)[0]), pos + 2


def _decode_uint0(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    return SMALL_UINTS[0], pos


def _decode_smalluint(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos >= end:
        raise cut_short(pos)
    return SMALL_UINTS[buf[pos]], pos + 1


def _decode_uint(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 4 > end:
        raise cut_short(end)
    return UInt(_unpack_u32(buf, pos)[0]), pos + 4


def _decode_smallint(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos >= end:
        raise cut_short(pos)
    return SMALL_INTS[buf[pos]], pos + 1


def _decode_int(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 4 > end:
        raise cut_short(end)
    return Int(_unpack_i32(buf, pos)[0]), pos + 4


def _decode_ulong0(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    return SMALL_ULONGS[0], pos


def _decode_smallulong(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos >= end:
        raise cut_short(pos)
    return SMALL_ULONGS[buf[pos]], pos + 1


def _decode_ulong(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 8 > end:
        raise cut_short(end)
    return ULong(_unpack_u64(buf, pos)[0]), pos + 8


def _decode_smalllong(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos >= end:
        raise cut_short(pos)
    return _SMALL_LONGS[buf[pos]], pos + 1


def _decode_long(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 8 > end:
        raise cut_short(end)
    return _unpack_i64(buf, pos)[0], pos + 8


def _decode_timestamp(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 8 > end:
        raise cut_short(end)
    return Timestamp(_unpack_i64(buf, pos)[0]), pos + 8


def _decode_float(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 4 > end:
        raise cut_short(end)
    return Float(_unpack_f32(buf, pos)[0]), pos + 4


def _decode_double(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 8 > end:
        raise cut_short(end)
    return _unpack_f64(buf, pos)[0], pos + 8


def _decode_char(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 4 > end:
        raise cut_short(end)
    point: int = _unpack_u32(buf, pos)[0]
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise DecodeError(f"char 0x{point:x} at octet {pos} is not a Unicode character")
    return Char(chr(point)), pos + 4


def _decode_decimal32(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 4 > end:
        raise cut_short(end)
    return Decimal32(buf[pos : pos + 4]), pos + 4


def _decode_decimal64(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 8 > end:
        raise cut_short(end)
    return Decimal64(buf[pos : pos + 8]), pos + 8


def _decode_decimal128(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 16 > end:
        raise cut_short(end)
    return Decimal128(buf[pos : pos + 16]), pos + 16


def _decode_uuid(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    if pos + 16 > end:
        raise cut_short(end)
    return uuid.UUID(bytes=buf[pos : pos + 16]), pos + 16


def _variable8(buf: bytes, pos: int, end: int) -> tuple[bytes, int]:
    if pos >= end:
        raise cut_short(pos)
    start = pos + 1
    stop = start + buf[pos]
    if stop > end:
        raise cut_short(end)
    return buf[start:stop], stop


def _variable32(buf: bytes, pos: int, end: int) -> tuple[bytes, int]:
    start = pos + 4
    if start > end:
        raise cut_short(end)
    size: int = _unpack_u32(buf, pos)[0]
    stop = start + size
    if stop > end:
        raise cut_short(end)
    return buf[start:stop], stop


def _decode_vbin8(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    return _variable8(buf, pos, end)


def _decode_vbin32(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    return _variable32(buf, pos, end)


def _text(raw: bytes, pos: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise DecodeError(f"string before octet {pos} is not UTF-8") from None


def _decode_str8(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    raw, pos = _variable8(buf, pos, end)
    return _text(raw, pos), pos


def _decode_str32(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    raw, pos = _variable32(buf, pos, end)
    return _text(raw, pos), pos


def make_symbol(raw: bytes) -> Symbol:
    """Return the symbol with these octets, remembering short ones. Raises DecodeError where they are not ASCII."""
    symbol = _symbols.get(raw)
    if symbol is None:
        try:
            symbol = Symbol(raw, "ascii")
        except UnicodeDecodeError:
            raise DecodeError("symbol is not ASCII") from None
        if len(_symbols) < MAX_REMEMBERED_SYMBOLS and len(raw) <= MAX_REMEMBERED_SYMBOL_SIZE:
            _symbols[raw] = symbol
    return symbol


def _decode_sym8(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    raw, pos = _variable8(buf, pos, end)
    return make_symbol(raw), pos


def _decode_sym32(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    raw, pos = _variable32(buf, pos, end)
    return make_symbol(raw), pos


def _compound8(buf: bytes, pos: int, end: int) -> tuple[int, int, int]:
    """Read size and count of a list8, map8 or array8; return (count, where the contents begin, where they end)."""
    if pos + 2 > end:
        raise cut_short(end)
    stop = pos + 1 + buf[pos]
    if stop > end or stop < pos + 2:
        raise DecodeError(f"size {buf[pos]} at octet {pos} does not fit")
    return buf[pos + 1], pos + 2, stop


def _compound32(buf: bytes, pos: int, end: int) -> tuple[int, int, int]:
    """The same for list32, map32 and array32."""
    if pos + 8 > end:
        raise cut_short(end)
    size: int
    count: int
    size, count = _unpack_2u32(buf, pos)
    stop = pos + 4 + size
    if stop > end or size < 4:
        raise DecodeError(f"size {size} at octet {pos} does not fit")
    if size > MAX_COMPOUND_SIZE:
        raise DecodeError(f"size {size} at octet {pos} is over the limit of {MAX_COMPOUND_SIZE}")
    return count, pos + 8, stop


def decode_items(buf: bytes, pos: int, end: int, count: int, depth: int, made: list[int]) -> list[object]:
    """Decode `count` values that fill `buf[pos:end]` exactly and stand `depth` levels deep."""
    if depth > MAX_DEPTH:
        raise _too_deep(pos)
    # An item takes at least one octet.
    if count > end - pos or count > MAX_COUNT:
        raise DecodeError(f"count {count} at octet {pos} does not fit")
    items: list[object] = []
    append = items.append
    decoders = _DECODERS
    for _ in range(count):
        if pos >= end:
            raise cut_short(pos)
        code = buf[pos]
        # The types that most items have, without the cost of a call.
        if code == 0xA1:
            pos += 2
            if pos > end:
                raise cut_short(end)
            stop = pos + buf[pos - 1]
            if stop > end:
                raise cut_short(end)
            append(_text(buf[pos:stop], stop))
            pos = stop
        elif code == 0x40:
            append(None)
            pos += 1
        else:
            value, pos = decoders[code](buf, pos + 1, end, depth, made)
            append(value)
    if pos != end:
        raise DecodeError(f"{end - pos} octets too many before octet {end}")
    return items


def _decode_list0(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    return [], pos


def _decode_list8(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    count, start, stop = _compound8(buf, pos, end)
    return decode_items(buf, start, stop, count, depth + 1, made), stop


def _decode_list32(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    count, start, stop = _compound32(buf, pos, end)
    return decode_items(buf, start, stop, count, depth + 1, made), stop


# Types whose hash depends on a secret of the process.
_SECRETLY_HASHED: Final = frozenset({str, Symbol, Char, bytes, Decimal32, Decimal64, Decimal128})


def make_map(items: list[object], pos: int) -> dict[object, object] | MapPairs:
    """Return the map with these keys and values in turn: a dict, or `MapPairs` where a dict would lose something.

    Raises DecodeError where a key has no value or comes twice (1.6.23).
    """
    if len(items) & 1:
        raise DecodeError(f"map with a key but no value before octet {pos}")
    keys = items[::2]
    if not _SECRETLY_HASHED.issuperset(map(type, keys)):
        if len(keys) > MAX_GUESSABLE_KEYS:
            return _make_pairs(keys, items[1::2], pos)
        for key in keys:
            if isinstance(key, float) and isnan(key):  # a dict takes each for a key of its own
                return _make_pairs(keys, items[1::2], pos)
    try:
        result = dict(zip(keys, items[1::2], strict=True))
    except TypeError:  # a list, map or array, or something described that holds one
        return _make_pairs(keys, items[1::2], pos)
    if len(result) != len(keys):
        return _make_pairs(keys, items[1::2], pos)
    return result


def _make_pairs(keys: list[object], values: list[object], pos: int) -> MapPairs:
    """Keep every pair. Two keys are the same when they are written the same."""
    seen: set[bytes] = set()
    for key in keys:
        out = bytearray()
        encode_value(key, out)
        seen.add(bytes(out))
    if len(seen) != len(keys):
        raise DecodeError(f"map with a key that comes twice before octet {pos}")
    return MapPairs(zip(keys, values, strict=True))


def _decode_map8(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    count, start, stop = _compound8(buf, pos, end)
    return make_map(decode_items(buf, start, stop, count, depth + 1, made), stop), stop


def _decode_map32(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    count, start, stop = _compound32(buf, pos, end)
    return make_map(decode_items(buf, start, stop, count, depth + 1, made), stop), stop


def _decode_described(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    depth += 1
    if depth > MAX_DEPTH:
        raise _too_deep(pos)
    if pos >= end:
        raise cut_short(pos)
    descriptor, pos = _DECODERS[buf[pos]](buf, pos + 1, end, depth, made)
    if pos >= end:
        raise cut_short(pos)
    value, pos = _DECODERS[buf[pos]](buf, pos + 1, end, depth, made)
    return Described(descriptor, value), pos


def _decode_elements(buf: bytes, pos: int, end: int, count: int, depth: int, made: list[int]) -> Array:
    """Decode the constructor and the `count` elements of an array that fill `buf[pos:end]` exactly."""
    depth += 1
    descriptors: list[object] = []
    while True:
        if depth > MAX_DEPTH:
            raise _too_deep(pos)
        if pos >= end:
            raise cut_short(pos)
        code = buf[pos]
        pos += 1
        if code != 0x00:
            break
        depth += 1
        if pos >= end:
            raise cut_short(pos)
        descriptor, pos = _DECODERS[buf[pos]](buf, pos + 1, end, depth, made)
        descriptors.append(descriptor)
    decoder = _DECODERS[code]
    if decoder is _decode_unknown:
        raise DecodeError(f"unknown constructor 0x{code:02x} at octet {pos - 1}")
    if code < 0x50:
        made[0] += count
        if made[0] > MAX_ZERO_WIDTH_ELEMENTS:
            raise DecodeError(f"more than {MAX_ZERO_WIDTH_ELEMENTS} array elements without octets at octet {pos}")
    elif count > end - pos or count > MAX_COUNT:
        raise DecodeError(f"count {count} at octet {pos} does not fit")
    array = Array(code, (), tuple(descriptors))
    for _ in range(count):
        value, pos = decoder(buf, pos, end, depth, made)
        array.append(value)
    if pos != end:
        raise DecodeError(f"{end - pos} octets too many before octet {end}")
    return array


def _decode_array8(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    count, start, stop = _compound8(buf, pos, end)
    return _decode_elements(buf, start, stop, count, depth, made), stop


def _decode_array32(buf: bytes, pos: int, end: int, depth: int, made: list[int]) -> tuple[object, int]:
    count, start, stop = _compound32(buf, pos, end)
    return _decode_elements(buf, start, stop, count, depth, made), stop


_DECODER_BY_CODE: dict[int, _Decoder] = {
    0x00: _decode_described,
    0x40: _decode_null,
    0x41: _decode_true,
    0x42: _decode_false,
    0x43: _decode_uint0,
    0x44: _decode_ulong0,
    0x45: _decode_list0,
    0x50: _decode_ubyte,
    0x51: _decode_byte,
    0x52: _decode_smalluint,
    0x53: _decode_smallulong,
    0x54: _decode_smallint,
    0x55: _decode_smalllong,
    0x56: _decode_boolean,
    0x60: _decode_ushort,
    0x61: _decode_short,
    0x70: _decode_uint,
    0x71: _decode_int,
    0x72: _decode_float,
    0x73: _decode_char,
    0x74: _decode_decimal32,
    0x80: _decode_ulong,
    0x81: _decode_long,
    0x82: _decode_double,
    0x83: _decode_timestamp,
    0x84: _decode_decimal64,
    0x94: _decode_decimal128,
    0x98: _decode_uuid,
    0xA0: _decode_vbin8,
    0xA1: _decode_str8,
    0xA3: _decode_sym8,
    0xB0: _decode_vbin32,
    0xB1: _decode_str32,
    0xB3: _decode_sym32,
    0xC0: _decode_list8,
    0xC1: _decode_map8,
    0xD0: _decode_list32,
    0xD1: _decode_map32,
    0xE0: _decode_array8,
    0xF0: _decode_array32,
}

# Indexed by constructor octet.
_DECODERS: list[_Decoder] = [_DECODER_BY_CODE.get(code, _decode_unknown) for code in range(256)]
DECODERS: Final = _DECODERS

_FIXED_WIDTHS: Final = (0, 1, 2, 4, 8, 16)


def skip_value(buf: bytes, pos: int, end: int) -> int:
    """Return the position behind the value at `pos` by its constructor and size alone; its contents are not looked at.

    The result is greater than `end` where the octets end before the value does. Raises DecodeError for unknown
    constructors. Descriptors within descriptors are skipped at any depth: nothing is made of them.
    """
    missing = 1  # values still to skip: a described value is two
    while missing:
        if pos >= end:
            return end + 1
        code = buf[pos]
        pos += 1
        if code == 0x00:
            missing += 1
            continue
        if _DECODERS[code] is _decode_unknown:
            raise DecodeError(f"unknown constructor 0x{code:02x} at octet {pos - 1}")
        missing -= 1
        if code < 0xA0:
            pos += _FIXED_WIDTHS[(code >> 4) - 4]
        elif code & 0x10:
            if pos + 4 > end:
                return end + 1
            size: int = _unpack_u32(buf, pos)[0]
            pos += 4 + size
        elif pos >= end:
            return end + 1
        else:
            pos += 1 + buf[pos]
    return pos


# ---------------------------------------------------------------------------------------------------------- encoding


def encode_value(value: object, out: bytearray) -> None:
    """Append the shortest encoding of `value` to `out`. Raises EncodeError; `out` may then end in a part of it.

    The type decides: a plain `int` is a long, a plain `str` a string (see `types.py`). Subclasses of other classes
    count as their base, tuples as lists, bytearrays and memoryviews as binary.
    """
    (_ENCODERS.get(type(value)) or _find_encoder(value))(value, out, 0)


def encode_at(value: object, out: bytearray, depth: int) -> None:
    """Append `value`, which stands `depth` levels deep. See `encode_value`."""
    (_ENCODERS.get(type(value)) or _find_encoder(value))(value, out, depth)


def register_encoder(cls: type, encoder: Callable[[object, bytearray, int], None]) -> None:
    """Let values of exactly this class be encoded by `encoder(value, out, depth)` (composites do this)."""
    _ENCODERS[cls] = encoder


def _find_encoder(value: object) -> _Encoder:
    for base in type(value).__mro__:
        encoder = _ENCODERS.get(base)
        if encoder is not None:
            return encoder
    raise EncodeError(f"{type(value).__name__} is no AMQP type")


def _out_of_range(name: str, value: object) -> EncodeError:
    return EncodeError(f"{value!r} does not fit {name}")


def _encode_null(value: object, out: bytearray, depth: int) -> None:
    out.append(0x40)


def _encode_boolean(value: bool, out: bytearray, depth: int) -> None:
    out.append(0x41 if value else 0x42)


def _encode_ubyte(value: int, out: bytearray, depth: int) -> None:
    if not 0 <= value <= 0xFF:
        raise _out_of_range("ubyte", value)
    out.append(0x50)
    out.append(value)


def _encode_byte(value: int, out: bytearray, depth: int) -> None:
    if not -0x80 <= value <= 0x7F:
        raise _out_of_range("byte", value)
    out.append(0x51)
    out.append(value & 0xFF)


def _encode_ushort(value: int, out: bytearray, depth: int) -> None:
    if not 0 <= value <= 0xFFFF:
        raise _out_of_range("ushort", value)
    out.append(0x60)
    out += _pack_u16(value)


def _encode_short(value: int, out: bytearray, depth: int) -> None:
    if not -0x8000 <= value <= 0x7FFF:
        raise _out_of_range("short", value)
    out.append(0x61)
    out += _pack_i16(value)


def encode_uint(value: int, out: bytearray, depth: int) -> None:
    """Append a uint. Raises EncodeError."""
    if 0 < value <= 0xFF:
        out.append(0x52)
        out.append(value)
    elif value == 0:
        out.append(0x43)
    elif 0 < value <= 0xFFFFFFFF:
        out.append(0x70)
        out += _pack_u32(value)
    else:
        raise _out_of_range("uint", value)


def encode_ulong(value: int, out: bytearray, depth: int) -> None:
    """Append a ulong. Raises EncodeError."""
    if 0 < value <= 0xFF:
        out.append(0x53)
        out.append(value)
    elif value == 0:
        out.append(0x44)
    elif 0 < value <= 0xFFFFFFFFFFFFFFFF:
        out.append(0x80)
        out += _pack_u64(value)
    else:
        raise _out_of_range("ulong", value)


def _encode_int(value: int, out: bytearray, depth: int) -> None:
    if -0x80 <= value <= 0x7F:
        out.append(0x54)
        out.append(value & 0xFF)
    elif -0x80000000 <= value <= 0x7FFFFFFF:
        out.append(0x71)
        out += _pack_i32(value)
    else:
        raise _out_of_range("int", value)


def _encode_long(value: int, out: bytearray, depth: int) -> None:
    if -0x80 <= value <= 0x7F:
        out.append(0x55)
        out.append(value & 0xFF)
    elif -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        out.append(0x81)
        out += _pack_i64(value)
    else:
        raise _out_of_range("long", value)


def encode_timestamp(value: int, out: bytearray, depth: int) -> None:
    """Append a timestamp. Raises EncodeError."""
    if not -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        raise _out_of_range("timestamp", value)
    out.append(0x83)
    out += _pack_i64(value)


def _encode_float(value: float, out: bytearray, depth: int) -> None:
    try:
        raw = _pack_f32(value)
    except OverflowError:
        raise _out_of_range("float", value) from None
    out.append(0x72)
    out += raw


def _encode_double(value: float, out: bytearray, depth: int) -> None:
    out.append(0x82)
    out += _pack_f64(value)


def _encode_decimal32(value: bytes, out: bytearray, depth: int) -> None:
    if len(value) != 4:
        raise _out_of_range("decimal32", value)
    out.append(0x74)
    out += value


def _encode_decimal64(value: bytes, out: bytearray, depth: int) -> None:
    if len(value) != 8:
        raise _out_of_range("decimal64", value)
    out.append(0x84)
    out += value


def _encode_decimal128(value: bytes, out: bytearray, depth: int) -> None:
    if len(value) != 16:
        raise _out_of_range("decimal128", value)
    out.append(0x94)
    out += value


def _char_octets(value: str) -> bytes:
    if len(value) != 1:
        raise _out_of_range("char", value)
    try:
        return value.encode("utf-32-be")
    except UnicodeEncodeError:
        raise _out_of_range("char", value) from None


def _encode_char(value: str, out: bytearray, depth: int) -> None:
    raw = _char_octets(value)
    out.append(0x73)
    out += raw


def _encode_uuid(value: uuid.UUID, out: bytearray, depth: int) -> None:
    out.append(0x98)
    out += value.bytes


def encode_binary(value: bytes | bytearray, out: bytearray, depth: int) -> None:
    """Append binary (bytes, bytearray). Raises EncodeError from 4 GiB on."""
    size = len(value)
    if size <= 0xFF:
        out.append(0xA0)
        out.append(size)
    else:
        out.append(0xB0)
        out += _size32(size)
    out += value


def _encode_memoryview(value: memoryview, out: bytearray, depth: int) -> None:
    encode_binary(value.tobytes(), out, depth)


def _size32(size: int) -> bytes:
    if size > 0xFFFFFFFF:
        raise EncodeError(f"{size} octets are too many for one value")
    result: bytes = _pack_u32(size)
    return result


def _string_octets(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise EncodeError(f"{value!r} is not Unicode text") from None


def _symbol_octets(value: str) -> bytes:
    try:
        return value.encode("ascii")
    except UnicodeEncodeError:
        raise EncodeError(f"symbol {value!r} is not ASCII") from None


def encode_string(value: str, out: bytearray, depth: int) -> None:
    """Append a string. Raises EncodeError for lone surrogates."""
    raw = _string_octets(value)
    size = len(raw)
    if size <= 0xFF:
        out.append(0xA1)
        out.append(size)
    else:
        out.append(0xB1)
        out += _size32(size)
    out += raw


def encode_symbol(value: str, out: bytearray, depth: int) -> None:
    """Append a symbol. Raises EncodeError for what is not ASCII."""
    raw = _symbol_octets(value)
    size = len(raw)
    if size <= 0xFF:
        out.append(0xA3)
        out.append(size)
    else:
        out.append(0xB3)
        out += _size32(size)
    out += raw


def _close_compound(out: bytearray, start: int, count: int, code8: int, code32: int) -> None:
    """Put constructor, size and count in front of the contents that begin at `start`."""
    size = len(out) - start
    if size <= 0xFE and count <= 0xFF:
        out[start:start] = bytes((code8, size + 1, count))
    else:
        out[start:start] = bytes((code32,)) + _size32(size + 4) + _size32(count)


def _encode_contents(items: Iterable[object], out: bytearray, depth: int) -> None:
    """Append list items, which stand `depth` levels deep."""
    if depth > MAX_DEPTH:
        raise EncodeError(f"nested deeper than {MAX_DEPTH} levels")
    for item in items:
        (_ENCODERS.get(type(item)) or _find_encoder(item))(item, out, depth)


def _encode_pairs(value: dict[object, object] | MapPairs, out: bytearray, depth: int) -> None:
    """Append keys and values in turn, which stand `depth` levels deep."""
    if depth > MAX_DEPTH:
        raise EncodeError(f"nested deeper than {MAX_DEPTH} levels")
    for key, item in value.items() if isinstance(value, dict) else value:
        (_ENCODERS.get(type(key)) or _find_encoder(key))(key, out, depth)
        (_ENCODERS.get(type(item)) or _find_encoder(item))(item, out, depth)


def encode_list(value: list[object] | tuple[object, ...], out: bytearray, depth: int) -> None:
    """Append a list. Raises EncodeError."""
    if not value:
        out.append(0x45)
        return
    start = len(out)
    _encode_contents(value, out, depth + 1)
    close_list(out, start, len(value))


def close_list(out: bytearray, start: int, count: int) -> None:
    """Make the `count` encoded values from `start` on a list."""
    _close_compound(out, start, count, 0xC0, 0xD0)


def encode_map(value: dict[object, object] | MapPairs, out: bytearray, depth: int) -> None:
    """Append a map. Raises EncodeError."""
    start = len(out)
    _encode_pairs(value, out, depth + 1)
    close_map(out, start, len(value))


def close_map(out: bytearray, start: int, entries: int) -> None:
    """Make the encoded keys and values from `start` on a map."""
    _close_compound(out, start, 2 * entries, 0xC1, 0xD1)


def encode_described(value: Described, out: bytearray, depth: int) -> None:
    """Append a described value. Raises EncodeError."""
    if depth >= MAX_DEPTH:
        raise EncodeError(f"nested deeper than {MAX_DEPTH} levels")
    out.append(0x00)
    encode_at(value.descriptor, out, depth + 1)
    encode_at(value.value, out, depth + 1)


# The constructor that holds every value of the type, by each constructor that may be narrower.
_WIDEST: Final = {
    0x41: 0x56,
    0x42: 0x56,
    0x43: 0x70,
    0x52: 0x70,
    0x44: 0x80,
    0x53: 0x80,
    0x54: 0x71,
    0x55: 0x81,
    0xA0: 0xB0,
    0xA1: 0xB1,
    0xA3: 0xB3,
}

# Element encodings of a fixed width that hold a number: struct format by constructor.
_NUMBERS: Final = {
    0x50: "B",
    0x51: "b",
    0x52: "B",
    0x53: "B",
    0x54: "b",
    0x55: "b",
    0x60: "H",
    0x61: "h",
    0x70: "I",
    0x71: "i",
    0x72: "f",
    0x80: "Q",
    0x81: "q",
    0x82: "d",
    0x83: "q",
}

_CONSTANTS: dict[int, object] = {0x40: None, 0x41: True, 0x42: False, 0x43: 0, 0x44: 0}
_DECIMAL_WIDTHS: Final = {0x74: 4, 0x84: 8, 0x94: 16}


class _MisfitError(Exception):
    """An element does not fit this constructor; a wider one may do."""


def _encode_element(code: int, value: object, out: bytearray) -> None:
    """Append an array element without its constructor. Raises _MisfitError or EncodeError."""
    if code in _NUMBERS:
        if not isinstance(value, float if code in (0x72, 0x82) else int) or isinstance(value, bool):
            raise _MisfitError
        try:
            out += struct.pack(">" + _NUMBERS[code], value)
        except (struct.error, OverflowError):
            raise _MisfitError from None
    elif code in _CONSTANTS:
        constant = _CONSTANTS[code]
        if value != constant or isinstance(value, bool) != isinstance(constant, bool):
            raise _MisfitError
    elif code == 0x56:
        if not isinstance(value, bool):
            raise _MisfitError
        out.append(value)
    elif code in (0xA0, 0xB0, 0xA1, 0xB1, 0xA3, 0xB3):
        kind = code & 0x0F
        if kind == 0:
            if not isinstance(value, (bytes, bytearray)):
                raise _MisfitError
            raw = bytes(value)
        else:
            if not isinstance(value, str):
                raise _MisfitError
            raw = _string_octets(value) if kind == 1 else _symbol_octets(value)
        if code & 0x10:
            out += _size32(len(raw))
        elif len(raw) <= 0xFF:
            out.append(len(raw))
        else:
            raise _MisfitError
        out += raw
    elif code == 0x45:
        if not _is_list(value) or value:
            raise _MisfitError
    elif code in _DECIMAL_WIDTHS:
        if not isinstance(value, bytes) or len(value) != _DECIMAL_WIDTHS[code]:
            raise _MisfitError
        out += value
    elif code == 0x73:
        if not isinstance(value, str):
            raise _MisfitError
        out += _char_octets(value)
    elif code == 0x98:
        if not isinstance(value, uuid.UUID):
            raise _MisfitError
        out += value.bytes
    else:
        raise EncodeError(f"0x{code:02x} is no constructor of array elements")


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) and not isinstance(value, (Array, MapPairs))


def _encode_compounds(code: int, items: Iterable[object], out: bytearray, depth: int) -> None:
    """Append the constructor and the elements of an array of lists, maps or arrays.

    The contents are written once and the width of their sizes is chosen afterwards: to try again at every level of
    arrays of arrays would double the work with each.
    """
    family = code & 0x2F
    pieces: list[tuple[int, bytearray]] = []
    wide = bool(code & 0x10)
    for item in items:
        piece = bytearray()
        if family == 0x00 and _is_list(item):
            items_of = cast("Sequence[object]", item)
            _encode_contents(items_of, piece, depth + 1)
            count = len(items_of)
        elif family == 0x01 and isinstance(item, (dict, MapPairs)):
            _encode_pairs(item, piece, depth + 1)
            count = 2 * len(item)
        elif family == 0x20 and isinstance(item, Array):
            _encode_elements(item, piece, depth)
            count = len(item)
        else:
            raise EncodeError(f"{type(item).__name__} does not fit an array of 0x{code:02x}")
        wide = wide or len(piece) > 0xFE or count > 0xFF
        pieces.append((count, piece))
    # C0, C1 and E0 have D0, D1 and F0 as wide encodings.
    out.append(code | 0x10 if wide else code)
    for count, piece in pieces:
        if wide:
            out += _size32(len(piece) + 4)
            out += _size32(count)
        else:
            out.append(len(piece) + 1)
            out.append(count)
        out += piece


def _encode_elements(value: Array, out: bytearray, depth: int) -> None:
    """Append the constructor of an array that stands at `depth`, and its elements."""
    depth += 1
    if depth + len(value.descriptors) > MAX_DEPTH:
        raise EncodeError(f"nested deeper than {MAX_DEPTH} levels")
    for descriptor in value.descriptors:
        depth += 1
        out.append(0x00)
        encode_at(descriptor, out, depth)
    code = value.code
    if code in (0xC0, 0xC1, 0xD0, 0xD1, 0xE0, 0xF0):
        _encode_compounds(code, value, out, depth)
        return
    if code == 0x45 and any(value):
        _encode_compounds(0xC0, value, out, depth)
        return
    start = len(out)
    for code in (value.code, _WIDEST.get(value.code, value.code)):
        out.append(code)
        try:
            for item in value:
                _encode_element(code, item, out)
            return
        except _MisfitError:
            del out[start:]
    raise EncodeError(f"element does not fit an array of 0x{value.code:02x}")


def encode_array(value: Array, out: bytearray, depth: int) -> None:
    """Append an array. Raises EncodeError."""
    start = len(out)
    _encode_elements(value, out, depth)
    _close_compound(out, start, len(value), 0xE0, 0xF0)


_ENCODERS: dict[type, _Encoder] = {
    type(None): _encode_null,
    bool: _encode_boolean,
    UByte: _encode_ubyte,
    UShort: _encode_ushort,
    UInt: encode_uint,
    ULong: encode_ulong,
    Byte: _encode_byte,
    Short: _encode_short,
    Int: _encode_int,
    int: _encode_long,
    Timestamp: encode_timestamp,
    Float: _encode_float,
    float: _encode_double,
    Decimal32: _encode_decimal32,
    Decimal64: _encode_decimal64,
    Decimal128: _encode_decimal128,
    Char: _encode_char,
    uuid.UUID: _encode_uuid,
    bytes: encode_binary,
    bytearray: encode_binary,
    memoryview: _encode_memoryview,
    str: encode_string,
    Symbol: encode_symbol,
    list: encode_list,
    tuple: encode_list,
    dict: encode_map,
    MapPairs: encode_map,
    Array: encode_array,
    Described: encode_described,
}
