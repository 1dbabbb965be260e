"""A driver without a task, for connections that begin and end by the thousand.

An adaptor that is `light` wants nothing but its octets carried: it closes when everything is out, or to be reset; it
has no deadlines; the end of its peer costs little. Over a plain socket the poller can do that alone. A task for each
connection, with its scopes and its turns of the scheduler, would cost more than all the rest of a short connection.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from van.routing.adaptor import Adaptor
from van.transport.driver import BATCH_SIZE, FLUSH_LIMIT, RESET, gone, write_chunks
from van.transport.poller import Poller, Reader
from van.transport.tcp import bound_send_buffer, keep_alive
from van.transport.tls import why_broken

# Connections that are accepted in one turn of the poller: others wait for theirs.
ACCEPTS: Final = 16


class Acceptor(Reader):
    """Accepts connections at a listening socket, which stays the caller's, from `begin` to `end`.

    Each is given to `accepted` with its peer's address, as the descriptor of a socket that does not block. `failed` is
    told what the system lacks; nothing is accepted then until `begin` is called anew. The socket's options are its
    connections', too.
    """

    __slots__ = ("_accepted", "_failed", "_poller", "_socket", "_wake_touched")

    def __init__(
        self,
        descriptor: int,
        poller: Poller,
        wake_touched: Callable[[], None],
        accepted: Callable[[int, tuple[str, int], float], None],
        failed: Callable[[Acceptor, OSError], None],
    ) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._poller = poller
        self._wake_touched = wake_touched
        self._accepted = accepted
        self._failed = failed

    def begin(self) -> None:
        """Accept from now on. Nothing happens behind the end."""
        if self._socket.fileno() >= 0:
            self._poller.add(self._socket.fileno(), self, self._wake_touched)

    def end(self) -> None:
        """Accept no more: the socket may be closed."""
        if self._socket.fileno() >= 0:
            self._poller.remove(self._socket.fileno())
            self._socket.detach()

    def on_readable(self, now: float) -> int:
        for _ in range(ACCEPTS):
            if self._socket.fileno() < 0:
                return 0
            try:
                # As `accept` does it, which makes an object of it, for as much time again as the call takes.
                descriptor, address = self._socket._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, ConnectionAbortedError):
                return 0
            except OSError as error:
                self._poller.remove(self._socket.fileno())
                self._failed(self, error)
                return 0
            os.set_blocking(descriptor, False)
            self._accepted(descriptor, address[:2], now)
        return 0


class LightConnect(Reader):
    """Connects a socket, which is then given to `done` with the number of an error, 0 for none.

    The poller still knows it then: whoever goes on with it takes it over (`Poller.add`), or has it forgotten.
    """

    __slots__ = ("_done", "_ended", "_poller", "_socket")

    def __init__(
        self,
        family: int,
        address: tuple[str, int],
        poller: Poller,
        wake_touched: Callable[[], None],
        done: Callable[[LightConnect, socket.socket, int], None],
    ) -> None:
        """Raises OSError when there is no socket to be had, or no way to go."""
        self._poller = poller
        self._done = done
        self._ended = False
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        set_options(self._socket)
        number = self._socket.connect_ex(address)
        if number not in (0, errno.EINPROGRESS):
            self._socket.close()
            raise OSError(number, os.strerror(number))
        poller.add(self._socket.fileno(), self, wake_touched, reading=False, writing=True)

    def on_writable(self) -> None:
        if not self._ended:
            self._end(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def on_readable(self, now: float) -> int:
        # It has broken before it stood, which the poller may say in both ways.
        if not self._ended:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self._end(number)
            # Else this was about another socket that had its number in the same turn.
        return 0

    def give_up(self) -> None:
        """It takes too long."""
        self._end(errno.ETIMEDOUT)

    def _end(self, number: int) -> None:
        if self._ended:
            return
        self._ended = True
        self._done(self, self._socket, number)


def set_options(sock: socket.socket | trio.socket.SocketType) -> None:
    """Those of every connection; those of a listening socket are its connections' too."""
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive(sock)


