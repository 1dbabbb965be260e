"""The responses of all servers of a multicast address, gathered to one: as JSON, or in parts (RFC 2046, 5.1).

In JSON each response is an object with `status`, `headers`, and `body`, which is text, or with `encoding` "base64" any
octets. In parts each is a part with its fields and its body, as qpid-dispatch had it; `x-status` is its status.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Final

from van.adaptors.http.exchange import IncomingBody, Octets
from van.adaptors.http.mapping import Fields, ResponseHead

# So much of all responses together is kept until the last has come, in octets; more is refused with 502.
MAX_GATHERED: Final = 1048576
# How much of one is read at a time, in octets.
_READ: Final = 65536


class Gathering:
    """What has come of the responses."""

    __slots__ = ("_bodies", "_heads", "_pieces", "size")

    def __init__(self) -> None:
        self.size = 0
        self._heads: list[ResponseHead] = []
        self._bodies: list[IncomingBody] = []
        self._pieces: list[list[Octets]] = []

    def __bool__(self) -> bool:
        return bool(self._heads)

    def add(self, head: ResponseHead, body: IncomingBody) -> None:
        """Another response has come as far as its head."""
        self._heads.append(head)
        self._bodies.append(body)
        self._pieces.append([])
        self.read()

    def read(self) -> None:
        """Read what is here of all that have not ended, as long as it is not too much."""
        for body, pieces in zip(self._bodies, self._pieces, strict=True):
            while body.waiting() and self.size <= MAX_GATHERED:
                for piece in body.read(_READ):
                    pieces.append(bytes(piece))
                    self.size += len(piece)

    def give_up(self, state: object) -> None:
        """Settle those that have not ended."""
        for body in self._bodies:
            if not body.ended:
                body.settle(state)

    def bodies(self) -> list[IncomingBody]:
        """The responses that have come, whole or not."""
        return self._bodies

    def _whole(self) -> list[tuple[ResponseHead, bytes]]:
        """Those that have come whole: one that broke off is left out."""
        return [
            (head, b"".join(pieces))
            for head, body, pieces in zip(self._heads, self._bodies, self._pieces, strict=True)
            if body.ended
        ]

    def response(self, kind: str, boundary: str) -> tuple[ResponseHead, bytes]:
        """One response for all. kind: "json" or "multipart". boundary: a text that none of them has."""
        if kind == "json":
            described = [_described(head, data) for head, data in self._whole()]
            return ResponseHead(200, [(b"content-type", b"application/json")]), json.dumps(described).encode()
        mark = b"--" + boundary.encode()
        out = []
        for head, data in self._whole():
            fields = [*_own(head.fields), (b"x-status", b"%d" % head.status)]
            out += [mark, b"\r\n", *[b"%b: %b\r\n" % field for field in fields], b"\r\n", data, b"\r\n"]
        out += [mark, b"--\r\n"]
        kind_of = b"multipart/mixed; boundary=" + boundary.encode()
        return ResponseHead(200, [(b"content-type", kind_of)]), b"".join(out)


def _own(fields: Fields) -> Fields:
    """The fields that say something of a part."""
    return [field for field in fields if field[0] != b"content-length"]


def _described(head: ResponseHead, data: bytes) -> dict[str, object]:
    fields: dict[str, str] = {}
    for name, value in _own(head.fields):
        text = value.decode("latin-1")
        key = name.decode("latin-1")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    try:
        return {"status": head.status, "headers": fields, "body": data.decode()}
    except UnicodeDecodeError:
        return {"status": head.status, "headers": fields, "body": b64encode(data).decode(), "encoding": "base64"}
