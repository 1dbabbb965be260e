"""A site: one router with its listeners and connectors, put together from the configuration, and its life.

    run_site
    ├── signals              SIGTERM and SIGINT drain, a second one stops; SIGHUP reloads; SIGUSR1 describes
    └── Site.run
        ├── deadlines        sleeps until the router core wants to be called
        ├── tidy             frees what many ended connections have left behind
        ├── management       answers requests to $management, a slice at a time
        ├── certificates     looks every second whether certificate files have changed
        ├── end              waits for `drain`, then ends in order
        ├── one per listener     `Listener.serve`
        ├── one per connector    `Connector.run`
        ├── services             `Services.run`, with one per service
        └── names                `SiteNames.run`, with one per `[[dns]]`

The end has three parts. Nobody new is let in; requests of services' clients have their time, then senders get no more
credit, and what is under way is settled, for `SETTLE_SECONDS` at most in all. What is left then goes back to its
senders, and every connection is closed with amqp:connection:forced. Who has not answered after `CLOSE_SECONDS` is cut.
"""

from __future__ import annotations

import random
import secrets
import string
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

import trio

from van import __version__
from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.amqp.errors import ErrorCondition
from van.amqp.sasl import (
    AnonymousClient,
    ClientMechanism,
    ExternalClient,
    PlainClient,
    SaslClient,
    SaslServer,
    ServerMechanism,
    anonymous,
    external,
    plain,
)
from van.router import exit_codes
from van.router.config import SiteConfig
from van.router.dns import SiteNames
from van.router.log import get_logger, levels
from van.router.management import Management
from van.router.process import FullCollections, raise_file_limit, settle
from van.router.sections import (
    BROKER_ROLE,
    LINK_CAPACITY,
    ROUTER_ROLES,
    SWIFT_LINK_CAPACITY,
    AddressConfig,
    AutoLinkConfig,
    ConnectionConfig,
    ConnectorConfig,
    ListenerConfig,
    RouterConfig,
    SslProfileConfig,
)
from van.router.services import ServiceError, Services, log_to
from van.routing import address
from van.routing.adaptor import Adaptor
from van.routing.address import Distribution, PatternTable
from van.routing.auto_link import AutoLink
from van.routing.budget import ByteBudget, payload_limit
from van.routing.link_state.engine import Timers
from van.routing.router import Router
from van.transport.backoff import ROUTER_PATIENCE_SECONDS, Backoff
from van.transport.connector import Connector
from van.transport.errors import TransportError
from van.transport.info import ConnectionInfo
from van.transport.limits import ConnectionLimit
from van.transport.listener import Listener
from van.transport.proxy import parse_proxy_url
from van.transport.scram import SCRAM_HASHES, ScramClient, scram_server
from van.transport.tls import ClientCertificates, TlsConfigError, TlsCredentials, watch_certificates

if TYPE_CHECKING:
    from van.router.worker import WorkerEnd
    from van.router.workers import Workers

# More than a router has in a millisecond; a thousand times this still fits in 32 bits.
SEQUENCES_IN_A_MILLISECOND: Final = 1_000_000
# Who wakes this much later than it wanted to was stopped, with its machine perhaps: what came meanwhile is read before
# anybody is taken for silent. So many turns of the scheduler are a mebibyte from each peer.
STOPPED_SECONDS: Final = 0.5
TURNS_AFTER_STOP: Final = 16
# After a connection has ended, and at most so often, it is looked whether what they leave behind is worth a collection.
TIDY_INTERVAL: Final = 1.0
# When none has ended for so long, memory is given back. It is more than the default idle time-out, 16 s: trio keeps up
# to a thousand deadlines of tasks that have gone until they pass.
QUIET_SECONDS: Final = 20.0
# So many addresses that were forgotten are looked after like connections that have ended.
MANY_ADDRESSES: Final = 5000
# How long deliveries may take to be settled once the router was asked to end, in seconds. A service manager kills after
# ten or more; receivers that need longer get their deliveries again from whoever sent them.
SETTLE_SECONDS: Final = 5.0
# How long senders may take to use their credit or to give it back. Many clients never give it back, so that a router
# with nothing to settle ends after this.
CREDIT_SECONDS: Final = 0.25
# How long a peer may take to answer our Close. Proton's clients do not answer one with amqp:connection:forced.
CLOSE_SECONDS: Final = 1.0
# How often deliveries are counted meanwhile, in seconds; with 10 000 links a count takes a few milliseconds.
SETTLE_INTERVAL: Final = 0.05

