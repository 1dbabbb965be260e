"""How long to wait before the next attempt to connect. Arithmetic only: no clock, no randomness of its own.

The upper bound stays at `initial` until the delays have come to `patience`, then it doubles up to `cap`, and each
delay is drawn from the upper half below it: a thousand sites that lost the same hub spread out, and none comes back in
a tight loop. The very first attempt is made at once. After `reset` the series starts again at `initial`, not at zero:
the peer was there a moment ago, and whoever accepts and hangs up again must not be called without a pause. Call `reset`
only when the protocol was opened (the peer took us); a TCP connection that was accepted proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

INITIAL_SECONDS = 0.25
"""A hub that restarts is found again within a fraction of a second; four calls a second hurt nobody."""

CAP_SECONDS = 10.0
"""A hub that comes back after an hour has all its sites within ten seconds; a thousand sites are 130 calls a second."""

FACTOR = 2.0

ROUTER_PATIENCE_SECONDS = 60.0
"""Between routers: a router that is started or restarted, with its machine if need be, is found within a quarter of a
second. Other paths carry its traffic meanwhile, but a network is as good as its last link."""


class Backoff:
    """One series of delays. `jitter` returns numbers in [0, 1), such as `random.random`."""

    __slots__ = ("_bound", "_cap", "_fresh", "_initial", "_jitter", "_patience", "_waited")

    def __init__(
        self,
        jitter: Callable[[], float],
        initial: float = INITIAL_SECONDS,
        cap: float = CAP_SECONDS,
        patience: float = 0.0,
    ) -> None:
        if not 0.0 < initial <= cap:
            raise ValueError(f"initial delay {initial} s and cap {cap} s must satisfy 0 < initial <= cap")
        self._jitter = jitter
        self._initial = initial
        self._cap = cap
        self._patience = patience
        self._waited = 0.0
        self._bound = initial
        self._fresh = True

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt: 0 at first, then from the upper half of the bound."""
        if self._fresh:
            self._fresh = False
            return 0.0
        delay = self._bound * (0.5 + 0.5 * self._jitter())
        self._waited += delay
        if self._waited >= self._patience:
            self._bound = min(self._bound * FACTOR, self._cap)
        return delay

    def reset(self) -> None:
        """The peer took us: the next delay comes from the beginning of the series."""
        self._waited = 0.0
        self._bound = self._initial

    def slow_down(self) -> None:
        """The peer can be reached and is the wrong one: only its operator can change that. The next delays are long."""
        self._waited = self._patience
        self._bound = self._cap
