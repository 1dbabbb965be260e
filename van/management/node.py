"""The management node: requests in, replies out, a slice of work at a time.

Rows of a QUERY are encoded as they are read, `step` after `step`, so that an answer of many thousand rows is nobody's
pause.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import Final

from van.amqp.codec import close_list, close_map, encode_value
from van.amqp.message import Header, Message, MessageId, Properties
from van.amqp.types import Int
from van.management.entities import ABSTRACT_TYPES, BY_TYPE, ENTITY_TYPES, bases_of
from van.management.requests import ManagementError, Request, Status, quoted
from van.management.rows import other_nodes
from van.management.schema import NULL_CODE, PREFIX, Attribute, Columns, EntityType, string, unknown
from van.management.view import View
from van.routing.address import AREA

_RESULTS: Final = "results"
_NAMES: Final = "attributeNames"
# One piece of preparation (the paths of one router) takes as long as so many rows.
PREPARING: Final = 50
# What changes the router; READ and QUERY are for everybody who may connect.
CHANGES: Final = ("CREATE", "UPDATE", "DELETE")
# The attributes of every entity.
COMMON: Final = ["name", "identity", "type"]


class Reply:
    """An answer that is being made. `step` goes on with it; it is `done` when `encode` may be called.

    `made` counts the rows so far.
    """

    def __init__(self, reply_to: str, correlation_id: MessageId | None) -> None:
        self.reply_to = reply_to
        self.correlation_id = correlation_id
        self.status = Status.OK
        self.description = "OK"
        self.body = bytearray()
        self.done = False
        self.made = 0

    def step(self, rows: int) -> int:
        """Do about so much more, counted in rows; returns how much was done."""
        raise NotImplementedError

    def fail(self, status: Status, description: str) -> None:
        """Tell an error, whatever had been made before."""
        self.status = status
        self.description = description
        self.body = bytearray()
        encode_value({}, self.body)
        self.done = True

    def encode(self) -> bytes:
        """The message."""
        front = Message(
            header=Header(durable=False),
            properties=Properties(to=self.reply_to, correlation_id=self.correlation_id),
            application_properties={"statusCode": Int(self.status), "statusDescription": self.description},
        ).encode()
        return b"".join((front, b"\x00\x53\x77", self.body))


class WholeReply(Reply):
    """An answer that was there at once, as an encoded value."""

    def __init__(self, reply_to: str, correlation_id: MessageId | None, body: bytearray) -> None:
        super().__init__(reply_to, correlation_id)
        self.body = body
        self.done = True

    def step(self, rows: int) -> int:
        return 0


class QueryReply(Reply):
    """The rows of one type, or of several with all their attributes (null where a type lacks one)."""

    def __init__(self, reply_to: str, correlation_id: MessageId | None, view: View, request: Request) -> None:
        super().__init__(reply_to, correlation_id)
        self._view = view
        types = types_named(request.entity_type)
        names, columns = _columns(types, request.attribute_names)
        self._names = names
        self._preparing = chain.from_iterable([declared.prepare(view, names) for declared in types])
        self._rows = _rows(view, list(zip(types, columns, strict=True)), request.offset, request.count)
        self._more_rows = view.elsewhere.rows if view.elsewhere is not None else []
        self._prepared = False

    def step(self, rows: int) -> int:
        done = 0
        while not self._prepared and done < rows:
            if next(self._preparing, self) is self:
                self._prepared = True
            else:
                done += PREPARING
        while done < rows:
            found = next(self._rows, None)
            if found is None:
                self._finish()
                break
            columns, row = found
            columns.encode(self._view, row, self.body)
            self.made += 1
            done += 1
        return done

    def _finish(self) -> None:
        rows = self.body
        # Those of other processes are there already.
        for row in self._more_rows:
            rows += row
        self.made += len(self._more_rows)
        close_list(rows, 0, self.made)
        self.body = bytearray()
        encode_value(_NAMES, self.body)
        encode_value(self._names, self.body)
        encode_value(_RESULTS, self.body)
        self.body += rows
        close_map(self.body, 0, 2)
        self.done = True


def _rows(
    view: View, types: list[tuple[EntityType[object], Columns[object]]], offset: int, count: int | None
) -> Iterator[tuple[Columns[object], object]]:
    """The rows of all types, one after the other: `count` of them behind the first `offset`."""
    if len(types) == 1:
        declared, columns = types[0]
        for row in declared.page(view, offset, count):
            yield columns, row
        return
    for declared, columns in types:
        for row in declared.page(view, 0, None):
            if count == 0:
                return
            if offset:
                offset -= 1
                continue
            if count is not None:
                count -= 1
            yield columns, row


def rows_of(
    view: View, request: Request, only: Collection[str], offset: int, count: int | None
) -> Iterator[tuple[Columns[object], object]]:
    """The rows of some types that a QUERY asks for, with the columns that it asks for. Raises `ManagementError`."""
    types = types_named(request.entity_type)
    _, columns = _columns(types, request.attribute_names)
    wanted = [pair for pair in zip(types, columns, strict=True) if pair[0].type in only]
    return _rows(view, wanted, offset, count)


def _columns(
    types: list[EntityType[object]], asked: tuple[str, ...]
) -> tuple[list[str], list[Columns[object]]]:
    """The names of the columns, and for each type the attributes that are in them."""
    if len(types) == 1:
        (declared,) = types
        if not asked:
            return [attribute.name for attribute in declared.attributes], [Columns(declared.attributes)]
        by_name = declared.by_name()
        columns = []
        for name in asked:
            attribute = by_name.get(name)
            if attribute is None and not declared.of_core:
                raise ManagementError(Status.NOT_FOUND, f"No attribute {quoted(name)} in {declared.full_type}")
            columns.append(attribute if attribute is not None else declared.attributes[0])
        return [attribute.name for attribute in columns], [Columns(columns)]
    known = {attribute.name: None for declared in types for attribute in declared.attributes}
    names = list(asked or known)
    for name in names:
        if name not in known:
            raise ManagementError(Status.NOT_FOUND, f"No entity has an attribute {quoted(name)}")
    return names, [Columns(declared.by_name().get(name, _NULL) for name in names) for declared in types]


_NULL: Final[Attribute[object]] = string("", unknown, "What a type does not have.")


def types_named(name: str) -> list[EntityType[object]]:
    """The declared types that are of the type `name` or extend it; all for "". Raises `ManagementError`."""
    if not name:
        return list(ENTITY_TYPES)
    if name in BY_TYPE:
        return [BY_TYPE[name]]
    if name not in ABSTRACT_TYPES:
        raise ManagementError(Status.BAD_REQUEST, f"No such entity type {quoted(name)}")
    return [declared for declared in ENTITY_TYPES if name in bases_of(declared.type)]


def answer(view: View, request: Request, reply_to: str, correlation_id: MessageId | None) -> Reply:
    """The reply to a request, perhaps only begun. Raises `ManagementError`."""
    operation = request.operation
    if operation == "QUERY":
        return QueryReply(reply_to, correlation_id, view, request)
    if operation == "READ":
        return WholeReply(reply_to, correlation_id, _read(view, request))
    if operation in CHANGES:
        return _change(view, request, reply_to, correlation_id)
    tell = _TELLS.get(operation)
    if tell is None:
        raise ManagementError(Status.NOT_IMPLEMENTED, f"Not Implemented: {quoted(operation)}")
    body = bytearray()
    encode_value(tell(view, request), body)
    return WholeReply(reply_to, correlation_id, body)


def _read(view: View, request: Request) -> bytearray:
    """The attributes of one entity, as a map. Of an abstract type or none, every type is looked through."""
    identity, name = request.identity, request.name
    if identity is None and name is None:
        raise ManagementError(Status.BAD_REQUEST, "READ needs a name or an identity")
    for declared in types_named(request.type):
        row = find(view, declared, request)
        if row is not None:
            return encode_entity(view, declared, row)
    if view.elsewhere is not None and view.elsewhere.entity:
        return bytearray(view.elsewhere.entity)
    raise _not_found(request)


def find(view: View, declared: EntityType[object], request: Request) -> object | None:
    """The entity of a type that a READ asks for."""
    if request.identity is not None:
        return declared.find(view, request.identity)
    return declared.find_by_name(view, request.name or "")


def encode_entity(view: View, declared: EntityType[object], row: object) -> bytearray:
    """All attributes of an entity, as a map."""
    body = bytearray()
    count = 0
    for attribute in declared.attributes:
        start = len(body)
        encode_value(attribute.name, body)
        value = len(body)
        attribute.encode(view, row, body)
        if body[value] == NULL_CODE and not declared.of_core:
            del body[start:]
        else:
            count += 1
    close_map(body, 0, count)
    return body


def _change(view: View, request: Request, reply_to: str, correlation_id: MessageId | None) -> Reply:
    """Make or take away what is asked for, if whoever asks may."""
    declared = _changeable(request, view.may_change)
    if declared.takes_time:
        raise _refusal(request)
    if request.operation == "CREATE":
        row = declared.create(view, request.name or "", request.attributes)
        return _changed(request, reply_to, correlation_id, encode_entity(view, declared, row))
    if request.identity is None and request.name is None:
        raise ManagementError(Status.BAD_REQUEST, "No name or identity provided")
    found = find(view, declared, request)
    if found is None:
        raise _not_found(request)
    declared.delete(view, found)
    return _changed(request, reply_to, correlation_id, None)


def takes_time(request: Request, may_change: bool) -> bool:
    """Whether a request is a change that takes time: then it is one that may be made. Raises `ManagementError`."""
    declared = BY_TYPE.get(request.type)
    if request.operation not in CHANGES or declared is None or not declared.takes_time:
        return False
    _changeable(request, may_change)
    return True


def changed(view: View, request: Request, name: str, reply_to: str, correlation_id: MessageId | None) -> Reply:
    """The reply to a change that took time; name is the entity's."""
    declared = BY_TYPE[request.type]
    row = declared.find_by_name(view, name) if request.operation == "CREATE" else None
    body = encode_entity(view, declared, row) if row is not None else None
    return _changed(request, reply_to, correlation_id, body)


