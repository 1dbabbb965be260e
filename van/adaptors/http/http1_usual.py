"""The usual request and the usual response of HTTP/1.1, read at once from one piece of octets.

That takes a fifth of what h11 takes for it. Whatever is not quite usual (a body that is not all here, chunks, another
version, upgrades, expectations, anything that might be malformed) is None here, and h11's to judge. What is read here,
h11 reads in the same way: a test asserts it.
"""

from __future__ import annotations

import re
from typing import Final

from van.adaptors.http.mapping import HOP_BY_HOP, Fields

_FIELDS: Final = rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)++)\r\n"
_REQUEST: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++) (/[\x21-\x7e]*+) HTTP/1\.1\r\n" + _FIELDS)
_RESPONSE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t\x20-\x7e]*+)?\r\n" + _FIELDS)
# These say how a message is framed, or what becomes of the connection.
_SPECIAL: Final = HOP_BY_HOP | {b"content-length", b"expect"}
# More digits than a length has that is here.
_MAX_DIGITS: Final = 6
# RFC 9110, 6.4.1.
_BODILESS: Final = (b"204", b"304")


class UsualRequest:
    """A request: `body` is all of its body, `end` is where it ends in what was read."""

    __slots__ = ("body", "end", "fields", "host", "method", "target")

    def __init__(self, method: bytes, target: bytes, host: bytes, fields: Fields, body: bytes, end: int) -> None:
        self.method = method
        self.target = target
        self.host = host
        self.fields = fields
        self.body = body
        self.end = end


def usual_request(data: bytes) -> UsualRequest | None:
    """The request at the beginning of `data`, if it is all there and a usual one."""
    end = data.find(b"\r\n\r\n") + 4
    match = _REQUEST.fullmatch(data, 0, end)
    if match is None:
        return None
    method, target, lines = match.groups()
    host = b""
    length = -1
    fields: Fields = []
    for line in lines[:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        value = value.strip(b" \t")
        if name in _SPECIAL:
            if name == b"host" and not host:
                host = value
                continue
            if name == b"connection" and value.lower() == b"keep-alive":
                continue
            if name != b"content-length" or length >= 0 or not value.isdigit() or len(value) > _MAX_DIGITS:
                return None
            length = int(value)
        fields.append((name, value))
    if not host or len(data) < end + length:
        return None
    if length <= 0:
        return UsualRequest(method, target, host, fields, b"", end)
    return UsualRequest(method, target, host, fields, data[end : end + length], end + length)


def usual_response(data: bytes, head_only: bool) -> tuple[int, Fields, bytes] | None:
    """Status, fields and body, if `data` is a usual response and nothing else. head_only: it answers HEAD."""
    end = data.find(b"\r\n\r\n") + 4
    match = _RESPONSE.fullmatch(data, 0, end)
    if match is None:
        return None
    status, lines = match.groups()
    length = -1
    fields: Fields = []
    for line in lines[:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        value = value.strip(b" \t")
        if name in _SPECIAL:
            if name == b"connection" and value.lower() == b"keep-alive":
                continue
            if name != b"content-length" or length >= 0 or not value.isdigit() or len(value) > _MAX_DIGITS:
                return None
            length = int(value)
        fields.append((name, value))
    if head_only or status in _BODILESS:
        length = 0
    if length < 0 or len(data) != end + length:
        return None
    return int(status), fields, data[end:]
