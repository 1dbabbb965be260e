"""TLS handshakes between profiles: who is accepted, who is not, and whether the text says why."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.transport.authority import Authority
from van.transport.errors import TransportError
from van.transport.info import ConnectionInfo
from van.transport.tls import (
    ClientCertificates,
    SslProfile,
    TlsCredentials,
    TlsStream,
    accept_tls,
    connect_tls,
    describe_tls,
    explain,
    peer_identity,
    subject_text,
)
from van.transport.url import parse_url


class Meeting:
    """What both sides got from one handshake: a stream or the error."""

    def __init__(self) -> None:
        self.server: TlsStream | None = None
        self.client: TlsStream | None = None
        self.server_error = ""
        self.client_error = ""
        self.steps: list[str] = []


async def meet(
    server: TlsCredentials,
    client: TlsCredentials,
    host: str = "localhost",
    asks: ClientCertificates = ClientCertificates.NONE,
    *,
    verify_hostname: bool = True,
) -> Meeting:
    meeting = Meeting()
    left, right = trio.testing.memory_stream_pair()

    async def serve() -> None:
        try:
            meeting.server = await accept_tls(left, server.server_context(asks))
        except TransportError as error:
            meeting.steps.append(error.step)
            meeting.server_error = str(error)
            await left.aclose()

    async def dial() -> None:
        try:
            meeting.client = await connect_tls(right, client.client_context(verify_hostname=verify_hostname), host)
        except TransportError as error:
            meeting.steps.append(error.step)
            meeting.client_error = str(error)
            await right.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(dial)
    assert set(meeting.steps) <= {TransportError.TLS}
    return meeting


async def say_hello(meeting: Meeting) -> None:
    assert meeting.client is not None
    assert meeting.server is not None
    await meeting.client.send_all(b"hello")
    assert await meeting.server.receive_some(5) == b"hello"


def facts(stream: TlsStream, profile: SslProfile | None = None) -> ConnectionInfo:
    info = ConnectionInfo(peer="p", local="l", transport="tls", url=parse_url("amqps://h"), outgoing=False)
    describe_tls(info, stream, profile)
    return info


async def test_a_server_certificate_is_enough_without_external(authority: Authority) -> None:
    meeting = await meet(authority.credentials(), TlsCredentials(authority.trust_only()))
    await say_hello(meeting)
    assert meeting.server is not None
    info = facts(meeting.server)
    assert info.encrypted
    assert info.tls_version == "TLSv1.3"
    assert info.tls_bits >= 128
    assert info.tls_identity == ""


async def test_a_client_certificate_gives_the_identity(authority: Authority) -> None:
    server = authority.credentials()
    client = authority.credentials("client", common_name="sensor-7")
    meeting = await meet(server, client, asks=ClientCertificates.REQUIRED)
    await say_hello(meeting)
    assert meeting.server is not None
    info = facts(meeting.server)
    assert info.tls_subject.startswith("CN=sensor-7,")
    assert "O=ACME\\, Inc." in info.tls_subject
    assert info.tls_identity == info.tls_subject
    assert 29 < (info.tls_peer_not_after - time.time()) / 86400 < 31
    assert facts(meeting.server, SslProfile("p", uid_format="no")).tls_identity == "sensor-7;ACME, Inc."


async def test_without_a_required_certificate_both_sides_learn_why(authority: Authority) -> None:
    meeting = await meet(
        authority.credentials(), TlsCredentials(authority.trust_only()), asks=ClientCertificates.REQUIRED
    )
    assert meeting.server_error == (
        "TLS handshake failed: the client sent no certificate, and one is required here (EXTERNAL)"
    )
    # In TLS 1.3 the client's handshake is over by then: it is told when it reads.
    assert meeting.client is not None
    with pytest.raises(trio.BrokenResourceError) as caught:
        await meeting.client.receive_some(1)
    assert explain(caught.value, "the server") == "the server wants a certificate from us, and we sent none"


async def test_an_optional_certificate_may_be_left_out_but_not_be_wrong(authority: Authority, tmp_path: Path) -> None:
    server = authority.credentials()
    await say_hello(await meet(server, TlsCredentials(authority.trust_only()), asks=ClientCertificates.OPTIONAL))
    other = Authority(tmp_path)
    stranger = other.credentials("stranger", trusts=authority)
    meeting = await meet(server, stranger, asks=ClientCertificates.OPTIONAL)
    assert "ca_cert_file does not hold the authority" in meeting.server_error


async def test_a_client_certificate_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path).credentials("stranger", trusts=authority)
    meeting = await meet(authority.credentials(), stranger, asks=ClientCertificates.REQUIRED)
    assert "ca_cert_file does not hold the authority" in meeting.server_error


async def test_a_server_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    meeting = await meet(authority.credentials(), TlsCredentials(Authority(tmp_path).trust_only("other")))
    assert "ca_cert_file does not hold the authority" in meeting.client_error
    assert "the client does not know the authority that signed our certificate" in meeting.server_error


async def test_an_expired_server_certificate(authority: Authority) -> None:
    meeting = await meet(authority.credentials(days=-1), TlsCredentials(authority.trust_only()))
    assert "the certificate of the server is refused: certificate has expired" in meeting.client_error
    assert "the client refuses our certificate as expired" in meeting.server_error


async def test_an_expired_client_certificate(authority: Authority) -> None:
    client = authority.credentials("client", days=-1)
    meeting = await meet(authority.credentials(), client, asks=ClientCertificates.REQUIRED)
    assert "the certificate of the client is refused: certificate has expired" in meeting.server_error


async def test_a_wrong_host_name_is_named(authority: Authority) -> None:
    server = authority.credentials("server", "a.example")
    client = TlsCredentials(authority.trust_only())
    meeting = await meet(server, client, host="b.example")
    assert "Hostname mismatch, certificate is not valid for 'b.example'" in meeting.client_error
    meeting = await meet(server, client, host="127.0.0.1")
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in meeting.client_error
    await say_hello(await meet(server, client, host="a.example"))


async def test_the_host_name_need_not_be_verified_but_the_chain_is(authority: Authority, tmp_path: Path) -> None:
    server = authority.credentials("server", "a.example")
    client = TlsCredentials(authority.trust_only())
    await say_hello(await meet(server, client, host="b.example", verify_hostname=False))
    stranger = TlsCredentials(Authority(tmp_path).trust_only("other"))
    meeting = await meet(server, stranger, host="b.example", verify_hostname=False)
    assert "is refused" in meeting.client_error


async def test_no_version_in_common(authority: Authority) -> None:
    server = authority.credentials("server", protocols=("TLSv1.3",))
    profile = authority.trust_only()
    client = TlsCredentials(SslProfile("old", profile.ca_cert_file, protocols=("TLSv1.2",)))
    meeting = await meet(server, client)
    assert "the client offers only TLS versions that we refuse" in meeting.server_error
    assert "the server accepts none of our TLS versions" in meeting.client_error


async def test_no_cipher_in_common(authority: Authority) -> None:
    server = authority.credentials("server", protocols=("TLSv1.2",), ciphers="ECDHE+CHACHA20")
    profile = authority.trust_only()
    client = TlsCredentials(SslProfile("c", profile.ca_cert_file, protocols=("TLSv1.2",), ciphers="ECDHE+AESGCM"))
    meeting = await meet(server, client)
    assert "no cipher in common with the client" in meeting.server_error


async def test_a_peer_that_hangs_up_or_does_not_speak_tls(authority: Authority) -> None:
    server = authority.credentials()
    for octets, what in ((b"", "the client closed the connection"), (b"AMQP\x00\x01\x00\x00", "does not speak TLS")):
        left, right = trio.testing.memory_stream_pair()
        await right.send_all(octets)
        await right.send_eof()
        with pytest.raises(TransportError, match=what):
            await accept_tls(left, server.server_context())


async def test_alpn_is_negotiated(authority: Authority) -> None:
    server, client = authority.credentials(), TlsCredentials(authority.trust_only())
    left, right = trio.testing.memory_stream_pair()
    streams: list[TlsStream] = []

    async def serve() -> None:
        streams.append(await accept_tls(left, server.server_context(alpn=("http/1.1",))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        stream = await connect_tls(right, client.client_context(alpn=("h2", "http/1.1")), "localhost")
    assert stream.tls.selected_alpn_protocol() == "http/1.1"
    assert streams[0].tls.selected_alpn_protocol() == "http/1.1"


SUBJECT = {
    "subject": (
        (("countryName", "SE"),),
        (("organizationName", "ACME"),),
        (("organizationalUnitName", "x,CN=admin"), ("organizationalUnitName", "y")),
        (("commonName", " #sensor"),),
    )
}


def test_a_subject_cannot_pretend_to_be_another() -> None:
    assert subject_text(SUBJECT) == "CN=\\ #sensor,OU=x\\,CN\\=admin+OU=y,O=ACME,C=SE"


@pytest.mark.parametrize(
    ("uid_format", "expected"),
    [
        ("", "CN=\\ #sensor,OU=x\\,CN\\=admin+OU=y,O=ACME,C=SE"),
        ("n", " #sensor"),
        ("co", "SE;ACME"),
        ("nl", " #sensor;"),
        ("2", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_uid_format_picks_the_parts(uid_format: str, expected: str) -> None:
    assert peer_identity(SUBJECT, lambda: b"abc", uid_format) == expected
