"""Files that scenes of configuration need: a site file to write, certificates that fit and some that do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.router.site_file import SiteFile


@pytest.fixture
def site(tmp_path: Path) -> SiteFile:
    return SiteFile(tmp_path)


@pytest.fixture(scope="session")
def pem_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    other = authority.issue_cert("localhost")
    key = load_pem_private_key(server.private_key_pem.bytes(), password=None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
    return {
        "ca.pem": authority.cert_pem.bytes(),
        "cert.pem": b"".join(blob.bytes() for blob in server.cert_chain_pems),
        "both.pem": server.private_key_and_cert_chain_pem.bytes(),
        "key.pem": server.private_key_pem.bytes(),
        "locked.pem": locked,
        "other-key.pem": other.private_key_pem.bytes(),
        "garbage.pem": b"nothing of the kind\n",
    }


@pytest.fixture
def certificates(site: SiteFile, pem_files: dict[str, bytes]) -> SiteFile:
    """The site file's folder with certificates in it."""
    for name, content in pem_files.items():
        (site.folder / name).write_bytes(content)
    return site
