"""Coders: round trips, golden bytes, the decoders of the documents, hostile bytes."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pgolf_codec.errors import CoderError, CoderNotFoundError, FormatError
from pgolf_codec.quant import coders
from pgolf_codec.quant.coders import ans, cm
from pgolf_codec.quant.coders.machine_code import SOURCES, STATIC_SOURCES
from pgolf_codec.quant.coders.numbers import NumberWriter
from pgolf_codec.quant.coders.registry import BUILT_IN
from pgolf_codec.quant.coders.varint import read_varint, unzigzag, write_varint, zigzag

sys.path.insert(0, str(Path(__file__).parent))  # for reference_coders.py

import reference_coders

OURS = [
    name
    for name in BUILT_IN
    if name in ("raw", "huffman", "cm", "trellis") or name.startswith("ans-")
]
LIMIT = 2**31


def cases() -> dict[str, NDArray[np.int64]]:
    rng = np.random.default_rng(7)
    normal = np.rint(rng.normal(0, 2.4, (100, 12)))
    common = rng.normal(0, 2, (90, 1)) * rng.choice((-1, 1), (1, 20)) + rng.normal(0, 1, (90, 20))
    found = {
        "normal": normal,
        "vector": normal.reshape(-1)[:130],
        "scalar": np.array(-5),
        "one": np.array([[7]]),
        "empty": np.zeros((0, 4)),
        "constant": np.full((5, 7), 3),
        "one row": normal[:1],
        "one column": normal[:, :1],
        "three dimensions": normal.reshape(10, 4, 30),
        "ternary": rng.integers(-1, 2, (50, 20)),
        "binary": rng.choice((-1, 1), (30, 9)),
        "sparse": (rng.random((60, 40)) < 0.02) * 9,
        "wide": np.rint(rng.normal(5, 60, (70, 9))),
        "all bytes": np.arange(256).reshape(16, 16),
        "outliers": np.where(rng.random((80, 10)) < 0.01, 100000, rng.normal(0, 3, (80, 10))),
        "extremes": np.array([[LIMIT - 1, -LIMIT, 0], [1, -1, LIMIT - 1]]),
        "scales": np.rint(normal[:, :, None][:80] * np.exp(rng.normal(0, 0.8, 5))).reshape(80, 60),
        "columns that agree": np.rint(common),
        "tall": np.rint(rng.normal(0, 2, (270, 1)) * 0.5 + rng.normal(0, 2, (270, 20))),
        "short and long": np.rint(rng.normal(0, 2.4, (8, 90))),
    }  # fmt: skip
    return {name: np.asarray(values).astype(np.int64) for name, values in found.items()}


CASES = cases()


def predicted() -> dict[str, NDArray[np.int64]]:
    """Columns of which ans-scale predicts the later ones."""
    rng = np.random.default_rng(11)
    common = rng.normal(0, 2, (700, 1)) * rng.choice((-1, 1), (1, 24))
    items = common + rng.normal(0, 1.2, common.shape)
    outliers = np.where(rng.random(items.shape) < 0.003, 10**5, items)
    found = {
        "blocks": items,
        "outliers": outliers,
        "wide": 40 * items,
        "far off": items + 10**8,
        "ternary": (items / 3).clip(-1, 1),
    }
    return {name: np.rint(values).astype(np.int64) for name, values in found.items()}


PREDICTED = predicted()


@pytest.mark.parametrize("coder", BUILT_IN)
@pytest.mark.parametrize("case", CASES)
def test_round_trip(coder: str, case: str) -> None:
    values = CASES[case]
    stream = coders.encode(values, coder)
    found = coders.decode(stream)
    assert found.dtype == np.int32
    assert found.shape == values.shape
    assert np.array_equal(found, values)
    assert coders.encode(values, coder) == stream
    info = coders.stream_info(stream)
    assert (info.coder, info.shape) == (coder, values.shape)


@pytest.mark.parametrize("coder", OURS)
@pytest.mark.parametrize("case", CASES)
def test_decoders_of_the_documents(coder: str, case: str) -> None:
    values = CASES[case]
    shape, items = reference_coders.decode(coders.encode(values, coder))
    assert shape == values.shape
    assert items == values.reshape(-1).tolist()


@st.composite
def tables(draw: st.DrawFn) -> NDArray[np.int64]:
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from((0.2, 1.0, 3.0, 40.0, 3000.0, 1e8)))
    values = rng.standard_t(draw(st.sampled_from((1.5, 4.0, 50.0))), (rows, columns)) * scale
    values = values * np.exp(rng.normal(0, draw(st.sampled_from((0.0, 1.0))), columns))
    offset = draw(st.sampled_from((0, 3, -100, 10**6)))
    return np.rint(values + offset).clip(-LIMIT, LIMIT - 1).astype(np.int64)


@pytest.mark.parametrize("coder", BUILT_IN)
@given(values=tables())
def test_any_table(coder: str, values: NDArray[np.int64]) -> None:
    assert np.array_equal(coders.decode(coders.encode(values, coder)), values)


@pytest.mark.parametrize("coder", BUILT_IN)
def test_a_table_that_must_not_be_written_to(coder: str) -> None:
    """As tensors of a file are."""
    values = golden_values().astype(np.int32)
    values.flags.writeable = False
    assert np.array_equal(coders.decode(coders.encode(values, coder)), values)


@pytest.mark.parametrize("coder", OURS)
def test_golden_streams(coder: str) -> None:
    """Decoding what version 1 wrote is what counts; the streams are kept whole for one case."""
    stream = bytes.fromhex(STREAMS[coder])
    assert np.array_equal(coders.decode(stream), golden_values())


def golden_values() -> NDArray[np.int64]:
    """From integers alone, so that no generator can change them."""
    at = np.arange(120)
    return ((at * at * 7 + at * 3) % 11 - (at * 5 % 7)).reshape(12, 10)


STREAMS = {
    "raw": (
        "01020c0afaffffff056691358a3a6b24c00a236605465468c694c3442b44b8730c32c399325e40271df2"
        "80215024345081e114355422c92881cc226b1475d648801546cc0a8ca8d08c298789568870e718648633"
    ),
    "huffman": (
        "08020c0a070a876988dfdfbc18f8d1671ab9b1ae3135ed3a041d5ec3af89121bc21be49345fee07fd6a5"
        "a63f4316d74f42d6463e3459c6ae6c6b8c4d7b4e810757b0ebe24486f0"
    ),
    "ans-hist": (
        "09020c0a130a876ad818ab4d0089176779430e3843942002f28a67b22a020000f6a71c26210600003d3d"
        "cc6d99a778588f986e5da3df975d2bdac2baac2bff65a905e42ffaff7ff4774b046cd89efadf4159f028"
        "40be0d0afb4779babcff6d3a"
    ),
    "ans-gauss": (
        "0a020c0a0c0a8769f602656866c7825d15cab9750ed4480000651c7d6c745e00004ef03d1e4de5a16c80"
        "5b96cdcc43866f536f325d0b18552010fb4f948046f1bec67e7aeffde476dbdf1c40caaa2ade462b4767"
        "f169258fe8"
    ),
    "ans-laplace": (
        "0b020c0a0d0a876ad8199aed4adfb87cfc5f3d915407437d3f001e324ed9c43d45004ec2bef9157b3368"
        "316ac3c67cf466e3f4eb85807dc9bf5201d35bc0721b1beb9815cc9485cf206f2e4b8434f1d43eda4803"
        "39cd7e2a8f51"
    ),
    "ans-mixture": (
        "0c020c0a0c0a8769f602656866c7825d15cab9750ed4480000651c7d6c745e00004ef03d1e4de5a16c80"
        "5b96cdcc43866f536f325d0b18552010fb4f948046f1bec67e7aeffde476dbdf1c40caaa2ade462b4767"
        "f169258fe8"
    ),
    "ans-scale": (
        "0d020c0a0c0a8769f602656866c7825d15cab9750ed4480000651c7d6c745e00004ef03d1e4de5a16c80"
        "5b96cdcc43866f536f325d0b18552010fb4f948046f1bec67e7aeffde476dbdf1c40caaa2ade462b4767"
        "f169258fe8"
    ),
    "cm": (
        "0e020c0a02300010073200f2000bee9d3ee9f8c79555f4565e2bc899632026728abd6bccb8a06c8b440d"
        "297aea54d5f5e77c97ffcc874dcb10f7de3b3b2367afd147b1410d56ab9684b3950c97802f"
    ),
    "trellis": (
        "0f020c0a00126266f7ec6cddbfbc7a70926c74defa91c4238f706270e87d723d047b9ebed17fdf8bd080"
        "223f46c4abc4329b8ef0c679c49f11780ce0f276e4d7ebe8b224698a322e"
    ),
}


def test_a_golden_predicted_stream() -> None:
    at = np.arange(480)
    row = at // 6
    common = (row * row * 7 % 13 - 6) * (1 - 2 * (at % 2))
    values = (common + (at * at * 5 + at * 3) % 5 - 2).reshape(80, 6)
    assert np.array_equal(coders.decode(bytes.fromhex(PREDICTED_STREAM)), values)


def test_a_golden_stream_of_rows_that_are_alike() -> None:
    assert np.array_equal(coders.decode(bytes.fromhex(ALIKE_STREAM)), golden_rows())


def golden_rows() -> NDArray[np.int64]:
    row, column = np.arange(90)[:, None], np.arange(66)
    kind = row * row % 23 % 5
    items = (kind * 13 + column * column * 3 + column * kind * 5) % 7 // 2 - 1
    return np.asarray(items + (row * 31 + column * 17 + row * column) % 97 // 96)


ALIKE_STREAM = (
    "0e025a4203300004021202f20b0001bd9306c09a1e91410ceb1e9ad7f82c8f0c02cb71def6244971bfdccb80"
    "a782b56e21c83d19a2250024b9d4a124e7e95d690be48b1fcd29d33f1f18765ce615cbe7fed646f2a265cd1d"
    "e9609f94d941d385d7d2f7844c96f2cdcd58047cafd0b4f0cbd2ed2dae94ce7e72b5a23869c0defca6eed618"
    "e3fa2e378e160b5027b23dce2ce10cbf8bf660b2f0ab2d9cb4815827cb07d8fc8031e1085a4e89febaab9115"
    "6794ccc783fb0f71450c9a43e37f44505b9fdd555afda2d44c5948863f4a8adfe2938072bb05468c736d9bcd"
    "82cca5c723c3a0c8a5c54b93a8df73ef1fee2c578ec5b8085c75c3ad859ac8206d0fea78b357ea52fb9a17e4"
    "cbc6ddf3d666bbf8b311c728c70a41c78ad1410b82ea84659bc5daa4d4008605426622b4e060472299f0a473"
    "e4f8389055885d84c853c895090151c54ac946524c446f43dc9bd558888cdff64779959ceb600eab89a525af"
    "fbb2fe68f5775274470891bb4a6c88543c677d953319c2d1424934272ae11a4a47bf656f806efb4fa5373280"
    "13c169bf6b6c29a50ba96402160e5428a18016fec84d26b665d12a5da069a3ae0f46589ad2dfe2ae05170883"
    "8f00d9fac55ad006c52c44ca2fe8845b3e02b9b7315ef741e0709175ec8d94de81bbe3be893b11a5ce19b046"
    "4ac0e0dd4f6d5ed18597eade081219eeab0dc41831d709865a3238234234513ca97a113801139265d57760e6"
    "00bdccef69d2c3375d57276d343b558617c461abba6251dd3b93aaa12166ebaefcceb7ca30dc494354268f95"
    "8194af21e8e863b169fcf6308e035660d7612251d3f158684ac6704ce9331a85641242e7bca510ae55696fca"
    "424c744decde5d067fa0c70a9b221dcf49be82625f3e62c7b50d9fcc1272ea3fe198eea8d6b767b6f531a3c9"
    "be8361b0250271f16a13f33daa745c51d9aac65f550515932aca5d7330609d3261e0f76368e1deb180f015c1"
    "d484a391fc113cc6ea49b7bc870fb6bd4c6dcfb4f12e41a009f10504f826d8711a85d0834aacfaf379e611c0"
    "e6d9c49c411565a4ff659bf9ae9ad455026660132d33fd98336371ac5cebccd75e677c792d689dc3c6a41bda"
    "d84968f2442a80473a34a79c36ea64285f035f252f922f2d1977506e3babe9648371738b300ad348991b46fb"
    "6b53dcbf90b6153881fbe4722ff56f6cfd4fdbf8f753744838058ac00dcae685a512ece0a3a2fa89537d2cff"
    "68b5b57efe61d1658a4349835dbf063f406e8b82e323bca2dd5fabc4c4b241e583fd7966a1d308c3bf4ad9c4"
    "875900c6bbc1a84b1178da11050cc0bbe104ebc1b8b4db5a90087a51d8e6d441fe254d0522be5012fd3b4050"
    "3c784ec51781fdb3051c7f17ff45937f05712b1a923c881af904a42e1612f53ed2235224299482a158df8e53"
    "28ef478c7db373d25775c034031c61801e45f777d0f8d8499a6ecda767e42f906dfebec903a30efd5d8c9ea5"
    "5e39dbfc2a"
)


PREDICTED_STREAM = (
    "0d0250063d07a1a8c8f23a121dfe237cacbdd93f4065f2077624df76006049521a87f78d12f3253270e7c146"
    "51f9bf4297016149989402d59b20dc37f7bde5a15c818b066027646fe22d82dd3c96d79c2600099690d9d786"
    "8ce4cbafaf64611918c377131174dc1d37e1bf2bf533dfcc2836bbb17c54f1647e894d5055724b760679c1ad"
    "fea66f5233783047c97d483d0d2296dc794f9a1cd66c7ee7b71b716929904bad3411f32b4d8931ac9633a289"
    "dc499a58589020a27f71679620e055fa09d239c2fbd9b55b87df6e85cc272013899bc14419231ebd7db22650"
    "f1de1e775955"
)


def flipped(stream: bytes, bits: Iterable[int]) -> Iterator[bytes]:
    """The stream with one bit wrong, for each of these."""
    for at in bits:
        broken = bytearray(stream)
        broken[at // 8] ^= 1 << at % 8
        yield bytes(broken)


def n_found_out(stream: bytes, n_tries: int) -> int:
    """Of so many single wrong bits, those that are errors; never another exception."""
    found_out = 0
    for broken in flipped(stream, np.random.default_rng(3).integers(0, 8 * len(stream), n_tries)):
        try:
            assert coders.decode(broken, max_items=100_000).dtype == np.int32
        except (FormatError, CoderNotFoundError):
            found_out += 1
    return found_out


def alike(
    n_rows: int, n_columns: int, n_kinds: int, spread: float, scale: float
) -> NDArray[np.int64]:
    """Rows that are one of so many, and noise."""
    rng = np.random.default_rng(13)
    some = rng.normal(0, 1, (n_kinds, n_columns))[rng.integers(0, n_kinds, n_rows)]
    items = some + rng.normal(0, spread, some.shape)
    return np.rint(scale * items).astype(np.int64)


@pytest.mark.parametrize(("scale", "back"), [(3.0, 64), (0.7, 128), (900.0, 2048)])
def test_rows_that_are_alike(scale: float, back: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared with all rows before, or with the last 64; int6, few levels, low bits."""
    monkeypatch.setattr(cm, "_ALIKE_ROWS", 100)
    monkeypatch.setattr(cm, "BACK", back)
    values = alike(130, 68, 30, 0.3, scale)
    stream = coders.encode(values, "cm")
    start = coders.stream_info(stream).payload_start
    assert stream[start] == 3
    assert 1 << stream[start + 8] == back
    assert np.array_equal(coders.decode(stream), values)
    assert reference_coders.decode(stream) == (values.shape, values.reshape(-1).tolist())
    monkeypatch.setattr(cm, "_ALIKE", 2.0)
    without = coders.encode(values, "cm")
    assert without[start] == 2
    if scale < 900:
        assert len(stream) < 0.98 * len(without)


