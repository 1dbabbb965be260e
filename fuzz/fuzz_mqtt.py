"""An MQTT service takes any octets, at any pace, and answers with packets; no other client of it notices.

The whole of it: the parser, the server's end of a connection, the session, and the router behind, with a well-behaved
client beside. What a client has waiting stays within its bounds, and when all have gone nothing is left.

An input is two octets of options and then a stream, which is handed over in pieces as large as the second octet says.
"""

from __future__ import annotations

import itertools

from harness import main

from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt.adaptor import MqttAdaptor
from van.adaptors.mqtt.connection import Settings
from van.adaptors.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Subscribe,
    Subscription,
)
from van.adaptors.mqtt.service import MqttService
from van.adaptors.mqtt.stream import PacketStream
from van.adaptors.service import PeerInfo
from van.routing.router import Router

DECODER = {
    "van.adaptors.mqtt.properties": r"^(decode|Property.check)",
    "van.adaptors.mqtt.packets": r"^_?(decode|check)",
    "van.adaptors.mqtt.stream": r"^PacketStream",
    "van.adaptors.mqtt.connection": r"^ServerConnection\.(_take|_on_|_read|_check|_look|fail|_refuse)",
}

PLANTED = (
    # Text may leave the packet.
    (
        "van.adaptors.mqtt.properties",
        "    pos = start + length\n    if pos > end:\n        raise cut_short()\n    raw =",
        "    pos = start + length\n    raw =",
    ),
    # The octet behind a filter may be missing.
    (
        "van.adaptors.mqtt.properties",
        "    if pos >= end:\n        raise cut_short()\n    return buf[pos], pos + 1",
        "    return buf[pos], pos + 1",
    ),
    # A connection goes on although its first packet was no Connect.
    (
        "van.adaptors.mqtt.connection",
        "if self.state not in _LEGAL.get(packet_type, ()):",
        "if packet_type not in _LEGAL:",
    ),
)

LEVEL_5 = 1
# The client has connected already, ...
CONNECTED = 2
# ...with a session that lasts, ...
LASTING = 4
# ...and has subscribed to what the witness publishes.
SUBSCRIBED = 8
# It takes nothing.
DEAF = 16

SETTINGS = Settings(max_packet_size=4096, receive_maximum=3, max_queued=5, max_queued_octets=20_000)


class Side:
    """One client's connection."""

    def __init__(self, service: MqttService, level: int) -> None:
        self.level = level
        self.adaptor = MqttAdaptor(service, PeerInfo())
        self.adaptor.on_wake = self.flush
        self.stream = PacketStream(level, 1 << 20)
        self.packets: list[Packet] = []
        self.deaf = False

    def flush(self) -> None:
        if self.deaf:
            self.adaptor.look()
            return
        while chunks := self.adaptor.data_to_send(65_536):
            self.stream.feed(b"".join(chunks))
        if not self.packets:
            # What the answer to its Connect is written in.
            self.stream.level = self.adaptor.connection.level
        while (packet := self.stream.next_packet()) is not None:
            self.packets.append(packet)

    def feed(self, data: bytes) -> None:
        if not self.adaptor.closed:
            self.adaptor.receive_data(data, 1.0)
            self.adaptor.router.wake_touched()

    def send(self, packet: Packet) -> None:
        self.feed(packet.encode(self.level))

    def lose(self) -> None:
        self.adaptor.connection_lost(2.0)
        self.adaptor.router.wake_touched()


def one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    options = data[0]
    tokens = itertools.count()
    router = Router("A", tokens=lambda: f"t{next(tokens)}")
    service = MqttService(router, settings=SETTINGS)
    witness = Side(service, MQTT_5)
    witness.send(Connect(client_id="witness"))
    witness.send(Subscribe(1, [Subscription("witness", 1)]))
    level = MQTT_5 if options & LEVEL_5 else MQTT_3_1_1
    peer = Side(service, level)
    if options & CONNECTED:
        lasting = options & LASTING != 0
        properties: p.Properties = {p.SESSION_EXPIRY_INTERVAL: 60} if lasting and level == MQTT_5 else {}
        peer.send(Connect(level=level, client_id="peer", clean_start=not lasting, properties=properties))
        if options & SUBSCRIBED:
            peer.send(Subscribe(1, [Subscription("w/#", 2)]))
            witness.send(Publish("w/0", b"0"))
            witness.send(Publish("w/1", b"1", qos=1, packet_id=1))
            witness.send(Publish("w/2", b"2", qos=2, packet_id=2))
    peer.deaf = options & DEAF != 0
    rest = data[2:]
    step = data[1] or len(rest) or 1
    for start in range(0, len(rest), step):
        peer.feed(rest[start : start + step])
    assert all(isinstance(packet, Connack) for packet in peer.packets[:1])
    for client in service.clients.values():
        state = client.state
        assert state.queued <= SETTINGS.max_queued
        assert len(state.received) <= SETTINGS.receive_maximum or client.connection is None
        assert state.octets <= SETTINGS.max_queued_octets + 2 * SETTINGS.max_packet_size
    if witness.adaptor.closed:
        # The peer has taken its name.
        assert b"witness" in rest
    else:
        witness.packets.clear()
        witness.send(Pingreq())
        assert any(isinstance(packet, Pingresp) for packet in witness.packets)
        witness.send(Publish("witness", b"still here", qos=1, packet_id=9))
        got = [packet for packet in witness.packets if isinstance(packet, Publish)]
        assert b"still here" in [packet.payload for packet in got]
        for packet in got:
            if packet.packet_id:
                witness.send(Puback(packet.packet_id))
    peer.lose()
    witness.lose()
    service.handle_deadline(1e9)
    service.stop()
    router.wake_touched()
    assert not service.clients
    assert service.store.used == 0
    assert router.budget.held() == 0
    assert not [key for key in router.addresses if key.startswith("Mmqtt")]


main(__name__)
