"""Single operations at their limits, against Python's integers."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch
from environments import digest
from tiny_model import prose_ids

from pgolf_codec.codec.frequencies import interval, locate
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.lm.gpu import torch_ops as ops
from pgolf_codec.lm.gpu.torch_engine import TorchEngine
from pgolf_codec.lm.integers.engine import Engine
from pgolf_codec.lm.integers.numerics import RESIDUAL_LIMIT, UNIT_RMS
from pgolf_codec.lm.integers.weights import IntegerWeights, activation_limit

CPU = torch.device("cpu")


def without_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "int8_products_hold", lambda device: False)


@pytest.mark.parametrize("in_int8", [True, False])
@pytest.mark.parametrize(("k", "n"), [(2, 33), (42, 31), (512, 64), (8192, 8)])
def test_products_at_their_limits(
    k: int, n: int, in_int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of one sign up to 2**31, of both, and bytes of every value."""
    if not in_int8:
        without_int8(monkeypatch)
    rng = np.random.default_rng(1)
    limit = activation_limit(k)
    w = np.full((n, k), 127, np.int8)
    w[1::2] = -127
    w[2::4] = rng.integers(-127, 128, w[2::4].shape)
    x = np.full((4, k), limit, np.int16)
    x[1] = -limit
    x[2] = rng.integers(-limit, limit + 1, k)
    x[3] = np.resize(np.arange(-limit, limit + 1), k)
    matrix = ops.WideMatrix(w, CPU)
    assert matrix.in_int8 == (in_int8 and ops.int8_products_hold(CPU))
    found = matrix.product(torch.from_numpy(x)).numpy()
    assert np.array_equal(found, x.astype(np.int64) @ w.T.astype(np.int64))


