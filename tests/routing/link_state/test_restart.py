from __future__ import annotations

from tests.routing.link_state.network import Net, Station
from tests.routing.link_state.test_flooding import from_neighbor, message
from van.routing.dialect.control import ALL_ROUTERS, router_address
from van.routing.link_state.messages import LinkStateUpdate, RouterAdvertisement


def ring_with_addresses() -> tuple[Net, list[Station]]:
    net = Net()
    stations = net.ring(5)
    for station in stations:
        station.engine.advertise(f"M{station.id}", 3, 0)
    net.run(30)
    return net, stations


def replace(net: Net, stations: list[Station], index: int, *, instance: int, sequence: int = 0) -> Station:
    """Kill a router and start it again in its place."""
    net.kill(stations[index])
    again = net.add(stations[index].id, instance=instance, sequence=sequence)
    stations[index] = again
    net.join(stations[index - 1], again)
    net.join(again, stations[(index + 1) % len(stations)])
    return again


def test_a_router_that_is_started_again_has_what_it_has_now() -> None:
    net, stations = ring_with_addresses()
    replace(net, stations, 2, instance=2).engine.advertise("Mnew", 3, 0)
    net.run(1)
    for station in stations:
        if station.id != "R2":
            assert station.keys_of("R2") == ["Mnew"]
            assert station.engine.nodes["R2"].instance == 2


def test_a_router_that_is_started_again_within_the_second_is_newer_by_its_sequence() -> None:
    net, stations = ring_with_addresses()
    replace(net, stations, 2, instance=1, sequence=500_000_000).engine.advertise("Mnew", 3, 0)
    net.run(1)
    for station in stations:
        if station.id != "R2":
            assert station.keys_of("R2") == ["Mnew"]
            assert len(station.engine.nodes["R2"].peers) == 2


def test_a_router_that_is_started_again_within_the_second_is_found_out_even_if_it_counts_from_one() -> None:
    net, stations = ring_with_addresses()
    replace(net, stations, 2, instance=1).engine.advertise("Mnew", 3, 0)
    net.run(6)
    for station in stations:
        if station.id != "R2":
            assert station.keys_of("R2") == ["Mnew"]
            assert station.reachable() == sorted(other.id for other in stations if other is not station)


def test_an_empty_router_in_the_place_of_a_full_one_has_nothing() -> None:
    net, stations = ring_with_addresses()
    replace(net, stations, 2, instance=2)
    net.run(2)
    assert all(station.keys_of("R2") == [] for station in stations)


def test_an_echo_of_the_life_before_changes_nothing() -> None:
    net, stations = ring_with_addresses()
    replace(net, stations, 2, instance=7).engine.advertise("Mnew", 3, 0)
    net.run(1)
    far = stations[4]
    number = from_neighbor(far, "R3")
    for control in (RouterAdvertisement("R2", 1, 900, 900), LinkStateUpdate("R2", 1, 900, {})):
        far.engine.receive(number, message(control, ALL_ROUTERS, "0/R2", "0/R3"), net.now)
    net.run(0.5)
    assert far.engine.nodes["R2"].instance == 7
    assert far.keys_of("R2") == ["Mnew"]


def test_a_clock_that_was_set_back_is_believed_when_it_lasts() -> None:
    net, stations = ring_with_addresses()
    for station in stations:
        node = station.engine.nodes.get("R2")
        if node is not None:
            node.instance = 1000
    replace(net, stations, 2, instance=5).engine.advertise("Mnew", 3, 0)
    net.run(10)
    for station in stations:
        if station.id != "R2":
            assert (station.engine.nodes["R2"].instance, station.keys_of("R2")) == (5, ["Mnew"])


def test_a_late_advertisement_is_no_restart() -> None:
    net, stations = ring_with_addresses()
    far = stations[4]
    node = far.engine.nodes["R2"]
    number = from_neighbor(far, "R3")
    old = RouterAdvertisement("R2", 1, node.link_state_sequence - 1, 0)
    far.engine.receive(number, message(old, ALL_ROUTERS, "0/R2", "0/R3"), net.now)
    net.run(0.1)
    assert "router_restarted" not in far.events("info")
    assert far.keys_of("R2") == ["MR2"]


def test_what_a_neighbor_holds_of_us_from_a_life_before_is_outdone() -> None:
    net = Net()
    a, b, c = net.line("A", "B", "C")
    net.run(5)
    held = LinkStateUpdate("A", 1, 50, {"Z": 1})
    a.engine.receive(from_neighbor(a, "B"), message(held, router_address("A"), "0/B"), net.now)
    net.run(1.1)
    assert a.engine.link_state_sequence == 51
    assert b.engine.nodes["A"].peers == c.engine.nodes["A"].peers == {"B": 1}


def test_another_router_with_our_name_far_away_is_told_once() -> None:
    net = Net()
    a, _ = net.line("A", "B")
    net.run(1)
    for sequence in (1, 2):
        advertisement = RouterAdvertisement("A", 99, sequence, 0)
        a.engine.receive(from_neighbor(a, "B"), message(advertisement, ALL_ROUTERS, "0/X", "0/B"), net.now)
    assert a.events("critical") == ["duplicate_router_id"]
