"""Who makes the load: `load.py`, or a generator in C that the user has, as processes beside the router.

Both play the same roles and tell the same figures, so a row of the table does not know which it is. The other generator
is a program with the options used below that prints a line of JSON at its end; it knows neither TLS nor WebSocket.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from measure import PATIENCE_SECONDS, environment

LOAD = Path(__file__).resolve().parent / "load.py"
# A receiver that has heard nothing for so long has got all that arrives, in seconds.
SILENCE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What senders or receivers are to do, `count` messages for all of them together.

    rate: messages/s, 0 for as fast as they are let. latency: receivers tell it. apart: each connection has an address
    of its own. first: the address of a link that is attached before. bare: the relay knows no AMQP.
    """

    port: int
    address: str
    count: int
    size: int
    connections: int = 1
    settled: bool = False
    rate: float = 0.0
    latency: bool = False
    apart: bool = False
    first: str = ""
    transport: str = "tcp"
    bare: bool = False


class Client:
    """A process that prints figures at its end; `with` ends it in any case."""

    def __init__(self, words: Sequence[str], *, ready_on_stderr: bool = False) -> None:
        self._ready_on_stderr = ready_on_stderr
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if ready_on_stderr else None,
            text=True,
            env=environment(),
        )

    def wait_ready(self) -> None:
        """Return when its links are attached."""
        stream = self.process.stderr if self._ready_on_stderr else self.process.stdout
        assert stream is not None
        line = stream.readline().strip()
        if line != "ready":
            raise RuntimeError(f"a client has failed: {self.process.args!r}: {line}")

    def line(self) -> dict[str, Any]:
        """The next line of figures, when it comes."""
        output: IO[str] | None = self.process.stdout
        assert output is not None
        figures: dict[str, Any] = json.loads(output.readline())
        return figures

    def result(self) -> dict[str, Any]:
        """What it printed at its end. A client that says why it gave up has failed, one that lacks messages has not."""
        output, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        lines = output.splitlines()
        if not lines or not lines[-1].startswith("{"):
            raise RuntimeError(f"a client has failed: {self.process.args!r}")
        figures: dict[str, Any] = json.loads(lines[-1])
        return figures

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Generator:
    """The roles of clients. Figures are `seconds`, `received`, `p50` and `p99` in µs."""

    name = "load.py"

    def takes(self, transport: str, *, own: bool) -> bool:
        """Whether it can make such a load; `own` is for what `load.py` alone does."""
        return True

    def receive(self, load: Load) -> Client:
        """Receivers."""
        options = _options(load, latency=load.latency, idle=SILENCE_SECONDS)
        return self._start("receive", load.port, load.transport, options)

    def send(self, load: Load) -> Client:
        """Senders."""
        return self._start("send", load.port, load.transport, _options(load, rate=load.rate))

    @contextmanager
    def converse(
        self, port: int, to: int, count: int, *, transport: str = "tcp", bare: bool = False
    ) -> Iterator[Client]:
        """A requester at `port`, beside an echo at `to`, one message under way."""
        options: dict[str, object] = {"address": "service", "count": count, "bare": bare}
        with (
            self._start("echo", to, transport, options),
            self._start("request", port, transport, options) as requester,
        ):
            yield requester

    @contextmanager
    def idle(self, port: int, count: int, *, links: int = 1, transport: str = "tcp") -> Iterator[float]:
        """Holds `count` connections with links, opened 50 at a time; gives how many were opened in a second."""
        options = {"address": "idle", "connections": count, "links": links, "apart": True}
        with self._start("idle", port, transport, options) as client:
            figures = client.line()
            yield count / figures["seconds"]

    def _start(self, role: str, port: int, transport: str, options: dict[str, object]) -> Client:
        words = [sys.executable, str(LOAD), role, "--port", str(port), "--transport", transport]
        for name, value in options.items():
            if value is True:
                words.append(f"--{name}")
            elif value is not False and value != "":
                words += [f"--{name}", str(value)]
        return Client(words)


def _options(load: Load, **more: object) -> dict[str, object]:
    names = ("address", "count", "size", "connections", "settled", "apart", "first", "bare")
    return {**{name: getattr(load, name) for name in names}, **more}


class _ExternalClient(Client):
    """The other generator: its figures under our names."""

    def result(self) -> dict[str, Any]:
        figures = super().result()
        latency = figures.get("lat_us") or {}
        figures["seconds"] = figures.get("secs", 0.0)
        figures |= {name: latency[name] for name in ("p50", "p99") if name in latency}
        return figures


class ExternalGenerator(Generator):
    """The same roles by another program."""

    name = "a generator in C"

    def __init__(self, path: str) -> None:
        self.path = path

    def takes(self, transport: str, *, own: bool) -> bool:
        """Plain TCP, and all senders to one address."""
        return transport == "tcp" and not own

    def receive(self, load: Load) -> Client:
        words = [*self._words("recv", load), "-I", str(SILENCE_SECONDS), *(["-T"] if load.latency else [])]
        return _ExternalClient(words, ready_on_stderr=True)

    def send(self, load: Load) -> Client:
        return _ExternalClient([*self._words("send", load), *(["-R", f"{load.rate:g}"] if load.rate else [])])

    @contextmanager
    def converse(
        self, port: int, to: int, count: int, *, transport: str = "tcp", bare: bool = False
    ) -> Iterator[Client]:
        """A requester at `port`, beside an echo at `to`, one message under way."""
        with (
            Client([self.path, "echo", "-q", "-p", str(to), "-a", "service"]),
            _ExternalClient([self.path, "ping", "-p", str(port), "-a", "service", "-n", str(count)]) as requester,
        ):
            yield requester

    @contextmanager
    def idle(self, port: int, count: int, *, links: int = 1, transport: str = "tcp") -> Iterator[float]:
        """Holds `count` connections with links, opened 50 at a time; gives how many were opened in a second."""
        words = [self.path, "conns", "-A", "-p", str(port), "-a", "idle", "-C", str(count), "-L", str(links)]
        with Client([*words, "-D", str(PATIENCE_SECONDS)]) as client:
            yield float(client.line()["conns_per_s"])

    def _words(self, role: str, load: Load) -> list[str]:
        words = [self.path, role, "-p", str(load.port), "-a", load.address, "-n", str(load.count), "-s", str(load.size)]
        words += ["-C", str(load.connections)] if load.connections > 1 else []
        return [*words, "-S"] if load.settled else words
