"""Flows of datagrams on their way into the network: where each goes, what waits for credit, and what is lost.

A flow is one client at one listener; the connector that has taken it has its other half. `FlowSender` is what both ends
send by. Nothing here blocks: what cannot be sent waits, within bounds, and beyond them is dropped and counted. Of those
who want to send by the same link each has its turn, and it is the longest queue that loses.

Datagrams are pre-settled. Once in a while one of a flow is sent unsettled: its outcome tells whether the other half is
still there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Final

from van.adaptors.amqp import Log
from van.adaptors.udp.message import body
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Received
from van.amqp.errors import AmqpLinkError
from van.routing.address import MAX_ADDRESS_LENGTH, strip_address
from van.routing.endpoint import EndpointReceiverLink, EndpointSession

# Credit of an idle link by which datagrams are sent: the routers' own, growing while all goes swiftly.
CAPACITY: Final = 250
CAPACITY_LIMIT: Final = 2000
# Datagrams that wait in one service, for credit or for the answer to a flow's first: as many as arrive in some
# milliseconds of a flood; older ones help nobody.
MAX_WAITING: Final = 1024
MAX_WAITING_OCTETS: Final = 1_048_576
# ...and in one flow, so that one that nobody answers leaves room for others.
MAX_FLOW_WAITING: Final = 64
# When room is made for a flow that has less than its share, so many others are looked at for the longest queue.
MAX_LOOKED_AT: Final = 32
# Other halves that a service has links to; the flows of more than that share one that goes anywhere.
MAX_WAYS: Final = 256
# A flow that sends asks so often whether its other half is there: as long it may send to nobody, in seconds.
ASK_SECONDS: Final = 1.0
# An outcome that has not come by then will not come, in seconds.
ANSWER_SECONDS: Final = 5.0
# A reason for loss is written to the log so often at most, in seconds.
LOG_SECONDS: Final = 60.0

# The stages of a flow: its first datagram is to be sent; it was, and its outcome is awaited; it goes where it goes.
NEW: Final = 0
ASKED: Final = 1
SETTLED: Final = 2


class Losses:
    """Datagrams that were dropped, counted by reason; the log hears of each reason once in a while."""

    __slots__ = ("_log", "_logged", "_name", "counts")

    def __init__(self, name: str, log: Log) -> None:
        self.counts: dict[str, int] = {}
        self._name = name
        self._log = log
        self._logged: dict[str, float] = {}

    def count(self, reason: str, now: float, count: int = 1) -> None:
        """So many datagrams were lost."""
        if count <= 0:
            return
        total = self.counts.get(reason, 0) + count
        self.counts[reason] = total
        if now >= self._logged.get(reason, now):
            self._logged[reason] = now + LOG_SECONDS
            self._log("info", "datagrams dropped", service=self._name, reason=reason, total=total)

    @property
    def total(self) -> int:
        """All that were lost."""
        return sum(self.counts.values())


class Way:
    """A link to where flows go. `flows` of them use it; `ring` are those of which something waits for its credit."""

    __slots__ = ("address", "flows", "gone", "link", "ring")

    def __init__(self, address: str, link: EndpointReceiverLink) -> None:
        self.address = address
        self.link = link
        self.flows = 0
        self.gone = False
        self.ring: deque[Flow] = deque()


class Flow:
    """One flow, at one of its ends.

    `peer` is the client's socket address at a listener, nothing at a connector. `flow_id` is what both halves call it,
    `reply_to` where the other half is, as far as that is known. `head` is what comes before each datagram. `bound` says
    that it goes to that half, and nowhere else.
    `last` is when it was last heard of, in seconds of the driver's clock.
    """

    __slots__ = (
        "asked_at",
        "asking",
        "bound",
        "ended",
        "flow_id",
        "head",
        "last",
        "listed",
        "peer",
        "reply_to",
        "seen",
        "stage",
        "waiting",
        "way",
    )

    def __init__(self, flow_id: str, peer: Any, now: float) -> None:
        self.flow_id = flow_id
        self.reply_to = ""
        self.peer = peer
        self.head = b""
        self.way: Way | None = None
        self.stage = NEW
        self.bound = False
        self.ended = False
        self.last = now
        self.asked_at = now
        # What was sent unsettled, and has no outcome yet.
        self.asking: Delivery | None = None
        # In its way's ring.
        self.listed = False
        self.waiting: deque[bytes] = deque()
        # Heads by which messages to it are recognised.
        self.seen: list[bytes] = []


class FlowSender:
    """Sends the datagrams of flows. `lost` is called with a flow whose other half is not there (any more)."""

    __slots__ = (
        "_anywhere",
        "_asked",
        "_losses",
        "_lost",
        "_octets",
        "_session",
        "_waiting",
        "_ways",
        "datagrams",
        "links",
        "octets",
    )

    def __init__(self, session: EndpointSession, losses: Losses, lost: Callable[[Flow], None]) -> None:
        self._session = session
        self._losses = losses
        self._lost = lost
        # Ways by link: those that flows may use, wherever they lead.
        self.links: dict[EndpointReceiverLink, Way] = {}
        self._ways: dict[str, Way] = {}
        self._anywhere: Way | None = None
        self._asked: dict[Delivery, tuple[Flow, float]] = {}
        self._waiting = 0
        self._octets = 0
        # What was sent.
        self.datagrams = 0
        self.octets = 0

    @property
    def waiting(self) -> int:
        """How many datagrams wait."""
        return self._waiting

    @property
    def waiting_octets(self) -> int:
        """How many octets these have."""
        return self._octets

    # -- ways ----------------------------------------------------------------------------------------------------

    def service(self, address: str) -> Way:
        """The way to the service's address. Raises `AmqpLinkError` when it cannot be had."""
        way = Way(address, self._session.attach_incoming(address, CAPACITY, CAPACITY_LIMIT))
        # It is nobody's in particular.
        way.flows = 1
        self.links[way.link] = way
        return way

    def way(self, address: str) -> Way:
        """The way to the other half of a flow, one for all flows that go there."""
        way = self._ways.get(address)
        if way is not None:
            return way
        if len(self._ways) < MAX_WAYS:
            try:
                way = Way(address, self._session.attach_incoming(address, CAPACITY, CAPACITY_LIMIT))
            except AmqpLinkError:
                # A router without neighbours, or an edge, has no link there: but messages find their way.
                way = None
            if way is not None:
                self._ways[address] = way
                self.links[way.link] = way
                return way
        return self.anywhere()

    def anywhere(self) -> Way:
        """The way by which each message goes where its properties say."""
        way = self._anywhere
        if way is None:
            way = self._anywhere = Way("", self._session.attach_incoming("", CAPACITY, CAPACITY_LIMIT))
            way.flows = 1
            self.links[way.link] = way
        return way

    def use(self, flow: Flow, way: Way) -> None:
        """Have a flow go there."""
        self.leave(flow)
        flow.asking = None
        way.flows += 1
        flow.way = way
        if flow.waiting and flow.stage != ASKED:
            self._list(flow, way)

    def leave(self, flow: Flow) -> None:
        """A flow goes there no more where it went. What waits is kept."""
        way = flow.way
        if way is None:
            return
        flow.way = None
        if flow.listed:
            flow.listed = False
            way.ring.remove(flow)
        way.flows -= 1
        if not way.flows:
            self._detach(way)

    def _detach(self, way: Way) -> None:
        way.gone = True
        self.links.pop(way.link, None)
        if self._ways.get(way.address) is way:
            del self._ways[way.address]
        self._session.detach(way.link)

    def end(self, flow: Flow) -> int:
        """A flow is over. Returns how many of its datagrams are lost by that."""
        flow.ended = True
        lost = len(flow.waiting)
        self._waiting -= lost
        self._octets -= sum(map(len, flow.waiting))
        flow.waiting.clear()
        self.leave(flow)
        return lost

    # -- datagrams -----------------------------------------------------------------------------------------------

    def send(self, flow: Flow, datagram: bytes, now: float) -> None:
        """Send a datagram, or have it wait, or lose one."""
        way = flow.way
        if way is None or way.gone:
            self._lost(flow)
            way = flow.way
            if way is None or way.gone:
                self._losses.count("nobody there", now)
                return
        if not flow.waiting and flow.stage != ASKED and way.link.link_credit > 0 and self._session.room() > 0:
            self._transmit(flow, way, datagram, now)
            return
        if flow.stage != ASKED and not way.link.reachable:
            self._losses.count("nobody there", now)
            return
        size = len(datagram)
        if len(flow.waiting) >= MAX_FLOW_WAITING:
            self._drop_first(flow, now)
        while self._waiting >= MAX_WAITING or self._octets + size > MAX_WAITING_OCTETS:
            longest = self._longest(flow, way)
            if not longest.waiting:
                self._losses.count("queue full", now)
                return
            self._drop_first(longest, now)
        flow.waiting.append(datagram)
        self._waiting += 1
        self._octets += size
        if flow.stage != ASKED:
            self._list(flow, way)

    def _longest(self, flow: Flow, way: Way) -> Flow:
        """Whose datagram is dropped so that one of `flow` can wait."""
        longest = flow
        ring = way.ring
        for _ in range(min(len(ring), MAX_LOOKED_AT)):
            ring.rotate(1)
            if len(ring[0].waiting) > len(longest.waiting):
                longest = ring[0]
        return longest

    def _drop_first(self, flow: Flow, now: float) -> None:
        self._waiting -= 1
        self._octets -= len(flow.waiting.popleft())
        self._losses.count("queue full", now)

    def _list(self, flow: Flow, way: Way) -> None:
        if not flow.listed:
            flow.listed = True
            way.ring.append(flow)

    def _transmit(self, flow: Flow, way: Way, datagram: bytes, now: float) -> None:
        self.datagrams += 1
        self.octets += len(datagram)
        payload = flow.head + body(datagram)
        if flow.stage == NEW:
            flow.stage = ASKED
        elif not flow.bound or now < flow.asked_at + ASK_SECONDS or flow.asking is not None:
            way.link.send(payload, True)
            return
        flow.asked_at = now
        flow.asking = delivery = way.link.send(payload)
        self._asked[delivery] = (flow, now)

    def pump(self, way: Way, now: float) -> None:
        """There may be credit: each flow that waits sends one, in turn."""
        ring = way.ring
        link = way.link
        while ring and link.link_credit > 0 and self._session.room() > 0:
            flow = ring.popleft()
            if flow.stage != ASKED and flow.waiting:
                datagram = flow.waiting.popleft()
                self._waiting -= 1
                self._octets -= len(datagram)
                self._transmit(flow, way, datagram, now)
            if flow.waiting and flow.stage != ASKED:
                ring.append(flow)
            else:
                flow.listed = False

    # -- what the core says --------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Take in what became of deliveries and links, and send what may be sent."""
        session = self._session
        while session.told or session.credited:
            told = session.told
            session.told = []
            for delivery in told:
                self._outcome(delivery, now)
            credited = session.credited
            session.credited = []
            for link in credited:
                way = self.links.get(link)
                if way is not None and not link.reachable and way.address:
                    self._unreachable(way, now)
        for way in list(self.links.values()):
            if way.ring:
                self.pump(way, now)

    def _outcome(self, delivery: Delivery, now: float) -> None:
        state = delivery.state
        if self._session.owes(delivery):
            if state is None or type(state) is Received:
                return
            # Its receiver wants it settled second.
            self._session.settle_sent(delivery, state)
        asked = self._asked.pop(delivery, None)
        if asked is None:
            return
        if state is not ACCEPTED:
            self._losses.count("refused", now)
        self._answered(asked[0], delivery, state is ACCEPTED)

    def _answered(self, flow: Flow, delivery: Delivery, there: bool) -> None:
        """It is known whether the other half of a flow is there."""
        if flow.ended or flow.asking is not delivery:
            return
        flow.asking = None
        if flow.stage == ASKED:
            flow.stage = SETTLED if there else NEW
            if flow.waiting and flow.way is not None:
                self._list(flow, flow.way)
        if not there:
            self._lost(flow)

    def _unreachable(self, way: Way, now: float) -> None:
        """Nobody is where this leads any more."""
        flows = list(way.ring)
        way.ring.clear()
        for flow in flows:
            flow.listed = False
        if self._ways.get(way.address) is way:
            # Its flows learn of it with their next datagram, but for those that wait.
            self._detach(way)
            for flow in flows:
                self._lost(flow)
            return
        for flow in flows:
            lost = len(flow.waiting)
            self._waiting -= lost
            self._octets -= sum(map(len, flow.waiting))
            flow.waiting.clear()
            self._losses.count("nobody there", now, lost)

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When the oldest outcome is not waited for any more."""
        for _, asked_at in self._asked.values():
            return asked_at + ANSWER_SECONDS
        return inf

    def handle_deadline(self, now: float) -> None:
        """Give up waiting for outcomes."""
        while self._asked:
            delivery = next(iter(self._asked))
            flow, asked_at = self._asked[delivery]
            if now < asked_at + ANSWER_SECONDS:
                return
            del self._asked[delivery]
            self._session.settle_sent(delivery, RELEASED)
            self._answered(flow, delivery, False)


def is_temporary(text: str) -> bool:
    """Whether an address is one that a router has made for a receiver: only there a flow may be sent.

    Else whoever takes a flow could have its datagrams sent to any address, the router's own node included.
    """
    if not text or len(text) > MAX_ADDRESS_LENGTH:
        return False
    stripped = strip_address(text)
    return stripped.startswith(("_topo/", "_edge/", "_$temp.", "_local/")) and "temp." in stripped
