"""A model of a few kilobytes that has every part of the graph, built without training.

Its words are learned from a page of prose, its first embedding dimension holds the
logarithms of their counts, and the rest is noise: on such prose it beats zstd, and
a wrong bit anywhere in the engine shows in its probabilities.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from pgolf_codec.codec.sentencepiece_model import Kind, Piece, PieceType
from pgolf_codec.codec.tokenizer import BLANK, Tokenizer
from pgolf_codec.lm.config import ModelConfig
from pgolf_codec.lm.integers.weights import IntegerWeights, activation_limit, tensor_specs

PROSE = """\
The old mill stood where the river bends to the south, and every evening the miller's
daughter walked down to the water with a lamp in her hand. She said that she went there
to count the boats. There were never more than three of them, and on most evenings there
were none at all, but she counted them with great care and wrote the number into a small
book that her mother had left to her.

One evening in the autumn, when the leaves had begun to fall and the water was high, she
counted four. The fourth was a narrow boat without a sail, and there was nobody in it.
It came down the river slowly, turned once in the dark pool below the wheel, and stopped
at her feet as if it had been sent for.

"Well," said the miller, when she told him about it, "a boat that comes by itself will
leave by itself. Let it be." But in the morning the boat was still there, and on the next
morning, and on the morning after that. By the end of the week the whole village had come
to look at it. The baker thought that it had come from the mountains, where the people
build such boats of a single tree. The teacher thought that it had come from the sea,
against the stream, and when the others laughed at this he said that he had seen stranger
things, and that a river is a road that walks.

She wrote it all into the book. On the last page she wrote the number of the evenings on
which she had counted, and of the boats, and divided the one by the other; and since the
result was not a whole number, she went down to the water once more.
"""

N_MERGES = 96

PARTS: dict[str, dict[str, Any]] = {
    "relu2": {"activation": "relu2"},
    "untied": {"tied": False},
    "unet": {"unet": True},
    "passes": {"passes": (0, 1, 2, 1, 2)},
    "parallel": {"parallel_layers": (0, 2)},
    "values": {"value_layers": (0, 2), "value_dim": 6},
    "xsa": {"xsa_layers": (1, 2)},
    "gate": {"attention_gate": True},
}
"""Every switch that has integers, and how :func:`tiny_config` is changed by it."""
PARTS["all"] = {key: value for part in PARTS.values() for key, value in part.items()}
PARTS["columns"] = {"embedding_columns": True}
PARTS["all tied"] = PARTS["all"] | PARTS["columns"] | {"tied": True}


def tiny_tokenizer() -> Tokenizer:
    """Byte-pair merges of :data:`PROSE`, and its characters."""
    words = Counter(re.findall(r" ?[^ ]+| ", PROSE))
    cuts = {word: list(word) for word in words}
    merges: list[str] = []
    while len(merges) < N_MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, cut in cuts.items():
            for pair in pairwise(cut):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append("".join(best))
        cuts = {word: _merged(cut, best) for word, cut in cuts.items()}
    pieces = [
        Piece("<unk>", 0.0, PieceType.UNKNOWN),
        Piece("<s>", 0.0, PieceType.CONTROL),
        *(Piece(f"<0x{byte:02X}>", 0.0, PieceType.BYTE) for byte in range(256)),
        *(
            Piece(text.replace(" ", BLANK), -float(i), PieceType.NORMAL)
            for i, text in enumerate([*dict.fromkeys(merges), *sorted(set(PROSE))])
        ),
    ]
    return Tokenizer(pieces, Kind.BPE)


def _merged(cut: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in cut:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def tiny_config(vocab_size: int) -> ModelConfig:
    """Odd sizes on purpose: three heads on one pair of keys and values, windows that are a
    multiple of 32, longer and much shorter, rotation of some dimensions only."""
    return ModelConfig(
        vocab_size=vocab_size,
        n_layers=3,
        d_model=24,
        n_heads=3,
        n_kv_heads=1,
        d_head=10,
        d_hidden=42,
        windows=(45, 32, 7),
        rope_dims=6,
        rope_base=50.0,
        bigram_buckets=97,
        bigram_dim=6,
        softcap=20.0,
    )


def tiny_weights(tokenizer: Tokenizer) -> IntegerWeights:
    """Mostly noise, in the ranges of a trained model."""
    config = tiny_config(tokenizer.n_symbols)
    rng = random.Random(2)
    tensors = {}
    for name, spec in tensor_specs(config).items():
        if spec.dtype is np.int8:  # bell-shaped, standard deviation 36
            n = math.prod(spec.shape)
            values = [sum(rng.randint(-31, 31) for _ in range(4)) for _ in range(n)]
            tensors[name] = np.array(values, np.int8).reshape(spec.shape)
        elif spec.dtype is np.float16:
            centre, spread = _scales(name)
            values = [centre + spread * rng.uniform(-1, 1) for _ in range(math.prod(spec.shape))]
            tensors[name] = np.array(values, np.float16).reshape(spec.shape)
    for i in range(config.n_layers):
        tensors[f"blocks.{i}.mix"][0] += np.float16(1)
        gains = [rng.randint(1 << 18, 3 << 19) for _ in range(config.n_heads)]
        tensors[f"blocks.{i}.gain"] = np.array(gains, np.int32)
    tensors["rope_phases"] = np.array([10430, 2833, 769], np.uint16)
    tensors["residual_frac"] = np.array([14], np.int32)
    tensors["value_frac"] = np.array([6, 5, 5], np.int32)
    tensors["up_frac"] = np.array([12, 11, 11], np.int32)
    tensors["square_shift"] = np.array([14, 12, 13], np.int32)
    _write_counts(tensors["embedding.q"], tensors["embedding.s"], tokenizer)
    return IntegerWeights(config, tensors)


def _scales(name: str) -> tuple[float, float]:
    """Centre and spread of a tensor's scales or vector entries."""
    return {
        "smear": (0.0, 0.1),
        "mix": (0.0, 0.2),
        "bigram": (0.02, 0.005),
        "bigram_proj": (0.002, 0.0005),
        "qkv": (0.008, 0.002),
        "wo": (0.003, 0.001),
        "up": (0.006, 0.002),
        "down": (0.001, 0.0003),
        "embedding": (0.003, 0.0005),
    }[_kind(name)]


