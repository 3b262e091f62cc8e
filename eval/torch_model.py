"""torch modules as predictors and as scorers.

Float arithmetic: a verification holds for the machine, the torch and the number of
threads that it was made with, and encoder and decoder make the same calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.eval import contexts

Forward = Callable[[Any], Any]
"""ids (1, t) int64 -> logits (1, t, V), those of row i given ids 0 .. i."""
CachedForward = Callable[[Any, Any], tuple[Any, Any]]
"""ids (1, t) and what the call before left (None at first) -> logits, what is left now."""


class TorchPredictor:
    """One forward pass over the last ``context`` symbols for each distribution."""

    def __init__(self, model: Forward, n_symbols: int, *, first: int, context: int) -> None:
        """``first`` is the id that stands before everything, BOS in most models."""
        self.n_symbols = n_symbols
        self._model = model
        self._first = first
        self._context = context

    def start(self) -> None:
        self._ids = [self._first]

    def next_distribution(self) -> NDArray[np.float64]:
        logits = self._model(as_ids(self._ids[-self._context :]))
        return np.asarray(distributions(logits)[-1])

    def observe(self, symbol: int) -> None:
        self._ids.append(symbol)


class CachedTorchPredictor:
    """One symbol a call, with a cache; when ``context`` is full, half of it is read anew."""

    def __init__(self, model: CachedForward, n_symbols: int, *, first: int, context: int) -> None:
        self.n_symbols = n_symbols
        self._model = model
        self._first = first
        self._context = context

    def start(self) -> None:
        self._ids = [self._first]
        self._cache: Any = None
        self._n_seen = 0
        self._row: NDArray[np.float64] | None = None

    def next_distribution(self) -> NDArray[np.float64]:
        if self._row is None:
            if self._n_seen == self._context:
                self._cache, self._n_seen = None, 0
                self._ids = self._ids[-max(1, self._context // 2) :]
            logits, self._cache = self._model(as_ids(self._ids[self._n_seen :]), self._cache)
            self._n_seen = len(self._ids)
            self._row = distributions(logits)[-1]
        return self._row

    def observe(self, symbol: int) -> None:
        self.next_distribution()  # the cache has to take every symbol in turn
        self._ids.append(symbol)
        self._row = None


class TorchScorer:
    """Sliding windows over a whole text: how evaluation scripts score."""

    def __init__(
        self, model: Forward, n_symbols: int, *, first: int, length: int, stride: int
    ) -> None:
        self.n_symbols = n_symbols
        self._model = model
        self._first = first
        self._length = length
        self._stride = stride

    def start(self) -> None: ...

    def score(self, ids: NDArray[Any]) -> NDArray[np.float64]:
        """(n, V); position t is predicted from what its window holds before it."""
        inputs = [self._first, *ids[:-1].tolist()]
        out = [np.zeros((0, self.n_symbols))]
        for window in contexts.sliding(len(ids), self._length, self._stride):
            rows = distributions(self._model(as_ids(inputs[window.begin : window.end])))
            out.append(rows[window.first - window.begin :])
        return np.concatenate(out)


def as_ids(ids: list[int]) -> Any:
    """(1, t) int64 on the CPU."""
    import torch

    return torch.tensor([ids], dtype=torch.int64)


def distributions(logits: Any) -> NDArray[np.float64]:
    """(t, V) float64 from logits (1, t, V) of any float type on any device."""
    import torch

    rows: NDArray[np.float64] = torch.softmax(logits[0].detach().double(), dim=-1).cpu().numpy()
    return rows
