from __future__ import annotations

from tests.routing.link_state.network import DELAY, Net, Station
from van.routing.dialect.control import HELLO_ADDRESS, decode_control, encode_control
from van.routing.link_state.messages import ControlMessage, Hello, LinkStateUpdate
from van.routing.link_state.neighbors import NeighborTable


def hello(router_id: str, seen: tuple[str, ...], instance: int = 1, version: int = 1) -> ControlMessage:
    body = encode_control(Hello(router_id, instance, seen, version), HELLO_ADDRESS)
    return ControlMessage(HELLO_ADDRESS, f"0/{router_id}", (f"0/{router_id}",), body)


def alone(router_id: str = "A") -> tuple[Net, Station]:
    net = Net()
    return net, net.add(router_id)


def hellos(station: Station) -> list[tuple[float, tuple[str, ...]]]:
    return [
        (when, message.seen)
        for when, _, sent in station.sent
        if isinstance(message := decode_control(sent.body), Hello)
    ]


def test_the_first_hello_goes_out_at_once_and_lists_the_peer_by_its_container_id() -> None:
    net, a = alone()
    net.run(12.5)
    a.engine.neighbor_up(7, "B", 1, net.now)
    assert hellos(a) == [(12.5, ("B",))]


def test_hello_is_sent_every_second_to_every_neighbor() -> None:
    net = Net()
    a, _, _ = net.line("B", "A", "C")[1], None, None
    net.run(5.5)
    times = [when for when, _ in hellos(a)]
    assert times == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_a_neighbor_is_declared_at_once_and_taken_back_when_it_does_not_list_us() -> None:
    net, a = alone()
    a.engine.neighbor_up(7, "B", 1, 0.0)
    net.run(0.02)
    assert a.reachable() == ["B"]
    net.run(1)
    a.engine.receive(7, hello("B", ()), net.now)
    net.run(2.999 - net.now)
    assert a.reachable() == ["B"]
    net.run(0.001)
    assert a.reachable() == []
    assert a.events("warning") == ["neighbor_silent"]


def test_a_silent_neighbor_is_dropped_exactly_when_its_hello_is_three_seconds_old() -> None:
    net = Net()
    a, b = net.line("A", "B")
    net.run(10.25)
    b.paused = True
    net.run(13 + DELAY - 0.0001 - net.now)
    assert a.reachable() == ["B"]
    net.run(0.0001)
    assert a.reachable() == []
    b.paused = False
    net.run(1.1)
    assert (a.reachable(), b.reachable()) == (["B"], ["A"]), "it counts again with its next HELLO"


def test_a_hello_that_does_not_list_us_is_answered_at_once() -> None:
    net, a = alone()
    a.engine.neighbor_up(7, "B", 1, 0.0)
    net.run(0.5)
    a.engine.receive(7, hello("B", ()), net.now)
    assert [when for when, _ in hellos(a)] == [0, 0.5]
    a.engine.receive(7, hello("B", ()), net.now)
    assert len(hellos(a)) == 2, "but not again and again"


def test_hello_lists_those_that_were_heard_within_three_seconds() -> None:
    net, a = alone()
    a.engine.neighbor_up(7, "B", 1, 0.0)
    a.engine.neighbor_up(8, "C", 1, 0.0)
    for second in range(1, 6):
        net.run(second - net.now)
        a.engine.receive(8, hello("C", ("A",)), net.now)
    net.run(0.5)
    assert [seen for when, seen in hellos(a) if when == 5] == [("C",), ("C",)]


def test_a_lost_connection_is_acted_upon_at_once() -> None:
    net = Net()
    a, b, c = net.line("A", "B", "C")
    net.run(30)
    net.cut(next(iter(a.wires.values())))
    assert a.reachable() == []
    assert a.engine.next_deadline() > net.now
    update = decode_control(b.messages(LinkStateUpdate, since=net.now)[0].body)
    assert isinstance(update, LinkStateUpdate)
    assert update.peers == {"C": 1}
    net.run(0.02)
    assert c.reachable() == ["B"]


