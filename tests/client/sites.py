"""A real router in the scene's own process, with listeners on ports of their own."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from van.router import log
from van.router.config import load_config
from van.router.site import Site

PATIENCE = 20.0
"""Seconds that a scene may take: far more than it needs, so that only a hang gets there."""

PLAIN_SITE = """
[router]
id = "scene"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[address]]
prefix = "news"
distribution = "multicast"

[[address]]
prefix = "closed"
distribution = "unavailable"
"""


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that other tasks do makes this true; the scene has its own limit if nothing does."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event that a scene could see
        await trio.sleep(0.001)


class RunningSite:
    """A site that runs; `log` is what it has logged."""

    def __init__(self, site: Site, log_stream: io.StringIO) -> None:
        self.site = site
        self._log = log_stream

    @property
    def log(self) -> str:
        return self._log.getvalue()

    def url(self, listener: str = "open", *, scheme: str = "", user: str = "", host: str = "127.0.0.1") -> str:
        for running in self.site.listeners:
            if running.name == listener:
                return f"{scheme or running.url.scheme}://{user}{host}:{running.port}{running.url.path}"
        raise LookupError(listener)


@asynccontextmanager
async def running_site(folder: Path, text: str = PLAIN_SITE) -> AsyncIterator[RunningSite]:
    path = folder / "site.toml"
    path.write_text(text)
    config = load_config(path)
    stream = io.StringIO()
    log.configure(config.log, stream=stream, router=config.router.id)
    site = Site(config)
    async with trio.open_nursery() as nursery:
        started = trio.Event()
        nursery.start_soon(site.run, started.set)
        await started.wait()
        with trio.fail_after(PATIENCE):
            yield RunningSite(site, stream)
        nursery.cancel_scope.cancel()
