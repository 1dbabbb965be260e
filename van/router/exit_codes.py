"""What a process says when it ends. The numbers from 64 on are those of BSD's sysexits.h."""

from __future__ import annotations

OK = 0
FAILURE = 1
USAGE = 2
UNAVAILABLE = 69
"""The router cannot be reached."""
TIMED_OUT = 75
NOT_PERMITTED = 77
BAD_CONFIGURATION = 78
