"""Packing: tensors of every dtype through a .pgw, rules, damage, one tensor alone."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pgolf_codec.errors import (
    CoderError,
    CoderNotFoundError,
    ConfigError,
    CorruptError,
    FormatError,
    NotAnArchiveError,
    OutputLimitError,
    TensorError,
    TruncatedError,
    UnsupportedVersionError,
)
from pgolf_codec.quant.bag import MAGIC, Bag, CodedTensor, dump_bag, load_bag
from pgolf_codec.quant.checkpoints import from_state_dict, read_tensors
from pgolf_codec.quant.coders.registry import encode
from pgolf_codec.quant.packing import Rule, pack, pack_within, parse_rules, parse_scheme
from pgolf_codec.quant.rounding import Quantized, Scheme, quantize
from pgolf_codec.quant.safetensors_file import read_safetensors, write_safetensors
from pgolf_codec.quant.tensors import ITEMS, Tensor, from_float32

RNG = np.random.default_rng(11)


def any_bits(dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Every bit pattern there is, NaN, infinity and subnormal numbers among them."""
    item = ITEMS[dtype]
    data = RNG.integers(0, 256, (int(np.prod(shape)), item.itemsize), np.uint8)
    if dtype == "BOOL":
        data &= 1
    return Tensor.from_bytes(dtype, shape, data.tobytes())


def same(one: Tensor, other: Tensor) -> bool:
    return (one.dtype, one.shape, one.to_bytes()) == (other.dtype, other.shape, other.to_bytes())


@pytest.mark.parametrize("dtype", ITEMS)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 0), (7, 11), (2, 3, 4)])
def test_lossless(dtype: str, shape: tuple[int, ...]) -> None:
    tensor = any_bits(dtype, shape)
    blob, _ = pack({"t": tensor}, coder="ans-hist")
    assert same(load_bag(blob)["t"], tensor)


def test_mantissas_that_are_noise_are_not_tried_for_long() -> None:
    """The last 16 bits of float32: raw if they are noise, next to nothing if they are zeros."""
    w = RNG.normal(0, 1, (100, 90)).astype(np.float32)
    of_bfloat = (w.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    sizes = []
    for floats in (w, of_bfloat):
        tensor = Tensor.from_array(floats)
        blob, report = pack({"w": tensor})
        assert report.tensors[0].coded_bytes.keys() == {"raw", "ans-hist", "cm"}
        assert same(load_bag(blob)["w"], tensor)
        sizes.append(load_bag(blob).entries["w"].stream_bytes)
    assert sizes[0][2] == 2 * w.size + 9  # raw, and its head
    assert sizes[1][2] < 20
    assert sizes[0][:2] == sizes[1][:2]


def test_64_bit_integers_that_fit_and_that_do_not() -> None:
    for values in ([1, -2, 3], [2**40, -(2**63), 2**63 - 1], []):
        tensor = Tensor.from_array(np.array(values, np.int64))
        blob, _ = pack({"t": tensor}, coder="raw")
        assert same(load_bag(blob)["t"], tensor)


def model() -> dict[str, Tensor]:
    w = RNG.normal(0, 0.02, (64, 48)).astype(np.float32)
    return {
        "embed.weight": Tensor.from_array(w),
        "head.weight": Tensor.from_array(w.copy()),
        "norm": Tensor.from_array(np.ones(48, np.float32)),
        "half": from_float32(RNG.normal(0, 1, (40, 30)).astype(np.float32), "BF16"),
        "steps": Tensor.from_array(np.array(7)),
    }


def test_equal_tensors_are_stored_once() -> None:
    tensors = model()
    blob, report = pack(tensors, coder="ans-hist")
    assert report.same == {"head.weight": "embed.weight"}
    bag = load_bag(blob)
    assert set(bag) == set(tensors)
    assert len(bag) == 5
    assert all(same(bag[name], tensors[name]) for name in tensors)
    assert report.file_bytes == len(blob)


def test_quantized() -> None:
    tensors = model()
    rules = [Rule("*", Scheme("int6", 12.85), least_items=1000)]
    blob, report = pack(tensors, rules=rules)
    bag = load_bag(blob)
    expected = quantize(tensors["half"].floats(), rules[0].scheme or Scheme("int6"))
    found = bag.quantized("half")
    assert found is not None
    assert found.row_scales is not None
    assert expected.row_scales is not None
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.row_scales.view(np.uint16), expected.row_scales.view(np.uint16))
    assert same(bag["half"], from_float32(expected.floats(), "BF16"))
    assert bag.quantized("norm") is None
    assert same(bag["norm"], tensors["norm"])
    rows = {row["tensor"]: row for row in report.to_dict()["tensors"]}
    assert rows["half"]["scheme"] == "int6:12.85"
    assert rows["norm"]["scheme"] == "none"
    assert rows["half"]["shape"] == [40, 30]
    assert set(rows["half"]["bits_per_param"]) == {"raw", "ans-hist", "ans-scale", "cm", "trellis"}
    assert 3 < rows["half"]["entropy_bits_per_param"] < 3.5
    for name, entry in bag.entries.items():
        assert rows[name]["coded_bytes"] == entry.stream_bytes[0]
        assert rows[name]["scale_bytes"] == sum(entry.stream_bytes[1:])
        bits = 8 * entry.n_bytes / entry.n_items
        assert rows[name]["total_bits_per_param"] == pytest.approx(bits)
    assert rows["half"]["coded_bytes"] == min(
        rows["half"]["bits_per_param"][c] * 1200 / 8 for c in rows["half"]["bits_per_param"]
    )
    totals = report.to_dict()["totals"]
    assert totals["file_bytes"] == len(blob)
    assert totals["n_params"] == 64 * 48 + 48 + 1200 + 1