TOKEN_LENGTH: Final = 15
# A letter or digit for each octet: eight of them a little more often than the others, which no two tokens notice.
_TOKEN_CHARACTERS: Final = ((string.ascii_letters + string.digits) * 5)[:256].encode()


def new_token() -> str:
    """A short text that nobody else has, for temporary addresses: 15 letters and digits, as the C routers make them.

    Every connection of a service asks for one: 15 random choices would be 15 system calls.
    """
    return secrets.token_bytes(TOKEN_LENGTH).translate(_TOKEN_CHARACTERS).decode()


def new_nonce() -> str:
    """What SCRAM asks for: printable, different each time, not to be guessed."""
    return secrets.token_urlsafe(18)


class Site:
    """A running site: `config` is what is in force now, `adaptors` are the connections that speak the protocol.

    `reloading` is held while the configuration is read, so that the last one read is the last one taken over.

    `workers` are the further processes of this site; in one of those, `worker` is what joins it to worker 0.

    Raises `TlsConfigError` when certificates cannot be used.
    """

    def __init__(self, config: SiteConfig, *, worker: WorkerEnd | None = None) -> None:
        self.config = config
        self.worker = worker
        self.logger = get_logger("router")
        self.adaptors: dict[int, tuple[AmqpAdaptor, ConnectionInfo]] = {}
        # Worker 0 counts for all.
        self.limit = ConnectionLimit(config.router.max_connections if worker is None else None)
        self.credentials: dict[str, TlsCredentials] = {}
        self._secured = trio.Event()
        self.router: Router = _core(config.router.mode, worker is not None)(
            config.router.id,
            tokens=new_token,
            addresses=_addresses(config.addresses),
            default_distribution=Distribution(config.router.default_distribution),
            budget=ByteBudget(payload_limit(config.router.memory_share)),
            stream_stall_seconds=config.router.stream_stall_seconds,
            log=log_to(get_logger("routing")),
            **(_network(config.router) if worker is None else {}),
        )
        self.router.mode = config.router.mode
        for auto_link in config.auto_links:
            self.router.auto_links.add(_auto_link(auto_link))
        # The management node is worker 0's.
        self.management = Management(self, log_to(get_logger("management"))) if worker is None else None
        self.workers = _workers(self)
        self._connection_logger = get_logger("transport")
        self.service_logger = get_logger("adaptors")
        self._decoy_key = secrets.token_bytes(32)
        self._numbers = 0
        self._collections = FullCollections()
        # When the task of deadlines wakes by itself, and what wakes it before that.
        self._wakes_at = -inf
        self._sooner = trio.Event()
        self._ended = trio.Event()
        self.reloading = trio.Lock()
        self._draining = trio.Event()
        self._reason = ""
        self._serving = trio.CancelScope()
        self.listeners = [self._listener(entry) for entry in config.listeners]
        self.connectors = [self._connector(entry) for entry in config.connectors]
        # Services are worker 0's.
        self.services = Services(self)
        self.names = SiteNames(self, config.dns if worker is None else ())

    # -- assembly ------------------------------------------------------------------------------------------------

    def _listener(self, entry: ListenerConfig) -> Listener:
        certificates = ClientCertificates.NONE
        if entry.ssl_profile is not None and "EXTERNAL" in entry.sasl_mechanisms:
            only = set(entry.sasl_mechanisms) == {"EXTERNAL"}
            certificates = ClientCertificates.REQUIRED if only else ClientCertificates.OPTIONAL
        return Listener(
            entry.url,
            partial(self._accepted, entry),
            self.wake,
            self._connection_logger,
            name=entry.name,
            credentials=self.credentials_of(entry.ssl_profile, self.config.ssl_profiles),
            client_certificates=certificates,
            max_connections=entry.max_connections if self.worker is None else None,
            router_limit=self.limit,
            initial_handshake_timeout_seconds=entry.initial_handshake_timeout_seconds,
            place=self._placing(entry),
            adopts=self.worker is not None,
        )

    def _placing(self, entry: ListenerConfig) -> Callable[[trio.SocketStream], bool] | None:
        """What gives connections of a listener to workers as soon as they are accepted."""
        if self.workers is None:
            return None
        from van.router.workers import is_placed

        return partial(self.workers.place, entry.name) if is_placed(entry) else None

    def listener(self, name: str) -> Listener:
        """The listener of this name, which there is."""
        return next(listener for listener in self.listeners if listener.name == name)

    def _connector(self, entry: ConnectorConfig) -> Connector:
        return Connector(
            [entry.url, *entry.failover_urls],
            partial(self._connected, entry),
            self.wake,
            self._connection_logger,
            name=entry.name,
            credentials=self.credentials_of(entry.ssl_profile, self.config.ssl_profiles),
            verify_hostname=entry.verify_hostname,
            proxy=parse_proxy_url(entry.proxy) if entry.proxy else None,
            initial_handshake_timeout_seconds=entry.initial_handshake_timeout_seconds,
            backoff=Backoff(random.random, patience=ROUTER_PATIENCE_SECONDS) if entry.role in ROUTER_ROLES else None,
        )

    def credentials_of(
        self, name: str | None, profiles: Mapping[str, SslProfileConfig]
    ) -> TlsCredentials | None:
        """The certificates of a profile, read once however many use it. Raises `TlsConfigError`."""
        if name is None:
            return None
        credentials = self.credentials.get(name)
        if credentials is None:
            credentials = self.credentials[name] = TlsCredentials(profiles[name].profile())
            self._secured.set()
        return credentials

    # -- connections ---------------------------------------------------------------------------------------------

    def _accepted(self, entry: ListenerConfig, info: ConnectionInfo) -> Adaptor:
        settings = _settings(entry)
        settings.sasl_required = entry.authenticate_peer or "ANONYMOUS" not in entry.sasl_mechanisms
        if info.frame_size:
            settings.max_frame_size = info.frame_size
        if entry.failover_urls:
            settings.failover = [
                {"network-host": str(url.host), "port": str(url.port), "scheme": url.scheme}
                for url in entry.failover_urls
            ]
        return self._adaptor(entry, settings, info, SaslServer(self._server_mechanisms(entry, info)), None)

    def _connected(self, entry: ConnectorConfig, info: ConnectionInfo) -> Adaptor:
        sasl = SaslClient(
            _client_mechanisms(entry),
            hostname=info.url.host,
            encrypted=info.encrypted,
            allow_insecure_plain=entry.allow_insecure_plain,
        )
        return self._adaptor(entry, _settings(entry), info, sasl, info.url.host)

    def _adaptor(
        self,
        entry: ConnectionConfig,
        settings: ConnectionSettings,
        info: ConnectionInfo,
        sasl: SaslServer | SaslClient,
        hostname: str | None,
    ) -> Adaptor:
        number = info.number or self.new_number()
        logger = self._connection_logger.bind(connection=number, peer=info.peer, transport=info.transport)

        def on_lost() -> None:
            self.adaptors.pop(number, None)
            if self.workers is not None:
                self.workers.lost(number)
            self.connection_over()

        make: Callable[..., AmqpAdaptor] = AmqpAdaptor
        if entry.role == "inter-router":
            make = _inter_router_adaptor(entry.cost, new_token() if info.outgoing else "")
        elif entry.role == "edge":
            make = _edge_adaptor(info.outgoing)
        elif entry.role == BROKER_ROLE:
            make = _route_container_adaptor(entry.name)
        elif self.workers is not None and isinstance(entry, ListenerConfig):
            make = _arriving_adaptor(self.workers, entry, number)
        adaptor = make(
            self.router,
            settings,
            number=number,
            accepting=not info.outgoing,
            sasl=sasl,
            hostname=hostname,
            log=log_to(logger),
            on_lost=on_lost,
            now=trio.current_time(),
        )
        self.adaptors[number] = (adaptor, info)
        return adaptor

    def connection_over(self) -> None:
        """A connection has ended, and left something behind perhaps."""
        self._collections.connection_ended()
        self._ended.set()

    def new_number(self) -> int:
        """What a new connection is called in this site."""
        self._numbers += 1
        return self._numbers

    def _server_mechanisms(self, entry: ListenerConfig, info: ConnectionInfo) -> list[ServerMechanism]:
        mechanisms: list[ServerMechanism] = []
        users = self.config.users
        for name in entry.sasl_mechanisms:
            if name == "ANONYMOUS" and not entry.authenticate_peer:
                mechanisms.append(anonymous())
            elif name == "EXTERNAL" and info.tls_identity:
                mechanisms.append(external(info.tls_identity))
            elif name == "PLAIN" and users is not None and (info.encrypted or entry.allow_insecure_plain):
                mechanisms.append(plain(users.verify_plain))
            elif name in SCRAM_HASHES and users is not None:
                look_up = partial(users.scram_credentials, name)
                mechanisms.append(scram_server(name, look_up, new_nonce, self._decoy_key))
        # The list may not be empty (5.3.3.1): who has nothing to show is offered EXTERNAL, and refused in order.
        return mechanisms or [external(None)]

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self, started: Callable[[], None] | None = None) -> int:
        """Bind, serve, and end in order. Returns the process's exit code."""
        try:
            if self.worker is None:
                for listener in self.listeners:
                    await listener.bind()
                await self.services.begin(self.config.services, self.config.ssl_profiles)
                await self.names.bind()
        except (TransportError, TlsConfigError, ServiceError) as error:
            for listener in self.listeners:
                listener.stop_accepting()
            self.logger.error("cannot listen", reason=str(error))  # noqa: TRY400 - the operator's fault, not the code's
            return exit_codes.FAILURE
        for warning in self.config.warnings:
            self.logger.warning("configuration", warning=warning)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deadlines)
            nursery.start_soon(self._tidy)
            if self.management is not None:
                nursery.start_soon(self.management.run)
            if self.worker is not None:
                nursery.start_soon(self.worker.run, self)
            nursery.start_soon(self._watch_certificates)
            nursery.start_soon(self._end)
            with self._serving:
                async with trio.open_nursery() as serving:
                    # Also without listeners and connectors a router runs until it is told to end.
                    serving.start_soon(self._until_drained)
                    if self.workers is not None:
                        await serving.start(self.workers.run)
                    for listener in self.listeners:
                        await serving.start(_serve, listener)
                    for connector in self.connectors:
                        serving.start_soon(connector.run)
                    await serving.start(self.services.run)
                    await serving.start(self.names.run)
                    self._tell_ready()
                    if started is not None:
                        started()
            if self.worker is not None:
                await self.worker.unlink(self._farewell())
            nursery.cancel_scope.cancel()
        if self.worker is None:
            self.logger.info("stopped")
        return exit_codes.OK

    async def _watch_certificates(self) -> None:
        """Look after certificates, as soon as there are any."""
        await self._secured.wait()
        await watch_certificates(self.credentials.values(), self._connection_logger)

    def _tell_ready(self) -> None:
        if self.worker is not None:
            self.worker.ready()
            return
        self.logger.info(
            "ready",
            version=__version__,
            listeners={listener.name: listener.addresses for listener in self.listeners},
        )

    def wake(self) -> None:
        """What every driver calls after a batch: whatever has something to write does, and no deadline is missed."""
        router = self.router
        router.wake_touched()
        if router.forgotten >= MANY_ADDRESSES:
            self._collections.addresses_forgotten(router.forgotten)
            router.forgotten = 0
            self._ended.set()
        # An event that brings the core's deadline forward is in a batch: the task that waits hears of it here.
        if router.next_deadline() < self._wakes_at:
            self._wakes_at = -inf
            self._sooner.set()

    async def _deadlines(self) -> None:
        """Call the router core when it wants to be."""
        router = self.router
        while True:
            now = trio.current_time()
            deadline = router.next_deadline()
            if now >= deadline:
                if now >= deadline + STOPPED_SECONDS:
                    for _ in range(TURNS_AFTER_STOP):
                        await trio.lowlevel.checkpoint()
                    now = trio.current_time()
                router.handle_deadline(now)
                self.wake()
                # What it does by slices has a deadline of now again: others have their turn between two.
                await trio.lowlevel.checkpoint()
                continue
            self._wakes_at = deadline
            with trio.move_on_at(deadline):
                await self._sooner.wait()
            self._wakes_at = -inf
            if self._sooner.is_set():
                self._sooner = trio.Event()

    async def _tidy(self) -> None:
        """Look after connections that have ended; while none does, this does not wake the process."""
        while True:
            await self._ended.wait()
            self._ended = trio.Event()
            await trio.sleep(TIDY_INTERVAL)
            self._collections.tidy(len(self.adaptors), quiet=False)
            with trio.move_on_after(QUIET_SECONDS) as waiting:
                await self._ended.wait()
            if waiting.cancelled_caught:
                self._collections.tidy(len(self.adaptors), quiet=True)

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether the site has been asked to end."""
        return self._draining.is_set()

    def drain(self, reason: str) -> None:
        """Ask the site to end in order: `run` returns when it has. `reason` is for the log."""
        self._reason = reason
        self._draining.set()

    def stop(self) -> None:
        """End the site now, whatever is under way."""
        self._serving.cancel()

    def in_flight(self) -> int:
        """Deliveries that are under way: without an outcome, or still to be sent (which most are at the same time)."""
        adaptors = [*(adaptor for adaptor, _ in self.adaptors.values()), *self._joints()]
        unsettled = sum(adaptor.unsettled() for adaptor in adaptors)
        return max(unsettled, sum(adaptor.waiting() for adaptor in adaptors))

    def _joints(self) -> list[AmqpAdaptor]:
        """The connections between this process and others of the site."""
        ends = [self.worker] if self.worker is not None else self.workers.all if self.workers is not None else []
        return [end.adaptor for end in ends if end.adaptor is not None]

    async def _end(self) -> None:
        await self._draining.wait()
        for listener in self.listeners:
            listener.stop_accepting()
        self.names.stop()
        self.services.stop()
        connections, in_flight = len(self.adaptors), self.in_flight()
        self.logger.info("draining", reason=self._reason, connections=connections, in_flight=in_flight)
        begun = trio.current_time()
        await self._answered(begun)
        if self.workers is not None:
            self.workers.drain(self._reason)
        self.router.ending = True
        for adaptor, _ in self.adaptors.values():
            adaptor.hold_back()
        self.wake()
        await self._settle(begun)
        if self.worker is not None:
            await self.worker.settled(SETTLE_SECONDS)
        self._close_all()
        await trio.sleep(CLOSE_SECONDS)
        if self.adaptors or self.workers is None:
            self.logger.info("connections cut", count=len(self.adaptors), reason="our close was not answered")
        if self.workers is not None:
            await self.workers.ended()
        self._serving.cancel()

    async def _until_drained(self) -> None:
        await self._draining.wait()

    async def _answered(self, begun: float) -> None:
        """Wait until nobody waits for a response: they come by links that are still as they were."""
        while trio.current_time() < begun + SETTLE_SECONDS:
            if not self.services.under_way:
                return
            await trio.sleep(SETTLE_INTERVAL)

    async def _settle(self, begun: float) -> None:
        """Wait until nothing is under way, or the time is over that began then."""
        credit_until = trio.current_time() + CREDIT_SECONDS
        while trio.current_time() < begun + SETTLE_SECONDS:
            waits_for_senders = trio.current_time() < credit_until and self._credit_out()
            others = self.workers is None or self.workers.settled
            if not waits_for_senders and others and not self.in_flight():
                return
            await trio.sleep(SETTLE_INTERVAL)
        self.logger.warning("not settled in time, given back to their senders", deliveries=self.in_flight())

    def _credit_out(self) -> bool:
        return any(adaptor.credit_out() for adaptor, _ in self.adaptors.values())

    def _close_all(self) -> None:
        description = self._farewell()
        if self.workers is not None:
            self.workers.close()
        # First everything goes back to its senders: on a connection that is closed nobody could be told.
        for adaptor, _ in self.adaptors.values():
            adaptor.give_back()
        for listener in self.listeners:
            listener.close_all(ErrorCondition.CONNECTION_FORCED, description)
        for connector in self.connectors:
            connector.stop(ErrorCondition.CONNECTION_FORCED, description)
        self.services.close_all(ErrorCondition.CONNECTION_FORCED, description)
        self.wake()

    def _farewell(self) -> str:
        return f"router {self.router.id} is shutting down"

    # -- a new configuration -------------------------------------------------------------------------------------

    def take_over(self, config: SiteConfig) -> None:
        """Have a configuration in force that differs from the present one in keys that may change (`reload.py`).

        Addresses that exist, and users who are logged in, keep what they have.
        """
        patterns = PatternTable()
        for pattern in _addresses(config.addresses):
            patterns.add(pattern)
        router = self.router
        router.use_patterns(patterns)
        router.default_distribution = Distribution(config.router.default_distribution)
        router.stream_stall_seconds = config.router.stream_stall_seconds
        router.budget.limit = payload_limit(config.router.memory_share)
        if self.worker is None:
            self.limit.limit = config.router.max_connections
            for listener, entry in zip(self.listeners, config.listeners, strict=True):
                listener.limit.limit = entry.max_connections
        levels.change(config.log)
        self._take_over_auto_links(config.auto_links)
        self.config = config
        if self.workers is not None:
            self.workers.reconfigure(config)
        self.wake()

    def _take_over_auto_links(self, entries: tuple[AutoLinkConfig, ...]) -> None:
        """Take away those of the old configuration that are not in the new one, and add what is new."""
        auto_links = self.router.auto_links
        before = self.config.auto_links
        for entry in before:
            known = auto_links.named(entry.name)
            if known is not None and entry not in entries:
                auto_links.remove(known)
        for entry in entries:
            if entry in before:
                continue
            if auto_links.named(entry.name) is None:
                auto_links.add(_auto_link(entry))
            else:
                self.logger.warning("auto-link not taken over", auto_link=entry.name, reason="there is one of its name")


async def _serve(listener: Listener, *, task_status: trio.TaskStatus[Listener]) -> None:
    await listener.serve(task_status=task_status)


def _network(router: RouterConfig) -> dict[str, Any]:
    """What the core of a router with neighbours needs beyond that of one without."""
    if router.mode != "interior":
        return {"mode": router.mode}
    started = time.time()
    return {
        "mode": router.mode,
        "instance": int(started),
        # A router that is killed and back within the same second has the same instance: what it says is still newer.
        "sequence": int(started % 1.0 * 1000) * SEQUENCES_IN_A_MILLISECOND,
        "timers": Timers(
            hello_interval=router.hello_interval_seconds,
            hello_max_age=router.hello_max_age_seconds,
            ra_interval=router.ra_interval_seconds,
            ra_interval_flux=router.ra_interval_flux_seconds,
            remote_ls_max_age=router.remote_ls_max_age_seconds,
        ),
        "now": trio.current_time(),
    }


def _core(mode: str, worker: bool) -> Callable[..., Router]:
    """The core that a mode asks for, or a worker has."""
    if worker:
        from van.routing.worker_router import WorkerRouter

        return WorkerRouter
    if mode != "edge":
        return Router
    from van.routing.edge_router import EdgeRouter

    return EdgeRouter


def _workers(site: Site) -> Workers | None:
    """The further processes of a site that has some."""
    if site.config.router.workers == 1:
        return None
    from van.router.workers import Workers

    return Workers(site, site.config.router.workers)


def _arriving_adaptor(workers: Workers, entry: ListenerConfig, number: int) -> Callable[..., AmqpAdaptor]:
    from van.adaptors.arriving import ArrivingAdaptor
    from van.router.workers import is_arriving

    if not is_arriving(entry):
        return AmqpAdaptor

    def make(*arguments: Any, **options: Any) -> AmqpAdaptor:
        adaptor = ArrivingAdaptor(*arguments, **options)
        adaptor.may_go(partial(workers.elsewhere, number), partial(workers.depart, entry.name, number))
        return adaptor

    return make


def _edge_adaptor(connecting: bool) -> Callable[..., AmqpAdaptor]:
    from van.adaptors.edge import EdgeConnectorAdaptor, EdgeListenerAdaptor

    return EdgeConnectorAdaptor if connecting else EdgeListenerAdaptor


def _route_container_adaptor(connection: str) -> Callable[..., AmqpAdaptor]:
    from van.adaptors.route_container import RouteContainerAdaptor

    def make(*arguments: Any, **options: Any) -> AmqpAdaptor:
        adaptor = RouteContainerAdaptor(*arguments, **options)
        adaptor.broker.connection = connection
        return adaptor

    return make


def _inter_router_adaptor(cost: int, correlator: str) -> Callable[..., AmqpAdaptor]:
    # Imported where there are such connections: a router that stands alone does without.
    from van.adaptors.inter_router import InterRouterAdaptor

    return partial(InterRouterAdaptor, cost=cost, correlator=correlator)


def _addresses(entries: Iterable[AddressConfig]) -> list[address.AddressConfig]:
    return [
        address.AddressConfig(
            "/".join(entry.tokens), Distribution(entry.distribution), entry.priority, waypoint=entry.waypoint
        )
        for entry in entries
    ]


def _auto_link(entry: AutoLinkConfig) -> AutoLink:
    return AutoLink(
        entry.name,
        entry.address,
        incoming=entry.direction == "in",
        external_address=entry.external_address,
        connection=entry.connection,
        container_id=entry.container_id,
    )


def _settings(entry: ConnectionConfig) -> ConnectionSettings:
    return ConnectionSettings(
        max_frame_size=entry.max_frame_size,
        max_sessions=entry.max_sessions,
        max_session_frames=entry.max_session_frames,
        max_links=entry.max_links,
        link_capacity=entry.link_capacity or LINK_CAPACITY,
        link_capacity_limit=0 if entry.link_capacity else SWIFT_LINK_CAPACITY,
        max_message_size=entry.max_message_size,
        idle_timeout=entry.idle_timeout_seconds,
    )


def _client_mechanisms(entry: ConnectorConfig) -> list[ClientMechanism]:
    mechanisms: list[ClientMechanism] = []
    user, password = entry.sasl_username, entry.sasl_password
    for name in entry.sasl_mechanisms:
        if name == "ANONYMOUS":
            mechanisms.append(AnonymousClient())
        elif name == "EXTERNAL":
            mechanisms.append(ExternalClient())
        elif user is not None and password is not None:
            mechanisms.append(
                PlainClient(user, password) if name == "PLAIN" else ScramClient(name, user, password, new_nonce)
            )
    return mechanisms


async def run_site(config: SiteConfig) -> int:
    """Run a site until a signal tells it to end. Returns the exit code."""
    from van.router.signals import watch_signals

    raise_file_limit()
    try:
        site = Site(config)
    except TlsConfigError as error:
        get_logger("router").error("cannot use certificates", reason=str(error))
        return exit_codes.FAILURE
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, site)
        code = await site.run(settle)
        nursery.cancel_scope.cancel()
    return code
