"""Edge routers beside those of `routers.py`.

    network = Routers()
    a = network.router("A")
    e = edge(network, "E")
    connection = uplink(network, e, a)
"""

from __future__ import annotations

import itertools
from typing import Any

from tests.adaptors.routers import Line, RouterNode, Routers
from tests.routing.network import Client
from van.adaptors.amqp import ConnectionSettings
from van.adaptors.edge import EdgeConnectorAdaptor, EdgeListenerAdaptor
from van.routing.address import AddressConfig, Distribution
from van.routing.edge_router import EdgeRouter
from van.routing.router import Router

PATTERNS = {"mc/#": "multicast", "cl/#": "closest"}


class EdgeNode(RouterNode):
    """One edge router with its log and clients."""

    def __init__(self, network: Routers, name: str) -> None:
        super().__init__(network, name)
        tokens = itertools.count(1)
        self.edge = EdgeRouter(
            name, tokens=lambda: f"{name}{next(tokens):014d}", instance=1, log=self.log, now=network.now
        )
        self.router: Router = self.edge

    def dial(self, settings: ConnectionSettings | None = None, **options: Any) -> EdgeConnectorAdaptor:
        """An adaptor of an edge connector."""
        self.numbers += 1
        return EdgeConnectorAdaptor(
            self.router,
            settings or ConnectionSettings(idle_timeout=0.0, max_session_frames=2048, max_links=20_000),
            number=self.numbers,
            accepting=False,
            hostname="localhost",
            log=self.log,
            now=self.now,
            **options,
        )


def listen(node: RouterNode, settings: ConnectionSettings | None = None, **options: Any) -> EdgeListenerAdaptor:
    """An adaptor of an edge listener."""
    node.numbers += 1
    return EdgeListenerAdaptor(
        node.router,
        settings or ConnectionSettings(idle_timeout=0.0, max_session_frames=2048, max_links=20_000),
        number=node.numbers,
        log=node.log,
        now=node.now,
        **options,
    )


def patterned(node: RouterNode) -> RouterNode:
    for pattern, name in PATTERNS.items():
        node.router.patterns.add(AddressConfig(pattern, Distribution(name)))
    return node


def edge(network: Routers, name: str) -> EdgeNode:
    node = EdgeNode(network, name)
    patterned(node)
    network.nodes.append(node)
    return node


def uplink(network: Routers, dialling: EdgeNode, accepting: RouterNode) -> Line:
    return network.wire(dialling.dial(), listen(accepting))


def interiors(*names: str, piece: int = 0) -> tuple[Routers, list[RouterNode]]:
    """Interior routers in a line."""
    network = Routers(piece=piece)
    nodes = [patterned(network.router(name)) for name in names]
    for left, right in itertools.pairwise(nodes):
        network.connect(right, left)
    network.advance(3.0)
    return network, nodes


class Site:
    """E – A – B – F: two edge routers at two interior ones, with a client at each."""

    def __init__(self, piece: int = 0) -> None:
        self.network, (self.a, self.b) = interiors("A", "B", piece=piece)
        self.e = edge(self.network, "E")
        self.f = edge(self.network, "F")
        self.uplink_e = uplink(self.network, self.e, self.a)
        self.uplink_f = uplink(self.network, self.f, self.b)
        self.nodes: dict[str, RouterNode] = {"E": self.e, "A": self.a, "B": self.b, "F": self.f}
        self.clients: dict[str, Client] = {name: node.client(f"at-{name}") for name, node in self.nodes.items()}
        self.settle()

    def settle(self) -> None:
        """Let everybody hear of everything."""
        self.network.advance(1.5)

    def assert_quiet(self) -> None:
        for node in self.nodes.values():
            assert node.router.budget.held() == 0, node.router.id
            assert not node.router.streams
            for client in node.clients:
                for session in client.adaptor.connection.begun_sessions():
                    assert not session.unsettled_in
                    assert not session.unsettled_out
