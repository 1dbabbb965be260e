"""Two engines, and everything that their owners may do in any order, with octets handed over in any pieces.

Nothing is lost, doubled or put out of order; windows and credit stay; at rest both ends hold the same unsettled
deliveries. More examples: `VAN_MACHINE_EXAMPLES=2000 python -m pytest tests/amqp/test_machine_two_engines.py`.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fuzz.auditor import Auditor
from tests.amqp.pair import Endpoint, Feed, Sink
from van.amqp.delivery import Delivery
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified, Received, Rejected
from van.amqp.errors import AmqpError, ErrorCondition
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.session import Session, WindowPolicy

EXAMPLES = int(os.environ.get("VAN_MACHINE_EXAMPLES", "60"))
LAST = 0xFFFFFFFF

ids = st.sampled_from([0, 1, LAST - 3, LAST, 0x7FFFFFFE])
outcomes = st.sampled_from([ACCEPTED, RELEASED, Rejected(), Modified(delivery_failed=True), None])
which = st.integers(0, 1000)


class Life:
    """A link from its sender to its receiver, and what was sent on it."""

    def __init__(self, feed: Feed, sender: Endpoint, receiver: Endpoint, name: str) -> None:
        self.feed = feed
        self.sender = sender
        self.receiver = receiver
        self.name = name
        self.sent: list[tuple[Delivery, bytearray]] = []
        self.growing: tuple[Delivery, bytearray] | None = None
        self.given_up: list[Delivery] = []

    @property
    def sink(self) -> Sink | None:
        return self.receiver.sinks.get(self.name)

    @property
    def alive(self) -> bool:
        sink = self.sink
        if sink is None:
            return False
        return all(
            link.active and not link.session.end_sent and not link.session.end_received
            for link in (self.feed.link, sink.link)
        )

    def expected(self) -> list[bytes]:
        """What has been written to its end."""
        waiting = {id(delivery) for delivery in self.feed.undelivered}
        if self.feed.link.current is not None:
            waiting.add(id(self.feed.link.current))
        return [
            bytes(payload)
            for delivery, payload in self.sent
            if id(delivery) not in waiting and not delivery.more and delivery not in self.given_up
        ]


def unsettled_out(session: Session) -> set[int]:
    """Ids that the sender holds, of links that live: what was under way to a detached link its owner has to forget."""
    return {number for number, delivery in session.unsettled_out.items() if delivery.sender and delivery.sender.active}


def unsettled_in(session: Session) -> set[int]:
    """The same for the receiver."""
    return {
        number for number, delivery in session.unsettled_in.items() if delivery.receiver and delivery.receiver.active
    }


class TwoEngines(RuleBasedStateMachine):
    """Left and right, and the octets between them."""

    @initialize(
        frames=st.sampled_from([512, 4096]), windows=st.sampled_from([2, 5, 100]), second=st.booleans(), first=ids
    )
    def connect(self, frames: int, windows: int, second: bool, first: int) -> None:
        common: dict[str, Any] = {"max_frame_size": frames, "outcome": None, "settle_second": second}
        self.second = second
        self.left = Endpoint("left", accepting=False, window_policy=WindowPolicy(windows), **common)
        self.right = Endpoint("right", window_policy=WindowPolicy(windows), **common)
        self.auditors = {self.left: Auditor(), self.right: Auditor()}
        self.on_wire = {self.left: b"", self.right: b""}
        self.lives: list[Life] = []
        self.sessions: list[tuple[Endpoint, Session]] = []
        self.names = 0
        self.left.connection.open()
        # Most of what can go wrong needs a link with credit each way.
        self.begins(True, first)
        self.attaches(0, True, first)
        self.attaches(0, False, first)
        self.comes_to_rest()
        for number in range(2):
            self.grants(number, 3)
        self.comes_to_rest()

    # -- the wire ------------------------------------------------------------------------------------------------

    def write(self, endpoint: Endpoint, limit: int) -> bool:
        written = b"".join(endpoint.connection.data_to_send(limit))
        remote = endpoint.connection.remote_open
        self.auditors[endpoint].max_frame_size = remote.max_frame_size if remote is not None else 512
        self.auditors[endpoint].take(written)
        self.on_wire[endpoint] += written
        return bool(written)

    def hand_over(self, endpoint: Endpoint, amount: int) -> bool:
        other = self.right if endpoint is self.left else self.left
        data, self.on_wire[endpoint] = self.on_wire[endpoint][:amount], self.on_wire[endpoint][amount:]
        if data:
            other.receive(data)
        return bool(data)

    @rule(left=st.booleans(), limit=st.sampled_from([1, 600, 65536]))
    def writes(self, left: bool, limit: int) -> None:
        self.write(self.left if left else self.right, limit)

    @rule(left=st.booleans(), amount=st.sampled_from([1, 7, 8, 100, 5000]))
    def arrives(self, left: bool, amount: int) -> None:
        self.hand_over(self.left if left else self.right, amount)

    @rule()
    def everything_arrives(self) -> None:
        self.comes_to_rest()

    @rule()
    def comes_to_rest(self) -> None:
        for _ in range(1000):
            busy = False
            for endpoint in (self.left, self.right):
                busy |= self.write(endpoint, 65536)
                busy |= self.hand_over(endpoint, 1 << 20)
            if not busy:
                break
        else:
            raise AssertionError("the engines never come to rest")
        self.at_rest()

    def at_rest(self) -> None:
        for life in self.lives:
            if not life.alive:
                continue
            sink = life.sink
            assert sink is not None
            assert sink.bodies == life.expected()
            assert life.feed.link.delivery_count == sink.link.delivery_count
            assert life.feed.link.link_credit == sink.link.link_credit
            blocked = life.feed.link.link_credit == 0 or life.feed.link.session.remote_incoming_window == 0
            assert blocked or not life.feed.undelivered or life.feed.link.current is not None
        by_channel = {session.remote_channel: session for session in self.right.connection.begun_sessions()}
        for session in self.left.connection.begun_sessions():
            other = by_channel[session.local_channel]
            if not session.end_sent and not other.end_sent:
                assert unsettled_out(session) == unsettled_in(other)
                assert unsettled_in(session) == unsettled_out(other)
                assert other.next_incoming_id == session.next_outgoing_id
                assert session.remote_incoming_window == other.incoming_window

    # -- sessions and links --------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.sessions) < 4)
    @rule(left=st.booleans(), first=ids)
    def begins(self, left: bool, first: int) -> None:
        endpoint = self.left if left else self.right
        if endpoint.connection.remote_open is None:
            self.comes_to_rest()
        self.sessions.append((endpoint, endpoint.begin(first)))

    @precondition(lambda self: self.sessions and len(self.lives) < 6)
    @rule(session=which, sends=st.booleans(), first=ids)
    def attaches(self, session: int, sends: bool, first: int) -> None:
        endpoint, own = self.sessions[session % len(self.sessions)]
        if own.end_sent or own.end_received:
            return
        other = self.right if endpoint is self.left else self.left
        self.names += 1
        name = f"link-{self.names}"
        second = 1 if self.second else 0
        if sends:
            feed = endpoint.sender(own, name, initial_delivery_count=first, rcv_settle_mode=second)
            self.lives.append(Life(feed, endpoint, other, name))
            return
        endpoint.receiver(own, name, rcv_settle_mode=second)
        self.comes_to_rest()
        if name in other.feeds:
            self.lives.append(Life(other.feeds[name], other, endpoint, name))

    def life(self, number: int) -> Life:
        return self.lives[number % len(self.lives)]

    @precondition(lambda self: self.lives)
    @rule(number=which, receiver=st.booleans(), error=st.booleans())
    def detaches(self, number: int, receiver: bool, error: bool) -> None:
        life = self.life(number)
        link: SenderLink | ReceiverLink = life.feed.link
        if receiver and life.sink is not None:
            link = life.sink.link
        link.detach(AmqpError(ErrorCondition.DETACH_FORCED, "by the machine") if error else None)

    @precondition(lambda self: self.sessions)
    @rule(number=which)
    def ends(self, number: int) -> None:
        self.sessions[number % len(self.sessions)][1].end()

    # -- deliveries ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.lives)
    @rule(number=which, credit=st.integers(1, 4))
    def grants(self, number: int, credit: int) -> None:
        sink = self.life(number).sink
        if sink is not None and sink.link.link_credit < 20:
            sink.link.grant(credit)

    @precondition(lambda self: self.lives)
    @rule(number=which)
    def drains(self, number: int) -> None:
        sink = self.life(number).sink
        if sink is not None and sink.link.remote_attached:
            sink.link.request_drain()

    @precondition(lambda self: self.lives)
    @rule(number=which, size=st.sampled_from([0, 1, 470, 480, 1500]), settled=st.booleans(), count=st.integers(1, 4))
    def sends(self, number: int, size: int, settled: bool, count: int) -> None:
        life = self.life(number)
        for _ in range(count):
            payload = bytearray(b"%d-%d:" % (number, len(life.sent)) + b"x" * size)
            life.sent.append((life.feed.send(bytes(payload), settled=settled), payload))

    @precondition(lambda self: self.lives)
    @rule(number=which, size=st.sampled_from([0, 600]), outcome=outcomes, count=st.integers(1, 4))
    def are_sent_and_settled(self, number: int, size: int, outcome: object, count: int) -> None:
        """The usual way of things, which chance alone seldom finds."""
        self.grants(number, count)
        self.sends(number, size, False, count)
        self.comes_to_rest()
        for delivery in range(count):
            self.settles(number, -1 - delivery, outcome)
        self.comes_to_rest()

    @precondition(lambda self: self.lives)
    @rule(number=which, settled=st.booleans())
    def begins_a_delivery(self, number: int, settled: bool) -> None:
        life = self.life(number)
        if life.growing is None:
            payload = bytearray(b"%d+%d:" % (number, len(life.sent)))
            life.growing = (life.feed.send(bytes(payload), settled=settled, more=True), payload)
            life.sent.append(life.growing)

    @precondition(lambda self: self.lives)
    @rule(number=which, size=st.sampled_from([0, 3, 600]), last=st.booleans())
    def goes_on(self, number: int, size: int, last: bool) -> None:
        life = self.life(number)
        if life.growing is not None:
            delivery, payload = life.growing
            payload += b"y" * size
            life.feed.more(delivery, b"y" * size, last=last)
            if last:
                life.growing = None

    @precondition(lambda self: self.lives)
    @rule(number=which)
    def gives_up(self, number: int) -> None:
        life = self.life(number)
        if life.growing is not None and life.feed.link.current is life.growing[0]:
            life.given_up.append(life.growing[0])
            life.growing = None
            life.feed.link.abort_current()

    @precondition(lambda self: self.lives)
    @rule(number=which, delivery=which, outcome=outcomes)
    def settles(self, number: int, delivery: int, outcome: object) -> None:
        sink = self.life(number).sink
        if sink is not None and sink.received:
            chosen = sink.received[delivery % len(sink.received)]
            if self.second and outcome is not None:
                sink.link.update(chosen, outcome)
            else:
                sink.link.settle(chosen, outcome)

    @precondition(lambda self: self.lives)
    @rule(number=which, delivery=which)
    def tells_how_far_it_is(self, number: int, delivery: int) -> None:
        sink = self.life(number).sink
        if sink is not None and sink.received and not self.second:
            chosen = sink.received[delivery % len(sink.received)]
            sink.link.update(chosen, Received(section_number=0, section_offset=len(chosen.data())))

    @precondition(lambda self: self.lives)
    @rule(number=which, delivery=which)
    def settles_as_sender(self, number: int, delivery: int) -> None:
        life = self.life(number)
        if life.sent:
            chosen = life.sent[delivery % len(life.sent)][0]
            if chosen.sender is not None and not chosen.more:
                life.feed.link.update(chosen, ACCEPTED, True)

    # -- always --------------------------------------------------------------------------------------------------

    @invariant()
    def nobody_complains(self) -> None:
        for endpoint in (self.left, self.right):
            connection = endpoint.connection
            assert not connection.close_sent
            assert not connection.closed
            for session in connection.sessions:
                if session.end_sent:
                    continue
                assert session.incoming_window >= 0
                assert session.remote_incoming_window >= 0
                for link in session.links.values():
                    assert link.link_credit >= 0
        for life in self.lives:
            sink = life.sink
            if sink is not None:
                payloads = [bytes(payload) for _, payload in life.sent]
                # In order, none twice, none that was not sent.
                rest = iter(payloads)
                assert all(any(body == payload for payload in rest) for body in sink.bodies)

    def teardown(self) -> None:
        if hasattr(self, "left"):
            self.comes_to_rest()
            self.left.connection.close()
            for _ in range(10):
                for endpoint in (self.left, self.right):
                    self.write(endpoint, 65536)
                    self.hand_over(endpoint, 1 << 20)
            assert self.left.connection.closed
            assert self.right.connection.closed


TestTwoEngines = TwoEngines.TestCase
TestTwoEngines.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
