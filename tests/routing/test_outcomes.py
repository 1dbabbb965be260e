"""Settlement and outcomes, carried end to end: every outcome with its fields, in one step or two, from either side."""

from __future__ import annotations

import pytest

from tests.routing.network import Network, settle_in_pieces
from van.amqp.delivery_state import ACCEPTED, RELEASED, Accepted, Modified, Received, Rejected, TransactionalState
from van.amqp.performatives import Error
from van.amqp.types import Described, ULong

FAILED = Modified(delivery_failed=True)
REJECTED = Rejected(
    error=Error(condition="app:no", description="not today", info={"retry": 7, "why": ["a", "b"]})
)

OUTCOMES = [
    (ACCEPTED, ACCEPTED),
    (RELEASED, RELEASED),
    (Rejected(), Rejected()),
    (REJECTED, REJECTED),
    (Modified(), FAILED),
    (Modified(delivery_failed=False, undeliverable_here=True), Modified(delivery_failed=True, undeliverable_here=True)),
    (
        Modified(delivery_failed=True, message_annotations={"x-tried": "here"}),
        Modified(delivery_failed=True, message_annotations={"x-tried": "here"}),
    ),
    (Accepted(), ACCEPTED),
    (None, ACCEPTED),  # settled without a state: as the peers take it
    (TransactionalState(txn_id=b"t1", outcome=ACCEPTED), TransactionalState(txn_id=b"t1", outcome=ACCEPTED)),
    (Described(ULong(0x4711), ["x"]), Described(ULong(0x4711), ["x"])),
]


@pytest.mark.parametrize("options", settle_in_pieces())
@pytest.mark.parametrize(("stated", "heard"), OUTCOMES)
def test_an_outcome_reaches_the_sender(stated: object, heard: object, options: dict[str, int]) -> None:
    network = Network(**options)  # type: ignore[arg-type]
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=5, auto=False)
    sent = sender.send(b"x")
    network.run()
    assert sent.unsettled
    receiver.deliveries[0].settle(stated)
    network.run()
    assert sent.settled
    assert sent.states == [heard]
    network.assert_quiet()


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("distribution", ["balanced", "multicast"])
def test_what_is_accepted_together_is_told_to_everyone_who_sent_it(distribution: str, second: bool) -> None:
    network = Network(addresses={"q": distribution})
    # One settles first, one waits for the outcome and settles second, one sends for another address.
    senders = [network.client().sender("q"), network.client().sender("q", second=second)]
    other = network.client().sender("other")
    client = network.client()
    receivers = [client.receiver("q", credit=50, auto=False), client.receiver("other", credit=50, auto=False)]
    sent = []
    for number in range(30):
        sent.append((other if number % 5 == 4 else senders[number // 3 % 2]).send(bytes(40_000 if number == 7 else 10)))
        network.run()
    network.run()
    for receiver in receivers:
        for got in receiver.deliveries:
            got.settle(ACCEPTED)
    network.run()
    assert [one.states for one in sent] == [[ACCEPTED]] * 30
    assert all(one.settled for one in sent)
    network.assert_quiet()


@pytest.mark.parametrize(("stated", "heard"), [outcome for outcome in OUTCOMES if outcome[0] is not None])
def test_first_the_outcome_then_the_settlement(stated: object, heard: object) -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=5, auto=False)
    sent = sender.send(b"x")
    network.run()
    got = receiver.deliveries[0]
    got.update(stated)
    network.run()
    assert (sent.states, sent.settled) == ([heard], False)
    got.settle(None)
    network.run()
    assert sent.settled
    assert sent.state == heard
    network.assert_quiet()


def test_received_is_passed_on_and_is_no_outcome() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=5, auto=False)
    sent = sender.send(b"x" * 100)
    network.run()
    got = receiver.deliveries[0]
    got.update(Received(section_number=1, section_offset=40))
    network.run()
    assert (sent.states, sent.settled) == ([Received(section_number=1, section_offset=40)], False)
    got.settle(None)
    network.run()
    assert (sent.state, sent.settled) == (ACCEPTED, True)


def test_a_state_of_nothing_changes_nothing() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=5, auto=False)
    sent = sender.send(b"x")
    network.run()
    receiver.deliveries[0].update(None)
    network.run()
    assert (sent.states, sent.settled) == ([], False)
    receiver.deliveries[0].settle(RELEASED)
    network.run()
    assert (sent.states, sent.settled) == ([RELEASED], True)
    network.assert_quiet()


