"""A UDP port that leads to an address: `listen = "udp://..."`, without the socket.

Each client (the address that its datagrams come from) is a flow. The first datagram of a flow goes to the service's
address, with the listener's own temporary address for answers; a connector that takes the flow answers with *its*
temporary address, and everything that follows goes there: so all datagrams of a flow reach the same server. Until it
is known what became of the first, others wait. Receivers that are AMQP applications need not answer: then each datagram
goes to the service's address. Where that is multicast every receiver gets every datagram, and all may answer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from van.adaptors.amqp import Log
from van.adaptors.service import ListeningService
from van.adaptors.udp.flows import NEW, SETTLED, Flow, FlowSender, Losses, is_temporary
from van.adaptors.udp.gathering import Gathering
from van.adaptors.udp.message import LOST, MAX_DATAGRAM, TAKEN, head, read, split
from van.amqp.delivery_state import ACCEPTED
from van.amqp.errors import DecodeError
from van.routing.address import Distribution
from van.routing.incoming_link import IncomingLink
from van.routing.router import Router

# A flow in which nothing has come or gone for so long is over, in seconds. RFC 4787 asks two minutes of a NAT, which
# does not know its protocols; who runs a service does, and can say more.
FLOW_TIMEOUT: Final = 60.0
# Flows of one listener: beyond that the one that was idle for longest is over. Each takes about a kilobyte.
MAX_FLOWS: Final = 10_000
# Answers that may wait here: what the routers let wait for any receiver.
INBOX_CAPACITY: Final = 250
# A flow is recognised by so many heads of answers: one connector has one, and after it there may be others.
MAX_HEADS: Final = 4


class UdpListeningService(ListeningService):
    """A UDP port that leads to an address.

    Its driver hands it datagrams (`receive_datagram`), calls `Router.wake_touched` after each batch, and takes what is
    to be sent (`datagrams_to_send`) when `on_wake` is called, which it sets. What the socket does not take is told by
    `losses.count`.

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
        self._flows: OrderedDict[Any, Flow] = OrderedDict()
        self._by_id: dict[str, Flow] = {}
        self._by_head: dict[bytes, Flow] = {}
        self._numbers = 0
        self._inbox = self.session.attach_outgoing("", INBOX_CAPACITY)
        self._gathering = Gathering(self.session, max_datagram_size)
        self._sender = FlowSender(self.session, self.losses, self._unbind)
        self._service = self._sender.service(address)

    @property
    def flows(self) -> int:
        """How many flows there are."""
        return len(self._flows)

    @property
    def bound(self) -> set[str]:
        """The addresses of connectors that have flows."""
        return {flow.reply_to for flow in self._flows.values() if flow.bound}

    @property
    def waiting(self) -> int:
        """How many datagrams wait to be sent into the network."""
        return self._sender.waiting

    @property
    def waiting_octets(self) -> int:
        """How many octets these have."""
        return self._sender.waiting_octets

    # -- from the socket -----------------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, peer: Any, now: float) -> None:
        """Take a datagram. peer: where it came from, as the socket says it. now: seconds of the driver's clock."""
        self.router.now = now
        self.datagrams_in += 1
        self.octets_in += len(data)
        if len(data) > self.max_datagram_size:
            self.losses.count("too large", now)
            return
        flow = self._flows.get(peer)
        if flow is None:
            if not self.reachable:
                # No flow is made for nobody: a scan of ports costs nothing.
                self.losses.count("nobody there", now)
                return
            flow = self._begin(peer, now)
        else:
            self._flows.move_to_end(peer)
            flow.last = now
        self._sender.send(flow, data, now)

    def _begin(self, peer: Any, now: float) -> Flow:
        flows = self._flows
        while len(flows) >= self.max_flows:
            self._end(next(iter(flows.values())), now)
        self._numbers += 1
        flow = Flow(str(self._numbers), peer, now)
        flows[peer] = flow
        self._by_id[flow.flow_id] = flow
        self.connections += 1
        self.connections_opened += 1
        self._unbind(flow)
        return flow

    def _unbind(self, flow: Flow) -> None:
        """The flow's next datagram goes to the service's address, as its first did."""
        if flow.ended:
            return
        flow.bound = False
        flow.reply_to = ""
        flow.stage = SETTLED if self._is_multicast() else NEW
        flow.head = head(self.address, self._inbox.address, flow.flow_id)
        self._sender.use(flow, self._service)

    def _is_multicast(self) -> bool:
        sink = self._service.link.sink
        return isinstance(sink, IncomingLink) and sink.address.distribution is Distribution.MULTICAST

    def _end(self, flow: Flow, now: float) -> None:
        del self._flows[flow.peer]
        del self._by_id[flow.flow_id]
        for seen in flow.seen:
            self._by_head.pop(seen, None)
        self.connections -= 1
        self.losses.count("flow ended", now, self._sender.end(flow))

    # -- from the network ----------------------------------------------------------------------------------------

    def work(self) -> None:
        """Without a driver there is nowhere to send to."""
        self.datagrams_to_send()

    def datagrams_to_send(self) -> list[tuple[bytes, Any]]:
        """Look what the core has said; return the datagrams that are for clients, each with the client's address."""
        session = self.session
        session.look()
        now = self.router.now
        if self.watch in session.credited:
            self.on_reachable()
        found: list[tuple[bytes, Any]] = []
        inbox = self._inbox
        if session.ready:
            session.ready.clear()
            while (delivery := inbox.take()) is not None:
                if delivery.chunks is not None:
                    if not self._gathering.begin(inbox, delivery):
                        self.losses.count("queue full", now)
                    continue
                payload = delivery.payload
                if not delivery.settled:
                    inbox.settle(delivery, ACCEPTED)
                self._answer(payload, found, now)
        if session.grown:
            whole, refused = self._gathering.more()
            self.losses.count("too large", now, refused)
            for stream, payload in whole:
                stream.settle(ACCEPTED)
                self._answer(payload, found, now)
        self._sender.look(now)
        return found

    def _answer(self, payload: bytes, found: list[tuple[bytes, Any]], now: float) -> None:
        """A message for a client has come."""
        parts = split(payload)
        flow = None
        datagram: bytes | None = None
        if parts is not None:
            flow = self._by_head.get(parts[0])
            datagram = parts[1]
        if flow is None:
            try:
                envelope = read(payload)
            except DecodeError:
                self.losses.count("not a datagram", now)
                return
            datagram = envelope.datagram
            flow = self._by_id.get(envelope.flow_id)
            if flow is None:
                self.losses.count("no such flow", now)
                return
            if envelope.subject == TAKEN:
                self._taken(flow, envelope.reply_to)
                return
            if envelope.subject == LOST:
                if flow.bound and flow.reply_to == envelope.reply_to:
                    self._unbind(flow)
                return
            if parts is not None and len(flow.seen) < MAX_HEADS and not envelope.subject:
                flow.seen.append(parts[0])
                self._by_head[parts[0]] = flow
        if datagram is None:
            self.losses.count("not a datagram", now)
        elif len(datagram) > self.max_datagram_size:
            self.losses.count("too large", now)
        else:
            self._flows.move_to_end(flow.peer)
            flow.last = now
            self.datagrams_out += 1
            self.octets_out += len(datagram)
            found.append((datagram, flow.peer))

    def _taken(self, flow: Flow, where: str) -> None:
        """A connector has taken the flow: what follows goes there."""
        if flow.bound or self._is_multicast() or not is_temporary(where):
            return
        sender = self._sender
        flow.head = head(where, self._inbox.address, flow.flow_id)
        flow.bound = True
        flow.reply_to = where
        flow.stage = SETTLED
        sender.use(flow, sender.way(where))

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When the flow that is idle for longest is over, or an outcome is not waited for any more."""
        deadline = self._sender.next_deadline()
        for flow in self._flows.values():
            return min(deadline, flow.last + self.flow_timeout)
        return deadline

    def handle_deadline(self, now: float) -> None:
        """End idle flows."""
        self.router.now = now
        self._sender.handle_deadline(now)
        flows = self._flows
        while flows:
            flow = next(iter(flows.values()))
            if now < flow.last + self.flow_timeout:
                break
            self._end(flow, now)
        self.session.wake()

    def stop(self) -> None:
        """End all flows."""
        for flow in list(self._flows.values()):
            self._end(flow, self.router.now)
        super().stop()
