"""MQTT clients without sockets at routers without sockets: every step is the scene's, and time is virtual.

    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("a/+", 1)
    scene.peer("p").publish("a/b", b"hello", qos=1)
    assert subscriber.payloads == [b"hello"]

The wires hand octets over whole, or with `piece` in pieces of that many octets. A peer acknowledges what comes as the
specification wants it, unless `auto` is unset; while `reading` is unset, it takes no octets, and its wire fills.
"""

from __future__ import annotations

import itertools
from math import inf
from typing import TypeVar

from tests.adaptors.routers import RouterNode, Routers
from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt.adaptor import MqttAdaptor
from van.adaptors.mqtt.connection import Settings
from van.adaptors.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
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
    Will,
)
from van.adaptors.mqtt.service import MqttService
from van.adaptors.mqtt.stream import PacketStream
from van.adaptors.service import PeerInfo

P = TypeVar("P", bound=Packet)

# What a wire holds while its client does not read: a socket's buffers.
WIRE = 65_536


class Peer:
    """One client's connection; `packets` is all that came."""

    def __init__(self, scene: Scene, service: MqttService, level: int) -> None:
        self.scene = scene
        self.level = level
        self.adaptor = MqttAdaptor(service, PeerInfo(), now=scene.now)
        self.adaptor.on_wake = self.flush
        self.stream = PacketStream(level, 1 << 28)
        self.packets: list[Packet] = []
        self.auto = True
        self.reading = True
        self.cut_off = False
        self._ids = itertools.count(1)
        self._to_server = bytearray()
        self._from_server = bytearray()
        scene.peers.append(self)

    # -- wires -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        while len(self._from_server) < WIRE and not self.cut_off:
            chunks = self.adaptor.data_to_send(65_536)
            if not chunks:
                return
            self._from_server += b"".join(chunks)
        self.adaptor.look()

    def step(self) -> bool:
        """Move what there is; tells whether anything moved."""
        moved = False
        scene = self.scene
        while self._to_server and self.adaptor.reading and not self.adaptor.closed:
            size = scene.piece or len(self._to_server)
            data = bytes(self._to_server[:size])
            del self._to_server[:size]
            self.adaptor.receive_data(data, scene.now)
            self.adaptor.router.wake_touched()
            moved = True
        if self.reading and self._from_server:
            data = bytes(self._from_server)
            self._from_server.clear()
            self.stream.feed(data)
            while (packet := self.stream.next_packet()) is not None:
                self.packets.append(packet)
                if self.auto:
                    self._answer(packet)
            self.flush()
            moved = True
        return moved

    def _answer(self, packet: Packet) -> None:
        if isinstance(packet, Publish) and packet.qos:
            self.write(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))
        elif isinstance(packet, Pubrec) and packet.reason < 0x80:
            self.write(Pubrel(packet.packet_id))
        elif isinstance(packet, Pubrel):
            self.write(Pubcomp(packet.packet_id))

    # -- verbs -----------------------------------------------------------------------------------------------------

    def write_raw(self, data: bytes) -> None:
        self._to_server += data

    def write(self, *packets: Packet) -> None:
        for packet in packets:
            self.write_raw(packet.encode(self.level))

    def send(self, *packets: Packet) -> None:
        self.write(*packets)
        self.scene.run()

    def connect(
        self,
        client_id: str = "",
        *,
        clean_start: bool = True,
        keep_alive: int = 0,
        will: Will | None = None,
        properties: p.Properties | None = None,
    ) -> Connack:
        self.send(
            Connect(
                level=self.level,
                client_id=client_id,
                clean_start=clean_start,
                keep_alive=keep_alive,
                will=will,
                properties=properties,
            )
        )
        return self.last(Connack)

    def subscribe(self, topic_filter: str, qos: int = 0, *, identifier: int = 0, **options: int) -> int:
        """Subscribe to one filter; returns the code of the answer."""
        subscription = Subscription(topic_filter, qos, **options)  # type: ignore[arg-type]
        properties: p.Properties = {p.SUBSCRIPTION_IDENTIFIER: [identifier]} if identifier else {}
        self.send(Subscribe(next(self._ids), [subscription], properties=properties))
        (code,) = self.last(Suback).codes
        return code

    def unsubscribe(self, topic_filter: str) -> list[int]:
        self.send(Unsubscribe(next(self._ids), [topic_filter]))
        return self.last(Unsuback).codes

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        properties: p.Properties | None = None,
    ) -> int:
        """Publish a message; returns its packet identifier."""
        packet_id = next(self._ids) if qos else 0
        self.send(Publish(topic, payload, qos=qos, retain=retain, packet_id=packet_id, properties=properties))
        return packet_id

    def disconnect(self, reason: int = 0, properties: p.Properties | None = None) -> None:
        self.send(Disconnect(reason, properties=properties))
        self.lose()

    def lose(self) -> None:
        """The stream is gone."""
        if not self.cut_off:
            self.cut_off = True
            self.scene.peers.remove(self)
            self.adaptor.connection_lost(self.scene.now)
            self.adaptor.router.wake_touched()
            self.scene.run()

    def ended(self) -> bool:
        """Whether the server has ended the connection, but for its last octets."""
        return self.adaptor.connection.closed

    def is_read(self) -> bool:
        """Whether the server reads what the client writes."""
        return self.adaptor.reading

    # -- what came ---------------------------------------------------------------------------------------------------

    def of(self, kind: type[P]) -> list[P]:
        return [packet for packet in self.packets if isinstance(packet, kind)]

    def last(self, kind: type[P]) -> P:
        """The last packet of a kind, which is taken away."""
        packet = self.of(kind)[-1]
        self.packets = [other for other in self.packets if other is not packet]
        return packet

    @property
    def messages(self) -> list[Publish]:
        return self.of(Publish)

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]


