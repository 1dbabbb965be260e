"""Flows of datagrams: all of one go to the same server, answers find their way back, and idle ones end."""

from __future__ import annotations

import pytest

from tests.adaptors.udp.scene import ConnectingEnd, Scene


@pytest.fixture(params=[1, 2, 3])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


def test_a_datagram_and_its_answer(scene: Scene) -> None:
    scene.listener.send("anna", b"hello")
    scene.run()
    assert scene.out.all() == [b"hello"]
    assert scene.listener.received == [("anna", b"hello")]
    scene.close()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 1400, 65507])
def test_datagrams_of_all_sizes_stay_as_they_are(scene: Scene, size: int) -> None:
    datagram = b"x" * size
    for _ in range(3):
        scene.listener.send("anna", datagram)
        scene.run()
    assert scene.listener.received == [("anna", datagram)] * 3
    scene.close()


def test_the_first_datagrams_of_a_flow_arrive_in_order_at_one_server(scene: Scene) -> None:
    others = [scene.connector(len(scene.nodes) - 1) for _ in range(3)]
    scene.settle()
    sent = [b"%d" % number for number in range(20)]
    scene.listener.send("anna", *sent)
    scene.run()
    received = [end.all() for end in (scene.out, *others) if end.all()]
    assert received == [sent]
    assert scene.listener.answers("anna") == sent
    scene.close()


def test_each_flow_stays_where_it_began_and_flows_are_spread(scene: Scene) -> None:
    ends = [scene.out, *(scene.connector(len(scene.nodes) - 1) for _ in range(2))]
    scene.settle()
    clients = [f"client {number}" for number in range(30)]
    for turn in range(5):
        for client in clients:
            scene.listener.send(client, f"{client}: {turn}".encode())
        scene.run()
    where: dict[bytes, set[int]] = {}
    for index, end in enumerate(ends):
        assert len(end.sockets) == 10
        for data in end.all():
            where.setdefault(data.split(b":")[0], set()).add(index)
    assert [len(found) for found in where.values()] == [1] * 30
    for client in clients:
        assert scene.listener.answers(client) == [f"{client}: {turn}".encode() for turn in range(5)]
    scene.close()


def test_a_flow_has_a_socket_of_its_own(scene: Scene) -> None:
    scene.listener.send("anna", b"a")
    scene.listener.send("bert", b"b")
    scene.run()
    assert sorted(scene.out.received.values()) == [[b"a"], [b"b"]]
    assert len(scene.out.sockets) == 2
    scene.close()


def test_a_server_that_never_answers(scene: Scene) -> None:
    scene.out.server = lambda data: []
    for number in range(100):
        scene.listener.send("anna", b"%d" % number)
        scene.advance(0.3)
    assert scene.out.all() == [b"%d" % number for number in range(100)]
    assert len(scene.out.sockets) == 1
    assert scene.listener.received == []
    assert not scene.listener.losses()
    scene.close()


def test_a_server_that_sends_much_after_one_question(scene: Scene) -> None:
    scene.listener.send("anna", b"hello")
    scene.run()
    (flow,) = scene.out.sockets
    for number in range(300):
        scene.out.service.receive_datagram(flow, b"%d" % number, scene.network.now)
        scene.advance(0.5)
    assert scene.listener.answers("anna") == [b"hello", *(b"%d" % number for number in range(300))]
    assert scene.listener.service.flows == scene.out.service.flows == 1
    scene.close()


def test_an_idle_flow_ends_at_both_ends() -> None:
    scene = Scene(2, flow_timeout=60.0)
    scene.listener.send("anna", b"a")
    scene.advance(59)
    assert scene.listener.service.flows == scene.out.service.flows == len(scene.out.sockets) == 1
    scene.listener.send("anna", b"b")
    scene.advance(59)
    assert scene.out.all() == [b"a", b"b"]
    assert len(scene.out.sockets) == 1
    scene.advance(2)
    assert scene.listener.service.flows == scene.out.service.flows == len(scene.out.sockets) == 0
    scene.listener.send("anna", b"c")
    scene.run()
    assert [len(datagrams) for datagrams in scene.out.received.values()] == [2, 1]
    assert scene.listener.service.connections == 1
    assert scene.listener.service.connections_opened == 2
    scene.close()


def test_of_too_many_flows_the_one_that_is_idle_for_longest_ends(scene: Scene) -> None:
    scene.listener.service.max_flows = 3
    for client in ("anna", "bert", "cleo", "anna", "dora"):
        scene.listener.send(client, client.encode())
        scene.advance(1)
    assert scene.listener.service.flows == 3
    scene.listener.send("bert", b"again")
    scene.run()
    assert scene.listener.answers("bert") == [b"bert", b"again"]
    assert len(scene.out.received) == 5
    scene.close()


