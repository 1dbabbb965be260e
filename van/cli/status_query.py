"""Asking a management node, for van's routers and those of their dialect: QUERY a page at a time, CREATE and DELETE."""

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
        body = await self._ask(
            {
                "name": "self",
                "type": "org.amqp.management",
                "operation": "QUERY",
                "entityType": PREFIX + entity_type,
                "offset": Int(offset),
                "count": Int(PAGE),
            },
            {"attributeNames": []},
        )
        try:
            names = body["attributeNames"]
            return [dict(zip(names, row, strict=True)) for row in body["results"]]
        except (TypeError, KeyError, ValueError) as error:
            text = f"the answer of {self._address} is no result of a QUERY"
            raise StoppedError(exit_codes.FAILURE, text) from error

    async def types(self) -> set[str]:
        """The types of entities that there are, without prefix. Raises what `query` does."""
        body = await self._ask({"name": "self", "type": "org.amqp.management", "operation": "GET-TYPES"}, None)
        if not isinstance(body, dict):
            raise StoppedError(exit_codes.FAILURE, f"the answer of {self._address} is no list of types")
        return {str(name).removeprefix(PREFIX) for name in body}

    async def create(self, entity_type: str, name: str | None, attributes: dict[str, Any]) -> Row:
        """Create an entity; returns its attributes. Raises what `query` does."""
        given = {"type": PREFIX + entity_type, "operation": "CREATE", **({"name": name} if name is not None else {})}
        body = await self._ask(given, attributes)
        return dict(body) if isinstance(body, dict) else {}

    async def delete(self, entity_type: str, name: str) -> None:
        """Delete an entity. Raises what `query` does."""
        await self._ask({"type": PREFIX + entity_type, "operation": "DELETE", "name": name}, None)

    async def _ask(self, given: dict[str, Any], body: Any) -> Any:
        """The body of the answer to a request that was carried out."""
        request = Message(properties=Properties(), application_properties=given, body=AmqpValue(body))
        try:
            reply = await self._requester.request(request, timeout=self._seconds)
        except TimedOutError as error:
            raise StoppedError(exit_codes.TIMED_OUT, self._silence(str(error))) from error
        answer = reply.application_properties or {}
        status = answer.get("statusCode")
        if not isinstance(status, int) or not 200 <= status < 300:
            text = f"{self._address} answers {status}: {answer.get('statusDescription')}"
            raise StoppedError(exit_codes.NOT_PERMITTED if status == 403 else exit_codes.FAILURE, text)
        return body_of(reply)

    def _silence(self, text: str) -> str:
        if self._address == MANAGEMENT:
            return f"{text}: is this a router?"
        return f"{text}: {self._address} is not in the network, or cannot be reached ('van status nodes' lists who is)"


def no_management(error: LinkRefusedError, address: str) -> StoppedError:
    """What to say when the peer has no such node: a broker, or a router that knows no others."""
    if address == MANAGEMENT:
        return StoppedError(exit_codes.UNAVAILABLE, f"the peer has no management node: {error}")
    return StoppedError(exit_codes.UNAVAILABLE, f"{address} cannot be reached from there: {error}")
