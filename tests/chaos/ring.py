"""A ring of real router processes: how soon it is complete, what it costs when idle, and what traffic over it notices
of routers that are killed, that fall silent, and that come back.

    python -m tests.chaos.ring                          ten routers, every scene, about five minutes
    python -m tests.chaos.ring complete idle            only these scenes
    python -m tests.chaos.ring cut silent --size 5      a smaller ring
    python -m tests.chaos.ring --skrouterd PATH         with one skrouterd in it, beside the receiver's router
    python -m tests.chaos.ring --skrouterd PATH --all   with nothing else, to compare

Scenes: `complete` (routers are started one after another; until every one reaches every other, by messages), `idle`
(CPU and memory without traffic), `cut` (each router but the two that clients are attached to is killed with SIGKILL and
started again), `silent` (the same with SIGSTOP and SIGCONT), `orderly` (the same with SIGTERM), `receiver` (the
receiver's own router is killed).
Exit code 1 when something is worse than `Limits` allow.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.ports import free_ports
from van.client import ClientError, Connection, Receiver, connect

PROJECT = Path(__file__).parent.parent.parent
SCENES = ("complete", "idle", "cut", "silent", "orderly", "receiver")
ADDRESS = "ring/traffic"
RATE = 2000.0
# How long an idle ring is watched, in seconds.
IDLE_SECONDS = 10.0
# A router is killed this long after the ring has been whole again.
CALM_SECONDS = 1.5
# How long a killed router stays away, and how much longer than the hello age a silent one is silent.
AWAY_SECONDS = 1.0
SILENT_SECONDS = 1.0
PATIENCE = 30.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

VAN = """
[router]
id = "{name}"
mode = "interior"
hello_interval_seconds = {hello}
hello_max_age_seconds = {age}
[[listener]]
name = "clients"
url = "amqp://127.0.0.1:{clients}"
[[listener]]
name = "routers"
url = "amqp://127.0.0.1:{routers}"
role = "inter-router"
[[connector]]
name = "next"
url = "amqp://127.0.0.1:{following}"
role = "inter-router"
[log]
format = "json"
"""

SKROUTERD = """
router {{
    id: {name}
    mode: interior
    helloIntervalSeconds: {hello:.0f}
    helloMaxAgeSeconds: {age:.0f}
    workerThreads: 1
    dataConnectionCount: 0
}}
listener {{
    host: 127.0.0.1
    port: {clients}
    saslMechanisms: ANONYMOUS
    authenticatePeer: no
}}
listener {{
    host: 127.0.0.1
    port: {routers}
    role: inter-router
    saslMechanisms: ANONYMOUS
    authenticatePeer: no
}}
connector {{
    host: 127.0.0.1
    port: {following}
    role: inter-router
    saslMechanisms: ANONYMOUS
}}
"""


@dataclass(frozen=True)
class Limits:
    """What is good enough: seconds, a share of one core, MiB.

    `gap` is how long the receiver may hear nothing; `join` how long after a receiver has attached to a router that has
    just been started.
    """

    complete: float = 2.0
    gap: float = 0.3
    join: float = 0.6
    idle_share: float = 0.02
    memory: float = 45.0

    @classmethod
    def with_skrouterd(cls) -> Limits:
        """A skrouterd computes paths once a second, and tries a connector again after five."""
        return cls(complete=8.0, gap=1.3, join=2.0)


async def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Look often until this holds: other processes tell nobody of what they did."""
    with trio.fail_after(patience):
        while not condition():  # noqa: ASYNC110 - see above
            await trio.sleep(0.02)


