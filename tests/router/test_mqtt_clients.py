"""Real MQTT clients at a real router: Eclipse Paho and the programs of Mosquitto, both versions, all qualities."""

from __future__ import annotations

import os
import queue
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import paho.mqtt.client as paho
import pytest
import trio
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.router.running import PATIENCE, PLAIN, Running, running, until
from tests.router.site_file import SiteFile
from van.adaptors.mqtt.service import MqttService
from van.amqp.message import AmqpValue
from van.client import connect
from van.router.reload import reload

SERVICE = """
[[service]]
name = "things"
listen = "mqtt://127.0.0.1:0"
"""

SECURE = """
[[ssl_profile]]
name = "server"
cert_file = "both.pem"
private_key_file = "both.pem"

[[service]]
name = "secure"
listen = "mqtts://127.0.0.1:0"
ssl_profile = "server"
"""

VERSIONS = [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5]
HAS_MOSQUITTO = all(shutil.which(name) for name in ("mosquitto_pub", "mosquitto_sub"))


def port_of(scene: Running, name: str = "things") -> int:
    return scene.site.services.running[name].endpoint.port


class Client:
    """A client of Paho's with a thread of its own; all waiting has a limit."""

    def __init__(self, port: int, version: MQTTProtocolVersion, client_id: str = "", **options: Any) -> None:
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.events: queue.Queue[tuple[str, Any]] = queue.Queue()
        new = version == MQTTProtocolVersion.MQTTv5
        session = {} if new else {"clean_session": options.pop("clean_session", True)}
        self.paho = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=version, reconnect_on_failure=False, **session
        )
        tls = options.pop("tls", None)
        if tls is not None:
            client.tls_set_context(tls)
        will = options.pop("will", None)
        if will is not None:
            client.will_set(*will)
        client.on_message = lambda client, data, message: self.messages.put(message)
        client.on_connect = lambda client, data, flags, reason, properties: self.events.put(("connect", flags))
        client.on_subscribe = lambda client, data, mid, codes, properties: self.events.put(("subscribe", codes))
        client.on_publish = lambda client, data, mid, reason, properties: self.events.put(("publish", reason))
        client.on_disconnect = lambda client, data, flags, reason, properties: self.events.put(("disconnect", reason))
        client.connect("localhost" if tls is not None else "127.0.0.1", port, 60, **options)
        client.loop_start()
        self.flags = self.event("connect")

    def event(self, name: str) -> Any:
        happened, value = self.events.get(timeout=PATIENCE)
        assert happened == name
        return value

    def subscribe(self, topic_filter: str, qos: int) -> int:
        self.paho.subscribe(topic_filter, qos)
        (code,) = self.event("subscribe")
        return int(code.value)

    def publish(self, topic: str, payload: bytes, qos: int, **options: Any) -> Any:
        self.paho.publish(topic, payload, qos, **options)
        return self.event("publish")

    def message(self) -> paho.MQTTMessage:
        return self.messages.get(timeout=PATIENCE)

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def vanish(self) -> None:
        """Lose the connection without a word."""
        connection = self.paho.socket()
        assert connection is not None
        self.paho.loop_stop()
        connection.close()


@contextmanager
def clients(*made: Client) -> Iterator[tuple[Client, ...]]:
    try:
        yield made
    finally:
        for client in made:
            client.close()


@asynccontextmanager
async def site_with_mqtt(site: SiteFile, more: str = "") -> AsyncIterator[Running]:
    async with running(site, PLAIN + SERVICE + more) as scene:
        yield scene


@pytest.mark.parametrize("published", VERSIONS)
@pytest.mark.parametrize("subscribed", VERSIONS)
async def test_paho_at_each_quality(
    site: SiteFile, published: MQTTProtocolVersion, subscribed: MQTTProtocolVersion
) -> None:
    def talk(port: int) -> None:
        with clients(Client(port, subscribed, "s"), Client(port, published, "p")) as (subscriber, publisher):
            assert subscriber.subscribe("a/+/#", 2) == 2
            for qos in (0, 1, 2):
                for size in (0, 10, 200_000):
                    payload = bytes([qos]) * size
                    publisher.publish(f"a/{qos}/x", payload, qos)
                    message = subscriber.message()
                    assert (message.topic, message.qos) == (f"a/{qos}/x", qos)
                    assert message.payload == payload

    async with site_with_mqtt(site) as scene:
        await trio.to_thread.run_sync(talk, port_of(scene))


