from __future__ import annotations

from tests.routing.link_state.network import Net
from tests.routing.link_state.test_flooding import from_neighbor, message
from van.routing.dialect.control import ALL_ROUTERS
from van.routing.link_state.messages import LinkStateUpdate, RouterAdvertisement


def test_a_dead_router_is_forgotten_when_its_last_advertisement_is_a_minute_old() -> None:
    net = Net()
    _, b, c = net.line("A", "B", "C")
    b.engine.advertise("Mq", 3, 0)
    net.run(40)
    net.kill(c)
    node = b.engine.nodes["C"]
    due = node.last_seen + 60
    net.run(due - 0.001 - net.now)
    assert b.engine.nodes["C"].link_state_sequence
    net.run(0.002)
    assert not b.engine.nodes["C"].link_state_sequence
    net.run(3.1)
    assert list(b.engine.nodes) == ["A"]


def test_a_link_state_that_nobody_renews_is_worth_nothing_after_a_minute() -> None:
    net = Net()
    a, b = net.line("A", "B")
    net.run(5)
    number = from_neighbor(b, "A")
    peers = {"B": 1, "far": 1}
    b.engine.receive(number, message(LinkStateUpdate("A", 1, 100, peers), ALL_ROUTERS), net.now)
    b.engine.receive(number, message(LinkStateUpdate("far", 1, 1, {"A": 1}), ALL_ROUTERS, "0/far", "0/A"), net.now)
    # A itself knows better, but nothing of that gets through.
    a.wires[min(a.wires)].loss = lambda sender, sent: sender is a and sent.to == ALL_ROUTERS
    net.run(0.1)
    assert b.reachable() == ["A", "far"]
    net.run(59)
    assert b.reachable() == ["A", "far"]
    net.run(2)
    assert b.reachable() == ["A"], "only HELLO still says that A is there"


def test_advertisements_keep_a_router_alive_for_hours() -> None:
    net = Net()
    stations = net.ring(4)
    net.run(7200)
    versions = [station.engine.version for station in stations]
    net.run(3600)
    assert [station.engine.version for station in stations] == versions
    assert all(len(station.reachable()) == 3 for station in stations)


def test_a_router_that_advertised_and_never_showed_more_is_forgotten() -> None:
    net = Net()
    _, b = net.line("A", "B")
    net.run(5)
    b.engine.receive(
        from_neighbor(b, "A"), message(RouterAdvertisement("ghost", 1, 1, 1), ALL_ROUTERS, "0/ghost", "0/A"), net.now
    )
    assert "ghost" in b.engine.nodes
    net.run(10)
    assert "ghost" not in b.engine.nodes


def test_addresses_come_back_with_the_router_as_long_as_they_are_the_same() -> None:
    net = Net()
    a, b, c = net.line("A", "B", "C")
    c.engine.advertise("Mq", 3, 0)
    net.run(30)
    wire = next(wire for wire in b.wires.values() if wire.other(b)[0] is c)
    net.cut(wire)
    net.run(0.05)
    assert (a.keys_of("C"), b.keys_of("C")) == ([], [])
    assert a.engine.nodes["C"].addresses.keys() == {"Mq"}
    net.run(5)
    net.join(b, c)
    net.run(0.1)
    assert (a.keys_of("C"), b.keys_of("C")) == (["Mq"], ["Mq"])
