"""Requests of HTTP/2 through one to three routers: from a foreign client to foreign servers, stream by stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from h2.errors import ErrorCodes

from tests.adaptors.http.http2_ends import GET, OK, POST
from tests.adaptors.http.http2_scene import End, Scene
from van.adaptors.http.http2_limits import KEEPALIVE, OPEN_TIMEOUT, PING_TIMEOUT, STREAM_WINDOW
from van.adaptors.http.http2_service import LAST_RETRY, MAX_CONNECTIONS
from van.adaptors.service import PeerInfo
from van.adaptors.stream_window import WINDOW


@pytest.fixture(params=[(1, 0), (2, 0), (3, 0), (1, 1)], ids=["one", "two", "three", "octets"])
def scene(request: pytest.FixtureRequest) -> Scene:
    routers, piece = request.param
    return Scene(routers, piece=piece)


def test_a_request_and_its_answer(scene: Scene) -> None:
    call = scene.client.ask([*GET, (b"accept", b"*/*"), (b"cookie", b"a=b"), (b"cookie", b"c=d")])
    scene.run()
    (request,) = scene.server.requests
    assert request.field(b":method") == b"GET"
    assert request.field(b":path") == b"/"
    assert request.field(b":authority") == b"here"
    assert request.field(b"accept") == b"*/*"
    assert request.field(b"cookie") == b"a=b; c=d"
    assert request.field(b"forwarded") == b'for=192.0.2.7;proto=http;host="here"'
    assert request.ended
    request.answer([*OK, (b"content-type", b"text/plain")], b"hello")
    scene.run()
    assert call.head == [*OK, (b"content-type", b"text/plain")]
    assert call.body == b"hello"
    assert call.ended
    scene.close()


def test_bodies_as_they_come_and_trailers_both_ways(scene: Scene) -> None:
    call = scene.client.ask([*POST, (b"te", b"trailers")], ended=False)
    scene.run()
    call.send(b"one")
    scene.run()
    (request,) = scene.server.requests
    assert (request.body, request.ended) == (b"one", False)
    assert request.field(b"te") == b"trailers"
    request.end.h2.send_headers(request.number, OK)
    request.send(b"ONE")
    scene.run()
    assert (call.status, call.body, call.ended) == (200, b"ONE", False)
    call.send(b"two", end=[(b"sum", b"6")])
    scene.run()
    assert (request.body, request.trailers, request.ended) == (b"onetwo", [(b"sum", b"6")], True)
    request.send(b"TWO", end=[(b"grpc-status", b"0")])
    scene.run()
    assert (call.body, call.trailers, call.ended) == (b"ONETWO", [(b"grpc-status", b"0")], True)
    scene.close()


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 131072, 131073, 1_000_000, 3_000_000])
def test_bodies_of_any_size(size: int) -> None:
    scene = Scene(2)
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    call = scene.client.ask(POST, ended=False).send(body, end=[])
    scene.run()
    (request,) = scene.server.requests
    assert request.body == body
    assert request.ended
    request.answer(OK, body, [(b"digest", b"1")])
    scene.run()
    assert call.body == body
    assert call.trailers == [(b"digest", b"1")]
    scene.close()


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(status: int) -> None:
    scene = Scene()
    call = scene.client.ask()
    scene.run()
    scene.server.requests[0].answer([(b":status", b"%d" % status), (b"etag", b"x")])
    scene.run()
    assert (call.status, call.body, call.ended) == (status, b"", True)
    scene.close()


def test_each_stream_of_a_connection_goes_to_a_server_of_its_own() -> None:
    scene = Scene(2, servers=2)
    for _ in range(10):
        scene.client.ask()
    scene.run()
    assert [len(server.requests) for server in scene.servers] == [5, 5]
    # All over one connection each.
    assert [len(server.lines) for server in scene.servers] == [1, 1]
    for server in scene.servers:
        for request in server.requests:
            request.answer(OK, b"from " + server.service.name.encode())
    scene.run()
    answers = [call.body for call in scene.client.requests]
    assert sorted(set(answers)) == [b"from server0", b"from server1"]
    scene.close()


def test_streams_of_many_clients_share_few_connections() -> None:
    scene = Scene()
    clients = [scene.connect() for _ in range(3)]
    for client in clients:
        for _ in range(60):
            client.ask()
    scene.run()
    # h2 as a server takes 100 streams on a connection.
    assert [len(line.requests) for line in scene.server.lines] == [100, 80]
    for request in scene.server.requests:
        request.answer(OK, b"x")
    scene.run()
    assert all(call.ended for client in clients for call in client.requests)
    scene.close()


def test_requests_beyond_what_the_server_takes_wait() -> None:
    scene = Scene()
    clients = [scene.connect() for _ in range(6)]
    for client in clients:
        for _ in range(100):
            client.ask()
    scene.run()
    # h2 as a server takes 100 streams on a connection.
    assert len(scene.server.requests) == 100 * MAX_CONNECTIONS
    assert len(scene.server.lines) == MAX_CONNECTIONS
    while scene.server.open:
        for request in scene.server.open:
            request.answer(OK, b"x")
            request.head.append((b":status", b"200"))
        scene.run()
    assert all(call.ended for client in clients for call in client.requests)
    scene.close()


def test_long_answers_hold_no_others_up() -> None:
    scene = Scene(2, connecting={"max_connections": 20})
    clients = [scene.connect() for _ in range(4)]
    for client in clients:
        for _ in range(100):
            client.ask()
        scene.run()
    assert len(scene.server.requests) == 400
    for request in scene.server.requests:
        request.end.h2.send_headers(request.number, OK)
        request.send(b"first")
    scene.run()
    assert all(call.body == b"first" for client in clients for call in client.requests)
    call = scene.client.ask()
    scene.run()
    scene.server.requests[-1].answer(OK, b"fine")
    scene.run()
    assert call.body == b"fine"
    for request in scene.server.requests[:-1]:
        request.send(end=[])
    scene.run()
    scene.close()


def test_the_client_gives_up(scene: Scene) -> None:
    early = scene.client.ask()
    late = scene.client.ask(POST, ended=False)
    late.send(b"x")
    scene.run()
    one, other = scene.server.requests
    other.end.h2.send_headers(other.number, OK)
    scene.run()
    early.cancel()
    late.cancel()
    scene.run()
    assert one.reset == other.reset == ErrorCodes.CANCEL
    scene.close()


def test_the_client_goes(scene: Scene) -> None:
    scene.client.ask(POST, ended=False).send(b"x")
    scene.run()
    scene.client.lose(eof=True)
    scene.run()
    assert scene.server.requests[0].reset == ErrorCodes.CANCEL
    scene.close()


def test_no_server_is_503() -> None:
    scene = Scene(2, servers=0)
    call = scene.client.ask()
    scene.run()
    assert call.status == 503
    assert call.body == b"no server receives requests for web\n"
    assert call.ended
    scene.close()


def test_a_server_that_cannot_be_reached_is_503() -> None:
    scene = Scene(2)
    scene.server.refusing = "127.0.0.1:80: connection refused"
    call = scene.client.ask()
    scene.advance(1.0)
    assert call.status == 503
    assert scene.logged("http server not reached")[0]["reason"] == "127.0.0.1:80: connection refused"
    scene.close()


def test_the_server_resets_one_stream_before_and_one_after_it_has_answered() -> None:
    scene = Scene(2)
    before, after, other = scene.client.ask(POST), scene.client.ask(), scene.client.ask()
    scene.run()
    requests = scene.server.requests
    requests[0].cancel(ErrorCodes.INTERNAL_ERROR)
    requests[1].end.h2.send_headers(requests[1].number, OK)
    requests[1].send(b"some")
    scene.run()
    requests[1].cancel(ErrorCodes.INTERNAL_ERROR)
    requests[2].answer(OK, b"fine")
    scene.run()
    assert before.status == 502
    assert b"INTERNAL_ERROR" in before.body
    assert (after.status, after.body, after.reset) == (200, b"some", ErrorCodes.INTERNAL_ERROR)
    assert other.body == b"fine"
    scene.close()


def test_what_the_server_refused_is_tried_at_another() -> None:
    scene = Scene(2, servers=2)
    call = scene.client.ask(POST)
    scene.run()
    first, second = sorted(scene.servers, key=lambda server: -len(server.requests))
    first.requests[0].cancel(ErrorCodes.REFUSED_STREAM)
    scene.run()
    again = [*first.requests[1:], *second.requests]
    assert len(again) == 1
    again[0].answer(OK, b"fine")
    scene.run()
    assert call.body == b"fine"
    scene.close()


@pytest.mark.parametrize("eof", [True, False])
@pytest.mark.parametrize("star", [False, True])
def test_a_server_dies_and_the_next_request_goes_to_the_other(eof: bool, star: bool) -> None:
    scene = Scene(3, servers=2, star=star)
    calls = [scene.client.ask(POST) for _ in range(4)]
    scene.run()
    dead, alive = scene.servers
    dead.refusing = "connection refused"
    dead.die(eof)
    scene.run()
    assert sorted(call.status for call in calls) == [0, 0, 502, 502]
    for request in alive.requests:
        request.answer(OK, b"fine")
    scene.run()
    assert sorted(call.status for call in calls) == [200, 200, 502, 502]
    for _ in range(10):
        call = scene.client.ask(POST)
        scene.advance(0.5)
        alive.requests[-1].answer(OK, b"fine")
        scene.run()
        assert call.body == b"fine"
    assert [dead.service.receiver] == [None]
    dead.refusing = ""
    scene.advance(LAST_RETRY)
    assert dead.service.receiver is not None
    for _ in range(2):
        scene.client.ask()
    scene.run()
    assert len(dead.requests) == 1
    for server in scene.servers:
        server.requests[-1].answer(OK)
    scene.close()


def test_a_server_that_stays_away_is_called_less_and_less_often() -> None:
    scene = Scene()
    scene.server.refusing = "connection refused"
    scene.client.ask()
    scene.run()
    scene.advance(60.0)
    gaps = [round(later - earlier, 2) for earlier, later in pairwise(scene.server.tried)]
    assert gaps[:6] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    assert set(gaps[6:]) == {LAST_RETRY}
    scene.close()


@pytest.mark.parametrize("star", [False, True])
def test_idempotent_requests_of_a_server_that_died_are_tried_at_the_other(star: bool) -> None:
    scene = Scene(3, servers=2, star=star)
    calls = [scene.client.ask() for _ in range(4)]
    scene.run()
    dead, alive = scene.servers
    dead.refusing = "connection refused"
    dead.die()
    scene.advance(0.5)
    for request in alive.requests:
        request.answer(OK, b"fine")
    scene.run()
    assert [call.status for call in calls] == [200] * 4
    scene.close()


def test_a_server_that_goes_ends_what_it_has_and_is_called_anew() -> None:
    scene = Scene()
    call = scene.client.ask()
    scene.run()
    (line,) = scene.server.lines
    # h2 itself would say nothing more after it.
    line.adaptor.receive_data(b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0", scene.now)
    scene.run()
    another = scene.client.ask()
    scene.run()
    assert len(scene.server.lines) == 2
    scene.server.lines[0].requests[0].answer(OK, b"first")
    scene.server.lines[1].requests[0].answer(OK, b"second")
    scene.run()
    assert (call.body, another.body) == (b"first", b"second")
    assert line.gone
    scene.close()


def test_a_server_that_goes_and_cannot_be_reached_any_more_leaves_requests_to_others() -> None:
    """Its last connection ends what it has: that it stands for long does not make it draw requests."""
    scene = Scene(servers=2)
    calls = [scene.client.ask(POST) for _ in range(2)]
    scene.run()
    goes, stays = scene.servers
    goes.refusing = "connection refused"
    goes.lines[0].adaptor.receive_data(b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0", scene.now)
    scene.run()
    calls += [scene.client.ask(POST) for _ in range(6)]
    scene.run()
    assert goes.service.receiver is None
    scene.advance(1.0)
    for request in [*goes.requests, *stays.requests]:
        request.answer(OK, b"fine")
    scene.run()
    assert [call.body for call in calls] == [b"fine"] * 8
    assert (len(goes.requests), len(stays.requests)) == (1, 7)
    scene.close()


def test_an_answer_is_carried_on_when_the_server_has_ended_the_connection() -> None:
    scene = Scene(2)
    scene.client.reading = False
    call = scene.client.ask()
    scene.run()
    scene.server.requests[0].answer(OK, b"x" * 150_000)
    scene.run()
    scene.server.lines[0].lose(eof=True)
    scene.run()
    assert len(call.body) == 65535
    scene.client.read_on()
    scene.run()
    assert len(call.body) == 150_000
    assert call.ended
    scene.close()


def test_the_time_out_is_504() -> None:
    scene = Scene(timeout=5.0)
    call = scene.client.ask()
    scene.advance(6.0)
    assert call.status == 504
    assert scene.server.requests[0].reset == ErrorCodes.CANCEL
    scene.close()


def test_a_client_that_waits_for_leave_to_send_gets_it() -> None:
    scene = Scene(2)
    call = scene.client.ask([*POST, (b"expect", b"100-continue")], ended=False)
    scene.run()
    assert call.informational == [[(b":status", b"100")]]
    assert not scene.server.requests[0].field(b"expect")
    call.send(b"x", end=[])
    scene.run()
    scene.server.requests[0].answer(OK, b"y")
    scene.run()
    assert call.body == b"y"
    scene.close()


def test_an_answer_before_the_request_has_ended() -> None:
    scene = Scene(2)
    call = scene.client.ask(POST, ended=False)
    call.send(b"x")
    scene.run()
    scene.server.requests[0].answer([(b":status", b"413")], b"too much")
    scene.run()
    assert (call.status, call.body) == (413, b"too much")
    assert call.reset == ErrorCodes.NO_ERROR
    assert scene.server.requests[0].reset in (ErrorCodes.CANCEL, ErrorCodes.NO_ERROR)
    scene.close()


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large(announced: bool) -> None:
    scene = Scene(2, max_body_size=10)
    fits = scene.client.ask([*POST, (b"content-length", b"10")], ended=False).send(b"x" * 10, end=[])
    call = scene.client.ask([*POST, *([(b"content-length", b"11")] if announced else [])], ended=False)
    scene.run()
    call.send(b"x" * 11)
    scene.run()
    assert (call.status, call.reset) == (413, ErrorCodes.NO_ERROR)
    scene.server.requests[0].answer(OK)
    scene.run()
    assert fits.status == 200
    scene.close()


def test_a_failed_answer_to_head_has_no_body() -> None:
    scene = Scene(servers=0)
    call = scene.client.ask([(b":method", b"HEAD"), *GET[1:]])
    scene.run()
    assert (call.status, call.body, call.ended) == (503, b"", True)
    assert int(call.field(b"content-length")) > 0
    scene.close()


def test_there_are_no_tunnels() -> None:
    scene = Scene()
    call = scene.client.ask([(b":method", b"CONNECT"), (b":authority", b"there:1")], ended=False)
    call.send(b"x")
    scene.run()
    assert call.status == 501
    scene.close()


def test_a_malformed_request_disturbs_nobody() -> None:
    scene = Scene()
    scene.client.h2.config.validate_outbound_headers = False
    scene.client.h2.config.normalize_outbound_headers = False
    bad = scene.client.ask([*GET, (b"connection", b"close")])
    good = scene.client.ask()
    scene.run()
    for request in scene.server.requests:
        request.answer(OK, b"fine")
    scene.run()
    assert bad.reset == ErrorCodes.PROTOCOL_ERROR
    assert good.body == b"fine"
    scene.close()


def test_a_flood_is_said_in_the_log() -> None:
    scene = Scene()
    for _ in range(1001):
        call = scene.client.ask()
        call.cancel()
        scene.client.adaptor.receive_data(scene.client.h2.data_to_send(), scene.now)
    scene.run()
    assert scene.client.terminated is not None
    assert scene.client.terminated.error_code == ErrorCodes.ENHANCE_YOUR_CALM
    # They were given up before any server had them.
    assert not scene.server.requests
    (line,) = scene.logged("http connection broken off")
    assert line["peer"] == "192.0.2.7:4000"
    other = scene.connect()
    call = other.ask()
    scene.run()
    scene.server.requests[-1].answer(OK, b"fine")
    scene.run()
    assert call.body == b"fine"


def test_a_server_of_another_protocol() -> None:
    scene = Scene()
    scene.server.answering = False
    call = scene.client.ask()
    scene.run()
    ((connected, _),) = scene.server.dials
    adaptor = connected(PeerInfo())
    adaptor.receive_data(b"HTTP/1.1 400 Bad Request\r\n\r\n", scene.now)
    adaptor.data_to_send(65536)
    assert adaptor.closed
    adaptor.connection_lost(scene.now)
    scene.run()
    assert call.status == 503
    (line,) = scene.logged("http server not reached")
    assert line["reason"] == "the server does not speak HTTP/2"
    scene.close()


def test_closing_lets_requests_end() -> None:
    scene = Scene()
    call = scene.client.ask()
    scene.run()
    scene.client.adaptor.close("amqp:connection:forced", "the router ends")
    # The foreign client would say nothing more after GOAWAY: it is kept from it.
    data = b"".join(scene.client.adaptor.data_to_send(65536))
    assert data[3] == 7
    scene.server.requests[0].answer(OK, b"fine")
    scene.run()
    assert call.body == b"fine"
    scene.client.lose()
    scene.close()


def test_a_client_gives_up_while_its_request_waits_for_a_connection() -> None:
    scene = Scene(2)
    scene.server.answering = False
    given_up, other = scene.client.ask(), scene.client.ask()
    scene.run()
    given_up.cancel()
    scene.run()
    scene.server.answering = True
    scene.run()
    (request,) = scene.server.requests
    request.answer(OK, b"fine")
    scene.run()
    assert other.body == b"fine"
    scene.close()


def test_a_server_that_has_answered_wants_no_more_of_the_request() -> None:
    """RFC 9113, 8.1: the answer is not lost for that."""
    scene = Scene(2)
    scene.client.reading = False
    call = scene.client.ask(POST, ended=False).send(b"x")
    scene.run()
    request = scene.server.requests[0]
    request.answer(OK, b"y" * 1_500_000)
    scene.run()
    assert request.unsent
    scene.client.read_on()
    scene.run()
    assert (len(call.body), call.ended) == (1_500_000, True)
    assert request.reset == ErrorCodes.CANCEL
    scene.close()


def test_an_answer_that_is_held_up_survives_the_reset_behind_it() -> None:
    size = WINDOW + STREAM_WINDOW // 2
    scene = Scene()
    scene.client.reading = False
    call = scene.client.ask(POST, ended=False).send(b"x")
    scene.run()
    line = scene.server.lines[0]
    request = line.requests[0]
    # More than is passed on, and the end.
    request.answer(OK, bytes(size))
    scene.run()
    assert not request.unsent
    request.cancel(ErrorCodes.NO_ERROR)
    scene.run()
    assert len(call.body) == 65535
    scene.client.read_on()
    scene.run()
    assert (len(call.body), call.ended) == (size, True)
    scene.close()


def test_a_server_that_is_silent_is_given_up() -> None:
    scene = Scene(2, timeout=0.0)
    call = scene.client.ask(POST, ended=False).send(b"x")
    scene.run()
    (line,) = scene.server.lines
    line.frozen = True
    scene.advance(KEEPALIVE + PING_TIMEOUT + 1)
    assert call.status == 502
    assert b"does not answer" in call.body
    assert [fields["reason"] for fields in scene.logged("http connection broken off")] == ["the peer does not answer"]
    scene.close()


def test_a_server_that_accepts_and_says_nothing_is_none() -> None:
    scene = Scene(2)
    call = scene.client.ask()
    scene.server.answering = False
    scene.run()
    connected, _ = scene.server.dials.pop()
    line = End(scene, connected(PeerInfo()), False)
    line.frozen = True
    scene.advance(OPEN_TIMEOUT + 1)
    assert call.status == 503
    assert scene.logged("http server not reached")[0]["reason"] == "the peer has not begun to speak HTTP/2"
    scene.close()


def test_the_service_is_stopped_in_the_middle() -> None:
    scene = Scene(2)
    call = scene.client.ask()
    scene.run()
    scene.server.service.stop()
    later = scene.client.ask()
    scene.advance(1.0)
    assert later.status == 503
    # What it has got goes on.
    scene.server.requests[0].answer(OK, b"fine")
    scene.run()
    assert call.body == b"fine"
    scene.close()


def test_a_connection_to_the_server_is_closed_in_order() -> None:
    scene = Scene(2)
    call = scene.client.ask()
    scene.run()
    (line,) = scene.server.lines
    line.adaptor.close("amqp:connection:forced", "the router ends")
    line.requests[0].answer(OK, b"fine")
    line.taking = False
    line.flush()
    line.taking = True
    data = line.h2.data_to_send()
    line.adaptor.receive_data(data, scene.now)
    scene.run()
    assert call.body == b"fine"
    assert line.adaptor.closed
    scene.close()
