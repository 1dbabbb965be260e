"""Addresses that live in a broker: what auto-links bring to it and fetch from it, and what becomes of them."""

from __future__ import annotations

from math import inf

import pytest

from tests.adaptors.brokers import (
    Broker,
    EndsSessions,
    FewChannels,
    Fickle,
    LosesQueues,
    Plain,
    Slow,
    SlowAndLosing,
    SlowAndNarrow,
    auto_link,
    connect,
)
from tests.routing.network import FRAME_SIZE, Network, settle_in_pieces
from van.adaptors.amqp import ConnectionSettings
from van.adaptors.route_container import MAX_SESSIONS, SETTLE_INTERVAL, SETTLE_SECONDS
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.errors import AmqpLinkError, ErrorCondition
from van.amqp.message import AmqpValue, Message, Properties
from van.amqp.performatives import Error
from van.routing.address import AddressConfig, Distribution
from van.routing.auto_link import FIRST_PAUSE, LONGEST_PAUSE

ALL_PIECES = pytest.mark.parametrize("options", settle_in_pieces(), ids=lambda options: f"piece={options['piece']}")


def found(network: Network, event: str) -> list[dict[str, object]]:
    return [fields for _, name, fields in network.logged if name == event]


@ALL_PIECES
def test_what_is_sent_to_the_address_goes_to_the_broker(options: dict[str, int]) -> None:
    network = Network(**options)  # type: ignore[arg-type]
    link = auto_link(network, "out", "orders")
    sender = network.client().sender("orders")
    assert sender.credit == 0
    broker = connect(network)
    assert sender.credit > 0
    sent = [sender.send(b"one"), sender.send(b"x" * 100_000), sender.send(b"two", settled=True)]
    network.run()
    assert broker.taken("orders").bodies == [b"one", b"x" * 100_000, b"two"]
    assert [one.state for one in sent] == [ACCEPTED, ACCEPTED, None]
    assert (link.status, link.last_error) == ("active", "")
    network.assert_quiet()


@ALL_PIECES
def test_what_the_broker_has_goes_to_the_address(options: dict[str, int]) -> None:
    network = Network(**options)  # type: ignore[arg-type]
    auto_link(network, "in", "orders")
    broker = connect(network)
    queue = broker.given("orders")
    assert queue.credit == 0, "nobody receives"
    receiver = network.client().receiver("orders", credit=10)
    assert queue.credit > 0
    sent = [queue.send(b"one"), queue.send(b"x" * 100_000), queue.send(b"two", settled=True)]
    network.run()
    assert receiver.bodies == [b"one", b"x" * 100_000, b"two"]
    assert [one.state for one in sent] == [ACCEPTED, ACCEPTED, None]
    network.assert_quiet()


def test_no_outcome_before_the_brokers() -> None:
    network = Network()
    auto_link(network, "out", "orders")
    broker = connect(network, Slow)
    sender = network.client().sender("orders")
    sent = [sender.send(bytes([number])) for number in range(4)]
    network.run()
    assert [one.settled for one in sent] == [False] * 4
    reason = Rejected(error=Error(condition="test:full", description="no room"))
    failed = Modified(delivery_failed=True)
    for got, state in zip(broker.taken("orders").deliveries, [ACCEPTED, reason, RELEASED, failed], strict=True):
        got.settle(state)
    network.run()
    assert [one.state for one in sent] == [ACCEPTED, reason, RELEASED, failed]


def test_no_outcome_for_the_broker_before_the_receivers() -> None:
    network = Network()
    auto_link(network, "in", "orders")
    broker = connect(network)
    receiver = network.client().receiver("orders", credit=10, auto=False)
    sent = [broker.given("orders").send(bytes([number])) for number in range(3)]
    network.run()
    assert [one.settled for one in sent] == [False] * 3
    for got, state in zip(receiver.deliveries, [ACCEPTED, RELEASED, Modified(delivery_failed=True)], strict=True):
        got.settle(state)
    network.run()
    assert [one.state for one in sent] == [ACCEPTED, RELEASED, Modified(delivery_failed=True)]


