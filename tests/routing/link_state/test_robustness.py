"""Whatever neighbours send, the engine goes on, and keeps to its limits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.routing.link_state.network import Net, Station
from tests.routing.link_state.test_control_lenient import messages
from tests.routing.link_state.test_control_recorded import RECORDED
from tests.routing.link_state.test_flooding import from_neighbor, message
from van.routing.dialect.control import (
    ALL_MOBILE,
    ALL_ROUTERS,
    HELLO_ADDRESS,
    encode_control,
    router_address,
    router_mobile_address,
)
from van.routing.link_state import database, engine
from van.routing.link_state.messages import Control, ControlMessage, LinkStateUpdate, RouterAdvertisement

addresses = st.sampled_from(
    [
        ALL_ROUTERS, ALL_MOBILE, HELLO_ADDRESS, router_address("A"), router_mobile_address("A"), router_address("B"),
        router_mobile_address("Z"), "amqp:/_local/qdrouter.ma", "my.q",
    ]
)  # fmt: skip
traces = st.lists(st.sampled_from(["0/A", "0/B", "0/C", "0/Z", "", "Z"]), max_size=4).map(tuple)
ingresses = st.none() | st.sampled_from(["0/A", "0/B", "0/Z", "", "0/", "1/Z"])
names = st.sampled_from(["A", "B", "C", "Z"])


def settled() -> tuple[Net, Station]:
    net = Net()
    a, _, _ = net.line("B", "A", "C")[1], None, None
    net.run(1)
    return net, a


@given(st.lists(st.tuples(addresses, ingresses, traces, st.binary(max_size=60)), max_size=8))
def test_no_octets_stop_an_engine(sent: list[tuple[str, str | None, tuple[str, ...], bytes]]) -> None:
    net, a = settled()
    for to, ingress, trace, body in sent:
        a.engine.receive(from_neighbor(a, "B"), ControlMessage(to, ingress, trace, body), net.now)
        net.run(0.1)
    net.run(5)
    assert a.reachable() == ["B", "C"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(addresses, ingresses, traces, messages | st.sampled_from([meant for meant, _ in RECORDED.values()]))
    )
)
def test_no_messages_stop_an_engine(sent: list[tuple[str, str | None, tuple[str, ...], Control]]) -> None:
    net, a = settled()
    for to, ingress, trace, control in sent:
        body = encode_control(control, to)
        a.engine.receive(from_neighbor(a, "B"), ControlMessage(to, ingress, trace, body), net.now)
        net.run(0.2)
        for node in a.engine.nodes.values():
            assert node.id != "A"
            if node.reachable:
                assert a.engine.connection_of(node.id) in a.wires
    assert {router for router in a.addresses if router not in a.reachable()} == set()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            names, st.integers(1, 3), st.integers(1, 4), st.dictionaries(names, st.integers(1, 3)), st.booleans()
        ),
        max_size=20,
    )
)
def test_no_order_of_news_stops_an_engine(
    sent: list[tuple[str, int, int, dict[str, int], bool]]
) -> None:
    net, a = settled()
    for router_id, instance, sequence, peers, advertised in sent:
        control: Control = LinkStateUpdate(router_id, instance, sequence, peers)
        if advertised:
            control = RouterAdvertisement(router_id, instance, sequence, len(peers))
        a.engine.receive(from_neighbor(a, "B"), message(control, ALL_ROUTERS, f"0/{router_id}", "0/B"), net.now)
        net.run(0.3)
        a.engine.valid_origins("B")
    net.run(75)
    assert a.reachable() == ["B", "C"]


def test_malformed_messages_are_told_once_for_each_sender() -> None:
    net, a = settled()
    for _ in range(5):
        a.engine.receive(
            from_neighbor(a, "B"), ControlMessage(ALL_ROUTERS, "0/B", ("0/B",), b"\x00\x53\x77\x45"), net.now
        )
    assert a.events("warning") == ["malformed_control_message"]


def test_what_is_told_once_is_told_of_a_thousand_senders_at_most() -> None:
    net, a = settled()
    for number in range(engine.MAX_TOLD + 500):
        ghost = f"0/ghost{number}"
        a.engine.receive(from_neighbor(a, "B"), ControlMessage(ALL_ROUTERS, ghost, (ghost,), b""), net.now)
    assert len(a.events("warning")) == engine.MAX_TOLD


def test_routers_beyond_the_limit_are_not_taken_in() -> None:
    net, a = settled()
    number = from_neighbor(a, "B")
    for first in range(0, database.MAX_NODES + 1000, 1000):
        peers = {f"ghost{index}": 1 for index in range(first, first + 1000)}
        update = LinkStateUpdate("B", 1, 1000 + first, peers)
        a.engine.receive(number, message(update, ALL_ROUTERS), net.now)
    assert len(a.engine.nodes) == database.MAX_NODES
    assert a.events("error") == ["too_many_routers"] * len(a.events("error"))
    assert len(a.events("error")) <= engine.MAX_TOLD
    net.run(70)
    assert a.reachable() == ["B", "C"]


def test_the_table_of_floods_is_bounded() -> None:
    net, a = settled()
    number = from_neighbor(a, "B")
    for sequence in range(engine.MAX_REMEMBERED_FLOODS + 100):
        advertisement = RouterAdvertisement("Z", 1, 1, sequence)
        a.engine.receive(number, message(advertisement, ALL_ROUTERS, "0/Z", "0/B"), net.now)
    assert len(a.engine._floods) <= engine.MAX_REMEMBERED_FLOODS
    assert len(a.engine._targets) <= engine.MAX_TARGETS
