"""Protocols between a socket and an adaptor: TLS, WebSocket, or one above the other.

A `Layer` is such a protocol without I/O: octets of below go in and octets for above come out, and the other way round.
`LayerStream` makes a trio stream of one, for handshakes and for whoever wants to speak by himself. The driver does not
use it as a stream: it takes it apart (see `layer_adaptor`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

# How long a peer may take to answer the end of a layer, in seconds.
CLOSE_TIMEOUT: Final = 5.0

# How much of what a peer still sends is read while its answer to our end is waited for.
CLOSE_OCTETS: Final = 1 << 20

Octets = bytes | bytearray | memoryview


class Layer:
    """One connection's side of a protocol that carries octets.

    `ended`: the peer has said, in order, that nothing more will come. `closed`: after `close`, nothing is waited for
    any more. `fault`: the peer broke the protocol, or has ended out of order; nothing more will come, and `take` has
    what it is to be told. `held` is true while what was given to `send` cannot be turned into octets before
    something is received; whoever gives more then must bound it.
    """

    __slots__ = ("closed", "ended", "fault", "held")

    def __init__(self) -> None:
        self.closed = False
        self.ended = False
        self.fault: trio.BrokenResourceError | None = None
        self.held = False

    def receive(self, data: bytes) -> bytes:
        """Take octets from below; returns those for above, which may be none. Afterwards see `fault` and `ended`."""
        raise NotImplementedError

    def receive_eof(self) -> None:
        """Nothing more will come from below, which is a `fault` unless the peer has ended in order."""
        raise NotImplementedError

    def send(self, chunks: Sequence[Octets]) -> None:
        """Take octets from above."""
        raise NotImplementedError

    def take(self) -> list[bytes | memoryview]:
        """Octets to be written below; an empty list for nothing."""
        raise NotImplementedError

    def speaks(self) -> bool:
        """Whether `take` has something."""
        raise NotImplementedError

    def end(self) -> None:
        """Tell the peer that nothing more will come, and take what it may still send."""
        raise NotImplementedError

    def close(self) -> None:
        """Tell the peer that nothing more will come, unless it was told so, and want nothing more."""
        raise NotImplementedError


class LayerStream(trio.abc.Stream):
    """A layer over the stream that carries it, as a stream."""

    def __init__(self, carrier: trio.abc.Stream, layer: Layer) -> None:
        self.carrier = carrier
        self.layer = layer
        self._closed = False
        self._sending = False
        self._receiving = False
        self._received = b""
        # What the layer says by itself may have to go out while somebody sends.
        self._writing = trio.StrictFIFOLock()

    async def flush(self) -> None:
        """Write what the layer has to say."""
        chunks = self.layer.take()
        if chunks:
            async with self._writing:
                await self.carrier.send_all(b"".join(chunks))

    async def send_all(self, data: Octets) -> None:
        """Send octets. Cancelled half-way it leaves a piece on the wire: then the stream can only be closed."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            self._check_open()
            if data:
                if self.layer.closed:
                    raise trio.BrokenResourceError("the peer has ended the connection")
                self.layer.send((data,))
                await self.flush()
            else:
                await trio.lowlevel.checkpoint()
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream below can take octets."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            self._check_open()
            async with self._writing:
                await self.carrier.wait_send_all_might_not_block()
        finally:
            self._sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Octets of the peer; none after an orderly end. Raises BrokenResourceError after any other."""
        if max_bytes is not None:
            if not isinstance(max_bytes, int):
                raise TypeError("max_bytes must be an integer")
            if max_bytes < 1:
                raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            self._check_open()
            if self._received:
                await trio.lowlevel.checkpoint()
            else:
                self._received = await self._receive()
            octets = self._received[:max_bytes]
            self._received = self._received[len(octets) :]
            return octets
        finally:
            self._receiving = False

    async def _receive(self) -> bytes:
        """The next octets; none at the end."""
        layer = self.layer
        # It may hold some that came with the end of its handshake.
        data = b""
        while True:
            octets = layer.receive(data) if not layer.fault else b""
            await self.flush()
            if octets or layer.ended or layer.fault:
                if not data:
                    await trio.lowlevel.checkpoint()
                if layer.fault and not octets:
                    raise trio.BrokenResourceError(str(layer.fault)) from layer.fault.__cause__
                return octets
            data = bytes(await self.carrier.receive_some())
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed")
            if not data:
                layer.receive_eof()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")

    async def aclose(self) -> None:
        """End in order, and wait at most CLOSE_TIMEOUT for an answer where the layer has one; then close what carries.

        A task that is sending or receiving meanwhile gets ClosedResourceError.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            with trio.move_on_after(CLOSE_TIMEOUT):
                await self._close_layer()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass
        finally:
            await trio.aclose_forcefully(self.carrier)

    async def _close_layer(self) -> None:
        layer = self.layer
        layer.close()
        await self.flush()
        left = CLOSE_OCTETS
        while not layer.closed and left > 0:
            data = bytes(await self.carrier.receive_some())
            if not data:
                return
            left -= len(data)
            layer.receive(data)
            await self.flush()