class Member:
    """One router of the ring."""

    def __init__(self, folder: Path, index: int, name: str, clients: int, skrouterd: str | None) -> None:
        self.index = index
        self.name = name
        self.clients = clients
        self.skrouterd = skrouterd
        self.site = folder / f"{name}.{'conf' if skrouterd else 'toml'}"
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.silent = False

    def start(self) -> None:
        program = [self.skrouterd, "-c"] if self.skrouterd else [sys.executable, "-m", "van.router"]
        self.started_at = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*program, str(self.site)], cwd=PROJECT, stdout=log, stderr=log)

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.clients)) == 0

    def opened(self, peer: str, since: int) -> bool:
        """Whether the log tells, from this octet on, of a connection with `peer`."""
        with self.log.open("rb") as log:
            log.seek(since)
            text = log.read().decode(errors="replace")
        marks = (f'"container_id": "{peer}"', f"container_id={peer} ")
        return any("onnection" in line and any(mark in line for mark in marks) for line in text.splitlines())

    def cpu_seconds(self) -> float:
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def memory(self) -> float:
        """Resident MiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


class Ring:
    """The routers; each connects to the next one."""

    def __init__(
        self,
        folder: Path,
        size: int,
        *,
        hello: float,
        age: float,
        skrouterd: str | None = None,
        foreign: Container[int] = (),
    ) -> None:
        self.size = size
        self.age = age
        clients, routers = free_ports(size), free_ports(size)
        self.members: list[Member] = []
        for index in range(size):
            own = skrouterd if index in foreign else None
            member = Member(folder, index, f"R{index}", clients[index], own)
            following = routers[(index + 1) % size]
            ports = {"clients": clients[index], "routers": routers[index], "following": following}
            text = (SKROUTERD if own else VAN).format(name=member.name, hello=hello, age=age, **ports)
            member.site.write_text(text)
            self.members.append(member)

    @property
    def sender(self) -> Member:
        return self.members[0]

    @property
    def receiver(self) -> Member:
        return self.members[self.size // 2]

    def between(self) -> list[Member]:
        """Those that no client of the traffic is attached to."""
        return [member for member in self.members if member not in {self.sender, self.receiver}]

    async def start(self) -> None:
        """One after another: the next when one answers."""
        for member in self.members:
            member.start()
            await self.answering(member)

    async def answering(self, member: Member) -> None:
        def answers() -> bool:
            assert member.process is not None
            assert member.process.poll() is None, member.log.read_text()[-2000:]
            return member.answers()

        await until(answers)

    def neighbours(self, member: Member) -> list[Member]:
        return [self.members[(member.index + step) % self.size] for step in (-1, 1)]

    def log_ends(self) -> list[int]:
        return [member.log.stat().st_size for member in self.members]

    async def whole_again(self, member: Member, since: list[int]) -> None:
        """Wait until this one has both its neighbours, as the logs tell from these octets on."""
        await until(
            lambda: all(
                member.opened(neighbour.name, since[member.index])
                or neighbour.opened(member.name, since[neighbour.index])
                for neighbour in self.neighbours(member)
            )
        )

    def stop(self) -> None:
        for member in self.members:
            if member.process is not None:
                if member.silent:
                    member.send_signal(signal.SIGCONT)
                member.kill()

    def faults(self) -> list[str]:
        """What no log of ours may hold."""
        marks = ("Traceback", '"critical"', "a fault of ours")
        return [
            f"{member.name}: {line[:2000]}"
            for member in self.members
            if not member.skrouterd and member.log.exists()
            for line in member.log.read_text(errors="replace").splitlines()
            if any(mark in line for mark in marks)
        ]


# -- who reaches whom ------------------------------------------------------------------------------------------------


class Reach:
    """Clients at every router that try to reach every other: when a pair first did."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.members = list(members)
        self.at: dict[tuple[str, str], float] = {}
        self.complete = trio.Event()
        self.wanted = len(self.members) * (len(self.members) - 1)

    def missing(self) -> list[tuple[str, str]]:
        names = [member.name for member in self.members]
        return [pair for pair in itertools.permutations(names, 2) if pair not in self.at]

    async def run(self) -> None:
        """Until every pair has."""
        async with trio.open_nursery() as nursery:
            for member in self.members:
                nursery.start_soon(self._watch, member)
            await self.complete.wait()
            nursery.cancel_scope.cancel()

    async def _watch(self, member: Member) -> None:
        while True:
            try:
                async with (
                    connect(f"amqp://127.0.0.1:{member.clients}", timeout=5.0) as connection,
                    connection.receiver(f"reach/{member.name}") as receiver,
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(accept_all, receiver)
                    for other in self.members:
                        if other is not member:
                            nursery.start_soon(self._try, connection, member, other)
                    await trio.sleep_forever()
            except* (ClientError, trio.ClosedResourceError):
                await trio.sleep(0.02)

    async def _try(self, connection: Connection, member: Member, other: Member) -> None:
        pair = (member.name, other.name)
        if pair in self.at:
            return
        # There is no credit before the way is known here: waiting for it costs nobody anything.
        async with connection.sender(f"reach/{other.name}") as sender:
            while not (await sender.send(member.name)).accepted:  # noqa: ASYNC110 - the network says no more
                await trio.sleep(0.02)
        self.at[pair] = time.monotonic()
        if len(self.at) == self.wanted:
            self.complete.set()


async def accept_all(receiver: Receiver) -> None:
    async for delivery in receiver:
        delivery.accept()


# -- traffic ---------------------------------------------------------------------------------------------------------


@dataclass
class Event:
    """What was done to a router: when it went, when it came back, and when the next thing may happen."""

    kind: str
    name: str
    gone_at: float
    back_at: float = math.inf
    over_at: float = math.inf
    # The largest gap at the receiver while the router was away, and after it had come back.
    gap: float = 0.0
    gap_after: float = 0.0


class Traffic:
    """A steady sender at one router, a receiver at another, and what their logs tell in the end."""

    def __init__(self, folder: Path, sender: Member, receiver: Member, rate: float) -> None:
        self.logs = {"send": folder / "send.log", "receive": folder / "receive.log"}
        for log in self.logs.values():
            log.unlink(missing_ok=True)
        self.rate = rate
        self.processes = {
            "receive": self._start("receive", receiver),
            "send": self._start("send", sender, str(rate)),
        }

    def _start(self, role: str, member: Member, *rest: str) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "tests.chaos.traffic", role]
        return subprocess.Popen([*program, str(self.logs[role]), str(member.clients), ADDRESS, *rest], cwd=PROJECT)

    async def flowing(self) -> None:
        """Wait until messages arrive, a second's worth of them."""
        await until(lambda: len(facts(self.logs["receive"])) > self.rate)

    async def end(self) -> None:
        """The sender first, which waits for its outcomes; then the receiver."""
        for role in ("send", "receive"):
            process = self.processes[role]
            process.send_signal(signal.SIGTERM)
            await until(lambda process=process: process.poll() is not None, 60.0)  # type: ignore[misc]
            assert process.returncode == 0, f"{role} failed"

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def facts(log: Path) -> list[tuple[str, int, int, float]]:
    """The whole lines of a log."""
    if not log.exists():
        return []
    text = log.read_text()
    result = []
    for line in text[: text.rfind("\n") + 1].splitlines():
        if line:
            name, number, attempt, at = line.split(" ")
            result.append((name, int(number), int(attempt), float(at)))
    return result


