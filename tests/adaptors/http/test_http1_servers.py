"""Servers that die, refuse, are slow or talk nonsense: who asks is told, and what can safely go elsewhere does."""

from __future__ import annotations

import pytest

from tests.adaptors.http.http1_ends import Scene, Server
from tests.adaptors.http.test_http1 import GET, OK, body_of, exchange
from van.adaptors.http.http1_far import IDLE_TIMEOUT

POST = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"


def takes_requests(server: Server) -> bool:
    return server.receiver is not None


@pytest.fixture(params=[1, 3])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


def test_without_a_server_the_client_is_told_so(scene: Scene) -> None:
    scene.server.stop()
    scene.network.advance(2)
    client = scene.client()
    for _ in range(2):
        client.say(GET)
        answered = client.take()
        assert answered.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert body_of(answered) == b"no server receives requests for web\n"
    assert not client.eof
    scene.close()


def test_a_client_that_waits_for_100_hears_at_once_that_there_is_no_server(scene: Scene) -> None:
    scene.server.stop()
    scene.network.advance(2)
    client = scene.client()
    client.say(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 503 ")
    assert client.eof
    scene.close()


@pytest.mark.parametrize("request_", [GET, POST])
def test_a_server_that_cannot_be_reached_leaves_requests_to_others(scene: Scene, request_: bytes) -> None:
    server = scene.server
    server.up = False
    client = scene.client()
    client.say(request_)
    server.go()
    scene.network.advance(2)
    assert client.take().startswith(b"HTTP/1.1 503 ")
    assert scene.nodes[-1].lines("http server not reached")
    # It is tried again and again, ever more seldom.
    assert [server.wait_over() for _ in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    server.up = True
    server.wait_over()
    scene.network.advance(2)
    assert body_of(exchange(scene, client, request_)[1]) == b"hello"
    scene.close()


def test_a_request_goes_to_a_server_that_can_be_reached() -> None:
    scene = Scene(servers=2)
    bad, good = scene.servers
    bad.up = False
    client = scene.client()
    for _ in range(4):
        client.say(GET)
        bad.go()
        good.end().say(OK)
        assert body_of(client.take()) == b"hello"
    scene.close()


@pytest.mark.parametrize("dies", [True, False], ids=["dies", "goes"])
def test_a_server_whose_connections_live_on_leaves_requests_to_others(dies: bool) -> None:
    """One of them was upgraded and its client has not closed it, or the server ends what it has and takes no more."""
    scene = Scene(servers=2)
    bad, good = scene.servers
    first = scene.client()
    if dies:
        first.say(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        bad.end().say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    else:
        first.say(GET)
    old = bad.end()
    assert first.take().startswith(b"HTTP/1.1 101 ") is dies
    bad.up = False
    if dies:
        old.end()
        assert first.eof
    assert bad.connections == 1
    clients = [scene.client() for _ in range(4)]
    for client in clients:
        client.say(POST)
    bad.go()
    good.end()
    for end in good.ends:
        end.say(OK)
    assert [body_of(client.take()) for client in clients] == [b"hello"] * 4
    assert not takes_requests(bad)
    bad.up = True
    bad.wait_over()
    assert takes_requests(bad)
    scene.close()


def test_a_server_that_takes_no_more_connections_takes_requests_by_those_it_has() -> None:
    scene = Scene()
    first, second = scene.client(), scene.client()
    first.say(GET)
    old = scene.server.end()
    scene.server.up = False
    second.say(POST)
    scene.server.go()
    assert not takes_requests(scene.server)
    assert second.take().startswith(b"HTTP/1.1 503 ")
    old.say(OK)
    assert body_of(first.take()) == b"hello"
    assert takes_requests(scene.server)
    first.say(GET)
    old.say(OK)
    assert body_of(first.take()) == b"hello"
    scene.close()


def test_requests_are_balanced_one_by_one() -> None:
    scene = Scene(servers=2)
    client = scene.client()
    for _ in range(10):
        client.say(GET)
        for server in scene.servers:
            server.go()
            for end in server.ends:
                if end.take():
                    end.say(OK)
        assert body_of(client.take()) == b"hello"
    assert [server.requests for server in scene.servers] == [5, 5]
    scene.close()


def test_what_may_not_be_repeated_is_not_when_the_server_dies(scene: Scene) -> None:
    client = scene.client()
    client.say(POST)
    scene.server.end().cut()
    answered = client.take()
    assert answered.startswith(b"HTTP/1.1 502 ")
    assert body_of(answered) == b"the connection to the server was lost\n"
    assert not client.eof
    assert body_of(exchange(scene, client)[1]) == b"hello"
    scene.close()


@pytest.mark.parametrize("dies", ["cut", "end"])
def test_what_may_be_repeated_goes_to_another_server(scene: Scene, dies: str) -> None:
    client = scene.client()
    client.say(GET)
    end = scene.server.end()
    getattr(end, dies)()
    assert client.take() == b""
    again = scene.server.end()
    assert again is not end
    again.say(OK)
    assert body_of(client.take()) == b"hello"
    scene.close()


def test_a_server_that_always_dies_is_not_asked_for_ever(scene: Scene) -> None:
    client = scene.client()
    client.say(GET)
    for _ in range(20):
        if client.heard:
            break
        scene.server.end().end()
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert len(scene.server.ends) == 5
    scene.close()


def test_a_connection_that_was_just_being_closed_costs_no_answer(scene: Scene) -> None:
    client = scene.client()
    exchange(scene, client)
    old = scene.server.ends[0]
    client.say(GET)
    assert old.take()
    old.end()
    new = scene.server.end()
    assert new is not old
    new.say(OK)
    assert body_of(client.take()) == b"hello"
    scene.close()


def test_a_connection_that_ends_gets_no_request_any_more(scene: Scene) -> None:
    client = scene.client()
    exchange(scene, client)
    old = scene.server.ends[0]
    # Its end is known, and has not been dealt with.
    old.adaptor.receive_eof(scene.network.now)
    client.say(POST)
    scene.server.end().say(OK)
    assert body_of(client.take()) == b"hello"
    scene.close()


def test_what_may_not_be_repeated_gets_a_fresh_connection(scene: Scene) -> None:
    client = scene.client()
    exchange(scene, client)
    scene.network.advance(IDLE_TIMEOUT - 1)
    exchange(scene, client, POST)
    exchange(scene, client, POST)
    assert len(scene.server.ends) == 2
    scene.close()


@pytest.mark.parametrize("dies", ["cut", "end"])
@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_a_response_that_breaks_off_is_seen_to(scene: Scene, dies: str, framing: bytes) -> None:
    client = scene.client()
    other = scene.client()
    client.say(GET)
    end = scene.server.end()
    body = b"5\r\nhello\r\n" if b"chunked" in framing else b"hello"
    end.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body)
    assert client.take().endswith(body)
    getattr(end, dies)()
    assert client.take() == b""
    assert client.lost
    assert body_of(exchange(scene, other)[1]) == b"hello"
    scene.close()


def test_a_response_to_http_1_0_that_breaks_off_resets_the_connection(scene: Scene) -> None:
    client = scene.client()
    client.say(b"GET / HTTP/1.0\r\n\r\n")
    end = scene.server.end()
    end.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    end.cut()
    assert client.lost
    assert client.adaptor.resets
    scene.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ],
)
def test_a_server_that_talks_nonsense(nonsense: bytes) -> None:
    scene = Scene()
    client = scene.client()
    client.say(POST)
    end = scene.server.end()
    end.say(nonsense)
    end.end()
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert end.lost
    assert body_of(exchange(scene, client)[1]) == b"hello"
    scene.close()


