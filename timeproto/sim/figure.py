"""One figure as an SVG document: round trips to finality against the number of masternodes."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 800, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 220, 56, 64

_SERIES = (
    ("here_p50_rtt", "median, where submitted", "#1b6ca8", ""),
    ("here_p99_rtt", "99 %, where submitted", "#1b6ca8", "6 4"),
    ("everywhere_p50_rtt", "median, everywhere", "#c2562d", ""),
    ("everywhere_p99_rtt", "99 %, everywhere", "#c2562d", "6 4"),
)
"""Column of the table, name, colour, dashes."""


def latency_plot(rows: Sequence[dict[str, float]]) -> str:
    """``rows`` are those of :meth:`timeproto.sim.latency.Latency.row`; one place on the x axis for each."""
    most = max(row[column] for row in rows for column, *_ in _SERIES)
    top = max(1.0, -(-most * 2 // 1) / 2)  # up to the next half round trip
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(rows) - 1)

    def x(place: int) -> float:
        return _LEFT + place * step

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - value / top * (HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 26, "From submit to final, 30 to 150 ms one way", size=16),
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 16, "masternodes"),
        f'<text x="20" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 20 {HEIGHT / 2})">'
        "round trips</text>",
    ]
    halves = int(top * 2)
    for half in range(halves + 1):
        value = half / 2
        parts.append(_line(_LEFT, y(value), WIDTH - _RIGHT, y(value), "#dddddd" if half else "#333333"))
        parts.append(_text(_LEFT - 10, y(value) + 4, f"{value:g}", anchor="end"))
    parts.append(_line(_LEFT, _TOP, _LEFT, HEIGHT - _BOTTOM, "#333333"))
    for place, row in enumerate(rows):
        parts.append(_line(x(place), HEIGHT - _BOTTOM, x(place), HEIGHT - _BOTTOM + 5, "#333333"))
        parts.append(_text(x(place), HEIGHT - _BOTTOM + 22, f"{row['masternodes']:.0f}"))
    for number, (column, name, colour, dashes) in enumerate(_SERIES):
        points = " ".join(f"{x(place):.1f},{y(row[column]):.1f}" for place, row in enumerate(rows))
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>')
        parts += [
            f'<circle cx="{x(place):.1f}" cy="{y(row[column]):.1f}" r="3.5" fill="{colour}"/>'
            for place, row in enumerate(rows)
        ]
        at = _TOP + 20 + number * 24
        legend = WIDTH - _RIGHT + 16
        parts.append(f'<path d="M{legend} {at} h26" stroke="{colour}" stroke-width="2"{dashed}/>')
        parts.append(_text(legend + 32, at + 4, name, anchor="start", size=11))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, *, anchor: str = "middle", size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{text}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
