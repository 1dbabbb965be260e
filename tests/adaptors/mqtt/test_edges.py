"""MQTT at edge routers, which are not told of addresses elsewhere: an interior router sees to filters for them."""

from __future__ import annotations

import pytest

from tests.adaptors.edges import Site
from tests.adaptors.mqtt.peers import Peer, Scene
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.packets import Puback
from van.adaptors.mqtt.service import MqttService


class EdgeScene(Scene):
    """E – A – B – F, with services at some of them."""

    def __init__(self, names: str) -> None:
        self.site = Site()
        self.network = self.site.network
        self.piece = 0
        self.peers = []
        self.names = names
        self.nodes = [self.site.nodes[name] for name in names]
        self.services = [MqttService(node.router, log=node.log) for node in self.nodes]
        self.settle()

    def at(self, name: str, client_id: str) -> Peer:
        return self.peer(client_id, at=self.names.index(name))


@pytest.mark.parametrize(("publishing", "subscribing"), ["EF", "EA", "AE", "EB", "EE", "AB"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_filters_of_everybody_are_served(publishing: str, subscribing: str, qos: int) -> None:
    scene = EdgeScene("EABF")
    subscriber = scene.at(subscribing, "s")
    shared = scene.at(subscribing, "g")
    for peer, topic_filter in ((subscriber, "a/b"), (subscriber, "c/+"), (shared, "$share/g/#")):
        assert peer.subscribe(topic_filter, 2) == 2
    scene.settle()
    publisher = scene.at(publishing, "p")
    for topic in ("a/b", "c/d", "e"):
        publisher.publish(topic, topic.encode(), qos=qos)
        scene.settle()
    assert [(message.topic, message.qos) for message in subscriber.messages] == [("a/b", qos), ("c/d", qos)]
    assert [(message.topic, message.qos) for message in shared.messages] == [("a/b", qos), ("c/d", qos), ("e", qos)]
    if qos == 1:
        assert [answer.reason for answer in publisher.of(Puback)] == [r.SUCCESS] * 3
    scene.close()


def test_retained_messages_are_known_at_edges() -> None:
    scene = EdgeScene("EABF")
    scene.at("E", "p").publish("a/b", b"x", qos=1, retain=True)
    scene.settle()
    for name in "EABF":
        subscriber = scene.at(name, f"s{name}")
        subscriber.subscribe("a/#", 1)
        scene.settle()
        assert [(message.payload, message.retain) for message in subscriber.messages] == [(b"x", True)]
    scene.close()


def test_without_a_service_at_an_interior_router_topics_go_to_their_own_address() -> None:
    scene = EdgeScene("EF")
    literal = scene.at("F", "l")
    literal.subscribe("a/b", 1)
    wild = scene.at("F", "w")
    wild.subscribe("a/+", 1)
    near = scene.at("E", "n")
    near.subscribe("a/#", 1)
    scene.settle()
    publisher = scene.at("E", "p")
    publisher.publish("a/b", b"x", qos=1)
    scene.settle()
    # Filters elsewhere are not known here.
    assert [peer.payloads for peer in (literal, wild, near)] == [[b"x"], [], [b"x"]]
    assert publisher.last(Puback).reason == r.SUCCESS
    scene.close()
