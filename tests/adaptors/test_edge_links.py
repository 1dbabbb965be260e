"""What an edge router has on its uplinks: links as its clients come and go, tracking, standing by, and losses."""

from __future__ import annotations

import pytest

from tests.adaptors.edges import EdgeNode, Site, edge, interiors, listen, uplink
from tests.adaptors.routers import Line, RouterNode, Routers
from van.amqp.connection import Connection
from van.amqp.delivery_state import ACCEPTED, RELEASED, Modified
from van.amqp.link import Link
from van.amqp.message import AmqpValue, Message, Properties
from van.amqp.performatives import Attach
from van.amqp.receiver_link import ReceiverLink
from van.amqp.sender_link import SenderLink
from van.amqp.terminus import Source, Target
from van.routing import neighbor as neighbor_module
from van.routing.neighbor import MAX_IDLE_STREAMS


def message(body: str, *, to: str | None = None) -> bytes:
    return Message(properties=Properties(to=to), body=AmqpValue(body)).encode()


def what(link: Link) -> str:
    """A link in the words of an edge: who it sends to, or receives from."""
    local = link.local
    assert local is not None
    assert isinstance(local.source, Source)
    assert isinstance(local.target, Target)
    if isinstance(link, SenderLink):
        return f"to {local.target.address}"
    assert isinstance(link, ReceiverLink)
    return f"from {local.source.address}"


def links(line: Line) -> list[str]:
    adaptor = line.calling
    return sorted(what(link) for link in [*adaptor.links, *adaptor.services])


def single() -> tuple[Routers, RouterNode, EdgeNode, Line]:
    network, (a,) = interiors("A")
    e = edge(network, "E")
    return network, a, e, uplink(network, e, a)


VITAL = ["from E", "from _$qd.edge_addr_tracking", "to None", "to _$qd.mesh_discovery"]


def test_an_uplink_has_its_links_at_once() -> None:
    _, a, e, line = single()
    assert links(line) == VITAL
    (peer,) = a.router.edge_peers.values()
    assert peer.mesh == e.edge.mesh
    assert len(peer.mesh) == 15
    assert e.edge.active is not None
    assert e.edge.active.sender is not None
    assert e.edge.active.sender.link.link_credit == 250
    assert a.router.addresses["HE"].advertised


def test_links_come_and_go_with_receivers_and_senders() -> None:
    network, _, e, line = single()
    client = e.client()
    first, second = client.receiver("orders"), client.receiver("orders")
    assert links(line) == sorted([*VITAL, "from orders"])
    sender = client.sender("orders")
    assert links(line) == sorted([*VITAL, "from orders", "to orders"])
    first.detach()
    network.run()
    assert links(line) == sorted([*VITAL, "from orders", "to orders"])
    second.detach()
    network.run()
    assert links(line) == sorted([*VITAL, "to orders"])
    sender.detach()
    network.run()
    assert links(line) == VITAL
    assert not e.edge.proxies
    assert not e.router.addresses


def test_what_is_there_before_the_uplink_gets_its_links_with_it() -> None:
    network, (a,) = interiors("A")
    e = edge(network, "E")
    client = e.client()
    client.receiver("orders")
    client.sender("bills")
    temporary = client.receiver(None, dynamic=True)
    line = uplink(network, e, a)
    assert temporary.error is None
    assert links(line) == sorted([*VITAL, "from orders", "to bills"])


def test_the_routers_own_node_stays_where_it_is() -> None:
    _, _, e, line = single()
    client = e.client()
    client.receiver("$management")
    client.sender("$management")
    assert links(line) == VITAL


def test_tracking_says_whether_somebody_elsewhere_receives() -> None:
    network, a, e, _ = single()
    sender = e.client().sender("orders")
    assert sender.credit == 0
    own = e.client().receiver("orders")
    assert sender.credit == 250
    proxies = e.edge.proxies[e.router.addresses["Morders"]]
    # Its own receiver is none elsewhere.
    assert proxies.bound is None
    other = a.client().receiver("orders")
    assert proxies.bound is proxies.sender
    other.detach()
    network.run()
    assert proxies.bound is None
    own.detach()
    network.run()
    sent = sender.send(message("one"))
    network.run()
    assert sent.states == [RELEASED]
    assert sender.credit == 0
    a.client().receiver("orders", credit=10)
    assert sender.credit == 250


