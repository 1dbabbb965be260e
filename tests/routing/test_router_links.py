"""Links between two routers: what a neighbour seldom sends on them, and what happens at their limits."""

from __future__ import annotations

from collections import deque

import pytest

from tests.adaptors.routers import RouterNode, Routers
from tests.routing.network import Network, Sent
from tests.routing.test_across_routers import line, message
from van.adaptors.amqp import ConnectionSettings
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED
from van.amqp.terminus import Target
from van.amqp.types import Symbol
from van.routing import neighbor as neighbors
from van.routing.address import AddressConfig, Distribution
from van.routing.dialect.annotations import encode_annotations
from van.routing.neighbor import ControlSender, Neighbor

RESEND: list[str] = [Symbol("qd.resend-released")]


def neighbor_of(node: RouterNode, name: str) -> Neighbor:
    neighbor = node.router.neighbor_of(name)
    assert neighbor is not None
    return neighbor


def control_of(node: RouterNode, name: str) -> ControlSender:
    control = neighbor_of(node, name).control_out
    assert control is not None
    return control


def say(network: Routers, control: ControlSender, payload: bytes, *, settled: bool = True) -> Delivery:
    """Send octets on a control link as they are."""
    delivery = Delivery(None, 0, b"", payload, settled, control.router.own_octets)
    control.undelivered.append(delivery)
    control.link.ready()
    control.router.wake_touched()
    network.run()
    return delivery


