"""Who connected opens eleven sessions and twenty-two links; what each is for, the other side tells by their order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.adaptors.routers import (
    Line,
    RouterPeer,
    Routers,
    attach,
    bodies,
    detached,
    feed,
    neighbor_of,
    recorded,
    split_frames,
)
from tests.amqp.peer import begin, condition, decode_frames, flow
from van.adaptors.amqp import AmqpAdaptor
from van.adaptors.inter_router import InterRouterAdaptor
from van.amqp.delivery_state import ACCEPTED, RELEASED
from van.amqp.performatives import Attach, Begin, Detach, Flow, Open, Transfer
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import AnonymousClient, SaslClient, SaslServer, anonymous
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Coordinator, Source, Target
from van.routing.link_state.messages import ControlMessage
from van.routing.neighbor import ControlReceiver, ControlSender
from van.routing.router_link import RouterIncomingLink, RouterOutgoingLink


def assert_complete(adaptor: InterRouterAdaptor) -> None:
    """There is a neighbour with its control links and ten pairs of data links, all of which are used."""
    neighbor = neighbor_of(adaptor)
    assert neighbor.up
    owners = list(adaptor.links.values())
    assert [type(owner) for owner in owners].count(RouterIncomingLink) == 10
    assert neighbor.by_priority == [owner for owner in owners if isinstance(owner, RouterOutgoingLink)]
    assert [link.link.priority for link in neighbor.by_priority] == list(range(10))
    assert sum(isinstance(owner, ControlReceiver | ControlSender) for owner in owners) == 2


@pytest.mark.parametrize("piece", [0, 1, 300])
def test_who_connects_opens_everything(piece: int) -> None:
    network = Routers(piece=piece)
    a, b = network.router("A"), network.router("B")
    line = network.connect(b, a)
    assert_complete(line.accepting)
    assert_complete(line.calling)
    said = decode_frames(line.to_accepting)
    assert [type(frame.body) for frame in said[1:35]] == [Open] + [Begin] * 11 + [Attach] * 22
    answered = decode_frames(line.to_calling)
    assert not [frame for frame in answered if isinstance(frame.body, Begin) and frame.body.remote_channel is None]
    for adaptor, other in ((line.calling, line.accepting), (line.accepting, line.calling)):
        assert {link.name for link in adaptor.links} == {link.name for link in other.links}
        assert all(link.link_credit > 0 for link in adaptor.links if isinstance(link, SenderLink))
    for link in line.calling.links:
        assert link.name.startswith("qdlink.")
        assert len(link.name) == len("qdlink.") + 15


def test_the_credit_of_the_listener_counts_for_its_links() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    line = network.connect(b, a)
    credit = {link.link_credit for link in line.accepting.links if isinstance(link, ReceiverLink)}
    assert {250} <= credit <= set(range(240, 251))


def test_what_we_say_is_what_the_recorded_connector_says() -> None:
    frames = recorded("cap-x.2.c2s.bin")
    attaches = [frame.body for frame in bodies(frames, Attach)]
    names = iter([attach.name.removeprefix("qdlink.") for attach in attaches])
    node = Routers().router("B")
    node.router.tokens = lambda: next(names)
    adaptor = InterRouterAdaptor(
        node.router, node.accept().settings, number=5, cost=3, correlator="cgJaitS5XjiMtKv", accepting=False
    )
    said = decode_frames(b"".join(adaptor.data_to_send(65536)))
    (theirs,) = [frame.body for frame in bodies(frames, Open)]
    ours = said[1].body
    assert ours.container_id == theirs.container_id
    assert set(theirs.offered_capabilities) - set(ours.offered_capabilities) == {"qd.connection_trunking"}
    assert ours.offered_capabilities == ours.desired_capabilities
    assert ours.properties | {"product": "", "version": ""} == theirs.properties | {"product": "", "version": ""}
    assert {key: type(value) for key, value in ours.properties.items()} == {
        key: type(value) for key, value in theirs.properties.items()
    }
    begins = [frame.channel for frame in said if isinstance(frame.body, Begin)]
    assert begins == [frame.channel for frame in bodies(frames, Begin)][:11]
    attached = [frame for frame in said if isinstance(frame.body, Attach)]
    assert [frame.channel for frame in attached] == [frame.channel for frame in bodies(frames, Attach)]
    for mine, theirs in zip((frame.body for frame in attached), attaches, strict=True):
        theirs.max_message_size = None  # 0 says the same
        if theirs.role:
            theirs.initial_delivery_count = None  # it means nothing there
        assert mine == theirs


@pytest.mark.parametrize("octets", [False, True])
def test_the_recorded_connector_becomes_a_neighbour(octets: bool) -> None:
    frames = recorded("cap-x.2.c2s.bin")
    node = Routers().router("A")
    adaptor = node.accept(sasl=SaslServer([anonymous()]))
    said = feed(adaptor, frames, octets)
    assert_complete(adaptor)
    assert adaptor.peer is not None
    assert (adaptor.cost, adaptor.peer.correlator, adaptor.peer.data) == (3, "cgJaitS5XjiMtKv", False)
    assert neighbor_of(adaptor).cost == 3
    assert not [frame for frame in said if isinstance(frame.body, Detach)]
    theirs = [frame.body for frame in bodies(recorded("cap-x.2.s2c.bin"), Attach)]
    ours = [frame.body for frame in said if isinstance(frame.body, Attach)]
    for mine, its in zip(ours, theirs, strict=True):
        its.max_message_size = None
        if its.role:
            its.initial_delivery_count = None
        assert mine == its
    granted = [frame.body.link_credit for frame in said if isinstance(frame.body, Flow) and frame.body.handle == 1]
    assert granted[:11] == [250] * 11
    assert node.lines("connection opened")[0]["product"] == "skupper-router 0.0.0"


@pytest.mark.parametrize("octets", [False, True])
def test_the_recorded_listener_becomes_a_neighbour(octets: bool) -> None:
    attaches = [frame.body for frame in bodies(recorded("cap-x.2.c2s.bin"), Attach)]
    names = iter([attach.name.removeprefix("qdlink.") for attach in attaches])
    node = Routers().router("B")
    node.router.tokens = lambda: next(names)
    sasl = SaslClient([AnonymousClient()])
    adaptor = InterRouterAdaptor(
        node.router, node.accept().settings, number=5, correlator="cgJaitS5XjiMtKv", accepting=False, sasl=sasl
    )
    said = feed(adaptor, recorded("cap-x.2.s2c.bin"), octets)
    assert_complete(adaptor)
    assert neighbor_of(adaptor).router_id == "A"
    assert len([frame for frame in said if isinstance(frame.body, Flow)]) >= 11
    assert all(link.link_credit > 200 for link in adaptor.links if isinstance(link, SenderLink))
    assert not adaptor.closed


def test_frames_are_as_large_as_the_peer_takes_them_though_links_were_attached_before_its_open() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    line = network.connect(b, a)
    before = len(line.to_accepting)
    control = neighbor_of(line.calling).control_out
    assert control is not None
    control.send(ControlMessage("amqp:/_local/qdhello", "0/B", ("0/B",), bytes(9000)))
    network.run()
    (transfer,) = [frame for frame in decode_frames(line.to_accepting[before:]) if isinstance(frame.body, Transfer)]
    assert len(transfer.payload) > 9000


# --- what acceptors have to take


def test_all_links_may_be_in_one_session() -> None:
    peer = RouterPeer(Routers().router("A"))
    peer.send(begin())
    assert detached(peer.pair(0, "qd.router")) == []
    for number in range(1, 11):
        assert detached(peer.pair(2 * number)) == []
    peer.send(flow(handle=0, delivery_count=0, link_credit=250))
    assert_complete(peer.adaptor)


@pytest.mark.parametrize(("pairs", "used"), [(0, []), (1, [0] * 10), (3, [0, 1, 2, 2, 2, 2, 2, 2, 2, 2])])
def test_fewer_pairs_share_the_priorities(pairs: int, used: list[int]) -> None:
    peer = RouterPeer(Routers().router("A"))
    peer.send(begin())
    peer.pair(0, "qd.router")
    for number in range(pairs):
        peer.pair(2 + 2 * number)
    peer.send(flow(handle=0, delivery_count=0, link_credit=250))
    neighbor = neighbor_of(peer.adaptor)
    assert neighbor.up
    assert [link.link.priority for link in neighbor.by_priority] == used


def test_control_links_may_come_last() -> None:
    peer = RouterPeer(Routers().router("A"))
    peer.send(begin())
    for number in range(10):
        assert detached(peer.pair(2 * number)) == []
    assert not neighbor_of(peer.adaptor).up
    assert detached(peer.pair(20, "qd.router")) == []
    peer.send(flow(handle=20, delivery_count=0, link_credit=250))
    assert_complete(peer.adaptor)


class SlowLine(Line):
    """Holds back all sessions of the connecting side but the first, which has the control links."""

    def __init__(self, *args: Any) -> None:
        self.holding = True
        self.held: list[bytes] = []
        super().__init__(*args)

    def _move(self, source: AmqpAdaptor, target: AmqpAdaptor) -> bool:
        if source is not self.calling:
            return super()._move(source, target)
        said = b"".join(itertools.chain.from_iterable(iter(lambda: source.data_to_send(65536), [])))
        frames = [*self.held, *split_frames(said)]
        self.held = [frame for frame in frames if self.holding and frame[:4] != b"AMQP" and frame[6:8] != b"\0\0"]
        passed = b"".join(frame for frame in frames if frame not in self.held)
        if passed:
            target.receive_data(passed, self.network.now)
            target.router.wake_touched()
        return bool(passed)


def test_senders_go_on_when_data_links_come_long_after_the_control_links() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    line = SlowLine(network, b.call(), a.accept())
    network.lines.append(line)
    network.advance(1.0)
    receiver = b.client().receiver("q", credit=10)
    network.advance(1.0)
    sender = a.client().sender("q")
    early = sender.send(b"early")
    network.run()
    assert early.states == [RELEASED]
    assert sender.credit == 0
    line.holding = False
    network.run()
    late = sender.send(b"late")
    network.run()
    assert receiver.bodies == [b"late"]
    assert late.states == [ACCEPTED]


def test_links_beyond_ten_are_for_streams() -> None:
    peer = RouterPeer(Routers().router("A"))
    peer.send(begin())
    peer.pair(0, "qd.router")
    for number in range(1, 12):
        assert detached(peer.pair(2 * number)) == []
    assert len(neighbor_of(peer.adaptor).stream_links) == 1


def test_the_capability_counts_in_the_terminus_that_receives() -> None:
    peer = RouterPeer(Routers().router("A"))
    peer.send(begin())
    assert detached(peer.send(attach("a", 0, True, "qd.router", None))) == []
    assert detached(peer.send(attach("b", 1, False, None, "qd.router"))) == []
    assert detached(peer.send(attach("c", 2, True, None, "qd.router-data"))) == ["qd:connection-role"]
    assert detached(peer.send(attach("d", 3, False, "qd.router-data", None))) == ["qd:connection-role"]
    assert detached(peer.send(attach("e", 4, True, "qd.router-data", None))) == []


def test_capabilities_may_be_an_array() -> None:
    peer = RouterPeer(Routers().router("A"))
    peer.send(begin())
    several = attach("a", 0, False, None, None)
    several.target.capabilities = ["other", "qd.router-data"]  # type: ignore[union-attr]
    assert detached(peer.send(several)) == []


def test_more_control_links_are_refused() -> None:
    peer = RouterPeer(Routers().router("A"))
    peer.send(begin())
    peer.pair(0, "qd.router")
    assert detached(peer.pair(2, "qd.router")) == ["amqp:not-allowed"] * 2
    assert peer.adaptor.neighbor is not None


@pytest.mark.parametrize("control_first", [False, True])
def test_links_of_applications_are_refused(control_first: bool) -> None:
    peer = RouterPeer(Routers().router("A"))
    peer.send(begin())
    if control_first:
        peer.pair(0, "qd.router")
    for name, ours in (("q", Source(address="q")), ("", Source()), ("dynamic", Source(dynamic=True))):
        link = Attach(name=f"r{name}", handle=10, role=True, source=ours, target=Target())
        said = peer.send(link, Detach(handle=10, closed=True))
        assert detached(said) == ["qd:connection-role"]
        (answer,) = [frame.body for frame in said if isinstance(frame.body, Attach)]
        assert answer.source is None
    transactions = Attach(name="t", handle=10, role=False, target=Coordinator(), initial_delivery_count=0)
    assert detached(peer.send(transactions, Detach(handle=10, closed=True))) == ["qd:connection-role"]
    said = peer.send(Attach(name="s", handle=10, role=False, target=Target(address="q"), initial_delivery_count=0))
    (refusal,) = [frame.body for frame in said if isinstance(frame.body, Detach)]
    assert condition(refusal) == "qd:connection-role"
    assert "Link attach forbidden on inter-router connection" in repr(refusal)
    assert not peer.adaptor.connection.close_sent
