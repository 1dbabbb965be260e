"""An MQTT service of a router: its clients, which filters there are in the network, and retained messages.

A message goes to the address of its topic, and to one for each filter with wildcards and each shared subscription that
matches; a router knows these from the addresses of the network that it is told of. On an edge router, which is not
told, messages are handed to a service of an interior router, which sees to that.

What AMQP clients of this router send to the address of a topic is passed on to filters, too.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final, cast

from van.adaptors.amqp import Log, no_log
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.client import Client
from van.adaptors.mqtt.connection import Settings
from van.adaptors.mqtt.message import TOPIC, mqtt_message, not_a_message, rejection, topic_of
from van.adaptors.mqtt.packets import Connect
from van.adaptors.mqtt.publisher import LinkArrival, Publication, Publisher, StreamArrival, came_by, is_presettled
from van.adaptors.mqtt.reason import MqttError
from van.adaptors.mqtt.retained import RetainedStore
from van.adaptors.mqtt.session import Store
from van.adaptors.mqtt.snapshot import Snapshots
from van.adaptors.mqtt.topics import DEFAULT_PREFIX, Addresses, FilterTree, check_topic
from van.adaptors.service import PeerInfo, Service
from van.amqp.delivery_state import ACCEPTED, RELEASED
from van.amqp.errors import AmqpSessionError, DecodeError, ErrorCondition
from van.amqp.message import Message
from van.routing.address import Address, AddressConfig, AddressWatcher, Distribution, address_key
from van.routing.edge_router import EdgeRouter
from van.routing.endpoint import EndpointReceiverLink, EndpointSenderLink, EndpointSession
from van.routing.incoming_link import IncomingLink
from van.routing.router import Router

if TYPE_CHECKING:
    from van.amqp.delivery import Delivery

# Clients, connected or not, that may have a session at one router: each takes some 10 KB.
MAX_SESSIONS: Final = 10_000
# What may wait for all clients together, and for those that are not connected, in octets.
MAX_STORED_OCTETS: Final = 67_108_864
# Of the service's own links.
LINK_CAPACITY: Final = 250

# Topics that AMQP senders here send to, and for which messages are passed on to filters; others reach their own alone.
MAX_RELAYS: Final = 1000

Admit = Callable[[Connect, PeerInfo], int]
"""Called with a Connect; returns the reason code of its answer, 0 to let the client in."""


def admit_everybody(connect: Connect, info: PeerInfo) -> int:
    """Let every client in."""
    return r.SUCCESS


class _Watcher(AddressWatcher):
    """Keeps note of the addresses that are filters, and of those topics that others than MQTT clients send to here."""

    __slots__ = ("_service", "filters", "senders")

    def __init__(self, service: MqttService) -> None:
        self._service = service
        self.filters = FilterTree()
        # By the key of the address: its topic, and how many send to it.
        self.senders: dict[str, tuple[str, int]] = {}
        for address in service.router.addresses.values():
            self.made(address)
            for link in address.incoming:
                self.sender_attached(link)

    def made(self, address: Address) -> None:
        topic_filter = self._service.addresses.of_key(address.key)
        if topic_filter:
            self.filters.add(topic_filter, address.key, address)
            self._service.filters_changed()

    def forgotten(self, address: Address) -> None:
        topic_filter = self._service.addresses.of_key(address.key)
        if topic_filter:
            self.filters.remove(topic_filter, address.key)
            self._service.filters_changed()

    def patterns_changed(self) -> None:
        self._service.treat_addresses()

    def sender_attached(self, link: IncomingLink) -> None:
        self._count(link, 1)

    def sender_gone(self, link: IncomingLink) -> None:
        self._count(link, -1)

    def _count(self, link: IncomingLink, change: int) -> None:
        key = link.address.key
        topic = self._service.addresses.topic_of_key(key) if not link.anonymous else ""
        if topic:
            count = self.senders.get(key, ("", 0))[1] + change
            if count > 0:
                self.senders[key] = (topic, count)
            else:
                self.senders.pop(key, None)
            self._service.filters_changed()


class _Relay:
    """The link by which messages of AMQP senders to a topic's address are taken, for filters that match it."""

    __slots__ = ("link", "topic")

    def __init__(self, topic: str, link: EndpointSenderLink) -> None:
        self.topic = topic
        self.link = link


