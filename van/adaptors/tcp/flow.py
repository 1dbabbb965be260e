"""One TCP connection of a service, as both ends have it: a socket, and a stream each way.

What is read from the socket is appended to our own stream; what comes by the peer's stream is written to the socket.
The end of one is the end of the other, in each direction alone. How the streams begin is said in `listening` and
`connecting`.

Nothing is held here but what the router holds for us anyway. Our own stream may be WINDOW octets ahead of what the
other end has written to its socket; beyond that the socket is not read. The peer's stream is read only when the socket
takes octets.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from van.adaptors.service import Service
from van.adaptors.stream_window import ReceiveWindow, SendWindow
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, Accepted, Modified, Received, Rejected, Released
from van.routing.adaptor import LARGE_READ_SIZE, READ_SIZE, Adaptor
from van.routing.dialect.annotations import STREAMING, WINDOWED, Annotations
from van.routing.endpoint import EndpointReceiverLink, EndpointSession, EndpointStream, RestingSessions
from van.routing.router import Router

FAILED: Final = Modified(delivery_failed=True)
# With less room than this in the window the socket is not read: reads, and frames, of a few octets would follow.
LEAST_READ: Final = 16384
# An idle time-out is noticed this much of it late at most: whether anything has moved is looked at so often.
IDLE_CHECKS: Final = 4


def stream_annotations(router: Router, to: str | None = None) -> Annotations:
    """What other routers are told of the streams of TCP. to: where they go, None where their properties say it."""
    return router.prepared(Annotations(STREAMING | WINDOWED, to))


class Flow(Adaptor):
    """One connection.

    `own` is the delivery that is our stream, sent by `link`; `stream` is the peer's. `octets_in` were read from the
    socket, `octets_out` handed over to be written.
    """

    def __init__(self, service: Service, resting: RestingSessions, idle_timeout: float) -> None:
        """resting: where its session may come from, and goes to. idle_timeout: reset it when nothing has moved for so
        long, in seconds; 0 for never.

        Raises `AmqpSessionError` when there is no memory for one more.
        """
        super().__init__()
        self.service = service
        self.router = service.router
        self.resting = resting
        resumed = resting.take(self)
        self.session = resumed if resumed is not None else EndpointSession(service.router, self, service.name)
        # Whether the session may go on to another connection behind this one.
        self.passes_on = True
        self.link: EndpointReceiverLink | None = None
        self.own: Delivery | None = None
        self.stream: EndpointStream | None = None
        self.sent = SendWindow()
        self.written = ReceiveWindow()
        self.octets_in = 0
        self.octets_out = 0
        self.reading = False
        self.ends_at_once = True
        self.light = idle_timeout <= 0
        self.idle_timeout = idle_timeout
        # To be written before anything else of the stream.
        self._early: deque[bytes | memoryview] = deque()
        # The stream goes to the socket; all of it has gone there.
        self._flowing = False
        self._wrote_all = False
        # The socket's peer has ended its side.
        self._eof = False
        self._over = False
        self._lost = False
        # How many octets had moved when that was looked at last, how often it had been as many, and when to look next.
        self._moved = 0
        self._still = 0
        self._look_at = inf
        service.connections += 1
        service.connections_opened += 1

    # -- from the socket -----------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        self.router.now = now
        size = len(data)
        self.octets_in += size
        self.service.octets_in += size
        self.append(data)
        self.pace(size)

    def append(self, data: bytes) -> None:
        """Send octets of the socket on."""
        link = self.link
        if link is not None and link.current is not None:
            link.append(data)
            self.sent.sent += len(data)

    def pace(self, size: int = 0) -> None:
        """Read on, or not, as there is room for it; `size` octets were just read."""
        link = self.link
        if link is None or not self._flowing:
            return
        if link.current is None:
            # Nobody wants it any more: what comes is read and thrown away, and its end noticed.
            self.reading = True
            return
        room = self.sent.room()
        if room > 0:
            room = min(room, self.session.room())
        self.reading = room >= LEAST_READ
        if self.reading:
            wanted = LARGE_READ_SIZE if size >= self.read_size or 2 * size >= READ_SIZE else READ_SIZE
            self.read_size = min(wanted, room)

    def receive_eof(self, now: float) -> None:
        self.router.now = now
        self._eof = True
        if self.closed:
            return
        if self.reason:
            # It is broken, and did not end.
            self.end(self.reason)
            return
        link = self.link
        if link is None or not self._flowing:
            self.end("the connection ended before the other end of it was there")
            return
        link.append(b"", more=False)
        if self._wrote_all:
            self.closed = True

    # -- to the socket -------------------------------------------------------------------------------------------

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        self.look()
        stream = self.stream
        if stream is None or not self._flowing or self._wrote_all or self.closed:
            return []
        early = self._early
        if early:
            chunks = list(early)
            early.clear()
            chunks += stream.read(limit)
        else:
            chunks = stream.read(limit)
        if chunks:
            size = sum(map(len, chunks))
            self.octets_out += size
            self.service.octets_out += size
            if self.written.passed(size):
                stream.received(self.written.passed_on)
            if stream.finished:
                # Once these are out.
                self.router.touch(self)
        elif stream.finished:
            self._wrote_all = True
            stream.settle(ACCEPTED)
            self.write_ended = True
            if self._eof:
                self.closed = True
        elif stream.aborted:
            self.end("the other end of the connection is gone")
        return chunks

    def look(self) -> None:
        session = self.session
        session.look()
        if session.ready:
            self.take_ready()
        if session.told:
            told = session.told
            session.told = []
            for delivery in told:
                if delivery is self.own:
                    self._told(delivery)
        if session.credited:
            session.credited.clear()
            self.credited()
        if session.grown:
            session.grown.clear()
            self.grown()
        if not self.reading:
            self.pace()

    def take_ready(self) -> None:
        """Deliveries wait."""
        self.session.ready.clear()

    def credited(self) -> None:
        """Our own stream's link may send, or may not any more."""

    def grown(self) -> None:
        """There is more of the stream than before."""

    def _told(self, delivery: Delivery) -> None:
        """The other end has spoken of our own stream."""
        state = delivery.state
        if isinstance(state, Received):
            self.sent.take(state)
            return
        session = self.session
        link = self.link
        assert link is not None
        if session.owes(delivery):
            session.settle_sent(delivery, state)
        if link.current is delivery:
            link.append(b"", more=False)
        if not isinstance(state, Accepted):
            self.refused(state)

    def refused(self, state: object) -> None:
        """Our own stream was not taken, or not to its end."""
        self.end(f"the other end says: {words_of(state)}")

    # -- ends ----------------------------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """Reset the connection, and let the other end know that it has failed."""
        if not self.closed:
            self.closed = True
            self.resets = True
            self.reason = self.reason or reason
        self.give_up()

    def give_up(self) -> None:
        """Nothing more goes either way."""
        if self._over:
            return
        self._over = True
        link = self.link
        stream = self.stream
        self.reading = False
        if stream is not None and not self._wrote_all and not stream.aborted:
            # As skrouterd says it: our own stream ends as usual, and this outcome is what tells of the reset.
            stream.settle(FAILED)
            if link is not None:
                link.append(b"", more=False)
        elif link is not None:
            link.abort()

    def close(self, condition: str, description: str) -> None:
        self.end(description or condition)

    def connection_lost(self, now: float) -> None:
        self.router.now = now
        if self._lost:
            return
        self._lost = True
        whole = self._wrote_all and self._eof and not self.resets
        if not whole:
            self.resets = True
        self.give_up()
        self.service.connections -= 1
        if whole and self.passes_on:
            self.resting.put(self.session)
        else:
            self.session.close()

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        return self._look_at

    def gives_up_at(self) -> float:
        # Whether the peer takes anything is seen by what has moved.
        return self._look_at

    def begin_watch(self) -> None:
        """Look from now on whether anything moves."""
        if self.idle_timeout > 0:
            self._look_at = self.router.now + self.idle_timeout / IDLE_CHECKS

    def handle_deadline(self, now: float) -> None:
        self.router.now = now
        if now < self._look_at:
            return
        self._look_at = now + self.idle_timeout / IDLE_CHECKS
        moved = self.octets_in + self.octets_out
        if moved != self._moved:
            self._moved = moved
            self._still = 0
            return
        self._still += 1
        if self._still >= IDLE_CHECKS:
            self._look_at = inf
            self.end(f"nothing has moved for {self.idle_timeout:g} s")


class Ended(Adaptor):
    """A connection that nothing is done with. reason: why, for the log. resets: it is reset, not ended."""

    def __init__(self, reason: str = "", *, resets: bool = False) -> None:
        super().__init__()
        self.reason = reason
        self.resets = resets
        self.closed = self.cut = self.opened = True
        self.reading = False

    def receive_data(self, data: bytes, now: float) -> None:
        """Nobody wants it."""

    def receive_eof(self, now: float) -> None:
        """It has ended already."""

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        return []

    def next_deadline(self) -> float:
        return inf

    def handle_deadline(self, now: float) -> None:
        """There is nothing to wait for."""

    def close(self, condition: str, description: str) -> None:
        """It has ended already."""

    def connection_lost(self, now: float) -> None:
        """Nothing was begun."""


def words_of(state: object) -> str:
    """What an outcome means, in words."""
    if isinstance(state, Rejected):
        error = state.error
        return f"rejected ({error.description or error.condition})" if error is not None else "rejected"
    if isinstance(state, Released):
        return "nobody takes it"
    return "failed" if isinstance(state, Modified) else str(state)
