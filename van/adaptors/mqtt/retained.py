"""Retained messages (3.3.1.3): the last one of each topic, as far as this router has heard of them.

Every router with an MQTT service hears every message that is to be retained, over an address of all of them; one that
is new asks another for what there was before it. Of two messages that were published in the same moment at two routers,
one may be the last here and the other there. Nothing is kept on disk.
"""

from __future__ import annotations

from math import inf
from typing import Final

from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt.message import MqttMessage
from van.adaptors.mqtt.session import MESSAGE_OVERHEAD, Outgoing, Store
from van.adaptors.mqtt.topics import TopicTree

# Topics that have a retained message here; a message for another one is refused.
MAX_RETAINED: Final = 10_000
# What they may take together, in octets.
MAX_RETAINED_OCTETS: Final = 16_777_216


class Retained:
    """A retained message, and when it expires, in seconds of the driver's clock."""

    __slots__ = ("expires_at", "message")

    def __init__(self, message: MqttMessage, expires_at: float) -> None:
        self.message = message
        self.expires_at = expires_at

    def size(self) -> int:
        """What it counts for, in octets."""
        return len(self.message.payload) + len(self.message.topic) + MESSAGE_OVERHEAD

    def copy(self, now: float) -> MqttMessage:
        """The message as it would be published now, for another router."""
        message = self.message
        properties = dict(message.properties)
        if self.expires_at < inf:
            properties[p.MESSAGE_EXPIRY_INTERVAL] = max(1, int(self.expires_at - now))
        return MqttMessage(message.topic, message.payload, qos=message.qos, retain=True, properties=properties)

    def outgoing(self, qos: int) -> Outgoing:
        """The message to a new subscriber: it is marked as retained (3.3.1.3)."""
        message = self.message
        return Outgoing(
            message.topic,
            message.payload,
            qos=min(qos, message.qos),
            retain=True,
            properties=dict(message.properties),
            expires_at=self.expires_at,
            replayed=True,
        )


class RetainedStore:
    """The retained messages of one router. `refused` counts those that there was no room for."""

    __slots__ = ("_messages", "_store", "_topics", "max_count", "refused")

    def __init__(self, max_count: int = MAX_RETAINED, max_octets: int = MAX_RETAINED_OCTETS) -> None:
        self.max_count = max_count
        self._store = Store(max_octets)
        self._messages: dict[str, Retained] = {}
        self._topics = TopicTree()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def octets(self) -> int:
        """What the messages count for."""
        return self._store.used

    def put(self, message: MqttMessage, now: float) -> bool:
        """Take a message as the last one of its topic; an empty one takes what is there away. False: there is no room.

        Where there is no room for a new one, the old one is gone, too: it is not the last any more.
        """
        topic = message.topic
        self._forget(topic)
        if not message.payload:
            return True
        retained = Retained(message, now + message.expiry if message.expiry is not None else inf)
        if len(self._messages) >= self.max_count or not self._store.take(retained.size()):
            self.refused += 1
            return False
        self._messages[topic] = retained
        self._topics.put(topic, retained)
        return True

    def has(self, topic: str) -> bool:
        """Whether there is a message of this topic."""
        return topic in self._messages

    def all(self) -> list[Retained]:
        """All messages."""
        return list(self._messages.values())

    def match(self, topic_filter: str, now: float) -> list[Retained]:
        """The messages whose topics a filter matches; those that have expired are forgotten (3.3.2.3.3)."""
        found: list[Retained] = []
        for value in self._topics.match(topic_filter):
            assert isinstance(value, Retained)
            if value.expires_at <= now:
                self._forget(value.message.topic)
            else:
                found.append(value)
        return found

    def _forget(self, topic: str) -> None:
        known = self._messages.pop(topic, None)
        if known is not None:
            self._topics.remove(topic)
            self._store.give(known.size())
