"""The entity types of services: those of TCP as the deployed routers have them, and one of ours for all protocols."""

from __future__ import annotations

from collections.abc import Iterable

from van.management.facts import ListenerAddressFacts, ServiceFacts
from van.management.schema import (
    CONFIGURATION,
    PREFIX,
    Attribute,
    EntityType,
    boolean,
    constant,
    integer,
    mapping,
    string,
    ulong,
    unknown,
)
from van.management.view import View

# Schemes of services that are octet streams to the network.
_OCTETS = ("tcp", "tls")
_CHANGES = ("CREATE", "DELETE", "READ")


def _closed(view: View, row: ServiceFacts) -> int:
    return row.opened - row.connections


class TcpListenerEntity(EntityType[ServiceFacts]):
    """The services that listen by TCP."""

    type = "tcpListener"
    base = CONFIGURATION
    meaning = "A service that listens by `tcp` or `tls`, as the deployed routers' tools see it."
    operations = _CHANGES
    takes_time = True
    attributes: tuple[Attribute[ServiceFacts], ...] = (
        string("name", lambda view, row: row.name, "Name of the service."),
        string("identity", lambda view, row: _tcp_identity("tcpListener", row), "`tcpListener/`, host, port and name."),
        string("type", constant(PREFIX + "tcpListener"), "The type."),
        string(
            "address",
            lambda view, row: row.address if row.strategy == "none" else None,
            "Where its clients are led to; null where there are several addresses.",
        ),
        string("host", lambda view, row: row.host, "Where it listens; empty: everywhere."),
        integer("backlog", unknown, "Not so here."),
        string("port", lambda view, row: str(row.port), "The real port."),
        string("multiAddressStrategy", lambda view, row: row.strategy, "`none`, `priority` or `weighted`."),
        string("siteId", unknown, "Not so here."),
        ulong("connectionsOpened", lambda view, row: row.opened, "Connections so far."),
        ulong("connectionsClosed", _closed, "Those that have ended."),
        ulong("bytesIn", lambda view, row: row.octets_in, "Octets from clients."),
        ulong("bytesOut", lambda view, row: row.octets_out, "Octets to clients."),
        string("sslProfile", lambda view, row: row.ssl_profile, "TLS with clients."),
        boolean("authenticatePeer", lambda view, row: row.authenticate_peer, "Clients need a certificate."),
        string("operStatus", lambda view, row: row.status, "`up` while the port is open, else `down`."),
        string("connectionMsg", lambda view, row: row.message or None, "Why it is not."),
        string("observer", constant("none"), "Always `none`."),
    )

    def rows(self, view: View) -> Iterable[ServiceFacts]:
        return [row for row in view.facts.services() if row.listening and row.scheme in _OCTETS]

    def identity(self, view: View, row: ServiceFacts) -> str:
        return _tcp_identity("tcpListener", row)

    def name(self, view: View, row: ServiceFacts) -> str:
        return row.name


class ListenerAddressEntity(EntityType[ListenerAddressFacts]):
    """The addresses of ports that lead to several."""

    type = "listenerAddress"
    base = CONFIGURATION
    meaning = "One of several addresses that a tcpListener leads to."
    operations = _CHANGES
    takes_time = True
    attributes: tuple[Attribute[ListenerAddressFacts], ...] = (
        string("name", lambda view, row: row.name, "Its name; that of the listener and the address if it has none."),
        string("identity", lambda view, row: f"listenerAddress/{row.name}", "`listenerAddress/` and the name."),
        string("type", constant(PREFIX + "listenerAddress"), "The type."),
        string("address", lambda view, row: row.address, "Where clients are led to."),
        integer("value", lambda view, row: row.value, "Its priority or weight."),
        string("listener", lambda view, row: row.listener, "Name of the tcpListener."),
        ulong("connectionsOpened", lambda view, row: row.opened, "Connections that went there so far."),
    )

    def rows(self, view: View) -> Iterable[ListenerAddressFacts]:
        return view.facts.listener_addresses()

    def identity(self, view: View, row: ListenerAddressFacts) -> str:
        return f"listenerAddress/{row.name}"

    def name(self, view: View, row: ListenerAddressFacts) -> str:
        return row.name


