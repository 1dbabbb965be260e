"""Brokers by others, as processes: the example of Qpid Proton, and RabbitMQ.

Each says what a connector needs to reach it, and what it calls a queue.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.interop.harness import PATIENCE, PROTON_EXAMPLES, SYSTEM_PYTHON, find_proton, missing
from tests.ports import free_port

RABBITMQ = Path("/usr/lib/rabbitmq/lib")
STARTING_SECONDS = 3 * PATIENCE
"""RabbitMQ makes its database first; that takes five seconds on an idle machine."""


class ForeignBroker:
    """A broker: `port` is where it listens, `keys` what a connector needs beside the URL."""

    keys = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    def queue(self, name: str) -> str:
        """What it calls a queue, which is made when it is not there."""
        return name

    def start(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        """End it now, with all of its processes."""
        while self._processes:
            process = self._processes.pop()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)

    def _run(self, *command: str, **environment: str) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                cwd=self.folder,
                # Its processes end together.
                start_new_session=True,
            )
        self._processes.append(process)

    def _wait_for_port(self, port: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            log = (self.folder / "broker.log").read_text(errors="replace")[-2000:]
            assert self._processes[-1].poll() is None, f"the broker has ended:\n{log}"
            assert time.monotonic() < deadline, f"the broker does not listen:\n{log}"
            time.sleep(0.05)


class ProtonBroker(ForeignBroker):
    """`broker.py` of Proton's examples, as it is. It keeps messages in memory, and takes any outcome for acceptance."""

    def start(self) -> None:
        example = PROTON_EXAMPLES / "broker.py"
        if not example.exists():
            missing(f"{example} (Debian's libqpid-proton11-dev-examples) is not installed")
        find_proton()
        self._run(SYSTEM_PYTHON, str(example), "-a", f"127.0.0.1:{self.port}", PYTHONDONTWRITEBYTECODE="1")
        self._wait_for_port(self.port, PATIENCE)


class RabbitMQ(ForeignBroker):
    """RabbitMQ 3 with its plugin for AMQP 1.0, and a daemon of Erlang's of its own beside it."""

    keys = """
sasl_mechanisms = ["PLAIN"]
sasl_username = "guest"
sasl_password = "guest"
allow_insecure_plain = true
"""

    def queue(self, name: str) -> str:
        return f"/queue/{name}"

    def start(self) -> None:
        homes = sorted(RABBITMQ.glob("rabbitmq_server-3.*"))
        if not homes or not list(homes[-1].glob("plugins/rabbitmq_amqp1_0-*")):
            missing("RabbitMQ 3 with its plugin rabbitmq_amqp1_0 (Debian's rabbitmq-server) is not installed")
        folder = self.folder
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = true\nlog.file = false\n"
        )
        (folder / "plugins").write_text("[rabbitmq_amqp1_0].\n")
        mapper = str(free_port())
        erlang = {"ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": mapper, "HOME": str(folder)}
        self._run("epmd", **erlang)
        self._wait_for_port(int(mapper), PATIENCE)
        self._run(
            str(homes[-1] / "sbin" / "rabbitmq-server"),
            **erlang,
            RABBITMQ_NODENAME="van@localhost",
            RABBITMQ_DIST_PORT=str(free_port()),
            RABBITMQ_MNESIA_BASE=str(folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(folder),
            RABBITMQ_CONFIG_FILE=str(folder / "rabbitmq.conf"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(folder / "plugins"),
            RABBITMQ_PLUGINS_DIR=str(homes[-1] / "plugins"),
            # One core is enough.
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none",
        )
        self._wait_for_port(self.port, STARTING_SECONDS)


@contextlib.contextmanager
def broker(kind: type[ForeignBroker], folder: Path) -> Iterator[ForeignBroker]:
    """A broker that runs, and is ended with all of its processes."""
    folder.mkdir()
    found = kind(folder)
    try:
        found.start()
        yield found
    finally:
        found.kill()
