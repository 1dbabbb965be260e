"""What a peer that chose the wrong port is speaking, from its first octets.

People point AMQP clients at TLS ports and browsers at AMQP ports every day; "decode error" tells them nothing. The
octets are looked at and left in the socket, so that the connection afterwards is the plain socket stream. A wrong
*AMQP* header is the adaptor's business: it can answer it.
"""

from __future__ import annotations

import socket

import trio

SNIFFED_OCTETS = 8
"""As long as an AMQP protocol header (2.2). One octet is enough to decide; it is not worth waiting for more."""

_PLAIN_AMQP = "AMQP without TLS"
_HTTP_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ")
_EXPECTED = {
    "tcp": _PLAIN_AMQP,
    "tls": "AMQP over TLS (amqps)",
    "ws": "AMQP over WebSocket (ws)",
    "wss": "AMQP over WebSocket with TLS (wss)",
}

HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 34\r\nConnection: close\r\n\r\n"
    b"This port speaks AMQP, not HTTP.\r\n"
)


async def peek(stream: trio.SocketStream) -> bytes:
    """The first octets that arrive, left in the socket; empty at the end. Raises OSError as sockets do."""
    data: bytes = await stream.socket.recv(SNIFFED_OCTETS, socket.MSG_PEEK)
    return data


def spoken(first: bytes) -> str:
    """What begins with these octets, in words; empty for whatever is not recognised."""
    if first[:1] == b"\x16" and first[1:2] in (b"", b"\x03"):
        return "a TLS handshake"
    if b"AMQP".startswith(first[:4]):
        return _PLAIN_AMQP
    if len(first) >= 4 and b"PROXY ".startswith(first[:6]):
        return "the PROXY protocol of a load balancer"
    if b"\r\n\r\n\x00\r\nQ".startswith(first) and len(first) >= 4:
        return "the PROXY protocol of a load balancer"
    if len(first) >= 3 and b"PRI * HT".startswith(first):
        return "HTTP/2"
    if any(method.startswith(first[: len(method)]) for method in _HTTP_METHODS):
        return "an HTTP request"
    return ""


def mistaken(transport: str, first: bytes) -> str:
    """What to tell the operator about a peer at the wrong port; empty when the octets may be right."""
    begun = spoken(first)
    if transport in ("tls", "wss"):
        right = begun == "a TLS handshake"
        begun = begun or "something that is not TLS"
    elif transport == "ws":
        right = begun in ("an HTTP request", "")
    else:
        right = begun in (_PLAIN_AMQP, "")
    return "" if right else f"this port speaks {_EXPECTED[transport]}; the peer began {begun}"