def test_scales_of_rows_and_columns() -> None:
    values = RNG.integers(-40, 40, (6, 5)).astype(np.int32)
    rows, columns = np.float16(0.25) * np.arange(1, 7), np.float16(3) ** np.arange(5)
    quantized = Quantized(values, rows.astype(np.float16), columns.astype(np.float16))
    blob, _ = pack({"w": quantized}, coder="raw")
    bag = load_bag(blob)
    assert bag.entries["w"].scheme == "rows+columns"
    expected = values * rows[:, None].astype(np.float32) * columns.astype(np.float32)
    assert np.array_equal(bag["w"].floats(), expected.astype(np.float32))


@pytest.mark.parametrize("kind", ["int8", "int6", "int5", "int4"])
@pytest.mark.parametrize("clip", [None, 3.0, 12.85])
def test_uniform_schemes(kind: str, clip: float | None) -> None:
    w = RNG.normal(0, 0.3, (20, 200))
    w[3] = 0
    found = quantize(w, Scheme(kind, clip))
    assert found.row_scales is not None
    top = 2 ** (int(kind[3:]) - 1) - 1
    assert np.abs(found.values).max() <= top
    step = found.row_scales.astype(float)[:, None]
    edge = w.std(axis=1) * (clip or 0) if clip else np.abs(w).max(axis=1)
    inside = np.abs(w) <= edge[:, None] * 0.99
    assert np.all(
        np.abs(w - found.floats())[inside] <= np.broadcast_to(step, w.shape)[inside] * 0.51
    )
    assert not found.values[3].any()


