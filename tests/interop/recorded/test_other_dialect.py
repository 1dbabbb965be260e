"""Routers of the other family are told apart at their Open: what became of them is in the log, and nobody waits."""

from __future__ import annotations

import pytest

from tests.interop.recorded.replay import Replayed, correlator, link_names
from van.adaptors.inter_router import InterRouterAdaptor
from van.amqp.performatives import Close, Detach

DISPATCH = "speaks the dialect of qpid-dispatch-router 1.19.1-SNAPSHOT"


@pytest.mark.parametrize(
    ("recording", "own_id", "peer_id"), [("cap-y.0.c2s", "SA", "QB"), ("cap-qd-12.0.c2s", "A", "B")]
)
def test_one_that_connects_to_us_is_refused_its_links(recording: str, own_id: str, peer_id: str) -> None:
    replayed = Replayed(own_id)
    replay = replayed.listener(recording)
    replay.to_end()
    ((line),) = replayed.lines("no neighbour")
    assert f"router {peer_id} {DISPATCH}" in str(line["reason"])
    assert not replayed.router.neighbors
    assert isinstance(replay.adaptor, InterRouterAdaptor)
    assert replay.adaptor.neighbor is None
    detached = [detach for _, detach in replay.performatives(Detach) if isinstance(detach, Detach)]
    assert len(detached) >= 22
    assert {detach.error.condition for detach in detached if detach.error is not None} == {"amqp:not-implemented"}
    # It would come back at once if we closed.
    assert not replay.performatives(Close)


def test_one_that_we_connect_to_is_left_with_a_reason() -> None:
    replayed = Replayed("B", tokens=link_names("cap-qd-12.0.c2s"))
    replay = replayed.connector("cap-qd-12.0.s2c")
    replay.to_end()
    ((line),) = replayed.lines("no neighbour")
    assert f"router A {DISPATCH}" in str(line["reason"])
    assert not replayed.router.neighbors
    ((_, close),) = replay.performatives(Close)
    assert isinstance(close, Close)
    assert close.error is not None
    assert close.error.condition == "amqp:not-implemented"


def test_an_edge_that_connects_to_us_is_refused_its_links() -> None:
    replayed = Replayed("A")
    replay = replayed.edge_listener("cap-qd-13.0.c2s")
    replay.to_end()
    ((line),) = replayed.lines("no edge")
    assert f"router E {DISPATCH}" in str(line["reason"])
    assert "HE" not in replayed.router.addresses
    detached = [detach for _, detach in replay.performatives(Detach) if isinstance(detach, Detach)]
    assert len(detached) >= 8
    assert all(detach.error is not None for detach in detached[:8])
    assert not replay.performatives(Close)


def test_an_interior_router_that_our_edge_connects_to_is_left_with_a_reason() -> None:
    replayed = Replayed("E", tokens=["mesh", *link_names("cap-qd-13.0.c2s")], edge=True)
    replay = replayed.uplink("cap-qd-13.0.s2c")
    replay.to_end()
    ((line),) = replayed.lines("no edge")
    assert f"router A {DISPATCH}" in str(line["reason"])
    ((_, close),) = replay.performatives(Close)
    assert isinstance(close, Close)
    assert close.error is not None
    assert DISPATCH in (close.error.description or "")


def test_one_of_our_family_that_understands_nothing_is_no_way() -> None:
    """What a skrouterd said to a router of the other family: ten HELLOs that list nobody."""
    replayed = Replayed("QB", tokens=link_names("cap-y.0.c2s"))
    replay = replayed.connector("cap-y.0.s2c", correlator("cap-y.0.c2s"))
    replay.to_end()
    replayed.advance(5.0)
    engine = replayed.router.engine
    assert engine is not None
    assert not any(node.reachable for node in engine.nodes.values())
    assert not replay.adaptor.closed
