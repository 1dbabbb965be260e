"""A steady sender and a receiver for routers that are killed: paced, every fact with its time, in a log each.

    python -m tests.chaos.traffic send LOG PORT ADDRESS RATE
    python -m tests.chaos.traffic receive LOG PORT ADDRESS

Message number and attempt stand in the body, so that a message received twice can be told from one that was sent
again. The sender's log: `accepted n a t`, `released n a t`, `modified n a t`, `rejected n a t` for attempt a of message
n at time t (seconds of the system's monotonic clock); what is released or modified is sent again as the next attempt.
The receiver's: `received n a t`. Both: `attached 0 0 t` when the router gave credit or took the link, `lost 0 0 t` when
the connection broke; they connect again at once, and what a sender then has no word of is `doubt n a t`.

SIGTERM ends them: the sender when all it sent has an outcome, or writes `open n a t` for what has none after `PATIENCE`
seconds; the receiver when nothing came for `QUIET` seconds.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections import deque

from tests.chaos.endpoint import Log
from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliveryOrigin, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Source, Target

CREDIT = 250
# What a sender holds back while it has no credit: more is not made, so that a gap is followed by a short burst only.
WAITING = 500
PATIENCE = 20.0
QUIET = 1.0
# How often the sender makes messages, in seconds.
TURN = 0.005
# What was not taken is sent again a little later: an address that nobody has now is not asked for all the time.
RESEND_SECONDS = 0.01
BODY = 90
# A data section of 90 octets.
SECTION = bytes((0x00, 0x53, 0x75, 0xA0, BODY))
# How long a peer may be silent: the sender's and receiver's own router is never that slow.
IDLE_TIMEOUT = 16.0


class Sender(DeliverySource, DeliveryOrigin):
    """Makes messages at a rate, and sends again what came back."""

    __slots__ = ("again", "ending", "holder", "link", "log", "next", "rate", "since", "under_way")

    def __init__(self, log: Log, rate: float) -> None:
        super().__init__()
        self.log = log
        self.rate = rate
        self.next = 0
        # Message, attempt, and when it may be sent again.
        self.again: deque[tuple[int, int, float]] = deque()
        self.under_way: dict[Delivery, tuple[int, int]] = {}
        self.since = time.monotonic()
        self.holder = Holder()
        self.ending = False
        self.link: SenderLink | None = None

    def attach(self, connection: Connection, address: str) -> None:
        session = connection.session()
        session.begin()
        link = self.link = session.sender(f"traffic {os.getpid()}")
        link.source = self
        link.attach(Attach(name="", handle=0, role=False, source=Source(), target=Target(address=address)))
        self.work()

    def work(self) -> None:
        """Make what is due by now."""
        assert self.link is not None
        now = time.monotonic()
        while self.again and self.again[0][2] <= now:
            number, attempt, _ = self.again.popleft()
            self._queue(number, attempt)
        if not self.ending:
            due = int((now - self.since) * self.rate)
            while self.next < due and len(self.undelivered) < WAITING:
                self._queue(self.next, 0)
                self.next += 1
            # What was not made for want of credit is not caught up with.
            self.since += (due - self.next) / self.rate
        self.link.ready()

    def _queue(self, number: int, attempt: int) -> None:
        body = b"%012d %06d" % (number, attempt)
        delivery = Delivery(None, 0, b"", SECTION + body.ljust(BODY, b"."), False, self.holder)
        self.under_way[delivery] = (number, attempt)
        self.undelivered.append(delivery)

    def credit_changed(self, link: SenderLink) -> None:
        if link.link_credit and not link.delivery_count:
            self.log.lines.append(f"attached 0 0 {time.monotonic():.6f}")

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        if not settled:
            if delivery.sender is not None and state is not None:
                delivery.sender.update(delivery, state, True)
                self._told(delivery, state)
            return
        self._told(delivery, state)

    def _told(self, delivery: Delivery, state: object) -> None:
        number, attempt = self.under_way.pop(delivery)
        outcome = type(state).__name__.lower()
        now = time.monotonic()
        self.log.lines.append(f"{outcome} {number} {attempt} {now:.6f}")
        if outcome in {"released", "modified"}:
            self.again.append((number, attempt + 1, now + RESEND_SECONDS))

    def left(self, delivery: Delivery) -> None:
        raise AssertionError("nothing is sent settled")

    def lost(self) -> None:
        now = time.monotonic()
        self.log.lines.append(f"lost 0 0 {now:.6f}")
        waiting = set(self.undelivered)
        for delivery, (number, attempt) in list(self.under_way.items()):
            if delivery in waiting:
                self.again.append((number, attempt, now))
            else:
                self.log.lines.append(f"doubt {number} {attempt} {now:.6f}")
        self.undelivered.clear()
        self.under_way.clear()

    def give_up(self) -> None:
        now = time.monotonic()
        self.log.lines += [f"open {number} {attempt} {now:.6f}" for number, attempt in self.under_way.values()]

    def done(self, asked_at: float) -> bool:
        self.ending = True
        return (not self.under_way and not self.again) or time.monotonic() > asked_at + PATIENCE


class Receiver(DeliverySink):
    """Accepts everything at once."""

    __slots__ = ("last", "link", "log")

    def __init__(self, log: Log) -> None:
        self.log = log
        self.last = time.monotonic()
        self.link: ReceiverLink | None = None

    def attach(self, connection: Connection, address: str) -> None:
        session = connection.session()
        session.begin()
        self.link = link = session.receiver(f"traffic {os.getpid()}")
        link.sink = self
        link.attach(Attach(name="", handle=0, role=True, source=Source(address=address), target=Target()))
        link.grant(CREDIT)

    def deliver(self, delivery: Delivery) -> None:
        payload = bytes(delivery.payload)
        start = payload.index(SECTION) + len(SECTION)
        number, attempt = int(payload[start : start + 12]), int(payload[start + 13 : start + 19])
        self.last = time.monotonic()
        self.log.lines.append(f"received {number} {attempt} {self.last:.6f}")
        link = delivery.receiver
        assert link is not None
        if link.link_credit < CREDIT // 2:
            link.grant(CREDIT - link.link_credit)
        link.settle(delivery, ACCEPTED)

    def work(self) -> None:
        """There is nothing to do but to answer."""

    def lost(self) -> None:
        self.log.lines.append(f"lost 0 0 {time.monotonic():.6f}")

    def give_up(self) -> None:
        """What was received was accepted."""

    def done(self, asked_at: float) -> bool:
        return time.monotonic() > max(self.last, asked_at) + QUIET


class End:
    """Set by SIGTERM."""

    asked_at = 0.0


def exchange(stream: socket.socket, connection: Connection, owner: Sender | Receiver, log: Log) -> bool:
    """Talk until the connection ends. Returns whether the owner is done."""
    out = b""
    stream.setblocking(False)
    attached = False
    while True:
        now = time.monotonic()
        if now >= connection.next_deadline():
            connection.handle_deadline(now)
        owner.work()
        if not out:
            out = b"".join(connection.data_to_send(65536))
        log.flush()
        if End.asked_at and owner.done(End.asked_at):
            return True
        if connection.closed and not out:
            return False
        readable, writable, _ = select.select([stream], [stream] if out else [], [], TURN)
        if readable:
            data = stream.recv(65536)
            if not data:
                return False
            connection.receive_data(data, time.monotonic())
        if not attached and isinstance(owner, Receiver) and owner.link is not None and owner.link.remote is not None:
            attached = True
            log.lines.append(f"attached 0 0 {time.monotonic():.6f}")
        if writable:
            out = out[stream.send(out) :]


def main() -> None:
    role, path, port, address, *rest = sys.argv[1:]
    log = Log(path)
    owner = Sender(log, float(rest[0])) if role == "send" else Receiver(log)
    signal.signal(signal.SIGTERM, lambda *_: setattr(End, "asked_at", time.monotonic()))
    while True:
        try:
            with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as stream:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(
                    f"{role} {os.getpid()}", accepting=False, idle_timeout=IDLE_TIMEOUT, now=time.monotonic()
                )
                connection.open()
                owner.attach(connection, address)
                if exchange(stream, connection, owner, log):
                    break
        except OSError:
            time.sleep(0.01)
        owner.lost()
        log.flush()
        if End.asked_at and owner.done(End.asked_at):
            break
    owner.give_up()
    log.flush()


if __name__ == "__main__":
    main()
