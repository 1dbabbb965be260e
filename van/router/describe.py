"""What there is, written to the log for somebody who wants to know why nothing moves: tasks, connections, links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from van.amqp.link import Link
from van.router.log import get_logger
from van.router.site import Site
from van.routing.incoming_link import IncomingLink
from van.routing.neighbor import ControlReceiver, ControlSender
from van.routing.outgoing_link import OutgoingLink
from van.routing.router import LinkOwner

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


async def describe(site: Site) -> None:
    """Write everything, a line each. Between connections others have their turn."""
    logger = get_logger("router")
    if site.workers is not None:
        site.workers.describe()
    budget = site.router.budget
    logger.info(
        "state",
        draining=site.draining,
        connections=len(site.adaptors),
        addresses=len(site.router.addresses),
        streams=len(site.router.streams),
        in_flight=site.in_flight(),
        held=budget.held(),
        promised=budget.promised(),
        memory_limit=site.config.router.memory_limit,
    )
    for depth, task in tree_of_tasks():
        logger.info("task", depth=depth, task=task)
    for connector in site.connectors:
        logger.info(
            "connector",
            connector=connector.name,
            url=str(connector.url),
            status=connector.status,
            attempts=connector.attempts,
            message=connector.message,
        )
    for auto_link in site.router.auto_links.all():
        logger.info(
            "auto-link",
            auto_link=auto_link.name,
            at_broker=auto_link.at_broker,
            status=auto_link.status,
            connections={end.container.number: end.status for end in auto_link.ends.values()},
            error=auto_link.last_error,
        )
    for running in site.services.running.values():
        endpoint = running.endpoint
        logger.info(
            "service",
            service=running.entry.name,
            url=str(running.entry.url),
            address=running.service.address,
            status=endpoint.status,
            listening=endpoint.addresses,
            connections=endpoint.connections,
            refused=endpoint.refused,
            failed=endpoint.failed,
            message=endpoint.message,
        )
    await _describe_network(site, logger)
    for number, (adaptor, info) in sorted(site.adaptors.items()):
        await trio.lowlevel.checkpoint()
        remote = adaptor.connection.remote_open
        logger.info(
            "connection",
            connection=number,
            peer=info.peer,
            transport=info.transport,
            container_id=remote.container_id if remote is not None else None,
            user=adaptor.connection.identity,
            sessions=len(adaptor.connection.sessions),
            links=len(adaptor.links),
            unsettled=adaptor.unsettled(),
            waiting=adaptor.waiting(),
            octets_in=adaptor.connection.octets_in,
        )
        for link, owner in adaptor.links.items():
            logger.info("link", connection=number, **facts_of(link, owner))


async def _describe_network(site: Site, logger: FilteringBoundLogger) -> None:
    """The neighbours, and every other router that is known with the way to it."""
    router = site.router
    for neighbor in router.neighbors.values():
        logger.info(
            "neighbor",
            connection=neighbor.number,
            router_id=neighbor.router_id,
            cost=neighbor.cost,
            up=neighbor.up,
            streaming_links=len(neighbor.stream_links),
        )
    for peer in router.edge_peers.values():
        logger.info(
            "edge connection",
            connection=peer.number,
            router_id=peer.router_id,
            uplink=peer.uplink,
            mesh=peer.mesh,
            streaming_links=len(peer.stream_links),
        )
    if router.engine is None:
        return
    for node in sorted(router.engine.nodes.values(), key=lambda node: node.id):
        await trio.lowlevel.checkpoint()
        logger.info(
            "node",
            router_id=node.id,
            reachable=node.reachable,
            next_hop=node.next_hop,
            connection=router.engine.connection_of(node.id),
            cost=node.cost,
            peers=node.peers,
            addresses=len(node.addresses),
        )


def tree_of_tasks() -> Iterator[tuple[int, str]]:
    """Depth and name of every task of this program, parents first."""
    root = trio.lowlevel.current_root_task()
    waiting = [(0, root)] if root is not None else []
    while waiting:
        depth, task = waiting.pop()
        yield depth, task.name
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        waiting.extend((depth + 1, child) for child in sorted(children, key=lambda child: child.name, reverse=True))


def facts_of(link: Link, owner: LinkOwner) -> dict[str, object]:
    """One link in words: `direction` as the router sees it, and what keeps it from moving."""
    if isinstance(owner, (ControlReceiver, ControlSender)):
        return {
            "link": link.name,
            "address": None,
            "direction": "in" if isinstance(owner, ControlReceiver) else "out",
            "control": True,
            "credit": link.link_credit,
            "undelivered": len(owner.undelivered) if isinstance(owner, ControlSender) else 0,
        }
    facts: dict[str, object] = {
        "link": link.name,
        "address": owner.address.key[1:] or None,
        "direction": "in" if isinstance(owner, IncomingLink) else "out",
        "credit": link.link_credit,
        "delivery_count": link.delivery_count,
    }
    if isinstance(owner, IncomingLink):
        unsettled = link.session.unsettled_in.values()
        facts["unsettled"] = sum(delivery.receiver is link for delivery in unsettled)
        facts["waits_for"] = _incoming_waits_for(owner, link)
    else:
        facts["undelivered"] = len(owner.undelivered)
        facts["unsettled"] = sum(delivery.sender is link for delivery in link.session.unsettled_out.values())
        facts["waits_for"] = _outgoing_waits_for(owner, link)
    return facts


def _incoming_waits_for(owner: IncomingLink, link: Link) -> str:
    if owner.blocked:
        return "a receiver" if not owner.router.ending else "the end of the router"
    if link.session.incoming_window <= 0:
        return "memory"
    return "outcomes" if link.link_credit == 0 else ""


def _outgoing_waits_for(owner: OutgoingLink, link: Link) -> str:
    if not owner.undelivered and owner.link.current is None:
        return ""
    if link.session.remote_incoming_window <= 0:
        return "the receiver's session window"
    return "the receiver's credit" if link.link_credit == 0 else "the network"
