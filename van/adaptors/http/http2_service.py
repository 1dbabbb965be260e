"""Services of HTTP/2: a port for clients, and a server behind an address with the few connections to it."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from van.adaptors.amqp import Log
from van.adaptors.http.exchange import LINK_CAPACITY
from van.adaptors.http.far_side import HttpConnectingService, ServerExchange
from van.adaptors.http.http1 import KEEP_ALIVE_TIMEOUT
from van.adaptors.http.http1_near import Http1ListeningService
from van.adaptors.http.http2_either import EitherVersion
from van.adaptors.http.http2_far import FarConnection
from van.adaptors.http.http2_limits import IDLE_TIMEOUT
from van.adaptors.http.http2_near import NearConnection
from van.adaptors.http.near_side import DEFAULT_TIMEOUT
from van.adaptors.service import Complaints, PeerInfo
from van.routing.adaptor import Adaptor
from van.routing.router import Router

# Connections to one server: each takes a hundred requests and more at a time.
MAX_CONNECTIONS: Final = 4
# Requests that wait for a connection to the server; others wait in the router, or go elsewhere.
MAX_WAITING: Final = 100
# A server that could not be reached is tried again after so long, in seconds, and then after twice as long each time...
FIRST_RETRY: Final = 0.25
# ...up to so long.
LAST_RETRY: Final = 10.0


class Http2ListeningService(Http1ListeningService):
    """A port for clients of HTTP/2, and of HTTP/1.1.

    idle_timeout: a connection without any request for so long is ended, in seconds; 0: never; None: as each version has
    it. The rest is as `Http1ListeningService` has it.
    """

    def __init__(
        self,
        router: Router,
        name: str,
        address: str,
        log: Log,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        forwarded: bool = True,
        x_forwarded: bool = False,
        aggregate: str = "",
        max_body_size: int = 0,
        idle_timeout: float | None = None,
    ) -> None:
        super().__init__(
            router,
            name,
            address,
            log,
            timeout=timeout,
            forwarded=forwarded,
            x_forwarded=x_forwarded,
            aggregate=aggregate,
            max_body_size=max_body_size,
            idle_timeout=KEEP_ALIVE_TIMEOUT if idle_timeout is None else idle_timeout,
        )
        self.http2_idle_timeout = IDLE_TIMEOUT if idle_timeout is None else idle_timeout or inf

    def accept(self, info: PeerInfo) -> Adaptor:
        if info.alpn == "h2":
            return NearConnection(self, self.complaints, info, idle_timeout=self.http2_idle_timeout)
        if info.alpn:
            return super().accept(info)
        return EitherVersion(self, info, self.http2_idle_timeout)


class Http2ConnectingService(HttpConnectingService):
    """A server of HTTP/2 behind an address.

    host_header: see `HttpConnectingService`. max_connections: to the server at once. idle_timeout: a connection without
    any request for so long is ended, in seconds; 0: never.
    """

    def __init__(
        self,
        router: Router,
        name: str,
        address: str,
        log: Log,
        *,
        host_header: str = "",
        max_connections: int = MAX_CONNECTIONS,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        super().__init__(router, name, address, log, host_header=host_header, capacity=LINK_CAPACITY)
        self.max_connections = max_connections
        self.idle_timeout = idle_timeout or inf
        self.complaints = Complaints(self)
        self.lines: list[FarConnection] = []
        self.waiting: deque[ServerExchange] = deque()
        self._dialing = False
        self._touched = False
        self._retry = FIRST_RETRY
        self._retrying = False

    # -- requests ------------------------------------------------------------------------------------------------

    def free(self) -> bool:
        if self.stopped:
            return False
        return self._best() is not None or (len(self.waiting) < MAX_WAITING and self._may_dial())

    def serve(self, exchange: ServerExchange) -> None:
        line = self._best()
        if line is not None:
            line.serve(exchange)
        else:
            self.waiting.append(exchange)
            self._dial()

    def _best(self) -> FarConnection | None:
        """The connection with the fewest requests that takes one more."""
        best: FarConnection | None = None
        least = 0
        for line in self.lines:
            streams = len(line.connection.streams)
            if (best is None or streams < least) and line.connection.may_open():
                best = line
                least = streams
        return best

    def work(self) -> None:
        self._touched = False
        super().work()
        if self._reached():
            self._retry = FIRST_RETRY
            self.offer()
        while self.waiting:
            line = self._best()
            if line is None:
                break
            line.serve(self.waiting.popleft())
        if not self.stopped:
            self.go_on()
            if self.waiting:
                self._dial()

    # -- connections ---------------------------------------------------------------------------------------------

    def _may_dial(self) -> bool:
        """Whether there is, or could be, a connection on its way."""
        usable = [line for line in self.lines if line.connection.usable()]
        return self._on_its_way() or len(usable) < self.max_connections

    def _reached(self) -> bool:
        """Whether there is a connection that takes requests, now or when others have ended."""
        return any(line.opened and line.connection.usable() for line in self.lines)

    def _on_its_way(self) -> bool:
        return self._dialing or any(line.connection.usable() and not line.connection.opened for line in self.lines)

    def _dial(self) -> None:
        if self._may_dial() and not self._on_its_way() and not self.stopped:
            self._dialing = True
            self.dial(self._connected, self._not_connected, ("h2",))

    def _connected(self, info: PeerInfo) -> Adaptor:
        self._dialing = False
        line = FarConnection(self, info, idle_timeout=self.idle_timeout)
        self.lines.append(line)
        return line

    def _not_connected(self, reason: str) -> None:
        self._dialing = False
        self._unreachable(reason)

    def line_changed(self) -> None:
        """A connection takes a request more, or none any more. Called in the course of anything."""
        if not self._touched:
            self._touched = True
            self.router.touch(self)

    def line_lost(self, line: FarConnection) -> None:
        """A connection is gone."""
        if line in self.lines:
            self.lines.remove(line)
        if not line.opened:
            self._unreachable(line.reason or "the server does not speak HTTP/2")
        self.line_changed()

    def _unreachable(self, reason: str) -> None:
        """There is no connection: requests that wait for one may be tried elsewhere, and none is taken for a while."""
        if self.stopped:
            return
        self.complaints.complain("http server not reached", reason, ("", 0))
        self._give_back(reason)
        if self._reached():
            return
        # One that refuses at once would draw all requests to itself. The connections it has only end what they have.
        self.leave()
        if self._retrying:
            return
        self._retrying = True
        self.later(self._retry, self._try_again)
        self._retry = min(2 * self._retry, LAST_RETRY)

    def _try_again(self) -> None:
        self._retrying = False
        self._dial()

    def _give_back(self, reason: str) -> None:
        waiting = self.waiting
        self.waiting = deque()
        for exchange in waiting:
            exchange.fail(reason, seen=False)

    def stop(self) -> None:
        self._give_back("the service has been stopped")
        super().stop()
