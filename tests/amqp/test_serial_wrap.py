"""Serial numbers (2.8.10, RFC 1982): transfer-ids, delivery-ids and delivery-count go on across 2^32."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import Peer, begin, flow, receiving, sending, transfer
from van.amqp.performatives import Disposition, Transfer
from van.amqp.serial import HALF, MASK, serial_add, serial_distance
from van.amqp.session import WindowPolicy

LAST = 0xFFFFFFFF
ids = st.integers(0, LAST) | st.sampled_from([0, 1, HALF - 1, HALF, HALF + 1, LAST - 1, LAST])


@given(ids, st.integers(-HALF, HALF - 1))
def test_a_distance_is_what_was_added(start: int, distance: int) -> None:
    assert serial_distance(start, serial_add(start, distance)) == distance


@given(ids, ids)
def test_a_distance_leads_from_one_to_the_other(start: int, end: int) -> None:
    distance = serial_distance(start, end)
    assert -HALF <= distance < HALF
    assert serial_add(start, distance) == end
    assert 0 <= serial_add(start, distance) <= MASK


@pytest.mark.parametrize("first", [LAST - 20, LAST, HALF - 5])
@pytest.mark.parametrize("window", [3, 100])
def test_two_engines_go_on_across_the_wrap(first: int, window: int, octets: bool) -> None:
    right: dict[str, Any] = {"credit": 7, "replenish": True, "window_policy": WindowPolicy(window)}
    pair = opened(octets=octets, right=right)
    session = pair.left.begin(first)
    feed = pair.left.sender(session, initial_delivery_count=LAST - 3)
    payloads = [b"%d" % number for number in range(60)]
    for payload in payloads:
        feed.send(payload)
    pair.run()
    assert pair.right.sinks["link"].bodies == payloads
    assert len(feed.outcomes) == 60
    assert session.next_outgoing_id == serial_add(first, 60)
    assert feed.link.delivery_count == serial_add(LAST - 3, 60)
    assert pair.right.connection.sessions[0].next_incoming_id == serial_add(first, 60)


def test_a_peers_transfer_ids_wrap(octets: bool) -> None:
    engine = Endpoint(credit=10)
    peer = Peer(engine, octets=octets).open().begin(next_outgoing_id=LAST).attach(sending())
    peer.send(transfer(LAST), transfer(0), transfer(1))
    assert len(engine.sinks["link"].bodies) == 3
    assert engine.connection.sessions[0].next_incoming_id == 2
    ours = [body for body in peer.take() if isinstance(body, Disposition)]
    assert (ours[0].first, ours[-1].last if ours[-1].last is not None else ours[-1].first) == (LAST, 1)


def test_a_window_is_counted_across_the_wrap(octets: bool) -> None:
    peer = Peer(octets=octets).open()
    peer.engine.answers = False
    session = peer.engine.begin(LAST - 1)
    feed = peer.engine.sender(session)
    peer.take()
    peer.send(begin(remote_channel=0, incoming_window=2), receiving())
    peer.send(flow(next_incoming_id=None, incoming_window=2, handle=0, link_credit=10))
    for number in range(6):
        feed.send(b"%d" % number)
    assert [frame.body.delivery_id for frame in peer.frames()] == [LAST - 1, LAST]
    peer.send(flow(next_incoming_id=LAST, incoming_window=2))
    assert [frame.body.delivery_id for frame in peer.frames()] == [0]
    peer.send(flow(next_incoming_id=1, incoming_window=5))
    bodies = peer.take()
    assert [type(body) for body in bodies] == [Transfer] * 3
