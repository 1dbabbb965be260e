"""Peers that abuse HTTP/2: each abuse has a limit by name, ends its own connection, and is said in words."""

from __future__ import annotations

import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, StreamReset
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.adaptors.http.http2_ends import GET, OK, POST, Ends, Foreign
from van.adaptors.http.http2_connection import PREFACE, Http2Connection
from van.adaptors.http.http2_fields import Fields
from van.adaptors.http.http2_limits import (
    EMPTY_FRAMES,
    ENCODER_TABLE,
    IDLE_FRAMES,
    KEEPALIVE,
    MAX_CONTINUATIONS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST,
    MAX_PENDING,
    MAX_SETTINGS,
    MAX_STREAMS,
    PING_TIMEOUT,
    PINGS,
    RESETS,
    SETTINGS,
    UPDATES_PER_DATA,
    Allowance,
)


def told(foreign: Foreign) -> tuple[ErrorCodes | int | None, str]:
    """The code and the reason of the GOAWAY that the foreign side got."""
    foreign.run()
    (end,) = foreign.seen(ConnectionTerminated)
    return end.error_code, (end.additional_data or b"").decode()


def resets(foreign: Foreign) -> list[tuple[int, ErrorCodes | int]]:
    foreign.run()
    return [(event.stream_id, event.error_code) for event in foreign.seen(StreamReset)]


def frames(frame: Frame, times: int) -> bytes:
    return frame.serialize() * times


@pytest.fixture
def client() -> Foreign:
    """A foreign client at a server of ours."""
    return Foreign(client=True)


def test_rapid_reset(client: Foreign) -> None:
    limit = int(RESETS[0])
    for number in range(limit + 1):
        stream = client.theirs.get_next_available_stream_id()
        client.theirs.send_headers(stream, GET, end_stream=True)
        client.theirs.reset_stream(stream, ErrorCodes.CANCEL)
        assert not client.ours.failed, number
        client.ours.receive(client.theirs.data_to_send(), client.now)
    assert not client.ours.streams
    assert len(client.holder.requests) == limit + 1
    assert all(request.resets for request in client.holder.requests)
    assert told(client)[0] == ErrorCodes.ENHANCE_YOUR_CALM


def test_resets_now_and_then_are_fine(client: Foreign) -> None:
    for _ in range(3 * int(RESETS[0])):
        client.now += 1 / RESETS[1]
        stream = client.theirs.get_next_available_stream_id()
        client.theirs.send_headers(stream, GET, end_stream=True)
        client.theirs.reset_stream(stream, ErrorCodes.CANCEL)
        client.ours.receive(client.theirs.data_to_send(), client.now)
        client.ours.take(65536)
    assert not client.ours.failed


def test_a_client_that_makes_the_server_reset() -> None:
    """CVE-2025-8671: each stream is reset by us, for a mistake that is made on purpose."""
    for mistake in (WindowUpdateFrame(0, window_increment=2**31 - 1), None):
        client = Foreign(client=True)
        for _ in range(int(RESETS[0]) + 1):
            stream = client.theirs.get_next_available_stream_id()
            fields: Fields = [*GET, (b"connection", b"close")] if mistake is None else GET
            client.theirs.config.validate_outbound_headers = False
            client.theirs.config.normalize_outbound_headers = False
            client.theirs.send_headers(stream, fields, end_stream=True)
            client.raw(client.theirs.data_to_send())
            if mistake is not None:
                mistake.stream_id = stream
                client.raw(mistake.serialize())
            client.theirs.receive_data(b"".join(client.ours.take(65536)))
        assert client.ours.failed == "too many streams that had to be reset"


@pytest.mark.parametrize(
    ("frame", "limit"),
    [
        (PingFrame(0, opaque_data=b"12345678"), PINGS),
        (SettingsFrame(0), SETTINGS),
        (PriorityFrame(5, depends_on=3), IDLE_FRAMES),
        (WindowUpdateFrame(0, window_increment=1), IDLE_FRAMES),
    ],
    ids=["ping", "settings", "priority", "window-update"],
)
def test_frames_that_only_cost(client: Foreign, frame: Frame, limit: tuple[float, float]) -> None:
    # The handshake has used some.
    for _ in range(int(limit[0]) - 10):
        client.raw(frame.serialize())
        client.ours.take(65536)
    assert not client.ours.over()
    for _ in range(11):
        client.raw(frame.serialize())
    code, reason = told(client)
    assert code == ErrorCodes.ENHANCE_YOUR_CALM
    assert reason


