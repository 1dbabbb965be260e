"""QUERY: columns, pages, and what is asked for that does not exist."""

from __future__ import annotations

import pytest

from tests.management.nodes import Managed
from van.amqp.types import Int, ULong
from van.management.entities import BY_TYPE, ENTITY_TYPES
from van.management.schema import OLDER_PREFIX, PREFIX

TYPES = [declared.type for declared in ENTITY_TYPES]


@pytest.mark.parametrize("prefix", [PREFIX, OLDER_PREFIX, ""])
@pytest.mark.parametrize("entity_type", TYPES)
def test_every_type_has_its_columns_under_every_prefix(entity_type: str, prefix: str) -> None:
    answer = Managed().asker().query(prefix + entity_type)
    assert (answer.status, answer.description) == (200, "OK")
    assert answer.names == [attribute.name for attribute in BY_TYPE[entity_type].attributes]
    assert all(row["type"] == PREFIX + entity_type for row in answer.rows)


def test_columns_are_those_that_were_asked_for_in_that_order() -> None:
    answer = Managed().asker().query("router.address", "distribution", "key", "distribution")
    assert answer.names == ["distribution", "key", "distribution"]
    assert ["closest", "M$management", "closest"] in answer.body["results"]


def test_a_name_that_does_not_exist_is_the_first_attribute_of_a_type_of_the_core() -> None:
    answer = Managed().asker().query("router.address", "phase", "key")
    assert answer.names == ["name", "key"]


def test_a_name_that_does_not_exist_is_not_found_in_other_types() -> None:
    answer = Managed().asker().query("listener", "name", "nonsense")
    assert (answer.status, answer.body) == (404, {})
    assert answer.description == "No attribute nonsense in io.skupper.router.listener"


def test_names_that_are_no_strings_are_left_out() -> None:
    asker = Managed().asker()
    answer = asker.ask({"attributeNames": ["key", 7, None]}, operation="QUERY", entityType="router.address")
    assert answer.names == ["key"]


@pytest.mark.parametrize("names", [[], None, "key", {}, ["key"] * 64])
def test_no_list_of_names_and_too_long_a_list_is_every_attribute(names: object) -> None:
    asker = Managed().asker()
    answer = asker.ask({"attributeNames": names}, operation="QUERY", entityType="router.address")
    assert len(answer.names) == len(BY_TYPE["router.address"].attributes)


def test_a_type_that_does_not_exist_is_a_bad_request() -> None:
    answer = Managed().asker().query("io.skupper.router.allocator")
    assert (answer.status, answer.description) == (400, "No such entity type allocator")


def test_offset_and_count_make_pages_that_join_to_the_whole() -> None:
    network = Managed()
    asker = network.asker()
    client = network.client()
    for number in range(30):
        client.receiver(f"queue/{number}", run=False)
    network.run()
    whole = asker.query("router.address", "key").body["results"]
    pages = [asker.query("router.address", "key", offset=offset, count=10).body["results"] for offset in (0, 10, 20)]
    assert [len(page) for page in pages] == [10, 10, 10]
    assert [row for page in pages for row in page] == whole[:30]
    assert asker.query("router.address", offset=Int(len(whole)), count=Int(5)).rows == []
    assert asker.query("router.address", offset=ULong(2**64 - 1), count=ULong(2**64 - 1)).rows == []
    assert asker.query("router.address", offset=0, count=0).rows == []


def test_pages_of_links_go_over_the_connections() -> None:
    network = Managed()
    asker = network.asker()
    for number in range(5):
        client = network.client(f"client-{number}")
        for place in range(4):
            client.receiver(f"queue/{place}", name=f"{number}-{place}")
    names = [row["linkName"] for row in asker.query("router.link").rows]
    assert len(names) == 22
    pages = [[row["linkName"] for row in asker.query("router.link", offset=at, count=3).rows] for at in range(0, 24, 3)]
    assert [name for page in pages for name in page] == names


def test_without_a_type_the_entities_of_all_types_are_rows_of_one_table() -> None:
    asker = Managed().asker()
    answer = asker.ask({"attributeNames": ["type", "identity", "linkDir"]}, operation="QUERY")
    types = [row["type"] for row in answer.rows]
    assert {PREFIX + "router", PREFIX + "listener", PREFIX + "router.link", PREFIX + "connection"} <= set(types)
    assert answer.row(type=PREFIX + "router") == {"type": PREFIX + "router", "identity": "router/R1", "linkDir": None}
    page = asker.ask({"attributeNames": ["type"]}, operation="QUERY", offset=2, count=3)
    assert [row["type"] for row in page.rows] == types[2:5]
    everything = asker.ask(operation="QUERY")
    assert len(everything.rows) == len(types)
    wrong = asker.ask({"attributeNames": ["nonsense"]}, operation="QUERY")
    assert wrong.status == 404


def test_an_abstract_type_stands_for_those_that_extend_it() -> None:
    asker = Managed().asker()
    found = {row["type"] for row in asker.query("configurationEntity").rows}
    services = ("service", "tcpListener", "tcpConnector", "listenerAddress")
    assert found == {PREFIX + name for name in ("router", "network", "listener", "connector", *services)}
    assert [row["identity"] for row in asker.query("org.amqp.management").rows] == ["self"]


@pytest.mark.parametrize(
    "wrong", [{"offset": -1}, {"count": -1}, {"offset": "0"}, {"count": True}, {"offset": 1.5}, {"entityType": 7}]
)
def test_nonsense_is_a_bad_request(wrong: dict[str, object]) -> None:
    given: dict[str, object] = {"operation": "QUERY", "entityType": "listener", **wrong}
    answer = Managed().asker().ask(**given)
    assert (answer.status, answer.body) == (400, {})


def test_a_long_answer_is_made_in_slices_between_which_rows_may_come_and_go() -> None:
    network = Managed(slices=True)
    asker = network.asker()
    client = network.client()
    receivers = [client.receiver(f"queue/{number}", run=False) for number in range(350)]
    network.run()
    asker.send(asker.request(operation="QUERY", entityType="router.address"))
    assert network.wanted == 1
    assert network.agent.go_on()
    network.router.wake_touched()
    assert asker.answers() == []
    for receiver in receivers:
        receiver.detach()
    network.run()
    assert network.work() == 4
    (answer,) = asker.answers()
    assert len(answer.rows) == 353
    assert network.wanted == 1
    assert len(asker.query("router.address").rows) == 3


@pytest.mark.parametrize(("depth", "told"), [(20, True), (28, False)])
def test_properties_that_no_reply_can_carry_spoil_no_answer(depth: int, told: bool) -> None:
    network = Managed()
    deep: list[object] = []
    for _ in range(depth):
        deep = [deep]
    network.client("deep", properties={"deep": deep})
    answer = network.asker().query("connection", "container", "properties")
    assert answer.row(container="deep")["properties"] == ({"deep": deep} if told else None)
