"""Reads plain sockets for all connections of a process, in one place and without a task for each of them.

A `Poller` keeps their descriptors in an epoll of its own, which is a single descriptor for trio to watch. When trio's
wait ends because something can be read, the poller reads at once, before any task has its turn: what a message causes
is written before the scheduler has done anything. A reader task for each connection would cost a message that finds
the router idle an epoll_ctl and a turn of the scheduler (see docs/performance.md).

A process that is nothing but a router lets the poller stay: after it has read it waits for more by itself,
for a few milliseconds, and leaves as soon as a task has something to do. Linux runs whom a write has woken where the
writer runs, once that one sleeps, so a turn of trio's loop behind each write is a delay of each message (one message a
millisecond on its way through a router: 60 us for 110). Who waits for something that the poller does not see says so:
`ring` for descriptors, `elsewhere` for anything else.

Where one answer after another comes as soon as it can, as in request and response, the poller waits awake for it: to
fall asleep and be woken takes longer than most answers, of a virtual machine's processor above all, and costs as much.

Where there is no epoll, and for streams that are no plain sockets, the driver has a reader task instead.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from select import epoll as Epoll  # noqa: N812 - a name that exists on Linux only

# Connections that are read in one turn. The next turn begins with those that had to wait.
MAX_READY: Final = 64
# What comes in one turn is flushed together, so that several senders to one receiver share a write; but not more than
# so many octets, so that memory and the wait of the first stay small.
FLUSH_OCTETS: Final = 262144
# How long the poller waits for more by itself after it has read, and how long a router lets it keep trio from its turn
# in all, both in seconds: what it does not see (threads that have finished, signals) waits as long.
STAY_SECONDS: Final = 0.002
STAY_LIMIT: Final = 0.01
# How long the next answer is awaited awake, in seconds. What can be read at once is no answer: whoever wrote that does
# not wait for us. One that had to wake us was prompt if it came in this time, of which half is the waking.
AWAKE_SECONDS: Final = 60e-6
AT_ONCE_SECONDS: Final = 5e-6
PROMPT_SECONDS: Final = 200e-6
# A prompt answer gives a point, up to a limit, every other wait takes some, more if it was spent awake; from so many
# points on the next one is. So of answers that always come a little too late one in nine is awaited awake.
AWAKE_FROM: Final = 12
MOST_POINTS: Final = 20
LATE_COSTS: Final = 4
IN_VAIN_COSTS: Final = 8
# An epoll waits in milliseconds.
_TICK: Final = 0.001
# EPOLLOUT, a name that exists on Linux only.
_OUT: Final = 4


class Promptness:
    """Learns from the waits that were whether the next one is spent awake: `awake`."""

    __slots__ = ("_points", "awake")

    def __init__(self) -> None:
        self._points = 0
        self.awake = False

    def waited(self, seconds: float) -> None:
        """A wait is over, by something to read or in vain, after so many seconds."""
        if AT_ONCE_SECONDS < seconds < (AWAKE_SECONDS if self.awake else PROMPT_SECONDS):
            self._points = min(self._points + 1, MOST_POINTS)
        else:
            self._points = max(self._points - (IN_VAIN_COSTS if self.awake else LATE_COSTS), 0)
        self.awake = self._points >= AWAKE_FROM


class Reader:
    """Somebody who wants to know that a descriptor can be read, and now and then that it can be written."""

    __slots__ = ()

    def on_readable(self, now: float) -> int:
        """Read once and take in what there was. Returns the octets. Never raises."""
        raise NotImplementedError

    def on_writable(self) -> None:
        """Write what waits: called where `watch` asked for it. Never raises."""
        raise NotImplementedError

    def fail(self, fault: Exception) -> None:
        """What followed upon reading has failed, by a fault of ours."""
        raise NotImplementedError


class _Bell(Reader):
    """Somebody else's descriptor: when it can be read the poller lets trio have its turn."""

    __slots__ = ("_poller",)

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    def on_readable(self, now: float) -> int:
        self._poller.leave()
        return 0


def _nothing() -> None:
    """What there is to flush after a bell."""


