"""Each part of a model in the engine, against docs/NUMERICS.md, at the limits of all numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import reference
from tiny_model import PARTS, hot_weights, prose_ids, tiny_config

from pgolf_codec.codec.frequencies import interval
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import CorruptError
from pgolf_codec.lm.integers import tables
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.lm.integers.weights import IntegerWeights, activation_limit
from pgolf_codec.lm.model_config import ModelConfig
from pgolf_codec.quant.artifact import dump_artifact, load_artifact

LENGTH = 14


def config_of(name: str, tokenizer: Tokenizer) -> ModelConfig:
    return dataclasses.replace(tiny_config(tokenizer.n_symbols), **PARTS[name])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", PARTS)
def test_the_engine_is_the_document(name: str, seed: int, tokenizer: Tokenizer) -> None:
    weights = hot_weights(config_of(name, tokenizer), seed)
    artifact = load_artifact(dump_artifact(weights, tokenizer, name=name))
    assert artifact.artifact.weights.config == weights.config
    stream = reference.Stream(reference.Model(artifact.blob))
    session = artifact.predictor.session(1)
    previous: int | None = None
    for symbol in prose_ids(tokenizer, 1, LENGTH)[0].tolist():
        expected = stream.weights(previous)
        found = session.weights(None if previous is None else np.array([previous], np.int32))
        assert found[0].tolist() == expected
        previous = symbol
    assert len(set(expected)) > 1


@pytest.mark.parametrize("name", PARTS)
def test_steps_and_blocks_agree(name: str, tokenizer: Tokenizer) -> None:
    """With every window filled and wrapped around; alone, and beside other streams."""
    engine = Engine(hot_weights(config_of(name, tokenizer), 3), bytes(32))
    ids = prose_ids(tokenizer, 3, 70)
    cum, freq = engine.session(3).intervals(ids)
    alone = engine.session(1)
    first, second = (alone.intervals(part) for part in np.split(ids[1:2], [33], axis=1))
    assert np.array_equal(np.concatenate((first[0], second[0]), axis=1), cum[1:2])
    session, previous = engine.session(3), None
    for t in range(ids.shape[1]):
        weights = session.weights(previous)
        for lane in range(3):
            assert interval(weights[lane], ids[lane, t]) == (cum[lane, t], freq[lane, t])
        previous = ids[:, t]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_matters(name: str, tokenizer: Tokenizer) -> None:
    """The comparison can fail: without the part, the same tensors say something else."""
    config = config_of(name, tokenizer)
    plain = tiny_config(tokenizer.n_symbols)
    ids = prose_ids(tokenizer, 1, 40)
    with_it = Engine(hot_weights(config, 4), bytes(32)).session(1).intervals(ids)[1]
    tensors = hot_weights(config, 4).tensors
    known = hot_weights(plain, 4).tensors
    without = IntegerWeights(plain, {key: tensors[key] for key in known})
    assert not np.array_equal(Engine(without, bytes(32)).session(1).intervals(ids)[1], with_it)


def test_columns_of_the_embedding_at_their_limit(tokenizer: Tokenizer) -> None:
    """All of a state in one column, where its scale makes it larger than products may take."""
    plain = dataclasses.replace(tiny_config(tokenizer.n_symbols), bigram_buckets=0, bigram_dim=0)
    config = dataclasses.replace(
        plain, d_model=520, n_layers=1, windows=(4,), embedding_columns=True
    )
    t = hot_weights(config, 1).tensors
    for name in ("blocks.0.wo.s", "blocks.0.down.s", "smear"):
        t[name][:] = 0
    t["blocks.0.mix"][:] = 1.0
    t["residual_frac"][:] = 9
    column_of = np.arange(tokenizer.n_symbols) % 5
    t["embedding.q"][:] = 127 * (np.arange(520) == column_of[:, None])
    t["embedding.s"][:] = 2.0**-8
    t["embedding_columns"][:5] = (7.996, -7.996, 2.0**-6, 0.0, 1.7)
    weights = IntegerWeights(config, t)
    stream = reference.Stream(reference.Model(dump_artifact(weights, tokenizer, name="test")))
    session = Engine(weights, bytes(32)).session(1)
    products = []
    of_products = stream._symbol_weights
    stream._symbol_weights = lambda a, s: products.append(a[:5]) or of_products(a, s)
    for symbol in (None, 5, 7, 8, 9):
        found = session.weights(None if symbol is None else np.array([symbol], np.int32))
        assert found[0].tolist() == stream.weights(symbol)
    largest = [max(a, key=abs) for a in products]
    limit = 127 * activation_limit(520)
    assert largest[:2] == [limit, limit]
    assert 0 == largest[3] < largest[2] < largest[4] < limit


def test_a_scale_of_a_part_that_is_too_large(tokenizer: Tokenizer) -> None:
    weights = hot_weights(config_of("all", tokenizer), 1)
    for name, scale in (("skips", 8.0), ("value_table.s", 60000.0), ("blocks.0.gate.s", 60000.0)):
        tensors = {**weights.tensors, name: np.full_like(weights.tensors[name], scale)}
        with pytest.raises(CorruptError, match="too large"):
            Engine(IntegerWeights(weights.config, tensors), bytes(32))
    weights = hot_weights(config_of("columns", tokenizer), 1)
    for scale, fits in ((7.996, True), (-7.996, True), (8.0, False), (-8.0, False)):
        weights.tensors["embedding_columns"][3] = scale
        if fits:
            Engine(weights, bytes(32))
        else:
            with pytest.raises(CorruptError, match="too large"):
                Engine(weights, bytes(32))


def test_the_sigmoid() -> None:
    assert tables.sigmoid_table().tolist() == reference.SIGMOID
    assert (reference.SIGMOID[0], reference.SIGMOID[-1]) == (1 << 13, 16379)
    one = 1 << reference._DIGITS
    exact = reference.exact_sigmoid()
    nearest = min(abs(value % one - one // 2) / one for value in exact[1:])
    assert nearest > 1e4 * 2.0 ** (14 - 53)
