"""Clients that are killed at random and return: what became of every message, by both ends' logs.

    python -m tests.routing.chaos --messages 1000000 --seed 7

Ten senders and ten receivers over byte wires, everything drawn from one seed. Checked is that every message has an
outcome at its sender or is in doubt because that sender's own connection was cut, that both ends' logs agree, that
nothing is stuck or left behind, and that the byte budget holds all the time.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, deque
from typing import Final

from tests.routing.network import Client, Got, Network, Receiver, Sender, Sent
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Modified, Rejected, Released
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink

ADDRESSES: Final = {"q/closest": "closest", "q/balanced": "balanced", "q/other": "balanced", "m/all": "multicast"}
CREDIT: Final = 250
# A sender keeps this many messages going.
BACKLOG: Final = 300
# Little enough to be short of now and then.
MEMORY_LIMIT: Final = 6 * 1024 * 1024
REJECTED: Final = Rejected()
MODIFIED: Final = Modified(delivery_failed=True)


class Message(Sent):
    """One message of the sender's log."""

    __slots__ = ("number", "owner")

    def __init__(self, link: SenderLink, delivery: Delivery, owner: ChaosSender, number: int) -> None:
        super().__init__(link, delivery)
        self.owner = owner
        self.number = number

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        super().outcome(delivery, state, settled)
        if settled:
            self.owner.chaos.settled(self)

    def settle(self, state: object = None) -> None:
        super().settle(state)
        self.owner.chaos.settled(self)

    def left(self, delivery: Delivery) -> None:
        self.owner.chaos.presettled += 1


class ChaosSender:
    """A sender that reconnects: the link of the moment, and what it may still send."""

    def __init__(self, chaos: Chaos, index: int) -> None:
        self.chaos = chaos
        self.index = index
        self.address = list(ADDRESSES)[index % len(ADDRESSES)]
        self.second = index % 3 == 2
        self.sent = 0
        self.attached = 0
        self.client: Client | None = None
        self.link: Sender | None = None
        self.streams: list[Message] = []

    def connect(self) -> None:
        self.client = self.chaos.network.client(f"sender {self.index}")
        self.attached = 0
        self.attach()

    def attach(self) -> None:
        assert self.client is not None
        self.attached += 1
        self.link = self.client.sender(self.address, second=self.second, run=False)
        self.streams.clear()

    def lost(self) -> None:
        """The connection was cut: what was sent and not settled is in doubt, what was not sent is not."""
        client, link = self.client, self.link
        if client is None or link is None:
            return
        chaos = self.chaos
        in_doubt = 0
        for delivery in list(client.session.unsettled_out.values()):
            message = delivery.origin
            if isinstance(message, Message):
                in_doubt += 1
                chaos.in_doubt.add(message.number)
                chaos.open.discard(message.number)
        assert in_doubt <= CREDIT * self.attached, f"{in_doubt} in doubt after one cut of {self.attached} links"
        self.not_sent(link)
        client.cut()
        self.client = self.link = None

    def not_sent(self, link: Sender) -> None:
        for delivery in link.undelivered:
            message = delivery.origin
            if isinstance(message, Message):
                self.chaos.open.discard(message.number)
                self.chaos.withdrawn += 1
        link.undelivered.clear()

    def work(self) -> None:
        """Send some more."""
        link = self.link
        chaos = self.chaos
        if link is None or link.link.detach_sent or link.link.detach_received:
            return
        draw = chaos.network.random
        for _ in range(draw.randrange(60)):
            if self.sent >= chaos.each or len(link.undelivered) >= BACKLOG:
                break
            self.sent += 1
            number = self.index * 100_000_000 + self.sent
            dice = draw.random()
            size = 20 if dice < 0.95 else 20_000 if dice < 0.997 else 100_000
            settled = draw.random() < 0.05
            delivery = Delivery(None, 0, b"", b"%012d" % number + b"." * size, settled, link.holder)
            if dice > 0.999:
                delivery.chunks = deque((b"%012d" % number + b"." * 290_000,))
                delivery.payload = b""
                delivery.more = True
            message = Message(link.link, delivery, self, number)
            delivery.origin = message
            if not settled:
                chaos.open.add(number)
            link.undelivered.append(delivery)
            if delivery.more:
                self.streams.append(message)
                break
        link.link.ready()
        for stream in list(self.streams):
            dice = draw.random()
            if dice < 0.3:
                stream.more(b"." * 10_000)
            elif dice < 0.5:
                self.streams.remove(stream)
                stream.end(b"!")
            elif dice < 0.52 and link.link.current is stream.delivery:
                self.streams.remove(stream)
                stream.abort()
                chaos.aborted.add(stream.number)
                chaos.open.discard(stream.number)

    @property
    def done(self) -> bool:
        return self.sent >= self.chaos.each and self.link is not None and not self.link.undelivered


