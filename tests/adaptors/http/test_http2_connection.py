"""HTTP/2 connections: two ends of ours and a wire, whole and octet by octet."""

from __future__ import annotations

import pytest

from tests.adaptors.http.http2_ends import GET, OK, POST, Ends
from van.adaptors.http.http2_connection import CANCEL, NO_ERROR, REFUSED_STREAM
from van.adaptors.http.http2_limits import (
    GRACE,
    IDLE_TIMEOUT,
    KEEPALIVE,
    MAX_STREAMS,
    PING_TIMEOUT,
    STREAM_WINDOW,
)


@pytest.fixture(params=[0, 1], ids=["whole", "octets"])
def ends(request: pytest.FixtureRequest) -> Ends:
    return Ends(request.param)


def test_a_request_and_its_answer(ends: Ends) -> None:
    asked = ends.ask([*GET, (b"accept", b"text/plain")])
    ends.run()
    (served,) = ends.serving.requests
    assert served.request == [*GET, (b"accept", b"text/plain")]
    assert served.head_ended
    assert served.trailers == []
    served.send(OK, b"hello", [])
    ends.run()
    assert asked.head == OK
    assert asked.body == b"hello"
    assert asked.trailers == []
    assert not ends.client.streams
    assert not ends.server.streams


def test_bodies_and_trailers_both_ways(ends: Ends) -> None:
    asked = ends.ask(POST, ended=False)
    asked.send(data=b"one")
    ends.run()
    (served,) = ends.serving.requests
    assert (served.body, served.trailers) == (b"one", None)
    served.send([(b":status", b"100")])
    ends.run()
    asked.send(data=b"two", end=[(b"sum", b"6")])
    served.send(OK, b"a")
    ends.run()
    assert served.body == b"onetwo"
    assert served.trailers == [(b"sum", b"6")]
    served.send(end=[(b"grpc-status", b"0")])
    ends.run()
    assert asked.informational == [[(b":status", b"100")]]
    assert asked.body == b"a"
    assert asked.trailers == [(b"grpc-status", b"0")]


def test_many_streams_take_turns() -> None:
    ends = Ends()
    asked = [ends.ask() for _ in range(3)]
    ends.run()
    for served in ends.serving.requests:
        served.send(OK, b"x" * 100_000, [])
    order = []
    while chunks := ends.server.take(16384):
        ends.client.receive(b"".join(chunks), ends.now)
        order.append([len(told.body) for told in asked])
    assert [65536, 65536, 65536] in order
    ends.run()
    assert [len(told.body) for told in asked] == [100_000] * 3


def test_a_reader_that_stops_holds_its_own_stream_only() -> None:
    ends = Ends()
    slow = ends.ask(POST, ended=False)
    quick = ends.ask(POST, ended=False)
    ends.run()
    served_slow, served_quick = ends.serving.requests
    served_slow.passing = False
    for told in (slow, quick):
        told.send(data=b"x" * (3 * STREAM_WINDOW), end=[])
    ends.run()
    assert len(served_slow.body) == STREAM_WINDOW
    assert slow.unsent == 2 * STREAM_WINDOW
    assert len(served_quick.body) == 3 * STREAM_WINDOW
    assert served_quick.trailers == []
    assert served_slow.stream is not None
    assert served_slow.stream.held == STREAM_WINDOW
    served_slow.stream.passed(STREAM_WINDOW)
    ends.run()
    assert len(served_slow.body) == 2 * STREAM_WINDOW


def test_as_many_streams_as_there_may_be_stand_still_and_another_goes_on() -> None:
    ends = Ends()
    stuck = [ends.ask(POST, ended=False) for _ in range(MAX_STREAMS - 1)]
    quick = ends.ask(POST, ended=False)
    ends.run()
    for served in ends.serving.requests[:-1]:
        served.passing = False
    for told in stuck:
        told.send(data=b"x" * (STREAM_WINDOW + 1))
    ends.run()
    quick.send(data=b"y" * STREAM_WINDOW * 2, end=[])
    ends.run()
    assert len(ends.serving.requests[-1].body) == 2 * STREAM_WINDOW
    assert sum(served.stream.held for served in ends.serving.requests if served.stream) < MAX_STREAMS * STREAM_WINDOW
    # What is not wanted any more is given back to the connection.
    for told in stuck:
        assert told.stream is not None
        told.stream.reset(CANCEL)
    ends.run()
    for _ in range(2):
        again = ends.ask(POST, ended=False)
        ends.run()
        again.send(data=b"z" * STREAM_WINDOW * 3, end=[])
        ends.run()
        assert len(ends.serving.requests[-1].body) == 3 * STREAM_WINDOW


