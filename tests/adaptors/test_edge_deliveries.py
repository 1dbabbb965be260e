"""Deliveries from and to edge routers: all distributions, all directions, no echo, no duplicates."""

from __future__ import annotations

import itertools

import pytest

from tests.adaptors.edges import Site, edge, interiors, uplink
from tests.routing.network import Receiver
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.message import AmqpValue, Message, Properties
from van.amqp.performatives import Error
from van.amqp.terminus import Source
from van.amqp.types import Symbol

PAIRS = list(itertools.permutations("EABF", 2))


def message(body: str, *, to: str | None = None, reply_to: str | None = None) -> bytes:
    return Message(properties=Properties(to=to, reply_to=reply_to), body=AmqpValue(body)).encode()


def dynamic_address(receiver: Receiver) -> str:
    remote = receiver.link.remote
    assert remote is not None
    assert isinstance(remote.source, Source)
    assert remote.source.address
    return remote.source.address


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("address", ["orders", "cl/orders", "mc/orders"])
def test_a_delivery_reaches_a_receiver_anywhere(source: str, target: str, address: str) -> None:
    site = Site()
    sender = site.clients[source].sender(address)
    assert sender.credit == 0
    receiver = site.clients[target].receiver(address, credit=10)
    site.settle()
    assert sender.credit > 0
    sent = [sender.send(message(str(number))) for number in range(3)]
    site.network.run()
    assert receiver.bodies == [message(str(number)) for number in range(3)]
    assert all(each.states == [ACCEPTED] and each.settled for each in sent)
    site.assert_quiet()


@pytest.mark.parametrize("piece", [1, 30])
def test_however_octets_arrive(piece: int) -> None:
    site = Site(piece=piece)
    receiver = site.clients["F"].receiver("orders", credit=10)
    site.settle()
    sent = site.clients["E"].sender("orders").send(message("one"))
    site.network.run()
    assert receiver.bodies == [message("one")]
    assert sent.states == [ACCEPTED]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_an_anonymous_sender_reaches_a_receiver_anywhere(source: str, target: str) -> None:
    site = Site()
    receiver = site.clients[target].receiver("orders", credit=10)
    site.settle()
    sent = site.clients[source].sender(None).send(message("one", to="orders"))
    site.network.run()
    assert receiver.bodies == [message("one", to="orders")]
    assert sent.states == [ACCEPTED]


@pytest.mark.parametrize(
    "state",
    [
        ACCEPTED,
        RELEASED,
        Rejected(error=Error(condition=Symbol("app:no"), description="not that one")),
        Modified(delivery_failed=True, undeliverable_here=True),
    ],
)
@pytest.mark.parametrize(("source", "target"), [("E", "F"), ("A", "F"), ("E", "B")])
def test_outcomes_come_back(source: str, target: str, state: object) -> None:
    site = Site()
    receiver = site.clients[target].receiver("orders", credit=10, auto=False)
    site.settle()
    sent = site.clients[source].sender("orders").send(b"one")
    site.network.run()
    assert sent.unsettled
    receiver.deliveries[0].settle(state)
    site.network.run()
    assert sent.states == [state]
    assert sent.settled


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("anonymous", [False, True])
def test_multicast_reaches_everybody_once_and_does_not_come_back(settled: bool, anonymous: bool) -> None:
    site = Site()
    for source in "EABF":
        receivers = {
            f"{name}{number}": site.clients[name].receiver("mc/news", credit=10)
            for name in "EABF"
            for number in range(2)
        }
        site.settle()
        sender = site.clients[source].sender(None if anonymous else "mc/news")
        site.settle()
        body = message("extra", to="mc/news")
        sent = sender.send(body, settled=settled)
        site.network.run()
        assert {name: receiver.bodies for name, receiver in receivers.items()} == {
            name: [body] for name in receivers
        }
        assert sent.settled
        sender.detach()
        for receiver in receivers.values():
            receiver.detach()
        site.settle()
    site.assert_quiet()


def test_balanced_takes_turns_between_here_and_elsewhere() -> None:
    site = Site()
    here = site.clients["E"].receiver("orders", credit=100, auto=False)
    there = site.clients["A"].receiver("orders", credit=100, auto=False)
    sender = site.clients["E"].sender("orders")
    site.settle()
    for number in range(20):
        sender.send(message(str(number)))
    site.network.run()
    assert len(here.deliveries) == len(there.deliveries) == 10


def test_an_interior_router_balances_over_edges_and_neighbours() -> None:
    site = Site()
    receivers = [site.clients[name].receiver("orders", credit=100, auto=False) for name in "EABF"]
    site.settle()
    sender = site.clients["A"].sender("orders")
    site.network.run()
    for number in range(40):
        sender.send(message(str(number)))
    site.network.run()
    counts = [len(receiver.deliveries) for receiver in receivers]
    assert sum(counts) == 40
    # The way to B costs one, and both B and F are behind it.
    assert counts[0] == counts[1]
    assert counts[2] + counts[3] in (counts[0], counts[0] - 1, counts[0] - 2)


def test_an_anycast_delivery_does_not_go_back_where_it_came_from() -> None:
    site = Site()
    mine = site.clients["E"].receiver("orders", credit=100, auto=False)
    sender = site.clients["E"].sender("orders")
    site.settle()
    sent = [sender.send(message(str(number))) for number in range(300)]
    site.network.run()
    assert len(mine.deliveries) == 100
    assert not any(each.states for each in sent)
    assert site.a.router.addresses["Morders"].outgoing
    # Straight over the uplink the interior router finds nobody else.
    e = site.clients["E"].sender(None).send(message("x", to="_topo/0/A/nobody"))
    site.network.run()
    assert e.states == [RELEASED]


