"""Clients and servers of HTTP/1.1 at the two ends of a line of routers, octet by octet if a scene wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.adaptors.routers import RouterNode, Routers
from van.adaptors.http.http1_service import Http1ConnectingService, Http1ListeningService
from van.adaptors.service import PeerInfo
from van.routing.adaptor import Adaptor
from van.routing.address import AddressConfig, Distribution


class End:
    """The other end of an adaptor's connection: what a client or a server says and hears."""

    def __init__(self, network: Network, adaptor: Adaptor) -> None:
        self.network = network
        self.adaptor = adaptor
        self.heard = b""
        # The adaptor has ended its side; the connection is no more.
        self.eof = False
        self.lost = False
        # Takes nothing while it is set.
        self.stuck = False
        self._unread = bytearray()
        adaptor.on_wake = self.flush
        network.ends.append(self)
        self.flush()

    def say(self, data: bytes) -> None:
        """Have the adaptor read, as far as it wants to."""
        self._unread += data
        self.pump()
        self.network.run()

    def pump(self) -> bool:
        moved = False
        while self._unread and self.adaptor.reading and not self.lost:
            size = self.network.piece or self.adaptor.read_size
            data = bytes(self._unread[:size])
            del self._unread[:size]
            self.adaptor.receive_data(data, self.network.now)
            moved = True
            self.adaptor.on_wake()
            self.network.wake()
        return moved

    @property
    def unread(self) -> int:
        """Octets that the adaptor did not want yet."""
        return len(self._unread)

    def flush(self) -> None:
        if self.lost:
            return
        if self.stuck:
            self.adaptor.look()
            return
        while chunks := self.adaptor.data_to_send(65536):
            self.heard += b"".join(chunks)
        self.eof = self.eof or self.adaptor.write_ended
        if self.adaptor.closed:
            self.lose()

    def take(self) -> bytes:
        """What was heard since."""
        heard, self.heard = self.heard, b""
        return heard

    def end(self) -> None:
        """Say that nothing more will come."""
        self.adaptor.receive_eof(self.network.now)
        self.adaptor.on_wake()
        self.network.run()

    def lose(self) -> None:
        """The connection breaks, or has ended."""
        if not self.lost:
            self.lost = self.eof = True
            self.network.ends.remove(self)
            self.adaptor.connection_lost(self.network.now)
            self.network.wake()

    def cut(self) -> None:
        self.lose()
        self.network.run()


class Network(Routers):
    """Routers, and the connections of their HTTP services."""

    def __init__(self, *, piece: int = 0) -> None:
        super().__init__()
        self.piece = piece
        self.ends: list[End] = []

    def wake(self) -> None:
        for node in self.nodes:
            node.router.wake_touched()

    def run(self) -> None:
        moving = True
        while moving:
            super().run()
            moving = sum(end.pump() for end in list(self.ends)) > 0

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for end in list(self.ends):
            if end.adaptor.next_deadline() <= self.now:
                end.adaptor.handle_deadline(self.now)
                end.adaptor.on_wake()
        self.run()


class Server(Http1ConnectingService):
    """A server behind "web": its connections are `ends`, in the order in which they were made."""

    def __init__(self, network: Network, node: RouterNode, **settings: Any) -> None:
        super().__init__(node.router, f"server{len(network.ends)}", "web", node.log, **settings)
        self.network = network
        self.ends: list[End] = []
        self.up = True
        # Connections that are being made; what is to be done later, and after how many seconds.
        self.waiting: list[Callable[[], None]] = []
        self.delayed: list[tuple[float, Callable[[], None]]] = []
        self.dial = self.make_connection
        self.later = self.wait

    def make_connection(
        self, connected: Callable[[PeerInfo], Adaptor], failed: Callable[[str], None], alpn: tuple[str, ...] = ()
    ) -> None:
        self.waiting.append(lambda: self.connect(connected, failed))

    def connect(self, connected: Callable[[PeerInfo], Adaptor], failed: Callable[[str], None]) -> None:
        if self.up:
            self.ends.append(End(self.network, connected(PeerInfo(("10.0.0.1", 80)))))
        else:
            failed("connection refused")

    def wait(self, seconds: float, function: Callable[[], None]) -> None:
        self.delayed.append((seconds, function))

    def go(self) -> None:
        """Connections are made, or fail."""
        while self.waiting:
            waiting, self.waiting = self.waiting, []
            for each in waiting:
                each()
            self.network.run()

    def wait_over(self) -> float:
        """The time has come for what was to be done later; returns after how many seconds that is."""
        ((seconds, function),) = self.delayed
        self.delayed.clear()
        function()
        self.go()
        return seconds

    def end(self) -> End:
        """The connection that was made last, when all have been made."""
        self.network.run()
        self.go()
        return self.ends[-1]


class Scene:
    """A port at the first router and servers at the last."""

    def __init__(
        self,
        routers: int = 1,
        *,
        servers: int = 1,
        piece: int = 0,
        distribution: Distribution = Distribution.BALANCED,
        **settings: Any,
    ) -> None:
        self.network = Network(piece=piece)
        self.nodes: list[RouterNode] = [self.network.router(name) for name in "ABC"[:routers]]
        for node in self.nodes:
            node.router.patterns.add(AddressConfig("web", distribution))
        for one, other in zip(self.nodes, self.nodes[1:], strict=False):
            self.network.connect(one, other)
        self.network.advance(10)
        self.service = Http1ListeningService(self.nodes[0].router, "port", "web", self.nodes[0].log, **settings)
        self.servers = [Server(self.network, self.nodes[-1]) for _ in range(servers)]
        self.network.advance(2)

    @property
    def server(self) -> Server:
        return self.servers[0]

    def client(self) -> End:
        return End(self.network, self.service.accept(PeerInfo(("192.0.2.7", 4000))))

    def held(self) -> int:
        return sum(node.router.budget.held() for node in self.nodes)

    def close(self) -> None:
        """Everything ends, and nothing is left behind."""
        for end in list(self.network.ends):
            end.cut()
        for server in self.servers:
            server.go()
        self.network.advance(2)
        assert not self.service.exchanges
        assert not self.service.sent
        assert not self.service.connections
        assert self.held() == 0
        for server in self.servers:
            assert not server.exchanges
            assert not server.sent
            assert not server.connections
            server.stop()
        self.service.stop()
        self.network.advance(2)
        for node in self.nodes:
            assert not [key for key in node.router.addresses if key.startswith("Mweb")]
            assert not node.router.streams