def test_more_streams_than_the_server_takes_wait_at_the_client(ends: Ends) -> None:
    for _ in range(MAX_STREAMS):
        assert ends.client.may_open()
        ends.ask()
    assert not ends.client.may_open()
    ends.run()
    ends.serving.requests[0].send(OK, b"", [])
    changes = ends.calling.changes
    ends.run()
    assert ends.calling.changes > changes
    assert ends.client.may_open()


def test_either_side_resets_a_stream(ends: Ends) -> None:
    asked = [ends.ask(POST, ended=False) for _ in range(2)]
    ends.run()
    one, other = ends.serving.requests
    assert asked[0].stream is not None
    assert other.stream is not None
    asked[0].stream.reset(CANCEL)
    other.stream.reset(REFUSED_STREAM)
    ends.run()
    assert one.resets == [(CANCEL, False)]
    assert asked[1].resets == [(REFUSED_STREAM, True)]
    assert not asked[0].resets
    assert not other.resets
    # What comes late is let go.
    asked[1].send(data=b"late")
    one.send(OK)
    ends.run()
    assert not ends.client.failed
    assert not ends.server.failed
    assert not ends.server.streams


def test_a_server_that_goes_takes_what_was_on_its_way(ends: Ends) -> None:
    first = ends.ask()
    ends.run()
    ends.server.drain(ends.now)
    # The client has not heard of it.
    on_its_way = ends.ask()
    ends.run()
    assert not ends.client.may_open()
    assert [ends.client.going_away, ends.server.finished] == [True, False]
    for served in ends.serving.requests:
        served.send(OK, b"", [])
    ends.run()
    assert first.head == on_its_way.head == OK
    assert ends.server.finished
    assert ends.client.finished


def test_a_server_that_goes_refuses_what_comes_after_a_while() -> None:
    ends = Ends()
    ends.server.drain(ends.now)
    goaway = b"".join(ends.server.take(65536))
    assert ends.server.next_deadline() == ends.now + GRACE
    ends.server.handle_deadline(ends.now + GRACE)
    asked = ends.ask()
    ends.server.receive(b"".join(ends.client.take(65536)), ends.now)
    assert not ends.serving.requests
    ends.client.receive(goaway, ends.now)
    ends.run()
    assert asked.resets == [(REFUSED_STREAM, True)]
    assert ends.server.finished
    assert ends.client.finished


def test_a_client_that_goes_lets_its_streams_end(ends: Ends) -> None:
    asked = ends.ask()
    ends.run()
    ends.client.drain(ends.now)
    ends.run()
    assert not ends.client.usable()
    assert [ends.client.finished] == [False]
    ends.serving.requests[0].send(OK, b"", [])
    ends.run()
    assert asked.head == OK
    assert ends.client.finished
    assert ends.server.finished


def test_what_is_lost_tells_its_streams() -> None:
    ends = Ends()
    asked = ends.ask()
    ends.client.lost()
    assert asked.resets
    assert not asked.resets[0][1]
    assert ends.client.finished
    assert not ends.client.may_open()


def test_a_silent_peer_is_asked_and_then_given_up() -> None:
    ends = Ends()
    asked = ends.ask()
    ends.run()
    for _ in range(2):
        assert ends.client.next_deadline() == ends.now + KEEPALIVE
        ends.now += KEEPALIVE
        ends.client.handle_deadline(ends.now)
        ends.run()
    ends.now += KEEPALIVE
    ends.client.handle_deadline(ends.now)
    assert ends.client.next_deadline() == ends.now + PING_TIMEOUT
    assert not ends.client.over()
    ends.client.handle_deadline(ends.now + PING_TIMEOUT)
    assert ends.client.failed == "the peer does not answer"
    assert asked.resets


def test_a_connection_without_requests_ends_after_an_hour() -> None:
    ends = Ends()
    ends.ask()
    ends.run()
    ends.serving.requests[0].send(OK, b"", [])
    ends.run()
    assert ends.server.next_deadline() == ends.now + IDLE_TIMEOUT
    ends.now += IDLE_TIMEOUT
    ends.server.handle_deadline(ends.now)
    ends.run()
    assert ends.server.finished
    assert ends.client.finished
    assert NO_ERROR == 0
