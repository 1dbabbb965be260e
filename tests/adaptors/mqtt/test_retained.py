"""Retained messages: the last of each topic is known at every router with a service, within bounds."""

from __future__ import annotations

import pytest

from tests.adaptors.mqtt.peers import Scene
from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.message import MqttMessage
from van.adaptors.mqtt.packets import MQTT_3_1_1, MQTT_5, Puback
from van.adaptors.mqtt.retained import RetainedStore


@pytest.mark.parametrize("routers", [1, 3])
def test_who_subscribes_later_gets_the_last_message_of_each_topic(routers: int) -> None:
    scene = Scene(routers)
    publisher = scene.peer("p")
    for topic, payload in (("a/1", b"old"), ("a/2", b"x"), ("a/1", b"new"), ("b", b"y"), ("a", b"z")):
        publisher.publish(topic, payload, qos=1, retain=True, properties={p.CONTENT_TYPE: "t"})
        scene.settle()
    assert [answer.reason for answer in publisher.of(Puback)] == [r.SUCCESS] * 5
    for level in (MQTT_3_1_1, MQTT_5):
        for topic_filter, found in (("a/+", {"a/1", "a/2"}), ("a/1", {"a/1"}), ("a/#", {"a", "a/1", "a/2"})):
            subscriber = scene.peer(at=-1, level=level)
            subscriber.subscribe(topic_filter, 1)
            scene.settle()
            assert {message.topic for message in subscriber.messages} == found
            assert all(message.retain and message.qos == 1 for message in subscriber.messages)
            assert {m.topic: m.payload for m in subscriber.messages}.get("a/1") == b"new"
    publisher.publish("a/1", b"", retain=True)
    scene.settle()
    subscriber = scene.peer(at=-1)
    subscriber.subscribe("#", 0, identifier=3)
    scene.settle()
    assert {message.topic for message in subscriber.messages} == {"a", "a/2", "b"}
    assert all(message.qos == 0 for message in subscriber.messages)
    assert subscriber.messages[0].properties == {p.CONTENT_TYPE: "t", p.SUBSCRIPTION_IDENTIFIER: [3]}
    scene.close()


def test_a_message_to_who_has_subscribed_is_not_marked() -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("t")
    scene.peer("p").publish("t", b"x", retain=True)
    assert [message.retain for message in subscriber.messages] == [False]
    scene.close()


def test_when_retained_messages_are_sent_is_the_subscribers_choice() -> None:
    scene = Scene()
    scene.peer("p").publish("t", b"x", retain=True)
    counts = []
    for handling in (0, 1, 2):
        subscriber = scene.peer()
        subscriber.subscribe("t", retain_handling=handling)
        first = len(subscriber.messages)
        subscriber.subscribe("t", retain_handling=handling)
        counts.append((first, len(subscriber.messages) - first))
    assert counts == [(1, 1), (1, 0), (0, 0)]
    shared = scene.peer()
    shared.subscribe("$share/g/t")
    assert shared.messages == []
    scene.close()


def test_a_retained_message_expires() -> None:
    scene = Scene()
    scene.peer("p").publish("t", b"x", retain=True, properties={p.MESSAGE_EXPIRY_INTERVAL: 10})
    scene.advance(4)
    subscriber = scene.peer()
    subscriber.subscribe("t")
    assert subscriber.messages[0].properties == {p.MESSAGE_EXPIRY_INTERVAL: 6}
    scene.advance(7)
    late = scene.peer()
    late.subscribe("#")
    assert late.messages == []
    assert scene.service.counts()["retained"] == 0
    scene.close()


def test_a_large_retained_message_over_routers() -> None:
    scene = Scene(2)
    payload = bytes(200_000)
    publisher = scene.peer("p")
    publisher.publish("t", payload, qos=1, retain=True)
    scene.settle()
    subscriber = scene.peer(at=-1)
    subscriber.subscribe("t")
    scene.settle()
    assert subscriber.payloads == [payload]
    scene.close()


def test_retained_messages_are_bounded_by_count_and_by_octets() -> None:
    scene = Scene()
    scene.service.retained = RetainedStore(2, 10_000)
    publisher = scene.peer("p")
    for topic, size in (("a", 1), ("b", 6000), ("c", 1), ("a", 6000), ("b", 1), ("c", 1)):
        publisher.publish(topic, bytes(size), qos=1, retain=True)
    reasons = [answer.reason for answer in publisher.of(Puback)]
    assert reasons == [0, 0, r.QUOTA_EXCEEDED, r.QUOTA_EXCEEDED, 0, 0]
    assert scene.service.retained.refused == 2
    subscriber = scene.peer()
    subscriber.subscribe("#")
    # What was the last message of a topic is not, although there was no room for the new one.
    assert sorted(message.topic for message in subscriber.messages) == ["b", "c"]
    scene.close()


def test_topics_of_which_one_is_above_the_other() -> None:
    store = RetainedStore()
    for topic in ("a", "a/b", "a/b/c", "$x/y", "d//e", ""):
        assert store.put(MqttMessage(topic, topic.encode() or b"empty"), 0.0)
    found = {
        topic_filter: sorted(retained.message.topic for retained in store.match(topic_filter, 0.0))
        for topic_filter in ("#", "+", "a/#", "a/+", "+/b", "$x/#", "$x/+", "d/+/e", "+/+/+", "a/b/c/#", "x/#", "x")
    }
    assert found == {
        "#": ["", "a", "a/b", "a/b/c", "d//e"],
        "+": ["", "a"],
        "a/#": ["a", "a/b", "a/b/c"],
        "a/+": ["a/b"],
        "+/b": ["a/b"],
        "$x/#": ["$x/y"],
        "$x/+": ["$x/y"],
        "d/+/e": ["d//e"],
        "+/+/+": ["a/b/c", "d//e"],
        "a/b/c/#": ["a/b/c"],
        "x/#": [],
        "x": [],
    }
    for topic in ("a/b", "a", "a/b/c"):
        assert store.put(MqttMessage(topic, b""), 0.0)
    assert sorted(retained.message.topic for retained in store.match("#", 0.0)) == ["", "d//e"]
