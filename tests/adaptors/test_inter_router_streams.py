"""Large deliveries take links of their own, which either side opens; a peer may have connections for nothing else."""

from __future__ import annotations

import pytest

from tests.adaptors.routers import (
    Line,
    RouterPeer,
    Routers,
    attach,
    bodies,
    detached,
    feed,
    neighbor_of,
    recorded,
)
from tests.amqp.peer import begin, decode_frames, open_
from van.adaptors import streams as streaming
from van.adaptors.amqp import ConnectionSettings
from van.adaptors.inter_router import InterRouterAdaptor
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Attach, Begin, Detach
from van.amqp.sasl import SaslServer, anonymous
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Source, Target
from van.amqp.types import Int
from van.routing.router_link import RouterIncomingLink, RouterOutgoingLink


def line_of_two() -> Line:
    network = Routers()
    return network.connect(network.router("B"), network.router("A"))


def opened(adaptor: InterRouterAdaptor) -> RouterOutgoingLink:
    stream = adaptor.streams.open_stream()
    assert stream is not None
    return stream


@pytest.mark.parametrize("accepting", [False, True])
def test_either_side_opens_a_link_in_a_session_of_its_own(accepting: bool) -> None:
    line = line_of_two()
    here, there = (line.accepting, line.calling) if accepting else (line.calling, line.accepting)
    streams = [opened(here) for _ in range(3)]
    assert neighbor_of(here).stream_links == streams
    line.network.run()
    assert len({stream.link.session for stream in streams}) == 3
    assert all(stream.link.link_credit == 250 for stream in streams)
    said = decode_frames(line.to_calling if accepting else line.to_accepting)
    (attached, *_) = [frame for frame in said if isinstance(frame.body, Attach)][-3:]
    assert (attached.channel, attached.body.name[:7]) == (11, "qdlink.")
    assert attached.body.source == Source(expiry_policy="link-detach", capabilities=["qd.router-data"])
    assert attached.body.target == Target(expiry_policy="link-detach", capabilities=["qd.router-data"])
    # Nobody sends to us by these sessions.
    windows = [frame.body.incoming_window for frame in said if isinstance(frame.body, Begin) and frame.channel > 10]
    assert windows == [2, 2, 2]
    assert sum(isinstance(owner, RouterIncomingLink) for owner in there.links.values()) == 13
    # They are the peer's: it is not for us to send by them.
    assert not neighbor_of(there).stream_links


def test_a_session_whose_link_was_closed_is_used_again() -> None:
    line = line_of_two()
    first, second = opened(line.calling), opened(line.calling)
    line.network.run()
    session = first.link.session
    line.calling.streams.close_stream(first)
    assert neighbor_of(line.calling).stream_links == [second]
    line.network.run()
    assert first.link not in line.calling.links
    assert len(line.accepting.links) == 22 + 1
    third = opened(line.calling)
    assert third.link.session is session
    line.network.run()
    assert third.link.link_credit == 250


def test_beyond_so_many_sessions_streams_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "MAX_STREAM_SESSIONS", 2)
    line = line_of_two()
    streams = [opened(line.calling) for _ in range(5)]
    line.network.run()
    sessions = [stream.link.session for stream in streams]
    assert sessions == [sessions[0], sessions[1], sessions[0], sessions[1], sessions[0]]
    assert [stream.link.handle for stream in streams] == [0, 0, 1, 1, 2]


def test_a_peer_that_leaves_no_channel_has_its_streams_in_what_there_is() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    settings = ConnectionSettings(idle_timeout=0.0, max_sessions=13)
    line = network.wire(b.call(), a.accept(settings=settings))
    streams = [opened(line.calling) for _ in range(3)]
    network.run()
    assert [stream.link.session.local_channel for stream in streams] == [11, 12, 11]
    assert not line.calling.connection.close_sent


def test_a_peer_that_leaves_no_channel_at_all_has_no_streams() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    settings = ConnectionSettings(idle_timeout=0.0, max_sessions=11)
    line = network.wire(b.call(), a.accept(settings=settings))
    assert line.calling.streams.open_stream() is None


def test_a_peer_that_leaves_no_handle_has_no_more_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "MAX_STREAM_SESSIONS", 1)
    peer = RouterPeer(Routers().router("A"))
    assert peer.adaptor.streams.open_stream() is not None
    peer.send(begin(remote_channel=0, handle_max=0))
    assert peer.adaptor.streams.open_stream() is None
    assert len(neighbor_of(peer.adaptor).stream_links) == 1


def test_there_is_a_limit() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    settings = ConnectionSettings(idle_timeout=0.0, max_links=60)
    line = network.wire(b.call(settings=settings), a.accept(settings=settings))
    streams = [line.calling.streams.open_stream() for _ in range(31)]
    assert streams[29] is not None
    assert streams[30] is None


def test_no_streams_on_a_connection_that_is_over() -> None:
    line = line_of_two()
    stream = opened(line.calling)
    line.network.run()
    streams = line.calling.streams
    line.cut()
    assert streams.open_stream() is None
    assert stream.link not in line.calling.links


