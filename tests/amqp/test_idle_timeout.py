"""Idle time-outs (2.4.5): heartbeats both ways, a silent peer, under virtual time."""

from __future__ import annotations

from math import inf

import pytest

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import Peer, condition, flow, open_, sender_to
from van.amqp.connection import CLOSE_TIMEOUT, MIN_REMOTE_IDLE_TIMEOUT
from van.amqp.errors import ErrorCondition
from van.amqp.events import ConnectionClosed
from van.amqp.framing import AMQP_HEADER, EMPTY_FRAME
from van.amqp.performatives import Close, Open


def test_half_of_what_we_tolerate_is_announced(octets: bool) -> None:
    peer = Peer(Endpoint(idle_timeout=16.0), octets=octets)
    peer.send(AMQP_HEADER, open_())
    assert peer.one(Open).idle_time_out == 8000


def test_without_time_outs_there_are_no_deadlines(octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, open_())
    assert peer.one(Open).idle_time_out is None
    assert peer.engine.connection.next_deadline() == inf


def test_a_silent_peer_is_closed_when_its_time_is_over() -> None:
    peer = Peer(Endpoint(idle_timeout=10.0)).open()
    connection = peer.engine.connection
    assert connection.next_deadline() == 10.0
    peer.engine.deadline(9.9)
    assert peer.take() == []
    peer.engine.deadline(10.0)
    assert condition(peer.one(Close)) == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
    (closed,) = peer.engine.seen(ConnectionClosed)
    assert not closed.by_peer
    assert "10 seconds" in closed.description
    assert connection.next_deadline() == 10.0 + CLOSE_TIMEOUT
    peer.engine.deadline(12.0)
    assert len(peer.engine.seen(ConnectionClosed)) == 1
    peer.engine.deadline(10.0 + CLOSE_TIMEOUT)
    assert connection.closed
    assert connection.next_deadline() == inf


@pytest.mark.parametrize("sign", [EMPTY_FRAME, EMPTY_FRAME[:3], flow()])
def test_any_octet_is_a_sign_of_life(sign: bytes) -> None:
    peer = Peer(Endpoint(idle_timeout=10.0)).open().begin()
    peer.now = 7.0
    peer.send(sign)
    assert peer.engine.connection.next_deadline() == 17.0


def test_empty_frames_are_nothing_else(octets: bool) -> None:
    peer = sender_to(octets=octets)
    long_header = b"\x00\x00\x00\x0c\x03\x00\x00\x05\xff\xff\xff\xff"
    peer.send(EMPTY_FRAME, long_header, EMPTY_FRAME * 3)
    assert peer.take() == []
    assert not peer.engine.connection.close_sent


def test_we_write_before_the_peers_time_is_over() -> None:
    peer = Peer().open(idle_time_out=3000)
    connection = peer.engine.connection
    last = now = 0.0
    for _ in range(20):
        now = connection.next_deadline()
        peer.engine.deadline(now)
        written = peer.take()
        if written:
            assert written == [None]
            assert now - last < 3.0
            last = now
    assert now > 15


def test_no_heartbeat_is_written_where_there_was_traffic() -> None:
    peer = Peer().open(idle_time_out=3000).begin()
    for turn in range(1, 10):
        peer.send(flow(echo=True))
        assert len(peer.take()) == 1
        peer.engine.deadline(float(turn))
        assert peer.take() == []


def test_two_engines_keep_each_other_alive_and_part_when_the_wire_is_cut() -> None:
    pair = opened(left={"idle_timeout": 4.0}, right={"idle_timeout": 6.0})
    pair.left.begin()
    pair.run()
    written = dict(pair.written)
    pair.advance(600)
    assert not pair.left.connection.close_sent
    assert not pair.right.connection.close_sent
    for connection, octets in pair.written.items():
        assert 8 * 600 / 3 / 2 <= octets - written[connection] <= 8 * 600
    pair.whole = False
    pair.advance(60)
    assert pair.left.closed_with == pair.right.closed_with == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
    assert pair.left.connection.closed
    assert pair.right.connection.closed


def test_a_time_out_that_nobody_can_keep_is_refused(octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, open_(idle_time_out=MIN_REMOTE_IDLE_TIMEOUT - 1))
    close = peer.one(Close)
    assert condition(close) == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
    assert "idle-time-out" in close.error.description


def test_a_time_out_of_zero_is_none(octets: bool) -> None:
    peer = Peer(octets=octets).open(idle_time_out=0)
    assert peer.engine.connection.next_deadline() == inf


def test_no_heartbeat_comes_before_our_open() -> None:
    peer = Peer(Endpoint(answers=False))
    peer.send(AMQP_HEADER, open_(idle_time_out=1000))
    assert peer.take() == [AMQP_HEADER]
    for turn in range(1, 5):
        peer.engine.deadline(float(turn))
        assert peer.take() == []


def test_no_heartbeat_comes_behind_our_close() -> None:
    peer = Peer().open(idle_time_out=1000)
    peer.engine.connection.close()
    peer.take()
    for turn in range(1, 4):
        peer.engine.deadline(float(turn))
        assert peer.take() == []


def test_a_clock_that_starts_anywhere_is_fine() -> None:
    engine = Endpoint(idle_timeout=10.0, now=1e6)
    peer = Peer(engine)
    peer.now = 1e6
    peer.open()
    assert engine.connection.next_deadline() == 1e6 + 10
