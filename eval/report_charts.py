"""The drawings of a report: SVG for shapes, which stretch, and HTML for words, which don't.

Everything is a string of markup; colours come from ``report.css`` by class.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pgolf_codec.eval.report_text import LEVELS_BPB, N_LEVELS
from pgolf_codec.eval.trace import Floats, Trace

WIDTH, HEIGHT = 1000, 300
"""Units of a chart's own coordinates."""
_MOST_BINS, _LEAST_BIN_BYTES = 160, 64
MOST_MARKS = 80
"""Starts of streams that are marked one by one."""
_NEAR_PERCENT = 9
"""Of a chart's height: so near to each other, words would touch."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a stacked bar."""

    value: float
    css: str
    title: str


def stacked(parts: Sequence[Part]) -> str:
    """One bar, cut in proportion to the values; negative ones are left out."""
    total = math.fsum(max(0.0, part.value) for part in parts) or 1.0
    at, out = 0.0, []
    for part in parts:
        share = 100 * max(0.0, part.value) / total
        title = f"<title>{html.escape(part.title)}</title>"
        out.append(
            f'<rect class="{part.css}" x="{at:.3f}%" width="{share:.3f}%" height="100%">'
            f"{title}</rect>"
        )
        at += share
    return f'<svg role="img">{"".join(out)}</svg>'


def key(entries: Sequence[tuple[str, str]]) -> str:
    """What each colour (a class) stands for."""
    spans = "".join(
        f'<span><svg><rect class="{css}" width="100%" height="100%"/></svg>'
        f"{html.escape(name)}</span>"
        for css, name in entries
    )
    return f'<div class="key">{spans}</div>'


def bar(share: float) -> str:
    """A bar in a table, ``share`` of the column's width."""
    return f'<svg><rect class="bar" width="{100 * share:.2f}%" height="100%"/></svg>'


def levels(trace: Trace) -> str:
    """How much of the text each level is, beside how much of the bits."""
    lengths = np.diff(trace.edges)
    found = np.searchsorted(LEVELS_BPB, trace.bits / lengths, side="right")
    kinds = {"of the text": lengths, "of the bits": trace.bits}
    names = level_names()
    rows = []
    for what, weights in kinds.items():
        sums = np.bincount(
            found[trace.is_symbol], weights[trace.is_symbol].astype(float), minlength=N_LEVELS
        )
        total = float(sums.sum()) or 1.0
        parts = [
            Part(float(n), f"f{i}", f"{names[i]} bits a byte: {100 * n / total:.1f}% {what}")
            for i, n in enumerate(sums)
        ]
        rows.append(f"<span>{what}</span>{stacked(parts)}")
    swatches = [(f"f{i}", name) for i, name in enumerate(names)]
    return f'<div class="stack">{"".join(rows)}</div>{key(swatches)}'


def level_names() -> list[str]:
    """``under 0.25``, ``0.25–0.5`` ... bits a byte."""
    marks = [f"{bound:g}" for bound in LEVELS_BPB]
    between = [f"{a}–{b}" for a, b in itertools.pairwise(marks)]
    return [f"under {marks[0]}", *between, f"{marks[-1]} and more"]


