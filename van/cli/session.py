"""The frame around every command that talks to a router: signals, the connection, errors, and how long to wait."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from van.cli.errors import BROKEN_PIPE, UsageError, complain, exit_code
from van.cli.options import DEFAULT_TIMEOUT, ConnectionOptions
from van.client import Connection, connect
from van.router import exit_codes

SIGNALED = 128
"""Exit codes of programs that a signal ended begin here."""


def run_command(command: Callable[[], Awaitable[int]]) -> int:
    """Run a command to its end, or to the first SIGINT or SIGTERM, and return the exit code."""
    try:
        return trio.run(_supervised, command)
    except KeyboardInterrupt:
        return SIGNALED + signal.SIGINT


async def _supervised(command: Callable[[], Awaitable[int]]) -> int:
    code = exit_codes.OK

    async def watch(task_status: trio.TaskStatus[None]) -> None:
        nonlocal code
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                code = SIGNALED + number
                scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            await nursery.start(watch)
            code = await _guarded(command)
        nursery.cancel_scope.cancel()
    return code


async def _guarded(command: Callable[[], Awaitable[int]]) -> int:
    try:
        return await command()
    except BrokenPipeError:
        return BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - those that are not expected rise again
        code, text = exit_code(error)
        if text:
            complain(text)
        return code


@asynccontextmanager
async def connected(options: ConnectionOptions, seconds: float | None) -> AsyncIterator[Connection]:
    """The connection that the options describe."""
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(
                connect(
                    options.url,
                    sasl_username=options.sasl_username,
                    sasl_password=_secret(options.sasl_password),
                    sasl_mechanisms=options.sasl_mechanism or None,
                    allow_insecure_plain=options.allow_insecure_plain,
                    ca_cert_file=options.ca_cert_file,
                    cert_file=options.cert_file,
                    private_key_file=options.private_key_file,
                    verify_hostname=options.verify_hostname,
                    proxy=options.proxy,
                    timeout=DEFAULT_TIMEOUT if seconds is None else seconds,
                )
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        yield connection


def _secret(text: str | None) -> str | None:
    """`env:NAME`, `file:PATH` (its first line), or the text itself. Raises `UsageError`, which repeats no secret."""
    kind, colon, rest = (text or "").partition(":")
    if colon and kind == "env":
        if rest not in os.environ:
            raise UsageError(f"the environment has no variable {rest}")
        return os.environ[rest]
    if colon and kind == "file":
        try:
            return Path(rest).read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UsageError(f"cannot read {rest}: {reason}") from None
    return text


def limit(seconds: float | None) -> float | None:
    """`--timeout`: 0 stands for no limit. Raises `UsageError`."""
    if seconds is None:
        return None
    if not seconds >= 0:
        raise UsageError("--timeout cannot be negative")
    return seconds or math.inf


class Patience:
    """A limit on how long nothing may happen, not on how long everything takes."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.scope = trio.CancelScope()
        self.renew()

    def renew(self) -> None:
        """Something has happened."""
        self.scope.deadline = trio.current_time() + self.seconds

    @property
    def exhausted(self) -> bool:
        """Whether the scope has ended because nothing happened."""
        return self.scope.cancelled_caught
