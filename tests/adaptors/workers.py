"""Workers beside the routers of `routers.py`: further processes of one of them.

    network = Routers()
    whole = Whole(network, count=3)
    client = whole.processes[1].client()
"""

from __future__ import annotations

import itertools

from tests.adaptors.edges import patterned
from tests.adaptors.routers import Line, RouterNode, Routers
from van.adaptors.amqp import ConnectionSettings
from van.adaptors.worker import WorkerConnectorAdaptor, WorkerListenerAdaptor
from van.routing.router import Router
from van.routing.worker_router import WorkerRouter


class WorkerNode(RouterNode):
    """One worker of a router, with its log and clients."""

    def __init__(self, network: Routers, name: str, index: int, mode: str) -> None:
        super().__init__(network, name)
        tokens = itertools.count(1)
        self.router = WorkerRouter(
            name, tokens=lambda: f"{name}{index}{next(tokens):013d}", log=self.log, now=network.now
        )
        self.router.mode = mode


class Whole:
    """A router of several processes: worker 0 comes first, `uplinks` are the lines of the others to it."""

    def __init__(self, network: Routers, name: str = "W", count: int = 2, mode: str = "interior") -> None:
        self.network = network
        self.mode = mode
        first = network.router(name)
        if mode == "standalone":
            first.router = Router(name, tokens=first.router.tokens, log=first.log, now=network.now)
        patterned(first)
        self.processes: list[RouterNode] = [first]
        self.uplinks: list[Line] = []
        for index in range(1, count):
            node = WorkerNode(network, name, index, mode)
            patterned(node)
            network.nodes.append(node)
            self.processes.append(node)
            self.uplinks.append(self.join(index))

    def join(self, index: int) -> Line:
        """Connect a worker to worker 0."""
        first, node = self.processes[0], self.processes[index]
        settings = ConnectionSettings(idle_timeout=0.0, max_session_frames=2048, max_links=20_000)
        return self.network.wire(
            WorkerConnectorAdaptor(
                node.router, settings, number=0, accepting=False, hostname="W", log=node.log, now=self.network.now
            ),
            WorkerListenerAdaptor(first.router, settings, number=-index, log=first.log, now=self.network.now),
        )

    def assert_quiet(self) -> None:
        """Nothing is held, half delivered or unsettled in any process."""
        for node in self.processes:
            assert node.router.budget.held() == 0
            assert not node.router.streams
            for client in node.clients:
                for session in client.adaptor.connection.begun_sessions():
                    assert not session.unsettled_in
                    assert not session.unsettled_out
