"""A connection of an application, from Open to its end, as the router's log and the peer see it."""

from __future__ import annotations

import pytest

from tests.routing.network import Network, Sender
from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.amqp.connection import Connection
from van.amqp.delivery_state import RELEASED, Modified
from van.amqp.errors import AmqpError, AmqpLinkError, ErrorCondition
from van.amqp.performatives import Attach
from van.amqp.terminus import Source, Target
from van.amqp.types import Described, ULong


def logged(network: Network, event: str) -> dict[str, object]:
    (fields,) = [fields for _, name, fields in network.logged if name == event]
    return fields


def test_who_came_and_what_was_exchanged() -> None:
    network = Network()
    client = network.client("somebody")
    sender, _ = client.sender("q"), client.receiver("q", credit=10)
    for _ in range(3):
        sender.send(b"x")
    network.run()
    assert logged(network, "connection opened")["container_id"] == "somebody"
    client.close()
    client.cut()
    closed = logged(network, "connection closed")
    assert (closed["by"], closed["deliveries_in"], closed["deliveries_out"]) == ("peer", 3, 3)
    assert closed["reason"] == "closed"


def test_a_connection_that_is_cut() -> None:
    network = Network()
    client = network.client()
    client.cut()
    client.adaptor.connection_lost(0.0)  # once is enough
    assert logged(network, "connection closed")["by"] == "peer"


def test_a_connection_that_ends_before_open() -> None:
    network = Network()
    adaptor = AmqpAdaptor(network.router, ConnectionSettings(), log=network.log)
    adaptor.connection_lost(1.0)
    assert logged(network, "connection failed")["reason"] == "the stream ended before open"


def test_closed_from_here() -> None:
    network = Network()
    sender = network.client().sender("q")
    client = network.client()
    client.receiver("q", credit=1)
    sent = [sender.send(b"x"), sender.send(b"y")]
    client.reading = False
    network.run()
    client.adaptor.close(ErrorCondition.CONNECTION_FORCED, "enough")
    client.adaptor.close(ErrorCondition.CONNECTION_FORCED, "really")
    network.run()
    # Others' deliveries are theirs again at once, whether the peer answers or not.
    assert [one.state for one in sent] == [Modified(delivery_failed=True), RELEASED]
    client.reading = True
    network.run()
    assert client.closed is not None
    assert (client.closed.condition, client.closed.description) == (ErrorCondition.CONNECTION_FORCED, "enough")
    assert client.adaptor.closed
    client.cut()
    closed = logged(network, "connection closed")
    assert (closed["by"], closed["reason"]) == ("us", "amqp:connection:forced: enough")


def test_a_peer_that_does_not_answer_our_close() -> None:
    network = Network()
    client = network.client()
    client.adaptor.close(ErrorCondition.CONNECTION_FORCED, "enough")
    client.writing = False
    network.advance(10)
    assert client.adaptor.closed


def test_a_silent_peer() -> None:
    network = Network()
    client = network.client(settings=ConnectionSettings(idle_timeout=16.0))
    receiver = network.client().receiver("q", credit=1)
    client.sender("q").begin(b"x" * 300_000)
    network.run()
    client.writing = False
    network.advance(20)
    assert receiver.deliveries[0].aborted
    assert client.closed is not None
    assert client.closed.condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED


def test_a_peer_that_only_sends_heartbeats() -> None:
    network = Network()
    client = network.client(settings=ConnectionSettings(idle_timeout=16.0))
    for _ in range(30):
        network.advance(4)
        client.connection.handle_deadline(network.now)
        network.run()
    assert client.closed is None


def test_the_failover_list() -> None:
    network = Network()
    failover: list[object] = [{"network-host": "other", "port": "5672"}]
    client = network.client(settings=ConnectionSettings(idle_timeout=0.0, failover=failover))
    opened = client.connection.remote_open
    assert opened is not None
    assert opened.properties is not None
    assert opened.properties["failover-server-list"] == failover
    assert opened.properties["product"] == "van"
    assert opened.container_id == "R1"
    assert opened.offered_capabilities == ["ANONYMOUS-RELAY"]


