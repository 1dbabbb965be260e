"""URLs of services: `tcp://127.0.0.1:5432`. Where a port is here, or a server there, and which protocol is spoken.

Parses and prints; resolves nothing. What a scheme is served by is the assembly's business (`van.router.kinds`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from van.transport.url import UrlError, bracketed, split_place

# The ports that IANA has for them; the others have none of their own.
DEFAULT_PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}

_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([/?#].*)?", re.DOTALL)
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class ServiceUrl:
    """One parsed URL. `host` has no brackets; an empty `host` (only where to listen) means every local interface."""

    scheme: str
    host: str
    port: int

    @property
    def host_and_port(self) -> str:
        """`host:port` with brackets around IPv6, as logs and error texts show it."""
        return f"{bracketed(self.host)}:{self.port}"

    def __str__(self) -> str:
        """The URL as it is written, with its port."""
        return f"{self.scheme}://{self.host_and_port}"


def parse_service_url(text: str, schemes: Sequence[str], *, any_interface: bool = False) -> ServiceUrl:
    """Parse `SCHEME://HOST:PORT`; any_interface: the host may be left out.

    Raises `UrlError`, which says what is wrong.
    """
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    known = ", ".join(schemes)
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise UrlError(f'the URL "{shown}" is not of the form SCHEME://HOST:PORT with {known}')
    scheme, place, rest = shape[1].lower(), shape[2], shape[3] or ""
    if scheme not in schemes:
        near = {"ssl": "tls", "h2": "http2", "h2c": "http2", "grpc": "http2", "tcps": "tls"}.get(scheme)
        if near not in schemes:
            near = next(iter(difflib.get_close_matches(scheme, schemes, n=1)), None)
        hint = f'; did you mean "{near}"' if near else ""
        raise UrlError(f'the URL "{shown}" has the scheme "{scheme}", which is none of {known}{hint}')
    if rest not in ("", "/"):
        raise UrlError(f'the URL "{shown}" has "{rest[:_SHOWN]}" behind its port, where nothing belongs')
    host, port_text = split_place(text, place)
    if not host and not any_interface:
        raise UrlError(f'the URL "{shown}" names no host')
    if port_text is None:
        if scheme not in DEFAULT_PORTS:
            raise UrlError(f'the URL "{shown}" names no port, and {scheme} has none of its own')
        return ServiceUrl(scheme, host, DEFAULT_PORTS[scheme])
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65535):
        raise UrlError(f'the URL "{shown}" has the port "{port_text}", which is not a number from 0 to 65535')
    return ServiceUrl(scheme, host, int(port_text))
