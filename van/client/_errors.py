"""What can go wrong for an application, as exceptions that carry the AMQP condition and description.

What became of a message that was sent is no exception but an `Outcome`. Using something after its block has ended
raises `trio.ClosedResourceError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import trio

if TYPE_CHECKING:
    from van.client._outcome import Outcome


class ClientError(Exception):
    """Base class. `condition` is an AMQP error condition or empty, `description` is text for people."""

    def __init__(self, condition: str, description: str = "") -> None:
        super().__init__(condition, description)
        self.condition = condition
        self.description = description

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.condition, self.description))) or type(self).__name__

    def again(self) -> Self:
        """A copy to be raised in another task: an exception that two tasks raise mixes their tracebacks."""
        copy = type(self).__new__(type(self), *self.args)
        copy.args = self.args
        copy.__dict__.update(self.__dict__)
        return copy


class ConnectError(ClientError):
    """There is no connection, and nothing was sent."""


class UnreachableError(ConnectError):
    """The peer cannot be reached, does not speak AMQP, cannot be trusted (TLS), or does not open in time."""


class AuthenticationError(ConnectError):
    """The peer does not let us in: its SASL layer refused, or has no mechanism that we may use."""


class ConnectionClosedError(ClientError):
    """The connection ended although nobody here closed it: `by_peer`, or for an error that was found here."""

    def __init__(self, condition: str, description: str = "", by_peer: bool = True) -> None:
        super().__init__(condition, description)
        self.by_peer = by_peer


class SessionEndedError(ClientError):
    """The peer ended the session of this link."""


class LinkDetachedError(ClientError):
    """The peer detached the link; `condition` is empty where it gave no reason."""


class LinkRefusedError(LinkDetachedError):
    """The peer did not let the link attach: no such node, not permitted, no room."""


class NotAcceptedError(ClientError):
    """A message was not accepted, where acceptance was asked for. `outcome` says what became of it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.condition, outcome.description)
        self.outcome = outcome

    def __str__(self) -> str:
        return str(self.outcome)


class TimedOutError(ClientError, trio.TooSlowError):
    """Nobody took a request, or nobody answered it, in the time that the caller allows."""


class MessageTooLargeError(ClientError):
    """The encoded message is larger than the peer's max-message-size; it was not sent."""


class MalformedMessageError(ClientError):
    """A message came whose octets are no message (part 3.2). Its delivery can still be settled."""
