from __future__ import annotations

from tests.routing.link_state.network import Net, Station
from van.routing.dialect.control import (
    ALL_MOBILE,
    ALL_ROUTERS,
    decode_control,
    encode_control,
    router_address,
    router_mobile_address,
)
from van.routing.link_state.messages import (
    Control,
    ControlMessage,
    Hello,
    LinkStateRequest,
    LinkStateUpdate,
    MobileAddressRequest,
    MobileAddressUpdate,
    RouterAdvertisement,
)


def message(control: Control, to: str, *trace: str) -> ControlMessage:
    return ControlMessage(to, f"0/{control.id}", trace or (f"0/{control.id}",), encode_control(control, to))


def quiet(*, ids: tuple[str, ...] = ("A", "B", "C", "D")) -> tuple[Net, dict[str, Station]]:
    """A full mesh that has settled, and forgets what it sent."""
    net = Net()
    stations = {router_id: net.add(router_id) for router_id in ids}
    for left in ids:
        for right in ids:
            if left < right:
                net.join(stations[left], stations[right])
    net.run(30.5)
    for station in stations.values():
        station.sent.clear()
    return net, stations


def sent_to(station: Station) -> list[tuple[str, str, tuple[str, ...]]]:
    """Neighbour, address and trace of all that was sent but HELLO."""
    return [
        (station.wires[number].other(station)[0].id, sent.to, sent.trace)
        for _, number, sent in station.sent
        if not isinstance(decode_control(sent.body), Hello)
    ]


def from_neighbor(station: Station, neighbor: str) -> int:
    return next(number for number, wire in station.wires.items() if wire.other(station)[0].id == neighbor)


def test_an_advertisement_is_passed_on_at_its_first_arrival_only() -> None:
    net, stations = quiet()
    b = stations["B"]
    advertisement = message(RouterAdvertisement("A", 1, 9, 0), ALL_ROUTERS)
    b.engine.receive(from_neighbor(b, "A"), advertisement, net.now)
    copies = sent_to(b)
    assert [(neighbor, trace) for neighbor, to, trace in copies if to == ALL_ROUTERS] == [
        ("C", ("0/A", "0/B")),
        ("D", ("0/A", "0/B")),
    ]
    by_c = ControlMessage(advertisement.to, advertisement.ingress, ("0/A", "0/C"), advertisement.body)
    b.engine.receive(from_neighbor(b, "C"), by_c, net.now + 0.5)
    assert (sent_to(b), b.engine.duplicates) == (copies, b.engine.duplicates)
    b.sent.clear()
    b.engine.receive(from_neighbor(b, "A"), advertisement, net.now + 1.6)
    assert len([to for _, to, _ in sent_to(b) if to == ALL_ROUTERS]) == 2, "a second later it is another one"


def test_a_flood_does_not_go_where_it_was() -> None:
    net, stations = quiet()
    b = stations["B"]
    b.engine.receive(
        from_neighbor(b, "C"), message(RouterAdvertisement("A", 1, 9, 0), ALL_ROUTERS, "0/A", "0/C"), net.now
    )
    assert [neighbor for neighbor, to, _ in sent_to(b) if to == ALL_ROUTERS] == ["D"]


def test_a_flood_that_passed_us_before_is_dropped() -> None:
    net, stations = quiet()
    b = stations["B"]
    b.engine.receive(
        from_neighbor(b, "C"), message(RouterAdvertisement("Z", 1, 9, 0), ALL_ROUTERS, "0/Z", "0/B", "0/C"), net.now
    )
    assert sent_to(b) == []
    assert "Z" not in b.engine.nodes


def test_link_states_are_passed_on_as_news_only() -> None:
    net, stations = quiet()
    b = stations["B"]
    peers = {"B": 1, "C": 1, "D": 1, "E": 1}
    update = LinkStateUpdate("A", 1, 100, peers)
    b.engine.receive(from_neighbor(b, "A"), message(update, ALL_ROUTERS), net.now)
    assert [neighbor for neighbor, to, _ in sent_to(b)] == ["C", "D"]
    b.engine.receive(from_neighbor(b, "D"), message(update, ALL_ROUTERS, "0/A", "0/D"), net.now + 5)
    b.engine.receive(
        from_neighbor(b, "D"), message(LinkStateUpdate("A", 1, 99, {}), ALL_ROUTERS, "0/A", "0/D"), net.now + 5
    )
    assert [neighbor for neighbor, to, _ in sent_to(b)] == ["C", "D"]
    assert b.engine.nodes["A"].peers == peers


