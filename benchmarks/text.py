"""Texts beside other compressors: bytes, bpb and speed; ours by verification.

    python benchmarks/text.py [TEXT ...]      writes benchmarks/results/text.json

Without arguments: the corpora beside the checkout where they are, and the help
topics of Python, which everyone has.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import pgolf_codec
from pgolf_codec.cli import demo
from pgolf_codec.eval.peers import peers

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "text.json"
MAX_TEXT_BYTES = 1_000_000


def main(arguments: list[str]) -> None:
    paths = [Path(name) for name in arguments]
    if not paths:
        paths = sorted((ROOT.parent / "shared" / "corpora" / "val").glob("*.txt"))
    texts = {path.name: path.read_bytes()[:MAX_TEXT_BYTES] for path in paths}
    if not arguments:
        texts["pydoc_data.topics"] = demo.python_topics(MAX_TEXT_BYTES)
    model = pgolf_codec.load_model()
    pgolf_codec.compress(b"compiling is no part of the speed", model=model)
    rows = []
    for name, text in texts.items():
        rows.append(measure(name, text, model))
        print(f"{name}: {rows[-1]['ours']['bpb_file']:.4f} bpb", file=sys.stderr)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({"machine": machine(), "texts": rows}, indent=1) + "\n", encoding="utf-8"
    )


def measure(name: str, text: bytes, model: Any) -> dict[str, Any]:
    """One text: every peer's result, and our receipt."""
    receipt = pgolf_codec.verify(text, model=model)
    return {
        "name": name,
        "n_bytes": len(text),
        "peers": [demo.measure(peer, text)._asdict() for peer in peers()],
        "ours": json.loads(receipt.to_json()),
    }


def machine() -> dict[str, Any]:
    """What the speeds depend on."""
    from pgolf_codec.codec.workers import default_threads

    return {"platform": platform.platform(), "threads": default_threads()}


if __name__ == "__main__":
    main(sys.argv[1:])
