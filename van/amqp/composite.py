"""Composite types (1.4): a described list whose fields are declared once, in a table.

A composite is a slotted class with `FIELDS`; decoding, encoding, comparison, `repr` and the tests' strategies derive
from that table. What the composites mean is said where they are declared: `performatives.py`, `sasl_frames.py`,
`terminus.py`, `delivery_state.py` and, for the sections of a message, `message.py`. Transfer, Flow and Disposition have
faster coders for ordinary traffic in `hot.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import ClassVar, Final, TypeVar, cast

from van.amqp.codec import (
    MAX_DEPTH,
    EncodeError,
    close_list,
    close_map,
    decode_value,
    encode_array,
    encode_at,
    encode_binary,
    encode_described,
    encode_map,
    encode_string,
    encode_symbol,
    encode_timestamp,
    encode_uint,
    encode_ulong,
    register_encoder,
)
from van.amqp.errors import DecodeError
from van.amqp.types import Array, Described, Symbol, Timestamp, UByte, UInt, ULong, UShort

FieldEncoder = Callable[[object, bytearray, int], None]


class FieldType:
    """What a field may hold: a primitive type, one restricted to some values, or composites that provide something.

    `name` is the specification's. `classes` are the classes in which the codec hands over such a value; those of
    integers are turned into a plain `int`, because the table knows their width. `choices` are the only values allowed.
    """

    __slots__ = ("choices", "classes", "encode", "integer", "name")

    def __init__(
        self,
        name: str,
        classes: tuple[type, ...],
        encode: FieldEncoder,
        *,
        integer: bool = False,
        choices: tuple[object, ...] = (),
    ) -> None:
        self.name = name
        self.classes = classes
        self.encode = encode
        self.integer = integer
        self.choices = choices

    def __repr__(self) -> str:
        return f"<FieldType {self.name}>"


def _wrong(name: str, value: object) -> EncodeError:
    return EncodeError(f"{value!r} is no {name}")


def _encode_boolean(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, bool):
        raise _wrong("boolean", value)
    out.append(0x41 if value else 0x42)


def _encode_ubyte(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, int) or not 0 <= value <= 0xFF:
        raise _wrong("ubyte", value)
    out.append(0x50)
    out.append(value)


def _encode_ushort(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
        raise _wrong("ushort", value)
    out.append(0x60)
    out += value.to_bytes(2, "big")


def _encode_uint(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, int):
        raise _wrong("uint", value)
    encode_uint(value, out, depth)


def _encode_ulong(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, int):
        raise _wrong("ulong", value)
    encode_ulong(value, out, depth)


def _encode_timestamp(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, int):
        raise _wrong("timestamp", value)
    encode_timestamp(value, out, depth)


def _encode_binary(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, (bytes, bytearray)):
        raise _wrong("binary", value)
    encode_binary(bytes(value), out, depth)


def _encode_string(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, str):
        raise _wrong("string", value)
    encode_string(value, out, depth)


def _encode_symbol(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, str):
        raise _wrong("symbol", value)
    encode_symbol(value, out, depth)


def _encode_message_id(value: object, out: bytearray, depth: int) -> None:
    # A plain int can only be meant as a ulong here (3.2.11 to 3.2.14).
    if isinstance(value, int) and not isinstance(value, bool):
        encode_ulong(value, out, depth)
    elif isinstance(value, str):
        encode_string(value, out, depth)
    elif isinstance(value, (bytes, uuid.UUID)):
        encode_at(value, out, depth)
    else:
        raise _wrong("message-id", value)


def _encode_map(value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, dict):
        raise _wrong("map", value)
    encode_map(value, out, depth)


def encode_fields(value: object, out: bytearray, depth: int) -> None:
    """Append a map whose keys are symbols (2.8.13): plain strings as keys are written as symbols.

    Keys that are not text (the reserved ulong keys of annotations, 3.2.10) are written as they are.
    """
    if not isinstance(value, dict):
        raise _wrong("map", value)
    if depth >= MAX_DEPTH:
        raise EncodeError(f"nested deeper than {MAX_DEPTH} levels")
    start = len(out)
    for key, item in value.items():
        if isinstance(key, str):
            encode_symbol(key, out, depth)
        else:
            encode_at(key, out, depth + 1)
        encode_at(item, out, depth + 1)
    close_map(out, start, len(value))


def _encode_composite(value: object, out: bytearray, depth: int) -> None:
    if isinstance(value, Composite):
        value.encode_to(out, depth)
    elif isinstance(value, Described):
        encode_described(value, out, depth)
    else:
        raise _wrong("described type", value)


BOOLEAN: Final = FieldType("boolean", (bool,), _encode_boolean)
UBYTE: Final = FieldType("ubyte", (UByte,), _encode_ubyte, integer=True)
USHORT: Final = FieldType("ushort", (UShort,), _encode_ushort, integer=True)
UINT: Final = FieldType("uint", (UInt,), _encode_uint, integer=True)
ULONG: Final = FieldType("ulong", (ULong,), _encode_ulong, integer=True)
TIMESTAMP: Final = FieldType("timestamp", (Timestamp,), _encode_timestamp, integer=True)
# Routers of the field write the content-type of a TCP flow as a string: taken from others, never written.
LENIENT_SYMBOL: Final = FieldType("symbol", (Symbol, str), _encode_symbol)
BINARY: Final = FieldType("binary", (bytes,), _encode_binary)
STRING: Final = FieldType("string", (str,), _encode_string)
SYMBOL: Final = FieldType("symbol", (Symbol,), _encode_symbol)
MAP: Final = FieldType("map", (dict,), _encode_map)
# Maps with symbols as keys: fields, filter-set, node-properties, annotations. Strings are taken as well: some peers
# write them, and no two keys can be confused by it.
FIELDS: Final = FieldType("fields", (dict,), encode_fields)
ANY: Final = FieldType("*", (), encode_at)
# Fields of type "*" whose `requires` names one archetype.
ADDRESS: Final = FieldType("address", (str,), _encode_string)
MESSAGE_ID: Final = FieldType("message-id", (str, ULong, bytes, uuid.UUID), _encode_message_id)
TXN_ID: Final = FieldType("txn-id", (bytes,), _encode_binary)
# Composites; the field's `requires` says which.
COMPOSITE: Final = FieldType("composite", (), _encode_composite)

SENDER_SETTLE_MODE: Final = FieldType("sender-settle-mode", (UByte,), _encode_ubyte, integer=True, choices=(0, 1, 2))
RECEIVER_SETTLE_MODE: Final = FieldType("receiver-settle-mode", (UByte,), _encode_ubyte, integer=True, choices=(0, 1))
SASL_CODE: Final = FieldType("sasl-code", (UByte,), _encode_ubyte, integer=True, choices=(0, 1, 2, 3, 4))
TERMINUS_DURABILITY: Final = FieldType("terminus-durability", (UInt,), _encode_uint, integer=True, choices=(0, 1, 2))
TERMINUS_EXPIRY_POLICY: Final = FieldType(
    "terminus-expiry-policy",
    (Symbol,),
    _encode_symbol,
    choices=("link-detach", "session-end", "connection-close", "never"),
)


class Field:
    """A row of a field table.

    `name` is the specification's, `attribute` the same with underscores. `multiple` fields are lists in Python; a list
    of one is written bare, unless `always_array` (1.4 allows both). `requires` is what a composite in this field must
    provide, "" for anything.
    """

    __slots__ = ("always_array", "attribute", "default", "mandatory", "multiple", "name", "requires", "type")

    def __init__(
        self,
        name: str,
        field_type: FieldType,
        *,
        mandatory: bool = False,
        multiple: bool = False,
        always_array: bool = False,
        default: object = None,
        requires: str = "",
    ) -> None:
        self.name = name
        self.attribute = name.replace("-", "_")
        self.type = field_type
        self.mandatory = mandatory
        self.multiple = multiple
        self.always_array = always_array
        self.default = default
        self.requires = requires

    def __repr__(self) -> str:
        return f"<Field {self.name} {self.type.name}>"


class Composite:
    """The base of all composites.

    `DESCRIPTOR` is the numeric descriptor, `NAME` the symbolic one, `FIELDS` the table, `PROVIDES` the archetypes for
    which it may stand. Attributes are the field names with underscores; an absent field has its default, or None.
    """

    __slots__ = ()

    DESCRIPTOR: ClassVar[int] = 0
    NAME: ClassVar[str] = ""
    FIELDS: ClassVar[tuple[Field, ...]] = ()
    PROVIDES: ClassVar[tuple[str, ...]] = ()

    def encode(self) -> bytes:
        """Return the octets of the whole described list, as short as possible. Raises EncodeError."""
        out = bytearray()
        self.encode_to(out, 0)
        return bytes(out)

    def encode_to(self, out: bytearray, depth: int) -> None:
        """Append the same to `out`; the composite stands `depth` levels deep. Raises EncodeError."""
        if depth >= MAX_DEPTH:
            raise EncodeError(f"nested deeper than {MAX_DEPTH} levels")
        out.append(0x00)
        out.append(0x53)
        out.append(self.DESCRIPTOR)
        start = length = len(out)
        count = 0
        written = 0
        for field in self.FIELDS:
            count += 1
            value = getattr(self, field.attribute)
            if value is None or (value == field.default and not field.mandatory):
                if value is None and field.mandatory:
                    raise EncodeError(f"{self.NAME}: {field.name} is mandatory")
                out.append(0x40)
                continue
            try:
                if field.multiple:
                    _encode_multiple(field, value, out, depth + 2)
                else:
                    if field.type.choices and value not in field.type.choices:
                        raise _wrong(field.type.name, value)
                    field.type.encode(value, out, depth + 2)
            except EncodeError as error:
                raise EncodeError(f"{self.NAME}: {field.name}: {error}") from None
            length = len(out)
            written = count
        del out[length:]
        if written == 0:
            out.append(0x45)
        elif depth + 2 > MAX_DEPTH:
            raise EncodeError(f"nested deeper than {MAX_DEPTH} levels")
        else:
            close_list(out, start, written)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field.attribute) == getattr(other, field.attribute) for field in self.FIELDS)

    def __hash__(self) -> int:
        """Raise TypeError: it can be changed."""
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        values = [(field, getattr(self, field.attribute)) for field in self.FIELDS]
        shown = ", ".join(f"{field.attribute}={value!r}" for field, value in values if value != field.default)
        return f"{type(self).__name__}({shown})"


def _encode_multiple(field: Field, value: object, out: bytearray, depth: int) -> None:
    if not isinstance(value, (list, tuple)):
        raise EncodeError(f"{value!r} is no list")
    if len(value) == 1 and not field.always_array:
        field.type.encode(value[0], out, depth)
        return
    # All multiple fields of the specification are symbols. 0xA3 widens where one of them is longer than 255 octets.
    encode_array(Array(0xA3, value), out, depth)


C = TypeVar("C", bound=Composite)

_by_descriptor: dict[int, type[Composite]] = {}
_by_name: dict[str, type[Composite]] = {}


def register(*classes: type[Composite]) -> None:
    """Make composites known to `decode_composite` and to the codec. No decorator: compiled classes take none."""
    for cls in classes:
        _by_descriptor[cls.DESCRIPTOR] = cls
        _by_name[cls.NAME] = cls
        register_encoder(cls, _encode_composite)


def registered_composites() -> list[type[Composite]]:
    """Return the composites known so far, by descriptor."""
    return [_by_descriptor[code] for code in sorted(_by_descriptor)]


def composite_class(descriptor: object) -> type[Composite] | None:
    """Return the composite with this descriptor (a ulong or a symbol), or None."""
    if type(descriptor) is ULong:
        return _by_descriptor.get(descriptor)
    if type(descriptor) is Symbol:
        return _by_name.get(descriptor)
    return None


def decode_composite(buf: bytes, pos: int, end: int) -> tuple[Composite | Described, int]:
    """Decode the described value at `pos`; return it and the position behind it.

    A descriptor of ours, numeric or symbolic, gives that composite, any other a `Described`.
    Raises DecodeError, which names composite and field.
    """
    if pos >= end or buf[pos] != 0x00:
        raise DecodeError(f"no described type at octet {pos}")
    value, pos = decode_value(buf, pos, end)
    return as_composite(cast("Described", value)), pos


def as_composite(described: Described) -> Composite | Described:
    """Turn a described value of a known descriptor into its composite. Raises DecodeError."""
    cls = composite_class(described.descriptor)
    if cls is None:
        return described
    if type(described.value) is not list:
        raise DecodeError(f"{cls.NAME}: the described value is no list")
    return from_list(cls, described.value)


def from_list(cls: type[C], values: list[object]) -> C:
    """Make the composite with these field values, as they come from the codec. Raises DecodeError."""
    fields = cls.FIELDS
    if len(values) > len(fields):
        raise DecodeError(f"{cls.NAME}: {len(values)} fields, it has {len(fields)}")
    # Constructors have the defaults of the table: what is absent is left to them.
    arguments: dict[str, object] = {}
    for field, value in zip(fields, values, strict=False):
        if value is None:
            if field.mandatory:
                raise DecodeError(f"{cls.NAME}: {field.name} is mandatory")
        elif field.multiple:
            arguments[field.attribute] = _decode_multiple(cls, field, value)
        else:
            arguments[field.attribute] = decode_field(cls, field, value)
    for field in fields[len(values) :]:
        if field.mandatory:
            raise DecodeError(f"{cls.NAME}: {field.name} is mandatory")
    return cast("Callable[..., C]", cls)(**arguments)


def _wrong_type(cls: type[Composite], field: Field, value: object) -> DecodeError:
    return DecodeError(
        f"{cls.NAME}: {field.name} is no {field.requires or field.type.name}, but {type(value).__name__}"
    )


def decode_field(cls: type[Composite], field: Field, value: object) -> object:
    """Check a value that is not null against its row of the table. Raises DecodeError."""
    field_type = field.type
    if field_type is COMPOSITE:
        if type(value) is not Described:
            raise _wrong_type(cls, field, value)
        composite = as_composite(value)
        if type(composite) is Described:
            # A descriptor that we do not know may provide anything but an error, which has only one type (2.8.14).
            if field.requires == "error":
                raise _wrong_type(cls, field, value)
        elif field.requires not in cast("Composite", composite).PROVIDES:
            raise _wrong_type(cls, field, composite)
        return composite
    if field_type is ANY:
        return value
    if type(value) not in field_type.classes:
        raise _wrong_type(cls, field, value)
    if field_type.integer:
        value = int(cast("int", value))
    elif type(value) is dict:
        return _decode_map(cls, field, value)
    if field_type.choices and value not in field_type.choices:
        raise DecodeError(f"{cls.NAME}: {field.name} has no value {value}")
    return value


def _decode_map(cls: type[Composite], field: Field, value: dict[object, object]) -> dict[object, object]:
    """Make composites of the states in Attach.unsettled, the lifetime-policy in a terminus and the like."""
    if field.type is FIELDS:
        for key in value:
            if not isinstance(key, str):
                raise DecodeError(f"{cls.NAME}: {field.name} has a key that is no symbol, but {type(key).__name__}")
    for key, item in value.items():
        if type(item) is Described:
            value[key] = as_composite(item)
    return value


def _decode_multiple(cls: type[Composite], field: Field, value: object) -> list[object]:
    if type(value) is not Array:
        return [decode_field(cls, field, value)]
    if value.descriptors:
        raise _wrong_type(cls, field, value)
    return [decode_field(cls, field, item) for item in value]
