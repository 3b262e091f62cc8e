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

from pgolf_codec.errors import ConfigError
from pgolf_codec.eval import contexts
from pgolf_codec.eval.contexts import Contexts
from pgolf_codec.eval.torch_model import as_ids, distributions

Ids = NDArray[Any]
Bits = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """What learns, and how fast."""

    learning_rate: float
    optimizer: Literal["sgd", "adam"] = "adam"
    rank: int = 0
    """Of what is added to each matrix, as in LoRA; 0: all weights themselves learn."""
    passes: int = 1
    """Steps taken on each window; 0: nothing is learned, a control."""


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


class TunedPredictor:
    """A torch module that learns as it goes, asked symbol by symbol or for known ones at once.

    Satisfies :class:`pgolf_codec.eval.predictor.Predictor`.  Windows are those of
    :func:`pgolf_codec.eval.contexts.continued`.  A chunk of symbols, or a document, is learned
    from in its windows' order before anything behind it is scored.
    """

    def __init__(
        self,
        module: Any,
        n_symbols: int,
        schedule: Schedule,
        reading: Contexts,
        *,
        first: int,
        chunk: int | None = None,
    ) -> None:
        """``module(ids)`` gives logits (1, t, V) of ids (1, t).

        ``first`` is the id that stands before everything; ``chunk`` None: learn when a document
        is at its end.  Raises :class:`ConfigError` where ``reading`` has no windows.
        """
        if reading.length is None or reading.step is None:
            raise ConfigError("in floating point, contexts are windows: give their length")
        self.n_symbols = n_symbols
        self.independent_documents = reading.independent
        self._learner, self._first, self._chunk = Learner(module, schedule), first, chunk
        self._reading, self._length, self._stride = reading, reading.length, reading.step
        self._row: NDArray[np.float64] | None = None

    def start(self) -> None:
        self._learner.reset()
        self._begin()

    def start_document(self) -> None:
        """Without a context; with ``carried`` the one before is learned from to its end."""
        if self._reading.carried:
            self._learn()
            self._begin()

    def next_distribution(self) -> NDArray[np.float64]:
        if self._row is None:
            first = self._n_known - (self._n_known - self._n_learned) % self._stride
            begin = max(0, first + self._stride - self._length)
            self._row = self._learner.distributions(self._inputs[begin:], 1)[0]
        return self._row

    def observe(self, symbol: int) -> None:
        self._take([symbol])

    def bits(self, documents: Sequence[Ids], progress: Callable[[int], None] | None = None) -> Bits:
        """Bits of every symbol of ``documents``, in far fewer calls of the module.

        ``progress`` gets the number of symbols done.
        """
        out, n_done = [np.zeros(0)], 0
        for index, ids in enumerate(documents):
            if index == 0 or self.independent_documents:
                self.start()
            self.start_document()
            inputs = [self._first, *ids.tolist()]
            for at in range(0, len(ids), self._chunk or max(1, len(ids))):
                end = min(len(ids), at + self._chunk) if self._chunk else len(ids)
                for one in self._windows(end):
                    targets = ids[one.first : one.end]
                    out.append(self._learner.bits(inputs[one.begin : one.end], targets))
                    n_done += len(targets)
                    if progress is not None:
                        progress(n_done)
                self._take(inputs[at + 1 : end + 1])
        return np.concatenate(out)

    def _begin(self) -> None:
        self._inputs, self._n_learned, self._row = [self._first], 0, None

    @property
    def _n_known(self) -> int:
        """Symbols of this document."""
        return len(self._inputs) - 1

    def _take(self, ids: list[int]) -> None:
        """Symbols that have been scored; no more than the rest of a chunk."""
        self._inputs += ids
        self._row = None
        if self._n_known - self._n_learned == self._chunk:
            self._learn()

    def _learn(self) -> None:
        """Steps on all that was scored and not learned from."""
        windows, inputs = self._windows(self._n_known), self._inputs
        for _ in range(self._learner.schedule.passes):
            for one in windows:
                targets = np.array(inputs[one.first + 1 : one.end + 1])
                self._learner.step(inputs[one.begin : one.end], targets)
        self._n_learned = self._n_known

    def _windows(self, end: int) -> list[contexts.Window]:
        return contexts.continued(self._n_learned, end, self._length, self._stride)


def use_threads(threads: int | None) -> None:
    """Let torch use so many, or as many as it wants."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
