"""Detach (2.6.4 to 2.6.6): closed and not, either side, crossing, with errors, and what is under way meanwhile."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import (
    Peer,
    begin,
    condition,
    continued,
    flow,
    open_,
    receiver_from,
    receiving,
    sender_to,
    sending,
    transfer,
)
from van.amqp.delivery_state import ACCEPTED, Error
from van.amqp.errors import AmqpError, AmqpLinkError, ErrorCondition
from van.amqp.events import LinkAttached, LinkDetached
from van.amqp.framing import AMQP_HEADER
from van.amqp.performatives import Attach, Detach, Disposition, End, Flow
from van.amqp.receiver_link import NoSink
from van.amqp.sender_link import NoSource


@pytest.mark.parametrize("closed", [True, False])
def test_a_detach_is_answered_in_kind(closed: bool, octets: bool) -> None:
    peer = sender_to(octets=octets)
    peer.send(Detach(handle=0, closed=closed))
    answer = peer.one(Detach)
    assert (answer.handle, answer.closed, answer.error) == (0, closed, None)
    (event,) = peer.engine.seen(LinkDetached)
    assert event.closed is closed
    assert peer.engine.connection.sessions[0].links == {}


def test_the_error_of_a_detach_is_told(octets: bool) -> None:
    peer = sender_to(octets=octets)
    peer.send(Detach(handle=0, closed=True, error=Error(condition="amqp:resource-deleted", description="gone")))
    (event,) = peer.engine.seen(LinkDetached)
    assert event.error is not None
    assert (event.error.condition, event.error.description) == ("amqp:resource-deleted", "gone")


def test_our_detach_is_answered_and_no_news(octets: bool) -> None:
    pair = opened(octets=octets)
    feed = pair.left.sender(pair.left.begin())
    pair.run()
    assert feed.link.active is True
    feed.link.detach(AmqpError(ErrorCondition.DETACH_FORCED, "because"))
    feed.link.detach()
    assert feed.link.detach_sent
    pair.run()
    (event,) = pair.right.seen(LinkDetached)
    assert event.error is not None
    assert event.error.condition == ErrorCondition.DETACH_FORCED
    assert pair.left.seen(LinkDetached) == []
    assert pair.left.connection.sessions[0].links == pair.right.connection.sessions[0].links == {}


def test_detaches_cross(octets: bool) -> None:
    pair = opened(octets=octets)
    feed = pair.left.sender(pair.left.begin())
    pair.run()
    feed.link.detach()
    pair.right.sinks["link"].link.detach()
    pair.run()
    for endpoint in (pair.left, pair.right):
        assert endpoint.connection.sessions[0].links == {}
        assert not endpoint.connection.close_sent


def test_a_name_and_a_handle_serve_again_after_detach(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 1})
    session = pair.left.begin()
    for number in range(3):
        feed = pair.left.sender(session)
        feed.send(b"%d" % number)
        pair.run()
        assert feed.outcomes == [(b"%d" % number, ACCEPTED, True)]
        feed.link.detach()
        pair.run()
    assert feed.link.handle == 0


def test_a_link_may_be_detached_before_its_attach_is_answered(octets: bool) -> None:
    pair = opened(octets=octets)
    feed = pair.left.sender(pair.left.begin())
    feed.link.detach()
    pair.run()
    assert pair.left.connection.sessions[0].links == pair.right.connection.sessions[0].links == {}
    assert not pair.left.connection.close_sent


def test_attach_and_detach_in_one_batch_are_answered_in_order(octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, open_(), begin(), sending(), Detach(handle=0, closed=True))
    assert [type(body) for body in peer.take()[2:] if not isinstance(body, Flow)][1:] == [Attach, Detach]


def test_a_link_that_was_never_attached_is_detached_in_silence() -> None:
    peer = Peer().open().begin()
    peer.engine.connection.sessions[0].sender("new").detach()
    assert peer.take() == []


def test_deliveries_under_way_when_we_detached_are_thrown_away(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    sink = peer.engine.sinks["link"]
    sink.link.detach()
    peer.take()
    peer.send(transfer(0), transfer(1, more=True), continued(), flow(handle=0, echo=True))
    assert peer.take() == []
    assert sink.received == []


def test_nothing_is_sent_on_a_link_that_is_detached(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    feed = peer.engine.feeds["link"]
    peer.send(flow(handle=0, delivery_count=0, link_credit=10))
    feed.send(b"half", more=True)
    peer.take()
    feed.link.detach()
    feed.send(b"more")
    assert [type(body) for body in peer.take()] == [Detach]


def test_what_was_settled_on_a_detached_link_is_still_told(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10, outcome=None), octets=octets)
    peer.send(transfer(0), Detach(handle=0, closed=True))
    sink = peer.engine.sinks["link"]
    peer.take()
    sink.link.settle(sink.received[0], ACCEPTED)
    assert peer.one(Disposition).first == 0


@pytest.mark.parametrize("frame", [Detach(handle=0), flow(handle=0), transfer(0)])
def test_a_frame_behind_the_peers_own_detach_ends_the_session(frame: Detach, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=5), octets=octets)
    peer.send(Detach(handle=0, closed=True), frame)
    ends = [body for body in peer.take() if isinstance(body, End)]
    assert [condition(end) for end in ends] == [ErrorCondition.UNATTACHED_HANDLE]


def test_a_transfer_beyond_the_credit_detaches_the_link_only(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=2), octets=octets)
    peer.attach(sending("other", 1))
    peer.send(transfer(0), transfer(1), transfer(2), transfer(3))
    detach = peer.one(Detach)
    assert condition(detach) == ErrorCondition.TRANSFER_LIMIT_EXCEEDED
    assert len(peer.engine.sinks["link"].received) == 2
    assert len(peer.engine.seen(LinkDetached)) == 1
    peer.send(transfer(4, handle=1))
    assert len(peer.engine.sinks["other"].received) == 1


def test_a_transfer_on_a_link_that_nobody_has_answered_detaches_it_behind_the_answer() -> None:
    peer = Peer(Endpoint(credit=5)).open().begin()
    peer.send(sending(), transfer(0), transfer(1))
    attach, detach = peer.take()[-2:]
    assert isinstance(attach, Attach)
    assert condition(detach) == ErrorCondition.TRANSFER_LIMIT_EXCEEDED
    assert len(peer.engine.seen(LinkDetached)) == 1


def test_an_attach_without_terminus_and_a_detach_refuse_a_link(octets: bool) -> None:
    engine = Endpoint(answers=False)
    peer = Peer(engine, octets=octets).open()
    engine.connection.open()
    peer.begin()
    engine.connection.sessions[0].begin()
    peer.send(sending())
    (event,) = engine.seen(LinkAttached)
    event.link.attach(Attach(name="", handle=0, role=True))
    event.link.detach(AmqpLinkError(ErrorCondition.NOT_FOUND, "no such node"))
    attach, detach = peer.take()[-2:]
    assert (attach.name, attach.role, attach.source, attach.target) == ("link", True, None, None)
    assert condition(detach) == ErrorCondition.NOT_FOUND


def test_properties_and_capabilities_of_an_attach_are_told(octets: bool) -> None:
    peer = sender_to(octets=octets, properties={"k": "v"}, desired_capabilities=["x"], offered_capabilities=["y", "z"])
    remote = peer.engine.sinks["link"].link.remote
    assert remote is not None
    assert remote.properties == {"k": "v"}
    assert (remote.desired_capabilities, remote.offered_capabilities) == (["x"], ["y", "z"])


def test_a_link_without_owner_does_nothing_of_its_own(octets: bool) -> None:
    engine = Endpoint(answers=False)
    peer = Peer(engine, octets=octets).open()
    engine.connection.open()
    peer.begin()
    session = engine.connection.sessions[0]
    session.begin()
    peer.send(receiving("out", 0), sending("in", 1), flow(handle=0, link_credit=1), flow(handle=1, available=3))
    assert isinstance(engine.seen(LinkAttached)[0].link.source, NoSource)  # type: ignore[attr-defined]
    assert isinstance(engine.seen(LinkAttached)[1].link.sink, NoSink)  # type: ignore[attr-defined]
    assert not engine.connection.close_sent
