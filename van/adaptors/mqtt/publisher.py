"""Messages from MQTT into the network: a copy to each address that has to have one, and what became of them.

A client has a `Publisher`, and so has the service for what it passes on for others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from van.adaptors.mqtt.session import Arrival
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Modified, Received, Rejected
from van.amqp.message import Message, Properties
from van.routing.dialect.annotations import PRESETTLED, Annotations
from van.routing.endpoint import EndpointReceiverLink, EndpointSenderLink, EndpointSession, EndpointStream
from van.routing.forwarder import Collector, strength
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import FAILED

if TYPE_CHECKING:
    from van.adaptors.mqtt.service import MqttService

# Copies that a publisher's messages may have under way: some more than the messages that a client may have itself.
PUBLISH_CAPACITY: Final = 250
# Octets of messages without an outcome: with as many a publisher has to wait, whatever the number of its messages. It
# bounds what routers hold for a subscriber that does not read.
MAX_UNDER_WAY: Final = 1_048_576
# A message of QoS 1 or 2 that came back is sent so often in all before its client hears of it.
MAX_ATTEMPTS: Final = 3


class LinkArrival(Arrival):
    """A delivery that was taken whole."""

    __slots__ = ("delivery", "link")

    def __init__(self, link: EndpointSenderLink, delivery: Delivery) -> None:
        self.link = link
        self.delivery = delivery

    def settle(self, state: object) -> None:
        """Settle it with its outcome."""
        self.link.settle(self.delivery, state)

    def done(self) -> None:
        self.settle(ACCEPTED)

    def failed(self, sent: bool) -> None:
        self.settle(FAILED if sent else RELEASED)


class StreamArrival(Arrival):
    """A delivery that came in pieces."""

    __slots__ = ("link", "stream")

    def __init__(self, link: EndpointSenderLink, stream: EndpointStream) -> None:
        self.link = link
        self.stream = stream

    def settle(self, state: object) -> None:
        """Settle it with its outcome."""
        self.stream.settle(state)

    def done(self) -> None:
        self.settle(ACCEPTED)

    def failed(self, sent: bool) -> None:
        self.settle(FAILED if sent else RELEASED)


class Publication:
    """A message that is published: the addresses that it has to go to yet, and what became of the others.

    `packet_id` is that of the client's packet, 0 where nobody waits for its answer; `arrival` is what it came by where
    it is passed on for somebody else. `size` is its payload's, in octets. `state` is the strongest outcome so far.
    """

    __slots__ = ("arrival", "attempts", "message", "outstanding", "packet_id", "qos", "size", "state", "targets")

    def __init__(
        self,
        message: Message,
        qos: int,
        targets: list[str],
        *,
        size: int = 0,
        packet_id: int = 0,
        arrival: LinkArrival | StreamArrival | None = None,
    ) -> None:
        self.message = message
        self.size = size
        self.arrival = arrival
        self.qos = qos
        self.packet_id = packet_id
        self.targets = deque(targets)
        self.outstanding = 0
        self.attempts: dict[str, int] = {}
        self.state: object = None

    def weigh(self, state: object) -> None:
        """Take another outcome into account."""
        if self.state is None or strength(state) > strength(self.state):
            self.state = state

    def over(self) -> bool:
        """Whether all outcomes are known."""
        return not self.targets and not self.outstanding


class Publisher:
    """Sends messages by one link without an address. finished: called when all outcomes of a publication are known.

    `sender` is the link, None until there was something to send.
    """

    __slots__ = ("_finished", "_over", "_sending", "_sent", "_under_way", "links", "sender", "service")

    def __init__(
        self, service: MqttService, links: EndpointSession, finished: Callable[[Publication], None]
    ) -> None:
        self.service = service
        self.links = links
        self.sender: EndpointReceiverLink | None = None
        self._finished = finished
        self._over = False
        self._under_way = 0
        self._sending: deque[Publication] = deque()
        self._sent: dict[Delivery, tuple[Publication, str]] = {}

    @property
    def busy(self) -> bool:
        """Whether something waits for credit, or much for its outcome, so that nothing more should be published."""
        return len(self._sending) > 0 or self._under_way >= MAX_UNDER_WAY

    @property
    def waiting(self) -> bool:
        """Whether something waits to be sent."""
        return len(self._sending) > 0

    def end(self) -> None:
        """What was sent has its way to go, and nobody hears of it any more."""
        self._over = True
        self._sending.clear()
        self._sent.clear()

    def publish(self, publication: Publication) -> None:
        """Publish a message."""
        self._under_way += publication.size
        self._sending.append(publication)
        self.pump()

    def pump(self) -> None:
        """Send what may be sent now of what waits."""
        sending = self._sending
        if not sending:
            return
        sender = self.sender
        if sender is None:
            sender = self.sender = self.links.attach_incoming("", PUBLISH_CAPACITY)
        while sending:
            publication = sending[0]
            while publication.targets:
                if sender.link_credit <= 0 or self.links.room() <= 0:
                    return
                self._send(sender, publication, publication.targets.popleft())
            sending.popleft()
            if publication.over():
                self._finish(publication)
        # What was told meanwhile: those that nobody receives.
        self.look()

    def look(self) -> None:
        """Take note of what has been said of deliveries."""
        told = self.links.told
        if told:
            self.links.told = []
            for delivery in told:
                self._told(delivery)

    def _send(self, sender: EndpointReceiverLink, publication: Publication, target: str) -> None:
        message = publication.message
        if message.properties is None:
            message.properties = Properties()
        message.properties.to = target
        settled = publication.qos == 0
        if not settled:
            publication.outstanding += 1
            publication.attempts[target] = publication.attempts.get(target, 0) + 1
        delivery = sender.send(message.encode(), settled)
        if not settled:
            self._sent[delivery] = (publication, target)

    def _told(self, delivery: Delivery) -> None:
        """Somebody has spoken of a delivery of ours."""
        state = delivery.state
        if self.links.owes(delivery):
            if type(state) is Received or state is None:
                return
            self.links.settle_sent(delivery, state)
        known = self._sent.pop(delivery, None)
        if known is None:
            return
        publication, target = known
        publication.outstanding -= 1
        if self._again(publication, target, state):
            publication.targets.append(target)
            if publication not in self._sending:
                self._sending.append(publication)
            return
        publication.weigh(state)
        if publication.over() and publication not in self._sending:
            self._finish(publication)

    def _finish(self, publication: Publication) -> None:
        self._under_way -= publication.size
        self._finished(publication)

    def _again(self, publication: Publication, target: str, state: object) -> bool:
        """Whether a copy that came back is sent once more: one of QoS 2 only where nobody can have it."""
        if publication.attempts.get(target, 0) >= MAX_ATTEMPTS or self._over or publication.arrival is not None:
            # What is passed on is its sender's to send again.
            return False
        if type(state) is Modified:
            return publication.qos == 1 and self.service.reachable(target)
        shared = target.startswith(self.service.addresses.shares)
        return shared and type(state) is not Rejected and type(state) is not Accepted and self.service.reachable(target)


def is_presettled(delivery: Delivery) -> bool:
    """Whether a delivery came into the network settled; one of several frames is not on its way between routers."""
    if delivery.settled:
        return True
    annotations = delivery.annotations
    return isinstance(annotations, Annotations) and annotations.flags & PRESETTLED != 0


def came_by(delivery: Delivery) -> IncomingLink | None:
    """The link by which a delivery, or what it is a copy of, came into this router."""
    origin = delivery.origin
    while isinstance(origin, Collector):
        origin = origin.delivery.origin
    return origin if isinstance(origin, IncomingLink) else None
