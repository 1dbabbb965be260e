"""The byte budget: what all sessions hold and have been promised stays below one limit.

*Held* are payload octets in memory, *promised* what peers may still send within their windows. A session's window is
renewed only while both together stay below the limit, so a router's memory has a ceiling whatever its peers do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from van.amqp.session import INITIAL_WINDOW, MAX_SESSION_FRAMES, Session, WindowPolicy

if TYPE_CHECKING:
    from van.amqp.connection import Connection

# A window never falls below this while there is any room: one frame under way, one being answered.
MIN_WINDOW: Final = 2
# One connection holds at most limit / SHARE; as much is kept for sessions that hold nothing.
SHARE: Final = 4
# New sessions get the full first window while less than limit / GENEROUS is spoken for, and the smallest after that.
GENEROUS: Final = 4
DEFAULT_MEMORY_LIMIT: Final = 256 * 1024 * 1024


class ByteBudget:
    """The limit that all connections of a router share.

    limit: octets. `held()` and `promised()` are sums over the sessions; they are taken when windows are renewed, which is
    once in some hundred messages, and not kept per message.
    """

    __slots__ = ("_spoken_for", "limit", "sessions", "waiting")

    def __init__(self, limit: int = DEFAULT_MEMORY_LIMIT) -> None:
        self.limit = limit
        self.sessions: dict[Session, int] = {}
        self.waiting: list[Session] = []
        self._spoken_for = 0

    def held(self) -> int:
        """Payload octets in memory."""
        return sum(session.held for session in self.sessions)

    def promised(self) -> int:
        """Octets that peers may send without asking again."""
        return sum(_promised(session) for session in self.sessions)

    def policy(self, max_frames: int = MAX_SESSION_FRAMES) -> BudgetWindow:
        """The window policy of one connection under this budget."""
        return BudgetWindow(self, max_frames)

    def account(self, session: Session, window: int) -> None:
        """Write down what a session holds and is promised with `window` frames."""
        amount = session.held + window * session.connection.max_frame_size
        self._spoken_for += amount - self.sessions.get(session, 0)
        self.sessions[session] = amount

    def remove(self, session: Session) -> None:
        """A session is gone."""
        self._spoken_for -= self.sessions.pop(session, 0)
        if session in self.waiting:
            self.waiting.remove(session)

    def room(self, session: Session) -> int:
        """Octets that may still be promised to this session, beyond what it holds; never negative."""
        limit = self.limit - (self.limit // SHARE if session.held else 0)
        mine = self.sessions.get(session, 0)
        if self._spoken_for - mine + session.held > limit // 2:
            # What left other sessions since they were last looked at counts only now.
            self._recount()
            mine = self.sessions.get(session, 0)
        total = limit - (self._spoken_for - mine) - session.held
        own = self.limit // SHARE - self.spoken_by(session.connection) + mine - session.held
        return max(0, min(total, own))

    def spoken_by(self, connection: Connection) -> int:
        """What one connection's sessions hold and are promised."""
        return sum(self.sessions.get(session, 0) for session in connection.begun_sessions())

    def spoken_for(self) -> int:
        """What all sessions hold and are promised, as last written down."""
        return self._spoken_for

    def retry(self) -> None:
        """Offer windows to the sessions that were refused, now that something may have left."""
        waiting = self.waiting
        if waiting:
            self.waiting = []
            for session in waiting:
                session.offer_window()

    def _recount(self) -> None:
        total = 0
        for session in self.sessions:
            amount = session.held + _promised(session)
            self.sessions[session] = amount
            total += amount
        self._spoken_for = total


class BudgetWindow(WindowPolicy):
    """Windows of one connection's sessions out of a `ByteBudget`: doubled at each renewal while there is room."""

    __slots__ = ("budget",)

    def __init__(self, budget: ByteBudget, max_frames: int = MAX_SESSION_FRAMES) -> None:
        super().__init__(max_frames)
        self.budget = budget

    def begin(self, session: Session) -> int:
        budget = self.budget
        frame = session.connection.max_frame_size
        generous = budget.spoken_for() < budget.limit // GENEROUS
        window = min(INITIAL_WINDOW if generous else MIN_WINDOW, self.max_frames, budget.room(session) // frame)
        if window > 0:
            session.max_window = max(window, INITIAL_WINDOW)
            budget.account(session, window)
        return window

    def renew(self, session: Session) -> int:
        budget = self.budget
        frame = session.connection.max_frame_size
        window = min(session.max_window * 2, self.max_frames)
        room = budget.room(session) // frame
        if room < window:
            window = room
            if window <= session.incoming_window:
                # Nothing to give: ask again when something has left, and let half deliveries go on meanwhile.
                budget.account(session, session.incoming_window)
                if session not in budget.waiting:
                    budget.waiting.append(session)
                for link in list(session.links.values()):
                    link.hurry()
                return session.incoming_window
        else:
            session.max_window = window
        budget.account(session, window)
        return window

    def end(self, session: Session) -> None:
        self.budget.remove(session)


def _promised(session: Session) -> int:
    return max(0, session.incoming_window) * session.connection.max_frame_size