def _kind(name: str) -> str:
    return name.removesuffix(".s").split(".")[-1]


def _write_counts(q: np.ndarray, s: np.ndarray, tokenizer: Tokenizer) -> None:
    """Make dimension 0 of each row the logarithm of the symbol's count, about."""
    counts = Counter(tokenizer.encode(PROSE.encode()).tolist())
    noise = 36 * 0.003
    for i in range(len(q)):
        height = (1.0 + math.log1p(16 * counts[i])) / math.sqrt(q.shape[1])
        step = max(float(s[i]), height / 120)
        ratio = min(1.0, noise / (36 * step))
        s[i] = step
        q[i] = [round(v * ratio) for v in q[i].tolist()]
        q[i, 0] = round(height / step)


def hot_weights(config: ModelConfig, seed: int) -> IntegerWeights:
    """Every weight at its limit, and scales up to theirs: everything saturates somewhere."""
    rng = random.Random(seed)
    specs = tensor_specs(config)
    tensors = {}
    ranges = {"residual_frac": (0, 14), "value_frac": (0, 14), "up_frac": (5, 14)}
    ranges |= {"square_shift": (0, 10), "rope_phases": (0, 65535)}
    for name, spec in specs.items():
        n = math.prod(spec.shape)
        if name in ranges:
            values = [rng.randint(*ranges[name]) for _ in range(n)]
        elif spec.dtype is np.int8:
            values = [rng.choice((-127, 127)) for _ in range(n)]
        elif name.endswith("gate_bias"):
            values = [rng.choice((-(2**31), -9000, -700, 0, 700, 2**31 - 1)) for _ in range(n)]
        elif name.endswith("gain"):
            values = [rng.choice((1 - 2**26, -12345, 0, 1 << 20, 2**26 - 1)) for _ in range(n)]
        else:
            continue
        tensors[name] = np.array(values, np.int64).astype(spec.dtype).reshape(spec.shape)
    for name in {"blocks.0.down.q", "blocks.1.wo.q", "bigram_proj.q"} & set(tensors):
        tensors[name][:] = 127  # sums of one sign reach their limits
    residual, value, up = (int(tensors[f"{n}_frac"].max()) for n in ("residual", "value", "up"))
    hidden = int((2 * tensors["up_frac"] - tensors["square_shift"]).min())
    wide = activation_limit(config.n_heads * config.d_head) // 127
    output = int(tensors["value_frac"].min()) + min(6, wide.bit_length() - 1)
    top = {  # multipliers below 2**31, 2**40, 2**44; the embedding's scales have no limit
        "embedding": 8.0,
        "head": 8.0,
        "bigram": 8.0,
        "value_table": 8.0,
        "value": 2.0 ** (8 - value),
        "gate": 2.0**-2,
        "skips": 8.0,
        "embedding_columns": 8.0,
        "smear": 2.0 ** (17 - residual),
        "mix": 8.0,
        "bigram_proj": 2.0 ** (8 - residual),
        "qkv": 2.0 ** -(1 + max(1, value - 9)),
        "wo": 2.0 ** (output - 1 - residual),
        "up": 2.0 ** (8 - up),
        "down": 2.0 ** (hidden - 1 - residual),
    }
    for name, spec in specs.items():
        if spec.dtype is np.float16:
            most = min(top[_kind(name)] * 0.999, 65504.0)
            values = [
                rng.choice((-1, 1)) * most * rng.random() ** 4 for _ in range(math.prod(spec.shape))
            ]
            tensors[name] = np.array(values, np.float16).reshape(spec.shape)
    return IntegerWeights(config, tensors)


def prose_ids(tokenizer: Tokenizer, n_streams: int, length: int) -> np.ndarray:
    """(n_streams, length) int32: the prose, from another place for each stream."""
    ids = tokenizer.encode(PROSE.encode())
    return np.stack([np.resize(np.roll(ids, -61 * i), length) for i in range(n_streams)])
