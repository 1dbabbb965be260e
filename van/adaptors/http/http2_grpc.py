"""What of gRPC over HTTP/2 concerns a proxy: which requests are calls, until when, and how one is told that it failed.

Calls pass unchanged otherwise: they are requests whose status stands in trailers. Sources: PROTOCOL-HTTP2.md and
http-grpc-status-mapping.md of gRPC.
"""

from __future__ import annotations

import re
from typing import Final

from van.adaptors.http.http2_fields import Fields

# The status codes of gRPC that we say ourselves.
DEADLINE_EXCEEDED: Final = 4
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# As much of a reason as fits into any limit for fields.
_MAX_MESSAGE: Final = 1024
# What a call is told in place of a status of HTTP. 504 is said when a deadline has passed; no server, or one that was
# lost, is the same to a caller, who may try again.
_STATUS: Final = {400: INTERNAL, 413: RESOURCE_EXHAUSTED, 501: UNIMPLEMENTED, 504: DEADLINE_EXCEEDED}


def is_call(content_type: bytes) -> bool:
    """Whether a request with this content-type is a call of gRPC; gRPC-Web is none, for it has no trailers."""
    content_type = content_type.lower()
    return content_type.startswith(b"application/grpc") and content_type[16:17] in (b"", b"+", b";", b" ")


def timeout_of(value: bytes) -> float | None:
    """The seconds that a field grpc-timeout means; None for a field that means nothing."""
    found = _TIMEOUT.fullmatch(value)
    return None if found is None else int(found[1]) * _UNITS[found[2]]


def status_of(status: int) -> int:
    """The status of gRPC for a failure that has this status of HTTP."""
    return _STATUS.get(status, UNAVAILABLE)


def failure_trailers(status: int, reason: str) -> Fields:
    """Trailers of a call that failed with a status of HTTP, for a reason in words."""
    return [(b"grpc-status", b"%d" % status_of(status)), (b"grpc-message", _percent_encoded(reason))]


def failure_head(status: int, reason: str) -> Fields:
    """The only fields of a call that failed before there was an answer (Trailers-Only)."""
    return [(b":status", b"200"), (b"content-type", b"application/grpc"), *failure_trailers(status, reason)]


def _percent_encoded(text: str) -> bytes:
    octets = text.encode("utf-8", "replace")[:_MAX_MESSAGE]
    return b"".join(
        [bytes((octet,)) if 0x20 <= octet <= 0x7E and octet != 0x25 else b"%%%02X" % octet for octet in octets]
    ).strip(b" ")
