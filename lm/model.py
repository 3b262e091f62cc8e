"""The model in floating point, for training.

The integer inference of the same graph is ``lm/engine.py``; ``docs/NUMERICS.md``
tells what each line here becomes there.  Shapes: see :class:`ModelConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgolf_codec.lm.config import ModelConfig
from pgolf_codec.lm.graph import PHASES, bigram_bucket, rope_phases


def rms_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


def rope_tables(config: ModelConfig, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (length, rope_dims / 2)."""
    phases = torch.tensor(rope_phases(config), dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * phases * (2 * math.pi / PHASES)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + R/2) of the first R dimensions of (..., T, K)."""
    half = cos.size(-1)
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, a * sin + b * cos, rest), dim=-1)


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Causal attention over the last ``window`` positions.

    q is (B, H, T, K), k and v are (B, G, T, K).  Queries are cut into blocks of
    ``window``; a block sees itself and the block before it, so the cost is linear
    in T.  Plain products: on a CPU their backward pass is several times faster
    than that of ``scaled_dot_product_attention``.
    """
    b, h, t, d = q.shape
    g = k.size(1)
    window = min(window, t)
    if t % window:
        raise ValueError(f"{t} positions are not a multiple of the window {window}")
    n = t // window

    def with_previous(x: Tensor) -> Tensor:  # (B, G, T, K) -> (B*G*n, 2*window, K)
        x = x.reshape(b * g, n, window, -1)
        before = F.pad(x, (0, 0, 0, 0, 1, 0))[:, :-1]
        return torch.cat((before, x), dim=2).view(b * g * n, 2 * window, -1)

    i = torch.arange(window, device=q.device)[:, None] + window
    j = torch.arange(2 * window, device=q.device)[None, :]
    mask = (j <= i) & (j > i - window)  # (w, 2w)
    first = mask & (j >= window)  # the first block has no predecessor
    bias = torch.stack([first] + [mask] * (n - 1)).logical_not() * -1e4  # (n, w, 2w)
    qb = q.reshape(b, g, h // g, n, window, d).transpose(2, 3).reshape(b * g * n, -1, d)
    scores = qb @ with_previous(k).mT  # (B*G*n, H/G*w, 2w)
    scores = scores.view(b * g, n, h // g, window, 2 * window).float() * d**-0.5
    # Keys and queries are normalised, so that no maximum need be subtracted; a
    # column of ones beside the values sums the weights inside the same product.
    e = torch.exp(scores + bias[:, None]).to(v.dtype)
    ones = F.pad(v, (0, 8), value=1.0)
    o = e.view(b * g * n, h // g * window, 2 * window) @ with_previous(ones)
    o = o[..., :d] / o[..., d : d + 1]
    o = o.view(b, g, n, h // g, window, d)
    return o.transpose(2, 3).reshape(b, h, t, d)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, window: int) -> None:
        super().__init__()
        self.config, self.window = config, window
        d, k = config.d_model, config.d_head
        self.wq = nn.Parameter(torch.empty(config.n_heads * k, d))
        self.wk = nn.Parameter(torch.empty(config.n_kv_heads * k, d))
        self.wv = nn.Parameter(torch.empty(config.n_kv_heads * k, d))
        self.wo = nn.Parameter(torch.zeros(d, config.n_heads * k))
        self.gain = nn.Parameter(torch.full((config.n_heads,), 1.5))
        self.scale = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        c, (b, t, _) = self.config, x.shape

        def heads(w: Tensor, n: int) -> Tensor:
            return F.linear(x, w).view(b, t, n, c.d_head).transpose(1, 2)  # (B, n, T, K)

        q = rotate(rms_norm(heads(self.wq, c.n_heads)), cos, sin) * self.gain[:, None, None]
        k = rotate(rms_norm(heads(self.wk, c.n_kv_heads)), cos, sin)
        v = heads(self.wv, c.n_kv_heads)
        o = windowed_attention(q.to(v.dtype), k.to(v.dtype), v, self.window)
        o = o.transpose(1, 2).reshape(b, t, c.n_heads * c.d_head)
        return F.linear(o, self.wo) * self.scale


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(config.d_hidden, config.d_model))
        self.down = nn.Parameter(torch.zeros(config.d_model, config.d_hidden))
        self.scale = nn.Parameter(torch.ones(config.d_model))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(F.linear(x, self.up), 0.5).square()
        return F.linear(h, self.down) * self.scale


class Block(nn.Module):
    def __init__(self, config: ModelConfig, window: int) -> None:
        super().__init__()
        d = config.d_model
        self.mix = nn.Parameter(torch.stack((torch.ones(d), torch.zeros(d))))
        self.attention = Attention(config, window)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, x0: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = self.mix[0] * x + self.mix[1] * x0
        x = x + self.attention(rms_norm(x), cos, sin)
        y: Tensor = self.mlp(rms_norm(x))
        return x + y


class Transformer(nn.Module):
    """Token ids (B, T) to final states (B, T, D); logits are ``states @ embedding.T``."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, max_len: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.d_model))
        self.smear = nn.Parameter(torch.zeros(config.d_model))
        if config.bigram_buckets:
            self.bigram = nn.Parameter(torch.zeros(config.bigram_buckets, config.bigram_dim))
            self.bigram_proj = nn.Parameter(torch.empty(config.d_model, config.bigram_dim))
        self.blocks = nn.ModuleList(Block(config, w) for w in config.windows)
        cos, sin = rope_tables(config, max_len)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def init_weights(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            if name == "embedding" or name == "bigram":
                nn.init.normal_(p, std=0.02, generator=generator)
            elif name.endswith(("wq", "wk", "wv", "up", "bigram_proj")):
                nn.init.normal_(p, std=p.size(1) ** -0.5, generator=generator)

    def forward(self, ids: Tensor) -> Tensor:
        x = rms_norm(F.embedding(ids, self.embedding))  # (B, T, D)
        previous = F.pad(x, (0, 0, 1, 0))[:, :-1]
        x = x + self.smear * previous
        if self.config.bigram_buckets:
            before = F.pad(ids, (1, 0))[:, :-1]
            pairs = bigram_bucket(before, ids, self.config.bigram_buckets)
            x = x + F.linear(F.embedding(pairs, self.bigram), self.bigram_proj)
        x0 = x
        cos, sin = self.cos[: ids.size(1)], self.sin[: ids.size(1)]
        for block in self.blocks:
            x = block(x, x0, cos, sin)
        return rms_norm(x)

    def logits(self, states: Tensor) -> Tensor:
        z = F.linear(states, self.embedding.to(states.dtype)).float()
        return self.config.softcap * torch.tanh(z / self.config.softcap)


def _chunk_loss(
    h: Tensor, embedding: Tensor, targets: Tensor, softcap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Summed cross-entropy (nats) of one chunk, with its gradients.

    Capped logits need no maximum subtracted: exp(softcap) is far from overflow.
    """
    y = torch.exp((h @ embedding.t()).float() * (2 / softcap))
    th = 1 - 2 / (1 + y)  # tanh; torch's own is five times slower on a CPU
    e = torch.exp(softcap * th)
    total = e.sum(-1, keepdim=True)
    picked = th.gather(1, targets[:, None])
    nll = (total.log() - softcap * picked).sum()
    g = (e * (1 / total) * (1 - th * th)).to(h.dtype)
    g.scatter_add_(1, targets[:, None], (picked * picked - 1).to(h.dtype))
    return nll, g @ embedding, g.t() @ h


CHUNK = 1024
"""Positions whose logits exist at one time."""


class FusedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy in nats; no (tokens, V) array outlives its chunk."""

    chunk_loss = staticmethod(_chunk_loss)

    @staticmethod
    def forward(ctx: Any, h: Tensor, embedding: Tensor, targets: Tensor, softcap: float) -> Tensor:
        e = embedding.to(h.dtype)
        d_embedding = torch.zeros_like(embedding)
        d_h = torch.empty_like(h)
        total = torch.zeros((), dtype=torch.float64, device=h.device)
        for start in range(0, h.size(0), CHUNK):
            part = slice(start, start + CHUNK)
            nll, dh, de = FusedCrossEntropy.chunk_loss(h[part], e, targets[part], softcap)
            d_h[part] = dh
            d_embedding += de
            total += nll
        ctx.save_for_backward(d_h, d_embedding)
        return (total / h.size(0)).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_h, d_embedding = cast(tuple[Tensor, Tensor], ctx.saved_tensors)
        scale = grad / d_h.size(0)
        return d_h * scale.to(d_h.dtype), d_embedding * scale, None, None


fused_cross_entropy: Callable[[Tensor, Tensor, Tensor, float], Tensor] = FusedCrossEntropy.apply
"""Of states (N, D), the embedding (V, D), targets (N,) and the softcap."""