def test_ternary_and_binary() -> None:
    w = RNG.normal(0, 1, (10, 400))
    ternary, binary = quantize(w, Scheme("ternary")), quantize(w, Scheme("binary"))
    assert set(np.unique(ternary.values)) == {-1, 0, 1}
    assert set(np.unique(binary.values)) == {-1, 1}
    assert np.array_equal(np.sign(w), binary.values)
    assert (quantize(np.zeros((2, 3)), Scheme("binary")).values == 1).all()  # it has no 0
    assert binary.row_scales is not None
    assert np.allclose(binary.row_scales.astype(float), np.abs(w).mean(axis=1), rtol=1e-3)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("step:0.4", 0.1135),
        ("priced:0.4", 0.114),
        ("trellis:0.4", 0.111),
        ("trellis32:0.4", 0.112),
    ],
)
def test_free_steps(text: str, error: float) -> None:
    """By how much of a deviation weights are wrong; a uniform step is so by 1 / sqrt(12)."""
    w = np.random.default_rng(9).normal(0, 0.3, (10, 8000))  # so wide that 90 is beyond 127 steps
    w[4] *= 1000
    w[7, 7] = 90
    found = quantize(w, Scheme.parse(text))
    assert np.abs(found.values).max() <= 127
    wrong = np.sqrt(np.mean((found.floats() - w) ** 2, axis=1)) / w.std(axis=1)
    typical = wrong[np.arange(10) != 7].mean()
    assert abs(typical - error) < 0.03 * error
    assert abs(found.floats()[7, 7] - 90) < 1


@pytest.mark.parametrize("text", ["int8", "ternary", "binary", "int4/2", "step:0.4", "trellis:0.4"])
def test_rows_below_the_least_scale(text: str) -> None:
    """Their scale is the least float16 above zero, not zero."""
    w = np.array([[1e-30, -1e-30, 5e-31], [0.1, 0.2, 0.3]])
    found = quantize(w, Scheme.parse(text))
    assert found.row_scales is not None
    assert np.all(found.row_scales[0] == 2.0**-24)
    assert not found.values[0].any() or text == "binary"


def test_ternary_with_a_threshold() -> None:
    w = RNG.normal(0, 1, (10, 4000))
    w[3] = 0
    errors, zeros = {}, {}
    for text in ("ternary", "ternary:0.4", "ternary:0.61", "ternary:1"):
        found = quantize(w, Scheme.parse(text))
        assert set(np.unique(found.values)) == {-1, 0, 1}
        errors[text] = float(np.mean((found.floats() - w) ** 2))
        zeros[text] = float(np.mean(found.values == 0))
    assert min(errors, key=errors.__getitem__) == "ternary:0.61"
    assert zeros["ternary:0.4"] < zeros["ternary:0.61"] < zeros["ternary:1"]
    assert abs(errors["ternary:0.61"] - 0.9 * 0.190) < 0.01  # Max 1960; a tenth of it is zeros
    assert not quantize(w, Scheme.parse("ternary:9")).values.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_cannot_be_quantized(bad: float) -> None:
    w = np.ones((40, 40))
    w[2, 3] = bad
    with pytest.raises(TensorError, match=r"tensor layer\.w: int6: NaN or infinity"):
        pack({"layer.w": Tensor.from_array(w)}, rules=[Rule("*", Scheme("int6"))])
    blob, _ = pack({"layer.w": Tensor.from_array(w)}, coder="ans-hist")
    assert same(load_bag(blob)["layer.w"], Tensor.from_array(w))
    with pytest.raises(TensorError, match="beyond float16"):
        quantize(np.full((2, 2), 1e9), Scheme("int4"))


@pytest.mark.parametrize(
    "text", ["int7", "int6:", "int6:x", "int6:-1", "ternary:x", "binary:1", ""]
)
def test_no_such_scheme(text: str) -> None:
    with pytest.raises(ConfigError):
        Scheme.parse(text)
    assert parse_scheme("none") is None
    assert str(Scheme.parse("int6:12.85")) == "int6:12.85"


