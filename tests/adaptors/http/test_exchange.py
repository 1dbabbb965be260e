"""Requests and responses through one to three routers: whole and streamed, and what becomes of them."""

from __future__ import annotations

import pytest

from tests.adaptors.http.scene import Owner, Scene, read_all, respond
from van.adaptors.http.exchange import LINK_CAPACITY
from van.adaptors.http.far_side import ServerExchange
from van.adaptors.http.mapping import ResponseHead
from van.adaptors.http.near_side import MAX_QUEUE, ClientExchange
from van.adaptors.stream_window import WINDOW
from van.routing.endpoint import ENDPOINT_FRAME


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


@pytest.mark.parametrize("routers", [1, 3])
def test_no_more_than_a_window_is_on_its_way(routers: int) -> None:
    scene = Scene(routers)
    asked = scene.start(b"POST", more=True)
    taken = scene.taken()
    taken.answer(ResponseHead(200, []), more=True)
    scene.run()
    ways: list[tuple[ClientExchange | ServerExchange, ClientExchange | ServerExchange]]
    ways = [(asked, taken), (taken, asked)]
    for sender, receiver in ways:
        total = fill(sender, scene)
        assert total == WINDOW
        assert scene.held() <= 2 * WINDOW
        # What is given beyond waits here.
        sender.body(b"x" * 1000)
        while receiver.waiting():
            total -= sum(map(len, receiver.read(100_000)))
            scene.run()
        assert total == -1000
        assert sender.room() > 0
        sender.end()
        scene.run()
        assert read_all(receiver, scene.run) == b""
        assert receiver.ended
    scene.close()


def fill(sender: ClientExchange | ServerExchange, scene: Scene) -> int:
    """Send as long as there is room; returns how much."""
    total = 0
    while (room := sender.room()) > 0:
        portion = b"x" * min(room, 50_000)
        sender.body(portion)
        total += len(portion)
        scene.run()
    return total


def test_bodies_wait_for_memory() -> None:
    scene = Scene()
    asked = scene.start(b"POST", more=True)
    taken = scene.taken()
    taken.answer(ResponseHead(200, []), more=True)
    scene.run()
    scene.nodes[0].router.budget.limit = 44 * ENDPOINT_FRAME
    ways: list[tuple[Owner, ClientExchange | ServerExchange, ClientExchange | ServerExchange]]
    ways = [(scene.client, asked, taken), (scene.server.owner, taken, asked)]
    for owner, sender, receiver in ways:
        total = fill(sender, scene)
        assert 0 < total < WINDOW
        sender.body(b"x" * 1000)
        owner.noted.clear()
        while receiver.waiting():
            total -= sum(map(len, receiver.read(100_000)))
            scene.run()
        assert total == -1000
        assert sender in owner.noted
        assert sender.room() > 0
        sender.end()
        scene.run()
        assert read_all(receiver, scene.run) == b""
    scene.close()


def test_requests_beyond_the_credit_wait_and_those_beyond_that_are_refused() -> None:
    scene = Scene(capacity=LINK_CAPACITY)
    started = [scene.start() for _ in range(LINK_CAPACITY + MAX_QUEUE + 5)]
    scene.run()
    refused = [exchange for exchange in started if exchange.failure is not None]
    assert refused == started[-5:]
    assert {exchange.failure.status for exchange in refused if exchange.failure is not None} == {503}
    served = 0
    while served < LINK_CAPACITY + MAX_QUEUE:
        taken = scene.server.taken
        scene.server.taken = []
        assert taken
        for request in taken:
            respond(request)
            served += 1
        scene.run()
        scene.server.go_on()
    assert all(exchange.response is not None for exchange in started[:-5])
    for exchange in started:
        read_all(exchange, lambda: None)
    scene.close()


def test_requests_that_wait_are_refused_when_the_server_goes() -> None:
    scene = Scene(capacity=LINK_CAPACITY)
    started = [scene.start() for _ in range(LINK_CAPACITY + 10)]
    scene.server.slots = 0
    scene.server.leave()
    scene.network.advance(30)
    waiting = [exchange for exchange in started if exchange.failure is None]
    # The server has some of them.
    assert len(waiting) == len(scene.server.taken)
    for request in scene.server.taken:
        respond(request)
    scene.run()
    for exchange in waiting:
        assert read_all(exchange, scene.run) == b"hello"
    scene.close()
