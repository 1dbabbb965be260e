"""Error conditions and the exceptions that carry them.

An exception says three things: the condition (2.8.14 to 2.8.18 of the specification), a description for the
peer's operator, and by its class the scope that dies: connection, session or link.
What is written to the peer because of it is the business of `connection.py`.
"""

from __future__ import annotations

from typing import Final


class ErrorCondition:
    """The symbols of `amqp-error`, `connection-error`, `session-error`, `link-error`, and the routers' own (`qd:`)."""

    INTERNAL_ERROR: Final = "amqp:internal-error"
    NOT_FOUND: Final = "amqp:not-found"
    UNAUTHORIZED_ACCESS: Final = "amqp:unauthorized-access"
    DECODE_ERROR: Final = "amqp:decode-error"
    RESOURCE_LIMIT_EXCEEDED: Final = "amqp:resource-limit-exceeded"
    NOT_ALLOWED: Final = "amqp:not-allowed"
    INVALID_FIELD: Final = "amqp:invalid-field"
    NOT_IMPLEMENTED: Final = "amqp:not-implemented"
    RESOURCE_LOCKED: Final = "amqp:resource-locked"
    PRECONDITION_FAILED: Final = "amqp:precondition-failed"
    RESOURCE_DELETED: Final = "amqp:resource-deleted"
    ILLEGAL_STATE: Final = "amqp:illegal-state"
    FRAME_SIZE_TOO_SMALL: Final = "amqp:frame-size-too-small"

    CONNECTION_FORCED: Final = "amqp:connection:forced"
    FRAMING_ERROR: Final = "amqp:connection:framing-error"
    CONNECTION_REDIRECT: Final = "amqp:connection:redirect"

    WINDOW_VIOLATION: Final = "amqp:session:window-violation"
    ERRANT_LINK: Final = "amqp:session:errant-link"
    HANDLE_IN_USE: Final = "amqp:session:handle-in-use"
    UNATTACHED_HANDLE: Final = "amqp:session:unattached-handle"

    DETACH_FORCED: Final = "amqp:link:detach-forced"
    TRANSFER_LIMIT_EXCEEDED: Final = "amqp:link:transfer-limit-exceeded"
    MESSAGE_SIZE_EXCEEDED: Final = "amqp:link:message-size-exceeded"
    LINK_REDIRECT: Final = "amqp:link:redirect"
    STOLEN: Final = "amqp:link:stolen"

    NO_ROUTE_TO_DEST: Final = "qd:no-route-to-dest"
    ROUTED_LINK_LOST: Final = "qd:routed-link-lost"
    FORBIDDEN: Final = "qd:forbidden"
    CONNECTION_ROLE: Final = "qd:connection-role"


class AmqpError(Exception):
    """Something that the peer is told with a condition.

    `condition` is one of `ErrorCondition`, `description` is text for people.
    """

    def __init__(self, condition: str, description: str = "") -> None:
        super().__init__(f"{condition}: {description}" if description else condition)
        self.condition = condition
        self.description = description


class AmqpConnectionError(AmqpError):
    """The whole connection ends: it is closed with this condition (2.4.3)."""


class AmqpSessionError(AmqpError):
    """One session ends with this condition (2.5.4)."""


class AmqpLinkError(AmqpError):
    """One link is detached with this condition (2.6.5)."""


class DecodeError(AmqpConnectionError):
    """Octets that are not a value of the type system, or not the value that the field table asks for."""

    def __init__(self, description: str) -> None:
        super().__init__(ErrorCondition.DECODE_ERROR, description)


class FramingError(AmqpConnectionError):
    """A frame whose header cannot be right (2.3)."""

    def __init__(self, description: str) -> None:
        super().__init__(ErrorCondition.FRAMING_ERROR, description)
