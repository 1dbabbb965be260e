"""Close (2.4.3, 2.4.6): either side, with and without an error, crossing, and what is thrown away after it."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint, Pair, opened
from tests.amqp.peer import Peer, begin, condition, flow, open_, receiver_from, sender_to, transfer
from van.amqp.connection import CLOSE_TIMEOUT
from van.amqp.delivery_state import Error
from van.amqp.errors import AmqpError, ErrorCondition
from van.amqp.events import ConnectionClosed, SessionBegun
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Close, Disposition, Flow, Open


def test_a_close_is_answered_and_ends_it(octets: bool) -> None:
    peer = Peer(octets=octets).open()
    peer.send(Close())
    assert peer.one(Close).error is None
    (closed,) = peer.engine.seen(ConnectionClosed)
    assert (closed.by_peer, closed.condition) == (True, "")
    assert peer.engine.connection.closed


def test_the_error_of_a_close_is_told(octets: bool) -> None:
    peer = Peer(octets=octets).open()
    peer.send(Close(error=Error(condition="amqp:connection:forced", description="shutting down")))
    (closed,) = peer.engine.seen(ConnectionClosed)
    assert (closed.condition, closed.description) == ("amqp:connection:forced", "shutting down")


def test_our_error_reaches_the_peer(octets: bool) -> None:
    pair = opened(octets=octets)
    pair.left.connection.close(AmqpError(ErrorCondition.CONNECTION_FORCED, "enough"))
    pair.run()
    (closed,) = pair.right.seen(ConnectionClosed)
    assert (closed.by_peer, closed.condition, closed.description) == (True, "amqp:connection:forced", "enough")
    assert pair.left.connection.closed
    assert pair.right.connection.closed


def test_two_closes_cross(octets: bool) -> None:
    pair = opened(octets=octets)
    pair.left.connection.close()
    pair.right.connection.close(AmqpError(ErrorCondition.CONNECTION_FORCED))
    pair.run()
    assert pair.left.connection.closed
    assert pair.right.connection.closed


def test_a_close_is_written_once() -> None:
    peer = Peer().open()
    peer.engine.connection.close()
    peer.engine.connection.close(AmqpError(ErrorCondition.INTERNAL_ERROR))
    assert peer.one(Close).error is None


def test_what_comes_behind_the_peers_close_is_not_looked_at(octets: bool) -> None:
    peer = Peer(octets=octets).open()
    peer.send(Close(), begin(), b"\xff" * 20)
    assert peer.engine.seen(SessionBegun) == []
    assert len(peer.engine.seen(ConnectionClosed)) == 1


def test_without_an_owner_that_answers_the_engine_waits_for_one() -> None:
    peer = Peer(Endpoint(answers=False))
    peer.send(AMQP_HEADER, open_())
    peer.engine.connection.open()
    peer.take()
    peer.send(Close())
    peer.send(b"anything at all")
    assert peer.take() == []
    assert not peer.engine.connection.closed
    peer.engine.connection.close()
    assert len(peer.take()) == 1
    assert peer.engine.connection.closed


def test_after_our_close_everything_but_the_peers_close_is_thrown_away(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    peer.engine.connection.close(AmqpError(ErrorCondition.CONNECTION_FORCED))
    peer.take()
    peer.send(transfer(0), begin(), flow(handle=99), b"\x00\x00\x00\x08\x02\x00\x00\x00")
    assert peer.take() == []
    assert peer.engine.sinks["link"].received == []
    assert not peer.engine.connection.closed
    peer.send(Close())
    assert peer.engine.connection.closed


@pytest.mark.parametrize(
    "descriptor", [b"\x00\x53\x18", b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x18", b"\x00\xa3\x0famqp:close:list"]
)
def test_every_way_to_write_close_ends_the_waiting(descriptor: bytes, octets: bool) -> None:
    peer = Peer(octets=octets).open()
    peer.engine.connection.close()
    peer.take()
    peer.send(encode_frame(0, b"\x00\x53\x99\x45"), encode_frame(0, b"\xff"), encode_frame(0, descriptor + b"\x45"))
    assert peer.engine.connection.closed


@pytest.mark.parametrize("octet", [b"\x00", b"\xff"])
def test_garbage_instead_of_the_peers_close_ends_the_waiting(octet: bytes, octets: bool) -> None:
    peer = Peer(octets=octets).open()
    peer.engine.connection.close()
    peer.take()
    peer.send(octet * 8)
    assert peer.engine.connection.closed


def test_a_peer_that_does_not_answer_our_close_is_cut_off() -> None:
    peer = Peer().open()
    peer.engine.connection.close()
    connection = peer.engine.connection
    assert connection.next_deadline() == CLOSE_TIMEOUT
    peer.engine.deadline(CLOSE_TIMEOUT - 0.1)
    assert peer.engine.connection.closed is False
    peer.engine.deadline(CLOSE_TIMEOUT)
    assert connection.closed
    peer.engine.deadline(CLOSE_TIMEOUT + 1)


def test_what_was_settled_is_written_in_front_of_our_close() -> None:
    peer = sender_to(Endpoint(credit=10))
    peer.send(transfer(0), transfer(1))
    peer.engine.connection.close()
    answer = peer.take()
    assert [type(body) for body in answer] == [Disposition, Close]
    assert (answer[0].first, answer[0].last) == (0, 1)


def test_nothing_is_written_behind_our_close() -> None:
    peer = receiver_from()
    peer.send(flow(handle=0, link_credit=10))
    feed = peer.engine.feeds["link"]
    peer.engine.connection.close()
    feed.send(b"late")
    feed.link.detach()
    feed.link.session.end()
    assert [type(body) for body in peer.take()] == [Close]


def test_a_close_before_the_open_is_written_behind_it() -> None:
    peer = Peer(Endpoint(answers=False))
    peer.send(AMQP_HEADER)
    peer.engine.connection.close(AmqpError(ErrorCondition.RESOURCE_LIMIT_EXCEEDED))
    header, ours, close = peer.take()
    assert header == AMQP_HEADER
    assert isinstance(ours, Open)
    assert condition(close) == ErrorCondition.RESOURCE_LIMIT_EXCEEDED


def test_a_close_before_any_header_just_ends_the_stream() -> None:
    peer = Peer()
    peer.engine.connection.close(AmqpError(ErrorCondition.RESOURCE_LIMIT_EXCEEDED))
    assert peer.take() == []
    assert peer.engine.connection.closed


def test_a_stream_that_ends_while_we_wait_for_close_is_no_news() -> None:
    peer = Peer().open()
    peer.engine.connection.close()
    peer.engine.eof()
    assert peer.engine.seen(ConnectionClosed) == []
    assert peer.engine.connection.closed


def test_a_stream_that_ends_without_close_is_told_once() -> None:
    peer = Peer().open().begin()
    peer.engine.eof()
    peer.engine.eof()
    (closed,) = peer.engine.seen(ConnectionClosed)
    assert closed.by_peer
    assert "without a close" in closed.description


def test_octets_after_the_end_are_not_looked_at() -> None:
    peer = Peer().open()
    peer.send(Close())
    peer.send(begin(), b"\x00\x01\x02")
    assert peer.engine.seen(SessionBegun) == []


def test_a_cut_wire_is_told_to_both() -> None:
    pair = opened()
    pair.left.begin()
    pair.cut()
    for endpoint in (pair.left, pair.right):
        assert endpoint.seen(ConnectionClosed)[0].by_peer
        assert endpoint.connection.closed


def test_a_long_description_does_not_outgrow_the_peers_frames() -> None:
    peer = Peer().open(max_frame_size=512)
    peer.engine.connection.close(AmqpError(ErrorCondition.INTERNAL_ERROR, "x" * 5000 + "\N{SNOWMAN}" * 500))
    assert len(peer.engine.take()) <= 512
    pair = Pair(Endpoint("left", accepting=False, max_frame_size=512), Endpoint("right")).open()
    pair.right.connection.close(AmqpError(ErrorCondition.INTERNAL_ERROR, "\N{SNOWMAN}" * 5000))
    pair.run()
    assert pair.left.closed_with == ErrorCondition.INTERNAL_ERROR


def test_a_flow_after_close_writes_nothing() -> None:
    peer = sender_to(Endpoint(credit=1))
    peer.engine.connection.close()
    peer.engine.sinks["link"].link.grant(1)
    assert [body for body in peer.take() if isinstance(body, Flow)] == []
