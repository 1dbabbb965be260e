"""What a client may do on its connection, and how it ends: the rules of MQTT 3.1.1 and 5, each with its own error."""

from __future__ import annotations

import pytest

from tests.adaptors.mqtt.peers import Peer, Scene
from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.adaptor import LINGER_SECONDS
from van.adaptors.mqtt.connection import CONNECT_SECONDS, TOPIC_ALIASES, Settings
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
    Will,
)
from van.adaptors.mqtt.service import MqttService
from van.adaptors.mqtt.session import MAX_INFLIGHT
from van.adaptors.service import PeerInfo

LEVELS = (MQTT_3_1_1, MQTT_5)


def fresh(level: int = MQTT_5, **settings: int) -> Peer:
    """A connection on which nothing was said yet."""
    scene = Scene(settings=Settings(**settings))
    return Peer(scene, scene.service, level)


# --- connecting


@pytest.mark.parametrize("level", LEVELS)
def test_a_client_connects_and_says_good_bye(level: int) -> None:
    peer = fresh(level)
    answer = peer.connect("me")
    assert (answer.code, answer.session_present) == (r.SUCCESS, False)
    assert peer.adaptor.opened
    peer.disconnect()
    assert peer.ended()
    assert peer.packets == []
    node = peer.scene.nodes[0]
    (opened,) = node.lines("connection opened")
    assert (opened["client_id"], opened["protocol"]) == ("me", "MQTT 5" if level == MQTT_5 else "MQTT 3.1.1")
    (closed,) = node.lines("connection closed")
    assert (closed["by"], closed["reason"]) == ("peer", "the client said good-bye")
    peer.scene.close()


def test_what_is_said_of_the_server() -> None:
    answer = fresh(receive_maximum=7, max_packet_size=5000).connect("me")
    assert answer.properties == {
        p.RECEIVE_MAXIMUM: 7,
        p.MAXIMUM_PACKET_SIZE: 5000,
        p.TOPIC_ALIAS_MAXIMUM: TOPIC_ALIASES,
    }


def test_a_client_without_identifier_gets_one() -> None:
    scene = Scene()
    names = set()
    for _ in range(2):
        answer = Peer(scene, scene.service, MQTT_5).connect("")
        names.add(p.text(answer.properties, p.ASSIGNED_CLIENT_IDENTIFIER))
    assert len(names) == 2
    assert None not in names
    assert len(scene.service.clients) == 2
    old = Peer(scene, scene.service, MQTT_3_1_1)
    assert old.connect("").code == r.SUCCESS
    # It could not come back to a session that has no name.
    other = Peer(scene, scene.service, MQTT_3_1_1)
    assert other.connect("", clean_start=False).code == r.REFUSED_IDENTIFIER
    assert other.ended()
    scene.close()


def test_a_keep_alive_that_the_server_sets() -> None:
    for wanted, told in ((0, 30), (31, 30), (30, None), (5, None)):
        answer = fresh(keep_alive=30).connect("me", keep_alive=wanted)
        assert answer.properties.get(p.SERVER_KEEP_ALIVE) == told


def test_a_session_that_may_not_last_as_long() -> None:
    for wanted, told in ((0xFFFFFFFF, 100), (100, None), (1, None)):
        answer = fresh(max_session_expiry=100).connect("me", properties={p.SESSION_EXPIRY_INTERVAL: wanted})
        assert answer.properties.get(p.SESSION_EXPIRY_INTERVAL) == told


@pytest.mark.parametrize("level", LEVELS)
def test_the_first_packet_is_a_connect(level: int) -> None:
    peer = fresh(level)
    peer.send(Pingreq())
    assert peer.ended()
    assert peer.packets == []


@pytest.mark.parametrize(("level", "answered"), [(3, 1), (4, None), (5, None), (6, 1)])
def test_a_connect_of_another_protocol(level: int, answered: int | None) -> None:
    peer = fresh(MQTT_3_1_1)
    name = b"\x00\x06MQIsdp" if level == 3 else b"\x00\x04MQTT"
    body = name + bytes((level, 2, 0, 0)) + (b"\x00" if level == 5 else b"") + b"\x00\x01a"
    peer.write_raw(bytes((0x10, len(body))) + body)
    if answered is None:
        peer.stream.level = level
    peer.scene.run()
    assert [packet.code for packet in peer.of(Connack)] == [answered or 0]
    assert peer.ended() == (answered is not None)


