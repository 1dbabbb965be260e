"""What happened on a connection, for its owner: the rare things. Transfers, dispositions and flows make no events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from van.amqp.link import Link
    from van.amqp.performatives import Error, Open
    from van.amqp.session import Session


class Event:
    """Base class of all events."""

    __slots__ = ()


class ConnectionOpened(Event):
    """The peer's Open is here."""

    __slots__ = ("open",)

    def __init__(self, open_: Open) -> None:
        self.open = open_


class ConnectionClosed(Event):
    """The connection is over: the peer's Close, the end of its stream, or an error found here.

    `by_peer` tells who ended it, `condition` and `description` why (empty for an orderly close).
    """

    __slots__ = ("by_peer", "condition", "description")

    def __init__(self, by_peer: bool, condition: str = "", description: str = "") -> None:
        self.by_peer = by_peer
        self.condition = condition
        self.description = description


class SessionBegun(Event):
    """The peer began a session, or (with `answer`) answered our Begin."""

    __slots__ = ("answer", "session")

    def __init__(self, session: Session, answer: bool) -> None:
        self.session = session
        self.answer = answer


class SessionEnded(Event):
    """The peer ended the session, or it was ended here for the peer's error."""

    __slots__ = ("condition", "description", "session")

    def __init__(self, session: Session, condition: str = "", description: str = "") -> None:
        self.session = session
        self.condition = condition
        self.description = description


class LinkAttached(Event):
    """The peer attached a link, or (with `answer`) answered our Attach."""

    __slots__ = ("answer", "link")

    def __init__(self, link: Link, answer: bool) -> None:
        self.link = link
        self.answer = answer


class LinkDetached(Event):
    """The peer detached the link (`closed` tells whether for good), or it was detached here for the peer's error."""

    __slots__ = ("closed", "error", "link")

    def __init__(self, link: Link, closed: bool, error: Error | None) -> None:
        self.link = link
        self.closed = closed
        self.error = error
