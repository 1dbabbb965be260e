"""Connections over addresses, from socket to socket: octets, ends, resets, refusals, and what is left behind."""

from __future__ import annotations

import pytest

from tests.adaptors.tcp.flows import CLIENT, Flows
from van.adaptors.service import PeerInfo
from van.adaptors.stream_window import WINDOW


@pytest.fixture(params=[(1, 0), (2, 0), (3, 0), (2, 7)], ids=["one", "two", "three", "two, in pieces"])
def scene(request: pytest.FixtureRequest) -> Flows:
    routers, piece = request.param
    return Flows(routers, piece=piece)


def test_octets_go_both_ways_and_each_end_is_passed_on(scene: Flows) -> None:
    client, server = scene.pair()
    client.send(b"hello")
    assert server.received == b"hello"
    server.send(b"good day")
    assert client.received == b"good day"
    client.end()
    assert (client.ended, server.ended) == (False, True)
    server.send(b"more")
    assert client.received == b"good daymore"
    server.end()
    assert client.ended
    assert (client.lost, client.reset, server.lost, server.reset) == (True, False, True, False)
    scene.close()


def test_the_server_may_end_first(scene: Flows) -> None:
    client, server = scene.pair()
    server.send(b"greeting")
    server.end()
    assert client.received == b"greeting"
    assert client.ended
    assert not client.lost
    client.send(b"late")
    assert server.received == b"late"
    client.end()
    assert (client.lost, client.reset, server.lost, server.reset) == (True, False, True, False)
    scene.close()


def test_large_amounts_both_ways() -> None:
    scene = Flows(2)
    client, server = scene.pair()
    data = bytes(range(256)) * 4096 * 5
    client.send(data)
    client.end()
    assert server.received == data
    server.send(data)
    server.end()
    assert client.received == data
    scene.close()


@pytest.mark.parametrize("routers", [1, 2, 3])
def test_a_reader_that_stops_stops_the_writer(routers: int) -> None:
    scene = Flows(routers)
    for writer, reader in (scene.pair(), scene.pair()[::-1]):
        reader.stuck = True
        writer.send(b"x" * 4 * WINDOW)
        taken = 4 * WINDOW - writer.waiting
        assert WINDOW // 2 <= taken <= WINDOW
        assert scene.held() <= WINDOW
        reader.release()
        assert writer.waiting == 0
        assert len(reader.received) == 4 * WINDOW
        writer.end()
        reader.end()
        assert not writer.reset
    scene.close()


def test_a_reset_of_either_end_resets_the_other(scene: Flows) -> None:
    for breaks in (0, 1):
        ends = scene.pair()
        ends[0].send(b"half")
        ends[1].send(b"half")
        ends[breaks].break_off()
        assert ends[1 - breaks].lost
        assert ends[1 - breaks].reset
        assert ends[1 - breaks].received == b"half"
    scene.close()


def test_a_reset_behind_the_end_of_the_other_direction(scene: Flows) -> None:
    for breaks in (0, 1):
        ends = scene.pair()
        other = ends[1 - breaks]
        other.end()
        assert ends[breaks].ended
        ends[breaks].send(b"half")
        ends[breaks].break_off()
        assert other.lost
        assert other.reset
    scene.close()


def test_a_server_that_refuses_is_a_reset_for_the_client(scene: Flows) -> None:
    (server,) = scene.servers
    server.refuses = True
    client = scene.client()
    assert client.lost
    assert client.reset
    line = scene.lines_of("no connection to the server")[0]
    assert line["reason"] == "connection refused"
    (line,) = scene.lines_of("connection came to nothing")
    assert line["reason"] == "no connection to a server: failed"
    server.refuses = False
    client, socket = scene.pair()
    client.send(b"x")
    assert socket.received == b"x"
    client.end()
    socket.end()
    scene.close()


def test_nobody_behind_the_address(scene: Flows) -> None:
    scene.servers[0].service.stop()
    scene.advance(2)
    assert not scene.listening.reachable
    client = scene.client()
    assert client.lost
    assert client.reset
    (line,) = scene.lines_of("connection came to nothing")
    assert line["reason"] == "nobody receives at the address"
    assert line["address"] == "svc.echo"
    assert line["peer"] == "192.0.2.1:50000"
    scene.close()


def test_a_client_that_goes_while_the_server_is_dialled(scene: Flows) -> None:
    (server,) = scene.servers
    server.slow = True
    client = scene.client()
    client.break_off()
    server.slow = False
    scene.run()
    assert all(socket.lost for socket in server.sockets)
    server.slow = server.refuses = True
    scene.client().break_off()
    server.slow = False
    scene.run()
    scene.close()


def test_a_service_that_stops_takes_no_more_and_its_connections_live_on(scene: Flows) -> None:
    client, server = scene.pair()
    scene.servers[0].slow = True
    other = scene.client()
    scene.servers[0].service.stop()
    scene.advance(2)
    assert scene.client().reset
    scene.servers[0].slow = False
    scene.advance(2)
    client.send(b"question")
    assert server.received == b"question"
    for socket in (server, other):
        socket.adaptor.close("amqp:connection:forced", "the service was removed")
        socket.flush()
    scene.run()
    for socket in (client, server, other, *scene.servers[0].sockets):
        assert socket.lost
        assert socket.reset
    scene.close()


