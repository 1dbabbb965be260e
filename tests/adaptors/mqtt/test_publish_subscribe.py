"""What is published reaches who has subscribed, at every quality of service, at one router and over three."""

from __future__ import annotations

import itertools

import pytest

from tests.adaptors.mqtt.peers import Scene
from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.packets import MQTT_3_1_1, MQTT_5, Puback, Pubcomp, Pubrec

LEVELS = (MQTT_3_1_1, MQTT_5)


@pytest.fixture(params=[1, 3], ids=["one router", "three routers"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


@pytest.mark.parametrize(("published", "subscribed"), list(itertools.product(LEVELS, LEVELS)))
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_of_each_quality(scene: Scene, published: int, subscribed: int, qos: int) -> None:
    subscriber = scene.peer("s", at=-1, level=subscribed)
    publisher = scene.peer("p", level=published)
    for topic_filter in ("a/b", "c/+", "d/#"):
        assert subscriber.subscribe(topic_filter, 2) == 2
    scene.settle()
    for topic in ("a/b", "c/d", "d/e/f", "d"):
        publisher.publish(topic, topic.encode(), qos=qos)
        scene.settle()
    assert [(message.topic, message.payload, message.qos) for message in subscriber.messages] == [
        (topic, topic.encode(), qos) for topic in ("a/b", "c/d", "d/e/f", "d")
    ]
    assert [answer.reason for answer in publisher.of(Puback)] == [r.SUCCESS] * (4 if qos == 1 else 0)
    assert [answer.reason for answer in publisher.of(Pubcomp)] == [r.SUCCESS] * (4 if qos == 2 else 0)
    scene.close()


@pytest.mark.parametrize(("published", "granted", "arrives"), [(0, 2, 0), (1, 0, 0), (1, 2, 1), (2, 1, 1), (2, 0, 0)])
def test_the_lower_quality_of_both_counts(scene: Scene, published: int, granted: int, arrives: int) -> None:
    subscriber = scene.peer("s", at=-1)
    assert subscriber.subscribe("t", granted) == granted
    scene.settle()
    publisher = scene.peer("p")
    publisher.publish("t", b"x", qos=published)
    scene.settle()
    assert [message.qos for message in subscriber.messages] == [arrives]
    if published == 1:
        assert publisher.last(Puback).reason == r.SUCCESS
    scene.close()


def test_octet_by_octet() -> None:
    scene = Scene(piece=1)
    subscriber = scene.peer("s")
    subscriber.subscribe("t/#", 2)
    publisher = scene.peer("p", level=MQTT_3_1_1)
    for qos in (0, 1, 2):
        publisher.publish(f"t/{qos}", b"x" * 300, qos=qos)
    assert [message.topic for message in subscriber.messages] == ["t/0", "t/1", "t/2"]
    scene.close()


def test_everything_about_a_message_arrives(scene: Scene) -> None:
    subscriber = scene.peer("s", at=-1)
    subscriber.subscribe("t/+", 1, identifier=7)
    scene.settle()
    properties: p.Properties = {
        p.PAYLOAD_FORMAT_INDICATOR: 1,
        p.MESSAGE_EXPIRY_INTERVAL: 60,
        p.CONTENT_TYPE: "text/plain",
        p.RESPONSE_TOPIC: "answers/here/",
        p.CORRELATION_DATA: b"\x00\xff",
        p.USER_PROPERTY: [("a", "1"), ("b", ""), ("a", "2")],
    }
    scene.peer("p").publish("t/x", "käse".encode(), qos=1, properties=properties)
    scene.run()
    (message,) = subscriber.messages
    assert message.payload == "käse".encode()
    assert message.properties == {**properties, p.SUBSCRIPTION_IDENTIFIER: [7]}
    scene.close()


def test_a_content_type_that_is_no_symbol(scene: Scene) -> None:
    subscriber = scene.peer("s", at=-1)
    subscriber.subscribe("t")
    scene.settle()
    scene.peer("p").publish("t", properties={p.CONTENT_TYPE: "käse", p.USER_PROPERTY: [("only", "once")]})
    scene.run()
    assert subscriber.messages[0].properties == {p.CONTENT_TYPE: "käse", p.USER_PROPERTY: [("only", "once")]}
    scene.close()


def test_nobody_has_subscribed(scene: Scene) -> None:
    publisher = scene.peer("p")
    publisher.publish("t", qos=0)
    publisher.publish("t", qos=1)
    assert publisher.last(Puback).reason == r.NO_MATCHING_SUBSCRIBERS
    publisher.publish("t", qos=2)
    assert publisher.last(Pubrec).reason == r.NO_MATCHING_SUBSCRIBERS
    assert publisher.last(Pubcomp).reason == r.SUCCESS
    old = scene.old_peer("o")
    old.publish("t", qos=1)
    assert old.of(Puback)
    scene.close()


def test_every_subscriber_gets_a_copy(scene: Scene) -> None:
    peers = [scene.peer(f"s{index}", at=-(index % 2)) for index in range(4)]
    for peer, topic_filter in zip(peers, ("t/a", "t/+", "#", "t/b"), strict=True):
        peer.subscribe(topic_filter, 1)
    scene.settle()
    publisher = scene.peer("p")
    publisher.publish("t/a", b"x", qos=1)
    scene.settle()
    assert [peer.payloads for peer in peers] == [[b"x"], [b"x"], [b"x"], []]
    assert publisher.last(Puback).reason == r.SUCCESS
    scene.close()


def test_an_unsubscribed_filter_brings_nothing(scene: Scene) -> None:
    subscriber = scene.peer("s", at=-1)
    subscriber.subscribe("t/+", 1)
    subscriber.subscribe("t/a", 1)
    assert subscriber.unsubscribe("t/+") == [r.SUCCESS]
    assert subscriber.unsubscribe("t/+") == [r.NO_SUBSCRIPTION_EXISTED]
    scene.settle()
    publisher = scene.peer("p")
    publisher.publish("t/a", b"x", qos=1)
    publisher.publish("t/b", b"y", qos=1)
    scene.run()
    assert subscriber.payloads == [b"x"]
    scene.close()


def test_a_shared_subscription_is_served_once(scene: Scene) -> None:
    peers = [scene.peer(f"s{index}", at=-(index % 2)) for index in range(2)]
    for peer in peers:
        assert peer.subscribe("$share/group/t/+", 1) == 1
        # Those who have less to do come first, so they have to be at it.
        peer.auto = False
    whole = scene.peer("w")
    whole.subscribe("t/a", 1)
    other = scene.peer("o")
    other.subscribe("$share/other/t/a", 1)
    scene.settle()
    publisher = scene.peer("p")
    for number in range(20):
        publisher.publish("t/a", b"%d" % number, qos=1)
    scene.settle()
    shares = [peer.payloads for peer in peers]
    assert sorted(shares[0] + shares[1]) == sorted(b"%d" % number for number in range(20))
    assert all(shares)
    for peer in peers:
        peer.send(*[Puback(message.packet_id) for message in peer.messages])
    scene.settle()
    assert len(publisher.of(Puback)) == 20
    assert len(whole.payloads) == len(other.payloads) == 20
    scene.close()


def test_a_share_goes_to_another_when_its_client_is_gone(scene: Scene) -> None:
    first = scene.peer("first", at=-1)
    first.auto = False
    first.subscribe("$share/g/t", 1)
    scene.settle()
    publisher = scene.peer("p")
    publisher.publish("t", b"x", qos=1)
    scene.settle()
    assert first.payloads == [b"x"]
    second = scene.peer("second", at=-1)
    second.subscribe("$share/g/t", 1)
    scene.settle()
    first.lose()
    scene.settle()
    assert second.payloads == [b"x"]
    assert publisher.last(Puback).reason == r.SUCCESS
    scene.close()


def test_no_local_and_retain_as_published() -> None:
    scene = Scene()
    peer = scene.peer("both")
    peer.subscribe("a", 1, no_local=True)
    peer.subscribe("b", 1, retain_as_published=True)
    other = scene.peer("other")
    other.subscribe("a", 1, no_local=True)
    for topic in ("a", "b"):
        peer.publish(topic, b"x", qos=1, retain=True)
    assert [(message.topic, message.retain) for message in peer.messages] == [("b", True)]
    assert [(message.topic, message.retain) for message in other.messages] == [("a", False)]
    assert [answer.reason for answer in peer.of(Puback)] == [r.SUCCESS] * 2
    scene.close()


@pytest.mark.parametrize("topic", ["/a", "a/", "a.", "/", "//", "a//b", " ", "ä/ö", "_local/x"])
def test_topics_that_addresses_would_take_for_others(scene: Scene, topic: str) -> None:
    subscriber = scene.peer("s", at=-1)
    subscriber.subscribe(topic, 1)
    wild = scene.peer("w", at=-1)
    wild.subscribe("#", 1)
    scene.settle()
    publisher = scene.peer("p")
    publisher.publish(topic, b"x", qos=1)
    publisher.publish("a", b"y", qos=1)
    publisher.publish("a/b", b"y", qos=1)
    scene.settle()
    assert [message.topic for message in subscriber.messages] == [topic]
    assert [message.topic for message in wild.messages] == [topic, "a", "a/b"]
    scene.close()


def test_a_large_message_in_pieces(scene: Scene) -> None:
    subscriber = scene.peer("s", at=-1)
    subscriber.subscribe("t", 1)
    subscriber.subscribe("u/#", 0)
    scene.settle()
    publisher = scene.peer("p")
    payload = bytes(range(256)) * 3000
    publisher.publish("t", payload, qos=1)
    publisher.publish("u/v", payload)
    scene.settle()
    assert subscriber.payloads == [payload, payload]
    assert [message.qos for message in subscriber.messages] == [1, 0]
    assert publisher.last(Puback).reason == r.SUCCESS
    scene.close()