def test_rows_that_are_alike_pay() -> None:
    """And where they are not, streams are as before: version 2."""
    values = alike(600, 128, 100, 0.5, 3.0)
    unlike = np.rint(np.random.default_rng(14).normal(0, 3, (600, 128))).astype(np.int64)
    found, other = coders.encode(values, "cm"), coders.encode(unlike, "cm")
    start = coders.stream_info(found).payload_start
    assert (found[start], other[start]) == (3, 2)
    assert len(found) < 0.94 * len(coders.encode(values, "ans-scale"))


def test_rows_that_are_compared_and_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cm, "_ALIKE_ROWS", 100)
    stream = coders.encode(alike(110, 72, 30, 0.3, 3.0), "cm")
    assert n_found_out(stream, 100) > 5
    for back in (0, 15, 40, 255):  # one place; more than are allowed
        head = bytearray(stream)
        head[coders.stream_info(stream).payload_start + 8] = back
        if back:
            with pytest.raises(FormatError, match="a head that is not possible"):
                coders.decode(bytes(head))
        else:
            with contextlib.suppress(FormatError):
                assert coders.decode(bytes(head)).shape == (110, 72)


@pytest.mark.parametrize("coder", BUILT_IN)
def test_damage_is_an_error_or_harmless(coder: str) -> None:
    stream = coders.encode(CASES["normal"], coder)
    assert n_found_out(stream, 300) > (0 if coder == "raw" else 2)


