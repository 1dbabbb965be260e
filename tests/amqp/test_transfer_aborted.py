"""Aborted deliveries (2.6.14, 2.7.5): either side gives up in the middle, and both count the delivery as settled."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import continued, flow, receiver_from, sender_to, transfer
from van.amqp.performatives import Transfer


def test_an_abort_in_the_middle_is_told_and_settles(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    peer.send(transfer(0, b"half", more=True), continued(b"", aborted=True), transfer(1, b"next"))
    sink = peer.engine.sinks["link"]
    assert [delivery.delivery_id for delivery in sink.aborted] == [0]
    assert sink.bodies == [b"next"]
    assert peer.engine.connection.sessions[0].unsettled_in == {}


def test_aborted_wins_over_payload_and_more(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    peer.send(transfer(0, b"half", more=True), continued(b"rest", aborted=True, more=True), transfer(1, b"next"))
    sink = peer.engine.sinks["link"]
    assert len(sink.aborted) == 1
    assert sink.bodies == [b"next"]


def test_a_delivery_aborted_by_its_first_frame_takes_its_credit_and_is_gone(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    peer.send(transfer(0, b"junk", aborted=True, more=True), transfer(1, b"next"))
    sink = peer.engine.sinks["link"]
    assert len(sink.aborted) == 1
    assert sink.bodies == [b"next"]
    assert sink.link.link_credit == 8
    session = peer.engine.connection.sessions[0]
    assert session.unsettled_in == {}
    assert session.held == len(b"next")


def test_a_settled_delivery_may_be_aborted(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    peer.send(transfer(0, b"half", settled=True, more=True), continued(aborted=True))
    assert len(peer.engine.sinks["link"].aborted) == 1
    assert peer.take() == []


def test_we_abort_what_we_have_begun(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 10})
    feed = pair.left.sender(pair.left.begin())
    feed.send(b"half", more=True)
    feed.send(b"next")
    pair.run()
    feed.link.abort_current()
    pair.run()
    sink = pair.right.sinks["link"]
    assert len(sink.aborted) == 1
    assert sink.bodies == [b"next"]
    assert [tag for tag, _, _ in feed.outcomes] == [b"next"]
    for endpoint in (pair.left, pair.right):
        session = endpoint.connection.sessions[0]
        assert session.unsettled_in == session.unsettled_out == {}


def test_an_abort_waits_for_the_window(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(flow(handle=0, delivery_count=0, link_credit=10, incoming_window=1))
    feed = peer.engine.feeds["link"]
    feed.send(b"half", more=True)
    peer.take()
    feed.link.abort_current()
    assert peer.take() == []
    peer.send(flow(next_incoming_id=1, incoming_window=5))
    assert peer.one(Transfer).aborted


def test_what_waits_of_an_aborted_delivery_is_dropped(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(flow(handle=0, delivery_count=0, link_credit=10, incoming_window=1))
    feed = peer.engine.feeds["link"]
    delivery = feed.send(b"half", more=True)
    peer.take()
    feed.more(delivery, b"waits for the window")
    feed.link.abort_current()
    assert delivery.holder.held == 0
    peer.send(flow(next_incoming_id=1, incoming_window=5))
    (frame,) = peer.frames()
    assert (frame.body.aborted, frame.payload) == (True, b"")


def test_a_delivery_whose_owner_has_dropped_it_goes_no_further(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(flow(handle=0, delivery_count=0, link_credit=10))
    feed = peer.engine.feeds["link"]
    delivery = feed.send(b"half", more=True)
    peer.take()
    delivery.chunks = None
    feed.link.ready()
    assert peer.take() == []
    feed.link.abort_current()
    assert peer.one(Transfer).aborted


def test_a_resumed_delivery_is_ignored_for_we_know_none(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    peer.send(transfer(0, b"old", resume=True), transfer(1, b"new"))
    sink = peer.engine.sinks["link"]
    assert sink.bodies == [b"new"]
    assert sink.link.link_credit == 8
    assert [body.first for body in peer.take()] == [1]


@pytest.mark.parametrize(
    "end", [continued(b"z"), continued(b"", aborted=True), continued(b"", aborted=True, more=True)]
)
def test_all_frames_of_a_resumed_delivery_are_ignored(end: tuple[Transfer, bytes], octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    peer.send(transfer(0, b"old", resume=True, more=True), continued(b"y", more=True), end, transfer(1, b"new"))
    sink = peer.engine.sinks["link"]
    assert sink.bodies == [b"new"]
    assert len(sink.aborted) == 1
    session = peer.engine.connection.sessions[0]
    assert session.unsettled_in == {}
    assert session.held == len(b"new")


def test_nothing_is_held_of_a_delivery_that_is_ignored(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    peer.send(transfer(0, b"resumed", resume=True, more=True))
    link = peer.engine.sinks["link"].link
    # Who drops what is in the middle, as the router does with a lost link, takes off what the delivery holds.
    assert link.current is not None
    assert (link.current.data(), link.session.held) == (b"", 0)


def test_aborting_nothing_does_nothing() -> None:
    peer = receiver_from()
    peer.engine.feeds["link"].link.abort_current()
    assert peer.take() == []


def test_a_delivery_aborted_before_it_was_begun_is_not_sent(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    feed = peer.engine.feeds["link"]
    feed.send(b"given up").aborted = True
    feed.send(b"sent")
    peer.send(flow(handle=0, delivery_count=0, link_credit=10))
    assert [frame.payload for frame in peer.frames()] == [b"sent"]
    assert feed.link.link_credit == 9
