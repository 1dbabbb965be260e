"""The users file: passwords and stored keys, asked by PLAIN and SCRAM, with mistakes reported like a site file's."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest

from van.router.authentication import Users, load_users, parse_users
from van.router.config import ConfigurationError
from van.transport.scram import derive_credentials

SALT = bytes(range(16))


def stored(mechanism: str, password: str, iterations: int = 4096) -> str:
    salt, stored_key, server_key, _ = derive_credentials(mechanism, password, SALT, iterations)
    fields = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"{{{mechanism}}}{iterations}:{':'.join(fields)}"


def users(text: str, folder: Path = Path()) -> Users:
    return parse_users(text, "users.toml", folder)


def errors(text: str, folder: Path = Path()) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        users(text, folder)
    return caught.value.lines


def test_a_password_in_the_file_serves_plain_and_scram() -> None:
    found = users('[users]\nalice = "pencil"\n')
    assert len(found) == 1
    assert found.verify_plain("alice", "pencil")
    assert not found.verify_plain("alice", "Pencil")
    assert not found.verify_plain("bob", "pencil")
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        credentials = found.scram_credentials(mechanism, "alice")
        assert credentials is not None
        salt, stored_key, server_key, iterations = credentials
        assert (salt, stored_key, server_key, iterations) == derive_credentials(mechanism, "pencil", salt)
        assert found.scram_credentials(mechanism, "bob") is None


def test_every_reading_makes_salts_of_its_own() -> None:
    text = '[users]\nalice = "pencil"\nbob = "pencil"\n'
    salts = set()
    for found in (users(text), users(text)):
        for user in ("alice", "bob"):
            credentials = found.scram_credentials("SCRAM-SHA-256", user)
            assert credentials is not None
            salts.add(credentials[0])
    assert len(salts) == 4


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_stored_keys_serve_their_mechanism_and_plain(mechanism: str) -> None:
    found = users(f'[users]\nalice = "{stored(mechanism, "pencil")}"\n')
    assert found.scram_credentials(mechanism, "alice") == derive_credentials(mechanism, "pencil", SALT)
    other = {"SCRAM-SHA-256": "SCRAM-SHA-512", "SCRAM-SHA-512": "SCRAM-SHA-256"}[mechanism]
    assert found.scram_credentials(other, "alice") is None
    assert found.verify_plain("alice", "pencil")
    assert not found.verify_plain("alice", "crayon")
    assert not found.verify_plain("alice", "\x00")  # which SASLprep forbids
    assert not found.verify_plain("bob", "pencil")


def test_only_the_mechanisms_that_are_offered_cost_time(tmp_path: Path) -> None:
    path = tmp_path / "users.toml"
    path.write_text("[users]\n" + "".join(f'user{number} = "{number}"\n' for number in range(1000)))
    begun = time.process_time()
    found = load_users(path, ["PLAIN", "ANONYMOUS"])
    assert time.process_time() - begun < 2.0
    assert found.verify_plain("user7", "7")
    assert found.scram_credentials("SCRAM-SHA-256", "user7") is None


def test_passwords_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAN_TEST_PASSWORD", "pencil")
    (tmp_path / "bob.txt").write_text("crayon\r\n")
    found = users('[users]\nalice = "env:VAN_TEST_PASSWORD"\nbob = "file:bob.txt"\n"c.d@e" = "x"\n', tmp_path)
    assert found.verify_plain("alice", "pencil")
    assert found.verify_plain("bob", "crayon")
    assert found.verify_plain("c.d@e", "x")


def test_nobody_is_in_an_empty_file_of_users() -> None:
    found = users("[users]\n")
    assert len(found) == 0
    assert not found.verify_plain("", "")


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    key = base64.b64encode(bytes(32)).decode()
    salt = base64.b64encode(bytes(16)).decode()
    text = f"""\
[users]
a = 5
"" = "x"
b.c = "x"
d = ""
e = "env:VAN_TEST_UNSET"
f = "file:gone"
g = "{{MD5}}x"
h = "{{SCRAM-SHA-256}}4096:{salt}:{key}"
i = "{{SCRAM-SHA-256}}many:{salt}:{key}:{key}"
j = "{{SCRAM-SHA-256}}4095:{salt}:{key}:{key}"
k = "{{SCRAM-SHA-256}}4096:{salt}:{key}:!"
l = "{{SCRAM-SHA-512}}4096:{salt}:{key}:{key}"
m = "{{SCRAM-SHA-256}}4096:AAAA:{key}:{key}"
n = "\\u0007"
[extra]
"""
    form = '"{SCRAM-SHA-256}ITERATIONS:SALT:STORED-KEY:SERVER-KEY", the last three in base64'
    assert errors(text, tmp_path) == [
        'users.toml:2:5: users.a: expected a text; allowed: "env:NAME", "file:PATH", or the secret itself',
        'users.toml:3:1: users."": a user\'s name is a text without control characters',
        "users.toml:4:1: users.b: expected a password; a name with a dot stands in quotes",
        "users.toml:5:5: users.d: an empty text",
        'users.toml:6:5: users.e: the environment has no variable "VAN_TEST_UNSET"',
        f"users.toml:7:5: users.f: cannot read {tmp_path}/gone: No such file or directory",
        'users.toml:8:5: users.g: unknown mechanism "MD5"; allowed: SCRAM-SHA-256, SCRAM-SHA-512',
        f"users.toml:9:5: users.h: 3 fields after the mechanism; allowed: {form}",
        f"users.toml:10:5: users.i: the iterations are not a number; allowed: {form}",
        "users.toml:11:5: users.j: 4095 iterations are out of range; allowed: 4096 to 1000000",
        f"users.toml:12:5: users.k: not base64; allowed: {form}",
        "users.toml:13:5: users.l: a key of SCRAM-SHA-512 has 64 octets",
        "users.toml:14:5: users.m: a salt of 3 octets; allowed: at least 12",
        "users.toml:15:5: users.n: SASLprep (RFC 4013) forbids a character of this password",
        "users.toml:16:1: extra: unknown key; allowed: users",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "users.toml:1:1: users: missing; the section [users] lists names and passwords"),
        ("users = 5\n", "users.toml:1:9: users: expected a table, got 5"),
    ],
)
def test_a_file_without_users_is_a_mistake(text: str, line: str) -> None:
    assert errors(text) == [line]


def test_no_password_is_ever_shown() -> None:
    passwords = ["{SCRAM-SHA-256}secret", "{SCRAM-SHA-256}9:secret:x:y", "\\u0007secret"]
    lines = errors("[users]\n" + "".join(f'user{number} = "{text}"\n' for number, text in enumerate(passwords)))
    assert len(lines) == 3
    assert "secret" not in "".join(lines)
