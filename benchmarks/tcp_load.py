"""Clients of a TCP service and their server, as processes: `python benchmarks/tcp_load.py VERB PORT COUNT`.

`serve` prints its port (PORT 0: any) and answers by the first octet of a connection: `u` takes octets and says at their
end how many there were, `d` sends as many as are asked for, `e` sends back what comes. The clients' verbs are `up` and
`down` (COUNT octets on one connection), `ping` (COUNT exchanges of 64 octets, one under way) and `connect` (COUNT
connections with one exchange each, eight at a time); they print an object of figures.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from statistics import quantiles

CHUNK = bytes(262144)
SMALL = bytes(64)
# Connections at a time.
SIDE_BY_SIDE = 8


def serve(port: int) -> None:
    """Run the server until it is killed."""
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connected, _ = listening.accept()
            threading.Thread(target=answer, args=(connected,), daemon=True).start()


def answer(connected: socket.socket) -> None:
    """One connection of the server."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(len(CHUNK))
    with connected:
        verb = connected.recv(1)
        if verb == b"u":
            total = 0
            while size := connected.recv_into(buffer):
                total += size
            connected.sendall(struct.pack(">Q", total))
        elif verb == b"d":
            pour(connected, struct.unpack(">Q", connected.recv(8, socket.MSG_WAITALL))[0])
        else:
            while data := connected.recv(65536):
                connected.sendall(data)


def pour(connected: socket.socket, octets: int) -> None:
    """Send so many octets."""
    view = memoryview(CHUNK)
    while octets > 0:
        octets -= connected.send(view[: min(octets, len(view))])


def dial(port: int, verb: bytes) -> socket.socket:
    """Connect and say what for."""
    connected = socket.create_connection(("127.0.0.1", port))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.sendall(verb)
    return connected


def up(port: int, octets: int) -> dict[str, float]:
    """Send on one connection."""
    with dial(port, b"u") as connected:
        begin = time.perf_counter()
        pour(connected, octets)
        connected.shutdown(socket.SHUT_WR)
        (arrived,) = struct.unpack(">Q", connected.recv(8, socket.MSG_WAITALL))
        return {"octets": arrived, "seconds": time.perf_counter() - begin}


def down(port: int, octets: int) -> dict[str, float]:
    """Receive on one connection."""
    buffer = bytearray(len(CHUNK))
    arrived = 0
    with dial(port, b"d" + struct.pack(">Q", octets)) as connected:
        begin = time.perf_counter()
        while size := connected.recv_into(buffer):
            arrived += size
        return {"octets": arrived, "seconds": time.perf_counter() - begin}


def ping(port: int, count: int) -> dict[str, float]:
    """Exchange small pieces, one under way."""
    taken = []
    with dial(port, b"e") as connected:
        for _ in range(count):
            begin = time.perf_counter()
            connected.sendall(SMALL)
            connected.recv(len(SMALL), socket.MSG_WAITALL)
            taken.append((time.perf_counter() - begin) * 1e6)
    cuts = quantiles(taken, n=100)
    return {"p50": cuts[49], "p99": cuts[98]}


def connect(port: int, count: int) -> dict[str, float]:
    """Open connections, use each once, and end them in order."""
    share = max(1, count // SIDE_BY_SIDE)
    good: list[int] = []

    def some() -> None:
        for _ in range(share):
            with dial(port, b"e" + SMALL) as connected:
                connected.recv(len(SMALL), socket.MSG_WAITALL)
                connected.shutdown(socket.SHUT_WR)
                if connected.recv(1) == b"":
                    good.append(1)

    begin = time.perf_counter()
    threads = [threading.Thread(target=some) for _ in range(SIDE_BY_SIDE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"connections": len(good), "seconds": time.perf_counter() - begin}


def main(verb: str, port: int, count: int) -> None:
    """Do one of them."""
    if verb == "serve":
        serve(port)
    else:
        print(json.dumps({"up": up, "down": down, "ping": ping, "connect": connect}[verb](port, count)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
