"""A client of an MQTT service and its links in the router core, which stay for as long as its session does.

Each subscription is a link that the client receives by; what it publishes goes by one link without an address, a copy
to each address that has to have it. What the core says is looked at in `look`: when the client's connection is asked
for octets, or at once while there is none.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.message import MqttMessage, amqp_message, mqtt_message, not_a_message, rejection
from van.adaptors.mqtt.packets import MQTT_5, Publish, Subscription, Will
from van.adaptors.mqtt.publisher import (
    LinkArrival,
    Publication,
    Publisher,
    StreamArrival,
    came_by,
    is_presettled,
)
from van.adaptors.mqtt.reason import MqttError
from van.adaptors.mqtt.session import Outgoing, Session
from van.adaptors.mqtt.topics import is_wild, matches, split_shared
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import RELEASED, Accepted, Modified, Rejected
from van.amqp.errors import AmqpLinkError, DecodeError, ErrorCondition
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointSenderLink, EndpointSession, EndpointStream

if TYPE_CHECKING:
    from van.adaptors.mqtt.connection import ServerConnection
    from van.adaptors.mqtt.service import MqttService

# What a subscription's link likes to have outstanding, which counts where shared subscriptions are balanced.
SUBSCRIPTION_CAPACITY: Final = 100
# Large messages that are put together at a time for one client, in pieces as they come from other routers.
MAX_ASSEMBLIES: Final = 2
# How long a will may wait for its publisher's credit when its session is over, in seconds.
WILL_SECONDS: Final = 10.0
# Retained messages that wait for a client: with more of them it may not ask for others.
MAX_REPLAYING: Final = 10_000


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
        self._publisher = Publisher(service, self.links, self._finish)
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
        return self.state.expires_at + (WILL_SECONDS if self._publisher.waiting else 0.0)

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
        self._publisher.end()
        self.links.close()

    # -- what the core says ----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Take note of what the core has said."""
        now = self.router.now
        links = self.links
        links.look()
        self._publisher.look()
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
        self._publisher.pump()

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
        if arrival is not None and self._is_own(delivery) and self.state.may_keep(len(payload)):
            # It is kept for the client from now on: who waits for its own acknowledgement could wait for ever.
            arrival.done()
            arrival = None
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
        if arrival is not None:
            arrival.settle(state)

    def _is_own(self, delivery: Delivery) -> bool:
        """Whether the client itself has published this."""
        incoming = came_by(delivery)
        return incoming is not None and incoming.link is self._publisher.sender

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

    def replay(self, subscription: Subscription, existed: bool, now: float) -> int:
        """Have the retained messages follow that a subscription asks for (3.3.1.3).

        Returns how many were looked through. Of those that would be more than may wait for the client none follow.
        """
        held = self.held.get(subscription.filter)
        handling = subscription.retain_handling
        if held is None or held.shared or handling == 2 or (handling == 1 and existed):
            return 0
        state = self.state
        retained = self.service.retained
        if state.replaying >= MAX_REPLAYING:
            state.dropped += 1
            return 0
        for message in retained.match(held.filter, now):
            outgoing = message.outgoing(subscription.qos)
            if held.identifier:
                outgoing.properties[p.SUBSCRIPTION_IDENTIFIER] = [held.identifier]
            state.enqueue(outgoing)
        return len(retained) if held.wild else 1

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
                state.keep(outgoing)
        for assembly in [assembly for assembly in self._assemblies.values() if assembly.held is held]:
            del self._assemblies[assembly.stream]
        del self._by_link[link]
        self.links.detach(link)
        return r.SUCCESS

    @property
    def busy(self) -> bool:
        """Whether a message of the client waits, so that it cannot publish another."""
        return self._publisher.busy

    # -- messages of the client ----------------------------------------------------------------------------------------

    def publish(self, publish: Publish) -> bool:
        """Publish a message; False: not now. `packet_id` 0: nobody waits for its outcome."""
        if self._publisher.busy and self.connection is not None:
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
        targets = service.targets(publish.topic, retain=publish.retain)
        size = len(publish.payload)
        self._publisher.publish(Publication(amqp, publish.qos, targets, size=size, packet_id=publish.packet_id))
        return True

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


_REASONS: Final[dict[str, int]] = {
    ErrorCondition.RESOURCE_LIMIT_EXCEEDED: r.QUOTA_EXCEEDED,
    ErrorCondition.MESSAGE_SIZE_EXCEEDED: r.QUOTA_EXCEEDED,
    ErrorCondition.UNAUTHORIZED_ACCESS: r.NOT_AUTHORIZED,
    ErrorCondition.DECODE_ERROR: r.PAYLOAD_FORMAT_INVALID,
}
