"""Several processes of one router, an interior one with a neighbour N: from everywhere to everywhere, as one router."""

from __future__ import annotations

import itertools

import pytest

from tests.adaptors.edges import edge, patterned, uplink
from tests.adaptors.routers import RouterNode, Routers
from tests.adaptors.test_edge_deliveries import dynamic_address, message
from tests.adaptors.workers import Whole
from tests.routing.network import Client
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.performatives import Error
from van.amqp.terminus import Target
from van.amqp.types import Symbol
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import OutgoingLink
from van.routing.router import RESEND_CAPABILITY

PLACES = ("W0", "W1", "W2", "N")
PAIRS = list(itertools.permutations(PLACES, 2))
FAILED = Modified(delivery_failed=True)


class Scene:
    """W is three processes, N its neighbour; a client at each."""

    def __init__(self, piece: int = 0) -> None:
        self.network = Routers(piece=piece)
        self.whole = Whole(self.network, count=3)
        self.neighbour = patterned(self.network.router("N"))
        self.network.connect(self.neighbour, self.whole.processes[0])
        self.network.advance(3.0)
        self.nodes: dict[str, RouterNode] = {
            **{f"W{index}": node for index, node in enumerate(self.whole.processes)}, "N": self.neighbour
        }
        self.clients: dict[str, Client] = {name: node.client(f"at-{name}") for name, node in self.nodes.items()}
        self.settle()

    def settle(self) -> None:
        """Let everybody hear of everything."""
        self.network.advance(1.5)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("address", ["orders", "cl/orders", "mc/orders"])
@pytest.mark.parametrize("settled", [False, True])
def test_a_delivery_reaches_a_receiver_anywhere(source: str, target: str, address: str, settled: bool) -> None:
    scene = Scene()
    sender = scene.clients[source].sender(address)
    assert sender.credit == 0
    receiver = scene.clients[target].receiver(address, credit=10)
    scene.settle()
    assert sender.credit > 0
    bodies = [message("one"), b"", b"x", b"\x00\x80SKPR--RA\xd0\x00\x00\x00\x01\x00", b"\x00\x80\x00"]
    sent = [sender.send(body, settled=settled) for body in bodies]
    scene.network.run()
    assert receiver.bodies == bodies
    assert all(each.settled and each.states == ([] if settled else [ACCEPTED]) for each in sent)
    scene.whole.assert_quiet()


@pytest.mark.parametrize("piece", [1, 30])
def test_however_octets_arrive(piece: int) -> None:
    scene = Scene(piece=piece)
    receiver = scene.clients["W2"].receiver("orders", credit=10)
    scene.settle()
    sent = scene.clients["W1"].sender("orders").send(message("one"))
    scene.network.run()
    assert receiver.bodies == [message("one")]
    assert sent.states == [ACCEPTED]


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("settled", [False, True])
def test_an_anonymous_sender_reaches_a_receiver_anywhere(source: str, target: str, settled: bool) -> None:
    scene = Scene()
    receiver = scene.clients[target].receiver("orders", credit=10)
    scene.settle()
    sent = scene.clients[source].sender(None).send(message("one", to="orders"), settled=settled)
    scene.network.run()
    assert receiver.bodies == [message("one", to="orders")]
    assert sent.settled


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_dynamic_address_is_the_routers(source: str, target: str) -> None:
    scene = Scene()
    receiver = scene.clients[target].receiver(None, dynamic=True, credit=10)
    address = dynamic_address(receiver)
    assert address.startswith(f"amqp:/_topo/0/{target[0]}/temp.")
    scene.settle()
    for text in (address, None):
        sent = scene.clients[source].sender(text).send(message("reply", to=address))
        scene.network.run()
        assert sent.states == [ACCEPTED]
    assert receiver.bodies == [message("reply", to=address)] * 2


def test_a_dynamic_target_is_known_everywhere() -> None:
    scene = Scene()
    sender = scene.clients["W1"].sender(None, dynamic=True)
    remote = sender.link.remote
    assert remote is not None
    assert isinstance(remote.target, Target)
    receiver = scene.clients["N"].receiver(remote.target.address, credit=1)
    scene.settle()
    sender.send(b"one")
    scene.network.run()
    assert receiver.bodies == [b"one"]


