"""The link state engine of one router: it hears control messages, tells its owner what follows, and says what it knows.

No I/O, no clock, no randomness: `now` comes in, messages go out through the owner, `next_deadline` says when to call
`handle_deadline`. The protocol and its timers are skupper-router's; where this engine is faster (HELLO and updates at
once, paths after a moment instead of a second, floods passed on once) its neighbours of that family do not notice.
docs/link-state.md has the whole on one page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import inf
from typing import Final

from van.amqp.errors import DecodeError
from van.amqp.native import mypyc_attr
from van.routing.dialect.control import (
    ALL_MOBILE,
    ALL_ROUTERS,
    HELLO_ADDRESS,
    decode_control,
    encode_control,
    router_address,
    router_mobile_address,
)
from van.routing.link_state import mobile, spf
from van.routing.link_state.database import LinkStateDatabase, Node
from van.routing.link_state.messages import (
    AREA,
    Control,
    ControlMessage,
    Hello,
    LinkStateRequest,
    LinkStateUpdate,
    MobileAddress,
    MobileAddressRequest,
    MobileAddressUpdate,
    RouterAdvertisement,
    digest_of,
)
from van.routing.link_state.neighbors import Neighbor, NeighborTable

# A flood is passed on at its first arrival; for this long at most, in seconds, and half of it at least, its other
# copies are known. A network whose copies are later than that passes them on again, which costs and does no harm.
DUPLICATE_WINDOW: Final = 1.0
# So many floods are remembered: those of a network of a thousand routers that all start in the same second, several
# times over. Beyond, the oldest are forgotten and may be passed on again.
MAX_REMEMBERED_FLOODS: Final = 1 << 14
# A message that has passed more routers than this goes in a circle. (The peers take the radius and one; ours is not
# known before the network is, and nothing of ours goes in circles: a router that finds itself in a trace drops it.)
MAX_TRACE: Final = 1024
# Addresses of control messages whose meaning is remembered.
MAX_TARGETS = 1 << 15
# Things that are logged once.
MAX_TOLD: Final = 1024
# Requests are looked through this seldom, in seconds, so that a thousand of them do not cost a look each.
ASK_GRAIN: Final = 0.05
# Updates of one router that may wait for their slices; what comes then is asked for again.
MAX_TASKS: Final = 32
# Changes of addresses wait so long, in seconds, behind the first news of a router's life. skrouterd takes them on
# another thread than that news: what comes with it is undone by it, and is not asked for again.
NEW_LIFE_SETTLES: Final = 0.05
# So many of them wait; those beyond are dropped, and asked for by whoever needs them.
MAX_HELD = 1024
# Link states that are passed on to a new neighbour in one go: about 2 ms.
SYNC_SLICE: Final = 64

# What an address of a control message means.
_TO_NEIGHBOR: Final = 0
_TO_ALL: Final = 1
_TO_ALL_MOBILE: Final = 2
_TO_US: Final = 3
_TO_OTHER: Final = 4
_TO_NOBODY: Final = 5


class Timers:
    """All times of the protocol, in seconds. The first five are the peers', with their defaults.

    hello_interval, hello_max_age: how often HELLO is sent, and after which silence a neighbour is given up.
    ra_interval, ra_interval_flux: how often RA is sent when nothing changes, and within two such intervals of a change.
    remote_ls_max_age: after this without an advertisement, a router's link state is worth nothing.
    hold_down: between two computations of the paths there is at least this, ten times as much among a thousand routers.
    gather: the first change after quiet waits this long for those that come with it, a new neighbour of ours
    join_gather: whoever starts gets several, one soon after the other. own_hold: between two updates of
    our link state there is at least this, join_hold: when it only has more neighbours. mobile_hold, mobile_interval: a
    change of our addresses waits this long for others, and between two updates there is at least this. ask_delay,
    ask_interval: what should come by itself is asked for after the one, and asked again after the other.
    announce_patience: our first update of addresses waits until the network is quiet, but not longer than this.
    """

    __slots__ = (
        "announce_patience",
        "ask_delay",
        "ask_interval",
        "gather",
        "hello_interval",
        "hello_max_age",
        "hold_down",
        "join_gather",
        "join_hold",
        "mobile_hold",
        "mobile_interval",
        "own_hold",
        "ra_interval",
        "ra_interval_flux",
        "remote_ls_max_age",
    )

    def __init__(
        self,
        hello_interval: float = 1.0,
        hello_max_age: float = 3.0,
        ra_interval: float = 30.0,
        ra_interval_flux: float = 4.0,
        remote_ls_max_age: float = 60.0,
        hold_down: float = 0.05,
        gather: float = 0.01,
        own_hold: float = 0.05,
        join_gather: float = 0.05,
        join_hold: float = 0.1,
        mobile_hold: float = 0.02,
        mobile_interval: float = 0.25,
        ask_delay: float = 0.1,
        ask_interval: float = 1.0,
        announce_patience: float = 1.0,
    ) -> None:
        self.hello_interval = hello_interval
        self.hello_max_age = hello_max_age
        self.ra_interval = ra_interval
        self.ra_interval_flux = ra_interval_flux
        self.remote_ls_max_age = remote_ls_max_age
        self.hold_down = hold_down
        self.gather = gather
        self.own_hold = own_hold
        self.join_gather = join_gather
        self.join_hold = join_hold
        self.mobile_hold = mobile_hold
        self.mobile_interval = mobile_interval
        self.ask_delay = ask_delay
        self.ask_interval = ask_interval
        self.announce_patience = announce_patience


@mypyc_attr(allow_interpreted_subclasses=True)
class LinkStateOwner:
    """What the engine's owner does for it. All calls come from inside the engine's methods."""

    def send_control(self, neighbor: int, message: ControlMessage) -> None:
        """Send a message on the control link of this connection."""
        raise NotImplementedError

    def routes_changed(self) -> None:
        """The paths have been computed anew: nodes, next hops, costs or valid origins may be others."""
        raise NotImplementedError

    def addresses_changed(self, router_id: str, added: list[MobileAddress], removed: list[str]) -> None:
        """Addresses of a router that can be reached. When it cannot any more, all its addresses are removed."""
        raise NotImplementedError

    def log(self, level: str, event: str, **fields: object) -> None:
        """Something to be logged; `level` is debug, info, warning, error or critical."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class LinkStateEngine:
    """One router's part in the link state protocol.

    instance: the second in which it started. sequence: where its sequence numbers begin; a router that is started
    again within the same second must begin with a higher one. trees: shared by the engines of a simulation.
    `nodes` are all other routers, `version` is another number whenever the paths are others, `radius` is how many links
    away the furthest router is. `duplicates` counts copies of floods that went no further.
    """

    def __init__(
        self,
        router_id: str,
        owner: LinkStateOwner,
        *,
        instance: int,
        sequence: int = 0,
        timers: Timers | None = None,
        now: float = 0.0,
        trees: spf.TreeCache | None = None,
    ) -> None:
        self.id = router_id
        self.owner = owner
        self.instance = instance
        self.timers = timers if timers is not None else Timers()
        self.version = 0
        self.radius = 0
        self.duplicates = 0
        self.link_state_sequence = sequence
        self.database = LinkStateDatabase(self.timers.remote_ls_max_age, self.timers.hello_max_age)
        self.nodes = self.database.nodes
        self.neighbors = NeighborTable(self.timers.hello_max_age)
        self.own_addresses = mobile.OwnAddresses(router_id, sequence)
        self.last_topology_change = -inf
        self._node_id = "0/" + router_id
        self._trace = (self._node_id,)
        self._now = now
        self._next = inf

        # Paths.
        self._tree = spf.Tree(router_id, [router_id], {}, {router_id: 0})
        self._topology = spf.Topology({}, router_id)
        self._origins: dict[str, set[str]] = {}
        self._branches: dict[str, tuple[Neighbor, ...]] = {}
        self._computed_digest: object = None
        self._trees = trees
        self._graph_digest = 0

        # When what is to be done.
        self._hello_at = inf
        self._introduce_at = inf
        self._originate_at = inf
        self._originated_at = -inf
        self._advertise_at = inf
        self._advertised_at = -inf
        self._advertised: tuple[int, int] | None = None
        self._compute_at = inf
        self._computed_at = -inf
        self._announce_at = inf
        self._announced_at = -inf
        self._announce_from = -inf
        self._announce_until = inf
        self._announce_wanted = False
        self._ask_at = inf
        self._asking: dict[str, Node] = {}

        self._hello_seen: tuple[str, ...] | None = None
        self._hello = ControlMessage(HELLO_ADDRESS, self._node_id, self._trace, b"")
        self._floods: set[int] = set()
        self._floods_before: set[int] = set()
        self._floods_until = -inf
        self._targets: dict[str, tuple[int, str]] = {}
        self._told: set[tuple[str, str]] = set()
        self._unsynced: dict[int, None] = {}
        self._busy: deque[Node] = deque()
        self._syncs: deque[Iterator[None]] = deque()
        self._held: list[tuple[float, ControlMessage, Control]] = []

    # -- what the owner says ---------------------------------------------------------------------------------------

    def neighbor_up(self, neighbor: int, router_id: str, cost: int, now: float) -> None:
        """The control links of the connection `neighbor` are attached and have credit; `router_id` is at its end."""
        self._now = now
        if router_id == self.id:
            self._tell_once("critical", "duplicate_router_id", router_id, connection=neighbor)
            return
        node = self.nodes.get(router_id)
        if node is None or not node.reachable:
            self._unsynced[neighbor] = None
        known = self.neighbors.up(neighbor, router_id, cost, now, trusted=self._is_end(node))
        if self._hello_at == inf:
            self._hello_at = now + self.timers.hello_interval
        if self._advertised_at == -inf:
            self._advertised_at = now
        self._greet(known, now)
        self.owner.log("info", "neighbor_up", router=router_id, connection=neighbor, cost=cost)
        if known.established:
            self._peers_changed(now, now + self.timers.join_gather)
        else:
            self._introduce_at = min(self._introduce_at, now + self.timers.join_gather)
        self._plan()

    def neighbor_down(self, neighbor: int, now: float) -> None:
        """The connection `neighbor`, or a control link of it, is over."""
        self._now = now
        known = self.neighbors.down(neighbor)
        if known is None:
            return
        self._unsynced.pop(neighbor, None)
        self.owner.log("info", "neighbor_down", router=known.router_id, connection=neighbor)
        self.database.sweep_by(now + self.timers.hello_max_age)
        if not self.neighbors.by_number:
            self._hello_at = inf
        if known.established:
            self._lost(now)
        self._plan()

    def advertise(self, key: str, treatment: int, in_links: int, mesh: str | None = None) -> None:
        """An address has receivers here, or other senders than before. Announced together with what else changes."""
        if self.own_addresses.set(MobileAddress(key, treatment, in_links, mesh)):
            self._want_announcement()

    def withdraw(self, key: str) -> None:
        """An address has no receivers here any more."""
        if self.own_addresses.remove(key):
            self._want_announcement()

    def next_deadline(self) -> float:
        """When `handle_deadline` must be called next; what was said before `now` is overdue."""
        return self._next

    # -- what it knows ---------------------------------------------------------------------------------------------

    @property
    def mobile_sequence(self) -> int:
        """The sequence number of our addresses as announced; 0 while nothing was announced."""
        return self.own_addresses.sequence

    def connection_of(self, router_id: str) -> int | None:
        """Return the connection that leads to a router now, None where there is no way."""
        node = self.nodes.get(router_id)
        if node is None or not node.reachable or node.next_hop is None:
            return None
        return self.neighbors.carriers.get(node.next_hop)

    def valid_origin(self, destination: str, origin: str) -> bool:
        """Whether this router lies on the path from `origin` to `destination`.

        Only then it sends on what came into the network at `origin`.
        """
        if origin == self.id:
            return True
        behind = self._origins.get(origin)
        if behind is None:
            behind = self._origins[origin] = spf.behind(self._tree_of(origin), self.id)
        return destination in behind

    def valid_origins(self, destination: str) -> list[str]:
        """Return all routers from which paths to `destination` lead over this one, itself included."""
        return [self.id, *[node for node in self._tree.order[1:] if self.valid_origin(destination, node)]]

    # -- time ------------------------------------------------------------------------------------------------------

    def handle_deadline(self, now: float) -> None:
        """Do what is due, at most about 2 ms of it; what is left is due at once again."""
        self._now = now
        if self.neighbors.next_deadline <= now:
            late = self.neighbors.expire(now)
            for neighbor in late:
                self.owner.log("warning", "neighbor_silent", router=neighbor.router_id, connection=neighbor.number)
            if late:
                self._lost(now)
        if self._hello_at <= now:
            self._hello_at += self.timers.hello_interval
            if self._hello_at <= now:
                self._hello_at = now + self.timers.hello_interval
            for neighbor in self.neighbors.by_number.values():
                self._greet(neighbor, now)
        if self._originate_at <= now:
            self._originate(now)
        if self._introduce_at <= now:
            self._introduce()
        if self._compute_at <= now:
            self._compute(now)
        if self._ask_at <= now:
            self._ask(now)
        if self._announce_wanted:
            self._plan_announcement(now)
        if self._announce_at <= now:
            self._announce(now)
        if self._advertise_at <= now:
            self._advertise(now)
        self._branch_held_on(now)
        if self.database.next_deadline() <= now:
            self._sweep(now)
        if self._busy:
            self._work_on(self._busy.popleft())
        elif self._syncs:
            sync = self._syncs[0]
            if next(sync, _DONE) is _DONE:
                self._syncs.popleft()
        self._plan()

    def _wake_by(self, at: float) -> None:
        """Something more is due at this time."""
        if at < self._next:
            self._next = at

    def _plan(self) -> None:
        """Work out when something is due next."""
        if self._busy or self._syncs or self._announce_wanted:
            self._next = self._now
            return
        at = self.neighbors.next_deadline
        if self._hello_at < at:
            at = self._hello_at
        if self._originate_at < at:
            at = self._originate_at
        if self._introduce_at < at:
            at = self._introduce_at
        if self._compute_at < at:
            at = self._compute_at
        if self._ask_at < at:
            at = self._ask_at
        if self._announce_at < at:
            at = self._announce_at
        if self._advertise_at < at:
            at = self._advertise_at
        for held in self._held:
            if held[0] < at:
                at = held[0]
        sweep_at = self.database.next_deadline()
        self._next = sweep_at if sweep_at < at else at

    # -- neighbours ------------------------------------------------------------------------------------------------

    def _greet(self, neighbor: Neighbor, now: float) -> None:
        """Send a HELLO. It is the same for all, and the same every second while nothing changes."""
        seen = self.neighbors.seen(now)
        if seen != self._hello_seen:
            self._hello_seen = seen
            body = encode_control(Hello(self.id, self.instance, seen), HELLO_ADDRESS)
            self._hello = ControlMessage(HELLO_ADDRESS, self._node_id, self._trace, body)
        neighbor.greeted_at = now
        self.owner.send_control(neighbor.number, self._hello)

    def _on_hello(self, number: int, hello: Hello, now: float) -> None:
        if hello.id == self.id:
            if hello.instance != self.instance:
                self._tell_once("critical", "duplicate_router_id", self.id, connection=number, instance=hello.instance)
            return
        neighbor = self.neighbors.by_number.get(number)
        if neighbor is None:
            return  # its control links are not ready on our side: the next HELLO counts
        if neighbor.router_id != hello.id:
            self._tell_once("warning", "neighbor_renamed", hello.id, connection=number, before=neighbor.router_id)
            cost = neighbor.cost
            self.neighbor_down(number, now)
            self.neighbor_up(number, hello.id, cost, now)
            neighbor = self.neighbors.by_number[number]
        node = self.database.find_or_add(hello.id, now)
        if node is None:
            self._tell_once("error", "too_many_routers", hello.id)
            return
        self._heard_instance(node, hello.instance, True, now)
        node.protocol_version = hello.protocol_version
        lists_us = self.id in hello.seen
        silent = neighbor.silent
        if self.neighbors.hello(neighbor, lists_us, now):
            if silent:
                self.owner.log("info", "neighbor_back", router=hello.id, connection=number)
            if not node.reachable:
                self._unsynced[number] = None
            self._peers_changed(now, now + self.timers.join_gather)
        if not lists_us and now - neighbor.greeted_at > self.timers.hello_interval / 4:
            self._greet(neighbor, now)
        self._plan()

    def _is_joined(self, router_id: str) -> bool:
        """Whether a neighbour is in our part of the network without its link to us, as far as the link states say.

        Then others have told it, or will tell it, what is known here. Who announces its new link first cannot rely on
        others that come later, so of several links that join two parts at least one is used.
        """
        node = self.nodes.get(router_id)
        if node is None or not node.link_state_sequence:
            return False
        found = {self.id, *self.neighbors.peers}
        found.discard(router_id)
        ahead = list(found)
        while ahead:
            reached = self.nodes.get(ahead.pop())
            if reached is None:
                continue
            for peer in reached.peers:
                if peer not in found:
                    if peer == router_id:
                        return True
                    found.add(peer)
                    ahead.append(peer)
        return False

    def _peers_changed(self, now: float, at: float) -> None:
        """Our own link state is another: send it, and compute the paths with it."""
        self.last_topology_change = now
        self._announce_from = now + 2 * self.timers.gather
        self._originate_at = min(self._originate_at, max(at, self._originated_at + self._scaled(self.timers.join_hold)))
        self._compute_soon(now)
        if self.own_addresses.pending():
            self._want_announcement()

    def _lost(self, now: float) -> None:
        """A neighbour is gone. Its end of the path is known best here, so the paths are computed at once."""
        self.last_topology_change = now
        self._originate_at = min(self._originate_at, max(now, self._originated_at + self.timers.own_hold))
        if self._originate_at <= now:
            self._originate(now)
        self._compute(now)

    # -- our link state --------------------------------------------------------------------------------------------

    def _originate(self, now: float) -> None:
        """Tell all what our neighbours are."""
        self._originate_at = inf
        self._originated_at = now
        self.link_state_sequence += 1
        self._flood(ALL_ROUTERS, self._link_state(ALL_ROUTERS))
        for number in self._unsynced:
            neighbor = self.neighbors.by_number.get(number)
            if neighbor is not None and neighbor.established and not self._is_joined(neighbor.router_id):
                self._syncs.append(self._sync(neighbor))
        self._unsynced.clear()

    def _is_end(self, node: Node | None) -> bool:
        """Whether ways end at a new neighbour, as far as is known, and do not lead over it.

        Then the link to it counts at once. Otherwise there are other ways, or were, and it counts when its HELLO lists
        us: skrouterd finds its ways once a second, before it sends that; what came earlier it would release.
        """
        return node is None or (not node.reachable and all(peer == self.id for peer in node.peers))

    def _introduce(self) -> None:
        """Tell neighbours that do not count yet, and nobody else, of our links to them, for their ways."""
        self._introduce_at = inf
        for neighbor in self.neighbors.by_number.values():
            if not neighbor.established and not neighbor.silent:
                # A number of its own: what the others are told later must be news to this one, too.
                self.link_state_sequence += 1
                peers = {**self.neighbors.peers}
                peers.setdefault(neighbor.router_id, neighbor.cost)
                to = router_address(neighbor.router_id)
                update = LinkStateUpdate(self.id, self.instance, self.link_state_sequence, peers)
                self._send_own(neighbor, to, encode_control(update, to))
                if self.own_addresses.sequence:
                    advertisement = RouterAdvertisement(
                        self.id, self.instance, self.link_state_sequence, self.own_addresses.sequence
                    )
                    self._send_own(neighbor, to, encode_control(advertisement, to))
                if self._unsynced.pop(neighbor.number, True) is None:
                    self._syncs.append(self._sync(neighbor))

    def _send_own(self, neighbor: Neighbor, to: str, body: bytes) -> None:
        self.owner.send_control(neighbor.number, ControlMessage(to, self._node_id, self._trace, body))

    def _link_state(self, to: str) -> bytes:
        state = LinkStateUpdate(self.id, self.instance, self.link_state_sequence, self.neighbors.peers)
        return encode_control(state, to)

    def _sync(self, neighbor: Neighbor) -> Iterator[None]:
        """Pass on what we know of the routers to a neighbour that came from elsewhere."""
        to = router_address(neighbor.router_id)
        for index, node in enumerate(list(self.nodes.values())):
            if index % SYNC_SLICE == SYNC_SLICE - 1:
                yield
            if self.neighbors.by_number.get(neighbor.number) is not neighbor:
                return
            if node.link_state_sequence and (node.reachable or node.id == neighbor.router_id):
                update = LinkStateUpdate(node.id, node.instance, node.link_state_sequence, node.peers)
                message = ControlMessage(to, "0/" + node.id, self._trace, encode_control(update, to))
                self.owner.send_control(neighbor.number, message)
                if node.advertised and node.id != neighbor.router_id:
                    # Who knows of the addresses asks for them: by itself the router would say it seconds later.
                    advertisement = RouterAdvertisement(
                        node.id, node.instance, node.link_state_sequence, node.advertised
                    )
                    message = ControlMessage(to, message.ingress, self._trace, encode_control(advertisement, to))
                    self.owner.send_control(neighbor.number, message)

    def _advertise(self, now: float) -> None:
        """Send an RA, and set when the next one is due."""
        self._advertised = (self.link_state_sequence, self.own_addresses.sequence)
        self._advertised_at = now
        flux = self._flux_interval()
        steady = now - self.last_topology_change >= 2 * flux
        self._advertise_at = now + (self.timers.ra_interval if steady else flux)
        if not self.neighbors.flooded:
            return
        advertisement = RouterAdvertisement(
            self.id, self.instance, self.link_state_sequence, self.own_addresses.sequence
        )
        self._flood(ALL_ROUTERS, encode_control(advertisement, ALL_ROUTERS))

    def _advertise_soon(self, now: float) -> None:
        """Send an RA as soon as it is not taken for a copy of the last one, and not too often."""
        if not self.own_addresses.sequence:
            # There is nothing yet that the link state did not say. Soon there is; if not, say so.
            at = now + self.timers.announce_patience
        elif self._advertised == (self.link_state_sequence, self.own_addresses.sequence):
            at = self._advertised_at + 1.1 * DUPLICATE_WINDOW
        else:
            at = self._advertised_at + self._scaled(self.timers.own_hold)
        self._advertise_at = min(self._advertise_at, max(now, at))

    def _flux(self, now: float) -> None:
        """The network changes: advertise more often for a while."""
        self.last_topology_change = now
        at = self._advertised_at + self._flux_interval()
        if at < self._advertise_at:
            self._advertise_at = at if at > now else now

    def _flux_interval(self) -> float:
        """How often RA is sent while the network changes.

        In a large network something always changes, and what anybody advertises comes to everybody: of a thousand
        routers each would have 750 a second to look at. There, nobody advertises more often than in quiet times.
        """
        flux = self._scaled(self.timers.ra_interval_flux)
        return flux if flux < self.timers.ra_interval else self.timers.ra_interval

    def _flood(self, to: str, body: bytes) -> None:
        message = ControlMessage(to, self._node_id, self._trace, body)
        send = self.owner.send_control
        for neighbor in self.neighbors.flooded:
            send(neighbor.number, message)

    def _send_to(self, router_id: str, came_from: int | None, to: str, body: bytes) -> bool:
        """Send to one router; where no way is known yet, back over the connection that its message came from."""
        number = self.connection_of(router_id)
        if number is None:
            number = self.neighbors.carriers.get(router_id)
        if number is None:
            number = came_from
        if number is None:
            return False
        self.owner.send_control(number, ControlMessage(to, self._node_id, self._trace, body))
        return True

    # -- paths -----------------------------------------------------------------------------------------------------

    def _scaled(self, seconds: float) -> float:
        """A hold that grows with the network: twice as long among a hundred routers, eleven times among a thousand.

        What changes in a larger network changes more often, and costs more each time.
        """
        return seconds * (1 + len(self.nodes) * 0.01)

    def _compute_soon(self, now: float) -> None:
        if self._compute_at == inf:
            at = self._computed_at + self._scaled(self.timers.hold_down)
            soonest = now + self.timers.gather
            self._compute_at = at if at > soonest else soonest

    def _compute(self, now: float) -> None:
        """Find the paths to all routers, and tell the owner what is different."""
        self._compute_at = inf
        self._computed_at = now
        peers = self.neighbors.peers
        # With the same paths over another connection of a neighbour, deliveries have to change over too.
        digest = (self.database.digest, digest_of(self.id, peers), tuple(self.neighbors.carriers.items()))
        if digest == self._computed_digest:
            return
        self._computed_digest = digest
        for router_id in peers:
            self._add_named(router_id, now)
        states = self.database.states()
        states[self.id] = peers
        self._topology = spf.Topology(states, self.id)
        self._tree = tree = spf.shortest_paths(self._topology, self.id)
        self.radius = spf.radius(tree)
        self._origins.clear()
        self._branches.clear()
        if self._trees is not None:
            self._graph_digest = self._digest()
            self._trees.add(self._graph_digest, tree)
        self.version += 1
        hops = spf.next_hops(tree)
        appeared: list[Node] = []
        vanished: list[Node] = []
        for node in self.nodes.values():
            hop = hops.get(node.id)
            if hop is None:
                if node.reachable:
                    node.reachable = False
                    vanished.append(node)
                continue
            node.next_hop = hop
            node.cost = tree.cost[node.id]
            if not node.reachable:
                node.reachable = True
                appeared.append(node)
        self.owner.routes_changed()
        for node in vanished:
            self.owner.log("info", "router_unreachable", router=node.id)
            if node.link_state_sequence == 0:
                node.last_seen = now
                self.database.sweep_by(now + self.timers.hello_max_age)
            self._start(node, mobile.hide(node, self.owner.addresses_changed))
        for node in appeared:
            self.owner.log("info", "router_reachable", router=node.id, next_hop=node.next_hop, cost=node.cost)
            self._start(node, mobile.show(node, self.owner.addresses_changed))
            self._appeared(node, now)
        if appeared:
            self._advertise_soon(now)

    def _add_named(self, router_id: str, now: float) -> None:
        """A router that another names is taken in, to be asked."""
        if router_id not in self.nodes and self.database.find_or_add(router_id, now) is None:
            self._tell_once("error", "too_many_routers", router_id)

    def _appeared(self, node: Node, now: float) -> None:
        """There is a way to this router: what it has not told by itself soon is asked for."""
        node.asked = 0
        delay = self._scaled(self.timers.ask_delay)
        if node.link_state_sequence == 0:
            node.ask_link_state_at = now + delay
        if node.advertised > node.mobile_expected:
            node.ask_mobile_at = now
        elif node.mobile_expected == 0 and not node.heard:
            node.ask_mobile_at = now + 3 * delay
        self._asks(node)

    def _tree_of(self, root: str) -> spf.Tree:
        """The paths from another router, as that one sees them."""
        if root == self.id:
            return self._tree
        if self._trees is None:
            return spf.shortest_paths(self._topology, root)
        return self._trees.find(self._graph_digest, self._topology, root)

    def _digest(self) -> int:
        """What tells this state of the network from others: all engines of the same component have the same."""
        peers = self.neighbors.peers
        digest = digest_of(self.id, peers)
        for router_id in self._tree.order[1:]:
            node = self.nodes.get(router_id)
            if node is not None and node.link_state_sequence:
                digest ^= node.digest
                if router_id in peers and self.id not in node.peers:
                    digest ^= hash((self.id, router_id))  # only here this link counts
            else:
                digest ^= hash(router_id)
        return digest

    def _branches_of(self, origin: str) -> tuple[Neighbor, ...]:
        """The neighbours to which what came into the network at `origin` goes on from here."""
        branches = self._branches.get(origin)
        if branches is None:
            previous = self._tree_of(origin).previous
            branches = tuple([each for each in self.neighbors.flooded if previous.get(each.router_id) == self.id])
            self._branches[origin] = branches
        return branches

    # -- asking ----------------------------------------------------------------------------------------------------

    def _asks(self, node: Node) -> None:
        at = min(node.ask_link_state_at, node.ask_mobile_at)
        if at < inf:
            self._asking[node.id] = node
            if at < self._ask_at:
                self._ask_at = at
                self._wake_by(at)

    def _ask(self, now: float) -> None:
        """Send LSR and MAR to those who owe something."""
        next_at = inf
        done: list[str] = []
        for node in self._asking.values():
            if node.ask_link_state_at <= now:
                self._request_link_state(node, None, now)
            if node.ask_mobile_at <= now:
                self._request_addresses(node, None, now)
            at = min(node.ask_link_state_at, node.ask_mobile_at)
            if at == inf:
                done.append(node.id)
            elif at < next_at:
                next_at = at
        for router_id in done:
            del self._asking[router_id]
        self._ask_at = max(next_at, now + ASK_GRAIN)

    def _request_link_state(self, node: Node, came_from: int | None, now: float) -> None:
        """Send an LSR, and again until it is answered while there is a way.

        It goes where the news of a link state came from, then our own way and by each neighbour in turn: the link state
        that is missing may be the very reason why our own way goes in a circle.
        """
        to = router_address(node.id)
        body = encode_control(LinkStateRequest(self.id), to)
        flooded = self.neighbors.flooded
        if came_from is None and node.asked % 2 and flooded:
            came_from = flooded[node.asked // 2 % len(flooded)].number
        if came_from in self.neighbors.by_number and node.id not in self.neighbors.carriers:
            self.owner.send_control(came_from, ControlMessage(to, self._node_id, self._trace, body))
            sent = True
        else:
            sent = self._send_to(node.id, came_from, to, body)
        node.ask_link_state_at = self._again(node, now) if sent else inf

    def _request_addresses(self, node: Node, came_from: int | None, now: float) -> None:
        """Send a MAR, and again until it is answered if an answer is due."""
        to = router_mobile_address(node.id)
        body = encode_control(MobileAddressRequest(self.id, node.mobile_sequence), to)
        sent = self._send_to(node.id, came_from, to, body)
        node.ask_mobile_at = self._again(node, now) if sent and node.advertised > node.mobile_expected else inf

    def _again(self, node: Node, now: float) -> float:
        node.asked += 1
        return now + self.timers.ask_interval if node.asked <= 10 else inf

    # -- addresses -------------------------------------------------------------------------------------------------

    def _want_announcement(self) -> None:
        """Wake up at once: only then it is known what time it is. Without neighbours there is nobody to tell."""
        if self._announce_at == inf and self.neighbors.flooded:
            self._announce_wanted = True
            self._next = self._now

    def _plan_announcement(self, now: float) -> None:
        """Work out when to tell the changes of our addresses.

        The first time that is when the network has been quiet for a moment: everybody then knows the way on which the
        update comes, and nobody needs to ask for it.
        """
        self._announce_wanted = False
        at = max(now + self.timers.mobile_hold, self._announced_at + self.timers.mobile_interval, self._announce_from)
        if not self.own_addresses.sequence:
            if self._announce_until == inf:
                self._announce_until = now + self.timers.announce_patience
            at = min(max(at, self._quiet_from()), self._announce_until)
        self._announce_at = at

    def _quiet_from(self) -> float:
        """When the network will have been quiet for a moment, if nothing happens until then."""
        return self.last_topology_change + self._scaled(2 * self.timers.hold_down)

    def _announce(self, now: float) -> None:
        """Send what changed of our addresses along the tree of our paths, then that we said it."""
        self._announce_at = inf
        if not self.own_addresses.pending() or not self.neighbors.flooded:
            return
        if not self.own_addresses.sequence and now < min(self._quiet_from(), self._announce_until):
            self._announce_at = min(self._quiet_from(), self._announce_until)
            return
        self._announced_at = now
        message = ControlMessage(ALL_MOBILE, self._node_id, self._trace, self.own_addresses.announce(ALL_MOBILE))
        for neighbor in self._branches_of(self.id):
            self.owner.send_control(neighbor.number, message)
        if self.own_addresses.pending():
            # There was too much for one update. The pause gives those who hear it, and us, time for other things.
            self._announce_at = now + self.timers.mobile_hold
        else:
            self._advertise(now)

    def _start(self, node: Node, task: Iterator[None]) -> None:
        """Let something be done with a router's addresses, behind what is being done already."""
        node.tasks.append(task)
        if len(node.tasks) == 1:
            self._work_on(node)

    def _work_on(self, node: Node) -> None:
        """Do the next slice; what is left comes at the next deadline."""
        tasks = node.tasks
        while tasks:
            try:
                if next(tasks[0], _DONE) is not _DONE:
                    self._busy.append(node)
                    return
            except DecodeError as error:
                self._tell_once("warning", "malformed_addresses", node.id, error=error.description)
                node.mobile_expected = node.mobile_sequence
            del tasks[0]

    # -- hearing ---------------------------------------------------------------------------------------------------

    def receive(self, neighbor: int, message: ControlMessage, now: float) -> None:
        """A control message came on this connection. Never raises for what is in it."""
        self._now = now
        target = self._targets.get(message.to)
        if target is None:
            target = self._target(message.to)
        kind = target[0]
        if kind == _TO_OTHER:
            self._forward(message, target[1])
            return
        if kind == _TO_NOBODY:
            self._tell_once("warning", "control_message_to_nobody", message.to[:64])
            return
        control = message.decoded
        if control is None:
            try:
                control = message.decoded = decode_control(message.body)
            except DecodeError as error:
                sender = self.neighbors.by_number.get(neighbor)
                name = message.ingress or (sender.node_id if sender is not None else "")
                self._tell_once("warning", "malformed_control_message", name, error=error.description)
                return
        if kind == _TO_ALL or kind == _TO_ALL_MOBILE:
            if isinstance(control, LinkStateUpdate):
                # Copies of link states are known by their sequence number, and news alone are passed on.
                node = self.nodes.get(control.id)
                if (
                    node is not None
                    and control.link_state_sequence <= node.link_state_sequence
                    and control.instance == node.instance
                ):
                    self.duplicates += 1
                    return
            elif self._is_duplicate(message, now):
                self.duplicates += 1
                return
            if self._node_id in message.trace or len(message.trace) > MAX_TRACE:
                return
            if kind == _TO_ALL_MOBILE:
                self._branch_held_on(now)
                node = self.nodes.get(control.id)
                if node is None or now >= node.life_began + NEW_LIFE_SETTLES:
                    self._branch_on(message, control)
                elif len(self._held) < MAX_HELD:
                    self._held.append((node.life_began + NEW_LIFE_SETTLES, message, control))
            elif not isinstance(control, LinkStateUpdate):
                self._flood_on(neighbor, message, control)
        self._hear(neighbor, message, control, kind, now)

    def _target(self, to: str) -> tuple[int, str]:
        """What an address means, and whom."""
        parts = to.removeprefix("amqp:").lstrip("/").split("/")
        kind, name = _TO_NOBODY, ""
        if parts == ["_local", "qdhello"]:
            kind = _TO_NEIGHBOR
        elif len(parts) == 2 and parts[0] == "_local" and parts[1] in ("qdrouter", "qdrouter.ma"):
            kind = _TO_US
        elif len(parts) == 4 and parts[0] == "_topo" and parts[1] in (AREA, "all"):
            if parts[3] == "qdrouter" or parts[3] == "qdrouter.ma":
                name = parts[2]
                if name == "all":
                    kind = _TO_ALL if parts[3] == "qdrouter" else _TO_ALL_MOBILE
                else:
                    kind = _TO_US if name == self.id else _TO_OTHER
        if len(self._targets) >= MAX_TARGETS:
            self._targets.clear()
        if len(to) <= 512:
            self._targets[to] = (kind, name)
        return kind, name

    def _is_duplicate(self, message: ControlMessage, now: float) -> bool:
        """Whether the same came a moment ago, on another way.

        There are two tables, and the older one is forgotten when the other is half a second old: nothing is ever
        searched, and a copy is known for half a second to a second.
        """
        if now >= self._floods_until or len(self._floods) >= MAX_REMEMBERED_FLOODS:
            self._floods_before = self._floods if now < self._floods_until + DUPLICATE_WINDOW / 2 else set()
            self._floods = set()
            self._floods_until = now + DUPLICATE_WINDOW / 2
        key = hash((message.ingress, message.body))
        if key in self._floods or key in self._floods_before:
            return True
        self._floods.add(key)
        return False

    def _flood_on(self, came_from: int, message: ControlMessage, control: Control) -> None:
        """Pass on to all neighbours that have not had it."""
        trace = message.trace
        origin = control.id
        onward: ControlMessage | None = None
        for neighbor in self.neighbors.flooded:
            if neighbor.number != came_from and neighbor.node_id not in trace and neighbor.router_id != origin:
                if onward is None:
                    onward = ControlMessage(message.to, message.ingress, (*trace, self._node_id), message.body)
                    onward.decoded = control
                self.owner.send_control(neighbor.number, onward)

    def _branch_on(self, message: ControlMessage, control: Control) -> None:
        """Pass on along the tree of the router where it came into the network."""
        ingress = message.ingress
        origin = ingress[2:] if ingress is not None and ingress.startswith("0/") else control.id
        trace = message.trace
        onward: ControlMessage | None = None
        for neighbor in self._branches_of(origin):
            if neighbor.node_id not in trace:
                if onward is None:
                    onward = ControlMessage(message.to, ingress, (*trace, self._node_id), message.body)
                    onward.decoded = control
                self.owner.send_control(neighbor.number, onward)

    def _branch_held_on(self, now: float) -> None:
        """Pass on the changes of addresses that have waited long enough."""
        if not self._held:
            return
        due = [each for each in self._held if each[0] <= now]
        if due:
            self._held = [each for each in self._held if each[0] > now]
            for _, message, control in due:
                self._branch_on(message, control)

    def _forward(self, message: ControlMessage, router_id: str) -> None:
        """Pass on to the router that it is for."""
        trace = message.trace
        number = self.connection_of(router_id)
        neighbor = self.neighbors.by_number.get(number) if number is not None else None
        if neighbor is None or neighbor.node_id in trace or self._node_id in trace or len(trace) > MAX_TRACE:
            self.owner.log("debug", "control_message_without_way", to=message.to, ingress=message.ingress)
            return
        onward = ControlMessage(message.to, message.ingress, (*trace, self._node_id), message.body)
        self.owner.send_control(neighbor.number, onward)

    def _hear(self, neighbor: int, message: ControlMessage, control: Control, kind: int, now: float) -> None:
        if control.protocol_version > control.newest_version:
            self._tell_once("warning", "newer_protocol_version", control.id, version=control.protocol_version)
        elif control.area != AREA:
            self._tell_once("warning", "other_area", control.id, area=control.area)
        elif isinstance(control, Hello):
            if kind == _TO_NEIGHBOR:
                self._on_hello(neighbor, control, now)
        elif control.id == self.id:
            self._on_own(control, now)
        elif isinstance(control, LinkStateUpdate):
            if self._on_link_state(control, now):
                self._pass_on(neighbor, message, control, kind, now)
        elif isinstance(control, RouterAdvertisement):
            self._on_advertisement(neighbor, control, now)
        elif isinstance(control, MobileAddressUpdate):
            self._on_addresses(neighbor, control, now)
        elif isinstance(control, LinkStateRequest):
            to = router_address(control.id)
            self._send_to(control.id, neighbor, to, self._link_state(to))
        elif isinstance(control, MobileAddressRequest):
            if control.have_sequence < self.own_addresses.sequence:
                to = router_mobile_address(control.id)
                self._send_to(control.id, neighbor, to, self.own_addresses.all(to))

    def _on_own(self, control: Control, now: float) -> None:
        """What the network holds of us: an earlier life of ours, or another router with our name."""
        if isinstance(control, (LinkStateUpdate, RouterAdvertisement)):
            if control.instance > self.instance:
                self._tell_once("critical", "duplicate_router_id", self.id, instance=control.instance)
            elif control.instance == self.instance and control.link_state_sequence > self.link_state_sequence:
                self.link_state_sequence = control.link_state_sequence
                self._originate_at = min(self._originate_at, max(now, self._originated_at + 1.0))
                self._plan()

    def _direct(self, number: int, router_id: str) -> bool:
        """Whether a router says something itself: what comes on its only connection is in order."""
        neighbor = self.neighbors.by_number.get(number)
        if neighbor is None or neighbor.router_id != router_id:
            return False
        return self.neighbors.connections_to(router_id) == 1

    def _heard_instance(self, node: Node, instance: int, certain: bool, now: float) -> bool:
        """Note in which life a router is; return whether the message is of this life.

        A lower instance is an echo of the life before, unless it is certain or lasts.
        """
        if instance == node.instance or instance == 0:
            return True
        if node.instance == 0:
            node.instance = instance
            node.life_began = now
            return True
        if instance < node.instance and not certain:
            return False
        self._restarted(node, instance, now)
        return True

    def _restarted(self, node: Node, instance: int, now: float) -> None:
        """A router has been started again: nothing that is known of it holds."""
        self.owner.log("info", "router_restarted", router=node.id, instance=instance)
        node.instance = instance
        node.life_began = now
        node.suspected_at = inf
        if self.database.clear(node):
            self._flux(now)
            self._compute_soon(now)
        node.mobile_expected = 0
        node.advertised = 0
        node.heard = False
        self._start(node, mobile.forget(node, self.owner.addresses_changed))
        node.asked = 0
        delay = self._scaled(self.timers.ask_delay)
        node.ask_link_state_at = now + delay
        node.ask_mobile_at = now + 3 * delay
        self._asks(node)

    def _is_less(self, node: Node, instance: int, sequence: int, mobile_sequence: int) -> bool:
        return instance < node.instance or (
            instance == node.instance
            and (sequence < node.link_state_sequence or mobile_sequence < node.mobile_sequence)
        )

    def _on_advertisement(self, number: int, advertisement: RouterAdvertisement, now: float) -> None:
        node = self.database.find_or_add(advertisement.id, now)
        if node is None:
            self._tell_once("error", "too_many_routers", advertisement.id)
            return
        instance = advertisement.instance
        sequence = advertisement.link_state_sequence
        if self._is_less(node, instance, sequence, advertisement.mobile_sequence):
            # Late on a long way, or a router that was started again within the second, or with its clock set back.
            if node.suspected_at == inf:
                node.suspected_at = now
            if not self._direct(number, node.id) and now - node.suspected_at < DUPLICATE_WINDOW:
                return
            self._restarted(node, instance, now)
        else:
            node.suspected_at = inf
            self._heard_instance(node, instance, False, now)
        node.protocol_version = advertisement.protocol_version
        node.heard = True
        node.last_seen = now
        if sequence > node.link_state_sequence:
            self._request_link_state(node, number, now)
        else:
            node.ask_link_state_at = inf
        node.advertised = advertisement.mobile_sequence
        if node.advertised > node.mobile_expected:
            # The update itself may be on another way still.
            node.asked = 0
            node.ask_mobile_at = min(node.ask_mobile_at, now + self.timers.ask_delay)
        else:
            node.ask_mobile_at = inf
        self._asks(node)

    def _on_link_state(self, update: LinkStateUpdate, now: float) -> bool:
        """Take a link state if it is news, and return whether it is."""
        nodes = self.nodes
        node = nodes.get(update.id)
        if node is None:
            node = self.database.find_or_add(update.id, now)
            if node is None:
                self._tell_once("error", "too_many_routers", update.id)
                return False
        if node.instance != update.instance and not self._heard_instance(node, update.instance, False, now):
            return False
        if update.link_state_sequence <= node.link_state_sequence:
            return False
        node.last_seen = now
        node.ask_link_state_at = inf
        if self.database.store(node, update.link_state_sequence, update.peers, update.digest):
            node.last_topology_change = now
            self._flux(now)
            self._compute_soon(now)
            for router_id in update.peers:
                if router_id not in nodes and router_id != self.id:
                    self._add_named(router_id, now)
            self._plan()
        return True

    def _pass_on(
        self, came_from: int, message: ControlMessage, update: LinkStateUpdate, kind: int, now: float
    ) -> None:
        """Pass on a link state that is news here: it may be news for those behind us.

        One that was meant for us alone is passed on as its router would have sent it to all.
        """
        if kind != _TO_ALL:
            if len(self.neighbors.flooded) < 2:
                return
            message = ControlMessage(
                ALL_ROUTERS, "0/" + update.id, message.trace, encode_control(update, ALL_ROUTERS)
            )
            if self._is_duplicate(message, now):
                return
        self._flood_on(came_from, message, update)

    def _on_addresses(self, number: int, update: MobileAddressUpdate, now: float) -> None:
        node = self.database.find_or_add(update.id, now)
        if node is None:
            self._tell_once("error", "too_many_routers", update.id)
            return
        sequence = update.mobile_sequence
        if len(node.tasks) >= MAX_TASKS:
            self.owner.log("warning", "addresses_too_fast", router=node.id)
            return
        if update.exist is not None:
            if sequence < node.mobile_expected:
                return  # older than what is known
        elif sequence != node.mobile_expected + 1:
            if sequence > node.mobile_expected:
                node.advertised = max(node.advertised, sequence)
                if node.ask_mobile_at > now + self.timers.ask_delay or node.asked == 0:
                    self._request_addresses(node, number, now)
                    self._asks(node)
                    self._plan()
            return
        node.mobile_expected = sequence
        node.advertised = max(node.advertised, sequence)
        node.ask_mobile_at = inf
        tell = self.owner.addresses_changed
        exist, add, delete = update.exist, update.add, update.delete
        if (
            not node.tasks
            and isinstance(add, tuple)
            and isinstance(delete, tuple)
            and (exist is None or (isinstance(exist, tuple) and len(node.addresses) <= mobile.SLICE))
        ):
            mobile.change_at_once(node, sequence, exist, add, delete, tell)
            return
        if exist is not None:
            self._start(node, mobile.replace(node, sequence, exist, tell))
        else:
            self._start(node, mobile.change(node, sequence, add, delete, tell))
        self._plan()

    # -- the rest --------------------------------------------------------------------------------------------------

    def _sweep(self, now: float) -> None:
        aged, gone = self.database.sweep(self.neighbors.peers, now)
        for node in aged:
            self.owner.log("info", "link_state_aged", router=node.id)
            if node.reachable:
                node.ask_link_state_at = now
                self._asks(node)
        if aged:
            self._compute_soon(now)
        for node in gone:
            self._asking.pop(node.id, None)
            self.owner.log("debug", "router_forgotten", router=node.id)
        if gone:
            self.version += 1
            self.owner.routes_changed()

    def _tell_once(self, level: str, event: str, about: str, **fields: object) -> None:
        if (event, about) not in self._told and len(self._told) < MAX_TOLD:
            self._told.add((event, about))
            self.owner.log(level, event, router=about, **fields)


_DONE: object = object()
