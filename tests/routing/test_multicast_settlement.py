"""A multicast delivery has the strongest outcome when all copies are terminal, and is settled when all are."""

from __future__ import annotations

import itertools

import pytest

from tests.routing.network import Network, Receiver, Sender
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Received, Rejected

FAILED = Modified(delivery_failed=True)
REJECTED = Rejected()
BY_STRENGTH: list[object] = [REJECTED, ACCEPTED, FAILED, RELEASED]


def scene(count: int, **options: bool) -> tuple[Network, Sender, list[Receiver]]:
    network = Network(addresses={"news": "multicast"})
    sender = network.client().sender("news", second=options.get("sender_second", False))
    receivers = [
        network.client().receiver("news", credit=10, auto=False, second=options.get("second", False))
        for _ in range(count)
    ]
    return network, sender, receivers


@pytest.mark.parametrize("states", list(itertools.product(BY_STRENGTH, repeat=2)))
@pytest.mark.parametrize("in_two_steps", [False, True])
def test_the_strongest_outcome(states: tuple[object, object], in_two_steps: bool) -> None:
    network, sender, receivers = scene(2)
    sent = sender.send(b"x")
    network.run()
    for receiver, state in zip(receivers, states, strict=True):
        assert sent.states == []
        if in_two_steps:
            receiver.deliveries[0].update(state)
        else:
            receiver.deliveries[0].settle(state)
        network.run()
    expected = BY_STRENGTH[min(BY_STRENGTH.index(state) for state in states)]
    assert sent.states == [expected]
    assert sent.settled is not in_two_steps
    if in_two_steps:
        for receiver in receivers:
            assert sent.unsettled
            receiver.deliveries[0].settle(None)
            network.run()
    assert sent.settled
    assert sent.state == expected
    network.assert_quiet()


def test_one_settles_and_one_only_states() -> None:
    network, sender, receivers = scene(2)
    sent = sender.send(b"x")
    network.run()
    receivers[0].deliveries[0].update(REJECTED)
    receivers[1].deliveries[0].settle(ACCEPTED)
    network.run()
    assert (sent.states, sent.settled) == ([REJECTED], False)
    receivers[0].deliveries[0].settle(None)
    network.run()
    assert (sent.state, sent.settled) == (REJECTED, True)
    network.assert_quiet()


def test_received_is_not_terminal() -> None:
    network, sender, receivers = scene(2)
    sent = sender.send(b"x")
    network.run()
    receivers[0].deliveries[0].update(Received(section_number=0, section_offset=1))
    receivers[1].deliveries[0].settle(RELEASED)
    network.run()
    assert sent.states == []
    receivers[0].deliveries[0].settle(ACCEPTED)
    network.run()
    assert (sent.states, sent.settled) == ([ACCEPTED], True)


@pytest.mark.parametrize("how", ["detach", "cut"])
def test_receivers_that_leave(how: str) -> None:
    network, sender, receivers = scene(3)
    for number in range(4):
        sender.send(b"%d" % number)
    sent = sender.send(b"x")
    network.run()
    for receiver in receivers[:2]:
        if how == "cut":
            receiver.client.cut()
        else:
            receiver.detach()
        network.run()
    assert sent.states == []
    for got in receivers[2].deliveries:
        got.settle(RELEASED)
    network.run()
    assert (sent.states, sent.settled) == ([FAILED], True)
    network.assert_quiet()


@pytest.mark.parametrize("settled", [False, True])
def test_receivers_that_leave_with_copies_waiting(settled: bool) -> None:
    network = Network(addresses={"news": "multicast"})
    sender = network.client().sender("news")
    without_credit = network.client().receiver("news")
    receiver = network.client().receiver("news", credit=10)
    sent = sender.send(b"x", settled=settled)
    network.run()
    assert len(receiver.deliveries) == 1
    assert sender.credit == 249
    without_credit.client.cut()
    network.run()
    assert sent.settled
    assert sent.states == ([] if settled else [ACCEPTED])
    network.assert_quiet()


def test_all_receivers_leave() -> None:
    network, sender, receivers = scene(2)
    sent = sender.send(b"x")
    network.run()
    for receiver in receivers:
        receiver.client.cut()
    network.run()
    assert (sent.states, sent.settled) == ([FAILED], True)
    network.assert_quiet()


