"""The server's end: for every client stream that comes to the address, a connection to the server.

When the connection stands, a server stream goes to where the client stream wants its answers, at once: the client's end
reads nothing before it is there.
"""

from __future__ import annotations

from typing import Final

from van.adaptors.amqp import Log
from van.adaptors.service import Complaints, ConnectingService, PeerInfo
from van.adaptors.tcp.flow import Ended, Flow, stream_annotations
from van.adaptors.tcp.head import Head, read_head, read_place, server_head
from van.adaptors.tcp.proxy_protocol import proxy_header
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import RELEASED, Modified, Rejected
from van.amqp.errors import AmqpLinkError, AmqpSessionError, DecodeError, ErrorCondition
from van.amqp.performatives import Error
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointSenderLink, EndpointSession, RestingSessions
from van.routing.router import Router

# So many connections of a server are what *balanced* likes best: beyond that others are preferred.
CAPACITY: Final = 250
# How often a server is tried that could not be reached, in seconds, while others stand in for it.
PROBE_INTERVAL: Final = 1.0
# What becomes of a stream whose server could not be reached, in skrouterd's word for it; and since no server has seen
# any of it, it may be sent to another one.
UNREACHED: Final = Modified(delivery_failed=True, undeliverable_here=True)
# A stream whose head has not come whole is read in such pieces.
HEAD_READ: Final = 4096


class TcpConnectingService(ConnectingService):
    """A server behind an address.

    capacity: see CAPACITY. idle_timeout: a connection in which nothing has moved for so long is reset, in seconds; 0
    for never. proxy_protocol: the version of the PROXY protocol in which the server is told who its client is, 1 or 2;
    0 for not at all.

    While the server cannot be reached, and others receive at the address, this one steps aside: `aside`.
    """

    def __init__(
        self,
        router: Router,
        name: str,
        address: str,
        log: Log,
        *,
        capacity: int = CAPACITY,
        idle_timeout: float = 0.0,
        proxy_protocol: int = 0,
    ) -> None:
        super().__init__(router, name, address, log)
        self.idle_timeout = idle_timeout
        self.proxy_protocol = proxy_protocol
        self.annotations = stream_annotations(router)
        self.complaints = Complaints(self)
        self.flows: dict[ConnectingFlow, None] = {}
        self.resting = RestingSessions()
        self.capacity = capacity
        self.aside = False
        self.link = self.session.attach_outgoing(address, capacity)
        # Those that take nothing more, by which streams have come that have not ended.
        self._retired: list[EndpointSenderLink] = []

    def work(self) -> None:
        session = self.session
        session.look()
        ready = session.ready
        session.ready = []
        for link in ready:
            while (delivery := link.take()) is not None:
                self._called(link, delivery)
        session.told.clear()
        session.grown.clear()
        session.credited.clear()

    def _called(self, link: EndpointSenderLink, delivery: Delivery) -> None:
        """A client stream has come."""
        try:
            flow = ConnectingFlow(self)
        except AmqpSessionError as error:
            # Others may have room.
            link.stream(delivery, self.session).settle(RELEASED)
            self.complaints.complain("connection refused", error.description, ("", 0))
            return
        flow.take(link, delivery)

    def stop(self) -> None:
        """Take no more. The link stays as long as there are connections, whose streams came by it."""
        if self.stopped:
            return
        self.stopped = True
        if not self.aside:
            self.session.retire(self.link)
        self.resting.close()
        self.flow_over()

    def sessions(self) -> list[EndpointSession]:
        return [self.session, *self.resting.sessions()]

    def flow_over(self) -> None:
        """A connection has ended."""
        if self.stopped and not self.flows:
            self.session.close()


    # -- a server that cannot be reached -----------------------------------------------------------------------------

    def unreached(self) -> None:
        """The server could not be reached. Connections go elsewhere until it can, if there is anybody else."""
        if self.aside or self.stopped or self.link.alone:
            return
        self.aside = True
        self.session.retire(self.link)
        self._retired.append(self.link)
        self.log("info", "server cannot be reached, others stand in", service=self.name, address=self.address)
        self.later(PROBE_INTERVAL, self._probe)

    def _probe(self) -> None:
        if not self.stopped:
            self.dial(self._reached, self._still_unreached)

    def _still_unreached(self, reason: str) -> None:
        self.later(PROBE_INTERVAL, self._probe)

    def _reached(self, info: PeerInfo) -> Adaptor:
        if not self.stopped:
            self.aside = False
            session = self.session
            for link in [link for link in self._retired if not link.streams]:
                self._retired.remove(link)
                session.detach(link)
            self.link = session.attach_outgoing(self.address, self.capacity)
            self.log("info", "server can be reached again", service=self.name, address=self.address)
        return Ended()