@pytest.mark.parametrize(
    ("connect", "reason"),
    [
        (Connect(properties={p.AUTHENTICATION_METHOD: "SCRAM-SHA-1"}), r.BAD_AUTHENTICATION_METHOD),
        (Connect(properties={p.AUTHENTICATION_DATA: b"x"}), r.PROTOCOL_ERROR),
        (Connect(will=Will("a/+", b"")), r.TOPIC_NAME_INVALID),
        (Connect(will=Will("a", b"", properties={p.RESPONSE_TOPIC: "#"})), r.TOPIC_NAME_INVALID),
    ],
)
def test_a_connect_that_is_refused(connect: Connect, reason: int) -> None:
    peer = fresh()
    peer.send(connect)
    answer = peer.last(Connack)
    assert answer.code == reason
    assert p.text(answer.properties, p.REASON_STRING)
    assert peer.ended()
    assert not peer.adaptor.opened
    peer.lose()
    (failed,) = peer.scene.nodes[0].lines("connection failed")
    assert failed["reason"] == p.text(answer.properties, p.REASON_STRING)
    peer.scene.close()


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (r.BAD_USER_NAME_OR_PASSWORD, r.REFUSED_USER_NAME_OR_PASSWORD),
        (r.NOT_AUTHORIZED, r.REFUSED_NOT_AUTHORIZED),
        (r.SERVER_BUSY, r.REFUSED_UNAVAILABLE),
        (r.UNSPECIFIED_ERROR, None),
    ],
)
def test_who_is_let_in_is_asked_for(reason: int, code: int | None) -> None:
    scene = Scene()
    asked: list[tuple[str | None, bytes | None]] = []

    def admit(connect: Connect, info: PeerInfo) -> int:
        asked.append((connect.user_name, connect.password))
        return r.SUCCESS if connect.password == b"secret" else reason

    scene.services[0] = MqttService(scene.nodes[0].router, "other", "other", admit=admit)
    for level in LEVELS:
        peer = Peer(scene, scene.service, level)
        peer.send(Connect(level=level, client_id="me", user_name="user", password=b"wrong"))
        codes = [packet.code for packet in peer.of(Connack)]
        assert codes == ([reason] if level == MQTT_5 else [] if code is None else [code])
        assert peer.ended()
    peer = Peer(scene, scene.service, MQTT_5)
    peer.send(Connect(client_id="me", user_name="user", password=b"secret"))
    assert peer.last(Connack).code == r.SUCCESS
    assert asked == [("user", b"wrong")] * 2 + [("user", b"secret")]


def test_there_may_be_so_many_sessions() -> None:
    scene = Scene()
    scene.services[0] = MqttService(scene.nodes[0].router, "other", "other", max_sessions=1)
    first = scene.peer("first")
    second = Peer(scene, scene.service, MQTT_5)
    assert second.connect("second").code == r.QUOTA_EXCEEDED
    third = Peer(scene, scene.service, MQTT_3_1_1)
    assert third.connect("third").code == r.REFUSED_UNAVAILABLE
    first.disconnect()
    assert not scene.peer("second").ended()


def test_a_prefix_that_cannot_be_one() -> None:
    scene = Scene()
    for prefix in ("", "_local", "$management", "/a", "a/", "a.", "amqp:", "a/+", "x" * 2000):
        with pytest.raises(ValueError, match="no prefix"):
            MqttService(scene.nodes[0].router, "other", prefix)


# --- violations


