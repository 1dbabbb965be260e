"""The gate holds lines and branches apart: many covered lines do not make up for branches that no scene takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.coverage_gate import main


def report(folder: Path, lines: int, branches: int) -> str:
    """What coverage writes about a core of 100 lines and 100 branches."""
    summary = {"num_statements": 50, "covered_lines": lines / 2, "num_branches": 50, "covered_branches": branches / 2}
    core = ("van/amqp/a.py", "van/amqp/b.py", "van/routing/a.py", "van/routing/b.py")
    files = {name: {"summary": summary} for name in core}
    path = folder / "coverage.json"
    path.write_text(json.dumps({"files": {**files, "van/cli/main.py": {"summary": {**summary, "covered_lines": 0}}}}))
    return str(path)


@pytest.mark.parametrize(("lines", "branches", "code"), [(95, 95, 0), (100, 94, 1), (94, 100, 1), (0, 0, 1)])
def test_both_lines_and_branches_pass_the_gate(tmp_path: Path, lines: int, branches: int, code: int) -> None:
    assert main(report(tmp_path, lines, branches)) == code
