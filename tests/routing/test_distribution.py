"""Who gets a delivery: closest and balanced to one, multicast to all, unavailable to nobody."""

from __future__ import annotations

import pytest

from tests.routing.network import Network, Receiver
from van.amqp.delivery_state import ACCEPTED, RELEASED
from van.amqp.errors import ErrorCondition
from van.amqp.message import AmqpValue, Message, Properties


def counts(receivers: list[Receiver]) -> list[int]:
    return [len(receiver.deliveries) for receiver in receivers]


@pytest.mark.parametrize("distribution", ["closest", "balanced"])
def test_receivers_take_turns(distribution: str) -> None:
    network = Network(addresses={"q": distribution})
    sender = network.client().sender("q")
    receivers = [network.client().receiver("q", credit=100) for _ in range(3)]
    for number in range(30):
        sender.send(b"%d" % number)
        network.run()
    assert counts(receivers) == [10, 10, 10]
    network.assert_quiet()


def test_balanced_prefers_the_fewest_outstanding() -> None:
    network = Network()
    sender = network.client().sender("q")
    slow = network.client().receiver("q", credit=100, auto=False)
    quick = network.client().receiver("q", credit=100)
    for _ in range(50):
        sender.send(b"x")
        network.run()
    assert len(slow.deliveries) == 1
    assert len(quick.deliveries) == 49


def test_balanced_shares_out_the_turns_of_one_that_is_busy() -> None:
    network = Network()
    sender = network.client().sender("q")
    network.client().receiver("q", credit=100, auto=False)
    idle = [network.client().receiver("q", credit=100) for _ in range(3)]
    for _ in range(31):
        sender.send(b"x")
        network.run()
    assert counts(idle) == [10, 10, 10]


def test_balanced_counts_what_waits_for_credit() -> None:
    network = Network()
    sender = network.client().sender("q")
    without_credit = network.client().receiver("q")
    with_credit = network.client().receiver("q", credit=100)
    for _ in range(20):
        sender.send(b"x")
        network.run()
    assert len(with_credit.deliveries) >= 19
    without_credit.credit(10)
    network.run()
    assert len(without_credit.deliveries) + len(with_credit.deliveries) == 20
    network.assert_quiet()


def test_balanced_spreads_when_all_are_full() -> None:
    network = Network()
    senders = [network.client().sender("q") for _ in range(3)]
    receivers = [network.client().receiver("q", auto=False) for _ in range(2)]
    for sender in senders:
        for _ in range(250):
            sender.send(b"x")
    network.run()
    for receiver in receivers:
        receiver.credit(1000)
    network.run()
    assert counts(receivers) == [375, 375]


def test_closest_ignores_what_is_outstanding() -> None:
    network = Network(addresses={"q": "closest"})
    sender = network.client().sender("q")
    slow = network.client().receiver("q", credit=100, auto=False)
    quick = network.client().receiver("q", credit=100)
    for _ in range(50):
        sender.send(b"x")
        network.run()
    assert counts([slow, quick]) == [25, 25]


def test_multicast_reaches_all() -> None:
    network = Network(addresses={"news": "multicast"})
    sender = network.client().sender("news")
    receivers = [network.client().receiver("news", credit=100) for _ in range(4)]
    sent = [sender.send(b"%d" % number, settled=number % 2 == 1) for number in range(10)]
    network.run()
    for receiver in receivers:
        assert receiver.bodies == [b"%d" % number for number in range(10)]
        assert [got.settled for got in receiver.deliveries] == [number % 2 == 1 for number in range(10)]
    assert all(one.settled for one in sent)
    assert [one.state for one in sent] == [ACCEPTED, None] * 5
    network.assert_quiet()


@pytest.mark.parametrize("role", ["sender", "receiver"])
def test_unavailable_is_refused(role: str) -> None:
    network = Network(addresses={"closed.#": "unavailable"})
    client = network.client()
    link = client.sender("closed.off") if role == "sender" else client.receiver("closed.off", credit=1)
    assert link.error is not None
    assert link.error.condition == ErrorCondition.NOT_FOUND
    assert link.link.remote is not None
    assert (link.link.remote.target if role == "sender" else link.link.remote.source) is None
    assert not network.router.addresses
    assert client.closed is None


def test_unavailable_for_an_anonymous_sender_is_released() -> None:
    network = Network(addresses={"closed": "unavailable"})
    sender = network.client().sender(None)
    sent = sender.send(Message(properties=Properties(to="closed"), body=AmqpValue("x")).encode())
    network.run()
    assert sent.state == RELEASED


def test_the_default_distribution() -> None:
    network = Network(default="multicast")
    sender = network.client().sender("anything")
    receivers = [network.client().receiver("anything", credit=1) for _ in range(2)]
    sender.send(b"x")
    network.run()
    assert counts(receivers) == [1, 1]


def test_addresses_do_not_mix() -> None:
    network = Network()
    client = network.client()
    receivers = [client.receiver(f"q{number}", credit=10) for number in range(5)]
    senders = [client.sender(f"q{number}") for number in range(5)]
    for number, sender in enumerate(senders):
        sender.send(b"to %d" % number)
    network.run()
    assert [receiver.bodies for receiver in receivers] == [[b"to %d" % number] for number in range(5)]
