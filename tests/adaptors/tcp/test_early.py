"""What a client says before its server is there, and what connections leave to those behind them."""

from __future__ import annotations

import pytest

from tests.adaptors.tcp.flows import ADDRESS, Flows, Server
from van.adaptors.tcp.connecting import ConnectingFlow, TcpConnectingService
from van.adaptors.tcp.head import server_head
from van.adaptors.tcp.listening import EARLY_READ, TcpListeningService
from van.routing.budget import payload_limit
from van.routing.endpoint import MAX_RESTING


@pytest.fixture(params=[(1, 0), (2, 0), (3, 0), (2, 7)], ids=["one", "two", "three", "two, in pieces"])
def scene(request: pytest.FixtureRequest) -> Flows:
    routers, piece = request.param
    return Flows(routers, piece=piece)


def finish(scene: Flows) -> None:
    """End what is open on both sides."""
    for socket in (*scene.sockets, *(socket for server in scene.servers for socket in server.sockets)):
        socket.end()


def test_what_a_client_says_goes_along_and_little_of_it_is_read(scene: Flows) -> None:
    (server,) = scene.servers
    server.slow = True
    client = scene.client()
    words = bytes(range(256)) * 1024
    client.send(words)
    assert EARLY_READ <= len(words) - client.waiting < 2 * EARLY_READ
    server.slow = False
    scene.run()
    assert server.sockets[0].received == words
    finish(scene)
    scene.close()


def test_it_is_at_the_server_s_router_when_the_server_is_connected() -> None:
    scene = Flows(2)
    (server,) = scene.servers
    server.slow = True
    scene.client().send(b"early")
    scene.lines[0].cut_off = True
    server.slow = False
    scene.run()
    assert server.sockets[0].received == b"early"


def test_a_client_that_has_said_all_before_the_server_is_there(scene: Flows) -> None:
    (server,) = scene.servers
    server.slow = True
    clients = [scene.client(), scene.client()]
    clients[0].send(b"all")
    for client in clients:
        client.end()
        assert not client.lost
    server.slow = False
    scene.run()
    assert [(socket.received, socket.ended) for socket in server.sockets] == [(b"all", True), (b"", True)]
    server.sockets[0].send(b"answer")
    assert clients[0].received == b"answer"
    finish(scene)
    assert not any(client.reset for client in clients)
    scene.close()


@pytest.mark.parametrize("routers", [1, 2, 3])
def test_another_server_gets_it_when_the_first_refuses(routers: int) -> None:
    scene = Flows(routers)
    scene.server(scene.nodes[-1])
    for server in scene.servers:
        server.slow = True
    clients = [scene.client(), scene.client()]
    for client in clients:
        client.send(b"early")
    dead, alive = scene.servers
    dead.refuses = True
    for server in scene.servers:
        server.slow = False
    scene.run()
    assert [socket.received for socket in alive.sockets] == [b"early", b"early"]
    for client in clients:
        client.send(b" and late")
    assert [socket.received for socket in alive.sockets] == [b"early and late", b"early and late"]
    finish(scene)
    scene.close()


@pytest.mark.parametrize("words", [b"", b"early"])
def test_what_a_server_may_have_had_goes_to_no_other(words: bytes) -> None:
    """The router of the server is lost: whether it was connected is not known here."""
    scene = Flows(3)
    scene.servers[0].service.stop()
    far, near = scene.server(scene.nodes[2]), scene.server(scene.nodes[1])
    far.slow = True
    clients = [scene.client() for _ in range(6)]
    gone = len(far.waiting)
    assert 0 < gone < len(clients)
    for client in clients:
        client.send(words)
    scene.lines[1].cut()
    scene.run()
    assert [client.lost for client in clients].count(True) == (gone if words else 0)
    assert len(near.sockets) == len(clients) - (gone if words else 0)
    far.slow = False
    scene.run()
    finish(scene)
    scene.close()


def test_sessions_and_their_links_serve_one_connection_after_another(scene: Flows) -> None:
    router = scene.nodes[0].router
    seen = set()
    for number in range(40):
        client, server = scene.pair()
        (reply,) = [key for key, address in router.addresses.items() if "temp." in key and address.outgoing]
        seen.add(reply)
        words = b"question %d" % number
        client.send(words)
        server.send(words)
        assert (client.received, server.received) == (words, words)
        for socket in (client, server)[:: 1 if number % 2 else -1]:
            socket.end()
        assert (client.reset, server.reset) == (False, False)
        # The look-out of the service, and one session or two.
        assert len(router.addresses["M" + ADDRESS].incoming) <= 3
    # What somebody still sends to the last client finds nobody.
    assert len(seen) == 40
    assert not [key for key in router.addresses if "temp." in key]
    assert scene.held() == 0
    scene.close()


def test_as_many_sessions_are_kept_as_connections_may_soon_want() -> None:
    scene = Flows(2)
    clients = [scene.client() for _ in range(2 * MAX_RESTING)]
    for ends in zip(clients, scene.servers[0].sockets, strict=True):
        for socket in ends:
            socket.end()
    services = (scene.listening, scene.servers[0].service)
    assert [len(service.sessions()) for service in services] == [1 + MAX_RESTING] * 2
    assert [len(session.owners) for session in scene.listening.resting.sessions()] == [2] * MAX_RESTING
    scene.close()
    assert [len(service.resting.sessions()) for service in services] == [0, 0]


