"""What a router asks of the process that it runs in: descriptors, its thread, and a collector that seldom stops it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from van.transport.poller import STAY_LIMIT, the_poller

# What macOS allows a process where it says that there is no limit.
OPEN_MAX: Final = 10_240

# A collection of the youngest objects costs by their number, which is bounded by this: tens of microseconds, a
# millisecond where all of them stay, as when thousands of addresses come. Python's own 700 would have one for every few
# reads.
YOUNG_OBJECTS: Final = 5000
# Every so many of those, objects that survived one are looked at as well: 5 ms where all of them did.
MIDDLE_ROUNDS: Final = 5
# A full collection looks at every object there is, 40 ms for 100 000 addresses. With this one comes after a hundred
# million objects more than went away, which is never: `FullCollections` asks for one when there is a reason.
FULL_ROUNDS: Final = 4000
# A connection that ends is taken apart; of the tasks and streams around it a few objects may still refer to each other,
# and only a full collection is sure to free them: one after so many connections (a few MiB), and after a quarter of
# those that are open, so that its cost for each stays the same.
ENDED_CONNECTIONS: Final = 10_000
OPEN_SHARE: Final = 4
# What the freed objects of connections and links occupied is given back to the system when there were so many, and no
# more end: a collection empties the interpreter's free lists, which pin arenas of a MiB each. Of the 16 KB of each of
# 10 000 connections 3 to 6 KB stay: arenas in which a few objects live on.
ENDED_ENOUGH: Final = 100
# An address takes a sixteenth of the memory of a connection.
ADDRESSES: Final = 16
# madvise(2); and a large page of x86-64, and of arm64 with small ones of 4 KiB, in octets.
MADV_COLLAPSE: Final = 25
LARGE_PAGE: Final = 2 * 1024 * 1024


def raise_file_limit() -> int:
    """Let this process open as many files and connections as the system lets it. Returns the limit; 0 for none."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, OPEN_MAX):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            continue
        return wanted
    return soft


def settle() -> None:
    """This process is a router and nothing else from here on: the poller may keep the thread for moments."""
    poller = the_poller()
    if poller is not None:
        poller.stays = STAY_LIMIT
    settle_memory()


def settle_memory() -> None:
    """Everything that exists now will stay: no collection looks at it again, and it lies in large pages if it can."""
    gc.collect()
    gc.freeze()
    use_large_pages()
    gc.set_threshold(YOUNG_OBJECTS, MIDDLE_ROUNDS, FULL_ROUNDS)


def use_large_pages() -> int:
    """Move what is in memory now to large pages, where the system does that at once (Linux 6.1). Returns the octets.

    An interpreter looks at hundreds of small pages for a message, more than a processor keeps the addresses of. Nobody
    misses anything where this is not done.
    """
    if sys.platform != "linux":
        return 0
    import ctypes

    advise = ctypes.CDLL(None).madvise
    moved = 0
    with suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            # proc(5): range, permissions, offset, device, inode, and the name of what is there: none for allocations.
            place, permissions, _, _, _, *name = line.split()
            if permissions != "rw-p" or name not in ([], ["[heap]"]):
                continue
            start, end = (int(address, 16) for address in place.split("-"))
            start += -start % LARGE_PAGE
            size = (end - start) // LARGE_PAGE * LARGE_PAGE
            if size > 0 and advise(ctypes.c_void_p(start), ctypes.c_size_t(size), MADV_COLLAPSE) == 0:
                moved += size
    return moved


def give_back_memory() -> None:
    """Collect all garbage, and let the system have the memory that is free."""
    gc.collect()
    if sys.platform == "linux":
        import ctypes

        # glibc keeps the free memory between what is in use; other C libraries have no such function.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class FullCollections:
    """Counts ended connections, and frees what they left behind when it has become much, or no more end."""

    __slots__ = ("_collect", "_ended", "_give_back", "_untidy")

    def __init__(
        self, collect: Callable[[], object] = gc.collect, give_back: Callable[[], object] = give_back_memory
    ) -> None:
        # Since the last collection, and since memory was given back.
        self._ended = 0
        self._untidy = 0
        self._collect = collect
        self._give_back = give_back

    def connection_ended(self) -> None:
        self._ended += 1
        self._untidy += 1

    def addresses_forgotten(self, count: int) -> None:
        self._untidy += count // ADDRESSES

    def tidy(self, connections: int, *, quiet: bool) -> None:
        """Collect if that is worth while with so many `connections` open. `quiet`: none has ended of late."""
        share = connections // OPEN_SHARE
        if quiet and self._untidy >= max(ENDED_ENOUGH, share):
            self._ended = self._untidy = 0
            self._give_back()
        elif self._ended >= max(ENDED_CONNECTIONS, share):
            self._ended = 0
            self._collect()
