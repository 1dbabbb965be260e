"""Addresses that live in a broker, from everywhere in a network: routers, edges, and processes of one router."""

from __future__ import annotations

import itertools

import pytest

from tests.adaptors.brokers import Broker, Slow, auto_link, connect
from tests.adaptors.edges import Site
from tests.adaptors.routers import RouterNode, Routers
from tests.adaptors.test_edge_deliveries import message
from tests.adaptors.workers import Whole
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.performatives import Error
from van.routing.address import AddressConfig, Distribution

PLACES = list(itertools.product("EABF", "EABF", "EABF"))
FAILED = Modified(delivery_failed=True)


def waypoints(nodes: list[RouterNode], *addresses: str) -> None:
    for node, address in itertools.product(nodes, addresses):
        node.router.patterns.add(AddressConfig(address, Distribution.BALANCED, waypoint=True))


def queue(node: RouterNode, address: str, kind: type[Broker] = Broker) -> Broker:
    """A broker at this router, with a queue for the address."""
    auto_link(node, "out", address)
    auto_link(node, "in", address)
    return connect(node, kind)


@pytest.mark.parametrize(("at", "source", "target"), PLACES)
def test_a_waypoint_anywhere(at: str, source: str, target: str) -> None:
    site = Site()
    waypoints(list(site.nodes.values()), "orders")
    broker = queue(site.nodes[at], "orders", Slow)
    site.settle()
    receiver = site.clients[target].receiver("orders", credit=10)
    sender = site.clients[source].sender("orders")
    site.settle()
    sent = [sender.send(message(str(number))) for number in range(3)]
    site.network.run()
    taken = broker.taken("orders").deliveries
    assert ([got.body for got in taken], receiver.bodies) == ([message(str(number)) for number in range(3)], [])
    assert not any(each.settled for each in sent), "the outcome is the broker's"
    reason = Rejected(error=Error(condition="test:full"))
    for got, state in zip(taken, [ACCEPTED, reason, RELEASED], strict=True):
        got.settle(state)
    site.network.run()
    assert [each.state for each in sent] == [ACCEPTED, reason, RELEASED]
    given = [broker.given("orders").send(message(str(number))) for number in range(3)]
    site.network.run()
    assert receiver.bodies == [message(str(number)) for number in range(3)]
    assert [each.state for each in given] == [ACCEPTED] * 3
    site.assert_quiet()


@pytest.mark.parametrize(("source", "target"), list(itertools.product("EABF", "EABF")))
def test_an_anonymous_sender_and_a_receiver_by_the_second_name(source: str, target: str) -> None:
    """What programs do whose router knows no waypoints."""
    site = Site()
    waypoints([site.a], "orders")
    broker = queue(site.a, "orders")
    receiver = site.clients[target].receiver("_waypoint/orders", credit=10)
    site.settle()
    sent = site.clients[source].sender(None).send(message("x", to="orders"))
    site.network.run()
    assert (broker.taken("orders").bodies, sent.state) == ([message("x", to="orders")], ACCEPTED)
    broker.given("orders").send(message("x"))
    site.network.run()
    assert receiver.bodies == [message("x")]


def test_a_stream_by_way_of_a_broker() -> None:
    site = Site()
    waypoints(list(site.nodes.values()), "orders")
    broker = queue(site.b, "orders")
    receiver = site.clients["E"].receiver("orders", credit=10)
    sender = site.clients["F"].sender("orders")
    site.settle()
    large = message("x" * 1_000_000)
    sent = sender.begin(large[:400_000])
    site.network.run()
    assert broker.taken("orders").deliveries[0].incomplete, "it goes on as it comes"
    sent.end(large[400_000:])
    site.network.run()
    assert broker.taken("orders").bodies == [large]
    given = broker.given("orders").send(large)
    site.network.run()
    assert receiver.bodies == [large]
    assert (sent.state, given.state) == (ACCEPTED, ACCEPTED)
    site.assert_quiet()


