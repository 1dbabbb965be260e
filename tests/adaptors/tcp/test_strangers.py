"""Messages that are none of ours, to a server's end and to a client's: refused, and told by whom and why."""

from __future__ import annotations

import pytest

from tests.adaptors.tcp.flows import ADDRESS, Flows, Socket
from van.adaptors.tcp.head import client_head, read_head, server_head
from van.amqp.delivery_state import ACCEPTED, Rejected, Released
from van.amqp.message import AmqpValue, Data, Message, Properties
from van.amqp.types import UInt
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointSession, EndpointStream

TCP = "application/octet-stream"


class Stranger(Adaptor):
    """Sends messages, and takes streams."""

    def __init__(self, scene: Flows) -> None:
        super().__init__()
        self.scene = scene
        self.node = scene.nodes[-1]
        self.session = EndpointSession(self.node.router, self, "stranger")
        self.streams: list[EndpointStream] = []
        self.states: list[object] = []
        self.on_wake = self.look

    def look(self) -> None:
        session = self.session
        session.look()
        for link in session.ready:
            while (delivery := link.take()) is not None:
                self.streams.append(link.stream(delivery, session))
        self.states += [delivery.state for delivery in session.told]
        for noted in (session.ready, session.told, session.credited, session.grown):
            noted.clear()

    def send(self, to: str, octets: bytes) -> object:
        """Send a whole message; what becomes of it."""
        self.states.clear()
        link = self.session.attach_incoming(to, 4)
        self.scene.advance(2)
        link.send(octets)
        self.scene.advance(2)
        self.session.detach(link)
        (state,) = self.states
        return state

    def close_all(self) -> None:
        self.session.close()


def message(content_type: str, version: int, body: object) -> bytes:
    properties = Properties(to="x", content_type=content_type)
    return Message(properties=properties, application_properties={"V": UInt(version)}, body=AmqpValue(body)).encode()


FOREIGN = [
    Message(properties=Properties(to="x"), body=Data(b"hello")).encode(),
    message("text/plain", 1, None),
    message(TCP, 2, None),
]
MALFORMED = [b"GET / HTTP/1.1\r\n", message(TCP, 1, "not null"), client_head("x", "y", "z")[:40]]


@pytest.mark.parametrize(("messages", "outcome"), [(FOREIGN, Released), (MALFORMED, Rejected)])
def test_what_is_no_stream_reaches_no_server(messages: list[bytes], outcome: type) -> None:
    scene = Flows(2)
    stranger = Stranger(scene)
    for octets in messages:
        assert isinstance(stranger.send(ADDRESS, octets), outcome)
    assert not scene.servers[0].sockets
    stranger.close_all()
    scene.close()


def called(scene: Flows, stranger: Stranger) -> tuple[Socket, str]:
    """A client whose stream has come to the stranger, and where its answer is expected."""
    client = scene.client()
    found = read_head(b"".join(stranger.streams[-1].read(4096)), False)
    assert found is not None
    return client, found[0].reply_to


@pytest.mark.parametrize(("messages", "outcome"), [(FOREIGN, Released), (MALFORMED, Rejected)])
def test_an_answer_that_is_no_stream_resets_the_client(messages: list[bytes], outcome: type) -> None:
    scene = Flows(2)
    scene.servers[0].service.stop()
    stranger = Stranger(scene)
    stranger.session.attach_outgoing(ADDRESS, 10)
    scene.advance(2)
    for octets in messages:
        client, reply_to = called(scene, stranger)
        assert isinstance(stranger.send(reply_to, octets), outcome)
        assert client.lost
        assert client.reset
    assert all("cannot be used" in str(line["reason"]) for line in scene.lines_of("connection came to nothing"))
    stranger.close_all()
    scene.close()


def test_a_whole_answer_and_a_second_one() -> None:
    """A short answer may have ended before it is forwarded: it comes as one message."""
    scene = Flows(2)
    scene.servers[0].service.stop()
    stranger = Stranger(scene)
    stranger.session.attach_outgoing(ADDRESS, 10)
    scene.advance(2)
    client, reply_to = called(scene, stranger)
    assert stranger.send(reply_to, server_head(reply_to) + b"short answer") == ACCEPTED
    assert client.received == b"short answer"
    assert (client.ended, client.lost) == (True, False)
    assert isinstance(stranger.send(reply_to, server_head(reply_to) + b"another"), Rejected)
    assert client.received == b"short answer"
    client.end()
    assert client.lost
    stranger.close_all()
    scene.close()
