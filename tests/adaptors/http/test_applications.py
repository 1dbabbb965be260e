"""Applications of AMQP that serve HTTP, or ask: clients and servers of HTTP/1.1 at the other end notice nothing."""

from __future__ import annotations

import pytest

from tests.adaptors.http.http1_ends import Scene
from tests.adaptors.http.test_http1 import GET, OK, body_of, exchange
from van.adaptors.http.mapping import data_section
from van.adaptors.stream_window import WINDOW
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.errors import ErrorCondition
from van.amqp.message import AmqpValue, Data, Message, Properties
from van.amqp.performatives import Error
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointSession

POST = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
REASON: dict[str, object] = {"x-opt-van-reason": "it broke"}


class Application(Adaptor):
    """An application, with a link that requests come by or go by, and one for the answers."""

    def __init__(self, scene: Scene, *, serves: bool) -> None:
        super().__init__()
        self.scene = scene
        self.session = EndpointSession(scene.nodes[-1 if serves else 0].router, self, "application")
        if serves:
            scene.server.stop()
            scene.network.advance(2)
            self.receiver = self.session.attach_outgoing("web", 100)
            self.sender = self.session.attach_incoming("", 100)
        else:
            self.receiver = self.session.attach_outgoing("", 100)
            self.sender = self.session.attach_incoming("web", 250)
        scene.network.advance(2)

    def take(self) -> tuple[Delivery, Message]:
        """The next message, whole."""
        self.scene.network.run()
        delivery = self.receiver.take()
        assert delivery is not None
        return delivery, Message.decode(delivery.data())

    def answer(self, request: Message, body: bytes | str, status: str = "200", fields: str = "") -> None:
        asked = request.properties
        assert asked is not None
        properties = Properties(to=asked.reply_to, correlation_id=asked.correlation_id, subject=status)
        content = AmqpValue(body) if isinstance(body, str) else Data(body)
        message = Message(properties=properties, application_properties={"http:fields": fields}, body=content)
        self.sender.send(message.encode())
        self.scene.network.run()

    def ask(self, method: str | None = None, body: bytes = b"", **named: object) -> Delivery:
        application_properties = {name.replace("_", ":"): value for name, value in named.items()}
        properties = Properties(subject=method, reply_to=self.receiver.address, correlation_id="mine")
        message = Message(properties=properties, application_properties=application_properties, body=Data(body))
        delivery = self.sender.send(message.encode())
        self.scene.network.run()
        return delivery

    def leave(self) -> None:
        """End, and see that nothing is left behind."""
        self.session.close()
        self.scene.network.advance(2)
        self.scene.close()


@pytest.fixture(params=[1, 3])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


def test_an_application_serves(scene: Scene) -> None:
    application = Application(scene, serves=True)
    client = scene.client()
    for body in (b"octets", "text"):
        client.say(POST)
        delivery, request = application.take()
        assert request.properties is not None
        assert request.properties.subject == "POST"
        assert request.application_properties is not None
        assert request.application_properties["http:path"] == "/x"
        assert request.application_properties["http:fields"] == (
            'content-length: 3\r\nforwarded: for=192.0.2.7;proto=http;host="h"\r\n'
        )
        assert request.body == Data(b"abc")
        # It need not wait with that.
        application.receiver.settle(delivery, ACCEPTED)
        application.answer(request, body, "201", "Content-Type: text/plain\r\nConnection: close\r\n")
        answered = client.take()
        assert answered.startswith(b"HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\ncontent-length: ")
        assert body_of(answered) == (body if isinstance(body, bytes) else body.encode())
    application.leave()


@pytest.mark.parametrize(
    ("outcome", "request_", "status", "reason"),
    [
        (Rejected(), GET, 502, b"a server of web refused the request\n"),
        (Rejected(error=Error(condition=ErrorCondition.DECODE_ERROR, description="no")), GET, 400, b"no\n"),
        (Rejected(error=Error(condition=ErrorCondition.NOT_IMPLEMENTED)), GET, 501, b"amqp:not-implemented\n"),
        (Modified(delivery_failed=True), POST, 502, b"the server of web was lost\n"),
        (Modified(delivery_failed=True, message_annotations=REASON), POST, 502, b"it broke\n"),
    ],
)
def test_an_application_refuses(
    scene: Scene, outcome: object, request_: bytes, status: int, reason: bytes
) -> None:
    application = Application(scene, serves=True)
    client = scene.client()
    client.say(request_)
    delivery, _ = application.take()
    application.receiver.settle(delivery, outcome)
    scene.network.run()
    answered = client.take()
    assert answered.startswith(b"HTTP/1.1 %d " % status)
    assert body_of(answered) == reason
    application.leave()


def test_an_application_that_never_takes_a_request(scene: Scene) -> None:
    application = Application(scene, serves=True)
    client = scene.client()
    client.say(POST)
    tries = 0
    for _ in range(20):
        scene.network.advance(0.5)
        delivery = application.receiver.take()
        if delivery is not None:
            tries += 1
            application.receiver.settle(delivery, RELEASED)
    assert tries == 5
    assert body_of(client.take()) == b"no server of web took the request\n"
    application.leave()


@pytest.mark.parametrize("status", ["abc", "100"])
def test_an_answer_that_is_none(scene: Scene, status: str) -> None:
    application = Application(scene, serves=True)
    client = scene.client()
    client.say(GET)
    delivery, request = application.take()
    application.answer(request, b"", status)
    assert client.take().startswith(b"HTTP/1.1 502 ")
    application.receiver.settle(delivery, ACCEPTED)
    application.leave()


