"""Who we are to the peer, and whom we trust: SASL mechanisms and TLS files from the arguments of `connect`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from van.amqp.sasl import AnonymousClient, ClientMechanism, ExternalClient, PlainClient
from van.transport.scram import SCRAM_HASHES, ScramClient
from van.transport.tls import SslProfile, TlsCredentials

# What we can do. Which one is used: the strongest that the peer offers.
MECHANISMS = ("ANONYMOUS", "PLAIN", *SCRAM_HASHES, "EXTERNAL")


def make_mechanisms(
    names: Sequence[str] | None, user: str | None, password: str | None, certificate: bool
) -> list[ClientMechanism]:
    """The mechanisms of these names; with None those that fit to what is known of us. Raises ValueError.

    With a user, only mechanisms that prove it: whoever gives a password does not want to come in as nobody.
    """
    if user is not None and password is None and not certificate:
        raise ValueError(f"user {user!r} without a password")
    if names is None:
        names = ["EXTERNAL"] if certificate else []
        names += [*SCRAM_HASHES, "PLAIN"] if user is not None and password is not None else ["ANONYMOUS"]
    mechanisms: list[ClientMechanism] = []
    for name in names:
        if name == "ANONYMOUS":
            mechanisms.append(AnonymousClient())
        elif name == "EXTERNAL":
            mechanisms.append(ExternalClient())
        elif name not in MECHANISMS:
            raise ValueError(f"unknown SASL mechanism {name!r}; there are {', '.join(MECHANISMS)}")
        elif user is None or password is None:
            raise ValueError(f"{name} needs a user and a password")
        elif name == "PLAIN":
            mechanisms.append(PlainClient(user, password))
        else:
            mechanisms.append(ScramClient(name, user, password, new_nonce))
    return mechanisms


def new_nonce() -> str:
    """What SCRAM asks for: printable, different each time, not to be guessed."""
    return secrets.token_urlsafe(18)


def make_credentials(
    ca_cert_file: str | PathLike[str] | None,
    cert_file: str | PathLike[str] | None,
    private_key_file: str | PathLike[str] | None,
    private_key_password: str | None,
) -> TlsCredentials | None:
    """The files as TLS wants them; None where none is given. Raises `TlsConfigError`, a ValueError."""
    if ca_cert_file is None and cert_file is None and private_key_file is None:
        return None
    return TlsCredentials(
        SslProfile(
            "client",
            ca_cert_file=_path(ca_cert_file),
            cert_file=_path(cert_file),
            private_key_file=_path(private_key_file),
            password=private_key_password,
        )
    )


def _path(name: str | PathLike[str] | None) -> Path | None:
    return None if name is None else Path(name).absolute()
