"""Ten thousand addresses come and go in slices: between two of them everybody else has a turn."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.adaptors.routers import RouterNode, Routers, attach
from tests.amqp.peer import begin, open_
from tests.routing.network import Receiver, Sender
from van.amqp.connection import Connection
from van.amqp.delivery_state import ACCEPTED
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session
from van.amqp.terminus import Source, Target
from van.routing.adaptor import BATCH_READ_SIZE, SMALL_READ_SIZE
from van.routing.address import Distribution
from van.routing.dialect.treatments import TREATMENTS
from van.routing.incoming_link import IncomingLink
from van.routing.link_state.engine import LinkStateEngine
from van.routing.link_state.mobile import MAX_CHANGES, SLICE
from van.routing.outgoing_link import OutgoingLink

MANY = 10_000


def engine(node: RouterNode) -> LinkStateEngine:
    assert node.router.engine is not None
    return node.router.engine


def many(node: RouterNode) -> int:
    """How many of the addresses a router knows."""
    return sum(key.startswith("Mmany.") for key in node.router.addresses)


class Traffic:
    """A sender and a receiver at one router; `flow` is one message."""

    def __init__(self, node: RouterNode) -> None:
        self.receiver: Receiver = node.client().receiver("work", credit=MANY)
        self.sender: Sender = node.client().sender("work")
        self.network = node.network

    def flow(self) -> None:
        sent = self.sender.send(b"x")
        self.network.run()
        assert sent.states == [ACCEPTED]


def turns(network: Routers, node: RouterNode) -> Iterator[int]:
    """Let time pass; after each call of the core at `node`, yield by how many addresses it knows more, or less."""
    known = many(node)
    while True:
        adaptors = [adaptor for line in network.lines for adaptor in (line.calling, line.accepting)]
        routers = [each.router for each in network.nodes]
        network.now = max(network.now, min(each.next_deadline() for each in [*routers, *adaptors]))
        for each in [*routers, *adaptors]:
            if each.next_deadline() <= network.now:
                each.handle_deadline(network.now)
        before, known = known, many(node)
        yield abs(known - before)
        network.run()
        before, known = known, many(node)
        yield abs(known - before)


def test_messages_are_delivered_between_the_slices_of_an_update() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    for number in range(MANY):
        engine(a).advertise(f"Mmany.{number}", TREATMENTS[Distribution.BALANCED], 0)
    traffic = Traffic(b)
    line = network.connect(a, b)
    for known in (MANY, 0):
        slices = 0
        for change in turns(network, b):
            assert change <= SLICE
            slices += change > 0
            traffic.flow()
            if many(b) == known:
                break
            assert network.now < 10
        assert slices >= MANY // SLICE - 1, "the first slice of those that go is at the cut"
        if known:
            line.cut()
    traffic.flow()


def test_changes_of_many_addresses_are_announced_piece_by_piece() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    line = network.connect(a, b)
    network.advance(2.0)
    for wanted in (MANY, 0):
        for number in range(MANY):
            if wanted:
                engine(a).advertise(f"Mmany.{number}", TREATMENTS[Distribution.BALANCED], 0)
            else:
                engine(a).withdraw(f"Mmany.{number}")
        before = engine(a).mobile_sequence
        network.advance(2.0)
        assert many(b) == wanted
        # The first update of a life tells everything; what changes later comes in pieces.
        updates = engine(a).mobile_sequence - before if before else 1
        assert updates == (-(-MANY // MAX_CHANGES) if before else 1)
        assert engine(b).nodes["A"].mobile_sequence == engine(a).mobile_sequence
    line.cut()


def test_what_changes_again_before_it_is_announced_is_announced_as_it_is() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    engine(a).advertise("Mfirst", TREATMENTS[Distribution.BALANCED], 0)
    network.connect(a, b)
    network.advance(2.0)
    for number in range(2 * MAX_CHANGES):
        engine(a).advertise(f"Mmany.{number}", TREATMENTS[Distribution.BALANCED], 0)
    # Until the first update is out, and the second is not.
    for _ in turns(network, b):
        if many(b):
            break
    for number in range(0, 2 * MAX_CHANGES, 2):
        engine(a).withdraw(f"Mmany.{number}")
    network.advance(2.0)
    assert many(b) == MAX_CHANGES
    assert all(f"Mmany.{number}" in b.router.addresses for number in range(1, 2 * MAX_CHANGES, 2))


def frames(links: int, first: int = 0, **options: object) -> bytes:
    """The Attaches of an application's receivers."""
    return b"".join(
        encode_frame(
            0,
            Attach(
                name=f"link {number}", handle=number, role=True, source=Source(address=f"many.{number}"),
                target=Target(),
            ).encode(),
        )
        for number in range(first, first + links)
    )  # fmt: skip


OPENED = AMQP_HEADER + encode_frame(0, open_().encode())


def test_reads_are_small_while_links_are_attached() -> None:
    node = Routers().router("A")
    adaptor = node.normal()
    assert adaptor.read_size == SMALL_READ_SIZE
    adaptor.receive_data(OPENED, 0.0)
    adaptor.receive_data(encode_frame(0, begin().encode()) + frames(10), 0.0)
    assert adaptor.read_size == SMALL_READ_SIZE
    adaptor.receive_data(encode_frame(0, b""), 0.0)
    assert adaptor.read_size == BATCH_READ_SIZE
    adaptor.receive_data(frames(1, 10), 0.0)
    assert adaptor.read_size == SMALL_READ_SIZE


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def count() -> int:
    kinds = (Connection, Session, ReceiverLink, SenderLink, IncomingLink, OutgoingLink, Attach)
    return sum(type(thing) in kinds for thing in gc.get_objects())


@pytest.mark.usefixtures("without_collector")
def test_a_lost_connection_leaves_nothing_to_the_collector() -> None:
    node = Routers().router("A")
    before = count()
    adaptor = node.normal()
    adaptor.receive_data(OPENED, 0.0)
    adaptor.receive_data(encode_frame(0, begin().encode()) + frames(100), 0.0)
    adaptor.receive_data(encode_frame(0, attach("to", 100, False, None, None).encode()), 0.0)
    assert len(adaptor.links) == 101
    assert count() > before + 300
    adaptor.receive_eof(1.0)
    adaptor.connection_lost(1.0)
    node.router.wake_touched()
    del adaptor
    assert count() == before
    assert not node.router.addresses.keys() - {"M$management"}