def test_window_updates_are_fine_while_there_is_data_for_them() -> None:
    ends = Ends()
    asked = ends.ask()
    ends.run()
    (served,) = ends.serving.requests
    times = int(IDLE_FRAMES[0])
    for _ in range(times):
        served.send(OK if not asked.head else None, b"x")
        ends.server.receive(WindowUpdateFrame(0, window_increment=1).serialize() * int(UPDATES_PER_DATA - 1), ends.now)
        ends.server.take(65536)
        asked.head = OK
    assert not ends.server.failed


def test_answers_that_nobody_reads_are_bounded(client: Foreign) -> None:
    ping = PingFrame(0, opaque_data=b"12345678").serialize()
    while not client.ours.failed:
        client.now += 1.0
        client.raw(ping * 100)
        assert sum(map(len, client.ours._out)) < 2 * MAX_PENDING
    assert "reads none" in client.ours.failed


def test_data_without_data(client: Foreign) -> None:
    client.theirs.send_headers(1, POST)
    client.run()
    padded = DataFrame(1, pad_length=3, flags=["PADDED"]).serialize()
    client.raw(frames(DataFrame(1), int(EMPTY_FRAMES[0]) - 1) + padded)
    assert not client.ours.over()
    client.raw(padded)
    assert told(client)[0] == ErrorCodes.ENHANCE_YOUR_CALM


def test_fields_without_end(client: Foreign) -> None:
    """CVE-2024-27316."""
    first = HeadersFrame(1, data=client.theirs.encoder.encode(GET)).serialize()
    more = ContinuationFrame(1, data=client.theirs.encoder.encode([(b"x", b"y")])).serialize()
    client.raw(first + more * MAX_CONTINUATIONS)
    assert not client.ours.over()
    client.raw(more)
    assert told(client)[0] == ErrorCodes.ENHANCE_YOUR_CALM
    assert not client.holder.requests


def test_fields_that_are_too_many_octets(client: Foreign) -> None:
    client.raw(HeadersFrame(1, data=client.theirs.encoder.encode(GET)).serialize())
    client.raw(ContinuationFrame(1, data=bytes(MAX_FRAME_SIZE)).serialize())
    assert told(client)[0] == ErrorCodes.ENHANCE_YOUR_CALM


def test_a_bomb_of_compressed_fields(client: Foreign) -> None:
    """CVE-2016-6581: a large field is put into the table once, and named a thousand times by one octet each."""
    encoded = client.theirs.encoder.encode([*GET, (b"x", b"y" * 3000)])
    bomb = encoded + b"\xbe" * (MAX_HEADER_LIST // 3000 + 1)
    client.raw(HeadersFrame(1, data=bomb, flags=["END_HEADERS", "END_STREAM"]).serialize())
    assert told(client)[0] == ErrorCodes.ENHANCE_YOUR_CALM
    assert not client.holder.requests


def test_settings_without_end(client: Foreign) -> None:
    client.raw(SettingsFrame(0, settings={0x100 + n: 1 for n in range(MAX_SETTINGS + 1)}).serialize())
    assert told(client)[0] == ErrorCodes.ENHANCE_YOUR_CALM


def test_our_table_stays_small_whatever_a_peer_offers(client: Foreign) -> None:
    client.theirs.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**31})
    client.run()
    for number in range(200):
        stream = client.theirs.get_next_available_stream_id()
        client.theirs.send_headers(stream, GET, end_stream=True)
        client.run()
        client.holder.requests[-1].send([*OK, (b"x", b"%d" % number * 30)], b"", [])
        client.run()
    table = client.ours._codec.encoder.header_table
    assert table.maxsize == ENCODER_TABLE
    assert sum(len(name) + len(value) for name, value in table.dynamic_entries) < ENCODER_TABLE


