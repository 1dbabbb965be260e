"""A slow subscriber holds few octets: at QoS 0 messages are dropped, above that their publisher is held back."""

from __future__ import annotations

import pytest

from tests.adaptors.mqtt.peers import Peer, Scene
from van.adaptors.mqtt.adaptor import HELD_BACK_SECONDS
from van.adaptors.mqtt.packets import MQTT_3_1_1, MQTT_5, Puback, Publish, Pubrec
from van.adaptors.mqtt.properties import RECEIVE_MAXIMUM
from van.adaptors.mqtt.session import MAX_QUEUED_OCTETS

LEVELS = (MQTT_3_1_1, MQTT_5)
PAYLOAD = bytes(20_000)


def held(scene: Scene) -> int:
    """Octets of payload that all routers hold."""
    return sum(node.router.budget.held() for node in scene.nodes) + sum(each.store.used for each in scene.services)


def stuck(scene: Scene, qos: int) -> Peer:
    """A subscriber that takes nothing."""
    peer = scene.peer("stuck", at=-1)
    peer.subscribe("t", qos)
    scene.settle()
    peer.reading = False
    return peer


@pytest.mark.parametrize("routers", [1, 3])
def test_at_qos_0_messages_are_dropped_and_counted(routers: int) -> None:
    scene = Scene(routers)
    slow = stuck(scene, 1)
    swift = scene.peer("swift", at=-1)
    swift.subscribe("t")
    scene.settle()
    publisher = scene.peer("p")
    for _ in range(300):
        publisher.publish("t", PAYLOAD)
    scene.settle()
    assert publisher.is_read()
    assert len(swift.messages) == 300
    dropped = scene.services[-1].counts()["dropped"]
    assert 200 < dropped < 300
    assert held(scene) < 2 * MAX_QUEUED_OCTETS
    slow.reading = True
    scene.settle()
    assert len(slow.messages) == 300 - dropped
    scene.close()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("routers", [1, 3])
def test_above_that_the_publisher_is_held_back(level: int, qos: int, routers: int) -> None:
    scene = Scene(routers)
    slow = stuck(scene, qos)
    publisher = scene.peer("p", level=level)
    # What it sends beyond its receive maximum is more than it may: it holds itself back, as the protocol wants it.
    for _ in range(100):
        publisher.publish("t", PAYLOAD, qos=qos)
    scene.settle()
    answered = len(publisher.of(Puback if qos == 1 else Pubrec))
    assert answered < 10
    assert held(scene) < 4 * 1_048_576
    slow.reading = True
    scene.settle()
    assert len(publisher.of(Puback if qos == 1 else Pubrec)) == 100
    assert len(slow.messages) == 100
    scene.close()


def test_a_publisher_is_not_read_while_the_network_takes_nothing() -> None:
    scene = Scene()
    stuck(scene, 1)
    publisher = scene.peer("p", level=MQTT_3_1_1)
    for _ in range(400):
        publisher.write(Publish("t", PAYLOAD, qos=1, packet_id=1 + len(publisher.of(Puback))))
        publisher.scene.run()
    for packet_id in range(1000, 1400):
        publisher.write(Publish("t", PAYLOAD, qos=1, packet_id=packet_id))
    scene.run()
    assert not publisher.is_read()
    assert held(scene) < 4 * 1_048_576
    scene.close()


def test_two_who_hold_one_another_back_go_on_after_a_while() -> None:
    """Neither is read, because the other has not acknowledged; so neither can acknowledge."""
    scene = Scene()
    count = 300
    peers = [scene.peer(name, level=MQTT_3_1_1) for name in "ab"]
    for peer, other in zip(peers, "ba", strict=True):
        peer.subscribe(other, 1)
        peer.auto = False
    for peer, own in zip(peers, "ab", strict=True):
        for packet_id in range(1, count + 1):
            peer.write(Publish(own, b"%d" % packet_id, qos=1, packet_id=packet_id))
    scene.run()
    for peer in peers:
        assert not peer.is_read()
        assert len(peer.messages) == 100
        peer.auto = True
        peer.write(*[Puback(message.packet_id) for message in peer.messages])
    scene.run()
    assert not peers[0].is_read()
    scene.advance(5 * HELD_BACK_SECONDS)
    for peer in peers:
        assert peer.is_read()
        assert len(peer.of(Puback)) == count
        assert sorted(int(payload) for payload in peer.payloads) == list(range(1, count + 1))
    scene.close()


@pytest.mark.parametrize("qos", [1, 2])
def test_nobody_waits_for_an_acknowledgement_of_ones_own(qos: int) -> None:
    scene = Scene()
    peer = scene.peer("me", properties={RECEIVE_MAXIMUM: 2})
    peer.subscribe("t", qos)
    peer.auto = False
    for number in range(3):
        peer.publish("t", b"%d" % number, qos=qos)
    assert [packet.reason for packet in peer.of(Puback if qos == 1 else Pubrec)] == [0, 0, 0]
    assert peer.payloads == [b"0", b"1"]
    scene.close()
