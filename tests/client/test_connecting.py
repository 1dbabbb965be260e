"""Every way to a router, every way to prove who one is, and what is said when it does not work."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.client.peers import Scene, staged
from tests.client.sites import RunningSite, running_site
from tests.interop.harness import Certificates
from van import __version__
from van.amqp.errors import AmqpError, ErrorCondition
from van.amqp.framing import AMQP_HEADER
from van.client import (
    AuthenticationError,
    ConnectionClosedError,
    OutcomeState,
    TlsConfigError,
    UnreachableError,
    UrlError,
    connect,
)
from van.transport.url import parse_url

SITE = """
[router]
id = "scene"
users_file = "users.toml"

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[listener]]
name = "users"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
allow_insecure_plain = true

[[listener]]
name = "plain"
url = "amqp://127.0.0.1:0"
sasl_mechanisms = ["PLAIN"]
allow_insecure_plain = true

[[listener]]
name = "tls"
url = "amqps://127.0.0.1:0"
ssl_profile = "server"
sasl_mechanisms = ["ANONYMOUS", "PLAIN"]

[[listener]]
name = "wrong"
url = "amqps://127.0.0.1:0"
ssl_profile = "wrong"
sasl_mechanisms = ["ANONYMOUS"]

[[listener]]
name = "mutual"
url = "amqps://127.0.0.1:0"
ssl_profile = "mutual"
sasl_mechanisms = ["EXTERNAL"]

[[listener]]
name = "ws"
url = "ws://127.0.0.1:0/van"
sasl_mechanisms = ["ANONYMOUS"]

[[listener]]
name = "wss"
url = "wss://127.0.0.1:0/van"
ssl_profile = "server"
sasl_mechanisms = ["ANONYMOUS"]

[[ssl_profile]]
name = "server"
cert_file = "server.pem"
private_key_file = "server.key"

[[ssl_profile]]
name = "wrong"
cert_file = "alice.pem"
private_key_file = "alice.key"

[[ssl_profile]]
name = "mutual"
ca_cert_file = "ca.pem"
cert_file = "server.pem"
private_key_file = "server.key"
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def secured(certificates: Certificates) -> AsyncIterator[RunningSite]:
    folder = Path(certificates.ca).parent
    (folder / "users.toml").write_text('[users]\nalice = "pencil"\n')
    async with running_site(folder, SITE) as running:
        yield running


async def exchange(url: str, **options: object) -> str:
    """Send a message to ourselves; returns the transport."""
    async with connect(url, **options) as connection:  # type: ignore[arg-type]
        async with connection.receiver("orders") as receiver, connection.sender("orders") as sender:
            tracker = sender.send_nowait(bytes(100_000))
            (await receiver.receive()).accept()
            assert (await tracker.wait()).accepted
        return connection.transport


async def test_what_a_connection_tells_of_both_sides(secured: RunningSite) -> None:
    async with connect(secured.url(), container_id="me", properties={"purpose": "test"}) as connection:
        assert connection.container_id == "me"
        assert connection.remote_container_id == "scene"
        assert connection.remote_properties["version"] == __version__
        assert "ANONYMOUS-RELAY" in connection.remote_offered_capabilities
        assert connection.url == parse_url(secured.url())
        assert connection.open
    assert not connection.open


@pytest.mark.parametrize(
    ("listener", "transport"),
    [("open", "tcp"), ("tls", "tls"), ("ws", "ws"), ("wss", "wss")],
)
async def test_every_transport(
    secured: RunningSite, certificates: Certificates, listener: str, transport: str
) -> None:
    url = secured.url(listener, host="localhost")
    assert await exchange(url, ca_cert_file=certificates.ca) == transport


async def test_an_ssl_context_of_ones_own(secured: RunningSite, certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=certificates.ca)
    assert await exchange(secured.url("tls", host="localhost"), ssl_context=context) == "tls"
    assert await exchange(secured.url("wss", host="localhost"), ssl_context=context) == "wss"
    with pytest.raises(UnreachableError, match="certificate"):
        await exchange(secured.url("tls", host="localhost"), ssl_context=ssl.create_default_context())


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", None])
async def test_a_password(secured: RunningSite, mechanism: str | None) -> None:
    await exchange(
        secured.url("users"),
        sasl_username="alice",
        sasl_password="pencil",
        sasl_mechanisms=None if mechanism is None else [mechanism],
        allow_insecure_plain=mechanism == "PLAIN",
    )
    assert '"user": "alice"' in secured.log


async def test_a_password_in_the_url(secured: RunningSite) -> None:
    await exchange(secured.url("users", user="alice:pencil@"))
    assert '"user": "alice"' in secured.log


async def test_plain_is_for_encrypted_connections(secured: RunningSite, certificates: Certificates) -> None:
    await exchange(
        secured.url("tls", user="alice:pencil@", host="localhost"), ca_cert_file=certificates.ca
    )
    with pytest.raises(AuthenticationError, match="PLAIN would show the password"):
        await exchange(secured.url("plain", user="alice:pencil@"))


@pytest.mark.parametrize("user", ["alice:wrong@", "mallory:pencil@"])
async def test_a_wrong_password(secured: RunningSite, user: str) -> None:
    with pytest.raises(AuthenticationError, match="amqp:unauthorized-access") as caught:
        await exchange(secured.url("users", user=user))
    assert "pencil" not in str(caught.value)


