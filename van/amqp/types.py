"""The values of the type system (part 1) that Python has no type of its own for.

Python's `None`, `bool`, `str`, `bytes`, `int`, `float`, `list`, `dict` and `uuid.UUID` stand for null, boolean, string,
binary, long, double, list, map and uuid. Everything else that has to survive a way in and out is a small subclass here:
it behaves as its Python base, compares equal to it, and is written with its own constructor.
Which octets stand for them is the business of `codec.py`.

Subclasses of built-in types stay interpreted when the package is compiled; nothing here is on the per-message path.
"""

from __future__ import annotations

from collections.abc import Iterable


class Symbol(str):
    """A symbol (1.6.21): ASCII text from a constrained domain."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Symbol({str.__repr__(self)})"


class Char(str):
    """A char (1.6.16): one Unicode character."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Char({str.__repr__(self)})"


class _Sized(int):
    """An integer whose width is part of its type. The range is checked when it is encoded, not when it is made."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int.__repr__(self)})"

    # Log lines and f-strings want the bare number.
    __str__ = int.__repr__


class UByte(_Sized):
    """An integer from 0 to 2**8 - 1 (1.6.3)."""

    __slots__ = ()


class UShort(_Sized):
    """An integer from 0 to 2**16 - 1 (1.6.4)."""

    __slots__ = ()


class UInt(_Sized):
    """An integer from 0 to 2**32 - 1 (1.6.5)."""

    __slots__ = ()


class ULong(_Sized):
    """An integer from 0 to 2**64 - 1 (1.6.6)."""

    __slots__ = ()


class Byte(_Sized):
    """An integer from -2**7 to 2**7 - 1 (1.6.7)."""

    __slots__ = ()


class Short(_Sized):
    """An integer from -2**15 to 2**15 - 1 (1.6.8)."""

    __slots__ = ()


class Int(_Sized):
    """An integer from -2**31 to 2**31 - 1 (1.6.9). A plain `int` is a long (1.6.10)."""

    __slots__ = ()


class Timestamp(_Sized):
    """Milliseconds since the Unix epoch, UTC (1.6.17)."""

    __slots__ = ()


class Float(float):
    """A 32-bit IEEE 754 number (1.6.11). A plain `float` is a double (1.6.12)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Float({float.__repr__(self)})"

    __str__ = float.__repr__


class Decimal32(bytes):
    """The 4 octets of an IEEE 754-2008 decimal32 (1.6.13), BID encoded; kept, not interpreted."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Decimal32({bytes.__repr__(self)})"


class Decimal64(bytes):
    """The 8 octets of an IEEE 754-2008 decimal64 (1.6.14)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Decimal64({bytes.__repr__(self)})"


class Decimal128(bytes):
    """The 16 octets of an IEEE 754-2008 decimal128 (1.6.15)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Decimal128({bytes.__repr__(self)})"


class Described:
    """A value with a descriptor that says what it means (1.2.1.2). The descriptor is usually a symbol or a ulong."""

    __slots__ = ("descriptor", "value")

    def __init__(self, descriptor: object, value: object) -> None:
        self.descriptor = descriptor
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Described):
            return NotImplemented
        return self.descriptor == other.descriptor and self.value == other.value

    def __hash__(self) -> int:
        """Hash by value; TypeError where descriptor or value cannot be hashed, as for a tuple."""
        return hash((Described, self.descriptor, self.value))

    def __repr__(self) -> str:
        return f"Described({self.descriptor!r}, {self.value!r})"


class Array(list[object]):
    """An array (1.6.24): values that share one constructor.

    `code` is the constructor octet of the elements, `descriptors` what stands before it in the constructor, outermost
    first; the elements themselves are not wrapped in `Described`. Where an element does not fit `code` (a smalluint
    of 300), the array is written with the widest encoding of the same type.
    """

    __slots__ = ("code", "descriptors")

    def __init__(self, code: int, items: Iterable[object] = (), descriptors: tuple[object, ...] = ()) -> None:
        super().__init__(items)
        self.code = code
        self.descriptors = descriptors

    def __repr__(self) -> str:
        described = f", {self.descriptors!r}" if self.descriptors else ""
        return f"Array(0x{self.code:02x}, {list.__repr__(self)}{described})"


class MapPairs(list[tuple[object, object]]):
    """A map (1.6.23) that a dict cannot hold: a list of its pairs in order.

    Keys may be unhashable (a list), or equal in Python and different in AMQP (string and symbol `x`, long and uint 1).
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"MapPairs({list.__repr__(self)})"
