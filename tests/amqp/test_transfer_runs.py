"""Transfers of one session that follow one another in a batch are taken as a run, and as what they are one by one."""

from __future__ import annotations

import struct

import pytest

from tests.amqp.pair import Endpoint, Sink
from tests.amqp.peer import Peer, condition, sender_to, sending, transfer
from van.amqp.delivery import Delivery
from van.amqp.errors import ErrorCondition
from van.amqp.framing import encode_frame
from van.amqp.performatives import Close


def frame(delivery_id: int, payload: bytes, channel: int = 0, extended: bytes = b"") -> bytes:
    """A Transfer, perhaps with an extended header (2.3.1)."""
    performative, _ = transfer(delivery_id)
    body = performative.encode() + payload
    header = struct.pack(">IBBH", 8 + len(extended) + len(body), 2 + len(extended) // 4, 0, channel)
    return header + extended + body


def test_sessions_may_take_turns(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets, name="0").begin(channel=1).attach(sending("1"), channel=1)
    peer.send(*(frame(number, str(number).encode(), channel=number // 3 % 2) for number in range(12)))
    assert peer.engine.sinks["0"].bodies == [b"0", b"1", b"2", b"6", b"7", b"8"]
    assert peer.engine.sinks["1"].bodies == [b"3", b"4", b"5", b"9", b"10", b"11"]


def test_an_extended_header_in_the_middle_is_passed_over(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets, name="0").begin(channel=1).attach(sending("1"), channel=1)
    # One of them is what a frame of the other channel has in that place.
    headers = (b"", b"", b"\0\0\0\0", b"", bytes(8), b"\2\0\0\1")
    peer.send(*(frame(number, str(number).encode(), extended=header) for number, header in enumerate(headers)))
    peer.send(frame(6, b"6", extended=b"\2\0\0\1"), frame(0, b"other", channel=1), frame(7, b"7"))
    assert peer.engine.sinks["0"].bodies == [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"]
    assert peer.engine.sinks["1"].bodies == [b"other"]


@pytest.mark.parametrize("ends", ["session", "connection"])
def test_what_follows_when_the_owner_has_ended_it_is_dropped(ends: str, octets: bool) -> None:
    class Ending(Sink):
        def deliver(self, delivery: Delivery) -> None:
            super().deliver(delivery)
            if len(self.received) == 2:
                session = self.link.session
                session.end() if ends == "session" else session.connection.close()

    peer = sender_to(Endpoint(credit=100), octets=octets)
    link = peer.engine.sinks["link"].link
    sink = link.sink = Ending(link)
    peer.send(*(frame(number, b"x") for number in range(5)))
    assert len(sink.received) == 2


def test_a_frame_that_is_too_large_ends_the_connection_behind_those_before_it(octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100, max_frame_size=512), octets=octets)
    peer.send(frame(0, b"a"), frame(1, b"b"), frame(2, bytes(600)), frame(3, b"d"))
    assert peer.engine.sinks["link"].bodies == [b"a", b"b"]
    assert condition(peer.one(Close)) == ErrorCondition.FRAMING_ERROR


@pytest.mark.parametrize("size", range(1, 12))
def test_a_frame_without_room_for_a_transfer_is_an_error_and_reads_nothing_behind_it(size: int, octets: bool) -> None:
    peer = sender_to(Endpoint(credit=100), octets=octets)
    # Cut off, and behind it what would make it whole.
    cut = bytearray(frame(2, b"c"))
    cut[:4] = struct.pack(">I", size)
    peer.send(frame(0, b"a"), frame(1, b"b"), bytes(cut), frame(3, b"d"))
    assert peer.engine.sinks["link"].bodies == [b"a", b"b"] or size == 8
    if size != 8:
        assert peer.engine.connection.close_sent


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_run_that_is_cut_anywhere_goes_on_with_the_next_batch(cut: int) -> None:
    peer: Peer = sender_to(Endpoint(credit=100))
    data = b"".join(frame(number, b"x") for number in range(4))
    peer.send(data[: len(data) - cut])
    peer.send(data[len(data) - cut :], encode_frame(0, b""))
    assert peer.engine.sinks["link"].bodies == [b"x"] * 4
