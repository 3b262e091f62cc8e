"""Train a model: ``python -m pgolf_codec.lm.train RECIPE --tokens DIR --out DIR``.

The schedules run over accumulated training seconds, so a run that was stopped
and resumed ends where an uninterrupted one would have; the data order is a
function of the seed and the step alone.

Under ``torchrun`` every rank takes a share of each batch's rows.  A rank trains on
its own GPU if there are any, else on the CPU, where ranks of one thread each
(``OMP_NUM_THREADS=1``) are faster than threads.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.config import BOS_ID, ModelConfig, TrainConfig, load_recipe
from pgolf_codec.lm.loss import FusedCrossEntropy, fused_cross_entropy
from pgolf_codec.lm.model import Transformer
from pgolf_codec.lm.optim import Muon


class Rows:
    """Training rows of ``seq_len`` targets from one uint16 token file."""

    def __init__(self, path: Path, seq_len: int, seed: int) -> None:
        self.tokens: NDArray[np.uint16] = np.memmap(path, dtype="<u2", mode="r")
        self.seq_len = seq_len
        self.order = np.random.default_rng(seed).permutation(len(self.tokens) // seq_len)

    def batch(self, step: int, rows: int) -> tuple[Tensor, Tensor]:
        """Inputs (rows, T), each BOS and then the targets but the last, and targets."""
        picks = self.order[np.arange(step * rows, (step + 1) * rows) % len(self.order)]
        t = self.seq_len
        y = np.stack([self.tokens[i * t : (i + 1) * t] for i in picks]).astype(np.int64)
        x = np.concatenate((np.full((rows, 1), BOS_ID), y[:, :-1]), axis=1)
        return torch.from_numpy(x), torch.from_numpy(y)


def average_gradients(model: torch.nn.Module) -> None:
    """All-reduce every gradient as one flat buffer."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for g, f in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
        g.copy_(f.view_as(g))


def learning_rate_factor(progress: float, step: int, config: TrainConfig) -> float:
    """Of every base learning rate; ``progress`` is the part of the budget that is spent."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    down = min(1.0, max(0.0, 1.0 - progress) / config.warmdown)
    return warm * down


def make_optimizers(model: Transformer, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Adam for tables, gains and mixing vectors; Muon for the matrices."""
    matrices, tables, scalars = [], [], []
    for name, p in model.named_parameters():
        if name in ("embedding", "bigram"):
            tables.append(p)
        elif p.ndim == 2 and min(p.shape) > 2:
            matrices.append(p)
        else:
            scalars.append(p)
    adam = torch.optim.Adam(
        [
            {"params": tables, "lr": config.embed_lr},
            {"params": scalars, "lr": config.scalar_lr},
        ],
        betas=(0.9, 0.95),
        eps=1e-10,
        fused=True,
    )
    muon = Muon(matrices, config.matrix_lr, config.momentum, config.weight_decay)
    for optimizer in (adam, muon):
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return [adam, muon]


def training_step(
    run: Any, model: Transformer, optimizers: list[torch.optim.Optimizer], x: Tensor, y: Tensor
) -> float:
    """One step on this rank's rows (n, T); returns their mean loss in nats, before the step.

    ``run`` is ``model``, compiled perhaps.
    """
    with torch.autocast(x.device.type, torch.bfloat16):
        h = run(x)
        h = h.reshape(-1, h.size(-1)).bfloat16()
        loss = fused_cross_entropy(h, model.embedding, y.reshape(-1), model.config.softcap)
    loss.backward()  # type: ignore[no-untyped-call]
    if dist.is_initialized() and dist.get_world_size() > 1:
        average_gradients(model)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


def validation_bits(
    model: Any, raw: Transformer, tokens: NDArray[np.uint16], seq_len: int
) -> float:
    """Entropy in bits of ``tokens`` in rows that each start from BOS."""
    rows = len(tokens) // seq_len
    y = torch.from_numpy(tokens[: rows * seq_len].astype(np.int64)).view(rows, seq_len)
    y = y.to(raw.embedding.device)
    x = torch.cat((torch.full_like(y[:, :1], BOS_ID), y[:, :-1]), dim=1)
    nats = 0.0
    with torch.no_grad(), torch.autocast(y.device.type, torch.bfloat16):
        for i in range(0, rows, 8):
            states = model(x[i : i + 8])
            for s, t in zip(states, y[i : i + 8], strict=True):
                nats += float(torch.nn.functional.cross_entropy(raw.logits(s), t, reduction="sum"))
    return nats / math.log(2)


