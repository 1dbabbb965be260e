"""Serial numbers of 32 bits (RFC 1982), as sequence-no, transfer-number and delivery-number are (2.8.10)."""

from __future__ import annotations

from typing import Final

MASK: Final = 0xFFFFFFFF
HALF: Final = 0x80000000


def serial_add(value: int, increment: int) -> int:
    """`value` moved on (or back) by `increment`, wrapped to 32 bits."""
    return (value + increment) & MASK


def serial_distance(start: int, end: int) -> int:
    """How far `end` is ahead of `start`: from -2**31 up to 2**31 - 1; negative when it lies behind."""
    distance = (end - start) & MASK
    return distance - 0x100000000 if distance >= HALF else distance
