"""READ, what changes nothing yet, what the node says about itself, and how requests and replies belong together."""

from __future__ import annotations

import uuid

import pytest

from tests.management.nodes import Managed
from van.amqp.delivery_state import ACCEPTED, RELEASED, Rejected
from van.amqp.message import AmqpSequence, AmqpValue, Data, Message, MessageId
from van.amqp.types import Symbol, ULong
from van.management.agent import MAX_REQUEST_SIZE
from van.management.entities import ENTITY_TYPES
from van.management.schema import PREFIX

MAY_BE_NONE = {"router.node", "router.config.autoLink"}

# --- READ


@pytest.mark.parametrize("key", ["name", "identity"])
@pytest.mark.parametrize("entity_type", sorted({declared.type for declared in ENTITY_TYPES} - MAY_BE_NONE))
def test_what_a_query_tells_can_be_read(entity_type: str, key: str) -> None:
    asker = Managed().asker()
    row = asker.query(entity_type).rows[0]
    if key not in row:
        return  # metrics have an identity only
    answer = asker.read(PREFIX + entity_type, **{key: row[key]})
    assert answer.status == 200
    assert answer.body["type"] == PREFIX + entity_type
    assert answer.body[key] == row[key]


def test_null_is_told_by_types_of_the_core_and_left_out_by_others() -> None:
    asker = Managed().asker()
    (connection,) = asker.query("connection").rows
    assert asker.read("connection", identity=connection["identity"]).body["meshId"] is None
    assert "vanId" not in asker.read("router", identity="router/R1").body


def test_links_can_be_read() -> None:
    asker = Managed().asker()
    for row in asker.query("router.link").rows:
        answer = asker.read("router.link", identity=row["identity"])
        assert (answer.status, answer.body["linkName"]) == (200, row["linkName"])


@pytest.mark.parametrize("entity_type", ["router.address", "router.link", "connection", "listener", ""])
def test_what_is_not_there_is_not_found(entity_type: str) -> None:
    asker = Managed().asker()
    answer = asker.read(entity_type, identity="Mxx")
    assert (answer.status, answer.description, answer.body) == (404, "No entity with identity=Mxx", {})
    answer = asker.read(entity_type, name="x" * 1000)
    assert (answer.status, answer.description) == (404, f"No entity with name={'x' * 100}...")


def test_without_a_type_an_identity_is_looked_for_in_all_types() -> None:
    answer = Managed().asker().ask(operation="READ", identity="listener/127.0.0.1:5672:open")
    assert (answer.status, answer.body["type"]) == (200, PREFIX + "listener")


def test_read_needs_a_name_or_an_identity() -> None:
    assert Managed().asker().read("router").status == 400
    assert Managed().asker().read("nonsense", identity="x").status == 400


# --- what changes nothing


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE", "DELETE"])
def test_nothing_can_be_changed_yet(operation: str) -> None:
    asker = Managed().asker()
    assert asker.ask(operation=operation, type="listener", name="x").status == 501
    assert asker.ask(operation=operation, type="router.link", name="x").status == 403
    assert asker.ask(operation=operation, type="nonsense", name="x").status == 400
    assert asker.ask(operation=operation, name="x").status == 400


@pytest.mark.parametrize("operation", ["GET-LOG", "GET-SCHEMA", "PROFILE", "nonsense", "x" * 500])
def test_other_operations_are_not_implemented(operation: str) -> None:
    answer = Managed().asker().ask(operation=operation)
    assert (answer.status, answer.body) == (501, {})
    assert len(str(answer.description)) < 200


def test_a_request_without_an_operation_is_a_bad_one() -> None:
    assert Managed().asker().ask().status == 400
    assert Managed().asker().ask(operation=7).status == 400
    assert Managed().asker().ask(operation="").status == 400


@pytest.mark.parametrize("operation", ["query", "Query", Symbol("QUERY")])
def test_the_case_of_operations_does_not_matter(operation: str) -> None:
    assert len(Managed().asker().ask(operation=operation, entityType="listener").rows) == 2
    assert Managed().asker().ask(operation="get_types").status == 200


