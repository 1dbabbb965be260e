"""The sockets of services: ports that are open while their address can be reached, and connections to servers.

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

import errno
import os
import random
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from ipaddress import ip_address
from logging import DEBUG
from typing import TYPE_CHECKING, Final, Protocol

import trio

from van.adaptors.service import ConnectingService, DialFailed, MakeAdaptor, PeerInfo
from van.adaptors.tcp.proxy_protocol import SHORTEST_HEADER, ProxiedPeer, read_proxy_header, size_of_header
from van.amqp.errors import DecodeError
from van.routing.adaptor import Adaptor
from van.transport.backoff import Backoff
from van.transport.dial import CONNECT_TIMEOUT
from van.transport.driver import run_adaptor
from van.transport.errors import TransportError, os_reason
from van.transport.light import Acceptor, LightConnect, LightDriver, local_address, numeric_address, set_options_of
from van.transport.limits import ConnectionLimit, Repeated
from van.transport.listener import ACCEPT_RETRY_SECONDS, INITIAL_HANDSHAKE_TIMEOUT_SECONDS, REPEAT_SECONDS, sole
from van.transport.poller import Poller, elsewhere, rung_by, the_poller
from van.transport.service_url import ServiceUrl
from van.transport.tcp import address_text, bind_tcp, keep_alive, open_tcp, peer_text
from van.transport.tls import (
    ClientCertificates,
    SslProfile,
    TlsConfigError,
    TlsCredentials,
    TlsStream,
    accept_tls,
    connect_tls,
    subject_text,
)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from van.routing.router import Router

SETTLE_SECONDS: Final = 2.0
"""How long a port stays open when its address cannot be reached any more: a server that is started anew, or a path that
changes, is no reason to turn clients away at the door."""

SIMULTANEOUS_DIALS: Final = 64
"""Connections to one server that are being made at a time. A server's queue of those not yet accepted is seldom longer
than 128, and beyond that a connection takes seconds."""

WAITING_DIALS: Final = 1024
"""Connections that wait for their turn to be made; beyond that they fail at once, and their clients learn it."""


class Served(Protocol):
    """A service, as far as its sockets are concerned."""

    name: str
    address: str
    router: Router

    def stop(self) -> None:
        """Take no more."""


class Accepts(Served, Protocol):
    """A service that has a port: a `ListeningService` is one."""

    on_reachable: Callable[[], None]

    @property
    def reachable(self) -> bool:
        """Whether somebody receives at the address."""

    def accept(self, info: PeerInfo) -> Adaptor:
        """An adaptor for a connection that was accepted."""


class ServiceConnection:
    """A connection of a service that stands: `number` is what it is called in this site."""

    __slots__ = ("adaptor", "info", "number", "opened_at")

    def __init__(self, adaptor: Adaptor, info: PeerInfo, number: int, opened_at: float) -> None:
        self.adaptor = adaptor
        self.info = info
        self.number = number
        self.opened_at = opened_at


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

    def _drive_light(self, descriptor: int, adaptor: Adaptor, info: PeerInfo, poller: Poller) -> LightDriver:
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

        driver = LightDriver(descriptor, adaptor, self._wake_touched, poller, over)
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


class ServicePort(ServiceEndpoint):
    """A port for a listening service. `await bind()`, then `await run()`.

    Once it was bound, `port` is the real one where the URL has port 0, and stays the same. `always_open`: whether
    anybody can be reached or not. proxy_protocol: connections begin with a header by which a proxy names the client.
    """

    def __init__(
        self,
        service: Accepts,
        url: ServiceUrl,
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        credentials: TlsCredentials | None = None,
        tls: bool = False,
        client_certificates: ClientCertificates = ClientCertificates.NONE,
        alpn: Iterable[str] = (),
        max_connections: int | None = None,
        router_limit: ConnectionLimit | None = None,
        on_over: Callable[[], None] = lambda: None,
        new_number: Callable[[], int] = lambda: 0,
        always_open: bool = False,
        handshake_timeout: float = INITIAL_HANDSHAKE_TIMEOUT_SECONDS,
        proxy_protocol: bool = False,
        guarded: bool = True,
    ) -> None:
        super().__init__(
            service,
            url,
            wake_touched,
            logger,
            credentials=credentials,
            tls=tls,
            alpn=alpn,
            max_connections=max_connections,
            router_limit=router_limit,
            on_over=on_over,
            new_number=new_number,
            guarded=guarded,
        )
        self._listening = service
        self._client_certificates = client_certificates
        self._always_open = always_open
        self._handshake_timeout = handshake_timeout
        self._proxy_protocol = proxy_protocol
        self._port = url.port
        self._sockets: list[trio.SocketListener] = []
        self._acceptors: list[Acceptor] = []
        self._changed = trio.Event()
        self._running = False
        self._backoff = Backoff(random.random)
        self._accept_errors = Repeated(REPEAT_SECONDS)
        self._said = ""
        service.on_reachable = self._look

    @property
    def port(self) -> int:
        return self._port

    @property
    def addresses(self) -> list[str]:
        return [address_text(listening.socket.getsockname()) for listening in self._sockets]

    @property
    def status(self) -> str:
        return "up" if self._sockets else "down"

    def _look(self) -> None:
        """Have a look whether the port is wanted."""
        self._changed.set()

    def _is_wanted(self) -> bool:
        return self._always_open or self._listening.reachable

    async def bind(self) -> None:
        self.check()
        await self._bind()
        if not self._is_wanted():
            self._unbind()

    def inherit(self, other: ServiceEndpoint) -> None:
        if isinstance(other, ServicePort):
            self._port = other.port
            # Descriptors of its own: the other's tasks wait for theirs until they have heard that it stops.
            self._sockets = other.copies()
        super().inherit(other)

    def copies(self) -> list[trio.SocketListener]:
        """The sockets that are open, with descriptors of their own."""
        return [trio.SocketListener(listening.socket.dup()) for listening in self._sockets]

    async def _bind(self) -> None:
        self._sockets = await bind_tcp(self.url.host, self._port)
        self._port = self._sockets[0].socket.getsockname()[1]

    def _unbind(self) -> None:
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            acceptor.end()
        sockets, self._sockets = self._sockets, []
        for listening in sockets:
            listening.socket.close()

    def stop(self) -> None:
        """Close the port. The service goes on for the connections that there are, and stops behind the last of them."""
        self._stopping.set()
        self._unbind()
        self._changed.set()
        if not self._running:
            self._service.stop()

    def _context(self) -> ssl.SSLContext:
        if self._credentials is None:
            raise TlsConfigError(f"{self.url}: a port with TLS needs an ssl_profile")
        return self._credentials.server_context(self._client_certificates, alpn=self._alpn)

    # -- the port

    async def run(self) -> None:
        self._running = True
        try:
            with self._serving:
                async with trio.open_nursery() as connections:
                    while not self._stopping.is_set():
                        await self._open(connections)
                    await self._until_light_over()
        finally:
            self._running = False
            self._unbind()
            self._cut_light()
            self._service.stop()
            self._wake_touched()

    async def _open(self, connections: trio.Nursery) -> None:
        """Open the port once, when it is wanted, until it is not."""
        if not self._sockets:
            while not self._is_wanted() and not self._stopping.is_set():
                await self._change()
            if self._stopping.is_set() or not await self._try_to_bind():
                return
        self.message = self._said = ""
        self._backoff.reset()
        self._logger.info("service listening", address=self._service.address, listening=self.addresses)
        poller = the_poller()
        if poller is None or self._tls or self._proxy_protocol:
            async with trio.open_nursery() as accepting:
                with rung_by(*(listening.socket.fileno() for listening in self._sockets)):
                    for listening in self._sockets:
                        accepting.start_soon(self._accept, listening, connections)
                    await self._until_unwanted()
                    accepting.cancel_scope.cancel()
        else:
            self._accept_by(poller, connections)
            await self._until_unwanted()
        self._unbind()
        if not self._stopping.is_set():
            self.message = "nobody receives at the address"
            self._logger.info("service not listening", address=self._service.address, reason=self.message)

    async def _try_to_bind(self) -> bool:
        try:
            await self._bind()
        except TransportError as error:
            self.message = str(error)
            if self.message != self._said:
                self._said = self.message
                self._logger.error("service cannot listen, trying again", reason=self.message)  # noqa: TRY400
            with trio.move_on_after(self._backoff.next_delay()):
                await self._stopping.wait()
            return False
        if self._stopping.is_set():
            self._unbind()
            return False
        return True

    async def _change(self) -> None:
        """Wait until there is a reason to look again."""
        await self._changed.wait()
        self._changed = trio.Event()

    async def _until_unwanted(self) -> None:
        """Wait until the address could not be reached for a while, or `stop`."""
        while not self._stopping.is_set():
            if self._is_wanted():
                await self._change()
                continue
            with trio.move_on_after(SETTLE_SECONDS) as waiting:
                while not self._is_wanted() and not self._stopping.is_set():
                    await self._change()
            if waiting.cancelled_caught:
                return

    async def _accept(self, listening: trio.SocketListener, connections: trio.Nursery) -> None:
        """Accept for ever; a lack of descriptors or memory is waited out, never fatal."""
        while True:
            try:
                stream = await listening.accept()
            except trio.ClosedResourceError:
                return
            except OSError as error:
                self._cannot_accept(error)
                await trio.sleep(ACCEPT_RETRY_SECONDS)
                continue
            if self._admit(lambda stream=stream: peer_text(stream)):  # type: ignore[misc]
                stream.socket.close()
            else:
                connections.start_soon(self._serve, stream)

    def _cannot_accept(self, error: OSError) -> None:
        suppressed = self._accept_errors.due(trio.current_time())
        if suppressed is not None:
            code = errno.errorcode.get(error.errno or 0, "")
            self._logger.error(
                "accept failed, trying again", reason=os_reason(error), errno=code, suppressed=suppressed
            )

    def _accept_by(self, poller: Poller, connections: trio.Nursery) -> None:
        """Have the poller accept: a connection that waits for nothing needs no task."""
        # Where a client has come to, if that is the same for all.
        local = self._sockets[0].socket.getsockname()[:2]
        only = len(self._sockets) == 1 and not ip_address(local[0].partition("%")[0]).is_unspecified

        def accepted(descriptor: int, peer: tuple[str, int], now: float) -> None:
            if self._admit(lambda: address_text(peer)):
                os.close(descriptor)
                return
            try:
                info = PeerInfo(peer, local if only else local_address(descriptor))
                self._listening.router.now = now
                adaptor = self._listening.accept(info)
            except Exception as fault:  # noqa: BLE001 - it ends this connection
                self._release()
                os.close(descriptor)
                if not isinstance(fault, OSError):
                    self._tell_fault(fault, peer)
                return
            if adaptor.light:
                # Most clients speak first, and have done so by now.
                self._drive_light(descriptor, adaptor, info, poller).on_readable(now)
            else:
                connections.start_soon(self._drive_socket, socket.socket(fileno=descriptor), adaptor, info)

        def failed(acceptor: Acceptor, error: OSError) -> None:
            self._cannot_accept(error)
            connections.start_soon(self._begin_again, acceptor)

        for listening in self._sockets:
            descriptor = listening.socket.fileno()
            acceptor = Acceptor(descriptor, poller, self._wake_touched, accepted, failed)
            set_options_of(descriptor)
            self._acceptors.append(acceptor)
            acceptor.begin()

    async def _begin_again(self, acceptor: Acceptor) -> None:
        with trio.move_on_after(ACCEPT_RETRY_SECONDS):
            await self._stopping.wait()
        acceptor.begin()

    # -- one connection

    async def _serve(self, tcp: trio.SocketStream) -> None:
        try:
            # None: it was gone before anybody looked.
            info = _info_or_none(tcp)
            if info is not None:
                await self._guard(partial(self._serve_one, tcp, info), info.peer)
        finally:
            self._release()
            tcp.socket.close()

    async def _serve_one(self, tcp: trio.SocketStream, info: PeerInfo) -> None:
        keep_alive(tcp)
        stream: trio.abc.Stream = tcp
        if self._tls or self._proxy_protocol:
            prepared = await self._prepare(tcp, info)
            if prepared is None:
                return
            stream = prepared
        # Adaptors reckon their first deadline from it.
        self._listening.router.now = trio.current_time()
        await self._drive(stream, self._listening.accept(info), info)

    async def _prepare(self, tcp: trio.SocketStream, info: PeerInfo) -> trio.abc.Stream | None:
        """What stands in front of the protocol: a proxy's header, and TLS."""
        peer = address_text(info.peer)
        stage = "the header of the PROXY protocol"
        try:
            with trio.move_on_after(self._handshake_timeout), elsewhere():
                if self._proxy_protocol:
                    proxied = await read_proxied(tcp)
                    info.peer, info.local = proxied.client or info.peer, proxied.local or info.local
                if not self._tls:
                    return tcp
                stage = "the TLS handshake"
                secured = await accept_tls(tcp, self._context())
                _describe(info, secured)
                return secured
            reason = f"not through {stage} within {self._handshake_timeout:g} s"
        except TransportError as error:
            reason = str(error)
        except DecodeError as error:
            reason = error.description
        except trio.BrokenResourceError:
            reason = f"the connection broke in {stage}"
        self.refused += 1
        self._logger.info("connection refused", peer=peer, reason=reason)
        return None


