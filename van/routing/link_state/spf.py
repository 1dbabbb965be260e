"""Shortest paths: pure functions of a graph.

Link states are a dict of router ids to their neighbours and what each of these links costs, at least 1. Ties are broken
as the peers break them (Dijkstra that takes the routers in the order of cost and then of id, and lets a later one
replace an earlier one only where it is cheaper): all routers of a network must find the same trees, or multicast
deliveries are lost or doubled.
"""

from __future__ import annotations

from heapq import heappop, heappush

Graph = dict[str, dict[str, int]]


class Tree:
    """The shortest paths from one root.

    `order` are the routers that can be reached, the root first, each behind the one before it on its path, which is
    its `previous`; `cost` is that of the whole path.
    """

    __slots__ = ("cost", "order", "previous", "root")

    def __init__(self, root: str, order: list[str], previous: dict[str, str], cost: dict[str, int]) -> None:
        self.root = root
        self.order = order
        self.previous = previous
        self.cost = cost


class Topology:
    """The link states of all routers, and which of their links paths may take.

    A link counts when both ends name it, so that one update is enough to take it away; a router whose state is not
    known yet cannot contradict, and gets a stand-in for its state as the peers make it: a way back to the first that
    names it. What the router `own_id` says of its own links is certain.
    """

    __slots__ = ("own_id", "stand_ins", "states")

    def __init__(self, states: Graph, own_id: str) -> None:
        self.states = states
        self.own_id = own_id
        self.stand_ins: dict[str, str] = {}
        known = states.keys()
        for router, peers in states.items():
            if not peers.keys() <= known:
                for peer in peers:
                    if peer not in states and router < self.stand_ins.get(peer, "\U0010ffff"):
                        self.stand_ins[peer] = router


def shortest_paths(topology: Topology, root: str) -> Tree:
    """Return the tree of the shortest paths from `root` to every router that can be reached.

    All routers at one cost are settled together, in the order of their ids: no link costs less than 1, so none of them
    can make another cheaper. That is a third of the time that a heap of routers takes.
    """
    states = topology.states
    stand_ins = topology.stand_ins
    own_id = topology.own_id
    cost = {root: 0}
    previous: dict[str, str] = {}
    order: list[str] = []
    levels: dict[int, list[str]] = {0: [root]}
    ahead = [0]
    while ahead:
        reached = heappop(ahead)
        level = levels.pop(reached)
        level.sort()
        for router in level:
            if cost[router] != reached:
                continue  # a cheaper path was found meanwhile
            order.append(router)
            links = states.get(router)
            if links is None:
                if router not in stand_ins:
                    continue
                links = {stand_ins[router]: 1}
            for neighbor, link_cost in links.items():
                total = reached + link_cost
                known = cost.get(neighbor)
                if known is None or total < known:
                    answer = states.get(neighbor)
                    if answer is not None and router not in answer and router != own_id and router in states:
                        continue
                    cost[neighbor] = total
                    previous[neighbor] = router
                    waiting = levels.get(total)
                    if waiting is None:
                        levels[total] = [neighbor]
                        heappush(ahead, total)
                    else:
                        waiting.append(neighbor)
    return Tree(root, order, previous, cost)


def next_hops(tree: Tree) -> dict[str, str]:
    """Return the first router on the path to each router of the tree but its root."""
    first: dict[str, str] = {}
    previous = tree.previous
    root = tree.root
    for router in tree.order[1:]:
        before = previous[router]
        first[router] = router if before == root else first[before]
    return first


def radius(tree: Tree) -> int:
    """Return the number of links on the longest path of the tree."""
    hops = {tree.root: 0}
    previous = tree.previous
    longest = 0
    for router in tree.order[1:]:
        count = hops[previous[router]] + 1
        hops[router] = count
        if count > longest:
            longest = count
    return longest


def behind(tree: Tree, router: str) -> set[str]:
    """Return the routers whose path leads over `router`, without itself: for them it has the root as valid origin."""
    found: set[str] = set()
    if router == tree.root:
        found.update(tree.order[1:])
        return found
    if router not in tree.previous:
        return found
    previous = tree.previous
    for candidate in tree.order[tree.order.index(router) + 1 :]:
        before = previous[candidate]
        if before == router or before in found:
            found.add(candidate)
    return found


class TreeCache:
    """Trees that several engines in one process share: a simulation of a thousand routers computes each tree once.

    A single router has no use for it, as it keeps what it needs of each tree; `None` stands for that.
    """

    __slots__ = ("_limit", "_trees")

    def __init__(self, limit: int = 2048) -> None:
        self._limit = limit
        self._trees: dict[tuple[int, str], Tree] = {}

    def find(self, digest: int, topology: Topology, root: str) -> Tree:
        """Return the tree of `root` in `topology`, which has this `digest`."""
        tree = self._trees.get((digest, root))
        if tree is None:
            tree = shortest_paths(topology, root)
            self.add(digest, tree)
        return tree

    def add(self, digest: int, tree: Tree) -> None:
        """Remember a tree; when there are too many, all others are forgotten."""
        if len(self._trees) >= self._limit:
            self._trees.clear()
        # Whoever asks for the tree of another wants to know who comes behind whom; costs are half of it.
        self._trees[digest, tree.root] = Tree(tree.root, tree.order, tree.previous, {})
