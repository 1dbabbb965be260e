"""How many connections there may be: counters that listeners share."""

from __future__ import annotations


class ConnectionLimit:
    """A bound on connections, for one listener or for the whole router. `limit` None: no bound, still counted.

    It may be changed while connections are open; those above a lower limit stay.
    """

    __slots__ = ("in_use", "limit")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.in_use = 0

    def acquire(self) -> bool:
        """Count one more connection, unless the limit is reached."""
        if self.limit is not None and self.in_use >= self.limit:
            return False
        self.in_use += 1
        return True

    def release(self) -> None:
        """One connection that was counted has ended."""
        self.in_use -= 1


class Repeated:
    """Keeps a line that could be written a thousand times a second to one per interval, with the count of the rest."""

    __slots__ = ("_interval", "_next", "_suppressed")

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = -float("inf")
        self._suppressed = 0

    def due(self, now: float) -> int | None:
        """None: say nothing now. Else: write the line, and that so many like it were left out since the last."""
        if now < self._next:
            self._suppressed += 1
            return None
        suppressed, self._suppressed = self._suppressed, 0
        self._next = now + self._interval
        return suppressed
