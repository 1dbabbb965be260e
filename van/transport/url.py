"""URLs of peers and of listening ports: `amqp`, `amqps`, `ws` and `wss`.

Parses and prints; resolves nothing. For `amqp` and `amqps`, what stands behind the first `/` is the address, taken
literally once percent-decoded (`#` and `?` may be part of a pattern); for `ws` and `wss` it is the HTTP resource.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import quote, unquote

# IANA's ports for AMQP; those of HTTP for WebSocket.
DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671, "ws": 80, "wss": 443}
TRANSPORTS = {"amqp": "tcp", "amqps": "tls", "ws": "ws", "wss": "wss"}

MAX_HOST_LENGTH = 253
"""The longest name that DNS can hold (RFC 1035, 2.3.4). A longer one is refused before anybody asks for it."""

_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(/.*)?", re.DOTALL)
_PASSWORD = re.compile(r"(://[^/:@]*:)[^/]*@")
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f]")
_NOT_IN_HOST = re.compile(r"[\[\]:?#@\\<>\"'%|^`{}]")
_LOOKS_LIKE_HOST = re.compile(r"[A-Za-z0-9_.-]+(:[0-9]+)?(/.*)?|\[[0-9A-Fa-f:]+\](:[0-9]+)?(/.*)?")


class UrlError(ValueError):
    """Text that is not a URL which we understand. The message shows the URL, its password masked."""


@dataclass(frozen=True, slots=True)
class Url:
    """One parsed URL. `host` has no brackets; an empty `host` (listeners only) means every local interface."""

    scheme: str
    host: str
    port: int
    path: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def transport(self) -> str:
        """`tcp`, `tls`, `ws` or `wss`."""
        return TRANSPORTS[self.scheme]

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted from its first octet."""
        return self.scheme in ("amqps", "wss")

    @property
    def websocket(self) -> bool:
        """Whether AMQP travels in WebSocket messages."""
        return self.scheme in ("ws", "wss")

    @property
    def address(self) -> str:
        """The AMQP address after the host, percent-decoded; empty for `ws` and `wss`, whose path is HTTP's."""
        return "" if self.websocket else unquote(self.path[1:])

    @property
    def host_and_port(self) -> str:
        """`host:port` with brackets around IPv6, as logs and error texts show it."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def host_header(self) -> str:
        """The `Host` header of a WebSocket request: without the port where it is the scheme's own (RFC 9110, 7.2)."""
        return bracketed(self.host) if self.port == DEFAULT_PORTS[self.scheme] else self.host_and_port

    def __str__(self) -> str:
        """The URL without its password: this goes to logs."""
        user = f"{quote(self.user, safe='')}@" if self.user is not None else ""
        return f"{self.scheme}://{user}{self.host_and_port}{self.path}"


def bracketed(host: str) -> str:
    """The host as it stands before a colon and a port."""
    return f"[{host}]" if ":" in host else host


def parse_url(text: str, *, any_interface: bool = False) -> Url:
    """Parse one URL, `scheme://[user[:password]@]host[:port][/path]`.

    With `any_interface` the host may be left out (`amqp://:5672`), for listeners on all interfaces, IPv4 and IPv6.
    Raises UrlError, whose text shows the URL and says what is wrong with it.
    """
    if _NOT_IN_URL.search(text):
        raise _refuse(text, "holds a blank or a control character")
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        if _LOOKS_LIKE_HOST.fullmatch(text):
            raise _refuse(text, f'has no scheme; did you mean "amqp://{text}"')
        raise _refuse(text, f"is not of the form SCHEME://HOST:PORT/PATH with {_schemes()}")
    scheme, authority, path = shape[1].lower(), shape[2], shape[3] or ""
    if scheme not in DEFAULT_PORTS:
        near = {"http": "ws", "https": "wss", "tcp": "amqp", "ssl": "amqps", "tls": "amqps"}.get(scheme)
        if near is None:
            near = next(iter(difflib.get_close_matches(scheme, DEFAULT_PORTS, n=1)), None)
        hint = f'; did you mean "{near}"' if near else ""
        raise _refuse(text, f'has the scheme "{scheme}", which is none of {_schemes()}{hint}')

    credentials, at, place = authority.rpartition("@")
    user: str | None = None
    password: str | None = None
    if at:
        quoted_user, colon, quoted_password = credentials.partition(":")
        user = unquote(quoted_user)
        password = unquote(quoted_password) if colon else None
        if not user:
            raise _refuse(text, "has an empty user name")

    host, port_text = split_place(text, place)
    if not host and not any_interface:
        raise _refuse(text, "names no host")
    port = DEFAULT_PORTS[scheme]
    if port_text is not None:
        if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65535):
            raise _refuse(text, f'has the port "{port_text}", which is not a number from 0 to 65535')
        port = int(port_text)
    return Url(scheme, host, port, path, user, password)


def split_place(text: str, place: str) -> tuple[str, str | None]:
    """Split `host:port` where the host may be a bracketed IPv6 address with a zone."""
    if place.startswith("["):
        inside, bracket, rest = place[1:].partition("]")
        if not bracket:
            raise _refuse(text, 'has a "[" without "]"')
        host = unquote(inside)
        try:
            IPv6Address(host)
        except AddressValueError as error:
            raise _refuse(text, f'has "{inside}" in brackets, which is not an IPv6 address') from error
        if rest and not rest.startswith(":"):
            raise _refuse(text, f'has "{rest}" where a colon and the port belong')
        return host, rest[1:] if rest else None
    if place.count(":") > 1:
        raise _refuse(
            text, "has more than one colon in its host; an IPv6 address stands in brackets: amqp://[::1]:5672"
        )
    host, colon, port_text = place.partition(":")
    bad = _NOT_IN_HOST.search(host)
    if bad:
        raise _refuse(text, f'has "{bad[0]}" in its host name')
    if len(host) > MAX_HOST_LENGTH:
        raise _refuse(text, f"has a host name longer than {MAX_HOST_LENGTH} characters")
    return host, port_text if colon else None


def _refuse(text: str, what: str) -> UrlError:
    shown = _PASSWORD.sub(r"\1***@", text if len(text) <= 300 else text[:300] + "…")
    return UrlError(f'the URL "{shown}" {what}')


def _schemes() -> str:
    return "amqp, amqps, ws, wss"
