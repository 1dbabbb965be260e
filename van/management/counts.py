"""What is counted, read from the counters that the core and the links keep anyway.

A counter for management costs nothing per message: what can be had as a difference is a difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import attrs

from van.adaptors.amqp import NORMAL, ROUTE_CONTAINER, AmqpAdaptor
from van.amqp.link import Link
from van.amqp.sender_link import SenderLink
from van.amqp.types import ULong
from van.routing.address import Address
from van.routing.incoming_link import IncomingLink
from van.routing.neighbor import ControlReceiver, ControlSender
from van.routing.outgoing_link import OutgoingLink
from van.routing.router_link import RouterIncomingLink

if TYPE_CHECKING:
    from van.management.view import View

Owner = IncomingLink | OutgoingLink | ControlReceiver | ControlSender

# Control links carry settled messages only, before all others; the deployed routers show them with this priority.
CONTROL_PRIORITY: Final = 9
# Links that are counted in one go: about as much work as `node.PREPARING` rows.
COUNTED_AT_ONCE: Final = 1000


def undelivered(owner: Owner) -> int:
    """How many deliveries wait to be sent."""
    return len(owner.undelivered) if isinstance(owner, (OutgoingLink, ControlSender)) else 0


def unsettled(owner: Owner) -> int:
    """How many deliveries have no outcome yet; of an outgoing link, those that were sent."""
    if isinstance(owner, OutgoingLink):
        return max(0, owner.outstanding - len(owner.undelivered))
    if not isinstance(owner, IncomingLink) or isinstance(owner, RouterIncomingLink):
        # Credit of links between routers goes back at once, whatever becomes of a delivery.
        return sum(delivery.receiver is owner.link for delivery in owner.link.session.unsettled_in.values())
    # The capacity of an idle link is out as credit; what is missing is under way, or owed.
    return max(0, owner.capacity - owner.owed - owner.link.link_credit)


def presettled(owner: Owner) -> int:
    """How many deliveries came settled, or went so."""
    if isinstance(owner, IncomingLink):
        return owner.presettled
    return owner.link.presettled if isinstance(owner, (OutgoingLink, ControlSender)) else owner.link.deliveries()


def rejected(owner: Owner) -> int:
    """How many deliveries were rejected."""
    return owner.rejected if isinstance(owner, (IncomingLink, OutgoingLink)) else 0


def released(owner: Owner) -> int:
    """How many deliveries were released."""
    return owner.released if isinstance(owner, (IncomingLink, OutgoingLink)) else 0


def modified(owner: Owner) -> int:
    """How many deliveries were modified."""
    return owner.modified if isinstance(owner, (IncomingLink, OutgoingLink)) else 0


def accepted(owner: Owner) -> int:
    """How many deliveries were accepted: all that have an outcome, and none of the others."""
    others = presettled(owner) + unsettled(owner) + rejected(owner) + released(owner) + modified(owner)
    return max(0, owner.link.deliveries() - others)


def capacity(owner: Owner) -> int | None:
    """The credit of a link when it is idle; None where nobody but the peer knows."""
    return None if isinstance(owner, ControlSender) else owner.capacity


def key_of(owner: Owner) -> str | None:
    """The key of a link's address; None for links that serve any address."""
    return owner.address.key or None if isinstance(owner, (IncomingLink, OutgoingLink)) else None


def priority(link: Link) -> int:
    """A link's turn among those of its connection; 4 is the default (3.2.1)."""
    return min(link.priority, CONTROL_PRIORITY) if isinstance(link, SenderLink) else 4


def link_type(owner: Owner, role: str) -> str:
    """What a link of a connection of this role is for, in the words of the deployed routers."""
    if isinstance(owner, (ControlReceiver, ControlSender)):
        return "router-control"
    # Those have links of applications' kind to their edge routers.
    return "inter-router" if owner.between_routers and role != "edge" else "endpoint"


def in_process(view: View, address: Address) -> int:
    """How many receivers of an address are agents of the router."""
    return sum(receiver in view.in_process for receiver in address.outgoing)


def subscribers(view: View, address: Address) -> int:
    """How many applications receive from an address here."""
    here = sum(not receiver.joint for receiver in address.outgoing) - in_process(view, address)
    return here + view.counted_elsewhere(address.key).subscribers


def remote_hosts(address: Address) -> list[str]:
    """The other routers where somebody receives from an address."""
    return list(address.remote.routers) if address.remote is not None else []