def test_a_broker_that_does_not_know_modified_hears_released() -> None:
    network = Network()
    auto_link(network, "in", "orders")
    broker = connect(network, Plain)
    client = network.client()
    client.receiver("orders", credit=10, auto=False)
    sent = [broker.given("orders").send(b"x"), broker.given("orders").send(b"y" * 300_000)]
    network.run()
    client.cut()
    network.run()
    assert [one.state for one in sent] == [RELEASED, RELEASED]


def test_the_brokers_credit_bounds_what_is_under_way() -> None:
    network = Network()
    auto_link(network, "out", "orders")
    broker = connect(network, Slow)
    sender = network.client().sender("orders")
    sent = [sender.send(b"x") for _ in range(1000)]
    network.run()
    receiver = broker.taken("orders")
    assert len(receiver.deliveries) == broker.credit
    assert sender.credit == 0
    for got in receiver.deliveries:
        got.settle()
    receiver.credit(1000)
    network.run()
    for got in receiver.deliveries[broker.credit :]:
        got.settle()
    network.run()
    assert sum(one.settled for one in sent) > broker.credit


def test_nobody_receives_any_more_and_the_broker_keeps_its_messages() -> None:
    network = Network()
    auto_link(network, "in", "orders")
    broker = connect(network)
    queue = broker.given("orders")
    client = network.client()
    client.receiver("orders", credit=1, auto=False)
    sent = [queue.send(b"seen"), queue.send(b"not seen")]
    network.run()
    client.cut()
    network.run()
    assert [one.state for one in sent] == [Modified(delivery_failed=True), RELEASED]
    assert queue.credit == 0
    late = queue.send(b"late")
    network.run()
    assert late.unsettled
    assert late.delivery in queue.undelivered, "the broker has not even sent it"
    receiver = network.client().receiver("orders", credit=10)
    assert receiver.bodies == [b"late"]


def test_another_name_at_the_broker() -> None:
    network = Network()
    auto_link(network, "out", "orders", external_address="/queue/eu.orders")
    broker = connect(network)
    network.client().sender("orders").send(b"x")
    network.run()
    assert broker.taken("/queue/eu.orders").bodies == [b"x"]


def test_messages_of_the_broker_that_each_name_their_address() -> None:
    network = Network()
    auto_link(network, "in", "", external_address="outbox")
    broker = connect(network)
    receiver = network.client().receiver("orders", credit=10)
    queue = broker.given("outbox")
    known = queue.send(Message(properties=Properties(to="orders"), body=AmqpValue("x")).encode())
    unknown = queue.send(Message(properties=Properties(to="nobody"), body=AmqpValue("x")).encode())
    network.run()
    assert (known.state, unknown.state) == (ACCEPTED, RELEASED)
    assert len(receiver.deliveries) == 1


def test_found_by_the_container_id_of_the_broker() -> None:
    network = Network()
    mine = auto_link(network, "out", "orders", container_id="the-broker")
    other = auto_link(network, "out", "bills", container_id="another")
    connect(network)
    assert (mine.status, other.status) == ("active", "inactive")


def test_only_on_connections_of_its_name() -> None:
    network = Network()
    auto_link(network, "out", "orders", connection="elsewhere")
    assert connect(network).attached == []


def test_a_peer_may_attach_links_of_its_own() -> None:
    network = Network()
    auto_link(network, "out", "orders")
    broker = connect(network)
    receiver = broker.receiver("bills", credit=1)
    network.client().sender("bills").send(b"x")
    network.run()
    assert receiver.bodies == [b"x"]


