"""The services of a site: put together from `[[service]]`, run, changed while the site runs, and ended.

Which classes serve a scheme is in `kinds.py`, what they say on connections in `van.adaptors`, their sockets are in
`van.transport`. Here is what comes and goes: services of the site file, which a new reading of it adds, changes and
removes, and those that were added over management.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from van.amqp.errors import AmqpError, ErrorCondition
from van.router.checks import collide
from van.router.kinds import KINDS, Kind
from van.transport.errors import TransportError
from van.transport.tls import ClientCertificates, TlsConfigError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from van.adaptors.amqp import Log
    from van.adaptors.mqtt.packets import Connect
    from van.adaptors.mqtt.service import Admit, MqttService
    from van.adaptors.service import PeerInfo, Service
    from van.adaptors.several_addresses import Member, SeveralAddresses
    from van.router.sections import ServiceConfig, SslProfileConfig
    from van.router.site import Site
    from van.routing.adaptor import Adaptor
    from van.routing.endpoint import EndpointSession
    from van.transport.service_endpoint import ServiceEndpoint

GONE: Final = "the service was removed"
"""What is said on connections of a service that is there no more."""


class ServiceError(Exception):
    """A service that cannot be started: why, with its name."""


class RunningService:
    """A service and its sockets. `service` is a Service, or what stands for several of them.

    `number` is what its own links are called by in management. `configured`: it is in the site file, else it was added
    over management.
    """

    def __init__(
        self, entry: ServiceConfig, service: Service, endpoint: ServiceEndpoint, number: int, configured: bool
    ) -> None:
        self.entry = entry
        self.number = number
        self.service = service
        self.endpoint = endpoint
        self.configured = configured

    @property
    def several(self) -> SeveralAddresses:
        """The service, where the entry has several addresses."""
        assert self.entry.addresses is not None
        return cast("SeveralAddresses", self.service)

    @property
    def members(self) -> list[Member]:
        """Its addresses, where it may have several."""
        return self.several.members if self.entry.addresses is not None else []

    @property
    def sessions(self) -> list[EndpointSession]:
        """The sessions of its own links, and those that rest."""
        own = [self.service] if self.entry.addresses is None else [member.service for member in self.members]
        return [session for service in own for session in service.sessions()]


def wants_port_of(entry: ServiceConfig, other: RunningService) -> bool:
    """Whether an entry wants a port that a service has."""
    mine, its = entry.listen, other.entry.listen
    if mine is None or its is None or KINDS[mine.scheme].streams is not KINDS[its.scheme].streams:
        return False
    return mine.port != 0 and collide(mine, replace(its, port=other.endpoint.port))


class Changes:
    """What a new configuration changes, ready to be carried out: nothing of it can fail any more."""

    def __init__(self) -> None:
        self.came: list[RunningService] = []
        self.gone: list[RunningService] = []
        # Those that are there in another form now: their connections live on.
        self.replaced: list[RunningService] = []
        # New ones, and those whose ports they take over.
        self.heirs: list[tuple[RunningService, RunningService]] = []


class Services:
    """The services of a running site, by name. Empty until `begin`."""

    def __init__(self, site: Site) -> None:
        self.running: dict[str, RunningService] = {}
        self._site = site
        self._nursery: trio.Nursery | None = None
        # Those that are run, some of them only until their last connection has ended.
        self._endpoints: set[ServiceEndpoint] = set()
        self._stopping = trio.Event()
        # Called when services have come or gone.
        self.on_change: Callable[[], None] = _nobody_listens
        # What MQTT clients share, by prefix.
        self._brokers: dict[str, MqttBroker] = {}

    # -- assembly ------------------------------------------------------------------------------------------------

    def _make(
        self, entry: ServiceConfig, profiles: Mapping[str, SslProfileConfig], *, configured: bool
    ) -> RunningService:
        """A service that has no sockets yet. Raises `ServiceError`."""
        from van.transport.service_dialer import ServiceDialer
        from van.transport.service_port import ServicePort

        site = self._site
        kind = KINDS[entry.url.scheme]
        listening = entry.listen is not None
        logger = site.service_logger
        try:
            credentials = site.credentials_of(entry.ssl_profile, profiles)
            service: Any
            accepts: Any
            if kind.shared:
                service, accepts = self._shared(kind, entry)
            elif entry.addresses is not None:
                service = accepts = self._several(kind, entry)
            else:
                service = accepts = self._of_class(kind, entry, entry.address)
        except AmqpError as error:
            raise ServiceError(f'service "{entry.name}": {error.description}') from error
        except (TlsConfigError, ValueError) as error:
            raise ServiceError(f'service "{entry.name}": {error}') from error
        endpoint: ServiceEndpoint
        if not kind.streams:
            from van.transport.udp import DatagramDialer, DatagramPort

            datagrams: Any = DatagramPort if listening else DatagramDialer
            endpoint = datagrams(service, entry.url, site.wake, logger)
            return RunningService(entry, service, endpoint, site.new_number(), configured)
        options: dict[str, Any] = {
            "credentials": credentials,
            "tls": bool(kind.tls or credentials is not None),
            "alpn": entry.alpn or kind.offers(listening),
            "max_connections": entry.max_connections if listening or not kind.pools else None,
            "router_limit": site.limit,
            "on_over": site.connection_over,
            "new_number": site.new_number,
        }
        if listening:
            always_open = kind.always_open if entry.always_open is None else entry.always_open
            required = ClientCertificates.REQUIRED if entry.authenticate_peer else ClientCertificates.NONE
            endpoint = ServicePort(
                accepts,
                entry.url,
                site.wake,
                logger,
                client_certificates=required,
                always_open=always_open is not False,
                proxy_protocol=entry.proxy_protocol is not None and not kind.reads_proxies(entry),
                **options,
            )
        else:
            if entry.connect_timeout_seconds is not None:
                options["connect_timeout"] = entry.connect_timeout_seconds
            endpoint = ServiceDialer(
                service, entry.url, site.wake, logger, verify_hostname=entry.verify_hostname is not False, **options
            )
        return RunningService(entry, service, endpoint, site.new_number(), configured)

    def _of_class(self, kind: Kind, entry: ServiceConfig, address: str) -> Any:
        """The service of an entry at an address. Raises AmqpError and ValueError."""
        listening = entry.listen is not None
        log = log_to(self._site.service_logger.bind(service=entry.name))
        return kind.make(listening)(self._site.router, entry.name, address, log, **kind.settings(entry, listening))

    def _several(self, kind: Kind, entry: ServiceConfig) -> SeveralAddresses:
        """What stands for all addresses of an entry. Raises AmqpError."""
        from van.adaptors.several_addresses import PRIORITY, SeveralAddresses

        made = SeveralAddresses(self._site.router, entry.name, entry.multi_address_strategy or PRIORITY)
        try:
            for address, value in (entry.addresses or {}).items():
                made.add(f"{entry.name}/{address}", self._of_class(kind, entry, address), value)
        except AmqpError:
            made.stop()
            raise
        return made

    def add_address(self, running: RunningService, name: str, address: str, value: int) -> None:
        """Lead a port that has several addresses to one more. Raises `ServiceError`."""
        entry = running.entry
        try:
            service = self._of_class(KINDS[entry.url.scheme], entry, address)
        except AmqpError as error:
            raise ServiceError(f'service "{entry.name}": {error.description}') from error
        running.several.add(name, service, value)

    def _shared(self, kind: Kind, entry: ServiceConfig) -> tuple[Service, MqttPort]:
        """The service that all ports with this prefix lead to. Raises ValueError for a prefix that cannot be one."""
        from van.adaptors.mqtt.service import MqttService
        from van.adaptors.mqtt.topics import DEFAULT_PREFIX

        prefix = entry.address or DEFAULT_PREFIX
        broker = self._brokers.get(prefix)
        if broker is None or broker.service.stopped:
            site = self._site
            name = f"mqtt/{prefix}"
            log = log_to(site.service_logger.bind(service=name))
            broker = self._brokers[prefix] = MqttBroker(MqttService(site.router, name, prefix, log=log), site.wake)
            if self._nursery is not None:
                self._nursery.start_soon(broker.run, name=name)
        return broker.service, broker.port(entry.name, self._admit if entry.authenticate_users else None)

    def _admit(self, connect: Connect, info: PeerInfo) -> int:
        """Whether a client of MQTT gives a name and password of the users file, as the reason code of its answer."""
        from van.adaptors.mqtt.reason import BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED, SUCCESS

        users = self._site.config.users
        if users is None or connect.user_name is None or connect.password is None:
            return NOT_AUTHORIZED
        password = connect.password.decode(errors="replace")
        return SUCCESS if users.verify_plain(connect.user_name, password) else BAD_USER_NAME_OR_PASSWORD

    async def begin(self, entries: Iterable[ServiceConfig], profiles: Mapping[str, SslProfileConfig]) -> None:
        """Make the services of the site file and take their ports. Raises `ServiceError`, and then there are none."""
        self.commit(await self.prepare(entries, profiles))

    # -- changes -------------------------------------------------------------------------------------------------

    async def prepare(
        self, entries: Iterable[ServiceConfig], profiles: Mapping[str, SslProfileConfig]
    ) -> Changes:
        """Find out what the entries of a site file change, and get it ready; `commit` or `forget` has to follow.

        Raises `ServiceError`; then everything is as before.
        """
        changes = Changes()
        wanted = {entry.name: entry for entry in entries}
        changes.gone = [one for one in self.running.values() if one.configured and one.entry.name not in wanted]
        try:
            for name, entry in wanted.items():
                old = self.running.get(name)
                if old is not None and not old.configured:
                    raise ServiceError(f'service "{name}": the name is that of one that was added while running')
                if old is not None and old.entry == entry:
                    continue
                changes.came.append(self._make(entry, profiles, configured=True))
                if old is not None:
                    changes.replaced.append(old)
            for made in changes.came:
                await self._take_place(made, changes)
        except ServiceError:
            self.forget(changes)
            raise
        return changes

    async def _take_place(self, made: RunningService, changes: Changes) -> None:
        """Bind, or find out whose port will be free."""
        entry = made.entry
        ending = [
            old
            for old in (*changes.gone, *changes.replaced)
            # Where any port will do, the one that it has.
            if wants_port_of(entry, old) or (entry.name == old.entry.name and entry.listen == old.entry.listen)
        ]
        try:
            if not ending:
                await made.endpoint.bind()
                return
            # Where it is not quite the same place, it binds when it is run: then the other has stopped.
            made.endpoint.check()
            changes.heirs += [(made, old) for old in ending if made.entry.url.host == old.entry.url.host]
        except (TransportError, TlsConfigError) as error:
            raise ServiceError(f'service "{made.entry.name}": {error}') from error

    def commit(self, changes: Changes) -> None:
        """Carry the changes out. Connections of services that were removed are ended, others live on."""
        for made, old in changes.heirs:
            made.endpoint.inherit(old.endpoint)
        for old in (*changes.gone, *changes.replaced):
            del self.running[old.entry.name]
            old.endpoint.stop()
        for old in changes.gone:
            old.endpoint.close_all(ErrorCondition.CONNECTION_FORCED, GONE)
        for made in changes.came:
            self._start(made)
        self.on_change()

    def forget(self, changes: Changes) -> None:
        """Undo what `prepare` has done."""
        for made in changes.came:
            made.endpoint.stop()

    async def add(self, entry: ServiceConfig) -> RunningService:
        """Add a service while the site runs. Raises `ServiceError`."""
        if entry.name in self.running:
            raise ServiceError(f'service "{entry.name}" is there already')
        url = entry.listen
        for other in self.running.values():
            if url is not None and wants_port_of(entry, other):
                raise ServiceError(f'service "{entry.name}": {url.host_and_port} is taken by "{other.entry.name}"')
        made = self._make(entry, self._site.config.ssl_profiles, configured=False)
        try:
            await self._take_place(made, Changes())
            if entry.name in self.running or self._stopping.is_set():
                raise ServiceError(f'service "{entry.name}" cannot be added now')
        except ServiceError:
            made.endpoint.stop()
            raise
        self._start(made)
        self.on_change()
        return made

    def remove(self, name: str) -> None:
        """Remove the service of this name, which there is, and end its connections."""
        changes = Changes()
        changes.gone.append(self.running[name])
        self.commit(changes)
        self._site.wake()

    # -- life ----------------------------------------------------------------------------------------------------

    def _start(self, made: RunningService) -> None:
        if self._stopping.is_set():
            made.endpoint.stop()
            return
        self.running[made.entry.name] = made
        self._endpoints.add(made.endpoint)
        if self._nursery is not None:
            self._nursery.start_soon(self._run, made.endpoint, name=f"service {made.entry.name}")

    async def _run(self, endpoint: ServiceEndpoint) -> None:
        try:
            await endpoint.run()
        finally:
            self._endpoints.discard(endpoint)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the services until `stop`, and until their last connections have ended."""
        async with trio.open_nursery() as self._nursery:
            for endpoint in tuple(self._endpoints):
                self._nursery.start_soon(self._run, endpoint, name=f"service {endpoint.name}")
            for broker in self._brokers.values():
                self._nursery.start_soon(broker.run, name=broker.service.name)
            task_status.started()
            await self._stopping.wait()

    def stop(self) -> None:
        """Have no service take anything more. Connections live on."""
        self._stopping.set()
        for endpoint in self._endpoints:
            endpoint.stop()

    def close_all(self, condition: str, description: str) -> None:
        """Ask all connections to end."""
        for endpoint in tuple(self._endpoints):
            endpoint.close_all(condition, description)

    @property
    def under_way(self) -> int:
        """How many requests clients of services wait for."""
        return sum(one.service.under_way() for one in self.running.values() if one.entry.addresses is None)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return sum(endpoint.connections for endpoint in self._endpoints)


class MqttBroker:
    """An MQTT service with the ports that lead to it; when the last of them has stopped, so has it."""

    def __init__(self, service: MqttService, wake: Callable[[], None]) -> None:
        self.service = service
        self._wake = wake
        self._ports: set[MqttPort] = set()
        self._sooner = trio.Event()
        service.on_deadline = self._look

    def port(self, name: str, admit: Admit | None) -> MqttPort:
        """One more port. admit: asked for every client, None lets everybody in."""
        made = MqttPort(self, name, admit)
        self._ports.add(made)
        return made

    def leave(self, port: MqttPort) -> None:
        """A port has stopped."""
        self._ports.discard(port)
        if not self._ports:
            self.service.stop()
            self._wake()
            self._look()

    def _look(self) -> None:
        self._sooner.set()

    async def run(self) -> None:
        """See to sessions that have no connection, until the service has stopped."""
        service = self.service
        while not service.stopped:
            with trio.move_on_at(service.next_deadline()):
                await self._sooner.wait()
            self._sooner = trio.Event()
            now = trio.current_time()
            if now >= service.next_deadline():
                service.handle_deadline(now)
                self._wake()


class MqttPort:
    """A port of an MQTT service: it is for all its topics, so that it is always wanted."""

    reachable = True

    def __init__(self, broker: MqttBroker, name: str, admit: Admit | None) -> None:
        self.name = name
        self._admit = admit
        self.address = broker.service.address
        self.router = broker.service.router
        self.on_reachable: Callable[[], None] = broker.service.look
        self._broker = broker

    def accept(self, info: PeerInfo) -> Adaptor:
        """An adaptor for a connection that was accepted."""
        from van.adaptors.mqtt.adaptor import MqttAdaptor

        return MqttAdaptor(self._broker.service, info, admit=self._admit, now=trio.current_time())

    def stop(self) -> None:
        """Take no more."""
        self._broker.leave(self)


def log_to(logger: FilteringBoundLogger) -> Log:
    """What the parts without I/O take for a log: a level, an event and fields."""

    def log(level: str, event: str, **fields: object) -> None:
        getattr(logger, level)(event, **fields)

    return log


def _nobody_listens() -> None:
    """Stand in for `on_change`."""
