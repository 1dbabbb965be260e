"""What a client and the server know of one another beyond one network connection (4.1): the session state.

Subscriptions are whoever's joins them to something (`server.py`); here are the messages to the client, those that wait
and those that it has not acknowledged, and what it sent at QoS 2 and has not released. Everything has a bound.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from van.adaptors.mqtt.packets import Publish, Will
from van.adaptors.mqtt.properties import MESSAGE_EXPIRY_INTERVAL, Properties

# Of what waits for a client this many messages and octets are kept. Beyond that a message of QoS 0 is dropped; one of
# QoS 1 or 2 waits where it is while the client is connected, which holds its publisher back, and is dropped otherwise.
MAX_QUEUED: Final = 1000
MAX_QUEUED_OCTETS: Final = 1_048_576
# Messages of QoS 1 and 2 that a client may have unacknowledged, whatever its receive maximum: more of them does not
# make anything faster.
MAX_INFLIGHT: Final = 100

# What counts for a message beside its topic and payload, in octets.
MESSAGE_OVERHEAD: Final = 256

# Outgoing.state: not sent; sent; its release (Pubrel) sent.
WAITING: Final = 0
SENT: Final = 1
RELEASED: Final = 2

# Of an incoming message of QoS 2: its outcome is not known yet; it is known, and the client has been told.
PENDING: Final = 0
RECEIVED: Final = 1


class Arrival:
    """What a message came by, for whoever wants to know what becomes of it."""

    __slots__ = ()

    def done(self) -> None:
        """The client has it, or this session keeps it for the client."""

    def failed(self, sent: bool) -> None:
        """The client will not have it from here; `sent` says that it may have it nevertheless."""


class Outgoing:
    """A message to the client. `expires_at` is in seconds of the driver's clock.

    `replayed`: it is one of the retained messages that a subscription brought, which the bounds do not count.
    """

    __slots__ = (
        "arrival",
        "expires_at",
        "packet_id",
        "payload",
        "properties",
        "qos",
        "replayed",
        "retain",
        "state",
        "stored",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties | None = None,
        expires_at: float = inf,
        arrival: Arrival | None = None,
        replayed: bool = False,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties: Properties = properties if properties is not None else {}
        self.expires_at = expires_at
        self.arrival = arrival
        self.replayed = replayed
        self.packet_id = 0
        self.state = WAITING
        # Whether its octets are counted by the store: those of a delivery that somebody waits for are its router's.
        self.stored = False

    def size(self) -> int:
        """What it counts for, in octets."""
        return len(self.payload) + len(self.topic) + MESSAGE_OVERHEAD

    def publish(self, now: float) -> Publish:
        """The packet that it is sent as; what is left of its expiry interval is said (3.3.2.3.3)."""
        properties = self.properties
        if self.expires_at < inf:
            properties = {**properties, MESSAGE_EXPIRY_INTERVAL: max(0, int(self.expires_at - now))}
        return Publish(
            self.topic,
            self.payload,
            qos=self.qos,
            retain=self.retain,
            packet_id=self.packet_id,
            dup=self.state != WAITING,
            properties=properties,
        )


class Store:
    """Octets that the sessions of a router may keep together, or its retained messages."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, octets: int) -> bool:
        """Count octets; False, and nothing counted, when there is no room for them."""
        if self.used + octets > self.limit:
            return False
        self.used += octets
        return True

    def give(self, octets: int) -> None:
        """Octets are free again."""
        self.used -= octets


