"""The one driver of connections: a reader, a writer, and a synchronous flush between them.

Every batch that was read goes to the adaptor, and then all touched adaptors are flushed. Sockets, also under TLS and
WebSocket, are read by the process's `Poller`; other streams have a reader task. A flush writes at once through the
socket's descriptor; what the socket does not take is written when the poller says that it takes more. Streams that are
none, peers that are stuck and the end are left to the writer task.
Whoever writes has `blocked` to himself, so nobody else writes meanwhile.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final

import trio

from van.routing.adaptor import Adaptor
from van.transport.layer_adaptor import behind_layers
from van.transport.poller import Poller, Reader, elsewhere, the_poller
from van.transport.tcp import bound_send_buffer
from van.transport.tls import why_broken

# One turn of encoding for a stream without a descriptor.
WRITE_SIZE: Final = 65536
# What one scattered write takes where payloads are large (64 KiB messages: 97 us of CPU each, 121 when written 64 KiB
# at a time). This much may wait here, outside the byte budget, when a socket takes nothing.
BATCH_SIZE: Final = 524288
# A flush that has written this much leaves the rest for later, so that other connections have their turn. It is more
# than one batch brings in: else every large read would end with something left to write.
FLUSH_LIMIT: Final = 1048576
# From this mean size of a chunk on scattered writes are cheaper than joining (8 x 16 KiB: 6.4 against 9.2 us).
SCATTER_SIZE: Final = 2048
# IOV_MAX is 1024 on Linux and macOS; half of it is as fast.
MAX_CHUNKS: Final = 512
# How long an adaptor that has closed may take to get its last octets out, in seconds.
LINGER: Final = 5.0
# SO_LINGER switched on, with no time to linger.
RESET: Final = struct.pack("ii", 1, 0)


class _Driver(Reader):
    """The state of one connection between who reads and who writes."""

    __slots__ = (
        "adaptor",
        "blocked",
        "bounded",
        "deadline",
        "descriptor",
        "ended",
        "failed",
        "fault",
        "leftover",
        "patience",
        "paused",
        "poller",
        "resumed",
        "shut",
        "stream",
        "unread",
        "wake",
        "wake_touched",
        "watching",
    )

    def __init__(self, stream: trio.abc.Stream, adaptor: Adaptor, wake_touched: Callable[[], None]) -> None:
        self.stream = stream
        self.adaptor = adaptor
        self.wake_touched = wake_touched
        self.wake = trio.Event()
        self.leftover: list[bytes | memoryview] = []
        self.deadline = inf
        # The peer's stream has ended, which `write` deals with for streams that the poller reads.
        self.ended = False
        self.failed = False
        # A fault of ours: another connection's batch may have called for the flush, and has no part in it.
        self.fault: Exception | None = None
        self.descriptor = -1
        if isinstance(stream, trio.SocketStream) and sys.platform != "win32":
            self.descriptor = stream.socket.fileno()
        # While this is set `flush` writes nothing: the poller says when to go on, or the writer task owns the output.
        self.blocked = False
        # The socket was full before: it has the buffer that it needs.
        self.bounded = False
        self.poller: Poller | None = None
        # The poller has been asked to say when the socket takes more.
        self.watching = False
        # The adaptor wants nothing read; and then, the stream has ended both ways, so that the poller forgot it.
        self.paused = False
        self.unread = False
        # Set whenever a reader task may go on.
        self.resumed = trio.Event()
        # We have ended our side of the stream.
        self.shut = False
        # Around what the writer task writes: a peer that takes nothing is waited for as long as it is not given up.
        self.patience: trio.CancelScope | None = None

    def flush(self) -> None:
        """Write what there is: the adaptor's `on_wake`."""
        adaptor = self.adaptor
        if self.blocked or self.failed:
            if not self.failed:
                self._look()
            self.be_patient()
            return
        if self.descriptor < 0:
            self.blocked = True
            self.wake.set()
            return
        room = FLUSH_LIMIT
        while room > 0:
            try:
                chunks = adaptor.data_to_send(BATCH_SIZE)
            except Exception as fault:  # noqa: BLE001 - raised again by `run_adaptor`, for the guard of this connection
                self.fail(fault)
                return
            size = 0
            if chunks:
                try:
                    size = self._write(chunks)
                except OSError:
                    self.failed = True
                    self.wake.set()
                    return
                if size < 0:
                    return
            if size < BATCH_SIZE:
                # That was all.
                if self.paused is adaptor.reading:
                    self._read_or_not()
                if adaptor.write_ended and not self.shut and not adaptor.closed:
                    self._shut()
                if adaptor.closed or adaptor.next_deadline() < self.deadline:
                    self.wake.set()
                return
            room -= size
        self._block()

    def _look(self) -> None:
        """Have the adaptor take note while nothing can be written."""
        try:
            self.adaptor.look()
        except Exception as fault:  # noqa: BLE001 - raised again by `run_adaptor`, for the guard of this connection
            self.fail(fault)
        if self.paused is self.adaptor.reading:
            self._read_or_not()

    def _read_or_not(self) -> None:
        """Read, or read nothing for now, as the adaptor wants it."""
        reading = self.adaptor.reading
        self.paused = not reading
        if reading:
            self.resumed.set()
        if self.poller is not None:
            if self.unread and reading:
                self.unread = False
                self.poller.add(self.descriptor, self, self.wake_touched)
            if not self.unread:
                self.poller.watch(self.descriptor, reading=reading, writing=self.watching)

    def _ended_unread(self) -> None:
        """The stream is broken, or has ended both ways, and there may be octets that nobody wants to read yet."""
        assert isinstance(self.stream, trio.SocketStream)
        state = select.poll()
        state.register(self.descriptor, 0)
        if not state.poll(0):
            # It could be read when the poller asked, and was paused by a connection that had its turn before.
            return
        if self.shut and not self.stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.unread = True
            self.watching = False
            if self.poller is not None:
                self.poller.remove(self.descriptor)
            return
        self._broken(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        self.ended = True
        self.stop_reading()
        self.wake.set()

    def _shut(self) -> None:
        """Everything is out, and nothing will follow: the peer is told. What it sends is still read."""
        self.shut = True
        assert isinstance(self.stream, trio.SocketStream)
        with suppress(OSError):
            self.stream.socket.shutdown(socket.SHUT_WR)

    def _block(self) -> None:
        """Write no more for now: the poller says when to go on. The writer task is for those who are stuck, or ending.

        Being woken costs it 30 us, and a socket that carries large messages is full every few of them.
        """
        self.blocked = True
        poller = self.poller
        if poller is None or self.patience is not None:
            self.wake.set()
            return
        if not self.watching:
            self.watching = True
            poller.watch(self.descriptor, reading=not self.paused, writing=True)
        adaptor = self.adaptor
        if adaptor.closed or min(adaptor.next_deadline(), adaptor.gives_up_at()) < self.deadline:
            self.wake.set()

    def on_writable(self) -> None:
        """The socket takes more: write on. What the poller calls."""
        if not self.watching:
            return
        self.blocked = False
        chunks = self.leftover
        self.leftover = []
        try:
            if chunks and self._write(chunks) < 0:
                return
        except OSError:
            self.failed = True
            self.wake.set()
        self.flush()
        if not self.blocked:
            self._unwatch()

    def _unwatch(self) -> None:
        """Have the poller say no more when the socket takes more."""
        if self.watching:
            self.watching = False
            if self.poller is not None:
                self.poller.watch(self.descriptor, reading=not self.paused, writing=False)

    def _write(self, chunks: list[bytes | memoryview]) -> int:
        """Write without waiting. Returns the octets written, or -1 when the writer task has to go on."""
        total = sum(map(len, chunks))
        self.leftover = write_chunks(self.descriptor, chunks, total)
        if not self.leftover:
            return total
        if not self.bounded:
            self.bounded = True
            bound_send_buffer(self.descriptor)
        self._block()
        return -1

    def be_patient(self) -> None:
        """Say anew how long the writer task may wait: the peer was heard, or the adaptor wants to end."""
        patience = self.patience
        if patience is not None:
            adaptor = self.adaptor
            until = trio.current_time() + LINGER if adaptor.closed else adaptor.gives_up_at()
            patience.deadline = min(patience.deadline, until) if adaptor.closed else until
        elif self.watching and self.adaptor.closed:
            # Somebody has to see that the end does not take for ever.
            self.wake.set()

    def on_readable(self, now: float) -> int:
        """Read a plain socket once: what the poller calls. Nothing is raised; `write` deals with what goes wrong."""
        adaptor = self.adaptor
        if self.failed or self.ended:
            return 0
        if self.paused:
            self._ended_unread()
            return 0
        try:
            data = os.read(self.descriptor, adaptor.read_size)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._broken(error)
            data = b""
        if not data and adaptor.ends_at_once and not self.failed:
            self.stop_reading()
            return self._take(adaptor, b"", now)
        if not data:
            self.ended = True
            self.stop_reading()
            self.wake.set()
            if self.patience is not None:
                # The writer waits for the socket, and has to hear of it first.
                self.patience.deadline = -inf
            return 0
        return self._take(adaptor, data, now)

    def _take(self, adaptor: Adaptor, data: bytes, now: float) -> int:
        """Hand over what was read, or the end. Returns the octets."""
        try:
            if data:
                adaptor.receive_data(data, now)
            else:
                adaptor.receive_eof(now)
            if adaptor.departs:
                # What comes now is for whoever takes the stream over.
                self.stop_reading()
            elif self.paused is adaptor.reading:
                self._read_or_not()
            if self.patience is not None:
                self.be_patient()
            if adaptor.closed or adaptor.next_deadline() < self.deadline:
                # Where there was nothing to write, no flush has told the writer: an Open that sets the first deadline.
                self.wake.set()
        except Exception as fault:  # noqa: BLE001 - raised again by `run_adaptor`, for the guard of this connection
            self.fail(fault)
        return len(data)

    def fail(self, fault: Exception) -> None:
        self.fault = fault
        self.failed = True
        self.stop_reading()
        self.wake.set()

    def read_by(self, poller: Poller) -> None:
        """Have the poller read from now on."""
        self.poller = poller
        poller.add(self.descriptor, self, self.wake_touched)

    def stop_reading(self) -> None:
        """Have the poller read no more; what there is to write is the writer task's."""
        if self.poller is not None:
            self.poller.remove(self.descriptor)
            self.poller = None
        if self.watching:
            self.watching = False
            self.wake.set()

    def _broken(self, error: OSError | trio.BrokenResourceError | trio.ClosedResourceError) -> None:
        """The stream is broken, which is an end; say why, unless the adaptor has."""
        self.failed = True
        if not self.adaptor.closed and not self.adaptor.reason:
            self.adaptor.reason = why_broken(error)

    async def _end(self) -> None:
        """Tell the adaptor that the stream has ended."""
        async with _one_end_at_a_time():
            self.adaptor.receive_eof(trio.current_time())
            self.wake_touched()
            self.be_patient()
            self.wake.set()
            await trio.lowlevel.checkpoint()

    async def read(self) -> None:
        """The reader task: batches in, until the peer's stream ends or the adaptor is done."""
        adaptor = self.adaptor
        receive = self.stream.receive_some
        current_time = trio.current_time
        wake_touched = self.wake_touched
        while not self.failed:
            if not adaptor.reading:
                self.paused = True
                self.resumed = trio.Event()
                await self.resumed.wait()
            try:
                data = await receive(adaptor.read_size)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._broken(error)
                data = b""
            if not data:
                await self._end()
                return
            adaptor.receive_data(data if type(data) is bytes else bytes(data), current_time())
            if adaptor.departs:
                # What comes now is for whoever takes the stream over.
                self.wake.set()
                return
            wake_touched()
            self.be_patient()
            if adaptor.closed or adaptor.next_deadline() < self.deadline:
                self.wake.set()

    async def write(self) -> None:
        """The writer: waits for work that a flush could not finish, for deadlines, and for the end."""
        adaptor = self.adaptor
        stream = self.stream
        while True:
            if self.ended:
                self.ended = False
                await self._end()
            if self.failed:
                return
            if self.blocked:
                self._unwatch()
                with trio.CancelScope() as patience:
                    self.patience = patience
                    self.be_patient()
                    try:
                        with elsewhere():
                            await (self._drain(stream, adaptor) if self.descriptor < 0 else self._drain_socket())
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        self.failed = True
                        return
                    finally:
                        self.patience = None
                if patience.cancelled_caught:
                    if self.ended:
                        continue
                    # Nothing can be told to this peer: the adaptor says why it is given up, and the stream is cut.
                    self.failed = True
                    adaptor.handle_deadline(trio.current_time())
                    return
                if self.ended or self.failed:
                    continue
            if adaptor.closed:
                return
            self.deadline = adaptor.next_deadline()
            late = False
            if self.deadline == inf:
                # A scope costs as much as the wait.
                await self.wake.wait()
            else:
                with trio.move_on_at(self.deadline) as scope:
                    await self.wake.wait()
                late = scope.cancelled_caught
            self.deadline = inf
            if self.wake.is_set():
                self.wake = trio.Event()
            if late:
                adaptor.handle_deadline(trio.current_time())
                self.wake_touched()
                self.flush()

    async def _drain_socket(self) -> None:
        """Write on when the socket takes more, until a flush gets rid of everything."""
        stream = self.stream
        assert isinstance(stream, trio.SocketStream)
        while self.blocked and not self.failed:
            await trio.lowlevel.wait_writable(stream.socket)
            self.blocked = False
            if self.leftover:
                chunks = self.leftover
                self.leftover = []
                try:
                    if self._write(chunks) < 0:
                        continue
                except OSError:
                    self.failed = True
                    return
            self.flush()
            # What was written may have made room elsewhere: credit upstream, other connections' windows.
            self.wake_touched()

    async def _drain(self, stream: trio.abc.Stream, adaptor: Adaptor) -> None:
        """Write all there is, waiting for the stream; then give the output back to `flush`."""
        chunks = self.leftover
        self.leftover = []
        while True:
            if not chunks:
                chunks = adaptor.data_to_send(WRITE_SIZE)
            if not chunks:
                self.blocked = False
                if self.paused is adaptor.reading:
                    self._read_or_not()
                if adaptor.write_ended and not self.shut:
                    self.shut = True
                    if isinstance(stream, trio.abc.HalfCloseableStream):
                        await stream.send_eof()
                return
            await stream.send_all(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            chunks = []
            # What was written may have made room elsewhere: credit upstream, other connections' windows.
            self.wake_touched()


_ends: Final[trio.lowlevel.RunVar[trio.Lock]] = trio.lowlevel.RunVar("van connections that end")


def _one_end_at_a_time() -> trio.Lock:
    """Held while the end of a stream is dealt with, which takes milliseconds where there were a thousand links.

    Of a hundred connections that end in one moment, each lets everybody else have a turn.
    """
    try:
        return _ends.get()
    except LookupError:
        lock = trio.Lock()
        _ends.set(lock)
        return lock


def write_chunks(descriptor: int, chunks: list[bytes | memoryview], total: int) -> list[bytes | memoryview]:
    """Write to a socket that does not block: small chunks joined, large ones scattered. Returns what it did not take.

    total: the octets of all chunks.
    """
    count = len(chunks)
    try:
        if total >= count * SCATTER_SIZE and count <= MAX_CHUNKS:
            size = os.writev(descriptor, chunks)
        else:
            chunks = [b"".join(chunks)]
            size = os.write(descriptor, chunks[0])
    except BlockingIOError:
        return chunks
    return [] if size == total else _without(chunks, size)


def _without(chunks: list[bytes | memoryview], size: int) -> list[bytes | memoryview]:
    """The chunks behind the first `size` octets."""
    for index, chunk in enumerate(chunks):
        if size < len(chunk):
            return [memoryview(chunk)[size:], *chunks[index + 1 :]]
        size -= len(chunk)
    return []


async def run_adaptor(stream: trio.abc.Stream, adaptor: Adaptor, wake_touched: Callable[[], None]) -> None:
    """Drive `adaptor` over `stream` until either ends; the stream is closed and `connection_lost` called, always.

    `wake_touched` (`Router.wake_touched`) is called after every batch and flushes all adaptors that can write now.
    Exceptions of the adaptor itself pass through: they are faults of ours, for the guard of the listener or connector.
    """
    stream, adaptor, layered = behind_layers(stream, adaptor)
    driver = _Driver(stream, adaptor, wake_touched)
    adaptor.on_wake = driver.flush
    poller = the_poller() if driver.descriptor >= 0 else None
    try:
        for waiting in layered:
            waiting.receive_data(b"", trio.current_time())
        if layered:
            wake_touched()
        if poller is not None:
            driver.read_by(poller)
            driver.flush()
            # What the adaptor has begun may be another's to write.
            wake_touched()
            await driver.write()
        else:
            with elsewhere():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(driver.read)
                    driver.flush()
                    wake_touched()
                    await driver.write()
                    nursery.cancel_scope.cancel()
        if driver.fault is not None:
            raise driver.fault
    finally:
        driver.stop_reading()
        adaptor.on_wake = gone
        if adaptor.departs and not driver.failed:
            adaptor.departed = True
            adaptor.depart(driver.descriptor)
        adaptor.connection_lost(trio.current_time())
        wake_touched()
        if adaptor.resets and isinstance(stream, trio.SocketStream):
            # RFC 1122, 4.2.2.13: what is not out by now is thrown away, and the peer sees a reset.
            with suppress(OSError):
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if isinstance(stream, trio.SocketStream):
            # It is closed by the system: there is nothing to wait for.
            stream.socket.close()
        else:
            # In order, or when this is being cancelled at once: a peer that does not answer holds nobody up.
            with trio.move_on_after(LINGER):
                await stream.aclose()


def gone() -> None:
    """Stand in for `on_wake` when the driver has ended."""
