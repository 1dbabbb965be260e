"""Flow control: how far a writer may be ahead of a reader that has stopped, and that others notice nothing of it."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adaptors.http.http2_ends import OK, POST, Ends, Told
from tests.adaptors.http.http2_scene import Scene, Stream
from van.adaptors.http.http2_limits import KEEPALIVE, PING_TIMEOUT, STREAM_WINDOW
from van.adaptors.stream_window import WINDOW

MIB = 1 << 20
LARGE = 6 * MIB


def answer(request: Stream, body: bytes) -> None:
    request.end.h2.send_headers(request.number, OK)
    request.send(body, end=[])


@pytest.mark.parametrize("routers", [1, 2, 3])
def test_a_client_that_reads_no_answer_stops_the_server(routers: int) -> None:
    scene = Scene(routers)
    scene.client.reading = False
    call = scene.client.ask()
    scene.run()
    request = scene.server.requests[0]
    answer(request, bytes(LARGE))
    scene.run()
    passed = LARGE - request.unsent
    assert len(call.body) == 65535
    assert passed <= WINDOW + 2 * STREAM_WINDOW + len(call.body)
    assert scene.held() <= 4 * MIB
    # Another client gets its answer meanwhile, from the same connection of the same server.
    other = scene.connect().ask()
    scene.run()
    answer(scene.server.requests[1], bytes(MIB))
    scene.run()
    assert (len(other.body), other.ended) == (MIB, True)
    assert len(scene.server.lines) == 1
    scene.client.read_on()
    scene.run()
    assert (len(call.body), call.ended) == (LARGE, True)
    scene.close()


def test_a_server_that_reads_no_request_stops_the_client() -> None:
    scene = Scene(3)
    call = scene.client.ask(POST, ended=False)
    scene.run()
    scene.server.lines[0].reading = False
    call.send(bytes(LARGE), end=[])
    scene.run()
    request = scene.server.requests[0]
    assert len(request.body) == 65535
    assert LARGE - call.unsent <= WINDOW + 2 * STREAM_WINDOW + len(request.body)
    assert scene.held() <= 4 * MIB
    scene.server.lines[0].read_on()
    scene.run()
    assert (len(request.body), request.ended) == (LARGE, True)
    request.answer(OK)
    scene.run()
    assert call.ended
    scene.close()


def test_a_client_whose_socket_takes_nothing_stops_the_server() -> None:
    scene = Scene(2)
    call = scene.client.ask()
    scene.run()
    request = scene.server.requests[0]
    scene.client.taking = False
    answer(request, bytes(LARGE))
    scene.run()
    assert call.body == b""
    assert LARGE - request.unsent <= WINDOW + 2 * STREAM_WINDOW
    scene.client.taking = True
    scene.client.flush()
    scene.run()
    assert (len(call.body), call.ended) == (LARGE, True)
    scene.close()


def test_a_client_whose_socket_takes_nothing_for_long_is_given_up() -> None:
    scene = Scene(2)
    adaptor = scene.client.adaptor
    assert adaptor.gives_up_at() == inf
    scene.client.ask()
    scene.run()
    scene.client.taking = False
    answer(scene.server.requests[0], bytes(LARGE))
    scene.run()
    assert adaptor.gives_up_at() == scene.now + KEEPALIVE + PING_TIMEOUT
    # What the driver does when it has waited for so long.
    scene.network.advance(KEEPALIVE + PING_TIMEOUT)
    adaptor.handle_deadline(scene.now)
    scene.client.lose()
    scene.run()
    assert adaptor.reason == "the peer does not answer"
    assert scene.server.requests[0].reset is not None
    assert scene.held() == 0
    scene.close()


def test_a_slow_client_is_not_a_silent_one() -> None:
    """It takes what its socket takes, a batch now and then, and has given a window that it need not renew for long."""
    scene = Scene()
    scene.client.h2.increment_flow_control_window(LARGE)
    call = scene.client.ask()
    scene.client.h2.increment_flow_control_window(LARGE, call.number)
    scene.run()
    scene.client.taking = False
    answer(scene.server.requests[0], bytes(LARGE))
    scene.run()
    adaptor = scene.client.adaptor
    taken = 0
    while taken < LARGE:
        scene.network.advance(KEEPALIVE)
        assert adaptor.gives_up_at() > scene.now
        # Something is always going on at a router.
        scene.nodes[0].router.handle_deadline(scene.now)
        taken += sum(map(len, adaptor.data_to_send(65536)))
        scene.run()
    scene.client.lose()
    scene.run()
    scene.close()


def test_a_reader_that_gives_up_lets_everything_go() -> None:
    scene = Scene(3)
    scene.client.reading = False
    call = scene.client.ask()
    upload = scene.client.ask(POST, ended=False)
    scene.run()
    for request in scene.server.requests:
        if request.field(b":method") == b"GET":
            answer(request, bytes(LARGE))
    for line in scene.server.lines:
        line.reading = False
    upload.send(bytes(LARGE), end=[])
    scene.run()
    assert scene.held() > 0
    call.cancel()
    upload.cancel()
    scene.run()
    assert scene.held() == 0
    scene.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "pass", "run", "reset", "end"]),
            st.integers(0, 3),
            st.integers(1, 3 * STREAM_WINDOW),
        ),
        max_size=40,
    )
)
def test_windows_hold_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    """Nothing is lost or held beyond a window, and when all is passed on, all has come."""
    ends = Ends()
    asked = [ends.ask(POST, ended=False, passing=False) for _ in range(4)]
    ends.run()
    served = ends.serving.requests
    sent = [0] * 4
    ended = set()
    for told in served:
        told.passing = False
    for action, which, octets in steps:
        stream = asked[which].stream
        assert stream is not None
        if action == "send" and which not in ended:
            asked[which].send(data=bytes(octets))
            sent[which] += octets
        elif action == "end" and which not in ended:
            ended.add(which)
            asked[which].send(end=[])
        elif action == "pass":
            pass_on(served[which], octets)
        elif action == "reset":
            ended.add(which)
            stream.reset(8)
        elif action == "run":
            ends.run()
        for told in served:
            assert told.stream is not None
            assert told.stream.held <= STREAM_WINDOW
    for _ in range(100):
        ends.run()
        for told in served:
            pass_on(told, STREAM_WINDOW)
    assert not ends.client.failed
    assert not ends.server.failed
    for which, told in enumerate(served):
        assert all(room <= STREAM_WINDOW for room in asked[which].rooms)
        if not told.resets:
            assert len(told.body) == sent[which]
            assert (told.trailers is not None) == (which in ended)
    assert len(ends.server.streams) <= 4 - sum(bool(told.resets) for told in served)


def pass_on(told: Told, octets: int) -> None:
    assert told.stream is not None
    told.stream.passed(octets)
