"""Who may come in with a password: the users file, asked by PLAIN and SCRAM.

The file is TOML: `[users]` with `name = "password"`, where a password may be `env:NAME` or `file:PATH` too, or
`name = "{SCRAM-SHA-256}4096:salt:stored:server"`, from which nobody can tell the password; salt and keys are base64.
Everything that can be computed before somebody logs in is computed when the file is read. The exchange itself is in
`van.amqp.sasl` and `van.transport.scram`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Collection
from pathlib import Path

from van.router import config
from van.router.values import Context, InvalidValueError, Problem, secret, show, show_size, unknown_key
from van.transport.scram import (
    DEFAULT_ITERATIONS,
    MAX_ITERATIONS,
    SALT_SIZE,
    SCRAM_HASHES,
    Credentials,
    derive_credentials,
)

__all__ = ["Users", "load_users", "parse_users"]

# A line per user: room for tens of thousands. Who has more has a directory service.
USERS_FILE_LIMIT = 4 * 1024 * 1024

# RFC 7677 allows no fewer; the upper bound is what clients accept, and what PLAIN may cost us for one attempt.
ITERATIONS = (DEFAULT_ITERATIONS, MAX_ITERATIONS)

# RFC 5802 leaves the size open; shorter than this a salt does not tell users apart.
SMALLEST_SALT = 12

_STORED = re.compile(r"\{([^}]*)\}(.*)", re.DOTALL)
_KEY_SIZES = {"SCRAM-SHA-256": 32, "SCRAM-SHA-512": 64}


class Users:
    """The users of one file, as read at one time. Look-ups by names that do not exist take as long as others."""

    def __init__(self, passwords: dict[str, str], stored: dict[str, dict[str, Credentials]]) -> None:
        self._passwords = passwords
        self._stored = stored
        # What a password is compared with when nobody has that name: of the kind that this file is made of.
        self._decoy_password = secrets.token_hex(16)
        self._decoy_stored = next(((name, user) for name, of in stored.items() for user in of.values()), None)

    def __len__(self) -> int:
        return len(self._passwords.keys() | {user for users in self._stored.values() for user in users})

    def verify_plain(self, user: str, password: str) -> bool:
        """Whether this is the user's password, in a time that does not depend on either."""
        expected = self._passwords.get(user)
        if expected is not None:
            return hmac.compare_digest(expected.encode(), password.encode())
        for mechanism, users in self._stored.items():
            if user in users:
                return _matches(mechanism, password, users[user])
        if self._passwords or self._decoy_stored is None:
            hmac.compare_digest(self._decoy_password.encode(), password.encode())
        else:
            mechanism, credentials = self._decoy_stored
            _matches(mechanism, password, credentials)
        return False

    def scram_credentials(self, mechanism: str, user: str) -> Credentials | None:
        """Salt, stored key, server key and iterations; None for somebody who cannot use this mechanism."""
        return self._stored.get(mechanism, {}).get(user)


def _matches(mechanism: str, password: str, credentials: Credentials) -> bool:
    salt, stored_key, _, iterations = credentials
    try:
        derived = derive_credentials(mechanism, password, salt, iterations)
    except ValueError:
        return False
    return hmac.compare_digest(derived[1], stored_key)


def load_users(path: Path, mechanisms: Collection[str] = tuple(SCRAM_HASHES)) -> Users:
    """Read a users file, ready for these mechanisms. Raises `ConfigurationError` with everything that is wrong."""
    return parse_users(config.read_text(path, USERS_FILE_LIMIT), str(path), path.parent, mechanisms)


def parse_users(
    text: str, file_name: str, folder: Path, mechanisms: Collection[str] = tuple(SCRAM_HASHES)
) -> Users:
    """Like `load_users`, from a text."""
    plain = config.parse_toml(text, file_name)
    problems = [unknown_key((key,), ("users",)) for key in plain if key != "users"]
    users = plain.get("users")
    passwords: dict[str, str] = {}
    stored: dict[str, dict[str, Credentials]] = {}
    if users is None:
        problems.append(Problem(("users",), "missing; the section [users] lists names and passwords", at_key=True))
    elif not isinstance(users, dict):
        problems.append(Problem(("users",), f"expected a table, got {show(users)}"))
    else:
        for user, value in users.items():
            try:
                _read_user(user, value, Context(folder), passwords, stored, mechanisms)
            except InvalidValueError as invalid:
                problems += (problem.below(("users", user)) for problem in invalid.problems)
    if problems:
        raise config.ConfigurationError(config.error_lines(problems, text, file_name))
    return Users(passwords, stored)


def _read_user(
    user: str,
    value: object,
    context: Context,
    passwords: dict[str, str],
    stored: dict[str, dict[str, Credentials]],
    mechanisms: Collection[str],
) -> None:
    if not user or not user.isprintable():
        raise InvalidValueError(Problem((), "a user's name is a text without control characters", at_key=True))
    if isinstance(value, dict):
        raise InvalidValueError(Problem((), "expected a password; a name with a dot stands in quotes", at_key=True))
    if isinstance(value, str) and (match := _STORED.fullmatch(value)):
        mechanism, credentials = _parse_stored(match[1], match[2])
        stored.setdefault(mechanism, {})[user] = credentials
        return
    password = secret(value, context)
    for mechanism in sorted(SCRAM_HASHES.keys() & set(mechanisms)):
        try:
            credentials = derive_credentials(mechanism, password, secrets.token_bytes(SALT_SIZE))
        except ValueError:
            raise InvalidValueError(Problem((), "SASLprep (RFC 4013) forbids a character of this password")) from None
        stored.setdefault(mechanism, {})[user] = credentials
    passwords[user] = password


def _parse_stored(mechanism: str, text: str) -> tuple[str, Credentials]:
    """Read `4096:salt:stored:server`. Never repeats the text: it is enough to impersonate the server."""
    allowed = '"{SCRAM-SHA-256}ITERATIONS:SALT:STORED-KEY:SERVER-KEY", the last three in base64'
    if mechanism not in SCRAM_HASHES:
        raise InvalidValueError(Problem((), f"unknown mechanism {show(mechanism)}", ", ".join(SCRAM_HASHES)))
    parts = text.split(":")
    if len(parts) != 4:
        raise InvalidValueError(Problem((), f"{len(parts)} fields after the mechanism", allowed))
    if not (parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 10):
        raise InvalidValueError(Problem((), "the iterations are not a number", allowed))
    iterations = int(parts[0])
    if not ITERATIONS[0] <= iterations <= ITERATIONS[1]:
        allowed = f"{ITERATIONS[0]} to {ITERATIONS[1]}"
        raise InvalidValueError(Problem((), f"{iterations} iterations are out of range", allowed))
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in parts[1:])
    except (binascii.Error, ValueError):
        raise InvalidValueError(Problem((), "not base64", allowed)) from None
    size = _KEY_SIZES[mechanism]
    if len(stored_key) != size or len(server_key) != size:
        raise InvalidValueError(Problem((), f"a key of {mechanism} has {show_size(size)} octets"))
    if len(salt) < SMALLEST_SALT:
        raise InvalidValueError(Problem((), f"a salt of {len(salt)} octets", f"at least {SMALLEST_SALT}"))
    return mechanism, (salt, stored_key, server_key, iterations)
