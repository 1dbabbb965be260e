"""Answer requests at the address `upper` until stopped: `python examples/respond.py [URL]`."""

import sys

import trio

import van.client
from van.client import AmqpValue, Message, Properties


async def main(url: str) -> None:
    # The sender has no address of its own: each reply goes where its properties say.
    async with (
        van.client.connect(url) as connection,
        connection.receiver("upper") as receiver,
        connection.sender(None) as sender,
    ):
        async for delivery in receiver:
            asked = delivery.message.properties or Properties()
            properties = Properties(to=asked.reply_to, correlation_id=asked.correlation_id)
            sender.send_nowait(Message(properties=properties, body=AmqpValue(str(delivery.body).upper())))
            delivery.accept()


trio.run(main, sys.argv[1] if len(sys.argv) > 1 else van.client.DEFAULT_URL)
