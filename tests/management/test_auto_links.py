"""What the management node tells of auto-links: how they fare, and what they carry."""

from __future__ import annotations

import pytest

from tests.adaptors.brokers import CONNECTION, LosesQueues, auto_link, connect
from tests.adaptors.edges import edge, interiors, uplink
from tests.adaptors.routers import Routers
from tests.adaptors.workers import Whole
from tests.management.nodes import Answer, Asker, Managed, SceneFacts
from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.amqp.connection import Connection
from van.amqp.delivery_state import Rejected
from van.amqp.message import AmqpValue
from van.amqp.sasl import AnonymousClient, PlainClient, SaslClient, SaslServer, anonymous, plain
from van.management.agent import ManagementAgent, may_change
from van.management.schema import PREFIX
from van.routing.auto_link import MAX_AUTO_LINKS, AutoLink
from van.routing.dialect.annotations import MAY_CHANGE, encode_annotations
from van.routing.worker_router import WorkerRouter

TYPE = "router.config.autoLink"


def test_how_auto_links_fare() -> None:
    network = Managed()
    auto_link(network, "out", "orders", external_address="queue")
    auto_link(network, "in", "lost")
    auto_link(network, "in", "", name="any", external_address="outbox", container_id="another")
    asker = network.asker()
    assert [row["operStatus"] for row in asker.query(TYPE).rows] == ["inactive"] * 3
    connect(network, LosesQueues)
    active, failed, inactive = asker.query(TYPE).rows
    assert active == {
        "name": "out-orders",
        "identity": "1",
        "type": PREFIX + TYPE,
        "address": "orders",
        "direction": "out",
        "connection": "broker",
        "containerId": None,
        "externalAddress": "queue",
        "linkRef": asker.query("router.link").row(owningAddr="Morders")["identity"],
        "operStatus": "active",
        "lastError": None,
    }
    assert (failed["operStatus"], failed["linkRef"]) == ("failed", None)
    assert failed["lastError"] == "amqp:not-found: no queue 'lost'"
    assert (inactive["address"], inactive["connection"], inactive["containerId"]) == (None, None, "another")
    assert asker.read(TYPE, name="in-lost").body == failed
    assert asker.read(TYPE, identity="3").body == inactive


def test_what_brokers_take_and_give_is_counted() -> None:
    network = Managed()
    auto_link(network, "out", "orders")
    auto_link(network, "in", "bills")
    broker = connect(network)
    client = network.client()
    client.receiver("bills", credit=10)
    sender = client.sender("orders")
    for _ in range(3):
        sender.send(b"x")
    broker.given("bills").send(b"x")
    network.run()
    asker = network.asker()
    for _ in range(2):
        metrics = asker.query("routerMetrics").rows[0]
        assert metrics["autoLinkCount"] == 2
        assert (metrics["deliveriesEgressRouteContainer"], metrics["deliveriesIngressRouteContainer"]) == (3, 1)
        # It is the same when the links have gone.
        if not broker.cut_off:
            (shown,) = [row for row in asker.query("connection").rows if row["container"] == "the-broker"]
            assert shown["role"] == "route-container"
            broker.cut()
            network.run()


# --- CREATE and DELETE


ORDERS = {"address": "orders", "direction": "out", "connection": CONNECTION}


def local() -> Managed:
    network = Managed()
    network.local = True
    return network


def create(asker: Asker, attributes: object, **properties: object) -> Answer:
    return asker.ask(attributes, operation="CREATE", type=PREFIX + TYPE, **properties)


def delete(asker: Asker, **properties: object) -> Answer:
    return asker.ask({}, operation="DELETE", type=PREFIX + TYPE, **properties)


def test_made_and_taken_away() -> None:
    network = local()
    broker = connect(network)
    asker = network.asker()
    made = create(asker, {**ORDERS, "externalAddress": "queue", "containerId": None}, name="mine")
    assert (made.status, made.description) == (201, "Created")
    assert (made.body["name"], made.body["operStatus"], made.body["externalAddress"]) == ("mine", "attaching", "queue")
    network.client().sender("orders").send(b"x")
    network.run()
    assert broker.taken("queue").bodies == [b"x"]
    assert asker.read(TYPE, name="mine").body["operStatus"] == "active"
    gone = delete(asker, name="mine")
    assert (gone.status, gone.description, gone.body) == (204, "No Content", {})
    assert broker.taken("queue").link.detach_received
    assert delete(asker, name="mine").status == 404
    events = [fields for _, event, fields in network.logged if event == "changed by management"]
    assert [fields["operation"] for fields in events] == ["CREATE", "DELETE"]


def test_names_are_made_and_identities_are_found() -> None:
    asker = local().asker()
    assert create(asker, ORDERS, name="autoLink/2").body["identity"] == "1"
    second = create(asker, {"addr": "bills", "dir": "in", "containerId": "c"}).body
    assert (second["name"], second["identity"]) == ("autoLink/3", "2")
    assert (second["address"], second["direction"], second["containerId"]) == ("bills", "in", "c")
    assert create(asker, {**ORDERS, "name": "in the body", "type": PREFIX + TYPE}).body["name"] == "in the body"
    assert delete(asker, identity="2").status == 204
    assert [row["identity"] for row in asker.query(TYPE).rows] == ["1", "3"]