@pytest.mark.parametrize(
    ("packets", "reason"),
    [
        ([Connect()], r.PROTOCOL_ERROR),
        ([Connack()], r.PROTOCOL_ERROR),
        ([Suback(1, [0])], r.PROTOCOL_ERROR),
        ([Unsuback(1, [0])], r.PROTOCOL_ERROR),
        ([Pingresp()], r.PROTOCOL_ERROR),
        ([Publish("a/+")], r.TOPIC_NAME_INVALID),
        ([Publish("")], r.PROTOCOL_ERROR),
        ([Publish("a/" * 200)], r.TOPIC_NAME_INVALID),
        ([Publish("t", properties={p.RESPONSE_TOPIC: "a/#"})], r.TOPIC_NAME_INVALID),
        ([Publish("t", properties={p.SUBSCRIPTION_IDENTIFIER: [1]})], r.PROTOCOL_ERROR),
        ([Publish("t", properties={p.TOPIC_ALIAS: TOPIC_ALIASES + 1})], r.TOPIC_ALIAS_INVALID),
        ([Publish("", properties={p.TOPIC_ALIAS: 1})], r.PROTOCOL_ERROR),
        ([Publish("+", properties={p.TOPIC_ALIAS: 1})], r.TOPIC_NAME_INVALID),
        ([Subscribe(1, [Subscription("$share/g/a", no_local=True)])], r.PROTOCOL_ERROR),
        ([Auth(r.RE_AUTHENTICATE)], r.PROTOCOL_ERROR),
        ([Disconnect(properties={p.SESSION_EXPIRY_INTERVAL: 5})], r.PROTOCOL_ERROR),
        ([Publish("t", qos=2, packet_id=1), Publish("t", qos=1, packet_id=1)], r.PROTOCOL_ERROR),
        ([Publish("t", bytes(6000))], r.PACKET_TOO_LARGE),
    ],
)
def test_what_a_client_may_not_send(packets: list[Packet], reason: int) -> None:
    peer = fresh(max_packet_size=5000)
    peer.auto = False
    peer.connect("me")
    bystander = peer.scene.peer("bystander")
    peer.send(*packets)
    farewell = peer.last(Disconnect)
    assert farewell.reason == reason
    assert p.text(farewell.properties, p.REASON_STRING)
    assert peer.ended()
    bystander.send(Pingreq())
    assert bystander.of(Pingresp)
    peer.lose()
    (closed,) = peer.scene.nodes[0].lines("connection closed")
    assert closed["by"] == "us"
    peer.scene.close()


def test_a_client_that_was_told_the_end_may_hang_up_first() -> None:
    scene = Scene()
    peers = [scene.peer(name) for name in ("hangs up", "does not")]
    for peer in peers:
        peer.send(Pingresp())
        assert peer.last(Disconnect).reason == r.PROTOCOL_ERROR
        adaptor = peer.adaptor
        assert (adaptor.write_ended, adaptor.closed) == (True, False)
        # What it still sends is read, and of no interest: a reset could take the farewell away from it.
        peer.write_raw(b"\x30" * 1000)
        scene.run()
        assert peer.packets == []
    peers[0].adaptor.receive_eof(scene.now)
    assert [peer.adaptor.closed for peer in peers] == [True, False]
    scene.advance(LINGER_SECONDS)
    assert peers[1].adaptor.closed
    scene.close()


@pytest.mark.parametrize("octets", [b"\x30\x03\x00\x05a", b"\xff\xff\xff\xff\xff", b"\x10\x02\x00\x00", b"\x00\x00"])
@pytest.mark.parametrize("level", LEVELS)
def test_garbage_ends_the_connection(level: int, octets: bytes) -> None:
    peer = fresh(level)
    peer.connect("me")
    peer.write_raw(octets)
    peer.scene.run()
    assert [packet.reason for packet in peer.of(Disconnect)] == ([r.MALFORMED_PACKET] if level == MQTT_5 else [])
    assert peer.ended()
    peer.write_raw(octets)
    peer.scene.run()
    peer.lose()
    peer.scene.close()


def test_a_client_that_wants_no_problem_information() -> None:
    peer = fresh()
    peer.connect("me", properties={p.REQUEST_PROBLEM_INFORMATION: 0})
    peer.send(Pingresp())
    assert peer.last(Disconnect).properties == {}


def test_a_farewell_that_is_too_large_for_the_client_is_left_out() -> None:
    peer = fresh()
    peer.connect("me", properties={p.MAXIMUM_PACKET_SIZE: 20})
    peer.send(Pingresp())
    assert peer.of(Disconnect) == []
    assert peer.ended()


