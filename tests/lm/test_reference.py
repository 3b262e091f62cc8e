"""The engine against docs/NUMERICS.md as tests/lm/reference.py has it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import kernels_of_tests
import numpy as np
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_model import hot_weights, prose_ids, tiny_config, tiny_tokenizer, tiny_weights

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.graph import NUMERICS_VERSION
from pgolf_codec.lm.integers import tables
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.lm.integers.numerics import NORM_SHIFT, RESIDUAL_LIMIT
from pgolf_codec.lm.integers.weights import IntegerWeights, activation_limit, multipliers
from pgolf_codec.quant.artifact import dump_artifact

DOCUMENT = (Path(__file__).parents[2] / "docs" / "NUMERICS.md").read_text(encoding="utf-8")


def compare(weights: IntegerWeights, tokenizer: Tokenizer, length: int, start: int = 0) -> int:
    """Both models over ``length`` tokens; returns how many weights of the last were positive.

    With ``start`` both begin at that position, with keys and values of zeros behind them.
    """
    model = reference.Model(dump_artifact(weights, tokenizer, name="test"))
    stream, session = reference.Stream(model), Engine(weights, bytes(32)).session(1)
    if start:
        zeros = [0] * weights.config.d_head
        for ring in (stream.keys, stream.values):
            for layer, window in enumerate(weights.config.windows):
                ring[layer] = [[zeros] * window for _ in ring[layer]]
        stream.t = start
        session._state.position[:] = start
        session._state.strips.origin[:] = (start - max(weights.config.windows)) // 32 * 32
    previous: int | None = None
    for symbol in prose_ids(tokenizer, 1, length)[0].tolist():
        expected = stream.weights(previous)
        found = session.weights(None if previous is None else np.array([previous], np.int32))
        assert found[0].tolist() == expected
        previous = symbol
    return sum(weight > 0 for weight in expected)


def test_tiny_model(weights: IntegerWeights, tokenizer: Tokenizer) -> None:
    """With every window filled and wrapped around."""
    assert compare(weights, tokenizer, 75) == tokenizer.n_symbols


@pytest.mark.parametrize("seed", range(6))
def test_hot_models(seed: int, tokenizer: Tokenizer) -> None:
    """Where everything is at its limits; the reference asserts that 32 bits suffice."""
    positive = compare(hot_weights(tiny_config(tokenizer.n_symbols), seed), tokenizer, 25)
    assert 1 <= positive < tokenizer.n_symbols


def test_angles_modulo_65536(weights: IntegerWeights, tokenizer: Tokenizer) -> None:
    compare(weights, tokenizer, 12, start=3 * 65536 - 6)


@pytest.mark.parametrize(
    "changes",
    [
        {"bigram_buckets": 0, "bigram_dim": 0},
        {"rope_dims": 0},
        {"rope_dims": 10, "n_kv_heads": 3, "softcap": 1.0},
        {"n_layers": 1, "windows": (1,), "d_hidden": 8, "softcap": 100.0},
        {"d_model": 34, "d_head": 34, "rope_dims": 32, "windows": (64, 2, 33)},
    ],
    ids=" ".join,
)
def test_other_shapes(changes: dict[str, Any], tokenizer: Tokenizer) -> None:
    config = dataclasses.replace(tiny_config(tokenizer.n_symbols), **changes)
    compare(hot_weights(config, 9), tokenizer, 12)


def test_a_wrong_bit_shows() -> None:
    """The comparison can fail: any one number of the model matters to it."""
    tokenizer = tiny_tokenizer()
    right, wrong = (tiny_weights(tokenizer) for _ in range(2))
    wrong.tensors["blocks.1.gain"][2] += 1 << 14
    ids = prose_ids(tokenizer, 1, 40)
    cum, other = (Engine(w, bytes(32)).session(1).intervals(ids)[0] for w in (right, wrong))
    assert not np.array_equal(cum, other)


def test_tables() -> None:
    assert tables.cosine_table().tolist() == reference.COS
    assert reference.COS[1 << 14] == reference.COS[3 << 14] == 0
    assert [reference.COS[i << 15] for i in (0, 1)] == [1 << 14, -(1 << 14)]


def test_no_entry_is_near_a_tie() -> None:
    error = 16 * 2.0 ** (14 - 53)  # binary64 at the largest entry, 16 last places for libm
    one = 1 << reference._DIGITS
    nearest = min(abs(value % one - one // 2) / one for value in reference.exact_cosine())
    assert nearest > 50 * error
    named = re.search(r"least distance is ([\d.]+)·10\^−(\d+) ", DOCUMENT)
    assert named
    a = float("{}e-{}".format(*named.groups()))
    assert a <= nearest < 1.2 * a


@given(st.integers(0, 1 << 20))
def test_powers(d: int) -> None:
    """The parabola is as near as the document's rounding of its factors allows."""
    value = reference.power(d)
    assert 2**15 < value <= 2**16
    assert value / 2 ** (16 - d % 1024 / 1024) == pytest.approx(1, abs=0.0035)
    assert reference.power(0) == 2**16