def test_connections_that_broke_leave_nothing_to_others(scene: Flows) -> None:
    for breaks in (0, 1):
        ends = scene.pair()
        ends[0].send(b"half")
        ends[breaks].break_off()
    assert not scene.listening.resting.sessions()
    assert not scene.servers[0].service.resting.sessions()
    scene.close()


def test_a_session_whose_last_words_have_no_answer_yet_is_not_taken() -> None:
    scene = Flows(2)
    client, server = scene.pair()
    client.end()
    scene.lines[0].cut_off = True
    server.end()
    service = scene.servers[0].service
    (session,) = service.resting.sessions()
    assert session.unsettled_in
    assert service.resting.take(service) is None
    scene.lines[0].cut_off = False
    scene.run()
    assert not session.unsettled_in
    assert service.resting.take(service) is session
    service.resting.put(session)
    scene.close()


def test_a_session_that_rests_while_nobody_receives_is_not_taken() -> None:
    scene = Flows(2)
    for socket in scene.pair():
        socket.end()
    assert len(scene.listening.resting.sessions()) == 1
    scene.servers[0].service.stop()
    scene.advance(2)
    assert scene.client().reset
    (line,) = scene.lines_of("connection came to nothing")
    assert line["reason"] == "nobody receives at the address"
    scene.server(scene.nodes[-1])
    client, server = scene.pair()
    client.send(b"again")
    assert server.received == b"again"
    finish(scene)
    scene.close()


def test_a_late_answer_is_nobody_s() -> None:
    """Two servers have the connection, and one answers when the client has gone and another has taken its session."""
    scene = Flows(2)
    (server,) = scene.servers
    client, socket = scene.pair()
    flow = socket.adaptor
    assert isinstance(flow, ConnectingFlow)
    assert flow.head is not None
    reply_to = flow.head.reply_to
    for end in (client, socket):
        end.end()
    server.slow = True
    sender = scene.nodes[0].client().sender(reply_to)
    other = scene.client()
    sender.send(server_head(reply_to) + b"too late")
    scene.run()
    server.slow = False
    scene.run()
    server.sockets[-1].send(b"in time")
    assert other.received == b"in time"
    finish(scene)


def test_sessions_whose_address_was_not_to_be_had_serve_again() -> None:
    """The server goes while connections live, which then end in order; then another one comes."""
    scene = Flows(2)
    clients = [scene.client() for _ in range(MAX_RESTING)]
    first = scene.servers[0]
    first.service.stop()
    scene.advance(2)
    for ends in zip(clients, first.sockets, strict=True):
        for socket in ends:
            socket.end()
    second = scene.server(scene.nodes[-1])
    for _ in range(2 * MAX_RESTING):
        for socket in (scene.client(), second.sockets[-1]):
            socket.end()
    resting = scene.listening.resting.sessions()
    assert len(resting) == MAX_RESTING
    assert all(session.incoming is not None and session.incoming.link_credit > 0 for session in resting)
    scene.close()


def test_sessions_that_rest_have_no_part_in_the_budget() -> None:
    scene = Flows(1)
    router = scene.nodes[0].router
    budget = router.budget
    budget.limit = payload_limit(64 * 1024 * 1024)
    ends = []
    for number in range(6):
        listening = TcpListeningService(router, f"in{number}", f"a{number}", scene.nodes[0].log)
        connecting = TcpConnectingService(router, f"out{number}", f"a{number}", scene.nodes[0].log)
        ends.append((listening, Server(scene, scene.nodes[0], connecting)))
    scene.advance(60)
    budget.recount()
    before = (budget.frame_size(), budget.spoken_for())
    for scene.listening, server in ends:
        scene.servers = [server]
        scene.sockets = []
        for client in [scene.client() for _ in range(2 * MAX_RESTING)]:
            client.send(b"x")
        finish(scene)
    budget.recount()
    assert (budget.frame_size(), budget.spoken_for()) == before
    assert budget.resting == 6 * 2 * MAX_RESTING
    for listening, server in ends:
        listening.stop()
        server.service.stop()
    assert budget.resting == 0


def test_what_an_address_has_carried_is_never_less_than_before() -> None:
    scene = Flows(2)
    address = scene.nodes[0].router.addresses["M" + ADDRESS]
    seen = []
    for _ in range(4):
        ends = scene.pair()
        for socket in ends:
            socket.end()
            seen.append(address.past_ingress + sum(link.link.deliveries() for link in address.incoming))
    assert seen == [1, 1, 2, 2, 3, 3, 4, 4]


def test_links_that_rest_are_told_apart() -> None:
    scene = Flows(2)
    clients = [scene.client() for _ in range(4)]
    for ends in zip(clients, scene.servers[0].sockets, strict=True):
        for socket in ends:
            socket.end()
    sessions = scene.listening.sessions()
    identities = [(session.local_channel, link.handle) for session in sessions for link in session.owners]
    assert len(identities) == 9
    assert len(set(identities)) == 9