async def test_paho_and_what_mqtt_5_has_beside(site: SiteFile) -> None:
    def talk(port: int) -> None:
        version = MQTTProtocolVersion.MQTTv5
        with clients(Client(port, version, "s"), Client(port, version, "p")) as (subscriber, publisher):
            assert subscriber.subscribe("$share/g/t", 1) == 1
            properties = Properties(PacketTypes.PUBLISH)
            properties.ContentType = "text/plain"
            properties.ResponseTopic = "answers"
            properties.CorrelationData = b"c1"
            properties.UserProperty = ("k", "v")
            assert int(publisher.publish("t", b"x", 1, properties=properties).value) == 0
            message = subscriber.message()
            assert message.properties is not None
            assert message.properties.json() == properties.json()
            assert int(publisher.publish("nobody", b"x", 1).value) == 0x10

    async with site_with_mqtt(site) as scene:
        await trio.to_thread.run_sync(talk, port_of(scene))


@pytest.mark.parametrize("version", VERSIONS)
async def test_paho_comes_back_to_its_session(site: SiteFile, version: MQTTProtocolVersion) -> None:
    new = version == MQTTProtocolVersion.MQTTv5
    expiry = Properties(PacketTypes.CONNECT)
    expiry.SessionExpiryInterval = 100
    lasting: dict[str, Any] = {"clean_start": False, "properties": expiry} if new else {"clean_session": False}

    def talk(port: int) -> None:
        first = Client(port, version, "s", **lasting)
        assert not first.flags.session_present
        first.subscribe("t", 1)
        first.close()
        with clients(Client(port, version, "p")) as (publisher,):
            publisher.publish("t", b"while you were away", 1)
            publisher.publish("kept", b"last", 1, retain=True)
            with clients(Client(port, version, "s", **lasting)) as (again,):
                assert again.flags.session_present
                assert again.message().payload == b"while you were away"
                again.subscribe("kept", 1)
                kept = again.message()
                assert (kept.payload, kept.retain) == (b"last", True)

    async with site_with_mqtt(site) as scene:
        await trio.to_thread.run_sync(talk, port_of(scene))


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_will_of_paho(site: SiteFile, version: MQTTProtocolVersion) -> None:
    def talk(port: int) -> None:
        with clients(Client(port, version, "w")) as (watcher,):
            watcher.subscribe("wills/#", 1)
            Client(port, version, "me", will=("wills/me", b"alas", 1, False)).vanish()
            message = watcher.message()
            assert (message.topic, message.payload) == ("wills/me", b"alas")

    async with site_with_mqtt(site) as scene:
        await trio.to_thread.run_sync(talk, port_of(scene))


async def test_paho_over_tls(certificates: SiteFile) -> None:
    context = ssl.create_default_context(cafile=str(certificates.folder / "ca.pem"))

    def talk(plain: int, secure: int) -> None:
        version = MQTTProtocolVersion.MQTTv5
        with clients(Client(plain, version, "s"), Client(secure, version, "p", tls=context)) as (subscriber, publisher):
            subscriber.subscribe("t", 1)
            publisher.publish("t", bytes(100_000), 1)
            assert subscriber.message().payload == bytes(100_000)

    async with site_with_mqtt(certificates, SECURE) as scene:
        await trio.to_thread.run_sync(talk, port_of(scene), port_of(scene, "secure"))


async def test_paho_and_an_amqp_client(site: SiteFile) -> None:
    async with site_with_mqtt(site) as scene:
        port = port_of(scene)
        made = await trio.to_thread.run_sync(lambda: Client(port, MQTTProtocolVersion.MQTTv5, "m"))
        await trio.to_thread.run_sync(made.subscribe, "to/mqtt", 1)
        async with (
            connect(scene.url()) as client,
            client.receiver("mqtt/to/+") as receiver,
            client.sender("mqtt/to/mqtt") as sender,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send, "hello mqtt")
                message = await trio.to_thread.run_sync(made.message)
                assert message.payload == b"hello mqtt"
                # The filter is for this one, too.
                got = await receiver.receive()
                assert got.message.body == AmqpValue("hello mqtt")
                got.accept()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, lambda: made.publish("to/amqp", b"hello amqp", 2))
                got = await receiver.receive()
                assert got.message.properties is not None
                assert got.message.properties.subject == "to/amqp"
                got.accept()
        await trio.to_thread.run_sync(made.close)


