"""A WebSocket client of another make: it says some things to an echo, and prints what comes back."""

from __future__ import annotations

import sys

import trio
import trio_websocket


async def main(port: int) -> None:
    with trio.fail_after(30):
        async with trio_websocket.open_websocket_url(f"ws://127.0.0.1:{port}/echo") as socket:
            for text in ("one", "two", "x" * 1_000_000):
                await socket.send_message(text)
                said = ""
                # What is large may come back in several messages.
                while len(said) < len(text):
                    said += str(await socket.get_message())
                print(text if said == text and len(text) < 10 else f"x{said.count('x')}")
    print("closed")


trio.run(main, int(sys.argv[1]))
