"""pack, unpack, coders and bench-coders from the command line; coders of other packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf_codec.cli import main
from pgolf_codec.errors import CoderError, ConfigError
from pgolf_codec.quant.comparison import Row, totals
from pgolf_codec.quant.safetensors_file import (
    read_safetensors,
    read_with_metadata,
    write_safetensors,
)
from pgolf_codec.quant.tensors import Tensor


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    path = tmp_path / "model.safetensors"
    tensors = {
        "layer.w": Tensor.from_array(rng.normal(0, 0.1, (48, 64)).astype(np.float32)),
        "layer.b": Tensor.from_array(rng.normal(0, 0.1, 48).astype(np.float32)),
        "table": Tensor.from_array(rng.integers(-3, 4, (30, 20)).astype(np.int8)),
    }
    write_safetensors(path, tensors)
    return path


def test_there_and_back(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, back = weights.with_suffix(".pgw"), weights.with_name("back.safetensors")
    assert main(["pack", str(weights), "--coder", "ans-hist"]) == 0
    assert "3720 parameters" in capsys.readouterr().out
    assert main(["unpack", str(packed), "-o", str(back)]) == 0
    assert back.read_bytes() == weights.read_bytes()
    assert main(["pack", str(weights)]) == 1
    assert "already exists" in capsys.readouterr().err
    assert main(["unpack", str(packed), "-o", str(back), "-f", "--tensor", "table"]) == 0
    assert list(read_safetensors(back)) == ["table"]
    assert main(["unpack", str(packed), "-o", str(back), "-f", "--tensor", "chair"]) == 1
    assert "has no tensor 'chair'" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--quant", "trellis", "--budget", "2500"]])
def test_what_a_file_says_of_itself_comes_back(options: list[str], weights: Path) -> None:
    """transformers reads no file without ``format``."""
    tensors, metadata = read_safetensors(weights), {"format": "pt", "é": ""}
    write_safetensors(weights, tensors, metadata=metadata, overwrite=True)
    assert main(["pack", str(weights), *options]) == 0
    back = weights.with_name("back.safetensors")
    assert main(["unpack", str(weights.with_suffix(".pgw")), "-o", str(back)]) == 0
    found, told = read_with_metadata(back)
    assert found.keys() == tensors.keys()
    assert told == metadata


def test_report_and_rules(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = weights.with_name("rules.toml")
    rules.write_text('[[rule]]\nmatch = "*.b"\nquant = "none"\n')
    target = weights.with_name("x.pgw")
    command = ["pack", str(weights), "-o", str(target), "--quant", "int6:12.85", "--json"]
    assert main([*command, "--rules", str(rules)]) == 0
    report = json.loads(capsys.readouterr().out)
    schemes = {row["tensor"]: row["scheme"] for row in report["tensors"]}
    assert schemes == {"layer.w": "int6:12.85", "layer.b": "none", "table": "none"}
    assert report["totals"]["file_bytes"] == target.stat().st_size
    rules.write_text(rules.read_text() + '[[rule]]\nmatch = "layers.*"\nquant = "int4"\n')
    for verb in ([*command[:-1], "-f"], ["bench-coders", *command[1:2], "--coders", "raw"]):
        assert main([*verb, "--rules", str(rules)]) == 0
        assert capsys.readouterr().err.endswith("no tensor matches the rule 'layers.*'\n")
    assert main(["unpack", str(target), "--integers"]) == 0
    tensors = read_safetensors(target.with_suffix(".safetensors"))
    assert list(tensors) == ["layer.w.q", "layer.w.s", "layer.b", "table"]
    assert tensors["layer.w.q"].dtype == "I8"
    assert tensors["layer.w.s"].dtype == "F16"
    assert main(["bench-coders", str(target), "--coders", "raw,huffman", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {(row["tensor"], row["coder"]) for row in found["rows"]} == {
        (tensor, coder) for tensor in ("layer.w", "table") for coder in ("raw", "huffman")
    }
    sizes = {total["coder"]: total["coded_bytes"] for total in found["totals"]}
    assert sizes["huffman"] < sizes["raw"]
    for coder, size in sizes.items():
        assert size == sum(r["coded_bytes"] for r in found["rows"] if r["coder"] == coder)


def test_bench_of_everything(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("brotli")
    pytest.importorskip("matplotlib")
    picture = weights.with_name("front.svg")
    command = ["bench-coders", str(weights), "--quant", "int4", "--json", "--plot", str(picture)]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["totals"]) == 15
    for row in found["rows"]:
        assert row["bits_per_param"] == pytest.approx(8 * row["coded_bytes"] / row["n_params"])
    assert picture.read_bytes().startswith(b"<?xml")


def test_totals() -> None:
    """Entropy is weighed by parameters; a coder that could not hold all comes last."""
    rows = [
        Row("a", "one", 100, 2.0, 30, 1.0, 2.0),
        Row("b", "one", 300, 4.0, 160, 1.0, 2.0),
        Row("a", "two", 100, 2.0, 40, 1.0, 1.0),
        Row("b", "two", 300, 4.0, 140, 1.0, 1.0),
        Row("a", "three", 100, 2.0, 25, 1.0, 1.0),
    ]
    found = totals(rows)
    assert [(t["coder"], t["n_tensors"], t["coded_bytes"]) for t in found] == [
        ("two", 2, 180), ("one", 2, 190), ("three", 1, 25)
    ]  # fmt: skip
    assert found[1]["entropy_bits_per_param"] == 3.5
    assert found[1]["bits_per_param"] == 8 * 190 / 400
    assert found[1]["ratio_to_entropy"] == pytest.approx(8 * 190 / 400 / 3.5)
    assert found[1]["encode_mparam_per_second"] == pytest.approx(400e-6 / 2)
    assert found[1]["decode_mparam_per_second"] == pytest.approx(400e-6 / 4)


def test_no_coder_holds_them(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(values: object, coder: str) -> bytes:
        raise CoderError("not these")

    monkeypatch.setattr("pgolf_codec.quant.coders.encode", refuses)
    assert main(["bench-coders", str(weights), "--coders", "raw,cm", "--plot", "x.png"]) == 1
    assert "raw, cm: can't hold any of these tensors" in capsys.readouterr().err


def numbers(report: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(report)["bill"]
    return found


def big(folder: Path) -> Path:
    """40 thousand weights, one layer wilder than the other, and a tensor that stays lossless."""
    rng = np.random.default_rng(4)
    path = folder / "big.safetensors"
    tensors = {
        "a": Tensor.from_array(rng.normal(0, 0.1, (160, 128)).astype(np.float32)),
        "b": Tensor.from_array((rng.standard_t(4, (150, 128)) * 3).astype(np.float32)),
        "norm": Tensor.from_array(np.ones(128, np.float32)),
    }
    write_safetensors(path, tensors)
    return path


@pytest.mark.parametrize("options", [[], ["--quant", "step:0.3"], ["--quant", "int6:12.85"]])
def test_a_budget_lands(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under the cap, code and all, and within 0.1% of it; the same bytes again."""
    weights, packed, code = big(tmp_path), tmp_path / "big.pgw", tmp_path / "train_gpt.py"
    code.write_bytes(b"#" * 1234)
    command = ["pack", str(weights), "--budget", "17000", "--code", str(code), "--json", *options]
    assert main(command) == 0
    bill = numbers(capsys.readouterr().out)
    assert bill["code_bytes"] == 1234
    assert bill["model_bytes"] == packed.stat().st_size
    assert bill["challenge_bytes"] == bill["model_bytes"] + 1234
    assert 17000 - 17 <= bill["challenge_bytes"] <= 17000
    assert bill["all_bytes"] > bill["challenge_bytes"] + 100_000  # this package's code
    first = packed.read_bytes()
    assert main([*command, "-f"]) == 0
    assert packed.read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "big.pgw", "big.safetensors", "train_gpt.py"
    ]  # fmt: skip
    assert main(["unpack", str(packed), "-o", str(tmp_path / "back.safetensors")]) == 0
    before, after = read_safetensors(weights), read_safetensors(tmp_path / "back.safetensors")
    for name in ("a", "b"):
        w, v = before[name].floats().astype(float), after[name].floats().astype(float)
        assert 0 < np.sqrt(np.mean((w - v) ** 2)) / w.std() < 0.25
    assert np.array_equal(before["norm"].bits, after["norm"].bits)


