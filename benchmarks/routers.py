"""The routers that are compared: van from this tree, van compiled, and C routers of the user, each as processes.

`Contestant.start(layout)` runs one router, or two in line, with a listener for clients each; `Network.port` is where
senders connect and `Network.far_port` where receivers do. Nothing here knows what is measured.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Self

import trio
import trustme
from measure import PATIENCE_SECONDS, ROOT, cpu_seconds, environment, family, resident_kib
from wire import Peer, dial, hang_up

# One prefix is multicast in the configuration of all.
MULTICAST = "multicast"
SCHEMES = {"tcp": "amqp", "tls": "amqps", "ws": "ws", "wss": "wss"}
RELAY = Path(__file__).resolve().parent / "relay.py"
TCP_LOAD = Path(__file__).resolve().parent / "tcp_load.py"
SERVICE = "tcp-load"


@dataclass(frozen=True)
class Layout:
    """What a row needs: one router or two in line, how clients connect, worker processes (0: not configured).

    service: a port of the first router leads to a server of `tcp_load.py` behind the last one.
    """

    routers: int = 1
    transport: str = "tcp"
    workers: int = 0
    service: bool = False

    @property
    def secure(self) -> bool:
        """Whether clients talk TLS."""
        return self.transport in {"tls", "wss"}


class UnsupportedError(Exception):
    """This router cannot be run so; says why."""


class Network:
    """Running processes of one contestant. `with` stops them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="van-benchmark-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.port = 0
        self.far_port = 0
        self.transport = "tcp"
        self.bare = False
        self.start_seconds = 0.0
        # Where the clients of a service connect, and its server listens.
        self.service_port = 0
        self.server_port = 0
        self._server: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        """Start the server of a service: none of the router's processes."""
        words = [sys.executable, str(TCP_LOAD), "serve", "0", "0"]
        self._server = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        self.server_port = int(self._server.stdout.readline())
        self.service_port = free_port()

    def wait_served(self) -> None:
        """Return when a client of the service has its answer."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.service_port)) as connected:
                    connected.sendall(b"ex")
                    if connected.recv(1) == b"x":
                        return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the service cannot be reached")

    def run(self, words: Sequence[str | Path], environment: dict[str, str] | None = None) -> Path:
        """Start a process; returns its log."""
        log = self.folder / f"log{len(self.processes)}"
        with log.open("wb") as stream:
            process = subprocess.Popen([str(word) for word in words], stdout=stream, stderr=stream, env=environment)
        self.processes.append(process)
        return log

    def cpu_seconds(self) -> float | None:
        """User and system time of all processes and their children, None where this system does not tell."""
        spent = [cpu_seconds(pid) for process in self.processes for pid in family(process.pid)]
        known = [seconds for seconds in spent if seconds is not None]
        return sum(known) if known else None

    def connections(self) -> list[int]:
        """How many connections of clients each process has, where this system tells."""
        return [connections_of(pid, self.port) for process in self.processes for pid in family(process.pid)]

    def resident_kib(self) -> int | None:
        """Resident memory of all processes and their children, None where this system does not tell."""
        sizes = [resident_kib(pid) for process in self.processes for pid in family(process.pid)]
        known = [size for size in sizes if size is not None]
        return sum(known) if known else None

    def wait_for(self, log: Path, begin: float) -> None:
        """A turn of waiting for a process to be ready."""
        if self.processes[-1].poll() is not None or time.perf_counter() - begin > PATIENCE_SECONDS:
            raise RuntimeError(f"the router did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.005)

    def wait_reachable(self) -> None:
        """Return when an address at the far end is known at the near one: the routers have found each other."""
        receiver, sender = Peer("probe receiver"), Peer("probe sender")
        receiver.receiver("probe")
        sender.sender("probe")
        ends = [(receiver, dial(receiver, self.far_port)), (sender, dial(sender, self.port))]
        for peer, connected in reversed(ends):
            hang_up(peer, connected)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            assert self._server.stdout is not None
            self._server.stdout.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()


class Contestant:
    """A router that can be started."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, layout: Layout) -> Network:
        """Run it; returns when clients can connect and routers in line know each other. Raises UnsupportedError."""
        network = Network()
        network.transport = layout.transport
        try:
            if layout.service:
                network.serve()
            begin = time.perf_counter()
            self._start(network, layout)
            network.start_seconds = time.perf_counter() - begin
            if layout.routers > 1:
                network.wait_reachable()
            if layout.service:
                network.wait_served()
                network.port = network.service_port
        except BaseException:
            network.__exit__(None, None, None)
            raise
        return network

    def version(self) -> str:
        """What stands in the report."""
        raise NotImplementedError

    def _start(self, network: Network, layout: Layout) -> None:
        raise NotImplementedError


