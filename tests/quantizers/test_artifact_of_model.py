"""From a float model to its artifact: the same bytes again, under a cap, by rules; the verb."""

from __future__ import annotations

import copy
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))  # for tiny_model.py

from tiny_model import PROSE, tiny_tokenizer

from pgolf_codec.cli import main
from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import ConfigError, TensorError
from pgolf_codec.lm.artifact import pack
from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.conversion.dequantize import float_model
from pgolf_codec.lm.export_config import ExportConfig, load_export_config
from pgolf_codec.lm.floats.model import Transformer
from pgolf_codec.lm.model_config import ModelConfig
from pgolf_codec.quant.artifact import load_artifact


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    config = ModelConfig(
        vocab_size=tokenizer.n_symbols, n_layers=1, d_model=32, n_heads=2, n_kv_heads=1,
        d_head=16, d_hidden=48, windows=(16,), rope_dims=4,
    )  # fmt: skip
    model = Transformer(config, 1024)
    model.init_weights(3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("wo", "down")):
                p.normal_(std=0.2, generator=generator)
        model.embedding.mul_(10)
    return model.eval()


@pytest.fixture(scope="module")
def tokens(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "train.bin"
    path.write_bytes(np.resize(tokenizer.encode(PROSE.encode()), 1200).astype("<u2").tobytes())
    return path


SMALL = {"calibration_rows": 4, "states": 4, "cost": 1e-7}


def packed(model: Transformer, tokens: Path, tokenizer: Tokenizer, **changes: object) -> bytes:
    config = ExportConfig(**(SMALL | changes))  # type: ignore[arg-type]
    return pack(model, tokens, tokenizer, config, name="toy", seq_len=64, log=lambda line: None)


def test_the_same_bytes_again(model: Transformer, tokens: Path, tokenizer: Tokenizer) -> None:
    blob = packed(model, tokens, tokenizer)
    assert packed(model, tokens, tokenizer) == blob
    found = load_artifact(blob).artifact
    assert found.codings["embedding.q"] == "trellis"
    assert found.weights.n_params == sum(
        p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "mix" not in name
    )


def test_columns_of_the_embedding(model: Transformer, tokens: Path, tokenizer: Tokenizer) -> None:
    """Through the artifact and back to floats; with them engine and floats agree."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.blocks[0].mlp.scale[5] *= 40  # of all states
    plain = packed(model, tokens, tokenizer, embedding_columns=False)
    blob = packed(model, tokens, tokenizer)
    found = load_artifact(blob).artifact.weights
    assert found.config.embedding_columns
    assert not load_artifact(plain).artifact.weights.config.embedding_columns
    assert b"embedding_columns" in blob
    assert b"embedding_columns" not in plain
    ids = torch.from_numpy(np.fromfile(tokens, "<u2", count=200).astype(np.int64))[None]
    inputs = torch.cat((torch.tensor([[BOS_ID]]), ids[:, :-1]), dim=1)

    def nats(graph: Transformer) -> float:
        with torch.no_grad():
            logits = graph.logits(graph(inputs))
        return float(torch.nn.functional.cross_entropy(logits[0], ids[0]))

    floats = float_model(found, 1024)
    assert not floats.config.embedding_columns
    assert nats(floats) == pytest.approx(nats(model), abs=0.01)
    _, freq = load_artifact(blob).predictor.session(1).intervals(ids.numpy().astype(np.int32))
    by_engine = float(np.mean(24 - np.log2(freq.astype(np.float64)))) * math.log(2)
    assert by_engine == pytest.approx(nats(floats), abs=0.03)


def test_a_cap_and_other_bytes(model: Transformer, tokens: Path, tokenizer: Tokenizer) -> None:
    config = ExportConfig(**SMALL, max_bytes=14_000)  # type: ignore[arg-type]
    blob = pack(
        model, tokens, tokenizer, config,
        name="toy", seq_len=64, more_bytes=1000, log=lambda line: None,
    )  # fmt: skip
    assert 14_000 - 14 <= len(blob) + 16 + 1000 <= 14_000


def test_a_cap_without_a_trellis(model: Transformer, tokens: Path, tokenizer: Tokenizer) -> None:
    """Coarser steps where the artifact is too large, never finer ones."""
    changes = {"quantizer": "clipped", "coder": "ans"}
    free = packed(model, tokens, tokenizer, **changes)
    cap = len(free) - 300
    blob = packed(model, tokens, tokenizer, **changes, max_bytes=cap)
    assert cap - cap // 1000 <= len(blob) + 16 <= cap
    assert packed(model, tokens, tokenizer, **changes, max_bytes=len(free) + 16) == free
    assert packed(model, tokens, tokenizer, **changes, max_bytes=10**6) == free


def test_rules(model: Transformer, tokens: Path, tokenizer: Tokenizer) -> None:
    rules = ("blocks.*.up=ternary", "blocks.*.wo=binary")
    found = load_artifact(packed(model, tokens, tokenizer, rules=rules)).artifact.weights.tensors
    assert set(np.unique(found["blocks.0.up.q"])) == {-1, 0, 1}
    assert set(np.unique(found["blocks.0.wo.q"])) == {-1, 1}
    assert len(np.unique(found["blocks.0.qkv.q"])) > 3


def test_what_can_not_be_packed(model: Transformer, tokens: Path, tokenizer: Tokenizer) -> None:
    few = tokens.with_name("few.bin")
    few.write_bytes(bytes(100))
    with pytest.raises(ConfigError, match="50 tokens"):
        packed(model, few, tokenizer)
    few.write_bytes(b"\xff" * 1000)
    with pytest.raises(ConfigError, match="token 65535"):
        packed(model, few, tokenizer)
    broken = Transformer(model.config, 64)
    broken.load_state_dict(model.state_dict())
    with torch.no_grad():
        broken.embedding[3, 4] = torch.nan
    with pytest.raises(TensorError, match="tensor embedding: NaN"):
        packed(broken, tokens, tokenizer)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("cost = 0.0", "cost 0.0"),
        ("states = 5", "states 5"),
        ("quantizer = 'best'", "'best' is unknown"),
        ("rules = ['up']", "rule 'up'"),
        ("max_bytes = 9\nquantizer = 'nearest'", "max_bytes needs"),
        ("kost = 1", "unknown key 'kost'"),
    ],
)
def test_recipes_that_are_refused(table: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("")
    assert load_export_config(path) == ExportConfig()
    path.write_text(f"[export]\n{table}\n")
    with pytest.raises(ConfigError, match=message):
        load_export_config(path)


def test_the_verb(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, target = tmp_path / "toy.pt", tmp_path / "toy.pglm"
    torch.save({"model_config": model.config.to_dict(), "model": model.state_dict()}, checkpoint)
    (tmp_path / "t.model").write_bytes(tokenizer.to_sentencepiece())
    (tmp_path / "text.txt").write_bytes(PROSE.encode() * 3)
    (tmp_path / "r.toml").write_text("[export]\nstates = 4\ncalibration_rows = 1\n")
    command = ["pack", str(checkpoint), "-o", str(target), "--json", "--recipe"]
    command += [str(tmp_path / "r.toml"), "--tokenizer", str(tmp_path / "t.model")]
    assert main([*command, "--budget", "13000"]) == 1
    assert "needs --tokenizer and --calibration" in capsys.readouterr().err
    command += ["--calibration", str(tmp_path / "text.txt"), "--budget", "13000"]
    assert main(command) == 0
    bill = json.loads(capsys.readouterr().out)["bill"]
    assert bill["model_bytes"] == target.stat().st_size
    assert 13000 - 13 - 16 <= bill["challenge_bytes"] <= 13000
    weights = load_artifact(target).artifact.weights
    again = tmp_path / "again.pglm"
    assert main(["pack", str(target), "-o", str(again), "--coder", "ans-hist"]) == 0
    found = load_artifact(again).artifact
    assert "ans-hist" in found.codings.values()
    for name, tensor in weights.tensors.items():
        assert np.array_equal(found.weights.tensors[name], tensor)
