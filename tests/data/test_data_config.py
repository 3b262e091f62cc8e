"""The [data] table of a recipe: what it says, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.config import DataConfig, load_data_config, load_recipe

CONFIGS = (Path(__file__).parents[2] / "lm" / "configs").glob("*.toml")
RECIPES = sorted(path for path in CONFIGS if "[data" in path.read_text(encoding="utf-8"))
"""Those that say what text they are made of; the others are trained on the challenge's shards."""
SHARED = Path(__file__).parents[3] / "shared" / "corpora"

GOOD = """
held_out = "val/text.txt"
total_bytes = 1000
[data.classes.web]
files = "web-*"
share = 0.75
sample_chars = 10
[data.classes.books]
files = "open-*"
sources = ["gutenberg", "wiki*"]
share = 0.25
"""


def write(folder: Path, data: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(f"[data]{data}", encoding="utf-8")
    return path


def test_a_good_table(tmp_path: Path) -> None:
    config = load_data_config(write(tmp_path, GOOD))
    assert list(config.classes) == ["web", "books"]
    assert config.classes["books"].sources == ("gutenberg", "wiki*")
    assert config.classes["web"].share == 0.75
    assert (config.total_bytes, config.held_out, config.tokenizer) == (1000, "val/text.txt", "bpe")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("share = 0.75", "share = 0.5", "sum to 0.75"),
        ("share = 0.75", "share = 0.0", "share 0"),
        ("share = 0.75", "", "share"),
        ("share = 0.75", 'share = "most"', "share is not of type float"),
        ('["gutenberg", "wiki*"]', '"gutenberg"', "sources is not of type"),
        ('["gutenberg", "wiki*"]', "[1]", "sources is not of type"),
        ("sample_chars = 10", "sample_chars = -1", "sample_chars -1"),
        ("sample_chars = 10", "sample_bytes = 1", "unknown key 'sample_bytes'"),
        ("total_bytes = 1000", "total_bytes = 0", "total_bytes 0"),
        ("total_bytes = 1000", "", "total_bytes"),
        ('held_out = "val/text.txt"', "held_out = 3", "held_out is not of type str"),
        ("total_bytes", 'tokenizer = "words"\ntotal_bytes', "tokenizer 'words' is unknown"),
        ("total_bytes", "sample_keep = 0.0\ntotal_bytes", "sample_keep 0"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, old: str, new: str, why: str) -> None:
    with pytest.raises(ConfigError, match="data config") as info:
        load_data_config(write(tmp_path, GOOD.replace(old, new, 1)))
    assert why in str(info.value)


@pytest.mark.parametrize("classes", [{}, {"classes": 3}, {"classes": {"web": 3}}])
def test_classes_are_tables(classes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="table of tables"):
        DataConfig.from_dict({"held_out": "x", "total_bytes": 1, **classes})


def test_missing_tables_and_bad_toml_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"there is no table \[model\]"):
        load_recipe(path)
    for misspelt in ("[trian]\nminutes = 3\n", "minutes = 3\n"):
        path.write_text(f"{misspelt}[model]\n[train]\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"unknown table or key '(trian|minutes)'"):
            load_recipe(path)
    path.write_text("[data", encoding="utf-8")
    with pytest.raises(ConfigError, match=path.name):
        load_data_config(path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_committed_recipes(recipe: Path) -> None:
    model, train = load_recipe(recipe)
    data = load_data_config(recipe)
    assert model.vocab_size > 256
    assert train.minutes > 0
    assert sum(c.sample_chars for c in data.classes.values()) > 100 * model.vocab_size


@pytest.mark.skipif(not SHARED.is_dir(), reason="no corpora beside the checkout")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_committed_recipes_find_their_corpora(recipe: Path) -> None:
    from pgolf_codec.lm.data.corpora import corpus_files

    data = load_data_config(recipe)
    files = corpus_files(SHARED, data)
    used = {index for file in files for index, _ in file.candidates}
    assert used == set(range(len(data.classes)))
    held_out = SHARED / data.held_out
    assert held_out.is_file()
    assert held_out.parent not in {file.path.parent for file in files}
