"""Neighbours: connections to other routers, as the core sees them.

An adaptor of role inter-router opens or accepts the links and hands them over here: control messages go to the link
state engine, data links take deliveries by priority, large deliveries take links of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from van.amqp.delivery import Delivery, DeliverySink, DeliverySource
from van.amqp.errors import DecodeError
from van.amqp.message import read_to
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.routing.dialect.annotations import encode_annotations, section_end
from van.routing.link_state.messages import ControlMessage

if TYPE_CHECKING:
    from van.routing.router import Router
    from van.routing.router_link import LinkOfMany, RouterOutgoingLink

LinkT = TypeVar("LinkT", bound="LinkOfMany")

PRIORITIES: Final = 10
# The largest control message that is taken, in octets: an absolute update of some 100 000 addresses.
MAX_CONTROL_MESSAGE = 16 * 1024 * 1024
# Control messages that wait for a neighbour that takes none: it will be given up for its silence soon.
MAX_CONTROL_BACKLOG = 10_000
# Control links come before every priority of data.
CONTROL_PRIORITY: Final = 10
# Streaming links that lie idle on one connection beyond this are closed (as the C routers do), and at most so many are
# opened.
MAX_IDLE_STREAMS = 128
MAX_STREAMS = 4096


class StreamOpener:
    """What a neighbour's connection can do for the core; the adaptor implements it."""

    __slots__ = ()

    def open_stream(self) -> RouterOutgoingLink | None:
        """Open a streaming link: attach a sender and return what `Router.attach_data_outgoing` made of it.

        The peer need not have answered: deliveries wait on the link. None when the connection cannot have another.
        """
        raise NotImplementedError

    def close_stream(self, link: RouterOutgoingLink) -> None:
        """Detach a streaming link that is not needed any more."""
        raise NotImplementedError


class Neighbor:
    """One inter-router connection.

    `number` is the connection's, `router_id` the peer's container-id, `cost` the agreed one. `van` says that the peer
    is a router of our kind. `data` holds the links we send by, one per priority where the peer has them;
    `by_priority` the one to take for each priority (empty while there is none). `up` is set while the link state engine
    knows of it.
    """

    __slots__ = (
        "alive",
        "by_priority",
        "control_in",
        "control_out",
        "cost",
        "data",
        "number",
        "router",
        "router_id",
        "stream_links",
        "streams",
        "up",
        "van",
    )

    def __init__(
        self, router: Router, number: int, router_id: str, cost: int, van: bool, streams: StreamOpener
    ) -> None:
        self.router = router
        self.number = number
        self.router_id = router_id
        self.cost = cost
        self.van = van
        self.streams = streams
        self.control_in: ControlReceiver | None = None
        self.control_out: ControlSender | None = None
        self.data: list[RouterOutgoingLink | None] = [None] * PRIORITIES
        self.by_priority: list[RouterOutgoingLink] = []
        self.stream_links: list[RouterOutgoingLink] = []
        self.alive = True
        self.up = False

    def data_changed(self) -> None:
        """Links came or went: a priority that has none takes the next lower, or else the lowest there is."""
        present = [link for link in self.data if link is not None]
        by_priority: list[RouterOutgoingLink] = []
        if present:
            best = present[0]
            for link in self.data:
                if link is not None:
                    best = link
                by_priority.append(best)
        self.by_priority = by_priority

    def fell_silent(self) -> None:
        """No HELLO has come for too long: what this neighbour has is in doubt, what waits for it takes another way."""
        for link in [*self.data, *self.stream_links]:
            if link is not None:
                link.fell_silent()

    def stream_link(self) -> RouterOutgoingLink | None:
        """A link for a streaming delivery."""
        return stream_of(self.stream_links, self.streams.open_stream)

    def close_idle_streams(self) -> None:
        """Close streaming links that were needed once and are not now."""
        for link in spare_streams(self.stream_links):
            self.streams.close_stream(link)


def stream_of(links: Sequence[LinkT], open_stream: Callable[[], LinkT | None]) -> LinkT | None:
    """A link for a streaming delivery: an idle one, a new one, or else the one with the least to do."""
    for link in links:
        if link.idle:
            return link
    opened = open_stream() if len(links) < MAX_STREAMS else None
    return opened if opened is not None else min(links, key=lambda link: link.outstanding, default=None)


def spare_streams(links: Sequence[LinkT]) -> list[LinkT]:
    """Idle streaming links beyond those that are kept for what may come."""
    return [link for link in links if link.idle][MAX_IDLE_STREAMS:]


