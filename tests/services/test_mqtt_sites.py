"""MQTT over three real sites, the router in the middle without a service: programs of others, and a stuck reader."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.ports import free_port
from tests.router.running import Running, running, until
from tests.router.site_file import SiteFile
from van.adaptors.mqtt.packets import Connack, Connect, Packet, Puback, Publish, Suback, Subscribe, Subscription
from van.adaptors.mqtt.service import MqttService
from van.adaptors.mqtt.stream import PacketStream

MIB = 1_048_576
BUFFERS = 262_144
HAS_MOSQUITTO = all(shutil.which(name) for name in ("mosquitto_pub", "mosquitto_sub"))

HUB = """
[router]
id = "hub"
mode = "interior"

[[listener]]
name = "routers"
url = "amqp://127.0.0.1:{port}"
role = "inter-router"
"""

SITE = """
[router]
id = "{name}"
mode = "interior"

[[connector]]
url = "amqp://127.0.0.1:{port}"
role = "inter-router"

[[service]]
name = "mqtt"
listen = "mqtt://127.0.0.1:0"
"""


class Sites:
    """East – hub – west."""

    def __init__(self, hub: Running, east: Running, west: Running) -> None:
        self.all = (hub, east, west)
        self.east = east
        self.west = west

    def held(self) -> int:
        services = (self.service(self.east), self.service(self.west))
        routers = sum(each.site.router.budget.held() for each in self.all)
        return routers + sum(service.store.used for service in services)

    @staticmethod
    def service(site: Running) -> MqttService:
        service = site.site.services.running["mqtt"].service
        assert isinstance(service, MqttService)
        return service

    @staticmethod
    def port(site: Running) -> int:
        return site.site.services.running["mqtt"].endpoint.port

    async def known(self, topic_filter: str) -> None:
        """Wait until both ends know that somebody receives at a filter."""
        for site in (self.east, self.west):
            service = self.service(site)
            await until(partial(service.reachable, service.addresses.of(topic_filter)))


@asynccontextmanager
async def three_sites(folder: Path) -> AsyncIterator[Sites]:
    port = free_port()
    places = [SiteFile(folder / name) for name in ("hub", "east", "west")]
    for place in places:
        place.folder.mkdir()
    async with (
        running(places[0], HUB.format(port=port)) as hub,
        running(places[1], SITE.format(name="east", port=port)) as east,
        running(places[2], SITE.format(name="west", port=port)) as west,
    ):
        yield Sites(hub, east, west)


class Raw:
    """A client of ours on a socket with small buffers."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.incoming = PacketStream(5, 1 << 24)

    async def write(self, *packets: Packet) -> None:
        await self.stream.send_all(b"".join(packet.encode(5) for packet in packets))

    async def read(self) -> Packet:
        while (packet := self.incoming.next_packet()) is None:
            data = await self.stream.receive_some(65_536)
            assert data
            self.incoming.feed(data)
        return packet


async def raw(port: int, client_id: str) -> Raw:
    sock = trio.socket.socket()
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFERS)
    await sock.connect(("127.0.0.1", port))
    client = Raw(trio.SocketStream(sock))
    await client.write(Connect(client_id=client_id))
    assert isinstance(await client.read(), Connack)
    return client


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_subscriber_that_does_not_read_holds_little(tmp_path: Path, qos: int) -> None:
    """At QoS 1 its publisher gets no more acknowledgements; at QoS 0 messages are dropped, and nobody waits."""
    async with three_sites(tmp_path) as sites:
        subscriber = await raw(sites.port(sites.west), "reader")
        await subscriber.write(Subscribe(1, [Subscription("t/+", 1)]))
        assert isinstance(await subscriber.read(), Suback)
        await sites.known("t/+")
        publisher = await raw(sites.port(sites.east), "writer")
        payload = bytes(50_000)
        acknowledged: set[int] = set()
        sent: list[int] = []
        highest = 0

        def may_send() -> bool:
            """It keeps to the receive maximum that it was told."""
            return not qos or len(sent) - len(acknowledged) < 90

        async def hear() -> None:
            while True:
                packet = await publisher.read()
                assert isinstance(packet, Puback)
                assert packet.reason == 0
                acknowledged.add(packet.packet_id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            stuck = False
            left = b""
            while len(sent) < 400 and not stuck:
                with trio.move_on_after(0.5) as patience:
                    await until(may_send)
                    sent.append(len(sent) + 1)
                    left = Publish("t/x", payload, qos=qos, packet_id=sent[-1] if qos else 0).encode(5)
                    while left:
                        left = left[await publisher.stream.socket.send(left) :]
                stuck = patience.cancelled_caught
                highest = max(highest, sites.held())
            assert highest <= 4 * MIB
            if qos:
                assert stuck
                nursery.start_soon(publisher.stream.send_all, left)
                got = 0
                while got < len(sent):
                    packet = await subscriber.read()
                    if isinstance(packet, Publish):
                        got += 1
                        await subscriber.write(Puback(packet.packet_id))
                await until(lambda: len(acknowledged) == len(sent))
            else:
                dropped = sites.service(sites.west).counts
                await until(lambda: dropped()["dropped"] > 200)
            nursery.cancel_scope.cancel()
        for client in (subscriber, publisher):
            await client.stream.aclose()
        await until(lambda: sites.held() == 0)


@pytest.mark.interop
@pytest.mark.skipif(
    not HAS_MOSQUITTO and not os.environ.get("VAN_REQUIRE_INTEROP"), reason="mosquitto-clients are not installed"
)
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
async def test_the_programs_of_mosquitto_over_three_sites(tmp_path: Path, version: str) -> None:
    async with three_sites(tmp_path) as sites:
        for qos in ("0", "1", "2"):
            common = ["-h", "127.0.0.1", "-V", version, "-q", qos]
            port = str(sites.port(sites.west))
            topic_filter = f"{version}/{qos}/#"
            receive = ["mosquitto_sub", *common, "-p", port, "-t", topic_filter, "-C", "2", "-F", "%t %q %p"]
            async with trio.open_nursery() as nursery:
                program = await nursery.start(partial(trio.run_process, receive, stdout=subprocess.PIPE))
                await sites.known(topic_filter)
                send = ["mosquitto_pub", *common, "-p", str(sites.port(sites.east)), "-t", f"{version}/{qos}/a", "-l"]
                await trio.run_process(send, stdin=b"one\ntwo\n")
                told = b"".join([part async for part in program.stdout])
            assert told.decode().splitlines() == [f"{version}/{qos}/a {qos} {text}" for text in ("one", "two")]
