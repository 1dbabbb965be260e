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
    """The first line and the fields of a message, these in lower case."""
    first, *fields = message.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return first, sorted(b"%b:%b" % (name.lower(), value) for name, _, value in (one.partition(b":") for one in fields))


def body_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def unchunked(data: bytes) -> bytes:
    """What is in the chunks of a body, its end included in nothing."""
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        out += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return out


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


def test_pipelined_requests_are_answered_in_their_order(scene: Scene) -> None:
    client = scene.client()
    client.say(GET.replace(b"/x", b"/1") + GET.replace(b"/x", b"/2") + GET.replace(b"/x", b"/3"))
    for number in (b"1", b"2", b"3"):
        end = scene.server.end()
        assert end.take().startswith(b"GET /" + number)
        end.say(OK.replace(b"hello", b"number"[:4] + number))
    assert [part[-5:] for part in client.take().split(b"HTTP/1.1 200 OK")[1:]] == [b"numb1", b"numb2", b"numb3"]
    scene.close()


def test_chunked_bodies_and_trailers_both_ways(scene: Scene) -> None:
    client = scene.client()
    client.say(b"POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    end = scene.server.end()
    first, fields = head_of(end.heard)
    assert first == b"POST / HTTP/1.1"
    assert {b"transfer-encoding: chunked", b"te: trailers", b"connection: te"} < set(fields)
    assert unchunked(body_of(end.take())) == b"abc"
    client.say(b"2\r\nde\r\n0\r\nDigest: 7\r\n\r\n")
    assert end.heard.endswith(b"e\r\n0\r\ndigest: 7\r\n\r\n")
    assert unchunked(end.take()[: -len(b"0\r\ndigest: 7\r\n\r\n")]) == b"de"
    end.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: sum\r\n\r\n1\r\nA\r\n")
    assert head_of(client.heard)[1] == [b"trailer: sum", b"transfer-encoding: chunked"]
    assert unchunked(body_of(client.take())) == b"A"
    end.say(b"1\r\nB\r\n0\r\nSum: 3\r\n\r\n")
    assert client.take() == b"1\r\nB\r\n0\r\nsum: 3\r\n\r\n"
    assert body_of(exchange(scene, client)[1]) == b"hello"
    assert len(scene.server.ends) == 1
    scene.close()


def test_trailers_of_a_small_body_that_is_there_at_once(scene: Scene) -> None:
    client = scene.client()
    octets = b"3\r\nabc\r\n0\r\ndigest: 7\r\n\r\n"
    client.say(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + octets)
    end = scene.server.end()
    assert b"transfer-encoding: chunked" in head_of(end.heard)[1]
    assert body_of(end.take()).endswith(b"0\r\ndigest: 7\r\n\r\n")
    end.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + octets)
    assert body_of(client.take()).endswith(b"0\r\ndigest: 7\r\n\r\n")
    scene.close()


def test_a_small_body_that_is_there_at_once_needs_no_chunks(scene: Scene) -> None:
    if scene.network.piece:
        pytest.skip("octet by octet it comes in portions")
    client = scene.client()
    request = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
    asked, answered = exchange(scene, client, request, response)
    assert b"content-length: 3\r\n" in asked
    assert asked.endswith(b"\r\n\r\nabc")
    assert b"content-length: 2\r\n" in answered
    assert answered.endswith(b"\r\n\r\nde")
    scene.close()