def test_a_connection_that_we_made() -> None:
    network = Network()
    adaptor = AmqpAdaptor(
        network.router, ConnectionSettings(idle_timeout=0.0), accepting=False, hostname="there", log=network.log
    )
    peer = Connection("there", accepting=True)
    for _ in range(3):
        peer.receive_data(b"".join(adaptor.data_to_send(65536)), 0.0)
        peer.open()
        adaptor.receive_data(b"".join(peer.data_to_send(65536)), 0.0)
    assert adaptor.opened
    assert peer.remote_open is not None
    assert peer.remote_open.hostname == "there"
    session = peer.session()
    session.begin()
    adaptor.receive_data(b"".join(peer.data_to_send(65536)), 0.0)
    peer.receive_data(b"".join(adaptor.data_to_send(65536)), 0.0)
    assert session.remote_begun
    # An answer to something of ours is no news.
    ours = adaptor.connection.session()
    ours.begin()
    ours.receiver("x").attach(Attach(name="x", handle=0, role=True, source=Source(address="a"), target=Target()))
    events = peer.receive_data(b"".join(adaptor.data_to_send(65536)), 0.0)
    for event in events:
        link = getattr(event, "link", None)
        if link is None:
            event.session.begin()  # type: ignore[attr-defined]
        else:
            link.attach(Attach(name="x", handle=0, role=False, source=Source(address="a"), target=Target()))
    adaptor.receive_data(b"".join(peer.data_to_send(65536)), 0.0)
    assert not adaptor.links


@pytest.mark.parametrize(
    ("role", "terminus", "condition"),
    [
        (False, Described(ULong(0x4711), []), ErrorCondition.NOT_IMPLEMENTED),
        (True, None, ErrorCondition.INVALID_FIELD),
    ],
)
def test_termini_that_are_none(role: bool, terminus: object, condition: str) -> None:
    network = Network()
    client = network.client()
    link = client.session.receiver("x") if role else client.session.sender("x")
    attach = Attach(name="x", handle=0, role=role, source=Source(), target=Target(), initial_delivery_count=0)
    if role:
        attach.source = terminus  # type: ignore[assignment]
    else:
        attach.target = terminus  # type: ignore[assignment]
    link.attach(attach)
    network.run()
    assert client.errors[link].condition == condition
    assert client.closed is None


def test_why_a_peer_detached() -> None:
    network = Network()
    sender = network.client().sender("q")
    sender.link.detach(AmqpLinkError(ErrorCondition.INTERNAL_ERROR, "my fault"))
    network.run()
    assert logged(network, "link detached")["reason"] == ErrorCondition.INTERNAL_ERROR


def test_why_a_peer_ended_its_session() -> None:
    network = Network()
    client = network.client()
    client.session.end(AmqpError(ErrorCondition.INTERNAL_ERROR, "my fault"))
    network.run()
    assert logged(network, "session ended")["reason"] == "amqp:internal-error: my fault"


@pytest.mark.parametrize("how", ["detach", "end", "close"])
def test_attached_and_gone_in_one_batch(how: str) -> None:
    network = Network()
    client = network.client()
    client.receiver("q", credit=1, run=False)
    sender = client.sender("q", run=False)
    if how == "detach":
        sender.detach()
    elif how == "end":
        client.session.end()
    else:
        client.connection.close()
    client.adaptor.receive_data(client.pull(), network.now)
    network.run()
    assert not any(isinstance(link, Sender) for link in client.adaptor.links.values())
    client.cut()
    network.assert_empty()


def test_a_session_that_ends_with_links_on_another() -> None:
    network = Network()
    client = network.client()
    other = client.new_session()
    receiver = client.receiver("q", credit=1, session=other)
    client.sender("q")
    client.session.end()
    network.run()
    assert len(client.adaptor.links) == 1
    network.client().sender("q").send(b"x")
    network.run()
    assert receiver.bodies == [b"x"]


def test_transfers_before_any_credit() -> None:
    network = Network()
    client = network.client()
    sender = client.sender("q", run=False)
    sender.link.link_credit = 5
    sender.send(b"x")
    network.run()
    assert client.closed is None
    assert not client.adaptor.links
