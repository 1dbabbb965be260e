"""The programs in `examples/` and those of the documentation do what they say."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import trio

from tests.client.sites import RunningSite
from tests.interop.harness import PROJECT, Program
from van.client import connect

EXAMPLES = PROJECT / "examples"


def start(name: str, url: str) -> Program:
    return Program([sys.executable, "-W", "error", str(EXAMPLES / name), url], {"PYTHONPATH": str(PROJECT)})


async def output(program: Program, status: int = 0) -> list[str]:
    try:
        return await trio.to_thread.run_sync(program.output, status)
    finally:
        program.kill()


async def test_send_and_receive(site: RunningSite) -> None:
    receiver = start("receive.py", site.url())
    sender = start("send.py", site.url())
    assert await output(sender) == ["coffee accepted", "tea accepted", "milk accepted"]
    assert await output(receiver) == ["one coffee", "one tea", "one milk"]


async def test_request_and_respond(site: RunningSite) -> None:
    responder = start("respond.py", site.url())
    try:
        assert await output(start("request.py", site.url())) == ["QUICK", "BROWN", "FOX"]
        responder.signal(signal.SIGTERM)
        await output(responder, -signal.SIGTERM)
    finally:
        responder.kill()


def programs(path: Path) -> list[str]:
    """The fenced pieces of Python in a page."""
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


async def test_the_pieces_of_the_client_page(site: RunningSite) -> None:
    pieces = programs(PROJECT / "docs" / "client.md")
    assert len(pieces) >= 4
    async with connect(site.url()) as connection:

        async def accept_everything(address: str) -> None:
            async with connection.receiver(address) as receiver:
                async for delivery in receiver:
                    delivery.accept()

        for piece in pieces:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept_everything, "orders")
                source = "import trio\nimport van.client\nasync def piece(url, connection):\n" + re.sub(
                    r"(?m)^(?=.)", "    ", piece
                )
                space: dict[str, object] = {}
                exec(compile(source, "docs/client.md", "exec"), space)
                with trio.move_on_after(2):
                    await space["piece"](site.url(), connection)  # type: ignore[operator]
                nursery.cancel_scope.cancel()
