"""Sites that become a network: neighbours in any order of start, addresses everywhere, restarts, what is said of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from tests.interop.harness import Router as RouterProcess
from tests.ports import free_port
from tests.router.running import Running, running, until
from tests.router.site_file import SiteFile
from van.client import connect
from van.router.describe import describe
from van.router.reload import reload
from van.routing.router import Router

EAST = """
[router]
id = "east"
mode = "interior"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[listener]]
name = "routers"
url = "amqp://127.0.0.1:{port}"
role = "inter-router"
"""

WEST = """
[router]
id = "west"
mode = "interior"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[connector]]
name = "east"
url = "amqp://127.0.0.1:{port}"
role = "inter-router"
cost = 3
"""


EDGES = """
[[listener]]
name = "edges"
url = "amqp://127.0.0.1:{port}"
role = "edge"
"""

PRESS = """
[router]
id = "press"
mode = "edge"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[connector]]
name = "uplink"
url = "amqp://127.0.0.1:{port}"
role = "edge"
"""


class Places:
    """A folder for each of two routers, and the port of the one that listens."""

    def __init__(self, folder: Path) -> None:
        self.east, self.west, self.press = (SiteFile(folder / name) for name in ("east", "west", "press"))
        for place in (self.east, self.west, self.press):
            place.folder.mkdir()
        self.port, self.edge_port = free_port(), free_port()

    def text(self, template: str) -> str:
        return template.format(port=self.port)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def knows(router: Router, other: str) -> bool:
    """Whether it is reachable, and has said itself who its neighbours are."""
    node = router.engine.nodes.get(other) if router.engine is not None else None
    return node is not None and node.reachable and router.id in node.peers


async def acquainted(*sites: Running) -> None:
    routers = [scene.site.router for scene in sites]
    await until(lambda: all(knows(one, other.id) for one in routers for other in routers if one is not other))


async def exchange(sender_at: Running, receiver_at: Running) -> None:
    async with (
        connect(receiver_at.url()) as there,
        there.receiver("orders") as receiver,
        connect(sender_at.url()) as here,
        here.sender("orders") as sender,
    ):
        tracker = sender.send_nowait("one coffee")
        delivery = await receiver.receive()
        assert delivery.body == "one coffee"
        delivery.accept()
        assert (await tracker.wait()).accepted


async def test_an_address_of_one_site_is_an_address_of_the_other(places: Places) -> None:
    async with (
        running(places.east, places.text(EAST)) as east,
        running(places.west, places.text(WEST)) as west,
    ):
        await acquainted(east, west)
        await exchange(east, west)
        await exchange(west, east)
        engine = east.site.router.engine
        assert engine is not None
        assert engine.nodes["west"].cost == 3, "the higher cost of both ends"


async def test_who_connects_first_waits_for_the_other(places: Places) -> None:
    async with running(places.west, places.text(WEST)) as west:
        await until(lambda: west.site.connectors[0].status == "FAILED")
        async with running(places.east, places.text(EAST)) as east:
            await acquainted(east, west)
            await exchange(west, east)


async def test_a_router_that_was_restarted_is_found_again_and_is_the_newer_one(places: Places) -> None:
    async with running(places.west, places.text(WEST)) as west:
        sequences = []
        for _ in range(3):
            async with running(places.east, places.text(EAST)) as east:
                begun = trio.current_time()
                await acquainted(east, west)
                await exchange(west, east)
                assert trio.current_time() - begun < 5.0, "no back-off in between that had grown"
                assert west.site.router.engine is not None
                node = west.site.router.engine.nodes["east"]
                sequences.append((node.instance, node.link_state_sequence))
            await until(lambda: not knows(west.site.router, "east"))
        assert sequences == sorted(set(sequences)), "also where two starts are within a second"


async def test_a_place_in_the_network_is_changed_by_a_restart(places: Places) -> None:
    text = places.text(EAST)
    async with running(places.east, text) as east:
        changed = text.replace('mode = "interior"', 'mode = "interior"\nra_interval_seconds = 20')
        places.east.write(changed.replace('role = "inter-router"', 'role = "inter-router"\ncost = 7'))
        await reload(east.site)
        (line,) = east.lines("configuration reloaded")
        assert line["taken_over"] == []
        assert line["needs_restart"] == ["router.ra_interval_seconds", 'listener "routers".cost']


async def test_what_is_said_of_it(places: Places) -> None:
    async with (
        running(places.east, places.text(EAST)) as east,
        running(places.west, places.text(WEST)) as west,
    ):
        await acquainted(east, west)
        # What is said now is in the log of the last one that was configured.
        await describe(west.site)
        (neighbor,) = west.lines("neighbor")
        assert (neighbor["router_id"], neighbor["cost"], neighbor["up"]) == ("east", 3, True)
        (node,) = west.lines("node")
        assert (node["router_id"], node["reachable"], node["next_hop"]) == ("east", True, "east")
        assert node["peers"] == {"west": 3}
        control = [line for line in west.lines("link") if line.get("control")]
        assert sorted(line["direction"] for line in control) == ["in", "out"]
        assert len(west.lines("link")) == 22


async def test_the_end_of_a_router_is_noticed_by_its_neighbours_at_once(places: Places) -> None:
    async with running(places.west, places.text(WEST)) as west:
        async with running(places.east, places.text(EAST)) as east:
            await acquainted(east, west)
            east.site.drain("a test")
            await until(lambda: not knows(west.site.router, "east"))
            await east.over.wait()
        assert east.code == 0
        assert not east.lines("not settled in time, given back to their senders")


async def test_a_router_that_was_stopped_reads_before_it_takes_anybody_for_silent(places: Places) -> None:
    timers = 'mode = "interior"\nhello_interval_seconds = 0.25\nhello_max_age_seconds = 1.5\n'
    async with running(places.east, places.text(EAST).replace('mode = "interior"\n', timers)) as east:
        west = RouterProcess(places.west.write(places.text(WEST).replace('mode = "interior"\n', timers)))
        try:
            await until(lambda: knows(east.site.router, "west"))
            time.sleep(2.5)  # noqa: ASYNC251 - all of this process stands still
            await trio.sleep(0.3)
            assert not east.lines("neighbor_silent"), "it has spoken all the time"
            assert [line["router"] for line in west.log() if line["event"] == "neighbor_silent"] == ["east"]
            await until(lambda: any(line["event"] == "neighbor_back" for line in west.log()))
        finally:
            west.kill()


async def test_an_edge_router_is_part_of_the_network_by_one_connection_out(places: Places) -> None:
    async with (
        running(places.east, places.text(EAST) + EDGES.format(port=places.edge_port)) as east,
        running(places.west, places.text(WEST)) as west,
        running(places.press, PRESS.format(port=places.edge_port)) as press,
    ):
        await acquainted(east, west)
        await exchange(press, west)
        await exchange(west, press)
        await exchange(press, press)
        await describe(press.site)
        (uplink,) = press.lines("edge connection")
        assert (uplink["router_id"], uplink["uplink"]) == ("east", True)
        await describe(east.site)
        (edge,) = (line for line in press.lines("edge connection") if line["router_id"] == "press")
        assert not edge["uplink"]
        assert press.lines("link")


async def test_an_edge_router_finds_its_interior_one_again(places: Places) -> None:
    text = places.text(EAST) + EDGES.format(port=places.edge_port)
    async with running(places.press, PRESS.format(port=places.edge_port)) as press:
        for _ in range(2):
            async with running(places.east, text) as east:
                await until(lambda: bool(press.site.router.edge_peers))
                await exchange(east, press)
                await exchange(press, east)
            await until(lambda: not press.site.router.edge_peers)