@pytest.mark.parametrize(
    ("topic_filter", "new", "old"),
    [
        ("a/#/b", r.TOPIC_FILTER_INVALID, 0x80),
        ("a+", r.TOPIC_FILTER_INVALID, 0x80),
        ("", r.TOPIC_FILTER_INVALID, 0x80),
        ("a/" * 200, r.TOPIC_FILTER_INVALID, 0x80),
        ("$share/g", r.TOPIC_FILTER_INVALID, 0x80),
        ("$share//a", r.TOPIC_FILTER_INVALID, 0x80),
        ("$share/+/a", r.TOPIC_FILTER_INVALID, 0x80),
        ("$SYS/#", r.NOT_AUTHORIZED, 0x80),
    ],
)
def test_a_filter_that_is_refused(topic_filter: str, new: int, old: int) -> None:
    scene = Scene()
    for level, code in ((MQTT_5, new), (MQTT_3_1_1, old)):
        peer = scene.peer(level=level)
        assert peer.subscribe(topic_filter, 1) == code
        if topic_filter and not topic_filter.startswith("$"):
            assert peer.unsubscribe(topic_filter) == ([r.TOPIC_FILTER_INVALID] if level == MQTT_5 else [])
        assert not peer.ended()
    scene.close()


def test_a_client_may_have_so_many_subscriptions() -> None:
    peer = fresh(max_subscriptions=2)
    peer.connect("me")
    assert [peer.subscribe(topic, 1) for topic in ("a", "b", "c", "a")] == [1, 1, r.QUOTA_EXCEEDED, 1]


def test_an_address_that_the_site_file_forbids() -> None:
    from van.routing.address import AddressConfig, Distribution

    scene = Scene()
    scene.nodes[0].router.patterns.add(AddressConfig("mqtt/secret", Distribution.UNAVAILABLE))
    assert scene.peer("me").subscribe("secret") == r.NOT_AUTHORIZED
    (line,) = scene.nodes[0].lines("subscription refused")
    assert line["filter"] == "secret"
    scene.close()


def test_a_pattern_of_the_site_file_that_does_not_fit() -> None:
    from van.routing.address import AddressConfig, Distribution

    scene = Scene()
    scene.nodes[0].router.patterns.add(AddressConfig("other/#", Distribution.BALANCED))
    MqttService(scene.nodes[0].router, "other", "other", log=scene.nodes[0].log)
    (line,) = scene.nodes[0].lines("mqtt addresses")
    assert (line["pattern"], line["distribution"]) == ("other/#", "balanced")


def test_topics_of_the_server_itself() -> None:
    peer = fresh()
    peer.connect("me")
    peer.publish("$SYS/x")
    peer.publish("$SYS/x", qos=1)
    assert peer.last(Puback).reason == r.NOT_AUTHORIZED
    packet_id = peer.publish("$SYS/x", qos=2)
    assert peer.last(Pubrec).reason == r.NOT_AUTHORIZED
    # It was refused, so there is nothing to release.
    peer.send(Pubrel(packet_id))
    assert peer.last(Pubcomp).reason == r.PACKET_IDENTIFIER_NOT_FOUND


def test_a_payload_that_is_not_what_it_says() -> None:
    peer = fresh()
    peer.connect("me")
    peer.publish("t", b"\xff", qos=1, properties={p.PAYLOAD_FORMAT_INDICATOR: 1})
    assert peer.last(Puback).reason == r.PAYLOAD_FORMAT_INVALID


# --- time


@pytest.mark.parametrize("level", LEVELS)
def test_a_client_that_falls_silent(level: int) -> None:
    scene = Scene()
    peer = scene.peer("me", level=level, keep_alive=10)
    scene.advance(14)
    assert not peer.ended()
    peer.send(Pingreq())
    assert peer.of(Pingresp)
    scene.advance(14.9)
    assert not peer.ended()
    scene.advance(0.2)
    assert peer.ended()
    assert [packet.reason for packet in peer.of(Disconnect)] == ([r.KEEP_ALIVE_TIMEOUT] if level == MQTT_5 else [])
    scene.close()


