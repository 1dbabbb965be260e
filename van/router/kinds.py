"""The schemes of services: what each is served by, and which keys of `[[service]]` mean something for it.

A row names classes of `van.adaptors`, which are imported when a service has the scheme. They are called with the
router, the service's name, its address and a log, and with those keys of the row that the site file has, each by the
keyword in the row. So a key without a value in the file has the default of the class.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import attrs

# For ports, whatever is spoken there.
PORT_KEYS: Final = ("always_open",)
# Where a port may lead to several addresses.
SEVERAL_KEYS: Final = ("addresses", "multi_address_strategy")
# Where TLS may be spoken.
PORT_TLS_KEYS: Final = ("ssl_profile", "authenticate_peer")
DIAL_TLS_KEYS: Final = ("ssl_profile", "verify_hostname")


@attrs.frozen(kw_only=True)
class Kind:
    """A scheme.

    module: with the classes `listening` and `connecting`, perhaps in modules below; no `connecting`: there is none.
    tls: whether TLS is spoken, None when an `ssl_profile` says so. alpn: what is offered there; listen_alpn: what ports
    offer in place of that.
    streams: whether its transport is TCP, else UDP. always_open: whether ports are open when nobody can be reached,
    for want of the key; None where they always are. needs_address: else the address may be left out.
    shared: ports with the same address lead to one service. keys: those that the classes are called with, and the
    keyword for each; listen_keys, connect_keys: those of one of them. pools: connections to the server are used again
    and again, and the class bounds their number. several: a port may lead to several addresses.
    """

    module: str
    listening: str
    connecting: str = ""
    tls: bool | None = None
    alpn: tuple[str, ...] = ()
    listen_alpn: tuple[str, ...] = ()
    streams: bool = True
    always_open: bool | None = False
    needs_address: bool = True
    shared: bool = False
    pools: bool = False
    several: bool = False
    keys: dict[str, str] = attrs.field(factory=dict)
    listen_keys: dict[str, str] = attrs.field(factory=dict)
    connect_keys: dict[str, str] = attrs.field(factory=dict)

    def keywords(self, listening: bool) -> dict[str, str]:
        """The keys that the class is called with, and the keyword for each."""
        return {**self.keys, **(self.listen_keys if listening else self.connect_keys)}

    def allowed(self, listening: bool) -> frozenset[str]:
        """The keys that mean something, beside those that every service has."""
        found = set(self.keywords(listening))
        if self.streams:
            found.add("max_connections")
            if not listening:
                found.add("connect_timeout_seconds")
        if self.tls is not False:
            found.update(PORT_TLS_KEYS if listening else DIAL_TLS_KEYS)
            if not self.alpn:
                found.add("alpn")
        if listening and self.streams:
            found.add("proxy_protocol")
        if listening and self.always_open is not None:
            found.update(PORT_KEYS)
        if listening and self.several:
            found.update(SEVERAL_KEYS)
        return frozenset(found)

    def settings(self, entry: Any, listening: bool) -> dict[str, Any]:
        """What the class is called with, of an entry."""
        given = {keyword: getattr(entry, name) for name, keyword in self.keywords(listening).items()}
        settings = {keyword: value for keyword, value in given.items() if value is not None}
        if "proxy_protocol" in settings:
            # Clients' proxies may say either version.
            settings["proxy_protocol"] = self.reads_proxies(entry) if listening else int(entry.proxy_protocol[1:])
        return settings

    def reads_proxies(self, entry: Any) -> bool:
        """Whether the class reads what clients' proxies say, else whoever accepts does: it comes before TLS."""
        return "proxy_protocol" in self.keys and not self.tls and entry.ssl_profile is None

    def offers(self, listening: bool) -> tuple[str, ...]:
        """The protocols that TLS offers to agree upon."""
        return self.listen_alpn if listening and self.listen_alpn else self.alpn

    def make(self, listening: bool) -> Any:
        """The class of services of this scheme."""
        module, _, name = f"{self.module}.{self.listening if listening else self.connecting}".rpartition(".")
        return getattr(importlib.import_module(module), name)


_TCP: Final = Kind(
    module="van.adaptors.tcp",
    listening="listening.TcpListeningService",
    connecting="connecting.TcpConnectingService",
    several=True,
    keys={"idle_timeout_seconds": "idle_timeout", "proxy_protocol": "proxy_protocol"},
)
# What a client of HTTP gets that can have the choice.
_EITHER_HTTP: Final = ("h2", "http/1.1")
_HTTP: Final = Kind(
    # Ports take either version; the scheme says which one a server speaks.
    module="van.adaptors.http",
    listening="http2_service.Http2ListeningService",
    connecting="http1_service.Http1ConnectingService",
    alpn=("http/1.1",),
    listen_alpn=_EITHER_HTTP,
    always_open=True,
    pools=True,
    keys={"idle_timeout_seconds": "idle_timeout"},
    listen_keys={
        "timeout_seconds": "timeout",
        "aggregate": "aggregate",
        "forwarded": "forwarded",
        "x_forwarded": "x_forwarded",
        "max_body_size": "max_body_size",
    },
    connect_keys={"host_header": "host_header", "max_connections": "max_connections"},
)
_MQTT: Final = Kind(
    module="van.adaptors.mqtt",
    listening="service.MqttService",
    alpn=("mqtt",),
    always_open=None,
    needs_address=False,
    shared=True,
    listen_keys={"authenticate_users": "admit"},
)

KINDS: Final[dict[str, Kind]] = {
    "tcp": _TCP,
    "tls": attrs.evolve(_TCP, tls=True),
    "http": _HTTP,
    "https": attrs.evolve(_HTTP, tls=True),
    "http2": attrs.evolve(_HTTP, connecting="http2_service.Http2ConnectingService", alpn=("h2",)),
    "udp": Kind(
        module="van.adaptors.udp",
        listening="listening.UdpListeningService",
        connecting="connecting.UdpConnectingService",
        tls=False,
        streams=False,
        always_open=None,
        keys={"flow_timeout_seconds": "flow_timeout", "max_datagram_size": "max_datagram_size"},
    ),
    "mqtt": _MQTT,
    "mqtts": attrs.evolve(_MQTT, tls=True),
}


def schemes(listening: bool) -> list[str]:
    """The schemes of services that listen, or connect."""
    return [name for name, kind in KINDS.items() if listening or kind.connecting]
