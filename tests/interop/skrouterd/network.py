"""Networks of real routers: skrouterd processes, van processes, and the connections between them.

Responsible for: finding skrouterd, writing a configuration for either kind of router, starting, killing and restarting
routers on the ports they had, and asking them what they see. The scenes are in the tests.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.interop.harness import HERE as INTEROP
from tests.interop.harness import PROJECT, SYSTEM_PYTHON, Program
from tests.ports import free_ports

HOW_TO_GIVE_IT = (
    "no skrouterd: set VAN_SKROUTERD=/path/to/skrouterd (skupper-router 3.x); skstat is taken from beside it, "
    "from ../bin, or from VAN_SKSTAT"
)

DISTRIBUTIONS = {"closest": "closest", "balanced": "balanced", "multicast": "multicast"}
"""Addresses under a prefix are distributed as it says, on routers of both kinds."""

ROLES = ("normal", "inter-router", "edge")

PATIENCE = 60.0
"""Seconds in which any network must have found itself: skrouterd needs ten for a ring."""


class Skrouterd:
    """Where the programs of a built skupper-router are."""

    def __init__(self, router: Path, skstat: Path) -> None:
        self.router = router
        self.skstat = skstat
        self.version = subprocess.run(
            [str(router), "--version"], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()


def find_skrouterd() -> Skrouterd:
    """Find them as the environment says, or skip and say how to give them.

    Not asked for by VAN_REQUIRE_INTEROP: there is no package of it. A path that is given and wrong is a failure.
    """
    given = os.environ.get("VAN_SKROUTERD")
    if not given:
        pytest.skip(HOW_TO_GIVE_IT)
    router = Path(given)
    candidates = [router.parent / "skstat", router.parent.parent / "bin" / "skstat"]
    if "VAN_SKSTAT" in os.environ:
        candidates = [Path(os.environ["VAN_SKSTAT"])]
    skstat = next((path for path in candidates if path.exists()), None)
    if not router.exists() or skstat is None:
        pytest.fail(f"{router} or its skstat ({', '.join(map(str, candidates))}) is not there", pytrace=False)
    return Skrouterd(router, skstat)


class Connection:
    """One connection of a plan: who connects to whom, what it costs, and to a listener of which role.

    That is the connecting side's own role, unless the scene is about a mistake.
    """

    def __init__(self, connecting: str, listening: str, *, cost: int = 1, listener: str = "") -> None:
        self.connecting = connecting
        self.listening = listening
        self.cost = cost
        self.listener = listener


class TcpService:
    """A service of TCP at a router: a port that leads to an address, or the server on that port behind it."""

    def __init__(self, router: str, address: str, port: int, *, listens: bool) -> None:
        self.router = router
        self.address = address
        self.port = port
        self.listens = listens


class Plan:
    """A network on paper. `routers` maps ids to kinds: "skrouterd", "van", "skrouterd edge" or "van edge".

    `connections` are made of who connects and who listens. `ends` are two routers as far apart as any of it are.
    """

    def __init__(
        self,
        routers: Mapping[str, str],
        connections: Iterable[tuple[str, str] | Connection],
        ends: tuple[str, str],
        services: Iterable[TcpService] = (),
    ) -> None:
        self.routers = dict(routers)
        self.services = list(services)
        self.connections = [each if isinstance(each, Connection) else Connection(*each) for each in connections]
        self.ends = ends

    def of_skrouterds(self) -> Plan:
        """The same network with each van replaced by a skrouterd: what the scenes show there, they may ask of van."""
        plan = Plan({}, [], self.ends)
        plan.routers = {name: kind.replace("van", "skrouterd") for name, kind in self.routers.items()}
        plan.connections = self.connections
        plan.services = self.services
        return plan

    def is_edge(self, name: str) -> bool:
        return self.routers[name].endswith("edge")

    @property
    def interiors(self) -> list[str]:
        return [name for name in self.routers if not self.is_edge(name)]

    @property
    def edges(self) -> list[str]:
        return [name for name in self.routers if self.is_edge(name)]


class NetworkRouter:
    """A router process of either kind that comes back on the same ports."""

    def __init__(self, name: str, plan: Plan, ports: Mapping[str, dict[str, int]], folder: Path) -> None:
        self.name = name
        self.plan = plan
        self.ports = ports[name]
        self.url = f"amqp://127.0.0.1:{self.ports['normal']}"
        self.command = self._configure(ports, folder)
        self.program: Program | None = None
        self.starts = 0

    def _configure(self, ports: Mapping[str, dict[str, int]], folder: Path) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Start the process; it need not listen yet."""
        assert self.program is None
        self.starts += 1
        self.program = Program(self.command, {"PYTHONPATH": str(PROJECT)})

    def wait_until_listening(self) -> None:
        """Wait until clients can connect."""
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.program is not None
            assert self.program.running, "\n".join(self.program.errors[-40:])
            try:
                socket.create_connection(("127.0.0.1", self.ports["normal"]), 1).close()
            except OSError:
                assert time.monotonic() < deadline, "\n".join(self.program.errors[-40:])
                time.sleep(0.01)
            else:
                return

    def wait_for_log(self, text: str) -> str:
        """Wait for a line in its log that has this text in it; return the line."""
        assert self.program is not None
        self.program.wait_for_error(text)
        return next(line for line in self.program.errors if text in line)

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        if self.program is not None:
            self.check()
            self.program.kill()
            self.program = None

    def signal(self, number: signal.Signals) -> None:
        assert self.program is not None
        self.program.signal(number)

    def check(self) -> None:
        """Fail if it ended, or says that it made a mistake."""
        assert self.program is not None
        lines = list(self.program.errors)
        signs = ("Traceback", '"level": "critical"', "(critical)")
        faults = [line for line in lines if any(sign in line for sign in signs)]
        assert not faults, "\n".join([f"{self.name}:", *lines[-60:]])
        assert self.program.running, "\n".join([f"{self.name} ended:", *lines[-60:]])


