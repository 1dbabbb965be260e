"""AMQP and MQTT clients exchange messages: what is what, which outcomes they hear, and what has no words."""

from __future__ import annotations

import uuid

import pytest

from tests.adaptors.mqtt.peers import Scene
from van.adaptors.mqtt import properties as p
from van.adaptors.mqtt import reason as r
from van.adaptors.mqtt.packets import MQTT_3_1_1, Puback
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.message import AmqpSequence, AmqpValue, Body, Data, Header, Message, Properties
from van.amqp.performatives import Error
from van.amqp.types import Symbol, ULong


@pytest.fixture(params=[1, 3], ids=["one router", "three routers"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


@pytest.mark.parametrize(
    ("body", "payload", "text"),
    [
        (Data(b"\x00\xff"), b"\x00\xff", False),
        ([Data(b"a"), Data(b"b")], b"ab", False),
        (AmqpValue("käse"), "käse".encode(), True),
        (AmqpValue(b"x"), b"x", False),
        (AmqpValue(None), b"", False),
        (None, b"", False),
    ],
)
def test_bodies_of_amqp_messages(scene: Scene, body: Body | None, payload: bytes, text: bool) -> None:
    subscriber = scene.peer("s")
    subscriber.subscribe("a/b", 1)
    scene.settle()
    sender = scene.nodes[-1].client().sender("mqtt/a/b")
    sent = sender.send(Message(body=body).encode())
    scene.settle()
    assert sent.state == ACCEPTED
    (message,) = subscriber.messages
    assert (message.topic, message.payload, message.qos) == ("a/b", payload, 1)
    assert message.properties == ({p.PAYLOAD_FORMAT_INDICATOR: 1} if text else {})


def test_everything_about_an_amqp_message() -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("t", 1)
    message = Message(
        header=Header(durable=True, ttl=30_500),
        properties=Properties(
            to="mqtt/t",
            reply_to="mqtt/answers",
            correlation_id="c1",
            content_type="text/plain",
            subject="something else",
        ),
        application_properties={
            "text": "a", "number": 5, "real": 1.5, "yes": True, "no": False, "octets": b"x", "bad": "\0",
        },
        body=Data(b"x"),
    )  # fmt: skip
    scene.nodes[0].client().sender("mqtt/t").send(message.encode())
    scene.run()
    assert subscriber.messages[0].topic == "t"
    assert subscriber.messages[0].properties == {
        p.MESSAGE_EXPIRY_INTERVAL: 30,
        p.RESPONSE_TOPIC: "answers",
        p.CORRELATION_DATA: b"c1",
        p.CONTENT_TYPE: "text/plain",
        p.USER_PROPERTY: [("text", "a"), ("number", "5"), ("real", "1.5"), ("yes", "true"), ("no", "false")],
    }


@pytest.mark.parametrize(
    ("correlation", "data"),
    [
        (b"\x00", b"\x00"),
        ("text", b"text"),
        (ULong(5), b"5"),
        (uuid.UUID(int=1), uuid.UUID(int=1).bytes),
        (b"x" * 70_000, None),
    ],
)
def test_correlation(correlation: str | bytes | ULong | uuid.UUID, data: bytes | None) -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("t")
    message = Message(properties=Properties(correlation_id=correlation, reply_to="elsewhere"), body=Data(b"x"))
    scene.nodes[0].client().sender("mqtt/t").send(message.encode(), settled=True)
    scene.run()
    (got,) = subscriber.messages
    assert got.qos == 0
    assert got.properties == ({p.CORRELATION_DATA: data} if data is not None else {})


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_mqtt_message_at_an_amqp_receiver(scene: Scene, qos: int) -> None:
    receiver = scene.nodes[-1].client().receiver("mqtt/a/b", credit=10)
    wild = scene.nodes[-1].client().receiver("mqtt/a/#", credit=10)
    scene.settle()
    publisher = scene.peer("p")
    properties: p.Properties = {
        p.CONTENT_TYPE: "text/plain",
        p.RESPONSE_TOPIC: "answers",
        p.CORRELATION_DATA: b"c",
        p.MESSAGE_EXPIRY_INTERVAL: 5,
        p.USER_PROPERTY: [("k", "v")],
    }
    publisher.publish("a/b", b"hello", qos=qos, properties=properties)
    scene.settle()
    for each, address in ((receiver, "mqtt/a/b"), (wild, "mqtt/a/#")):
        (body,) = each.bodies
        message = Message.decode(body)
        assert message.body == Data(b"hello")
        assert message.properties == Properties(
            to=address,
            subject="a/b",
            reply_to="mqtt/answers",
            correlation_id=b"c",
            content_type="text/plain",
        )
        assert message.application_properties == {"k": "v"}
        assert message.header == Header(durable=True if qos else None, ttl=5000)
        assert message.message_annotations == ({Symbol("x-opt-mqtt-qos"): 2} if qos == 2 else None)
        assert [got.settled for got in each.deliveries] == [qos == 0]
    if qos == 1:
        assert publisher.last(Puback).reason == r.SUCCESS


def test_text_is_text() -> None:
    scene = Scene()
    receiver = scene.nodes[0].client().receiver("mqtt/t", credit=10)
    scene.peer("p").publish("t", "käse".encode(), properties={p.PAYLOAD_FORMAT_INDICATOR: 1})
    assert Message.decode(receiver.bodies[0]).body == AmqpValue("käse")


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (ACCEPTED, r.SUCCESS),
        (RELEASED, r.NO_MATCHING_SUBSCRIBERS),
        (Rejected(), r.IMPLEMENTATION_SPECIFIC_ERROR),
        (Rejected(error=Error(condition="amqp:resource-limit-exceeded")), r.QUOTA_EXCEEDED),
        (Rejected(error=Error(condition="amqp:unauthorized-access")), r.NOT_AUTHORIZED),
    ],
)
def test_outcomes_are_reason_codes(scene: Scene, outcome: object, reason: int) -> None:
    receiver = scene.nodes[-1].client().receiver("mqtt/t", credit=10, auto=False)
    scene.settle()
    publisher = scene.peer("p")
    publisher.publish("t", b"x", qos=1)
    scene.settle()
    assert publisher.of(Puback) == []
    receiver.deliveries[0].settle(outcome)
    scene.settle()
    assert publisher.last(Puback).reason == reason
    old = scene.old_peer("o")
    old.publish("t", b"x", qos=1)
    scene.settle()
    receiver.deliveries[1].settle(outcome)
    scene.settle()
    assert old.of(Puback)
    assert not old.ended()


