"""Sessions outlive connections, within bounds: what was under way goes on, what comes meanwhile waits; and wills."""

from __future__ import annotations

import pytest

from tests.adaptors.mqtt.peers import Scene
from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.connection import Settings
from van.adaptors.mqtt.packets import MQTT_3_1_1, MQTT_5, Disconnect, Puback, Pubcomp, Publish, Pubrec, Pubrel, Will
from van.adaptors.mqtt.service import MqttService

LEVELS = (MQTT_3_1_1, MQTT_5)


def test_messages_wait_for_a_client_that_is_away() -> None:
    scene = Scene(3)
    subscriber = scene.peer("s", at=-1, expiry=100)
    subscriber.subscribe("t/#", 1)
    subscriber.subscribe("t/2", 2)
    scene.settle()
    subscriber.disconnect()
    publisher = scene.peer("p")
    for qos in (0, 1, 2):
        publisher.publish(f"t/{qos}", b"%d" % qos, qos=qos)
    scene.settle()
    # They are in safe hands, so their publisher need not wait.
    assert publisher.last(Puback).reason == publisher.last(Pubcomp).reason == r.SUCCESS
    again = scene.peer("s", at=-1, clean_start=False, expiry=100)
    assert sorted((message.topic, message.qos, message.dup) for message in again.messages) == [
        ("t/1", 1, False),
        ("t/2", 1, False),
        ("t/2", 2, False),
    ]
    publisher.publish("t/x", b"x", qos=1)
    scene.settle()
    assert again.payloads[-1] == b"x"
    scene.close()


@pytest.mark.parametrize(
    ("level", "lasting", "clean_start", "present"),
    [
        (MQTT_5, True, False, True),
        (MQTT_5, True, True, False),
        (MQTT_5, False, False, False),
        (MQTT_3_1_1, True, False, True),
        (MQTT_3_1_1, True, True, False),
    ],
)
def test_which_sessions_there_are_to_come_back_to(level: int, lasting: bool, clean_start: bool, present: bool) -> None:
    scene = Scene()
    first = scene.peer("me", level=level, clean_start=level == MQTT_5, expiry=60 * (lasting and level == MQTT_5))
    first.subscribe("t", 1)
    first.disconnect()
    again = scene.peer("other", level=level)
    again.disconnect()
    peer = scene.peer("p")
    back = scene.peer("me", level=level, clean_start=clean_start)
    session = scene.service.clients["me"].state
    assert session.present is present
    peer.publish("t", b"x", qos=1)
    assert back.payloads == [b"x"] * present
    scene.close()


def test_a_session_ends_when_its_time_is_over() -> None:
    scene = Scene()
    for name, expiry in (("a", 100), ("b", 200)):
        peer = scene.peer(name, expiry=expiry)
        peer.subscribe("t", 1)
        peer.disconnect()
    # It may still say how long.
    peer = scene.peer("c", expiry=10)
    peer.disconnect(properties={p.SESSION_EXPIRY_INTERVAL: 300})
    scene.advance(99)
    assert set(scene.service.clients) == {"a", "b", "c"}
    scene.advance(2)
    assert set(scene.service.clients) == {"b", "c"}
    scene.advance(100)
    assert set(scene.service.clients) == {"c"}
    scene.advance(100)
    assert not scene.service.clients
    assert scene.service.sessions_expired == 3
    scene.close()


def test_a_session_of_3_1_1_lasts_as_long_as_the_settings_say() -> None:
    scene = Scene(settings=Settings(max_session_expiry=50))
    scene.old_peer("a", clean_start=False).disconnect()
    scene.advance(49)
    assert scene.service.clients
    scene.advance(2)
    assert not scene.service.clients
    scene.close()


@pytest.mark.parametrize("level", LEVELS)
def test_the_new_connection_of_a_client_wins(level: int) -> None:
    scene = Scene()
    first = scene.peer("me", level=level, clean_start=False, expiry=60 * (level == MQTT_5))
    first.subscribe("t", 1)
    second = scene.peer("me", level=level, clean_start=False, expiry=60 * (level == MQTT_5))
    assert first.ended()
    assert [packet.reason for packet in first.of(Disconnect)] == ([r.SESSION_TAKEN_OVER] if level == MQTT_5 else [])
    first.lose()
    scene.peer("p").publish("t", b"x", qos=1)
    assert second.payloads == [b"x"]
    assert scene.service.clients["me"].connection is second.adaptor.connection
    scene.close()


