"""The byte budget: what all sessions hold and have been promised stays below one limit.

*Held* are payload octets in memory, *promised* what peers may still send within their windows. A session's window is
renewed only while both together stay below the limit, so a router's memory has a ceiling whatever its peers do. A
session in which no credit was ever given is promised nothing, whatever its window: it may not send.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final

from van.amqp.framing import DEFAULT_MAX_FRAME_SIZE, LARGE_FRAME_SIZE
from van.amqp.session import MAX_SESSION_FRAMES, Session, WindowPolicy

if TYPE_CHECKING:
    from van.amqp.connection import Connection
    from van.routing.forwarder import Collector
    from van.routing.incoming_link import IncomingLink

# A window never falls below this while there is any room: one frame under way, one being answered.
MIN_WINDOW: Final = 2
# One connection holds at most limit / SHARE; as much is kept for sessions that hold nothing or little.
SHARE: Final = 4
# Little is 1 / HOARD of what is left: so a stuck session leaves most of it to others, and they have full windows.
HOARD: Final = 16
# First windows come out of limit / GENEROUS, and of so much of their connection's share. What is left is for those who
# do send, and for the smallest windows of very many: a router may have 256 streams under way on one connection.
GENEROUS: Final = 2
# A renewal takes at most 1 / GREED of the room that is left, so that those who come later find some.
GREED: Final = 4
# When limit / THRIFTY is spoken for, windows that nobody has used...
THRIFTY: Final = 4
# ...for so long are taken back, in seconds, so that there are first windows for others...
IDLE_TIME: Final = 10.0
# ...and the octets count as promised for so much longer: who has not read our Flow by then is cut for its silence.
SLACK_TIME: Final = 30.0
# How often windows are looked at for that, in seconds.
IDLE_CHECK_INTERVAL: Final = 5.0
# Frames of this size and so many of them are what a connection is to have; where that is too much for as many sessions
# as there are, and some that may come, it announces the next smaller size, and at last the smallest.
FRAME_SIZES: Final = ((LARGE_FRAME_SIZE, 512), (DEFAULT_MAX_FRAME_SIZE, 8))
SMALLEST_FRAME_SIZE: Final = 4096
NEWCOMERS: Final = 16
# The largest window is meant for frames of at most this size, in octets: of larger ones there are fewer in it.
WINDOW_FRAME_SIZE: Final = 65536
# Sessions that wait are offered what others have let go at most this often, in seconds; what was their own, at once.
RETRY_INTERVAL: Final = 0.005
# ...and at least this often, should nothing happen meanwhile.
LAST_RETRY_INTERVAL: Final = 0.1
# So many collectors are asked on the way; more of them only at a full count.
FEW: Final = 8
DEFAULT_MEMORY_LIMIT: Final = 256 * 1024 * 1024
# What a link leaves behind that is gone counts as so many octets, and each of its deliveries as so many beside its
# payload: else a peer that comes and goes could fill the memory with empty messages.
ORPHAN_SIZE: Final = 4096
DELIVERY_SIZE: Final = 512
# The process itself takes about this many octets; of a small memory limit two thirds are set aside for it and no more.
# So resident memory stays below `memory_limit` from 64 MiB on. A lower limit than that bounds the payload alone.
PROCESS_SIZE: Final = 48 * 1024 * 1024


def payload_limit(memory_limit: int) -> int:
    """What is left for payload of the memory that a router may take, both in octets."""
    return memory_limit - min(memory_limit * 2 // 3, PROCESS_SIZE)


class ByteBudget:
    """The limit that all connections of a router share.

    limit: octets. `sessions` holds for each session what was written down for it when its window was last looked at:
    since then it can only have become less. `ended` are sessions that are over and whose payload is still on its way.
    `waiting` are those that want a window and got none, in the order in which they asked, with what they held then.
    `copied` are collectors of multicast deliveries, which count the octets that copies share. `orphans` are links that
    are gone, and some of whose deliveries are not, with the octets that count for that. `resting` counts sessions that
    nobody has for now.
    """

    __slots__ = (
        "_by_connection",
        "_fresh",
        "_idle",
        "_next_check",
        "_retry_at",
        "_slack",
        "_spoken_for",
        "copied",
        "ended",
        "limit",
        "orphans",
        "resting",
        "sessions",
        "waiting",
    )

    def __init__(self, limit: int = DEFAULT_MEMORY_LIMIT) -> None:
        self.limit = limit
        self.sessions: dict[Session, int] = {}
        self.ended: dict[Session, None] = {}
        self.waiting: dict[Session, int] = {}
        self.copied: dict[Collector, None] = {}
        self.orphans: dict[IncomingLink, int] = {}
        self._by_connection: dict[Connection, int] = {}
        self._spoken_for = 0
        self._fresh = False
        self._idle: dict[Session, tuple[int, float]] = {}
        self._slack: dict[Session, float] = {}
        self._next_check = inf
        self._retry_at = 0.0
        self.resting = 0

    # -- sums ----------------------------------------------------------------------------------------------------

    def held(self) -> int:
        """Payload octets in memory, counted now."""
        self.recount()
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
        for collector in list(self.copied):
            collector.refresh()
        for session in list(self.sessions):
            self._count(session)
        for link in list(self.orphans):
            self._count_orphan(link)
        self._fresh = True

    def batch_over(self) -> None:
        """Payload may have left since the last count."""
        self._fresh = False

    # -- sessions ------------------------------------------------------------------------------------------------

    def frame_size(self) -> int:
        """The max-frame-size of one more connection, in octets: large frames cost less, and take more of the budget."""
        sessions = len(self.sessions) - self.resting + NEWCOMERS
        for size, frames in FRAME_SIZES:
            if size * frames * sessions <= self.limit:
                return size
        return SMALLEST_FRAME_SIZE

    def policy(self, max_frames: int = MAX_SESSION_FRAMES, frame_size: int = DEFAULT_MAX_FRAME_SIZE) -> BudgetWindow:
        """The window policy of one connection under this budget."""
        return BudgetWindow(self, max(MIN_WINDOW, min(max_frames, max_frames * WINDOW_FRAME_SIZE // frame_size)))

    def account(self, session: Session, window: int) -> None:
        """Write down what a session holds and is promised with `window` frames."""
        promised = session.slack if session.dormant else window + session.slack
        self._write(session, session.held + promised * session.connection.max_frame_size)

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
        for old in list(islice(self.ended, 2)):
            del self.ended[old]
            self.ended[old] = None
            self._count(old)

    def rest(self, session: Session) -> None:
        """A session that holds nothing is put by: nothing is promised to it, and it is none of those that share."""
        session.dormant = True
        self.waiting.pop(session, None)
        self._idle.pop(session, None)
        self.account(session, session.incoming_window)
        self.resting += 1

    def resume(self, session: Session) -> None:
        """It is used again: with the window that it had while much is left, else that is seen to when it sends."""
        self.resting -= 1
        octets = session.incoming_window * session.connection.max_frame_size
        if session.incoming_window > 0 and (self._spoken_for + octets) * THRIFTY <= self.limit:
            session.dormant = False
            self.account(session, session.incoming_window)

    def orphaned(self, link: IncomingLink) -> None:
        """A link is gone. What it left behind counts until it has left: with its session, which may have ended."""
        self.orphans[link] = 0
        for old in [link, *islice(self.orphans, 2)]:
            if old in self.orphans:
                octets = self.orphans.pop(old)
                self.orphans[old] = octets
                self._count_orphan(old)

    def allowance(self, session: Session, want: int) -> int:
        """How many frames a session may be promised beyond what it holds: `want` at most, 0 when nothing is left."""
        frames = self._allowance(session, want)
        if frames < want and not self._fresh:
            self.recount()
            frames = self._allowance(session, want)
        return frames

    def retry(self, now: float) -> None:
        """Offer windows to sessions that wait, in their order, as far as there is room. Called after every batch."""
        if now >= self._retry_at:
            self._retry_at = now + RETRY_INTERVAL
            self.recount()
        else:
            if 0 < len(self.copied) <= FEW:
                for collector in list(self.copied):
                    collector.refresh()
            if all(session.held >= held for session, held in self.waiting.items()):
                return
            for session in self.waiting:
                self._count(session)
        for session in list(self.waiting):
            if self._allowance(session, MIN_WINDOW) > 0:
                del self.waiting[session]
                session.offer_window()

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self, now: float) -> float:
        """When `handle_deadline` wants to be called: while much of the limit is spoken for, or somebody waits."""
        if not self.waiting and not self._slack and self._spoken_for <= self.limit // THRIFTY:
            self._next_check = inf
            self._idle.clear()
        elif self._next_check == inf:
            self._next_check = now + IDLE_CHECK_INTERVAL
        return min(self._next_check, self._retry_at + LAST_RETRY_INTERVAL) if self.waiting else self._next_check

    def handle_deadline(self, now: float) -> None:
        """Take back windows that lie idle, and forget what was taken back long enough ago."""
        if self.waiting:
            self.retry(now)
        if now < self._next_check:
            return
        self._next_check = now + IDLE_CHECK_INTERVAL
        for session, since in list(self._slack.items()):
            if now >= since + SLACK_TIME:
                del self._slack[session]
                session.slack = 0
        for session in self.sessions:
            if session.held or session.incoming_window <= MIN_WINDOW or session.dormant or session in self.ended:
                self._idle.pop(session, None)
                continue
            seen, since = self._idle.get(session, (-1, now))
            if seen != session.next_incoming_id:
                self._idle[session] = (session.next_incoming_id, now)
            elif now >= since + IDLE_TIME:
                del self._idle[session]
                session.shrink_window(MIN_WINDOW)
                self._slack[session] = now

    # -- inside --------------------------------------------------------------------------------------------------

    def _allowance(self, session: Session, want: int) -> int:
        limit = self.limit
        share = limit // SHARE
        frame = session.connection.max_frame_size
        mine = self.sessions.get(session, 0)
        held = session.held
        spoken = held + session.slack * frame
        own = share - (self._by_connection.get(session.connection, 0) - mine) - spoken
        left = limit - (self._spoken_for - mine) - spoken
        want = min(want, max(own // (2 * frame), MIN_WINDOW))
        frames = min(want, (left - share) // (GREED * frame))
        if frames < want and held * HOARD <= left:
            frames = max(frames, min(want, left // (GREED * frame)))
        if frames < MIN_WINDOW:
            frames = min(want, MIN_WINDOW, (left - share if held else left) // frame)
        return max(0, min(frames, own // frame))

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

    def _count_orphan(self, link: IncomingLink) -> None:
        session = link.link.session
        counted = self.orphans[link]
        left = link.capacity - link.owed
        octets = ORPHAN_SIZE + left * DELIVERY_SIZE if left > 0 else 0
        if octets > counted:
            # Not beyond the limit: where nothing is left nobody may send anyway.
            octets = min(octets, counted + max(0, self.limit - self._spoken_for))
        session.held += octets - counted
        if left > 0:
            self.orphans[link] = octets
        else:
            del self.orphans[link]
        if session in self.sessions:
            self._count(session)


class BudgetWindow(WindowPolicy):
    """Windows of one connection's sessions out of a `ByteBudget`: doubled at each renewal while there is room."""

    __slots__ = ("budget",)

    def __init__(self, budget: ByteBudget, max_frames: int = MAX_SESSION_FRAMES) -> None:
        super().__init__(max_frames)
        self.budget = budget

    def begin(self, session: Session) -> int:
        """What would be promised now. It is a promise from the first credit on, and looked at again then."""
        budget = self.budget
        window = budget.allowance(session, self._first(session))
        if window > 0:
            session.dormant = True
            session.max_window = max(window, MIN_WINDOW)
            budget.account(session, window)
        return window

    def activate(self, session: Session) -> int:
        budget = self.budget
        window = budget.allowance(session, self._first(session))
        session.max_window = max(window, MIN_WINDOW)
        budget.account(session, window)
        if window == 0:
            budget.waiting[session] = session.held
        return window

    def _first(self, session: Session) -> int:
        """How many frames a session that has sent nothing yet is to be promised: fewer, the more there are of them."""
        budget = self.budget
        connection = session.connection
        pool = budget.limit // GENEROUS - budget.spoken_for()
        own = budget.limit // SHARE // GENEROUS - budget.spoken_by(connection)
        return min(self.max_frames, max(MIN_WINDOW, min(pool // GREED, own // 2) // connection.max_frame_size))

    def renew(self, session: Session) -> int:
        budget = self.budget
        have = max(0, session.incoming_window)
        window = budget.allowance(session, min(session.max_window * 2, self.max_frames))
        session.max_window = max(window, MIN_WINDOW)
        if window > have:
            budget.account(session, window)
            return window
        budget.account(session, have)
        if have == 0 and session not in budget.waiting:
            # Nothing to give: it is offered a window when something has left; half deliveries go on meanwhile.
            budget.waiting[session] = session.held
            for link in list(session.links.values()):
                link.hurry()
        return have

    def end(self, session: Session) -> None:
        self.budget.remove(session)


def _promised(session: Session) -> int:
    window = 0 if session.dormant else max(0, session.incoming_window)
    return (window + session.slack) * session.connection.max_frame_size
