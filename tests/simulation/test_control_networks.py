"""Scenes of small networks of engines: what a fault does, and that the simulator repeats itself."""

from __future__ import annotations

import pytest

from tests.simulation.oracle import wrong_origins, wrong_paths
from van.routing.dialect.control import decode_control
from van.routing.link_state.messages import ControlMessage, LinkStateUpdate
from van.testing import ControlNetwork, End, full_mesh, grid, line, ring, star
from van.testing.topologies import Topology
from van.testing.virtual_time import NeverQuietError, VirtualTime


def quiet(topology: Topology, **options: float) -> ControlNetwork:
    """A network that has converged."""
    network = ControlNetwork(1, **options)  # type: ignore[arg-type]
    network.build(topology)
    for number, router in enumerate(list(network.hosts)):
        network.advertise(router, f"Mq.{number}")
    network.run_until(network.converged, 10.0)
    return network


@pytest.mark.parametrize(
    "topology", [line(6), ring(7), star(6), full_mesh(5), grid(4, 4)], ids=["line", "ring", "star", "mesh", "grid"]
)
def test_shapes_of_networks_converge_to_what_the_oracle_says(topology: Topology) -> None:
    network = quiet(topology)
    assert wrong_paths(network) == []
    assert wrong_origins(network) == []


def test_a_ring_is_complete_within_two_seconds() -> None:
    network = ControlNetwork(1)
    network.build(ring(10))
    assert network.run_until(network.converged, 2.0) <= 2.0


def test_of_two_connections_the_cheaper_one_carries_and_the_other_takes_over() -> None:
    network = quiet([("A", "B", 5), ("A", "B", 2), ("B", "C", 1)])
    cheap = next(edge for edge in network.edges if edge.cost == 2)
    assert network.stations["A"].engine.nodes["C"].cost == 3
    network.cut(cheap)
    network.run(2)
    assert network.differences() == []
    assert network.stations["A"].engine.nodes["C"].cost == 6
    assert wrong_paths(network) == []


def test_a_router_that_restarts_within_a_second_is_known_anew() -> None:
    network = quiet(line(4))
    before = network.stations["R1"]
    network.withdraw("R1", "Mq.1")
    network.advertise("R1", "Mnew")
    network.restart("R1", 0.1)
    network.run(5)
    assert network.stations["R1"] is not before
    assert network.differences() == []
    assert "Mnew" in network.stations["R3"].addresses["R1"]


def test_the_parts_of_a_parted_network_forget_each_other_and_meet_again() -> None:
    network = quiet(grid(4, 3))
    edges = network.part([f"R{number:02d}" for number in (0, 1, 4, 5)])
    assert len(network.parts()) == 2
    network.run(70)
    assert network.differences(forgotten=True) == []
    assert wrong_paths(network) == []
    for edge in edges:
        network.mend(edge)
    network.run(5)
    assert len(network.parts()) == 1
    assert network.differences() == []


@pytest.mark.parametrize("towards", [None, "R1", "R2"])
def test_a_silent_connection_is_given_up_within_the_hello_age(towards: str | None) -> None:
    network = quiet(ring(5))
    network.silence(network.edge("R1", "R2"), towards)
    # In one direction only, the end that still hears goes by its own hello age, from the other's last word on.
    network.run(4 if towards is None else 8)
    assert network.differences() == []
    network.run(20)
    assert network.differences() == []
    network.mend(network.edge("R1", "R2"))
    network.run(3)
    assert network.differences() == []
    assert network.stations["R1"].engine.nodes["R2"].cost == 1


def test_a_stopped_router_is_given_up_and_comes_back() -> None:
    network = quiet(ring(5))
    network.pause("R2")
    network.run(5)
    assert not network.stations["R0"].engine.nodes["R2"].reachable
    assert network.stations["R1"].engine.nodes["R3"].cost == 3
    network.resume("R2")
    network.run(10)
    assert network.differences() == []


def test_a_stopped_router_can_be_killed() -> None:
    network = quiet(ring(4))
    network.pause("R2")
    network.kill("R2")
    network.kill("R2")
    network.resume("R2")
    network.run(5)
    assert network.differences() == []
    assert "R2" not in network.stations


def test_the_same_seed_is_the_same_run() -> None:
    def run(seed: int) -> tuple[int, int, float]:
        network = ControlNetwork(seed, loss=0.1, drift=0.01, offset=100.0)
        network.build(grid(4, 3), within=2.0)
        network.run(20)
        return network.control_messages, network.control_octets, network.next_event()

    assert run(5) == run(5)
    assert run(5) != run(6)


def test_whole_paths_find_the_same_paths() -> None:
    network = ControlNetwork(3, whole_paths=True, loss=0.05)
    network.build(grid(5, 4))
    network.run(5)
    network.loss = 0.0
    network.run_until(network.converged, 40.0)
    assert wrong_paths(network) == []
    assert network.lost > 0


def test_differences_are_told() -> None:
    network = ControlNetwork(1)
    network.build(line(3))
    assert any("does not know R2" in difference for difference in network.differences())
    assert len(network.differences(2)) == 2
    network.run(3)
    network.hosts["R1"].addresses["Mnever-said"] = (3, 0)
    assert any("Mnever-said" in difference for difference in network.differences())
    network.kill("R2")
    assert any("takes R2 for reachable" in difference for difference in network.differences())


def test_an_edge_is_found_by_its_ends() -> None:
    network = ControlNetwork()
    edge = network.connect("A", "B", 3)
    assert network.edge("B", "A") is edge
    assert repr(edge) == "<A-B cost 3>"
    with pytest.raises(KeyError):
        network.edge("A", "A")


def test_what_never_comes_is_not_waited_for() -> None:
    time = VirtualTime()
    with pytest.raises(NeverQuietError, match="within 1"):
        time.run_until(lambda: False, 1.0)
    assert time.now == pytest.approx(1.0, abs=0.11)


def test_events_happen_in_the_order_of_their_time() -> None:
    time = VirtualTime()
    happened: list[str] = []
    time.after(0.2, lambda: happened.append("third"))

    def first() -> None:
        happened.append("first")
        time.after(0.00001, lambda: happened.append("second"))

    time.at(0.1, first)
    time.at(-1.0, lambda: happened.append("at once"))
    assert time.next_event() == 0.0
    time.run(0.15)
    assert happened == ["at once", "first", "second"]
    time.run(0.15)
    assert happened[-1] == "third"
    assert time.events == 4


class Deaf(ControlNetwork):
    """A network in which R0 does not hear the link states of R2 for a while."""

    deaf = False

    def send(self, end: End, message: ControlMessage) -> None:
        control = decode_control(message.body)
        lost = isinstance(control, LinkStateUpdate) and control.id == "R2" and end.station.id == "R0"
        if not (self.deaf and lost):
            super().send(end, message)


def test_a_missed_link_state_is_asked_for_where_the_own_path_goes_in_a_circle() -> None:
    network = Deaf(1)
    network.build(ring(6))
    network.cut(network.edge("R1", "R2"))
    network.run(40)
    assert network.stations["R0"].engine.nodes["R2"].next_hop == "R5"
    network.deaf = True
    network.mend(network.edge("R1", "R2"))
    network.run(1)
    network.deaf = False
    # R0 would ask by way of R5, which knows better and sends everything for R2 by way of R0.
    assert network.stations["R5"].engine.nodes["R2"].next_hop == "R0"
    network.run_until(network.converged, 35.0)
