"""What takes long is told to whoever listens: the command line does."""

from __future__ import annotations

from collections.abc import Callable


def _nobody(message: str) -> None:
    pass


tell: Callable[[str], None] = _nobody
