"""A connection takes any octets, at any pace, and answers with legal frames; nobody else on the router notices.

The whole of it: headers, SASL, the engine, the adaptor and the router behind, with a well-behaved client beside.
Windows and credit never fall below nothing, memory stays under the budget, and when the stream has ended nothing is
left.

An input is two octets of options and then either a stream, or items of (channel, length, body) that are put into
frames; an item without body is an event: time passes, the peer stops or starts reading, the router closes, the stream
ends.
"""

from __future__ import annotations

import itertools
import struct

from auditor import Auditor
from harness import main

from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.amqp.connection import Connection
from van.amqp.delivery import Delivery, DeliverySink, DeliverySource, Holder
from van.amqp.delivery_state import ACCEPTED
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Attach, Begin, Flow, Open
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import AnonymousServer, PlainServer, SaslServer
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Source, Target
from van.routing.budget import ByteBudget
from van.routing.router import Router

DECODER = {
    "van.amqp.connection": r"^Connection\.(receive_data|_receive|_complete|_keep|_discard|_fail|_refuse|_frame_error)",
    "van.amqp.session": r"^Session\.on_|^_range_of|^_flow_fields",
    "van.amqp.receiver_link": r"Link\.(on_flow|on_attach|first_frame|later_frame)",
    "van.amqp.sender_link": r"Link\.(on_flow|on_attach)",
}

PLANTED = (
    # A flow on a handle that is not attached.
    (
        "van.amqp.session",
        'if link is None:\n            raise AmqpSessionError(ErrorCondition.UNATTACHED_HANDLE, f"flow on handle',
        'if link is self:\n            raise AmqpSessionError(ErrorCondition.UNATTACHED_HANDLE, f"flow on handle',
    ),
    # Transfers beyond the credit.
    ("van.amqp.session", "            if credit < 0:\n", "            if credit < -1:\n"),
    # A body that is too short to hold a descriptor.
    (
        "van.amqp.connection",
        "if stop - body > 3 and data[body] == 0 and",
        "if data[body] == 0 and",
    ),
)

LIMIT = 1024 * 1024
SETTINGS = ConnectionSettings(
    max_frame_size=2048, max_sessions=4, max_links=6, max_session_frames=16, link_capacity=5, idle_timeout=16.0
)
# The witness sends no heartbeats.
PATIENT = ConnectionSettings(max_frame_size=2048, idle_timeout=0.0)
REQUIRING = ConnectionSettings(max_frame_size=2048, max_sessions=4, max_links=6, sasl_required=True)

SASL = 1
STREAM = 2
# The peer has opened, begun, and attached both ways to the address of the witness.
BEGUN = 4

# What the well-behaved client and the peer have in common.
ADDRESS = "q"


class Box(DeliverySink):
    """Takes what arrives at the witness."""

    __slots__ = ("link", "received")

    def __init__(self, link: ReceiverLink) -> None:
        self.link = link
        self.received: list[bytes] = []

    def deliver(self, delivery: Delivery) -> None:
        if not delivery.more:
            self._whole(delivery)

    def extend(self, delivery: Delivery, payload: bytes) -> None:
        if not delivery.more:
            self._whole(delivery)

    def _whole(self, delivery: Delivery) -> None:
        if not delivery.aborted:
            self.received.append(delivery.data())
        self.link.settle(delivery, ACCEPTED)
        self.link.grant(1)

    def abort(self, delivery: Delivery) -> None:
        self.link.grant(1)

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        pass


class Feed(DeliverySource):
    """Sends for the witness."""

    __slots__ = ("outcomes",)

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[object] = []

    def updated(self, delivery: Delivery, state: object, settled: bool) -> None:
        if settled:
            self.outcomes.append(state)

    def left(self, delivery: Delivery) -> None:
        raise AssertionError("nothing is sent settled")


