"""A link, session or connection lost in every phase of a delivery, on either side: released, modified, aborted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.routing.network import Client, Network, Receiver, Sender, settle_in_pieces
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified
from van.amqp.message import Data, Header, Message
from van.amqp.types import UByte
from van.router.version import build
from van.routing.budget import DELIVERY_SIZE, ORPHAN_SIZE
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import OutgoingLink

FAILED = Modified(delivery_failed=True)
HOW = ["detach", "detach for now", "end", "close", "cut"]


def lose(link: Sender | Receiver, how: str) -> None:
    client: Client = link.client
    network = client.network
    if how.startswith("detach"):
        link.detach(closed=how == "detach")
    elif how == "end":
        link.link.session.end()
    elif how == "close":
        client.connection.close()
    else:
        client.cut()
    network.run()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("size", [1, 50_000])
class TestTheReceiverIsLost:
    def test_before_it_was_sent(self, how: str, size: int) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q")
        sent = [sender.send(b"x" * size), sender.send(b"y" * size, settled=True)]
        network.run()
        lose(receiver, how)
        assert [one.states for one in sent] == [[RELEASED], []]
        assert all(one.settled for one in sent)
        network.client().receiver("q")
        network.assert_quiet()

    def test_before_it_was_settled(self, how: str, size: int) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5, auto=False)
        sent = [sender.send(b"x" * size), sender.send(b"y" * size, settled=True)]
        network.run()
        assert len(receiver.deliveries) == 2
        lose(receiver, how)
        assert [one.states for one in sent] == [[FAILED], []]
        network.client().receiver("q")
        network.assert_quiet()

    def test_after_it_named_the_outcome(self, how: str, size: int) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5, auto=False)
        sent = sender.send(b"x" * size)
        network.run()
        receiver.deliveries[0].update(ACCEPTED)
        network.run()
        assert not sent.settled
        lose(receiver, how)
        assert sent.state == ACCEPTED
        assert sent.settled

    def test_others_take_over(self, how: str, size: int) -> None:
        network = Network()
        sender = network.client().sender("q")
        lost = network.client().receiver("q", credit=100)
        stays = network.client().receiver("q", credit=100)
        for _ in range(10):
            sender.send(b"x" * size)
        network.run()
        lose(lost, how)
        sent = [sender.send(b"x" * size) for _ in range(10)]
        network.run()
        assert all(one.state == ACCEPTED for one in sent)
        assert len(stays.deliveries) == 15
        network.assert_quiet()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("settled", [False, True])
class TestTheReceiverIsLostInTheMiddle:
    def test_of_a_stream_that_came_no_further(self, how: str, settled: bool) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5)
        sent = sender.begin(b"x" * 300_000, settled=settled)
        network.run()
        assert len(receiver.deliveries) == 1
        lose(receiver, how)
        assert sent.states == ([] if settled else [FAILED])
        other = network.client().receiver("q", credit=5)
        sent.more(b"y" * 300_000)
        network.run()
        sent.end(b"z")
        network.run()
        assert sent.settled
        assert not other.deliveries
        sender.send(b"next")
        network.run()
        assert other.bodies == [b"next"]
        network.assert_quiet()

    def test_of_a_delivery_that_is_here_whole(self, how: str, settled: bool) -> None:
        network = Network()
        sender = network.client().sender("q")
        client = network.client()
        receiver = client.receiver("q", credit=5)
        client.reading = False
        sent = sender.send(b"x" * 500_000, settled=settled)
        network.run()
        assert client.unread > 0
        assert network.held() > 0
        lose(receiver, how)
        client.reading = True
        network.run()
        assert sent.states == ([] if settled else [FAILED])
        assert sent.settled
        assert network.held() == 0
        network.client().receiver("q")
        network.assert_quiet()


@pytest.mark.parametrize("how", HOW)
class TestTheSenderIsLost:
    def test_what_came_whole_goes_on(self, how: str) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q")
        for number in range(3):
            sender.send(b"%d" % number, settled=number == 1)
        network.run()
        lose(sender, how)
        receiver.credit(10)
        network.run()
        assert receiver.bodies == [b"0", b"1", b"2"]
        network.assert_quiet()

    @pytest.mark.parametrize("options", settle_in_pieces())
    @pytest.mark.parametrize("settled", [False, True])
    def test_half_a_stream_is_aborted(self, how: str, settled: bool, options: dict[str, int]) -> None:
        network = Network(**options)  # type: ignore[arg-type]
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=2)
        sender.begin(b"x" * 300_000, settled=settled)
        network.run()
        assert not receiver.deliveries[0].complete
        lose(sender, how)
        assert receiver.deliveries[0].aborted
        network.client().sender("q").send(b"next")
        network.run()
        assert receiver.bodies == [b"next"]
        network.assert_quiet()

    def test_half_a_stream_that_waits_is_forgotten(self, how: str) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q")
        sender.begin(b"x" * 300_000)
        network.run()
        lose(sender, how)
        receiver.credit(5)
        network.run()
        assert not receiver.deliveries
        network.assert_quiet()

    def test_half_a_message_is_forgotten(self, how: str) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5)
        sender.begin(b"x" * 30_000)
        network.run()
        assert network.held() == 30_000
        lose(sender, how)
        assert not receiver.deliveries
        network.assert_quiet()

    def test_a_multicast_stream_is_aborted_everywhere(self, how: str) -> None:
        network = Network(addresses={"q": "multicast"})
        sender = network.client().sender("q")
        receivers = [network.client().receiver("q", credit=2) for _ in range(3)]
        sender.begin(b"x" * 300_000)
        network.run()
        lose(sender, how)
        assert all(receiver.deliveries[0].aborted for receiver in receivers)
        network.assert_quiet()

    def test_the_receiver_settles_too_late(self, how: str) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5, auto=False)
        sender.send(b"x")
        network.run()
        lose(sender, how)
        receiver.deliveries[0].settle(ACCEPTED)
        network.run()
        network.assert_quiet()


def test_both_ends_on_one_connection_that_is_cut() -> None:
    network = Network()
    client = network.client()
    sender = client.sender("q")
    client.receiver("q", credit=2, auto=False)
    for _ in range(10):
        sender.send(b"x" * 1000)
    sender.begin(b"y" * 300_000)
    network.run()
    client.cut()
    network.assert_empty()


def test_what_a_lost_sender_left_behind_counts_until_it_has_gone() -> None:
    network = Network()
    client = network.client()
    receiver = network.client().receiver("q")
    client.sender("q").send(b"x" * 5000)
    network.run()
    client.cut()
    assert network.held() == 5000 + ORPHAN_SIZE + DELIVERY_SIZE
    receiver.credit(1)
    network.run()
    network.router.budget.recount()
    assert network.held() == 0
    assert len(network.router.budget.sessions) == 1


def test_a_link_stolen_by_name() -> None:
    network = Network()
    client = network.client()
    receiver = network.client().receiver("q", credit=100, auto=False)
    first = client.sender("q", name="one")
    first.begin(b"x" * 300_000)
    network.run()
    client.connection.unregister_link(first.link)  # the client has forgotten it
    second = client.sender("q", name="one", session=client.new_session())
    second.send(b"y")
    network.run()
    assert first.error is not None
    assert receiver.deliveries[0].aborted
    assert receiver.deliveries[1].body == b"y"


def owner_of(client: Client) -> Any:
    """Who owns a client's only link in the router."""
    [owner] = client.adaptor.links.values()
    return owner


