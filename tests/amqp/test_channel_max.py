"""channel-max (2.7.1): what the peer may use of ours, and what we may use of the peer's."""

from __future__ import annotations

from tests.amqp.pair import Endpoint
from tests.amqp.peer import Peer, begin, condition, flow
from van.amqp.errors import ErrorCondition
from van.amqp.performatives import Begin, Close, End


def test_the_highest_channel_may_be_used_and_none_above(octets: bool) -> None:
    peer = Peer(Endpoint(channel_max=3), octets=octets).open()
    peer.send(begin(), channel=3)
    assert peer.one(Begin).remote_channel == 3
    peer.send(begin(), channel=4)
    assert condition(peer.one(Close)) == ErrorCondition.FRAMING_ERROR


def test_a_peer_that_begins_more_than_it_lets_us_answer_is_closed(octets: bool) -> None:
    peer = Peer(octets=octets).open(channel_max=0)
    peer.send(begin(), channel=0)
    peer.take()
    peer.send(begin(), channel=1)
    assert condition(peer.one(Close)) == ErrorCondition.RESOURCE_LIMIT_EXCEEDED


def test_our_channels_are_used_again_lowest_first() -> None:
    peer = Peer().open()
    for channel in range(5):
        peer.begin(channel)
    for channel in (3, 1):
        peer.send(End(), channel=channel)
    peer.take()
    peer.send(begin(), channel=9)
    peer.send(begin(), channel=8)
    assert [(frame.channel, frame.body.remote_channel) for frame in peer.frames()] == [(1, 9), (3, 8)]


def test_many_sessions_are_begun_and_ended_without_a_trace() -> None:
    peer = Peer(Endpoint(channel_max=0xFFFF)).open()
    for channel in range(3000):
        peer.send(begin(), channel=channel)
    assert len(peer.take()) == 3000
    for channel in range(3000):
        peer.send(flow(), End(), channel=channel)
    assert len(peer.take()) == 3000
    assert peer.engine.connection.sessions == []
