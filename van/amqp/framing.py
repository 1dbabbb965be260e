"""Frames and protocol headers (2.2 and 2.3): eight octets in front of everything.

What a frame's body means is decided in `connection.py`.
"""

from __future__ import annotations

import struct
from typing import Final

from van.amqp.errors import FramingError

AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"
TLS_HEADER: Final = b"AMQP\x02\x01\x00\x00"
HEADER_LENGTH: Final = 8

FRAME_TYPE_AMQP: Final = 0
FRAME_TYPE_SASL: Final = 1

# 2.3.1: the smallest max-frame-size; frames before Open, and all SASL frames, must fit into it.
MIN_MAX_FRAME_SIZE: Final = 512
# Our own default, as the C routers': 125 messages of 110 octets fit, and a peer's buffer of one frame stays small.
DEFAULT_MAX_FRAME_SIZE: Final = 16384
# What is announced where windows of such frames are affordable: a frame costs 4 us whatever its size. A little more
# than 64 KiB, so that a body of that size fits with all that is around it: 10 us of 80.
LARGE_FRAME_SIZE: Final = 66560

# Size, data offset (in words of four octets), type and channel.
FRAME_HEADER: Final = struct.Struct(">IBBH")

EMPTY_FRAME: Final = FRAME_HEADER.pack(HEADER_LENGTH, 2, FRAME_TYPE_AMQP, 0)


def encode_frame(channel: int, body: bytes, frame_type: int = FRAME_TYPE_AMQP) -> bytes:
    """A whole frame around an encoded performative (with its payload, if it has one)."""
    return FRAME_HEADER.pack(HEADER_LENGTH + len(body), 2, frame_type, channel) + body


def describe_header(data: bytes) -> str:
    """Say in words what a peer whose first eight octets are no AMQP header seems to speak."""
    if data[:2] == b"\x16\x03":
        return "a TLS handshake (use amqps on this side, or amqp on the other)"
    if data[:4] in (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI"):
        return "an HTTP request (use ws on this side)"
    if data[:4] == b"PRI ":
        return "HTTP/2"
    if data[:4] == b"AMQP":
        if data[:HEADER_LENGTH] == TLS_HEADER:
            return "the TLS header of AMQP (use amqps, where TLS comes first)"
        return f"AMQP protocol id {data[4]}, version {data[5]}.{data[6]}.{data[7]}"
    return f"octets {data[:8].hex(' ')}"


def frame_error(size: int, limit: int, data_offset: int, frame_type: int, expected: str) -> FramingError:
    """The error for a frame header that cannot be right; `expected` says in words what may come."""
    if size > limit:
        return FramingError(f"a frame of {size} octets, where {limit} are allowed")
    if frame_type not in (FRAME_TYPE_AMQP, FRAME_TYPE_SASL):
        return FramingError(f"frame type {frame_type}")
    if data_offset < 2 or data_offset << 2 > size:
        return FramingError(f"a frame of {size} octets with data offset {data_offset}")
    return FramingError(f"frame type {frame_type} where {expected} may follow")
