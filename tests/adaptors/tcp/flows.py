"""Services of TCP at the ends of a line of routers, without sockets.

    scene = Flows(routers=2)
    client = scene.client()
    server = scene.servers[0]
    client.send(b"hello")
    scene.run()
    assert server.received == b"hello"

A `Socket` stands for the driver and the socket that it has, seen from the program at the socket's other end.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.adaptors.routers import RouterNode, Routers
from van.adaptors.service import DialFailed, MakeAdaptor, PeerInfo
from van.adaptors.tcp.connecting import ConnectingFlow, TcpConnectingService
from van.adaptors.tcp.listening import TcpListeningService
from van.routing.adaptor import Adaptor

ADDRESS = "svc.echo"
CLIENT = PeerInfo(("192.0.2.1", 50000), ("192.0.2.2", 5432))
CHUNK = 65536


class Socket:
    """What a program at the other end of a socket does, and sees."""

    def __init__(self, scene: Flows, node: RouterNode, adaptor: Adaptor) -> None:
        self.scene = scene
        self.node = node
        self.adaptor = adaptor
        self.received = b""
        self.ended = False
        self.reset = False
        self.stuck = False
        self.lost = False
        self.sent = bytearray()
        self.unread = 0
        self._eof = False
        self._eof_read = False
        adaptor.on_wake = self.flush

    # -- the program

    def send(self, data: bytes) -> None:
        self.sent += data
        self.scene.run()

    def end(self) -> None:
        """Send nothing more."""
        self._eof = True
        self.scene.run()

    def break_off(self) -> None:
        """Reset the connection."""
        self.adaptor.reason = "connection reset by peer"
        self.adaptor.receive_eof(self.node.now)
        self._lose()
        self.scene.run()

    def release(self) -> None:
        """Read again."""
        self.stuck = False
        self.flush()
        self.scene.run()

    @property
    def waiting(self) -> int:
        """Octets that were sent and not read."""
        return len(self.sent)

    # -- the driver

    def flush(self) -> None:
        if self.lost:
            return
        if self.stuck:
            self.adaptor.look()
            return
        while True:
            chunks = self.adaptor.data_to_send(CHUNK)
            data = b"".join(chunks)
            self.received += data
            if len(data) < CHUNK:
                break
        assert not (self.ended and chunks)
        self.ended = self.ended or self.adaptor.write_ended
        if self.adaptor.closed:
            self._lose()

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self.adaptor.connection_lost(self.node.now)
            self.reset = self.adaptor.resets
            self.ended = True

    def step(self) -> bool:
        adaptor = self.adaptor
        moved = False
        while self.sent and adaptor.reading and not self.lost:
            piece = self.scene.network.piece or CHUNK
            data = bytes(self.sent[: min(adaptor.read_size, piece)])
            del self.sent[: len(data)]
            adaptor.receive_data(data, self.node.now)
            self.node.router.wake_touched()
            self.flush()
            moved = True
        if self._eof and not self.sent and adaptor.reading and not self._eof_read and not self.lost:
            self._eof_read = True
            adaptor.receive_eof(self.node.now)
            self.node.router.wake_touched()
            self.flush()
            moved = True
        return moved


class Server:
    """A server that a connecting service dials."""

    def __init__(self, scene: Flows, node: RouterNode, service: TcpConnectingService) -> None:
        self.scene = scene
        self.node = node
        self.service = service
        self.refuses = False
        self.slow = False
        self.sockets: list[Socket] = []
        self.offers: list[tuple[str, ...]] = []
        self.waiting: list[tuple[MakeAdaptor, DialFailed]] = []
        self.planned: list[tuple[float, Callable[[], None]]] = []
        service.dial = self._dial
        service.later = self._later

    def _dial(self, connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...] = ()) -> None:
        self.offers.append(alpn)
        self.waiting.append((connected, failed))

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        self.planned.append((self.node.now + seconds, function))

    def step(self) -> bool:
        """Answer those who dial."""
        for each in [each for each in self.planned if each[0] <= self.node.now]:
            self.planned.remove(each)
            each[1]()
        waiting = self.waiting
        if self.slow or not waiting:
            return False
        self.waiting = []
        for connected, failed in waiting:
            if self.refuses:
                failed("connection refused")
            else:
                adaptor = connected(PeerInfo())
                socket = Socket(self.scene, self.node, adaptor)
                socket.flush()
                if isinstance(adaptor, ConnectingFlow):
                    self.sockets.append(socket)
            self.node.router.wake_touched()
        return True


class Flows:
    """A line of routers with a listening service at the first and a connecting one at the last.

    `piece`: wires and sockets hand octets over in pieces of at most that many.
    """

    def __init__(
        self, routers: int = 2, *, piece: int = 0, listen: dict[str, object] | None = None,
        connect: dict[str, object] | None = None,
    ) -> None:
        self.network = Routers(piece=piece)
        self.nodes: list[RouterNode] = [self.network.router(name) for name in "ABC"[:routers]]
        self.lines = [
            self.network.connect(one, other) for one, other in zip(self.nodes, self.nodes[1:], strict=False)
        ]
        self.network.advance(10)
        self.sockets: list[Socket] = []
        self.servers: list[Server] = []
        first = self.nodes[0]
        self.listening = TcpListeningService(first.router, "in", ADDRESS, first.log, **(listen or {}))  # type: ignore[arg-type]
        self.server(self.nodes[-1], **(connect or {}))

    def server(self, node: RouterNode, **options: object) -> Server:
        service = TcpConnectingService(node.router, f"out{len(self.servers)}", ADDRESS, node.log, **options)  # type: ignore[arg-type]
        server = Server(self, node, service)
        self.servers.append(server)
        self.advance(2)
        return server

    def client(self, info: PeerInfo = CLIENT) -> Socket:
        node = self.nodes[0]
        socket = Socket(self, node, self.listening.accept(info))
        self.sockets.append(socket)
        socket.flush()
        self.run()
        return socket

    def pair(self) -> tuple[Socket, Socket]:
        """A connection: its client and its server."""
        client = self.client()
        return client, self.servers[-1].sockets[-1]

    def run(self) -> None:
        moving = True
        while moving:
            self.network.run()
            moving = False
            for server in self.servers:
                moving |= server.step()
                for socket in server.sockets:
                    moving |= socket.step()
            for socket in self.sockets:
                moving |= socket.step()
            for node in self.nodes:
                node.router.wake_touched()
        self.network.run()

    def advance(self, seconds: float) -> None:
        self.run()
        self.network.advance(seconds)
        self.run()

    def held(self) -> int:
        return sum(node.router.budget.held() for node in self.nodes)

    def lines_of(self, event: str) -> list[dict[str, object]]:
        return [line for node in self.nodes for line in node.lines(event)]

    def close(self) -> None:
        """Nothing is left behind."""
        self.run()
        services = [self.listening, *(server.service for server in self.servers)]
        assert [service.connections for service in services] == [0] * len(services)
        for service in services:
            service.stop()
        self.advance(2)
        assert self.held() == 0
        for node in self.nodes:
            assert not [key for key in node.router.addresses if "temp." in key or ADDRESS in key]
            assert not node.router.streams
            assert not [session for session in node.router.budget.sessions if type(session).__name__[:3] == "End"]
