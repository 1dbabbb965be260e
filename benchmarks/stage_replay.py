"""Divides what `receive_data` takes: batches of the same size are replayed up to a stage, without sockets.

`python benchmarks/stage_replay.py '{…}'` (a `Scene` as JSON) prints µs for each message up to and with every stage. It
is a process of its own so that the compiled modules can be looked at as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import core
from measure import environment
from stage_loop import PLENTY, clock, look_cost
from wire import CREDIT, Batches, Counter, message

from van.adaptors.amqp import no_log
from van.adaptors.worker import WorkerConnectorAdaptor, WorkerListenerAdaptor
from van.amqp.delivery import Delivery, DeliverySink, Holder
from van.amqp.delivery_state import ACCEPTED
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.router.process import settle_memory
from van.router.workers import uplink_settings
from van.routing.router import Router
from van.routing.worker_link import WorkerIncomingLink, WorkerOutgoingLink
from van.routing.worker_router import WorkerRouter

# What is replayed: so many messages, in batches as they came.
REPLAYED = 20_000
# Of so many replays the least is taken: others use the machine.
REPLAYS = 5
# Where messages come in: at the only router, at a worker whose receivers are elsewhere, from that worker; or one
# message at a time with the outcome of the one before, both ways.
ONE, NEAR, FAR, TALK = "one", "near", "far", "talk"


@dataclass(frozen=True)
class Scene:
    """What is replayed: messages of a kind, `batch` of them with one read."""

    place: str = ONE
    size: int = 100
    batch: int = 1
    settled: bool = False
    receivers: int = 1
    total: int = REPLAYED


class NullSink(DeliverySink):
    """Takes deliveries and does nothing with them; `together` counts those that it did not take one by one."""

    def __init__(self) -> None:
        self.taken: list[Delivery] = []
        self.together = 0

    def deliver(self, delivery: Delivery) -> None:
        self.taken.append(delivery)

    def deliver_run(self, deliveries: list[Delivery]) -> None:
        self.taken += deliveries
        self.together += len(deliveries)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        """No more is done with the rest."""

    def let_go(self, link: ReceiverLink) -> None:
        """Settle what has come, and give its memory back."""
        for delivery in self.taken:
            if not delivery.settled:
                link.settle(delivery, ACCEPTED)
            delivery.holder.held -= len(delivery.data())
            delivery.chunks = None
        self.taken.clear()


def call_cost() -> float:
    """What a delivery to a sink that does nothing takes, in nanoseconds."""
    sink = NullSink()
    delivery = Delivery(None, 0, b"", b"", True, Holder())
    costs = []
    for _ in range(5):
        a = clock()
        for _ in range(1000):
            sink.deliver(delivery)
        b = clock()
        for _ in range(1000):
            pass
        costs.append((b - a - (clock() - b)) / 1000)
    return min(costs)


@dataclass
class Fed:
    """A router that is given messages by the adaptor of `entry`; `takers` take what it writes, and count it.

    `link` is the end here of the link by which the messages come.
    """

    router: Router
    entry: core.Station | UplinkEnd
    link: ReceiverLink
    batches: Batches
    takers: Sequence[tuple[core.Station | UplinkEnd, Counter]]


class UplinkEnd(core.End):
    """One end of the connection between the processes of a router."""

    def __init__(self, adaptor: WorkerConnectorAdaptor | WorkerListenerAdaptor) -> None:
        self.adaptor = adaptor
        adaptor.on_wake = self.flush
        self.chunks: list[bytes | memoryview] = []

    def output(self) -> bytes:
        """What has been written to the other process."""
        data = b"".join(self.chunks)
        self.chunks.clear()
        return data


def feed_one(scene: Scene) -> Fed:
    """A router with a sender, and receivers."""
    router = core.make_router(scene.receivers)
    sender = core.Station(router, "sender")
    receiving = [core.Station(router, f"receiver {number}") for number in range(scene.receivers)]
    for station in receiving:
        station.peer.receiver("work")
    outgoing = sender.peer.sender("work")
    core.shake_hands(router, [*receiving, sender])
    [link] = sender.adaptor.links
    assert isinstance(link, ReceiverLink)
    batches = Batches(outgoing, message(scene.size, to="work"), settled=scene.settled)
    takers = [(station, Counter(station.peer.links[0], scene.size)) for station in receiving]
    return Fed(router, sender, link, batches, takers)


def feed_worker(scene: Scene) -> Fed:
    """One of two processes, which have a sender and a receiver: that which has the sender, or (FAR) the other.

    What the process left out does is counted, as a client's part is.
    """
    tokens = map(str, range(PLENTY))
    near = WorkerRouter("benchmark", tokens=tokens.__next__)
    near.mode = "standalone"
    far = core.make_router(1)
    settings = uplink_settings()
    up = UplinkEnd(
        WorkerConnectorAdaptor(near, settings, number=0, accepting=False, hostname=near.id, log=no_log, now=0.0)
    )
    down = UplinkEnd(WorkerListenerAdaptor(far, settings, number=-1, log=no_log, now=0.0))
    sender, receiver = core.Station(near, "sender"), core.Station(far, "receiver")
    receiver.peer.receiver("work")
    outgoing = sender.peer.sender("work")
    up.flush()
    busy = True
    while busy:
        core.shake_hands(far, [receiver])
        core.shake_hands(near, [sender])
        busy = False
        for here, router, there in ((up, far, down), (down, near, up)):
            if data := here.output():
                there.adaptor.receive_data(data, 0.0)
                router.wake_touched()
                busy = True
    [sends] = [owner.link for owner in up.adaptor.links.values() if _carries(owner, WorkerOutgoingLink)]
    [takes] = [owner.link for owner in down.adaptor.links.values() if _carries(owner, WorkerIncomingLink)]
    assert isinstance(sends, SenderLink)
    assert isinstance(takes, ReceiverLink)
    payload = message(scene.size, to="work")
    if scene.place == NEAR:
        [link] = sender.adaptor.links
        assert isinstance(link, ReceiverLink)
        counter = Counter(takes, scene.size)
        # The window is renewed with the credit, and is used up before that.
        counter.granted = 0
        return Fed(near, sender, link, Batches(outgoing, payload), [(up, counter)])
    takers = [(receiver, Counter(receiver.peer.links[0], scene.size))]
    return Fed(far, down, takes, Batches(sends, payload), takers)


def _carries(owner: object, kind: type[WorkerIncomingLink | WorkerOutgoingLink]) -> bool:
    return isinstance(owner, kind) and not owner.anonymous


def replay(stage: str, scene: Scene) -> float:
    """What `receive_data` takes of a message in batches like this, up to and including a stage; in µs."""
    fed = feed_one(scene) if scene.place in {ONE, TALK} else feed_worker(scene)
    link, batches = fed.link, fed.batches
    sink = NullSink()
    if stage == "frame":
        link.session.end()
    elif stage == "session":
        link.sink = sink
        link.grant(PLENTY)
    call = call_cost()
    receive = fed.entry.adaptor.receive_data
    later = b"".join(batches.later)
    spent = sent = frames = 0
    look = look_cost()
    while frames < scene.total:
        number = scene.batch
        if stage != "frame":
            number = min(number, link.link_credit, link.session.incoming_window // batches.frames)
        if later:
            data = b"".join(batches.make(sent + index, 1) + later for index in range(number))
        else:
            data = batches.make(sent, number)
        a = clock()
        receive(data, 0.0)
        spent += clock() - a - look
        if stage == "session":
            spent -= int((number - sink.together) * call)
            sink.together = 0
        sent += number
        frames += number * batches.frames
        sink.let_go(link)
        fed.router.wake_touched()
        for end, counter in fed.takers:
            counter.feed(end.output())
            if answer := counter.renew() if scene.settled else counter.accept():
                end.adaptor.receive_data(answer, 0.0)
        fed.router.wake_touched()
        fed.entry.output()
    return spent / sent * 1e-3


class Talker(core.Station):
    """A client that receives by one link and sends by another, one message at a time."""

    def attach(self, source: str, target: str) -> None:
        """Begin both links."""
        self.incoming = self.peer.receiver(source, credit=0)
        self.outgoing = self.peer.sender(target)

    def begin(self, size: int, router: Router) -> None:
        """Have the router send from now on."""
        self.incoming.grant(CREDIT)
        self.adaptor.receive_data(self.peer.take(), 0.0)
        router.wake_touched()
        self.counter = Counter(self.incoming, size)
        self.batches = Batches(self.outgoing, message(size, to="work"))
        self.sent = 0

    def say(self) -> bytes:
        """The outcome of what has come, and a message."""
        self.sent += 1
        return self.counter.accept() + self.batches.make(self.sent - 1, 1)


def replay_talk(scene: Scene) -> float:
    """What `receive_data` takes of a message that comes with the outcome of the one before; in µs."""
    router = core.make_router(1)
    talkers = [Talker(router, "requester"), Talker(router, "echo")]
    talkers[0].attach("reply", "work")
    talkers[1].attach("work", "reply")
    core.shake_hands(router, talkers)
    for talker in talkers:
        talker.begin(scene.size, router)
    look = look_cost()
    spent = 0
    for number in range(scene.total):
        talker = talkers[number & 1]
        data = talker.say()
        a = clock()
        talker.adaptor.receive_data(data, 0.0)
        spent += clock() - a - look
        router.wake_touched()
        for each in talkers:
            each.counter.feed(each.output())
    return spent / scene.total * 1e-3


def up_to(python: str, scene: Scene) -> dict[str, float]:
    """What messages take up to and with `frame`, `session` and `route`, and in a conversation `settle`; in µs."""
    words = [python, __file__, json.dumps(asdict(scene))]
    surroundings = environment(installed=python != sys.executable)
    output = subprocess.run(words, env=surroundings, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, float] = json.loads(output)
    return figures


def main(scene: Scene) -> None:
    """Print the least of some replays."""
    settle_memory()
    least = {stage: min(replay(stage, scene) for _ in range(REPLAYS)) for stage in ("frame", "session", "route")}
    if scene.place == TALK:
        least["settle"] = min(replay_talk(scene) for _ in range(REPLAYS))
    print(json.dumps(least))


if __name__ == "__main__":
    main(Scene(**json.loads(sys.argv[1])))
