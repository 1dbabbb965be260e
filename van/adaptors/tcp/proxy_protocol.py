"""The PROXY protocol, versions 1 and 2: a header by which a proxy names the client in front of a connection's octets.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt. A listening service may expect one, a connecting
service may write one. Local sockets and UDP are read and count as unknown, as do the checksums and other additions of
version 2.
"""

from __future__ import annotations

import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from van.amqp.errors import DecodeError

# 2.1: the longest line, its CRLF included.
MAX_LINE: Final = 107
# 2.2: additions may take 64 KiB; those of the load balancers that are used take less than 1 KiB.
MAX_HEADER: Final = 4096

# `PROXY UNKNOWN` and its end, in octets: nothing can be behind a header that is no longer.
SHORTEST_HEADER: Final = 15

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED: Final = 16
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_TCP4: Final = 0x11
_TCP6: Final = 0x21

Place = tuple[str, int]


class ProxiedPeer:
    """What a header says: the client's end of its connection and the proxy's, None for unknown; `size` in octets."""

    __slots__ = ("client", "local", "size")

    def __init__(self, client: Place | None, local: Place | None, size: int) -> None:
        self.client = client
        self.local = local
        self.size = size


def read_proxy_header(data: bytes) -> ProxiedPeer | None:
    """Read the header that `data` begins with; None when more of it has to come. Raises DecodeError for none."""
    if data.startswith(_SIGNATURE):
        return _read_binary(data)
    if _SIGNATURE.startswith(data) or b"PROXY ".startswith(data[:6]):
        end = data.find(b"\r\n", 0, MAX_LINE)
        if end >= 0 and data.startswith(b"PROXY "):
            return _read_line(data[:end])
        if len(data) < MAX_LINE:
            return None
    raise DecodeError("no header of the PROXY protocol")


def size_of_header(data: bytes) -> int:
    """At least how many octets the header that `data` begins with has: it is not whole before, nor much beyond."""
    if data.startswith(b"P"):
        # To the end of the line, octet by octet.
        return len(data) + 1
    return _FIXED + int.from_bytes(data[14:16], "big") if len(data) >= _FIXED else _FIXED


def _read_line(line: bytes) -> ProxiedPeer:
    words = line.decode("latin-1").split(" ")
    size = len(line) + 2
    if words[1] == "UNKNOWN":
        return ProxiedPeer(None, None, size)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise DecodeError("PROXY protocol: not five words behind PROXY")
    kind = IPv4Address if words[1] == "TCP4" else IPv6Address
    try:
        hosts = [str(kind(word)) for word in words[2:4]]
    except AddressValueError as error:
        raise DecodeError(f"PROXY protocol: {error}") from None
    ports = [_port(word) for word in words[4:6]]
    return ProxiedPeer((hosts[0], ports[0]), (hosts[1], ports[1]), size)


def _port(word: str) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 5 or int(word) > 65535:
        raise DecodeError("PROXY protocol: no port")
    return int(word)


def _read_binary(data: bytes) -> ProxiedPeer | None:
    if len(data) < _FIXED:
        return None
    command = data[12]
    family = data[13]
    size = _FIXED + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise DecodeError("PROXY protocol: not version 2, or another command")
    if size > MAX_HEADER:
        raise DecodeError(f"PROXY protocol: a header of more than {MAX_HEADER} octets")
    if len(data) < size:
        return None
    if command == _LOCAL or family not in (_TCP4, _TCP6):
        return ProxiedPeer(None, None, size)
    width = 4 if family == _TCP4 else 16
    if size < _FIXED + 2 * width + 4:
        raise DecodeError("PROXY protocol: addresses are cut short")
    pos = _FIXED + 2 * width
    hosts = [_host(data[_FIXED : _FIXED + width]), _host(data[_FIXED + width : pos])]
    client_port, local_port = struct.unpack_from(">HH", data, pos)
    return ProxiedPeer((hosts[0], client_port), (hosts[1], local_port), size)


def _host(octets: bytes) -> str:
    return str(IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets))


def proxy_header(version: int, client: Place | None, local: Place | None) -> bytes:
    """The header of this version, 1 or 2. client, local: the two ends of the client's connection, None for unknown."""
    places = _same_kind(client, local)
    if places is None:
        return b"PROXY UNKNOWN\r\n" if version == 1 else _SIGNATURE + bytes((_LOCAL, 0, 0, 0))
    (source, source_port), (destination, destination_port) = places
    narrow = isinstance(source, IPv4Address)
    if version == 1:
        kind = "TCP4" if narrow else "TCP6"
        return f"PROXY {kind} {source} {destination} {source_port} {destination_port}\r\n".encode()
    addresses = source.packed + destination.packed + struct.pack(">HH", source_port, destination_port)
    return _SIGNATURE + struct.pack(">BBH", _PROXY, _TCP4 if narrow else _TCP6, len(addresses)) + addresses


_Ends = tuple[tuple[IPv4Address | IPv6Address, int], tuple[IPv4Address | IPv6Address, int]]


def _same_kind(client: Place | None, local: Place | None) -> _Ends | None:
    """Both ends as addresses of one kind; None where the client's is none."""
    source = _address(client[0]) if client is not None else None
    if client is None or source is None:
        return None
    destination = _address(local[0]) if local is not None else None
    if destination is None:
        destination = IPv4Address(0) if isinstance(source, IPv4Address) else IPv6Address(0)
    if type(destination) is not type(source):
        source, destination = _wide(source), _wide(destination)
    return (source, client[1]), (destination, local[1] if local is not None else 0)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    text = text.partition("%")[0]
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return None


def _wide(address: IPv4Address | IPv6Address) -> IPv6Address:
    """An address of version 4 as one of version 6 (RFC 4291, 2.5.5.2)."""
    return address if isinstance(address, IPv6Address) else IPv6Address(0xFFFF_0000_0000 + int(address))
