"""Links for streaming deliveries that this side of a connection between routers opens, and their sessions.

A link takes one streaming delivery at a time, and has a session of its own as long as there are few: so a slow stream
holds up neither deliveries nor other streams. What goes over the links is the core's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from van.amqp.errors import AmqpSessionError
from van.routing.budget import MIN_WINDOW

if TYPE_CHECKING:
    from van.adaptors.amqp import AmqpAdaptor
    from van.amqp.link import Link
    from van.amqp.performatives import Attach
    from van.amqp.sender_link import SenderLink
    from van.amqp.session import Session

# That many sessions for streams on a connection; streams beyond that share these, as the links of an application share
# its session.
MAX_STREAM_SESSIONS = 256
LINK_NAME: Final = "qdlink."
# Link names of the native dialect end in so many random characters, as correlators and temporary addresses do.
TOKEN_LENGTH: Final = 15


def link_name(token: str) -> str:
    """A name for a link between routers."""
    return LINK_NAME + token[:TOKEN_LENGTH]


class StreamSessions:
    """The streaming links of one connection, and the sessions that they are in."""

    __slots__ = ("_adaptor", "_links", "_sessions")

    def __init__(self, adaptor: AmqpAdaptor) -> None:
        self._adaptor = adaptor
        self._links: set[Link] = set()
        # How many links each session has. One that has none is taken for the next.
        self._sessions: dict[Session, int] = {}

    def attach(self, attach: Attach) -> SenderLink | None:
        """Attach one more sender; None when the connection is ending or cannot have another."""
        adaptor = self._adaptor
        connection = adaptor.connection
        if connection.close_sent or connection.closed:
            return None
        # The other half is the peer's.
        if len(self._links) >= adaptor.settings.max_links // 2:
            return None
        session = self._session()
        if session is None:
            return None
        link = session.sender(link_name(adaptor.router.tokens()))
        try:
            link.attach(attach)
        except AmqpSessionError:
            return None  # the peer leaves no handle
        self._links.add(link)
        self._sessions[session] += 1
        return link

    def _session(self) -> Session | None:
        """A session for one more link: one without links, a new one, or else the one with the fewest."""
        sessions = self._sessions
        least = min(sessions, key=sessions.__getitem__, default=None)
        if least is not None and sessions[least] == 0:
            return least
        if len(sessions) < MAX_STREAM_SESSIONS:
            session = self._adaptor.connection.session()
            try:
                # Nobody sends to us by this session: a large window would be memory promised for nothing.
                session.begin(MIN_WINDOW)
            except AmqpSessionError:
                return least  # the peer leaves no channel, or no memory is left
            sessions[session] = 0
            return session
        return least

    def link_over(self, link: Link) -> None:
        """A link of the connection is no more."""
        if link in self._links:
            self._links.discard(link)
            if link.session in self._sessions:
                self._sessions[link.session] -= 1

    def session_over(self, session: Session) -> None:
        """A session of the connection is no more."""
        self._sessions.pop(session, None)
