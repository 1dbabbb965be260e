"""The near side of HTTP: requests of clients that come in by a port go to an address, and responses come back.

Who speaks with the clients is a subclass of `HttpListeningService`, and its adaptors; the far side is `far_side`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

from van.adaptors.amqp import Log
from van.adaptors.http.exchange import (
    LARGEST_WHOLE,
    LINK_CAPACITY,
    REASON,
    SMALL_BODY,
    Channel,
    Exchange,
    IncomingBody,
    Octets,
    OutgoingBody,
    nobody_listens,
    rejected,
)
from van.adaptors.http.gathering import MAX_GATHERED, Gathering
from van.adaptors.http.mapping import (
    Fields,
    RequestHead,
    ResponseHead,
    decode_response,
    encode_request,
    encode_trailers,
)
from van.adaptors.service import ListeningService, PeerInfo
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Modified, Received, Rejected, Released
from van.amqp.errors import AmqpLinkError, AmqpSessionError, DecodeError, ErrorCondition
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointReceiverLink, EndpointSenderLink, EndpointStream
from van.routing.router import Router

# Of the body of a request so many octets are kept, in case it has to be sent again.
RETRY_BUFFER: Final = 65536
# A request is sent so many times at most. Each is to another server where there is one.
MAX_ATTEMPTS: Final = 5
# Where nobody has taken it, it is sent at once the second time, then after so many seconds, and then after twice as
# many each time: until routers far away know that a server is gone, they send to it.
RETRY_DELAY: Final = 0.1
# So many requests may wait for credit; those beyond are refused with 503.
MAX_QUEUE: Final = 1000
# Whole requests under way at a time: each is until its response has been read to its end, which with server-sent events
# and calls of gRPC may be hours. What bounds their octets is the byte budget.
REQUESTS: Final = 10_000
# How long a client waits for the head of a response, in seconds, as the usual reverse proxies have it.
DEFAULT_TIMEOUT: Final = 60.0
# RFC 9110, 9.2.2: what may be sent again although a server may have seen it.
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class Failure:
    """Why a request has no response: the status that says so, and a reason in words."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason


