"""The management agent in the process: what it may know of the site, and the task that gives it its turns.

What the entities are, and how requests are answered, is in `van.management`; here is only what stands behind them.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from van.adaptors.amqp import AmqpAdaptor, Log
from van.management.agent import ManagementAgent
from van.management.elsewhere import Question
from van.management.facts import (
    ConnectionFacts,
    ConnectorFacts,
    Facts,
    ListenerAddressFacts,
    ListenerFacts,
    RouterFacts,
    ServiceFacts,
    ServiceLinks,
)
from van.management.requests import ManagementError, Request
from van.router.kinds import KINDS
from van.router.sections import (
    LARGE_FRAME_SIZE,
    LINK_CAPACITY,
    ROUTER_FRAME_SIZE,
    ROUTER_ROLES,
    ConnectorConfig,
    ListenerConfig,
)
from van.router.service_requests import carry_out
from van.routing.endpoint import EndpointSession
from van.transport.info import ConnectionInfo
from van.transport.tcp import address_text

if TYPE_CHECKING:
    from van.adaptors.udp.flows import Losses
    from van.amqp.link import Link
    from van.management.view import Elsewhere
    from van.router.services import RunningService
    from van.router.site import Site
    from van.routing.adaptor import Adaptor
    from van.routing.router import LinkOwner

STATM = Path("/proc/self/statm")
"""Where Linux tells a process how many pages it has."""


class SiteFacts(Facts):
    """What a site knows beside the router core: its configuration, its transports, its process."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._started = time.monotonic()

    def router(self) -> RouterFacts:
        config = self._site.config.router
        return RouterFacts(
            host_name=socket.gethostname(),
            metadata=config.metadata or None,
            hello_interval=config.hello_interval_seconds,
            hello_max_age=config.hello_max_age_seconds,
            ra_interval=config.ra_interval_seconds,
            ra_interval_flux=config.ra_interval_flux_seconds,
            remote_ls_max_age=config.remote_ls_max_age_seconds,
            workers=config.workers,
        )

    def listeners(self) -> Iterator[ListenerFacts]:
        site = self._site
        for listener, entry in zip(site.listeners, site.config.listeners, strict=True):
            yield ListenerFacts(
                **_endpoint(entry, listener.name),
                port=listener.port,
                authenticate_peer=entry.authenticate_peer or "ANONYMOUS" not in entry.sasl_mechanisms,
                initial_handshake_timeout=entry.initial_handshake_timeout_seconds,
            )

    def connectors(self) -> Iterator[ConnectorFacts]:
        site = self._site
        for connector, entry in zip(site.connectors, site.config.connectors, strict=True):
            yield ConnectorFacts(
                **_endpoint(entry, connector.name),
                port=entry.url.port,
                verify_hostname=entry.verify_hostname,
                sasl_username=entry.sasl_username,
                proxied=entry.proxy is not None,
                status=connector.status,
                message=connector.message,
            )

    def adaptors(self) -> Collection[AmqpAdaptor]:
        return [adaptor for adaptor, _ in self._site.adaptors.values()]

    def connection(self, adaptor: AmqpAdaptor) -> ConnectionFacts:
        known = self._site.adaptors.get(adaptor.number)
        return connection_facts(adaptor, known[1]) if known is not None else ConnectionFacts(adaptor=adaptor)

    def is_local(self, adaptor: AmqpAdaptor) -> bool:
        known = self._site.adaptors.get(adaptor.number)
        if known is None:
            return False
        host = known[1].peer.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host.partition("%")[0]).is_loopback
        except ValueError:
            return False
    def services(self) -> Iterator[ServiceFacts]:
        for running in self._site.services.running.values():
            yield service_facts(running)

    def service_links(self) -> list[ServiceLinks]:
        found: list[ServiceLinks] = []
        told: set[EndpointSession] = set()
        for running in self._site.services.running.values():
            # Ports of MQTT may share theirs.
            own = [session for session in running.sessions if session not in told]
            told.update(own)
            found += (ServiceLinks(running.number, session.owners) for session in own)
            found += (ServiceLinks(one.number, links_of(one.adaptor)) for one in running.endpoint.open.values())
        return found

    def listener_addresses(self) -> Iterator[ListenerAddressFacts]:
        for running in self._site.services.running.values():
            for member in running.members:
                yield ListenerAddressFacts(
                    name=member.name,
                    listener=running.entry.name,
                    address=member.service.address,
                    value=member.value,
                    opened=member.opened,
                )

    def service_connections(self) -> Iterator[ConnectionFacts]:
        for running in self._site.services.running.values():
            for connection in running.endpoint.open.values():
                info = connection.info
                yield ConnectionFacts(
                    adaptor=ServiceLinks(connection.number, links_of(connection.adaptor)),
                    protocol=PROTOCOLS.get(running.entry.url.scheme, running.entry.url.scheme),
                    opened_at=connection.opened_at,
                    container=running.entry.name,
                    host=address_text(info.peer),
                    local=address_text(info.local),
                    outgoing=running.entry.listen is None,
                    tls_version=info.tls_version,
                    tls_cipher=info.tls_cipher,
                )

    def memory(self) -> tuple[int | None, int | None]:
        return process_memory()

    def uptime(self, now: float) -> float:
        return time.monotonic() - self._started

    def wall_time(self) -> float:
        return time.time()


