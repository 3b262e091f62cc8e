"""Causal attention over windows and documents in floating point, in three ways.

``blocks`` is plain products over blocks of a window, the fastest on a CPU; ``sdpa`` is
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
    """Queries are cut into blocks of ``window``; a block sees itself and the block before it.

    So the cost is linear in T.  Plain products: on a CPU their backward pass is several
    times faster than that of ``scaled_dot_product_attention``.
    """
    b, h, length, d = q.shape
    g = k.size(1)
    if missing := -length % window:
        q, k, v = (F.pad(x, (0, 0, 0, missing)) for x in (q, k, v))
        documents = None if documents is None else F.pad(documents, (0, missing))
    n = q.size(2) // window
    seen = 2 * window if n > 1 else window  # the first block has no predecessor

    def with_previous(x: Tensor) -> Tensor:  # (B, G, T, K) -> (B*G*n, seen, K)
        x = x.reshape(b * g, n, window, -1)
        if n > 1:
            before = F.pad(x, (0, 0, 0, 0, 1, 0))[:, :-1]
            x = torch.cat((before, x), dim=2)
        return x.reshape(b * g * n, seen, -1)

    i = torch.arange(window, device=q.device)[:, None] + seen - window
    j = torch.arange(seen, device=q.device)[None, :]
    mask = (j <= i) & (j > i - window)  # (w, seen)
    first = mask & (j >= seen - window)
    visible = torch.stack([first] + [mask] * (n - 1))[None, None, :, None]  # (1, 1, n, 1, w, seen)
    if documents is not None:
        own = documents.view(b, n, window)
        others = F.pad(own, (0, 0, 1, 0))[:, :-1] if n > 1 else own[:, :, :0]
        others = torch.cat((others, own), dim=2)
        same = own[..., :, None] == others[..., None, :]  # (B, n, w, seen)
        visible = visible & same[:, None, :, None]
    qb = q.reshape(b, g, h // g, n, window, d).transpose(2, 3).reshape(b * g * n, -1, d)
    scores = qb @ with_previous(k).mT  # (B*G*n, H/G*w, seen)
    scores = scores.view(b, g, n, h // g, window, seen).float() * d**-0.5
    # Keys and queries are normalised, so that no maximum need be subtracted; a
    # column of ones beside the values sums the weights inside the same product.
    e = torch.exp(scores + visible.logical_not() * -1e4).to(v.dtype)
    ones = F.pad(v, (0, 8), value=1.0)
    o = e.view(b * g * n, h // g * window, seen) @ with_previous(ones)
    o = o[..., :d] / o[..., d : d + 1]
    o = o.view(b, g, n, h // g, window, d)
    return o.transpose(2, 3).reshape(b, h, n * window, d)[:, :, :length]


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
