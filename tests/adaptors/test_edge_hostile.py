"""Edges and interior routers that do what they should not: they are told, and everybody else goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.adaptors.edges import EdgeNode, edge, interiors, listen, uplink
from tests.adaptors.routers import RouterNode, Routers
from tests.routing.network import Client, Receiver, Sender
from van.adaptors.amqp import ConnectionSettings
from van.adaptors.edge import EdgeConnectorAdaptor
from van.amqp.connection import Connection
from van.amqp.delivery_state import ACCEPTED, RELEASED, Rejected
from van.amqp.errors import AmqpLinkError
from van.amqp.events import ConnectionClosed, LinkAttached, LinkDetached, SessionBegun
from van.amqp.link import Link
from van.amqp.message import AmqpValue, Message, Properties
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Source, Target
from van.amqp.types import Symbol
from van.routing import edge as edge_module
from van.routing import neighbor as neighbor_module
from van.routing.address import AddressConfig, Distribution
from van.routing.dialect.annotations import encode_annotations
from van.routing.edge import ADDRESS_TRACKING, MAX_SERVICE_MESSAGE, MESH_DISCOVERY, tracking_message
from van.routing.edge_router import mesh_message
from van.routing.router import MAX_REMEMBERED_SECTION
from van.routing.router_link import MAX_PRESETTLED

MESH = "M" * 15


def message(body: str, *, to: str | None = None) -> bytes:
    return Message(properties=Properties(to=to), body=AmqpValue(body)).encode()


class BareEdge(Client):
    """A peer at a listener for edges whose every step the scene decides."""

    def __init__(self, node: RouterNode, name: str, settings: ConnectionSettings | None = None) -> None:
        super().__init__(node, name, ConnectionSettings(idle_timeout=0.0), {})  # type: ignore[arg-type]
        self.adaptor = listen(node, settings)
        self.adaptor.on_wake = self._flush
        node.clients.append(self)
        node.run()


class BareInterior:
    """A router that an edge has connected to: it answers every attach but those that it refuses."""

    def __init__(self, node: EdgeNode, refused: tuple[str, ...] = ()) -> None:
        self.node = node
        self.refused = refused
        self.adaptor: EdgeConnectorAdaptor = node.dial()
        self.connection = Connection("A", accepting=True)
        self.links: dict[str, Link] = {}
        self.attached: list[str] = []
        self.senders: dict[str, Sender] = {}
        self.receivers: dict[str, Receiver] = {}
        self.closed: ConnectionClosed | None = None
        self.errors: dict[str, str] = {}
        self.run()

    def run(self) -> None:
        owner: Any = SimpleNamespace(errors={})
        moving = True
        while moving:
            moving = False
            self.node.run()
            if data := b"".join(self.adaptor.data_to_send(65536)):
                moving = True
                events = self.connection.receive_data(data, 0.0)
                for event in events:
                    if isinstance(event, SessionBegun):
                        event.session.begin()
                    elif isinstance(event, LinkAttached) and not event.answer:
                        self._attach(event.link, owner)
                    elif isinstance(event, LinkDetached):
                        if event.error is not None:
                            self.errors[event.link.name] = str(event.error.condition)
                        event.link.detach()
                    elif isinstance(event, ConnectionClosed):
                        self.closed = event
                        self.connection.close()
                    elif type(event).__name__ == "ConnectionOpened":
                        self.connection.open()
            if data := b"".join(self.connection.data_to_send()):
                moving = True
                self.adaptor.receive_data(data, 0.0)

    def _attach(self, link: Link, owner: Any) -> None:
        remote = link.remote
        assert remote is not None
        receiving = isinstance(link, ReceiverLink)
        assert isinstance(remote.source, Source)
        assert isinstance(remote.target, Target)
        address = (remote.target.address if receiving else remote.source.address) or ""
        refused = address in self.refused
        self.attached.append(address)
        answer = Attach(name="", handle=0, role=False, source=remote.source, target=remote.target)
        if refused:
            answer.target, answer.source = (None, remote.source) if receiving else (remote.target, None)
        link.attach(answer)
        if refused:
            link.detach(AmqpLinkError("amqp:not-found", "not here"))
        elif isinstance(link, ReceiverLink):
            self.receivers[address] = Receiver(owner, link, auto=True, second=False)
            link.grant(100)
        else:
            assert isinstance(link, SenderLink)
            self.senders[address] = Sender(owner, link, second=False)


def section(to: str | None = None, mesh: str | None = None) -> bytes:
    return encode_annotations(0, to, None, (), mesh)


# -- at the interior router --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x00\x53\x77\x40",
        b"\xff\xff",
        section() + b"\x00\x53",
        mesh_message("x" * 16),
        mesh_message(""),
        b"\x00\x80SKPR--RA\xd0\x00\x00",
    ],
)
def test_a_mesh_that_is_none_is_rejected(octets: bytes) -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    sender = peer.sender(MESH_DISCOVERY)
    assert sender.credit == 3
    for _ in range(5):
        sent = sender.send(octets)
        a.run()
        assert isinstance(sent.state, Rejected)
    good = sender.send(section(mesh=MESH) + mesh_message(MESH))
    a.run()
    assert good.states == [ACCEPTED]
    (known,) = a.router.edge_peers.values()
    assert known.mesh == MESH
    assert a.router.budget.held() == 0


def test_a_large_mesh_message_is_not_kept() -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    sender = peer.sender(MESH_DISCOVERY)
    begun = sender.begin(b"x" * MAX_SERVICE_MESSAGE)
    begun.more(b"x" * 100_000)
    a.run()
    assert a.router.budget.held() <= 20_000
    begun.end()
    a.run()
    assert isinstance(begun.state, Rejected)
    aborted = sender.begin(b"xyz")
    a.run()
    aborted.abort()
    a.run()
    assert a.router.budget.held() == 0
    assert sender.credit == 3


@pytest.mark.parametrize("target", ["orders", None])
@pytest.mark.parametrize(
    "octets", [b"\x00\x80SKPR--RA\xd0\x00\x00", b"\x00\x80SKPR--RA\x40", b"\x00\x80SKPR--RA\xc0\x03\x02\x43\x43"]
)
def test_annotations_that_are_none_are_rejected(octets: bytes, target: str | None) -> None:
    _, (a,) = interiors("A")
    receiver = a.client().receiver("orders", credit=10)
    sender = BareEdge(a, "E").sender(target)
    for settled in (False, True):
        bad = sender.send(octets, settled=settled)
        good = sender.send(section("orders") + message("one"), settled=settled)
        a.run()
        assert settled or isinstance(bad.state, Rejected)
        assert settled or good.states == [ACCEPTED]
    assert receiver.bodies == [message("one")] * 2
    assert sender.credit + 250 // 4 >= 250
    assert a.router.budget.held() == 0


def test_a_link_with_an_address_goes_there_whatever_its_deliveries_say() -> None:
    _, (a,) = interiors("A")
    receivers = [a.client().receiver(name, credit=10) for name in ("orders", "bills")]
    sender = BareEdge(a, "E").sender("orders")
    sender.send(section("bills") + message("one", to="bills"))
    sender.send(message("two"))
    a.run()
    assert [receiver.bodies for receiver in receivers] == [[message("one", to="bills"), message("two")], []]


def test_what_an_edge_says_of_its_way_is_not_believed() -> None:
    _, (a,) = interiors("A")
    receiver = a.client().receiver("orders", credit=10)
    long = tuple(f"0/R{number}" for number in range(100))
    sent = BareEdge(a, "E").sender("orders").send(encode_annotations(0, "orders", "0/Z", long) + message("one"))
    a.run()
    assert receiver.bodies == [message("one")]
    assert sent.states == [ACCEPTED]


def test_tracking_waits_for_credit_and_says_the_last_word_only() -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    tracking = peer.receiver(ADDRESS_TRACKING)
    peer.sender("orders")
    client = a.client()
    for _ in range(20):
        client.receiver("orders").detach()
        a.run()
    client.receiver("orders")
    tracking.credit(100)
    a.run()
    node = encode_annotations(0, None, "0/A", ("0/A",))
    assert tracking.bodies == [node + tracking_message("Morders", True)]


def test_tracking_that_comes_late_says_what_was() -> None:
    _, (a,) = interiors("A")
    a.client().receiver("orders")
    peer = BareEdge(a, "E")
    peer.sender("orders")
    tracking = peer.receiver(ADDRESS_TRACKING, credit=5)
    assert len(tracking.bodies) == 1
    assert tracking.bodies[0].endswith(tracking_message("Morders", True))


def test_an_address_longer_than_a_short_string() -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    tracking = peer.receiver(ADDRESS_TRACKING, credit=5)
    name = "x" * 1000
    peer.sender(name)
    a.client().receiver(name)
    decoded = Message.decode(tracking.bodies[0][len(encode_annotations(0, None, "0/A", ("0/A",))) :])
    assert isinstance(decoded.body, AmqpValue)
    assert decoded.body.value == [f"M{name}", True]


def test_the_nodes_of_older_edges_are_addresses_that_never_have_credit() -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    for address in ("_$qd.edge_heartbeat", "_$qd.addr_lookup"):
        sender = peer.sender(address)
        assert sender.error is None
        assert sender.credit == 0


@pytest.mark.parametrize("name", ["F", "A", "E/F", "E" * 3000])
def test_an_edge_gets_nothing_that_is_addressed_to_another(name: str) -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    known = set(a.router.addresses)
    for text, taken in ((name, False), ("E", True)):
        link = peer.session.receiver(f"downlink {taken}")
        source = Source(address=text, capabilities=[Symbol("qd.router-edge-downlink")])
        link.attach(Attach(name="", handle=0, role=True, source=source, target=Target()))
        a.run()
        assert (link in peer.errors) is not taken
        assert set(a.router.addresses) == (known | {"HE"} if taken else known)


def test_an_edge_has_no_more_links_than_the_listener_allows() -> None:
    network, (a,) = interiors("A")
    e = edge(network, "E")
    settings = ConnectionSettings(idle_timeout=0.0, max_links=5)
    network.wire(e.dial(), listen(a, settings))
    client = e.client()
    for number in range(10):
        client.receiver(f"orders.{number}")
    assert e.edge.active is not None
    assert e.lines("no link for an address")
    sent = a.client().sender("orders.0").send(message("one"))
    network.run()
    assert sent.unsettled


def test_a_peer_without_streaming_links_gets_streams_by_its_own() -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    receiver = peer.receiver("big", credit=10)
    other = peer.receiver("big", credit=10)
    sender = a.client().sender("big")
    stream = sender.begin(b"x" * 300_000)
    a.run()
    (got,) = receiver.deliveries
    assert got.incomplete
    small = a.client().sender("big").send(message("small"))
    a.run()
    assert small.states == [ACCEPTED]
    assert other.bodies[0].endswith(message("small"))
    stream.end()
    a.run()
    assert stream.states == [ACCEPTED]
    assert len(a.router.addresses["Mbig"].outgoing) == 2


@pytest.mark.parametrize("address", ["cl/orders", "orders"])
def test_who_is_busy_with_a_stream_comes_last(address: str) -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    receiver = peer.receiver(address, credit=10)
    sender = a.client().sender(address)
    stream = sender.begin(b"x" * 300_000)
    a.run()
    waits = a.client().sender(address).send(message("one"))
    a.run()
    assert waits.unsettled
    stream.end()
    a.run()
    assert waits.states == [ACCEPTED]
    # It may not have its own back, and there is nobody else.
    own = peer.sender(address).send(message("own"))
    a.run()
    assert own.states == [RELEASED]
    assert len(receiver.bodies) == 2


def test_annotations_are_remembered_until_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (a,) = interiors("A")
    receiver = a.client().receiver("orders", credit=100)
    sender = BareEdge(a, "E").sender("orders")
    (peer,) = a.router.edge_peers.values()
    monkeypatch.setattr(edge_module, "MAX_ANNOTATIONS", 4)
    for number in range(10):
        sender.send(section(f"orders.{number}") + message(str(number)))
        a.run()
        assert 1 <= len(peer.annotations) <= 4
    assert receiver.bodies == [message(str(number)) for number in range(10)]


def test_very_long_annotations_are_understood_and_not_remembered() -> None:
    _, (a,) = interiors("A")
    receiver = a.client().receiver("orders", credit=10)
    sender = BareEdge(a, "E").sender("orders")
    (peer,) = a.router.edge_peers.values()
    long = encode_annotations(0, "orders", "0/Z", tuple(f"0/R{number}" for number in range(1000)))
    assert len(long) > MAX_REMEMBERED_SECTION
    sent = sender.send(long + message("one"))
    a.run()
    assert sent.states == [ACCEPTED]
    assert receiver.bodies == [message("one")]
    assert long not in peer.annotations


def test_what_is_remembered_holds_while_an_edge_says_the_same_mesh() -> None:
    _, (a,) = interiors("A")
    a.client().receiver("orders", credit=10)
    bare = BareEdge(a, "E")
    mesh, sender = bare.sender(MESH_DISCOVERY), bare.sender("orders")
    (peer,) = a.router.edge_peers.values()
    for said, kept in ((MESH, False), (MESH, True), ("N" * 15, False)):
        sender.send(section() + message("one"))
        a.run()
        assert peer.annotations
        mesh.send(mesh_message(said), settled=True)
        a.run()
        assert peer.mesh == said
        assert bool(peer.annotations) is kept
        assert mesh.credit == 3


@pytest.mark.parametrize("settled", [False, True])
def test_a_stream_that_begins_small(settled: bool) -> None:
    _, (a,) = interiors("A")
    receiver = a.client().receiver("big", credit=10)
    sender = BareEdge(a, "E").sender("big")
    stream = sender.begin(section() + b"x" * 1000, settled=settled)
    a.run()
    assert receiver.deliveries == []
    stream.more(b"y" * 300_000)
    a.run()
    assert receiver.deliveries[0].incomplete
    stream.end(b"z")
    a.run()
    assert receiver.bodies == [b"x" * 1000 + b"y" * 300_000 + b"z"]
    assert sender.credit > 250 - 250 // 4
    assert a.router.budget.held() == 0


@pytest.mark.parametrize("settled", [False, True])
def test_a_stream_whose_annotations_are_none_is_refused_before_its_end(settled: bool) -> None:
    _, (a,) = interiors("A")
    receiver = a.client().receiver("big", credit=10)
    sender = BareEdge(a, "E").sender("big")
    stream = sender.begin(b"\x00\x80SKPR--RA\x40" + b"x" * 300_000, settled=settled)
    a.run()
    assert settled or isinstance(stream.state, Rejected)
    stream.end(b"x" * 100_000)
    good = sender.send(message("good"))
    a.run()
    assert receiver.bodies == [message("good")]
    assert good.states == [ACCEPTED]
    assert a.router.budget.held() == 0


def test_of_presettled_deliveries_that_wait_too_many_the_oldest_are_dropped() -> None:
    _, (a,) = interiors("A")
    receiver = a.client().receiver("orders")
    sender = BareEdge(a, "E").sender(None)
    for number in range(MAX_PRESETTLED + 10):
        sender.send(section("orders") + message(str(number)), settled=True)
    a.run()
    assert a.router.dropped_presettled == 10
    receiver.credit(MAX_PRESETTLED + 10)
    a.run()
    assert receiver.bodies == [message(str(number)) for number in range(10, MAX_PRESETTLED + 10)]
    assert a.router.budget.held() == 0


def test_links_of_edges_have_the_priority_of_their_address() -> None:
    network, (a,) = interiors("A")
    e = edge(network, "E")
    for node in (a, e):
        node.router.patterns.add(AddressConfig("fast/#", Distribution.BALANCED, 9))
    BareEdge(a, "bare").receiver("fast/x")
    assert [link.link.priority for link in a.router.addresses["Mfast/x"].outgoing] == [9]
    uplink(network, e, a)
    e.client().sender("fast/x")
    sender = e.edge.proxies[e.router.addresses["Mfast/x"]].sender
    assert sender is not None
    assert sender.link.priority == 9


def test_the_routers_own_nodes_are_not_tracked() -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    tracking = peer.receiver(ADDRESS_TRACKING, credit=5)
    peer.sender("$other")
    a.client().receiver("$other", credit=5)
    assert tracking.bodies == []
    assert a.router.addresses["M$other"].edges is None


def test_tracking_that_ends_with_words_unsettled_can_begin_again() -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    tracking = peer.receiver(ADDRESS_TRACKING, credit=5, auto=False)
    peer.sender("orders")
    a.client().receiver("orders")
    assert len(tracking.deliveries) == 1
    begun = peer.adaptor.connection.begun_sessions()
    assert any(session.unsettled_out for session in begun)
    tracking.detach()
    a.run()
    assert not any(session.unsettled_out for session in begun)
    assert a.router.budget.held() == 0
    again = peer.receiver(ADDRESS_TRACKING, credit=5)
    assert [body.endswith(tracking_message("Morders", True)) for body in again.bodies] == [True]


def test_of_two_tracking_links_the_second_counts() -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    first = peer.receiver(ADDRESS_TRACKING, credit=5)
    second = peer.receiver(ADDRESS_TRACKING, credit=5)
    peer.sender("orders")
    first.detach()
    a.run()
    a.client().receiver("orders")
    assert (len(first.bodies), len(second.bodies)) == (0, 1)


def test_tracking_that_is_settled_by_the_sender_after_the_edge() -> None:
    _, (a,) = interiors("A")
    peer = BareEdge(a, "E")
    tracking = peer.receiver(ADDRESS_TRACKING, credit=5, second=True)
    peer.sender("orders")
    a.client().receiver("orders")
    assert [got.settled_by_sender for got in tracking.deliveries] == [True]
    assert not any(session.unsettled_out for session in peer.adaptor.connection.begun_sessions())


def test_a_peer_without_streaming_links_stays_when_idle_ones_of_others_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, (a,) = interiors("A")
    monkeypatch.setattr(neighbor_module, "MAX_IDLE_STREAMS", 0)
    bare = BareEdge(a, "bare")
    e = edge(network, "E")
    uplink(network, e, a)
    receiver = e.client().receiver("big", credit=10)
    stream = a.client().sender("big").begin(b"x" * 270_000)
    network.run()
    peers = {peer.router_id: peer for peer in a.router.edge_peers.values()}
    assert peers["bare"].streams is None
    assert len(peers["E"].stream_links) == 1
    stream.end()
    network.run()
    network.advance(31)
    assert peers["E"].stream_links == []
    assert peers["bare"].alive
    assert bare.closed is None
    assert receiver.bodies == [b"x" * 270_000]


# -- at the edge router ------------------------------------------------------------------------------------------------


def single(refused: tuple[str, ...] = ()) -> tuple[EdgeNode, BareInterior]:
    network = Routers()
    e = edge(network, "E")
    return e, BareInterior(e, refused)


@pytest.mark.parametrize(
    "octets", [b"", b"\xff", b"\x00\x53\x77\x40", b"\x00\x53\x77\xc0\x03\x02\x43\x43", b"\x00\x80SKPR--RA\xd0\x00"]
)
def test_tracking_that_says_nothing_is_rejected(octets: bytes) -> None:
    e, a = single()
    sent = a.senders[ADDRESS_TRACKING].send(octets)
    unknown = a.senders[ADDRESS_TRACKING].send(tracking_message("Mnobody", True))
    a.run()
    assert isinstance(sent.state, Rejected)
    assert unknown.states == [ACCEPTED]
    assert e.edge.active is not None


def test_an_address_that_the_interior_router_refuses_is_asked_for_once() -> None:
    e, a = single(("orders",))
    client = e.client()
    sender = client.sender("orders")
    receiver = client.receiver("orders", credit=10)
    a.run()
    assert a.attached.count("orders") == 2
    sent = sender.send(message("one"))
    a.run()
    # Here it works.
    assert sent.states == [ACCEPTED]
    assert receiver.bodies == [message("one")]
    assert a.attached.count("orders") == 2
    receiver.detach()
    sender.detach()
    a.run()
    assert not e.edge.proxies
    assert e.edge.active is not None


@pytest.mark.parametrize("vital", ["", "E", ADDRESS_TRACKING])
def test_without_what_it_needs_an_edge_gives_the_uplink_up(vital: str) -> None:
    e, a = single((vital,))
    assert e.edge.active is None
    assert "refuses links of edge routers" in a.adaptor.refusal
    assert a.closed is not None


def test_without_mesh_discovery_an_edge_goes_on() -> None:
    e, a = single((MESH_DISCOVERY,))
    assert e.edge.active is not None
    assert a.closed is None


@pytest.mark.parametrize("service", [False, True])
def test_an_uplink_whose_session_ends_is_lost(service: bool) -> None:
    e, a = single()
    a.senders[ADDRESS_TRACKING if service else "E"].link.session.end()
    a.run()
    assert e.edge.active is None
    assert a.closed is not None
    assert not e.edge.elsewhere.outgoing


def test_an_interior_router_may_not_ask_an_edge_for_addresses() -> None:
    e, a = single()
    session = a.connection.session()
    session.begin()
    for name, source, target in (("out", "", "orders"), ("in", "orders", "")):
        link: Link = session.sender(name) if name == "out" else session.receiver(name)
        link.attach(
            Attach(name=name, handle=0, role=False, source=Source(address=source or None),
                   target=Target(address=target or None))
        )  # fmt: skip
    a.run()
    assert a.errors == {"out": "amqp:not-allowed", "in": "amqp:not-allowed"}
    assert e.edge.active is not None


def test_deliveries_from_above_for_nobody_here_are_released() -> None:
    e, a = single()
    client = e.client()
    client.sender("orders")
    sent = [
        a.senders["E"].send(section(to) + message("one"))
        for to in ("amqp:/_edge/E/temp.gone", "orders", "_topo/0/A/x", "_edge/F/x", "nobody")
    ]
    a.run()
    assert [each.states for each in sent] == [[RELEASED]] * 5
    assert e.router.budget.held() == 0


def test_unavailable_addresses_are_refused_where_a_client_attaches() -> None:
    network, (a,) = interiors("A")
    e = edge(network, "E")
    e.router.patterns.add(AddressConfig("closed/#", Distribution.UNAVAILABLE))
    uplink(network, e, a)
    assert e.client().sender("closed/x").error is not None
    a.router.patterns.add(AddressConfig("shut/#", Distribution.UNAVAILABLE))
    sender = e.client().sender("shut/x")
    assert sender.credit == 0
    assert len(a.lines("link refused")) == 1


def test_a_stream_given_up_behind_a_sender_that_has_gone_frees_the_link() -> None:
    """The peer takes no streaming links, so that the stream has the address's own."""
    e, a = single()
    client = e.client()
    sender = client.sender("orders")
    a.senders[ADDRESS_TRACKING].send(tracking_message("Morders", True))
    a.run()
    sender.begin(b"x" * 300_000)
    a.run()
    assert a.receivers["orders"].deliveries[0].incomplete
    sender.detach()
    a.run()
    e.router.handle_deadline(e.router.next_deadline())
    a.run()
    assert a.receivers["orders"].deliveries[0].aborted
    assert not e.edge.proxies
    assert e.router.budget.held() == 0