@pytest.mark.parametrize("coder", BUILT_IN)
def test_cut_short(coder: str) -> None:
    stream = coders.encode(CASES["normal"], coder)
    for size in {*range(12), *range(0, len(stream), 7), len(stream) - 5}:
        with pytest.raises(FormatError):
            coders.decode(stream[:size])


@pytest.mark.parametrize("coder", [name for name in BUILT_IN if name != "cm"])
def test_bytes_too_many(coder: str) -> None:
    with pytest.raises(FormatError):
        coders.decode(coders.encode(CASES["normal"], coder) + b"\1" * 6)


@pytest.mark.parametrize("coder", BUILT_IN)
def test_a_huge_shape_costs_nothing(coder: str) -> None:
    """What the head claims is compared with the limit before memory is taken."""
    head = bytearray([BUILT_IN[coder].number, 2])
    write_varint(head, 1 << 40)
    write_varint(head, 3)
    with pytest.raises(FormatError, match="allowed"):
        coders.decode(bytes(head) + b"\0" * 40)


@pytest.mark.parametrize("coder", [name for name in OURS if name.startswith("ans-")])
def test_a_flipped_bit_of_ans_words_is_found_out(coder: str) -> None:
    values = CASES["normal"]
    stream = coders.encode(values, coder)
    n_words = 40
    for broken in flipped(stream, range(8 * (len(stream) - n_words), 8 * len(stream))):
        with pytest.raises(FormatError):
            coders.decode(broken)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.zeros((2, 2)), "integers are wanted"),
        (np.array([2**31]), "beyond 32 bits"),
        (np.array([-(2**31) - 1]), "beyond 32 bits"),
        (np.zeros((1,) * 9, np.int8), "9 dimensions"),
    ],
)
def test_what_no_coder_holds(values: NDArray[Any], error: str) -> None:
    with pytest.raises(CoderError, match=error):
        coders.encode(values, "raw")


