"""What the engines of a network should have computed, by somebody else: networkx for paths, brute force for origins."""

from __future__ import annotations

from random import Random

import networkx as nx

from van.testing import ControlNetwork

Graph = dict[str, dict[str, int]]


def wrong_paths(network: ControlNetwork) -> list[str]:
    """Costs that are not the lowest, and next hops that are not on a path of that cost.

    Costs are positive, so a next hop on a shortest path is nearer to the destination: no path goes in a circle.
    """
    graph = network.graph()
    oracle = nx.Graph()
    oracle.add_nodes_from(graph)
    oracle.add_weighted_edges_from((a, b, cost) for a, peers in graph.items() for b, cost in peers.items())
    distances: dict[str, dict[str, int]] = dict(nx.all_pairs_dijkstra_path_length(oracle))
    wrong = []
    for router, station in network.stations.items():
        near = distances[router]
        engine = station.engine
        ways = {end.number: end for end in station.ends.values()}
        for destination, node in engine.nodes.items():
            if destination not in near:
                if node.reachable or engine.connection_of(destination) is not None:
                    wrong.append(f"{router} has a way to {destination}, and there is none")
                continue
            if node.cost != near[destination]:
                wrong.append(f"{router} has cost {node.cost} to {destination}, networkx {near[destination]}")
            hop = node.next_hop
            if hop not in graph[router] or graph[router][hop] + distances[hop][destination] != near[destination]:
                wrong.append(f"{router} has next hop {hop} to {destination}, which is on no shortest path")
                continue
            number = engine.connection_of(destination)
            end = ways.get(number) if number is not None else None
            if end is None or not end.open or end.peer.station.id != hop or end.edge.cost != graph[router][hop]:
                wrong.append(f"{router} has connection {number} to {destination}, which is not its best one to {hop}")
    return wrong


def shortest_path_tree(graph: Graph, root: str) -> dict[str, str]:
    """The router before each one on its path from `root`, as all routers must break ties alike.

    Taken next is the lowest cost, of several the lowest router; a path is replaced by a cheaper one only.
    """
    before: dict[str, str] = {}
    cost = {root: 0}
    left = set(graph)
    while near := [router for router in left if router in cost]:
        nearest = min(near, key=lambda router: (cost[router], router))
        left.remove(nearest)
        for peer, step in graph[nearest].items():
            if peer in left and (peer not in cost or cost[nearest] + step < cost[peer]):
                cost[peer] = cost[nearest] + step
                before[peer] = nearest
    return before


def path(before: dict[str, str], destination: str) -> list[str]:
    """From the tree's root to the destination, both included; empty when there is no path."""
    found = [destination]
    while found[-1] in before:
        found.append(before[found[-1]])
    return found[::-1] if len(found) > 1 else []


def wrong_origins(network: ControlNetwork, routers: int | None = None, random: Random | None = None) -> list[str]:
    """Valid origins that are not valid, or valid ones that are missing, and wrong radii, at all routers or at some."""
    graph = network.graph()
    trees = {root: shortest_path_tree(graph, root) for root in graph}
    paths = {(origin, to): path(trees[origin], to) for origin in graph for to in graph}
    asked = sorted(network.stations)
    if routers is not None and random is not None and len(asked) > routers:
        asked = random.sample(asked, routers)
    wrong = []
    for router in asked:
        engine = network.stations[router].engine
        for to in graph:
            if to == router or not paths[router, to]:
                continue
            expected = {origin for origin in graph if origin != to and router in paths[origin, to]} | {router}
            found = {origin for origin in graph if origin != to and engine.valid_origin(to, origin)}
            if found != expected:
                wrong.append(f"{router} has valid origins {sorted(found)} for {to} instead of {sorted(expected)}")
            listed = set(engine.valid_origins(to)) | {router}
            if listed - {to} != expected:
                wrong.append(f"{router} lists valid origins {sorted(listed)} for {to} instead of {sorted(expected)}")
        radius = max((len(paths[router, to]) - 1 for to in graph if paths[router, to]), default=0)
        if engine.radius != radius:
            wrong.append(f"{router} has radius {engine.radius} instead of {radius}")
    return wrong
