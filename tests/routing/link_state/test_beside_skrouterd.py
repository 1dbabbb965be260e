"""What we do because skrouterd, beside us, would otherwise not hear of an address, or only seconds later."""

from __future__ import annotations

import pytest

from tests.routing.link_state.network import Net, Station
from tests.routing.link_state.test_flooding import from_neighbor, message
from van.routing.dialect.control import ALL_MOBILE, ALL_ROUTERS, HELLO_ADDRESS, decode_control, router_address
from van.routing.link_state.engine import NEW_LIFE_SETTLES
from van.routing.link_state.messages import (
    Hello,
    LinkStateUpdate,
    MobileAddress,
    MobileAddressUpdate,
    RouterAdvertisement,
)


def line() -> tuple[Net, Station, Station]:
    """A, the router under test M, and B, which have been there for long; returned are M and B.

    What A says from now on, the scene says.
    """
    net = Net()
    a, m, b = net.line("A", "M", "B")
    a.engine.advertise("Mold", 3, 0)
    b.engine.advertise("Mb", 3, 0)
    net.run(40)
    a.paused = True
    return net, m, b


def test_addresses_of_a_restarted_router_are_passed_on_behind_the_news_of_its_restart() -> None:
    """skrouterd hears of both on different threads: it would take the addresses, and then forget them as old ones."""
    net, m, b = line()
    number = from_neighbor(m, "A")
    started = net.now
    m.engine.receive(number, message(RouterAdvertisement("A", 2, 0, 0), ALL_ROUTERS), net.now)
    update = MobileAddressUpdate("A", 1, add=[MobileAddress("Mnew", 3, 0)])
    m.engine.receive(number, message(update, ALL_MOBILE), net.now)
    m.engine.receive(number, message(RouterAdvertisement("A", 2, 0, 1), ALL_ROUTERS), net.now)
    net.run(0.2)
    to_b = [
        (when - started, type(decode_control(sent.body)))
        for when, neighbor, sent in m.sent
        if when >= started and neighbor == from_neighbor(m, "B") and sent.to in {ALL_ROUTERS, ALL_MOBILE}
    ]
    to_b = [(when, kind) for when, kind in to_b if kind is not LinkStateUpdate]
    assert [kind for _, kind in to_b] == [RouterAdvertisement, RouterAdvertisement, MobileAddressUpdate]
    assert to_b[1][0] == 0
    assert to_b[2][0] == pytest.approx(NEW_LIFE_SETTLES)
    assert b.keys_of("A") == ["Mnew"]


def test_addresses_that_change_later_are_passed_on_at_once() -> None:
    net, m, _ = line()
    sequence = m.engine.nodes["A"].mobile_sequence
    update = MobileAddressUpdate("A", sequence + 1, add=[MobileAddress("Mnew", 3, 0)])
    started = net.now
    m.engine.receive(from_neighbor(m, "A"), message(update, ALL_MOBILE), net.now)
    assert len(m.messages(MobileAddressUpdate, started)) == 1


def test_addresses_are_passed_on_in_order_when_the_first_had_to_wait() -> None:
    net, m, b = line()
    number = from_neighbor(m, "A")
    m.engine.receive(number, message(RouterAdvertisement("A", 2, 0, 0), ALL_ROUTERS), net.now)
    for sequence in range(1, 6):
        update = MobileAddressUpdate("A", sequence, add=[MobileAddress(f"M{sequence}", 3, 0)])
        m.engine.receive(number, message(update, ALL_MOBILE), net.now)
        net.run(0.015)
    started = net.now
    net.run(0.1)
    assert b.keys_of("A") == ["M1", "M2", "M3", "M4", "M5"]
    assert not [sent for sent in b.messages(MobileAddressUpdate, started) if sent.ingress == "0/B"]


def test_a_new_neighbour_hears_at_once_who_has_addresses() -> None:
    """skrouterd asks for addresses when an advertisement names them; each router's own may be seconds away."""
    net, m, _ = line()
    joined = net.add("C")
    started = net.now
    net.join(m, joined)
    net.run(0.1)
    to_c = [
        decode_control(sent.body)
        for when, neighbor, sent in m.sent
        if when >= started and neighbor == from_neighbor(m, "C") and sent.to == router_address("C")
    ]
    told = {control.id: control.mobile_sequence for control in to_c if isinstance(control, RouterAdvertisement)}
    assert told == {name: m.engine.nodes[name].mobile_sequence for name in ("A", "B")}
    # The link state comes first: an advertisement that is ahead of it would be asked about.
    order = [type(control) for control in to_c if control.id == "B" and not isinstance(control, Hello)]
    assert order == [LinkStateUpdate, RouterAdvertisement]


NEWCOMER = 1_000_000
"""The number of a connection with nobody at its other end but the scene."""


def triangle_with_a_newcomer() -> tuple[Net, Station]:
    """B and D, which have known S for a while, as S comes back to B; returned is B."""
    net = Net()
    b, s, d = net.line("B", "S", "D")
    net.join(b, d)
    b.engine.advertise("Mb", 3, 0)
    net.run(40)
    net.kill(s)
    net.run(5)
    assert b.reachable() == ["D"]
    b.sent.clear()
    b.engine.neighbor_up(NEWCOMER, "S", 1, net.now)
    return net, b


def test_a_router_that_had_other_ways_is_told_alone_and_first() -> None:
    """It is to know its ways before anything takes them; skrouterd works them out once a second."""
    net, b = triangle_with_a_newcomer()
    net.run(0.5)
    assert "S" not in b.reachable()
    told = [decode_control(sent.body) for _, neighbor, sent in b.sent if neighbor == NEWCOMER]
    states = [control for control in told if isinstance(control, LinkStateUpdate)]
    assert {state.id: state.peers for state in states if state.id != "S"} == {"B": {"D": 1, "S": 1}, "D": {"B": 1}}
    assert any(isinstance(control, RouterAdvertisement) and control.id == "B" for control in told)
    to_others = [decode_control(sent.body) for _, neighbor, sent in b.sent if neighbor != NEWCOMER]
    assert not [control for control in to_others if isinstance(control, LinkStateUpdate)]


def test_it_counts_when_its_hello_lists_us() -> None:
    net, b = triangle_with_a_newcomer()
    net.run(0.5)
    b.engine.receive(NEWCOMER, message(Hello("S", 2, ("B",)), HELLO_ADDRESS), net.now)
    net.run(0.2)
    assert "S" in b.reachable()
    flooded = [decode_control(sent.body) for sent in b.messages(LinkStateUpdate) if sent.to == ALL_ROUTERS]
    assert {"D": 1, "S": 1} in [state.peers for state in flooded if isinstance(state, LinkStateUpdate)]
    assert "neighbor_back" not in b.events("info")


def test_a_router_at_the_end_of_its_way_counts_at_once() -> None:
    """Nothing leads over it that could go wrong, and everybody else hears of it a second earlier."""
    net = Net()
    b, _ = net.line("B", "D")
    net.run(40)
    b.engine.neighbor_up(NEWCOMER, "S", 1, net.now)
    net.run(0.2)
    assert b.reachable() == ["D", "S"]
