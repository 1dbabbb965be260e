"""handle-max (2.7.2): handles above it are a framing error; ours stay below the peer's."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint
from tests.amqp.peer import Peer, begin, condition, receiver_from, sending
from van.amqp.errors import AmqpSessionError, ErrorCondition
from van.amqp.performatives import Attach, Begin, Close, Detach, End


def test_the_begin_says_it(octets: bool) -> None:
    peer = Peer(Endpoint(handle_max=9), octets=octets).open()
    peer.send(begin())
    assert peer.one(Begin).handle_max == 9


def test_the_highest_handle_may_be_used_and_none_above(octets: bool) -> None:
    peer = Peer(Endpoint(handle_max=9), octets=octets).open().begin()
    peer.send(sending("a", 9))
    assert peer.one(Attach).name == "a"
    peer.send(sending("b", 10))
    assert condition(peer.one(Close)) == ErrorCondition.FRAMING_ERROR


def test_ours_stay_below_the_peers() -> None:
    peer = Peer().open().begin(handle_max=1)
    session = peer.engine.connection.sessions[0]
    peer.engine.sender(session, "a")
    peer.engine.sender(session, "b")
    with pytest.raises(AmqpSessionError) as caught:
        peer.engine.sender(session, "c")
    assert caught.value.condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
    assert [body.handle for body in peer.take()] == [0, 1]


def test_a_peer_that_attaches_more_than_it_lets_us_answer_loses_its_session(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin(handle_max=0)
    peer.send(sending("a", 0))
    peer.take()
    peer.send(sending("b", 1))
    assert condition(peer.one(End)) == ErrorCondition.RESOURCE_LIMIT_EXCEEDED


def test_a_handle_in_use_ends_the_session(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(sending("other", 0))
    assert condition(peer.one(End)) == ErrorCondition.HANDLE_IN_USE


def test_handles_are_used_again_lowest_first(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin()
    for handle in range(5):
        peer.attach(sending(f"{handle}", handle))
    peer.send(Detach(handle=1, closed=True), Detach(handle=3, closed=True))
    peer.take()
    peer.send(sending("x", 1), sending("y", 3), sending("z", 77))
    assert [body.handle for body in peer.take() if isinstance(body, Attach)] == [1, 3, 5]


def test_many_links_come_and_go_without_a_trace() -> None:
    peer = Peer().open().begin()
    for number in range(3000):
        peer.send(sending(f"{number}", number % 1000), Detach(handle=number % 1000, closed=True))
    assert len(peer.take()) == 6000
    session = peer.engine.connection.sessions[0]
    assert session.links == {}
    assert session.remote_handles == {}
    assert peer.engine.connection.find_link("7", True) is None
