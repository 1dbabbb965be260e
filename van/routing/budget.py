"""The byte budget: what all sessions hold and have been promised stays below one limit.

*Held* are payload octets in memory, *promised* what peers may still send within their windows. A session's window is
renewed only while both together stay below the limit, so a router's memory has a ceiling whatever its peers do.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from van.amqp.session import INITIAL_WINDOW, MAX_SESSION_FRAMES, Session, WindowPolicy

if TYPE_CHECKING:
    from van.amqp.connection import Connection
    from van.routing.forwarder import Collector

# A window never falls below this while there is any room: one frame under way, one being answered.
MIN_WINDOW: Final = 2
# One connection holds at most limit / SHARE; as much is kept for sessions that hold nothing.
SHARE: Final = 4
# New sessions get the full first window while less than limit / GENEROUS is spoken for, and the smallest after that.
GENEROUS: Final = 4
# A renewal takes at most 1 / GREED of the room that is left, so that those who come later find some.
GREED: Final = 4
# When half of the limit is spoken for, windows that nobody has used for so long are taken back, in seconds...
IDLE_TIME: Final = 10.0
# ...and the octets count as promised for so much longer: who has not read our Flow by then is cut for its silence.
SLACK_TIME: Final = 30.0
# How often windows are looked at for that, in seconds.
IDLE_CHECK_INTERVAL: Final = 5.0
DEFAULT_MEMORY_LIMIT: Final = 256 * 1024 * 1024


class ByteBudget:
    """The limit that all connections of a router share.

    limit: octets. `sessions` holds for each session what was written down for it when its window was last looked at:
    since then it can only have become less. `ended` are sessions that are over and whose payload is still on its way.
    `waiting` are those that want a window and got none, in the order in which they asked. `copied` are collectors of
    multicast deliveries, which count the octets that copies share.
    """

    __slots__ = (
        "_by_connection",
        "_fresh",
        "_idle",
        "_next_check",
        "_slack",
        "_spoken_for",
        "copied",
        "ended",
        "limit",
        "sessions",
        "waiting",
    )

    def __init__(self, limit: int = DEFAULT_MEMORY_LIMIT) -> None:
        self.limit = limit
        self.sessions: dict[Session, int] = {}
        self.ended: dict[Session, None] = {}
        self.waiting: dict[Session, None] = {}
        self.copied: dict[Collector, None] = {}
        self._by_connection: dict[Connection, int] = {}
        self._spoken_for = 0
        self._fresh = False
        self._idle: dict[Session, tuple[int, float]] = {}
        self._slack: dict[Session, float] = {}
        self._next_check = inf

    # -- sums ----------------------------------------------------------------------------------------------------

    def held(self) -> int:
        """Payload octets in memory, counted now."""
        self._refresh_copied()
        return sum(session.held for session in self.sessions)

    def promised(self) -> int:
        """Octets that peers may send without asking again."""
        return sum(_promised(session) for session in self.sessions if session not in self.ended)

    def spoken_for(self) -> int:
        """What all sessions hold and are promised, as last written down: never less than it is."""
        return self._spoken_for

    def spoken_by(self, connection: Connection) -> int:
        """What one connection's sessions hold and are promised, as last written down."""
        return self._by_connection.get(connection, 0)

    def recount(self) -> None:
        """Write down anew what every session holds and is promised."""
        self._refresh_copied()
        for session in list(self.sessions):
            self._count(session)
        self._fresh = True

    def batch_over(self) -> None:
        """Payload may have left since the last count."""
        self._fresh = False

    # -- sessions ------------------------------------------------------------------------------------------------

    def policy(self, max_frames: int = MAX_SESSION_FRAMES) -> BudgetWindow:
        """The window policy of one connection under this budget."""
        return BudgetWindow(self, max_frames)

    def account(self, session: Session, window: int) -> None:
        """Write down what a session holds and is promised with `window` frames."""
        self._write(session, session.held + (window + session.slack) * session.connection.max_frame_size)

    def remove(self, session: Session) -> None:
        """A session is over. What it holds counts until it has left."""
        if session not in self.sessions:
            return
        self.waiting.pop(session, None)
        self._idle.pop(session, None)
        self._slack.pop(session, None)
        self.ended[session] = None
        self._count(session)
        # Two others each time: so those whose payload has left do not pile up.
        for old in list(self.ended)[:2]:
            del self.ended[old]
            self.ended[old] = None
            self._count(old)

    def room(self, session: Session, enough: int, reserve: bool) -> int:
        """Octets that may be promised to this session beyond what it holds; never negative.

        enough: with that much the caller is content, and nothing is counted anew. reserve: whether the part kept for
        sessions that hold nothing is open to it.
        """
        room = self._room(session, reserve)
        if room < enough and not self._fresh:
            self.recount()
            room = self._room(session, reserve)
        return room

    def retry(self) -> None:
        """Offer windows to the sessions that wait, in their order, as far as there is room now."""
        self.recount()
        for session in list(self.waiting):
            if self._room(session, reserve=session.held == 0) >= session.connection.max_frame_size:
                del self.waiting[session]
                session.offer_window()

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self, now: float) -> float:
        """When `handle_deadline` wants to be called: while half of the limit is spoken for, or somebody waits."""
        if not self.waiting and not self._slack and self._spoken_for <= self.limit // 2:
            self._next_check = inf
            self._idle.clear()
        elif self._next_check == inf:
            self._next_check = now + IDLE_CHECK_INTERVAL
        return self._next_check

    def handle_deadline(self, now: float) -> None:
        """Take back windows that lie idle, and forget what was taken back long enough ago."""
        if now < self._next_check:
            return
        self._next_check = now + IDLE_CHECK_INTERVAL
        for session, since in list(self._slack.items()):
            if now >= since + SLACK_TIME:
                del self._slack[session]
                session.slack = 0
        for session in self.sessions:
            if session.held or session.incoming_window <= MIN_WINDOW or session in self.ended:
                self._idle.pop(session, None)
                continue
            seen, since = self._idle.get(session, (-1, now))
            if seen != session.next_incoming_id:
                self._idle[session] = (session.next_incoming_id, now)
            elif now >= since + IDLE_TIME:
                del self._idle[session]
                session.shrink_window(MIN_WINDOW)
                self._slack[session] = now
        self.retry()

    # -- inside --------------------------------------------------------------------------------------------------

    def _room(self, session: Session, reserve: bool) -> int:
        limit = self.limit
        share = limit // SHARE
        mine = self.sessions.get(session, 0)
        spoken = session.held + session.slack * session.connection.max_frame_size
        total = (limit if reserve else limit - share) - (self._spoken_for - mine) - spoken
        own = share - (self._by_connection.get(session.connection, 0) - mine) - spoken
        return max(0, min(total, own))

    def _count(self, session: Session) -> None:
        """Write down what is true of a session now; one that is over and holds nothing is forgotten."""
        if session not in self.ended:
            self.account(session, max(0, session.incoming_window))
        elif session.held > 0:
            self._write(session, session.held)
        else:
            self._write(session, 0)
            del self.ended[session]
            del self.sessions[session]

    def _write(self, session: Session, amount: int) -> None:
        change = amount - self.sessions.get(session, 0)
        self.sessions[session] = amount
        self._spoken_for += change
        by_connection = self._by_connection
        connection = session.connection
        total = by_connection.get(connection, 0) + change
        if total:
            by_connection[connection] = total
        else:
            by_connection.pop(connection, None)

    def _refresh_copied(self) -> None:
        for collector in list(self.copied):
            collector.refresh()


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
        want = min(INITIAL_WINDOW if generous else MIN_WINDOW, self.max_frames)
        window = min(want, budget.room(session, want * frame, reserve=True) // frame)
        if window > 0:
            session.max_window = max(window, MIN_WINDOW)
            budget.account(session, window)
        return window

    def renew(self, session: Session) -> int:
        budget = self.budget
        frame = session.connection.max_frame_size
        have = max(0, session.incoming_window)
        want = min(session.max_window * 2, self.max_frames)
        room = budget.room(session, want * GREED * frame, reserve=False) // frame
        want = min(want, max(MIN_WINDOW, room // GREED))
        if room < want:
            want = min(want, budget.room(session, want * frame, reserve=session.held == 0) // frame)
        session.max_window = max(want, MIN_WINDOW)
        if want > have:
            budget.account(session, want)
            return want
        budget.account(session, have)
        if have == 0 and session not in budget.waiting:
            # Nothing to give: it is offered a window when something has left; half deliveries go on meanwhile.
            budget.waiting[session] = None
            for link in list(session.links.values()):
                link.hurry()
        return have

    def end(self, session: Session) -> None:
        self.budget.remove(session)


def _promised(session: Session) -> int:
    return (max(0, session.incoming_window) + session.slack) * session.connection.max_frame_size
