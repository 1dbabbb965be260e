"""A real site in the scene's own process, its log, and bare connections to it."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.router.site_file import SiteFile
from van.router import log
from van.router.site import Site

PATIENCE = 20.0
"""Seconds that a scene may take: far more than it needs, so that only a hang gets there."""

PLAIN = """
[router]
id = "scene"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"
"""


class Running:
    """A site that runs. `code` is its exit code once it has ended."""

    def __init__(self, site: Site, stream: io.StringIO) -> None:
        self.site = site
        self.code: int | None = None
        self.over = trio.Event()
        self._stream = stream

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]

    async def line(self, event: str) -> dict[str, Any]:
        """The only line of this event, as soon as it has been written."""
        await until(lambda: event in self.text)
        (line,) = self.lines(event)
        return line

    def port(self, listener: str = "open") -> int:
        return next(running.port for running in self.site.listeners if running.name == listener)

    def url(self, listener: str = "open", scheme: str = "amqp", user: str = "") -> str:
        return f"{scheme}://{user}localhost:{self.port(listener)}"

    @asynccontextmanager
    async def dial(self, listener: str = "open") -> AsyncIterator[trio.SocketStream]:
        """A bare TCP connection."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port(listener))
        async with stream:
            yield stream


@asynccontextmanager
async def running(site_file: SiteFile, text: str = PLAIN) -> AsyncIterator[Running]:
    """The site as `text` describes it, ready; it is stopped at the end of the scene if it still runs."""
    config = site_file.load(text)
    stream = io.StringIO()
    log.configure(config.log, stream=stream, router=config.router.id)
    scene = Running(Site(config), stream)
    started = trio.Event()

    async def run() -> None:
        scene.code = await scene.site.run(started.set)
        scene.over.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await started.wait()
            yield scene
            scene.site.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody work until this holds; the patience of the scene ends it otherwise."""
    while not condition():
        await trio.lowlevel.checkpoint()


async def until_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until the other side hangs up, in whatever manner."""
    heard = b""
    try:
        while data := await stream.receive_some(4096):
            heard += data
    except trio.BrokenResourceError:
        pass
    return heard
