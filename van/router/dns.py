"""Names of a site: what its services are called in the network, and ports that are opened when their name is asked for.

    run
    ├── directory         asks other routers for their services, and tells of ours, when it is time
    ├── idle ports        closes ports whose names nobody has asked for in a long time
    └── one per [[dns]]   `DnsServer.run`

A name whose address has a port here (`[[service]] listen`) leads there. For any other address that has a server
somewhere in the network, a port is opened when its name is first asked for: on a loopback address of its own, with the
port number that the server has, so that programs need neither in their configuration.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from van.adaptors.dns.directory import CONNECT, LISTEN, ServiceDirectory, ServiceRecord
from van.adaptors.dns.names import existing
from van.router.kinds import KINDS, schemes
from van.router.sections import ServiceConfig
from van.router.services import RunningService, ServiceError, log_to
from van.transport.service_url import ServiceUrl

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from van.adaptors.dns.responder import Endpoint, Question
    from van.router.sections import DnsConfig
    from van.router.site import Site
    from van.transport.dns import DnsServer

# How long a question for a name that is not known waits for what the network says, in seconds: resolvers ask again
# after five. A name that was not found is not waited for again so soon.
WAIT_SECONDS: Final = 1.0
MISSED_SECONDS: Final = 5.0
MAX_MISSED: Final = 4096
# How often it is looked whether a port has opened, in seconds.
OPEN_CHECK_SECONDS: Final = 0.005
# How often it is looked for ports that nobody needs, in seconds.
IDLE_CHECK_SECONDS: Final = 30.0
# Hosts of a pool that are tried for a name before a port is taken wherever there is one.
MAX_HOSTS_TRIED: Final = 4
# What names of services begin with that were made on demand.
OPENED: Final = "dns/"
# TLS is between the server's router and the server; programs here come without.
PLAIN: Final = {"tls": "tcp", "https": "http"}


class OpenedPort:
    """A port that was opened because its name was asked for."""

    __slots__ = ("asked_at", "record", "running")

    def __init__(self, running: RunningService, record: ServiceRecord, now: float) -> None:
        self.running = running
        self.record = record
        self.asked_at = now


class SiteNames:
    """The directory of a site, its DNS servers, and the ports that these have opened. Nothing without services."""

    def __init__(self, site: Site, entries: Iterable[DnsConfig]) -> None:
        self.directory: ServiceDirectory | None = None
        self.zones: list[Zone] = []
        self._site = site
        self._entries = tuple(entries)
        self._logger = site.service_logger
        self._sooner = trio.Event()
        self._over = trio.CancelScope()
        self._changed = trio.Event()
        self._names: frozenset[tuple[str, ...]] | None = None
        self._nursery: trio.Nursery | None = None
        site.services.on_change = self.services_changed

    async def bind(self) -> None:
        """Take the ports of the DNS servers. Raises TransportError."""
        for entry in self._entries:
            zone = Zone(self, entry, self._logger)
            self.zones.append(zone)
            await zone.server.bind()

    def stop(self) -> None:
        """Answer nothing more, and tell nobody anything."""
        for zone in self.zones:
            zone.server.stop()
        if self.directory is not None:
            self.directory.stop()
            self.directory = None
        self._over.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until `stop`."""
        with self._over:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for zone in self.zones:
                    nursery.start_soon(zone.server.run, name=f"dns {zone.name}")
                    self._logger.info("names", zone=zone.name, listening=zone.server.addresses)
                self.services_changed()
                task_status.started()
                if self.zones:
                    nursery.start_soon(self._close_idle_ports)
                await self._keep_directory()

    # -- the directory -------------------------------------------------------------------------------------------

    def services_changed(self) -> None:
        """What this site has to tell has changed."""
        if self._nursery is None or self._over.cancel_called:
            return
        own = list(self._own())
        directory = self.directory
        if directory is None:
            if not own and not self._entries:
                return
            log = log_to(self._logger)
            directory = self.directory = ServiceDirectory(self._site.router, log, asks=bool(self._entries))
            directory.on_change = self._others_changed
        directory.set_own(own)
        self._others_changed()
        self._sooner.set()
        self._site.wake()

    def _own(self) -> Iterable[ServiceRecord]:
        for one in self._site.services.running.values():
            entry = one.entry
            if _was_opened(one) or not entry.address:
                continue
            side = CONNECT if entry.connect is not None else LISTEN
            if one.endpoint.port:
                yield ServiceRecord(entry.address, entry.url.scheme, one.endpoint.port, side)

    def _others_changed(self) -> None:
        self._names = None
        self._changed.set()
        self._changed = trio.Event()

    async def _keep_directory(self) -> None:
        """Call the directory when it wants to be."""
        while True:
            directory = self.directory
            deadline = directory.next_deadline() if directory is not None else inf
            with trio.move_on_at(deadline):
                await self._sooner.wait()
            self._sooner = trio.Event()
            directory = self.directory
            now = trio.current_time()
            if directory is not None and now >= directory.next_deadline():
                directory.handle_deadline(now)
                self._site.wake()

    def exists(self, labels: tuple[str, ...]) -> bool:
        """Whether there is a name that ends with these labels."""
        names = self._names
        if names is None:
            addresses = self.directory.addresses() if self.directory is not None else ()
            names = self._names = existing(addresses)
        return labels in names

    def find(self, address: str) -> list[ServiceRecord]:
        """What is known of an address."""
        return self.directory.find(address) if self.directory is not None else []

    async def wait_for(self, address: str) -> list[ServiceRecord]:
        """What the network says of an address that is not known: it is asked, and waited for a moment."""
        directory = self.directory
        if directory is None or not directory.ask(trio.current_time()):
            return []
        self._site.wake()
        with trio.move_on_after(WAIT_SECONDS):
            while not (found := self.find(address)):
                await self._changed.wait()
            return found
        return []

    # -- ports ---------------------------------------------------------------------------------------------------

    def here(self, address: str) -> Iterable[RunningService]:
        """The ports of this site that lead to an address, those that were opened on demand left out."""
        for one in self._site.services.running.values():
            entry = one.entry
            if entry.listen is not None and entry.address == address and not _was_opened(one):
                yield one

    async def open(self, entry: ServiceConfig) -> RunningService:
        """Open a port. Raises ServiceError."""
        return await self._site.services.add(entry)

    def close(self, running: RunningService) -> None:
        """Close a port that was opened."""
        name = running.entry.name
        if self._site.services.running.get(name) is running:
            self._site.services.remove(name)
            self._site.wake()

    def is_open(self, running: RunningService) -> bool:
        """Whether a port that was opened is there still: management may have removed it."""
        return self._site.services.running.get(running.entry.name) is running

    async def _close_idle_ports(self) -> None:
        while True:
            await trio.sleep(IDLE_CHECK_SECONDS)
            for zone in self.zones:
                zone.close_idle_ports(trio.current_time())