class HttpListeningService(ListeningService):
    """A port for clients of HTTP, whose requests go to an address one by one.

    timeout: how long a client waits for the head of a response, in seconds; 0: for ever. forwarded: whether the client
    is named in `Forwarded` (RFC 7239); x_forwarded: and in X-Forwarded-For, -Host and -Proto. aggregate: of an address
    that is multicast, how the answers are gathered: "json", "multipart", or empty: the first is the response.
    max_body_size: larger bodies of requests are refused with 413, in octets; 0: none is. capacity: see REQUESTS.

    Subclasses say in `accept` what speaks with a client.
    """

    def __init__(
        self,
        router: Router,
        name: str,
        address: str,
        log: Log,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        forwarded: bool = True,
        x_forwarded: bool = False,
        aggregate: str = "",
        max_body_size: int = 0,
        capacity: int = REQUESTS,
    ) -> None:
        super().__init__(router, name, address, log)
        self.timeout = timeout
        self.forwarded = forwarded
        self.x_forwarded = x_forwarded
        self.aggregate = aggregate
        self.max_body_size = max_body_size
        self.requests = 0
        # Connections that want to be touched when the service stops.
        self.clients: dict[Adaptor, None] = {}
        self.sender: EndpointReceiverLink = self.session.attach_incoming(address, capacity)
        self.replies: EndpointSenderLink = self.session.attach_outgoing("", LINK_CAPACITY)
        # By correlation-id: those that wait for a response, or read it.
        self.exchanges: dict[str, ClientExchange] = {}
        # Whole requests whose outcome is open; those that wait for credit; those that began in this batch.
        self.sent: dict[Delivery, ClientExchange] = {}
        self.queue: deque[ClientExchange] = deque()
        self.begun: list[ClientExchange] = []
        # Streams of responses, and those whose head has not come.
        self._streams: dict[EndpointStream, ClientExchange] = {}
        self._heads: dict[EndpointStream, IncomingBody] = {}
        self._count = 0

    def name_client(self, head: RequestHead, info: PeerInfo) -> None:
        """Say in the request on whose behalf it is made."""
        peer = info.peer[0]
        proto = b"https" if info.encrypted else b"http"
        if not peer:
            return
        if self.forwarded:
            node = f'"[{peer}]"' if ":" in peer else peer
            element = b"for=%b;proto=%b" % (node.encode("latin-1", "replace"), proto)
            if head.authority:
                quoted = head.authority.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
                element = b'%b;host="%b"' % (element, quoted)
            _append(head.fields, b"forwarded", element)
        if self.x_forwarded:
            _append(head.fields, b"x-forwarded-for", peer.encode("latin-1", "replace"))
            _append(head.fields, b"x-forwarded-proto", proto)
            if head.authority:
                _append(head.fields, b"x-forwarded-host", head.authority)

    def channel(self, adaptor: Adaptor, info: PeerInfo) -> Channel:
        """What a connection of a client needs to make exchanges. adaptor: the connection's."""
        return Channel(self, adaptor, self.address, info)

    def exchange(self, channel: Channel, told: Callable[[Exchange], None]) -> ClientExchange:
        """A new exchange of a connection. told: called with the exchange whenever there is something new."""
        return ClientExchange(self, channel, told)

    def work(self) -> None:
        session = self.session
        session.look()
        if self.begun:
            begun = self.begun
            self.begun = []
            for exchange in begun:
                exchange.batch_over()
        if session.told:
            told = session.told
            session.told = []
            for delivery in told:
                self._told(delivery)
        if session.ready:
            session.ready.clear()
            while (taken := self.replies.take()) is not None:
                self._take(taken)
        if session.grown:
            grown = session.grown
            session.grown = []
            for stream in grown:
                self._grown(stream)
        if session.credited:
            session.credited.clear()
            self.on_reachable()
        if self.queue:
            self._go_on()
        if self.stopped:
            self._stop_when_done()

    def correlate(self, exchange: ClientExchange) -> str:
        """A new correlation-id, by which the response finds the exchange."""
        self._count += 1
        correlation = str(self._count)
        self.exchanges[correlation] = exchange
        return correlation

    def can_send(self) -> bool:
        """Whether a whole request may be sent now."""
        return self.sender.link_credit > 0 and self.session.room() > 0

    def _go_on(self) -> None:
        """Send what has waited for credit; nothing waits for a server while nobody receives."""
        queue = self.queue
        for _ in range(len(queue)):
            if self.reachable and not self.can_send():
                break
            queue.popleft().dispatch()

    def _told(self, delivery: Delivery) -> None:
        """A whole request has been spoken of."""
        exchange = self.sent.get(delivery)
        if exchange is None:
            return
        state = delivery.state
        if self.session.owes(delivery):
            if state is None or isinstance(state, Received):
                return
            self.session.settle_sent(delivery, state)
        del self.sent[delivery]
        exchange.outcome(state)

    def _take(self, delivery: Delivery) -> None:
        """A response is here, or its beginning."""
        replies = self.replies
        if delivery.chunks is None and len(delivery.payload) <= LARGEST_WHOLE:
            body = IncomingBody(None, True)
            body.take_whole(delivery.payload)
            replies.settle(delivery, self._response(body))
            return
        stream = replies.stream(delivery, self.session)
        self._heads[stream] = IncomingBody(stream, True)
        self._grown(stream)

    def _grown(self, stream: EndpointStream) -> None:
        """More of a streamed response is here, or it was aborted."""
        body = self._heads.get(stream)
        if body is not None:
            if not body.read_head():
                return
            del self._heads[stream]
            state = self._response(body)
            if state is not ACCEPTED:
                stream.settle(state)
            return
        exchange = self._streams.get(stream)
        if exchange is not None:
            exchange.grown()

    def _response(self, body: IncomingBody) -> object:
        """A response has come as far as its head. Returns the outcome for it: accepted if it is wanted."""
        if body.head is None:
            return rejected(ErrorCondition.DECODE_ERROR, body.error)
        properties = body.head.properties
        correlation = properties.correlation_id if properties is not None else None
        exchange = self.exchanges.get(correlation) if isinstance(correlation, str) else None
        if exchange is None or not exchange.wants_response():
            # Its client has gone, or has had its answer from another server.
            return RELEASED
        try:
            head = decode_response(body.head)
        except DecodeError as error:
            exchange.fail(502, f"the answer is no response of HTTP: {error.description}")
            return rejected(ErrorCondition.DECODE_ERROR, error.description)
        if body.stream is not None:
            self._streams[body.stream] = exchange
        exchange.answered(head, body)
        return ACCEPTED

    def forget(self, correlation: str, body: IncomingBody | None) -> None:
        """An exchange, or one attempt of it, is over."""
        self.exchanges.pop(correlation, None)
        if self.stopped:
            self.session.wake()
        if body is not None and body.stream is not None:
            self._streams.pop(body.stream, None)

    def under_way(self) -> int:
        return len(self.exchanges)

    def stop(self) -> None:
        """Take no more; requests that are under way are answered, and connections end when they have none."""
        if not self.stopped:
            self.stopped = True
            for client in self.clients:
                self.router.touch(client)
            self._stop_when_done()

    def _stop_when_done(self) -> None:
        if not self.exchanges and not self.queue and not self.sent:
            self.session.close()


