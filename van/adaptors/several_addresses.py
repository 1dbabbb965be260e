"""A port that leads to several addresses: each connection goes to one of them, chosen by priority or by weight.

Behind it is one listening service for each address; what is said on connections is theirs. An address that nobody in
the network receives from is not chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from van.adaptors.service import ListeningService, PeerInfo
from van.adaptors.tcp.flow import Ended
from van.routing.adaptor import Adaptor
from van.routing.router import Router

PRIORITY: Final = "priority"
WEIGHTED: Final = "weighted"


class Member:
    """One of the addresses. `opened` counts the connections that went there; `due` is its turn by weight."""

    __slots__ = ("due", "name", "opened", "service", "value")

    def __init__(self, name: str, service: ListeningService, value: int) -> None:
        self.name = name
        self.service = service
        self.value = value
        self.opened = 0
        self.due = 0


class SeveralAddresses:
    """What stands in for the listening service of such a port.

    strategy: `priority` chooses the reachable address with the highest value, and of equal ones in turn; `weighted`
    gives each reachable one its share, in the smoothest order, and none to those of value 0.
    """

    def __init__(self, router: Router, name: str, strategy: str) -> None:
        self.router = router
        self.name = name
        self.strategy = strategy
        self.members: list[Member] = []
        self.stopped = False
        self.on_reachable: Callable[[], None] = _nobody_asks

    @property
    def address(self) -> str:
        """The addresses, for people."""
        return ", ".join(member.service.address for member in self.members)

    @property
    def reachable(self) -> bool:
        """Whether somebody receives at one of the addresses."""
        return any(True for _ in self._candidates())

    def add(self, name: str, service: ListeningService, value: int) -> Member:
        """One more address."""
        member = Member(name, service, value)
        service.on_reachable = self._look
        self.members.append(member)
        self.on_reachable()
        return member

    def remove(self, member: Member) -> None:
        """Lead nobody more to an address. Its connections live on."""
        self.members.remove(member)
        member.service.stop()
        self.on_reachable()

    def _look(self) -> None:
        self.on_reachable()

    def _candidates(self) -> list[Member]:
        found = [member for member in self.members if member.service.reachable]
        if self.strategy == WEIGHTED:
            return [member for member in found if member.value > 0]
        best = max((member.value for member in found), default=0)
        return [member for member in found if member.value == best]

    def _choose(self) -> Member | None:
        """Who is next."""
        found = self._candidates()
        if not found:
            return None
        weighted = self.strategy == WEIGHTED
        for member in found:
            member.due += member.value if weighted else 1
        chosen = max(found, key=_due)
        chosen.due -= sum(member.value for member in found) if weighted else len(found)
        return chosen

    def accept(self, info: PeerInfo) -> Adaptor:
        """An adaptor for a connection that was accepted, of the address that it goes to."""
        member = self._choose()
        if member is None:
            return Ended("nobody receives at one of the addresses", resets=True)
        member.opened += 1
        return member.service.accept(info)

    def stop(self) -> None:
        """Take no more. Connections that there are end by themselves."""
        self.stopped = True
        for member in self.members:
            member.service.stop()

    # -- counts --------------------------------------------------------------------------------------------------

    @property
    def connections_opened(self) -> int:
        """Connections so far."""
        return sum(member.service.connections_opened for member in self.members)

    @property
    def octets_in(self) -> int:
        """Octets from clients."""
        return sum(member.service.octets_in for member in self.members)

    @property
    def octets_out(self) -> int:
        """Octets to clients."""
        return sum(member.service.octets_out for member in self.members)


def _due(member: Member) -> int:
    return member.due


def _nobody_asks() -> None:
    """Stand in for `on_reachable`."""
