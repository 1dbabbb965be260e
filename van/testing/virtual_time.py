"""All events in the order of their time, and one source of chance: what makes a run repeatable."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Any, Final

# An event: when, its number (events of one moment happen in the order in which they were made), and the call.
Event = tuple[float, int, Callable[[Any, Any], None], Any, Any]

# Events are put into boxes, this many for each second, and a box is sorted when it is opened: a heap of a million
# events, the flood of a large network, would be sought through in all of memory for each of them.
BOXES: Final = 10_000
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
        # How many boxes a second, and the order in a box.
        self._boxes_a_second = BOXES
        self._order: Callable[[Event], Any] | None = None
        self._boxes: dict[int, list[Event]] = {}
        self._box_order: list[int] = []
        # The box whose events are happening.
        self._opened: list[Event] | None = None
        self._position = 0
        self._numbers = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` at that time, or now if it is over."""
        self._push(when, _call, action, None)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` so much later."""
        self._push(self.now + seconds, _call, action, None)

    def _push(self, when: float, call: Callable[[Any, Any], None], first: Any, second: Any) -> None:
        if when < self.now:  # noqa: PLR1730 - a call for each of millions of events costs more
            when = self.now
        self._numbers += 1
        event = (when, self._numbers, call, first, second)
        index = int(when * self._boxes_a_second)
        box = self._boxes.get(index)
        if box is None:
            self._boxes[index] = [event]
            heappush(self._box_order, index)
        elif box is self._opened:
            insort(box, event, lo=self._position, key=self._order)
        else:
            box.append(event)

    def next_event(self) -> float:
        """When something happens next; infinity for never."""
        return min(event[0] for event in self._boxes[self._box_order[0]]) if self._box_order else inf

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.run_to(self.now + seconds)

    def run_to(self, end: float) -> None:
        """Let time pass until then. Raises `NeverQuietError` when events beget events without time passing."""
        boxes, order = self._boxes, self._box_order
        last = int(end * self._boxes_a_second)
        moment, at_once = self.now, 0
        while order and order[0] <= last:
            index = heappop(order)
            box = self._opened = boxes[index]
            if index == last:
                later = [event for event in box if event[0] > end]
                box[:] = [event for event in box if event[0] <= end]
            else:
                later = []
            box.sort(key=self._order)
            position = 0
            while position < len(box):
                when, _, call, first, second = box[position]
                position += 1
                self._position = position
                if when > end:
                    # Made just now.
                    later.append(box[position - 1])
                    continue
                if when != moment:
                    moment, at_once = when, 0
                at_once += 1
                if at_once > MAX_EVENTS_OF_ONE_MOMENT:
                    raise NeverQuietError(f"more than {MAX_EVENTS_OF_ONE_MOMENT} events at {moment:.6f} s")
                self.now = when
                call(first, second)
            self.events += position
            self._opened = None
            del boxes[index]
            if later:
                boxes[index] = later
                heappush(order, index)
                break
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
