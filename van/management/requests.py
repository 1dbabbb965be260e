"""Requests to the management node (AMQP management, section 3): what they ask for, and what is wrong with them."""

from __future__ import annotations

import enum
from typing import Final

import attrs

from van.amqp.message import AmqpValue, Message, MessageId
from van.management.schema import OLDER_PREFIX, PREFIX

# So many attribute names a QUERY may have; with more it gets every attribute, as from the deployed routers.
MAX_ATTRIBUTE_NAMES: Final = 64
# Names from a request are repeated in status descriptions up to this length, in characters.
MAX_QUOTED: Final = 100


class Status(enum.IntEnum):
    """Status codes: those of HTTP."""

    OK = 200
    CREATED = 201
    NO_CONTENT = 204
    BAD_REQUEST = 400
    FORBIDDEN = 403
    NOT_FOUND = 404
    INTERNAL_ERROR = 500
    NOT_IMPLEMENTED = 501


class ManagementError(Exception):
    """A request that cannot be answered: the status tells its sender why."""

    def __init__(self, status: Status, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.description = description


@attrs.frozen(kw_only=True)
class Request:
    """A request. `operation` is in upper case with hyphens; types are without prefix; "" where nothing was said.

    count is None where every row is wanted. `attributes` are those that an entity is to have.
    """

    operation: str
    type: str = ""
    entity_type: str = ""
    name: str | None = None
    identity: str | None = None
    offset: int = 0
    count: int | None = None
    attribute_names: tuple[str, ...] = ()
    attributes: dict[object, object] = attrs.field(factory=dict)


def reply_address(message: Message) -> tuple[str | None, MessageId | None]:
    """Where the reply goes to, and its correlation-id: that of the request, of the same type."""
    properties = message.properties
    if properties is None:
        return None, None
    return properties.reply_to, properties.correlation_id


def parse_request(message: Message) -> Request:
    """What a message asks for. Raises `ManagementError`."""
    given = message.application_properties or {}
    operation = _text(given, "operation")
    if not operation:
        raise ManagementError(Status.BAD_REQUEST, "No operation")
    body = message.body
    value = body.value if isinstance(body, AmqpValue) else body
    if value is not None and not isinstance(value, dict):
        raise ManagementError(Status.BAD_REQUEST, "Body of request must be a map")
    return Request(
        operation=operation.upper().replace("_", "-"),
        type=without_prefix(_text(given, "type") or ""),
        entity_type=without_prefix(_text(given, "entityType") or ""),
        name=_text(given, "name"),
        identity=_text(given, "identity"),
        offset=_number(given, "offset") or 0,
        count=_number(given, "count"),
        attribute_names=_attribute_names(value or {}),
        attributes=value or {},
    )


def without_prefix(name: str) -> str:
    """The name of a type without the prefix of either family of routers; some clients write none."""
    return name.removeprefix(PREFIX).removeprefix(OLDER_PREFIX)


def quoted(text: str) -> str:
    """A text of a request, of bounded length, for a status description."""
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "..."


def _text(given: dict[str, object], key: str) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise ManagementError(Status.BAD_REQUEST, f"{key} must be a string")
    return None if value is None else str(value)


def _number(given: dict[str, object], key: str) -> int | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ManagementError(Status.BAD_REQUEST, f"{key} must be a number from 0 on")
    return int(value)


def _attribute_names(body: dict[object, object]) -> tuple[str, ...]:
    names = body.get("attributeNames")
    if not isinstance(names, list) or len(names) >= MAX_ATTRIBUTE_NAMES:
        return ()
    return tuple(str(name) for name in names if isinstance(name, str))
