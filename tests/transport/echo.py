"""An adaptor without a protocol, for the scenes of listeners and connectors: it sends back what it gets.

`!open` opens it and is answered with `opened`, which opens the other side; `!close` closes it, `!crash` raises;
`!quiet` and what `close` says are swallowed, everything else is echoed. `!depart` makes it hand its stream on, which is
then in `carried`. At `give_up` it gives the peer up; a `faulty` one raises when it is asked for octets.
"""

from __future__ import annotations

import math
import os
import socket

from van.routing.adaptor import Adaptor
from van.transport.info import ConnectionInfo


class EchoAdaptor(Adaptor):
    def __init__(self, info: ConnectionInfo, touched: set[EchoAdaptor]) -> None:
        super().__init__()
        self.info = info
        self.lost = 0
        self.give_up = math.inf
        self.faulty = False
        self.carried: socket.socket | None = None
        self._touched = touched
        self._out: list[bytes | memoryview] = []

    def touch(self) -> None:
        """Have something to send with the next batch of whichever connection."""
        self._touched.add(self)

    def say(self, octets: bytes) -> None:
        """Have something to send; `on_wake` sends it at once."""
        self._out.append(octets)

    def receive_data(self, data: bytes, now: float) -> None:
        self._touched.add(self)
        if data == b"!crash":
            raise RuntimeError("planted fault")
        if data == b"!close":
            self.closed = True
        elif data == b"!depart":
            self.departs = self.closed = True
        elif data.startswith(b"!open"):
            self.opened = True
            self._out.append(b"opened")
        elif data == b"opened":
            self.opened = True
        elif not data.startswith((b"!quiet", b"close")):
            self._out.append(data)

    def receive_eof(self, now: float) -> None:
        self._touched.add(self)
        self.closed = True

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        if self.faulty:
            raise RuntimeError("planted fault")
        chunks, self._out = self._out, []
        return chunks

    def next_deadline(self) -> float:
        return math.inf

    def gives_up_at(self) -> float:
        return self.give_up

    def handle_deadline(self, now: float) -> None:
        self.reason = "given up"

    def close(self, condition: str, description: str) -> None:
        self._out.append(f"close {condition}".encode())
        self.closed = True
        self.reason = description

    def depart(self, descriptor: int) -> None:
        self.carried = socket.socket(fileno=os.dup(descriptor))

    def connection_lost(self, now: float) -> None:
        self.lost += 1


class Endpoints:
    """A `make_adaptor` that remembers what it made, and the `wake_touched` that belongs to it."""

    def __init__(self) -> None:
        self.made: list[EchoAdaptor] = []
        self._touched: set[EchoAdaptor] = set()

    def __call__(self, info: ConnectionInfo) -> EchoAdaptor:
        adaptor = EchoAdaptor(info, self._touched)
        self.made.append(adaptor)
        return adaptor

    def wake_touched(self) -> None:
        while self._touched:
            self._touched.pop().on_wake()
