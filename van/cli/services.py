"""`van expose` and `van bind`: services of a running router, added and removed; and `van status services`.

Routers of the skupper-router family know services over TCP only, as tcpListener and tcpConnector.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import trio

from van.cli.errors import StoppedError, UsageError, complain
from van.cli.output import json_line, plain, write
from van.cli.status_query import MANAGEMENT, PREFIX, ManagementClient, Row, management_address, no_management
from van.cli.status_tables import where_of
from van.client import ClientError, Connection, LinkRefusedError, UrlError
from van.router import exit_codes
from van.router.kinds import schemes
from van.transport.service_url import ServiceUrl, parse_service_url

SERVICE: Final = "service"
# What each end is called by routers that know TCP only.
TCP_TYPES: Final = {"listen": "tcpListener", "connect": "tcpConnector"}
# Routers that are asked at a time.
ASKED_AT_ONCE: Final = 16


async def add(
    connection: Connection,
    end: str,
    address: str,
    url_text: str,
    *,
    name: str | None,
    settings: Sequence[str],
    seconds: float,
    as_json: bool,
) -> int:
    """Add a service; end is `listen` or `connect`. Raises `StoppedError` when the router does not want it."""
    url = service_url(end, url_text)
    attributes: dict[str, Any] = {"address": address, end: str(url), **dict(map(parse_setting, settings))}
    async with connection.requester(MANAGEMENT) as requester:
        client = ManagementClient(requester, MANAGEMENT, seconds)
        kind = await _type(client, end, url)
        if kind != SERVICE:
            del attributes[end]
            attributes |= {"host": url.host or "0.0.0.0", "port": str(url.port)}  # noqa: S104 - what "" means here
            name = name or f"{end}/{url.host_and_port}"
        row = await client.create(kind, name, attributes)
    if as_json:
        await write(json_line(plain(row)))
        return exit_codes.OK
    row = _uniform(row, end, url.scheme)
    if end == "listen":
        text = f"{where_of(row)} leads to {address}"
        if row.get("operStatus") == "down":
            text += "; the port opens when somebody stands behind that address"
    else:
        text = f"{where_of(row)} stands behind {address}"
    await write(f"{text} ({row.get('name')})\n".encode())
    return exit_codes.OK


async def remove(connection: Connection, end: str, address: str, url_text: str | None, *, seconds: float) -> int:
    """Remove the service of an end, address and URL; without a URL the only one there is.

    Raises `StoppedError`, `UsageError`.
    """
    url = service_url(end, url_text) if url_text is not None else None
    async with connection.requester(MANAGEMENT) as requester:
        client = ManagementClient(requester, MANAGEMENT, seconds)
        rows = await services_of(client)
        ours = [row for row in rows if row["end"] == end and row["address"] == address]
        found = [row for row in ours if url is None or where_of(row) == str(url)]
        if not found:
            known = ", ".join(where_of(row) for row in ours) or "none"
            raise StoppedError(exit_codes.FAILURE, f"no such service; those of {address} that {end} here: {known}")
        if len(found) > 1:
            raise UsageError(f"which one? {', '.join(where_of(row) for row in found)}")
        (row,) = found
        kind = str(row["type"]).removeprefix(PREFIX)
        await client.delete(kind, str(row["name"]))
    await write(f"removed: {where_of(row)} ({row['name']})\n".encode())
    return exit_codes.OK


def service_url(end: str, text: str) -> ServiceUrl:
    """The URL of a command. Raises `UsageError`."""
    try:
        return parse_service_url(text, schemes(end == "listen"), any_interface=end == "listen")
    except UrlError as error:
        raise UsageError(str(error)) from None


def parse_setting(text: str) -> tuple[str, object]:
    """`KEY=VALUE`, a key of the site file; the value as in JSON, else a text. Raises `UsageError`."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise UsageError(f'"{text}" is no setting: KEY=VALUE')
    words = name.split("_")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    return "".join((words[0], *(word.capitalize() for word in words[1:]))), parsed