def test_rules() -> None:
    rules = parse_rules(
        '[[rule]]\nmatch = "embed*"\nquant = "int8"\ncoder = "raw"\n'
        '[[rule]]\nmatch = "*"\nquant = "lossless"\n'
    )
    _, report = pack(model(), rules=rules, coder="ans-hist")
    rows = {row.name: row for row in report.tensors}
    assert (rows["embed.weight"].scheme, rows["embed.weight"].coder) == ("int8", "raw")
    assert (rows["half"].scheme, rows["half"].coder) == ("none", "ans-hist")


@pytest.mark.parametrize(
    "text",
    [
        "x", '[[rule]]\nmatch = "a"\n', '[rule]\nmatch = "a"\nquant = "int8"\n',
        '[[rule]]\nmatch = "a"\nquant = "int9"\n', '[[rule]]\nmatch = 1\nquant = "int8"\n',
        '[[rule]]\nmatch = "a"\nquant = "int8"\nclip = "1"\n', "rule = [3]\n",
        '[[rules]]\nmatch = "a"\nquant = "int8"\n',
    ],
)  # fmt: skip
def test_rules_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"rule|scheme"):
        parse_rules(text)


def test_unknown_coder_is_named() -> None:
    with pytest.raises(CoderNotFoundError, match="nothing"):
        pack(model(), coder="nothing")


def small() -> bytes:
    rules = [Rule("*", Scheme("int4"))]
    w = np.arange(-12, 12).reshape(4, 6) / 7
    return pack({"a": Tensor.from_array(w), "b": any_bits("F32", (5,))}, rules=rules, coder="raw")[
        0
    ]


def test_every_flipped_bit_is_found_out() -> None:
    blob = small()
    for at in range(8 * len(blob)):
        broken = bytearray(blob)
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(FormatError):
            read_all(bytes(broken))


def test_every_cut_is_found_out() -> None:
    blob = small()
    for size in range(len(blob)):
        with pytest.raises((TruncatedError, NotAnArchiveError)):
            read_all(blob[:size])
    with pytest.raises(CorruptError, match="1 bytes too many"):
        read_all(blob + b"\0")


def read_all(blob: bytes) -> dict[str, Tensor]:
    return dict(load_bag(blob))


def with_head(change: Any) -> bytes:
    """A bag whose head says something else, with checksums that hold."""
    blob = small()
    n_packed = struct.unpack_from("<I", blob, 10)[0]
    head = json.loads(zlib.decompress(blob[18 : 18 + n_packed]))
    change(head)
    text = json.dumps(head).encode()
    packed = zlib.compress(text)
    start = struct.pack("<8sHII", MAGIC, 1, len(packed), len(text)) + packed
    return start + struct.pack("<I", zlib.crc32(start)) + blob[18 + n_packed + 4 :]