def test_a_stream_link_that_the_peer_detaches_is_gone() -> None:
    line = line_of_two()
    stream = opened(line.calling)
    line.network.run()
    (theirs,) = [link for link in line.accepting.links if link.name == stream.link.name]
    line.accepting.forget(theirs)
    line.network.run()
    assert not neighbor_of(line.calling).stream_links
    assert stream.link not in line.calling.links
    assert opened(line.calling).link.session is stream.link.session


def test_a_stream_session_that_the_peer_ends_is_not_used_again() -> None:
    line = line_of_two()
    stream = opened(line.calling)
    line.network.run()
    (theirs,) = [link for link in line.accepting.links if link.name == stream.link.name]
    theirs.session.end()
    line.network.run()
    assert not neighbor_of(line.calling).stream_links
    again = opened(line.calling)
    assert again.link.session is not stream.link.session
    line.network.run()
    assert again.link.link_credit == 250


# --- data connections of a peer


def data_connection(node_name: str = "A") -> RouterPeer:
    return RouterPeer(Routers().router(node_name), **DATA)


DATA: dict[str, object] = {"qd.inter-router-role": Int(4), "qd.group-correlator": "cgJaitS5XjiMtKv"}


@pytest.mark.parametrize("octets", [False, True])
def test_the_recorded_data_connection_is_taken_before_its_control_connection(octets: bool) -> None:
    node = Routers().router("A")
    data = node.accept(sasl=SaslServer([anonymous()]))
    # Without what answers the links of the recorded listener.
    attached = next(frame for frame in bodies(recorded("cap-x.0.c2s.bin"), Attach))
    frames = recorded("cap-x.0.c2s.bin")[:7]
    said = feed(data, frames, octets)
    assert data.role == "inter-router-data"
    assert data.peer is not None
    assert (data.peer.data, data.peer.correlator, data.cost) == (True, "cgJaitS5XjiMtKv", 3)
    assert detached(said) == []
    (owner,) = data.links.values()
    assert isinstance(owner, RouterIncomingLink)
    assert owner.neighbor is None
    (answer,) = [frame.body for frame in said if isinstance(frame.body, Attach)]
    assert answer.name == attached.body.name
    assert answer.source == Source()
    assert answer.target == Target()
    assert owner.link.link_credit == 250
    assert data.neighbor is None
    assert not node.router.neighbors
    control = node.accept(sasl=SaslServer([anonymous()]))
    feed(control, [frame for frame in recorded("cap-x.2.c2s.bin") if frame[8:11] != b"\x00\x53\x14"], octets)
    assert neighbor_of(control).up


def test_a_data_connection_that_comes_later_belongs_to_the_neighbour() -> None:
    node = Routers().router("A")
    another = node.accept()
    another.receive_data(AMQP_HEADER + encode_frame(0, open_(container_id="C").encode()), 0.0)
    control = RouterPeer(node)
    adaptor = node.accept()
    opening = open_(container_id="B", properties={**DATA, "qd.annotations-version": Int(2)})
    link = Attach(name="s", handle=0, role=False, source=Source(), target=Target(), initial_delivery_count=0)
    for body in (opening, begin(), link):
        adaptor.receive_data((AMQP_HEADER if body is opening else b"") + encode_frame(0, body.encode()), 0.0)
    (owner,) = adaptor.links.values()
    assert isinstance(owner, RouterIncomingLink)
    assert owner.neighbor is neighbor_of(control.adaptor)


def test_what_a_data_connection_is_not_for() -> None:
    peer = data_connection()
    peer.send(begin())
    assert detached(peer.pair(0, "qd.router")) == ["qd:connection-role"] * 2
    # Data comes by it, and none goes.
    assert detached(peer.pair(10, "qd.router-data")) == ["qd:connection-role"]
    assert detached(peer.send(attach("r", 20, True, None, None))) == ["qd:connection-role"]
    named = Attach(name="q", handle=21, role=False, target=Target(address="q"), initial_delivery_count=0)
    assert detached(peer.send(named)) == ["qd:connection-role"]
    assert [type(link) for link in peer.adaptor.links if isinstance(link, SenderLink)] == []
    assert peer.adaptor.streams.open_stream() is None


def test_a_data_connection_that_is_lost_takes_no_neighbour_with_it() -> None:
    node = Routers().router("A")
    control = RouterPeer(node)
    data = node.accept()
    opening = open_(container_id="B", properties={**DATA, "qd.annotations-version": Int(2)})
    data.receive_data(AMQP_HEADER + encode_frame(0, opening.encode()), 0.0)
    data.connection_lost(1.0)
    assert control.adaptor.neighbor is not None
    assert list(node.router.neighbors.values()) == [control.adaptor.neighbor]


def test_the_other_dialect_is_refused_on_data_connections_too() -> None:
    peer = RouterPeer(Routers().router("A"), **{**DATA, "qd.annotations-version": Int(1)})
    peer.send(begin())
    assert detached(peer.send(attach("s", 0, False, None, None))) == ["amqp:not-implemented"]
    assert not [frame for frame in peer.said if isinstance(frame.body, Detach) and not frame.body.closed]
