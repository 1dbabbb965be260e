"""`van request`: requests to an address, and the replies to stdout."""

from __future__ import annotations

from collections.abc import Iterator

from van.cli.output import json_line, json_object, text_line, write
from van.client import Connection, Message
from van.router import exit_codes


async def request(
    connection: Connection, address: str, messages: Iterator[Message], *, seconds: float, as_json: bool
) -> int:
    """Send one request after the other and write each reply; `seconds` for each. Returns the exit code."""
    async with connection.requester(address) as requester:
        for message in messages:
            reply = await requester.request(message, timeout=seconds)
            await write(json_line(json_object(address, reply)) if as_json else text_line(reply))
    return exit_codes.OK