@pytest.mark.parametrize(("asking", "serving"), PAIRS)
def test_a_reply_finds_its_way_from_anywhere(asking: str, serving: str) -> None:
    site = Site()
    requests = site.clients[serving].receiver("service", credit=10)
    replies = site.clients[asking].receiver(None, credit=10, dynamic=True)
    reply_to = dynamic_address(replies)
    space = "_edge/" + asking if asking in "EF" else "_topo/0/" + asking
    assert reply_to.startswith(f"amqp:/{space}/temp.")
    site.settle()
    request = site.clients[asking].sender("service").send(message("ask", reply_to=reply_to))
    site.network.run()
    assert request.states == [ACCEPTED]
    asked = Message.decode(requests.bodies[0])
    assert asked.properties is not None
    assert asked.properties.reply_to == reply_to
    for link in (site.clients[serving].sender(None), site.clients[serving].sender(reply_to)):
        answer = link.send(message("answer", to=reply_to))
        site.network.run()
        assert answer.states == [ACCEPTED], link.link.remote
    assert replies.bodies == [message("answer", to=reply_to)] * 2
    site.assert_quiet()


def test_what_is_addressed_to_nobody_is_released() -> None:
    site = Site()
    sender = site.clients["E"].sender(None)
    for to in ("nobody", "amqp:/_edge/Z/temp.1", "amqp:/_topo/0/Z/temp.1", "_edge/E/temp.9", "_local/x", "_edge/F/no"):
        sent = sender.send(message("x", to=to))
        site.network.run()
        assert sent.states == [RELEASED], to
        assert sent.settled


def test_nobody_receives_from_an_address_that_belongs_to_another_router() -> None:
    site = Site()
    for name, address in (("E", "_topo/0/A/x"), ("E", "_edge/F/x"), ("A", "_edge/E/x"), ("A", "_topo/0/B/x")):
        receiver = site.clients[name].receiver(address)
        assert receiver.error is not None
        assert receiver.error.condition == "amqp:not-found"


@pytest.mark.parametrize("size", [60_000, 3_000_000])
@pytest.mark.parametrize(("source", "target"), [("E", "F"), ("A", "E"), ("E", "B"), ("F", "E")])
@pytest.mark.parametrize("anonymous", [False, True])
def test_large_messages(size: int, source: str, target: str, anonymous: bool) -> None:
    site = Site()
    receiver = site.clients[target].receiver("big", credit=10)
    site.settle()
    sender = site.clients[source].sender(None if anonymous else "big")
    body = message("x" * size, to="big")
    sent = [sender.send(body) for _ in range(2)]
    site.network.run()
    assert receiver.bodies == [body, body]
    assert all(each.states == [ACCEPTED] for each in sent)
    site.assert_quiet()


def test_large_multicast_messages() -> None:
    site = Site()
    receivers = [site.clients[name].receiver("mc/big", credit=10) for name in "EABF"]
    site.settle()
    sent = site.clients["E"].sender("mc/big").send(message("x" * 2_000_000))
    site.network.run()
    assert [len(receiver.bodies) for receiver in receivers] == [1, 1, 1, 1]
    assert sent.states == [ACCEPTED]
    site.assert_quiet()


def test_a_stream_passes_while_it_is_sent() -> None:
    site = Site()
    receiver = site.clients["F"].receiver("big", credit=10)
    site.settle()
    sender = site.clients["E"].sender("big")
    stream = sender.begin(message("x" * 300_000)[:200_000])
    site.network.run()
    assert receiver.deliveries == []
    stream.more(b"y" * 200_000)
    site.network.run()
    assert receiver.deliveries[0].incomplete
    # Others are not held up by it: between routers it has a link of its own.
    behind = site.clients["F"].receiver("big", credit=10)
    small = site.clients["E"].sender("big").send(message("small"))
    site.network.run()
    assert small.states == [ACCEPTED]
    assert behind.bodies == [message("small")]
    stream.abort()
    site.network.run()
    assert receiver.deliveries[0].aborted
    site.network.run()
    site.assert_quiet()


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize(("source", "target"), [("E", "F"), ("E", "A"), ("A", "E")])
def test_no_presettled_delivery_is_lost_at_a_slow_receiver(source: str, target: str, anonymous: bool) -> None:
    site = Site()
    receiver = site.clients[target].receiver("orders", credit=0)
    site.settle()
    sender = site.clients[source].sender(None if anonymous else "orders")
    bodies = [message(str(number), to="orders") for number in range(3000)]
    for body in bodies:
        sender.send(body, settled=True)
    site.network.run()
    assert len(sender.undelivered) > 1000
    while len(receiver.bodies) < len(bodies):
        before = len(receiver.bodies)
        receiver.credit(50)
        site.network.run()
        assert len(receiver.bodies) > before
    assert receiver.bodies == bodies
    site.assert_quiet()


def test_two_edges_with_one_id_share_what_is_addressed_to_it() -> None:
    network, (a,) = interiors("A")
    ones = [edge(network, "E") for _ in range(2)]
    for each in ones:
        uplink(network, each, a)
    assert len(a.router.addresses["HE"].outgoing) == 2
