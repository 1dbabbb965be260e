"""What a real skrouterd wrote to another one, written to us: we become neighbours, and know what it said.

The listening side of the recording is replayed against our connector under the recorded link names, the connecting side
against our listener.
"""

from __future__ import annotations

import pytest

from tests.interop.recorded.replay import Replay, Replayed, correlator, link_names
from van.adaptors.inter_router import InterRouterAdaptor
from van.amqp.performatives import Attach, Begin, Close, Detach, Flow, Open

CLOSEST = 2
BALANCED = 3
MESH = "onnIxmBlskc+BZb"

Mobile = tuple[str, int, str | None]
"""An address that a router has receivers for: key, treatment, mesh."""

# What the other router has receivers for, by the frame that says so.
B_ALWAYS: set[Mobile] = {
    ("Msfe.cYU6E:0", CLOSEST, None),
    ("Mvfcr.cYU6E:0", CLOSEST, None),
    ("Msvc.echo", BALANCED, None),
}
MY_Q: Mobile = ("Mmy.q", BALANCED, None)
INT_Q: Mobile = ("Mint.q", BALANCED, None)
B_ADDRESSES = {
    63: B_ALWAYS,
    72: B_ALWAYS | {MY_Q},
    114: B_ALWAYS,
    213: B_ALWAYS | {MY_Q},
    225: B_ALWAYS,
    249: B_ALWAYS | {INT_Q},
    265: B_ALWAYS,
}
A_ALWAYS: set[Mobile] = {
    ("Msfe.wNAwE:0", CLOSEST, None),
    ("Mvfcr.wNAwE:0", CLOSEST, None),
    ("HE", BALANCED, MESH),
    ("Msfe.C+nj0:0", BALANCED, MESH),
    ("Mvfcr.C+nj0:0", BALANCED, MESH),
}
EDGE_Q: Mobile = ("Medge.q", BALANCED, MESH)
A_ADDRESSES = {58: A_ALWAYS, 114: A_ALWAYS | {EDGE_Q}, 162: A_ALWAYS, 233: A_ALWAYS | {EDGE_Q}, 265: A_ALWAYS}
X_B_ADDRESSES: dict[int, set[Mobile]] = {
    60: {
        ("Msfe.NNg7c:0", CLOSEST, None),
        ("Mvfcr.NNg7c:0", CLOSEST, None),
        ("Msvc.sink", BALANCED, None),
        ("Msvc.bad", BALANCED, None),
    }
}
X_A_ALWAYS: set[Mobile] = {("Msfe.64dg+:0", CLOSEST, None), ("Mvfcr.64dg+:0", CLOSEST, None)}
X_A_ADDRESSES: dict[int, set[Mobile]] = {57: X_A_ALWAYS, 78: X_A_ALWAYS | {("Mq.z", BALANCED, None)}, 82: X_A_ALWAYS}


class Recorded:
    """A recording, who we are in it, and what we know of the peer after it."""

    def __init__(
        self,
        name: str,
        own_id: str,
        peer_id: str,
        *,
        cost: int,
        instance: int,
        mobile_sequence: int,
        addresses: dict[int, set[Mobile]],
    ) -> None:
        self.name = name
        self.own_id = own_id
        self.peer_id = peer_id
        self.cost = cost
        self.instance = instance
        self.mobile_sequence = mobile_sequence
        self.addresses = addresses

    @property
    def connecting(self) -> bool:
        """Whether the recorded side is the one that connected."""
        return self.name.endswith("c2s")

    def start(self) -> tuple[Replayed, Replay]:
        if self.connecting:
            replayed = Replayed(self.own_id)
            return replayed, replayed.listener(self.name)
        other = self.name.replace("s2c", "c2s")
        replayed = Replayed(self.own_id, tokens=link_names(other))
        return replayed, replayed.connector(self.name, correlator(other), self.cost)


