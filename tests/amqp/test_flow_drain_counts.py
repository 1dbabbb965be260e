"""Credit that was given up moves delivery-count on (2.6.7), and is no delivery."""

from __future__ import annotations

from tests.routing.network import Network


def test_deliveries_are_counted_without_what_was_drained() -> None:
    network = Network()
    receiver = network.client().receiver("q", credit=10)
    sender = network.client().sender("q")
    for _ in range(3):
        sender.send(b"x")
    network.run()
    receiver.drain()
    network.run()
    (incoming, outgoing) = [link for client in network.clients for link in client.adaptor.links][::-1]
    assert receiver.link.link_credit == 0
    assert outgoing.delivery_count == 13
    assert outgoing.deliveries() == receiver.link.deliveries() == 3
    assert incoming.deliveries() == sender.link.deliveries() == 3
