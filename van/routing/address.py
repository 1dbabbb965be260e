"""Addresses: what their text means, which distribution is configured for them, and who is attached.

Text to key follows the C routers (class letter and rest, `iterator.c` in their source); who gets a delivery is decided
in `forwarder.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from van.amqp.native import mypyc_attr

if TYPE_CHECKING:
    from van.amqp.delivery import Delivery
    from van.routing.edge import EdgeAddress
    from van.routing.forwarder import Collector
    from van.routing.incoming_link import IncomingLink
    from van.routing.outgoing_link import OutgoingLink
    from van.routing.remote import RemoteDestinations

AREA: Final = "0"
# An address that a peer names may be this long, in characters; longer ones are refused at attach.
MAX_ADDRESS_LENGTH: Final = 2048


# What a broker gives of the messages to a waypoint goes to the address with this in front, and its receivers get them
# from there. To other routers that is a mobile address as any other, whether they know of waypoints or not.
WAYPOINT: Final = "_waypoint/"


class Distribution(enum.Enum):
    """How deliveries to an address are distributed over those who receive from it."""

    CLOSEST = "closest"
    BALANCED = "balanced"
    MULTICAST = "multicast"
    UNAVAILABLE = "unavailable"


# One of those who receive gets a delivery.
ANYCAST: Final = (Distribution.BALANCED, Distribution.CLOSEST)


def strip_address(text: str) -> str:
    """The part of an address that counts: without scheme and host, and without one separator at the end."""
    if text.startswith(("amqp:", "amqps:")):
        text = text.partition(":")[2]
        if not text.startswith("/"):
            text = "/" + text
    if text.startswith("//"):
        text = text[2:].partition("/")[2]
    elif text.startswith("/"):
        text = text[1:]
    if len(text) > 1 and text[-1] in "/.":
        text = text[:-1]
    return text


def address_key(text: str, router_id: str) -> str:
    """The key under which an address is known here: its class letter, then what identifies it.

    `L` local to this router, `T` all routers, `R` another router, `A` another area, `H` an edge router, `M` a mobile
    address, which is known by its text wherever somebody attaches.
    """
    text = strip_address(text)
    if not text.startswith("_"):
        return "M" + text
    head, _, rest = text.partition("/")
    if head == "_local":
        return "L" + rest
    if head == "_topo":
        area, _, rest = rest.partition("/")
        router, _, rest = rest.partition("/")
        if area == "all" or (area == AREA and router == "all"):
            return "T" + rest
        if area != AREA:
            return "A" + area
        return "L" + rest if router == router_id else "R" + router
    if head == "_edge":
        router, _, rest = rest.partition("/")
        return "L" + rest if router == router_id else "H" + router
    return "M" + text


class AddressConfig:
    """One `[[address]]` of the configuration: `pattern` in the pattern language, how to distribute, and a priority.

    A prefix `p` is the pattern `p/#`. `priority` is 0 to 9 and beats the message's own; None leaves it to the message.
    waypoint: messages go by way of a broker; see `WAYPOINT`.
    """

    __slots__ = ("distribution", "pattern", "priority", "waypoint")

    def __init__(
        self, pattern: str, distribution: Distribution, priority: int | None = None, *, waypoint: bool = False
    ) -> None:
        self.pattern = pattern
        self.distribution = distribution
        self.priority = priority
        self.waypoint = waypoint


class _Node:
    __slots__ = ("children", "config")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.config: AddressConfig | None = None


def tokens_of(text: str) -> list[str]:
    """The tokens of an address or pattern: what lies between `.` and `/`."""
    return text.replace(".", "/").split("/")


class PatternTable:
    """Finds the best pattern for an address: token by token from the left a literal beats `*`, which beats `#`.

    `waypoints`: whether there is a pattern for waypoints among them.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self.waypoints = False

    def add(self, config: AddressConfig) -> None:
        """Add a pattern. Raises `ValueError` when the same pattern is there already."""
        node = self._root
        for token in tokens_of(config.pattern):
            node = node.children.setdefault(token, _Node())
        if node.config is not None:
            raise ValueError(f"pattern {config.pattern!r} is there already")
        node.config = config
        self.waypoints = self.waypoints or config.waypoint

    def match(self, text: str) -> AddressConfig | None:
        """The best pattern for `text`, None when none matches."""
        # `dead` remembers what did not match, so that many `#` cost tokens x nodes and no more.
        return self._match(self._root, tokens_of(text), 0, set())

    def _match(self, node: _Node, tokens: list[str], index: int, dead: set[tuple[int, int]]) -> AddressConfig | None:
        state = (id(node), index)
        if state in dead:
            return None
        children = node.children
        if index == len(tokens):
            if node.config is not None:
                return node.config
            many = children.get("#")
            found = self._match(many, tokens, index, dead) if many is not None else None
        else:
            found = None
            literal = children.get(tokens[index])
            if literal is not None and tokens[index] not in ("*", "#"):
                found = self._match(literal, tokens, index + 1, dead)
            if found is None:
                one = children.get("*")
                if one is not None:
                    found = self._match(one, tokens, index + 1, dead)
            if found is None:
                many = children.get("#")
                if many is not None:
                    for rest in range(index, len(tokens) + 1):
                        found = self._match(many, tokens, rest, dead)
                        if found is not None:
                            break
        if found is None:
            dead.add(state)
        return found


