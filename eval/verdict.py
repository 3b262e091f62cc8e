"""The report of an audit: what was checked, what is broken, and where it shows first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RULES = {
    "C1": "a distribution depends on the artifact and on the symbols before, on nothing else",
    "C2": "a distribution is normalised over the whole vocabulary, fixed before the symbol is seen",
    "C3": "a symbol is scored before anything is learned from it",
    "C4": "one pass from left to right: nothing is scored again or chosen afterwards",
    "accounting": "the score divides by bytes that are there",
    "order": "documents are scored in an order that a decoder knows",
    "overlap": "no document of the text was trained on",
    "size": "everything that the decoder needs is within the size",
}
"""Name and meaning of every rule."""

OK, BROKEN, NOT_CHECKED = "ok", "broken", "not checked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A rule that is broken, at the first place where it shows."""

    rule: str
    """A key of :data:`RULES`."""
    kind: str
    """How it is broken, in a word or two."""
    evidence: str
    """What was seen, with its numbers."""
    position: int | None = None
    """Index of the first symbol of the audited text that is concerned."""
    document: int | None = None
    """Index of the document that holds it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check, done or not."""

    rule: str
    name: str
    detail: str
    """What was compared and how much of it; or why it was not done."""
    result: str
    """:data:`OK`, :data:`BROKEN` or :data:`NOT_CHECKED`."""
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, rule: str, name: str, detail: str, findings: Sequence[Finding]) -> Check:
        result = BROKEN if findings else OK
        return cls(rule=rule, name=name, detail=detail, result=result, findings=tuple(findings))

    @classmethod
    def skipped(cls, rule: str, name: str, why: str) -> Check:
        return cls(rule=rule, name=name, detail=why, result=NOT_CHECKED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All checks of one predictor on one text."""

    predictor: str
    input_sha256: str
    input_bytes: int
    n_documents: int
    n_symbols: int
    """V, the size of the vocabulary."""
    audited_symbols: int
    """Of the text's beginning."""
    seed: int
    tolerance_bits: float
    isolation: str
    checks: tuple[Check, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for check in self.checks for finding in check.findings)

    @property
    def broken(self) -> tuple[str, ...]:
        """The rules that are broken, in the order of :data:`RULES`."""
        found = {finding.rule for finding in self.findings}
        return tuple(rule for rule in RULES if rule in found)

    def to_json(self) -> str:
        values: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        values["checks"] = [dataclasses.asdict(check) for check in self.checks]
        return json.dumps({"broken": list(self.broken)} | values, indent=2) + "\n"

    def describe(self) -> str:
        """For people: a line a check, and under it what was found."""
        audited = f"the first {self.audited_symbols} symbols audited"
        documents = f"{self.n_documents} document{'' if self.n_documents == 1 else 's'}"
        text = f"{self.input_bytes} bytes, {documents}, {audited}"
        lines = [
            f"{'predictor':<12} {self.predictor}, {self.n_symbols} symbols",
            f"{'text':<12} {text}",
            f"{'process':<12} {self.isolation}",
        ]
        for check in self.checks:
            lines.append(f"{check.result:<12} {check.rule}, {check.name}: {check.detail}")
            for finding in check.findings:
                at = "" if finding.position is None else f" at symbol {finding.position}"
                inside = "" if finding.document is None else f", in document {finding.document}"
                lines.append(f"{'':<12} {finding.kind}{at}{inside}: {finding.evidence}")
        for rule in self.broken:
            lines.append(f"{'BROKEN':<12} {rule}: {RULES[rule]}")
        if not self.audited_symbols:
            lines.append("nothing was audited: the text has no symbols")
        elif not self.broken:
            lines.append("no rule was found broken")
        return "\n".join(lines) + "\n"
