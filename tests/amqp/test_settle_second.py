"""Settlement modes (2.6.12, 2.8.2, 2.8.3): settled at once, after the receiver, and with the sender settling last."""

from __future__ import annotations

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import flow, receiver_from, sender_to, transfer
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified
from van.amqp.link import RCV_SECOND, SND_SETTLED, SND_UNSETTLED
from van.amqp.performatives import Disposition


def test_the_modes_of_both_attaches_are_known(octets: bool) -> None:
    peer = sender_to(octets=octets, snd_settle_mode=SND_SETTLED, rcv_settle_mode=RCV_SECOND)
    link = peer.engine.sinks["link"].link
    assert (link.snd_settle_mode, link.rcv_settle_mode) == (SND_SETTLED, RCV_SECOND)
    peer = receiver_from(octets=octets, snd_settle_mode=SND_UNSETTLED, rcv_settle_mode=RCV_SECOND)
    sender = peer.engine.feeds["link"].link
    assert (sender.snd_settle_mode, sender.rcv_settle_mode) == (SND_UNSETTLED, RCV_SECOND)


def test_the_answer_decides_for_a_link_of_ours(octets: bool) -> None:
    pair = opened(octets=octets)
    session = pair.left.begin()
    feed = pair.left.sender(session, rcv_settle_mode=RCV_SECOND)
    sink = pair.left.receiver(session, "in", snd_settle_mode=SND_SETTLED)
    pair.run()
    assert feed.link.rcv_settle_mode == RCV_SECOND
    assert sink.link.snd_settle_mode == SND_SETTLED


def test_a_presettled_delivery_is_never_spoken_of(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 10})
    session = pair.left.begin()
    feed = pair.left.sender(session)
    delivery = feed.send(b"x", settled=True)
    pair.run()
    assert pair.right.sinks["link"].received[0].settled
    assert feed.gone == [delivery]
    assert feed.outcomes == []
    assert delivery.holder.held == 0
    assert session.unsettled_out == {}


def test_an_unsettled_delivery_is_settled_by_its_receiver(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 10})
    feed = pair.left.sender(pair.left.begin())
    delivery = feed.send(b"x")
    pair.run()
    assert feed.outcomes == [(b"x", ACCEPTED, True)]
    assert delivery.holder.held == 0


def test_the_sender_settles_second_end_to_end(octets: bool) -> None:
    pair = opened(octets=octets, left={"settle_second": True}, right={"credit": 10, "outcome": None})
    feed = pair.left.sender(pair.left.begin(), rcv_settle_mode=RCV_SECOND)
    feed.send(b"x")
    pair.run()
    sink = pair.right.sinks["link"]
    assert sink.link.rcv_settle_mode == RCV_SECOND
    (delivery,) = sink.received
    sink.link.update(delivery, ACCEPTED)
    pair.run()
    assert feed.outcomes == [(b"x", ACCEPTED, False)]
    assert sink.updates == [(delivery, ACCEPTED, True)]
    for endpoint in (pair.left, pair.right):
        session = endpoint.connection.sessions[0]
        assert session.unsettled_in == session.unsettled_out == {}


def test_a_receiver_may_change_its_mind_until_the_sender_settles(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 10, "outcome": None})
    feed = pair.left.sender(pair.left.begin(), rcv_settle_mode=RCV_SECOND)
    delivery = feed.send(b"x")
    pair.run()
    sink = pair.right.sinks["link"]
    for state in (RELEASED, Modified(delivery_failed=True), ACCEPTED):
        sink.link.update(sink.received[0], state)
        pair.run()
    assert [state for _, state, _ in feed.outcomes] == [RELEASED, Modified(delivery_failed=True), ACCEPTED]
    feed.link.update(delivery, ACCEPTED, True)
    pair.run()
    assert sink.updates[-1] == (sink.received[0], ACCEPTED, True)


def test_a_sender_may_name_a_state_without_settling(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 10, "outcome": None})
    feed = pair.left.sender(pair.left.begin())
    delivery = feed.send(b"x")
    pair.run()
    feed.link.update(delivery, RELEASED, False)
    pair.run()
    sink = pair.right.sinks["link"]
    assert sink.updates == [(sink.received[0], RELEASED, False)]
    feed.link.update(delivery, ACCEPTED, True)
    feed.link.update(delivery, ACCEPTED, True)
    pair.run()
    assert len(sink.updates) == 2


def test_both_ends_settle_at_once(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 10, "outcome": None})
    feed = pair.left.sender(pair.left.begin())
    delivery = feed.send(b"x")
    pair.run()
    sink = pair.right.sinks["link"]
    sink.link.settle(sink.received[0], ACCEPTED)
    feed.link.update(delivery, RELEASED, True)
    pair.run()
    assert feed.outcomes == []
    assert sink.updates == []
    for endpoint in (pair.left, pair.right):
        session = endpoint.connection.sessions[0]
        assert session.unsettled_in == session.unsettled_out == {}


def test_a_settlement_of_the_peers_needs_no_answer(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.send(flow(handle=0, delivery_count=0, link_credit=1))
    peer.engine.feeds["link"].send(b"x")
    peer.take()
    peer.send(Disposition(role=True, first=0, settled=True))
    assert peer.take() == []
    assert peer.engine.feeds["link"].outcomes == [(b"x", None, True)]


def test_an_unsettled_delivery_that_is_never_settled_stays_known() -> None:
    peer = sender_to(Endpoint(credit=3, outcome=None))
    peer.send(transfer(0), transfer(1), transfer(2))
    assert list(peer.engine.connection.sessions[0].unsettled_in) == [0, 1, 2]
