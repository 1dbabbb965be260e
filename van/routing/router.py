"""The router core: addresses, who is attached to them, and which adaptors have something to write.

Adaptors attach links here and hand over nothing else: deliveries go from link to link without passing through. No clock
and no randomness: `now` and `tokens` come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, Final

from van.amqp.delivery import Delivery
from van.amqp.delivery_state import Rejected
from van.amqp.errors import AmqpLinkError, DecodeError, ErrorCondition
from van.amqp.link import ReceiverLink, SenderLink
from van.amqp.message import IncompleteMessageError, read_to
from van.amqp.performatives import Error
from van.routing.adaptor import Adaptor
from van.routing.address import (
    AREA,
    MAX_ADDRESS_LENGTH,
    Address,
    AddressConfig,
    Distribution,
    PatternTable,
    address_key,
    strip_address,
)
from van.routing.budget import ByteBudget
from van.routing.forwarder import FORWARDERS, drop_payload, no_destination
from van.routing.link import FAILED, IncomingLink, OutgoingLink

if TYPE_CHECKING:
    from van.amqp.session import Session

# The credit of an idle link, as the C routers have it.
DEFAULT_LINK_CAPACITY: Final = 250
# A message without target address names it in its properties; so much may come before them, in octets.
MAX_BEFORE_PROPERTIES: Final = 1048576
# How often streams are looked at, in seconds: the time-out may take this much longer.
STALL_CHECK_INTERVAL: Final = 1.0


class Router:
    """The core of one router.

    id: the router's name in its network. tokens: makes unique short texts for temporary addresses. addresses: what the
    configuration says of distribution. stream_stall_seconds: after this a stream that does not grow, and holds others
    up, is given up. `now` is the time of the last batch, in seconds of the driver's clock. While
    it is `ending`, nobody gets credit.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the attribute's name in the routers' own configuration
        *,
        tokens: Callable[[], str],
        addresses: Iterable[AddressConfig] = (),
        default_distribution: Distribution = Distribution.BALANCED,
        budget: ByteBudget | None = None,
        stream_stall_seconds: float = 30.0,
    ) -> None:
        self.id = id
        self.tokens = tokens
        self.default_distribution = default_distribution
        self.budget = budget if budget is not None else ByteBudget()
        self.stream_stall_seconds = stream_stall_seconds
        self.now = 0.0
        self.ending = False
        self.addresses: dict[str, Address] = {}
        self.streams: dict[IncomingLink, Delivery] = {}
        self.patterns = PatternTable()
        for config in addresses:
            self.patterns.add(config)
        self._touched: list[Adaptor] = []
        self._anonymous = Address("", Distribution.BALANCED, self._forward_anonymous, None)
        self._next_stall_check = inf

    # -- waking --------------------------------------------------------------------------------------------------

    def touch(self, adaptor: Adaptor) -> None:
        """Note that an adaptor may have something to write."""
        self._touched.append(adaptor)

    def wake_touched(self) -> None:
        """Wake every adaptor that was touched, until none is left: flushing one may touch others."""
        touched = self._touched
        while touched:
            touched.pop().on_wake()
        budget = self.budget
        budget.batch_over()
        if budget.waiting:
            # Once a batch: what the retried sessions write frees nothing.
            budget.retry(self.now)
            while touched:
                touched.pop().on_wake()

    # -- addresses -----------------------------------------------------------------------------------------------

    def address(self, text: str) -> Address:
        """The address that `text` names, made if it is new."""
        key = address_key(text, self.id)
        address = self.addresses.get(key)
        if address is None:
            distribution, priority = self._treatment(key, text)
            address = Address(key, distribution, FORWARDERS[distribution], priority, self.budget.copied)
            self.addresses[key] = address
        return address

    def _treatment(self, key: str, text: str) -> tuple[Distribution, int | None]:
        if key[0] == "M":
            config = self.patterns.match(strip_address(text))
            if config is not None:
                return config.distribution, config.priority
            return self.default_distribution, None
        return Distribution.BALANCED, None

    def release(self, address: Address) -> None:
        """Forget an address that nobody uses any more."""
        if address.unused() and self.addresses.get(address.key) is address:
            del self.addresses[address.key]

    def temporary_address(self, mobile: bool) -> str:
        """A new address for a dynamic terminus: local to this router for receivers, `mobile` for senders."""
        token = self.tokens()
        return f"amqp:/_$temp.{token}" if mobile else f"amqp:/_topo/{AREA}/{self.id}/temp.{token}"

    # -- links ---------------------------------------------------------------------------------------------------

    def attach_incoming(self, link: ReceiverLink, text: str, capacity: int = DEFAULT_LINK_CAPACITY) -> IncomingLink:
        """Take a link that deliveries come in by; an empty `text` is the anonymous terminus.

        Raises `AmqpLinkError` when the address cannot be had.
        """
        if not text:
            incoming = IncomingLink(self, link, self._anonymous, capacity, True)
            link.sink = incoming
            return incoming
        incoming = IncomingLink(self, link, self._usable(text), capacity, False)
        incoming.address.incoming.append(incoming)
        link.sink = incoming
        return incoming

    def attach_outgoing(self, link: SenderLink, text: str, capacity: int = DEFAULT_LINK_CAPACITY) -> OutgoingLink:
        """Take a link that deliveries go out by. Raises `AmqpLinkError` when the address cannot be had."""
        outgoing = OutgoingLink(link, self._usable(text), capacity)
        link.source = outgoing
        if outgoing.address.priority is not None:
            link.priority = outgoing.address.priority
        return outgoing

    def started(self, link: IncomingLink | OutgoingLink) -> None:
        """The link's Attach has been written: credit may flow, and deliveries may come."""
        if isinstance(link, OutgoingLink):
            link.address.add_outgoing(link)
        elif link.anonymous or link.address.reachable():
            link.unblock()

    def detached(self, link: IncomingLink | OutgoingLink) -> None:
        """The link is gone, whatever the reason."""
        link.lost()
        self.release(link.address)

    def session_lost(self, session: Session, links: Iterable[IncomingLink | OutgoingLink]) -> None:
        """All these links of a session will be detached: what is unsettled is looked at once, not for each link."""
        for link in links:
            if isinstance(link, IncomingLink):
                link.gone = True
        for delivery in take_all(session.unsettled_out):
            sender = delivery.sender
            if sender is not None and isinstance(sender.source, OutgoingLink):
                sender.source.give_up(delivery, delivery.state if delivery.state is not None else FAILED)
        for delivery in take_all(session.unsettled_in):
            receiver = delivery.receiver
            if receiver is not None and isinstance(receiver.sink, IncomingLink):
                receiver.sink.settle_alone(delivery)

    def _usable(self, text: str) -> Address:
        if len(text) > MAX_ADDRESS_LENGTH:
            raise AmqpLinkError(
                ErrorCondition.INVALID_FIELD, f"an address of more than {MAX_ADDRESS_LENGTH} characters"
            )
        key = address_key(text, self.id)
        if len(key) < 2 or key[0] in "TRAH":
            raise AmqpLinkError(ErrorCondition.NOT_FOUND, f"no such node: {text}")
        address = self.address(text)
        if address.distribution is Distribution.UNAVAILABLE:
            self.release(address)
            raise AmqpLinkError(
                ErrorCondition.NOT_FOUND, f"node not found: address {text} is configured as unavailable"
            )
        return address

    # -- the anonymous terminus ----------------------------------------------------------------------------------

    def _forward_anonymous(self, pseudo: Address, delivery: Delivery) -> None:
        """Send a delivery to the address that its own properties name (`to`)."""
        origin = delivery.origin
        if origin is None:
            return
        try:
            to = read_to(delivery.data(), not delivery.more)
        except IncompleteMessageError as error:
            # Its properties have not come yet: the next frame is another chance.
            if not delivery.more or sum(map(len, delivery.chunks or ())) > MAX_BEFORE_PROPERTIES:
                self._refuse(delivery, ErrorCondition.DECODE_ERROR, error.description)
            return
        except DecodeError as error:
            self._refuse(delivery, ErrorCondition.DECODE_ERROR, error.description)
            return
        if not to:
            self._refuse(delivery, ErrorCondition.PRECONDITION_FAILED, "no address: the message has no `to`")
            return
        address = self.addresses.get(address_key(to, self.id))
        if address is None:
            no_destination(pseudo, delivery)
        else:
            address.forward(address, delivery)

    def _refuse(self, delivery: Delivery, condition: str, description: str) -> None:
        drop_payload(delivery)
        origin = delivery.origin
        if origin is None:
            return
        if not delivery.settled:
            origin.outcome(delivery, Rejected(error=Error(condition=condition, description=description)), True)
        elif not delivery.more:
            origin.left(delivery)

    # -- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_deadline` wants to be called: only while there are streams, or memory is short."""
        if not self.streams:
            self._next_stall_check = inf
        elif self._next_stall_check == inf:
            self._next_stall_check = self.now + STALL_CHECK_INTERVAL
        return min(self._next_stall_check, self.budget.next_deadline(self.now))

    def handle_deadline(self, now: float) -> None:
        """Give up streams that have stalled and hold others up; take back windows that lie idle."""
        self.now = now
        self.budget.handle_deadline(now)
        if now < self._next_stall_check:
            return
        self._next_stall_check = inf
        for incoming, delivery in list(self.streams.items()):
            target = delivery.target
            # What waits for its receiver does not wait for its sender.
            late = now >= incoming.grown_at + self.stream_stall_seconds and not delivery.chunks
            if late and target is not None and target.others_wait():
                incoming.stalled(delivery)


def take_all(unsettled: dict[int, Delivery]) -> list[Delivery]:
    """Empty a session's map of unsettled deliveries; return what it held."""
    deliveries = list(unsettled.values())
    unsettled.clear()
    return deliveries