class TestTheSenderSettles:
    def test_what_all_have(self) -> None:
        network, sender, receivers = scene(3)
        sent = sender.send(b"x")
        network.run()
        sent.settle()
        network.run()
        assert all(receiver.deliveries[0].settled_by_sender for receiver in receivers)
        network.assert_quiet()

    def test_what_none_has(self) -> None:
        network = Network(addresses={"news": "multicast"})
        sender = network.client().sender("news")
        receivers = [network.client().receiver("news") for _ in range(3)]
        sent = sender.send(b"x")
        network.run()
        sent.settle()
        network.run()
        for receiver in receivers:
            receiver.credit(1)
        network.run()
        assert all(receiver.deliveries[0].settled for receiver in receivers)
        network.assert_quiet()

    def test_what_some_have(self) -> None:
        network = Network(addresses={"news": "multicast"})
        sender = network.client().sender("news")
        first, second, third = (network.client().receiver("news", auto=False) for _ in range(3))
        first.credit(1)
        second.credit(1)
        sent = sender.send(b"x")
        network.run()
        first.deliveries[0].settle(ACCEPTED)
        network.run()
        sent.settle()
        network.run()
        assert second.deliveries[0].settled_by_sender
        third.credit(1)
        network.run()
        assert third.deliveries[0].settled
        network.assert_quiet()

    def test_in_the_middle_of_a_stream(self) -> None:
        network, sender, receivers = scene(2)
        sent = sender.begin(b"x" * 300_000)
        network.run()
        sender.link.update(sent.delivery, None, True)
        network.run()
        receivers[0].deliveries[0].settle(ACCEPTED)
        network.run()
        sent.end(b"y")
        network.run()
        assert receivers[0].deliveries[0].aborted
        assert receivers[1].deliveries[0].settled
        assert receivers[1].deliveries[0].complete
        network.assert_quiet()


class TestExactlyOnce:
    @pytest.mark.parametrize("sender_second", [False, True])
    def test_receivers_second(self, sender_second: bool) -> None:
        network, sender, receivers = scene(3, second=True, sender_second=sender_second)
        sent = sender.send(b"x")
        network.run()
        for receiver in receivers:
            assert not sent.states
            receiver.deliveries[0].update(ACCEPTED)
            network.run()
        assert sent.state == ACCEPTED
        assert sent.settled
        assert all(receiver.deliveries[0].settled_by_sender for receiver in receivers)
        network.assert_quiet()

    def test_mixed_receivers(self) -> None:
        network = Network(addresses={"news": "multicast"})
        sender = network.client().sender("news", second=True)
        first = network.client().receiver("news", credit=1, auto=False)
        second = network.client().receiver("news", credit=1, auto=False, second=True)
        sent = sender.send(b"x")
        network.run()
        second.deliveries[0].update(RELEASED)
        first.deliveries[0].settle(ACCEPTED)
        network.run()
        assert sent.settled
        assert sent.state == ACCEPTED
        assert second.deliveries[0].settled_by_sender
        network.assert_quiet()

    @pytest.mark.parametrize("how", ["detach", "cut"])
    def test_the_sender_is_lost(self, how: str) -> None:
        network, sender, receivers = scene(2, second=True, sender_second=True)
        sender.second = False
        sender.send(b"x")
        network.run()
        receivers[0].deliveries[0].update(ACCEPTED)
        network.run()
        if how == "cut":
            sender.client.cut()
        else:
            sender.detach()
        network.run()
        assert receivers[0].deliveries[0].settled_by_sender
        receivers[1].deliveries[0].update(ACCEPTED)
        network.run()
        assert receivers[1].deliveries[0].settled_by_sender
        network.assert_quiet()


def test_copies_share_their_octets() -> None:
    network = Network(addresses={"news": "multicast"})
    sender = network.client().sender("news")
    receivers = [network.client().receiver("news", auto=False) for _ in range(5)]
    sender.send(b"x" * 10_000)
    network.run()
    assert network.held() == 10_000
    for receiver in receivers[1:]:
        receiver.credit(1)
    network.run()
    assert network.held() == 10_000
    receivers[0].credit(1)
    network.run()
    assert network.held() == 0
    for receiver in receivers:
        receiver.deliveries[0].settle(ACCEPTED)
    network.run()
    network.assert_quiet()
