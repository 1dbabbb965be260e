"""Three sites in a row, as processes: services are used in the west, and their servers are in the east."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.interop.harness import PATIENCE, PROJECT, Router
from tests.ports import free_port

SITE = """
[router]
id = "{name}"
mode = "interior"
[log]
format = "json"
[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"
"""
JOINS = """
[[connector]]
url = "amqp://127.0.0.1:{port}"
role = "inter-router"
"""
# What may be at an end of the row: for real networks 30 s and more, which scenes need not wait for.
HUB = """
[[listener]]
name = "routers"
url = "amqp://127.0.0.1:0"
role = "inter-router"
sasl_mechanisms = ["ANONYMOUS"]
"""


class Sites:
    """West, hub and east. `ports` are where services are in the west, by address."""

    def __init__(self, start: Callable[[str], Router]) -> None:
        """start: a router by its name; the hub first, whom the others connect to."""
        self._start = start
        self.hub = start("hub")
        self.west = start("west")
        self.east = start("east")
        self.ports: dict[str, int] = {}

    def status(self, router: Router, *what: str) -> Any:
        """What a router says of itself."""
        command = [sys.executable, "-m", "van.cli", "status", *what, "-o", "json", "--url", router.url()]
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=PROJECT, check=True)
        return json.loads(said.stdout)

    def held(self, router: Router) -> int:
        """Octets of messages that a router has in memory, as it says."""
        held: int = self.status(router, "general")["metrics"]["payloadHeld"]
        return held

    def wait_for_address(self, router: Router, *addresses: str, routers: int = 1) -> None:
        """Wait until a router knows that so many others receive at each of these."""
        wanted = {f"M{address}" for address in addresses}
        end = time.monotonic() + PATIENCE
        while True:
            rows = self.status(router, "addresses")
            if wanted <= {row["key"] for row in rows if row["remoteCount"] >= routers}:
                return
            assert time.monotonic() < end, rows

    def kill_east(self) -> None:
        self.east.end(signal.SIGKILL)

    def start_east(self) -> None:
        """Start the one that was killed."""
        self.east = self._start("east")

    def port_of(self, address: str) -> int:
        """Where the west listens for an address; its service may have asked for any port."""
        line = self.west.wait_for_log(event="service listening", address=address)
        return int(line["listening"][0].rpartition(":")[2])

    def check_alive(self) -> None:
        for router in (self.west, self.hub, self.east):
            router.check_alive()


def service(direction: str, url: str, address: str, **keys: object) -> str:
    """A `[[service]]` of a site file."""
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in keys.items())
    return f'[[service]]\n{direction} = "{url}"\naddress = "{address}"\n{lines}'


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool | int | float) else f'"{value}"'


@contextlib.contextmanager
def three_sites(folder: Path, west: str, east: str, hub: str = "") -> Iterator[Sites]:
    """Run the three with these parts of their site files beside what joins them."""
    with contextlib.ExitStack() as stack:
        joins = ""
        parts = {"hub": HUB + hub, "west": west, "east": east}

        def start(name: str) -> Router:
            nonlocal joins
            path = folder / f"{name}.toml"
            path.write_text(SITE.format(name=name) + joins + parts[name])
            router = Router(path)
            stack.callback(router.kill)
            joins = joins or JOINS.format(port=router.port("routers"))
            return router

        sites = Sites(start)
        yield sites
        sites.check_alive()
        for router in (sites.west, sites.east, sites.hub):
            router.end(signal.SIGTERM)


def ports(*addresses: str) -> dict[str, int]:
    """A port for each service."""
    return {address: free_port() for address in addresses}
