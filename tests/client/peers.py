"""A peer that does what a scene says: the engine in its accepting role, over a loopback socket.

It answers Open, Begin and Attach as a broker would. What else it does, scenes do with its connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED
from van.amqp.errors import AmqpError
from van.amqp.events import ConnectionClosed, ConnectionOpened, Event, LinkAttached, LinkDetached, SessionBegun
from van.amqp.link import Link
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import SaslServer, anonymous
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Source
from van.routing.adaptor import Adaptor
from van.transport.driver import run_adaptor


class Inbox(DeliverySink):
    """Keeps what the client sent; `answer` is called with each delivery that is whole."""

    __slots__ = ("aborted", "answer", "deliveries", "link")

    def __init__(self, link: ReceiverLink, answer: Callable[[ReceiverLink, Delivery], None]) -> None:
        self.link = link
        self.answer = answer
        self.deliveries: list[Delivery] = []
        self.aborted = 0

    def deliver(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if not delivery.more:
            self.answer(self.link, delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if not delivery.more:
            self.answer(self.link, delivery)

    def abort(self, delivery: Delivery) -> None:
        self.aborted += 1

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        delivery.state = state
        delivery.settled = settled


class Outbox(DeliverySource):
    """Sends to the client, and keeps what the client said of it."""

    __slots__ = ("drained", "states")

    def __init__(self) -> None:
        super().__init__()
        self.states: list[object] = []
        self.drained = 0

    def credit_changed(self, link: SenderLink) -> None:
        self.drained += link.drain

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        self.states.append(state)

    def left(self, delivery: Delivery) -> None:
        pass


def accept(link: ReceiverLink, delivery: Delivery) -> None:
    link.settle(delivery, ACCEPTED)


class Peer(Adaptor):
    """One connection of the peer.

    credit: what links that the client sends by get. answer: what is done with each delivery. attach: called for each
    link in place of the usual answer.
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.scene = scene
        self.links: list[Link] = []
        self.events: list[Event] = []
        self.connection = Connection(
            "peer",
            sasl=SaslServer([anonymous()]) if scene.sasl else None,
            idle_timeout=scene.idle_timeout,
            channel_max=scene.channel_max,
            now=trio.current_time(),
        )

    def receive_data(self, data: bytes, now: float) -> None:
        self._handle(self.connection.receive_data(data, now))
        self.closed = self.connection.closed

    def receive_eof(self, now: float) -> None:
        self.events += self.connection.receive_eof(now)
        self.closed = True

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        return self.connection.data_to_send(limit)

    def next_deadline(self) -> float:
        return self.connection.next_deadline()

    def handle_deadline(self, now: float) -> None:
        self._handle(self.connection.handle_deadline(now))
        self.closed = self.connection.closed

    def connection_lost(self, now: float) -> None:
        self.closed = True

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, ConnectionOpened):
                self.connection.open()
            elif isinstance(event, SessionBegun):
                if not event.answer and not event.session.local_begun:
                    event.session.begin()
            elif isinstance(event, LinkAttached):
                if not event.answer:
                    self.links.append(event.link)
                    self.scene.attach(self, event.link)
            elif isinstance(event, LinkDetached):
                event.link.detach(None, event.closed)
            elif isinstance(event, ConnectionClosed):
                self.connection.close()
        self.scene.happened()

    def refuse(self, link: Link, error: AmqpError) -> None:
        """Answer the attach without a terminus, and detach (2.6.3)."""
        assert link.remote is not None
        receiving = isinstance(link, ReceiverLink)
        link.attach(
            Attach(
                name=link.name,
                handle=0,
                role=receiving,
                source=link.remote.source if receiving else None,
                target=None if receiving else link.remote.target,
            )
        )
        link.detach(error)

    def send(self, link: SenderLink, payload: bytes, *, settled: bool = False, more: bool = False) -> Delivery:
        """Queue a delivery to the client; with `more` its end does not come."""
        delivery = Delivery(None, -1, b"", payload, settled, Holder())
        delivery.more = more
        link.source.undelivered.append(delivery)
        link.ready()
        self.on_wake()
        return delivery


class Scene:
    """What the peer does, and how a scene waits for it."""

    def __init__(
        self,
        *,
        sasl: bool = True,
        credit: int = 10,
        answer: Callable[[ReceiverLink, Delivery], None] = accept,
        max_message_size: int | None = None,
        idle_timeout: float = 0.0,
        channel_max: int = 255,
    ) -> None:
        self.sasl = sasl
        self.credit = credit
        self.answer = answer
        self.max_message_size = max_message_size
        self.idle_timeout = idle_timeout
        self.channel_max = channel_max
        self.peers: list[Peer] = []
        self.port = 0
        self._news = trio.Event()

    @property
    def url(self) -> str:
        return f"amqp://127.0.0.1:{self.port}"

    @property
    def peer(self) -> Peer:
        return self.peers[-1]

    def happened(self) -> None:
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the client does makes this true."""
        while not condition():
            self._news = trio.Event()
            await self._news.wait()

    def attach(self, peer: Peer, link: Link) -> None:
        """Answer a link; scenes replace this."""
        remote = link.remote
        assert remote is not None
        source = remote.source
        if isinstance(source, Source) and source.dynamic:
            source = Source(address="made/up", dynamic=True)
        if isinstance(link, ReceiverLink):
            link.sink = Inbox(link, self.answer)
        elif isinstance(link, SenderLink):
            link.source = Outbox()
        link.attach(
            Attach(
                name=link.name,
                handle=0,
                role=isinstance(link, ReceiverLink),
                source=source,
                target=remote.target,
                max_message_size=self.max_message_size,
            )
        )
        if isinstance(link, ReceiverLink) and self.credit:
            link.grant(self.credit)

    async def serve(self, stream: trio.abc.Stream) -> None:
        peer = Peer(self)
        self.peers.append(peer)
        await run_adaptor(stream, peer, lambda: peer.on_wake() if peer.connection.touched else None)
        self.happened()


@asynccontextmanager
async def staged(scene: Scene) -> AsyncIterator[Scene]:
    """Let the scene's peer accept connections."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, scene.serve, 0)
        scene.port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(20):
            yield scene
        nursery.cancel_scope.cancel()
