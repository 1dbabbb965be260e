"""Services of the site file: ports that are open while their address can be reached, and servers that are dialled.

What is served here is the least that can be: `simple_services.py`.
"""

from __future__ import annotations

import io
import json
import ssl
from contextlib import suppress

import pytest
import trio

from tests.router.running import PLAIN, Running, running, until, until_end
from tests.router.simple_services import install
from tests.router.site_file import SiteFile
from tests.router.test_site_reload import again
from van.adaptors.tcp.proxy_protocol import proxy_header
from van.client import connect
from van.router import exit_codes, log
from van.router.describe import describe
from van.router.site import Site
from van.transport.errors import TransportError


@pytest.fixture(autouse=True)
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def listening(name: str = "greets", address: str = "news", more: str = "", port: int = 0) -> str:
    return f'\n[[service]]\nname = "{name}"\nlisten = "tcp://127.0.0.1:{port}"\naddress = "{address}"\n{more}\n'


def connecting(port: int, address: str = "orders", more: str = "") -> str:
    return f'\n[[service]]\nname = "delivers"\nconnect = "tcp://127.0.0.1:{port}"\naddress = "{address}"\n{more}\n'


ALWAYS = "always_open = true"


def port_of(scene: Running, name: str = "greets") -> int:
    return scene.site.services.running[name].endpoint.port


async def said(port: int, words: bytes = b"") -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        if words:
            await stream.send_all(words)
        await stream.send_eof()
        return await until_end(stream)


