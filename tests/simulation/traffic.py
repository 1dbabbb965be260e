"""Whole routers by bytes, with applications that send all the time while everything happens to the network.

While there are faults it is known of every message what its sender was told, and how often which receiver got it: the
two must agree. When it is quiet, every new message must arrive exactly where its address is.

    python -m tests.simulation.run --traffic --routers 12 --seeds 20
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from time import perf_counter

import networkx as nx

from tests.simulation.chaos import Outcome
from van.testing import Application, Edge, Receiver, RouterNetwork, Sender, Sending, random_network

KINDS = ("closest", "balanced", "multicast")
# How long the network has, after the last fault, until new messages must arrive where they belong: a connection that
# fell silent is given up after 16 s.
QUIET_SECONDS = 20.0
# Of each sender, on average, while there are faults.
MESSAGES_A_SECOND = 6.0
# Messages of one sender when it is quiet.
LAST_MESSAGES = 10
# Some are larger than a frame, few are streams.
SIZES = (20, 20, 20, 2_000, 40_000)
LARGE = 400_000


class Flow:
    """One sender, and what it has sent."""

    def __init__(self, sender: Sender, address: str, router: str) -> None:
        self.sender = sender
        self.address = address
        self.router = router
        self.sent: dict[bytes, Sending] = {}


class Traffic:
    """One seed's network with its applications."""

    def __init__(self, seed: int, routers: int, *, seconds: float = 15.0, faults: int = 20) -> None:
        self.random = Random(f"traffic {seed}")
        self.routers = routers
        self.seconds = seconds
        self.faults = faults
        self.quiet = False
        self.happened: list[str] = []
        self.numbers = 0
        draw = self.random
        self.network = RouterNetwork(
            seed, addresses={f"{kind}/#": kind for kind in KINDS}, loss=0.02, offset=1000.0, drift=0.001
        )
        self.network.build(random_network(routers, draw.uniform(2.2, 4), draw, (1, 1, 2, 5)), within=0.2)
        self.receivers: dict[str, list[tuple[Application, Receiver]]] = {}
        self.flows: list[Flow] = []
        self.attach()

    def attach(self) -> None:
        """Receivers and senders of several addresses, here and there."""
        draw, network = self.random, self.network
        ids = sorted(network.hosts)
        addresses = [f"{kind}/{number}" for kind in KINDS for number in range(3)]
        applications = {router: network.application(router, f"at-{router}") for router in ids}
        for address in addresses:
            self.receivers[address] = []
            for _ in range(draw.randrange(1, 5)):
                application = applications[draw.choice(ids)]
                credit = draw.choice((1, 10, 100))
                self.receivers[address].append((application, application.receiver(address, credit=credit)))
            for _ in range(2):
                application = applications[draw.choice(ids)]
                self.flows.append(Flow(application.sender(address), address, application.router))

    # -- what happens --------------------------------------------------------------------------------------------

    def send(self, flow: Flow) -> None:
        self.numbers += 1
        draw = self.random
        size = LARGE if draw.random() < 0.01 else draw.choice(SIZES)
        body = b"%08d" % self.numbers + b"." * size
        flow.sent[body[:8]] = flow.sender.send(body, presettled=draw.random() < 0.1)

    def keep_sending(self, flow: Flow) -> None:
        """Send, and again after a while, as long as there are faults."""
        if self.quiet:
            return
        if len(flow.sender.undelivered) < 50:
            self.send(flow)
        self.network.after(self.random.expovariate(MESSAGES_A_SECOND), lambda: self.keep_sending(flow))

    def plan(self) -> None:
        faults: list[Callable[[], str]] = [self.restart, self.restart, self.cut, self.cut, self.silence, self.stop]
        for flow in self.flows:
            self.network.after(self.random.random(), lambda flow=flow: self.keep_sending(flow))  # type: ignore[misc]
        for _ in range(self.faults):
            fault = self.random.choice(faults)
            self.network.at(self.random.uniform(1, self.seconds), lambda fault=fault: self.happen(fault))  # type: ignore[misc]

    def happen(self, fault: Callable[[], str]) -> None:
        if not self.quiet:
            self.happened.append(f"{self.network.now:8.3f} {fault.__name__} {fault()}")

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self.quiet:
                action()

        self.network.after(seconds, act)

    def restart(self) -> str:
        router = self.random.choice(sorted(self.network.hosts))
        after = self.random.choice((0.0, 0.1, 0.7, 3.0))
        self.network.kill(router)
        self.later(after, lambda: self.network.start(router))
        return f"{router} back after {after} s"

    def cut(self) -> str:
        return self.mend_later(self.network.cut)

    def silence(self) -> str:
        return self.mend_later(self.network.silence)

    def mend_later(self, how: Callable[[Edge], None]) -> str:
        edge = self.random.choice(self.network.edges)
        after = self.random.choice((0.2, 2.0, 6.0))
        how(edge)
        self.later(after, lambda: self.network.mend(edge))
        return f"{edge} mended after {after} s"

    def stop(self) -> str:
        running = sorted(self.network.stations)
        if not running:
            return "nobody"
        router = self.random.choice(running)
        after = self.random.choice((0.1, 1.0, 5.0))
        self.network.pause(router)
        self.later(after, lambda: self.network.resume(router))
        return f"{router} goes on after {after} s"

    def calm(self) -> None:
        """End all faults; all routers run again, but a few connections stay away."""
        self.quiet = True
        network = self.network
        network.loss = 0.0
        for edge in network.edges:
            if self.random.random() < 0.9:
                network.mend(edge)
        for router in sorted(network.hosts):
            network.resume(router)
            network.start(router)

    # -- what must hold ------------------------------------------------------------------------------------------

    def received(self, address: str) -> Iterator[tuple[Application, Counter[bytes]]]:
        """How often each receiver of an address got which message."""
        for application, receiver in self.receivers[address]:
            yield application, Counter(body[:8] for body in receiver.bodies)

    def contradictions(self) -> list[str]:
        """Messages whose senders were told something else than what became of them.

        A multicast message that is on its way while trees change may come to a router on both the old way and the new
        one; everything else comes once.
        """
        wrong = []
        for address in self.receivers:
            counts = list(self.received(address))
            flows = [flow for flow in self.flows if flow.address == address]
            sent = {number: sending for flow in flows for number, sending in flow.sent.items()}
            for application, count in counts:
                wrong += [f"{application.router} got {number!r} at {address}" for number in count.keys() - sent.keys()]
            for number, sending in sent.items():
                times = sum(count[number] for _, count in counts)
                multicast = address.startswith("multicast")
                result = sending.result
                if result is None and not sending.waits:
                    wrong.append(f"{number!r} to {address} has no outcome")
                elif result == "rejected":
                    wrong.append(f"{number!r} to {address} is rejected")
                elif result == "accepted" and times == 0:
                    wrong.append(f"{number!r} to {address} is accepted, and nobody got it")
                elif result == "released" and times and not multicast:
                    wrong.append(f"{number!r} to {address} is released, and was got")
                elif times > 1 and not multicast:
                    wrong.append(f"{number!r} to {address} was got {times} times")
        return wrong

    def everything_arrives(self) -> list[str]:
        """Send some more now that it is quiet; tell what does not arrive exactly where it should."""
        network = self.network
        graph = nx.Graph()
        graph.add_nodes_from(network.stations)
        graph.add_weighted_edges_from((a, b, cost) for a, peers in network.graph().items() for b, cost in peers.items())
        wrong = []
        new: list[tuple[Flow, list[bytes]]] = []
        for flow in self.flows:
            before = set(flow.sent)
            for _ in range(LAST_MESSAGES):
                self.send(flow)
            new.append((flow, [number for number in flow.sent if number not in before]))
        network.run(10.0)
        for flow, numbers in new:
            near = nx.single_source_dijkstra_path_length(graph, flow.router)
            counts = list(self.received(flow.address))
            reached = [application.router for application, _ in counts if application.router in near]
            for number in numbers:
                got = [application.router for application, count in counts for _ in range(count[number])]
                sending = flow.sent[number]
                what = f"{number!r} from {flow.router} to {flow.address}"
                if not reached:
                    if sending.result not in {None, "released", "sent"} or got:
                        wrong.append(f"{what}: nobody can be reached, and it is {sending.result}, got at {got}")
                elif sending.result not in {"accepted", "sent"}:
                    wrong.append(f"{what} is {sending.result}, and {sorted(set(reached))} can be reached")
                elif flow.address.startswith("multicast"):
                    if sorted(got) != sorted(reached):
                        wrong.append(f"{what} was got at {sorted(got)} instead of {sorted(reached)}")
                elif len(got) != 1:
                    wrong.append(f"{what} was got at {got}")
                elif flow.address.startswith("closest") and near[got[0]] != min(near[router] for router in reached):
                    wrong.append(f"{what} was got at {got[0]}, which is not the closest of {sorted(set(reached))}")
        return wrong

    def left_over(self) -> list[str]:
        """What routers still hold when everything has its outcome."""
        wrong = []
        for router, station in self.network.stations.items():
            if station.router.budget.held():
                wrong.append(f"{router} holds {station.router.budget.held()} octets")
            for plug in station.plugs:
                unsettled = plug.unsettled()
                if unsettled:
                    wrong.append(f"{router} has {unsettled} unsettled deliveries on a connection")
        return wrong

    def run(self) -> Outcome:
        """Let everything happen; return what became of it."""
        network = self.network
        outcome = Outcome(network.seed, self.routers, options=" --traffic")
        begin = perf_counter()
        try:
            network.run(2.0)
            self.plan()
            network.run(self.seconds)
            self.calm()
            network.run(QUIET_SECONDS)
            outcome.failures += self.contradictions()[:20]
            outcome.failures += self.everything_arrives()[:20]
            outcome.failures += self.contradictions()[:20]
            waiting = any(flow.sender.undelivered for flow in self.flows)
            if not waiting:
                outcome.failures += self.left_over()[:20]
        except Exception as error:
            error.add_note(f"{outcome.command}, at {network.now:.6f} s")
            raise
        outcome.faults = len(self.happened)
        outcome.converged_after = QUIET_SECONDS
        outcome.simulated = network.now
        outcome.control_messages = self.numbers
        outcome.events = network.events
        outcome.real_seconds = perf_counter() - begin
        return outcome
