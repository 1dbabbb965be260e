"""A real router and programs of others, as processes with a bounded life.

Responsible for: finding the foreign programs (and saying in one line what is missing), starting processes, reading what
they print, and ending them whatever happens. The scenes themselves are in the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest
import trustme

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent

SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's package of Proton is for the system's interpreter, not for ours."""

SCRAM_PYTHON = os.environ.get("VAN_PROTON_PYTHON", SYSTEM_PYTHON)
"""An interpreter whose Proton was built with Cyrus SASL, so that it knows SCRAM; Debian's and PyPI's wheels are not."""

PROTON_EXAMPLES = Path("/usr/share/proton/examples/python")

TLS_LISTENERS = ("tls", "mutual", "known", "wss", "wss-mutual")
"""Those of the site in `conftest.py` that need a certificate authority; the others take any client."""

PATIENCE = 20.0
"""Seconds that any one step may take: far more than it needs on a busy machine, so that only a hang gets there."""


def missing(what: str) -> NoReturn:
    """Skip the test in one line, or fail it where everything has to be there."""
    if os.environ.get("VAN_REQUIRE_INTEROP") == "1":
        pytest.fail(f"VAN_REQUIRE_INTEROP=1, but {what}", pytrace=False)
    pytest.skip(what)


class Program:
    """A process whose lines we read while it runs."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        *,
        asks: bool = False,
    ) -> None:
        """`asks`: it reads commands, and its input stays open and silent; else there is none."""
        self.command = list(command)
        self.errors: list[str] = []
        self._more_errors = threading.Condition()
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE if asks else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read_lines, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._more_errors:
                    self.errors.append(line.rstrip("\n"))
                    self._more_errors.notify_all()

    def line(self) -> str:
        """Wait for the next line on stdout."""
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            self._fail(f"printed nothing for {PATIENCE:.0f} s")
        if line is None:
            self._lines.put(None)
            self._fail("ended instead of printing a line")
        return line

    def lines(self, count: int) -> list[str]:
        """Wait for so many lines on stdout."""
        return [self.line() for _ in range(count)]

    def wait_for_error(self, text: str) -> None:
        """Wait for a line on stderr that has this text in it."""
        with self._more_errors:
            if not self._more_errors.wait_for(lambda: any(text in line for line in self.errors), PATIENCE):
                self._fail(f"did not print {text!r} on stderr")

    def output(self, status: int | None = 0) -> list[str]:
        """Wait for the end; return the lines on stdout not yet taken. `status` None accepts every exit status."""
        lines = []
        try:
            while (line := self._lines.get(timeout=PATIENCE)) is not None:
                lines.append(line)
            self._process.wait(PATIENCE)
        except (queue.Empty, subprocess.TimeoutExpired):
            self._fail(f"did not end within {PATIENCE:.0f} s after printing {lines}")
        for reader in self._readers:
            reader.join(PATIENCE)
        if status is not None and self._process.returncode != status:
            self._fail(f"ended with {self._process.returncode} after printing {lines}")
        return lines

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it now, whether it still runs or not."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(PATIENCE)
        if self._process.stdin is not None:
            self._process.stdin.close()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs."""
        return self._process.returncode

    def _fail(self, what: str) -> NoReturn:
        tail = "\n    ".join(self.errors[-40:])
        pytest.fail(f"{' '.join(self.command)}\n  {what}; on stderr:\n    {tail}", pytrace=True)


class Certificates:
    """Files of a certificate authority, a server, a client, and a client that the authority does not know."""

    def __init__(self, folder: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        self.ca = self._write(folder / "ca.pem", authority.cert_pem.bytes())
        self.server, self.server_key = self._issue(folder, "server", authority, "localhost", "127.0.0.1", "::1")
        self.client, self.client_key = self._issue(folder, "alice", authority, "alice@example.org")
        self.stranger, self.stranger_key = self._issue(folder, "stranger", stranger, "mallory@example.org")

    def options(self, listener: str) -> dict[str, str]:
        """What a client needs for this listener."""
        if listener.endswith("mutual"):
            return {"ca": self.ca, "cert": self.client, "key": self.client_key}
        return {"ca": self.ca}

    def _write(self, path: Path, content: bytes) -> str:
        path.write_bytes(content)
        return str(path)

    def _issue(self, folder: Path, name: str, authority: trustme.CA, *identities: str) -> tuple[str, str]:
        issued = authority.issue_cert(*identities, common_name=name)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return (
            self._write(folder / f"{name}.pem", chain),
            self._write(folder / f"{name}.key", issued.private_key_pem.bytes()),
        )


class Programs:
    """Starts programs and ends those that are left."""

    def __init__(self) -> None:
        self._started: list[Program] = []

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        *,
        asks: bool = False,
    ) -> Program:
        program = Program(command, environment, folder, asks=asks)
        self._started.append(program)
        return program

    def end_all(self) -> None:
        for program in reversed(self._started):
            program.kill()


