"""Outward through a proxy: HTTP CONNECT, SOCKS5 or SOCKS4.

SOCKS is python-socks'. CONNECT is spoken here with h11: python-socks takes one read for the whole answer, so that an
answer which arrives in two segments leaves the rest of its headers in the stream, in front of AMQP.
Whether a proxy is used, and TLS inside the tunnel, is decided by whoever opens the connection.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

import h11
import python_socks
import trio
from python_socks.async_.trio import Proxy as SocksProxy

from van.transport.errors import TransportError, os_reason
from van.transport.tcp import keep_alive, open_tcp
from van.transport.url import UrlError, bracketed

DEFAULT_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080, "socks4": 1080, "socks4a": 1080}

MAX_ANSWER = 16 * 1024
"""Octets of an HTTP answer's head; a proxy that sends more is no proxy."""

SOCKS_TIMEOUT = 60.0
"""python-socks wants one; whoever connects has a shorter one around it."""

_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9]*)://(?:([^/@]*)@)?(\[[^\]/]*\]|[^/:@\[\]]+)(?::([0-9]{1,5}))?/?")


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """Where a proxy is, and who we are to it."""

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Without the credentials: this goes to logs."""
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def parse_proxy_url(text: str) -> ProxyUrl:
    """Parse `scheme://[user:password@]host[:port]`; schemes http, socks5, socks5h, socks4, socks4a. Raises UrlError."""
    shown = re.sub(r"//[^@/]*@", "//***@", text)
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise UrlError(f'the proxy URL "{shown}" is not of the form SCHEME://HOST:PORT')
    scheme = shape[1].lower()
    if scheme not in DEFAULT_PORTS:
        raise UrlError(f'the proxy URL "{shown}" has the scheme "{scheme}", none of {", ".join(DEFAULT_PORTS)}')
    port = int(shape[4]) if shape[4] else DEFAULT_PORTS[scheme]
    if not 0 < port <= 65535:
        raise UrlError(f'the proxy URL "{shown}" has the port {port}, which is not from 1 to 65535')
    user, _, password = (shape[2] or "").partition(":")
    return ProxyUrl(scheme, shape[3].strip("[]"), port, unquote(user), unquote(password))


async def open_through_proxy(proxy: ProxyUrl, host: str, port: int) -> trio.SocketStream:
    """A TCP stream to `host:port` by way of `proxy`; the name is resolved there, except with `socks4`.

    Raises TransportError (step `proxy`), which names the proxy and the target.
    """
    try:
        if proxy.scheme == "http":
            return await _connect_http(proxy, host, port)
        return await _connect_socks(proxy, host, port)
    except _RefusedError as error:
        raise TransportError(
            TransportError.PROXY, f"the proxy {proxy} did not connect us to {bracketed(host)}:{port}: {error}"
        ) from error
    except TransportError as error:
        raise TransportError(TransportError.PROXY, f"the proxy {proxy} cannot be reached: {error}") from error


class _RefusedError(Exception):
    """The proxy was reached, and said no or nonsense."""


async def _connect_http(proxy: ProxyUrl, host: str, port: int) -> trio.SocketStream:
    target = f"{bracketed(host)}:{port}"
    stream = await open_tcp(proxy.host, proxy.port)
    try:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER)
        headers = [("Host", target), ("User-Agent", "van")]
        if proxy.user:
            token = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode("ascii")
            headers.append(("Proxy-Authorization", f"Basic {token}"))
        request = http.send(h11.Request(method="CONNECT", target=target, headers=headers))
        await stream.send_all((request or b"") + (http.send(h11.EndOfMessage()) or b""))
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await stream.receive_some(MAX_ANSWER)
                if not data:
                    raise _RefusedError("it closed the connection")
                http.receive_data(data)
                continue
            if isinstance(event, h11.InformationalResponse):
                continue
            break
        assert isinstance(event, h11.Response)
        if not 200 <= event.status_code < 300:
            raise _RefusedError(f"HTTP {event.status_code} {event.reason.decode('ascii', 'replace')}".rstrip())
        if http.trailing_data[0]:
            # We speak first in every protocol that goes through here: this is not our peer.
            raise _RefusedError("it sent octets of its own behind its answer")
        return stream
    except h11.RemoteProtocolError as error:
        await trio.aclose_forcefully(stream)
        raise _RefusedError(f"not an HTTP answer: {error}") from error
    except h11.LocalProtocolError as error:
        await trio.aclose_forcefully(stream)
        raise _RefusedError(f"the target cannot be asked for: {error}") from error
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        cause = error.__cause__
        raise _RefusedError(os_reason(cause) if isinstance(cause, OSError) else "the connection broke") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def _connect_socks(proxy: ProxyUrl, host: str, port: int) -> trio.SocketStream:
    kind = python_socks.ProxyType.SOCKS5 if proxy.scheme.startswith("socks5") else python_socks.ProxyType.SOCKS4
    through = SocksProxy(
        kind,
        proxy.host,
        proxy.port,
        username=proxy.user or None,
        password=proxy.password or None,
        # The proxy resolves names: it may know names that we do not. Plain SOCKS4 has only addresses.
        rdns=proxy.scheme != "socks4",
    )
    try:
        sock = await through.connect(host, port, timeout=SOCKS_TIMEOUT)
    except python_socks.ProxyConnectionError as error:
        raise TransportError(TransportError.TCP, os_reason(error)) from error
    except python_socks.ProxyTimeoutError as error:
        raise _RefusedError("it did not answer in time") from error
    except python_socks.ProxyError as error:
        raise _RefusedError(str(error)) from error
    except UnicodeError as error:
        raise _RefusedError("the host name cannot be written in the proxy's protocol") from error
    except OSError as error:
        raise _RefusedError(os_reason(error)) from error
    stream = trio.SocketStream(sock)
    keep_alive(stream)
    return stream