class Session:
    """The session state of one client.

    `connected` says whether there is a connection. `expiry` is how long it outlives one, in seconds; `expires_at` when
    it ends, infinity while there is one. `will` is published at `will_at`, unless the client is back before.
    `dropped` counts messages that there was no room for, or that expired. `store` counts the octets of what waits.
    `present` says that it is older than the connection that there is. `keeps` is set while nobody is to wait for this
    client although it is connected.
    """

    __slots__ = (
        "_next_id",
        "client_id",
        "connected",
        "dropped",
        "expires_at",
        "expiry",
        "inflight",
        "keeps",
        "max_octets",
        "max_queued",
        "octets",
        "present",
        "queued",
        "received",
        "replaying",
        "store",
        "waiting",
        "waiting_qos_0",
        "will",
        "will_at",
    )

    def __init__(
        self, client_id: str, store: Store, *, max_queued: int = MAX_QUEUED, max_octets: int = MAX_QUEUED_OCTETS
    ) -> None:
        self.client_id = client_id
        self.store = store
        self.max_queued = max_queued
        self.max_octets = max_octets
        self.connected = True
        self.present = False
        self.keeps = False
        self.expiry = 0.0
        self.expires_at = inf
        self.will: Will | None = None
        self.will_at = inf
        self.waiting: deque[Outgoing] = deque()
        self.waiting_qos_0: deque[Outgoing] = deque()
        self.inflight: dict[int, Outgoing] = {}
        self.received: dict[int, int] = {}
        self.replaying = 0
        self.queued = 0
        self.octets = 0
        self.dropped = 0
        self._next_id = 0

    # -- messages to the client ------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether another message may wait here."""
        return self.queued < self.max_queued and self.octets < self.max_octets

    def may_keep(self, octets: int) -> bool:
        """Whether another message, of so many octets with all that belongs to it, may be kept here."""
        return self.has_room() and self.store.used + octets + MESSAGE_OVERHEAD <= self.store.limit

    def enqueue(self, outgoing: Outgoing) -> None:
        """Have a message wait for the client. One that there is no room for is dropped.

        While the client is not connected, one of QoS 0 is dropped (4.1 leaves that to the server), and the others are
        kept here for it: whoever sent them need not wait.
        """
        if outgoing.replayed:
            self.replaying += 1
        else:
            full = not self.has_room() or (not self.connected and outgoing.qos == 0)
            keeps = self.keeps or not self.connected or outgoing.arrival is None or outgoing.qos == 0
            if full or (keeps and not self._store(outgoing)):
                self._drop(outgoing)
                return
            self.queued += 1
            self.octets += outgoing.size()
        (self.waiting if outgoing.qos else self.waiting_qos_0).append(outgoing)
        if self.keeps or not self.connected:
            self._settle(outgoing)

    def next_to_send(self, quota: int, now: float) -> Outgoing | None:
        """Take the next message to send: one of QoS 0, or of another while fewer than `quota` are unacknowledged."""
        while True:
            if self.waiting_qos_0:
                outgoing = self.waiting_qos_0.popleft()
            elif self.waiting and len(self.inflight) < quota:
                outgoing = self.waiting.popleft()
            else:
                return None
            if outgoing.expires_at <= now:
                self._uncount(outgoing)
                self.dropped += 1
                self._settle(outgoing)
                continue
            if outgoing.qos == 0:
                self._uncount(outgoing)
                self._settle(outgoing)
            else:
                outgoing.packet_id = self._free_id()
                self.inflight[outgoing.packet_id] = outgoing
            return outgoing

    def unsendable(self, outgoing: Outgoing) -> None:
        """A message that was taken is too large for the client: it counts as sent (3.1.2.11.4)."""
        self.dropped += 1
        if self.inflight.pop(outgoing.packet_id, None) is not None:
            self._uncount(outgoing)
            self._settle(outgoing)

    def acknowledged(self, packet_id: int, qos: int, failed: bool) -> Outgoing | None:
        """The client has a message (Puback, or Pubrec at QoS 2), or with `failed` will not have it.

        Returns it; None for an identifier that is not known.
        """
        outgoing = self.inflight.get(packet_id)
        if outgoing is None or outgoing.qos != qos or outgoing.state == WAITING:
            return None
        if outgoing.state == SENT:
            self._uncount(outgoing)
            outgoing.payload = b""
            self._settle(outgoing)
        if qos == 2 and not failed:
            outgoing.state = RELEASED
        else:
            del self.inflight[packet_id]
        return outgoing

    def completed(self, packet_id: int) -> bool:
        """The last answer of QoS 2 is here (Pubcomp); False for an identifier that is not known."""
        outgoing = self.inflight.get(packet_id)
        if outgoing is None or outgoing.state != RELEASED:
            return False
        del self.inflight[packet_id]
        return True

    def _free_id(self) -> int:
        """A packet identifier that is not in use (2.2.1): there are far more than there may be in flight."""
        while True:
            self._next_id = self._next_id % 0xFFFF + 1
            if self._next_id not in self.inflight:
                return self._next_id

    def _uncount(self, outgoing: Outgoing) -> None:
        if outgoing.replayed:
            self.replaying -= 1
        else:
            self.queued -= 1
            self.octets -= outgoing.size()
            if outgoing.stored:
                outgoing.stored = False
                self.store.give(outgoing.size())

    def _store(self, outgoing: Outgoing) -> bool:
        """Count the octets of a message that is kept here; False when there is no room."""
        if not outgoing.stored:
            outgoing.stored = self.store.take(outgoing.size())
        return outgoing.stored

    def _drop(self, outgoing: Outgoing) -> None:
        self.dropped += 1
        arrival = outgoing.arrival
        if arrival is not None:
            outgoing.arrival = None
            arrival.failed(False)

    def _settle(self, outgoing: Outgoing) -> None:
        """Say that a message is in safe hands."""
        arrival = outgoing.arrival
        if arrival is not None:
            outgoing.arrival = None
            arrival.done()

    # -- messages from the client ----------------------------------------------------------------------------------

    def published(self, packet_id: int, failed: bool) -> None:
        """A message that the client sent at QoS 2 has its outcome; one that failed may be sent again."""
        if self.received.get(packet_id) == PENDING:
            if failed:
                del self.received[packet_id]
            else:
                self.received[packet_id] = RECEIVED

    # -- connections -----------------------------------------------------------------------------------------------

    def keep_all(self) -> None:
        """Keep what waits for the client or was not acknowledged here: whoever sent it need not wait any more."""
        self.keeps = True
        for outgoing in (*self.inflight.values(), *self.waiting):
            self.keep(outgoing)

    def keep(self, outgoing: Outgoing) -> None:
        """Keep a message that waits or was not acknowledged here; where there is no room for it, it is dropped."""
        if outgoing.arrival is None:
            return
        if self._store(outgoing):
            self._settle(outgoing)
            return
        self._uncount(outgoing)
        arrival = outgoing.arrival
        outgoing.arrival = None
        self.dropped += 1
        if outgoing.state == WAITING:
            self.waiting.remove(outgoing)
        else:
            del self.inflight[outgoing.packet_id]
        arrival.failed(outgoing.state != WAITING)

    def disconnected(self, now: float) -> None:
        """The connection is gone: what is of QoS 0 with it, and all else is kept here unless the session ends, too."""
        self.connected = False
        self.expires_at = now + self.expiry
        while self.waiting_qos_0:
            outgoing = self.waiting_qos_0.popleft()
            self._uncount(outgoing)
            self._drop(outgoing)
        if self.expiry > 0:
            self.keep_all()

    def resumed(self) -> None:
        """The client is back."""
        self.connected = self.present = True
        self.keeps = False
        self.expires_at = inf
        self.will = None
        self.will_at = inf

    def end(self) -> None:
        """The session is over: nothing of it is kept."""
        self.connected = False
        for outgoing in (*self.waiting_qos_0, *self.waiting, *self.inflight.values()):
            if outgoing.state != RELEASED:
                self._uncount(outgoing)
            arrival = outgoing.arrival
            if arrival is not None:
                outgoing.arrival = None
                arrival.failed(outgoing.state != WAITING)
        self.waiting_qos_0.clear()
        self.waiting.clear()
        self.inflight.clear()
        self.received.clear()

