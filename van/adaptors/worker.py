"""The connection between two processes of one router: a worker, and worker 0 which it hangs on.

An edge connection whose ends have the same id, because they are the same router.
"""

from __future__ import annotations

from van.adaptors.edge import EdgeConnectorAdaptor, EdgeListenerAdaptor
from van.routing.dialect.recognition import PeerOpen
from van.routing.worker_link import WorkerPeer


class WorkerListenerAdaptor(EdgeListenerAdaptor):
    """Worker 0's end. The number of the connection to worker N is -N."""

    def _refusal(self, peer: PeerOpen) -> str:
        return ""

    def _counts(self, peer: PeerOpen) -> None:
        name = f"{self.router.id}#{-self.number}"
        worker = self.edge = WorkerPeer(self.router, self.number, name, van=True, streams=self.streams)
        worker.worker = True
        self.router.edge_peers[self.number] = worker


class WorkerConnectorAdaptor(EdgeConnectorAdaptor):
    """The worker's end."""

    def _refusal(self, peer: PeerOpen) -> str:
        return ""
