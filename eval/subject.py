"""A foreign predictor or scorer, loaded, with what it leaves out filled in."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import PredictorError
from pgolf_codec.eval.adapters import Replayed
from pgolf_codec.eval.predictor import Predictor
from pgolf_codec.eval.quantise import MAX_SYMBOLS, as_distribution

Ids = NDArray[np.int64]


def load(spec: str) -> tuple[Callable[[], Any], Path]:
    """The factory that ``package.module:factory`` or ``FILE.py:factory`` names, and its file.

    Behind the name there may be arguments, ``factory(rank=8, ...)``, of plain values.  Raises
    :class:`PredictorError`; what the module's own code raises passes through.
    """
    parts = _SPEC.fullmatch(spec)
    if parts is None:
        raise PredictorError(f"{spec!r} is neither package.module:factory nor FILE.py:factory")
    where, name = parts["where"], parts["name"]
    arguments = _arguments(spec, parts["arguments"] or "")
    if where.endswith(".py"):
        path = Path(where).resolve()
        if not path.is_file():
            raise PredictorError(f"{where}: no such file")
        sys.path.append(str(path.parent))
        module_name = f"_predictor_{path.stem}"  # not the stem, which may be that of a library
        module_spec = importlib.util.spec_from_file_location(module_name, path)
        assert module_spec is not None
        assert module_spec.loader is not None
        module = sys.modules[module_name] = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as error:
            raise PredictorError(f"{spec}: {error}") from None
        path = Path(str(module.__file__)).resolve()
    factory = getattr(module, name, None)
    if not callable(factory):
        raise PredictorError(f"{where} has no factory {name!r}")
    return functools.partial(factory, **arguments) if arguments else factory, path


_SPEC = re.compile(r"(?P<where>.+?):(?P<name>[^\W\d]\w*)(\((?P<arguments>.*)\))?", re.DOTALL)


def _arguments(spec: str, arguments: str) -> dict[str, Any]:
    """``a=1, b="c"`` as keywords; nothing is run."""
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            raise ValueError
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError):
        raise PredictorError(f"{spec}: what stands in brackets is not name=value, ...") from None


class Subject:
    """What a factory makes, each time anew; every answer of it is checked for its shape."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory
        self._any = sample = factory()
        self.is_scorer = hasattr(sample, "score")
        wanted = ["start", "score"] if self.is_scorer else list(_STEPS)
        missing = [name for name in wanted if not callable(getattr(sample, name, None))]
        if missing:
            raise PredictorError(f"the predictor has no {', '.join(missing)}")
        self.n_symbols = _integer(getattr(sample, "n_symbols", None), "n_symbols")
        if not 1 <= self.n_symbols <= MAX_SYMBOLS:
            raise PredictorError(f"n_symbols is {self.n_symbols}, not in 1..{MAX_SYMBOLS}")
        self.independent = bool(getattr(sample, "independent_documents", False))
        self.packed = bool(getattr(sample, "packed", False))
        self.learns = self.is_scorer and hasattr(sample, "learn")
        self.told_of_documents = hasattr(sample, "start_document")
        if self.is_scorer and self.told_of_documents:
            raise PredictorError("a scorer has no start_document: it gets documents together")
        block = getattr(sample, "block", None)
        self.block = None if block is None else _integer(block, "block")
        claimed = getattr(sample, "claimed_bpb", None)
        self.claimed_bpb = None if claimed is None else float(claimed)
        self.files = [Path(name) for name in getattr(sample, "files", ())]
        if self.n_symbols < 256 and not hasattr(sample, "encode"):
            raise PredictorError(f"{self.n_symbols} symbols can't be bytes, and there is no encode")

    def stepper(self) -> Predictor:
        """A fresh one to go step by step; not started yet."""
        made: Predictor = self._factory()
        return Replayed(made, self.n_symbols) if self.is_scorer else made

    def scorer(self) -> Any:
        """A fresh scorer; not started yet."""
        return self._factory()

    def tokenise(self, data: bytes) -> Ids:
        """Symbols (n,) of one document."""
        if not hasattr(self._any, "encode"):
            return np.frombuffer(data, np.uint8).astype(np.int64)
        ids = np.asarray(self._any.encode(data))
        if ids.size == 0:
            return np.zeros(0, np.int64)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise PredictorError(f"encode gives {ids.dtype} of shape {ids.shape}")
        if not 0 <= int(ids.min()) <= int(ids.max()) < self.n_symbols:
            raise PredictorError(f"encode gives a symbol outside of 0..{self.n_symbols - 1}")
        return ids.astype(np.int64)

    def detokenise(self, ids: Ids) -> bytes:
        """What ``ids`` say of the document; not all of it, if the tokens are lossy."""
        if not hasattr(self._any, "decode"):
            if ids.size and int(ids.max()) > 255:
                raise PredictorError("a symbol is no byte, and there is no decode")
            return ids.astype(np.uint8).tobytes()
        data = self._any.decode(ids)
        if not isinstance(data, bytes | bytearray):
            raise PredictorError(f"decode gives {type(data).__name__}, not bytes")
        return bytes(data)

    def counted_bytes(self, ids: Ids) -> Ids | None:
        """The bytes (n,) that its author counts for each symbol; None: the raw bytes."""
        if not hasattr(self._any, "n_bytes"):
            return None
        counts = np.asarray(self._any.n_bytes(ids))
        if counts.shape != ids.shape or counts.dtype.kind not in "iu":
            raise PredictorError(f"n_bytes gives {counts.dtype} of shape {counts.shape}")
        return counts.astype(np.int64)

    def order(self, documents: Sequence[bytes]) -> list[int]:
        """Indexes of the documents in the order in which they are scored."""
        if not hasattr(self._any, "order"):
            return list(range(len(documents)))
        order = [int(index) for index in self._any.order(list(documents))]
        if sorted(order) != list(range(len(documents))):
            raise PredictorError("order is not a permutation of the documents")
        return order

    def claimed(self, documents: Sequence[Ids], scorer: Any = None) -> NDArray[np.float64]:
        """What its author's evaluation says of ``documents``, one after the other.

        (T, V): the distribution of each symbol; (T,): its probability alone.
        """
        if not self.is_scorer:
            return self._stepped(documents, scorer)
        scorer = scorer or self.scorer()
        runs = documents
        if self.packed or not self.independent:
            runs = [np.concatenate([*documents, np.zeros(0, np.int64)])]
        rows = []
        for ids in runs:
            scorer.start()
            length = self.block or max(1, len(ids))
            for at in range(0, len(ids), length):
                block = ids[at : at + length]
                rows.append(_rows(scorer.score(block.copy()), len(block), self.n_symbols))
                if self.learns:
                    scorer.learn(block.copy())
        if len({row.ndim for row in rows}) > 1:
            raise PredictorError("score gives distributions once and probabilities another time")
        return np.concatenate(rows) if rows else np.zeros((0, self.n_symbols))

    def _stepped(self, documents: Sequence[Ids], predictor: Any) -> NDArray[np.float64]:
        steps = Steps(self, predictor)
        rows = []
        for ids in documents:
            steps.start_document()
            for symbol in ids.tolist():
                rows.append(steps.next_distribution().copy())
                steps.observe(symbol)
        return np.array(rows) if rows else np.zeros((0, self.n_symbols))


class Steps:
    """The one sequence of calls in which encoder, decoder and audit use a predictor."""

    def __init__(self, subject: Subject, predictor: Predictor | None = None) -> None:
        self._subject = subject
        self._predictor = predictor or subject.stepper()
        self._told: Any = self._predictor  # of documents, if it has the method
        self._started = False

    def start_document(self) -> None:
        if self._subject.independent or not self._started:
            self._predictor.start()
        self._started = True
        if self._subject.told_of_documents:
            self._told.start_document()

    def next_distribution(self) -> NDArray[np.float64]:
        return as_distribution(self._predictor.next_distribution(), self._subject.n_symbols)

    def observe(self, symbol: int) -> None:
        self._predictor.observe(symbol)


_STEPS = ("start", "next_distribution", "observe")


def _integer(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise PredictorError(f"{name} is {value!r}, not an integer")
    return int(value)


def _rows(values: Any, n: int, n_symbols: int) -> NDArray[np.float64]:
    rows = np.asarray(values, np.float64)
    if rows.shape not in ((n,), (n, n_symbols)):
        raise PredictorError(f"score of {n} symbols gives shape {rows.shape}")
    return rows
