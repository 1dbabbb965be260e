"""Credit: none before somebody receives, given back as deliveries settle or leave, drained when nobody is left."""

from __future__ import annotations

import pytest

from tests.routing.network import Network, settle_in_pieces
from van.adaptors.amqp import ConnectionSettings
from van.amqp.delivery_state import ACCEPTED, RELEASED


def test_none_before_somebody_receives() -> None:
    network = Network()
    senders = [network.client().sender("q") for _ in range(3)]
    assert [sender.credit for sender in senders] == [0, 0, 0]
    network.client().receiver("q")
    assert [sender.credit for sender in senders] == [250, 250, 250]


def test_at_once_where_somebody_receives() -> None:
    network = Network()
    network.client().receiver("q")
    assert network.client().sender("q").credit == 250


def test_as_much_as_the_listener_says() -> None:
    network = Network()
    network.client().receiver("q")
    client = network.client(settings=ConnectionSettings(link_capacity=7))
    assert client.sender("q").credit == 7
    assert client.sender(None).credit == 7


@pytest.mark.parametrize("capacity", [1, 2, 7, 250])
@pytest.mark.parametrize("settled", [False, True])
def test_given_back(capacity: int, settled: bool) -> None:
    network = Network()
    sender = network.client(settings=ConnectionSettings(link_capacity=capacity)).sender("q")
    receiver = network.client().receiver("q", credit=3)
    for number in range(1000):
        sender.send(b"%d" % number, settled=settled)
    network.run()
    assert receiver.bodies == [b"%d" % number for number in range(1000)]
    network.assert_quiet()


def test_not_given_back_before_settlement() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=1000, auto=False)
    for _ in range(400):
        sender.send(b"x")
    network.run()
    assert len(receiver.deliveries) == 250
    assert sender.credit == 0
    for settled, returned in ((61, 0), (62, 62), (100, 62), (250, 250)):
        for got in receiver.deliveries[:settled]:
            got.settle(ACCEPTED)
        network.run()
        # It goes back in quarters of the capacity, or all at once where more is settled together.
        assert len(receiver.deliveries) == min(250 + returned, 400)


@pytest.mark.parametrize("options", settle_in_pieces())
def test_presettled_at_full_speed_loses_nothing(options: dict[str, int]) -> None:
    network = Network(**options)  # type: ignore[arg-type]
    senders = [network.client().sender("q") for _ in range(3)]
    receivers = [network.client().receiver("q", credit=5) for _ in range(2)]
    for sender in senders:
        for number in range(2000):
            sender.send(b"%d" % number, settled=True)
    network.run()
    assert sum(len(receiver.deliveries) for receiver in receivers) == 6000
    network.assert_quiet()


def test_presettled_waits_where_the_receiver_waits() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=10, auto=False)
    for _ in range(1000):
        sender.send(b"x", settled=True)
    network.run()
    assert len(receiver.deliveries) == 10
    assert len(sender.undelivered) >= 1000 - 10 - 250
    receiver.credit(990)
    network.run()
    assert len(receiver.deliveries) == 1000