async def test_a_listener_that_wants_to_know_who_we_are(secured: RunningSite) -> None:
    with pytest.raises(AuthenticationError, match="the server offers PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"):
        await exchange(secured.url("users"))


async def test_whoever_gives_a_password_does_not_come_in_as_nobody(secured: RunningSite) -> None:
    with pytest.raises(AuthenticationError, match="the server offers ANONYMOUS; we have"):
        await exchange(secured.url("open", user="alice:pencil@"))


async def test_a_certificate_is_a_proof(secured: RunningSite, certificates: Certificates) -> None:
    url = secured.url("mutual", host="localhost")
    await exchange(
        url,
        ca_cert_file=certificates.ca,
        cert_file=certificates.client,
        private_key_file=certificates.client_key,
    )
    assert "alice" in secured.log
    with pytest.raises(UnreachableError, match="certificate"):
        await exchange(url, ca_cert_file=certificates.ca)


async def test_a_router_whom_we_do_not_trust(secured: RunningSite, certificates: Certificates) -> None:
    with pytest.raises(UnreachableError, match="certificate"):
        await exchange(secured.url("tls", host="localhost"))
    with pytest.raises(TlsConfigError, match=r"gone\.pem"):
        await exchange(secured.url("tls"), ca_cert_file="gone.pem")
    with pytest.raises(UnreachableError, match="certificate"):
        await exchange(secured.url("wrong", host="localhost"), ca_cert_file=certificates.ca)
    await exchange(secured.url("wrong", host="localhost"), ca_cert_file=certificates.ca, verify_hostname=False)


async def test_without_a_sasl_layer(secured: RunningSite) -> None:
    await exchange(secured.url("open"), sasl_mechanisms=[])
    with pytest.raises(UnreachableError):
        await exchange(secured.url("users"), sasl_mechanisms=[])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sasl_username": "alice"}, "without a password"),
        ({"sasl_mechanisms": ["GSSAPI"]}, "unknown SASL mechanism 'GSSAPI'"),
        ({"sasl_mechanisms": ["PLAIN"]}, "PLAIN needs a user and a password"),
        ({"proxy": "ftp://x"}, "proxy"),
    ],
)
async def test_arguments_that_make_no_sense(options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        await exchange("amqp://127.0.0.1:1", **options)


async def test_a_url_that_is_none() -> None:
    with pytest.raises(UrlError, match="did you mean"):
        await exchange("localhost:5672")


async def test_nobody_listens() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(UnreachableError, match="refused"):
        await exchange(f"amqp://127.0.0.1:{port}")


async def test_a_proxy_that_is_not_there() -> None:
    with pytest.raises(UnreachableError, match="proxy"):
        await exchange("amqp://127.0.0.1:1", proxy="http://127.0.0.1:1")


async def test_a_peer_that_does_not_open() -> None:
    async def say_nothing(stream: trio.SocketStream) -> None:
        while await stream.receive_some(100):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, say_nothing, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(UnreachableError, match=r"connected, but not open within 0\.1 s"):
            await exchange(f"amqp://127.0.0.1:{port}", timeout=0.1)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_speaks_something_else() -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail.example.org ESMTP\r\n")
        await stream.receive_some(100)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, greet, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(UnreachableError, match="amqp:connection:framing-error"):
            await exchange(f"amqp://127.0.0.1:{port}")
        nursery.cancel_scope.cancel()


async def test_a_peer_that_hangs_up() -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.send_all(AMQP_HEADER[:4])
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, hang_up, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1"):
            await exchange(f"amqp://127.0.0.1:{port}")
        nursery.cancel_scope.cancel()


async def test_a_peer_that_opens_only_to_send_us_away() -> None:
    class Unfriendly(Scene):
        def happened(self) -> None:
            if self.peers and self.peer.connection.open_sent:
                self.peer.connection.close(AmqpError(ErrorCondition.UNAUTHORIZED_ACCESS, "not you"))
            super().happened()

    async with staged(Unfriendly()) as scene:
        with pytest.raises(ConnectionClosedError, match="amqp:unauthorized-access: not you"):
            await exchange(scene.url)


async def test_a_peer_that_falls_silent_is_given_up() -> None:
    async with staged(Scene()) as scene:
        async with connect(scene.url, idle_timeout=0.5) as connection:
            # Its heartbeats were promised, and do not come.
            scene.peer.next_deadline = lambda: float("inf")  # type: ignore[method-assign]
            error = await connection.wait_closed()
            assert isinstance(error, ConnectionClosedError)
            assert not error.by_peer
            assert "nothing received for 0.5 seconds" in str(error)


async def test_heartbeats_keep_a_quiet_connection_up() -> None:
    async with staged(Scene(idle_timeout=1.0)) as scene, connect(scene.url, idle_timeout=1.0) as connection:
        await trio.sleep(1.5)
        async with connection.sender("orders") as sender:
            assert (await sender.send("x")).state is OutcomeState.ACCEPTED


async def test_a_peer_that_does_not_answer_our_close_does_not_keep_us() -> None:
    async with staged(Scene()) as scene:
        with trio.CancelScope() as scope:
            async with connect(scene.url):
                scene.peer.receive_data = lambda data, now: None  # type: ignore[method-assign]
                begin = trio.current_time()
                scope.cancel()
                await trio.sleep_forever()
        assert trio.current_time() - begin < 3
