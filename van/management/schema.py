"""How entity types are declared: attributes with their types, and where their values come from.

A declaration is all there is to say about a type: the columns of QUERY, what READ answers, GET-TYPES, GET-ATTRIBUTES,
GET-OPERATIONS and the tables of the documentation come from it. Rows are the router's own objects: an attribute is
computed only when somebody asks for it.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from van.amqp.codec import EncodeError, close_list, encode_at, encode_string, encode_uint, encode_ulong, encode_value
from van.amqp.types import Int

if TYPE_CHECKING:
    from van.management.view import View

# What stands before every type name on the wire; that of the routers whose dialect is our native one.
PREFIX: Final = "io.skupper.router."
# Tools that were made for the older routers say this instead.
OLDER_PREFIX: Final = "org.apache.qpid.dispatch."
# The management node is addressed as an entity of this type, with no prefix (AMQP management, section 3).
NODE_TYPE: Final = "org.amqp.management"

ENTITY: Final = "entity"
CONFIGURATION: Final = "configurationEntity"
OPERATIONAL: Final = "operationalEntity"

# The constructor of null (1.6.1).
NULL_CODE: Final = 0x40
# How deep the values of rows stand in the answer to a QUERY: in a section, a map, a list of rows, a row.
DEPTH: Final = 4

Row = TypeVar("Row")


class Kind(enum.Enum):
    """The type of an attribute's values on the wire. Any of them may be null: not known, or not so here."""

    STRING = "string"
    BOOLEAN = "boolean"
    ULONG = "ulong"
    UINT = "uint"
    INT = "int"
    LONG = "long"
    LIST = "list"
    MAP = "map"


@attrs.frozen
class Attribute(Generic[Row]):
    """One attribute: its name, type, meaning (for people), and how it is read from a row."""

    name: str
    kind: Kind
    read: Callable[[View, Row], object]
    meaning: str

    def encode(self, view: View, row: Row, out: bytearray) -> None:
        """Append the row's value to `out`; null where it cannot be said in AMQP.

        Some values come from peers (the properties of their Open): none of them may spoil an answer.
        """
        value = self.read(view, row)
        start = len(out)
        try:
            if value is None:
                out.append(NULL_CODE)
            else:
                _ENCODERS[self.kind](value, out)
        except EncodeError:
            del out[start:]
            out.append(NULL_CODE)

    def fixed(self) -> bytes | None:
        """The octets of the value, where that is the same for every row; None where it is not."""
        if self.read is unknown:
            return bytes((NULL_CODE,))
        if not isinstance(self.read, Constant):
            return None
        out = bytearray()
        _ENCODERS[self.kind](self.read.value, out)
        return bytes(out)


class Columns(Generic[Row]):
    """Attributes in the order in which rows are asked for."""

    __slots__ = ("_attributes", "_steps")

    def __init__(self, attributes: Iterable[Attribute[Row]]) -> None:
        self._attributes = tuple(attributes)
        self._steps = [(each.fixed(), each.read, _ENCODERS[each.kind]) for each in self._attributes]

    def encode(self, view: View, row: Row, out: bytearray) -> None:
        """Append the list of a row's values."""
        if not self._steps:
            out.append(0x45)
            return
        start = len(out)
        try:
            for fixed, read, encode in self._steps:
                if fixed is not None:
                    out += fixed
                    continue
                value = read(view, row)
                if value is None:
                    out.append(NULL_CODE)
                else:
                    encode(value, out)
        except EncodeError:
            # Seldom: then value by value, and null for the one that cannot be said.
            del out[start:]
            for attribute in self._attributes:
                attribute.encode(view, row, out)
        close_list(out, start, len(self._steps))


def _encode_boolean(value: object, out: bytearray) -> None:
    out.append(0x41 if value else 0x42)


def _encode_int(value: int, out: bytearray) -> None:
    encode_value(Int(value), out)


_ENCODERS: Final[dict[Kind, Callable[..., None]]] = {
    Kind.STRING: lambda value, out: encode_string(value, out, 0),
    Kind.BOOLEAN: _encode_boolean,
    Kind.ULONG: lambda value, out: encode_ulong(value, out, 0),
    Kind.UINT: lambda value, out: encode_uint(value, out, 0),
    Kind.INT: _encode_int,
    Kind.LONG: encode_value,
    Kind.LIST: lambda value, out: encode_at(value, out, DEPTH),
    Kind.MAP: lambda value, out: encode_at(value, out, DEPTH),
}


def string(name: str, read: Callable[[View, Row], object], meaning: str) -> Attribute[Row]:
    """An attribute that is a text."""
    return Attribute(name, Kind.STRING, read, meaning)


