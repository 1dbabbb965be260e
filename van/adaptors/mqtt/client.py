"""A client of an MQTT service and its links in the router core, which stay for as long as its session does.

Each subscription is a link that the client receives by; what it publishes goes by one link without an address, a copy
to each address that has to have it. What the core says is looked at in `look`: when the client's connection is asked
for octets, or at once while there is none.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.message import MqttMessage, amqp_message, mqtt_message, not_a_message, rejection
from van.adaptors.mqtt.packets import MQTT_5, Publish, Subscription, Will
from van.adaptors.mqtt.reason import MqttError
from van.adaptors.mqtt.session import Arrival, Outgoing, Session
from van.adaptors.mqtt.topics import is_wild, matches, split_shared
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Modified, Received, Rejected
from van.amqp.errors import AmqpLinkError, DecodeError, ErrorCondition
from van.amqp.message import Message
from van.routing.adaptor import Adaptor
from van.routing.dialect.annotations import PRESETTLED, Annotations
from van.routing.endpoint import EndpointReceiverLink, EndpointSenderLink, EndpointSession, EndpointStream
from van.routing.forwarder import Collector, strength
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import FAILED

if TYPE_CHECKING:
    from van.adaptors.mqtt.connection import ServerConnection
    from van.adaptors.mqtt.service import MqttService

# Copies that a client's messages may have under way: some more than the messages that it may have itself.
PUBLISH_CAPACITY: Final = 250
# What a subscription's link likes to have outstanding, which counts where shared subscriptions are balanced.
SUBSCRIPTION_CAPACITY: Final = 100
# Large messages that are put together at a time for one client, in pieces as they come from other routers.
MAX_ASSEMBLIES: Final = 2
# How long a will may wait for its publisher's credit when its session is over, in seconds.
WILL_SECONDS: Final = 10.0
# Retained messages that wait for a client: with more of them it may not ask for others.
MAX_REPLAYING: Final = 10_000
# A message of QoS 1 or 2 that came back is sent so often in all before its client hears of it.
MAX_ATTEMPTS: Final = 3


class LinkArrival(Arrival):
    """A delivery that was taken whole."""

    __slots__ = ("delivery", "link")

    def __init__(self, link: EndpointSenderLink, delivery: Delivery) -> None:
        self.link = link
        self.delivery = delivery

    def done(self) -> None:
        self.link.settle(self.delivery, ACCEPTED)

    def failed(self, sent: bool) -> None:
        self.link.settle(self.delivery, FAILED if sent else RELEASED)


class StreamArrival(Arrival):
    """A delivery that came in pieces."""

    __slots__ = ("link", "stream")

    def __init__(self, link: EndpointSenderLink, stream: EndpointStream) -> None:
        self.link = link
        self.stream = stream

    def done(self) -> None:
        self.stream.settle(ACCEPTED)

    def failed(self, sent: bool) -> None:
        self.stream.settle(FAILED if sent else RELEASED)


class Assembly:
    """A delivery that comes in pieces, as far as it is here."""

    __slots__ = ("held", "pieces", "size", "stream")

    def __init__(self, held: Held, stream: EndpointStream) -> None:
        self.held = held
        self.stream = stream
        self.pieces: list[bytes | memoryview] = []
        self.size = 0


class Held:
    """A subscription and its link. `filter` is without what makes it a shared one; `wild`: its messages name topics."""

    __slots__ = ("filter", "identifier", "link", "shared", "subscription", "wild")

    def __init__(self, subscription: Subscription, topic_filter: str, shared: bool, link: EndpointSenderLink) -> None:
        self.subscription = subscription
        self.filter = topic_filter
        self.shared = shared
        self.link = link
        self.identifier = 0
        self.wild = is_wild(topic_filter)


class Publication:
    """A message that the client published: the addresses that it has to go to yet, and what became of the others.

    `packet_id` is 0 for one that nobody waits for. `state` is the strongest outcome so far.
    """

    __slots__ = ("attempts", "expiry", "message", "outstanding", "packet_id", "qos", "state", "targets")

    def __init__(self, message: Message, qos: int, packet_id: int, targets: list[str]) -> None:
        self.message = message
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


class Client(Adaptor):
    """One client. To the core it is an adaptor; `connection` is its network connection, None while it has none.

    Raises `AmqpSessionError` when there is no memory for one more.
    """

    def __init__(self, service: MqttService, client_id: str) -> None:
        super().__init__()
        self.service = service
        self.router = service.router
        settings = service.settings
        self.state = Session(
            client_id,
            service.store,
            max_queued=settings.max_queued,
            max_octets=settings.max_queued_octets,
        )
        self.links = EndpointSession(service.router, self, f"{service.name}/{client_id}")
        self.connection: ServerConnection | None = None
        self.held: dict[str, Held] = {}
        self.over = False
        self._by_link: dict[EndpointSenderLink, Held] = {}
        self._sender: EndpointReceiverLink | None = None
        self._sending: deque[Publication] = deque()
        self._sent: dict[Delivery, tuple[Publication, str]] = {}
        self._stalled: list[EndpointSenderLink] = []
        self._assemblies: dict[EndpointStream, Assembly] = {}
        self.on_wake = self._wake
        self._driver: Adaptor | None = None

    # -- the connection --------------------------------------------------------------------------------------------

    def connected(self, connection: ServerConnection, driver: Adaptor) -> None:
        """The client has a connection. driver: to be woken when the core has something to say."""
        self.connection = connection
        self._driver = driver

    def disconnected(self, now: float, will: Will | None) -> None:
        """The connection is gone. will: to be published, None for none."""
        self.connection = None
        self._driver = None
        state = self.state
        state.disconnected(now)
        if will is not None:
            delay = p.integer(will.properties, p.WILL_DELAY_INTERVAL, 0)
            state.will = will
            state.will_at = now + min(delay, state.expiry)
        self.handle_deadline(now)
        if not self.over:
            self.service.expects(self.next_deadline())
            # What is noted is this one's to look at now.
            self.router.touch(self)

    def _wake(self) -> None:
        driver = self._driver
        if driver is not None:
            driver.on_wake()
        elif not self.over:
            self.look()
            self.handle_deadline(self.router.now)

    def handle_deadline(self, now: float) -> None:
        """Publish the will, and end the session, when it is time."""
        state = self.state
        if self.over or state.connected:
            return
        will = state.will
        if will is not None and (now >= state.will_at or now >= state.expires_at):
            state.will = None
            state.will_at = inf
            self._publish_will(will)
        if now >= self._ends_at():
            self.end()

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called."""
        return min(self._ends_at(), self.state.will_at)

    def _ends_at(self) -> float:
        """When the session is over: a little later where the will has not found its way yet."""
        return self.state.expires_at + (WILL_SECONDS if self._sending else 0.0)

    def _publish_will(self, will: Will) -> None:
        properties = {name: value for name, value in will.properties.items() if name != p.WILL_DELAY_INTERVAL}
        publish = Publish(will.topic, will.payload, qos=will.qos, retain=will.retain, properties=properties)
        self.publish(publish)

    def end(self) -> None:
        """The session is over: nothing of it is left."""
        if self.over:
            return
        self.over = True
        self.service.forget(self)
        self.state.end()
        for assembly in list(self._assemblies.values()):
            assembly.stream.settle(RELEASED)
        self._assemblies.clear()
        # What was sent has its way to go, and nobody hears of it any more.
        self._sent.clear()
        self.links.close()

    # -- what the core says ----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Take note of what the core has said."""
        now = self.router.now
        links = self.links
        links.look()
        if links.told:
            told = links.told
            links.told = []
            for delivery in told:
                self._told(delivery)
        if links.ready:
            ready = links.ready
            links.ready = []
            for link in ready:
                self._take(link, now)
        if links.grown:
            grown = links.grown
            links.grown = []
            for stream in grown:
                assembly = self._assemblies.get(stream)
                if assembly is not None:
                    self._grown(assembly, now)
        links.credited.clear()
        if self._stalled and self._may_take():
            stalled = self._stalled
            self._stalled = []
            for link in stalled:
                if link in self._by_link:
                    self._take(link, now)
        self._pump()

    def _may_take(self) -> bool:
        """Whether a message that somebody waits for may be taken."""
        state = self.state
        return state.has_room() or state.keeps or not state.connected

    # -- messages to the client ----------------------------------------------------------------------------------------

    def _take(self, link: EndpointSenderLink, now: float) -> None:
        """Take what waits on a link, as far as there is room: a message of QoS 0 is dropped where there is none."""
        held = self._by_link.get(link)
        if held is None:
            return
        undelivered = link.source.undelivered
        while True:
            if undelivered:
                head = undelivered[0]
                comes = head.chunks is not None
                held_back = not is_presettled(head) and not self._may_take()
                if held_back or (comes and len(self._assemblies) >= MAX_ASSEMBLIES):
                    self._stalled.append(link)
                    return
            delivery = link.take()
            if delivery is None:
                return
            if delivery.chunks is not None:
                stream = link.stream(delivery, self.links)
                assembly = self._assemblies[stream] = Assembly(held, stream)
                self._grown(assembly, now)
                continue
            arrival = LinkArrival(link, delivery) if not delivery.settled else None
            self._arrived(held, delivery, delivery.payload, arrival, now)

    def _grown(self, assembly: Assembly, now: float) -> None:
        """More of a delivery is here."""
        stream = assembly.stream
        limit = self.service.settings.max_packet_size
        for piece in stream.read(limit + 1):
            assembly.pieces.append(piece)
            assembly.size += len(piece)
        if stream.aborted:
            self._assemblies.pop(stream, None)
            return
        if assembly.size > limit:
            self._assemblies.pop(stream, None)
            self.state.dropped += 1
            text = f"a message of more than {limit} octets"
            stream.settle(rejection(ErrorCondition.MESSAGE_SIZE_EXCEEDED, text))
            return
        if stream.finished:
            self._assemblies.pop(stream, None)
            delivery = stream.delivery
            arrival = StreamArrival(assembly.held.link, stream) if not delivery.settled else None
            self._arrived(assembly.held, delivery, b"".join(assembly.pieces), arrival, now)

    def _arrived(
        self, held: Held, delivery: Delivery, payload: bytes, arrival: LinkArrival | StreamArrival | None, now: float
    ) -> None:
        """A message is here: it waits for the client from now on."""
        subscription = held.subscription
        if subscription.no_local and self._is_own(delivery):
            if arrival is not None:
                arrival.done()
            return
        try:
            message = mqtt_message(payload, self.service.addresses, "" if held.wild else held.filter)
        except (DecodeError, MqttError) as error:
            self._refuse(arrival, not_a_message(error.description))
            return
        if held.wild and not matches(held.filter, message.topic):
            self._refuse(arrival, not_a_message(f"its topic is none of {held.filter}"))
            return
        properties = message.properties
        if held.identifier:
            properties[p.SUBSCRIPTION_IDENTIFIER] = [held.identifier]
        self.state.enqueue(
            Outgoing(
                message.topic,
                message.payload,
                qos=min(subscription.qos, 0 if is_presettled(delivery) else message.qos),
                retain=message.retain and subscription.retain_as_published,
                properties=properties,
                expires_at=now + message.expiry if message.expiry is not None else inf,
                arrival=arrival,
            )
        )

    def _refuse(self, arrival: LinkArrival | StreamArrival | None, state: Rejected) -> None:
        self.state.dropped += 1
        if isinstance(arrival, LinkArrival):
            arrival.link.settle(arrival.delivery, state)
        elif isinstance(arrival, StreamArrival):
            arrival.stream.settle(state)

    def _is_own(self, delivery: Delivery) -> bool:
        """Whether the client itself has published this."""
        origin = delivery.origin
        while isinstance(origin, Collector):
            origin = origin.delivery.origin
        return isinstance(origin, IncomingLink) and origin.link is self._sender

    # -- subscriptions -----------------------------------------------------------------------------------------------

    def subscribe(self, subscription: Subscription, identifier: int) -> int:
        """Take a subscription, or change the one of this filter; returns its reason code. Raises MqttError."""
        group, topic_filter = split_shared(subscription.filter)
        if group and subscription.no_local:
            # 3.8.3.1
            raise MqttError(r.PROTOCOL_ERROR, "no local for a shared subscription")
        known = self.held.get(subscription.filter)
        if known is None:
            if topic_filter.startswith("$"):
                return r.NOT_AUTHORIZED
            if len(self.held) >= self.service.settings.max_subscriptions:
                return r.QUOTA_EXCEEDED
            if self.state.replaying >= MAX_REPLAYING:
                return r.QUOTA_EXCEEDED
            try:
                link = self.links.attach_outgoing(
                    self.service.addresses.of(topic_filter, group), SUBSCRIPTION_CAPACITY
                )
            except AmqpLinkError as refusal:
                self.service.log("warning", "subscription refused", filter=subscription.filter, reason=str(refusal))
                return r.NOT_AUTHORIZED
            known = self.held[subscription.filter] = Held(subscription, topic_filter, group != "", link)
            self._by_link[link] = known
        known.subscription = subscription
        known.identifier = identifier
        return subscription.qos

    def replay(self, subscription: Subscription, existed: bool, now: float) -> None:
        """Have the retained messages follow that a subscription asks for (3.3.1.3)."""
        held = self.held.get(subscription.filter)
        handling = subscription.retain_handling
        if held is None or held.shared or handling == 2 or (handling == 1 and existed):
            return
        for retained in self.service.retained.match(held.filter, now):
            outgoing = retained.outgoing(subscription.qos)
            if held.identifier:
                outgoing.properties[p.SUBSCRIPTION_IDENTIFIER] = [held.identifier]
            self.state.enqueue(outgoing)

    def unsubscribe(self, topic_filter: str) -> int:
        """Give a subscription up. What waits for the client from it is sent nevertheless (3.10.4)."""
        held = self.held.pop(topic_filter, None)
        if held is None:
            return r.NO_SUBSCRIPTION_EXISTED
        link = held.link
        state = self.state
        for outgoing in (*state.inflight.values(), *state.waiting, *state.waiting_qos_0):
            arrival = outgoing.arrival
            if isinstance(arrival, (LinkArrival, StreamArrival)) and arrival.link is link:
                outgoing.arrival = None
                arrival.done()
        for assembly in [assembly for assembly in self._assemblies.values() if assembly.held is held]:
            del self._assemblies[assembly.stream]
        del self._by_link[link]
        self.links.detach(link)
        return r.SUCCESS

    @property
    def busy(self) -> bool:
        """Whether a message of the client waits, so that it cannot publish another."""
        return len(self._sending) > 0

    # -- messages of the client ----------------------------------------------------------------------------------------

    def publish(self, publish: Publish) -> bool:
        """Publish a message; False: not now. `packet_id` 0: nobody waits for its outcome."""
        if self._sending and self.connection is not None:
            return False
        service = self.service
        if publish.topic.startswith("$"):
            # 4.7.2: such topics are the server's own, and this one has none.
            self._published(publish.packet_id, publish.qos, r.NOT_AUTHORIZED)
            return True
        message = MqttMessage(
            publish.topic, publish.payload, qos=publish.qos, retain=publish.retain, properties=publish.properties
        )
        try:
            amqp = amqp_message(message, service.addresses)
        except MqttError as error:
            self._published(publish.packet_id, publish.qos, error.reason)
            return True
        publication = Publication(amqp, publish.qos, publish.packet_id, service.targets(publish.topic, publish.retain))
        self._sending.append(publication)
        self._pump()
        return True

    def _pump(self) -> None:
        """Send what may be sent now of what waits."""
        sending = self._sending
        if not sending:
            return
        sender = self._sender
        if sender is None:
            try:
                sender = self._sender = self.links.attach_incoming("", PUBLISH_CAPACITY)
            except AmqpLinkError as refusal:
                self.service.log("warning", "publishing refused", reason=str(refusal))
                return
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
        told = self.links.told
        if told:
            self.links.told = []
            for delivery in told:
                self._told(delivery)

    def _send(self, sender: EndpointReceiverLink, publication: Publication, target: str) -> None:
        message = publication.message
        assert message.properties is not None
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

    def _again(self, publication: Publication, target: str, state: object) -> bool:
        """Whether a copy that came back is sent once more: one of QoS 2 only where nobody can have it."""
        if publication.attempts.get(target, 0) >= MAX_ATTEMPTS or self.over:
            return False
        if type(state) is Modified:
            return publication.qos == 1 and self.service.reachable(target)
        shared = target.startswith(self.service.addresses.shares)
        return shared and type(state) is not Rejected and type(state) is not Accepted and self.service.reachable(target)

    def _finish(self, publication: Publication) -> None:
        """All outcomes of a message are known."""
        state = publication.state
        kind = type(state)
        if kind is Accepted:
            reason = r.SUCCESS
        elif isinstance(state, Rejected):
            condition = state.error.condition if state.error is not None else ""
            reason = _REASONS.get(condition, r.IMPLEMENTATION_SPECIFIC_ERROR)
        elif kind is Modified:
            reason = r.UNSPECIFIED_ERROR
        else:
            reason = r.NO_MATCHING_SUBSCRIBERS
        self._published(publication.packet_id, publication.qos, reason)

    def _published(self, packet_id: int, qos: int, reason: int) -> None:
        """Tell the client what became of its message."""
        if not packet_id:
            return
        connection = self.connection
        lost = reason == r.UNSPECIFIED_ERROR and (connection is None or connection.level != MQTT_5)
        failed = reason >= r.FAILURE and (connection is None or connection.level == MQTT_5 or lost)
        if qos == 2:
            self.state.published(packet_id, failed)
        if connection is None:
            return
        if lost:
            # 3.1.1 has no words for it; the client connects again, and sends the message again.
            connection.fail(reason, "a message could not be delivered")
        else:
            connection.published(packet_id, qos, reason)
        self.router.touch(self)


def is_presettled(delivery: Delivery) -> bool:
    """Whether a delivery came into the network settled; one of several frames is not on its way between routers."""
    if delivery.settled:
        return True
    annotations = delivery.annotations
    return isinstance(annotations, Annotations) and annotations.flags & PRESETTLED != 0


_REASONS: Final[dict[str, int]] = {
    ErrorCondition.RESOURCE_LIMIT_EXCEEDED: r.QUOTA_EXCEEDED,
    ErrorCondition.MESSAGE_SIZE_EXCEEDED: r.QUOTA_EXCEEDED,
    ErrorCondition.UNAUTHORIZED_ACCESS: r.NOT_AUTHORIZED,
    ErrorCondition.DECODE_ERROR: r.PAYLOAD_FORMAT_INVALID,
}
