"""Chaos with real processes over sockets: one router, ten senders, ten receivers, SIGKILL and cut connections.

    python -m tests.chaos.processes --messages 1000000 --seed 3

Every client keeps a log that survives it; at the end both ends' logs are compared, message by message.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
CLIENTS = 10
ADDRESSES = {"q/closest": "closest", "q/balanced": "balanced", "q/other": "balanced", "m/all": "multicast"}
# A sender's numbers begin at its index times this.
STRIDE = 1_000_000_000
LINK_CAPACITY = 250
MEMORY_LIMIT = "64 MiB"
SITE = (
    f"""
[router]
id = "chaos"
memory_limit = "{MEMORY_LIMIT}"
[[listener]]
url = "amqp://127.0.0.1:0"
# Where it is written, credit does not grow: so much may be in doubt when a sender is cut off.
link_capacity = {LINK_CAPACITY}
[log]
format = "json"
"""
    + "".join(
        f'[[address]]\npattern = "{pattern}"\ndistribution = "{distribution}"\n'
        for pattern, distribution in ADDRESSES.items()
    )
)
OUTCOMES = ("accepted", "rejected", "released", "modified")


def address_of(index: int) -> str:
    return list(ADDRESSES)[index % len(ADDRESSES)]


class Router:
    """`python -m van.router` on a port of its own."""

    def __init__(self, site: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "van.router", str(site)], cwd=PROJECT, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self.port = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if not self._ready.wait(20) or not self.port:
            self.process.kill()
            raise AssertionError("\n".join(self.lines[-20:]))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            with contextlib.suppress(json.JSONDecodeError):
                fields = json.loads(line)
                if fields.get("event") == "ready":
                    (bound,) = fields["listeners"].values()
                    self.port = int(bound[0].rpartition(":")[2])
                    self._ready.set()
        self._ready.set()

    def most_memory(self) -> int:
        """The peak of its resident memory, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return 0
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) // 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self._reader.join(5)
            assert self.process.stderr is not None
            self.process.stderr.close()
        faults = [line for line in self.lines if "Traceback" in line or '"critical"' in line]
        assert not faults, faults[0]
        assert self.process.returncode == 0, self.lines[-5:]