def test_a_search_that_was_stopped_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgolf_codec.quant import packing

    weights, real, calls = big(tmp_path), packing.pack, [0]
    command = ["pack", str(weights), "--budget", "17000", "--quant", "step", "-v"]
    command += ["--coder", "trellis"]

    def stopping(*arguments: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "pack", stopping)
    assert main(command) == 130
    assert (tmp_path / "big.pgw.search").exists()
    assert not (tmp_path / "big.pgw").exists()
    stopped = capsys.readouterr().err.count("octaves")
    assert main(command) == 0
    tried = capsys.readouterr().err.count("octaves")
    assert stopped == 1
    assert calls[0] - 2 == tried - 1 > 0  # the first was known
    assert not (tmp_path / "big.pgw.search").exists()


def test_a_search_of_something_else_does_not_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With other code in the bill, or kept by a release whose files had other sizes."""
    weights, code, search = big(tmp_path), tmp_path / "x.py", tmp_path / "big.pgw.search"
    code.write_bytes(b"#" * 100)
    command = ["pack", str(weights), "--budget", "17000", "--code", str(code), "--json"]
    key = ""

    def keeping(path: Path, of: str, known: dict[float, int]) -> None:
        nonlocal key
        key = of

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pgolf_codec.quant.budget._keep", keeping)
        assert main(command) == 0
    capsys.readouterr()
    for n_bytes in (100, 2000):
        search.write_text(json.dumps({"key": key, "weighed": [[0.0, 16_999]]}))
        code.write_bytes(b"#" * n_bytes)
        assert main([*command, "-f", "-v"]) == 0
        told = capsys.readouterr()
        assert 17000 - 17 <= numbers(told.out)["challenge_bytes"] <= 17000
        assert ("another release" in told.err) is (n_bytes == 100)


def test_the_smallest_matrix_that_is_quantized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.safetensors"
    shapes = {"a": (32, 32), "b": (31, 33)}
    arrays = {n: np.arange(s[0] * s[1], dtype=np.float32).reshape(s) for n, s in shapes.items()}
    write_safetensors(path, {n: Tensor.from_array(a) for n, a in arrays.items()})
    assert main(["pack", str(path), "--quant", "int8", "--coder", "raw", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tensors"]
    assert [row["scheme"] for row in rows] == ["int8", "none"]


def test_budgets_that_nothing_meets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = big(tmp_path)
    for options, message in (
        (["--budget", "300"], "no steps land"),
        (["--budget", "300", "--code", str(weights)], "--code alone has"),
        (["--budget", "17000", "--quant", "int6"], "no tensor has a scheme with steps"),
        (["--budget", "17000", "--code", str(tmp_path / "none.py")], "no such file"),
    ):
        assert main(["pack", str(weights), *options]) == 1
        assert message in capsys.readouterr().err.replace("No such", "no such")
    assert [path.name for path in tmp_path.iterdir()] == ["big.safetensors"]
    for budget in ("0", "-5", "1e6"):
        assert main(["pack", str(weights), "--budget", budget]) == 2


def test_errors_leave_nothing(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(weights.parent.iterdir())
    for arguments, message in (
        (["pack", str(weights), "--coder", "nothing"], "no coder 'nothing'"),
        (["pack", str(weights), "--quant", "int7"], "no scheme 'int7'"),
        (["pack", str(weights.with_name("none.safetensors"))], "no such file"),
        (["unpack", str(weights), "-f"], "magic number"),
        (["bench-coders", str(weights), "--coders", "raw,none"], "no coder 'none'"),
    ):
        assert main(arguments) == 1
        assert message in capsys.readouterr().err
    assert sorted(weights.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff", "can't decode byte 0xff"),
        (b"[[rule]\n", "Expected ']]'"),
        (b"[[rule]]\nmatch = '*'\nquant = 'int7'\n", "no scheme 'int7'"),
        (b"[[rule]]\nmatch = '*'\nquant = 'int8'\ncoder = 'nothing'\n", "no coder 'nothing'"),
    ],
)
def test_rules_that_are_none(
    text: bytes, message: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = weights.with_name("rules.toml")
    rules.write_bytes(text)
    assert main(["pack", str(weights), "--rules", str(rules)]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert f"{rules}: " in told or "coder" in message
    assert not weights.with_suffix(".pgw").exists()


def test_outputs_are_checked_before_the_work(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgolf_codec.quant import comparison, packing

    packed = weights.with_name("ready.pgw")
    assert main(["pack", str(weights), "-o", str(packed), "--coder", "raw"]) == 0
    before = {path: path.read_bytes() for path in weights.parent.iterdir()}

    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(packing, "pack", never)
    monkeypatch.setattr(comparison, "compare", never)
    monkeypatch.setattr("pgolf_codec.quant.bag.Bag.__getitem__", never)
    nowhere = weights.parent / "no" / "where.svg"
    pack, unpack = ["pack", str(weights), "-o"], ["unpack", str(packed), "-o"]
    bench = ["bench-coders", str(weights), "--quant", "int4", "--plot"]
    for arguments, status, message in (
        ([*pack, str(weights.parent), "-f"], 1, "is a directory"),
        ([*pack, str(nowhere)], 1, "is not a folder"),
        ([*pack, str(weights), "-f"], 1, "is the source"),
        ([*pack, "-"], 2, "the name of a file"),
        ([*pack, "/dev/stdout", "-f"], 2, "the name of a file"),
        ([*unpack, str(weights)], 1, "already exists"),
        ([*unpack, str(packed), "-f"], 1, "is the source"),
        ([*unpack, "-"], 2, "the name of a file"),
        (["pack", "-", "-o", "x.pgw"], 2, "FILE needs the name of a file"),
        (["unpack", "-", "-o", "x.safetensors"], 2, "FILE needs the name of a file"),
        (["pack", str(packed), "-o", "x.pgw"], 1, f"{packed}: is packed already"),
        ([*bench, str(nowhere)], 1, "is not a folder"),
        ([*bench, "picture"], 2, "draws .png or .svg"),
        (["pack", str(weights), "--tokenizer", str(nowhere)], 1, "no such file"),
        (["pack", str(weights), "--coder", "search"], 1, "no coder 'search'"),
        (["pack", str(weights), "--quant", ""], 1, "no scheme ''"),
        (["pack", str(weights), "--recipe", "x.toml"], 2, "--recipe is for a .pglm"),
        ([*pack, "x.pglm", "--quant", "int4"], 2, "--quant is not for a .pglm"),
        (["pack", "x.pglm", "--rules", "x.toml"], 2, "--rules is for a checkpoint"),
        (["pack", str(weights), "-o", "x.pgw", "--key", "ema"], 1, f"{weights}: key 'ema'"),
        (["bench-coders", str(weights), "--key", "ema"], 1, f"{weights}: key 'ema' is for"),
        (["bench-coders", str(packed), "--key", "ema"], 2, "--key is for a torch checkpoint"),
    ):
        assert main(arguments) == status, arguments
        assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in weights.parent.iterdir()} == before


def test_names_of_integers_that_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, w = tmp_path / "x.safetensors", Tensor.from_array(np.ones((40, 40), np.float32))
    write_safetensors(path, {"w": w, "w.s": Tensor.from_array(np.ones(3))})
    packed = str(path.with_suffix(".pgw"))
    assert main(["pack", str(path), "--quant", "int8", "--coder", "raw"]) == 0
    command = ["unpack", packed, "-o", str(tmp_path / "back.safetensors")]
    assert main([*command, "--integers"]) == 1
    assert f"{packed}: two tensors would be named 'w.s'" in capsys.readouterr().err
    assert main([*command, "--integers", "--tensor", "w", "--tensor", "w"]) == 0


def test_tensors_from_a_pipe(weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(weights), "--coder", "raw"]) == 0
    reader, writer = os.pipe()
    os.write(writer, weights.with_suffix(".pgw").read_bytes()[:999])
    try:
        assert main(["unpack", f"/dev/fd/{reader}", "-o", str(weights.with_name("x"))]) == 1
    finally:
        os.close(reader)
        os.close(writer)
    assert f"/dev/fd/{reader}: is a pipe" in capfd.readouterr().err


def test_errors_name_the_file(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, text = weights.with_suffix(".pgw"), weights.with_name("text.pgw")
    text.write_text("hello\n")
    assert main(["pack", str(weights), "--coder", "raw"]) == 0
    packed.write_bytes(packed.read_bytes()[:-1])
    capsys.readouterr()
    for verb in ("unpack", "bench-coders"):
        for path in (packed, text):
            assert main([verb, str(path)]) == 1
            assert capsys.readouterr().err.count(str(path)) == 1


@pytest.mark.parametrize("verb", ["pack", "bench-coders"])
def test_tensors_that_cannot_be_quantized_are_named(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Infinity, and floats of 8 bits: not kept as they are without a word."""
    good = np.ones((40, 50), np.float32)
    bad, small = np.where(np.eye(40, 50), np.inf, good), np.zeros(2000, np.uint8)
    for tensor, message in (
        (Tensor.from_array(bad), "tensor layers.1: int4: NaN or infinity"),
        (Tensor.from_bytes("F8_E4M3", (40, 50), small.tobytes()), "int4 of F8_E4M3"),
    ):
        path = tmp_path / "x.safetensors"
        write_safetensors(
            path, {"layers.0": Tensor.from_array(good), "layers.1": tensor}, overwrite=True
        )
        assert main([verb, str(path), "--quant", "int4"]) == 1
        told = capsys.readouterr().err
        assert message in told
        assert "tensor layers.1: " in told
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nmatch = "layers.1"\nquant = "none"\n')
    assert main([verb, str(path), "--quant", "int4", "--rules", str(rules)]) == 0


