"""One router process for all scenes of this folder, its certificates and users, and the foreign programs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.harness import (
    Certificates,
    Cyrus,
    Proton,
    Rhea,
    Router,
    find_cyrus,
    find_proton,
    find_proton_with_scram,
    find_rhea,
)

# All these scenes are to pass with any number of processes; those that are about several have their own router.
WORKERS = int(os.environ.get("VAN_INTEROP_WORKERS", "1"))

USERS = {"alice": "pencil", "bob": "chalk and cheese"}

SITE = """
[router]
id = "interop"
workers = {workers}
users_file = "users.toml"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:{open_port}"
sasl_mechanisms = ["ANONYMOUS"]

[[listener]]
name = "users"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
allow_insecure_plain = true

[[listener]]
name = "scram"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

[[listener]]
name = "tls"
url = "amqps://127.0.0.1:0"
ssl_profile = "server"
sasl_mechanisms = ["ANONYMOUS", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

[[listener]]
name = "mutual"
url = "amqps://127.0.0.1:0"
ssl_profile = "mutual"
sasl_mechanisms = ["EXTERNAL"]

[[listener]]
name = "known"
url = "amqps://127.0.0.1:0"
ssl_profile = "mutual"
authenticate_peer = true
sasl_mechanisms = ["EXTERNAL", "ANONYMOUS"]

[[listener]]
name = "ws"
url = "ws://127.0.0.1:0/van"
sasl_mechanisms = ["ANONYMOUS", "PLAIN"]
allow_insecure_plain = true

[[listener]]
name = "wss"
url = "wss://127.0.0.1:0/van"
ssl_profile = "server"
sasl_mechanisms = ["ANONYMOUS", "PLAIN"]

[[listener]]
name = "wss-mutual"
url = "wss://127.0.0.1:0/van"
ssl_profile = "mutual"
sasl_mechanisms = ["EXTERNAL"]

[[ssl_profile]]
name = "server"
cert_file = "server.pem"
private_key_file = "server.key"

[[ssl_profile]]
name = "mutual"
ca_cert_file = "ca.pem"
cert_file = "server.pem"
private_key_file = "server.key"

[[address]]
prefix = "news"
distribution = "multicast"
"""


def _amqp_port_if_free() -> int:
    """5672, which some programs of others have written into them, or 0 if somebody is there on either loopback.

    Of the processes that share a run (pytest-xdist) only the first one takes it.
    """
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
        return 0
    for family, loopback in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as probe:
            if probe.connect_ex((loopback, 5672)) == 0:
                return 0
    return 5672


@pytest.fixture(scope="session")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="session")
def certificates(site_folder: Path) -> Certificates:
    return Certificates(site_folder)


@pytest.fixture(scope="session")
def router(site_folder: Path, certificates: Certificates) -> Iterator[Router]:
    users = "".join(f'"{user}" = "{password}"\n' for user, password in USERS.items())
    (site_folder / "users.toml").write_text(f"[users]\n{users}")
    site_file = site_folder / "site.toml"
    site_file.write_text(SITE.format(open_port=_amqp_port_if_free(), workers=WORKERS))
    running = Router(site_file)
    yield running
    running.stop()


@pytest.fixture
def proton(proton_found: None, router: Router, certificates: Certificates, tmp_path: Path) -> Iterator[Proton]:
    programs = Proton(router, certificates, tmp_path)
    yield programs
    programs.end_all()
    router.check_alive()


@pytest.fixture
def rhea(rhea_found: tuple[str, str], router: Router, certificates: Certificates) -> Iterator[Rhea]:
    programs = Rhea(router, certificates, *rhea_found)
    yield programs
    programs.end_all()
    router.check_alive()


@pytest.fixture(scope="session")
def proton_found() -> None:
    find_proton()


@pytest.fixture
def proton_with_scram(
    scram_python: str, router: Router, certificates: Certificates, tmp_path: Path
) -> Iterator[Proton]:
    mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    programs = Proton(router, certificates, tmp_path, mechanisms, scram_python)
    yield programs
    programs.end_all()
    router.check_alive()


@pytest.fixture(scope="session")
def scram_python() -> str:
    return find_proton_with_scram()


@pytest.fixture
def cyrus(router: Router) -> Iterator[Cyrus]:
    find_cyrus()
    programs = Cyrus(router)
    yield programs
    programs.end_all()
    router.check_alive()


@pytest.fixture(scope="session")
def rhea_found() -> tuple[str, str]:
    return find_rhea()


@pytest.fixture
def address(request: pytest.FixtureRequest) -> str:
    """An address that no other scene uses."""
    return f"scene/{request.node.name}"
