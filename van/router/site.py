"""A site: one router with its listeners and connectors, put together from the configuration, and its life.

    run_site
    ├── signals              SIGTERM and SIGINT drain, a second one ends; SIGHUP reloads; SIGUSR1 describes
    ├── deadlines            sleeps until the router core wants to be called
    ├── certificates         looks every few seconds whether certificate files have changed
    ├── one per listener     `Listener.serve`
    └── one per connector    `Connector.run`
"""

from __future__ import annotations

import random
import secrets
import string
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
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
from van.router.log import get_logger, levels
from van.router.sections import ConnectionConfig, ConnectorConfig, ListenerConfig
from van.routing.adaptor import Adaptor
from van.routing.address import AddressConfig, Distribution
from van.routing.budget import ByteBudget
from van.routing.router import Router
from van.transport.connector import Connector
from van.transport.errors import TransportError
from van.transport.info import ConnectionInfo
from van.transport.limits import ConnectionLimit
from van.transport.listener import Listener
from van.transport.proxy import parse_proxy_url
from van.transport.scram import SCRAM_HASHES, ScramClient, scram_server
from van.transport.tls import ClientCertificates, SslProfile, TlsConfigError, TlsCredentials, warn_of_expiry

# How often certificate files are looked at, in seconds.
CERTIFICATE_INTERVAL: Final = 5.0
# The router core is looked at this often when it has no deadline: a stream may have begun meanwhile.
IDLE_INTERVAL: Final = 1.0

_TOKEN_CHARACTERS: Final = string.ascii_letters + string.digits
TOKEN_LENGTH: Final = 15


def new_token() -> str:
    """A short text that nobody else has, for temporary addresses: 15 letters and digits, as the C routers make them."""
    return "".join(secrets.choice(_TOKEN_CHARACTERS) for _ in range(TOKEN_LENGTH))


