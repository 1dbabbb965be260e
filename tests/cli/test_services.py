"""`van expose`, `van bind` and `van status services`, against a router that is a process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.cli.vans import Van
from tests.client.sites import running_site
from van.cli.errors import StoppedError, UsageError
from van.cli.services import add, all_or_one, everywhere, parse_setting, remove, service_url
from van.client import connect


@pytest.fixture
def server() -> Iterator[int]:
    """A server that answers in capitals; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def serve() -> None:
            try:
                while True:
                    client, _ = listening.accept()
                    with client:
                        while data := client.recv(1000):
                            client.sendall(data.upper())
            except OSError:
                return  # the scene is over

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_server_is_exposed_and_a_port_bound_in_one_command_each(van: Van, address: str, server: int) -> None:
    done = van("bind", address, "tcp://127.0.0.1:0", "--name", "port")
    assert done.returncode == 0
    assert done.stdout.endswith(f"leads to {address}; the port opens when somebody stands behind that address (port)\n")
    done = van("expose", address, f"tcp://127.0.0.1:{server}", "-s", "idle_timeout_seconds=60", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["end"]) == (0, "connect")
    lines = van("status", "services").stdout.splitlines()
    assert lines[0].split()[:6] == ["address", "router", "end", "where", "status", "connections"]
    listening, connecting = (line.split() for line in lines if address in line)
    assert (listening[1:3], listening[4]) == (["scene", "listen"], "up")
    assert connecting[2:4] == ["connect", f"tcp://127.0.0.1:{server}"]
    with socket.create_connection(("127.0.0.1", int(listening[3].rpartition(":")[2])), timeout=10) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"
    done = van("bind", address, "--remove")
    assert (done.returncode, done.stdout) == (0, f"removed: {listening[3]} (port)\n")


async def test_which_one_is_to_be_removed_has_to_be_said(
    van: Van, address: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with connect(van.router.url()) as connection:
        for port in (1, 2):
            url = f"tcp://127.0.0.1:{port}"
            await add(connection, "connect", address, url, name=None, settings=(), seconds=10.0, as_json=False)
        with pytest.raises(UsageError, match=r"^which one\? tcp://127.0.0.1:1, tcp://127.0.0.1:2$"):
            await remove(connection, "connect", address, None, seconds=10.0)
        for which in ("tcp://127.0.0.1:2", None):
            await remove(connection, "connect", address, which, seconds=10.0)
        with pytest.raises(StoppedError, match=f"no such service; those of {address} that connect here: none"):
            await remove(connection, "connect", address, None, seconds=10.0)
        rows = await all_or_one(connection, "scene", None, 10.0)
        assert address not in [row["address"] for row in rows]
    written = capfdbinary.readouterr().out.splitlines()
    assert written[0] == f"tcp://127.0.0.1:1 stands behind {address} (connect/127.0.0.1:1)".encode()
    assert written[3] == b"removed: tcp://127.0.0.1:1 (connect/127.0.0.1:1)"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("expose", "x"), 2, "URL is missing"),
        (("bind", "--remove", "x", "-s", "a=b"), 2, "--remove goes with no other setting"),
        (("expose", "x", "tcp://127.0.0.1:1", "-s", "idle_timeout_second=5"), 1, 'you mean "idle_timeout_seconds"?'),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told(van: Van, arguments: tuple[str, ...], code: int, text: str) -> None:
    done = van(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("always_open=true", ("alwaysOpen", True)),
        ("name=a b=c", ("name", "a b=c")),
        ('alpn=["h2"]', ("alpn", ["h2"])),
    ],
)
def test_settings_are_written_as_in_the_site_file(text: str, setting: tuple[str, object]) -> None:
    assert parse_setting(text) == setting
    with pytest.raises(UsageError):
        parse_setting("=1")
    with pytest.raises(UsageError, match='did you mean "tcp"'):
        service_url("listen", "tpc://:1")


SITE = """
[router]
id = "{id}"
mode = "{mode}"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[service]]
listen = "tcp://127.0.0.1:0"
address = "{id}"
"""
ROUTERS = '\n[[listener]]\nname = "{role}"\nurl = "amqp://127.0.0.1:0"\nrole = "{role}"\n'
HUB = SITE + ROUTERS.replace("{role}", "inter-router") + ROUTERS.replace("{role}", "edge")
OUTWARD = SITE + '\n[[connector]]\nurl = "amqp://127.0.0.1:{port}"\nrole = "{role}"\n'


async def test_services_are_shown_of_every_site_whichever_is_asked(tmp_path: Path) -> None:
    for name in ("hub", "leaf", "edge"):
        (tmp_path / name).mkdir()
    async with running_site(tmp_path / "hub", HUB.format(id="hub", mode="interior")) as hub:
        ports = {listener.name: listener.port for listener in hub.site.listeners}
        leaf_text = OUTWARD.format(id="leaf", mode="interior", port=ports["inter-router"], role="inter-router")
        edge_text = OUTWARD.format(id="edge", mode="edge", port=ports["edge"], role="edge")
        async with (
            running_site(tmp_path / "leaf", leaf_text) as leaf,
            running_site(tmp_path / "edge", edge_text) as edge,
        ):
            for site in (hub, leaf, edge):
                async with connect(site.url()) as connection:
                    with trio.fail_after(20):
                        rows = await everywhere(connection, 10.0)
                        while len(rows) < 3:
                            await trio.lowlevel.checkpoint()
                            rows = await everywhere(connection, 10.0)
                assert [(row["address"], row["router"]) for row in rows] == [
                    ("edge", "edge"), ("hub", "hub"), ("leaf", "leaf")
                ]  # fmt: skip
