"""Both sides of HTTP exchanges at the ends of a line of routers, without any HTTP: owners that do what a scene says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.adaptors.routers import RouterNode, Routers
from van.adaptors.http.exchange import Channel, Exchange
from van.adaptors.http.far_side import HttpConnectingService, ServerExchange
from van.adaptors.http.mapping import Fields, RequestHead, ResponseHead
from van.adaptors.http.near_side import ClientExchange, HttpListeningService
from van.adaptors.service import PeerInfo
from van.routing.adaptor import Adaptor


class Owner(Adaptor):
    """The adaptor of a connection, as far as exchanges need one."""

    def __init__(self) -> None:
        super().__init__()
        self.channel: Channel
        self.noted: list[Exchange] = []
        self.on_wake = self.wake

    def told(self, exchange: Exchange) -> None:
        self.noted.append(exchange)

    def wake(self) -> None:
        self.channel.work()


class Server(HttpConnectingService):
    """A server that has room for so many requests at once, and keeps those that it was given."""

    def __init__(self, node: RouterNode, address: str = "web", *, slots: int = 10, **settings: Any) -> None:
        super().__init__(node.router, f"server-{node.router.id}", address, node.log, **settings)
        self.slots = slots
        self.owner = Owner()
        self.owner.channel = self.channel(self.owner, PeerInfo())
        self.taken: list[ServerExchange] = []

    def free(self) -> bool:
        return len(self.exchanges) <= self.slots

    def serve(self, exchange: ServerExchange) -> None:
        exchange.bind(self.owner.channel, self.owner.told)
        self.taken.append(exchange)


class Scene:
    """Clients at the first of a line of routers, servers at the last."""

    def __init__(self, routers: int = 1, *, servers: int = 1, piece: int = 0, **settings: Any) -> None:
        self.network = Routers(piece=piece)
        self.nodes: list[RouterNode] = [self.network.router(name) for name in "ABC"[:routers]]
        for one, other in zip(self.nodes, self.nodes[1:], strict=False):
            self.network.connect(one, other)
        self.network.advance(10)
        self.service = HttpListeningService(self.nodes[0].router, "client", "web", self.nodes[0].log, **settings)
        self.servers = [Server(self.nodes[-1]) for _ in range(servers)]
        self.client = Owner()
        self.client.channel = self.service.channel(self.client, PeerInfo(("192.0.2.7", 4000)))
        self.run()

    @property
    def server(self) -> Server:
        return self.servers[0]

    def run(self) -> None:
        self.network.advance(2)

    def start(self, method: bytes = b"GET", fields: Fields | None = None, *, more: bool = False) -> ClientExchange:
        exchange = self.service.exchange(self.client.channel, self.client.told)
        exchange.start(RequestHead(method, b"/x?y=1", fields or [], authority=b"example.org"), more)
        return exchange

    def taken(self) -> ServerExchange:
        """The request that the server was given last."""
        self.run()
        return self.server.taken[-1]

    def held(self) -> int:
        return sum(node.router.budget.held() for node in self.nodes)

    def close(self) -> None:
        """Nothing is left behind."""
        self.run()
        assert not self.service.exchanges
        assert not self.service.sent
        assert not self.service.queue
        for server in self.servers:
            assert not server.exchanges
            assert not server.sent
            assert not server.session.unsettled_out
        assert self.held() == 0
        self.client.channel.close()
        for server in self.servers:
            server.owner.channel.close()
            server.stop()
        self.service.stop()
        self.run()
        for node in self.nodes:
            assert not [key for key in node.router.addresses if key.startswith("Mweb")]
            assert not node.router.streams


def respond(exchange: ServerExchange, body: bytes = b"hello", status: int = 200, fields: Fields | None = None) -> None:
    exchange.answer(ResponseHead(status, fields or [(b"content-type", b"text/plain")]), more=True)
    exchange.body(body)
    exchange.end()


def read_all(exchange: ClientExchange | ServerExchange, run: Callable[[], None], limit: int = 1 << 20) -> bytes:
    """Read to the end, or as far as there is anything."""
    out = b""
    while exchange.waiting():
        out += b"".join(exchange.read(limit))
        run()
    return out