class Proton(Programs):
    """Programs that use Qpid Proton: Debian's examples, unmodified, and our own short ones in `proton/`."""

    def __init__(
        self,
        router: Router,
        certificates: Certificates,
        scratch: Path,
        mechanisms: Sequence[str] = ("PLAIN",),
        python: str = SYSTEM_PYTHON,
    ) -> None:
        super().__init__()
        self.mechanisms = mechanisms
        """Those for users with a password that this Proton is tried with, the one it prefers last."""
        self._python = python
        self._router = router
        self._certificates = certificates
        self._scratch = scratch

    def to(self, listener: str) -> dict[str, str]:
        """The options with which our programs connect to the listener of this name."""
        if listener not in TLS_LISTENERS:
            return {"url": self._router.url(listener=listener)}
        return {"url": self._router.url(listener=listener, scheme="amqps"), **self._certificates.options(listener)}

    def example(
        self, name: str, *arguments: str, trace: bool = False, folder: Path | None = None, asks: bool = False
    ) -> Program:
        """Start one of Debian's examples as it is, in `folder` where it keeps files.

        Some have `localhost:5672` written into them. When that port was not free for our router, such an example is
        run from a copy in which nothing but the port is another. With `trace`, Proton prints each frame on stderr.
        """
        path = PROTON_EXAMPLES / f"{name}.py"
        if not path.exists():
            missing(f"{path} (Debian's libqpid-proton11-dev-examples) is not installed")
        text = path.read_text()
        if not arguments and "localhost:5672" in text and self._router.port("open") != 5672:
            path = self._scratch / path.name
            path.write_text(text.replace("localhost:5672", f"localhost:{self._router.port('open')}"))
        environment = {"PYTHONPATH": str(PROTON_EXAMPLES), "PYTHONDONTWRITEBYTECODE": "1"}
        if trace:
            environment["PN_TRACE_FRM"] = "1"
        return self.start([self._python, str(path), *arguments], environment, folder, asks=asks)

    def program(self, name: str, **options: object) -> Program:
        """Start one of our own programs; it finds its options as JSON in its first argument."""
        return self.start([self._python, str(HERE / "proton" / f"{name}.py"), json.dumps(options)])


