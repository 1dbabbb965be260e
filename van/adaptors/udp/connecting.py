"""A UDP server behind an address: `connect = "udp://..."`, without the sockets.

Each flow has a socket of its own towards the server, so that answers find their way back. A flow is known by where its
answers go and the id it has there; the connector tells that place its own temporary address, where the rest of the flow
comes. A server that is not there (the sockets say so: port unreachable) is left alone for a while: the address is given
up meanwhile, so that another server's connector has what comes.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Final

from van.adaptors.amqp import Log
from van.adaptors.service import ConnectingService
from van.adaptors.udp.flows import SETTLED, Flow, FlowSender, Losses
from van.adaptors.udp.gathering import Gathering
from van.adaptors.udp.listening import FLOW_TIMEOUT, MAX_HEADS
from van.adaptors.udp.message import LOST, MAX_DATAGRAM, TAKEN, Envelope, head, notice, read, split
from van.amqp.delivery_state import ACCEPTED, RELEASED, Rejected
from van.amqp.errors import DecodeError
from van.amqp.message import MessageId
from van.routing.address import Distribution
from van.routing.endpoint import EndpointSenderLink
from van.routing.outgoing_link import OutgoingLink
from van.routing.router import Router

# Flows of one connector, each with a socket: beyond that the one that was idle for longest is over. It is what common
# limits on open files leave room for.
MAX_FLOWS: Final = 4096
# Deliveries that *balanced* likes to have here: datagrams are passed on at once, so few wait.
CAPACITY: Final = 250
# That a flow was taken is said again after this, while its datagrams come by the service's address, in seconds.
TAKEN_SECONDS: Final = 0.2
# A server that refuses is left alone for so long, twice as long each time, but not longer than that, in seconds.
HOLD_OFF_SECONDS: Final = 1.0
MAX_HOLD_OFF_SECONDS: Final = 8.0


class UdpConnectingService(ConnectingService):
    """A UDP server behind an address.

    Its driver takes what is for the server (`datagrams_to_send`) when `on_wake` is called, which it sets, and sends
    each by the socket of its flow, made when it is first seen; it hands over what comes there (`receive_datagram`),
    says when the server refuses (`refused`), and closes the sockets of the flows in `ended`, which it clears.

    flow_timeout: how long a flow may be idle, in seconds. max_flows: how many there may be. max_datagram_size: in
    octets, larger ones are dropped either way.
    """

    def __init__(
        self,
        router: Router,
        name: str,
        address: str,
        log: Log,
        *,
        flow_timeout: float = FLOW_TIMEOUT,
        max_flows: int = MAX_FLOWS,
        max_datagram_size: int = MAX_DATAGRAM,
    ) -> None:
        super().__init__(router, name, address, log)
        self.flow_timeout = flow_timeout
        self.max_flows = max_flows
        self.max_datagram_size = max_datagram_size
        self.losses = Losses(name, log)
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.ended: list[Flow] = []
        self._flows: OrderedDict[tuple[str, str], Flow] = OrderedDict()
        self._by_head: dict[bytes, Flow] = {}
        self._said: dict[Flow, float] = {}
        self._inbox = self.session.attach_outgoing("", CAPACITY)
        self._gathering = Gathering(self.session, max_datagram_size)
        self._sender = FlowSender(self.session, self.losses, self._lost)
        self._receiver: EndpointSenderLink | None = self.session.attach_outgoing(address, CAPACITY)
        self._hold_off = HOLD_OFF_SECONDS
        self._resumes_at = inf

    @property
    def flows(self) -> int:
        """How many flows there are."""
        return len(self._flows)

    @property
    def held_off(self) -> bool:
        """Whether the server has refused, so that the address is given up for now."""
        return self._receiver is None

    # -- from the network ----------------------------------------------------------------------------------------

    def work(self) -> None:
        """Without a driver there is nowhere to send to."""
        self.datagrams_to_send()

    def datagrams_to_send(self) -> list[tuple[Flow, bytes]]:
        """Look what the core has said; return the datagrams that are for the server, each with its flow."""
        session = self.session
        session.look()
        now = self.router.now
        found: list[tuple[Flow, bytes]] = []
        while session.ready:
            links = session.ready
            session.ready = []
            for link in links:
                while (delivery := link.take()) is not None:
                    if delivery.chunks is not None:
                        if not self._gathering.begin(link, delivery):
                            self.losses.count("queue full", now)
                        continue
                    outcome = self._take(link, delivery.payload, found, now)
                    if not delivery.settled:
                        link.settle(delivery, outcome)
        if session.grown:
            whole, refused = self._gathering.more()
            self.losses.count("too large", now, refused)
            for stream, payload in whole:
                stream.settle(self._take(stream.link, payload, found, now))
        self._sender.look(now)
        return found

    def _take(
        self, link: EndpointSenderLink, payload: bytes, found: list[tuple[Flow, bytes]], now: float
    ) -> object:
        """Take a message. Returns its outcome."""
        parts = split(payload)
        flow = self._by_head.get(parts[0]) if parts is not None else None
        if flow is not None and parts is not None:
            datagram = parts[1]
        else:
            try:
                envelope = read(payload)
            except DecodeError:
                self.losses.count("not a datagram", now)
                return Rejected()
            if envelope.datagram is None:
                self.losses.count("not a datagram", now)
                return Rejected()
            datagram = envelope.datagram
            if self._receiver is None:
                # There is no server: whoever sent this looks for another.
                self.losses.count("refused", now)
                self._say_lost(envelope.reply_to, envelope.correlation_id)
                return RELEASED
            flow = self._flow_of(envelope, now)
            if parts is not None and len(flow.seen) < MAX_HEADS:
                flow.seen.append(parts[0])
                self._by_head[parts[0]] = flow
        if len(datagram) > self.max_datagram_size:
            self.losses.count("too large", now)
            return Rejected()
        self._flows.move_to_end((flow.reply_to, flow.flow_id))
        flow.last = now
        if link is self._receiver:
            self._say_taken(flow, now)
        self.datagrams_out += 1
        self.octets_out += len(datagram)
        found.append((flow, datagram))
        return ACCEPTED

    def _flow_of(self, envelope: Envelope, now: float) -> Flow:
        key = (envelope.reply_to, envelope.flow_id)
        flows = self._flows
        flow = flows.get(key)
        if flow is not None:
            return flow
        while len(flows) >= self.max_flows:
            self._end(next(iter(flows.values())), now)
        flow = flows[key] = Flow(envelope.flow_id, None, now)
        self.connections += 1
        self.connections_opened += 1
        flow.reply_to = envelope.reply_to
        flow.bound = True
        flow.stage = SETTLED
        if may_be_answered(flow.reply_to):
            flow.head = head(flow.reply_to, self._inbox.address, envelope.correlation_id)
            self._sender.use(flow, self._sender.way(flow.reply_to))
        return flow

    def _say_taken(self, flow: Flow, now: float) -> None:
        """A datagram of the flow has come by the service's address: the others are to come here."""
        way = flow.way
        receiver = self._receiver
        if way is None or way.gone or receiver is None or now < self._said.get(flow, now):
            return
        source = receiver.source
        if isinstance(source, OutgoingLink) and source.address.distribution is Distribution.MULTICAST:
            return
        if way.link.link_credit > 0 and self.session.room() > 0:
            self._said[flow] = now + TAKEN_SECONDS
            way.link.send(notice(TAKEN, flow.reply_to, self._inbox.address, flow.flow_id), True)

    def _say_lost(self, reply_to: str, correlation_id: MessageId | None) -> None:
        """Tell whoever has the other half of a flow that there is none here."""
        if not may_be_answered(reply_to):
            return
        # By whatever way there is: it is said once, and a way of its own would be gone before it is used.
        link = self._sender.anywhere().link
        if link.link_credit > 0 and self.session.room() > 0:
            link.send(notice(LOST, reply_to, self._inbox.address, correlation_id), True)

    def _lost(self, flow: Flow) -> None:
        """There is nobody for the answers of a flow any more."""
        if not flow.ended:
            self._end(flow, self.router.now)

    def _end(self, flow: Flow, now: float) -> None:
        del self._flows[flow.reply_to, flow.flow_id]
        for seen in flow.seen:
            self._by_head.pop(seen, None)
        self._said.pop(flow, None)
        self.connections -= 1
        self.losses.count("flow ended", now, self._sender.end(flow))
        self.ended.append(flow)
        # Its socket is to be closed.
        self.session.wake()

    # -- from the sockets ----------------------------------------------------------------------------------------

    def receive_datagram(self, flow: Flow, data: bytes, now: float) -> None:
        """Take a datagram that the server has sent to the socket of a flow."""
        self.router.now = now
        if flow.ended:
            return
        self.datagrams_in += 1
        self.octets_in += len(data)
        self._hold_off = HOLD_OFF_SECONDS
        self._flows.move_to_end((flow.reply_to, flow.flow_id))
        flow.last = now
        if len(data) > self.max_datagram_size:
            self.losses.count("too large", now)
        elif not flow.head:
            self.losses.count("no address for answers", now)
        else:
            self._sender.send(flow, data, now)

    def refused(self, flow: Flow, now: float) -> None:
        """There is no server: the socket of a flow was told that its port, or its host, cannot be reached."""
        self.router.now = now
        self.losses.count("refused", now)
        if not flow.ended:
            self._end(flow, now)
            self._say_lost(flow.reply_to, flow.flow_id)
        receiver = self._receiver
        if receiver is None or self.stopped:
            return
        self._receiver = None
        self._resumes_at = now + self._hold_off
        self.log("info", "server refuses", service=self.name, seconds=self._hold_off)
        self._hold_off = min(2 * self._hold_off, MAX_HOLD_OFF_SECONDS)
        self.session.detach(receiver)

    def failed(self, flow: Flow, now: float) -> None:
        """There is no socket for a flow. It is over; its next datagram is another chance."""
        self.losses.count("no socket", now)
        if not flow.ended:
            self._end(flow, now)

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When the flow that is idle for longest is over, or the server has another chance."""
        deadline = min(self._sender.next_deadline(), self._resumes_at)
        for flow in self._flows.values():
            return min(deadline, flow.last + self.flow_timeout)
        return deadline

    def handle_deadline(self, now: float) -> None:
        """End idle flows; have the address again."""
        self.router.now = now
        self._sender.handle_deadline(now)
        flows = self._flows
        while flows:
            flow = next(iter(flows.values()))
            if now < flow.last + self.flow_timeout:
                break
            self._end(flow, now)
        if now >= self._resumes_at and not self.stopped:
            self._resumes_at = inf
            self._receiver = self.session.attach_outgoing(self.address, CAPACITY)
        self.session.wake()

    def stop(self) -> None:
        """End all flows."""
        self._resumes_at = inf
        for flow in list(self._flows.values()):
            self._end(flow, self.router.now)
        super().stop()


def may_be_answered(reply_to: str) -> bool:
    """Whether a server's answers may go to an address: not to a router's own node, which takes them for orders."""
    return bool(reply_to) and "$management" not in reply_to
