"""The plot of a run, as SVG: what a change costs, by the number of agents."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from math import log10

WIDTH, HEIGHT = 320, 220
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 34, 16, 40


def plot(panels: Mapping[str, Mapping[int, float]]) -> str:
    """A panel for each title: value by number of agents, its axis from zero."""
    body = [
        f'<g transform="translate({index * WIDTH} 0)">{_panel(title, points)}</g>'
        for index, (title, points) in enumerate(panels.items())
    ]
    width = WIDTH * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
        f'width="{width}" height="{HEIGHT}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(body)}</svg>\n'
    )


def _panel(title: str, points: Mapping[int, float]) -> str:
    counts = sorted(points)
    top = _round_up(max(points.values(), default=1.0) or 1.0)
    low, high = log10(counts[0]), log10(counts[-1])

    def x(count: int) -> float:
        share = (log10(count) - low) / (high - low) if high > low else 0.5
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - value / top * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text x="{WIDTH / 2}" y="18" text-anchor="middle">{escape(title)}</text>']
    for value in (0.0, top / 2, top):
        parts.append(_line(_LEFT, y(value), WIDTH - _RIGHT, y(value), "#ddd"))
        text = f"{value:g}"
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{text}</text>'
        )
    for count in counts:
        parts.append(
            f'<text x="{x(count):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{count:,}</text>'
        )
        parts.append(f'<circle cx="{x(count):.1f}" cy="{y(points[count]):.1f}" r="3" fill="#06c"/>')
    way = " ".join(f"{x(count):.1f},{y(points[count]):.1f}" for count in counts)
    parts.append(f'<polyline points="{way}" fill="none" stroke="#06c"/>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">agents</text>')
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1}" y1="{y1:.1f}" x2="{x2}" y2="{y2:.1f}" stroke="{colour}"/>'


def _round_up(value: float) -> float:
    """To 1, 2 or 5 times a power of ten."""
    power = 10.0 ** int(log10(value) // 1)
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
