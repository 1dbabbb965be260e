"""Reads plain sockets for all connections of a process, in one place and without a task for each of them.

A `Poller` keeps their descriptors in an epoll of its own, which is a single descriptor for trio to watch. When trio's
wait ends because something can be read, the poller reads at once, before any task has its turn: what a message causes
is written before the scheduler has done anything. A reader task for each connection would cost a message that finds
the router idle an epoll_ctl and a turn of the scheduler (see docs/performance.md).

Where there is no epoll, and for streams that are no plain sockets, the driver has a reader task instead.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from select import epoll as Epoll  # noqa: N812 - a name that exists on Linux only

# Connections that are read in one turn. The next turn begins with those that had to wait.
MAX_READY: Final = 64
# What comes in one turn is flushed together, so that several senders to one receiver share a write; but not more than
# so many octets, so that memory and the wait of the first stay small.
FLUSH_OCTETS: Final = 262144


class Reader:
    """Somebody who wants to know that a descriptor can be read, and now and then that it can be written."""

    __slots__ = ()

    def on_readable(self, now: float) -> int:
        """Read once and take in what there was. Returns the octets. Never raises."""
        raise NotImplementedError

    def on_writable(self) -> None:
        """Write what waits: called where `watch_writing` asked for it. Never raises."""
        raise NotImplementedError


class Poller(trio.abc.Instrument):
    """All plain sockets that are read in one run of trio.

    It is an instrument since trio's instruments are told when its wait ends. `run` is its only task.
    """

    def __init__(self) -> None:
        self._epoll: Epoll = select.epoll()
        self._readers: dict[int, tuple[Reader, Callable[[], None]]] = {}

    def add(self, descriptor: int, reader: Reader, flush: Callable[[], None]) -> None:
        """Have `reader` told when `descriptor` can be read, until `remove`; `flush` is called after what it took in."""
        self._readers[descriptor] = (reader, flush)
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor. Nothing happens where that has been done."""
        if self._readers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def watch_writing(self, descriptor: int, watch: bool) -> None:
        """Have the reader of a descriptor told whenever it can be written, or no longer."""
        self._epoll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT if watch else select.EPOLLIN)

    def after_io_wait(self, timeout: float) -> None:
        """Trio has waited: read whatever there is."""
        ready = self._epoll.poll(0, MAX_READY)
        if not ready:
            return
        readers = self._readers
        now = trio.current_time()
        octets = 0
        flush: Callable[[], None] | None = None
        for descriptor, events in ready:
            found = readers.get(descriptor)
            if found is None:
                continue
            reader, own_flush = found
            # Bound methods are equal, not identical.
            if flush is not None and flush != own_flush:
                flush()
            flush = own_flush
            if events & select.EPOLLOUT:
                reader.on_writable()
            if events & ~select.EPOLLOUT:
                octets += reader.on_readable(now)
            if octets >= FLUSH_OCTETS:
                octets = 0
                flush()
                flush = None
        if flush is not None:
            flush()

    async def run(self) -> None:
        """Have trio's wait end when something can be read; the rest happens in `after_io_wait`."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll)
        finally:
            trio.lowlevel.remove_instrument(self)
            self._epoll.close()


_poller: Final[trio.lowlevel.RunVar[Poller]] = trio.lowlevel.RunVar("van poller")


def the_poller() -> Poller | None:
    """The poller of this run of trio, started when first asked for; None where the system has no epoll."""
    if sys.platform != "linux":
        return None
    try:
        return _poller.get()
    except LookupError:
        poller = Poller()
        _poller.set(poller)
        trio.lowlevel.add_instrument(poller)
        trio.lowlevel.spawn_system_task(poller.run, name="van poller")
        return poller