RECORDED = [
    Recorded(
        "cap-skr-12.0.c2s",
        "A",
        "B",
        cost=1,
        instance=1795378428,
        mobile_sequence=7,
        addresses=B_ADDRESSES,
    ),
    Recorded(
        "cap-skr-12.0.s2c",
        "B",
        "A",
        cost=1,
        instance=1795378428,
        mobile_sequence=5,
        addresses=A_ADDRESSES,
    ),
    Recorded("cap-x.2.c2s", "A", "B", cost=3, instance=1795378749, mobile_sequence=1, addresses=X_B_ADDRESSES),
    Recorded("cap-x.2.s2c", "B", "A", cost=3, instance=1795378749, mobile_sequence=3, addresses=X_A_ADDRESSES),
]


def known(replayed: Replayed, router_id: str) -> set[Mobile]:
    """What the network knows of the addresses of a router."""
    engine = replayed.router.engine
    assert engine is not None
    return {(mobile.key, mobile.treatment, mobile.mesh) for mobile in engine.nodes[router_id].addresses.values()}


@pytest.fixture(params=RECORDED, ids=lambda recorded: recorded.name)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    chosen: Recorded = request.param
    return chosen


def test_the_peer_is_a_neighbour_when_it_has_listed_us(recorded: Recorded) -> None:
    replayed, replay = recorded.start()
    replay.to_end()
    (neighbor,) = replayed.router.neighbors.values()
    assert (neighbor.router_id, neighbor.cost, neighbor.up) == (recorded.peer_id, recorded.cost, True)
    assert isinstance(replay.adaptor, InterRouterAdaptor)
    assert replay.adaptor.neighbor is neighbor
    assert not replay.adaptor.closed
    assert not replayed.lines("no neighbour")


def test_the_node_table_shows_the_peer(recorded: Recorded) -> None:
    replayed, replay = recorded.start()
    replay.to_end()
    engine = replayed.router.engine
    assert engine is not None
    assert set(engine.nodes) == {recorded.peer_id}
    node = engine.nodes[recorded.peer_id]
    assert node.reachable
    assert (node.next_hop, node.cost, node.instance) == (recorded.peer_id, recorded.cost, recorded.instance)
    assert node.peers == {recorded.own_id: recorded.cost}
    assert (node.link_state_sequence, node.mobile_sequence) == (1, recorded.mobile_sequence)
    assert node.protocol_version == 1
    assert engine.connection_of(recorded.peer_id) == replay.adaptor.number


def test_addresses_come_and_go_as_the_peer_says(recorded: Recorded) -> None:
    replayed, replay = recorded.start()
    for frame, addresses in recorded.addresses.items():
        replay.until(frame)
        replayed.advance(0.1)
        assert known(replayed, recorded.peer_id) == addresses, f"after frame {frame}"


def test_eleven_sessions_and_twenty_two_links_with_credit(recorded: Recorded) -> None:
    _, replay = recorded.start()
    replay.until(60)
    begun = [channel for channel, _ in replay.performatives(Begin)]
    assert begun == list(range(11))
    attached = [
        (channel, attach.role) for channel, attach in replay.performatives(Attach) if isinstance(attach, Attach)
    ]
    # We answer with the other role: what they receive by, we send by.
    first = not recorded.connecting
    assert attached == [(channel, role) for channel in range(11) for role in (first, not first)]
    granted: dict[int, int] = {}
    for channel, flow in replay.performatives(Flow):
        assert isinstance(flow, Flow)
        if flow.link_credit:
            granted.setdefault(channel, flow.link_credit)
    assert granted == dict.fromkeys(range(11), 250)
    assert replay.performatives(Detach) == replay.performatives(Close) == []


def test_our_open_is_that_of_a_router(recorded: Recorded) -> None:
    _, replay = recorded.start()
    replay.until(10)
    ((_, opened),) = replay.performatives(Open)
    assert isinstance(opened, Open)
    assert opened.container_id == recorded.own_id
    assert opened.properties is not None
    assert opened.properties["qd.annotations-version"] == 2
    if not recorded.connecting:
        other = recorded.name.replace("s2c", "c2s")
        assert opened.properties["qd.group-correlator"] == correlator(other)
        names = [attach.name for _, attach in replay.performatives(Attach) if isinstance(attach, Attach)]
        assert names == [f"qdlink.{name}" for name in link_names(other)][:22]
