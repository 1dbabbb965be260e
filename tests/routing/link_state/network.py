"""Engines wired back to back, with a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import pairwise
from math import inf

from van.routing.dialect.control import decode_control
from van.routing.link_state.engine import LinkStateEngine, LinkStateOwner, Timers
from van.routing.link_state.messages import Control, ControlMessage, MobileAddress

DELAY = 0.001


class Station(LinkStateOwner):
    """A router that is nothing but its engine; it remembers what it was told."""

    def __init__(
        self, net: Net, router_id: str, *, instance: int = 1, sequence: int = 0, timers: Timers | None = None
    ) -> None:
        self.net = net
        self.id = router_id
        self.engine = LinkStateEngine(
            router_id, self, instance=instance, sequence=sequence, timers=timers, now=net.now
        )
        self.wires: dict[int, Wire] = {}
        self.addresses: dict[str, dict[str, MobileAddress]] = {}
        self.calls: list[tuple[str, int, int]] = []
        self.logged: list[tuple[str, str, dict[str, object]]] = []
        self.sent: list[tuple[float, int, ControlMessage]] = []
        self.alive = True
        self.paused = False

    def send_control(self, neighbor: int, message: ControlMessage) -> None:
        self.sent.append((self.net.now, neighbor, message))
        self.net.carry(self, neighbor, message)

    def routes_changed(self) -> None:
        pass

    def addresses_changed(self, router_id: str, added: list[MobileAddress], removed: list[str]) -> None:
        self.calls.append((router_id, len(added), len(removed)))
        known = self.addresses.setdefault(router_id, {})
        for key in removed:
            del known[key]
        for address in added:
            known[address.key] = address
        if not known:
            del self.addresses[router_id]

    def log(self, level: str, event: str, **fields: object) -> None:
        self.logged.append((level, event, fields))

    def events(self, level: str) -> list[str]:
        return [event for logged, event, _ in self.logged if logged == level]

    def reachable(self) -> list[str]:
        return sorted(node.id for node in self.engine.nodes.values() if node.reachable)

    def keys_of(self, router_id: str) -> list[str]:
        return sorted(self.addresses.get(router_id, {}))

    def messages(self, kind: type[Control], since: float = 0.0) -> list[ControlMessage]:
        return [
            message
            for when, _, message in self.sent
            if when >= since and isinstance(decode_control(message.body), kind)
        ]


class Wire:
    """One connection; `up` until it is cut, and `loss` says of each message whether it gets lost."""

    def __init__(self, ends: tuple[tuple[Station, int], tuple[Station, int]], delay: float) -> None:
        self.ends = ends
        self.delay = delay
        self.up = True
        self.loss: Callable[[Station, ControlMessage], bool] = lambda _, __: False

    def other(self, station: Station) -> tuple[Station, int]:
        return self.ends[1] if self.ends[0][0] is station else self.ends[0]


class Net:
    """The heap of what happens; messages on one wire keep their order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stations: dict[str, Station] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0

    def add(
        self, router_id: str, *, instance: int = 1, sequence: int = 0, timers: Timers | None = None
    ) -> Station:
        station = self.stations[router_id] = Station(
            self, router_id, instance=instance, sequence=sequence, timers=timers
        )
        return station

    def line(self, *ids: str) -> list[Station]:
        stations = [self.add(router_id) for router_id in ids]
        for left, right in pairwise(stations):
            self.join(left, right)
        return stations

    def ring(self, count: int) -> list[Station]:
        stations = self.line(*(f"R{number}" for number in range(count)))
        self.join(stations[-1], stations[0])
        return stations

    def join(self, left: Station, right: Station, cost: int = 1, delay: float = DELAY) -> Wire:
        self._numbers += 2
        wire = Wire(((left, self._numbers), (right, self._numbers + 1)), delay)
        for station, number in wire.ends:
            station.wires[number] = wire
            station.engine.neighbor_up(number, wire.other(station)[0].id, cost, self.now)
        return wire

    def cut(self, wire: Wire) -> None:
        wire.up = False
        for station, number in wire.ends:
            if station.wires.pop(number, None) is not None and station.alive:
                station.engine.neighbor_down(number, self.now)

    def kill(self, station: Station) -> None:
        station.alive = False
        for wire in list(station.wires.values()):
            self.cut(wire)
        del self.stations[station.id]

    def carry(self, sender: Station, number: int, message: ControlMessage) -> None:
        wire = sender.wires.get(number)
        if wire is None or not wire.up or wire.loss(sender, message):
            return
        receiver, at = wire.other(sender)

        def arrive() -> None:
            if wire.up and receiver.alive and not receiver.paused:
                receiver.engine.receive(at, message, self.now)

        self.at(self.now + wire.delay, arrive)

    def at(self, when: float, call: Callable[[], None]) -> None:
        self._numbers += 1
        heappush(self._heap, (when, self._numbers, call))

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        while True:
            deadline, due = inf, None
            for station in self.stations.values():
                wanted = station.engine.next_deadline()
                if wanted < deadline and not station.paused:
                    deadline, due = wanted, station
            event = self._heap[0][0] if self._heap else inf
            if min(deadline, event) > end:
                break
            if event <= deadline:
                when, _, call = heappop(self._heap)
                self.now = max(self.now, when)
                call()
            else:
                assert due is not None
                self.now = max(self.now, deadline)
                due.engine.handle_deadline(self.now)
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit: float) -> float:
        """Let time pass until something is so; return how long it took."""
        start = self.now
        while not condition():
            assert self.now - start < limit, f"not within {limit} s"
            self.run(0.005)
        return self.now - start
