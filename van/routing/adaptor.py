"""What the transport drives: the base class of every protocol endpoint.

An adaptor turns bytes into calls on the router core and back. It never awaits, reads no clock and owns no socket:
the driver (`van.transport.driver`) hands it bytes and the time, takes chunks to write, and is told through
`on_wake` that there may be something to write.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from van.amqp.native import mypyc_attr

# One read, and one batch, unless an adaptor knows better.
READ_SIZE: Final = 65536
# One read of small messages: about 1000 of them, one to two milliseconds of work.
BATCH_READ_SIZE: Final = 131072
# A read where large frames come: it holds few of them, so the batch is as short, and there are fewer reads.
LARGE_READ_SIZE: Final = 524288
# A read where links are attached and detached, which costs ten times as much as a message: some 50 of them, two
# milliseconds.
SMALL_READ_SIZE: Final = 4096


def _nobody_drives() -> None:
    """Stand in for `on_wake` until a driver takes over: its first flush finds what is waiting."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Adaptor:
    """One connection of some protocol, without I/O.

    `on_wake` is set by the driver and called after a batch, when this adaptor may have become able to write.
    `closed` becomes true when nothing will follow what `data_to_send` still returns; the driver then ends the stream.
    `opened` becomes true when the peer has taken us (AMQP: its Open arrived), and stays so: listeners cut who is late,
    connectors reset their back-off. `reason` says in words why the connection ended; empty: nothing special. `cut` is
    set by whoever ends the connection and has said so in the log, which then needs no second line. `refusal` says in
    words why a peer that did open is none to talk to; empty: it is one. Connectors take their time then.
    `read_size` is how many octets at most the driver hands over at a time. `departs` is set, with `closed`, by an
    adaptor whose stream goes on in another process: nothing more is read, and `depart` is called when what was written
    is out. `departed` says that it was.

    While `reading` is unset the driver reads nothing; it looks after every batch and flush. `write_ended` is set when
    nothing will follow what `data_to_send` still returns, although the peer may go on: the driver then ends its side of
    the stream. With `resets` the stream is reset, not ended, once the adaptor has closed or is lost. `ends_at_once`
    says that the peer's end costs little: the driver need not see to it that many of them leave others their turns.
    One that is `light` has no deadlines either, and closes only when everything is out or with `resets`: it may be
    driven without a task (`van.transport.light`).
    """

    def __init__(self) -> None:
        self.on_wake: Callable[[], None] = _nobody_drives
        self.closed = False
        self.opened = False
        self.cut = False
        self.reason = ""
        self.refusal = ""
        self.read_size = READ_SIZE
        self.departs = False
        self.departed = False
        self.reading = True
        self.write_ended = False
        self.resets = False
        self.ends_at_once = False
        self.light = False

    def receive_data(self, data: bytes, now: float) -> None:
        """Take octets from the peer. `now` is in seconds of the driver's clock. Never raises for what a peer sends."""
        raise NotImplementedError

    def receive_eof(self, now: float) -> None:
        """The peer will send nothing more."""
        raise NotImplementedError

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        """Return chunks to be written in this order, about `limit` octets at most.

        Fewer than that are all there is, and `closed` is then as it stays.
        """
        raise NotImplementedError

    def look(self) -> None:
        """Take note of what has happened: called in place of `data_to_send` while nothing can be written."""

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called, in seconds of the driver's clock; infinity for never."""
        raise NotImplementedError

    def gives_up_at(self) -> float:
        """When `handle_deadline` will give the peer up unless it is heard before; infinity for never.

        Beyond that a driver need not wait for a peer that takes no octets.
        """
        return inf

    def handle_deadline(self, now: float) -> None:
        """Do what time asks for: heartbeats, time-outs."""
        raise NotImplementedError

    def close(self, condition: str, description: str) -> None:
        """Ask for an orderly end of the connection, told to the peer where its protocol can."""
        raise NotImplementedError

    def connection_lost(self, now: float) -> None:
        """The stream is gone. Called exactly once, whatever the reason, also after an orderly close."""
        raise NotImplementedError

    def depart(self, descriptor: int) -> None:
        """Hand the stream on; its descriptor is closed here afterwards. Called before `connection_lost`."""
        raise NotImplementedError
