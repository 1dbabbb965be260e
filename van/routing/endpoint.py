"""Links whose other end is in this process: how adaptors of other protocols take part, without AMQP between.

To the core they are links like any other. The adaptor at their other end sends and receives by calling them. What the
core has to say comes in the middle of somebody else's batch; so it is noted in the `EndpointSession`, and the adaptor
is touched: it looks there when it is asked for octets.

The names are the core's: by an *incoming* link deliveries come into the router, and the adaptor sends; by an
*outgoing* link they leave the router, and the adaptor receives.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliveryTarget
from van.amqp.delivery_state import ACCEPTED, RELEASED, Received
from van.amqp.errors import AmqpSessionError, ErrorCondition
from van.amqp.link import Link
from van.amqp.performatives import ROLE_RECEIVER, ROLE_SENDER, Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.serial import MASK
from van.amqp.session import Session
from van.amqp.terminus import Source, Target
from van.routing.forwarder import drop_payload
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import OutgoingLink

if TYPE_CHECKING:
    from van.routing.adaptor import Adaptor
    from van.routing.dialect.annotations import Annotations
    from van.routing.router import Router

# What an adaptor may have read before it asks again is counted in frames of this size, in octets...
ENDPOINT_FRAME: Final = 65536
# ...and is so many of them at most: as much as a flow of TCP may have on its way without an acknowledgement.
ENDPOINT_FRAMES: Final = 16
# Sessions of one service that are kept for connections to come.
MAX_RESTING: Final = 16
# The channels that they have in management end with this one.
MAX_CHANNEL: Final = 65535
# Credit of an idle link by which one stream at a time is sent.
STREAM_LINK_CAPACITY: Final = 4


class EndpointSession(Session):
    """The links of one adaptor, and what the core has said of them since the adaptor last looked.

    The adaptor takes what is in these lists and clears them, in `data_to_send` (which is what `Router.touch` leads to):

    `ready`: outgoing links where deliveries wait, to be asked with `take`.
    `told`: deliveries sent by us of which a receiver has spoken: `delivery.state` is what it said, and `owes(delivery)`
    whether it may say more. One that was released because nobody receives is in here before `send` returns.
    `credited`: incoming links that may send more than before.
    `grown`: streams taken here of which more has come, or that have ended or were aborted.
    `recalled`: deliveries taken here, and not settled yet, that their senders have settled: they wait for no outcome.
    None, as it is at first, for an adaptor that does not want to know.

    `incoming` and `outgoing` are the latest link of each kind, None before there is one.

    `room` says how many octets may be sent on now, so that the router's byte budget holds.

    Raises `AmqpSessionError` when there is no memory for one more.
    """

    __slots__ = (
        "adaptor",
        "credited",
        "grown",
        "handles",
        "incoming",
        "outgoing",
        "owners",
        "ready",
        "recalled",
        "router",
        "told",
        "touched",
    )

    def __init__(self, router: Router, adaptor: Adaptor, name: str) -> None:
        """router: the core. adaptor: whom to touch. name: of the links, for management and the log."""
        connection = Connection(
            name,
            accepting=False,
            max_frame_size=ENDPOINT_FRAME,
            window_policy=router.budget.policy(ENDPOINT_FRAMES, ENDPOINT_FRAME),
            now=router.now,
        )
        super().__init__(connection)
        self.router = router
        self.adaptor = adaptor
        self.touched = False
        # Links are told apart by it in management.
        self.handles = 0
        self.incoming: EndpointReceiverLink | None = None
        self.outgoing: EndpointSenderLink | None = None
        self.owners: dict[Link, IncomingLink | OutgoingLink] = {}
        self.ready: list[EndpointSenderLink] = []
        self.told: list[Delivery] = []
        self.credited: list[EndpointReceiverLink] = []
        self.grown: list[EndpointStream] = []
        self.recalled: list[Delivery] | None = None
        window = connection.window_policy.begin(self)
        if window <= 0:
            raise AmqpSessionError(ErrorCondition.RESOURCE_LIMIT_EXCEEDED, "no memory left for a session's window")
        self.incoming_window = self.window = window
        self.renew_at = window // 2
        self.local_begun = self.remote_begun = True

    # -- for the adaptor -----------------------------------------------------------------------------------------

    def attach_incoming(self, text: str, capacity: int, limit: int = 0) -> EndpointReceiverLink:
        """A link to send by to the address `text`; empty: each message says where it goes (`to` of its properties).

        capacity, limit: as `Router.attach_incoming` has them. One stream at a time goes by a link.

        Raises `AmqpLinkError` when the address cannot be had.
        """
        link = EndpointReceiverLink(self, text)
        target = Target(address=text or None)
        attach = Attach(name=link.name, handle=0, role=ROLE_SENDER, source=Source(), target=target)
        link.local = link.remote = attach
        owner = self.router.attach_incoming(link, text, capacity, limit)
        self._attached(link, owner)
        self.incoming = link
        return link

    def attach_outgoing(self, text: str, capacity: int) -> EndpointSenderLink:
        """A link to receive by from the address `text`; empty: a temporary one, which is then its `address`.

        capacity: so many deliveries at a time are what *balanced* likes to have there.

        Raises `AmqpLinkError` when the address cannot be had.
        """
        text = text or self.router.temporary_address(False)
        link = EndpointSenderLink(self, text)
        attach = Attach(name=link.name, handle=0, role=ROLE_RECEIVER, source=Source(address=text), target=Target())
        link.local = link.remote = attach
        owner = self.router.attach_outgoing(link, text, capacity)
        link.link_credit = capacity
        self._attached(link, owner)
        self.outgoing = link
        return link

    def _attached(self, link: EndpointReceiverLink | EndpointSenderLink, owner: IncomingLink | OutgoingLink) -> None:
        link.local_attached = link.remote_attached = True
        link.handle = self.handles
        self.handles += 1
        self.owners[link] = owner
        self.router.started(owner)

    def detach(self, link: Link) -> None:
        """Give a link up: what waits goes elsewhere, a stream that has not ended is aborted.

        Receivers may still settle what was sent; nobody is told.
        """
        owner = self.owners.pop(link, None)
        if owner is None:
            return
        link.detach_sent = link.detach_received = True
        if isinstance(link, EndpointSenderLink):
            link.lose_streams()
        self.router.detached(owner)
        link.let_go()

    def retire(self, link: EndpointSenderLink) -> None:
        """Receive nothing more by an outgoing link: what waits is released, what was taken goes on."""
        owner = self.owners[link]
        assert isinstance(owner, OutgoingLink)
        self.router.retire(owner)
        undelivered = owner.undelivered
        while undelivered:
            owner.give_up(undelivered.popleft(), RELEASED)

    def withdraw(self, link: EndpointSenderLink) -> None:
        """Receive nothing more by a link: what waits goes elsewhere, what was taken goes on. `detach` follows."""
        owner = self.owners.get(link)
        if not isinstance(owner, OutgoingLink):
            return
        address = owner.address
        address.remove_outgoing(owner)
        self.router.advertise(address)
        waiting = list(owner.undelivered)
        owner.undelivered.clear()
        for delivery in waiting:
            owner.give_up(delivery, RELEASED)

    def close(self) -> None:
        """Give everything up. Nothing may be done with it afterwards."""
        links = list(self.owners)
        for link in links:
            if isinstance(link, EndpointSenderLink):
                link.lose_streams()
        self.router.session_lost(self, self.owners.values())
        for link in links:
            self.detach(link)
        self.end_sent = True
        self.connection.window_policy.end(self)

    def rest(self) -> None:
        """Nobody has it until `resume`: nothing is sent by its links, and what the core has to say is not heard.

        It has at most one link of each kind. An outgoing one has a temporary address, which is given up: what still
        comes there is nobody's.
        """
        # So `wake` touches nobody.
        self.touched = True
        link = self.outgoing
        if link is not None and isinstance(link.source, OutgoingLink):
            self.router.withdraw(link.source)
            self.router.release(link.source.address)
        self.router.budget.rest(self)

    def resume(self, adaptor: Adaptor) -> bool:
        """Have another adaptor take a session that rests, as if it were new. False where that cannot be: something
        of the last one is not settled yet, or nobody receives. An outgoing link gets a new temporary address.
        """
        if self.unsettled_in or self.unsettled_out or self.held:
            return False
        link = self.incoming
        if link is not None:
            sink = link.sink
            if link.link_credit <= 0 or not isinstance(sink, IncomingLink) or sink.blocked:
                return False
        replies = self.outgoing
        if replies is not None and isinstance(replies.source, OutgoingLink):
            replies.rename(self.router.temporary_address(False))
            self.router.moved(replies.source, replies.address)
        self.router.budget.resume(self)
        self.told.clear()
        self.credited.clear()
        self.adaptor = adaptor
        self.touched = False
        return True

    def room(self) -> int:
        """How many octets may be sent on now; when it was 0, the adaptor is touched once there is room again."""
        if self.dormant:
            self.activate()
        if self.incoming_window <= self.renew_at:
            self._renew()
        window = self.incoming_window
        return window * ENDPOINT_FRAME if window > 0 else 0

    def owes(self, delivery: Delivery) -> bool:
        """Whether the outcome of a delivery sent by us is still open."""
        return self.unsettled_in.get(delivery.delivery_id) is delivery

    def settle_sent(self, delivery: Delivery, state: object) -> None:
        """Settle a delivery sent by us: its receiver named an outcome and waits, or nobody cares any more."""
        if self.unsettled_in.get(delivery.delivery_id) is delivery:
            del self.unsettled_in[delivery.delivery_id]
            receiver = delivery.receiver
            assert receiver is not None
            receiver.sink.updated(delivery, state, True)

    # -- from the core -------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the adaptor look."""
        if not self.touched:
            self.touched = True
            self.router.touch(self.adaptor)

    def look(self) -> None:
        """The adaptor looks now: whatever comes after this touches it again. Called before the lists are read."""
        self.touched = False

    def mark(self) -> None:
        """There are no frames to write."""

    def settle(self, delivery: Delivery, state: object) -> None:
        delivery_id = delivery.delivery_id
        unsettled = self.unsettled_in
        if delivery_id not in unsettled:
            return
        del unsettled[delivery_id]
        delivery.state = state
        receiver = delivery.receiver
        if receiver is not None and receiver.current is delivery:
            receiver.current = None
        self.told.append(delivery)
        self.wake()

    def accept(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.settle(delivery, ACCEPTED)

    def update(self, delivery: Delivery, state: object) -> None:
        if delivery.delivery_id in self.unsettled_in:
            delivery.state = state
            self.told.append(delivery)
            self.wake()

    def update_outgoing(self, delivery: Delivery, state: object, settled: bool) -> None:
        if settled and self.unsettled_out.get(delivery.out_id) is delivery:
            del self.unsettled_out[delivery.out_id]
            if delivery.chunks is None:
                # Its sender does not wait any more; whoever took it has the octets, and nothing to settle.
                delivery.holder.held -= len(delivery.payload)
            elif isinstance(delivery.sender, EndpointSenderLink):
                delivery.sender.has_left(delivery)
            if self.recalled is not None:
                self.recalled.append(delivery)
                self.wake()

    def shrink_window(self, window: int) -> None:
        if window < self.incoming_window:
            self.incoming_window = self.window = self.max_window = window
            self.renew_at = window // 2

    def offer_window(self) -> None:
        if not self.end_sent and self.room() > 0:
            self.wake()

    def spend(self, size: int) -> None:
        """So many octets of payload have come in."""
        self.held += size
        self.incoming_window = max(0, self.incoming_window - 1 - size // ENDPOINT_FRAME)


class RestingSessions:
    """Sessions with their links that were used and are put by for the next adaptor of the same kind.

    A session and its links cost more than all else of a short connection. So many at most are kept.
    """

    __slots__ = ("_limit", "_next_channel", "_sessions")

    def __init__(self, limit: int = MAX_RESTING) -> None:
        self._limit = limit
        self._next_channel = 1
        self._sessions: deque[EndpointSession] = deque()

    def put(self, session: EndpointSession) -> None:
        """Put a session by, of which an adaptor has used everything to its end; or end it."""
        replies = session.outgoing
        done = replies is None or not (replies.queued or replies.streams or replies.source.undelivered)
        if len(self._sessions) < self._limit and done and not session.ready and not session.grown:
            if session.local_channel < 0:
                # By this its links are told apart from those of others that rest.
                session.local_channel = self._next_channel
                self._next_channel = self._next_channel % MAX_CHANNEL + 1
            session.rest()
            self._sessions.append(session)
        else:
            session.close()

    def take(self, adaptor: Adaptor) -> EndpointSession | None:
        """A session for an adaptor; None where there is none that can be had. The oldest comes first."""
        if not self._sessions:
            return None
        session = self._sessions.popleft()
        if session.resume(adaptor):
            return session
        self._sessions.append(session)
        return None

    def sessions(self) -> list[EndpointSession]:
        """Those that rest."""
        return list(self._sessions)

    def close(self) -> None:
        """End them all, and keep none from now on."""
        self._limit = 0
        while self._sessions:
            session = self._sessions.popleft()
            session.router.budget.resume(session)
            session.close()


class EndpointReceiverLink(ReceiverLink):
    """What an adaptor sends by: deliveries come into the router here. `link_credit` is how many it may send.

    There is none while nobody receives: `reachable` tells, and the session's `credited` names a link also when that
    has changed.
    """

    __slots__ = ("endpoint",)

    def __init__(self, session: EndpointSession, name: str) -> None:
        super().__init__(session, name)
        self.endpoint = session

    # -- for the adaptor -----------------------------------------------------------------------------------------

    @property
    def reachable(self) -> bool:
        """Whether somebody in the network receives what is sent to the address."""
        sink = self.sink
        return isinstance(sink, IncomingLink) and not sink.blocked

    def send(self, payload: bytes, settled: bool = False) -> Delivery:
        """Send a whole message; there has to be credit. What becomes of it is told by the session."""
        delivery = self._delivery(payload, settled)
        self.sink.deliver(delivery)
        return delivery

    def begin(self, head: bytes, settled: bool = False, annotations: Annotations | None = None) -> Delivery:
        """Send the beginning of a stream at once; there has to be credit, and no stream under way (`current`).

        head: everything that is needed to route it, at least. annotations: what other routers are told of it, where it
        is not the usual; `prepared` by the router.
        """
        delivery = self._delivery(b"", settled)
        delivery.annotations = annotations
        size = len(head)
        self.endpoint.spend(size)
        delivery.chunks = deque((head,))
        delivery.more = True
        self.current = delivery
        self.current_size = size
        sink = self.sink
        sink.deliver(delivery)
        sink.hurry(delivery)
        return delivery

    def append(self, payload: bytes, more: bool = True) -> None:
        """Send more of the stream under way, or with `more` unset its end; without one nothing happens.

        There is none any more as soon as its outcome is known.
        """
        delivery = self.current
        if delivery is None:
            return
        size = len(payload)
        self.current_size += size
        if not more:
            delivery.more = False
            self.current = None
        if size and delivery.chunks is not None:
            delivery.chunks.append(payload)
            self.endpoint.spend(size)
        self.sink.extend(delivery, payload)

    def abort(self) -> None:
        """Give up the stream under way, if there is one."""
        delivery = self.current
        if delivery is None:
            return
        self.current = None
        delivery.aborted = True
        delivery.more = False
        self.endpoint.forget_incoming(delivery)
        self.sink.abort(delivery)

    def _delivery(self, payload: bytes, settled: bool) -> Delivery:
        session = self.endpoint
        self.link_credit -= 1
        self.delivery_count = (self.delivery_count + 1) & MASK
        delivery_id = session.next_incoming_id
        session.next_incoming_id = (delivery_id + 1) & MASK
        delivery = Delivery(self, delivery_id, b"", payload, settled, session)
        if payload:
            session.spend(len(payload))
        if not settled:
            session.unsettled_in[delivery_id] = delivery
        return delivery

    # -- from the core -------------------------------------------------------------------------------------------

    def grant(self, credit: int) -> None:
        self.link_credit += credit
        self.drain = False
        self._tell()

    def request_drain(self) -> None:
        returned = self.link_credit
        self.link_credit = 0
        self.delivery_count = (self.delivery_count + returned) & MASK
        self.drained += returned
        self.sink.flow_received(self, returned)

    def unreachable(self) -> None:
        sink = self.sink
        if isinstance(sink, IncomingLink):
            sink.starve()
        self._tell()

    def _tell(self) -> None:
        session = self.endpoint
        if self not in session.credited:
            session.credited.append(self)
        session.wake()


class EndpointSenderLink(SenderLink):
    """What an adaptor receives by: deliveries leave the router here.

    `address` is the text of its address. `streams` are those taken here that have not ended, or are not settled.
    """

    __slots__ = ("address", "endpoint", "streams")

    def __init__(self, session: EndpointSession, address: str) -> None:
        super().__init__(session, address)
        self.endpoint = session
        self.address = address
        self.streams: dict[EndpointStream, None] = {}

    def rename(self, address: str) -> None:
        """Receive from another address: the core has to be told."""
        self.name = self.address = address
        if self.local is not None and isinstance(self.local.source, Source):
            self.local.source.address = address

    # -- for the adaptor -----------------------------------------------------------------------------------------

    @property
    def alone(self) -> bool:
        """Whether nobody else in the network is known to receive what is sent to the address."""
        source = self.source
        if not isinstance(source, OutgoingLink):
            return True
        address = source.address
        remote = address.remote
        return len(address.outgoing) <= 1 and (remote is None or not remote.routers)

    def take(self) -> Delivery | None:
        """The next delivery that waits; None when none does, and then the link is announced as `ready` again.

        A whole one (`chunks` is None) has its message in `payload` and, unless it is pre-settled, wants to be settled
        with `settle`. Any other wants to be made a `stream` at once; a whole one may be.
        """
        undelivered = self.source.undelivered
        while undelivered:
            delivery = undelivered.popleft()
            if delivery.aborted:
                continue
            session = self.endpoint
            self.delivery_count = (self.delivery_count + 1) & MASK
            delivery.sender = self
            delivery_id = delivery.out_id = session.next_delivery_id
            session.next_delivery_id = (delivery_id + 1) & MASK
            if not delivery.settled:
                session.unsettled_out[delivery_id] = delivery
            elif delivery.chunks is None:
                delivery.holder.held -= len(delivery.payload)
                self.presettled += 1
                self.source.left(delivery)
            return delivery
        self.queued = False
        return None

    def stream(self, delivery: Delivery, session: EndpointSession) -> EndpointStream:
        """Receive a delivery as it comes. session: which is told of it."""
        source = self.source
        if isinstance(source, OutgoingLink) and delivery.target is source:
            # It does not occupy the link: others go by here meanwhile.
            source.streaming -= 1
        stream = EndpointStream(self, delivery, session)
        if delivery.chunks is None:
            delivery.chunks = deque((delivery.payload,))
            if delivery.settled:
                # It has left for good.
                stream.is_left = True
                delivery.holder.held += len(delivery.payload)
            delivery.payload = b""
        if delivery.more:
            delivery.target = stream
        self.streams[stream] = None
        return stream

    def settle(self, delivery: Delivery, state: object) -> None:
        """Settle a whole delivery that was taken, with its outcome. The octets of its message are let go."""
        unsettled = self.endpoint.unsettled_out
        if unsettled.get(delivery.out_id) is delivery:
            del unsettled[delivery.out_id]
            drop_payload(delivery)
            self.source.updated(delivery, state, True)

    # -- from the core -------------------------------------------------------------------------------------------

    def ready(self) -> None:
        if not self.queued:
            self.queued = True
            session = self.endpoint
            session.ready.append(self)
            session.wake()

    def has_left(self, delivery: Delivery) -> None:
        """The link has nothing to do any more with a stream, which may be read on."""
        for stream in self.streams:
            if stream.delivery is delivery:
                stream.is_left = True

    def lose_streams(self) -> None:
        """The link ends, and its streams with it."""
        for stream in list(self.streams):
            stream.give_up()


class EndpointStream(DeliveryTarget):
    """A delivery that an adaptor receives as it comes.

    `read` gives what is here. `finished`: all was read, and its end was here. `aborted`: it will not go on. Until it is
    settled, say with `received` how far it has been passed on.
    """

    __slots__ = ("_listed", "_session", "aborted", "delivery", "finished", "is_left", "link")

    def __init__(self, link: EndpointSenderLink, delivery: Delivery, session: EndpointSession) -> None:
        self.link = link
        self.delivery = delivery
        self.finished = False
        self.aborted = False
        # A pre-settled delivery: the link has nothing to do with it any more.
        self.is_left = False
        self._session = session
        self._listed = False

    # -- for the adaptor -----------------------------------------------------------------------------------------

    def waiting(self) -> bool:
        """Whether there is something to read, its end included."""
        delivery = self.delivery
        return not self.finished and not self.aborted and (bool(delivery.chunks) or not delivery.more)

    def read(self, limit: int) -> list[bytes | memoryview]:
        """What has come and was not read yet, `limit` octets of it at most."""
        self._listed = False
        delivery = self.delivery
        chunks = delivery.chunks
        pieces: list[bytes | memoryview] = []
        if chunks:
            size = 0
            while chunks and size < limit:
                chunk = chunks.popleft()
                room = limit - size
                if len(chunk) > room:
                    view = memoryview(chunk)
                    chunks.appendleft(view[room:])
                    chunk = view[:room]
                pieces.append(chunk)
                size += len(chunk)
            delivery.holder.held -= size
        if not chunks and not delivery.more and not self.finished and not self.aborted:
            self.finished = True
            if delivery.settled:
                self._over()
                if not self.is_left:
                    # Its sender does not wait for an outcome; it may have said so with the last of it.
                    self.is_left = True
                    self.link.endpoint.unsettled_out.pop(delivery.out_id, None)
                    self.link.presettled += 1
                    self.link.source.left(delivery)
        return pieces

    def received(self, octets: int) -> None:
        """Say that so many octets of the payload have been passed on (3.4.1, section-offset)."""
        if self._unsettled():
            self.link.source.updated(self.delivery, Received(section_number=0, section_offset=octets), False)

    def settle(self, state: object) -> None:
        """Settle it with its outcome, which before its end means that the rest is not wanted."""
        delivery = self.delivery
        self._over()
        if self._unsettled():
            del self.link.endpoint.unsettled_out[delivery.out_id]
            if delivery.target is self:
                delivery.target = None
            self.link.source.updated(delivery, state, True)
        elif not self.finished:
            self.give_up()

    def _unsettled(self) -> bool:
        delivery = self.delivery
        return self.link.endpoint.unsettled_out.get(delivery.out_id) is delivery

    def _over(self) -> None:
        self.link.streams.pop(self, None)

    def give_up(self) -> None:
        """Read no more of it. An unsettled one is left to the link's end, or to whoever settled it."""
        delivery = self.delivery
        self._over()
        if delivery.target is self:
            delivery.target = None
        source = self.link.source
        if not self.finished and not self.aborted and delivery.settled:
            if self.is_left:
                drop_payload(delivery)
            elif isinstance(source, OutgoingLink):
                source.give_up(delivery, RELEASED)
        self.aborted = True

    # -- from the core -------------------------------------------------------------------------------------------

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if not delivery.more:
            delivery.target = None
        self._tell()

    def abort(self, delivery: Delivery) -> None:
        unsettled = self.link.endpoint.unsettled_out
        if unsettled.get(delivery.out_id) is delivery:
            del unsettled[delivery.out_id]
        source = self.link.source
        if isinstance(source, OutgoingLink):
            source.dropped(delivery)
        drop_payload(delivery)
        self.aborted = True
        self._over()
        # Also where there was something to read, and nobody has read it.
        self._listed = False
        self._tell()

    def others_wait(self) -> bool:
        return False

    def _tell(self) -> None:
        if not self._listed:
            self._listed = True
            session = self._session
            session.grown.append(self)
            session.wake()
