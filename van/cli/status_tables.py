"""What `van status` shows to people: from entities to the cells of tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

Row: TypeAlias = dict[str, Any]

CLASSES = {
    "M": "mobile",
    "L": "local",
    "T": "topological",
    "R": "router",
    "A": "area",
    "H": "edge",
    "N": "network",
}
"""The class of an address by the first letter of its key."""

UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class Column(NamedTuple):
    """A column: its heading, how a cell is made from an entity, and whether it holds numbers."""

    heading: str
    cell: Callable[[Row], str]
    number: bool = False


def text(name: str) -> Callable[[Row], str]:
    """A cell that is an attribute as it is; empty where it is null."""
    return lambda row: shown(row.get(name))


def shown(value: object) -> str:
    """A value for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return str(value)


def duration(seconds: object) -> str:
    """`3d 04:05:06`, days only where there are any."""
    if not isinstance(seconds, (int, float)):
        return ""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{f'{days}d ' if days else ''}{hour:02}:{minute:02}:{second:02}"


def octets(size: object) -> str:
    """`45.2 MiB`."""
    if not isinstance(size, int):
        return ""
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} octets"


def address_class(key: object) -> str:
    """The class of an address in a word."""
    return CLASSES.get(key[:1], "") if isinstance(key, str) else ""


def address_text(key: object) -> str:
    """An address without its class; what links without one have is any address."""
    return key[1:] if isinstance(key, str) else ""


def security(row: Row) -> str:
    """How a connection is encrypted."""
    return shown(row.get("sslProto")) or "none" if row.get("isEncrypted") else "none"


def user(row: Row) -> str:
    """Who the peer of a connection has proved to be, and how."""
    name, mechanism = shown(row.get("user")), shown(row.get("sasl"))
    if not row.get("isAuthenticated"):
        return "unauthenticated"
    return name if mechanism in ("", "ANONYMOUS") else f"{name} ({mechanism})"


def priority(row: Row) -> str:
    """The priority that an address gives to its messages."""
    value = row.get("priority")
    return "" if value is None or value == -1 else shown(value)


def where_of(row: Row) -> str:
    """Where a service listens or connects to."""
    host = shown(row.get("host"))
    return f"{shown(row.get('scheme'))}://{f'[{host}]' if ':' in host else host}:{shown(row.get('port'))}"


def next_hop(row: Row) -> str:
    """The way to a router; the deployed routers leave it out for neighbours."""
    hop = row.get("nextHop")
    if hop == "(self)":
        return "this router"
    return shown(hop) if hop is not None else "neighbour"


CONNECTIONS = (
    Column("id", text("identity"), number=True),
    Column("peer", text("host")),
    Column("container", text("container")),
    Column("role", text("role")),
    Column("dir", text("dir")),
    Column("security", security),
    Column("user", user),
    Column("status", text("operStatus")),
    Column("up", lambda row: duration(row.get("uptimeSeconds")), number=True),
)

LINKS = (
    Column("connection", text("connectionId"), number=True),
    Column("id", text("identity")),
    Column("type", text("linkType")),
    Column("dir", text("linkDir")),
    Column("class", lambda row: address_class(row.get("owningAddr"))),
    Column("address", lambda row: address_text(row.get("owningAddr"))),
    Column("priority", text("priority"), number=True),
    Column("capacity", text("capacity"), number=True),
    Column("credit", text("creditAvailable"), number=True),
    Column("undelivered", text("undeliveredCount"), number=True),
    Column("unsettled", text("unsettledCount"), number=True),
    Column("deliveries", text("deliveryCount"), number=True),
    Column("accepted", text("acceptedCount"), number=True),
    Column("rejected", text("rejectedCount"), number=True),
    Column("released", text("releasedCount"), number=True),
    Column("modified", text("modifiedCount"), number=True),
    Column("presettled", text("presettledCount"), number=True),
)

