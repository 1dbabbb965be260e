"""One program at one site of a network: it offers and uses every pattern of delivery, and says what came of it.

    python -m tests.chaos.participant URL NAME OTHER...

It receives at `orders/NAME` (anycast) and `news` (multicast), answers requests at `upper/NAME`, and then sends to each
OTHER: orders, one of them large, requests whose answers come to a dynamic address, and news to all. It ends when it has
all that the others, which do the same, send to it; one line of JSON says what it saw. Exit code 1: not in `PATIENCE`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

import trio

from van.amqp.message import AmqpValue, Message, Properties
from van.client import Connection, Receiver, body_of, connect

ORDERS = 20
NEWS = 10
REQUESTS = 5
LARGE = 2_000_000
PATIENCE = 45.0
# How long it listens for what should not come, a second copy, after all has come.
AFTERWARDS = 1.0


class Participant:
    """What one site's program has seen."""

    def __init__(self, connection: Connection, name: str, others: list[str]) -> None:
        self.connection = connection
        self.name = name
        self.others = others
        self.orders: Counter[str] = Counter()
        self.news: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.answers: list[str] = []
        self.reply_to: set[str] = set()

    async def run(self) -> None:
        name = self.name
        async with (
            self.connection.receiver(f"orders/{name}") as orders,
            self.connection.receiver("news") as news,
            self.connection.receiver(f"upper/{name}") as requests,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._take, orders, self.orders)
            nursery.start_soon(self._take, news, self.news)
            nursery.start_soon(self._answer, requests)
            for other in self.others:
                await self._order(other)
            for other in self.others:
                await self._request(other)
            await self._tell_news()
            while not self._has_all():  # noqa: ASYNC110 - the others are elsewhere
                await trio.sleep(0.05)
            await trio.sleep(AFTERWARDS)
            nursery.cancel_scope.cancel()

    def _has_all(self) -> bool:
        sites = len(self.others)
        return len(self.orders) >= sites * (ORDERS + 1) and len(self.news) >= (sites + 1) * NEWS

    async def _take(self, receiver: Receiver, seen: Counter[str]) -> None:
        async for delivery in receiver:
            text = str(delivery.body)
            seen[text if len(text) < 100 else f"{text[:20].rstrip('.')} of {len(text)}"] += 1
            delivery.accept()

    async def _answer(self, receiver: Receiver) -> None:
        # The sender has no address of its own: each reply goes where its properties say.
        async with self.connection.sender(None) as sender:
            async for delivery in receiver:
                asked = delivery.message.properties or Properties()
                self.reply_to.add(str(asked.reply_to).rpartition("/")[0])
                properties = Properties(to=asked.reply_to, correlation_id=asked.correlation_id)
                sender.send_nowait(Message(properties=properties, body=AmqpValue(str(delivery.body).upper())))
                delivery.accept()

    async def _order(self, other: str) -> None:
        async with self.connection.sender(f"orders/{other}") as sender:
            # There is no credit before the network has told that the other is there.
            for number in range(ORDERS):
                self.outcomes[(await sender.send(f"{self.name} {number}")).state.name] += 1
            large = f"{self.name} large".ljust(LARGE, ".")
            self.outcomes[(await sender.send(large)).state.name] += 1

    async def _request(self, other: str) -> None:
        for number in range(REQUESTS):
            reply = await self.connection.request(f"upper/{other}", f"{self.name} {number}", timeout=10.0)
            self.answers.append(str(body_of(reply)))

    async def _tell_news(self) -> None:
        async with self.connection.sender("news") as sender:
            for number in range(NEWS):
                self.outcomes[(await sender.send(f"{self.name} {number}")).state.name] += 1


async def main() -> int:
    url, name, *others = sys.argv[1:]
    async with connect(url) as connection:
        participant = Participant(connection, name, others)
        with trio.move_on_after(PATIENCE) as patience:
            await participant.run()
    facts = {
        "orders": participant.orders,
        "news": participant.news,
        "outcomes": participant.outcomes,
        "answers": participant.answers,
        "reply_to": sorted(participant.reply_to),
    }
    print(json.dumps(facts), flush=True)
    return int(patience.cancelled_caught)


if __name__ == "__main__":
    sys.exit(trio.run(main))