class Site:
    """A running site. `listeners` and `connectors` by their names in the configuration."""

    def __init__(self, config: SiteConfig) -> None:
        self.config = config
        self.logger = get_logger("router")
        self.adaptors: dict[int, tuple[AmqpAdaptor, ConnectionInfo]] = {}
        self.limit = ConnectionLimit(config.router.max_connections)
        self.users = config.users
        self.credentials: dict[str, TlsCredentials] = {}
        self.router = Router(
            config.router.id,
            tokens=new_token,
            addresses=[
                AddressConfig("/".join(entry.tokens), Distribution(entry.distribution), entry.priority)
                for entry in config.addresses
            ],
            default_distribution=Distribution(config.router.default_distribution),
            budget=ByteBudget(config.router.memory_limit),
            stream_stall_seconds=config.router.stream_stall_seconds,
        )
        self._connection_logger = get_logger("transport")
        self._decoy_key = secrets.token_bytes(32)
        self._numbers = 0
        self.listeners = [self._listener(entry) for entry in config.listeners]
        self.connectors = [self._connector(entry) for entry in config.connectors]

    # -- assembly ------------------------------------------------------------------------------------------------

    def _listener(self, entry: ListenerConfig) -> Listener:
        certificates = ClientCertificates.NONE
        if entry.ssl_profile is not None and "EXTERNAL" in entry.sasl_mechanisms:
            only = set(entry.sasl_mechanisms) == {"EXTERNAL"}
            certificates = ClientCertificates.REQUIRED if only else ClientCertificates.OPTIONAL
        return Listener(
            entry.url,
            partial(self._accepted, entry),
            self.router.wake_touched,
            self._connection_logger,
            name=entry.name,
            credentials=self._credentials(entry),
            client_certificates=certificates,
            max_connections=entry.max_connections,
            router_limit=self.limit,
            initial_handshake_timeout_seconds=entry.initial_handshake_timeout_seconds,
        )

    def _connector(self, entry: ConnectorConfig) -> Connector:
        return Connector(
            [entry.url, *entry.failover_urls],
            partial(self._connected, entry),
            self.router.wake_touched,
            self._connection_logger,
            name=entry.name,
            credentials=self._credentials(entry),
            verify_hostname=entry.verify_hostname,
            proxy=parse_proxy_url(entry.proxy) if entry.proxy else None,
            initial_handshake_timeout_seconds=entry.initial_handshake_timeout_seconds,
        )

    def _credentials(self, entry: ConnectionConfig) -> TlsCredentials | None:
        """The certificates of a profile, read once however many use it. Raises `TlsConfigError`."""
        name = entry.ssl_profile
        if name is None:
            return None
        credentials = self.credentials.get(name)
        if credentials is None:
            profile = self.config.ssl_profiles[name]
            credentials = TlsCredentials(
                SslProfile(
                    name=profile.name,
                    ca_cert_file=profile.ca_cert_file,
                    cert_file=profile.cert_file,
                    private_key_file=profile.private_key_file,
                    password=profile.password,
                    ciphers=profile.ciphers,
                    protocols=profile.protocols,
                )
            )
            self.credentials[name] = credentials
            warn_of_expiry(credentials, self._connection_logger)
        return credentials

    # -- connections ---------------------------------------------------------------------------------------------

    def _accepted(self, entry: ListenerConfig, info: ConnectionInfo) -> Adaptor:
        settings = _settings(entry)
        settings.sasl_required = entry.authenticate_peer or "ANONYMOUS" not in entry.sasl_mechanisms
        if entry.failover_urls:
            settings.failover = [_failover_entry(str(url.host), url.port, url.scheme) for url in entry.failover_urls]
        return self._adaptor(settings, info, SaslServer(self._server_mechanisms(entry, info)), None)

    def _connected(self, entry: ConnectorConfig, info: ConnectionInfo) -> Adaptor:
        sasl = SaslClient(
            _client_mechanisms(entry),
            hostname=info.url.host,
            encrypted=info.encrypted,
            allow_insecure_plain=entry.allow_insecure_plain,
        )
        return self._adaptor(_settings(entry), info, sasl, info.url.host)

    def _adaptor(
        self, settings: ConnectionSettings, info: ConnectionInfo, sasl: SaslServer | SaslClient, hostname: str | None
    ) -> Adaptor:
        self._numbers += 1
        number = self._numbers
        logger = self._connection_logger.bind(connection=number, peer=info.peer, transport=info.transport)

        def log(level: str, event: str, **fields: object) -> None:
            getattr(logger, level)(event, **fields)
            if event in ("connection closed", "connection failed"):
                self.adaptors.pop(number, None)

        adaptor = AmqpAdaptor(
            self.router,
            settings,
            number=number,
            accepting=not info.outgoing,
            sasl=sasl,
            hostname=hostname,
            log=log,
            now=trio.current_time(),
        )
        self.adaptors[number] = (adaptor, info)
        return adaptor

    def _server_mechanisms(self, entry: ListenerConfig, info: ConnectionInfo) -> list[ServerMechanism]:
        mechanisms: list[ServerMechanism] = []
        users = self.users
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
            for listener in self.listeners:
                await listener.bind()
        except (TransportError, TlsConfigError) as error:
            self.logger.error("cannot listen", reason=str(error))  # noqa: TRY400 - the operator's fault, not the code's
            return exit_codes.FAILURE
        for warning in self.config.warnings:
            self.logger.warning("configuration", warning=warning)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deadlines)
            nursery.start_soon(self._watch_certificates)
            async with trio.open_nursery() as serving:
                for listener in self.listeners:
                    await serving.start(listener.serve)
                for connector in self.connectors:
                    serving.start_soon(connector.run)
                self.logger.info(
                    "ready",
                    version=__version__,
                    listeners={listener.name: listener.addresses for listener in self.listeners},
                )
                if started is not None:
                    started()
            nursery.cancel_scope.cancel()
        self.logger.info("stopped")
        return exit_codes.OK

    def drain(self) -> None:
        """Refuse new connections and ask those there are to close: `run` returns when they have."""
        description = f"router {self.router.id} is shutting down"
        for listener in self.listeners:
            listener.stop_accepting()
            listener.close_all(ErrorCondition.CONNECTION_FORCED, description)
        for connector in self.connectors:
            connector.stop(ErrorCondition.CONNECTION_FORCED, description)
        self.router.wake_touched()

    def reload(self, config: SiteConfig) -> tuple[list[str], list[str]]:
        """Take over what can change while running; returns what was taken over, and what needs a restart."""
        old = self.config
        taken: list[str] = []
        restart: list[str] = []
        if config.log != old.log:
            levels.change(config.log)
            taken.append("log")
        # Without a users file `users` is None; with one it is read anew each time.
        if config.users is not None:
            self.users = config.users
            taken.append("users")
        if config.router.max_connections != old.router.max_connections:
            self.limit.limit = config.router.max_connections
            taken.append("router.max_connections")
        if config.router.memory_limit != old.router.memory_limit:
            self.router.budget.limit = config.router.memory_limit
            taken.append("router.memory_limit")
        if config.router.stream_stall_seconds != old.router.stream_stall_seconds:
            self.router.stream_stall_seconds = config.router.stream_stall_seconds
            taken.append("router.stream_stall_seconds")
        reloadable = {"max_connections", "memory_limit", "stream_stall_seconds", "users_file"}
        for name in attrs.fields_dict(type(old.router)):
            if name not in reloadable and getattr(old.router, name) != getattr(config.router, name):
                restart.append(f"router.{name}")
        restart.extend(
            section
            for section in ("listeners", "connectors", "ssl_profiles", "addresses")
            if getattr(old, section) != getattr(config, section)
        )
        self.config = attrs.evolve(old, log=config.log, users=config.users, router=config.router)
        return taken, restart

    async def _deadlines(self) -> None:
        """Call the router core when it wants to be."""
        router = self.router
        while True:
            now = trio.current_time()
            deadline = router.next_deadline()
            if now >= deadline:
                router.handle_deadline(now)
                router.wake_touched()
            else:
                await trio.sleep(min(deadline - now, IDLE_INTERVAL))

    async def _watch_certificates(self) -> None:
        """Take renewed certificates into use; connections live on."""
        while self.credentials:
            await trio.sleep(CERTIFICATE_INTERVAL)
            self.refresh_certificates()

    def refresh_certificates(self) -> None:
        """Read certificate files again that have changed."""
        for name, credentials in self.credentials.items():
            try:
                if credentials.refresh():
                    self.logger.info("certificates renewed", ssl_profile=name)
                    warn_of_expiry(credentials, self._connection_logger)
            except TlsConfigError as error:
                self.logger.error(  # noqa: TRY400 - the operator's fault, not the code's
                    "certificates not renewed, the old ones stay", ssl_profile=name, reason=str(error)
                )


def new_nonce() -> str:
    """What SCRAM asks for: printable, different each time, not to be guessed."""
    return secrets.token_urlsafe(18)


def _settings(entry: ConnectionConfig) -> ConnectionSettings:
    return ConnectionSettings(
        max_frame_size=entry.max_frame_size,
        max_sessions=entry.max_sessions,
        max_session_frames=entry.max_session_frames,
        max_links=entry.max_links,
        link_capacity=entry.link_capacity,
        max_message_size=entry.max_message_size,
        idle_timeout=entry.idle_timeout_seconds,
    )


def _failover_entry(host: str, port: int, scheme: str) -> dict[str, object]:
    return {"network-host": host, "port": str(port), "scheme": scheme}


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
    """Run a site until it is told to end. Returns the exit code."""
    from van.router.signals import watch_signals

    try:
        site = Site(config)
    except TlsConfigError as error:
        get_logger("router").error("cannot use certificates", reason=str(error))  # noqa: TRY400
        return exit_codes.FAILURE
    code = exit_codes.OK
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, site, nursery.cancel_scope)
        code = await site.run()
        nursery.cancel_scope.cancel()
    return code


__all__ = ["Site", "run_site"]
