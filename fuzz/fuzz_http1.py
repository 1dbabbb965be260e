"""HTTP/1.1 takes any octets of a client, a server or an application of AMQP, and what it says then is HTTP/1.1.

Both sides of a service with one router between. Whatever one of them says, in whatever pieces, nothing is raised, what
the others hear is read by h11, a well-behaved client is served, and nothing is left when all have gone.

An input is two octets and a stream: who says it (a client, the server, an application that asks or one that answers),
and in pieces of how many octets.
"""

from __future__ import annotations

import itertools

import h11
from harness import main

from van.adaptors.http.http1_service import Http1ConnectingService, Http1ListeningService
from van.adaptors.service import DialFailed, MakeAdaptor, PeerInfo
from van.amqp.delivery_state import ACCEPTED
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointSession
from van.routing.router import Router

DECODER = {
    "van.adaptors.http.mapping": r"^_?(decode|split_fields|version|upgrade|latin|octets|take_apart|MessageReader\.)",
    "van.adaptors.http.http1": r"^(split_target|is_authority|length_of|upgrade_of)",
}

PLANTED = (
    # A value as body that is no octets.
    (
        "van.adaptors.http.mapping",
        '    if value is None:\n        return b""\n    raise',
        '    if value is None:\n        return b""\n    return value  # type: ignore[return-value]\n    raise',
    ),
    # Fields may hold lines, and requests, of their own.
    (
        "van.adaptors.http.mapping",
        "    if _LINES.fullmatch(lines) is None:",
        "    if lines == b'':",
    ),
    # Both lengths of one body.
    (
        "van.adaptors.http.http1",
        "if length >= 0 or not value.isdigit() or",
        "if",
    ),
)

GET = b"GET /well HTTP/1.1\r\nHost: behaved\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# The router's tokens are numbers: the first temporary address is that of the responses.
REPLIES = "amqp:/_topo/0/R/temp.t1"


class End:
    """Who is at the other end of a connection."""

    def __init__(self, adaptor: Adaptor) -> None:
        self.adaptor = adaptor
        self.heard = b""
        self.lost = False
        adaptor.on_wake = self.flush

    def say(self, data: bytes, piece: int) -> None:
        for start in range(0, len(data), piece):
            if not self.adaptor.reading or self.adaptor.closed or self.adaptor.write_ended:
                break
            self.adaptor.receive_data(data[start : start + piece], 0.0)
            self.flush()
            self.adaptor.router.wake_touched()  # type: ignore[attr-defined]

    def flush(self) -> None:
        while not self.lost and (chunks := self.adaptor.data_to_send(65536)):
            self.heard += b"".join(chunks)
        if self.adaptor.closed:
            self.lose()

    def lose(self) -> None:
        if not self.lost:
            self.lost = True
            self.adaptor.connection_lost(0.0)


class Application(Adaptor):
    """An application of AMQP, as far as it is needed."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self.session = EndpointSession(router, self, "application")


class Scene:
    """A service and its server's connections."""

    def __init__(self) -> None:
        tokens = itertools.count(1)
        self.router = Router("R", tokens=lambda: f"t{next(tokens)}", instance=1)
        self.near = Http1ListeningService(self.router, "near", "web", self.log, aggregate="")
        self.far = Http1ConnectingService(self.router, "far", "web", self.log)
        self.far.dial = self.dial
        self.ends: list[End] = []
        self.dialled: list[MakeAdaptor] = []
        self.router.wake_touched()

    def log(self, level: str, event: str, **fields: object) -> None:
        pass

    def dial(self, connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...] = ()) -> None:
        self.dialled.append(connected)

    def client(self) -> End:
        return End(self.near.accept(PeerInfo(("192.0.2.1", 1))))

    def run(self) -> None:
        self.router.wake_touched()
        while self.dialled:
            end = End(self.dialled.pop()(PeerInfo(("192.0.2.2", 80))))
            self.ends.append(end)
            end.flush()
            self.router.wake_touched()


def read_requests(heard: bytes) -> None:
    """What the server has heard is requests, the last of them perhaps not whole."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    if heard:
        http.receive_data(heard)
    while (event := http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        if isinstance(event, h11.EndOfMessage):
            if http.their_state is not h11.DONE:
                return
            ahead = http.trailing_data[0]
            http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
            if ahead:
                http.receive_data(ahead)


def read_response(heard: bytes) -> None:
    """What the client has heard begins with a response, perhaps not whole."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    http.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    http.send(h11.EndOfMessage())
    if heard:
        http.receive_data(heard)
    while (event := http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        if isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return


def one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    who, piece, said = data[0] & 3, data[1] or 4096, data[2:]
    scene = Scene()
    client = scene.client()
    if who == 0:
        client.say(said, piece)
        scene.run()
        for end in list(scene.ends):
            read_requests(end.heard)
            end.say(OK, 4096)
            scene.run()
    elif who == 1:
        client.say(GET, 4096)
        scene.run()
        scene.ends[0].say(said, piece)
        scene.run()
        read_response(client.heard)
        if not scene.ends[0].lost:
            scene.ends[0].adaptor.receive_eof(0.0)
            scene.run()
    elif who == 2:
        ask(scene, said, piece)
    else:
        respond(scene, client, said, piece)
        read_response(client.heard)
    client.lose()
    for end in scene.ends:
        end.lose()
    scene.run()
    well_behaved(scene)
    assert not scene.near.exchanges
    assert not scene.near.sent
    assert not scene.far.exchanges
    assert not scene.far.sent
    assert scene.router.budget.held() == 0


def ask(scene: Scene, said: bytes, piece: int) -> None:
    """An application sends this to the service, whole or in pieces."""
    application = Application(scene.router)
    link = application.session.attach_incoming("web", 4)
    if piece >= len(said):
        link.send(said)
    else:
        link.begin(said[:piece])
        for start in range(piece, len(said), piece):
            scene.run()
            link.append(said[start : start + piece], more=start + piece < len(said))
    scene.run()
    for end in scene.ends:
        read_requests(end.heard)
        end.say(OK, 4096)
    scene.run()
    application.session.close()
    scene.run()


def respond(scene: Scene, client: End, said: bytes, piece: int) -> None:
    """An application that receives in the server's place answers with this."""
    scene.far.leave()
    application = Application(scene.router)
    receiver = application.session.attach_outgoing("web", 4)
    link = application.session.attach_incoming(REPLIES, 4)
    scene.run()
    client.say(GET, 4096)
    scene.run()
    request = receiver.take()
    assert request is not None
    receiver.settle(request, ACCEPTED)
    if piece >= len(said):
        link.send(said)
    else:
        link.begin(said[:piece])
        for start in range(piece, len(said), piece):
            scene.run()
            link.append(said[start : start + piece], more=start + piece < len(said))
    scene.run()
    application.session.close()
    scene.run()
    scene.far.offer()


def well_behaved(scene: Scene) -> None:
    """Another client is served."""
    client = scene.client()
    client.say(GET, 4096)
    scene.run()
    end = scene.ends[-1]
    assert b"GET /well" in end.heard
    end.say(OK, 4096)
    scene.run()
    assert client.heard.endswith(b"\r\n\r\nok"), client.heard
    client.lose()
    end.lose()
    scene.run()


main(__name__)