def test_unknown_coders() -> None:
    with pytest.raises(CoderNotFoundError, match=r"no coder 'nothing'; there are raw, zlib"):
        coders.encode(np.zeros(3, np.int8), "nothing")
    with pytest.raises(FormatError, match="coder number 200"):
        coders.decode(b"\xc8\x00")
    with pytest.raises(FormatError, match="can't be the name"):
        coders.decode(b"\x00\x03../\x01\x01")


def test_numbers_of_coders_are_the_format() -> None:
    numbers = {name: coder.number for name, coder in BUILT_IN.items()}
    assert numbers == {
        "raw": 1, "zlib": 2, "int8+zlib": 3, "bzip2": 4, "lzma": 5, "zstd": 6, "brotli": 7,
        "huffman": 8, "ans-hist": 9, "ans-gauss": 10, "ans-laplace": 11, "ans-mixture": 12,
        "ans-scale": 13, "cm": 14, "trellis": 15,
    }  # fmt: skip


@given(st.integers(0, 2**42 - 1))
def test_varint(value: int) -> None:
    out = bytearray()
    write_varint(out, value)
    assert read_varint(memoryview(out), 0) == (value, len(out))


@given(st.integers(-(2**40), 2**40))
def test_zigzag(value: int) -> None:
    assert unzigzag(zigzag(value)) == value
    assert zigzag(value) >= 0


