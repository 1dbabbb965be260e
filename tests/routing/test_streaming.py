"""Streaming: what is larger than the threshold is handed on as it comes, smaller deliveries wait for their end."""

from __future__ import annotations

import pytest

from tests.routing.network import ManualWindow, Network, Receiver, Sender, Sent, settle_in_pieces
from van.adaptors.amqp import ConnectionSettings
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Rejected
from van.amqp.errors import ErrorCondition
from van.amqp.hot import encode_transfer
from van.amqp.link import NO_LIMIT
from van.routing.incoming_link import STREAM_THRESHOLD

FAILED = Modified(delivery_failed=True)
PART = b"x" * 300_000


def test_the_first_frames_arrive_while_the_last_are_not_sent() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=5)
    sent = sender.begin(PART)
    network.run()
    got = receiver.deliveries[0]
    assert len(got.body) == len(PART)
    assert got.incomplete
    for number in range(5):
        sent.more(b"%d" % number)
        network.run()
        assert got.body.endswith(b"%d" % number)
    sent.end(b"end")
    network.run()
    assert got.complete
    assert got.body == PART + b"01234end"
    assert sent.states == [ACCEPTED]
    network.assert_quiet()


def test_a_first_frame_beyond_the_threshold_is_handed_on_at_once() -> None:
    network = Network()
    settings = ConnectionSettings(idle_timeout=0.0, max_frame_size=1 << 20)
    client = network.client(settings=settings)
    sender = client.sender("q")
    receiver = network.client().receiver("q", credit=5)
    channel, handle = client.session.local_channel, sender.link.handle
    client.write_raw(encode_transfer(channel, handle, 0, b"t", 0, False, True, False, 300_000) + PART)
    network.run()
    assert len(receiver.deliveries[0].body) == 300_000
    assert receiver.deliveries[0].incomplete


def test_nothing_is_handed_on_below_the_threshold() -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=5)
    sent = sender.begin(b"x" * (STREAM_THRESHOLD - 1))
    network.run()
    assert not receiver.deliveries
    sent.more(b"y")
    network.run()
    assert not receiver.deliveries
    sent.more(b"z")
    network.run()
    assert len(receiver.deliveries) == 1
    sent.end()
    network.run()
    network.assert_quiet()


def test_smaller_deliveries_of_several_frames_do_not_hold_others_up() -> None:
    network = Network()
    first, second = (network.client().sender("q") for _ in range(2))
    receiver = network.client().receiver("q", credit=5)
    half = first.begin(b"x" * 100_000)
    second.send(b"y")
    network.run()
    assert receiver.bodies == [b"y"]
    half.end(b"z")
    network.run()
    assert receiver.bodies == [b"y", b"x" * 100_000 + b"z"]
    network.assert_quiet()


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize(
    ("size", "options"),
    [
        (size, options)
        for size in (16_000, 16_384, 70_000, 262_144, 262_145, 1_500_000)
        for options in settle_in_pieces()
        # The largest in the smallest pieces takes half a minute and shows nothing new.
        if size < 1_000_000 or options["piece"] != 7
    ],
)
def test_large_messages_pass_unchanged(size: int, settled: bool, options: dict[str, int]) -> None:
    network = Network(**options)  # type: ignore[arg-type]
    sender = network.client().sender("q")
    receiver = network.client(max_frame_size=4096).receiver("q", credit=2)
    body = network.random.randbytes(size)
    sent = sender.send(body, settled=settled, message_format=7)
    network.run()
    assert receiver.bodies == [body]
    assert receiver.deliveries[0].delivery.message_format == 7
    assert sent.settled
    network.assert_quiet()


@pytest.mark.parametrize("settled", [False, True])
def test_a_multicast_stream(settled: bool) -> None:
    network = Network(addresses={"q": "multicast"})
    sender = network.client().sender("q")
    receivers = [network.client().receiver("q", credit=1) for _ in range(3)]
    sent = sender.begin(PART, settled=settled)
    network.run()
    assert [len(receiver.deliveries[0].body) for receiver in receivers] == [300_000] * 3
    late = network.client().receiver("q", credit=5)
    sent.more(b"y")
    network.run()
    sent.end(b"z")
    network.run()
    assert all(receiver.bodies == [PART + b"yz"] for receiver in receivers)
    assert not late.deliveries
    assert sent.settled
    network.assert_quiet()


@pytest.mark.parametrize("settled", [False, True])
def test_a_multicast_stream_loses_receivers(settled: bool) -> None:
    network = Network(addresses={"q": "multicast"})
    sender = network.client().sender("q")
    receivers = [network.client().receiver("q", credit=1) for _ in range(3)]
    sent = sender.begin(PART, settled=settled)
    network.run()
    for receiver in receivers:
        receiver.client.cut()
        sent.more(b"y" * 20_000)
        network.run()
    assert sent.states == ([] if settled else [FAILED])
    assert network.held() == 0
    sent.end(b"z")
    network.run()
    assert sent.settled
    network.client().receiver("q")
    network.assert_quiet()


