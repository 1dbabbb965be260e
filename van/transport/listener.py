"""Accepting connections: bound first, served later, each one guarded, timed and counted.

A listener knows no protocol: for every connection that passed TLS and WebSocket it asks `make_adaptor` for an endpoint
and hands both to the driver. The tree of its tasks:

    serve
    ├── cut_late_ones        one for all connections: who has not opened in time is cut
    ├── accept (per socket)  in a scope of its own: `stop_accepting`
    └── one per connection   `stop_serving` cancels them all, `close_all` asks them to end
"""

from __future__ import annotations

import errno
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from van.adaptors.amqp import AmqpAdaptor
from van.adaptors.arriving import replay
from van.routing.adaptor import Adaptor
from van.transport.driver import run_adaptor
from van.transport.errors import TransportError, os_reason
from van.transport.info import ConnectionInfo
from van.transport.limits import ConnectionLimit, Repeated
from van.transport.poller import elsewhere, rung_by
from van.transport.sniff import HTTP_ANSWER, mistaken, peek, spoken
from van.transport.tcp import address_text, bind_tcp, keep_alive, local_text, peer_text
from van.transport.tls import ClientCertificates, TlsCredentials, accept_tls, describe_tls
from van.transport.url import Url
from van.transport.websocket import accept_websocket

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from van.adaptors.arriving import Record

INITIAL_HANDSHAKE_TIMEOUT_SECONDS = 10.0
"""From accept to the protocol's Open, TLS and WebSocket included. Whoever is slower is cut: see `cut_late_ones`."""

ACCEPT_RETRY_SECONDS = 0.1
"""Pause after accept failed for want of descriptors or memory: others may end meanwhile, the peer waits in line."""

REPEAT_SECONDS = 5.0
"""Lines about full limits and failing accepts are written once in so many seconds, with a count."""


def _nobody_waits() -> None:
    """Stand in for `on_over` where nobody wants to know."""


class _Connection:
    """One accepted connection, from accept to end."""

    __slots__ = ("adaptor", "deadline", "peer", "scope", "stage")

    def __init__(self, peer: str, deadline: float) -> None:
        self.peer = peer
        self.deadline = deadline
        self.scope = trio.CancelScope()
        self.stage = "the first octet"
        self.adaptor: Adaptor | None = None


