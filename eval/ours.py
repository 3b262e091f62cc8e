"""Our models as anyone's predictor: ``verify`` settles what ``eval`` says.

    pgolf-codec verify --predictor 'pgolf_codec.eval.ours:model(context=512, stride=64)' TEXT

Integers give the same bits on any machine; floats, and what they learn, on this one.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import numpy as np

from pgolf_codec.errors import ConfigError
from pgolf_codec.eval.readers import needed_files, open_reader
from pgolf_codec.eval.settings import Settings
from pgolf_codec.eval.vocabulary import Ids, Vocabulary
from pgolf_codec.lm.config import BOS_ID


def model(**settings: Any) -> Any:
    """A :class:`~pgolf_codec.eval.predictor.Predictor`; ``settings`` are those of
    :class:`~pgolf_codec.eval.settings.Settings`.

    Of documents that are joined, in tokens that fold what they read, each ends with the BOS
    of the next one; so the last one has a symbol more than ``eval`` scores.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    if unknown := [name for name in settings if name not in known]:
        raise ConfigError(f"there is no setting {unknown[0]!r}; known are {', '.join(known)}")
    wanted = Settings(**settings)
    reader = _opened(wanted)
    made: Any = reader.predictor()
    made.encode, made.decode = reader.vocabulary.encode, reader.vocabulary.decode
    if wanted.join and reader.vocabulary.counts is not None:
        made.encode, made.decode = _with_end(reader.vocabulary)
    made.files = [str(path) for path in needed_files(wanted)]
    return made


_opened = lru_cache(open_reader)
"""A referee makes several predictors in one process."""


def _with_end(vocabulary: Vocabulary) -> tuple[Any, Any]:
    def encode(data: bytes) -> Ids:
        return np.append(vocabulary.encode(data), np.int32(BOS_ID))

    def decode(ids: Ids) -> bytes:
        return vocabulary.decode(ids[:-1])

    return encode, decode
