"""The sections of a site file as classes: every key once, with its reader, default and meaning.

`config.py` reads site files by these tables, and the tables of `docs/configuration.md` are printed from them. Keys are
the attribute names of the deployed routers in snake_case. Rules between keys are in `checks.py`.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from van.router import values
from van.router.memory import default_memory_limit
from van.router.values import GIB, MIB, Reader
from van.transport.service_url import ServiceUrl
from van.transport.url import Url

if TYPE_CHECKING:
    from van.transport.tls import SslProfile

DISTRIBUTIONS = ("closest", "balanced", "multicast", "unavailable")
DIRECTIONS = ("in", "out")
MECHANISMS = ("ANONYMOUS", "PLAIN", "EXTERNAL", "SCRAM-SHA-256", "SCRAM-SHA-512")
# The mechanisms that ask the users file.
PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
# The mechanisms in which a client that says the same hears the same.
PLAIN_MECHANISMS = frozenset({"ANONYMOUS", "PLAIN", "EXTERNAL"})
TLS_PROTOCOLS = ("TLSv1.2", "TLSv1.3")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
# The packages of van: a record belongs to the one that its logger is named after.
SUBSYSTEMS = ("amqp", "routing", "adaptors", "transport", "management", "router")
MODES = ("standalone", "interior", "edge")
ROLES = ("normal", "inter-router", "edge", "route-container")
ROLES_LATER = ("inter-edge", "inter-network")
# The role whose connections lead to brokers.
BROKER_ROLE = "route-container"
# The roles whose connections lead to other routers.
ROUTER_ROLES = ("inter-router", "edge")

# 2.4.1: no peer may announce less.
MIN_MAX_FRAME_SIZE = 512
# Announced where the memory is there for windows of it: see `van.routing.budget`.
LARGE_FRAME_SIZE = 66_560
ROUTER_FRAME_SIZE = 16_384
# A frame is held whole before it is handled, so that its size is memory that one peer can ask for.
LARGEST_MAX_FRAME_SIZE = 16 * MIB
# A day: longer than any time-out that somebody still waits for.
LONGEST_SECONDS = 86_400
# What the deployed routers take for a path that has no end.
LARGEST_COST = 2_147_483_647
# Below this a timer is a busy loop; hellos of a hundred milliseconds are for networks within one machine.
SHORTEST_TIMER = 0.1
# By role, where the key is not written. An application's session may have 32 MiB under way, a router's 128 MiB: many
# applications share it. A connection between routers has 22 links, and two more for each large message under way.
MAX_SESSION_FRAMES = 512
ROUTER_MAX_SESSION_FRAMES = 2048
MAX_LINKS = 1000
# Where link_capacity is not written: what a sender has, and what one may get whose messages are settled swiftly.
LINK_CAPACITY = 250
SWIFT_LINK_CAPACITY = 1000
ROUTER_MAX_LINKS = 20_000
# More than machines have cores; each process takes some 40 MiB, and a share of `memory_limit`.
MOST_WORKERS = 64
# Small enough for tests and gateways, large enough for a session at its first window.
SMALLEST_MEMORY_LIMIT = 1 * MIB
LARGEST_SIZE = 1024 * GIB


def key(reader: Reader, meaning: str, default: Any = attrs.NOTHING, *, shown: str = "", live: bool = False) -> Any:
    """A key of a section. `shown` is the default in words, where the value does not say it.

    `live`: a change is taken over when the file is read again; of other keys it needs a restart.
    """
    return attrs.field(default=default, metadata={"reader": reader, "meaning": meaning, "shown": shown, "live": live})


def secret_key(reader: Reader, meaning: str) -> Any:
    """A key whose value is never shown."""
    metadata = {"reader": reader, "meaning": meaning, "shown": "none", "live": False}
    return attrs.field(default=None, repr=False, metadata=metadata)


def host_name() -> str:
    """The default router id: the machine's name, with what an id must not contain replaced."""
    name = "".join("-" if character in "|$" or character.isspace() else character for character in socket.gethostname())
    return name[:127] or "localhost"