class MqttService(Service):
    """The MQTT service of one router; several ports may lead to it.

    router: the core. name: for management and the log. prefix: of the addresses that are topics. settings: what clients
    may do. admit: asked for every Connect. Raises ValueError for a prefix that cannot be one.

    Its deadlines are those of sessions that have no connection: whoever assembles the site sees to them, and is told by
    `on_deadline` when there is an earlier one.
    """

    def __init__(
        self,
        router: Router,
        name: str = "mqtt",
        prefix: str = DEFAULT_PREFIX,
        *,
        settings: Settings | None = None,
        admit: Admit = admit_everybody,
        log: Log = no_log,
        max_sessions: int = MAX_SESSIONS,
        max_stored_octets: int = MAX_STORED_OCTETS,
    ) -> None:
        addresses = Addresses(prefix)
        super().__init__(router, name, prefix, log)
        self.addresses = addresses
        self.settings = settings if settings is not None else Settings()
        self.admit = admit
        self.max_sessions = max_sessions
        self.clients: dict[str, Client] = {}
        self.store = Store(max_stored_octets)
        self.retained = RetainedStore()
        self.on_deadline: Callable[[], None] = _nobody_waits
        self.sessions_expired = 0
        # Of sessions that are over.
        self.past_dropped = 0
        self._deadline = inf
        self.treat_addresses()
        self.publisher = Publisher(self, self.session, self._finished)
        self._filters_changed = False
        self._relays: dict[str, _Relay] = {}
        self._relay_of: dict[EndpointSenderLink, _Relay] = {}
        # Links that are not asked while the publisher has no credit.
        self._waiting: list[EndpointSenderLink] = []
        self._watcher = _Watcher(self)
        router.address_watchers.append(self._watcher)
        self._retained_link = self.session.attach_outgoing(self.addresses.retained, LINK_CAPACITY)
        # An edge router is not told of addresses elsewhere: it hands messages to who knows them.
        self._knows_all = not isinstance(router, EdgeRouter)
        self._uplink: EndpointReceiverLink | None = None
        self._publish_link: EndpointSenderLink | None = None
        if self._knows_all:
            self._publish_link = self.session.attach_outgoing(self.addresses.publish, LINK_CAPACITY)
        else:
            self._uplink = self.session.attach_incoming(self.addresses.publish, LINK_CAPACITY)
        self.snapshots = Snapshots(self)

    def treat_addresses(self) -> None:
        """Have the addresses of topics and the like distributed as they have to be."""
        addresses = self.addresses
        self._treat(f"{addresses.prefix}/#", Distribution.MULTICAST)
        self._treat(addresses.retained, Distribution.MULTICAST)
        self._treat(f"{addresses.shares}#", Distribution.BALANCED)
        self._treat(addresses.publish, Distribution.CLOSEST)
        self._treat(addresses.snapshot, Distribution.CLOSEST)

    def _treat(self, pattern: str, distribution: Distribution) -> None:
        """Have the addresses of a pattern distributed so, unless the configuration has the same pattern."""
        try:
            self.router.patterns.add(AddressConfig(pattern, distribution))
        except ValueError:
            config = self.router.patterns.match(pattern)
            if config is not None and config.distribution is not distribution:
                self.log(
                    "warning", "mqtt addresses", pattern=pattern, distribution=config.distribution.value,
                    reason=f"MQTT wants it to be {distribution.value}",
                )  # fmt: skip

    # -- clients -----------------------------------------------------------------------------------------------------

    def open_client(self, connect: Connect, client_id: str) -> Client:
        """The client of a Connect: with the session that it had, or a new one. Raises MqttError."""
        if self.stopped:
            raise MqttError(r.SERVER_SHUTTING_DOWN, "the service ends")
        now = self.router.now
        known = self.clients.get(client_id)
        if known is not None:
            connection = known.connection
            if connection is not None:
                # 3.1.4: the new connection wins.
                connection.fail(r.SESSION_TAKEN_OVER, "the client has connected anew")
                self.router.touch(known)
            if connect.clean_start:
                known.state.will_at = min(known.state.will_at, now)
                known.state.expires_at = now
            known.handle_deadline(now)
            if known.over or connect.clean_start:
                known = None
        if known is None:
            if client_id in self.clients:
                self.clients[client_id].end()
            if len(self.clients) >= self.max_sessions:
                raise MqttError(r.QUOTA_EXCEEDED, f"there are {self.max_sessions} sessions")
            try:
                known = Client(self, client_id)
            except AmqpSessionError as error:
                raise MqttError(r.SERVER_BUSY, error.description) from None
            self.clients[client_id] = known
        else:
            known.state.resumed()
        return known

    def new_client_id(self, prefix: str) -> str:
        """An identifier that no client has."""
        return prefix + self.router.tokens()

    def forget(self, client: Client) -> None:
        """A session is over."""
        if self.clients.get(client.state.client_id) is client:
            del self.clients[client.state.client_id]
        self.past_dropped += client.state.dropped

    # -- addresses ---------------------------------------------------------------------------------------------------

    def targets(self, topic: str, *, retain: bool = False, literal: bool = True) -> list[str]:
        """The addresses that a message of this topic goes to: those that somebody receives from.

        literal: also the topic's own.
        """
        addresses = self.addresses
        found = []
        if self._uplink is not None and self._uplink.reachable:
            found.append(addresses.publish)
        else:
            own = addresses.of(topic)
            if literal and self.reachable(own):
                found.append(own)
            for value in self._watcher.filters.match(topic):
                address = cast("Address", value)
                if address.reachable():
                    found.append(self._text(address.key))
        if retain and not self.router.ending:
            found.append(addresses.retained)
        return found

    def reachable(self, text: str) -> bool:
        """Whether somebody receives from an address, or might: an edge router does not know."""
        if not self._knows_all:
            return True
        address = self.router.addresses.get(address_key(text, self.router.id))
        return address is not None and address.reachable()

    def _text(self, key: str) -> str:
        """The text of an address with this key."""
        end = "/" if key[-1] in "/." else ""
        return key[1:] + end

    # -- what comes by the service's own links -----------------------------------------------------------------------

    def filters_changed(self) -> None:
        """Filters or senders came or went: who needs a relay is found out in `work`."""
        if not self._filters_changed:
            self._filters_changed = True
            self.session.wake()

    def work(self) -> None:
        session = self.session
        session.look()
        if self.stopped:
            return
        if self._filters_changed:
            self._filters_changed = False
            self._look_for_relays()
        for delivery in session.told:
            if self.snapshots.asking and self.snapshots.told(delivery):
                session.told.remove(delivery)
                break
        self.publisher.look()
        self.publisher.pump()
        self.snapshots.look()
        session.credited.clear()
        session.grown.clear()
        links = [*self._waiting, *session.ready]
        session.ready.clear()
        self._waiting.clear()
        for link in links:
            self._take(link)

    def _take(self, link: EndpointSenderLink) -> None:
        """Take what waits on a link of the service."""
        while True:
            passes_on = link is self._publish_link or link in self._relay_of
            if passes_on and self.publisher.busy:
                self._waiting.append(link)
                return
            delivery = link.take()
            if delivery is None:
                return
            if delivery.chunks is None:
                arrival = LinkArrival(link, delivery)
                self._taken(link, delivery, delivery.payload, arrival)
                continue
            stream = link.stream(delivery, self.session)
            payload = b"".join(stream.read(self.settings.max_packet_size + 1))
            if stream.finished:
                self._taken(link, delivery, payload, StreamArrival(link, stream))
            else:
                # Nobody waits for the rest.
                text = "a message that is too large, or was sent on before it was whole"
                stream.settle(rejection(ErrorCondition.MESSAGE_SIZE_EXCEEDED, text))

    def _taken(
        self, link: EndpointSenderLink, delivery: Delivery, payload: bytes, arrival: LinkArrival | StreamArrival
    ) -> None:
        """A message is here."""
        answer = self.snapshots.takes(link)
        if answer or link is self._retained_link:
            arrival.settle(self._keep(payload, is_presettled(delivery), answer))
            return
        if self.snapshots.gives(link):
            self.snapshots.asked(payload, arrival)
            return
        relay = self._relay_of.get(link)
        if relay is not None and not self._is_foreign(delivery):
            # It has gone to the filters already, where it came into the network.
            arrival.settle(RELEASED)
            return
        try:
            message = Message.decode(payload)
            topic = relay.topic if relay is not None else topic_of(message, self.addresses)
            check_topic(topic)
        except (DecodeError, MqttError) as error:
            arrival.settle(not_a_message(error.description))
            return
        targets = self.targets(topic, literal=relay is None)
        if relay is not None:
            message.message_annotations = {**(message.message_annotations or {}), TOPIC: topic}
        qos = 0 if is_presettled(delivery) else 1
        self.publisher.publish(Publication(message, qos, targets, size=len(payload), arrival=arrival))

    def _finished(self, publication: Publication) -> None:
        """What was passed on, or is part of an answer, has its outcome."""
        if self.snapshots.finished(publication):
            return
        arrival = publication.arrival
        if arrival is not None:
            arrival.settle(publication.state if publication.state is not None else RELEASED)

    def _is_foreign(self, delivery: Delivery) -> bool:
        """Whether somebody else than an MQTT client has sent this here."""
        incoming = came_by(delivery)
        if incoming is None or incoming.between_routers:
            return False
        session = incoming.link.session
        return not (isinstance(session, EndpointSession) and isinstance(session.adaptor, (Client, MqttService)))

    def _look_for_relays(self) -> None:
        """Have a relay for each topic that AMQP senders here send to, and that somebody has a filter for."""
        wanted: dict[str, str] = {}
        if self._watcher.filters.count and self._knows_all:
            for key, (topic, _) in self._watcher.senders.items():
                if any(cast("Address", value).reachable() for value in self._watcher.filters.match(topic)):
                    wanted[key] = topic
        for key in [key for key in self._relays if key not in wanted]:
            relay = self._relays.pop(key)
            del self._relay_of[relay.link]
            self.session.detach(relay.link)
        for key, topic in wanted.items():
            if key not in self._relays and len(self._relays) < MAX_RELAYS:
                link = self.session.attach_outgoing(self.addresses.of(topic), LINK_CAPACITY)
                relay = self._relays[key] = self._relay_of[link] = _Relay(topic, link)

    # -- retained messages -------------------------------------------------------------------------------------------

    def _keep(self, payload: bytes, settled: bool, answer: bool) -> object:
        """Retain a message; returns its outcome. answer: it is from another service, and older than what is known."""
        try:
            message = mqtt_message(payload, self.addresses, "")
        except (DecodeError, MqttError) as error:
            return not_a_message(error.description)
        if settled:
            message.qos = 0
        if not answer:
            self.snapshots.heard(message.topic)
        elif not self.snapshots.answered(message):
            return ACCEPTED
        if not self.retained.put(message, self.router.now):
            return rejection(ErrorCondition.RESOURCE_LIMIT_EXCEEDED, "no room for another retained message")
        return ACCEPTED

    # -- time --------------------------------------------------------------------------------------------------------

    def expects(self, deadline: float) -> None:
        """Somebody will want a deadline to be seen to."""
        if deadline < self._deadline:
            self._deadline = deadline
            self.on_deadline()

    def next_deadline(self) -> float:
        return min(self._deadline, self.snapshots.next_deadline())

    def handle_deadline(self, now: float) -> None:
        """Publish wills, and end sessions, whose time has come."""
        self.router.now = now
        self.snapshots.handle_deadline(now)
        self._deadline = inf
        for client in [client for client in self.clients.values() if not client.state.connected]:
            client.handle_deadline(now)
            if client.over:
                self.sessions_expired += 1
            else:
                self._deadline = min(self._deadline, client.next_deadline())

    def stop(self) -> None:
        """Take no more clients, and end all sessions: connections are told so."""
        if self.stopped:
            return
        for client in list(self.clients.values()):
            connection = client.connection
            if connection is not None:
                connection.fail(r.SERVER_SHUTTING_DOWN, "the service ends")
            client.end()
        if self._watcher in self.router.address_watchers:
            self.router.address_watchers.remove(self._watcher)
        self.snapshots.stop()
        self.publisher.end()
        super().stop()

    # -- counts ------------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """What there is, and what was dropped, for management."""
        clients = self.clients.values()
        return {
            "sessions": len(self.clients),
            "connected": sum(client.connection is not None for client in clients),
            "subscriptions": sum(len(client.held) for client in clients),
            "retained": len(self.retained),
            "retainedOctets": self.retained.octets,
            "queued": sum(client.state.queued for client in clients),
            "queuedOctets": self.store.used,
            "dropped": self.past_dropped + sum(client.state.dropped for client in clients),
        }


def _nobody_waits() -> None:
    """Stand in for `on_deadline`."""
