"""Connections of sites that lead to brokers: by a connector, by a listener, and when the file is read again.

The broker's part is played by another router: what is at its end of a link, clients of it say.
"""

from __future__ import annotations

from pathlib import Path

from tests.router.running import PLAIN, Running, running, until
from tests.router.site_file import SiteFile
from van.client import connect
from van.router.describe import describe
from van.router.reload import reload

SITE = """
[router]
id = "east"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[listener]]
name = "brokers"
url = "amqp://127.0.0.1:0"
role = "route-container"
"""

CONNECTOR = """
[[connector]]
name = "broker"
url = "amqp://127.0.0.1:{port}"
role = "route-container"
"""

OUT = """
[[auto_link]]
connection = "broker"
address = "orders"
external_address = "queue"
direction = "out"
"""

BACK = """
[[auto_link]]
container_id = "scene"
address = "bills"
direction = "in"
"""


def places(folder: Path) -> tuple[SiteFile, SiteFile]:
    for name in ("east", "broker"):
        (folder / name).mkdir()
    return SiteFile(folder / "east"), SiteFile(folder / "broker")


def statuses(scene: Running) -> dict[str, str]:
    return {auto_link.name: auto_link.status for auto_link in scene.site.router.auto_links.all()}


async def exchange(sending: Running, address: str, receiving: Running, source: str) -> None:
    """A message that somebody sends at one router and somebody else receives at another."""
    async with (
        connect(receiving.url()) as connection,
        connection.receiver(source) as receiver,
        connect(sending.url()) as other,
        other.sender(address) as sender,
    ):
        sent = await sender.submit("hello")
        delivery = await receiver.receive()
        assert delivery.body == "hello"
        assert sent.outcome_now is None, "it is the receiver's"
        delivery.accept()
        assert (await sent.wait()).accepted


async def test_a_broker_by_a_connector(tmp_path: Path) -> None:
    site, other = places(tmp_path)
    async with (
        running(other, PLAIN) as broker,
        running(site, SITE + CONNECTOR.format(port=broker.port()) + OUT + BACK) as east,
    ):
        await until(lambda: set(statuses(east).values()) == {"active"})
        await exchange(east, "orders", broker, "queue")
        await exchange(broker, "bills", east, "bills")
        (line,) = [line for line in east.lines("auto-link active") if line["direction"] == "out"]
        assert (line["auto_link"], line["address"], line["at_broker"]) == ("out/broker/orders", "orders", "queue")
        await describe(east.site)
        described = east.lines("auto-link")
        assert [line["auto_link"] for line in described] == ["out/broker/orders", "in/scene/bills"]
        assert {line["status"] for line in described} == {"active"}
        assert list(described[0]["connections"].values()) == ["active"]


async def test_a_broker_that_connects_by_itself(tmp_path: Path) -> None:
    site, other = places(tmp_path)
    async with running(site, SITE + BACK) as east:
        outward = PLAIN + CONNECTOR.format(port=east.port("brokers")).replace("route-container", "normal")
        async with running(other, outward) as broker:
            await until(lambda: set(statuses(east).values()) == {"active"})
            await exchange(broker, "bills", east, "bills")
        await until(lambda: set(statuses(east).values()) == {"inactive"})


async def test_the_file_is_read_again(tmp_path: Path) -> None:
    site, other = places(tmp_path)
    async with running(other, PLAIN) as broker:
        connector = CONNECTOR.format(port=broker.port())
        async with running(site, SITE + connector + OUT) as east:
            await until(lambda: statuses(east) == {"out/broker/orders": "active"})
            site.write(SITE + connector + BACK)
            await reload(east.site)
            assert (await east.line("configuration reloaded"))["taken_over"] == ["auto_link"]
            await until(lambda: statuses(east) == {"in/scene/bills": "active"})
            await exchange(broker, "bills", east, "bills")
