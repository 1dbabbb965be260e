"""Large frames that come in pieces mean what they mean whole, wherever they are cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.amqp.pair import Endpoint
from tests.amqp.peer import Peer, condition, continued, sender_to, transfer
from van.amqp.connection import LARGE_FRAME, LEAST_HEAD
from van.amqp.delivery_state import ACCEPTED, Received
from van.amqp.errors import ErrorCondition
from van.amqp.framing import FRAME_HEADER, encode_frame
from van.amqp.performatives import Close, Detach, Disposition, End, Transfer

LARGE = bytes(range(250)) * 50
assert len(LARGE) > LARGE_FRAME

# Where the frame's header, the performative and what is enough of it end, and in between.
CUTS = [1, 7, 8, 12, 30, LEAST_HEAD - 1, LEAST_HEAD, LEAST_HEAD + 1, 5000, len(LARGE)]


def sending(**settings: Any) -> Peer:
    return sender_to(Endpoint(credit=10, **settings))


def frame(sent: tuple[Transfer, bytes], channel: int = 0) -> bytes:
    return encode_frame(channel, sent[0].encode() + sent[1])


def in_pieces(peer: Peer, data: bytes, *cuts: int) -> None:
    for start, stop in zip((0, *cuts), (*cuts, len(data)), strict=True):
        peer.send(data[start:stop])


@pytest.mark.parametrize("cut", CUTS)
def test_a_whole_delivery(cut: int) -> None:
    peer = sending()
    in_pieces(peer, frame(transfer(0, LARGE)) + frame(transfer(1, b"behind it")), cut)
    assert peer.engine.sinks["link"].bodies == [LARGE, b"behind it"]
    assert peer.one(Disposition) == Disposition(role=True, first=0, last=1, settled=True, state=ACCEPTED)
    session = peer.engine.connection.sessions[0]
    assert session.next_incoming_id == 2


@pytest.mark.parametrize("cut", CUTS)
def test_frames_of_a_longer_one(cut: int) -> None:
    peer = sending()
    first = frame(transfer(0, LARGE, more=True))
    second = frame(continued(LARGE[::-1], more=True))
    third = frame(continued(LARGE))
    in_pieces(peer, first + second + third, cut, len(first) + cut, len(first) + len(second) + cut)
    assert peer.engine.sinks["link"].bodies == [LARGE + LARGE[::-1] + LARGE]
    assert peer.engine.connection.sessions[0].held == 3 * len(LARGE)


@given(cuts=st.lists(st.integers(1, 3 * len(LARGE)), max_size=12), settled=st.booleans())
def test_cut_anywhere_and_often(cuts: list[int], settled: bool) -> None:
    peer = sending()
    data = frame(transfer(0, LARGE, more=True)) + frame(continued(b"small", settled=settled))
    data += frame(transfer(1, LARGE)) + frame(transfer(2, LARGE, settled=True))
    in_pieces(peer, data, *sorted({cut for cut in cuts if cut < len(data)}))
    assert peer.engine.sinks["link"].bodies == [LARGE + b"small", LARGE, LARGE]
    assert [received.settled for received in peer.engine.sinks["link"].received] == [settled, False, True]


@pytest.mark.parametrize("cut", CUTS)
def test_a_rare_encoding(cut: int) -> None:
    peer = sending(outcome=None)
    body = transfer(0, rcv_settle_mode=0, state=Received(section_number=0, section_offset=0))[0]
    in_pieces(peer, encode_frame(0, body.encode() + LARGE), cut)
    symbol = b"\x00\xa3\x12amqp:transfer:list" + transfer(1)[0].encode()[3:]
    in_pieces(peer, encode_frame(0, symbol + LARGE), cut)
    assert peer.engine.sinks["link"].bodies == [LARGE, LARGE]


def test_a_performative_longer_than_what_came_of_it() -> None:
    """A tag may be cut, where nothing behind it shows that it is."""
    for cut in range(LEAST_HEAD, LEAST_HEAD + 40):
        peer = sending()
        tag = bytes(range(32))
        fields = b"\x52\x00" + b"\x70\x00\x00\x00\x00" + b"\xa0\x20" + tag
        size = (4 + len(fields)).to_bytes(4, "big")
        # An extended header moves everything towards the cut.
        header = FRAME_HEADER.pack(8 + 40 + 3 + 9 + len(fields) + len(LARGE), 12, 0, 0) + bytes(40)
        data = header + b"\x00\x53\x14\xd0" + size + b"\x00\x00\x00\x03" + fields + LARGE
        in_pieces(peer, data, cut)
        (received,) = peer.engine.sinks["link"].received
        assert received.delivery_tag == tag
        assert peer.engine.sinks["link"].bodies == [LARGE]


@pytest.mark.parametrize("cut", CUTS)
def test_errors_are_the_same(cut: int) -> None:
    peer = sending()
    in_pieces(peer, frame(transfer(0, LARGE, handle=5)), cut)
    assert condition(peer.one(End)) == ErrorCondition.UNATTACHED_HANDLE
    in_pieces(peer, frame(transfer(0, LARGE)), cut)
    assert peer.take() == []  # what was under way when the session ended
    in_pieces(peer, frame(transfer(0, LARGE), channel=3), cut)
    assert condition(peer.one(Close)) == ErrorCondition.NOT_ALLOWED


@pytest.mark.parametrize("cut", CUTS)
def test_garbage_in_front_of_a_payload(cut: int) -> None:
    peer = sending()
    in_pieces(peer, encode_frame(0, b"\x00\x53\x14\xc0\x05\x02\x43\xff\xff\xff" + LARGE), cut)
    assert condition(peer.one(Close)) == ErrorCondition.DECODE_ERROR


@pytest.mark.parametrize("cut", CUTS)
def test_a_message_that_is_too_large(cut: int) -> None:
    peer = sending()
    peer.engine.sinks["link"].link.max_message_size = len(LARGE)
    in_pieces(peer, frame(transfer(0, LARGE)), cut)
    assert peer.take() != []
    in_pieces(peer, frame(transfer(1, LARGE + b"!")), cut)
    assert condition(peer.one(Detach)) == ErrorCondition.MESSAGE_SIZE_EXCEEDED
    assert peer.engine.connection.sessions[0].held == len(LARGE)


@pytest.mark.parametrize("cut", CUTS)
def test_the_end_in_the_middle_of_one(cut: int) -> None:
    peer = sending()
    data = frame(transfer(0, LARGE))
    peer.send(data[:cut])
    peer.engine.connection.close()
    peer.take()
    peer.send(data[cut:], Close())
    assert peer.engine.connection.closed
    assert peer.engine.sinks["link"].bodies == []
