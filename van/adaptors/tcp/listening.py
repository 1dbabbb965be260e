"""The client's end: a port that leads to an address.

A connection that is accepted begins a client stream to the address, and waits for the server stream that answers it.
So each connection goes to one server, as the address distributes them. What a client says meanwhile goes along, so
that the server has it as soon as it is connected; it is kept, as long as it is little, for another attempt.
"""

from __future__ import annotations

from math import inf
from typing import Final

from van.adaptors.amqp import Log
from van.adaptors.service import Complaints, ListeningService, PeerInfo
from van.adaptors.tcp.flow import Ended, Flow, stream_annotations, words_of
from van.adaptors.tcp.head import client_head, read_head, server_head
from van.adaptors.tcp.proxy_protocol import read_proxy_header
from van.amqp.delivery_state import RELEASED, Modified, Rejected, Released
from van.amqp.errors import AmqpLinkError, AmqpSessionError, DecodeError, ErrorCondition
from van.amqp.performatives import Error
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointSenderLink, EndpointSession, EndpointStream, RestingSessions
from van.routing.router import Router

# A client stream is one delivery, and so is a server stream.
STREAMS: Final = 1
# What is read at once of a connection that has to begin with a header of the PROXY protocol; octets behind it wait here
# until the server's end stands.
HEADER_READ: Final = 4096
# ...which has to be there within so many seconds.
HEADER_SECONDS: Final = 10.0
# A client whose stream has not gone to a server, or that has said nothing yet, is tried again with somebody else. There
# are seldom more servers that have just died.
ATTEMPTS: Final = 3
# What is read of a client before it is answered, in octets: about what a first flight of TCP holds.
EARLY_READ: Final = 16384
# A stream whose head has not come whole is read in such pieces.
HEAD_READ: Final = 4096


class TcpListeningService(ListeningService):
    """A port here that leads to an address.

    idle_timeout: a connection in which nothing has moved for so long is reset, in seconds; 0 for never.
    proxy_protocol: each connection has to begin with a header of the PROXY protocol, in either version. tell_client:
    the other end is told who the client is, so that it can tell its server.
    """

    def __init__(
        self,
        router: Router,
        name: str,
        address: str,
        log: Log,
        *,
        idle_timeout: float = 0.0,
        proxy_protocol: bool = False,
        tell_client: bool = True,
    ) -> None:
        super().__init__(router, name, address, log)
        self.idle_timeout = idle_timeout
        self.proxy_protocol = proxy_protocol
        self.tell_client = tell_client
        self.annotations = stream_annotations(router, address)
        self.complaints = Complaints(self)
        self.correlator = router.tokens()[:5]
        self.resting = RestingSessions()

    def accept(self, info: PeerInfo) -> Adaptor:
        try:
            return ListeningFlow(self, info)
        except (AmqpSessionError, AmqpLinkError) as error:
            self.complaints.complain("connection refused", error.description, info.peer)
            return Ended(error.description, resets=True)

    def stop(self) -> None:
        super().stop()
        self.resting.close()

    def sessions(self) -> list[EndpointSession]:
        return [self.session, *self.resting.sessions()]

    def correlation(self) -> str:
        """A text for one connection, for those who watch flows."""
        return f"{self.correlator}:{self.connections_opened}"