def ingress(view: View, address: Address) -> int:
    """How many deliveries applications here have sent by links to an address."""
    links = [link for link in address.incoming if not link.between_routers]
    here = address.past_ingress + sum(link.link.deliveries() for link in links)
    return here + view.counted_elsewhere(address.key).ingress


def egress(view: View, address: Address) -> int:
    """How many deliveries of an address have gone to applications here."""
    links = [link for link in address.outgoing if link not in view.in_process and not link.between_routers]
    here = address.past_egress + sum(link.link.deliveries() for link in links)
    return here + view.counted_elsewhere(address.key).egress


def to_agents(view: View, address: Address) -> int:
    """How many deliveries of an address have gone to agents of the router."""
    return sum(link.link.deliveries() for link in address.outgoing if link in view.in_process)


def outstanding(view: View, address: Address) -> int:
    """How many deliveries of an address are under way to its receivers here."""
    here = sum(link.outstanding for link in address.outgoing if not link.joint)
    return here + view.counted_elsewhere(address.key).outstanding


@attrs.define
class Totals:
    """Counts of all links together."""

    links: int = 0
    blocked: int = 0
    presettled: int = 0
    dropped: int = 0
    accepted: int = 0
    rejected: int = 0
    released: int = 0
    modified: int = 0
    ingress: int = 0
    egress: int = 0
    transit: int = 0
    from_brokers: int = 0
    to_brokers: int = 0
    connections: dict[str, object] = attrs.field(factory=dict)
    adaptors: int = 0
    held: int = 0
    memory: int | None = None
    resident: int | None = None

    def plus(self, other: Totals) -> Totals:
        """Both together, of two processes."""
        sums: dict[str, object] = {}
        for name, one in attrs.asdict(self, recurse=False).items():
            another = getattr(other, name)
            if isinstance(one, dict):
                sums[name] = {kind: ULong(int(one[kind]) + int(another.get(kind, 0))) for kind in one}
            else:
                sums[name] = None if one is None or another is None else one + another
        return Totals(**sums)  # type: ignore[arg-type]  # each is of the type that it was

    def add(self, adaptor: AmqpAdaptor) -> int:
        """Count the links of a connection; returns how many there are."""
        broker = adaptor.role == ROUTE_CONTAINER
        for link, owner in adaptor.links.items():
            if isinstance(owner, (ControlReceiver, ControlSender)):
                continue
            if owner.between_routers:
                self.transit += link.deliveries() if isinstance(owner, IncomingLink) else 0
            elif isinstance(owner, IncomingLink):
                self.ingress += link.deliveries()
                self.from_brokers += link.deliveries() if broker else 0
                self.presettled += owner.presettled
                self.accepted += accepted(owner)
                self.rejected += owner.rejected
                self.released += owner.released
                self.modified += owner.modified
            else:
                self.egress += link.deliveries()
                self.to_brokers += link.deliveries() if broker else 0
                self.blocked += bool(owner.undelivered) and link.link_credit == 0
        self.links += len(adaptor.links)
        return len(adaptor.links)


def count_totals(view: View) -> Iterator[None]:
    """Count what links have carried, those that are there and those that were; outcomes as their senders heard them.

    The view has the result when the iterator has ended; it stops now and then for others to have their turn.
    """
    past = view.router.past
    result = Totals(
        presettled=past.presettled,
        dropped=view.router.dropped_presettled,
        accepted=past.accepted,
        rejected=past.rejected,
        released=past.released,
        modified=past.modified,
        ingress=past.ingress,
        egress=past.egress,
        transit=past.transit,
        from_brokers=past.from_brokers,
        to_brokers=past.to_brokers,
    )
    applications = 0
    counted = 0
    for adaptor in list(view.facts.adaptors()):
        applications += adaptor.role == NORMAL
        counted += 1 + result.add(adaptor)
        if counted > COUNTED_AT_ONCE:
            counted = 0
            yield
    by_protocol = {"amqp": applications}
    result.adaptors = len(view.facts.adaptors())
    for service in view.facts.services():
        if service.scheme != "udp" and service.connections:
            by_protocol[service.protocol] = by_protocol.get(service.protocol, 0) + service.connections
            result.adaptors += service.connections
    result.connections = {protocol: ULong(count) for protocol, count in by_protocol.items()}
    result.held = view.router.budget.held()
    result.memory, result.resident = view.facts.memory()
    for other in view.elsewhere.totals if view.elsewhere is not None else ():
        result = result.plus(other)
    view.totals = result