class ConnectingFlow(Flow):
    """One connection to a server. Until it stands, there is no socket. Raises `AmqpSessionError`."""

    def __init__(self, service: TcpConnectingService) -> None:
        super().__init__(service, service.resting, service.idle_timeout)
        self.connecting = service
        self.head: Head | None = None
        self._octets = b""
        self.opened = True
        self.on_wake = self._wait
        service.flows[self] = None

    def take(self, link: EndpointSenderLink, delivery: Delivery) -> None:
        """Take over the client stream that has come."""
        self.stream = link.stream(delivery, self.session)
        self._wait()

    # -- before there is a socket --------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Stands for the driver until there is one."""
        session = self.session
        session.look()
        session.ready.clear()
        session.told.clear()
        session.credited.clear()
        session.grown.clear()
        stream = self.stream
        if stream is None or self.closed:
            return
        if stream.aborted:
            # A connection that is being made is told when it stands.
            self.closed = self.cut = True
            if self.head is None:
                self.connection_lost(self.router.now)
            return
        while self.head is None and stream.waiting():
            self._octets += b"".join(stream.read(HEAD_READ))
            try:
                found = read_head(self._octets, stream.finished)
            except DecodeError as error:
                condition = ErrorCondition.DECODE_ERROR
                self._turn_away(Rejected(error=Error(condition=condition, description=error.description)))
                return
            if found is None:
                continue
            head, end = found
            if not head.ours or not head.reply_to:
                self._turn_away(RELEASED)
                return
            self._dial(head, self._octets[end:])

    def _turn_away(self, outcome: object) -> None:
        """The stream leads to no connection."""
        stream = self.stream
        assert stream is not None
        self.closed = True
        stream.settle(outcome)
        self.stream = None
        self.connection_lost(self.router.now)

    def _dial(self, head: Head, rest: bytes) -> None:
        self.head = head
        self._octets = b""
        version = self.connecting.proxy_protocol
        if version:
            header = proxy_header(version, read_place(head.client), read_place(head.local))
            self._early.append(header)
            # It is no part of the stream, whose octets are acknowledged.
            self.written.passed_on = self.written.said = -len(header)
        if rest:
            self._early.append(rest)
        self.connecting.dial(self._connected, self._not_connected, (head.alpn,) if head.alpn else ())

    def _not_connected(self, reason: str) -> None:
        client = read_place(self.head.client) if self.head is not None else None
        self.connecting.complaints.complain("no connection to the server", reason, client or ("", 0))
        self.connecting.unreached()
        stream = self.stream
        if stream is not None and not stream.aborted and not self.closed:
            self._turn_away(UNREACHED)
        else:
            self.connection_lost(self.router.now)

    def _connected(self, info: PeerInfo) -> Adaptor:
        """The connection stands: the other end is told at once."""
        head = self.head
        assert head is not None
        if self.closed:
            return self
        link = self.session.incoming
        if link is None:
            try:
                link = self.session.attach_incoming("", 1)
            except AmqpLinkError as error:
                self.end(error.description)
                return self
        self.link = link
        self._flowing = True
        self.own = link.begin(server_head(head.reply_to), annotations=self.connecting.annotations)
        self.begin_watch()
        self.pace()
        # There may be something to write. What comes before there is a driver is noted in the session.
        self.on_wake = _no_driver_yet
        self.router.touch(self)
        return self

    def connection_lost(self, now: float) -> None:
        service = self.connecting
        super().connection_lost(now)
        if self in service.flows:
            del service.flows[self]
            service.flow_over()


def _no_driver_yet() -> None:
    """Stands for the driver between the connection and its first flush."""
