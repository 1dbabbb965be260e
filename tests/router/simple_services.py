"""The least that services can be: a port that greets, and a server that is sent each message of an address."""

from __future__ import annotations

from functools import partial
from math import inf

import attrs
import pytest

from van.adaptors.amqp import Log
from van.adaptors.service import ConnectingService, ListeningService, PeerInfo
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, Rejected
from van.amqp.errors import ErrorCondition
from van.amqp.performatives import Error
from van.router import kinds
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointSenderLink
from van.routing.router import Router


class Says(Adaptor):
    """Writes a text, and ends when the peer does, or when it is asked to."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.waiting = [text]

    def receive_data(self, data: bytes, now: float) -> None:
        if b"raise" in data:
            raise RuntimeError("a fault in the adaptor")
        self.waiting.append(b"you said " + data)
        self.on_wake()

    def receive_eof(self, now: float) -> None:
        self.closed = True

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        chunks: list[bytes | memoryview] = [*self.waiting]
        self.waiting.clear()
        return chunks

    def next_deadline(self) -> float:
        return inf

    def handle_deadline(self, now: float) -> None:
        raise AssertionError("there is no deadline")

    def close(self, condition: str, description: str) -> None:
        self.waiting.append(f"{description}\n".encode())
        self.closed = True

    def connection_lost(self, now: float) -> None:
        """Nobody counts."""


class Greets(ListeningService):
    """Each connection is told the address, and who it is."""

    def __init__(self, router: Router, name: str, address: str, log: Log, *, idle_timeout: float = -1.0) -> None:
        super().__init__(router, name, address, log)
        self.idle_timeout = idle_timeout

    def accept(self, info: PeerInfo) -> Adaptor:
        words = [f"hello from {self.address}"]
        words += [info.alpn] if info.alpn else []
        words += [info.tls_subject] if info.tls_subject else []
        return Says(f"{' '.join(words)}\n".encode())


class Delivers(ConnectingService):
    """Each message goes to the server on a connection of its own, and is accepted when that stands."""

    def __init__(self, router: Router, name: str, address: str, log: Log, *, idle_timeout: float = -1.0) -> None:
        super().__init__(router, name, address, log)
        self.idle_timeout = idle_timeout
        self.link = self.session.attach_outgoing(address, 250)

    def work(self) -> None:
        self.session.look()
        for link in self.session.ready:
            while (delivery := link.take()) is not None:
                self.dial(partial(self._stands, link, delivery), partial(self._failed, link, delivery))
        self.session.ready.clear()

    def _stands(self, link: EndpointSenderLink, delivery: Delivery, info: PeerInfo) -> Adaptor:
        says = Says(delivery.data())
        link.settle(delivery, ACCEPTED)
        return says

    def _failed(self, link: EndpointSenderLink, delivery: Delivery, reason: str) -> None:
        error = Error(condition=ErrorCondition.CONNECTION_FORCED, description=reason)
        link.settle(delivery, Rejected(error=error))


KIND = kinds.Kind(
    module=__name__,
    listening="Greets",
    connecting="Delivers",
    several=True,
    keys={"idle_timeout_seconds": "idle_timeout"},
)


def install(patch: pytest.MonkeyPatch) -> None:
    """Have `tcp` and `tls` be served by these."""
    patch.setitem(kinds.KINDS, "tcp", KIND)
    patch.setitem(kinds.KINDS, "tls", attrs.evolve(KIND, tls=True))