class ClientExchange(Exchange):
    """The near side of one request: what the client asked goes out, what the server answers comes back.

    The owner calls `start` once, then with `more` any number of `body` and one `end`; `cancel` when the client has gone
    or has lost interest. `told` is called whenever one of these may have changed:

    `response`: the head of the response, None until it is there. `waiting()` whether `read` would give something,
    `ended` whether it gave the last of it; `trailers` are complete then.
    `failure`: there will be no response; or, when `response` is there, the rest of it will not come.
    `room()`: how much of the body of the request may be given.

    `deadline` is when `expire` is to be called, `retry_at` when `try_again`, in seconds of the driver's clock.
    """

    __slots__ = (
        "_attempts",
        "_body",
        "_cancelled",
        "_correlation",
        "_delivery",
        "_gathering",
        "_incoming",
        "_outgoing",
        "_pieces",
        "_queued",
        "_request",
        "_request_ended",
        "_request_trailers",
        "_size",
        "_streams",
        "channel",
        "deadline",
        "ended",
        "failure",
        "response",
        "retry_at",
        "service",
    )

    def __init__(self, service: HttpListeningService, channel: Channel, told: Callable[[Exchange], None]) -> None:
        super().__init__(told)
        self.service = service
        self.channel = channel
        self.response: ResponseHead | None = None
        self.failure: Failure | None = None
        self.ended = False
        self.deadline = inf
        self.retry_at = inf
        self._request: RequestHead | None = None
        self._request_ended = False
        self._request_trailers: Fields = []
        # The body of the request so far, while it is small enough to be sent again; None: it is not at hand.
        self._pieces: list[Octets] | None = []
        self._size = 0
        self._outgoing: OutgoingBody | None = None
        self._delivery: Delivery | None = None
        self._incoming: IncomingBody | None = None
        # Where all answers to a multicast request are wanted, what has come of them.
        self._gathering: Gathering | None = Gathering() if service.aggregate else None
        self._correlation = ""
        self._attempts = 0
        self._queued = False
        self._cancelled = False

    # -- for the owner -------------------------------------------------------------------------------------------

    def start(self, head: RequestHead, more: bool = False, body: bytes = b"") -> None:
        """Send a request. more: `body` and `end` follow, perhaps in the same batch; else `body` is all of its body."""
        service = self.service
        service.requests += 1
        self._request = head
        head.acknowledges = True
        service.name_client(head, self.channel.info)
        if service.timeout > 0:
            self.deadline = service.router.now + service.timeout
        if more:
            service.begun.append(self)
            service.session.wake()
        else:
            if body:
                self._pieces = [body]
                self._size = len(body)
            self._request_ended = True
            self.dispatch()

    def body(self, data: Octets) -> None:
        """Send more of the request's body; it should be no more than `room()`."""
        if self._request_ended or self._is_over():
            return
        self._size += len(data)
        service = self.service
        if service.max_body_size and self._size > service.max_body_size:
            self.fail(413, f"bodies of more than {service.max_body_size} octets are not taken")
            return
        if service.timeout > 0 and self.response is None:
            self.deadline = service.router.now + service.timeout
        outgoing = self._outgoing
        pieces = self._pieces
        if pieces is not None:
            pieces.append(data)
            if outgoing is not None and self._size > RETRY_BUFFER:
                self._pieces = None
        if outgoing is not None:
            outgoing.append(data)
        elif self._size > SMALL_BODY and not self._queued:
            self.dispatch()

    def end(self, trailers: Fields | None = None) -> None:
        """The request's body ends."""
        if self._request_ended or self._is_over():
            return
        self._request_ended = True
        if trailers:
            self._request_trailers = trailers
        if self._outgoing is not None:
            self._outgoing.end(self._request_trailers)
        elif not self._queued:
            self.dispatch()

    def room(self) -> int:
        """How many octets of the request's body may be given now; if that was 0, `told` is called when it grows."""
        if self._request_ended or self._is_over():
            return 0
        if self._outgoing is not None:
            return self._outgoing.room()
        return max(0, SMALL_BODY - self._size)

    def can_proceed(self) -> bool:
        """Whether a server is likely to take the body: what a client that expects 100-continue waits for."""
        return self._outgoing is not None or self.service.can_send()

    def waiting(self) -> bool:
        """Whether `read` would give something, the end of the response included."""
        incoming = self._incoming
        return incoming is not None and not self.ended and self.failure is None and incoming.waiting()

    def size(self) -> int:
        """How many octets of the response's body are still to be read when all of it is here, else -1."""
        incoming = self._incoming
        return incoming.size() if incoming is not None else -1

    def read(self, limit: int) -> list[Octets]:
        """The next octets of the response's body, about `limit` at most: no more than can be written now."""
        incoming = self._incoming
        if incoming is None or self.ended or self.failure is not None:
            return []
        pieces = incoming.read(limit)
        if incoming.ended:
            self.ended = True
            self.service.forget(self._correlation, incoming)
        elif incoming.error or incoming.aborted:
            self.fail(502, incoming.error or "the response broke off")
        return pieces

    @property
    def trailers(self) -> Fields:
        """What came behind the body of the response; complete when it has `ended`."""
        incoming = self._incoming
        return incoming.trailers if incoming is not None else []

    def cancel(self) -> None:
        """Give the exchange up: nothing more is told, and the server hears of it. After its end nothing happens."""
        if not self._cancelled:
            self._cancelled = True
            self.told = nobody_listens
            if not self.ended or not self._request_ended:
                self._close()

    def expire(self) -> None:
        """The deadline has come: there was no response in time."""
        self.fail(504, f"no response from a server of {self.service.address} in {self.service.timeout:g} seconds")

    # -- for the service and the bodies --------------------------------------------------------------------------

    def fail(self, status: int, reason: str) -> None:
        """There will be no response, or no more of it."""
        if not self._is_over():
            self.failure = Failure(status, reason)
            self._close()
            self.notify()

    def batch_over(self) -> None:
        """All that came in one batch is known: what has not ended by now is a stream."""
        if not self._correlation and not self._queued:
            self.dispatch()

    def dispatch(self) -> None:
        """Send the request, or what there is of it; or wait for credit."""
        if self._queued:
            # Whoever waits for `can_proceed`, or for room, looks again.
            self._queued = False
            self.notify()
        if self._is_over():
            return
        service = self.service
        if not service.can_send():
            self._wait()
            return
        request = self._request
        pieces = self._pieces
        assert request is not None
        assert pieces is not None
        self._attempts += 1
        if self._request_ended:
            self._correlation = service.correlate(self)
            payload = encode_request(
                request,
                service.address,
                service.replies.address,
                self._correlation,
                b"".join(pieces),
            )
            if self._request_trailers:
                payload += encode_trailers(self._request_trailers)
            self._delivery = service.sender.send(payload)
            service.sent[self._delivery] = self
            return
        try:
            link = self.channel.link()
        except (AmqpSessionError, AmqpLinkError) as error:
            self.fail(503, error.description)
            return
        if link is None:
            self._wait()
            return
        self._correlation = service.correlate(self)
        head = encode_request(request, service.address, service.replies.address, self._correlation)
        outgoing = self._outgoing = OutgoingBody(self.channel, link, head, self, True)
        for piece in pieces:
            outgoing.append(piece)
        if self._size >= SMALL_BODY:
            # There was no room, and there is.
            self.notify()
        if self._size > RETRY_BUFFER:
            self._pieces = None

    def _wait(self) -> None:
        """Wait for credit, where there may be some."""
        service = self.service
        if not service.reachable:
            self.fail(503, f"no server receives requests for {service.address}")
        elif len(service.queue) >= MAX_QUEUE:
            self.fail(503, f"{MAX_QUEUE} requests for {service.address} wait already")
        else:
            self._queued = True
            service.queue.append(self)

    def outcome(self, state: object) -> None:
        """A server, or the network, is done with the request; with one that was accepted when its response was."""
        self._delivery = None
        if self._is_over() or self.response is not None:
            return
        gathering = self._gathering
        if gathering is not None and (gathering or isinstance(state, Accepted)):
            self._gathered(gathering)
            return
        if isinstance(state, Accepted):
            return
        address = self.service.address
        again = False
        if isinstance(state, Released):
            again = True
            status, reason = 503, f"no server of {address} took the request"
        elif isinstance(state, Modified):
            assert self._request is not None
            again = self._request.method in IDEMPOTENT
            status, reason = 502, _reason(state) or f"the server of {address} was lost"
        else:
            status, reason = _refusal(state, address)
        self.service.forget(self._correlation, None)
        self._correlation = ""
        self._outgoing = None
        if not again or self._attempts >= MAX_ATTEMPTS or self._pieces is None:
            self.fail(status, reason)
        elif self._attempts == 1 or not isinstance(state, Released) or not self.service.reachable:
            self.dispatch()
        else:
            # What comes of it meanwhile is kept.
            self._queued = True
            self.retry_at = self.service.router.now + RETRY_DELAY * 2 ** (self._attempts - 2)
            self.notify()

    def try_again(self) -> None:
        """It is time to send the request anew."""
        self.retry_at = inf
        self.dispatch()

    def wants_response(self) -> bool:
        """Whether it still waits for a response."""
        return self.response is None and not self._is_over()

    def answered(self, head: ResponseHead, incoming: IncomingBody) -> None:
        """The head of the response is here."""
        if self._gathering is not None:
            self._gathering.add(head, incoming)
            self._gather_on()
            return
        self.deadline = inf
        self.response = head
        self._incoming = incoming
        if not incoming.size():
            self.read(0)
        self.notify()

    def grown(self) -> None:
        """There is more of the response, or it broke off."""
        if self._gathering is not None:
            self._gathering.read()
            self._gather_on()
            return
        incoming = self._incoming
        if incoming is not None and incoming.stream is not None and incoming.stream.aborted:
            self.fail(502, "the response broke off")
        else:
            self.notify()

    def _gather_on(self) -> None:
        """More of the answers to a multicast request is here: they are given out when the last server is done."""
        gathering = self._gathering
        if gathering is not None and gathering.size > MAX_GATHERED:
            self.fail(502, f"the servers' answers have more than {MAX_GATHERED} octets")

    def _gathered(self, gathering: Gathering) -> None:
        """All servers are done with a multicast request."""
        service = self.service
        gathering.give_up(RELEASED)
        head, data = ResponseHead(204, []), b""
        if gathering:
            head, data = gathering.response(service.aggregate, service.router.tokens())
        self._forget_gathered()
        incoming = IncomingBody(None, False)
        incoming.fill(data)
        self._gathering = None
        self.answered(head, incoming)

    def _forget_gathered(self) -> None:
        if self._gathering is not None:
            for body in self._gathering.bodies():
                self.service.forget(self._correlation, body)

    def _is_over(self) -> bool:
        return self._cancelled or self.failure is not None

    def _close(self) -> None:
        """Nothing more is wanted of anybody."""
        self.deadline = self.retry_at = inf
        service = self.service
        outgoing = self._outgoing
        if outgoing is not None:
            outgoing.forget(None)
        delivery = self._delivery
        if delivery is not None and service.sent.pop(delivery, None) is not None:
            service.session.settle_sent(delivery, None)
        if self._gathering is not None:
            self._gathering.give_up(RELEASED)
            self._forget_gathered()
        incoming = self._incoming
        if incoming is not None and not self.ended:
            incoming.settle(RELEASED)
        service.forget(self._correlation, incoming)


def _append(fields: Fields, name: bytes, element: bytes) -> None:
    """Add an element to the list that a field is (RFC 9110, 5.3)."""
    earlier = [value for other, value in fields if other == name and value]
    if earlier:
        fields[:] = [field for field in fields if field[0] != name]
        element = b", ".join([*earlier, element])
    fields.append((name, element))


def _reason(state: Modified) -> str:
    """What an outcome says in words."""
    reason = (state.message_annotations or {}).get(REASON)
    return reason if isinstance(reason, str) else ""


def _refusal(state: object, address: str) -> tuple[int, str]:
    """The status and the reason for a request that was rejected."""
    error = state.error if isinstance(state, Rejected) else None
    if error is None:
        return 502, f"a server of {address} refused the request"
    description = error.description or str(error.condition)
    return _STATUS.get(str(error.condition), 502), description


# What the conditions of a rejected request mean to its client; anything else is 502.
_STATUS: Final = {
    ErrorCondition.DECODE_ERROR: 400,
    ErrorCondition.INVALID_FIELD: 400,
    ErrorCondition.NOT_IMPLEMENTED: 501,
}