# Most addresses that a router of a large network knows have no links here: these share one list, which stays empty.
_NO_INCOMING: Final[list[IncomingLink]] = []
_NO_OUTGOING: Final[list[OutgoingLink]] = []


@mypyc_attr(allow_interpreted_subclasses=True)
class AddressWatcher:
    """Somebody who wants to know which addresses there are, and who sends to them here (`Router.address_watchers`).

    Told in the middle of somebody else's batch: nothing may be attached or sent then.
    """

    __slots__ = ()

    def made(self, address: Address) -> None:
        """There is an address that was not there before."""

    def forgotten(self, address: Address) -> None:
        """An address is there no more."""

    def patterns_changed(self) -> None:
        """The router has other patterns (`Router.patterns`): what was added to the old ones is not among them."""

    def sender_attached(self, link: IncomingLink) -> None:
        """Somebody sends to `link.address` by a link of this router."""

    def sender_gone(self, link: IncomingLink) -> None:
        """A link of this router that somebody sent by is gone."""


class Address:
    """One address: who sends to it, who receives from it, and the function that forwards its deliveries.

    `forward` is called with the address and a delivery; it is bound when the distribution is known. `cursor` is where
    the next round begins. `remote` holds the other routers that have receivers, None where it never was known to any;
    `advertised` says that they were told of it; `edges` is what edge routers have to do with it. `starved` says that
    its senders were asked for their credit. `copied` is where collectors of multicast deliveries are noted
    (`ByteBudget.copied`). `past_ingress` and `past_egress` count the deliveries of links that have ended.
    """

    __slots__ = (
        "advertised",
        "copied",
        "cursor",
        "distribution",
        "edges",
        "forward",
        "incoming",
        "key",
        "outgoing",
        "past_egress",
        "past_ingress",
        "priority",
        "remote",
        "starved",
    )

    def __init__(
        self,
        key: str,
        distribution: Distribution,
        forward: Callable[[Address, Delivery], None],
        priority: int | None,
        copied: dict[Collector, None] | None = None,
    ) -> None:
        self.key = key
        self.copied = copied
        self.distribution = distribution
        self.forward = forward
        self.priority = priority
        # Changed by the methods below alone.
        self.incoming: list[IncomingLink] = _NO_INCOMING
        self.outgoing: list[OutgoingLink] = _NO_OUTGOING
        self.remote: RemoteDestinations | None = None
        self.advertised = False
        self.edges: EdgeAddress | None = None
        self.past_ingress = 0
        self.past_egress = 0
        self.cursor = 0
        self.starved = False

    def reachable(self) -> bool:
        """Whether a delivery to it would find somebody."""
        return len(self.outgoing) > 0 or (self.remote is not None and len(self.remote.routers) > 0)

    def add_incoming(self, link: IncomingLink) -> None:
        """Somebody sends to here."""
        if self.incoming is _NO_INCOMING:
            self.incoming = []
        self.incoming.append(link)

    def remove_incoming(self, link: IncomingLink) -> None:
        """A sender is gone."""
        if link in self.incoming:
            self.incoming.remove(link)

    def add_outgoing(self, link: OutgoingLink) -> None:
        """Somebody receives from here: senders that waited for the first get credit."""
        if self.outgoing is _NO_OUTGOING:
            self.outgoing = []
        self.outgoing.append(link)
        self.found()

    def found(self) -> None:
        """Somebody receives: senders that wait get credit."""
        self.starved = False
        for incoming in self.incoming:
            incoming.unblock()

    def remove_outgoing(self, link: OutgoingLink) -> None:
        """A receiver is gone."""
        if link in self.outgoing:
            self.outgoing.remove(link)
            self.lost_one()

    def lost_one(self) -> None:
        """A receiver is gone, here or elsewhere: senders of this process want to know if it was the last."""
        if not self.reachable():
            for incoming in self.incoming:
                incoming.unreachable()

    def unused(self) -> bool:
        """Whether nobody is attached, so that it can be forgotten."""
        return not self.incoming and not self.outgoing and (self.remote is None or not self.remote.routers)
