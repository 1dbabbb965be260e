"""One engine and a peer that writes legal and illegal frames in any order, while the owner does what owners do.

Nothing but AMQP errors: no exception, legal frames only, bounded memory; the end is always a connection that is closed,
or one that is consistent. More examples:
`VAN_MACHINE_EXAMPLES=2000 python -m pytest tests/amqp/test_machine_hostile_peer.py`.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fuzz.auditor import Auditor
from tests.amqp.pair import Endpoint
from tests.amqp.peer import begin, continued, flow, open_, receiving, sending, transfer
from tests.amqp.strategies import composite, values
from van.amqp.codec import encode_value
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified
from van.amqp.framing import AMQP_HEADER, EMPTY_FRAME, encode_frame
from van.amqp.performatives import (
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    End,
    Flow,
    Open,
    Transfer,
)
from van.amqp.session import WindowPolicy

EXAMPLES = int(os.environ.get("VAN_MACHINE_EXAMPLES", "60"))
LAST = 0xFFFFFFFF

channels = st.sampled_from([0, 0, 0, 1, 2, 9])
handles = st.sampled_from([0, 0, 1, 1, 2, 5, 99])
ids = st.sampled_from([0, 1, 2, 3, 10, LAST, LAST - 1, 0x7FFFFFFF, 0x80000000])
flags = st.booleans()
which = st.integers(0, 1000)
states = st.sampled_from([None, ACCEPTED, RELEASED, Modified()])
# Drawn in two steps, which keeps what hypothesis says of a rule short.
kinds = st.sampled_from([Open, Begin, Attach, Flow, Transfer, Disposition, Detach, End, Close])
performatives = kinds.flatmap(composite)
anything = st.just(0).flatmap(lambda _: values())


class HostilePeer(RuleBasedStateMachine):
    """The engine is opened, begun and attached both ways; then anything goes."""

    @initialize(
        credit=st.integers(0, 5), outcome=states, replenish=flags, frame_size=st.sampled_from([512, 5000]), early=flags
    )
    def connect(self, credit: int, outcome: object, replenish: bool, frame_size: int, early: bool) -> None:
        self.now = 0.0
        self.engine = Endpoint(
            credit=credit,
            outcome=outcome,
            replenish=replenish,
            max_frame_size=2048,
            channel_max=3,
            handle_max=7,
            idle_timeout=10.0,
            window_policy=WindowPolicy(8),
        )
        self.auditor = Auditor()
        self.max_frame_size = frame_size
        self.waiting = b""
        self.give(AMQP_HEADER)
        if not early:
            self.give(encode_frame(0, open_(max_frame_size=frame_size, idle_time_out=3000).encode()))
            for body in (begin(incoming_window=10), sending("out", 0), receiving("in", 1)):
                self.give(encode_frame(0, body.encode()))
            self.give(encode_frame(0, flow(handle=1, delivery_count=0, link_credit=3).encode()))

    def give(self, data: bytes) -> None:
        self.engine.receive(self.waiting + data, self.now)
        self.waiting = b""

    @rule()
    def holds_back(self) -> None:
        """The next frame comes in one batch with the one after it."""
        self.waiting = EMPTY_FRAME

    def frame(self, body: Any, channel: int = 0, payload: bytes = b"") -> None:
        if self.waiting:
            self.waiting += encode_frame(channel, body.encode() + payload)
            if len(self.waiting) < 100:
                return
            self.give(b"")
        else:
            self.give(encode_frame(channel, body.encode() + payload))

    # -- the peer ------------------------------------------------------------------------------------------------

    @rule(channel=channels, body=performatives)
    def any_performative(self, channel: int, body: Any) -> None:
        self.frame(body, channel, b"payload" if isinstance(body, Transfer) else b"")

    @rule(channel=channels, value=anything)
    def any_value(self, channel: int, value: object) -> None:
        out = bytearray()
        encode_value(value, out)
        self.give(encode_frame(channel, bytes(out[:2000])))

    @rule(octets=st.binary(max_size=20), framed=flags)
    def any_octets(self, octets: bytes, framed: bool) -> None:
        self.give(encode_frame(0, octets) if framed else octets)

    @rule(channel=channels, window=st.sampled_from([0, 3, LAST]))
    def begins(self, channel: int, window: int) -> None:
        self.frame(begin(incoming_window=window), channel)

    @rule(channel=channels, answered=st.integers(0, 3))
    def answers_a_begin(self, channel: int, answered: int) -> None:
        self.frame(begin(remote_channel=answered), channel)

    @rule(channel=channels, handle=handles, name=st.sampled_from(["in", "out", "ours", "more"]), receives=flags)
    def attaches(self, channel: int, handle: int, name: str, receives: bool) -> None:
        self.frame((receiving if receives else sending)(name, handle), channel)

    @rule(handle=handles, number=ids, more=flags, settled=flags, aborted=flags, size=st.sampled_from([0, 9, 1000]))
    def sends(self, handle: int, number: int, more: bool, settled: bool, aborted: bool, size: int) -> None:
        body, payload = transfer(number, b"x" * size, handle=handle, more=more, settled=settled, aborted=aborted)
        self.frame(body, 0, payload)

    @rule(handle=handles, more=flags, aborted=flags)
    def goes_on(self, handle: int, more: bool, aborted: bool) -> None:
        body, payload = continued(handle=handle, more=more, aborted=aborted)
        self.frame(body, 0, payload)

    @rule(role=flags, first=ids, last=st.none() | ids, settled=flags, state=states)
    def disposes(self, role: bool, first: int, last: int | None, settled: bool, state: Any) -> None:
        self.frame(Disposition(role=role, first=first, last=last, settled=settled, state=state))

    @rule(handle=st.none() | handles, count=st.none() | ids, credit=st.none() | ids, drain=flags, echo=flags, seen=ids)
    def flows(
        self, handle: int | None, count: int | None, credit: int | None, drain: bool, echo: bool, seen: int
    ) -> None:
        self.frame(
            flow(
                handle=handle, delivery_count=count, link_credit=credit, drain=drain, echo=echo, next_incoming_id=seen
            )
        )

    @rule(handle=handles, closed=flags)
    def detaches(self, handle: int, closed: bool) -> None:
        self.frame(Detach(handle=handle, closed=closed))

    @rule(channel=channels)
    def ends(self, channel: int) -> None:
        self.frame(End(), channel)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 11.0]))
    def is_silent(self, seconds: float) -> None:
        self.now += seconds
        connection = self.engine.connection
        if connection.next_deadline() <= self.now:
            self.engine.deadline(self.now)
            assert connection.next_deadline() > self.now

    # -- the owner -----------------------------------------------------------------------------------------------

    @rule(number=which, size=st.sampled_from([0, 10, 3000]), settled=flags, more=flags)
    def owner_sends(self, number: int, size: int, settled: bool, more: bool) -> None:
        feeds = list(self.engine.feeds.values())
        if feeds:
            feeds[number % len(feeds)].send(b"y" * size, settled=settled, more=more)

    @rule(number=which)
    def owner_aborts(self, number: int) -> None:
        feeds = list(self.engine.feeds.values())
        if feeds:
            feeds[number % len(feeds)].link.abort_current()

    @rule(number=which, state=states, settled=flags)
    def owner_settles(self, number: int, state: object, settled: bool) -> None:
        for sink in self.engine.sinks.values():
            for delivery in sink.received[: number % 4]:
                if settled:
                    sink.link.settle(delivery, state)
                else:
                    sink.link.update(delivery, state)

    @rule(number=which, drain=flags)
    def owner_grants(self, number: int, drain: bool) -> None:
        for sink in self.engine.sinks.values():
            if drain:
                sink.link.request_drain()
            else:
                sink.link.grant(number % 3)

    @precondition(lambda self: self.engine.connection.remote_open is not None)
    @rule(sends=flags)
    def owner_attaches(self, sends: bool) -> None:
        session = next((session for session in self.engine.connection.begun_sessions() if not session.end_sent), None)
        if session is not None and len(session.links) < 5:
            (self.engine.sender if sends else self.engine.receiver)(session, "ours")

    @rule(number=which)
    def owner_detaches(self, number: int) -> None:
        for session in self.engine.connection.sessions:
            for link in list(session.links.values())[: number % 2]:
                link.detach()

    @rule(limit=st.sampled_from([1, 600, 65536]))
    def engine_writes(self, limit: int) -> None:
        written = b"".join(self.engine.connection.data_to_send(limit))
        remote = self.engine.connection.remote_open
        self.auditor.max_frame_size = max(512, remote.max_frame_size) if remote is not None else 512
        self.auditor.take(written)

    # -- always --------------------------------------------------------------------------------------------------

    @invariant()
    def consistent(self) -> None:
        connection = self.engine.connection
        assert len(connection.sessions) <= 4
        for session in connection.sessions:
            if session.end_sent:
                continue
            assert session.incoming_window >= 0
            assert session.remote_incoming_window >= 0
            assert len(session.remote_handles) <= 8
            assert len(session.starved) <= 8
            assert len(session.flows) <= 16
            for link in (*session.links.values(), *session.remote_handles.values()):
                assert link.link_credit >= 0
                assert link.session is session

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        self.engine.eof(self.now)
        assert self.engine.connection.closed
        self.engine_writes(1 << 20)
        assert self.auditor.rest == b""


TestHostilePeer = HostilePeer.TestCase
TestHostilePeer.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
