"""Ports of listening services: open while the service's address can be reached."""

from __future__ import annotations

import errno
import os
import random
import socket
import ssl
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol, Unpack

import trio

from van.adaptors.service import PeerInfo
from van.adaptors.tcp.proxy_protocol import SHORTEST_HEADER, ProxiedPeer, read_proxy_header, size_of_header
from van.amqp.errors import DecodeError
from van.routing.adaptor import Adaptor
from van.transport.backoff import Backoff
from van.transport.errors import TransportError, os_reason
from van.transport.light import Acceptor, local_address, set_options
from van.transport.limits import Repeated
from van.transport.listener import ACCEPT_RETRY_SECONDS, INITIAL_HANDSHAKE_TIMEOUT_SECONDS, REPEAT_SECONDS
from van.transport.poller import Poller, elsewhere, rung_by, the_poller
from van.transport.service_endpoint import EndpointOptions, Served, ServiceEndpoint, describe, info_of
from van.transport.service_url import ServiceUrl
from van.transport.tcp import address_text, bind_tcp, keep_alive, peer_text
from van.transport.tls import ClientCertificates, TlsConfigError, accept_tls

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SETTLE_SECONDS: Final = 2.0
"""How long a port stays open when its address cannot be reached any more: a server that is started anew, or a path that
changes, is no reason to turn clients away at the door."""


class Accepts(Served, Protocol):
    """A service that has a port: a `ListeningService` is one."""

    on_reachable: Callable[[], None]

    @property
    def reachable(self) -> bool:
        """Whether somebody receives at the address."""

    def accept(self, info: PeerInfo) -> Adaptor:
        """An adaptor for a connection that was accepted."""


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
        client_certificates: ClientCertificates = ClientCertificates.NONE,
        always_open: bool = False,
        handshake_timeout: float = INITIAL_HANDSHAKE_TIMEOUT_SECONDS,
        proxy_protocol: bool = False,
        **options: Unpack[EndpointOptions],
    ) -> None:
        super().__init__(service, url, wake_touched, logger, **options)
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
            set_options(listening.socket)
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
                describe(info, secured)
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


def _info_or_none(tcp: trio.SocketStream) -> PeerInfo | None:
    try:
        return info_of(tcp)
    except OSError:
        return None
