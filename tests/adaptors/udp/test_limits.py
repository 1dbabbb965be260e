"""What is lost is counted, nothing blocks, and a flood is bounded."""

from __future__ import annotations

from tests.adaptors.udp.scene import Scene
from tests.routing.test_endpoint import App
from van.adaptors.udp.flows import MAX_FLOW_WAITING, MAX_WAITING, MAX_WAITING_OCTETS, MAX_WAYS
from van.adaptors.udp.gathering import MAX_HEAD, MAX_PARTIAL
from van.adaptors.udp.message import MAX_DATAGRAM, body, head


def test_a_datagram_that_is_too_large_is_lost_either_way() -> None:
    scene = Scene(2, max_datagram_size=100)
    scene.out.server = lambda data: [b"x" * 101, b"y" * 100]
    scene.listener.send("anna", b"x" * 101, b"z" * 100)
    scene.run()
    assert scene.out.all() == [b"z" * 100]
    assert scene.listener.received == [("anna", b"y" * 100)]
    assert scene.listener.losses() == scene.out.losses() == {"too large": 1}
    scene.close()


def test_one_that_only_the_other_end_finds_too_large() -> None:
    scene = Scene(2)
    small = scene.connector(1, max_datagram_size=10)
    scene.out.service.stop()
    scene.ends.remove(scene.out)
    scene.settle()
    scene.listener.send("anna", b"x" * 11, b"y")
    scene.run()
    assert small.all() == [b"y"]
    assert small.losses() == {"too large": 1}
    scene.listener.service.max_datagram_size = 3
    small.server = lambda data: [b"four", b"two"]
    scene.listener.send("anna", b"z")
    scene.run()
    assert scene.listener.answers("anna") == [b"y", b"two"]
    assert scene.listener.losses() == {"refused": 1, "too large": 1}
    scene.close()


def test_nobody_there_makes_no_flow() -> None:
    scene = Scene(1)
    scene.out.service.stop()
    scene.ends.remove(scene.out)
    for number in range(100):
        scene.listener.send(f"{number}", b"x")
    assert scene.listener.losses() == {"nobody there": 100}
    assert scene.listener.service.flows == 0
    assert [line["total"] for line in scene.nodes[0].lines("datagrams dropped")] == [1]
    scene.close()


class Slow(Scene):
    """A receiver that says nothing of what it was sent: credit runs out."""

    def __init__(self) -> None:
        super().__init__(1)
        self.out.service.stop()
        self.ends.remove(self.out)
        self.app = App(self.nodes[0].router, "app")
        self.app.on_wake = lambda: None
        self.receiver = self.app.session.attach_outgoing("svc", 10)
        self.run()


def test_what_waits_is_bounded_by_count() -> None:
    scene = Slow()
    for client in range(2000):
        scene.listener.send(f"{client}", b"x")
    service = scene.listener.service
    assert service.waiting == MAX_WAITING
    assert scene.listener.losses() == {"queue full": 2000 - MAX_WAITING - 250}
    scene.app.session.close()
    scene.run()
    assert service.waiting == 0
    scene.close()


def test_what_waits_is_bounded_by_octets() -> None:
    scene = Slow()
    for client in range(500):
        scene.listener.send(f"{client}", b"x" * 60000)
    service = scene.listener.service
    assert 0 < service.waiting_octets <= MAX_WAITING_OCTETS
    assert scene.listener.losses()["queue full"] >= 200
    scene.app.session.close()
    scene.run()
    assert service.waiting_octets == service.waiting == 0
    scene.close()


def test_one_flow_that_floods_leaves_room_for_others() -> None:
    scene = Slow()
    # Nobody says that the first of the flow has arrived: the rest waits.
    scene.listener.send("flood", *(b"%d" % number for number in range(5000)))
    assert scene.listener.service.waiting == MAX_FLOW_WAITING
    assert scene.listener.losses() == {"queue full": 5000 - 1 - MAX_FLOW_WAITING}
    # Another has credit, and its turn.
    scene.listener.send("anna", b"x")
    assert scene.listener.service.waiting == MAX_FLOW_WAITING
    assert scene.listener.losses() == {"queue full": 5000 - 1 - MAX_FLOW_WAITING}
    # What is lost is what is oldest.
    out = scene.connector(0)
    scene.app.session.close()
    scene.settle()
    assert out.all() == [b"%d" % number for number in range(5000 - MAX_FLOW_WAITING, 5000)]
    scene.close()


def test_the_longest_queue_loses_when_all_is_full() -> None:
    scene = Slow()
    for client in range(250):
        scene.listener.send(f"credit {client}", b"x")
    floods = [f"flood {number}" for number in range(MAX_WAITING // MAX_FLOW_WAITING)]
    for flood in floods:
        scene.listener.send(flood, *[b"y"] * MAX_FLOW_WAITING)
    assert scene.listener.service.waiting == MAX_WAITING
    assert not scene.listener.losses()
    for client in range(10):
        scene.listener.send(f"late {client}", b"z")
    assert scene.listener.service.waiting == MAX_WAITING
    out = scene.connector(0)
    scene.app.session.close()
    scene.settle()
    received = out.all()
    assert received.count(b"z") == 10
    assert received.count(b"y") == MAX_WAITING - 10
    scene.close()


def test_more_listeners_than_links_share_one() -> None:
    scene = Scene(1)
    ends = [scene.listening(0) for _ in range(MAX_WAYS + 5)]
    for number, end in enumerate(ends):
        for text in (b"1", b"2"):
            end.send(f"client {number}", text)
            scene.run()
    assert all(end.answers(f"client {number}") == [b"1", b"2"] for number, end in enumerate(ends))
    assert scene.out.service.flows == MAX_WAYS + 5
    scene.close()


# --- messages in several frames


def test_partial_messages_are_bounded_by_count_and_size() -> None:
    scene = Scene(1)
    app = App(scene.nodes[0].router, "app")
    scene.out.server = lambda data: []
    links = [app.session.attach_incoming("svc", 4) for _ in range(MAX_PARTIAL + 1)]
    scene.run()
    for number, link in enumerate(links):
        link.begin(head("svc", "", f"{number}"))
    scene.run()
    assert scene.out.losses() == {"queue full": 1}
    for link in links:
        link.append(body(b"abc"), more=False)
    scene.run()
    assert scene.out.all() == [b"abc"] * MAX_PARTIAL
    link = links[0]
    link.begin(head("svc", "", "large"))
    link.append(b"x" * (MAX_DATAGRAM + MAX_HEAD))
    scene.run()
    assert link.current is None
    assert scene.out.losses() == {"queue full": 1, "too large": 1}
    link.begin(head("svc", "", "half"))
    scene.run()
    link.abort()
    scene.run()
    assert len(scene.out.all()) == MAX_PARTIAL
    app.session.close()
    scene.close()
