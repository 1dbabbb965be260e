"""Shortest paths against networkx, and ties and valid origins against the peers' own way of finding them."""

from __future__ import annotations

from random import Random

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.routing.link_state.network import Net, Station
from tests.routing.link_state.test_flooding import message
from van.routing.dialect.control import ALL_ROUTERS
from van.routing.link_state.engine import LinkStateEngine
from van.routing.link_state.messages import LinkStateUpdate
from van.routing.link_state.spf import Graph, Topology, Tree, TreeCache, behind, next_hops, radius, shortest_paths


def random_graph(seed: int, routers: int = 24, most: int = 3) -> Graph:
    """A connected graph with many equal costs."""
    random = Random(seed)
    graph: Graph = {f"R{number:02d}": {} for number in range(routers)}
    ids = list(graph)

    def join(a: str, b: str) -> None:
        graph[a][b] = graph[b][a] = random.randint(1, most)

    for number in range(1, routers):
        join(ids[number], random.choice(ids[:number]))
    for _ in range(routers):
        join(*random.sample(ids, 2))
    return graph


def tree_of(states: Graph, root: str, own: str = "") -> Tree:
    return shortest_paths(Topology(states, own), root)


def peers_tree(graph: Graph, root: str) -> dict[str, str]:
    """The tree as the peers compute it: routers in a list that is kept in the order of (cost, id), step by step."""
    cost: dict[str, int | None] = dict.fromkeys(graph)
    cost[root] = 0
    previous: dict[str, str] = {}
    unresolved = sorted(graph, key=lambda router: (router != root, router))
    while unresolved:
        unresolved.sort(key=lambda router: (cost[router] is None, cost[router] or 0, router))
        here = unresolved.pop(0)
        at = cost[here]
        if at is None:
            break
        for peer, link_cost in graph[here].items():
            known = cost[peer]
            if peer in unresolved and (known is None or at + link_cost < known):
                cost[peer] = at + link_cost
                previous[peer] = here
    return previous


@pytest.mark.parametrize("seed", range(20))
def test_costs_are_those_of_networkx(seed: int) -> None:
    graph = random_graph(seed)
    oracle = nx.Graph()
    for router, peers in graph.items():
        for peer, cost in peers.items():
            oracle.add_edge(router, peer, weight=cost)
    for root in graph:
        assert tree_of(graph, root).cost == nx.single_source_dijkstra_path_length(oracle, root)


@pytest.mark.parametrize("seed", range(20))
def test_ties_are_broken_as_the_peers_break_them(seed: int) -> None:
    graph = random_graph(seed, most=2)
    for root in graph:
        assert tree_of(graph, root).previous == peers_tree(graph, root)


@pytest.mark.parametrize("seed", range(5))
def test_valid_origins_are_those_of_all_trees(seed: int) -> None:
    graph = random_graph(seed, routers=14, most=2)
    for own in graph:
        for origin in graph:
            previous = peers_tree(graph, origin)
            on_the_way = set()
            for destination in graph:
                if destination in (own, origin):
                    continue
                before = destination
                while before not in (origin, own):
                    before = previous[before]
                if before == own:
                    on_the_way.add(destination)
            assert behind(tree_of(graph, origin), own) - {origin} == on_the_way


@pytest.mark.parametrize("seed", range(5))
def test_next_hops_of_routers_on_a_path_go_on_along_it(seed: int) -> None:
    graph = random_graph(seed, most=2)
    trees = {root: tree_of(graph, root) for root in graph}
    hops = {root: next_hops(tree) for root, tree in trees.items()}
    for origin in graph:
        for destination in graph:
            here, cost = origin, 0
            while here != destination:
                there = hops[here][destination]
                assert trees[origin].previous[there] == here, "ties are the same wherever one stands"
                cost += graph[here][there]
                here = there
            assert cost == trees[origin].cost[destination]


def test_the_radius_is_counted_in_links() -> None:
    graph: Graph = {"A": {"B": 9}, "B": {"A": 9, "C": 1, "D": 1}, "C": {"B": 1}, "D": {"B": 1}}
    assert radius(tree_of(graph, "A")) == 2
    assert radius(tree_of(graph, "B")) == 1
    assert radius(tree_of({}, "A")) == 0