def curve(trace: Trace) -> str:
    """Bits a byte along the text, and their mean from the start."""
    n = trace.n_bytes
    n_bins = max(1, min(_MOST_BINS, n // _LEAST_BIN_BYTES))
    edges = np.linspace(0, n, n_bins + 1)
    bits = trace.bits_until(edges)
    bpb = np.diff(bits) / np.diff(edges)
    mean = bits[1:] / edges[1:]
    top = _ceiling(float(bpb.max()))
    x, y = edges * WIDTH / n, HEIGHT * (1 - bpb / top)
    step = "".join(f"H{b:.1f}V{v:.1f}" for b, v in zip(x[1:-1], y[1:], strict=True))
    line = f"M0 {y[0]:.1f}{step}H{WIDTH}"
    middle = (x[1:] + x[:-1]) / 2
    means = _line(middle, HEIGHT * (1 - mean / top))
    hits = "".join(
        f'<rect class="hit" x="{a:.1f}" y="0" width="{b - a:.1f}" height="{HEIGHT}">'
        f"<title>bytes {int(p):,} to {int(q):,}: {v:.3f} bits a byte</title></rect>"
        for a, b, p, q, v in zip(x, x[1:], edges, edges[1:], bpb, strict=False)
    )
    offsets = trace.edges[trace.starts] * WIDTH / n
    marks = "".join(f"M{at:.1f} {HEIGHT}v-9" for at in offsets[:MOST_MARKS])
    if len(offsets) > MOST_MARKS:
        marks = ""
    shapes = (
        f'<path class="area" d="{line}V{HEIGHT}H0Z"/><path class="curve" d="{line}"/>'
        f'<path class="mean" d="{means}"/><path class="cut" d="{marks}"/>{hits}'
    )
    ticks = [(f"{in_bytes(value)}", value / n) for value in _ticks(n, 4)]
    return _chart(shapes, top, ticks, "bits a byte along the text")


def by_distance(trace: Trace) -> str:
    """Bits a byte by how much text a symbol's stream holds before it; "" if there is little."""
    first = trace.starts[np.searchsorted(trace.starts, np.arange(len(trace.bits)), "right") - 1]
    distance = (trace.edges[:-1] - trace.edges[first])[trace.is_symbol]
    if not distance.size or distance.max() < 2048:
        return ""
    lengths = np.diff(trace.edges)[trace.is_symbol].astype(float)
    rounds = (step * 10**power for power in range(2, 9) for step in (1, 2, 5))
    bounds = [bound for bound in rounds if bound <= int(distance.max())]
    place = np.searchsorted(bounds, distance, side="right")
    n_bytes = np.bincount(place, lengths, minlength=len(bounds) + 1)
    bits = np.bincount(place, trace.bits[trace.is_symbol], minlength=len(bounds) + 1)
    bpb = bits / np.maximum(n_bytes, 1)
    top = _ceiling(float(bpb.max()))
    wide = WIDTH / len(bpb)
    names = ["0", *(in_bytes(bound) for bound in bounds)]
    shapes = "".join(
        f'<rect class="column" x="{i * wide + wide * 0.09:.1f}" y="{HEIGHT * (1 - v / top):.1f}" '
        f'width="{wide * 0.82:.1f}" height="{HEIGHT * v / top:.1f}"><title>'
        f"from {names[i]} on: {v:.3f} bits a byte, over {int(n_bytes[i]):,} bytes</title></rect>"
        for i, v in enumerate(bpb)
    )
    skip = 1 if len(names) <= 6 else 2
    ticks = [(names[i], (i + 0.5) / len(names)) for i in range(0, len(names), skip)]
    return _chart(shapes, top, ticks, "bits a byte by distance from a start", css="chart small")


@dataclass(frozen=True, slots=True)
class Rate:
    """A compressor's size as a function of the text's: a rate, and what its decoder needs."""

    name: str
    bpb: float
    needs_bytes: int
    css: str
    """Of its line."""


def break_even(ours: Rate, others: Sequence[Rate], crossing_bytes: float | None) -> str:
    """Bits a byte with everything a decoder needs, over the size of the text."""
    least = 1e5
    most = max(1e9, 10 ** math.ceil(math.log10(crossing_bytes * 10))) if crossing_bytes else 1e9
    sizes = np.geomspace(least, most, 121)
    span = math.log10(most / least)
    x = WIDTH * np.log10(sizes / least) / span
    top = _ceiling(1.5 * max(rate.bpb for rate in [ours, *others]))
    shapes: list[str] = []
    tags: list[str] = []
    ends: list[float] = []
    lowest = min([*others, ours], key=lambda rate: rate.bpb + 8 * rate.needs_bytes / most)
    for rate in [*others, ours]:
        total = rate.bpb + 8 * rate.needs_bytes / sizes
        inside = total <= top
        if not inside.any():
            continue
        shapes.append(
            f'<path class="{rate.css}" d="{_line(x[inside], HEIGHT * (1 - total[inside] / top))}">'
            f"<title>{html.escape(rate.name)}</title></path>"
        )
        colour = {"curve": " t-ours", "primed": " t-second"}.get(rate.css, "")
        level = 100 * (1 - float(total[-1]) / top)
        is_near = any(abs(level - other) < _NEAR_PERCENT for other in ends)
        place = "left below" if rate is lowest or (is_near and ours is lowest) else "left"
        ends.append(level)
        tags.append(
            f'<span class="tag {place}{colour}" style="left:100%;top:{level:.2f}%">'
            f"{html.escape(rate.name)}</span>"
        )
    if crossing_bytes is not None and crossing_bytes >= least:
        at = 100 * math.log10(crossing_bytes / least) / span
        height = ours.bpb + 8 * ours.needs_bytes / crossing_bytes
        level = 100 * (1 - height / top)
        tags.append(f'<div class="dot" style="left:{at:.2f}%;top:{level:.2f}%"></div>')
        side = " left" if at > 85 else ""
        tags.append(
            f'<span class="tag crossing t-ours{side}" style="left:{at:.2f}%;top:{level:.2f}%">'
            f"{in_bytes(crossing_bytes)}</span>"
        )
    powers = range(5, round(math.log10(most)) + 1)
    ticks = [(in_bytes(10.0**power), (power - 5) / span) for power in powers]
    return _chart("".join(shapes), top, ticks, "bits a byte, all counted", more="".join(tags))


def _chart(
    shapes: str,
    top: float,
    ticks: Sequence[tuple[str, float]],
    label: str,
    *,
    more: str = "",
    css: str = "chart",
) -> str:
    """Axes around ``shapes``: the vertical one from 0 to ``top``, the other as given."""
    values = [value for value in _ticks(top, 4) if value <= top * 1.0001]
    lines = "".join(
        f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        for y in (HEIGHT * (1 - value / top) for value in values)
    )
    words = "".join(
        f'<span class="y" style="top:{100 * (1 - value / top):.2f}%">{value:g}</span>'
        for value in values
    )
    for text, at in ticks:
        end = " first" if at < 0.02 else " last" if at > 0.97 else ""
        words += f'<span class="x{end}" style="left:{100 * at:.2f}%">{text}</span>'
    return (
        f'<div class="{css}"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{html.escape(label)}">{lines}{shapes}</svg>{words}{more}</div>'
    )


def _line(x: Floats, y: Floats) -> str:
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)]
    return "M" + "L".join(points)


def _ticks(most: float, about: int) -> list[float]:
    """Round numbers from 0 to ``most``, some ``about`` of them."""
    if most <= 0:
        return [0.0]
    raw = most / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    return [step * i for i in range(int(most / step * 1.0001) + 1)]


def _ceiling(most: float) -> float:
    """A little above ``most``."""
    ticks = _ticks(max(most, 0.1) * 1.08, 4)
    step = ticks[1]
    return step * math.ceil(max(most, 0.1) / (step / 2)) / 2


def in_bytes(n: float) -> str:
    """``64 B``, ``16 kB``, ``3.9 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}" if n < 999.5 * size else f"{n / size:,.0f} {unit}"
    return f"{n:.0f} B" if n else "0"