@pytest.mark.parametrize("settled", [False, True])
def test_what_is_presettled_stays_so(settled: bool) -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=5, auto=False)
    sender.send(b"x", settled=settled)
    sender.send(b"y" * 100_000, settled=settled)
    network.run()
    assert [got.settled for got in receiver.deliveries] == [settled, settled]


@pytest.mark.parametrize("size", [1, 100_000])
def test_the_sender_settles_by_itself_what_was_sent_on(size: int) -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=5, auto=False)
    sent = sender.send(b"x" * size)
    network.run()
    sent.settle()
    network.run()
    got = receiver.deliveries[0]
    assert got.settled_by_sender
    got.settle(RELEASED)
    network.run()
    assert sent.states == []
    network.assert_quiet()


def test_a_state_that_the_sender_names_asks_for_nothing() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=5, auto=False)
    sent = sender.send(b"x")
    network.run()
    sender.link.update(sent.delivery, ACCEPTED, False)
    network.run()
    receiver.deliveries[0].settle(RELEASED)
    network.run()
    assert sent.states == [RELEASED]
    network.assert_quiet()


@pytest.mark.parametrize("size", [1, 100_000])
def test_the_sender_settles_by_itself_what_waits(size: int) -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", auto=False)
    sent = sender.send(b"x" * size)
    network.run()
    sent.settle()
    network.run()
    receiver.credit(1)
    network.run()
    assert receiver.deliveries[0].settled
    network.assert_quiet()


def test_the_sender_settles_in_the_middle_of_a_stream() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=1, auto=False)
    sent = sender.begin(b"x" * 300_000)
    network.run()
    assert receiver.deliveries[0].frames
    sent.link.update(sent.delivery, None, True)
    network.run()
    sent.end(b"y")
    network.run()
    got = receiver.deliveries[0]
    assert got.complete
    assert got.settled
    network.assert_quiet()


class TestExactlyOnce:
    """rcv-settle-mode second: the sender settles when it has heard the outcome (2.6.12)."""

    @pytest.mark.parametrize("options", settle_in_pieces())
    def test_second_at_both_ends(self, options: dict[str, int]) -> None:
        network = Network(**options)  # type: ignore[arg-type]
        sender = network.client().sender("q", second=True)
        receiver = network.client().receiver("q", credit=5, auto=False, second=True)
        assert sender.link.rcv_settle_mode == receiver.link.rcv_settle_mode == 1
        sent = [sender.send(b"%d" % number) for number in range(3)]
        network.run()
        for got in receiver.deliveries:
            got.update(ACCEPTED)
        network.run()
        assert all(one.settled and one.states == [ACCEPTED] for one in sent)
        assert all(got.settled_by_sender for got in receiver.deliveries)
        network.assert_quiet()

    def test_second_waits_for_the_sender(self) -> None:
        network = Network()
        sender = network.client().sender("q", second=True)
        receiver = network.client().receiver("q", credit=5, auto=False, second=True)
        sender.second = False  # it takes its time
        sent = sender.send(b"x")
        network.run()
        receiver.deliveries[0].update(REJECTED)
        network.run()
        assert (sent.states, sent.settled) == ([REJECTED], False)
        assert [got.settled_by_sender for got in receiver.deliveries] == [False]
        sent.settle()
        network.run()
        assert receiver.deliveries[0].settled_by_sender
        network.assert_quiet()

    @pytest.mark.parametrize("stated", [ACCEPTED, REJECTED, RELEASED])
    def test_sender_second_receiver_first(self, stated: object) -> None:
        network = Network()
        sender = network.client().sender("q", second=True)
        receiver = network.client().receiver("q", credit=5, auto=False)
        sender.second = False
        sent = sender.send(b"x")
        network.run()
        receiver.deliveries[0].settle(stated)
        network.run()
        assert (sent.states, sent.settled) == ([stated], False)
        sent.settle()
        network.run()
        network.assert_quiet()

    def test_sender_first_receiver_second(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5, auto=False, second=True)
        sent = sender.send(b"x")
        network.run()
        receiver.deliveries[0].update(REJECTED)
        network.run()
        assert (sent.states, sent.settled) == ([REJECTED], True)
        assert receiver.deliveries[0].settled_by_sender
        network.assert_quiet()

    def test_sender_second_and_nobody_receives(self) -> None:
        network = Network()
        sender = network.client().sender("q", second=True)
        receiver = network.client().receiver("q")
        receiver.detach()
        sent = sender.send(b"x")
        network.run()
        assert (sent.states, sent.settled) == ([RELEASED], True)
        network.assert_quiet()

    @pytest.mark.parametrize("how", ["detach", "cut", "end"])
    def test_the_sender_is_lost_before_it_settles(self, how: str) -> None:
        network = Network()
        client = network.client()
        sender = client.sender("q", second=True)
        receiver = network.client().receiver("q", credit=5, auto=False, second=True)
        sender.second = False
        for _ in range(2):
            sender.send(b"x")
        network.run()
        receiver.deliveries[0].update(ACCEPTED)
        network.run()
        if how == "detach":
            sender.detach()
        elif how == "end":
            client.session.end()
        else:
            client.cut()
        network.run()
        assert [got.settled_by_sender for got in receiver.deliveries] == [True, False]
        receiver.deliveries[1].update(ACCEPTED)
        network.run()
        assert [got.settled_by_sender for got in receiver.deliveries] == [True, True]
        network.assert_quiet()

    def test_an_early_outcome_settles_a_stream(self) -> None:
        network = Network()
        sender = network.client().sender("q", second=True)
        receiver = network.client().receiver("q", credit=5, auto=False, second=True)
        sent = sender.begin(b"x" * 300_000)
        network.run()
        receiver.deliveries[0].update(REJECTED)
        network.run()
        assert REJECTED in sent.states
        sent.end(b"y")
        network.run()
        assert sent.settled
        network.assert_quiet()