class Van(Contestant):
    """van: of this tree, of another tree, or as it is installed in the environment of another interpreter."""

    def __init__(self, name: str = "van", python: str = sys.executable, tree: Path | None = ROOT) -> None:
        super().__init__(name)
        self._python = python
        self._environment = environment(installed=tree is None)
        if tree is not None:
            self._environment["PYTHONPATH"] = str(tree)

    def version(self) -> str:
        """Its own line."""
        words = [self._python, "-P", "-m", "van.router", "--version"]
        result = subprocess.run(words, env=self._environment, capture_output=True, text=True, check=True)
        return result.stdout.strip()

    def _start(self, network: Network, layout: Layout) -> None:
        network.far_port = network.port = self._run(network, layout, 0, "")[0]
        if layout.routers > 1:
            # Run again with what the first one's port is: a free one of the system's choice.
            network.far_port = self._run(network, layout, 1, f'url = "amqp://127.0.0.1:{self._meeting}"')[0]

    def _run(self, network: Network, layout: Layout, number: int, connector: str) -> list[int]:
        lines = ["[router]", f'id = "r{number}"', f'mode = "{"interior" if layout.routers > 1 else "standalone"}"']
        if layout.workers:
            lines.append(f"workers = {layout.workers}")
        lines += ["[[listener]]", 'name = "clients"', f'url = "{SCHEMES[layout.transport]}://127.0.0.1:0"']
        if layout.secure:
            cert_file, key_file = certificate(network.folder)
            lines += ['ssl_profile = "site"', "[[ssl_profile]]", 'name = "site"']
            lines += [f"cert_file = '{cert_file}'", f"private_key_file = '{key_file}'"]
        if connector:
            lines += ["[[connector]]", connector, 'role = "inter-router"']
        elif layout.routers > 1:
            lines += ["[[listener]]", 'name = "routers"', 'url = "amqp://127.0.0.1:0"', 'role = "inter-router"']
        lines += ["[[address]]", f'prefix = "{MULTICAST}"', 'distribution = "multicast"']
        if layout.service and number == 0:
            lines += ["[[service]]", f'listen = "tcp://127.0.0.1:{network.service_port}"', f'address = "{SERVICE}"']
        if layout.service and number == layout.routers - 1:
            lines += ["[[service]]", f'connect = "tcp://127.0.0.1:{network.server_port}"', f'address = "{SERVICE}"']
        site = network.folder / f"site{number}.toml"
        site.write_text("\n".join(lines))
        # `-P`: whatever lies in this directory is not what is measured.
        log = network.run([self._python, "-P", "-m", "van.router", site], self._environment)
        begin = time.perf_counter()
        while (listeners := ready_ports(log)) is None:
            if network.processes[-1].poll() is not None and "workers" in log.read_text(errors="replace"):
                raise UnsupportedError("this version of van has no `workers`")
            network.wait_for(log, begin)
        self._meeting = listeners.get("routers", 0)
        return [listeners["clients"]]


def ready_ports(log: Path) -> dict[str, int] | None:
    """The ports by listener in a van's `ready` line, None until it has been written."""
    for line in log.read_text(errors="replace").splitlines():
        if '"ready"' in line and line.endswith("}"):
            listeners = json.loads(line)["listeners"]
            return {name: int(addresses[0].rpartition(":")[2]) for name, addresses in listeners.items()}
    return None