def test_a_server_that_says_more_than_it_was_asked_for_is_left() -> None:
    scene = Scene()
    client = scene.client()
    assert body_of(exchange(scene, client, response=OK + OK)[1]) == b"hello"
    assert scene.server.ends[0].lost
    exchange(scene, client)
    scene.server.ends[1].say(OK)
    assert scene.server.ends[1].lost
    assert body_of(exchange(scene, client)[1]) == b"hello"
    scene.close()


def test_a_server_that_does_not_answer_in_time(scene: Scene) -> None:
    scene.service.timeout = 5
    client = scene.client()
    client.say(GET)
    end = scene.server.end()
    scene.network.advance(6)
    answered = client.take()
    assert answered.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    assert body_of(answered) == b"no response from a server of web in 5 seconds\n"
    # It need not go on.
    assert end.lost
    assert body_of(exchange(scene, client)[1]) == b"hello"
    scene.close()


@pytest.mark.parametrize("answered", [False, True])
def test_a_client_that_goes_is_heard_of_at_the_server(scene: Scene, answered: bool) -> None:
    client = scene.client()
    client.say(GET)
    end = scene.server.end()
    if answered:
        end.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    client.cut()
    scene.network.run()
    assert end.lost
    scene.close()


def test_a_client_that_goes_in_the_middle_of_its_request(scene: Scene) -> None:
    for leave in ("cut", "end"):
        client = scene.client()
        client.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello")
        end = scene.server.end()
        assert end.take().endswith(b"hello")
        getattr(client, leave)()
        assert client.lost
        assert end.lost
    scene.close()


