"""How far a stream may be ahead of its receiver: what adaptors for byte streams agree upon across the network.

Credit counts deliveries, and a stream is one; what bounds its octets is this window, as skrouterd's TCP adaptor has it.
The receiver says how many octets it has passed on, in the section-offset of the state received (3.4.1); the sender
stops when too many of them are still on their way.
"""

from __future__ import annotations

from typing import Final

from van.amqp.delivery_state import Received

# As many octets as a C router's stream buffers hold; it acknowledges at least each so many...
FULL: Final = 518_000
# ...and at most so many may be on their way. A peer that acknowledges seldomer than that would wait for ever.
WINDOW: Final = 2 * FULL


class SendWindow:
    """The sender's side: `sent` octets were sent, `acknowledged` of them have been passed on by the receiver."""

    __slots__ = ("acknowledged", "sent", "size")

    def __init__(self, size: int = WINDOW) -> None:
        self.size = size
        self.sent = 0
        self.acknowledged = 0

    def room(self) -> int:
        """How many octets may be sent now."""
        return max(0, self.size - self.sent + self.acknowledged)

    def restart(self) -> None:
        """Another stream takes the place of one that came to nothing."""
        self.sent = 0
        self.acknowledged = 0

    def take(self, state: object) -> bool:
        """Take a state that the receiver named. Returns whether it made room."""
        if not isinstance(state, Received) or state.section_offset is None:
            return False
        # Nobody can have passed on more than was sent.
        offset = min(int(state.section_offset), self.sent)
        if offset <= self.acknowledged:
            return False
        self.acknowledged = offset
        return True


class ReceiveWindow:
    """The receiver's side: `passed_on` octets, `said` of them."""

    __slots__ = ("passed_on", "said", "step")

    def __init__(self, step: int = FULL) -> None:
        self.step = step
        self.passed_on = 0
        self.said = 0

    def passed(self, octets: int) -> bool:
        """So many octets more have been passed on. Returns whether that is to be said: `passed_on` is the offset."""
        self.passed_on += octets
        if self.passed_on - self.said < self.step:
            return False
        self.said = self.passed_on
        return True
