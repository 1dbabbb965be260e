"""Whatever clients, servers and time do: what is lost is counted, order is kept, and nothing is left behind."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adaptors.udp.scene import Scene

CLIENTS = ("anna", "bert", "cleo")
STEPS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(CLIENTS), st.integers(1, 80)),
    st.tuples(st.just("run"), st.just(""), st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.sampled_from([1, 10, 70])),
    st.tuples(st.just("refuse"), st.just(""), st.integers(0, 1)),
    st.tuples(st.just("answer"), st.just(""), st.integers(0, 1)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25), st.integers(1, 3))
def test_nothing_is_lost_without_a_count(steps: list[tuple[str, str, int]], max_flows: int) -> None:
    scene = Scene(1, max_flows=max_flows)
    ends = [scene.out, scene.connector(0)]
    sent = 0
    for what, client, number in steps:
        if what == "send":
            for _ in range(number):
                sent += 1
                scene.listener.send(client, f"{client} {sent}".encode())
        elif what == "run":
            scene.run()
        elif what == "wait":
            scene.advance(number)
        elif what == "refuse":
            ends[number].server = None
        else:
            ends[number].server = lambda data: [data]
        assert scene.listener.service.flows <= max_flows
        assert all(len(end.sockets) <= max_flows for end in ends)
    scene.advance(20)
    received = [data for end in ends for data in end.all()]
    lost = scene.listener.service.losses.total + sum(end.service.losses.total for end in ends)
    assert len(received) == len(set(received))
    assert sent <= len(received) + lost
    if not lost:
        assert len(received) == sent
    for end in ends:
        for datagrams in end.received.values():
            assert len({data.split()[0] for data in datagrams}) == 1
            numbers = [int(data.split()[1]) for data in datagrams]
            assert numbers == sorted(numbers)
    for peer, data in scene.listener.received:
        assert data.split()[0].decode() == peer
    scene.close()