class SkRouter(NetworkRouter):
    """A skrouterd."""

    def __init__(
        self, skrouterd: Skrouterd, name: str, plan: Plan, ports: Mapping[str, dict[str, int]], folder: Path
    ) -> None:
        self.skrouterd = skrouterd
        super().__init__(name, plan, ports, folder)

    def _configure(self, ports: Mapping[str, dict[str, int]], folder: Path) -> list[str]:
        open_to_all = {"host": "127.0.0.1", "authenticatePeer": False, "saslMechanisms": "ANONYMOUS"}
        edge = self.plan.is_edge(self.name)
        entities: list[tuple[str, dict[str, object]]] = [
            ("router", {"id": self.name, "mode": "edge" if edge else "interior", "workerThreads": 1})
        ]
        for prefix, how in DISTRIBUTIONS.items():
            entities.append(("address", {"prefix": prefix, "distribution": how}))
        for role, port in self.ports.items():
            if not edge or role == "normal":
                entities.append(("listener", {"name": role, "role": role, "port": port, **open_to_all}))
        for connection in self.plan.connections:
            if connection.connecting == self.name:
                role = "edge" if edge else "inter-router"
                entity: dict[str, object] = {
                    "name": f"to-{connection.listening}",
                    "role": role,
                    "host": "127.0.0.1",
                    "port": ports[connection.listening][connection.listener or role],
                    "saslMechanisms": "ANONYMOUS",
                }
                if connection.cost != 1:
                    entity["cost"] = connection.cost
                entities.append(("connector", entity))
        for service in self.plan.services:
            if service.router == self.name:
                kind = "tcpListener" if service.listens else "tcpConnector"
                where: dict[str, object] = {"host": "127.0.0.1", "port": service.port}
                entities.append((kind, {"name": f"{kind}{service.port}", "address": service.address, **where}))
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(entities, indent=1))
        return [str(self.skrouterd.router), "-c", str(path)]


class VanRouter(NetworkRouter):
    """`python -m van.router`."""

    def _configure(self, ports: Mapping[str, dict[str, int]], folder: Path) -> list[str]:
        edge = self.plan.is_edge(self.name)
        lines = ["[router]", f'id = "{self.name}"', f'mode = "{"edge" if edge else "interior"}"']
        lines += ["[log]", 'format = "json"', f'level = "{os.environ.get("VAN_LOG_LEVEL", "info")}"']
        for role, port in self.ports.items():
            if not edge or role == "normal":
                lines += ["[[listener]]", f'name = "{role}"', f'role = "{role}"', f'url = "amqp://127.0.0.1:{port}"']
        for connection in self.plan.connections:
            if connection.connecting == self.name:
                role = "edge" if edge else "inter-router"
                lines += ["[[connector]]", f'name = "to-{connection.listening}"', f'role = "{role}"']
                port = ports[connection.listening][connection.listener or role]
                lines += [f'url = "amqp://127.0.0.1:{port}"']
                if connection.cost != 1:
                    lines += [f"cost = {connection.cost}"]
        for service in self.plan.services:
            if service.router == self.name:
                kind = "listen" if service.listens else "connect"
                lines += ["[[service]]", f'{kind} = "tcp://127.0.0.1:{service.port}"']
                lines += [f'address = "{service.address}"']
        for prefix, how in DISTRIBUTIONS.items():
            lines += ["[[address]]", f'prefix = "{prefix}"', f'distribution = "{how}"']
        path = folder / f"{self.name}.toml"
        path.write_text("\n".join(lines) + "\n")
        return [sys.executable, "-m", "van.router", str(path)]


