"""One outgoing connection: by proxy or directly, through TLS and WebSocket, as its URL says.

Tries once. Trying again is the connector's business, or the client's.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from van.transport.errors import TransportError
from van.transport.info import ConnectionInfo
from van.transport.poller import elsewhere
from van.transport.proxy import ProxyUrl, open_through_proxy
from van.transport.tcp import local_text, open_tcp, peer_text
from van.transport.tls import SslProfile, TlsCredentials, connect_tls, describe_tls
from van.transport.url import Url
from van.transport.websocket import connect_websocket

CONNECT_TIMEOUT = 10.0
"""Seconds for name, TCP, proxy, TLS and WebSocket together: the first retransmissions of a lost SYN fit in."""

CLOSE_TIMEOUT = 5.0
"""Seconds for an orderly end; whoever does not read cannot hold us longer."""


@asynccontextmanager
async def open_stream(
    url: Url,
    *,
    credentials: TlsCredentials | None = None,
    ssl_context: ssl.SSLContext | None = None,
    verify_hostname: bool = True,
    proxy: ProxyUrl | None = None,
    timeout: float = CONNECT_TIMEOUT,  # noqa: ASYNC109 - it covers the opening, not the block
) -> AsyncIterator[tuple[trio.abc.Stream, ConnectionInfo]]:
    """Connect to `url` within `timeout` seconds; the stream is closed at the end of the block.

    `credentials` are used for `amqps` and `wss`; without them the operating system's authorities are trusted.
    An application's own `ssl_context` is used in place of all that.
    Raises TransportError: which step failed, and why.
    """
    tcp: trio.SocketStream | None = None
    stage = "connecting"
    deadline = trio.current_time() + timeout
    try:
        stream: trio.abc.Stream
        with trio.CancelScope(deadline=deadline) as opening, elsewhere():
            if proxy is not None:
                stage = f"connecting through the proxy {proxy}"
                stream = tcp = await open_through_proxy(proxy, url.host, url.port)
            else:
                stream = tcp = await open_tcp(url.host, url.port)
            info = ConnectionInfo(
                peer=peer_text(tcp), local=local_text(tcp), transport=url.transport, url=url, outgoing=True
            )
            if url.tls:
                stage = "the TLS handshake"
                context, profile = ssl_context, None
                if context is None:
                    used = credentials or TlsCredentials(SslProfile("default"))
                    profile = used.profile
                    context = used.client_context(
                        verify_hostname=verify_hostname, alpn=("http/1.1",) if url.websocket else ()
                    )
                stream = secured = await connect_tls(tcp, context, url.host)
                describe_tls(info, secured, profile)
        if opening.cancelled_caught:
            raise TransportError(TransportError.TIMEOUT, f"not connected within {timeout:g} s: still at {stage}")
        if url.websocket:
            with elsewhere():
                stream = websocket = await connect_websocket(stream, url.host_header, url.path, deadline=deadline)
            info.subprotocol, info.path = websocket.subprotocol, websocket.path
        yield stream, info
        with trio.move_on_after(CLOSE_TIMEOUT):
            await stream.aclose()
    except TransportError as error:
        raise TransportError(error.step, f"{url}: {error}") from error
    finally:
        if tcp is not None:
            await trio.aclose_forcefully(tcp)
