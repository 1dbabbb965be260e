"""Send messages to the address `orders`, and say what became of each: `python examples/send.py [URL]`."""

import sys

import trio

import van.client


async def main(url: str) -> None:
    async with van.client.connect(url) as connection, connection.sender("orders") as sender:
        for drink in ("coffee", "tea", "milk"):
            outcome = await sender.send(f"one {drink}")
            print(drink, outcome)


trio.run(main, sys.argv[1] if len(sys.argv) > 1 else van.client.DEFAULT_URL)
