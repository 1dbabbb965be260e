"""Links whose other end is in this process: messages and streams, their outcomes, credit, and what is held."""

from __future__ import annotations

import pytest

from tests.adaptors.routers import RouterNode, Routers
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Received, Rejected
from van.amqp.message import AmqpValue, Message, Properties
from van.routing.adaptor import Adaptor
from van.routing.endpoint import (
    ENDPOINT_FRAME,
    EndpointReceiverLink,
    EndpointSenderLink,
    EndpointSession,
    EndpointStream,
)
from van.routing.router import Router


class App(Adaptor):
    """An adaptor that keeps what the core has said."""

    def __init__(self, router: Router, name: str) -> None:
        super().__init__()
        self.session = EndpointSession(router, self, name)
        self.on_wake = self.wake
        self.wakes = 0
        self.taken: list[Delivery] = []
        self.streams: list[EndpointStream] = []
        self.told: list[tuple[Delivery, object, bool]] = []
        self.credited: list[EndpointReceiverLink] = []
        self.grown: list[EndpointStream] = []

    def wake(self) -> None:
        session = self.session
        self.wakes += 1
        session.look()
        for link in session.ready:
            while (delivery := link.take()) is not None:
                if delivery.chunks is None:
                    self.taken.append(delivery)
                else:
                    self.streams.append(link.stream(delivery, session))
        self.told += [(delivery, delivery.state, session.owes(delivery)) for delivery in session.told]
        self.credited += session.credited
        self.grown += session.grown
        for noted in (session.ready, session.told, session.credited, session.grown):
            noted.clear()

    @property
    def states(self) -> list[object]:
        return [state for _, state, _ in self.told]


class Scene:
    """Two apps at one router, or at the two ends of a line of routers, and the links between them."""

    def __init__(self, routers: int, address: str = "q") -> None:
        self.network = Routers()
        self.nodes: list[RouterNode] = [self.network.router(name) for name in "ABC"[:routers]]
        for one, other in zip(self.nodes, self.nodes[1:], strict=False):
            self.network.connect(one, other)
        self.network.advance(10)
        self.one = App(self.nodes[0].router, "one")
        self.other = App(self.nodes[-1].router, "other")
        self.link = self.one.session.attach_incoming(address, 4)
        self.receiver: EndpointSenderLink = self.other.session.attach_outgoing(address, 10)
        self.run()

    def run(self) -> None:
        self.network.advance(2)

    def stream(self, head: bytes = b"head") -> EndpointStream:
        self.link.begin(head)
        self.run()
        return self.other.streams[-1]

    def held(self) -> int:
        return sum(node.router.budget.held() for node in self.nodes)

    def close(self) -> None:
        """Nothing is left behind."""
        self.one.session.close()
        self.other.session.close()
        self.run()
        assert self.held() == 0
        for node in self.nodes:
            assert not [key for key in node.router.addresses if key.startswith("Mq")]
            assert not node.router.streams
            assert not node.router.budget.waiting


@pytest.fixture(params=[1, 2, 3])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


@pytest.mark.parametrize("outcome", [ACCEPTED, RELEASED, Rejected(), Modified(delivery_failed=True)])
def test_a_message_and_its_outcome(scene: Scene, outcome: object) -> None:
    assert scene.link.link_credit == 4
    sent = scene.link.send(b"hello")
    scene.run()
    (delivery,) = scene.other.taken
    assert delivery.payload == b"hello"
    assert scene.held() == 5
    scene.receiver.settle(delivery, outcome)
    scene.run()
    assert [(told, type(state), owes) for told, state, owes in scene.one.told] == [(sent, type(outcome), False)]
    assert scene.link.link_credit == 4
    scene.close()


def test_a_message_whose_sender_settles_first(scene: Scene) -> None:
    scene.one.session.settle_sent(scene.link.send(b"hello"), RELEASED)
    scene.run()
    sent = scene.link.send(b"world")
    scene.run()
    scene.one.session.settle_sent(sent, RELEASED)
    scene.run()
    for delivery in scene.other.taken:
        assert delivery.payload in (b"hello", b"world")
        scene.receiver.settle(delivery, ACCEPTED)
    assert scene.held() == 0
    assert scene.link.link_credit == 4
    scene.close()


def test_a_sender_that_waits_no_longer(scene: Scene) -> None:
    scene.other.session.recalled = []
    whole = scene.link.send(b"hello")
    scene.link.begin(b"head")
    scene.run()
    scene.link.append(b"tail", more=False)
    scene.run()
    (delivery,) = scene.other.taken
    (stream,) = scene.other.streams
    assert b"".join(stream.read(100)) == b"headtail"
    for sent in (whole, scene.one.session.unsettled_in[whole.delivery_id + 1]):
        scene.one.session.settle_sent(sent, None)
    scene.run()
    assert scene.other.session.recalled == [delivery, stream.delivery]
    scene.receiver.settle(delivery, ACCEPTED)
    stream.settle(ACCEPTED)
    scene.run()
    assert not scene.one.told
    assert scene.link.link_credit == 4
    scene.close()