def test_what_cannot_be_reached_has_no_path() -> None:
    tree = tree_of({"A": {"B": 1}, "B": {"A": 1}, "C": {"D": 1}, "D": {"C": 1}}, "A")
    assert tree.order == ["A", "B"]
    assert behind(tree, "C") == set()


def test_a_link_counts_when_both_ends_name_it() -> None:
    states: Graph = {"A": {"B": 1}, "B": {"A": 1, "C": 1}, "C": {}}
    assert tree_of(states, "A").order == ["A", "B"]


def test_our_own_word_for_our_own_links_is_enough() -> None:
    states: Graph = {"A": {"B": 1}, "B": {}}
    assert tree_of(states, "A", own="A").order == ["A", "B"]
    assert tree_of(states, "A", own="B").order == ["A"]


def test_a_router_that_has_not_said_anything_gets_a_way_back_to_the_first_that_names_it() -> None:
    states: Graph = {"A": {"B": 1, "X": 4}, "B": {"A": 1, "X": 2}}
    assert tree_of(states, "B").cost == {"B": 0, "A": 1, "X": 2}
    assert tree_of(states, "X").cost == {"X": 0, "A": 1, "B": 2}


@given(
    st.dictionaries(
        st.sampled_from("ABCDEFG"), st.dictionaries(st.sampled_from("ABCDEFGH"), st.integers(1, 3), max_size=5)
    ),
    st.sampled_from("ABCDEFG"),
)
def test_one_sided_and_unknown_links_never_break_a_tree(states: Graph, own: str) -> None:
    states.setdefault(own, {})
    tree = tree_of(states, own, own=own)
    assert tree.order[0] == own
    assert set(tree.previous) == set(tree.order[1:]) == set(next_hops(tree))
    assert [tree.cost[router] for router in tree.order] == sorted(tree.cost.values())


@pytest.mark.parametrize("seed", range(3))
def test_engines_agree_on_paths_and_valid_origins(seed: int) -> None:
    graph = random_graph(seed, routers=12, most=2)
    net = Net()
    stations = {router: net.add(router) for router in graph}
    for router, peers in graph.items():
        for peer, cost in peers.items():
            if router < peer:
                net.join(stations[router], stations[peer], cost)
    net.run(3)
    trees = {root: peers_tree(graph, root) for root in graph}
    for own, station in stations.items():
        engine = station.engine
        for node in engine.nodes.values():
            here = node.id
            while trees[own][here] != own:
                here = trees[own][here]
            assert node.next_hop == here
            assert engine.connection_of(node.id) == engine.neighbors.carriers[here]
            expected = {own}
            for origin in graph:
                here = node.id
                while here not in (origin, own):
                    here = trees[origin][here]
                if here == own:
                    expected.add(origin)
            expected.discard(node.id)
            assert set(engine.valid_origins(node.id)) - {node.id} == expected
            assert engine.valid_origin(node.id, own)
            assert not engine.valid_origin(node.id, "unknown")


def test_the_version_changes_with_the_paths_only() -> None:
    net = Net()
    stations = net.ring(4)
    net.run(30)
    versions = [station.engine.version for station in stations]
    net.run(30)
    assert [station.engine.version for station in stations] == versions
    net.cut(next(iter(stations[0].wires.values())))
    net.run(0.2)
    assert all(station.engine.version > version for station, version in zip(stations, versions, strict=True))


def test_a_link_that_only_one_end_counts_is_not_in_the_trees_that_others_share() -> None:
    """B does not list A yet: A counts the link, C does not. Each finds what it would find without the other."""

    def found(trees: TreeCache | None) -> list[list[str]]:
        net = Net()
        views = []
        for own, neighbor in (("A", "B"), ("C", "B")):
            engine = LinkStateEngine(own, Station(net, own), instance=1, trees=trees)
            engine.neighbor_up(7, neighbor, 1, 0.0)
            for router_id, peers in (("A", {"B": 1}), ("B", {"C": 1}), ("C", {"B": 1})):
                if router_id != own:
                    update = LinkStateUpdate(router_id, 1, 1, peers)
                    engine.receive(7, message(update, ALL_ROUTERS, f"0/{router_id}", "0/B"), 0.1)
            engine.handle_deadline(0.5)
            views.append(engine)
        return [engine.valid_origins(destination) for engine in views for destination in "ABC"]

    alone = found(None)
    assert found(TreeCache()) == alone
    assert alone[1:3] == [["A"], ["A"]]
