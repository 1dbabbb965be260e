"""Keeping one outgoing connection up, for ever: connect, drive, wait, again.

Like a listener it knows no protocol. It tries its URLs in order, the first again after every loss, with a jittered wait
between rounds. A failure is logged when it is new and then counted; the present state is there for management to read.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from van.routing.adaptor import Adaptor
from van.transport.backoff import Backoff
from van.transport.dial import CONNECT_TIMEOUT, open_stream
from van.transport.driver import run_adaptor
from van.transport.errors import TransportError
from van.transport.info import ConnectionInfo
from van.transport.listener import INITIAL_HANDSHAKE_TIMEOUT_SECONDS, sole
from van.transport.proxy import ProxyUrl
from van.transport.tls import TlsConfigError, TlsCredentials
from van.transport.url import Url

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

STABLE_SECONDS = 1.0
"""A connection that was open for less does not reset the back-off: a peer that takes us and at once sends us away (a
policy, two routers of one name) would otherwise be called without end."""


class Connector:
    """One connection outward. `urls` are tried in order: the wanted one first, then the failover list.

    `status` is `CONNECTING`, `SUCCESS` (the protocol is open) or `FAILED` (waiting for the next attempt), `message` the
    last error or success in words, `attempts` the number since it was last open, `url` the one tried last.
    """

    def __init__(
        self,
        urls: Sequence[Url],
        make_adaptor: Callable[[ConnectionInfo], Adaptor],
        wake_touched: Callable[[], None],
        logger: FilteringBoundLogger,
        *,
        name: str = "",
        credentials: TlsCredentials | None = None,
        verify_hostname: bool = True,
        proxy: ProxyUrl | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        initial_handshake_timeout_seconds: float = INITIAL_HANDSHAKE_TIMEOUT_SECONDS,
        backoff: Backoff | None = None,
        guarded: bool = True,
    ) -> None:
        if not urls:
            raise ValueError("a connector needs at least one URL")
        self.urls = list(urls)
        self.url = self.urls[0]
        self.name = name or str(self.url)
        self.attempts = 0
        self.message = ""
        self.adaptor: Adaptor | None = None
        self._failed = False
        self._make_adaptor = make_adaptor
        self._wake_touched = wake_touched
        self._logger = logger.bind(connector=self.name)
        self._credentials = credentials
        self._verify_hostname = verify_hostname
        self._proxy = proxy
        self._connect_timeout = connect_timeout
        self._handshake_timeout = initial_handshake_timeout_seconds or math.inf
        self._backoff = backoff or Backoff(random.random)
        self._guarded = guarded
        self._stopping = False
        self._attempt_scope = trio.CancelScope()
        self._opened_at = math.inf
        self._said = ""

    @property
    def status(self) -> str:
        """In the words of the `connectionStatus` attribute of a connector entity."""
        if self.adaptor is not None and self.adaptor.opened and not self.adaptor.refusal:
            return "SUCCESS"
        return "FAILED" if self._failed else "CONNECTING"

    async def run(self) -> None:
        """Connect and stay connected until cancelled, or until `stop` and the end of the connection."""
        while not self._stopping:
            with trio.CancelScope() as self._attempt_scope:
                await trio.sleep(self._backoff.next_delay())
                await self._try_each()

    def stop(self, condition: str, description: str) -> None:
        """Do not connect again; an open connection is asked to end in an orderly way, an attempt is given up."""
        self._stopping = True
        if self.adaptor is not None:
            self.adaptor.close(condition, description)
            self.adaptor.on_wake()
        else:
            self._attempt_scope.cancel()

    async def _try_each(self) -> None:
        """One round over the URLs, which ends with the first that was opened, when that connection has ended."""
        for url in tuple(self.urls):
            if self._stopping:
                return
            self.url = url
            self.attempts += 1
            self._failed = False
            self._opened_at = math.inf
            said, attempts = self._said, self.attempts
            reason = await self._attempt(url)
            self._failed = True
            refused = self.adaptor is not None and bool(self.adaptor.refusal)
            self.adaptor = None
            if refused:
                # It may have been open for a moment, before it was found to be the wrong one.
                self._said, self.attempts = said, attempts
                self._backoff.slow_down()
            elif self._opened_at < math.inf:
                if trio.current_time() - self._opened_at >= STABLE_SECONDS:
                    self._backoff.reset()
                self.message = reason
                self._said = ""
                self._logger.info("connection lost", url=str(url), reason=reason)
                return
            self._tell(url, reason)

    async def _attempt(self, url: Url) -> str:
        """Connect and drive until the end. Returns why there is no connection now."""
        if not self._guarded:
            return await self._connect(url)
        try:
            return await self._connect(url)
        except* Exception as group:
            error = sole(group)
            self._logger.exception("connection failed, a fault of ours", url=str(url), exc_info=error)
            reason = f"{type(error).__name__}: {error}"
        return reason

    async def _connect(self, url: Url) -> str:
        try:
            async with open_stream(
                url,
                credentials=self._credentials,
                verify_hostname=self._verify_hostname,
                proxy=self._proxy,
                timeout=self._connect_timeout,
            ) as (stream, info):
                self.adaptor = self._make_adaptor(info)
                return await self._drive(stream, self.adaptor)
        except (TransportError, TlsConfigError) as error:
            return str(error)

    async def _drive(self, stream: trio.abc.Stream, adaptor: Adaptor) -> str:
        late = False

        async def cut_when_late() -> None:
            nonlocal late
            await trio.sleep(self._handshake_timeout)
            if not adaptor.opened:
                late = True
                nursery.cancel_scope.cancel()

        def after_batch() -> None:
            if self._opened_at == math.inf and adaptor.opened and not adaptor.refusal:
                self._note_open()
            self._wake_touched()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut_when_late)
            await run_adaptor(stream, adaptor, after_batch)
            nursery.cancel_scope.cancel()
        if late:
            return f"{self.url}: connected, but not open within {self._handshake_timeout:g} s"
        if self._opened_at == math.inf:
            return f"{self.url}: {adaptor.reason or 'the peer closed the connection before it was open'}"
        return adaptor.reason or f"{self.url}: the connection was closed"

    def _note_open(self) -> None:
        self._opened_at = trio.current_time()
        self.message = f"connected to {self.url}"
        self._logger.info("connected", url=str(self.url), attempts=self.attempts)
        self.attempts = 0
        self._said = ""

    def _tell(self, url: Url, reason: str) -> None:
        """Say why once; then only when it changes, and at the 10th, 100th, 1000th attempt."""
        self.message = reason
        if reason != self._said or _power_of_ten(self.attempts):
            self._logger.warning("cannot connect", url=str(url), reason=reason, attempts=self.attempts)
            self._said = reason


def _power_of_ten(count: int) -> bool:
    while count >= 10 and count % 10 == 0:
        count //= 10
        if count == 1:
            return True
    return False
