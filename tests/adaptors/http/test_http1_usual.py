"""What is read of requests and responses without h11, h11 reads in the same way."""

from __future__ import annotations

import h11
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from van.adaptors.http.http1_usual import usual_request, usual_response

LINES = [
    b"Host: example.org", b"host:a", b"Host: b", b"Accept: */*", b"X: \t y \t", b"X:", b"Content-Length: 3",
    b"content-length: 0", b"Content-Length: +3", b"Content-Length: 3, 3", b"Connection: keep-alive",
    b"Connection: close", b"Transfer-Encoding: chunked", b"Upgrade: h2c", b"Expect: 100-continue", b"TE: trailers",
    b"X : y", b" folded", b"\tfolded", b"X: \x01", b"X: \xff", b"X: \x00", b"no field", b"", b"X: a\rb", b"X: a\x7f",
    b"Keep-Alive: 5", b"ETag: \"a:b\"",
]  # fmt: skip
FIRST = [
    b"GET / HTTP/1.1", b"POST /x?y=%20z HTTP/1.1", b"HEAD /x HTTP/1.1", b"GET / HTTP/1.0", b"GET  / HTTP/1.1",
    b"GET /\xff HTTP/1.1", b"GET http://a/ HTTP/1.1", b"OPTIONS * HTTP/1.1", b"G(T / HTTP/1.1", b"GET / HTTP/1.1 ",
    b"GET /a b HTTP/1.1", b"GET / http/1.1", b"X-Y /~ HTTP/1.1",
]  # fmt: skip
STATUS = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 404", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 100 Go",
    b"HTTP/1.0 200 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 200  two", b"HTTP/1.1 200 \x01", b"HTTP/1.1 999 x",
]  # fmt: skip
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])


@st.composite
def octets(draw: st.DrawFn, first: list[bytes]) -> bytes:
    """A head, mostly well-formed, and what comes behind it."""
    lines = [draw(st.sampled_from(first)), *draw(st.lists(st.sampled_from(LINES), max_size=5))]
    end = draw(ENDS)
    return b"".join(line + end for line in lines) + b"\r\n" + draw(st.sampled_from([b"", b"abc", b"ab", b"abcGET / "]))


def headers(message: h11.Request | h11.Response) -> list[tuple[bytes, bytes]]:
    """The fields that are read without h11, beside those that it has looked at."""
    left_out = (b"host", b"connection")
    return [(bytes(name), bytes(value)) for name, value in message.headers if name not in left_out]


@given(octets(FIRST))
def test_a_usual_request_is_what_h11_reads(data: bytes) -> None:
    usual = usual_request(data)
    event(f"usual: {usual is not None}")
    if usual is None:
        return
    http = h11.Connection(h11.SERVER)
    http.receive_data(data)
    request = http.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target, request.http_version) == (usual.method, usual.target, b"1.1")
    assert headers(request) == usual.fields
    assert dict(request.headers)[b"host"] == usual.host
    body = b""
    while isinstance(part := http.next_event(), h11.Data):
        body += part.data
    assert isinstance(part, h11.EndOfMessage)
    assert body == usual.body
    assert http.trailing_data[0] == data[usual.end :]
    assert http.their_state is h11.DONE


@given(octets(STATUS), st.booleans())
def test_a_usual_response_is_what_h11_reads(data: bytes, head_only: bool) -> None:
    usual = usual_response(data, head_only)
    event(f"usual: {usual is not None}")
    if usual is None:
        return
    status, fields, body = usual
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="HEAD" if head_only else "GET", target="/", headers=[("host", "h")]))
    http.send(h11.EndOfMessage())
    http.receive_data(data)
    response = http.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == status
    assert headers(response) == fields
    read = b""
    while isinstance(part := http.next_event(), h11.Data):
        read += part.data
    assert isinstance(part, h11.EndOfMessage)
    assert read == body
    assert not http.trailing_data[0]
    assert http.their_state is h11.DONE


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_lines_without_end_take_no_time(head: bytes) -> None:
    data = head + b"X:" + b" \t" * 30000 + b"\0\r\n\r\n"
    assert usual_request(data) is None
    assert usual_response(data, False) is None


def test_what_is_usual() -> None:
    head = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: Keep-Alive\r\n\r\n"
    request = usual_request(head + b"abcrest")
    assert request is not None
    assert (request.fields, request.body, request.end) == ([(b"content-length", b"3")], b"abc", len(head) + 3)
    response = usual_response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc", False)
    assert response == (200, [(b"content-length", b"3")], b"abc")
