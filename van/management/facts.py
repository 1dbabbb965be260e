"""What only the process knows: its configuration, its connections' transports, its memory.

The process hands a `Facts` of its own to the agent; a router without one (in a simulation, in tests) says less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from van.adaptors.amqp import NORMAL, AmqpAdaptor

if TYPE_CHECKING:
    from van.amqp.link import Link
    from van.routing.router import LinkOwner


class ServiceLinks:
    """Links that do not belong to a connection of AMQP: those of a service, or of one of its connections.

    `number` tells them from others; `role` is that of applications.
    """

    __slots__ = ("links", "number", "role")

    def __init__(self, number: int, links: Mapping[Link, LinkOwner]) -> None:
        self.number = number
        self.links = links
        self.role = NORMAL


@attrs.frozen(kw_only=True)
class ConnectionFacts:
    """One connection of the router: its adaptor, and what the transport says about it.

    host and local are `host:port`; the `tls_` fields are empty without TLS. A connection of a service has no adaptor of
    AMQP; `opened_at` is its, on the driver's clock, and `container` the service's name.
    """

    adaptor: AmqpAdaptor | ServiceLinks
    protocol: str = "amqp"
    opened_at: float = 0.0
    container: str = ""
    host: str = ""
    local: str | None = None
    outgoing: bool = False
    tls_version: str = ""
    tls_cipher: str = ""
    tls_bits: int = 0


@attrs.frozen(kw_only=True)
class EndpointFacts:
    """What listeners and connectors have in common: keys of the configuration, times in seconds."""

    name: str
    host: str
    port: int
    role: str = "normal"
    cost: int = 1
    ssl_profile: str | None = None
    sasl_mechanisms: tuple[str, ...] = ()
    max_frame_size: int = 0
    max_sessions: int = 0
    max_session_frames: int = 0
    idle_timeout: float = 0.0
    link_capacity: int = 0
    failover_urls: tuple[str, ...] = ()
    tls: bool = False
    websocket: bool = False

    def key(self, kind: str) -> str:
        """The identity of the entity: `<kind>/<host>:<port>`, which nobody else of its kind has, or with the name."""
        return f"{kind}/{self.host}:{self.port}:{self.name}"


@attrs.frozen(kw_only=True)
class ListenerFacts(EndpointFacts):
    """A listener; `port` is the real one."""

    authenticate_peer: bool = False
    requires_sasl: bool = False
    initial_handshake_timeout: float = 0.0


@attrs.frozen(kw_only=True)
class ConnectorFacts(EndpointFacts):
    """A connector. status is `CONNECTING`, `SUCCESS` or `FAILED`; message says it in words."""

    verify_hostname: bool = True
    sasl_username: str | None = None
    proxied: bool = False
    status: str = "CONNECTING"
    message: str = ""


@attrs.frozen(kw_only=True)
class RouterFacts:
    """The router as it is configured; times in seconds."""

    host_name: str | None = None
    metadata: str | None = None
    hello_interval: float = 1.0
    hello_max_age: float = 3.0
    ra_interval: float = 30.0
    ra_interval_flux: float = 4.0
    remote_ls_max_age: float = 60.0
    workers: int = 1


@attrs.frozen(kw_only=True)
class ServiceFacts:
    """A service. `listening`: a port here, else a server. `port` is the real one; protocol is the scheme without TLS.

    strategy says how one of several addresses is chosen, `none` where there is one. status is `up` or `down`; message
    says why in words. octets_in came from clients or servers, octets_out went there. dropped: datagrams, by reason.
    """

    name: str
    listening: bool
    scheme: str
    host: str
    port: int
    address: str
    ssl_profile: str | None = None
    authenticate_peer: bool = False
    verify_hostname: bool = True
    status: str = "up"
    message: str = ""
    configured: bool = True
    strategy: str = "none"
    protocol: str = "tcp"
    connections: int = 0
    opened: int = 0
    octets_in: int = 0
    octets_out: int = 0
    dropped: dict[str, int] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class ListenerAddressFacts:
    """One of several addresses that a port leads to; value is its priority or weight."""

    name: str
    listener: str
    address: str
    value: int
    opened: int = 0


class Facts:
    """What the entities tell and the router core does not know. This one knows nothing; the process knows more."""

    def router(self) -> RouterFacts:
        """The router as it is configured."""
        return RouterFacts()

    def listeners(self) -> Iterable[ListenerFacts]:
        """The listeners, in the order of the configuration."""
        return ()

    def connectors(self) -> Iterable[ConnectorFacts]:
        """The connectors, in the order of the configuration."""
        return ()

    def adaptors(self) -> Collection[AmqpAdaptor]:
        """The adaptors of the connections that there are, oldest first."""
        return ()

    def connection(self, adaptor: AmqpAdaptor) -> ConnectionFacts:
        """What the transport says about a connection."""
        return ConnectionFacts(adaptor=adaptor)

    def is_local(self, adaptor: AmqpAdaptor) -> bool:
        """Whether the peer of a connection is a program of this machine."""
        return False
    def services(self) -> Iterable[ServiceFacts]:
        """The services."""
        return ()

    def listener_addresses(self) -> Iterable[ListenerAddressFacts]:
        """The addresses of ports that have several."""
        return ()

    def service_links(self) -> Collection[ServiceLinks]:
        """The links of services, by service and by connection of each."""
        return ()

    def service_connections(self) -> Iterable[ConnectionFacts]:
        """The connections of services."""
        return ()

    def memory(self) -> tuple[int | None, int | None]:
        """Virtual and resident memory of the process in octets; None where the system does not say."""
        return None, None

    def uptime(self, now: float) -> float:
        """Seconds since the router was started; `now` is of the driver's clock."""
        return now

    def wall_time(self) -> float | None:
        """Seconds since 1970, None where there is no clock."""
        return None
