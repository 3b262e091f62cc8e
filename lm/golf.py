"""One run by the challenge's rules: train, pack, read the artifact back, score it, log.

The main program of a self-contained ``train_gpt.py`` (:mod:`pgolf_codec.eval.bundle`), run
as the challenge runs its scripts, under ``torchrun`` or not::

    RUN_ID=golf SEED=1337 DATA_PATH=data/datasets/fineweb10B_sp8192 \\
        torchrun --standalone --nproc_per_node=8 train_gpt.py

``DATA_PATH`` is a folder of token shards, ``TOKENIZER_PATH`` their SentencePiece model
(by default the one that the manifest names).  All that is made lies in ``logs/RUN_ID``:
``log.txt`` with the lines that the challenge's tools look for, ``model.pglm``, the artifact,
and what training keeps.  A run whose folder has a checkpoint goes on from it.

The score is that of the artifact as it was read back from the disk, in floating point,
over rows of ``seq_len`` tokens that each start from BOS.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import ConfigError, PgolfError
from pgolf_codec.files import replacing
from pgolf_codec.lm.config import BOS_ID, ModelConfig, TrainConfig, load_recipe
from pgolf_codec.lm.data.dataset import Dataset, open_dataset
from pgolf_codec.lm.data.tokenizers import shard_bytes
from pgolf_codec.lm.export_config import ExportConfig, load_export_config

MAX_SUBMISSION_BYTES = 16_000_000
"""Code and artifact together."""

PLAIN_CODERS = ("raw", "ans", "zlib", "bzip2", "lzma")
"""Of weights: those that Python, numpy and the stand-ins of a bundle read."""

_BLOCK_TOKENS = 1 << 24
_POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class GolfRun:
    """What to train, on what, and where to."""

    recipe: str
    """A TOML text with ``[model]`` and ``[train]``."""
    code: bytes
    """The program that runs, which counts for the size."""
    data: Path
    out: Path
    tokenizer: Path | None = None
    seed: int | None = None
    """None is the recipe's."""
    minutes: float | None = None
    compile: bool = True


def run(golf: GolfRun) -> None:
    """Train on all ranks; rank 0 packs, scores and logs.

    Raises :class:`ConfigError`, :class:`FormatError`, :class:`OverlapError`, and what
    training raises.
    """
    from pgolf_codec.lm.train import train

    rank = int(os.environ.get("RANK", "0"))
    golf.out.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        with replacing(golf.out / "recipe.toml", overwrite=True) as file:
            file.write(golf.recipe.encode())
        tokens = prepare_tokens(golf, *settings(golf))
    else:
        tokens = wait_for_tokens(golf)
    model, config = settings(golf)
    train(model, config, tokens, golf.out / "run", golf.compile)
    if rank == 0:
        report(golf, config, tokens)


def settings(golf: GolfRun) -> tuple[ModelConfig, TrainConfig]:
    """The recipe, with the seed and the minutes of this run."""
    model, train = load_recipe(golf.out / "recipe.toml")
    named = {"seed": golf.seed, "minutes": golf.minutes}
    given = {key: value for key, value in named.items() if value is not None}
    return model, dataclasses.replace(train, **given)  # type: ignore[arg-type]


