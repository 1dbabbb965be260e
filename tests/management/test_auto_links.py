"""What the management node tells of auto-links: how they fare, and what they carry."""

from __future__ import annotations

from tests.adaptors.brokers import LosesQueues, auto_link, connect
from tests.management.nodes import Managed
from van.management.schema import PREFIX

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