class ControlReceiver(DeliverySink):
    """The link that a neighbour's control messages come by; other messages on it are routed as on a data link.

    Control messages are pre-settled; of an unsettled one nobody hears.
    """

    __slots__ = ("capacity", "link", "neighbor", "owed", "router")

    def __init__(self, router: Router, neighbor: Neighbor, link: ReceiverLink, capacity: int) -> None:
        self.router = router
        self.neighbor = neighbor
        self.link = link
        self.capacity = capacity
        self.owed = 0

    def deliver(self, delivery: Delivery) -> None:
        if delivery.chunks is None:
            self._take(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        chunks = delivery.chunks
        if chunks is not None and self.link.current_size > MAX_CONTROL_MESSAGE:
            delivery.holder.held -= sum(len(chunk) for chunk in chunks)
            delivery.chunks = chunks = None
            self.router.log("warning", "control message dropped, it is too large", peer=self.neighbor.router_id)
            self._swallow(delivery)
        if delivery.more:
            return
        if chunks is None:
            self.credit(1)
        else:
            delivery.payload = b"".join(chunks)
            delivery.chunks = None
            self._take(delivery)

    def abort(self, delivery: Delivery) -> None:
        chunks = delivery.chunks
        if chunks is not None:
            delivery.holder.held -= sum(len(chunk) for chunk in chunks)
            delivery.chunks = None
        self.credit(1)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """Nothing is owed for control messages."""

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        if settled:
            self.link.session.settle(delivery, state)
        else:
            self.link.update(delivery, state)

    def left(self, delivery: Delivery) -> None:
        """A pre-settled delivery that was no control message has left."""

    def flow_received(self, link: ReceiverLink, returned: int) -> None:
        if returned:
            self.credit(returned)

    def credit(self, count: int) -> None:
        """Give credit back: a quarter of the capacity at a time."""
        self.owed += count
        if self.owed * 4 >= self.capacity:
            self.link.grant(self.owed)
            self.owed = 0

    def _take(self, delivery: Delivery) -> None:
        payload = delivery.payload
        delivery.holder.held -= len(payload)
        self.credit(1)
        if delivery.aborted:
            delivery.payload = b""
            return
        router = self.router
        try:
            end = section_end(payload)
            annotations = router.annotations_of(payload[:end])
            body = payload[end:]
            to = annotations.to_override or read_to(body) or ""
        except DecodeError as error:
            router.log(
                "warning", "control message dropped", peer=self.neighbor.router_id, reason=error.description
            )
            self._swallow(delivery)
            return
        finally:
            delivery.payload = b""
        if not is_control_address(to):
            delivery.holder.held += len(body)
            delivery.payload = body
            delivery.annotations = annotations
            delivery.origin = self
            router.forward_routed(delivery)
            return
        self._swallow(delivery)
        engine = router.engine
        if engine is not None:
            ingress = annotations.ingress
            engine.receive(self.neighbor.number, ControlMessage(to, ingress, annotations.trace, body), router.now)

    def _swallow(self, delivery: Delivery) -> None:
        """Nobody will settle it: it is not kept for that."""
        if not delivery.settled:
            self.link.session.forget_incoming(delivery)


def is_control_address(to: str) -> bool:
    """Whether a message to this address is for the link state engine of some router."""
    return to.endswith(("/qdrouter", "/qdrouter.ma", "/qdhello"))


class ControlSender(DeliverySource):
    """The link that our control messages leave by."""

    __slots__ = ("link", "neighbor", "router")

    def __init__(self, router: Router, neighbor: Neighbor, link: SenderLink) -> None:
        super().__init__()
        self.router = router
        self.neighbor = neighbor
        self.link = link
        link.priority = CONTROL_PRIORITY

    def send(self, message: ControlMessage) -> None:
        """Send a control message, pre-settled, with the trace as it stands."""
        if len(self.undelivered) >= MAX_CONTROL_BACKLOG:
            self.router.own_octets.held -= sum(len(waiting.payload) for waiting in self.undelivered)
            self.undelivered.clear()
            peer = self.neighbor.router_id
            self.router.log("warning", "control messages dropped, the neighbour takes none", peer=peer)
        section = encode_annotations(0, None, message.ingress, message.trace)
        payload = section + message.body
        delivery = Delivery(None, 0, b"", payload, True, self.router.own_octets)
        delivery.holder.held += len(payload)
        self.undelivered.append(delivery)
        self.link.ready()

    def credit_changed(self, link: SenderLink) -> None:
        if link.link_credit > 0:
            self.router.control_ready(self.neighbor)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """All of them are settled."""

    def left(self, delivery: Delivery) -> None:
        """Written: that is all."""

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        """Control messages are whole."""

    def abort(self, delivery: Delivery) -> None:
        """Control messages are whole."""

    def others_wait(self) -> bool:
        return False
