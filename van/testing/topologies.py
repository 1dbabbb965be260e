"""Shapes of networks: who is joined to whom, and at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

Topology = list[tuple[str, str, int]]
"""Connections: the router that connects, the one that accepts, the cost."""


def names(count: int) -> list[str]:
    """The ids of so many routers, in the order of their numbers also when sorted as text."""
    width = len(str(max(count - 1, 0)))
    return [f"R{number:0{width}d}" for number in range(count)]


def line(count: int, cost: int = 1) -> Topology:
    """One after the other."""
    return [(a, b, cost) for a, b in pairwise(names(count))]


def ring(count: int, cost: int = 1) -> Topology:
    """A line whose ends meet; at least three routers."""
    ids = names(count)
    return [*line(count, cost), (ids[-1], ids[0], cost)]


def star(count: int, cost: int = 1) -> Topology:
    """All joined to the first one."""
    ids = names(count)
    return [(leaf, ids[0], cost) for leaf in ids[1:]]


def full_mesh(count: int, cost: int = 1) -> Topology:
    """Everybody joined to everybody."""
    ids = names(count)
    return [(a, b, cost) for number, a in enumerate(ids) for b in ids[number + 1 :]]


def grid(width: int, height: int, cost: int = 1) -> Topology:
    """Rows and columns: many paths of equal cost."""
    ids = names(width * height)
    rows = [ids[row * width : (row + 1) * width] for row in range(height)]
    across = [(a, b, cost) for row in rows for a, b in pairwise(row)]
    return across + [(a, b, cost) for upper, lower in pairwise(rows) for a, b in zip(upper, lower, strict=True)]


def random_regular(count: int, degree: int, random: Random, costs: Sequence[int] = (1,)) -> Topology:
    """Connected, with about `degree` connections at every router, an even number: that many halves of random rings.

    Where two rings join the same routers, they have one connection less.
    """
    ids = names(count)
    joined: dict[tuple[str, str], int] = {}
    for _ in range(degree // 2):
        random.shuffle(ids)
        for a, b in pairwise([*ids, ids[0]]):
            joined.setdefault((min(a, b), max(a, b)), random.choice(costs))
    return [(a, b, cost) for (a, b), cost in joined.items() if a != b]


def random_network(count: int, degree: float, random: Random, costs: Sequence[int] = (1,)) -> Topology:
    """Connected, with an average of `degree` connections at a router: a random tree, and random chords."""
    ids = names(count)
    joined: dict[tuple[str, str], int] = {}
    for number in range(1, count):
        joined[ids[random.randrange(number)], ids[number]] = random.choice(costs)
    wanted = min(int(count * degree / 2), count * (count - 1) // 2)
    while len(joined) < wanted:
        a, b = sorted(random.sample(ids, 2))
        joined.setdefault((a, b), random.choice(costs))
    return [(a, b, cost) if random.random() < 0.5 else (b, a, cost) for (a, b), cost in joined.items()]
