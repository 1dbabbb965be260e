"""What Eclipse Paho writes is read here, and the other way round: properties of every type, and whole connections."""

from __future__ import annotations

import socket

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Packet,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from van.adaptors.mqtt.stream import PacketStream

SAMPLES: dict[p.FieldType, object] = {
    p.BYTE: 1,
    p.TWO_BYTE_INTEGER: 513,
    p.FOUR_BYTE_INTEGER: 16_909_060,
    p.VARIABLE_BYTE_INTEGER: 16_384,
    p.UTF8_STRING: "käse",
    p.BINARY_DATA: b"\x00\xff",
    p.UTF8_STRING_PAIR: ("name", "wert"),
}


@pytest.mark.parametrize("packet", [*range(p.CONNECT, p.UNSUBACK + 1), p.DISCONNECT, p.AUTH, p.WILL])
def test_properties_are_the_same_to_paho(packet: int) -> None:
    kind = PacketTypes.WILLMESSAGE if packet == p.WILL else packet
    theirs = Properties(kind)
    ours: p.Properties = {}
    for row in p.TABLE:
        if packet in row.packets:
            value = SAMPLES[row.type]
            setattr(theirs, row.name.replace(" ", ""), value)
            ours[row.identifier] = [value] if row.multiple else value
    packed = theirs.pack()
    assert p.decode_properties(packed, 0, len(packed), packet) == (ours, len(packed))
    out = bytearray()
    p.encode_properties(ours, packet, out)
    again = Properties(kind)
    again.unpack(bytes(out))
    assert again.json() == theirs.json()


class Listener:
    """A server without meaning: reads packets, and answers a Connect."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.stream = PacketStream()
        self.packets: list[Packet] = []
        self.socket = socket.create_server(("127.0.0.1", 0))

    def take(self, client: paho.Client, connection: socket.socket, count: int) -> None:
        """Let the client write until so many packets more have come."""
        count += len(self.packets)
        while len(self.packets) < count:
            client.loop_write()
            self.stream.feed(connection.recv(65_536))
            while (packet := self.stream.next_packet()) is not None:
                self.packets.append(packet)
                self.stream.level = self.level


@pytest.mark.parametrize(("level", "protocol"), [(MQTT_3_1_1, paho.MQTTv311), (MQTT_5, paho.MQTTv5)])
def test_what_paho_writes_on_a_connection(level: int, protocol: MQTTProtocolVersion) -> None:
    listener = Listener(level)
    client = paho.Client(CallbackAPIVersion.VERSION2, "somebody", protocol=protocol)
    new = level == MQTT_5
    will_properties = Properties(PacketTypes.WILLMESSAGE)
    will_properties.WillDelayInterval = 5
    client.will_set("gone", b"alas", 1, True, will_properties if new else None)
    client.username_pw_set("user", "secret")
    with listener.socket:
        client.connect("127.0.0.1", listener.socket.getsockname()[1], keepalive=30)
        connection, _ = listener.socket.accept()
    with connection:
        listener.take(client, connection, 1)
        connection.sendall(Connack(0).encode(level))
        client.loop_read()
        client.subscribe("a/#", options=SubscribeOptions(1, True, True, 2)) if new else client.subscribe("a/#", 1)
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = ("k", "v")
        client.publish("a/b", b"x", 2, True, properties if new else None)
        client.unsubscribe("a/#")
        listener.take(client, connection, 3)
        client.disconnect()
        listener.take(client, connection, 1)
    assert listener.packets[0] == Connect(
        level=level,
        client_id="somebody",
        clean_start=True,
        keep_alive=30,
        will=Will("gone", b"alas", qos=1, retain=True, properties={p.WILL_DELAY_INTERVAL: 5} if new else {}),
        user_name="user",
        password=b"secret",
    )
    wanted = Subscription("a/#", 1)
    if new:
        wanted = Subscription("a/#", 1, no_local=True, retain_as_published=True, retain_handling=2)
    assert listener.packets[1:4] == [
        Subscribe(1, [wanted]),
        Publish(
            "a/b", b"x", qos=2, retain=True, packet_id=2, properties={p.USER_PROPERTY: [("k", "v")]} if new else {}
        ),
        Unsubscribe(3, ["a/#"]),
    ]