def pick_device() -> torch.device:
    """This rank's own GPU, or the CPU if there are none."""
    n_gpus, local_rank = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if not n_gpus:
        return torch.device("cpu")
    if local_rank >= n_gpus:
        raise ConfigError(f"more ranks than GPUs, of which there are {n_gpus}")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def train(
    model_config: ModelConfig, config: TrainConfig, tokens: Path, out: Path, compile: bool
) -> None:
    """Train until the budget is spent, from ``out``'s checkpoint if there is one.

    Raises :class:`ConfigError` if ranks and batch or GPUs do not fit, and
    :class:`FloatingPointError` if the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    device = pick_device()
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    world = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if world > 1 else 0
    if config.batch_rows % world:
        raise ConfigError(f"{world} ranks can't share batch_rows {config.batch_rows} evenly")
    torch.manual_seed(config.seed)
    model = Transformer(model_config, config.seq_len)
    model.init_weights(config.seed)
    model.to(device)
    optimizers = make_optimizers(model, config)
    rows = Rows(tokens / "train.bin", config.seq_len, config.seed)
    val = np.fromfile(tokens / "val.bin", dtype="<u2")
    val_meta = json.loads((tokens / "val.json").read_text())
    step, seconds = 0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, seconds = state["step"], state["seconds"]
    run: Any = model
    if compile:
        run = torch.compile(model)
        FusedCrossEntropy.chunk_loss = staticmethod(torch.compile(FusedCrossEntropy.chunk_loss))

    def log(**values: Any) -> None:
        if rank:
            return
        with (out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")
        print(values, flush=True)

    def save() -> None:
        if rank:
            return
        temporary = checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "model": model.state_dict(),
                "optimizers": [o.state_dict() for o in optimizers],
                "step": step,
                "seconds": seconds,
                "model_config": model_config.to_dict(),
            },
            temporary,
        )
        os.replace(temporary, checkpoint)

    def validate() -> None:
        if rank:
            return
        bits = validation_bits(run, model, val, config.seq_len)
        log(step=step, seconds=round(seconds, 1), val_bpb=bits / val_meta["n_bytes"])

    budget = config.minutes * 60
    saved_at = evaluated_at = seconds
    first_step = step
    losses: list[float] = []
    log(params=sum(p.numel() for p in model.parameters()), tokens=len(rows.tokens))
    while seconds < budget:
        started = time.perf_counter()
        factor = learning_rate_factor(seconds / budget, step, config)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
        x, y = rows.batch(step, config.batch_rows)
        x, y = x[rank::world], y[rank::world]
        losses.append(training_step(run, model, optimizers, x.to(device), y.to(device)))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"loss is {losses[-1]} at step {step}")
        step += 1
        spent = time.perf_counter() - started
        if world > 1:  # one clock, or the ranks' schedules drift apart
            clock = torch.tensor(spent, dtype=torch.float64, device=device)
            dist.broadcast(clock, 0)
            spent = float(clock)
        if step > first_step + 1:  # compilation is not training
            seconds += spent
        if step % 20 == 0 or step <= 3:
            log(
                step=step,
                seconds=round(seconds, 1),
                train_loss=round(sum(losses) / len(losses), 4),
                tokens_per_s=round(world * x.numel() / spent),
                progress=round(seconds / budget, 4),
            )
            losses.clear()
        if seconds - saved_at > config.checkpoint_seconds:
            save()
            saved_at = seconds
        if seconds - evaluated_at > config.eval_seconds:
            validate()
            evaluated_at = seconds
    save()
    validate()
    if dist.is_initialized():
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    a = parser.parse_args()
    model_config, config = load_recipe(a.recipe)
    train(model_config, config, a.tokens, a.out, a.compile)


if __name__ == "__main__":
    main()