def test_a_multicast_stream_counts_the_slowest_copy() -> None:
    network = Network(addresses={"q": "multicast"})
    sender = network.client().sender("q")
    slow, quick = network.client().receiver("q"), network.client().receiver("q", credit=1)
    sent = sender.begin(PART)
    network.run()
    assert network.held() == 300_000
    sent.more(b"y" * 50_000)
    network.run()
    assert network.held() == 350_000
    slow.credit(1)
    network.run()
    assert network.held() == 0
    sent.end()
    network.run()
    assert quick.bodies == slow.bodies
    network.assert_quiet()


def test_two_streams_to_one_receiver_follow_one_another() -> None:
    network = Network()
    senders = [network.client().sender("q") for _ in range(2)]
    receiver = network.client().receiver("q", credit=5)
    first, second = [sender.begin(PART) for sender in senders]
    network.run()
    assert len(receiver.deliveries) == 1
    second.end(b"2")
    network.run()
    assert len(receiver.deliveries) == 1
    first.end(b"1")
    network.run()
    assert receiver.bodies == [PART + b"1", PART + b"2"]
    network.assert_quiet()


@pytest.mark.parametrize("distribution", ["closest", "balanced"])
def test_others_avoid_a_link_in_the_middle_of_a_stream(distribution: str) -> None:
    network = Network(addresses={"q": distribution})
    streamer, sender = (network.client().sender("q") for _ in range(2))
    receivers = [network.client().receiver("q", credit=100) for _ in range(2)]
    stream = streamer.begin(PART)
    network.run()
    for _ in range(20):
        sender.send(b"x")
    network.run()
    assert sorted(len(receiver.bodies) for receiver in receivers) == [0, 20]
    stream.end()
    network.run()
    for _ in range(20):
        sender.send(b"x")
        network.run()
    assert all(len(receiver.bodies) > 5 for receiver in receivers)
    network.assert_quiet()


@pytest.mark.parametrize("distribution", ["closest", "balanced"])
def test_a_stream_is_waited_for_when_there_is_no_choice(distribution: str) -> None:
    network = Network(addresses={"q": distribution})
    streamers = [network.client().sender("q") for _ in range(2)]
    sender = network.client().sender("q")
    receivers = [network.client().receiver("q", credit=100) for _ in range(2)]
    streams = [streamer.begin(PART) for streamer in streamers]
    network.run()
    assert [len(receiver.deliveries) for receiver in receivers] == [1, 1]
    for _ in range(4):
        sender.send(b"x")
    network.run()
    assert [receiver.bodies for receiver in receivers] == [[], []]
    for stream in streams:
        stream.end()
    network.run()
    assert sum(len(receiver.bodies) for receiver in receivers) == 6
    network.assert_quiet()


