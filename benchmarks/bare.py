"""A relay that knows no AMQP on van's own driver: what a message costs when the router does nothing with it.

`python benchmarks/bare.py [DESCRIPTOR …]` prints two ports. What comes by connection N of the one goes out by
connection N of the other. With descriptors of sockets the relay is one of two processes: connection N of either port is
joined with the Nth descriptor, and the other process has the rest of the way.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from math import inf
from typing import Self

import trio

from van.router.process import settle
from van.routing.adaptor import Adaptor
from van.transport.driver import run_adaptor

# Connections that have not been joined yet are few.
BACKLOG = 200


class Pass(Adaptor):
    """One end of a pair: what comes in at one goes out at the other."""

    def __init__(self, touched: list[Pass]) -> None:
        super().__init__()
        self.touched = touched
        self.other = self
        self.chunks: list[bytes | memoryview] = []

    @classmethod
    def pair(cls, touched: list[Pass]) -> tuple[Self, Self]:
        """Two ends; whoever has something to write is added to `touched`."""
        here, there = cls(touched), cls(touched)
        here.other, there.other = there, here
        return here, there

    def receive_data(self, data: bytes, now: float) -> None:
        other = self.other
        if not other.chunks:
            self.touched.append(other)
        other.chunks.append(data)

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        chunks = self.chunks
        if chunks:
            self.chunks = []
        return chunks

    def receive_eof(self, now: float) -> None:
        self.closed = self.other.closed = True
        self.touched.append(self.other)

    def next_deadline(self) -> float:
        return inf

    def connection_lost(self, now: float) -> None:
        self.receive_eof(now)


class Pairs:
    """The ends of all pairs, made as connections come: `ends[side][number]`."""

    def __init__(self) -> None:
        self.touched: list[Pass] = []
        self._ends: tuple[list[Pass], list[Pass]] = ([], [])
        self._claimed = [0, 0]

    def claim(self, side: int) -> Pass:
        """The end of the next connection of a side."""
        number = self._claimed[side]
        self._claimed[side] += 1
        while len(self._ends[side]) <= number:
            for ends, end in zip(self._ends, Pass.pair(self.touched), strict=True):
                ends.append(end)
        return self._ends[side][number]

    def wake_touched(self) -> None:
        """Have everybody write who has something to."""
        touched = self.touched
        while touched:
            touched.pop().on_wake()


def listen() -> list[socket.socket]:
    """Two listening sockets; their ports are printed."""
    servers = [socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) for _ in range(2)]
    ports = [server.getsockname()[1] for server in servers]
    print(json.dumps({"port": ports[0], "far_port": ports[1]}), flush=True)
    return servers


async def main(uplinks: Sequence[socket.socket]) -> None:
    """Serve for ever."""
    pairs = Pairs()

    async def drive(stream: trio.SocketStream, side: int) -> None:
        await run_adaptor(stream, pairs.claim(side), pairs.wake_touched)

    async def serve(server: socket.socket, side: int) -> None:
        async def handle(stream: trio.SocketStream) -> None:
            await drive(stream, side)

        await trio.serve_listeners(handle, [trio.SocketListener(trio.socket.from_stdlib_socket(server))])

    async with trio.open_nursery() as nursery:
        for uplink in uplinks:
            nursery.start_soon(drive, trio.SocketStream(trio.socket.from_stdlib_socket(uplink)), 1)
        for side, server in enumerate(listen()):
            # All are joined with the other process, whichever port they came to.
            nursery.start_soon(serve, server, 0 if uplinks else side)
        settle()


if __name__ == "__main__":
    trio.run(main, [socket.socket(fileno=int(descriptor)) for descriptor in sys.argv[1:]])
