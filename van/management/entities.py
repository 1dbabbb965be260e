"""The entity types, each declared once, with attributes in the order in which the deployed routers have them.

An attribute that the deployed routers have, and that is not known here or has no meaning, is null, or 0 where their
tools calculate with it. What an attribute of a link means for credit and counts is computed in `counts.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import Final

from van import __version__
from van.adaptors.amqp import AmqpAdaptor
from van.amqp.receiver_link import ReceiverLink
from van.management import counts
from van.management.creating import auto_link_of
from van.management.facts import ConnectionFacts, ConnectorFacts, ListenerFacts, ServiceLinks
from van.management.requests import ManagementError, Status
from van.management.rows import (
    LinkRow,
    NodeRow,
    auto_link_reference,
    container_of,
    correlator_of,
    failover,
    instance_of,
    is_open,
    last_change,
    link_identity,
    mechanism_of,
    mechanisms,
    next_hop,
    other_nodes,
    peers_of,
    properties_of,
    protocol_version,
    router_link,
    status_of,
    uptime_of,
    user_of,
    valid_origins,
)
from van.management.schema import (
    CONFIGURATION,
    ENTITY,
    NODE_TYPE,
    OPERATIONAL,
    PREFIX,
    Attribute,
    EntityType,
    boolean,
    constant,
    integer,
    listing,
    long,
    mapping,
    string,
    uint,
    ulong,
    unknown,
)
from van.management.services import (
    ListenerAddressEntity,
    ServiceEntity,
    TcpConnectorEntity,
    TcpListenerEntity,
)
from van.management.view import View
from van.routing.address import AREA, Address
from van.routing.auto_link import AutoLink
from van.routing.router import Router

SELF: Final = "self"


class RouterEntity(EntityType[Router]):
    """The router as it is configured."""

    type = "router"
    base = CONFIGURATION
    meaning = "The router as it is configured; one entity."
    attributes: tuple[Attribute[Router], ...] = (
        string("id", lambda view, router: router.id, "Name of the router, unique in its network."),
        string("vanId", unknown, "Name of the network towards other networks."),
        string("mode", lambda view, router: router.mode, "`standalone`, `interior` or `edge`."),
        string("area", constant(AREA), "Always `0`."),
        string("version", constant(__version__), "Version of van."),
        string("hostName", lambda view, router: view.router_facts.host_name, "Name of the machine."),
        integer(
            "helloIntervalSeconds", lambda view, router: round(view.router_facts.hello_interval), "Between hellos."
        ),
        integer(
            "helloMaxAgeSeconds",
            lambda view, router: round(view.router_facts.hello_max_age),
            "A neighbour that is silent for so long is given up.",
        ),
        integer(
            "raIntervalSeconds", lambda view, router: round(view.router_facts.ra_interval), "Between advertisements."
        ),
        integer(
            "raIntervalFluxSeconds",
            lambda view, router: round(view.router_facts.ra_interval_flux),
            "The same while the topology changes.",
        ),
        integer(
            "remoteLsMaxAgeSeconds",
            lambda view, router: round(view.router_facts.remote_ls_max_age),
            "A router that is silent for so long is forgotten.",
        ),
        integer("unreachableHoldoffSeconds", unknown, "Not so here."),
        integer("workerThreads", lambda view, router: view.router_facts.workers, "Processes of the router."),
        string("debugDumpFile", unknown, "Not so here."),
        string("saslConfigDir", unknown, "Not so here."),
        string("saslConfigName", unknown, "Not so here."),
        boolean("timestampsInUTC", unknown, "Not so here."),
        string("timestampFormat", unknown, "Not so here."),
        string(
            "defaultDistribution",
            lambda view, router: router.default_distribution.value,
            "For addresses without a configuration.",
        ),
        string("metadata", lambda view, router: view.router_facts.metadata, "Free text of the configuration."),
        string("dataConnectionCount", constant("0"), "Connections for data only, beside each between routers."),
        boolean("dropTcpConnections", unknown, "Not so here."),
        string("name", lambda view, router: f"router/{router.id}", "As the identity."),
        string("identity", lambda view, router: f"router/{router.id}", "`router/` and the id."),
        string("type", constant(PREFIX + "router"), "The type."),
    )

    def rows(self, view: View) -> Iterable[Router]:
        return (view.router,)

    def identity(self, view: View, row: Router) -> str:
        return f"router/{row.id}"


class NetworkEntity(EntityType[Router]):
    """The network as the router knows it."""

    type = "network"
    base = CONFIGURATION
    meaning = "The network; one entity, of which nothing is known yet. `skstat -g` asks for it."
    attributes: tuple[Attribute[Router], ...] = (
        string("networkId", unknown, "Not so here."),
        string("tenantId", unknown, "Not so here."),
        string("name", constant(f"network/{AREA}"), "As the identity."),
        string("identity", constant(f"network/{AREA}"), "`network/0`."),
        string("type", constant(PREFIX + "network"), "The type."),
    )

    def rows(self, view: View) -> Iterable[Router]:
        return (view.router,)

    def identity(self, view: View, row: Router) -> str:
        return f"network/{AREA}"


class RouterMetrics(EntityType[counts.Totals]):
    """Counts of the router as a whole, since it was started."""

    type = "routerMetrics"
    meaning = "Counts of the router as a whole, since it was started; one entity."
    of_core = True
    attributes: tuple[Attribute[counts.Totals], ...] = (
        string("identity", constant("1"), "`1`."),
        string("type", constant(PREFIX + "routerMetrics"), "The type."),
        string("id", lambda view, totals: view.router.id, "Name of the router."),
        ulong("addrCount", lambda view, totals: len(view.router.addresses), "Addresses that are known."),
        ulong("linkCount", lambda view, totals: totals.links, "Links of all connections."),
        ulong("nodeCount", lambda view, totals: len(other_nodes(view)), "Other routers that are known."),
        ulong("autoLinkCount", lambda view, totals: len(view.router.auto_links), "Auto-links."),
        ulong("connectionCount", lambda view, totals: totals.adaptors, "Connections, those of services among them."),
        ulong("presettledDeliveries", lambda view, totals: totals.presettled, "Deliveries that came in settled."),
        ulong("droppedPresettledDeliveries", lambda view, totals: totals.dropped, "Those of them that were dropped."),
        ulong("acceptedDeliveries", lambda view, totals: totals.accepted, "Deliveries that were accepted."),
        ulong("rejectedDeliveries", lambda view, totals: totals.rejected, "Deliveries that were rejected."),
        ulong("releasedDeliveries", lambda view, totals: totals.released, "Deliveries that were released."),
        ulong("modifiedDeliveries", lambda view, totals: totals.modified, "Deliveries that were modified."),
        ulong("deliveriesDelayed1Sec", constant(0), "Not counted."),
        ulong("deliveriesDelayed10Sec", constant(0), "Not counted."),
        ulong("deliveriesStuck", constant(0), "Not counted."),
        ulong("deliveriesIngress", lambda view, totals: totals.ingress, "Deliveries that applications sent here."),
        ulong("deliveriesEgress", lambda view, totals: totals.egress, "Deliveries that went to applications here."),
        ulong("deliveriesTransit", lambda view, totals: totals.transit, "Deliveries that came from other routers."),
        ulong("deliveriesIngressRouteContainer", lambda view, totals: totals.from_brokers, "Those from brokers."),
        ulong("deliveriesEgressRouteContainer", lambda view, totals: totals.to_brokers, "Those to brokers."),
        ulong("deliveriesIngressInterNetwork", constant(0), "Always 0."),
        ulong("deliveriesEgressInterNetwork", constant(0), "Always 0."),
        ulong("deliveriesRedirectedToFallback", constant(0), "Always 0."),
        uint("linksBlocked", lambda view, totals: totals.blocked, "Receivers without credit for whom deliveries wait."),
        uint("uptimeSeconds", lambda view, totals: int(view.facts.uptime(view.router.now)), "Since the start."),
        ulong("memoryUsage", lambda view, totals: totals.memory, "Virtual memory in octets."),
        ulong("residentMemoryUsage", lambda view, totals: totals.resident, "Resident memory in octets."),
        mapping("connectionCounters", lambda view, totals: totals.connections, "Those of applications by protocol."),
        string("version", constant(__version__), "Version of van."),
        # Ours, behind those that tools know.
        ulong("payloadHeld", lambda view, totals: totals.held, "Octets of messages that are in memory, on their way."),
    )

    def rows(self, view: View) -> Iterable[counts.Totals]:
        if view.totals is None:
            for _ in counts.count_totals(view):
                pass
        assert view.totals is not None
        return (view.totals,)

    def prepare(self, view: View, asked: Collection[str]) -> Iterator[None]:
        return counts.count_totals(view)

    def identity(self, view: View, row: counts.Totals) -> str:
        return "1"


class RouterNode(EntityType[NodeRow]):
    """The routers of the network."""

    type = "router.node"
    meaning = "The routers of the network, this one first. Only interior routers know them."
    attributes: tuple[Attribute[NodeRow], ...] = (
        string("id", lambda view, row: row.id, "Name of the router."),
        integer("protocolVersion", protocol_version, "Version of its link state protocol."),
        integer("instance", instance_of, "When it was started, in seconds since 1970."),
        listing("linkState", peers_of, "The routers that it has connections to."),
        string("nextHop", next_hop, "The way to it: `(self)`, a router, or null to a neighbour."),
        listing("validOrigins", valid_origins, "Whose deliveries to it come by here."),
        string("address", lambda view, row: f"amqp:/_topo/{AREA}/{row.id}", "The address of the router itself."),
        integer("routerLink", router_link, "For a neighbour, the connection to it."),
        integer("cost", lambda view, row: row.node.cost if row.node is not None else None, "Of the way to it."),
        integer("lastTopoChange", last_change, "Of this router: in seconds since 1970."),
        integer("index", lambda view, row: row.number, "0 for this router, others are numbered."),
        string("name", lambda view, row: f"router.node/{row.id}", "As the identity."),
        string("identity", lambda view, row: f"router.node/{row.id}", "`router.node/` and the id."),
        string("type", constant(PREFIX + "router.node"), "The type."),
    )

    def rows(self, view: View) -> Iterator[NodeRow]:
        if view.network is None:
            return
        yield NodeRow(0, view.router.id, None)
        for number, node in enumerate(other_nodes(view).values(), 1):
            yield NodeRow(number, node.id, node)

    def prepare(self, view: View, asked: Collection[str]) -> Iterator[None]:
        network = view.network
        if network is not None and "validOrigins" in asked:
            # The engine computes the paths from one origin when it is asked about it, and keeps them.
            for origin in list(other_nodes(view)):
                network.valid_origin(view.router.id, origin)
                yield

    def identity(self, view: View, row: NodeRow) -> str:
        return f"router.node/{row.id}"


class RouterAddress(EntityType[Address]):
    """The addresses that the router knows."""

    type = "router.address"
    meaning = "An address that somebody uses, here or at another router."
    of_core = True
    attributes: tuple[Attribute[Address], ...] = (
        string("name", lambda view, address: address.key, "As the key."),
        string("identity", lambda view, address: address.key, "As the key."),
        string("type", constant(PREFIX + "router.address"), "The type."),
        string("key", lambda view, address: address.key, "Class letter (`M` mobile, `L` local, ...) and text."),
        string("distribution", lambda view, address: address.distribution.value, "How deliveries are distributed."),
        uint("inProcess", counts.in_process, "Agents of the router that receive."),
        uint("subscriberCount", counts.subscribers, "Receivers here."),
        uint("remoteCount", lambda view, address: len(counts.remote_hosts(address)), "Other routers with receivers."),
        uint("containerCount", constant(0), "Always 0."),
        listing("remoteHostRouters", lambda view, address: counts.remote_hosts(address), "Their names."),
        ulong("deliveriesIngress", counts.ingress, "Sent here, by links to it."),
        ulong("deliveriesEgress", counts.egress, "Received here."),
        ulong("deliveriesTransit", constant(0), "Not counted."),
        ulong("deliveriesToContainer", counts.to_agents, "To agents of the router."),
        ulong("deliveriesFromContainer", constant(0), "Not counted."),
        ulong("deliveriesEgressRouteContainer", constant(0), "Always 0."),
        ulong("deliveriesIngressRouteContainer", constant(0), "Always 0."),
        ulong("deliveriesEgressInterNetwork", constant(0), "Always 0."),
        ulong("deliveriesIngressInterNetwork", constant(0), "Always 0."),
        listing("transitOutstanding", unknown, "Not told."),
        uint("trackedDeliveries", counts.outstanding, "Under way to receivers."),
        integer("priority", lambda view, address: -1 if address.priority is None else address.priority, "-1: none."),
        ulong("deliveriesRedirectedToFallback", constant(0), "Always 0."),
        boolean("watch", constant(value=False), "Always false."),
    )

    def rows(self, view: View) -> Iterable[Address]:
        return view.router.addresses.values()

    def identity(self, view: View, row: Address) -> str:
        return row.key

    def find(self, view: View, identity: str) -> Address | None:
        return view.router.addresses.get(identity)

    def find_by_name(self, view: View, name: str) -> Address | None:
        return self.find(view, name)


class RouterLink(EntityType[LinkRow]):
    """The links of all connections."""

    type = "router.link"
    meaning = "A link of a connection, as the router sees it: what comes in was sent by the peer."
    of_core = True
    attributes: tuple[Attribute[LinkRow], ...] = (
        string("name", lambda view, row: row.link.name, "As `linkName`."),
        string("identity", link_identity, "Unique among the links that there are."),
        string("type", constant(PREFIX + "router.link"), "The type."),
        string("linkName", lambda view, row: row.link.name, "The name that it was attached with."),
        string(
            "linkType",
            lambda view, row: counts.link_type(row.owner, row.adaptor.role),
            "`endpoint`, `inter-router` or `router-control`.",
        ),
        string("linkDir", lambda view, row: "in" if isinstance(row.link, ReceiverLink) else "out", "`in` or `out`."),
        string("operStatus", lambda view, row: "up" if row.link.active else "down", "`up` or `down`."),
        string("owningAddr", lambda view, row: counts.key_of(row.owner), "Key of its address; null: any address."),
        uint("capacity", lambda view, row: counts.capacity(row.owner), "Credit of the link when it is idle."),
        ulong("undeliveredCount", lambda view, row: counts.undelivered(row.owner), "Deliveries that wait for credit."),
        ulong("unsettledCount", lambda view, row: counts.unsettled(row.owner), "Deliveries without an outcome."),
        ulong("deliveryCount", lambda view, row: row.link.deliveries(), "Deliveries so far."),
        string("connectionId", lambda view, row: str(row.adaptor.number), "Identity of its connection."),
        ulong("presettledCount", lambda view, row: counts.presettled(row.owner), "Of these, came in settled."),
        ulong("droppedPresettledCount", constant(0), "Not counted."),
        ulong("acceptedCount", lambda view, row: counts.accepted(row.owner), "Deliveries that were accepted."),
        ulong("rejectedCount", lambda view, row: counts.rejected(row.owner), "Deliveries that were rejected."),
        ulong("releasedCount", lambda view, row: counts.released(row.owner), "Deliveries that were released."),
        ulong("modifiedCount", lambda view, row: counts.modified(row.owner), "Deliveries that were modified."),
        ulong("deliveriesDelayed1Sec", constant(0), "Not counted."),
        ulong("deliveriesDelayed10Sec", constant(0), "Not counted."),
        ulong("deliveriesStuck", constant(0), "Not counted."),
        ulong("openMovedStreams", constant(0), "Always 0."),
        listing("ingressHistogram", unknown, "Not told."),
        uint("priority", lambda view, row: counts.priority(row.link), "Its turn among the links of its connection."),
        uint("settleRate", constant(0), "Not measured."),
        uint("creditAvailable", lambda view, row: row.link.link_credit, "Deliveries that may follow."),
        uint("zeroCreditSeconds", constant(0), "Not measured."),
    )

    def rows(self, view: View) -> Iterator[LinkRow]:
        for holder in _holders(view):
            for link, owner in holder.links.items():
                yield LinkRow(holder, link, owner)

    def page(self, view: View, offset: int, count: int | None) -> Iterator[LinkRow]:
        # The links of one connection at a time, and those before the page not at all.
        for holder in _holders(view):
            links = holder.links
            if offset >= len(links):
                offset -= len(links)
                continue
            wanted = None if count is None else offset + count
            found = list(islice(links.items(), offset, wanted))
            for link, owner in found:
                yield LinkRow(holder, link, owner)
            offset = 0
            if count is not None:
                count -= len(found)
                if count <= 0:
                    return

    def identity(self, view: View, row: LinkRow) -> str:
        return link_identity(view, row)

    def name(self, view: View, row: LinkRow) -> str:
        return row.link.name


def _holders(view: View) -> list[AmqpAdaptor | ServiceLinks]:
    """Whoever has links: connections of AMQP, services, and their connections."""
    return [*view.facts.adaptors(), *view.facts.service_links()]


class ConnectionEntity(EntityType[ConnectionFacts]):
    """The connections of the router."""

    type = "connection"
    meaning = "A connection, of an application or of another router."
    of_core = True
    attributes: tuple[Attribute[ConnectionFacts], ...] = (
        string("name", lambda view, row: f"connection/{row.host}", "`connection/` and the host."),
        string("identity", lambda view, row: str(row.adaptor.number), "A number; the log has it too."),
        string("host", lambda view, row: row.host, "Address and port of the peer."),
        string("localSocket", lambda view, row: row.local, "Address and port on this side."),
        string("role", lambda view, row: row.adaptor.role, "`normal`, `inter-router`, `edge`, `route-container`."),
        string("protocol", lambda view, row: row.protocol, "`amqp`, or what the service speaks."),
        string("dir", lambda view, row: "out" if row.outgoing else "in", "`out`: made by this router."),
        string("container", container_of, "Container-id of the peer; the service that it belongs to."),
        string("sasl", mechanism_of, "SASL mechanism that was used."),
        boolean("isAuthenticated", lambda view, row: mechanism_of(view, row) is not None, "Whether SASL was used."),
        string("user", user_of, "Who the peer has proved to be, or who we are to it."),
        boolean("isEncrypted", lambda view, row: bool(row.tls_version), "Whether nobody on the way can read along."),
        string("sslProto", lambda view, row: row.tls_version or None, "Version of TLS."),
        string("sslCipher", lambda view, row: row.tls_cipher or None, "Its cipher."),
        mapping("properties", properties_of, "What the peer says of itself in its Open."),
        long("sslSsf", lambda view, row: row.tls_bits, "Strength of the cipher in bits."),
        string("type", constant(PREFIX + "connection"), "The type."),
        boolean("ssl", lambda view, row: bool(row.tls_version), "Whether TLS is used."),
        boolean("opened", is_open, "Whether the peer's Open has come."),
        boolean("active", constant(value=True), "Always true."),
        string("adminStatus", constant("enabled"), "Always `enabled`."),
        string("operStatus", status_of, "`up`, `closing`, or `refused:` and why a router is no neighbour."),
        uint("uptimeSeconds", uptime_of, "Since the peer's Open."),
        uint("lastDlvSeconds", unknown, "Not measured."),
        boolean("enableProtocolTrace", constant(value=False), "Always false."),
        string("meshId", unknown, "Not so here."),
        ulong("tlsOrdinal", unknown, "Not so here."),
        string("groupCorrelationId", correlator_of, "What data connections share with theirs."),
        ulong("groupOrdinal", unknown, "Not so here."),
    )

    def rows(self, view: View) -> Iterable[ConnectionFacts]:
        return chain(map(view.facts.connection, view.facts.adaptors()), view.facts.service_connections())

    def identity(self, view: View, row: ConnectionFacts) -> str:
        return str(row.adaptor.number)

    def name(self, view: View, row: ConnectionFacts) -> str:
        return f"connection/{row.host}"


class ListenerEntity(EntityType[ListenerFacts]):
    """The listeners."""

    type = "listener"
    base = CONFIGURATION
    meaning = "A listener of the configuration."
    attributes: tuple[Attribute[ListenerFacts], ...] = (
        string("host", lambda view, row: row.host, "Where it listens; empty: everywhere."),
        string("port", lambda view, row: str(row.port), "The real port."),
        string("socketAddressFamily", unknown, "Not so here."),
        string("role", lambda view, row: row.role, "Who may connect: `normal`, `inter-router`, `edge`, ..."),
        integer("cost", lambda view, row: row.cost, "Cost of the way, between routers."),
        string("sslProfile", lambda view, row: row.ssl_profile, "Its certificates."),
        string("saslMechanisms", mechanisms, "Mechanisms that are offered."),
        boolean("authenticatePeer", lambda view, row: row.authenticate_peer, "Anonymous peers are refused."),
        boolean("requireEncryption", lambda view, row: row.tls, "Only encrypted connections."),
        boolean("requireSsl", lambda view, row: row.tls, "Only TLS."),
        integer("maxFrameSize", lambda view, row: row.max_frame_size, "Largest frame in octets."),
        integer("maxSessions", lambda view, row: row.max_sessions, "Sessions of one connection."),
        integer("maxSessionFrames", lambda view, row: row.max_session_frames, "Largest window of a session."),
        integer("idleTimeoutSeconds", lambda view, row: round(row.idle_timeout), "A silent peer is gone after this."),
        integer(
            "initialHandshakeTimeoutSeconds",
            lambda view, row: round(row.initial_handshake_timeout),
            "Time until the peer's Open.",
        ),
        string("stripAnnotations", constant("both"), "Always `both`."),
        integer("linkCapacity", lambda view, row: row.link_capacity, "Credit of a sending client."),
        string("failoverUrls", failover, "Told to clients: where else they may connect."),
        boolean("healthz", constant(value=False), "Not so here."),
        boolean("metrics", constant(value=False), "Not so here."),
        boolean("websockets", lambda view, row: row.websocket, "Whether WebSocket is spoken."),
        boolean("http", lambda view, row: row.websocket, "Whether HTTP is spoken."),
        string("httpRootDir", unknown, "Not so here."),
        string("messageLoggingComponents", constant("none"), "Always `none`."),
        string("policyVhost", unknown, "Not so here."),
        mapping("openProperties", unknown, "Not so here."),
        string("name", lambda view, row: row.name, "Name of the configuration."),
        string("identity", lambda view, row: row.key("listener"), "`listener/`, host, port and name."),
        string("type", constant(PREFIX + "listener"), "The type."),
    )

    def rows(self, view: View) -> Iterable[ListenerFacts]:
        return view.facts.listeners()

    def identity(self, view: View, row: ListenerFacts) -> str:
        return row.key("listener")

    def name(self, view: View, row: ListenerFacts) -> str:
        return row.name


class ConnectorEntity(EntityType[ConnectorFacts]):
    """The connectors."""

    type = "connector"
    base = CONFIGURATION
    meaning = "A connector of the configuration, and how it fares."
    attributes: tuple[Attribute[ConnectorFacts], ...] = (
        string("host", lambda view, row: row.host, "Where it connects to."),
        string("port", lambda view, row: str(row.port), "The port there."),
        string("role", lambda view, row: row.role, "Who is there: `normal`, `inter-router`, `edge`, ..."),
        integer("cost", lambda view, row: row.cost, "Cost of the way, between routers."),
        string("sslProfile", lambda view, row: row.ssl_profile, "Its certificates."),
        string("proxyProfile", lambda view, row: "proxy" if row.proxied else None, "Set when a proxy is used."),
        string("saslMechanisms", mechanisms, "Mechanisms that may be used."),
        boolean("allowRedirect", constant(value=False), "Always false."),
        integer("maxFrameSize", lambda view, row: row.max_frame_size, "Largest frame in octets."),
        integer("maxSessions", lambda view, row: row.max_sessions, "Sessions of one connection."),
        integer("maxSessionFrames", lambda view, row: row.max_session_frames, "Largest window of a session."),
        integer("idleTimeoutSeconds", lambda view, row: round(row.idle_timeout), "A silent peer is gone after this."),
        string("stripAnnotations", constant("both"), "Always `both`."),
        integer("linkCapacity", lambda view, row: row.link_capacity, "Credit of a sending peer."),
        boolean("verifyHostname", lambda view, row: row.verify_hostname, "The certificate must name the host."),
        string("saslUsername", lambda view, row: row.sasl_username, "User for PLAIN and SCRAM."),
        string("saslPassword", unknown, "Never told."),
        string("messageLoggingComponents", constant("none"), "Always `none`."),
        string("failoverUrls", failover, "Tried in turn when the first cannot be reached."),
        string("connectionStatus", lambda view, row: row.status, "`CONNECTING`, `SUCCESS` or `FAILED`."),
        string("connectionMsg", lambda view, row: row.message or None, "The same in words."),
        string("policyVhost", unknown, "Not so here."),
        mapping("openProperties", unknown, "Not so here."),
        string("name", lambda view, row: row.name, "Name of the configuration."),
        string("identity", lambda view, row: row.key("connector"), "`connector/`, host, port and name."),
        string("type", constant(PREFIX + "connector"), "The type."),
    )

    def rows(self, view: View) -> Iterable[ConnectorFacts]:
        return view.facts.connectors()

    def identity(self, view: View, row: ConnectorFacts) -> str:
        return row.key("connector")

    def name(self, view: View, row: ConnectorFacts) -> str:
        return row.name


class AutoLinkEntity(EntityType[AutoLink]):
    """The auto-links."""

    type = "router.config.autoLink"
    base = CONFIGURATION
    meaning = "An auto-link: what is fetched from a broker, or brought to it, and how it fares."
    of_core = True
    attributes: tuple[Attribute[AutoLink], ...] = (
        string("name", lambda view, row: row.name, "Name of the configuration."),
        string("identity", lambda view, row: row.identity, "A number."),
        string("type", constant(PREFIX + "router.config.autoLink"), "The type."),
        string("address", lambda view, row: row.address or None, "Address in the network; null: each message's own."),
        string("direction", lambda view, row: "in" if row.incoming else "out", "`in`: from the broker; `out`: to it."),
        string("connection", lambda view, row: row.connection or None, "The listener or connector that it is for."),
        string("containerId", lambda view, row: row.container_id or None, "Or the broker's container-id."),
        string("externalAddress", lambda view, row: row.external_address or None, "What the broker calls it."),
        string("linkRef", auto_link_reference, "Identity of its link, one of them where it has several."),
        string(
            "operStatus", lambda view, row: row.status, "`inactive` (no connection), `attaching`, `active`, `failed`."
        ),
        string("lastError", lambda view, row: row.last_error or None, "Why it failed on one of its connections."),
    )

    operations = ("CREATE", "DELETE", "READ")

    def create(self, view: View, name: str, attributes: dict[object, object]) -> AutoLink:
        auto_link = auto_link_of(name, attributes)
        try:
            view.router.auto_links.add(auto_link)
        except ValueError as error:
            raise ManagementError(Status.BAD_REQUEST, str(error)) from None
        return auto_link

    def delete(self, view: View, row: AutoLink) -> None:
        view.router.auto_links.remove(row)

    def rows(self, view: View) -> Iterable[AutoLink]:
        return view.router.auto_links.all()

    def identity(self, view: View, row: AutoLink) -> str:
        return row.identity

    def name(self, view: View, row: AutoLink) -> str:
        return row.name


class ManagementEntity(EntityType[Router]):
    """The management node itself."""

    type = "management"
    base = NODE_TYPE
    meaning = "The management node itself; one entity, which operations about types and nodes are addressed to."
    operations = ("GET-ANNOTATIONS", "GET-ATTRIBUTES", "GET-MGMT-NODES", "GET-OPERATIONS", "GET-TYPES", "QUERY", "READ")
    attributes: tuple[Attribute[Router], ...] = (
        string("name", constant(SELF), "`self`."),
        string("identity", constant(SELF), "`self`."),
        string("type", constant(PREFIX + "management"), "The type."),
    )

    def rows(self, view: View) -> Iterable[Router]:
        return (view.router,)

    def identity(self, view: View, row: Router) -> str:
        return SELF


# In the order in which GET-TYPES tells them.
ENTITY_TYPES: Final[tuple[EntityType[object], ...]] = (  # type: ignore[assignment]  # each is used with its own rows only
    ManagementEntity(),
    RouterMetrics(),
    RouterEntity(),
    NetworkEntity(),
    ListenerEntity(),
    ConnectorEntity(),
    TcpListenerEntity(),
    TcpConnectorEntity(),
    ListenerAddressEntity(),
    ServiceEntity(),
    AutoLinkEntity(),
    RouterLink(),
    RouterAddress(),
    RouterNode(),
    ConnectionEntity(),
)

BY_TYPE: Final[dict[str, EntityType[object]]] = {declared.type: declared for declared in ENTITY_TYPES}

# Types that have no entities of their own, and what they extend.
ABSTRACT_TYPES: Final[dict[str, str | None]] = {
    ENTITY: None,
    NODE_TYPE: OPERATIONAL,
    CONFIGURATION: ENTITY,
    OPERATIONAL: ENTITY,
}


def bases_of(name: str) -> list[str]:
    """The types that a type extends, nearest first, without prefix."""
    declared = BY_TYPE.get(name)
    base = declared.base if declared is not None else ABSTRACT_TYPES[name]
    return [base, *bases_of(base)] if base is not None else []
