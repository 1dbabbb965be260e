"""The window of a stream: it never lets more out than it says, and never stands still with a receiver that reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from van.adaptors.stream_window import FULL, WINDOW, ReceiveWindow, SendWindow
from van.amqp.delivery_state import ACCEPTED, Received


def test_without_acknowledgement_it_ends() -> None:
    window = SendWindow()
    assert window.room() == WINDOW
    window.sent += WINDOW
    assert window.room() == 0
    assert window.take(Received(section_number=0, section_offset=FULL))
    assert window.room() == FULL


def test_what_says_nothing_new_makes_no_room() -> None:
    window = SendWindow()
    window.sent = 100
    assert not window.take(ACCEPTED)
    assert not window.take(Received(section_number=0, section_offset=0))
    assert window.take(Received(section_number=0, section_offset=60))
    assert not window.take(Received(section_number=0, section_offset=50))
    assert window.take(Received(section_number=0, section_offset=1 << 60))
    assert window.room() == WINDOW


@given(st.lists(st.tuples(st.integers(1, 70_000), st.integers(0, 70_000)), max_size=200))
def test_a_receiver_that_reads_never_stops_the_sender(turns: list[tuple[int, int]]) -> None:
    sender, receiver = SendWindow(), ReceiveWindow()
    waiting = 0
    for sent, read in turns:
        octets = min(sent, sender.room())
        sender.sent += octets
        waiting += octets
        assert sender.sent - sender.acknowledged <= WINDOW
        octets = min(read, waiting)
        waiting -= octets
        if receiver.passed(octets):
            sender.take(Received(section_number=0, section_offset=receiver.passed_on))
        if not waiting:
            assert sender.room() > 0
