"""The router's log: one event a line on stderr, text for people and JSON for programs.

Events are constant texts, everything that varies is a field: `router`, `connection`, `link` and `address` are the ids
that are bound. `get_logger("transport")` or structlog's own `get_logger("van.transport.listener")` names the subsystem,
which has a level of its own that can change while the router runs.

What peers say ends up here. So control characters are escaped, long texts cut, passwords masked, and warnings that
repeat are counted rather than written.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, TextIO

from van.router.sections import LogConfig

# structlog loads rich for tracebacks when it is there: 80 ms and 4 MB that a router has no use for. Not so when
# somebody else in this process has loaded it already.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]
else:
    import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

# A description that a peer sends may be as long as a frame; what it means stands at the beginning.
LONGEST_TEXT = 1000

# The same warning so often in a window is news, more of it is noise: a client in a reconnect loop fills no disk.
REPEATS = 20
REPEAT_WINDOW_SECONDS = 10.0
# Different warnings that are remembered. Events are constants of ours, so this is never reached by what peers send.
REMEMBERED_EVENTS = 1000

# Methods of a logger that are not called like their level.
_OTHER_NAMES = {"warn": "warning", "err": "error", "exception": "error", "fatal": "critical"}

_SECRET_KEYS = frozenset({"password", "sasl_password", "secret", "token", "proxy"})
_URL_PASSWORD = re.compile(r"(://[^/:@\s]*:)[^/@\s]*@")
_NUMBERS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_BY_NUMBER = {number: name for name, number in _NUMBERS.items()}


class Levels:
    """Which records are written: a level for all, and others for some subsystems."""

    def __init__(self, config: LogConfig) -> None:
        self._default = 0
        self._by_subsystem: dict[str, int] = {}
        self.change(config)

    def change(self, config: LogConfig) -> None:
        """Use these levels from now on, also for loggers that exist."""
        self._default = _NUMBERS[config.level]
        self._by_subsystem = {subsystem: _NUMBERS[level] for subsystem, level in config.levels.items()}

    def admits(self, subsystem: str, level: str) -> bool:
        return _NUMBERS[level] >= self._by_subsystem.get(subsystem, self._default)


# The levels of this process: `levels.change(config.log)` is all that a re-read configuration needs.
levels = Levels(LogConfig())


class RepeatLimiter:
    """Lets `REPEATS` equal events through in a window of time, and counts the others."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}

    def admit(self, event: tuple[str, str], now: float) -> tuple[bool, int]:
        """Whether to write this one, and how many before it were left out since one was written."""
        begun, count = self._windows.get(event, (now, 0))
        suppressed = 0
        if now - begun >= REPEAT_WINDOW_SECONDS:
            suppressed = max(count - REPEATS, 0)
            begun, count = now, 0
        if event not in self._windows and len(self._windows) >= REMEMBERED_EVENTS:
            self._windows.pop(next(iter(self._windows)))
        self._windows[event] = (begun, count + 1)
        return count < REPEATS, suppressed


class _Output:
    """What structlog calls a logger: it has a subsystem and writes lines. A broken log stops nobody."""

    def __init__(self, stream: TextIO, subsystem: str) -> None:
        self._stream = stream
        self.subsystem = subsystem

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    log = debug = info = warn = warning = error = err = critical = fatal = failure = msg


class _BoundLogger(structlog.make_filtering_bound_logger(logging.NOTSET)):  # type: ignore[misc]
    """What `get_logger` returns: a record that is not admitted costs one look, not a way through the processors."""

    def is_enabled_for(self, level: int) -> bool:
        return levels.admits(_subsystem(self._logger), _BY_NUMBER[level])

    def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: Any) -> Any:
        if not levels.admits(_subsystem(self._logger), _level_of(method_name)):
            return None
        return super()._proxy_to_logger(method_name, event, **event_kw)


class _StdlibHandler(logging.Handler):
    """Brings warnings of libraries that use Python's own logging into this log."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            logger = get_logger("transport", logger=record.name)
            level = "warning" if record.levelno < logging.ERROR else "error"
            getattr(logger, level)("library", text=record.getMessage(), exc_info=record.exc_info)


def configure(
    config: LogConfig, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, **ids: object
) -> None:
    """Set the log up for this process; `ids` stand on every line."""
    output = sys.stderr if stream is None else stream
    levels.change(config)
    limiter = RepeatLimiter()

    def filter_repeated(logger: Any, method: str, event: EventDict) -> EventDict:
        level = _level_of(method)
        subsystem = _subsystem(logger)
        if _NUMBERS[level] >= logging.WARNING:
            admitted, suppressed = limiter.admit((subsystem, str(event.get("event"))), clock())
            if not admitted:
                raise structlog.DropEvent
            if suppressed:
                event["suppressed"] = suppressed
        # In this order they stand on the line; the time is filled in by the next processor.
        return {"timestamp": "", "level": level, "subsystem": subsystem, "event": event.pop("event"), **ids, **event}

    text = config.format == "text" or (config.format == "auto" and output.isatty())
    structlog.configure(
        processors=[
            filter_repeated,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            make_harmless,
            _text_renderer(output) if text else structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ],
        wrapper_class=_BoundLogger,
        logger_factory=lambda *names: _Output(output, _subsystem_of(names)),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _StdlibHandler)]
    root.addHandler(_StdlibHandler(logging.WARNING))


def get_logger(subsystem: str, **ids: object) -> FilteringBoundLogger:
    """A logger of one of `van.router.sections.SUBSYSTEMS`, with these ids on each of its lines."""
    logger: FilteringBoundLogger = structlog.get_logger(subsystem)
    return logger.bind(**ids) if ids else logger


def make_harmless(_logger: WrappedLogger, _method: str, event: EventDict) -> MutableMapping[str, Any]:
    """Mask secrets, escape control characters, cut what is too long. A processor of structlog."""
    for name, value in event.items():
        if name in _SECRET_KEYS:
            event[name] = "***"
        elif name == "exception":
            event[name] = "\n".join(map(_harmless, str(value).split("\n")))
        else:
            event[name] = _harmless_value(value)
    return event


def _harmless_value(value: object) -> object:
    """The same for what is inside of lists and maps, which stay lists and maps."""
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, list | tuple):
        return [_harmless_value(item) for item in value]
    if isinstance(value, dict):
        return {_harmless(str(key)): "***" if key in _SECRET_KEYS else _harmless_value(of) for key, of in value.items()}
    return _harmless(str(value))


def _harmless(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}... ({len(text)} characters)"
    if "://" in text:
        text = _URL_PASSWORD.sub(r"\1***@", text)
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def _text_renderer(stream: TextIO) -> Any:
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    colors = bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and not plain and sys.platform != "win32")
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _level_of(method: str) -> str:
    return _OTHER_NAMES.get(method, method)


def _subsystem(logger: WrappedLogger) -> str:
    subsystem: str = getattr(logger, "subsystem", "router")
    return subsystem


def _subsystem_of(names: tuple[object, ...]) -> str:
    """`van.transport.listener` and `transport` are both `transport`."""
    parts = str(names[0]).split(".") if names and names[0] else ["router"]
    return parts[1] if parts[0] == "van" and len(parts) > 1 else parts[0]
