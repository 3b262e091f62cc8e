"""The self-contained program: its contents, its stand-ins, and real runs of it."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import CorruptError
from pgolf_codec.eval import (
    stand_in_ans_words,
    stand_in_constriction,
    stand_in_engine,
    stand_in_numba,
    stand_in_zstandard,
)
from pgolf_codec.eval.bundle import (
    STAND_INS,
    imports,
    make_bundle,
    needed_sources,
    without_docstrings,
)
from pgolf_codec.eval.logs import read_log
from pgolf_codec.models import load_model
from pgolf_codec.quant import histogram

if TYPE_CHECKING:
    from conftest import Golf

RECIPE = "# é '''\n[train]\npath = 'C:\\\\x \"\"\" {braces}'\n"


def payload(program: bytes) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "not main"}
    exec(compile(program, "train_gpt.py", "exec"), namespace)
    return dict(namespace["PAYLOAD"])


def test_what_is_in_it() -> None:
    sources = needed_sources()
    assert {"pgolf_codec", "pgolf_codec.lm", "pgolf_codec.lm.golf", "pgolf_codec.lm.train"} <= set(
        sources
    )
    assert {"pgolf_codec.quant.artifact", "pgolf_codec.errors", "constriction"} <= set(sources)
    left_out = {"lm.kernels", "codec.stream", "cli"}
    assert not {f"pgolf_codec.{name}" for name in left_out} & set(sources)
    for source in sources.values():
        assert imports(source) <= set(sources)
        top = {n.split(".")[0] for n in _imported(source)} - set(sys.stdlib_module_names)
        assert top <= {"pgolf_codec", "torch", "numpy", "sentencepiece", *STAND_INS}


def _imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            found.add(node.module)
    return found


@pytest.mark.parametrize("plain", [False, True])
def test_it_carries_recipe_and_sources(plain: bool) -> None:
    program = make_bundle(RECIPE, name='A "name" \\', plain=plain)
    assert program == make_bundle(RECIPE, name='A "name" \\', plain=plain)
    held, sources = payload(program), needed_sources()
    assert held["recipe"] == RECIPE
    assert set(held["sources"]) == set(sources)
    if plain:
        assert held["sources"] == sources
        assert b"\nclass Transformer(" in program
    else:
        assert len(program) < 80_000
        for name, source in held["sources"].items():
            assert source == without_docstrings(sources[name])


def test_docstrings_go_and_statements_stay() -> None:
    source = (
        '"""Doc."""\nX = 1\n"""of X"""\n\ndef f():\n    """Doc."""\n\nclass A:\n    """Doc."""\n'
    )
    source += (
        "    b: int = 3\n    'of b'\n\ndef g(x=lambda: 'kept'):\n    # comment\n    return 'kept'\n"
    )
    expected = (
        "X = 1\n\ndef f():\n    pass\n\nclass A:\n    b: int = 3\n\n"
        "def g(x=lambda: 'kept'):\n    return 'kept'\n"
    )
    assert without_docstrings(source) == expected


def test_imports_are_followed_into_functions_but_not_type_checking() -> None:
    source = """
import os, pgolf_codec.files
from pgolf_codec.lm.integers import kernels
from pgolf_codec.lm import no_such_thing
if TYPE_CHECKING:
    from pgolf_codec.lm.integers.engine import Engine
def f():
    from pgolf_codec.lm.config import load_recipe
