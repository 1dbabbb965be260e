"""Session windows (2.5.6): both ways, renewal, and frames that wait for the other side's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import Peer, begin, condition, flow, receiver_from, receiving, sender_to, transfer
from van.amqp.errors import ErrorCondition
from van.amqp.framing import encode_frame
from van.amqp.performatives import Detach, End, Flow, Transfer
from van.amqp.session import Session, WindowPolicy


class Miser(WindowPolicy):
    """Gives a few frames, and more only when it is told so."""

    __slots__ = ("more",)

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.more = 0

    def renew(self, session: Session) -> int:
        return self.more


def waiting(**fields: Any) -> Peer:
    """A peer whose window is `incoming_window`, with a link of ten credits towards it."""
    return Peer().open().begin(**fields).attach(receiving())


def test_the_peers_window_stops_us_and_its_flow_lets_us_go_on(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin(incoming_window=2).attach(receiving())
    peer.send(flow(incoming_window=2, handle=0, link_credit=10))
    for number in range(5):
        peer.engine.feeds["link"].send(b"%d" % number)
    assert [frame.payload for frame in peer.frames()] == [b"0", b"1"]
    peer.send(flow(next_incoming_id=2, incoming_window=1))
    assert [frame.payload for frame in peer.frames()] == [b"2"]
    peer.send(flow(next_incoming_id=3, incoming_window=0))
    assert peer.frames() == []
    peer.send(flow(next_incoming_id=3, incoming_window=100))
    assert [frame.payload for frame in peer.frames()] == [b"3", b"4"]


def test_a_flow_that_crossed_our_transfers_counts_what_it_had_not_seen(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin(incoming_window=4).attach(receiving())
    peer.send(flow(incoming_window=4, handle=0, link_credit=100))
    for number in range(10):
        peer.engine.feeds["link"].send(b"%d" % number)
    assert len(peer.frames()) == 4
    peer.send(flow(next_incoming_id=1, incoming_window=4))
    assert len(peer.frames()) == 1
    peer.send(flow(next_incoming_id=2, incoming_window=3))
    assert len(peer.frames()) == 0


@pytest.mark.parametrize("window", [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_window_of_any_width_is_understood(window: int, octets: bool) -> None:
    peer = Peer(octets=octets).open().begin(incoming_window=1).attach(receiving())
    peer.send(flow(incoming_window=1, handle=0, link_credit=10))
    for number in range(3):
        peer.engine.feeds["link"].send(b"%d" % number)
    assert len(peer.frames()) == 1
    peer.send(flow(next_incoming_id=1, incoming_window=window))
    assert len(peer.frames()) == 2


def test_every_link_that_the_window_kept_back_goes_on(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin(incoming_window=0)
    peer.attach(receiving("a", 0)).attach(receiving("b", 1))
    peer.send(flow(incoming_window=0, handle=0, link_credit=5), flow(incoming_window=0, handle=1, link_credit=5))
    peer.engine.feeds["a"].send(b"a")
    peer.engine.feeds["b"].send(b"b")
    assert peer.frames() == []
    peer.send(flow(incoming_window=1))
    (first,) = peer.frames()
    peer.send(flow(next_incoming_id=1, incoming_window=1))
    (second,) = peer.frames()
    assert {first.payload, second.payload} == {b"a", b"b"}


def test_a_link_that_the_window_kept_back_is_forgotten_when_it_is_detached() -> None:
    peer = Peer().open().begin(incoming_window=0)
    session = peer.engine.connection.sessions[0]
    for number in range(5):
        peer.attach(receiving(f"link {number}"))
        peer.engine.feeds[f"link {number}"].send(b"x")
        peer.send(flow(handle=0, incoming_window=0, delivery_count=0, link_credit=1))
        assert [type(body) for body in peer.take()] == []
        assert len(session.starved) == 1
        peer.send(Detach(handle=0, closed=True))
        assert isinstance(peer.one(Detach), Detach)
    assert not session.starved


def test_our_window_is_renewed_when_half_of_it_is_used(octets: bool) -> None:
    engine = Endpoint(credit=100, window_policy=WindowPolicy(8), outcome=None)
    peer = sender_to(engine, octets=octets)
    for number in range(3):
        peer.send(transfer(number))
        assert peer.take() == []
    peer.send(transfer(3))
    renewed = peer.one(Flow)
    assert (renewed.next_incoming_id, renewed.incoming_window) == (4, 8)
    assert renewed.handle is None


def test_a_renewal_travels_with_a_links_flow_where_there_is_one() -> None:
    engine = Endpoint(credit=100, window_policy=WindowPolicy(2), outcome=None, replenish=True)
    peer = sender_to(engine)
    peer.send(transfer(0))
    renewed = peer.one(Flow)
    assert (renewed.handle, renewed.incoming_window, renewed.link_credit) == (0, 2, 100)


def test_a_window_that_is_not_renewed_is_a_limit(octets: bool) -> None:
    engine = Endpoint(credit=100, window_policy=Miser(3))
    peer = sender_to(engine, octets=octets)
    peer.send(transfer(0), transfer(1), transfer(2))
    assert [body for body in peer.take() if isinstance(body, (Flow, End))] == []
    peer.send(transfer(3))
    assert condition(peer.one(End)) == ErrorCondition.WINDOW_VIOLATION
    assert len(engine.sinks["link"].received) == 3


def test_a_window_is_offered_again_when_there_is_room() -> None:
    policy = Miser(2)
    engine = Endpoint(credit=100, window_policy=policy, outcome=None)
    peer = sender_to(engine)
    peer.send(transfer(0), transfer(1))
    assert peer.take() == []
    policy.more = 5
    session = engine.connection.sessions[0]
    session.offer_window()
    assert peer.one(Flow).incoming_window == 5
    session.offer_window()
    assert peer.take() == []
    session.end()
    session.offer_window()
    assert len(peer.take()) == 1


def test_frames_of_one_delivery_each_count(octets: bool) -> None:
    peer = Peer(octets=octets).open(max_frame_size=512).begin(incoming_window=2).attach(receiving())
    peer.send(flow(incoming_window=2, handle=0, link_credit=10))
    peer.engine.feeds["link"].send(b"x" * 2000)
    frames = peer.frames()
    assert [frame.body.more for frame in frames] == [True, True]
    peer.send(flow(next_incoming_id=2, incoming_window=100))
    assert b"".join(frame.payload for frame in [*frames, *peer.frames()]) == b"x" * 2000


def test_an_echo_is_answered_with_the_sessions_state(octets: bool) -> None:
    engine = Endpoint(credit=10, outcome=None)
    peer = sender_to(engine, octets=octets)
    peer.send(transfer(0), flow(next_outgoing_id=1, echo=True))
    answer = peer.one(Flow)
    assert (answer.next_incoming_id, answer.handle, answer.next_outgoing_id, answer.echo) == (1, None, 0, False)


def test_many_echoes_in_one_batch_are_one_answer() -> None:
    peer = Peer().open().begin()
    peer.send(*[flow(echo=True)] * 1000)
    assert len(peer.take()) == 1


def test_properties_in_a_flow_do_no_harm(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(flow(handle=0, link_credit=7, properties={"a": [1, 2]}))
    assert peer.engine.feeds["link"].link.link_credit == 7


def test_a_flow_on_a_handle_that_is_not_attached_ends_the_session(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin()
    peer.send(flow(handle=3, link_credit=1))
    assert condition(peer.one(End)) == ErrorCondition.UNATTACHED_HANDLE


@pytest.mark.parametrize("window", [1, 2, 3, 16])
def test_two_engines_respect_each_others_windows(window: int, octets: bool) -> None:
    settings = {"window_policy": WindowPolicy(window), "max_frame_size": 512}
    pair = opened(octets=octets, left=settings, right=settings | {"credit": 10, "replenish": True})
    feed = pair.left.sender(pair.left.begin())
    payloads = [b"%d" % number * 300 for number in range(30)]
    for payload in payloads:
        feed.send(payload)
    pair.run()
    assert pair.right.sinks["link"].bodies == payloads
    assert len(feed.outcomes) == 30


def test_a_link_waits_for_the_window_once_however_often_it_is_filled() -> None:
    peer = waiting(incoming_window=0)
    peer.send(flow(incoming_window=0, handle=0, link_credit=10))
    feed = peer.engine.feeds["link"]
    for _ in range(100):
        feed.send(b"x")
        assert peer.take() == []
        peer.send(flow(incoming_window=0, handle=0, link_credit=10))
    assert len(feed.link.session.starved) == 1
    peer.send(flow(incoming_window=5))
    assert [type(body) for body in peer.take()] == [Transfer] * 5


def test_a_begin_carries_the_first_window() -> None:
    peer = waiting(incoming_window=1)
    peer.send(flow(incoming_window=1, handle=0, link_credit=10))
    assert begin(incoming_window=1).incoming_window == 1
    peer.engine.feeds["link"].send(b"1")
    assert len(peer.take()) == 1


def test_a_window_may_be_taken_back_and_what_was_under_way_still_comes(octets: bool) -> None:
    policy = Miser(10)
    engine = Endpoint(credit=100, window_policy=policy, outcome=None)
    peer = sender_to(engine, octets=octets)
    session = engine.connection.sessions[0]
    session.shrink_window(2)
    session.shrink_window(5)
    assert peer.one(Flow).incoming_window == 2
    for number in range(10):
        peer.send(transfer(number))
    assert len(engine.sinks["link"].received) == 10
    assert session.slack == 0
    peer.send(transfer(10))
    assert condition(peer.one(End)) == ErrorCondition.WINDOW_VIOLATION
    session.shrink_window(0)
    assert peer.take() == []


def test_a_delivery_that_has_no_end_yet_is_hurried_where_memory_is_short() -> None:
    engine = Endpoint(credit=10)
    peer = sender_to(engine).attach(receiving("out", 1))
    sink = engine.sinks["link"]
    for link in engine.connection.sessions[0].links.values():
        link.hurry()
    assert sink.hurried == []
    peer.send(transfer(0, more=True))
    for link in engine.connection.sessions[0].links.values():
        link.hurry()
    assert sink.hurried == sink.received


@pytest.mark.parametrize("descriptor", [b"\x00\xa3\x0eamqp:flow:list", b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x13"])
def test_a_flow_by_another_descriptor_is_a_flow(descriptor: bytes, octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(encode_frame(0, descriptor + flow(handle=0, delivery_count=0, link_credit=7).encode()[3:]))
    assert peer.engine.feeds["link"].link.link_credit == 7