@attrs.frozen(kw_only=True)
class RouterConfig:
    """`[router]`: the router as a whole."""

    id: str = key(
        values.router_id,
        "Name of this router, its container-id; unique in the network.",
        attrs.Factory(host_name),
        shown="the host name",
    )
    mode: str = key(
        values.one_of(*MODES),
        "`standalone` has no other routers; `interior` takes part in a network of them; `edge` hangs on one of its "
        "routers, by connections that it opens.",
        "standalone",
    )
    default_distribution: str = key(
        values.one_of(*DISTRIBUTIONS),
        "How addresses are distributed that no `[[address]]` matches.",
        "balanced",
        live=True,
    )
    metadata: str = key(values.text, "Free text for people and tools.", "")
    memory_limit: int = key(
        values.size(SMALLEST_MEMORY_LIMIT, LARGEST_SIZE),
        "Memory for the router and the messages that it holds or has promised room for; beyond it senders wait. "
        "Below 64 MiB it bounds the messages alone.",
        attrs.Factory(default_memory_limit),
        shown="a quarter of the memory or of the cgroup's limit, at least 128 MiB",
        live=True,
    )
    max_connections: int = key(
        values.integer(1, 1_000_000),
        "Connections that all listeners together accept; more are closed at once.",
        65_535,
        live=True,
    )
    workers: int = key(
        values.integer(1, MOST_WORKERS),
        "Processes that share the listeners of role `normal`, seen from outside as one router; see "
        "[workers.md](workers.md). `memory_limit` and `max_connections` are of all together.",
        1,
    )
    users_file: Path | None = key(
        values.file, "TOML file with `[users]`, asked by PLAIN and SCRAM.", None, shown="no users", live=True
    )
    stream_stall_seconds: float = key(
        values.seconds(0.1, LONGEST_SECONDS),
        "A large message that has not grown for so long while others wait behind it is given up.",
        30.0,
        live=True,
    )
    hello_interval_seconds: float = key(
        values.seconds(SHORTEST_TIMER, LONGEST_SECONDS), "How often neighbours are told that we are here.", 1.0
    )
    hello_max_age_seconds: float = key(
        values.seconds(SHORTEST_TIMER, LONGEST_SECONDS), "A neighbour that is silent for so long is not used.", 3.0
    )
    ra_interval_seconds: float = key(
        values.seconds(SHORTEST_TIMER, LONGEST_SECONDS),
        "How often the network is told that nothing has changed here.",
        30.0,
    )
    ra_interval_flux_seconds: float = key(
        values.seconds(SHORTEST_TIMER, LONGEST_SECONDS), "The same while its topology changes.", 4.0
    )
    remote_ls_max_age_seconds: float = key(
        values.seconds(SHORTEST_TIMER, LONGEST_SECONDS),
        "A router that has told nothing for so long is forgotten.",
        60.0,
    )

    @property
    def memory_share(self) -> int:
        """What each of the processes gets of `memory_limit`, in octets."""
        return self.memory_limit // self.workers


