"""A full mesh of five routers over real sockets: whoever subscribes anywhere has each message once."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from tests.client.sites import RunningSite, running_site, until
from van.client import Message, Properties, connect

ROUTERS = 5
SUBSCRIBERS = 3
MESSAGES = 40


def site_file(number: int, others: list[RunningSite]) -> str:
    return f"""
[router]
id = "r{number}"
mode = "interior"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[listener]]
name = "routers"
url = "amqp://127.0.0.1:0"
role = "inter-router"

[[address]]
prefix = "news"
distribution = "multicast"
""" + "".join(f'[[connector]]\nurl = "{other.url("routers")}"\nrole = "inter-router"\n' for other in others)


async def test_multicast_in_a_full_mesh(tmp_path: Path) -> None:
    heard: list[list[object]] = [[] for _ in range(ROUTERS * SUBSCRIBERS)]
    everything = ROUTERS * MESSAGES
    async with AsyncExitStack() as stack:
        sites: list[RunningSite] = []
        for number in range(ROUTERS):
            folder = tmp_path / str(number)
            folder.mkdir()
            sites.append(await stack.enter_async_context(running_site(folder, site_file(number, sites))))
        connections = [await stack.enter_async_context(connect(site.url())) for site in sites]

        async def subscribe(number: int) -> None:
            async with connections[number % ROUTERS].receiver("news.today", credit=100) as receiver:
                async for delivery in receiver:
                    assert delivery.message.properties is not None
                    heard[number].append(delivery.message.properties.message_id)
                    delivery.accept()

        def complete() -> bool:
            routers = [site.site.router for site in sites]
            addresses = [router.addresses.get("Mnews.today") for router in routers]
            return all(
                address is not None
                and len(address.outgoing) == SUBSCRIBERS
                and address.remote is not None
                and len(address.remote.routers) == ROUTERS - 1
                for address in addresses
            )

        async with trio.open_nursery() as nursery:
            for number in range(ROUTERS * SUBSCRIBERS):
                nursery.start_soon(subscribe, number)
            await until(complete)
            for number, connection in enumerate(connections):
                async with connection.sender("news.today") as sender:
                    for count in range(MESSAGES):
                        outcome = await sender.send(Message(properties=Properties(message_id=f"{number}-{count}")))
                        assert outcome.accepted
            await until(lambda: all(len(ids) >= everything for ids in heard))
            # Time for a copy too many to arrive.
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
    wanted = Counter(f"{number}-{count}" for number, count in itertools.product(range(ROUTERS), range(MESSAGES)))
    assert all(Counter(ids) == wanted for ids in heard)
