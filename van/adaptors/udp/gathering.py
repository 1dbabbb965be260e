"""Messages that come in several frames, put together: a large datagram does, where frames are small."""

from __future__ import annotations

from typing import Final

from van.amqp.delivery import Delivery
from van.amqp.delivery_state import Rejected
from van.routing.endpoint import EndpointSenderLink, EndpointSession, EndpointStream

# What may stand before the datagram in its message, in octets: properties, and what applications write there.
MAX_HEAD: Final = 8192
# So many messages at a time may be on their way without their end having come.
MAX_PARTIAL: Final = 64


class Gathering:
    """The messages of one service whose end has not come yet."""

    __slots__ = ("_limit", "_pieces", "_session")

    def __init__(self, session: EndpointSession, max_datagram: int) -> None:
        self._session = session
        self._limit = max_datagram + MAX_HEAD
        self._pieces: dict[EndpointStream, list[bytes | memoryview]] = {}

    def begin(self, link: EndpointSenderLink, delivery: Delivery) -> bool:
        """Take a delivery of several frames. Returns whether it is gathered; it has been refused otherwise."""
        stream = link.stream(delivery, self._session)
        if len(self._pieces) >= MAX_PARTIAL:
            stream.settle(Rejected())
            return False
        self._pieces[stream] = []
        self._session.grown.append(stream)
        return True

    def more(self) -> tuple[list[tuple[EndpointStream, bytes]], int]:
        """Read what has come: the messages that are whole, which want to be settled, and how many were too large."""
        whole: list[tuple[EndpointStream, bytes]] = []
        refused = 0
        grown = self._session.grown
        self._session.grown = []
        for stream in grown:
            pieces = self._pieces.get(stream)
            if pieces is None:
                continue
            room = self._limit - sum(map(len, pieces))
            if not stream.aborted:
                pieces += stream.read(room + 1)
            if stream.aborted:
                del self._pieces[stream]
            elif sum(map(len, pieces)) > self._limit:
                del self._pieces[stream]
                stream.settle(Rejected())
                refused += 1
            elif stream.finished:
                del self._pieces[stream]
                whole.append((stream, b"".join(pieces)))
        return whole, refused
