"""What both sides of HTTP/1.1 (RFC 9112) have in common: its limits, and what h11 leaves to others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import h11

from van.adaptors.http.mapping import Fields

# The first line and the header of a message are at most so many octets, and so are trailers: 431 (RFC 6585) to a
# client, 502 for a server. nginx takes 4 lines of 8 KiB, Apache 8 KiB a line, Node 16 KiB in all; cookies and tokens
# grow.
MAX_HEADER: Final = 65536
# A client may send so much beyond the request that is answered (pipelining); then nothing is read of it for a while.
MAX_AHEAD: Final = 65536
# How long a client may take for the header of a request, in seconds: 408. As long as nginx allows.
HEADER_TIMEOUT: Final = 60.0
# How long a connection without a request stays open, in seconds: as long as nginx has it.
KEEP_ALIVE_TIMEOUT: Final = 75.0
# A connection that ends while its client may still write is read for so long, in seconds, and what comes is thrown
# away: else the client would see a reset in place of the last response (RFC 9112, 9.6).
LINGER: Final = 5.0
# How much is put into one write of a body, in octets.
PORTION: Final = 65536

# RFC 9110, 15: the words that stand behind a status code.
PHRASES: Final = {
    100: b"Continue",
    101: b"Switching Protocols",
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    204: b"No Content",
    206: b"Partial Content",
    301: b"Moved Permanently",
    302: b"Found",
    303: b"See Other",
    304: b"Not Modified",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    406: b"Not Acceptable",
    408: b"Request Timeout",
    409: b"Conflict",
    410: b"Gone",
    411: b"Length Required",
    412: b"Precondition Failed",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    416: b"Range Not Satisfiable",
    417: b"Expectation Failed",
    422: b"Unprocessable Content",
    425: b"Too Early",
    426: b"Upgrade Required",
    428: b"Precondition Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}

# More digits than a length of 64 bits has.
_MAX_DIGITS: Final = 18
_AUTHORITY: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)")


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """The authority of an absolute target (empty for another), and the target without it (RFC 9112, 3.2).

    Raises ValueError for what is no target of a request to an origin server.
    """
    if target[:1] == b"/" or target == b"*":
        return b"", target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise ValueError("the target of the request is neither a path nor a URL")
    scheme, authority, rest = match.groups()
    if scheme.lower() not in (b"http", b"https") or not authority:
        raise ValueError("the target of the request is no URL of HTTP")
    if rest[:1] != b"/":
        rest = b"/" + rest
    return authority, rest


def is_authority(value: bytes) -> bool:
    """Whether it is a host with or without a port, and nothing else (RFC 9110, 7.2)."""
    return _AUTHORITY.fullmatch(value) is not None


def upgrade_of(fields: Fields) -> bytes:
    """The protocol that a message asks for or agrees to (RFC 9110, 7.8); empty for none. names: in lower case."""
    upgrade = b""
    wanted = False
    for name, value in fields:
        if name == b"upgrade":
            upgrade = value
        elif name == b"connection":
            wanted = wanted or b"upgrade" in value.lower()
    # To HTTP/2 changes a connection, not what is in it: clients know it, or agree on it in TLS.
    return upgrade if wanted and not upgrade.lower().startswith((b"h2", b"http/", b"tls/")) else b""


def status_line(status: int) -> bytes:
    """The first line of a response."""
    return b"HTTP/1.1 %d %b\r\n" % (status, PHRASES.get(status, b""))


def head_of(first_line: bytes, fields: Fields) -> bytes:
    """The first line and the fields of a message. fields: as `mapping` has checked them."""
    return b"".join([first_line, *[b"%b: %b\r\n" % field for field in fields], b"\r\n"])


def length_of(fields: Fields) -> int:
    """The length that the fields of a message name, -1 where they name none (RFC 9110, 8.6).

    Raises ValueError when it is none, or there are several.
    """
    length = -1
    for name, value in fields:
        if name == b"content-length":
            if length >= 0 or not value.isdigit() or len(value) > _MAX_DIGITS:
                raise ValueError("content-length is no number, or comes twice")
            length = int(value)
    return length


class BodyWriter:
    """Writes a body (RFC 9112, 6): so many octets (`left`), or with -1 in chunks, or up to the connection's end."""

    __slots__ = ("chunked", "left")

    def __init__(self, length: int, chunked: bool) -> None:
        self.left = length
        self.chunked = chunked

    def write(self, data: bytes | memoryview, out: list[bytes | memoryview]) -> None:
        """Append a portion. Raises ValueError when there are more than was said."""
        size = len(data)
        if self.chunked:
            if size:
                out += (b"%x\r\n" % size, data, b"\r\n")
            return
        if self.left >= 0:
            if size > self.left:
                raise ValueError("the body is longer than its content-length")
            self.left -= size
        out.append(data)

    def end(self, trailers: Fields, out: list[bytes | memoryview]) -> None:
        """The body ends; trailers need chunks. Raises ValueError when there were fewer octets than was said."""
        if self.chunked:
            out.append(head_of(b"0\r\n", trailers))
        elif self.left > 0:
            raise ValueError("the body is shorter than its content-length")


def too_large(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a header that came in several reads is too large: h11 looks only at what is not whole."""
    return sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADER


def octets_of(event: Any) -> bytes:
    """What a portion of a body holds: h11 says bytes, and hands a bytearray over, which compiled code would refuse."""
    return bytes(event.data)


def cycle_over(http: h11.Connection) -> bool:
    """Whether request and response have ended, and another request may follow."""
    return http.our_state is h11.DONE and http.their_state is h11.DONE