class Scene:
    """Routers in a line, each with an MQTT service, and clients at them."""

    def __init__(self, routers: int = 1, *, piece: int = 0, settings: Settings | None = None) -> None:
        self.network = Routers()
        self.piece = piece
        self.nodes: list[RouterNode] = [self.network.router(name) for name in "ABC"[:routers]]
        for one, other in itertools.pairwise(self.nodes):
            self.network.connect(one, other)
        self.peers: list[Peer] = []
        self.services: list[MqttService] = []
        self.network.advance(10.0 if routers > 1 else 0.0)
        for node in self.nodes:
            self.services.append(MqttService(node.router, settings=settings, log=node.log))
        self.settle()

    @property
    def now(self) -> float:
        return self.network.now

    @property
    def service(self) -> MqttService:
        return self.services[0]

    def peer(
        self,
        client_id: str = "",
        *,
        at: int = 0,
        level: int = MQTT_5,
        clean_start: bool = True,
        keep_alive: int = 0,
        will: Will | None = None,
        expiry: int = 0,
        auto: bool = True,
        properties: p.Properties | None = None,
    ) -> Peer:
        """A client that has connected. expiry: seconds of its session, for MQTT 5."""
        peer = Peer(self, self.services[at], level)
        peer.auto = auto
        properties = dict(properties or {})
        if expiry:
            properties[p.SESSION_EXPIRY_INTERVAL] = expiry
        answer = peer.connect(
            client_id, clean_start=clean_start, keep_alive=keep_alive, will=will, properties=properties
        )
        assert answer.code == 0
        return peer

    def old_peer(self, client_id: str = "", **options: bool) -> Peer:
        """A client of MQTT 3.1.1."""
        return self.peer(client_id, level=MQTT_3_1_1, **options)  # type: ignore[arg-type]

    def run(self) -> None:
        moving = True
        while moving:
            self.network.run()
            moving = False
            for peer in list(self.peers):
                moving |= peer.step()
            for node in self.nodes:
                node.router.wake_touched()

    def settle(self) -> None:
        """Let routers tell one another what is new."""
        self.advance(2.0 if len(self.nodes) > 1 else 0.0)

    def advance(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self.run()
        end = self.now + seconds
        while True:
            adaptors = [peer.adaptor for peer in self.peers]
            deadline = min((each.next_deadline() for each in [*adaptors, *self.services]), default=inf)
            if deadline > end:
                break
            self.network.advance(max(0.0, deadline - self.now))
            for each in [*adaptors, *self.services]:
                if each.next_deadline() <= self.now:
                    each.handle_deadline(self.now)
            for node in self.nodes:
                node.router.wake_touched()
            self.run()
        self.network.advance(max(0.0, end - self.now))
        self.run()

    def close(self) -> None:
        """Nothing is left behind."""
        for peer in list(self.peers):
            peer.lose()
        for service in self.services:
            service.stop()
        self.settle()
        for node in self.nodes:
            assert node.router.budget.held() == 0
            assert not [key for key in node.router.addresses if key.startswith("Mmqtt")]
            assert not node.router.address_watchers
        assert all(service.store.used == 0 for service in self.services)
