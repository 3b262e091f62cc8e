"""ANS as constriction has it, in plain Python, for programs that must run without it.

Bundled under the name ``constriction`` (:mod:`pgolf_codec.eval.bundle`): the parts that
``quant.histogram`` uses, with the same words (docs/NUMERICS.md, "The artifact").
About a microsecond a symbol.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

PRECISION = 24
_MASK = (1 << PRECISION) - 1
_WORD = (1 << 32) - 1


class Categorical:
    """Intervals of 2**24 for float64 weights (n,), by the fast rule (``perfect=False``)."""

    def __init__(self, probabilities: NDArray[np.float64], perfect: bool = True) -> None:
        if perfect:
            raise NotImplementedError("only perfect=False")
        n = len(probabilities)
        weights = [float(p) for p in probabilities]
        scale = ((1 << PRECISION) - n) / sum(weights)
        sums = [0.0, *accumulate(weights[:-1])]
        self.cum = [i + int(total * scale) for i, total in enumerate(sums)] + [1 << PRECISION]


class AnsCoder:
    """A stack of 32-bit words with a state of 64 bits."""

    def __init__(self, compressed: ArrayLike | None = None) -> None:
        self._words: list[int] = [] if compressed is None else np.asarray(compressed).tolist()
        self._state = 0
        for _ in range(2):
            if self._words and self._state <= _WORD:
                self._state = self._state << 32 | self._words.pop()

    def encode_reverse(self, symbols: ArrayLike, model: Categorical) -> None:
        cum, words, state = model.cum, self._words, self._state
        for symbol in reversed(np.asarray(symbols).tolist()):
            low = cum[symbol]
            size = cum[symbol + 1] - low
            if state >> 40 >= size:
                words.append(state & _WORD)
                state >>= 32
            whole, rest = divmod(state, size)
            state = whole << PRECISION | low + rest
        self._state = state

    def decode(self, model: Categorical, n: int) -> NDArray[np.int32]:
        cum, words, state = model.cum, self._words, self._state
        out = []
        for _ in range(n):
            place = state & _MASK
            symbol = bisect_right(cum, place) - 1
            low = cum[symbol]
            state = (state >> PRECISION) * (cum[symbol + 1] - low) + place - low
            if state <= _WORD and words:
                state = state << 32 | words.pop()
            out.append(symbol)
        self._state = state
        return np.array(out, np.int32)

    def get_compressed(self) -> NDArray[np.uint32]:
        rest, state = [], self._state
        while state:
            rest.append(state & _WORD)
            state >>= 32
        return np.array(self._words + rest, np.uint32)

    def is_empty(self) -> bool:
        return not self._words and self._state == 0


stream: Any = SimpleNamespace(
    stack=SimpleNamespace(AnsCoder=AnsCoder), model=SimpleNamespace(Categorical=Categorical)
)
