"""From arguments and stdin to messages."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence

import trio

from van.amqp.types import Symbol, UByte, UInt
from van.cli.errors import UsageError
from van.cli.options import MessageOptions
from van.client import AmqpValue, Data, Header, Message, Properties

STDIN = "\0-"
"""What stands for an argument `-` after the command line has been looked at: no argument can hold a NUL."""

MAX_PRIORITY = 9  # 3.2.1


async def read_stdin() -> bytes:
    """All of stdin."""
    return await trio.to_thread.run_sync(_read_all, sys.stdin.fileno(), abandon_on_cancel=True)


def _read_all(descriptor: int) -> bytes:
    # Not through sys.stdin: a thread that waits there with its lock would keep the process from ending.
    chunks = []
    while chunk := os.read(descriptor, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


async def read_bodies(arguments: Sequence[str], size: int | None, count: int | None) -> list[str | bytes]:
    """The bodies that were asked for; an empty list where `count` messages get numbers.

    Without an argument, `--size` and `--count`, stdin is the one body.
    """
    if arguments and size is not None:
        raise UsageError("a body or --size, not both")
    if size is not None:
        if size < 0:
            raise UsageError("--size cannot be negative")
        return [bytes(itertools.islice(itertools.cycle(b"0123456789"), size))]
    if not arguments and count is None:
        arguments = [STDIN]
    if list(arguments).count(STDIN) > 1:
        raise UsageError("stdin can be one body only")
    bodies: list[str | bytes] = []
    for argument in arguments:
        if argument == STDIN:
            bodies.append(_text_if_possible(await read_stdin()))
        else:
            try:
                argument.encode()
            except UnicodeEncodeError:
                bodies.append(argument.encode("utf-8", "surrogateescape"))
            else:
                bodies.append(argument)
    return bodies


def _text_if_possible(octets: bytes) -> str | bytes:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets


def make_messages(bodies: Sequence[str | bytes], count: int | None, options: MessageOptions) -> Iterator[Message]:
    """`count` messages, with the bodies in turn; 0 stands for no end. Raises `UsageError` before the first."""
    if count is not None and count < 0:
        raise UsageError("--count cannot be negative")
    header = _header(options)
    properties = _properties(options)
    application_properties = dict(map(parse_property, options.property)) or None

    def message(body: str | bytes) -> Message:
        octets = isinstance(body, bytes) or options.content_type is not None
        return Message(
            header=header,
            properties=properties,
            application_properties=application_properties,
            body=Data(body.encode() if isinstance(body, str) else body) if octets else AmqpValue(body),
        )

    if count is None:
        return map(message, bodies)
    endless = itertools.cycle(bodies) if bodies else map(str, itertools.count(1))
    return map(message, endless if count == 0 else itertools.islice(endless, count))


def _header(options: MessageOptions) -> Header | None:
    if options.priority is not None and not 0 <= options.priority <= MAX_PRIORITY:
        raise UsageError(f"--priority has to be from 0 to {MAX_PRIORITY}")
    if options.ttl is not None and not 0 <= options.ttl < 1 << 32:
        raise UsageError("--ttl has to be a number of milliseconds below 2**32")
    if not options.durable and options.priority is None and options.ttl is None:
        return None
    return Header(
        durable=options.durable or None,
        priority=None if options.priority is None else UByte(options.priority),
        ttl=None if options.ttl is None else UInt(options.ttl),
    )


def _properties(options: MessageOptions) -> Properties | None:
    values = (options.subject, options.message_id, options.correlation_id, options.reply_to, options.content_type)
    if all(value is None for value in values):
        return None
    return Properties(
        subject=options.subject,
        message_id=options.message_id,
        correlation_id=options.correlation_id,
        reply_to=options.reply_to,
        content_type=None if options.content_type is None else Symbol(options.content_type),
    )


def parse_property(text: str) -> tuple[str, object]:
    """`NAME=TEXT` or `NAME:=SCALAR`, a scalar of JSON. Raises `UsageError`."""
    name, sign, value = text.partition("=")
    if not sign or not name or name == ":":
        raise UsageError(f'"{text}" is no property: NAME=VALUE or NAME:=JSON')
    if not name.endswith(":"):
        return name, value
    try:
        scalar = json.loads(value)
    except ValueError:
        raise UsageError(f'property "{name[:-1]}": "{value}" is not JSON; for a text write NAME=VALUE') from None
    if isinstance(scalar, (dict, list)) or (isinstance(scalar, float) and not math.isfinite(scalar)):
        raise UsageError(f'property "{name[:-1]}": application properties are scalars (3.2.5)')
    return name[:-1], scalar
