"""Draws the tables of the documents from benchmarks/results, and from nothing else.

python benchmarks/tables.py [--check]     with --check: fails if a table is an old one

A table stands between two marks, ``<!-- NAME: ... -->`` and ``<!-- end of NAME -->``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pages import speed, text, training, weights
from pages.results import stored

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Table:
    """One generated table: where it stands, and how it is drawn from NAME.json."""

    name: str
    document: str
    body: Callable[[Any], str]

    @property
    def begin(self) -> str:
        return f"<!-- {self.name}: written by benchmarks/tables.py from benchmarks/results -->\n"

    @property
    def end(self) -> str:
        return f"<!-- end of {self.name} -->\n"

    def draw(self) -> str:
        """Markdown of the stored result."""
        results = stored(self.name)
        return "No results yet.\n" if results is None else self.body(results)


TABLES = (
    Table("adaptation", "docs/ADAPTATION.md", text.adaptation),
    Table("text", "README.md", text.texts),
    Table("streams", "docs/STREAMS.md", speed.streams),
    Table("engine", "docs/SPEED.md", speed.engine),
    Table("speed", "docs/SPEED.md", speed.speed),
    Table("integers", "docs/NUMERICS.md", text.integers),
    Table("tokenizers", "docs/DATA.md", text.tokenizers),
    Table("gpu", "docs/GPU.md", speed.gpu),
    Table("referee", "docs/REFEREE.md", text.referee),
    Table("coders", "docs/WEIGHTS.md", weights.weight_coders),
    Table("trellis", "docs/QUANTIZERS.md", weights.trellis),
    Table("quantizers", "docs/QUANTIZERS.md", weights.quantizers),
    Table("artifacts", "docs/QUANTIZERS.md", weights.artifacts),
    Table("ternary", "docs/QUANTIZERS.md", weights.ternary),
    Table("portability", "docs/PORTABILITY.md", speed.portability),
    Table("recipes", "docs/TRAINING.md", training.recipes),
    Table("case_operators", "docs/DATA.md", training.case_operators),
    Table("scaling", "docs/SCALING.md", training.scaling),
)


def main(arguments: list[str]) -> int:
    stale = []
    for table in TABLES:
        path = ROOT / table.document
        old = path.read_text(encoding="utf-8")
        new = replace(old, table, table.draw())
        if arguments == ["--check"]:
            stale += [f"{table.document}: {table.name}"] if old != new else []
        else:
            path.write_text(new, encoding="utf-8")
    for name in stale:
        print(f"{name} is not what benchmarks/results says")
    return int(bool(stale))


def replace(text: str, table: Table, body: str) -> str:
    """``text`` with ``body`` between the table's marks."""
    pattern = re.compile(re.escape(table.begin) + ".*?" + re.escape(table.end), re.DOTALL)
    text, n_found = pattern.subn(lambda _: table.begin + body + table.end, text)
    if n_found != 1:
        raise SystemExit(f"{table.document} has {n_found} places for {table.name}, not one")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
