"""Headers of the PROXY protocol: the examples of its specification, what is refused, and what is written is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from van.adaptors.tcp.proxy_protocol import MAX_HEADER, proxy_header, read_proxy_header
from van.amqp.errors import DecodeError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
UNSPECIFIED = b"\x00" * 16

READ = [
    (b"PROXY TCP4 192.0.2.255 255.255.255.255 65535 1\r\n", ("192.0.2.255", 65535), ("255.255.255.255", 1)),
    (b"PROXY TCP6 2001:db8::1 ::1 5 6\r\n", ("2001:db8::1", 5), ("::1", 6)),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, None),
    (
        SIGNATURE + b"\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x50",
        ("192.0.2.1", 1234),
        ("192.0.2.2", 80),
    ),
    (
        SIGNATURE + b"\x21\x21\x00\x24" + UNSPECIFIED + UNSPECIFIED[:15] + b"\x01\x04\xd2\x00\x50",
        ("::", 1234),
        ("::1", 80),
    ),
    # With an addition; of a health check of the proxy itself; of a local socket.
    (
        SIGNATURE + b"\x21\x11\x00\x13\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x50\x01\x00\x04http",
        ("192.0.2.1", 1234),
        ("192.0.2.2", 80),
    ),
    (SIGNATURE + b"\x20\x00\x00\x00", None, None),
    (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), None, None),
]


@pytest.mark.parametrize(("octets", "client", "local"), READ)
def test_headers_are_read_whatever_follows_and_in_pieces(
    octets: bytes, client: tuple[str, int] | None, local: tuple[str, int] | None
) -> None:
    for more in (b"", b"GET / HTTP/1.1\r\n"):
        found = read_proxy_header(octets + more)
        assert found is not None
        assert (found.client, found.local, found.size) == (client, local, len(octets))
    for cut in range(len(octets)):
        assert read_proxy_header(octets[:cut]) is None


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1234\r\n",
        b"PROXY TCP4 192.0.2.1 ::1 1234 80\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1234 80\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 \xb2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1234 80\r\n",
        b"PROXY " + b"x" * 110,
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
        SIGNATURE + b"\x21\x11" + MAX_HEADER.to_bytes(2, "big"),
    ],
)
def test_anything_else_is_refused(octets: bytes) -> None:
    with pytest.raises(DecodeError):
        read_proxy_header(octets)


ports = st.integers(0, 65535)
narrow = st.tuples(st.ip_addresses(v=4).map(str), ports)
wide = st.tuples(st.ip_addresses(v=6).map(str), ports)


@given(st.sampled_from([1, 2]), st.tuples(narrow, narrow) | st.tuples(wide, wide))
def test_what_is_written_is_read(version: int, places: tuple[tuple[str, int], tuple[str, int]]) -> None:
    client, local = places
    octets = proxy_header(version, client, local)
    found = read_proxy_header(octets)
    assert found is not None
    assert (found.client, found.local, found.size) == (client, local, len(octets))


@pytest.mark.parametrize("version", [1, 2])
def test_ends_of_different_kinds_and_unknown_ones(version: int) -> None:
    for client, local, wanted in (
        (("192.0.2.1", 5), ("2001:db8::1", 80), (("::ffff:c000:201", 5), ("2001:db8::1", 80))),
        (("fe80::1%eth0", 5), ("192.0.2.1", 80), (("fe80::1", 5), ("::ffff:c000:201", 80))),
        (("192.0.2.1", 5), None, (("192.0.2.1", 5), ("0.0.0.0", 0))),
        (None, ("192.0.2.1", 80), (None, None)),
        (("host.example", 5), ("192.0.2.1", 80), (None, None)),
    ):
        found = read_proxy_header(proxy_header(version, client, local))
        assert found is not None
        assert (found.client, found.local) == wanted