@pytest.mark.parametrize(
    "state", [RELEASED, Rejected(error=Error(condition=Symbol("app:no"), description="not that one")), FAILED]
)
@pytest.mark.parametrize(("source", "target"), [("W0", "W1"), ("W1", "W0"), ("W1", "W2"), ("W1", "N")])
def test_outcomes_come_back(source: str, target: str, state: object) -> None:
    scene = Scene()
    receiver = scene.clients[target].receiver("orders", credit=10, auto=False)
    scene.settle()
    sent = scene.clients[source].sender("orders").send(b"one")
    scene.network.run()
    assert sent.unsettled
    receiver.deliveries[0].settle(state)
    scene.network.run()
    assert sent.states == [state]
    assert sent.settled


@pytest.mark.parametrize(("source", "target"), [("W0", "W1"), ("W1", "W0"), ("W1", "W2")])
def test_who_settles_second_does(source: str, target: str) -> None:
    scene = Scene()
    receiver = scene.clients[target].receiver("orders", credit=10, second=True)
    scene.settle()
    sent = scene.clients[source].sender("orders", second=True).send(b"one")
    scene.network.run()
    assert sent.states == [ACCEPTED]
    assert receiver.deliveries[0].settled_by_sender
    scene.whole.assert_quiet()


@pytest.mark.parametrize("anonymous", [False, True])
def test_multicast_reaches_everybody_once(anonymous: bool) -> None:
    scene = Scene()
    for source in PLACES:
        receivers = [scene.clients[name].receiver("mc/news", credit=10) for name in PLACES for _ in range(2)]
        scene.settle()
        sender = scene.clients[source].sender(None if anonymous else "mc/news")
        scene.settle()
        body = message("extra", to="mc/news")
        sent = sender.send(body)
        scene.network.run()
        assert [receiver.bodies for receiver in receivers] == [[body]] * 8
        assert sent.states == [ACCEPTED]
        sender.detach()
        for receiver in receivers:
            receiver.detach()
        scene.settle()
    scene.whole.assert_quiet()


def test_closest_stays_in_the_router() -> None:
    scene = Scene()
    here = scene.clients["W1"].receiver("cl/orders", credit=100)
    far = scene.clients["N"].receiver("cl/orders", credit=100)
    scene.settle()
    senders = [scene.clients[name].sender("cl/orders") for name in ("W0", "W1", "W2")]
    scene.settle()
    for sender in senders:
        for _ in range(4):
            sender.send(b"one")
        scene.network.run()
    assert (len(here.bodies), len(far.bodies)) == (12, 0)
    here.detach()
    scene.settle()
    for sender in senders:
        sender.send(b"two")
    scene.settle()
    assert far.bodies == [b"two"] * 3


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_large_messages_are_handed_on_as_they_come(source: str, target: str, settled: bool) -> None:
    scene = Scene()
    receiver = scene.clients[target].receiver("orders", credit=10)
    scene.settle()
    sent = scene.clients[source].sender("orders").begin(bytes(300_000), settled=settled)
    scene.network.run()
    assert receiver.deliveries
    assert receiver.deliveries[0].incomplete
    sent.end(b"end")
    scene.network.run()
    assert receiver.bodies == [bytes(300_000) + b"end"]
    assert sent.settled
    scene.whole.assert_quiet()


def test_a_sender_that_wants_it_tried_again_gets_that() -> None:
    scene = Scene()
    refusing = scene.clients["W2"].receiver("orders", credit=10, auto=False)
    taking = scene.clients["N"].receiver("orders", credit=10, auto=False)
    scene.settle()
    sender = scene.clients["W1"].sender("orders", target=Target(address="orders", capabilities=[RESEND_CAPABILITY]))
    scene.settle()
    sent = sender.send(b"one")
    scene.network.run()
    (first,) = [*refusing.deliveries, *taking.deliveries]
    first.settle(RELEASED)
    scene.network.run()
    second = [got for got in (*refusing.deliveries, *taking.deliveries) if got is not first]
    assert len(second) == 1
    second[0].settle(ACCEPTED)
    scene.network.run()
    assert sent.states == [ACCEPTED]


def test_nobody_else_hears_of_workers() -> None:
    scene = Scene()
    scene.clients["W1"].receiver("orders", credit=10)
    edge_node = edge(scene.network, "E")
    uplink(scene.network, edge_node, scene.whole.processes[0])
    scene.settle()
    assert "Morders" in scene.neighbour.router.addresses
    engine = scene.neighbour.router.engine
    assert engine is not None
    assert set(engine.nodes) == {"W"}
    assert not [key for key in scene.neighbour.router.addresses if "#" in key]
    mobile = engine.nodes["W"].addresses["Morders"]
    assert mobile.mesh is None
    receiver = edge_node.client("at-E").receiver("back", credit=1)
    scene.settle()
    sent = scene.clients["W2"].sender("back").send(b"to an edge")
    scene.network.run()
    assert receiver.bodies == [b"to an edge"]
    assert sent.states == [ACCEPTED]