def test_a_presettled_message(scene: Scene) -> None:
    scene.link.send(b"hello", settled=True)
    scene.run()
    assert [delivery.payload for delivery in scene.other.taken] == [b"hello"]
    assert scene.held() == 0
    assert scene.link.link_credit == 4
    scene.close()


def test_credit_is_what_may_be_sent_and_comes_back(scene: Scene) -> None:
    for _ in range(4):
        scene.link.send(b"x")
    assert scene.link.link_credit == 0
    scene.run()
    for delivery in scene.other.taken:
        scene.receiver.settle(delivery, ACCEPTED)
    scene.run()
    assert scene.link.link_credit == 4
    assert scene.one.credited
    scene.close()


def test_a_stream_goes_on_at_once_and_is_acknowledged_on_its_way(scene: Scene) -> None:
    stream = scene.stream()
    assert b"".join(stream.read(100)) == b"head"
    assert not stream.waiting()
    for part in (b"a" * 10, b"b" * 10):
        scene.link.append(part)
        scene.run()
        assert stream.waiting()
        assert b"".join(stream.read(4) + stream.read(100)) == part
    stream.received(20)
    scene.run()
    ((delivery, state, owes),) = scene.one.told
    assert delivery is scene.link.current
    assert isinstance(state, Received)
    assert state.section_offset == 20
    assert owes
    scene.link.append(b"end", more=False)
    scene.run()
    assert b"".join(stream.read(100)) == b"end"
    assert stream.finished
    stream.settle(ACCEPTED)
    scene.run()
    assert scene.one.states[-1] is ACCEPTED
    assert scene.link.link_credit == 4
    scene.close()


def test_what_is_not_read_is_held(scene: Scene) -> None:
    stream = scene.stream()
    scene.link.append(b"x" * 1000)
    scene.run()
    assert scene.held() >= 1004
    assert len(b"".join(stream.read(2000))) == 1004
    assert scene.held() == 0
    scene.close()


def test_a_stream_is_aborted(scene: Scene) -> None:
    stream = scene.stream()
    scene.link.append(b"x")
    scene.link.abort()
    scene.run()
    assert stream.aborted
    assert not stream.waiting()
    assert stream.read(10) == []
    assert scene.link.link_credit == 4
    scene.close()


def test_a_stream_of_which_nothing_was_read_is_aborted(scene: Scene) -> None:
    stream = scene.stream()
    scene.other.grown.clear()
    scene.link.append(b"x")
    scene.run()
    assert scene.other.grown == [stream]
    scene.link.abort()
    scene.run()
    assert scene.other.grown == [stream] * 2
    assert stream.aborted
    scene.close()


@pytest.mark.parametrize("outcome", [ACCEPTED, Modified(delivery_failed=True)])
def test_an_outcome_before_the_end_stops_the_stream(scene: Scene, outcome: object) -> None:
    stream = scene.stream()
    stream.settle(outcome)
    scene.run()
    assert type(scene.one.states[-1]) is type(outcome)
    if len(scene.nodes) == 1:
        assert scene.link.current is None
    scene.link.append(b"late")
    scene.link.append(b"", more=False)
    scene.run()
    assert scene.held() == 0
    assert scene.link.link_credit == 4
    scene.close()


def test_the_sender_settles_what_was_taken(scene: Scene) -> None:
    scene.other.session.recalled = []
    whole = scene.link.send(b"hello")
    scene.run()
    (taken,) = scene.other.taken
    stream = scene.stream()
    streamed = stream.delivery
    streaming = scene.link.current
    assert streaming is not None
    scene.link.append(b"unread", more=False)
    scene.run()
    for sent in (whole, streaming):
        scene.one.session.settle_sent(sent, None)
        scene.run()
    assert scene.other.session.recalled == [taken, streamed]
    assert taken.payload == b"hello"
    scene.receiver.settle(taken, ACCEPTED)
    stream.settle(ACCEPTED)
    scene.run()
    assert scene.link.link_credit == 4
    scene.close()


def test_a_link_is_withdrawn_and_what_was_taken_goes_on(scene: Scene) -> None:
    scene.link.send(b"taken")
    scene.run()
    (taken,) = scene.other.taken
    stream = scene.stream()
    scene.other.session.withdraw(scene.receiver)
    scene.run()
    assert not scene.link.reachable
    scene.link.append(b"end", more=False)
    scene.run()
    assert b"".join(stream.read(100)) == b"headend"
    stream.settle(ACCEPTED)
    scene.receiver.settle(taken, ACCEPTED)
    scene.run()
    assert scene.one.states == [ACCEPTED, ACCEPTED]
    scene.other.session.detach(scene.receiver)
    scene.receiver = scene.other.session.attach_outgoing("q", 10)
    scene.run()
    assert scene.link.link_credit == 4
    scene.close()