"""
    assert imports(source) == {
        "pgolf_codec.files",
        "pgolf_codec.lm",
        "pgolf_codec.lm.integers",
        "pgolf_codec.lm.integers.kernels",
        "pgolf_codec.lm.config",
    }


def test_unpack(tmp_path: Path) -> None:
    (tmp_path / "train_gpt.py").write_bytes(make_bundle(RECIPE))
    command = [sys.executable, "-S", "train_gpt.py", "--unpack", "out"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=240)
    assert (tmp_path / "out/recipe.toml").read_text(encoding="utf-8") == RECIPE
    source = (tmp_path / "out/pgolf_codec/lm/data/shards.py").read_text(encoding="utf-8")
    assert source == without_docstrings(needed_sources()["pgolf_codec.lm.data.shards"])


@pytest.mark.parametrize("scale", [0.3, 2.0, 40.0])
def test_the_stand_in_for_constriction_writes_the_same_words(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(7)
    for n in (1, 2, 3, 1000):
        values = np.clip(np.rint(rng.normal(0, scale, n)), -127, 127).astype(np.int8)
        real = histogram.encode(values)
        with monkeypatch.context() as patch:
            patch.setattr(histogram, "ans_words", stand_in_ans_words)
            assert (histogram.decode(memoryview(real), n) == values).all()
            patch.setitem(sys.modules, "constriction", stand_in_constriction)
            assert histogram.encode(values) == real
            assert (histogram.decode(memoryview(real), n) == values).all()
            if n == 1000 and len(real) > 50:
                with pytest.raises(CorruptError):
                    histogram.decode(memoryview(real), n - 1)


def test_all_of_it_can_be_imported_where_everything_is_installed(tmp_path: Path) -> None:
    """From the bundle, not from the package, although that is installed here."""
    (tmp_path / "train_gpt.py").write_bytes(make_bundle(RECIPE))
    code = """
import importlib, train_gpt
train_gpt.install()
for name in train_gpt.PAYLOAD["sources"]:
    module = importlib.import_module(name)
    own = "train_gpt-" in module.__file__
    assert own == name.startswith("pgolf_codec"), (name, module.__file__)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=280)


def test_the_stand_in_for_numba() -> None:
    def double(x: int) -> int:
        return 2 * x

    assert stand_in_numba.njit(double) is double
    assert stand_in_numba.njit(cache=True, nogil=True)(double) is double


def test_the_stand_in_for_zstandard(monkeypatch: pytest.MonkeyPatch) -> None:
    import zstandard

    for data in (b"", b"x" * 5, bytes(range(256)) * 1500):
        frame = stand_in_zstandard.ZstdCompressor(level=19).compress(data)
        assert zstandard.get_frame_parameters(frame).content_size == len(data)
        assert zstandard.ZstdDecompressor().decompress(frame) == data
        assert stand_in_zstandard.ZstdDecompressor().decompress(frame) == data
        for bad in (frame[:-1], frame + b"x", frame[:4] + b"\x00" + frame[5:], b""):
            with pytest.raises(stand_in_zstandard.ZstdError):
                stand_in_zstandard.ZstdDecompressor().decompress(bad)
    compressed = zstandard.ZstdCompressor().compress(b"x" * 1000)
    with pytest.raises(stand_in_zstandard.ZstdError, match="install zstandard"):
        stand_in_zstandard.ZstdDecompressor().decompress(compressed)
    tokenizer = load_model().tokenizer
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "zstandard", stand_in_zstandard)
        blob = tokenizer.to_bytes()
    assert Tokenizer.from_bytes(blob).table == tokenizer.table


def test_the_stand_in_for_the_engine_refuses_what_the_engine_refuses() -> None:
    from pgolf_codec.lm.integers.engine import make_params
    from pgolf_codec.lm.integers.weights import IntegerWeights

    weights = load_model().artifact.weights
    stand_in_engine.make_params(weights)
    c = weights.config
    values = slice((c.n_heads + c.n_kv_heads) * c.d_head, None)
    for name in sorted(weights.tensors):
        if weights.tensors[name].dtype != np.float16:
            continue
        for scale in (2.0, 40.0, 600.0, 65000.0):
            tensors = {key: tensor.copy() for key, tensor in weights.tensors.items()}
            part = values if name.endswith("qkv.s") else slice(None)
            tensors[name][..., part] = scale
            changed = IntegerWeights(c, tensors)
            verdicts = []
            for make in (make_params, stand_in_engine.make_params):
                try:
                    make(changed)
                    verdicts.append(True)
                except CorruptError:
                    verdicts.append(False)
            assert verdicts[0] == verdicts[1], (name, scale)


