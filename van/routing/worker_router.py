"""The core of a worker: one more process of a router, which has clients of it and one connection, to worker 0.

It hangs on worker 0 as an edge router does on an interior one, with two differences. It has no name of its own: its
clients talk to the router, whose id it has, and no other router hears of it. So what belongs to the router alone
(`_local/…`, `_topo/0/ID/…`, `$management`, dynamic addresses) has links to worker 0 as any address has. And there is
but one uplink, whose end is the worker's.
"""

from __future__ import annotations

from collections.abc import Callable

from van.amqp.connection import Connection
from van.amqp.errors import AmqpLinkError, ErrorCondition
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.routing.address import Address, address_key
from van.routing.dialect.annotations import MAY_CHANGE, Annotations, encode_annotations
from van.routing.edge import EdgeIncomingLink, EdgeOutgoingLink
from van.routing.edge_router import EdgeRouter, Uplink, UplinkOpener
from van.routing.incoming_link import IncomingLink
from van.routing.router import OWN_NODES, Router
from van.routing.worker_link import CAPACITY, WorkerIncomingLink, WorkerOutgoingLink


class WorkerUplink(Uplink):
    """The connection to worker 0. Constructed as an `Uplink`."""

    __slots__ = ()

    def incoming(self, link: ReceiverLink, address: Address, capacity: int, text: str) -> EdgeIncomingLink:
        return WorkerIncomingLink(self.router, link, address, CAPACITY, self, text)

    def outgoing(self, link: SenderLink, address: Address, capacity: int, anonymous: bool) -> EdgeOutgoingLink:
        return WorkerOutgoingLink(link, address, CAPACITY, self, anonymous)


class TrustedLink(IncomingLink):
    """A link to the management node, of somebody who may change the router: its annotations say so to worker 0."""

    __slots__ = ()


def nobody(connection: Connection) -> bool:
    """Stand in for `may_change` where nobody is known."""
    return False


class WorkerRouter(EdgeRouter):
    """The core of a worker; constructed as a `Router` with the id of the whole.

    `mode` is to be set to that of worker 0: where that is `standalone` there is nothing elsewhere that could be named.
    """

    def _prepare(self) -> None:
        super()._prepare()
        # Whether the peer of a connection may change the router; the process knows.
        self.may_change: Callable[[Connection], bool] = nobody

    def _incoming(self, link: ReceiverLink, address: Address, capacity: int, broker: bool) -> IncomingLink:
        if address.key in OWN_NODES and self.may_change(link.session.connection):
            trusted = TrustedLink(self, link, address, capacity, False)
            trusted.annotations = self.prepared(Annotations(MAY_CHANGE))
            return trusted
        return super()._incoming(link, address, capacity, broker)

    def new_uplink(
        self, number: int, router_id: str, *, van: bool, opener: UplinkOpener, streams: bool
    ) -> Uplink:
        return WorkerUplink(self, number, router_id, van=van, opener=opener, streams=streams)

    def _activate(self, uplink: Uplink) -> None:
        self.active = uplink
        self._send_elsewhere(uplink)
        self._track(uplink)

    def _tell_lost(self, uplink: Uplink, following: Uplink | None) -> None:
        """The process ends, and that is told."""

    def _text_of(self, key: str) -> str:
        kind = key[:1]
        return key[1:] if kind == "M" else f"_local/{key[1:]}" if kind == "L" else ""

    def temporary_address(self, mobile: bool) -> str:
        return Router.temporary_address(self, mobile)

    def received(self, text: str) -> Address:
        if address_key(text, self.id) in OWN_NODES:
            # Whoever receives there would hear what others here ask the router.
            raise AmqpLinkError(ErrorCondition.NOT_ALLOWED, f"{text} is a node of the router itself")
        return super().received(text)

    def usable(self, text: str) -> Address:
        if address_key(text, self.id)[:1] in ("R", "H") and self.mode != "standalone":
            return super().usable(text)
        return Router.usable(self, text)

    def _section(self, annotations: Annotations, flags: int) -> bytes:
        # Neither a mesh: what a worker sends comes into the network at the router.
        return encode_annotations(flags, annotations.to_override, None, ())