# -- refusals, and what comes back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("kind", [LosesQueues, EndsSessions])
def test_a_queue_that_is_not_there(direction: str, kind: type[LosesQueues]) -> None:
    network = Network()
    lost = auto_link(network, direction, "lost")
    kept = auto_link(network, direction, "kept")
    broker = connect(network, kind)
    assert (lost.status, lost.last_error) == ("failed", "amqp:not-found: no queue 'lost'")
    assert kept.status == "active", "the other one is not disturbed"
    sender = network.client().sender("lost")
    assert sender.credit == 0
    # It is tried again with growing pauses.
    network.advance(FIRST_PAUSE)
    assert broker.attached.count("lost") == 2
    network.advance(1.9 * FIRST_PAUSE)
    assert broker.attached.count("lost") == 2
    broker.missing = frozenset()
    network.advance(0.2 * FIRST_PAUSE)
    assert broker.attached.count("lost") == 3
    assert (lost.status, lost.last_error) == ("active", "")
    assert broker.attached.count("kept") == 1
    assert (sender.credit > 0) == (direction == "out")


def test_pauses_have_an_end() -> None:
    network = Network()
    auto_link(network, "out", "lost")
    broker = connect(network, LosesQueues)
    network.advance(600)
    before = len(broker.attached)
    assert before < 20
    network.advance(LONGEST_PAUSE)
    assert len(broker.attached) == before + 1


def test_a_queue_that_is_deleted_and_made_again() -> None:
    network = Network()
    link = auto_link(network, "out", "orders")
    broker = connect(network, Slow)
    sender = network.client().sender("orders")
    sent = [sender.send(b"x")]
    network.run()
    broker.taken("orders").link.detach(AmqpLinkError(ErrorCondition.RESOURCE_DELETED, "deleted"))
    network.run()
    assert sent[0].state == Modified(delivery_failed=True)
    assert (link.status, link.last_error) == ("failed", "amqp:resource-deleted: deleted")
    # The first time it is tried again at once, then as one that was refused.
    network.advance(0.0)
    assert link.status == "active"
    sender.send(b"y")
    network.run()
    assert [got.body for got in broker.taken("orders").deliveries] == [b"y"]
    broker.taken("orders").link.detach(AmqpLinkError(ErrorCondition.RESOURCE_DELETED, "deleted"))
    network.run()
    network.advance(0.9 * FIRST_PAUSE)
    assert link.status == "failed"
    network.advance(0.2 * FIRST_PAUSE)
    assert link.status == "active"


def test_a_broker_that_detaches_without_a_reason() -> None:
    network = Network()
    link = auto_link(network, "in", "orders")
    broker = connect(network)
    broker.given("orders").detach(closed=False)
    network.run()
    assert (link.status, link.last_error) == ("failed", "detached by the broker")


def test_a_broker_that_takes_every_link_and_gives_it_up_at_once() -> None:
    network = Network()
    auto_link(network, "in", "orders")
    broker = connect(network, Fickle)
    network.advance(10 * FIRST_PAUSE)
    assert 5 < len(broker.attached) < 25


def test_a_broker_that_sends_more_than_it_may() -> None:
    network = Network()
    greedy = auto_link(network, "in", "orders")
    other = auto_link(network, "in", "bills")
    broker = connect(network)
    client = network.client()
    receiver = client.receiver("orders", credit=1, auto=False)
    bills = client.receiver("bills", credit=10)
    queue = broker.given("orders")
    queue.link.link_credit += 10_000
    sent = [queue.send(b"x") for _ in range(2000)]
    network.run()
    error = "amqp:link:transfer-limit-exceeded: link 'qdlink.000000000000001' has no credit"
    assert (greedy.status, greedy.last_error) == ("failed", error)
    assert not any(one.settled for one in sent)
    assert [got.body for got in receiver.deliveries] == [b"x"]
    broker.given("bills").send(b"y")
    network.run()
    assert (other.status, bills.bodies) == ("active", [b"y"])
    network.advance(FIRST_PAUSE)
    assert greedy.status == "active"


def test_a_message_of_the_broker_that_is_too_large() -> None:
    network = Network()
    link = auto_link(network, "in", "orders")
    settings = ConnectionSettings(idle_timeout=0.0, max_frame_size=FRAME_SIZE, max_message_size=100_000)
    broker = connect(network, settings=settings)
    receiver = network.client().receiver("orders", credit=10)
    remote = broker.given("orders").link.remote
    assert remote is not None
    assert remote.max_message_size == 100_000
    # Brokers that look at it keep such a message; this one does not.
    broker.given("orders").link.max_message_size = 1_000_000
    broker.given("orders").send(b"x" * 200_000)
    network.run()
    assert (link.status, receiver.bodies) == ("failed", [])
    assert link.last_error.startswith("amqp:link:message-size-exceeded")