@pytest.mark.parametrize(("at", "target"), list(itertools.product("EABF", "EABF")))
def test_the_last_receiver_anywhere_leaves(at: str, target: str) -> None:
    site = Site()
    waypoints(list(site.nodes.values()), "orders")
    broker = queue(site.nodes[at], "orders")
    receiver = site.clients[target].receiver("orders", credit=10)
    site.settle()
    assert broker.given("orders").credit > 0
    receiver.detach()
    site.settle()
    kept = broker.given("orders").send(message("x"))
    site.network.run()
    assert kept.delivery in broker.given("orders").undelivered
    again = site.clients["F"].receiver("orders", credit=10)
    site.settle()
    assert (again.bodies, kept.state) == ([message("x")], ACCEPTED)


def test_brokers_in_two_sites_share_an_address() -> None:
    site = Site()
    waypoints(list(site.nodes.values()), "orders")
    near, far = queue(site.a, "orders"), queue(site.b, "orders")
    sender = site.clients["A"].sender("orders")
    site.settle()
    sent = [sender.send(message(str(number))) for number in range(2)]
    site.network.run()
    assert all(each.state == ACCEPTED for each in sent)
    near.cut()
    site.settle()
    late = sender.send(message("late"))
    site.network.run()
    assert late.state == ACCEPTED
    assert far.taken("orders").bodies[-1] == message("late")


def test_the_broker_of_another_site_is_lost() -> None:
    site = Site()
    waypoints(list(site.nodes.values()), "orders")
    broker = queue(site.b, "orders", Slow)
    sender = site.clients["E"].sender("orders")
    site.settle()
    sent = sender.send(message("x"))
    site.network.run()
    broker.cut()
    site.settle()
    assert sent.state == FAILED
    late = site.clients["E"].sender("orders")
    site.settle()
    assert late.credit == 0
    queue_again = connect(site.b)
    site.settle()
    assert late.credit > 0
    late.send(message("y"))
    site.network.run()
    assert queue_again.taken("orders").bodies == [message("y")]


@pytest.mark.parametrize("mode", ["standalone", "interior"])
@pytest.mark.parametrize(("source", "target"), list(itertools.product(range(3), range(3))))
def test_a_router_of_several_processes(mode: str, source: int, target: int) -> None:
    network = Routers()
    whole = Whole(network, count=3, mode=mode)
    waypoints(whole.processes, "orders")
    broker = queue(whole.processes[0], "orders")
    receiver = whole.processes[target].client().receiver("orders", credit=10)
    sender = whole.processes[source].client().sender("orders")
    network.advance(1.0)
    sent = [sender.send(message("x")), sender.send(b"x" * 500_000)]
    network.run()
    assert broker.taken("orders").bodies == [message("x"), b"x" * 500_000]
    given = broker.given("orders").send(message("y"))
    network.run()
    assert receiver.bodies == [message("y")]
    assert [each.state for each in (*sent, given)] == [ACCEPTED] * 3
    whole.assert_quiet()


@pytest.mark.parametrize("at", "EABF")
def test_auto_links_are_taken_away(at: str) -> None:
    site = Site()
    waypoints(list(site.nodes.values()), "orders")
    broker = queue(site.nodes[at], "orders", Slow)
    site.settle()
    client = site.clients["E"]
    receiver, sender = client.receiver("orders", credit=10, auto=False), client.sender("orders")
    site.settle()
    sent, given = sender.send(message("x")), broker.given("orders").send(message("y"))
    site.network.run()
    auto_links = site.nodes[at].router.auto_links
    for each in auto_links.all():
        auto_links.remove(each)
    site.network.run()
    broker.taken("orders").deliveries[0].settle()
    receiver.deliveries[0].settle()
    site.network.run()
    assert (sent.state, given.state) == (ACCEPTED, ACCEPTED)
    broker.adaptor.handle_deadline(site.network.now + 1.0)
    site.settle()
    assert broker.taken("orders").link.detach_received
    assert broker.given("orders").link.detach_received
    sender.detach()
    receiver.detach()
    site.settle()
    for node in site.nodes.values():
        assert not [key for key in node.router.addresses if "orders" in key]
    site.assert_quiet()
