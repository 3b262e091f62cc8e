"""What case operators are worth to a transformer: nano's graph, the same text with and without.

    taskset -c 0 python benchmarks/case_operators.py TRAIN TEXT --work DIR

TRAIN and TEXT are files of documents.  A vocabulary of 4,096 is trained on the beginning of
TRAIN, as the text is and behind case operators; ``nano`` then sees the documents that follow
there, cut into tokens by either, once each, in the same number of steps of the same size; the
bytes that it saw are stated.  What is measured is the entropy of all of TEXT, in rows from BOS,
over the bytes of its documents.  A run that is in the JSON is not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cpu_training
import numpy as np
from tokenizers import documents, stream, take, trained

from pgolf_codec.files import replacing
from pgolf_codec.lm.presets import load_preset

if TYPE_CHECKING:
    from pgolf_codec.lm.floats.model import Transformer

RESULTS = Path(__file__).with_name("results") / "case_operators.json"
VOCAB_SIZE = 4096
SAMPLE_BYTES = 8_000_000
"""Of the vocabulary's sample, at the beginning of TRAIN."""
TRAIN_BYTES = 1_800_000
"""Of the documents behind it, which the model sees."""
N_STEPS = 128
"""Of 4 rows of 1,024 tokens; somewhat less than the documents have, by either vocabulary."""


def write_tokens(train: Path, text: Path, case: bool, folder: Path) -> dict[str, Any]:
    """``train.bin``, ``val.bin`` and ``val.json`` of one vocabulary; what they are."""
    read = documents(train, SAMPLE_BYTES + TRAIN_BYTES)
    sample = take(read, SAMPLE_BYTES)
    seen = take(read[len(sample) :], TRAIN_BYTES)
    held_out = documents(text, None)
    tokenizer = trained(sample, VOCAB_SIZE, case)
    folder.mkdir(parents=True, exist_ok=True)
    ids = {"train": stream(tokenizer, seen), "val": stream(tokenizer, held_out)}
    for split, values in ids.items():
        (folder / f"{split}.bin").write_bytes(values.astype("<u2").tobytes())
    facts = {
        "sample_bytes": sum(map(len, sample)),
        "train_bytes": sum(map(len, seen)),
        "train_tokens": len(ids["train"]),
        "n_bytes": sum(map(len, held_out)),
        "text_tokens": len(ids["val"]),
    }
    (folder / "val.json").write_text(json.dumps(facts))
    return facts


def text_bits(model: Transformer, ids: np.ndarray[Any, Any], seq_len: int) -> float:
    """Entropy of all ``ids`` (n,), in rows that each start from BOS; the last one is shorter."""
    import torch

    from pgolf_codec.lm.training.rows import with_inputs

    nats = 0.0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(ids), seq_len):
            x, y = with_inputs(ids[None, start : start + seq_len])
            logits = model.logits(model(x)[0])
            nats += float(torch.nn.functional.cross_entropy(logits, y[0], reduction="sum"))
    return nats / math.log(2)


def train_one(case: bool, seed: int, train: Path, text: Path, work: Path) -> dict[str, Any]:
    tokens = work / ("case" if case else "plain")
    facts = write_tokens(train, text, case, tokens)
    model, config, _ = load_preset("nano")
    config = dataclasses.replace(
        config, seed=seed, minutes=1e6, iterations=N_STEPS, checkpoint_seconds=60
    )
    n_seen = N_STEPS * config.batch_rows * config.seq_len
    if facts["train_tokens"] < n_seen:
        raise SystemExit(f"{train}: {facts['train_tokens']} tokens, not {n_seen}")
    training = cpu_training.train(model, config, tokens, work / f"{tokens.name}-{seed}")
    ids = np.fromfile(tokens / "val.bin", "<u2")
    bits = text_bits(training.model, ids, config.seq_len)
    return {
        "case": case,
        "seed": seed,
        **facts,
        "n_tokens": n_seen,
        "bytes_seen": round(facts["train_bytes"] * n_seen / facts["train_tokens"]),
        "text_bpb": round(bits / facts["n_bytes"], 5),
        "cpu_seconds": round(training.done.seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--one", help="a run as JSON; for the program's own use")
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    if a.one:
        case, seed = json.loads(a.one)
        found = train_one(case, seed, a.train, a.text, a.work)
        (a.work / "result.json").write_text(json.dumps(found))
        return
    for seed in range(1, 1 + a.seeds):
        for case in (False, True):
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
            if any((run["case"], run["seed"]) == (case, seed) for run in results["runs"]):
                continue
            one = "--one", json.dumps([case, seed])
            cpu_training.in_a_process(__file__, a.train, a.text, "--work", a.work, *one)
            results["train"], results["text"] = a.train.name, a.text.name
            results["runs"].append(json.loads((a.work / "result.json").read_text()))
            with replacing(RESULTS, overwrite=True) as file:
                file.write((json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