def test_coders_that_are_not_there_are_left_out(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)
    assert main(["coders", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in listed if not row["usable"]] == ["brotli"]
    monkeypatch.setattr("pgolf_codec.quant.coders.coder_names", lambda: ["raw", "brotli"])
    assert main(["bench-coders", str(weights), "--json"]) == 0
    told = capsys.readouterr()
    assert {row["coder"] for row in json.loads(told.out)["rows"]} == {"raw"}
    assert "pip install pgolf-codec[bench]" in told.err
    assert main(["bench-coders", str(weights), "--coders", "raw,brotli"]) == 1


def test_a_coder_named_twice_counts_once(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench-coders", str(weights), "--coders", "raw,raw", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 1
    assert found["totals"][0]["coded_bytes"] == found["rows"][0]["coded_bytes"]


@pytest.mark.parametrize(("options", "coder"), [([], "cm"), (["--coder", "huffman"], "huffman")])
def test_the_recipe_names_a_coder(
    options: list[str],
    coder: str,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    recipe, tokenizer = weights.with_name("recipe.toml"), weights.with_name("t.model")
    recipe.write_text('[export]\ncoder = "cm"\n')
    tokenizer.write_text("not read")

    def pack(*arguments: Any, **named: Any) -> None:
        raise ConfigError(f"coder {arguments[3].coder}")

    monkeypatch.setattr("pgolf_codec.lm.artifact.pack", pack)
    monkeypatch.setattr("pgolf_codec.lm.conversion.export.load_checkpoint", lambda *_: None)
    monkeypatch.setattr(
        "pgolf_codec.codec.tokenizer.Tokenizer.from_sentencepiece", lambda data: None
    )
    command = ["pack", str(weights), "-o", "x.pglm", "--tokenizer", str(tokenizer)]
    command += ["--calibration", "ids.bin", "--recipe", str(recipe)]
    assert main([*command, *options]) == 1
    assert f"coder {coder}" in capsys.readouterr().err


def test_list_of_coders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coders"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[:14] == [
        "raw", "zlib", "int8+zlib", "bzip2", "lzma", "zstd", "brotli", "huffman", "ans-hist",
        "ans-gauss", "ans-laplace", "ans-mixture", "ans-scale", "cm",
    ]  # fmt: skip


def test_coders_that_can_not_be_had(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each is told, by name, and none stops the others."""
    (tmp_path / "leaving_coder.py").write_text("raise SystemExit('bye')\n")
    (tmp_path / "raising_coder.py").write_text("raise ZeroDivisionError('no')\n")
    (tmp_path / "mute_coder.py").write_text(
        "class C:\n    summary = 3\n    encode = decode = C = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint(name, value, "pgolf_codec.coders")
        for name, value in (
            ("two", "one_coder:C"), ("two", "other_coder:C"), ("leaves", "leaving_coder"),
            ("raises", "raising_coder:C"), ("a b", "mute_coder:C"), ("mute", "mute_coder:C"),
        )
    ]  # fmt: skip
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    assert main(["coders", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = {row["name"]: row["summary"] for row in rows if not row["built_in"]}
    assert not any(row["usable"] for row in rows if not row["built_in"])
    assert told == {
        "two": "coder 'two' is in one_coder:C and in other_coder:C",
        "leaves": "coder 'leaves' can't be loaded: SystemExit: bye",
        "raises": "coder 'raises' can't be loaded: ZeroDivisionError: no",
        "a b": "'a b' of mute_coder:C can't be the name of a coder",
        "mute": "coder 'mute' of mute_coder:C is not a Coder",
    }


PLUG_IN = """
import numpy as np

class Backwards:
    summary = "the items as bytes, last one first"

    def encode(self, values):
        return values.astype("<i4").tobytes()[::-1]

    def decode(self, payload, shape):
        return np.frombuffer(bytes(payload)[::-1], "<i4").astype(np.int32).reshape(shape)

broken = object()
"""
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "backwards-coder"
version = "1.0"
[project.entry-points."pgolf_codec.coders"]
backwards = "backwards_coder:Backwards"
broken = "backwards_coder:broken"
absent = "backwards_coder:absent"
raw = "backwards_coder:Backwards"
[tool.setuptools]
py-modules = ["backwards_coder"]
"""


def test_a_coder_of_another_package(weights: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "project", tmp_path / "site"
    source.mkdir()
    (source / "backwards_coder.py").write_text(PLUG_IN)
    (source / "pyproject.toml").write_text(PROJECT)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run(
        [*install, "--no-build-isolation", "--target", str(target), str(source)], check=True
    )

    def run(*arguments: str, there: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pgolf_codec", *arguments],
            env={**os.environ, "PYTHONPATH": str(target) if there else ""},
            capture_output=True,
            text=True,
            check=False,
        )

    listed = [json.loads(line) for line in run("coders", "--json").stdout.splitlines()]
    found = {row["name"]: row for row in listed}
    assert found["backwards"]["usable"]
    assert not found["backwards"]["built_in"]
    assert "is not a Coder" in found["broken"]["summary"]
    assert "can't be loaded" in found["absent"]["summary"]
    assert found["raw"]["built_in"]

    packed, back = tmp_path / "x.pgw", tmp_path / "x.safetensors"
    assert run("pack", str(weights), "-o", str(packed), "--coder", "backwards").returncode == 0
    assert run("unpack", str(packed), "-o", str(back)).returncode == 0
    assert back.read_bytes() == weights.read_bytes()
    without = run("unpack", str(packed), "-o", str(back), "-f", there=False)
    assert without.returncode == 1
    assert "no coder 'backwards'" in without.stderr
    rows = json.loads(run("bench-coders", str(weights), "--quant", "int4", "--json",
                          "--coders", "backwards,raw").stdout)["rows"]  # fmt: skip
    assert {row["coder"] for row in rows} == {"backwards", "raw"}
