"""Certificate authorities for scenes, and the files of a profile on disk."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import trustme

from van.transport.tls import SslProfile, TlsCredentials


class Authority:
    """One authority that writes profiles into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA(organization_name="scene")

    def profile(
        self,
        name: str = "server",
        *identities: str,
        common_name: str | None = None,
        days: float = 30,
        trusts: Authority | None = None,
        **options: object,
    ) -> SslProfile:
        """Write `NAME-ca.pem`, `NAME.pem` and `NAME-key.pem`; the certificate is valid for `days` from now."""
        now = dt.datetime.now(dt.UTC)
        certificate = self.ca.issue_cert(
            *(identities or ("localhost", "127.0.0.1", "::1")),
            common_name=common_name,
            organization_name="ACME, Inc.",
            not_before=now - dt.timedelta(days=60),
            not_after=now + dt.timedelta(days=days),
        )
        paths = [self.folder / f"{name}{end}.pem" for end in ("-ca", "", "-key")]
        contents = [
            (trusts or self).ca.cert_pem.bytes(),
            b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
            certificate.private_key_pem.bytes(),
        ]
        for path, content in zip(paths, contents, strict=True):
            replace(path, content)
        return SslProfile(name, paths[0], paths[1], paths[2], **options)  # type: ignore[arg-type]

    def trust_only(self, name: str = "trust") -> SslProfile:
        """A client's profile without a certificate of its own."""
        path = self.folder / f"{name}-ca.pem"
        replace(path, self.ca.cert_pem.bytes())
        return SslProfile(name, path)

    def credentials(self, *args: str, **options: object) -> TlsCredentials:
        return TlsCredentials(self.profile(*args, **options))  # type: ignore[arg-type]


def replace(path: Path, content: bytes) -> None:
    """Replace a file as renewal programs do, by renaming: another inode, whatever the clock's resolution."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)
