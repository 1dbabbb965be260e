"""UDP listeners and connectors at routers in a line, without sockets; servers are functions, clients are names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.adaptors.routers import RouterNode, Routers
from van.adaptors.udp.connecting import UdpConnectingService
from van.adaptors.udp.flows import Flow
from van.adaptors.udp.listening import UdpListeningService
from van.routing.address import AddressConfig, Distribution


class ListeningEnd:
    """A listener, and what its clients have received."""

    def __init__(self, scene: Scene, node: RouterNode, address: str, options: dict[str, Any]) -> None:
        self.scene = scene
        self.received: list[tuple[str, bytes]] = []
        self.service = UdpListeningService(node.router, "in", address, node.log, **options)
        self.service.on_wake = self.wake

    def wake(self) -> None:
        self.received += [(peer, data) for data, peer in self.service.datagrams_to_send()]

    def send(self, client: str, *datagrams: bytes) -> None:
        """A client sends; the network is not run yet."""
        for datagram in datagrams:
            self.service.receive_datagram(datagram, client, self.scene.network.now)

    def answers(self, client: str) -> list[bytes]:
        return [data for peer, data in self.received if peer == client]

    def losses(self) -> dict[str, int]:
        return self.service.losses.counts


class ConnectingEnd:
    """A connector, its server, and what that has received, by flow. `server` makes the answers to a datagram."""

    def __init__(self, scene: Scene, node: RouterNode, address: str, options: dict[str, Any]) -> None:
        self.scene = scene
        self.node = node
        self.server: Callable[[bytes], list[bytes]] | None = lambda data: [data]
        self.received: dict[Flow, list[bytes]] = {}
        self.sockets: dict[Flow, None] = {}
        self.service = UdpConnectingService(node.router, "out", address, node.log, **options)
        self.service.on_wake = self.wake

    def wake(self) -> None:
        service = self.service
        now = self.scene.network.now
        for flow, data in service.datagrams_to_send():
            self.sockets[flow] = None
            if self.server is None:
                service.refused(flow, now)
                continue
            self.received.setdefault(flow, []).append(data)
            for answer in self.server(data):
                service.receive_datagram(flow, answer, now)
        for flow in service.ended:
            self.sockets.pop(flow, None)
        service.ended.clear()

    def all(self) -> list[bytes]:
        return [data for datagrams in self.received.values() for data in datagrams]

    def losses(self) -> dict[str, int]:
        return self.service.losses.counts


class Scene:
    """A listener at the first router of a line, a connector at the last."""

    def __init__(self, routers: int = 1, *, multicast: bool = False, **options: Any) -> None:
        self.network = Routers()
        self.nodes = [self.network.router(name) for name in "ABCD"[:routers]]
        for node in self.nodes:
            if multicast:
                node.router.patterns.add(AddressConfig("svc", Distribution.MULTICAST))
        for one, other in zip(self.nodes, self.nodes[1:], strict=False):
            self.network.connect(one, other)
        self.network.advance(10)
        self.ends: list[ListeningEnd | ConnectingEnd] = []
        self.options = options
        self.out = self.connector(routers - 1)
        self.listener = self.listening(0)
        self.settle()

    def connector(self, index: int, **options: Any) -> ConnectingEnd:
        end = ConnectingEnd(self, self.nodes[index], "svc", {**self.options, **options})
        self.ends.append(end)
        return end

    def listening(self, index: int, **options: Any) -> ListeningEnd:
        end = ListeningEnd(self, self.nodes[index], "svc", {**self.options, **options})
        self.ends.append(end)
        return end

    def run(self) -> None:
        """Let everything arrive; time hardly passes."""
        self.advance(0.01)

    def settle(self) -> None:
        """Let routers hear of what is new."""
        self.advance(2)

    def advance(self, seconds: float) -> None:
        """Let time pass, for the services too."""
        end = self.network.now + seconds
        self.network.run()
        while True:
            deadline = min(each.service.next_deadline() for each in self.ends)
            if deadline > end:
                break
            self.network.advance(max(0.0, deadline - self.network.now))
            for each in self.ends:
                if each.service.next_deadline() <= self.network.now:
                    each.service.handle_deadline(self.network.now)
            self.network.run()
        self.network.advance(max(0.0, end - self.network.now))

    def close(self) -> None:
        """Everything ends, and nothing is left behind."""
        for end in self.ends:
            end.service.stop()
            if isinstance(end, ConnectingEnd):
                end.wake()
                assert not end.sockets
        self.network.advance(2)
        for node in self.nodes:
            router = node.router
            assert router.budget.held() == 0
            assert not [key for key in router.addresses if "temp" in key or key == "Msvc"]
