"""Which services there are in the network: what routers with services tell those that answer names.

A router that answers names asks, at the multicast address `SERVICES`, and each router that has services answers to the
one who asked, with all it has; when its services change it tells those who have asked lately. So nothing is sent where
nobody answers names, and who has no services hears nothing. Applications may ask, too: a message to `SERVICES` with a
`reply-to` is answered by every router that has services.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from van.adaptors.amqp import Log
from van.adaptors.udp.connecting import may_be_answered
from van.adaptors.udp.gathering import Gathering
from van.amqp.delivery_state import ACCEPTED
from van.amqp.errors import DecodeError
from van.amqp.message import AmqpValue, Message, MessageId, Properties
from van.routing.adaptor import Adaptor
from van.routing.address import MAX_ADDRESS_LENGTH
from van.routing.endpoint import EndpointReceiverLink, EndpointSenderLink, EndpointSession
from van.routing.router import Router

# Where routers with services are asked; routers take all that begins with `mc/van.` as multicast.
SERVICES: Final = "mc/van.services"
ASKED: Final = "van:services?"
TOLD: Final = "van:services"
# How often it is asked again, and after how long a router that has not answered has no services, in seconds. At first,
# and when the first router with services has come, it is asked soon again, twice as late each time: others follow it.
ASK_SECONDS: Final = 30.0
ASK_SOON_SECONDS: Final = 1.0
FORGET_SECONDS: Final = 95.0
# Somebody waits for an answer: but it is asked no more often than this, in seconds.
ASK_AGAIN_SECONDS: Final = 1.0
# What is remembered: routers, services of each, and those who have asked.
MAX_ROUTERS: Final = 1024
MAX_SERVICES: Final = 512
MAX_ASKERS: Final = 64
# A message with all services of a router is not larger, in octets: 512 with addresses of ordinary length are a tenth.
MAX_MESSAGE: Final = 262_144
MAX_SCHEME: Final = 32
CAPACITY: Final = 250

CONNECT: Final = "connect"
LISTEN: Final = "listen"


class ServiceRecord:
    """One end of a service: its address, the protocol, the port, and whether the server is there or clients are."""

    __slots__ = ("address", "port", "scheme", "side")

    def __init__(self, address: str, scheme: str, port: int, side: str) -> None:
        self.address = address
        self.scheme = scheme
        self.port = port
        self.side = side

    def values(self) -> list[str | int]:
        """As it stands in a message."""
        return [self.address, self.scheme, self.port, self.side]


class _Told:
    """What one router has told, and until when that counts."""

    __slots__ = ("records", "until")

    def __init__(self, records: list[ServiceRecord], until: float) -> None:
        self.records = records
        self.until = until


class ServiceDirectory(Adaptor):
    """The services of the network, as far as they are known at this router.

    `asks`: whether others are asked, which needs somebody who answers names here. `on_change` is called when what is
    known of others has changed. It is driven by whoever calls `Router.wake_touched`, and its deadlines.
    """

    def __init__(self, router: Router, log: Log, *, asks: bool) -> None:
        super().__init__()
        self.router = router
        self.log = log
        self.on_change: Callable[[], None] = _nobody_listens
        self.on_wake = self.work
        self.session = EndpointSession(router, self, "services")
        self.refused = 0
        self._own: list[ServiceRecord] = []
        self._others: OrderedDict[str, _Told] = OrderedDict()
        self._by_address: dict[str, list[ServiceRecord]] = {}
        self._stale = True
        self._askers: OrderedDict[str, tuple[MessageId | None, float]] = OrderedDict()
        self._gathering = Gathering(self.session, MAX_MESSAGE)
        self._answers: EndpointReceiverLink = self.session.attach_incoming("", CAPACITY)
        self._receiver: EndpointSenderLink | None = None
        self._ask_at = inf
        self._asked_at = -inf
        self._patience = ASK_SOON_SECONDS
        self._question: EndpointReceiverLink | None = None
        self._inbox: EndpointSenderLink | None = None
        if asks:
            self._inbox = self.session.attach_outgoing("", CAPACITY)
            self._question = self.session.attach_incoming(SERVICES, 4)
            self._ask_at = router.now

    # -- for its owner -------------------------------------------------------------------------------------------

    @property
    def own(self) -> list[ServiceRecord]:
        """The services of this router."""
        return self._own

    def set_own(self, records: Iterable[ServiceRecord]) -> None:
        """Say which services this router has."""
        self._own = list(records)[:MAX_SERVICES]
        self._stale = True
        if self._own and self._receiver is None:
            self._receiver = self.session.attach_outgoing(SERVICES, CAPACITY)
        elif not self._own and self._receiver is not None:
            self.session.detach(self._receiver)
            self._receiver = None
        now = self.router.now
        for reply_to, (correlation_id, until) in list(self._askers.items()):
            if now < until:
                self._tell(reply_to, correlation_id)
            else:
                del self._askers[reply_to]

    def find(self, address: str) -> list[ServiceRecord]:
        """What is known of an address, of this router first. Empty: nothing is."""
        if self._stale:
            self._collect()
        return self._by_address.get(address, [])

    def addresses(self) -> Iterable[str]:
        """All addresses with services."""
        if self._stale:
            self._collect()
        return self._by_address.keys()

    def _collect(self) -> None:
        self._stale = False
        found: dict[str, list[ServiceRecord]] = {}
        for records in [self._own, *[told.records for told in self._others.values()]]:
            for record in records:
                found.setdefault(record.address, []).append(record)
        self._by_address = found

    def ask(self, now: float) -> bool:
        """Ask the network now, if that was not done a moment ago. Returns whether answers may be on their way."""
        question = self._question
        if question is None or not question.reachable:
            return False
        if now >= self._asked_at + ASK_AGAIN_SECONDS and question.link_credit > 0:
            self._ask(now)
        return True

    def _ask(self, now: float) -> None:
        question = self._question
        inbox = self._inbox
        assert question is not None
        assert inbox is not None
        self._asked_at = now
        properties = Properties(to=SERVICES, subject=ASKED, reply_to=inbox.address)
        question.send(Message(properties=properties, body=AmqpValue(None)).encode(), True)

    # -- from the network ----------------------------------------------------------------------------------------

    def work(self) -> None:
        """Look what the core has said."""
        session = self.session
        session.look()
        now = self.router.now
        while session.ready:
            links = session.ready
            session.ready = []
            for link in links:
                while (delivery := link.take()) is not None:
                    if delivery.chunks is not None:
                        self._gathering.begin(link, delivery)
                        continue
                    payload = delivery.payload
                    if not delivery.settled:
                        link.settle(delivery, ACCEPTED)
                    self._take(link, payload, now)
        if session.grown:
            whole, refused = self._gathering.more()
            self.refused += refused
            for stream, payload in whole:
                stream.settle(ACCEPTED)
                self._take(stream.link, payload, now)
        question = self._question
        if question is not None and question in session.credited and question.reachable:
            # The first router with services has come, or the way to it.
            self._patience = ASK_SOON_SECONDS
            self._ask_at = now + self._patience
            self.ask(now)
        session.credited.clear()
        session.told.clear()

    def _take(self, link: EndpointSenderLink, payload: bytes, now: float) -> None:
        try:
            message = Message.decode(payload)
        except DecodeError:
            self.refused += 1
            return
        properties = message.properties
        if properties is None:
            self.refused += 1
        elif link is self._receiver:
            self._asked_by(properties, now)
        elif link is self._inbox and properties.subject == TOLD:
            self._told_by(message, now)
        else:
            self.refused += 1

    def _asked_by(self, properties: Properties, now: float) -> None:
        reply_to = properties.reply_to or ""
        if not may_be_answered(reply_to) or len(reply_to) > MAX_ADDRESS_LENGTH:
            self.refused += 1
            return
        correlation_id = properties.correlation_id
        if correlation_id is None:
            correlation_id = properties.message_id
        self._askers.pop(reply_to, None)
        if len(self._askers) >= MAX_ASKERS:
            self._askers.popitem(last=False)
        self._askers[reply_to] = (correlation_id, now + FORGET_SECONDS)
        self._tell(reply_to, correlation_id)

    def _tell(self, reply_to: str, correlation_id: MessageId | None) -> None:
        link = self._answers
        if link.link_credit <= 0 or self.session.room() <= 0:
            # They ask again.
            return
        properties = Properties(to=reply_to, subject=TOLD, correlation_id=correlation_id)
        body = AmqpValue([record.values() for record in self._own])
        message = Message(properties=properties, application_properties={"router": self.router.id}, body=body)
        link.send(message.encode(), True)

    def _told_by(self, message: Message, now: float) -> None:
        """A router has told of its services."""
        router_id = (message.application_properties or {}).get("router")
        body = message.body
        if not isinstance(router_id, str) or router_id == self.router.id or type(body) is not AmqpValue:
            return
        records = read_records(body.value)
        if records is None:
            self.refused += 1
            return
        others = self._others
        before = others.pop(router_id, None)
        if records:
            if len(others) >= MAX_ROUTERS:
                others.popitem(last=False)
            others[router_id] = _Told(records, now + FORGET_SECONDS)
        if before is None or [each.values() for each in before.records] != [each.values() for each in records]:
            self._changed()

    def _changed(self) -> None:
        self._stale = True
        self.on_change()

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When it is time to ask, or to forget a router that has not answered."""
        for told in self._others.values():
            return min(self._ask_at, told.until)
        return self._ask_at

    def handle_deadline(self, now: float) -> None:
        """Ask again; forget who has not answered."""
        self.router.now = now
        if now >= self._ask_at:
            self._patience = min(2 * self._patience, ASK_SECONDS)
            self._ask_at = now + self._patience
            self.ask(now)
        others = self._others
        while others:
            router_id, told = next(iter(others.items()))
            if now < told.until:
                break
            del others[router_id]
            self._changed()

    def stop(self) -> None:
        """Tell and ask nothing more."""
        self._ask_at = inf
        self._others.clear()
        self.session.close()


def read_records(value: object) -> list[ServiceRecord] | None:
    """Services as they stand in a message; None where that is something else. Those of other kinds are left out."""
    if not isinstance(value, list):
        return None
    records: list[ServiceRecord] = []
    for each in value[:MAX_SERVICES]:
        if not isinstance(each, list) or len(each) < 4:
            return None
        address, scheme, port, side = each[:4]
        if not isinstance(address, str) or not isinstance(scheme, str) or not isinstance(port, int):
            return None
        known = side in (CONNECT, LISTEN) and 0 < port < 65536
        if known and 0 < len(address) <= MAX_ADDRESS_LENGTH and len(scheme) <= MAX_SCHEME:
            records.append(ServiceRecord(address, scheme, int(port), str(side)))
    return records


def _nobody_listens() -> None:
    """Stand in for `on_change`."""