def _changeable(request: Request, may_change: bool) -> EntityType[object]:
    """The type of what is to be changed. Raises `ManagementError` when it cannot be, or not by whoever asks."""
    declared = BY_TYPE.get(request.type)
    if declared is None or request.operation not in declared.operations:
        raise _refusal(request)
    if not may_change:
        raise ManagementError(
            Status.FORBIDDEN,
            f"Forbidden: {request.operation} is for connections from the router's own machine, and for users who have "
            "proved who they are at this router; the request has to be sent unsettled",
        )
    return declared


def _changed(request: Request, reply_to: str, correlation_id: MessageId | None, body: bytearray | None) -> Reply:
    if body is None:
        body = bytearray()
        encode_value({}, body)
    reply = WholeReply(reply_to, correlation_id, body)
    created = request.operation == "CREATE"
    reply.status = Status.CREATED if created else Status.NO_CONTENT
    reply.description = "Created" if created else "No Content"
    return reply


def _not_found(request: Request) -> ManagementError:
    identity, name = request.identity, request.name
    key, value = ("identity", identity) if identity is not None else ("name", name)
    return ManagementError(Status.NOT_FOUND, f"No entity with {key}={quoted(value or '')}")


def _refusal(request: Request) -> ManagementError:
    """Why an entity is not made, changed or deleted: it cannot be, or not yet."""
    what = f"{request.operation} of {quoted(request.type)}"
    if not request.type:
        return ManagementError(Status.BAD_REQUEST, f"{request.operation} needs a type")
    if any(declared.of_core for declared in types_named(request.type)):
        return ManagementError(Status.FORBIDDEN, f"Forbidden: {what}")
    return ManagementError(Status.NOT_IMPLEMENTED, f"Not Implemented: {what}")


