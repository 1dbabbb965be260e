"""A link's name belongs to one pair of endpoints (2.6.1): who attaches it again takes it over."""

from __future__ import annotations

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import Peer, condition, receiving, sender_to, sending, transfer
from van.amqp.errors import ErrorCondition
from van.amqp.events import LinkAttached, LinkDetached
from van.amqp.performatives import Attach, Detach, End, Flow


def test_the_first_is_detached_and_the_second_attached(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=1), octets=octets)
    first = peer.engine.sinks["link"]
    peer.send(sending("link", 1))
    detach, attach = [body for body in peer.take() if not isinstance(body, Flow)]
    assert condition(detach) == ErrorCondition.STOLEN
    assert detach.closed
    assert (attach.name, attach.handle) == ("link", 1)
    assert [event.link for event in peer.engine.seen(LinkDetached)] == [first.link]
    peer.send(transfer(0, b"old", handle=0), transfer(1, b"new", handle=1))
    assert first.received == []
    assert peer.engine.sinks["link"].bodies == [b"new"]


def test_the_stolen_handle_is_free_when_the_peer_has_detached_it(octets: bool) -> None:
    peer = sender_to(octets=octets)
    peer.send(sending("link", 1), Detach(handle=0, closed=True))
    peer.take()
    peer.send(sending("other", 0))
    assert peer.one(Attach).name == "other"
    assert len(peer.engine.seen(LinkDetached)) == 1


def test_a_name_is_stolen_across_sessions(octets: bool) -> None:
    peer = sender_to(octets=octets).begin(1)
    peer.send(sending(), channel=1)
    frames = [(frame.channel, type(frame.body)) for frame in peer.frames() if not isinstance(frame.body, Flow)]
    assert frames == [(0, Detach), (1, Attach)]


def test_the_two_roles_of_a_name_are_two_links(octets: bool) -> None:
    peer = sender_to(octets=octets)
    peer.send(receiving("link", 1))
    assert [type(body) for body in peer.take()] == [Attach]
    assert len(peer.engine.seen(LinkAttached)) == 2


def test_the_same_name_on_another_connection_is_another_link() -> None:
    one = sender_to()
    two = sender_to()
    assert one.engine.seen(LinkDetached) == two.engine.seen(LinkDetached) == []


def test_a_name_that_was_detached_is_nobodys(octets: bool) -> None:
    peer = sender_to(octets=octets)
    peer.send(Detach(handle=0, closed=True), sending("link", 0))
    answer = [body for body in peer.take() if isinstance(body, (Attach, Detach))]
    assert {type(body) for body in answer} == {Attach, Detach}
    assert all(condition(body) == "" for body in answer if isinstance(body, Detach))


def test_a_name_attached_twice_in_one_batch_is_stolen_too() -> None:
    peer = Peer(Endpoint(credit=5)).open().begin()
    peer.send(sending("link", 0), sending("link", 1))
    answer = [body for body in peer.take() if not isinstance(body, Flow)]
    assert [(type(body), body.handle) for body in answer] == [(Attach, 0), (Detach, 0), (Attach, 1)]
    assert condition(answer[1]) == ErrorCondition.STOLEN
    peer.send(transfer(0, handle=1), sending("link", 2))
    assert [condition(body) for body in peer.take() if isinstance(body, Detach)] == [ErrorCondition.STOLEN]


def test_we_are_stolen_from_before_our_attach_is_answered(octets: bool) -> None:
    pair = opened(octets=octets)
    session = pair.left.begin()
    feed = pair.left.sender(session)
    pair.run()
    again = pair.left.begin()
    pair.left.sender(again)
    pair.run()
    assert feed.link.detach_received
    assert not pair.left.connection.close_sent
    assert [event.error.condition for event in pair.left.seen(LinkDetached) if event.error] == [ErrorCondition.STOLEN]


def test_a_peers_attach_on_another_session_takes_ours_over(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin(0).begin(1)
    session = peer.engine.connection.sessions[0]
    peer.engine.sender(session, "link")
    peer.take()
    peer.send(receiving("link", 0), channel=1)
    answer = [(frame.channel, type(frame.body)) for frame in peer.frames()]
    assert answer == [(0, Detach), (1, Attach)]


def test_a_name_on_a_session_that_failed_is_free(octets: bool) -> None:
    peer = sender_to(octets=octets).begin(1)
    peer.send(transfer(0, handle=9))
    assert condition(peer.one(End)) == ErrorCondition.UNATTACHED_HANDLE
    peer.send(sending(), channel=1)
    assert [type(body) for body in peer.take()] == [Attach]
