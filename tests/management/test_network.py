"""What an interior router tells of the others: nodes, nodes with management, addresses that live elsewhere, links."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from tests.adaptors.routers import Line, RouterNode, RouterPeer, Routers
from tests.management.nodes import Asker, SceneFacts
from van.adaptors.amqp import AmqpAdaptor
from van.amqp.types import Int
from van.management.agent import ManagementAgent


class NodeFacts(SceneFacts):
    """The connections of one router among others."""

    def __init__(self, network: Routers, node: RouterNode) -> None:
        super().__init__([])
        self._network = network
        self._node = node

    def adaptors(self) -> Collection[AmqpAdaptor]:
        ends = [end for line in self._network.lines for end in (line.calling, line.accepting)]
        routers = [end for end in ends if end.router is self._node.router]
        return [*routers, *(client.adaptor for client in self._node.clients)]


def line(*names: str) -> tuple[Routers, list[RouterNode]]:
    """Routers in a line, each with its agent; the cost of each connection is 2."""
    network = Routers()
    nodes = [network.router(name) for name in names]
    for node in nodes:
        ManagementAgent(node.router, NodeFacts(network, node), log=node.log)
    for left, right in itertools.pairwise(nodes):
        network.connect(right, left, cost=2)
    network.advance(3.0)
    return network, nodes


def asker(node: RouterNode, address: str = "$management") -> Asker:
    return Asker(node.client(), address)


def test_every_router_can_be_asked_from_everywhere() -> None:
    _, (a, _, c) = line("A", "B", "C")
    for node in (a, c):
        for name in ("A", "B", "C"):
            (row,) = asker(node, f"_topo/0/{name}/$management").query("router", "id", "mode").rows
            assert row == {"id": name, "mode": "interior"}
    assert asker(a, "amqp:/_topo/0/C/$management").ask(operation="GET-TYPES").status == 200


def test_the_nodes_of_a_line_and_the_ways_to_them() -> None:
    _, (a, b, _) = line("A", "B", "C")
    nodes = asker(a).query("router.node")
    assert [row["id"] for row in nodes.rows] == ["A", "B", "C"]
    own, neighbour, far = nodes.rows
    assert (own["nextHop"], own["index"], own["cost"]) == ("(self)", 0, None)
    assert (own["linkState"], own["instance"]) == (["B"], 1)
    assert own["lastTopoChange"] is not None
    assert (neighbour["nextHop"], neighbour["cost"], neighbour["routerLink"]) == (None, 2, 1)
    assert sorted(neighbour["linkState"]) == ["A", "C"]
    assert (far["nextHop"], far["cost"], far["routerLink"], far["linkState"]) == ("B", 4, None, ["B"])
    assert [row["index"] for row in nodes.rows] == [0, 1, 2]
    middle = {row["id"]: row for row in asker(b).query("router.node").rows}
    assert (middle["A"]["validOrigins"], middle["C"]["validOrigins"]) == (["C"], ["A"])
    assert (nodes.row(id="B")["validOrigins"], nodes.row(id="C")["validOrigins"]) == ([], [])


def test_a_node_can_be_read_and_nodes_with_management_are_listed() -> None:
    _, (a, *_) = line("A", "B", "C")
    answer = asker(a).read("router.node", identity="router.node/C")
    assert (answer.status, answer.body["address"]) == (200, "amqp:/_topo/0/C")
    assert asker(a).ask(operation="GET-MGMT-NODES").body == [
        "amqp:/_topo/0/A/$management",
        "amqp:/_topo/0/B/$management",
        "amqp:/_topo/0/C/$management",
    ]
    (metrics,) = asker(a).query("routerMetrics").rows
    assert metrics["nodeCount"] == 2


def test_a_router_that_is_gone_is_no_node() -> None:
    network, (a, b, c) = line("A", "B", "C")
    network.between(b, c).cut()
    network.advance(5.0)
    assert [row["id"] for row in asker(a).query("router.node").rows] == ["A", "B"]
    assert asker(a).ask(operation="GET-MGMT-NODES").body[-1] == "amqp:/_topo/0/B/$management"


def test_addresses_name_the_routers_where_somebody_receives() -> None:
    network, (a, b, c) = line("A", "B", "C")
    b.client().receiver("orders")
    c.client().receiver("orders")
    network.advance(1.0)
    row = asker(a).query("router.address").row(key="Morders")
    assert (row["subscriberCount"], row["remoteCount"], sorted(row["remoteHostRouters"])) == (0, 2, ["B", "C"])


def test_the_management_node_is_no_address_of_the_network() -> None:
    _, (a, *_) = line("A", "B", "C")
    row = asker(a).query("router.address").row(key="M$management")
    assert (row["inProcess"], row["remoteCount"]) == (1, 0)


def test_links_between_routers_say_what_they_are_for() -> None:
    _, (a, _) = line("A", "B")
    rows = asker(a).query("router.link").rows
    kinds = {(row["linkType"], row["linkDir"]) for row in rows if row["connectionId"] == "1"}
    assert kinds == {(kind, way) for kind in ("router-control", "inter-router") for way in ("in", "out")}
    control = next(row for row in rows if (row["linkType"], row["linkDir"]) == ("router-control", "out"))
    assert (control["priority"], control["owningAddr"], control["operStatus"]) == (9, None, "up")
    assert control["deliveryCount"] == control["presettledCount"] > 0
    assert sorted(row["priority"] for row in rows if (row["linkType"], row["linkDir"]) == ("inter-router", "out")) == [
        *range(10)
    ]


def test_a_connection_to_a_router_has_its_role() -> None:
    _, (a, _) = line("A", "B")
    rows = {row["role"]: row for row in asker(a).query("connection").rows}
    assert rows["inter-router"]["container"] == "B"
    assert rows["normal"]["container"] != "B"
    (metrics,) = asker(a).query("routerMetrics").rows
    assert metrics["connectionCounters"] == {"amqp": 2}


def test_a_router_that_cannot_be_a_neighbour_is_told_of() -> None:
    network, (a,) = line("A")
    properties = {"product": "qpid-dispatch-router", "version": "1.19.0", "qd.annotations-version": Int(1)}
    recorded = RouterPeer(a, **properties)
    # Its octets are in the scene's hands; for the agent it is a connection like others.
    peer = Line(network, recorded.adaptor, recorded.adaptor)
    peer.cut_off = True
    network.lines.append(peer)
    answer = asker(a).query("connection")
    row = next(row for row in answer.rows if row["container"] == "B")
    assert row["operStatus"].startswith("refused: router B speaks the dialect of qpid-dispatch-router 1.19.0")
    assert answer.rows[-1]["operStatus"] == "up"