class ListeningFlow(Flow):
    """One connection of a client.

    Raises `AmqpSessionError` and `AmqpLinkError` when there is no memory for it, or its address cannot be had.
    """

    def __init__(self, service: TcpListeningService, info: PeerInfo) -> None:
        super().__init__(service, service.resting, service.idle_timeout)
        self.listening = service
        self.info = info
        self.client: tuple[str, int] | None = info.peer
        self.local: tuple[str, int] | None = info.local
        # What was read before there was an answer; in front of that, it may be a header of the PROXY protocol.
        self._read = b""
        self._head = b""
        self._client_head = b""
        self._attempts = 0
        self._replies: EndpointSenderLink | None = None
        self.reading = True
        self.read_size = EARLY_READ
        if service.proxy_protocol:
            self.read_size = HEADER_READ
            self.light = False
            self._look_at = service.router.now + HEADER_SECONDS
        else:
            self._call()

    def _call(self) -> None:
        """Begin the client stream: somebody has to answer it."""
        service = self.listening
        self.opened = True
        session = self.session
        if session.incoming is None:
            try:
                session.attach_outgoing("", STREAMS)
                session.attach_incoming(service.address, STREAMS)
            except AmqpLinkError:
                self._undo()
                raise
        self.link = session.incoming
        self._replies = session.outgoing
        assert self._replies is not None
        tell = service.tell_client
        self._client_head = client_head(
            service.address,
            self._replies.address,
            service.correlation(),
            self.info.alpn,
            self.client if tell else None,
            self.local if tell else None,
        )
        self._attempt()

    def _attempt(self) -> None:
        link = self.link
        assert link is not None
        if link.link_credit <= 0:
            self.fail("nobody receives at the address")
            return
        self._attempts += 1
        if self._attempts > 1:
            # What answers an attempt that was given up may still come.
            self.passes_on = False
        self.own = link.begin(self._client_head, annotations=self.listening.annotations)
        self.sent.restart()
        if self._read:
            self.append(self._read)

    def _undo(self) -> None:
        self._lost = self._over = True
        self.service.connections -= 1
        self.session.close()

    # -- before the server stream is there -----------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        if self._flowing:
            super().receive_data(data, now)
            return
        self.router.now = now
        self._read += data
        if self.opened:
            self.octets_in += len(data)
            self.service.octets_in += len(data)
            self.append(data)
            self.reading = len(self._read) < EARLY_READ and self.session.room() > 0
            return
        try:
            header = read_proxy_header(self._read)
        except DecodeError as error:
            self.fail(error.description)
            return
        if header is None:
            return
        self._read = self._read[header.size :]
        self._look_at = inf
        self.octets_in += len(self._read)
        self.service.octets_in += len(self._read)
        self.reading = len(self._read) < EARLY_READ
        if header.client is not None:
            self.client = header.client
            self.local = header.local
        try:
            self._call()
        except AmqpLinkError as refusal:
            self.fail(refusal.description)

    def receive_eof(self, now: float) -> None:
        if self._flowing or self.reason or not self.opened:
            super().receive_eof(now)
        else:
            # The server may answer all the same.
            self._eof = True

    def handle_deadline(self, now: float) -> None:
        if self.opened:
            super().handle_deadline(now)
        elif now >= self._look_at:
            self.router.now = now
            self._look_at = inf
            self.fail(f"no header of the PROXY protocol within {HEADER_SECONDS:g} s")

    def take_ready(self) -> None:
        session = self.session
        ready = session.ready
        session.ready = []
        for link in ready:
            while (delivery := link.take()) is not None:
                stream = link.stream(delivery, session)
                if self.stream is None and not self.closed:
                    self.stream = stream
                    self.grown()
                else:
                    self.passes_on = False
                    stream.settle(_rejected("a server stream is there already"))

    def grown(self) -> None:
        stream = self.stream
        if stream is None or self._flowing or self.closed:
            return
        while stream.waiting():
            self._head += b"".join(stream.read(HEAD_READ))
            assert self._replies is not None
            usual = server_head(self._replies.address)
            if self._head.startswith(usual):
                self._answered(self._head[len(usual) :])
                return
            try:
                found = read_head(self._head, stream.finished)
            except DecodeError as error:
                self._answered_wrongly(stream, _rejected(error.description), error.description)
                return
            if found is None:
                continue
            head, end = found
            if not head.ours:
                self._answered_wrongly(stream, RELEASED, "it is no stream of TCP")
                return
            self._answered(self._head[end:])
            return
        if stream.aborted or stream.finished:
            self.fail("the server's end is gone")

    def _answered(self, rest: bytes) -> None:
        """The server's end stands: octets go both ways from now on."""
        self._head = b""
        if rest:
            self._early.append(rest)
        self._flowing = True
        self.begin_watch()
        self._read = b""
        if self._eof:
            assert self.link is not None
            self.link.append(b"", more=False)
        else:
            self.pace()

    def _answered_wrongly(self, stream: EndpointStream, outcome: object, reason: str) -> None:
        self.stream = None
        stream.settle(outcome)
        self.fail(f"what the server's end sent cannot be used: {reason}")

    def refused(self, state: object) -> None:
        if self._flowing:
            super().refused(state)
        elif (
            self.stream is None
            and self._attempts < ATTEMPTS
            and not self.closed
            and (
                isinstance(state, Released)
                or (isinstance(state, Modified) and (state.undeliverable_here or not self._read))
            )
        ):
            self._attempt()
        else:
            self.fail(f"no connection to a server: {words_of(state)}")

    def fail(self, reason: str) -> None:
        """The connection came to nothing."""
        if not self.closed:
            self.cut = True
            self.listening.complaints.complain("connection came to nothing", reason, self.info.peer)
        self.end(reason)


def _rejected(description: str) -> Rejected:
    return Rejected(error=Error(condition=ErrorCondition.DECODE_ERROR, description=description))

