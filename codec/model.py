"""What the codec asks of a model: a name, tokens, and what comes next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pgolf_codec.codec.predictor import Predictor
from pgolf_codec.codec.tokenizer import Tokenizer


class Model(Protocol):
    """Read-only; the vocabularies of tokenizer and predictor are the same."""

    @property
    def name(self) -> str: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def predictor(self) -> Predictor: ...

    @property
    def n_bytes(self) -> int:
        """Size of the artifact."""
        ...


ModelResolver = Callable[[bytes], Model]
"""From the first 8 bytes of a fingerprint to the model; raises a ``ModelError``.

It is called when the first frame that needs the model is met, or never."""
