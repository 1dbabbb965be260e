"""Deliveries over several routers: who gets them, what their senders hear, and what is held meanwhile."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from tests.adaptors.routers import RouterNode, Routers
from tests.amqp.peer import decode_frames
from tests.routing.network import Receiver, Sender, Sent
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.message import AmqpValue, Header, Message, Properties
from van.amqp.performatives import Error, Transfer
from van.amqp.terminus import Target
from van.amqp.types import Symbol, UByte
from van.routing.address import AddressConfig, Distribution
from van.routing.dialect.annotations import decode_annotations, section_end


def line(*names: str, piece: int = 0, **distributions: str) -> tuple[Routers, list[RouterNode]]:
    """Routers in a line, each of which knows its neighbours; `distributions` by prefix."""
    network = Routers(piece=piece)
    nodes = [configured(network.router(name), distributions) for name in names]
    for left, right in itertools.pairwise(nodes):
        network.connect(right, left)
    network.advance(3.0)
    return network, nodes


def configured(node: RouterNode, distributions: dict[str, str]) -> RouterNode:
    for prefix, distribution in distributions.items():
        node.router.patterns.add(AddressConfig(f"{prefix}/#", Distribution(distribution)))
    return node


def message(body: str, *, to: str | None = None, reply_to: str | None = None, priority: int | None = None) -> bytes:
    header = Header(priority=UByte(priority)) if priority is not None else None
    return Message(header=header, properties=Properties(to=to, reply_to=reply_to), body=AmqpValue(body)).encode()


@pytest.mark.parametrize("piece", [0, 3])
def test_a_sender_has_credit_as_soon_as_somebody_receives_elsewhere(piece: int) -> None:
    network, (a, _, c) = line("A", "B", "C", piece=piece)
    sender = a.client().sender("orders")
    assert sender.credit == 0
    receiver = c.client().receiver("orders", credit=10)
    network.advance(1.0)
    assert sender.credit > 0
    sent = sender.send(b"one")
    network.run()
    assert receiver.bodies == [b"one"]
    assert sent.states == [ACCEPTED]
    assert sent.settled


@pytest.mark.parametrize(
    "state",
    [
        ACCEPTED,
        RELEASED,
        Rejected(error=Error(condition=Symbol("app:no"), description="not that one")),
        Modified(delivery_failed=True, undeliverable_here=True),
    ],
)
def test_outcomes_come_back_over_any_number_of_hops(state: object) -> None:
    network, nodes = line("A", "B", "C", "D")
    receiver = nodes[-1].client().receiver("orders", credit=10, auto=False)
    network.advance(1.0)
    sent = nodes[0].client().sender("orders").send(b"one")
    network.run()
    assert sent.unsettled
    receiver.deliveries[0].settle(state)
    network.run()
    assert sent.settled
    assert sent.state == state


def test_no_octets_are_left_behind() -> None:
    network, (a, b, c) = line("A", "B", "C")
    receiver = c.client().receiver("orders", credit=1000)
    network.advance(1.0)
    sender = a.client().sender("orders")
    for number in range(500):
        sender.send(b"%d" % number)
        sender.send(b"s%d" % number, settled=True)
        network.run()
    assert len(receiver.bodies) == 1000
    for node in (a, b, c):
        assert all(session.held == 0 for session in node.router.budget.sessions)
        assert node.router.own_octets.held == 0


def test_what_nobody_receives_any_more_is_released() -> None:
    network, (a, _, c) = line("A", "B", "C")
    client = c.client()
    receiver = client.receiver("orders", credit=10)
    network.advance(1.0)
    sender = a.client().sender("orders")
    receiver.detach()
    network.run()
    sent = sender.send(b"late")
    network.run()
    assert sent.state == RELEASED
    network.advance(2.0)
    assert sender.send(b"later").unsettled


class TestPresettled:
    def test_all_arrive_settled(self) -> None:
        network, (a, _, c) = line("A", "B", "C")
        receiver = c.client().receiver("orders", credit=10_000)
        network.advance(1.0)
        sender = a.client().sender("orders")
        for number in range(2000):
            sender.send(b"%d" % number, settled=True)
        network.run()
        assert receiver.bodies == [b"%d" % number for number in range(2000)]
        assert all(got.settled for got in receiver.deliveries)

    def test_a_receiver_that_waits_holds_its_sender_back_and_nobody_else(self) -> None:
        network, (a, _, c) = line("A", "B", "C")
        stuck = c.client().receiver("stuck", credit=5, auto=False)
        fast = c.client().receiver("fast", credit=10_000)
        network.advance(1.0)
        slow_sender, fast_sender = a.client().sender("stuck"), a.client().sender("fast")
        for number in range(2000):
            slow_sender.send(b"%d" % number, settled=True)
        network.run()
        assert slow_sender.credit == 0
        assert len(slow_sender.undelivered) > 1000
        for number in range(2000):
            fast_sender.send(b"%d" % number, settled=True)
        network.run()
        assert len(fast.bodies) == 2000
        for _ in range(2000):
            stuck.credit(5)
            network.run()
        assert len(stuck.bodies) == 2000


class TestBalanced:
    def test_receivers_here_come_first_while_they_are_idle(self) -> None:
        network, (a, b) = line("A", "B")
        here, there = a.client().receiver("q", credit=100), b.client().receiver("q", credit=100)
        network.advance(1.0)
        sender = a.client().sender("q")
        for _ in range(10):
            sender.send(b"x")
            network.run()
        assert (len(here.bodies), len(there.bodies)) == (10, 0)

    def test_the_cost_of_the_way_counts_as_so_many_deliveries(self) -> None:
        network = Routers()
        a, b = network.router("A"), network.router("B")
        network.connect(a, b, cost=5)
        network.advance(3.0)
        here = a.client().receiver("q", credit=100, auto=False)
        there = b.client().receiver("q", credit=100, auto=False)
        network.advance(1.0)
        sender = a.client().sender("q")
        for _ in range(25):
            sender.send(b"x")
            network.run()
        assert len(here.deliveries) == 15
        assert len(there.deliveries) == 10

    def test_two_routers_share(self) -> None:
        network, (a, b, c) = line("B", "A", "C")
        first, second = a.client().receiver("q", credit=100), c.client().receiver("q", credit=100)
        network.advance(1.0)
        sender = b.client().sender("q")
        for number in range(40):
            sender.send(b"%d" % number)
        network.run()
        assert sorted(first.bodies + second.bodies) == sorted(b"%d" % number for number in range(40))


def test_closest_goes_where_the_way_costs_least() -> None:
    network = Routers()
    a, b, c = [configured(network.router(name), {"near": "closest"}) for name in "ABC"]
    network.connect(a, b, cost=1)
    network.connect(a, c, cost=3)
    network.advance(3.0)
    near, far = b.client().receiver("near", credit=100), c.client().receiver("near", credit=100)
    network.advance(1.0)
    sender = a.client().sender("near")
    for _ in range(10):
        sender.send(b"x")
    network.run()
    assert (len(near.bodies), len(far.bodies)) == (10, 0)
    near.detach()
    network.advance(1.0)
    for _ in range(10):
        sender.send(b"x")
    network.run()
    assert len(far.bodies) == 10


@pytest.mark.parametrize("together", [False, True])
def test_closest_stays_while_somebody_receives_here(together: bool) -> None:
    network = Routers()
    a, b = [configured(network.router(name), {"near": "closest"}) for name in "AB"]
    network.connect(a, b)
    network.advance(3.0)
    here, there = a.client().receiver("near", credit=100), b.client().receiver("near", credit=100)
    network.advance(1.0)
    senders = [a.client().sender("near"), b.client().sender("near")]
    for sender in senders:
        for number in range(20):
            sender.send(b"%d" % number)
            if not together:
                network.run()
    network.run()
    assert (here.bodies, there.bodies) == ([b"%d" % number for number in range(20)],) * 2
    here.detach()
    network.advance(1.0)
    for number in range(20):
        senders[0].send(b"%d" % number)
    network.run()
    assert there.bodies[20:] == [b"%d" % number for number in range(20)]


class TestMulticast:
    @pytest.mark.parametrize("settled", [False, True])
    def test_a_full_mesh_gives_each_subscriber_each_message_once(self, settled: bool) -> None:
        network = Routers()
        nodes = [configured(network.router(name), {"news": "multicast"}) for name in "ABCDE"]
        for index, node in enumerate(nodes):
            for other in nodes[:index]:
                network.connect(node, other)
        network.advance(3.0)
        receivers = [node.client().receiver("news", credit=1000) for node in nodes for _ in range(3)]
        network.advance(1.0)
        senders = [node.client().sender("news") for node in nodes]
        sent: list[Sent] = []
        bodies = []
        for number in range(20):
            for index, sender in enumerate(senders):
                bodies.append(b"%d-%d" % (index, number))
                sent.append(sender.send(bodies[-1], settled=settled))
        network.run()
        for receiver in receivers:
            assert Counter(receiver.bodies) == Counter(bodies)
        assert all(each.settled for each in sent)
        assert settled or all(each.states == [ACCEPTED] for each in sent)

    def test_a_ring_gives_each_subscriber_each_message_once(self) -> None:
        network = Routers()
        nodes = [configured(network.router(name), {"news": "multicast"}) for name in "ABCDEF"]
        for node, other in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
            network.connect(node, other)
        network.advance(5.0)
        receivers = [node.client().receiver("news", credit=1000) for node in nodes]
        network.advance(1.0)
        sender = nodes[0].client().sender("news")
        bodies = [b"%d" % number for number in range(50)]
        for body in bodies:
            sender.send(body)
        network.run()
        for receiver in receivers:
            assert receiver.bodies == bodies

    def test_the_strongest_outcome_comes_back(self) -> None:
        network, (a, b, c) = line("A", "B", "C", news="multicast")
        receivers = [node.client().receiver("news", credit=10, auto=False) for node in (b, c)]
        network.advance(1.0)
        sent = a.client().sender("news").send(b"x")
        network.run()
        receivers[0].deliveries[0].settle(RELEASED)
        network.run()
        assert sent.unsettled
        receivers[1].deliveries[0].settle(ACCEPTED)
        network.run()
        assert sent.settled
        assert sent.state == ACCEPTED


def test_replies_find_their_way_to_a_dynamic_address_from_anywhere() -> None:
    network, (a, _b, c) = line("A", "B", "C")
    server = c.client()
    requests = server.receiver("service", credit=10)
    network.advance(1.0)
    client = a.client()
    replies = client.receiver(None, dynamic=True, credit=10)
    assert replies.link.remote is not None
    reply_to = replies.link.remote.source.address  # type: ignore[union-attr]
    assert str(reply_to).startswith("amqp:/_topo/0/A/temp.")
    client.sender("service").send(message("question", reply_to=reply_to))
    network.run()
    assert len(requests.bodies) == 1
    by_anonymous = server.sender(None).send(message("answer", to=reply_to))
    network.run()
    by_target = server.sender(reply_to).send(message("second answer"))
    network.run()
    assert len(replies.bodies) == 2
    assert by_anonymous.state == ACCEPTED
    assert by_target.state == ACCEPTED


def test_a_router_that_is_not_there_gives_no_credit() -> None:
    network, (a, _) = line("A", "B")
    sender = a.client().sender("_topo/0/Z/anything")
    assert sender.credit == 0
    assert sender.error is None
    other = network.router("Z")
    network.connect(other, a)
    other.client().receiver("_local/anything", credit=10)
    network.advance(2.0)
    assert sender.credit > 0
    sent = sender.send(b"x")
    network.run()
    assert sent.state == ACCEPTED


class TestStreams:
    def test_a_large_message_is_cut_through_over_all_hops(self) -> None:
        network, (a, b, c) = line("A", "B", "C")
        receiver = c.client().receiver("big", credit=10)
        network.advance(1.0)
        sender = a.client().sender("big")
        sent = sender.begin(b"x" * 1000)
        for _ in range(400):
            sent.more(b"y" * 1000)
            network.run()
        got = receiver.deliveries[0]
        assert got.incomplete
        assert len(got.body) > 300_000
        for node in (a, b, c):
            assert sum(session.held for session in node.router.budget.sessions) < 65536
        sent.end(b"z")
        network.run()
        assert got.complete
        assert got.body == b"x" * 1000 + b"y" * 400_000 + b"z"
        assert sent.state == ACCEPTED

    def test_small_messages_pass_a_stream_that_has_stopped(self) -> None:
        network, (a, _, c) = line("A", "B", "C")
        receiver = c.client().receiver("q", credit=100)
        other = c.client().receiver("other", credit=100)
        network.advance(1.0)
        stopped = a.client().sender("q").begin(b"x" * 400_000)
        network.run()
        a.client().sender("other").send(b"small")
        network.run()
        assert other.bodies == [b"small"]
        stopped.end(b"y")
        network.run()
        assert receiver.bodies == [b"x" * 400_000 + b"y"]

    def test_streams_one_after_another_share_a_link(self) -> None:
        network, (a, b) = line("A", "B")
        receiver = b.client().receiver("q", credit=100)
        network.advance(1.0)
        sender = a.client().sender("q")
        for _ in range(5):
            sent = sender.begin(b"x" * 300_000)
            network.run()
            sent.end(b"y")
            network.run()
        neighbor = a.router.neighbor_of("B")
        assert neighbor is not None
        assert len(neighbor.stream_links) == 1
        assert [len(body) for body in receiver.bodies] == [300_001] * 5

    def test_a_sender_that_is_lost_aborts_its_stream_everywhere(self) -> None:
        network, (a, _, c) = line("A", "B", "C")
        receiver = c.client().receiver("q", credit=10)
        network.advance(1.0)
        client = a.client()
        client.sender("q").begin(b"x" * 400_000)
        network.run()
        client.cut()
        network.run()
        assert receiver.deliveries[0].aborted
        assert sum(session.held for session in c.router.budget.sessions) == 0


class TestAPathDies:
    def ring(self) -> tuple[Routers, list[RouterNode]]:
        network = Routers()
        nodes = [network.router(name) for name in "ABCD"]
        for node, other in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
            network.connect(node, other)
        network.advance(4.0)
        return network, nodes

    def test_what_was_sent_is_in_doubt_and_new_deliveries_go_round(self) -> None:
        network, (a, b, c, _) = self.ring()
        receiver = c.client().receiver("q", credit=100, auto=False)
        network.advance(1.0)
        sender = a.client().sender("q")
        in_doubt = sender.send(b"first")
        network.run()
        network.between(a, b).cut()
        assert isinstance(in_doubt.state, Modified)
        assert in_doubt.state.delivery_failed
        assert in_doubt.settled
        network.advance(0.2)
        second = sender.send(b"second")
        network.run()
        assert receiver.deliveries[-1].body == b"second"
        receiver.deliveries[-1].settle()
        network.run()
        assert second.state == ACCEPTED

    def test_the_far_end_hears_of_it_and_goes_round(self) -> None:
        network, (a, b, c, _d) = self.ring()
        receiver = c.client().receiver("q", credit=1000)
        network.advance(1.0)
        sender = a.client().sender("q")
        network.between(b, c).cut()
        network.advance(0.2)
        sent = [sender.send(b"%d" % number) for number in range(50)]
        network.run()
        assert len(receiver.bodies) == 50
        assert all(each.state == ACCEPTED for each in sent)

    def test_a_router_that_falls_silent_holds_nothing_back(self) -> None:
        network, (a, b, c, d) = self.ring()
        receiver = c.client().receiver("q", credit=1000)
        network.advance(1.0)
        sender = a.client().sender("q")
        # What is sent now gets as far as B, which then says no more to anybody.
        network.between(b, c).cut_off = True
        in_doubt = [sender.send(b"in doubt") for _ in range(100)]
        network.run()
        network.between(a, b).cut_off = True
        unsent = sender.send(b"unsent")
        network.advance(2.5)
        assert not any(each.settled for each in in_doubt), "it may be back any moment"
        network.advance(1.0)
        assert all(isinstance(each.state, Modified) and each.state.delivery_failed for each in in_doubt)
        # Nobody had this one. Whether the other way is known there already is a matter of milliseconds.
        assert unsent.state in (ACCEPTED, RELEASED)
        new = [sender.send(b"new") for _ in range(250)]
        network.run()
        assert all(each.state == ACCEPTED for each in new)
        # It comes back, and has given up as well, for it has heard nobody. It is used again.
        network.between(b, c).cut_off = network.between(a, b).cut_off = False
        network.advance(2.0)
        assert receiver.bodies.count(b"in doubt") == 0
        assert all(len(each.states) == 1 for each in in_doubt)
        last = [sender.send(b"last") for _ in range(300)]
        network.run()
        assert all(each.state == ACCEPTED for each in last)
        for node in (a, b, c, d):
            assert all(session.held == 0 for session in node.router.budget.sessions)

    def test_what_was_not_sent_yet_takes_another_way(self) -> None:
        network, (a, b) = line("A", "B")
        c = network.router("C")
        network.connect(c, a)
        network.advance(2.0)
        at_b, at_c = b.client().receiver("q", credit=1000), c.client().receiver("q", credit=1000)
        network.advance(1.0)
        sender = a.client().sender("q")
        neighbor = a.router.neighbor_of("B")
        assert neighbor is not None
        # No credit left towards B: what is for it waits.
        for link in neighbor.data:
            assert link is not None
            link.link.link_credit = 0
        sent = [sender.send(b"%d" % number) for number in range(20)]
        network.run()
        assert not at_b.bodies
        assert 0 < len(at_c.bodies) < 20
        network.between(a, b).cut()
        network.advance(0.2)
        assert sorted(at_c.bodies) == sorted(b"%d" % number for number in range(20))
        assert all(each.state == ACCEPTED for each in sent)

    @pytest.mark.parametrize("settled", [False, True])
    def test_a_multicast_copy_that_was_not_sent_is_not_handed_out_again(self, settled: bool) -> None:
        network = Routers()
        a, b, c = [configured(network.router(name), {"news": "multicast"}) for name in "ABC"]
        line_to_b = network.connect(b, a)
        network.connect(c, a)
        network.advance(3.0)
        receivers = [node.client().receiver("news", credit=10) for node in (a, b, c)]
        network.advance(1.0)
        sender = a.client().sender("news")
        line_to_b.cut_off = True
        sent = sender.send(b"once", settled=settled)
        network.run()
        line_to_b.cut()
        network.advance(0.2)
        assert [receiver.bodies for receiver in receivers] == [[b"once"], [], [b"once"]]
        assert sent.settled
        assert all(session.held == 0 for session in a.router.budget.sessions)


def test_control_messages_from_afar_reach_a_router_that_counts_their_hops() -> None:
    network, nodes = line(*"ABCDEF")
    a, e, f = nodes[0], nodes[-2], nodes[-1]
    neighbor = e.router.neighbor_of("F")
    assert neighbor is not None
    neighbor.van = False
    before = len(network.between(e, f).to_calling)
    a.client().receiver("q")
    network.advance(1.0)
    frames = decode_frames(network.between(e, f).to_calling[before:])
    sections = [frame.payload[: section_end(frame.payload)] for frame in frames if isinstance(frame.body, Transfer)]
    traces = {(each.ingress, each.trace) for each in map(decode_annotations, sections)}
    assert traces == {("0/A", ("0/D", "0/E")), ("0/E", ("0/E",))}
    sender = f.client().sender("q")
    assert sender.credit > 0


@pytest.mark.parametrize("prefix", ["any", "news"])
def test_a_neighbour_that_is_slow_to_learn_takes_deliveries_by_a_new_way(prefix: str) -> None:
    network, nodes = line("A", "B", "C", news="multicast")
    b, c = nodes[1:]
    neighbor = b.router.neighbor_of("C")
    assert neighbor is not None
    neighbor.van = False
    receiver = c.client().receiver(f"{prefix}.q", credit=100)
    network.advance(5.0)
    sender = nodes[0].client().sender(f"{prefix}.q")

    def ingress() -> str | None:
        before = len(network.between(b, c).to_calling)
        assert sender.send(b"x").state is None
        network.run()
        frames = decode_frames(network.between(b, c).to_calling[before:])
        (payload,) = [frame.payload for frame in frames if isinstance(frame.body, Transfer)]
        annotations = decode_annotations(payload[: section_end(payload)])
        assert annotations.trace == ("0/A", "0/B")
        return annotations.ingress

    assert ingress() == "0/A"
    # Another router joins: for two seconds C may hold deliveries against the ways of before.
    network.connect(network.router("D"), b)
    network.advance(0.3)
    assert ingress() == (None if prefix == "any" else "0/A")
    network.advance(5.0)
    assert ingress() == "0/A"
    assert receiver.bodies == [b"x"] * 3


class TestResent:
    def sender(self, node: RouterNode, address: str) -> Sender:
        return node.client().sender(None, target=Target(address=address, capabilities=[Symbol("qd.resend-released")]))

    def test_a_released_delivery_is_tried_at_the_next_best_destination(self) -> None:
        network, (_a, b, c) = line("A", "B", "C")
        picky = b.client().receiver("q", credit=10, auto=False)
        willing = c.client().receiver("q", credit=10)
        network.advance(1.0)
        sent = self.sender(b, "q").send(b"x")
        network.run()
        picky.deliveries[0].settle(RELEASED)
        network.run()
        assert willing.bodies == [b"x"]
        assert sent.states == [ACCEPTED]
        assert all(session.held == 0 for session in b.router.budget.sessions)

    def test_when_all_have_released_it_the_sender_hears_it(self) -> None:
        network, (a, b, _) = line("A", "B", "C")
        receivers = [b.client().receiver("q", credit=10, auto=False) for _ in range(2)]
        network.advance(1.0)
        sent = self.sender(a, "q").send(b"x")
        network.run()
        for _ in range(2):
            for receiver in receivers:
                for got in receiver.deliveries:
                    got.settle(RELEASED)
            network.run()
        assert sent.states == [RELEASED]
        assert [len(receiver.deliveries) for receiver in receivers] == [1, 1]

    def test_every_delivery_is_tried_not_only_the_first_with_its_annotations(self) -> None:
        network, (a, b) = line("A", "B")
        picky = b.client().receiver("q", credit=10, auto=False)
        willing = b.client().receiver("q", credit=10)
        network.advance(1.0)
        sender = self.sender(a, "q")
        sent = []
        for number in range(6):
            sent.append(sender.send(b"%d" % number))
            network.run()
            for got in picky.deliveries:
                got.settle(RELEASED)
            network.run()
        assert [each.states for each in sent] == [[ACCEPTED]] * 6
        assert willing.bodies == [b"%d" % number for number in range(6)]


def test_nobody_advertises_himself_into_what_belongs_to_one_router() -> None:
    network, (a, _, c) = line("A", "B", "C")
    known = set(a.router.addresses)
    engine = c.router.engine
    assert engine is not None
    own = ["L$management", "M$management", "Lqdhello", "RA", "RB", "Tqdrouter", "Anowhere"]
    for key in own:
        engine.advertise(key, 3, 1)
    engine.advertise("Mq", 3, 1)
    network.advance(1.0)
    assert set(a.router.addresses) == known | {"Mq"}
    to_b = a.router.addresses["RB"].remote
    assert to_b is not None
    assert list(to_b.routers) == ["B"]
    for key in own:
        engine.withdraw(key)
    network.advance(1.0)
    assert list(to_b.routers) == ["B"]


def test_an_anonymous_sender_cannot_have_long_texts_remembered() -> None:
    network, (a, b) = line("A", "B")
    receiver = b.client().receiver("q", credit=10)
    network.advance(1.0)
    sender = a.client().sender(None)
    sent = sender.send(message("x", to=f"amqp://{'h' * 100_000}/q"))
    network.run()
    assert isinstance(sent.state, Rejected)
    assert sent.state.error is not None
    assert "2048 characters" in (sent.state.error.description or "")
    assert sender.send(message("y", to="amqp://h/q")).unsettled
    network.run()
    assert len(receiver.bodies) == 1


def test_priorities_have_links_of_their_own() -> None:
    network, (a, b) = line("A", "B")
    receiver: Receiver = b.client().receiver("q", credit=100)
    network.advance(1.0)
    neighbor = a.router.neighbor_of("B")
    assert neighbor is not None
    before = [link.link.delivery_count for link in neighbor.data if link is not None]
    sender = a.client().sender("q")
    for priority in (0, 4, 4, 9, 200):
        sender.send(message("x", priority=priority))
    network.run()
    after = [link.link.delivery_count for link in neighbor.data if link is not None]
    assert [now - then for then, now in zip(before, after, strict=True)] == [1, 0, 0, 0, 2, 0, 0, 0, 0, 2]
    assert len(receiver.bodies) == 5
