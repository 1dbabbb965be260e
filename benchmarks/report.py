"""What was measured, for people: Markdown tables of figures and of ratios."""

from __future__ import annotations

from collections.abc import Sequence

from measure import Figures, show

Results = dict[str, dict[str, Figures]]
"""Row -> contestant -> figures."""


def figures_table(titles: dict[str, str], results: Results, contestants: Sequence[str]) -> str:
    """A line for each row, a column for each contestant; the figures of a cell are named in the line."""
    lines = ["| work | figures | " + " | ".join(contestants) + " |", "|---|---|" + "--:|" * len(contestants)]
    for row, by_name in results.items():
        names = list(dict.fromkeys(name for figures in by_name.values() for name in figures))
        cells = []
        for contestant in contestants:
            figures = by_name.get(contestant)
            cells.append(" · ".join(show(figures.get(name)) for name in names) if figures else "")
        lines.append(f"| {titles[row]} | {' · '.join(names)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios_table(titles: dict[str, str], results: Results, first: str, others: Sequence[str]) -> str:
    """What one contestant's figures are as multiples of the others'."""
    lines = ["| work | figures | " + " | ".join(f"{first} / {name}" for name in others) + " |"]
    lines.append("|---|---|" + "--:|" * len(others))
    for row, by_name in results.items():
        mine = by_name.get(first)
        if not mine or not any(by_name.get(other) for other in others):
            continue
        cells = []
        for other in others:
            theirs = by_name.get(other) or {}
            cells.append(" · ".join(ratio(value, theirs.get(name)) for name, value in mine.items()) if theirs else "")
        lines.append(f"| {titles[row]} | {' · '.join(mine)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(value: float | None, other: float | None) -> str:
    """Two digits behind the point."""
    return f"{value / other:.2f}" if value is not None and other else "–"
