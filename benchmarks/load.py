"""Client processes of the benchmarks: senders, receivers, an echo, a requester, and idle connections.

`load.py ROLE --port N …`. Each prints `ready` when its links are attached and one JSON line at its end. They behave as
clients of a good library do (credit, one Disposition for what a read brought, messages with properties) and are made to
cost little, so that the router is what is measured: messages are made many at a time and counted without being decoded.
"""

from __future__ import annotations

import argparse
import json
import selectors
import struct
import sys
import time
from collections.abc import Sequence

from core import Station, make_router
from core import shake_hands as meet
from measure import allow_descriptors, percentile
from streams import TRANSPORTS, Stream, connect
from wire import CREDIT, WINDOW, Batches, Counter, Peer, hang_up, message, shake_hands

from van.amqp.link import Link
from van.amqp.sender_link import SenderLink
from van.routing.router import DEFAULT_LINK_CAPACITY

# One write of a sender.
WRITE_SIZE = 65536
READ_SIZE = 262144
# A sender at a rate looks at the clock this often at most, in seconds, and sends what is due: as applications do.
TICK_SECONDS = 0.001
# A router takes silent peers for dead after 16 s.
HEARTBEAT_SECONDS = 4.0
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"
_STAMP = struct.Struct(">Q")


def say_ready() -> None:
    """Tell the parent that the links are attached."""
    print("ready", flush=True)