def set_first(index: int, value: Any) -> Any:
    def change(head: Any) -> None:
        head["tensors"][0][index] = value

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (set_first(1, "F31"), CorruptError),
        (set_first(1, "I8"), CorruptError),
        (set_first(2, [4, 7]), CorruptError),
        (set_first(2, [-4, 6]), CorruptError),
        (set_first(2, [2**20, 2**20]), OutputLimitError),
        (set_first(2, [2**40, 2**40]), CorruptError),
        (set_first(2, [0, 2**40, 2**40]), CorruptError),
        (set_first(2, [1] * 9), CorruptError),
        (set_first(5, float("inf")), CorruptError),
        (set_first(0, "\ud800"), CorruptError),
        (set_first(3, "floats"), CorruptError),
        (set_first(3, "nothing"), CorruptError),
        (set_first(4, [2**50]), TruncatedError),
        (set_first(4, [-5, 10]), CorruptError),
        (set_first(4, "x"), CorruptError),
        (lambda head: head["same"].update(c="d"), CorruptError),
        (lambda head: head["same"].update(a="b"), CorruptError),
        (lambda head: head["tensors"].append(head["tensors"][0]), FormatError),
        (lambda head: head.pop("same"), CorruptError),
        (lambda head: head.update(metadata=[1]), CorruptError),
        (lambda head: head.update(metadata={"a": 1}), CorruptError),
    ],
)
def test_heads_that_lie(change: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_all(with_head(change))


def test_a_head_like_a_bomb() -> None:
    text = zlib.compress(b" " * 100_000)
    start = struct.pack("<8sHII", MAGIC, 1, len(text), 10) + text
    with pytest.raises(CorruptError, match="size"):
        load_bag(start + struct.pack("<I", zlib.crc32(start)))
    head = b'{"tensors":[],"same":{}}'
    cut = zlib.compress(head)[:-1]
    start = struct.pack("<8sHII", MAGIC, 1, len(cut), len(head)) + cut
    with pytest.raises(CorruptError, match="size"):
        load_bag(start + struct.pack("<I", zlib.crc32(start)))
    with pytest.raises(CorruptError, match="a head of"):
        load_bag(struct.pack("<8sHII", MAGIC, 1, 2**31, 2**31))


def test_versions_and_magic() -> None:
    blob = small()
    with pytest.raises(UnsupportedVersionError):
        load_bag(blob[:8] + b"\2\0" + blob[10:])
    with pytest.raises(NotAnArchiveError):
        load_bag(b"PK\3\4")


def test_one_tensor_alone() -> None:
    """Other tensors are neither read nor needed."""
    blob = bytearray(small())
    bag = Bag(io.BytesIO(bytes(blob)))
    expected, start = bag["a"], len(blob) - bag.entries["b"].n_bytes
    blob[start:] = bytes(len(blob) - start)
    damaged = load_bag(bytes(blob))
    assert same(damaged["a"], expected)
    with pytest.raises(CorruptError, match="tensor b: is damaged"):
        damaged["b"]


def test_what_makes_two_the_same() -> None:
    values, one, two = np.eye(2, dtype=np.int32), np.float16([1, 2]), np.float16([1, 3])
    same = Quantized(values, one, two)
    assert same.same_as(Quantized(values.copy(), one.copy(), two.copy()))
    for other in ((values, two, two), (values, one, one), (values, one, None), (-values, one, two)):
        assert not same.same_as(Quantized(*other))


def test_columns_of_no_rows() -> None:
    quantized = Quantized(np.zeros((0, 3), np.int32), None, np.ones(3, np.float16))
    blob, _ = pack({"w": quantized}, coder="raw")
    assert load_bag(blob)["w"].shape == (0, 3)


class Liar:
    """A coder of another package."""

    summary = "gives back what it should not"

    def __init__(self, decode: Any, encode: Any = lambda values: b"x") -> None:
        self.encode, self.of_shape = encode, decode

    def decode(self, payload: memoryview, shape: tuple[int, int]) -> Any:
        return self.of_shape(shape)


def raises(*arguments: object) -> bytes:
    raise RuntimeError("oh")


def writes(values: NDArray[np.int32]) -> bytes:
    values[0] = 0
    return b""


@pytest.mark.parametrize(
    ("coder", "message"),
    [
        (Liar(lambda shape: np.zeros(shape, np.int32)), "does not give back"),
        (Liar(lambda shape: np.zeros(shape[::-1], np.int32)), r"gave int32 \(30, 40\)"),
        (Liar(np.zeros), "gave float64"),
        (Liar(lambda shape: None), "AttributeError"),
        (Liar(raises), "RuntimeError: oh"),
        (Liar(None, raises), "RuntimeError: oh"),
        (Liar(None, lambda values: "text"), "TypeError"),
        (Liar(None, writes), "ValueError: assignment destination is read-only"),
    ],
)
@pytest.mark.parametrize("quant", ["none", "int6"])
def test_coders_that_break_their_word(
    coder: Liar, message: str, quant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they do, the tensor is named, and nothing that can't be read is packed."""
    monkeypatch.setattr("pgolf_codec.quant.coders.registry.find_coder", lambda name: coder)
    rules = [Rule("*", parse_scheme(quant))]
    with pytest.raises(CoderError, match=f"tensor half: .*{message}"):
        pack({"half": model()["half"]}, rules=rules, coder="liar")


def test_a_rounded_item_beyond_its_dtype() -> None:
    """A scale is rounded too, perhaps upwards."""
    w = np.full((2, 2), 65504, np.float16)
    with pytest.raises(TensorError, match="tensor w: an item, rounded, is beyond F16"):
        pack({"w": Tensor.from_array(w)}, rules=[Rule("*", Scheme("int8"))])


@pytest.mark.parametrize("name", ["\ud800", "a\udfff.w"])
def test_a_name_that_is_no_text(name: str, tmp_path: Path) -> None:
    tensors = {name: Tensor.from_array(np.ones(3))}
    with pytest.raises(TensorError, match=r"ud[8f].*not Unicode"):
        pack(tensors)
    with pytest.raises(TensorError, match=r"ud[8f].*not Unicode"):
        pack_within(tensors, 1000, rules=[])
    with pytest.raises(TensorError, match="__metadata__"):
        write_safetensors(tmp_path / "x", {"__metadata__": tensors[name]})


@pytest.mark.parametrize("scheme", ["rows", "columns"])
def test_a_scale_that_is_no_number(scheme: str) -> None:
    scales = Tensor.from_bytes("F16", (2,), b"\x00\x7e\x00\x3c")
    exponents, mantissas = scales.bits >> 10, scales.bits & 1023
    streams = [encode(part.astype(np.int32), "raw") for part in (exponents * 2, mantissas)]
    coded = CodedTensor(
        "w", "F32", (2, 2), scheme, [encode(np.ones((2, 2), np.int8), "raw"), *streams]
    )
    with pytest.raises(CorruptError, match="not a number"):
        read_all(dump_bag([coded], {}))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_rounding_to_16_bits(dtype: str) -> None:
    """As torch rounds: to nearest, ties to even."""
    torch = pytest.importorskip("torch")
    bits = np.concatenate((RNG.integers(0, 2**32, 5000), RNG.integers(0, 2**17, 5000) << 15))
    value = bits.astype(np.uint32).view(np.float32)
    value = value[np.isfinite(value)]
    target = torch.float16 if dtype == "F16" else torch.bfloat16
    expected = torch.from_numpy(value).to(target).view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(from_float32(value, dtype).bits, expected)


def test_safetensors_is_what_the_library_reads(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    tensors = {name: any_bits(name, (3, 4)) for name in ITEMS} | {"scalar": any_bits("F32", ())}
    write_safetensors(tmp_path / "x.safetensors", tensors)
    entries = dict(safetensors.deserialize((tmp_path / "x.safetensors").read_bytes()))
    assert entries.keys() == tensors.keys()
    for name, entry in entries.items():
        assert entry["dtype"] == tensors[name].dtype
        assert tuple(entry["shape"]) == tensors[name].shape
        assert bytes(entry["data"]) == tensors[name].to_bytes()
    found = read_safetensors(tmp_path / "x.safetensors")
    assert all(same(found[name], tensors[name]) for name in tensors)


def one_tensor(shape: str, offsets: str) -> bytes:
    head = f'{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}'.encode()
    return struct.pack("<Q", len(head)) + head + b"1234"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}x",
        struct.pack("<Q", 5) + b'{"a":',
        one_tensor("[2]", "[0,4]"),
        one_tensor("[1]", "[4,8]"),
        one_tensor("[-1]", "[0,4]"),
        struct.pack("<Q", 24) + b'{"__metadata__":{"a":1}}',
        one_tensor("[1099511627776, 1099511627776]", "[0,4]"),
        one_tensor("[0, 1099511627776, 1099511627776]", "[0,0]"),
        one_tensor(str([1] * 65), "[0,4]"),
    ],
)
def test_safetensors_that_are_none(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"x\.safetensors"):
        read_safetensors(path)