@pytest.mark.parametrize("in_int8", [True, False])
@pytest.mark.parametrize(("k", "n"), [(2, 33), (42, 31), (4096, 64), (8192, 8)])
def test_products_by_bytes(k: int, n: int, in_int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows at their limits, of zeros, of ones, and with one large number: normalised or not."""
    if not in_int8:
        without_int8(monkeypatch)
    rng = np.random.default_rng(5)
    w = np.full((n, k), 127, np.int8)
    w[1::2] = -127
    w[2::4] = rng.integers(-127, 128, w[2::4].shape)
    matrix = ops.Matrix(w, rng.integers(-(1 << 31) + 1, 1 << 31, n), CPU)
    norms = [(RESIDUAL_LIMIT, True)] if k <= 4096 else []
    for top, normalised in [*norms, (activation_limit(k), False)]:
        x = rng.integers(-top, top + 1, (9, k))
        x[0], x[1], x[2], x[3] = top, -top, 0, 1
        x[4, 1:], x[5, 1:] = 0, 1
        x[6] //= 1 << 14
        rows = torch.from_numpy(x)
        as_bytes = ops.normalized_bytes if normalised else ops.plain_bytes
        found = matrix.scaled(as_bytes(rows)).tolist()
        for row, scaled in zip(x.tolist(), found, strict=True):
            d = UNIT_RMS
            if normalised:
                d = max(1, math.isqrt((sum(v * v for v in row) << 8) // k))
            most = max(map(abs, row))
            inverse, factor = (127 << 24) // max(most, 1), (most << 25) // (127 * d)
            q = np.array([(v * inverse + (1 << 23)) >> 24 for v in row])
            assert abs(q).max() <= 127
            sums = (w.astype(np.int64) @ q).tolist()
            a = [(v * factor + (1 << 11)) >> 12 for v in sums]
            assert max(map(abs, a)) < 1 << 31
            m = matrix.multipliers.tolist()
            assert scaled == [(v * s + (1 << 31)) >> 32 for v, s in zip(a, m, strict=True)]


@pytest.mark.parametrize("window", [1, 518, 519, 8192])
def test_attention_at_its_limits(window: int) -> None:
    """Sums that just fit the dtypes of the rings: every slot has the largest weight."""
    k, bits = 256, 3
    rng = np.random.default_rng(6)
    of_keys, of_values = (ops.exact_dtype(b) for b in (127**2 * k, 255 * 127 * window))
    assert (of_keys, of_values == torch.float32) == (torch.float32, window <= 518)
    keys = np.full((1, 1, window, k), 127)
    values = np.full((1, 1, window, k), 127)
    values[..., 1] = -127
    values[..., 2:] = rng.integers(-127, 128, (window, k - 2))
    q = np.stack([np.full(k, 127), np.full(k, -127), np.resize([5, -4], k)])[None, None]
    found = ops.attend(
        torch.from_numpy(q).to(of_keys),
        torch.from_numpy(keys).to(of_keys),
        torch.from_numpy(values).to(of_values),
        torch.tensor([window]),
        torch.tensor([(1 << 26) - 1, 1 - (1 << 26), 12345]).view(1, 3, 1),
        bits,
    )
    inverse = (1 << (32 + bits)) // (255 * window)
    expected = (255 * values[0, 0].sum(0) * inverse + (1 << 31)) >> 32
    assert expected[0] == 127 << bits
    assert found[0, 0].tolist() == [expected.tolist()] * 3


def test_powers() -> None:
    """Against docs/NUMERICS.md, in the order it gives; no step passes 32 bits."""
    below = [*range(20 << 10), (1 << 30) + 5, (1 << 31) - 1]
    power, shares = ops.power(torch.tensor(below).int()), ops.shares(torch.tensor(below).int())
    for d, e, w in zip(below, power.tolist(), shares.tolist(), strict=True):
        f, i = d % 1024, min(d >> 10, 15)
        assert e == 2**16 - ((f * (44014 - ((f * 11246) >> 10))) >> 10)
        assert w == (255 * e + 2 ** (15 + i)) >> (16 + i)
    assert shares[0] == 255
    assert shares[-1] == 0


def test_products_become_the_nearest_float() -> None:
    """Ties to even, as the soft cap wants it: 25 bits and more do not fit a float32."""
    whole = [1 << 24, (1 << 24) + 1, (1 << 24) + 3, (1 << 29) + 32, (1 << 29) + 96, (1 << 30) - 1]
    whole = whole + [-v for v in whole]
    found = torch.tensor(whole * 4).int().float()  # long enough for vectors of the processor
    assert found.double().tolist() == [
        struct.unpack("<f", struct.pack("<f", v))[0] for v in whole * 4
    ]
    assert found[1] == 1 << 24
    assert found[2] == (1 << 24) + 4


def test_the_trial_finds_saturation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product by ``vpmaddubsw``, as old processors have it: one side is moved to 0 .. 255,
    and sums of two stop at 16 bits."""

    def saturating(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        products = (x.int() + 128)[:, :, None] * w.int()[None]
        pairs = products.unflatten(1, (-1, 2)).sum(2).clamp(-32768, 32767)
        return (pairs.sum(1) - 128 * w.int().sum(0)).int()

    ops.int8_products_hold.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not ops.int8_products_hold(CPU)
    monkeypatch.delattr(torch, "_int_mm")
    ops.int8_products_hold.cache_clear()
    assert not ops.int8_products_hold(CPU)
    monkeypatch.undo()
    ops.int8_products_hold.cache_clear()


def test_the_model_in_float64(
    tiny: IntegerWeights, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_int8(monkeypatch)
    engine = TorchEngine(tiny, bytes(32), CPU)
    assert not engine.head.in_int8
    ids = prose_ids(tokenizer, 2, 40)
    expected = Engine(tiny, bytes(32)).session(2).intervals(ids)
    assert digest(*engine.session(2).intervals(ids)) == digest(*expected)


def test_norm() -> None:
    """Lengths of one, the largest, zeros, and roots just below and above a whole number."""
    top = (1 << 21) - 1
    rows = [[top] * 64, [-top] + [0] * 63, [0] * 64, [1] + [0] * 63, [-3] * 64]
    rows += [[root] * 64 for root in (2, 1023, 65535, 1 << 20)]
    rows += [[root] * 63 + [root + step] for root in (999, 1 << 19) for step in (-1, 1)]
    rng = np.random.default_rng(2)
    rows += rng.integers(-top, top + 1, (20, 64)).tolist()
    rows += rng.integers(-9, 10, (20, 64)).tolist()
    found = ops.norm(torch.tensor(rows)).tolist()
    for row, normed in zip(rows, found, strict=True):
        inverse = (1 << 40) // max(1, math.isqrt((sum(v * v for v in row) << 8) // 64))
        expected = [max(min((v * inverse + (1 << 26)) >> 27, 32767), -32767) for v in row]
        assert normed == expected
    wide = torch.full((1, 4096), top)
    assert ops.norm(wide).unique().tolist() == [512]


@pytest.mark.parametrize("n_symbols", [5, 63, 64, 65, 128, 200])
def test_intervals(n_symbols: int) -> None:
    """Every symbol and the points at its ends, of weights that are even, lopsided, zero."""
    rng = np.random.default_rng(3)
    weights = np.zeros((4, n_symbols), np.uint32)
    weights[0] = 1 << 24
    weights[1, rng.integers(n_symbols)] = 1
    weights[2] = rng.integers(0, 1 << 24, n_symbols) >> rng.integers(0, 24, n_symbols)
    weights[2, 0] = 1 << 24
    weights[3, -1] = 7
    found = ops.Intervals(torch.from_numpy(weights.astype(np.int64)))
    for symbol in range(n_symbols):
        cum, freq = found.of(torch.full((4,), symbol))
        expected = [interval(row, symbol) for row in weights]
        assert list(zip(cum.tolist(), freq.tolist(), strict=True)) == expected
        for points in (cum, cum + freq - 1):
            assert found.at(points).tolist() == [symbol] * 4
    points = rng.integers(0, 1 << 24, 4)
    expected = [locate(row, int(point))[0] for row, point in zip(weights, points, strict=True)]
    assert found.at(torch.from_numpy(points)).tolist() == expected
