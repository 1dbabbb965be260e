"""Any message is a datagram or is refused, at both ends of a flow, within their bounds.

The input is a list of things that happen at a listener and a connector of one router: datagrams of clients, answers of
the server, messages from anywhere, refusals, time. Nothing is raised, and when it is over nothing is left.
"""

from __future__ import annotations

from harness import main

from van.adaptors.udp.connecting import UdpConnectingService
from van.adaptors.udp.flows import MAX_WAITING, Flow, is_temporary
from van.adaptors.udp.listening import UdpListeningService
from van.adaptors.udp.message import body, head, read, split
from van.amqp.errors import AmqpError
from van.amqp.message import locate_sections
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointSession
from van.routing.router import Router

DECODER = {
    "van.adaptors.udp.message": r"^(split|read)",
    "van.adaptors.udp.listening": r"^UdpListeningService\.(_answer|_taken|receive_datagram)",
    "van.adaptors.udp.connecting": r"^UdpConnectingService\.(_take|_flow_of)",
}

PLANTED = (
    # A data section may leave its message.
    (
        "van.adaptors.udp.message",
        "    if len(payload) < start or len(payload) - start !=",
        "    if len(payload) - start >",
    ),
    # A flow may be sent anywhere.
    (
        "van.adaptors.udp.listening",
        "        if flow.bound or self._is_multicast() or not is_temporary(where):",
        "        if flow.bound or self._is_multicast():",
    ),
    # Flows without end.
    (
        "van.adaptors.udp.connecting",
        "        while len(flows) >= self.max_flows:",
        "        while len(flows) >= 100 * self.max_flows:",
    ),
)

MAX_FLOWS = 4
MAX_DATAGRAM = 64


class Anybody(Adaptor):
    """Somebody else at the router, who sends what it likes."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self.session = EndpointSession(router, self, "anybody")
        self.on_wake = self.session.look
        self.link = self.session.attach_incoming("svc", 250)
        self.anywhere = self.session.attach_incoming("", 250)

    def send(self, payload: bytes, to_service: bool, settled: bool) -> None:
        link = self.link if to_service else self.anywhere
        if link.link_credit > 0:
            link.send(payload, settled)
        self.session.told.clear()
        self.session.credited.clear()


class Scene:
    """A listener and a connector, and what they hand over."""

    def __init__(self) -> None:
        self.now = 0.0
        tokens = iter(range(1000000))
        self.router = Router("R", tokens=lambda: f"{next(tokens)}")
        options = {"max_flows": MAX_FLOWS, "max_datagram_size": MAX_DATAGRAM}
        self.listening = UdpListeningService(self.router, "in", "svc", nobody_logs, **options)
        self.connecting = UdpConnectingService(self.router, "out", "svc", nobody_logs, **options)
        self.listening.on_wake = self.to_clients
        self.connecting.on_wake = self.to_server
        self.anybody = Anybody(self.router)
        self.flows: list[Flow] = []
        self.inbox = ""

    def to_clients(self) -> None:
        for data, _ in self.listening.datagrams_to_send():
            assert len(data) <= MAX_DATAGRAM

    def to_server(self) -> None:
        for flow, data in self.connecting.datagrams_to_send():
            assert len(data) <= MAX_DATAGRAM
            if flow not in self.flows:
                self.flows.append(flow)
        for flow in self.connecting.ended:
            if flow in self.flows:
                self.flows.remove(flow)
        self.connecting.ended.clear()

    def step(self, what: int, data: bytes) -> None:
        flow = self.flows[what % len(self.flows)] if self.flows else None
        kind = what >> 5
        if kind <= 1:
            self.listening.receive_datagram(data, what & 7, self.now)
        elif kind == 2 and flow is not None:
            self.connecting.receive_datagram(flow, data, self.now)
        elif kind == 3:
            self.anybody.send(data, bool(what & 1), bool(what & 2))
        elif kind == 4:
            # To where flows have their answers: its address is known to whoever had one of their datagrams.
            temporary = [key for key in self.router.addresses if key.startswith("Ltemp.")]
            to = f"_local/{temporary[what % len(temporary)][1:]}"
            reply_to = data[1:].decode("utf-8", "replace") or to
            self.anybody.send(head(to, reply_to, str(what & 7)) + data, False, bool(what & 1))
        elif kind == 5 and flow is not None:
            self.connecting.refused(flow, self.now)
        elif kind == 6:
            self.now += what & 31
            for service in (self.listening, self.connecting):
                if service.next_deadline() <= self.now:
                    service.handle_deadline(self.now)
        self.router.wake_touched()

    def check(self) -> None:
        assert self.listening.flows <= MAX_FLOWS
        assert self.connecting.flows <= MAX_FLOWS
        assert self.listening.waiting <= MAX_WAITING
        assert all(is_temporary(address) for address in self.listening.bound)

    def close(self) -> None:
        for service in (self.listening, self.connecting):
            service.stop()
        self.anybody.session.close()
        self.router.wake_touched()
        assert self.router.budget.held() == 0
        assert not [key for key in self.router.addresses if "temp" in key]


def nobody_logs(level: str, event: str, **fields: object) -> None:
    """No log."""


def one_input(data: bytes) -> None:
    try:
        envelope = read(data)
    except AmqpError:
        envelope = None
    parts = split(data)
    # What is known by its octets is what decoding it would find; only what is kept of it may be too long.
    if parts is not None and envelope is not None:
        assert parts[1] == envelope.datagram
        assert parts[0] + body(parts[1]) == data or len(parts[1]) < 256
    if parts is not None:
        *_, (_, _, value, end) = locate_sections(data)
        assert (end, len(parts[1])) == (len(data), end - value - (2 if len(data) - value == 2 + len(parts[1]) else 5))
    scene = Scene()
    pos = 0
    while pos + 2 <= len(data):
        what, size = data[pos], data[pos + 1]
        scene.step(what, data[pos + 2 : pos + 2 + size])
        scene.check()
        pos += 2 + size
    scene.close()


main(__name__)
