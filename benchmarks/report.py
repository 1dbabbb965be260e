"""What was measured, for people: Markdown tables of figures and of ratios, and bars as SVG pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from measure import Figures, show
from network_chart import COLOURS

Results = dict[str, dict[str, Figures]]
"""Row -> contestant -> figures."""

# What the pictures show: the first of these figures that a row has.
PICTURES = {
    "cpu": ("CPU for each message", ("CPU µs", "CPU ms per MB")),
    "speed": ("messages and octets a second", ("messages/s", "MB/s")),
    "latency": ("median time under way", ("p50 µs",)),
}
PALETTE = (*COLOURS, "#a8a29e")
BAR, GAP, LEFT, WIDTH, TOP = 13, 12, 290, 760, 46
# A bar longer than this is cut and says so by its label.
LONGEST = 2.5


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


def ratios_table(titles: dict[str, str], results: Results, pairs: Sequence[tuple[str, str]]) -> str:
    """What one contestant's figures are as multiples of another's, a column for each pair."""
    lines = ["| work | figures | " + " | ".join(f"{mine} / {other}" for mine, other in pairs) + " |"]
    lines.append("|---|---|" + "--:|" * len(pairs))
    for row, by_name in results.items():
        names = list(dict.fromkeys(name for figures in by_name.values() for name in figures))
        cells = []
        for mine, other in pairs:
            ours, theirs = by_name.get(mine), by_name.get(other)
            if ours and theirs:
                cells.append(" · ".join(ratio(ours.get(name), theirs.get(name)) for name in names))
            else:
                cells.append("")
        if any(cells):
            lines.append(f"| {titles[row]} | {' · '.join(names)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(value: float | None, other: float | None) -> str:
    """Two digits behind the point."""
    return f"{value / other:.2f}" if value is not None and other else "–"


def pictures(titles: dict[str, str], results: Results, contestants: Sequence[str]) -> dict[str, str]:
    """SVG documents by name: bars of all contestants in each row, as multiples of the first C router's, or of van's."""
    reference = next((name for name in contestants if not name.startswith("van")), contestants[0])
    made = {}
    for name, (title, figures) in PICTURES.items():
        bars: list[tuple[str, list[tuple[str, float, float]]]] = []
        for row, by_name in results.items():
            figure = next((figure for figure in figures if any(f.get(figure) for f in by_name.values())), "")
            one = by_name.get(reference, {}).get(figure) or next(iter(by_name.values()), {}).get(figure)
            if not figure or not one:
                continue
            values = [(who, by_name[who].get(figure) or 0.0) for who in contestants if who in by_name]
            bars.append((f"{titles[row]}, {figure}", [(who, value / one, value) for who, value in values]))
        if bars:
            made[name] = picture(f"{title} ({reference} = 1)", contestants, bars)
    return made


def picture(title: str, contestants: Sequence[str], bars: list[tuple[str, list[tuple[str, float, float]]]]) -> str:
    """One SVG document: a group of bars for each row, each with its length and the figure beside it."""
    unit = (WIDTH - LEFT - 70) / LONGEST
    parts = [f'<text x="8" y="18" class="title">{escape(title)}</text>']
    for number, who in enumerate(contestants):
        at = 8 + number * 140
        parts.append(f'<rect x="{at}" y="26" width="10" height="10" fill="{PALETTE[number % len(PALETTE)]}"/>')
        parts.append(f'<text x="{at + 15}" y="35">{escape(who)}</text>')
    y = TOP + GAP
    for label, group in bars:
        parts.append(f'<text x="{LEFT - 8}" y="{y + BAR * len(group) / 2 + 4:.0f}" class="left">{escape(label)}</text>')
        for who, share, value in group:
            colour = PALETTE[contestants.index(who) % len(PALETTE)]
            width = min(share, LONGEST) * unit
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>')
            parts.append(f'<text x="{LEFT + width + 5:.1f}" y="{y + BAR - 3}">{show(value)}</text>')
            y += BAR
        y += GAP
    one = LEFT + unit
    parts.insert(0, f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{TOP}" y2="{y - GAP}" stroke="#bbb"/>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}">',
            "<style>text { font: 11px sans-serif; fill: #333 } .title { font-weight: bold } .left { text-anchor: end }",
            f'</style><rect width="{WIDTH}" height="{y}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )
