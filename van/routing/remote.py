"""Where an address lives besides here: the routers that have receivers, and the ways there.

The link state engine says which routers there are and what they have; ways are worked out when a delivery asks, once
for each router where deliveries come into the network and each state of the routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from van.routing.router_link import Hop

if TYPE_CHECKING:
    from van.routing.address import Address
    from van.routing.router import Router


# Most addresses have receivers at one other router, and nobody here sends to them: what is the same for all of these is
# shared, so nothing here is changed in place.
_NOWHERE: Final[dict[str, None]] = {}
_NO_HOPS: Final[dict[int, Hop]] = {}


class RemoteDestinations:
    """The other routers that have receivers of one address.

    `routers` are their ids, those that can be reached; `hops` the ways that were ever taken, by neighbour. Neither may
    be changed from elsewhere.
    """

    __slots__ = ("_choices", "_version", "address", "hops", "router", "routers")

    def __init__(self, router: Router, address: Address) -> None:
        self.router = router
        self.address = address
        self.routers = _NOWHERE
        self.hops = _NO_HOPS
        self._choices: dict[str, list[Hop]] | None = None
        self._version = -1

    def add(self, router_id: str) -> None:
        """A router that can be reached has a receiver."""
        routers = self.routers
        if router_id not in routers:
            self.routers = {**routers, router_id: None} if routers else self.router.only(router_id)
            self._choices = None

    def remove(self, router_id: str) -> None:
        """A router has no receiver any more, or cannot be reached."""
        routers = self.routers
        if router_id in routers:
            self.routers = {other: None for other in routers if other != router_id} if len(routers) > 1 else _NOWHERE
            self._choices = None

    def choices(self, origin: str) -> list[Hop]:
        """The neighbours that lead to a receiver, the cheapest first, for deliveries that came into the network at the
        router `origin` (empty: here).

        A neighbour is left out when this router does not lie on the way from the origin to anybody behind it: such
        deliveries came here by a detour, and would go round.
        """
        if self._version != self.router.routes_version:
            self._forget()
        known = self._choices
        if known is None:
            known = self._choices = {}
        choices = known.get(origin)
        if choices is None:
            choices = known[origin] = self._work_out(origin)
        return choices

    def _forget(self) -> None:
        self._version = self.router.routes_version
        self._choices = None
        neighbors = self.router.neighbors
        if any(number not in neighbors for number in self.hops):
            self.hops = {number: hop for number, hop in self.hops.items() if number in neighbors}

    def _work_out(self, origin: str) -> list[Hop]:
        router = self.router
        engine = router.engine
        if engine is None:
            return []
        costs: dict[int, int] = {}
        for router_id in self.routers:
            node = engine.nodes.get(router_id)
            number = engine.connection_of(router_id)
            neighbor = router.neighbors.get(number) if number is not None else None
            if node is None or number is None or neighbor is None or not neighbor.by_priority:
                continue
            if origin and not engine.valid_origin(router_id, origin):
                continue
            costs[number] = min(node.cost, costs.get(number, node.cost))
        choices = []
        for number, cost in costs.items():
            hop = self.hops.get(number)
            if hop is None or not hop.neighbor.alive:
                hop = Hop(self.address, router.neighbors[number], cost)
                self.hops = {**self.hops, number: hop}
            hop.cost = cost
            choices.append(hop)
        choices.sort(key=lambda hop: (hop.cost, hop.neighbor.router_id))
        return choices
