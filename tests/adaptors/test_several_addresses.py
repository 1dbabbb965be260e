"""Ports with several addresses: who is chosen by priority and by weight, and that nobody is whom nobody can reach."""

from __future__ import annotations

from math import inf

import pytest

from tests.adaptors.routers import Routers
from van.adaptors.amqp import no_log
from van.adaptors.service import ListeningService, PeerInfo, Service
from van.adaptors.several_addresses import PRIORITY, WEIGHTED, SeveralAddresses
from van.routing.adaptor import Adaptor


class Connection(Adaptor):
    """Knows the address that it was led to."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def next_deadline(self) -> float:
        return inf


class Leads(ListeningService):
    def accept(self, info: PeerInfo) -> Adaptor:
        return Connection(self.address)


class Receives(Service):
    def work(self) -> None:
        self.session.look()


class Scene:
    def __init__(self, strategy: str, **values: int) -> None:
        self.network = Routers()
        self.router = self.network.router("A").router
        self.port = SeveralAddresses(self.router, "port", strategy)
        self.looked = 0
        self.port.on_reachable = self.look
        self.receivers: dict[str, Receives] = {}
        for address, value in values.items():
            self.port.add(f"port/{address}", Leads(self.router, "port", address, no_log), value)

    def reachable(self) -> bool:
        return self.port.reachable

    def look(self) -> None:
        self.looked += 1

    def receive(self, *addresses: str) -> None:
        for address in addresses:
            receiver = self.receivers[address] = Receives(self.router, "receiver", address, no_log)
            receiver.session.attach_outgoing(address, 1)
        self.router.wake_touched()

    def gone(self, address: str) -> None:
        self.receivers.pop(address).stop()
        self.router.wake_touched()

    def led(self, count: int) -> str:
        """Where so many connections were led to; a dot for nowhere."""
        made = [self.port.accept(PeerInfo()) for _ in range(count)]
        return "".join(one.address if isinstance(one, Connection) else "." for one in made)


def test_the_highest_that_can_be_reached_has_all() -> None:
    scene = Scene(PRIORITY, a=3, b=1, c=2)
    assert not scene.reachable()
    assert scene.led(1) == "."
    scene.receive("b", "c")
    assert scene.reachable()
    assert scene.led(3) == "ccc"
    scene.receive("a")
    assert scene.led(2) == "aa"
    scene.gone("a")
    scene.gone("c")
    assert scene.led(2) == "bb"
    scene.gone("b")
    assert not scene.reachable()
    assert [member.opened for member in scene.port.members] == [2, 2, 3]


def test_of_equal_ones_each_has_its_turn() -> None:
    scene = Scene(PRIORITY, a=1, b=1, c=0)
    scene.receive("a", "b", "c")
    assert sorted(scene.led(6)) == list("aaabbb")


@pytest.mark.parametrize("rounds", [1, 10])
def test_each_has_its_share_by_weight(rounds: int) -> None:
    scene = Scene(WEIGHTED, a=4, b=2, c=1, d=0)
    scene.receive("a", "b", "d")
    assert scene.led(6) == "abaaba"
    scene.receive("c")
    assert sorted(scene.led(7 * rounds)) == sorted("aaaabbc" * rounds)


def test_whoever_asks_whether_the_port_is_wanted_hears_of_changes() -> None:
    scene = Scene(PRIORITY, a=1)
    looked = scene.looked
    scene.receive("a")
    assert scene.looked > looked
    member = scene.port.add("port/b", Leads(scene.router, "port", "b", no_log), 2)
    scene.receive("b")
    assert scene.led(1) == "b"
    assert scene.port.address == "a, b"
    looked = scene.looked
    scene.port.remove(member)
    assert scene.looked > looked
    assert scene.led(1) == "a"
    assert (scene.port.connections_opened, scene.port.octets_in, scene.port.octets_out) == (0, 0, 0)
    scene.port.stop()
    assert not scene.reachable()