async def _type(client: ManagementClient, end: str, url: ServiceUrl) -> str:
    """The type of entity that this router wants for a service. Raises `StoppedError` when it knows none."""
    types = await client.types()
    if SERVICE in types:
        return SERVICE
    if url.scheme == "tcp" and TCP_TYPES[end] in types:
        return TCP_TYPES[end]
    raise StoppedError(exit_codes.FAILURE, f"this router has no services by {url.scheme}")


# -- what there is ------------------------------------------------------------------------------------------------


async def services_of(client: ManagementClient) -> list[Row]:
    """The services of a router, in one shape whatever its family."""
    types = await client.types()
    if SERVICE in types:
        return await client.query(SERVICE)
    rows: list[Row] = []
    for end, kind in TCP_TYPES.items():
        if kind in types:
            rows += [_uniform(row, end, "tcp") for row in await client.query(kind)]
    return rows


def _uniform(row: Row, end: str, scheme: str) -> Row:
    opened, closed = row.get("connectionsOpened"), row.get("connectionsClosed")
    defaults = {
        "end": end,
        "scheme": scheme,
        "operStatus": "up",
        "connections": opened - closed if isinstance(opened, int) and isinstance(closed, int) else None,
    }
    return {**defaults, **row}


async def everywhere(connection: Connection, seconds: float) -> list[Row]:
    """The services of every router of the network, each with its `router`; routers that do not answer are told."""
    asked: dict[str, str] = {}
    rows: list[Row] = []
    limiter = trio.CapacityLimiter(ASKED_AT_ONCE)

    async def ask(router: str, address: str) -> None:
        async with limiter:
            try:
                async with connection.requester(address) as requester:
                    client = ManagementClient(requester, address, seconds)
                    found = await services_of(client)
                    edges = await _edges(client)
            except (ClientError, StoppedError) as error:
                complain(f"router {router} is left out: {error}")
                return
        rows.extend({"router": router, **row} for row in found)
        for edge in edges:
            begin(edge, management_address(None, edge))

    def begin(router: str, address: str) -> None:
        if router not in asked:
            asked[router] = address
            nursery.start_soon(ask, router, address)

    async with connection.requester(MANAGEMENT) as requester:
        client = ManagementClient(requester, MANAGEMENT, seconds)
        own, others = await _routers(connection, client, seconds)
    async with trio.open_nursery() as nursery:
        begin(own, MANAGEMENT)
        for other in others:
            begin(other, management_address(other, None))
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[str, ...]:
    """By address, ports before servers."""
    return (str(row.get("address")), "0" if row.get("end") == "listen" else "1", str(row["router"]), where_of(row))


async def _routers(connection: Connection, client: ManagementClient, seconds: float) -> tuple[str, list[str]]:
    """The router that we are connected to, and the interior routers of its network."""
    (router, *_) = await client.query("router")
    own = str(router.get("id"))
    if router.get("mode") != "edge":
        return own, [str(row["id"]) for row in await client.query("router.node") if row["id"] != own]
    uplinks = [
        str(row.get("container"))
        for row in await client.query("connection")
        if row.get("role") == "edge" and row.get("dir") == "out" and row.get("opened")
    ]
    for uplink in uplinks:
        address = management_address(uplink, None)
        try:
            async with connection.requester(address) as requester:
                beyond = ManagementClient(requester, address, seconds)
                return own, [str(row["id"]) for row in await beyond.query("router.node")]
        except (ClientError, StoppedError) as error:
            complain(f"only this router is shown: {error}")
    return own, []


async def _edges(client: ManagementClient) -> list[str]:
    """The edge routers that a router knows."""
    return [
        str(row.get("container"))
        for row in await client.query("connection")
        if row.get("role") == "edge" and row.get("dir") == "in" and row.get("opened") and row.get("container")
    ]


async def all_or_one(
    connection: Connection, router: str | None, edge_router: str | None, seconds: float
) -> list[Row]:
    """The services of the router that is named, or of all."""
    if router is None and edge_router is None:
        return await everywhere(connection, seconds)
    address = management_address(router, edge_router)
    try:
        async with connection.requester(address) as requester:
            rows = await services_of(ManagementClient(requester, address, seconds))
    except LinkRefusedError as error:
        raise no_management(error, address) from error
    return sorted(({"router": router or edge_router, **row} for row in rows), key=_order)
