"""Every benchmark runs and gives all its figures; how large they are is no test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
# A few messages, one run.
BRIEFLY = ["--json", "--runs", "1"]


def run(name: str, *options: str, runs: bool = True) -> dict[str, Any]:
    """Run a benchmark as developers do, with any warning an error."""
    result = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "benchmarks" / name), *(BRIEFLY if runs else BRIEFLY[:1]), *options],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        # Neither another tree nor other routers that this machine has.
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("VAN_")},
    )
    assert result.returncode == 0, result.stderr
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def positive(rows: dict[str, dict[str, float | None]]) -> bool:
    # None: this system does not tell; 0: CPU time of a moment, in ticks of 10 ms.
    return all(figure is None or figure >= 0 for row in rows.values() for figure in row.values())


def test_the_codec_is_timed_with_every_hot_performative() -> None:
    rows = run("codec.py", "--seconds", "0.0001")
    for performative in ("transfer", "disposition", "flow"):
        for verb in ("encode", "decode"):
            assert rows[f"{performative} {verb}"]["van µs"] > 0
            assert rows[f"{performative} {verb} (table)"]["van µs"] > 0
    assert positive(rows)


def test_the_core_carries_messages_of_every_kind() -> None:
    rows = run("core.py", "--scale", "0.02")
    assert len(rows) == 4
    assert all(row["µs per message"] > 0 for row in rows.values())


def test_a_router_is_measured_from_outside() -> None:
    rows = run("run.py", "presettled", "1m", "multicast", "rate-1000", "request", "pairs", "--scale", "0.01")
    assert len(rows) == 6
    for row in rows.values():
        assert list(row) == ["van"]
        assert positive(row)
    assert rows["presettled"]["van"]["arrived %"] == 100
    assert rows["1m"]["van"]["MB/s"] > 0
    for name in ("multicast", "pairs"):
        assert rows[name]["van"]["messages/s"] > 0
    for name in ("rate-1000", "request"):
        assert 0 < rows[name]["van"]["p50 µs"] <= rows[name]["van"]["p99 µs"]


def test_routers_in_line_are_measured_from_outside() -> None:
    rows = run("run.py", "line-64k", "--scale", "0.01")
    assert positive(rows["line-64k"])
    assert rows["line-64k"]["van"]["MB/s"] > 0


def test_tls_and_websocket_are_measured_beside_the_bare_streams(tmp_path: Path) -> None:
    rows = run("run.py", "tls", "wss-64k", "--scale", "0.01", "--pictures", str(tmp_path))
    for picture in ("cpu", "speed"):
        assert (tmp_path / f"performance-{picture}.svg").read_text().startswith("<svg")
    for row in rows.values():
        assert list(row) == ["van", "bare stream"]
        assert positive(row)


def test_services_are_measured_from_outside() -> None:
    rows = run("run.py", "tcp-down", "tcp-connect", "--scale", "0.01")
    assert all(positive(row) for row in rows.values())
    assert rows["tcp-down"]["van"]["MB/s"] > 0
    assert rows["tcp-connect"]["van"]["connections/s"] > 0


STAGES = ["read", "frame", "session", "route", "settle", "encode", "write"]


def test_the_stages_of_a_message_are_told_apart() -> None:
    rows = run("stages.py", "unsettled", "--scale", "0.02")
    figures = rows["unsettled"]["van"]
    assert list(figures)[:7] == STAGES
    assert all(figures[stage] is None or figures[stage] >= 0 for stage in STAGES)
    assert figures["messages per read"] > 0


def test_the_stages_of_tls_and_of_an_idle_router_are_told_beside_their_floors() -> None:
    rows = run("stages.py", "tls", "latency", "--scale", "0.01")
    tls = rows["tls"]
    assert set(STAGES) | {"decrypt", "encrypt"} < set(tls["van"])
    for column in tls.values():
        assert column["decrypt"] > 0
        assert column["encrypt"] > 0
        assert column["messages/s"] > 0
    latency = rows["latency"]
    assert list(latency["van"])[:7] == STAGES
    assert latency["van"]["settle"] >= 0
    for column in latency.values():
        assert column["write"] > 0
        assert column["p50 µs on one core"] > 0
        assert column["p50 µs on two"] > 0


def test_the_stages_of_both_processes_are_told_beside_those_of_one() -> None:
    rows = run("stages.py", "apart", "--scale", "0.02")
    columns = rows["apart"]
    assert list(columns) == ["one process", "senders' process", "receivers' process", "both"]
    for column in columns.values():
        assert list(column)[:7] == STAGES
        assert column["session"] > 0
        assert column["write"] > 0
    apart = [columns[name]["encode"] for name in ("senders' process", "receivers' process")]
    assert columns["both"]["encode"] == sum(apart)


def test_instructions_are_counted_of_what_was_recorded(tmp_path: Path) -> None:
    program = str(ROOT / "benchmarks" / "instructions.py")
    trace = str(tmp_path / "trace")
    for words in (["--record", "multicast", "20", trace], ["--replay", "multicast", trace]):
        subprocess.run([sys.executable, "-W", "error", program, *words], check=True, timeout=SECONDS)
    nothing = os.environ | {"PATH": str(tmp_path)}
    words = [sys.executable, program, "unsettled", "--messages", "1"]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS, env=nothing)
    assert result.returncode == 1
    assert "valgrind is not installed" in result.stderr


def test_answers_of_the_management_node_are_measured() -> None:
    rows = run("management.py", "--links", "1200")
    assert len(rows) == 7
    assert positive(rows)


def test_many_addresses_come_and_go_under_traffic() -> None:
    rows = run("many_addresses.py", "--addresses", "1200", "--rate", "100")
    assert rows["A joins"]["seconds"] > 0
    assert rows["A is cut off"]["pause ms B"] > 0
    assert rows["memory"]["KiB per address, B"] is not None


def test_an_idle_router_is_measured() -> None:
    rows = run("run.py", "addresses", "--scale", "0.05")
    assert rows["addresses"]["van"]["start s"] > 0
    assert rows["addresses"]["van"]["links/s"] > 0


def test_networks_of_engines_are_measured_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "scale.svg"
    rows = run("network_scale.py", "--sizes", "6", "12", "--picture", str(picture))
    assert positive(rows)
    for row in rows.values():
        assert row["idle: messages/s"] < row["no table: messages/s"]
    assert picture.read_text().startswith("<svg")


@pytest.mark.slow
def test_many_of_everything_at_one_router() -> None:
    rows = run("scale.py", "--scale", "0.02", "--gone", "0", "--seconds", "0.5", runs=False)
    assert len(rows) == 11
    assert all(any(figure for figure in row.values()) for row in rows.values())
