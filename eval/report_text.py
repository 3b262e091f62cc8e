"""Any text as HTML that shows it, with a colour for the bits of each symbol.

Whatever the bytes are, the result is inert: nothing of them becomes markup, and no
control character or change of direction reaches the page.
"""

from __future__ import annotations

import bisect
import html
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pgolf_codec.eval.trace import Trace

LEVELS_BPB = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Bits a byte between which the levels 0 .. 8 of a symbol lie."""
N_LEVELS = len(LEVELS_BPB) + 1

PASSAGE_BYTES = 240
MAX_OPAQUE_BYTES = 2000
"""Shown of a frame that no model coded."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Items ``first`` .. ``end`` − 1 of a trace."""

    first: int
    end: int
    start_byte: int
    n_bytes: int
    bits: float

    @property
    def bpb(self) -> float:
        return self.bits / self.n_bytes


def level(bpb: float) -> int:
    """0 .. 8."""
    return bisect.bisect_right(LEVELS_BPB, bpb)


def cells(text: bytes, trace: Trace, first: int, end: int, budget: int) -> tuple[str, int]:
    """Items ``first`` .. as coloured cells, and the item at which they stop.

    They stop at ``end``, or before the HTML has more than ``budget`` bytes.  Symbols that
    share a character share a cell.
    """
    out: list[str] = []
    n_html = 0
    at = first
    for stop, data in _characters(text, trace, first, end):
        cell = _cell(data, trace, at, stop)
        n_html += len(cell.encode())
        if n_html > budget and out:
            break
        out.append(cell)
        at = stop
    return "".join(out), at


def worst_passages(trace: Trace, count: int) -> list[Passage]:
    """Those with the most bits a byte, none overlapping another, worst first."""
    sums = np.concatenate([[0.0], np.cumsum(trace.bits)])
    opaque = np.concatenate([[0], np.cumsum(~trace.is_symbol)])
    ends = np.searchsorted(trace.edges, trace.edges[:-1] + PASSAGE_BYTES)
    firsts = np.flatnonzero(ends < len(trace.edges))
    firsts = firsts[opaque[ends[firsts]] == opaque[firsts]]
    ends = ends[firsts]
    n_bytes = trace.edges[ends] - trace.edges[firsts]
    bits = sums[ends] - sums[firsts]
    taken: list[Passage] = []
    for i in np.argsort(-bits / np.maximum(n_bytes, 1), kind="stable").tolist():
        first, end = int(firsts[i]), int(ends[i])
        if all(end <= other.first or other.end <= first for other in taken):
            start = int(trace.edges[first])
            taken.append(Passage(first, end, start, int(n_bytes[i]), float(bits[i])))
        if len(taken) == count:
            break
    return taken


def visible(data: bytes) -> str:
    """Bytes as HTML text: what can't be seen, or isn't text, is spelled."""
    return "".join(map(_visible, data.decode("utf-8", "surrogateescape")))


def _visible(char: str) -> str:
    code = ord(char)
    if char in _SPELLED:
        return _SPELLED[char]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"⟨{code - 0xDC00:02X}⟩"
    if code < 0x20:
        return chr(0x2400 + code)
    if unicodedata.category(char) in _UNSEEN:
        return f"⟨U+{code:04X}⟩"
    return html.escape(char)


_SPELLED = {"\n": "↵\n", "\t": "⇥\t", "\x7f": "\u2421"}
_UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


def _characters(text: bytes, trace: Trace, first: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(item behind it, bytes) of each run of items that ends where a character ends."""
    edges = trace.edges
    start = first
    for stop in range(first + 1, end + 1):
        data = text[int(edges[start]) : int(edges[stop])]
        if stop < end and trace.is_symbol[stop] and _is_cut(data):
            continue
        yield stop, data
        start = stop


def _is_cut(data: bytes) -> bool:
    """Whether ``data`` ends within a character of UTF-8."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            return back < 2 + (byte >= 0xE0) + (byte >= 0xF0) and byte < 0xF8
        if byte < 0x80:
            return False
    return False


def _cell(data: bytes, trace: Trace, first: int, stop: int) -> str:
    bits = float(trace.bits[first:stop].sum())
    if not trace.is_symbol[first]:
        more = len(data) - MAX_OPAQUE_BYTES
        rest = f"<b>… {more:,} bytes more</b>" if more > 0 else ""
        told = f"{len(data):,} bytes without a model, {bits / len(data):.2f} bits each:"
        return f"<q><b>{told}</b>{visible(data[:MAX_OPAQUE_BYTES])}{rest}</q>"
    n = stop - first
    told = f"{bits:.2f}" if n == 1 else f'"{n} symbols, {bits:.2f}"'
    return f"<i class=c{level(bits / len(data))} data-b={told}>{visible(data)}</i>"