def prepare_tokens(golf: GolfRun, model: ModelConfig, config: TrainConfig) -> Path:
    """The token files of ``lm.train``: ``train.bin``, ``val.bin``, and ``val.json`` at last."""
    data = open_dataset(golf.data)
    if data.case_operators:
        raise ConfigError(f"{golf.data}: an artifact can't code text with case operators yet")
    model_file = tokenizer_file(golf, data)
    tokenizer = Tokenizer.from_sentencepiece(model_file)
    if tokenizer.n_symbols != model.vocab_size:
        raise ConfigError(
            f"the recipe has vocab_size {model.vocab_size}, the tokenizer of the shards "
            f"{tokenizer.n_symbols}"
        )
    val = data.val[:]
    val = val[: val.size // config.seq_len * config.seq_len]
    if not val.size or len(data.train) < config.seq_len:
        raise ConfigError(f"{golf.data}: less than a row of {config.seq_len} tokens")
    facts = {
        "n_bytes": shard_bytes(model_file, np.concatenate((np.array([BOS_ID], np.uint16), val))),
        "n_tokens": int(val.size),
        "n_compared": data.n_compared,
        "of": _inputs(golf.data),
        "seq_len": config.seq_len,
    }
    folder = golf.out / "tokens"
    folder.mkdir(exist_ok=True)
    if (folder / "val.json").is_file() and _read_facts(folder) == facts:
        return folder
    (folder / "val.json").unlink(missing_ok=True)
    with replacing(folder / "tokenizer.model", overwrite=True) as file:
        file.write(model_file)
    with replacing(folder / "val.bin", overwrite=True) as file:
        file.write(val.astype("<u2").tobytes())
    with replacing(folder / "train.bin", overwrite=True) as file:
        for start in range(0, len(data.train), _BLOCK_TOKENS):
            file.write(data.train[start : start + _BLOCK_TOKENS].astype("<u2").tobytes())
    with replacing(folder / "val.json", overwrite=True) as file:
        file.write(json.dumps(facts).encode())
    return folder


def tokenizer_file(golf: GolfRun, data: Dataset) -> bytes:
    """The bytes of the shards' SentencePiece model; :class:`ConfigError` if none is known."""
    path = golf.tokenizer or data.tokenizer_file
    if path is None:
        raise ConfigError(f"{golf.data}: no manifest names the tokenizer: set TOKENIZER_PATH")
    return path.read_bytes()


def wait_for_tokens(golf: GolfRun) -> Path:
    """What another rank prepares; ``torchrun`` ends this one if that one fails."""
    folder = golf.out / "tokens"
    wanted = _inputs(golf.data)
    while not (folder / "val.json").is_file() or _read_facts(folder)["of"] != wanted:
        time.sleep(_POLL_SECONDS)
    return folder


def report(golf: GolfRun, config: TrainConfig, tokens: Path) -> None:
    """Pack the model, score what was packed, and write the log."""
    import torch

    facts = _read_facts(tokens)
    lines = heading(golf, config, facts) + training_lines(golf.out / "run", facts)
    artifact = golf.out / "model.pglm"
    pack(golf, config, tokens, artifact)
    n_model, n_code = artifact.stat().st_size, len(golf.code)
    for label in ("pglm", "int8+zlib"):  # the second is the name that tools look for
        lines.append(f"Serialized model {label}: {n_model} bytes")
        lines.append(f"Code size: {n_code} bytes")
        lines.append(f"Total submission size {label}: {n_model + n_code} bytes")
    started = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bits = artifact_bits(artifact, tokens, config.seq_len, device)
    loss, bpb = bits * math.log(2) / facts["n_tokens"], bits / facts["n_bytes"]
    eval_ms = 1000 * (time.perf_counter() - started)
    for label in ("final_pglm_roundtrip", "final_int8_zlib_roundtrip"):
        lines.append(f"{label} val_loss:{loss:.4f} val_bpb:{bpb:.4f} eval_time:{eval_ms:.0f}ms")
        lines.append(f"{label}_exact val_loss:{loss:.8f} val_bpb:{bpb:.8f}")
    if (over := n_model + n_code - MAX_SUBMISSION_BYTES) > 0:
        lines.append(f"over the limit of {MAX_SUBMISSION_BYTES} bytes by {over}")
    with replacing(golf.out / "log.txt", overwrite=True) as file:
        file.write(("\n".join(lines) + "\n").encode())
    print("\n".join(lines), flush=True)


def pack(golf: GolfRun, config: TrainConfig, tokens: Path, artifact: Path) -> None:
    """Write the artifact of the checkpoint, by the recipe's ``[export]``."""
    from pgolf_codec.lm.artifact import pack as pack_model
    from pgolf_codec.lm.conversion.export import load_checkpoint

    blob = pack_model(
        load_checkpoint(golf.out / "run" / "checkpoint.pt", config.seq_len),
        tokens / "train.bin",
        Tokenizer.from_sentencepiece((tokens / "tokenizer.model").read_bytes()),
        export_settings(golf.out / "recipe.toml"),
        name=golf.out.name,
        seq_len=config.seq_len,
        more_bytes=len(golf.code),
        keep=golf.out / "export.search",
    )
    with replacing(artifact, overwrite=True) as file:
        file.write(blob)


def export_settings(recipe: Path) -> ExportConfig:
    """The recipe's; without kernels a trellis becomes GPTQ, coded as plain Python reads it."""
    config = load_export_config(recipe)
    if not can_search():
        coder = config.coder if config.coder in PLAIN_CODERS else "ans"
        config = dataclasses.replace(config, coder=coder)
        if config.quantizer == "trellis":
            print("no kernels here: GPTQ in place of the trellis", flush=True)
            return dataclasses.replace(config, quantizer="clipped")
    return config


def can_search() -> bool:
    """Whether numba and the trellis's kernels are there: not in a bundled program."""
    try:
        metadata.version("numba")
    except metadata.PackageNotFoundError:
        return False
    return importlib.util.find_spec("pgolf_codec.quant.coders.trellis_kernel") is not None


def artifact_bits(artifact: Path, tokens: Path, seq_len: int, device: Any) -> float:
    """Entropy in bits of the validation tokens under the artifact on the disk."""
    from pgolf_codec.lm.conversion.dequantize import float_model
    from pgolf_codec.lm.train import validation_bits
    from pgolf_codec.quant.artifact import load_artifact

    weights = load_artifact(artifact).artifact.weights
    model = float_model(weights, seq_len).to(device)
    return validation_bits(model, model, np.fromfile(tokens / "val.bin", "<u2"), seq_len)


def heading(golf: GolfRun, config: TrainConfig, facts: Mapping[str, Any]) -> list[str]:
    """What ran, on what."""
    import torch

    n_gpus = torch.cuda.device_count()
    device = torch.cuda.get_device_name(0) if n_gpus else f"CPU {platform.machine()}"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    compared = facts["n_compared"]
    return [
        f"code_sha256:{hashlib.sha256(golf.code).hexdigest()}",
        f"pytorch_version:{torch.__version__}",
        f"device:{world}x {device}",
        f"world_size:{world}",
        f"seed:{config.seed}",
        f"train_loader:dataset:{golf.data.resolve().name} overlap with validation: "
        + ("not stated" if compared is None else f"none of {compared} documents"),
        f"val_loader:tokens:{facts['n_tokens']} bytes:{facts['n_bytes']}",
    ]


def training_lines(folder: Path, facts: Mapping[str, Any]) -> list[str]:
    """The validations of training, as the challenge's scripts log them."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [f"model_params:{rows[0]['params']}"]
    points = [row for row in rows if "val_bpb" in row]
    last = points[-1]["step"]
    for row in points:
        loss = row["val_bpb"] * facts["n_bytes"] * math.log(2) / facts["n_tokens"]
        ms, step = 1000 * row["seconds"], row["step"]
        lines.append(
            f"step:{step}/{last} val_loss:{loss:.4f} val_bpb:{row['val_bpb']:.4f} "
            f"train_time:{ms:.0f}ms step_avg:{ms / max(step, 1):.2f}ms"
        )
    return lines


def main(recipe: str, code: bytes, arguments: list[str] | None = None) -> int:
    """Run from the environment and the command line; returns the exit status."""
    golf = parse_run(recipe, code, os.environ, arguments)
    try:
        run(golf)
    except (PgolfError, OSError, FloatingPointError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def parse_run(
    recipe: str, code: bytes, environment: Mapping[str, str], arguments: list[str] | None
) -> GolfRun:
    """Options of the command line, whose defaults are the challenge's variables."""
    parser = argparse.ArgumentParser(
        description="Train, pack, score. Environment: RUN_ID, SEED, DATA_PATH, TOKENIZER_PATH, "
        "MAX_WALLCLOCK_SECONDS."
    )
    seconds = environment.get("MAX_WALLCLOCK_SECONDS")
    seed = environment.get("SEED")
    data = environment.get("DATA_PATH", "data/datasets/fineweb10B_sp8192")
    parser.add_argument("--data", type=Path, default=Path(data))
    parser.add_argument("--tokenizer", type=Path, default=environment.get("TOKENIZER_PATH"))
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument(
        "--minutes", type=float, default=None if seconds is None else float(seconds) / 60
    )
    parser.add_argument("--run-id", default=environment.get("RUN_ID"))
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    values = vars(parser.parse_args(arguments))
    run_id = values.pop("run_id") or f"seed{values['seed'] if values['seed'] is not None else ''}"
    return GolfRun(recipe=recipe, code=code, out=Path("logs") / run_id, **values)


def _inputs(folder: Path) -> list[list[Any]]:
    """Names and sizes of the shards."""
    return [[path.name, path.stat().st_size] for path in sorted(folder.glob("*.bin"))]


def _read_facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "val.json").read_text())
    return facts