def test_a_client_that_waits_for_100_is_told_to_go_on(scene: Scene) -> None:
    client = scene.client()
    client.say(b"PUT /f HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.say(b"abc")
    end = scene.server.end()
    assert b"expect" not in end.heard
    assert end.take().endswith(b"abc")
    end.say(OK)
    assert body_of(client.take()) == b"hello"
    scene.close()


def test_what_the_server_says_on_the_way_is_not_passed_on(scene: Scene) -> None:
    client = scene.client()
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert exchange(scene, client, response=early + OK)[1].startswith(b"HTTP/1.1 200 OK")
    scene.close()


@pytest.mark.parametrize(
    ("request_line", "response"),
    [
        (b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"GET / HTTP/1.1", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET / HTTP/1.1", b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'),
    ],
)
def test_responses_without_a_body(scene: Scene, request_line: bytes, response: bytes) -> None:
    client = scene.client()
    for _ in range(2):
        _, answered = exchange(scene, client, request_line + b"\r\nHost: h\r\n\r\n", response)
        assert answered.lower() == response.lower()
    assert len(scene.server.ends) == 1
    scene.close()


def test_a_client_of_http_1_0_reads_to_the_end_of_the_connection(scene: Scene) -> None:
    client = scene.client()
    client.say(b"GET / HTTP/1.0\r\n\r\n")
    end = scene.server.end()
    assert end.take().startswith(b"GET / HTTP/1.1\r\nhost: 10.0.0.1\r\n")
    end.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert head_of(client.heard)[1] == [b"connection: close"]
    assert body_of(client.take()) == b"hello"
    end.say(b"5\r\nworld\r\n0\r\n\r\n")
    assert client.take() == b"world"
    assert client.eof
    client.end()
    assert client.lost
    scene.close()


def test_a_server_of_http_1_0_ends_its_response_with_the_connection(scene: Scene) -> None:
    client = scene.client()
    client.say(GET)
    end = scene.server.end()
    end.say(b"HTTP/1.0 200 OK\r\n\r\nhello ")
    end.say(b"world")
    end.end()
    assert end.lost
    answered = client.take()
    assert head_of(answered)[1] == [b"transfer-encoding: chunked"]
    assert unchunked(body_of(answered)[: -len(b"0\r\n\r\n")]) == b"hello world"
    assert body_of(exchange(scene, client)[1]) == b"hello"
    scene.close()


def test_whoever_wants_the_connection_closed_has_it_so(scene: Scene) -> None:
    client = scene.client()
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    _, answered = exchange(scene, client, response=closing)
    assert b"close" not in answered
    assert scene.server.ends[0].lost
    _, answered = exchange(scene, client, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert b"connection: close" in answered.lower()
    assert client.eof
    assert not scene.server.ends[1].lost
    scene.close()


def test_what_is_said_of_one_connection_is_not_passed_on(scene: Scene) -> None:
    client = scene.client()
    request = (
        b"GET http://other.example:8080/y?z HTTP/1.1\r\nHost: example.org\r\nConnection: keep-alive, X-Secret\r\n"
        b"X-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nX-Kept: 2\r\nForwarded: for=198.51.100.1\r\n\r\n"
    )
    response = OK.replace(b"\r\n\r\n", b"\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nX-Kept: 3\r\n\r\n")
    asked, answered = exchange(scene, client, request, response)
    assert head_of(asked) == (
        b"GET /y?z HTTP/1.1",
        [
            b'forwarded: for=198.51.100.1, for=192.0.2.7;proto=http;host="other.example:8080"',
            b"host: other.example:8080",
            b"x-kept: 2",
        ],
    )
    assert head_of(answered)[1] == [b"content-length: 5", b"x-kept: 3"]
    scene.close()


def test_host_and_client_are_told_as_the_settings_say() -> None:
    scene = Scene(forwarded=False, x_forwarded=True)
    scene.server.host_header = "inside:8000"
    asked, _ = exchange(scene, scene.client())
    assert head_of(asked)[1] == [
        b"host: inside:8000",
        b"x-forwarded-for: 192.0.2.7",
        b"x-forwarded-host: example.org",
        b"x-forwarded-proto: http",
    ]
    scene.close()


WEBSOCKET = (
    b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n"
)


def test_another_protocol_passes_through_after_an_upgrade(scene: Scene) -> None:
    client = scene.client()
    client.say(WEBSOCKET)
    end = scene.server.end()
    assert {b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-key: x"} < set(head_of(end.take())[1])
    end.say(SWITCHED + b"\x81\x02hi")
    first, fields = head_of(client.heard)
    assert first == b"HTTP/1.1 101 Switching Protocols"
    assert {b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-accept: y"} <= set(fields)
    assert body_of(client.take()) == b"\x81\x02hi"
    client.say(b"\x81\x82abcdef")
    assert end.take() == b"\x81\x82abcdef"
    end.say(b"more")
    assert client.take() == b"more"
    client.end()
    assert end.eof
    end.say(b"last")
    end.end()
    assert client.take() == b"last"
    assert client.lost
    assert end.lost
    scene.close()


def test_a_server_that_does_not_upgrade_answers_as_usual(scene: Scene) -> None:
    client = scene.client()
    for _ in range(2):
        _, answered = exchange(scene, client, WEBSOCKET)
        assert answered.startswith(b"HTTP/1.1 200 OK")
        assert body_of(answered) == b"hello"
    scene.close()


@pytest.mark.parametrize("who", ["client", "server"])
def test_an_upgraded_connection_breaks_for_both(scene: Scene, who: str) -> None:
    client = scene.client()
    client.say(WEBSOCKET)
    end = scene.server.end()
    end.say(SWITCHED)
    (client if who == "client" else end).cut()
    assert client.lost
    assert end.lost
    scene.close()


def test_events_are_passed_on_as_they_come(scene: Scene) -> None:
    client = scene.client()
    client.say(GET)
    end = scene.server.end()
    end.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert b"text/event-stream" in client.take()
    for number in range(5):
        end.say(b"9\r\ndata: %d\n\n\r\n" % number)
        assert unchunked(client.take()) == b"data: %d\n\n" % number
    client.cut()
    assert end.lost
    scene.close()
