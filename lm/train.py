"""Train a model: ``python -m pgolf_codec.lm.train --config NAME [--tokens DIR] [--out DIR]``.

The schedules run over accumulated training seconds, so a run that was stopped
and resumed ends where an uninterrupted one would have; the data order is a
function of the seed and the step alone.  Under ``torchrun`` every rank takes a share
of each batch's rows (:mod:`pgolf_codec.lm.training.group`).

``--tokens`` is a folder of :mod:`pgolf_codec.lm.build` or of token shards; ``--out`` gets the
checkpoint and what :mod:`pgolf_codec.lm.training.run_log` writes.
The same command goes on from there.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgolf_codec.errors import ConfigError, DivergedError, PgolfError
from pgolf_codec.lm.config import ModelConfig, TrainConfig
from pgolf_codec.lm.data.shards import Ids
from pgolf_codec.lm.floats.loss import FusedCrossEntropy
from pgolf_codec.lm.floats.model import Transformer
from pgolf_codec.lm.training import checkpoints, fake_quantization, flops, run_log, schedules
from pgolf_codec.lm.training.averages import make_average
from pgolf_codec.lm.training.checkpoints import Done
from pgolf_codec.lm.training.group import Group, join, leave
from pgolf_codec.lm.training.optim import make_optimizers
from pgolf_codec.lm.training.options import add_train_options, train_settings
from pgolf_codec.lm.training.rows import Rows, Tokens, open_tokens, with_inputs
from pgolf_codec.lm.training.run_log import RunLog
from pgolf_codec.lm.training.stopping import Stopped, StopRequest

EVAL_ROWS = 8
"""Of one forward pass that is only measured."""


def train(
    model_config: ModelConfig, config: TrainConfig, tokens: Path, out: Path, compile: bool
) -> None:
    """Train until the budget is spent, from ``out``'s checkpoint if there is one.

    Raises :class:`ConfigError` if ranks and batch or GPUs, or tokens and model do not fit, or
    the checkpoint is of other settings, :class:`CorruptError` if it is none,
    :class:`DivergedError` if a loss or a gradient is not finite, and
    :class:`Stopped` behind a signal, when a checkpoint is written.
    """
    group = join()
    try:
        run = Training(model_config, config, open_tokens(tokens, config.seq_len), out, group)
        out.mkdir(parents=True, exist_ok=True)
        run.resume()
        run.start(compile)
        with StopRequest() as request:
            while not (run.is_over or run.must_stop):
                run.advance(request)
            run.finish()
        if run.must_stop:
            raise Stopped(request.signal or run.must_stop)
    finally:
        leave()


class Training:
    """One rank's part of a run."""

    def __init__(
        self,
        model_config: ModelConfig,
        config: TrainConfig,
        tokens: Tokens,
        out: Path,
        group: Group,
    ) -> None:
        if config.batch_rows % group.world:
            raise ConfigError(
                f"{group.world} ranks can't share batch_rows {config.batch_rows} evenly"
            )
        need_fitting(tokens, model_config)
        self.config, self.tokens, self.group = config, tokens, group
        self.settings = checkpoints.settings_of(config, tokens.digest)
        self.out, self.checkpoint = out, out / checkpoints.FILE
        torch.manual_seed(config.seed)
        self.model = Transformer(model_config, config.seq_len)
        self.model.init_weights(
            config.seed,
            init=config.init,
            embedding_std=config.embedding_std,
            qk_gain=config.qk_gain,
        )
        self.model.to(group.device)
        self.run: Any = self.model
        """The model, compiled perhaps."""
        self.optimizers = make_optimizers(self.model, config)
        self.average = make_average(self.model, config)
        self.rows = Rows(tokens.train, config.seq_len, config.seed)
        self.clock: Callable[[], float] = time.perf_counter
        """Seconds; what the schedules run over."""
        self.done = Done()
        self.must_stop = 0
        """The signal that ends the run, on all ranks after the same step."""
        self.last_loss = math.nan
        """Of the last step's rows, before the step: mean nats a token over all ranks."""
        self._losses: list[float] = []
        self._spent = 0.0
        self._n_here = 0
        self._saved_at = self._measured_at = 0.0

    @property
    def is_over(self) -> bool:
        done = self.done
        return schedules.is_over(done.seconds, done.step, done.step_seconds, self.config)

    @property
    def n_steps(self) -> int:
        """Of the whole run, as far as can be told."""
        step = self.done.step
        part = schedules.progress(self.done.seconds, step, self.config)
        return self.config.iterations or max(step, round(step / part) if part else 0)

    def resume(self) -> None:
        """From the checkpoint, if there is one."""
        if self.checkpoint.exists():
            self.done = checkpoints.load_checkpoint(
                self.checkpoint, self.model, self.optimizers, self.average, self.settings
            )
        self._saved_at = self._measured_at = self.done.seconds

    def start(self, compile: bool) -> None:
        """Say what is trained on what, and compile it before the clock runs."""
        self.log = RunLog(None if self.group.rank else self.out, self.done.step)
        self._say_what()
        device = self.group.device.type
        if not compile or device == "mps":  # where nobody has tried it
            return
        if device == "cuda":
            self.model.set_attention("flex")
        self.run = torch.compile(self.model)
        if device != "cpu":  # on a CPU there is a kernel for it
            FusedCrossEntropy.chunk_loss = staticmethod(torch.compile(FusedCrossEntropy.chunk_loss))
        if self.config.qat_at:
            fake_quantization.set_rounding(self.model, self.config, True)
            self._gradients(self.done.step)
            fake_quantization.set_rounding(self.model, self.config, False)
        self._gradients(self.done.step)
        for p in self.model.parameters():
            p.grad = None

    def advance(self, request: StopRequest) -> None:
        """One step, and what is due after it."""
        started = self.clock()
        config, done = self.config, self.done
        progress = schedules.progress(done.seconds, done.step, config)
        factor = schedules.learning_rate_factor(progress, done.step, config)
        if config.qat_at:
            late = fake_quantization.is_late(factor, done.step, config)
            fake_quantization.set_rounding(self.model, config, late)
        loss = self._gradients(done.step)
        self.group.average_gradients(self.model)
        # The clock is the first rank's: one for all, or the ranks' schedules drift apart.
        mean_loss, signal = self.group.sums(loss / self.group.world, request.signal)
        if not math.isfinite(mean_loss):
            raise DivergedError(f"loss is {mean_loss} at step {done.step}")
        self.last_loss = mean_loss
        self._losses.append(mean_loss)
        trained = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        if not math.isfinite(norm.item()):
            raise DivergedError(f"gradients have the norm {norm.item()} at step {done.step}")
        if config.grad_clip:
            torch.nn.utils.clip_grads_with_norm_(trained, config.grad_clip, norm)
        schedules.set_rates(self.optimizers, factor, done.step, config)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.model, done.step, factor)
        self._tick(self.clock() - started)
        self.must_stop = int(signal)
        self._tell()
        if done.seconds - self._saved_at > config.checkpoint_seconds:
            self.save()
        if done.seconds - self._measured_at > config.eval_seconds:
            self.validate()

    def finish(self) -> None:
        """Keep what there is; measure it, unless the user waits for the end."""
        self.save()
        if self.must_stop:
            self.log.write(
                f"stopped at step {self.done.step}; the same command goes on from {self.checkpoint}"
            )
            return
        self.validate()
        seconds, step = self.done.seconds, self.done.step
        if not self.config.iterations or step < self.config.iterations:
            self.log.write(
                f"stopping_early: wallclock_cap train_time:{1000 * seconds:.0f}ms "
                f"step:{step}/{self.n_steps}"
            )

    def save(self) -> None:
        self._saved_at = self.done.seconds
        if not self.group.rank:
            checkpoints.save_checkpoint(
                self.checkpoint,
                self.model,
                self.optimizers,
                self.average,
                self.done,
                self.settings,
            )

    def validate(self) -> None:
        """The loss of the weights that a checkpoint offers, each rank on a share of the rows."""
        self._measured_at = self.done.seconds
        if self.average is not None:
            self.average.swap(self.model)
        bits = validation_bits(
            self.run, self.model, self.tokens.val, self.config.seq_len, self.group
        )
        if self.average is not None:
            self.average.swap(self.model)
        loss = bits * math.log(2) / len(self.tokens.val)
        bpb = bits / self.tokens.val_bytes
        step, seconds = self.done.step, self.done.seconds
        what = f"val_loss:{loss:.4f} val_bpb:{bpb:.4f}"
        self.log.write(
            run_log.step_line(step, self.n_steps, what, seconds),
            step=step,
            seconds=round(seconds, 1),
            val_loss=loss,
            val_bpb=bpb,
        )
        self.log.draw()

    def _gradients(self, step: int) -> float:
        """Add up those of this rank's rows; their mean loss in nats."""
        config, group = self.config, self.group
        mine = slice(group.rank, None, group.world)
        x, y = self.rows.batch(step, config.batch_rows, mine)
        return gradients(self.run, self.model, x, y, config.micro_rows)

    def _tick(self, spent: float) -> None:
        """Note a step; that in which things compile is not counted."""
        spent, *_ = self.group.sums(0.0 if self.group.rank else spent)
        self.done.step += 1
        self._n_here += 1
        if self._n_here > 1:
            keep = 0.9 if self.done.step_seconds else 0.0
            self.done.step_seconds = keep * self.done.step_seconds + (1 - keep) * spent
            self.done.seconds += spent
        self._spent = spent

    def _tell(self) -> None:
        done, config = self.done, self.config
        speed = config.batch_rows * config.seq_len / max(self._spent, 1e-9)
        part = schedules.progress(done.seconds, done.step, config)
        left = (60 * config.minutes - done.seconds) if part else math.inf
        if config.iterations:
            left = min(left, (config.iterations - done.step) * done.step_seconds)
        mfu = speed * self._flops / (self._peak * self.group.world)
        self.log.progress(
            run_log.progress_line(
                progress=part,
                step=done.step,
                loss=self.last_loss,
                tokens_per_s=speed,
                mfu=mfu,
                left_s=left,
            )
        )
        if done.step % config.log_steps and done.step > 3:
            return
        loss = run_log.mean(self._losses)
        self._losses.clear()
        what = f"train_loss:{loss:.4f}"
        self.log.write(
            run_log.step_line(done.step, self.n_steps, what, done.seconds),
            step=done.step,
            seconds=round(done.seconds, 1),
            train_loss=round(loss, 4),
            tokens_per_s=round(speed),
            mfu=round(mfu, 4),
            progress=round(part, 4),
        )

    def _say_what(self) -> None:
        config, group, tokens = self.config, self.group, self.tokens
        name = platform.machine()
        if group.device.type == "cuda":
            name = torch.cuda.get_device_name(group.device)
        self._flops = flops.flops_per_token(self.model, config.seq_len)
        self._peak = flops.peak_flops(group.device)
        n_params = sum(p.numel() for p in self.model.parameters())
        if self.done.step:
            self.log.write(f"resumed at step {self.done.step}")
            return
        for line in run_log.heading(tokens, config, f"{group.device.type} {name}", group.world):
            self.log.write(line)
        self.log.write(f"model_params:{n_params}")
        self.log.write(
            f"flops_per_token:{self._flops:.4g} peak_flops:{self._peak:.4g} of each rank"
        )
        self.log.write(
            params=n_params, tokens=len(tokens.train), flops_per_token=self._flops, peak=self._peak
        )