def test_a_link_state_that_was_sent_to_us_alone_is_passed_on_to_all() -> None:
    net, stations = quiet()
    b = stations["B"]
    b.engine.receive(
        from_neighbor(b, "A"), message(LinkStateUpdate("A", 1, 100, {"B": 1}), router_address("B")), net.now
    )
    assert sent_to(b) == [("C", ALL_ROUTERS, ("0/A", "0/B")), ("D", ALL_ROUTERS, ("0/A", "0/B"))]


def test_hello_stays_with_the_neighbor() -> None:
    net, stations = quiet()
    b = stations["B"]
    hello = message(Hello("A", 1, ("B",)), "amqp:/_local/qdhello")
    b.engine.receive(from_neighbor(b, "A"), hello, net.now)
    assert b.sent == []


def test_messages_for_one_router_follow_the_paths() -> None:
    net = Net()
    a, b, c = net.line("A", "B", "C")
    net.run(30.5)
    b.sent.clear()
    request = message(LinkStateRequest("A"), router_address("C"))
    b.engine.receive(from_neighbor(b, "A"), request, net.now)
    assert sent_to(b) == [("C", router_address("C"), ("0/A", "0/B"))]
    c.sent.clear()
    net.run(0.01)
    assert [(to, trace) for _, to, trace in sent_to(c)] == [(router_address("A"), ("0/C",))]
    b.sent.clear()
    b.engine.receive(from_neighbor(b, "C"), message(LinkStateRequest("X"), router_address("Y"), "0/X"), net.now)
    b.engine.receive(from_neighbor(b, "C"), message(LinkStateRequest("C"), router_address("C")), net.now)
    assert sent_to(b) == [], "no way, and the way back"
    assert a.engine.nodes["C"].cost == 2


def test_requests_are_answered_over_their_connection_when_no_way_is_known_yet() -> None:
    net = Net()
    a, b = net.line("A", "B")
    a.engine.advertise("Mq", 3, 0)
    net.run(2)
    a.sent.clear()
    number = from_neighbor(a, "B")
    a.engine.receive(number, message(LinkStateRequest("far"), router_address("A"), "0/far", "0/B"), net.now)
    a.engine.receive(
        number, message(MobileAddressRequest("far", 0), router_mobile_address("A"), "0/far", "0/B"), net.now
    )
    assert [(neighbor, to) for neighbor, to, _ in sent_to(a)] == [
        ("B", router_address("far")),
        ("B", router_mobile_address("far")),
    ]
    assert "far" not in b.engine.nodes


def test_addresses_travel_the_tree_of_the_router_where_they_come_from() -> None:
    net, stations = quiet()
    stations["A"].engine.advertise("Mq", 3, 0)
    net.run(0.5)
    updates = {
        router_id: [
            trace
            for _, to, trace in sent_to(station)
            if to == ALL_MOBILE
        ]
        for router_id, station in stations.items()
    }
    assert updates == {"A": [("0/A",)] * 3, "B": [], "C": [], "D": []}
    assert all(station.keys_of("A") == ["Mq"] for station in stations.values() if station.id != "A")


def test_addresses_reach_everybody_exactly_once_in_a_ring() -> None:
    net = Net()
    stations = net.ring(9)
    net.run(30.5)
    for station in stations:
        station.sent.clear()
    stations[4].engine.advertise("Mq", 3, 0)
    net.run(0.5)
    copies = [message for station in stations for message in station.messages(MobileAddressUpdate)]
    assert len(copies) == 8
    assert all(station.keys_of("R4") == ["Mq"] for station in stations if station.id != "R4")


def test_what_nobody_knows_is_told_once_and_dropped() -> None:
    net, stations = quiet()
    b = stations["B"]
    body = encode_control(LinkStateRequest("A"), ALL_ROUTERS)
    for to in ("amqp:/_topo/7/all/qdrouter", "my.q", "", "amqp:/_topo/0/all/qdrouter.xy", "//////"):
        for _ in range(2):
            b.engine.receive(from_neighbor(b, "A"), ControlMessage(to, "0/A", ("0/A",), body), net.now)
    assert b.events("warning") == ["control_message_to_nobody"] * 5
    assert sent_to(b) == []


def test_other_spellings_of_the_addresses_are_understood() -> None:
    net, stations = quiet()
    b = stations["B"]
    for to in ("_topo/0/B/qdrouter", "/_topo/all/B/qdrouter", "amqp:_topo/0/B/qdrouter", "amqp:/_local/qdrouter"):
        b.sent.clear()
        b.engine.receive(from_neighbor(b, "A"), message(LinkStateRequest("A"), to), net.now)
        assert [to for _, to, _ in sent_to(b)] == [router_address("A")]
