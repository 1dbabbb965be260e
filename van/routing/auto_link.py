"""Auto-links: addresses that live in a broker, and the links by which the router fetches and brings their messages.

Which auto-links there are, on which connections of role route-container each of them is wanted, and how it fares
there. A connection's adaptor attaches the links (`van.adaptors.route_container`); deliveries then go over them as over
those of any application.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from van.amqp.link import Link

# What an auto-link that a broker does not take waits before it is tried again, in seconds: the first pause as the
# deployed routers have it; each is twice the last one, up to the longest. A queue that is made a day later is found
# within a minute, and a broker hears of a thousand that it does not have no more than seventeen times a second.
# One that was active is tried again at once, where it has not failed for as long as the first pause.
FIRST_PAUSE: Final = 2.0
LONGEST_PAUSE: Final = 60.0
# A description of a broker's is kept for management up to this length, in characters.
MAX_ERROR: Final = 256

# More than a broker has links for on one connection; each takes some hundred octets.
MAX_AUTO_LINKS: Final = 10_000

# How an auto-link fares, in the words of the deployed routers.
INACTIVE: Final = "inactive"
ATTACHING: Final = "attaching"
FAILED: Final = "failed"
ACTIVE: Final = "active"


class AutoLink:
    """One auto-link: `incoming` ones bring what a broker has to an address, others take what is sent there to it.

    name: for people, unique; identity: unique for as long as the router runs. address: in the network; "" on an
    incoming one whose messages each name theirs. external_address: at the broker, the same where it is "". The
    connections are those of the listener or connector `connection`, or those of the peer `container_id`.
    `ends` has an entry for each connection that it is wanted on.
    """

    __slots__ = ("address", "connection", "container_id", "ends", "external_address", "identity", "incoming", "name")

    def __init__(
        self,
        name: str,
        address: str,
        *,
        incoming: bool,
        external_address: str = "",
        connection: str = "",
        container_id: str = "",
    ) -> None:
        self.name = name
        self.identity = ""
        self.address = address
        self.incoming = incoming
        self.external_address = external_address
        self.connection = connection
        self.container_id = container_id
        self.ends: dict[RouteContainer, AutoLinkEnd] = {}

    @property
    def at_broker(self) -> str:
        """The address of its terminus at the broker."""
        return self.external_address or self.address

    def wanted_on(self, container: RouteContainer) -> bool:
        """Whether a connection is one of its own."""
        if self.connection:
            return container.connection == self.connection
        return bool(self.container_id) and container.container_id == self.container_id

    @property
    def best(self) -> AutoLinkEnd | None:
        """The end that fares best; None while there is no connection."""
        best: AutoLinkEnd | None = None
        for end in self.ends.values():
            if best is None or _RANK[end.status] > _RANK[best.status]:
                best = end
        return best

    @property
    def status(self) -> str:
        """How it fares where it fares best: one connection of several is enough for messages to pass."""
        best = self.best
        return best.status if best is not None else INACTIVE

    @property
    def last_error(self) -> str:
        """Why it failed, on the connection where it did so last; "" where it has not."""
        latest: AutoLinkEnd | None = None
        for end in self.ends.values():
            if end.error and (latest is None or end.failed_at >= latest.failed_at):
                latest = end
        return latest.error if latest is not None else ""


_RANK: Final = {INACTIVE: 0, FAILED: 1, ATTACHING: 2, ACTIVE: 3}


class AutoLinkEnd:
    """An auto-link on one connection.

    `status` is attaching, active or failed; `link` is there while it is not failed. `error` is why it failed last, at
    `failed_at`; it is tried again at `retry_at` (both of the driver's clock, inf for never).
    """

    __slots__ = ("_pause", "auto_link", "container", "error", "failed_at", "link", "retry_at", "status")

    def __init__(self, auto_link: AutoLink, container: RouteContainer) -> None:
        self.auto_link = auto_link
        self.container = container
        self.status = INACTIVE
        self.link: Link | None = None
        self.error = ""
        self.failed_at = -inf
        self.retry_at = inf
        self._pause = FIRST_PAUSE

    def attaching(self, link: Link) -> None:
        """Its Attach has been written."""
        self.status = ATTACHING
        self.link = link
        self.retry_at = inf

    def active(self) -> None:
        """The broker has attached it, too."""
        self.status = ACTIVE
        self.error = ""
        self._pause = FIRST_PAUSE

    def failed(self, error: str, now: float) -> None:
        """It was refused, or detached, or cannot be attached."""
        if self.status == ACTIVE and now - self.failed_at >= FIRST_PAUSE:
            self.retry_at = now
        else:
            self.retry_at = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.status = FAILED
        self.link = None
        self.error = error[:MAX_ERROR]
        self.failed_at = now


class RouteContainer:
    """An open connection of role route-container, for the core.

    number: the connection's. connection: the name of its listener or connector; container_id: the peer's.
    """

    __slots__ = ("connection", "container_id", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.connection = ""
        self.container_id = ""

    def attach(self, end: AutoLinkEnd) -> None:
        """Attach the link of an auto-link; `end` is told how it goes."""
        raise NotImplementedError

    def detach(self, end: AutoLinkEnd) -> None:
        """Detach the link of an auto-link that is no more, when what it has under way is settled."""
        raise NotImplementedError


class AutoLinks:
    """The auto-links of one router, in the order in which they came, and the connections that they may be on."""

    __slots__ = ("_by_name", "_containers", "_numbers")

    def __init__(self) -> None:
        self._by_name: dict[str, AutoLink] = {}
        self._containers: list[RouteContainer] = []
        self._numbers = 0

    def all(self) -> list[AutoLink]:
        """All of them."""
        return list(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def named(self, name: str) -> AutoLink | None:
        """The one of this name."""
        return self._by_name.get(name)

    def add(self, auto_link: AutoLink) -> None:
        """Add one, and attach it where it is wanted; one without a name gets one.

        Raises `ValueError` when there is one of its name, or there are `MAX_AUTO_LINKS`.
        """
        if auto_link.name in self._by_name:
            raise ValueError(f"there is an auto-link {auto_link.name!r} already")
        if len(self._by_name) >= MAX_AUTO_LINKS:
            raise ValueError(f"there may be {MAX_AUTO_LINKS} auto-links")
        self._numbers += 1
        auto_link.identity = str(self._numbers)
        number = self._numbers
        while not auto_link.name or auto_link.name in self._by_name:
            auto_link.name = f"autoLink/{number}"
            number += 1
        self._by_name[auto_link.name] = auto_link
        for container in list(self._containers):
            self._attach(auto_link, container)

    def remove(self, auto_link: AutoLink) -> None:
        """Take one away, and detach it wherever it is."""
        if self._by_name.get(auto_link.name) is not auto_link:
            return
        del self._by_name[auto_link.name]
        ends = list(auto_link.ends.values())
        auto_link.ends.clear()
        for end in ends:
            end.container.detach(end)

    def opened(self, container: RouteContainer) -> None:
        """A connection is open: attach what is wanted on it."""
        self._containers.append(container)
        for auto_link in self.all():
            self._attach(auto_link, container)

    def lost(self, container: RouteContainer) -> None:
        """A connection is over. Its links are the connection's to look after."""
        if container in self._containers:
            self._containers.remove(container)
            for auto_link in self._by_name.values():
                auto_link.ends.pop(container, None)

    def _attach(self, auto_link: AutoLink, container: RouteContainer) -> None:
        if auto_link.wanted_on(container):
            end = auto_link.ends[container] = AutoLinkEnd(auto_link, container)
            container.attach(end)
