"""What the benchmarks found, as they stored it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"


def stored(name: str) -> Any:
    """Content of NAME.json; None if that benchmark has not run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_bytes()) if path.exists() else None
