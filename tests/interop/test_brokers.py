"""Addresses that live in brokers by others, with Proton's clients at the router: nothing is lost, whoever is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.foreign_brokers import ForeignBroker, ProtonBroker, RabbitMQ, broker
from tests.interop.harness import Certificates, Proton, Router

pytestmark = pytest.mark.interop

MEGABYTE = 1_000_000
SITE = """
[router]
id = "east"
workers = {workers}

[[listener]]
name = "open"
url = "amqp://127.0.0.1:0"

[[connector]]
name = "broker"
url = "amqp://127.0.0.1:{port}"
role = "route-container"
{keys}

[[address]]
prefix = "orders"
waypoint = true

[[auto_link]]
connection = "broker"
address = "orders"
external_address = "{queue}"
direction = "out"

[[auto_link]]
connection = "broker"
address = "orders"
external_address = "{queue}"
direction = "in"
"""
MISSING = """
[[auto_link]]
connection = "broker"
address = "nothing"
external_address = "/exchange/nothing/key"
direction = "{direction}"
"""


class Place:
    """A broker, a router with a connection to it, and clients of the router."""

    def __init__(self, folder: Path, beside: ForeignBroker, certificates: Certificates, queue: str) -> None:
        self.folder = folder
        self.broker = beside
        self.queue = queue
        self._certificates = certificates
        self.router: Router
        self.proton: Proton

    def start(self, more: str = "", workers: int = 1) -> None:
        """Start a router, and wait until both links are there."""
        site_file = self.folder / "site.toml"
        queue = self.broker.queue(self.queue)
        text = SITE.format(port=self.broker.port, keys=self.broker.keys, queue=queue, workers=workers)
        site_file.write_text(text + more)
        self.router = Router(site_file)
        self.proton = Proton(self.router, self._certificates, self.folder)
        for direction in ("out", "in"):
            self.router.wait_for_log(event="auto-link active", direction=direction)

    def stop(self) -> None:
        self.proton.end_all()
        self.router.stop()

    def send(self, *bodies: str) -> list[str]:
        return self.proton.program("send", address="orders", bodies=bodies, **self.proton.to("open")).output()

    def receive(self, count: int, **options: object) -> list[str]:
        options |= self.proton.to("open")
        return self.proton.program("receive", address="orders", count=count, **options).output()[1:]


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[type[ForeignBroker]], ForeignBroker]]:
    """Starts each kind of broker once."""
    running: dict[type[ForeignBroker], ForeignBroker] = {}

    def of_kind(kind: type[ForeignBroker]) -> ForeignBroker:
        if kind not in running:
            running[kind] = kind(tmp_path_factory.mktemp("broker"))
            running[kind].start()
        return running[kind]

    yield of_kind
    for each in running.values():
        each.kill()


@pytest.fixture
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    brokers: Callable[[type[ForeignBroker]], ForeignBroker],
    certificates: Certificates,
) -> Iterator[Place]:
    found = Place(tmp_path, brokers(request.param), certificates, f"van.{request.node.originalname}")
    yield found
    found.stop()


every_broker = pytest.mark.parametrize("place", [ProtonBroker, RabbitMQ], indirect=True)
only_rabbitmq = pytest.mark.parametrize("place", [RabbitMQ], indirect=True)


@every_broker
def test_the_broker_keeps_what_nobody_receives(place: Place) -> None:
    place.start()
    assert place.send("a", "b") == ["a accepted settled", "b accepted settled"]
    # Nor does it matter to whom the broker gives it.
    place.stop()
    place.start()
    assert place.receive(2) == ["message a unsettled", "message b unsettled"]
    place.router.check_alive()


@every_broker
def test_large_messages_by_way_of_the_broker(place: Place) -> None:
    place.start()
    size = 3 * MEGABYTE
    done = place.proton.program("large", address="orders", size=size, **place.proton.to("open"))
    assert done.output() == [f"{size} the same"]


@only_rabbitmq
def test_what_is_released_or_lost_is_the_brokers_again(place: Place) -> None:
    """RabbitMQ 3 knows no outcome modified, and would end the session: a receiver that dies is one."""
    place.start()
    assert place.send("a", "b") == ["a accepted settled", "b accepted settled"]
    # What was released may be there again before the receiver has gone, which releases it once more.
    came = place.receive(2, outcomes={"a": "released"})
    assert came[:2] == ["message a unsettled", "message b unsettled"]
    assert set(came[2:]) <= {"message a unsettled"}
    assert place.receive(1, outcomes={"a": "failed"}) == ["message a unsettled"]
    assert place.receive(1, outcomes={"a": "rejected"}) == ["message a unsettled"]
    assert place.send("c") == ["c accepted settled"]
    assert place.receive(1) == ["message c unsettled"]


@only_rabbitmq
@pytest.mark.parametrize("direction", ["in", "out"])
def test_what_the_broker_does_not_have_disturbs_no_other(place: Place, direction: str) -> None:
    """RabbitMQ 3 ends the session that asks for it."""
    place.start(MISSING.format(direction=direction))
    failed = place.router.wait_for_log(event="auto-link failed", at_broker="/exchange/nothing/key")
    assert failed["reason"].startswith("amqp:not-found")
    assert place.send("a") == ["a accepted settled"]
    failures = [line for line in place.router.log() if line["event"] == "auto-link failed"]
    assert {line["at_broker"] for line in failures} == {"/exchange/nothing/key"}
    assert place.receive(1) == ["message a unsettled"]


@pytest.mark.parametrize("place", [ProtonBroker], indirect=True)
def test_senders_and_receivers_in_other_processes_of_the_router(place: Place) -> None:
    place.start(workers=2)
    assert place.send("a", "b") == ["a accepted settled", "b accepted settled"]
    assert place.receive(2) == ["message a unsettled", "message b unsettled"]


def test_senders_wait_for_a_broker_that_is_away(tmp_path: Path, certificates: Certificates) -> None:
    with broker(ProtonBroker, tmp_path / "broker") as away:
        place = Place(tmp_path, away, certificates, "queue")
        place.start()
        away.kill()
        place.router.wait_for_log(event="connection closed", peer=f"127.0.0.1:{away.port}")
        sender = place.proton.program("send", address="orders", bodies=["a"], **place.proton.to("open"))
        away.start()
        assert sender.output() == ["a accepted settled"]
        assert place.receive(1) == ["message a unsettled"]
        place.stop()
