"""Some training steps, under ``torchrun`` or not; every rank writes what it got.

``ranks.py TOKENS OUT STEPS`` writes OUT/RANK.pt.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from toy_recipe import TINY

from pgolf_codec.lm.config import TrainConfig
from pgolf_codec.lm.train import Training
from pgolf_codec.lm.training.group import join, leave
from pgolf_codec.lm.training.optim import shared
from pgolf_codec.lm.training.rows import open_tokens
from pgolf_codec.lm.training.stopping import StopRequest

TRAIN = TrainConfig(
    seq_len=64,
    batch_rows=4,
    warmup_steps=1,
    grad_clip=1.0,
    row_beta=0.9,
    newton_schulz="polar",
    log_steps=1,
)


def main(tokens: Path, out: Path, n_steps: int) -> None:
    torch.set_num_threads(1)
    group = join()
    run = Training(TINY, TRAIN, open_tokens(tokens, TRAIN.seq_len), out, group)
    run.start(compile=False)
    losses = []
    with StopRequest() as request:
        for _ in range(n_steps):
            run.advance(request)
            losses.append(run.last_loss)
    run.validate()
    result = {"losses": losses, "model": run.model.state_dict(), "seconds": run.done.seconds}
    layer = torch.nn.Linear(2, 3)
    for p in layer.parameters():
        p.grad = torch.arange(p.numel()).view_as(p) + 10.0 * group.rank
    group.average_gradients(layer)
    result["gradients"] = [p.grad for p in layer.parameters()]
    stacks = [torch.arange(n * 6.0).sin().view(n, 2, 3) for n in (1, 3)]
    result["shared"] = [wait() for wait in [shared(s.bfloat16(), "polar", 5) for s in stacks]]
    torch.save(result, out / f"{group.rank}.pt")
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
