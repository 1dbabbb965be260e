"""Whatever is sent to the management node: every request has an outcome, and the next one is answered as ever."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.amqp.strategies import values
from tests.management.nodes import Asker, Managed
from van.amqp.message import AmqpValue, Message, Properties
from van.management.schema import PREFIX

TEXTS = st.sampled_from([
    "QUERY", "READ", "CREATE", "GET-TYPES", "GET-MGMT-NODES", "GET-ATTRIBUTES", "router.link", PREFIX + "connection",
    "router.address", "entity", "router.node", "self", "1", "M$management", "", "$management",
])  # fmt: skip
KEYS = ("operation", "type", "entityType", "name", "identity", "offset", "count")


def assert_well(asker: Asker) -> None:
    assert asker.ask(operation="GET-TYPES").status == 200
    asker.network.assert_quiet()


@given(
    properties=st.dictionaries(st.sampled_from(KEYS), TEXTS | st.integers(-1, 600) | values(), max_size=7),
    body=st.none() | values() | st.fixed_dictionaries({"attributeNames": st.lists(TEXTS) | values()}),
    reply=st.booleans(),
)
def test_requests_of_any_content_are_answered(properties: dict[str, Any], body: object, reply: bool) -> None:
    network = Managed()
    asker = network.asker()
    message = Message(
        properties=Properties(reply_to=asker.reply_to if reply else "nowhere", correlation_id="x"),
        application_properties=properties,
        body=AmqpValue(body),
    )
    sent = asker.send(message)
    assert sent.settled
    if reply:
        (answer,) = asker.answers()
        assert answer.status in (200, 400, 403, 404, 501), answer.description
    assert network.logged == [line for line in network.logged if line[0] != "error"]
    assert_well(asker)


@given(octets=st.binary(max_size=200))
def test_any_octets_have_an_outcome(octets: bytes) -> None:
    asker = Managed().asker()
    sent = asker.sender.send(octets)
    asker.network.run()
    assert sent.settled
    assert_well(asker)


@given(
    place=st.integers(0, 200), octets=st.binary(min_size=1, max_size=4), cut=st.integers(0, 100), split=st.booleans()
)
def test_a_request_with_wrong_octets_has_an_outcome(place: int, octets: bytes, cut: int, split: bool) -> None:
    asker = Managed().asker()
    whole = bytearray(asker.request(AmqpValue({}), operation="QUERY", entityType="listener", offset=0).encode())
    place %= len(whole)
    whole[place : place + len(octets)] = octets
    payload = bytes(whole[: len(whole) - cut])
    if split:
        sent = asker.sender.begin(payload[:20])
        asker.network.run()
        sent.end(payload[20:])
    else:
        sent = asker.sender.send(payload)
    asker.network.run()
    assert sent.settled
    assert_well(asker)