class ChaosReceiver(Receiver):
    """A receiver that makes up its mind at random, now or later."""

    __slots__ = ("chaos", "index", "undecided")

    def __init__(self, client: Client, link: ReceiverLink, second: bool, chaos: Chaos, index: int) -> None:
        super().__init__(client, link, True, second)
        self.chaos = chaos
        self.index = index
        self.undecided: list[Got] = []

    def _finished(self, got: Got) -> None:
        self.by_delivery.pop(got.delivery, None)
        self.deliveries.clear()
        number = int(got.body[:12])
        self.chaos.received(number, self.index)
        self.link.grant(1)
        if got.settled:
            return
        if self.chaos.network.random.random() < 0.2:
            self.undecided.append(got)
        else:
            self.decide(got, number)

    def abort(self, delivery: Delivery) -> None:
        self.by_delivery.pop(delivery, None)
        self.link.grant(1)

    def decide(self, got: Got, number: int) -> None:
        chaos = self.chaos
        dice = 0.0 if chaos.ending else chaos.network.random.random()
        state: object = ACCEPTED
        if dice > 0.90:
            state = REJECTED if dice > 0.97 else RELEASED if dice > 0.94 else MODIFIED
        chaos.decided(number, state)
        if self.second:
            got.update(state)
        elif dice > 0.5 and got.delivery.delivery_id % 2:
            got.update(state)
            got.settle(None)
        else:
            got.settle(state)

    def work(self) -> None:
        """Decide some that were put off."""
        undecided = self.undecided
        while undecided and (self.chaos.ending or self.chaos.network.random.random() < 0.5):
            got = undecided.pop(0)
            self.decide(got, int(got.body[:12]))


