"""The tables of the documents are those that the stored results give."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = ROOT / "benchmarks" / "tables.py"
    spec = importlib.util.spec_from_file_location("_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    monkeypatch.syspath_prepend(path.parent)
    spec.loader.exec_module(module)
    return module


def test_tables_are_up_to_date(tables: ModuleType) -> None:
    assert tables.main(["--check"]) == 0


def test_table_from_results(tables: ModuleType) -> None:
    results = {
        "machine": {"threads": 2},
        "texts": [
            {
                "name": "letters.txt",
                "n_bytes": 80_000,
                "peers": [{"name": "zlib -9", "n_bytes": 30_000}],
                "ours": {
                    "bpb_file": 1.6004,
                    "encode_seconds": 4.0,
                    "decode_seconds": 2.0,
                    "model_name": "small",
                    "model_bytes": 1234,
                    "model_fingerprint": "ab" * 32,
                },
            }
        ],
    }
    body = tables.text.texts(results)
    assert "| letters.txt | 80,000 | 3.000 | **1.600** | 20 | 40 |\n" in body
    assert "model `small` (1,234 bytes, fingerprint `abababababababab`)" in body
    table = tables.TABLES[0]
    text = table.begin + "old\n" + table.end
    assert tables.replace(f"a\n{text}b\n", table, body) == f"a\n{table.begin}{body}{table.end}b\n"
    with pytest.raises(SystemExit, match="0 places"):
        tables.replace("no marks", table, body)