class TestAborted:
    """The sender gives a delivery up (2.6.14)."""

    @pytest.mark.parametrize("distribution", ["balanced", "multicast"])
    @pytest.mark.parametrize("settled", [False, True])
    @pytest.mark.parametrize("size", [20_000, 300_000])
    def test_in_the_middle(self, size: int, settled: bool, distribution: str) -> None:
        network = Network(addresses={"q": distribution})
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5)
        sent = sender.begin(b"x" * size, settled=settled)
        network.run()
        sent.abort()
        network.run()
        assert [got.aborted for got in receiver.deliveries] == ([True] if size > STREAM_THRESHOLD else [])
        sender.send(b"next")
        network.run()
        assert receiver.bodies == [b"next"]
        network.assert_quiet()

    def test_while_it_waits_for_credit(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q")
        sent = sender.begin(PART)
        network.run()
        sent.abort()
        network.run()
        receiver.credit(1)
        sender.send(b"next")
        network.run()
        assert receiver.bodies == [b"next"]
        network.assert_quiet()

    def test_while_its_frames_wait_for_the_socket(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        client = network.client()
        receiver = client.receiver("q", credit=5)
        client.reading = False
        sent = sender.begin(PART)
        network.run()
        assert network.held() > 100_000
        sent.abort()
        network.run()
        assert network.held() == 0
        client.reading = True
        network.run()
        assert receiver.deliveries[0].aborted
        sender.send(b"next")
        network.run()
        network.assert_quiet()

    def test_in_the_first_frame(self) -> None:
        network = Network()
        client = network.client()
        sender = client.sender("q")
        receiver = network.client().receiver("q", credit=5)
        channel, handle = client.session.local_channel, sender.link.handle
        for number in range(300):
            tag = b"%d" % number
            client.write_raw(encode_transfer(channel, handle, number, tag, 0, False, False, True, 5) + b"given")
            network.run()
        assert not receiver.deliveries
        network.assert_quiet()

    def test_after_an_early_outcome(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5, auto=False)
        sent = sender.begin(PART)
        network.run()
        receiver.deliveries[0].settle(RELEASED)
        network.run()
        assert sent.states == [RELEASED]
        sent.abort()
        network.run()
        network.assert_quiet()

    def test_after_an_early_state(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5, auto=False)
        sent = sender.begin(PART)
        network.run()
        receiver.deliveries[0].update(ACCEPTED)
        network.run()
        sent.abort()
        network.run()
        network.assert_quiet()


class TestEarlyOutcome:
    """The receiver settles while the sender still sends."""

    @pytest.mark.parametrize("state", [ACCEPTED, RELEASED, Rejected(), FAILED])
    def test_the_rest_goes_nowhere(self, state: object) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5, auto=False)
        other = network.client().receiver("q")
        sent = sender.begin(PART)
        network.run()
        receiver.deliveries[0].settle(state)
        network.run()
        assert (sent.states, sent.settled) == ([state], True)
        for _ in range(5):
            sent.more(PART)
            network.run()
        sent.end()
        network.run()
        other.credit(5)
        network.run()
        assert not other.deliveries
        assert len(receiver.deliveries) == 1
        assert receiver.deliveries[0].aborted
        network.assert_quiet()

    def test_of_a_delivery_that_is_here_whole(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        receiver = network.client(window_policy=ManualWindow(3)).receiver("q", credit=5, auto=False)
        sent = sender.send(b"x" * 200_000)
        network.run()
        assert network.held() > 100_000
        receiver.deliveries[0].settle(ACCEPTED)
        network.run()
        assert sent.states == [ACCEPTED]
        assert network.held() == 0

    def test_of_one_large_frame_cut_into_small_ones(self) -> None:
        network = Network()
        sender = network.client().sender("q")
        client = network.client(window_policy=ManualWindow(3), max_frame_size=1024)
        receiver = client.receiver("q", credit=5, auto=False)
        sent = sender.send(b"x" * 10_000)
        network.run()
        assert network.held() > 5000
        receiver.deliveries[0].settle(ACCEPTED)
        network.run()
        assert sent.states == [ACCEPTED]
        assert network.held() == 0
        client.cut()
        network.run()
        network.client().receiver("q")
        network.assert_quiet()

    def test_of_some_copies(self) -> None:
        network = Network(addresses={"q": "multicast"})
        sender = network.client().sender("q")
        first, second = (network.client().receiver("q", credit=1, auto=False) for _ in range(2))
        sent = sender.begin(PART)
        network.run()
        first.deliveries[0].settle(RELEASED)
        network.run()
        sent.more(PART)
        network.run()
        assert network.held() == 0
        sent.end(b"y")
        network.run()
        assert second.bodies == [PART + PART + b"y"]
        second.deliveries[0].settle(ACCEPTED)
        network.run()
        assert sent.states == [ACCEPTED]
        network.assert_quiet()

    def test_of_all_copies(self) -> None:
        network = Network(addresses={"q": "multicast"})
        sender = network.client().sender("q")
        receivers = [network.client().receiver("q", credit=1, auto=False) for _ in range(2)]
        sent = sender.begin(PART)
        network.run()
        for receiver in receivers:
            receiver.deliveries[0].settle(RELEASED)
        network.run()
        assert (sent.states, sent.settled) == ([RELEASED], True)
        sent.end(b"y")
        network.run()
        network.assert_quiet()


@pytest.mark.parametrize("settled", [False, True])
def test_a_stream_to_nobody(settled: bool) -> None:
    network = Network()
    sender = network.client().sender("q")
    receiver = network.client().receiver("q")
    receiver.detach()
    network.run()
    sent = sender.begin(PART, settled=settled)
    network.run()
    assert network.held() == 0
    assert sent.states == ([] if settled else [RELEASED])
    sent.end(b"y")
    network.run()
    assert sent.settled
    network.assert_quiet()


class TestStalled:
    """A sender that stops in the middle of a message."""

    def scene(self, distribution: str = "balanced", settled: bool = False) -> tuple[Network, Sent, Sender, Receiver]:
        network = Network(addresses={"q": distribution}, stall=30)
        streamer, sender = (network.client().sender("q") for _ in range(2))
        receiver = network.client().receiver("q", credit=100)
        stream = streamer.begin(PART, settled=settled)
        network.run()
        return network, stream, sender, receiver

    @pytest.mark.parametrize("distribution", ["balanced", "multicast"])
    def test_is_given_up_when_others_wait(self, distribution: str) -> None:
        network, stream, sender, receiver = self.scene(distribution)
        network.advance(5)
        waits = sender.send(b"waits")
        network.advance(24)
        assert receiver.bodies == []
        network.advance(3)
        assert receiver.deliveries[0].aborted
        assert receiver.bodies == [b"waits"]
        assert waits.states == [ACCEPTED]
        assert isinstance(stream.state, Rejected)
        assert stream.state.error is not None
        assert stream.state.error.condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
        stream.more(PART)
        network.run()
        stream.more(PART)
        network.run()
        stream.end()
        network.run()
        assert len(receiver.deliveries) == 2
        network.assert_quiet()

    def test_presettled_is_given_up_as_well(self) -> None:
        network, stream, sender, receiver = self.scene(settled=True)
        sender.send(b"waits")
        network.advance(35)
        assert receiver.bodies == [b"waits"]
        stream.more(PART)
        network.run()
        stream.abort()
        network.run()
        network.assert_quiet()

    def test_is_left_alone_when_nobody_waits(self) -> None:
        network, stream, _, receiver = self.scene()
        network.advance(300)
        stream.end(b"y")
        network.run()
        assert receiver.bodies == [PART + b"y"]

    def test_growing_slowly_is_allowed(self) -> None:
        network, stream, sender, receiver = self.scene()
        sender.send(b"waits")
        for _ in range(10):
            network.advance(20)
            stream.more(b".")
            network.run()
        stream.end()
        network.run()
        assert len(receiver.bodies) == 2

    def test_a_slow_receiver_is_not_its_senders_fault(self) -> None:
        network = Network(stall=30)
        streamer, sender = (network.client().sender("q") for _ in range(2))
        receiver = network.client(window_policy=ManualWindow(5)).receiver("q", credit=100)
        stream = streamer.begin(PART)
        network.run()
        sender.send(b"waits")
        network.advance(100)
        assert stream.states == []
        assert receiver.deliveries[0].incomplete
        assert not receiver.deliveries[0].aborted

    def test_nothing_is_looked_at_without_streams(self) -> None:
        network = Network()
        assert network.router.next_deadline() == float("inf")
        network.router.handle_deadline(5.0)


class TestMaxMessageSize:
    @pytest.mark.parametrize("parts", [1, 3])
    def test_what_is_too_large_ends_the_link(self, parts: int) -> None:
        network = Network()
        client = network.client(settings=ConnectionSettings(max_message_size=400_000))
        sender = client.sender("q")
        assert sender.link.max_message_size == 400_000
        sender.link.max_message_size = NO_LIMIT  # it does not care
        other = client.sender("q")
        receiver = network.client().receiver("q", credit=5)
        sent = sender.begin(b"x" * (600_000 // parts))
        network.run()
        for _ in range(parts - 1):
            sent.more(b"x" * (600_000 // parts))
            network.run()
        assert sender.error is not None
        assert sender.error.condition == ErrorCondition.MESSAGE_SIZE_EXCEEDED
        assert receiver.deliveries[0].aborted
        other.send(b"fits")
        network.run()
        assert receiver.bodies == [b"fits"]
        assert network.held() == 0

    def test_a_single_frame_that_is_too_large(self) -> None:
        network = Network()
        client = network.client(settings=ConnectionSettings(max_message_size=100))
        sender = client.sender("q")
        sender.link.max_message_size = NO_LIMIT  # it does not care
        receiver = network.client().receiver("q", credit=5)
        sender.send(b"x" * 100)
        sender.send(b"x" * 101)
        network.run()
        assert sender.error is not None
        assert sender.error.condition == ErrorCondition.MESSAGE_SIZE_EXCEEDED
        assert receiver.bodies == [b"x" * 100]

    @pytest.mark.parametrize("distribution", ["balanced", "multicast"])
    @pytest.mark.parametrize("size", [10_000, 50_000, 300_000])
    @pytest.mark.parametrize("settled", [False, True])
    def test_what_is_too_large_for_a_receiver(self, size: int, distribution: str, settled: bool) -> None:
        network = Network(addresses={"q": distribution})
        sender = network.client().sender("q")
        receiver = network.client().receiver("q", credit=5, max_message_size=5000)
        sent = sender.begin(b"x" * size, settled=settled)
        network.run()
        sent.end(b"y")
        network.run()
        assert sent.settled
        if not settled:
            assert isinstance(sent.state, Rejected)
            assert sent.state.error is not None
            assert sent.state.error.condition == ErrorCondition.MESSAGE_SIZE_EXCEEDED
        sender.send(b"fits")
        network.run()
        assert receiver.bodies == [b"fits"]
        network.assert_quiet()
