"""In place of :mod:`pgolf_codec.codec.compiled` where no kernels are: none can be called.

Bundled under that name (:mod:`pgolf_codec.eval.bundle`), whose programs code weights by
coders that need no machine code.
"""

from __future__ import annotations

from typing import Any

from pgolf_codec.errors import PgolfError


class Kernel:
    """The name of a kernel that is not there."""

    def __init__(self, module: str, name: str, *_more: Any) -> None:
        self.name = f"{module}.{name}"

    def __call__(self, *_arguments: Any) -> int:
        raise PgolfError(f"{self.name} is not part of this program")


def flat(value: Any) -> Any:
    """As it is."""
    return value
