"""The connection between two processes of one router: a worker, and worker 0 which it hangs on.

An edge connection whose ends have the same id, because they are the same router.
"""

from __future__ import annotations

from collections.abc import Callable

from van.adaptors.amqp import ConnectionSettings, Log, no_log, nobody_counts
from van.adaptors.edge import EdgeConnectorAdaptor, EdgeListenerAdaptor
from van.amqp.sasl import SaslClient, SaslServer
from van.routing.dialect.recognition import PeerOpen
from van.routing.router import Router
from van.routing.worker_link import WorkerPeer


class WorkerListenerAdaptor(EdgeListenerAdaptor):
    """Worker 0's end. Constructed as an `AmqpAdaptor`; name: what logs call the worker."""

    def __init__(
        self,
        router: Router,
        settings: ConnectionSettings,
        *,
        name: str,
        number: int = 0,
        accepting: bool = True,
        sasl: SaslServer | SaslClient | None = None,
        hostname: str | None = None,
        log: Log = no_log,
        on_lost: Callable[[], None] = nobody_counts,
        now: float = 0.0,
    ) -> None:
        self.name = name
        super().__init__(
            router,
            settings,
            number=number,
            accepting=accepting,
            sasl=sasl,
            hostname=hostname,
            log=log,
            on_lost=on_lost,
            now=now,
        )

    def _refusal(self, peer: PeerOpen) -> str:
        return ""

    def _counts(self, peer: PeerOpen) -> None:
        worker = self.edge = WorkerPeer(self.router, self.number, self.name, van=True, streams=self.streams)
        worker.worker = True
        self.router.edge_peers[self.number] = worker


class WorkerConnectorAdaptor(EdgeConnectorAdaptor):
    """The worker's end."""

    def _refusal(self, peer: PeerOpen) -> str:
        return ""
