from __future__ import annotations

from collections.abc import Iterable

from tests.routing.link_state.network import Net, Station
from tests.routing.link_state.test_flooding import from_neighbor, message
from van.routing.dialect.control import ALL_MOBILE, ALL_ROUTERS, decode_control, router_mobile_address
from van.routing.link_state.messages import (
    MobileAddress,
    MobileAddressRequest,
    MobileAddressUpdate,
    RouterAdvertisement,
)
from van.routing.link_state.mobile import SLICE


def addresses(keys: Iterable[str]) -> list[MobileAddress]:
    return [MobileAddress(key, 3, 0) for key in keys]


def pair() -> tuple[Net, Station, Station]:
    net = Net()
    a, b = net.line("A", "B")
    net.run(10)
    return net, a, b


def updates(station: Station, since: float = 0.0) -> list[MobileAddressUpdate]:
    decoded = [decode_control(sent.body) for sent in station.messages(MobileAddressUpdate, since)]
    return [update for update in decoded if isinstance(update, MobileAddressUpdate)]


def test_the_first_announcement_is_all_and_the_next_are_changes_each_with_an_advertisement_behind_it() -> None:
    net, a, b = pair()
    a.engine.advertise("Mone", 3, 0)
    net.run(0.5)
    a.engine.advertise("Mtwo", 2, 5, "mesh")
    a.engine.withdraw("Mone")
    net.run(0.5)
    first, second = updates(a)
    assert first.exist is not None
    assert (list(first.exist), first.mobile_sequence) == ([MobileAddress("Mone", 3, 0)], 1)
    assert second.exist is None
    assert list(second.add) == [MobileAddress("Mtwo", 2, 5, "mesh")]
    assert [address.key for address in second.delete] == ["Mone"]
    kinds = [type(decode_control(sent.body)) for when, _, sent in a.sent if when > 9.9]
    for index, kind in enumerate(kinds):
        if kind is MobileAddressUpdate:
            assert kinds[index + 1] is RouterAdvertisement
    assert b.addresses["A"] == {"Mtwo": MobileAddress("Mtwo", 2, 5, "mesh")}


def test_changes_are_announced_together_and_a_few_times_a_second() -> None:
    net, a, b = pair()
    for number in range(100):
        a.engine.advertise(f"M{number}", 3, 0)
        net.run(0.01)
    net.run(0.5)
    assert len(updates(a)) <= 6
    assert len(b.keys_of("A")) == 100


def test_what_comes_and_goes_between_announcements_is_not_announced() -> None:
    net, a, _ = pair()
    a.engine.advertise("Mone", 3, 0)
    net.run(1)
    a.engine.advertise("Mtwo", 3, 0)
    a.engine.withdraw("Mtwo")
    a.engine.withdraw("Mone")
    a.engine.advertise("Mone", 3, 0)
    a.engine.withdraw("Mnever")
    net.run(1)
    assert len(updates(a)) == 1


def test_another_number_of_senders_is_announced() -> None:
    net, a, b = pair()
    a.engine.advertise("Mone", 3, 0)
    net.run(1)
    a.engine.advertise("Mone", 3, 2)
    net.run(1)
    assert b.addresses["A"]["Mone"].in_links == 2


def test_without_neighbors_nothing_is_announced_until_there_are_some() -> None:
    net = Net()
    a, b = net.add("A"), net.add("B")
    a.engine.advertise("Mone", 3, 0)
    net.run(60)
    assert a.engine.mobile_sequence == 0
    net.join(a, b)
    net.run(0.5)
    assert b.keys_of("A") == ["Mone"]


def test_a_lost_update_is_asked_for_when_the_advertisement_says_so() -> None:
    net, a, b = pair()
    a.engine.advertise("Mone", 3, 0)
    net.run(1)
    wire = next(iter(a.wires.values()))
    wire.loss = lambda sender, sent: sent.to == ALL_MOBILE
    a.engine.advertise("Mtwo", 3, 0)
    net.run(0.5)
    assert b.keys_of("A") == ["Mone", "Mtwo"]
    assert len(b.messages(MobileAddressRequest, since=11)) == 1


def test_a_gap_is_asked_for_at_once() -> None:
    net, a, b = pair()
    a.engine.advertise("Mone", 3, 0)
    net.run(1)
    wire = next(iter(a.wires.values()))
    wire.loss = lambda sender, sent: sender is a
    a.engine.advertise("Mtwo", 3, 0)
    net.run(0.3)
    wire.loss = lambda _, __: False
    a.engine.advertise("Mthree", 3, 0)
    start = net.now
    net.run_until(lambda: b.keys_of("A") == ["Mone", "Mthree", "Mtwo"], 0.05)
    assert len(b.messages(MobileAddressRequest, since=start)) == 1


def test_a_request_that_gets_lost_is_repeated_every_second() -> None:
    net, a, b = pair()
    wire = next(iter(a.wires.values()))
    wire.loss = lambda sender, sent: isinstance(
        decode_control(sent.body), (MobileAddressRequest, MobileAddressUpdate)
    )
    a.engine.advertise("Mone", 3, 0)
    net.run(3.5)
    assert 3 <= len(b.messages(MobileAddressRequest, since=10)) <= 5
    wire.loss = lambda _, __: False
    net.run(1)
    assert b.keys_of("A") == ["Mone"]


def test_an_update_from_an_unknown_router_is_kept_until_there_is_a_way_to_it() -> None:
    net, a, b = pair()
    number = from_neighbor(b, "A")
    early = message(MobileAddressUpdate("C", 1, exist=addresses(["Mq"])), router_mobile_address("B"), "0/C", "0/A")
    b.engine.receive(number, early, net.now)
    net.run(0.5)
    assert b.keys_of("C") == []
    net.join(a, net.add("C"))
    net.run(0.1)
    assert b.keys_of("C") == ["Mq"]


