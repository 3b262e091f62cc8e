"""A scale for every G columns of a row, or one for the matrix."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pgolf_codec.cli import main
from pgolf_codec.errors import (
    ConfigError,
    CorruptError,
    ExportError,
    OutputLimitError,
    TensorError,
)
from pgolf_codec.quant.bag import CodedTensor, dump_bag, load_bag
from pgolf_codec.quant.coders.registry import encode
from pgolf_codec.quant.packing import Rule, pack
from pgolf_codec.quant.rounding import Quantized, Scheme, quantize
from pgolf_codec.quant.safetensors_file import read_safetensors, write_safetensors
from pgolf_codec.quant.schemes import encode_quantized
from pgolf_codec.quant.tensors import Tensor

RNG = np.random.default_rng(12)
GOLDEN = (
    "895047570d0a1a0a01004c0000004800000078daab562a49cd2bce2f2a56b28a8e562a57d25172333453d28936d2"
    "318fd5512aca2f2fd63706720d8d750c8d740c81628686969646c6a6169646b14005c589b9a94a56d5b5b500deb1"
    "13d332fb02ab01020207ffffffff02464a8509010202031a000000046240a401020203000000000a000008000000"
    "0200"
)


def by_item(found: Quantized) -> np.ndarray:
    """Of the integers and scales, one item after the other."""
    assert found.row_scales is not None
    assert found.group_columns is not None
    values = found.values.reshape(len(found.values), int(np.prod(found.values.shape[1:])))
    out = np.zeros(values.shape, np.float32)
    for i, j in np.ndindex(values.shape):
        out[i, j] = np.float32(values[i, j]) * np.float32(
            found.row_scales[i, j // found.group_columns]
        )
    return out.reshape(found.values.shape)


@pytest.mark.parametrize("scheme", ["ternary/8", "ternary:0.61/8", "binary/8", "int4/8", "int4/1"])
@pytest.mark.parametrize(
    "shape",
    [(5, 24), (5, 19), (1, 17), (9, 1), (1, 1), (3, 8), (3, 7), (4, 3, 5), (0, 9), (4, 0)],
)
@pytest.mark.parametrize("kind", ["normal", "constant", "zeros"])
def test_there_and_back(scheme: str, shape: tuple[int, ...], kind: str) -> None:
    made = {"normal": RNG.normal(0, 1, shape), "constant": np.full(shape, -0.3)}
    w = made.get(kind, np.zeros(shape)).astype(np.float32)
    expected = quantize(w, Scheme.parse(scheme))
    rule = Rule("*", Scheme.parse(scheme))
    blob, report = pack({"w": Tensor.from_array(w)}, rules=[rule], coder="ans-hist")
    bag = load_bag(blob)
    found = bag.quantized("w")
    assert found is not None
    assert found.row_scales is not None
    assert expected.row_scales is not None
    group = int(scheme.partition("/")[2])
    n_groups = -(-int(np.prod(shape[1:])) // group)
    assert bag.entries["w"].scheme == f"rows/{group}"
    assert found.row_scales.shape == (shape[0], n_groups)
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.row_scales.view(np.uint16), expected.row_scales.view(np.uint16))
    assert np.array_equal(bag["w"].floats(), by_item(expected))
    assert report.tensors[0].scheme == scheme
    assert report.tensors[0].scale_bytes == sum(bag.entries["w"].stream_bytes[1:])
    if kind != "normal" and "binary" not in scheme:
        assert np.allclose(bag["w"].floats(), w, rtol=2e-3)


@pytest.mark.parametrize("kind", ["int8", "int6:3", "ternary", "ternary:0.61", "binary"])
def test_a_group_is_as_a_row_of_its_own(kind: str) -> None:
    w = RNG.normal(0, 1, (6, 40))
    found = quantize(w, Scheme.parse(f"{kind}/16"))
    assert found.row_scales is not None
    for number, columns in enumerate((slice(0, 16), slice(16, 32), slice(32, 40))):
        part = quantize(w[:, columns], Scheme.parse(kind))
        assert np.array_equal(found.values[:, columns], part.values)
        assert np.array_equal(found.row_scales[:, number], part.row_scales)
    whole = quantize(w, Scheme.parse(f"{kind}/999999999"))
    assert np.array_equal(whole.floats(), quantize(w, Scheme.parse(kind)).floats())


@pytest.mark.parametrize("scheme", ["ternary", "ternary:0.61", "binary", "int4"])
def test_columns_that_differ_in_size(scheme: str) -> None:
    """Scales of groups have less error than those of rows, smaller groups less than larger."""
    w = RNG.normal(0, 1, (20, 256)) * np.exp(np.repeat(RNG.normal(0, 1, 16), 16))
    errors = [
        float(np.mean((quantize(w, Scheme.parse(scheme + group)).floats() - w) ** 2))
        for group in ("/16", "/64", "")
    ]
    assert errors == sorted(errors)
    assert errors[0] < 0.9 * errors[2]


@pytest.mark.parametrize(
    "coder", ["raw", "zlib", "huffman", "ans-hist", "ans-laplace", "ans-scale", "cm", "trellis"]
)
def test_every_coder_has_the_same_integers(coder: str) -> None:
    w = np.random.default_rng(1).normal(0, 1, (30, 50)) * np.exp(np.arange(50) / 30)
    expected = quantize(w, Scheme.parse("ternary:0.61/16"))
    rule = Rule("*", Scheme.parse("ternary:0.61/16"))
    blob, report = pack({"w": Tensor.from_array(w)}, rules=[rule], coder=coder)
    found = load_bag(blob).quantized("w")
    assert found is not None
    assert report.tensors[0].coder == coder
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.row_scales, expected.row_scales)


def test_weights_that_are_ternary_come_back() -> None:
    """Of a model trained so: by group -s, 0 or s, where s is a float16."""
    scales = np.repeat(RNG.uniform(0.01, 1, (8, 3)).astype(np.float16), 16, axis=1)[:, :40]
    w = RNG.integers(-1, 2, (8, 40)) * scales.astype(np.float32)
    found = quantize(w, Scheme.parse("ternary:0.61/16"))
    assert np.array_equal(found.floats(), w)
    assert not np.array_equal(quantize(w, Scheme.parse("ternary:0.61")).floats(), w)


def test_columns_may_have_scales_too() -> None:
    values = RNG.integers(-1, 2, (3, 5)).astype(np.int32)
    rows = np.array([[1, 2], [3, 4], [0.1, 0.2]], np.float16)
    columns = np.arange(1, 6).astype(np.float16) / np.float16(7)
    blob, _ = pack({"w": Quantized(values, rows, columns, 4)}, coder="raw")
    bag = load_bag(blob)
    assert bag.entries["w"].scheme == "rows/4+columns"
    expected = by_item(Quantized(values, rows, None, 4)) * columns.astype(np.float32)
    assert np.array_equal(bag["w"].floats(), expected)


def coded(scheme: str, n_columns: int = 10, n_groups: int = 3) -> bytes:
    """A bag of two rows of ones, each with so many scales."""
    found = Quantized(
        np.ones((2, n_columns), np.int32), np.ones((2, n_groups), np.float16), None, 4
    )
    _, streams = encode_quantized(found, lambda values: encode(values, "raw"))
    return dump_bag([CodedTensor("w", "F32", (2, n_columns), scheme, streams)], {})


def test_scales_that_do_not_fit() -> None:
    assert load_bag(coded("rows/4"))["w"].floats().tolist() == [[1.0] * 10] * 2
    for n_groups in (0, 1, 2, 4, 10):
        with pytest.raises(CorruptError, match=r"stream of shape .* where \(2, 3\)"):
            load_bag(coded("rows/4", n_groups=n_groups))["w"]
    with pytest.raises(CorruptError, match=r"where \(2,\)"):
        load_bag(coded("rows"))["w"]
    huge = CodedTensor("w", "F32", (2, 2**40), "rows/1", [])
    with pytest.raises(OutputLimitError):
        load_bag(dump_bag([huge], {}))
    # One group that claims a thousand million columns takes no more than its ten.
    assert load_bag(coded("rows/999999999", n_groups=1))["w"].floats().size == 20
    # Nor do columns without rows.
    streams = [encode(np.zeros((0, 2**n), np.int32), "raw") for n in (40, 38, 38)]
    bag = load_bag(dump_bag([CodedTensor("w", "F32", (0, 2**40), "rows/4", streams)], {}))
    assert bag["w"].shape == (0, 2**40)


@pytest.mark.parametrize(
    "scheme",
    ["rows/0", "rows/04", "rows/", "rows/-4", "rows/4x", "rows/4/4", "columns/4", "rows/4\n"]
    + ["rows/9999999999", "rows/٤", "rows/4+", "groups/4", "columns+rows/4"],
)
def test_schemes_that_are_unknown(scheme: str) -> None:
    bag = load_bag(coded(scheme))
    with pytest.raises(CorruptError, match=re.escape(f"scheme {scheme!r} of F32 is unknown")):
        bag["w"]
    assert bag.quantized("w") is None


@pytest.mark.parametrize(
    "text",
    ["ternary/", "ternary/0", "ternary/-1", "ternary/x", "ternary/8/8", "ternary/8:0.6"]
    + [
        "trellis/matrix",
        "ternary/rows",
        "ternary/matrix/8",
        "binary:1/8",
        "none/8",
        "step:0.4/8",
        "trellis/8",
        "ternary/" + "9" * 5000,
    ],
)
def test_groups_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="scheme"):
        Scheme.parse(text)


@pytest.mark.parametrize("kind", ["int8", "int6:3", "int4", "ternary", "ternary:0.61", "binary"])
def test_one_scale_for_the_matrix(kind: str) -> None:
    """As one long row; in files, the scales of rows are alike."""
    w = RNG.normal(0, 1, (6, 5, 8)) * np.arange(1, 7)[:, None, None]
    scheme = Scheme.parse(f"{kind}/matrix")
    found, row = quantize(w, scheme), quantize(w.reshape(1, -1), Scheme.parse(kind))
    assert found.values.shape == w.shape
    assert np.array_equal(found.values.reshape(1, -1), row.values)
    assert found.row_scales is not None
    assert found.row_scales.tolist() == row.row_scales.tolist() * 6
    blob, report = pack({"w": Tensor.from_array(w)}, rules=[Rule("*", scheme)], coder="ans-hist")
    bag = load_bag(blob)
    assert bag.entries["w"].scheme == "rows"
    assert report.tensors[0].scheme == f"{kind}/matrix"
    assert np.array_equal(bag["w"].floats(), found.floats())
    assert quantize(np.zeros((0, 4)), scheme).values.shape == (0, 4)


def test_bitnet_as_published() -> None:
    """S. Ma and others 2024, equations 1 to 3: the mean magnitude of the matrix, rounded, cut."""
    w = RNG.normal(0, 0.02, (64, 96)) * np.exp(RNG.normal(0, 0.5, (1, 96)))
    gamma = np.abs(w).mean()
    found = quantize(w, Scheme.parse("ternary/matrix"))
    off = np.abs(np.abs(w / gamma) - 0.5) > 1e-3  # the scale is a float16
    assert np.array_equal(found.values[off], np.clip(np.rint(w / gamma), -1, 1)[off])
    assert found.row_scales is not None
    assert np.allclose(found.row_scales, gamma, rtol=1e-3)
    zeros = (found.values == 0).mean(axis=0)
    by_row = (quantize(w.T, Scheme.parse("ternary")).values.T == 0).mean(axis=0)
    assert zeros.std() > 3 * by_row.std()  # columns differ, if they have no scales of their own


def test_names() -> None:
    for text in ("ternary/64", "ternary:0.61/64", "int6:12.85/128", "ternary/matrix"):
        assert str(Scheme.parse(text)) == text
    assert str(Scheme.parse("ternary:0.5/64").coarser(1)) == "ternary:1/64"
    assert str(Scheme.parse("int6:8/matrix").coarser(1)) == "int6:16/matrix"
    with pytest.raises(TensorError, match="ternary/4: NaN"):
        quantize(np.full((2, 9), np.nan), Scheme.parse("ternary/4"))


def test_a_golden_file() -> None:
    """Read for ever: `rows/3` of seven columns, float16."""
    bag = load_bag(bytes.fromhex(GOLDEN))
    assert bag.entries["w"].scheme == "rows/3"
    assert bag["w"].dtype == "F16"
    assert bag["w"].floats().tolist() == [
        [0.5, 0, -0.5, 0, 3, 3, -0.25],
        [0, 0, 0, -1.5, 1.5, 0, 8],
    ]


def test_models_in_integers_have_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The engine has one scale a row: an export says so, and names what asks for more."""
    pytest.importorskip("torch")
    from pgolf_codec.lm.conversion.export import exportable
    from pgolf_codec.lm.export_config import ExportConfig
    from pgolf_codec.lm.floats.model import Transformer
    from pgolf_codec.lm.model_config import ModelConfig

    config = ModelConfig(
        vocab_size=64, n_layers=1, d_model=16, n_heads=1, n_kv_heads=1, d_head=16, d_hidden=32,
        windows=(8,), rope_dims=4, weights="ternary", weight_group=8,
    )  # fmt: skip
    with pytest.raises(ExportError, match="weight_group 8: integers have one scale a row"):
        exportable(Transformer(config, 8))
    with pytest.raises(ConfigError, match=r"rule 'blocks.*ternary/8' is not PATTERN=ternary or"):
        ExportConfig(rules=("blocks.*=ternary/8",))
    command = ["pack", "x.pt", "-o", str(tmp_path / "x.pglm"), "--quant", "ternary/8"]
    assert main(command) == 2
    assert "--quant is not for a .pglm: see --recipe" in capsys.readouterr().err


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "x.safetensors"
    w = RNG.normal(0, 1, (40, 50)).astype(np.float32)
    write_safetensors(source, {"w": Tensor.from_array(w)})
    command = ["pack", str(source), "--quant", "ternary:0.61/16", "--coder", "ans-hist"]
    assert main(command) == 0
    back = tmp_path / "back.safetensors"
    assert main(["unpack", str(tmp_path / "x.pgw"), "-o", str(back)]) == 0
    expected = quantize(w, Scheme.parse("ternary:0.61/16"))
    assert np.array_equal(read_safetensors(back)["w"].floats(), expected.floats())
    assert main(["unpack", str(tmp_path / "x.pgw"), "-o", str(back), "-f", "--integers"]) == 0
    parts = read_safetensors(back)
    assert parts["w.q"].dtype == "I8"
    assert parts["w.s"].shape == (40, 4)
    assert parts["w.g"].bits.tolist() == 16
    assert main(["pack", str(source), "-f", "--quant", "ternary/x"]) == 1
    assert "ternary in groups of 'x' columns" in capsys.readouterr().err
