"""Test-time training: a torch module that is scored on a part of a text, then learns from it.

Score first, update after: a decoder repeats every step on what it has decoded.  Float
arithmetic on one schedule: the same machine, torch and number of threads give the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.eval import contexts
from pgolf_codec.eval.torch_model import as_ids, distributions

Ids = NDArray[Any]
Bits = NDArray[np.float64]


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


class Learner:
    """A torch module, with weights of its own that take steps."""

    def __init__(self, module: Any, schedule: Schedule) -> None:
        """``module(ids)`` gives logits (1, t, V) of ids (1, t)."""
        self.schedule = schedule
        self._module = module
        self.reset()

    def reset(self) -> None:
        """Forget all that was learned."""
        import torch

        schedule = self.schedule
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
        elif schedule.passes:
            self._fixed = {name: p.clone().requires_grad_() for name, p in self._fixed.items()}
            learning = list(self._fixed.values())
        else:
            learning = []
        kind = torch.optim.SGD if schedule.optimizer == "sgd" else torch.optim.Adam
        self._optimizer = kind(learning, lr=schedule.learning_rate) if learning else None

    def logits(self, inputs: Sequence[int]) -> Any:
        """(1, t, V) of ``inputs`` (t,)."""
        import torch

        weights = dict(self._fixed)
        for name, (up, down) in self._added.items():
            weights[name] = weights[name] + up @ down
        return torch.func.functional_call(self._module, weights, (as_ids(list(inputs)),))

    def distributions(self, inputs: Sequence[int], n: int) -> NDArray[np.float64]:
        """(n, V): what follows each of the last ``n`` of ``inputs``; changes nothing."""
        import torch

        with torch.no_grad():
            return distributions(self.logits(inputs)[:, -n:])

    def bits(self, inputs: Sequence[int], targets: Ids) -> Bits:
        """(n,) −log2 of the probabilities of ``targets`` (n,), which follow the last inputs."""
        rows = self.distributions(inputs, len(targets))
        found: Bits = -np.log2(rows[np.arange(len(targets)), targets])
        return found

    def step(self, inputs: Sequence[int], targets: Ids) -> None:
        """One step on what has been scored."""
        import torch

        if self._optimizer is None:
            return
        self._optimizer.zero_grad(set_to_none=True)
        logits = self.logits(inputs)[0, -len(targets) :].float()
        wanted = torch.from_numpy(np.asarray(targets, np.int64))
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()


def tuned_bits(
    learner: Learner,
    documents: Sequence[Ids],
    *,
    first: int,
    length: int,
    stride: int,
    chunk: int | None,
    carried: bool,
    progress: Callable[[int], None] | None = None,
) -> Bits:
    """Bits of every symbol of ``documents``, each of which begins without a context.

    ``chunk`` symbols, or with None a whole document, are scored in windows of ``length`` and
    ``stride``; then each window takes its steps, in their order.  What was learned is
    ``carried`` on to the next document, or forgotten.  ``first`` is the id that stands before
    everything; ``progress`` gets the number of symbols done.
    """
    learner.reset()
    out: list[Bits] = [np.zeros(0)]
    n_done = 0
    for ids in documents:
        if not carried:
            learner.reset()
        inputs = [first, *ids.tolist()]
        for at in range(0, len(ids), chunk or max(1, len(ids))):
            end = min(len(ids), at + chunk) if chunk else len(ids)
            windows = contexts.continued(at, end, length, stride)
            for one in windows:
                out.append(learner.bits(inputs[one.begin : one.end], ids[one.first : one.end]))
                n_done += one.end - one.first
                if progress is not None:
                    progress(n_done)
            for _ in range(learner.schedule.passes):
                for one in windows:
                    learner.step(inputs[one.begin : one.end], ids[one.first : one.end])
    return np.concatenate(out)


def use_threads(threads: int | None) -> None:
    """Let torch use so many, or as many as it wants."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


class TunedScorer:
    """Satisfies :class:`~pgolf_codec.eval.predictor.Scorer`, with ``block`` and ``learn``.

    ``start`` forgets all that was learned; of independent documents each begins so
    (``independent_documents``), else what was learned is carried on through the text.  Its
    bits are those of :func:`tuned_bits` with chunks and a stride of ``block`` and windows of
    ``block + context − 1``.
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
        """As for :class:`Learner`; ``first`` is the id that stands before everything."""
        self.n_symbols = n_symbols
        self.block = schedule.block
        self.independent_documents = independent_documents
        self._learner, self._schedule, self._first = Learner(module, schedule), schedule, first

    def start(self) -> None:
        self._learner.reset()
        self._past = [self._first]

    def score(self, ids: Ids) -> NDArray[np.float64]:
        """(n, V); changes nothing."""
        return self._learner.distributions(self._inputs(ids), len(ids))

    def learn(self, ids: Ids) -> None:
        """Steps on a block that has been scored."""
        for _ in range(self._schedule.passes):
            self._learner.step(self._inputs(ids), ids)
        past = [*self._past, *np.asarray(ids, np.int64).tolist()]
        self._past = past[-self._schedule.context :]

    def _inputs(self, ids: Ids) -> list[int]:
        return [*self._past, *np.asarray(ids[:-1], np.int64).tolist()]
