"""Client processes for `router.py`: senders, receivers, an echo and a requester over blocking sockets.

Each prints `ready` when its links are attached and one JSON line at its end. They are made to cost little, so that the
router is what is measured.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import struct
import time
from math import inf

from measure import percentile
from wire import CREDIT, Batches, Counter, Peer, body_start, dial, hang_up, message

# One write of a sender.
WRITE_SIZE = 65536
READ_SIZE = 262144
_STAMP = struct.Struct(">Q")


def say_ready() -> None:
    """Tell the parent that the links are attached."""
    print("ready", flush=True)


def latency_figures(values: list[float]) -> dict[str, float]:
    """Median and 99th percentile in µs, of seconds."""
    return {"p50": percentile(values, 0.5) * 1e6, "p99": percentile(values, 0.99) * 1e6}


def read(connected: socket.socket) -> bytes:
    """Some octets; the router never closes first."""
    data = connected.recv(READ_SIZE)
    if not data:
        raise RuntimeError("the router has closed the connection")
    return data


def send(arguments: argparse.Namespace) -> dict[str, float]:
    """Send as fast as credit and window allow, or at a rate; ends when every message has its outcome."""
    peer = Peer("sender")
    link = peer.sender(arguments.address)
    connected = dial(peer, arguments.port)
    say_ready()
    counter = Counter(link, arguments.size)
    batches = Batches(link, message(arguments.size), settled=arguments.settled)
    if arguments.rate:
        send_slowly(connected, counter, batches, arguments)
    elif batches.later:
        send_large(connected, counter, batches, arguments.count)
    else:
        send_small(connected, counter, batches, arguments.count, arguments.size)
    if not arguments.settled:
        while counter.settled < arguments.count:
            counter.feed(read(connected))
    hang_up(peer, connected)
    return {"sent": arguments.count, "settled": counter.settled}


def send_small(connected: socket.socket, counter: Counter, batches: Batches, count: int, size: int) -> None:
    """Messages of one frame, many at a time."""
    sent = 0
    limit = max(1, WRITE_SIZE // (size + 40))
    while sent < count:
        number = min(*counter.room(sent, sent), count - sent, limit)
        if number > 0:
            connected.sendall(batches.make(sent, number))
            sent += number
        else:
            counter.feed(read(connected))


def send_large(connected: socket.socket, counter: Counter, batches: Batches, count: int) -> None:
    """Messages of several frames: as many frames as the window takes, wherever that is in a message."""
    frames = 0
    later = batches.later
    for sent in range(count):
        while min(counter.room(sent, frames)) <= 0:
            counter.feed(read(connected))
        pending = [batches.make(sent, 1), *later]
        while pending:
            number = min(len(pending), counter.room(sent, frames)[1])
            if number > 0:
                connected.sendall(b"".join(pending[:number]))
                frames += number
                del pending[:number]
            else:
                counter.feed(read(connected))


def send_slowly(connected: socket.socket, counter: Counter, batches: Batches, arguments: argparse.Namespace) -> None:
    """So many messages a second, each with the time in the first octets of its body."""
    pause = 1 / arguments.rate
    due = time.perf_counter()
    for sent in range(arguments.count):
        due += pause
        while (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        frame = bytearray(batches.make(sent, 1))
        _STAMP.pack_into(frame, len(frame) - arguments.size, time.perf_counter_ns())
        connected.sendall(frame)
        while min(counter.room(sent + 1, sent + 1)) <= 0:
            counter.feed(read(connected))


def receive(arguments: argparse.Namespace) -> dict[str, float]:
    """Receive on some connections, accept, and grant credit; ends when `count` messages have come on each."""
    stations: dict[socket.socket, tuple[Peer, Counter]] = {}
    for number in range(arguments.connections):
        peer = Peer(f"receiver {number}")
        link = peer.receiver(arguments.address)
        connected = dial(peer, arguments.port)
        stations[connected] = (peer, Counter(link, arguments.size))
    say_ready()
    latencies: list[float] = []
    stamp = body_start(arguments.size) - len(message(arguments.size))

    def note(data: bytes, pos: int, stop: int) -> None:
        latencies.append((time.perf_counter_ns() - _STAMP.unpack_from(data, stop + stamp)[0]) * 1e-9)

    each = note if arguments.latency else None
    begin = inf
    waiting = len(stations)
    with selectors.DefaultSelector() as selector:
        for connected, (_, counter) in stations.items():
            selector.register(connected, selectors.EVENT_READ, (connected, counter))
        while waiting:
            for key, _ in selector.select() if len(stations) > 1 else [(next(iter(selector.get_map().values())), 1)]:
                connected, counter = key.data
                ended = counter.feed(read(connected), each)
                if begin == inf and counter.frames:
                    begin = time.perf_counter()
                answer = counter.renew() if arguments.settled else counter.accept()
                if answer:
                    connected.sendall(answer)
                if ended and counter.transfers >= arguments.count:
                    waiting -= 1
                    selector.unregister(connected)
    seconds = time.perf_counter() - begin
    for connected, (peer, _) in stations.items():
        hang_up(peer, connected)
    figures = {"seconds": seconds, "received": float(sum(counter.transfers for _, counter in stations.values()))}
    return figures | latency_figures(latencies) if latencies else figures


class Conversation:
    """A connection that receives from one address and sends to another, message by message."""

    def __init__(self, name: str, port: int, source: str, target: str, size: int) -> None:
        self.peer = Peer(name)
        # Nothing may come before the counter is there to take it.
        incoming = self.peer.receiver(source, credit=0)
        outgoing = self.peer.sender(target)
        self.connected = dial(self.peer, port)
        incoming.grant(CREDIT)
        self.connected.sendall(self.peer.take())
        self.counter = Counter(incoming, size)
        # Credit and window are those of the outgoing link from here on.
        self.counter.credit = outgoing.link_credit
        self.batches = Batches(outgoing, message(size))
        self.sent = 0

    def say(self) -> None:
        """Send a message, and the outcomes of what has come meanwhile."""
        while min(self.counter.room(self.sent, self.sent)) <= 0:
            self.counter.feed(read(self.connected))
        answer = self.counter.accept()
        self.connected.sendall(answer + self.batches.make(self.sent, 1))
        self.sent += 1

    def hear(self) -> int:
        """Wait for messages; returns how many came."""
        while not (ended := self.counter.feed(read(self.connected))):
            pass
        return ended

    def end(self) -> None:
        """Settle what is left, and close."""
        if answer := self.counter.accept():
            self.connected.sendall(answer)
        while self.counter.settled < self.sent:
            self.counter.feed(read(self.connected))
        hang_up(self.peer, self.connected)


def echo(arguments: argparse.Namespace) -> dict[str, float]:
    """Answer every message that comes to the address with one to ADDRESS.reply."""
    talk = Conversation("echo", arguments.port, arguments.address, f"{arguments.address}.reply", arguments.size)
    say_ready()
    for _ in range(arguments.count):
        talk.hear()
        talk.say()
    talk.end()
    return {"sent": talk.sent}


def request(arguments: argparse.Namespace) -> dict[str, float]:
    """Send a message, wait for the answer, and so on."""
    talk = Conversation("requester", arguments.port, f"{arguments.address}.reply", arguments.address, arguments.size)
    say_ready()
    seconds: list[float] = []
    for _ in range(arguments.count):
        begin = time.perf_counter()
        talk.say()
        talk.hear()
        seconds.append(time.perf_counter() - begin)
    talk.end()
    return latency_figures(seconds)


def main() -> None:
    """Play one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("send", "receive", "echo", "request"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", default="work")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--settled", action="store_true")
    parser.add_argument("--latency", action="store_true")
    arguments = parser.parse_args()
    roles = {"send": send, "receive": receive, "echo": echo, "request": request}
    print(json.dumps(roles[arguments.role](arguments)), flush=True)


if __name__ == "__main__":
    main()
