"""Packets survive a way out and in at both protocol levels, in whatever pieces the octets come."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adaptors.mqtt.strategies import LEVELS, packets
from van.adaptors.mqtt.packets import MQTT_3_1_1, MQTT_5, Packet, Pingreq, Publish, Subscription, Will
from van.adaptors.mqtt.reason import PACKET_TOO_LARGE, MqttError
from van.adaptors.mqtt.stream import MAX_CONNECT_SIZE, PacketStream

levels = pytest.mark.parametrize("level", LEVELS)


def read(octets: bytes, level: int, *, piece: int = 0, max_size: int = MAX_CONNECT_SIZE) -> list[Packet]:
    """All packets in these octets, which have to end with one."""
    stream = PacketStream(level, max_size)
    found = []
    step = piece or len(octets) or 1
    for start in range(0, len(octets), step):
        stream.feed(octets[start : start + step])
        while (packet := stream.next_packet()) is not None:
            found.append(packet)
    assert stream.waiting() == 0
    return found


@levels
@given(st.data())
def test_any_packet_survives_a_way_out_and_in(level: int, data: st.DataObject) -> None:
    packet = data.draw(packets(level))
    octets = packet.encode(level)
    (again,) = read(octets, level)
    assert again == packet
    assert again.encode(level) == octets
    assert repr(again) == repr(packet)
    assert repr(packet).startswith(type(packet).__name__ + "(")


@levels
@given(st.data())
def test_octets_may_come_in_any_pieces(level: int, data: st.DataObject) -> None:
    several = data.draw(st.lists(packets(level), min_size=1, max_size=4))
    octets = b"".join(packet.encode(level) for packet in several)
    assert read(octets, level, piece=data.draw(st.integers(1, 7))) == several


@levels
@given(st.data())
def test_a_packet_that_is_cut_is_refused_or_another_one(level: int, data: st.DataObject) -> None:
    """The rest of a packet is as long as its header says: one that is cut there must not be read beyond its end."""
    octets = data.draw(packets(level)).encode(level)
    body = octets[2:] if octets[1] < 0x80 else octets[3:]
    kept = body[: data.draw(st.integers(0, max(0, len(body) - 1)))]
    try:
        found = read(bytes((octets[0], len(kept) & 0x7F)) + kept[: len(kept) & 0x7F], level)
    except MqttError:
        return
    assert len(found) == 1


@levels
@given(octets=st.binary(max_size=200))
def test_garbage_is_packets_or_refused(level: int, octets: bytes) -> None:
    stream = PacketStream(level)
    stream.feed(octets)
    with contextlib.suppress(MqttError):
        while (packet := stream.next_packet()) is not None:
            assert read(packet.encode(level), level) == [packet]


def test_a_packet_may_be_as_large_as_it_may_and_no_larger() -> None:
    octets = Publish("t", bytes(1000)).encode(MQTT_3_1_1)
    assert read(octets, MQTT_3_1_1, max_size=len(octets))
    with pytest.raises(MqttError, match="at most") as refused:
        read(octets, MQTT_3_1_1, max_size=len(octets) - 1)
    assert refused.value.reason == PACKET_TOO_LARGE


def test_a_packet_that_is_too_large_is_refused_before_it_has_come() -> None:
    stream = PacketStream(MQTT_5, 1000)
    stream.feed(b"\x30\xff\xff\xff\x7f")
    with pytest.raises(MqttError) as refused:
        stream.next_packet()
    assert refused.value.reason == PACKET_TOO_LARGE


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_the_remaining_length_has_as_many_octets_as_it_needs(size: int) -> None:
    octets = Publish("", bytes(max(0, size - 2))).encode(MQTT_3_1_1)
    (packet,) = read(octets, MQTT_3_1_1, max_size=1 << 28)
    assert isinstance(packet, Publish)
    assert len(packet.payload) == max(0, size - 2)


def test_packets_are_equal_to_their_like_only() -> None:
    assert Pingreq() != Publish("t")
    assert Will("t", b"") != Publish("t")
    assert Will("t", b"") == Will("t", b"")
    assert Subscription("t") != Will("t", b"")
    for packet in (Pingreq(), Will("t", b""), Subscription("t")):
        with pytest.raises(TypeError):
            hash(packet)
    assert repr(Will("t", b"x")) == "Will('t', b'x', qos=0, retain=False)"
    assert "'t', 1" in repr(Subscription("t", 1))
