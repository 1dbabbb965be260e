from __future__ import annotations

from itertools import pairwise

import pytest

from tests.routing.link_state.network import Net, Station
from tests.routing.link_state.test_flooding import from_neighbor, message
from van.routing.dialect.control import ALL_ROUTERS, decode_control
from van.routing.link_state.engine import SYNC_SLICE
from van.routing.link_state.messages import LinkStateUpdate, RouterAdvertisement


def complete(stations: list[Station]) -> bool:
    ids = {station.id for station in stations}
    return all(
        set(station.reachable()) == ids - {station.id}
        and all(station.keys_of(other) == [f"M{other}"] for other in ids - {station.id})
        for station in stations
    )


def with_addresses(stations: list[Station]) -> list[Station]:
    for station in stations:
        station.engine.advertise(f"M{station.id}", 3, 0)
    return stations


def test_two_routers_know_each_other_at_once() -> None:
    net = Net()
    a, b = with_addresses(net.line("A", "B"))
    net.run(0.05)
    assert (a.reachable(), b.reachable()) == (["B"], ["A"])
    net.run(0.3)
    assert (a.keys_of("B"), b.keys_of("A")) == (["MB"], ["MA"])
    node = a.engine.nodes["B"]
    assert (node.next_hop, node.cost, node.peers, node.instance) == ("B", 1, {"A": 1}, 1)


def test_a_line_of_three_is_complete_in_half_a_second() -> None:
    net = Net()
    stations = with_addresses(net.line("A", "B", "C"))
    net.run_until(lambda: complete(stations), 0.5)
    a = stations[0].engine
    assert (a.nodes["C"].next_hop, a.nodes["C"].cost, a.radius) == ("B", 2, 2)


def test_a_ring_of_ten_that_starts_at_once_is_complete_in_a_second() -> None:
    net = Net()
    stations = with_addresses(net.ring(10))
    net.run_until(lambda: complete(stations), 1.0)
    assert {station.engine.radius for station in stations} == {5}


def test_a_router_that_joins_a_quiet_ring_knows_all_and_is_known_to_all_in_a_second() -> None:
    net = Net()
    stations = with_addresses(net.line(*(f"R{number}" for number in range(9))))
    net.run(60)
    late = net.add("late")
    late.engine.advertise("Mlate", 3, 0)
    net.join(late, stations[0])
    net.join(late, stations[-1])
    stations.append(late)
    net.run_until(lambda: complete(stations), 1.0)


def test_two_parts_that_are_joined_know_each_other_in_two_seconds() -> None:
    net = Net()
    left = with_addresses(net.line("A", "B", "C"))
    right = with_addresses(net.line("D", "E", "F"))
    net.run(20)
    net.join(left[1], right[1])
    net.run_until(lambda: complete(left + right), 2.0)


def test_a_cut_connection_leads_to_new_routes_in_a_tenth_of_a_second_everywhere() -> None:
    net = Net()
    stations = net.ring(10)
    net.run(30)
    assert stations[0].engine.nodes["R1"].next_hop == "R1"
    net.cut(next(wire for wire in stations[0].wires.values() if wire.other(stations[0])[0].id == "R1"))
    assert stations[0].engine.connection_of("R1") in stations[0].wires, "known where it happens at once"

    def rerouted() -> bool:
        return all(
            station.engine.nodes[other.id].cost == abs(i - j)
            for i, station in unwound
            for j, other in unwound
            if i != j
        )

    # From R1 the long way round to R0.
    unwound = list(enumerate([*stations[1:], stations[0]]))
    net.run_until(rerouted, 0.1)


def test_a_killed_router_is_gone_everywhere_in_a_tenth_of_a_second() -> None:
    net = Net()
    stations = with_addresses(net.ring(10))
    net.run(30)
    net.kill(stations.pop(4))
    net.run_until(lambda: complete(stations), 0.1)
    assert all("R4" not in station.addresses for station in stations)


