"""Ask whoever answers at the address `upper`, as `respond.py` does: `python examples/request.py [URL]`."""

import sys

import trio

import van.client


async def main(url: str) -> None:
    async with van.client.connect(url) as connection, connection.requester("upper") as requester:
        for text in ("quick", "brown", "fox"):
            reply = await requester.request(text, timeout=10)
            print(van.client.body_of(reply))


trio.run(main, sys.argv[1] if len(sys.argv) > 1 else van.client.DEFAULT_URL)