def test_an_older_absolute_update_does_not_undo_a_newer_one() -> None:
    net, _, b = pair()
    number = from_neighbor(b, "A")
    for sequence, key in ((7, "Mnew"), (6, "Mold")):
        update = MobileAddressUpdate("A", sequence, exist=addresses([key]))
        b.engine.receive(number, message(update, router_mobile_address("B")), net.now)
    assert b.keys_of("A") == ["Mnew"]


def test_an_absolute_update_takes_away_what_it_does_not_list() -> None:
    net, _, b = pair()
    number = from_neighbor(b, "A")
    for sequence, keys in enumerate((["M1", "M2", "M3"], ["M2", "M4"]), 5):
        update = MobileAddressUpdate("A", sequence, exist=addresses(keys))
        b.engine.receive(number, message(update, router_mobile_address("B")), net.now)
    assert b.keys_of("A") == ["M2", "M4"]


def test_what_is_added_and_deleted_in_one_update_is_gone() -> None:
    net, _, b = pair()
    update = MobileAddressUpdate("A", 1, add=addresses(["M1", "M2"]), delete=addresses(["M2"]))
    b.engine.receive(from_neighbor(b, "A"), message(update, ALL_MOBILE), net.now)
    assert b.keys_of("A") == ["M1"]


def test_ten_thousand_addresses_come_in_slices_and_all_of_them() -> None:
    net = Net()
    a, b = net.add("A"), net.add("B")
    keys = [f"Maddress.{number}" for number in range(10_000)]
    for key in keys:
        a.engine.advertise(key, 3, 0)
    wire = net.join(a, b)
    net.run_until(lambda: len(b.addresses.get("A", ())) == 10_000, 0.5)
    assert max(added for _, added, _ in b.calls) == SLICE
    b.calls.clear()
    net.cut(wire)
    net.run(0.01)
    assert b.keys_of("A") == []
    assert [removed for _, _, removed in b.calls] == [SLICE] * (10_000 // SLICE)
    net.join(a, b)
    net.run(0.2)
    assert len(b.keys_of("A")) == 10_000
    for key in keys[::2]:
        a.engine.withdraw(key)
    net.run(0.5)
    assert b.keys_of("A") == sorted(keys[1::2])


def test_updates_wait_for_the_slices_of_the_one_before() -> None:
    net, _, b = pair()
    number = from_neighbor(b, "A")
    keys = [f"M{number}" for number in range(3 * SLICE)]
    b.engine.receive(number, message(MobileAddressUpdate("A", 1, exist=addresses(keys)), ALL_MOBILE), net.now)
    change = MobileAddressUpdate("A", 2, add=addresses(["Mlast"]), delete=addresses([keys[0]]))
    b.engine.receive(number, message(change, ALL_MOBILE), net.now)
    assert b.engine.nodes["A"].mobile_sequence == 0
    net.run(0.001)
    assert b.keys_of("A") == sorted([*keys[1:], "Mlast"])
    assert b.engine.nodes["A"].mobile_sequence == 2


def test_a_router_that_is_lost_in_the_middle_of_an_update_has_no_addresses() -> None:
    net, a, b = pair()
    keys = [f"M{number}" for number in range(3 * SLICE)]
    update = message(MobileAddressUpdate("A", 1, exist=addresses(keys)), ALL_MOBILE)
    b.engine.receive(from_neighbor(b, "A"), update, net.now)
    net.cut(next(iter(a.wires.values())))
    net.run(0.01)
    assert b.keys_of("A") == []


def test_a_malformed_entry_far_behind_spoils_the_update_and_nothing_else() -> None:
    net, a, b = pair()
    a.engine.advertise("Mone", 3, 0)
    net.run(1)
    whole = message(
        MobileAddressUpdate("A", 2, exist=addresses(f"Maddress.{number}" for number in range(2000))), ALL_MOBILE
    )
    where = whole.body.index(b"Maddress.1999")
    whole.body = whole.body[:where] + b"\xff" + whole.body[where + 1 :]
    b.engine.receive(from_neighbor(b, "A"), whole, net.now)
    net.run(0.01)
    assert b.keys_of("A") == ["Mone"]
    assert "malformed_addresses" in b.events("warning")
    a.engine.advertise("Mtwo", 3, 0)
    net.run(1)
    assert b.keys_of("A") == ["Mone", "Mtwo"]


def test_requests_are_answered_with_what_was_announced_and_only_if_it_is_newer() -> None:
    net, a, _ = pair()
    a.engine.advertise("Mone", 3, 0)
    net.run(1)
    a.engine.advertise("Mtwo", 3, 0)
    number = from_neighbor(a, "B")
    for have in (0, 1, 5):
        a.engine.receive(number, message(MobileAddressRequest("B", have), router_mobile_address("A")), net.now)
    (answer,) = updates(a, since=net.now)
    assert answer.exist is not None
    assert [address.key for address in answer.exist] == ["Mone"]


def test_an_advertisement_that_overtakes_its_update_does_not_draw_a_request() -> None:
    net, _, b = pair()
    number = from_neighbor(b, "A")
    node = b.engine.nodes["A"]
    ahead = RouterAdvertisement("A", 1, node.link_state_sequence, 1)
    b.engine.receive(number, message(ahead, ALL_ROUTERS), net.now)
    net.run(0.05)
    b.engine.receive(number, message(MobileAddressUpdate("A", 1, exist=addresses(["Mq"])), ALL_MOBILE), net.now)
    net.run(2)
    assert b.messages(MobileAddressRequest, since=9.9) == []
