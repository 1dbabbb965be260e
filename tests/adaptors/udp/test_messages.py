"""Datagrams as messages, and AMQP applications that take part."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.adaptors.udp.scene import Scene
from tests.routing.test_endpoint import App
from van.adaptors.udp.flows import is_temporary
from van.adaptors.udp.message import MAX_FLOW_ID, TAKEN, body, head, notice, read, split
from van.amqp.delivery_state import ACCEPTED, RELEASED, Rejected
from van.amqp.errors import DecodeError
from van.amqp.message import AmqpSequence, AmqpValue, Data, Message, Properties
from van.amqp.types import ULong


@given(st.binary(max_size=70000), st.text(max_size=40), st.text(max_size=40), st.text(max_size=200))
def test_what_is_written_is_read(datagram: bytes, to: str, reply_to: str, flow_id: str) -> None:
    before = head(to, reply_to, flow_id)
    payload = before + body(datagram)
    parts = split(payload)
    assert parts == (before, datagram) or (parts is None and len(before) > 255)
    envelope = read(payload)
    assert (envelope.reply_to, envelope.flow_id, envelope.datagram) == (reply_to, flow_id, datagram)
    message = Message.decode(payload)
    assert message.body == Data(datagram)
    assert message.properties is not None
    assert message.properties.to == to


@given(st.binary(max_size=400), st.integers(0, 500))
@example(b"", 22)
@example(b"x" * 300, 25)
def test_a_message_that_is_cut_or_followed_is_no_datagram_of_ours(datagram: bytes, cut: int) -> None:
    payload = head("a", "b", "c") + body(datagram)
    assert split(payload + b"x") is None
    if cut < len(payload):
        assert split(payload[:cut]) is None
        with suppress(DecodeError):
            read(payload[:cut])


@pytest.mark.parametrize(
    ("found", "datagram"),
    [
        (Data(b"abc"), b"abc"),
        ([Data(b"ab"), Data(b"c")], b"abc"),
        (AmqpValue(b"abc"), b"abc"),
        (AmqpValue("äbc"), "äbc".encode()),
        (AmqpValue(7), None),
        (AmqpSequence([1]), None),
        (None, None),
    ],
)
def test_octets_and_text_are_datagrams(found: object, datagram: bytes | None) -> None:
    assert read(Message(body=found).encode()).datagram == datagram  # type: ignore[arg-type]


def test_an_id_that_is_too_long_is_refused() -> None:
    with pytest.raises(DecodeError):
        read(head("a", "b", "x" * (MAX_FLOW_ID + 1)) + body(b""))


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("amqp:/_topo/0/A/temp.abc", True),
        ("_topo/0/A/temp.abc", True),
        ("amqp:/_edge/E/temp.abc", True),
        ("amqp:/_$temp.abc", True),
        ("", False),
        ("orders", False),
        ("_topo/0/A/$management", False),
        ("_local/$management", False),
        ("$management", False),
        ("temp.abc", False),
    ],
)
def test_a_flow_goes_to_temporary_addresses_only(text: str, yes: bool) -> None:
    assert is_temporary(text) is yes


# --- applications


class Application(Scene):
    """The connector is gone; an AMQP application has the address in its place."""

    def __init__(self) -> None:
        super().__init__(2)
        self.out.service.stop()
        self.ends.remove(self.out)
        self.app = App(self.nodes[1].router, "app")
        self.receiver = self.app.session.attach_outgoing("svc", 10)
        self.sender = self.app.session.attach_incoming("", 100)
        self.settle()

    def finish(self) -> None:
        self.app.session.close()
        self.close()

    def take(self) -> list[bytes | None]:
        """Accept what has come; what it was."""
        found = []
        for delivery in self.app.taken:
            found.append(read(delivery.payload).datagram)
            if not delivery.settled:
                self.receiver.settle(delivery, ACCEPTED)
        self.app.taken.clear()
        self.run()
        return found


def test_an_application_has_the_datagrams_one_by_one() -> None:
    scene = Application()
    scene.listener.send("anna", b"1", b"2", b"3")
    scene.run()
    assert scene.take() == [b"1"]
    assert scene.take() == [b"2", b"3"]
    scene.listener.send("anna", b"4")
    scene.run()
    assert scene.take() == [b"4"]
    scene.finish()


def test_an_application_answers() -> None:
    scene = Application()
    scene.listener.send("anna", b"ping")
    scene.run()
    asked = Message.decode(scene.app.taken[0].payload).properties
    assert asked is not None
    properties = Properties(to=asked.reply_to, correlation_id=asked.correlation_id)
    for answer in (Data(b"pong"), AmqpValue("pong"), AmqpValue(7)):
        scene.sender.send(Message(properties=properties, body=answer).encode())
    for other in ("other", None):
        properties = Properties(to=asked.reply_to, correlation_id=other)
        scene.sender.send(Message(properties=properties, body=Data(b"")).encode())
    scene.run()
    assert scene.listener.received == [("anna", b"pong")] * 2
    assert scene.listener.losses() == {"not a datagram": 1, "no such flow": 2}
    scene.take()
    scene.finish()


def test_an_application_cannot_have_a_flow_sent_to_a_routers_node() -> None:
    scene = Application()
    scene.listener.send("anna", b"1")
    scene.run()
    asked = Message.decode(scene.app.taken[0].payload).properties
    assert asked is not None
    assert isinstance(asked.reply_to, str)
    scene.take()
    scene.sender.send(notice(TAKEN, asked.reply_to, "$management", asked.correlation_id), True)
    scene.run()
    scene.listener.send("anna", b"2")
    scene.run()
    assert scene.take() == [b"2"]
    scene.finish()


def test_a_receiver_that_takes_and_never_says_so_is_not_waited_for() -> None:
    scene = Application()
    scene.listener.send("anna", b"1", b"2")
    scene.run()
    assert len(scene.app.taken) == 1
    scene.advance(5.1)
    assert len(scene.app.taken) == 2
    scene.take()
    scene.finish()


def test_a_receiver_that_releases_gets_the_next_one() -> None:
    scene = Application()
    scene.listener.send("anna", b"1", b"2")
    scene.run()
    scene.receiver.settle(scene.app.taken.pop(), RELEASED)
    scene.run()
    assert scene.take() == [b"2"]
    assert scene.listener.losses() == {"refused": 1}
    scene.finish()


def test_applications_send_to_a_server_and_have_its_answers() -> None:
    scene = Scene(2)
    app = App(scene.nodes[0].router, "app")
    sender = app.session.attach_incoming("svc", 10)
    inbox = app.session.attach_outgoing("", 10)
    scene.settle()
    properties = Properties(message_id=ULong(7), reply_to=inbox.address)
    sender.send(Message(properties=properties, body=Data(b"ping")).encode())
    sender.send(Message(body=AmqpValue("no answer wanted")).encode(), True)
    sender.send(Message(body=AmqpValue({"no": "datagram"})).encode())
    sender.send(Message(properties=Properties(reply_to="$management"), body=Data(b"orders")).encode())
    scene.run()
    assert scene.out.all() == [b"ping", b"no answer wanted", b"orders"]
    assert scene.out.losses() == {"not a datagram": 1, "no address for answers": 2}
    assert {type(state) for state in app.states} == {type(ACCEPTED), Rejected}
    answers = [Message.decode(delivery.payload) for delivery in app.taken]
    for delivery in app.taken:
        inbox.settle(delivery, ACCEPTED)
    told = [(answer.body, answer.properties.correlation_id) for answer in answers if answer.properties is not None]
    assert (Data(b"ping"), 7) in told
    app.session.close()
    scene.close()