def test_scales_pay() -> None:
    """Columns of different scales: ans-scale and cm must gain what one table can't have."""
    rng = np.random.default_rng(5)
    sigma = np.exp2(rng.integers(-2, 3, (1, 128)))
    values = np.rint(rng.normal(0, 2.4, (512, 128)) * sigma).astype(np.int64)
    sizes = {name: len(coders.encode(values, name)) for name in ("ans-hist", "ans-scale", "cm")}
    assert sizes["ans-scale"] < 0.93 * sizes["ans-hist"]
    assert sizes["cm"] < 0.93 * sizes["ans-hist"]


def test_what_columns_have_in_common_pays() -> None:
    """Linear prediction: half of the variance is shared by all columns."""
    rng = np.random.default_rng(6)
    values = rng.normal(0, 3, (600, 1)) + rng.normal(0, 3, (600, 48))
    items = np.rint(values).astype(np.int64)
    sizes = {name: len(coders.encode(items, name)) for name in ("ans-hist", "ans-scale", "cm")}
    assert 8 * (sizes["ans-hist"] - sizes["cm"]) / items.size > 0.25  # half a bit in the limit
    assert 8 * (sizes["ans-hist"] - sizes["ans-scale"]) / items.size > 0.25


@pytest.mark.parametrize("case", PREDICTED)
def test_predicted_streams(case: str) -> None:
    """Blocks of rows, items that are no levels, a mean that is far off, narrow items."""
    values = PREDICTED[case]
    stream = coders.encode(values, "ans-scale")
    assert np.array_equal(coders.decode(stream), values)
    assert reference_coders.decode(stream) == (values.shape, values.reshape(-1).tolist())
    start = coders.stream_info(stream).payload_start
    n_head, at = read_varint(memoryview(stream), start)
    _, model = ans.read_head(memoryview(stream)[at : at + n_head], (len(values), values.shape[1]))
    assert model.prediction is not None


