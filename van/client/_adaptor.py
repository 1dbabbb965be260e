"""One client connection without I/O: tells the owners of links what happens, and says when to write.

Applications queue messages and settlements from many tasks; what they queue in one turn of the scheduler is written
together, by a task that waits for `touched`. What arrives is answered by the driver, after each batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from van.amqp.connection import Connection
from van.amqp.errors import AmqpError, AmqpLinkError, AmqpSessionError, ErrorCondition
from van.amqp.events import (
    ConnectionClosed,
    ConnectionOpened,
    Event,
    LinkAttached,
    LinkDetached,
    SessionBegun,
    SessionEnded,
)
from van.amqp.link import Link
from van.amqp.performatives import Attach, Error
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import SaslClient
from van.amqp.session import Session
from van.client._errors import (
    AuthenticationError,
    ClientError,
    ConnectionClosedError,
    LinkDetachedError,
    SessionEndedError,
)
from van.routing.adaptor import Adaptor

if TYPE_CHECKING:
    from van.client._link import LinkEnd


class ClientAdaptor(Adaptor):
    """What the driver drives for one `van.client.Connection`.

    `ends` are the links by their engine's side. `over` tells that the connection has ended, `error` then says why (None
    where we closed it). `opening` is set when it has opened, or ended before; `ended` when the stream is gone.
    """

    def __init__(self, make_connection: Callable[[Callable[[], None]], Connection]) -> None:
        super().__init__()
        self.ends: dict[Link, LinkEnd] = {}
        self.error: ClientError | None = None
        self.over = False
        self.opening = trio.Event()
        self.ended = trio.Event()
        self._closing = False
        self._in_batch = False
        self._touched = trio.Event()
        self._session: Session | None = None
        self.connection = make_connection(self._on_touched)
        self.connection.open()
        self.session()

    # -- writing -------------------------------------------------------------------------------------------------

    def _on_touched(self) -> None:
        if not self._in_batch:
            self._touched.set()

    def wake_touched(self) -> None:
        """Write what a batch has brought about (called by the driver)."""
        if self.connection.touched:
            self.on_wake()

    async def flush_when_touched(self) -> None:
        """Write what applications have queued, all of one turn of the scheduler together."""
        while True:
            await self._touched.wait()
            self._touched = trio.Event()
            self.on_wake()

    # -- sessions and links --------------------------------------------------------------------------------------

    def session(self) -> Session:
        """The session that all links share; begun anew where the peer has ended the last one."""
        session = self._session
        if session is None:
            session = self._session = self.connection.session()
            session.begin()
        return session

    def forget(self, link: Link) -> None:
        """The owner of this link wants to hear no more of it."""
        self.ends.pop(link, None)

    # -- Adaptor -------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        self._in_batch = True
        try:
            self._handle(self.connection.receive_data(data, now))
        finally:
            self._in_batch = False
        self.closed = self.connection.closed

    def receive_eof(self, now: float) -> None:
        self._handle(self.connection.receive_eof(now))
        self.closed = True

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        return self.connection.data_to_send(limit)

    def next_deadline(self) -> float:
        return self.connection.next_deadline()

    def gives_up_at(self) -> float:
        return self.connection.gives_up_at()

    def handle_deadline(self, now: float) -> None:
        self._handle(self.connection.handle_deadline(now))
        self.closed = self.connection.closed

    def close(self, condition: str = "", description: str = "") -> None:
        """End the connection: with a condition for the peer, or in peace."""
        self._closing = True
        self.connection.close(AmqpError(condition, description) if condition else None)
        self.closed = self.connection.closed
        self.on_wake()

    def connection_lost(self, now: float) -> None:
        self.closed = True
        if not self.over:
            error = None if self._closing else ConnectionClosedError("", self.reason or "the connection was lost")
            self._end(error)
        self.ended.set()

    # -- events --------------------------------------------------------------------------------------------------

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, LinkAttached):
                self._on_attached(event)
            elif isinstance(event, LinkDetached):
                self._on_detached(event)
            elif isinstance(event, SessionBegun):
                if not event.answer:
                    self._refuse_session(event.session)
            elif isinstance(event, SessionEnded):
                self._on_session_ended(event)
            elif isinstance(event, ConnectionOpened):
                self.opened = True
                self.opening.set()
            elif isinstance(event, ConnectionClosed):
                self._on_closed(event)

    def _on_attached(self, event: LinkAttached) -> None:
        link = event.link
        if not event.answer:
            self._refuse_link(link)
            return
        end = self.ends.get(link)
        if end is not None:
            end.on_attached()

    def _on_detached(self, event: LinkDetached) -> None:
        link = event.link
        link.detach(None, event.closed)
        end = self.ends.pop(link, None)
        if end is not None:
            if event.error is not None:
                error = LinkDetachedError(str(event.error.condition), event.error.description or "")
            elif link.detach_received:
                error = LinkDetachedError("", "the peer detached the link")
            else:
                error = LinkDetachedError("", "detached for an error of the peer")
            end.on_ended(error)

    def _on_session_ended(self, event: SessionEnded) -> None:
        session = event.session
        session.end()
        if session is self._session:
            self._session = None
        error = SessionEndedError(event.condition, event.description or "the session was ended")
        for link in [link for link in self.ends if link.session is session]:
            self.ends.pop(link).on_ended(error)

    def _on_closed(self, event: ConnectionClosed) -> None:
        sasl = self.connection.sasl
        error: ClientError
        if isinstance(sasl, SaslClient) and sasl.done and not sasl.succeeded:
            error = AuthenticationError(event.condition, event.description)
        else:
            # Where the stream broke, the driver knows why: a reset, a TLS alert.
            description = (not event.condition and self.reason) or event.description or "closed by the peer"
            error = ConnectionClosedError(event.condition, description, event.by_peer)
        self.connection.close()
        self._end(None if self._closing else error)

    def _end(self, error: ClientError | None) -> None:
        """Nothing will come any more: everybody who waits hears why."""
        if self.over:
            return
        self.over = True
        self.error = error
        self.reason = str(error) if error is not None else ""
        self.opening.set()
        told = error if error is not None else ConnectionClosedError("", "the connection was closed here", False)
        ends = list(self.ends.values())
        self.ends.clear()
        for end in ends:
            end.on_ended(told)

    def _refuse_session(self, session: Session) -> None:
        try:
            session.begin()
            session.end(AmqpSessionError(ErrorCondition.NOT_ALLOWED, "this client takes no sessions"))
        except AmqpError:
            self.connection.close(AmqpError(ErrorCondition.NOT_ALLOWED, "this client takes no sessions"))

    def _refuse_link(self, link: Link) -> None:
        """The peer attached a link: answered without a terminus of ours, then detached (2.6.3)."""
        remote = link.remote
        if remote is None or not link.session.local_begun or link.session.end_sent:
            return
        receiving = isinstance(link, ReceiverLink)
        try:
            link.attach(
                Attach(
                    name=link.name,
                    handle=0,
                    role=receiving,
                    source=remote.source if receiving else None,
                    target=None if receiving else remote.target,
                    initial_delivery_count=None if receiving else 0,
                )
            )
            link.detach(AmqpLinkError(ErrorCondition.NOT_ALLOWED, "this client attaches links itself"))
        except AmqpError as error:
            self.connection.close(error)


def wire_error(condition: str, description: str) -> Error | None:
    """An error composite, None without a condition."""
    return Error(condition=condition, description=description or None) if condition else None
