"""Connections, links and addresses leave nothing behind: there are as many objects of each kind as before."""

from __future__ import annotations

import gc
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.router.running import Running, running, until
from tests.router.site_file import SiteFile
from tests.transport.authority import Authority
from van.client import connect

SITE = """
[router]
id = "scene"
"""
LISTENER = """
[[listener]]
name = "{scheme}"
url = "{scheme}://127.0.0.1:0"
"""
PROFILE = """
[[ssl_profile]]
name = "site"
cert_file = "server.pem"
private_key_file = "server-key.pem"
"""
VISITORS = 6
SCHEMES = ("amqp", "amqps", "ws", "wss")


def census() -> Counter[str]:
    """How many objects there are of each class of ours."""
    gc.collect()
    kinds = (type(found) for found in gc.get_objects())
    return Counter(f"{kind.__module__}.{kind.__name__}" for kind in kinds if str(kind.__module__).startswith("van."))


async def visit(scene: Running, scheme: str, address: str, authority: Path, *, stay: bool) -> None:
    """A connection with a link each way, and a message that goes round."""
    async with (
        connect(scene.url(scheme, scheme), ca_cert_file=authority) as connection,
        connection.receiver(address) as receiver,
        connection.sender(address) as sender,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(sender.send, b"hello")
        (await receiver.receive()).accept()
        if stay:
            await trio.sleep_forever()


async def rush(scene: Running, scheme: str, authority: Path, name: str, *, cut: bool) -> None:
    """Some at a time, each at an address of its own; `cut`: they go in the middle of whatever they do."""
    async with trio.open_nursery() as nursery:
        for number in range(VISITORS):
            nursery.start_soon(partial(visit, scene, scheme, f"{name}/{number}", authority, stay=cut))
        if cut:
            await until(lambda: len(scene.site.adaptors) == VISITORS)
            nursery.cancel_scope.cancel()
    await until(lambda: not scene.site.adaptors)
    await until(lambda: not any(listener.connections for listener in scene.site.listeners))


@pytest.mark.parametrize("cut", [False, True], ids=["in order", "cut"])
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_nothing_is_left_of_connections_that_have_gone(
    scheme: str, cut: bool, site: SiteFile
) -> None:
    authority = Authority(site.folder)
    profile = authority.profile()
    assert profile.ca_cert_file is not None
    text = SITE + LISTENER.format(scheme=scheme)
    if scheme in ("amqps", "wss"):
        text += 'ssl_profile = "site"\n' + PROFILE
    async with running(site, text) as scene:
        # The first have classes, caches and lists made that stay.
        await rush(scene, scheme, profile.ca_cert_file, "first", cut=cut)
        before = census()
        await rush(scene, scheme, profile.ca_cert_file, "second", cut=cut)
        # What each of them leaves is as many; the interpreter may still hold on to the last of something.
        assert {kind: more for kind, more in (census() - before).items() if more >= VISITORS} == {}