def test_a_client_without_keep_alive_may_be_silent() -> None:
    scene = Scene()
    peer = scene.peer("me")
    scene.advance(100_000)
    assert not peer.ended()
    scene.close()


@pytest.mark.parametrize("level", LEVELS)
def test_a_client_that_does_not_connect(level: int) -> None:
    peer = fresh(level)
    peer.write_raw(b"\x10")
    peer.scene.advance(CONNECT_SECONDS - 0.1)
    assert not peer.ended()
    peer.scene.advance(0.2)
    assert peer.ended()
    assert peer.packets == []
    peer.lose()
    peer.scene.close()


# --- messages under way


def test_a_client_of_mqtt_5_beyond_its_receive_maximum() -> None:
    peer = fresh(receive_maximum=2)
    peer.connect("me")
    stuck = peer.scene.peer("stuck")
    stuck.auto = False
    stuck.subscribe("t", 1)
    for _ in range(2):
        peer.publish("t", qos=1)
    assert not peer.ended()
    peer.publish("t", qos=1)
    assert peer.last(Disconnect).reason == r.RECEIVE_MAXIMUM_EXCEEDED
    peer.scene.close()


def test_a_client_of_3_1_1_is_not_read_beyond_it() -> None:
    peer = fresh(MQTT_3_1_1, receive_maximum=2)
    peer.connect("me")
    stuck = peer.scene.peer("stuck")
    stuck.auto = False
    stuck.subscribe("t", 1)
    for number in range(5):
        peer.publish("t", b"%d" % number, qos=1)
    assert stuck.payloads == [b"0", b"1"]
    assert not peer.is_read()
    stuck.send(Puback(1))
    assert stuck.payloads == [b"0", b"1", b"2"]
    for packet_id in range(2, 6):
        stuck.send(Puback(packet_id))
    assert stuck.payloads == [b"%d" % number for number in range(5)]
    assert peer.is_read()
    assert [answer.packet_id for answer in peer.of(Puback)] == [1, 2, 3, 4, 5]
    peer.scene.close()


@pytest.mark.parametrize("qos", [1, 2])
def test_what_a_client_has_not_acknowledged_is_bounded_by_its_receive_maximum(qos: int) -> None:
    scene = Scene()
    subscriber = scene.peer("s", properties={p.RECEIVE_MAXIMUM: 3})
    subscriber.auto = False
    subscriber.subscribe("t", qos)
    publisher = scene.peer("p")
    for number in range(10):
        publisher.publish("t", b"%d" % number, qos=qos)
    assert subscriber.payloads == [b"0", b"1", b"2"]
    # Acknowledged out of order, and with an identifier that stands for nothing.
    first, second, _ = (message.packet_id for message in subscriber.messages)
    if qos == 1:
        subscriber.send(Puback(second), Puback(9999), Puback(second))
        assert subscriber.payloads[3:] == [b"3"]
    else:
        subscriber.send(Pubrec(second), Pubrec(9999))
        assert [packet.packet_id for packet in subscriber.of(Pubrel)] == [second, 9999]
        assert [packet.reason for packet in subscriber.of(Pubrel)] == [0, r.PACKET_IDENTIFIER_NOT_FOUND]
        assert subscriber.payloads[3:] == []
        subscriber.send(Pubcomp(second), Pubcomp(9999), Pubcomp(first))
        assert subscriber.payloads[3:] == [b"3"]
        # A client that will not have a message says so; it is done with.
        subscriber.send(Pubrec(first, r.UNSPECIFIED_ERROR))
        assert subscriber.payloads[4:] == [b"4"]
    scene.close()


def test_no_more_than_so_many_are_under_way_to_anybody() -> None:
    scene = Scene(settings=Settings(receive_maximum=1000))
    subscriber = scene.old_peer("s")
    subscriber.auto = False
    subscriber.subscribe("t", 1)
    publisher = scene.peer("p")
    for _ in range(MAX_INFLIGHT + 10):
        publisher.publish("t", qos=1)
    assert len(subscriber.messages) == MAX_INFLIGHT
    scene.close()


