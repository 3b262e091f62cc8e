"""What learning from the text gives: in the format, exactly; and in float, at test time.

    python benchmarks/adaptation.py format CORPORA                  the adapted frames of .pgz
    python benchmarks/adaptation.py float CORPORA CHECKPOINT        a torch module that is tuned
    python benchmarks/adaptation.py documents CORPORA CHECKPOINT    reset against carried, by both

Each writes its part of benchmarks/results/adaptation.json.  CORPORA is a folder of texts.
Seconds are CPU time of one thread, so that a busy machine changes them little.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pgolf_codec
from pgolf_codec.codec.adaptation import adapted
from pgolf_codec.codec.stream import compress, decompress
from pgolf_codec.eval.contexts import Contexts
from pgolf_codec.eval.evaluation import evaluate_with
from pgolf_codec.eval.foreign import Text
from pgolf_codec.eval.readers import IntegerReader
from pgolf_codec.eval.vocabulary import of_tokenizer

RESULT = Path(__file__).resolve().parent / "results" / "adaptation.json"
TEXTS = (
    "fineweb_cc2013.txt", "c4_en.txt", "book_sherlock.txt", "tinyshakespeare.txt",
    "code_python.txt", "multilingual.txt",
)  # fmt: skip
N_BYTES, FLOAT_BYTES = 1 << 16, 12_000
RATE_BYTES, WEB_BYTES, BOOK_BYTES = 12_000, 40_000, 16_000
CHUNK, LENGTH, BOOK = 256, 512, "book_sherlock.txt"
KINDS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "all weights, SGD": ({"optimizer": "sgd"}, (0.005, 0.02, 0.05)),
    "rank 8, Adam": ({"rank": 8}, (3e-4, 1e-3, 3e-3, 1e-2)),
}
"""What learns, and the rates that are tried."""
VARIANTS: dict[str, dict[str, Any]] = {
    "nothing": {"learning_rate": 0.0, "passes": 0},
    "all weights, SGD": {"learning_rate": 0.05, "optimizer": "sgd"},
    "all weights, Adam": {"learning_rate": 2e-4},
    "rank 8, Adam": {"learning_rate": 2e-3, "rank": 8},
}


def main(arguments: list[str]) -> None:
    part, corpora, *checkpoint = arguments
    results = json.loads(RESULT.read_bytes()) if RESULT.exists() else {}
    folder = Path(corpora)
    parts: dict[str, Callable[..., dict[str, Any]]] = {
        "format": in_format,
        "float": in_float,
        "documents": in_documents,
    }
    results[part] = parts[part](folder, *map(Path, checkpoint))
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def in_format(folder: Path) -> dict[str, Any]:
    model = pgolf_codec.load_model()
    models: dict[str, Any] = {"plain": model, "adapted": adapted(model)}
    for one in models.values():  # compiling is no part of the speed
        decompress(compress(b"warm " * 20, model=one, threads=1), model=model, threads=1)
    rows = []
    for name in TEXTS:
        raw = (folder / name).read_bytes()[:N_BYTES]
        row: dict[str, Any] = {"text": name, "n_bytes": len(raw)}
        for kind, one in models.items():
            blob, encode_seconds = timed(partial(compress, raw, model=one, threads=1))
            back, decode_seconds = timed(partial(decompress, blob, model=model, threads=1))
            assert back == raw
            row[kind] = {
                "bpb": 8 * len(blob) / len(raw),
                "encode_seconds": encode_seconds,
                "decode_seconds": decode_seconds,
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return {"model": model.name, "rows": rows}


def in_float(folder: Path, checkpoint: Path) -> dict[str, Any]:
    from pgolf_codec.eval.tuning import Schedule

    tokenizer, module = pgolf_codec.load_model().tokenizer, float_module(checkpoint)
    rows = []
    for name in ("fineweb_cc2013.txt", "book_sherlock.txt"):
        raw = (folder / name).read_bytes()[:FLOAT_BYTES]
        ids = tokenizer.encode(raw)
        reading = Contexts(length=255, stride=128)
        for variant, options in VARIANTS.items():
            learning = predictor(module, Schedule(**options), reading, 128)
            bits, seconds = timed(partial(learning.bits, [ids]))
            rows.append(
                {
                    "text": name,
                    "n_bytes": len(raw),
                    "variant": variant,
                    "learning_rate": options["learning_rate"],
                    "bpb": float(bits.sum()) / len(raw),
                    "milliseconds_a_symbol": 1000 * seconds / ids.size,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return {"block": 128, "context": 128, "rows": rows}


def in_documents(folder: Path, checkpoint: Path) -> dict[str, Any]:
    """Documents that begin without a context; what was learned of one is kept, or not.

    Rates are the best of a few on documents of another corpus.  What the stored result has of
    rates and texts is not measured again.
    """
    stored = json.loads(RESULT.read_bytes()).get("documents", {}) if RESULT.exists() else {}
    known = {tuple(row[:4]): row[4] for row in stored.get("tried", [])}
    model, module = pgolf_codec.load_model(), float_module(checkpoint)
    encode = model.tokenizer.encode
    other = documents(folder / "c4_en.jsonl", RATE_BYTES)
    texts = {
        "fineweb_cc2013.jsonl": documents(folder / "fineweb_cc2013.jsonl", WEB_BYTES),
        BOOK: pieces(folder / BOOK, BOOK_BYTES),
    }
    tried, rows = [], []
    runs: list[tuple[str, bool | None, int | None, dict[str, Any], float]] = [
        ("nothing", None, None, {"passes": 0}, 0.0)
    ]
    ways: tuple[tuple[int | None, bool], ...] = ((CHUNK, False), (CHUNK, True), (None, True))
    for after, carried in ways:
        for kind, (options, rates) in KINDS.items():
            found: dict[float, float] = {}
            for rate in rates:
                if (kind, carried, after, rate) not in known:
                    ids = [encode(part) for part in other]
                    bits, _ = tuned(module, ids, options, rate, after, carried)
                    known[kind, carried, after, rate] = bits / sum(map(len, other))
                found[rate] = known[kind, carried, after, rate]
                tried.append([kind, carried, after, rate, found[rate]])
                print(json.dumps(tried[-1]), flush=True)
            best = min(found, key=lambda rate: found[rate])
            runs.append((kind, carried, after, options, best))
    # Carried from web page to web page all learning harms, so those rates are low; a book has
    # use for the higher ones of learning that is forgotten.
    higher = {kind: rate for kind, carried, _, _, rate in runs if carried is False}
    of_a_book = [(*run[:4], higher[run[0]]) for run in runs if run[1]]
    for name, parts in texts.items():
        stored_rows = [row for row in stored.get("rows", []) if row["text"] == name]
        if stored_rows:
            rows += stored_rows
            continue
        ids, n_bytes = [encode(part) for part in parts], sum(map(len, parts))
        about = {"text": name, "n_documents": len(parts), "n_bytes": n_bytes}
        n_symbols = sum(map(len, ids))
        for kind, keep in (("nothing", None), ("stage", False), ("stage", True)):
            writing = adapted(model) if kind == "stage" else model
            reading = Contexts(carried=bool(keep))
            text, vocabulary = Text(tuple(parts)), of_tokenizer(model.tokenizer)
            reader = IntegerReader(model=writing, vocabulary=vocabulary, reading=reading)
            work = partial(evaluate_with, reader, text, threads=1)
            work()  # compiling is no part of the speed
            exact, seconds = timed(work)
            bits = exact.entropy_bits
            rows.append(row(about, f"integers: {kind}", None, keep, 0, bits, seconds, n_symbols))
        for kind, keep, after, options, rate in runs + of_a_book * (name == BOOK):
            bits, seconds = tuned(module, ids, options, rate, after, bool(keep))
            rows.append(row(about, kind, after, keep, rate, bits, seconds, n_symbols))
    return {"model": model.name, "chunk": CHUNK, "length": LENGTH, "tried": tried, "rows": rows}


def tuned(
    module: Any,
    ids: list[Any],
    options: dict[str, Any],
    rate: float,
    after: int | None,
    carried: bool,
) -> tuple[float, float]:
    """(bits, CPU seconds)"""
    from pgolf_codec.eval.tuning import Schedule

    reading = Contexts(length=LENGTH, stride=CHUNK, carried=carried)
    learning = predictor(module, Schedule(learning_rate=rate, **options), reading, after)
    bits, seconds = timed(partial(learning.bits, ids))
    return float(bits.sum()), seconds


def predictor(module: Any, schedule: Any, reading: Contexts, chunk: int | None) -> Any:
    from pgolf_codec.eval.tuning import TunedPredictor
    from pgolf_codec.lm.config import BOS_ID

    n_symbols = module.model.config.vocab_size
    return TunedPredictor(module, n_symbols, schedule, reading, first=BOS_ID, chunk=chunk)


def row(
    about: dict[str, Any],
    what: str,
    after: int | None,
    carried: bool | None,
    rate: float,
    bits: float,
    seconds: float,
    n_symbols: int,
) -> dict[str, Any]:
    found = about | {
        "what": what,
        "after": after,
        "carried": carried,
        "learning_rate": rate,
        "bpb": bits / about["n_bytes"],
        "milliseconds_a_symbol": 1000 * seconds / n_symbols,
    }
    print(json.dumps(found), flush=True)
    return found


def documents(path: Path, n_bytes: int) -> list[bytes]:
    """The first ones, of so many bytes at least."""
    found: list[bytes] = []
    for line in path.read_bytes().splitlines():
        if sum(map(len, found)) >= n_bytes:
            break
        found.append(json.loads(line)["text"].encode())
    return found


def pieces(path: Path, n_bytes: int) -> list[bytes]:
    """Runs of paragraphs, each of some 4 kB."""
    found = [b""]
    for line in path.read_bytes()[:n_bytes].splitlines(keepends=True):
        if len(found[-1]) > 4000 and not line.strip():
            found.append(b"")
        found[-1] += line
    return found


def float_module(checkpoint: Path) -> Any:
    """ids -> logits, on one thread."""
    from pgolf_codec.eval import readers, tuning

    tuning.use_threads(1)
    return readers.float_module(checkpoint, 1024)[0]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


if __name__ == "__main__":
    main(sys.argv[1:])
