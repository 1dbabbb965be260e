"""Clients that cost next to nothing: the engine shakes hands, then frames are made and counted by hand.

`Peer` is a connection of an application with one session; `Batches` makes Transfers of one link many at a time;
`Counter` counts what comes in without decoding more than it has to. `dial` gives a peer its socket.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from itertools import repeat

from streams import Stream

from van.amqp.connection import Connection
from van.amqp.hot import (
    MORE,
    decode_disposition,
    decode_flow,
    decode_transfer,
    encode_disposition,
    encode_flow,
    encode_transfer,
)
from van.amqp.link import Link
from van.amqp.message import Data, Header, Message, Properties
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import AnonymousClient, SaslClient
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session, WindowPolicy
from van.amqp.terminus import Source, Target

MASK = 0xFFFFFFFF
# Our session's window: never what limits a benchmark.
WINDOW = 0x3FFFFFFF
# What a receiver grants; renewed when half of it is used.
CREDIT = 500
ACCEPTED = b"\x00\x53\x24\x45"
_TRANSFER = 0x14
_FLOW = 0x13
_DISPOSITION = 0x15
_unpack_uint: Callable[[bytes, int], tuple[int]] = struct.Struct(">I").unpack_from


def message(size: int, start: bytes = b"", to: str | None = None) -> bytes:
    """A message with a body of `size` octets that begins with `start`, and no other section.

    With `to` it has the sections that a client library gives it: a header and properties with message-id and to.
    """
    body = Data(start.ljust(size, b"x"))
    if to is None:
        return Message(body=body).encode()
    return Message(header=Header(durable=False), properties=Properties(message_id=1 << 40, to=to), body=body).encode()


def body_start(size: int) -> int:
    """Where the body begins in `message(size)`."""
    return len(message(size)) - size


class Peer:
    """One application's connection without a socket: octets to write in `take()`, octets read into `receive()`."""

    def __init__(self, name: str) -> None:
        self.connection = Connection(
            name, accepting=False, sasl=SaslClient([AnonymousClient()]), window_policy=WindowPolicy(WINDOW)
        )
        self.connection.open()
        self.session: Session = self.connection.session()
        self.session.begin()
        self.links: list[Link] = []

    def sender(self, address: str) -> SenderLink:
        """Attach a link that sends to an address."""
        link = self.session.sender(f"to {address}")
        link.attach(Attach(name="", handle=0, role=False, source=Source(), target=Target(address=address)))
        self.links.append(link)
        return link

    def receiver(self, address: str, credit: int = CREDIT) -> ReceiverLink:
        """Attach a link that receives from an address."""
        link = self.session.receiver(f"from {address}")
        link.attach(Attach(name="", handle=0, role=True, source=Source(address=address), target=Target()))
        if credit:
            link.grant(credit)
        self.links.append(link)
        return link

    def take(self) -> bytes:
        """What the engine wants written."""
        return b"".join(self.connection.data_to_send())

    def receive(self, data: bytes) -> bytes:
        """Hand octets to the engine; returns its answer."""
        self.connection.receive_data(data, 0.0)
        return self.take()

    @property
    def attached(self) -> bool:
        """Whether every link has been answered, and every sender may send."""
        return all(
            link.remote_attached and (link.link_credit > 0 or isinstance(link, ReceiverLink)) for link in self.links
        )


def dial(peer: Peer, port: int) -> socket.socket:
    """Connect a peer whose links have been begun over TCP; returns when all of them may be used."""
    connected = socket.create_connection(("127.0.0.1", port))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    shake_hands(peer, connected)
    return connected


def shake_hands(peer: Peer, connected: Stream) -> None:
    """Do what AMQP asks for on a new connection, until every link may be used."""
    connected.sendall(peer.take())
    while not peer.attached:
        data = connected.recv(65536)
        if not data or peer.connection.closed:
            raise RuntimeError("the router has closed the connection")
        if answer := peer.receive(data):
            connected.sendall(answer)


def hang_up(peer: Peer, connected: Stream) -> None:
    """Close in order, so that the router has nothing to warn of."""
    peer.connection.close()
    connected.sendall(peer.take())
    while connected.recv(65536):
        pass
    connected.close()


