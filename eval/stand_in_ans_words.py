"""In place of :mod:`pgolf_codec.quant.ans_words`: by constriction, which may be a stand-in.

Bundled under that name (:mod:`pgolf_codec.eval.bundle`): the same values, without machine
code of ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 18
"""Items decoded at one time: a file can claim many, and they cost a byte each."""


def decode(
    words: NDArray[np.uint32], weights: NDArray[np.uint16], low: int, n_items: int
) -> NDArray[np.int8] | None:
    """The ``n_items`` values, ``low`` and more; None if the stream does not end with them."""
    import constriction

    from pgolf_codec.quant.histogram import model

    coder, categorical = constriction.stream.stack.AnsCoder(words), model(weights)
    values = np.empty(n_items, np.int8)
    for start in range(0, n_items, _BLOCK):
        part = values[start : start + _BLOCK]
        part[:] = coder.decode(categorical, part.size) + low
    return values if coder.is_empty() else None