class Listener:
    """One listening URL. `await bind()`, then `await serve()`.

    After `bind`, `port` is the real one where the URL has port 0, and `addresses` are the bound `host:port`s.

    `make_adaptor(info)` makes the endpoint of one connection, `wake_touched` is handed to the driver. `credentials` are
    needed for `amqps` and `wss`; a listener that offers EXTERNAL gives `ClientCertificates.REQUIRED`.
    `max_connections` is this listener's own limit, `router_limit` the one that all share. A time-out of 0 means none.
    `place(stream)` is asked for every connection that was accepted: where it says yes, the connection has gone
    elsewhere, and counts here until `over`. So does one whose adaptor departs. `adopts`: there is no port, connections
    come from elsewhere by `adopt`. `guarded=False` lets exceptions of one connection end everything: for tests.
    """

    def __init__(
        self,
        url: Url,
        make_adaptor: Callable[[ConnectionInfo], Adaptor],
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        name: str = "",
        credentials: TlsCredentials | None = None,
        client_certificates: ClientCertificates = ClientCertificates.NONE,
        max_connections: int | None = None,
        router_limit: ConnectionLimit | None = None,
        initial_handshake_timeout_seconds: float = INITIAL_HANDSHAKE_TIMEOUT_SECONDS,
        place: Callable[[trio.SocketStream], bool] | None = None,
        adopts: bool = False,
        guarded: bool = True,
    ) -> None:
        self.url = url
        self.name = name or str(url)
        self.port = url.port
        self.addresses: list[str] = []
        self.limit = ConnectionLimit(max_connections)
        self.accepted = 0
        self.refused = 0
        self.failed = 0
        self._make_adaptor = make_adaptor
        self._wake_touched = wake_touched
        self._logger = logger.bind(listener=self.name)
        self._credentials = credentials
        self._client_certificates = client_certificates
        self._router_limit = router_limit or ConnectionLimit(None)
        self._handshake_timeout = initial_handshake_timeout_seconds or float("inf")
        self._place = place
        self._adopts = adopts
        self._nursery: trio.Nursery | None = None
        self._guarded = guarded
        self._sockets: list[trio.SocketListener] = []
        self._connections: set[_Connection] = set()
        # In the order of their deadlines, because all have the same time.
        self._handshaking: OrderedDict[_Connection, None] = OrderedDict()
        self._new_handshake = trio.Event()
        self._accepting = trio.CancelScope()
        self._serving = trio.CancelScope()
        self._accept_errors = Repeated(REPEAT_SECONDS)
        self._refusals = Repeated(REPEAT_SECONDS)

    @property
    def connections(self) -> int:
        """How many connections there are now, those in a handshake included."""
        return len(self._connections)

    async def bind(self) -> None:
        """Take the port, so that all listeners can be bound before any is served.

        Raises TransportError when it cannot be had, TlsConfigError when the certificates do not allow to serve.
        """
        if self.url.tls:
            self._context()
        self._sockets = await bind_tcp(self.url.host, self.url.port)
        self.port = self._sockets[0].socket.getsockname()[1]
        self.addresses = [address_text(listening.socket.getsockname()) for listening in self._sockets]

    async def serve(self, *, task_status: trio.TaskStatus[Listener] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop_accepting` was called and the last connection has ended, or until `stop_serving`."""
        if not self._sockets and not self._adopts:
            await self.bind()
        try:
            with self._serving:
                async with trio.open_nursery() as watching:
                    watching.start_soon(self._cut_late_ones)
                    async with trio.open_nursery() as connections:
                        self._nursery = connections
                        with self._accepting, rung_by(*(listening.socket.fileno() for listening in self._sockets)):
                            async with trio.open_nursery() as accepting:
                                if self._adopts:
                                    accepting.start_soon(trio.sleep_forever)
                                for listening in self._sockets:
                                    accepting.start_soon(self._accept, listening, connections)
                                task_status.started(self)
                        self._nursery = None
                        self._unbind()
                    watching.cancel_scope.cancel()
        finally:
            self._unbind()

    def stop_accepting(self) -> None:
        """Close the port; connections live on. `serve` returns when the last has ended."""
        self._accepting.cancel()
        self._unbind()

    def stop_serving(self) -> None:
        """End `serve` and all its connections now."""
        self._serving.cancel()

    def close_all(self, condition: str, description: str) -> None:
        """Ask every open connection to end in an orderly way, and cut those that are still in a handshake."""
        for connection in tuple(self._connections):
            if connection.adaptor is None:
                connection.scope.cancel()
            else:
                connection.adaptor.close(condition, description)
                connection.adaptor.on_wake()

    def _unbind(self) -> None:
        self.addresses = []
        for listening in self._sockets:
            listening.socket.close()

    # -- from and to elsewhere

    def adopt(
        self,
        stream: trio.SocketStream,
        number: int,
        record: Record | None = None,
        on_over: Callable[[], None] = _nobody_waits,
    ) -> None:
        """Serve a connection that was accepted elsewhere, by its number there. `on_over` is called when it has ended.

        record: what was said on it already.
        """
        self.accepted += 1
        if self._nursery is None or not self._admit(stream):
            stream.socket.close()
            on_over()
            return
        self._nursery.start_soon(self._serve_adopted, stream, number, record, on_over)

    async def _serve_adopted(
        self, stream: trio.SocketStream, number: int, record: Record | None, on_over: Callable[[], None]
    ) -> None:
        try:
            await self._guard(stream, number, record)
        finally:
            on_over()

    def over(self) -> None:
        """A connection that went elsewhere has ended."""
        self.limit.release()
        self._router_limit.release()

    # -- accepting

    async def _accept(self, listening: trio.SocketListener, connections: trio.Nursery) -> None:
        """Accept for ever; a lack of descriptors or memory is waited out, never fatal."""
        while True:
            try:
                stream = await listening.accept()
            except trio.ClosedResourceError:
                return
            except OSError as error:
                suppressed = self._accept_errors.due(trio.current_time())
                if suppressed is not None:
                    code = errno.errorcode.get(error.errno or 0, "")
                    self._logger.error(  # noqa: TRY400 - the system's state is wrong, not our code
                        "accept failed, trying again", reason=os_reason(error), errno=code, suppressed=suppressed
                    )
                await trio.sleep(ACCEPT_RETRY_SECONDS)
                continue
            self.accepted += 1
            if not self._admit(stream):
                continue
            if self._place is not None and self._place(stream):
                stream.socket.close()
            else:
                connections.start_soon(self._guard, stream)

    def _admit(self, stream: trio.SocketStream) -> bool:
        """Count the connection, or hang up when there are too many."""
        full = ""
        if not self.limit.acquire():
            full = f"max_connections of this listener ({self.limit.limit}) is reached"
        elif not self._router_limit.acquire():
            self.limit.release()
            full = f"max_connections of the router ({self._router_limit.limit}) is reached"
        if not full:
            return True
        self.refused += 1
        suppressed = self._refusals.due(trio.current_time())
        if suppressed is not None:
            self._logger.warning("connection refused", peer=peer_text(stream), reason=full, suppressed=suppressed)
        stream.socket.close()
        return False

    # -- one connection

    async def _guard(self, tcp: trio.SocketStream, number: int = 0, record: Record | None = None) -> None:
        """The only place that catches everything: what goes wrong in one connection ends that connection."""
        if not self._guarded:
            await self._serve_one(tcp, number, record)
            return
        peer = peer_text(tcp)
        try:
            await self._serve_one(tcp, number, record)
        except* Exception as group:
            self.failed += 1
            self._logger.exception("connection failed, a fault of ours", peer=peer, exc_info=sole(group))

    async def _serve_one(self, tcp: trio.SocketStream, number: int, record: Record | None) -> None:
        connection = _Connection(peer_text(tcp), trio.current_time() + self._handshake_timeout)
        self._connections.add(connection)
        self._handshaking[connection] = None
        self._new_handshake.set()
        try:
            with connection.scope:
                await self._shake_hands(connection, tcp, number, record)
        except TransportError as error:
            self.refused += 1
            self._logger.info("connection refused", peer=connection.peer, reason=str(error))
        finally:
            self._connections.discard(connection)
            self._handshaking.pop(connection, None)
            if connection.adaptor is None or not connection.adaptor.departed:
                self.over()
            await trio.aclose_forcefully(tcp)

    async def _shake_hands(
        self, connection: _Connection, tcp: trio.SocketStream, number: int, record: Record | None
    ) -> None:
        keep_alive(tcp)
        if record is not None:
            info = self._info(connection, tcp, number)
            await self._go_on(connection, tcp, info, record)
            return
        with elsewhere():
            prepared = await self._prepare(connection, tcp, number)
        if prepared is not None:
            await self._run(connection, *prepared)

    async def _prepare(
        self, connection: _Connection, tcp: trio.SocketStream, number: int
    ) -> tuple[trio.abc.Stream, ConnectionInfo] | None:
        """Everything in front of our protocol. None for whoever hung up, or speaks another."""
        try:
            first = await peek(tcp)
        except OSError:
            first = b""
        if not first:
            # Load balancers look whether the port is open, and hang up.
            self._logger.debug("connection closed before its first octet", peer=connection.peer)
            return None
        mistake = mistaken(self.url.transport, first)
        if mistake:
            self.refused += 1
            self._logger.warning("connection refused", peer=connection.peer, reason=mistake)
            if not self.url.tls and spoken(first) == "an HTTP request":
                await _answer_http(tcp)
            return None
        info = self._info(connection, tcp, number)
        stream: trio.abc.Stream = tcp
        if self.url.tls:
            assert self._credentials is not None
            connection.stage = "the TLS handshake"
            secured = await accept_tls(tcp, self._context())
            describe_tls(info, secured, self._credentials.profile)
            stream = secured
        if self.url.websocket:
            connection.stage = "the WebSocket handshake"
            stream = websocket = await accept_websocket(stream)
            info.subprotocol, info.path = websocket.subprotocol, websocket.path
        return stream, info

    async def _run(self, connection: _Connection, stream: trio.abc.Stream, info: ConnectionInfo) -> None:
        connection.stage = "the protocol's open"
        connection.adaptor = self._make_adaptor(info)
        await run_adaptor(stream, connection.adaptor, self._wake_touched)

    async def _go_on(
        self, connection: _Connection, tcp: trio.SocketStream, info: ConnectionInfo, record: Record
    ) -> None:
        """Go on where somebody else has stopped."""
        info.frame_size = record.frame_size
        adaptor = connection.adaptor = self._make_adaptor(info)
        assert isinstance(adaptor, AmqpAdaptor)
        if replay(adaptor, record, trio.current_time()):
            # What it said may concern others: an address that somebody sends to is asked for in another process.
            self._wake_touched()
            await run_adaptor(tcp, adaptor, self._wake_touched)
            return
        adaptor.cut = True
        adaptor.connection_lost(trio.current_time())
        self._wake_touched()
        raise TransportError(TransportError.TCP, "it could not go on in another process: the answers differ")

    def _info(self, connection: _Connection, tcp: trio.SocketStream, number: int) -> ConnectionInfo:
        info = ConnectionInfo(
            peer=connection.peer, local=local_text(tcp), transport=self.url.transport, url=self.url, outgoing=False
        )
        info.number = number
        return info

    def _context(self) -> ssl.SSLContext:
        if self._credentials is None:
            raise TransportError(TransportError.TLS, f"{self.url}: a listener with TLS needs an ssl_profile")
        return self._credentials.server_context(
            self._client_certificates, alpn=("http/1.1",) if self.url.websocket else ()
        )

    async def _cut_late_ones(self) -> None:
        """Cut whoever has not opened in time: half-open connections, stalled handshakes, an octet every second."""
        if self._handshake_timeout == float("inf"):
            return
        while True:
            while not self._handshaking:
                self._new_handshake = trio.Event()
                await self._new_handshake.wait()
            await trio.sleep_until(next(iter(self._handshaking)).deadline)
            now = trio.current_time()
            while self._handshaking:
                connection = next(iter(self._handshaking))
                if connection.deadline > now:
                    break
                del self._handshaking[connection]
                if connection.adaptor is None or not connection.adaptor.opened:
                    self.refused += 1
                    self._logger.warning(
                        "connection cut",
                        peer=connection.peer,
                        reason=f"not open within {self._handshake_timeout:g} s; still waiting for {connection.stage}",
                    )
                    if connection.adaptor is not None:
                        connection.adaptor.cut = True
                    connection.scope.cancel()


async def _answer_http(tcp: trio.SocketStream) -> None:
    """Tell a browser where it is. What it sent is read first: closing with octets unread would discard the answer."""
    try:
        await tcp.receive_some()
        await tcp.send_all(HTTP_ANSWER)
    except trio.BrokenResourceError:
        pass


def sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The only exception in a group, however deep; else the group: tracebacks of one are easier to read."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
