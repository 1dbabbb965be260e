"""What every benchmark shares: a router process with its CPU time and memory, medians, and tables.

Standard library only. On Linux the figures of a process come from its CPU clock and /proc, on other systems from `ps`;
where there is neither they are left out.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
# Set for processes of another interpreter, where what is installed is to be measured: a compiled van.
INSTALLED = "VAN_BENCHMARK_INSTALLED"
# Else benchmarks run from a clone, whether the package is installed or not.
if str(ROOT) not in sys.path and INSTALLED not in os.environ:
    sys.path.insert(0, str(ROOT))
# A router that is not ready, or a client that has not ended, after so many seconds never will be.
PATIENCE_SECONDS = 120.0
# Descriptors of this process beside the connections.
SPARE_DESCRIPTORS = 100
SITE = """
[router]
id = "benchmark"

[[listener]]
url = "amqp://127.0.0.1:0"

[[address]]
prefix = "multicast"
distribution = "multicast"
"""

Figures = dict[str, float | None]
"""What is measured of one case, by its name with the unit; None where this system does not tell."""


def environment(*, installed: bool = False) -> dict[str, str]:
    """The environment of processes that import this tree's package, or (`installed`) that of their interpreter."""
    if installed or INSTALLED in os.environ:
        result = os.environ | {INSTALLED: "1"}
        result.pop("PYTHONPATH", None)
        return result
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a process, None where this system does not tell."""
    exact = _clock_seconds(pid)
    if exact is not None:
        return exact
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        pass
    text = _ps(pid, "time")
    if text is None:
        return None
    seconds = 0.0
    for part in re.split("[-:]", text):
        seconds = seconds * 60 + float(part)
    return seconds


def _clock_seconds(pid: int) -> float | None:
    """The CPU clock of another process, in nanoseconds where /proc tells ticks of 10 ms: Linux alone has it."""
    if not sys.platform.startswith("linux"):
        return None
    clock = ctypes.c_int()
    try:
        if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
            return None
        return time.clock_gettime(clock.value)
    except (AttributeError, OSError):
        return None


def family(pid: int) -> list[int]:
    """A process and those that it has started, theirs included: workers. The process alone where nobody tells."""
    try:
        children = [file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return [pid]
    return [pid, *(member for several in children for child in several for member in family(int(child)))]


def resident_kib(pid: int) -> int | None:
    """Resident memory of a process in KiB, None where this system does not tell."""
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1])
    text = _ps(pid, "rss")
    return int(text) if text is not None else None


def _ps(pid: int, column: str) -> str | None:
    try:
        result = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip() or None


class RouterProcess:
    """`with RouterProcess() as router:` a router with the default settings, ready at `router.port`.

    site: another configuration; `port` is that of its first listener. `start_seconds` is the time from starting the
    process to its `ready` line.
    """

    def __init__(self, site: str = SITE) -> None:
        self._site = site
        self._folder = tempfile.TemporaryDirectory(prefix="van-benchmark-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "log"
        self.port = 0
        self.start_seconds = 0.0

    def __enter__(self) -> Self:
        site = Path(self._folder.name) / "site.toml"
        site.write_text(self._site)
        begin = time.perf_counter()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "van.router", str(site)], stderr=log, stdout=log, env=environment()
            )
        try:
            self._wait(begin)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait(self, begin: float) -> None:
        while True:
            for line in self._log.read_text(errors="replace").splitlines():
                if '"ready"' in line and line.endswith("}"):
                    self.start_seconds = time.perf_counter() - begin
                    addresses = next(iter(json.loads(line)["listeners"].values()))
                    self.port = int(addresses[0].rpartition(":")[2])
                    return
            if self.process.poll() is not None or time.perf_counter() - begin > PATIENCE_SECONDS:
                raise RuntimeError(f"the router did not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        """The router's process id."""
        return self.process.pid

    transport = "tcp"
    bare = False

    @property
    def far_port(self) -> int:
        """Where receivers connect: no other place than senders."""
        return self.port

    def cpu_seconds(self) -> float | None:
        """User and system time of the process, None where this system does not tell."""
        return cpu_seconds(self.pid)

    def connections(self) -> list[int]:
        """One process has all, and nobody asks."""
        return []

    def resident_kib(self) -> int | None:
        """Resident memory of the process, None where this system does not tell."""
        return resident_kib(self.pid)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._folder.cleanup()


def allow_descriptors(count: int) -> None:
    """Raise the soft limit of open files, where there is one, so that `count` connections can be had."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_DESCRIPTORS
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def medians(rows: Sequence[Figures]) -> Figures:
    """The median of every figure over several runs."""
    result: Figures = {}
    for name in rows[0]:
        values = [value for row in rows if (value := row.get(name)) is not None]
        result[name] = median(values) if values else None
    return result


def show(value: float | None) -> str:
    """A figure with about three digits."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(title: str, rows: dict[str, Figures]) -> str:
    """A Markdown table: a line for each row, a column for each figure that any of them has."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    lines += [
        f"| {name} | " + " | ".join(show(row[column]) if column in row else "" for column in columns) + " |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)
