"""Hold the sans-IO packages to their coverage: lines and branches, each on its own.

`coverage report --fail-under` counts lines and branches together, so that many covered lines can hide branches that no
scene takes. This reads `coverage json` instead. Usage: `python tools/coverage_gate.py coverage.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# Per cent, of lines and of branches alike.
GATES = {"van/amqp/": 95.0, "van/routing/": 95.0}


def per_cent(covered: int, total: int) -> float:
    return 100.0 * covered / total if total else 100.0


def main(path: str) -> int:
    files = json.loads(Path(path).read_text(encoding="utf-8"))["files"]
    failed = False
    for package, gate in GATES.items():
        summaries = [entry["summary"] for name, entry in files.items() if name.replace("\\", "/").startswith(package)]
        for what, covered, total in (
            ("lines", "covered_lines", "num_statements"),
            ("branches", "covered_branches", "num_branches"),
        ):
            have = per_cent(sum(s[covered] for s in summaries), sum(s[total] for s in summaries))
            verdict = "ok" if have >= gate else f"FAILED, at least {gate:.0f} % are wanted"
            print(f"coverage gate {package:14} {what:9} {have:6.2f} %  {verdict}")
            failed |= have < gate
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