# What connections by these schemes are called by the deployed routers, and by us.
PROTOCOLS = {"tls": "tcp", "https": "http", "mqtts": "mqtt"}


def links_of(adaptor: Adaptor) -> Mapping[Link, LinkOwner]:
    """The links of a connection of a service, as far as they are its own."""
    session = getattr(adaptor, "session", None)
    if session is None:
        # A client of MQTT has its links, whatever connection it comes by.
        session = getattr(getattr(adaptor, "client", None), "links", None)
    return session.owners if isinstance(session, EndpointSession) else {}


def service_facts(running: RunningService) -> ServiceFacts:
    """What there is to say about a service."""
    entry, endpoint, service = running.entry, running.endpoint, running.service
    streams = KINDS[entry.url.scheme].streams
    # Only datagrams are ever dropped.
    losses: Losses | None = getattr(service, "losses", None)
    return ServiceFacts(
        name=entry.name,
        listening=entry.listen is not None,
        scheme=entry.url.scheme,
        host=entry.url.host,
        port=endpoint.port,
        address=service.address,
        ssl_profile=entry.ssl_profile,
        authenticate_peer=bool(entry.authenticate_peer),
        verify_hostname=entry.verify_hostname is not False,
        status=endpoint.status,
        message=endpoint.message,
        configured=running.configured,
        protocol=PROTOCOLS.get(entry.url.scheme, entry.url.scheme),
        strategy=running.several.strategy if entry.addresses is not None else "none",
        connections=len(endpoint.open) if streams else endpoint.connections,
        opened=endpoint.opened if streams else service.connections_opened,
        octets_in=service.octets_in,
        octets_out=service.octets_out,
        dropped=dict(losses.counts) if losses is not None else {},
    )


def connection_facts(adaptor: AmqpAdaptor, info: ConnectionInfo) -> ConnectionFacts:
    """What a transport says about its connection."""
    return ConnectionFacts(
        adaptor=adaptor,
        host=info.peer,
        local=info.local,
        outgoing=info.outgoing,
        tls_version=info.tls_version,
        tls_cipher=info.tls_cipher,
        tls_bits=info.tls_bits,
    )


def process_memory(statm: Path = STATM) -> tuple[int | None, int | None]:
    """Virtual and resident memory of this process in octets; None where the system does not say."""
    try:
        import resource

        pages = statm.read_text(encoding="ascii").split()
        size = resource.getpagesize()
        return int(pages[0]) * size, int(pages[1]) * size
    except (ImportError, OSError, ValueError, IndexError):
        return None, None


def _endpoint(entry: ListenerConfig | ConnectorConfig, name: str) -> dict[str, Any]:
    url = entry.url
    return {
        "name": name,
        "host": url.host,
        "role": entry.role,
        "cost": entry.cost,
        "ssl_profile": entry.ssl_profile,
        "sasl_mechanisms": entry.sasl_mechanisms,
        "max_frame_size": entry.max_frame_size
        or (ROUTER_FRAME_SIZE if entry.role in ROUTER_ROLES else LARGE_FRAME_SIZE),
        "max_sessions": entry.max_sessions,
        "max_session_frames": entry.max_session_frames,
        "idle_timeout": entry.idle_timeout_seconds,
        "link_capacity": entry.link_capacity or LINK_CAPACITY,
        "failover_urls": tuple(map(str, entry.failover_urls)),
        "tls": url.tls,
        "websocket": url.websocket,
    }


class Management:
    """The agent of a site, and the task that lets it work: others have their turn between two slices of an answer."""

    def __init__(self, site: Site, log: Log) -> None:
        self._site = site
        self._changes: deque[tuple[Request, Callable[[str | ManagementError], None]]] = deque()
        self._asked = trio.Event()
        self._questions: deque[tuple[Question, Callable[[Elsewhere], None]]] = deque()
        several = site.config.router.workers > 1
        self.agent = ManagementAgent(
            site.router, SiteFacts(site), on_more=self._wake, log=log, gather=self._gather if several else None,
            change=self._change,
        )

    def _wake(self) -> None:
        self._asked.set()

    async def run(self) -> None:
        """Answer what is asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            more = True
            while more:
                self._site.router.now = trio.current_time()
                more = self.agent.go_on()
                self._site.wake()
                await trio.lowlevel.checkpoint()
                while self._questions:
                    question, then = self._questions.popleft()
                    assert self._site.workers is not None
                    then(await self._site.workers.gather(question))
                while self._changes:
                    request, told = self._changes.popleft()
                    told(await carry_out(self._site, request))

    def _change(self, request: Request, then: Callable[[str | ManagementError], None]) -> None:
        self._changes.append((request, then))

    def _gather(self, question: Question, then: Callable[[Elsewhere], None]) -> None:
        self._questions.append((question, then))