class Network:
    """A plan with running routers."""

    def __init__(self, skrouterd: Skrouterd, name: str, plan: Plan, folder: Path) -> None:
        self.skrouterd = skrouterd
        self.name = name
        self.plan = plan
        self.ends = plan.ends
        free = free_ports(len(plan.routers) * len(ROLES))
        ports = {name: {role: free.pop() for role in ROLES} for name in plan.routers}
        self.routers: dict[str, NetworkRouter] = {
            name: VanRouter(name, plan, ports, folder)
            if kind.startswith("van")
            else SkRouter(skrouterd, name, plan, ports, folder)
            for name, kind in plan.routers.items()
        }
        self.reached: list[tuple[str, str, float]] = []
        """Pairs of routers and seconds, as `reach` found them last."""
        self._clients: list[Program] = []

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all routers and wait until each reaches each."""
        self.start_alone()
        self.wait_until_connected()

    def start_alone(self) -> None:
        """Start all routers, whether they find each other or not."""
        for router in self.routers.values():
            router.start()
        for router in self.routers.values():
            router.wait_until_listening()

    def stop(self) -> None:
        """End the routers; each must have lived until now without a fault."""
        self.end_clients()
        try:
            for router in self.routers.values():
                if router.program is not None:
                    router.check()
        finally:
            for router in self.routers.values():
                if router.program is not None:
                    router.program.kill()

    def check(self) -> None:
        for router in self.routers.values():
            router.check()

    # -- clients -------------------------------------------------------------------------------------------------

    def client(self, name: str, **options: object) -> Program:
        """Start one of the Proton programs."""
        program = Program([SYSTEM_PYTHON, str(INTEROP / "proton" / f"{name}.py"), json.dumps(options)])
        self._clients.append(program)
        return program

    def at(self, name: str) -> dict[str, str]:
        """The options for a client of this router."""
        return {"url": self.routers[name].url}

    def between(self, one: str, other: str) -> dict[str, str]:
        """The options for a client that sends at the first and receives at the second router."""
        return {"url": self.routers[one].url, "other": self.routers[other].url}

    def end_clients(self) -> None:
        while self._clients:
            self._clients.pop().kill()

    # -- what the routers see ------------------------------------------------------------------------------------

    def wait_until_connected(self, seconds: float = PATIENCE) -> float:
        """Wait until a message from each router to each was accepted; return the seconds it took."""
        return self.reach(list(self.routers), seconds)

    def reach(self, names: Sequence[str], seconds: float = PATIENCE) -> float:
        """Wait until a message from each of these routers to each was accepted; return the seconds it took."""
        urls = {name: self.routers[name].url for name in names}
        program = self.client("pairs", routers=urls, address=f"probe.{time.monotonic_ns()}", seconds=seconds)
        lines = self._output(program, seconds)
        if program.returncode != 0:
            pytest.fail("no message came from one to the other, and why: " + "\n".join(lines[1:]), pytrace=False)
        self.reached = [(one, other, took) for one, other, took in json.loads(lines[0])]
        return self.reached[-1][2]

    def ask(
        self,
        names: Sequence[str],
        entity: str,
        rows: list[dict[str, object]],
        *,
        seconds: float = PATIENCE,
    ) -> dict[str, tuple[float, list[dict[str, Any]]]]:
        """Ask `$management` of these routers until each has these rows; by name the seconds it took, and all rows."""
        urls = {name: self.routers[name].url for name in names}
        program = self.client("seen", routers=urls, type=f"io.skupper.router.{entity}", rows=rows, seconds=seconds)
        answers = [json.loads(line) for line in self._output(program, seconds)]
        late = [answer for answer in answers if answer[1] is None]
        if late or program.returncode != 0:
            pytest.fail(f"{entity}: wanted {rows}, but have {late} {program.errors[-5:]}", pytrace=False)
        return {name: (took, found) for name, took, found in answers}

    def skstat(self, at: str, *arguments: str) -> str:
        """What skstat prints about this router; it asks van as it asks its own."""
        done = subprocess.run(
            [str(self.skrouterd.skstat), "-b", self.routers[at].url, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self, at: str, view: str, *arguments: str) -> list[dict[str, Any]]:
        """What `van status` says about this router; it asks skrouterd as it asks our own."""
        done = subprocess.run(
            [sys.executable, "-m", "van.cli", "status", view, "--url", self.routers[at].url, "-o", "json", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            cwd=PROJECT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def _output(self, program: Program, seconds: float) -> list[str]:
        deadline = time.monotonic() + seconds + 10
        while program.running and time.monotonic() < deadline:
            time.sleep(0.01)
        return program.output(status=None)


class Figures:
    """What was measured, for the end of the run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)
