"""Routers that connect out: how they log in, where they say that clients may go, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.router.running import PLAIN, running, until
from tests.router.site_file import SiteFile
from van.client import connect
from van.router.site import Site

HUB = """
[router]
id = "hub"
users_file = "users.toml"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"
failover_urls = ["amqp://elsewhere.example.com:5673", "wss://elsewhere.example.com/van"]

[[listener]]
name = "users"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["PLAIN", "SCRAM-SHA-256"]
allow_insecure_plain = true

[[listener]]
name = "mutual"
url = "amqps://localhost:0"
ssl_profile = "hub"
sasl_mechanisms = ["EXTERNAL"]

[[ssl_profile]]
name = "hub"
ca_cert_file = "ca.pem"
cert_file = "cert.pem"
private_key_file = "key.pem"
uid_format = "n"
"""

OUTWARD = """
[router]
id = "leaf"

[[connector]]
name = "hub"
url = "{scheme}://localhost:{port}"
"""


class Places:
    """A folder with site file and certificates for each of two routers."""

    def __init__(self, folder: Path) -> None:
        self.hub, self.leaf = (SiteFile(folder / name) for name in ("hub", "leaf"))
        authority = trustme.CA()
        for place, name in ((self.hub, "localhost"), (self.leaf, "leaf.example.com")):
            place.folder.mkdir()
            issued = authority.issue_cert(name, common_name=name)
            (place.folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
            (place.folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
            (place.folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
        (self.hub.folder / "users.toml").write_text('[users]\nleaf = "sesame-street"\n')


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_with_a_password(places: Places, mechanism: str) -> None:
    async with running(places.hub, HUB) as hub:
        text = OUTWARD.format(scheme="amqp", port=hub.port("users")) + (
            f'sasl_mechanisms = ["{mechanism}"]\nsasl_username = "leaf"\nsasl_password = "sesame-street"\n'
            "allow_insecure_plain = true\n"
        )
        async with running(places.leaf, text) as leaf:
            await until(lambda: leaf.site.connectors[0].status == "SUCCESS")
            await until(lambda: any(adaptor.opened for adaptor, _ in hub.site.adaptors.values()))
            ((theirs, _),) = hub.site.adaptors.values()
            assert theirs.connection.identity == "leaf"
            assert theirs.connection.remote_open is not None
            assert theirs.connection.remote_open.container_id == "leaf"
            leaf.site.drain("a test")
            await leaf.over.wait()
            assert leaf.code == 0
            assert "sesame-street" not in leaf.text


async def test_with_a_certificate(places: Places) -> None:
    async with running(places.hub, HUB) as hub:
        text = OUTWARD.format(scheme="amqps", port=hub.port("mutual")) + (
            'ssl_profile = "leaf"\n[[ssl_profile]]\nname = "leaf"\nca_cert_file = "ca.pem"\ncert_file = "cert.pem"\n'
            'private_key_file = "key.pem"\n'
        )
        async with running(places.leaf, text) as leaf:
            await until(lambda: leaf.site.connectors[0].status == "SUCCESS")
            ((theirs, info),) = hub.site.adaptors.values()
            # As the profile's uid_format asks: the common name alone.
            assert (theirs.connection.identity, info.tls_identity) == ("leaf.example.com", "leaf.example.com")


async def test_nobody_there_is_told_once_and_does_not_delay_the_end(places: Places) -> None:
    async with running(places.hub, HUB) as hub:
        port = hub.port("open")
    async with running(places.leaf, OUTWARD.format(scheme="amqp", port=port)) as leaf:
        line = await leaf.line("cannot connect")
        assert line["connector"] == "hub"
        leaf.site.drain("a test")
        await leaf.over.wait()
        assert leaf.code == 0
        assert not leaf.lines("connections cut")


async def test_without_a_password_it_is_refused_and_says_so(places: Places) -> None:
    async with (
        running(places.hub, HUB) as hub,
        running(places.leaf, OUTWARD.format(scheme="amqp", port=hub.port("users"))) as leaf,
    ):
        line = await leaf.line("cannot connect")
        assert "ANONYMOUS" in line["reason"] or "mechanism" in line["reason"]
        assert leaf.site.connectors[0].status in ("FAILED", "CONNECTING")


async def test_clients_are_told_where_else_they_may_go(places: Places) -> None:
    async with running(places.hub, HUB) as hub, connect(hub.url()) as connection:
        opened = connection._adaptor.connection.remote_open
        assert opened is not None
        assert opened.properties is not None
        assert opened.properties["failover-server-list"] == [
            {"network-host": "elsewhere.example.com", "port": "5673", "scheme": "amqp"},
            {"network-host": "elsewhere.example.com", "port": "443", "scheme": "wss"},
        ]


async def test_a_port_that_is_taken_leaves_no_other_one_bound(places: Places) -> None:
    async with running(places.hub, PLAIN) as taken:
        text = PLAIN + f'[[listener]]\nname = "more"\nurl = "amqp://127.0.0.1:{taken.port()}"\n'
        site = Site(places.leaf.load(text))
        assert await site.run() == 1
        assert all(listener.addresses == [] for listener in site.listeners)
        assert taken.lines("cannot listen")
