"""TLS by profile: contexts made from files, re-read while connections live, and error texts that say what is wrong.

A `TlsCredentials` holds what one `[[ssl_profile]]` names. Listeners and connectors ask it for a context *for every
connection*. When the files change, `refresh` makes new contexts beside the old ones and swaps them only if every one
could be made: connections that stand keep the context that they began with, a half-written or mismatched pair
changes nothing. (Loading into the live context would serve for the certificate, but can never take an authority away,
and a key that does not fit would leave the context broken.)

The protocol itself is OpenSSL's, by `ssl.SSLObject`. trio's `SSLStream` stands on the same, and needs a task to write:
through our layer the octets of a batch are encrypted and written at once. Who may connect, and what a certificate's
subject may do, is decided elsewhere.
"""

from __future__ import annotations

import enum
import hashlib
import re
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from van.transport.errors import TransportError, os_reason
from van.transport.info import ConnectionInfo
from van.transport.layer import Layer, LayerStream, Octets

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

CERTIFICATE_POLL_SECONDS = 1.0
"""How often the files of a profile are looked at: three `stat` calls, so that a renewed certificate is used at once."""

EXPIRY_WARNING_DAYS = 14
"""Renewal usually happens well before: whoever has less than this left has a renewal that does not work."""

EXPIRY_REMINDER_SECONDS = 86_400.0

ALERT_SECONDS = 1.0
"""For a few octets to a peer that has just been refused."""

SECONDS_PER_DAY = 86_400.0

RECORD_SIZE = 16384
"""Octets of one record of TLS, at most. We encrypt so many at a time: OpenSSL keeps as much memory for each connection
as it ever had to hold, and one call for 64 KiB is hardly cheaper than four (18.2 against 19.7 us)."""

DECRYPT_SIZE = 32768
"""Octets that are given to OpenSSL at a time, for the same reason."""

MAX_FILE_SIZE = 4 << 20
"""No certificate, key or bundle is larger; the bundle of the public web is a quarter of a MiB."""

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}

# The components of `uid_format` that come from the subject; digits are fingerprints of the whole certificate.
_UID_FIELDS = {
    "c": "countryName",
    "s": "stateOrProvinceName",
    "l": "localityName",
    "o": "organizationName",
    "u": "organizationalUnitName",
    "n": "commonName",
}
_UID_DIGESTS = {"1": "sha1", "2": "sha256", "5": "sha512"}
_UID_SEPARATOR = ";"

# RFC 4514, section 3, and what OpenSSL adds; other attributes keep their long names.
_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "emailAddress": "emailAddress",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "serialNumber": "serialNumber",
    "stateOrProvinceName": "ST",
    "streetAddress": "street",
    "userId": "UID",
}


class TlsConfigError(ValueError):
    """A profile that cannot be used. The text names the profile, the file and the reason."""


