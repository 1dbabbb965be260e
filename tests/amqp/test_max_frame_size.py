"""max-frame-size and frame headers (2.3, 2.7.1): what is refused coming in, and what never goes out."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint
from tests.amqp.peer import Peer, begin, condition, open_, receiving, sender_to, sending, transfer
from van.amqp.errors import ErrorCondition
from van.amqp.events import ConnectionClosed
from van.amqp.framing import AMQP_HEADER, SASL_HEADER, encode_frame
from van.amqp.performatives import Attach, Begin, Close, Open
from van.amqp.sasl import AnonymousServer, SaslServer
from van.amqp.terminus import Source, Target


def test_a_frame_of_the_full_size_is_taken_and_one_octet_more_is_not(octets: bool) -> None:
    engine = Endpoint(credit=10, max_frame_size=512)
    peer = sender_to(engine, octets=octets)
    body, _ = transfer(0)
    room = 512 - 8 - len(body.encode())
    peer.send((body, b"x" * room))
    assert engine.sinks["link"].bodies == [b"x" * room]
    peer.take()
    peer.send((transfer(1)[0], b"x" * (room + 10)))
    close = peer.one(Close)
    assert condition(close) == ErrorCondition.FRAMING_ERROR
    assert "512" in close.error.description


def test_a_frame_too_large_is_refused_by_its_header(octets: bool) -> None:
    peer = Peer(octets=octets).open()
    peer.send(b"\x7f\xff\xff\xff\x02\x00\x00\x00")
    assert condition(peer.one(Close)) == ErrorCondition.FRAMING_ERROR


@pytest.mark.parametrize(
    ("header", "word"),
    [
        (b"\x00\x00\x00\x07\x02\x00\x00\x00", "data offset"),
        (b"\x00\x00\x00\x00\x02\x00\x00\x00", "data offset"),
        (b"\x00\x00\x00\x08\x01\x00\x00\x00", "data offset"),
        (b"\x00\x00\x00\x08\x03\x00\x00\x00", "data offset"),
        (b"\x00\x00\x00\x10\xff\x00\x00\x00", "data offset"),
        (b"\x00\x00\x00\x08\x02\x07\x00\x00", "frame type 7"),
        (b"\x00\x00\x00\x08\x02\x01\x00\x00", "frame type 1"),
    ],
)
@pytest.mark.parametrize("early", [False, True])
def test_a_header_that_cannot_be_right_is_a_framing_error(
    header: bytes, word: str, early: bool, octets: bool
) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER)
    if not early:
        peer.send(open_())
        peer.take()
    peer.send(header, b"\x00" * 8)
    close = peer.one(Close)
    assert condition(close) == ErrorCondition.FRAMING_ERROR
    assert word in close.error.description
    assert len(peer.engine.seen(ConnectionClosed)) == 1


def test_an_extended_header_is_skipped(octets: bool) -> None:
    peer = Peer(octets=octets).open()
    body = begin().encode()
    frame = (16 + len(body)).to_bytes(4, "big") + b"\x04\x00\x00\x09" + b"extended" + body
    peer.send(frame)
    assert peer.one(Begin).remote_channel == 9


def test_a_max_frame_size_below_the_least_is_an_invalid_field(octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, open_(max_frame_size=511))
    assert condition(peer.one(Close)) == ErrorCondition.INVALID_FIELD


def test_a_sasl_frame_has_the_smallest_size_of_all(octets: bool) -> None:
    peer = Peer(Endpoint(sasl=SaslServer([AnonymousServer()])), octets=octets)
    peer.send(SASL_HEADER, encode_frame(0, b"x" * 505, 1))
    assert peer.engine.closed_with == ErrorCondition.FRAMING_ERROR
    assert peer.engine.connection.closed


def test_an_amqp_frame_where_sasl_belongs_ends_the_stream(octets: bool) -> None:
    peer = Peer(Endpoint(sasl=SaslServer([AnonymousServer()])), octets=octets)
    peer.send(SASL_HEADER, open_())
    assert peer.engine.closed_with == ErrorCondition.FRAMING_ERROR


def test_an_empty_sasl_frame_is_passed_over(octets: bool) -> None:
    peer = Peer(Endpoint(sasl=SaslServer([AnonymousServer()])), octets=octets)
    peer.send(SASL_HEADER, encode_frame(0, b"", 1))
    assert not peer.engine.connection.closed


@pytest.mark.parametrize("body", [b"\x00\x53\x77\x45", b"\x00\xa3\x03abc\x45"])
def test_a_sasl_frame_of_an_unknown_kind_ends_the_stream(body: bytes, octets: bool) -> None:
    peer = Peer(Endpoint(sasl=SaslServer([AnonymousServer()])), octets=octets)
    peer.send(SASL_HEADER, encode_frame(0, body, 1))
    assert peer.engine.closed_with == ErrorCondition.NOT_ALLOWED
    assert peer.engine.connection.closed


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"\x00",
        b"\x40",
        b"\x00\x53\x14",
        b"\x00\x53\x24\x45",
        b"\x00\x53\x99\x45",
        b"\x00\x53\x10\xc0\x01\x00",
        b"\x00\x53\x11\x45",
        b"\x00\x53\x13\x45",
        b"\x00\x53\x15\x45",
        b"\x00\x53\x14\x45",
        b"\x00\x53\x12\xc0\x03\x01\x43\x43",
    ],
)
def test_garbage_in_a_frame_is_a_decode_error(body: bytes, octets: bool) -> None:
    peer = Peer(octets=octets).open().begin()
    peer.send(encode_frame(0, body))
    close = peer.one(Close)
    assert condition(close) == ErrorCondition.DECODE_ERROR
    assert close.error.description


def test_an_answer_that_the_peer_could_not_take_is_not_written(octets: bool) -> None:
    peer = Peer(octets=octets).open(max_frame_size=512).begin()
    peer.send(receiving("n" * 600))
    data = peer.engine.take()
    assert len(data) <= 512
    assert peer.engine.closed_with == ErrorCondition.FRAME_SIZE_TOO_SMALL


def test_a_large_attach_is_answered_where_the_peer_takes_large_frames(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin()
    peer.send(sending("n" * 3000, source=Source(address="a" * 5000), target=Target(address="b" * 5000)))
    assert peer.one(Attach).name == "n" * 3000


def test_an_open_larger_than_the_least_frame_is_written_and_read(octets: bool) -> None:
    peer = Peer(Endpoint(properties={"p": "x" * 2000}), octets=octets)
    peer.send(AMQP_HEADER, open_(max_frame_size=512, properties={"q": "y" * 2000}))
    assert peer.one(Open).properties == {"p": "x" * 2000}


def test_frames_cut_anywhere_are_put_together() -> None:
    whole = b"".join(
        encode_frame(0, body.encode() + payload)
        for body, payload in [(begin(), b""), (sending(), b"")]
    )
    for cut in range(len(whole)):
        peer = Peer().open()
        peer.send(whole[:cut])
        peer.send(whole[cut:])
        assert [type(body) for body in peer.take()] == [Begin, Attach]


def test_the_frame_that_is_awaited_is_known() -> None:
    peer = Peer().open()
    assert peer.engine.connection.frame_awaited == 0
    peer.send(b"\x00\x00\x10\x00\x02\x00\x00\x00", b"x" * 100)
    assert peer.engine.connection.frame_awaited == 4096


def test_a_peer_that_asks_and_never_reads_is_cut_off() -> None:
    peer = Peer().open().begin()
    name = "n" * 4000
    for _ in range(2000):
        peer.send(sending(name, 0), b"\x00\x00\x00\x0f\x02\x00\x00\x00\x00\x53\x16\xc0\x02\x01\x43")
        if peer.engine.connection.closed:
            break
    assert peer.engine.connection.closed
    assert peer.engine.closed_with == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
    assert len(peer.engine.take()) == 0
