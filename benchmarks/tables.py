"""Draws the table of README.md from benchmarks/results/text.json, and from nothing else.

python benchmarks/tables.py [--check]     with --check: fails if the table is an old one
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "text.json"
README = ROOT / "README.md"
BEGIN = "<!-- results: written by benchmarks/tables.py from benchmarks/results -->\n"
END = "<!-- end of results -->\n"


def main(arguments: list[str]) -> int:
    old = README.read_text(encoding="utf-8")
    new = replace(old, body(json.loads(RESULT.read_bytes()) if RESULT.exists() else None))
    if arguments == ["--check"]:
        if old != new:
            print("README.md: the table of results is not that of benchmarks/results")
        return int(old != new)
    README.write_text(new, encoding="utf-8")
    return 0


def replace(text: str, table: str) -> str:
    """``text`` with ``table`` between the marks."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    text, n_found = pattern.subn(lambda _: BEGIN + table + END, text)
    if n_found != 1:
        raise SystemExit(f"README.md has {n_found} places for the results, not one")
    return text


def body(results: dict[str, Any] | None) -> str:
    """Markdown: bits per byte of real files, one column a compressor, and our speed."""
    if results is None:
        return "No results yet.\n"
    texts = results["texts"]
    peers = [row["name"] for row in texts[0]["peers"]]
    ours = texts[0]["ours"]
    head = ["text", "bytes", *peers, "pgolf-codec", "there, kB/s", "back, kB/s"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for text in texts:
        n, receipt = text["n_bytes"], text["ours"]
        rows.append(
            [
                text["name"],
                f"{n:,}",
                *(f"{8 * row['n_bytes'] / n:.3f}" for row in text["peers"]),
                f"**{receipt['bpb_file']:.3f}**",
                f"{n / 1000 / receipt['encode_seconds']:.0f}",
                f"{n / 1000 / receipt['decode_seconds']:.0f}",
            ]
        )
    table = "".join("| " + " | ".join(row) + " |\n" for row in rows)
    return (
        f"Bits per byte of files on disk, each decoded again by another process; {len(texts)} "
        f"texts, {results['machine']['threads']} threads, model `{ours['model_name']}` "
        f"({ours['model_bytes']:,} bytes, fingerprint `{ours['model_fingerprint'][:16]}`).\n\n"
        f"{table}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
