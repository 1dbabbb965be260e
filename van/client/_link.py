"""What senders and receivers have in common: attaching, and the end of the link for whatever reason."""

from __future__ import annotations

import trio

from van.amqp.errors import AmqpError
from van.amqp.link import Link
from van.amqp.performatives import Attach
from van.client._adaptor import ClientAdaptor
from van.client._errors import ClientError, LinkDetachedError, LinkRefusedError


class LinkEnd:
    """One link of this client. `name` is the link's, unique on its connection."""

    def __init__(self, adaptor: ClientAdaptor, link: Link) -> None:
        self.name = link.name
        self._adaptor = adaptor
        self._link = link
        self._answered = trio.Event()
        self._closed = False
        self._error: ClientError | None = None

    # -- called by the adaptor -----------------------------------------------------------------------------------

    def on_attached(self) -> None:
        """The peer's Attach is here. Without a terminus of its own it is a refusal, and a Detach follows (2.6.3)."""
        if self._has_terminus():
            self._answered.set()

    def on_ended(self, error: ClientError) -> None:
        """The link, its session or its connection has ended, and not because of us."""
        self._error = error
        self._answered.set()
        self._on_gone(error)

    # -- for the two kinds of links ------------------------------------------------------------------------------

    def _has_terminus(self) -> bool:
        raise NotImplementedError

    def _on_gone(self, error: ClientError) -> None:
        """Tell everybody who waits."""
        raise NotImplementedError

    async def _attach(self, attach: Attach) -> None:
        """Write the Attach and wait for the answer. Raises `LinkRefusedError` and what ends a connection."""
        adaptor = self._adaptor
        if adaptor.over:
            error = adaptor.error
            raise error.again() if error is not None else trio.ClosedResourceError("the connection is closed")
        adaptor.ends[self._link] = self
        try:
            self._link.attach(attach)
        except AmqpError as refused:
            raise LinkRefusedError(refused.condition, refused.description) from None
        await self._answered.wait()
        if isinstance(self._error, LinkDetachedError):
            # Also where the Detach came right behind an Attach that looked like an answer.
            raise LinkRefusedError(self._error.condition, self._error.description)
        self._check()

    def _check(self) -> None:
        """Raise what ended the link, if it has ended."""
        if self._closed:
            raise trio.ClosedResourceError(f"link {self.name} is closed")
        if self._error is not None:
            raise self._error.again()

    def _close(self) -> None:
        """Detach, unless the link has ended already. Waits for nothing."""
        if self._closed:
            return
        self._closed = True
        self._adaptor.forget(self._link)
        if self._error is None:
            self._link.detach()
            self._on_gone(LinkDetachedError("", "the link was closed here"))
