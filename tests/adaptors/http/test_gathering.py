"""A request to all servers of an address, and their answers in one."""

from __future__ import annotations

import email
import json

import pytest

from tests.adaptors.http.http1_ends import Scene
from tests.adaptors.http.test_http1 import GET, body_of
from van.adaptors.http.gathering import MAX_GATHERED
from van.routing.address import Distribution


def scene_of(kind: str, servers: int = 3, routers: int = 1) -> Scene:
    return Scene(routers, servers=servers, distribution=Distribution.MULTICAST, aggregate=kind)


def answer(scene: Scene, *responses: bytes) -> None:
    for server, response in zip(scene.servers, responses, strict=True):
        server.go()
        end = server.ends[-1]
        assert end.take().startswith(b"GET /x ")
        if response:
            end.say(response)
        else:
            end.cut()


def response(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


@pytest.mark.parametrize("routers", [1, 3])
def test_as_json(routers: int) -> None:
    scene = scene_of("json", routers=routers)
    client = scene.client()
    for _ in range(2):
        client.say(GET)
        answer(scene, response(b"one"), response(b"two", 404), response(b"\xff"))
        answered = client.take()
        assert b"content-type: application/json\r\n" in answered
        described = sorted(json.loads(body_of(answered)), key=lambda one: str(one["body"]))
        fields = {"content-type": "text/plain"}
        assert described == [
            {"status": 200, "headers": fields, "body": "/w==", "encoding": "base64"},
            {"status": 200, "headers": fields, "body": "one"},
            {"status": 404, "headers": fields, "body": "two"},
        ]
    scene.close()


def test_in_parts() -> None:
    scene = scene_of("multipart")
    client = scene.client()
    client.say(GET)
    answer(scene, response(b"one"), response(b"two", 404), response(b"three"))
    header, _, body = client.take().partition(b"\r\n\r\n")
    whole = email.message_from_bytes(header.partition(b"\r\n")[2] + b"\r\n\r\n" + body)
    assert whole.get_content_type() == "multipart/mixed"
    parts = [(part["x-status"], part.get_payload()) for part in whole.walk() if not part.is_multipart()]
    assert sorted(parts) == [("200", "one"), ("200", "three"), ("404", "two")]
    scene.close()


def test_answers_that_come_in_portions() -> None:
    scene = scene_of("json", 2)
    client = scene.client()
    client.say(GET)
    answer(scene, *[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"] * 2)
    assert client.take() == b""
    for server in scene.servers:
        server.ends[0].say(b"1\r\nc\r\n0\r\n\r\n")
    assert [one["body"] for one in json.loads(body_of(client.take()))] == ["abc", "abc"]
    scene.close()


def test_a_server_that_dies_is_left_out() -> None:
    scene = scene_of("json", 2)
    client = scene.client()
    client.say(GET)
    answer(scene, response(b"one"), b"")
    assert [one["body"] for one in json.loads(body_of(client.take()))] == ["one"]
    scene.close()


def test_answers_that_are_too_large() -> None:
    scene = scene_of("json", 2)
    client = scene.client()
    client.say(GET)
    answer(scene, response(b"one"), response(b"x" * (MAX_GATHERED + 1)))
    assert client.take().startswith(b"HTTP/1.1 502 ")
    scene.close()


def test_a_client_that_goes_meanwhile() -> None:
    scene = scene_of("json", 2)
    client = scene.client()
    client.say(GET)
    answer(scene, response(b"one"), b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    client.cut()
    scene.close()


def test_without_aggregation_the_first_answer_is_the_response() -> None:
    scene = scene_of("", 2)
    client = scene.client()
    client.say(GET)
    answer(scene, response(b"one"), response(b"two"))
    assert body_of(client.take()) == b"one"
    scene.close()
