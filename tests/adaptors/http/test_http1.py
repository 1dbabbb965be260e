"""HTTP/1.1 from client to server through one to three routers, whole and octet by octet."""

from __future__ import annotations

import pytest

from tests.adaptors.http.http1_ends import End, Scene

GET = b"GET /x HTTP/1.1\r\nHost: example.org\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(params=[(1, 0), (1, 1), (3, 0)], ids=["one", "octets", "three"])
def scene(request: pytest.FixtureRequest) -> Scene:
    routers, piece = request.param
    return Scene(routers, piece=piece)


def head_of(message: bytes) -> tuple[bytes, list[bytes]]:
    """The first line and the fields of a message."""
    first, *fields = message.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return first, sorted(fields)


def body_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def exchange(scene: Scene, client: End, request: bytes = GET, response: bytes = OK) -> tuple[bytes, bytes]:
    """What the server hears of a request, and the client of the response."""
    client.say(request)
    end = scene.server.end()
    heard = end.take()
    end.say(response)
    scene.network.run()
    return heard, client.take()


def test_a_request_and_its_response(scene: Scene) -> None:
    client = scene.client()
    asked, answered = exchange(scene, client)
    assert head_of(asked) == (
        b"GET /x HTTP/1.1",
        [b'forwarded: for=192.0.2.7;proto=http;host="example.org"', b"host: example.org"],
    )
    assert head_of(answered) == (b"HTTP/1.1 200 OK", [b"content-length: 5"])
    assert body_of(answered) == b"hello"
    scene.close()


def test_connections_of_both_sides_are_used_again(scene: Scene) -> None:
    client = scene.client()
    for _ in range(3):
        assert body_of(exchange(scene, client)[1]) == b"hello"
    assert len(scene.server.ends) == 1
    assert scene.service.connections_opened == 1
    scene.close()
