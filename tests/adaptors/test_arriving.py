"""A connection that comes to one process and goes on in another: the peer notices nothing, whatever pieces it sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.amqp.peer import open_
from van.adaptors.amqp import AmqpAdaptor, ConnectionSettings
from van.adaptors.arriving import LONGEST_RECORD, ArrivingAdaptor, Record, replay
from van.amqp.connection import Connection
from van.amqp.framing import AMQP_HEADER, encode_frame
from van.amqp.performatives import Attach
from van.amqp.sasl import AnonymousClient, PlainClient, SaslClient, SaslServer, ServerMechanism, anonymous, plain
from van.amqp.terminus import Source, Target
from van.routing.budget import ByteBudget
from van.routing.router import Router


def sasl(name: str) -> tuple[SaslClient | None, SaslServer | None]:
    if name == "none":
        return None, None
    server: list[ServerMechanism] = [anonymous(), plain(lambda user, password: (user, password) == ("u", "p"))]
    client = AnonymousClient() if name == "ANONYMOUS" else PlainClient("u", "p")
    return SaslClient([client], hostname="here", allow_insecure_plain=True), SaslServer(server)


class Peer:
    """A client; `says` is what it wants to send."""

    def __init__(self, mechanism: str = "ANONYMOUS") -> None:
        client, _ = sasl(mechanism)
        self.connection = Connection("peer", accepting=False, sasl=client, now=0.0)
        self.connection.open()
        self.session = self.connection.session()
        self.session.begin()
        self.heard = b""

    def receiver(self, address: str | None, *, dynamic: bool = False) -> Any:
        link = self.session.receiver(f"from {address}")
        source = Source(address=address, dynamic=dynamic)
        link.attach(Attach(name="", handle=0, role=True, source=source, target=Target()))
        link.grant(5)
        return link

    def sender(self, address: str | None) -> Any:
        link = self.session.sender(f"to {address}")
        link.attach(
            Attach(
                name="", handle=0, role=False, source=Source(), target=Target(address=address), initial_delivery_count=0
            )
        )
        return link

    def says(self) -> bytes:
        said = b""
        while chunks := self.connection.data_to_send(65536):
            said += b"".join(chunks)
        return said

    def hear(self, octets: bytes) -> None:
        self.heard += octets
        self.connection.receive_data(octets, 0.0)


class Process:
    """One process: a router, and what its log says."""

    def __init__(self, memory: int = 256 << 20) -> None:
        self.logged: list[str] = []
        tokens = iter(range(1000))
        self.router = Router("R", tokens=lambda: str(next(tokens)), budget=ByteBudget(memory))
        self.lost = 0

    def log(self, level: str, event: str, **fields: object) -> None:
        self.logged.append(event)

    def gone(self) -> None:
        self.lost += 1

    def adaptor(
        self, mechanism: str, kind: Callable[..., AmqpAdaptor] = AmqpAdaptor, frame_size: int = 0, **options: Any
    ) -> AmqpAdaptor:
        _, server = sasl(mechanism)
        settings = ConnectionSettings(sasl_required=server is not None, max_frame_size=frame_size)
        return kind(self.router, settings, number=7, sasl=server, log=self.log, on_lost=self.gone, **options)


class Scene:
    """Two processes; `goal` is where a connection for an address should be, and `asked` what was asked about."""

    def __init__(self, mechanism: str = "ANONYMOUS", goal: object | None = "there") -> None:
        self.mechanism = mechanism
        self.goal = goal
        self.asked: list[tuple[str, bool]] = []
        self.departed: list[tuple[object, int, Record]] = []
        self.here, self.there = Process(), Process()
        self.adaptor = self.here.adaptor(mechanism, ArrivingAdaptor)
        assert isinstance(self.adaptor, ArrivingAdaptor)
        self.adaptor.may_go(self._elsewhere, lambda *what: self.departed.append(what))

    def _elsewhere(self, address: str, stays: bool) -> object | None:
        self.asked.append((address, stays))
        return None if stays else self.goal

    def talk(self, peer: Peer, cut: Callable[[bytes], list[bytes]]) -> bytes:
        """Until nobody has anything to say, or the connection departs; returns what the peer has said beyond that."""
        while True:
            pieces = cut(peer.says())
            for index, piece in enumerate(pieces):
                self.adaptor.receive_data(piece, 0.0)
                if self.adaptor.departs:
                    assert not self.adaptor.data_to_send(65536)
                    return b"".join(pieces[index + 1 :])
                flush(self.adaptor, peer)
            if not pieces and not flush(self.adaptor, peer):
                return b""

    def depart(self) -> AmqpAdaptor:
        """What the driver does, and what happens in the other process."""
        self.adaptor.depart(5)
        self.adaptor.departed = True
        self.adaptor.connection_lost(0.0)
        ((goal, descriptor, record),) = self.departed
        assert (goal, descriptor) == ("there", 5)
        again = self.there.adaptor(self.mechanism, frame_size=record.frame_size)
        assert replay(again, record, 0.0)
        return again


def flush(adaptor: AmqpAdaptor, peer: Peer) -> bool:
    moved = False
    while chunks := adaptor.data_to_send(65536):
        moved = True
        peer.hear(b"".join(chunks))
    return moved


def whole(octets: bytes) -> list[bytes]:
    return [octets] if octets else []


def octet_by_octet(octets: bytes) -> list[bytes]:
    return [octets[index : index + 1] for index in range(len(octets))]


@pytest.mark.parametrize("cut", [whole, octet_by_octet])
@pytest.mark.parametrize("mechanism", ["none", "ANONYMOUS", "PLAIN"])
def test_it_goes_on_in_the_other_process(mechanism: str, cut: Callable[[bytes], list[bytes]]) -> None:
    scene = Scene(mechanism)
    peer = Peer(mechanism)
    link = peer.receiver("orders")
    rest = scene.talk(peer, cut)
    assert scene.asked == [("orders", False)]
    again = scene.depart()
    flush(again, peer)
    if rest:
        again.receive_data(rest, 0.0)
    scene.there.router.wake_touched()
    flush(again, peer)
    assert link.remote.source.address == "orders"
    assert peer.connection.remote_open is not None
    assert len(scene.there.router.addresses["Morders"].outgoing) == 1
    assert not scene.here.router.addresses
    assert scene.there.logged == ["connection opened"]
    assert not scene.here.logged
    assert scene.here.lost == 1
    assert scene.here.router.budget.promised() == 0
    if mechanism == "PLAIN":
        assert again.connection.identity == "u"


@given(sizes=st.lists(st.integers(1, 60)), first=st.sampled_from(["sender", "receiver"]))
def test_in_whatever_pieces(sizes: list[int], first: str) -> None:
    def cut(octets: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        while octets:
            size = sizes[len(pieces) % len(sizes)] if sizes else len(octets)
            pieces.append(octets[:size])
            octets = octets[size:]
        return pieces

    scene = Scene()
    peer = Peer()
    links = [getattr(peer, first)("orders"), peer.receiver("back")]
    rest = scene.talk(peer, cut)
    again = scene.depart()
    flush(again, peer)
    if rest:
        again.receive_data(rest, 0.0)
    flush(again, peer)
    assert all(link.remote is not None for link in links)
    direct = Process().adaptor("ANONYMOUS")
    other = Peer()
    getattr(other, first)("orders")
    other.receiver("back")
    while said := other.says():
        direct.receive_data(said, 0.0)
        flush(direct, other)
    assert sorted(peer.heard) == sorted(other.heard)


@pytest.mark.parametrize("memory", [4 << 20, 64 << 20, 1 << 30])
def test_what_depends_on_memory_is_said_as_it_was(memory: int) -> None:
    scene = Scene()
    scene.there = Process(memory)
    peer = Peer()
    sessions = [peer.session, peer.connection.session()]
    sessions[1].begin()
    scene.talk(peer, whole)
    here = scene.adaptor.connection
    told = [session.window for session in here.begun_sessions()]
    assert len(told) == 2
    link = peer.sender("orders")
    scene.talk(peer, whole)
    again = scene.depart()
    assert again.connection.max_frame_size == here.max_frame_size
    flush(again, peer)
    assert [session.remote_incoming_window for session in sessions] == told
    assert link.remote is not None
    assert scene.there.router.budget.spoken_for() <= memory


def test_one_that_ends_a_session_first_stays() -> None:
    scene = Scene()
    peer = Peer()
    scene.talk(peer, whole)
    peer.session.end()
    scene.talk(peer, whole)
    assert scene.asked == [("", True)]
    peer.session = peer.connection.session()
    peer.session.begin()
    peer.sender("orders")
    scene.talk(peer, whole)
    assert scene.asked == [("", True)]
    assert "Morders" in scene.here.router.addresses


def test_one_that_belongs_here_stays_and_is_logged_then() -> None:
    scene = Scene(goal=None)
    peer = Peer()
    scene.talk(peer, whole)
    assert peer.connection.remote_open is not None
    assert not scene.here.logged
    peer.sender("orders")
    scene.talk(peer, octet_by_octet)
    assert scene.here.logged == ["connection opened"]
    peer.sender("more")
    scene.talk(peer, whole)
    assert scene.asked == [("orders", False)]
    assert set(scene.here.router.addresses) == {"Morders", "Mmore"}


@pytest.mark.parametrize(
    ("attach", "address"),
    [
        (lambda peer: peer.sender(None), ""),
        (lambda peer: peer.receiver(None, dynamic=True), ""),
        (lambda peer: (peer.receiver(None, dynamic=True), peer.sender("service")), "service"),
    ],
)
def test_what_the_first_links_name(attach: Callable[[Peer], object], address: str) -> None:
    scene = Scene()
    peer = Peer()
    attach(peer)
    scene.talk(peer, whole)
    assert scene.asked == [(address, False)]
    flush(scene.depart(), peer)


def test_a_target_of_no_kind_names_nothing() -> None:
    scene = Scene(goal=None)
    peer = Peer()
    link = peer.session.sender("odd")
    link.attach(Attach(name="", handle=0, role=False, source=Source(), target=None, initial_delivery_count=0))
    scene.talk(peer, whole)
    assert scene.asked == [("", False)]


@pytest.mark.parametrize("why", ["time", "end", "close", "lost"])
def test_what_cannot_be_said_again_keeps_it_here(why: str) -> None:
    scene = Scene()
    peer = Peer()
    scene.talk(peer, whole)
    if why == "time":
        scene.adaptor.handle_deadline(100.0)
    elif why == "end":
        scene.adaptor.receive_eof(0.0)
    elif why == "close":
        scene.adaptor.close("amqp:connection:forced", "enough")
    else:
        scene.adaptor.connection_lost(0.0)
    assert scene.asked == [("", True)]
    assert scene.here.logged[0] == "connection opened"
    scene.adaptor.connection_lost(0.0)
    assert scene.here.lost == 1


def test_who_says_much_before_the_first_link_stays() -> None:
    scene = Scene("none")
    scene.adaptor.receive_data(AMQP_HEADER + encode_frame(0, open_().encode()), 0.0)
    for _ in range(LONGEST_RECORD // 8):
        scene.adaptor.receive_data(encode_frame(0, b""), 0.0)
    assert scene.asked == [("", True)]


@pytest.mark.parametrize("change", [b"", b"something else"])
def test_one_that_would_have_said_something_else_does_not_go_on(change: bytes) -> None:
    scene = Scene()
    peer = Peer()
    peer.sender("orders")
    scene.talk(peer, whole)
    scene.adaptor.depart(5)
    ((_, _, record),) = scene.departed
    again = scene.there.adaptor("ANONYMOUS")
    assert not replay(again, Record(record.received, change, record.frame_size, record.windows), 0.0)
    silent = scene.there.adaptor("ANONYMOUS")
    assert not replay(silent, Record(((1000, b""),), b"x" * 1000), 0.0)
