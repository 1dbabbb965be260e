"""The schemes of services: what each is served by, and which keys of `[[service]]` mean something for it.

A row names classes of `van.adaptors`, which are imported when a service has the scheme. They are called with the
router, the service's name, its address and a log, and with those keys of the row that the site file has: by the key's
name, without `_seconds`. So a key without a value in the file has the default of the class.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Final

import attrs

# For ports, whatever is spoken there.
PORT_KEYS: Final = ("always_open",)
# Where TLS may be spoken.
PORT_TLS_KEYS: Final = ("ssl_profile", "authenticate_peer")
DIAL_TLS_KEYS: Final = ("ssl_profile", "verify_hostname")
HTTP_KEYS: Final = ("host_header", "timeout_seconds", "aggregate", "forwarded", "idle_timeout_seconds")
UDP_KEYS: Final = ("flow_timeout_seconds", "max_datagram_size")


@attrs.frozen(kw_only=True)
class Kind:
    """A scheme.

    module: with the classes `listening` and `connecting`, the latter empty where there is none.
    tls: whether TLS is spoken, None when an `ssl_profile` says so. alpn: what is offered there.
    streams: whether its transport is TCP, else UDP. always_open: whether ports are open when nobody can be reached,
    for want of the key; None where they always are. needs_address: else the address may be left out.
    keys, listen_keys, connect_keys: those that the classes are called with.
    """

    module: str
    listening: str
    connecting: str = ""
    tls: bool | None = None
    alpn: tuple[str, ...] = ()
    streams: bool = True
    always_open: bool | None = False
    needs_address: bool = True
    keys: tuple[str, ...] = ()
    listen_keys: tuple[str, ...] = ()
    connect_keys: tuple[str, ...] = ()

    def allowed(self, listening: bool) -> frozenset[str]:
        """The keys that mean something, beside those that every service has."""
        found = {*self.keys, *(self.listen_keys if listening else self.connect_keys)}
        if self.streams:
            found.add("max_connections")
            if not listening:
                found.add("connect_timeout_seconds")
        if self.tls is not False:
            found.update(PORT_TLS_KEYS if listening else DIAL_TLS_KEYS)
            if not self.alpn:
                found.add("alpn")
        if listening and self.always_open is not None:
            found.update(PORT_KEYS)
        return frozenset(found)

    def settings(self, entry: Any, listening: bool) -> dict[str, Any]:
        """What the class is called with, of an entry."""
        names = (*self.keys, *(self.listen_keys if listening else self.connect_keys))
        given = {name.removesuffix("_seconds"): getattr(entry, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def make(self, listening: bool) -> Any:
        """The class of services of this scheme."""
        module = importlib.import_module(self.module)
        return getattr(module, self.listening if listening else self.connecting)


_TCP: Final = Kind(
    module="van.adaptors.tcp.service",
    listening="TcpListeningService",
    connecting="TcpConnectingService",
    keys=("idle_timeout_seconds", "proxy_protocol"),
)
_HTTP: Final = Kind(
    module="van.adaptors.http.http1_service",
    listening="Http1ListeningService",
    connecting="Http1ConnectingService",
    alpn=("http/1.1",),
    always_open=True,
    keys=HTTP_KEYS,
)
_MQTT: Final = Kind(
    module="van.adaptors.mqtt.service",
    listening="MqttListeningService",
    alpn=("mqtt",),
    always_open=None,
    needs_address=False,
)

KINDS: Final[dict[str, Kind]] = {
    "tcp": _TCP,
    "tls": attrs.evolve(_TCP, tls=True),
    "http": _HTTP,
    "https": attrs.evolve(_HTTP, tls=True),
    "http2": attrs.evolve(
        _HTTP,
        module="van.adaptors.http.http2_service",
        listening="Http2ListeningService",
        connecting="Http2ConnectingService",
        alpn=("h2",),
    ),
    "udp": Kind(
        module="van.adaptors.udp.service",
        listening="UdpListeningService",
        connecting="UdpConnectingService",
        tls=False,
        streams=False,
        always_open=None,
        keys=UDP_KEYS,
    ),
    "mqtt": _MQTT,
    "mqtts": attrs.evolve(_MQTT, tls=True),
}


def schemes(listening: bool) -> list[str]:
    """The schemes of services that listen, or connect."""
    return [name for name, kind in KINDS.items() if (listening or kind.connecting) and _is_there(kind)]


def _is_there(kind: Kind) -> bool:
    try:
        return importlib.util.find_spec(kind.module) is not None
    except ModuleNotFoundError:
        return False
