"""Begin and End (2.5.1, 2.5.3, 2.5.4): either side, crossing, with errors, and channels that are used again."""

from __future__ import annotations

import pytest

from tests.amqp.pair import Endpoint, opened
from tests.amqp.peer import (
    Peer,
    begin,
    condition,
    flow,
    open_,
    receiver_from,
    receiving,
    sender_to,
    sending,
    transfer,
)
from van.amqp.delivery_state import Error
from van.amqp.errors import AmqpError, AmqpSessionError, ErrorCondition
from van.amqp.events import LinkDetached, SessionBegun, SessionEnded
from van.amqp.framing import AMQP_HEADER
from van.amqp.performatives import Attach, Begin, Close, Detach, Disposition, End, Flow, Transfer
from van.amqp.session import WindowPolicy


class NoRoom(WindowPolicy):
    """A router whose memory is spoken for."""

    __slots__ = ()

    def begin(self, session: object) -> int:
        return 0


def test_a_session_of_the_peers_is_begun_and_ended(octets: bool) -> None:
    peer = Peer(octets=octets).open()
    peer.send(begin(), channel=3)
    answer = peer.one(Begin)
    assert answer.remote_channel == 3
    assert answer.incoming_window > 0
    peer.send(End(), channel=3)
    assert peer.one(End).error is None
    assert len(peer.engine.seen(SessionEnded)) == 1
    assert peer.engine.connection.sessions == []


def test_a_session_of_ours_is_begun_and_ended(octets: bool) -> None:
    pair = opened(octets=octets)
    session = pair.left.begin()
    pair.run()
    assert [event.answer for event in pair.left.seen(SessionBegun)] == [True]
    assert [event.answer for event in pair.right.seen(SessionBegun)] == [False]
    session.end(AmqpError(ErrorCondition.INTERNAL_ERROR, "why"))
    session.end()
    pair.run()
    (ended,) = pair.right.seen(SessionEnded)
    assert (ended.condition, ended.description) == (ErrorCondition.INTERNAL_ERROR, "why")
    assert pair.left.seen(SessionEnded) == []
    assert pair.left.connection.sessions == pair.right.connection.sessions == []


def test_a_session_that_never_began_ends_in_silence() -> None:
    peer = Peer().open()
    peer.engine.connection.session().end()
    assert peer.take() == []


def test_the_channel_of_an_ended_session_serves_again(octets: bool) -> None:
    peer = Peer(octets=octets).open()
    for _ in range(3):
        peer.send(begin(), sending(), End())
        assert [type(body) for body in peer.take() if type(body) in (Begin, End)] == [Begin, End]
    peer.send(begin(), End(), begin(), End(), begin())
    answer = peer.take()
    assert [type(body) for body in answer] == [Begin, End, Begin, End, Begin]
    assert [body.remote_channel for body in answer if isinstance(body, Begin)] == [0, 0, 0]


def test_ends_cross(octets: bool) -> None:
    pair = opened(octets=octets)
    session = pair.left.begin()
    pair.run()
    session.end()
    pair.right.connection.sessions[0].end()
    pair.run()
    assert pair.left.connection.sessions == pair.right.connection.sessions == []
    assert not pair.left.connection.close_sent
    assert not pair.right.connection.close_sent


def test_a_session_may_be_ended_before_its_begin_is_answered(octets: bool) -> None:
    pair = opened(octets=octets)
    pair.left.begin().end()
    pair.run()
    assert pair.left.connection.sessions == pair.right.connection.sessions == []
    assert not pair.left.connection.close_sent


def test_what_was_under_way_when_we_ended_a_session_is_thrown_away(octets: bool) -> None:
    engine = Endpoint(credit=10)
    peer = sender_to(engine, octets=octets)
    engine.connection.sessions[0].end(AmqpError(ErrorCondition.INTERNAL_ERROR))
    peer.take()
    peer.send(transfer(0), flow(echo=True), Disposition(role=True, first=0), sending("other", 1), Detach(handle=7))
    assert peer.take() == []
    assert engine.sinks["link"].received == []
    peer.send(End())
    assert engine.connection.sessions == []


def test_nothing_is_written_on_a_session_that_we_have_ended() -> None:
    peer = receiver_from().attach(sending("in", 1))
    peer.send(flow(handle=0, link_credit=10))
    engine = peer.engine
    session = engine.connection.sessions[0]
    engine.feeds["link"].send(b"too late")
    session.end()
    engine.feeds["link"].send(b"later")
    engine.feeds["link"].link.detach()
    engine.sinks["in"].link.grant(5)
    session.sender("new").attach(sending("new"))
    assert [type(body) for body in peer.take()] == [End]


def test_sessions_ended_in_the_middle_of_many_frames_leave_the_others_alone(octets: bool) -> None:
    engine = Endpoint(credit=10)
    peer = Peer(engine, octets=octets).open().begin(0).begin(1)
    peer.attach(sending("a", 0), channel=0).attach(sending("b", 0), channel=1)
    peer.send(transfer(0, b"1"), transfer(1, more=True), End(), channel=0)
    peer.send(transfer(0, b"2"), channel=1)
    assert engine.sinks["a"].bodies == [b"1"]
    assert engine.sinks["b"].bodies == [b"2"]
    assert not engine.connection.close_sent