def test_an_address_that_may_not_be_used_here() -> None:
    network = Network(addresses={"secret": "unavailable"})
    link = auto_link(network, "in", "secret")
    broker = connect(network)
    assert broker.attached == []
    assert link.status == "failed"
    assert "unavailable" in link.last_error
    assert not network.router.addresses


def test_the_connection_is_lost() -> None:
    network = Network()
    out, back = auto_link(network, "out", "orders"), auto_link(network, "in", "bills")
    broker = connect(network, Slow)
    sender = network.client().sender("orders")
    sent = sender.send(b"x")
    network.run()
    broker.cut()
    network.run()
    assert sent.state == Modified(delivery_failed=True)
    assert (out.status, back.status) == ("inactive", "inactive")
    assert out.ends == {}
    broker = connect(network)
    sender.send(b"y")
    network.run()
    assert broker.taken("orders").bodies == [b"y"]


def test_closed_while_a_queue_is_missing() -> None:
    network = Network()
    link = auto_link(network, "out", "lost")
    broker = connect(network, LosesQueues)
    broker.adaptor.close(ErrorCondition.CONNECTION_FORCED, "enough")
    network.run()
    assert link.status == "inactive"
    network.advance(LONGEST_PAUSE)
    assert broker.attached == ["lost"]


def test_several_brokers_share_an_address() -> None:
    network = Network()
    link = auto_link(network, "out", "orders")
    brokers = [connect(network, name=f"broker-{number}") for number in range(2)]
    sender = network.client().sender("orders")
    for number in range(10):
        sender.send(bytes([number]))
        network.run()
    assert [len(broker.taken("orders").bodies) for broker in brokers] == [5, 5]
    brokers[0].cut()
    sender.send(b"more")
    network.run()
    assert brokers[1].taken("orders").bodies[-1] == b"more"
    assert link.status == "active"


def test_how_it_fares_where_it_fares_best() -> None:
    network = Network()
    link = auto_link(network, "out", "lost")
    connect(network, LosesQueues, name="without")
    assert link.status == "failed"
    connect(network, name="with")
    assert (link.status, link.last_error) == ("active", "amqp:not-found: no queue 'lost'")


# -- auto-links that come and go ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_time", [True, False])
def test_made_and_taken_away_while_the_broker_is_there(in_time: bool) -> None:
    network = Network()
    broker = connect(network, SlowAndNarrow)
    sender = network.client().sender("orders")
    link = auto_link(network, "out", "orders")
    network.run()
    assert link.status == "active"
    sent = [sender.send(b"x"), sender.send(b"y")]
    network.run()
    network.router.auto_links.remove(link)
    network.router.auto_links.remove(link)  # once is enough
    network.run()
    assert link.status == "inactive"
    assert (sent[0].state, sent[1].state) == (None, RELEASED), "what was not sent yet is its sender's again"
    assert sender.send(b"z").unsettled
    taken = broker.taken("orders")
    if in_time:
        network.advance(0.9 * SETTLE_SECONDS)
        assert not taken.link.detach_received
        taken.deliveries[0].settle()
        network.advance(2 * SETTLE_INTERVAL)
    else:
        network.advance(SETTLE_SECONDS + SETTLE_INTERVAL)
    assert sent[0].state == (ACCEPTED if in_time else Modified(delivery_failed=True))
    assert taken.link.detach_received
    assert [got.body for got in taken.deliveries] == [b"x"]


