"""A program that sends or receives, may be killed at any moment, and keeps a log that survives it.

    python -m tests.chaos.endpoint send LOG PORT ADDRESS FIRST LAST
    python -m tests.chaos.endpoint receive LOG PORT ADDRESS

The log has a line for every fact, written before the router can hear of it. A sender's: `S n` (n and all before it
have been written to the socket), `accepted n`, `rejected n`, `released n`, `modified n`, and `D n` for what is in doubt
because it cut its own connection. A receiver's: `R n`, and its outcome. SIGUSR1 cuts the connection; the program
returns. A sender ends when all its messages have an outcome or are in doubt.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections import deque

from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliveryOrigin, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.performatives import Attach
from van.amqp.terminus import Source, Target

WAITING = 200
CREDIT = 100
PADDING = b"." * 88
NO_WAIT = struct.pack("ii", 1, 0)


class Log:
    """Lines that are handed to the system in one write."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.lines: list[str] = []

    def flush(self) -> None:
        if self.lines:
            self.lines.append("")
            os.write(self._file, "\n".join(self.lines).encode())
            self.lines = []


class Sender(DeliverySource, DeliveryOrigin):
    __slots__ = ("highest", "holder", "last", "log", "next", "open")

    def __init__(self, log: Log, first: int, last: int) -> None:
        super().__init__()
        self.log = log
        self.next = first
        self.last = last
        self.highest = first - 1
        self.open: dict[Delivery, int] = {}
        self.holder = Holder()

    def attach(self, connection: Connection, address: str) -> None:
        session = connection.session()
        session.begin()
        link = session.sender(f"sender {os.getpid()}")
        link.source = self
        link.attach(Attach(name="", handle=0, role=False, source=Source(), target=Target(address=address)))
        self._fill()
        link.ready()

    def _fill(self) -> None:
        while self.next <= self.last and len(self.undelivered) < WAITING:
            delivery = Delivery(None, 0, b"", b"%012d" % self.next + PADDING, False, self.holder)
            self.open[delivery] = self.next
            self.next += 1
            self.undelivered.append(delivery)

    def about_to_write(self) -> None:
        """What was just taken from the queue will reach the socket now."""
        waiting = self.open[self.undelivered[0]] if self.undelivered else self.next
        if waiting - 1 > self.highest:
            self.highest = waiting - 1
            self.log.lines.append(f"S {self.highest}")
        self._fill()

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        if settled:
            number = self.open.pop(delivery)
            self.log.lines.append(f"{type(state).__name__.lower()} {number}")

    def left(self, delivery: Delivery) -> None:
        raise AssertionError("nothing is sent settled")

    def lost(self) -> None:
        """The connection was cut: what has left and has no outcome is in doubt."""
        waiting = set(self.undelivered)
        for delivery in [delivery for delivery in self.open if delivery not in waiting]:
            self.log.lines.append(f"D {self.open.pop(delivery)}")

    @property
    def done(self) -> bool:
        return self.next > self.last and not self.open


class Receiver(DeliverySink):
    __slots__ = ("later", "log", "random")

    def __init__(self, log: Log) -> None:
        self.log = log
        self.random = random.Random(os.getpid())
        self.later: deque[Delivery] = deque()

    def attach(self, connection: Connection, address: str) -> None:
        self.later.clear()
        session = connection.session()
        session.begin()
        link = session.receiver(f"receiver {os.getpid()}")
        link.sink = self
        link.attach(Attach(name="", handle=0, role=True, source=Source(address=address), target=Target()))
        link.grant(CREDIT)

    def deliver(self, delivery: Delivery) -> None:
        number = int(delivery.payload[:12])
        self.log.lines.append(f"R {number}")
        assert delivery.receiver is not None
        if delivery.receiver.link_credit < CREDIT // 2:
            delivery.receiver.grant(CREDIT - delivery.receiver.link_credit)
        if self.random.random() < 0.1:
            self.later.append(delivery)
        else:
            self.decide(delivery)
        if len(self.later) > 50:
            self.decide(self.later.popleft())

    def decide(self, delivery: Delivery) -> None:
        dice = self.random.random()
        state: object = ACCEPTED
        if dice > 0.9:
            state = Rejected() if dice > 0.96 else RELEASED if dice > 0.93 else Modified(undeliverable_here=True)
        assert delivery.receiver is not None
        self.log.lines.append(f"{type(state).__name__.lower()} {int(delivery.payload[:12])}")
        delivery.receiver.settle(delivery, state)

    def about_to_write(self) -> None:
        """Every fact is in the log by now."""

    def idle(self) -> None:
        while self.later:
            self.decide(self.later.popleft())

    def lost(self) -> None:
        self.later.clear()


class Cut:
    """Set by SIGUSR1."""

    wanted = False


def exchange(stream: socket.socket, connection: Connection, owner: Sender | Receiver, log: Log) -> bool:
    """Talk until the connection ends. Returns whether the owner is done."""
    out = b""
    stream.setblocking(False)
    while True:
        if not out:
            out = b"".join(connection.data_to_send(65536))
            owner.about_to_write()
        log.flush()
        if isinstance(owner, Sender) and owner.done:
            return True
        readable, writable, _ = select.select([stream], [stream] if out else [], [], 0.05)
        if Cut.wanted:
            Cut.wanted = False
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_WAIT)
            return False
        if readable:
            data = stream.recv(65536)
            if not data:
                return False
            connection.receive_data(data, time.monotonic())
            if connection.closed:
                return False
        elif not writable and isinstance(owner, Receiver):
            owner.idle()
        if writable:
            out = out[stream.send(out) :]


def main() -> None:
    role, path, port, address, *numbers = sys.argv[1:]
    log = Log(path)
    owner = Sender(log, int(numbers[0]), int(numbers[1])) if role == "send" else Receiver(log)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(Cut, "wanted", True))
    done = isinstance(owner, Sender) and owner.done
    while not done:
        try:
            with socket.create_connection(("127.0.0.1", int(port))) as stream:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(f"{role} {os.getpid()}", accepting=False)
                connection.open()
                owner.attach(connection, address)
                done = exchange(stream, connection, owner, log)
        except OSError:
            time.sleep(0.01)
        if not done:
            owner.lost()
            log.flush()
    # An interpreter that ends puts the default back, which would kill it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


if __name__ == "__main__":
    main()
