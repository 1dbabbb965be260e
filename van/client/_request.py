"""Request and reply: one sender, one receiver with an address that the peer makes up, and correlation between them."""

from __future__ import annotations

import copy
import uuid
from typing import TYPE_CHECKING

import trio

from van.amqp.errors import ErrorCondition
from van.amqp.message import Message, Properties
from van.amqp.receiver_link import ReceiverLink
from van.client._adaptor import ClientAdaptor
from van.client._errors import ClientError, MalformedMessageError, NotAcceptedError, TimedOutError
from van.client._outcome import OutcomeState
from van.client._receiver import DEFAULT_CREDIT, Delivery, Receiver
from van.client._sender import Sendable, Sender, as_message

if TYPE_CHECKING:
    from collections.abc import Hashable


class _Waiting:
    """One request that waits for its reply."""

    __slots__ = ("done", "error", "reply")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply: Message | None = None
        self.error: ClientError | None = None


class Replies(Receiver):
    """A receiver that hands every delivery to the request it belongs to, and accepts it. Nothing waits in its queue."""

    def __init__(self, adaptor: ClientAdaptor, link: ReceiverLink) -> None:
        super().__init__(adaptor, link, None, credit=DEFAULT_CREDIT, settled=False)
        self.waiting: dict[Hashable, _Waiting] = {}

    def _enqueue(self, delivery: Delivery) -> None:
        self.replenish(1)
        try:
            message = delivery.message
        except MalformedMessageError as error:
            delivery.reject(ErrorCondition.DECODE_ERROR, error.description)
            return
        delivery.accept()
        correlation_id = message.properties.correlation_id if message.properties is not None else None
        request = self.waiting.get(correlation_id)
        if request is None and correlation_id is None and len(self.waiting) == 1:
            # Some responders copy nothing; as long as there is one request, there is no doubt.
            request = next(iter(self.waiting.values()))
        if request is not None:
            request.reply = message
            request.done.set()

    def _on_gone(self, error: ClientError) -> None:
        super()._on_gone(error)
        for request in self.waiting.values():
            request.error = error
            request.done.set()


class Requester:
    """Sends requests to one address and waits for the replies; many at a time, from many tasks.

    Made by `Connection.requester`.
    """

    def __init__(self, sender: Sender, replies: Replies) -> None:
        self._sender = sender
        self._replies = replies
        self._waiting = replies.waiting

    @property
    def reply_to(self) -> str | None:
        """The address at which replies are expected."""
        return self._replies.address

    async def request(self, message: Sendable, *, timeout: float | None = None) -> Message:  # noqa: ASYNC109 - see below
        """Send a request and return the reply; `timeout` in seconds, None for no limit.

        The request's reply-to is set, and its message-id and correlation-id where it has none: responders copy the one
        or the other into the reply's correlation-id. Raises `TimedOutError`, which says whether nobody took the
        request or nobody answered; `NotAcceptedError`; and what ends a link or the connection.
        """
        request = copy.copy(as_message(message))
        properties = copy.copy(request.properties) if request.properties is not None else Properties()
        request.properties = properties
        properties.reply_to = self.reply_to
        if properties.message_id is None:
            properties.message_id = str(uuid.uuid4())
        if properties.correlation_id is None:
            properties.correlation_id = properties.message_id
        waiting = _Waiting()
        keys: set[Hashable] = {properties.message_id, properties.correlation_id}
        if not keys.isdisjoint(self._waiting):
            raise ValueError(f"a request with the id {properties.message_id!r} is under way")
        for key in keys:
            self._waiting[key] = waiting
        accepted = False
        # The time-out is a parameter because the error says in which step it struck.
        try:
            with trio.move_on_after(timeout if timeout is not None else float("inf")):
                outcome = await self._sender.send(request)
                if not outcome.accepted and outcome.state is not OutcomeState.SETTLED:
                    raise NotAcceptedError(outcome)
                accepted = True
                await waiting.done.wait()
        finally:
            for key in keys:
                del self._waiting[key]
        if waiting.error is not None:
            raise waiting.error.again()
        if waiting.reply is None:
            what = "the request was accepted, but not answered" if accepted else "nobody took the request"
            raise TimedOutError("", f"{what} within {timeout:g} s")
        return waiting.reply