def test_a_message_that_came_back_is_sent_again() -> None:
    scene = Scene()
    receiver = scene.nodes[0].client().receiver("mqtt/t", credit=10, auto=False)
    publisher = scene.peer("p")
    publisher.publish("t", b"x", qos=1)
    for number in range(3):
        assert publisher.of(Puback) == []
        receiver.deliveries[number].settle(Modified(delivery_failed=True))
        scene.run()
    assert len(receiver.deliveries) == 3
    assert publisher.last(Puback).reason == r.UNSPECIFIED_ERROR
    # At QoS 2 nothing is sent twice.
    publisher.publish("t", b"x", qos=2)
    receiver.deliveries[3].settle(Modified(delivery_failed=True))
    scene.run()
    assert len(receiver.deliveries) == 4
    assert publisher.packets[-1].reason == r.UNSPECIFIED_ERROR  # type: ignore[attr-defined]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_client_of_3_1_1_hears_of_a_failure_by_the_end_of_its_connection(qos: int) -> None:
    scene = Scene()
    receiver = scene.nodes[0].client().receiver("mqtt/t", credit=10, auto=False)
    publisher = scene.peer("p", level=MQTT_3_1_1, clean_start=False)
    publisher.publish("t", b"x", qos=qos)
    while (waiting := [got for got in receiver.deliveries if got.link.session.unsettled_in]) and not publisher.ended():
        waiting[-1].settle(Modified(delivery_failed=True))
        scene.run()
    assert publisher.ended()
    assert scene.service.clients[publisher.adaptor.connection.client_id].state.received == {}


@pytest.mark.parametrize("body", [AmqpValue(5), AmqpSequence([1]), AmqpValue({"a": 1})])
def test_bodies_that_mqtt_has_no_words_for_are_rejected(body: Body) -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("t", 1)
    sent = scene.nodes[0].client().sender("mqtt/t").send(Message(body=body).encode())
    scene.run()
    assert isinstance(sent.state, Rejected)
    assert subscriber.messages == []
    assert scene.service.counts()["dropped"] == 1


def test_what_is_no_message_is_rejected() -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("t", 1)
    subscriber.subscribe("u/+", 1)
    client = scene.nodes[0].client()
    for address, payload in (
        ("mqtt/t", b"\x00"),
        # A filter with a wildcard wants to know the topic, and it has to be one of them.
        ("mqtt/u/+", Message(body=Data(b"x")).encode()),
        ("mqtt/u/+", Message(properties=Properties(subject="v/w"), body=Data(b"x")).encode()),
    ):
        sent = client.sender(address).send(payload)
        scene.run()
        assert isinstance(sent.state, Rejected)
    assert subscriber.messages == []
    client.sender("mqtt/u/+").send(Message(properties=Properties(subject="u/w"), body=Data(b"x")).encode())
    client.sender("mqtt/u/+").send(Message(properties=Properties(to="mqtt/u/x"), body=Data(b"x")).encode())
    scene.run()
    assert [message.topic for message in subscriber.messages] == ["u/w", "u/x"]