class Poller(trio.abc.Instrument):
    """All plain sockets that are read in one run of trio.

    It is an instrument since trio's instruments are told when its wait ends. `run` is its only task. `stays`: how long
    it may keep the process's only thread while nothing else has anything to do, in seconds.
    """

    def __init__(self) -> None:
        self.stays = 0.0
        self._epoll: Epoll = select.epoll()
        self._readers: dict[int, tuple[Reader, Callable[[], None]]] = {}
        self._bell = _Bell(self)
        self._task: trio.lowlevel.Task | None = None
        # How many tasks wait for what is not seen here; whether a task can run; when trio wants its next turn.
        self._elsewhere = 0
        self._leaves = False
        self._until = inf
        self._promptness = Promptness()

    def add(
        self,
        descriptor: int,
        reader: Reader,
        flush: Callable[[], None],
        *,
        reading: bool = True,
        writing: bool = False,
    ) -> None:
        """Have `reader` told when `descriptor` can be read, until `remove`; `flush` is called after what it took in.

        reading, writing: as `watch` has them. A descriptor that another reader had is taken over from that.
        """
        events = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if writing else 0)
        known = descriptor in self._readers
        if known:
            try:
                self._epoll.modify(descriptor, events)
            except FileNotFoundError:
                # One that rang was closed, and is another's by now.
                known = False
        if not known:
            self._epoll.register(descriptor, events)
        self._readers[descriptor] = (reader, flush)

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor. Nothing happens where that has been done."""
        if self._readers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def forget(self, descriptor: int) -> None:
        """Forget a descriptor that is closed at once: the system does the rest. Nothing happens where that is done."""
        self._readers.pop(descriptor, None)

    def watch(self, descriptor: int, *, reading: bool, writing: bool) -> None:
        """Say anew what the reader of a descriptor is told: whenever it can be read, whenever it can be written.

        That the stream is broken, or has ended both ways, it is told always, as if it could be read.
        """
        self._epoll.modify(descriptor, (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if writing else 0))

    def ring(self, descriptor: int) -> None:
        """Do not stay when `descriptor` can be read: a task waits for it. Until `ring_no_more`."""
        self._readers[descriptor] = (self._bell, _nothing)
        # At the edge: whoever waits may take its time.
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def ring_no_more(self, descriptor: int) -> None:
        """Forget a descriptor that rang; it may have been closed, and be somebody else's by now."""
        if self._readers.get(descriptor, (None,))[0] is self._bell:
            del self._readers[descriptor]
            with suppress(OSError):
                self._epoll.unregister(descriptor)

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Around a wait that ends by something that is not seen here: meanwhile the poller does not stay."""
        self._elsewhere += 1
        self._leaves = True
        try:
            yield
        finally:
            self._elsewhere -= 1

    def leave(self) -> None:
        """Let trio have its turn now."""
        self._leaves = True

    # -- what trio calls -------------------------------------------------------------------------------------------

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if task is not self._task:
            self._leaves = True

    def before_io_wait(self, timeout: float) -> None:
        self._leaves = False
        self._until = perf_counter() + timeout

    def after_io_wait(self, timeout: float) -> None:
        ready = self._epoll.poll(0, MAX_READY)
        if ready:
            self._read(ready, trio.current_time())
            if self.stays > 0:
                self._stay()

    def _stay(self) -> None:
        """Wait for more, and read, for as long as nobody else has anything to do.

        A message may have been waiting for its processor to be woken: what can be done after the read is done there.
        """
        poll = self._epoll.poll
        promptness = self._promptness
        began = perf_counter()
        offset = trio.current_time() - began
        end = min(began + self.stays, self._until)
        while not self._leaves and not self._elsewhere:
            left = min(end - began, STAY_SECONDS)
            if left < _TICK:
                return
            ready: list[tuple[int, int]] = []
            if promptness.awake:
                while not (ready := poll(0, MAX_READY)) and perf_counter() - began < AWAKE_SECONDS:
                    # Whoever shall answer may need this processor.
                    os.sched_yield()
            if not ready:
                ready = poll(left - left % _TICK, MAX_READY)
            found = perf_counter()
            if ready:
                self._read(ready, offset + found)
            promptness.waited(found - began)
            if not ready:
                return
            began = perf_counter()

    def _read(self, ready: list[tuple[int, int]], now: float) -> None:
        """Read each descriptor once, and flush."""
        readers = self._readers
        octets = 0
        flush: Callable[[], None] | None = None
        reader: Reader | None = None
        for descriptor, events in ready:
            found = readers.get(descriptor)
            if found is None:
                continue
            # Bound methods are equal, not identical.
            if flush is not None and reader is not None and (octets >= FLUSH_OCTETS or flush != found[1]):
                _flush(reader, flush)
                octets = 0
            reader, flush = found
            if events & _OUT:
                reader.on_writable()
            if events != _OUT:
                octets += reader.on_readable(now)
        if flush is not None and reader is not None:
            _flush(reader, flush)

    async def run(self) -> None:
        """Have trio's wait end when something can be read; the rest happens in `after_io_wait`."""
        self._task = trio.lowlevel.current_task()
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll)
        finally:
            trio.lowlevel.remove_instrument(self)
            self._epoll.close()


def _flush(reader: Reader, flush: Callable[[], None]) -> None:
    try:
        flush()
    except Exception as fault:  # noqa: BLE001 - an instrument must not raise; it is raised where the reader is driven
        reader.fail(fault)


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


def elsewhere() -> AbstractContextManager[None]:
    """Around a wait that the poller does not see: see `Poller.elsewhere`. Does nothing where there is none."""
    poller = the_poller()
    return nullcontext() if poller is None else poller.elsewhere()


@contextmanager
def rung_by(*descriptors: int) -> Iterator[None]:
    """While tasks wait for these descriptors, they have their turn as soon as one can be read: see `Poller.ring`.

    Those of sockets that are closed (-1) are passed over.
    """
    poller = the_poller()
    if poller is None:
        yield
        return
    for descriptor in descriptors:
        if descriptor >= 0:
            poller.ring(descriptor)
    try:
        yield
    finally:
        for descriptor in descriptors:
            poller.ring_no_more(descriptor)