def test_a_session_that_was_idle_for_long_is_taken_over_whole() -> None:
    scene = Scene()
    first = scene.peer("me", expiry=60)
    first.subscribe("t", 1)
    scene.advance(10_000)
    second = scene.peer("me", clean_start=False, expiry=60)
    assert first.ended()
    scene.peer("p").publish("t", b"x", qos=1)
    assert second.payloads == [b"x"]
    scene.close()


def test_who_begins_anew_does_so_although_a_will_still_waits_for_credit() -> None:
    scene = Scene()
    watcher = scene.nodes[0].client().receiver("mqtt/wills/me", credit=0)
    peer = scene.peer("me", expiry=60, will=Will("wills/me", b"alas", qos=1))
    peer.subscribe("t", 1)
    for number in range(100):
        peer.publish("wills/me", b"%d" % number, qos=1)
    peer.lose()
    back = scene.peer("me", clean_start=True)
    assert not scene.service.clients["me"].held
    assert not scene.service.clients["me"].state.present
    watcher.credit(500)
    scene.run()
    back.lose()
    scene.service.stop()


@pytest.mark.parametrize("level", LEVELS)
def test_what_was_not_acknowledged_is_sent_again(level: int) -> None:
    scene = Scene()
    expiry = 60 * (level == MQTT_5)
    subscriber = scene.peer("s", level=level, clean_start=False, expiry=expiry)
    subscriber.auto = False
    for qos in (1, 2):
        subscriber.subscribe(f"t{qos}", qos)
    publisher = scene.peer("p")
    for topic, qos in (("t1", 1), ("t2", 2), ("t2", 2), ("t1", 1)):
        publisher.publish(topic, b"x", qos=qos)
    sent = subscriber.messages
    subscriber.send(Puback(sent[0].packet_id), Pubrec(sent[1].packet_id))
    assert [packet.packet_id for packet in subscriber.of(Pubrel)] == [sent[1].packet_id]
    subscriber.lose()
    again = scene.peer("s", level=level, clean_start=False, expiry=expiry)
    assert [type(packet) for packet in again.packets[:3]] == [Pubrel, Publish, Publish]
    assert [packet.packet_id for packet in again.of(Pubrel)][:1] == [sent[1].packet_id]
    assert [(message.packet_id, message.qos, message.dup) for message in again.messages] == [
        (sent[2].packet_id, 2, True),
        (sent[3].packet_id, 1, True),
    ]
    assert not scene.service.clients["s"].state.inflight
    scene.close()


def test_what_is_sent_again_keeps_to_the_new_receive_maximum() -> None:
    scene = Scene()
    subscriber = scene.peer("s", expiry=60)
    subscriber.auto = False
    subscriber.subscribe("t", 1)
    publisher = scene.peer("p")
    for _ in range(5):
        publisher.publish("t", qos=1)
    assert len(subscriber.messages) == 5
    subscriber.lose()
    again = scene.peer("s", clean_start=False, expiry=60, auto=False, properties={p.RECEIVE_MAXIMUM: 2})
    assert [message.dup for message in again.messages] == [True, True]
    again.send(Puback(again.messages[1].packet_id))
    assert [message.dup for message in again.messages] == [True, True, True]
    publisher.publish("t", b"new", qos=1)
    for number in (0, 2, 3, 4):
        again.send(Puback(again.messages[number].packet_id))
    assert [message.dup for message in again.messages] == [True] * 5 + [False]
    assert again.payloads[-1] == b"new"
    scene.close()


def test_a_message_at_qos_2_is_not_published_again_when_its_client_comes_back() -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.auto = False
    subscriber.subscribe("t", 1)
    publisher = scene.peer("p", expiry=60)
    publisher.auto = False
    packet_id = publisher.publish("t", b"x", qos=2)
    # Its outcome is known while the client is away.
    publisher.lose()
    subscriber.send(Puback(subscriber.messages[0].packet_id))
    again = scene.peer("p", clean_start=False, expiry=60)
    again.auto = False
    again.send(Publish("t", b"x", qos=2, packet_id=packet_id, dup=True))
    assert [packet.packet_id for packet in again.of(Pubrec)] == [packet_id]
    again.send(Pubrel(packet_id))
    assert again.last(Pubcomp).reason == r.SUCCESS
    assert subscriber.payloads == [b"x"]
    scene.close()


