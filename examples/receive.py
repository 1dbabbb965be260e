"""Receive three messages from the address `orders` and accept them: `python examples/receive.py [URL]`."""

import sys

import trio

import van.client


async def main(url: str) -> None:
    async with van.client.connect(url) as connection, connection.receiver("orders", credit=0) as receiver:
        receiver.grant(3)
        for _ in range(3):
            delivery = await receiver.receive()
            print(delivery.body)
            delivery.accept()


trio.run(main, sys.argv[1] if len(sys.argv) > 1 else van.client.DEFAULT_URL)