def test_torch_checkpoints(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {
        "a": torch.randn(3, 4).to(torch.bfloat16),
        "b": torch.arange(5),
        "c": torch.randn(2, 2).t(),
        "d": torch.randn(3).to(torch.float8_e4m3fn),
    }
    for content in (state, {"model": state, "step": 3}, {"step": 3, "weird": state}):
        torch.save(content, tmp_path / "x.pt")
        key = "weird" if "weird" in content else None
        found = read_tensors(tmp_path / "x.pt", key)
        assert {name: t.dtype for name, t in found.items()} == {
            "a": "BF16", "b": "I64", "c": "F32", "d": "F8_E4M3",
        }  # fmt: skip
        assert found["c"].floats().tolist() == state["c"].tolist()
        assert found["a"].floats().tolist() == state["a"].float().tolist()
    with pytest.raises(FormatError, match="which of step, weird"):
        read_tensors(tmp_path / "x.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(FormatError, match=r"weights: Unsupported global: GLOBAL torch\.nn"):
        read_tensors(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(FormatError, match="not a torch checkpoint"):
        read_tensors(tmp_path / "x.pt")


def test_checkpoints_of_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights alone, all of them, and no word less of what is left out."""
    torch = pytest.importorskip("torch")
    told: list[str] = []
    monkeypatch.setattr("pgolf_codec.notices.tell", told.append)
    path, w = tmp_path / "x.pt", torch.ones(2, 2)

    def names(content: Any) -> list[str]:
        torch.save(content, path)
        return list(read_tensors(path))

    state = {0: {"exp_avg": w}}
    weights = {"a.w": w, "b": {"w": w, "n": 1, "c": {"w": w}}}
    assert names({"rng_state": w, "model": weights, "optimizer": state}) == ["a.w", "b.w", "b.c.w"]
    assert told.pop() == f"{path}: left out: rng_state, optimizer, b.n"
    assert names({"ema": weights, "step": 1, "model": {"w": w}}) == ["w"]
    assert told.pop() == f"{path}: left out: ema, step"
    for key in ("absent", "step"):
        with pytest.raises(FormatError, match=f"has no dictionary '{key}'"):
            read_tensors(path, key)
    assert list(read_tensors(path, "ema")) == ["a.w", "b.w", "b.c.w"]
    assert told.pop() == f"{path}: left out: step, model, b.n"
    assert names({f"{n}": w if n == 3 else n for n in range(12)}) == ["3"]
    assert told.pop() == f"{path}: left out: 0, 1, 2, 4, 5, 6, 7, 8 and 3 more"
    assert names(weights["b"] | {"n": w}) == ["w", "n", "c.w"]
    assert not told
    for twice in ({0: w, "0": w}, {"a.b": w, "a": {"b": w}}):
        with pytest.raises(FormatError, match="two tensors are named"):
            names(twice)


@pytest.mark.parametrize("content", [b"", b"epoch,loss\n1,2.5\n", bytes(100), b"\x80\x02}q\x00."])
def test_other_files_by_the_name_of_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("torch")
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.pt: not a torch checkpoint of weights: \w"):
        read_tensors(tmp_path / "x.pt")


def test_a_sparse_tensor_is_refused_by_name(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "x.pt")
    with pytest.raises(TensorError, match="tensor a"):
        read_tensors(tmp_path / "x.pt")


def test_numpy_arrays_in_python() -> None:
    state: dict[str, NDArray[Any]] = {"a": np.eye(3, dtype=">f8"), "b": np.array([True, False])}
    tensors = from_state_dict(state)
    blob, _ = pack(tensors, coder="raw")
    assert load_bag(blob)["a"].floats().tolist() == np.eye(3).tolist()
    with pytest.raises(TensorError, match="tensor c: dtype"):
        from_state_dict({"c": np.array(["x"])})
