"""Requests and responses through one to three routers: whole and streamed, and what becomes of them."""

from __future__ import annotations

import pytest

from tests.adaptors.http.scene import Scene, read_all, respond
from van.adaptors.http.mapping import ResponseHead


@pytest.fixture(params=[1, 2, 3])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


def test_a_request_and_its_response(scene: Scene) -> None:
    asked = scene.start(fields=[(b"accept", b"*/*")])
    taken = scene.taken()
    request = taken.request
    assert (request.method, request.target, request.authority) == (b"GET", b"/x?y=1", b"example.org")
    assert request.field(b"accept") == b"*/*"
    assert request.field(b"forwarded") == b'for=192.0.2.7;proto=http;host="example.org"'
    assert taken.size() == 0
    assert read_all(taken, scene.run) == b""
    assert taken.ended
    respond(taken)
    scene.run()
    assert asked in scene.client.noted
    assert asked.response is not None
    assert asked.response.status == 200
    assert asked.response.fields == [(b"content-type", b"text/plain")]
    assert read_all(asked, scene.run) == b"hello"
    assert asked.ended
    scene.close()


def test_bodies_that_come_in_portions_are_streams_both_ways(scene: Scene) -> None:
    asked = scene.start(b"POST", more=True)
    taken = scene.taken()
    assert not taken.waiting()
    asked.body(b"one")
    scene.run()
    assert read_all(taken, scene.run) == b"one"
    taken.answer(ResponseHead(200, []), more=True)
    scene.run()
    assert asked.response is not None
    assert not asked.waiting()
    asked.body(b"two")
    taken.body(b"TWO")
    scene.run()
    assert read_all(taken, scene.run) == b"two"
    assert read_all(asked, scene.run) == b"TWO"
    asked.end([(b"digest", b"1")])
    scene.run()
    assert read_all(taken, scene.run) == b""
    assert taken.ended
    assert taken.trailers == [(b"digest", b"1")]
    taken.end([(b"grpc-status", b"0")])
    scene.run()
    assert read_all(asked, scene.run) == b""
    assert asked.ended
    assert asked.trailers == [(b"grpc-status", b"0")]
    scene.close()