def test_a_client_that_has_said_all_may_end_its_side(scene: Scene) -> None:
    client = scene.client()
    client.say(GET)
    client.end()
    scene.server.end().say(OK)
    assert body_of(client.take()) == b"hello"
    assert client.lost
    scene.close()


def test_a_response_before_the_end_of_the_request(scene: Scene) -> None:
    client = scene.client()
    client.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello")
    end = scene.server.end()
    end.say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
    assert body_of(client.take()) == b"no"
    assert end.lost
    assert client.eof
    client.say(b"world")
    client.end()
    assert client.lost
    scene.close()


def test_no_more_connections_to_a_server_than_it_may_have(scene: Scene) -> None:
    scene.server.max_connections = 2
    clients = [scene.client() for _ in range(5)]
    for client in clients:
        client.say(GET)
    scene.server.go()
    assert len(scene.server.ends) == 2
    for turn in range(5):
        end = next(end for end in scene.server.ends if end.take())
        end.say(OK)
        assert sum(b"hello" in client.heard for client in clients) == turn + 1
    assert len(scene.server.ends) == 2
    scene.close()


def test_a_service_that_stops_ends_what_is_under_way(scene: Scene) -> None:
    client = scene.client()
    client.say(GET)
    end = scene.server.end()
    scene.server.stop()
    scene.network.advance(2)
    end.say(OK)
    assert body_of(client.take()) == b"hello"
    assert end.lost
    client.say(GET)
    assert client.take().startswith(b"HTTP/1.1 503 ")
    scene.close()


def test_a_port_that_stops_answers_what_is_under_way(scene: Scene) -> None:
    idle, client = scene.client(), scene.client()
    client.say(GET)
    end = scene.server.end()
    scene.service.stop()
    scene.network.advance(2)
    assert idle.lost
    end.say(OK)
    answered = client.take()
    assert b"connection: close" in answered
    assert body_of(answered) == b"hello"
    assert client.eof
    client.end()
    scene.close()


@pytest.mark.parametrize("who", ["client", "server"])
def test_connections_that_are_asked_to_end(scene: Scene, who: str) -> None:
    idle, client = scene.client(), scene.client()
    client.say(GET)
    end = scene.server.end()
    for one in [idle, client] if who == "client" else [end]:
        one.adaptor.close("amqp:connection:forced", "bye")
        one.adaptor.on_wake()
    end.say(OK)
    assert body_of(client.take()) == b"hello"
    assert (idle.lost, client.eof) == ((True, True) if who == "client" else (False, False))
    assert end.lost == (who == "server")
    scene.close()
