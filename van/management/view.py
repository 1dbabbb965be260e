"""What the attributes of entities are read from: the router, and what the process knows beside it."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Final, NamedTuple

from van.management.facts import Facts, RouterFacts
from van.routing.outgoing_link import OutgoingLink

if TYPE_CHECKING:
    from van.management.counts import Totals
    from van.routing.link_state.engine import LinkStateEngine
    from van.routing.router import Router


class AddressCounts(NamedTuple):
    """What another process counts of an address."""

    subscribers: int
    ingress: int
    egress: int
    outstanding: int

    def plus(self, other: AddressCounts) -> AddressCounts:
        """Both together."""
        return AddressCounts(*map(sum, zip(self, other, strict=True)))


class Elsewhere:
    """What other processes of the same router have said: rows and an entity, encoded, counts by address, and totals."""

    __slots__ = ("addresses", "entity", "rows", "totals")

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.entity = b""
        self.addresses: dict[str, AddressCounts] = {}
        self.totals: list[Totals] = []


NOTHING: Final = AddressCounts(0, 0, 0, 0)


class View:
    """One look at the router.

    `network` is the engine of an interior router; others know no routers. `in_process` holds the receivers that are
    agents of the router itself; `totals` is set when they have been counted. `elsewhere` is what other processes of
    this router have said, None where there are none. `may_change`: whether whoever asks may change the router.
    """

    __slots__ = ("elsewhere", "facts", "in_process", "may_change", "network", "router", "router_facts", "totals")

    def __init__(self, router: Router, facts: Facts, in_process: Container[OutgoingLink] = ()) -> None:
        self.router = router
        self.network: LinkStateEngine | None = router.engine
        self.facts = facts
        self.in_process = in_process
        self.router_facts: RouterFacts = facts.router()
        self.totals: Totals | None = None
        self.elsewhere: Elsewhere | None = None
        self.may_change = False

    def counted_elsewhere(self, key: str) -> AddressCounts:
        """What other processes count of an address."""
        return self.elsewhere.addresses.get(key, NOTHING) if self.elsewhere is not None else NOTHING
