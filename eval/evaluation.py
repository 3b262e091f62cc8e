"""What a model says of a text: bits that nobody wrote, in any contexts, learning or not.

The quick look before ``verify``.  ``entropy_bits`` is all that is here; what a file takes
stands in a receipt, and :class:`Evaluation` has no such number to be taken for one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.adaptation import AdaptedModel
from pgolf_codec.codec.model import Model
from pgolf_codec.errors import ConfigError, CorruptError, MissingPackageError
from pgolf_codec.eval import contexts, residual
from pgolf_codec.eval.bpb import challenge_bytes
from pgolf_codec.eval.integer_scores import Run, bits_of_runs
from pgolf_codec.eval.vocabulary import Vocabulary
from pgolf_codec.lm.config import BOS_ID

if TYPE_CHECKING:
    from pgolf_codec.eval.foreign import Text
    from pgolf_codec.eval.tuning import Schedule

Ids = NDArray[np.int32]
Bits = NDArray[np.float64]
Progress = Callable[[int], None]
"""Gets the raw bytes that are done, about."""
Tick = Callable[[int], None]
"""Gets the number of symbols done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contexts:
    """What each symbol is predicted from."""

    length: int | None = None
    """Symbols of a window; None: a rolling context, as archives have it."""
    stride: int | None = None
    """Symbols by which windows follow each other; None: half their length."""
    joined: bool = False
    """Contexts cross from one document into the next."""
    carried: bool = False
    """What was learned from a document is kept for the next."""

    @property
    def step(self) -> int | None:
        """The stride."""
        if self.length is None or self.stride is not None:
            return self.stride
        return max(1, self.length // 2)

    def plan(self, lengths: Sequence[int]) -> tuple[contexts.Window, ...]:
        """Windows over documents of so many symbols, side by side; empty if one rolls on."""
        n, step = sum(lengths), self.step
        if self.length is not None and step is not None:
            starts = np.cumsum([0, *lengths[:-1]]).tolist()
            return tuple(contexts.by_document(starts, n, self.length, step))
        if len(lengths) < 2:
            return ()
        ends = np.cumsum([0, *lengths]).tolist()
        return tuple(contexts.Window(a, a, b) for a, b in itertools.pairwise(ends) if a < b)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Facts of one evaluation.  Nothing was coded."""

    input_sha256: str
    input_bytes: int
    n_documents: int
    n_symbols: int
    """That were scored."""
    model_name: str
    model_bytes: int
    arithmetic: str
    """``integers``, the same on any machine; or ``float``, of this one."""
    context: int | None
    """Symbols of a window; None: rolling."""
    stride: int | None
    independent_documents: bool
    """No context crosses from one document into another."""
    learning: str
    """What learns from the text, and from how much at a time."""
    carried: bool
    """What was learned from a document is kept for the next."""
    entropy_bits: float
    """−Σ log2 of the model's probabilities, and all of the residual."""
    bpb_entropy: float | None
    """Bits over the raw bytes of all documents; None where there are none."""
    residual_bytes: int
    """For restoring what the tokens lose."""
    challenge_bytes: int | None
    """As the challenge counts them; None of tokens that lose nothing."""
    challenge_bpb: float | None
    """By the challenge's formula, in which what is lost costs nothing."""
    seconds: float
    proof: str
    """What has to be run for a number that holds."""

    def to_json(self) -> str:
        """One JSON object; sizes that were not measured are null, and say so by their names."""
        unmeasured = {"coded_bits": None, "file_bytes": None, "bpb_file": None}
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return json.dumps({"nothing_was_coded": True} | values | unmeasured, indent=2) + "\n"

    def describe(self) -> str:
        """For people: a dozen lines."""
        documents = "1 document" if self.n_documents == 1 else f"{self.n_documents:,} documents"
        how = "its integers" if self.arithmetic == "integers" else "floats of this machine"
        seen = (
            "rolling, as in an archive of one stream"
            if self.context is None
            else f"windows of {self.context:,} symbols, each {self.stride:,} further"
        )
        if self.n_documents > 1:
            seen += "; none crosses" if self.independent_documents else "; they cross"
            seen += " from a document into the next"
        learning = self.learning
        if learning != "nothing" and self.n_documents > 1 and self.independent_documents:
            learning += "; carried on" if self.carried else "; each document anew"
        lines = [
            ("input", f"{self.input_bytes:,} bytes, {documents}, {self.n_symbols:,} symbols"),
            ("model", f"{self.model_name}, {self.model_bytes:,} bytes; by {how}"),
            ("context", seen),
            ("learns", learning),
            ("entropy", f"{self.entropy_bits / 8:,.1f} bytes{_bpb(self.bpb_entropy)}"),
        ]
        if self.challenge_bytes is not None:
            formula = f"{self.challenge_bytes:,} bytes counted{_bpb(self.challenge_bpb)}"
            lost = f"{self.residual_bytes:,} bytes restore it"
            lines += [
                ("challenge", f"{formula} by its formula"),
                ("lost", f"by the tokens; {lost}, and are in the entropy"),
            ]
        lines += [
            ("time", f"{self.seconds:.2f} s"),
            ("no file", "nothing was coded, so this is no score yet; the proof:"),
            ("", self.proof),
        ]
        return "".join(f"{label:<10} {text}\n" for label, text in lines)


def evaluate_integers(
    model: Model,
    text: Text,
    reading: Contexts,
    *,
    vocabulary: Vocabulary,
    threads: int | None = None,
    progress: Progress | None = None,
    proof: str = "",
) -> Evaluation:
    """By the integers that archives are coded with; an :class:`AdaptedModel` learns."""
    _check(vocabulary, model.predictor.n_symbols)
    adapts = isinstance(model, AdaptedModel)

    def bits(documents: list[Ids], tick: Tick) -> Bits:
        groups = [documents] if reading.carried and adapts else [[ids] for ids in documents]
        runs = [
            Run(np.concatenate(group), reading.plan([len(ids) for ids in group]))
            for group in groups
            if group
        ]
        return bits_of_runs(runs, model.predictor, threads=threads, progress=tick)

    return _evaluation(
        text,
        reading,
        vocabulary,
        bits,
        progress,
        model_name=model.name,
        model_bytes=model.n_bytes,
        arithmetic="integers",
        learning="the stage of the format" if adapts else "nothing",
        proof=proof,
    )


def evaluate_float(
    path: Path,
    text: Text,
    reading: Contexts,
    schedule: Schedule,
    *,
    vocabulary: Vocabulary,
    chunk: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    proof: str = "",
) -> Evaluation:
    """By the float graph of a checkpoint or an artifact, which may learn at test time.

    ``chunk`` symbols, or with None a document, are scored before they are learned from; of
    ``schedule`` block and context mean nothing here.  Raises :class:`MissingPackageError`
    without torch, and :class:`CorruptError` for what is no checkpoint.
    """
    length, stride = reading.length, reading.step
    if length is None or stride is None:
        raise ConfigError("in floating point, contexts are windows: give their length")
    module, n_symbols = float_module(path, length)
    _check(vocabulary, n_symbols)
    from pgolf_codec.eval.tuning import Learner, tuned_bits, use_threads

    use_threads(threads)
    learner = Learner(module, schedule)

    def bits(documents: list[Ids], tick: Tick) -> Bits:
        return tuned_bits(
            learner,
            documents,
            first=BOS_ID,
            length=length,
            stride=stride,
            chunk=chunk,
            carried=reading.carried,
            progress=tick,
        )

    return _evaluation(
        text,
        reading,
        vocabulary,
        bits,
        progress,
        model_name=path.name,
        model_bytes=path.stat().st_size,
        arithmetic="float",
        learning=_told(schedule, chunk),
        proof=proof,
    )


def float_module(path: Path, length: int) -> tuple[Any, int]:
    """(a torch module ``ids -> logits`` for up to ``length`` ids, V) of a ``.pt`` or ``.pglm``."""
    try:
        import torch

        from pgolf_codec.lm.conversion.dequantize import float_model
        from pgolf_codec.lm.conversion.export import load_checkpoint
    except ImportError as error:
        raise MissingPackageError(f"{path}: pip install pgolf-codec[train] ({error})") from None
    if path.suffix == ".pglm":
        from pgolf_codec.quant.artifact import load_artifact

        model = float_model(load_artifact(path).artifact.weights, length)
    else:
        path.open("rb").close()  # an error of torch.load does not name it
        try:
            model = load_checkpoint(path, length)
        except Exception as error:  # noqa: BLE001 (a file of pickles may raise anything)
            raise CorruptError(f"{path}: no checkpoint of ours: {_first_line(error)}") from None

    class Logits(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any) -> Any:
            return self.model.logits(self.model(ids))

    return Logits().eval(), model.config.vocab_size


def _evaluation(
    text: Text,
    reading: Contexts,
    vocabulary: Vocabulary,
    bits_of: Callable[[list[Ids], Tick], Bits],
    progress: Progress | None,
    **facts: Any,
) -> Evaluation:
    """Tokens, their bits, and all that is reckoned from them."""
    start = time.perf_counter()
    documents = list(text.documents)
    if reading.joined:
        tokens = [vocabulary.joined(documents)]
    else:
        tokens = [vocabulary.encode(document) for document in documents]
    n_bytes, n_symbols = sum(text.lengths), sum(map(len, tokens))

    def tick(n_done: int) -> None:
        if progress is not None:
            progress(n_bytes * n_done // n_symbols)

    bits = bits_of(tokens, tick)
    lost, counted, formula = 0, None, None
    if vocabulary.counts is not None:
        lost = _residual_bytes(vocabulary, documents)
        counted, formula = _challenge(vocabulary, tokens, bits, reading)
    total = math.fsum(bits.tolist()) + 8 * lost
    return Evaluation(
        input_sha256=hashlib.sha256(text.data).hexdigest(),
        input_bytes=n_bytes,
        n_documents=len(documents),
        n_symbols=len(bits),
        context=reading.length,
        stride=reading.step,
        independent_documents=not reading.joined,
        carried=reading.carried,
        entropy_bits=total,
        bpb_entropy=total / n_bytes if n_bytes else None,
        residual_bytes=lost,
        challenge_bytes=counted,
        challenge_bpb=formula,
        seconds=time.perf_counter() - start,
        **facts,
    )


def _challenge(
    vocabulary: Vocabulary, tokens: Sequence[Ids], bits: Bits, reading: Contexts
) -> tuple[int, float | None]:
    """(bytes counted, bpb) by the challenge's formula; of rows, what fills none is left out."""
    assert vocabulary.counts is not None
    counts = [
        challenge_bytes(vocabulary.counts, np.array([BOS_ID, *ids[:-1]]), ids)
        for ids in tokens
        if len(ids)
    ]
    n_bytes = np.concatenate([*counts, np.zeros(0, np.int64)])
    if reading.joined and reading.length is not None and reading.step == reading.length:
        n_used = len(bits) // reading.length * reading.length
        n_bytes, bits = n_bytes[:n_used], bits[:n_used]
    counted = int(n_bytes.sum())
    return counted, math.fsum(bits.tolist()) / counted if counted else None


def _residual_bytes(vocabulary: Vocabulary, documents: Sequence[bytes]) -> int:
    decoded = [vocabulary.decode(vocabulary.encode(document)) for document in documents]
    return len(residual.encode(documents, decoded))


def _check(vocabulary: Vocabulary, n_symbols: int) -> None:
    if vocabulary.n_symbols != n_symbols:
        raise ConfigError(
            f"the tokenizer has {vocabulary.n_symbols} symbols, the model {n_symbols}"
        )


def _told(schedule: Schedule, chunk: int | None) -> str:
    if not schedule.passes:
        return "nothing"
    what = f"additions of rank {schedule.rank}" if schedule.rank else "all weights"
    how = "SGD" if schedule.optimizer == "sgd" else "Adam"
    after = "document" if chunk is None else f"{chunk:,} symbols"
    passes = "" if schedule.passes == 1 else f", {schedule.passes} passes"
    return f"{what}, {how} at {schedule.learning_rate:g}{passes}, after each {after}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _bpb(value: float | None) -> str:
    return "" if value is None else f", {value:.4f} bpb"
