"""Handles and roles that do not fit (2.8.17): each at its own scope."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint
from tests.amqp.peer import Peer, condition, flow, receiving, sender_to, sending, transfer
from van.amqp.errors import ErrorCondition
from van.amqp.performatives import Attach, Detach, End


@pytest.mark.parametrize("frame", [transfer(0, handle=5), flow(handle=5), Detach(handle=5)])
def test_a_handle_that_is_not_attached_ends_the_session(frame: Detach, octets: bool) -> None:
    peer = Peer(octets=octets).open().begin()
    peer.send(frame)
    end = peer.one(End)
    assert condition(end) == ErrorCondition.UNATTACHED_HANDLE
    assert "handle 5" in end.error.description


def test_a_transfer_on_a_link_that_sends_to_the_peer_ends_the_session(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin().attach(receiving())
    peer.send(transfer(0))
    assert condition(peer.one(End)) == ErrorCondition.NOT_ALLOWED


def test_the_peers_handles_are_its_own(octets: bool) -> None:
    peer = Peer(Endpoint(credit=2), octets=octets).open().begin()
    peer.send(sending("a", 17))
    assert [body.handle for body in peer.take() if isinstance(body, Attach)] == [0]
    peer.send(transfer(0, handle=17))
    assert len(peer.engine.sinks["a"].received) == 1
    peer.send(Detach(handle=17, closed=True))
    assert peer.take()[-1].handle == 0


def test_a_handle_of_ours_is_not_the_peers(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=5), octets=octets)
    peer.engine.receiver(peer.engine.connection.sessions[0], "ours")
    peer.take()
    peer.send(transfer(0, handle=1))
    assert condition(peer.one(End)) == ErrorCondition.UNATTACHED_HANDLE


def test_a_handle_far_above_ours_serves_within_handle_max(octets: bool) -> None:
    peer = Peer(Endpoint(handle_max=0xFFFFFFFF, credit=1), octets=octets).open().begin()
    peer.send(sending("a", 0xFFFFFFFF), transfer(0, handle=0xFFFFFFFF) if octets else flow())
    assert [body.handle for body in peer.take() if isinstance(body, Attach)] == [0]
