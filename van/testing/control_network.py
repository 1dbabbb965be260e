"""Networks of link state engines by message: control messages are handed on as they are, without connections' octets.

So a thousand routers fit into one process. What a router's core does with its engine is done here by `EngineStation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from van.routing.link_state.engine import LinkStateEngine, LinkStateOwner, Timers
from van.routing.link_state.messages import ControlMessage, MobileAddress
from van.routing.link_state.spf import TreeCache
from van.testing.network import End, Host, Station, VirtualNetwork
from van.testing.virtual_time import Event

BALANCED: Final = 3
MAX_LOG_LINES: Final = 1000
# A message that passes more routers than this goes in a circle.
MAX_HOPS: Final = 1000
# Large networks: half a millisecond of events happens router by router, in the order of time at each of them. No
# message is on its way for less, so nobody can tell, and the memory of one router is walked through at a time.
ROUGH_BOXES: Final = 2000
# Messages to all routers are copied by every router on the way.
FLOODS: Final = ("amqp:/_topo/0/all/", "_topo/0/all/")


class EngineStation(Station):
    """One life of a router that is its link state engine alone.

    `addresses` is what the engine has told its owner of other routers' addresses, by router and key; `log` is what it
    logged, with the time, the last thousand lines.
    """

    engine: LinkStateEngine

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.instance = 0
        self.addresses: dict[str, dict[str, MobileAddress]] = {}
        self.routes_changed = 0
        self.log: list[tuple[float, str, str, dict[str, object]]] = []

    def next_deadline(self) -> float:
        return self.engine.next_deadline()

    def handle_deadline(self, now: float) -> None:
        self.engine.handle_deadline(now)


class _Owner(LinkStateOwner):
    """What the engine calls: sends go to the network, news to the station."""

    def __init__(self, network: ControlNetwork, station: EngineStation) -> None:
        self.network = network
        self.station = station

    def send_control(self, neighbor: int, message: ControlMessage) -> None:
        end = self.station.ends.get(neighbor)
        if end is not None:
            self.network.send(end.peer, message)

    def routes_changed(self) -> None:
        self.station.routes_changed += 1

    def addresses_changed(self, router_id: str, added: list[MobileAddress], removed: list[str]) -> None:
        known = self.station.addresses.setdefault(router_id, {})
        for key in removed:
            del known[key]
        for address in added:
            known[address.key] = address
        if not known:
            del self.station.addresses[router_id]

    def log(self, level: str, event: str, **fields: object) -> None:
        log = self.station.log
        if len(log) >= MAX_LOG_LINES:
            del log[0]
        log.append((self.network.now, level, event, fields))


class ControlNetwork(VirtualNetwork[EngineStation]):
    """Link state engines that talk to each other.

    With `whole_paths` a message to one router is one event, with the delay of its whole path, wherever the routers on
    the path would have sent it at that moment; otherwise it goes from engine to engine, as floods always do. The trees
    of paths of equal graphs are computed once for all engines then, and connections take half a millisecond at least.
    `control_messages` counts what was sent from router to router, every hop; `control_octets` their bodies; `lost` what
    got lost of them. The other parameters are `VirtualNetwork`'s.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        timers: Timers | None = None,
        whole_paths: bool = False,
        engine: type[LinkStateEngine] = LinkStateEngine,
        delay: float = 0.005,
        jitter: float = 0.5,
        loss: float = 0.0,
        reconnect: tuple[float, float] = (0.02, 0.5),
        offset: float = 0.0,
        drift: float = 0.0,
    ) -> None:
        super().__init__(
            seed, delay=delay, jitter=jitter, loss=loss, reconnect=reconnect, offset=offset, drift=drift
        )
        self.timers = timers
        self.whole_paths = whole_paths
        if whole_paths:
            self._boxes_a_second = ROUGH_BOXES
            self._order = _by_router
        self.trees = TreeCache() if whole_paths else None
        self.engine = engine
        self.control_messages = 0
        self.control_octets = 0
        self.lost = 0
        self._draw = self.random.random
        self._destinations: dict[str, str] = {}

    # -- addresses -----------------------------------------------------------------------------------------------

    def advertise(self, router: str, key: str, treatment: int = BALANCED, in_links: int = 0) -> None:
        """Have the router `router` advertise the address with this hash key, now and after every start."""
        self.add(router).addresses[key] = (treatment, in_links)
        station = self.stations.get(router)
        if station is not None:
            station.engine.advertise(key, treatment, in_links)
            self._schedule(station)

    def withdraw(self, router: str, key: str) -> None:
        """The opposite of `advertise`."""
        del self.add(router).addresses[key]
        station = self.stations.get(router)
        if station is not None:
            station.engine.withdraw(key)
            self._schedule(station)

    # -- messages ------------------------------------------------------------------------------------------------

    def send(self, end: End, message: ControlMessage) -> None:
        """Send a message to the router at this end."""
        if self.whole_paths:
            destination = self._destinations.get(message.to)
            if destination is None:
                destination = self._destination(message.to)
            if destination:
                self._send_whole_path(end, message, destination)
                return
        self.control_messages += 1
        self.control_octets += len(message.body)
        draw = self._draw
        if end.silent or not end.open or (self.loss and draw() < self.loss):
            self.lost += 1
            return
        when = self.now + end.delay * (1 + self.jitter * draw())
        if when < end.arrival:  # noqa: PLR1730 - a call for each of millions of messages costs more
            when = end.arrival
        end.arrival = when
        self._push(when, self._arrive, end, message)

    def _destination(self, to: str) -> str:
        """The one router that a message is for; empty when it is for all, or for the neighbour."""
        destination = "" if to.startswith(FLOODS) else to.partition("_topo/0/")[2].partition("/")[0]
        self._destinations[to] = destination
        return destination

    def _send_whole_path(self, end: End, message: ControlMessage, destination: str) -> None:
        """Find the way that the routers of this moment would send it, and let it arrive at the end of that."""
        delay = 0.0
        passed: list[str] = []
        while True:
            self.control_messages += 1
            self.control_octets += len(message.body)
            station = end.station
            if end.silent or not end.open or station.paused or (self.loss and self.random.random() < self.loss):
                self.lost += 1
                return
            delay += end.delay * (1 + self.jitter * self.random.random())
            if station.id == destination:
                break
            number = station.engine.connection_of(destination)
            way = station.ends.get(number)
            if way is None or len(passed) > MAX_HOPS or f"0/{station.id}" in passed:
                return
            passed.append(f"0/{station.id}")
            end = way.peer
        if passed:
            message = ControlMessage(message.to, message.ingress, (*message.trace, *passed), message.body)
        self._push(self.now + delay, self._arrive, end, message)

    def _arrive(self, end: End, message: ControlMessage) -> None:
        station = end.station
        if not end.open or not station.running:
            return
        if station.paused:
            station.backlog.append((self._arrive, (end, message)))
            return
        engine = station.engine
        clock = station.clock
        engine.receive(end.number, message, clock.offset + clock.rate * self.now)
        if engine.next_deadline() < station.wake_local:
            self._schedule(station)

    # -- what is true, and what the engines take for true --------------------------------------------------------

    def differences(self, limit: int = 20, *, forgotten: bool = False) -> list[str]:
        """What the engines know that is not so, or do not know: empty when all of them have converged.

        Looked at are the set of reachable routers, their connections and costs, their instances and sequence numbers,
        and their addresses, as the engine has them and as it has told its owner. With `forgotten` nobody may know
        anything of routers that cannot be reached. Ends after `limit` differences.
        """
        found: list[str] = []
        graph = self.graph()
        for part in self.parts():
            expected = {
                router: dict.fromkeys(self.hosts[router].addresses, 0)
                for router in part
            }
            for router in sorted(part):
                for difference in self._of_one(self.stations[router], part, graph, expected, forgotten):
                    found.append(f"{router}: {difference}")
                    if len(found) >= limit:
                        return found
        return found

    def converged(self) -> bool:
        """Whether all engines know what is so."""
        return not self.differences(1)

    def _of_one(
        self,
        station: EngineStation,
        part: set[str],
        graph: dict[str, dict[str, int]],
        expected: dict[str, dict[str, int]],
        forgotten: bool,
    ) -> Iterator[str]:
        nodes = station.engine.nodes
        for router in part:
            if router == station.id:
                continue
            node = nodes.get(router)
            if node is None:
                yield f"does not know {router}"
                continue
            if not node.reachable:
                yield f"takes {router} for unreachable"
            if node.peers != graph[router]:
                yield f"takes the peers of {router} for {node.peers} instead of {graph[router]}"
            other = self.stations[router]
            if node.instance != other.instance:
                yield f"takes the instance of {router} for {node.instance} instead of {other.instance}"
            if node.link_state_sequence != other.engine.link_state_sequence:
                current = other.engine.link_state_sequence
                yield f"has link state {node.link_state_sequence} of {router} instead of {current}"
            if node.mobile_sequence != other.engine.mobile_sequence:
                yield f"has addresses {node.mobile_sequence} of {router} instead of {other.engine.mobile_sequence}"
            known = node.addresses
            if len(known) != len(expected[router]) or known.keys() != expected[router].keys():
                yield f"has of {router} the addresses {_short(known)} instead of {_short(expected[router])}"
            if station.addresses.get(router, _NOTHING).keys() != expected[router].keys():
                told = station.addresses.get(router, _NOTHING)
                yield f"was told of {router} the addresses {_short(told)} instead of {_short(expected[router])}"
        if len(nodes) >= len(part):
            for router, node in nodes.items():
                if router == station.id:
                    yield "knows itself as another router"
                elif router not in part and (node.reachable or forgotten):
                    yield f"takes {router} for reachable" if node.reachable else f"still knows {router}"
        for router in station.addresses.keys() - part:
            yield f"was told of addresses of {router}, which cannot be reached"

    # -- what VirtualNetwork asks for ----------------------------------------------------------------------------

    def _boot(self, host: Host, instance: int, sequence: int) -> EngineStation:
        station = EngineStation(host)
        station.instance = instance
        now = host.clock.local(self.now)
        station.engine = self.engine(
            host.id,
            _Owner(self, station),
            instance=instance,
            sequence=sequence,
            timers=self.timers,
            now=now,
            trees=self.trees,
        )
        for key, (treatment, in_links) in host.addresses.items():
            station.engine.advertise(key, treatment, in_links)
        return station

    def _halt(self, station: EngineStation) -> None:
        pass

    def _established(self, connecting: End, accepting: End) -> None:
        for end in (connecting, accepting):
            # Each end has its links when the other's answers are there; messages may come before that.
            self._push(self.now + end.delay * self.random.uniform(0, 2), self._up, end, None)

    def _up(self, end: End, _: None) -> None:
        station = end.station
        if station.paused:
            station.backlog.append((self._up, (end, None)))
        elif end.open and station.running:
            end.state = True
            station.engine.neighbor_up(end.number, end.peer.station.id, end.edge.cost, station.clock.local(self.now))
            self._schedule(station)

    def _lost(self, end: End) -> None:
        station = end.station
        if end.state:
            station.engine.neighbor_down(end.number, station.clock.local(self.now))
            self._schedule(station)


def _by_router(event: Event) -> tuple[str, float, int]:
    end = event[3]
    return (end.station.id if type(end) is End else "", event[0], event[1])


_NOTHING: Final[dict[str, MobileAddress]] = {}


def _short(keys: Iterable[str], most: int = 8) -> str:
    listed = sorted(keys)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more if listed else "none"