class Scene:
    """A router, the peer that is fuzzed, and the witness."""

    def __init__(self, options: int) -> None:
        numbers = itertools.count()
        self.now = 1.0
        self.router = Router("r", tokens=lambda: f"t{next(numbers)}", budget=ByteBudget(LIMIT))
        sasl = None
        if options & SASL:
            sasl = SaslServer([AnonymousServer(), PlainServer(lambda user, password: user == password)])
        self.peer = AmqpAdaptor(self.router, REQUIRING if options & SASL else SETTINGS, sasl=sasl, now=self.now)
        self.peer.on_wake = self._write_to_peer
        self.auditor = Auditor()
        self.reading = True
        self.beside = AmqpAdaptor(self.router, PATIENT, now=self.now)
        self.beside.on_wake = self._write_to_witness
        self.pending = b""
        self.witness = Connection("witness", accepting=False, now=self.now)
        self.witness.open()
        self.run_witness()
        session = self.witness.session()
        session.begin()
        receiver = session.receiver("own-in")
        self.box = Box(receiver)
        receiver.sink = self.box
        receiver.attach(Attach(name="", handle=0, role=True, source=Source(address="own"), target=Target()))
        receiver.grant(5)
        sender = session.sender("own-out")
        self.feed = Feed()
        self.sender: SenderLink = sender
        sender.source = self.feed
        sender.attach(Attach(name="", handle=0, role=False, source=Source(), target=Target(address="own")))
        self.run_witness()
        assert sender.link_credit

    # -- the peer ------------------------------------------------------------------------------------------------

    def feed_peer(self, data: bytes) -> None:
        if not self.peer.closed:
            self.peer.receive_data(data, self.now)
            self.router.wake_touched()
        self.check()

    def _write_to_peer(self) -> None:
        while self.reading:
            written = b"".join(self.peer.data_to_send(1000))
            if not written:
                return
            opened = self.peer.connection.remote_open
            self.auditor.max_frame_size = opened.max_frame_size if opened is not None else 0xFFFFFFFF
            if opened is not None and opened.max_frame_size < 512:
                self.auditor.max_frame_size = 512
            self.auditor.take(written)

    def event(self, number: int) -> None:
        kind, amount = number & 3, number >> 2
        if kind == 0:
            self.reading = not self.reading
            self._write_to_peer()
        elif kind == 1:
            self.now += amount / 4
            for adaptor in (self.peer, self.beside):
                if adaptor.next_deadline() <= self.now:
                    adaptor.handle_deadline(self.now)
                    assert adaptor.next_deadline() > self.now, "a deadline that never moves on"
            if self.router.next_deadline() <= self.now:
                self.router.handle_deadline(self.now)
            self.router.wake_touched()
            self.run_witness()
        elif kind == 2 and amount == 0:
            self.peer.receive_eof(self.now)
            self.router.wake_touched()
        elif kind == 3 and amount == 0:
            self.peer.close("amqp:connection:forced", "the fuzzer wants it")
            self.router.wake_touched()

    def check(self) -> None:
        connection = self.peer.connection
        for session in connection.sessions:
            if session.end_sent:
                continue
            assert session.incoming_window >= 0
            assert session.remote_incoming_window >= 0
            assert session.held >= 0
            for link in session.remote_handles.values():
                assert link.link_credit >= 0
            for delivery_id, delivery in session.unsettled_out.items():
                assert delivery.out_id == delivery_id
        assert self.router.budget.held() <= LIMIT
        assert len(connection.sessions) <= 4

    # -- the witness ---------------------------------------------------------------------------------------------

    def _write_to_witness(self) -> None:
        self.pending += b"".join(self.beside.data_to_send(65536))

    def run_witness(self) -> None:
        while True:
            written = b"".join(self.witness.data_to_send())
            if written:
                self.beside.receive_data(written, self.now)
            self.router.wake_touched()
            self._write_to_witness()
            arrived, self.pending = self.pending, b""
            self.witness.receive_data(arrived, self.now)
            if not written and not arrived:
                return

    def end(self) -> None:
        """The stream ends; the witness is served as before, and nothing of the peer is left."""
        for _ in range(2):
            payload = b"%d" % len(self.box.received)
            self.feed.undelivered.append(Delivery(None, 0, b"", payload, False, Holder()))
            self.sender.ready()
            self.run_witness()
            assert self.box.received[-1] == payload
            assert self.feed.outcomes[-1] == ACCEPTED
            self.reading = True
            self._write_to_peer()
            self.router.wake_touched()
            if not self.peer.closed:
                self.peer.receive_eof(self.now)
            self.router.wake_touched()
            self.peer.connection_lost(self.now)
            self.router.wake_touched()
        assert set(self.router.addresses) == {"Mown"}, self.router.addresses
        assert self.router.budget.held() == 0
        assert not self.peer.links


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """The items of an input: channel and body."""
    items = []
    pos = 0
    while len(data) - pos >= 2:
        length = data[pos + 1]
        items.append((data[pos], data[pos + 2 : pos + 2 + length]))
        pos += 2 + length
    return items


def beginning() -> bytes:
    """What a peer writes that has begun and attached both ways, with credit."""
    ours = Source(address=ADDRESS)
    theirs = Target(address=ADDRESS)
    sender = Attach(name="s", handle=0, role=False, source=Source(), target=theirs, initial_delivery_count=0)
    receiver = Attach(name="r", handle=1, role=True, source=ours, target=Target())
    flow = Flow(
        next_incoming_id=0,
        incoming_window=100,
        next_outgoing_id=0,
        outgoing_window=100,
        handle=1,
        delivery_count=0,
        link_credit=10,
    )
    begin = Begin(next_outgoing_id=0, incoming_window=100, outgoing_window=100)
    bodies = (Open(container_id="peer", max_frame_size=1024), begin, sender, receiver, flow)
    return AMQP_HEADER + b"".join(encode_frame(0, body.encode()) for body in bodies)


_BEGINNING = beginning()


def one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    options = data[0]
    scene = Scene(options)
    if options & BEGUN and not options & SASL:
        scene.feed_peer(_BEGINNING)
    rest = data[2:]
    if options & STREAM:
        step = data[1] or len(rest) or 1
        for start in range(0, len(rest), step):
            scene.feed_peer(rest[start : start + step])
    else:
        batch = b""
        for channel, body in frames(rest):
            if body:
                batch += struct.pack(">IBBH", len(body) + 8, 2, channel >> 7, channel & 7) + body
                if data[1] & 1:
                    continue
            if batch:
                scene.feed_peer(batch)
                batch = b""
            if not body:
                scene.event(channel)
        if batch:
            scene.feed_peer(batch)
    scene.end()


main(__name__)
