"""Entities of a router's other processes: what worker 0 asks of them for an answer, and what they tell it.

Connections and links are told as encoded rows, which stand behind those of worker 0. Addresses and totals are the whole
router's: what the others count is added to what worker 0 does. Everything else worker 0 knows by itself. How questions
and answers get from process to process is left to others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from van.management import counts
from van.management.node import encode_entity, find, rows_of, types_named
from van.management.requests import ManagementError, Request
from van.management.view import AddressCounts, Elsewhere, View
from van.routing.router import Router

# Those that each process has for itself.
ROWS: Final = ("router.link", "connection")
ADDRESSES: Final = "router.address"
TOTALS: Final = "routerMetrics"
# What is told in one piece, in rows: others have their turn between two.
PIECE: Final = 80


@attrs.frozen(kw_only=True)
class Question:
    """What another process is asked for. `request` is what the router was asked.

    skip, count: which of its rows are wanted; count is None for all. keys: the addresses that are wanted, None for all.
    """

    request: Request
    skip: int = 0
    count: int | None = None
    rows: bool = False
    entity: bool = False
    addresses: bool = False
    keys: tuple[str, ...] | None = None
    totals: bool = False


@attrs.frozen(kw_only=True)
class Piece:
    """A piece of an answer: rows as encoded lists, counts by address, an entity as an encoded map.

    `total` is the number of rows that there are, in the first piece.
    """

    rows: tuple[bytes, ...] = ()
    total: int = 0
    entity: bytes = b""
    addresses: dict[str, AddressCounts] = attrs.field(factory=dict)
    totals: counts.Totals | None = None


def question(request: Request, router: Router) -> Question | None:
    """What has to be asked of other processes for a request; None for nothing."""
    try:
        if request.operation == "QUERY":
            names = {declared.type for declared in types_named(request.entity_type)}
        elif request.operation == "READ":
            names = {declared.type for declared in types_named(request.type)}
        else:
            return None
    except ManagementError:
        return None
    reading = request.operation == "READ"
    rows = not names.isdisjoint(ROWS)
    keys: tuple[str, ...] | None = None
    if reading:
        asked = request.identity if request.identity is not None else request.name
        keys = (asked or "",)
    elif len(names) == 1 and request.count is not None:
        known = list(router.addresses)
        keys = tuple(known[request.offset : request.offset + request.count])
    found = Question(
        request=request,
        count=request.count,
        rows=rows and not reading,
        entity=rows and reading,
        addresses=ADDRESSES in names,
        keys=keys,
        totals=TOTALS in names,
    )
    return found if found.rows or found.entity or found.addresses or found.totals else None


def own_rows(view: View, request: Request) -> int:
    """How many rows worker 0 has itself for a request, before those of others."""
    return sum(len(list(declared.rows(view))) for declared in types_named(request.entity_type))


def answer(view: View, asked: Question) -> Iterator[Piece]:
    """What a process tells, piece by piece."""
    request = asked.request
    if asked.rows:
        yield from _rows(view, asked)
    if asked.entity:
        yield Piece(entity=_entity(view, request))
    if asked.addresses:
        yield from _addresses(view, asked.keys)
    if asked.totals:
        for _ in counts.count_totals(view):
            yield Piece()
        yield Piece(totals=view.totals)


def _rows(view: View, asked: Question) -> Iterator[Piece]:
    wanted = [declared for declared in types_named(asked.request.entity_type) if declared.type in ROWS]
    yield Piece(total=sum(len(list(declared.rows(view))) for declared in wanted))
    rows: list[bytes] = []
    for columns, row in rows_of(view, asked.request, ROWS, asked.skip, asked.count):
        octets = bytearray()
        columns.encode(view, row, octets)
        rows.append(bytes(octets))
        if len(rows) >= PIECE:
            yield Piece(rows=tuple(rows))
            rows.clear()
    yield Piece(rows=tuple(rows))


def _entity(view: View, request: Request) -> bytes:
    for declared in types_named(request.type):
        row = find(view, declared, request) if declared.type in ROWS else None
        if row is not None:
            return bytes(encode_entity(view, declared, row))
    return b""


def _addresses(view: View, keys: Iterable[str] | None) -> Iterator[Piece]:
    known = view.router.addresses
    told: dict[str, AddressCounts] = {}
    for key in list(known) if keys is None else keys:
        address = known.get(key)
        if address is None:
            continue
        told[key] = AddressCounts(
            subscribers=counts.subscribers(view, address),
            ingress=counts.ingress(view, address),
            egress=counts.egress(view, address),
            outstanding=counts.outstanding(view, address),
        )
        if len(told) >= PIECE:
            yield Piece(addresses=told)
            told = {}
    yield Piece(addresses=told)


def add(elsewhere: Elsewhere, piece: Piece) -> None:
    """Put a piece to what is known of other processes."""
    elsewhere.rows.extend(piece.rows)
    elsewhere.entity = elsewhere.entity or piece.entity
    for key, more in piece.addresses.items():
        known = elsewhere.addresses.get(key)
        elsewhere.addresses[key] = more if known is None else known.plus(more)
    if piece.totals is not None:
        elsewhere.totals.append(piece.totals)