@attrs.frozen(kw_only=True)
class ConnectionConfig:
    """What `[[listener]]` and `[[connector]]` have in common."""

    name: str = key(values.name, "Name in logs and management; unique.", "", shown="from the URL")
    role: str = key(
        values.one_of(*ROLES, later=ROLES_LATER),
        "Who is at the other end: `normal` is an application, `inter-router` a router of mode interior, `edge` on a "
        "listener a router of mode edge, on a connector the interior router of this one, `route-container` a broker "
        "(see [brokers.md](brokers.md)).",
        "normal",
    )
    cost: int = key(
        values.integer(1, LARGEST_COST),
        "Cost of the way, for role inter-router; the higher one of both ends counts.",
        1,
    )
    ssl_profile: str | None = key(values.name, "The `[[ssl_profile]]` of an amqps or wss URL.", None, shown="none")
    allow_insecure_plain: bool = key(
        values.boolean, "Let PLAIN show passwords to the network, without TLS.", default=False
    )
    max_frame_size: int = key(
        values.integer(MIN_MAX_FRAME_SIZE, LARGEST_MAX_FRAME_SIZE),
        "Largest frame that is taken, in octets.",
        0,
        shown=f"`{LARGE_FRAME_SIZE}`, less where memory is short for the connections that there are; between routers "
        f"`{ROUTER_FRAME_SIZE}`",
    )
    max_sessions: int = key(values.integer(1, 32_768), "Sessions of one connection.", 32_768)
    max_session_frames: int = key(
        values.integer(2, 1_000_000),
        "Largest incoming window of a session, in frames; of frames beyond 64 KiB there are fewer in it.",
        0,
        shown=f"`{MAX_SESSION_FRAMES}`, between routers `{ROUTER_MAX_SESSION_FRAMES}`",
    )
    max_links: int = key(
        values.integer(1, 1_000_000),
        "Links of one connection.",
        0,
        shown=f"`{MAX_LINKS}`, between routers `{ROUTER_MAX_LINKS}`",
    )
    link_capacity: int = key(
        values.integer(1, 100_000),
        "Credit of a sending client: messages that it may have unsettled; of those beyond 256 KiB some 16 MiB.",
        0,
        shown=f"`{LINK_CAPACITY}`, up to `{SWIFT_LINK_CAPACITY}` while they are settled swiftly",
    )
    max_message_size: int = key(
        values.size(0, LARGEST_SIZE), "Largest message that is taken, in octets; 0 for no limit.", 0
    )
    idle_timeout_seconds: float = key(
        values.seconds(0, LONGEST_SECONDS), "A peer that is silent for so long is gone; 0 for never.", 16.0
    )
    initial_handshake_timeout_seconds: float = key(
        values.seconds(0, LONGEST_SECONDS), "Time until Open, TLS, WebSocket and SASL within; 0: no limit.", 10.0
    )


@attrs.frozen(kw_only=True)
class ListenerConfig(ConnectionConfig):
    """`[[listener]]`: applications and other routers connect here."""

    url: Url = key(
        values.listen_url, "Where to listen: `amqp`, `amqps`, `ws`, `wss`. No host: every interface; port 0: any port."
    )
    sasl_mechanisms: tuple[str, ...] = key(
        values.list_of(values.one_of(*MECHANISMS), empty=False),
        "Mechanisms that are offered.",
        (),
        shown='["ANONYMOUS"] on loopback, required elsewhere',
    )
    authenticate_peer: bool = key(
        values.boolean, "Refuse anonymous peers, also where ANONYMOUS is listed.", default=False
    )
    max_connections: int = key(values.integer(1, 1_000_000), "Connections of this listener.", 65_535, live=True)
    failover_urls: tuple[Url, ...] = key(
        values.list_of(values.connect_url), "Told to clients: where else they may connect.", ()
    )


@attrs.frozen(kw_only=True)
class ConnectorConfig(ConnectionConfig):
    """`[[connector]]`: this router connects out, and again when the connection is lost."""

    url: Url = key(values.connect_url, "Where to connect: `amqp`, `amqps`, `ws` or `wss`.")
    failover_urls: tuple[Url, ...] = key(
        values.list_of(values.connect_url), "Tried in turn when `url` cannot be reached.", ()
    )
    proxy: str | None = secret_key(
        values.proxy,
        "`http`, `socks5`, `socks5h`, `socks4` or `socks4a` URL, with user and password where wanted; a secret.",
    )
    sasl_mechanisms: tuple[str, ...] = key(
        values.list_of(values.one_of(*MECHANISMS), empty=False),
        "Mechanisms that may be used; the strongest that the peer offers is.",
        (),
        shown="what `sasl_username` and the profile's certificate allow, else `[\"ANONYMOUS\"]`",
    )
    sasl_username: str | None = key(values.name, "User for PLAIN and SCRAM.", None, shown="none")
    sasl_password: str | None = secret_key(values.secret, "Its password; a secret.")
    verify_hostname: bool = key(values.boolean, "The peer's certificate must name the URL's host.", default=True)


