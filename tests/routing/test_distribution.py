"""Who gets a delivery: closest and balanced to one, multicast to all, unavailable to nobody."""

from __future__ import annotations

import pytest

from tests.routing.network import Network, Receiver
from van.adaptors.amqp import ConnectionSettings
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


def share_out(together: bool, distribution: str, busy: list[int], capacities: list[int], number: int) -> list[Receiver]:
    """Receivers of which some have messages outstanding, and then a number of messages, in one batch or one by one."""
    network = Network(addresses={"q": distribution})
    sender = network.client().sender("q")
    receivers = []
    for outstanding, capacity in zip(busy, capacities, strict=True):
        client = network.client(settings=ConnectionSettings(link_capacity=capacity))
        receivers.append(client.receiver("q", credit=1000, auto=False))
        link = network.router.address("q").outgoing[-1]
        link.outstanding = outstanding
    for turn in range(number):
        sender.send(b"%d" % turn)
        if not together:
            network.run()
    network.run()
    assert sorted(int(body) for receiver in receivers for body in receiver.bodies) == list(range(number))
    for receiver in receivers:
        assert receiver.bodies == sorted(receiver.bodies, key=int)
    return receivers


@pytest.mark.parametrize("distribution", ["balanced", "closest"])
@pytest.mark.parametrize("number", [2, 7, 60])
@pytest.mark.parametrize(
    ("busy", "capacities"),
    [([0], [250]), ([0, 0, 0], [250] * 3), ([0, 5, 20], [250] * 3), ([3, 0, 0, 3], [250] * 4), ([0, 0], [5, 250])],
)
def test_a_batch_is_shared_out_as_one_message_after_the_other(
    distribution: str, number: int, busy: list[int], capacities: list[int]
) -> None:
    together, singly = (share_out(way, distribution, busy, capacities, number) for way in (True, False))
    assert counts(together) == pytest.approx(counts(singly), abs=1)
    assert sorted(counts(together)) == sorted(counts(singly))


def test_a_batch_goes_on_where_the_one_before_has_ended() -> None:
    network = Network()
    sender = network.client().sender("q")
    receivers = [network.client().receiver("q", credit=100) for _ in range(3)]
    for _ in range(20):
        for number in range(4):
            sender.send(b"%d" % number)
        network.run()
    assert max(counts(receivers)) - min(counts(receivers)) <= 1


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