@pytest.mark.parametrize("in_time", [True, False])
def test_what_a_broker_has_given_is_settled_before_its_link_goes(in_time: bool) -> None:
    network = Network()
    broker = connect(network)
    receiver = network.client().receiver("orders", credit=10, auto=False)
    link = auto_link(network, "in", "orders")
    network.run()
    queue = broker.given("orders")
    sent = queue.send(b"x")
    network.run()
    network.router.auto_links.remove(link)
    network.client().receiver("orders", credit=10)
    assert queue.credit == 0
    if in_time:
        network.advance(1.0)
        assert not queue.link.detach_received
        receiver.deliveries[0].settle()
        network.run()
        assert sent.state == ACCEPTED
    network.advance(SETTLE_SECONDS + SETTLE_INTERVAL)
    assert queue.link.detach_received
    assert in_time or sent.unsettled, "it is the broker's again"


def test_a_broker_that_detaches_what_is_about_to_go() -> None:
    network = Network()
    broker = connect(network, Slow)
    sender = network.client().sender("orders")
    link = auto_link(network, "out", "orders")
    network.run()
    sent = sender.send(b"x")
    network.run()
    network.router.auto_links.remove(link)
    broker.taken("orders").detach()
    network.advance(LONGEST_PAUSE)
    assert sent.state == Modified(delivery_failed=True)
    assert broker.attached == ["orders"]


def test_cut_while_one_is_about_to_go() -> None:
    network = Network()
    broker = connect(network, Slow)
    sender = network.client().sender("orders")
    link = auto_link(network, "out", "orders")
    network.run()
    sender.send(b"x")
    network.run()
    network.router.auto_links.remove(link)
    broker.cut()
    assert broker.adaptor.next_deadline() == inf


def test_taken_away_before_it_could_be_attached() -> None:
    network = Network()
    link = auto_link(network, "out", "lost")
    broker = connect(network, LosesQueues)
    network.router.auto_links.remove(link)
    network.advance(LONGEST_PAUSE)
    assert broker.attached == ["lost"]


def test_taken_away_before_the_broker_has_answered() -> None:
    network = Network()
    broker = connect(network)
    broker.writing = False
    link = auto_link(network, "out", "orders")
    network.run()
    assert link.status == "attaching"
    network.router.auto_links.remove(link)
    network.run()
    broker.writing = True
    network.run()
    assert not network.router.addresses
    assert broker.taken("orders").link.detach_received


def test_two_of_one_name() -> None:
    network = Network()
    auto_link(network, "out", "orders")
    with pytest.raises(ValueError, match="there is an auto-link 'out-orders' already"):
        auto_link(network, "out", "orders")


def test_more_than_the_broker_takes_sessions_for() -> None:
    network = Network()
    links = [auto_link(network, "out", f"queue-{number}") for number in range(300)]
    broker = connect(network)
    assert {link.status for link in links} == {"active"}
    sessions = {broker.taken(f"queue-{number}").link.session for number in range(300)}
    assert len(sessions) == MAX_SESSIONS


def test_a_broker_that_has_few_channels() -> None:
    network = Network()
    for number in range(3):
        auto_link(network, "out", f"queue-{number}")
        auto_link(network, "in", f"back-{number}")
    broker = connect(network, FewChannels)
    assert {link.status for link in network.router.auto_links.all()} == {"active"}
    receiver = network.client().receiver("back-2", credit=10)
    large = b"x" * 1_000_000
    sent = broker.given("back-2").send(large)
    network.run()
    assert (receiver.bodies, sent.state) == ([large], ACCEPTED)


def test_no_memory_for_a_session() -> None:
    network = Network()
    broker = connect(network)
    enough = network.router.budget.limit
    network.router.budget.limit = 1
    link = auto_link(network, "in", "orders")
    assert (link.status, link.last_error[:30]) == ("failed", "amqp:resource-limit-exceeded: ")
    network.router.budget.limit = enough
    network.advance(FIRST_PAUSE)
    assert (link.status, broker.attached) == ("active", ["orders"])


def test_an_address_that_was_taken_away_meanwhile() -> None:
    network = Network()
    broker = connect(network)
    broker.writing = False
    link = auto_link(network, "out", "orders")
    network.run()
    network.router.patterns.add(AddressConfig("orders", Distribution.UNAVAILABLE))
    broker.writing = True
    network.run()
    assert link.status == "failed"
    assert "unavailable" in link.last_error
    assert broker.taken("orders").link.detach_received


