"""Some training steps, under ``torchrun`` or not; every rank writes what it got.

``ranks.py TOKENS OUT STEPS`` writes OUT/RANK.pt.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from pgolf_codec.lm.config import TrainConfig
from pgolf_codec.lm.model import Transformer
from pgolf_codec.lm.train import Rows, average_gradients, make_optimizers, training_step

TRAIN = TrainConfig(seq_len=64, batch_rows=4)


def main(tokens: Path, out: Path, n_steps: int) -> None:
    torch.set_num_threads(1)
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if world > 1:
        dist.init_process_group("gloo")
    tiny = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["TINY"]
    model = Transformer(tiny, TRAIN.seq_len)
    model.init_weights(TRAIN.seed)
    optimizers = make_optimizers(model, TRAIN)
    rows = Rows(tokens / "train.bin", TRAIN.seq_len, TRAIN.seed)
    losses = []
    for step in range(n_steps):
        x, y = rows.batch(step, TRAIN.batch_rows)
        losses.append(training_step(model, model, optimizers, x[rank::world], y[rank::world]))
    result = {"losses": losses, "model": model.state_dict()}
    if world > 1:
        layer = torch.nn.Linear(2, 3)
        for p in layer.parameters():
            p.grad = torch.arange(p.numel()).view_as(p) + 10.0 * rank
        average_gradients(layer)
        result["gradients"] = [p.grad for p in layer.parameters()]
        dist.destroy_process_group()
    torch.save(result, out / f"{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