def test_two_edges_hear_of_each_other() -> None:
    network, a, e, _ = single()
    f = edge(network, "F")
    uplink(network, f, a)
    at_e, at_f = e.client(), f.client()
    from_e, from_f = at_e.sender("orders"), at_f.sender("orders")
    receiver = at_e.receiver("orders", credit=10)
    assert (from_e.credit, from_f.credit) == (250, 250)
    assert e.edge.proxies[e.router.addresses["Morders"]].bound is None
    assert f.edge.proxies[f.router.addresses["Morders"]].bound is not None
    assert from_f.send(message("one")).states == []
    network.run()
    assert receiver.bodies == [message("one")]


def test_edges_of_one_mesh_are_one_place() -> None:
    network, a, e, _ = single()
    f = edge(network, "F")
    f.edge.mesh = e.edge.mesh
    uplink(network, f, a)
    news = [node.client().receiver("mc/news", credit=10) for node in (e, f, a)]
    sender = e.client().sender("mc/news")
    sender.send(message("one"))
    network.run()
    assert [receiver.bodies for receiver in news] == [[message("one")], [], [message("one")]]
    f.client().receiver("orders", credit=10)
    orders = e.client().sender("orders")
    assert orders.credit == 0


def test_a_mesh_that_has_all_receivers_is_advertised_with_them() -> None:
    site = Site()
    site.clients["E"].receiver("orders")
    site.settle()

    def seen() -> dict[str, str | None]:
        assert site.b.router.engine is not None
        return {key: mobile.mesh for key, mobile in site.b.router.engine.nodes["A"].addresses.items()}

    assert seen() == {"HE": site.e.edge.mesh, "Morders": site.e.edge.mesh}
    other = site.clients["A"].receiver("orders")
    site.settle()
    assert seen() == {"HE": site.e.edge.mesh, "Morders": None}
    other.detach()
    site.settle()
    assert seen() == {"HE": site.e.edge.mesh, "Morders": site.e.edge.mesh}


def test_tracking_looks_at_the_meshes_of_other_routers() -> None:
    site = Site()
    site.f.edge.mesh = site.e.edge.mesh
    site.uplink_f.cut()
    uplink(site.network, site.f, site.b)
    site.settle()
    sender = site.clients["E"].sender("orders")
    site.clients["F"].receiver("orders")
    site.settle()
    assert sender.credit == 0
    site.clients["B"].receiver("orders")
    site.settle()
    assert sender.credit == 250


def test_what_was_sent_goes_up_although_its_sender_has_gone() -> None:
    network, a, e, line = single()
    receiver = a.client().receiver("orders", credit=200)
    client = e.client()
    sender = client.sender("orders")
    line.cut_off = True
    for number in range(100):
        sender.send(message(str(number)), settled=True)
    network.run()
    client.close()
    assert "to orders" in links(line)
    line.cut_off = False
    network.run()
    network.advance(0.01)
    assert receiver.bodies == [message(str(number)) for number in range(100)]
    assert links(line) == VITAL


def test_a_second_uplink_stands_by_and_takes_over() -> None:
    network, (a, b) = interiors("A", "B")
    e = edge(network, "E")
    first, second = uplink(network, e, a), uplink(network, e, b)
    client = e.client()
    client.receiver("orders", credit=100)
    sender = client.sender("bills")
    assert links(first) == sorted([*VITAL, "from orders", "to bills"])
    assert links(second) == []
    first.cut()
    assert links(second) == sorted([*VITAL, "from orders", "to bills"])
    receiver = b.client().receiver("bills", credit=10)
    sent = sender.send(message("one"))
    back = b.client().sender("orders").send(message("two"))
    network.run()
    assert receiver.bodies == [message("one")]
    assert sent.states == back.states == [ACCEPTED]
    assert e.lines("uplink lost") == [{"uplink": "A", "following": "B"}]


def test_the_way_back_to_a_standby_is_found_when_the_first_returns() -> None:
    network, (a, b) = interiors("A", "B")
    e = edge(network, "E")
    first, second = uplink(network, e, a), uplink(network, e, b)
    first.cut()
    first = uplink(network, e, a)
    assert links(first) == []
    second.cut()
    assert links(first) == VITAL


