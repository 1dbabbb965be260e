"""Clients that are refused, in the words of HTTP: and nobody else is disturbed."""

from __future__ import annotations

import pytest

from tests.adaptors.http.http1_ends import Scene
from tests.adaptors.http.test_http1 import GET, OK, body_of, exchange

REFUSED = {
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": 400,
    b"GET\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a/../b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n": 400,
    b"GET x HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET http://a@b:c/x HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n": 501,
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": 505,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n": 417,
    # Requests within requests (RFC 9112, 6.3 and 11.2).
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX": 400,
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\nhello": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n": 413,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70000 + b"\r\n\r\n": 431,
    b"GET /" + b"x" * 70000: 431,
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.items(), ids=[str(number) for number in range(len(REFUSED))])
@pytest.mark.parametrize("piece", [0, 7])
def test_a_request_that_is_not_passed_on(request_: bytes, status: int, piece: int) -> None:
    scene = Scene(piece=piece, max_body_size=50)
    other = scene.client()
    client = scene.client()
    client.say(request_)
    answered = client.take()
    assert answered.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in answered.lower()
    assert client.eof
    assert not scene.server.requests
    (line,) = scene.nodes[0].lines("http request refused")
    assert line["peer"] == "192.0.2.7:4000"
    client.end()
    assert client.lost
    assert body_of(exchange(scene, other)[1]) == b"hello"
    scene.close()


@pytest.mark.parametrize("piece", [0, 1])
def test_chunks_that_are_none_end_the_request(piece: int) -> None:
    scene = Scene(piece=piece)
    client = scene.client()
    client.say(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    end = scene.server.end()
    client.say(b"zz\r\n")
    assert client.take().startswith(b"HTTP/1.1 400 ")
    assert client.eof
    assert end.lost
    scene.close()


def test_a_body_that_grows_too_large_is_refused() -> None:
    scene = Scene(max_body_size=10)
    client = scene.client()
    client.say(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n")
    end = scene.server.end()
    client.say(b"6\r\nabcdef\r\n")
    assert client.take().startswith(b"HTTP/1.1 413 ")
    assert end.lost
    scene.close()


def test_a_client_that_takes_its_time_for_a_header_is_asked_to_go() -> None:
    scene = Scene(header_timeout=5)
    client = scene.client()
    client.say(b"GET / HTTP/1.1\r\n")
    scene.network.advance(4)
    client.say(b"Host: a\r\n")
    assert client.take() == b""
    scene.network.advance(2)
    assert client.take().startswith(b"HTTP/1.1 408 ")
    assert client.eof
    scene.network.advance(10)
    assert client.lost
    scene.close()


def test_a_client_that_takes_its_time_for_a_body_is_asked_to_go() -> None:
    scene = Scene(timeout=5)
    client = scene.client()
    client.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123")
    end = scene.server.end()
    scene.network.advance(4)
    client.say(b"456")
    scene.network.advance(4)
    assert client.take() == b""
    scene.network.advance(2)
    assert client.take().startswith(b"HTTP/1.1 408 ")
    assert end.lost
    scene.close()


def test_connections_without_a_request_are_closed_after_a_while() -> None:
    scene = Scene(idle_timeout=30)
    silent = scene.client()
    client = scene.client()
    exchange(scene, client)
    scene.network.advance(6)
    # Servers' sooner: they would close them themselves.
    assert scene.server.ends[0].lost
    assert client in scene.network.ends
    scene.network.advance(30)
    assert client.lost
    assert silent.lost
    assert client.take() == b""
    scene.close()


def test_a_client_may_not_run_ahead_without_end() -> None:
    scene = Scene()
    client = scene.client()
    client.say(GET * 5000)
    assert 0 < client.unread < len(GET) * 5000 - 60000
    assert scene.server.requests <= 1
    for _ in range(20):
        scene.server.end().say(OK)
    assert client.take().count(b"hello") == 20
    scene.close()