def test_of_two_connections_the_cheapest_carries_and_the_other_takes_over() -> None:
    table = NeighborTable(3.0)
    table.up(4, "B", 2, 0.0)
    table.up(9, "B", 1, 0.0)
    table.up(5, "B", 1, 0.0)
    assert (table.carriers, table.peers) == ({"B": 5}, {"B": 1})
    table.down(5)
    assert (table.carriers, table.peers) == ({"B": 9}, {"B": 1})
    table.down(9)
    assert (table.carriers, table.peers) == ({"B": 4}, {"B": 2})


def test_a_spare_connection_gets_hello_but_no_copies_of_floods() -> None:
    net = Net()
    a, b = net.line("A", "B")
    net.join(a, b)
    net.join(b, net.add("C"))
    net.run(10)
    spare = max(a.wires)
    assert {type(decode_control(sent.body)) for _, number, sent in a.sent if number == spare} == {Hello}
    net.cut(a.wires[min(a.wires)])
    assert a.engine.connection_of("B") == spare
    assert a.reachable() == ["B", "C"]


def test_the_cost_is_that_of_the_connection() -> None:
    net = Net()
    a, b, c = net.add("A"), net.add("B"), net.add("C")
    net.join(a, b, cost=7)
    net.join(b, c, cost=2)
    net.join(a, c, cost=10)
    net.run(1)
    assert [(node.id, node.next_hop, node.cost) for node in a.engine.nodes.values() if node.id == "C"] == [
        ("C", "B", 9)
    ]
    assert b.engine.nodes["A"].peers == {"B": 7, "C": 10}


def test_our_own_name_at_the_other_end_is_told_once_and_no_neighbor() -> None:
    net, a = alone()
    a.engine.neighbor_up(7, "B", 1, 0.0)
    for _ in range(3):
        a.engine.receive(7, hello("A", ("A",), instance=99), net.now)
    assert a.events("critical") == ["duplicate_router_id"]
    a.engine.neighbor_up(8, "A", 1, net.now)
    net.run(1)
    assert a.reachable() == ["B"]
    assert a.events("critical") == ["duplicate_router_id"]


def test_a_peer_that_calls_itself_otherwise_in_hello_is_what_it_says_there() -> None:
    net, a = alone()
    a.engine.neighbor_up(7, "container", 1, 0.0)
    a.engine.receive(7, hello("B", ("A",)), 0.001)
    net.run(1)
    assert a.reachable() == ["B"]
    assert a.events("warning") == ["neighbor_renamed"]


def test_a_newer_protocol_version_is_ignored_and_told_once() -> None:
    net, a = alone()
    a.engine.neighbor_up(7, "B", 1, 0.0)
    for second in range(1, 6):
        net.run(second - net.now)
        a.engine.receive(7, hello("B", ("A",), version=2), net.now)
    assert a.reachable() == []
    assert sorted(a.events("warning")) == ["neighbor_silent", "newer_protocol_version"]


def test_hello_from_a_connection_that_is_not_ready_yet_is_left_alone() -> None:
    net, a = alone()
    a.engine.receive(7, hello("B", ("A",)), net.now)
    net.run(1)
    assert (a.sent, a.reachable()) == ([], [])


def test_a_connection_that_is_lost_twice_is_lost_once() -> None:
    net, a = alone()
    a.engine.neighbor_up(7, "B", 1, 0.0)
    net.run(0.5)
    for _ in range(2):
        a.engine.neighbor_down(7, net.now)
    assert a.events("info").count("neighbor_down") == 1
    assert a.reachable() == []


def test_our_own_hello_that_comes_back_is_no_other_router_with_our_name() -> None:
    net, a = alone()
    a.engine.neighbor_up(7, "B", 1, 0.0)
    a.engine.receive(7, a.sent[0][2], net.now)
    a.engine.receive(7, hello("A", ("A",), instance=1), net.now)
    net.run(1)
    assert a.events("critical") == []
    assert a.reachable() == ["B"]
    assert "A" not in a.engine.nodes
