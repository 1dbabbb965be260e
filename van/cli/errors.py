"""From exceptions to exit codes, with one line for the person at the terminal."""

from __future__ import annotations

import os
import sys

from van.amqp.codec import EncodeError
from van.amqp.errors import ErrorCondition
from van.client import (
    AuthenticationError,
    ClientError,
    ConnectionClosedError,
    LinkRefusedError,
    TimedOutError,
    TlsConfigError,
    UnreachableError,
    UrlError,
)
from van.router import exit_codes

BROKEN_PIPE = 128 + 13
"""Who reads our output has gone; what a shell shows for a program that SIGPIPE ended."""

NOT_PERMITTED = frozenset({
    ErrorCondition.UNAUTHORIZED_ACCESS,
    ErrorCondition.NOT_ALLOWED,
    ErrorCondition.FORBIDDEN,
    ErrorCondition.CONNECTION_ROLE,
})  # fmt: skip
"""Conditions with which a router sends away whom it does not want."""


class UsageError(Exception):
    """Options or arguments that make no sense together."""


class StoppedError(Exception):
    """A command that ends with this exit code, after saying this much on stderr."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def complain(text: str) -> None:
    """One line on stderr; in red where that is a terminal and colours are wanted."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    prefix, suffix = ("\x1b[31m", "\x1b[0m") if colour else ("", "")
    try:
        print(f"{prefix}van: {text}{suffix}", file=sys.stderr)
    except OSError:
        return


def exit_code(error: Exception) -> tuple[int, str]:
    """The exit code for an expected error, and what to say. Raises the error again where it is none."""
    if isinstance(error, StoppedError):
        return error.code, str(error)
    if isinstance(error, (UsageError, UrlError, TlsConfigError, EncodeError)):
        return exit_codes.USAGE, str(error)
    if not isinstance(error, ClientError):
        raise error
    text = str(error)
    if isinstance(error, (AuthenticationError, LinkRefusedError)):
        return exit_codes.NOT_PERMITTED, f"refused: {text}"
    if isinstance(error, (ConnectionClosedError, UnreachableError)):
        if error.condition in NOT_PERMITTED:
            return exit_codes.NOT_PERMITTED, f"refused: {text}"
        return exit_codes.UNAVAILABLE, text
    if isinstance(error, TimedOutError):
        return exit_codes.TIMED_OUT, text
    return exit_codes.FAILURE, text
