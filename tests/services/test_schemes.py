"""What each scheme of `[[service]]` leads to in a running site: a few octets of each protocol go through and back."""

from __future__ import annotations

import socket

import paho.mqtt.client
import pytest
import trio
from paho.mqtt.enums import CallbackAPIVersion

from tests.router.running import PLAIN, Running, running, until
from tests.router.site_file import SiteFile


def service(end: str, address: str, more: str = "") -> str:
    return f'\n[[service]]\n{end}\naddress = "{address}"\n{more}\n'


def port_of(scene: Running, scheme: str) -> int:
    (port,) = (one.endpoint.port for one in scene.site.services.running.values() if one.entry.listen is not None
               and one.entry.listen.scheme == scheme)  # fmt: skip
    return port


@pytest.fixture
def site(tmp_path: object) -> SiteFile:
    return SiteFile(tmp_path)  # type: ignore[arg-type]  # pytest's own


async def upper(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data.upper())


async def test_tcp(site: SiteFile) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = service(f'connect = "tcp://127.0.0.1:{listener.socket.getsockname()[1]}"', "echo")
    async with (
        trio.open_nursery() as nursery,
        running(site, PLAIN + server + service('listen = "tcp://127.0.0.1:0"', "echo")) as scene,
    ):
        nursery.start_soon(trio.serve_listeners, upper, [listener])
        await scene.line("service listening")
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(scene, "tcp"))
        async with stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some(100) == b"HELLO"
            await stream.send_eof()
            assert await stream.receive_some(100) == b""
        nursery.cancel_scope.cancel()


async def test_udp(site: SiteFile) -> None:
    with trio.socket.socket(type=socket.SOCK_DGRAM) as server, trio.socket.socket(type=socket.SOCK_DGRAM) as client:
        await server.bind(("127.0.0.1", 0))
        text = service(f'connect = "udp://127.0.0.1:{server.getsockname()[1]}"', "echo", "flow_timeout_seconds = 5")
        text += service('listen = "udp://127.0.0.1:0"', "echo", "max_datagram_size = 100")
        async with running(site, PLAIN + text) as scene:
            await client.connect(("127.0.0.1", port_of(scene, "udp")))
            data = b""
            while not data:
                # A datagram may be lost, as the first is when the server's socket is not there yet.
                await client.send(b"hello")
                with trio.move_on_after(0.1):
                    data, peer = await server.recvfrom(100)
            assert data == b"hello"
            await server.sendto(b"HELLO", peer)
            assert await client.recv(100) == b"HELLO"
            assert [one.endpoint.connections for one in scene.site.services.running.values()] == [1, 1]


async def test_mqtt_clients_meet_at_two_ports_of_one_prefix(site: SiteFile) -> None:
    text = '\n[[service]]\nname = "one"\nlisten = "mqtt://127.0.0.1:0"\n'
    async with running(site, PLAIN + text + text.replace("one", "two")) as scene:
        heard: list[bytes] = []
        subscribed = trio.Event()
        token = trio.lowlevel.current_trio_token()
        clients = []
        for name in ("one", "two"):
            client = paho.mqtt.client.Client(CallbackAPIVersion.VERSION2)
            client.on_message = lambda _client, _data, message: heard.append(bytes(message.payload))
            client.on_subscribe = lambda *_: token.run_sync_soon(subscribed.set)
            port = scene.site.services.running[name].endpoint.port
            await trio.to_thread.run_sync(client.connect, "127.0.0.1", port)
            client.loop_start()
            clients.append(client)
        clients[0].subscribe("rooms/#")
        await subscribed.wait()
        clients[1].publish("rooms/1", b"hello")
        await until(lambda: heard == [b"hello"])
        for client in clients:
            client.disconnect()
            await trio.to_thread.run_sync(client.loop_stop)
