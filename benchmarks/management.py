"""Answers of the management node about many links and addresses: their cost, and the longest time that others wait.

`python benchmarks/management.py [--links 10000] [--runs 5] [--json]`. Without sockets. Each link has an address.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection

from core import Station, shake_hands
from measure import Figures, medians, table

from van.adaptors.amqp import AmqpAdaptor
from van.management.agent import SLICE
from van.management.facts import Facts
from van.management.node import answer
from van.management.requests import Request
from van.management.view import View
from van.routing.router import Router

# What one connection may attach, by default.
LINKS = 1000
# What tools ask for at a time.
PAGE = 500


class StationFacts(Facts):
    """The connections of the benchmark."""

    def __init__(self, stations: list[Station]) -> None:
        self._adaptors = [station.adaptor for station in stations]

    def adaptors(self) -> Collection[AmqpAdaptor]:
        return self._adaptors


def busy_router(links: int) -> View:
    """A router with so many receivers."""
    router = Router("benchmark", tokens=lambda: "token")
    stations = []
    for first in range(0, links, LINKS):
        station = Station(router, f"client {first}")
        for number in range(first, min(first + LINKS, links)):
            station.peer.receiver(f"queue/{number}")
        shake_hands(router, [station])
        stations.append(station)
    return View(router, StationFacts(stations))


def ask(view: View, entity_type: str, offset: int, count: int | None) -> Figures:
    """Make one answer; µs for each row, and the longest time without a turn for others."""
    clock = time.process_time
    slices = []
    begin = clock()
    request = Request(operation="QUERY", entity_type=entity_type, offset=offset, count=count)
    reply = answer(view, request, "reply-to", None)
    while not reply.done:
        reply.step(SLICE)
        end = clock()
        slices.append(end - begin)
        begin = end
    size = len(reply.encode())
    slices.append(clock() - begin)
    rows = max(1, reply.made)
    return {"µs per row": sum(slices) / rows * 1e6, "longest slice ms": max(slices) * 1e3, "KiB": size / 1024}


def run(runs: int = 5, links: int = 10_000) -> dict[str, Figures]:
    """Every question in turns; the medians."""
    view = busy_router(links)
    cases: dict[str, tuple[str, int, int | None]] = {
        "addresses, first page": ("router.address", 0, PAGE),
        "addresses, last page": ("router.address", max(0, links - PAGE), PAGE),
        "addresses, all": ("router.address", 0, None),
        "links, first page": ("router.link", 0, PAGE),
        "links, last page": ("router.link", max(0, links - PAGE), PAGE),
        "links, all": ("router.link", 0, None),
        "router metrics": ("routerMetrics", 0, PAGE),
    }
    results: dict[str, list[Figures]] = {name: [] for name in cases}
    for _ in range(runs):
        for name, (entity_type, offset, count) in cases.items():
            results[name].append(ask(view, entity_type, offset, count))
    return {name: medians(rows) for name, rows in results.items()}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="medians of so many")
    parser.add_argument("--links", type=int, default=10_000, help="links, each with an address")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    arguments = parser.parse_args()
    rows = run(arguments.runs, arguments.links)
    print(json.dumps(rows) if arguments.json else table(f"management, {arguments.links} links", rows))


if __name__ == "__main__":
    main()
