"""When everybody has gone nothing is left, and no delivery leaves a cycle for the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.routing.network import Client, Network
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED
from van.routing.forwarder import Collector


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def count(*kinds: type) -> int:
    return sum(type(thing) in kinds for thing in gc.get_objects())


def everything(network: Network) -> list[Client]:
    """Every kind of delivery, in every state of completion."""
    clients = [network.client() for _ in range(6)]
    first, second, third, fourth, fifth, sixth = clients
    receivers = [first.receiver("q", credit=50), second.receiver("q", credit=50, auto=False)]
    receivers += [third.receiver("m", credit=50, auto=False), fourth.receiver("m", credit=50, second=True)]
    receivers.append(fourth.receiver("m", credit=20, snd_settle_mode=1))
    third.receiver(None, dynamic=True)
    senders = [fifth.sender("q"), fifth.sender("m")]
    senders += [sixth.sender("q", second=True), sixth.sender("m"), sixth.sender(None)]
    sixth.sender(None, dynamic=True)
    fifth.sender("nobody")
    for sender in senders:
        for size in (10, 10_000, 100_000, 300_000):
            for settled in (False, True):
                sender.send(b"x" * size, settled=settled)
    network.run()
    for receiver in receivers:
        for got in receiver.deliveries[::3]:
            if not got.settled:
                got.settle(ACCEPTED if len(got.body) % 20 else RELEASED)
    streams = [sender.begin(b"x" * 300_000) for sender in senders[:4]]
    network.run()
    streams[0].abort()
    streams[1].end()
    network.run()
    return clients


@pytest.mark.parametrize("how", ["detach", "end", "close", "cut"])
def test_nothing_is_left(how: str) -> None:
    network = Network(addresses={"m": "multicast"})
    clients = everything(network)
    for client in clients:
        if how == "detach":
            for link in list(client.session.links.values()):
                link.detach()
        elif how == "end":
            client.session.end()
        elif how == "close":
            client.connection.close()
        network.run()
        if how in ("detach", "end"):
            assert not client.adaptor.links
            assert not client.adaptor.connection._links
        if how == "end":
            assert not client.adaptor.connection.sessions
        client.cut()
    network.router.budget.recount()
    network.assert_empty()
    assert not network.router.budget.copied
    assert not network.router._touched
    assert all(not client.adaptor.links for client in clients)


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("distribution", ["balanced", "multicast"])
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("size", [10, 100_000, 400_000])
def test_no_delivery_is_left(distribution: str, second: bool, size: int) -> None:
    network = Network(addresses={"q": distribution})
    sender = network.client().sender("q", second=second)
    receivers = [network.client().receiver("q", credit=20, second=second) for _ in range(2)]
    receivers.append(network.client().receiver("q", credit=20, snd_settle_mode=1))
    sent = []
    for round_ in range(3):
        sent += [sender.send(b"x" * size, settled=round_ == 1) for _ in range(10)]
        if round_ == 2:
            sent.append(sender.begin(b"x" * 400_000))
            network.run()
            sent[-1].abort()
        network.run()
    network.assert_quiet()
    # The bench's own: what it remembers, and its own cycles.
    for receiver in receivers:
        receiver.deliveries.clear()
        receiver.by_delivery.clear()
    for one in sent:
        one.delivery.origin = None
    del one, sent
    assert count(Delivery, Collector) == 0


@pytest.mark.usefixtures("without_collector")
def test_no_delivery_is_left_when_links_are_lost() -> None:
    network = Network(addresses={"m": "multicast"})
    clients = everything(network)
    for client in clients:
        client.cut()
    clients.clear()
    network.router.budget.recount()
    network.assert_empty()
    del client
    gc.collect()  # connections and their sessions are cycles, once for each connection
    assert count(Delivery, Collector) == 0


@pytest.mark.usefixtures("without_collector")
def test_a_refused_link_leaves_nothing() -> None:
    network = Network(addresses={"closed": "unavailable"})
    client = network.client()
    for _ in range(50):
        client.sender("closed", name="same")
        client.receiver("_topo/0/other/x", name="same")
    assert not client.adaptor.links
    assert not client.adaptor.connection._links
    (session,) = client.adaptor.connection.begun_sessions()
    assert not session.links
    assert not session.remote_handles
    assert not network.router.addresses


@pytest.mark.usefixtures("without_collector")
def test_links_that_come_and_go_leave_nothing() -> None:
    network = Network()
    stuck = network.client()
    sender = network.client().sender("q")
    for _ in range(50):
        receiver = stuck.receiver("q", credit=1)
        sender.send(b"x" * 1000)
        network.run()
        receiver.detach()
        network.run()
    assert not stuck.adaptor.links
    (session,) = stuck.adaptor.connection.begun_sessions()
    assert not session.links
    assert not session.starved
    assert not stuck.adaptor.connection._ready


@pytest.mark.parametrize("number", [1, 2, 40])
def test_a_sender_that_has_gone_is_not_touched_by_outcomes(number: int) -> None:
    network = Network()
    receiver = network.client().receiver("q", credit=100, auto=False)
    gone = network.client()
    sender = gone.sender("q")
    for _ in range(number):
        sender.send(b"x")
    network.run()
    sessions = gone.adaptor.connection.begun_sessions()
    gone.cut()
    for got in receiver.deliveries:
        got.settle(ACCEPTED)
    network.run()
    assert len(receiver.deliveries) == number
    assert not any(session.marked for session in sessions)
