"""Muon for matrices; Adam (torch's own) takes the rest.

Muon: K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024):
momentum, then the nearest semi-orthogonal matrix by a Newton-Schulz iteration.  Its
coefficients may be those of N. Amsel and others, "The Polar Express" (2025), which differ
from step to step.  The second moments of rows are those of Z. Li and others, "NorMuon" (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pgolf_codec.lm.config import TrainConfig
from pgolf_codec.lm.floats.model import Transformer

Coefficients = tuple[float, float, float]

QUINTIC: Coefficients = (3.4445, -4.7750, 2.0315)
POLAR: tuple[Coefficients, ...] = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""The best for singular values from 0.001 to 1, a margin of 2% kept for bfloat16."""
POLAR_MARGIN = 1.02


def coefficients(kind: str, steps: int) -> list[Coefficients]:
    """Those of each step; the last ones of :data:`POLAR` are repeated."""
    if kind == "quintic":
        return [QUINTIC] * steps
    return [POLAR[min(i, len(POLAR) - 1)] for i in range(steps)]


def orthogonalize(g: Tensor, kind: str = "quintic", steps: int = 5) -> Tensor:
    """Approximate U V^T of each matrix of a stack (n, rows, cols), in bfloat16."""
    x: Tensor = g.bfloat16()
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    margin = POLAR_MARGIN if kind == "polar" else 1.0
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * margin + 1e-7)
    for a, b, c in coefficients(kind, steps):
        y = x @ x.mT
        y = torch.baddbmm(y, y, y, beta=b, alpha=c)
        x = torch.baddbmm(x, y, x, beta=a)
    return x.mT if tall else x


def shared(stack: Tensor, kind: str, steps: int) -> Callable[[], Tensor]:
    """:func:`orthogonalize`, each rank of the default process group a share, if there is one.

    All that is done at once is this rank's share; the function that is returned waits for the
    others' and gives the whole stack.
    """
    world = dist.get_world_size() if dist.is_initialized() else 1
    if world == 1:
        whole = orthogonalize(stack, kind, steps)
        return lambda: whole
    share = -(-len(stack) // world)
    mine = stack[dist.get_rank() * share :][:share]
    padded = stack.new_zeros(share, *stack.shape[1:])
    if len(mine):
        padded[: len(mine)] = orthogonalize(mine, kind, steps)
    shares = stack.new_empty(world, *padded.shape)
    coming = dist.all_gather(list(shares), padded, async_op=True)

    def wait() -> Tensor:
        coming.wait()
        return shares.flatten(0, 1)[: len(stack)]

    return wait


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; decoupled weight decay.

    Parameters of one shape are orthogonalised as one stack, which the ranks share; while
    shares of one stack are on their way, the next is worked on.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        *,
        row_beta: float = 0.0,
        newton_schulz: str = "quintic",
        newton_schulz_steps: int = 5,
    ) -> None:
        self.iteration = (newton_schulz, newton_schulz_steps)
        self.row_beta = row_beta
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            stacks = [
                shared(self._with_momentum(params, group["momentum"]), *self.iteration)
                for params in by_shape.values()
            ]
            for (shape, params), stack in zip(by_shape.items(), stacks, strict=True):
                updates = stack()
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                keep = 1 - group["lr"] * group["weight_decay"]
                for p, update in zip(params, updates, strict=True):
                    if self.row_beta:
                        update = self._even_rows(p, update.float())
                    p.mul_(keep).add_(update.to(p.dtype), alpha=-rate)

    def _with_momentum(self, params: list[Tensor], momentum: float) -> Tensor:
        """The stack (n, rows, cols), bfloat16, of what is to be orthogonalised."""
        out = torch.empty(
            len(params), *params[0].shape, dtype=torch.bfloat16, device=params[0].device
        )
        for p, update in zip(params, out, strict=True):
            assert p.grad is not None
            state = self.state[p]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(p)
            buffer = state["momentum"].lerp_(p.grad, 1 - momentum)
            update.copy_(p.grad.lerp(buffer, momentum))
        return out

    def _even_rows(self, p: Tensor, update: Tensor) -> Tensor:
        """Rows divided by the root of their mean square, as it is remembered; the norm is kept."""
        square = update.square().mean(1, keepdim=True)
        state = self.state[p]
        if "row_square" not in state:
            state["row_square"] = torch.zeros_like(square)
            state["weight"] = torch.zeros((), device=p.device)
        mean = state["row_square"].lerp_(square, 1 - self.row_beta)
        weight = state["weight"].lerp_(torch.ones_like(state["weight"]), 1 - self.row_beta)
        factor = (mean / weight + 1e-10).rsqrt()
        norm = (square.sum() / ((square * factor.square()).sum() + 1e-10)).sqrt()
        evened: Tensor = update * (factor * norm)
        return evened


def make_optimizers(model: Transformer, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Adam for tables, heads, gains and mixing vectors; Muon for the matrices.

    ``base_lr`` and ``base_decay`` of a parameter group are what its ``lr`` and
    ``weight_decay`` are parts of.
    """
    kinds = {kind: [p for _, p in named] for kind, named in model.kinds().items()}
    rates = {"tables": config.embed_lr, "heads": config.head_lr, "scalars": config.scalar_lr}
    adam = torch.optim.AdamW(
        [
            {
                "params": kinds[kind],
                "lr": lr,
                "weight_decay": 0.0 if kind == "scalars" else config.adam_weight_decay,
            }
            for kind, lr in rates.items()
            if kinds[kind]
        ],
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_eps,
        fused=True,
    )
    muon = Muon(
        kinds["matrices"],
        config.matrix_lr,
        config.momentum,
        config.weight_decay,
        row_beta=config.row_beta,
        newton_schulz=config.newton_schulz,
        newton_schulz_steps=config.newton_schulz_steps,
    )
    for optimizer in (adam, muon):
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
            group["base_decay"] = group["weight_decay"]
    return [adam, muon]