def test_a_second_answer_comes_to_nothing(scene: Scene) -> None:
    application = Application(scene, serves=True)
    client = scene.client()
    client.say(GET)
    delivery, request = application.take()
    application.receiver.settle(delivery, ACCEPTED)
    application.answer(request, b"one")
    application.answer(request, b"two")
    assert body_of(client.take()) == b"one"
    application.leave()


def test_an_answer_whose_length_is_wrong_breaks_off(scene: Scene) -> None:
    application = Application(scene, serves=True)
    for fields, expected in (("Content-Length: 9\r\n", b""), ("Content-Length: x\r\n", b"HTTP/1.1 502 ")):
        client = scene.client()
        client.say(GET)
        delivery, request = application.take()
        application.receiver.settle(delivery, ACCEPTED)
        application.answer(request, b"hello", fields=fields)
        assert client.take().endswith(b"hello") if not expected else client.take().startswith(expected)
        client.cut()
    application.leave()


def test_an_application_asks(scene: Scene) -> None:
    application = Application(scene, serves=False)
    asked = application.ask("PUT", b"abc", http_path="/p", http_authority="h", http_fields="X-One: 1\r\nTE: gzip\r\n")
    end = scene.server.end()
    assert end.take() == b"PUT /p HTTP/1.1\r\nhost: h\r\nx-one: 1\r\ncontent-length: 3\r\n\r\nabc"
    end.say(OK)
    delivery, response = application.take()
    assert response.properties is not None
    assert (response.properties.subject, response.properties.correlation_id) == ("200", "mine")
    assert response.application_properties == {"http:version": "1.1", "http:fields": "content-length: 5\r\n"}
    assert response.body == Data(b"hello")
    assert application.session.owes(asked)
    application.receiver.settle(delivery, ACCEPTED)
    scene.network.run()
    assert asked.state is ACCEPTED
    application.leave()


def test_an_application_asks_with_nothing_said(scene: Scene) -> None:
    application = Application(scene, serves=False)
    asked = application.sender.send(Message(body=Data(b"")).encode())
    end = scene.server.end()
    assert end.take() == b"GET / HTTP/1.1\r\nhost: 10.0.0.1\r\n\r\n"
    end.say(OK)
    # Nobody wants to hear of it.
    assert asked.state is ACCEPTED
    end.say(b"")
    application.leave()


@pytest.mark.parametrize(
    "named",
    [
        {"http_path": "no path"},
        {"http_fields": "X: 1\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"},
        {"http_fields": "Content-Length: 5\r\n"},
        {"http_fields": "Content-Length: 3\r\nContent-Length: 3\r\n"},
    ],
)
def test_what_is_no_request_is_rejected(scene: Scene, named: dict[str, object]) -> None:
    application = Application(scene, serves=False)
    asked = application.ask("PUT", b"abc", **named)
    scene.server.go()
    assert isinstance(asked.state, Rejected)
    assert asked.state.error is not None
    assert asked.state.error.condition == ErrorCondition.DECODE_ERROR
    assert all(end.take() == b"" for end in scene.server.ends)
    assert body_of(exchange(scene, scene.client())[1]) == b"hello"
    application.leave()


def test_an_application_sends_a_stream_and_breaks_it_off(scene: Scene) -> None:
    application = Application(scene, serves=False)
    head = Message(properties=Properties(subject="PUT", reply_to=application.receiver.address)).encode()
    application.sender.begin(head + data_section(b"one"))
    end = scene.server.end()
    assert end.take().endswith(b"\r\n3\r\none\r\n")
    application.sender.append(data_section(b"two"))
    scene.network.run()
    assert end.take() == b"3\r\ntwo\r\n"
    application.sender.abort()
    scene.network.run()
    assert end.lost
    application.leave()


def test_a_stream_that_is_no_message_is_rejected(scene: Scene) -> None:
    application = Application(scene, serves=False)
    head = Message(properties=Properties(subject="PUT", reply_to=application.receiver.address)).encode()
    for broken in (b"garbage", head + data_section(b"one") + b"garbage"):
        delivery = application.sender.begin(broken)
        scene.network.run()
        scene.server.go()
        application.sender.append(b"", more=False)
        scene.network.run()
        assert isinstance(delivery.state, Rejected)
    application.leave()


@pytest.mark.parametrize("acknowledges", [False, True])
def test_a_response_waits_for_those_who_say_how_far_they_have_read(scene: Scene, acknowledges: bool) -> None:
    application = Application(scene, serves=False)
    application.ask(http_window=acknowledges)
    end = scene.server.end()
    total = WINDOW * 3 // 2
    end.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total + b"x" * total)
    assert (end.unread > 0) is acknowledges
    delivery = application.receiver.take()
    assert delivery is not None
    stream = application.receiver.stream(delivery, application.session)
    while not stream.finished:
        assert stream.waiting()
        stream.read(100_000)
        stream.received(total)
        scene.network.run()
    stream.settle(ACCEPTED)
    scene.network.run()
    application.leave()


def test_many_requests_that_are_none_are_rejected_one_by_one(scene: Scene) -> None:
    application = Application(scene, serves=False)
    scene.server.max_connections = 1
    client = scene.client()
    client.say(GET)
    end = scene.server.end()
    asked = [application.ask("PUT", b"abc", http_fields="Content-Length: 5\r\n") for _ in range(240)]
    end.say(OK)
    assert body_of(client.take()) == b"hello"
    assert all(isinstance(each.state, Rejected) for each in asked)
    application.leave()