def broken(*_: object) -> None:
    raise RuntimeError("a fault of ours")


@pytest.mark.skipif(build() == "compiled", reason="compiled classes cannot be given a fault")
def test_a_fault_with_the_outcomes_of_one_sender_leaves_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    clients = [network.client() for _ in range(3)]
    senders = [client.sender("q") for client in clients]
    receiver = network.client().receiver("q", credit=100, auto=False)
    sent = []
    for number in range(9):
        sent.append(senders[number // 3].send(b"x"))
        network.run()
    monkeypatch.setattr(type(owner_of(clients[1])), "accepted", accepted_but_not_by(owner_of(clients[1])))
    for got in receiver.deliveries:
        got.settle(ACCEPTED)
    with pytest.raises(RuntimeError):
        network.run()
    lose(receiver, "cut")
    assert [one.states for one in sent] == [[ACCEPTED]] * 3 + [[]] * 3 + [[ACCEPTED]] * 3


def accepted_but_not_by(owner: IncomingLink) -> Callable[[IncomingLink, list[Delivery]], None]:
    """`IncomingLink.accepted`, with a fault for one link."""
    real = IncomingLink.accepted

    def accepted(link: IncomingLink, deliveries: list[Delivery]) -> None:
        if link is owner:
            broken()
        real(link, deliveries)

    return accepted


@pytest.mark.skipif(build() == "compiled", reason="compiled classes cannot be given a fault")
def test_a_fault_in_the_middle_of_a_batch_leaves_the_receiver_what_came_before(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network()
    client = network.client()
    sender = client.sender("q")
    at = network.client()
    receiver = at.receiver("q", credit=100)
    monkeypatch.setattr(OutgoingLink, "_enqueue_rare", broken)
    priority = Message(header=Header(priority=UByte(7)), body=Data(b"")).encode()
    for number in range(20):
        sender.send(priority if number == 10 else b"good")
    with pytest.raises(RuntimeError):
        network.run()
    lose(sender, "cut")
    assert receiver.bodies == [b"good"] * 10
    assert owner_of(at).outstanding <= 1
