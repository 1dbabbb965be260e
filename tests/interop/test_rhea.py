"""rhea (node) over TCP, TLS and WebSocket, with ANONYMOUS, PLAIN and EXTERNAL, and what passes between its links."""

from __future__ import annotations

import pytest

from tests.interop.conftest import USERS
from tests.interop.harness import Proton, Rhea, Router

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("listener", ["open", "tls", "mutual", "ws", "wss", "wss-mutual"])
def test_hello(rhea: Rhea, address: str, listener: str) -> None:
    """Without a user: no SASL layer at all where ANONYMOUS is offered, EXTERNAL where a certificate is asked for."""
    assert rhea.program("hello", address=address, **rhea.to(listener)).output() == ["Hello"]


@pytest.mark.parametrize("listener", ["users", "tls", "ws", "wss"])
@pytest.mark.parametrize("user", USERS)
def test_plain(rhea: Rhea, address: str, listener: str, user: str) -> None:
    program = rhea.program("hello", address=address, username=user, password=USERS[user], **rhea.to(listener))
    assert program.output() == ["Hello"]


@pytest.mark.parametrize("listener", ["open", "tls", "ws"])
def test_sasl_anonymous_with_a_name(rhea: Rhea, address: str, listener: str) -> None:
    assert rhea.program("hello", address=address, username="somebody", **rhea.to(listener)).output() == ["Hello"]


@pytest.mark.parametrize("listener", ["users", "tls", "ws"])
def test_a_wrong_password_is_refused(rhea: Rhea, address: str, listener: str) -> None:
    program = rhea.program("hello", address=address, username="alice", password="wrong", **rhea.to(listener))
    assert "connection error amqp:unauthorized-access" in program.output(status=None)


def test_without_sasl_where_it_is_required(rhea: Rhea, address: str) -> None:
    lines = rhea.program("hello", address=address, **rhea.to("users")).output(status=None)
    assert "Hello" not in lines
    assert lines


@pytest.mark.parametrize("offer", [["binary", "AMQPWSB10", "amqp"], ["AMQPWSB10"], ["binary"]], ids="+".join)
def test_every_websocket_subprotocol_in_use(router: Router, rhea: Rhea, address: str, offer: list[str]) -> None:
    url = router.url(listener="ws", scheme="ws")
    assert rhea.program("hello", address=address, websocket=url, protocols=offer).output() == ["Hello"]


def test_a_websocket_subprotocol_of_others_is_refused(router: Router, rhea: Rhea, address: str) -> None:
    url = router.url(listener="ws", scheme="ws")
    program = rhea.program("hello", address=address, websocket=url, protocols=["mqtt"])
    assert "Hello" not in program.output(status=None)


def test_every_outcome_reaches_the_sender(rhea: Rhea, address: str) -> None:
    """One at a time: rhea 3 writes neighbours that it rejects and releases as one range, rejected."""
    outcomes = {"good": "accepted", "bad": "rejected", "later": "released", "broken": "failed"}
    receiver = rhea.program("receive", address=address, count=4, credit=1, outcomes=outcomes, **rhea.to("open"))
    assert receiver.line() == "ready"
    sender = rhea.program("send", address=address, bodies=list(outcomes), **rhea.to("open"))
    assert sorted(sender.output()) == [
        "bad rejected test:no-thanks settled",
        "broken modified settled",
        "good accepted settled",
        "later released settled",
    ]
    assert receiver.output() == [f"message {body} unsettled" for body in outcomes]


def test_pre_settled_stays_pre_settled(rhea: Rhea, address: str) -> None:
    receiver = rhea.program("receive", address=address, count=2, **rhea.to("open"))
    assert receiver.line() == "ready"
    sender = rhea.program("send", address=address, bodies=["a", "b"], settled=True, **rhea.to("open"))
    assert sender.output() == ["a sent settled", "b sent settled"]
    assert receiver.output() == ["message a settled", "message b settled"]


def test_exactly_once_is_carried_end_to_end(rhea: Rhea, address: str) -> None:
    receiver = rhea.program("receive", address=address, count=1, second=True, **rhea.to("open"))
    assert receiver.line() == "ready"
    sender = rhea.program("send", address=address, bodies=["a"], second=True, **rhea.to("open"))
    assert sender.output() == ["a accepted unsettled"]
    assert receiver.output() == ["message a unsettled", "sender settled"]


@pytest.mark.parametrize("listener", ["open", "tls", "ws", "wss"])
@pytest.mark.parametrize("size", [0, 100_000, 10_000_000])
def test_a_message_of_any_size_passes_unchanged(rhea: Rhea, address: str, listener: str, size: int) -> None:
    assert rhea.program("large", address=address, size=size, **rhea.to(listener)).output() == [f"{size} the same"]


def test_a_message_in_the_smallest_frames(rhea: Rhea, address: str) -> None:
    program = rhea.program("large", address=address, size=100_000, max_frame_size=512, **rhea.to("open"))
    assert program.output() == ["100000 the same"]


def test_an_idle_connection_is_kept_alive(rhea: Rhea, address: str) -> None:
    """rhea hangs up after twice its time-out without a frame; it is silent for five times as long."""
    program = rhea.program("idle", address=address, idle_time_out=300, silence=1500, **rhea.to("open"))
    assert program.output() == ["Hello after the silence"]


def test_many_sessions_on_one_connection(rhea: Rhea, address: str) -> None:
    assert rhea.program("sessions", address=address, sessions=50, **rhea.to("open")).output() == ["50 of 50"]


def test_request_and_response_over_a_dynamic_address(rhea: Rhea, address: str) -> None:
    responder = rhea.program("respond", **rhea.to("open"), address=address, count=3)
    assert responder.line() == "ready"
    bodies = ["one", "two", "three"]
    assert rhea.program("request", **rhea.to("open"), address=address, bodies=bodies).output() == [
        "ONE",
        "TWO",
        "THREE",
    ]
    assert responder.output() == []


def test_drain_takes_unused_credit_back(rhea: Rhea, address: str) -> None:
    receiver = rhea.program("drain", **rhea.to("open"), address=address, count=2)
    assert receiver.lines(2) == ["ready", "drained, credit 0"]
    sender = rhea.program("send", **rhea.to("open"), address=address, bodies=["a", "b"])
    lines = receiver.output()
    assert [line for line in lines if not line.startswith("drained")] == ["a", "b"]
    assert sender.output() == ["a accepted settled", "b accepted settled"]


def test_rhea_over_websocket_and_proton_over_tcp_talk_to_one_another(rhea: Rhea, proton: Proton, address: str) -> None:
    rhea_receiver = rhea.program("receive", address=f"{address}/1", count=2, **rhea.to("wss"))
    proton_sender = proton.program("send", address=f"{address}/1", bodies=["a", "b"], **proton.to("open"))
    assert proton_sender.output() == ["a accepted settled", "b accepted settled"]
    assert rhea_receiver.output() == ["ready", "message a unsettled", "message b unsettled"]
    proton_receiver = proton.program("receive", address=f"{address}/2", count=2, **proton.to("open"))
    rhea_sender = rhea.program("send", address=f"{address}/2", bodies=["a", "b"], **rhea.to("ws"))
    assert rhea_sender.output() == ["a accepted settled", "b accepted settled"]
    assert proton_receiver.output() == ["ready", "message a unsettled", "message b unsettled"]
