"""What the attributes of entities are read from: the router, and what the process knows beside it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from van.management.facts import Facts, RouterFacts
from van.routing.link import OutgoingLink

if TYPE_CHECKING:
    from van.routing.router import Router


class Node(Protocol):
    """Another router, as the link state engine knows it."""

    id: str
    protocol_version: int
    instance: int
    reachable: bool
    next_hop: str | None
    cost: int
    peers: dict[str, int]


class Network(Protocol):
    """The link state engine, as far as management asks it."""

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The other routers."""

    def connection_of(self, router_id: str) -> int | None:
        """The number of the connection that leads to a router."""

    def valid_origin(self, destination: str, origin: str) -> bool:
        """Whether deliveries of `origin` to `destination` come by here."""

    def valid_origins(self, destination: str) -> list[str]:
        """The routers whose deliveries to `destination` come by here."""


class View:
    """One look at the router.

    `in_process` holds the receivers that are agents of the router itself.
    """

    __slots__ = ("facts", "in_process", "router", "router_facts")

    def __init__(self, router: Router, facts: Facts, in_process: Container[OutgoingLink] = ()) -> None:
        self.router = router
        self.facts = facts
        self.in_process = in_process
        self.router_facts: RouterFacts = facts.router()

    @property
    def network(self) -> Network | None:
        """The engine of an interior router; None for others, which know no routers."""
        engine: Any = self.router.engine
        network: Network | None = engine
        return network
