"""A message far larger than the router's memory passes through it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.processes import PROJECT, Router

SITE = """
[router]
id = "large"
memory_limit = "16 MiB"
[[listener]]
url = "amqp://127.0.0.1:0"
[log]
format = "json"
"""


@pytest.mark.slow
def test_a_message_of_a_gibibyte_passes_a_budget_of_16_mib(tmp_path: Path) -> None:
    size = 1 << 30
    site = tmp_path / "site.toml"
    site.write_text(SITE)
    router = Router(site)
    try:
        program = [sys.executable, "-m", "tests.chaos.large"]
        receiver = subprocess.Popen([*program, "receive", str(router.port)], cwd=PROJECT, stdout=subprocess.PIPE)
        sender = subprocess.Popen([*program, "send", str(router.port), str(size)], cwd=PROJECT, stdout=subprocess.PIPE)
        try:
            said = [process.communicate(timeout=120)[0].decode() for process in (sender, receiver)]
        finally:
            sender.kill()
            receiver.kill()
        memory = router.most_memory()
    finally:
        router.stop()
    assert said == ["Accepted()\n", f"{size}\n"]
    print(f"router at most {memory} MiB")
    assert memory < 64
