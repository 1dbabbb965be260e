"""What is no packet is refused with the reason code that the specification gives it."""

from __future__ import annotations

import pytest

from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.packets import (
    MAX_FILTERS,
    MQTT_3_1_1,
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from van.adaptors.mqtt.stream import PacketStream


def refusal(octets: bytes, level: int) -> int:
    """The reason with which the last packet of these octets is refused."""
    stream = PacketStream(level)
    stream.feed(octets)
    with pytest.raises(r.MqttError) as refused:
        stream.next_packet()
    return refused.value.reason


CONNECT_5 = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    ("level", "octets", "reason"),
    [
        # The fixed header (2.1).
        (5, b"\x00\x00", r.MALFORMED_PACKET),
        (4, b"\xf0\x00", r.MALFORMED_PACKET),
        (5, b"\xc1\x00", r.MALFORMED_PACKET),
        (5, b"\x80\x05\x00\x01\x00\x00\x00", r.MALFORMED_PACKET),
        (5, b"\x30\x80\x80\x80\x80\x01", r.MALFORMED_PACKET),
        (5, b"\x30\x83\x00\x00\x01t", r.MALFORMED_PACKET),
        (5, b"\xc1\x80", r.MALFORMED_PACKET),
        # Connect (3.1).
        (5, b"\x10\x0c\x00\x04MQXX\x04\x02\x00\x00\x00\x00", r.UNSUPPORTED_PROTOCOL_VERSION),
        (5, b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00", r.UNSUPPORTED_PROTOCOL_VERSION),
        (5, b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00", r.UNSUPPORTED_PROTOCOL_VERSION),
        (5, b"\x10\x06\x00\x04MQTT", r.MALFORMED_PACKET),
        (5, b"\x10\x07\x00\x04MQTT\x05", r.MALFORMED_PACKET),
        (5, b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x00\x00\x00", r.MALFORMED_PACKET),
        (5, b"\x10\x0c\x00\x04MQTT\x04\x08\x00\x00\x00\x00", r.MALFORMED_PACKET),
        (5, b"\x10\x0c\x00\x04MQTT\x04\x1c\x00\x00\x00\x00", r.MALFORMED_PACKET),
        (5, b"\x10\x0c\x00\x04MQTT\x04\x40\x00\x00\x00\x00", r.MALFORMED_PACKET),
        (5, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x00x", r.MALFORMED_PACKET),
        # Strings (1.5.4).
        (4, b"\x30\x04\x00\x02\xc3\x28", r.MALFORMED_PACKET),
        (4, b"\x30\x05\x00\x03\xed\xa0\x80", r.MALFORMED_PACKET),
        (4, b"\x30\x03\x00\x01\x00", r.MALFORMED_PACKET),
        (4, b"\x30\x01\x00", r.MALFORMED_PACKET),
        (4, b"\x30\x03\x00\x02a", r.MALFORMED_PACKET),
        # Publish (3.3).
        (4, b"\x36\x05\x00\x01t\x00\x01", r.MALFORMED_PACKET),
        (4, b"\x38\x03\x00\x01t", r.MALFORMED_PACKET),
        (4, b"\x32\x05\x00\x01t\x00\x00", r.PROTOCOL_ERROR),
        (4, b"\x32\x04\x00\x01t\x00", r.MALFORMED_PACKET),
        (5, b"\x30\x07\x00\x01t\x03\x23\x00\x00", r.TOPIC_ALIAS_INVALID),
        (5, b"\x30\x06\x00\x01t\x02\x01\x02", r.PROTOCOL_ERROR),
        (5, b"\x30\x06\x00\x01t\x02\x0b\x00", r.PROTOCOL_ERROR),
        (5, b"\x30\x08\x00\x01t\x04\x01\x00\x01\x00", r.PROTOCOL_ERROR),
        (5, b"\x30\x06\x00\x01t\x02\x24\x00", r.MALFORMED_PACKET),
        (5, b"\x30\x05\x00\x01t\x01\x7f", r.MALFORMED_PACKET),
        (5, b"\x30\x05\x00\x01t\x02\x01", r.MALFORMED_PACKET),
        (5, b"\x30\x06\x00\x01t\x02\x02\x00", r.MALFORMED_PACKET),
        (5, b"\x30\x06\x00\x01t\x02\x09\x00", r.MALFORMED_PACKET),
        (5, b"\x30\x07\x00\x01t\x03\x09\x00\x01", r.MALFORMED_PACKET),
        (5, b"\x30\x06\x00\x01t\x02\x23\x00", r.MALFORMED_PACKET),
        (5, b"\x30\x08\x00\x01t\x04\x80\x80\x80\x80", r.MALFORMED_PACKET),
        # Acknowledgements (3.4 to 3.7).
        (4, b"\x40\x02\x00\x00", r.PROTOCOL_ERROR),
        (4, b"\x40\x03\x00\x01\x00", r.MALFORMED_PACKET),
        (5, b"\x40\x03\x00\x01\x92", r.MALFORMED_PACKET),
        (5, b"\x40\x05\x00\x01\x00\x00\x00", r.MALFORMED_PACKET),
        # Subscribe and unsubscribe (3.8 to 3.11).
        (5, b"\x82\x03\x00\x01\x00", r.PROTOCOL_ERROR),
        (4, b"\x82\x06\x00\x01\x00\x01t\x03", r.MALFORMED_PACKET),
        (4, b"\x82\x06\x00\x01\x00\x01t\x04", r.MALFORMED_PACKET),
        (5, b"\x82\x07\x00\x01\x00\x00\x01t\x40", r.MALFORMED_PACKET),
        (5, b"\x82\x07\x00\x01\x00\x00\x01t\x30", r.PROTOCOL_ERROR),
        (5, b"\x82\x0b\x00\x01\x04\x0b\x01\x0b\x02\x00\x01t\x00", r.PROTOCOL_ERROR),
        (5, b"\xa2\x03\x00\x01\x00", r.PROTOCOL_ERROR),
        (4, b"\x90\x02\x00\x01", r.PROTOCOL_ERROR),
        (4, b"\x90\x03\x00\x01\x81", r.MALFORMED_PACKET),
        (5, b"\xb0\x04\x00\x01\x00\x01", r.MALFORMED_PACKET),
        (4, b"\xb0\x03\x00\x01\x00", r.MALFORMED_PACKET),
        # The rest.
        (4, b"\x20\x02\x00\x06", r.MALFORMED_PACKET),
        (4, b"\x20\x01\x00", r.MALFORMED_PACKET),
        (4, b"\x20\x02\x02\x00", r.MALFORMED_PACKET),
        (4, b"\x20\x02\x01\x05", r.MALFORMED_PACKET),
        (5, b"\x20\x03\x00\x01\x00", r.MALFORMED_PACKET),
        (4, b"\x20\x03\x00\x00\x00", r.MALFORMED_PACKET),
        (4, b"\xc0\x01\x00", r.MALFORMED_PACKET),
        (4, b"\xe0\x01\x00", r.MALFORMED_PACKET),
        (5, b"\xe0\x01\x01", r.MALFORMED_PACKET),
        (5, b"\xf0\x01\x80", r.MALFORMED_PACKET),
    ],
)
def test_what_is_no_packet(level: int, octets: bytes, reason: int) -> None:
    assert refusal(octets, level) == reason


def test_an_empty_client_at_level_5_is_one() -> None:
    stream = PacketStream()
    stream.feed(CONNECT_5)
    assert stream.next_packet() == Connect()


@pytest.mark.parametrize("kind", [Subscribe, Unsubscribe])
def test_a_packet_has_so_many_filters_at_most(kind: type[Packet]) -> None:
    def octets(count: int) -> bytes:
        if kind is Subscribe:
            return Subscribe(1, [Subscription("t")] * count).encode(MQTT_3_1_1)
        return Unsubscribe(1, ["t"] * count).encode(MQTT_3_1_1)

    stream = PacketStream()
    stream.feed(octets(MAX_FILTERS))
    assert stream.next_packet() is not None
    assert refusal(octets(MAX_FILTERS + 1), MQTT_3_1_1) == r.IMPLEMENTATION_SPECIFIC_ERROR


def test_a_packet_has_so_many_properties_at_most() -> None:
    def octets(count: int) -> bytes:
        return Publish("t", properties={p.USER_PROPERTY: [("", "")] * count}).encode(MQTT_5)

    stream = PacketStream(MQTT_5)
    stream.feed(octets(p.MAX_PROPERTIES))
    assert stream.next_packet() is not None
    assert refusal(octets(p.MAX_PROPERTIES + 1), MQTT_5) == r.IMPLEMENTATION_SPECIFIC_ERROR


@pytest.mark.parametrize(
    ("level", "packet"),
    [
        (5, Publish("t", qos=1)),
        (5, Publish("a\0b")),
        (5, Publish("t" * 65_536)),
        (5, Puback(0)),
        (5, Puback(1, 0x92)),
        (5, Puback(65_536)),
        (5, Disconnect(0x55)),
        (5, Auth(0x80)),
        (4, Auth()),
        (4, Connack(0x87)),
        (4, Suback(1, [0x87])),
        (5, Unsuback(1, [0x01])),
        (5, Subscribe(1, [])),
        (5, Unsubscribe(1, [])),
        (5, Connect(keep_alive=65_536)),
        (5, Connect(level=256)),
        (5, Publish("t", properties={0x7F: 1})),
        (5, Publish("t", properties={p.MAXIMUM_QOS: 1})),
        (5, Publish("t", properties={p.MESSAGE_EXPIRY_INTERVAL: -1})),
        (5, Publish("t", properties={p.SUBSCRIPTION_IDENTIFIER: [1 << 28]})),
        (5, Publish("t", properties={p.USER_PROPERTY: ["a"]})),
        (5, Publish("t", properties={p.CORRELATION_DATA: "text"})),
        (5, Subscribe(1, [Subscription("t")], properties={p.SUBSCRIPTION_IDENTIFIER: [1, 2]})),
    ],
)
def test_what_cannot_be_written_is_not(level: int, packet: Packet) -> None:
    with pytest.raises(ValueError, match=r" is no |^no property|more than once"):
        packet.encode(level)


def test_return_codes_of_3_1_1_stand_for_reasons() -> None:
    assert r.return_code(r.BAD_USER_NAME_OR_PASSWORD) == r.REFUSED_USER_NAME_OR_PASSWORD
    assert r.return_code(r.MALFORMED_PACKET) is None