@dataclass
class Account:
    """What became of the messages of a run."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    attached: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, traffic: Traffic) -> Account:
        account = cls()
        counts, wrong = account.counts, account.wrong
        received: Counter[tuple[int, int]] = Counter()
        first: dict[tuple[int, int], float] = {}
        for name, number, attempt, at in facts(traffic.logs["receive"]):
            if name == "received":
                received[number, attempt] += 1
                first.setdefault((number, attempt), at)
                account.arrivals.append(at)
            elif name == "attached":
                account.attached.append(at)
        told: dict[tuple[int, int], str] = {}
        for name, number, attempt, _ in facts(traffic.logs["send"]):
            if name in {"attached", "lost"}:
                counts[f"sender {name}"] += 1
                continue
            counts[name] += 1
            if (number, attempt) in told:
                wrong.append(f"{number} ({attempt}): {told[number, attempt]} and {name}")
            told[number, attempt] = name
            if name == "open":
                wrong.append(f"{number} ({attempt}) has no outcome")
            elif name == "accepted" and (number, attempt) not in received:
                wrong.append(f"{number} ({attempt}) was accepted by nobody")
            elif name in {"released", "modified"} and (number, attempt) in received:
                counts[f"{name} and received"] += 1
        wrong += [f"{pair} was received {times} times" for pair, times in received.items() if times > 1]
        wrong += [f"{pair} was received and never sent" for pair in received if pair not in told]
        for number, attempt in received:
            if attempt and told.get((number, attempt - 1)) not in {"released", "modified", "doubt"}:
                wrong.append(f"{number} was sent again after {told.get((number, attempt - 1))}")
        accepted = {number for (number, _), name in told.items() if name == "accepted"}
        counts["messages"] = len({number for number, _ in told})
        counts["never accepted"] = counts["messages"] - len(accepted)
        counts["received"] = sum(received.values())
        counts["received twice"] = len(received) - len({number for number, _ in received})
        if counts["never accepted"] and not counts["rejected"]:
            wrong.append(f"{counts['never accepted']} messages were never accepted")
        return account

    def largest_gap(self, begin: float, end: float) -> float:
        """The longest time without a message that was under way within this span, and began before its end."""
        return max((at - before for before, at in self._gaps() if at > begin and before < end), default=math.inf)

    def largest_gap_from(self, begin: float, end: float) -> float:
        """The same of those that lie within the span whole."""
        return max((at - before for before, at in self._gaps() if before >= begin and at <= end), default=math.inf)

    def _gaps(self) -> Iterator[tuple[float, float]]:
        return itertools.pairwise(self.arrivals)

    def measure(self, events: Iterable[Event]) -> None:
        for event in events:
            event.gap = self.largest_gap(event.gone_at, event.back_at)
            event.gap_after = self.largest_gap_from(event.back_at, event.over_at)

    def text(self) -> str:
        return ", ".join(f"{name} {self.counts[name]}" for name in sorted(self.counts))


# -- scenes ----------------------------------------------------------------------------------------------------------


class Run:
    """One ring and the scenes on it; `findings` is what was worse than allowed."""

    def __init__(
        self, folder: Path, ring: Ring, limits: Limits, rate: float = RATE, calm: float = CALM_SECONDS
    ) -> None:
        self.folder = folder
        self.ring = ring
        self.limits = limits
        self.rate = rate
        self.calm = calm
        # How many routers are hurt in a scene, of those that no client is attached to.
        self.victims = ring.size
        self.findings: list[str] = []
        self.complete_seconds = math.nan
        self.idle_share = math.nan
        self.memory: list[float] = []

    def say(self, text: str) -> None:
        print(text, flush=True)

    def expect(self, good: bool, text: str) -> None:
        self.say(f"  {'ok ' if good else 'BAD'} {text}")
        if not good:
            self.findings.append(text)

    async def play(self, scenes: Iterable[str]) -> None:
        try:
            await self._complete()
            for scene in scenes:
                if scene == "idle":
                    await self._idle()
                elif scene in {"cut", "silent", "orderly", "receiver"}:
                    await self._traffic(scene)
        finally:
            self.ring.stop()
            for fault in self.ring.faults():
                self.expect(False, fault)

    async def _complete(self) -> None:
        ring = self.ring
        reach = Reach(ring.members)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reach.run)
            await ring.start()
            ready_at = time.monotonic()
            with trio.move_on_after(PATIENCE) as patience:
                await reach.complete.wait()
            nursery.cancel_scope.cancel()
        if patience.cancelled_caught:
            missing = [f"{one}>{other}" for one, other in reach.missing()]
            raise AssertionError(f"after {PATIENCE:g} s {len(missing)} pairs do not reach one another: {missing[:20]}")
        last = max(reach.at.values())
        started_at = ring.members[-1].started_at
        self.complete_seconds = last - started_at
        self.say(f"complete: {ring.size} routers, every one reaches every other")
        latest = sorted(reach.at.items(), key=lambda entry: -entry[1])[:3]
        self.say("  the last were " + ", ".join(f"{a} to {b} {at - started_at:.2f} s" for (a, b), at in latest))
        self.expect(
            self.complete_seconds <= self.limits.complete,
            f"{self.complete_seconds:.2f} s after the last start, {max(0.0, last - ready_at):.2f} s after it listened "
            f"(at most {self.limits.complete:g} s)",
        )

    async def _idle(self) -> None:
        ring = self.ring
        ours = [member for member in ring.members if not member.skrouterd] or ring.members
        # What the clients that have just gone leave behind is tidied up first, and the network comes to rest.
        await trio.sleep(10.0)
        before = [member.cpu_seconds() for member in ours]
        begun = time.monotonic()
        await trio.sleep(IDLE_SECONDS)
        seconds = time.monotonic() - begun
        used = [member.cpu_seconds() - cpu for member, cpu in zip(ours, before, strict=True)]
        self.idle_share = sum(used) / seconds
        self.memory = [member.memory() for member in ours]
        self.say(f"idle: {len(ours)} routers, {seconds:.1f} s")
        self.expect(
            self.idle_share <= self.limits.idle_share,
            f"{100 * self.idle_share:.1f} % of a core together (at most {100 * self.limits.idle_share:g} %)",
        )
        self.expect(
            max(self.memory) <= self.limits.memory,
            f"{min(self.memory):.1f} to {max(self.memory):.1f} MiB each (at most {self.limits.memory:g})",
        )

    async def _traffic(self, scene: str) -> None:
        ring = self.ring
        victims = [ring.receiver] if scene == "receiver" else ring.between()[: self.victims]
        traffic = Traffic(self.folder, ring.sender, ring.receiver, self.rate)
        events: list[Event] = []
        try:
            await traffic.flowing()
            calm_from = time.monotonic()
            await trio.sleep(2 * self.calm)
            calm_until = time.monotonic()
            events += [await self._hurt(scene, victim) for victim in victims]
            await traffic.end()
        finally:
            traffic.kill()
        account = Account.of(traffic)
        account.measure(events)
        self.say(f"{scene}: {account.text()}")
        self.say(f"  without harm the largest gap was {account.largest_gap_from(calm_from, calm_until):.3f} s")
        self.expect(not account.wrong, f"every message is accounted for {account.wrong[:5] or ''}")
        for event in events:
            self._judge(scene, event, account)

    async def _hurt(self, scene: str, victim: Member) -> Event:
        """Take one router away and bring it back, then let the ring become whole."""
        since = self.ring.log_ends()
        event = Event(scene, victim.name, time.monotonic())
        if scene == "silent":
            victim.silent = True
            victim.send_signal(signal.SIGSTOP)
            await trio.sleep(self.ring.age + SILENT_SECONDS)
            event.back_at = time.monotonic()
            victim.send_signal(signal.SIGCONT)
            victim.silent = False
        else:
            if scene == "orderly":
                victim.send_signal(signal.SIGTERM)
                await until(victim.ended)
            victim.kill()
            if scene != "receiver":
                await trio.sleep(AWAY_SECONDS)
            event.back_at = time.monotonic()
            victim.start()
            await self.ring.answering(victim)
            await self.ring.whole_again(victim, since)
        await trio.sleep(self.calm)
        event.over_at = time.monotonic()
        return event

    def _judge(self, scene: str, event: Event, account: Account) -> None:
        limit = self.limits.gap
        if scene == "receiver":
            attached = next((at for at in account.attached if at > event.gone_at), math.inf)
            gap = account.largest_gap(event.gone_at, event.over_at)
            way = attached - event.gone_at
            self.expect(
                gap <= way + self.limits.join,
                f"{event.name} killed: gap {gap:.3f} s, of which {way:.3f} s until its client was attached again "
                f"(at most {self.limits.join:g} s more); in doubt: {account.counts['modified']} modified, "
                f"{account.counts['released']} released, {account.counts['received twice']} received twice",
            )
            return
        most = limit + (self.ring.age if scene == "silent" else 0.0)
        self.expect(
            event.gap <= most and event.gap_after <= limit,
            f"{event.name} {scene}: gap {event.gap:.3f} s (at most {most:g}), after its return {event.gap_after:.3f} s "
            f"(at most {limit:g})",
        )


async def play(
    folder: Path,
    scenes: Iterable[str],
    *,
    size: int = 10,
    hello: float = 1.0,
    age: float = 3.0,
    rate: float = RATE,
    calm: float = CALM_SECONDS,
    victims: int | None = None,
    limits: Limits | None = None,
    skrouterd: str | None = None,
    foreign: Container[int] = (),
) -> Run:
    """A ring and the scenes on it; of a router whose index is in `foreign` that `skrouterd` is taken."""
    ring = Ring(folder, size, hello=hello, age=age, skrouterd=skrouterd, foreign=foreign)
    if limits is None:
        limits = Limits.with_skrouterd() if skrouterd else Limits()
    run = Run(folder, ring, limits, rate, calm)
    if victims is not None:
        run.victims = victims
    await run.play(scenes)
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", choices=[*SCENES, []], default=[], metavar="SCENE")
    parser.add_argument("--size", type=int, default=10)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--skrouterd", help="a skrouterd to put into the ring")
    parser.add_argument("--at", type=int, help="which one it is; the sender is at 0, the receiver half way round")
    parser.add_argument("--all", action="store_true", help="nothing but skrouterds")
    parser.add_argument("--keep", type=Path, help="a folder for site files and logs, kept")
    arguments = parser.parse_args()
    scenes = arguments.scenes or SCENES
    at = arguments.size // 2 + 1 if arguments.at is None else arguments.at
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)

        async def run() -> Run:
            return await play(
                folder,
                scenes,
                size=arguments.size,
                rate=arguments.rate,
                skrouterd=arguments.skrouterd,
                foreign=range(arguments.size) if arguments.all else [at],
            )

        findings = trio.run(run).findings
    print(f"{len(findings)} worse than allowed" if findings else "all as it should be")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
