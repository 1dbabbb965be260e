"""Dispositions (2.7.6): ranges of any width in both roles, ids that nobody knows, and how ours are put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.amqp.pair import Endpoint, Feed, opened
from tests.amqp.peer import Peer, begin, flow, open_, receiver_from, receiving, sender_to, sending, transfer
from van.amqp.composite import Composite
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Error, Modified, Received, Rejected
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Detach, Disposition
from van.amqp.types import Described, ULong

LAST = 0xFFFFFFFF


def sent(count: int, *, octets: bool = False, first_id: int = 0) -> Peer:
    """A peer that has received `count` deliveries of ours and settled none."""
    engine = Endpoint(answers=False)
    peer = Peer(engine, octets=octets)
    peer.send(AMQP_HEADER, open_())
    engine.connection.open()
    feed = engine.sender(engine.begin(first_id))
    peer.send(
        begin(remote_channel=0),
        receiving(),
        flow(next_incoming_id=first_id, incoming_window=100_000, handle=0, delivery_count=0, link_credit=count),
    )
    for number in range(count):
        feed.send(b"%d" % number)
    peer.take()
    return peer


def tags(peer: Peer) -> list[bytes]:
    return [tag for tag, _, _ in peer.engine.feeds["link"].outcomes]


@pytest.mark.parametrize(
    ("first", "last", "settled"),
    [
        (0, None, [0]),
        (2, 2, [2]),
        (1, 3, [1, 2, 3]),
        (0, 4, [0, 1, 2, 3, 4]),
        (3, 1000, [3, 4]),
        (0, 0x7FFFFFFF, [0, 1, 2, 3, 4]),
        (LAST - 10, 2, [0, 1, 2]),
        (LAST - 0x70000000, 1, [0, 1]),
        (5, 9, []),
        (LAST, None, []),
        (4, 2, []),
        (0, 0x80000000, []),
    ],
)
def test_a_range_settles_what_lies_in_it(first: int, last: int | None, settled: list[int], octets: bool) -> None:
    peer = sent(5, octets=octets)
    peer.send(Disposition(role=True, first=first, last=last, settled=True, state=ACCEPTED))
    assert tags(peer) == [b"%d" % number for number in settled]
    assert list(peer.engine.connection.sessions[0].unsettled_out) == [n for n in range(5) if n not in settled]


@pytest.mark.parametrize("first_id", [0, LAST - 3])
def test_a_range_may_lie_across_links_and_deliveries_of_several_frames(first_id: int, octets: bool) -> None:
    engine = Endpoint(answers=False)
    peer = Peer(engine, octets=octets)
    peer.send(AMQP_HEADER, open_(max_frame_size=512))
    engine.connection.open()
    session = engine.begin(first_id)
    feeds = [engine.sender(session, name) for name in ("0", "1")]
    peer.send(begin(remote_channel=0), receiving("0", 0), receiving("1", 1))
    for handle in (0, 1):
        window = {"next_incoming_id": first_id, "incoming_window": 1000}
        peer.send(flow(handle=handle, delivery_count=0, link_credit=100, **window))
    written = [(0, b"a"), (0, b"b"), (1, b"c"), (1, bytes(2000)), (1, b"d"), (0, b"e"), (1, b"f"), (1, b"g")]
    for link, payload in written:
        feeds[link].send(payload)
        peer.take()
    peer.send(Disposition(role=True, first=first_id, last=(first_id + 6) & LAST, settled=True, state=ACCEPTED))
    for number, feed in enumerate(feeds):
        expected = [(payload[:32], ACCEPTED, True) for link, payload in written[:7] if link == number]
        assert feed.outcomes == expected
    assert list(session.unsettled_out) == [(first_id + 7) & LAST]


class Meddling(Feed):
    """Does something when it is told of an outcome."""

    __slots__ = ("then",)

    then: Callable[[], None]

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        super().updated(delivery, state, settled)
        self.then()


def sent_by_two_links() -> tuple[Peer, Meddling, Feed]:
    """A peer that has a message by each of two links, the first of which meddles."""
    engine = Endpoint(answers=False)
    peer = Peer(engine)
    peer.send(AMQP_HEADER, open_())
    engine.connection.open()
    session = engine.begin()
    first, second = (engine.sender(session, name) for name in ("0", "1"))
    meddling = first.link.source = Meddling(first.link)
    peer.send(begin(remote_channel=0), receiving("0", 0), receiving("1", 1))
    for handle, feed in enumerate((meddling, second)):
        peer.send(flow(handle=handle, delivery_count=0, link_credit=100, incoming_window=1000))
        feed.send(b"%d" % handle)
        peer.take()
    return peer, meddling, second


def test_an_owner_that_is_told_may_end_the_link_of_what_follows_in_the_range() -> None:
    peer, first, second = sent_by_two_links()
    first.then = second.link.detach
    peer.send(Detach(handle=1, closed=True))
    peer.send(Disposition(role=True, first=0, last=1, settled=True, state=ACCEPTED))
    assert second.outcomes == [(b"1", ACCEPTED, True)]


def test_an_owner_that_is_told_may_settle_what_follows_in_the_range() -> None:
    peer, first, second = sent_by_two_links()
    following = peer.engine.connection.sessions[0].unsettled_out[1]
    first.then = lambda: second.link.update(following, None, True)
    peer.send(Disposition(role=True, first=0, last=1, settled=True, state=ACCEPTED))
    assert second.outcomes == []


@pytest.mark.parametrize("width", [3, 1000, 0x7FFFFFFF])
def test_a_range_may_wrap(width: int, octets: bool) -> None:
    peer = sent(5, octets=octets, first_id=LAST - 1)
    peer.send(Disposition(role=True, first=LAST - 1, last=(LAST - 1 + width) & LAST, settled=True, state=ACCEPTED))
    assert tags(peer) == [b"0", b"1", b"2", b"3", b"4"][: width + 1]


def test_what_was_settled_already_and_what_never_was_is_ignored(octets: bool) -> None:
    peer = sent(2, octets=octets)
    for _ in range(3):
        peer.send(Disposition(role=True, first=0, last=10, settled=True, state=RELEASED))
    peer.send(Disposition(role=True, first=77, settled=True), Disposition(role=False, first=0, last=9, settled=True))
    assert tags(peer) == [b"0", b"1"]
    assert peer.take() == []


def test_the_widest_range_costs_as_much_as_there_is_unsettled() -> None:
    peer = sent(10)
    start = time.process_time()
    for _ in range(1000):
        peer.send(Disposition(role=True, first=0, last=0x7FFFFFFF, state=ACCEPTED))
        peer.send(Disposition(role=False, first=0, last=0x7FFFFFFF, settled=True))
    assert time.process_time() - start < 5
    assert len(peer.engine.feeds["link"].outcomes) == 10_000


def test_a_state_without_settlement_keeps_the_delivery(octets: bool) -> None:
    peer = sent(2, octets=octets)
    peer.send(Disposition(role=True, first=0, last=1, state=ACCEPTED))
    assert peer.engine.feeds["link"].outcomes == [(b"0", ACCEPTED, False), (b"1", ACCEPTED, False)]
    peer.send(Disposition(role=True, first=0, last=1, settled=True))
    assert peer.engine.feeds["link"].outcomes[2:] == [(b"0", None, True), (b"1", None, True)]


@pytest.mark.parametrize(
    "state",
    [
        ACCEPTED,
        RELEASED,
        Rejected(error=Error(condition="amqp:not-found", description="no")),
        Modified(delivery_failed=True, undeliverable_here=True, message_annotations={"x-a": 1}),
        Received(section_number=2, section_offset=3),
        Described(ULong(0x7777), [1, 2]),
        None,
    ],
)
def test_every_state_is_told(state: Composite | None, octets: bool) -> None:
    peer = sent(1, octets=octets)
    fields: dict[str, Any] = {"state": state}
    peer.send(Disposition(role=True, first=0, settled=True, **fields))
    ((_, told, settled),) = peer.engine.feeds["link"].outcomes
    assert told == state
    assert settled


def test_the_sender_may_settle_what_it_sent(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10, outcome=None), octets=octets)
    peer.send(transfer(0), transfer(1), transfer(2))
    peer.send(Disposition(role=False, first=0, last=1, settled=True, state=ACCEPTED))
    sink = peer.engine.sinks["link"]
    assert [(delivery.delivery_id, state, settled) for delivery, state, settled in sink.updates] == [
        (0, ACCEPTED, True),
        (1, ACCEPTED, True),
    ]
    peer.send(Disposition(role=False, first=2, state=Received(section_number=0, section_offset=0)))
    assert sink.updates[-1][2] is False
    for delivery in sink.received:
        sink.link.settle(delivery, ACCEPTED)
    (ours,) = peer.take()
    assert (ours.first, ours.last) == (2, None)


def test_ours_are_put_together_in_ranges(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    for number in range(6):
        peer.send(transfer(number))
    ours = peer.one(Disposition)
    assert ours == Disposition(role=True, first=0, last=5, settled=True, state=ACCEPTED)


def test_gaps_and_other_states_begin_new_ranges() -> None:
    peer = sender_to(Endpoint(credit=10, outcome=None))
    for number in range(8):
        peer.send(transfer(number))
    sink = peer.engine.sinks["link"]
    for number, state in [(0, ACCEPTED), (1, ACCEPTED), (3, ACCEPTED), (4, RELEASED), (5, RELEASED), (2, RELEASED)]:
        sink.link.settle(sink.received[number], state)
    assert [(body.first, body.last, type(body.state)) for body in peer.take()] == [
        (0, 1, type(ACCEPTED)),
        (3, None, type(ACCEPTED)),
        (4, 5, type(RELEASED)),
        (2, None, type(RELEASED)),
    ]


def test_what_is_accepted_out_of_order_is_put_together() -> None:
    peer = sender_to(Endpoint(credit=20, outcome=None))
    for number in range(12):
        peer.send(transfer(number))
    sink = peer.engine.sinks["link"]
    for start in (1, 0, 2):  # three receivers that had them in turn; one of the second's is missing
        for number in range(start, 12, 3):
            if number != 7:
                sink.link.settle(sink.received[number], ACCEPTED)
    assert [(body.first, body.last) for body in peer.take()] == [(0, 6), (8, 11)]


def test_ours_go_on_across_the_wrap() -> None:
    peer = sender_to(Endpoint(credit=10))
    for number in (LAST - 1, LAST, 0, 1):
        peer.send(transfer(number))
    ours = peer.one(Disposition)
    assert (ours.first, ours.last) == (LAST - 1, 1)


def test_a_delivery_is_settled_once() -> None:
    peer = sender_to(Endpoint(credit=10))
    peer.send(transfer(0))
    peer.take()
    sink = peer.engine.sinks["link"]
    sink.link.settle(sink.received[0], RELEASED)
    sink.link.update(sink.received[0], RELEASED)
    assert peer.take() == []


def test_settling_without_a_state_says_no_more_than_that() -> None:
    peer = sender_to(Endpoint(credit=10, outcome=None))
    peer.send(transfer(0))
    sink = peer.engine.sinks["link"]
    sink.link.settle(sink.received[0], None)
    assert peer.one(Disposition) == Disposition(role=True, first=0, settled=True)


def test_only_the_last_of_many_states_is_written() -> None:
    peer = sender_to(Endpoint(credit=10, outcome=None))
    peer.send(transfer(0), transfer(1))
    sink = peer.engine.sinks["link"]
    for number in range(1000):
        sink.link.update(sink.received[0], Received(section_number=0, section_offset=number))
    sink.link.update(sink.received[1], ACCEPTED)
    first, second = peer.take()
    assert first.state.section_offset == 999
    assert not first.settled
    assert (second.first, second.state) == (1, ACCEPTED)


def test_a_state_and_then_its_settlement_come_in_that_order() -> None:
    peer = sender_to(Endpoint(credit=10, outcome=None))
    peer.send(transfer(0))
    sink = peer.engine.sinks["link"]
    sink.link.update(sink.received[0], ACCEPTED)
    sink.link.settle(sink.received[0], ACCEPTED)
    assert [body.settled for body in peer.take()] == [False, True]


def test_links_of_a_session_share_its_ids(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=10), octets=octets)
    peer.attach(sending("b", 1))
    peer.send(transfer(0), transfer(1, handle=1), transfer(2))
    ids = [
        number
        for body in peer.take()
        if isinstance(body, Disposition)
        for number in range(body.first, (body.last if body.last is not None else body.first) + 1)
    ]
    assert ids == [0, 1, 2]


def test_a_disposition_reaches_every_link_in_its_range(octets: bool) -> None:
    peer = receiver_from(octets=octets)
    peer.attach(receiving("b", 1))
    peer.send(flow(handle=0, delivery_count=0, link_credit=5), flow(handle=1, delivery_count=0, link_credit=5))
    peer.engine.feeds["link"].send(b"a")
    peer.engine.feeds["b"].send(b"b")
    peer.take()
    peer.send(Disposition(role=True, first=0, last=1, settled=True, state=ACCEPTED))
    assert tags(peer) == [b"a"]
    assert [tag for tag, _, _ in peer.engine.feeds["b"].outcomes] == [b"b"]


def test_outcomes_arrive_after_the_link_is_gone(octets: bool) -> None:
    peer = sent(1, octets=octets)
    peer.engine.feeds["link"].link.detach()
    peer.take()
    peer.send(Disposition(role=True, first=0, settled=True, state=ACCEPTED))
    assert tags(peer) == [b"0"]


def test_both_ends_agree_after_many(octets: bool) -> None:
    pair = opened(octets=octets, right={"credit": 100, "replenish": True})
    session = pair.left.begin(LAST - 50)
    feed = pair.left.sender(session)
    for number in range(200):
        feed.send(b"%d" % number, settled=number % 7 == 0)
    pair.run()
    assert len(pair.right.sinks["link"].bodies) == 200
    assert len(feed.outcomes) + len(feed.gone) == 200
    assert session.unsettled_out == {}
    assert pair.right.connection.sessions[0].unsettled_in == {}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            Rejected(error=Error(condition="amqp:not-found", description="d" * 3000)),
            Rejected(error=Error(condition="amqp:not-found")),
        ),
        (Rejected(error=Error(condition="c" * 3000)), Rejected()),
        (
            Modified(delivery_failed=True, undeliverable_here=True, message_annotations={"x": "y" * 3000}),
            Modified(delivery_failed=True, undeliverable_here=True),
        ),
        (Described(ULong(0x7777), ["z" * 3000]), Modified(delivery_failed=True)),
    ],
)
def test_an_outcome_too_large_for_the_peer_loses_its_texts(state: object, told: Composite, octets: bool) -> None:
    peer = Peer(Endpoint(credit=5, outcome=None), octets=octets).open(max_frame_size=512).begin().attach(sending())
    peer.send(transfer(0))
    sink = peer.engine.sinks["link"]
    sink.link.settle(sink.received[0], state)
    assert peer.one(Disposition).state == told


def test_a_disposition_by_another_descriptor_is_one(octets: bool) -> None:
    peer = sent(1, octets=octets)
    body = Disposition(role=True, first=0, settled=True, state=ACCEPTED).encode()[3:]
    peer.send(encode_frame(0, b"\x00\xa3\x15amqp:disposition:list" + body))
    assert tags(peer) == [b"0"]
