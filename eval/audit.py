"""Quick checks that name the broken rule; :mod:`pgolf_codec.eval.foreign` settles the score."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pgolf_codec.errors import FormatError, PredictorError
from pgolf_codec.eval import probes
from pgolf_codec.eval.foreign import Files, Text
from pgolf_codec.eval.host import Host, Limits
from pgolf_codec.eval.probes import Probe
from pgolf_codec.eval.verdict import BROKEN, RULES, Check, Finding, Report

DEFAULT_SYMBOLS = 512
DEFAULT_TOLERANCE_BITS = 0.01

_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")


def audit(
    spec: str,
    text: Text,
    *,
    n_symbols: int = DEFAULT_SYMBOLS,
    tolerance_bits: float = DEFAULT_TOLERANCE_BITS,
    seed: int = 0,
    manifest: frozenset[str] | None = None,
    max_bytes: int | None = None,
    limits: Limits | None = None,
) -> Report:
    """Look at what the predictor says of the first ``n_symbols`` of ``text``.

    ``tolerance_bits`` is by how much a probability may move without being said to;
    ``manifest`` holds the SHA-256 of training documents, ``max_bytes`` is what the
    decoder may need.  Raises :class:`PredictorError` if the predictor fails on the text itself.
    """
    with Host(spec, limits) as host:
        probe = Probe.start(host, text, n_symbols, tolerance_bits, seed)
        runs = _tried("C4", "runs", probes.repetition, probe, partial(Host, spec, limits))
        if runs[0].result == BROKEN:  # nothing that moves would prove a thing
            causes = [Check.skipped("C1", "all", "two runs over the same text differ")]
        else:
            causes = [
                *_tried("C1", "later symbols", probes.causality, probe),
                *_tried("C1", "other documents", probes.documents, probe),
                *_tried("C1", "as a decoder asks", probes.replay, probe),
            ]
        leaks = any(check.rule == "C1" and check.result == BROKEN for check in causes)
        checks = [
            *runs,
            *causes,
            *_tried("C4", "calls", probes.selection, probe),
            *_tried("C2", "whole distributions", probes.normalisation, probe),
            *_tried("C3", "asked twice", probes.purity, probe, leaks),
            *_tried("accounting", "bytes", probes.accounting, probe),
            probes.order(probe),
            probes.overlap(text, manifest),
            *probes.size(Files.of(host), text, max_bytes),
        ]
    checks.sort(key=lambda check: list(RULES).index(check.rule))
    return Report(
        predictor=spec,
        input_sha256=hashlib.sha256(text.data).hexdigest(),
        input_bytes=len(text.data),
        n_documents=len(text.documents),
        n_symbols=host.about["n_symbols"],
        audited_symbols=len(probe.ids),
        seed=seed,
        tolerance_bits=tolerance_bits,
        isolation=host.about["isolation"],
        checks=tuple(checks),
    )


def _tried(rule: str, name: str, check: Callable[..., list[Check]], *values: Any) -> list[Check]:
    """The results of ``check``; a predictor that fails when it is asked so breaks the rule."""
    try:
        return check(*values)
    except PredictorError as error:
        finding = Finding(rule=rule, kind="fails", evidence=str(error))
        return [Check.of(rule, name, "it worked on the text itself", [finding])]


def read_manifest(path: Path) -> frozenset[str]:
    """All SHA-256 in a file of any layout, in hex, of each training document's UTF-8 bytes.

    Raises :class:`FormatError` if there is none.
    """
    found = frozenset(_SHA256.findall(path.read_text("utf-8", "replace").lower()))
    if not found:
        raise FormatError(f"{path}: no SHA-256 of a document in it")
    return found
