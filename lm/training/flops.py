"""How many operations training is, and how many a device can do: for the MFU of a log."""

from __future__ import annotations

import time

import torch

from pgolf_codec.lm.floats.model import Transformer

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12, "4090": 165e12}
"""A second, of dense bfloat16 products, by a part of the device's name (data sheets)."""

_SIZE, _REPEATS = 1024, 20


def flops_per_token(model: Transformer, seq_len: int) -> float:
    """Of a forward and a backward pass in matrix products: 6 for each weight that is used, and
    12 for each dimension of each position that a query sees.

    What an implementation computes beyond that (masked scores) is not counted.
    """
    c = model.config
    used = 0.0
    for name, p in model.kinds()["matrices"]:
        runs = len(c.order) / c.n_layers if name.startswith("blocks.") else 1
        used += p.numel() * runs
    head = c.vocab_size * (c.embedding_rank or c.d_model)
    seen = 0.0
    for layer in c.order:
        w = min(c.windows[layer], seq_len)
        seen += w * (2 * seq_len - w + 1) / (2 * seq_len)  # the mean over positions
    return 6.0 * (used + head) + 12.0 * seen * c.n_heads * c.d_head


def peak_flops(device: torch.device) -> float:
    """A second: of the data sheet, else of the best of a few bfloat16 products here and now."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, flops in PEAK_FLOPS.items():
            if part in name:
                return flops
    a = torch.ones(_SIZE, _SIZE, dtype=torch.bfloat16, device=device)
    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * _SIZE**3 / best
