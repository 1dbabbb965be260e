"""Deliveries that the process sends by itself, and that nobody waits for: they need no origin."""

from __future__ import annotations

from collections import deque

import pytest

from tests.routing.network import Network, Receiver
from van.amqp.delivery import Delivery, Holder
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified
from van.amqp.message import AmqpValue, Message, Properties
from van.routing.address import Address
from van.routing.forwarder import forward_unavailable


def deliver(network: Network, address: str, *, settled: bool = False, more: bool = False) -> Delivery:
    body = b"x"
    holder = Holder()
    delivery = Delivery(None, 0, b"", b"" if more else body, settled, holder)
    if more:
        delivery.chunks = deque((body,))
        delivery.more = True
    holder.held = len(body)
    target = network.router.address(address)
    target.forward(target, delivery)
    network.run()
    return delivery


@pytest.mark.parametrize("distribution", ["closest", "balanced", "multicast"])
@pytest.mark.parametrize("settled", [False, True])
class TestWithoutOrigin:
    def receiver(self, network: Network) -> Receiver:
        return network.client().receiver("q", credit=5, auto=False)

    def test_arrives(self, distribution: str, settled: bool) -> None:
        network = Network(addresses={"q": distribution})
        receiver = self.receiver(network)
        deliver(network, "q", settled=settled)
        deliver(network, "q", settled=settled)
        if not settled:
            receiver.deliveries[0].settle(RELEASED)
            receiver.deliveries[1].update(Modified())
            network.run()
            receiver.deliveries[1].settle(None)
        network.run()
        assert receiver.bodies == [b"x", b"x"]
        network.assert_quiet()

    def test_nobody_is_there(self, distribution: str, settled: bool) -> None:
        network = Network(addresses={"q": distribution})
        delivery = deliver(network, "q", settled=settled)
        assert delivery.holder.held == 0

    def test_the_receiver_leaves(self, distribution: str, settled: bool) -> None:
        network = Network(addresses={"q": distribution})
        client = network.client()
        client.receiver("q")
        delivery = deliver(network, "q", settled=settled)
        client.cut()
        network.run()
        assert delivery.holder.held == 0

    def test_a_stream_loses_its_receiver(self, distribution: str, settled: bool) -> None:
        network = Network(addresses={"q": distribution})
        receiver = self.receiver(network)
        delivery = deliver(network, "q", settled=settled, more=True)
        assert len(receiver.deliveries) == 1
        receiver.client.cut()
        network.run()
        assert delivery.target is None
        assert delivery.holder.held == 0


def test_to_the_anonymous_terminus() -> None:
    network = Network()
    anonymous: Address = network.router._anonymous
    receiver = network.client().receiver("q", credit=5)
    for to in ("q", "nobody", None):
        body = Message(properties=Properties(to=to), body=AmqpValue("x")).encode()
        delivery = Delivery(None, 0, b"", body, False, Holder())
        anonymous.forward(anonymous, delivery)
    network.run()
    # Without an origin nobody could be told: it is not looked at.
    assert not receiver.deliveries


def test_unavailable_takes_nothing() -> None:
    network = Network()
    delivery = Delivery(None, 0, b"", b"x", False, Holder())
    delivery.holder.held = 1
    forward_unavailable(network.router.address("q"), delivery)
    assert delivery.holder.held == 0


def test_settled_twice_is_settled_once() -> None:
    network = Network()
    receiver = network.client().receiver("q", credit=5, auto=False)
    sent = network.client().sender("q").send(b"x")
    network.run()
    receiver.deliveries[0].settle(ACCEPTED)
    network.run()
    receiver.link.session.unsettled_in[receiver.deliveries[0].delivery.delivery_id] = receiver.deliveries[0].delivery
    receiver.deliveries[0].settle(RELEASED)
    network.run()
    assert sent.states == [ACCEPTED]
    network.assert_quiet()
