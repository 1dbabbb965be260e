"""Datagrams and names of van sites whose only way to one another is a skrouterd."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.interop.skrouterd.network import Skrouterd
from tests.ports import free_ports
from tests.router.site_file import SiteFile
from tests.services.networks import ask as ask_name
from tests.services.networks import sites, until
from tests.services.test_names import NAMES, connect, hear, server
from tests.services.test_udp_sites import MODES, ask, before, behind, client_of, echo, port_of, reachable

LISTENER = """listener {{
    host: 127.0.0.1
    port: {port}
    role: {role}
    saslMechanisms: ANONYMOUS
    authenticatePeer: no
}}
"""
# As networks of Skupper have it.
MULTICAST = "address {\n    prefix: mc\n    distribution: multicast\n}\n"


@pytest.fixture(scope="module")
def ports(skrouterd: Skrouterd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """A skrouterd with ports for both roles."""
    found = dict(zip(("interior", "edge"), free_ports(2), strict=True))
    config = tmp_path_factory.mktemp("skrouterd") / "M.conf"
    roles = {"interior": "inter-router", "edge": "edge"}
    listeners = "".join(LISTENER.format(port=port, role=roles[mode]) for mode, port in found.items())
    config.write_text("router {\n    id: M\n    mode: interior\n}\n" + listeners + MULTICAST)
    with subprocess.Popen(
        [str(skrouterd.router), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    ) as process:
        yield found
        process.terminate()


@pytest.mark.interop
@pytest.mark.parametrize("modes", MODES)
async def test_flows_and_names_by_a_skrouterd(ports: dict[str, int], tmp_path: Path, modes: tuple[str, str]) -> None:
    def connector(mode: str) -> str:
        role = "edge" if mode == "edge" else "inter-router"
        return f'[[connector]]\nurl = "amqp://127.0.0.1:{ports[mode]}"\nrole = "{role}"\n'

    async with (
        sites(SiteFile(tmp_path)) as running,
        trio.open_nursery() as nursery,
        echo(nursery, "one") as one,
        echo(nursery, "two") as two,
    ):
        port = await server(nursery, b"orders here")
        near = await running.start("near", connector(modes[0]) + before() + NAMES, mode=modes[0])
        running.last(None)
        servers = behind(one.port) + behind(two.port) + connect("orders", port)
        await running.start("far", connector(modes[1]) + servers, mode=modes[1])
        await reachable(near)
        heard: set[str] = set()
        for client in ("anna", "bert", "cleo", "dora"):
            async with client_of(port_of(near)) as sock:
                found = {await ask(sock, client, count) for count in range(1, 6)}
                assert len(found) == 1
                heard |= found
        assert heard == {"one", "two"}
        await until(lambda: bool(near.names.find("orders")))
        (host,) = await ask_name(near, "orders.van")
        assert await hear(host, port) == b"orders here"
        nursery.cancel_scope.cancel()
