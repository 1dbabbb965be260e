"""An adaptor without a protocol, for the scenes of listeners and connectors: it sends back what it gets.

`!open` opens it, `!close` closes it, `!crash` raises; everything else is echoed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from van.routing.adaptor import Adaptor
from van.transport.info import ConnectionInfo


class EchoAdaptor(Adaptor):
    def __init__(self, info: ConnectionInfo, *, greeting: bytes = b"", opened: bool = False) -> None:
        super().__init__()
        self.info = info
        self.opened = opened
        self.received = b""
        self.lost = 0
        self.eof = False
        self._out = [greeting] if greeting else []

    def receive_data(self, data: bytes, now: float) -> None:
        self.received += data
        if data == b"!crash":
            raise RuntimeError("planted fault")
        if data == b"!close":
            self.closed = True
        elif data.startswith(b"!open"):
            self.opened = True
            self._out.append(b"opened")
        else:
            self._out.append(bytes(data))

    def receive_eof(self, now: float) -> None:
        self.eof = True
        self.closed = True

    def data_to_send(self, limit: int) -> list[bytes]:
        chunks, self._out = self._out, []
        return chunks

    def next_deadline(self) -> float:
        return math.inf

    def handle_deadline(self, now: float) -> None:
        pass

    def close(self, condition: str, description: str) -> None:
        self._out.append(f"close {condition}".encode())
        self.closed = True
        self.reason = description

    def connection_lost(self, now: float) -> None:
        self.lost += 1


class Endpoints:
    """A `make_adaptor` that remembers what it made."""

    def __init__(self, **options: object) -> None:
        self.made: list[EchoAdaptor] = []
        self._options = options

    def __call__(self, info: ConnectionInfo) -> EchoAdaptor:
        adaptor = EchoAdaptor(info, **self._options)  # type: ignore[arg-type]
        self.made.append(adaptor)
        return adaptor


def wake_nobody() -> None:
    """These adaptors touch no other."""


Wake = Callable[[], None]