@attrs.frozen(kw_only=True)
class SslProfileConfig:
    """`[[ssl_profile]]`: certificates, by name."""

    name: str = key(values.name, "What listeners and connectors call it; unique.")
    ca_cert_file: Path | None = key(
        values.file,
        "Trusted authorities, PEM. On a listener with EXTERNAL: who must have signed the clients' certificates.",
        None,
        shown="the system's for connectors",
    )
    cert_file: Path | None = key(values.file, "Own certificate chain, PEM; listeners need one.", None, shown="none")
    private_key_file: Path | None = key(values.file, "Its key, PEM.", None, shown="in `cert_file`")
    password: str | None = secret_key(values.secret, "Password of the key; a secret.")
    ciphers: str | None = key(values.name, "OpenSSL cipher list for TLS 1.2.", None, shown="Python's")
    protocols: tuple[str, ...] = key(
        values.list_of(values.one_of(*TLS_PROTOCOLS), empty=False), "TLS versions that are spoken.", TLS_PROTOCOLS
    )
    uid_format: str = key(
        values.uid_format,
        "Parts of a client's certificate that are its user id: `c` `s` `l` `o` `u` `n` of the subject, `1` `2` `5` for "
        "the SHA-1, SHA-256, SHA-512 fingerprint.",
        "",
        shown="the subject",
    )

    def profile(self) -> SslProfile:
        """The same for `van.transport.tls`."""
        from van.transport.tls import SslProfile

        return SslProfile(**attrs.asdict(self))


@attrs.frozen(kw_only=True)
class AddressConfig:
    """`[[address]]`: how the addresses are treated that match. Literal beats `*` beats `#`, token by token."""

    name: str = key(values.name, "Name in management; unique.", "", shown="the prefix or pattern", live=True)
    prefix: str | None = key(
        values.address_prefix,
        "Matches this address and all below it; tokens end at `.` or `/`.",
        None,
        shown="none",
        live=True,
    )
    pattern: str | None = key(
        values.address_pattern, "Matches by tokens: `*` is one, `#` any number.", None, shown="none", live=True
    )
    distribution: str = key(
        values.one_of(*DISTRIBUTIONS),
        "`closest`, `balanced` (fewest unsettled), `multicast` (all), or `unavailable` (links are refused).",
        "balanced",
        live=True,
    )
    priority: int | None = key(
        values.integer(0, 9), "Priority in place of the message's own.", None, shown="the message's", live=True
    )
    waypoint: bool = key(
        values.boolean,
        "What is sent goes to a broker, and receivers get what comes back from it; see [brokers.md](brokers.md).",
        default=False,
        live=True,
    )

    @property
    def tokens(self) -> tuple[str, ...]:
        """The pattern as tokens; a prefix is the pattern that ends with `#`."""
        if self.pattern is not None:
            return values.tokens(self.pattern)
        return (*values.tokens(self.prefix or ""), "#")


