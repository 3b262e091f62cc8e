"""Muon for matrices; Adam (torch's own) takes the rest.

Muon: K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024):
momentum, then the nearest semi-orthogonal matrix by a Newton-Schulz iteration.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(g: Tensor, steps: int = 5) -> Tensor:
    """Approximate U V^T of each matrix of a stack (n, rows, cols), in bfloat16."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = g.bfloat16()
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        y = x @ x.mT
        x = a * x + (b * y + c * (y @ y)) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; decoupled weight decay.

    Parameters of one shape are orthogonalised as one stack, and the stack is dealt
    out to the ranks of the default process group, if there is one.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        world = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if world > 1 else 0
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, params in by_shape.items():
                updates = torch.empty(
                    len(params), *shape, dtype=torch.bfloat16, device=params[0].device
                )
                for p, u in zip(params, updates, strict=True):
                    assert p.grad is not None
                    state = self.state[p]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(p)
                    buffer = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                    u.copy_(p.grad.lerp(buffer, group["momentum"]))
                mine = orthogonalize(updates[rank::world])
                if world > 1:
                    updates.zero_()
                    updates[rank::world] = mine
                    dist.all_reduce(updates)
                else:
                    updates = mine
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for p, u in zip(params, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(u.to(p.dtype), alpha=-group["lr"] * scale)