def test_a_large_amqp_message() -> None:
    scene = Scene()
    subscriber = scene.peer("s")
    subscriber.subscribe("t", 1)
    client = scene.nodes[0].client()
    sender = client.sender("mqtt/t")
    fits = sender.send(Message(body=Data(bytes(900_000))).encode())
    scene.run()
    assert fits.state == ACCEPTED
    assert len(subscriber.payloads[0]) == 900_000
    # One that is sent as a stream, and one that is larger than what is taken.
    large = sender.send(Message(body=Data(bytes(3_000_000))).encode())
    scene.run()
    assert isinstance(large.state, Rejected)
    half = sender.begin(Message(body=Data(bytes(500_000))).encode()[:400_000])
    scene.run()
    half.abort()
    scene.run()
    assert len(subscriber.messages) == 1
    small = sender.send(Message(body=Data(b"x")).encode())
    scene.run()
    assert small.state == ACCEPTED
    client.close()
    scene.close()


# --- AMQP senders and filters with wildcards


def test_amqp_messages_reach_filters_with_wildcards(scene: Scene) -> None:
    """At the router that the sender is connected to there has to be a service: here each has one."""
    literal = scene.peer("l")
    wild = scene.peer("w")
    shared = scene.peer("s", at=-1)
    client = scene.nodes[-1].client()
    sender = client.sender("mqtt/a/b")
    assert sender.credit == 0
    for peer, topic_filter in ((literal, "a/b"), (wild, "a/+"), (shared, "$share/g/a/#")):
        assert peer.subscribe(topic_filter, 1) == 1
    wild.subscribe("other/+", 1)
    scene.settle()
    receiver = scene.nodes[0].client().receiver("mqtt/#", credit=10)
    scene.settle()
    unsettled = sender.send(
        Message(properties=Properties(subject="hello", message_id="m"), body=Data(b"1")).encode()
    )
    sender.send(Message(body=Data(b"2")).encode(), settled=True)
    scene.settle()
    assert unsettled.state == ACCEPTED
    for peer in (literal, wild, shared):
        # Messages of QoS 0 may overtake others.
        assert sorted((message.topic, message.payload, message.qos) for message in peer.messages) == [
            ("a/b", b"1", 1),
            ("a/b", b"2", 0),
        ]
    messages = [Message.decode(body) for body in receiver.bodies]
    assert [message.message_annotations for message in messages] == [{Symbol("x-opt-mqtt-topic"): "a/b"}] * 2
    assert Properties(to="mqtt/#", subject="hello", message_id="m") in [message.properties for message in messages]
    # What MQTT clients publish to the same topic is not passed on twice.
    publisher = scene.peer("p", at=-1)
    publisher.publish("a/b", b"3", qos=1)
    scene.settle()
    assert publisher.last(Puback).reason == r.SUCCESS
    assert [peer.payloads[2:] for peer in (literal, wild, shared)] == [[b"3"]] * 3
    assert len(receiver.bodies) == 3


def test_an_amqp_sender_waits_until_there_is_a_filter() -> None:
    scene = Scene()
    client = scene.nodes[0].client()
    sender = client.sender("mqtt/a/b")
    early = sender.send(Message(body=Data(b"1")).encode())
    scene.run()
    assert early.state is None
    subscriber = scene.peer("s")
    subscriber.subscribe("a/+", 1)
    scene.run()
    assert early.state == ACCEPTED
    subscriber.unsubscribe("a/+")
    scene.run()
    late = sender.send(Message(body=Data(b"2")).encode())
    scene.run()
    assert late.state is None or late.state == RELEASED
    assert subscriber.payloads == [b"1"]
    client.close()
    scene.close()


def test_outcomes_of_filters_are_the_senders() -> None:
    scene = Scene()
    client = scene.nodes[0].client()
    receiver = scene.nodes[0].client().receiver("mqtt/a/#", credit=10, auto=False)
    sender = client.sender("mqtt/a/b")
    for number, outcome in enumerate((ACCEPTED, RELEASED, Rejected(), Modified(delivery_failed=True))):
        sent = sender.send(Message(body=Data(b"x")).encode())
        scene.run()
        receiver.deliveries[number].settle(outcome)
        scene.run()
        assert type(sent.state) is type(outcome)
    assert len(receiver.deliveries) == 4
    # What is no message cannot be given a topic.
    sent = sender.send(b"\x00")
    scene.run()
    assert isinstance(sent.state, Rejected)
    large = sender.send(Message(body=Data(bytes(2_000_000))).encode())
    scene.run()
    assert isinstance(large.state, Rejected)