def numeric_address(host: str, port: int) -> tuple[int, tuple[str, int]] | None:
    """The family and address of a host that is a number, None for one that has to be looked up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return family, (host, port)
    return None


class LightDriver(Reader):
    """Drives one adaptor over one socket until either ends; then `over` is called, with a fault of ours if any.

    Everything happens in calls of the poller, of other adaptors' batches, and of whoever closes the adaptor and then
    wakes it. `adaptor.connection_lost` is called, always.
    """

    __slots__ = (
        "_adaptor",
        "_blocked",
        "_bounded",
        "_descriptor",
        "_ended",
        "_interest",
        "_is_over",
        "_leftover",
        "_over",
        "_poller",
        "_shut",
        "_socket",
        "_wake_touched",
    )

    def __init__(
        self,
        connected: int | socket.socket,
        adaptor: Adaptor,
        wake_touched: Callable[[], None],
        poller: Poller,
        over: Callable[[Exception | None], None],
    ) -> None:
        """connected: a socket that does not block, or its descriptor: ours from now on.

        An adaptor with something to write wakes the driver when its batch is over.
        """
        self._socket = None if isinstance(connected, int) else connected
        self._descriptor = connected if isinstance(connected, int) else connected.fileno()
        self._adaptor = adaptor
        self._wake_touched = wake_touched
        self._poller = poller
        self._over = over
        self._leftover: list[bytes | memoryview] = []
        # The socket takes nothing for now; that has been so before; the peer's side has ended; we have ended ours.
        self._blocked = False
        self._bounded = False
        self._ended = False
        self._shut = False
        self._is_over = False
        # What the poller has been asked for: reading, writing; None: it does not know the socket.
        self._interest: tuple[bool, bool] | None = (adaptor.reading, False)
        adaptor.on_wake = self.flush
        poller.add(self._descriptor, self, wake_touched, reading=adaptor.reading)
        if adaptor.closed:
            self.flush()

    # -- to the socket -------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what there is: the adaptor's `on_wake`."""
        if self._is_over:
            return
        try:
            self._flush()
        except OSError as error:
            self._break(error)
        except Exception as fault:  # noqa: BLE001 - told to `over`: another connection's batch has no part in it
            self._finish(fault)

    def _flush(self) -> None:
        adaptor = self._adaptor
        if self._blocked:
            adaptor.look()
        else:
            room = FLUSH_LIMIT
            while room > 0 and not self._blocked:
                chunks = adaptor.data_to_send(BATCH_SIZE)
                if not chunks:
                    break
                size = sum(map(len, chunks))
                self._write(chunks, size)
                if size < BATCH_SIZE:
                    break
                room -= size
            if room <= 0:
                # Others have their turn.
                self._blocked = True
        if adaptor.closed and (adaptor.resets or not self._blocked):
            self._finish(None)
            return
        if adaptor.write_ended and not self._shut and not self._blocked:
            self._shut = True
            with suppress(OSError):
                self._as_socket().shutdown(socket.SHUT_WR)
        self._watch()

    def _write(self, chunks: list[bytes | memoryview], size: int) -> None:
        self._leftover = write_chunks(self._descriptor, chunks, size)
        self._blocked = bool(self._leftover)
        if self._blocked and not self._bounded:
            self._bounded = True
            bound_send_buffer(self._descriptor)

    def on_writable(self) -> None:
        if self._is_over or not self._blocked:
            return
        self._blocked = False
        chunks = self._leftover
        self._leftover = []
        try:
            if chunks:
                self._write(chunks, sum(map(len, chunks)))
        except OSError as error:
            self._break(error)
            return
        if not self._blocked:
            self.flush()

    # -- from the socket -----------------------------------------------------------------------------------------

    def on_readable(self, now: float) -> int:
        adaptor = self._adaptor
        if self._is_over:
            return 0
        if self._ended or self._interest is None or not self._interest[0]:
            self._look_whether_broken()
            return 0
        try:
            data = os.read(self._descriptor, adaptor.read_size)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._break(error)
            return 0
        try:
            if data:
                adaptor.receive_data(data, now)
            else:
                self._ended = True
                adaptor.receive_eof(now)
        except Exception as fault:  # noqa: BLE001 - told to `over`: another connection's batch has no part in it
            self._finish(fault)
            return len(data)
        if adaptor.closed:
            self.flush()
        else:
            self._watch()
        return len(data)

    def _look_whether_broken(self) -> None:
        """The poller has something to say though nothing is to be read: it may be what was there before."""
        state = select.poll()
        state.register(self._descriptor, 0)
        if not state.poll(0):
            return
        number = self._as_socket().getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self._shut and not self._ended and not number:
            # It has ended both ways, and octets are still to be read when there is room for them.
            if self._interest is not None:
                self._interest = None
                self._poller.remove(self._descriptor)
            return
        number = number or errno.ECONNRESET
        self._break(ConnectionResetError(number, os.strerror(number)))

    def _watch(self) -> None:
        """Have the poller look for what is wanted now."""
        if self._is_over:
            return
        interest = self._interest
        reading = self._adaptor.reading and not self._ended
        if interest is None:
            if not reading:
                return
            self._poller.add(self._descriptor, self, self._wake_touched)
            interest = (True, False)
        wanted = (reading, self._blocked)
        if wanted != interest:
            self._poller.watch(self._descriptor, reading=wanted[0], writing=wanted[1])
        self._interest = wanted

    # -- the end -------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """End it now."""
        self._finish(None)

    def _break(self, error: OSError) -> None:
        if not self._adaptor.closed and not self._adaptor.reason:
            self._adaptor.reason = why_broken(error)
        self._finish(None)

    def _finish(self, fault: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        adaptor = self._adaptor
        if self._interest is not None:
            self._poller.forget(self._descriptor)
        adaptor.on_wake = gone
        try:
            adaptor.connection_lost(trio.current_time())
        except Exception as error:  # noqa: BLE001 - as above
            fault = fault or error
        if adaptor.resets or fault is not None:
            with suppress(OSError):
                self._as_socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._descriptor)
        self._over(fault)

    def _as_socket(self) -> socket.socket:
        """For that for which `os` has no function. Most connections that were accepted come and go without."""
        if self._socket is None:
            # Of which kind it is matters to none of this, and would be asked of the system.
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, self._descriptor)
        return self._socket


def local_address(descriptor: int) -> tuple[str, int]:
    """Our end of a connection. Raises OSError when it is gone already."""
    sock = socket.socket(fileno=descriptor)
    try:
        address: tuple[str, int] = sock.getsockname()[:2]
        return address
    finally:
        sock.detach()