class Chaos:
    """One run. `check` raises AssertionError with the seed in its text."""

    def __init__(self, seed: int, messages: int, kills: float = 0.15) -> None:
        self.seed = seed
        self.kills = kills
        self.network = Network(
            addresses=dict(ADDRESSES),
            memory_limit=MEMORY_LIMIT,
            seed=seed,
            piece=0 if seed % 3 == 0 else 3000 if seed % 3 == 1 else 200,
        )
        self.each = messages // 10
        self.ending = False
        self.open: set[int] = set()
        self.in_doubt: set[int] = set()
        self.aborted: set[int] = set()
        self.outcomes: Counter[str] = Counter()
        self.withdrawn = 0
        self.presettled = 0
        self.cuts: Counter[str] = Counter()
        self.seen: dict[int, int] = {}
        self.accepted_by_receivers: set[int] = set()
        self.rejected_by_receivers: set[int] = set()
        self.most_held = 0
        self.senders = [ChaosSender(self, index) for index in range(10)]
        self.receivers: list[ChaosReceiver | None] = [None] * 10

    # -- logs ----------------------------------------------------------------------------------------------------

    def received(self, number: int, index: int) -> None:
        if not self._multicast(number):
            assert number not in self.seen, f"{number} received by {self.seen[number]} and by {index}"
        self.seen[number] = index

    def decided(self, number: int, state: object) -> None:
        if state is ACCEPTED:
            self.accepted_by_receivers.add(number)
        elif state is REJECTED:
            self.rejected_by_receivers.add(number)

    def settled(self, message: Message) -> None:
        number = message.number
        if number in self.aborted:
            return
        assert number in self.open, f"{number} settled twice: {message.states}"
        self.open.discard(number)
        state = message.state
        name = type(state).__name__
        self.outcomes[name] += 1
        if isinstance(state, Accepted):
            assert number in self.accepted_by_receivers, f"{number} accepted by nobody"
        elif isinstance(state, Rejected):
            assert number in self.rejected_by_receivers, f"{number} rejected by nobody"
        else:
            assert isinstance(state, (Released, Modified)), f"{number}: {state}"

    def _multicast(self, number: int) -> bool:
        return ADDRESSES[self.senders[number // 100_000_000].address] == "multicast"

    # -- events --------------------------------------------------------------------------------------------------

    def connect_receiver(self, index: int) -> None:
        network = self.network
        client = network.client(f"receiver {index}")
        address = list(ADDRESSES)[index % len(ADDRESSES)]
        second = index % 4 >= 2
        plain = client.receiver(address, second=second, run=False)
        receiver = ChaosReceiver(client, plain.link, second, self, index)
        receiver.credit(network.random.choice([1, 10, 100, 500]))
        self.receivers[index] = receiver

    def hurt(self) -> None:
        """Something happens to somebody."""
        draw = self.network.random
        index = draw.randrange(10)
        receiver = self.receivers[index]
        sender = self.senders[index]
        kind = draw.choice(["cut sender", "cut receiver", "detach sender", "detach receiver", "end receiver", "stuck"])
        if kind == "cut sender" and sender.client is not None:
            sender.lost()
        elif kind == "cut receiver" and receiver is not None:
            receiver.client.cut()
            self.receivers[index] = None
        elif kind == "detach sender" and sender.link is not None and not sender.streams:
            sender.not_sent(sender.link)
            sender.link.detach()
            if not sender.link.link.current:
                sender.attach()
        elif kind == "detach receiver" and receiver is not None:
            receiver.detach()
            self.network.drift(40)  # it may be heard of, or not, before the connection is cut
            receiver.client.cut()
            self.receivers[index] = None
        elif kind == "end receiver" and receiver is not None:
            receiver.client.session.end()
            self.network.drift(40)
            receiver.client.cut()
            self.receivers[index] = None
        elif kind == "stuck" and receiver is not None:
            receiver.client.reading = not receiver.client.reading
        else:
            return
        self.cuts[kind] += 1

    def mend(self, all_of_them: bool) -> None:
        """Those who are gone come back."""
        draw = self.network.random
        for index in range(10):
            if self.senders[index].client is None and (all_of_them or draw.random() < 0.3):
                self.senders[index].connect()
            receiver = self.receivers[index]
            if receiver is None:
                if all_of_them or draw.random() < 0.3:
                    self.connect_receiver(index)
            elif all_of_them or draw.random() < 0.1:
                receiver.client.reading = True

    # -- the run -------------------------------------------------------------------------------------------------

    def run(self) -> Chaos:
        try:
            self._run()
        except AssertionError as failure:
            raise AssertionError(f"seed {self.seed}: {failure}") from failure
        return self

    def _run(self) -> None:
        network = self.network
        self.mend(True)
        rounds = 0
        while not all(sender.done for sender in self.senders):
            rounds += 1
            assert rounds < 1000 + self.each * 20, f"no progress: {[sender.sent for sender in self.senders]}"
            for sender in self.senders:
                sender.work()
            for receiver in self.receivers:
                if receiver is not None:
                    receiver.work()
            network.drift(20)
            if network.random.random() < self.kills:
                self.hurt()
            self.mend(False)
            network.now += 0.001
            self.check_budget()
        self._quiet()

    def _quiet(self) -> None:
        """No more kills: everything has to come to its end."""
        network = self.network
        self.ending = True
        self.mend(True)
        for sender in self.senders:
            for stream in sender.streams:
                stream.end()
            sender.streams.clear()
        for _ in range(200):
            network.run()
            for receiver in self.receivers:
                assert receiver is not None
                receiver.work()
                if receiver.link.link_credit < 250:
                    receiver.credit(250)
            network.run()
            network.advance(1)
            if not self.open:
                break
        assert not self.open, f"{len(self.open)} stuck, such as {sorted(self.open)[:5]}"
        network.run()
        network.assert_quiet()
        for client in list(network.clients):
            client.cut()
        network.run()
        network.router.budget.recount()
        network.assert_empty()

    def check_budget(self) -> None:
        budget = self.network.router.budget
        held, promised = budget.held(), budget.promised()
        assert held + promised <= budget.limit, f"{held} held and {promised} promised of {budget.limit}"
        self.most_held = max(self.most_held, held)
        for client in self.network.clients:
            for session in client.adaptor.connection.begun_sessions():
                unsettled = len(session.unsettled_in)
                assert unsettled <= CREDIT * 10, f"{unsettled} unsettled from {client.name}"

    def report(self) -> str:
        return (
            f"seed {self.seed}: {dict(self.outcomes)}, pre-settled {self.presettled}, in doubt {len(self.in_doubt)}, "
            f"aborted {len(self.aborted)}, never sent {self.withdrawn}; cuts {dict(self.cuts)}; "
            f"at most {self.most_held / 1048576:.1f} MiB held"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    start = time.perf_counter()
    chaos = Chaos(arguments.seed, arguments.messages).run()
    print(chaos.report())
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
