"""Curves as an SVG picture: both axes logarithmic, a few series, labels at their ends. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

Point = tuple[float, float]

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 112, 34, 44
# Distinct for those who do not see red and green apart, and in grey.
COLOURS = ("#0b6e99", "#d9730d", "#6940a5", "#4d4d4d")
DASHES = ("", "7 4", "2 3", "9 3 2 3")


def label(value: float) -> str:
    """A power of ten as people write it."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    if value >= 1000:
        return f"{value / 1000:g} k"
    return f"{value:g}"


def panel(title: str, unit: str, series: dict[str, Sequence[Point]], x: int = 0, y: int = 0) -> str:
    """One diagram as an SVG group at that place; points with a value of 0 are left out."""
    drawn = {name: [point for point in points if point[1] > 0] for name, points in series.items()}
    xs = [point[0] for points in drawn.values() for point in points]
    ys = [point[1] for points in drawn.values() for point in points]
    low_x, high_x = log10(min(xs)), log10(max(xs))
    low_y, high_y = floor(log10(min(ys))), ceil(log10(max(ys)))
    if high_y == low_y:
        high_y += 1

    def place(point: Point) -> Point:
        across = (log10(point[0]) - low_x) / ((high_x - low_x) or 1)
        up = (log10(point[1]) - low_y) / (high_y - low_y)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<g transform="translate({x},{y})">', f'<text x="{LEFT}" y="18" class="title">{escape(title)}</text>']
    for power in range(low_y, high_y + 1):
        _, at = place((10**low_x, 10.0**power))
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="rule"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" class="left">{label(10.0**power)}</text>')
    for value in sorted(set(xs)):
        at, _ = place((value, 10.0**low_y))
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" class="middle">{label(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" class="middle">routers</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{TOP - 6}" class="left">{escape(unit)}</text>')
    taken: list[float] = []
    for number, (name, points) in enumerate(drawn.items()):
        if not points:
            continue
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        places = [place(point) for point in points]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline points="{path}" stroke="{colour}" stroke-dasharray="{dash}" class="curve"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in places]
        end_x, end_y = places[-1]
        while any(abs(end_y - other) < 13 for other in taken):
            end_y += 13
        taken.append(end_y)
        parts.append(f'<text x="{end_x + 8:.1f}" y="{end_y + 4:.1f}" style="fill: {colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</g>"])


def picture(panels: Sequence[tuple[str, str, dict[str, Sequence[Point]]]], columns: int = 2) -> str:
    """Several diagrams as one SVG document: title, unit and series of each."""
    rows = ceil(len(panels) / columns)
    width, height = WIDTH * columns, HEIGHT * rows
    body = [
        panel(title, unit, series, number % columns * WIDTH, number // columns * HEIGHT)
        for number, (title, unit, series) in enumerate(panels)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
            "<style>text { font: 12px sans-serif; fill: #333 } .title { font-weight: bold } .left { text-anchor: end }",
            ".middle { text-anchor: middle } .rule { stroke: #ddd } .curve { fill: none; stroke-width: 2 }</style>",
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *body,
            "</svg>\n",
        ]
    )
