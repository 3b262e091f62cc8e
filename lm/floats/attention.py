"""Causal attention over windows and documents in floating point, in three ways.

``blocks`` is plain products over blocks of queries, the fastest on a CPU; ``sdpa`` is
torch's fused kernel, with a mask where one is needed; ``flex`` is FlexAttention, which
skips what the mask hides (its backward pass needs a GPU).  They agree up to rounding.

Shapes: queries (B, H, T, K), keys and values (B, G, T, K), documents (B, T): an integer
that grows where a document begins, or None.  Keys and queries are normalised.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor, int, "Tensor | None"], Tensor]

BLOCK, LONG_WINDOW = 64, 256
"""Queries of a block where the window is that long; below it, a window's length.  Forward
and backward of a window of 512 took half of the time that blocks of 512 took."""

WAYS = ("auto", "blocks", "sdpa", "flex")


def attend(
    q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None, way: str = "auto"
) -> Tensor:
    """The mixed values (B, H, T, K) of the last ``window`` positions of the same document."""
    if way == "auto":
        way = "sdpa" if q.is_cuda else "blocks"
    how: Attend = {"blocks": in_blocks, "sdpa": fused, "flex": flexible}[way]
    return how(q, k, v, min(window, q.size(2)), documents)


def in_blocks(
    q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None = None
) -> Tensor:
    """Blocks of queries, each with the keys that one of them sees at least.

    So the cost is linear in T.  Plain products: on a CPU their backward pass is several
    times faster than that of ``scaled_dot_product_attention``.
    """
    (b, h, length, d), g = q.shape, k.size(1)
    block = BLOCK if window >= LONG_WINDOW else window
    before = -(-(window - 1) // block) * block  # keys before a block that it may see
    span, n = before + block, -(-length // block)
    behind = n * block - length

    def spans(x: Tensor) -> Tensor:  # (B, G, T, K) -> (B*G*n, span, K)
        x = F.pad(x.reshape(b * g, length, -1), (0, 0, before, behind))
        return x.unfold(1, span, block).mT.reshape(b * g * n, span, -1)

    i = torch.arange(block, device=q.device)[:, None] + before
    j = torch.arange(span, device=q.device)[None, :]
    first = before - block * torch.arange(n, device=q.device)[:, None, None]
    visible = (j <= i) & (j > i - window) & (j >= first)  # (n, block, span)
    visible = visible[None, None, :, None]
    if documents is not None:
        padded = torch.cat((documents, documents[:, -1:].expand(b, behind)), dim=1)
        own, others = padded.view(b, n, block), F.pad(padded, (before, 0)).unfold(1, span, block)
        same = own[..., :, None] == others[..., None, :]  # (B, n, block, span)
        visible = visible & same[:, None, :, None]
    q = F.pad(q, (0, 0, 0, behind)).reshape(b, g, h // g, n, block, d)
    qb = q.transpose(2, 3).reshape(b * g * n, h // g * block, d)
    scores = (qb @ spans(k).mT).view(b, g, n, h // g, block, span).float() * d**-0.5
    # Keys and queries are normalised, so that no maximum need be subtracted; a
    # column of ones beside the values sums the weights inside the same product.
    e = torch.exp(scores + visible.logical_not() * -1e4).to(v.dtype)
    o = e.view(b * g * n, h // g * block, span) @ spans(F.pad(v, (0, 8), value=1.0))
    o = o[..., :d] / o[..., d : d + 1]
    o = o.view(b, g, n, h // g, block, d)
    return o.transpose(2, 3).reshape(b, h, n * block, d)[:, :, :length]


def fused(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None = None) -> Tensor:
    """torch's kernel; whole windows of one document need no mask."""
    length = q.size(2)
    gqa = q.size(1) != k.size(1)
    if window >= length and documents is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa)
    i = torch.arange(length, device=q.device)
    mask = (i[None, :] <= i[:, None]) & (i[None, :] > i[:, None] - window)
    if documents is not None:
        mask = mask & (documents[:, None, :, None] == documents[:, None, None, :])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=gqa)


def flexible(
    q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None = None
) -> Tensor:
    """FlexAttention, compiled by whoever compiles the model."""
    from torch.nn.attention.flex_attention import flex_attention

    if documents is None:
        mask = _block_mask(window, q.size(2), q.device)
    else:
        mask = _make_mask(window, q.size(2), q.device, documents)
    gqa = q.size(1) != k.size(1)
    out: Any = flex_attention(q, k, v, block_mask=mask, enable_gqa=gqa)
    return out  # type: ignore[no-any-return]


def _make_mask(window: int, length: int, device: torch.device, documents: Tensor | None) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        seen = (j <= i) & (j > i - window)
        return seen if documents is None else seen & (documents[b, i] == documents[b, j])

    rows = None if documents is None else documents.size(0)
    return create_block_mask(visible, rows, None, length, length, device=device)


@functools.lru_cache(maxsize=64)
def _block_mask(window: int, length: int, device: torch.device) -> Any:
    return _make_mask(window, length, device, None)
