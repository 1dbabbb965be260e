"""What a peer's Open says of it as a router: who it is, which dialect it speaks, what the connection costs.

The native dialect is that of skupper-router 3.x. Roles come from configuration and not from here, with one exception: a
connector of skupper-router says of its data connections that they are such. Whatever a peer writes into its properties
is taken or left, never an error: what is not of the expected type is as good as absent.
"""

from __future__ import annotations

import enum
from typing import Final

from van.amqp.performatives import Open

# Keys of the properties (2.7.1), and their values.
PRODUCT: Final = "product"
VERSION: Final = "version"
CONNECTION_ID: Final = "qd.conn-id"
COST: Final = "qd.inter-router-cost"
ROLE: Final = "qd.inter-router-role"
GROUP_CORRELATOR: Final = "qd.group-correlator"
ANNOTATIONS_VERSION: Final = "qd.annotations-version"
# The role that a data connection names.
DATA_ROLE: Final = 4
# The version of router annotations that this router reads and writes; qpid-dispatch-router 1.x has version 1.
NATIVE_ANNOTATIONS: Final = 2

# Capabilities of a connection.
ANONYMOUS_RELAY: Final = "ANONYMOUS-RELAY"
STREAMING_LINKS: Final = "qd.streaming-links"
CONNECTION_TRUNKING: Final = "qd.connection_trunking"
# Capabilities of a link's terminus: of the links that carry the routers' own messages, and of those for deliveries.
CONTROL_LINK: Final = "qd.router"
# The capability of the link for everything that is addressed to an edge router.
EDGE_DOWNLINK: Final = "qd.router-edge-downlink"
DATA_LINK: Final = "qd.router-data"

OUR_PRODUCT: Final = "van"
DISPATCH_PRODUCT: Final = "qpid-dispatch-router"
# Costs are added up along paths: so much on one connection is "never, unless there is nothing else".
MAX_COST: Final = 0x7FFFFFFF
# A router's id stands in addresses and in each message's trace; others have host names there.
MAX_ROUTER_ID: Final = 255
# In the place of an id in addresses it means all routers.
EVERYBODY: Final = "all"
# What a peer says of itself is cut here for logs.
MAX_TEXT: Final = 64


class Dialect(enum.Enum):
    """How a router speaks to its neighbours; `value` is for people."""

    NATIVE = "skupper-router 3.x"
    DISPATCH = "qpid-dispatch-router 1.x"
    # It says nothing that would tell, or names something newer: taken as native.
    UNKNOWN = "unknown"


class PeerOpen:
    """A router at the other end, as its Open describes it.

    `cost` is what the peer asks for this connection, 1 and more. `data` tells a data connection from a control
    connection, `correlator` is common to the connections of one connector ("" for none). `van` means that the peer
    understands what we add of our own. `streaming_links` and `trunking` are capabilities that it offers.
    """

    __slots__ = (
        "annotations_version",
        "correlator",
        "cost",
        "data",
        "dialect",
        "product",
        "router_id",
        "streaming_links",
        "trunking",
        "van",
        "version",
    )

    def __init__(self, open_: Open) -> None:
        properties = open_.properties or {}
        offered = open_.offered_capabilities or ()
        self.router_id = open_.container_id
        self.product = _text(properties.get(PRODUCT))
        self.version = _text(properties.get(VERSION))
        self.annotations_version = _number(properties.get(ANNOTATIONS_VERSION))
        self.cost = min(max(1, _number(properties.get(COST))), MAX_COST)
        self.data = _number(properties.get(ROLE)) == DATA_ROLE
        self.correlator = _text(properties.get(GROUP_CORRELATOR))
        self.van = self.product == OUR_PRODUCT
        self.streaming_links = STREAMING_LINKS in offered
        self.trunking = CONNECTION_TRUNKING in offered
        self.dialect = _dialect(self.product, self.annotations_version)

    @property
    def name(self) -> str:
        """Product and version for people."""
        return f"{self.product or 'an unnamed product'} {self.version}".rstrip()

    def refusal(self, own_id: str, own_version: str) -> str:
        """Why this peer cannot be a neighbour of the router `own_id`, in words; empty when it can."""
        peer = self.router_id
        if not peer or len(peer) > MAX_ROUTER_ID or "/" in peer or peer == EVERYBODY:
            return (
                f"the peer's container-id {peer[:MAX_TEXT]!r} cannot be a router's id: 1 to {MAX_ROUTER_ID} characters "
                f"without a slash, and not {EVERYBODY!r}"
            )
        if peer == own_id:
            return (
                f"the peer ({self.name}) has the id of this router, {own_id}: it is this router itself, or another one "
                f"was given the same id"
            )
        if self.dialect is Dialect.DISPATCH:
            return (
                f"router {peer} speaks the dialect of {self.name} "
                f"({ANNOTATIONS_VERSION} {self.annotations_version or 'not given'}); "
                f"router {own_id} ({OUR_PRODUCT} {own_version}) speaks that of {Dialect.NATIVE.value} "
                f"({ANNOTATIONS_VERSION} {NATIVE_ANNOTATIONS}), and neither can read the other"
            )
        return ""

    def remark(self) -> str:
        """What an operator should know of a peer that is accepted, in words; empty for nothing."""
        if self.annotations_version > NATIVE_ANNOTATIONS:
            return (
                f"router {self.router_id} ({self.name}) has {ANNOTATIONS_VERSION} {self.annotations_version}, newer "
                f"than {NATIVE_ANNOTATIONS}, which this router speaks"
            )
        return ""


def _dialect(product: str, annotations_version: int) -> Dialect:
    """What a router says of its annotations counts more than its name; one that says neither is taken as native."""
    if annotations_version == NATIVE_ANNOTATIONS:
        return Dialect.NATIVE
    if annotations_version == 1 or (annotations_version == 0 and product == DISPATCH_PRODUCT):
        return Dialect.DISPATCH
    return Dialect.UNKNOWN


def _text(value: object) -> str:
    """A string, cut to what a log line takes; "" for anything else."""
    return str(value)[:MAX_TEXT] if isinstance(value, str) else ""


def _number(value: object) -> int:
    """An integer of any width; 0 for anything else."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else 0