def test_tracking_that_says_the_same_twice_changes_nothing() -> None:
    e, a = single()
    sender = e.client().sender("orders")
    for _ in range(2):
        a.senders[ADDRESS_TRACKING].send(tracking_message("Morders", True))
        a.run()
    address = e.router.addresses["Morders"]
    assert address.outgoing == [e.edge.proxies[address].sender]
    assert sender.credit == 250
    sent = sender.send(message("one"))
    a.run()
    assert sent.states == [ACCEPTED]
    assert len(a.receivers["orders"].deliveries) == 1


def test_senders_beyond_the_links_that_the_listener_allows_have_no_credit() -> None:
    network, (a,) = interiors("A")
    e = edge(network, "E")
    network.wire(e.dial(), listen(a, ConnectionSettings(idle_timeout=0.0, max_links=4)))
    receivers = [a.client().receiver(f"orders.{number}", credit=10) for number in range(8)]
    senders = [e.client().sender(f"orders.{number}") for number in range(8)]
    assert e.lines("no link for an address")
    allowed = [sender for sender in senders if sender.credit]
    assert 0 < len(allowed) < 8
    for sender in allowed:
        sender.send(message("one"))
    network.run()
    assert [len(receiver.bodies) for receiver in receivers] == [int(sender in allowed) for sender in senders]


def test_a_delivery_without_an_address_is_not_sent_up() -> None:
    e, a = single()
    sent = e.client().sender(None).send(message("one"))
    a.run()
    assert sent.settled
    assert isinstance(sent.state, Rejected)
    assert a.receivers[""].deliveries == []
    assert e.router.budget.held() == 0