ADDRESSES = (
    Column("class", lambda row: address_class(row.get("key"))),
    Column("address", lambda row: address_text(row.get("key"))),
    Column("distribution", text("distribution")),
    Column("priority", priority, number=True),
    Column("receivers", text("subscriberCount"), number=True),
    Column("agents", text("inProcess"), number=True),
    Column("remote", text("remoteHostRouters")),
    Column("in", text("deliveriesIngress"), number=True),
    Column("out", text("deliveriesEgress"), number=True),
    Column("through", text("deliveriesTransit"), number=True),
)

SERVICES = (
    Column("address", text("address")),
    Column("router", text("router")),
    Column("end", text("end")),
    Column("where", where_of),
    Column("status", text("operStatus")),
    Column("connections", text("connections"), number=True),
    Column("opened", text("connectionsOpened"), number=True),
    Column("in", lambda row: octets(row.get("bytesIn")), number=True),
    Column("out", lambda row: octets(row.get("bytesOut")), number=True),
    Column("message", text("connectionMsg")),
)

NODES = (
    Column("router", text("id")),
    Column("next hop", next_hop),
    Column("cost", text("cost"), number=True),
    Column("connection", text("routerLink"), number=True),
    Column("neighbours", text("linkState")),
    Column("valid origins", text("validOrigins")),
)


AUTO_LINKS = (
    Column("name", text("name")),
    Column("address", text("address")),
    Column("dir", text("direction")),
    Column("broker", lambda row: shown(row.get("connection")) or shown(row.get("containerId"))),
    Column("at broker", lambda row: shown(row.get("externalAddress")) or shown(row.get("address"))),
    Column("link", text("linkRef")),
    Column("status", text("operStatus")),
    Column("last error", text("lastError")),
)


def general(router: Row, metrics: Row, listeners: Sequence[Row], connectors: Sequence[Row]) -> list[tuple[str, str]]:
    """Name and value of what there is to say about a router as a whole."""
    about = [f"mode {shown(router.get('mode'))}", f"version {shown(metrics.get('version') or metrics.get(''))}"]
    if router.get("hostName"):
        about.append(f"on {router['hostName']}")
    lines = [
        ("router", shown(metrics.get("id"))),
        ("", ", ".join(about)),
        ("up", duration(metrics.get("uptimeSeconds"))),
        ("memory", octets(metrics.get("residentMemoryUsage"))),
        ("connections", shown(metrics.get("connectionCount"))),
        ("links", _count(metrics, "linkCount", "linksBlocked", "waiting for credit")),
        ("addresses", shown(metrics.get("addrCount"))),
        ("other routers", shown(metrics.get("nodeCount"))),
        ("deliveries", _counts(metrics, _DELIVERIES)),
        ("outcomes", _counts(metrics, _OUTCOMES)),
        ("metadata", shown(router.get("metadata"))),
    ]
    lines += [("listener", f"{_where(row)}: {shown(row.get('role'))}") for row in listeners]
    for row in connectors:
        status = shown(row.get("connectionStatus"))
        message = shown(row.get("connectionMsg"))
        lines.append(("connector", f"{_where(row)}: {shown(row.get('role'))}, {status}{message and f': {message}'}"))
    return [(name, value) for name, value in lines if value]


_DELIVERIES = {"in": "deliveriesIngress", "out": "deliveriesEgress", "through": "deliveriesTransit"}
_OUTCOMES = {
    "accepted": "acceptedDeliveries",
    "rejected": "rejectedDeliveries",
    "released": "releasedDeliveries",
    "modified": "modifiedDeliveries",
    "presettled": "presettledDeliveries",
    "dropped": "droppedPresettledDeliveries",
}


def _counts(row: Row, names: dict[str, str]) -> str:
    return ", ".join(f"{shown(row.get(name))} {word}" for word, name in names.items() if row.get(name) is not None)


def _count(row: Row, name: str, part: str, words: str) -> str:
    return f"{shown(row.get(name))}{f', {row[part]} {words}' if row.get(part) else ''}"


def _where(row: Row) -> str:
    name = shown(row.get("name"))
    where = f"{shown(row.get('host'))}:{shown(row.get('port'))}"
    return where if where in name else f"{name} ({where})"