class Batches:
    """Makes the Transfers of one link; ids and tags are the only octets that differ.

    `frames` is how many frames one message takes.
    """

    def __init__(self, link: SenderLink, payload: bytes, *, settled: bool = False) -> None:
        connection = link.session.connection
        self.channel = link.session.local_channel
        self.handle = link.handle
        self.settled = settled
        room = connection.remote_max_frame_size - 64
        pieces = [payload[start : start + room] for start in range(0, len(payload), room)]
        self.frames = len(pieces)
        # A made-up id that occurs nowhere else in the frame shows where ids go.
        mark = 0x8E8F9192
        first = self._frame(mark, pieces[0], len(pieces) > 1)
        self._before, self._between, self._behind = first.split(mark.to_bytes(4, "big"), 2)
        # The later frames of a message are the same for all.
        self.later = [self._frame(-1, piece, number < len(pieces) - 1) for number, piece in enumerate(pieces) if number]
        self._pack = struct.Struct(f">{len(self._before)}sI{len(self._between)}sI{len(self._behind)}s").pack

    def _frame(self, delivery_id: int, piece: bytes, more: bool) -> bytes:
        tag = delivery_id.to_bytes(4, "big") if delivery_id >= 0 else None
        message_format = 0 if delivery_id >= 0 else -1
        head = encode_transfer(
            self.channel, self.handle, delivery_id, tag, message_format, self.settled, more, False, len(piece)
        )
        return head + piece

    def make(self, first: int, count: int) -> bytes:
        """The first frames of `count` messages whose delivery-ids begin with `first`."""
        ids = range(first, first + count)
        return b"".join(map(self._pack, repeat(self._before), ids, repeat(self._between), ids, repeat(self._behind)))


class Counter:
    """Reads what a peer writes once the links are attached: one session, frames as they come, cut anywhere.

    `size` is that of the messages which come in; those that fit a frame are counted without being decoded.
    `transfers` counts messages, `frames` their frames, `settled` the peer's settlements of ours, `credit` and `window`
    are what the peer last allowed. `next_id` is the delivery-id of the next message.
    """

    def __init__(self, link: Link, size: int) -> None:
        session = link.session
        self.channel = session.local_channel
        self.handle = link.handle
        self.transfers = 0
        self.frames = 0
        self.settled = 0
        self.other = 0
        self.credit = link.link_credit
        self.window = session.remote_incoming_window
        self.next_incoming_id = session.next_incoming_id
        self.next_id = session.next_incoming_id
        self.acknowledged = self.next_id
        self.delivery_count = link.delivery_count
        self.granted = self.credit
        self.capacity = CREDIT
        self._whole = size < 8000
        self._rest = b""

    def feed(self, data: bytes, each: Callable[[bytes, int, int], None] | None = None) -> int:
        """Take octets in; returns how many messages ended in them. `each` is called with frames of small messages."""
        if self._rest:
            data = self._rest + data
        end = len(data)
        pos = 0
        ended = frames = 0
        whole = self._whole
        unpack = _unpack_uint
        while end - pos >= 8:
            stop = pos + unpack(data, pos)[0]
            if stop > end:
                break
            if stop - pos > 10:
                code = data[pos + 10]
                if code == _TRANSFER:
                    frames += 1
                    if each is not None:
                        each(data, pos, stop)
                    if whole or not decode_transfer(data, pos + 11, stop)[4] & MORE:
                        ended += 1
                elif code == _DISPOSITION:
                    _, first, last, settled, _ = decode_disposition(data, pos + 11, stop)
                    if settled:
                        self.settled += last - first + 1
                elif code == _FLOW:
                    self._flow(data, pos + 11, stop)
                else:
                    self.other += 1
            pos = stop
        self._rest = data[pos:]
        self.transfers += ended
        self.frames += frames
        self.next_id += ended
        self.next_incoming_id = (self.next_incoming_id + frames) & MASK
        return ended

    def _flow(self, data: bytes, pos: int, stop: int) -> None:
        fields = decode_flow(data, pos, stop)
        assert fields is not None, "a Flow of an unusual form"
        # Absolute numbers: what the sender may reach.
        self.window = fields[1] + max(fields[0], 0)
        if fields[4] >= 0:
            self.credit = fields[6] + max(fields[5], 0)

    def room(self, sent: int, frames: int) -> tuple[int, int]:
        """How many messages a sender may begin and how many frames it may write, with so many of both sent."""
        return self.credit - sent, self.window - frames

    def accept(self) -> bytes:
        """A Disposition for what has ended since the last one, and a Flow where half of the credit is used."""
        answer = b""
        if self.next_id != self.acknowledged:
            answer = encode_disposition(self.channel, True, self.acknowledged, self.next_id - 1, True, ACCEPTED)
            self.acknowledged = self.next_id
        return answer + self.renew()

    def renew(self) -> bytes:
        """A Flow where half of the credit is used."""
        if self.transfers <= self.granted - self.capacity // 2:
            return b""
        self.granted = self.transfers + self.capacity
        count = (self.delivery_count + self.transfers) & MASK
        return encode_flow(self.channel, self.next_incoming_id, WINDOW, 0, WINDOW, self.handle, count, self.capacity)
