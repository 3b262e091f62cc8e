"""Cross-entropy without the logits of a whole batch.

A chunk's logits are made, used for the loss and for its gradients, and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from pgolf_codec.lm.floats.capped_softmax import COMPILES, softmax_gradient

CHUNK = 1024
"""Positions whose logits exist at one time."""


def _chunk_loss(
    h: Tensor, embedding: Tensor, targets: Tensor, softcap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Summed cross-entropy (nats) of one chunk, with its gradients.

    Capped logits need no maximum subtracted: exp(softcap) is far from overflow.
    """
    if h.device.type == "cpu" and h.dtype == torch.bfloat16 and COMPILES:
        z = h @ embedding.t()
        nll = softmax_gradient(z.view(torch.uint16).numpy(), targets.numpy(), softcap)
        return torch.tensor(nll, dtype=torch.float64), z @ embedding, z.t() @ h
    y = torch.exp((h @ embedding.t()).float() * (2 / softcap))
    th = 1 - 2 / (1 + y)  # tanh; torch's own is five times slower on a CPU
    e = torch.exp(softcap * th)
    total = e.sum(-1, keepdim=True)
    picked = th.gather(1, targets[:, None])
    nll = (total.log() - softcap * picked).sum()
    g = (e * (1 / total) * (1 - th * th)).to(h.dtype)
    g.scatter_add_(1, targets[:, None], (picked * picked - 1).to(h.dtype))
    return nll, g @ embedding, g.t() @ h


class FusedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy in nats; no (tokens, V) array outlives its chunk."""

    chunk_loss = staticmethod(_chunk_loss)

    @staticmethod
    def forward(ctx: Any, h: Tensor, embedding: Tensor, targets: Tensor, softcap: float) -> Tensor:
        e = embedding.to(h.dtype)
        d_embedding = torch.zeros_like(embedding)
        d_h = torch.empty_like(h)
        # Apple's GPUs have no float64, and a few hundred chunks need none.
        exact = torch.float64 if h.device.type == "cpu" else torch.float32
        total = torch.zeros((), dtype=exact, device=h.device)
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