def test_deliveries_in_doubt_and_deliveries_not_sent_when_the_uplink_is_lost() -> None:
    network, (a, b) = interiors("A", "B")
    e = edge(network, "E")
    first = uplink(network, e, a)
    uplink(network, e, b)
    receiver = b.client().receiver("orders", credit=1000, auto=False)
    network.advance(1.5)
    sender = e.client().sender("orders")
    in_doubt = [sender.send(message(f"doubt {number}")) for number in range(5)]
    network.run()
    assert len(receiver.deliveries) == 5
    # Nothing more of these leaves the edge.
    first.cut_off = True
    waiting = [sender.send(message(f"waits {number}")) for number in range(300)]
    network.run()
    first.cut_off = False
    first.cut()
    network.advance(1.0)
    assert all(each.states == [Modified(delivery_failed=True)] and each.settled for each in in_doubt)
    sent = [each for each in waiting if each.states == [Modified(delivery_failed=True)]]
    bodies = [got.body for got in receiver.deliveries[5:]]
    # What had not been written took the new uplink, and the rest followed; every delivery has an outcome.
    assert len(bodies) > 100
    settled = 0
    while settled < len(receiver.deliveries):
        receiver.deliveries[settled].settle()
        settled += 1
        network.run()
    assert all(each.settled for each in waiting)
    assert [each.states for each in waiting].count([ACCEPTED]) == 300 - len(sent)
    assert len(receiver.deliveries) == 5 + 300 - len(sent)


def test_senders_go_on_while_uplinks_change_and_learn_when_nobody_is_there() -> None:
    network, (a, b) = interiors("A", "B")
    e = edge(network, "E")
    first = uplink(network, e, a)
    uplink(network, e, b)
    at_a = a.client()
    at_a.receiver("orders", credit=10)
    sender = e.client().sender("orders")
    network.advance(1.5)
    proxies = e.edge.proxies
    first.cut()
    address = e.router.addresses["Morders"]
    # The new uplink knows the receiver too: the sender did not notice.
    assert sender.credit == 250
    assert proxies[address].bound is proxies[address].sender
    at_a.cut()
    network.advance(1.5)
    sent = sender.send(message("one"))
    network.run()
    assert sent.states == [RELEASED]


def test_without_another_uplink_senders_are_held_back_until_it_is_back() -> None:
    network, a, e, line = single()
    a.client().receiver("orders", credit=100)
    sender = e.client().sender("orders")
    assert sender.credit == 250
    line.cut()
    sent = sender.send(message("one"))
    network.run()
    assert sent.states == [RELEASED]
    assert sender.credit == 0
    line = uplink(network, e, a)
    assert sender.credit == 250
    again = sender.send(message("two"))
    network.run()
    assert again.states == [ACCEPTED]
    assert links(line) == sorted([*VITAL, "to orders"])


def test_a_stream_under_way_when_the_uplink_is_lost_is_in_doubt() -> None:
    network, a, e, line = single()
    receiver = a.client().receiver("big", credit=10)
    sender = e.client().sender("big")
    stream = sender.begin(b"x" * 300_000)
    network.run()
    assert receiver.deliveries[0].incomplete
    line.cut()
    assert receiver.deliveries[0].aborted
    assert stream.states == [Modified(delivery_failed=True)]


def test_everything_is_gone_when_everybody_has_gone() -> None:
    network, a, e, line = single()
    clients = [a.client(), e.client()]
    for client in clients:
        client.receiver("orders", credit=10)
        client.sender("orders").send(message("one"))
        client.receiver(None, dynamic=True)
        client.sender(None).send(message("one", to="orders"))
    network.run()
    for client in clients:
        client.cut()
    network.advance(0.01)
    assert links(line) == VITAL
    line.cut()
    assert not e.router.addresses
    assert not e.edge.proxies
    assert not e.edge.elsewhere.outgoing
    assert not a.router.edge_peers
    assert not a.router.addresses
    for node in (a, e):
        node.router.budget.recount()
        assert not node.router.budget.orphans
        assert node.router.budget.held() == 0


def test_an_edge_at_a_listener_for_applications_is_told_so() -> None:
    network, (a,) = interiors("A")
    e = edge(network, "E")
    dialled = e.dial()
    network.wire(dialled, a.normal())
    assert "is its listener of role edge?" in dialled.refusal
    assert dialled.connection.closed
    assert not e.edge.uplinks
    assert e.edge.active is None


def test_an_edge_at_a_listener_for_routers_is_told_so() -> None:
    network, (a,) = interiors("A")
    e = edge(network, "E")
    dialled = e.dial()
    network.wire(dialled, a.accept())
    assert "is its listener of role edge?" in dialled.refusal


