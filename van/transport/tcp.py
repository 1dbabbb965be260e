"""TCP: binding ports and opening connections, over IPv4, IPv6 or both.

Names are resolved here; several addresses of one name are tried side by side (happy eyeballs, RFC 8305, by trio).
Serving what was accepted is the listener's business.
"""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from typing import Any

import trio

from van.transport.errors import TransportError, os_reason
from van.transport.url import bracketed

BACKLOG = 0xFFFF
"""As many waiting connections as the kernel allows: it cuts this down to its own limit (somaxconn)."""

KEEPALIVE_IDLE_SECONDS = 60
KEEPALIVE_INTERVAL_SECONDS = 15
KEEPALIVE_PROBES = 4
"""A peer that vanished without a word is noticed after two minutes, also where no idle time-out was agreed upon."""

# Those that the system has.
_KEEPALIVE_OPTIONS = [
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    )
    if hasattr(socket, name)
]

NEAR_SEND_BUFFER = 262144
"""What a socket may hold of what a peer on this machine has not taken, in octets; Linux doubles it for its own needs.

Left to itself it holds up to 4 MiB (`tcp_wmem`), of which a peer so near needs nothing, and which have left the
processor's cache by the time they are read: a mebibyte takes a third less CPU, and a quarter less time.
"""

SAME_PORT_ATTEMPTS = 20
"""How often to look for a free port that IPv4 and IPv6 can both have when any port will do."""

# A machine may resolve a name to an IPv6 address, and have IPv6 switched off: then IPv4 alone will do.
_FAMILY_IS_MISSING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def address_text(address: Any) -> str:
    """`host:port` of a socket address; the empty string for a socket that has lost its peer."""
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{bracketed(str(address[0]))}:{address[1]}"
    return str(address or "")


def peer_text(stream: trio.SocketStream) -> str:
    """Who is at the other end, as `host:port`; empty when the connection is gone already."""
    try:
        return address_text(stream.socket.getpeername())
    except OSError:
        return ""


def local_text(stream: trio.SocketStream) -> str:
    """Our end, as `host:port`."""
    try:
        return address_text(stream.socket.getsockname())
    except OSError:
        return ""


def keep_alive(stream: trio.SocketStream | trio.socket.SocketType | socket.socket) -> None:
    """Have the kernel probe a silent peer. TCP_NODELAY was set by trio: frames are joined by us, not by Nagle."""
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE_OPTIONS:
            stream.setsockopt(socket.IPPROTO_TCP, option, value)


def bound_send_buffer(descriptor: int) -> None:
    """Let a socket that is full hold less from now on if its peer is on this machine: see `NEAR_SEND_BUFFER`.

    How much a peer further away needs is for the system to find out.
    """
    sock = socket.socket(fileno=descriptor)
    try:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.getpeername()[0] == sock.getsockname()[0]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEAR_SEND_BUFFER)
    except OSError:
        pass  # It has just broken, which is for others to see.
    finally:
        sock.detach()


async def open_tcp(host: str, port: int) -> trio.SocketStream:
    """Connect to a host by name or number. Raises TransportError, which names the step: name or tcp."""
    where = f"{bracketed(host)}:{port}"
    family = _family(host)
    try:
        if family is None:
            stream = await trio.open_tcp_stream(host, port)
        else:
            # Of one address nothing has to be tried side by side, which is three quarters of the work (160 us).
            stream = await _connect(family, host, port)
    except socket.gaierror as error:
        raise TransportError(TransportError.NAME, f'cannot resolve "{host}": {os_reason(error)}') from error
    except UnicodeError as error:
        raise TransportError(TransportError.NAME, f'cannot resolve "{host}": not a possible host name') from error
    except OSError as error:
        raise TransportError(TransportError.TCP, f"cannot connect to {where}: {_reasons(error)}") from error
    keep_alive(stream)
    return stream


def _family(host: str) -> socket.AddressFamily | None:
    """The family of a host that is an address, None for a name. Addresses with a zone are the resolver's."""
    try:
        return socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6 if "%" not in host else None
    except ValueError:
        return None


async def _connect(family: socket.AddressFamily, host: str, port: int) -> trio.SocketStream:
    sock = trio.socket.socket(family)
    try:
        await sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def _reasons(error: OSError) -> str:
    """Why each address failed, each reason once: trio keeps them in a group behind its own error."""
    causes = error.__cause__
    if not isinstance(causes, BaseExceptionGroup):
        return os_reason(error)
    reasons = dict.fromkeys(os_reason(cause) for cause in causes.exceptions if isinstance(cause, OSError))
    return "; ".join(reasons) or os_reason(error)


async def bind_tcp(host: str, port: int) -> list[trio.SocketListener]:
    """Bind and listen, so that the port is ours before anything is served.

    An empty host means all interfaces, IPv4 and IPv6. A name with several addresses is bound on each; with port 0 all
    of them get the same port. Raises TransportError (step `bind`, or `name`).
    """
    where = f"{bracketed(host)}:{port}"
    try:
        found = await trio.socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE if not host else 0
        )
    except (socket.gaierror, UnicodeError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else "not a possible host name"
        raise TransportError(
            TransportError.NAME, f'cannot listen on {where}: cannot resolve "{host}": {reason}'
        ) from error
    targets = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for attempt in range(SAME_PORT_ATTEMPTS):
        try:
            return _bind_all(targets, port)
        except OSError as error:
            any_port_will_do = port == 0 and len(targets) > 1 and error.errno == errno.EADDRINUSE
            if not any_port_will_do or attempt == SAME_PORT_ATTEMPTS - 1:
                raise TransportError(TransportError.BIND, f"cannot listen on {where}: {os_reason(error)}") from error
    raise AssertionError("unreachable")


def _bind_all(targets: list[tuple[Any, Any]], port: int) -> list[trio.SocketListener]:
    """Bind every address or none. Raises OSError."""
    listeners: list[trio.SocketListener] = []
    missing: OSError | None = None
    with ExitStack() as undo:
        for family, address in targets:
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                missing = error
                continue
            undo.callback(sock.close)
            if sys.platform == "win32":
                # Without this another program could bind the same port and take our connections.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                # Otherwise a restart would wait for the last connection's TIME_WAIT.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # IPv4 has a socket of its own, so that peers are shown as 10.0.0.1, never as ::ffff:10.0.0.1.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address[0], port, *address[2:]))
            except OSError as error:
                if error.errno not in _FAMILY_IS_MISSING or len(targets) == 1:
                    raise
                missing = error
                sock.close()
                continue
            if port == 0:
                port = sock.getsockname()[1]
            sock.listen(BACKLOG)
            listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))
        if not listeners:
            raise missing or OSError(errno.EADDRNOTAVAIL, "the name has no address")
        undo.pop_all()
    return listeners
