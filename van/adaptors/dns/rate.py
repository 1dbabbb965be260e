"""How many answers one part of the Internet gets over UDP: source addresses can be forged, and answers be aimed.

As in BIND's response rate limiting: beyond the rate some are answered that they should come by TCP, which cannot be
forged, and the others not at all.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

# Answers a second to one source, and so many at once: a busy host asks less, for it keeps what it has heard.
ANSWERS_PER_SECOND: Final = 20.0
BURST: Final = 100.0
# What counts as one source: who has a subnet can use all of its addresses.
PREFIX_4: Final = 24
PREFIX_6: Final = 56
# Sources that are remembered; beyond that the one that has been silent for longest is forgotten.
MAX_SOURCES: Final = 4096
# Of so many questions beyond the rate one is answered with "come by TCP".
SLIP: Final = 2

ANSWER: Final = 0
TRUNCATE: Final = 1
DROP: Final = 2


class _Source:
    __slots__ = ("last", "slipped", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = BURST
        self.last = now
        self.slipped = 0


class ResponseRate:
    """Says of each question over UDP whether it is answered. Loopback addresses come from nowhere else."""

    __slots__ = ("_sources", "limited")

    def __init__(self) -> None:
        self._sources: OrderedDict[int, _Source] = OrderedDict()
        self.limited = 0

    def judge(self, host: str, now: float) -> int:
        """`ANSWER`, `TRUNCATE` or `DROP` for a question from `host`, an address, at `now` seconds."""
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return DROP
        if address.is_loopback:
            return ANSWER
        prefix = _prefix(address)
        sources = self._sources
        source = sources.get(prefix)
        if source is None:
            if len(sources) >= MAX_SOURCES:
                sources.popitem(last=False)
            source = sources[prefix] = _Source(now)
        else:
            sources.move_to_end(prefix)
        source.tokens = min(BURST, source.tokens + (now - source.last) * ANSWERS_PER_SECOND)
        source.last = now
        if source.tokens >= 1.0:
            source.tokens -= 1.0
            return ANSWER
        self.limited += 1
        source.slipped = (source.slipped + 1) % SLIP
        return DROP if source.slipped else TRUNCATE


def _prefix(address: IPv4Address | IPv6Address) -> int:
    if isinstance(address, IPv4Address):
        return int(address) >> (32 - PREFIX_4)
    mapped = address.ipv4_mapped
    if mapped is not None:
        return int(mapped) >> (32 - PREFIX_4)
    # Behind all of IPv4's.
    return (int(address) >> (128 - PREFIX_6)) + (1 << PREFIX_4)
