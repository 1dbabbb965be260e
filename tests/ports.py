"""Ports for servers that have to be told theirs: programs of others, and routers that come back to the same one.

The kernel's own choice for port 0 may come twice, and may be given to an outgoing connection before the server is up.
These lie below the range of outgoing connections, no process draws one twice, and no two workers of one run share any.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from itertools import chain
from typing import Final

_FIRST: Final = 12_000
_SHARE: Final = 2_500
_SHARES: Final = 8


def _candidates() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    first = _FIRST + worker * _SHARE
    # Runs at the same time on one machine seldom begin at the same port.
    begin = first + os.getpid() * 61 % _SHARE
    return iter(chain(range(begin, first + _SHARE), range(first, begin)))


_left = _candidates()


def _is_free(port: int) -> bool:
    with contextlib.ExitStack() as stack:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            probe = stack.enter_context(socket.socket(socket.AF_INET, kind))
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_port() -> int:
    """A port that nobody has now, for TCP and for UDP: a different one for each call."""
    return next(port for port in _left if _is_free(port))


def free_ports(count: int) -> list[int]:
    """So many ports that nobody has now."""
    return [free_port() for _ in range(count)]
