"""A logger that remembers, so that a scene can ask what an operator would have read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger


class Logbook:
    def __init__(self) -> None:
        self.lines: list[EventDict] = []
        self.logger: FilteringBoundLogger = structlog.wrap_logger(
            None, processors=[self._note], wrapper_class=structlog.make_filtering_bound_logger(0)
        )

    def _note(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        self.lines.append({"level": method, **event})
        raise structlog.DropEvent

    def only(self, event: str) -> EventDict:
        found = [line for line in self.lines if line["event"] == event]
        assert len(found) == 1, f"{len(found)} lines {event!r} in {self.lines}"
        return found[0]

    def events(self) -> list[Any]:
        return [line["event"] for line in self.lines]
