"""What is counted: deliveries and outcomes of links, of addresses, and of the router, also when links have ended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.management.nodes import Asker, Managed
from tests.routing.network import Client, Receiver, Sender
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.link import SND_SETTLED
from van.amqp.message import Message, Properties
from van.management import counts

OUTCOMES = {
    "acceptedCount": ACCEPTED,
    "rejectedCount": Rejected(),
    "releasedCount": RELEASED,
    "modifiedCount": Modified(delivery_failed=True),
}


def scene(**receiver: Any) -> tuple[Managed, Asker, Client, Sender, Receiver]:
    network = Managed()
    asker = network.asker()
    client = network.client()
    receiving = client.receiver("q", credit=10, auto=False, **receiver)
    return network, asker, client, client.sender("q"), receiving


def links(asker: Asker) -> dict[str, dict[str, Any]]:
    """The links of the address `q` by their direction."""
    return {row["linkDir"]: row for row in asker.query("router.link").rows if row["owningAddr"] == "Mq"}


@pytest.mark.parametrize(("count", "state"), OUTCOMES.items())
def test_outcomes_of_both_links(count: str, state: object) -> None:
    network, asker, _, sender, receiver = scene()
    sender.send(b"waits")
    sender.send(b"has it")
    network.run()
    receiver.deliveries[1].settle(state)
    network.run()
    for row in links(asker).values():
        assert row["deliveryCount"] == 2
        assert {name: row[name] for name in OUTCOMES} == {name: int(name == count) for name in OUTCOMES}
        assert (row["unsettledCount"], row["presettledCount"]) == (1, 0)


def test_outcomes_of_senders_that_settle_second() -> None:
    network = Managed()
    asker = network.asker()
    client = network.client()
    receiver = client.receiver("q", credit=10, auto=False, second=True)
    client.sender("q", second=True).send(b"x")
    network.run()
    receiver.deliveries[0].settle(Rejected())
    network.run()
    assert [row["rejectedCount"] for row in links(asker).values()] == [1, 1]


def test_deliveries_that_come_settled_are_no_accepted_ones() -> None:
    network, asker, _, sender, _ = scene()
    for _ in range(3):
        sender.send(b"x", settled=True)
    network.run()
    for row in links(asker).values():
        assert (row["deliveryCount"], row["presettledCount"], row["acceptedCount"]) == (3, 3, 0)


def test_deliveries_to_a_receiver_that_takes_settled_ones_are_accepted_for_their_sender() -> None:
    network, asker, _, sender, _ = scene(snd_settle_mode=SND_SETTLED)
    sender.send(b"x")
    network.run()
    rows = links(asker)
    assert (rows["in"]["acceptedCount"], rows["in"]["presettledCount"]) == (1, 0)
    assert (rows["out"]["acceptedCount"], rows["out"]["presettledCount"]) == (0, 1)


def test_what_waits_and_what_has_no_credit() -> None:
    network, asker, _, sender, receiver = scene()
    for _ in range(13):
        sender.send(b"x")
    network.run()
    rows = links(asker)
    assert (rows["out"]["undeliveredCount"], rows["out"]["unsettledCount"]) == (3, 10)
    assert rows["out"]["creditAvailable"] == 0
    assert (rows["in"]["undeliveredCount"], rows["in"]["unsettledCount"], rows["in"]["capacity"]) == (0, 13, 250)
    (metrics,) = asker.query("routerMetrics").rows
    assert metrics["linksBlocked"] == 1
    assert asker.query("router.address").row(key="Mq")["trackedDeliveries"] == 13
    receiver.credit(3)
    network.run()
    assert asker.query("routerMetrics").rows[0]["linksBlocked"] == 0


def test_credit_that_was_given_up_is_no_delivery() -> None:
    network, asker, _, sender, receiver = scene()
    sender.send(b"x")
    network.run()
    receiver.drain()
    network.run()
    assert links(asker)["out"]["deliveryCount"] == 1


def test_counts_of_the_router_and_of_an_address_go_on_when_links_end() -> None:
    network, asker, client, sender, receiver = scene()
    other = network.client()
    holder = other.sender("q")
    for state in OUTCOMES.values():
        sender.send(b"x")
        network.run()
        receiver.deliveries[-1].settle(state)
    sender.send(b"settled", settled=True)
    network.run()

    def counts() -> tuple[dict[str, int], dict[str, int]]:
        metrics = asker.query("routerMetrics").rows[0]
        address = asker.query("router.address").row(key="Mq")
        outcomes = ("rejectedDeliveries", "releasedDeliveries", "modifiedDeliveries", "presettledDeliveries")
        return {name: metrics[name] for name in outcomes}, {
            name: address[name] for name in ("deliveriesIngress", "deliveriesEgress")
        }

    expected = (
        {"rejectedDeliveries": 1, "releasedDeliveries": 1, "modifiedDeliveries": 1, "presettledDeliveries": 1},
        {"deliveriesIngress": 5, "deliveriesEgress": 5},
    )
    assert counts() == expected
    asked = len(asker.answers())
    assert asker.query("routerMetrics").rows[0]["acceptedDeliveries"] == 1 + asked
    sender.detach()
    receiver.detach()
    network.run()
    assert counts() == expected
    client.cut()
    assert counts() == expected
    holder.detach()
    network.run()
    assert network.router.addresses.get("Mq") is None
    asked = len(asker.answers())
    metrics = asker.query("routerMetrics").rows[0]
    assert metrics["acceptedDeliveries"] == 1 + asked
    assert metrics["deliveriesIngress"] == 5 + asked + 1


def test_what_had_no_outcome_when_its_link_ended_was_not_accepted() -> None:
    network, asker, client, sender, receiver = scene()
    for _ in range(4):
        sender.send(b"x")
    network.run()
    receiver.deliveries[0].settle(ACCEPTED)
    network.run()
    before = asker.query("routerMetrics").rows[0]
    client.cut()
    after = asker.query("routerMetrics").rows[0]
    assert after["acceptedDeliveries"] == before["acceptedDeliveries"] + 1
    assert after["deliveriesIngress"] == before["deliveriesIngress"] + 1


def test_deliveries_of_anonymous_senders_count_for_the_router() -> None:
    network, asker, client, _, receiver = scene()
    sender = client.sender(None)
    sender.send(Message(properties=Properties(to="q")).encode())
    network.run()
    assert len(receiver.deliveries) == 1
    row = next(row for row in asker.query("router.link").rows if row["owningAddr"] is None)
    assert (row["linkDir"], row["deliveryCount"]) == ("in", 1)


def test_links_of_many_connections_are_counted_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "COUNTED_AT_ONCE", 2)
    network = Managed(slices=True)
    asker = network.asker()
    for number in range(9):
        network.client().receiver(f"q/{number}")
    asker.send(asker.request(operation="QUERY", entityType="routerMetrics"))
    assert network.work() == 3
    row = asker.answers()[0].rows[0]
    assert (row["linkCount"], row["connectionCount"]) == (11, 10)
