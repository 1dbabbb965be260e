"""A program that sends or receives one large message without ever having it whole.

python -m tests.chaos.large send PORT SIZE | receive PORT
"""

from __future__ import annotations

import socket
import sys
import time
from collections import deque

from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED
from van.amqp.performatives import Attach
from van.amqp.terminus import Source, Target

PART = bytes(262144)


class Sender(DeliverySource):
    """Makes the next part when the last has gone."""

    __slots__ = ("delivery", "left_over", "told")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.left_over = size
        self.told: object = None
        self.delivery = Delivery(None, 0, b"", b"", False, Holder())
        self.delivery.chunks = deque()
        self.delivery.more = True

    def work(self) -> None:
        chunks = self.delivery.chunks
        if not chunks and chunks is not None and self.left_over:
            part = PART[: self.left_over]
            self.left_over -= len(part)
            self.delivery.more = self.left_over > 0
            chunks.append(part)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        self.told = state

    def left(self, delivery: Delivery) -> None:
        raise AssertionError("it is not sent settled")


class Receiver(DeliverySink):
    """Counts octets."""

    __slots__ = ("octets", "whole")

    def __init__(self) -> None:
        self.octets = 0
        self.whole = False

    def deliver(self, delivery: Delivery) -> None:
        self.extend(delivery, delivery.data())

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        self.octets += len(payload)
        assert delivery.chunks is not None
        delivery.chunks.clear()
        if not delivery.more:
            assert delivery.receiver is not None
            delivery.receiver.settle(delivery, ACCEPTED)
            self.whole = True

    def abort(self, delivery: Delivery) -> None:
        raise AssertionError("aborted")


def main() -> None:
    role, port, *rest = sys.argv[1:]
    connection = Connection(role, accepting=False)
    connection.open()
    session = connection.session()
    session.begin()
    sender, receiver = Sender(int(rest[0]) if rest else 0), Receiver()
    with socket.create_connection(("127.0.0.1", int(port))) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if role == "send":
            link = session.sender("large")
            link.source = sender
            link.attach(Attach(name="", handle=0, role=False, source=Source(), target=Target(address="large")))
            sender.undelivered.append(sender.delivery)
        else:
            incoming = session.receiver("large")
            incoming.sink = receiver
            incoming.attach(Attach(name="", handle=0, role=True, source=Source(address="large"), target=Target()))
            incoming.grant(1)
        while True:
            while True:
                if role == "send":
                    sender.work()
                    link.ready()
                data = b"".join(connection.data_to_send(262144))
                if not data:
                    break
                stream.sendall(data)
            if sender.told is not None or receiver.whole:
                break
            data = stream.recv(262144)
            assert data, "the router has closed the connection"
            connection.receive_data(data, time.monotonic())
        connection.close()
        stream.sendall(b"".join(connection.data_to_send(65536)))
        while stream.recv(65536):
            pass
    print(sender.told if role == "send" else receiver.octets)


if __name__ == "__main__":
    main()
