"""Clients that come and go at any moment: what was acknowledged arrives, at QoS 2 once, and nothing is left behind.

Both clients keep to the specification: what has no answer is sent again when they are back (4.4), and a receiver at
QoS 2 knows which messages it has (4.3.3).
"""

from __future__ import annotations

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.adaptors.mqtt.peers import Peer, Scene
from van.adaptors.mqtt.connection import Settings
from van.adaptors.mqtt.packets import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel

OPERATIONS = ("publish 1", "publish 2", "lose p", "lose s", "back p", "back s", "deaf", "hear", "wait")
KEPT = Settings(receive_maximum=4)


class Publisher:
    """Sends numbers, keeps what has no answer, and sends it again when it is back."""

    def __init__(self, scene: Scene, level: int) -> None:
        self.scene = scene
        self.level = level
        self.peer: Peer | None = None
        self.numbers = itertools.count(1)
        # By packet identifier: the message, or once it was received its release.
        self.pending: dict[int, Packet] = {}
        self.sent: dict[int, set[int]] = {1: set(), 2: set()}

    def back(self) -> None:
        if self.peer is None:
            self.peer = self.scene.peer(
                "p", level=self.level, clean_start=False, expiry=600 * (self.level == 5), auto=False
            )
            for packet in list(self.pending.values()):
                if isinstance(packet, Publish):
                    packet.dup = True
                self.peer.write(packet)
            self.listen()

    def lose(self) -> None:
        if self.peer is not None:
            self.listen()
            peer, self.peer = self.peer, None
            peer.lose()

    def publish(self, qos: int) -> None:
        if self.peer is None or len(self.pending) >= KEPT.receive_maximum or self.peer.ended():
            return
        number = next(self.numbers)
        packet_id = next(each for each in range(1, 100) if each not in self.pending)
        message = Publish(f"t/{qos}", b"%d" % number, qos=qos, packet_id=packet_id)
        self.pending[packet_id] = message
        self.sent[qos].add(number)
        self.peer.write(message)

    def listen(self) -> None:
        """Take answers in, until there are none."""
        peer = self.peer
        while peer is not None:
            self.scene.run()
            answers, peer.packets = peer.packets, []
            if not answers:
                return
            for packet in answers:
                if isinstance(packet, (Puback, Pubcomp)):
                    assert packet.reason < 0x80 or packet.reason == 0x92
                    self.pending.pop(packet.packet_id, None)
                elif isinstance(packet, Pubrec):
                    assert packet.reason < 0x80
                    release = Pubrel(packet.packet_id)
                    self.pending[packet.packet_id] = release
                    peer.write(release)


class Subscriber:
    """Takes numbers, and knows which messages of QoS 2 it has and has not released."""

    def __init__(self, scene: Scene, level: int) -> None:
        self.scene = scene
        self.level = level
        self.peer: Peer | None = None
        self.unreleased: set[int] = set()
        self.got: dict[int, list[int]] = {1: [], 2: []}

    def back(self) -> None:
        if self.peer is None:
            self.peer = self.scene.peer(
                "s", at=-1, level=self.level, clean_start=False, expiry=600 * (self.level == 5), auto=False
            )
            self.listen()

    def lose(self) -> None:
        if self.peer is not None:
            peer, self.peer = self.peer, None
            peer.lose()

    def listen(self) -> None:
        peer = self.peer
        while peer is not None and peer.reading:
            self.scene.run()
            came, peer.packets = peer.packets, []
            if not came:
                return
            for packet in came:
                if isinstance(packet, Publish) and packet.qos == 1:
                    self.got[1].append(int(packet.payload))
                    peer.write(Puback(packet.packet_id))
                elif isinstance(packet, Publish):
                    if packet.packet_id not in self.unreleased:
                        self.unreleased.add(packet.packet_id)
                        self.got[2].append(int(packet.payload))
                    peer.write(Pubrec(packet.packet_id))
                elif isinstance(packet, Pubrel):
                    self.unreleased.discard(packet.packet_id)
                    peer.write(Pubcomp(packet.packet_id))


@given(
    operations=st.lists(st.sampled_from(OPERATIONS), max_size=40),
    routers=st.integers(1, 2),
    levels=st.tuples(st.sampled_from((4, 5)), st.sampled_from((4, 5))),
    piece=st.sampled_from((0, 1, 7)),
)
@example(["publish 2", "lose s", "wait", "lose p", "back p", "back s"], 1, (5, 5), 0)
@example(["deaf", "publish 2", "publish 1", "wait", "lose p", "lose s", "back s", "back p"], 2, (4, 5), 7)
@settings(max_examples=60, deadline=None)
def test_clients_that_come_and_go(
    operations: list[str], routers: int, levels: tuple[int, int], piece: int
) -> None:
    scene = Scene(routers, settings=KEPT)
    publisher = Publisher(scene, levels[0])
    subscriber = Subscriber(scene, levels[1])
    subscriber.back()
    assert subscriber.peer is not None
    subscriber.peer.auto = True
    subscriber.peer.subscribe("t/+", 2)
    subscriber.peer.auto = False
    scene.settle()
    publisher.back()
    scene.piece = piece
    for operation in operations:
        verb, _, what = operation.partition(" ")
        if verb == "publish":
            publisher.publish(int(what))
        elif verb in ("lose", "back"):
            getattr(publisher if what == "p" else subscriber, verb)()
        elif verb == "wait":
            scene.advance(1.0)
            publisher.listen()
            subscriber.listen()
        elif subscriber.peer is not None:
            subscriber.peer.reading = verb == "hear"
    if subscriber.peer is not None:
        subscriber.peer.reading = True
    publisher.back()
    subscriber.back()
    for _ in range(6):
        subscriber.listen()
        publisher.listen()
        scene.settle()
    assert publisher.pending == {}
    assert set(subscriber.got[1]) == publisher.sent[1]
    assert sorted(subscriber.got[2]) == sorted(publisher.sent[2])
    scene.close()
