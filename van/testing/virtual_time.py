"""One heap of events in the order of their time, and one source of chance: what makes a run repeatable."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Any, Final

# An event: when, its number (events of one moment happen in the order in which they were made), and the call.
Event = tuple[float, int, Callable[[Any, Any], None], Any, Any]

# So many events without time passing are a circle that two parties run in.
MAX_EVENTS_OF_ONE_MOMENT: Final = 5_000_000


class NeverQuietError(Exception):
    """Events beget events without time passing, or what was waited for does not come."""


class VirtualTime:
    """A clock that stands still until the next event.

    `now` is in seconds since the beginning. All randomness is drawn from `random`, which `seed` begins.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.random = Random(seed)  # noqa: S311 - chance that has to repeat is no secret
        self.now = 0.0
        # How many events have happened.
        self.events = 0
        self._heap: list[Event] = []
        self._numbers = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` at that time, or now if it is over."""
        self._push(when, _call, action, None)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` so much later."""
        self._push(self.now + seconds, _call, action, None)

    def _push(self, when: float, call: Callable[[Any, Any], None], first: Any, second: Any) -> None:
        self._numbers += 1
        heappush(self._heap, (max(when, self.now), self._numbers, call, first, second))

    def next_event(self) -> float:
        """When something happens next; infinity for never."""
        return self._heap[0][0] if self._heap else inf

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.run_to(self.now + seconds)

    def run_to(self, end: float) -> None:
        """Let time pass until then. Raises `NeverQuietError` when events beget events without time passing."""
        heap = self._heap
        handled = 0
        moment = self.now
        at_once = 0
        while heap and heap[0][0] <= end:
            when, _, call, first, second = heappop(heap)
            if when != moment:
                moment = when
                at_once = handled
            elif handled - at_once > MAX_EVENTS_OF_ONE_MOMENT:
                raise NeverQuietError(f"more than {MAX_EVENTS_OF_ONE_MOMENT} events at {moment:.6f} s")
            handled += 1
            self.now = when
            call(first, second)
        self.events += handled
        self.now = max(self.now, end)

    def run_until(self, condition: Callable[[], bool], limit: float, every: float = 0.1) -> float:
        """Let time pass until `condition` holds, looked at `every` so many seconds; return how long that took.

        Raises `NeverQuietError` when it does not hold after `limit` seconds.
        """
        begin = self.now
        while not condition():
            if self.now - begin >= limit:
                raise NeverQuietError(f"what was waited for has not come within {limit} s")
            self.run(every)
        return self.now - begin


def _call(action: Callable[[], None], _: None) -> None:
    action()