def test_an_application_at_a_listener_for_edges_is_served() -> None:
    network, (a,) = interiors("A")
    receiver = a.client().receiver("orders", credit=10)
    adaptor = listen(a)
    application = Connection("app", accepting=False)
    application.open()
    session = application.session()
    session.begin()
    link = session.sender("out")
    link.attach(Attach(name="out", handle=0, role=False, source=Source(), target=Target(address="orders")))
    for _ in range(5):
        adaptor.receive_data(b"".join(application.data_to_send()), 0.0)
        network.run()
        application.receive_data(b"".join(adaptor.data_to_send(65536)), 0.0)
    assert link.link_credit == 250
    assert receiver.error is None


@pytest.mark.parametrize("name", ["E", "A"])
def test_a_router_of_the_same_id_is_no_edge(name: str) -> None:
    network, (a,) = interiors("A")
    e = edge(network, name)
    dialled = e.dial()
    network.wire(dialled, listen(a))
    assert bool(dialled.refusal) == (name == "A")


def test_a_delivery_that_may_not_go_back_holds_no_sender_back() -> None:
    network, (a, b) = interiors("A", "B")
    at_a, at_b = a.client(), b.client()
    there = at_a.receiver("orders", credit=100)
    here = at_b.receiver("orders", credit=1, auto=False)
    network.advance(1.5)
    sender = at_b.sender("orders")
    from_a = at_a.sender("orders")
    there.auto = False
    sent = [from_a.send(message(str(number))) for number in range(4)]
    network.run()
    assert here.deliveries
    # A goes on sending to B for a moment: it has not heard yet that the receiver there has gone.
    here.detach()
    b.run()
    sent += [from_a.send(message(str(number))) for number in range(4, 12)]
    network.run()
    assert [RELEASED] in [each.states for each in sent]
    assert sender.credit == 250
    last = sender.send(message("last"))
    network.run()
    assert there.bodies[-1] == message("last")
    assert not last.settled


def test_what_waits_in_several_frames_takes_the_new_uplink_too() -> None:
    network, (a, b) = interiors("A", "B")
    e = edge(network, "E")
    first = uplink(network, e, a)
    uplink(network, e, b)
    receiver = b.client().receiver("orders", credit=100)
    news = b.client().receiver("mc/news", credit=100)
    network.advance(1.5)
    client = e.client()
    sender, anonymous, all_of_it = client.sender("orders"), client.sender(None), client.sender("mc/news")
    here = client.receiver("mc/news", credit=100)
    first.cut_off = True
    for _ in range(30):
        # What fills the wire is lost with it.
        sender.send(message("x" * 50_000))
    bodies = [message(text * 50_000, to="orders") for text in "ab"]
    sent = [sender.send(bodies[0]), anonymous.send(bodies[1], settled=True)]
    copied = all_of_it.send(message("news"))
    network.run()
    first.cut_off = False
    first.cut()
    network.advance(1.0)
    assert all(each.settled for each in sent)
    assert here.bodies == [message("news")]
    assert copied.states == [ACCEPTED]
    assert news.bodies in ([], [message("news")])
    assert len(receiver.bodies) <= 32
    assert e.router.budget.held() == 0


def test_a_link_waits_for_outcomes_and_streams_of_senders_that_have_gone() -> None:
    network, a, e, line = single()
    receiver = a.client().receiver("orders", credit=100, auto=False)
    client = e.client()
    for body in (message("small"), message("x" * 700_000)):
        sender = client.sender("orders")
        sender.send(body)
        network.run()
        sender.detach()
        network.run()
        assert "to orders" in links(line)
        receiver.deliveries[-1].settle()
        network.run()
        network.advance(0.01)
        assert set(links(line)) == set(VITAL)
    sender = client.sender("orders")
    sender.send(message("one"))
    network.run()
    sender.detach()
    network.run()
    # A new sender before that: the link is kept.
    client.sender("orders")
    receiver.deliveries[-1].settle()
    network.run()
    network.advance(0.01)
    assert "to orders" in links(line)


def test_idle_streaming_links_beyond_some_are_closed() -> None:
    network, a, e, line = single()
    streams = []
    for number in range(MAX_IDLE_STREAMS + 10):
        if number % 20 == 0:
            client, other = e.client(), a.client()
        # Each stream has a receiver, so that none waits here.
        other.receiver("big", credit=10)
        sender = client.sender("big", session=client.new_session())
        streams.append(sender.begin(b"x" * 270_000))
        network.run()
    for stream in streams:
        stream.abort()
    network.run()
    (peer,) = e.router.edge_peers.values()
    assert len(peer.stream_links) == MAX_IDLE_STREAMS + 10
    network.advance(31)
    assert len(peer.stream_links) == MAX_IDLE_STREAMS
    assert sum(what(link) == "to None" for link in line.calling.links) == MAX_IDLE_STREAMS + 1


