"""UDP sockets: bound ports and the sockets of flows, read many datagrams at a time.

What datagrams mean is the services' business (`van.adaptors.udp`, and who answers names): here they are received, sent
and lost. Nothing waits for a socket: a datagram that it does not take is lost, and counted.
"""

from __future__ import annotations

import errno
import random
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final

import trio

from van.transport.backoff import Backoff
from van.transport.errors import TransportError, os_reason
from van.transport.limits import Repeated
from van.transport.listener import REPEAT_SECONDS
from van.transport.poller import Reader, elsewhere, the_poller
from van.transport.service_endpoint import ServiceEndpoint
from van.transport.service_url import ServiceUrl
from van.transport.tcp import address_text
from van.transport.url import bracketed

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from van.adaptors.udp.connecting import UdpConnectingService
    from van.adaptors.udp.flows import Flow
    from van.adaptors.udp.listening import UdpListeningService

# Datagrams that are read from one socket in one turn: some two milliseconds of work, as a batch of frames is.
MAX_BATCH: Final = 64
# ...or so many octets.
MAX_BATCH_OCTETS: Final = 262_144
# One receive: more than any datagram has.
RECEIVE_SIZE: Final = 65_536
# What the kernel is asked to keep while we are busy; it gives less where its limit (rmem_max) is lower.
RECEIVE_BUFFER: Final = 1_048_576
# How often the kernel is asked how many it has dropped, in seconds.
DROPS_SECONDS: Final = 1.0
# A server's name that cannot be resolved is tried again after so many seconds...
RESOLVE_SECONDS: Final = 5.0
# ...and one that was resolved is asked for again when the server refuses, but not more often than this.
RESOLVE_AGAIN_SECONDS: Final = 1.0
# Linux: SO_MEMINFO tells nine counts of a socket, and the last is what was dropped.
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
_REFUSED: Final = frozenset({
    errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN,
})  # fmt: skip
# What a socket says that it has no room: the datagram is lost, as it is in any router.
_FULL: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})

# Linux: which of our addresses a datagram came to, and which an answer goes out from (ip(7), RFC 3542, 6.1).
_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_PKTINFO_SPACE: Final = 64
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound

Take = Callable[[bytes, Any, float], None]
Lost = Callable[[str, float, int], None]