def test_more_streams_than_allowed_are_refused_one_by_one() -> None:
    ends = Ends()
    for _ in range(MAX_STREAMS):
        ends.ask()
    # A client that has not read the settings.
    ends.client.max_streams += 1
    ends.client._codec.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
    ends.client._codec.remote_settings.acknowledge()
    one_more = ends.ask()
    ends.run()
    assert one_more.resets == [(ErrorCodes.REFUSED_STREAM, True)]
    assert len(ends.serving.requests) == MAX_STREAMS
    assert not ends.server.failed


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        PREFACE + PingFrame(0, opaque_data=b"12345678").serialize(),
        PREFACE + SettingsFrame(0, flags=["ACK"]).serialize(),
        PREFACE[:10] + b"x",
    ],
)
def test_what_does_not_begin_as_it_should(octets: bytes) -> None:
    for piece in (1, len(octets)):
        foreign = Foreign(client=False)
        server = Http2Connection(foreign.holder, client=False, now=0.0)
        for offset in range(0, len(octets), piece):
            server.receive(octets[offset : offset + piece], 0.0)
        assert server.failed
        assert server.finished
        assert b"".join(server.take(65536))[3 + 6 :]


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        b"\x01\x00\x01\x00\x00\x00\x00\x00\x01",
        GoAwayFrame(0).serialize()[:3] + b"\x07\x00\x00\x00\x00\x01" + bytes(8),
        b"\0\0\x04\x07\0\0\0\0\0" + bytes(4),
        ContinuationFrame(1, data=b"x").serialize(),
        RstStreamFrame(1).serialize(),
        DataFrame(1, data=b"x").serialize(),
        PushPromiseFrame(1, promised_stream_id=2, flags=["END_HEADERS"]).serialize(),
        HeadersFrame(2, data=b"\x82", flags=["END_HEADERS"]).serialize(),
        HeadersFrame(1, data=b"\xff\xff\xff", flags=["END_HEADERS"]).serialize(),
        WindowUpdateFrame(0, window_increment=2**31 - 1).serialize(),
        b"\0\0\x04\x08\0\0\0\0\0" + bytes(4),
        SettingsFrame(0, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**31}).serialize(),
    ],
)
def test_frames_that_are_wrong_end_the_connection(client: Foreign, frame: bytes) -> None:
    client.raw(frame)
    assert client.ours.failed
    assert client.ours.finished
    client.raw(b"more")
    foreign = told(client)
    assert foreign[0] != ErrorCodes.NO_ERROR


MALFORMED: list[Fields] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")],
    [*GET[:3]],
    [*GET[:3], (b":path", b"")],
    [*GET[:3], (b":path", b"no/slash")],
    [*GET[:3], (b":path", b"/ HTTP/1.1\r\nsmuggled: yes")],
    [*GET[:3], (b":path", b"/a b")],
    [*GET[:3], (b":path", b"*")],
    [(b":method", b"G ET"), *GET[1:]],
    [(b":method", b""), *GET[1:]],
    [GET[0], (b":scheme", b"\n"), *GET[2:]],
    [*GET[:2], (b":authority", b"a b"), GET[3]],
    [*GET[:2], (b":authority", b"user@there"), GET[3]],
    [*GET, (b"host", b"elsewhere")],
    [*GET, (b"host", b"here"), (b"host", b"here")],
    [*GET[:2], GET[3], (b"host", b"a/b")],
    [*GET, (b":path", b"/twice")],
    [*GET, (b":status", b"200")],
    [*GET, (b":protocol", b"websocket")],
    [GET[0], (b"a", b"b"), *GET[1:]],
    [*GET, (b"Upper", b"case")],
    [*GET, (b"", b"nameless")],
    [*GET, (b"a b", b"c")],
    [*GET, (b"a:", b"c")],
    [*GET, (b"a", b"b\r\nc: d")],
    [*GET, (b"a", b"b\0")],
    [*GET, (b"a", b" b")],
    [*GET, (b"a", b"b ")],
    [*GET, (b"connection", b"close")],
    [*GET, (b"transfer-encoding", b"chunked")],
    [*GET, (b"upgrade", b"h2c")],
    [*GET, (b"te", b"gzip")],
    [*GET, (b"content-length", b"1")],
    [*GET, (b"content-length", b"-1")],
    [*GET, (b"content-length", b"0"), (b"content-length", b"1")],
    [(b":method", b"CONNECT"), *GET[1:]],
    [(b":method", b"CONNECT")],
]


@pytest.mark.parametrize("fields", MALFORMED)
def test_a_malformed_request_ends_its_stream_and_nothing_else(client: Foreign, fields: Fields) -> None:
    unchecked(client.theirs)
    client.theirs.send_headers(1, fields, end_stream=True)
    client.theirs.send_headers(3, [*GET, (b"te", b"trailers"), (b"cookie", b"a=b")], end_stream=True)
    assert resets(client) == [(1, ErrorCodes.PROTOCOL_ERROR)]
    (request,) = client.holder.requests
    assert request.request[-1] == (b"cookie", b"a=b")
    assert not client.ours.failed


