"""Through proxies that really relay: each kind, names and numbers, credentials, and errors that name the proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.transport.authority import Authority
from tests.transport.proxies import Handler, Relay, answering, http_connect, running, socks4, socks5
from van.transport.dial import open_stream
from van.transport.errors import TransportError
from van.transport.proxy import ProxyUrl, open_through_proxy, parse_proxy_url
from van.transport.tls import TlsCredentials, accept_tls
from van.transport.url import UrlError, parse_url
from van.transport.websocket import accept_websocket


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, echo, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def echoes(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"AMQP")
    assert await stream.receive_some(4) == b"AMQP"
    await stream.aclose()


@pytest.mark.parametrize(
    ("handler", "scheme", "asked"),
    [
        (http_connect, "http", "localhost"),
        (socks5, "socks5", "localhost"),
        (socks5, "socks5h", "localhost"),
        (socks4, "socks4", "127.0.0.1"),
        (socks4, "socks4a", "localhost"),
    ],
)
async def test_each_kind_relays_and_who_resolves_the_name(handler: Handler, scheme: str, asked: str) -> None:
    async with echo_server() as port, running(Relay(handler)) as relay:
        proxy = parse_proxy_url(f"{scheme}://127.0.0.1:{relay.port}")
        await echoes(await open_through_proxy(proxy, "localhost", port))
        await echoes(await open_through_proxy(proxy, "127.0.0.1", port))
        assert relay.asked == [f"{asked}:{port}", f"127.0.0.1:{port}"]


@pytest.mark.parametrize(("handler", "scheme"), [(http_connect, "http"), (socks5, "socks5")])
async def test_credentials(handler: Handler, scheme: str) -> None:
    async with echo_server() as port, running(Relay(handler, user="me", password="s:cret")) as relay:
        good = parse_proxy_url(f"{scheme}://me:s%3Acret@127.0.0.1:{relay.port}")
        await echoes(await open_through_proxy(good, "127.0.0.1", port))
        for bad in (f"{scheme}://127.0.0.1:{relay.port}", f"{scheme}://me:wrong@127.0.0.1:{relay.port}"):
            with pytest.raises(TransportError) as caught:
                await open_through_proxy(parse_proxy_url(bad), "127.0.0.1", port)
            text = str(caught.value)
            assert f"the proxy {scheme}://127.0.0.1:{relay.port} did not connect us to 127.0.0.1:{port}: " in text
            assert "wrong" not in text
            assert caught.value.step == TransportError.PROXY


@pytest.mark.parametrize(("handler", "scheme"), [(http_connect, "http"), (socks5, "socks5"), (socks4, "socks4")])
async def test_an_answer_in_single_octets_leaves_nothing_in_the_stream(handler: Handler, scheme: str) -> None:
    async with echo_server() as port, running(Relay(handler)) as relay:
        relay.split_answer = True
        proxy = ProxyUrl(scheme, "127.0.0.1", relay.port)
        await echoes(await open_through_proxy(proxy, "127.0.0.1", port))


@pytest.mark.parametrize(
    ("scheme", "octets", "what"),
    [
        ("http", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "HTTP 403 Forbidden"),
        ("http", b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "HTTP 502 Bad Gateway"),
        ("http", b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP answer"),
        ("http", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, "not an HTTP answer"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-OpenSSH\r\n", "octets of its own"),
        ("http", b"", "closed the connection"),
        ("socks5", b"\x05\xff", ""),
        ("socks5", b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0", "refused"),
        ("socks5", b"HTTP/1.1 400\r\n", "SOCKS version"),
        ("socks5", b"\x05", ""),
        ("socks4", b"\x00\x5b\0\0\0\0\0\0", ""),
        ("socks4", b"", ""),
    ],
)
async def test_a_proxy_that_refuses_or_is_none_is_named(scheme: str, octets: bytes, what: str) -> None:
    async with running(Relay(answering(octets))) as relay:
        proxy = ProxyUrl(scheme, "127.0.0.1", relay.port)
        with pytest.raises(TransportError) as caught:
            await open_through_proxy(proxy, "192.0.2.1", 5672)
        assert f"the proxy {proxy} did not connect us to 192.0.2.1:5672: " in str(caught.value)
        assert what in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks4"])
async def test_a_proxy_that_is_not_there_is_named(scheme: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(TransportError) as caught:
        await open_through_proxy(ProxyUrl(scheme, "127.0.0.1", port), "192.0.2.1", 5672)
    assert f"the proxy {scheme}://127.0.0.1:{port} cannot be reached: " in str(caught.value)
    assert caught.value.step == TransportError.PROXY


async def test_a_proxy_that_does_not_answer_is_named(autojump_clock: trio.testing.MockClock) -> None:
    async def silent(relay: Relay, client: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with running(Relay(silent)) as relay:
        autojump_clock.autojump_threshold = 0.05  # let the kernel's loopback finish before time jumps
        proxy = ProxyUrl("http", "127.0.0.1", relay.port)
        with pytest.raises(TransportError) as caught:
            async with open_stream(parse_url("amqp://192.0.2.1"), proxy=proxy, timeout=7):
                pytest.fail("connected")
        assert str(caught.value) == (
            f"amqp://192.0.2.1:5672: not connected within 7 s: still at connecting through the proxy {proxy}"
        )


async def test_tls_and_websocket_inside_the_tunnel(authority: Authority) -> None:
    server = authority.credentials()

    async def serve(stream: trio.SocketStream) -> None:
        secured = await accept_tls(stream, server.server_context())
        websocket = await accept_websocket(secured)
        await websocket.send_all(await websocket.receive_some())
        await websocket.receive_some()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery, running(Relay(http_connect)) as relay:
        await nursery.start(trio.serve_listeners, serve, listeners)
        url = parse_url(f"wss://localhost:{listeners[0].socket.getsockname()[1]}/van")
        proxy = parse_proxy_url(f"http://127.0.0.1:{relay.port}")
        credentials = TlsCredentials(authority.trust_only())
        async with open_stream(url, credentials=credentials, proxy=proxy) as (stream, info):
            assert info.encrypted
            assert info.subprotocol == "amqp"
            await echoes(stream)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy.corp:3128", ProxyUrl("http", "proxy.corp", 3128)),
        ("HTTP://proxy.corp/", ProxyUrl("http", "proxy.corp", 80)),
        ("socks5://[::1]", ProxyUrl("socks5", "::1", 1080)),
        ("socks5h://u:p%40@h:1", ProxyUrl("socks5h", "h", 1, "u", "p@")),
        ("socks4://id@h", ProxyUrl("socks4", "h", 1080, "id")),
    ],
)
def test_proxy_urls(text: str, expected: ProxyUrl) -> None:
    assert parse_proxy_url(text) == expected


@pytest.mark.parametrize(
    "text", ["proxy:3128", "ftp://h:1", "http://", "http://h:0", "http://h:70000", "http://h/path"]
)
def test_proxy_urls_that_are_none(text: str) -> None:
    with pytest.raises(UrlError, match="the proxy URL"):
        parse_proxy_url(text)


def test_the_proxys_password_is_not_shown() -> None:
    assert str(parse_proxy_url("http://u:hidden@h:1")) == "http://h:1"
    assert "hidden" not in repr(parse_proxy_url("http://u:hidden@h:1"))
    with pytest.raises(UrlError) as caught:
        parse_proxy_url("http://u:hidden@h:x")
    assert "hidden" not in str(caught.value)
