"""What the attributes of entities are read from: the router, and what the process knows beside it."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from van.management.facts import Facts, RouterFacts
from van.routing.link import OutgoingLink

if TYPE_CHECKING:
    from van.management.counts import Totals
    from van.routing.link_state.engine import LinkStateEngine
    from van.routing.router import Router


class View:
    """One look at the router.

    `network` is the engine of an interior router; others know no routers. `in_process` holds the receivers that are
    agents of the router itself; `totals` is set when they have been counted.
    """

    __slots__ = ("facts", "in_process", "network", "router", "router_facts", "totals")

    def __init__(self, router: Router, facts: Facts, in_process: Container[OutgoingLink] = ()) -> None:
        self.router = router
        self.network: LinkStateEngine | None = router.engine
        self.facts = facts
        self.in_process = in_process
        self.router_facts: RouterFacts = facts.router()
        self.totals: Totals | None = None
