"""What a model says of a text: bits that nobody wrote, in any contexts, learning or not.

The quick look before ``verify``.  ``entropy_bits`` is all that is here; what a file takes
stands in a receipt, and :class:`Evaluation` has no such number to be taken for one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pgolf_codec.eval import residual
from pgolf_codec.eval.bpb import challenge_bytes
from pgolf_codec.eval.contexts import Contexts
from pgolf_codec.eval.readers import Bits, Ids, Reader, open_reader
from pgolf_codec.eval.settings import Settings
from pgolf_codec.eval.vocabulary import Vocabulary
from pgolf_codec.lm.config import BOS_ID

if TYPE_CHECKING:
    from pgolf_codec.eval.foreign import Text

Progress = Callable[[int], None]
"""Gets the raw bytes that are done, about."""


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


def evaluate(
    settings: Settings,
    text: Text,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """What the model that ``settings`` name says of ``text``, read as they say.

    Raises what :func:`~pgolf_codec.eval.readers.open_reader` does.
    """
    found = evaluate_with(open_reader(settings), text, threads=threads, progress=progress)
    return dataclasses.replace(found, proof=proof(settings, text, found))


def evaluate_with(
    reader: Reader, text: Text, *, threads: int | None = None, progress: Progress | None = None
) -> Evaluation:
    """Tokens, their bits, and all that is reckoned from them; ``proof`` is left empty."""
    start = time.perf_counter()
    documents = list(text.documents)
    vocabulary, reading = reader.vocabulary, reader.reading
    if reading.joined:
        tokens = [vocabulary.joined(documents)]
    else:
        tokens = [vocabulary.encode(document) for document in documents]
    n_bytes, n_symbols = sum(text.lengths), sum(map(len, tokens))

    def tick(n_done: int) -> None:
        if progress is not None:
            progress(n_bytes * n_done // n_symbols)

    bits = reader.bits(tokens, tick, threads)
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
        proof="",
        **reader.facts(),
    )


def proof(settings: Settings, text: Text, found: Evaluation) -> str:
    """The command that settles the score: a file, decoded by another process.

    An archive of ours where it has the same contexts; else one of the referee, with what the
    symbols cost here as the claim.
    """
    name = "TEXT" if text.path is None else str(text.path)
    if settings.is_of_an_archive and not text.is_corpus:
        words = [name, *(["-m", settings.model] if settings.model else [])]
        words += ["--no-adapt"] if settings.adapt is False else []
    else:
        words = ["--predictor", settings.spec()]
        if found.input_bytes:
            bits = found.entropy_bits - 8 * found.residual_bytes
            words += ["--claim", f"{bits / found.input_bytes:.6f}"]
        words += [*(["--documents"] if text.is_corpus else []), name]
    return shlex.join(["pgolf-codec", "verify", *words])


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


def _bpb(value: float | None) -> str:
    return "" if value is None else f", {value:.4f} bpb"