def test_lost_messages_are_asked_for_again() -> None:
    net = Net()
    a, b, c = net.line("A", "B", "C")
    wire = next(wire for wire in b.wires.values() if wire.other(b)[0] is c)
    wire.loss = lambda sender, message: sender is b and isinstance(decode_control(message.body), LinkStateUpdate)
    net.run(1)
    assert c.reachable() == ["B"]
    wire.loss = lambda _, __: False
    net.run(1.5)
    assert c.reachable() == ["A", "B"], "B was asked within a second"
    assert a.reachable() == ["B", "C"]


@pytest.mark.parametrize("share", [3, 5])
def test_a_ring_survives_the_loss_of_many_messages(share: int) -> None:
    net = Net()
    stations = with_addresses(net.ring(6))
    count = 0

    def lose(_: Station, __: object) -> bool:
        nonlocal count
        count += 1
        return count % share == 0

    for station in stations:
        for wire in station.wires.values():
            wire.loss = lose
    net.run(10)
    for station in stations:
        for wire in station.wires.values():
            wire.loss = lambda _, __: False
    net.run(35)
    assert complete(stations)


def test_advertisements_come_every_four_seconds_after_a_change_and_then_every_thirty() -> None:
    net = Net()
    a, _ = net.line("A", "B")
    net.run(200)
    times = [when for when, _, message in a.sent if isinstance(decode_control(message.body), RouterAdvertisement)]
    gaps = [round(later - earlier) for earlier, later in pairwise(times)]
    assert gaps[:3] == [4, 4, 30] or gaps[:4] == [4, 4, 4, 30], gaps
    assert set(gaps[4:]) == {30}


def test_an_idle_router_says_hello_and_little_else() -> None:
    net = Net()
    stations = net.ring(10)
    net.run(60)
    before = [len(station.sent) for station in stations]
    net.run(30)
    # Two HELLO a second; each of ten advertisements goes over about two of its links.
    assert all(len(station.sent) - count <= 60 + 25 for station, count in zip(stations, before, strict=True))


def with_many_behind(count: int) -> tuple[Net, Station]:
    """A router at A that tells of `count` others behind it; they are nothing but what it says."""
    net = Net()
    a, b = net.line("A", "B")
    net.run(1)
    b.paused = True
    ghosts = [f"ghost{number}" for number in range(count)]
    peers = {"A": 1, **dict.fromkeys(ghosts, 1)}
    updates = [LinkStateUpdate("B", 1, 100, peers), *(LinkStateUpdate(ghost, 1, 1, {"B": 1}) for ghost in ghosts)]
    for update in updates:
        a.engine.receive(from_neighbor(a, "B"), message(update, ALL_ROUTERS, f"0/{update.id}", "0/B"), net.now)
    net.run(0.5)
    assert len(a.reachable()) == count + 1
    return net, a


def test_a_new_neighbor_is_told_of_many_routers_in_slices() -> None:
    net, a = with_many_behind(3 * SYNC_SLICE)
    z = net.add("Z")
    net.join(a, z)
    net.run(0.5)
    assert {"A", *z.reachable()} == {"A", *a.reachable()} - {"Z"}
    assert len(z.reachable()) == 3 * SYNC_SLICE + 2


def test_a_neighbor_that_is_lost_meanwhile_is_told_no_more() -> None:
    net, a = with_many_behind(3 * SYNC_SLICE)

    def told() -> int:
        return [number for _, number, _ in a.sent].count(99)

    a.engine.neighbor_up(99, "Z", 1, net.now)
    while told() < SYNC_SLICE // 2:
        net.now = max(net.now, a.engine.next_deadline())
        a.engine.handle_deadline(net.now)
    before = told()
    assert before < 2 * SYNC_SLICE
    a.engine.neighbor_down(99, net.now)
    net.run(1)
    assert told() == before
    assert "Z" not in a.reachable()