# -- what the node says about itself -------------------------------------------------------------------------------


def _type_names(request: Request) -> list[str]:
    """The types that a GET operation asks about: one, or all, those without entities among them."""
    name = request.entity_type
    if not name:
        return [*ABSTRACT_TYPES, *BY_TYPE]
    if name not in ABSTRACT_TYPES and name not in BY_TYPE:
        raise ManagementError(Status.BAD_REQUEST, f"No such entity type {quoted(name)}")
    return [name]


def _get_types(view: View, request: Request) -> object:
    return {PREFIX + name: [PREFIX + base for base in bases_of(name)] for name in _type_names(request)}


def _get_attributes(view: View, request: Request) -> object:
    return {
        PREFIX + name: [attribute.name for attribute in BY_TYPE[name].attributes] if name in BY_TYPE else COMMON
        for name in _type_names(request)
    }


def _get_operations(view: View, request: Request) -> object:
    return {PREFIX + name: list(BY_TYPE[name].operations) if name in BY_TYPE else [] for name in _type_names(request)}


def _get_annotations(view: View, request: Request) -> object:
    return {}


def _get_management_nodes(view: View, request: Request) -> object:
    if view.network is None:
        return []
    return [f"amqp:/_topo/{AREA}/{name}/$management" for name in (view.router.id, *other_nodes(view))]


_TELLS: Final[dict[str, Callable[[View, Request], object]]] = {
    "GET-TYPES": _get_types,
    "GET-ATTRIBUTES": _get_attributes,
    "GET-OPERATIONS": _get_operations,
    "GET-ANNOTATIONS": _get_annotations,
    "GET-MGMT-NODES": _get_management_nodes,
}
