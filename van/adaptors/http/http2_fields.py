"""Which fields a request, an answer and trailers of HTTP/2 may have (RFC 9113, 8), and nothing else about them.

A message with others is malformed: its stream is reset. What is let through can be written as HTTP/1.1 without anybody
reading something else in it (10.3).
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Fields: TypeAlias = list[tuple[bytes, bytes]]
"""Names in lower case and values, in their order."""

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
# RFC 9110, 5.5: no controls but HTAB; RFC 9113, 8.2.1: no white space around.
_VALUE: Final = re.compile(rb"(?![ \t])[^\x00-\x08\x0a-\x1f\x7f]*(?<![ \t])")
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH: Final = re.compile(rb"/[\x21-\x22\x24-\x7e\x80-\xff]*|\*")
_AUTHORITY: Final = re.compile(rb"[0-9A-Za-z\-._~!$&'()*+,;=:%\[\]]+")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*")
_STATUS: Final = re.compile(rb"[1-9][0-9][0-9]")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")

# 8.2.2: these speak of one connection of HTTP/1.1.
CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"http2-settings")
)
# RFC 7541, 7.1.3: never to be found out by how well something is compressed.
SENSITIVE: Final = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"))
_REQUEST: Final = frozenset((b":method", b":scheme", b":path", b":authority", b":protocol"))


def _common_fault(fields: Fields, pseudo: dict[bytes, bytes], known: frozenset[bytes]) -> str:
    """What is wrong with these fields; the pseudo-header fields are put into `pseudo`."""
    regular = False
    for name, value in fields:
        if name[:1] == b":":
            if regular:
                return "a pseudo-header field stands behind a regular one"
            if name not in known:
                return f"there is no pseudo-header field {_shown(name)} here"
            if name in pseudo:
                return f"the pseudo-header field {_shown(name)} stands there twice"
            pseudo[name] = value
            continue
        regular = True
        if _NAME.fullmatch(name) is None:
            return f"a field cannot be called {_shown(name)}"
        if _VALUE.fullmatch(value) is None:
            return f"the field {_shown(name)} cannot have this value"
        if name in CONNECTION_FIELDS:
            return f"the field {_shown(name)} is for HTTP/1.1 only"
        if name == b"te" and value.lower() != b"trailers":
            return "the field 'te' cannot have this value"
    return ""


def request_fault(fields: Fields) -> str:
    """What is wrong with the fields of a request (8.3.1, 8.5); empty for nothing."""
    pseudo: dict[bytes, bytes] = {}
    fault = _common_fault(fields, pseudo, _REQUEST)
    if fault:
        return fault
    method = pseudo.get(b":method", b"")
    if _METHOD.fullmatch(method) is None:
        return "there is no method"
    authority = pseudo.get(b":authority")
    if authority is not None and _AUTHORITY.fullmatch(authority) is None:
        return "the authority is none"
    if b":protocol" in pseudo:
        # RFC 8441, 3: we have not said SETTINGS_ENABLE_CONNECT_PROTOCOL.
        return "extended CONNECT was not offered"
    if method == b"CONNECT":
        if b":scheme" in pseudo or b":path" in pseudo or authority is None:
            return "CONNECT has an authority and nothing else"
    else:
        path = pseudo.get(b":path", b"")
        if _PATH.fullmatch(path) is None or (path == b"*" and method != b"OPTIONS"):
            return "the path is none"
        if _SCHEME.fullmatch(pseudo.get(b":scheme", b"")) is None:
            return "the scheme is none"
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (hosts and authority is not None and hosts[0] != authority):
        return "the fields 'host' and ':authority' contradict one another"
    if hosts and _AUTHORITY.fullmatch(hosts[0]) is None:
        return "the field 'host' cannot have this value"
    if not hosts and authority is None:
        return "there is no authority"
    return ""


def response_fault(fields: Fields) -> str:
    """What is wrong with the fields of an answer (8.3.2); empty for nothing."""
    pseudo: dict[bytes, bytes] = {}
    fault = _common_fault(fields, pseudo, frozenset((b":status",)))
    if not fault and _STATUS.fullmatch(pseudo.get(b":status", b"")) is None:
        fault = "there is no status"
    return fault


def trailers_fault(fields: Fields) -> str:
    """What is wrong with trailers (8.1); empty for nothing."""
    return _common_fault(fields, {}, frozenset())


def content_length(fields: Fields) -> int | None:
    """The length of the body that is announced; None for none, -1 when it is no number or two different ones."""
    length: int | None = None
    for name, value in fields:
        if name == b"content-length":
            if _DIGITS.fullmatch(value) is None:
                return -1
            number = int(value)
            if length is not None and length != number:
                return -1
            length = number
    return length


def field(fields: Fields, name: bytes) -> bytes:
    """The value of the first field of this name; empty for none."""
    for each, value in fields:
        if each == name:
            return value
    return b""


def _shown(name: bytes) -> str:
    return repr(name[:40].decode("latin-1"))
