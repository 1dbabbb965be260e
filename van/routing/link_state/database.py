"""What is known of the other routers: link states with their sequence numbers, and how long they are worth anything.

The addresses are kept here too (`Node.addresses`); how they change is in `mobile.py`. Paths are the engine's matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from van.routing.link_state.messages import MobileAddress
from van.routing.link_state.spf import Graph

# More routers than this are not taken in: a network of ten thousand would spend its time on advertisements alone, so
# what announces more is broken. Those that come later are logged once and ignored.
MAX_NODES = 16384


class Node:
    """Another router.

    `instance` is the second in which it started (0: not known yet), `peers` its link state as of
    `link_state_sequence` (0: none), `addresses` those as of `mobile_sequence`. While it is `reachable` the owner knows
    its addresses, `next_hop` is the neighbour that leads to it and `cost` that of the whole path; otherwise both are
    those of last time. `last_seen` is when it was last heard of by itself.
    """

    __slots__ = (
        "addresses",
        "advertised",
        "ask_link_state_at",
        "ask_mobile_at",
        "asked",
        "cost",
        "digest",
        "heard",
        "id",
        "instance",
        "last_seen",
        "last_topology_change",
        "life_began",
        "link_state_sequence",
        "mobile_expected",
        "mobile_sequence",
        "next_hop",
        "peers",
        "protocol_version",
        "reachable",
        "shown",
        "suspected_at",
        "tasks",
    )

    def __init__(self, router_id: str, now: float) -> None:
        self.id = router_id
        self.instance = 0
        # When its present life was first heard of.
        self.life_began = -inf
        self.protocol_version = 0
        self.reachable = False
        self.next_hop: str | None = None
        self.cost = 0
        self.peers: dict[str, int] = {}
        self.digest = 0
        self.link_state_sequence = 0
        self.addresses: dict[str, MobileAddress] = {}
        self.mobile_sequence = 0
        # What `mobile_sequence` will be when the updates that wait in `tasks` are applied.
        self.mobile_expected = 0
        # The highest mobile sequence number that it advertised.
        self.advertised = 0
        self.last_seen = now
        self.last_topology_change = now
        # Whether an advertisement of its present life has come.
        self.heard = False
        # Whether the owner has been told the addresses.
        self.shown = False
        # What is to be done with its addresses, the first now: a list, as a thousand empty deques are half a megabyte.
        self.tasks: list[Iterator[None]] = []
        # When LSR and MAR are sent (again); infinite while nothing is missing.
        self.ask_link_state_at = inf
        self.ask_mobile_at = inf
        self.asked = 0
        # Since when it has advertised less than we have; infinite when it does not.
        self.suspected_at = inf

    def __repr__(self) -> str:
        way = f"by {self.next_hop} at {self.cost}" if self.reachable else "unreachable"
        return f"<Node {self.id}, {way}, link state {self.link_state_sequence}, addresses {self.mobile_sequence}>"


class LinkStateDatabase:
    """The other routers by id, and when something about them is over.

    `digest` changes with every link state; two databases with the same digest hold the same.
    """

    __slots__ = ("_sweep_at", "digest", "max_age", "nodes", "patience")

    def __init__(self, max_age: float, patience: float) -> None:
        self.max_age = max_age
        self.patience = patience
        self.nodes: dict[str, Node] = {}
        self.digest = 0
        self._sweep_at = inf

    def find_or_add(self, router_id: str, now: float) -> Node | None:
        """Return the router with this id, made if it is new; None where there are too many."""
        node = self.nodes.get(router_id)
        if node is None and len(self.nodes) < MAX_NODES:
            node = self.nodes[router_id] = Node(router_id, now)
            if now + self.patience < self._sweep_at:
                self._sweep_at = now + self.patience
        return node

    def store(self, node: Node, sequence: int, peers: dict[str, int], digest: int) -> bool:
        """Take a link state; return whether it says something new."""
        known = node.link_state_sequence > 0
        changed = not known or digest != node.digest or peers != node.peers
        if changed:
            if known:
                self.digest ^= node.digest
            self.digest ^= digest
        node.peers = peers
        node.digest = digest
        node.link_state_sequence = sequence
        return changed

    def clear(self, node: Node) -> bool:
        """Forget the link state of a router; return whether there was one."""
        if node.link_state_sequence == 0:
            return False
        self.digest ^= node.digest
        node.link_state_sequence = 0
        node.peers = {}
        node.digest = 0
        return True

    def states(self) -> Graph:
        """The link states of all routers that have one."""
        return {router_id: node.peers for router_id, node in self.nodes.items() if node.link_state_sequence}

    def next_deadline(self) -> float:
        """When `sweep` should be called."""
        return self._sweep_at

    def sweep(self, neighbors: dict[str, int], now: float) -> tuple[list[Node], list[Node]]:
        """Return whose link state is too old, and those of whom nobody speaks any more, which are forgotten.

        Both only grow older, so this looks at everybody only when the oldest can be too old.
        """
        aged: list[Node] = []
        named: set[str] = set(neighbors)
        next_at = inf
        for node in self.nodes.values():
            if node.link_state_sequence:
                due = node.last_seen + self.max_age
                if due <= now:
                    aged.append(node)
                    continue
                if due < next_at:
                    next_at = due
            named.update(node.peers)
        for node in aged:
            self.clear(node)
            node.last_seen = now
        gone: list[Node] = []
        for node in self.nodes.values():
            if node.link_state_sequence == 0 and not node.reachable and node.id not in named and not node.tasks:
                due = node.last_seen + self.patience
                if due <= now:
                    gone.append(node)
                    continue
                if due < next_at:
                    next_at = due
            elif node.link_state_sequence == 0 and now + self.max_age < next_at:
                next_at = now + self.max_age
        for node in gone:
            del self.nodes[node.id]
        self._sweep_at = next_at
        return aged, gone

    def sweep_by(self, when: float) -> None:
        """Somebody may be forgotten at `when`."""
        if when < self._sweep_at:
            self._sweep_at = when
