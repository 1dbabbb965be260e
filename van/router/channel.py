"""Messages between two processes of one site, in order, each with one file descriptor at most.

A socket pair that the worker was started with carries them: five octets of header, then a pickled message of one of
the classes below. Whoever is at the other end is this program, run by the same user, with the same code: pickle is for
that. The end of the stream means that the other process is gone.
"""

from __future__ import annotations

import array
import errno
import os
import pickle
import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from van.transport.poller import rung_by

if TYPE_CHECKING:
    from van.management.elsewhere import Piece, Question
    from van.router.config import SiteConfig

# The length of the message, and whether a descriptor goes with it.
_HEADER: Final = struct.Struct(">IB")
_READ_SIZE: Final = 65536
# What the kernel says when too many descriptors are under way, or it has no memory for them, and how long to wait then.
_FULL: Final = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)
_FULL_SECONDS: Final = 0.05
# Descriptors that one read may bring; the kernel hands over those of one write at a time, and we write one at a time.
_DESCRIPTORS: Final = 16


@dataclass(frozen=True, slots=True)
class Start:
    """To a worker, first of all: who it is, and what it is to do. `name` is for logs."""

    index: int
    name: str
    version: str
    config: SiteConfig


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker: it takes connections."""


@dataclass(frozen=True, slots=True)
class Taken:
    """To a worker, with a descriptor: here is a connection of this listener.

    said holds the fields of a `Record`; None where nothing was said. Compiled classes are not pickled.
    """

    number: int
    listener: str
    said: tuple[tuple[tuple[int, bytes], ...], bytes, int, tuple[int, ...]] | None


@dataclass(frozen=True, slots=True)
class Over:
    """From a worker: a connection has ended."""

    number: int


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """To a worker: this is in force now."""

    config: SiteConfig


@dataclass(frozen=True, slots=True)
class Describe:
    """To a worker: write down what there is."""


@dataclass(frozen=True, slots=True)
class Drain:
    """To a worker: let what is under way settle."""

    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """From a worker that drains: nothing is under way, or its time is over."""


@dataclass(frozen=True, slots=True)
class Close:
    """To a worker that drains: close all connections, and end."""


@dataclass(frozen=True, slots=True)
class Ask:
    """To a worker: what it knows of something that worker 0 was asked about."""

    number: int
    question: Question


@dataclass(frozen=True, slots=True)
class Told:
    """From a worker: a piece of what it knows; the last one has none."""

    number: int
    piece: Piece | None


Message = Start | Ready | Taken | Over | Reconfigure | Describe | Drain | Settled | Close | Ask | Told


class Channel:
    """One end of a channel.

    `send` never waits: messages are few, and as many as there are connections at most. `run` writes them.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = trio.socket.from_stdlib_socket(sock)
        self._outgoing: deque[tuple[bytes, int]] = deque()
        self._more = trio.Event()
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()
        self._closed = False

    def send(self, message: Message, descriptor: int = -1) -> None:
        """Send a message, and a descriptor with it; that belongs to the channel from here on, and is closed."""
        if self._closed:
            if descriptor >= 0:
                os.close(descriptor)
            return
        self._outgoing.append((_encode(message, descriptor), descriptor))
        self._more.set()

    async def run(self) -> None:
        """Write what is to be sent, until cancelled or until nobody is there to read it."""
        with suppress(OSError, trio.ClosedResourceError):
            while True:
                await self._more.wait()
                self._more = trio.Event()
                while self._outgoing:
                    await self._write(*self._outgoing[0])
                    if self._closed:
                        return
                    _, descriptor = self._outgoing.popleft()
                    if descriptor >= 0:
                        os.close(descriptor)

    async def _write(self, octets: bytes, descriptor: int) -> None:
        rest = memoryview(octets)
        while descriptor >= 0 and len(rest) == len(octets):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            try:
                rest = rest[await self._socket.sendmsg([rest], rights) :]
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                await trio.sleep(_FULL_SECONDS)
        while rest:
            rest = rest[await self._socket.send(rest) :]

    async def receive(self) -> tuple[Message, int] | None:
        """The next message and its descriptor: -1 for none, or one too many for this process. None at the end."""
        buffer = self._buffer
        while True:
            if len(buffer) >= _HEADER.size:
                size, with_descriptor = _HEADER.unpack_from(buffer)
                end = _HEADER.size + size
                if len(buffer) >= end:
                    message: Message = pickle.loads(memoryview(buffer)[_HEADER.size : end])  # noqa: S301 - see above
                    del buffer[:end]
                    return message, self._descriptors.popleft() if with_descriptor else -1
            try:
                with rung_by(self._socket.fileno()):
                    data, ancillary, flags, _ = await self._socket.recvmsg(
                        _READ_SIZE, socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
                    )
            except (OSError, trio.ClosedResourceError):
                return None
            found = [descriptor for _, _, octets in ancillary for descriptor in _descriptors(octets)]
            if not found and flags & socket.MSG_CTRUNC:
                # This process has as many open as it may: the connection is lost.
                found = [-1]
            self._descriptors.extend(found)
            if not data:
                return None
            buffer += data

    def close(self) -> None:
        """Close this end, and what was not sent."""
        self._closed = True
        self._socket.close()
        for descriptor in (*(descriptor for _, descriptor in self._outgoing), *self._descriptors):
            if descriptor >= 0:
                os.close(descriptor)
        self._outgoing.clear()
        self._descriptors.clear()


def receive_start(sock: socket.socket) -> Start | None:
    """Read the first message, before there is a loop to wait in. None when nobody is there any more."""
    header = _exactly(sock, _HEADER.size)
    octets = _exactly(sock, _HEADER.unpack(header)[0]) if header else b""
    if not octets:
        return None
    message = pickle.loads(octets)  # noqa: S301 - see above
    assert isinstance(message, Start)
    return message


def _exactly(sock: socket.socket, size: int) -> bytes:
    octets = bytearray()
    while len(octets) < size:
        data = sock.recv(size - len(octets))
        if not data:
            return b""
        octets += data
    return bytes(octets)


def _encode(message: Message, descriptor: int) -> bytes:
    octets = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _HEADER.pack(len(octets), descriptor >= 0) + octets


def _descriptors(octets: bytes) -> list[int]:
    """Those in an ancillary message, which our own children are not to inherit."""
    found = array.array("i")
    found.frombytes(octets[: len(octets) - len(octets) % found.itemsize])
    for descriptor in found:
        os.set_inheritable(descriptor, False)
    return found.tolist()
