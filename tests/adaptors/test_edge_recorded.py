"""What a skupper-router edge and its interior router once wrote to each other, written to us in the place of each.

Frames are handed over one at a time; between them our clients do what the clients did then.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.interop.recorded.replay import Frame, messages, split
from tests.routing.network import WIRE_CAPACITY, Client
from van.adaptors.amqp import ConnectionSettings
from van.adaptors.edge import EdgeConnectorAdaptor, EdgeListenerAdaptor
from van.amqp.delivery_state import ACCEPTED, Modified
from van.amqp.performatives import Attach, Begin, Detach, Disposition, Flow, Performative
from van.amqp.sasl import AnonymousClient, SaslClient, SaslServer, anonymous
from van.amqp.terminus import Source, Target
from van.routing.edge_router import EdgeRouter
from van.routing.router import Router

DATA = Path(__file__).parent / "data"
FROM_EDGE = list(split((DATA / "cap-skr-13.0.c2s.bin").read_bytes()))
FROM_INTERIOR = list(split((DATA / "cap-skr-13.0.s2c.bin").read_bytes()))
MESH = "onnIxmBlskc+BZb"
FLOWS = ["mc/sfe.all", "mc/sfe.C+nj0:0", "mc/sfe.C+nj0:0.flows", "mc/sfe.C+nj0:0.logs"]


def attaches(stream: list[Frame]) -> list[Attach]:
    return [frame.performative for frame in stream if isinstance(frame.performative, Attach)]


def described(attach: Attach) -> tuple[bool, str | None, str | None, list[str]]:
    """Role, addresses and capabilities of a link."""
    source, target = attach.source, attach.target
    assert isinstance(source, Source)
    assert isinstance(target, Target)
    return attach.role, source.address, target.address, [str(each) for each in source.capabilities or ()]


class Place:
    """Our router in the place of one of the two, the recording of the other, and our clients."""

    def __init__(self, recorded: list[Frame], make: Callable[[Place], tuple[Router, Any]]) -> None:
        self.recorded = recorded
        self.now = 0.0
        self.numbers = 0
        self.piece = 0
        self.capacity = WIRE_CAPACITY
        self.random = random.Random(0)
        self.clients: list[Client] = []
        self.next = 0
        self._rest = b""
        self.written: list[Frame] = []
        self.router, self.adaptor = make(self)

    def client(self) -> Client:
        client = Client(self, f"c{self.numbers}", ConnectionSettings(idle_timeout=0.0), {})  # type: ignore[arg-type]
        self.clients.append(client)
        self.run()
        return client

    def log(self, level: str, event: str, **fields: object) -> None:
        assert level in ("debug", "info"), (event, fields)

    def run(self) -> None:
        moving = True
        while moving:
            moving = any(map(Client.step, list(self.clients)))
            self.router.wake_touched()
            moving = moving or any(client.has_work for client in self.clients)
        while chunks := self.adaptor.data_to_send(65536):
            self._rest += b"".join(chunks)
        frames = list(split(self._rest, len(self.written)))
        self._rest = self._rest[sum(len(frame.octets) for frame in frames) :]
        self.written += frames

    def up_to(self, number: int) -> None:
        """Hand over all frames before this one of the recording."""
        while self.next < number:
            self.adaptor.receive_data(self.recorded[self.next].octets, self.now)
            self.next += 1
            self.run()
            assert not self.adaptor.closed, self.adaptor.reason

    def to_end(self) -> None:
        self.up_to(len(self.recorded))

    def of(self, kind: type[Performative], channel: int) -> list[Any]:
        return [
            frame.performative
            for frame in self.written
            if isinstance(frame.performative, kind) and frame.channel == channel
        ]


def interior() -> Place:
    """We are A, and E connects."""

    def make(place: Place) -> tuple[Router, EdgeListenerAdaptor]:
        numbers = itertools.count(1)
        router = Router("A", tokens=lambda: f"{next(numbers):015d}", mode="interior", instance=1, log=place.log)
        settings = ConnectionSettings(max_session_frames=2048)
        return router, EdgeListenerAdaptor(router, settings, sasl=SaslServer([anonymous()]), log=place.log)

    return Place(FROM_EDGE, make)


def edge() -> Place:
    """We are E, and connect to A: senders and receivers are there already, as they were then."""
    names = [attach.name.removeprefix("qdlink.") for attach in attaches(FROM_EDGE)]

    def make(place: Place) -> tuple[Router, EdgeConnectorAdaptor]:
        tokens = iter([MESH, *names])
        router = EdgeRouter("E", tokens=lambda: next(tokens), instance=1, log=place.log)
        place.router = router
        client = Client(place, "first", ConnectionSettings(idle_timeout=0.0), {})  # type: ignore[arg-type]
        place.clients.append(client)
        for address in FLOWS:
            client.sender(address, run=False)
        for address in ("sfe.C+nj0:0", "vfcr.C+nj0:0"):
            client.receiver(address, run=False)
        while client.step():
            router.wake_touched()
        adaptor = EdgeConnectorAdaptor(
            router,
            ConnectionSettings(max_session_frames=2048),
            number=1,
            accepting=False,
            sasl=SaslClient([AnonymousClient()]),
            hostname="127.0.0.1",
            log=place.log,
        )
        return router, adaptor

    return Place(FROM_INTERIOR, make)


def frame_with(stream: list[Frame], wanted: Callable[[Frame], bool], count: int = 1) -> int:
    """The number of the frame that is the `count`th such one."""
    return next(itertools.islice((frame.number for frame in stream if wanted(frame)), count - 1, None))


def attach_of(address: str) -> Callable[[Frame], bool]:
    def wanted(frame: Frame) -> bool:
        attach = frame.performative
        return isinstance(attach, Attach) and address in described(attach)

    return wanted


def is_detach(frame: Frame) -> bool:
    return isinstance(frame.performative, Detach)


def test_an_edge_is_answered_as_it_was() -> None:
    place = interior()
    place.to_end()
    ours = {attach.name: described(attach) for attach in attaches(place.written)}
    for theirs in attaches(FROM_INTERIOR):
        role, source, target, capabilities = described(theirs)
        if "mesh_discovery" in (source or ""):
            # A skupper-router answers with source and target exchanged.
            source, target = target, source
        assert ours[theirs.name] == (role, source, target, capabilities)
    (peer,) = place.router.edge_peers.values()
    assert (peer.router_id, peer.mesh, peer.van) == ("E", MESH, False)
    assert [len(place.of(Begin, channel)) for channel in (0, 1, 2)] == [1, 1, 0]
    flows = {(frame.channel, frame.performative.handle): frame.performative for frame in place.written
             if isinstance(frame.performative, Flow) and frame.performative.handle is not None}  # fmt: skip
    assert flows[0, 0].link_credit == 3
    assert flows[1, 0].link_credit == 250


def test_what_an_edge_has_is_known_and_its_mesh_with_it() -> None:
    place = interior()
    place.to_end()
    engine = place.router.engine
    assert engine is not None
    downlink = place.router.addresses["HE"]
    assert downlink.edges is not None
    assert len(downlink.outgoing) == 1
    assert (downlink.edges.mesh, downlink.edges.mesh_advertised) == (MESH, MESH)
    assert "Msfe.C+nj0:0" in place.router.addresses
    assert "Medge.q" not in place.router.addresses


def test_deliveries_to_an_edge_have_their_outcomes() -> None:
    place = interior()
    sender = place.client().sender("edge.q")
    assert sender.credit == 0
    bodies = [message.body for message in messages(FROM_INTERIOR) if b"edge.q" in message.octets[:40]]
    first = frame_with(FROM_EDGE, attach_of("edge.q")) + 1
    place.up_to(first)
    assert sender.credit == 250
    failed = sender.send(bodies[0])
    place.run()
    place.up_to(frame_with(FROM_EDGE, attach_of("edge.q"), 2) + 1)
    assert failed.states == [Modified(delivery_failed=True, undeliverable_here=False)]
    good = [sender.send(body) for body in bodies[1:]]
    place.to_end()
    assert [each.states for each in good] == [[ACCEPTED], [ACCEPTED]]
    sent = [message for message in messages(place.written) if message.channel == 1]
    assert [message.body for message in sent] == bodies
    assert [message.annotations for message in sent] == [[0, "edge.q", "0/A", ["0/A"]]] * 3


def test_deliveries_of_an_edge_come_and_it_is_told_of_receivers() -> None:
    place = interior()
    receiver = place.client().receiver("int.q", credit=10)
    place.to_end()
    ours = [message for message in messages(place.written) if message.channel == 0]
    theirs = [message for message in messages(FROM_INTERIOR) if message.channel == 0]
    assert [message.octets for message in ours] == [message.octets for message in theirs]
    assert not any(message.settled for message in ours)
    sent = [message for message in messages(FROM_EDGE) if b"int.q" in message.octets[:40]]
    assert receiver.bodies == [message.body for message in sent]
    assert [len(message.body) for message in sent] == [len(sent[0].body), 60016]
    said = [(state.state, state.settled) for state in place.of(Disposition, 1) if state.role]
    assert {str(state) for state, _ in said} == {str(ACCEPTED)}
    assert all(settled for _, settled in said)


def test_our_edge_opens_what_theirs_did() -> None:
    place = edge()
    place.up_to(frame_with(FROM_INTERIOR, lambda frame: isinstance(frame.performative, Flow)))
    theirs = attaches(FROM_EDGE)[:10]
    ours = attaches(place.written)
    assert [attach.name for attach in ours] == [attach.name for attach in theirs]
    assert [described(attach) for attach in ours] == [described(attach) for attach in theirs]
    numbered = [frame.channel for frame in place.written if isinstance(frame.performative, Attach)]
    assert numbered == [frame.channel for frame in FROM_EDGE if isinstance(frame.performative, Attach)][:10]
    place.up_to(frame_with(FROM_INTERIOR, lambda frame: isinstance(frame.performative, Disposition)))
    mesh = next(message for message in messages(place.written) if message.channel == 0)
    assert mesh.octets == next(message for message in messages(FROM_EDGE) if message.channel == 0).octets
    assert not mesh.settled
    tracking = next(flow for flow in place.of(Flow, 0) if flow.link_credit)
    assert tracking.link_credit == 32


def test_deliveries_from_the_interior_router_come_to_receivers_here() -> None:
    place = edge()
    place.up_to(frame_with(FROM_INTERIOR, attach_of("edge.q")))
    client = place.client()
    received = []
    for count in (1, 2):
        receiver = client.receiver("edge.q", credit=10)
        place.up_to(frame_with(FROM_INTERIOR, is_detach, count))
        received += receiver.bodies
        receiver.detach()
        place.run()
    sent = [message for message in messages(FROM_INTERIOR) if b"edge.q" in message.octets[:40]]
    assert received == [message.body for message in sent]
    place.up_to(frame_with(FROM_INTERIOR, attach_of("int.q")))
    sender = client.sender("int.q")
    assert sender.credit == 0
    place.up_to(frame_with(FROM_INTERIOR, lambda frame: frame.payload.endswith(b"int.qA")) + 1)
    assert sender.credit == 250
    wanted = [message for message in messages(FROM_EDGE) if b"int.q" in message.octets[:40]]
    results = [sender.send(message.body) for message in wanted]
    place.to_end()
    assert [each.states for each in results] == [[ACCEPTED], [ACCEPTED]]
    ours = [message for message in messages(place.written) if b"int.q" in message.octets[:40] and message.channel]
    assert [message.octets for message in ours] == [message.octets for message in wanted]
    # The interior router's word on the address was taken, and its message accepted.
    answers = [state for state in place.of(Disposition, 0) if state.role and state.settled]
    assert [state.state for state in answers] == [ACCEPTED]