@attrs.frozen(kw_only=True)
class AutoLinkConfig:
    """`[[auto_link]]`: a link to a broker, on each connection that `connection` or `container_id` names."""

    direction: str = key(
        values.one_of(*DIRECTIONS),
        "`out`: what is sent to the address goes to the broker; `in`: what the broker has goes to the address.",
        live=True,
    )
    name: str = key(
        values.name, "Name in logs and management; unique.", "", shown="from the other keys", live=True
    )
    address: str = key(
        values.name,
        "The address in the network. For `in` it may be left out: each message then names its own (`to`).",
        "",
        shown="none",
        live=True,
    )
    external_address: str = key(
        values.name, "What the broker calls its queue or topic.", "", shown="the address", live=True
    )
    connection: str = key(
        values.name,
        "On connections of the `[[connector]]` or `[[listener]]` of this name.",
        "",
        shown="none",
        live=True,
    )
    container_id: str = key(
        values.name, "On connections of role `route-container` to the peer of this id.", "", shown="none", live=True
    )


@attrs.frozen(kw_only=True)
class LogConfig:
    """`[log]`: what is logged, and how it looks. Logs go to stderr."""

    format: str = key(
        values.one_of("auto", "text", "json"), "`auto` is text on a terminal and JSON otherwise.", "auto"
    )
    level: str = key(values.one_of(*LOG_LEVELS), "Records below this are left out.", "info", live=True)
    levels: dict[str, str] = key(
        values.table_of(SUBSYSTEMS, values.one_of(*LOG_LEVELS)),
        "Level by subsystem: " + ", ".join(f"`{name}`" for name in SUBSYSTEMS) + ".",
        attrs.Factory(dict),
        shown="{}",
        live=True,
    )


@attrs.frozen(kw_only=True)
class ServiceConfig:
    """`[[service]]`: a port here that leads to an address, or a server behind one; see [services.md](services.md)."""

    listen: ServiceUrl | None = key(
        values.service_listen_url,
        "Where clients connect: a port here leads to `address`. `tcp`, `tls`, `http`, `https`, `http2`, `udp`, `mqtt`, "
        "`mqtts`; no host: every interface; port 0: any port.",
        None,
        shown="none",
        live=True,
    )
    connect: ServiceUrl | None = key(
        values.service_connect_url,
        "Where the server is that stands behind `address`; one of `listen` and `connect`.",
        None,
        shown="none",
        live=True,
    )
    address: str = key(
        values.service_address,
        "The address of the service in the network. With `mqtt` what stands before each topic, and may be left out.",
        "",
        shown="**required**, but for `mqtt`",
        live=True,
    )
    addresses: dict[str, int] | None = key(
        values.addresses,
        "In place of `address`: several, each with its priority or weight, as `{ orders-db = 2, orders-copy = 1 }`; "
        "each connection goes to one of those that can be reached.",
        None,
        shown="none",
        live=True,
    )
    multi_address_strategy: str | None = key(
        values.one_of("priority", "weighted"),
        "How one of `addresses` is chosen: the one with the highest value, or each in proportion to its value.",
        None,
        shown='`"priority"`',
        live=True,
    )
    name: str = key(values.name, "Name in logs and management; unique.", "", shown="from the URL", live=True)
    ssl_profile: str | None = key(
        values.name,
        "The `[[ssl_profile]]`: TLS with clients, or with the server.",
        None,
        shown="none; to connect by `tls` or `https`, the authorities that the system trusts",
        live=True,
    )
    authenticate_peer: bool | None = key(
        values.boolean,
        "Clients must show a certificate that `ca_cert_file` of the profile has signed.",
        None,
        shown="`false`",
        live=True,
    )
    authenticate_users: bool | None = key(
        values.boolean,
        "Clients must give the name and password of a user in `users_file` of `[router]`; for `mqtt` and `mqtts`.",
        None,
        shown="`false`",
        live=True,
    )
    verify_hostname: bool | None = key(
        values.boolean, "The server's certificate must name the URL's host.", None, shown="`true`", live=True
    )
    alpn: tuple[str, ...] | None = key(
        values.list_of(values.alpn_protocol, empty=False),
        "Protocols that TLS offers to agree upon, the most wanted first.",
        None,
        shown="none",
        live=True,
    )
    always_open: bool | None = key(
        values.boolean,
        "Listen also while nobody in the network receives at the address.",
        None,
        shown="`true` for `http`, `https` and `http2`, which can say so; else `false`",
        live=True,
    )
    max_connections: int | None = key(
        values.integer(1, 1_000_000), "Connections of this service.", None, shown="those of `[router]`", live=True
    )
    connect_timeout_seconds: float | None = key(
        values.seconds(0.01, LONGEST_SECONDS),
        "Time for a connection to the server, TLS within.",
        None,
        shown="`10.0`",
        live=True,
    )
    idle_timeout_seconds: float | None = key(
        values.seconds(0, LONGEST_SECONDS),
        "A connection on which nothing moves for so long is ended; 0 for never.",
        None,
        shown="`0` for `tcp` and `tls`",
        live=True,
    )
    proxy_protocol: str | None = key(
        values.one_of("v1", "v2"),
        "PROXY protocol: on `connect` the server is told so who the client is; on `listen` clients' proxies tell it.",
        None,
        shown="none",
        live=True,
    )
    host_header: str | None = key(
        values.name, "What `Host` of requests is replaced by.", None, shown="it stays as it is", live=True
    )
    timeout_seconds: float | None = key(
        values.seconds(0.01, LONGEST_SECONDS), "Time until a response begins.", None, shown="the protocol's", live=True
    )
    aggregate: str | None = key(
        values.one_of("json", "multipart"),
        "Requests go to all servers of the address, and their responses are gathered so.",
        None,
        shown="none: each request goes to one server",
        live=True,
    )
    forwarded: bool | None = key(
        values.boolean, "Tell servers by `Forwarded` who the client is.", None, shown="`true`", live=True
    )
    x_forwarded: bool | None = key(
        values.boolean,
        "The same by `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.",
        None,
        shown="`false`",
        live=True,
    )
    max_body_size: int | None = key(
        values.integer(0, 2**63 - 1),
        "Larger bodies of requests are refused, in octets; 0: none is.",
        None,
        shown="`0`",
        live=True,
    )
    flow_timeout_seconds: float | None = key(
        values.seconds(0.1, LONGEST_SECONDS),
        "Datagrams of one client belong together until none has come for so long.",
        None,
        shown="`60.0`",
        live=True,
    )
    max_datagram_size: int | None = key(
        values.integer(1, 65_507), "Larger datagrams are dropped, in octets.", None, shown="`65507`", live=True
    )

    @property
    def url(self) -> ServiceUrl:
        """Where it listens or connects to."""
        url = self.listen or self.connect
        assert url is not None
        return url


