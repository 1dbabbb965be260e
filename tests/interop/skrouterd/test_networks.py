"""Networks of van and skrouterd: everything that works between routers of one kind works between these, both ways.

Needs VAN_SKROUTERD=/path/to/skrouterd. With VAN_ONLY_SKROUTERD=1 the networks are of skrouterds alone.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.interop.harness import Program
from tests.interop.skrouterd.network import Figures, Network

pytestmark = [pytest.mark.interop, pytest.mark.slow]

MEGABYTE = 1_000_000


@pytest.fixture(params=["there", "back"])
def way(request: pytest.FixtureRequest, network: Network) -> tuple[str, str]:
    """From one end of the network to the other."""
    one, other = network.ends
    return (one, other) if request.param == "there" else (other, one)


@pytest.fixture
def address(request: pytest.FixtureRequest) -> str:
    """An address that no other scene uses: a skrouterd keeps what it knows of an address for a while."""
    return f"scene.{time.monotonic_ns()}"


def result(program: Program, seconds: float = 60) -> dict[str, object]:
    """Wait for the end of a program, and for what it prints last."""
    deadline = time.monotonic() + seconds
    while program.running and time.monotonic() < deadline:
        time.sleep(0.02)
    lines = program.output()
    loaded: dict[str, object] = json.loads(lines[-1])
    return loaded


def test_every_router_shows_the_whole_network(network: Network) -> None:
    interiors = network.plan.interiors
    seen = network.ask(interiors, "router.node", [{"id": name} for name in interiors])
    for name, (_, rows) in seen.items():
        assert {row["id"] for row in rows} == set(interiors), name


def test_skstat_shows_the_whole_network_on_every_router(network: Network) -> None:
    for at in network.plan.interiors:
        rows = network.skstat(at, "-n").splitlines()
        table = rows[next(index for index, row in enumerate(rows) if row.lstrip().startswith("===")) + 1 :]
        assert {row.split()[0] for row in table} == set(network.plan.interiors), "\n".join(rows)


def test_skstat_reaches_every_router_from_every_router(network: Network) -> None:
    for at in network.plan.interiors:
        for other in network.plan.interiors:
            lines = network.skstat(at, "-r", other, "-g").splitlines()
            (identity,) = (line.split()[2] for line in lines if line.strip().startswith("Router Id"))
            assert identity == other


def test_van_status_shows_the_whole_network_on_every_router(network: Network) -> None:
    interiors = network.plan.interiors
    first = interiors[0]
    for at in interiors:
        for rows in (network.status(at, "nodes"), network.status(first, "nodes", "--router", at)):
            assert {row["id"] for row in rows} == set(interiors), at
            assert [row["id"] for row in rows if row["nextHop"] == "(self)"] == [at]


def test_an_edge_is_a_connection_of_its_interior(network: Network) -> None:
    for connection in network.plan.connections:
        if network.plan.is_edge(connection.connecting):
            row: dict[str, object] = {"container": connection.connecting, "role": "edge", "dir": "in"}
            network.ask([connection.listening], "connection", [row])


def test_every_outcome_comes_back(network: Network, way: tuple[str, str], address: str) -> None:
    here, there = way
    outcomes = {"good": "accepted", "bad": "rejected", "later": "released", "broken": "failed"}
    receiver = network.client("receive", address=address, count=4, outcomes=outcomes, **network.at(there))
    assert receiver.line() == "ready"
    sender = network.client("send", address=address, bodies=list(outcomes), **network.at(here))
    assert sorted(sender.output()) == [
        "bad rejected test:no-thanks the receiver does not want it settled",
        "broken modified failed settled",
        "good accepted settled",
        "later released settled",
    ]
    assert receiver.output() == [f"message {body} unsettled" for body in outcomes]


def test_pre_settled_messages_come(network: Network, way: tuple[str, str], address: str) -> None:
    here, there = way
    bodies = [f"number {number}" for number in range(100)]
    receiver = network.client("receive", address=address, count=100, credit=200, **network.at(there))
    assert receiver.line() == "ready"
    sender = network.client("send", address=address, bodies=bodies, mode="settled", linger=1, **network.at(here))
    assert sender.output() == [f"{body} sent settled" for body in bodies]
    assert receiver.output() == [f"message {body} settled" for body in bodies]


def test_closest_stays_at_home_while_it_can(network: Network, way: tuple[str, str], address: str) -> None:
    here, there = way
    receivers = {name: network.routers[name].url for name in way}
    sender = network.client(
        "spread", receivers=receivers, address=f"closest.{address}", count=100, every=0.02, **network.at(here)
    )
    spread = result(sender)
    if network.plan.is_edge(here):
        # A skrouterd of mode edge takes its interior for one more consumer at home.
        came = spread.pop("came")
        assert isinstance(came, dict)
        assert sum(came.values()) == 100
        assert spread == {"twice": 0, "outcomes": {"accepted": 100}}
    else:
        assert spread == {"came": {here: 100, there: 0}, "twice": 0, "outcomes": {"accepted": 100}}


def test_closest_goes_to_the_other_end_when_nobody_is_nearer(
    network: Network, way: tuple[str, str], address: str
) -> None:
    here, there = way
    sender = network.client(
        "spread",
        receivers={there: network.routers[there].url},
        address=f"closest.{address}",
        count=100,
        **network.at(here),
    )
    assert result(sender) == {"came": {there: 100}, "twice": 0, "outcomes": {"accepted": 100}}


def test_balanced_uses_every_receiver(network: Network, way: tuple[str, str], address: str) -> None:
    """Each of a hundred is accepted late, so that those at home are busy when the next one comes."""
    here, _ = way
    receivers = {name: router.url for name, router in network.routers.items()}
    sender = network.client(
        "spread",
        receivers=receivers,
        address=f"balanced.{address}",
        count=100,
        hold=0.3,
        probe=True,
        **network.at(here),
    )
    spread = result(sender)
    came = spread["came"]
    assert isinstance(came, dict)
    assert sum(came.values()) == 100, spread
    assert min(came.values()) >= 100 // len(receivers) // 3, spread
    assert spread["twice"] == 0, spread
    assert spread["outcomes"] == {"accepted": 100}


def test_multicast_reaches_everybody_once(network: Network, address: str) -> None:
    receivers = {name: router.url for name, router in network.routers.items()}
    for here in network.routers:
        sender = network.client(
            "spread",
            receivers=receivers,
            address=f"multicast.{here}.{address}",
            count=50,
            probe=True,
            **network.at(here),
        )
        expected = {"came": dict.fromkeys(receivers, 50), "twice": 0, "outcomes": {"accepted": 50}}
        assert result(sender) == expected, f"sent at {here}"


def test_requests_are_answered_to_a_dynamic_address(network: Network, way: tuple[str, str], address: str) -> None:
    here, there = way
    server = network.client("serve", address=address, count=10, **network.at(there))
    assert server.line() == "ready"
    client = network.client("ask", address=address, count=10, **network.at(here))
    reply_to, *answers = client.output()
    assert reply_to.startswith(("reply to amqp:/_topo/0/", "reply to amqp:/_edge/"))
    assert answers == [f"REQUEST {number}" for number in range(1, 11)]
    assert server.output() == []


@pytest.mark.parametrize("sizes", [[60_000, 60_000], [20 * MEGABYTE]], ids=["60 kB", "20 MB"])
def test_large_messages_come_whole(
    network: Network, way: tuple[str, str], address: str, sizes: list[int], figures: Figures
) -> None:
    before = time.monotonic()
    across = network.client("across", address=address, sizes=sizes, **network.between(*way))
    assert across.output() == [f"{size} the same" for size in sizes]
    if sizes[0] > MEGABYTE:
        figures.add(f"{network.name}: {'-'.join(way)}: 20 MB in {time.monotonic() - before:.2f} s, clients included")


def test_every_router_may_be_killed_and_come_back(network: Network, figures: Figures) -> None:
    for name, router in network.routers.items():
        network.check()
        router.kill()
        # Nothing is to be waited for: it may come back at once, or late.
        router.start()
        router.wait_until_listening()
        seconds = network.wait_until_connected()
        figures.add(f"{network.name}: {name} killed and back: each reaches each {seconds:.2f} s after it listens")
    interiors = network.plan.interiors
    network.ask(interiors, "router.node", [{"id": name} for name in interiors])


def test_every_router_may_be_away_for_a_while(network: Network, figures: Figures) -> None:
    """Long enough that the others have given it up: more than the age of a HELLO, and a tick or two."""
    for name, router in network.routers.items():
        router.kill()
        others = [other for other in network.routers if other != name]
        if network.name == "ring":
            seconds = network.reach(others)
            figures.add(f"{network.name}: {name} killed: the others reach each other after {seconds:.2f} s")
        time.sleep(6)
        router.start()
        router.wait_until_listening()
        seconds = network.wait_until_connected()
        figures.add(f"{network.name}: {name} back after 6 s: each reaches each {seconds:.2f} s after it listens")
