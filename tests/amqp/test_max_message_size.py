"""max-message-size (2.7.3): ours is a limit for the peer, the peer's one for us."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint, Sink, opened
from tests.amqp.peer import Peer, condition, continued, flow, receiver_from, sending, transfer
from van.amqp.delivery_state import Rejected
from van.amqp.errors import ErrorCondition
from van.amqp.events import LinkAttached, LinkDetached
from van.amqp.performatives import Attach, Detach
from van.amqp.receiver_link import ReceiverLink


def limited(size: int, *, octets: bool) -> tuple[Peer, Sink]:
    """A peer with a link on which it may send messages of `size` octets."""
    engine = Endpoint()
    peer = Peer(engine, octets=octets).open().begin()
    engine.answers = False
    peer.send(sending())
    link = engine.seen(LinkAttached)[0].link
    assert isinstance(link, ReceiverLink)
    sink = Sink(link)
    link.sink = sink
    link.attach(Attach(name="", handle=0, role=True, max_message_size=size))
    link.grant(10)
    assert peer.take()[0].max_message_size == size
    return peer, sink


def test_a_message_of_the_full_size_is_taken_and_one_octet_more_is_not(octets: bool) -> None:
    peer, sink = limited(100, octets=octets)
    peer.send(transfer(0, b"x" * 100))
    assert sink.bodies == [b"x" * 100]
    peer.take()
    peer.send(transfer(1, b"x" * 101))
    assert condition(peer.one(Detach)) == ErrorCondition.MESSAGE_SIZE_EXCEEDED
    assert len(sink.received) == 1
    assert len(peer.engine.seen(LinkDetached)) == 1


def test_the_frames_of_a_message_are_added_up(octets: bool) -> None:
    peer, sink = limited(100, octets=octets)
    peer.send(transfer(0, b"x" * 60, more=True), continued(b"x" * 40))
    assert sink.bodies == [b"x" * 100]
    peer.take()
    peer.send(transfer(1, b"x" * 60, more=True), continued(b"x" * 40, more=True), continued(b"x"))
    assert condition(peer.one(Detach)) == ErrorCondition.MESSAGE_SIZE_EXCEEDED
    peer.send(continued(b"x", more=True))
    assert peer.take() == []


@pytest.mark.parametrize("size", [None, 0])
def test_no_limit_is_none(size: int | None, octets: bool) -> None:
    peer = receiver_from(octets=octets, max_message_size=size)
    peer.send(flow(handle=0, delivery_count=0, link_credit=1))
    peer.engine.feeds["link"].send(b"x" * 5000)
    assert b"".join(frame.payload for frame in peer.frames()) == b"x" * 5000


@pytest.mark.parametrize("settled", [False, True])
def test_a_message_too_large_for_the_peer_is_rejected_on_its_behalf(settled: bool, octets: bool) -> None:
    peer = receiver_from(octets=octets, max_message_size=100)
    peer.send(flow(handle=0, delivery_count=0, link_credit=5))
    feed = peer.engine.feeds["link"]
    large = feed.send(b"x" * 101, settled=settled, tag=b"large")
    feed.send(b"y" * 100)
    assert [frame.payload for frame in peer.frames()] == [b"y" * 100]
    ((tag, state, done),) = feed.outcomes
    assert (tag, done) == (b"large", True)
    assert isinstance(state, Rejected)
    assert state.error is not None
    assert state.error.condition == ErrorCondition.MESSAGE_SIZE_EXCEEDED
    assert large.holder.held == 0
    assert feed.link.link_credit == 4


def test_a_message_that_grows_too_large_is_aborted_and_rejected(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 5})
    session = pair.left.begin()
    feed = pair.left.sender(session)
    pair.run()
    feed.link.max_message_size = 100
    delivery = feed.send(b"x" * 60, more=True, tag=b"large")
    pair.run()
    feed.more(delivery, b"x" * 60)
    feed.send(b"next")
    pair.run()
    sink = pair.right.sinks["link"]
    assert len(sink.aborted) == 1
    assert sink.bodies == [b"next"]
    assert (feed.outcomes[0][0], type(feed.outcomes[0][1])) == (b"large", Rejected)
    assert session.unsettled_out == {}


@pytest.mark.parametrize("step", [60, 300, 450, 2000])
def test_a_stream_that_grows_too_large_is_aborted_in_its_middle(step: int, octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 5, "max_frame_size": 512})
    session = pair.left.begin()
    feed = pair.left.sender(session)
    pair.run()
    feed.link.max_message_size = 3000
    delivery = feed.send(b"x" * 60, more=True, tag=b"large")
    for _ in range(3000 // step + 1):
        pair.run()
        if delivery.chunks is not None and not feed.outcomes:
            feed.more(delivery, b"x" * step)
    feed.send(b"next")
    pair.run()
    sink = pair.right.sinks["link"]
    assert len(sink.aborted) == 1
    assert sink.bodies == [b"next"]
    assert (feed.outcomes[0][0], type(feed.outcomes[0][1])) == (b"large", Rejected)
    assert delivery.holder.held == 0