@pytest.mark.timeout(900)
def test_a_run_where_nothing_else_is_installed(golf: Golf, two_runs: list[Path]) -> None:
    """Its log, its artifact, and the score by another road."""
    code = (golf.folder / "train_gpt.py").read_bytes()
    for seed, folder in enumerate(two_runs, 1):
        log = read_log(folder / "log.txt")
        assert (log.seed, log.world_size) == (seed, seed)
        assert log.code_sha256 == hashlib.sha256(code).hexdigest()
        assert log.code_bytes == len(code)
        artifact = folder / "model.pglm"
        assert log.model_bytes == artifact.stat().st_size
        assert log.total_bytes == len(code) + artifact.stat().st_size
        assert {score.val_bpb for score in log.scores if score.label.endswith("_exact")} == {
            log.score.val_bpb
        }
        # The integers of this artifact, by the real engine, on the same rows.
        bits = integer_bits(artifact, folder / "tokens" / "val.bin")
        facts = json.loads((folder / "tokens" / "val.json").read_text())
        assert bits / facts["n_bytes"] == pytest.approx(log.score.val_bpb, rel=0.02)
        loss = bits * math.log(2) / facts["n_tokens"]
        assert loss == pytest.approx(log.score.val_loss, rel=0.02)
    assert (
        two_runs[0].joinpath("tokens/val.bin").read_bytes()
        == two_runs[1].joinpath("tokens/val.bin").read_bytes()
    )


def integer_bits(artifact: Path, val: Path) -> float:
    model = load_model(artifact)
    rows = np.fromfile(val, "<u2").reshape(-1, 64).astype(np.int32)
    session = model.predictor.session(len(rows))
    _, freq = session.intervals(rows)
    return float(-np.log2(freq / 2.0**24).sum())


@pytest.mark.timeout(900)
def test_bytes_of_the_validation_text_are_counted(golf: Golf, two_runs: list[Path]) -> None:
    """Rows hold whole documents but the last: bytes are those of the documents themselves."""
    facts = json.loads((two_runs[0] / "tokens/val.json").read_text())
    manifest = json.loads((golf.data.parent.parent / "manifest.json").read_text())
    stats = manifest["datasets"][0]["stats"]
    ids = np.fromfile(golf.data / "fineweb_val_000000.bin", "<u2")[512:]
    tokenizer = Tokenizer.from_sentencepiece(
        (golf.data.parent.parent / "tokenizers/toy.model").read_bytes()
    )
    cut = len(ids) // 64 * 64
    assert facts["n_tokens"] == cut
    assert facts["n_bytes"] == stats["bytes_val"] - tokenizer.n_bytes(ids[cut:].astype(np.int32))


def test_impossible_runs_are_refused_by_name(golf: Golf, tmp_path: Path) -> None:
    from pgolf_codec.errors import ConfigError
    from pgolf_codec.lm.golf import GolfRun, parse_run, run

    recipe = payload((golf.folder / "train_gpt.py").read_bytes())["recipe"]
    wrong = recipe.replace("vocab_size = 320", "vocab_size = 321")
    with pytest.raises(ConfigError, match="vocab_size 321, the tokenizer of the shards 320"):
        run(GolfRun(recipe=wrong, code=b"", data=golf.data, out=tmp_path / "a"))
    long = recipe.replace("seq_len = 64", "seq_len = 65536")
    with pytest.raises(ConfigError, match="less than a row of 65536 tokens"):
        run(GolfRun(recipe=long, code=b"", data=golf.data, out=tmp_path / "b"))
    environment = {"DATA_PATH": "d", "SEED": "7", "MAX_WALLCLOCK_SECONDS": "300", "RUN_ID": "x"}
    parsed = parse_run("r", b"c", environment, ["--seed", "8"])
    assert (parsed.seed, parsed.minutes, parsed.out) == (8, 5.0, Path("logs/x"))
    assert parse_run("r", b"c", {}, []).tokenizer is None