@attrs.frozen(kw_only=True)
class DnsConfig:
    """`[[dns]]`: addresses with services are names of the DNS here; see [dns.md](dns.md)."""

    listen: ServiceUrl = key(
        values.dns_listen_url, "Where questions come, over UDP and TCP: `udp://HOST:PORT`; port 0: any port."
    )
    zone: str = key(values.dns_zone, "What names end with: `orders-db` is `orders-db.van`.", "van")
    name: str = key(values.name, "Name in the log; unique.", "", shown="from the URL")
    ttl_seconds: int = key(values.integer(0, LONGEST_SECONDS), "How long clients may keep an answer.", 30)
    on_demand: bool = key(
        values.boolean,
        "Open a port for an address that has a server somewhere and no port here, when its name is asked for.",
        default=True,
    )
    pool: IPv4Network | IPv6Network = key(
        values.address_pool,
        "Addresses of this machine where such ports are opened, each name at one of its own.",
        IPv4Network("127.64.0.0/16"),
        shown='`"127.64.0.0/16"`',
    )
    max_ports: int = key(values.integer(1, 10_000), "So many such ports at a time.", 256)
    idle_timeout_seconds: float = key(
        values.seconds(1, LONGEST_SECONDS),
        "Such a port is closed when its name was not asked for, and nobody is connected, for so long.",
        3600.0,
    )
