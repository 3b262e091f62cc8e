"""Scorers, seen as predictors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FILLER = 0
"""Stands for the symbol that a decoder doesn't know yet."""


class Replayed:
    """A scorer, asked for one symbol at a time.

    For each position the scorer is given what its block holds so far and a filler, and
    the last row counts: so the row of a claim that used anything else comes out
    differently.  A scorer that takes everything together starts anew for each question.
    One with blocks but no ``learn`` may change in ``score``: it is asked on copies, and
    once with the whole block, when that is known.  One that gives only the probabilities
    of given symbols is asked for all V of them.
    """

    def __init__(self, scorer: Any, n_symbols: int) -> None:
        self.n_symbols = n_symbols
        self._scorer = scorer
        self._learns = hasattr(scorer, "learn")
        self._block: int | None = getattr(scorer, "block", None)
        self._known: list[int] = []

    def start(self) -> None:
        self._scorer.start()
        self._known = []

    def next_distribution(self) -> NDArray[np.float64]:
        row = self._last(_FILLER)
        if row.ndim == 1:
            return row
        rest = [self._last(symbol) for symbol in range(1, self.n_symbols)]
        return np.array([float(p) for p in (row, *rest)])

    def observe(self, symbol: int) -> None:
        self._known.append(symbol)
        if len(self._known) == self._block:
            block = np.array(self._known, np.int64)
            if self._learns:
                self._scorer.learn(block)
            else:
                self._scorer.score(block)
            self._known = []

    def _last(self, symbol: int) -> NDArray[np.float64]:
        """The last row, (V,) or (), of the block so far and ``symbol``."""
        scorer = self._scorer
        if self._block is None:
            scorer.start()
        elif not self._learns:
            scorer = copy.deepcopy(scorer)
        rows = scorer.score(np.array([*self._known, symbol], np.int64))
        return np.asarray(np.asarray(rows)[-1], np.float64)
