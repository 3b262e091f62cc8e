"""The only argument of several benchmarks: a text."""

from __future__ import annotations

import argparse
from pathlib import Path


def one_text(arguments: list[str], description: str | None) -> Path:
    """An existing file; ends with usage and status 2 if it is none."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, metavar="TEXT")
    path: Path = parser.parse_args(arguments).text
    if not path.is_file():
        parser.error(f"{path} is not a file")
    return path