@pytest.mark.parametrize(
    ("attributes", "description"),
    [
        ({}, 'direction is "in" or "out", and is missing'),
        ({**ORDERS, "direction": "both"}, 'direction is "in" or "out", not both'),
        ({"address": "a", "direction": "in"}, "One of connection and containerId is needed, and only one"),
        ({**ORDERS, "containerId": "c"}, "One of connection and containerId is needed, and only one"),
        ({**ORDERS, "address": None}, "direction out needs an address"),
        ({"direction": "in", "connection": "c"}, "One of address and externalAddress is needed"),
        ({**ORDERS, "phase": 1}, "Unknown attribute phase"),
        ({**ORDERS, "address": 7}, "address must be a string"),
        ({**ORDERS, "address": "x" * 3000}, "address has more than 2048 characters"),
        ([], "Body of request must be a map"),
    ],
)
def test_what_cannot_be_made(attributes: object, description: str) -> None:
    network = local()
    answer = create(network.asker(), attributes)
    assert (answer.status, answer.description, answer.body) == (400, description, {})
    assert len(network.router.auto_links) == 0


def test_one_of_its_name_is_there() -> None:
    asker = local().asker()
    assert create(asker, ORDERS, name="mine").status == 201
    again = create(asker, ORDERS, name="mine")
    assert (again.status, again.description) == (400, "there is an auto-link 'mine' already")


def test_there_is_an_end_to_them() -> None:
    network = local()
    for number in range(MAX_AUTO_LINKS):
        network.router.auto_links.add(AutoLink(str(number), "a", incoming=True, connection="nowhere"))
    assert create(network.asker(), ORDERS).status == 400


def test_what_an_auto_link_cannot_do() -> None:
    asker = local().asker()
    assert asker.ask({}, operation="UPDATE", type=TYPE, name="x").status == 403
    assert delete(asker).status == 400
    assert asker.ask(operation="GET-OPERATIONS", entityType=TYPE).body == {PREFIX + TYPE: ["CREATE", "DELETE", "READ"]}


# --- who may


def refused(answer: Answer) -> bool:
    return answer.status == 403 and str(answer.description).startswith("Forbidden: CREATE is for")


def test_not_everybody_who_may_connect() -> None:
    network = Managed()
    assert refused(create(network.asker(), ORDERS))
    assert len(network.router.auto_links) == 0


def test_a_request_that_was_sent_settled_is_nobodys() -> None:
    network = local()
    asker = network.asker()
    request = asker.request(AmqpValue(ORDERS), operation="CREATE", type=TYPE)
    asker.sender.send(request.encode(), settled=True)
    network.run()
    assert refused(asker.answers()[0])


@pytest.mark.parametrize("accepting", [True, False])
@pytest.mark.parametrize("mechanism", ["PLAIN", "ANONYMOUS"])
def test_users_who_have_proved_who_they_are(mechanism: str, accepting: bool) -> None:
    """Of a connection that we have made, nobody has proved anything to us."""
    user = mechanism == "PLAIN"
    server = SaslServer([plain(lambda name, password: password == "pencil") if user else anonymous()])
    client = SaslClient([PlainClient("alice", "pencil") if user else AnonymousClient()], allow_insecure_plain=True)
    network = Managed()
    settings = ConnectionSettings(idle_timeout=0.0)
    adaptor = AmqpAdaptor(network.router, settings, accepting=accepting, sasl=server if accepting else client)
    peer = Connection("peer", sasl=client if accepting else server)
    peer.open()
    for _ in range(5):
        adaptor.receive_data(b"".join(peer.data_to_send(65536)), 0.0)
        peer.receive_data(b"".join(adaptor.data_to_send(65536)), 0.0)
    assert adaptor.opened
    assert may_change(SceneFacts([adaptor]), adaptor.connection) == (user and accepting)
    assert not may_change(SceneFacts([]), adaptor.connection)


def test_not_by_messages_of_a_broker() -> None:
    """They are of whoever has sent them there, wherever the broker runs."""
    network = local()
    auto_link(network, "in", "", name="any", external_address="outbox")
    broker = connect(network)
    asker = network.asker()
    request = asker.request(AmqpValue(ORDERS), operation="CREATE", type=TYPE)
    assert request.properties is not None
    request.properties.to = "$management"
    broker.given("outbox").send(request.encode())
    network.run()
    assert refused(asker.answers()[0])


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("trusted", [True, False])
def test_by_another_process_of_the_router(at: int, trusted: bool) -> None:
    """The process that has the connection knows who is at its other end."""
    network = Routers()
    whole = Whole(network, count=3)
    network.advance(1.0)
    for process in whole.processes[1:]:
        assert isinstance(process.router, WorkerRouter)
        process.router.may_change = lambda connection: trusted
    ManagementAgent(whole.processes[0].router)
    network.advance(1.0)
    asker = Asker(whole.processes[at].client(), "$management")
    network.advance(1.0)
    answer = create(asker, ORDERS, name="mine")
    assert (answer.status == 201, refused(answer)) == (trusted, not trusted)
    assert asker.read(TYPE, name="mine").status == (200 if trusted else 404)


@pytest.mark.parametrize("at", range(3))
def test_what_a_program_puts_in_front_of_its_request_says_nothing(at: int) -> None:
    network = Routers()
    whole = Whole(network, count=3)
    agent = ManagementAgent(whole.processes[0].router)
    network.advance(1.0)
    asker = Asker(whole.processes[at].client(), "$management")
    network.advance(1.0)
    request = asker.request(AmqpValue(ORDERS), operation="CREATE", type=TYPE)
    sent = asker.sender.send(encode_annotations(MAY_CHANGE, None, None, ()) + request.encode())
    network.run()
    assert isinstance(sent.state, Rejected), "to us that is no message"
    assert len(agent.router.auto_links) == 0


def test_not_by_another_router() -> None:
    """Who asked there is not known here."""
    network, (a, b) = interiors("A", "B")
    e = edge(network, "E")
    uplink(network, e, a)
    network.advance(3.0)
    ManagementAgent(a.router)
    network.advance(1.5)
    for node in (b, e):
        answer = create(Asker(node.client(), "_topo/0/A/$management"), ORDERS)
        assert refused(answer)