class TestDrain:
    """2.6.7 both ways."""

    def test_a_receiver_drains_what_there_is(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q")
        for _ in range(3):
            sender.send(b"x")
        network.run()
        receiver.credit(10)
        receiver.drain()
        network.run()
        assert len(receiver.deliveries) == 3
        assert receiver.link.link_credit - len(receiver.deliveries) <= 0
        network.assert_quiet()

    def test_a_receiver_drains_nothing(self) -> None:
        network = Network()
        network.client().sender("q")
        receiver = network.client().receiver("q", credit=10)
        receiver.drain()
        network.run()
        assert receiver.link.link_credit == 0
        assert not receiver.link.drain
        receiver.credit(1)
        network.run()
        assert receiver.link.link_credit == 1

    @pytest.mark.parametrize("settled", [False, True])
    def test_the_last_receiver_leaves(self, settled: bool) -> None:
        network = Network()
        sender = network.client().sender("q")
        other = network.client().sender("q")
        receiver = network.client().receiver("q", credit=10)
        receiver.detach()
        network.run()
        # As the C routers do it: nothing happens before the next delivery.
        assert sender.credit == 250
        sent = sender.send(b"x", settled=settled)
        network.run()
        assert sent.state == (None if settled else RELEASED)
        assert sender.credit == other.credit == 0
        for _ in range(5):
            sender.send(b"waits", settled=settled)
        network.run()
        back = network.client().receiver("q", credit=10)
        assert back.bodies == [b"waits"] * 5
        network.assert_quiet()
        assert other.credit == 250

    def test_drained_in_the_middle_of_many(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=10, auto=False)
        sent = [sender.send(b"%d" % number) for number in range(400)]
        network.run()
        receiver.detach()
        network.run()
        states = [one.state for one in sent]
        assert states.count(None) == 400 - states.count(RELEASED) - 10
        back = network.client().receiver("q", credit=1000)
        network.run()
        assert len(back.deliveries) == states.count(None)
        network.assert_quiet()

    def test_a_receiver_returns_before_the_drain_is_answered(self) -> None:
        network = Network()
        client = network.client()
        sender = client.sender("q")
        receiver = network.client().receiver("q", credit=10)
        receiver.detach()
        network.run()
        sender.send(b"x")
        client.reading = False
        network.run()
        back = network.client().receiver("q", credit=10)
        client.reading = True
        network.run()
        assert sender.credit == 250
        sender.send(b"y")
        network.run()
        assert back.bodies == [b"y"]
        network.assert_quiet()


def test_a_sender_may_leave_with_credit() -> None:
    network = Network()
    client = network.client()
    receiver = network.client().receiver("q", credit=1)
    for number in range(5):
        sender = client.sender("q", name="same")
        sender.send(b"%d" % number)
        network.run()
        sender.detach()
        network.run()
    assert len(receiver.deliveries) == 5


def test_credit_of_a_released_delivery_comes_back() -> None:
    network = Network()
    sender = network.client().sender("q")
    for _ in range(600):
        client = network.client()
        receiver = client.receiver("q", credit=1, auto=False)
        sent = sender.send(b"x")
        network.run()
        assert len(receiver.deliveries) == 1
        client.cut()
        network.run()
        assert sent.settled
    network.client().receiver("q")
    network.assert_quiet()


def test_a_sender_that_only_tells_how_much_it_has() -> None:
    network = Network()
    sender = network.client().sender("q")
    network.client().receiver("q")
    sender.link.announce()
    network.run()
    assert sender.credit == 250


def test_anonymous_senders_keep_their_credit() -> None:
    network = Network()
    client = network.client()
    sender = client.sender(None)
    targeted = client.sender("q")
    network.client().receiver("q").detach()
    network.run()
    targeted.send(b"x")
    network.run()
    assert (sender.credit, targeted.credit) == (250, 0)


def test_a_second_receiver_changes_nothing() -> None:
    network = Network()
    sender = network.client().sender("q")
    for _ in range(3):
        network.client().receiver("q")
    assert sender.credit == 250


def test_more_for_a_sender_that_only_credit_holds_back() -> None:
    network = Network()
    sender = network.client(settings=ConnectionSettings(link_capacity=8, link_capacity_limit=40)).sender("q")
    receiver = network.client().receiver("q", credit=1000)
    assert sender.credit == 8
    for _ in range(400):
        sender.send(b"x")
    network.run()
    assert len(receiver.bodies) == 400
    assert sender.credit > 30
    (incoming,) = network.router.addresses["Mq"].incoming
    assert incoming.capacity == 40
    network.assert_quiet()


def test_no_more_where_it_is_not_used() -> None:
    network = Network()
    sender = network.client(settings=ConnectionSettings(link_capacity=8, link_capacity_limit=40)).sender("q")
    network.client().receiver("q", credit=1000)
    for _ in range(100):
        sender.send(b"x")
        network.run()
    (incoming,) = network.router.addresses["Mq"].incoming
    assert incoming.capacity == 8
    network.assert_quiet()


def test_no_more_while_a_receiver_is_slow_and_less_when_it_becomes_so() -> None:
    network = Network()
    sender = network.client(settings=ConnectionSettings(link_capacity=8, link_capacity_limit=40)).sender("q")
    receiver = network.client().receiver("q", credit=1000, auto=False)
    (incoming,) = network.router.addresses["Mq"].incoming
    for _ in range(1000):
        sender.send(b"x")
    network.run()

    settled = 0

    def settle_all_later(seconds: float) -> None:
        nonlocal settled
        network.advance(seconds)
        for got in receiver.deliveries[settled:]:
            got.settle(ACCEPTED)
            settled += 1
        network.run()

    for _ in range(5):
        settle_all_later(0.5)
    assert incoming.capacity == 8
    for _ in range(5):
        settle_all_later(0.001)
    assert incoming.capacity == 40
    for _ in range(10):
        settle_all_later(3.0)
    assert incoming.capacity == 8
    assert sender.credit + len(receiver.deliveries) - settled <= 8


class TestStreams:
    """Who sends large messages gets credit by their size, and by their number again when they are small."""

    def test_a_sender_of_streams_has_credit_for_some_octets_of_them(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=1000)
        for _ in range(300):
            sender.send(bytes(1024 * 1024))
            network.run()
            receiver.deliveries.clear()
        assert 10 <= sender.credit <= 16
        network.assert_quiet()

    def test_never_less_than_some_messages(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=1000)
        for _ in range(300):
            sender.send(bytes(3 * 1024 * 1024))
            network.run()
            receiver.deliveries.clear()
        assert 5 <= sender.credit <= 8
        network.assert_quiet()

    @pytest.mark.parametrize("settled", [False, True])
    def test_small_messages_bring_it_back(self, settled: bool) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=1000)
        for _ in range(250):
            sender.send(bytes(1024 * 1024), settled=settled)
            network.run()
            receiver.deliveries.clear()
        few = sender.credit
        for _ in range(30):
            sender.send(b"x", settled=settled)
            network.run()
        assert few < 60
        assert sender.credit > 180
        network.assert_quiet()

    def test_one_among_many_small_ones_changes_nothing(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        network.client().receiver("q", credit=1000)
        for _ in range(10):
            for _ in range(100):
                sender.send(b"x")
            sender.send(bytes(1024 * 1024))
            network.run()
        assert sender.credit > 180
        network.assert_quiet()

    def test_a_link_of_little_credit_keeps_it(self) -> None:
        network = Network()
        sender = network.client(settings=ConnectionSettings(idle_timeout=0.0, link_capacity=3)).sender("q")
        receiver = network.client().receiver("q", credit=1000)
        for _ in range(20):
            sender.send(bytes(1024 * 1024))
            network.run()
            receiver.deliveries.clear()
        assert sender.credit == 3
        network.assert_quiet()
