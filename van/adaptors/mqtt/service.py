"""An MQTT service of a router: its clients, which filters there are in the network, and retained messages.

A message goes to the address of its topic, and to one for each filter with wildcards and each shared subscription that
matches; a router knows these from the addresses of the network that it is told of. On an edge router, which is not
told, messages go to the address of their topic alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final, cast

from van.adaptors.amqp import Log, no_log
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.client import Client, is_presettled
from van.adaptors.mqtt.connection import Settings
from van.adaptors.mqtt.message import mqtt_message, not_a_message, rejection
from van.adaptors.mqtt.packets import Connect
from van.adaptors.mqtt.reason import MqttError
from van.adaptors.mqtt.retained import RetainedStore
from van.adaptors.mqtt.session import Store
from van.adaptors.mqtt.topics import DEFAULT_PREFIX, Addresses, FilterTree
from van.adaptors.service import PeerInfo, Service
from van.amqp.delivery_state import ACCEPTED
from van.amqp.errors import AmqpSessionError, DecodeError, ErrorCondition
from van.routing.address import Address, AddressConfig, AddressWatcher, Distribution, address_key
from van.routing.edge_router import EdgeRouter
from van.routing.endpoint import EndpointSenderLink
from van.routing.router import Router

if TYPE_CHECKING:
    from van.amqp.delivery import Delivery

# Clients, connected or not, that may have a session at one router: each takes some 10 KB.
MAX_SESSIONS: Final = 10_000
# What may wait for all clients together, and for those that are not connected, in octets.
MAX_STORED_OCTETS: Final = 67_108_864
# The link by which messages come that are to be retained.
RETAINED_CAPACITY: Final = 250

Admit = Callable[[Connect, PeerInfo], int]
"""Called with a Connect; returns the reason code of its answer, 0 to let the client in."""


def admit_everybody(connect: Connect, info: PeerInfo) -> int:
    """Let every client in."""
    return r.SUCCESS


class _Filters(AddressWatcher):
    """Keeps note of the addresses that are filters."""

    __slots__ = ("_addresses", "tree")

    def __init__(self, addresses: Addresses, router: Router) -> None:
        self._addresses = addresses
        self.tree = FilterTree()
        for address in router.addresses.values():
            self.made(address)

    def made(self, address: Address) -> None:
        topic_filter = self._addresses.of_key(address.key)
        if topic_filter:
            self.tree.add(topic_filter, address.key, address)

    def forgotten(self, address: Address) -> None:
        topic_filter = self._addresses.of_key(address.key)
        if topic_filter:
            self.tree.remove(topic_filter, address.key)


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
        super().__init__(router, name, prefix, log)
        self.addresses = Addresses(prefix)
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
        self._treat(f"{prefix}/#", Distribution.MULTICAST)
        self._treat(self.addresses.retained, Distribution.MULTICAST)
        self._treat(f"{self.addresses.shares}#", Distribution.BALANCED)
        self._filters = _Filters(self.addresses, router)
        router.address_watchers.append(self._filters)
        self._retained_link = self.session.attach_outgoing(self.addresses.retained, RETAINED_CAPACITY)

    def _treat(self, pattern: str, distribution: Distribution) -> None:
        """Have addresses distributed as they have to be, unless the configuration has the same pattern."""
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
            if known.over:
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

    def targets(self, topic: str, retain: bool) -> list[str]:
        """The addresses that a message of this topic goes to: those that somebody receives from."""
        addresses = self.addresses
        router = self.router
        literal = addresses.of(topic)
        found = []
        if self.reachable(literal):
            found.append(literal)
        for value in self._filters.tree.match(topic):
            address = cast("Address", value)
            if address.reachable():
                found.append(self._text(address.key))
        if retain and not router.ending:
            found.append(addresses.retained)
        return found

    def reachable(self, text: str) -> bool:
        """Whether somebody receives from an address, or might: an edge router does not know."""
        if isinstance(self.router, EdgeRouter):
            return True
        address = self.router.addresses.get(address_key(text, self.router.id))
        return address is not None and address.reachable()

    def _text(self, key: str) -> str:
        """The text of an address with this key."""
        end = "/" if key[-1] in "/." else ""
        return key[1:] + end

    # -- retained messages -------------------------------------------------------------------------------------------

    def work(self) -> None:
        session = self.session
        session.look()
        for noted in (session.told, session.credited, session.grown):
            noted.clear()
        ready = session.ready
        session.ready = []
        for link in ready:
            while (delivery := link.take()) is not None:
                if delivery.chunks is None:
                    self._retain(link, delivery, delivery.payload)
                else:
                    stream = link.stream(delivery, session)
                    payload = b"".join(stream.read(self.settings.max_packet_size + 1))
                    if stream.finished:
                        stream.settle(self._keep(payload, is_presettled(delivery)))
                    else:
                        text = "a message to be retained that is too large, or was sent on before it was whole"
                        stream.settle(rejection(ErrorCondition.MESSAGE_SIZE_EXCEEDED, text))

    def _retain(self, link: EndpointSenderLink, delivery: Delivery, payload: bytes) -> None:
        link.settle(delivery, self._keep(payload, delivery.settled))

    def _keep(self, payload: bytes, settled: bool) -> object:
        """Retain a message; returns its outcome."""
        try:
            message = mqtt_message(payload, self.addresses, "")
        except (DecodeError, MqttError) as error:
            return not_a_message(error.description)
        if settled:
            message.qos = 0
        if not self.retained.put(message, self.router.now):
            return rejection(ErrorCondition.RESOURCE_LIMIT_EXCEEDED, "no room for another retained message")
        return ACCEPTED

    # -- time --------------------------------------------------------------------------------------------------------

    def expects(self, deadline: float) -> None:
        """A session will want its deadline to be seen to."""
        if deadline < self._deadline:
            self._deadline = deadline
            self.on_deadline()

    def next_deadline(self) -> float:
        return self._deadline

    def handle_deadline(self, now: float) -> None:
        """Publish wills, and end sessions, whose time has come."""
        self.router.now = now
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
        if self._filters in self.router.address_watchers:
            self.router.address_watchers.remove(self._filters)
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