def test_a_message_that_is_too_large_for_its_subscriber_counts_as_sent() -> None:
    scene = Scene()
    subscriber = scene.peer("s", properties={p.MAXIMUM_PACKET_SIZE: 100})
    subscriber.subscribe("t", 1)
    publisher = scene.peer("p")
    for qos in (0, 1):
        publisher.publish("t", bytes(200), qos=qos)
        publisher.publish("t", b"small", qos=qos)
    assert subscriber.payloads == [b"small"] * 2
    assert [answer.reason for answer in publisher.of(Puback)] == [0, 0]
    assert scene.service.counts()["dropped"] == 2
    scene.close()


@pytest.mark.parametrize("level", LEVELS)
def test_exactly_once_although_it_is_sent_again(level: int) -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("t", 2)
    publisher = scene.peer("p", level=level)
    publisher.auto = False
    message = Publish("t", b"x", qos=2, packet_id=5)
    publisher.send(message)
    message.dup = True
    publisher.send(message)
    assert [packet.packet_id for packet in publisher.of(Pubrec)] == [5, 5]
    assert subscriber.payloads == [b"x"]
    publisher.send(Pubrel(5), Pubrel(5))
    reasons = [packet.reason for packet in publisher.of(Pubcomp)]
    assert reasons == [0, r.PACKET_IDENTIFIER_NOT_FOUND if level == MQTT_5 else 0]
    # The identifier is free again.
    message.dup = False
    publisher.send(message)
    assert subscriber.payloads == [b"x", b"x"]
    scene.close()


def test_a_message_that_is_sent_again_while_it_is_under_way() -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.auto = False
    subscriber.subscribe("t", 2)
    publisher = scene.peer("p")
    for qos in (1, 2):
        message = Publish("t", b"%d" % qos, qos=qos, packet_id=qos)
        publisher.send(message)
        message.dup = True
        publisher.send(message)
    assert subscriber.payloads == [b"1", b"2"]
    assert publisher.of(Puback) == publisher.of(Pubrec) == []
    subscriber.send(Puback(1), Pubrec(2))
    assert [packet.packet_id for packet in publisher.of(Puback)] == [1]
    assert [packet.packet_id for packet in publisher.of(Pubrec)] == [2]
    scene.close()


# --- topic aliases


def test_aliases_of_a_client() -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("#")
    publisher = scene.peer("p")
    publisher.publish("a", b"1", properties={p.TOPIC_ALIAS: 1})
    publisher.publish("", b"2", properties={p.TOPIC_ALIAS: 1})
    publisher.publish("b", b"3", properties={p.TOPIC_ALIAS: 1})
    publisher.publish("", b"4", properties={p.TOPIC_ALIAS: 1})
    assert [message.topic for message in subscriber.messages] == ["a", "a", "b", "b"]
    assert all(message.properties == {} for message in subscriber.messages)
    scene.close()


def test_aliases_for_a_client() -> None:
    scene = Scene()
    subscriber = scene.peer("s", properties={p.TOPIC_ALIAS_MAXIMUM: 2})
    subscriber.subscribe("#", 1)
    publisher = scene.peer("p")
    for topic in ("a", "b", "c", "a", "b", "c"):
        publisher.publish(topic, qos=1)
    told = [(message.topic, message.properties.get(p.TOPIC_ALIAS)) for message in subscriber.messages]
    assert told == [("a", 1), ("b", 2), ("c", None), ("", 1), ("", 2), ("c", None)]
    scene.close()


# --- answers that nobody takes


def test_a_client_that_takes_no_answers_is_not_read() -> None:
    peer = fresh()
    peer.connect("me")
    peer.reading = False
    for _ in range(3):
        peer.write_raw(Pingreq().encode(MQTT_5) * 40_000)
        peer.scene.run()
    assert not peer.is_read()
    answered = len(peer.of(Pingresp))
    assert answered < 40_000
    peer.reading = True
    peer.scene.run()
    assert len(peer.of(Pingresp)) == 120_000
    assert peer.is_read()
    peer.scene.close()
