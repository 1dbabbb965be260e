"""`van status`: what a router says about itself, any router of the network, as tables or as JSON."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

import trio

from van.cli.output import json_line, plain, write
from van.cli.services import all_or_one
from van.cli.status_query import ManagementClient, Row, management_address, no_management
from van.cli.status_tables import ADDRESSES, AUTO_LINKS, CONNECTIONS, LINKS, NODES, SERVICES, Column, general
from van.client import Connection, LinkRefusedError
from van.router import exit_codes

View: TypeAlias = Literal["general", "connections", "links", "addresses", "nodes", "autolinks", "services"]

TABLES: Final[dict[str, tuple[str, Sequence[Column], str]]] = {
    "connections": ("connection", CONNECTIONS, "no connections"),
    "links": ("router.link", LINKS, "no links"),
    "addresses": ("router.address", ADDRESSES, "no addresses"),
    "autolinks": ("router.config.autoLink", AUTO_LINKS, "no auto-links"),
    "services": ("service", SERVICES, "no services"),
    "nodes": ("router.node", NODES, "this router knows no others: only those of mode interior do"),
}
"""For each view: the entities, the columns, and what to say when there are none."""

MANY_ROWS: Final = 500
"""Larger tables are not fitted to the terminal: 10 000 rows took 17 seconds."""


async def status(
    connection: Connection,
    view: View,
    *,
    router: str | None,
    edge_router: str | None,
    seconds: float,
    as_json: bool,
    interval: float | None,
) -> int:
    """Ask for a view and write it; every `interval` seconds, or once with None. Returns the exit code."""
    if view == "services":
        while True:
            octets = _rows(view, await all_or_one(connection, router, edge_router, seconds), as_json)
            if interval is None:
                await write(octets)
                return exit_codes.OK
            await write(_on_a_clean_screen(octets, as_json))
            await trio.sleep(interval)
    address = management_address(router, edge_router)
    try:
        async with connection.requester(address) as requester:
            client = ManagementClient(requester, address, seconds)
            while True:
                octets = await (_general(client, as_json) if view == "general" else _table(client, view, as_json))
                if interval is None:
                    await write(octets)
                    return exit_codes.OK
                await write(_on_a_clean_screen(octets, as_json))
                await trio.sleep(interval)
    except LinkRefusedError as error:
        raise no_management(error, address) from error


async def _general(client: ManagementClient, as_json: bool) -> bytes:
    routers = await client.query("router")
    metrics = await client.query("routerMetrics")
    listeners = await client.query("listener")
    connectors = await client.query("connector")
    router = routers[0] if routers else {}
    totals = metrics[0] if metrics else {}
    if as_json:
        value = {"router": router, "metrics": totals, "listeners": listeners, "connectors": connectors}
        return json_line(plain(value))
    return _rendered(("", ""), general(router, totals, listeners, connectors), (False, False))


async def _table(client: ManagementClient, view: View, as_json: bool) -> bytes:
    return _rows(view, await client.query(TABLES[view][0]), as_json)


def _rows(view: View, rows: list[Row], as_json: bool) -> bytes:
    _, columns, nothing = TABLES[view]
    if as_json:
        return json_line(plain(rows))
    if not rows:
        return f"{nothing}\n".encode()
    cells = [tuple(column.cell(row) for column in columns) for row in rows]
    return _rendered([column.heading for column in columns], cells, [column.number for column in columns])


def _rendered(headings: Sequence[str], cells: Sequence[Sequence[str]], numbers: Sequence[bool]) -> bytes:
    """A table, in colour where that is wanted and possible; lines are cut at the width of a terminal only."""
    visible = [tuple(map(_visible, row)) for row in cells]
    if not sys.stdout.isatty() or len(visible) > MANY_ROWS:
        return _plain(headings, visible, numbers)
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=any(headings), header_style="bold", padding=(0, 2, 0, 0))
    for heading, number in zip(headings, numbers, strict=True):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in visible:
        # Not strings: what peers call themselves may look like rich's markup.
        table.add_row(*map(Text, row))
    buffer = io.StringIO()
    Console(file=buffer, force_terminal=True, highlight=False).print(table)
    return _lines(buffer.getvalue().splitlines())


def _plain(headings: Sequence[str], cells: Sequence[Sequence[str]], numbers: Sequence[bool]) -> bytes:
    """The same for files and other programs, and for tables that take seconds to be laid out."""
    rows = [tuple(headings), *cells] if any(headings) else cells
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [(width, str.rjust if number else str.ljust) for width, number in zip(widths, numbers, strict=True)]
    return _lines(
        "  ".join(align(cell, width) for cell, (width, align) in zip(row, aligned, strict=True)) for row in rows
    )


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line.rstrip()}\n" for line in lines).encode("utf-8", "replace")


def _visible(text: str) -> str:
    """Control characters, which a peer may have in its names, as escapes: they would reach the terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _on_a_clean_screen(octets: bytes, as_json: bool) -> bytes:
    return octets if as_json or not sys.stdout.isatty() else b"\x1b[H\x1b[2J" + octets
