"""How distributions are written in mobile address updates."""

from __future__ import annotations

from typing import Final

from van.routing.address import Distribution

# Code 0 is the flood of control messages, which no address of an application has.
TREATMENTS: Final[dict[Distribution, int]] = {
    Distribution.MULTICAST: 1,
    Distribution.CLOSEST: 2,
    Distribution.BALANCED: 3,
    Distribution.UNAVAILABLE: 4,
}
DISTRIBUTIONS: Final[dict[int, Distribution]] = {code: distribution for distribution, code in TREATMENTS.items()}