@pytest.mark.parametrize(
    "fields", [[*GET[:3], (b":path", b"/a?b=%20")], [(b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")]]
)
def test_unusual_requests(client: Foreign, fields: Fields) -> None:
    client.theirs.send_headers(1, fields, end_stream=True)
    client.theirs.send_headers(3, [(b":method", b"CONNECT"), (b":authority", b"there:1")])
    client.run()
    assert client.holder.requests[0].request == fields
    assert len(client.holder.requests) == 2
    assert resets(client) == []


def unchecked(connection: H2Connection) -> None:
    """Have h2 send whatever it is given."""
    connection.config.validate_outbound_headers = False
    connection.config.normalize_outbound_headers = False


@pytest.mark.parametrize("body", [b"abcd", b"ab"])
def test_a_body_of_another_length_than_was_said(client: Foreign, body: bytes) -> None:
    for stream in (1, 3):
        client.theirs.send_headers(stream, [*POST, (b"content-length", b"3")])
    client.theirs.send_data(1, body, end_stream=True)
    client.theirs.send_data(3, b"ab")
    client.theirs.send_headers(3, [(b"x", b"y")], end_stream=True)
    assert resets(client) == [(1, ErrorCodes.PROTOCOL_ERROR), (3, ErrorCodes.PROTOCOL_ERROR)]
    assert [request.resets for request in client.holder.requests] == [[(ErrorCodes.PROTOCOL_ERROR, False)]] * 2
    assert not client.ours.failed


def test_malformed_trailers(client: Foreign) -> None:
    unchecked(client.theirs)
    client.theirs.send_headers(1, POST)
    client.theirs.send_headers(1, [(b"Upper", b"case")], end_stream=True)
    assert resets(client) == [(1, ErrorCodes.PROTOCOL_ERROR)]


ANSWERS: list[tuple[Fields, bytes]] = [
    ([(b"x", b"y")], b""),
    ([(b":status", b"20")], b""),
    ([(b":status", b"2000")], b""),
    ([*OK, (b":path", b"/")], b""),
    ([*OK, (b"connection", b"close")], b""),
    ([*OK, (b"content-length", b"3")], b"ab"),
    ([*OK, (b"content-length", b"3")], b"abcd"),
    ([*OK, (b"content-length", b"x")], b""),
    ([(b":status", b"204")], b"body"),
]


@pytest.mark.parametrize(("fields", "body"), ANSWERS)
def test_a_malformed_answer_ends_its_stream_and_nothing_else(fields: Fields, body: bytes) -> None:
    """By the connection go the requests of others."""
    ends = Ends()
    asked = [ends.ask() for _ in range(2)]
    ends.run()
    bad, good = ends.serving.requests
    bad.send(fields, body, [])
    good.send(OK, b"fine", [])
    ends.run()
    assert asked[0].resets == [(ErrorCodes.PROTOCOL_ERROR, False)]
    assert asked[1].body == b"fine"
    assert not ends.client.failed


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (b"HEAD", [*OK, (b"content-length", b"300")]),
        (b"GET", [(b":status", b"304"), (b"content-length", b"300")]),
    ],
)
def test_an_answer_without_the_body_whose_length_it_has(method: bytes, fields: Fields) -> None:
    ends = Ends()
    asked = ends.ask([(b":method", method), *GET[1:]])
    ends.run()
    ends.serving.requests[0].send(fields, b"", [])
    ends.run()
    assert asked.head == fields
    assert asked.trailers == []


def test_an_allowance_grows_with_time_up_to_its_burst() -> None:
    allowance = Allowance((2, 1.0), 10.0)
    assert [allowance.spend(10.0) for _ in range(3)] == [True, True, False]
    assert not allowance.spend(11.0)
    assert allowance.spend(13.0)
    allowance.earn(100.0)
    assert [allowance.spend(13.0) for _ in range(3)] == [True, True, False]
    assert [allowance.spend(1000.0) for _ in range(3)] == [True, True, False]


def test_a_head_that_never_ends_is_no_rest() -> None:
    for octets in (b"\0\0", HeadersFrame(1, data=b"\x82").serialize()):
        client = Foreign(client=True)
        client.raw(octets)
        client.ours.handle_deadline(client.now + KEEPALIVE)
        client.ours.handle_deadline(client.now + KEEPALIVE + PING_TIMEOUT)
        assert client.ours.failed == "the peer does not answer"


def test_a_server_that_says_continue_without_end() -> None:
    ends = Ends()
    asked = ends.ask()
    ends.run()
    (served,) = ends.serving.requests
    assert served.stream is not None
    while not ends.client.failed:
        served.stream.send_informational([(b":status", b"103")])
        ends.client.receive(b"".join(ends.server.take(65536)), ends.now)
    assert len(asked.informational) <= IDLE_FRAMES[0]
    assert asked.resets