async def refuses(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return True
    await stream.aclose()
    return False


async def test_a_port_is_open_while_somebody_receives_at_its_address(
    site: SiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("van.transport.service_port.SETTLE_SECONDS", 0.0)
    async with running(site, PLAIN + listening()) as scene:
        port = port_of(scene)
        assert await refuses(port)
        async with connect(scene.url()) as client:
            async with client.receiver("news"):
                line = await scene.line("service listening")
                assert (line["service"], line["address"]) == ("greets", "news")
                assert line["listening"] == [f"127.0.0.1:{port}"]
                assert await said(port, b"hi") == b"hello from news\nyou said hi"
            await scene.line("service not listening")
            assert await refuses(port)
            async with client.receiver("news"):
                await until(lambda: len(scene.lines("service listening")) == 2)
                assert await said(port) == b"hello from news\n"


async def test_a_port_that_is_always_open(site: SiteFile) -> None:
    async with running(site, PLAIN + listening(more=ALWAYS)) as scene:
        assert await said(port_of(scene)) == b"hello from news\n"


async def test_a_server_is_dialled_and_a_failure_is_told(site: SiteFile) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with (
        running(site, PLAIN + connecting(port)) as scene,
        connect(scene.url()) as client,
        client.sender("orders") as sender,
    ):
        tracker = sender.send_nowait("one")
        async with await listener.accept() as stream:
            assert b"one" in bytes(await stream.receive_some(1000))
        assert (await tracker.wait()).accepted
        await listener.aclose()
        outcome = await sender.send_nowait("two").wait()
        assert not outcome.accepted
        assert f"tcp://127.0.0.1:{port}: cannot connect to 127.0.0.1:{port}: connection refused" in str(outcome)


async def test_keys_reach_the_service_without_the_unit_in_their_names(site: SiteFile) -> None:
    async with running(site, PLAIN + listening(more=f"{ALWAYS}\nidle_timeout_seconds = 7")) as scene:
        assert scene.site.services.running["greets"].service.idle_timeout == 7.0  # type: ignore[attr-defined]


async def test_more_connections_than_allowed_are_closed_and_one_of_them_ends_alone(site: SiteFile) -> None:
    async with running(site, PLAIN + listening(more=f"{ALWAYS}\nmax_connections = 2")) as scene:
        port = port_of(scene)
        first = await trio.open_tcp_stream("127.0.0.1", port)
        async with first:
            assert await first.receive_some(100) == b"hello from news\n"
            # A fault of one connection is that connection's.
            assert await said(port, b"raise") == b"hello from news\n"
            (line,) = scene.lines("connection failed, a fault of ours")
            assert "RuntimeError: a fault in the adaptor" in line["exception"]
            second = await trio.open_tcp_stream("127.0.0.1", port)
            async with second:
                assert await second.receive_some(100) == b"hello from news\n"
                assert await said(port) == b""
                line = await scene.line("connection refused")
                assert (line["service"], line["reason"]) == (
                    "greets", "max_connections of this service (2) is reached"
                )  # fmt: skip
            await first.send_all(b"still here")
            assert await first.receive_some(100) == b"you said still here"


async def test_a_port_in_use_at_the_start_ends_the_router_and_is_named(site: SiteFile) -> None:
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = taken.socket.getsockname()[1]
    config = site.load(PLAIN + listening(port=port))
    stream = io.StringIO()
    log.configure(config.log, stream=stream)
    assert await Site(config).run() == exit_codes.FAILURE
    await taken.aclose()
    line = json.loads(stream.getvalue())
    assert line["event"] == "cannot listen"
    assert line["reason"] == f'service "greets": cannot listen on 127.0.0.1:{port}: address already in use'


async def test_services_come_change_and_go_when_the_file_is_read_again(site: SiteFile) -> None:
    async with running(site, PLAIN + listening(more=ALWAYS) + listening("goes", "old", ALWAYS)) as scene:
        port, going = port_of(scene), port_of(scene, "goes")
        stays = await trio.open_tcp_stream("127.0.0.1", port)
        ends = await trio.open_tcp_stream("127.0.0.1", going)
        async with stays, ends:
            for stream in (stays, ends):
                assert b"hello" in await stream.receive_some(100)
            line = await again(
                scene, site, PLAIN + listening(address="fresh", more=ALWAYS, port=port) + listening("new", "x", ALWAYS)
            )
            assert line["needs_restart"] == []
            assert line["taken_over"] == [
                'service "greets".listen', 'service "greets".address', 'service "goes"', 'service "new"'
            ]  # fmt: skip
            # Connections of the one that has changed live on, those of the one that went end.
            assert await until_end(ends) == b"the service was removed\n"
            await stays.send_all(b"still here")
            assert await stays.receive_some(100) == b"you said still here"
            assert await refuses(going)
            assert await said(port) == b"hello from fresh\n"
            assert await said(port_of(scene, "new")) == b"hello from x\n"


async def test_the_port_of_a_service_is_kept_through_a_change(site: SiteFile) -> None:
    (probe,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = probe.socket.getsockname()[1]
    await probe.aclose()
    async with running(site, PLAIN + listening(more=ALWAYS, port=port)) as scene:
        before = scene.site.services.running["greets"]
        # Under another name, too.
        await again(scene, site, PLAIN + listening("renamed", "fresh", ALWAYS, port=port))
        assert await said(port) == b"hello from fresh\n"
        assert before.endpoint.status == "down"
        assert list(scene.site.services.running) == ["renamed"]


async def test_a_service_that_cannot_be_started_leaves_everything_as_it_was(site: SiteFile) -> None:
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    taken_port = taken.socket.getsockname()[1]
    async with running(site, PLAIN + listening(more=ALWAYS)) as scene:
        config, port = scene.site.config, port_of(scene)
        line = await again(
            scene, site, PLAIN + listening("new", "x", ALWAYS) + listening("bad", "y", ALWAYS, port=taken_port)
        )
        assert line["event"] == "configuration not reloaded, the old one stays"
        assert line["errors"] == [
            f'service "bad": cannot listen on 127.0.0.1:{taken_port}: address already in use'
        ]  # fmt: skip
        assert scene.site.config is config
        assert list(scene.site.services.running) == ["greets"]
        assert await said(port) == b"hello from news\n"
    await taken.aclose()


TLS = """
[[ssl_profile]]
name = "server"
cert_file = "cert.pem"
private_key_file = "key.pem"
ca_cert_file = "ca.pem"
"""


async def test_tls_with_alpn_and_clients_that_have_to_show_who_they_are(certificates: SiteFile) -> None:
    more = f'{ALWAYS}\nssl_profile = "server"\nalpn = ["two", "one"]\n'
    text = PLAIN + TLS + listening(more=more) + listening("strict", more=f"{more}authenticate_peer = true")
    async with running(certificates, text) as scene:
        context = ssl.create_default_context(cafile=str(certificates.folder / "ca.pem"))
        context.set_alpn_protocols(["one"])
        assert await said_by_tls(port_of(scene), context) == b"hello from news one\n"
        with pytest.raises(trio.BrokenResourceError):
            await said_by_tls(port_of(scene, "strict"), context)
        line = await scene.line("connection refused")
        assert "sent no certificate" in line["reason"]
        context.load_cert_chain(certificates.folder / "cert.pem", certificates.folder / "key.pem")
        assert b",O=trustme" in await said_by_tls(port_of(scene, "strict"), context)


async def said_by_tls(port: int, context: ssl.SSLContext) -> bytes:
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    async with tcp:
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        return bytes(await stream.receive_some(1000))


async def test_a_server_behind_tls(certificates: SiteFile) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.folder / "cert.pem", certificates.folder / "key.pem")
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    heard = []

    async def serve(tcp: trio.SocketStream) -> None:
        stream = trio.SSLStream(tcp, context, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):
            heard.append(bytes(await stream.receive_some(1000)))
        await tcp.aclose()

    service = connecting(port, more='ssl_profile = "server"').replace("127.0.0.1", "localhost")
    strangers = service.replace("delivers", "strangers").replace("orders", "others").replace("ssl_profile", "#")
    async with (
        trio.open_nursery() as nursery,
        running(certificates, PLAIN + TLS + service + strangers.replace("tcp:", "tls:")) as scene,
        connect(scene.url()) as client,
        client.sender("orders") as sender,
        client.sender("others") as other,
    ):
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        assert (await sender.send_nowait("secret").wait()).accepted
        await until(lambda: any(b"secret" in octets for octets in heard))
        # Without a profile those are trusted that the system trusts, and this one is not among them.
        outcome = await other.send_nowait("secret").wait()
        assert "the certificate of the server is refused" in str(outcome)
        nursery.cancel_scope.cancel()


async def test_a_site_that_ends_asks_connections_of_services_to_end(site: SiteFile) -> None:
    async with running(site, PLAIN + listening(more=ALWAYS)) as scene:
        port = port_of(scene)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            assert b"hello" in await stream.receive_some(100)
            scene.site.drain("the scene is over")
            assert await until_end(stream) == b"router scene is shutting down\n"
            await scene.over.wait()
            assert await refuses(port)


async def test_dials_have_their_turns_and_some_wait(site: SiteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("van.transport.service_dialer.SIMULTANEOUS_DIALS", 1)
    monkeypatch.setattr("van.transport.service_dialer.WAITING_DIALS", 1)
    begun: list[trio.Event] = []

    async def slow(host: str, port: int) -> trio.SocketStream:
        begun.append(trio.Event())
        await begun[-1].wait()
        raise TransportError(TransportError.TCP, "refused at last")

    monkeypatch.setattr("van.transport.service_dialer.open_tcp", slow)
    async with (
        # A name: it has to be looked up.
        running(site, PLAIN + connecting(1).replace("127.0.0.1", "localhost")) as scene,
        connect(scene.url()) as client,
        client.sender("orders") as sender,
        trio.open_nursery() as nursery,
    ):
        outcomes: list[str] = []

        async def send() -> None:
            outcomes.append(str(await sender.send_nowait("x").wait()))

        for _ in range(3):
            nursery.start_soon(send)
        await until(lambda: len(outcomes) == 1)
        assert "too many connections are being made" in outcomes[0]
        for number in range(2):
            await until(lambda number=number: len(begun) == number + 1)  # type: ignore[misc]
            begun[number].set()
            await until(lambda number=number: len(outcomes) == number + 2)  # type: ignore[misc]
            assert "refused at last" in outcomes[-1]
        assert scene.site.services.running["delivers"].endpoint.message.endswith("refused at last")


async def test_a_server_that_takes_too_long_is_not_waited_for(site: SiteFile) -> None:
    # Nobody accepts, and the queue of one is full.
    with trio.socket.socket() as full:
        await full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = await trio.open_tcp_stream("127.0.0.1", port)
        async with (
            waiting,
            running(site, PLAIN + connecting(port, more="connect_timeout_seconds = 0.05")) as scene,
            connect(scene.url()) as client,
            client.sender("orders") as sender,
        ):
            outcome = await sender.send_nowait("x").wait()
            assert "not connected within 0.05 s: still at connecting" in str(outcome)


async def test_services_are_described(site: SiteFile) -> None:
    async with running(site, PLAIN + listening(more=ALWAYS) + connecting(1)) as scene:
        await describe(scene.site)
        told = {line["service"]: line for line in scene.lines("service")}
        assert told["greets"]["listening"] == [f"127.0.0.1:{port_of(scene)}"]
        assert (told["delivers"]["url"], told["delivers"]["status"]) == ("tcp://127.0.0.1:1", "up")


async def test_a_port_that_leads_to_several_addresses(site: SiteFile) -> None:
    entry = '[[service]]\nname = "greets"\nlisten = "tcp://127.0.0.1:0"\naddresses = {{ news = {}, olds = {} }}\n'
    async with running(site, PLAIN + entry.format(2, 1)) as scene, connect(scene.url()) as client:
        port = port_of(scene)
        async with client.receiver("olds"):
            await scene.line("service listening")
            assert await said(port) == b"hello from olds\n"
            async with client.receiver("news"):
                assert await said(port) == b"hello from news\n"
                await again(scene, site, PLAIN + entry.format(2, 3))
                assert await said(port) == b"hello from olds\n"


async def test_a_short_gap_does_not_close_the_port(site: SiteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("van.transport.service_port.SETTLE_SECONDS", 1000.0)
    async with running(site, PLAIN + listening()) as scene, connect(scene.url()) as client:
        port = port_of(scene)
        for _ in range(2):
            async with client.receiver("news"):
                await scene.line("service listening")
                assert await said(port) == b"hello from news\n"
            await until(lambda: not scene.site.services.running["greets"].service.reachable)  # type: ignore[attr-defined]
        assert await said(port) == b"hello from news\n"
        assert len(scene.lines("service listening")) == 1


async def test_a_port_that_another_took_meanwhile_is_tried_again(site: SiteFile) -> None:
    async with running(site, PLAIN + listening()) as scene, connect(scene.url()) as client:
        port = port_of(scene)
        (taken,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        async with client.receiver("news"):
            line = await scene.line("service cannot listen, trying again")
            assert line["reason"] == f"cannot listen on 127.0.0.1:{port}: address already in use"
            endpoint = scene.site.services.running["greets"].endpoint
            assert (endpoint.status, endpoint.message) == ("down", line["reason"])
            await taken.aclose()
            await scene.line("service listening")
            assert (endpoint.status, endpoint.message) == ("up", "")
            assert await said(port) == b"hello from news\n"


@pytest.mark.parametrize("tls", [False, True])
async def test_proxies_of_clients_say_who_they_are_before_tls(certificates: SiteFile, tls: bool) -> None:
    more = f'{ALWAYS}\nproxy_protocol = "v2"\n' + ('ssl_profile = "server"\n' if tls else "")
    context = ssl.create_default_context(cafile=str(certificates.folder / "ca.pem"))
    async with running(certificates, PLAIN + TLS + listening(more=more)) as scene:
        for version in (1, 2):
            tcp = await trio.open_tcp_stream("127.0.0.1", port_of(scene))
            async with tcp:
                for octet in proxy_header(version, ("192.0.2.7", 4711), ("198.51.100.1", 443)):
                    await tcp.send_all(bytes((octet,)))
                stream: trio.abc.Stream = tcp
                if tls:
                    stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
                assert await stream.receive_some(100) == b"hello from news\n"
                (connection,) = scene.site.services.running["greets"].endpoint.open.values()
                assert (connection.info.peer, connection.info.local) == (("192.0.2.7", 4711), ("198.51.100.1", 443))
        for wrong in (b"GET / HTTP/1.1\r\n\r\n", b"PROXY nonsense and more\r\n", b"PROX"):
            tcp = await trio.open_tcp_stream("127.0.0.1", port_of(scene))
            async with tcp:
                with suppress(trio.BrokenResourceError):
                    await tcp.send_all(wrong)
                    await tcp.send_eof()
                assert await until_end(tcp) == b""
        assert [line["reason"] for line in scene.lines("connection refused")] == [
            "no header of the PROXY protocol",
            "PROXY protocol: not five words behind PROXY",
            "the end before a header of the PROXY protocol was whole",
        ]