class DatagramSocket(Reader):
    """One UDP socket that is read as its datagrams come.

    `take` is called with each datagram, its peer and the time, `flush` after a batch of them. `lost` is called with a
    reason, the time and a count. `failed` is called with a fault of ours. `refused`: what becomes of an error that
    tells of the peer; it is ignored otherwise. batch: how many are read in one turn.

    A peer is what `send` takes. Where the socket is bound to a wildcard it holds the address of ours that it knows, so
    that answers come from there; `place_of` is its own.
    """

    __slots__ = (
        "_batch",
        "_drops",
        "_drops_at",
        "_failed",
        "_flush",
        "_lost",
        "_refused",
        "_scope",
        "_take",
        "_wild",
        "sock",
    )

    def __init__(
        self,
        sock: socket.socket,
        take: Take,
        lost: Lost,
        flush: Callable[[], None],
        failed: Callable[[Exception], None],
        refused: Callable[[float], None] | None = None,
        *,
        batch: int = MAX_BATCH,
    ) -> None:
        self.sock = sock
        self._batch = batch
        self._failed = failed
        self._take = take
        self._lost = lost
        self._flush = flush
        self._refused = refused
        self._drops = 0
        self._drops_at = 0.0
        self._scope: trio.CancelScope | None = None
        self._wild = sys.platform == "linux" and sock.getsockname()[0] in _WILDCARDS
        if self._wild and sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        elif self._wild:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def place_of(self, peer: Any) -> Any:
        """The socket address of a peer."""
        return peer[0] if self._wild else peer

    def send(self, data: bytes, peer: Any) -> None:
        """Send a datagram to a peer. Raises OSError."""
        if self._wild:
            self.sock.sendmsg((data,), peer[1], 0, peer[0])
        else:
            self.sock.sendto(data, peer)

    def _receive_at_wildcard(self, size: int) -> tuple[bytes, Any]:
        """A datagram, and its peer with the address of ours that it knows. Raises OSError."""
        data, notes, _, place = self.sock.recvmsg(size, _PKTINFO_SPACE)
        for level, kind, info in notes:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                # Whatever interface leads there, and our address.
                return data, (place, ((level, kind, b"\0\0\0\0" + info[4:8] + b"\0\0\0\0"),))
            if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
                return data, (place, ((level, kind, info),))
        return data, (place, ())

    def begin(self, nursery: trio.Nursery) -> None:
        """Have it read, until `close`."""
        poller = the_poller()
        if poller is not None:
            poller.add(self.sock.fileno(), self, self._flush)
        else:
            self._scope = trio.CancelScope()
            nursery.start_soon(self._read)

    async def _read(self) -> None:
        """Read where there is no poller."""
        assert self._scope is not None
        with self._scope, elsewhere():
            while True:
                await trio.lowlevel.wait_readable(self.sock)
                self.on_readable(trio.current_time())
                self._flush()

    def on_readable(self, now: float) -> int:
        """Take what has come, a batch at a time."""
        octets = 0
        try:
            octets = self._receive(now)
        except Exception as fault:  # noqa: BLE001 - told to the service's driver, which ends it
            self._failed(fault)
        if now >= self._drops_at:
            self._drops_at = now + DROPS_SECONDS
            self._count_drops(now)
        return octets

    def _receive(self, now: float) -> int:
        receive = self._receive_at_wildcard if self._wild else self.sock.recvfrom
        take = self._take
        octets = 0
        for _ in range(self._batch):
            try:
                data, peer = receive(RECEIVE_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                # What an earlier datagram of ours has met; the socket goes on.
                if self.sock.fileno() < 0:
                    break
                if self._refused is not None and error.errno in _REFUSED:
                    self._refused(now)
                continue
            take(data, peer, now)
            octets += len(data)
            if octets >= MAX_BATCH_OCTETS:
                break
        return octets

    def _count_drops(self, now: float) -> None:
        """Ask the kernel what it has dropped since the socket was full."""
        if sys.platform != "linux" or self.sock.fileno() < 0:
            return
        with suppress(OSError, struct.error):
            drops = int(_MEMINFO.unpack(self.sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[8])
            if drops > self._drops:
                self._lost("socket full", now, drops - self._drops)
                self._drops = drops

    def on_writable(self) -> None:
        """Nobody waits for that."""

    def fail(self, fault: Exception) -> None:
        """What followed upon reading has failed."""
        self._failed(fault)

    def close(self) -> None:
        """Read no more, and give the port back."""
        descriptor = self.sock.fileno()
        if descriptor < 0:
            return
        poller = the_poller()
        if poller is not None:
            poller.remove(descriptor)
        if self._scope is not None:
            self._scope.cancel()
        self.sock.close()


async def resolve(host: str, port: int, *, passive: bool = False) -> list[tuple[int, Any]]:
    """The families and socket addresses of a name. Raises TransportError (step `name`)."""
    flags = socket.AI_PASSIVE if passive and not host else 0
    try:
        found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_DGRAM, flags=flags)
    except (socket.gaierror, UnicodeError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else "not a possible host name"
        raise TransportError(TransportError.NAME, f'cannot resolve "{host}": {reason}') from error
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


async def bind_udp(host: str, port: int) -> list[socket.socket]:
    """Bind a port on every address of a name; an empty host means all interfaces.

    With port 0 all of them get the same port. Raises TransportError (step `bind`, or `name`).
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in await resolve(host, port, passive=True):
            sock = _datagram_socket(family)
            sockets.append(sock)
            sock.bind((address[0], port, *address[2:]))
            port = sock.getsockname()[1]
    except OSError as error:
        for sock in sockets:
            sock.close()
        where = f"{bracketed(host)}:{port}"
        raise TransportError(TransportError.BIND, f"cannot listen on {where}: {os_reason(error)}") from error
    return sockets


def _datagram_socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


class DatagramEndpoint(ServiceEndpoint):
    """What drives one service: `_flush` when the core has something to say, and its deadlines.

    There are no connections: flows end by themselves. A fault of ours costs the datagrams it was met with.
    """

    def __init__(
        self,
        service: UdpListeningService | UdpConnectingService,
        url: ServiceUrl,
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        guarded: bool = True,
    ) -> None:
        super().__init__(service, url, wake_touched, logger, guarded=guarded)
        self._deadline = inf
        self._sooner = trio.Event()
        self._fault: Exception | None = None
        self._faults = Repeated(REPEAT_SECONDS)
        self._nursery: trio.Nursery | None = None
        self._driven = service

    @property
    def connections(self) -> int:
        return self._driven.flows

    @property
    def status(self) -> str:
        return "down" if self._stopping.is_set() else "up"

    def stop(self) -> None:
        super().stop()
        self._serving.cancel()

    def _flush(self) -> None:
        """Send what there is: the service's `on_wake`. Somebody else's batch may have led to it: nothing is raised."""
        try:
            self._send()
        except Exception as fault:  # noqa: BLE001 - logged, or raised again by `_serve_until_stopped`
            self._failed(fault)
        if self._driven.next_deadline() < self._deadline:
            self._sooner.set()

    def _failed(self, fault: Exception) -> None:
        """A fault of ours: the service goes on."""
        self.failed += 1
        if not self._guarded:
            self._fault = fault
            self._sooner.set()
            return
        suppressed = self._faults.due(trio.current_time())
        if suppressed is not None:
            self._logger.error("datagrams failed, a fault of ours", exc_info=fault, suppressed=suppressed)

    def _send(self) -> None:
        raise NotImplementedError

    async def _serve_until_stopped(self, nursery: trio.Nursery) -> None:
        """Until `stop`: call the service when it wants to be."""
        service = self._driven
        self._nursery = nursery
        service.on_wake = self._flush
        self._flush()
        while True:
            if self._fault is not None:
                raise self._fault
            self._deadline = service.next_deadline()
            with trio.move_on_at(self._deadline):
                await self._sooner.wait()
            self._deadline = -inf
            self._sooner = trio.Event()
            now = trio.current_time()
            if now >= service.next_deadline():
                service.handle_deadline(now)
                self._wake_touched()

    def _end(self) -> None:
        self._nursery = None
        self._driven.on_wake = _gone
        self._driven.stop()
        self._wake_touched()


class DatagramPort(DatagramEndpoint):
    """The port of a listening service, which is always open. `await bind()`, then `await run()`."""

    def __init__(
        self,
        service: UdpListeningService,
        url: ServiceUrl,
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        guarded: bool = True,
    ) -> None:
        super().__init__(service, url, wake_touched, logger, guarded=guarded)
        self._listening = service
        self._port = url.port
        self._sockets: list[DatagramSocket] = []
        self._reading = False

    @property
    def port(self) -> int:
        return self._port

    @property
    def addresses(self) -> list[str]:
        return [address_text(each.sock.getsockname()) for each in self._sockets]

    async def bind(self) -> None:
        self._take(await bind_udp(self.url.host, self._port))

    def inherit(self, other: ServiceEndpoint) -> None:
        if isinstance(other, DatagramPort):
            # Descriptors of its own: the other closes its sockets when it has heard that it stops.
            self._take([each.sock.dup() for each in other._sockets])
        super().inherit(other)

    def _take(self, sockets: list[socket.socket]) -> None:
        self._port = sockets[0].getsockname()[1] if sockets else self._port
        lost = self._listening.losses.count
        receive = self._listening.receive_datagram
        for sock in sockets:

            def take(data: bytes, peer: Any, now: float, number: int = len(self._sockets)) -> None:
                # A client is known by its address and the socket that it came by: its answers go out there.
                receive(data, (number, peer), now)

            self._sockets.append(DatagramSocket(sock, take, lost, self._wake_touched, self._failed))

    def stop(self) -> None:
        super().stop()
        if not self._reading:
            self._close()

    def _close(self) -> None:
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            each.close()

    async def run(self) -> None:
        try:
            with self._serving:
                if not self._sockets:
                    await self._bind_patiently()
                self._reading = True
                async with trio.open_nursery() as nursery:
                    for each in self._sockets:
                        each.begin(nursery)
                    self._logger.info(
                        "service listening", address=self._listening.address, listening=self.addresses
                    )
                    await self._serve_until_stopped(nursery)
        finally:
            self._close()
            self._end()

    async def _bind_patiently(self) -> None:
        """The port is somebody else's yet: it is tried again until it is ours."""
        backoff = Backoff(random.random)
        while True:
            try:
                await self.bind()
            except TransportError as error:
                if str(error) != self.message:
                    self.message = str(error)
                    self._logger.error("service cannot listen, trying again", reason=self.message)  # noqa: TRY400
                await trio.sleep(backoff.next_delay())
            else:
                self.message = ""
                return

    def _send(self) -> None:
        sockets = self._sockets
        for data, (number, peer) in self._listening.datagrams_to_send():
            try:
                sockets[number].send(data, peer)
            except OSError as error:
                self._listening.losses.count(_why_lost(error), trio.current_time())


class DatagramDialer(DatagramEndpoint):
    """The sockets of a connecting service, one for each flow. `await run()`."""

    def __init__(
        self,
        service: UdpConnectingService,
        url: ServiceUrl,
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        guarded: bool = True,
    ) -> None:
        super().__init__(service, url, wake_touched, logger, guarded=guarded)
        self._connecting = service
        # Where the server may be; the first is tried.
        self._targets: list[tuple[int, Any]] = []
        self._sockets: dict[Flow, DatagramSocket] = {}
        self._resolve_again = trio.Event()

    async def run(self) -> None:
        try:
            with self._serving:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._resolve)
                    await self._serve_until_stopped(nursery)
        finally:
            for each in self._sockets.values():
                each.close()
            self._sockets.clear()
            self._end()

    async def _resolve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the server's address: names may lead elsewhere later."""
        started = False
        while True:
            with elsewhere():
                try:
                    found = await resolve(self.url.host, self.url.port)
                except TransportError as error:
                    if str(error) != self.message:
                        self.message = str(error)
                        self._logger.warning("server not found, trying again", reason=self.message)
                else:
                    self.message = ""
                    if set(found) != set(self._targets):
                        self._targets = found
            if not started:
                started = True
                task_status.started()
            if self.message:
                await trio.sleep(RESOLVE_SECONDS)
                continue
            await self._resolve_again.wait()
            await trio.sleep(RESOLVE_AGAIN_SECONDS)
            self._resolve_again = trio.Event()

    def _send(self) -> None:
        service = self._connecting
        sockets = self._sockets
        for flow, data in service.datagrams_to_send():
            if flow.ended:
                continue
            found = sockets.get(flow) or self._open(flow)
            if found is None:
                continue
            try:
                found.sock.send(data)
            except OSError as error:
                if error.errno in _REFUSED:
                    self._refused(flow, trio.current_time())
                else:
                    service.losses.count(_why_lost(error), trio.current_time())
        for flow in service.ended:
            closed = sockets.pop(flow, None)
            if closed is not None:
                closed.close()
        service.ended.clear()

    def _open(self, flow: Flow) -> DatagramSocket | None:
        """A socket for a flow that is new."""
        service = self._connecting
        if not self._targets or self._nursery is None:
            service.failed(flow, trio.current_time())
            return None
        target = self._targets[0]
        try:
            sock = _datagram_socket(target[0])
            try:
                sock.connect(target[1])
            except OSError:
                sock.close()
                raise
        except OSError:
            # Too many files, or no way there.
            service.failed(flow, trio.current_time())
            return None
        receive = service.receive_datagram

        def take(data: bytes, peer: Any, now: float) -> None:
            receive(flow, data, now)

        def refused(now: float) -> None:
            self._refused(flow, now)

        made = self._sockets[flow] = DatagramSocket(
            sock, take, service.losses.count, self._wake_touched, self._failed, refused
        )
        made.begin(self._nursery)
        return made

    def _refused(self, flow: Flow, now: float) -> None:
        if not flow.ended:
            # A name may have several addresses, and the server be at another of them.
            self._targets.append(self._targets.pop(0))
            self._resolve_again.set()
        self._connecting.refused(flow, now)


def _why_lost(error: OSError) -> str:
    if error.errno in _FULL:
        return "socket full"
    return "too large" if error.errno == errno.EMSGSIZE else "socket error"


def _gone() -> None:
    """Stand in for `on_wake` when the driver has ended."""