@pytest.mark.parametrize("version", VERSIONS)
async def test_users_of_the_users_file(site: SiteFile, version: MQTTProtocolVersion) -> None:
    (site.folder / "users.toml").write_text('[users]\nalice = "pencil"\n')
    text = PLAIN.replace('id = "scene"', 'id = "scene"\nusers_file = "users.toml"') + SERVICE
    new = version == MQTTProtocolVersion.MQTTv5

    def answer(port: int, user: str | None, password: str | None) -> int:
        """The code of the Connack, as the version has it."""
        heard: queue.Queue[int] = queue.Queue()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version, reconnect_on_failure=False)
        client.on_connect = lambda client, data, flags, reason, properties: heard.put(int(reason.value))
        client.username_pw_set(user, password)
        client.connect("127.0.0.1", port)
        client.loop_start()
        try:
            return heard.get(timeout=PATIENCE)
        finally:
            client.disconnect()
            client.loop_stop()

    async with running(site, text + "authenticate_users = true\n") as scene:
        port = port_of(scene)

        async def ask(user: str | None, password: str | None) -> int:
            return await trio.to_thread.run_sync(answer, port, user, password)

        assert await ask("alice", "pencil") == 0
        assert await ask("alice", "chalk") == 0x86
        assert await ask("bob", "pencil") == 0x86
        assert await ask(None, None) == 0x87
        if new:
            assert await ask("alice", None) == 0x87


async def test_topics_stay_multicast_when_the_site_file_is_read_again(site: SiteFile) -> None:
    def talk(port: int) -> None:
        version = MQTTProtocolVersion.MQTTv5
        made = [Client(port, version, name) for name in "abc"]
        with clients(*made):
            for one in made[:2]:
                one.subscribe("new/topic", 1)
            made[2].publish("new/topic", b"x", 1)
            assert [one.message().payload for one in made[:2]] == [b"x", b"x"]

    async with site_with_mqtt(site) as scene:
        site.write(PLAIN + SERVICE + '\n[[address]]\nprefix = "orders"\ndistribution = "closest"\n')
        await reload(scene.site)
        await scene.line("configuration reloaded")
        await trio.to_thread.run_sync(talk, port_of(scene))


async def test_a_site_that_ends_says_so(site: SiteFile) -> None:
    async with site_with_mqtt(site) as scene:
        made = await trio.to_thread.run_sync(lambda: Client(port_of(scene), MQTTProtocolVersion.MQTTv5, "m"))
        scene.site.drain("the test is over")
        reason = await trio.to_thread.run_sync(made.event, "disconnect")
        assert int(reason.value) == 0x8B
        await trio.to_thread.run_sync(made.close)


@pytest.mark.interop
@pytest.mark.skipif(
    not HAS_MOSQUITTO and not os.environ.get("VAN_REQUIRE_INTEROP"), reason="mosquitto-clients are not installed"
)
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
async def test_the_programs_of_mosquitto(site: SiteFile, version: str, qos: str) -> None:
    async with site_with_mqtt(site) as scene:
        common = ["-h", "127.0.0.1", "-p", str(port_of(scene)), "-V", version, "-q", qos]
        receive = ["mosquitto_sub", *common, "-t", "a/#", "-C", "3", "-F", "%t %q %p", "-W", "20"]
        async with trio.open_nursery() as nursery:
            program = await nursery.start(partial(trio.run_process, receive, stdout=subprocess.PIPE))
            service = scene.site.services.running["things"].service
            assert isinstance(service, MqttService)
            await until(lambda: service.counts()["subscriptions"] == 1)
            send = ["mosquitto_pub", *common, "-t"]
            for topic, text in (("a/1", "one"), ("b", "nobody"), ("a/2/x", "two")):
                await trio.run_process([*send, topic, "-m", text])
            await trio.run_process([*send, "a/3", "-l"], stdin=b"three\n")
            told = b"".join([part async for part in program.stdout])
        assert told.decode().splitlines() == [f"a/1 {qos} one", f"a/2/x {qos} two", f"a/3 {qos} three"]
