"""Qpid Proton asks the management node, as the deployed routers' own tools do: one reply at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.interop.harness import Proton

pytestmark = pytest.mark.interop

PREFIX = "io.skupper.router."


def ask(proton: Proton, *requests: dict[str, Any], address: str = "$management") -> list[tuple[int, str, Any]]:
    given = [
        {"properties": {key: value for key, value in request.items() if key != "body"}, "body": request.get("body", {})}
        for request in requests
    ]
    program = proton.program("manage", address=address, requests=given, **proton.to("open"))
    return [(status, description, body) for status, description, body in map(json.loads, program.output())]


def query(entity_type: str, *names: str, **more: object) -> dict[str, Any]:
    return {
        "operation": "QUERY",
        "entityType": PREFIX + entity_type,
        "type": "org.amqp.management",
        "name": "self",
        "body": {"attributeNames": list(names)},
        **more,
    }


def test_proton_queries_and_reads(proton: Proton) -> None:
    routers, links, page, read, missing, changed = ask(
        proton,
        query("router", "id", "mode"),
        query("router.link", "linkDir", "connectionId", offset=0, count=500),
        query("router.address", "key", offset=1, count=1),
        {"operation": "READ", "type": PREFIX + "router", "identity": "router/interop"},
        {"operation": "READ", "type": PREFIX + "listener", "name": "nobody"},
        {"operation": "DELETE", "type": PREFIX + "connection", "identity": "1"},
    )
    assert routers == (200, "OK", {"attributeNames": ["id", "mode"], "results": [["interop", "standalone"]]})
    assert {"in", "out"} <= {row[0] for row in links[2]["results"]}
    assert len(page[2]["results"]) == 1
    assert (read[0], read[2]["id"], read[2]["type"]) == (200, "interop", PREFIX + "router")
    assert missing == (404, "No entity with name=nobody", {})
    assert changed[0] == 403


def test_proton_asks_a_router_by_its_name(proton: Proton) -> None:
    (types,) = ask(proton, {"operation": "GET-TYPES"}, address="_topo/0/interop/$management")
    assert types[0] == 200
    assert PREFIX + "router.node" in types[2]
