"""A model that reads documents: its tokens, its contexts, and the bits that it gives.

Two of them, by integers and by floats; each scores known symbols together, for ``eval``, or
goes symbol by symbol, for ``verify``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgolf_codec import files
from pgolf_codec.codec.adaptation import AdaptedModel, adapted
from pgolf_codec.codec.model import Model
from pgolf_codec.errors import ConfigError, CorruptError, LossyTokenizerError, MissingPackageError
from pgolf_codec.eval.contexts import Contexts
from pgolf_codec.eval.integer_scores import IntegerPredictor, Run, bits_of_runs
from pgolf_codec.eval.settings import CHECKPOINT, Settings
from pgolf_codec.eval.vocabulary import Vocabulary, of_tokenizer, read_vocabulary
from pgolf_codec.lm.config import BOS_ID

if TYPE_CHECKING:
    from pgolf_codec.codec.tokenizer import Tokenizer
    from pgolf_codec.eval.predictor import Predictor
    from pgolf_codec.eval.tuning import Schedule, TunedPredictor

Ids = NDArray[np.int32]
Bits = NDArray[np.float64]
Tick = Callable[[int], None]
"""Gets the number of symbols done."""


class Reader(Protocol):
    """What :func:`pgolf_codec.eval.evaluation.evaluate` asks."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def reading(self) -> Contexts: ...

    def facts(self) -> dict[str, Any]:
        """Fields of an :class:`~pgolf_codec.eval.evaluation.Evaluation` that tell what it is."""
        ...

    def bits(self, documents: Sequence[Ids], tick: Tick, threads: int | None) -> Bits:
        """−log2 of the probability of every symbol."""
        ...

    def predictor(self) -> Predictor:
        """The same, asked symbol by symbol."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegerReader:
    """By the integers that archives are coded with; an :class:`AdaptedModel` learns."""

    model: Model
    vocabulary: Vocabulary
    reading: Contexts

    def __post_init__(self) -> None:
        _check(self.vocabulary, self.model.predictor.n_symbols)

    @property
    def adapts(self) -> bool:
        return isinstance(self.model, AdaptedModel)

    def facts(self) -> dict[str, Any]:
        return {
            "model_name": self.model.name,
            "model_bytes": self.model.n_bytes,
            "arithmetic": "integers",
            "learning": "the stage of the format" if self.adapts else "nothing",
        }

    def bits(self, documents: Sequence[Ids], tick: Tick, threads: int | None) -> Bits:
        one = self.reading.carried and self.adapts
        groups = [documents] if one else [[ids] for ids in documents]
        runs = [
            Run(np.concatenate(group), self.reading.plan([len(ids) for ids in group]))
            for group in groups
            if group
        ]
        return bits_of_runs(runs, self.model.predictor, threads=threads, progress=tick)

    def predictor(self) -> IntegerPredictor:
        return IntegerPredictor(self.model.predictor, self.reading)


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatReader:
    """By the float graph of a checkpoint or an artifact, which may learn at test time."""

    module: Any
    """As :func:`float_module` gives it."""
    n_symbols: int
    vocabulary: Vocabulary
    reading: Contexts
    schedule: Schedule
    chunk: int | None
    """Symbols that are scored before they are learned from; None: a document."""
    path: Path

    def __post_init__(self) -> None:
        _check(self.vocabulary, self.n_symbols)

    def facts(self) -> dict[str, Any]:
        return {
            "model_name": self.path.name,
            "model_bytes": self.path.stat().st_size,
            "arithmetic": "float",
            "learning": _told(self.schedule, self.chunk),
        }

    def bits(self, documents: Sequence[Ids], tick: Tick, threads: int | None) -> Bits:
        from pgolf_codec.eval.tuning import use_threads

        use_threads(threads)
        return self.predictor().bits(documents, tick)

    def predictor(self) -> TunedPredictor:
        from pgolf_codec.eval.tuning import TunedPredictor

        return TunedPredictor(
            self.module, self.n_symbols, self.schedule, self.reading, first=BOS_ID, chunk=self.chunk
        )


def open_reader(settings: Settings) -> Reader:
    """The model that is asked for.

    Raises :class:`MissingPackageError` for floats without torch, :class:`ConfigError` for a
    tokenizer that is not the model's, and what reading its files raises.
    """
    return _of_floats(settings) if settings.is_float else _of_integers(settings)


def _of_integers(settings: Settings) -> IntegerReader:
    from pgolf_codec.models import load_model

    model = load_model(settings.model)
    return IntegerReader(
        model=model if settings.adapt is False else adapted(model),
        vocabulary=_vocabulary(settings, lambda: model.tokenizer),
        reading=settings.contexts,
    )


def _of_floats(settings: Settings) -> FloatReader:
    from pgolf_codec.models import load_model

    path = needed_files(settings)[0]
    with files.reading(path):
        vocabulary = _vocabulary(settings, lambda: load_model(settings.model).tokenizer)
    reading = settings.contexts
    assert reading.length is not None
    module, n_symbols = float_module(path, reading.length)
    return FloatReader(
        module=module,
        n_symbols=n_symbols,
        vocabulary=vocabulary,
        reading=reading,
        schedule=settings.schedule,
        chunk=settings.learns_after,
        path=path,
    )


def float_module(path: Path, length: int) -> tuple[Any, int]:
    """(a torch module ``ids -> logits`` for up to ``length`` ids, V) of a ``.pt`` or ``.pglm``."""
    try:
        import torch

        from pgolf_codec.lm.conversion.dequantize import float_model
        from pgolf_codec.lm.conversion.export import load_checkpoint
    except ImportError as error:
        raise MissingPackageError(f"{path}: pip install pgolf-codec[train] ({error})") from None
    if path.suffix != CHECKPOINT:
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


def needed_files(settings: Settings) -> tuple[Path, ...]:
    """The model's, and after it that of a tokenizer that is named."""
    from pgolf_codec.models import DEFAULT, embedded_paths

    embedded = embedded_paths()
    names = [settings.model or DEFAULT, *([settings.tokenizer] if settings.tokenizer else [])]
    return tuple(Path(embedded.get(name, name)) for name in names)


def _vocabulary(settings: Settings, own: Callable[[], Tokenizer]) -> Vocabulary:
    """The one that is named, or that of the model, which can't tell how a lossy one reads."""
    if settings.tokenizer is not None:
        return read_vocabulary(settings.tokenizer)
    try:
        return of_tokenizer(own())
    except LossyTokenizerError as error:
        raise LossyTokenizerError(
            f"{error}; name its SentencePiece .model as the tokenizer"
        ) from None


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
