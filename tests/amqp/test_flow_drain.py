"""Link flow control (2.6.7): credit both ways, drain with and without messages, echo, available, and their wraps."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import (
    Peer,
    begin,
    flow,
    open_,
    receiver_from,
    receiving,
    sender_to,
    sending,
    transfer,
)
from van.amqp.framing import AMQP_HEADER
from van.amqp.performatives import Attach, Begin, Detach, End, Flow, Transfer

LAST = 0xFFFFFFFF


def test_nothing_is_sent_without_credit_and_as_much_as_there_is(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    feed = peer.engine.feeds["link"]
    for number in range(5):
        feed.send(b"%d" % number)
    assert peer.frames() == []
    peer.send(flow(handle=0, delivery_count=0, link_credit=3))
    assert [frame.payload for frame in peer.frames()] == [b"0", b"1", b"2"]
    assert feed.link.link_credit == 0
    assert feed.link.delivery_count == 3


def test_credit_that_crossed_our_transfers_counts_them(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    feed = peer.engine.feeds["link"]
    peer.send(flow(handle=0, delivery_count=0, link_credit=5))
    for number in range(3):
        feed.send(b"%d" % number)
    peer.take()
    peer.send(flow(handle=0, delivery_count=1, link_credit=5))
    assert feed.link.link_credit == 3
    peer.send(flow(handle=0, delivery_count=0, link_credit=1))
    assert feed.link.link_credit == 0


def test_credit_may_be_taken_back(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    feed = peer.engine.feeds["link"]
    peer.send(flow(handle=0, delivery_count=0, link_credit=50))
    peer.send(flow(handle=0, delivery_count=0, link_credit=0))
    feed.send(b"x")
    assert peer.take() == []
    assert feed.link.link_credit == 0


@pytest.mark.parametrize("credit", [0x7FFFFFFF, 0x80000000, LAST])
def test_credit_of_any_size_is_understood(credit: int, octets: bool) -> None:
    peer = receiver_from(octets=octets)
    feed = peer.engine.feeds["link"]
    peer.send(flow(handle=0, delivery_count=0, link_credit=credit))
    feed.send(b"x")
    assert len(peer.frames()) == 1
    assert feed.link.link_credit == credit - 1


def test_a_flow_without_credit_changes_none(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(flow(handle=0, delivery_count=0, link_credit=5), flow(handle=0))
    assert peer.engine.feeds["link"].link.link_credit == 5


def test_a_flow_without_delivery_count_counts_from_the_first(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    feed = peer.engine.feeds["link"]
    peer.send(flow(handle=0, delivery_count=0, link_credit=5))
    feed.send(b"x")
    peer.take()
    peer.send(flow(handle=0, link_credit=5))
    assert feed.link.link_credit == 4


def test_delivery_count_wraps_in_the_sender(octets: bool) -> None:
    engine = Endpoint(answers=False)
    peer = Peer(engine, octets=octets)
    peer.send(AMQP_HEADER, open_())
    engine.connection.open()
    feed = engine.sender(engine.begin(), initial_delivery_count=LAST - 1)
    assert [body.initial_delivery_count for body in peer.take() if isinstance(body, Attach)] == [LAST - 1]
    peer.send(begin(remote_channel=0), receiving(), flow(handle=0, delivery_count=LAST - 1, link_credit=5))
    for number in range(10):
        feed.send(b"%d" % number)
    assert len(peer.frames()) == 5
    assert feed.link.delivery_count == 3
    peer.send(flow(handle=0, delivery_count=LAST, link_credit=5))
    assert len(peer.frames()) == 1
    peer.send(flow(handle=0, delivery_count=4, link_credit=2))
    assert len(peer.frames()) == 2


def test_delivery_count_wraps_in_the_receiver(octets: bool) -> None:
    engine = Endpoint(credit=3, replenish=True)
    peer = sender_to(engine, octets=octets, initial_delivery_count=LAST)
    for number in range(3):
        peer.send(transfer(number))
    assert engine.sinks["link"].link.delivery_count == 2
    assert engine.sinks["link"].link.link_credit == 3
    flows = [body for body in peer.take() if isinstance(body, Flow)]
    assert (flows[-1].delivery_count, flows[-1].link_credit) == (2, 3)


def test_a_drain_without_messages_is_answered_at_once(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(flow(handle=0, delivery_count=0, link_credit=10, drain=True))
    answer = peer.one(Flow)
    assert (answer.handle, answer.delivery_count, answer.link_credit, answer.drain) == (0, 10, 0, True)
    assert answer.available == 0


def test_a_drain_with_messages_sends_them_first(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    for number in range(3):
        peer.engine.feeds["link"].send(b"%d" % number)
    peer.send(flow(handle=0, delivery_count=0, link_credit=10, drain=True))
    *sent, answer = peer.take()
    assert [type(body) for body in sent] == [Transfer] * 3
    assert (answer.delivery_count, answer.link_credit) == (10, 0)


def test_a_drain_with_more_messages_than_credit_uses_it_up(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    for number in range(5):
        peer.engine.feeds["link"].send(b"%d" % number)
    peer.send(flow(handle=0, delivery_count=0, link_credit=2, drain=True))
    assert [type(body) for body in peer.take()] == [Transfer] * 2
    assert peer.engine.feeds["link"].link.link_credit == 0


def test_a_drain_waits_for_the_end_of_a_delivery_under_way(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    feed = peer.engine.feeds["link"]
    peer.send(flow(handle=0, delivery_count=0, link_credit=5))
    delivery = feed.send(b"first", more=True)
    peer.take()
    peer.send(flow(handle=0, delivery_count=1, link_credit=4, drain=True))
    assert peer.take() == []
    feed.more(delivery, b"last", last=True)
    last, answer = peer.take()
    assert isinstance(last, Transfer)
    assert (answer.delivery_count, answer.link_credit) == (5, 0)


def test_a_drained_link_sends_again_with_new_credit(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    feed = peer.engine.feeds["link"]
    peer.send(flow(handle=0, delivery_count=0, link_credit=10, drain=True))
    peer.take()
    feed.send(b"x")
    assert peer.take() == []
    peer.send(flow(handle=0, delivery_count=10, link_credit=1, drain=False))
    assert [type(body) for body in peer.take()] == [Transfer]


def test_a_drain_before_our_attach_is_answered_behind_it() -> None:
    engine = Endpoint(answers=False)
    peer = Peer(engine)
    peer.send(AMQP_HEADER, open_(), begin(), receiving(), flow(handle=0, link_credit=4, drain=True))
    engine.connection.open()
    engine.connection.sessions[0].begin()
    assert [type(body) for body in peer.take()[2:]] == [Begin]
    (link,) = engine.connection.sessions[0].remote_handles.values()
    engine.answer_attach(link)
    attach, answer = peer.take()
    assert isinstance(attach, Attach)
    assert (answer.delivery_count, answer.link_credit) == (4, 0)


@pytest.mark.parametrize("end", [Detach(handle=0, closed=True), End()])
def test_a_drain_on_a_link_that_goes_is_left_alone(end: Detach, octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(flow(handle=0, delivery_count=0, link_credit=10, drain=True), end)
    assert type(peer.take()[-1]) is type(end)


def test_we_drain_a_sender_that_gives_its_credit_back(octets: bool) -> None:
    pair = opened(octets=octets, left={"credit": 10})
    feed = pair.right.sender(pair.right.begin())
    pair.run()
    sink = pair.left.sinks["link"]
    assert feed.link.link_credit == 10
    feed.send(b"x")
    sink.link.request_drain()
    pair.run()
    assert sink.bodies == [b"x"]
    assert sink.link.link_credit == feed.link.link_credit == 0
    assert not sink.link.drain
    assert sink.returned == 9
    assert sink.link.delivery_count == feed.link.delivery_count == 10
    sink.link.grant(2)
    pair.run()
    assert feed.link.link_credit == 2
    assert not feed.link.drain


def test_a_sender_that_claims_to_have_given_back_more_than_it_had_has_none_left(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=5), octets=octets)
    sink = peer.engine.sinks["link"]
    peer.send(flow(handle=0, delivery_count=1000, link_credit=0, drain=True))
    assert sink.link.link_credit == 0
    assert sink.returned == 5


def test_a_sender_that_counts_backwards_gains_nothing(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=5), octets=octets)
    sink = peer.engine.sinks["link"]
    peer.send(transfer(0), transfer(1), flow(handle=0, delivery_count=0, link_credit=5))
    assert sink.link.link_credit == 3
    assert sink.link.delivery_count == 2


def test_an_echo_is_answered_with_the_links_state(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=5), octets=octets)
    peer.send(transfer(0), flow(handle=0, delivery_count=1, link_credit=4, available=7, echo=True))
    answer = [body for body in peer.take() if isinstance(body, Flow)][-1]
    assert (answer.handle, answer.delivery_count, answer.link_credit) == (0, 1, 4)
    assert peer.engine.sinks["link"].link.available == 7


def test_a_senders_echo_tells_what_is_available(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    for number in range(4):
        peer.engine.feeds["link"].send(b"%d" % number)
    peer.send(flow(handle=0, delivery_count=0, link_credit=1), flow(handle=0, echo=True))
    answer = [body for body in peer.take() if isinstance(body, Flow)][-1]
    assert answer.available in (3, 4)
    assert answer.delivery_count in (0, 1)


def test_many_echoes_in_one_batch_are_one_answer() -> None:
    peer = receiver_from()
    peer.send(*[flow(handle=0, delivery_count=0, link_credit=1, echo=True)] * 1000)
    assert len(peer.take()) == 1


def test_an_echo_before_our_attach_is_not_forgotten() -> None:
    engine = Endpoint(answers=False)
    peer = Peer(engine)
    peer.send(AMQP_HEADER, open_(), begin(), sending(), flow(handle=0, echo=True))
    engine.connection.open()
    engine.connection.sessions[0].begin()
    peer.take()
    (link,) = engine.connection.sessions[0].remote_handles.values()
    engine.credit = 9
    engine.answer_attach(link)
    attach, answer = peer.take()
    assert isinstance(attach, Attach)
    assert (answer.handle, answer.link_credit) == (0, 9)


def test_credit_granted_before_the_sender_answers_counts_from_its_first(octets: bool) -> None:
    pair = opened(octets=octets)
    sink = pair.left.receiver(pair.left.begin(), credit=3)
    pair.run()
    feed = pair.right.feeds["link"]
    assert feed.link.link_credit == 3
    for number in range(5):
        feed.send(b"%d" % number)
    pair.run()
    assert sink.bodies == [b"0", b"1", b"2"]
    sink.link.grant(1)
    pair.run()
    assert len(sink.bodies) == 4


def test_priority_goes_first_and_equals_take_turns() -> None:
    peer = Peer().open(max_frame_size=0xFFFFFFFF).begin(incoming_window=1000)
    for handle, name in enumerate("abc"):
        peer.attach(receiving(name, handle))
        peer.send(flow(handle=handle, delivery_count=0, link_credit=100))
    feeds = peer.engine.feeds
    feeds["c"].link.priority = 9
    for number in range(3):
        for name in "abc":
            feeds[name].send(f"{name}{number}".encode() * 10_000)
    order = "".join(dict.fromkeys(frame.payload[:2].decode() + " " for frame in peer.frames()))
    assert order.startswith("c0 c1 c2 ")
    assert order.index("b0") < order.index("a2")
    assert order.index("a0") < order.index("b2")


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("ahead", [1, 5, 0x7FFFFFFF])
def test_credit_from_a_delivery_count_that_we_have_not_reached_has_a_limit(ahead: int, drain: bool) -> None:
    peer = receiver_from()
    peer.send(flow(handle=0, delivery_count=ahead, link_credit=LAST, drain=drain, echo=True))
    answer = peer.take()[-1]
    assert isinstance(answer, Flow)
    assert answer.link_credit == (0 if drain else LAST)
    assert answer.delivery_count == (LAST if drain else 0)
