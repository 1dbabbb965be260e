"""Listeners: bound before served, over every transport, and one connection's trouble is nobody else's."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio

from tests.transport.authority import Authority
from tests.transport.echo import Endpoints
from tests.transport.logbook import Logbook
from tests.transport.scenes import exchange, serving, until, until_end
from van.transport.dial import open_stream
from van.transport.errors import TransportError
from van.transport.limits import ConnectionLimit
from van.transport.listener import Listener
from van.transport.tcp import local_text
from van.transport.tls import ClientCertificates, TlsConfigError, TlsCredentials
from van.transport.url import parse_url


def fresh() -> tuple[Endpoints, Callable[[], None]]:
    endpoints = Endpoints()
    return endpoints, endpoints.wake_touched


async def test_a_port_is_ours_before_anything_is_served(logbook: Logbook) -> None:
    listener = Listener(parse_url("amqp://127.0.0.1:0"), *fresh(), logbook.logger)
    await listener.bind()
    assert listener.port != 0
    assert listener.addresses == [f"127.0.0.1:{listener.port}"]
    second = Listener(parse_url(f"amqp://127.0.0.1:{listener.port}"), *fresh(), logbook.logger)
    with pytest.raises(TransportError, match="address already in use"):
        await second.bind()

    async with await trio.open_tcp_stream("127.0.0.1", listener.port) as early, trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        await exchange(early, b"early", b"early")
        listener.stop_serving()


async def test_a_listener_with_tls_needs_certificates_when_it_is_bound(authority: Authority, logbook: Logbook) -> None:
    url = parse_url("amqps://127.0.0.1:0")
    with pytest.raises(TransportError, match="a listener with TLS needs an ssl_profile"):
        await Listener(url, *fresh(), logbook.logger).bind()
    credentials = TlsCredentials(authority.trust_only())
    with pytest.raises(TlsConfigError, match="a listener needs a cert_file"):
        await Listener(url, *fresh(), logbook.logger, credentials=credentials).bind()


@pytest.mark.parametrize("scheme", ["amqp", "amqps", "ws", "wss"])
async def test_every_transport(scheme: str, authority: Authority) -> None:
    tls: dict[str, Any] = {
        "credentials": authority.credentials(),
        "client_certificates": ClientCertificates.REQUIRED,
    }
    client = authority.credentials("client", common_name="sensor-7")
    async with serving(scheme, **(tls if scheme in ("amqps", "wss") else {})) as stage:
        async with open_stream(stage.url, credentials=client) as (stream, info):
            await exchange(stream, b"!open", b"opened")
            large = bytes(300_000)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, large)
                heard = 0
                while heard < len(large):
                    heard += len(await stream.receive_some(65536))
            (adaptor,) = stage.endpoints.made
            theirs = adaptor.info
            assert (theirs.outgoing, info.outgoing) == (False, True)
            assert theirs.peer == info.local
            assert theirs.local == info.peer == f"127.0.0.1:{stage.listener.port}"
            assert theirs.transport == info.transport == stage.url.transport
            assert theirs.encrypted == info.encrypted == stage.url.tls
            assert ("sensor-7" in theirs.tls_identity) == stage.url.tls
            assert theirs.subprotocol == info.subprotocol == ("amqp" if stage.url.websocket else "")
            assert stage.listener.connections == 1
            assert theirs.peer in repr(theirs)
        await until(lambda: not stage.listener.connections)
        assert adaptor.lost == 1
        assert stage.logbook.lines == []


async def test_a_client_that_is_refused_by_tls_is_logged_in_one_line(authority: Authority) -> None:
    tls: dict[str, Any] = {"credentials": authority.credentials(), "client_certificates": ClientCertificates.REQUIRED}
    async with serving("amqps", **tls) as stage:
        without = TlsCredentials(authority.trust_only())
        async with open_stream(stage.url, credentials=without) as (stream, info):
            await until_end(stream)
        line = await stage.line("connection refused")
        assert line["peer"] == info.local
        assert line["reason"].endswith("the client sent no certificate, and one is required here (EXTERNAL)")
        assert stage.endpoints.made == []
        assert stage.listener.refused == 1


async def test_a_renewed_certificate_serves_new_connections_while_old_ones_live(authority: Authority) -> None:
    server = authority.credentials(common_name="before")
    client = TlsCredentials(authority.trust_only())
    async with serving("amqps", credentials=server) as stage:
        async with open_stream(stage.url, credentials=client) as (old, old_info):
            authority.profile(common_name="after")
            assert server.refresh()
            async with open_stream(stage.url, credentials=client) as (new, new_info):
                await exchange(old, b"old", b"old")
                await exchange(new, b"new", b"new")
        assert "CN=before" in old_info.tls_subject
        assert "CN=after" in new_info.tls_subject


TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
AMQP_HEADER = b"AMQP\x00\x01\x00\x00"


@pytest.mark.parametrize(
    ("scheme", "octets", "reason"),
    [
        ("amqp", TLS_HELLO, "this port speaks AMQP without TLS; the peer began a TLS handshake"),
        ("amqp", b"GET / HTTP/1.1\r\n\r\n", "this port speaks AMQP without TLS; the peer began an HTTP request"),
        ("amqp", b"PRI * HTTP/2.0\r\n\r\n", "this port speaks AMQP without TLS; the peer began HTTP/2"),
        (
            "amqp",
            b"PROXY TCP4 ",
            "this port speaks AMQP without TLS; the peer began the PROXY protocol of a load balancer",
        ),
        ("amqp", b"\r\n\r\n\0\r\nQUIT\n", "AMQP without TLS; the peer began the PROXY protocol of a load balancer"),
        ("ws", TLS_HELLO, "this port speaks AMQP over WebSocket (ws); the peer began a TLS handshake"),
        ("ws", AMQP_HEADER, "this port speaks AMQP over WebSocket (ws); the peer began AMQP without TLS"),
        ("amqps", AMQP_HEADER, "this port speaks AMQP over TLS (amqps); the peer began AMQP without TLS"),
        ("amqps", b"GET / HTTP/1.1\r\n\r\n", "this port speaks AMQP over TLS (amqps); the peer began an HTTP request"),
        ("amqps", b"\0\0\0\0", "AMQP over TLS (amqps); the peer began something that is not TLS"),
        ("wss", b"GET / HTTP/1.1\r\n\r\n", "AMQP over WebSocket with TLS (wss); the peer began an HTTP request"),
    ],
)
async def test_a_peer_at_the_wrong_port_is_told_from_garbage(
    scheme: str, octets: bytes, reason: str, authority: Authority
) -> None:
    credentials = authority.credentials() if scheme in ("amqps", "wss") else None
    async with serving(scheme, credentials=credentials) as stage, await stage.dial() as stream:
        await stream.send_all(octets)
        answer = await until_end(stream)
        line = await stage.line("connection refused")
        assert line["reason"].endswith(reason)
        assert line["peer"] == local_text(stream)
        assert stage.endpoints.made == []
        assert answer.endswith(b"This port speaks AMQP, not HTTP.\r\n") == (scheme == "amqp" and octets[:3] == b"GET")


async def test_a_wrong_amqp_header_is_the_adaptors_business() -> None:
    async with serving() as stage, await stage.dial() as stream:
        for octets in (b"AMQP\x09\x09\x09\x09", b"\xde\xad\xbe\xef"):
            await exchange(stream, octets, octets)


@pytest.mark.parametrize("scheme", ["amqp", "amqps", "ws", "wss"])
async def test_garbage_resets_and_probes_harm_nobody(scheme: str, authority: Authority) -> None:
    credentials = authority.credentials() if scheme in ("amqps", "wss") else None
    client = TlsCredentials(authority.trust_only())
    async with serving(scheme, credentials=credentials) as stage:
        async with open_stream(stage.url, credentials=client) as (stream, _):
            await exchange(stream, b"!open", b"opened")
            for octets in (b"", b"\x16", b"\x16\x03\x01\x00\x05junk", b"GET /\r\n\r\n", b"\xff" * 70_000):
                # The port scan's way: hang up with a reset.
                raw = await stage.dial()
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with suppress(trio.BrokenResourceError):
                    await raw.send_all(octets)
                await raw.aclose()
                # The polite way.
                async with await stage.dial() as raw:
                    with suppress(trio.BrokenResourceError):
                        await raw.send_all(octets)
                        await raw.send_eof()
                    await until_end(raw)
            await exchange(stream, b"still here", b"still here")
        assert stage.listener.failed == 0
        assert set(stage.logbook.events()) <= {"connection refused", "connection closed before its first octet"}


async def test_a_crash_ends_one_connection_and_is_logged_with_its_traceback() -> None:
    async with serving() as stage, await stage.dial() as good, await stage.dial() as bad:
        await exchange(good, b"!open", b"opened")
        await exchange(bad, b"!open", b"opened")
        await bad.send_all(b"!crash")
        assert await until_end(bad) == b""
        line = await stage.line("connection failed, a fault of ours")
        assert line["level"] == "error"
        assert isinstance(line["exc_info"], RuntimeError)
        assert line["peer"] == local_text(bad)
        assert stage.endpoints.made[1].lost == 1
        await exchange(good, b"still here", b"still here")
        assert stage.listener.failed == 1


async def test_a_fault_in_a_flush_ends_the_connection_that_has_it_not_the_one_that_called_for_it() -> None:
    async with serving() as stage, await stage.dial() as good, await stage.dial() as bad:
        await exchange(good, b"!open", b"opened")
        await exchange(bad, b"!open", b"opened")
        faulty = stage.endpoints.made[1]
        faulty.faulty = True
        faulty.touch()
        await exchange(good, b"a batch", b"a batch")
        assert await until_end(bad) == b""
        line = await stage.line("connection failed, a fault of ours")
        assert line["peer"] == local_text(bad)
        assert faulty.lost == 1
        await exchange(good, b"still here", b"still here")
        assert stage.listener.failed == 1


async def test_without_the_guard_a_crash_is_seen() -> None:
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - all of it is ended by the crash
        async with serving(guarded=False) as stage, await stage.dial() as bad:
            await bad.send_all(b"!crash")
            await until_end(bad)
            await trio.sleep_forever()
    assert caught.group_contains(RuntimeError, match="planted fault")


async def test_a_listeners_own_limit_refuses_and_frees() -> None:
    async with serving(max_connections=2) as stage:
        first, second = await stage.dial(), await stage.dial()
        await exchange(first, b"1", b"1")
        await exchange(second, b"2", b"2")
        for _ in range(3):
            async with await stage.dial() as refused:
                assert await until_end(refused) == b""
        line = await stage.line("connection refused")
        assert line["reason"] == "max_connections of this listener (2) is reached"
        assert stage.listener.refused == 3
        await first.send_all(b"!close")
        await until_end(first)
        await until(lambda: stage.listener.connections < 2)
        async with await stage.dial() as third:
            await exchange(third, b"3", b"3")


async def test_the_routers_limit_is_shared_by_its_listeners() -> None:
    limit = ConnectionLimit(1)
    async with serving(router_limit=limit) as one, serving(router_limit=limit) as other, await one.dial() as stream:
        await exchange(stream, b"1", b"1")
        async with await other.dial() as refused:
            assert await until_end(refused) == b""
        assert (await other.line("connection refused"))["reason"] == ("max_connections of the router (1) is reached")
        assert (one.listener.limit.in_use, other.listener.limit.in_use) == (1, 0)
        limit.limit = 2
        async with await other.dial() as admitted:
            await exchange(admitted, b"2", b"2")
    assert limit.in_use == 0


async def test_running_out_of_descriptors_is_survived() -> None:
    resource = pytest.importorskip("resource", reason="only POSIX has limits on descriptors")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving() as stage:
        client = trio.socket.socket()
        with socket.socket() as probe:
            lowest = probe.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            await client.connect(("127.0.0.1", stage.listener.port))
            with trio.fail_after(10):
                await until(lambda: bool(stage.logbook.lines))
            line = await stage.line("accept failed, trying again")
            assert line["errno"] == "EMFILE"
            assert line["reason"] == "too many open files"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await exchange(trio.SocketStream(client), b"made it", b"made it")
        client.close()


async def test_stopping_to_accept_closes_the_port_and_keeps_the_connections() -> None:
    async with serving() as stage:
        stream = await stage.dial()
        await exchange(stream, b"!open", b"opened")
        stage.listener.stop_accepting()
        with pytest.raises(OSError, match="attempts to connect"):
            await stage.dial()
        await exchange(stream, b"still here", b"still here")
        await stream.send_all(b"!close")
        await until_end(stream)


async def test_serve_returns_when_nothing_is_left(logbook: Logbook) -> None:
    listener = Listener(parse_url("amqp://127.0.0.1:0"), *fresh(), logbook.logger)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: listener.serve(task_status=task_status))
        stream = await trio.open_tcp_stream("127.0.0.1", listener.port)
        await exchange(stream, b"x", b"x")
        listener.stop_accepting()
        await stream.aclose()
    assert listener.connections == 0
    assert listener.addresses == []


async def test_a_listener_that_was_stopped_before_it_served_does_not_serve(logbook: Logbook) -> None:
    for stop in ("stop_accepting", "stop_serving"):
        listener = Listener(parse_url("amqp://127.0.0.1:0"), *fresh(), logbook.logger)
        await listener.bind()
        getattr(listener, stop)()
        await listener.serve()
        with pytest.raises(OSError, match="attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", listener.port)


async def test_everybody_is_asked_to_end_and_handshakes_are_cut(authority: Authority) -> None:
    credentials = authority.credentials()
    async with serving("amqps", credentials=credentials) as stage:
        client = TlsCredentials(authority.trust_only())
        async with open_stream(stage.url, credentials=client) as (stream, _), await stage.dial() as stalled:
            await exchange(stream, b"!open", b"opened")
            await until(lambda: stage.listener.connections == 2)
            stage.listener.stop_accepting()
            stage.listener.close_all("amqp:connection:forced", "shutting down")
            assert await until_end(stream) == b"close amqp:connection:forced"
            assert await until_end(stalled) == b""


async def test_many_connections_at_once() -> None:
    async with serving() as stage:

        async def visit(number: int) -> None:
            async with await stage.dial() as stream:
                await exchange(stream, b"%d" % number, b"%d" % number)

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(partial(visit, number))
        assert stage.listener.accepted == 200
        await until(lambda: not stage.listener.connections)
        assert all(adaptor.lost == 1 for adaptor in stage.endpoints.made)