class TestReceiversOfSettledDeliveriesOnly:
    """snd-settle-mode settled on the receiver's link (2.8.2): sent is accepted."""

    @pytest.mark.parametrize("distribution", ["balanced", "multicast"])
    @pytest.mark.parametrize("size", [1, 1000, 100_000])
    def test_sent_is_accepted(self, distribution: str, size: int) -> None:
        network = Network(addresses={"q": distribution})
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", snd_settle_mode=1)
        sent = [sender.send(b"x" * size), sender.send(b"y", settled=True)]
        network.run()
        assert sent[0].unsettled
        receiver.credit(2)
        network.run()
        assert [got.settled for got in receiver.deliveries] == [True, True]
        assert sent[0].states == [ACCEPTED]
        assert sent[1].settled
        network.assert_quiet()

    def test_a_stream(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", snd_settle_mode=1, credit=1)
        sent = sender.begin(b"x" * 300_000)
        network.run()
        assert len(receiver.deliveries) == 1
        assert sent.unsettled
        sent.end(b"y")
        network.run()
        assert receiver.bodies == [b"x" * 300_000 + b"y"]
        assert sent.states == [ACCEPTED]
        network.assert_quiet()

    @pytest.mark.parametrize("credit", [0, 1])
    def test_lost_before_it_was_sent(self, credit: int) -> None:
        network = Network()
        sender = network.client().sender("q")
        client = network.client()
        client.receiver("q", snd_settle_mode=1, credit=credit)
        sent = sender.begin(b"x" * 300_000)
        network.run()
        client.cut()
        network.run()
        sent.end(b"y")
        network.run()
        assert sent.settled
        assert sent.states == [FAILED if credit else RELEASED]
        network.assert_quiet()

    def test_the_sender_settles_first(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", snd_settle_mode=1)
        sent = sender.send(b"x")
        network.run()
        sent.settle()
        network.run()
        receiver.credit(1)
        network.run()
        assert receiver.bodies == [b"x"]
        network.assert_quiet()


@pytest.mark.parametrize(
    ("stated", "heard"),
    [
        (
            Rejected(error=Error(condition="app:no", description="x" * 5000)),
            Rejected(error=Error(condition="app:no")),
        ),
        (Rejected(error=Error(condition="x" * 3000)), Rejected()),
        (
            Modified(undeliverable_here=True, message_annotations={"x": "y" * 5000}),
            Modified(delivery_failed=True, undeliverable_here=True),
        ),
        (Described(ULong(0x4711), ["x" * 5000]), FAILED),
    ],
)
def test_a_state_too_large_for_the_sender_loses_its_texts(stated: object, heard: object) -> None:
    network = Network()
    sender = network.client(max_frame_size=512).sender("q")
    receiver = network.client().receiver("q", credit=5, auto=False)
    sent = sender.send(b"x")
    network.run()
    receiver.deliveries[0].settle(stated)
    network.run()
    assert sent.states == [heard]
