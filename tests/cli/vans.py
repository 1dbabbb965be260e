"""The `van` command as a process, against a router that is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.interop.harness import PROJECT, Program, Router

COMMAND = [sys.executable, "-W", "error", "-m", "van.cli"]

SITE = """
[router]
id = "scene"
users_file = "users.toml"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[listener]]
name = "users"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["SCRAM-SHA-256"]

[[listener]]
name = "tls"
url = "amqps://127.0.0.1:0"
ssl_profile = "server"
sasl_mechanisms = ["ANONYMOUS"]

[[ssl_profile]]
name = "server"
cert_file = "server.pem"
private_key_file = "server.key"

[[address]]
prefix = "closed"
distribution = "unavailable"
"""

Done = subprocess.CompletedProcess[str]


class Van:
    """Runs the command. What it starts in the background is ended with the scene."""

    def __init__(self, router: Router, folder: Path) -> None:
        self.router = router
        self.folder = folder
        self._started: list[Program] = []

    def environment(self) -> dict[str, str]:
        keep = {key: value for key, value in os.environ.items() if key not in ("VAN_URL", "NO_COLOR", "FORCE_COLOR")}
        return {**keep, "PYTHONPATH": str(PROJECT), "VAN_URL": self.router.url(), "COLUMNS": "100"}

    def __call__(self, *arguments: str, stdin: str | bytes = "", **environment: str) -> Done:
        """Run to the end."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin if isinstance(stdin, bytes) else stdin.encode(),
            capture_output=True,
            timeout=60,
            check=False,
            env={**self.environment(), **environment},
            cwd=self.folder,
        )
        return Done(
            done.args, done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode()
        )

    def start(self, *arguments: str, interpreter: Callable[[list[str]], list[str]] = list) -> Program:
        """Run in the background; its lines can be read meanwhile."""
        program = Program(interpreter([*COMMAND, *arguments]), self.environment())
        self._started.append(program)
        return program

    def end_all(self) -> None:
        for program in self._started:
            program.kill()


def only_json(done: Done) -> dict[str, Any]:
    """The one line of JSON that a command has printed."""
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert isinstance(result, dict)
    return result
