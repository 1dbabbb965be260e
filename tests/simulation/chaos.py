"""A network of link state engines, everything done to it that may happen to one, and what must hold when it is quiet.

Everything is drawn from one seed: the graph, costs, delays, clocks, addresses, and when which router is restarted,
which connection is cut or falls silent in one direction or both, how the network is parted. Then the faults end, though
some routers stay dead and some connections cut, and everybody has to know exactly what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from time import perf_counter

from tests.simulation.oracle import wrong_origins, wrong_paths
from van.testing import ControlNetwork, Edge, Topology, grid, random_network, random_regular, ring
from van.testing.topologies import names
from van.testing.virtual_time import NeverQuietError

# How long after the last fault everybody must know what is so, in seconds. What a lost message held is announced again
# by the next advertisement, after 30 s by a router's own clock.
QUIET_LIMIT = 45.0
# After so long nobody remembers the dead: link states are forgotten 60 s after the last advertisement.
FORGOTTEN_AFTER = 75.0
# How long after the last link state its paths are computed at most, in seconds: engines hold that down.
COMPUTED_WITHIN = 1.0
TREATMENTS = (1, 2, 3)


@dataclass
class Outcome:
    """What became of one seed."""

    seed: int
    routers: int
    failures: list[str] = field(default_factory=list)
    faults: int = 0
    converged_after: float | None = None
    simulated: float = 0.0
    control_messages: int = 0
    events: int = 0
    real_seconds: float = 0.0
    # What the command that repeats it has beside size and seed.
    options: str = ""

    @property
    def command(self) -> str:
        return f"python -m tests.simulation.run --routers {self.routers} --seed {self.seed}{self.options}"


class Chaos:
    """One seed's network, and what happens to it."""

    def __init__(self, seed: int, routers: int, *, loss: float = 0.07, seconds: float = 30.0, faults: int = 40) -> None:
        self.random = Random(f"chaos {seed}")
        self.seconds = seconds
        self.faults = faults
        self.network = ControlNetwork(
            seed, loss=loss, offset=100_000.0, drift=0.005, jitter=self.random.choice((0.0, 0.5, 3.0)),
            whole_paths=routers > 300,
        )  # fmt: skip
        self.routers = routers
        self.loss = loss
        self.quiet = False
        self.happened: list[str] = []
        self.build(routers)

    # -- the network ---------------------------------------------------------------------------------------------

    def topology(self, routers: int) -> Topology:
        draw = self.random
        costs = draw.choice(((1,), (1, 2), (1, 2, 5, 10)))
        kind = draw.randrange(4)
        if kind == 0:
            return random_regular(routers, 4, draw, costs)
        if kind == 1:
            chords = {tuple(sorted(draw.sample(names(routers), 2))) for _ in range(routers // 5)}
            return ring(routers) + [(a, b, draw.choice(costs)) for a, b in sorted(chords)]
        if kind == 2 and routers % 5 == 0 and routers <= 100:
            return grid(5, routers // 5)
        return random_network(routers, draw.uniform(2.2, 5), draw, costs)

    def build(self, routers: int) -> None:
        draw, network = self.random, self.network
        topology = self.topology(routers)
        ids = sorted({router for ends in topology for router in ends[:2]})
        # Some pairs have two connections, the second perhaps the cheaper one.
        topology += [(a, b, draw.choice((1, 2, 5))) for a, b, _ in draw.sample(topology, max(1, len(topology) // 20))]
        for number in range(routers // 2):
            network.advertise(draw.choice(ids), f"Mq.{draw.randrange(routers)}", draw.choice(TREATMENTS))
            network.advertise(draw.choice(ids), f"HE{number}")
        network.build(topology, within=draw.choice((0.0, 0.3, 3.0)))
        for edge in network.edges:
            edge.delay = draw.choice((0.0005, 0.005, 0.04)) * draw.uniform(0.5, 1.5)

    # -- faults --------------------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Lay all faults on the heap."""
        kinds: list[tuple[Callable[[], str], int]] = [
            (self.restart_at_once, 6),
            (self.stay_away, 3),
            (self.cut, 4),
            (self.silence, 3),
            (self.silence_one_way, 3),
            (self.part, 2),
            (self.stop, 2),
            (self.lose_much, 1),
            (self.new_address, 8),
            (self.no_more_address, 4),
        ]
        draw = self.random
        for _ in range(self.faults):
            (fault,) = draw.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
            self.network.at(draw.uniform(0, self.seconds), lambda fault=fault: self.happen(fault))  # type: ignore[misc]

    def happen(self, fault: Callable[[], str]) -> None:
        if not self.quiet:
            self.happened.append(f"{self.network.now:8.3f} {fault.__name__} {fault()}")

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after a while, unless it is quiet by then: what is broken stays so."""

        def act() -> None:
            if not self.quiet:
                action()

        self.network.after(seconds, act)

    def return_later(self, router: str, seconds: float) -> str:
        self.network.kill(router)
        self.later(seconds, lambda: self.network.start(router))
        return f"{router} back after {seconds:.3f} s"

    def some_edge(self) -> Edge:
        return self.random.choice(self.network.edges)

    def some_router(self) -> str:
        return self.random.choice(sorted(self.network.hosts))

    def a_while(self) -> float:
        return self.random.choice((0.1, 1.0, 4.0, 10.0, 1000.0)) * self.random.uniform(0.5, 1.5)

    def restart_at_once(self) -> str:
        return self.return_later(self.some_router(), self.random.choice((0.0, 0.01, 0.1, 0.5, 0.9)))

    def stay_away(self) -> str:
        return self.return_later(self.some_router(), self.a_while())

    def cut(self) -> str:
        edge = self.some_edge()
        self.network.cut(edge)
        return self.mend_later([edge])

    def silence(self) -> str:
        edge = self.some_edge()
        self.network.silence(edge)
        return self.mend_later([edge])

    def silence_one_way(self) -> str:
        edge = self.some_edge()
        towards = self.random.choice((edge.connecting, edge.accepting)).id
        self.network.silence(edge, towards)
        return self.mend_later([edge]) + f" towards {towards}"

    def mend_later(self, edges: list[Edge]) -> str:
        after = self.a_while()

        def mend() -> None:
            for edge in edges:
                self.network.mend(edge)

        self.later(after, mend)
        return f"{edges[:4]} mended after {after:.3f} s"

    def part(self) -> str:
        ids = sorted(self.network.hosts)
        start = self.random.choice(ids)
        # One side: a router and its surroundings.
        group = {start}
        wanted = self.random.randrange(1, len(ids) // 2 + 1)
        border = [start]
        while border and len(group) < wanted:
            host = self.network.hosts[border.pop(self.random.randrange(len(border)))]
            for edge in host.edges:
                other = edge.accepting.id if edge.connecting is host else edge.connecting.id
                if other not in group:
                    group.add(other)
                    border.append(other)
        edges = self.network.part(sorted(group), silently=self.random.random() < 0.3)
        return f"{len(group)} routers around {start}: " + self.mend_later(edges)

    def stop(self) -> str:
        network = self.network
        router = self.random.choice(sorted(network.stations) or sorted(network.hosts))
        if router in network.stations:
            network.pause(router)
            after = self.random.choice((0.2, 2.0, 5.0, 20.0))
            self.later(after, lambda: network.resume(router))
            return f"{router} goes on after {after} s"
        return router

    def lose_much(self) -> str:
        def as_before() -> None:
            self.network.loss = self.loss

        self.network.loss = 0.4
        self.later(3.0, as_before)
        return "40 % for 3 s"

    def new_address(self) -> str:
        router = self.some_router()
        key = f"Mq.{self.random.randrange(len(self.network.hosts))}"
        self.network.advertise(router, key, self.random.choice(TREATMENTS))
        return f"{key} at {router}"

    def no_more_address(self) -> str:
        hosts = [host for _, host in sorted(self.network.hosts.items()) if host.addresses]
        if not hosts:
            return ""
        host = self.random.choice(hosts)
        key = self.random.choice(sorted(host.addresses))
        self.network.withdraw(host.id, key)
        return f"{key} at {host.id}"

    # -- quiet ---------------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """End all faults, and mend most of what is broken."""
        self.quiet = True
        network = self.network
        network.loss = 0.0
        for router in sorted(network.stations):
            network.resume(router)
        for edge in network.edges:
            if self.random.random() < 0.7:
                network.mend(edge)
        for router in sorted(network.hosts):
            if self.random.random() < 0.7:
                network.start(router)
        # Some die now, and with them what only they connected.
        for router in self.random.sample(sorted(network.hosts), self.random.randrange(max(2, self.routers // 10))):
            network.kill(router)

    def judge(self) -> list[str]:
        """What does not hold."""
        network = self.network
        few = 3 if len(network.hosts) > 30 else None
        wrong = network.differences() + wrong_paths(network)[:20]
        if len(network.hosts) <= 100:
            wrong += wrong_origins(network, few, self.random)[:20]
        return wrong

    def run(self) -> Outcome:
        """Let everything happen; return what became of it."""
        network = self.network
        outcome = Outcome(network.seed, self.routers)
        begin = perf_counter()
        try:
            self.plan()
            network.run_to(self.seconds)
            self.calm()
            try:
                outcome.converged_after = network.run_until(network.converged, QUIET_LIMIT, 0.5)
            except NeverQuietError:
                outcome.failures += [f"not converged after {QUIET_LIMIT} s", *network.differences()]
            else:
                network.run(COMPUTED_WITHIN)
                outcome.failures += self.judge()
                network.run(FORGOTTEN_AFTER - COMPUTED_WITHIN - outcome.converged_after)
                outcome.failures += network.differences(forgotten=True)
        except Exception as error:
            error.add_note(f"{outcome.command}, at {network.now:.6f} s")
            raise
        outcome.faults = len(self.happened)
        outcome.simulated = network.now
        outcome.control_messages = network.control_messages
        outcome.events = network.events
        outcome.real_seconds = perf_counter() - begin
        return outcome
