"""How a checkpoint becomes an artifact, as data: the table ``[export]`` of a recipe."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.fields import from_table

DEFAULT_COST = 1e-9
QUANTIZERS = ("trellis", "nearest", "range", "searched", "clipped")
FEW_LEVELS = ("ternary", "binary")
STATES = (1, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Everything but the weights and the calibration text that an artifact depends on."""

    quantizer: str = "trellis"
    """``trellis``: GPTQ, steps by waterfilling, bits priced; ``nearest`` rounds, uncalibrated.

    What others do, with rows of ``bits``: the largest weight (``range``) or the cut of least
    squared error (``searched``) at the end of the range, rounded; or ``clip_sigmas`` standard
    deviations there, by GPTQ (``clipped``)."""
    states: int = 32
    """Of the trellis; 1 is a scalar quantizer.  More take longer to export, not to load."""
    cost: float = DEFAULT_COST
    """Nats a token that the rounding of one weight may cost; unused with ``max_bytes``."""
    price_of_bits: float = 1.0
    """λ of the trellis and of one state: 1 is the slope of the rate-distortion curve, 0 rounds."""
    embedding_columns: bool = True
    """Whether a tied embedding may have steps by column too, with ``trellis``."""
    rules: tuple[str, ...] = ()
    """``PATTERN=ternary`` or ``PATTERN=binary``, the first that matches a matrix's name in the
    artifact (``blocks.*.up``); only with ``trellis``."""
    max_bytes: int = 0
    """The artifact's size, reached from below to 0.1%, by a search for ``cost``; 0: no search.
    With ``clipped``, steps become coarser until it fits, if it does not."""
    bits: int = 6
    embedding_bits: int = 8
    clip_sigmas: float = 12.85
    embedding_clip_sigmas: float = 20.0
    calibration_rows: int = 64
    """Rows of training tokens, of ``seq_len`` each, that moments are measured on."""
    counted_tokens: int = 1 << 25
    """Training tokens that only count how often each occurs."""
    coder: str = "auto"
    """Of the sections: ``auto`` (loads fast, knows trellises), or any of ``pgolf-codec coders``."""

    def __post_init__(self) -> None:
        def need(ok: bool, why: str) -> None:
            if not ok:
                raise ConfigError(f"export config: {why}")

        need(self.quantizer in QUANTIZERS, f"quantizer {self.quantizer!r} is unknown")
        need(self.states in STATES, f"states {self.states} is not one of {STATES}")
        need(0 < self.cost < 1, f"cost {self.cost} is not in 0..1")
        need(0 <= self.price_of_bits <= 100, f"price_of_bits {self.price_of_bits} is not in 0..100")
        for rule in self.rules:
            named = rule.partition("=")[2] in FEW_LEVELS
            need(named, f"rule {rule!r} is not PATTERN=ternary or PATTERN=binary")
        need(not self.rules or self.quantizer == "trellis", "rules need the quantizer 'trellis'")
        need(self.max_bytes >= 0, f"max_bytes {self.max_bytes} is negative")
        for name in ("bits", "embedding_bits"):
            need(2 <= getattr(self, name) <= 8, f"{name} {getattr(self, name)} is not in 2..8")
        for name in ("clip_sigmas", "embedding_clip_sigmas"):
            need(0 < getattr(self, name) <= 1e3, f"{name} {getattr(self, name)} is not possible")
        need(self.calibration_rows > 0, f"calibration_rows {self.calibration_rows} is not positive")
        need(self.counted_tokens > 0, f"counted_tokens {self.counted_tokens} is not positive")
        searched = self.max_bytes == 0 or self.quantizer in ("trellis", "clipped")
        need(searched, "max_bytes needs the quantizer 'trellis' or 'clipped'")

    @property
    def few_levels(self) -> list[tuple[str, str]]:
        """Pattern and kind of each rule."""
        parts = (rule.partition("=") for rule in self.rules)
        return [(pattern, kind) for pattern, _, kind in parts]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raise :class:`ConfigError` on unknown, missing or ill-typed keys."""
        return from_table(cls, values, "export config")


def load_export_config(path: Path) -> ExportConfig:
    """The ``[export]`` table of a TOML recipe; the defaults if there is none."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("export", {})
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: export is not a table")
    return ExportConfig.from_dict(table)
