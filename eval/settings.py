"""What ``eval`` is asked for: a model, its arithmetic, its contexts, and what learns.

The fields are the verb's options, the arguments of :func:`pgolf_codec.evaluate` and those
of :func:`pgolf_codec.eval.ours.model`; their names stand in backticks in what is raised.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pgolf_codec.errors import ConfigError

if TYPE_CHECKING:
    from pgolf_codec.eval.contexts import Contexts
    from pgolf_codec.eval.tuning import Schedule

CHECKPOINT = ".pt"
FLOAT_CONTEXT = 512
"""Symbols of a window where floats have none given."""
CHUNK = 256
"""Symbols that are learned from together."""
RANK = 8
RATES = {
    ("full", "sgd"): 0.05,
    ("full", "adam"): 2e-4,
    ("low-rank", "sgd"): 0.5,
    ("low-rank", "adam"): 2e-3,
}
"""Learning rates, where none is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Raises :class:`ConfigError` for what does nothing, or nothing together."""

    model: str | None = None
    """An embedded model's name, a ``.pglm`` or a checkpoint of ``train``; None: the default."""
    tokenizer: str | None = None
    """A SentencePiece ``.model``, ``tokenizer.bin`` of a build, a ``.pglm``; None: the model's."""
    floats: bool = False
    """By the float graph; a checkpoint has no other."""
    join: bool = False
    """Contexts cross from one document into the next."""
    carry: bool = False
    """What was learned from a document is kept for the next, contexts are not."""
    context: int | None = None
    """Symbols of a window; None: rolling in integers, :data:`FLOAT_CONTEXT` in floats."""
    stride: int | None = None
    """Symbols from window to window; None: half of ``context``."""
    adapt: bool | None = None
    """The stage of the format learns; None: in integers it does."""
    tune: Literal["full", "low-rank"] | None = None
    """Test-time training of floats: all weights, or what is added to them at low rank."""
    rank: int | None = None
    """None: :data:`RANK`."""
    optimizer: Literal["sgd", "adam"] | None = None
    """None: SGD for ``full``, Adam for ``low-rank``."""
    rate: float | None = None
    """Learning rate; None: that of :data:`RATES`."""
    chunk: int | None = None
    """Symbols that are scored, then learned from; None: :data:`CHUNK`."""
    after_document: bool = False
    """Learn when a document is at its end, instead of after each chunk."""
    passes: int | None = None
    """Over what was scored; None: 1."""

    def __post_init__(self) -> None:
        for name in ("context", "stride", "rank", "chunk", "passes"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ConfigError(f"`{name}` is {value!r}, not a number from 1 up")
        if self.rate is not None and not 0 <= self.rate < math.inf:
            raise ConfigError(f"`rate` is {self.rate!r}, not a number from 0 up")
        for name, known in (("tune", ("full", "low-rank")), ("optimizer", ("sgd", "adam"))):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ConfigError(f"`{name}` is {value!r}, none of {', '.join(known)}")
        self._check_together()

    def _check_together(self) -> None:
        if self.tune and not self.is_float:
            raise ConfigError("`tune` is of the float graph: add `floats`, or give a checkpoint")
        if self.is_float and self.adapt:
            raise ConfigError("`adapt` is of integers: in floats `tune` learns")
        for name in ("rank", "optimizer", "rate", "chunk", "passes", "after_document"):
            if getattr(self, name) and not self.tune:
                raise ConfigError(f"`{name}` goes with `tune`")
        if self.rank and self.tune == "full":
            raise ConfigError("`rank` goes with `tune` low-rank")
        if self.stride and not (self.context or self.is_float):
            raise ConfigError("`stride` goes with `context`")
        length = self.contexts.length
        if self.stride is not None and length is not None and self.stride > length:
            raise ConfigError(
                f"a `stride` of {self.stride} in windows of {length} would leave symbols out"
            )
        if self.carry and self.join:
            raise ConfigError("`carry` does not go with `join`: all is one document then")
        if self.carry and not (self.tune if self.is_float else self.adapt is not False):
            raise ConfigError("`carry`: nothing learns")
        if self.after_document and self.chunk:
            raise ConfigError("`after_document` does not go with `chunk`")
        if self.after_document and not self.carry:
            raise ConfigError("`after_document` needs `carry`: it is of use to the next one only")
        if self.tokenizer is None and str(self.model).endswith(CHECKPOINT):
            raise ConfigError(f"{self.model} has no tokenizer in it: name one with `tokenizer`")

    @property
    def is_float(self) -> bool:
        return self.floats or str(self.model).endswith(CHECKPOINT)

    @property
    def is_of_an_archive(self) -> bool:
        """``compress`` writes archives in these contexts."""
        return not {*self._given()} - {"model", "adapt"} and not self.is_float

    @property
    def contexts(self) -> Contexts:
        from pgolf_codec.eval.contexts import Contexts

        length = self.context or (FLOAT_CONTEXT if self.is_float else None)
        return Contexts(length=length, stride=self.stride, joined=self.join, carried=self.carry)

    @property
    def schedule(self) -> Schedule:
        """Of floats; without ``tune`` one that takes no steps."""
        from pgolf_codec.eval.tuning import Schedule

        if self.tune is None:
            return Schedule(learning_rate=0.0, passes=0)
        optimizer = self.optimizer or ("sgd" if self.tune == "full" else "adam")
        return Schedule(
            learning_rate=RATES[self.tune, optimizer] if self.rate is None else self.rate,
            optimizer=optimizer,
            rank=0 if self.tune == "full" else self.rank or RANK,
            passes=self.passes or 1,
        )

    @property
    def learns_after(self) -> int | None:
        """Symbols of a chunk of floats; None: a document, or nothing learns."""
        return None if self.after_document or not self.tune else self.chunk or CHUNK

    def spec(self) -> str:
        """The same as a predictor, for ``verify --predictor``."""
        told = (f"{name}={_literal(value)}" for name, value in self._given().items())
        return f"pgolf_codec.eval.ours:model({', '.join(told)})"

    def _given(self) -> dict[str, object]:
        """What is not as it is by default."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


def _literal(value: object) -> str:
    """Of Python; a shell needs no more than one pair of quotes around it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