# --- what the node says about itself


def test_types_attributes_operations_and_annotations() -> None:
    asker = Managed().asker()
    types = asker.ask(operation="GET-TYPES").body
    assert types[PREFIX + "router.link"] == [PREFIX + "operationalEntity", PREFIX + "entity"]
    assert types[PREFIX + "entity"] == []
    attributes = asker.ask(operation="GET-ATTRIBUTES").body
    assert attributes.keys() == types.keys()
    assert attributes[PREFIX + "router.link"][:4] == ["name", "identity", "type", "linkName"]
    assert asker.ask(operation="GET-OPERATIONS", entityType="listener").body == {PREFIX + "listener": ["READ"]}
    assert asker.ask(operation="GET-OPERATIONS").body.keys() == types.keys()
    assert asker.ask(operation="GET-ANNOTATIONS").body == {}
    assert asker.ask(operation="GET-TYPES", entityType="nonsense").status == 400


def test_a_router_that_stands_alone_knows_no_nodes() -> None:
    asker = Managed().asker()
    assert asker.ask(operation="GET-MGMT-NODES").body == []
    assert asker.query("router.node").rows == []


# --- requests and replies


@pytest.mark.parametrize("correlation_id", ["text", ULong(7), b"octets", uuid.UUID(int=5), None])
def test_the_correlation_id_comes_back_with_its_type(correlation_id: MessageId | None) -> None:
    asker = Managed().asker()
    asker.send(asker.request(correlation_id=correlation_id, operation="GET-TYPES"))
    properties = asker.answers()[0].message.properties
    assert properties is not None
    assert properties.correlation_id == correlation_id
    assert type(properties.correlation_id) is type(correlation_id)
    assert properties.to == asker.reply_to


def test_a_request_without_reply_to_is_accepted_and_not_answered() -> None:
    asker = Managed().asker()
    sent = asker.send(asker.request(reply_to=None, operation="GET-TYPES"))
    assert sent.settled
    assert sent.state == ACCEPTED
    sent = asker.send(Message(application_properties={"operation": "GET-TYPES"}))
    assert sent.state == ACCEPTED
    assert asker.answers() == []


def test_a_reply_to_nobody_harms_nobody() -> None:
    asker = Managed().asker()
    for address in ("nowhere", "amqp:/_topo/0/elsewhere/temp.x", "_topo/9/x/y", "x" * 5000, "$management"):
        assert asker.send(asker.request(reply_to=address, operation="GET-TYPES")).state == ACCEPTED
    assert asker.ask(operation="GET-TYPES").status == 200


def test_a_settled_request_is_answered_as_well() -> None:
    asker = Managed().asker()
    asker.sender.send(asker.request(operation="GET-TYPES").encode(), settled=True)
    asker.network.run()
    assert len(asker.answers()) == 1


@pytest.mark.parametrize(
    "address", ["$management", "_local/$management", "_topo/0/R1/$management", "_edge/R1/$management"]
)
def test_the_node_has_four_addresses(address: str) -> None:
    assert Managed().asker(address).ask(operation="GET-TYPES").status == 200


def test_an_anonymous_sender_reaches_it_too() -> None:
    asker = Managed().asker()
    sender = asker.client.sender(None)
    request = asker.request(operation="GET-TYPES")
    assert request.properties is not None
    request.properties.to = "$management"
    sender.send(request.encode())
    asker.network.run()
    assert len(asker.answers()) == 1


@pytest.mark.parametrize("distribution", ["unavailable", "multicast"])
def test_no_configuration_takes_the_node_away(distribution: str) -> None:
    network = Managed(default=distribution, addresses={"#": distribution})
    assert network.asker().query("router.address", "key", "distribution").row(key="M$management")


def test_octets_that_are_no_message_are_rejected() -> None:
    asker = Managed().asker()
    sent = asker.sender.send(b"\x00\x53\x73garbage")
    asker.network.run()
    assert isinstance(sent.state, Rejected)
    assert sent.state.error is not None
    assert sent.state.error.condition == "amqp:decode-error"
    assert asker.ask(operation="GET-TYPES").status == 200


