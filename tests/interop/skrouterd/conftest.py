"""One network for all scenes of a topology; what was measured is printed at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.interop.skrouterd.network import Figures, Network, Plan, Skrouterd, find_skrouterd

PLANS = {
    "line sk-van-sk": Plan({"A": "skrouterd", "M": "van", "B": "skrouterd"}, [("M", "A"), ("B", "M")], ("A", "B")),
    "line van-sk-van": Plan({"A": "van", "M": "skrouterd", "B": "van"}, [("M", "A"), ("B", "M")], ("A", "B")),
    "ring": Plan(
        {"A": "skrouterd", "B": "van", "C": "skrouterd", "D": "van"},
        [("B", "A"), ("C", "B"), ("D", "C"), ("A", "D")],
        ("A", "C"),
    ),
    "van edge": Plan({"A": "van", "M": "skrouterd", "E": "van edge"}, [("M", "A"), ("E", "M")], ("A", "E")),
    "sk edge": Plan({"A": "skrouterd", "M": "van", "E": "skrouterd edge"}, [("M", "A"), ("E", "M")], ("A", "E")),
    "both edges": Plan({"E": "van edge", "M": "van", "F": "skrouterd edge"}, [("E", "M"), ("F", "M")], ("E", "F")),
}

_figures = Figures()


@pytest.fixture(scope="session")
def skrouterd() -> Skrouterd:
    return find_skrouterd()


@pytest.fixture(scope="session")
def figures() -> Figures:
    return _figures


def planned(name: str) -> Plan:
    """The plan of this name; VAN_ONLY_SKROUTERD=1 puts a skrouterd in the place of each van, to try the scenes."""
    plan = PLANS[name]
    return plan.of_skrouterds() if os.environ.get("VAN_ONLY_SKROUTERD") == "1" else plan


@pytest.fixture(scope="module", params=PLANS)
def network(
    request: pytest.FixtureRequest, skrouterd: Skrouterd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    running = Network(skrouterd, request.param, planned(request.param), tmp_path_factory.mktemp("network"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(autouse=True)
def _no_client_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "network" in request.fixturenames:
        running: Network = request.getfixturevalue("network")
        running.end_clients()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures.lines:
        terminalreporter.section("measured beside skrouterd")
        for line in _figures.lines:
            terminalreporter.write_line(line)
