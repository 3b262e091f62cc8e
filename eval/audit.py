"""Quick checks that name the broken rule; :mod:`pgolf_codec.eval.foreign` settles the score."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from pathlib import Path

from pgolf_codec.errors import FormatError
from pgolf_codec.eval import probes
from pgolf_codec.eval.foreign import Files, Text
from pgolf_codec.eval.host import Host, Limits
from pgolf_codec.eval.probes import Probe
from pgolf_codec.eval.verdict import BROKEN, RULES, Check, Report

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
    decoder may need.  Raises :class:`PredictorError` if the predictor fails.
    """
    with Host(spec, limits) as host:
        probe = Probe.start(host, text, n_symbols, tolerance_bits, seed)
        checks = [probes.repetition(probe, partial(Host, spec, limits))]
        if checks[0].result == BROKEN:  # nothing that moves would prove a thing
            checks.append(Check.skipped("C1", "all", "two runs over the same text differ"))
        else:
            checks += [*probes.causality(probe), probes.documents(probe), probes.replay(probe)]
        leaks = any(check.rule == "C1" and check.result == BROKEN for check in checks)
        checks += [probes.normalisation(probe), probes.purity(probe, leaks)]
        counted, facts = probes.accounting(probe)
        checks += [counted, probes.order(probe), probes.overlap(text, manifest)]
        checks += probes.size(Files.of(host), text, max_bytes)
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
        facts=facts,
        checks=tuple(checks),
    )


def read_manifest(path: Path) -> frozenset[str]:
    """All SHA-256 in a file of any layout, in hex, of each training document's UTF-8 bytes.

    Raises :class:`FormatError` if there is none.
    """
    found = frozenset(_SHA256.findall(path.read_text("utf-8", "replace").lower()))
    if not found:
        raise FormatError(f"{path}: no SHA-256 of a document in it")
    return found
