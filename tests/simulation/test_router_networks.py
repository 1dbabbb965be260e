"""Scenes of whole routers by bytes: messages go where their address is, whatever happens on the way."""

from __future__ import annotations

import pytest

from tests.simulation.traffic import Traffic
from van.amqp.delivery_state import Modified, Rejected, Released
from van.testing import RouterNetwork, full_mesh, line, ring
from van.testing.topologies import Topology


def started(topology: Topology, seconds: float = 2.0) -> RouterNetwork:
    network = RouterNetwork(1, addresses={"multicast/#": "multicast", "closest/#": "closest"})
    network.build(topology)
    network.run(seconds)
    return network


def test_a_message_crosses_the_network_and_its_outcome_comes_back() -> None:
    network = started(line(4))
    receiver = network.application("R3").receiver("orders")
    sender = network.application("R0").sender("orders")
    network.run(1)
    assert sender.credit > 0
    receiver.outcomes.extend([Rejected(), Released(), Modified(delivery_failed=True)])
    sent = [sender.send(b"%d" % number) for number in range(4)]
    settled = sender.send(b"pre-settled", presettled=True)
    assert sender.unsettled()
    network.run(1)
    assert [sending.result for sending in sent] == ["rejected", "released", "modified", "accepted"]
    assert settled.result == "sent"
    assert receiver.bodies == [b"0", b"1", b"2", b"3", b"pre-settled"]
    assert not sender.unsettled()


def test_on_a_full_mesh_every_subscriber_gets_a_multicast_message_once() -> None:
    network = started(full_mesh(5))
    receivers = [
        network.application(router).receiver("multicast/news") for router in sorted(network.hosts) for _ in range(3)
    ]
    sender = network.application("R2").sender("multicast/news")
    network.run(1)
    sent = [sender.send(b"%d" % number) for number in range(20)]
    network.run(1)
    assert {sending.result for sending in sent} == {"accepted"}
    for receiver in receivers:
        assert receiver.bodies == [b"%d" % number for number in range(20)]


def test_an_answer_finds_its_way_to_a_temporary_address() -> None:
    network = started(ring(6))
    service = network.application("R0")
    requests, replies = service.receiver("service"), service.sender(None)

    def answer(message: object) -> None:
        properties = requests.messages[-1].properties
        assert properties is not None
        replies.send(b"answer", to=str(properties.reply_to))

    requests.on_message = answer
    client = network.application("R3")
    inbox, questions = client.receiver(None), client.sender("service")
    network.run(1)
    assert inbox.address is not None
    assert inbox.address.startswith("amqp:/_topo/0/R3/")
    questions.send(b"question", reply_to=inbox.address)
    network.run(1)
    assert inbox.bodies == [b"answer"]


def test_what_was_handed_to_a_router_that_dies_is_in_doubt_and_what_waits_is_sent_later() -> None:
    network = started(line(2))
    receiver = network.application("R1").receiver("q", credit=1)
    application = network.application("R0")
    sender = application.sender("q")
    network.run(1)
    sent = [sender.send(b"%d" % number) for number in range(300)]
    settled = sender.send(b"settled", presettled=True)
    network.kill("R0")
    assert not application.connected
    assert sum(sending.result == "in doubt" for sending in sent) > 0
    network.start("R0")
    network.run(5)
    assert {sending.result for sending in sent} == {"in doubt", "accepted"}
    assert settled.result == "sent"
    assert len(receiver.bodies) >= sum(sending.result == "accepted" for sending in sent)


def test_a_message_in_a_silent_connection_has_an_outcome_when_that_is_given_up() -> None:
    network = started(ring(4))
    receiver = network.application("R2").receiver("q")
    sender = network.application("R1").sender("q")
    network.run(1)
    network.silence(network.edge("R1", "R2"))
    sent = sender.send(b"into the void")
    network.run(2)
    assert not sent.waits
    assert sender.unsettled() == [sent]
    network.run(20)
    assert sent.result in {"modified", "released"}
    sent = sender.send(b"the other way round")
    network.run(1)
    assert sent.result == "accepted"
    assert receiver.bodies == [b"the other way round"]


def test_octets_held_back_by_silence_come_when_it_ends() -> None:
    network = started(line(2))
    receiver = network.application("R1").receiver("q")
    sender = network.application("R0").sender("q")
    network.run(1)
    network.silence(network.edge("R0", "R1"))
    sent = sender.send(b"late" * 100_000)
    network.run(1)
    network.mend(network.edge("R0", "R1"))
    network.run(2)
    assert sent.result == "accepted"
    assert receiver.bodies == [b"late" * 100_000]


def test_a_receiver_that_detaches_gets_nothing_more() -> None:
    network = started(line(2))
    application = network.application("R1")
    first, second = application.receiver("q"), network.application("R0").receiver("q")
    sender = network.application("R0").sender("q")
    network.run(1)
    application.detach(first)
    network.run(1)
    sent = [sender.send(b"x") for _ in range(10)]
    network.run(1)
    assert {sending.result for sending in sent} == {"accepted"}
    assert (len(first.bodies), len(second.bodies)) == (0, 10)


def test_a_refused_link_says_why() -> None:
    network = started(line(2))
    application = network.application("R0")
    sender = application.sender("_topo/0/nowhere/x/y")
    network.run(1)
    application.detach(sender)
    network.run(1)
    assert application.senders == []


@pytest.mark.parametrize("seed", [1, 2])
def test_everything_at_once(seed: int) -> None:
    outcome = Traffic(seed, 6, seconds=5.0, faults=8).run()
    assert outcome.failures == [], outcome.command
