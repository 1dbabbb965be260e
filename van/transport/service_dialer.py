"""Connections to the servers of connecting services."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Unpack

import trio

from van.adaptors.service import ConnectingService, DialFailed, MakeAdaptor, PeerInfo
from van.routing.adaptor import Adaptor
from van.transport.dial import CONNECT_TIMEOUT
from van.transport.errors import TransportError, os_reason
from van.transport.light import LightConnect, numeric_address
from van.transport.poller import elsewhere, the_poller
from van.transport.service_endpoint import EndpointOptions, ServiceEndpoint, describe, info_of
from van.transport.service_url import ServiceUrl
from van.transport.tcp import open_tcp
from van.transport.tls import SslProfile, TlsConfigError, TlsCredentials, connect_tls

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SIMULTANEOUS_DIALS: Final = 64
"""Connections to one server that are being made at a time. A server's queue of those not yet accepted is seldom longer
than 128, and beyond that a connection takes seconds."""

WAITING_DIALS: Final = 1024
"""Connections that wait for their turn to be made; beyond that they fail at once, and their clients learn it."""



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
        verify_hostname: bool = True,
        connect_timeout: float = CONNECT_TIMEOUT,
        **options: Unpack[EndpointOptions],
    ) -> None:
        if options.get("tls") and options.get("credentials") is None:
            options["credentials"] = TlsCredentials(SslProfile("default"))
        super().__init__(service, url, wake_touched, logger, **options)
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
                self._drive_light(sock, adaptor, info, poller)
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
                    info = info_of(tcp)
                    if self._tls:
                        stage = "the TLS handshake"
                        stream = None
                        secured = await connect_tls(tcp, self._context(alpn), self.url.host)
                        describe(info, secured)
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
