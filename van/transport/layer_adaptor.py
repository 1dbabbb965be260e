"""An adaptor behind TLS or WebSocket, as the driver sees it: one that has a plain socket.

The driver reads and writes a socket whatever the protocols above it are. So octets that a batch has caused are
encrypted and written in the turn that read it, by no other task.
"""

from __future__ import annotations

from math import inf

import trio

from van.routing.adaptor import Adaptor
from van.transport.layer import CLOSE_TIMEOUT, Layer, LayerStream
from van.transport.tls import why_broken


def behind_layers(stream: trio.abc.Stream, adaptor: Adaptor) -> tuple[trio.abc.Stream, Adaptor, list[LayerAdaptor]]:
    """The stream that carries the layers of `stream`, the adaptor to drive over it, and all adaptors made here.

    The latter, from the lowest layer up, are to be given no octets once: there may be some that came with a handshake.
    """
    made: list[LayerAdaptor] = []
    while isinstance(stream, LayerStream):
        adaptor = LayerAdaptor(adaptor, stream.layer)
        made.insert(0, adaptor)
        stream = stream.carrier
    return stream, adaptor, made


class LayerAdaptor(Adaptor):
    """An adaptor behind a layer, as the driver sees it."""

    def __init__(self, inner: Adaptor, layer: Layer) -> None:
        super().__init__()
        self.inner = inner
        self.layer = layer
        self.read_size = inner.read_size
        inner.on_wake = self._wake
        self._eof = False
        # We have told the peer, in words of the layer, that nothing more will come; and want nothing more either.
        self._said = False
        self._closing = False
        # On the driver's clock, when the adaptor has closed: the latest end of the layer.
        self._close_by = inf

    def _wake(self) -> None:
        self.on_wake()

    def receive_data(self, data: bytes, now: float) -> None:
        layer = self.layer
        inner = self.inner
        if self._eof:
            # It has ended or is at fault: what follows is for the layer at most, which may wait for an answer.
            if not layer.fault:
                layer.receive(data)
        else:
            octets = layer.receive(data)
            if octets:
                inner.receive_data(octets, now)
                self.read_size = inner.read_size
                self.reading = inner.reading
            if layer.ended or layer.fault:
                self._end(now)
        if self._closing and layer.closed:
            self.closed = True
        if layer.speaks() or inner.closed or self.closed:
            # The router knows nothing of it.
            self.on_wake()

    def receive_eof(self, now: float) -> None:
        if not self._eof:
            self.layer.receive_eof()
            self._end(now)
        if self._closing or self.layer.fault or self.inner.closed:
            self._closing = True
            self.closed = True

    def _end(self, now: float) -> None:
        """Nothing more will come, in order or not."""
        inner = self.inner
        fault = self.layer.fault
        self._eof = True
        if not inner.closed and not inner.reason:
            if self.reason:
                inner.reason = self.reason
            elif fault is not None:
                inner.reason = why_broken(fault)
        inner.receive_eof(now)

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        layer = self.layer
        if not self._closing and not layer.held:
            inner = self.inner
            chunks = inner.data_to_send(limit)
            self.reading = inner.reading
            if chunks:
                layer.send(chunks)
            if (inner.closed or inner.write_ended) and sum(map(len, chunks)) < limit:
                if inner.closed:
                    self._closing = True
                    self._note_close()
                    if inner.resets:
                        # Whoever is cut off is not to take it for an end.
                        layer.closed = True
                    else:
                        layer.close()
                elif not self._said:
                    self._said = True
                    layer.end()
        octets = layer.take()
        self.write_ended = self._said
        if self._closing and layer.closed:
            self.closed = True
        return octets

    def _note_close(self) -> None:
        if self._close_by == inf:
            self._close_by = trio.current_time() + CLOSE_TIMEOUT

    def look(self) -> None:
        self.inner.look()
        self.reading = self.inner.reading

    def next_deadline(self) -> float:
        return self._close_by if self._closing else self.inner.next_deadline()

    def gives_up_at(self) -> float:
        if self.inner.closed:
            self._note_close()
            return self._close_by
        return self.inner.gives_up_at()

    def handle_deadline(self, now: float) -> None:
        if self._closing:
            # The peer does not answer our end, or does not take it.
            self.closed = True
        else:
            self.inner.handle_deadline(now)

    def close(self, condition: str, description: str) -> None:
        self.inner.close(condition, description)

    def connection_lost(self, now: float) -> None:
        if not self.inner.reason:
            self.inner.reason = self.reason
        self.inner.connection_lost(now)
        self.resets = self.inner.resets
