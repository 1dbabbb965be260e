"""The server's end of one network connection: what a client may send when, and what it is answered (3 and 4).

Octets and the time go in, octets come out, and an owner is asked what only it can know. What is allowed is the table
`_LEGAL`; what breaks a rule ends the connection with the protocol's own error: a Disconnect with its reason at level 5,
and at level 4 a Connack with a return code, or nothing. What outlives the connection is in `session.py`.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from van.adaptors.mqtt.reason import MqttError, protocol_error
from van.adaptors.mqtt.session import (
    MAX_INFLIGHT,
    MAX_QUEUED,
    MAX_QUEUED_OCTETS,
    PENDING,
    RECEIVED,
    RELEASED,
    SENT,
    Outgoing,
    Session,
)
from van.adaptors.mqtt.stream import PacketStream
from van.adaptors.mqtt.topics import check_filter, check_topic

# A packet of a client may be this large: the whole of it is held while it is under way. Clients of level 5 are told.
DEFAULT_MAX_PACKET_SIZE: Final = 1_048_576
# Messages of QoS 1 and 2 that a client may have under way. Clients of level 5 are told; of others no more is read.
DEFAULT_RECEIVE_MAXIMUM: Final = 100
# Topic aliases that a client may set, and that we set for one: each is a topic kept for as long as the connection.
TOPIC_ALIASES: Final = 64
# Answers that a client does not take: beyond so many octets of them nothing more is read of it.
MAX_UNSENT: Final = 65_536
# A client that is silent for its keep-alive and half of it is given up (3.1.2.10).
KEEP_ALIVE_GRACE: Final = 1.5
# A client that has not sent its Connect within this is given up, in seconds (3.1.4 leaves the time to the server).
CONNECT_SECONDS: Final = 10.0
# Retained messages that are looked through for new subscriptions before others have their turn: a millisecond or two.
REPLAY_SLICE: Final = 5000
# What we generate for a client that has no identifier begins with this.
ASSIGNED: Final = "van-"

# States.
AWAITS_CONNECT: Final = 0
CONNECTED: Final = 1
CLOSED: Final = 2


class Settings:
    """What a service says about its clients.

    max_packet_size: octets of a packet that a client may send. receive_maximum: messages of QoS 1 and 2 that one may
    have under way. keep_alive: seconds; one that wants none or a longer one gets this, 0 for as it likes.
    max_session_expiry: seconds that a session may outlive its connection, which is what 3.1.1's have that are not
    clean. max_queued, max_queued_octets: what may wait for a client. max_subscriptions: of one client.
    """

    __slots__ = (
        "keep_alive",
        "max_packet_size",
        "max_queued",
        "max_queued_octets",
        "max_session_expiry",
        "max_subscriptions",
        "receive_maximum",
    )

    def __init__(
        self,
        *,
        max_packet_size: int = DEFAULT_MAX_PACKET_SIZE,
        receive_maximum: int = DEFAULT_RECEIVE_MAXIMUM,
        keep_alive: int = 0,
        max_session_expiry: int = 86_400,
        max_queued: int = MAX_QUEUED,
        max_queued_octets: int = MAX_QUEUED_OCTETS,
        max_subscriptions: int = 1000,
    ) -> None:
        self.max_packet_size = max_packet_size
        self.receive_maximum = receive_maximum
        self.keep_alive = keep_alive
        self.max_session_expiry = max_session_expiry
        self.max_queued = max_queued
        self.max_queued_octets = max_queued_octets
        self.max_subscriptions = max_subscriptions


class ConnectionOwner:
    """Who knows what a connection does not: sessions of other connections, and where messages go."""

    def open_session(self, connect: Connect, client_id: str) -> Session:
        """The session of a client that connects: a new one, or the one that it had and did not want to end.

        Raises MqttError when the client is refused.
        """
        raise NotImplementedError

    def new_client_id(self) -> str:
        """An identifier that no client has."""
        raise NotImplementedError

    def publish(self, publish: Publish) -> bool:
        """Take a message. False: it cannot be taken now, and is offered again after `resume`.

        At QoS 1 and 2 its outcome is told with `published`, perhaps before this returns.
        """
        raise NotImplementedError

    def subscribe(self, subscription: Subscription, identifier: int) -> int:
        """Take a subscription, whose filter is one; returns the reason code of its answer. identifier: 0 for none."""
        raise NotImplementedError

    def subscribed(self, subscription: Subscription) -> int:
        """The answer to a subscription that was taken is on its way: retained messages may follow.

        Returns how many were looked through.
        """
        raise NotImplementedError

    def unsubscribe(self, topic_filter: str) -> int:
        """Give a subscription up; returns the reason code of its answer."""
        raise NotImplementedError

    def disconnected(self, clean: bool) -> None:
        """A client that had a session is gone; `clean`: it said so, and wants no will published."""
        raise NotImplementedError


class ServerConnection:
    """One client's network connection.

    `level` is the protocol level, `client_id` who it is, `session` its state; None until it is connected. `reason` says
    in words why the connection ended. `paused` says that octets wait for `resume` to be looked at.
    """

    __slots__ = (
        "_began_at",
        "_heard_at",
        "_held",
        "_keep_alive",
        "_out",
        "_quota",
        "_replays",
        "_resend",
        "_stream",
        "_topic_aliases_in",
        "_topic_aliases_out",
        "_under_way",
        "_unsent",
        "by_peer",
        "clean",
        "client_id",
        "closed",
        "connect",
        "level",
        "max_aliases_out",
        "max_out",
        "messages_in",
        "messages_out",
        "now",
        "owner",
        "paused",
        "problem_information",
        "reason",
        "session",
        "settings",
        "state",
    )

    def __init__(self, owner: ConnectionOwner, settings: Settings, now: float) -> None:
        self.owner = owner
        self.settings = settings
        self.now = now
        self.level = MQTT_3_1_1
        self.client_id = ""
        self.connect: Connect | None = None
        self.session: Session | None = None
        self.state = AWAITS_CONNECT
        self.closed = False
        self.clean = False
        self.by_peer = False
        self.reason = ""
        self.paused = False
        self.messages_in = 0
        self.messages_out = 0
        self.max_out = p.MAX_VARIABLE
        self.max_aliases_out = 0
        self.problem_information = True
        self._stream = PacketStream()
        self._out: list[bytes] = []
        self._unsent = 0
        self._held: Publish | None = None
        self._began_at = self._heard_at = now
        self._keep_alive = 0.0
        self._quota = MAX_INFLIGHT
        self._resend: list[Outgoing] = []
        # Subscriptions whose retained messages have not followed yet.
        self._replays: deque[Subscription] = deque()
        # Identifiers of messages that came on this connection and are not done with.
        self._under_way: set[int] = set()
        self._topic_aliases_in: dict[int, str] = {}
        self._topic_aliases_out: dict[str, int] = {}

    # -- octets ----------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take octets from the client."""
        self.now = now
        self._heard_at = now
        if not self.closed:
            self._stream.feed(data)
            self._read()

    def receive_eof(self, now: float) -> None:
        """The client will send nothing more."""
        self.now = now
        if not self.closed:
            self.by_peer = True
            self._end("the client went away without saying so")

    def resume(self, now: float) -> None:
        """Go on with what was held back."""
        self.now = now
        if self.paused and not self.closed and not self._replays:
            self.paused = False
            self._heard_at = now
            self._read()

    @property
    def has_output(self) -> bool:
        """Whether there is an answer to be written."""
        return self._unsent > 0

    def _read(self) -> None:
        try:
            held = self._held
            if held is not None:
                self._held = None
                self._on_publish(held)
            while not self.closed and not self.paused:
                if self._unsent > MAX_UNSENT:
                    # It does not take its answers: there will be no more of them.
                    self.paused = True
                    return
                packet = self._stream.next_packet()
                if packet is None:
                    return
                self._take(packet)
        except MqttError as error:
            self.fail(error.reason, error.description)

    def _take(self, packet: Packet) -> None:
        packet_type = packet.TYPE
        if self.state not in _LEGAL.get(packet_type, ()):
            if self.state == AWAITS_CONNECT:
                raise protocol_error("the first packet is no Connect")
            raise protocol_error(f"{type(packet).__name__} from a client")
        if isinstance(packet, Publish):
            self._on_publish(packet)
        elif isinstance(packet, Puback):
            self._acknowledged(packet.packet_id, 1, packet.reason >= r.FAILURE)
        elif isinstance(packet, Pubrec):
            self._on_pubrec(packet)
        elif isinstance(packet, Pubrel):
            self._on_pubrel(packet)
        elif isinstance(packet, Pubcomp):
            self._session().completed(packet.packet_id)
        elif isinstance(packet, Subscribe):
            self._on_subscribe(packet)
        elif isinstance(packet, Unsubscribe):
            self._on_unsubscribe(packet)
        elif isinstance(packet, Pingreq):
            self._send(Pingresp())
        elif isinstance(packet, Connect):
            self._on_connect(packet)
        elif isinstance(packet, Disconnect):
            self._on_disconnect(packet)
        else:
            assert isinstance(packet, Auth)
            # 4.12: no method was agreed upon.
            raise protocol_error("Auth without an authentication method")

    def data_to_send(self, limit: int, now: float) -> list[bytes]:
        """Chunks to be written in this order, about `limit` octets at most."""
        self.now = now
        out = self._out
        self._out = []
        size = self._unsent
        self._unsent = 0
        session = self.session
        if session is not None and self.state == CONNECTED:
            while size < limit:
                packet = self._next_message(session)
                if packet is None:
                    break
                out.append(packet)
                size += len(packet)
        return out

    def _next_message(self, session: Session) -> bytes | None:
        """The next message to the client, None when none can be sent."""
        while True:
            if self._resend:
                outgoing = self._resend[0]
                if outgoing.state == RELEASED:
                    self._resend.pop(0)
                    return Pubrel(outgoing.packet_id).encode(self.level)
                if len(session.inflight) - len(self._resend) >= self._quota:
                    return None
                self._resend.pop(0)
            else:
                following = session.next_to_send(self._quota, self.now)
                if following is None:
                    return None
                outgoing = following
            packet = self._encode(outgoing)
            if len(packet) > self.max_out:
                session.unsendable(outgoing)
                continue
            outgoing.state = SENT
            self.messages_out += 1
            return packet

    def _encode(self, outgoing: Outgoing) -> bytes:
        publish = outgoing.publish(self.now)
        if self.level == MQTT_5 and self.max_aliases_out:
            aliases = self._topic_aliases_out
            alias = aliases.get(publish.topic)
            if alias is not None:
                publish.properties = {**publish.properties, p.TOPIC_ALIAS: alias}
                publish.topic = ""
            elif len(aliases) < self.max_aliases_out:
                alias = aliases[publish.topic] = len(aliases) + 1
                publish.properties = {**publish.properties, p.TOPIC_ALIAS: alias}
        return publish.encode(self.level)

    def _send(self, packet: Packet) -> None:
        octets = packet.encode(self.level)
        if len(octets) > self.max_out:
            # 3.1.2.11.4: what a client does not take is not sent. It cannot be for our texts alone that it takes none.
            return
        self._out.append(octets)
        self._unsent += len(octets)

    # -- time ------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called, in seconds of the driver's clock."""
        if self.state == AWAITS_CONNECT:
            return self._began_at + CONNECT_SECONDS
        if self._replays and not self.closed:
            return self.now
        if self._keep_alive <= 0 or self.closed or self.paused:
            return inf
        return self._heard_at + self._keep_alive

    def handle_deadline(self, now: float) -> None:
        """Give up a client that was silent for too long."""
        self.now = now
        if self._replays and not self.closed:
            self._replay()
            self.resume(now)
            return
        if now < self.next_deadline():
            return
        if self.state == AWAITS_CONNECT:
            self.fail(r.UNSPECIFIED_ERROR, f"no Connect within {CONNECT_SECONDS:g} s")
        else:
            self.fail(r.KEEP_ALIVE_TIMEOUT, "the client was silent for longer than its keep-alive")

    # -- ends ------------------------------------------------------------------------------------------------------

    def fail(self, reason: int, description: str) -> None:
        """End the connection: the client is told the reason where its protocol can."""
        if self.closed:
            return
        if self.state == AWAITS_CONNECT:
            self._refuse(reason, description)
        elif self.level == MQTT_5:
            properties: p.Properties = {p.REASON_STRING: description} if self.problem_information else {}
            code = reason if reason in Disconnect.REASONS else r.UNSPECIFIED_ERROR
            self._send(Disconnect(code, properties=properties))
        self._end(description)

    def _refuse(self, reason: int, description: str) -> None:
        """Answer a Connect that is refused (3.1.4, 3.2.2.2); what was none gets no answer."""
        connect = self.connect
        if connect is None and reason != r.UNSUPPORTED_PROTOCOL_VERSION:
            # 4.13.1: what is malformed before the level is known is answered by the end of the connection.
            return
        if connect is not None and connect.level == MQTT_5:
            self.level = MQTT_5
            code = reason if reason in Connack.REASONS else r.UNSPECIFIED_ERROR
            self._send(Connack(code, properties={p.REASON_STRING: description}))
            return
        refusal = r.return_code(reason)
        if refusal is not None:
            self.level = MQTT_3_1_1
            self._send(Connack(refusal))

    def _end(self, description: str) -> None:
        self.reason = description
        self.closed = True
        self.paused = False
        connected = self.state == CONNECTED
        self.state = CLOSED
        if connected:
            self.owner.disconnected(self.clean)

    # -- connecting ------------------------------------------------------------------------------------------------

    def _session(self) -> Session:
        session = self.session
        assert session is not None
        return session

    def _on_connect(self, connect: Connect) -> None:
        self.connect = connect
        properties = connect.properties
        settings = self.settings
        new = connect.level == MQTT_5
        self._check_connect(connect)
        client_id = connect.client_id
        answer: p.Properties = {}
        if not client_id:
            if not new and not connect.clean_start:
                # 3.1.1, 3.1.3.1: there is no session to come back to.
                raise MqttError(r.CLIENT_IDENTIFIER_NOT_VALID, "no client identifier, and no clean session")
            client_id = self.owner.new_client_id()
            answer[p.ASSIGNED_CLIENT_IDENTIFIER] = client_id
        wanted = p.integer(properties, p.SESSION_EXPIRY_INTERVAL, 0)
        if not new:
            wanted = 0 if connect.clean_start else settings.max_session_expiry
        session = self.owner.open_session(connect, client_id)
        session.expiry = float(min(wanted, settings.max_session_expiry))
        if new and session.expiry < wanted:
            answer[p.SESSION_EXPIRY_INTERVAL] = settings.max_session_expiry
        keep_alive = connect.keep_alive
        if settings.keep_alive and not 0 < keep_alive <= settings.keep_alive:
            keep_alive = settings.keep_alive
            answer[p.SERVER_KEEP_ALIVE] = keep_alive
        self._keep_alive = keep_alive * KEEP_ALIVE_GRACE
        self.client_id = client_id
        self.session = session
        self.state = CONNECTED
        self.level = self._stream.level = connect.level
        self._stream.max_size = settings.max_packet_size
        self._resend = list(session.inflight.values())
        self._quota = min(MAX_INFLIGHT, p.integer(properties, p.RECEIVE_MAXIMUM, 0xFFFF))
        self.max_out = p.integer(properties, p.MAXIMUM_PACKET_SIZE, p.MAX_VARIABLE)
        self.max_aliases_out = min(TOPIC_ALIASES, p.integer(properties, p.TOPIC_ALIAS_MAXIMUM, 0))
        self.problem_information = p.integer(properties, p.REQUEST_PROBLEM_INFORMATION, 1) == 1
        if new:
            answer[p.RECEIVE_MAXIMUM] = settings.receive_maximum
            answer[p.MAXIMUM_PACKET_SIZE] = settings.max_packet_size
            answer[p.TOPIC_ALIAS_MAXIMUM] = TOPIC_ALIASES
        self._send(Connack(r.SUCCESS, session_present=session.present, properties=answer if new else {}))

    def _check_connect(self, connect: Connect) -> None:
        properties = connect.properties
        if p.AUTHENTICATION_METHOD in properties:
            raise MqttError(r.BAD_AUTHENTICATION_METHOD, "no enhanced authentication is offered")
        if p.AUTHENTICATION_DATA in properties:
            raise protocol_error("authentication data without a method")
        will = connect.will
        if will is not None:
            check_topic(will.topic)
            response = p.text(will.properties, p.RESPONSE_TOPIC)
            if response is not None:
                check_topic(response)

    def _on_disconnect(self, packet: Disconnect) -> None:
        session = self._session()
        expiry = packet.properties.get(p.SESSION_EXPIRY_INTERVAL)
        if isinstance(expiry, int):
            if expiry and session.expiry == 0:
                # 3.14.2.2.2: a session that was to end with its connection cannot be made to last.
                raise protocol_error("a session expiry interval for a session without one")
            session.expiry = float(min(expiry, self.settings.max_session_expiry))
        self.clean = packet.reason == r.NORMAL_DISCONNECTION
        self.by_peer = True
        self._end("" if packet.reason < r.FAILURE else f"the client gave the reason 0x{packet.reason:02x}")

    # -- messages from the client ----------------------------------------------------------------------------------

    def _on_publish(self, publish: Publish) -> None:
        session = self._session()
        if self.level == MQTT_5:
            self._look_up_alias(publish)
            if p.SUBSCRIPTION_IDENTIFIER in publish.properties:
                raise protocol_error("a subscription identifier from a client")
            response = p.text(publish.properties, p.RESPONSE_TOPIC)
            if response is not None:
                check_topic(response)
        check_topic(publish.topic)
        packet_id = publish.packet_id
        if publish.qos:
            state = session.received.get(packet_id)
            if publish.qos == 1 and state is not None:
                raise protocol_error(f"packet identifier {packet_id} is that of a message of QoS 2")
            if state is not None or packet_id in self._under_way:
                # It is here already, and was sent again: its answer follows, or does again.
                if state == RECEIVED:
                    self._send(Pubrec(packet_id))
                return
            if len(self._under_way) >= self.settings.receive_maximum:
                if self.level == MQTT_5:
                    raise MqttError(r.RECEIVE_MAXIMUM_EXCEEDED, "more messages under way than the receive maximum")
                self._hold(publish)
                return
            self._under_way.add(packet_id)
            if publish.qos == 2:
                session.received[packet_id] = PENDING
        if self.owner.publish(publish):
            self.messages_in += 1
            return
        if publish.qos:
            self._under_way.discard(packet_id)
            session.received.pop(packet_id, None)
        self._hold(publish)

    def _hold(self, publish: Publish) -> None:
        """Look at nothing more until there is room for this message."""
        self._held = publish
        self.paused = True

    def _look_up_alias(self, publish: Publish) -> None:
        """Topic aliases (3.3.2.3.4)."""
        alias = publish.properties.pop(p.TOPIC_ALIAS, None)
        if not isinstance(alias, int):
            if not publish.topic:
                raise protocol_error("a message without a topic or an alias")
            return
        if alias > TOPIC_ALIASES:
            raise MqttError(r.TOPIC_ALIAS_INVALID, f"topic alias {alias}, at most {TOPIC_ALIASES} are taken")
        if publish.topic:
            check_topic(publish.topic)
            self._topic_aliases_in[alias] = publish.topic
            return
        topic = self._topic_aliases_in.get(alias)
        if topic is None:
            raise protocol_error(f"topic alias {alias} stands for nothing")
        publish.topic = topic

    def published(self, packet_id: int, qos: int, reason: int) -> None:
        """A message of the client has its outcome; the session knows of it already (`Session.published`)."""
        if self.state != CONNECTED:
            return
        if qos == 1 or reason >= r.FAILURE:
            self._under_way.discard(packet_id)
        if self.level != MQTT_5:
            reason = r.SUCCESS
        self._send(Puback(packet_id, reason) if qos == 1 else Pubrec(packet_id, reason))

    def _on_pubrel(self, packet: Pubrel) -> None:
        session = self._session()
        state = session.received.get(packet.packet_id)
        if state == RECEIVED:
            del session.received[packet.packet_id]
            self._under_way.discard(packet.packet_id)
            self._send(Pubcomp(packet.packet_id))
        elif self.level == MQTT_5:
            self._send(Pubcomp(packet.packet_id, r.PACKET_IDENTIFIER_NOT_FOUND))
        else:
            self._send(Pubcomp(packet.packet_id))

    # -- messages to the client ------------------------------------------------------------------------------------

    def _acknowledged(self, packet_id: int, qos: int, failed: bool) -> bool:
        """The client has a message. An identifier that stands for nothing asks for nothing."""
        return self._session().acknowledged(packet_id, qos, failed) is not None

    def _on_pubrec(self, packet: Pubrec) -> None:
        failed = packet.reason >= r.FAILURE
        known = self._acknowledged(packet.packet_id, 2, failed)
        if failed:
            return
        if known or self.level != MQTT_5:
            self._send(Pubrel(packet.packet_id))
        else:
            self._send(Pubrel(packet.packet_id, r.PACKET_IDENTIFIER_NOT_FOUND))

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def _on_subscribe(self, packet: Subscribe) -> None:
        identifiers = packet.properties.get(p.SUBSCRIPTION_IDENTIFIER)
        identifier = identifiers[0] if isinstance(identifiers, list) else 0
        codes = []
        taken = []
        for subscription in packet.subscriptions:
            try:
                check_filter(subscription.filter)
                code = self.owner.subscribe(subscription, identifier)
            except MqttError as error:
                if error.reason == r.PROTOCOL_ERROR:
                    raise
                code = error.reason
            if code < r.FAILURE:
                taken.append(subscription)
            elif self.level != MQTT_5:
                code = r.UNSPECIFIED_ERROR
            codes.append(code)
        self._send(Suback(packet.packet_id, codes))
        self._replays += taken
        self._replay()

    def _replay(self) -> None:
        """Have retained messages follow; where they are many, nothing more is looked at before the next slice."""
        replays = self._replays
        cost = 0
        while replays and cost < REPLAY_SLICE:
            cost += self.owner.subscribed(replays.popleft())
        if replays:
            self.paused = True

    def _on_unsubscribe(self, packet: Unsubscribe) -> None:
        codes = []
        for topic_filter in packet.filters:
            try:
                check_filter(topic_filter)
                codes.append(self.owner.unsubscribe(topic_filter))
            except MqttError as error:
                codes.append(error.reason)
        self._send(Unsuback(packet.packet_id, codes if self.level == MQTT_5 else []))


# What a client may send in which state; what is not here it may not send at all.
_LEGAL: Final[dict[int, tuple[int, ...]]] = {
    p.CONNECT: (AWAITS_CONNECT,),
    p.PUBLISH: (CONNECTED,),
    p.PUBACK: (CONNECTED,),
    p.PUBREC: (CONNECTED,),
    p.PUBREL: (CONNECTED,),
    p.PUBCOMP: (CONNECTED,),
    p.SUBSCRIBE: (CONNECTED,),
    p.UNSUBSCRIBE: (CONNECTED,),
    p.PINGREQ: (CONNECTED,),
    p.DISCONNECT: (CONNECTED,),
    p.AUTH: (CONNECTED,),
}
