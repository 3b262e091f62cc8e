"""A model of the size of a record, for measuring speed.

    python benchmarks/record_size.py MODEL.pglm      writes it as an artifact

11 layers, d 512, 8 heads on 4 pairs of keys and values, MLP x 4, vocabulary 8192: 37M
weights.  Purely random ones would say nothing of any text, zstd would win every frame
and nothing would be measured.  So the embedded ``nano`` is doubled in every width,
which leaves its function as it is (of every vector there are two copies, and a norm
does not see that), and followed by seven layers of noise whose outputs are nearly
nothing.  Its bytes are the same wherever it is made.

Twice 4096 ids are no better cut than 4096: 3.3 bytes a token of English web text,
where a vocabulary of 8192 has 3.7.  So kB/s measured with this model are low by a tenth.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec import models
from pgolf_codec.codec.sentencepiece_model import Kind, Piece, PieceType
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.integers.weights import IntegerWeights, tensor_specs
from pgolf_codec.quant.artifact import LoadedModel, dump_artifact, load_artifact

MORE_WINDOWS = (256, 256, 1024, 256, 256, 1024, 256)
"""Of the layers of noise; with those of nano 4096 positions a stream, 4 MiB of int16."""
NOISE_OUT = 0.02
"""Scales of the outputs of these layers beside those of nano's last layer."""


def record_size_model() -> LoadedModel:
    """The model, ready to code with; takes some seconds."""
    small = models.load_model("nano")
    weights = record_size_weights(small.artifact.weights)
    tokenizer = _with_unused(small.tokenizer)
    return load_artifact(dump_artifact(weights, tokenizer, name="record-size"))


def record_size_weights(small: IntegerWeights) -> IntegerWeights:
    """``small`` with every width and the vocabulary doubled, and more layers."""
    c, t = small.config, small.tensors
    config = replace(
        c,
        vocab_size=2 * c.vocab_size,
        n_layers=c.n_layers + len(MORE_WINDOWS),
        d_model=2 * c.d_model,
        n_heads=2 * c.n_heads,
        n_kv_heads=2 * c.n_kv_heads,
        d_hidden=2 * c.d_hidden,
        windows=(*c.windows, *MORE_WINDOWS),
    )
    tensors: dict[str, NDArray[Any]] = {}
    for name, tensor in t.items():
        match name.removesuffix(".q").split(".")[-1]:
            case "embedding":  # the new ids are as likely as the unknown one: hardly
                rows = np.concatenate((tensor, np.broadcast_to(tensor[:1], tensor.shape)))
                tensors[name] = np.tile(rows, (1, 2))
            case "qkv" | "wo" | "up" | "down":
                tensors[name] = _tiled(name, tensor, c.n_heads, c.n_kv_heads, c.d_head)
            case "bigram_proj":
                tensors[name] = np.tile(tensor, (2, 1))
            case "mix":
                tensors[name] = np.tile(tensor, (1, 2))
            case "smear" | "gain" | "embedding_columns":
                tensors[name] = np.tile(tensor, 2)
            case _:
                tensors[name] = tensor
        if name.endswith(".s"):
            tensors[name] = _doubled_scales(name, tensor, c.n_heads, c.n_kv_heads, c.d_head)
    for name in ("value_frac", "up_frac", "square_shift"):
        more = np.repeat(t[name][-1:], len(MORE_WINDOWS))
        tensors[name] = np.concatenate((t[name], more)).astype(t[name].dtype)
    rng = np.random.Generator(np.random.PCG64(3))
    specs = tensor_specs(config)
    for name in specs:
        if name in tensors:
            continue
        last = f"blocks.{c.n_layers - 1}.{name.split('.', 2)[2]}"
        if name.endswith(".q"):  # bell-shaped by the sum of integers: no libm
            dice = rng.integers(-36, 37, (3, *specs[name].shape), np.int8)
            tensors[name] = dice.sum(0).astype(np.int8)
        elif name.endswith(("wo.s", "down.s")):
            tensors[name] = (tensors[last] * np.float16(NOISE_OUT)).astype(np.float16)
        elif name.endswith("mix"):
            tensors[name] = np.repeat(np.array([[1], [0]], np.float16), config.d_model, axis=1)
        else:
            tensors[name] = tensors[last]
    return IntegerWeights(config, {name: tensors[name] for name in specs})


def _tiled(name: str, q: NDArray[Any], heads: int, groups: int, d_head: int) -> NDArray[Any]:
    """A matrix between two vectors of which there are two copies each."""
    if not name.endswith("qkv.q"):
        return np.tile(q, (2, 2))
    return np.tile(_each_twice(q, heads, groups, d_head), (1, 2))


def _each_twice(rows: NDArray[Any], heads: int, groups: int, d_head: int) -> NDArray[Any]:
    """Queries, keys and values of ``qkv``, each part twice."""
    parts = np.split(rows, [heads * d_head, (heads + groups) * d_head])
    return np.concatenate([part for part in parts for _ in range(2)])


def _doubled_scales(
    name: str, s: NDArray[Any], heads: int, groups: int, d_head: int
) -> NDArray[Any]:
    """Half of the scale, for sums of twice as many, and twice as many rows."""
    half = (s * np.float16(0.5)).astype(np.float16)
    match name.removesuffix(".s").split(".")[-1]:
        case "bigram":
            return s
        case "bigram_proj":
            return np.tile(s, 2)
        case "qkv":
            return _each_twice(half, heads, groups, d_head)
        case _:
            return np.tile(half, 2)


def _with_unused(tokenizer: Tokenizer) -> Tokenizer:
    """Twice the ids; the new ones are never used."""
    n = tokenizer.n_symbols
    unused = [Piece(chr(0xF0000 + i), -float(n + i), PieceType.UNUSED) for i in range(n)]
    return Tokenizer([*tokenizer._pieces, *unused], Kind(tokenizer._kind))


def main(arguments: list[str]) -> None:
    (path,) = map(Path, arguments)
    model = record_size_model()
    path.write_bytes(model.blob)
    print(f"{path}: {model.n_parameters} weights, {model.n_bytes} bytes, {model.fingerprint.hex()}")


if __name__ == "__main__":
    main(sys.argv[1:])