def test_a_connector_with_too_many_flows_goes_on_with_a_new_socket(scene: Scene) -> None:
    scene.out.service.max_flows = 2
    for turn in range(3):
        for client in ("anna", "bert", "cleo"):
            scene.listener.send(client, b"%d" % turn)
            scene.run()
    assert len(scene.out.sockets) == 2
    for client in ("anna", "bert", "cleo"):
        assert scene.listener.answers(client) == [b"0", b"1", b"2"]
    scene.close()


def test_answers_after_the_listener_has_forgotten_a_flow_go_nowhere(scene: Scene) -> None:
    scene.listener.send("anna", b"a")
    scene.run()
    (flow,) = scene.out.sockets
    scene.listener.service.max_flows = 1
    scene.listener.send("bert", b"b")
    scene.run()
    scene.out.service.receive_datagram(flow, b"late", scene.network.now)
    scene.run()
    assert scene.listener.received == [("anna", b"a"), ("bert", b"b")]
    assert scene.listener.losses() == {"no such flow": 1}
    scene.close()


# --- ends that go


def alive(scene: Scene, *ends: ConnectingEnd) -> ConnectingEnd:
    """The end that has had something, of which there is one."""
    (found,) = [end for end in ends if end.all()]
    return found


def test_a_connector_ends_and_another_has_the_rest_of_the_flow(scene: Scene) -> None:
    other = scene.connector(0)
    scene.settle()
    scene.listener.send("anna", b"1")
    scene.run()
    first = alive(scene, scene.out, other)
    second = other if first is scene.out else scene.out
    first.service.stop()
    first.wake()
    scene.ends.remove(first)
    # Datagrams may go to nobody for as long as a flow sends without asking.
    for number in range(2, 40):
        scene.listener.send("anna", b"%d" % number)
        scene.advance(0.1)
    received = [int(data) for data in first.all() + second.all()]
    assert received == sorted(received)
    lost = set(range(1, 40)) - set(received)
    assert len(lost) <= 12
    assert second.all()
    assert scene.listener.answers("anna")[-1] == b"39"
    scene.close()


def test_a_server_that_refuses_is_left_alone_and_another_is_asked(scene: Scene) -> None:
    other = scene.connector(0)
    scene.settle()
    scene.listener.send("anna", b"1")
    scene.run()
    first = alive(scene, scene.out, other)
    second = other if first is scene.out else scene.out
    first.server = None
    for number in range(2, 30):
        scene.listener.send("anna", b"%d" % number)
        scene.advance(0.1)
    assert first.losses()["refused"] >= 1
    assert second.all()[-1] == b"29"
    assert len(second.all()) >= 26
    assert len(first.node.lines("server refuses")) == 1
    # It is back: it has new flows again after a while.
    first.server = lambda data: [data]
    scene.advance(10)
    assert not first.service.held_off
    for number in range(10):
        scene.listener.send(f"{number}", b"x")
        scene.run()
    assert first.all()[-1] == b"x"
    scene.close()


def test_a_refusing_server_is_asked_less_and_less_often() -> None:
    scene = Scene(2)
    scene.out.server = None
    for _ in range(600):
        scene.listener.send("anna", b"x")
        scene.advance(0.1)
    assert scene.out.received == {}
    times = [line["seconds"] for line in scene.out.node.lines("server refuses")]
    assert times[:5] == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert len(times) <= 10
    assert scene.listener.losses().keys() <= {"nobody there", "refused"}
    scene.close()


def test_the_router_on_the_way_is_lost_and_the_flow_is_made_anew() -> None:
    scene = Scene(2)
    near = scene.connector(0)
    near.service.stop()
    scene.ends.remove(near)
    scene.listener.send("anna", b"1")
    scene.run()
    assert scene.out.all() == [b"1"]
    scene.network.between(*scene.nodes).cut()
    scene.listener.send("anna", b"lost")
    scene.run()
    near = scene.connector(0)
    scene.listener.send("anna", b"2")
    scene.run()
    assert near.all() == [b"2"]
    assert scene.listener.answers("anna") == [b"1", b"2"]


def test_a_listener_ends_and_the_flows_of_its_clients_end_at_the_server(scene: Scene) -> None:
    scene.listener.send("anna", b"1")
    scene.run()
    (flow,) = scene.out.sockets
    scene.listener.service.stop()
    scene.ends.remove(scene.listener)
    for _ in range(30):
        scene.out.service.receive_datagram(flow, b"more", scene.network.now)
        scene.advance(0.1)
    assert not scene.out.sockets
    assert scene.out.service.flows == 0
    scene.close()


# --- multicast


def test_multicast_reaches_every_server_and_all_may_answer() -> None:
    scene = Scene(3, multicast=True)
    near, same = scene.connector(0), scene.connector(2)
    near.server = lambda data: [data + b" near"]
    same.server = lambda data: []
    scene.run()
    for number in range(3):
        scene.listener.send("anna", b"%d" % number)
        scene.run()
    for end in (scene.out, near, same):
        assert end.all() == [b"0", b"1", b"2"]
    assert sorted(scene.listener.answers("anna")) == [b"0", b"0 near", b"1", b"1 near", b"2", b"2 near"]
    scene.close()
