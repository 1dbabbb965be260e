"""What one connection may have, and how it hears that it has enough: links, handles, sessions."""

from __future__ import annotations

from tests.amqp.peer import begin, open_, receiving, sending, transfer
from tests.routing.network import Network
from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.amqp.connection import MAX_PENDING_CONTROL
from van.amqp.errors import ErrorCondition
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Detach
from van.amqp.terminus import Target
from van.routing.router import Router


def test_so_many_links_and_no_more() -> None:
    network = Network()
    client = network.client(settings=ConnectionSettings(max_links=4))
    other = client.new_session()
    links = [client.sender("q", session=session) for session in (client.session, other) for _ in range(2)]
    assert all(link.error is None for link in links)
    refused = client.receiver("q", session=other)
    assert refused.error is not None
    assert refused.error.condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
    links[0].detach()
    network.run()
    assert client.receiver("q", session=other).error is None
    assert client.closed is None


def test_a_peer_that_leaves_no_handle_for_the_answer() -> None:
    network = Network()
    client = network.client(handle_max=1)
    for _ in range(3):
        client.sender("q")
    network.run()
    assert client.errors[client.session].condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
    assert not network.router.addresses
    assert client.closed is None
    assert ("warning", "session ended") in [line[:2] for line in network.logged]


def test_a_peer_that_leaves_no_handle_for_a_refusal() -> None:
    network = Network(addresses={"closed": "unavailable"})
    client = network.client(handle_max=0)
    client.sender("q")
    client.sender("closed")
    network.run()
    assert client.errors[client.session].condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED


def test_a_peer_that_leaves_no_channel_for_the_answer() -> None:
    network = Network()
    client = network.client(channel_max=0)
    client.connection.remote_channel_max = 10
    client.connection.channel_max = 10  # it told us 0, and begins another all the same
    client.new_session()
    network.run()
    assert client.closed is not None
    assert client.closed.condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED


def test_more_sessions_than_the_listener_allows() -> None:
    network = Network()
    client = network.client(settings=ConnectionSettings(max_sessions=2))
    client.new_session()
    network.run()
    assert len(client.adaptor.connection.begun_sessions()) == 2
    client.connection.remote_channel_max = 10
    client.new_session()
    network.run()
    assert client.closed is not None
    assert client.closed.condition == ErrorCondition.FRAMING_ERROR


def test_what_a_peer_never_reads_counts_whatever_it_is() -> None:
    router = Router("r", tokens=lambda: "t")
    adaptor = AmqpAdaptor(router, ConnectionSettings())
    peer = [open_(), begin(), sending(target=Target())]
    adaptor.receive_data(AMQP_HEADER + b"".join(encode_frame(0, body.encode()) for body in peer), 0.0)
    adaptor.data_to_send(1 << 20)
    asked = 0
    number = 0
    while not adaptor.closed:
        # Each of these is rejected with an error of its own: no address.
        frames = []
        for _ in range(7):
            body, payload = transfer(number, delivery_tag=b"t")
            frames.append(encode_frame(0, body.encode() + payload))
            number += 1
        frames += [encode_frame(0, receiving(handle=1).encode()), encode_frame(0, Detach(handle=1).encode())]
        asked += sum(map(len, frames))
        adaptor.receive_data(b"".join(frames), 0.0)
        assert asked < MAX_PENDING_CONTROL
    assert "unread" in adaptor.reason