def test_what_waits_for_a_client_that_is_away_is_bounded() -> None:
    scene = Scene(settings=Settings(max_queued=3, max_queued_octets=10_000))
    for name in ("count", "octets"):
        peer = scene.peer(name, expiry=60)
        peer.subscribe(name, 1)
        peer.disconnect()
    publisher = scene.peer("p")
    for number in range(5):
        publisher.publish("count", b"%d" % number, qos=1)
        publisher.publish("octets", b"%d" % number * 6000, qos=1)
    reasons = [answer.reason for answer in publisher.of(Puback)]
    assert reasons == [0, 0, 0, 0] + [0, r.NO_MATCHING_SUBSCRIBERS] + [r.NO_MATCHING_SUBSCRIBERS] * 4
    assert scene.service.counts()["dropped"] == 5
    assert scene.peer("count", clean_start=False).payloads == [b"0", b"1", b"2"]
    assert scene.peer("octets", clean_start=False).payloads == [b"0" * 6000, b"1" * 6000]
    scene.close()


def test_what_waits_for_all_clients_together_is_bounded() -> None:
    scene = Scene()
    scene.services[0] = MqttService(scene.nodes[0].router, "other", "other", max_stored_octets=10_000)
    for name in ("a", "b"):
        peer = scene.peer(name, expiry=60)
        peer.subscribe(name, 1)
        peer.disconnect()
    publisher = scene.peer("p")
    for name in ("a", "b"):
        publisher.publish(name, bytes(6000), qos=1)
    assert [answer.reason for answer in publisher.of(Puback)] == [0, r.NO_MATCHING_SUBSCRIBERS]
    counts = scene.service.counts()
    assert (counts["sessions"], counts["connected"], counts["subscriptions"]) == (3, 1, 2)
    assert (counts["queued"], counts["dropped"]) == (1, 1)
    assert 6000 < counts["queuedOctets"] <= 10_000


def test_what_a_session_cannot_keep_is_given_back_when_its_client_goes() -> None:
    scene = Scene()
    scene.services[0] = MqttService(scene.nodes[0].router, "other", "other", max_stored_octets=10_000)
    subscriber = scene.peer("s", expiry=60, auto=False, properties={p.RECEIVE_MAXIMUM: 2})
    subscriber.subscribe("t", 1)
    publisher = scene.peer("p")
    for number in range(4):
        publisher.publish("t", b"%d" % number * 4000, qos=1)
    # While it is connected its messages are their publishers', and take nothing of what sessions may keep.
    assert scene.service.store.used == 0
    assert publisher.of(Puback) == []
    subscriber.lose()
    assert scene.service.store.used > 8000
    answers = {answer.packet_id: answer.reason for answer in publisher.of(Puback)}
    assert sorted(answers.values()) == [0, 0, r.NO_MATCHING_SUBSCRIBERS, r.NO_MATCHING_SUBSCRIBERS]
    again = scene.peer("s", clean_start=False, expiry=60)
    assert [payload[:1] for payload in again.payloads] == [b"0", b"1"]
    assert scene.service.store.used == 0
    assert [answers[message + 1] for message in (0, 1)] == [0, 0]


def test_a_message_expires_while_it_waits() -> None:
    scene = Scene()
    subscriber = scene.peer("s", expiry=1000)
    subscriber.subscribe("t", 1)
    subscriber.disconnect()
    publisher = scene.peer("p")
    for seconds in (10, 100):
        publisher.publish("t", b"%d" % seconds, qos=1, properties={p.MESSAGE_EXPIRY_INTERVAL: seconds})
    scene.advance(30)
    again = scene.peer("s", clean_start=False, expiry=1000)
    assert again.payloads == [b"100"]
    assert again.messages[0].properties == {p.MESSAGE_EXPIRY_INTERVAL: 70}
    scene.close()


def test_a_subscription_is_changed_by_another_for_the_same_filter() -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("t", 0, identifier=1)
    subscriber.subscribe("t", 1, identifier=2)
    scene.peer("p").publish("t", b"x", qos=1)
    (message,) = subscriber.messages
    assert (message.qos, message.properties) == (1, {p.SUBSCRIPTION_IDENTIFIER: [2]})
    scene.close()


