"""A worker: one more process of a site, with clients that worker 0 gives it and an edge connection to worker 0.

`python -m van.router --worker CHANNEL UPLINK` runs one; nobody but worker 0 starts it, and both numbers are descriptors
of sockets that it has made. What to do comes over the channel (`channel.py`), and when that ends the worker ends: there
are no orphans. Signals are worker 0's to carry out.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from functools import partial

import trio

from van import __version__
from van.adaptors.amqp import no_log
from van.adaptors.arriving import Record
from van.adaptors.worker import WorkerConnectorAdaptor
from van.amqp.errors import ErrorCondition
from van.management.agent import may_change
from van.management.elsewhere import answer
from van.management.requests import ManagementError
from van.management.view import View
from van.router import exit_codes
from van.router.channel import (
    Ask,
    Channel,
    Close,
    Describe,
    Drain,
    Over,
    Ready,
    Reconfigure,
    Settled,
    Start,
    Taken,
    Told,
    receive_start,
)
from van.router.describe import describe
from van.router.log import get_logger
from van.router.management import SiteFacts
from van.router.process import raise_file_limit, settle
from van.router.site import Site
from van.router.workers import uplink_settings
from van.routing.worker_router import WorkerRouter
from van.transport.driver import run_adaptor
from van.transport.tls import TlsConfigError, refresh_certificates

# What worker 0 is told to do, and passes on.
IGNORED_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


# How long worker 0 may take to answer that the uplink is closed.
LINGER = 1.0


class WorkerEnd:
    """The worker's end of what joins it to worker 0: the channel, and the uplink. `index` counts from 1."""

    def __init__(self, index: int, channel: Channel, uplink: socket.socket) -> None:
        self.index = index
        self._channel = channel
        self._uplink = uplink
        self.adaptor: WorkerConnectorAdaptor | None = None
        self._closing = trio.Event()
        self._unlinked = trio.Event()

    def ready(self) -> None:
        """Tell worker 0 that connections are welcome."""
        self._channel.send(Ready())

    async def settled(self, patience: float) -> None:
        """Tell worker 0 that nothing is under way here, and wait until it is so everywhere."""
        self._channel.send(Settled())
        with trio.move_on_after(patience):
            await self._closing.wait()

    async def run(self, site: Site) -> None:
        """Be joined to worker 0 until that ends, or `unlink`."""
        assert isinstance(site.router, WorkerRouter)
        site.router.may_change = partial(may_change, SiteFacts(site))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._channel.run)
            nursery.start_soon(self._listen, site)
            await self._link(site)
            nursery.cancel_scope.cancel()
        site.stop()

    async def _link(self, site: Site) -> None:
        adaptor = self.adaptor = WorkerConnectorAdaptor(
            site.router,
            uplink_settings(),
            number=0,
            accepting=False,
            hostname=site.router.id,
            log=no_log,
            now=trio.current_time(),
        )
        try:
            await run_adaptor(trio.SocketStream(trio.socket.from_stdlib_socket(self._uplink)), adaptor, site.wake)
        finally:
            self._unlinked.set()

    async def unlink(self, description: str) -> None:
        """Close the uplink in order, behind everything that was to be said over it."""
        if self.adaptor is not None and not self._unlinked.is_set():
            self.adaptor.close(ErrorCondition.CONNECTION_FORCED, description)
            self.adaptor.on_wake()
            with trio.move_on_after(LINGER):
                await self._unlinked.wait()

    async def _listen(self, site: Site) -> None:
        async with trio.open_nursery() as nursery:
            while (received := await self._channel.receive()) is not None:
                message, descriptor = received
                if isinstance(message, Taken):
                    self._take(site, message, descriptor)
                elif isinstance(message, Reconfigure):
                    site.take_over(message.config)
                    refresh_certificates(site.credentials.values(), get_logger("transport"))
                elif isinstance(message, Describe):
                    nursery.start_soon(describe, site)
                elif isinstance(message, Drain):
                    site.drain(message.reason)
                elif isinstance(message, Close):
                    self._closing.set()
                elif isinstance(message, Ask):
                    nursery.start_soon(self._tell, site, message)
        # Worker 0 is gone.
        site.stop()

    async def _tell(self, site: Site, asked: Ask) -> None:
        """Say what there is here, piece by piece; others have their turn between two."""
        site.router.now = trio.current_time()
        try:
            for piece in answer(View(site.router, SiteFacts(site)), asked.question):
                self._channel.send(Told(asked.number, piece))
                await trio.lowlevel.checkpoint()
        except ManagementError:
            # Worker 0 finds the same, and says so.
            pass
        except Exception as fault:  # noqa: BLE001 - whoever asks must not end the worker; the log has the fault
            get_logger("management").error("question of worker 0 failed, a fault of ours", exc_info=fault)
        self._channel.send(Told(asked.number, None))

    def _take(self, site: Site, taken: Taken, descriptor: int) -> None:
        if descriptor < 0:
            get_logger("transport").error("connection lost on its way", reason="too many open files")
            self._channel.send(Over(taken.number))
            return
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor)))
        record = Record(*taken.said) if taken.said is not None else None
        listener = site.listener(taken.listener)
        listener.adopt(stream, taken.number, record, lambda: self._channel.send(Over(taken.number)))


def main(arguments: Sequence[str]) -> int:
    """Run a worker whose channel and uplink have these descriptors. Returns the exit code."""
    for name in IGNORED_SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    channel, uplink = (socket.socket(fileno=int(descriptor)) for descriptor in arguments)
    start = receive_start(channel)
    if start is None:
        return exit_codes.OK

    from van.router import log

    log.configure(start.config.log, router=start.config.router.id, worker=start.index)
    if start.version != __version__:
        get_logger("router").error(
            "the program was replaced: restart the router", running=start.version, installed=__version__
        )
        return exit_codes.FAILURE
    return trio.run(_run, start, channel, uplink)


async def _run(start: Start, channel: socket.socket, uplink: socket.socket) -> int:
    raise_file_limit()
    end = WorkerEnd(start.index, Channel(channel), uplink)
    try:
        site = Site(start.config, worker=end)
    except TlsConfigError as error:
        get_logger("router").error("cannot use certificates", reason=str(error))
        return exit_codes.FAILURE
    return await site.run(settle)
