"""The byte budget: held and promised together stay below the limit, and nobody starves for ever."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.routing.network import Client, ManualWindow, Network, Receiver, Sender, Sent
from van.adaptors.amqp import ConnectionSettings
from van.amqp.delivery_state import ACCEPTED
from van.amqp.errors import ErrorCondition
from van.amqp.framing import LARGE_FRAME_SIZE
from van.amqp.sender_link import SenderLink
from van.amqp.session import MAX_SESSION_FRAMES
from van.routing.budget import (
    IDLE_CHECK_INTERVAL,
    IDLE_TIME,
    MIN_WINDOW,
    SLACK_TIME,
    SMALLEST_FRAME_SIZE,
    ByteBudget,
    payload_limit,
)

MIB = 1024 * 1024
FRAME = 16384


def check(network: Network) -> int:
    budget = network.router.budget
    spoken = budget.held() + budget.promised()
    assert spoken <= budget.limit
    assert spoken <= budget.spoken_for()
    return spoken


def window_of(client: Client) -> int:
    (session,) = client.adaptor.connection.begun_sessions()
    return session.incoming_window


def test_a_session_begins_with_a_full_window() -> None:
    """A client that sends two hundred pre-settled messages and closes at once loses none for want of a window."""
    network = Network()
    client = network.client()
    receiver = network.client().receiver("q", credit=1000)
    assert window_of(client) == MAX_SESSION_FRAMES
    assert network.router.budget.promised() == 0
    sender = client.sender("q", run=False)
    client.step()
    assert network.router.budget.promised() == MAX_SESSION_FRAMES * FRAME
    client.step()
    for _ in range(200):
        sender.send(b"x", settled=True)
    client.adaptor.receive_data(client.pull(), network.now)
    client.cut()
    network.run()
    assert len(receiver.bodies) == 200
    check(network)


def test_first_windows_become_fewer_frames_the_more_sessions_there_are() -> None:
    network = Network(memory_limit=128 * MIB)
    network.client().receiver("q", credit=1)
    clients = [network.client() for _ in range(60)]
    for client in clients:
        client.sender("q")
        check(network)
    windows = [window_of(client) for client in clients]
    assert windows[0] == MAX_SESSION_FRAMES
    assert windows == sorted(windows, reverse=True)
    assert windows[-1] == MIN_WINDOW
    assert network.router.budget.promised() <= network.router.budget.limit // 2 + len(clients) * MIN_WINDOW * FRAME


def test_a_small_window_doubles() -> None:
    network = Network(memory_limit=64 * MIB)
    network.client().receiver("q", credit=100)
    others = [network.client() for _ in range(40)]
    for other in others:
        other.sender("q")
    client = network.client()
    sender = client.sender("q")
    small = window_of(client)
    assert small < 16
    for other in others:
        other.cut()
    seen = set()
    for _ in range(3000):
        sender.send(b"x")
        network.run()
        seen.add(window_of(client))
    assert {2 * small, 4 * small, 8 * small, MAX_SESSION_FRAMES} <= seen
    assert max(seen) == MAX_SESSION_FRAMES
    check(network)


def test_who_has_no_credit_is_promised_nothing() -> None:
    """Receivers, and senders whose address nobody has: ten of these would fill the budget if windows were promises."""
    network = Network(memory_limit=2 * MIB)
    clients = [network.client() for _ in range(300)]
    for number, client in enumerate(clients):
        if number % 2:
            client.receiver(f"q{number}", credit=100, run=False)
        else:
            client.sender(f"q{number}", run=False)
    network.run()
    assert not any(client.errors for client in clients)
    assert network.router.budget.promised() == 0
    assert check(network) == 0
    network.advance(IDLE_TIME + 2 * IDLE_CHECK_INTERVAL)
    assert min(window_of(client) for client in clients) > MIN_WINDOW


@pytest.mark.parametrize("piece", [0, 7, 400])
def test_the_first_credit_tells_of_a_window_that_has_become_smaller(piece: int) -> None:
    network = Network(memory_limit=16 * MIB, piece=piece)
    late = network.client()
    begun = window_of(late)
    network.client().receiver("q", credit=1)
    for _ in range(60):
        network.client().sender("q")
    sender = late.sender("mine")
    assert window_of(late) == begun
    receiver = network.client().receiver("mine", credit=0)
    network.run()
    assert MIN_WINDOW <= window_of(late) < begun // 4
    assert late.session.remote_incoming_window == window_of(late)
    for _ in range(100):
        sender.send(b"x" * 5000)
    network.run()
    check(network)
    for _ in range(20):
        receiver.credit(5)
        network.run()
        check(network)
    network.advance(1)
    assert len(receiver.bodies) == 100
    assert late.session not in late.errors


def test_the_first_credit_comes_without_a_window_when_nothing_is_left() -> None:
    network = Network(memory_limit=2 * MIB)
    late = network.client()
    mine = network.client().receiver("mine", credit=100)
    network.run()
    receiver = network.client().receiver("q", credit=0)
    crowd = []
    while (client := network.client()).session not in client.errors:
        crowd.append(client)
        sender = client.sender("q")
        for _ in range(4):
            sender.send(b"x" * 16_000)
        network.run()
        check(network)
    sender = late.sender("mine")
    sender.send(b"x")
    network.run()
    assert (late.session.remote_incoming_window, mine.bodies) == (0, [])
    check(network)
    receiver.credit(1000)
    network.run()
    network.advance(1)
    assert mine.bodies == [b"x"]
    check(network)


def test_a_peer_that_sends_without_credit_is_promised_nothing() -> None:
    network = Network(memory_limit=2 * MIB)
    client = network.client()
    for _ in range(2 * window_of(client)):
        sender = client.sender("nobody")
        sender.link.link_credit = 1
        sender.send(b"x" * 16_000)
        network.run()
        assert check(network) == 0
        assert sender.error is not None
        sender.detach()
        network.run()
    assert client.session not in client.errors


@pytest.mark.parametrize(
    ("limit", "sessions", "size"),
    [
        (1024 * MIB, 1, LARGE_FRAME_SIZE),
        (1024 * MIB, 100, 16384),
        (208 * MIB, 1, 16384),
        (16 * MIB, 200, SMALLEST_FRAME_SIZE),
    ],
)
def test_frames_are_large_where_windows_of_them_can_be_afforded(limit: int, sessions: int, size: int) -> None:
    network = Network(memory_limit=limit)
    for _ in range(sessions):
        network.client()
    auto = network.client(settings=ConnectionSettings(idle_timeout=0.0))
    assert auto.connection.remote_max_frame_size == size
    told = network.client(settings=ConnectionSettings(idle_timeout=0.0, max_frame_size=10_000))
    assert told.connection.remote_max_frame_size == 10_000


def test_a_window_of_large_frames_has_fewer_of_them() -> None:
    network = Network(memory_limit=1024 * MIB)
    client = network.client(settings=ConnectionSettings(idle_timeout=0.0, max_frame_size=MIB))
    network.client().receiver("q", credit=10)
    sender = client.sender("q")
    frames = window_of(client)
    assert frames == 32
    assert network.router.budget.promised() == frames * MIB
    for size in (10, 100_000, 5_000_000, 10):
        sender.send(bytes(size))
        network.run()
        check(network)
    network.assert_quiet()


def test_a_window_grows_to_what_the_listener_says() -> None:
    network = Network()
    client = network.client(settings=ConnectionSettings(max_session_frames=5))
    sender = client.sender("q")
    network.client().receiver("q", credit=1000)
    for _ in range(100):
        sender.send(b"x")
    network.run()
    assert window_of(client) <= 5
    assert not sender.undelivered


def test_a_session_is_refused_when_nothing_is_left() -> None:
    network = Network(memory_limit=40 * FRAME)
    network.client().receiver("q", credit=1)
    clients = []
    for _ in range(30):
        client = network.client()
        clients.append(client)
        if client.session not in client.errors:
            client.sender("q")
    refused = [client for client in clients if client.session in client.errors]
    assert refused
    assert len(refused) < 25
    assert all(client.errors[client.session].condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED for client in refused)
    check(network)
    for client in clients:
        if client not in refused:
            client.cut()
    refused[0].new_session()
    network.run()
    assert len(refused[0].adaptor.connection.begun_sessions()) == 1
    check(network)


def test_one_connection_gets_a_quarter() -> None:
    network = Network(memory_limit=16 * MIB)
    client = network.client()
    for _ in range(40):
        client.new_session()
    senders = [
        client.sender("q", session=session, run=False) for session in list(client.connection.begun_sessions())
    ]
    network.client().receiver("q")
    for sender in senders:
        for _ in range(30):
            sender.send(b"x" * 200_000)
    network.run()
    budget = network.router.budget
    assert budget.spoken_by(client.adaptor.connection) <= budget.limit // 4
    assert network.held() > budget.limit // 8
    check(network)
    # Others do not notice.
    other = network.client()
    receiver = network.client().receiver("elsewhere", credit=100)
    sender = other.sender("elsewhere")
    for _ in range(500):
        sender.send(b"y" * 10_000)
    network.run()
    assert len(receiver.deliveries) == 500


def stuck(network: Network, size: int, count: int) -> tuple[Sender, Receiver, Client]:
    """A receiver that reads nothing, and a sender that has much for it."""
    client = network.client()
    receiver = client.receiver("stuck", credit=1000)
    client.reading = False
    sender = network.client().sender("stuck")
    for _ in range(count):
        sender.send(b"x" * size)
    network.run()
    return sender, receiver, client


@pytest.mark.parametrize("limit", [16 * MIB, 256 * MIB])
def test_a_stuck_receiver_stops_its_sender_and_nobody_else(limit: int) -> None:
    network = Network(memory_limit=limit)
    sender, receiver, client = stuck(network, MIB, 300)
    assert sender.undelivered
    assert MIB < network.held() <= limit // 4
    check(network)
    other = network.client().receiver("free", credit=100)
    free = network.client().sender("free")
    for _ in range(1000):
        free.send(b"y" * 1000)
    for _ in range(10):
        free.send(b"y" * 500_000)
    network.run()
    assert len(other.bodies) == 1010
    check(network)
    client.reading = True
    network.run()
    assert len(receiver.bodies) == 300
    network.assert_quiet()


def test_other_links_of_the_same_session_go_on() -> None:
    """As long as the deliveries for the stuck one are below the threshold."""
    network = Network()
    stuck_client = network.client()
    stuck_client.receiver("stuck", credit=1000)
    stuck_client.reading = False
    client = network.client()
    to_stuck, to_free = client.sender("stuck"), client.sender("free")
    receiver = network.client().receiver("free", credit=100)
    for _ in range(1000):
        to_stuck.send(b"x" * 200_000)
    network.run()
    assert to_stuck.undelivered
    for _ in range(1000):
        to_free.send(b"y" * 1000)
    network.run()
    assert len(receiver.deliveries) == 1000
    check(network)


def test_half_messages_go_on_when_memory_is_short() -> None:
    network = Network(memory_limit=MIB)
    clients = [network.client() for _ in range(8)]
    receiver = network.client().receiver("q", credit=100)
    senders = [client.sender("q") for client in clients]
    halves = [sender.begin(b"%d" % number * 250_000) for number, sender in enumerate(senders)]
    network.run()
    check(network)
    for half in halves:
        half.end(b"!")
    network.run()
    network.advance(60)
    assert sorted(body[:1] for body in receiver.bodies) == [b"%d" % number for number in range(8)]
    network.assert_quiet()


def test_a_large_message_passes_a_small_budget() -> None:
    network = Network(memory_limit=16 * MIB)
    sender = network.client().sender("q")
    receiver = network.client().receiver("q", credit=1)
    part = bytes(MIB)
    sent = sender.begin(part)
    highest = 0
    for _ in range(63):
        sent.more(part)
        network.run()
        highest = max(highest, check(network))
        for got in receiver.deliveries:
            got.frames = got.frames[-1:]  # this machine has better things to do than to keep 64 MiB
    sent.end(b"end")
    network.run()
    assert receiver.deliveries[0].complete
    assert highest <= 16 * MIB
    network.assert_quiet()


def test_a_large_message_passes_to_a_slow_receiver() -> None:
    network = Network(memory_limit=16 * MIB)
    sender = network.client().sender("q")
    client = network.client()
    receiver = client.receiver("q", credit=1)
    body = bytes(64 * MIB)
    sent = sender.send(body)
    client.reading = False
    rounds = 0
    while not receiver.bodies:
        rounds += 1
        network.run()
        assert network.held() <= 4 * MIB
        client.step(1)
        client.reading = True
        client.step(1)
        client.reading = False
        check(network)
        assert rounds < 5000
    client.reading = True
    network.run()
    assert sent.states == [ACCEPTED]
    assert len(receiver.bodies[0]) == len(body)
    network.assert_quiet()


def test_many_copies_count_once() -> None:
    network = Network(addresses={"q": "multicast"}, memory_limit=2 * MIB)
    sender = network.client().sender("q")
    receivers = [network.client().receiver("q", credit=1000) for _ in range(30)]
    for _ in range(100):
        sender.send(b"x" * 10_000)
        sender.send(b"x" * 30_000)
    network.run()
    check(network)
    assert all(len(receiver.bodies) == 200 for receiver in receivers)
    network.assert_quiet()


def test_many_stuck_copies_hold_their_sender_back() -> None:
    network = Network(addresses={"q": "multicast"}, memory_limit=4 * MIB)
    sender = network.client().sender("q")
    receivers = [network.client().receiver("q") for _ in range(5)]
    for _ in range(50):
        sender.send(b"x" * 200_000)
    network.run()
    check(network)
    assert sender.undelivered
    for receiver in receivers:
        receiver.credit(1000)
        network.run()
        check(network)
    network.advance(10)
    assert all(len(receiver.bodies) == 50 for receiver in receivers)
    network.assert_quiet()


def test_what_an_ended_session_left_counts() -> None:
    """A peer that sends, leaves and returns does not get a new share each time."""
    network = Network(memory_limit=4 * MIB)
    holder = network.client()
    receiver = holder.receiver("stuck", credit=0)
    for _ in range(60):
        client = network.client()
        if client.session in client.errors:
            client.cut()
            continue
        sender = client.sender("stuck")
        for _ in range(20):
            sender.send(b"x" * 100_000)
        network.run()
        check(network)
        client.cut()
        check(network)
    assert network.held() > MIB
    receiver.credit(10_000)
    network.run()
    network.router.budget.recount()
    assert network.held() == 0
    assert len(network.router.budget.sessions) == 1
    network.assert_quiet()


def test_ended_sessions_do_not_pile_up() -> None:
    network = Network()
    receiver = network.client().receiver("q")
    for _ in range(200):
        client = network.client()
        client.sender("q").send(b"x")
        network.run()
        client.cut()
        receiver.credit(1)
        network.run()
    assert len(network.router.budget.sessions) < 10


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("how", ["detach", "cut"])
def test_empty_messages_of_links_that_come_and_go(how: str, settled: bool) -> None:
    network = Network(memory_limit=4 * MIB)
    receiver = network.client().receiver("stuck")
    client = network.client()
    waiting = receiver.link
    for _ in range(60):
        sender = client.sender("stuck")
        for _ in range(250):
            sender.send(b"", settled=settled)
        network.run()
        check(network)
        if how == "detach":
            sender.undelivered.clear()
            sender.detach()
        else:
            client.cut()
            client = network.client()
        network.run()
    (address,) = network.router.addresses.values()
    assert 1000 < len(address.outgoing[0].undelivered) < 4 * MIB // 512
    waiting.grant(100_000)
    network.run()
    network.router.budget.recount()
    assert network.held() == 0
    assert not network.router.budget.orphans
    network.assert_quiet()


class TestIdleWindows:
    def busy(self, network: Network) -> Client:
        client = network.client()
        sender = client.sender("q")
        for _ in range(1500):
            sender.send(b"x")
        network.run()
        return client

    def test_are_left_alone_while_there_is_room(self) -> None:
        network = Network()
        network.client().receiver("q", credit=10)
        client = self.busy(network)
        window = window_of(client)
        assert window >= MAX_SESSION_FRAMES // 2
        network.advance(100)
        assert window_of(client) == window

    def test_are_taken_back_when_memory_is_short(self) -> None:
        network = Network(memory_limit=16 * MIB)
        network.client().receiver("q", credit=10)
        clients = [self.busy(network) for _ in range(20)]
        before = check(network)
        assert before > 8 * MIB
        network.advance(IDLE_TIME + 2 * IDLE_CHECK_INTERVAL + SLACK_TIME + IDLE_CHECK_INTERVAL)
        assert check(network) < before // 2
        assert min(window_of(client) for client in clients) == MIN_WINDOW
        # They work as before.
        for client in clients:
            sender = client.sender("q")
            for _ in range(300):
                sender.send(b"x")
        network.run()
        network.advance(1)
        network.assert_quiet()

    def test_frames_under_way_are_tolerated(self) -> None:
        network = Network(memory_limit=16 * MIB)
        network.client().receiver("q", credit=10)
        clients = [self.busy(network) for _ in range(20)]
        for client in clients:
            client.reading = False  # it will not hear of the smaller window
        network.advance(IDLE_TIME + 2 * IDLE_CHECK_INTERVAL)
        late = [client for client in clients if window_of(client) == MIN_WINDOW]
        assert late
        (link,) = late[0].session.links.values()
        assert isinstance(link, SenderLink)
        sender = link.source
        assert isinstance(sender, Sender)
        for _ in range(50):
            sender.send(b"x")
        network.run()
        check(network)
        for client in clients:
            client.reading = True
        network.run()
        assert late[0].closed is None
        assert late[0].session not in late[0].errors
        network.assert_quiet()

    def test_far_beyond_the_window_is_a_violation(self) -> None:
        network = Network()
        client = network.client(settings=ConnectionSettings(idle_timeout=0.0, max_session_frames=16))
        sender = client.sender("q")
        network.client().receiver("q")
        client.session.remote_incoming_window = 100
        for _ in range(100):
            sender.send(b"x" * 16000)
        # All at once, so that no renewal comes between.
        client.adaptor.receive_data(client.pull(), network.now)
        network.run()
        assert client.errors[client.session].condition == ErrorCondition.WINDOW_VIOLATION


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_limit_holds_and_nobody_starves(data: st.DataObject) -> None:
    """Whatever clients do: held and promised stay below the limit, and in the end every message arrives."""
    limit = data.draw(st.integers(20, 400), label="limit in frames") * FRAME
    seed = data.draw(st.integers(0, 1000), label="seed")
    network = Network(addresses={"m": "multicast"}, memory_limit=limit, seed=seed, piece=5000)
    receivers: list[Receiver] = []
    senders: list[Sender] = []
    for _ in range(data.draw(st.integers(1, 4), label="receivers")):
        client = network.client()
        if client.session not in client.errors:
            receivers.append(client.receiver(data.draw(st.sampled_from(["q", "m"])), credit=2))
    for _ in range(data.draw(st.integers(1, 6), label="senders")):
        client = network.client()
        if client.session not in client.errors:
            senders.append(client.sender(data.draw(st.sampled_from(["q", "m"]))))
    if not senders or not receivers:
        return
    sent: list[Sent] = []
    for _ in range(data.draw(st.integers(1, 30), label="steps")):
        action = data.draw(st.sampled_from(["send", "stop", "go", "drift", "cut", "time"]))
        sender = data.draw(st.sampled_from(senders))
        receiver = data.draw(st.sampled_from(receivers))
        if action == "send":
            size = data.draw(st.sampled_from([10, 16_000, 100_000, 300_000, 1_000_000]))
            settled = data.draw(st.booleans())
            sent.extend(sender.send(bytes(size), settled=settled) for _ in range(data.draw(st.integers(1, 10))))
        elif action == "stop":
            receiver.client.reading = False
        elif action == "go":
            receiver.client.reading = True
        elif action == "cut" and len(senders) > 1:
            senders.remove(sender)
            sent = [one for one in sent if one.link is not sender.link]
            sender.client.cut()
        elif action == "time":
            network.advance(7)
        network.drift(5)
        check(network)
    for name in ("q", "m"):
        client = network.client()
        if client.session in client.errors:
            return  # a limit so small that there is no room for another
        client.receiver(name, credit=2)
    for receiver in receivers:
        receiver.client.reading = True
    for _ in range(3):
        network.run()
        check(network)
        network.advance(10)
    assert all(one.settled for one in sent)
    network.assert_quiet()


def test_windows_of_clients_are_respected() -> None:
    network = Network()
    sender = network.client().sender("q")
    client = network.client(window_policy=ManualWindow(4))
    receiver = client.receiver("q", credit=100)
    for _ in range(50):
        sender.send(b"x")
    network.run()
    assert len(receiver.deliveries) == 4
    other = network.client().receiver("q", credit=100)
    network.run()
    for _ in range(10):
        sender.send(b"y")
    network.run()
    assert len(other.deliveries) >= 10


def test_an_empty_budget() -> None:
    budget = ByteBudget(MIB)
    assert (budget.held(), budget.promised(), budget.spoken_for()) == (0, 0, 0)
    budget.recount()
    budget.retry(1.0)
    assert budget.next_deadline(0.0) == float("inf")


@pytest.mark.parametrize(("memory", "payload"), [(15 * MIB, 5 * MIB), (256 * MIB, 208 * MIB), (1024 * MIB, 976 * MIB)])
def test_the_process_itself_needs_a_part(memory: int, payload: int) -> None:
    assert payload_limit(memory) == payload
