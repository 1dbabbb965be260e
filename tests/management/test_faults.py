"""Faults of ours in the management node: the asker is told, the log has it, and the router goes on."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from tests.management.nodes import Managed, SceneFacts
from van.adaptors.amqp import AmqpAdaptor
from van.management.facts import Facts, ListenerFacts


class FaultyFacts(SceneFacts):
    def listeners(self) -> Collection[ListenerFacts]:
        raise ZeroDivisionError

    def memory(self) -> tuple[int, int]:
        raise LookupError


def test_a_fault_in_an_answer_is_told_and_logged() -> None:
    network = Managed()
    network.agent.facts = FaultyFacts([])
    asker = network.asker()
    for entity_type in ("listener", "routerMetrics"):
        answer = asker.query(entity_type)
        assert (answer.status, answer.body) == (500, {})
        assert answer.description == "Internal error, see the log of the router"
    faults = [fields["exc_info"] for level, _, fields in network.logged if level == "error"]
    assert [type(fault) for fault in faults] == [ZeroDivisionError, LookupError]
    assert asker.query("router").status == 200
    network.assert_quiet()


def test_a_fault_in_its_connection_ends_the_node_and_nothing_else() -> None:
    network = Managed()
    asker = network.asker()

    def fail(link: object, delivery: object, payload: bytes) -> None:
        raise ZeroDivisionError

    network.agent.take = fail  # type: ignore[method-assign]
    asker.sender.send(asker.request(operation="GET-TYPES").encode())
    network.run()
    assert [event for level, event, _ in network.logged if level == "error"] == [
        "the management node is gone, a fault of ours"
    ]
    receiver = network.client().receiver("q", credit=10)
    network.client().sender("q").send(b"one")
    network.run()
    assert receiver.bodies == [b"one"]
    assert "M$management" not in network.router.addresses or not network.router.addresses["M$management"].outgoing


def test_a_router_without_a_process_tells_less() -> None:
    network = Managed()
    asker = network.asker()
    network.agent.facts = Facts()
    for entity_type in ("listener", "connector", "connection", "router.link"):
        assert asker.query(entity_type).rows == []
    (metrics,) = asker.query("routerMetrics").rows
    assert (metrics["memoryUsage"], metrics["connectionCount"]) == (None, 0)
    adaptor: AmqpAdaptor = asker.client.adaptor
    assert network.agent.facts.connection(adaptor).host == ""
    assert network.agent.facts.wall_time() is None


@pytest.mark.parametrize("address", ["$management", "_local/$management", "_topo/0/R1/$management"])
def test_nobody_else_receives_what_the_router_is_asked(address: str) -> None:
    network = Managed()
    receiver = network.client().receiver(address, credit=10)
    assert receiver.error is not None
    assert receiver.error.condition == "amqp:not-allowed"
    assert {network.asker().ask(operation="GET-TYPES").status for _ in range(3)} == {200}
    assert receiver.bodies == []
