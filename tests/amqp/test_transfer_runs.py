"""Transfers of one session that follow one another in a batch are taken as a run, and as what they are one by one."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.amqp.pair import Endpoint, Sink
from tests.amqp.peer import Peer, condition, sender_to, sending, transfer
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED
from van.amqp.errors import ErrorCondition
from van.amqp.framing import encode_frame
from van.amqp.performatives import Close, Detach, End, Flow

# Layouts are learned of ids of four octets alone, and of the first Transfer that has one.
pytestmark = pytest.mark.parametrize("first", [0, 70_000], ids=["by fields", "by layout"])


def frame(delivery_id: int, payload: bytes, channel: int = 0, extended: bytes = b"", **fields: Any) -> bytes:
    """A Transfer, perhaps with an extended header (2.3.1)."""
    performative, _ = transfer(delivery_id, **fields)
    body = performative.encode() + payload
    header = struct.pack(">IBBH", 8 + len(extended) + len(body), 2 + len(extended) // 4, 0, channel)
    return header + extended + body


def test_sessions_may_take_turns(first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets, name="0").begin(channel=1).attach(sending("1"), channel=1)
    peer.send(*(frame(first + number, str(number).encode(), channel=number // 3 % 2) for number in range(12)))
    assert peer.engine.sinks["0"].bodies == [b"0", b"1", b"2", b"6", b"7", b"8"]
    assert peer.engine.sinks["1"].bodies == [b"3", b"4", b"5", b"9", b"10", b"11"]


def test_an_extended_header_in_the_middle_is_passed_over(first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets, name="0").begin(channel=1).attach(sending("1"), channel=1)
    # One of them is what a frame of the other channel has in that place.
    headers = (b"", b"", b"\0\0\0\0", b"", bytes(8), b"\2\0\0\1")
    peer.send(*(frame(first + number, str(number).encode(), extended=header) for number, header in enumerate(headers)))
    peer.send(
        frame(first + 6, b"6", extended=b"\2\0\0\1"), frame(first, b"other", channel=1), frame(first + 7, b"7")
    )
    assert peer.engine.sinks["0"].bodies == [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"]
    assert peer.engine.sinks["1"].bodies == [b"other"]


@pytest.mark.parametrize("ends", ["link", "session", "connection", "stream"])
def test_what_follows_when_the_owner_has_ended_it_is_dropped(ends: str, first: int, octets: bool) -> None:
    class Ending(Sink):
        def deliver(self, delivery: Delivery) -> None:
            super().deliver(delivery)
            if len(self.received) == 2:
                session = self.link.session
                match ends:
                    case "link":
                        self.link.detach()
                    case "session":
                        session.end()
                    case "connection":
                        session.connection.close()
                    case _:
                        session.connection.receive_eof(0.0)

    peer = sender_to(Endpoint(credit=100), octets=octets)
    link = peer.engine.sinks["link"].link
    sink = link.sink = Ending(link)
    peer.send(*(frame(first + number, b"x") for number in range(5)))
    assert len(sink.received) == 2
    # Nothing is kept of the rest.
    assert link.session.held == 2
    assert not link.session.unsettled_in


def test_a_frame_that_is_too_large_ends_the_connection_behind_those_before_it(first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100, max_frame_size=512), octets=octets)
    peer.send(frame(first, b"a"), frame(first + 1, b"b"), frame(first + 2, bytes(600)), frame(first + 3, b"d"))
    assert peer.engine.sinks["link"].bodies == [b"a", b"b"]
    assert condition(peer.one(Close)) == ErrorCondition.FRAMING_ERROR


@pytest.mark.parametrize("size", range(1, 12))
def test_a_frame_without_room_for_a_transfer_is_an_error_and_reads_nothing_behind_it(
    size: int, first: int, octets: bool
) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets)
    # Cut off, and behind it what would make it whole.
    cut = bytearray(frame(first + 2, b"c"))
    cut[:4] = struct.pack(">I", size)
    peer.send(frame(first, b"a"), frame(first + 1, b"b"), bytes(cut), frame(first + 3, b"d"))
    assert peer.engine.sinks["link"].bodies == [b"a", b"b"] or size == 8
    if size != 8:
        assert peer.engine.connection.close_sent


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_run_that_is_cut_anywhere_goes_on_with_the_next_batch(cut: int, first: int) -> None:
    peer: Peer = sender_to(Endpoint(credit=100))
    data = b"".join(frame(first + number, b"x") for number in range(4))
    peer.send(data[: len(data) - cut])
    peer.send(data[len(data) - cut :], encode_frame(0, b""))
    assert peer.engine.sinks["link"].bodies == [b"x"] * 4


def test_a_run_ends_where_the_credit_does(first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=3), octets=octets)
    peer.send(*(frame(first + number, b"x") for number in range(5)))
    assert peer.engine.sinks["link"].bodies == [b"x"] * 3
    assert condition(peer.one(Detach)) == ErrorCondition.TRANSFER_LIMIT_EXCEEDED


def test_a_run_ends_where_the_window_does(first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets)
    session = peer.engine.connection.sessions[0]
    session.incoming_window = session.window = 3
    session.renew_at = -1
    peer.send(*(frame(first + number, b"x") for number in range(5)))
    assert peer.engine.sinks["link"].bodies == [b"x"] * 3
    assert condition(peer.one(End)) == ErrorCondition.WINDOW_VIOLATION


@pytest.mark.parametrize("outcome", [ACCEPTED, None])
def test_a_window_is_renewed_with_the_outcomes_of_a_run_or_when_it_runs_low(outcome: object, first: int) -> None:
    peer = sender_to(Endpoint(credit=100))
    peer.engine.sinks["link"].outcome_given = outcome
    session = peer.engine.connection.sessions[0]
    session.incoming_window = session.window = 20
    session.renew_at = 10
    peer.send(*(frame(first, b"x") for first in range(first, first + 10)))
    flows = [body for body in peer.take() if isinstance(body, Flow)]
    peer.send(*(frame(first, b"x") for first in range(first + 10, first + 17)))
    flows += [body for body in peer.take() if isinstance(body, Flow)]
    assert [flow.incoming_window > 100 for flow in flows] == [True]


def test_an_id_that_is_unsettled_ends_the_session_behind_those_before_it(first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets)
    peer.engine.sinks["link"].outcome_given = None
    peer.send(*(frame(first + number, b"x") for number in (0, 1, 2, 1, 3)))
    assert peer.engine.sinks["link"].bodies == [b"x"] * 3
    assert condition(peer.one(End)) == ErrorCondition.INVALID_FIELD


def test_a_message_that_is_too_large_ends_the_link_behind_those_before_it(first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets)
    peer.engine.sinks["link"].link.max_message_size = 5
    peer.send(*(frame(first + number, bytes(number)) for number in range(3, 8)))
    assert peer.engine.sinks["link"].bodies == [bytes(3), bytes(4), bytes(5)]
    assert condition(peer.one(Detach)) == ErrorCondition.MESSAGE_SIZE_EXCEEDED


def test_empty_messages_are_messages(first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets)
    peer.send(*(frame(first + number, b"") for number in range(4)))
    assert peer.engine.sinks["link"].bodies == [b""] * 4


@pytest.mark.parametrize("settled", [False, True])
def test_a_run_says_of_each_delivery_what_its_transfer_says(settled: bool, first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets)
    sink = peer.engine.sinks["link"]
    sink.outcome_given = None
    peer.send(*(frame(first + number, b"%d" % number, settled=settled, message_format=7) for number in range(5)))
    session = sink.link.session
    assert [
        (got.delivery_id, got.delivery_tag, got.data(), got.settled, got.message_format) for got in sink.received
    ] == [(n, n.to_bytes(4, "big"), b"%d" % (n - first), settled, 7) for n in range(first, first + 5)]
    assert list(session.unsettled_in) == ([] if settled else list(range(first, first + 5)))
    assert (session.held, sink.link.link_credit, sink.link.delivery_count) == (5, 95, 5)
    assert session.next_incoming_id == 5


def test_a_delivery_of_several_frames_may_come_in_the_middle_of_a_run(first: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets)
    peer.send(
        *(frame(first + number, b"a") for number in range(3)),
        frame(first + 3, b"b", more=True),
        frame(first + 3, b"c", more=False),
        frame(first + 4, b"d", aborted=True),
        *(frame(first + number, b"e") for number in range(5, 8)),
    )
    sink = peer.engine.sinks["link"]
    assert sink.bodies == [b"a", b"a", b"a", b"bc", b"e", b"e", b"e"]
    assert len(sink.aborted) == 1
