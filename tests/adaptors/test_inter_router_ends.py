"""What ends, and what goes on: a priority's link, a control link, a session, the connection."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adaptors.routers import Line, Routers, neighbor_of
from tests.amqp.peer import condition, decode_frames
from van.adaptors.inter_router import InterRouterAdaptor
from van.amqp.delivery_state import ACCEPTED
from van.amqp.errors import AmqpLinkError, ErrorCondition
from van.amqp.link import Link
from van.amqp.performatives import Close
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sasl import AnonymousClient, SaslClient
from van.amqp.sender_link import SenderLink
from van.routing.neighbor import ControlReceiver, ControlSender
from van.routing.router import LinkOwner, Router


class Witness(dict[Link, LinkOwner]):
    """The links of an adaptor; notes how many neighbours its router has whenever a link goes."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self.router = router
        self.neighbors_left: list[int] = []

    def pop(self, link: Link, *default: Any) -> Any:
        self.neighbors_left.append(len(self.router.neighbors))
        return super().pop(link, *default)


def line_of_two() -> Line:
    network = Routers()
    return network.connect(network.router("B"), network.router("A"))


def control(adaptor: InterRouterAdaptor, kind: type) -> Link:
    (link,) = [link for link, owner in adaptor.links.items() if isinstance(owner, kind)]
    return link


def closes(octets: bytes) -> list[Close]:
    return [frame.body for frame in decode_frames(octets) if isinstance(frame.body, Close)]


def sides(line: Line, accepting: bool) -> tuple[InterRouterAdaptor, InterRouterAdaptor]:
    return (line.accepting, line.calling) if accepting else (line.calling, line.accepting)


@pytest.mark.parametrize("accepting", [False, True])
def test_a_priority_whose_link_is_detached_takes_the_next_lower(accepting: bool) -> None:
    line = line_of_two()
    here, there = sides(line, accepting)
    link = neighbor_of(here).by_priority[4].link
    here.forget(link)
    line.network.run()
    for side in (here, there):
        neighbor = neighbor_of(side)
        assert neighbor.up
        assert not side.connection.close_sent
    assert neighbor_of(here).by_priority[4].link.priority == 3
    assert [each.link.priority for each in neighbor_of(there).by_priority] == list(range(10))


@pytest.mark.parametrize("kind", [ControlReceiver, ControlSender])
def test_a_listener_that_gives_up_a_control_link_is_called_anew(kind: type) -> None:
    line = line_of_two()
    line.accepting.log("info", "scene", step="the listener's side detaches")
    link = control(line.accepting, kind)
    link.detach(AmqpLinkError(ErrorCondition.DETACH_FORCED, "enough"))
    line.network.run()
    (close,) = closes(line.to_accepting)
    assert condition(close) == "amqp:connection:forced"
    assert "a control link was detached amqp:link:detach-forced enough" in line.calling.reason
    for adaptor in (line.calling, line.accepting):
        assert adaptor.neighbor is None
        assert not adaptor.router.neighbors
        assert not adaptor.links
        assert adaptor.closed
    assert line.calling.refusal == ""


@pytest.mark.parametrize("kind", [ControlReceiver, ControlSender])
def test_a_connector_may_give_up_the_control_links_and_end_what_is_under_way(kind: type) -> None:
    line = line_of_two()
    link = control(line.calling, kind)
    link.detach()
    line.network.run()
    assert line.accepting.neighbor is None
    assert not line.accepting.router.neighbors
    assert not line.accepting.connection.close_sent
    assert sum(isinstance(each, ReceiverLink) for each in line.accepting.links) >= 10


def test_a_connector_that_breaks_the_rules_on_a_control_link_is_told_to_come_again() -> None:
    line = line_of_two()
    link = control(line.calling, ControlSender)
    link.detach(AmqpLinkError(ErrorCondition.INTERNAL_ERROR, "confused"))
    line.network.run()
    assert condition(closes(line.to_calling)[0]) == "amqp:connection:forced"
    assert line.accepting.neighbor is None


