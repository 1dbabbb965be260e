"""Open (2.4.1): once each way, first of all, and whatever follows it may come in the same batch."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint, Pair
from tests.amqp.peer import Peer, begin, condition, flow, open_, receiving, sending, transfer
from van.amqp.errors import ErrorCondition
from van.amqp.events import ConnectionClosed, ConnectionOpened
from van.amqp.framing import AMQP_HEADER
from van.amqp.performatives import Attach, Begin, Close, End, Open


def test_everything_up_to_close_may_come_before_any_answer(octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, open_(), begin(), sending("out", 0), receiving("in", 1), flow(handle=1, link_credit=5))
    answer = peer.take()
    assert answer[0] == AMQP_HEADER
    assert [type(body) for body in answer[1:]] == [Open, Begin, Attach, Attach]
    assert answer[2].remote_channel == 0
    assert peer.engine.feeds["in"].link.link_credit == 5


def test_a_whole_life_in_one_batch_is_answered_in_order(octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, open_(), begin(), sending(), End(), Close())
    answer = [type(body) for body in peer.take()[1:]]
    assert answer[0] is Open
    assert answer[-1] is Close
    assert answer.count(Begin) == answer.count(End) == 1
    assert peer.engine.connection.closed


def test_what_the_open_says_is_known(octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, open_(container_id="c", hostname="h", properties={"product": "p"}))
    (event,) = peer.engine.seen(ConnectionOpened)
    assert (event.open.container_id, event.open.hostname) == ("c", "h")
    assert event.open.properties == {"product": "p"}


def test_our_open_says_what_we_were_told(octets: bool) -> None:
    engine = Endpoint(
        "van",
        hostname="host",
        max_frame_size=4096,
        channel_max=7,
        idle_timeout=10.0,
        offered_capabilities=["A"],
        desired_capabilities=["B", "C"],
        properties={"product": "van"},
    )
    ours = Peer(engine, octets=octets).send(AMQP_HEADER, open_()).one(Open)
    assert ours == Open(
        container_id="van",
        hostname="host",
        max_frame_size=4096,
        channel_max=7,
        idle_time_out=5000,
        offered_capabilities=["A"],
        desired_capabilities=["B", "C"],
        properties={"product": "van"},
    )


def test_the_open_is_written_once() -> None:
    peer = Peer().open()
    peer.engine.connection.open()
    assert peer.take() == []


@pytest.mark.parametrize("early", [begin(), sending(), flow(), End(), Close()])
def test_another_performative_before_open_is_an_illegal_state(early: Begin, octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, early)
    close = peer.take()[-1]
    assert condition(close) == ErrorCondition.ILLEGAL_STATE
    assert type(early).__name__.lower() in close.error.description
    assert peer.engine.connection.closed


def test_a_second_open_is_an_illegal_state(octets: bool) -> None:
    peer = Peer(octets=octets).open()
    peer.send(open_())
    assert condition(peer.one(Close)) == ErrorCondition.ILLEGAL_STATE


def test_an_error_in_the_batch_of_the_open_is_answered_behind_open(octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, open_(), begin(), transfer())
    header, *answer = peer.take()
    assert header == AMQP_HEADER
    assert [type(body) for body in answer] == [Open, Begin, End]
    assert condition(answer[-1]) == ErrorCondition.WINDOW_VIOLATION if not octets else ErrorCondition.UNATTACHED_HANDLE


def test_two_engines_that_open_at_once_meet(octets: bool) -> None:
    pair = Pair(Endpoint("left", accepting=False), Endpoint("right", accepting=False), octets=octets).open()
    assert pair.left.connection.remote_open is not None
    assert pair.right.connection.remote_open is not None


def test_a_stream_that_ends_before_open_is_over() -> None:
    for sent in (b"", AMQP_HEADER[:3], AMQP_HEADER, AMQP_HEADER + b"\x00\x00"):
        peer = Peer()
        peer.send(sent)
        peer.engine.eof()
        (closed,) = peer.engine.seen(ConnectionClosed)
        assert closed.by_peer
        assert closed.condition == ""
        assert peer.engine.connection.closed