class Cyrus(Programs):
    """Our program that logs in with Cyrus SASL, the library of Proton (where it is built with it) and the C routers."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self._router = router

    def login(self, mechanism: str, user: str, password: str) -> Program:
        options = {"port": self._router.port("users"), "mechanism": mechanism, "user": user, "password": password}
        return self.start([SYSTEM_PYTHON, str(HERE / "cyrus" / "login.py"), json.dumps(options)])


class Rhea(Programs):
    """Programs of ours that use rhea, in `rhea/`, run by node."""

    def __init__(self, router: Router, certificates: Certificates, node: str, modules: str) -> None:
        super().__init__()
        self._router = router
        self._certificates = certificates
        self._node = node
        self._environment = {"NODE_PATH": modules}

    def to(self, listener: str) -> dict[str, object]:
        """The options with which our programs connect to the listener of this name."""
        certificates = self._certificates.options(listener) if listener in TLS_LISTENERS else {}
        if listener.startswith("ws"):
            scheme = "wss" if certificates else "ws"
            return {"websocket": self._router.url("van", listener, scheme), **certificates}
        return {"port": self._router.port(listener), "transport": "tls" if certificates else "tcp", **certificates}

    def program(self, name: str, **options: object) -> Program:
        """Start one; it finds its options as JSON in its first argument."""
        return self.start([self._node, str(HERE / "rhea" / f"{name}.js"), json.dumps(options)], self._environment)


class Router:
    """`python -m van.router site.toml`, and where its listeners are."""

    def __init__(self, site_file: Path) -> None:
        self._program = Program([sys.executable, "-m", "van.router", str(site_file)], {"PYTHONPATH": str(PROJECT)})
        self._checked = 0
        ready = self.wait_for_log(event="ready")
        self._ports = {name: int(bound[0].rpartition(":")[2]) for name, bound in ready["listeners"].items()}

    def port(self, listener: str) -> int:
        """The real port of the listener with this name."""
        return self._ports[listener]

    def url(self, address: str = "", listener: str = "open", scheme: str = "amqp") -> str:
        url = f"{scheme}://localhost:{self.port(listener)}"
        return f"{url}/{address}" if address else url

    def log(self) -> Iterator[dict[str, Any]]:
        """The log lines so far."""
        for line in list(self._program.errors):
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)

    def wait_for_log(self, **fields: object) -> dict[str, Any]:
        """Wait for a line in which these fields have these values."""
        deadline = threading.Event()
        timer = threading.Timer(PATIENCE, deadline.set)
        timer.start()
        try:
            while True:
                ended = not self._program.running
                for line in self.log():
                    if all(line.get(key) == value for key, value in fields.items()):
                        return line
                if ended or deadline.wait(0.01):
                    tail = "\n    ".join(self._program.errors[-40:])
                    pytest.fail(f"the router {'ended' if ended else 'did not log'} {fields}; its log:\n    {tail}")
        finally:
            timer.cancel()

    def check_alive(self) -> None:
        """Fail if the process ended, or logged since the last check anything that looks like a fault of its own."""
        new = self._program.errors[self._checked :]
        self._checked += len(new)
        faults = [line for line in new if "Traceback" in line or '"level": "critical"' in line]
        assert self._program.running, "\n".join(new[-40:])
        assert not faults, faults

    def stop(self) -> None:
        """End it as an operator would; it has to obey, and to have found nothing wrong with itself."""
        try:
            self.check_alive()
            self.end(signal.SIGTERM)
        finally:
            self._program.kill()

    def end(self, number: signal.Signals) -> None:
        """End it by a signal: in order by SIGTERM and SIGINT, at once by SIGKILL."""
        self._program.signal(number)
        self.wait_for_end(-number if number is signal.SIGKILL else 0)

    def wait_for_end(self, status: int = 0) -> None:
        """Wait until the process has ended with this status."""
        self._program.output(status)

    def signal(self, number: signal.Signals) -> None:
        self._program.signal(number)

    def kill(self) -> None:
        """End the process whatever it does."""
        self._program.kill()

    @property
    def pid(self) -> int:
        return self._program.pid


def find_proton() -> None:
    """Check that there is Proton."""
    if _proton_says(SYSTEM_PYTHON, "proton.VERSION") is None:
        missing(f"{SYSTEM_PYTHON} has no Proton (Debian's python3-qpid-proton)")


def find_proton_with_scram() -> str:
    """Return an interpreter whose Proton knows SCRAM."""
    if _proton_says(SCRAM_PYTHON, "proton.SASL.extended()") != "True":
        missing(f"the Proton of {SCRAM_PYTHON} knows no SCRAM (VAN_PROTON_PYTHON: one that was built with Cyrus SASL)")
    return SCRAM_PYTHON


def _proton_says(python: str, expression: str) -> str | None:
    try:
        asked = subprocess.run(
            [python, "-c", f"import proton; print({expression})"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return asked.stdout.strip()


def find_cyrus() -> None:
    """Check that Cyrus SASL is there, with the plug-in for SCRAM."""
    if not Path(SYSTEM_PYTHON).exists() or not list(Path("/usr/lib").glob("*/sasl2/libscram.so*")):
        missing(f"{SYSTEM_PYTHON} and Cyrus SASL with its plug-in for SCRAM (Debian's libsasl2-modules) are needed")


def find_rhea() -> tuple[str, str]:
    """Return node and the folder with rhea and ws."""
    node = shutil.which("node")
    if node is None:
        missing("node is not installed")
    modules = os.environ.get("VAN_NODE_PATH", str(PROJECT / ".interop" / "node_modules"))
    for module in ("rhea", "ws"):
        if not (Path(modules) / module).is_dir():
            missing(f"the node module {module} is not in {modules} (VAN_NODE_PATH)")
    return node, modules
