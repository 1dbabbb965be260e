"""What stands in front of the octets of a TCP connection in its two streams, written as skrouterd 3.x writes it.

A connection is one message each way. A *client stream* goes to the service's address and says where answers go; a
*server stream* goes there. Both begin with properties, with the version of this encapsulation, and with a body that is
null; the octets of the connection follow without any section, so nothing behind a head may be parsed.
"""

from __future__ import annotations

import struct
from typing import Final

from van.amqp.codec import decode_value
from van.amqp.errors import DecodeError
from van.amqp.message import (
    AMQP_VALUE,
    APPLICATION_PROPERTIES,
    PROPERTIES,
    IncompleteMessageError,
    locate_section,
)

CONTENT_TYPE: Final = "application/octet-stream"
VERSION: Final = 1
# Keys of the application properties: the first two are skrouterd's; it passes over the others, which are ours and hold
# the client's address and the one that it has connected to, each as `host port`.
VERSION_KEY: Final = "V"
ALPN_KEY: Final = "alpn"
CLIENT_KEY: Final = "van.client"
LOCAL_KEY: Final = "van.local"
# skrouterd's heads have 150 octets. Longer ones than this are refused; addresses are at most 4 KiB long.
MAX_HEAD: Final = 16384

_pack_2uint: Final = struct.Struct(">II").pack
_NULL_BODY: Final = b"\x00\x53\x77\x40"
_VERSION: Final = b"\xa1\x01V\x52\x01"
_ALPN: Final = b"\xa1" + bytes((len(ALPN_KEY),)) + ALPN_KEY.encode()
_CLIENT: Final = b"\xa1" + bytes((len(CLIENT_KEY),)) + CLIENT_KEY.encode()
_LOCAL: Final = b"\xa1" + bytes((len(LOCAL_KEY),)) + LOCAL_KEY.encode()
_CONTENT_TYPE: Final = b"\xa1" + bytes((len(CONTENT_TYPE),)) + CONTENT_TYPE.encode()
# The application properties of a head that says the version alone.
_PLAIN: Final = b"\x00\x53\x74\xd1" + _pack_2uint(4 + len(_VERSION), 2) + _VERSION + _NULL_BODY


class Head:
    """What a head says. Texts that are not there are empty.

    `ours` tells whether it is the head of a TCP connection at all, in the version that we know.
    """

    __slots__ = ("alpn", "client", "correlation", "local", "ours", "reply_to", "to")

    def __init__(self) -> None:
        self.ours = False
        self.to = ""
        self.reply_to = ""
        self.correlation = ""
        self.alpn = ""
        self.client = ""
        self.local = ""


def client_head(
    to: str, reply_to: str, correlation: str, alpn: str = "", client: tuple[str, int] | None = None,
    local: tuple[str, int] | None = None,
) -> bytes:
    """The head of a client stream to the address `to`.

    alpn: what the client has agreed upon by TLS. client and local: the two ends of the client's connection.
    """
    properties = b"\x40\x40" + _text(to) + b"\x40" + _text(reply_to) + _text(correlation) + _CONTENT_TYPE
    if not alpn and client is None:
        return _section(0x73, 0xD0, properties, 7) + _PLAIN
    count = 2
    more = _VERSION
    if alpn:
        count += 2
        more += _ALPN + _text(alpn)
    if client is not None and client[0]:
        count += 2
        more += _CLIENT + _text(f"{client[0]} {client[1]}")
        if local is not None and local[0]:
            count += 2
            more += _LOCAL + _text(f"{local[0]} {local[1]}")
    return _section(0x73, 0xD0, properties, 7) + _section(0x74, 0xD1, more, count) + _NULL_BODY


def server_head(to: str) -> bytes:
    """The head of a server stream. to: the `reply_to` of the client stream."""
    return _section(0x73, 0xD0, b"\x40\x40" + _text(to) + b"\x40\x40\x40" + _CONTENT_TYPE, 7) + _PLAIN


def _section(code: int, constructor: int, items: bytes, count: int) -> bytes:
    return bytes((0x00, 0x53, code, constructor)) + _pack_2uint(4 + len(items), count) + items


def _text(text: str) -> bytes:
    octets = text.encode()
    size = len(octets)
    return b"\xa1" + bytes((size,)) + octets if size < 256 else b"\xb1" + size.to_bytes(4, "big") + octets


def read_place(text: str) -> tuple[str, int] | None:
    """The host and port in a text of ours, None where it is none."""
    host, _, port = text.partition(" ")
    if host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536:
        return host, int(port)
    return None


def read_head(data: bytes, whole: bool) -> tuple[Head, int] | None:
    """Read the head that a stream begins with; return it and where the octets of the connection begin.

    None: more of it has to come; `whole` says that no more will. A message of any other kind has a head that is not
    `ours`. Raises DecodeError for what is malformed, or too long.
    """
    head = Head()
    content_type = ""
    version = 0
    last = 0
    pos = 0
    try:
        while True:
            code, value, stop = locate_section(data, pos)
            if code == AMQP_VALUE:
                # Behind any other body there would be no octets of a connection.
                head.ours = content_type == CONTENT_TYPE and version == VERSION
                if head.ours and data[value] != 0x40:
                    raise DecodeError("a stream of TCP whose body is not null")
                return head, stop
            if code > AMQP_VALUE or code in (0x75, 0x76):
                return head, stop
            if code and code <= last:
                raise DecodeError(f"section 0x{code:02x} after section 0x{last:02x}")
            last = code or last
            if code == PROPERTIES:
                items, _ = decode_value(data, value, stop)
                if not isinstance(items, list):
                    raise DecodeError("properties are no list")
                head.to = _text_at(items, 2)
                head.reply_to = _text_at(items, 4)
                head.correlation = _text_at(items, 5)
                content_type = _text_at(items, 6)
            elif code == APPLICATION_PROPERTIES:
                pairs, _ = decode_value(data, value, stop)
                if not isinstance(pairs, dict):
                    raise DecodeError("application properties are no map")
                number = pairs.get(VERSION_KEY)
                version = int(number) if isinstance(number, int) else 0
                head.alpn = _text_of(pairs.get(ALPN_KEY))
                head.client = _text_of(pairs.get(CLIENT_KEY))
                head.local = _text_of(pairs.get(LOCAL_KEY))
            pos = stop
            if pos > MAX_HEAD:
                raise DecodeError(f"the head of a stream has more than {MAX_HEAD} octets")
    except IncompleteMessageError:
        if last >= PROPERTIES and content_type != CONTENT_TYPE:
            # Whatever follows, it is none of ours, and may be large.
            return head, len(data)
        if whole or len(data) > MAX_HEAD:
            raise
        return None


def _text_at(items: list[object], index: int) -> str:
    return _text_of(items[index]) if index < len(items) else ""


def _text_of(value: object) -> str:
    return str(value) if isinstance(value, str) else ""