class ClientCertificates(enum.Enum):
    """What a listener asks of its clients. `REQUIRED` belongs to every listener that offers EXTERNAL."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class SslProfile:
    """What the site file says about one profile; all paths are absolute, secrets already resolved.

    Without `private_key_file` the key is in `cert_file`; without `ca_cert_file` the system's authorities are trusted.
    """

    name: str
    ca_cert_file: Path | None = None
    cert_file: Path | None = None
    private_key_file: Path | None = None
    password: str | None = field(default=None, repr=False)
    ciphers: str | None = None
    protocols: Sequence[str] = ()
    uid_format: str = ""


@dataclass(frozen=True, slots=True)
class _Key:
    """Which context: contexts of one key are made once and replaced by `refresh`."""

    server: bool
    client_certificates: ClientCertificates
    verify_hostname: bool
    alpn: tuple[str, ...]


_Signature = tuple[tuple[int, int, int] | None, ...]


class TlsCredentials:
    """The live contexts of one profile. Raises TlsConfigError when made from files that cannot be used."""

    def __init__(self, profile: SslProfile) -> None:
        self.profile = profile
        self.generation = 1
        self._signature = self._stat()
        self._contents = self._read()
        self._contexts: dict[_Key, ssl.SSLContext] = {}
        self._check_settings()
        self._build(_Key(False, ClientCertificates.NONE, True, ()), self._contents)
        self.not_after = self._find_not_after(self._contents)

    def server_context(
        self, client_certificates: ClientCertificates = ClientCertificates.NONE, alpn: Iterable[str] = ()
    ) -> ssl.SSLContext:
        """The context for one accepted connection; ask again for the next one. Raises TlsConfigError.

        It is made when asked for the first time, and by `refresh`: ask once when you begin, so that errors show then.
        """
        return self._context(_Key(True, client_certificates, False, tuple(alpn)))

    def client_context(self, *, verify_hostname: bool = True, alpn: Iterable[str] = ()) -> ssl.SSLContext:
        """The context for one outgoing connection; the server's chain is always verified. Raises TlsConfigError.

        Without `ca_cert_file` the operating system's authorities are trusted.
        """
        return self._context(_Key(False, ClientCertificates.NONE, verify_hostname, tuple(alpn)))

    def days_to_expiry(self, now: float) -> float:
        """Days from `now` (seconds since 1970) until our own certificate expires; infinity without one."""
        return (self.not_after - now) / SECONDS_PER_DAY

    def refresh(self) -> bool:
        """Take changed files into use; True if there were any, and they could be used.

        Raises TlsConfigError once for each state of the files that cannot be used; the old ones stay in use.
        """
        signature = self._stat()
        if signature == self._signature:
            return False
        self._signature = signature
        contents = self._read()
        if contents == self._contents:
            return False
        not_after = self._find_not_after(contents)
        if not_after < time.time() and not_after <= self.not_after:
            raise self._error(self.profile.cert_file, f"the new certificate expired on {_date(not_after)}")
        fresh = {key: self._build(key, contents) for key in self._contexts}
        if not fresh:
            self._build(_Key(False, ClientCertificates.NONE, True, ()), contents)
        self._contexts = fresh
        self._contents = contents
        self.not_after = not_after
        self.generation += 1
        return True

    def _context(self, key: _Key) -> ssl.SSLContext:
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = self._build(key, self._contents)
        return context

    # -- files

    def _paths(self) -> tuple[Path | None, Path | None, Path | None]:
        return self.profile.ca_cert_file, self.profile.cert_file, self.profile.private_key_file

    def _stat(self) -> _Signature:
        """What changes when a file is rewritten or replaced, also behind a link (as Kubernetes does it)."""
        signature: list[tuple[int, int, int] | None] = []
        for path in self._paths():
            try:
                status = path.stat() if path is not None else None
            except OSError:
                status = None
            signature.append((status.st_mtime_ns, status.st_size, status.st_ino) if status is not None else None)
        return tuple(signature)

    def _read(self) -> tuple[bytes, bytes, bytes]:
        """Contents of authorities, certificate and key; empty where the profile names no file."""
        authorities, certificate, key = self._paths()
        if certificate is None and key is not None:
            raise self._error(key, "a private_key_file without a cert_file")
        key = key or certificate
        return (
            self._read_pem(authorities, rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----", "no certificate"),
            self._read_pem(certificate, rb"-----BEGIN (X509 )?CERTIFICATE-----", "no certificate"),
            self._read_pem(key, rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", "no private key"),
        )

    def _read_pem(self, path: Path | None, label: bytes, lack: str) -> bytes:
        if path is None:
            return b""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_SIZE + 1)
        except OSError as error:
            raise self._error(path, os_reason(error)) from error
        if len(content) > MAX_FILE_SIZE:
            raise self._error(path, f"larger than {MAX_FILE_SIZE >> 20} MiB")
        if not re.search(label, content):
            raise self._error(path, f"holds {lack} in PEM form" if content.strip() else "the file is empty")
        return content

    def _find_not_after(self, contents: tuple[bytes, bytes, bytes]) -> float:
        if not contents[1]:
            return float("inf")
        from cryptography import x509  # a large import, for those who use TLS

        try:
            return x509.load_pem_x509_certificate(contents[1]).not_valid_after_utc.timestamp()
        except ValueError as error:
            raise self._error(self.profile.cert_file, f"not a certificate: {error}") from error

    # -- contexts

    def _check_settings(self) -> None:
        for name in self.profile.protocols:
            if name not in _VERSIONS:
                raise self._error(None, f'protocols: "{name}" is none of {", ".join(_VERSIONS)}')
        for letter in self.profile.uid_format:
            if letter not in _UID_FIELDS and letter not in _UID_DIGESTS:
                allowed = "".join([*_UID_FIELDS, *_UID_DIGESTS])
                raise self._error(None, f'uid_format: "{letter}" is none of the letters {allowed}')

    def _build(self, key: _Key, contents: tuple[bytes, bytes, bytes]) -> ssl.SSLContext:
        profile = self.profile
        authorities, certificate, _ = contents
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if key.server else ssl.PROTOCOL_TLS_CLIENT)
        versions = [_VERSIONS[name] for name in profile.protocols] or list(_VERSIONS.values())
        context.minimum_version, context.maximum_version = min(versions), max(versions)
        if profile.ciphers is not None:
            try:
                context.set_ciphers(profile.ciphers)
            except ssl.SSLError as error:
                raise self._error(None, f'ciphers: no cipher of OpenSSL matches "{profile.ciphers}"') from error
        if key.alpn:
            context.set_alpn_protocols(list(key.alpn))
        if authorities:
            try:
                context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
            except ssl.SSLError as error:
                raise self._error(profile.ca_cert_file, _openssl_words(error)) from error
        if key.server:
            if not certificate:
                raise self._error(None, "a listener needs a cert_file")
            if key.client_certificates is not ClientCertificates.NONE:
                if not authorities:
                    raise self._error(None, "asking clients for certificates (EXTERNAL) needs ca_cert_file")
                required = key.client_certificates is ClientCertificates.REQUIRED
                context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        else:
            context.check_hostname = key.verify_hostname
            if not authorities:
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if certificate:
            self._load_chain(context)
        return context

    def _load_chain(self, context: ssl.SSLContext) -> None:
        profile = self.profile
        assert profile.cert_file is not None
        asked = False

        def password() -> str:
            # Without this OpenSSL would ask on the terminal.
            nonlocal asked
            asked = True
            return profile.password or ""

        try:
            context.load_cert_chain(profile.cert_file, profile.private_key_file, password)
        except ssl.SSLError as error:
            if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
                reason = f"the private key does not belong to the certificate in {profile.cert_file}"
            elif asked:
                given = "the password is wrong" if profile.password else "the profile has no password for it"
                reason = f"cannot decrypt the private key: {given}"
            else:
                raise self._error(profile.cert_file, f"cannot be used: {_openssl_words(error)}") from error
            raise self._error(profile.private_key_file or profile.cert_file, reason) from error
        except OSError as error:
            raise self._error(profile.cert_file, os_reason(error)) from error

    def _error(self, path: Path | None, reason: str) -> TlsConfigError:
        where = f"{path}: " if path is not None else ""
        return TlsConfigError(f'ssl_profile "{self.profile.name}": {where}{reason}')


async def watch_certificates(
    credentials: Collection[TlsCredentials], logger: FilteringBoundLogger, interval: float = CERTIFICATE_POLL_SECONDS
) -> None:
    """Re-read profiles whose files change, for ever; say so, and warn of certificates that are about to expire."""
    next_reminder = -float("inf")
    while True:
        changed = refresh_certificates(credentials, logger)
        if changed or trio.current_time() >= next_reminder:
            next_reminder = trio.current_time() + EXPIRY_REMINDER_SECONDS
            for one in credentials:
                warn_of_expiry(one, logger)
        await trio.sleep(interval)


def refresh_certificates(credentials: Iterable[TlsCredentials], logger: FilteringBoundLogger) -> bool:
    """Re-read the profiles whose files have changed, and say so; whether there were any."""
    changed = False
    for one in credentials:
        try:
            if one.refresh():
                changed = True
                logger.info(
                    "certificates re-read",
                    ssl_profile=one.profile.name,
                    generation=one.generation,
                    not_after=_date(one.not_after),
                )
        except TlsConfigError as error:
            logger.warning("certificates not re-read, the old ones stay in use", reason=str(error))
    return changed


def warn_of_expiry(credentials: TlsCredentials, logger: FilteringBoundLogger) -> None:
    """One line for a certificate that has expired or soon will."""
    days = credentials.days_to_expiry(time.time())
    if days < EXPIRY_WARNING_DAYS:
        logger.warning(
            "certificate has expired" if days < 0 else "certificate expires soon",
            ssl_profile=credentials.profile.name,
            file=str(credentials.profile.cert_file),
            not_after=_date(credentials.not_after),
            days=round(days, 1),
        )


# -- streams


class TlsLayer(Layer):
    """One connection's TLS, by OpenSSL. `tls` tells what was negotiated."""

    __slots__ = ("_held", "_incoming", "_outgoing", "_records", "tls")

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        """Without `server_hostname` this is the server's side."""
        super().__init__()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        # What OpenSSL did not take: in a renegotiation it has to receive something first.
        self._held = b""
        self._records: list[bytes | memoryview] = []

    def shake_hands(self, data: bytes) -> bool:
        """Go on with what the peer says; true when the handshake is done. Raises ssl.SSLError."""
        self._incoming.write(data)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def receive(self, data: bytes) -> bytes:
        incoming = self._incoming
        tls = self.tls
        pieces: list[bytes] = []
        start = 0
        try:
            while not self.ended:
                incoming.write(data if len(data) <= DECRYPT_SIZE else data[start : start + DECRYPT_SIZE])
                start += DECRYPT_SIZE
                try:
                    while incoming.pending or tls.pending():
                        piece = tls.read(RECORD_SIZE)
                        if not piece:
                            self.ended = True
                            break
                        pieces.append(piece)
                except ssl.SSLWantReadError:
                    # The rest of a record is missing, or what came was for TLS itself.
                    pass
                if start >= len(data):
                    break
            if self.held:
                held, self._held, self.held = self._held, b"", False
                self.send((held,))
        except ssl.SSLZeroReturnError:
            # So it is said to those who have ended themselves.
            self.ended = True
        except ssl.SSLError as error:
            self._fail(error)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def receive_eof(self) -> None:
        if not self.ended:
            self._fail(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the end without a close_notify"))

    def _fail(self, error: ssl.SSLError) -> None:
        self.fault = trio.BrokenResourceError()
        self.fault.__cause__ = error

    def send(self, chunks: Sequence[Octets]) -> None:
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self.held:
            self._held += data
            return
        write = self.tls.write
        size = len(data)
        written = 0
        try:
            if size <= RECORD_SIZE:
                written = write(data)
            else:
                with memoryview(data) as view:
                    while written < size:
                        written += write(view[written : written + RECORD_SIZE])
                        self._records.append(self._outgoing.read())
        except ssl.SSLWantReadError:
            self._held = bytes(data[written:])
            self.held = True
        except ssl.SSLError:
            # The connection is broken: whoever reads will see it.
            self.closed = True

    def take(self) -> list[bytes | memoryview]:
        records = self._records
        if not records:
            return [self._outgoing.read()] if self._outgoing.pending else []
        self._records = []
        if self._outgoing.pending:
            records.append(self._outgoing.read())
        return records

    def speaks(self) -> bool:
        return bool(self._records or self._outgoing.pending)

    def end(self) -> None:
        # RFC 8446, 6.1: it concerns our direction alone. Reading the peer's would be the second half of `unwrap`.
        with suppress(ssl.SSLError):
            self.tls.unwrap()

    def close(self) -> None:
        # A peer's close_notify is not waited for: the protocol above has said all there was to say.
        self.end()
        self.closed = True


class TlsStream(LayerStream):
    """A stream over TLS. `tls` tells what was negotiated, and with whom."""

    def __init__(self, carrier: trio.abc.Stream, layer: TlsLayer) -> None:
        super().__init__(carrier, layer)
        self.tls: ssl.SSLObject = layer.tls


async def accept_tls(stream: trio.abc.Stream, context: ssl.SSLContext) -> TlsStream:
    """The server's part of the handshake. Raises TransportError (step `tls`)."""
    return await _shake_hands(stream, TlsLayer(context), "the client")


async def connect_tls(stream: trio.abc.Stream, context: ssl.SSLContext, host: str) -> TlsStream:
    """The client's part of the handshake with `host`, whose name is sent and verified. Raises TransportError."""
    try:
        layer = TlsLayer(context, host.partition("%")[0])
    except (ValueError, UnicodeError) as error:
        raise TransportError(TransportError.TLS, f'TLS with "{host}" failed: not a name for TLS: {error}') from error
    return await _shake_hands(stream, layer, "the server")


async def _shake_hands(carrier: trio.abc.Stream, layer: TlsLayer, peer: str) -> TlsStream:
    stream = TlsStream(carrier, layer)
    data = b""
    try:
        while not layer.shake_hands(data):
            await stream.flush()
            data = bytes(await carrier.receive_some())
            if not data:
                raise TransportError(TransportError.TLS, f"TLS handshake failed: {peer} closed the connection")
        # The end of the handshake, and the tickets of a server.
        await stream.flush()
    except (ssl.SSLError, trio.BrokenResourceError) as error:
        # The peer is to learn the reason: OpenSSL has written an alert.
        with trio.move_on_after(ALERT_SECONDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.flush()
        raise TransportError(TransportError.TLS, f"TLS handshake failed: {explain(error, peer)}") from error
    return stream


def explain(error: BaseException, peer: str = "the peer") -> str:
    """Why TLS failed, in words that say whose certificate or setting it is."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError | OSError):
        cause = cause.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        words = (cause.verify_message or _openssl_words(cause)).rstrip(".")
        hints = {
            20: "; ca_cert_file does not hold the authority that signed it",
            19: "; ca_cert_file does not hold the authority at the root of its chain",
            18: "; it signed itself, and ca_cert_file does not hold it",
        }
        return f"the certificate of {peer} is refused: {words}{hints.get(cause.verify_code, '')}"
    # Which of the two it is depends on the versions of Python and OpenSSL.
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError) or cause is None:
        return f"{peer} closed the connection"
    if isinstance(cause, ssl.SSLError):
        return _EXPLANATIONS.get(cause.reason or "", "{words}").format(peer=peer, words=_openssl_words(cause))
    return os_reason(cause)


def why_broken(error: Exception) -> str:
    """Why a stream of any transport broke, for the log and the state of a connector."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError | OSError):
            return explain(cause)
        cause = cause.__cause__
    return str(error) or "the connection broke"


_EXPLANATIONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "{peer} sent no certificate, and one is required here (EXTERNAL)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "{peer} refuses our certificate as bad",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "{peer} refuses our certificate as expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "{peer} refuses our certificate as revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "{peer} does not accept our certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "{peer} found no common TLS settings, or wants a certificate from us",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "{peer} wants a certificate from us, and we sent none",
    "TLSV1_ALERT_DECRYPT_ERROR": "{peer} could not verify our signature",
    "TLSV1_ALERT_INTERNAL_ERROR": "{peer} reports an internal error",
    "TLSV1_ALERT_PROTOCOL_VERSION": "{peer} accepts none of our TLS versions",
    "TLSV1_ALERT_UNKNOWN_CA": "{peer} does not know the authority that signed our certificate",
    "TLSV1_UNRECOGNIZED_NAME": "{peer} has no certificate for the name that we asked for",
    "NO_SHARED_CIPHER": "no cipher in common with {peer}",
    "UNSUPPORTED_PROTOCOL": "{peer} offers only TLS versions that we refuse",
    "WRONG_VERSION_NUMBER": "{peer} does not speak TLS on this port",
    "HTTP_REQUEST": "{peer} sent an HTTP request without TLS",
}


def _openssl_words(error: ssl.SSLError) -> str:
    """OpenSSL's reason without its codes and file names."""
    if error.reason:
        return error.reason.lower().replace("_", " ")
    return re.sub(r"\s*\(_ssl\.c:\d+\)|^\[.*?\]\s*", "", str(error.args[-1] if error.args else error))


# -- who is there


def describe_tls(info: ConnectionInfo, stream: TlsStream, profile: SslProfile | None) -> None:
    """Fill the `tls_…` fields of `info` from a finished handshake."""
    tls = stream.tls
    info.tls_version = tls.version() or ""
    cipher = tls.cipher()
    if cipher is not None:
        info.tls_cipher, info.tls_bits = cipher[0], cipher[2] or 0
    certificate = tls.getpeercert()
    if certificate:
        info.tls_subject = subject_text(certificate)
        info.tls_peer_not_after = float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
        uid_format = profile.uid_format if profile is not None else ""
        info.tls_identity = peer_identity(certificate, lambda: tls.getpeercert(binary_form=True) or b"", uid_format)


def subject_text(certificate: Any) -> str:
    """The subject as RFC 4514 writes it, the most specific first: `CN=sensor-7,O=ACME,C=SE`."""
    return ",".join(
        "+".join(f"{_SHORT_NAMES.get(name, name)}={_escaped(value)}" for name, value in relative_name)
        for relative_name in reversed(certificate.get("subject", ()))
    )


def _escaped(value: str) -> str:
    """RFC 4514, 2.4: an attribute's value must not be able to look like a further attribute."""
    text = re.sub(r'([,+"\\<>;=])', r"\\\1", value).replace("\x00", "\\00")
    if text[:1] in ("#", " "):
        text = "\\" + text
    if text.endswith(" ") and len(value) > 1:
        text = text[:-1] + "\\ "
    return text


def peer_identity(certificate: Any, der: Callable[[], bytes], uid_format: str = "") -> str:
    """The user that a verified certificate stands for: the whole subject, or what `uid_format` picks, joined by `;`.

    `certificate` is in the form of `SSLSocket.getpeercert()`, `der()` returns its octets for the fingerprints.
    Letters: c country, s state, l locality, o organisation, u unit, n common name; 1, 2, 5: SHA-1, SHA-256, SHA-512.
    """
    if not uid_format:
        return subject_text(certificate)
    values: dict[str, str] = {}
    for relative_name in certificate.get("subject", ()):
        for name, value in relative_name:
            values.setdefault(name, value)
    parts = []
    for letter in uid_format:
        if letter in _UID_DIGESTS:
            parts.append(hashlib.new(_UID_DIGESTS[letter], der(), usedforsecurity=False).hexdigest())
        else:
            parts.append(values.get(_UID_FIELDS[letter], ""))
    return _UID_SEPARATOR.join(parts)


def _date(seconds: float) -> str:
    if seconds == float("inf"):
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
