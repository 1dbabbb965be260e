"""The agent: the `$management` node as one more AMQP peer of the router, inside the process.

Its connection is wired back to back with an `AmqpAdaptor`: two receivers take requests (`$management` for whoever is
connected here, `_local/$management` for what other routers and edges send to this one by name), an anonymous sender
carries replies. The router core sees links like any others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import attrs

from van.adaptors.amqp import NORMAL, AmqpAdaptor, ConnectionSettings, Log, no_log
from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED, RELEASED, Rejected
from van.amqp.errors import DecodeError
from van.amqp.link import RCV_FIRST, SND_MIXED, SND_SETTLED
from van.amqp.message import Message
from van.amqp.native import mypyc_attr
from van.amqp.performatives import Attach, Error
from van.amqp.receiver_link import ReceiverLink
from van.amqp.session import Session
from van.amqp.terminus import Source, Target
from van.management.elsewhere import Question, question
from van.management.facts import Facts
from van.management.node import CHANGES, Reply, answer, changed, takes_time
from van.management.requests import ManagementError, Request, Status, parse_request, reply_address
from van.management.view import Elsewhere, View
from van.routing.address import address_key
from van.routing.dialect.annotations import MAY_CHANGE
from van.routing.incoming_link import IncomingLink
from van.routing.outgoing_link import OutgoingLink
from van.routing.router import Router
from van.routing.worker_link import WorkerIncomingLink

MANAGEMENT: Final = "$management"
LOCAL_MANAGEMENT: Final = "_local/$management"

# Requests that are taken at a time from each of the two addresses; others wait where senders' credit bounds them.
MAX_REQUESTS: Final = 50
# Replies that wait for one receiver; its requests beyond that are released, so that it may ask again.
MAX_WAITING: Final = 100
# Replies that may wait for all receivers together.
MAX_REPLIES: Final = 10_000
# Replies that the router does not take, for it is short of memory: beyond them requests wait.
MAX_BACKLOG: Final = 20
# No request of today needs more, in octets; larger ones are rejected with amqp:link:message-size-exceeded.
MAX_REQUEST_SIZE: Final = 1024 * 1024
# What is done before others have their turn, counted in rows: one to two milliseconds.
SLICE: Final = 80
# Taking a request in is as much work as so many rows.
REQUEST_COST: Final = 4
# Frames between agent and router. The router promises 16 of them before it knows that they will come.
FRAME_SIZE: Final = 4096
CHUNK: Final = 65536


@attrs.define(eq=False)
class _Asked:
    """A request that waits for its turn, or is being answered."""

    link: ReceiverLink
    delivery: Delivery
    payload: bytes
    may_change: bool = False
    reply: Reply | None = None
    begun: bool = False
    waits: bool = False
    settled: bool = False


Change: TypeAlias = Callable[[Request, Callable[[str | ManagementError], None]], None]
"""Called with a request of somebody who may change the router, and with what is to be called with the entity's name, or
with why it was not done."""


class ManagementAgent:
    """Answers requests to the management node of one router.

    facts: what the process knows beside the router core. on_more: called when there are requests to answer, once until
    `go_on` has been called; by default they are answered at once. log is called with a level, an event and fields.
    gather: where the router has other processes; called with what to ask them and with who wants to hear what they say.
    change: makes and deletes entities of types whose changes take time.
    """

    def __init__(
        self,
        router: Router,
        facts: Facts | None = None,
        *,
        on_more: Callable[[], None] | None = None,
        log: Log = no_log,
        gather: Callable[[Question, Callable[[Elsewhere], None]], None] | None = None,
        change: Change | None = None,
    ) -> None:
        self.router = router
        self.gather = gather
        self.change = change
        self.facts = facts if facts is not None else Facts()
        self.on_more = on_more if on_more is not None else self.finish
        self.log = log
        self._asked: deque[_Asked] = deque()
        self._told = False
        self._moving = False
        self._broken = False
        self.connection = Connection(
            f"{router.id}/{MANAGEMENT}", accepting=False, max_frame_size=FRAME_SIZE, now=router.now
        )
        settings = ConnectionSettings(max_frame_size=FRAME_SIZE, idle_timeout=0.0, link_capacity=MAX_REPLIES)
        self.adaptor = AmqpAdaptor(router, settings, now=router.now)
        self.adaptor.on_wake = self._on_wake
        self.connection.open()
        session = self.connection.session()
        session.begin()
        self._sink = _Requests(self)
        self._replies = _Replies()
        for address in (MANAGEMENT, LOCAL_MANAGEMENT):
            self._receive(session, address)
        self._sender = session.sender("replies")
        self._sender.source = self._replies
        self._sender.attach(_attach(role=False, source=Source(), target=Target(), snd_settle_mode=SND_SETTLED))
        self._move()
        router.wake_touched()

    def _receive(self, session: Session, address: str) -> None:
        link = session.receiver(address)
        link.sink = self._sink
        attach = _attach(role=True, source=Source(address=address), target=Target(), snd_settle_mode=SND_MIXED)
        attach.max_message_size = MAX_REQUEST_SIZE
        link.attach(attach)
        link.grant(MAX_REQUESTS)

    # -- octets --------------------------------------------------------------------------------------------------

    def _on_wake(self) -> None:
        """The router core has something for us."""
        if self._moving:
            return
        self._move()
        if self._can_answer() and not self._told:
            self._told = True
            self.on_more()

    def _move(self) -> None:
        """Move octets both ways until none moves."""
        adaptor = self.adaptor
        connection = self.connection
        self._moving = True
        try:
            moved = not self._broken
            while moved:
                moved = False
                while chunks := adaptor.data_to_send(CHUNK):
                    moved = True
                    # Events are about links and the connection: ours are never detached, unless they are refused.
                    connection.receive_data(b"".join(chunks), self.router.now)
                while chunks := connection.data_to_send(CHUNK):
                    moved = True
                    adaptor.receive_data(b"".join(chunks), self.router.now)
        except Exception as fault:  # noqa: BLE001 - the guard of this connection, as others have theirs
            self.log("error", "the management node is gone, a fault of ours", exc_info=fault)
            self._broken = True
            self._asked.clear()
            adaptor.connection_lost(self.router.now)
        finally:
            self._moving = False

    # -- requests ------------------------------------------------------------------------------------------------

    def take(self, link: ReceiverLink, delivery: Delivery, payload: bytes) -> None:
        """A whole request is here."""
        self._asked.append(_Asked(link, delivery, payload, self._may_change(delivery)))

    def _may_change(self, delivery: Delivery) -> bool:
        """Whether a request is from somebody who may change the router, by a connection of any of its processes."""
        for session in self.adaptor.connection.sessions:
            # The router's end of the same wire, where the delivery has the same id.
            sent = session.unsettled_out.get(delivery.delivery_id)
            if sent is None:
                continue
            origin = sent.origin
            if isinstance(origin, WorkerIncomingLink):
                return sent.annotations is not None and sent.annotations.flags & MAY_CHANGE != 0
            if isinstance(origin, IncomingLink) and not origin.between_routers:
                return may_change(self.facts, origin.link.session.connection)
        return False

    @property
    def busy(self) -> bool:
        """Whether requests wait for their answer."""
        return bool(self._asked)

    def finish(self) -> None:
        """Answer everything that was asked."""
        while self.go_on():
            pass

    def go_on(self) -> bool:
        """Do a slice of work; returns whether there is more to do now. Afterwards call `Router.wake_touched`."""
        left = SLICE
        while left > 0 and self._can_answer():
            asked = self._asked[0]
            left -= self._advance(asked, left)
            if asked.waits:
                break
            reply = asked.reply
            if reply is None or reply.done:
                self._asked.popleft()
                self._settle(asked, ACCEPTED)
                if reply is not None:
                    self._send(reply.encode())
            if len(self._replies.undelivered) >= MAX_BACKLOG:
                self._move()
        self._move()
        self._told = self._can_answer()
        return self._told

    def _can_answer(self) -> bool:
        """Whether there is something to answer, and the router takes the replies that there are."""
        return bool(self._asked) and not self._asked[0].waits and len(self._replies.undelivered) < MAX_BACKLOG

    def _advance(self, asked: _Asked, rows: int) -> int:
        """Go on with one request; returns how much was done, counted in rows."""
        reply = asked.reply
        try:
            if not asked.begun:
                asked.begun = True
                asked.reply = self._begin(asked)
                return REQUEST_COST
            return reply.step(rows) if reply is not None and not reply.done else 0
        except Exception as fault:  # noqa: BLE001 - whoever asks must not end the router; the log has the fault
            self.log("error", "request to the management node failed, a fault of ours", exc_info=fault)
            if asked.reply is not None:
                asked.reply.fail(Status.INTERNAL_ERROR, "Internal error, see the log of the router")
            return rows

    def _begin(self, asked: _Asked) -> Reply | None:
        """Take a request in; None where nobody waits for an answer, or where it cannot be read."""
        try:
            message = Message.decode(asked.payload)
        except DecodeError as error:
            condition = Error(condition=error.condition, description=error.description)
            self._settle(asked, Rejected(error=condition))
            return None
        reply_to, correlation_id = reply_address(message)
        if not reply_to:
            return None
        if self._has_enough(reply_to):
            self._settle(asked, RELEASED)
            return None
        reply = Reply(reply_to, correlation_id)
        asked.reply = reply
        try:
            request = parse_request(message)
            if self.change is not None and takes_time(request, asked.may_change):
                asked.waits = True
                self.change(request, partial(self._changed, asked, request, reply))
                return reply
            abroad = question(request, self.router) if self.gather is not None else None
            if self.gather is not None and abroad is not None:
                asked.waits = True
                self.gather(abroad, partial(self._gathered, asked, request, reply))
                return reply
            view = self.view()
            view.may_change = asked.may_change
            made = answer(view, request, reply_to, correlation_id)
            if request.operation in CHANGES:
                self._tell(request)
            return made
        except ManagementError as error:
            reply.fail(error.status, error.description)
            return reply

    def _gathered(self, asked: _Asked, request: Request, reply: Reply, elsewhere: Elsewhere) -> None:
        """Go on with a request: this is what other processes have said."""
        asked.waits = False
        asked.reply = reply
        view = self.view()
        view.elsewhere = elsewhere
        try:
            asked.reply = answer(view, request, reply.reply_to, reply.correlation_id)
        except ManagementError as error:
            reply.fail(error.status, error.description)
        self.on_more()

    def _changed(self, asked: _Asked, request: Request, reply: Reply, result: str | ManagementError) -> None:
        """Go on with a request: this is what came of it."""
        asked.waits = False
        asked.reply = reply
        if isinstance(result, ManagementError):
            reply.fail(result.status, result.description)
        else:
            asked.reply = changed(self.view(), request, result, reply.reply_to, reply.correlation_id)
            self._tell(request)
        self.on_more()

    def _tell(self, request: Request) -> None:
        what = {"operation": request.operation, "type": request.type, "name": request.name or request.identity}
        self.log("info", "changed by management", **what)

    def view(self) -> View:
        """A look at the router."""
        own = {owner for owner in self.adaptor.links.values() if isinstance(owner, OutgoingLink)}
        return View(self.router, self.facts, own)

    def _settle(self, asked: _Asked, state: object) -> None:
        """Settle a request, if that was not done, and let another come."""
        asked.link.settle(asked.delivery, state)
        if not asked.settled:
            asked.settled = True
            asked.link.grant(1)

    def _has_enough(self, reply_to: str) -> bool:
        """Whether so many replies wait for whoever receives there that there is no room for one more.

        The replies to all share the credit of one link; who asks and takes no answers may not use it up.
        """
        address = self.router.addresses.get(address_key(reply_to, self.router.id))
        receivers = address.outgoing if address is not None else []
        return bool(receivers) and all(len(receiver.undelivered) >= MAX_WAITING for receiver in receivers)

    def _send(self, message: bytes) -> None:
        delivery = Delivery(None, 0, b"", message, True, _NOBODY)
        self._replies.undelivered.append(delivery)
        self._sender.ready()


def may_change(facts: Facts, connection: Connection) -> bool:
    """Whether the peer of a connection may change the router: on its own machine, or where it has proved who it is.

    What comes from a broker is of whoever has sent it there.
    """
    adaptor = next((adaptor for adaptor in facts.adaptors() if adaptor.connection is connection), None)
    if adaptor is None or adaptor.role != NORMAL:
        return False
    sasl = adaptor.connection.sasl
    proved = adaptor.connection.accepting and sasl is not None and sasl.succeeded and sasl.mechanism != "ANONYMOUS"
    return proved or facts.is_local(adaptor)


# What is on its way in here is counted by the router when it takes it.
_NOBODY: Final = Holder()


class _Requests(DeliverySink):
    """The owner of the links that requests come by."""

    __slots__ = ("agent",)

    def __init__(self, agent: ManagementAgent) -> None:
        self.agent = agent

    def deliver(self, delivery: Delivery) -> None:
        if delivery.aborted:
            self._gone(delivery)
        elif delivery.chunks is None:
            self._take(delivery, delivery.payload)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if not delivery.more:
            self._take(delivery, delivery.data())

    def abort(self, delivery: Delivery) -> None:
        self._gone(delivery)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """What a sender says of a request changes nothing."""

    def outcome(self, delivery: Delivery, state: object, settled: bool) -> None:
        """Nothing is passed on."""

    def left(self, delivery: Delivery) -> None:
        """Nothing is passed on."""

    def _take(self, delivery: Delivery, payload: bytes) -> None:
        link = delivery.receiver
        assert link is not None
        self.agent.take(link, delivery, payload)
        delivery.payload = b""
        delivery.chunks = None

    def _gone(self, delivery: Delivery) -> None:
        link = delivery.receiver
        assert link is not None
        link.grant(1)


@mypyc_attr(allow_interpreted_subclasses=True)
class _Replies(DeliverySource):
    """The owner of the link that replies leave by."""

    __slots__ = ()

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        """Replies are settled when they leave."""

    def left(self, delivery: Delivery) -> None:
        """The reply has been written."""

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        """Replies are whole."""

    def abort(self, delivery: Delivery) -> None:
        """Replies are whole."""

    def others_wait(self) -> bool:
        return len(self.undelivered) > 0


def _attach(*, role: bool, source: Source, target: Target, snd_settle_mode: int) -> Attach:
    return Attach(
        name="",
        handle=0,
        role=role,
        snd_settle_mode=snd_settle_mode,
        rcv_settle_mode=RCV_FIRST,
        source=source,
        target=target,
        initial_delivery_count=None if role else 0,
    )
