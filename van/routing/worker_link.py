"""Links between the processes of one router, for one address each: they carry deliveries as applications send them.

What the other end needs to know is said by the link: annotations are put in front only where they say more than it does
(who sends wants it tried again elsewhere, a large message is under way), and where a message looks as if it had some.
"""

from __future__ import annotations

from typing import ClassVar, Final

from van.amqp.delivery import Delivery
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.routing.address import Address
from van.routing.dialect.annotations import Annotations
from van.routing.edge import EdgeAnnotations, EdgeIncomingLink, EdgeOutgoingLink, EdgePeer
from van.routing.forwarder import forward_run
from van.routing.incoming_link import IncomingLink
from van.routing.router import Router

# Credit on links between processes comes back when a delivery has come, so this is what may be in the socket between
# them. Four times that of an application: many share a link.
CAPACITY: Final = 1000
# The second octet of the section that annotations are in (a descriptor that is a ulong or a symbol comes second).
_ANNOTATED: Final = 0x80


class WorkerPeer(EdgePeer):
    """Another process of this router, as worker 0 sees it. Constructed as an `EdgePeer`."""

    __slots__ = ()

    def incoming(self, link: ReceiverLink, address: Address, capacity: int, text: str) -> EdgeIncomingLink:
        return WorkerIncomingLink(self.router, link, address, CAPACITY, self, text)

    def outgoing(self, link: SenderLink, address: Address, capacity: int, anonymous: bool) -> EdgeOutgoingLink:
        return WorkerOutgoingLink(link, address, CAPACITY, self, anonymous)


class WorkerIncomingLink(EdgeIncomingLink):
    """A link that the other process sends by; `plain` is what there is to say of deliveries that come without."""

    joint: ClassVar[bool] = True

    __slots__ = ("plain",)

    def __init__(
        self, router: Router, link: ReceiverLink, address: Address, capacity: int, peer: EdgePeer, text: str
    ) -> None:
        super().__init__(router, link, address, capacity, peer, not text)
        self.plain: Annotations = router.prepared(EdgeAnnotations(peer, 0, text or None, None, (), None))

    def annotations_of(self, section: bytes) -> Annotations:
        return super().annotations_of(section) if section else self.plain

    def deliver(self, delivery: Delivery) -> None:
        payload = delivery.payload
        if (
            delivery.settled
            or delivery.chunks is not None
            or self.anonymous
            or len(payload) < 2
            or payload[1] == _ANNOTATED
        ):
            super().deliver(delivery)
            return
        delivery.origin = self
        self._give_credit(1)
        delivery.annotations = self.plain
        address = self.address
        address.forward(address, delivery)

    def deliver_run(self, deliveries: list[Delivery]) -> None:
        plain = self.plain
        usual = not self.anonymous and not deliveries[0].settled
        for delivery in deliveries:
            payload = delivery.payload
            if not usual or len(payload) < 2 or payload[1] == _ANNOTATED:
                super().deliver_run(deliveries)
                return
            delivery.annotations = plain
        self._give_credit(len(deliveries))
        forward_run(self.address, deliveries)


class WorkerOutgoingLink(EdgeOutgoingLink):
    """A link to the other process."""

    joint: ClassVar[bool] = True

    __slots__ = ()

    def enqueue(self, delivery: Delivery) -> None:
        annotations: Annotations | None = delivery.annotations
        payload = delivery.payload
        if (
            delivery.chunks is not None
            or self.anonymous
            or len(payload) < 2
            or payload[1] == _ANNOTATED
            or (annotations.flags != 0 if annotations is not None else type(delivery.origin) is not IncomingLink)
        ):
            super().enqueue(delivery)
            return
        self.outstanding += 1
        self.undelivered.append(delivery)
        link = self.link
        if not link.queued:
            link.ready()

    def enqueue_run(self, deliveries: list[Delivery]) -> None:
        # They came by one link.
        first = deliveries[0]
        annotations: Annotations | None = first.annotations
        usual = not self.anonymous and (
            annotations.flags == 0 if annotations is not None else type(first.origin) is IncomingLink
        )
        link = self.link
        if not link.queued:
            link.ready()
        undelivered = self.undelivered
        for delivery in deliveries:
            payload = delivery.payload
            if not usual or len(payload) < 2 or payload[1] == _ANNOTATED:
                super().enqueue(delivery)
            else:
                self.outstanding += 1
                undelivered.append(delivery)
