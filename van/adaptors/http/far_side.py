"""The far side of HTTP: requests are taken from an address and put to a server, and its responses go back.

Who speaks with the server is a subclass of `HttpConnectingService`, and its adaptors; the near side is `near_side`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from van.adaptors.amqp import Log
from van.adaptors.http.exchange import (
    LARGEST_WHOLE,
    LINK_CAPACITY,
    MOST_LINK_CAPACITY,
    SMALL_BODY,
    Channel,
    Exchange,
    IncomingBody,
    Octets,
    OutgoingBody,
    failed,
    nobody_listens,
    rejected,
)
from van.adaptors.http.mapping import (
    Fields,
    RequestHead,
    ResponseHead,
    decode_request,
    encode_response,
    encode_trailers,
)
from van.adaptors.service import ConnectingService, PeerInfo
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Received
from van.amqp.errors import AmqpLinkError, AmqpSessionError, DecodeError, ErrorCondition
from van.amqp.message import MessageId
from van.amqp.native import mypyc_attr
from van.routing.adaptor import Adaptor
from van.routing.endpoint import EndpointReceiverLink, EndpointSenderLink, EndpointStream
from van.routing.router import Router


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpConnectingService(ConnectingService):
    """A server of HTTP behind an address.

    host_header: the authority that the server is asked for, in place of what the client asked for; empty: that.

    Subclasses say with `free` whether a request could be given to the server now, and give it in `serve`; they call
    `go_on` when `free` may have become true.
    """

    def __init__(
        self,
        router: Router,
        name: str,
        address: str,
        log: Log,
        *,
        host_header: str = "",
        capacity: int = LINK_CAPACITY,
    ) -> None:
        super().__init__(router, name, address, log)
        self.host_header = host_header
        self.requests = 0
        self.capacity = capacity
        # None while the address is left to others; links that were left, until what came by them is over.
        self.receiver: EndpointSenderLink | None = self.session.attach_outgoing(address, capacity)
        self._left: list[EndpointSenderLink] = []
        self.answers: EndpointReceiverLink = self.session.attach_incoming("", LINK_CAPACITY, MOST_LINK_CAPACITY)
        # Those that were taken and are not over.
        self.exchanges: dict[ServerExchange, None] = {}
        # Whole responses whose outcome is open; those that wait for credit; those that began in this batch.
        self.sent: dict[Delivery, ServerExchange] = {}
        self.queue: deque[ServerExchange] = deque()
        self.begun: list[ServerExchange] = []
        # Requests whose head was not there at once, and which found no free server then.
        self._arrived: deque[ServerExchange] = deque()
        self._going_on = False
        self._streams: dict[EndpointStream, ServerExchange] = {}
        self._heads: dict[EndpointStream, IncomingBody] = {}
        self.session.recalled = []

    # -- for subclasses ------------------------------------------------------------------------------------------

    def free(self) -> bool:
        """Whether another request could be served now, perhaps by a new connection."""
        raise NotImplementedError

    def serve(self, exchange: ServerExchange) -> None:
        """Give a request to a connection to the server, now or when there is one."""
        raise NotImplementedError

    def channel(self, adaptor: Adaptor, info: PeerInfo) -> Channel:
        """What a connection to the server needs to answer by. adaptor: the connection's."""
        return Channel(self, adaptor, "", info)

    def leave(self) -> None:
        """The server cannot be reached: leave requests to others until `offer`. Those under way go on."""
        receiver = self.receiver
        if receiver is not None:
            self.receiver = None
            self.session.withdraw(receiver)
            self._left.append(receiver)
            self._detach()

    def offer(self) -> None:
        """Take requests."""
        if self.receiver is None and not self.stopped:
            self.receiver = self.session.attach_outgoing(self.address, self.capacity)

    def _detach(self) -> None:
        """Detach links that were left, when nothing that came by them is under way."""
        for link in self._left[:]:
            if not any(exchange.link is link for exchange in self.exchanges):
                self._left.remove(link)
                self.session.detach(link)
        if self.stopped and not self.exchanges:
            self.session.close()

    def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            while self._arrived:
                self._arrived.popleft().fail("the service ends", seen=False)
            self.leave()
            self._detach()

    def go_on(self) -> None:
        """Take requests from the address while there is somebody to serve them."""
        if self._going_on:
            # One that was refused at once makes room for the next, below.
            return
        self._going_on = True
        try:
            while self._arrived and self.free():
                self.serve(self._arrived.popleft())
            while (receiver := self.receiver) is not None and self.free():
                delivery = receiver.take()
                if delivery is None:
                    return
                self._take(receiver, delivery)
        finally:
            self._going_on = False

    # -- from the core -------------------------------------------------------------------------------------------

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
        if session.grown:
            grown = session.grown
            session.grown = []
            for stream in grown:
                self._grown(stream)
        if session.recalled:
            recalled = set(session.recalled)
            session.recalled = []
            for exchange in [exchange for exchange in self.exchanges if exchange.delivery in recalled]:
                exchange.recalled()
        session.credited.clear()
        while self.queue and self.can_send():
            self.queue.popleft().dispatch()
        if session.ready:
            session.ready.clear()
            self.go_on()

    def can_send(self) -> bool:
        """Whether a whole response may be sent now."""
        return self.answers.link_credit > 0 and self.session.room() > 0

    def _told(self, delivery: Delivery) -> None:
        """A whole response has been spoken of."""
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

    def _take(self, link: EndpointSenderLink, delivery: Delivery) -> None:
        """A request is here, or its beginning."""
        if delivery.chunks is None and len(delivery.payload) <= LARGEST_WHOLE:
            body = IncomingBody(None, False)
            body.take_whole(delivery.payload)
            self._request(link, delivery, body)
            return
        stream = link.stream(delivery, self.session)
        # Whoever sends it may go on as far as it is read, and knows now that this is said.
        stream.received(0)
        self._heads[stream] = IncomingBody(stream, False)
        self._grown(stream)

    def _grown(self, stream: EndpointStream) -> None:
        """More of a streamed request is here, or it was aborted."""
        body = self._heads.get(stream)
        if body is not None:
            if body.read_head():
                del self._heads[stream]
                self._request(stream.link, stream.delivery, body)
            return
        exchange = self._streams.get(stream)
        if exchange is not None:
            exchange.grown()

    def _request(self, link: EndpointSenderLink, delivery: Delivery, body: IncomingBody) -> None:
        """A request has come as far as its head."""
        if body.aborted:
            return
        if body.head is None:
            self.settle(link, delivery, body, rejected(ErrorCondition.DECODE_ERROR, body.error))
            return
        try:
            request = decode_request(body.head)
        except DecodeError as error:
            self.settle(link, delivery, body, rejected(ErrorCondition.DECODE_ERROR, error.description))
            return
        if delivery.settled and request.acknowledges:
            # Ours wait for an outcome; this one does so no more: its client gave it up while it was on its way.
            self.settle(link, delivery, body, RELEASED)
            return
        if self.host_header:
            request.authority = self.host_header.encode("latin-1", "replace")
        self.requests += 1
        exchange = ServerExchange(self, link, delivery, request, body)
        self.exchanges[exchange] = None
        if body.stream is not None:
            self._streams[body.stream] = exchange
        if self.free():
            self.serve(exchange)
        else:
            self._arrived.append(exchange)

    def settle(self, link: EndpointSenderLink, delivery: Delivery, body: IncomingBody, state: object) -> None:
        """Settle a request with its outcome."""
        if body.stream is not None:
            body.stream.settle(state)
        else:
            link.settle(delivery, state)

    def forget(self, exchange: ServerExchange, body: IncomingBody) -> None:
        """An exchange is over."""
        self.exchanges.pop(exchange, None)
        if body.stream is not None:
            self._streams.pop(body.stream, None)
        if self._left or self.stopped:
            self._detach()


