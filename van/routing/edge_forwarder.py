"""Who gets a delivery where edges are among the receivers: as in `forwarder.py`, but nobody gets back what came from
there (`OutgoingLink.echoes`).

Bound to an address as `Address.forward` for as long as an edge receives from it, so that addresses without edges pay
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from van.amqp.delivery import Delivery
from van.routing.address import Address, Distribution
from van.routing.forwarder import FORWARDERS, forward_unavailable, multicast_everywhere, no_destination

if TYPE_CHECKING:
    from van.routing.dialect.annotations import Annotations
    from van.routing.outgoing_link import OutgoingLink
    from van.routing.router_link import Hop


def forwarder_of(distribution: Distribution, *, edges: bool) -> Callable[[Address, Delivery], None]:
    """The function that forwards the deliveries of an address; `edges`: whether edges are among its receivers."""
    return EDGE_FORWARDERS[distribution] if edges else FORWARDERS[distribution]


def _hops(address: Address, delivery: Delivery) -> list[Hop]:
    """The ways to receivers elsewhere, the cheapest first."""
    remote = address.remote
    if remote is None:
        return []
    annotations: Annotations | None = delivery.annotations
    return remote.choices(annotations.origin if annotations is not None else "")


def forward_balanced(address: Address, delivery: Delivery) -> None:
    """Hand the delivery to the receiver with the fewest deliveries outstanding; those with none take turns."""
    links = address.outgoing
    count = len(links)
    # What was sent here does not go back.
    if count == 1 and address.remote is None and (delivery.annotations is None or not links[0].echoes(delivery)):
        links[0].enqueue(delivery)
        return
    start = address.cursor
    best: OutgoingLink | None = None
    least = 0
    for offset in range(count):
        link = links[(start + offset) % count]
        value = link.load()
        if (best is None or value < least) and not link.echoes(delivery):
            best = link
            least = value
            address.cursor = (start + offset + 1) % count
            if value == 0:
                best.enqueue(delivery)
                return
    way: Hop | None = None
    for hop in _hops(address, delivery):
        value = hop.load()
        if value < least or (best is None and way is None):
            way = hop
            least = value
    if way is not None:
        address.cursor = start
        way.enqueue(delivery)
    elif best is not None:
        best.enqueue(delivery)
    else:
        no_destination(address, delivery)


def forward_closest(address: Address, delivery: Delivery) -> None:
    """Hand the delivery to the receivers here in turn, else to the routers that cost least."""
    links = address.outgoing
    count = len(links)
    start = address.cursor
    busy: OutgoingLink | None = None
    for offset in range(count):
        link = links[(start + offset) % count]
        if link.echoes(delivery):
            continue
        if not link.streaming:
            address.cursor = (start + offset + 1) % count
            link.enqueue(delivery)
            return
        if busy is None:
            busy = link
    if busy is not None:
        address.cursor = (start + 1) % count
        busy.enqueue(delivery)
        return
    hops = _hops(address, delivery)
    nearest = [hop for hop in hops if hop.cost == hops[0].cost]
    if not nearest:
        no_destination(address, delivery)
        return
    start %= len(nearest)
    address.cursor = start + 1
    nearest[start].enqueue(delivery)


def forward_multicast(address: Address, delivery: Delivery) -> None:
    """Hand a copy to every receiver, and one to every neighbour on whose side there are others."""
    multicast_everywhere(address, [link for link in address.outgoing if not link.echoes(delivery)], delivery)


EDGE_FORWARDERS: Final[dict[Distribution, Callable[[Address, Delivery], None]]] = {
    Distribution.CLOSEST: forward_closest,
    Distribution.BALANCED: forward_balanced,
    Distribution.MULTICAST: forward_multicast,
    Distribution.UNAVAILABLE: forward_unavailable,
}
