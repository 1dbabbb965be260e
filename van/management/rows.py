"""What attributes are read from where the router's own objects do not say it in one word."""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

from van.adaptors.amqp import AmqpAdaptor
from van.amqp.connection import Receiving
from van.amqp.link import Link
from van.management.counts import Owner
from van.management.facts import ConnectionFacts, EndpointFacts, ServiceLinks
from van.management.view import View
from van.routing.auto_link import AutoLink
from van.routing.link_state.database import Node
from van.routing.link_state.messages import PROTOCOL_VERSION


class NodeRow(NamedTuple):
    """A router of the network: `number` is 0 and `node` None for this one."""

    number: int
    id: str
    node: Node | None


def other_nodes(view: View) -> dict[str, Node]:
    """The other routers of the network that can be reached, by their ids."""
    network = view.network
    if network is None:
        return {}
    return {name: node for name, node in network.nodes.items() if node.reachable}


def protocol_version(view: View, row: NodeRow) -> int:
    """The version of a router's link state protocol; our own is the deployed routers'."""
    return row.node.protocol_version if row.node is not None else PROTOCOL_VERSION


def instance_of(view: View, row: NodeRow) -> int | None:
    """A router's instance number."""
    if row.node is not None:
        return row.node.instance
    return view.network.instance if view.network is not None else None


def peers_of(view: View, row: NodeRow) -> list[str]:
    """The routers to which a router has connections, as it says."""
    if row.node is not None:
        return list(row.node.peers)
    return list(view.network.neighbors.peers) if view.network is not None else []


def next_hop(view: View, row: NodeRow) -> str | None:
    """The next router on the way to a router, in the words of the deployed ones."""
    if row.node is None:
        return "(self)"
    return row.node.next_hop if row.node.next_hop != row.id else None


def valid_origins(view: View, row: NodeRow) -> list[str]:
    """The other routers whose deliveries to this one come by here."""
    return view.network.valid_origins(row.id)[1:] if view.network is not None and row.node is not None else []


def router_link(view: View, row: NodeRow) -> int | None:
    """The connection to a neighbour; 0 where there is none just now, for the tools calculate with it."""
    if row.node is None or view.network is None or row.node.next_hop not in (None, row.id):
        return None
    return view.network.connection_of(row.id) or 0


def last_change(view: View, row: NodeRow) -> int | None:
    """When this router saw the topology change last, in seconds since 1970."""
    wall_time = view.facts.wall_time()
    if row.node is not None or view.network is None or wall_time is None:
        return None
    ago = view.router.now - view.network.last_topology_change
    return int(wall_time - ago) if isfinite(ago) else None


class LinkRow(NamedTuple):
    """A link and whose it is."""

    adaptor: AmqpAdaptor | ServiceLinks
    link: Link
    owner: Owner


def link_identity(view: View, row: LinkRow) -> str:
    """What a link is called for as long as it is there."""
    # Sessions of services have no channels.
    return f"{row.adaptor.number}.{max(0, row.link.session.local_channel)}.{row.link.handle}"


def auto_link_reference(view: View, row: AutoLink) -> str | None:
    """The identity of an auto-link's link on the connection where it fares best."""
    best = row.best
    if best is None or best.link is None:
        return None
    return f"{best.container.number}.{best.link.session.local_channel}.{best.link.handle}"


def container_of(view: View, row: ConnectionFacts) -> str | None:
    """The peer's container-id, once its Open is here; or whose connection it is."""
    if not isinstance(row.adaptor, AmqpAdaptor):
        return row.container
    remote = row.adaptor.connection.remote_open
    return remote.container_id if remote is not None else None


def mechanism_of(view: View, row: ConnectionFacts) -> str | None:
    """The SASL mechanism by which somebody was authenticated."""
    sasl = row.adaptor.connection.sasl if isinstance(row.adaptor, AmqpAdaptor) else None
    return sasl.mechanism or None if sasl is not None and sasl.done else None


def user_of(view: View, row: ConnectionFacts) -> str:
    """The name that belongs to the connection."""
    return (row.adaptor.connection.identity if isinstance(row.adaptor, AmqpAdaptor) else "") or "anonymous"


def properties_of(view: View, row: ConnectionFacts) -> dict[str, object]:
    """The properties of the peer's Open."""
    remote = row.adaptor.connection.remote_open if isinstance(row.adaptor, AmqpAdaptor) else None
    properties = remote.properties if remote is not None else None
    return {str(name): value for name, value in properties.items()} if isinstance(properties, dict) else {}


def correlator_of(view: View, row: ConnectionFacts) -> object:
    """The correlator of a peer that uses connections for data only."""
    correlator = properties_of(view, row).get("qd.group-correlator")
    return correlator if isinstance(correlator, str) else None


def status_of(view: View, row: ConnectionFacts) -> str:
    """Whether the connection is being closed, or is open and of no use to the router at its other end."""
    if not isinstance(row.adaptor, AmqpAdaptor):
        return "up"
    connection = row.adaptor.connection
    if connection.close_sent or connection.receiving is Receiving.CLOSED:
        return "closing"
    # The columns are those of the deployed routers, so the reason has no place of its own.
    return f"refused: {row.adaptor.refusal}" if row.adaptor.refusal else "up"


def is_open(view: View, row: ConnectionFacts) -> bool:
    """Whether the peer's Open has come; those of services begin when they stand."""
    return row.adaptor.opened if isinstance(row.adaptor, AmqpAdaptor) else True


def uptime_of(view: View, row: ConnectionFacts) -> int:
    """Seconds since the peer's Open, or since the connection of a service stands."""
    since = row.adaptor.opened_at if isinstance(row.adaptor, AmqpAdaptor) else row.opened_at
    return max(0, int(view.router.now - since)) if is_open(view, row) else 0


def mechanisms(view: View, row: EndpointFacts) -> str | None:
    """Mechanisms as the deployed routers write them: in one text."""
    return " ".join(row.sasl_mechanisms) or None


def failover(view: View, row: EndpointFacts) -> str | None:
    """URLs as the deployed routers write them: in one text."""
    return ", ".join(row.failover_urls) or None