class Zone:
    """One `[[dns]]`: its server, and the ports that it has opened."""

    def __init__(self, names: SiteNames, entry: DnsConfig, logger: FilteringBoundLogger) -> None:
        # Imported where there are names: it takes a tenth of a second.
        from van.adaptors.dns.responder import DnsResponder
        from van.transport.dns import DnsServer

        self.names = names
        self.entry = entry
        self.name = entry.zone
        self.opened: dict[tuple[str, str], OpenedPort] = {}
        self._logger = logger.bind(zone=entry.zone)
        self._pool = entry.pool
        self._missed: dict[str, float] = {}
        self._opening: dict[str, trio.Event] = {}
        url = entry.listen
        self.host = url.host if _is_host(url.host) else "127.0.0.1"
        responder = DnsResponder(
            entry.zone, host=self.host, ttl=entry.ttl_seconds, serial=int(time.time()), exists=names.exists
        )
        self.server: DnsServer = DnsServer(responder, url.host, url.port, self.look, self.search, self._logger)

    # -- answers -------------------------------------------------------------------------------------------------

    def look(self, question: Question) -> bytes | None:
        """The response to a question as far as it is known what it is; None where it takes time."""
        address = question.address
        now = trio.current_time()
        records = self.names.find(address)
        if not records:
            if now < self._missed.get(address, 0.0) or self.names.exists(question.below):
                return self.server.responder.missing(question)
            return None
        endpoints = self._known(question, records, now)
        return None if endpoints is None else self.server.responder.answer(question, endpoints)

    async def search(self, question: Question) -> bytes:
        """The response to a question that takes time: the network is asked, or a port is opened."""
        responder = self.server.responder
        address = question.address
        records = self.names.find(address) or await self.names.wait_for(address)
        if not records:
            self._miss(address)
            return responder.missing(question)
        while address in self._opening:
            await self._opening[address].wait()
        endpoints = self._known(question, records, trio.current_time())
        if endpoints is None:
            over = self._opening[address] = trio.Event()
            try:
                await self._open_ports(address, records)
            finally:
                del self._opening[address]
                over.set()
            endpoints = self._known(question, records, trio.current_time(), final=True)
        return responder.later(question) if endpoints is None else responder.answer(question, endpoints)

    def _miss(self, address: str) -> None:
        """Nobody has the address: that is remembered for a moment."""
        missed = self._missed
        missed.pop(address, None)
        if len(missed) >= MAX_MISSED:
            del missed[next(iter(missed))]
        missed[address] = trio.current_time() + MISSED_SECONDS

    def _known(
        self, question: Question, records: list[ServiceRecord], now: float, *, final: bool = False
    ) -> list[Endpoint] | None:
        """The ports that lead to an address; None where one is needed that is not there.

        final: what could be opened is open; then those that are there are enough.
        """
        from van.adaptors.dns.responder import Endpoint

        found = [
            Endpoint(host, one.endpoint.port, one.entry.url.scheme, _proto(one.entry.url.scheme))
            for one in self.names.here(question.address)
            for host in self._hosts_of(one)
            if one.endpoint.port
        ]
        # A port that was configured is the way, also where its scheme is not the server's: TLS stays TLS.
        here = {_proto(each.scheme) for each in found}
        missing = False
        for scheme, record in _wanted(records).items():
            if _proto(scheme) in here:
                continue
            opened = self.opened.get((question.address, scheme))
            if opened is not None and self.names.is_open(opened.running):
                opened.asked_at = now
                url = opened.running.entry.url
                found.append(Endpoint(url.host, opened.running.endpoint.port, scheme, _proto(scheme)))
            elif not question.needs_port:
                found.append(Endpoint(self.host, record.port, scheme, _proto(scheme)))
            elif self.entry.on_demand and question.proto in ("", _proto(scheme)):
                missing = True
        return None if missing and not (final and found) else found

    def _hosts_of(self, one: RunningService) -> list[str]:
        """The addresses of a port here, as clients can use them."""
        hosts = [address.rpartition(":")[0].strip("[]") for address in one.endpoint.addresses] or [one.entry.url.host]
        return [host if _is_host(host) else self.host for host in hosts]

    # -- ports on demand -----------------------------------------------------------------------------------------

    async def _open_ports(self, address: str, records: list[ServiceRecord]) -> None:
        """Open the ports of an address that are not there."""
        here = {_proto(one.entry.url.scheme) for one in self.names.here(address)}
        for scheme, record in _wanted(records).items():
            opened = self.opened.get((address, scheme))
            if _proto(scheme) in here or (opened is not None and self.names.is_open(opened.running)):
                continue
            now = trio.current_time()
            if len(self.opened) >= self.entry.max_ports and not self._close_one(now):
                self._logger.warning("no port for a name", address=address, reason=f"max_ports {self.entry.max_ports}")
                continue
            running = await self._open_port(address, scheme, record.port)
            if running is not None:
                self.opened[address, scheme] = OpenedPort(running, record, trio.current_time())
                self._logger.info(
                    "port opened for a name", address=address, scheme=scheme, listening=running.endpoint.addresses
                )

    async def _open_port(self, address: str, scheme: str, port: int) -> RunningService | None:
        """A port for an address: at a host of the pool that is its own, with the server's port number if possible."""
        reason = ""
        name = f"{OPENED}{self.name}/{scheme}/{address}"
        for host, number in [*((host, port) for host in self._hosts(address)), *((host, 0) for host in self._last())]:
            entry = ServiceConfig(listen=ServiceUrl(scheme, host, number), address=address, name=name)
            try:
                running = await self.names.open(entry)
            except ServiceError as error:
                reason = reason or str(error)
                continue
            # A port opens when its address can be reached, which an edge hears from its uplink.
            with trio.move_on_after(WAIT_SECONDS):
                while running.endpoint.status != "up":  # noqa: ASYNC110 - nobody tells, and it is a matter of milliseconds
                    await trio.sleep(OPEN_CHECK_SECONDS)
            return running
        self._logger.warning("no port for a name", address=address, reason=reason)
        return None

    def _hosts(self, address: str) -> list[str]:
        """Hosts of the pool for an address: always the same, unless another address has them."""
        pool = self._pool
        size = pool.num_addresses
        taken = {opened.running.entry.url.host for key, opened in self.opened.items() if key[0] != address}
        start = int.from_bytes(hashlib.sha256(address.encode()).digest()[:8], "big")
        hosts: list[str] = []
        for step in range(min(size, 2 * MAX_HOSTS_TRIED)):
            index = (start + step) % size
            if size > 2 and index in (0, size - 1):
                # The network's own address and that of broadcasts.
                continue
            host = str(pool[index])
            if host not in taken or size <= 2:
                hosts.append(host)
        return hosts[:MAX_HOSTS_TRIED]

    def _last(self) -> list[str]:
        """Where any port will do: other ports than 127.0.0.1 has not every system."""
        return [str(self._pool[min(1, self._pool.num_addresses - 1)]), self.host]

    def _close_one(self, now: float) -> bool:
        """Make room for one more port: close the one whose name was not asked for the longest, and nobody uses."""
        idle = [key for key, opened in self.opened.items() if self._is_idle(opened, now, self.entry.ttl_seconds)]
        if not idle:
            return False
        self._close(min(idle, key=lambda key: self.opened[key].asked_at))
        return True

    def close_idle_ports(self, now: float) -> None:
        """Close ports whose names nobody has asked for in a long time."""
        for key, opened in list(self.opened.items()):
            if not self.names.is_open(opened.running):
                del self.opened[key]
            elif self._is_idle(opened, now, max(self.entry.idle_timeout_seconds, self.entry.ttl_seconds)):
                self._close(key)

    def _is_idle(self, opened: OpenedPort, now: float, seconds: float) -> bool:
        return now > opened.asked_at + seconds and not opened.running.endpoint.connections

    def _close(self, key: tuple[str, str]) -> None:
        self.names.close(self.opened.pop(key).running)


def _was_opened(one: RunningService) -> bool:
    """Whether a service is a port that was opened for a name."""
    return not one.configured and one.entry.name.startswith(OPENED)


def _wanted(records: Iterable[ServiceRecord]) -> dict[str, ServiceRecord]:
    """For each scheme that programs here can speak, a record that tells its port: those of servers first."""
    wanted: dict[str, ServiceRecord] = {}
    spoken = schemes(True)
    for side in (CONNECT, LISTEN):
        for record in records:
            scheme = PLAIN.get(record.scheme, record.scheme)
            if record.side == side and scheme in spoken and KINDS[scheme].needs_address and not KINDS[scheme].tls:
                wanted.setdefault(scheme, record)
    return wanted


def _proto(scheme: str) -> str:
    kind = KINDS.get(scheme)
    return "tcp" if kind is None or kind.streams else "udp"


def _is_host(host: str) -> bool:
    """Whether clients can connect there: an address, and not a wildcard."""
    try:
        return not ip_address(host.partition("%")[0]).is_unspecified
    except ValueError:
        return False


