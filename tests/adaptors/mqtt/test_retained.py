"""Retained messages: the last of each topic is known at every router with a service, within bounds."""

from __future__ import annotations

import pytest

from tests.adaptors.mqtt.peers import Scene
from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.client import MAX_REPLAYING
from van.adaptors.mqtt.connection import REPLAY_SLICE
from van.adaptors.mqtt.message import MqttMessage
from van.adaptors.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Pingreq,
    Pingresp,
    Puback,
    Suback,
    Subscribe,
    Subscription,
)
from van.adaptors.mqtt.retained import RetainedStore
from van.adaptors.mqtt.service import MqttService
from van.adaptors.mqtt.snapshot import ANSWER_CAPACITY, JOIN_SECONDS, MAX_ANSWERS
from van.amqp.delivery_state import RELEASED, Rejected
from van.amqp.message import Data, Message, Properties


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


# --- services that begin later


def late_service(scene: Scene, at: int) -> MqttService:
    """A service in the place of one that is there no more."""
    scene.services[at].stop()
    scene.settle()
    service = scene.services[at] = MqttService(scene.nodes[at].router, log=scene.nodes[at].log)
    return service


def known_at(scene: Scene, at: int) -> dict[str, tuple[bytes, int]]:
    """What a new subscriber of everything is sent."""
    subscriber = scene.peer(at=at)
    subscriber.subscribe("#", 2)
    scene.settle()
    found = {message.topic: (message.payload, message.qos) for message in subscriber.messages}
    subscriber.disconnect()
    return found


@pytest.mark.parametrize("routers", [2, 3])
def test_a_service_that_begins_later_learns_what_was_retained(routers: int) -> None:
    scene = Scene(routers)
    scene.advance(JOIN_SECONDS + 1)
    publisher = scene.peer("p")
    wanted = {f"t/{number}": (b"%d" % number, number % 3) for number in range(400)}
    for topic, (payload, qos) in wanted.items():
        publisher.publish(topic, payload, qos=qos, retain=True)
    properties: p.Properties = {p.MESSAGE_EXPIRY_INTERVAL: 100, p.USER_PROPERTY: [("a", "b"), ("a", "c")]}
    publisher.publish("large", bytes(100_000), qos=1, retain=True, properties=properties)
    scene.settle()
    late_service(scene, -1)
    scene.advance(5)
    found = known_at(scene, -1)
    assert found.pop("large") == (bytes(100_000), 1)
    assert found == wanted
    subscriber = scene.peer(at=-1)
    subscriber.subscribe("large", 1)
    scene.settle()
    properties_there = subscriber.messages[0].properties
    assert properties_there[p.USER_PROPERTY] == [("a", "b"), ("a", "c")]
    assert 80 < p.integer(properties_there, p.MESSAGE_EXPIRY_INTERVAL, 0) < 100
    scene.close()


def test_what_is_heard_meanwhile_is_newer() -> None:
    scene = Scene(2)
    scene.advance(JOIN_SECONDS + 1)
    publisher = scene.peer("p")
    for topic in ("a", "b", "c"):
        publisher.publish(topic, b"old", qos=1, retain=True)
    scene.settle()
    service = late_service(scene, 1)
    # Heard before the answer: one has another message, one has none any more.
    service.snapshots.heard("b")
    assert service.retained.put(MqttMessage("a", b"new", qos=1), scene.now)
    scene.advance(5)
    assert known_at(scene, 1) == {"a": (b"new", 1), "c": (b"old", 1)}
    scene.close()


def test_services_that_begin_together_do_not_wait_for_one_another_for_ever() -> None:
    scene = Scene(2)
    assert all(service.snapshots.asking for service in scene.services)
    scene.advance(JOIN_SECONDS + 1)
    assert not any(service.snapshots.asking for service in scene.services)
    scene.close()


def test_who_was_asked_goes_away() -> None:
    scene = Scene(2)
    scene.advance(JOIN_SECONDS + 1)
    scene.peer("p").publish("t", b"x", qos=1, retain=True)
    scene.settle()
    late = late_service(scene, 1)
    scene.services[0].stop()
    scene.advance(5)
    assert late.next_deadline() > scene.now
    scene.advance(2 * JOIN_SECONDS)
    assert not late.snapshots.asking
    assert known_at(scene, 1) == {}
    scene.close()


def test_questions_that_are_none_and_too_many() -> None:
    scene = Scene()
    scene.advance(JOIN_SECONDS + 1)
    node = scene.nodes[0]
    publisher = scene.peer("p")
    for number in range(ANSWER_CAPACITY):
        publisher.publish(f"t/{number}", b"x", qos=1, retain=True)
    client = node.client()
    # Answers that nobody takes.
    receiver = client.receiver("answers", credit=ANSWER_CAPACITY, auto=False)
    sender = client.sender("mqtt$snapshot")
    for payload in (b"\x00", Message(body=Data(b"")).encode()):
        sent = sender.send(payload)
        scene.run()
        assert isinstance(sent.state, Rejected)
    question = Message(properties=Properties(reply_to="answers")).encode()
    asked = [sender.send(question) for _ in range(MAX_ANSWERS + 1)]
    scene.run()
    assert [type(sent.state) for sent in asked] == [type(None)] * MAX_ANSWERS + [Rejected]
    # Whoever asked is gone: there is no more to say.
    receiver.credit(1000)
    settled = 0
    while settled < len(receiver.deliveries):
        receiver.deliveries[settled].settle(RELEASED)
        settled += 1
        scene.run()
    assert all(sent.state is not None for sent in asked)
    waiting = sender.send(question)
    scene.run()
    assert waiting.state is None
    scene.service.stop()
    scene.run()
    assert waiting.state == RELEASED
    client.close()
    scene.close()


def test_many_filters_over_many_messages_are_looked_at_in_slices() -> None:
    scene = Scene()
    for number in range(REPLAY_SLICE // 2):
        assert scene.service.retained.put(MqttMessage(f"t/{number}", b"x", qos=1), scene.now)
    subscriber = scene.peer(auto=False)
    subscriber.reading = False
    # None of these matches anything, and each looks at everything; then one that does, and something else.
    subscriptions = [Subscription(f"+/+/{number}", 1) for number in range(6)]
    subscriber.write(Subscribe(1, [*subscriptions, Subscription("t/7", 1)]), Pingreq())
    scene.run()
    assert subscriber.adaptor.next_deadline() <= scene.now
    assert not subscriber.is_read()
    subscriber.reading = True
    scene.run()
    assert subscriber.of(Suback)
    assert subscriber.messages == []
    assert subscriber.of(Pingresp) == []
    scene.advance(1.0)
    assert [message.topic for message in subscriber.messages] == ["t/7"]
    assert subscriber.of(Pingresp)
    assert subscriber.is_read()


def test_retained_messages_that_wait_for_a_client_are_bounded() -> None:
    scene = Scene()
    for number in range(6000):
        assert scene.service.retained.put(MqttMessage(f"t/{number}", b"x", qos=1), scene.now)
    subscriber = scene.peer(auto=False)
    subscriber.reading = False
    filters = ("#", "t/#", "+/#", "t/+", "+/+")
    subscriber.write(Subscribe(1, [Subscription(topic_filter, 1) for topic_filter in filters]))
    scene.advance(1.0)
    state = scene.service.clients[subscriber.adaptor.connection.client_id].state
    assert state.replaying <= MAX_REPLAYING + 6000
    assert state.dropped == 3
