"""Ports and connections: both families under one port, and errors that name host, port and reason."""

from __future__ import annotations

import socket
import sys

import pytest
import trio

from van.transport.errors import TransportError
from van.transport.tcp import (
    NEAR_SEND_BUFFER,
    address_text,
    bind_tcp,
    bound_send_buffer,
    keep_alive,
    local_text,
    open_tcp,
    peer_text,
)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


async def call(host: str, listeners: list[trio.SocketListener]) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Connect by our own function, and accept on whichever socket it reached."""
    port = listeners[0].socket.getsockname()[1]
    opened: list[trio.SocketStream] = []
    accepted: list[trio.SocketStream] = []

    async def accept(listener: trio.SocketListener, scope: trio.CancelScope) -> None:
        accepted.append(await listener.accept())
        scope.cancel()

    async def dial() -> None:
        opened.append(await open_tcp(host, port))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                accepting.start_soon(accept, listener, accepting.cancel_scope)
    return opened[0], accepted[0]


async def close(*resources: trio.abc.AsyncResource) -> None:
    for resource in resources:
        await resource.aclose()


async def test_loopback_by_number() -> None:
    listeners = await bind_tcp("127.0.0.1", 0)
    client, server = await call("127.0.0.1", listeners)
    assert peer_text(client) == address_text(listeners[0].socket.getsockname())
    assert peer_text(server) == local_text(client)
    await close(client, server, *listeners)


@needs_ipv6
async def test_ipv6_by_number_is_shown_in_brackets() -> None:
    listeners = await bind_tcp("::1", 0)
    client, server = await call("::1", listeners)
    assert peer_text(client).startswith("[::1]:")
    await close(client, server, *listeners)


@needs_ipv6
async def test_no_host_means_both_families_under_one_port() -> None:
    listeners = await bind_tcp("", 0)
    assert len(listeners) == 2
    assert len({listener.socket.getsockname()[1] for listener in listeners}) == 1
    for host, shown in (("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")):
        client, server = await call(host, listeners)
        assert peer_text(server).startswith(shown)
        await close(client, server)
    await close(*listeners)


async def test_a_name_is_resolved() -> None:
    listeners = await bind_tcp("localhost", 0)
    client, server = await call("localhost", listeners)
    await close(client, server, *listeners)


async def test_a_connection_sends_at_once_and_is_probed() -> None:
    listeners = await bind_tcp("127.0.0.1", 0)
    client, server = await call("127.0.0.1", listeners)
    keep_alive(server)
    for stream in (client, server):
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    await close(client, server, *listeners)
    keep_alive(server)  # harmless on a connection that is gone
    assert peer_text(server) == ""
    assert local_text(server) == ""


async def test_a_port_in_use_is_named() -> None:
    listeners = await bind_tcp("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(TransportError) as caught:
        await bind_tcp("127.0.0.1", port)
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: address already in use"
    assert caught.value.step == TransportError.BIND
    await close(*listeners)


async def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(TransportError, match=r"cannot listen on 192\.0\.2\.1:0: cannot assign requested address"):
        await bind_tcp("192.0.2.1", 0)


async def test_a_restart_does_not_wait_for_old_connections() -> None:
    listeners = await bind_tcp("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    client, server = await call("127.0.0.1", listeners)
    await close(server, client, *listeners)  # the server closes first: its end stays in TIME_WAIT
    await close(*await bind_tcp("127.0.0.1", port))


async def test_nobody_listens() -> None:
    listeners = await bind_tcp("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    await close(*listeners)
    with pytest.raises(TransportError) as caught:
        await open_tcp("127.0.0.1", port)
    assert str(caught.value) == f"cannot connect to 127.0.0.1:{port}: connection refused"
    assert caught.value.step == TransportError.TCP


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example"])
async def test_a_name_that_does_not_resolve(host: str) -> None:
    for action in (open_tcp(host, 5672), bind_tcp(host, 5672)):
        with pytest.raises(TransportError) as caught:
            await action
        assert f'cannot resolve "{host}"' in str(caught.value)
        assert caught.value.step == TransportError.NAME


def connected(*, client: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection to 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname(), source_address=(client, 0))
        ours, _ = listening.accept()
        return ours, theirs


def send_buffer(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def test_a_peer_on_this_machine_is_sent_ahead_of_little() -> None:
    ours, theirs = connected()
    with ours, theirs:
        bound_send_buffer(ours.fileno())
        # Linux says the double.
        assert NEAR_SEND_BUFFER <= send_buffer(ours) <= 2 * NEAR_SEND_BUFFER
        ours.sendall(b"still ours")
        assert theirs.recv(100) == b"still ours"


@pytest.mark.skipif(sys.platform != "linux", reason="one address for this machine, elsewhere")
def test_for_a_peer_at_another_address_the_system_finds_out() -> None:
    ours, theirs = connected(client="127.0.0.2")
    with ours, theirs:
        before = send_buffer(ours)
        bound_send_buffer(ours.fileno())
        assert send_buffer(ours) == before


def test_nothing_is_said_of_sockets_without_addresses_or_peers() -> None:
    pair = socket.socketpair()
    with pair[0], pair[1]:
        before = send_buffer(pair[0])
        bound_send_buffer(pair[0].fileno())
        assert send_buffer(pair[0]) == before
    with socket.socket() as alone:
        bound_send_buffer(alone.fileno())
        assert alone.fileno() >= 0