def test_senders_are_held_back_when_the_new_uplink_knows_no_receiver() -> None:
    network = Routers()
    a, b = network.router("A"), network.router("B")
    e = edge(network, "E")
    first = uplink(network, e, a)
    uplink(network, e, b)
    a.client().receiver("orders", credit=100)
    sender = e.client().sender("orders")
    first.cut()
    network.advance(1.0)
    # It might still be told of one: so its deliveries go up, and come back.
    sent = sender.send(message("one"))
    network.run()
    assert sent.states == [RELEASED]
    assert sender.credit == 249
    network.advance(1.5)
    sent = sender.send(message("two"))
    network.run()
    assert sent.states == [RELEASED]
    assert sender.credit == 0
    b.client().receiver("orders", credit=100)
    assert sender.credit == 250


def test_an_edge_that_ends_opens_no_other_uplink() -> None:
    network, (a, b) = interiors("A", "B")
    e = edge(network, "E")
    first, second = uplink(network, e, a), uplink(network, e, b)
    e.router.ending = True
    for line in (first, second):
        line.calling.hold_back()
        line.calling.give_back()
        line.calling.close("amqp:connection:forced", "the end")
    network.run()
    assert links(second) == []
    assert e.edge.active is None
    assert a.router.edge_peers == b.router.edge_peers == {}


def test_streams_share_a_link_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    network, a, e, _ = single()
    monkeypatch.setattr(neighbor_module, "MAX_STREAMS", 1)
    receivers = [a.client().receiver("big", credit=10) for _ in range(2)]
    client = e.client()
    streams = [
        client.sender("big", session=client.new_session()).begin(text * 270_000) for text in (b"x", b"y")
    ]
    network.run()
    (peer,) = e.router.edge_peers.values()
    assert len(peer.stream_links) == 1
    for stream in streams:
        stream.end()
        network.run()
    assert sorted(body for receiver in receivers for body in receiver.bodies) == [b"x" * 270_000, b"y" * 270_000]
    assert [stream.states for stream in streams] == [[ACCEPTED]] * 2


def test_senders_keep_their_receiver_when_the_new_uplink_knew_it() -> None:
    network, (a, b) = interiors("A", "B")
    e = edge(network, "E")
    first = uplink(network, e, a)
    uplink(network, e, b)
    receiver = b.client().receiver("orders", credit=10)
    sender = e.client().sender("orders")
    network.advance(1.5)
    first.cut()
    # The time in which the receiver was taken for granted passes.
    network.advance(3.0)
    proxies = e.edge.proxies[e.router.addresses["Morders"]]
    assert proxies.bound is proxies.sender
    sent = sender.send(message("one"))
    network.run()
    assert sent.states == [ACCEPTED]
    assert receiver.bodies == [message("one")]


def test_an_anonymous_multicast_goes_up_once_when_a_sender_of_its_address_has_a_link() -> None:
    network, a, e, _ = single()
    here, there = e.client().receiver("mc/news", credit=10), a.client().receiver("mc/news", credit=10)
    e.client().sender("mc/news")
    address = e.router.addresses["Mmc/news"]
    assert e.edge.proxies[address].bound is not None
    sent = e.client().sender(None).send(message("one", to="mc/news"))
    network.run()
    assert here.bodies == there.bodies == [message("one", to="mc/news")]
    assert sent.states == [ACCEPTED]


def test_presettled_deliveries_that_wait_for_an_uplink_take_the_next() -> None:
    network, (a, b) = interiors("A", "B")
    e = edge(network, "E")
    first = uplink(network, e, a)
    uplink(network, e, b)
    receiver = b.client().receiver("orders", credit=1000)
    network.advance(1.5)
    anonymous = e.client().sender(None)
    first.cut_off = True
    for number in range(250):
        anonymous.send(message(f"{number}" + "x" * 20_000, to="orders"), settled=True)
    network.run()
    assert e.edge.active is not None
    assert e.edge.active.sender is not None
    waiting = len(e.edge.active.sender.undelivered)
    first.cut_off = False
    first.cut()
    network.advance(1.0)
    assert waiting > 0
    assert len(receiver.bodies) >= waiting
    assert len(set(receiver.bodies)) == len(receiver.bodies)
    assert e.router.budget.held() == 0
