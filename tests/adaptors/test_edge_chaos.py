"""Edges, their uplinks and clients come and go at random, drawn from a seed: nothing is stuck, and nothing is left."""

from __future__ import annotations

import os
import random

import pytest

from tests.adaptors.edges import EdgeNode, edge, interiors, uplink
from tests.adaptors.routers import Line, RouterNode
from tests.routing.network import Client, Receiver, Sender, Sent
from van.amqp.delivery_state import ACCEPTED, RELEASED
from van.amqp.message import Data, Message, Properties

ADDRESSES = ["q1", "q2", "cl/q3", "mc/q4"]
SEEDS = int(os.environ.get("VAN_EDGE_SEEDS", "6"))
STEPS = 150


class Chaos:
    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.network, self.interiors = interiors("A", "B", piece=self.draw.choice([0, 0, 0, 3000]))
        self.edges = [edge(self.network, name) for name in "EFG"]
        self.nodes: list[RouterNode] = [*self.interiors, *self.edges]
        self.lines: dict[tuple[EdgeNode, RouterNode], Line] = {}
        self.clients: list[Client] = []
        self.senders: list[Sender] = []
        self.receivers: list[Receiver] = []
        self.sent: list[tuple[Sender, Sent]] = []
        self.gone: set[Client] = set()

    def step(self) -> None:
        draw = self.draw
        what = draw.choices(
            [self.connect, self.attach, self.send, self.settle, self.leave, self.uplinks, self.pass_time],
            [3, 8, 20, 8, 3, 2, 3],
        )[0]
        what()
        if draw.random() < 0.7:
            self.network.run()

    def connect(self) -> None:
        if len(self.clients) < 10:
            self.clients.append(self.draw.choice(self.nodes).client())

    def attach(self) -> None:
        if not self.clients:
            return
        client = self.draw.choice(self.clients)
        address = self.draw.choice(ADDRESSES)
        if self.draw.random() < 0.5:
            anonymous = self.draw.random() < 0.3
            self.senders.append(client.sender(None if anonymous else address, run=False))
        else:
            auto = self.draw.random() < 0.5
            self.receivers.append(client.receiver(address, credit=self.draw.choice([1, 20, 500]), auto=auto, run=False))

    def send(self) -> None:
        if not self.senders:
            return
        sender = self.draw.choice(self.senders)
        for _ in range(self.draw.choice([1, 5, 60])):
            size = self.draw.choice([10, 10, 10, 10, 5000, 60_000])
            if self.draw.random() < 0.02:
                size = 700_000
            to = self.draw.choice([*ADDRESSES, "nobody", "_edge/E/x", "_topo/0/B/x"])
            body = Message(properties=Properties(to=to), body=Data(b"x" * size)).encode()
            self.sent.append((sender, sender.send(body, settled=self.draw.random() < 0.3)))

    def settle(self) -> None:
        for receiver in self.receivers:
            if receiver.auto or self.draw.random() < 0.5:
                continue
            for got in list(receiver.by_delivery.values()):
                if got.complete and not got.aborted:
                    del receiver.by_delivery[got.delivery]
                    if not got.settled:
                        got.settle(self.draw.choice([ACCEPTED, RELEASED]))
            if receiver.link.link_credit < 50:
                receiver.credit(100)

    def leave(self) -> None:
        dice = self.draw.random()
        if dice < 0.4 and self.senders:
            sender = self.draw.choice(self.senders)
            self.senders.remove(sender)
            self.sent = [(owner, sent) for owner, sent in self.sent if owner is not sender]
            sender.detach()
        elif dice < 0.8 and self.receivers:
            receiver = self.draw.choice(self.receivers)
            self.receivers.remove(receiver)
            receiver.detach()
        elif self.clients:
            client = self.draw.choice(self.clients)
            self.drop(client)

    def drop(self, client: Client) -> None:
        self.clients.remove(client)
        self.senders = [sender for sender in self.senders if sender.client is not client]
        self.receivers = [receiver for receiver in self.receivers if receiver.client is not client]
        self.sent = [(owner, sent) for owner, sent in self.sent if owner.client is not client]
        client.cut()

    def uplinks(self) -> None:
        pair = (self.draw.choice(self.edges), self.draw.choice(self.interiors))
        line = self.lines.pop(pair, None)
        if line is None:
            self.lines[pair] = uplink(self.network, *pair)
        elif self.draw.random() < 0.5:
            line.cut()
        else:
            line.calling.close("amqp:connection:forced", "for a change")
            self.network.run()
            line.cut()

    def pass_time(self) -> None:
        self.network.advance(self.draw.choice([0.1, 1.0, 2.5]))

    def quiet(self) -> None:
        """Everybody is connected, and receivers take what comes, until nothing moves."""
        for node in self.edges:
            for interior in self.interiors:
                if (node, interior) not in self.lines:
                    self.lines[node, interior] = uplink(self.network, node, interior)
        for address in ADDRESSES:
            self.receivers.append(self.interiors[0].client().receiver(address, credit=10_000))
        for _ in range(40):
            for receiver in self.receivers:
                if not receiver.auto:
                    receiver.credit(200)
                    for got in list(receiver.by_delivery.values()):
                        if got.complete and not got.aborted:
                            del receiver.by_delivery[got.delivery]
                            if not got.settled:
                                got.settle(ACCEPTED)
                else:
                    receiver.credit(200)
            self.network.advance(0.5)
            if all(sent.settled for _, sent in self.sent):
                return

    def check(self) -> None:
        waiting = [(sender.link.name, sent.delivery.out_id if sent.delivery.sender else "not sent", sender.credit)
                   for sender, sent in self.sent if not sent.settled]  # fmt: skip
        assert not waiting, waiting[:10]
        for node in self.nodes:
            assert node.router.budget.held() == 0, node.router.id
            assert not node.router.streams
            assert not [line for line in node.logged if line[0] == "error"]
        for line in self.lines.values():
            for adaptor in (line.calling, line.accepting):
                assert not adaptor.refusal
                assert not adaptor.unsettled()
                for owner in adaptor.links.values():
                    if hasattr(owner, "outstanding"):
                        assert owner.outstanding == 0, (owner, owner.address.key)
                        assert owner.streaming == 0
                    else:
                        assert owner.owed + owner.link.link_credit == owner.capacity
                        assert not owner.leaving
        for client in [client for node in self.nodes for client in node.clients]:
            client.cut()
        self.network.advance(4.0)
        for node in self.edges:
            assert not node.edge.proxies
            assert not node.router.addresses, list(node.router.addresses)
        for line in list(self.lines.values()):
            line.cut()
        self.network.advance(4.0)
        for interior in self.interiors:
            assert set(interior.router.addresses) <= {"RA", "RB"}, list(interior.router.addresses)
            assert not interior.router.edge_peers


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_stuck_and_nothing_is_left(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(STEPS):
        chaos.step()
    chaos.quiet()
    chaos.check()