def test_what_waits_from_a_subscription_that_was_given_up_is_sent_nevertheless() -> None:
    scene = Scene()
    subscriber = scene.peer("s", properties={p.RECEIVE_MAXIMUM: 1})
    subscriber.auto = False
    subscriber.subscribe("t", 1)
    publisher = scene.peer("p")
    for number in range(3):
        publisher.publish("t", b"%d" % number, qos=1)
    assert publisher.of(Puback) == []
    subscriber.unsubscribe("t")
    scene.run()
    assert [answer.reason for answer in publisher.of(Puback)] == [0, 0, 0]
    for number in range(3):
        subscriber.send(Puback(subscriber.messages[number].packet_id))
    assert subscriber.payloads == [b"0", b"1", b"2"]
    scene.close()


# --- wills


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("routers", [1, 3])
def test_a_will_is_published_when_the_connection_is_lost(level: int, routers: int) -> None:
    scene = Scene(routers)
    watcher = scene.peer("w", at=-1)
    watcher.subscribe("wills/#", 2)
    scene.settle()
    peer = scene.peer("me", level=level, will=Will("wills/me", b"alas", qos=1))
    peer.lose()
    scene.settle()
    assert [(message.topic, message.payload, message.qos) for message in watcher.messages] == [("wills/me", b"alas", 1)]
    scene.close()


@pytest.mark.parametrize("level", LEVELS)
def test_no_will_of_a_client_that_says_good_bye(level: int) -> None:
    scene = Scene()
    watcher = scene.peer("w")
    watcher.subscribe("#")
    scene.peer("me", level=level, will=Will("t", b"alas")).disconnect()
    assert watcher.payloads == []
    scene.close()


def test_a_client_may_want_its_will_published_and_go() -> None:
    scene = Scene()
    watcher = scene.peer("w")
    watcher.subscribe("#")
    scene.peer("me", will=Will("t", b"alas")).disconnect(r.DISCONNECT_WITH_WILL)
    assert watcher.payloads == [b"alas"]
    scene.close()


def test_a_will_of_a_client_that_breaks_a_rule_or_is_silent() -> None:
    scene = Scene()
    watcher = scene.peer("w")
    watcher.subscribe("#")
    scene.peer("a", will=Will("t", b"a")).send(Publish("+"))
    scene.peer("b", will=Will("t", b"b"), keep_alive=10)
    scene.advance(20)
    assert watcher.payloads == [b"a", b"b"]
    scene.close()


def test_a_will_waits_and_is_not_published_when_the_client_is_back() -> None:
    scene = Scene()
    watcher = scene.peer("w")
    watcher.subscribe("#")
    will = Will("t", b"alas", properties={p.WILL_DELAY_INTERVAL: 20, p.CONTENT_TYPE: "text"})
    scene.peer("me", will=will, expiry=60).lose()
    scene.advance(19)
    assert watcher.payloads == []
    back = scene.peer("me", will=will, expiry=60, clean_start=False)
    scene.advance(30)
    assert watcher.payloads == []
    back.lose()
    scene.advance(21)
    assert watcher.payloads == [b"alas"]
    assert watcher.messages[0].properties == {p.CONTENT_TYPE: "text"}
    scene.advance(100)
    assert watcher.payloads == [b"alas"]
    scene.close()


def test_a_will_waits_no_longer_than_the_session() -> None:
    scene = Scene()
    watcher = scene.peer("w")
    watcher.subscribe("#")
    will = Will("t", b"alas", properties={p.WILL_DELAY_INTERVAL: 100})
    scene.peer("me", will=will, expiry=10).lose()
    scene.advance(9)
    assert watcher.payloads == []
    scene.advance(2)
    assert watcher.payloads == [b"alas"]
    assert "me" not in scene.service.clients
    # A client that wants to begin anew ends its session, too.
    scene.peer("me", will=will, expiry=10).lose()
    scene.peer("me", clean_start=True)
    assert watcher.payloads == [b"alas"] * 2
    scene.close()


def test_a_service_that_is_stopped_says_so() -> None:
    scene = Scene()
    peers = [scene.peer("a"), scene.old_peer("b")]
    away = scene.peer("c", expiry=60)
    away.subscribe("t", 1)
    away.disconnect()
    scene.service.stop()
    scene.run()
    assert [peer.ended() for peer in peers] == [True, True]
    assert peers[0].last(Disconnect).reason == r.SERVER_SHUTTING_DOWN
    assert not scene.service.clients
    scene.close()
