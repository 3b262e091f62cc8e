"""Moments of a model's matrices, from calibration text: how much each weight's error matters.

The targets are drawn from the model itself, so it is the curvature of the model's own
distribution (the true Fisher information, not the empirical one).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pgolf_codec.lm.floats.model import Transformer
from pgolf_codec.lm.graph import bigram_bucket
from pgolf_codec.quant.moments import Moments

BATCH_ROWS = 2


def calibrate(
    model: Transformer, rows: Tensor, text: NDArray[np.integer[Any]], *, seed: int = 1
) -> dict[str, Moments]:
    """Moments of every matrix of the artifact, by its name there (without ``.q``).

    ``rows`` (B, T) are input ids of training text, each row behind BOS; ``text`` (n,) are
    more ids of such text, which only count how often tokens and pairs occur.  The scales
    of the model must be merged (``export.merge_scales``).
    """
    generator = torch.Generator().manual_seed(seed)
    head = _Head(model.config.softcap)
    sums = {name: _Sums(name == "embedding") for name, _ in model.named_parameters()}
    with _Watch({id(p): sums[name] for name, p in model.named_parameters()}):
        for start in range(0, len(rows), BATCH_ROWS):
            logits = model.logits(model(rows[start : start + BATCH_ROWS])).flatten(0, 1)
            p = head.add(logits.detach())
            targets = torch.multinomial(p, 1, generator=generator)
            loss = F.cross_entropy(logits, targets[:, 0], reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
            model.zero_grad(set_to_none=True)
    return _by_artifact_name(model, sums, head, rows.numel(), text)


@dataclass(slots=True)
class _Sums:
    """Of all products F.linear(x, W), and all lookups F.embedding(ids, W), of one W."""

    normalised: bool
    """Whether a row that was looked up is normalised at once."""
    inputs: Any = 0.0
    outputs: Any = 0.0
    lookups: Any = 0.0

    def add_product(self, x: Tensor, gradient: Tensor) -> None:
        """Inputs (..., columns), gradients (..., rows)."""
        x, gradient = x.flatten(0, -2), gradient.flatten(0, -2)
        self.inputs = self.inputs + (x.T @ x).double().numpy()
        self.outputs = self.outputs + gradient.square().sum(0).double().numpy()

    def add_lookup(self, found: Tensor, gradient: Tensor) -> None:
        """Rows that were found (..., columns), and the gradients by them.

        The gradient of a row that is normalised goes with the inverse of the row's size;
        that factor is taken out here, and put back where rows are weighed.
        """
        found, gradient = found.flatten(0, -2), gradient.flatten(0, -2)
        if self.normalised:
            gradient = gradient * found.square().mean(-1, keepdim=True).sqrt()
        self.lookups = self.lookups + (gradient.T @ gradient).double().numpy()


@dataclass(slots=True)
class _Head:
    """The mean square of the gradient by a symbol's logit, of its every possible target.

    It is p (1 - p) times the slope of the soft cap, squared.  Few rows see a rare symbol,
    so only its ratio to p is taken from them, and p from a larger text.
    """

    softcap: float
    p: Any = 0.0
    squares: Any = 0.0

    def add(self, logits: Tensor) -> Tensor:
        """Capped logits (N, V); returns their probabilities."""
        p = logits.softmax(-1)
        slope = 1 - (logits / self.softcap).square()
        self.p = self.p + p.sum(0).double().numpy()
        self.squares = self.squares + (p * (1 - p) * slope.square()).sum(0).double().numpy()
        return p

    @property
    def per_share(self) -> NDArray[np.float64]:
        """(V,): the mean square by a symbol's share of the text."""
        return np.asarray(self.squares / np.maximum(self.p, 1e-30))


class _Watch(TorchFunctionMode):
    """Sees every product with a parameter, and the gradient when that has come."""

    def __init__(self, sums: dict[int, _Sums]) -> None:
        super().__init__()
        self._sums = sums

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("linear", "embedding") and id(args[1]) in self._sums:
            sums = self._sums[id(args[1])]
            if name == "linear":
                out.register_hook(functools.partial(sums.add_product, args[0].detach()))
            else:
                out.register_hook(functools.partial(sums.add_lookup, out.detach()))
        return out


def _by_artifact_name(
    model: Transformer,
    sums: dict[str, _Sums],
    head: _Head,
    n_tokens: int,
    text: NDArray[Any],
) -> dict[str, Moments]:
    c = model.config

    def moments(*names: str) -> Moments:
        outputs = [sums[name].outputs / n_tokens for name in names]
        return Moments(sums[names[0]].inputs / n_tokens, np.concatenate(outputs))

    table = model.embedding.detach().double().numpy()
    sizes = np.mean(table**2, axis=1) + 1e-12
    shares = _shares(text, c.vocab_size)
    found = Moments(sums["embedding"].lookups / n_tokens, shares / sizes)
    name = "embedding" if c.tied else "head"
    said = Moments(sums[name].inputs / n_tokens, shares * head.per_share)
    out = {"embedding": _sum_of(said, found)} if c.tied else {"embedding": found, "head": said}
    if c.value_layers:
        out["value_table"] = Moments(sums["value_table"].lookups / n_tokens, shares)
        out["value_proj"] = moments("value_proj")
    if c.bigram_buckets:
        before = np.concatenate(([0], text[:-1])).astype(np.int64)
        pairs = bigram_bucket(before, text.astype(np.int64), c.bigram_buckets)
        shares = _shares(pairs, c.bigram_buckets)
        out["bigram"] = Moments(sums["bigram"].lookups / n_tokens, shares)
        out["bigram_proj"] = moments("bigram_proj")
    for i in range(c.n_layers):
        attention, mlp = f"blocks.{i}.attention", f"blocks.{i}.mlp"
        out[f"blocks.{i}.qkv"] = moments(*(f"{attention}.{w}" for w in ("wq", "wk", "wv")))
        if c.attention_gate:
            out[f"blocks.{i}.gate"] = moments(f"{attention}.gate")
        out[f"blocks.{i}.wo"] = moments(f"{attention}.wo")
        out[f"blocks.{i}.up"] = moments(f"{mlp}.up")
        out[f"blocks.{i}.down"] = moments(f"{mlp}.down")
    return out


def _shares(ids: NDArray[Any], n: int) -> NDArray[np.float64]:
    """How often each of ``n`` ids occurs, all of them at least a little."""
    counts = np.bincount(ids, minlength=n) + 0.25
    return np.asarray(counts / counts.sum())


def _sum_of(a: Moments, b: Moments) -> Moments:
    """Of two uses of one matrix: the product of sums in place of the sum of products.

    Both rate the rows much alike (by how often a token is met, or predicted).
    """
    share = b.outputs.sum() / a.outputs.sum()
    inputs = a.inputs + share * b.inputs
    weight = np.trace(a.inputs) / np.trace(inputs)
    return Moments(inputs, weight * a.outputs + (1 - weight) / share * b.outputs)
