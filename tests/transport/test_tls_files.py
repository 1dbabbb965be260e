"""Profiles on disk: every mistake is told with profile, file and reason; renewed files are used without a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives import serialization

from tests.transport.authority import Authority, replace
from tests.transport.logbook import Logbook
from tests.transport.test_tls import meet, say_hello
from van.transport.tls import (
    ClientCertificates,
    SslProfile,
    TlsConfigError,
    TlsCredentials,
    subject_text,
    warn_of_expiry,
    watch_certificates,
)


def refusal(profile: SslProfile) -> str:
    with pytest.raises(TlsConfigError) as caught:
        TlsCredentials(profile)
    return str(caught.value)


def encrypt(key: Path, password: bytes) -> None:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    replace(
        key,
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        ),
    )


def test_a_missing_file_is_named(authority: Authority, tmp_path: Path) -> None:
    for name in ("server-ca.pem", "server.pem", "server-key.pem"):
        profile = authority.profile()
        (tmp_path / name).unlink()
        assert refusal(profile) == f'ssl_profile "server": {tmp_path / name}: no such file or directory'


def test_a_file_with_something_else_is_named(authority: Authority, tmp_path: Path) -> None:
    profile = authority.profile()
    assert profile.cert_file is not None
    for name, content, what in (
        ("server-ca.pem", b"", "the file is empty"),
        ("server-ca.pem", b"junk", "holds no certificate in PEM form"),
        ("server.pem", b"junk", "holds no certificate in PEM form"),
        ("server-key.pem", profile.cert_file.read_bytes(), "holds no private key in PEM form"),
        ("server.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""),
        ("server-ca.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""),
        ("server-key.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ""),
        ("server-ca.pem", b"x" * (5 << 20), "larger than 4 MiB"),
    ):
        profile = authority.profile()
        replace(tmp_path / name, content)
        text = refusal(profile)
        assert text.startswith(f'ssl_profile "server": {tmp_path}/server')
        assert what in text


def test_a_key_of_another_certificate(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.profile("one"), authority.profile("other")
    assert refusal(SslProfile("mixed", one.ca_cert_file, one.cert_file, other.private_key_file)) == (
        f'ssl_profile "mixed": {tmp_path}/other-key.pem: '
        f"the private key does not belong to the certificate in {tmp_path}/one.pem"
    )


def test_an_encrypted_key_needs_its_password_and_never_asks_for_it(authority: Authority) -> None:
    profile = authority.profile()
    assert profile.private_key_file is not None
    encrypt(profile.private_key_file, b"secret")
    files = (profile.ca_cert_file, profile.cert_file, profile.private_key_file)
    assert "cannot decrypt the private key: the profile has no password for it" in refusal(SslProfile("p", *files))
    wrong = refusal(SslProfile("p", *files, password="wrong"))
    assert "cannot decrypt the private key: the password is wrong" in wrong
    assert "wrong" not in repr(SslProfile("p", *files, password="wrong"))
    TlsCredentials(SslProfile("p", *files, password="secret")).server_context()


def test_the_key_may_stand_in_the_certificate_file(authority: Authority, tmp_path: Path) -> None:
    profile = authority.profile()
    assert profile.cert_file is not None
    assert profile.private_key_file is not None
    both = tmp_path / "both.pem"
    both.write_bytes(profile.private_key_file.read_bytes() + profile.cert_file.read_bytes())
    TlsCredentials(SslProfile("p", None, both)).server_context()
    assert "holds no private key" in refusal(SslProfile("p", None, profile.cert_file))
    assert "a private_key_file without a cert_file" in refusal(SslProfile("p", None, None, both))


def test_what_a_listener_needs(authority: Authority) -> None:
    profile = authority.profile()
    with pytest.raises(TlsConfigError, match="a listener needs a cert_file"):
        TlsCredentials(authority.trust_only()).server_context()
    with pytest.raises(TlsConfigError, match=r"\(EXTERNAL\) needs ca_cert_file"):
        TlsCredentials(SslProfile("p", None, profile.cert_file, profile.private_key_file)).server_context(
            ClientCertificates.REQUIRED
        )


def test_settings_that_openssl_does_not_know() -> None:
    assert 'protocols: "SSLv3" is none of TLSv1.2, TLSv1.3' in refusal(SslProfile("p", protocols=("SSLv3",)))
    assert 'ciphers: no cipher of OpenSSL matches "nonsense"' in refusal(SslProfile("p", ciphers="nonsense"))
    assert 'uid_format: "x" is none of the letters' in refusal(SslProfile("p", uid_format="nx"))


def test_days_to_expiry(authority: Authority) -> None:
    assert 9.9 < authority.credentials(days=10).days_to_expiry(time.time()) < 10
    assert TlsCredentials(authority.trust_only()).days_to_expiry(time.time()) == float("inf")


async def test_renewed_files_serve_new_connections_and_old_ones_live_on(authority: Authority) -> None:
    server = authority.credentials(common_name="before")
    client = TlsCredentials(authority.trust_only())
    old = await meet(server, client)
    await say_hello(old)
    assert not server.refresh()

    authority.profile(common_name="after")
    assert server.refresh()
    assert server.generation == 2
    await say_hello(old)
    new = await meet(server, client)
    await say_hello(new)
    assert old.client is not None
    assert new.client is not None
    for stream, name in ((old.client, "before"), (new.client, "after")):
        assert subject_text(stream.tls.getpeercert()).startswith(f"CN={name}")


async def test_an_authority_that_was_taken_away_is_trusted_no_longer(authority: Authority, tmp_path: Path) -> None:
    server = authority.credentials()
    client = authority.credentials("client")
    await say_hello(await meet(server, client, asks=ClientCertificates.REQUIRED))
    replace(tmp_path / "server-ca.pem", Authority(tmp_path).ca.cert_pem.bytes())
    assert server.refresh()
    meeting = await meet(server, client, asks=ClientCertificates.REQUIRED)
    assert "ca_cert_file does not hold the authority" in meeting.server_error


async def test_bad_new_files_change_nothing_and_are_told_once(authority: Authority, tmp_path: Path) -> None:
    server = authority.credentials()
    server.server_context()
    client = TlsCredentials(authority.trust_only())
    key = tmp_path / "server-key.pem"
    good_key = key.read_bytes()

    replace(key, b"junk")
    with pytest.raises(TlsConfigError, match="holds no private key"):
        server.refresh()
    assert not server.refresh()
    await say_hello(await meet(server, client))

    key.unlink()
    with pytest.raises(TlsConfigError, match="no such file"):
        server.refresh()
    assert not server.refresh()

    replace(key, good_key)
    assert not server.refresh()
    assert server.generation == 1


async def test_a_pair_that_is_half_written_is_taken_when_it_is_whole(authority: Authority, tmp_path: Path) -> None:
    server = authority.credentials()
    key = tmp_path / "server-key.pem"
    old_key = key.read_bytes()
    authority.profile()
    new_key = key.read_bytes()
    replace(key, old_key)
    with pytest.raises(TlsConfigError, match="does not belong to the certificate"):
        server.refresh()
    replace(key, new_key)
    assert server.refresh()


def test_an_expired_certificate_does_not_replace_one_that_is_valid(authority: Authority) -> None:
    server = authority.credentials(days=1)
    authority.profile(days=-1)
    with pytest.raises(TlsConfigError, match="the new certificate expired on"):
        server.refresh()


def test_a_touched_file_is_not_a_new_one(authority: Authority, tmp_path: Path) -> None:
    server = authority.credentials()
    path = tmp_path / "server.pem"
    replace(path, path.read_bytes())
    assert not server.refresh()


async def test_the_watch_takes_new_files_and_says_so(
    authority: Authority, logbook: Logbook, autojump_clock: trio.testing.MockClock
) -> None:
    server = authority.credentials()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_certificates, [server], logbook.logger)
        await trio.sleep(1.5)
        authority.profile(days=3)
        await trio.sleep(1)
        assert logbook.only("certificates re-read")["generation"] == 2
        assert logbook.only("certificate expires soon")["ssl_profile"] == "server"
        assert server.profile.cert_file is not None
        server.profile.cert_file.unlink()
        await trio.sleep(10)
        line = logbook.only("certificates not re-read, the old ones stay in use")
        assert line["reason"] == f'ssl_profile "server": {server.profile.cert_file}: no such file or directory'
        nursery.cancel_scope.cancel()


def test_who_is_warned(authority: Authority, logbook: Logbook) -> None:
    warn_of_expiry(authority.credentials(days=15), logbook.logger)
    assert not logbook.lines
    warn_of_expiry(authority.credentials(days=13), logbook.logger)
    assert logbook.only("certificate expires soon")["days"] == 13
    warn_of_expiry(authority.credentials(days=-3), logbook.logger)
    assert logbook.only("certificate has expired")["days"] == -3
