"""Every preset starts, steps, is exported and codes text, at reduced size; what each of them is."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pgolf_codec import compress, decompress  # noqa: E402
from pgolf_codec.codec.sentencepiece_model import Kind, Piece, PieceType  # noqa: E402
from pgolf_codec.codec.tokenizer import Tokenizer  # noqa: E402
from pgolf_codec.errors import ConfigError, LossyTokenizerError  # noqa: E402
from pgolf_codec.lm.artifact import pack  # noqa: E402
from pgolf_codec.lm.conversion.export import load_checkpoint  # noqa: E402
from pgolf_codec.lm.counting import count  # noqa: E402
from pgolf_codec.lm.data.tokenizers import byte_tokenizer  # noqa: E402
from pgolf_codec.lm.golf import export_settings  # noqa: E402
from pgolf_codec.lm.presets import load_preset, preset_names, preset_path, reduced  # noqa: E402
from pgolf_codec.lm.train import train  # noqa: E402
from pgolf_codec.lm.training.checkpoints import FILE  # noqa: E402
from pgolf_codec.quant.artifact import load_artifact  # noqa: E402

TEXT = b"A road that walks: she counted four boats, and wrote it down. " * 40

PARAMETERS = {
    "baseline": 17_059_912,
    "record-1.1248": 26_829_912,
    "record-1.1228": 26_993_754,
    "record-1.1194": 26_928_218,
    "nano": 5_001_488,
}
"""What the challenge's logs say, less one or two factors that are part of matrices here."""


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    ids = byte_tokenizer().encode(TEXT).astype("<u2")
    for name in ("train", "val"):
        ids.tofile(folder / f"{name}.bin")
    (folder / "val.json").write_text(json.dumps({"n_bytes": len(TEXT)}))
    return folder


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_at_reduced_size(name: str, tokens: Path, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    preset = reduced(load_preset(name), tokenizer.n_symbols)
    assert count(preset.model).total < 200_000
    train(preset.model, preset.train, tokens, tmp_path, False)
    model = load_checkpoint(tmp_path / FILE, preset.train.seq_len)
    assert model.config == preset.model
    seq_len = preset.train.seq_len
    artifact = pack(
        model, tokens / "train.bin", tokenizer, preset.export, name=name, seq_len=seq_len
    )
    loaded = load_artifact(artifact)
    archive = compress(TEXT[:300], model=loaded)
    assert decompress(archive, model=loaded) == TEXT[:300]
    assert loaded.artifact.weights.n_params > 0


@pytest.mark.parametrize("name", preset_names())
def test_what_a_preset_is(name: str) -> None:
    preset = load_preset(name)
    if name in PARAMETERS:
        assert count(preset.model).total == PARAMETERS[name]
    if name.startswith("record"):
        assert preset.train.batch_rows * preset.train.seq_len == 786_432
    small = reduced(preset, 300)
    for switch, value in preset.model.to_dict().items():
        if switch in ("passes", "unet", "weights", "smear", "activation", "xsa_layers"):
            assert small.model.to_dict()[switch] == value
    assert small.model.to_dict().keys() == preset.model.to_dict().keys()


def test_sizes_told_in_public() -> None:
    million = {"ternary": (60, 75), "universal": (25, 35), "golf": (34, 37), "small": (7.5, 8.5)}
    for name, (least, most) in million.items():
        assert least < count(load_preset(name).model).total / 1e6 < most
    counts = count(load_preset("universal").model)
    assert (counts.n_layers, counts.n_passes) == (4, 12)
    text = str(count(load_preset("baseline").model))
    assert "17,059,912" in text
    assert "MLP" in text


def test_names_and_paths(tmp_path: Path) -> None:
    assert preset_path("golf").is_file()
    assert load_preset(str(preset_path("golf"))) == load_preset("golf")
    with pytest.raises(ConfigError, match="no preset 'gulf'; there are baseline, golf"):
        load_preset("gulf")


def test_a_lossy_tokenizer_scores_only(tokens: Path, tmp_path: Path) -> None:
    """As the challenge's of 1,024 symbols, which has none for single bytes."""
    letters = sorted({chr(b) for b in TEXT})
    pieces = [
        Piece("<unk>", 0.0, PieceType.UNKNOWN),
        Piece("<s>", 0.0, PieceType.CONTROL),
        *(Piece(c.replace(" ", "▁"), -float(i), PieceType.NORMAL) for i, c in enumerate(letters)),
        *(Piece(f"x{i}", -100.0 - i, PieceType.NORMAL) for i in range(258 - 2 - len(letters))),
    ]
    tokenizer = Tokenizer(pieces, Kind.BPE)
    preset = reduced(load_preset("nano"), tokenizer.n_symbols)
    ids = np.array([tokenizer.table.index(bytes([b])) for b in TEXT], "<u2")
    for name in ("train", "val"):
        ids.tofile(tmp_path / f"{name}.bin")
    (tmp_path / "val.json").write_text(json.dumps({"n_bytes": len(TEXT)}))
    train(preset.model, preset.train, tmp_path, tmp_path / "run", False)
    model = load_checkpoint(tmp_path / "run" / FILE, preset.train.seq_len)
    artifact = pack(
        model, tmp_path / "train.bin", tokenizer, preset.export, name="lossy", seq_len=32
    )
    loaded = load_artifact(artifact)
    assert loaded.tokenizer.decode(ids[:20]) == TEXT[:20]
    cum, freq = loaded.predictor.session(1).intervals(ids[None, :32].astype(np.int32))
    assert (freq > 0).all()
    assert cum.shape == (1, 32)
    with pytest.raises(LossyTokenizerError, match="for scores only"):
        compress(TEXT, model=loaded)


def test_without_numba_a_trellis_becomes_gptq(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_settings(preset_path("golf")) == load_preset("golf").export

    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    found = export_settings(preset_path("golf"))
    assert (found.quantizer, found.max_bytes, found.coder) == ("clipped", 16_000_000, "ans")
    assert "GPTQ in place of the trellis" in capsys.readouterr().out
    assert export_settings(preset_path("baseline")) == load_preset("baseline").export