def test_an_errant_frame_ends_its_session_only(octets: bool) -> None:
    engine = Endpoint(credit=10)
    peer = Peer(engine, octets=octets).open().begin(0).begin(1)
    peer.attach(sending("b", 0), channel=1)
    peer.send(transfer(0, handle=5), channel=0)
    end = peer.one(End)
    assert condition(end) == ErrorCondition.UNATTACHED_HANDLE
    (ended,) = engine.seen(SessionEnded)
    assert ended.condition == ErrorCondition.UNATTACHED_HANDLE
    peer.send(transfer(0, b"2"), channel=1)
    assert engine.sinks["b"].bodies == [b"2"]
    peer.send(End(), channel=0)
    assert len(engine.connection.sessions) == 1


def test_an_error_before_we_answered_the_begin_is_one_begin_and_one_end() -> None:
    peer = Peer().open()
    peer.send(begin(), transfer(0))
    answer = peer.take()
    assert [type(body) for body in answer] == [Begin, End]
    peer.send(End())
    assert peer.engine.connection.sessions == []


def test_without_room_for_its_window_a_session_is_begun_and_ended(octets: bool) -> None:
    peer = Peer(Endpoint(window_policy=NoRoom()), octets=octets).open()
    peer.send(begin())
    answer, end = peer.take()
    assert isinstance(answer, Begin)
    assert condition(end) == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
    peer.send(End())
    assert peer.engine.connection.sessions == []


def test_without_room_an_error_in_the_same_batch_is_no_second_answer() -> None:
    peer = Peer(Endpoint(window_policy=NoRoom())).open()
    peer.send(begin(), transfer(0))
    assert [type(body) for body in peer.take()] == [Begin, End]


@pytest.mark.parametrize(
    "frame", [sending(), flow(), transfer(0), Disposition(role=True, first=0), Detach(handle=0), End()]
)
def test_a_frame_on_a_channel_without_session_closes_the_connection(frame: Attach, octets: bool) -> None:
    peer = Peer(octets=octets).open().begin(0)
    peer.send(frame, channel=1)
    close = peer.one(Close)
    assert condition(close) == ErrorCondition.NOT_ALLOWED
    assert "channel 1" in close.error.description


def test_a_frame_behind_the_peers_own_end_closes_the_connection(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin()
    peer.send(End(), flow())
    assert condition(peer.take()[-1]) == ErrorCondition.NOT_ALLOWED


def test_a_second_begin_on_a_channel_closes_the_connection(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin()
    peer.send(begin())
    assert condition(peer.one(Close)) == ErrorCondition.NOT_ALLOWED


@pytest.mark.parametrize("answered", [0, 1, 77])
def test_an_answer_to_a_begin_that_we_did_not_write_closes_the_connection(answered: int, octets: bool) -> None:
    peer = Peer(octets=octets).open().begin(5)
    peer.send(begin(remote_channel=answered), channel=1)
    assert condition(peer.one(Close)) == ErrorCondition.INVALID_FIELD


def test_the_error_of_an_end_is_told(octets: bool) -> None:
    peer = Peer(octets=octets).open().begin()
    peer.send(End(error=Error(condition="amqp:session:errant-link")))
    (ended,) = peer.engine.seen(SessionEnded)
    assert (ended.condition, ended.description) == ("amqp:session:errant-link", "")


def test_names_and_handles_of_an_ended_session_are_free(octets: bool) -> None:
    peer = sender_to(octets=octets)
    peer.send(End(), begin(), sending())
    answer = [body for body in peer.take() if isinstance(body, (Attach, Detach))]
    assert [type(body) for body in answer] == [Attach]
    assert peer.engine.seen(LinkDetached) == []


def test_a_name_is_free_once_its_session_was_ended_by_us() -> None:
    peer = sender_to(Endpoint(credit=1))
    session = peer.engine.connection.sessions[0]
    session.end()
    peer.take()
    peer.begin(channel=1)
    peer.send(sending(), channel=1)
    assert [type(body) for body in peer.take()] == [Attach, Flow]


def test_we_begin_as_many_sessions_as_the_peer_allows() -> None:
    peer = Peer().open(channel_max=2)
    first = peer.engine.begin()
    peer.engine.begin()
    peer.engine.begin()
    with pytest.raises(AmqpSessionError) as caught:
        peer.engine.begin()
    assert caught.value.condition == ErrorCondition.RESOURCE_LIMIT_EXCEEDED
    frames = peer.frames()
    assert [frame.channel for frame in frames] == [0, 1, 2]
    peer.send(begin(remote_channel=0), channel=0)
    first.end()
    peer.send(End(), channel=0)
    assert peer.engine.begin().local_channel == 0


def test_a_flow_before_our_begin_is_answered_counts_from_our_first_id(octets: bool) -> None:
    peer = Peer(octets=octets)
    peer.send(AMQP_HEADER, open_(), begin(), receiving(), flow(next_incoming_id=None, handle=0, link_credit=3))
    feed = peer.engine.feeds["link"]
    assert feed.link.link_credit == 3
    feed.send(b"1")
    assert [type(body) for body in peer.take() if isinstance(body, Transfer)] == [Transfer]


def test_an_echo_asked_before_our_begin_is_answered_behind_it() -> None:
    engine = Endpoint(answers=False)
    peer = Peer(engine)
    peer.send(AMQP_HEADER, open_(), begin(), flow(next_incoming_id=None, echo=True))
    engine.connection.open()
    peer.take()
    engine.connection.sessions[0].begin()
    answer, echoed = peer.take()
    assert isinstance(answer, Begin)
    assert isinstance(echoed, Flow)
    assert echoed.next_incoming_id == 0
