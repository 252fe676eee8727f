"""Charts as SVG, written by hand: lines over an axis, and bars. Every axis is labelled, every series named.

librsvg's ``rsvg-convert`` makes a PNG of one, where it is installed.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import attrs

from timeproto.errors import ConfigurationError

WIDTH, HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 24, 74, 84
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Told apart by colour-blind readers too."""
_DASHES = ("", "8 4", "2 4", "10 3 2 3", "5 3", "1 3", "12 4")


CONVERTER = "rsvg-convert"


@attrs.frozen
class Point:
    """``low`` and ``high`` are the range of repeated measurements."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@attrs.frozen
class Series:
    """``dashed`` for a bound or a yardstick."""

    name: str
    points: tuple[Point, ...]
    dashed: bool = False


@attrs.frozen
class Axis:
    """A scale from data to pixels; ``log`` needs data above 0."""

    label: str
    low: float
    high: float
    log: bool
    start: float
    end: float

    def at(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self.low)))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.log:
            decades = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(decades) <= 3 else (1,)
            found = [step * 10.0**decade for decade in decades for step in steps]
            return [tick for tick in found if self.low <= tick <= self.high * 1.0001]
        step = _step(self.high - self.low)
        return [self.low + step * number for number in range(math.floor((self.high - self.low) / step + 1e-9) + 1)]


def _step(span: float) -> float:
    """A round distance between about five ticks."""
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)


def _axis(label: str, values: Iterable[float], log: bool, start: float, end: float) -> Axis:
    known = [value for value in values if not log or value > 0] or [1.0]
    if log:
        low, high = 10.0 ** math.floor(math.log10(min(known))), 10.0 ** math.ceil(math.log10(max(known)))
        return Axis(label, low, high if high > low else low * 10, True, start, end)
    high = max([*known, 1e-9])
    step = _step(high)
    return Axis(label, 0.0, step * math.ceil(high / step - 1e-9), False, start, end)


def lines(
    title: str, series: Sequence[Series], *, x: str, y: str, log_x: bool = False, log_y: bool = False, note: str = ""
) -> str:
    """An SVG document. Ranges are drawn as whiskers."""
    points = [point for each in series for point in each.points]
    across = _axis(x, [point.x for point in points], log_x, _LEFT, WIDTH - _RIGHT)
    values = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    up = _axis(y, values, log_y, HEIGHT - _BOTTOM, _TOP)
    parts = _frame(title, note, across, up)
    for number, each in enumerate(series):
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)] if each.dashed else ""
        drawn = [(across.at(point.x), up.at(point.y), point) for point in sorted(each.points, key=lambda p: p.x)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in drawn)
        stroke = f'stroke="{colour}" stroke-width="2"' + (f' stroke-dasharray="{dash or "6 4"}"' if each.dashed else "")
        parts.append(f'<polyline points="{path}" fill="none" {stroke}/>')
        for px, py, point in drawn:
            if point.low is not None and point.high is not None and point.high > point.low:
                ends = f'y1="{up.at(point.low):.1f}" y2="{up.at(point.high):.1f}"'
                parts.append(f'<line x1="{px:.1f}" x2="{px:.1f}" {ends} stroke="{colour}" stroke-width="1"/>')
            if not each.dashed:
                parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>')
    parts += _legend([each.name for each in series], [each.dashed for each in series])
    return _document(title, parts)


def bars(
    title: str,
    groups: Sequence[str],
    series: Sequence[tuple[str, Sequence[float | None]]],
    *,
    y: str,
    x: str = "",
    log_y: bool = False,
    note: str = "",
) -> str:
    """An SVG document: for each group one bar of each series, with its value above it; None leaves a gap."""
    values = [value for _, heights in series for value in heights if value is not None]
    up = _axis(y, values, log_y, HEIGHT - _BOTTOM, _TOP)
    across = Axis(x, 0.0, float(len(groups)), False, _LEFT, WIDTH - _RIGHT)
    parts = _frame(title, note, None, up)
    room = (across.at(1) - across.at(0)) * 0.8
    slanted = max(map(len, groups), default=0) * 6.5 > room / 0.8
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - (24 if slanted else 36), x, "middle"))
    width = room / max(1, len(series))
    for place, group in enumerate(groups):
        left = across.at(place) + room / 8
        parts.append(_slanted(left + room / 2, group) if slanted else _below(left + room / 2, group))
        for number, (_, heights) in enumerate(series):
            value = heights[place]
            if value is None:
                continue
            top, foot = up.at(value), up.at(up.low)
            px = left + number * width
            colour = _COLOURS[number % len(_COLOURS)]
            parts.append(
                f'<rect x="{px:.1f}" y="{top:.1f}" width="{width * 0.92:.1f}" height="{max(1.0, foot - top):.1f}"'
                f' fill="{colour}"/>'
            )
            parts.append(_text(px + width * 0.46, top - 4, _number(value), "middle", 10))
    parts += _legend([name for name, _ in series], [False] * len(series))
    return _document(title, parts)


def stack(charts: Sequence[str]) -> str:
    """One document with these below each other."""
    height = HEIGHT * len(charts)
    placed = [chart.replace("<svg ", f'<svg y="{HEIGHT * place}" ', 1) for place, chart in enumerate(charts)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">\n'
        + "".join(placed)
        + "</svg>\n"
    )


def check_name(path: Path) -> None:
    """:class:`ConfigurationError` if no chart could be saved under this name, before time is spent on what it shows."""
    if path.suffix not in (".svg", ".png"):
        raise ConfigurationError(f"a chart is SVG or PNG: call it {path.with_suffix('.svg')}")
    if path.suffix == ".png" and shutil.which(CONVERTER) is None:
        raise ConfigurationError("a PNG needs rsvg-convert (Debian's librsvg2-bin); an SVG needs nothing")


def save(path: Path, chart: str) -> None:
    if path.suffix != ".png":
        path.write_text(chart, "utf-8")
        return
    command = [CONVERTER, "--zoom", "2", "--output", str(path)]
    done = subprocess.run(command, input=chart.encode("utf-8"), capture_output=True, check=False)
    if done.returncode:
        raise ConfigurationError(f"rsvg-convert fails: {done.stderr.decode('utf-8', 'replace').strip()}")


def _frame(title: str, note: str, across: Axis | None, up: Axis) -> list[str]:
    right, foot = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = [_text(_LEFT, 26, title, "start", 17, bold=True)]
    if note:
        parts.append(_text(_LEFT, HEIGHT - 8, note, "start", 11, colour="#555"))
    for tick in up.ticks():
        py = up.at(tick)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{py:.1f}" y2="{py:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, py + 4, _number(tick), "end", 12))
    if across is not None:
        for tick in across.ticks():
            px = across.at(tick)
            parts.append(f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{foot}" y2="{foot + 5}" stroke="#333"/>')
            parts.append(_text(px, foot + 20, _number(tick), "middle", 12))
        parts.append(_text((_LEFT + right) / 2, foot + 44, across.label, "middle", 14))
    parts.append(f'<path d="M{_LEFT} {_TOP}V{foot}H{right}" fill="none" stroke="#333"/>')
    middle = (_TOP + foot) / 2
    parts.append(
        f'<text x="20" y="{middle}" font-size="14" text-anchor="middle" transform="rotate(-90 20 {middle})">'
        f"{escape(up.label)}</text>"
    )
    return parts


def _legend(names: Sequence[str], dashed: Sequence[bool]) -> list[str]:
    parts, px = [], float(_LEFT)
    for number, name in enumerate(names):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = f' stroke-dasharray="{_DASHES[number % len(_DASHES)] or "6 4"}"' if dashed[number] else ""
        parts.append(
            f'<line x1="{px:.0f}" x2="{px + 24:.0f}" y1="48" y2="48" stroke="{colour}" stroke-width="4"{dash}/>'
        )
        parts.append(_text(px + 30, 52, name, "start", 12))
        px += 50 + 6.6 * len(name)
    return parts


def _below(px: float, text: str) -> str:
    return _text(px, HEIGHT - _BOTTOM + 20, text, "middle", 12)


def _slanted(px: float, text: str) -> str:
    """A name that has no room beside its neighbours."""
    py = HEIGHT - _BOTTOM + 14
    return (
        f'<text x="{px + 6:.1f}" y="{py}" font-size="11" text-anchor="end" fill="#111"'
        f' transform="rotate(-18 {px + 6:.1f} {py})">{escape(text)}</text>'
    )


def _text(
    px: float, py: float, text: str, anchor: str, size: int = 14, *, bold: bool = False, colour: str = "#111"
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{px:.1f}" y="{py:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight}>'
        f"{escape(text)}</text>"
    )


def _number(value: float) -> str:
    """Short: 0.25, 5, 1,500, 20k."""
    if abs(value) >= 10_000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _document(title: str, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' role="img" aria-label="{escape(title)}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
