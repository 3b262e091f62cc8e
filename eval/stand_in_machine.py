"""In place of :mod:`pgolf_codec.codec.machine` where nothing is compiled.

Bundled under that name (:mod:`pgolf_codec.eval.bundle`): the real one asks llvmlite.
"""

from __future__ import annotations


def instruction_set() -> str:
    return "portable"


def target() -> str:
    return "portable"