class Run:
    """One run; between two injuries it waits up to `pause` seconds, and `patience` is how long it may take in all.

    Senders that are done before there were `injuries` send as many messages again: how many that is depends on the
    machine.
    """

    def __init__(self, seed: int, messages: int, patience: float, pause: float = 0.5, injuries: int = 0) -> None:
        self.pause = pause
        self.injuries = injuries
        self.portion = messages // CLIENTS
        self.random = random.Random(seed)
        self.each = self.portion
        self.patience = patience
        self.counts: Counter[str] = Counter()
        self.seconds = 0.0
        self.memory = 0

    def run(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.folder = Path(folder)
            site = self.folder / "site.toml"
            site.write_text(SITE)
            self.router = Router(site)
            # Clients inherit this: a signal that comes before they are ready does nothing.
            handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            self.senders = [self._sender(index) for index in range(CLIENTS)]
            self.receivers = [self._receiver(index) for index in range(CLIENTS)]
            start = time.monotonic()
            try:
                self._hurt_until_done(start)
            finally:
                self.memory = self.router.most_memory()
                self.seconds = time.monotonic() - start
                for process in [*self.senders, *self.receivers]:
                    process.kill()
                    process.wait()
                self.router.stop()
                signal.signal(signal.SIGUSR1, handler)
            self._compare()

    def _log(self, role: str, index: int) -> Path:
        return self.folder / f"{role}-{index}"

    def _start(self, role: str, index: int, *numbers: int) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "tests.chaos.endpoint", role]
        options = [str(self._log(role, index)), str(self.router.port), address_of(index), *map(str, numbers)]
        return subprocess.Popen([*program, *options], cwd=PROJECT)

    def _sender(self, index: int) -> subprocess.Popen[bytes]:
        first = index * STRIDE
        log = self._log("send", index)
        if log.exists():
            sent = [line for line in log.read_text().splitlines() if line.startswith("S ")]
            if sent:
                first = int(sent[-1][2:]) + 1
        return self._start("send", index, first, index * STRIDE + self.each - 1)

    def _receiver(self, index: int) -> subprocess.Popen[bytes]:
        return self._start("receive", index)

    def _hurt_until_done(self, start: float) -> None:
        draw = self.random
        while True:
            time.sleep(draw.uniform(self.pause / 10, self.pause))
            running = [index for index, sender in enumerate(self.senders) if sender.poll() is None]
            failed = [index for index, sender in enumerate(self.senders) if sender.poll() not in (None, 0)]
            assert not failed, f"sender {failed} failed"
            assert self.router.process.poll() is None, self.router.lines[-20:]
            if not running:
                if self._injured() >= self.injuries:
                    return
                self.each += self.portion
                self.senders = [self._sender(index) for index in range(CLIENTS)]
                continue
            assert time.monotonic() < start + self.patience, f"senders {running} are stuck"
            kind = draw.choice(["kill sender", "kill receiver", "cut sender", "cut receiver"])
            index = draw.choice(running) if "sender" in kind else draw.randrange(CLIENTS)
            process = (self.senders if "sender" in kind else self.receivers)[index]
            if kind.startswith("cut"):
                process.send_signal(signal.SIGUSR1)
            else:
                process.kill()
                process.wait()
                if "sender" in kind:
                    self.senders[index] = self._sender(index)
                else:
                    self.receivers[index] = self._receiver(index)
            self.counts[kind] += 1

    def _injured(self) -> int:
        return sum(count for kind, count in self.counts.items() if " " in kind)

    def _compare(self) -> None:
        received: dict[str, set[int]] = {name: set() for name in ("R", *OUTCOMES)}
        twice = 0
        for index in range(CLIENTS):
            for name, number in lines(self._log("receive", index)):
                if name == "R" and address_of(number // STRIDE) != "m/all" and number in received["R"]:
                    twice += 1
                received[name].add(number)
        assert not twice, f"{twice} received twice"
        for index in range(CLIENTS):
            told: dict[int, str] = {}
            highest = index * STRIDE - 1
            for name, number in lines(self._log("send", index)):
                if name == "S":
                    highest = number
                    continue
                assert number not in told, f"{number}: {told[number]} and {name}"
                told[number] = name
                if name == "accepted":
                    assert number in received["accepted"], f"{number} was accepted by nobody"
                elif name == "rejected":
                    assert number in received["rejected"], f"{number} was rejected by nobody"
            assert highest == index * STRIDE + self.each - 1, f"sender {index} came to {highest}"
            self.counts.update(told.values())
            # Without a word: it was under way when its sender was killed.
            self.counts["D"] += self.each - len(told)
        cuts = self.counts["kill sender"] + self.counts["cut sender"]
        assert self.counts["D"] <= LINK_CAPACITY * cuts, f"{self.counts['D']} in doubt after {cuts} cuts"

    def report(self) -> str:
        outcomes = ", ".join(f"{name} {self.counts[name]}" for name in OUTCOMES)
        hurts = ", ".join(f"{kind} {self.counts[kind]}" for kind in sorted(self.counts) if " " in kind)
        return (
            f"{self.each * CLIENTS} messages in {self.seconds:.0f} s: {outcomes}, in doubt {self.counts['D']}; "
            f"{hurts}; router at most {self.memory} MiB"
        )


def lines(path: Path) -> list[tuple[str, int]]:
    """The facts of a log; a line that a kill has cut short is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    return [(name, int(number)) for name, number in (line.split(" ") for line in whole.splitlines() if line)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=900.0)
    arguments = parser.parse_args()
    run = Run(arguments.seed, arguments.messages, arguments.patience)
    run.run()
    print(run.report())


if __name__ == "__main__":
    main()