def test_many_streams_arrive_by_one_link(scene: Scene) -> None:
    others = [scene.one.session.attach_incoming("q", 4) for _ in range(3)]
    for number, link in enumerate(others):
        link.begin(b"%d" % number)
    scene.run()
    assert len(scene.other.streams) == 3
    for number, link in enumerate(others):
        link.append(b"x", more=False)
        scene.run()
        assert b"".join(scene.other.streams[number].read(10)) == b"%dx" % number
        scene.other.streams[number].settle(ACCEPTED)
    scene.run()
    assert scene.one.states == [ACCEPTED] * 3
    scene.close()


def test_a_presettled_stream_gives_its_credit_back_when_it_was_read(scene: Scene) -> None:
    scene.link.begin(b"head", settled=True)
    scene.run()
    scene.link.append(b"tail", more=False)
    scene.run()
    (stream,) = scene.other.streams
    assert b"".join(stream.read(100)) == b"headtail"
    assert stream.finished
    scene.run()
    assert scene.link.link_credit == 4
    stream.settle(ACCEPTED)
    scene.close()


def test_a_whole_message_is_read_as_a_stream(scene: Scene) -> None:
    for settled in (False, True):
        delivery = scene.link.send(b"hello", settled)
        scene.run()
        stream = scene.receiver.stream(scene.other.taken.pop(), scene.other.session)
        assert scene.held() == 5
        assert stream.waiting()
        assert b"".join(stream.read(3) + stream.read(3)) == b"hello"
        assert stream.finished
        assert scene.held() == 0
        stream.settle(ACCEPTED)
        scene.run()
        assert settled or delivery.state is ACCEPTED
        assert scene.link.link_credit == 4
    unread = scene.link.send(b"hello", settled=True)
    scene.run()
    scene.receiver.stream(scene.other.taken.pop(), scene.other.session)
    assert unread.settled
    scene.close()


def test_the_receiver_goes_in_the_middle_of_a_stream(scene: Scene) -> None:
    stream = scene.stream()
    scene.other.session.detach(scene.receiver)
    scene.run()
    assert stream.aborted
    assert isinstance(scene.one.states[-1], Modified)
    assert scene.link.link_credit == 0
    scene.close()


def test_the_sender_goes_in_the_middle_of_a_stream(scene: Scene) -> None:
    stream = scene.stream()
    scene.one.session.detach(scene.link)
    scene.run()
    assert stream.aborted
    scene.close()


def test_whether_anybody_receives_is_known_before_anything_is_sent(scene: Scene) -> None:
    for _ in range(2):
        scene.one.credited.clear()
        scene.other.session.detach(scene.receiver)
        scene.run()
        assert scene.one.credited == [scene.link]
        assert scene.link.link_credit == 0
        scene.one.credited.clear()
        scene.receiver = scene.other.session.attach_outgoing("q", 10)
        scene.run()
        assert scene.one.credited == [scene.link]
        assert scene.link.reachable
        assert scene.link.link_credit == 4
    scene.close()


def test_answers_go_to_a_temporary_address(scene: Scene) -> None:
    inbox = scene.one.session.attach_outgoing("", 10)
    anonymous = scene.other.session.attach_incoming("", 10)
    message = Message(properties=Properties(to=inbox.address), body=AmqpValue("answer"))
    anonymous.send(message.encode())
    scene.run()
    (delivery,) = scene.one.taken
    assert Message.decode(delivery.payload).body == AmqpValue("answer")
    inbox.settle(delivery, ACCEPTED)
    scene.run()
    assert scene.other.states == [ACCEPTED]
    scene.close()


def test_a_message_for_nobody_is_released_before_send_returns() -> None:
    scene = Scene(1)
    anonymous = scene.one.session.attach_incoming("", 10)
    sent = anonymous.send(Message(properties=Properties(to="nobody"), body=AmqpValue("x")).encode())
    assert sent.state is RELEASED
    assert scene.one.session.told == [sent]
    scene.close()


def test_room_ends_with_the_window_and_comes_back_when_octets_have_left() -> None:
    scene = Scene(1)
    stream = scene.stream()
    session = scene.one.session
    budget = session.router.budget
    budget.limit = 4 * ENDPOINT_FRAME * 4
    octets = 0
    while session.room() > 0:
        scene.link.append(b"x" * ENDPOINT_FRAME)
        octets += ENDPOINT_FRAME
        assert octets <= budget.limit
    assert session in budget.waiting
    wakes = scene.one.wakes
    assert len(b"".join(stream.read(2 * octets))) == octets + 4
    scene.run()
    assert scene.one.wakes > wakes
    assert session.room() > 0
    scene.close()
