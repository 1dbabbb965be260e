"""Routers with services tell those that answer names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.adaptors.routers import RouterNode, Routers
from tests.routing.test_endpoint import App
from van.adaptors.dns.directory import (
    ASKED,
    CONNECT,
    FORGET_SECONDS,
    LISTEN,
    MAX_ROUTERS,
    MAX_SERVICES,
    SERVICES,
    TOLD,
    ServiceDirectory,
    ServiceRecord,
    read_records,
)
from van.amqp.delivery_state import ACCEPTED
from van.amqp.message import AmqpValue, Message, Properties


def record(address: str, port: int = 80, scheme: str = "tcp", side: str = CONNECT) -> ServiceRecord:
    return ServiceRecord(address, scheme, port, side)


class Scene:
    """Three routers in a line; the last has services, the first answers names."""

    def __init__(self) -> None:
        self.network = Routers()
        self.nodes: list[RouterNode] = [self.network.router(name) for name in "ABC"]
        self.lines = [
            self.network.connect(one, other) for one, other in zip(self.nodes, self.nodes[1:], strict=False)
        ]
        self.directories: list[ServiceDirectory] = []
        self.asking = self.directory(0, asks=True)
        self.telling = self.directory(2)
        self.changes = 0
        self.asking.on_change = self.changed
        self.advance(10)

    def changed(self) -> None:
        self.changes += 1

    def directory(self, index: int, *, asks: bool = False) -> ServiceDirectory:
        made = ServiceDirectory(self.nodes[index].router, self.nodes[index].log, asks=asks)
        self.directories.append(made)
        return made

    def advance(self, seconds: float) -> None:
        end = self.network.now + seconds
        while self.network.now < end:
            # What is heard may bring deadlines forward.
            self.network.advance(min(0.5, end - self.network.now))
            for each in self.directories:
                if each.next_deadline() <= self.network.now:
                    each.handle_deadline(self.network.now)
            self.network.run()

    def found(self, address: str, asking: ServiceDirectory | None = None) -> list[list[str | int]]:
        return [each.values() for each in (asking or self.asking).find(address)]

    def close(self) -> None:
        for each in self.directories:
            each.stop()
        self.network.advance(3)
        for node in self.nodes:
            assert node.router.budget.held() == 0
            assert not [key for key in node.router.addresses if "temp" in key or key.startswith("Mmc/")]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_routers_have_is_known_where_names_are_answered(scene: Scene) -> None:
    assert scene.found("orders") == []
    scene.telling.set_own([record("orders", 5432), record("syslog", 514, "udp")])
    scene.advance(3)
    assert scene.found("orders") == [["orders", "tcp", 5432, CONNECT]]
    assert scene.found("syslog") == [["syslog", "udp", 514, CONNECT]]
    assert sorted(scene.asking.addresses()) == ["orders", "syslog"]
    assert scene.changes == 1
    scene.close()


def test_changes_are_told_at_once(scene: Scene) -> None:
    scene.telling.set_own([record("orders", 5432)])
    scene.advance(3)
    scene.telling.set_own([record("orders", 5433), record("news", 80)])
    scene.network.run()
    assert scene.found("orders") == [["orders", "tcp", 5433, CONNECT]]
    scene.telling.set_own([])
    scene.network.run()
    assert list(scene.asking.addresses()) == []
    assert scene.changes == 3
    scene.close()


def test_own_services_come_first_and_need_no_network(scene: Scene) -> None:
    scene.telling.set_own([record("orders", 5432)])
    scene.asking.set_own([record("orders", 1, side=LISTEN)])
    assert scene.found("orders") == [["orders", "tcp", 1, LISTEN]]
    scene.advance(3)
    assert scene.found("orders") == [["orders", "tcp", 1, LISTEN], ["orders", "tcp", 5432, CONNECT]]
    assert scene.asking.own[0].address == "orders"
    scene.close()


def test_a_router_that_comes_later_hears_what_there_is(scene: Scene) -> None:
    scene.telling.set_own([record("orders")])
    scene.advance(3)
    late = scene.directory(1, asks=True)
    scene.advance(1)
    assert scene.found("orders", late) == [["orders", "tcp", 80, CONNECT]]
    scene.close()


def test_a_router_that_is_gone_is_forgotten(scene: Scene) -> None:
    scene.telling.set_own([record("orders")])
    scene.advance(3)
    scene.lines[1].cut()
    scene.advance(FORGET_SECONDS - 40)
    assert scene.found("orders")
    scene.advance(45)
    assert not scene.found("orders")


def test_services_stay_known_for_as_long_as_they_are_there(scene: Scene) -> None:
    scene.telling.set_own([record("orders")])
    scene.advance(1000)
    assert scene.found("orders")
    assert scene.changes == 1
    scene.close()


def test_one_that_waits_may_ask_but_not_too_often(scene: Scene) -> None:
    assert not scene.asking.ask(scene.network.now)
    scene.telling.set_own([record("orders")])
    scene.advance(3)
    count = scene.asking.router.addresses["M" + SERVICES].incoming[0].presettled
    later = scene.network.now + 1.5
    for _ in range(10):
        assert scene.asking.ask(later)
    scene.network.run()
    assert scene.asking.router.addresses["M" + SERVICES].incoming[0].presettled == count + 1
    assert not scene.telling.ask(scene.network.now)
    scene.close()


def test_all_routers_are_asked_whatever_their_configuration(scene: Scene) -> None:
    scene.telling.set_own([record("one")])
    for index, address in ((1, "two"), (2, "three"), (0, "four")):
        scene.directory(index).set_own([record(address)])
    scene.advance(35)
    # Two at one router are taken for one.
    assert {"two", "four"} - set(scene.asking.addresses()) <= {"four"}
    assert "two" in set(scene.asking.addresses())
    scene.close()


def test_many_services_come_in_a_message_of_several_frames(scene: Scene) -> None:
    scene.telling.set_own([record(f"{number}/{'x' * 300}") for number in range(MAX_SERVICES + 10)])
    scene.advance(3)
    assert len(list(scene.asking.addresses())) == MAX_SERVICES
    scene.close()


def test_an_application_asks(scene: Scene) -> None:
    scene.telling.set_own([record("orders", 5432)])
    scene.advance(3)
    app = App(scene.nodes[0].router, "app")
    inbox = app.session.attach_outgoing("", 10)
    question = app.session.attach_incoming(SERVICES, 10)
    scene.network.run()
    asking = Properties(reply_to=inbox.address, message_id="7")
    for properties in (asking, Properties(), None, Properties(reply_to="$management")):
        question.send(Message(properties=properties, body=AmqpValue(None)).encode())
    question.send(b"garbage")
    scene.network.run()
    (answer,) = app.taken
    message = Message.decode(answer.payload)
    assert message.application_properties == {"router": "C"}
    assert message.body == AmqpValue([["orders", "tcp", 5432, CONNECT]])
    assert message.properties is not None
    assert message.properties.correlation_id == "7"
    assert scene.telling.refused == 4
    if not answer.settled:
        inbox.settle(answer, ACCEPTED)
    app.session.close()
    scene.close()


class Liar(Scene):
    """Somebody tells what is none."""

    def __init__(self) -> None:
        super().__init__()
        self.telling.set_own([record("orders")])
        self.advance(3)
        self.app = App(self.nodes[1].router, "app")
        self.ear = self.app.session.attach_outgoing(SERVICES, 10)
        self.mouth = self.app.session.attach_incoming("", 2000)
        self.advance(35)
        asked = Message.decode(self.app.taken[-1].payload).properties
        assert asked is not None
        assert asked.subject == ASKED
        assert isinstance(asked.reply_to, str)
        self.reply_to = asked.reply_to

    def tell(self, body: object, router: object = "X", subject: str = TOLD) -> None:
        message = Message(
            properties=Properties(to=self.reply_to, subject=subject),
            application_properties={"router": router},
            body=AmqpValue(body),
        )
        self.mouth.send(message.encode(), True)
        self.network.run()


def test_what_is_told_wrongly_is_not_taken() -> None:
    scene = Liar()
    for body in (None, 7, "x", [7], [["a"]], [["a", "tcp", "80", CONNECT]], [[1, "tcp", 80, CONNECT]]):
        scene.tell(body)
    scene.tell([["a", "tcp", 80, CONNECT]], router=7)
    scene.tell([["a", "tcp", 80, CONNECT]], router="A")
    scene.tell([["a", "tcp", 80, CONNECT]], subject="other")
    scene.tell([["a", "tcp", 80, "other"], ["b", "tcp", 0, CONNECT], ["c" * 3000, "tcp", 1, CONNECT]])
    assert list(scene.asking.addresses()) == ["orders"]


def test_routers_that_are_remembered_are_bounded() -> None:
    scene = Liar()
    for number in range(MAX_ROUTERS + 10):
        scene.tell([[f"{number}", "tcp", 80, CONNECT]], router=f"router {number}")
    assert len(list(scene.asking.addresses())) == MAX_ROUTERS
    assert scene.found(f"{MAX_ROUTERS + 9}")


LEAVES = st.none() | st.integers(-5, 70000) | st.sampled_from(["a", CONNECT, "tcp"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=5))


@given(VALUES)
def test_any_value(value: object) -> None:
    records = read_records(value)
    for each in records or ():
        assert each.side in (CONNECT, LISTEN)
        assert 0 < each.port < 65536