def latency_figures(values: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile in µs, of seconds."""
    return {"p50": percentile(values, 0.5) * 1e6, "p99": percentile(values, 0.99) * 1e6}


def read(connected: Stream) -> bytes:
    """Some octets; the router never closes first."""
    data = connected.recv(READ_SIZE)
    if not data:
        raise RuntimeError("the router has closed the connection")
    return data


def address_of(arguments: argparse.Namespace, number: int) -> str:
    """The address of one connection: `--apart` gives each its own."""
    return f"{arguments.address}.{number}" if arguments.apart else arguments.address


def dial(peer: Peer, arguments: argparse.Namespace) -> Stream:
    """Connect as the arguments say; returns when every link may be used."""
    connected = connect(arguments.port, arguments.transport)
    if not arguments.bare:
        shake_hands(peer, connected)
    return connected


def attach(arguments: argparse.Namespace, number: int, *, sends: bool) -> tuple[Peer, Link, Stream]:
    """A connection with its link. With `--bare` it is just connected, and the link has been attached in this process.

    There a relay that knows no AMQP joins the two ends: what they say is what they would say through a router.
    """
    address = address_of(arguments, number)
    if arguments.bare:
        router = make_router(1)
        stations = [Station(router, "receiver"), Station(router, "sender")]
        stations[0].peer.receiver(address)
        stations[1].peer.sender(address)
        meet(router, stations)
        peer = stations[sends].peer
        return peer, peer.links[0], dial(peer, arguments)
    peer = Peer(f"{'sender' if sends else 'receiver'} {number}")
    connected: Stream | None = None
    if arguments.first:
        # Nothing comes by this link: a router that places connections by their first link's address does it by this.
        peer.receiver(arguments.first)
        connected = dial(peer, arguments)
    link: Link = peer.sender(address) if sends else peer.receiver(address)
    if connected is None:
        connected = dial(peer, arguments)
    else:
        shake_hands(peer, connected)
    return peer, link, connected


def end(peer: Peer, connected: Stream, arguments: argparse.Namespace) -> None:
    """Close, in order where there is somebody who understands."""
    if arguments.bare:
        connected.close()
    else:
        hang_up(peer, connected)


class Sender:
    """One connection that sends, as much as credit and window allow at a time."""

    def __init__(self, number: int, count: int, arguments: argparse.Namespace) -> None:
        self.peer, link, self.connected = attach(arguments, number, sends=True)
        assert isinstance(link, SenderLink)
        self.counter = Counter(link, arguments.size)
        if arguments.bare:
            self.counter.window = WINDOW
        to = address_of(arguments, number)
        self.batches = Batches(link, message(arguments.size, to=to), settled=arguments.settled)
        self.size = arguments.size
        self.count = count
        self.sent = 0
        self.frames = 0
        self.pending: list[bytes] = []
        self.limit = max(1, WRITE_SIZE // (arguments.size + 80))

    @property
    def done(self) -> bool:
        """Whether everything is sent and has its outcome."""
        if self.sent < self.count or self.pending:
            return False
        return self.batches.settled or self.counter.settled >= self.count

    def hear(self) -> None:
        """Take what the router says."""
        self.counter.feed(read(self.connected))

    def push(self, due: int) -> None:
        """Send up to message `due`, as far as that is allowed now."""
        push = self._push_large if self.batches.later else self._push_small
        while (self.sent < due or self.pending) and push(due):
            pass

    def _push_small(self, due: int) -> bool:
        """Messages of one frame, many in one write."""
        number = min(*self.counter.room(self.sent, self.sent), due - self.sent, self.limit)
        if number <= 0:
            return False
        self.connected.sendall(self.batches.make(self.sent, number))
        self.sent += number
        return True

    def _push_large(self, due: int) -> bool:
        """Messages of several frames: as many frames as the window takes, wherever that is in a message."""
        credit, window = self.counter.room(self.sent, self.frames)
        if not self.pending and self.sent < due and credit > 0:
            self.pending = [self.batches.make(self.sent, 1), *self.batches.later]
            self.sent += 1
        number = min(len(self.pending), window, self.limit_frames)
        if number <= 0:
            return False
        self.connected.sendall(b"".join(self.pending[:number]))
        self.frames += number
        del self.pending[:number]
        return True

    @property
    def limit_frames(self) -> int:
        """How many frames go into one write."""
        return max(1, WRITE_SIZE // len(self.batches.later[0]))

    def stamp(self, due: int) -> None:
        """Send what is due, each message with the time in the first octets of its body."""
        number = min(*self.counter.room(self.sent, self.sent), due - self.sent)
        if number <= 0:
            return
        frames = bytearray(self.batches.make(self.sent, number))
        length = len(frames) // number
        now = time.perf_counter_ns()
        for end in range(length, len(frames) + 1, length):
            _STAMP.pack_into(frames, end - self.size, now)
        self.connected.sendall(bytes(frames))
        self.sent += number


def send(arguments: argparse.Namespace) -> dict[str, float]:
    """Send as fast as credit and window allow, or at a rate; ends when every message has its outcome."""
    share, rest = divmod(arguments.count, arguments.connections)
    senders = [Sender(number, share + (number < rest), arguments) for number in range(arguments.connections)]
    say_ready()
    if arguments.rate:
        send_at_rate(senders[0], arguments.rate)
    with selectors.DefaultSelector() as selector:
        for sender in senders:
            selector.register(sender.connected, selectors.EVENT_READ, sender)
            sender.push(sender.count)
            if sender.done:
                selector.unregister(sender.connected)
        while selector.get_map():
            for key, _ in selector.select():
                sender = key.data
                sender.hear()
                sender.push(sender.count)
                if sender.done:
                    selector.unregister(sender.connected)
    for sender in senders:
        end(sender.peer, sender.connected, arguments)
    return {
        "sent": sum(sender.sent for sender in senders),
        "settled": sum(sender.counter.settled for sender in senders),
    }


def send_at_rate(sender: Sender, rate: float) -> None:
    """So many messages a second."""
    tick = max(TICK_SECONDS, 1 / rate)
    begin = time.perf_counter()
    turn = 0
    with selectors.DefaultSelector() as selector:
        selector.register(sender.connected, selectors.EVENT_READ)
        while sender.sent < sender.count:
            now = time.perf_counter()
            sender.stamp(min(sender.count, int((now - begin) * rate) + 1))
            turn = int((now - begin) / tick) + 1
            while (wait := begin + turn * tick - time.perf_counter()) > 0:
                if selector.select(wait):
                    sender.hear()


class Receiver:
    """One connection that receives, accepts, and grants credit."""

    def __init__(self, number: int, arguments: argparse.Namespace) -> None:
        self.peer, link, self.connected = attach(arguments, number, sends=False)
        self.counter = Counter(link, arguments.size)
        if arguments.bare:
            # As much is under way as a router of default settings lets be.
            self.counter.granted = self.counter.capacity = DEFAULT_LINK_CAPACITY
        self.settled: bool = arguments.settled
        self.latencies: list[float] = []
        self.each = self.note if arguments.latency else None
        self.size: int = arguments.size

    def note(self, data: bytes, pos: int, stop: int) -> None:
        """Keep how long a message was under way."""
        self.latencies.append((time.perf_counter_ns() - _STAMP.unpack_from(data, stop - self.size)[0]) * 1e-9)

    def hear(self) -> int:
        """Take what has come and answer it; returns how many messages ended."""
        ended = self.counter.feed(read(self.connected), self.each)
        answer = self.counter.renew() if self.settled else self.counter.accept()
        if answer:
            self.connected.sendall(answer)
        return ended


def receive(arguments: argparse.Namespace) -> dict[str, float]:
    """Receive until `count` messages have come on all connections together, or none for `--idle` seconds."""
    receivers = [Receiver(number, arguments) for number in range(arguments.connections)]
    say_ready()
    received = 0
    begin = last = 0.0
    with selectors.DefaultSelector() as selector:
        for receiver in receivers:
            selector.register(receiver.connected, selectors.EVENT_READ, receiver)
        while received < arguments.count:
            ready = selector.select(arguments.idle if received and arguments.idle else None)
            if not ready:
                break
            if not begin:
                begin = time.perf_counter()
            for key, _ in ready:
                received += key.data.hear()
            last = time.perf_counter()
    for receiver in receivers:
        end(receiver.peer, receiver.connected, arguments)
    figures = {"seconds": last - begin, "received": float(received)}
    latencies = [seconds for receiver in receivers for seconds in receiver.latencies]
    return figures | latency_figures(latencies) if latencies else figures


class Conversation:
    """A connection that receives from one address and sends to another, message by message."""

    def __init__(self, name: str, source: str, target: str, arguments: argparse.Namespace) -> None:
        if arguments.bare:
            router = make_router(1)
            stations = [Station(router, "here"), Station(router, "there")]
            self.peer = stations[0].peer
        else:
            self.peer = Peer(name)
        self.arguments = arguments
        # Nothing may come before the counter is there to take it.
        incoming = self.peer.receiver(source, credit=0)
        outgoing = self.peer.sender(target)
        if arguments.bare:
            stations[1].peer.sender(source)
            stations[1].peer.receiver(target, credit=0)
            meet(router, stations)
        self.connected = dial(self.peer, arguments)
        incoming.grant(CREDIT)
        self.connected.sendall(self.peer.take())
        self.counter = Counter(incoming, arguments.size)
        # Credit and window are those of the outgoing link from here on.
        self.counter.credit = outgoing.link_credit
        if arguments.bare:
            self.counter.window = WINDOW
        self.batches = Batches(outgoing, message(arguments.size, to=target))
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
        end(self.peer, self.connected, self.arguments)


def echo(arguments: argparse.Namespace) -> dict[str, float]:
    """Answer every message that comes to the address with one to ADDRESS.reply."""
    say_ready()
    talk = Conversation("echo", arguments.address, f"{arguments.address}.reply", arguments)
    for _ in range(arguments.count):
        talk.hear()
        talk.say()
    talk.end()
    return {"sent": talk.sent}


def request(arguments: argparse.Namespace) -> dict[str, float]:
    """Send a message, wait for the answer, and so on."""
    say_ready()
    talk = Conversation("requester", f"{arguments.address}.reply", arguments.address, arguments)
    seconds: list[float] = []
    for _ in range(arguments.count):
        begin = time.perf_counter()
        talk.say()
        talk.hear()
        seconds.append(time.perf_counter() - begin)
    talk.end()
    return latency_figures(seconds)


def idle(arguments: argparse.Namespace) -> dict[str, float]:
    """Open connections with receivers, `--parallel` at a time; holds them until stdin ends."""
    allow_descriptors(arguments.connections)
    opened: list[Stream] = []
    numbers = iter(range(arguments.connections))
    begin = time.perf_counter()
    with selectors.DefaultSelector() as selector:

        def start() -> None:
            number = next(numbers, None)
            if number is None:
                return
            peer = Peer(f"idle {number}")
            for link in range(arguments.links):
                peer.receiver(address_of(arguments, number * arguments.links + link))
            connected = connect(arguments.port, arguments.transport)
            connected.sendall(peer.take())
            selector.register(connected, selectors.EVENT_READ, peer)

        for _ in range(arguments.parallel):
            start()
        beat = begin
        while selector.get_map():
            for key, _ in selector.select():
                # The file object that was registered is the stream itself.
                connected: Stream = key.fileobj  # type: ignore[assignment]
                if answer := key.data.receive(read(connected)):
                    connected.sendall(answer)
                if key.data.attached:
                    selector.unregister(connected)
                    opened.append(connected)
                    start()
            beat = keep_alive(opened, beat)
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "connections": arguments.connections}), flush=True)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while not selector.select(1.0):
            beat = keep_alive(opened, beat)
    for connected in opened:
        connected.close()
    return {}


def keep_alive(opened: list[Stream], beat: float) -> float:
    """Send an empty frame on each connection when it is time; returns when that was last done."""
    now = time.perf_counter()
    if now - beat < HEARTBEAT_SECONDS:
        return beat
    for connected in opened:
        connected.sendall(EMPTY_FRAME)
    return now


def main() -> None:
    """Play one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("send", "receive", "echo", "request", "idle"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--transport", choices=TRANSPORTS, default="tcp")
    parser.add_argument("--bare", action="store_true", help="no AMQP before messages: for a relay that knows none")
    parser.add_argument("--first", default="", metavar="ADDRESS", help="each connection's first link receives from it")
    parser.add_argument("--address", default="work")
    parser.add_argument("--count", type=int, default=1000, help="messages of all connections together")
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--links", type=int, default=1, help="of each idle connection")
    parser.add_argument("--parallel", type=int, default=50)
    parser.add_argument("--apart", action="store_true", help="an address for each connection")
    parser.add_argument("--settled", action="store_true")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--idle", type=float, default=0.0, help="seconds of silence that end a receiver")
    arguments = parser.parse_args()
    roles = {"send": send, "receive": receive, "echo": echo, "request": request, "idle": idle}
    print(json.dumps(roles[arguments.role](arguments)), flush=True)


if __name__ == "__main__":
    main()
