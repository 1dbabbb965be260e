"""Sites that are joined to networks, and questions to the names of one of them."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import dns.asyncquery
import dns.message
import trio

from tests.router.running import PATIENCE
from tests.router.site_file import SiteFile
from van.router import log
from van.router.site import Site


class Sites:
    """Sites that run in this process, by name."""

    def __init__(self, site_file: SiteFile, nursery: trio.Nursery) -> None:
        self._site_file = site_file
        self._nursery = nursery
        self._stream = io.StringIO()
        self.sites: dict[str, Site] = {}
        self._before: Site | None = None

    async def start(self, name: str, text: str = "", *, mode: str = "interior") -> Site:
        """A site; it connects to the last interior one before it."""
        role = "edge" if mode == "edge" else "inter-router"
        head = f'[router]\nid = "{name}"\nmode = "{mode}"\n'
        if mode == "interior":
            head += "hello_interval_seconds = 0.1\n"
            for listener in ("inter-router", "edge"):
                head += f'[[listener]]\nname = "{listener}"\nurl = "amqp://127.0.0.1:0"\nrole = "{listener}"\n'
        if self._before is not None:
            port = self._before.listener(role).port
            head += f'[[connector]]\nurl = "amqp://127.0.0.1:{port}"\nrole = "{role}"\n'
        config = self._site_file.load(head + text)
        if not self.sites:
            log.configure(config.log, stream=self._stream, router=name)
        site = self.sites[name] = Site(config)
        started = trio.Event()
        self._nursery.start_soon(site.run, started.set)
        await started.wait()
        if mode == "interior":
            self._before = site
        return site

    def last(self, site: Site | None) -> None:
        """Have the next one connect there, or nowhere."""
        self._before = site

    def stop(self, name: str) -> None:
        """A site ends, all at once."""
        self.sites.pop(name).stop()

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self._stream.getvalue().splitlines()) if line["event"] == event]

    async def joined(self) -> None:
        """All know all."""

        def ready() -> bool:
            engines = [site.router.engine for site in self.sites.values() if site.config.router.mode == "interior"]
            return all(engine is not None and len(engine.nodes) == len(engines) - 1 for engine in engines)

        await until(ready)


@asynccontextmanager
async def sites(site_file: SiteFile) -> AsyncIterator[Sites]:
    with trio.fail_after(2 * PATIENCE):
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            made = Sites(site_file, nursery)
            yield made
            for site in made.sites.values():
                site.stop()
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody work until this holds; the patience of the scene ends it otherwise."""
    while not condition():
        await trio.lowlevel.checkpoint()


def dns_port(site: Site) -> int:
    return site.names.zones[0].server.port


async def ask(site: Site, name: str, kind: str = "A", *, tcp: bool = False) -> list[str]:
    """What a client that knows the server hears."""
    answer = await question(site, name, kind, tcp=tcp)
    return sorted(rdata.to_text() for rrset in answer.answer for rdata in rrset)


async def question(site: Site, name: str, kind: str = "A", *, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    by = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await by(query, "127.0.0.1", port=dns_port(site), timeout=10)