def test_the_router_ends() -> None:
    network = Network()
    auto_link(network, "out", "orders")
    auto_link(network, "in", "bills")
    auto_link(network, "in", "lost")
    broker = connect(network, SlowAndLosing)
    client = network.client()
    client.receiver("bills", credit=1, auto=False)
    sent = client.sender("orders").send(b"x")
    given = broker.given("bills").send(b"y")
    network.run()
    network.router.ending = True
    broker.adaptor.hold_back()
    network.run()
    assert broker.given("bills").credit == 0
    assert broker.adaptor.unsettled() == 1
    broker.adaptor.give_back()
    client.adaptor.give_back()
    network.advance(LONGEST_PAUSE)
    assert (sent.state, given.state) == (Modified(delivery_failed=True),) * 2
    assert broker.attached.count("lost") == 1


def test_nothing_is_left_when_all_have_gone() -> None:
    network = Network(waypoints=["orders"], addresses={"orders": "balanced"})
    auto_link(network, "out", "orders")
    auto_link(network, "in", "orders")
    broker, client = connect(network), network.client()
    sender, _ = client.sender("orders"), client.receiver("orders", credit=10)
    for _ in range(5):
        sender.send(b"x")
    network.run()
    broker.given("orders").send(b"x")
    network.run()
    network.assert_quiet()
    client.cut()
    broker.cut()
    network.assert_empty()


# -- waypoints ---------------------------------------------------------------------------------------------------------


def waypoint() -> tuple[Network, Broker]:
    network = Network(waypoints=["orders/#"], addresses={"orders/#": "balanced", "bills": "multicast"})
    auto_link(network, "out", "orders/eu")
    auto_link(network, "in", "orders/eu")
    return network, connect(network)


def test_one_address_for_both_sides_of_a_queue() -> None:
    network, broker = waypoint()
    client = network.client()
    receiver = client.receiver("orders/eu", credit=10)
    sent = client.sender("orders/eu").send(b"x")
    network.run()
    assert (broker.taken("orders/eu").bodies, receiver.bodies) == ([b"x"], [])
    assert sent.state == ACCEPTED, "the broker has it"
    given = broker.given("orders/eu").send(b"x")
    network.run()
    assert (broker.taken("orders/eu").bodies, receiver.bodies) == ([b"x"], [b"x"])
    assert given.state == ACCEPTED, "the receiver has it"
    assert set(network.router.addresses) == {"Morders/eu", "M_waypoint/orders/eu"}


def test_a_waypoint_without_its_broker() -> None:
    network, broker = waypoint()
    client = network.client()
    receiver, sender = client.receiver("orders/eu", credit=10), client.sender("orders/eu")
    broker.cut()
    network.run()
    late = client.sender("orders/eu")
    assert late.credit == 0, "what is sent waits for the broker, receivers or not"
    sender.send(b"x")
    network.run()
    assert receiver.bodies == []


def test_an_anonymous_sender_to_a_waypoint() -> None:
    network, broker = waypoint()
    network.client().receiver("orders/eu", credit=10)
    body = Message(properties=Properties(to="orders/eu"), body=AmqpValue("x")).encode()
    network.client().sender(None).send(body)
    network.run()
    assert broker.taken("orders/eu").bodies == [body]


def test_what_is_behind_a_waypoint_has_a_name_of_its_own() -> None:
    network, broker = waypoint()
    receiver = network.client().receiver("_waypoint/orders/eu", credit=10)
    broker.given("orders/eu").send(b"x")
    network.run()
    assert receiver.bodies == [b"x"]
    assert network.router.addresses["M_waypoint/orders/eu"].distribution.value == "balanced"


def test_other_addresses_are_no_waypoints() -> None:
    network, _ = waypoint()
    receivers = [network.client().receiver("bills", credit=10) for _ in range(2)]
    network.client().sender("bills").send(b"x")
    network.run()
    assert [receiver.bodies for receiver in receivers] == [[b"x"], [b"x"]]