def need_fitting(tokens: Tokens, model: ModelConfig) -> None:
    """Raise :class:`ConfigError` if a model's symbols are not those of the tokens."""
    size = model.vocab_size
    if tokens.n_symbols not in (None, size):
        raise ConfigError(
            f"the recipe has vocab_size {size}, the tokenizer of {tokens.name} {tokens.n_symbols}"
        )
    if (largest := int(tokens.val.max())) >= size:
        raise ConfigError(f"the recipe has vocab_size {size}, {tokens.name} the token {largest}")


def gradients(run: Any, model: Transformer, x: Tensor, y: Tensor, micro_rows: int = 0) -> float:
    """Add up the gradients of the mean loss of rows (n, T), which is returned, in nats.

    ``run`` is ``model``, compiled perhaps; ``micro_rows`` rows are in memory at one time.
    """
    device = model.embedding.device
    micro_rows = min(micro_rows or len(x), len(x))
    total = torch.zeros((), device=device)
    for start in range(0, len(x), micro_rows):
        ids, targets = (t[start : start + micro_rows].to(device) for t in (x, y))
        with torch.autocast(device.type, torch.bfloat16):
            loss = model.loss_of(run(ids), targets) * (len(ids) / len(x))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total.item()


def validation_bits(
    run: Any, model: Transformer, tokens: Ids, seq_len: int, group: Group | None = None
) -> float:
    """Entropy in bits of ``tokens`` in rows that each start from BOS, a share on each rank.

    ``run`` is ``model``, compiled perhaps.
    """
    device = model.embedding.device
    n_rows = len(tokens) // seq_len
    x, y = with_inputs(tokens[: n_rows * seq_len].reshape(n_rows, seq_len))
    if group is not None:
        x, y = x[group.rank :: group.world], y[group.rank :: group.world]
    nats = 0.0
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        for i in range(0, len(x), EVAL_ROWS):
            ids, targets = x[i : i + EVAL_ROWS].to(device), y[i : i + EVAL_ROWS].to(device)
            states = (run if len(ids) == EVAL_ROWS else model)(ids)
            for s, t in zip(states, targets, strict=True):
                z = model.logits(s)
                nats += float(torch.nn.functional.cross_entropy(z, t, reduction="sum"))
    return (nats if group is None else group.sums(nats)[0]) / math.log(2)


def main() -> int:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m pgolf_codec.lm.train",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_train_options(parser)
    options = parser.parse_args()
    try:
        model_config, config = train_settings(options)
        train(model_config, config, options.tokens, options.out, options.compile)
    except Stopped as stopped:
        return 128 + int(stopped.args[0])
    except (PgolfError, OSError) as error:
        # Ours are the same on all ranks: the first one tells.
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, PgolfError):
            print(f"{parser.prog}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