class TestTheControlLink:
    def routers(self) -> tuple[Routers, RouterNode, RouterNode]:
        network, (a, b) = line("A", "B")
        return network, a, b

    def credit(self, node: RouterNode, name: str) -> int:
        """What the neighbour may send, and what is owed to it."""
        receiver = neighbor_of(node, name).control_in
        assert receiver is not None
        return receiver.link.link_credit + receiver.owed

    def test_its_credit_is_the_same_after_every_kind_of_message(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network, a, b = self.routers()
        assert self.credit(b, "A") == 250
        # One of several frames.
        clients = [a.client() for _ in range(3)]
        for number in range(1500):
            clients[number % 3].receiver(f"an/address/with/a/long/name/{number}", run=False)
        network.advance(2.0)
        assert len(b.router.engine.nodes["A"].addresses) == 1500  # type: ignore[union-attr]
        assert self.credit(b, "A") == 250
        # Garbage, and one that is too large.
        say(network, control_of(a, "B"), b"garbage")
        say(network, control_of(a, "B"), b"garbage", settled=False)
        monkeypatch.setattr(neighbors, "MAX_CONTROL_MESSAGE", 30_000)
        say(network, control_of(a, "B"), b"x" * 100_000)
        say(network, control_of(a, "B"), b"x" * 70_000, settled=False)
        assert len(b.lines("control message dropped, it is too large")) == 2
        assert len(b.lines("control message dropped")) == 2
        assert self.credit(b, "A") == 250
        assert all(session.held == 0 for session in b.router.budget.sessions)
        network.advance(5.0)
        assert b.router.engine.nodes["A"].reachable  # type: ignore[union-attr]

    def test_one_that_is_given_up_in_the_middle_leaves_nothing(self) -> None:
        network, a, b = self.routers()
        control = control_of(a, "B")
        delivery = Delivery(None, 0, b"", b"", True, a.router.own_octets)
        delivery.chunks = deque((b"x" * 50_000,))
        delivery.holder.held += 50_000
        delivery.more = True
        control.undelivered.append(delivery)
        control.link.ready()
        a.router.wake_touched()
        network.run()
        assert any(session.held for session in b.router.budget.sessions)
        control.link.abort_current()
        a.router.wake_touched()
        network.advance(2.0)
        assert all(session.held == 0 for session in b.router.budget.sessions)
        assert self.credit(b, "A") == 250
        assert b.router.engine.nodes["A"].reachable  # type: ignore[union-attr]

    def test_data_on_it_is_routed_and_settled(self) -> None:
        network, a, b = self.routers()
        receiver = b.client().receiver("q", credit=10, auto=False)
        section = encode_annotations(0, "q", "0/A", ("0/A",))
        delivery = say(network, control_of(a, "B"), section + b"unsettled", settled=False)
        receiver.deliveries[0].update(ACCEPTED)
        network.run()
        session = control_of(a, "B").link.session
        assert list(session.unsettled_out.values()) == [delivery]
        receiver.deliveries[0].settle(ACCEPTED)
        network.run()
        assert not session.unsettled_out
        say(network, control_of(a, "B"), section + b"settled")
        assert receiver.bodies == [b"unsettled", b"settled"]

    def test_credit_that_is_given_back_is_given_again(self) -> None:
        network, a, b = self.routers()
        receiver = neighbor_of(b, "A").control_in
        assert receiver is not None
        receiver.link.request_drain()
        b.router.wake_touched()
        network.run()
        assert self.credit(b, "A") == 250
        network.advance(5.0)
        assert a.router.engine.nodes["B"].reachable  # type: ignore[union-attr]

    def test_what_nobody_takes_does_not_pile_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network, a, _ = self.routers()
        monkeypatch.setattr(neighbors, "MAX_CONTROL_BACKLOG", 5)
        control = control_of(a, "B")
        held = a.router.own_octets.held
        control.link.link_credit = 0
        client = a.client()
        for number in range(12):
            client.receiver(f"q{number}")
            network.now += 0.3
            a.router.handle_deadline(network.now)
        assert len(control.undelivered) <= 5
        assert a.lines("control messages dropped, the neighbour takes none")
        assert a.router.own_octets.held - held == sum(len(waiting.payload) for waiting in control.undelivered)


class TestDataLinks:
    def test_a_state_without_settlement_goes_back_over_all_hops(self) -> None:
        network, (a, _, c) = line("A", "B", "C")
        receiver = c.client().receiver("q", credit=10, auto=False)
        network.advance(1.0)
        sent = a.client().sender("q").send(b"x")
        network.run()
        receiver.deliveries[0].update(ACCEPTED)
        network.run()
        assert sent.states == [ACCEPTED]
        assert sent.unsettled
        receiver.deliveries[0].settle(ACCEPTED)
        network.run()
        assert sent.settled

    def test_a_router_that_ends_asks_its_neighbours_for_their_credit(self) -> None:
        network, (a, b) = line("A", "B")
        network.between(a, b).accepting.hold_back()
        network.run()
        assert all(link.link.link_credit == 0 for link in neighbor_of(b, "A").by_priority)

    @pytest.mark.parametrize("size", [10, 60_000])
    def test_the_priority_of_an_address_beats_that_of_the_message(self, size: int) -> None:
        network, (a, b) = line("A", "B")
        for node in (a, b):
            node.router.patterns.add(AddressConfig("urgent/#", Distribution.BALANCED, priority=8))
        receiver = b.client().receiver("urgent", credit=100)
        network.advance(1.0)
        before = [link.link.delivery_count for link in neighbor_of(a, "B").by_priority]
        a.client().sender("urgent").send(message("x" * size, priority=2))
        network.run()
        after = [link.link.delivery_count for link in neighbor_of(a, "B").by_priority]
        assert [now - then for then, now in zip(before, after, strict=True)] == [0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
        assert len(receiver.bodies) == 1

    def test_a_large_delivery_that_was_not_sent_takes_another_way(self) -> None:
        network, (a, b) = line("A", "B")
        c = network.router("C")
        network.connect(c, a)
        network.advance(2.0)
        b.client().receiver("q", credit=100)
        network.advance(1.0)
        sender = a.client().sender("q")
        for link in neighbor_of(a, "B").by_priority:
            link.link.link_credit = 0
        sent = sender.send(b"y" * 40_000)
        network.run()
        at_c = c.client().receiver("q", credit=100)
        network.advance(1.0)
        network.between(a, b).cut()
        network.advance(0.2)
        assert at_c.bodies == [b"y" * 40_000]
        assert sent.state == ACCEPTED
        assert all(session.held == 0 for session in a.router.budget.sessions)

    def test_presettled_deliveries_of_a_foreign_neighbour_do_not_pile_up_on_the_way(self) -> None:
        network, (a, b, c) = line("A", "B", "C")
        receiver = c.client().receiver("q", credit=2000)
        network.advance(5.0)
        neighbor_of(a, "B").van = neighbor_of(b, "C").van = False
        for link in neighbor_of(b, "C").by_priority:
            link.link.link_credit = 0
        sender = a.client().sender("q")
        for number in range(1000):
            sender.send(b"%d" % number, settled=True)
            network.run()
        assert b.router.dropped_presettled > 700
        waiting = neighbor_of(b, "C").by_priority[4].undelivered
        assert len(waiting) <= 251
        # Nor is anybody else's dropped for them.
        a.client().sender(None).send(message("x", to="nobody"), settled=True)
        network.run()
        assert not receiver.bodies
        assert waiting[-1].data().endswith(b"999")


class TestStreamingLinks:
    def test_when_no_more_can_be_opened_streams_wait_for_one_another(self) -> None:
        network = Routers()
        a, b = network.router("A"), network.router("B")
        # Half of the links are for streams of ours: one.
        few = ConnectionSettings(idle_timeout=0.0, max_session_frames=2048, max_links=2)
        network.wire(a.call(cost=1, settings=few), b.accept(cost=1))
        network.advance(3.0)
        receiver = b.client().receiver("q", credit=100)
        network.advance(1.0)
        first, second = a.client().sender("q"), a.client().sender("q")
        one = first.begin(b"1" * 300_000)
        network.run()
        two = second.begin(b"2" * 300_000)
        network.run()
        assert len(neighbor_of(a, "B").stream_links) == 1
        assert len(receiver.deliveries) == 1
        one.end(b"1")
        network.run()
        two.end(b"2")
        network.run()
        assert receiver.bodies == [b"1" * 300_001, b"2" * 300_001]
        assert one.state == two.state == ACCEPTED

    def test_those_that_lie_idle_are_closed_but_for_some(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(neighbors, "MAX_IDLE_STREAMS", 2)
        network, (a, b) = line("A", "B")
        receiver = b.client().receiver("q", credit=100)
        network.advance(1.0)
        sent: list[Sent] = []
        for _ in range(6):
            sent.append(a.client().sender("q").begin(b"x" * 270_000))
            network.run()
        assert len(neighbor_of(a, "B").stream_links) == 6
        for each in sent:
            each.end(b"y")
        network.advance(70.0)
        assert len(neighbor_of(a, "B").stream_links) == 2
        assert len(receiver.bodies) == 6


class TestResentOnOneRouter:
    def test_by_its_own_receivers(self) -> None:
        network = Network()
        receivers = [network.client().receiver("q", credit=10, auto=False) for _ in range(2)]
        sender = network.client().sender(None, target=Target(address="q", capabilities=RESEND))
        sent = sender.send(b"x")
        network.run()
        (first,) = [receiver for receiver in receivers if receiver.deliveries]
        (other,) = [receiver for receiver in receivers if not receiver.deliveries]
        # Named, not settled: it is not tried elsewhere yet.
        first.deliveries[0].update(RELEASED)
        network.run()
        assert not other.deliveries
        assert not sent.states
        first.deliveries[0].settle(RELEASED)
        network.run()
        other.deliveries[0].update(ACCEPTED)
        network.run()
        assert sent.states == [ACCEPTED]
        assert sent.unsettled
        other.deliveries[0].settle(ACCEPTED)
        network.run()
        assert sent.settled

    def test_when_nobody_receives_any_more(self) -> None:
        network = Network()
        client = network.client()
        receiver = client.receiver("q", credit=10)
        sender = network.client().sender(None, target=Target(address="q", capabilities=RESEND))
        receiver.detach()
        network.run()
        sent = sender.send(b"x")
        network.run()
        assert sent.states == [RELEASED]
        assert sender.credit == 0

    def test_what_cannot_be_resent_goes_once(self) -> None:
        network = Network()
        receiver = network.client().receiver("q", credit=10)
        sender = network.client().sender(None, target=Target(address="q", capabilities=RESEND))
        sender.send(b"settled", settled=True)
        stream = sender.begin(b"x" * 300_000)
        network.run()
        stream.end(b"y")
        network.run()
        assert receiver.bodies == [b"settled", b"x" * 300_000 + b"y"]
        assert stream.state == ACCEPTED


def test_the_receiver_here_with_the_fewest_deliveries_comes_before_others_and_other_routers() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    network.connect(a, b, cost=5)
    network.advance(3.0)
    one, two = [a.client().receiver("q", credit=100, auto=False) for _ in range(2)]
    b.client().receiver("q", credit=100, auto=False)
    network.advance(1.0)
    sender = a.client().sender("q")
    for _ in range(6):
        sender.send(b"x")
        network.run()
    assert len(one.deliveries) == len(two.deliveries) == 3
    for fewer in (two, one):
        for got in fewer.deliveries[-2:]:
            got.settle(ACCEPTED)
        network.run()
        before = len(fewer.deliveries)
        sender.send(b"next")
        network.run()
        assert len(fewer.deliveries) == before + 1


def test_a_section_as_large_as_none_is_in_practice_is_read_and_not_kept() -> None:
    network, (a, b) = line("A", "B")
    receiver = b.client().receiver("q", credit=10)
    known = len(b.router.annotations)
    section = encode_annotations(0, "q", "0/A", ("0/A",), "m" * 5000)
    say(network, control_of(a, "B"), section + b"x")
    assert receiver.bodies == [b"x"]
    assert len(b.router.annotations) <= known + 1
    assert section not in b.router.annotations
