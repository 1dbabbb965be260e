"""Deliveries of several frames (2.6.14): both ways, what may be left out, and what must not change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import (
    Peer,
    condition,
    continued,
    decode_frames,
    flow,
    receiver_from,
    receiving,
    sender_to,
    sending,
    transfer,
)
from van.amqp.delivery_state import ACCEPTED, Received
from van.amqp.errors import ErrorCondition
from van.amqp.framing import encode_frame
from van.amqp.performatives import Detach, Disposition, End
from van.amqp.sender_link import TRANSFER_OVERHEAD


def receiver(octets: bool, **settings: Any) -> Peer:
    return sender_to(Endpoint(credit=10, **settings), octets=octets)


def test_frames_are_put_together(octets: bool) -> None:
    peer = receiver(octets)
    peer.send(transfer(0, b"one ", more=True), continued(b"two ", more=True), continued(b"three"))
    assert peer.engine.sinks["link"].bodies == [b"one two three"]
    assert peer.one(Disposition) == Disposition(role=True, first=0, settled=True, state=ACCEPTED)


def test_a_delivery_takes_one_credit_whatever_its_frames(octets: bool) -> None:
    peer = receiver(octets)
    peer.send(transfer(0, more=True), continued(more=True), continued(), transfer(1))
    link = peer.engine.sinks["link"].link
    assert (link.link_credit, link.delivery_count) == (8, 2)


def test_later_frames_may_repeat_what_the_first_said(octets: bool) -> None:
    peer = receiver(octets)
    peer.send(transfer(7, b"a", more=True), transfer(7, b"b", more=True), transfer(7, b"c"))
    assert peer.engine.sinks["link"].bodies == [b"abc"]


@pytest.mark.parametrize("changed", [{"delivery_id": 1}, {"delivery_tag": b"other"}, {"message_format": 5}])
def test_what_the_first_said_must_not_change(changed: dict[str, Any], octets: bool) -> None:
    peer = receiver(octets)
    peer.send(transfer(0, more=True), continued(**changed))
    assert condition(peer.one(Detach)) == ErrorCondition.INVALID_FIELD
    peer.send(transfer(5))
    assert peer.take() == []


@pytest.mark.parametrize("missing", [{"delivery_id": None}, {"delivery_tag": None}, {"delivery_tag": b"x" * 33}])
def test_the_first_frame_needs_id_and_tag(missing: dict[str, Any], octets: bool) -> None:
    peer = receiver(octets)
    body, payload = transfer(0)
    for name, value in missing.items():
        setattr(body, name, value)
    peer.send((body, payload))
    detach = peer.one(Detach)
    assert condition(detach) == ErrorCondition.INVALID_FIELD
    assert detach.closed


def test_a_tag_of_32_octets_and_an_empty_one_are_taken(octets: bool) -> None:
    peer = receiver(octets)
    peer.send(transfer(0, delivery_tag=b"x" * 32), transfer(1, delivery_tag=b""))
    assert len(peer.engine.sinks["link"].bodies) == 2


def test_an_id_that_is_unsettled_ends_the_session(octets: bool) -> None:
    peer = receiver(octets, outcome=None)
    peer.send(transfer(3), transfer(3))
    assert condition(peer.one(End)) == ErrorCondition.INVALID_FIELD


def test_an_id_that_was_settled_may_come_again(octets: bool) -> None:
    peer = receiver(octets)
    peer.send(transfer(3), transfer(3))
    assert len(peer.engine.sinks["link"].bodies) == 2


def test_an_id_without_a_handle_of_its_own_is_told_by_link(octets: bool) -> None:
    peer = receiver(octets)
    peer.attach(receiving("other", 1))
    peer.send(transfer(0, handle=1))
    assert condition(peer.one(End)) == ErrorCondition.NOT_ALLOWED


def test_links_of_a_session_may_interleave_their_frames(octets: bool) -> None:
    peer = receiver(octets)
    peer.attach(sending("b", 1))
    peer.send(
        transfer(0, b"a1", more=True),
        transfer(1, b"b1", handle=1, more=True),
        continued(b"a2", more=True),
        continued(b"b2", handle=1),
        continued(b"a3"),
    )
    assert peer.engine.sinks["link"].bodies == [b"a1a2a3"]
    assert peer.engine.sinks["b"].bodies == [b"b1b2"]


def test_empty_frames_of_a_delivery_do_no_harm(octets: bool) -> None:
    peer = receiver(octets)
    peer.send(transfer(0, b"", more=True), continued(b"", more=True), continued(b"x", more=True), continued(b""))
    assert peer.engine.sinks["link"].bodies == [b"x"]


def test_a_delivery_without_any_payload_is_one(octets: bool) -> None:
    peer = receiver(octets)
    peer.send(transfer(0, b""))
    assert peer.engine.sinks["link"].bodies == [b""]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_settled_may_come_on_any_frame_and_stays(at: int, octets: bool) -> None:
    peer = receiver(octets)
    marks: list[dict[str, Any]] = [{"settled": True if number == at else None} for number in range(3)]
    peer.send(transfer(0, more=True, **marks[0]), continued(more=True, **marks[1]), continued(**marks[2]))
    (delivery,) = peer.engine.sinks["link"].received
    assert delivery.settled
    assert peer.take() == []
    assert peer.engine.connection.sessions[0].unsettled_in == {}


def test_settled_is_not_taken_back(octets: bool) -> None:
    peer = receiver(octets)
    peer.send(transfer(0, settled=True, more=True), continued(settled=False))
    assert peer.engine.sinks["link"].received[0].settled
    assert peer.take() == []


def test_our_frames_fit_the_peer_and_say_ids_once(octets: bool) -> None:
    peer = Peer(octets=octets).open(max_frame_size=512).begin().attach(receiving())
    peer.send(flow(handle=0, delivery_count=0, link_credit=10))
    payload = bytes(range(256)) * 8
    peer.engine.feeds["link"].send(payload)
    data = peer.engine.take()
    frames = decode_frames(data)
    assert len(data) / len(frames) <= 512
    assert b"".join(frame.payload for frame in frames) == payload
    first, *middle, last = [frame.body for frame in frames]
    assert (first.delivery_id, first.delivery_tag, first.message_format) == (0, b"\0\0\0\0", 0)
    assert first.more
    assert all(frame.more and frame.delivery_id is None and frame.delivery_tag is None for frame in middle)
    assert not last.more


@pytest.mark.parametrize("size", [0, 1, 471, 472, 473, 512, 943, 944, 945, 5000])
def test_every_size_arrives_through_small_frames(size: int, octets: bool) -> None:
    pair = opened(octets=octets, right={"max_frame_size": 512, "credit": 5})
    feed = pair.left.sender(pair.left.begin())
    payload = bytes(number % 251 for number in range(size))
    feed.send(payload)
    feed.send(b"behind it")
    pair.run()
    assert pair.right.sinks["link"].bodies == [payload, b"behind it"]


def test_a_message_format_is_told(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 5})
    feed = pair.left.sender(pair.left.begin())
    delivery = feed.send(b"x")
    delivery.message_format = 0x12345678
    pair.run()
    assert pair.right.sinks["link"].received[0].message_format == 0x12345678


def test_a_delivery_is_sent_as_it_grows(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 5})
    feed = pair.left.sender(pair.left.begin())
    delivery = feed.send(b"1", more=True)
    feed.send(b"behind it")
    pair.run()
    sink = pair.right.sinks["link"]
    assert [received.more for received in sink.received] == [True]
    feed.more(delivery, b"2")
    pair.run()
    assert sink.received[0].data() == b"12"
    assert sink.bodies == []
    feed.more(delivery, b"3", last=True)
    pair.run()
    assert sink.bodies == [b"123", b"behind it"]
    assert [tag for tag, _, _ in feed.outcomes] == [b"1", b"behind it"]
    assert delivery.holder.held == 0


def test_a_settled_delivery_of_several_frames_leaves_with_its_last(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 5, "max_frame_size": 512})
    feed = pair.left.sender(pair.left.begin())
    delivery = feed.send(b"x" * 1000, settled=True)
    pair.run()
    assert feed.gone == [delivery]
    assert pair.left.connection.sessions[0].unsettled_out == {}
    assert pair.right.sinks["link"].received[0].settled


def test_a_delivery_may_be_settled_before_its_end(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 5, "outcome": None})
    feed = pair.left.sender(pair.left.begin())
    feed.send(b"1", more=True)
    pair.run()
    sink = pair.right.sinks["link"]
    sink.link.settle(sink.received[0], ACCEPTED)
    pair.run()
    assert feed.outcomes == [(b"1", ACCEPTED, True)]


def test_a_received_state_before_the_end_is_told(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 5, "outcome": None})
    feed = pair.left.sender(pair.left.begin())
    feed.send(b"1", more=True)
    pair.run()
    sink = pair.right.sinks["link"]
    state = Received(section_number=1, section_offset=1)
    sink.link.update(sink.received[0], state)
    pair.run()
    assert feed.outcomes == [(b"1", state, False)]


def test_a_rare_encoding_means_the_same(octets: bool) -> None:
    peer = receiver(octets, outcome=None)
    body, payload = transfer(0, b"payload", rcv_settle_mode=0, state=Received(section_number=0, section_offset=0))
    symbol = b"\x00\xa3\x12amqp:transfer:list" + body.encode()[3:]
    peer.send((body, payload), encode_frame(0, symbol + b"again"))
    assert peer.engine.sinks["link"].bodies[0] == b"payload"
    assert condition(peer.one(End)) == ErrorCondition.INVALID_FIELD  # the id is not settled: it was understood


def test_frames_on_a_stream_keep_the_windows(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(flow(handle=0, delivery_count=0, link_credit=1, incoming_window=1))
    feed = peer.engine.feeds["link"]
    delivery = feed.send(b"1", more=True)
    assert len(peer.frames()) == 1
    feed.more(delivery, b"2")
    assert peer.frames() == []
    peer.send(flow(next_incoming_id=1, incoming_window=1))
    assert [frame.payload for frame in peer.frames()] == [b"2"]


@pytest.mark.parametrize("settled", [False, True])
def test_pieces_of_every_size_leave_in_frames_that_fit(settled: bool, octets: bool) -> None:
    """However a delivery arrives, its octets leave in order, and what fills a frame more or less is one as it is."""
    peer = Peer(octets=octets).open(max_frame_size=512).begin().attach(receiving())
    peer.send(flow(handle=0, delivery_count=0, link_credit=10))
    feed = peer.engine.feeds["link"]
    room = 512 - TRANSFER_OVERHEAD
    sizes = [5000, 300, 300, 300, room, room + 1, room // 2, room // 2 + 1, 1, 2 * room, 0, 3 * room + 1, 10]
    pieces = [bytes((number,)) * size for number, size in enumerate(sizes)]
    delivery = feed.send(b"first", more=True, settled=settled)
    frames = peer.frames()
    for piece in pieces[1:]:
        feed.more(delivery, piece)
        frames += peer.frames()
    feed.more(delivery, pieces[0])
    feed.more(delivery, pieces[1])
    feed.more(delivery, pieces[1], last=True)
    frames += peer.frames()
    assert b"".join(frame.payload for frame in frames) == b"first" + b"".join([*pieces[1:], *pieces[:2], pieces[1]])
    assert all(len(frame.payload) <= room for frame in frames)
    assert [bool(frame.body.more) for frame in frames] == [True] * (len(frames) - 1) + [False]
    assert all(frame.body.delivery_id is None for frame in frames[1:])
    assert all(bool(frame.body.settled) is settled for frame in frames)
    assert [len(frame.payload) for frame in frames].count(300) == 5
    assert delivery.holder.held == 0
    session = feed.link.session
    assert session.next_outgoing_id == len(frames)


def test_a_window_stops_a_stream_between_its_frames(octets: bool) -> None:
    peer = Peer(octets=octets).open(max_frame_size=512).begin().attach(receiving())
    peer.send(flow(handle=0, delivery_count=0, link_credit=1, incoming_window=3))
    feed = peer.engine.feeds["link"]
    payload = bytes(range(250)) * 20
    delivery = feed.send(payload)
    frames = peer.frames()
    assert len(frames) == 3
    for _ in range(20):
        peer.send(flow(next_incoming_id=len(frames), incoming_window=2))
        new = peer.frames()
        assert len(new) <= 2
        frames += new
    assert b"".join(frame.payload for frame in frames) == payload
    assert delivery.holder.held == 0
