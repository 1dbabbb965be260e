"""Any octets begin with the head of a stream of TCP, with a PROXY header, need more, or raise DecodeError.

What is read does not depend on the pieces in which it comes, and what was understood is written so that it reads the
same.
"""

from __future__ import annotations

from harness import main

from van.adaptors.tcp.head import MAX_HEAD, Head, client_head, read_head, read_place, server_head
from van.adaptors.tcp.proxy_protocol import MAX_HEADER, ProxiedPeer, proxy_header, read_proxy_header
from van.amqp.errors import DecodeError

DECODER = {
    "van.adaptors.tcp.head": r"^(read_head|read_place)",
    "van.adaptors.tcp.proxy_protocol": r"^(read_proxy_header|_read_line|_read_binary|_port)",
}

PLANTED = (
    # Addresses that are not there.
    (
        "van.adaptors.tcp.proxy_protocol",
        "    if size < _FIXED + 2 * width + 4:",
        "    if size < _FIXED:",
    ),
    # Digits that are none for `int`.
    (
        "van.adaptors.tcp.proxy_protocol",
        "    if not word.isascii() or not word.isdigit() or len(word) > 5 or int(word) > 65535:",
        "    if not word.isdigit() or len(word) > 5 or int(word) > 65535:",
    ),
    # Octets that never are a head.
    (
        "van.adaptors.tcp.head",
        "        if whole or len(data) > MAX_HEAD:",
        "        if whole:",
    ),
    # A stream of TCP with some other body.
    (
        "van.adaptors.tcp.head",
        "            if head.ours and data[value] != 0x40:",
        "            if False:",
    ),
)


def said(head: Head) -> tuple[object, ...]:
    return head.to, head.reply_to, head.correlation, head.alpn, read_place(head.client), read_place(head.local)


def stream(data: bytes) -> None:
    try:
        found = read_head(data, False)
    except DecodeError:
        return
    if found is None:
        assert len(data) <= MAX_HEAD
        return
    head, end = found
    assert 0 < end <= len(data)
    if not head.ours:
        return
    assert data[:end].endswith(b"\x40")
    again = read_head(data[:end], True)
    assert again is not None
    assert again[1] == end
    assert read_head(data[: end - 1], False) is None
    written = server_head(head.to)
    if head.reply_to:
        ends = read_place(head.client), read_place(head.local)
        written = client_head(head.to, head.reply_to, head.correlation, head.alpn, *ends)
    again = read_head(written + b"octets", False)
    assert again is not None
    assert again[0].ours
    assert again[1] == len(written)
    if head.reply_to:
        wanted = said(head)
        # What has no client has no more of that either.
        assert said(again[0]) == (wanted if wanted[4] else (*wanted[:4], None, None))


def proxied(data: bytes) -> None:
    try:
        found = read_proxy_header(data)
    except DecodeError:
        return
    if found is None:
        assert len(data) <= MAX_HEADER
        return
    assert 0 < found.size <= len(data)
    assert read_proxy_header(data[: found.size - 1]) is None
    again = read_proxy_header(data[: found.size])
    assert again is not None
    assert places(again) == places(found)
    for version in (1, 2):
        header = proxy_header(version, found.client, found.local)
        written = read_proxy_header(header + b"octets")
        assert written is not None
        assert written.size == len(header)
        assert places(written) == places(found)


def places(peer: ProxiedPeer) -> tuple[object, object]:
    return peer.client, peer.local


def one_input(data: bytes) -> None:
    stream(data)
    proxied(data)


main(__name__)
