"""Brokers for scenes without sockets: they answer the router's links as the scene has it, and settle what it says.

    network = Network()
    auto_link(network, "out", "orders")
    broker = connect(network)
    sent = network.client().sender("orders").send(b"one")
    network.run()
    assert broker.taken("orders").bodies == [b"one"] and sent.state == ACCEPTED
"""

from __future__ import annotations

from typing import ClassVar

from tests.adaptors.routers import RouterNode
from tests.routing.network import FRAME_SIZE, Client, Network, Receiver, Sender
from van.adaptors.amqp import ConnectionSettings
from van.adaptors.route_container import RouteContainerAdaptor
from van.amqp.errors import AmqpLinkError, AmqpSessionError, ErrorCondition
from van.amqp.events import Event, LinkAttached, SessionBegun, SessionEnded
from van.amqp.link import Link
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session
from van.amqp.terminus import Source, Target
from van.routing.auto_link import AutoLink

CREDIT = 100
CONNECTION = "broker"


def auto_link(
    network: Network | RouterNode,
    direction: str,
    address: str,
    *,
    name: str = "",
    external_address: str = "",
    connection: str = CONNECTION,
    container_id: str = "",
) -> AutoLink:
    """Add an auto-link to the network's router."""
    made = AutoLink(
        name or f"{direction}-{address}",
        address,
        incoming=direction == "in",
        external_address=external_address,
        connection="" if container_id else connection,
        container_id=container_id,
    )
    network.router.auto_links.add(made)
    return made


class Broker(Client):
    """A connection of role route-container, as its broker sees it.

    It has every queue but those in `missing`. `ends_sessions`: it refuses as RabbitMQ 3 does, by ending the session.
    `outcomes`: what its queues know beside accepted. `auto`: it accepts what comes at once.
    """

    kind = RouteContainerAdaptor
    missing: frozenset[str] = frozenset()
    ends_sessions = False
    outcomes: ClassVar[list[str] | None] = None
    auto = True
    credit = CREDIT
    channel_max = 65535

    def __init__(self, network: Network, name: str, settings: ConnectionSettings, options: dict[str, object]) -> None:
        super().__init__(network, name, settings, {"channel_max": self.channel_max, **options})
        self.senders: dict[str, Sender] = {}
        self.receivers: dict[str, Receiver] = {}
        self.attached: list[str] = []

    def given(self, address: str) -> Sender:
        """What the broker sends of a queue by."""
        return self.senders[address]

    def taken(self, address: str) -> Receiver:
        """What the broker has for a queue."""
        return self.receivers[address]

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, SessionBegun) and not event.answer:
                event.session.begin()
            elif isinstance(event, LinkAttached) and not event.answer:
                self._answer(event.link)
            elif isinstance(event, SessionEnded):
                for ended in (self.senders, self.receivers):
                    for address in [key for key, end in ended.items() if end.link.session is event.session]:
                        del ended[address]
        super()._handle(events)

    def _answer(self, link: Link) -> None:
        remote = link.remote
        assert remote is not None
        terminus = remote.source if isinstance(link, SenderLink) else remote.target
        assert isinstance(terminus, Source | Target)
        address = terminus.address or ""
        self.attached.append(address)
        if address in self.missing:
            error = f"no queue '{address}'"
            if self.ends_sessions:
                link.session.end(AmqpSessionError(ErrorCondition.NOT_FOUND, error))
                return
            link.attach(self._attach(link, None, None))
            link.detach(AmqpLinkError(ErrorCondition.NOT_FOUND, error))
            return
        if isinstance(link, SenderLink):
            self.senders[address] = Sender(self, link, False)
            link.attach(self._attach(link, Source(address=address, outcomes=self.outcomes), Target()))
        else:
            assert isinstance(link, ReceiverLink)
            self.receivers[address] = Receiver(self, link, self.auto, False)
            link.attach(self._attach(link, Source(), Target(address=address)))
            link.grant(self.credit)

    def _attach(self, link: Link, source: Source | None, target: Target | None) -> Attach:
        return Attach(name=link.name, handle=0, role=link.role, source=source, target=target)


def connect(
    network: Network | RouterNode,
    kind: type[Broker] = Broker,
    *,
    name: str = "the-broker",
    connection: str = CONNECTION,
    settings: ConnectionSettings | None = None,
) -> Broker:
    """Connect a broker, by the listener or connector `connection`."""
    settings = settings or ConnectionSettings(idle_timeout=0.0, max_frame_size=FRAME_SIZE)
    broker = kind(network, name, settings, {})  # type: ignore[arg-type]  # to its clients a router is their network
    adaptor = broker.adaptor
    assert isinstance(adaptor, RouteContainerAdaptor)
    adaptor.broker.connection = connection
    network.clients.append(broker)
    network.run()
    return broker


class LosesQueues(Broker):
    """It has no queue `lost`, and says so by refusing the link."""

    missing = frozenset({"lost"})


class EndsSessions(LosesQueues):
    """It has no queue `lost`, and says so by ending the session."""

    ends_sessions = True


class Slow(Broker):
    """What it does with messages, the scene says."""

    auto = False


class SlowAndLosing(LosesQueues, Slow):
    """Both."""


class SlowAndNarrow(Slow):
    """It takes one message at a time."""

    credit = 1


class Fickle(Broker):
    """It attaches every link, and detaches it again at once."""

    def _answer(self, link: Link) -> None:
        super()._answer(link)
        link.detach(AmqpLinkError(ErrorCondition.DETACH_FORCED, "no"))


class FewChannels(Broker):
    """It takes two sessions, and begins none."""

    channel_max = 1

    def new_session(self) -> Session:
        return self.connection.session()


class Plain(Broker):
    """Its queues know no outcome modified."""

    outcomes: ClassVar[list[str] | None] = ["amqp:accepted:list", "amqp:rejected:list", "amqp:released:list"]
