"""A client of MQTT 5 by somebody else, in this process: what it hears and is answered waits to be looked at."""

from __future__ import annotations

import queue
import threading

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.interop.harness import PATIENCE


class MqttClient:
    """paho, connected; `heard` is what it was sent, and what it publishes is answered in `answers`."""

    def __init__(self, port: int, subscription: str = "", *, acknowledges: bool = True) -> None:
        self.heard: queue.Queue[str] = queue.Queue()
        self.answers: queue.Queue[int] = queue.Queue()
        self.lost = threading.Event()
        self._told = threading.Event()
        version = CallbackAPIVersion.VERSION2
        self.client = paho.Client(
            version, protocol=paho.MQTTv5, manual_ack=not acknowledges, reconnect_on_failure=False
        )
        self.client.on_message = lambda *said: self.heard.put(said[-1].payload.decode())
        self.client.on_publish = lambda *said: self.answers.put(said[-2].value)
        self.client.on_subscribe = lambda *_: self._told.set()
        self.client.on_disconnect = lambda *_: self.lost.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if subscription:
            self.client.subscribe(subscription, qos=1)
            assert self._told.wait(PATIENCE)

    def publish(self, topic: str, text: str) -> None:
        self.client.publish(topic, text, qos=1)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
