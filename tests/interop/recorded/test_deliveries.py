"""Deliveries of a real skrouterd come out at our clients as they were recorded, and ours leave as its own did.

Outcomes in a recording are for the deliveries of the router in whose place we are: those that we send too get them, and
those for anything else are ignored.
"""

from __future__ import annotations

import pytest

from tests.interop.recorded.replay import Replay, Replayed, correlator, data_messages, frames, link_names, messages
from tests.routing.network import Receiver
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified

CONTROL = "cap-skr-12.0"
# The temporary address at A that answers to a TCP flow went to.
ANSWERS = "SmVzGMmtJw0FOEE"
LARGE = [100016, 60016]


def listener() -> tuple[Replayed, Replay]:
    """We are A, and B connects."""
    replayed = Replayed("A", tokens=[ANSWERS])
    return replayed, replayed.listener(f"{CONTROL}.c2s")


def connector() -> tuple[Replayed, Replay]:
    """We are B, and connect to A."""
    name = f"{CONTROL}.c2s"
    replayed = Replayed("B", tokens=link_names(name)[:22])
    return replayed, replayed.connector(f"{CONTROL}.s2c", correlator(name))


def recorded_to(recording: str, address: str) -> list[bytes]:
    """The messages to an address in a recording, as their senders encoded them."""
    text = b"\xa1" + bytes([len(address)]) + address.encode()
    return [message.body for message in data_messages(frames(recording)) if text in message.octets]


def test_what_b_sends_reaches_the_clients_of_a() -> None:
    replayed, replay = listener()
    client = replayed.client()
    edge = client.receiver("edge.q", credit=100)
    record = client.receiver("vfcr.wNAwE:0", credit=100)
    replay.to_end()
    assert edge.bodies == recorded_to(f"{CONTROL}.c2s", "edge.q")
    assert sorted(map(len, edge.bodies)) == [54, 54, *sorted(LARGE)]
    assert record.bodies == recorded_to(f"{CONTROL}.c2s", "vfcr.wNAwE:0")
    assert [got.settled for got in record.deliveries] == [True]
    accepted = [said for said in replay.dispositions() if said[4] == ACCEPTED and said[3]]
    settled = {
        delivery
        for channel, first, last, _, _ in accepted
        if channel == 5
        for delivery in range(first, (last or first) + 1)
    }
    assert settled == {0, 1, 3, 4}


def test_the_answer_of_a_tcp_flow_comes_to_its_temporary_address() -> None:
    """On a streaming link that the peer opens; it ends by a last transfer that is settled."""
    replayed, replay = listener()
    answers = replayed.client().receiver(None, dynamic=True, credit=10)
    assert answers.link.remote is not None
    replay.to_end()
    (got,) = answers.deliveries
    assert got.complete
    assert not got.aborted
    assert got.body == recorded_to(f"{CONTROL}.c2s", f"amqp:/_topo/0/A/temp.{ANSWERS}")[0]
    assert got.body.endswith(b"echo:GET hellobye")


def test_what_a_sends_reaches_the_clients_of_b() -> None:
    replayed, replay = connector()
    client = replayed.client()
    mine = client.receiver("my.q", credit=100)
    inner = client.receiver("int.q", credit=100)
    service = client.receiver("svc.echo", credit=100)
    replay.to_end()
    assert mine.bodies == recorded_to(f"{CONTROL}.s2c", "my.q")
    assert sorted(map(len, mine.bodies)) == [52, 52, *sorted(LARGE)]
    assert inner.bodies == recorded_to(f"{CONTROL}.s2c", "int.q")
    assert [len(body) for body in inner.bodies] == [53, 60016]
    assert service.bodies == recorded_to(f"{CONTROL}.s2c", "svc.echo")
    assert service.bodies[0].endswith(b"\x00Sw@GET hello")


def hello(address: str) -> bytes:
    """The small message of the recordings."""
    for recording in (f"{CONTROL}.c2s", f"{CONTROL}.s2c"):
        for body in recorded_to(recording, address):
            if body.endswith(b"hello") and len(body) < 100:
                return body
    raise AssertionError(address)


