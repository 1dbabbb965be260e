"""What calls of gRPC are told in their own words, and until when they wait: foreign ends, without sockets."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes

from tests.adaptors.http.http2_ends import GET, OK
from tests.adaptors.http.http2_scene import Scene, Stream
from van.adaptors.http.http2_fields import Fields
from van.adaptors.http.http2_grpc import failure_trailers, is_call, timeout_of

CALL: Fields = [
    (b":method", b"POST"),
    *GET[1:3],
    (b":path", b"/van.Test/Unary"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]
ANSWER: Fields = [*OK, (b"content-type", b"application/grpc")]


def status(call: Stream) -> tuple[bytes, bytes]:
    """The status and the message of a call, which stand in its trailers, or in its head when that is all there is."""
    fields = dict(call.trailers or call.head)
    return fields[b"grpc-status"], fields[b"grpc-message"]


def test_a_call_passes_unchanged() -> None:
    scene = Scene(2)
    call = scene.client.ask([*CALL, (b"grpc-timeout", b"10S"), (b"key-bin", b"AAE")], ended=False)
    call.send(b"\0\0\0\0\1x", end=[])
    scene.run()
    (request,) = scene.server.requests
    for name, value in [*CALL, (b"grpc-timeout", b"10S"), (b"key-bin", b"AAE")]:
        assert request.field(name) == value
    request.answer(ANSWER, b"\0\0\0\0\1y", [(b"grpc-status", b"0"), (b"more-bin", b"AAE")])
    scene.run()
    assert (call.head, call.body) == (ANSWER, b"\0\0\0\0\1y")
    assert call.trailers == [(b"grpc-status", b"0"), (b"more-bin", b"AAE")]
    scene.close()


def test_an_answer_that_is_only_trailers_stays_that() -> None:
    scene = Scene(2)
    call = scene.client.ask(CALL, ended=False).send(b"x", end=[])
    scene.run()
    scene.server.requests[0].answer([*ANSWER, (b"grpc-status", b"5"), (b"grpc-message", b"no%20such")])
    scene.run()
    assert call.head[-2:] == [(b"grpc-status", b"5"), (b"grpc-message", b"no%20such")]
    assert (call.body, call.trailers, call.ended) == (b"", [], True)
    scene.close()


def test_no_server_is_unavailable_and_nothing_else_follows() -> None:
    scene = Scene(2, servers=0)
    call = scene.client.ask(CALL, ended=False).send(b"x")
    scene.run()
    assert (call.status, call.field(b"content-type")) == (200, b"application/grpc")
    assert status(call) == (b"14", b"no server receives requests for web")
    assert (call.body, call.trailers, call.ended) == (b"", [], True)
    assert call.reset == ErrorCodes.NO_ERROR
    scene.close()


def test_a_server_that_is_lost_before_and_after_it_has_answered() -> None:
    scene = Scene(2)
    before = scene.client.ask(CALL, ended=False).send(b"x", end=[])
    after = scene.client.ask(CALL, ended=False).send(b"x")
    scene.run()
    request = scene.server.requests[1]
    request.end.h2.send_headers(request.number, ANSWER)
    request.send(b"some")
    scene.run()
    assert after.body == b"some"
    scene.server.refusing = "connection refused"
    scene.server.die()
    scene.run()
    assert status(before)[0] == b"14"
    assert not before.trailers
    assert (after.head, after.body, after.ended) == (ANSWER, b"some", True)
    assert status(after)[0] == b"14"
    scene.close()


def test_a_deadline_passes_before_and_after_there_is_an_answer() -> None:
    scene = Scene(2)
    timed = [*CALL, (b"grpc-timeout", b"1500m")]
    before = scene.client.ask(timed, ended=False).send(b"x", end=[])
    after = scene.client.ask(timed, ended=False).send(b"x")
    scene.run()
    request = scene.server.requests[1]
    request.end.h2.send_headers(request.number, ANSWER)
    scene.advance(1.0)
    assert not before.ended
    scene.advance(1.0)
    for call in (before, after):
        assert status(call) == (b"4", b"the deadline of the call has passed")
        assert call.ended
    assert [request.reset for request in scene.server.requests] == [ErrorCodes.CANCEL] * 2
    scene.close()


def test_a_call_without_a_deadline_waits_as_long_as_it_takes() -> None:
    scene = Scene(timeout=5.0)
    call = scene.client.ask(CALL, ended=False).send(b"x", end=[])
    ordinary = scene.client.ask()
    for _ in range(10):
        scene.advance(30.0)
    assert ordinary.status == 504
    assert not call.ended
    request = next(request for request in scene.server.requests if request.field(b"te"))
    request.answer(ANSWER, b"y", [(b"grpc-status", b"0")])
    scene.run()
    assert call.trailers == [(b"grpc-status", b"0")]
    scene.close()


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc; charset=x", True),
        (b"Application/GRPC", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_what_is_a_call(content_type: bytes, expected: bool) -> None:
    assert is_call(content_type) is expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"4m", 0.004),
        (b"5u", 0.000005),
        (b"6n", 6e-9),
        (b"99999999H", 99999999 * 3600.0),
        (b"", None),
        (b"1", None),
        (b"S", None),
        (b"-1S", None),
        (b"123456789S", None),
        (b"1x", None),
    ],
)
def test_what_a_timeout_means(value: bytes, seconds: float | None) -> None:
    assert timeout_of(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("http", "grpc"), [(400, b"13"), (413, b"8"), (501, b"12"), (502, b"14"), (503, b"14"), (504, b"4"), (418, b"14")]
)
def test_statuses(http: int, grpc: bytes) -> None:
    assert failure_trailers(http, "x") == [(b"grpc-status", grpc), (b"grpc-message", b"x")]


def test_messages_are_percent_encoded() -> None:
    ((_, _), (_, message)) = failure_trailers(503, " 100 % ü\r\n ")
    assert message == b"100 %25 %C3%BC%0D%0A"
    ((_, _), (_, message)) = failure_trailers(503, "x" * 5000)
    assert len(message) == 1024
