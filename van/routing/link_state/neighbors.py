"""Who is at the other end of our connections: HELLO, two-way check, and which connection carries.

What is known of routers further away is the database's matter, what is sent the engine's.
"""

from __future__ import annotations

from math import inf


class Neighbor:
    """One connection to another router.

    It is `established` from the moment its control links are there, or a HELLO lists us, until none such has come for
    the max age; then it is `silent`. `heard_until` is when its last HELLO is too old to be answered for in ours.
    """

    __slots__ = (
        "cost",
        "deadline",
        "established",
        "greeted_at",
        "heard_until",
        "node_id",
        "number",
        "router_id",
        "silent",
    )

    def __init__(self, number: int, router_id: str, cost: int, deadline: float, established: bool) -> None:
        self.number = number
        self.router_id = router_id
        self.node_id = "0/" + router_id
        self.cost = cost
        self.established = established
        self.silent = False
        self.deadline = deadline
        self.heard_until = deadline
        self.greeted_at = -inf


class NeighborTable:
    """All connections to other routers, and what follows from them for our own link state.

    `peers` are the neighbours with what it costs to reach them; `carriers` the connection that leads to each: of
    several the cheapest, then that with the lowest number; `flooded` are these, in order. Nobody is too late before
    `next_deadline`.
    """

    __slots__ = ("by_number", "carriers", "flooded", "max_age", "next_deadline", "peers")

    def __init__(self, max_age: float) -> None:
        self.max_age = max_age
        self.by_number: dict[int, Neighbor] = {}
        self.peers: dict[str, int] = {}
        self.carriers: dict[str, int] = {}
        self.flooded: list[Neighbor] = []
        self.next_deadline = inf

    def up(self, number: int, router_id: str, cost: int, now: float, trusted: bool = True) -> Neighbor:
        """A connection's control links are there.

        A neighbour that is trusted counts at once, and a HELLO must confirm it in time; otherwise a HELLO comes first.
        """
        neighbor = Neighbor(number, router_id, cost if cost > 0 else 1, now + self.max_age, trusted)
        self.by_number[number] = neighbor
        if trusted:
            self.next_deadline = min(self.next_deadline, neighbor.deadline)
            self._choose()
        return neighbor

    def down(self, number: int) -> Neighbor | None:
        """A connection is over."""
        neighbor = self.by_number.pop(number, None)
        if neighbor is not None:
            self._choose()
        return neighbor

    def hello(self, neighbor: Neighbor, lists_us: bool, now: float) -> bool:
        """A HELLO came from this neighbour. Return whether it counts from now on and did not before."""
        neighbor.heard_until = now + self.max_age
        if not lists_us:
            return False
        neighbor.deadline = now + self.max_age
        if neighbor.established:
            return False
        neighbor.established = True
        neighbor.silent = False
        self.next_deadline = min(self.next_deadline, neighbor.deadline)
        self._choose()
        return True

    def expire(self, now: float) -> list[Neighbor]:
        """Return the neighbours from which no HELLO that lists us came in time; they do not count any more."""
        late: list[Neighbor] = []
        deadline = inf
        for neighbor in self.by_number.values():
            if neighbor.established:
                if neighbor.deadline <= now:
                    neighbor.established = False
                    neighbor.silent = True
                    late.append(neighbor)
                elif neighbor.deadline < deadline:
                    deadline = neighbor.deadline
        self.next_deadline = deadline
        if late:
            self._choose()
        return late

    def seen(self, now: float) -> tuple[str, ...]:
        """The routers that our HELLO lists: those we hear, and those that are so new that they cannot be heard yet."""
        found: dict[str, None] = {}
        for neighbor in self.by_number.values():
            if neighbor.heard_until > now:
                found[neighbor.router_id] = None
        return tuple(found)

    def connections_to(self, router_id: str) -> int:
        """How many connections lead to a router."""
        return sum(1 for neighbor in self.by_number.values() if neighbor.router_id == router_id)

    def _choose(self) -> None:
        best: dict[str, Neighbor] = {}
        for neighbor in self.by_number.values():
            if neighbor.established:
                other = best.get(neighbor.router_id)
                if other is None or (neighbor.cost, neighbor.number) < (other.cost, other.number):
                    best[neighbor.router_id] = neighbor
        # New objects: link states that were sent hold the old ones.
        self.flooded = list(best.values())
        self.peers = {neighbor.router_id: neighbor.cost for neighbor in self.flooded}
        self.carriers = {neighbor.router_id: neighbor.number for neighbor in self.flooded}
