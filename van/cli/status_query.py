"""Asking a management node: QUERY, a page at a time, for van's routers and for those of their dialect."""

from __future__ import annotations

from typing import Any, Final

from van.amqp.types import Int
from van.cli.errors import StoppedError
from van.client import AmqpValue, LinkRefusedError, Message, Properties, Requester, TimedOutError, body_of
from van.router import exit_codes

PREFIX: Final = "io.skupper.router."
PAGE: Final = 500
"""Rows that are asked for at a time; the deployed routers' own tools do the same."""

MANAGEMENT: Final = "$management"

Row = dict[str, Any]


def management_address(router: str | None, edge_router: str | None) -> str:
    """Where the management node is: that of the router that we are connected to, or of another one in its network."""
    if router is not None:
        return f"_topo/0/{router}/{MANAGEMENT}"
    return f"_edge/{edge_router}/{MANAGEMENT}" if edge_router is not None else MANAGEMENT


class ManagementClient:
    """Asks one management node; `seconds` for each answer."""

    def __init__(self, requester: Requester, address: str, seconds: float) -> None:
        self._requester = requester
        self._address = address
        self._seconds = seconds

    async def query(self, entity_type: str) -> list[Row]:
        """All entities of a type with all their attributes. Raises `StoppedError`, and what the client raises."""
        rows: list[Row] = []
        while True:
            page = await self._page(entity_type, len(rows))
            # For some types the deployed routers answer with every row, whatever was asked for.
            if rows and page[:1] == rows[:1]:
                return rows
            rows += page
            if len(page) != PAGE:
                return rows

    async def _page(self, entity_type: str, offset: int) -> list[Row]:
        request = Message(
            properties=Properties(),
            application_properties={
                "name": "self",
                "type": "org.amqp.management",
                "operation": "QUERY",
                "entityType": PREFIX + entity_type,
                "offset": Int(offset),
                "count": Int(PAGE),
            },
            body=AmqpValue({"attributeNames": []}),
        )
        try:
            reply = await self._requester.request(request, timeout=self._seconds)
        except TimedOutError as error:
            raise StoppedError(exit_codes.TIMED_OUT, self._silence(str(error))) from error
        given = reply.application_properties or {}
        status = given.get("statusCode")
        if status != 200:
            text = f"{self._address} answers {status}: {given.get('statusDescription')}"
            raise StoppedError(exit_codes.NOT_PERMITTED if status == 403 else exit_codes.FAILURE, text)
        body = body_of(reply)
        try:
            names = body["attributeNames"]  # type: ignore[index]  # whatever the peer sent
            return [dict(zip(names, row, strict=True)) for row in body["results"]]  # type: ignore[index]
        except (TypeError, KeyError, ValueError) as error:
            text = f"the answer of {self._address} is no result of a QUERY"
            raise StoppedError(exit_codes.FAILURE, text) from error

    def _silence(self, text: str) -> str:
        if self._address == MANAGEMENT:
            return f"{text}: is this a router?"
        return f"{text}: {self._address} is not in the network, or cannot be reached ('van status nodes' lists who is)"


def no_management(error: LinkRefusedError, address: str) -> StoppedError:
    """What to say when the peer has no such node: a broker, or a router that knows no others."""
    if address == MANAGEMENT:
        return StoppedError(exit_codes.UNAVAILABLE, f"the peer has no management node: {error}")
    return StoppedError(exit_codes.UNAVAILABLE, f"{address} cannot be reached from there: {error}")