def test_a_wrong_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "rint", np.ceil)
    with pytest.raises(tables.PgolfError, match="floating point"):
        tables.cosine_table()


def test_what_the_document_says_of_versions_and_checksums() -> None:
    assert DOCUMENT.startswith(f"# Numerics, version {NUMERICS_VERSION}\n")
    assert f"`{tables.COSINE_CRC:08x}`" in DOCUMENT


@given(st.integers(0, 2**62 - 1))
def test_square_roots(v: int) -> None:
    for value in {v, int(v**0.5) ** 2, max(0, int(v**0.5) ** 2 - 1)}:
        if value < 2**62:
            assert kernels_of_tests.isqrt(value) == reference.math.isqrt(value)


@pytest.mark.parametrize("n", [2, 10, 254, 256, 4096])
def test_norm_at_its_limits(n: int) -> None:
    rng = np.random.default_rng(n)
    top = RESIDUAL_LIMIT
    vectors = [np.full(n, top), np.full(n, -top), np.zeros(n), np.eye(1, n)[0] * top]
    vectors += [rng.integers(-m, m + 1, n) for m in (1, 2, 3, 100, 1 << 15, top)]
    vectors += [np.arange(n) < count for count in (1, 2, 3, 5)]
    ties = np.resize([2050, -2046, 2046, -2050], n)  # the root is 2**15: 512.5, -511.5, ...
    assert reference.norm(ties.tolist())[:2] == [513, -511]
    vectors.append(ties)
    for x in vectors:
        x = x.astype(np.int32)
        out = np.empty(n, np.int16)
        kernels_of_tests.normalize(x, out)
        y = out.astype(np.int64)
        assert y.tolist() == reference.norm(x.tolist())
        assert (y * y).sum() <= n * 1024.5**2
        assert np.abs(y).sum() * 127 < 2**30
        inverse = kernels_of_tests.narrow(x)  # queries and keys: the same, by 32 bits, of a new x
        assert inverse < 1 << 31
        again = (x.astype(np.int64) * inverse + (1 << (NORM_SHIFT - 1))) >> NORM_SHIFT
        assert np.array_equal(again.clip(-32767, 32767), y)


@example(0x3C00, -1)
@example(0xBC00, 8)
@given(st.integers(0, 0xFFFF), st.integers(-28, 16))
def test_multipliers(bits: int, frac: int) -> None:
    """floor(s * 2**(32 + frac)) of every float16, or a refusal."""
    scale = np.array([bits], np.uint16).view(np.float16)
    if not np.isfinite(scale).all():
        return
    exact = reference.math.floor(reference.Fraction(float(scale[0])) * 2 ** (32 + frac))
    for bound in (31, 40, 44):
        if abs(exact) < 2**bound:
            assert multipliers(scale, 0, frac, bound).tolist() == [exact]
        else:
            with pytest.raises(ValueError, match="too large"):
                multipliers(scale, 0, frac, bound)


def test_limits_of_activations() -> None:
    for n in (2, 64, 512, 517, 4096, 8192, 16384):
        limit = activation_limit(n)
        assert limit == reference.limit(n)
        assert 128 * n * limit < 2**31
        assert limit == 32767 or 128 * n * (limit + 1) >= 2**31
