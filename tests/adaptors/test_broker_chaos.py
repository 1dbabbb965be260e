"""A broker that refuses, detaches, ends sessions, and is cut, while auto-links come and go: nothing is lost.

Every message that is sent has one outcome in the end, and what the broker gives and is not taken is its own again.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.adaptors.brokers import Broker, auto_link, connect
from tests.routing.network import Network, Receiver, Sender, Sent
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Modified, Rejected, Released
from van.amqp.errors import AmqpLinkError, AmqpSessionError, ErrorCondition
from van.routing.auto_link import LONGEST_PAUSE, AutoLink

ADDRESSES = ("a", "b")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "send", "send", "send", "give", "give", "settle", "refuse", "allow", "detach", "end", "cut", "connect",
                "receive", "leave", "remove", "add", "wait", "drift",
            ]
        ),
        st.sampled_from(ADDRESSES),
        st.sampled_from(["in", "out"]),
        st.integers(0, 3),
    ),
    max_size=40,
)  # fmt: skip


class Queues(Broker):
    """It refuses what is in `missing`, and settles when the scene says so."""

    auto = False


class Scene:
    def __init__(self, piece: int, ends_sessions: bool) -> None:
        patterns = dict.fromkeys(ADDRESSES, "balanced")
        self.network = Network(addresses=patterns, waypoints=ADDRESSES, piece=piece)
        self.ends_sessions = ends_sessions
        self.missing: frozenset[str] = frozenset()
        self.links: dict[tuple[str, str], AutoLink] = {}
        for address in ADDRESSES:
            for way in ("in", "out"):
                self.links[way, address] = auto_link(self.network, way, address)
        self.client = self.network.client()
        self.senders = {address: self.client.sender(address) for address in ADDRESSES}
        self.receivers: dict[str, Receiver] = {}
        self.broker: Broker | None = None
        self.sent: list[Sent] = []
        self.given: list[tuple[Sender, Sent]] = []

    def do(self, step: str, address: str, way: str, number: int) -> None:
        network, broker = self.network, self.broker
        if step == "send":
            self.sent.append(self.senders[address].send(b"x" * (1, 10, 30_000, 400_000)[number]))
        elif step == "receive" and address not in self.receivers:
            self.receivers[address] = self.client.receiver(address, credit=10)
        elif step == "leave" and address in self.receivers:
            self.receivers.pop(address).detach()
        elif step == "wait":
            network.advance((0.1, 2.0, 5.0, 60.0)[number])
        elif step == "drift":
            network.drift(1 + number)
            return
        elif step == "remove" and (way, address) in self.links:
            network.router.auto_links.remove(self.links.pop((way, address)))
        elif step == "add" and (way, address) not in self.links:
            self.links[way, address] = auto_link(network, way, address)
        elif step in ("refuse", "allow"):
            self.missing = self.missing | {address} if step == "refuse" else self.missing - {address}
        elif step == "connect" and broker is None:
            self.connect()
        if broker is not None:
            broker.missing = self.missing
            if step == "cut":
                broker.cut()
                self.broker = None
            else:
                self.broker_does(broker, step, address, way, number)
        network.run()

    def broker_does(self, broker: Broker, step: str, address: str, way: str, number: int) -> None:
        ends: dict[str, Any] = broker.senders if way == "in" else broker.receivers
        end = ends.get(address)
        if step == "give" and address in broker.senders:
            queue = broker.senders[address]
            self.given.append((queue, queue.send(b"y" * (1, 10, 30_000, 400_000)[number])))
        elif step == "settle" and address in broker.receivers:
            for got in broker.receivers[address].deliveries[-number - 1 :]:
                got.settle((ACCEPTED, RELEASED, Rejected(), Modified())[number])
        elif step == "detach" and end is not None:
            end.link.detach(AmqpLinkError(ErrorCondition.DETACH_FORCED, "the scene wants it"))
        elif step == "end" and end is not None and self.ends_sessions:
            end.link.session.end(AmqpSessionError(ErrorCondition.INTERNAL_ERROR, "the scene wants it"))

    def connect(self) -> None:
        self.broker = connect(self.network, Queues)
        self.broker.missing = self.missing
        self.broker.ends_sessions = self.ends_sessions

    def end(self) -> None:
        """All is well again: everything is attached, and everything is settled."""
        network = self.network
        self.missing = frozenset()
        if self.broker is None:
            self.connect()
        assert self.broker is not None
        self.broker.missing = self.missing
        self.broker.auto = True
        network.run()
        network.advance(2 * LONGEST_PAUSE)
        for way in ("in", "out"):
            for address in ADDRESSES:
                if (way, address) not in self.links:
                    self.links[way, address] = auto_link(network, way, address)
        for address in ADDRESSES:
            if address not in self.receivers:
                self.receivers[address] = self.client.receiver(address, credit=10)
        network.run()
        network.advance(2 * LONGEST_PAUSE)
        assert {link.status for link in self.links.values()} == {"active"}
        for receiver in self.broker.receivers.values():
            receiver.auto = True
            for got in receiver.deliveries:
                got.settle()
            receiver.credit(1000)
        network.run()
        for sent in self.sent:
            assert sent.settled
            assert isinstance(sent.state, Accepted | Released | Rejected | Modified)
        for queue, came in self.given:
            # Of a link that has gone, the broker takes it back by itself.
            if queue in self.broker.senders.values():
                assert came.settled or came.delivery in queue.undelivered
        self.client.cut()
        self.broker.cut()
        network.assert_empty()


@given(steps=STEPS, piece=st.sampled_from([0, 200]), ends_sessions=st.booleans())
def test_whatever_a_broker_does(steps: list[tuple[str, str, str, int]], piece: int, ends_sessions: bool) -> None:
    scene = Scene(piece, ends_sessions)
    scene.connect()
    for step in steps:
        scene.do(*step)
    scene.end()
