"""Scorers and our own artifacts, seen as predictors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pgolf_codec
from pgolf_codec.codec.frequencies import TOTAL
from pgolf_codec.eval.quantise import cuts
from pgolf_codec.models import embedded_paths

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


class Artifact:
    """One of our models as anyone's predictor: a stream by itself, one symbol a step.

    Its distributions are its integer frequencies over 2**24, exact in float64.
    """

    def __init__(self, model: str | None = None) -> None:
        """``model`` is an embedded model's name or the path of a ``.pglm`` file."""
        loaded = pgolf_codec.load_model(model)
        self.n_symbols = loaded.predictor.n_symbols
        self.encode = loaded.tokenizer.encode
        self.decode = loaded.tokenizer.decode
        self.files = [str(embedded_paths().get(loaded.name, model))]
        self._predictor = loaded.predictor

    def start(self) -> None:
        self._session = self._predictor.session(1)
        self._row: NDArray[np.float64] | None = None
        self._last: NDArray[np.int32] | None = None

    def next_distribution(self) -> NDArray[np.float64]:
        if self._row is None:
            self._row = np.diff(cuts(self._session.weights(self._last)[0])) / TOTAL
        return self._row

    def observe(self, symbol: int) -> None:
        self.next_distribution()  # the session has to take every symbol in turn
        self._last = np.array([symbol], np.int32)
        self._row = None
