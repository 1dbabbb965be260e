"""What passes between Qpid Proton's links through the router: settlement, outcomes, drain, large, broken messages."""

from __future__ import annotations

import signal

import pytest

from tests.interop.harness import Proton

pytestmark = pytest.mark.interop

MEBIBYTE = 1 << 20


def test_a_filter_that_we_do_not_apply_is_absent_from_our_attach(proton: Proton, address: str) -> None:
    assert proton.program("attach", address=address, **proton.to("open")).output() == [
        f"address {address}",
        "filter None",
        "container interop",
    ]


def test_every_outcome_reaches_the_sender(proton: Proton, address: str) -> None:
    outcomes = {"good": "accepted", "bad": "rejected", "later": "released", "broken": "failed"}
    receiver = proton.program("receive", address=address, count=4, outcomes=outcomes, **proton.to("open"))
    assert receiver.line() == "ready"
    sender = proton.program("send", address=address, bodies=list(outcomes), **proton.to("open"))
    assert sorted(sender.output()) == [
        "bad rejected test:no-thanks the receiver does not want it settled",
        "broken modified failed settled",
        "good accepted settled",
        "later released settled",
    ]
    assert receiver.output() == [f"message {body} unsettled" for body in outcomes]


def test_pre_settled_stays_pre_settled(proton: Proton, address: str) -> None:
    receiver = proton.program("receive", address=address, count=3, **proton.to("open"))
    sender = proton.program("send", address=address, bodies=["a", "b", "c"], mode="settled", **proton.to("open"))
    assert sender.output() == ["a sent settled", "b sent settled", "c sent settled"]
    assert receiver.output() == ["ready", "message a settled", "message b settled", "message c settled"]


def test_a_burst_that_is_closed_at_once_arrives(proton: Proton, address: str) -> None:
    """Proton throws away what the session's window has not let out when it closes: the first window lets out a lot."""
    receiver = proton.program("receive", address=address, count=200, credit=200, **proton.to("open"))
    assert receiver.line() == "ready"
    assert proton.program("burst", address=address, count=200, **proton.to("open")).output() == []
    assert receiver.output() == [f"message {number} settled" for number in range(200)]


def test_exactly_once_is_carried_end_to_end(proton: Proton, address: str) -> None:
    """The receiver accepts without settling, the sender learns it and settles, and only then the receiver does."""
    receiver = proton.program("receive", address=address, count=2, mode="second", credit=1, **proton.to("open"))
    sender = proton.program("send", address=address, bodies=["a", "b"], mode="second", **proton.to("open"))
    assert sender.output() == ["a accepted unsettled", "b accepted unsettled"]
    assert receiver.output() == [
        "ready",
        "message a unsettled",
        "sender settled",
        "message b unsettled",
        "sender settled",
    ]


def test_multicast_reaches_everybody_who_listens(proton: Proton) -> None:
    receivers = [proton.program("receive", address="news.eu", count=3, **proton.to("open")) for _ in range(3)]
    assert [receiver.line() for receiver in receivers] == ["ready"] * 3
    sender = proton.program("send", address="news.eu", bodies=["a", "b", "c"], **proton.to("open"))
    assert sender.output() == ["a accepted settled", "b accepted settled", "c accepted settled"]
    for receiver in receivers:
        assert receiver.output() == [f"message {body} unsettled" for body in "abc"]


def test_balanced_spreads_them(proton: Proton, address: str) -> None:
    receivers = [proton.program("receive", address=address, count=11, **proton.to("open")) for _ in range(2)]
    assert [receiver.line() for receiver in receivers] == ["ready"] * 2
    bodies = [f"message {number}" for number in range(10)]
    sender = proton.program("send", address=address, bodies=bodies, **proton.to("open"))
    assert len(sender.output()) == 10
    for receiver in receivers:
        receiver.kill()
    taken = [receiver.output(status=None) for receiver in receivers]
    assert sorted(taken[0] + taken[1]) == sorted(f"message {body} unsettled" for body in bodies)
    assert all(taken)


@pytest.mark.parametrize("size", [0, 16_384, 10_000_000])
def test_a_message_of_any_size_passes_unchanged(proton: Proton, address: str, size: int) -> None:
    assert proton.program("large", address=address, size=size, **proton.to("open")).output() == [f"{size} the same"]


def test_a_message_in_the_smallest_frames(proton: Proton, address: str) -> None:
    program = proton.program("large", address=address, size=100_000, max_frame_size=512, **proton.to("open"))
    assert program.output() == ["100000 the same"]


def test_every_section_and_type_passes_unchanged(proton: Proton, address: str) -> None:
    assert proton.program("sections", address=address, **proton.to("open")).output() == ["the same"]


def test_drain_takes_unused_credit_back(proton: Proton, address: str) -> None:
    receiver = proton.program("drain", address=address, count=3, **proton.to("open"))
    assert receiver.lines(2) == ["ready", "drained, credit 0"]
    sender = proton.program("send", address=address, bodies=["a", "b", "c"], **proton.to("open"))
    lines = receiver.output()
    assert [line for line in lines if not line.startswith("drained")] == ["a", "b", "c"]
    assert lines[-1] == "drained, credit 0"
    assert sender.output() == ["a accepted settled", "b accepted settled", "c accepted settled"]


@pytest.mark.parametrize("end", ["link", "connection", "cut"])
def test_a_sender_that_goes_in_the_middle_of_a_message(proton: Proton, address: str, end: str) -> None:
    """The receiver learns that the rest will not come, and the next message comes through on the same link."""
    receiver = proton.program("watch", address=address, count=1, **proton.to("open"))
    assert receiver.line() == "ready"
    sender = proton.program("half", address=address, size=MEBIBYTE, end=end, **proton.to("open"))
    assert receiver.line() == "partly here"
    if end == "cut":
        sender.kill()
    else:
        sender.signal(signal.SIGUSR1)
        assert sender.output()[-1] == "connection closed"
    assert receiver.line() == "aborted"
    assert proton.program("send", address=address, bodies=["whole"], **proton.to("open")).output() == [
        "whole accepted settled"
    ]
    assert receiver.output() == ["message whole"]


def test_a_receiver_that_dies_gives_back_what_it_had(proton: Proton, address: str) -> None:
    receiver = proton.program("die", address=address, **proton.to("open"))
    assert receiver.line() == "ready"
    sender = proton.program("send", address=address, bodies=["a"], **proton.to("open"))
    assert receiver.output() == ["a"]
    assert sender.output() == ["a modified failed settled"]


def test_a_hundred_links_on_one_connection(proton: Proton, address: str) -> None:
    program = proton.program("many", address=address, links=100, **proton.to("open"))
    assert program.output() == ["100 of 100"]