@pytest.mark.parametrize("routers", [2, 3])
def test_a_connection_between_routers_is_lost(routers: int) -> None:
    scene = Flows(routers)
    client, server = scene.pair()
    client.send(b"half")
    server.send(b"half")
    scene.lines[0].cut()
    scene.run()
    for socket in (client, server):
        assert socket.lost
        assert socket.reset
    scene.close()


def test_connections_are_balanced_over_the_servers() -> None:
    scene = Flows(3)
    scene.server(scene.nodes[-1])
    scene.server(scene.nodes[-1])
    clients = [scene.client() for _ in range(9)]
    assert [len(server.sockets) for server in scene.servers] == [3, 3, 3]
    for client in clients:
        client.end()
    for server in scene.servers:
        for socket in server.sockets:
            socket.end()
    scene.close()


def test_a_connection_in_which_nothing_moves_is_given_up() -> None:
    scene = Flows(2, listen={"idle_timeout": 8.0})
    client, server = scene.pair()
    adaptor = client.adaptor
    for _ in range(5):
        now = adaptor.next_deadline()
        adaptor.handle_deadline(now)
        client.flush()
        assert not client.lost
        server.send(b"x")
    deadlines = 0
    while not client.lost:
        adaptor.handle_deadline(adaptor.next_deadline())
        client.flush()
        deadlines += 1
    assert deadlines == 5
    assert client.reset
    scene.run()
    assert server.reset
    scene.close()


def test_what_a_client_has_agreed_upon_by_tls_is_offered_to_the_server() -> None:
    scene = Flows(2)
    client = scene.client(PeerInfo(CLIENT.peer, CLIENT.local, encrypted=True, alpn="h2"))
    assert scene.servers[0].offers == [("h2",)]
    client.break_off()
    scene.close()


@pytest.mark.parametrize("pieces", [1, 1000])
@pytest.mark.parametrize(("accepted", "passed_on"), [(1, 2), (2, 1)])
def test_the_client_is_named_by_the_proxy_protocol_at_both_ends(accepted: int, passed_on: int, pieces: int) -> None:
    from van.adaptors.tcp.proxy_protocol import proxy_header

    scene = Flows(2, listen={"proxy_protocol": True}, connect={"proxy_protocol": passed_on})
    client = scene.client()
    places = ("198.51.100.7", 1234), ("203.0.113.9", 443)
    octets = proxy_header(accepted, *places) + b"hello"
    assert not client.adaptor.opened
    for start in range(0, len(octets), pieces):
        client.send(octets[start : start + pieces])
    (server,) = scene.servers[0].sockets
    assert server.received == proxy_header(passed_on, *places) + b"hello"
    large = b"x" * 3 * WINDOW
    client.send(large)
    assert server.received.endswith(large)
    client.end()
    server.end()
    scene.close()


def test_a_header_that_is_expected_and_does_not_come() -> None:
    scene = Flows(2, listen={"proxy_protocol": True})
    client = scene.client()
    client.send(b"GET / HTTP/1.1\r\n")
    assert client.lost
    assert client.reset
    (line,) = scene.lines_of("connection came to nothing")
    assert line["reason"] == "no header of the PROXY protocol"
    silent = scene.client()
    silent.end()
    assert silent.lost
    assert not scene.servers[0].sockets
    scene.close()


def test_a_port_scan_is_one_line_of_the_log_a_second() -> None:
    scene = Flows(2)
    scene.servers[0].refuses = True
    for _ in range(5):
        scene.client()
    assert len(scene.lines_of("connection came to nothing")) == 1
    scene.advance(2)
    scene.client()
    assert scene.lines_of("connection came to nothing")[-1]["similar_before"] == 4
    scene.close()


@pytest.mark.parametrize("where", [(1, 1), (0, 1), (1, 2), (0, 2)])
def test_a_server_that_has_died_is_passed_over_until_it_is_back(where: tuple[int, int]) -> None:
    scene = Flows(3)
    for server in scene.servers:
        server.service.stop()
    dead, alive = scene.server(scene.nodes[where[0]]), scene.server(scene.nodes[where[1]])
    dead.refuses = True
    clients = [scene.client() for _ in range(6)]
    assert [client.lost for client in clients] == [False] * 6
    assert len(alive.sockets) == 6
    for refuses in (True, False):
        dead.refuses = refuses
        scene.advance(5)
        assert dead.service.aside == refuses
    assert len(scene.lines_of("server can be reached again")) == 1
    dead.refuses = True
    alive.refuses = True
    assert scene.client().reset
    dead.refuses = alive.refuses = False
    scene.advance(2)
    clients.append(scene.client())
    assert not clients[-1].lost
    for client in clients:
        client.end()
    for socket in (*dead.sockets, *alive.sockets):
        socket.end()
    scene.close()
