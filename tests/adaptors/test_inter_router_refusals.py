"""Routers that cannot be neighbours are recognised at their Open: the log says who and why, and nobody hammers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adaptors.routers import RouterPeer, Routers, bodies, detached, feed, neighbor_of, recorded, split_frames
from tests.amqp.peer import begin, condition, decode_frames, open_
from tests.amqp.strategies import values
from van import __version__
from van.adaptors.inter_router import InterRouterAdaptor
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Attach, Close, Detach
from van.amqp.sasl import AnonymousClient, SaslClient, SaslServer, anonymous
from van.amqp.types import Int
from van.routing.dialect.recognition import MAX_COST, Dialect, PeerOpen

# --- the other dialect


@pytest.mark.parametrize("octets", [False, True])
@pytest.mark.parametrize(("stream", "name"), [("cap-y.0.c2s.bin", "QB"), ("cap-qd-12.0.c2s.bin", "B")])
def test_a_router_of_the_other_dialect_connects(stream: str, name: str, octets: bool) -> None:
    node = Routers().router("A")
    adaptor = node.accept(sasl=SaslServer([anonymous()]))
    # It sends its HELLOs with credit; here it gets none.
    frames = [frame for frame in recorded(stream) if frame[8:11] != b"\x00\x53\x14"]
    said = feed(adaptor, frames, octets)
    ((level, _, fields),) = [line for line in node.logged if line[1] == "no neighbour"]
    assert level == "warning"
    assert fields["router"] == "A"
    assert fields["peer_router"] == name
    assert fields["reason"] == adaptor.refusal
    assert adaptor.refusal.startswith(
        f"router {name} speaks the dialect of qpid-dispatch-router 1.19.1-SNAPSHOT (qd.annotations-version 1); "
        f"router A (van {__version__}) speaks that of skupper-router 3.x"
    )
    # The connection stays, so that it can be seen and the peer does not come back every two seconds.
    assert detached(said) == ["amqp:not-implemented"] * 22
    assert not adaptor.connection.close_sent
    assert adaptor.neighbor is None
    assert not node.router.neighbors
    assert not adaptor.links


@pytest.mark.parametrize("stream", ["cap-qd-12.0.s2c.bin"])
@pytest.mark.parametrize("octets", [False, True])
def test_a_connector_reaches_a_router_of_the_other_dialect(stream: str, octets: bool) -> None:
    attaches = [frame.body for frame in bodies(recorded("cap-qd-12.0.c2s.bin"), Attach)]
    names = iter([attach.name.removeprefix("qdlink.") for attach in attaches])
    node = Routers().router("B")
    node.router.tokens = lambda: next(names)
    adaptor = InterRouterAdaptor(
        node.router, node.accept().settings, accepting=False, sasl=SaslClient([AnonymousClient()]), log=node.log
    )
    said = feed(adaptor, recorded(stream), octets)
    (close,) = [frame.body for frame in said if isinstance(frame.body, Close)]
    assert close.error is not None
    assert close.error.condition == "amqp:not-implemented"
    assert "router A speaks the dialect of qpid-dispatch-router" in (close.error.description or "")
    assert adaptor.refusal
    assert adaptor.refusal in adaptor.reason
    assert len(node.lines("no neighbour")) == 1
    assert adaptor.neighbor is None
    assert not adaptor.links
    adaptor.connection_lost(1.0)
    assert node.lines("connection closed")[0]["by"] == "us"


def test_who_says_only_its_product_is_known_by_that() -> None:
    peer = RouterPeer(Routers().router("A"), **{"product": "qpid-dispatch-router", "qd.annotations-version": None})
    assert "(qd.annotations-version not given)" in peer.adaptor.refusal


# --- this router itself


def test_a_router_that_connects_to_itself() -> None:
    network = Routers()
    a, other = network.router("A"), network.router("A")
    line = network.connect(other, a)
    for adaptor, node in ((line.calling, other), (line.accepting, a)):
        assert adaptor.refusal.startswith("the peer (van ")
        assert "has the id of this router, A" in adaptor.refusal
        assert len(node.lines("no neighbour")) == 1
        assert adaptor.neighbor is None
        assert not node.router.neighbors
    closes = [frame.body for frame in decode_frames(line.to_accepting) if isinstance(frame.body, Close)]
    assert [condition(close) for close in closes] == ["amqp:not-allowed"]
    assert "has the id of this router, A" in line.accepting.reason
    assert line.calling.closed
    assert line.accepting.closed


@pytest.mark.parametrize("name", ["", "a/b", "all", "x" * 256])
def test_names_that_no_router_can_have(name: str) -> None:
    node = Routers().router("A")
    adaptor = node.accept()
    adaptor.receive_data(AMQP_HEADER + encode_frame(0, open_(container_id=name).encode()), 0.0)
    assert "cannot be a router's id" in adaptor.refusal
    assert len(adaptor.refusal) < 300


# --- the wrong role


def test_a_connector_of_routers_reaches_a_listener_for_applications() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    line = network.wire(b.call(), a.normal())
    detaches = [frame.body for frame in decode_frames(line.to_calling) if isinstance(frame.body, Detach)]
    assert len(detaches) == 22
    assert {condition(each) for each in detaches} == {"qd:forbidden"}
    # The listener keeps the connection; the connector says what is wrong and comes back later.
    assert line.calling.refusal == (
        "router A (van 0.1.0) refuses links of routers, qd:forbidden Connectivity to the node is forbidden: is its "
        "listener of role inter-router?"
    ).replace("0.1.0", __version__)
    # So does the listener, once.
    (line_of_a,) = a.lines("no neighbour")
    assert line_of_a["reason"] == line.accepting.refusal
    assert line.accepting.refusal == (
        "router B opens links of role inter-router on a connection of role normal: it has to connect to a listener of "
        "role inter-router"
    )
    assert not a.lines("link refused")
    assert len(b.lines("no neighbour")) == 1
    assert not b.router.neighbors
    assert line.calling.closed


# --- whatever a peer writes into its Open


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"product": "something", "version": "9"},
        {"product": "skupper-router", "qd.annotations-version": Int(2)},
        {"product": "skupper-router", "qd.annotations-version": 2},
        {"product": 5, "qd.inter-router-cost": "much", "qd.group-correlator": 7},
        {"product": "qpid-dispatch-router", "qd.annotations-version": Int(2)},
    ],
)
def test_who_does_not_say_otherwise_speaks_our_dialect(properties: dict[str, object]) -> None:
    node = Routers().router("A")
    adaptor = node.accept()
    adaptor.receive_data(
        AMQP_HEADER + encode_frame(0, open_(container_id="B", properties=properties or None).encode()), 0.0
    )
    assert neighbor_of(adaptor).cost == 1
    assert adaptor.refusal == ""
    assert not [line for line in node.logged if line[0] == "warning"]


def test_a_newer_version_is_taken_and_told() -> None:
    node = Routers().router("A")
    peer = RouterPeer(node, **{"product": "skupper-router", "version": "4.0", "qd.annotations-version": Int(3)})
    assert neighbor_of(peer.adaptor).router_id == "B"
    (line,) = node.lines("neighbour of another version")
    assert "router B (skupper-router 4.0) has qd.annotations-version 3" in str(line["reason"])


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"), [(1, 1, 1), (3, 1, 3), (1, 7, 7), (5, 5, 5), (1, 2**40, MAX_COST), (2, -4, 2)]
)
def test_the_higher_cost_counts(ours: int, theirs: int, agreed: int) -> None:
    node = Routers().router("A")
    adaptor = node.accept(cost=ours)
    opening = open_(container_id="B", properties={"qd.inter-router-cost": theirs})
    adaptor.receive_data(AMQP_HEADER + encode_frame(0, opening.encode()), 0.0)
    assert (adaptor.cost, neighbor_of(adaptor).cost) == (agreed, agreed)


def test_costs_are_agreed_by_both() -> None:
    network = Routers()
    line = network.connect(network.router("B"), network.router("A"), cost=2, other_cost=9)
    assert (line.calling.cost, line.accepting.cost) == (9, 9)
    opens = [decode_frames(b"".join(split_frames(data)[1:2]))[0].body for data in (line.to_accepting, line.to_calling)]
    assert [each.properties["qd.inter-router-cost"] for each in opens] == [2, 9]


KEYS = st.sampled_from([
    "product", "version", "qd.conn-id", "qd.inter-router-cost", "qd.inter-router-role", "qd.group-correlator",
    "qd.annotations-version",
])  # fmt: skip


@given(st.dictionaries(KEYS, values()), st.text(max_size=300))
def test_nothing_in_an_open_does_harm(properties: dict[str, object], name: str) -> None:
    peer = PeerOpen(open_(container_id=name, properties=properties))
    assert 1 <= peer.cost <= MAX_COST
    assert isinstance(peer.dialect, Dialect)
    assert len(peer.refusal("A", "1.0")) < 1000
    assert len(peer.remark()) < 1000
    assert peer.name


def test_links_before_a_session_is_answered_are_not_handed_out() -> None:
    peer = RouterPeer(Routers().router("B"))
    assert peer.adaptor.refusal
    peer.send(begin())
    assert detached(peer.pair(0, "qd.router")) == ["amqp:not-allowed"] * 2
    assert not peer.adaptor.links
