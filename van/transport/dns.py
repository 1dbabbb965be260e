"""The sockets of a DNS server: UDP and TCP at the same port (RFC 7766). What is answered is others' business.

    run
    ├── UDP      read by the poller; what can be answered at once is, in the same turn
    │   └── one per question that needs time
    └── TCP      accept
        └── one per connection: questions one after another

A fault of ours costs the answer to one question.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from van.adaptors.dns.rate import ANSWER, DROP, TRUNCATE, ResponseRate
from van.adaptors.dns.responder import MAX_QUESTION, DnsResponder, Question
from van.transport.errors import TransportError
from van.transport.limits import Repeated
from van.transport.listener import REPEAT_SECONDS
from van.transport.poller import elsewhere, rung_by
from van.transport.tcp import address_text, bind_tcp
from van.transport.udp import DatagramSocket, bind_udp

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# Questions over UDP that are answered in one turn: each takes a tenth of a millisecond or two.
MAX_BATCH: Final = 16
# Questions that wait for something, of all clients; beyond that they are told to come later.
MAX_PENDING: Final = 64
# TCP connections at a time, and how long one may say nothing, in seconds: a resolver that falls back to TCP asks once.
MAX_CONNECTIONS: Final = 64
IDLE_SECONDS: Final = 10.0
# One line in so many seconds about questions that are refused, and one about those that are too many: who sends them
# must not fill the log.
COMPLAINT_SECONDS: Final = 60.0
# Port 0: so many are tried until one is free for both.
SAME_PORT_ATTEMPTS: Final = 16

_REFUSED: Final = "question refused"
_TOO_MANY: Final = "questions limited"

Look = Callable[[Question], bytes | None]
"""The response to a question as far as that is known; None where it takes time."""

Search = Callable[[Question], Awaitable[bytes]]
"""The response to a question, whatever it takes."""


class DnsServer:
    """One port for questions. `await bind()`, then `await run()`."""

    def __init__(
        self,
        responder: DnsResponder,
        host: str,
        port: int,
        look: Look,
        search: Search,
        logger: FilteringBoundLogger,
    ) -> None:
        self.responder = responder
        self.host = host
        self.port = port
        self.rate = ResponseRate()
        self.addresses: list[str] = []
        self.failed = 0
        self.connections = 0
        # Questions that wait for something.
        self.pending = 0
        self._look = look
        self._search = search
        self._logger = logger
        self._faults = Repeated(REPEAT_SECONDS)
        self._complaints = {event: Repeated(COMPLAINT_SECONDS) for event in (_REFUSED, _TOO_MANY)}
        self._datagrams: list[DatagramSocket] = []
        self._listeners: list[trio.SocketListener] = []
        self._nursery: trio.Nursery | None = None
        self._over = trio.CancelScope()

    async def bind(self) -> None:
        """Take the port for both. Raises TransportError."""
        for attempt in range(SAME_PORT_ATTEMPTS):
            sockets = await bind_udp(self.host, self.port)
            port = int(sockets[0].getsockname()[1])
            try:
                self._listeners = await bind_tcp(self.host, port)
            except TransportError:
                for sock in sockets:
                    sock.close()
                if self.port or attempt == SAME_PORT_ATTEMPTS - 1:
                    raise
                continue
            break
        self.port = port
        for sock in sockets:
            take = self._take_by(len(self._datagrams))
            reader = DatagramSocket(sock, take, _nobody_counts, _nothing, self._fault, batch=MAX_BATCH)
            self._datagrams.append(reader)
        self.addresses = [address_text(sock.getsockname()) for sock in sockets]

    def stop(self) -> None:
        """Answer nothing more, and give the port back."""
        self._over.cancel()
        self._close()

    def _close(self) -> None:
        self.addresses = []
        for reader in self._datagrams:
            reader.close()
        for listening in self._listeners:
            listening.socket.close()
        self._datagrams.clear()
        self._listeners.clear()

    async def run(self) -> None:
        """Answer until `stop`."""
        try:
            with self._over:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    for reader in self._datagrams:
                        reader.begin(nursery)
                    with rung_by(*(listening.socket.fileno() for listening in self._listeners)):
                        for listening in self._listeners:
                            nursery.start_soon(self._accept, listening, nursery)
                        await trio.sleep_forever()
        finally:
            self._close()

    def _fault(self, fault: Exception) -> None:
        """A fault of ours costs the answer to one question."""
        self.failed += 1
        suppressed = self._faults.due(trio.current_time())
        if suppressed is not None:
            self._logger.error("question failed, a fault of ours", exc_info=fault, suppressed=suppressed)

    def _read(self, wire: bytes, peer: Any, now: float, *, udp: bool) -> Question | bytes | None:
        """What comes of octets; with a line in the log where they are no question that is answered."""
        counts = self.responder.counts
        garbage, refused = counts.get("garbage", 0), counts.get("refused", 0)
        found = self.responder.read(wire, udp=udp)
        if counts.get("garbage", 0) != garbage:
            self._complain(_REFUSED, "not a question", peer, now)
        elif counts.get("refused", 0) != refused:
            self._complain(_REFUSED, "not of this zone, or of a kind that is not answered", peer, now)
        return found

    def _complain(self, event: str, reason: str, peer: Any, now: float) -> None:
        suppressed = self._complaints[event].due(now)
        if suppressed is not None:
            self._logger.info(event, reason=reason, peer=address_text(peer), suppressed=suppressed)

    # -- UDP -----------------------------------------------------------------------------------------------------

    def _take_by(self, number: int) -> Callable[[bytes, Any, float], None]:
        def take(data: bytes, peer: Any, now: float) -> None:
            reader = self._datagrams[number]
            place = reader.place_of(peer)
            verdict = self.rate.judge(place[0], now)
            if verdict != ANSWER:
                self._complain(_TOO_MANY, "more than one network may ask over UDP", place, now)
            if verdict == DROP or not place[1]:
                # From port 0 nobody asks.
                return
            found = self._read(data, place, now, udp=True)
            if verdict == TRUNCATE:
                found = self.responder.truncated(found) if isinstance(found, Question) else None
            if isinstance(found, Question):
                question = found
                found = self._look(question)
                if found is None:
                    if self.pending < MAX_PENDING and self._nursery is not None:
                        self.pending += 1
                        self._nursery.start_soon(self._answer_later, question, reader, peer)
                        return
                    found = self.responder.later(question)
            if found is not None:
                _send(reader, found, peer)

        return take

    async def _answer_later(self, question: Question, reader: DatagramSocket, peer: Any) -> None:
        _send(reader, await self._find(question), peer)

    async def _find(self, question: Question) -> bytes:
        """The response to a question that takes time, and was counted as `pending`."""
        try:
            return await self._search(question)
        except Exception as fault:  # noqa: BLE001 - logged; the question is answered as one that came too early
            self._fault(fault)
            return self.responder.later(question)
        finally:
            self.pending -= 1

    # -- TCP -----------------------------------------------------------------------------------------------------

    async def _accept(self, listening: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            try:
                stream = await listening.accept()
            except trio.ClosedResourceError:
                return
            except OSError:
                await trio.sleep(1.0)
                continue
            if self.connections >= MAX_CONNECTIONS:
                stream.socket.close()
                continue
            self.connections += 1
            nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            with elsewhere(), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async with stream:
                    await self._converse(stream)
        except Exception as fault:  # noqa: BLE001 - what goes wrong in one connection ends that connection
            self._fault(fault)
        finally:
            self.connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        """Answer questions one after another, until the client ends or says nothing for a while."""
        try:
            peer = stream.socket.getpeername()
        except OSError:
            # It is gone already.
            return
        waiting = b""
        while True:
            with trio.move_on_after(IDLE_SECONDS) as patience:
                while len(waiting) < 2 or len(waiting) < 2 + int.from_bytes(waiting[:2], "big"):
                    if len(waiting) >= 2 and int.from_bytes(waiting[:2], "big") > MAX_QUESTION:
                        return
                    data = await stream.receive_some(2 + MAX_QUESTION)
                    if not data:
                        return
                    waiting += data
                size = int.from_bytes(waiting[:2], "big")
                if size > MAX_QUESTION:
                    return
                wire, waiting = waiting[2 : 2 + size], waiting[2 + size :]
                found = self._read(wire, peer, trio.current_time(), udp=False)
                if found is None:
                    return
                if isinstance(found, Question):
                    question = found
                    found = self._look(question)
                    if found is None:
                        if self.pending < MAX_PENDING:
                            self.pending += 1
                            found = await self._find(question)
                        else:
                            found = self.responder.later(question)
                await stream.send_all(len(found).to_bytes(2, "big") + found)
            if patience.cancelled_caught:
                return


def _send(reader: DatagramSocket, wire: bytes, peer: Any) -> None:
    """A response that the socket does not take is lost: who asks, asks again."""
    with suppress(OSError):
        reader.send(wire, peer)


def _nobody_counts(reason: str, now: float, count: int) -> None:
    """What the kernel drops is asked again."""


def _nothing() -> None:
    """Nothing is to be flushed: answers are sent at once."""
