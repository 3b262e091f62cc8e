"""Reading a stored archive needs neither numba nor sentencepiece."""

from __future__ import annotations

import subprocess
import sys


def test_heavy_modules_wait_until_they_are_needed() -> None:
    code = (
        "import sys, pgolf_codec.codec.stream, pgolf_codec.codec.inspection;"
        "print([m for m in ('numba', 'sentencepiece', 'torch', 'zstandard', 'constriction')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