class TcpConnectorEntity(EntityType[ServiceFacts]):
    """The services that connect by TCP."""

    type = "tcpConnector"
    base = CONFIGURATION
    meaning = "A service that connects by `tcp` or `tls`, as the deployed routers' tools see it."
    operations = _CHANGES
    takes_time = True
    attributes: tuple[Attribute[ServiceFacts], ...] = (
        string("name", lambda view, row: row.name, "Name of the service."),
        string("identity", lambda view, row: _tcp_identity("tcpConnector", row), "`tcpConnector/`, host, port, name."),
        string("type", constant(PREFIX + "tcpConnector"), "The type."),
        string("address", lambda view, row: row.address, "What the server stands behind."),
        string("host", lambda view, row: row.host, "Where the server is."),
        string("port", lambda view, row: str(row.port), "Its port."),
        string("siteId", unknown, "Not so here."),
        string("processId", unknown, "Not so here."),
        ulong("connectionsOpened", lambda view, row: row.opened, "Connections so far."),
        ulong("connectionsClosed", _closed, "Those that have ended."),
        ulong("bytesIn", lambda view, row: row.octets_in, "Octets from the server."),
        ulong("bytesOut", lambda view, row: row.octets_out, "Octets to the server."),
        string("sslProfile", lambda view, row: row.ssl_profile, "TLS with the server."),
        boolean("verifyHostname", lambda view, row: row.verify_hostname, "The certificate must name the host."),
    )

    def rows(self, view: View) -> Iterable[ServiceFacts]:
        return [row for row in view.facts.services() if not row.listening and row.scheme in _OCTETS]

    def identity(self, view: View, row: ServiceFacts) -> str:
        return _tcp_identity("tcpConnector", row)

    def name(self, view: View, row: ServiceFacts) -> str:
        return row.name


class ServiceEntity(EntityType[ServiceFacts]):
    """All services."""

    type = "service"
    base = CONFIGURATION
    meaning = (
        "A service of any protocol. To CREATE one takes the keys of `[[service]]` as attributes, in camelCase: "
        "`listen` or `connect`, `address`, and what else is wanted."
    )
    operations = _CHANGES
    takes_time = True
    attributes: tuple[Attribute[ServiceFacts], ...] = (
        string("name", lambda view, row: row.name, "Name of the service."),
        string("identity", lambda view, row: f"service/{row.name}", "`service/` and the name."),
        string("type", constant(PREFIX + "service"), "The type."),
        string("address", lambda view, row: row.address, "Its address; with `mqtt` what stands before each topic."),
        string("end", lambda view, row: "listen" if row.listening else "connect", "`listen` or `connect`."),
        string("scheme", lambda view, row: row.scheme, "What is spoken there."),
        string("host", lambda view, row: row.host, "Where it listens, empty for everywhere; or where the server is."),
        string("port", lambda view, row: str(row.port), "The real port."),
        string("sslProfile", lambda view, row: row.ssl_profile, "TLS with clients, or with the server."),
        string("operStatus", lambda view, row: row.status, "`up` while it takes connections, else `down`."),
        string("connectionMsg", lambda view, row: row.message or None, "The last trouble, until it has passed."),
        boolean("configured", lambda view, row: row.configured, "It is in the site file; else it was created."),
        ulong("connections", lambda view, row: row.connections, "Connections that there are; flows of datagrams."),
        ulong("connectionsOpened", lambda view, row: row.opened, "Connections so far."),
        ulong("connectionsClosed", _closed, "Those that have ended."),
        ulong("bytesIn", lambda view, row: row.octets_in, "Octets from clients, or from the server."),
        ulong("bytesOut", lambda view, row: row.octets_out, "Octets to them."),
        mapping("dropped", lambda view, row: row.dropped, "Datagrams that were lost, by reason: [udp.md](udp.md)."),
    )

    def rows(self, view: View) -> Iterable[ServiceFacts]:
        return view.facts.services()

    def identity(self, view: View, row: ServiceFacts) -> str:
        return f"service/{row.name}"

    def name(self, view: View, row: ServiceFacts) -> str:
        return row.name


def _tcp_identity(kind: str, row: ServiceFacts) -> str:
    return f"{kind}/{row.host}:{row.port}:{row.name}"
