"""SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), as mechanisms for `van.amqp.sasl`.

The arithmetic is scramp's. This module gives it the shape of a mechanism, keeps it from telling unknown users apart
from wrong passwords, and bounds what a server may make a client compute. It does no I/O; it lives here because
`van.amqp` imports nothing but the standard library, and both the router and `van.client` need it.
scramp is imported at the first use: with its certificate parser it costs 50 ms and 4 MB.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING

from van.amqp.sasl import SaslError

if TYPE_CHECKING:
    from scramp.core import ScramClient as ScrampClient
    from scramp.core import ScramServer as ScrampServer

SCRAM_HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
"""The mechanisms, weakest first, and their hash functions by the names of hashlib. SHA-1 is not offered."""

DEFAULT_ITERATIONS = 4096
"""For keys derived from a password in clear: the least that RFC 7677 allows. More would not protect such a password
better, and costs each client (and nobody else) its time.
"""

SALT_SIZE = 16
"""Octets of a salt. Those of the fake ones too, so that they look like ours."""

MAX_ITERATIONS = 1_000_000
"""What a client computes for a server, 0.6 s with SHA-512, during which its other connections wait. OWASP's advice for
stored passwords is 600 000; a server that asks for more than this is refused.
"""

Credentials = tuple[bytes, bytes, bytes, int]
"""Salt, stored key, server key, iterations: what a server keeps of a password (RFC 5802, section 3)."""


def derive_credentials(name: str, password: str, salt: bytes, iterations: int = DEFAULT_ITERATIONS) -> Credentials:
    """Compute what a server of mechanism `name` keeps of this password.

    `ValueError` for a password that SASLprep forbids, a salt of fewer than 12 octets, or too few iterations.
    """
    from scramp import ScramException, ScramMechanism

    try:
        credentials: Credentials = ScramMechanism(name).make_auth_info(password, iteration_count=iterations, salt=salt)
    except ScramException as error:
        raise ValueError(str(error)) from None
    return credentials


class ScramServer:
    """The server's side of one exchange.

    For users that do not exist the exchange goes on with a salt that is always the same for the same name, and fails
    where a wrong password fails.
    """

    __slots__ = (
        "_credentials",
        "_decoy_iterations",
        "_decoy_key",
        "_failure",
        "_nonce",
        "_scram",
        "_user",
        "additional_data",
        "client_first",
        "identity",
        "name",
    )

    def __init__(
        self,
        name: str,
        credentials: Callable[[str], Credentials | None],
        nonce: Callable[[], str],
        decoy_key: bytes,
        decoy_iterations: int = DEFAULT_ITERATIONS,
    ) -> None:
        if name not in SCRAM_HASHES:
            raise ValueError(f"{name} is not one of {', '.join(SCRAM_HASHES)}")
        self.name = name
        self.client_first = True
        self.identity = ""
        self.additional_data: bytes | None = None
        self._credentials = credentials
        self._nonce = nonce
        self._decoy_key = decoy_key
        self._decoy_iterations = decoy_iterations
        self._user = ""
        self._failure: Exception | None = None
        self._scram: ScrampServer | None = None

    def step(self, data: bytes) -> bytes | None:
        from scramp import ScramException, ScramMechanism

        try:
            text = data.decode("utf-8")
            if self._scram is None:
                self._scram = ScramMechanism(self.name).make_server(self._look_up, s_nonce=self._nonce())
                self._scram.set_client_first(text)
                return str(self._scram.get_server_first()).encode()
            self._scram.set_client_final(text)
            self.additional_data = str(self._scram.get_server_final()).encode()
        except UnicodeDecodeError:
            raise SaslError("malformed SCRAM message") from None
        except ScramException as error:
            if self._failure is not None:
                raise self._failure from None  # scramp wraps what our own look-up raises
            whom = f"user {self._user!r}: " if self._user else ""
            raise SaslError(f"{whom}{error}") from None
        self.identity = self._user
        return None

    def _look_up(self, user: str) -> Credentials:
        self._user = user
        try:
            # The decoy is computed for those who exist too: it costs three HMACs and makes both cases take as long.
            decoy = self._decoy(user)
            return self._credentials(user) or decoy
        except Exception as error:
            self._failure = error
            raise

    def _decoy(self, user: str) -> Credentials:
        hash_name = SCRAM_HASHES[self.name]

        def derive(purpose: str) -> bytes:
            return hmac.digest(self._decoy_key, f"{self.name} {purpose} {user}".encode(), hash_name)

        return derive("salt")[:SALT_SIZE], derive("stored key"), derive("server key"), self._decoy_iterations


def scram_server(
    name: str,
    credentials: Callable[[str], Credentials | None],
    nonce: Callable[[], str],
    decoy_key: bytes,
    decoy_iterations: int = DEFAULT_ITERATIONS,
) -> ScramServer:
    """Make the server's side of SCRAM for one connection.

    `name` is one of `SCRAM_HASHES` (`ValueError`). `credentials(user)` returns what `derive_credentials` computed, or
    None for an unknown user. `nonce()` returns printable ASCII without a comma, different each time and not to be
    guessed. `decoy_key` is a secret of this process, from which the salts of unknown users are made;
    `decoy_iterations` is the count that most real users have.
    """
    return ScramServer(name, credentials, nonce, decoy_key, decoy_iterations)


class ScramClient:
    """The client's side of one exchange. `ValueError` for a user or password that SASLprep forbids."""

    __slots__ = ("_proven", "_scram", "_server_first_seen", "identity", "name", "reveals_password", "strength")

    def __init__(self, name: str, user: str, password: str, nonce: Callable[[], str]) -> None:
        from scramp import ScramClient as ScrampClient
        from scramp import ScramException

        if name not in SCRAM_HASHES:
            raise ValueError(f"{name} is not one of {', '.join(SCRAM_HASHES)}")
        self.name = name
        self.strength = 20 + list(SCRAM_HASHES).index(name)
        self.reveals_password = False
        self.identity = user
        self._server_first_seen = False
        self._proven = False
        try:
            self._scram: ScrampClient = ScrampClient([name], user, password, c_nonce=nonce())
        except ScramException as error:
            raise ValueError(str(error)) from None

    def start(self) -> bytes | None:
        return str(self._scram.get_client_first()).encode()

    def step(self, data: bytes) -> bytes:
        from scramp import ScramException

        try:
            text = data.decode("utf-8")
            if not self._server_first_seen:
                self._server_first_seen = True
                self._scram.set_server_first(text)
                if int(self._scram.iterations) > MAX_ITERATIONS:
                    raise SaslError(f"the server asks for {self._scram.iterations} iterations")
                return str(self._scram.get_client_final()).encode()
            self._verify(text)
        except UnicodeDecodeError:
            raise SaslError("malformed SCRAM message of the server") from None
        except ScramException as error:
            raise SaslError(f"{error}") from None
        return b""

    def finish(self, data: bytes | None) -> None:
        """The server's signature comes with the outcome, or came as a last challenge (as Cyrus SASL sends it)."""
        if data and not self._proven:
            self.step(data)
        if not self._proven:
            raise SaslError("the server did not prove that it knows the password")

    def _verify(self, text: str) -> None:
        self._scram.set_server_final(text)
        self._proven = True