async def read_proxied(stream: trio.abc.ReceiveStream) -> ProxiedPeer:
    """Read a header of the PROXY protocol, and nothing behind it. Raises DecodeError for anything else."""
    data = b""
    size = SHORTEST_HEADER
    while True:
        while len(data) < size:
            more = await stream.receive_some(size - len(data))
            if not more:
                raise DecodeError("the end before a header of the PROXY protocol was whole")
            data += more
        found = read_proxy_header(data)
        if found is not None:
            return found
        size = size_of_header(data)


class _Turns:
    """So many at a time, the others in the order in which they came. Who need not wait gives no turn away."""

    __slots__ = ("_free", "_queue")

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[trio.Event] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def take(self) -> bool:
        """Take a turn if there is one; then `give_back` has to follow."""
        if self._free > 0:
            self._free -= 1
            return True
        return False

    def give_back(self) -> None:
        """The turn is over."""
        self._pass_on()

    async def __aenter__(self) -> None:
        if self.take():
            return
        turn = trio.Event()
        self._queue.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self._pass_on()
            else:
                self._queue.remove(turn)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        if self._queue:
            self._queue.popleft().set()
        else:
            self._free += 1


class ServiceDialer(ServiceEndpoint):
    """Connects to the server of a connecting service, whenever that dials."""

    def __init__(
        self,
        service: ConnectingService,
        url: ServiceUrl,
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        credentials: TlsCredentials | None = None,
        tls: bool = False,
        verify_hostname: bool = True,
        alpn: Iterable[str] = (),
        max_connections: int | None = None,
        router_limit: ConnectionLimit | None = None,
        on_over: Callable[[], None] = lambda: None,
        new_number: Callable[[], int] = lambda: 0,
        connect_timeout: float = CONNECT_TIMEOUT,
        guarded: bool = True,
    ) -> None:
        super().__init__(
            service,
            url,
            wake_touched,
            logger,
            credentials=credentials or (TlsCredentials(SslProfile("default")) if tls else None),
            tls=tls,
            alpn=alpn,
            max_connections=max_connections,
            router_limit=router_limit,
            on_over=on_over,
            new_number=new_number,
            guarded=guarded,
        )
        self._verify_hostname = verify_hostname
        self._connect_timeout = connect_timeout
        self._turns = _Turns(SIMULTANEOUS_DIALS)
        # Where the server is, if that needs no look-up; connections that the poller makes, and the latest end of each.
        self._numeric = numeric_address(url.host, url.port)
        self._connects: dict[LightConnect, float] = {}
        self._watched = False
        self._nursery: trio.Nursery | None = None
        # What was dialled before `run`.
        self._early: list[tuple[MakeAdaptor, DialFailed, tuple[str, ...]]] = []
        service.dial = self._dial
        service.later = self._later

    @property
    def status(self) -> str:
        return "down" if self._stopping.is_set() else "up"

    def _context(self, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        assert self._credentials is not None
        return self._credentials.client_context(verify_hostname=self._verify_hostname, alpn=alpn or self._alpn)

    async def run(self) -> None:
        try:
            with self._serving:
                async with trio.open_nursery() as self._nursery:
                    for early in self._early:
                        self._nursery.start_soon(self._attempt, *early)
                    self._early.clear()
                    await self._stopping.wait()
                await self._until_light_over()
        finally:
            self._nursery = None
            self._cut_light()

    def _dial(self, connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...] = ()) -> None:
        """What the service calls (`Dial`)."""
        if self._stopping.is_set():
            failed("the service is ending")
        elif self._nursery is None:
            self._early.append((connected, failed, alpn))
        elif not self._dial_light(self._nursery, connected, failed):
            self._nursery.start_soon(self._attempt, connected, failed, alpn)

    def _dial_light(self, nursery: trio.Nursery, connected: MakeAdaptor, failed: DialFailed) -> bool:
        """Have the poller connect, where that needs neither a look-up nor TLS, and nobody has to wait."""
        poller = the_poller()
        if poller is None or self._tls or self._numeric is None or not self._turns.take():
            return False
        if not self.limit.acquire():
            self._turns.give_back()
            return False
        if not self._router_limit.acquire():
            self.limit.release()
            self._turns.give_back()
            return False

        def done(connect: LightConnect, sock: socket.socket, number: int) -> None:
            self._connects.pop(connect, None)
            self._turns.give_back()
            try:
                if number:
                    raise OSError(number, os.strerror(number))
                info = PeerInfo(where, sock.getsockname()[:2])
            except OSError as error:
                poller.forget(sock.fileno())
                sock.close()
                self._release()
                late = f"not connected within {self._connect_timeout:g} s: still at connecting"
                words = f"cannot connect to {self.url.host_and_port}: {os_reason(error)}"
                self._tell(failed, f"{self.url}: {late if number == errno.ETIMEDOUT else words}")
                return
            self.message = ""
            self._service.router.now = trio.current_time()
            try:
                adaptor = connected(info)
            except Exception as fault:  # noqa: BLE001 - it ends this connection
                poller.forget(sock.fileno())
                sock.close()
                self._release()
                self._tell_fault(fault, info.peer)
                return
            if adaptor.light:
                self._drive_light(sock.detach(), adaptor, info, poller)
            else:
                poller.remove(sock.fileno())
                nursery.start_soon(self._drive_socket, sock, adaptor, info)

        family, where = self._numeric
        try:
            connect = LightConnect(family, where, poller, self._wake_touched, done)
        except OSError:
            # The other way has the words for it.
            self._release()
            self._turns.give_back()
            return False
        self._connects[connect] = trio.current_time() + self._connect_timeout
        if not self._watched:
            self._watched = True
            nursery.start_soon(self._watch_connects)
        return True

    async def _watch_connects(self) -> None:
        """Give up connections that take too long, as long as some are being made."""
        while self._connects:
            with trio.move_on_after(min(1.0, self._connect_timeout)):
                await self._stopping.wait()
            now = trio.current_time()
            for connect, until in tuple(self._connects.items()):
                if now >= until or self._stopping.is_set():
                    connect.give_up()
            self._wake_touched()
        self._watched = False

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        """What the service calls (`Later`): nothing happens any more when it is ending."""
        if self._nursery is not None and not self._stopping.is_set():
            self._nursery.start_soon(self._call_later, seconds, function)

    async def _call_later(self, seconds: float, function: Callable[[], None]) -> None:
        with trio.move_on_after(seconds):
            await self._stopping.wait()
            return
        function()
        self._wake_touched()

    async def _attempt(self, connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...]) -> None:
        reason = self._admit(lambda: str(self.url))
        if reason:
            self._tell(failed, reason)
            return
        stood: list[Adaptor] = []
        try:
            await self._guard(partial(self._connect, connected, failed, alpn, stood), (self.url.host, self.url.port))
        finally:
            if not stood:
                self._release()

    async def _connect(
        self, connected: MakeAdaptor, failed: DialFailed, alpn: tuple[str, ...], stood: list[Adaptor]
    ) -> None:
        """Connect, and drive the connection. It is put into `stood` when it goes on by itself, without this task."""
        if self._turns.waiting >= WAITING_DIALS:
            self._tell(failed, f"{self.url}: too many connections are being made")
            return
        tcp: trio.SocketStream | None = None
        stream: trio.abc.Stream | None = None
        stage = "connecting"
        reason = ""
        try:
            with trio.move_on_after(self._connect_timeout), elsewhere():
                async with self._turns:
                    stream = tcp = await open_tcp(self.url.host, self.url.port)
                    info = _info(tcp)
                    if self._tls:
                        stage = "the TLS handshake"
                        stream = None
                        secured = await connect_tls(tcp, self._context(alpn), self.url.host)
                        _describe(info, secured)
                        stream = secured
        except (TransportError, TlsConfigError) as error:
            reason = f"{self.url}: {error}"
        except OSError as error:
            reason = f"{self.url}: {os_reason(error)}"
        finally:
            if stream is None and tcp is not None:
                tcp.socket.close()
        if stream is None:
            reason = reason or f"{self.url}: not connected within {self._connect_timeout:g} s: still at {stage}"
            self._tell(failed, reason)
            return
        self.message = ""
        assert tcp is not None
        poller = the_poller()
        try:
            self._service.router.now = trio.current_time()
            adaptor = connected(info)
            if stream is tcp and adaptor.light and poller is not None:
                stood.append(adaptor)
                self._drive_light(tcp.socket.detach(), adaptor, info, poller)
                self._wake_touched()
            else:
                await self._drive(stream, adaptor, info)
        finally:
            if not stood:
                tcp.socket.close()

    def _tell(self, failed: DialFailed, reason: str) -> None:
        """A connection could not be made: the service tells whoever waits for it."""
        self.message = reason
        failed(reason)
        self._wake_touched()


def _info(tcp: trio.SocketStream) -> PeerInfo:
    """Raises OSError when the connection is gone already."""
    return PeerInfo(tcp.socket.getpeername()[:2], tcp.socket.getsockname()[:2])


def _info_or_none(tcp: trio.SocketStream) -> PeerInfo | None:
    try:
        return _info(tcp)
    except OSError:
        return None


def _describe(info: PeerInfo, stream: TlsStream) -> None:
    tls = stream.tls
    info.encrypted = True
    info.tls_version = tls.version() or ""
    cipher = tls.cipher()
    info.tls_cipher = cipher[0] if cipher is not None else ""
    info.alpn = tls.selected_alpn_protocol() or ""
    certificate = tls.getpeercert()
    info.tls_subject = subject_text(certificate) if certificate else ""