class ServerExchange(Exchange):
    """The far side of one request: the server is asked, and its response goes back.

    The owner is the connection that the request was given to; it says so with `bind`, and its `told` is called whenever
    one of these may have changed:

    `waiting()`: whether `read` would give something of the request's body, `ended` whether it gave the last of it;
    `trailers` are complete then. `size()` is how many octets of it are there when all are, else -1.
    `cancelled`: nobody wants the response any more, or the request broke off.
    `room()`: how much of the body of the response may be given.

    The owner calls `answer` once, then with `more` any number of `body` and one `end`; or one of `fail` and `refuse`.
    """

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_pieces",
        "_queued",
        "_response",
        "_response_ended",
        "_response_trailers",
        "_size",
        "cancelled",
        "channel",
        "correlation_id",
        "delivery",
        "link",
        "over",
        "reply_to",
        "request",
        "service",
    )

    def __init__(
        self,
        service: HttpConnectingService,
        link: EndpointSenderLink,
        delivery: Delivery,
        request: RequestHead,
        incoming: IncomingBody,
    ) -> None:
        super().__init__(nobody_listens)
        self.service = service
        self.link = link
        self.delivery = delivery
        self.request = request
        self.channel: Channel | None = None
        self.cancelled = False
        # The request is settled.
        self.over = False
        self._incoming = incoming
        assert incoming.head is not None
        properties = incoming.head.properties
        self.reply_to: str = (properties.reply_to if properties is not None else None) or ""
        self.correlation_id: MessageId | None = properties.correlation_id if properties is not None else None
        self._response: ResponseHead | None = None
        self._response_ended = False
        self._response_trailers: Fields = []
        self._pieces: list[Octets] = []
        self._size = 0
        self._outgoing: OutgoingBody | None = None
        self._queued = False

    # -- for the owner -------------------------------------------------------------------------------------------

    def bind(self, channel: Channel, told: Callable[[Exchange], None]) -> None:
        """Say which connection serves it, and whom to tell."""
        self.channel = channel
        self.told = told

    @property
    def ended(self) -> bool:
        """Whether the last of the request's body was read."""
        return self._incoming.ended

    @property
    def trailers(self) -> Fields:
        """What came behind the body of the request; complete when it has `ended`."""
        return self._incoming.trailers

    def size(self) -> int:
        """How many octets of the request's body are still to be read when all of it is here, else -1."""
        return self._incoming.size()

    def waiting(self) -> bool:
        """Whether `read` would give something, the end of the request included."""
        return not self.cancelled and not self.over and self._incoming.waiting()

    def read(self, limit: int) -> list[Octets]:
        """The next octets of the request's body, about `limit` at most: no more than can be written now."""
        incoming = self._incoming
        if self.cancelled or self.over or incoming.ended:
            return []
        pieces = incoming.read(limit)
        if incoming.error:
            # It has been rejected.
            self.over = True
            self.service.forget(self, incoming)
            self._broken_off()
        elif incoming.aborted:
            self._broken_off()
        return pieces

    def rewind(self) -> bool:
        """Begin the request's body anew, where it is at hand; returns whether it is, and nothing was answered."""
        incoming = self._incoming
        if self._response is not None or self.cancelled or self.over:
            return False
        if incoming.stream is None:
            incoming.rewind(self.delivery.payload)
            return True
        return incoming.window.passed_on == 0

    def answer(self, head: ResponseHead, more: bool = False, body: bytes = b"") -> None:
        """Send the response. more: `body` and `end` follow, perhaps in the same batch; else `body` is all of it."""
        self._response = head
        if body:
            self._pieces.append(body)
            self._size = len(body)
        if more:
            self.service.begun.append(self)
            self.service.session.wake()
        else:
            self._response_ended = True
            self.dispatch()

    def body(self, data: Octets) -> None:
        """Send more of the response's body; it should be no more than `room()`."""
        if self._response_ended or self.cancelled:
            return
        outgoing = self._outgoing
        if outgoing is not None:
            outgoing.append(data)
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > SMALL_BODY and not self._queued:
            self.dispatch()

    def end(self, trailers: Fields | None = None) -> None:
        """The response's body ends."""
        if self._response_ended or self.cancelled:
            return
        self._response_ended = True
        if trailers:
            self._response_trailers = trailers
        if self._outgoing is not None:
            self._outgoing.end(self._response_trailers)
        elif not self._queued:
            self.dispatch()

    def room(self) -> int:
        """How many octets of the response's body may be given now; if that was 0, `told` is called when it grows."""
        if self._response_ended or self.cancelled:
            return 0
        if self._outgoing is not None:
            return self._outgoing.room()
        return max(0, SMALL_BODY - self._size)

    def fail(self, reason: str, *, seen: bool) -> None:
        """The server gives no response, or no more of it. seen: whether it may have seen the request."""
        if self.over:
            return
        if self._outgoing is not None:
            self._outgoing.forget(None)
        self._settle(failed(reason) if seen or self._response is not None else RELEASED)

    def refuse(self, condition: str, reason: str) -> None:
        """The request cannot be put to this server, nor to any other. condition: of AMQP."""
        self._settle(rejected(condition, reason))

    # -- for the service and the bodies --------------------------------------------------------------------------

    def batch_over(self) -> None:
        """All that came in one batch is known: what has not ended by now is a stream."""
        if self._outgoing is None and not self._response_ended and not self._queued:
            self.dispatch()

    def dispatch(self) -> None:
        """Send the response, or what there is of it; or wait for credit."""
        self._queued = False
        if self.cancelled or self.over:
            return
        response = self._response
        service = self.service
        assert response is not None
        if not self.reply_to:
            # Nobody asked for it.
            if self._response_ended:
                self._settle(ACCEPTED)
            else:
                self._pieces.clear()
                self._size = 0
            return
        if not service.can_send():
            self._wait()
            return
        pieces = self._pieces
        if self._response_ended:
            payload = encode_response(
                response, self.reply_to, self.correlation_id, b"".join(pieces)
            )
            if self._response_trailers:
                payload += encode_trailers(self._response_trailers)
            service.sent[service.answers.send(payload)] = self
        else:
            channel = self.channel
            assert channel is not None
            try:
                link = channel.link()
            except (AmqpSessionError, AmqpLinkError) as error:
                self.fail(error.description, seen=True)
                self._broken_off()
                return
            if link is None:
                self._wait()
                return
            head = encode_response(response, self.reply_to, self.correlation_id)
            outgoing = self._outgoing = OutgoingBody(channel, link, head, self, self.request.acknowledges)
            for piece in pieces:
                outgoing.append(piece)
            if self._size >= SMALL_BODY:
                # There was no room, and there is.
                self.notify()
        self._pieces = []

    def _wait(self) -> None:
        self._queued = True
        self.service.queue.append(self)

    def outcome(self, state: object) -> None:
        """Who asked has read the response, or does not want it."""
        if isinstance(state, Accepted):
            self._settle(ACCEPTED)
        else:
            self._settle(failed("the response could not be delivered"))
            self._broken_off()

    def recalled(self) -> None:
        """Nobody waits for the response any more."""
        self._broken_off()

    def grown(self) -> None:
        """There is more of the request, or it broke off."""
        stream = self._incoming.stream
        if stream is not None and stream.aborted:
            self._broken_off()
        else:
            self.notify()

    def _broken_off(self) -> None:
        """Nobody wants the response, or the request will not go on."""
        if self.cancelled:
            return
        self.cancelled = True
        if self._outgoing is not None:
            self._outgoing.forget(None)
        if not self.over:
            self._settle(failed("the request broke off"))
        self.notify()

    def _settle(self, state: object) -> None:
        """The request is done with."""
        if self.over:
            return
        self.over = True
        self.service.settle(self.link, self.delivery, self._incoming, state)
        self.service.forget(self, self._incoming)