@pytest.mark.parametrize("body", [Data(b"x"), AmqpSequence([1]), AmqpValue([1]), AmqpValue("text")])
def test_a_body_that_is_no_map_is_a_bad_request(body: Data | AmqpSequence | AmqpValue) -> None:
    asker = Managed().asker()
    asker.send(asker.request(body, operation="QUERY", entityType="listener"))
    (answer,) = asker.answers()
    assert (answer.status, answer.description) == (400, "Body of request must be a map")


def test_a_body_may_be_missing() -> None:
    asker = Managed().asker()
    asker.send(asker.request(None, operation="QUERY", entityType="listener"))
    assert len(asker.answers()[0].rows) == 2


def test_a_request_of_many_frames_is_answered() -> None:
    asker = Managed().asker()
    whole = asker.request(AmqpValue({"filler": "x" * 50_000}), operation="GET-TYPES").encode()
    sent = asker.sender.begin(whole[:10_000])
    asker.network.run()
    sent.more(whole[10_000:40_000])
    asker.network.run()
    assert asker.answers() == []
    sent.end(whole[40_000:])
    asker.network.run()
    assert [answer.status for answer in asker.answers()] == [200]
    half = asker.sender.begin(whole[:300_000])
    asker.network.run()
    half.abort()
    asker.network.run()
    assert asker.ask(operation="GET-TYPES").status == 200


def test_a_request_that_is_too_large_is_rejected() -> None:
    asker = Managed().asker()
    sent = asker.send(asker.request(Data(bytes(MAX_REQUEST_SIZE)), operation="GET-TYPES"))
    assert isinstance(sent.state, Rejected)
    assert asker.ask(operation="GET-TYPES").status == 200


def test_many_requests_at_once_are_answered_in_order() -> None:
    network = Managed(slices=True)
    asker = network.asker()
    asker.replies.credit(200)
    for number in range(90):
        asker.sender.send(asker.request(correlation_id=ULong(number), operation="GET-TYPES").encode())
    network.run()
    while network.agent.busy:
        network.work()
    ids = [answer.message.properties.correlation_id for answer in asker.answers() if answer.message.properties]
    assert ids == list(range(90))
    network.assert_quiet()


def test_who_takes_no_replies_stops_nobody_else() -> None:
    network = Managed()
    greedy = network.asker()
    greedy.replies.link.sink.auto = False  # type: ignore[attr-defined]  # gives no credit back
    sent = []
    for _ in range(400):
        sent.append(greedy.sender.send(greedy.request(operation="GET-ANNOTATIONS").encode()))
        network.run()
    assert [len(greedy.answers()), [one.state for one in sent].count(RELEASED)] == [100, 200]
    assert network.asker().ask(operation="GET-TYPES").status == 200


def test_while_the_router_takes_no_replies_requests_wait() -> None:
    """Replies that nobody takes have used up the memory that one connection may have, until somebody leaves."""
    network = Managed(memory_limit=1_000_000)
    greedy = network.asker()
    greedy.replies.link.sink.auto = False  # type: ignore[attr-defined]
    greedy.replies.drain()
    network.run()
    for _ in range(90):
        greedy.sender.send(greedy.request(operation="GET-ATTRIBUTES").encode())
    network.run()
    other = network.asker()
    sent = other.send(other.request(operation="GET-TYPES"))
    assert network.agent.busy
    assert (sent.settled, other.answers()) == (False, [])
    greedy.client.cut()
    network.run()
    assert sent.settled
    assert [answer.status for answer in other.answers()] == [200]
    assert not network.agent.busy


def test_the_agent_is_no_connection_and_its_links_are_not_counted() -> None:
    network = Managed()
    asker = network.asker()
    (connection,) = asker.query("connection").rows
    assert connection["container"] == asker.client.name
    assert len(asker.query("router.link").rows) == 2
    (metrics,) = asker.query("routerMetrics").rows
    assert (metrics["linkCount"], metrics["connectionCount"]) == (2, 1)
    address = asker.query("router.address").row(key="M$management")
    assert (address["inProcess"], address["subscriberCount"]) == (1, 0)
