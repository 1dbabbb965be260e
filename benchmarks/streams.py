"""How the clients of the benchmarks connect: TCP, TLS, WebSocket, and WebSocket over TLS, with blocking sockets.

All have the verbs of a socket. They cost little: TLS is the standard library's without a check of the certificate, and
WebSocket masks with zeros, which is no work for us and the same for the router.
"""

from __future__ import annotations

import base64
import socket
import ssl
import struct
from typing import Protocol

TRANSPORTS = ("tcp", "tls", "ws", "wss")
# A router that has not answered TLS and WebSocket after so many seconds does not speak them.
HANDSHAKE_SECONDS = 10.0
# The answer to a WebSocket's opening is shorter than this.
MAX_HTTP_ANSWER = 65536
_BINARY = 0x82
_CONTROL = 0x08
_CLOSE = 0x88


class Stream(Protocol):
    """What is needed of a connected socket."""

    def fileno(self) -> int:
        """The descriptor, for a selector."""

    def sendall(self, data: bytes, /) -> None:
        """Write, as long as it takes."""

    def recv(self, limit: int, /) -> bytes:
        """Wait for octets; empty at the end."""

    def close(self) -> None:
        """Let go of the socket."""


class TlsStream:
    """A TLS client; `recv` gives all that has been decrypted, so that a selector misses nothing."""

    def __init__(self, connected: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._tls = context.wrap_socket(connected)
        self._tls.settimeout(None)
        self.fileno = self._tls.fileno
        self.sendall = self._tls.sendall
        self.close = self._tls.close

    def recv(self, limit: int) -> bytes:
        """Wait for octets; empty at the end."""
        try:
            data = self._tls.recv(limit)
            while self._tls.pending() and len(data) < limit:
                data += self._tls.recv(limit - len(data))
        except ssl.SSLEOFError:
            return b""
        return data


class WebSocketStream:
    """The client's side of AMQP over WebSocket: a binary message for each write, frames taken as they come."""

    def __init__(self, inner: Stream) -> None:
        self._inner = inner
        self.fileno = inner.fileno
        self.close = inner.close
        self._raw = b""
        # What is left of the frame that is being read, and whether it is data.
        self._left = 0
        self._data = False
        self._over = False
        key = base64.b64encode(bytes(16)).decode()
        inner.sendall(
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: amqp\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._raw:
            data = inner.recv(4096)
            if not data or len(self._raw) > MAX_HTTP_ANSWER:
                raise RuntimeError("the router has refused the WebSocket")
            self._raw += data
        head, self._raw = self._raw.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(f"the router has refused the WebSocket: {head!r}")

    def sendall(self, data: bytes) -> None:
        """Write one message, masked with zeros."""
        size = len(data)
        if size < 126:
            head = struct.pack(">BBI", _BINARY, 0x80 | size, 0)
        elif size < 65536:
            head = struct.pack(">BBHI", _BINARY, 0x80 | 126, size, 0)
        else:
            head = struct.pack(">BBQI", _BINARY, 0x80 | 127, size, 0)
        self._inner.sendall(head + data)

    def recv(self, limit: int) -> bytes:
        """Wait for octets of messages; empty at the end."""
        while True:
            pieces = self._pieces()
            if pieces:
                return b"".join(pieces)
            if self._over:
                return b""
            data = self._inner.recv(limit)
            if not data:
                return b""
            self._raw = self._raw + data if self._raw else data

    def _pieces(self) -> list[bytes]:
        """The payload that has come, without the frames' headers."""
        pieces = []
        raw = self._raw
        pos = 0
        end = len(raw)
        while pos < end:
            if not self._left:
                if end - pos < 2:
                    break
                size = raw[pos + 1] & 0x7F
                head = 2 if size < 126 else 4 if size == 126 else 10
                if end - pos < head:
                    break
                if size >= 126:
                    size = int.from_bytes(raw[pos + 2 : pos + head], "big")
                self._data = not raw[pos] & _CONTROL
                if raw[pos] == _CLOSE and not self._over:
                    self._over = True
                    self._inner.sendall(bytes((_CLOSE, 0x80, 0, 0, 0, 0)))
                self._left = size
                pos += head
            piece = raw[pos : pos + self._left]
            pos += len(piece)
            self._left -= len(piece)
            if self._data and piece:
                pieces.append(piece)
        self._raw = raw[pos:]
        return pieces


def connect(port: int, transport: str = "tcp") -> Stream:
    """Connect to this machine's port."""
    connected = socket.create_connection(("127.0.0.1", port), HANDSHAKE_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream: Stream
    if transport in {"tls", "wss"}:
        stream = TlsStream(connected)
    else:
        stream = connected
        connected.settimeout(None)
    return WebSocketStream(stream) if transport in {"ws", "wss"} else stream