@pytest.mark.parametrize("accepting", [False, True])
def test_links_are_not_resumed(accepting: bool) -> None:
    line = line_of_two()
    here, _ = sides(line, accepting)
    link = neighbor_of(here).by_priority[2].link
    link.detach(None, closed=False)
    line.network.run()
    (close,) = closes(line.to_accepting if accepting else line.to_calling)[:1]
    assert condition(close) == "amqp:not-implemented"
    assert line.accepting.closed
    assert line.calling.closed


@pytest.mark.parametrize("accepting", [False, True])
def test_the_session_of_a_priority_ends_alone(accepting: bool) -> None:
    line = line_of_two()
    here, there = sides(line, accepting)
    session = neighbor_of(here).by_priority[4].link.session
    session.end()
    line.network.run()
    assert neighbor_of(there).up
    assert not there.connection.close_sent
    assert len(there.links) == 20
    assert neighbor_of(there).by_priority[4].link.priority == 3


@pytest.mark.parametrize("accepting", [False, True])
def test_with_the_session_of_the_control_links_the_neighbour_is_lost(accepting: bool) -> None:
    line = line_of_two()
    here, there = sides(line, accepting)
    control(here, ControlSender).session.end()
    line.network.run()
    assert there.neighbor is None
    assert not there.router.neighbors
    # Only a new connection of who connects brings control links again.
    assert there.connection.close_sent is accepting


@pytest.mark.parametrize("how", ["cut", "close", "give back"])
def test_the_core_hears_of_it_before_the_links_go(how: str) -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    adaptor = b.call()
    adaptor.links = witness = Witness(b.router)
    line = network.wire(adaptor, a.accept())
    assert len(b.router.neighbors) == 1
    if how == "cut":
        line.cut()
    elif how == "close":
        adaptor.close(ErrorCondition.CONNECTION_FORCED, "enough")
    else:
        adaptor.give_back()
    assert len(witness.neighbors_left) >= 10
    assert set(witness.neighbors_left) == {0}
    assert adaptor.neighbor is None


def test_nothing_is_left_of_a_lost_connection() -> None:
    line = line_of_two()
    assert line.calling.streams.open_stream() is not None
    line.network.run()
    line.cut()
    for adaptor in (line.calling, line.accepting):
        router = adaptor.router
        assert not adaptor.links
        assert not router.neighbors
        router.budget.recount()
        assert router.budget.spoken_for() == 0


def test_a_line_that_comes_again() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    first = network.connect(b, a)
    first.cut()
    second = network.connect(b, a)
    assert neighbor_of(second.accepting).up
    assert neighbor_of(second.calling).up
    assert all(link.link_credit > 0 for link in second.calling.links if isinstance(link, SenderLink))


def test_two_lines_of_the_same_routers_both_stay() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    lines = [network.connect(b, a), network.connect(a, b)]
    for line in lines:
        assert neighbor_of(line.calling).up
        assert neighbor_of(line.accepting).up
    assert len(a.router.neighbors) == len(b.router.neighbors) == 2


@pytest.mark.parametrize("how", ["silent", "cut"])
def test_of_two_lines_the_other_takes_over(how: str) -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    line = network.connect(b, a)
    network.connect(b, a)
    network.advance(1.0)
    receiver = b.client().receiver("q", credit=10)
    network.advance(1.0)
    sender = a.client().sender("q")
    sender.send(b"by the first")
    network.run()
    if how == "cut":
        line.cut()
    else:
        line.cut_off = True
        network.advance(5.0)
    sent = sender.send(b"by the other")
    network.run()
    assert receiver.bodies == [b"by the first", b"by the other"]
    assert sent.states == [ACCEPTED]


def test_no_memory_for_the_sessions() -> None:
    network = Routers()
    node = network.router("A")
    node.router.budget.limit = 4096
    adaptor = node.call(sasl=SaslClient([AnonymousClient()]))
    assert adaptor.closed
    assert "no memory left" in adaptor.reason
    adaptor.connection_lost(1.0)
    assert node.lines("connection failed")
