"""Requests and responses as messages: what is written is read again, in whatever pieces, and nothing else passes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from van.adaptors.http.mapping import (
    Fields,
    MessageReader,
    RequestHead,
    ResponseHead,
    data_section,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    encode_trailers,
    end_to_end,
    split_fields,
    take_apart,
    takes_trailers,
)
from van.amqp.errors import DecodeError
from van.amqp.message import AmqpSequence, AmqpValue, Data, Message, Properties

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
names = st.text(TOKEN, min_size=1, max_size=20).map(str.encode).map(lambda name: b"x-" + name)
visible = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])
values = st.lists(st.sampled_from([bytes([octet]) for octet in visible]), max_size=20).map(b"".join)
fields = st.lists(st.tuples(names, values), max_size=8)
targets = st.lists(st.sampled_from([bytes([octet]) for octet in visible]), max_size=20).map(b"".join)
requests = st.builds(
    RequestHead,
    st.text(TOKEN, min_size=1, max_size=10).map(str.encode),
    targets.map(lambda path: b"/" + path),
    fields,
    authority=st.sampled_from([b"", b"example.org", b"[::1]:8080"]),
    scheme=st.sampled_from([b"http", b"https"]),
    version=st.sampled_from(["1.0", "1.1", "2"]),
    upgrade=st.sampled_from([b"", b"websocket"]),
    trailers=st.booleans(),
    acknowledges=st.booleans(),
)
responses = st.builds(ResponseHead, st.integers(200, 599), fields, version=st.sampled_from(["1.0", "1.1", "2"]))
bodies = st.lists(st.binary(max_size=300), max_size=4)


def attributes(head: RequestHead | ResponseHead) -> list[object]:
    common: list[object] = [head.fields, head.version, head.upgrade]
    if isinstance(head, ResponseHead):
        return [head.status, *common]
    place = [head.method, head.scheme, head.authority, head.target]
    return [*place, head.trailers, head.acknowledges, *common]


def read(payload: bytes, cuts: list[int]) -> tuple[Message, bytes, Fields]:
    """Read a message in pieces."""
    reader = MessageReader()
    out: list[bytes | memoryview] = []
    places = sorted({0, len(payload), *(cut % (len(payload) + 1) for cut in cuts)})
    total = sum(reader.feed(payload[start:end], out) for start, end in pairwise(places))
    reader.finish()
    body = b"".join(out)
    assert total == len(body)
    assert reader.head is not None
    return reader.head, body, reader.trailers


@given(requests, bodies, fields, st.lists(st.integers(0, 10000), max_size=10))
def test_a_request_is_read_as_it_was_written(
    request: RequestHead, portions: list[bytes], trailers: Fields, cuts: list[int]
) -> None:
    payload = encode_request(request, "web", "here", "7")
    payload += b"".join(data_section(portion) for portion in portions) + encode_trailers(trailers)
    for head, body, behind in (read(payload, cuts), take_apart(payload)):
        assert attributes(decode_request(head)) == attributes(request)
        assert head.properties is not None
        assert (head.properties.to, head.properties.reply_to, head.properties.correlation_id) == ("web", "here", "7")
        assert body == b"".join(portions)
        assert behind == trailers


@given(responses, st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=10))
def test_a_response_is_read_as_it_was_written(response: ResponseHead, body: bytes, cuts: list[int]) -> None:
    payload = encode_response(response, "there", "7", body)
    for head, data, behind in (read(payload, cuts), take_apart(payload)):
        assert attributes(decode_response(head)) == attributes(response)
        assert (data, behind) == (body, [])


@given(st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=5))
def test_any_octets_are_a_message_or_none(data: bytes, cuts: list[int]) -> None:
    try:
        head, _, _ = read(data, cuts)
        decode_request(head)
    except DecodeError:
        pass
    try:
        head, _, _ = take_apart(data)
        decode_response(head)
    except DecodeError:
        pass


@pytest.mark.parametrize(
    "lines",
    ["a b: c\r\n", "a: b\n", "a: b\r\r\n", "a: b", ": b\r\n", "a: \0\r\n", "a: b\r\n c\r\n", "a: b\r\n\r\nc: d\r\n", 5],
)
def test_lines_that_are_no_fields(lines: object) -> None:
    with pytest.raises(DecodeError):
        split_fields(lines)


@pytest.mark.parametrize(
    "named",
    [
        {"http:path": "a b"},
        {"http:path": ""},
        {"http:path": "/\u20ac"},
        {"http:scheme": "ftp"},
        {"http:authority": "a\r\nb"},
        {"http:upgrade": "a\r\nb: c"},
        {"http:fields": "Connection\r\n"},
    ],
)
def test_properties_that_are_no_request(named: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        decode_request(Message(application_properties=named))


@pytest.mark.parametrize("status", ["", "20", "2000", "099", "100", "101", "600", "abc", "\u0662\u0660\u0660"])
def test_a_subject_that_is_no_status(status: str) -> None:
    with pytest.raises(DecodeError):
        decode_response(Message(properties=Properties(subject=status)))


@pytest.mark.parametrize("body", [AmqpValue(5), AmqpSequence([1]), AmqpValue([b""])])
def test_a_body_that_is_not_made_of_octets(body: AmqpValue | AmqpSequence) -> None:
    payload = Message(body=body).encode()
    for look in (take_apart, lambda payload: read(payload, [])):
        with pytest.raises(DecodeError):
            look(payload)


def test_what_applications_leave_out() -> None:
    request = decode_request(Message())
    assert (request.method, request.target, request.authority, request.fields) == (b"GET", b"/", b"", [])
    assert decode_response(Message()).status == 200
    text = Message(properties=Properties(to="x"), body=AmqpValue("text")).encode()
    assert read(text, [])[1] == take_apart(text)[1] == b"text"
    several = Message(body=[Data(b"a"), Data(b"b")]).encode()
    assert read(several, [])[1] == take_apart(several)[1] == b"ab"


def test_fields_of_one_connection() -> None:
    raw = [(b"connection", b"keep-alive, X-One"), (b"x-one", b"1"), (b"te", b"gzip, Trailers"), (b"x-two", b"2")]
    assert end_to_end(raw) == [(b"x-two", b"2")]
    assert takes_trailers(raw)
    assert not takes_trailers(raw[:2])
    assert split_fields("Host: a\r\nTransfer-Encoding: chunked\r\nX-Two:  2 \r\n") == [(b"x-two", b"2")]


def test_a_head_without_end_is_refused() -> None:
    reader = MessageReader()
    endless = b"\x00\x53\x74\xd1\x00\xff\xff\xff\x00\x00\x00\x02"
    for _ in range(3):
        assert reader.feed(endless + b"x" * 65536, []) == 0
    with pytest.raises(DecodeError):
        reader.feed(b"x" * 65536, [])
