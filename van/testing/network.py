"""What both scales of simulation share: routers that live and die, connections between them, clocks, and faults.

What passes over a connection, and what a router is made of, is left to the classes that build on `VirtualNetwork`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from math import inf
from typing import Any, Final, Generic, TypeVar

from van.testing.topologies import Topology
from van.testing.virtual_time import VirtualTime

# The wall clock at the beginning, in seconds: any time will do, as long as it is the same in every run.
EPOCH: Final = 1_800_000_000
# A connection that carries nothing for so many seconds is given up by its ends, as idle time-outs of 8 s have it.
IDLE_SECONDS: Final = 16.0
# A router that starts tries all its connections at once; they stand after this at most.
FIRST_ATTEMPT: Final = 0.02


class Clock:
    """What a router takes for the time: `offset` seconds ahead, and `rate` times as fast."""

    __slots__ = ("offset", "rate")

    def __init__(self, offset: float = 0.0, rate: float = 1.0) -> None:
        self.offset = offset
        self.rate = rate

    def local(self, now: float) -> float:
        """The router's time at the network's time `now`."""
        return self.offset + self.rate * now

    def universal(self, local: float) -> float:
        """The network's time when the router's is `local`."""
        return (local - self.offset) / self.rate


class Host:
    """What is left of a router while it does not run: name, clock, connections, and the addresses of its applications.

    `addresses` holds treatment and number of senders by hash key, as `VirtualNetwork.advertise` has set them.
    """

    def __init__(self, router: str, clock: Clock) -> None:
        self.id = router
        self.clock = clock
        self.edges: list[Edge] = []
        self.addresses: dict[str, tuple[int, int]] = {}
        self.starts = 0


class End:
    """One router's end of an established connection.

    `number` is the connection's number at that router. `silent`: what is sent to this end vanishes.
    """

    __slots__ = ("arrival", "delay", "edge", "number", "open", "peer", "silent", "state", "station")

    peer: End
    # A `Station`, of the kind that the network has.
    station: Any

    def __init__(self, edge: Edge, station: Any, number: int, delay: float) -> None:
        self.edge = edge
        self.station = station
        self.number = number
        self.delay = delay
        self.open = True
        self.silent = False
        # What the network keeps of this end.
        self.state: Any = None
        # When the last message to this end arrives: a connection keeps the order.
        self.arrival = 0.0


class Edge:
    """Two routers that shall be connected: `connecting` dials, `accepting` listens. `delay` in seconds, one way."""

    def __init__(self, connecting: Host, accepting: Host, cost: int, delay: float) -> None:
        self.connecting = connecting
        self.accepting = accepting
        self.cost = cost
        self.delay = delay
        # False while the connection is cut.
        self.up = True
        # Ids of the routers towards which nothing gets through, though no one is told.
        self.silent: set[str] = set()
        self.ends: tuple[End, End] | None = None
        self.attempt = 0

    def __repr__(self) -> str:
        return f"<{self.connecting.id}-{self.accepting.id} cost {self.cost}>"


class Station:
    """One life of a router, from its start until it is killed."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.id = host.id
        self.clock = host.clock
        self.running = True
        self.started = 0.0
        # Stopped, as by SIGSTOP: what arrives waits.
        self.paused = False
        self.backlog: list[tuple[Any, Any]] = []
        self.ends: dict[int, End] = {}
        # When it will be woken, by the network's clock and by its own.
        self.wake_at = inf
        self.wake_local = inf

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called, by the router's clock."""
        raise NotImplementedError

    def handle_deadline(self, now: float) -> None:
        """Do what time asks for."""
        raise NotImplementedError


S = TypeVar("S", bound=Station)