def test_what_our_client_sends_leaves_octet_for_octet_as_a_real_router_wrote_it() -> None:
    replayed, replay = listener()
    sender = replayed.client().sender("my.q")
    replay.until(71)
    replayed.advance(0.1)
    assert sender.credit == 0
    replay.until(73)
    assert sender.credit == 250
    sender.send(hello("my.q"))
    replayed.run()
    (ours,) = data_messages(replay.written)
    theirs = data_messages(frames(f"{CONTROL}.s2c"))[0]
    assert (ours.channel, ours.settled, ours.octets) == (theirs.channel, theirs.settled, theirs.octets)


@pytest.mark.parametrize("side", ["listener", "connector"])
def test_recorded_outcomes_reach_who_sent(side: str) -> None:
    """Two were sent when nobody was there to take them any more, two were accepted."""
    if side == "listener":
        replayed, replay = listener()
        address, steps = "my.q", [(73, 2), (214, 2)]
    else:
        replayed, replay = connector()
        address, steps = "edge.q", [(115, 2), (234, 3)]
    sender = replayed.client().sender(address)
    sent = []
    for frame, count in steps:
        replay.until(frame)
        # B's deliveries have numbers: one that is pre-settled stands between them.
        if count == 3:
            replayed.client().sender("vfcr.wNAwE:0").send(b"\x00Sw@", settled=True)
            replayed.run()
        sent += [sender.send(hello(address)) for _ in range(2)]
        replayed.run()
    replay.to_end()
    failed = Modified(delivery_failed=True, undeliverable_here=False)
    assert [delivery.state for delivery in sent] == [failed, RELEASED, ACCEPTED, ACCEPTED]
    assert all(delivery.settled for delivery in sent)


def test_outcomes_of_deliveries_that_we_did_not_send_are_ignored() -> None:
    for start in (listener, connector):
        replayed, replay = start()
        replay.to_end()
        assert not replay.adaptor.closed
        assert not replayed.lines("connection closed")
        # The peer's answer to a stream that we do not send: a session, a link, credit, an outcome.
        assert replay.skipped >= 4


def test_a_stream_over_a_data_connection_that_comes_before_its_control_connection() -> None:
    """A connector's data connections may arrive first. This stream ends settled: no outcome is asked for."""
    replayed = Replayed("A", tokens=["ocmd83O8iVrsqdC"])
    answers = replayed.client().receiver(None, dynamic=True, credit=10)
    data = replayed.listener("cap-x.0.c2s")
    data.to_end()
    control = replayed.listener("cap-x.2.c2s")
    control.until(60)
    assert (data.adaptor.role, control.adaptor.role) == ("inter-router-data", "inter-router")
    assert [neighbor.number for neighbor in replayed.router.neighbors.values()] == [control.adaptor.number]
    (got,) = answers.deliveries
    (stream,) = messages(frames("cap-x.0.c2s"))
    assert got.body == stream.body
    assert got.body.endswith(b"got 3000000")
    assert got.complete
    assert not got.aborted
    assert not data.dispositions()


def test_a_data_connection_has_no_neighbour_of_its_own() -> None:
    replayed = Replayed("A")
    replay = replayed.listener("cap-x.1.c2s")
    replay.to_end()
    assert replay.adaptor.role == "inter-router-data"
    assert not replayed.router.neighbors
    assert not replay.adaptor.closed


def test_nothing_is_left_when_the_peer_is_gone() -> None:
    for start in (listener, connector):
        replayed, replay = start()
        receivers: list[Receiver] = [replayed.client().receiver(name, credit=9) for name in ("edge.q", "my.q", "int.q")]
        replay.to_end()
        assert sum(len(receiver.deliveries) for receiver in receivers) in (4, 6)
        replay.adaptor.connection_lost(replayed.now)
        replayed.connections.clear()
        replayed.run()
        assert not replayed.router.neighbors
        assert replayed.router.budget.held() == 0
