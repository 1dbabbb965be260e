"""Requests and responses on their way through the router: what both sides, and all versions of HTTP, have in common.

The near side (`near_side`) is an `HttpListeningService` with a `ClientExchange` for each request of its clients, the
far side (`far_side`) an `HttpConnectingService` with a `ServerExchange` for each request that it takes from the
address. Neither knows which version of HTTP is spoken, here or there. How messages look is `mapping`'s.

An exchange tells its owner, an adaptor, only *that* there is something new, by the function that the owner gave it.
That happens in the course of somebody else's batch: owners note it and have themselves touched, and look at the
exchange when they are asked for octets. What they read, they can write at once: what they do not read is held in the
router, where the byte budget counts it, and the sender stops after a window (`stream_window`) of it.

A small request or response that is there as a whole when the batch is over goes as one message by a link of the
service; any other is a stream by a link of its connection's `Channel`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from van.adaptors.http.mapping import Fields, MessageReader, data_section, encode_trailers, take_apart
from van.adaptors.service import ConnectingService, ListeningService, PeerInfo
from van.adaptors.stream_window import ReceiveWindow, SendWindow
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, Modified, Received, Rejected
from van.amqp.errors import DecodeError, ErrorCondition
from van.amqp.message import Message
from van.amqp.performatives import Error
from van.amqp.types import Symbol
from van.routing.adaptor import Adaptor
from van.routing.endpoint import STREAM_LINK_CAPACITY, EndpointReceiverLink, EndpointSession, EndpointStream

# A body of at most so many octets, all at hand, goes with its head as one message. It is what one read brings.
SMALL_BODY: Final = 65536
# Whole requests and responses under way by a service's links.
LINK_CAPACITY: Final = 250
MOST_LINK_CAPACITY: Final = 1000
# A whole message of at most this size is taken at once; a larger one is read as a stream. In octets.
LARGEST_WHOLE: Final = 131072
# How much is read of a stream at a time until its head is there, in octets.
HEAD_READ: Final = 16384
# Where an outcome that is not rejected says why.
REASON: Final = Symbol("x-opt-van-reason")

_NO_DATA: Final = data_section(b"")
# Stands where nothing has to be read as it comes.
_NO_READER: Final = MessageReader()

Octets: TypeAlias = bytes | memoryview


class Channel:
    """What one connection of HTTP has of the router for the bodies that it sends.

    A session of its own, made with the first stream: a connection whose bodies nobody reads holds no other up. The
    adaptor calls `work` first of all in `data_to_send` and `look`, and `close` when its connection is lost.

    service, adaptor: whose it is. address: where its streams go; empty: each says it itself. info: of the connection.
    """

    __slots__ = ("adaptor", "address", "blocked", "idle", "info", "router", "sent", "service", "session")

    def __init__(
        self, service: ListeningService | ConnectingService, adaptor: Adaptor, address: str, info: PeerInfo
    ) -> None:
        self.service = service
        self.router = service.router
        self.adaptor = adaptor
        self.address = address
        self.info = info
        self.session: EndpointSession | None = None
        self.idle: list[EndpointReceiverLink] = []
        self.sent: dict[Delivery, OutgoingBody] = {}
        # Bodies that wait for room in the session.
        self.blocked: dict[OutgoingBody, None] = {}

    def link(self) -> EndpointReceiverLink | None:
        """A link for a stream, with credit; None where there is none at the moment.

        Raises `AmqpSessionError` or `AmqpLinkError` when there can be none.
        """
        session = self.session
        if session is None:
            session = self.session = EndpointSession(self.router, self.adaptor, self.service.name)
        idle = self.idle
        for index in range(len(idle) - 1, -1, -1):
            if idle[index].link_credit > 0:
                return idle.pop(index)
        link = session.attach_incoming(self.address, STREAM_LINK_CAPACITY)
        if link.link_credit > 0:
            return link
        session.detach(link)
        return None

    def work(self) -> None:
        """Take note of what the core has said of the streams. Owners of exchanges are told."""
        session = self.session
        if session is None:
            return
        session.look()
        if session.told:
            told = session.told
            session.told = []
            for delivery in told:
                body = self.sent.get(delivery)
                if body is not None:
                    body.state_told(session)
        session.credited.clear()
        if self.blocked and session.room() > 0:
            blocked = list(self.blocked)
            self.blocked.clear()
            for body in blocked:
                body.flush()
                body.exchange.notify()

    def close(self) -> None:
        """The connection is gone: bodies that have not been sent to their end are given up.

        Those that have been are waited for, so that what becomes of them is known.
        """
        session = self.session
        if session is None:
            return
        for body in [body for body in self.sent.values() if not body.finished]:
            body.forget(None)
        remains = Adaptor()
        remains.on_wake = self._wait_for_outcomes
        session.adaptor = remains
        self._wait_for_outcomes()

    def _wait_for_outcomes(self) -> None:
        self.work()
        session = self.session
        if session is not None and not self.sent:
            self.session = None
            session.close()


class Exchange:
    """What the two ends of an exchange have in common, for those who carry bodies."""

    __slots__ = ("told",)

    def __init__(self, told: Callable[[Exchange], None]) -> None:
        self.told = told

    def notify(self) -> None:
        """Tell the owner that there is something new."""
        self.told(self)

    def outcome(self, state: object) -> None:
        """What was sent has this outcome."""
        raise NotImplementedError


class OutgoingBody:
    """A message that is sent as a stream: its body as it comes, no further ahead of its reader than a window.

    windowed: whether the receiver says how far it has read; else only the router's byte budget holds the sender back.
    """

    __slots__ = (
        "_end",
        "_pending",
        "_pending_size",
        "_windowed",
        "channel",
        "delivery",
        "exchange",
        "finished",
        "link",
        "over",
        "window",
    )

    def __init__(
        self, channel: Channel, link: EndpointReceiverLink, head: bytes, exchange: Exchange, windowed: bool
    ) -> None:
        """Begin the stream. head: all of the message in front of its body."""
        self.channel = channel
        self.link = link
        self.exchange = exchange
        self.window = SendWindow()
        self._windowed = windowed
        self._pending: deque[Octets] = deque()
        self._pending_size = 0
        self._end: bytes | None = None
        # All of it was sent; nothing more is wanted of it.
        self.finished = False
        self.over = False
        # By an empty portion of the body, the receiver knows that the head is complete.
        self.delivery = link.begin(head + _NO_DATA)
        channel.sent[self.delivery] = self

    def append(self, data: Octets) -> None:
        """Send more of the body, now or when there is room."""
        if self._end is None and not self.over:
            self._pending.append(data)
            self._pending_size += len(data)
            if self._pending_size == len(data):
                self.flush()

    def end(self, trailers: Fields) -> None:
        """The body ends, now or when all of it was sent."""
        if self._end is None and not self.over:
            self._end = encode_trailers(trailers)
            if not self._pending:
                self.flush()

    def room(self) -> int:
        """How many octets of the body may be given now; when it was 0, the owner is told once there is room."""
        session = self.channel.session
        if self.over or session is None:
            return 0
        room = session.room()
        if room <= 0:
            self.channel.blocked[self] = None
        if self._windowed:
            room = min(room, self.window.room())
        return max(0, room - self._pending_size)

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        session = self.channel.session
        link = self.link
        if self.over or session is None:
            return
        pending = self._pending
        while pending:
            room = session.room()
            if room <= 0:
                self.channel.blocked[self] = None
                return
            if self._windowed:
                room = min(room, self.window.room())
                if room <= 0:
                    return
            data = pending.popleft()
            size = len(data)
            if size > room:
                view = memoryview(data)
                pending.appendleft(view[room:])
                data = view[:room]
                size = room
            self._pending_size -= size
            self.window.sent += size
            link.append(data_section(data))
        if self._end is not None and not self.finished:
            self.finished = True
            link.append(self._end, more=False)
            self._free()

    def state_told(self, session: EndpointSession) -> None:
        """The core has said something of the delivery."""
        delivery = self.delivery
        state = delivery.state
        owes = session.owes(delivery)
        if owes and (state is None or isinstance(state, Received)):
            if self.window.take(state):
                self.flush()
                self.exchange.notify()
            return
        self.forget(state)
        self.exchange.outcome(state)

    def forget(self, state: object) -> None:
        """Send no more of it, and wait for nothing: what has not been sent is given up."""
        if self.over:
            return
        self.over = True
        self._pending.clear()
        self._pending_size = 0
        channel = self.channel
        channel.sent.pop(self.delivery, None)
        channel.blocked.pop(self, None)
        session = channel.session
        if session is None:
            return
        if self.link.current is self.delivery:
            self.link.abort()
        else:
            session.settle_sent(self.delivery, state)
        self._free()

    def _free(self) -> None:
        """The link can carry another stream."""
        link = self.link
        if link.current is None and link not in self.channel.idle:
            self.channel.idle.append(link)


class IncomingBody:
    """A message that is received, whole or as a stream: first its head, then its body, as it is read.

    `head` is None until it is there. `error` says why it is no message of HTTP, `ended` that all of it was read:
    `trailers` are those behind it then. `aborted`: its sender has given it up, or is gone.
    """

    __slots__ = (
        "_offset",
        "_reader",
        "_ready",
        "_ready_size",
        "_size",
        "aborted",
        "ended",
        "error",
        "head",
        "settles",
        "stream",
        "trailers",
        "window",
    )

    def __init__(self, stream: EndpointStream | None, settles: bool) -> None:
        """stream: None for a whole message, which `take_whole` is given. settles: whether it is accepted at its end."""
        self.stream = stream
        self.settles = settles
        self.head: Message | None = None
        self.error = ""
        self.ended = False
        self.aborted = False
        self.trailers: Fields = []
        self.window = ReceiveWindow()
        self._reader = MessageReader() if stream is not None else _NO_READER
        self._ready: list[Octets] = []
        self._ready_size = 0

    def take_whole(self, payload: bytes) -> None:
        """Take a whole message apart. `error` says when it is none."""
        try:
            self.head, data, self.trailers = take_apart(payload)
        except DecodeError as error:
            self.error = error.description
            return
        if data:
            self._ready.append(data)
            self._ready_size = len(data)

    def fill(self, data: bytes) -> None:
        """Have this body, which comes from nobody."""
        self._ready = [data]
        self._ready_size = len(data)

    def rewind(self, payload: bytes) -> None:
        """Begin anew with a whole message."""
        self._ready = []
        self.ended = False
        self.take_whole(payload)

    def read_head(self) -> bool:
        """Read on until the head is there. Returns whether it is, or never will be."""
        stream = self.stream
        assert stream is not None
        reader = self._reader
        while self.head is None and not self.error and stream.waiting():
            self._feed(stream.read(HEAD_READ))
            if stream.finished and reader.head is None:
                self._finish()
            self.head = reader.head
        self.aborted = stream.aborted
        return self.head is not None or bool(self.error) or self.aborted

    def waiting(self) -> bool:
        """Whether there is something to read, its end included."""
        if self.ended or self.error:
            return False
        stream = self.stream
        return bool(self._ready) or stream is None or stream.finished or stream.waiting()

    def size(self) -> int:
        """Of a whole message, the octets of the body that have not been read; -1 where they are not all here."""
        stream = self.stream
        return self._ready_size if stream is None or stream.finished else -1

    def read(self, limit: int) -> list[Octets]:
        """The next octets of the body, about `limit` at most: those that will be passed on now."""
        ready = self._ready
        self._ready = []
        size = self._ready_size
        self._ready_size = 0
        stream = self.stream
        if stream is not None:
            while size < limit and not self.error and stream.waiting():
                size += self._feed(stream.read(limit - size))
                ready += self._ready
                self._ready = []
            self._ready_size = 0
            self.aborted = stream.aborted
            if self.window.passed(size) and not stream.finished:
                stream.received(self.window.passed_on)
        if not self.error and (stream is None or stream.finished):
            self._finish()
        return ready

    def _feed(self, pieces: list[Octets]) -> int:
        size = 0
        reader = self._reader
        try:
            for piece in pieces:
                size += reader.feed(piece, self._ready)
        except DecodeError as error:
            self._fail(error)
        self._ready_size += size
        return size

    def _finish(self) -> None:
        reader = self._reader
        try:
            if self.stream is not None:
                reader.finish()
        except DecodeError as error:
            self._fail(error)
            return
        if self.stream is not None:
            self.head = reader.head
            self.trailers = reader.trailers
        if not self._ready:
            self.ended = True
            if self.settles and self.stream is not None:
                self.stream.settle(ACCEPTED)

    def _fail(self, error: DecodeError) -> None:
        self.error = error.description
        self.settle(rejected(ErrorCondition.DECODE_ERROR, error.description))

    def settle(self, state: object) -> None:
        """Settle it, which before its end means that the rest is not wanted."""
        stream = self.stream
        if stream is not None:
            stream.settle(state)


def rejected(condition: str, description: str) -> Rejected:
    """An outcome that says what is wrong with a message."""
    return Rejected(error=Error(condition=Symbol(condition), description=description))


def failed(reason: str) -> Modified:
    """The outcome of a request that a server may have seen. reason: in words."""
    return Modified(delivery_failed=True, message_annotations={REASON: reason})


def nobody_listens(exchange: Exchange) -> None:
    """Stand in for `told` when an exchange is over, or has no owner yet."""