def boolean(name: str, read: Callable[[View, Row], object], meaning: str) -> Attribute[Row]:
    """An attribute that is true or false."""
    return Attribute(name, Kind.BOOLEAN, read, meaning)


def ulong(name: str, read: Callable[[View, Row], object], meaning: str) -> Attribute[Row]:
    """An attribute that counts what grows for ever."""
    return Attribute(name, Kind.ULONG, read, meaning)


def uint(name: str, read: Callable[[View, Row], object], meaning: str) -> Attribute[Row]:
    """An attribute that counts what there is, or seconds."""
    return Attribute(name, Kind.UINT, read, meaning)


def integer(name: str, read: Callable[[View, Row], object], meaning: str) -> Attribute[Row]:
    """An attribute that is a number of the configuration."""
    return Attribute(name, Kind.INT, read, meaning)


def long(name: str, read: Callable[[View, Row], object], meaning: str) -> Attribute[Row]:
    """An attribute that is some other number."""
    return Attribute(name, Kind.LONG, read, meaning)


def listing(name: str, read: Callable[[View, Row], object], meaning: str) -> Attribute[Row]:
    """An attribute that is a list."""
    return Attribute(name, Kind.LIST, read, meaning)


def mapping(name: str, read: Callable[[View, Row], object], meaning: str) -> Attribute[Row]:
    """An attribute that is a map."""
    return Attribute(name, Kind.MAP, read, meaning)


def unknown(view: View, row: object) -> None:
    """Read an attribute of the deployed routers that has no meaning here, or is not counted."""


class Constant:
    """Reads an attribute that is the same for every row."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __call__(self, view: View, row: object) -> object:
        """Read it."""
        return self.value


def constant(value: object) -> Callable[[View, object], object]:
    """Read an attribute that is the same for every row."""
    return Constant(value)


class EntityType(Generic[Row]):
    """What there is to say about one type of entities.

    type: its name without prefix; base: the type that it extends; attributes: in the order of the wire; operations:
    those beside QUERY.

    of_core: the deployed routers answer for this type from their core, with manners of its own that their tools rely
    on. A name that a QUERY asks for and that does not exist stands for the first attribute (tools ask for those of
    older routers), where for other types the QUERY is answered 404; READ tells attributes that are null, where for
    other types it leaves them out; and whoever wants to change such an entity is answered 403.

    takes_time: making and deleting entities is the process's, and takes time; not `create` and `delete` are called, but
    what the agent was given for it.
    """

    type: str
    base: str = OPERATIONAL
    meaning: str = ""
    attributes: tuple[Attribute[Row], ...]
    operations: tuple[str, ...] = ("READ",)
    of_core = False
    takes_time = False

    def rows(self, view: View) -> Iterable[Row]:
        """Every entity of this type, in an order that stays."""
        raise NotImplementedError

    def page(self, view: View, offset: int, count: int | None) -> Iterable[Row]:
        """So many entities behind the first `offset` ones; all with None.

        They may come and go while the rows are taken one by one: what is iterated over is a copy.
        """
        start = min(offset, sys.maxsize)
        stop = None if count is None else min(start + count, sys.maxsize)
        return list(islice(self.rows(view), start, stop))

    def prepare(self, view: View, asked: Collection[str]) -> Iterator[None]:
        """Work out what is needed for the attributes that are asked for and takes long, a piece at a time."""
        return iter(())

    def identity(self, view: View, row: Row) -> str:
        """The identity of an entity: unique within its type."""
        raise NotImplementedError

    def name(self, view: View, row: Row) -> str:
        """The name of an entity."""
        return self.identity(view, row)

    def create(self, view: View, name: str, attributes: dict[object, object]) -> Row:
        """Make an entity; `name` is empty where none was given. Raises `ManagementError`.

        Called where `operations` has CREATE, for who may change the router.
        """
        raise NotImplementedError

    def delete(self, view: View, row: Row) -> None:
        """Take an entity away; called where `operations` has DELETE, for who may change the router."""
        raise NotImplementedError

    def find(self, view: View, identity: str) -> Row | None:
        """The entity with this identity."""
        return next((row for row in self.rows(view) if self.identity(view, row) == identity), None)

    def find_by_name(self, view: View, name: str) -> Row | None:
        """The first entity with this name."""
        return next((row for row in self.rows(view) if self.name(view, row) == name), None)

    @property
    def full_type(self) -> str:
        """The name of the type on the wire."""
        return PREFIX + self.type

    def by_name(self) -> dict[str, Attribute[Row]]:
        """The attributes by their names."""
        return {attribute.name: attribute for attribute in self.attributes}