def test_addresses_of_others_and_of_the_router() -> None:
    scene = Scene()
    client = scene.clients["W1"]
    assert client.receiver("$management", credit=1).error is not None
    assert client.receiver("_topo/0/W/$management", credit=1).error is not None
    assert client.receiver("_topo/0/N/x", credit=1).error is not None
    assert client.sender("_topo/all/x").error is not None
    assert client.sender("x" * 3000).error is not None
    local = scene.clients["W2"].receiver("_local/x", credit=10)
    scene.settle()
    sent = client.sender("_topo/0/W/x").send(b"to the router's own")
    scene.network.run()
    assert local.bodies == [b"to the router's own"]
    assert sent.states == [ACCEPTED]
    nowhere = client.sender("_topo/0/N/nowhere").send(b"lost")
    scene.network.run()
    assert nowhere.states
    assert nowhere.states[-1] != ACCEPTED


def test_a_router_that_stands_alone_refuses_what_is_elsewhere() -> None:
    network = Routers()
    whole = Whole(network, mode="standalone")
    client = whole.processes[1].client()
    assert client.sender("_topo/0/other/x").error is not None
    assert client.sender("_edge/other/x").error is not None
    receiver = whole.processes[0].client().receiver("orders", credit=10)
    sent = client.sender("orders").send(b"one")
    network.run()
    assert receiver.bodies == [b"one"]
    assert sent.states == [ACCEPTED]


# --- ends


@pytest.mark.parametrize("ending", ["W1", "W2"])
def test_what_is_under_way_when_a_worker_ends(ending: str) -> None:
    scene = Scene()
    receiver = scene.clients["W2"].receiver("orders", credit=1, auto=False)
    other = scene.clients["W0"].receiver("other", credit=10)
    scene.settle()
    sender = scene.clients["W0"].sender("orders")
    from_there = scene.clients["W1"].sender("other")
    unsettled, waiting = sender.send(b"in doubt"), sender.send(b"waits")
    scene.network.run()
    assert len(receiver.deliveries) == 1
    sent = from_there.send(b"still there")
    scene.network.run()
    scene.whole.uplinks[int(ending[1]) - 1].cut()
    scene.settle()
    if ending == "W2":
        assert unsettled.states == [FAILED]
        assert waiting.settled
    assert other.bodies == [b"still there"]
    assert sent.states == [ACCEPTED]
    assert not [peer for peer in scene.nodes["W0"].router.edge_peers.values() if peer.number == -int(ending[1])]


def test_what_was_not_sent_to_a_worker_takes_another_way() -> None:
    scene = Scene()
    stuck = scene.clients["W1"].receiver("orders", credit=0)
    scene.settle()
    sender = scene.clients["W0"].sender("orders")
    # More than there is credit for between processes.
    sent = [sender.send(b"%d" % number) for number in range(250)]
    scene.network.run()
    taking = scene.clients["W2"].receiver("orders", credit=1000)
    scene.settle()
    scene.whole.uplinks[0].cut()
    scene.settle()
    assert not stuck.bodies
    assert all(each.settled for each in sent)
    assert all(each.states in ([ACCEPTED], [FAILED], [RELEASED]) for each in sent)
    assert len(taking.bodies) == sum(each.states == [ACCEPTED] for each in sent)


# --- what is counted


def test_links_between_processes_are_counted_at_neither_end() -> None:
    scene = Scene()
    receiver = scene.clients["W2"].receiver("orders", credit=10)
    scene.settle()
    sender = scene.clients["W1"].sender("orders")
    scene.settle()
    sender.send(b"one")
    scene.network.run()
    sender.detach()
    receiver.detach()
    scene.settle()
    past = [node.router.past for node in scene.whole.processes]
    assert [each.ingress for each in past] == [0, 1, 0]
    assert [each.egress for each in past] == [0, 0, 1]
    assert [each.transit for each in past] == [0, 0, 0]
    assert not IncomingLink.joint
    assert not OutgoingLink.joint
    assert all(peer.worker for peer in scene.nodes["W0"].router.edge_peers.values())
