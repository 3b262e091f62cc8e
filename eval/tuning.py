"""Test-time training: a torch module that is scored on a block, then learns from it.

Score first, update after: a decoder repeats every step on what it has decoded.  Float
arithmetic on one schedule: the same machine, torch and number of threads give the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.eval.torch_model import as_ids, distributions


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """What learns, from how much, and how fast."""

    learning_rate: float
    optimizer: Literal["sgd", "adam"] = "adam"
    rank: int = 0
    """Of what is added to each matrix, as in LoRA; 0: all weights themselves learn."""
    block: int = 64
    """Symbols that are scored, then learned from."""
    context: int = 256
    """Symbols before a block that the module is shown."""
    passes: int = 1
    """Steps taken on each block; 0: nothing is learned, a control."""


class TunedScorer:
    """Satisfies :class:`~pgolf_codec.eval.predictor.Scorer`, with ``block`` and ``learn``.

    ``start`` forgets all that was learned; of independent documents each begins so
    (``independent_documents``), else what was learned is carried on through the text.
    """

    def __init__(
        self,
        module: Any,
        n_symbols: int,
        schedule: Schedule,
        *,
        first: int,
        independent_documents: bool = False,
    ) -> None:
        """``module(ids)`` gives logits (1, t, V) of ids (1, t); ``first`` is the id that stands
        before everything."""
        self.n_symbols = n_symbols
        self.block = schedule.block
        self.independent_documents = independent_documents
        self._module, self._schedule, self._first = module, schedule, first

    def start(self) -> None:
        import torch

        schedule = self._schedule
        generator = torch.Generator().manual_seed(0)
        self._fixed = {name: p.detach() for name, p in self._module.named_parameters()}
        self._added: dict[str, tuple[Any, Any]] = {}
        if schedule.rank:
            for name, p in self._fixed.items():
                if p.ndim == 2 and min(p.shape) > schedule.rank:
                    down = torch.randn(schedule.rank, p.shape[1], generator=generator)
                    down = (down / math.sqrt(p.shape[1])).requires_grad_()
                    up = torch.zeros(p.shape[0], schedule.rank, requires_grad=True)
                    self._added[name] = (up, down)
            learning = [tensor for pair in self._added.values() for tensor in pair]
        else:
            self._fixed = {name: p.clone().requires_grad_() for name, p in self._fixed.items()}
            learning = list(self._fixed.values())
        kind = torch.optim.SGD if schedule.optimizer == "sgd" else torch.optim.Adam
        self._optimizer = kind(learning, lr=schedule.learning_rate)
        self._past = [self._first]

    def score(self, ids: NDArray[Any]) -> NDArray[np.float64]:
        """(n, V); changes nothing."""
        import torch

        with torch.no_grad():
            rows = distributions(self._logits(ids))
        return rows[-len(ids) :]

    def learn(self, ids: NDArray[Any]) -> None:
        """Steps on a block that has been scored."""
        import torch

        targets = torch.from_numpy(np.asarray(ids, np.int64))
        for _ in range(self._schedule.passes):
            self._optimizer.zero_grad(set_to_none=True)
            logits = self._logits(ids)[0, -len(ids) :].float()
            loss = torch.nn.functional.cross_entropy(logits, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        self._past = [*self._past, *targets.tolist()][-self._schedule.context :]

    def _logits(self, ids: NDArray[Any]) -> Any:
        import torch

        weights = dict(self._fixed)
        for name, (up, down) in self._added.items():
            weights[name] = weights[name] + up @ down
        inputs = as_ids([*self._past, *np.asarray(ids[:-1], np.int64).tolist()])
        return torch.func.functional_call(self._module, weights, (inputs,))


def scored_bits(scorer: TunedScorer, ids: NDArray[Any]) -> float:
    """−Σ log2 of the probabilities of ``ids`` (n,), scored block after block from the start."""
    scorer.start()
    bits = 0.0
    for at in range(0, len(ids), scorer.block):
        block = np.asarray(ids[at : at + scorer.block], np.int64)
        rows = np.asarray(scorer.score(block))
        bits -= float(np.sum(np.log2(rows[np.arange(len(block)), block])))
        scorer.learn(block)
    return bits
