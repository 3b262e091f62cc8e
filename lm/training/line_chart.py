"""Line charts as stand-alone SVG: curves of losses, of one run or of several."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 176, 20, 48
COLOURS = ("#2364aa", "#c8553d", "#3a7d44", "#8d5a97", "#b08900", "#4a4e69")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y) that a line joins; with ``dots`` each is a mark, and nothing is joined."""

    name: str
    points: Sequence[Point]
    dots: bool = False


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most ``most`` round numbers between two numbers."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def line_chart(series: Sequence[Series], *, x_name: str, y_name: str, log_x: bool = False) -> str:
    """An SVG document; points that are not finite, or not positive on a log axis, are left out."""
    shown = [
        Series(s.name, [p for p in s.points if _can_be_drawn(p, log_x)], s.dots) for s in series
    ]
    points = [p for s in shown for p in s.points] or [(1.0, 0.0)]
    xs, ys = [_across(x, log_x) for x, _ in points], [y for _, y in points]
    x0, x1 = min(xs), max(xs)
    margin = 0.04 * (max(ys) - min(ys)) or 1.0
    y0, y1 = min(ys) - margin, max(ys) + margin

    def place(p: Point) -> Point:
        x = LEFT + (_across(p[0], log_x) - x0) / ((x1 - x0) or 1.0) * (WIDTH - LEFT - RIGHT)
        return x, TOP + (y1 - p[1]) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<style>text { font: 12px sans-serif; fill: #222 }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for value in ticks(y0, y1):
        y = place((points[0][0], value))[1]
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for value in _decades(x0, x1) if log_x else ticks(x0, x1):
        x = place((value, 0.0))[0]
        y = HEIGHT - BOTTOM + 18
        out.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{_short(value)}</text>')
    for i, s in enumerate(shown):
        colour = COLOURS[i % len(COLOURS)]
        placed = [place(p) for p in s.points]
        if s.dots:
            out += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in placed
            ]
        elif placed:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
            out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        y = TOP + 14 + 18 * i
        out.append(
            f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
        )
        out.append(f'<text x="{WIDTH - RIGHT + 30}" y="{y}">{html.escape(s.name)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{html.escape(x_name)}</text>"
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_name)}</text></svg>"
    )
    return "\n".join(out) + "\n"


def _can_be_drawn(p: Point, log_x: bool) -> bool:
    return math.isfinite(p[0]) and math.isfinite(p[1]) and (p[0] > 0 or not log_x)


def _across(x: float, log_x: bool) -> float:
    return math.log10(x) if log_x else x


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between 10**low and 10**high."""
    exponents = range(math.floor(low), math.ceil(high) + 1)
    values = [m * 10.0**e for e in exponents for m in (1, 2, 5)]
    return [v for v in values if low - 1e-9 <= math.log10(v) <= high + 1e-9]


def _short(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"