class CRouter(Contestant):
    """A skrouterd or a qdrouterd with one worker thread, as the figures of the project are for one."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._path = path

    def version(self) -> str:
        """What it says of itself."""
        result = subprocess.run([self._path, "--version"], capture_output=True, text=True, check=True)
        return f"{Path(self._path).name} {result.stdout.strip()}"

    def _start(self, network: Network, layout: Layout) -> None:
        if layout.workers:
            raise UnsupportedError("its workers are threads")
        if layout.transport in {"ws", "wss"}:
            raise UnsupportedError("it is not compared over WebSocket")
        ports = [free_port() for _ in range(3)]
        network.port = network.far_port = ports[0]
        self._run(network, layout, 0, ports)
        if layout.routers > 1:
            network.far_port = ports[1]
            self._run(network, layout, 1, ports)

    def _run(self, network: Network, layout: Layout, number: int, ports: list[int]) -> None:
        mode = "interior" if layout.routers > 1 else "standalone"
        local = {"host": "127.0.0.1", "authenticatePeer": False, "saslMechanisms": "ANONYMOUS"}
        secured = {"sslProfile": "site"} if layout.secure else {}
        entities: list[tuple[str, dict[str, object]]] = [
            ("router", {"id": f"r{number}", "mode": mode, "workerThreads": 1}),
            ("listener", local | {"port": ports[number]} | secured),
            ("address", {"prefix": MULTICAST, "distribution": "multicast"}),
            ("log", {"module": "DEFAULT", "enable": "error+"}),
        ]
        if layout.secure:
            cert_file, key_file = certificate(network.folder)
            entities.append(("sslProfile", {"name": "site", "certFile": cert_file, "privateKeyFile": key_file}))
        if number:
            connector = {"name": "meeting", "host": "127.0.0.1", "port": ports[2], "role": "inter-router"}
            entities.append(("connector", connector))
        elif layout.routers > 1:
            entities.append(("listener", local | {"port": ports[2], "role": "inter-router"}))
        service: dict[str, object] = {"name": SERVICE, "address": SERVICE, "host": "127.0.0.1"}
        if layout.service and number == 0:
            entities.append(("tcpListener", service | {"port": network.service_port}))
        if layout.service and number == layout.routers - 1:
            entities.append(("tcpConnector", service | {"port": network.server_port}))
        file = network.folder / f"router{number}.json"
        file.write_text(json.dumps(entities))
        log = network.run([self._path, "-c", file])
        begin = time.perf_counter()
        while not accepts(ports[number]):
            network.wait_for(log, begin)


class Relay(Contestant):
    """No router: `relay.py`, which moves octets between the same kind of streams."""

    def start(self, layout: Layout) -> Network:
        """Run it. Raises UnsupportedError where it is no yardstick."""
        if layout.transport == "tcp" or layout.service:
            raise UnsupportedError("it is the yardstick of TLS and WebSocket alone")
        return super().start(layout)

    def version(self) -> str:
        """What it is made of."""
        return f"trio {trio.__version__}, trio-websocket {metadata.version('trio-websocket')}, without AMQP"

    def _start(self, network: Network, layout: Layout) -> None:
        network.bare = True
        cert_file, key_file = certificate(network.folder)
        log = network.run([sys.executable, RELAY, layout.transport, cert_file, key_file], environment())
        begin = time.perf_counter()
        while not (text := log.read_text()).endswith("\n"):
            network.wait_for(log, begin)
        network.port = network.far_port = int(text)


def certificate(folder: Path) -> tuple[str, str]:
    """Files of a certificate for this machine and of its key."""
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    if not key_file.exists():
        issued = trustme.CA().issue_cert("127.0.0.1")
        cert_file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key_file))
    return str(cert_file), str(key_file)


def connections_of(pid: int, port: int) -> int:
    """How many connections at this port a process has; 0 where this system does not tell."""
    try:
        ours = {
            fields[9]
            for fields in map(str.split, Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
            if fields[1].endswith(f":{port:04X}") and fields[3] == "01"
        }
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return 0
    return sum(link.removeprefix("socket:[").removesuffix("]") in ours for link in links)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
