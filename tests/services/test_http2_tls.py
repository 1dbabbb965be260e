"""HTTP/2 behind TLS at both ends: gRPC with its own credentials, and clients that agree on either version by ALPN."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import pytest
import trio
import trustme

from tests.interop.programs.servers import find
from tests.interop.programs.sites import service
from tests.router.running import PLAIN, running
from tests.router.site_file import SiteFile
from tests.services.grpc_ends import OPTIONS, Handlers, Stub, eventually, server

PATIENCE = 20


class Certificates:
    """An authority and a server's certificate, as files and as a profile of a site file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "ca.pem"
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(self.authority)
        self.key = issued.private_key_pem.bytes()
        self.chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (folder / "server.pem").write_bytes(self.key + self.chain)
        self.profile = (
            f'[[ssl_profile]]\nname = "site"\nca_cert_file = "{self.authority}"\n'
            f'cert_file = "{folder / "server.pem"}"\nprivate_key_file = "{folder / "server.pem"}"\n'
        )


def call_and_fetch(certificates: Certificates, port: int, handlers: Handlers) -> None:
    trusted = grpc.ssl_channel_credentials(certificates.authority.read_bytes())
    with grpc.secure_channel(f"localhost:{port}", trusted, options=OPTIONS) as channel:
        stub = Stub(channel)
        eventually(lambda: stub.unary.future(b"", timeout=PATIENCE).exception() is None)
        assert stub.unary(b"hello", timeout=PATIENCE) == b"one:hello"
        assert list(stub.chat(iter([b"a", b"b"]), timeout=PATIENCE)) == [b"one:a", b"one:b"]
    for asking, version in (("--http2", "2"), ("--http1.1", "1.1"), ("--no-alpn", "1.1")):
        command = [find("curl", "curl"), "-sS", asking, "--cacert", str(certificates.authority), "-o", "/dev/null"]
        url = f"https://localhost:{port}/"
        said = subprocess.run(
            [*command, "-w", "%{http_version}", url], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        # What a server of gRPC says of a request that is no call is its own business.
        assert said.stdout == version


@pytest.mark.interop
@pytest.mark.parametrize("scheme", ["http2", "https"])
async def test_tls_at_both_ends(tmp_path: Path, scheme: str) -> None:
    certificates = Certificates(tmp_path)
    credentials = grpc.ssl_server_credentials([(certificates.key, certificates.chain)])
    with server("one", credentials=credentials) as (port, handlers):
        text = "\n".join(
            (
                PLAIN,
                service("listen", f"{scheme}://127.0.0.1:0", "calls", ssl_profile="site"),
                service("connect", f"http2://localhost:{port}", "calls", name="server", ssl_profile="site"),
                certificates.profile,
            )
        )
        async with running(SiteFile(tmp_path), text) as site:
            await site.line("service listening")
            (here,) = [one.endpoint.port for one in site.site.services.running.values() if one.entry.listen is not None]
            await trio.to_thread.run_sync(call_and_fetch, certificates, here, handlers)
