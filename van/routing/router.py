"""The router core: addresses, who is attached to them here and at other routers, and who has something to write.

Adaptors attach links here and hand over nothing else: deliveries go from link to link without passing through. No clock
and no randomness: `now` and `tokens` come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final

from van.amqp.delivery import Delivery, Holder
from van.amqp.delivery_state import RELEASED, Modified, Rejected
from van.amqp.errors import AmqpLinkError, DecodeError, ErrorCondition
from van.amqp.message import IncompleteMessageError, read_to
from van.amqp.performatives import Error
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Source, Target
from van.routing.adaptor import Adaptor
from van.routing.address import (
    ANYCAST,
    AREA,
    MAX_ADDRESS_LENGTH,
    WAYPOINT,
    Address,
    AddressConfig,
    AddressWatcher,
    Distribution,
    PatternTable,
    address_key,
    strip_address,
)
from van.routing.auto_link import AutoLinks
from van.routing.budget import ByteBudget
from van.routing.dialect.annotations import (
    PRESETTLED,
    RESEND_RELEASED,
    STREAMING,
    Annotations,
    decode_annotations,
    encode_annotations,
    router_of,
)
from van.routing.dialect.treatments import DISTRIBUTIONS, TREATMENTS
from van.routing.forwarder import FORWARDERS, drop_payload, no_destination
from van.routing.incoming_link import IncomingLink
from van.routing.link_state.engine import LinkStateEngine, LinkStateOwner, Timers
from van.routing.link_state.messages import ControlMessage, MobileAddress
from van.routing.neighbor import ControlReceiver, ControlSender, Neighbor, StreamOpener
from van.routing.outgoing_link import FAILED, OutgoingLink
from van.routing.remote import RemoteDestinations
from van.routing.router_link import Retrier, RouterIncomingLink, RouterOutgoingLink, SettledInside
from van.routing.tally import Tally

if TYPE_CHECKING:
    from van.amqp.session import Session
    from van.routing.edge import EdgePeer

# The credit of an idle link, as the C routers have it.
DEFAULT_LINK_CAPACITY: Final = 250
# A message without target address names it in its properties; so much may come before them, in octets.
MAX_BEFORE_PROPERTIES: Final = 1048576
# How often streams are looked at, in seconds: the time-out may take this much longer.
STALL_CHECK_INTERVAL: Final = 1.0
# How often idle streaming links are looked at, in seconds (as the C routers do).
STREAM_CLOSE_INTERVAL: Final = 30.0
# Annotations of so many kinds are remembered: one kind for each sender and way. Beyond that all are worked out anew.
MAX_ANNOTATIONS = 4096
# Longer sections than this, in octets, are worked out each time: otherwise a peer could have 4096 of 64 KiB kept.
MAX_REMEMBERED_SECTION: Final = 4096
# Neighbours of another kind look at what has changed once a second; some news takes two looks.
FOREIGN_FLUX_SECONDS: Final = 2.0
# While the network's width is not known yet, a delivery may pass this many routers.
LEAST_MAX_HOPS: Final = 8
# A C router drops a message that has passed more routers than its network was wide at the last tick, and one. When a
# path has died, that are the very messages that tell of it: it went on for seconds without them. So it is shown so many
# routers of the trace at most, which is never too many; going round is prevented by the routers of our kind.
FOREIGN_TRACE: Final = 2
# A sender whose target has this capability wants released deliveries tried at other destinations.
RESEND_CAPABILITY: Final = "qd.resend-released"
# The addresses of the router's own nodes: who receives there first, which is the router's agent, is the only one.
OWN_NODES: Final = frozenset({"M$management", "L$management"})
# Addresses by which routers of ours tell all others of something, such as their services.
BETWEEN_ROUTERS: Final = "Mmc/van."

LinkOwner = IncomingLink | OutgoingLink | ControlReceiver | ControlSender


def nobody_logs(level: str, event: str, **fields: object) -> None:
    """Stand in for `log` where nobody keeps one."""


class Router(LinkStateOwner):
    """The core of one router.

    id: the router's name in its network. mode: only an `interior` router has neighbours, and then an `engine`.
    instance: when it was started, in seconds since 1970; sequence: where its sequence numbers begin; timers: of the
    link state engine. tokens: makes unique short texts for temporary addresses. addresses: what the
    configuration says of distribution. stream_stall_seconds: after this a stream that does not grow, and holds others
    up, is given up. `now` is the time of the last batch, in seconds of the driver's clock. While
    it is `ending`, nobody gets credit.
    """

    default_mode: ClassVar[str] = "standalone"

    def __init__(
        self,
        id: str,  # noqa: A002 - the attribute's name in the routers' own configuration
        *,
        tokens: Callable[[], str],
        addresses: Iterable[AddressConfig] = (),
        default_distribution: Distribution = Distribution.BALANCED,
        budget: ByteBudget | None = None,
        stream_stall_seconds: float = 30.0,
        mode: str = "",
        instance: int = 0,
        sequence: int = 0,
        timers: Timers | None = None,
        log: Callable[..., None] = nobody_logs,
        now: float = 0.0,
    ) -> None:
        self.id = id
        self.mode = mode or self.default_mode
        self.node = f"{AREA}/{id}"
        self._log = log
        self.tokens = tokens
        self.default_distribution = default_distribution
        self.budget = budget if budget is not None else ByteBudget()
        self.stream_stall_seconds = stream_stall_seconds
        self.now = now
        self.ending = False
        self.addresses: dict[str, Address] = {}
        self.address_watchers: list[AddressWatcher] = []
        # How many addresses there were that are no more; whoever counts them sets it back.
        self.forgotten = 0
        self.streams: dict[IncomingLink, Delivery] = {}
        self.patterns = PatternTable()
        for config in addresses:
            self.patterns.add(config)
        self.auto_links = AutoLinks()
        self._touched: list[Adaptor] = []
        self._touched_light: list[Adaptor] = []
        self.past = Tally()
        self._anonymous = Address("", Distribution.BALANCED, self._forward_anonymous, None)
        self._next_stall_check = inf
        self._next_stream_close = inf
        # Other routers.
        self.neighbors: dict[int, Neighbor] = {}
        # Edge routers that are connected here; of an edge router, its interior ones.
        self.edge_peers: dict[int, EdgePeer] = {}
        self.routes_version = 0
        # Until then neighbours of another kind may not know the ways that are new.
        self.flux_ends = -inf
        # Addresses that live elsewhere, and to which there was no way when somebody sent to them.
        self.starved: dict[Address, None] = {}
        self._reached: set[str] = set()
        self._only: dict[str, dict[str, None]] = {}
        self.max_hops = LEAST_MAX_HOPS
        self.annotations: dict[bytes, Annotations] = {}
        self.own_octets = Holder()
        self.dropped_presettled = 0
        self._prepare()
        self.no_annotations = self.prepared(Annotations())
        self._by_text: dict[str, Annotations] = {}
        self.routed = Address("", Distribution.BALANCED, self._forward_routed, None)
        self.engine: LinkStateEngine | None = None
        if self.mode == "interior":
            self.engine = LinkStateEngine(id, self, instance=instance, sequence=sequence, timers=timers, now=now)

    def _prepare(self) -> None:
        """Set up what a kind of router has beside this."""

    # -- waking --------------------------------------------------------------------------------------------------

    def touch(self, adaptor: Adaptor) -> None:
        """Note that an adaptor may have something to write."""
        if adaptor.light:
            self._touched_light.append(adaptor)
        else:
            self._touched.append(adaptor)

    def wake_touched(self) -> None:
        """Wake every adaptor that was touched, until none is left: flushing one may touch others.

        Light ones come first, so that what many of them have to say on one connection is written at once.
        """
        touched = self._touched
        light = self._touched_light
        while touched or light:
            (light or touched).pop().on_wake()
        budget = self.budget
        budget.batch_over()
        if budget.waiting:
            # Once a batch: what the retried sessions write frees nothing.
            budget.retry(self.now)
            while touched or light:
                (light or touched).pop().on_wake()

    # -- addresses -----------------------------------------------------------------------------------------------

    def address(self, text: str) -> Address:
        """The address that `text` names, made if it is new."""
        key = address_key(text, self.id)
        address = self.addresses.get(key)
        return address if address is not None else self._make_address(key, None)

    def _make_address(self, key: str, hint: Distribution | None) -> Address:
        """A new address; `hint` is how the router that has it distributes it."""
        distribution, priority = self._treatment(key, hint)
        address = Address(key, distribution, FORWARDERS[distribution], priority, self.budget.copied)
        self.addresses[key] = address
        for watcher in self.address_watchers:
            watcher.made(address)
        return address

    def use_patterns(self, patterns: PatternTable) -> None:
        """Have other patterns say how addresses that will be made are distributed."""
        self.patterns = patterns
        for watcher in self.address_watchers:
            watcher.patterns_changed()

    def _treatment(self, key: str, hint: Distribution | None) -> tuple[Distribution, int | None]:
        if key[0] == "M":
            if key.startswith("M$"):
                # The router's own nodes, in every router: no configuration makes them anything else.
                return Distribution.CLOSEST, None
            if key.startswith(BETWEEN_ROUTERS):
                return Distribution.MULTICAST, None
            config = self.patterns.match(strip_address(key[1:]).removeprefix(WAYPOINT))
            if config is not None:
                return config.distribution, config.priority
            return hint if hint is not None else self.default_distribution, None
        return Distribution.BALANCED, None

    def receiving(self, text: str) -> str:
        """The address from which those get who receive from `text`: of a waypoint, what its broker gives goes there."""
        if not self.patterns.waypoints:
            return text
        plain = strip_address(text)
        config = self.patterns.match(plain) if plain[:1] not in ("_", "$") else None
        return WAYPOINT + plain if config is not None and config.waypoint else text

    def release(self, address: Address) -> None:
        """Forget an address that nobody uses any more."""
        if address.unused() and self.addresses.get(address.key) is address:
            del self.addresses[address.key]
            self.forgotten += 1
            for watcher in self.address_watchers:
                watcher.forgotten(address)

    def temporary_address(self, mobile: bool) -> str:
        """A new address for a dynamic terminus: local to this router for receivers, `mobile` for senders."""
        token = self.tokens()
        return f"amqp:/_$temp.{token}" if mobile else f"amqp:/_topo/{AREA}/{self.id}/temp.{token}"

    # -- links ---------------------------------------------------------------------------------------------------

    def attach_incoming(
        self,
        link: ReceiverLink,
        text: str,
        capacity: int = DEFAULT_LINK_CAPACITY,
        limit: int = 0,
        *,
        broker: bool = False,
    ) -> IncomingLink:
        """Take a link that deliveries come in by; an empty `text` is the anonymous terminus.

        capacity: its credit when it is idle, which grows up to `limit` while its deliveries are settled swiftly.
        broker: it is an auto-link's, and what it brings goes to those who receive from a waypoint.

        Raises `AmqpLinkError` when the address cannot be had.
        """
        if not text:
            incoming = IncomingLink(self, link, self._anonymous, capacity, True)
            incoming.limit = max(capacity, limit)
            link.sink = incoming
            return incoming
        if broker:
            text = self.receiving(text)
        incoming = self._incoming(link, self.usable(text), capacity, broker)
        incoming.limit = max(capacity, limit)
        if broker:
            # Its target says nothing of where in the network its deliveries go.
            incoming.annotations = self.annotations_to(text)
        incoming.address.add_incoming(incoming)
        link.sink = incoming
        for watcher in self.address_watchers:
            watcher.sender_attached(incoming)
        return incoming

    def _incoming(self, link: ReceiverLink, address: Address, capacity: int, broker: bool) -> IncomingLink:
        """The core's end of a link that deliveries to one address come in by."""
        if broker:
            return BrokerLink(self, link, address, capacity, False)
        if RESEND_CAPABILITY in _target_capabilities(link):
            return ResendingLink(self, link, address, capacity, False)
        return IncomingLink(self, link, address, capacity, False)

    def attach_outgoing(
        self, link: SenderLink, text: str, capacity: int = DEFAULT_LINK_CAPACITY, *, broker: bool = False
    ) -> OutgoingLink:
        """Take a link that deliveries go out by. Raises `AmqpLinkError` when the address cannot be had.

        broker: it is an auto-link's, and takes what is sent to a waypoint.
        """
        outgoing = OutgoingLink(link, self.received(text if broker else self.receiving(text)), capacity)
        link.source = outgoing
        if outgoing.address.priority is not None:
            link.priority = outgoing.address.priority
        return outgoing

    def started(self, link: LinkOwner) -> None:
        """The link's Attach has been written: credit may flow, and deliveries may come."""
        if isinstance(link, RouterOutgoingLink):
            neighbor = link.neighbor
            first = not neighbor.by_priority
            neighbor.data_changed()
            if first and neighbor.by_priority:
                # Until now nothing could be sent there, and who tried has noted it.
                self.routes_version += 1
                self._feed_starved()
        elif isinstance(link, OutgoingLink):
            link.address.add_outgoing(link)
            self.advertise(link.address)
        elif isinstance(link, ControlReceiver):
            link.credit(link.capacity)
            if link.neighbor.control_out is not None:
                # It may have had its credit before.
                link.neighbor.control_out.credit_changed(link.neighbor.control_out.link)
        elif isinstance(link, ControlSender):
            link.credit_changed(link.link)
        elif link.anonymous or link.address.reachable():
            link.unblock()

    def withdraw(self, link: IncomingLink | OutgoingLink) -> None:
        """A sender or a receiver is about to go: the one is asked for its credit, the other gets nothing more.

        What was not sent to a receiver yet is released; what was sent either way can still be settled.
        """
        if isinstance(link, IncomingLink):
            # Nobody who comes now gives it credit again.
            link.address.remove_incoming(link)
            link.hold_back()
        else:
            link.address.remove_outgoing(link)
            link.release_waiting()
            self.withdrawn(link)

    def withdrawn(self, link: OutgoingLink) -> None:
        """Others are told of a receiver that is about to go."""
        self.advertise(link.address)

    def detached(self, link: LinkOwner) -> None:
        """The link is gone, whatever the reason."""
        if isinstance(link, RouterOutgoingLink):
            self._data_link_lost(link)
        elif isinstance(link, (ControlReceiver, ControlSender)):
            self.neighbor_lost(link.neighbor)
        else:
            self.past.add(link)
            link.lost()
            address = link.address
            if isinstance(link, OutgoingLink):
                self.advertise(address)
            else:
                for watcher in self.address_watchers:
                    watcher.sender_gone(link)
            self.release(address)

    def moved(self, link: OutgoingLink, text: str) -> None:
        """A receiver that was withdrawn receives from a new address."""
        link.address = self.address(text)
        self.started(link)

    def retire(self, link: OutgoingLink) -> None:
        """Send nothing more to a link, which stays for what it has."""
        address = link.address
        address.remove_outgoing(link)
        self.advertise(address)
        self.release(address)

    def session_lost(self, session: Session, links: Iterable[LinkOwner]) -> None:
        """All these links of a session will be detached: what is unsettled is looked at once, not for each link."""
        for link in links:
            if isinstance(link, IncomingLink):
                link.gone = True
        for delivery in take_all(session.unsettled_out):
            sender = delivery.sender
            if sender is not None and isinstance(sender.source, OutgoingLink):
                sender.source.give_up(delivery, delivery.state if delivery.state is not None else FAILED)
        for delivery in take_all(session.unsettled_in):
            receiver = delivery.receiver
            if receiver is not None and isinstance(receiver.sink, IncomingLink):
                receiver.sink.settle_alone(delivery)

    def received(self, text: str) -> Address:
        """The address that a receiver here asks for. Raises `AmqpLinkError` when it cannot be had."""
        address = self.usable(text)
        if address.key[0] in "RH":
            self.release(address)
            raise AmqpLinkError(ErrorCondition.NOT_FOUND, f"what is sent to {text} goes to another router")
        if address.key in OWN_NODES and address.outgoing:
            # Whoever receives there hears what others ask the router, and could answer in its place.
            raise AmqpLinkError(ErrorCondition.NOT_ALLOWED, f"{text} is a node of the router itself")
        return address

    def usable(self, text: str) -> Address:
        if len(text) > MAX_ADDRESS_LENGTH:
            raise AmqpLinkError(
                ErrorCondition.INVALID_FIELD, f"an address of more than {MAX_ADDRESS_LENGTH} characters"
            )
        key = address_key(text, self.id)
        if len(key) < 2 or key[0] in "TA" or (key[0] in "RH" and self.engine is None):
            raise AmqpLinkError(ErrorCondition.NOT_FOUND, f"no such node: {text}")
        address = self.address(text)
        if address.distribution is Distribution.UNAVAILABLE:
            self.release(address)
            raise AmqpLinkError(
                ErrorCondition.NOT_FOUND, f"node not found: address {text} is configured as unavailable"
            )
        return address

    # -- neighbours ----------------------------------------------------------------------------------------------

    def neighbor_opened(
        self, number: int, router_id: str, cost: int, *, van: bool, streams: StreamOpener
    ) -> Neighbor:
        """A connection to another router is open; it counts when its control links have credit.

        number: the connection's. router_id: the peer's container-id. van: whether it is a router of our kind.
        """
        neighbor = Neighbor(self, number, router_id, cost, van, streams)
        self.neighbors[number] = neighbor
        return neighbor

    def neighbor_of(self, router_id: str) -> Neighbor | None:
        """The neighbour of that id, on the first of its connections."""
        return next((neighbor for neighbor in self.neighbors.values() if neighbor.router_id == router_id), None)

    def attach_control_incoming(
        self, neighbor: Neighbor, link: ReceiverLink, capacity: int = DEFAULT_LINK_CAPACITY
    ) -> ControlReceiver:
        """Take the link that a neighbour's control messages come by."""
        receiver = ControlReceiver(self, neighbor, link, capacity)
        neighbor.control_in = receiver
        link.sink = receiver
        return receiver

    def attach_control_outgoing(self, neighbor: Neighbor, link: SenderLink) -> ControlSender:
        """Take the link that our control messages leave by."""
        sender = ControlSender(self, neighbor, link)
        neighbor.control_out = sender
        link.source = sender
        return sender

    def attach_data_incoming(
        self, neighbor: Neighbor | None, link: ReceiverLink, capacity: int = DEFAULT_LINK_CAPACITY
    ) -> RouterIncomingLink:
        """Take a link that a neighbour sends deliveries by; None where its control connection is not there yet."""
        incoming = RouterIncomingLink(self, link, self.routed, capacity, neighbor)
        link.sink = incoming
        return incoming

    def attach_data_outgoing(self, neighbor: Neighbor, link: SenderLink, priority: int | None) -> RouterOutgoingLink:
        """Take a link that deliveries of one priority leave by; a streaming link where `priority` is None."""
        outgoing = RouterOutgoingLink(link, self.routed, DEFAULT_LINK_CAPACITY, neighbor)
        link.source = outgoing
        if priority is None:
            neighbor.stream_links.append(outgoing)
            self.stream_opened()
        else:
            link.priority = priority
            neighbor.data[priority] = outgoing
        return outgoing

    def stream_opened(self) -> None:
        """A streaming link was opened: idle ones will be looked at."""
        self._next_stream_close = min(self._next_stream_close, self.now + STREAM_CLOSE_INTERVAL)

    def control_ready(self, neighbor: Neighbor) -> None:
        """Control messages can be sent: the neighbour counts, if they can also be received."""
        if neighbor.up or not neighbor.alive or neighbor.control_in is None or self.engine is None:
            return
        neighbor.up = True
        self.routes_version += 1
        self.engine.neighbor_up(neighbor.number, neighbor.router_id, neighbor.cost, self.now)

    def neighbor_lost(self, neighbor: Neighbor) -> None:
        """The connection, or a control link of it, is gone: nothing takes this way from now on."""
        if not neighbor.alive:
            return
        neighbor.alive = False
        self.neighbors.pop(neighbor.number, None)
        self.routes_version += 1
        if neighbor.up and self.engine is not None:
            neighbor.up = False
            self.engine.neighbor_down(neighbor.number, self.now)

    def _data_link_lost(self, link: RouterOutgoingLink) -> None:
        neighbor = link.neighbor
        if link in neighbor.stream_links:
            neighbor.stream_links.remove(link)
        else:
            neighbor.data = [other if other is not link else None for other in neighbor.data]
            neighbor.data_changed()
            self.routes_version += 1
        link.lost()

    # -- what the link state engine has to say ---------------------------------------------------------------------

    def send_control(self, neighbor: int, message: ControlMessage) -> None:
        """Write a control message on a neighbour's control link."""
        known = self.neighbors.get(neighbor)
        if known is None or known.control_out is None:
            return
        if not known.van and len(message.trace) > FOREIGN_TRACE:
            message = ControlMessage(message.to, message.ingress, message.trace[-FOREIGN_TRACE:], message.body)
        known.control_out.send(message)

    def routes_changed(self) -> None:
        """The ways through the network are different now."""
        engine = self.engine
        assert engine is not None
        self.routes_version += 1
        self.max_hops = max(engine.radius + 1, LEAST_MAX_HOPS)
        self.flux_ends = self.now + FOREIGN_FLUX_SECONDS
        reached = {node.id for node in engine.nodes.values() if node.reachable}
        for router_id in reached - self._reached:
            self._found_at("R" + router_id, router_id, None)
        for router_id in self._reached - reached:
            self._gone_from("R" + router_id, router_id)
            self._only.pop(router_id, None)
        self._reached = reached
        self._feed_starved()
        # Behind the new ways: what was not sent to a silent neighbour yet is to take one of them.
        for neighbor in list(self.neighbors.values()):
            known = engine.neighbors.by_number.get(neighbor.number)
            if known is not None and not known.established:
                neighbor.fell_silent()

    def _feed_starved(self) -> None:
        """Give senders credit whose addresses can be reached again."""
        for address in [address for address in self.starved if address.reachable()]:
            del self.starved[address]
            address.found()

    def addresses_changed(self, router_id: str, added: list[MobileAddress], removed: list[str]) -> None:
        """A router that can be reached has receivers for addresses, or has them no more."""
        for mobile in added:
            if _is_advertised(mobile.key):
                self._found_at(mobile.key, router_id, DISTRIBUTIONS.get(mobile.treatment))
        for key in removed:
            if _is_advertised(key):
                self._gone_from(key, router_id)

    def log(self, level: str, event: str, **fields: object) -> None:
        """Write to the log."""
        self._log(level, event, **fields)

    def knows(self, router_id: str) -> bool:
        """Whether there is such a router in the network, this one included."""
        return router_id == self.id or (self.engine is not None and router_id in self.engine.nodes)

    def only(self, router_id: str) -> dict[str, None]:
        """A set of this router's id alone, the same for all addresses that only it has."""
        return self._only.setdefault(router_id, {router_id: None})

    def _found_at(self, key: str, router_id: str, hint: Distribution | None) -> None:
        address = self.addresses.get(key)
        if address is None:
            address = self._make_address(key, hint)
        remote = address.remote
        if remote is None:
            remote = address.remote = RemoteDestinations(self, address)
        first = not remote.routers
        remote.add(router_id)
        if first:
            address.found()
        if address.edges is not None:
            address.edges.changed()

    def _gone_from(self, key: str, router_id: str) -> None:
        address = self.addresses.get(key)
        if address is not None and address.remote is not None:
            address.remote.remove(router_id)
            if not address.remote.routers:
                self.starved.pop(address, None)
                address.lost_one()
            if address.edges is not None:
                address.edges.changed()
            self.release(address)

    def advertise(self, address: Address) -> None:
        """Tell the other routers of an address that has its first receiver, or lost its last."""
        edges = address.edges
        if edges is not None:
            edges.changed()
        engine = self.engine
        key = address.key
        if engine is None or not _is_advertised(key):
            return
        links = len(address.outgoing)
        if links and (not address.advertised or (edges is not None and edges.mesh != edges.mesh_advertised)):
            address.advertised = True
            mesh = None
            if edges is not None:
                mesh = edges.mesh_advertised = edges.mesh
            engine.advertise(key, TREATMENTS[address.distribution], len(address.incoming), mesh)
        elif not links and address.advertised:
            address.advertised = False
            engine.withdraw(key)

    # -- annotations ---------------------------------------------------------------------------------------------

    def annotations_of(self, section: bytes) -> Annotations:
        """What a section of router annotations says; that of a delivery without one where it is empty.

        Raises DecodeError.
        """
        if not section:
            return self.no_annotations
        known = self.annotations.get(section)
        if known is None:
            known = self.prepared(decode_annotations(section))
            if len(section) > MAX_REMEMBERED_SECTION:
                return known
            if len(self.annotations) >= MAX_ANNOTATIONS:
                self.annotations.clear()
            self.annotations[section] = known
        return known

    def prepared(self, annotations: Annotations) -> Annotations:
        to = annotations.to_override
        annotations.key = address_key(to, self.id) if to else None
        annotations.origin = router_of(annotations.ingress)
        annotations.hops = tuple([router_of(hop) for hop in annotations.trace])
        annotations.forwarded = self._section(annotations, annotations.flags)
        return annotations

    def _section(self, annotations: Annotations, flags: int) -> bytes:
        return encode_annotations(
            flags,
            annotations.to_override,
            annotations.ingress or self.node,
            (*annotations.trace, self.node),
            annotations.mesh,
        )

    def streaming_section(self, annotations: Annotations) -> bytes:
        """The section of a delivery that is sent on before it has come whole."""
        if not annotations.streaming:
            annotations.streaming = self._section(annotations, annotations.flags | STREAMING)
        return annotations.streaming

    def section_in_flux(self, annotations: Annotations) -> bytes:
        """The section of an anycast delivery to a neighbour that learns of new ways only at its tick.

        It names no ingress: until then the neighbour would hold the true one against the old ways, and release what
        comes by the new one. A circle ends by its trace.
        """
        if not annotations.in_flux:
            trace = (*annotations.trace, self.node)
            to = annotations.to_override
            annotations.in_flux = encode_annotations(annotations.flags, to, None, trace, annotations.mesh)
        return annotations.in_flux

    def presettled(self, annotations: Annotations) -> Annotations:
        """The annotations of a pre-settled delivery that is sent on unsettled."""
        if annotations.flags & PRESETTLED:
            return annotations
        flagged = annotations.presettled
        if flagged is None:
            flagged = annotations.presettled = self.prepared(
                Annotations(
                    annotations.flags | PRESETTLED,
                    annotations.to_override,
                    annotations.ingress,
                    annotations.trace,
                    annotations.mesh,
                )
            )
        return flagged

    def origin_annotations(self, delivery: Delivery) -> Annotations:
        """What other routers are told of a delivery that came into the network here."""
        incoming = delivery.origin
        if not isinstance(incoming, IncomingLink) or incoming.anonymous:
            return self.no_annotations
        annotations = incoming.annotations
        if annotations is None:
            local = incoming.link.local
            target = local.target if local is not None else None
            text = target.address if isinstance(target, Target) else None
            flags = RESEND_RELEASED if isinstance(incoming, ResendingLink) else 0
            annotations = incoming.annotations = self.prepared(Annotations(flags, text))
        return annotations

    def annotations_to(self, text: str) -> Annotations:
        """What other routers are told of a delivery from an anonymous sender here."""
        annotations = self._by_text.get(text)
        if annotations is None:
            if len(self._by_text) >= MAX_ANNOTATIONS:
                self._by_text.clear()
            annotations = self._by_text[text] = self.prepared(Annotations(0, text))
        return annotations

    # -- deliveries that say themselves where they go ----------------------------------------------------------------

    def _forward_anonymous(self, pseudo: Address, delivery: Delivery) -> None:
        """Send a delivery to the address that its own properties name (`to`)."""
        if delivery.origin is None:
            return
        to = self._to_of(delivery)
        if to is None:
            return
        address = self.addresses.get(address_key(to, self.id))
        if address is None:
            no_destination(pseudo, delivery)
        else:
            if delivery.annotations is None and (address.remote is not None or address.edges is not None):
                delivery.annotations = self.annotations_to(to)
            address.forward(address, delivery)

    def _forward_routed(self, pseudo: Address, delivery: Delivery) -> None:
        """Send a delivery that came from another router to where its annotations say."""
        incoming = delivery.origin
        annotations: Annotations | None = delivery.annotations
        if annotations is None:
            assert isinstance(incoming, RouterIncomingLink)
            annotations = incoming.take_annotations(delivery)
            if annotations is None:
                return
        if delivery.settled and not delivery.more and isinstance(incoming, RouterIncomingLink):
            incoming.settled_waiting += 1
        self.forward_routed(delivery)

    def forward_routed(self, delivery: Delivery) -> None:
        """Send a delivery to where its annotations, or else its properties, say."""
        annotations: Annotations = delivery.annotations
        key = annotations.key
        if key is None:
            to = self._to_of(delivery)
            if to is None:
                return
            key = address_key(to, self.id)
        address = self.addresses.get(key)
        if address is None or len(annotations.trace) > self.max_hops:
            no_destination(self.routed, delivery)
            return
        self.forward_to(address, delivery)

    def forward_to(self, address: Address, delivery: Delivery) -> None:
        """Send a delivery that came from another router to an address, as its annotations' flags want it."""
        annotations: Annotations = delivery.annotations
        if delivery.chunks is None and not delivery.settled:
            if annotations.flags & PRESETTLED:
                delivery = SettledInside(delivery).inner()
            elif annotations.flags & RESEND_RELEASED and address.distribution in ANYCAST:
                Retrier(address, delivery).try_next()
                return
        address.forward(address, delivery)

    def _to_of(self, delivery: Delivery) -> str | None:
        """The `to` of a delivery's properties; None when they have not come yet, or it was refused for them."""
        try:
            to = read_to(delivery.data(), not delivery.more)
        except IncompleteMessageError as cut:
            # Its properties have not come yet: the next frame is another chance.
            if not delivery.more or sum(map(len, delivery.chunks or ())) > MAX_BEFORE_PROPERTIES:
                self._refuse(delivery, ErrorCondition.DECODE_ERROR, cut.description)
            return None
        except DecodeError as error:
            self._refuse(delivery, ErrorCondition.DECODE_ERROR, error.description)
            return None
        if not to:
            self._refuse(delivery, ErrorCondition.PRECONDITION_FAILED, "no address: the message has no `to`")
            return None
        if len(to) > MAX_ADDRESS_LENGTH:
            # A host in front of the address may be of any length, and what is worked out for a text is kept.
            text = f"an address of more than {MAX_ADDRESS_LENGTH} characters"
            self._refuse(delivery, ErrorCondition.INVALID_FIELD, text)
            return None
        return to

    def _refuse(self, delivery: Delivery, condition: str, description: str) -> None:
        drop_payload(delivery)
        origin = delivery.origin
        if origin is None:
            return
        if not delivery.settled:
            origin.outcome(delivery, Rejected(error=Error(condition=condition, description=description)), True)
        elif not delivery.more:
            origin.left(delivery)

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called: for the link state, for streams, and while memory is short."""
        if not self.streams:
            self._next_stall_check = inf
        elif self._next_stall_check == inf:
            self._next_stall_check = self.now + STALL_CHECK_INTERVAL
        deadline = min(self._next_stall_check, self._next_stream_close, self.budget.next_deadline(self.now))
        engine = self.engine
        return deadline if engine is None else min(deadline, engine.next_deadline())

    def handle_deadline(self, now: float) -> None:
        """Keep the link state going; give up streams that have stalled and hold others up; take back idle windows."""
        self.now = now
        engine = self.engine
        if engine is not None and now >= engine.next_deadline():
            engine.handle_deadline(now)
        self.budget.handle_deadline(now)
        if now >= self._next_stream_close:
            self._next_stream_close = inf
            peers: list[Neighbor | EdgePeer] = [*self.neighbors.values(), *self.edge_peers.values()]
            for peer in peers:
                peer.close_idle_streams()
                if peer.stream_links:
                    self._next_stream_close = now + STREAM_CLOSE_INTERVAL
        if now < self._next_stall_check:
            return
        self._next_stall_check = inf
        for incoming, delivery in list(self.streams.items()):
            target = delivery.target
            # What waits for its receiver does not wait for its sender.
            late = now >= incoming.grown_at + self.stream_stall_seconds and not delivery.chunks
            if late and target is not None and target.others_wait():
                incoming.stalled(delivery)


class ResendingLink(IncomingLink):
    """A link whose sender wants deliveries that were released tried at other destinations."""

    __slots__ = ()

    def deliver(self, delivery: Delivery) -> None:
        address = self.address
        whole = delivery.chunks is None and not delivery.aborted
        if whole and not delivery.settled and address.distribution in ANYCAST:
            delivery.origin = self
            Retrier(address, delivery).try_next()
        else:
            super().deliver(delivery)

    def deliver_run(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.deliver(delivery)


class BrokerLink(IncomingLink):
    """A link of a broker: what nobody receives is better kept there, and it may not know every outcome.

    Where its source says that it does not know modified (3.5.3), it hears released.
    """

    __slots__ = ("_modifies",)

    def __init__(self, router: Router, link: ReceiverLink, address: Address, capacity: int, anonymous: bool) -> None:
        super().__init__(router, link, address, capacity, anonymous)
        source = link.remote.source if link.remote is not None else None
        outcomes = source.outcomes if isinstance(source, Source) else None
        self._modifies = not outcomes or Modified.NAME in outcomes

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        if type(state) is Modified and not self._modifies:
            state = RELEASED
        super().outcome(delivery, state, settled)

    def unreachable(self) -> None:
        # Others learn it from the first delivery that finds nobody; a broker would count that, or give it to nobody.
        self.starve()


def _is_advertised(key: str) -> bool:
    """Whether routers tell one another of an address: nobody may take part in what belongs to one router alone."""
    return key[:1] in ("M", "H") and not key.startswith("M$")


def _target_capabilities(link: ReceiverLink) -> list[str]:
    target = link.remote.target if link.remote is not None else None
    return list(target.capabilities or ()) if isinstance(target, Target) else []


def take_all(unsettled: dict[int, Delivery]) -> list[Delivery]:
    """Empty a session's map of unsettled deliveries; return what it held."""
    deliveries = list(unsettled.values())
    unsettled.clear()
    return deliveries
