"""Whatever neighbours send, the engine goes on, and keeps to its limits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.routing.link_state.network import Net, Station
from tests.routing.link_state.test_control_lenient import messages
from tests.routing.link_state.test_control_recorded import RECORDED
from tests.routing.link_state.test_flooding import from_neighbor, message, sent_to
from tests.routing.link_state.test_mobile import addresses as mobile_addresses
from tests.routing.link_state.test_neighbors import hello
from van.routing.dialect.control import (
    ALL_MOBILE,
    ALL_ROUTERS,
    HELLO_ADDRESS,
    encode_control,
    router_address,
    router_mobile_address,
)
from van.routing.link_state import database, engine
from van.routing.link_state.messages import (
    Control,
    ControlMessage,
    LinkStateUpdate,
    MobileAddressRequest,
    MobileAddressUpdate,
    RouterAdvertisement,
)
from van.routing.link_state.mobile import SLICE

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
        true = net.stations[router_id].engine if router_id in net.stations else None
        if true is not None and (true.instance, true.link_state_sequence) == (instance, sequence):
            # Nobody could tell it from what the router itself has said, and says no more.
            continue
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


@pytest.mark.parametrize(
    "control",
    [
        LinkStateUpdate("Z", 1, 1, {"B": 1}),
        RouterAdvertisement("Z", 1, 1, 0),
        MobileAddressUpdate("Z", 1, add=mobile_addresses(["Mone"]), delete=[]),
    ],
    ids=lambda control: type(control).__name__,
)
def test_nothing_is_taken_of_a_router_beyond_the_limit(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    net, a = settled()
    monkeypatch.setattr(database, "MAX_NODES", len(a.engine.nodes))
    for trace in ("0/B", "0/X"):
        a.engine.receive(from_neighbor(a, "B"), message(control, router_address("A"), "0/Z", trace), net.now)
    assert a.events("error") == ["too_many_routers"]
    net.run(1)
    assert sorted(a.engine.nodes) == a.reachable() == ["B", "C"]
    assert a.keys_of("Z") == []


def test_a_neighbor_beyond_the_limit_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    net, a = settled()
    monkeypatch.setattr(database, "MAX_NODES", len(a.engine.nodes))
    a.engine.neighbor_up(99, "Z", 1, net.now)
    a.engine.receive(99, hello("Z", ("A",)), net.now)
    net.run(1)
    assert a.events("error") == ["too_many_routers"]
    assert a.reachable() == ["B", "C"]
    assert a.engine.connection_of("Z") is None


def test_what_comes_from_another_area_is_ignored_and_told_once() -> None:
    net, a = settled()
    update = LinkStateUpdate("Z", 1, 1, {"B": 1})
    update.area = "1"
    for _ in range(3):
        a.engine.receive(from_neighbor(a, "B"), message(update, ALL_ROUTERS), net.now)
    assert a.events("warning") == ["other_area"]
    assert "Z" not in a.engine.nodes


def test_the_table_of_targets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    net, a = settled()
    monkeypatch.setattr(engine, "MAX_TARGETS", 8)
    number = from_neighbor(a, "B")
    a.sent.clear()
    advertisement = RouterAdvertisement("B", 1, 1, 0)
    for name in ["C", *(f"Z{index}" for index in range(20)), "C"]:
        a.engine.receive(number, message(advertisement, router_address(name)), net.now)
        assert len(a.engine._targets) <= 8
    assert sent_to(a) == [("C", router_address("C"), ("0/B", "0/A"))] * 2


def test_a_very_long_target_is_understood_and_not_remembered() -> None:
    net, a = settled()
    before = dict(a.engine._targets)
    to = router_address("Z" * 600)
    a.engine.receive(from_neighbor(a, "B"), message(RouterAdvertisement("B", 1, 1, 0), to), net.now)
    assert a.events("debug")[-1] == "control_message_without_way"
    assert a.engine._targets == before


def test_changes_of_addresses_that_come_faster_than_they_are_taken_are_asked_for_later() -> None:
    net, a = settled()
    net.stations["B"].paused = True  # the scene speaks for it
    net.run(0.1)
    number = from_neighbor(a, "B")
    limit = engine.MAX_TASKS
    keys = [f"M{index}" for index in range(3 * SLICE)]
    for sequence in range(1, limit + 6):
        add = mobile_addresses(keys if sequence == 1 else [f"Mlate{sequence}"])
        update = MobileAddressUpdate("B", sequence, add=add, delete=[])
        a.engine.receive(number, message(update, ALL_MOBILE), net.now)
    assert a.events("warning") == ["addresses_too_fast"] * 5
    net.run(1)
    assert a.keys_of("B") == sorted([*keys, *(f"Mlate{sequence}" for sequence in range(2, limit + 1))])
    asked = net.now
    advertisement = RouterAdvertisement("B", 1, a.engine.nodes["B"].link_state_sequence, limit + 5)
    a.engine.receive(number, message(advertisement, ALL_ROUTERS), net.now)
    net.run(0.5)
    assert a.messages(MobileAddressRequest, since=asked)


def test_changes_of_addresses_wait_behind_a_new_life_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    net, a = settled()
    net.stations["B"].paused = True  # the scene speaks for it
    net.run(0.1)
    monkeypatch.setattr(engine, "MAX_HELD", 3)
    number = from_neighbor(a, "B")
    a.engine.receive(number, hello("B", ("A",), instance=2), net.now)
    a.sent.clear()
    for sequence in range(1, 6):
        update = MobileAddressUpdate("B", sequence, add=mobile_addresses([f"M{sequence}"]), delete=[])
        a.engine.receive(number, message(update, ALL_MOBILE), net.now)

    def passed_on() -> int:
        return [to for _, to, _ in sent_to(a)].count(ALL_MOBILE)

    assert passed_on() == 0
    net.run(engine.NEW_LIFE_SETTLES + 0.01)
    assert passed_on() == 3
    # What was not passed on was taken.
    assert a.keys_of("B") == [f"M{sequence}" for sequence in range(1, 6)]
