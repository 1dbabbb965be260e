"""Reading the site file again: what may change does, what needs a restart is named, and a bad file changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import trustme

from tests.router.running import PLAIN, Running, running, until
from tests.router.site_file import SiteFile
from tests.transport.authority import replace
from van.client import AuthenticationError, connect
from van.router.config import default_config
from van.router.reload import changes, reload, taken_over
from van.router.site import Site
from van.routing.address import Distribution
from van.routing.budget import payload_limit

USERS = """
[router]
id = "scene"
users_file = "users.toml"

[[listener]]
name = "users"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["PLAIN", "SCRAM-SHA-256"]
allow_insecure_plain = true
"""

TLS = """
[router]
id = "scene"

[[listener]]
name = "tls"
url = "amqps://127.0.0.1:0"
ssl_profile = "server"

[[ssl_profile]]
name = "server"
cert_file = "cert.pem"
private_key_file = "key.pem"
"""


async def again(scene: Running, site: SiteFile, text: str) -> dict[str, Any]:
    """Write the file anew and reload it; the line that tells what came of it."""
    site.write(text)
    before = len(scene.log)
    await reload(scene.site)
    return next(line for line in scene.log[before:] if line["event"].startswith("configuration"))


async def test_nothing_has_changed(site: SiteFile) -> None:
    async with running(site) as scene:
        line = await again(scene, site, PLAIN)
        assert line["event"] == "configuration reloaded"
        assert (line["taken_over"], line["needs_restart"]) == ([], [])


async def test_what_may_change_does(site: SiteFile) -> None:
    async with running(site) as scene:
        line = await again(
            scene,
            site,
            """
            [router]
            id = "scene"
            memory_limit = "5 MiB"
            max_connections = 1
            stream_stall_seconds = 7
            default_distribution = "closest"

            [log]
            level = "error"
            levels = { router = "info" }

            [[listener]]
            name = "open"
            url = "amqp://127.0.0.1:0"
            max_connections = 3
            """,
        )
        assert line["needs_restart"] == []
        assert line["taken_over"] == [
            "router.default_distribution",
            "router.memory_limit",
            "router.max_connections",
            "router.stream_stall_seconds",
            "log.level",
            "log.levels",
            'listener "open".max_connections',
        ]
        router = scene.site.router
        assert (router.budget.limit, router.stream_stall_seconds) == (payload_limit(5 * 1024 * 1024), 7)
        assert router.default_distribution is Distribution.CLOSEST
        assert (scene.site.limit.limit, scene.site.listeners[0].limit.limit) == (1, 3)
        before = scene.text
        async with connect(scene.url()):
            pass
        assert scene.text == before, "the level of transport is error now"


async def test_what_needs_a_restart_is_named_and_stays(site: SiteFile) -> None:
    async with running(site) as scene:
        line = await again(
            scene,
            site,
            """
            [router]
            id = "other"
            memory_limit = "5 MiB"

            [log]
            format = "text"

            [[listener]]
            name = "open"
            url = "amqp://127.0.0.1:0"
            max_links = 3

            [[listener]]
            name = "more"
            url = "amqp://127.0.0.1:0"

            [[connector]]
            name = "hub"
            url = "amqp://127.0.0.1:1"
            """,
        )
        assert line["taken_over"] == ["router.memory_limit"]
        assert line["needs_restart"] == [
            "router.id",
            "log.format",
            'listener "open".max_links',
            'listener "more"',
            'connector "hub"',
        ]
        assert scene.site.config.router.id == "scene"
        # It is named again as long as it is so.
        line = await again(scene, site, PLAIN.replace("scene", "other"))
        assert line["needs_restart"] == ["router.id"]


@pytest.mark.parametrize(
    "text", ["[router\n", "[router]\nmemory_limit = '5 MiB'\nidd = 1\n", '[router]\nusers_file = "gone.toml"\n']
)
async def test_a_bad_file_changes_nothing(site: SiteFile, text: str) -> None:
    async with running(site) as scene:
        config, limit = scene.site.config, scene.site.router.budget.limit
        line = await again(scene, site, text)
        assert (line["event"], line["level"]) == ("configuration not reloaded, the old one stays", "error")
        assert all(error.startswith(str(site.folder)) for error in line["errors"])
        assert scene.site.config is config
        assert scene.site.router.budget.limit == limit
        async with connect(scene.url()):
            pass


async def test_addresses_that_are_new_are_treated_by_the_new_rules(site: SiteFile) -> None:
    async with (
        running(site) as scene,
        connect(scene.url()) as connection,
        connection.receiver("news.old") as old,
        connection.receiver("news.old") as old_too,
    ):
        line = await again(scene, site, f'{PLAIN}\n[[address]]\nprefix = "news"\ndistribution = "multicast"\n')
        assert (line["taken_over"], line["needs_restart"]) == (["address"], [])
        async with connection.receiver("news.new") as new, connection.receiver("news.new") as new_too:
            async with connection.sender("news.new") as sender:
                tracker = sender.send_nowait("to both")
                for receiver in (new, new_too):
                    (await receiver.receive()).accept()
                assert (await tracker.wait()).accepted
            async with connection.sender("news.old") as sender:
                tracker = sender.send_nowait("to one")
                await until(lambda: old.queued + old_too.queued > 0)
                (await (old if old.queued else old_too).receive()).accept()
                assert (await tracker.wait()).accepted
                assert old.queued + old_too.queued == 0


async def test_users_are_read_again(site: SiteFile) -> None:
    users = site.folder / "users.toml"
    users.write_text('[users]\nalice = "pencil"\n')
    async with running(site, USERS) as scene:

        async def may_come(user: str, password: str, mechanism: str) -> bool:
            options = {"sasl_username": user, "sasl_password": password, "sasl_mechanisms": [mechanism]}
            try:
                async with connect(scene.url("users"), allow_insecure_plain=True, **options):  # type: ignore[arg-type]
                    return True
            except AuthenticationError:
                return False

        assert await may_come("alice", "pencil", "PLAIN")
        assert not await may_come("bob", "chalk", "SCRAM-SHA-256")
        async with connect(scene.url("users"), sasl_username="alice", sasl_password="pencil") as alice:
            users.write_text('[users]\nbob = "chalk"\n')
            line = await again(scene, site, USERS)
            assert (line["taken_over"], line["needs_restart"]) == (["users"], [])
            assert not await may_come("alice", "pencil", "PLAIN")
            for mechanism in ("PLAIN", "SCRAM-SHA-256"):
                assert await may_come("bob", "chalk", mechanism)
            # Who is in stays in.
            async with alice.sender("x"):
                pass
            # Listeners go on with their mechanisms, and users can use them.
            line = await again(scene, site, USERS.replace(', "SCRAM-SHA-256"', ""))
            assert line["needs_restart"] == ['listener "users".sasl_mechanisms']
            assert await may_come("bob", "chalk", "SCRAM-SHA-256")
            users.write_text("[users]\nbob = 1\n")
            line = await again(scene, site, USERS)
            assert line["event"] == "configuration not reloaded, the old one stays"
            assert await may_come("bob", "chalk", "PLAIN")
        assert "pencil" not in scene.text
        assert "chalk" not in scene.text


async def test_certificates_are_renewed_and_connections_live_on(certificates: SiteFile) -> None:
    old, new = trustme.CA(), trustme.CA()

    def install(authority: trustme.CA) -> None:
        issued = authority.issue_cert("localhost")
        replace(certificates.folder / "cert.pem", b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        replace(certificates.folder / "key.pem", issued.private_key_pem.bytes())

    for name, authority in (("old", old), ("new", new)):
        (certificates.folder / f"ca-{name}.pem").write_bytes(authority.cert_pem.bytes())
    install(old)
    async with running(certificates, TLS) as scene:
        url = scene.url("tls", "amqps")
        async with (
            connect(url, ca_cert_file=certificates.folder / "ca-old.pem") as before,
            before.receiver("q", credit=1) as receiver,
        ):
            install(new)
            await reload(scene.site)
            assert scene.lines("certificates re-read")
            async with (
                connect(url, ca_cert_file=certificates.folder / "ca-new.pem") as after,
                after.sender("q") as sender,
            ):
                tracker = sender.send_nowait("from the new to the old")
                (await receiver.receive()).accept()
                assert (await tracker.wait()).accepted
            # Half of a pair changes nothing.
            replace(certificates.folder / "key.pem", b"nothing of the kind")
            await scene.line("certificates not re-read, the old ones stay in use")
            async with connect(url, ca_cert_file=certificates.folder / "ca-new.pem"):
                pass


async def test_the_embedded_default_has_no_file_to_read(site: SiteFile) -> None:
    async with running(site) as scene:
        scene.site.config = default_config()
        await reload(scene.site)
        assert scene.lines("nothing to reload")


def test_what_is_in_force_after_a_reload_differs_in_nothing_that_may_change(site: SiteFile) -> None:
    old = site.load(PLAIN)
    new = site.load(f'{PLAIN}max_connections = 3\nmax_links = 3\n[log]\nlevel = "debug"\nformat = "json"\n')
    live, restart = changes(taken_over(old, new), new)
    assert (live, restart) == ([], ["log.format", 'listener "open".max_links'])


def test_a_site_with_two_rules_for_one_address_never_gets_here(site: SiteFile) -> None:
    text = f'{PLAIN}\n[[address]]\nprefix = "a.b"\n[[address]]\npattern = "a/b/#"\n'
    assert site.errors(text)
    assert Site(site.load(PLAIN)).listeners
