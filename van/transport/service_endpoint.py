"""What the sockets of all services have in common: their connections, how they are driven, and how they end.

What is said on a connection is the service's business (`van.adaptors.service`): nothing is looked at in front of it,
since on many a protocol the server speaks first. A `ServicePort` accepts for a `ListeningService`, a `ServiceDialer`
connects for a `ConnectingService`. Both have the same shape for whoever runs them:

    run
    ├── one per connection   `stop_serving` cancels them all, `close_all` asks them to end
    └── of a port: open      waits until the port is wanted, binds, and waits until it is not
        └── accept (per socket)

A fault of one connection ends that connection; a port that cannot be bound is tried again.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from logging import DEBUG
from typing import TYPE_CHECKING, Protocol, TypedDict

import trio

from van.adaptors.service import PeerInfo
from van.routing.adaptor import Adaptor
from van.transport.driver import run_adaptor
from van.transport.light import LightDriver
from van.transport.limits import ConnectionLimit, Repeated
from van.transport.listener import REPEAT_SECONDS, sole
from van.transport.poller import Poller
from van.transport.service_url import ServiceUrl
from van.transport.tcp import address_text
from van.transport.tls import TlsCredentials, TlsStream, subject_text

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from van.routing.router import Router


class Served(Protocol):
    """A service, as far as its sockets are concerned."""

    name: str
    address: str
    router: Router

    def stop(self) -> None:
        """Take no more."""


class ServiceConnection:
    """A connection of a service that stands: `number` is what it is called in this site."""

    __slots__ = ("adaptor", "info", "number", "opened_at")

    def __init__(self, adaptor: Adaptor, info: PeerInfo, number: int, opened_at: float) -> None:
        self.adaptor = adaptor
        self.info = info
        self.number = number
        self.opened_at = opened_at


class EndpointOptions(TypedDict, total=False):
    """What every `ServiceEndpoint` can be told: see there."""

    credentials: TlsCredentials | None
    tls: bool
    alpn: Iterable[str]
    max_connections: int | None
    router_limit: ConnectionLimit | None
    on_over: Callable[[], None]
    new_number: Callable[[], int]
    guarded: bool


class ServiceEndpoint:
    """What a port and a dialler have in common: the connections of one service, and how they end.

    `status` is `up` or `down`, `message` says the last trouble in words. `max_connections` bounds those of this
    service, `router_limit` those of the router; `opened` counts those that there ever were, `open` has those that
    stand. on_over is called when a connection has ended, new_number when one begins. `guarded=False` lets exceptions of
    one connection end everything: for tests.
    """

    def __init__(
        self,
        service: Served,
        url: ServiceUrl,
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        credentials: TlsCredentials | None = None,
        tls: bool = False,
        alpn: Iterable[str] = (),
        max_connections: int | None = None,
        router_limit: ConnectionLimit | None = None,
        on_over: Callable[[], None] = lambda: None,
        new_number: Callable[[], int] = lambda: 0,
        guarded: bool = True,
    ) -> None:
        self.url = url
        self.name = service.name
        self.limit = ConnectionLimit(max_connections)
        self.open: dict[Adaptor, ServiceConnection] = {}
        self.message = ""
        self.opened = 0
        self.refused = 0
        self.failed = 0
        self._service = service
        self._wake_touched = wake_touched
        self._logger = logger.bind(service=service.name)
        self._credentials = credentials
        self._tls = tls
        self._alpn = tuple(alpn)
        self._router_limit = router_limit or ConnectionLimit(None)
        self._on_over = on_over
        self._new_number = new_number
        self._guarded = guarded
        self._serving = trio.CancelScope()
        self._stopping = trio.Event()
        self._full = Repeated(REPEAT_SECONDS)
        # Those that are driven without a task; set when there is none any more; a fault of one that was not guarded.
        self._light: dict[Adaptor, LightDriver] = {}
        self._light_over = trio.Event()
        self._fault: Exception | None = None

    @property
    def connections(self) -> int:
        """How many connections there are now, those in a handshake included."""
        return self.limit.in_use

    @property
    def port(self) -> int:
        """The real port."""
        return self.url.port

    @property
    def addresses(self) -> list[str]:
        """Where it listens now, as `host:port`."""
        return []

    @property
    def status(self) -> str:
        """`up` or `down`."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises TlsConfigError when the certificates cannot be used."""
        if self._tls:
            self._context()

    async def bind(self) -> None:
        """Find out whether `run` will be able to do its work, and take the port.

        Raises TransportError when the port cannot be had, TlsConfigError as `check`.
        """
        self.check()

    def inherit(self, other: ServiceEndpoint) -> None:
        """Take over the port of one that was to listen at the same place, in place of `bind`; it stops."""
        other.stop()

    def _context(self) -> ssl.SSLContext:
        raise NotImplementedError

    async def run(self) -> None:
        """Do it until `stop` was called and the last connection has ended, or until `stop_serving`."""
        raise NotImplementedError

    def stop(self) -> None:
        """Take no more connections. Those that there are live on."""
        self._stopping.set()
        self._service.stop()

    def stop_serving(self) -> None:
        """End everything now."""
        self.stop()
        self._serving.cancel()

    def close_all(self, condition: str, description: str) -> None:
        """Ask every connection to end in the way of its protocol."""
        for adaptor in tuple(self.open):
            adaptor.close(condition, description)
            adaptor.on_wake()
        self._wake_touched()

    # -- connections

    def _admit(self, peer: Callable[[], str]) -> str:
        """Count a connection; or why there may not be one more."""
        full = ""
        if not self.limit.acquire():
            full = f"max_connections of this service ({self.limit.limit}) is reached"
        elif not self._router_limit.acquire():
            self.limit.release()
            full = f"max_connections of the router ({self._router_limit.limit}) is reached"
        if full:
            self.refused += 1
            suppressed = self._full.due(trio.current_time())
            if suppressed is not None:
                self._logger.warning("connection refused", peer=peer(), reason=full, suppressed=suppressed)
        return full

    def _release(self) -> None:
        self.limit.release()
        self._router_limit.release()
        self._on_over()

    async def _drive(self, stream: trio.abc.Stream, adaptor: Adaptor, info: PeerInfo) -> None:
        connection = self._opened(adaptor, info)
        try:
            await run_adaptor(stream, adaptor, self._wake_touched)
        finally:
            self._closed(connection)

    def _drive_light(
        self, connected: int | socket.socket, adaptor: Adaptor, info: PeerInfo, poller: Poller
    ) -> LightDriver:
        """Drive a connection without a task. It was counted, and is no more when it has ended; the socket is taken."""
        connection = self._opened(adaptor, info)

        def over(fault: Exception | None) -> None:
            self._light.pop(adaptor, None)
            self._closed(connection)
            self._release()
            if fault is not None:
                self._tell_fault(fault, info.peer)
            if not self._light:
                self._light_over.set()

        driver = LightDriver(connected, adaptor, self._wake_touched, poller, over)
        if adaptor in self.open:
            self._light[adaptor] = driver
        return driver

    async def _drive_socket(self, connected: socket.socket, adaptor: Adaptor, info: PeerInfo) -> None:
        """Drive a connection that was made by the poller, with a task. It was counted, and is no more when it ends."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(connected))
        try:
            await self._guard(partial(self._drive, stream, adaptor, info), info.peer)
        finally:
            self._release()
            stream.socket.close()

    async def _until_light_over(self) -> None:
        """Wait for the last connection without a task."""
        while self._light:
            self._light_over = trio.Event()
            await self._light_over.wait()
        if self._fault is not None:
            raise self._fault

    def _cut_light(self) -> None:
        for driver in tuple(self._light.values()):
            driver.cut()
        self._wake_touched()

    def _opened(self, adaptor: Adaptor, info: PeerInfo) -> ServiceConnection:
        connection = ServiceConnection(adaptor, info, self._new_number(), trio.current_time())
        self.open[adaptor] = connection
        self.opened += 1
        if self._logger.is_enabled_for(DEBUG):
            self._logger.debug("connection open", peer=address_text(info.peer), alpn=info.alpn)
        return connection

    def _closed(self, connection: ServiceConnection) -> None:
        del self.open[connection.adaptor]
        if self._logger.is_enabled_for(DEBUG):
            self._logger.debug(
                "connection closed",
                peer=address_text(connection.info.peer),
                reason=connection.adaptor.reason or "the end",
                seconds=round(trio.current_time() - connection.opened_at, 3),
            )

    def _tell_fault(self, fault: BaseException, peer: tuple[str, int]) -> None:
        """A fault of ours has ended a connection."""
        self.failed += 1
        if not self._guarded and isinstance(fault, Exception):
            self._fault = fault
        self._logger.error("connection failed, a fault of ours", peer=address_text(peer), exc_info=fault)

    async def _guard(self, serve: Callable[[], Awaitable[None]], peer: tuple[str, int]) -> None:
        """What goes wrong in one connection ends that connection."""
        if not self._guarded:
            await serve()
            return
        try:
            await serve()
        except* Exception as group:  # noqa: BLE001 - it is told
            self._tell_fault(sole(group), peer)


def info_of(tcp: trio.SocketStream) -> PeerInfo:
    """Raises OSError when the connection is gone already."""
    return PeerInfo(tcp.socket.getpeername()[:2], tcp.socket.getsockname()[:2])


def describe(info: PeerInfo, stream: TlsStream) -> None:
    tls = stream.tls
    info.encrypted = True
    info.tls_version = tls.version() or ""
    cipher = tls.cipher()
    info.tls_cipher = cipher[0] if cipher is not None else ""
    info.alpn = tls.selected_alpn_protocol() or ""
    certificate = tls.getpeercert()
    info.tls_subject = subject_text(certificate) if certificate else ""