class VirtualNetwork(VirtualTime, ABC, Generic[S]):
    """Routers and connections on one heap of events.

    delay: seconds from router to router, one way, unless a connection has its own; jitter: each message takes up to
    this share of it longer; loss: the share of messages that get lost; reconnect: a router tries again after so many
    seconds, from and to. offset, drift: how far ahead clocks are, in seconds, and by which share they run too fast or
    too slow, at most.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        delay: float = 0.005,
        jitter: float = 0.5,
        loss: float = 0.0,
        reconnect: tuple[float, float] = (0.02, 0.5),
        offset: float = 0.0,
        drift: float = 0.0,
    ) -> None:
        super().__init__(seed)
        self.delay = delay
        self.jitter = jitter
        self.loss = loss
        self.reconnect = reconnect
        self.offset = offset
        self.drift = drift
        self.hosts: dict[str, Host] = {}
        self.stations: dict[str, S] = {}
        self.edges: list[Edge] = []
        self._connections = 0

    # -- building ------------------------------------------------------------------------------------------------

    def add(self, router: str) -> Host:
        """Add a router, which `start` starts."""
        host = self.hosts.get(router)
        if host is None:
            draw = self.random
            clock = Clock(draw.uniform(0, self.offset), 1 + draw.uniform(-self.drift, self.drift))
            host = self.hosts[router] = Host(router, clock)
        return host

    def connect(self, connecting: str, accepting: str, cost: int = 1, delay: float | None = None) -> Edge:
        """Have two routers connected whenever both run; a second time makes a second connection."""
        edge = Edge(self.add(connecting), self.add(accepting), cost, self.delay if delay is None else delay)
        edge.connecting.edges.append(edge)
        edge.accepting.edges.append(edge)
        self.edges.append(edge)
        self._try(edge)
        return edge

    def build(self, topology: Topology, within: float = 0.0) -> None:
        """Add routers and connections, and start all of them `within` so many seconds."""
        new = [router for ids in topology for router in ids[:2] if router not in self.hosts]
        for connecting, accepting, cost in topology:
            self.connect(connecting, accepting, cost)
        for router in dict.fromkeys(new):
            if within:
                self._push(self.now + self.random.uniform(0, within), self._start, router, None)
            else:
                self.start(router)

    def edge(self, a: str, b: str) -> Edge:
        """The first connection between two routers. Raises `KeyError` when there is none."""
        for edge in self.hosts[a].edges:
            if {a, b} == {edge.connecting.id, edge.accepting.id}:
                return edge
        raise KeyError((a, b))

    # -- routers live and die ------------------------------------------------------------------------------------

    def start(self, router: str) -> None:
        """Start a router, or start it again; nothing if it runs."""
        if router in self.stations:
            return
        host = self.add(router)
        wall = EPOCH + host.clock.local(self.now)
        host.starts += 1
        # As the process does it: within one second the instance is the same, and the sequence goes on from higher.
        station = self._boot(host, int(wall), int(wall % 1 * 1000) * 1_000_000)
        station.started = self.now
        self.stations[router] = station
        self._schedule(station)
        for edge in host.edges:
            self._try(edge)

    def _start(self, router: str, _: None) -> None:
        self.start(router)

    def kill(self, router: str) -> None:
        """End a router at once, without a word; its neighbours see their connections end."""
        station = self.stations.pop(router, None)
        if station is None:
            return
        station.running = False
        station.wake_at = inf
        for edge in station.host.edges:
            self._drop(edge)
        self._halt(station)

    def restart(self, router: str, after: float) -> None:
        """Kill a router and start it again `after` so many seconds."""
        self.kill(router)
        self._push(self.now + after, self._start, router, None)

    def pause(self, router: str) -> None:
        """Stop a router as SIGSTOP does: its connections stay, and what arrives waits."""
        station = self.stations[router]
        station.paused = True
        for edge in station.host.edges:
            if edge.ends is not None:
                self._push(self.now + IDLE_SECONDS, self._idle, edge, edge.ends)

    def resume(self, router: str) -> None:
        """Let a stopped router go on. Nothing if it does not run any more."""
        station = self.stations.get(router)
        if station is None or not station.paused:
            return
        station.paused = False
        backlog, station.backlog = station.backlog, []
        for first, second in backlog:
            first(*second)
        self._schedule(station)

    # -- faults of connections -----------------------------------------------------------------------------------

    def cut(self, edge: Edge) -> None:
        """End a connection, seen by both ends, until it is mended."""
        edge.up = False
        self._drop(edge)

    def silence(self, edge: Edge, towards: str | None = None) -> None:
        """Let nothing through a connection, in both directions or `towards` one router, and tell no one."""
        edge.silent |= {towards} if towards is not None else {edge.connecting.id, edge.accepting.id}
        if edge.ends is not None:
            for end in edge.ends:
                end.silent = end.station.id in edge.silent
            self._push(self.now + IDLE_SECONDS, self._idle, edge, edge.ends)

    def mend(self, edge: Edge) -> None:
        """End what `cut` and `silence` began."""
        edge.up = True
        edge.silent.clear()
        if edge.ends is not None:
            for end in edge.ends:
                end.silent = False
        self._try(edge)

    def mend_all(self) -> None:
        """Mend every connection and let every stopped router go on; the killed stay dead."""
        for edge in self.edges:
            self.mend(edge)
        for router in list(self.stations):
            self.resume(router)

    def between(self, group: Iterable[str]) -> list[Edge]:
        """The connections between these routers and all others."""
        inside = set(group)
        return [edge for edge in self.edges if (edge.connecting.id in inside) != (edge.accepting.id in inside)]

    def part(self, group: Iterable[str], *, silently: bool = False) -> list[Edge]:
        """Part these routers from all others; returns the connections, for `mend`."""
        edges = [edge for edge in self.between(group) if edge.up]
        for edge in edges:
            if silently:
                self.silence(edge)
            else:
                self.cut(edge)
        return edges

    # -- what is true --------------------------------------------------------------------------------------------

    def usable(self, edge: Edge) -> bool:
        """Whether both ends run and nothing keeps them apart."""
        return (
            edge.up
            and not edge.silent
            and edge.connecting.id in self.stations
            and edge.accepting.id in self.stations
        )

    def graph(self) -> dict[str, dict[str, int]]:
        """Who is joined to whom at what cost, of the routers that run: what everybody should know when it is quiet."""
        graph: dict[str, dict[str, int]] = {router: {} for router in self.stations}
        for edge in self.edges:
            if self.usable(edge):
                a, b = edge.connecting.id, edge.accepting.id
                cost = min(edge.cost, graph[a].get(b, edge.cost))
                graph[a][b] = graph[b][a] = cost
        return graph

    def parts(self) -> list[set[str]]:
        """The sets of running routers that reach each other."""
        graph = self.graph()
        left = set(graph)
        parts = []
        while left:
            found = {min(left)}
            new = list(found)
            while new:
                for peer in graph[new.pop()]:
                    if peer not in found:
                        found.add(peer)
                        new.append(peer)
            left -= found
            parts.append(found)
        return parts

    # -- connections come and go ---------------------------------------------------------------------------------

    def _try(self, edge: Edge) -> None:
        if edge.ends is None and self.usable(edge):
            edge.attempt += 1
            at_once = self.stations[edge.connecting.id].started == self.now
            wait = self.random.uniform(*((0.0, FIRST_ATTEMPT) if at_once else self.reconnect))
            self._push(self.now + wait, self._establish, edge, edge.attempt)

    def _establish(self, edge: Edge, attempt: int) -> None:
        if edge.attempt != attempt or edge.ends is not None or not self.usable(edge):
            return
        ends = []
        for host in (edge.connecting, edge.accepting):
            self._connections += 1
            station = self.stations[host.id]
            end = End(edge, station, self._connections, edge.delay)
            station.ends[end.number] = end
            ends.append(end)
        connecting, accepting = ends
        connecting.peer, accepting.peer = accepting, connecting
        edge.ends = (connecting, accepting)
        self._established(connecting, accepting)

    def _drop(self, edge: Edge) -> None:
        edge.attempt += 1
        ends = edge.ends
        if ends is None:
            return
        edge.ends = None
        for end in ends:
            end.open = False
            if end.station.running:
                # An end hears of it when the other's last octet, or its own next one, has come through.
                self._push(self.now + edge.delay * self.random.uniform(0.5, 2), self._hear, end, None)

    def _hear(self, end: End, _: None) -> None:
        station = end.station
        if station.paused:
            station.backlog.append((self._hear, (end, None)))
        elif station.running and station.ends.pop(end.number, None) is not None:
            self._lost(end)

    def _idle(self, edge: Edge, ends: tuple[End, End]) -> None:
        if edge.ends is ends and any(end.silent or end.station.paused for end in ends):
            self._drop(edge)
            self._try(edge)

    # -- time ----------------------------------------------------------------------------------------------------

    def _schedule(self, station: S) -> None:
        """Wake the station when it wants to be woken."""
        local = station.next_deadline()
        if local == inf:
            return
        when = station.clock.universal(local)
        if when < station.wake_at:
            when = max(when, self.now)
            station.wake_at = when
            station.wake_local = local
            self._push(when, self._wake, station, when)

    def _wake(self, station: S, when: float) -> None:
        if station.wake_at != when:
            return
        # Rounding must not make it a moment before the time that was asked for.
        now = max(station.clock.local(when), station.wake_local)
        station.wake_at = station.wake_local = inf
        if station.paused:
            return
        station.handle_deadline(now)
        self._woken(station)
        self._schedule(station)

    # -- left to those who build on this -------------------------------------------------------------------------

    @abstractmethod
    def _boot(self, host: Host, instance: int, sequence: int) -> S:
        """Make a router: one life of it."""

    @abstractmethod
    def _halt(self, station: S) -> None:
        """The router is gone; its connections are dropped already."""

    @abstractmethod
    def _established(self, connecting: End, accepting: End) -> None:
        """The connection is there."""

    @abstractmethod
    def _lost(self, end: End) -> None:
        """This end has heard that the connection is over."""

    def _woken(self, station: S) -> None:
        """The router has done what time asked for."""