def test_a_predicted_stream_that_was_damaged() -> None:
    stream = coders.encode(PREDICTED["outliers"], "ans-scale")
    assert n_found_out(stream, 200) > 190  # all in the words, most of the head


def test_prediction_of_too_many_columns() -> None:
    """Weights are as many as the columns' square: refused before they are read."""
    out = NumberWriter(10)
    for number, context in ((0, 0), (0, 1), (0, 2), (8, 4)):
        out.number(number, context)
    head = out.finish()
    stream = bytearray([BUILT_IN["ans-scale"].number, 2])
    for number in (64, 1 << 20, len(head)):
        write_varint(stream, number)
    with pytest.raises(FormatError, match="prediction of 1048576 columns"):
        coders.decode(bytes(stream) + head + bytes(64))


def test_close_to_the_true_entropy() -> None:
    """65,536 normal numbers of known deviation: 0.15 % for ANS, 0.4 % while cm learns."""
    import math

    rng = np.random.default_rng(8)
    values = np.rint(rng.normal(0, 2.4, (512, 128))).astype(np.int64)
    scale = 2.4 * math.sqrt(2)
    bits = sum(
        -math.log2((math.erf((v + 0.5) / scale) - math.erf((v - 0.5) / scale)) / 2)
        for v in np.abs(values).reshape(-1).tolist()
    )
    assert 8 * len(coders.encode(values, "ans-gauss")) < 1.0015 * bits
    assert 8 * len(coders.encode(values, "cm")) < 1.004 * bits


def test_streams_are_pinned() -> None:
    """The encoders too: a change of bytes is meant, or it is a mistake."""
    found = {
        name: hashlib.sha256(coders.encode(golden_values(), name)).hexdigest()[:16]
        for name in ("raw", "huffman", "ans-hist")
    }
    pinned = {name: hashlib.sha256(bytes.fromhex(STREAMS[name])).hexdigest()[:16] for name in found}
    assert found == pinned


def test_machine_code_is_kept() -> None:
    """Of our own coders; what is there already is used without numba."""
    program = "import sys, numpy as np; from pgolf_codec.quant import coders; "
    program += "a = np.arange(-600, 600).reshape(40, 30) % 9; "
    program += "b = [coders.decode(coders.encode(a, name)) for name in sys.argv[1:]]; "
    program += "assert all((a == c).all() for c in b); print('numba' in sys.modules)"
    runs = [
        subprocess.run(
            [sys.executable, "-c", program, *OURS], check=True, capture_output=True, text=True
        ).stdout.strip()
        for _ in range(2)  # the first may have to compile
    ]
    assert runs[1] == "False"


def test_machine_code_depends_on_all_kernels() -> None:
    """A change of any module of kernels is a change of what is kept."""
    folder = Path(coders.__file__).parent
    kernels = {path.name for path in folder.glob("*.py") if "@jit" in path.read_text()}
    named = {Path(name).name for name in (*SOURCES, *STATIC_SOURCES)}
    assert kernels - {"trellis_kernel.py"} <= named
    assert "arithmetic.py" in kernels
